"""Loops over tiles of rows that are one task of all rows in operations of JAX, and loops that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from pto_wsp import In, InOut, Out, P, Tensor, kernel, pto, workload
from pto_wsp_jax import lower_to_jax
from pto_wsp_jax.lower import wirs
from pto_wsp_jax.lower.merged import merged

X = np.random.default_rng(0).standard_normal((37, 6), dtype=np.float32)
W = np.random.default_rng(1).standard_normal((6, 6), dtype=np.float32)
ROW = np.full((1, 6), 1.5, np.float32)
TILE = np.random.default_rng(2).standard_normal((8, 6), dtype=np.float32)


def _same(e: Any) -> Any:
    return e


def of_rows(kernel_: Any, *others: Any) -> Any:
    """The workload that calls it for each 8 rows, with others for all."""

    @workload
    def w(x, out, others):
        for i in P(x.tiles(8)):
            kernel_[i](x[i], out[i], *others)

    return w(X, np.zeros_like(X), others)


def merged_of(w: Any) -> Any:
    wir = wirs.lowered(w.wir)
    (loop,) = wir.body.eqns
    return merged(loop.regions[0], loop.regions[0].params[0].name, 5, wir, _same)


@kernel
def row_by_row(x: In[Tensor], out: Out[Tensor], w: In[Tensor], row: In[Tensor]):
    y = pto.softmax(pto.matmul(x, w)) * pto.rsqrt(pto.rowmean(x * x) + 1.0)
    seen = pto.iota(y.shape, axis=1) < 4
    scaled = pto.rowmul(pto.colmul(y, row), pto.broadcast(pto.full((1, 1), 3.0), (x.shape[0], 1)))
    pto.store(out, pto.where(seen, scaled, pto.full(y.shape, 2.0)))


def by_numpy(x: Any) -> Any:
    s = np.exp(x @ W - (x @ W).max(axis=-1, keepdims=True))
    y = s / s.sum(axis=-1, keepdims=True) / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1)
    return np.where(np.arange(6) < 4, 3 * y * ROW, 2)


def test_the_task_of_all_rows() -> None:
    task, whole = merged_of(of_rows(row_by_row, W, ROW))
    assert [p.type.rows for p in whole.params] == [37, 37, 6, 1]
    assert [x.shape for x in task.ins] == [(37, 6), (37, 6), (6, 6), (1, 6)]


def test_it_computes_the_same() -> None:
    @workload
    def w(x, out, w, row):
        for b in P(3):
            for i in P(x.shape[1] // 8):
                rows = slice(i * 8 + 2, i * 8 + 10)
                row_by_row[b, i](x[b, rows], out[b, rows], w, row)
        for i in P(x[0, 26:].tiles(8)):
            row_by_row[3, i](x[0, 26:][i], out[0, 26:][i], w, row)

    x = np.stack([X, X + 1, X - 1])
    given = x, np.zeros_like(x), W, ROW
    want = np.zeros_like(x)
    want[:, 2:34], want[0, 26:] = by_numpy(x[:, 2:34]), by_numpy(x[0, 26:])
    np.testing.assert_allclose(lower_to_jax(w)(*given), want, rtol=1e-5, atol=1e-6)
    assert not any(e.primitive.name == "reshape" for e in jax.make_jaxpr(lower_to_jax(of_rows_f))(X, X).eqns)


@workload
def of_rows_f(x, out):
    for i in P(x.tiles(8)):
        squared[i](x[i], out[i])


@kernel
def squared(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x * x)


# Rows that depend on others, on where they are, or on how many there are


@kernel
def less_the_mean(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.coladd(x, pto.colsum(x)))


@kernel
def numbered(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + pto.cast(pto.iota(x.shape, axis=0), x.dtype))


@kernel
def counted(x: In[Tensor], out: Out[Tensor]):
    rows, _ = pto.valid_shape(x)
    pto.store(out, x * pto.cast(rows, x.dtype))


@kernel
def with_a_tile(x: In[Tensor], out: Out[Tensor], tile: In[Tensor]):
    pto.store(out, x * tile)


@kernel
def by_its_rows(x: In[Tensor], out: Out[Tensor], w: In[Tensor]):
    pto.store(out, pto.matmul(pto.matmul(x, w), pto.matmul(x, x, transpose_a=True)))


@kernel
def in_a_loop(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.fori_loop(0, 3, lambda k, y: y + x, x))


@pytest.mark.parametrize(
    "w",
    [
        lambda: of_rows(less_the_mean),
        lambda: of_rows(numbered),
        lambda: of_rows(counted),
        lambda: of_rows(with_a_tile, TILE),
        lambda: of_rows(by_its_rows, W),
        lambda: of_rows(in_a_loop),
    ],
)
def test_other_kernels_stay_as_they_are(w: Callable[[], Any]) -> None:
    assert merged_of(w()) is None


def test_other_loops_stay_as_they_are() -> None:
    @kernel
    def total(x: In[Tensor], out: InOut[Tensor]):
        pto.store(out, out + pto.rowmax(x))

    @workload
    def gaps(x, out):
        for i in P(5):
            squared[i](x[7 * i : 7 * i + 6], out[7 * i : 7 * i + 6])

    @workload
    def columns(x, out):
        for i in P(3):
            squared[i](x[:, 2 * i : 2 * i + 2], out[:, 2 * i : 2 * i + 2])

    @kernel
    def spread(x: In[Tensor], w: In[Tensor], out: Out[Tensor]):
        pto.store(out, pto.transpose(pto.rowsum(pto.broadcast(x, (6, 6)) * w)))

    @workload
    def rows_that_become_several(x, w, out):
        for i in P(x.shape[0]):
            spread[i](x[i : i + 1], w, out[i : i + 1])

    assert merged_of(rows_that_become_several(X, W, np.zeros_like(X))) is None
    for w in (gaps, columns):
        assert merged_of(w(X, np.zeros_like(X))) is None
        want = np.zeros_like(X)
        of = X[:, :6] if w is columns else np.where(((np.arange(37) % 7) < 6) & (np.arange(37) < 35), X.T, 0).T
        want[:] = of * of
        np.testing.assert_allclose(lower_to_jax(w)(X, np.zeros_like(X)), want, rtol=1e-6)
