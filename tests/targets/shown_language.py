"""Features of the language show in numbers and in tasks: other data, other results, of one traced program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp import (
    Dense,
    DenseDyn,
    DType,
    In,
    Mesh,
    Out,
    P,
    Program,
    Ragged,
    Scalar,
    Sparse,
    Tensor,
    TensorLayout,
    TensorReplicate,
    TensorShard,
    Tile,
    Workload,
    allreduce,
    combine,
    empty,
    item,
    kernel,
    pto,
    reduce_all,
    reduce_any,
    reduce_max,
    reduce_min,
    reduce_sum,
    sequential,
    slot_i64,
    slot_set_i64,
    where,
    workload,
)
from targets.shown import F, brief, even, grow, lengthy, ones, ran, shows, traced


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def counts(program: Program) -> list[float]:
    """The first element of each row of Y after a run from zeros."""
    program.tensors["Y"][:] = 0
    program.run()
    return [float(x) for x in program.tensors["Y"].reshape(len(program.tensors["Y"]), -1)[:, 0]]


@shows("axes.Dense")
def _() -> None:
    for n in (3, 5):
        assert ran(even(n)).stats.task_count == n


@shows("axes.DenseDyn")
def _() -> None:
    rows = DenseDyn(name="rows")

    @workload
    def w(Y):
        for i in P(rows):
            grow(x=Y[i])

    program = w(zeros(3, 1, 8)).compile()
    for n in (2, 3):
        program.set_axis_sizes({"rows": n})
        assert counts(program) == [1] * n + [0] * (3 - n)


@shows("axes.Tiles")
def _() -> None:
    rows = Dense[6](name="rows")

    @kernel
    def fill(y: Out[Tile[4, 8, F]]):
        pto.store(y, 1.0)

    @workload
    def w(Y):
        for t in P(rows.tiles(4)):
            fill(y=Y[t])

    program = w(zeros(6, 8)).compile()
    assert counts(program) == [1] * 6
    assert program.stats.task_count == 2


@shows("axes.Range")
def _() -> None:
    @workload
    def w(n, Y):
        for i in P(item(n[0])):
            grow(x=Y[i])

    program = w(np.array([2]), zeros(4, 1, 8)).compile()
    assert counts(program) == [1, 1, 0, 0]
    program.tensors["n"][0] = 3
    assert counts(program) == [1, 1, 1, 0]


@shows("axes.Ragged")
def _() -> None:
    batch = Dense[2](name="batch")
    lens = Ragged(batch, [1, 3], name="lens")

    @workload
    def w(Y):
        for b in P(batch):
            for _ in P.seq(lens[b]):
                grow(x=Y[b])

    program = w(zeros(2, 1, 8)).compile()
    assert counts(program) == [1, 3]
    assert counts(program.set_axis_sizes({"lens": [2, 0]})) == [2, 0]


@shows("axes.Sparse")
def _() -> None:
    rows = Dense[2](name="rows")
    routing = Sparse(rows, [0, 1, 3], [2, 0, 1], name="routing")

    @workload
    def w(Y):
        for b in P.seq(rows):
            for e in P.sel(routing[b]):
                grow(x=Y[e])

    program = w(zeros(4, 1, 8)).compile()
    assert counts(program) == [1, 1, 1, 0]
    assert counts(program.set_axis_sizes({"routing": ([0, 2, 2], [3, 1])})) == [0, 1, 0, 1]


@shows("axes.Records")
def _() -> None:
    work = Tensor(np.array([[0, 2], [2, 2]], np.int32), name="work", fields=("first", "second"))

    @workload
    def w(work, Y):
        for r in P.seq(work):
            grow(x=Y[r.first])
            grow(x=Y[r.second])

    assert counts(w(work, zeros(3, 1, 8)).compile()) == [1, 0, 3]


@shows("loops.parallel")
def _() -> None:
    t = traced(even(4))
    assert t.start[3] < t.end[0]


def steps(n: int) -> Workload:
    @workload
    def w(X, Y):
        for k in P.seq(n):
            brief[k](x=X[k], out=Y[k])

    return w(ones(n, 1, 8), ones(n, 1, 8))


@shows("loops.seq")
def _() -> None:
    t = traced(steps(4))
    assert (t.start[1:] >= t.end[:-1]).all()


@shows("loops.while")
def _() -> None:
    @workload
    def w(Y):
        for _ in P.seq(100, while_=lambda: item(Y[0, 0, 0]) < 5):
            grow(x=Y[0])

    assert counts(w(zeros(1, 1, 8)).compile()) == [5]


@shows("loops.cond")
def _() -> None:
    @workload
    def w(n, Y):
        for i in P(4):
            with P.when(i < item(n[0])):
                grow(x=Y[i])
            with P.otherwise():
                grow(x=Y[i])
                grow(x=Y[i])

    program = w(np.array([1]), zeros(4, 1, 8)).compile()
    assert counts(program) == [1, 2, 2, 2]
    program.tensors["n"][0] = 3
    assert counts(program) == [1, 1, 1, 2]


@shows("parts.combine")
def _() -> None:
    t = traced(combine(even(1), even(1)))
    assert t.start[1] < t.end[0]


@shows("parts.sequential")
def _() -> None:
    t = traced(sequential(even(1), even(1)))
    assert t.start[1] >= t.end[0]


@shows("after")
def _() -> None:
    def w(named: bool) -> Workload:
        @workload
        def tasks(X, Y):
            first = brief[0](x=X[0], out=Y[0])
            brief[1](x=X[1], out=Y[1], **({"after": first} if named else {}))

        return tasks(ones(2, 1, 8), ones(2, 1, 8))

    apart, ordered = traced(w(named=False)), traced(w(named=True))
    assert apart.start[1] < apart.end[0]
    assert ordered.start[1] >= ordered.end[0]


@kernel
def mark(y: Out[Tile[2, 4, F]]):
    pto.store(y, 1.0)


@kernel
def column(y: Out[Tile[1, 4, F]]):
    pto.store(y, 1.0)


@shows("views.index")
def _() -> None:
    y = zeros(3, 1, 4)

    @workload
    def w(Y):
        column(y=Y[1])

    ran(w(y))
    assert y[:, 0, 0].tolist() == [0, 1, 0]


@shows("views.slice")
def _() -> None:
    y = zeros(4, 6)

    @workload
    def w(Y):
        mark(y=Y[1:3, 2:6])

    ran(w(y))
    assert y.sum() == y[1:3, 2:6].sum() == 8


@shows("views.tile")
def _() -> None:
    y = zeros(5, 4)

    @workload
    def w(Y):
        for t in P(Y.tiles(2)):
            with P.when(t > 0):
                mark(y=Y[t, :])

    ran(w(y))
    assert y[:, 0].tolist() == [0, 0, 1, 1, 1]


@shows("views.gather")
def _() -> None:
    @workload
    def w(index, Y):
        mark(y=Y[index, :])

    program = w(np.array([3, 1], np.int32), zeros(4, 4)).compile()
    assert counts(program) == [0, 1, 0, 1]
    program.tensors["index"][:] = 0, 2
    assert counts(program) == [1, 0, 1, 0]


def scalar(read: Callable[[Any], Any], of: list[Any], to: list[Any], want: tuple[int, int]) -> None:
    """As many tasks as `read` says of these values, then of those."""

    @workload
    def w(values, Y):
        for i in P(read(values)):
            grow(x=Y[i])

    program = w(np.array(of), zeros(8, 1, 8)).compile()
    assert sum(counts(program)) == want[0]
    program.tensors["values"][:] = to
    assert sum(counts(program)) == want[1]


@shows("scalars.item")
def _() -> None:
    scalar(lambda v: item(v[1]), [1, 2], [1, 5], (2, 5))


@shows("scalars.reduce_sum")
def _() -> None:
    scalar(reduce_sum, [1, 2], [3, 5], (3, 8))


@shows("scalars.reduce_max")
def _() -> None:
    scalar(reduce_max, [1, 2], [6, 5], (2, 6))


@shows("scalars.reduce_min")
def _() -> None:
    scalar(reduce_min, [1, 2], [6, 5], (1, 5))


def conditional(read: Callable[[Any], Any], of: list[bool], to: list[bool], want: tuple[int, int]) -> None:
    @workload
    def w(values, Y):
        with P.when(read(values)):
            grow(x=Y[0])

    program = w(np.array(of), zeros(1, 1, 8)).compile()
    assert sum(counts(program)) == want[0]
    program.tensors["values"][:] = to
    assert sum(counts(program)) == want[1]


@shows("scalars.reduce_any")
def _() -> None:
    conditional(reduce_any, [False, True], [False, False], (1, 0))


@shows("scalars.reduce_all")
def _() -> None:
    conditional(reduce_all, [False, True], [True, True], (0, 1))


@shows("scalars.expressions")
def _() -> None:
    scalar(lambda v: where(item(v[0]) > 2, item(v[1]), 7), [3, 2], [1, 4], (2, 7))


@shows("scalars.slots")
def _() -> None:
    @workload
    def w(values, Y):
        slot_set_i64(3, item(values[0]) + slot_i64(3))
        for i in P(slot_i64(3)):
            grow(x=Y[i])

    program = w(np.array([2]), zeros(8, 1, 8)).compile()
    assert sum(counts(program)) == 2
    program.set_slot(3, 4)
    assert sum(counts(program)) == 6


@shows("tensors.temporary")
def _() -> None:
    @workload
    def w(X, Y):
        for b in P(3):
            h = empty((1, 8), F)
            lengthy(x=X[b], out=h)
            brief(x=h, out=Y[b])

    y = zeros(3, 1, 8)
    program = ran(w(zeros(3, 1, 8), y))
    assert set(program.tensors) == {"X", "Y"}
    assert program.stats.arena_bytes > 0
    assert (y > 1).all()


@shows("tensors.result")
def _() -> None:
    @workload
    def w(X):
        y = empty((1, 8), F)
        brief(x=X, out=y)
        return y

    x = ones(1, 8)
    program = ran(w(x))
    first = program.results
    x[:] = 4
    assert program.run().results.tolist() == [[5.0] * 8]
    assert first.tolist() == [[2.0] * 8]


@shows("kernels.tiles")
def _() -> None:
    x, y = ones(2, 1, 8), zeros(2, 1, 8)

    @workload
    def w(X, Y):
        brief(x=X[1], out=Y[0])

    ran(w(x, y))
    assert y[:, 0, 0].tolist() == [2, 0]


@shows("kernels.regions")
def _() -> None:
    @kernel
    def total(x: In[Tensor[None, 4, F]], y: Out[Tile[1, 4, F]]):
        add = lambda k, s: s + pto.colsum(pto.load(x, (k * 2, 0), (2, 4)))  # noqa: E731
        pto.store(y, pto.fori_loop(0, (x.shape[0] + 1) // 2, add, pto.full((1, 4), 0, F)))

    @workload
    def w(X, n, Y):
        total(x=X[: item(n[0])], y=Y[0])

    program = w(ones(6, 4), np.array([5]), zeros(1, 1, 4)).compile()
    assert counts(program) == [5]
    program.tensors["n"][0] = 2
    assert counts(program) == [2]


@shows("kernels.scalars")
def _() -> None:
    @kernel
    def fill(s: Scalar[F], y: Out[Tile[1, 8, F]]):
        pto.store(y, pto.full((1, 8), 1, F) * s)

    @workload
    def w(Y):
        for b in P(3):
            fill(s=b, y=Y[b])

    assert counts(w(zeros(3, 1, 8)).compile()) == [0, 1, 2]


@shows("kernels.fori_loop")
def _() -> None:
    @kernel
    def fill(n: Scalar[DType.I32], y: Out[Tile[1, 8, F]]):
        pto.store(y, pto.fori_loop(0, n, lambda i, v: v + 1.0, pto.full((1, 8), 0, F)))

    @workload
    def w(Y):
        for b in P(3):
            fill(n=b * 2, y=Y[b])

    assert counts(w(zeros(3, 1, 8)).compile()) == [0, 2, 4]


@shows("kernels.cond")
def _() -> None:
    @kernel
    def fill(n: Scalar[DType.I32], y: Out[Tile[1, 8, F]]):
        pto.store(y, pto.cond(n > 1, lambda: pto.full((1, 8), 7, F), lambda: pto.full((1, 8), 9, F)))

    @workload
    def w(Y):
        for b in P(3):
            fill(n=b, y=Y[b])

    assert counts(w(zeros(3, 1, 8)).compile()) == [9, 9, 7]


@shows("kernels.cpp")
def _() -> None:
    @kernel(cpp_src="for (int j = 0; j < y.cols(); ++j) y(0, j) = 3 * x(0, j);")
    def thrice(x: In[Tile[1, 8, F]], y: Out[Tile[1, 8, F]]): ...

    @workload
    def w(X, Y):
        thrice(x=X[0], y=Y[0])

    assert counts(w(2 * ones(1, 1, 8), zeros(1, 1, 8)).compile()) == [6]


@shows("layouts")
def _() -> None:
    mesh = Mesh(x=2)
    layout = TensorLayout(mesh, TensorShard("x"), TensorReplicate())

    @workload
    def w(X):
        y = empty((6, 8), F, layout=TensorLayout(mesh, TensorReplicate(), TensorReplicate(), pending={"x": "sum"}))
        for i in P(6):
            brief(x=X[i : i + 1], out=y[i : i + 1])
        return allreduce(y)

    program = w(Tensor(ones(12, 8), layout=layout)).compile()
    assert program.run().results.tolist() == np.full((6, 8), 4.0).tolist()  # each of two devices adds one to a half
