"""Workloads that make tensors, return them, and are called in workloads."""

import re
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    Symbol,
    Tensor,
    TensorSpec,
    Tile,
    TraceError,
    Workload,
    empty,
    empty_like,
    item,
    kernel,
    pipeline,
    pto,
    workload,
)
from pto_wsp.ir.core import Eqn, Role, View, Wir

F32 = DType.F32


@kernel
def double(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + x)


@kernel
def add(x: In[Tensor], y: InOut[Tensor]):
    pto.store(y, x + y)


@workload
def doubled(x):
    y = empty_like(x)
    for i in P(x.tiles(16)):
        double[i](x=x[i], y=y[i])
    return y


SPEC = TensorSpec((40, 8), F32)


def tensors(w: Workload) -> list[tuple[str, str, Role]]:
    return [(v.name, str(v.type), w.wir.tensor_type(v.name).role) for v in w.wir.tensors]


def eqns(wir: Wir, prim: str) -> list[Eqn]:
    return [e for top in wir.body.eqns for e in top.walk() if e.prim == prim]


def views(wir: Wir) -> list[str]:
    return [x.tensor for e in wir.tasks() for x in e.ins if isinstance(x, View)]


def test_a_returned_tensor_is_a_result() -> None:
    w = doubled(SPEC)
    assert tensors(w) == [("x", "f32[40,8]", Role.GIVEN), ("y", "f32[40,8]", Role.RESULT)]
    assert w.wir.returns == "y"
    assert list(w.tensors) == ["x"]


def test_workloads_are_called_in_workloads() -> None:
    @workload
    def chain(x):
        a = doubled(x)
        b = doubled(a)
        return b, doubled(b)

    w = chain(SPEC)
    assert tensors(w) == [
        ("x", "f32[40,8]", Role.GIVEN),
        ("y", "f32[40,8]", Role.TEMPORARY),
        ("y.1", "f32[40,8]", Role.RESULT),
        ("y.2", "f32[40,8]", Role.RESULT),
    ]
    assert w.wir.returns == ("y.1", "y.2")
    assert views(w.wir) == ["x", "y", "y", "y.1", "y.1", "y.2"]
    assert [e.regions[0].params[0].name for e in eqns(w.wir, "parallel_for")] == ["i", "i.1", "i.2"]
    assert len(w.wir.kernels) == 1


def test_arguments_of_every_kind() -> None:
    batch = Dense[4]()

    @workload
    def part(x, out, axis, scale, *, deep):
        for b in P(axis):
            for _ in range(scale):
                add[b](x=x[b], y=out[b])
                add[b](x=deep["w"][0], y=out[b])

    @workload
    def whole(x, out, weights):
        for h in P(2):
            part(x[h], out=out[h], axis=batch, scale=2, deep={"w": [weights[1]]})

    w = whole(TensorSpec((2, 4, 8, 8), F32), TensorSpec((2, 4, 8, 8), F32), TensorSpec((2, 8, 8), F32))
    assert [str(e.params["axis"]) for e in eqns(w.wir, "parallel_for")][1].count("batch") == 1
    assert [v.name for v in w.wir.tensors] == ["x", "out", "weights"]
    assert len(list(w.wir.tasks())) == 4


def test_an_array_is_one_tensor_wherever_it_is_given() -> None:
    weights = np.ones((40, 8), np.float32)

    @workload
    def whole(y):
        for w in (weights, weights):
            y = doubled(w)
        return y

    w = whole(SPEC)
    assert [n for n, _, role in tensors(w) if role is Role.GIVEN] == ["weights"]
    assert w.tensors["weights"].data is weights  # type: ignore[attr-defined]


def test_arguments_in_tuples_and_dicts_become_tensors() -> None:
    @workload
    def w(xs, weights):
        for x in xs:
            doubled(x)
        return doubled(weights["q"])

    traced = w((np.ones((4, 4), np.float32), SPEC), {"q": np.ones((8, 4), np.float32)})
    assert [v.name for v in traced.wir.tensors] == ["xs_0", "y", "xs_1", "y.1", "weights_q", "y.2"]
    assert sorted(traced.tensors) == ["weights_q", "xs_0", "xs_1"]


def test_every_iteration_has_its_own_temporary() -> None:
    rows = DenseDyn()

    @workload
    def w(x, y):
        for b in P(rows):
            for s in P.seq(3):
                for i in P(4):
                    t = empty_like(x[b, i])
                    double(x=x[b, i], y=t)
                    double(x=t, y=y[b, s, i])

    traced = w(TensorSpec((rows, 4, 16, 8), F32), TensorSpec((rows, 3, 4, 16, 8), F32))
    assert tensors(traced)[1] == ("t", "f32[$rows,4,16,8]", Role.TEMPORARY)
    assert "y=t[b, i, 0 :+ 16, 0 :+ 8]" in str(traced)


def test_a_temporary_of_tiles_of_a_symbolic_size_has_room_for_all() -> None:
    n = Symbol("n")

    @workload
    def w(x, y):
        for i in P(x.tiles(16)):
            t = empty((16, 8), F32)
            double(x=x[i], y=t)
            double(x=t, y=y[i])

    assert str(w(TensorSpec((n, 8), F32), TensorSpec((n, 8), F32)).wir.tensors[1].type) == "f32[$n,16,8]"


def test_a_tensor_does_not_come_out_of_a_sequential_loop() -> None:
    @workload
    def carried(x):
        for _ in P.seq(3):
            x = doubled(x)  # each iteration is traced once: it would read the same x each time
        return x

    with pytest.raises(TraceError, match=r"(?s)PTO157.*scan"):
        carried(SPEC)


def test_a_tensor_does_not_come_out_of_a_branch() -> None:
    @workload
    def chosen(x, flag):
        with P.when(item(flag[0]) > 0):
            y = doubled(x)
        with P.otherwise():
            y = doubled(doubled(x))
        return doubled(y)

    with pytest.raises(TraceError, match=r"PTO157.*branch"):
        chosen(SPEC, TensorSpec((1,), DType.I32))


def test_a_result_of_one_iteration_stays_in_its_loop() -> None:
    @workload
    def w(x):
        for b in P(4):
            y = doubled(x[b])
        return y

    with pytest.raises(TraceError, match="PTO157"):
        w(TensorSpec((4, 8, 8), F32))


def test_one_tensor_may_be_returned_twice_and_handed_through() -> None:
    @workload
    def inner(x):
        y = doubled(x)
        return y, y

    @workload
    def outer(x):
        a, b = inner(x)
        return b, a

    w = outer(SPEC)
    assert w.wir.returns == ("y", "y")


def test_schedules_of_a_function_apply_to_what_it_emits() -> None:
    two = doubled.dispatch(DispatchPolicy.round_robin(2))
    assert two(SPEC).wir == doubled(SPEC).dispatch(DispatchPolicy.round_robin(2)).wir

    @workload
    def w(x):
        a = doubled(x)
        for _ in P(2):
            add(x=a[0:16], y=empty((16, 8), F32, name="z"))
            two(x)
        return a

    traced = w(SPEC).wir
    inside = eqns(traced, "dispatch")
    assert len(inside) == 1
    assert [e.prim for e in inside[0].regions[0].eqns] == ["parallel_for"]
    assert [len(e.regions[0].eqns) for e in traced.body.eqns] == [1, 2]


def test_functions_that_call_each_other() -> None:
    @workload
    def a(x):
        return b(x)

    @workload
    def b(x):
        return doubled(c(x))

    @workload
    def c(x):
        return a(x)

    with pytest.raises(TraceError, match="PTO180") as caught:
        a(SPEC)
    assert caught.value.values == {"calls": "a -> b -> c -> a"}
    assert isinstance(doubled(SPEC), Workload)


@pytest.mark.parametrize(
    "what", [lambda x: x, lambda x: [doubled(x)], lambda x: doubled(x)[0:1], lambda x: 3, lambda x: ()]
)
def test_what_cannot_be_returned(what: Any) -> None:
    @workload
    def w(x):
        return what(x)

    with pytest.raises(TraceError, match="PTO181"):
        w(SPEC)


def test_a_workload_that_returns_its_argument_is_told_which() -> None:
    @workload
    def same(x):
        return x

    for w in (same, pipeline(doubled, same)):
        with pytest.raises(TraceError, match=re.escape("workload same returns its argument x")) as caught:
            w(SPEC)
        assert "y = empty_like(x)" in caught.value.fix
        assert "Buffer" not in str(caught.value)


def test_a_failed_trace_leaves_nothing_behind() -> None:
    @workload
    def bad(x):
        doubled(x)
        raise ValueError("stop")

    for _ in range(2):
        with pytest.raises(ValueError, match="stop"):
            bad(SPEC)
    assert doubled(SPEC).wir == doubled(SPEC).wir


def test_workloads_run_inside_workloads() -> None:
    @workload
    def into(x, y):
        for b in P(3):
            double(x=x[b], y=y[b])

    @workload
    def w(x, y, z):
        into(x, y)
        into(y, z)

    x = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    y, z = np.zeros_like(x), np.zeros_like(x)
    w(x, y, z).compile().run()
    assert (z == 4 * x).all()


def test_a_temporary_is_made_in_a_workload_only() -> None:
    with pytest.raises(TraceError, match="PTO152"):
        empty((4, 4), F32)
    with pytest.raises(TraceError, match="PTO164"):
        workload_of(lambda x: empty_like(3))
    with pytest.raises(TraceError, match="PTO164"):
        workload_of(lambda x: empty((4, Tile), F32))


def workload_of(body: Any) -> Workload:
    @workload
    def w(x):
        return body(x)

    return w(SPEC)


def test_loop_rewrites_of_a_function_stay_in_what_it_emits() -> None:
    @workload
    def grid(x, y):
        for i, j in P(4, 5):
            double(x=x[i, j], y=y[i, j])

    rewritten = grid.interchange(outer="i", inner="j").split(loop="i", size=2)

    @workload
    def w(x, y):
        rewritten(x[0], y[0])
        for i_o in P(2):
            for i in P.seq(1):
                rewritten(x[i_o + i + 1], y[i_o + i + 1])

    x = np.random.default_rng(0).standard_normal((3, 4, 5, 2, 2), dtype=np.float32)
    y = np.zeros_like(x)
    traced = w(x, y)
    loops = [e.regions[0].params[0].name for top in traced.wir.body.eqns for e in top.walk() if e.regions]
    assert loops == ["j", "i_o", "i_i", "i_o.1", "i.1", "j.1", "i.2_o", "i.2_i"]
    traced.compile().run()
    assert (y == 2 * x).all()


def test_scalars_of_a_scheduled_function_stay_in_its_scope() -> None:
    @workload
    def part(x, y, table):
        for i in P.seq(item(table[0])):
            double(x=x[table[1]], y=y[i])

    scheduled = part.dispatch(DispatchPolicy.round_robin(2))

    @workload
    def w(x, y, table):
        scheduled(x, y, table)
        for i in P.seq(table[0]):
            double(x=x[i], y=y[table[1]])
        scheduled(x, y, table)

    x = np.random.default_rng(0).standard_normal((3, 4, 4), dtype=np.float32)
    y = np.zeros_like(x)
    w(x, y, Tensor(np.array([2, 2], np.int32))).compile().run()
    assert (y == 2 * np.stack([x[2], x[2], x[1]])).all()


def test_fusing_a_function_keeps_what_others_use() -> None:
    @workload
    def both(x, scratch):
        inner = empty_like(x)
        out = empty_like(x)
        for i in P(4):
            double(x=x[i], y=inner[i])
            double(x=inner[i], y=scratch[i])
            double(x=scratch[i], y=out[i])
        return out

    fused = both.fuse(loop="i")

    @workload
    def w(x):
        scratch = empty_like(x)
        out = fused(x, scratch)
        last = empty_like(x)
        for i in P(4):
            add(x=scratch[i], y=out[i])
            double(x=out[i], y=last[i])
        return last

    x = np.random.default_rng(0).standard_normal((4, 8, 8), dtype=np.float32)
    traced = w(x)
    assert len(list(traced.wir.tasks())) == 3
    p = traced.compile()
    assert (p.run().results == 24 * x).all()
    assert "inner" not in views(traced.wir)
