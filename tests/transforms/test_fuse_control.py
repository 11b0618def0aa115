"""fuse of kernels with loops, branches and regions."""

from __future__ import annotations

import numpy as np
import pytest

from pto_wsp import DType, In, InOut, Out, P, Scalar, ScheduleError, Tensor, Tile, empty, fuse, kernel, pto, workload
from pto_wsp.ir.core import Direction, View
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify

F32, I32 = DType.F32, DType.I32


@kernel
def scale(x: In[Tile[4, 8, F32]], y: Out[Tile[4, 8, F32]]):
    pto.store(y, x * 2.0)


@kernel
def add_rows(x: In[Tile[4, 8, F32]], rows: In[Tensor[None, 8, F32]], y: Out[Tile[4, 8, F32]]):
    def step(i, acc):
        return acc + pto.load(rows, (i, 0), (1, 8))

    pto.store(y, pto.fori_loop(0, rows.shape[0], step, pto.load(x)))


@kernel
def choose(x: In[Tile[4, 8, F32]], n: Scalar[I32], y: Out[Tile[4, 8, F32]]):
    pto.cond(n > 2, lambda: pto.store(y, x + 1.0), lambda: pto.store(y, x - 1.0))


@kernel
def grow(y: InOut[Tile[4, 8, F32]], n: Scalar[I32]):
    pto.fori_loop(0, n, lambda i, c: pto.store(y, y * 0.5), None)


@kernel
def mark(y: InOut[Tile[4, 8, F32]], n: Scalar[I32]):
    rows, cols = pto.valid_shape(y)
    pto.store(y, pto.full((1, 1), 7.0), (pto.minimum(n, rows - 1), cols - 1))


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {n: rng.integers(-8, 8, s).astype(np.float32) for n, s in (("X", (10, 8)), ("R", (3, 8)), ("Y", (10, 8)))}


@workload
def in_a_row(X, R, Y):
    t = empty(X.shape, F32, name="t")
    u = empty(X.shape, F32, name="u")
    for i in P(X.tiles(4)):
        scale(x=X[i], y=t[i])
        add_rows(x=t[i], rows=R, y=u[i])
        choose(x=u[i], n=i, y=Y[i])
        grow(y=Y[i], n=3)
        mark(y=Y[i], n=i)
        grow(y=Y[i], n=i)


def test_it_does_the_same() -> None:
    given = arrays()
    w = in_a_row(*(Tensor(given[n], name=n) for n in ("X", "R", "Y")))
    fused = fuse(loop="i")(w)
    verify(fused.wir)
    assert parse(show(fused.wir)) == fused.wir
    (task,) = fused.wir.tasks()
    k = fused.wir.kernel(str(task.params["kernel"]))
    # what `scale` hands over is a value, whose extents nothing names
    assert not any(isinstance(x, View) and x.tensor == "t" for x in task.ins)
    assert len(k.params) == len(task.ins)
    want, got = arrays(), arrays()
    evaluate(w.wir, want)
    evaluate(fused.wir, got)
    np.testing.assert_array_equal(want["Y"], got["Y"])
    w.compile().run()
    np.testing.assert_array_equal(want["Y"], given["Y"])
    again = arrays()
    fuse(loop="i")(in_a_row(*(Tensor(again[n], name=n) for n in ("X", "R", "Y")))).compile().run()
    np.testing.assert_array_equal(want["Y"], again["Y"])


def test_an_output_of_both_branches_stays_one() -> None:
    @workload
    def w(X, Y):
        for i in P(X.tiles(4)):
            choose(x=X[i], n=i, y=Y[i])
            grow(y=Y[i], n=2)

    fused = fuse(loop="i")(w(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)))
    (k,) = fused.wir.kernels
    assert {p.name: p.direction for p in k.params}["y"] is Direction.OUT


def test_a_store_that_a_loop_reads_is_kept() -> None:
    @kernel
    def twice(y: InOut[Tile[4, 8, F32]], s: Out[Tile[4, 1, F32]]):
        pto.store(y, 3.0)
        total = pto.fori_loop(0, 4, lambda i, c: c + pto.item(y, (i, 0)), 0.0)
        pto.store(s, pto.full((4, 1), pto.cast(total, F32)))
        pto.store(y, 5.0)

    @workload
    def w(Y, S):
        scale(x=Y[4:8], y=Y[0:4])
        twice(y=Y[0:4], s=S)

    values = {"Y": np.ones((8, 8), np.float32), "S": np.zeros((4, 1), np.float32)}
    fused = fuse()(w(*(Tensor(v, name=n) for n, v in values.items())))
    evaluate(fused.wir, values)
    assert values["S"].tolist() == [[12.0]] * 4
    assert (values["Y"][:4] == 5.0).all()


def test_a_view_that_is_a_tile_here_and_a_region_there_is_refused() -> None:
    @workload
    def w(X, Y):
        scale(x=X[0:4], y=Y[0:4])
        add_rows(x=X[0:4], rows=X[0:4], y=Y[4:8])

    with pytest.raises(ScheduleError) as caught:
        fuse()(w(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)))
    assert caught.value.code == "PTO409"
