"""vmap, scan and calls of workloads whose loops, branches and views depend on data."""

from typing import Any

import numpy as np
import pytest

from functional import data, results
from pto_wsp import (
    DType,
    In,
    InOut,
    Out,
    P,
    PtoError,
    Ragged,
    Sparse,
    Tensor,
    empty,
    empty_like,
    item,
    kernel,
    pto,
    reduce_max,
    reduce_sum,
    scan,
    vmap,
    workload,
)

F32 = DType.F32


@kernel
def put(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x)


@kernel
def zero(y: Out[Tensor]):
    pto.store(y, y_zero(y))


@kernel
def add_to(x: In[Tensor], y: InOut[Tensor]):
    pto.store(y, x + y)


def y_zero(y: Any) -> Any:
    return pto.full(y.shape, 0.0, y.dtype)


@workload
def rows_up_to(x, lens):
    """The first lens[b] rows of each x[b], zeros behind."""
    y = empty_like(x)
    for b in P(lens.outer):
        zero[b](y=y[b])
        for t in P(lens[b].tiles(4)):
            put[b, t](x=x[b][t], y=y[b][t])
    return y


def test_vmap_of_ragged_loops() -> None:
    lens = Ragged(3, [5, 0, 12], name="seq")
    x = data(4, 3, 12, 8)
    inside = np.arange(12)[:, None] < np.array([5, 0, 12])[:, None, None]
    assert (results(vmap(rows_up_to)(x, lens)) == np.where(inside, x, 0)).all()


def test_vmap_of_sparse_loops_and_gathers() -> None:
    routing = Sparse(3, [0, 2, 2, 5], [1, 3, 0, 1, 3], inner=4, name="routing")

    @workload
    def chosen(x, w):
        """For each row the sum of the chosen w, and the rows of w gathered."""
        y, g = empty_like(x), empty((8, 8), F32)
        zero(y=g)
        for b in P(routing.outer):
            zero[b](y=y[b])
            for e in P.seq(routing[b].tiles(1)):
                add_to[b](x=w[routing[b][e], :], y=y[b])
        for t in P(routing[2].tiles(4)):
            put(x=w[routing[2][t], :], y=g[t])
        return y, g

    w = data(2, 4, 8)
    x = data(2, 3, 1, 8)
    with pytest.raises(PtoError):
        chosen(x)
    y, g = results(vmap(chosen)(x, w))
    want = np.stack([w[:, [1, 3]].sum(1), 0 * w[:, 0], w[:, [0, 1, 3]].sum(1)], axis=1)
    assert (y[:, :, 0] == want).all()
    assert (g[:, :3] == w[:, [0, 1, 3]]).all()
    assert not g[:, 3:].any()


def test_vmap_of_branches_on_mapped_and_shared_data() -> None:
    @workload
    def relu_rows(x, flags, low):
        y = empty_like(x)
        for i in P(4):
            with P.when(item(flags[i]) > low[0]):
                put[i](x=x[i : i + 1], y=y[i : i + 1])
            with P.otherwise():
                zero[i](y=y[i : i + 1])
        return y

    x = data(3, 4, 8)
    flags, low = np.arange(12, dtype=np.int32).reshape(3, 4) % 5, np.array([1], np.int32)
    y = results(vmap(relu_rows, in_axes=(0, 0, None))(x, flags, low))
    assert (y == np.where(flags[:, :, None] > 1, x, 0)).all()


def test_scan_of_a_step_that_looks_at_its_carry() -> None:
    @workload
    def saturating(carry, x):
        new = empty_like(carry)
        with P.when(reduce_max(carry[:, :]) < 6.0):
            put(x=carry, y=new)
            add_to(x=x, y=new)
        with P.otherwise():
            put(x=carry, y=new)
        return new, new

    c, xs = np.zeros((2, 4), np.float32), np.ones((9, 2, 4), np.float32)
    last, ys = results(scan(saturating)(c, xs))
    assert ys[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 6, 6, 6]
    assert (last == 6).all()
    lasts, _ = results(vmap(scan(saturating), in_axes=(0, None))(np.stack([c, c + 4, c + 9]), xs))
    assert lasts[:, 0, 0].tolist() == [6, 6, 9]


def test_results_of_calls_are_read_as_data() -> None:
    @workload
    def shifted(idx):
        y = empty_like(idx)
        put(x=idx, y=y)
        return y

    @workload
    def whole(x, idx, out):
        chosen = shifted(idx)
        for i in P.seq(reduce_sum(chosen[0, 0:1])):
            with P.when(item(chosen[0, i + 1]) < 4):
                put(x=x[chosen[0, i + 1]], y=out[i])
            with P.otherwise():
                zero(y=out[i])

    x, out = data(4, 2, 8), data(4, 2, 8)
    kept = out[3].copy()
    idx = np.array([[3, 2, 9, 1]], np.int32)
    results(whole(x, idx, out))
    assert (out[:3] == np.stack([x[2], 0 * x[0], x[1]])).all()
    assert (out[3] == kept).all()


def test_a_temporary_in_a_branch_or_a_ragged_loop() -> None:
    lens = Ragged(2, [1, 3])

    @workload
    def branches(x):
        y = empty_like(x)
        for b in P(2):
            with P.when(lens[b] > 2):
                t = empty((4, 8), F32)
                put(x=x[b], y=t)
                put(x=t, y=y[b])
            with P.otherwise():
                zero(y=y[b])
        return y

    x = data(2, 4, 8)
    assert (results(branches(x)) == np.stack([0 * x[0], x[1]])).all()

    @workload
    def ragged(x, y):
        for b in P(2):
            for i in P(lens[b]):
                t = empty((4, 8), F32)
                put(x=x[b, i], y=t)
                put(x=t, y=y[b, i])

    with pytest.raises(PtoError, match="PTO183"):
        ragged(data(2, 3, 4, 8), data(2, 3, 4, 8))
