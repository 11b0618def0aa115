"""What leaves a tensor is an error while tracing where some iteration certainly does, conditions taken into account."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import BoundsError, DType, Out, P, Tile, item, kernel, pto, workload


@kernel
def one(y: Out[Tile[1, 4, DType.F32]]):
    pto.store(y, 1.0)


def trace(body: Callable[[Any], None]) -> Any:
    @workload
    def w(y, n):
        for i in P(8):
            body((i, y, n))

    return w(np.zeros((8, 1, 4), np.float32), np.zeros(8, np.int32))


def next_below(x: Any, limit: int) -> None:
    i, y, _ = x
    with P.when(i < limit):
        one(y=y[i + 1])


def next_in_the_other_branch(x: Any, limit: int) -> None:
    i, y, _ = x
    with P.when(i == limit):
        one(y=y[i])
    with P.otherwise():
        one(y=y[i + 1])


def next_after_two(x: Any, limit: int) -> None:
    i, y, _ = x
    with P.when(i == limit):
        one(y=y[i])
    with P.otherwise((i != 0) & (i > 2)):
        one(y=y[i + 1])


def next_where_data_says(x: Any, limit: int) -> None:
    i, y, n = x
    with P.when(item(n[i]) < limit):
        one(y=y[i + 1])


@pytest.mark.parametrize(
    ("body", "limit", "leaves"),
    [
        (next_below, 7, False),
        (next_below, 8, True),
        (next_in_the_other_branch, 6, True),
        (next_after_two, 6, True),
        (next_where_data_says, 3, False),
    ],
)
def test_an_access_under_conditions(body: Any, limit: int, leaves: bool) -> None:
    if leaves:
        with pytest.raises(BoundsError, match="element 8 is reached"):
            trace(lambda x: body(x, limit))
    else:
        trace(lambda x: body(x, limit))


@pytest.mark.parametrize("body", [next_in_the_other_branch, next_after_two])
def test_the_branch_before_takes_the_last_iteration(body: Any) -> None:
    def last(x: Any) -> None:
        i, y, n = x
        with P.when(i < 7):
            body((i, y, n), 8)

    trace(last)
    with pytest.raises(BoundsError):
        trace(lambda x: body(x, 8))


def test_a_loop_with_a_condition_may_end_before() -> None:
    @workload
    def w(y, n):
        for i in P.seq(8, while_=lambda: item(n[0]) < 3):
            one(y=y[i + 1])

    w(np.zeros((8, 1, 4), np.float32), np.zeros(8, np.int32))
