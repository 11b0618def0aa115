"""Transformations as text: before, and after."""

from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Deps,
    DepsMode,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    RaceError,
    ScheduleError,
    TaskWindow,
    Tensor,
    Tile,
    TraceError,
    Workload,
    combine,
    dispatch,
    empty_like,
    item,
    kernel,
    pto,
    sequential,
    task_graph,
    workload,
)
from pto_wsp.ir.text import parse

SHARED = Tensor(np.zeros((4, 2, 2), np.float32), name="S")


@kernel
def one(y: Out[Tile[2, 2, DType.F32]]):
    pto.store(y, 1.0)


@kernel(name="one")
def two(y: Out[Tile[2, 2, DType.F32]]):
    pto.store(y, 2.0)


@workload
def first():
    for b in P(4):
        one(y=SHARED[b])


@workload
def second(y):
    for b in P(2):
        two(y=y[b])
        one(y=SHARED[b])


def body(w: Workload) -> str:
    """The statements of a workload."""
    rows = str(w).splitlines()
    begin = next(k for k, r in enumerate(rows) if k and r.startswith("  ") and r.split()[0] not in KEYWORDS)
    return "\n".join(r[2:] for r in rows[begin:-1])


KEYWORDS = ("symbol", "tensor", "kernel", "a:", "store", "}")


def y() -> Any:
    return np.zeros((2, 2, 2), np.float32)


def test_dispatch() -> None:
    w = dispatch(DispatchPolicy.round_robin(3))(first())
    assert w == first().dispatch(DispatchPolicy.round_robin(3))
    assert (
        body(w)
        == dedent("""
        dispatch[lane=mod(position(), lanes()), lanes=3, policy="round_robin"] {
          parallel_for b in b: Range(4) {
            task one[b](y=S[b, 0 :+ 2, 0 :+ 2])
          }
        }""").strip()
    )


def test_window() -> None:
    w = task_graph(window=TaskWindow(5, "tasks"))(first())
    assert w == first().task_graph(window=TaskWindow(5))
    assert body(w).splitlines()[0] == 'window[mode="STALL", tasks=5] {'


def test_dependences() -> None:
    w = task_graph(deps=Deps.hybrid, window=TaskWindow(5))(first())
    assert w == first().task_graph(window=TaskWindow(5)).task_graph(deps=DepsMode.hybrid)
    assert body(w).splitlines()[:2] == ['deps[mode="hybrid"] {', '  window[mode="STALL", tasks=5] {']
    with pytest.raises(ScheduleError, match="PTO404"):
        w.task_graph(deps=Deps.explicit)
    assert body(first().task_graph(deps=Deps.explicit)).startswith('deps[mode="explicit"]')
    with pytest.raises(RaceError, match="PTO203"):
        combine(first(), first()).task_graph(deps=Deps.explicit)


def test_the_workload_before_stays_as_it_is() -> None:
    w = first()
    text = str(w)
    w.dispatch(DispatchPolicy.round_robin(2)).task_graph(window=TaskWindow(1))
    combine(w, w)
    assert str(w) == text


@pytest.mark.parametrize("join", [combine, sequential])
def test_parts_keep_order_and_get_names_of_their_own(join: Any) -> None:
    w = join(first(), second(y()).dispatch(DispatchPolicy.round_robin(2)), second(y()))
    assert [v.name for v in w.wir.tensors] == ["S", "y", "y.1"]
    assert [k.name for k in w.wir.kernels] == ["one", "one.1"]
    assert [k.label for k in w.wir.kernels] == ["one", "one"]
    assert (
        body(w)
        == dedent(f"""
        {join.__name__} {{
          part {{
            parallel_for b in b: Range(4) {{
              task one[b](y=S[b, 0 :+ 2, 0 :+ 2])
            }}
          }}
          part {{
            dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {{
              parallel_for b.1 "b" in b: Range(2) {{
                task one.1[b.1](y=y[b.1, 0 :+ 2, 0 :+ 2])
                task one[b.1](y=S[b.1, 0 :+ 2, 0 :+ 2])
              }}
            }}
          }}
          part {{
            parallel_for b.2 "b" in b: Range(2) {{
              task one.1[b.2](y=y.1[b.2, 0 :+ 2, 0 :+ 2])
              task one[b.2](y=S[b.2, 0 :+ 2, 0 :+ 2])
            }}
          }}
        }}""").strip()
    )


def test_one_workload_may_be_a_part_twice() -> None:
    w = first()
    both = combine(w, sequential(w, w))
    assert [
        e.regions[0].params[0].name for top in both.wir.body.eqns for e in top.walk() if e.prim == "parallel_for"
    ] == [
        "b",
        "b.1",
        "b.1.1",
    ]
    p = both.compile()
    p.run()
    assert p.stats.task_count == 12


@pytest.mark.parametrize("parts", [(), (1,), (first,)])
def test_parts_that_are_no_workloads(parts: tuple[Any, ...]) -> None:
    with pytest.raises(TraceError, match="PTO155"):
        combine(*parts)


@kernel
def twice(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + x)


@workload
def layer(x):
    t = empty_like(x)
    twice(x=x, y=t)
    y = empty_like(x)
    twice(x=t, y=y)
    return y


@pytest.mark.parametrize("join", [combine, sequential])
def test_each_part_has_its_own_temporaries_and_results(join: Any) -> None:
    x = Tensor(np.ones((4, 4), np.float32), name="x")
    w = layer(x)
    both = join(w, first(), w)
    assert [(v.name, both.wir.tensor_type(v.name).role.value) for v in both.wir.tensors] == [
        ("x", "tensor"),
        ("t", "temporary"),
        ("y", "result"),
        ("S", "tensor"),
        ("t.1", "temporary"),
        ("y.1", "result"),
    ]
    assert both.returns == both.wir.returns == ("y", "y.1")
    assert parse(str(both)) == both.wir
    p = both.compile()
    assert all((y == 4).all() for y in p.run().results)
    assert join(w, first()).returns == "y"
    assert join(w, join(w, w)).returns == ("y", ("y.1", "y.1.1"))
    assert join(w, join(w, w)).wir.returns == ("y", "y.1", "y.1.1")
    assert join(first(), first()).returns is None


def test_tasks_of_other_parts_and_scalars_keep_their_names_apart() -> None:
    table = Tensor(np.array([1, 2, 3], np.int32), name="table")

    @workload
    def third():
        for b in P(item(table[0])):
            two(y=SHARED[table[b]])

    w = combine(third(), third())
    assert parse(str(w)) == w.wir
    w.compile().run()
    assert (SHARED.data[1] == 2).all()


def test_slots_and_data_axes_are_shared_by_name() -> None:
    integer = Workload(parse("workload w {\n slot_set[slot=3] 1:i64\n v: i64 = slot_get[slot=3]\n}"))
    real = Workload(parse("workload w {\n slot_set[slot=3] 1.0:f64\n}"))
    assert [str(e.outs[0]) for e in (r.eqns[1] for r in combine(integer, integer).wir.body.eqns[0].regions)] == [
        "v",
        "v.1",
    ]
    with pytest.raises(TraceError, match="PTO156"):
        combine(integer, real)
    lengths = Tensor(np.array([1, 2], np.int64))
    ragged = [
        Workload(
            parse(f'workload w {{\n tensor seq.lengths: i64[2]\n ragged seq: outer=2 lengths="{t}"\n}}'), {t: spec}
        )
        for t, spec in (
            ("seq.lengths", lengths),
            ("seq.lengths", Tensor(lengths.data)),
            ("seq.lengths", Tensor(np.array([1, 2], np.int64))),
        )
    ]
    assert len(combine(*ragged[:2], ragged[0]).wir.axes) == 1
    with pytest.raises(TraceError, match="PTO156"):
        combine(*ragged)


def test_a_chain_of_layers_needs_two_buffers() -> None:
    @workload
    def chain(x):
        for _ in range(25):
            x = layer(x)
        return x

    x = np.ones((64, 64), np.float32)
    p = chain(x * 2.0**-25).compile()
    assert (p.run().results == 2.0**25).all()
    assert p.stats.task_count == 50
    assert 2 * x.nbytes <= p.stats.arena_bytes <= 2 * x.nbytes + 8192
