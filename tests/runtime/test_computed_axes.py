"""Ragged and sparse axes whose values tasks of the same run compute: parts of matrices, right and wrong."""

from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BoundsError,
    DType,
    ExecutionError,
    In,
    Out,
    P,
    Program,
    Ragged,
    Scalar,
    Sparse,
    Tensor,
    Tile,
    empty,
    kernel,
    pto,
    slot_i64,
    slot_u64,
    workload,
)


@kernel
def double(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x * 2.0)


@kernel
def count_up(first: Scalar[DType.I32], step: Scalar[DType.I32], out: Out[Tile[1, 4, DType.I32]]):
    pto.store(out, pto.iota((1, 4), axis=1) * step + first)


def lengths_of_tasks(first: int, step: int, threads: int) -> tuple[Program, np.ndarray[Any, Any]]:
    x, y = np.ones((4, 16, 8), np.float32), np.zeros((4, 16, 8), np.float32)

    @workload
    def rows(X, Y):
        counts = empty((1, 4), DType.I32)
        count_up(first=first, step=step, out=counts)
        lens = Ragged(4, counts[0], name="lens")
        for b in P(4):
            for t in P(lens[b].tiles(3)):
                double[b, t](x=X[b, t], y=Y[b, t])

    return rows(x, y).compile(threads=threads), y


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("first", "step"), [(3, 0), (16, 0), (0, 0), (0, 5), (15, -5)])
def test_lengths_may_be_a_row_of_a_matrix_that_tasks_write(first: int, step: int, threads: int) -> None:
    program, y = lengths_of_tasks(first, step, threads)
    program.run()
    want = np.arange(16) < (first + step * np.arange(4))[:, None]
    assert (y == 2 * want[..., None]).all()
    assert program.stats.scalar_waits == want.any()  # reads after the last task are no boundary


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("first", "code", "cls"),
    [(n, "PTO719", ExecutionError) for n in (-1, -2, -5)] + [(17, "PTO163", BoundsError)],
)
def test_wrong_lengths_are_found_where_they_are_read(first: int, code: str, cls: Any, threads: int) -> None:
    program, y = lengths_of_tasks(first, 0, threads)
    with pytest.raises(cls) as e:
        program.run()
    assert e.value.code == code
    assert not y.any()


def test_rows_of_indices_may_be_parts_of_matrices() -> None:
    x, y = np.arange(64, dtype=np.float32).reshape(4, 2, 8), np.zeros((3, 2, 8), np.float32)
    starts, chosen = np.array([[9, 0, 2, 2, 3]], np.int32), np.array([[2], [0], [1]], np.int32)

    @workload
    def rows(X, starts, chosen, Y):
        routing = Sparse(3, starts[0, 1:5], chosen[:, 0], name="routing")
        for r in P(3):
            for e in P.sel(routing[r]):
                double[r, e](x=X[e], y=Y[e])

    program = rows(x, starts, chosen, y).compile()
    program.run()
    assert (y == 2 * x[:3]).all()
    assert program.stats.task_count == 3


def test_a_slot_whose_value_nobody_uses_can_be_set() -> None:
    x, y = np.ones((1, 2, 8), np.float32), np.zeros((1, 2, 8), np.float32)

    @workload
    def unused(X, Y):
        slot_i64(3)
        double(x=X[0], y=Y[0])

    unused(x, y).compile().set_slot(3, 7).run()
    assert (y == 2).all()


def test_unsigned_scalars_are_extents_and_indices_as_they_are() -> None:
    x, y = np.arange(64, dtype=np.float32).reshape(4, 2, 8), np.zeros((4, 2, 8), np.float32)

    @workload
    def some(X, at, Y):
        for i in P(slot_u64(2)):
            double[i](x=X[at[i]], y=Y[i])

    at = np.array([3, 1, 0, 2], np.uint64)
    program = some(x, at, y).compile().set_slot(2, 3)
    program.run()
    assert (y[:3] == 2 * x[[3, 1, 0]]).all()
    assert not y[3].any()
    at[1] = 2**63
    with pytest.raises(BoundsError):
        program.run()
