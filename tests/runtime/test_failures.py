"""What goes wrong between tasks and in their views: the user's line, the iteration by the names of its loops, the values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BoundsError,
    Dense,
    DType,
    ExecutionError,
    In,
    Out,
    P,
    PtoError,
    Scalar,
    Tile,
    Workload,
    item,
    kernel,
    pto,
    reduce_max,
    workload,
)

Array = np.ndarray[Any, Any]


@kernel
def copy(x: In[Tile[4, 4, DType.F32]], y: Out[Tile[4, 4, DType.F32]]):
    pto.store(y, x)


@kernel
def put(s: Scalar[DType.I32], y: Out[Tile[4, 4, DType.I32]]):
    pto.store(y, s)


def traced(body: Callable[..., object], n: list[int], m: list[int] | None = None) -> tuple[Workload, Array]:
    """`body(x, y, n, m)` as a workload of two tensors f32[8,4,4], which it reads and writes, and two of integers."""
    y = np.zeros((8, 4, 4), np.float32)

    @workload
    def w(x, y, n, m):
        body(x, y, n, m)

    return w(np.ones((8, 4, 4), np.float32), y, np.array(n), np.array(m or [0], np.int32)), y


def failure(body: Callable[..., object], n: list[int], m: list[int] | None = None, *, ran: int = 0) -> PtoError:
    """The error of a run, of which `ran` tasks have written."""
    w, y = traced(body, n, m)
    p = w.compile(threads=2)
    for _ in range(2):
        y[:] = 0
        with pytest.raises(PtoError) as caught:
            p.run()
        assert (y.any(axis=(1, 2))).sum() == ran
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__
    return caught.value


def line(error: PtoError) -> str:
    """The source line that the message shows."""
    return str(error).split(" | ")[1].splitlines()[0].strip()


def test_an_item_outside_of_its_tensor() -> None:
    def body(x: Any, y: Any, n: Any, m: Any) -> None:
        for b in P(Dense[3](name="batch")):
            i = item(n[b])
            k = item(n[i])
            copy[b](x=x[k], y=y[b])

    error = failure(body, [0, 9, 0])
    assert isinstance(error, BoundsError)
    assert (error.code, error.what) == ("PTO163", "item of element 9 of dimension 0 of n, which has 3")
    assert error.values["iteration"] == "b=1"
    assert line(error) == "k = item(n[i])"


def test_a_view_whose_index_is_data() -> None:
    def body(x: Any, y: Any, n: Any, m: Any) -> None:
        for b in P(Dense[3](name="batch")):
            copy[b](x=x[item(n[b])], y=y[b])

    error = failure(body, [0, 1, 8])
    assert (error.code, error.values["task"]) == ("PTO163", "copy[b=2]")
    assert "element 8 of dimension 0 of x, which has 8" in error.what
    assert line(error) == "copy[b](x=x[item(n[b])], y=y[b])"


def test_a_negative_extent() -> None:
    def body(x: Any, y: Any, n: Any, m: Any) -> None:
        for b in P(2):
            for i in P.seq(item(n[b]) - 3):
                copy[b, i](x=x[i], y=y[b])

    error = failure(body, [4, 1])
    assert isinstance(error, BoundsError)
    assert (error.code, error.what) == ("PTO511", "the loop over i has a negative extent (-2)")
    assert error.values["iteration"] == "b=1"
    assert line(error).startswith("for i in P.seq")


def test_a_gather_of_an_index_outside() -> None:
    def body(x: Any, y: Any, n: Any, m: Any) -> None:
        for b in P(2):
            copy[b](x=x[n[4 * b : 4 * b + 4], b, :], y=y[b])

    error = failure(body, [0, 1, 2, 3, 4, 8, 6, 7])
    assert (error.code, error.values["task"]) == ("PTO163", "copy[b=1]")
    assert "index 8, number 1 of n[4*b :+ 4], into dimension 0 of x, which has 8" in error.what


def test_a_gather_whose_indices_lie_outside() -> None:
    def body(x: Any, y: Any, n: Any, m: Any) -> None:
        for b in P(2):
            copy[b](x=x[n[4 * item(m[b]) : 4 * item(m[b]) + 4], b, :], y=y[b])

    error = failure(body, [0] * 8, [1, 2])
    assert error.code == "PTO163"
    assert "the indices of a gather are 4 elements from 8 of dimension 0 of n, which has 8" in error.what


def test_scalars_that_have_no_value() -> None:
    def shifted(x: Any, y: Any, n: Any, m: Any) -> None:
        copy(x=x[item(n[0]) << item(n[1])], y=y[0])

    def divided(x: Any, y: Any, n: Any, m: Any) -> None:
        copy(x=x[item(n[0]) // item(n[1])], y=y[0])

    def largest(x: Any, y: Any, n: Any, m: Any) -> None:
        k = item(n[0])
        copy(x=x[reduce_max(n[k:2])], y=y[0])

    for body, n, code, cls in (
        (shifted, [1, 64], "PTO716", ExecutionError),
        (divided, [1, 0], "PTO711", ExecutionError),
        (largest, [2, 1], "PTO718", ExecutionError),
    ):
        error = failure(body, n)
        assert (error.code, type(error)) == (code, cls)
        assert line(error).startswith("copy(x=x[")


def test_an_index_that_overflows() -> None:
    def body(x: Any, y: Any, n: Any, m: Any) -> None:
        copy(x=x[item(n[0]) * item(n[1])], y=y[0])

    error = failure(body, [2**62, 2])
    assert (error.code, type(error)) == ("PTO712", BoundsError)


def test_a_scalar_that_does_not_fit() -> None:
    into = np.zeros((1, 4, 4), np.int32)

    @workload
    def w(n, z):
        for b in P(1):
            put[b](s=item(n[b]), y=z[b])

    with pytest.raises(BoundsError) as caught:
        w(np.array([2**31]), into).compile().run()
    assert (caught.value.code, caught.value.values["task"]) == ("PTO713", "put[b=0]")


def test_tasks_before_a_failure_that_only_shows_in_the_run_have_run() -> None:
    table = np.full((4, 4), 9, np.int32)

    @workload
    def w(x, y, z):
        for b in P.seq(3):
            put[b](s=8 * b, y=z)
            copy[b](x=x[item(z[0, 0])], y=y[b])

    y = np.zeros((8, 4, 4), np.float32)
    p = w(np.ones((8, 4, 4), np.float32), y, table).compile(threads=2)
    with pytest.raises(BoundsError) as caught:
        p.run()
    assert caught.value.values["task"] == "copy[b=1]"
    assert y[0].all()
    assert not y[1:].any()
