"""What loops, coordinates, axes and sizes are called."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Dense,
    DenseDyn,
    DType,
    In,
    Out,
    P,
    Symbol,
    Tensor,
    TensorSpec,
    Tile,
    Workload,
    kernel,
    pto,
    workload,
)
from pto_wsp.ir.core import Axis

batch = Dense[2]()
lots = DenseDyn(3)


@kernel
def mark(y: Out[Tile[1, 1, DType.F32]]):
    pto.store(y, 1.0)


@kernel
def copy(x: In[Tile[4, 4, DType.F32]], y: Out[Tile[4, 4, DType.F32]]):
    pto.store(y, x)


def trace(body: Any, *more: Any) -> Workload:
    @workload
    def w(y, *, more=more):
        body(y)

    return w(np.zeros((8, 8, 1, 1), np.float32))


def column(y: Any, i: Any) -> None:
    mark(y=y[i, 6])


def loops(w: Workload) -> list[tuple[str, str, str]]:
    """Label, axis name and size of each loop, in program order."""
    out = []
    for top in w.wir.body.eqns:
        for e in top.walk():
            axis = e.params.get("axis")
            if isinstance(axis, Axis):
                out.append((e.params["loop"], axis.name, str(axis.extent)))
    return out


def labels(w: Workload) -> list[str]:
    return [label for label, _, _ in loops(w)]


def test_targets_of_a_for_statement() -> None:
    def body(y: Any) -> None:
        for b in P(2):
            for h, t in P(2, 3):
                for (q,) in ((h,),):
                    mark[b](y=y[q, t])

    with pytest.raises(Exception, match="PTO201"):
        trace(body)

    def right(y: Any) -> None:
        for b in P.seq(2):
            for h, t in P(2, 3):
                mark[b](y=y[h, t])
        for long_name in P.grid(2):
            mark(y=y[long_name, 7])

    assert labels(trace(right)) == ["b", "h", "t", "long_name"]


def test_targets_in_closures_and_globals() -> None:
    def body(y: Any) -> None:
        for c in P(2):

            def inner() -> None:
                mark(y=y[c, 0])  # noqa: B023 # makes c a cell variable

            inner()
        for some_global in P(2):
            globals()["kept"] = some_global
            mark(y=y[some_global, 1])

    assert labels(trace(body)) == ["c", "some_global"]


def test_targets_of_comprehensions() -> None:
    def body(y: Any) -> None:
        [mark(y=y[b, 0]) for b in P(2)]
        for _ in P(1):
            pass
        [mark(y=y[i, j]) for i in P(2) for j in P(1, 7)[0:1] if False] if False else None
        {mark(y=y[p, q]): 0 for p, q in P(2, 2)}
        list(mark(y=y[g, 5]) for g in P(2))  # noqa: C400

    assert labels(trace(body)) == ["b", "_", "p", "q", "g"]


def test_nested_comprehensions() -> None:
    def body(y: Any) -> None:
        [[mark(y=y[b, h]) for h in P(3)] for b in P(2)]
        [mark(y=y[u + 4, v]) for u in P(2) for v in P(3)]

    assert labels(trace(body)) == ["b", "h", "u", "v"]


def test_where_python_offers_no_name() -> None:
    class Holder:
        field: Any = None

    def body(y: Any) -> None:
        h = Holder()
        for h.field in P(2):
            mark(y=y[h.field, 0])
        for pair in P(2, 2):
            mark(y=y[pair])
        for b in iter(P(2)):
            mark(y=y[b, 7])
        for a, *rest in P(2, 2):
            mark(y=y[a, rest[0]])
        list(map(partial(column, y), P(2)))

    assert labels(trace(body)) == ["i0", "i0", "i1", "i0", "i0", "i1", "i0"]


def test_one_label_for_several_loops() -> None:
    def body(y: Any) -> None:
        for b in P(2):
            mark[b](y=y[b, 0])
        for b in P(2):
            mark[b](y=y[b, 0])

    w = trace(body)
    assert labels(w) == ["b", "b"]
    names = [e.regions[0].params[0].name for e in w.wir.body.eqns]
    assert names == ["b", "b.1"]


def test_axes_take_the_names_of_variables() -> None:
    local = Dense[2]()
    given = Dense[2](name="given")

    def body(y: Any) -> None:
        inside = DenseDyn(2)
        for b in P(batch):
            for c in P.seq(local):
                for d in P.seq(given):
                    for e in P.seq(inside):
                        for f in P.seq(Dense[1]()):
                            for g in P.seq(3):
                                mark[c, d, e, f, g](y=y[b, 0])

    assert loops(trace(body)) == [
        ("b", "batch", "2"),
        ("c", "local", "2"),
        ("d", "given", "2"),
        ("e", "inside", "$inside"),
        ("f", "f", "1"),
        ("g", "g", "3"),
    ]


def test_axes_take_the_names_of_parameters_first() -> None:
    @workload
    def w(x, y, rows, n):
        for b in P(rows):
            for c in P.seq(n):
                copy[c](x=x[b], y=y[b])

    n = Symbol("amount")
    traced = w(np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32), lots, n)
    assert loops(traced) == [("b", "rows", "$rows"), ("c", "amount", "$amount")]
    assert traced.wir.symbols == ("rows", "amount")
    assert traced.sizes == {"rows": 3}


def test_tiles_of_a_tensor_take_its_name() -> None:
    X = Tensor(np.zeros((10, 4), np.float32))

    @workload
    def w(y):
        for i in P(X.tiles(4)):
            copy(x=X[i], y=y[i])

    traced = w(np.zeros((10, 4), np.float32))
    assert loops(traced) == [("i", "X", "3")]
    assert [v.name for v in traced.wir.tensors] == ["X", "y"]


def test_a_symbol_may_be_an_index_and_a_dimension() -> None:
    n, m = Symbol("n"), Symbol("m")

    @workload
    def w(x, y):
        for b in P(n):
            copy(x=x[m], y=y[b])

    traced = w(TensorSpec((n, 4, 4), DType.F32), TensorSpec((n, 4, 4), DType.F32))
    assert set(traced.wir.symbols) == {"n", "m"}
    x, y = np.arange(48, dtype=np.float32).reshape(3, 4, 4), np.zeros((3, 4, 4), np.float32)
    traced.compile().bind({"x": x, "y": y}).set_symbol_u64("n", 3).set_symbol_u64("m", 2).run()
    assert (y == x[2]).all()


def test_a_tensor_of_a_dynamic_axis() -> None:
    b = DenseDyn()

    @workload
    def w(x, y):
        for i in P(b):
            copy(x=x[i], y=y[i])

    traced = w(TensorSpec((b, 4, 4), DType.F32), TensorSpec((b, 4, 4), DType.F32))
    assert str(traced.wir.tensors[0].type) == "f32[$b,4,4]"
    p = traced.compile()
    for size in (3, 1, 0, 5):
        x, y = np.full((size, 4, 4), size, np.float32), np.zeros((size, 4, 4), np.float32)
        p.bind({"x": x, "y": y}).set_axis_sizes({"b": size}).run()
        assert (y == size).all()
        assert p.stats.task_count == size


def test_coordinates() -> None:
    def body(y: Any) -> None:
        for b in P(2):
            for h in P(2):
                mark(y=y[b, h])
                mark[h](y=y[b, h + 2])
                mark[b * 2 + h, 7](y=y[b, h + 4])

    tasks = list(trace(body).wir.tasks())
    assert [list(map(str, t.params["coords"])) for t in tasks] == [["b", "h"], ["h"], ["2*b + h", "7"]]


def test_accesses_that_no_iteration_reaches_are_legal() -> None:
    @workload
    def w(x, y):
        for q in P(4):
            for k in P.seq(3 - q):
                copy[k](x=x[q + 1], y=y[q])
        for z in P(0):
            copy(x=x[z + 100], y=y[z])

    x, y = np.ones((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32)
    w(x, y).compile().run()
    assert y[:3].all()
    assert not y[3].any()


def test_python_steers_tracing() -> None:
    @workload
    def w(x, y, flags):
        for i, flag in enumerate(flags):
            if flag:
                copy(x=x[i], y=y[i])

    x, y = np.ones((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32)
    w(x, y, [True, False, True]).compile().run()
    assert y[:, 0, 0].tolist() == [1, 0, 1]


def test_continue_and_else_mean_what_python_means() -> None:
    def body(y: Any) -> None:
        for b in P(2):
            mark(y=y[b, 0])
            if b is not None:
                continue
            mark(y=y[b, 1])
        mark(y=y[7, 7])

    assert len(list(trace(body).wir.tasks())) == 2
