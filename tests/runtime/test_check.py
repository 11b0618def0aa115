"""`compile(check=...)`: what it finds, whom it names, and what it leaves alone."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import (
    BoundsError,
    CompileError,
    Dense,
    DispatchPolicy,
    DType,
    In,
    InOut,
    KernelError,
    Out,
    P,
    Program,
    RaceError,
    Tensor,
    Tile,
    item,
    kernel,
    pto,
    workload,
)
from pto_wsp.runtime.races import Instance, Level, RaceWatch

F32 = DType.F32
Array = np.ndarray[Any, Any]


@kernel
def copy(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, x)


@kernel
def add(x: In[Tile[4, 4, F32]], y: InOut[Tile[4, 4, F32]]):
    pto.store(y, y + x)


@kernel
def logarithm(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, pto.log(x) * 2.0)


@kernel
def masked(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, pto.where(x > 0, x, pto.full((4, 4), float("-inf"))))


@kernel
def normal(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, pto.softmax(x) @ x)


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


# races


@workload
def scattered(x, y, index):
    for b in P(Dense[3](name="batch")):
        copy[b](x=x[b], y=y[item(index[b])])


@workload
def rows_added(x, y, index):
    for i in P.seq(2):
        for b in P(2):
            add[i, b](x=x[b], y=y[index[4 * b : 4 * b + 4], :])


def test_two_iterations_that_write_one_element() -> None:
    p = scattered(ones(3, 4, 4), ones(8, 4, 4), np.array([5, 2, 5])).compile(check="races", threads=4)
    with pytest.raises(RaceError) as caught:
        p.run()
    e = caught.value
    assert e.code == "PTO204"
    assert "touch y[5, 0, 0], and one writes: copy[b=0] and copy[b=2]" in e.what
    assert e.values["task"] == "copy[b=2]"
    assert e.loc is not None and e.loc.file == __file__
    assert str(e.values["first task"]).startswith("copy[b=0], ")


def test_without_a_check_such_a_conflict_keeps_program_order() -> None:
    y, x = ones(8, 4, 4), np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    scattered(x, y, np.array([5, 2, 5])).compile(threads=4).run()
    assert (y[5] == x[2]).all()


def test_what_does_not_conflict_in_this_run_is_no_race() -> None:
    index = np.array([5, 2, 1])
    p = scattered(ones(3, 4, 4), ones(8, 4, 4), index).compile(check="races").run()
    index[:] = 5
    with pytest.raises(RaceError):
        p.run()
    index[:] = (1, 2, 3)
    p.run()


def test_rows_of_gathers_count_exactly() -> None:
    p = rows_added(ones(2, 4, 4), ones(16, 4), np.array([0, 2, 4, 6, 1, 3, 5, 7])).compile(check="all").run()
    p.bind({"index": np.array([0, 2, 4, 6, 1, 3, 6, 7])})
    with pytest.raises(RaceError) as caught:
        p.run()
    assert "touch y[6, 0], and one writes: add[i=0, b=0] and add[i=0, b=1]" in caught.value.what


def instance(numbers: tuple[int, ...], kinds: tuple[str, ...]) -> Instance:
    """A task in nested loops of these kinds, one inside the other."""
    levels: list[Level] = []
    for k, kind in enumerate(kinds):
        levels += [("at", numbers[k]) if kind == "at" else (kind, f"v{k}")]
    return Instance(0, tuple(levels), tuple(0 if c == "at" else n for n, c in zip(numbers, kinds, strict=True)), "")


def races(a: Instance, b: Instance) -> bool:
    first = next((k for k, (x, y) in enumerate(zip(a.path, b.path, strict=True)) if x != y), 99)
    other = next((k for k, (i, j) in enumerate(zip(a.numbers, b.numbers, strict=True)) if i != j), 99)
    return other < first and a.path[other][0] == "P"


@given(
    st.lists(st.sampled_from(["P", "seq", "at"]), min_size=1, max_size=4).map(tuple),
    st.lists(st.tuples(*[st.integers(0, 1)] * 4, st.integers(0, 3), st.booleans(), st.booleans()), max_size=20),
)
def test_remembering_one_reader_and_one_writer_is_enough(
    kinds: tuple[str, ...], drawn: list[tuple[int, int, int, int, int, bool, bool]]
) -> None:
    """A race is found with the task that first makes one, whatever is forgotten."""
    tasks = sorted(drawn, key=lambda t: t[: len(kinds)])
    watch = RaceWatch()
    seen: list[tuple[Instance, int, bool]] = []
    for t in tasks:
        me, element, writes = instance(t[: len(kinds)], kinds), t[4], t[5]
        watch.begin(me)
        found = watch.touch("x", (4,), [range(element, element + 1)], writes=writes)
        seen.append((me, element, writes))
        conflicts = [
            a for (a, x, v), (b, y, w) in combinations(seen, 2) if b is me and x == y and (v or w) and races(a, b)
        ]
        assert (found is not None) == bool(conflicts)
        if found is not None:
            assert races(found.first, found.second)
            return


# bounds


def test_bounds_are_those_of_the_run() -> None:
    p = scattered(ones(3, 4, 4), ones(8, 4, 4), np.array([5, 2, 8])).compile(check="bounds")
    with pytest.raises(BoundsError) as caught:
        p.run()
    assert caught.value.code == "PTO163"


# numerics


def applied(k: Any, x: Array) -> Program:
    @workload
    def w(x, y):
        for b in P(2):
            k[b](x=x[b], y=y[b])

    return w(x, ones(2, 4, 4)).dispatch(DispatchPolicy.round_robin(2)).compile(check="numerics")


def test_results_within_rounding_are_right() -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 4)).astype(np.float32)
    p = applied(normal, x).run()
    want = applied(normal, x)._bound.arrays["y"]
    want[:] = 0
    e = np.exp(x.astype(np.float64) - x.max(axis=2, keepdims=True))
    assert np.allclose(p.tensors["y"], e / e.sum(axis=2, keepdims=True) @ x, atol=1e-6)


def test_an_infinity_is_blamed_on_the_operation_that_made_it() -> None:
    x = ones(2, 4, 4)
    x[1, 2, 3] = 0
    with pytest.raises(KernelError) as caught:
        applied(logarithm, x).run()
    e = caught.value
    assert e.code == "PTO722"
    assert e.what.startswith("task logarithm[b=1]: log makes a NaN of numbers, or an infinity")
    assert str(e.values["operation at"]).startswith(__file__)
    x[1, 2, 3] = np.inf
    applied(logarithm, x).run()


def of_columns(name: str, x: Array) -> Array:
    """A reduction of the rows of x, or of the columns of x turned, under the check of numerics."""

    @kernel
    def k(x: In[Tensor], y: Out[Tensor]):
        pto.store(y, -getattr(pto, name)(x))

    @workload
    def w(x, y):
        k(x=x, y=y)

    rows = name.startswith("row")
    y = np.zeros((len(x), 1) if rows else (1, len(x)), x.dtype)
    w(x if rows else np.ascontiguousarray(x.T), y).compile(check="numerics").run()
    return -y.ravel()


@pytest.mark.parametrize("name", ["rowprod", "colprod"])
@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.F16, DType.BF16], ids=str)
def test_an_overflow_on_the_way_to_a_product_is_no_difference(name: str, dtype: DType) -> None:
    """The product of each pair is near 1; in the order of the runtime all small numbers come first, and all large ones."""
    small, large = (1e-40, 1e40) if dtype is DType.F64 else (0.02, 60.0)
    x = np.array([[small, large] * 32] * 3).astype(dtype.numpy)
    with pytest.raises(KernelError) as caught:
        of_columns(name, x)
    e = caught.value
    assert e.code == "PTO722"
    assert f": {name} makes a NaN of numbers, or an infinity of finite ones" in e.what
    assert str(e.values["operation at"]).startswith(__file__)
    x[:] = small**0.5
    assert np.isfinite(of_columns(name, x)).all()
    x[:, 7] = 0
    assert (of_columns(name, x) == 0).all()


@pytest.mark.parametrize("name", ["rowsum", "colsum"])
def test_an_overflow_on_the_way_to_a_sum_is_no_difference(name: str) -> None:
    x = np.zeros((2, 16), np.float32)
    x[1, [0, 8, 2, 10]] = 3e38, 3e38, -3e38, -3e38
    with pytest.raises(KernelError, match=f": {name} makes a NaN of numbers") as caught:
        of_columns(name, x)
    assert caught.value.code == "PTO722"
    x[1, [8, 10]] = 0
    assert (of_columns(name, x) == 0).all()


def test_infinities_that_are_written_down_are_meant() -> None:
    assert np.isinf(applied(masked, -ones(2, 4, 4)).run().tensors["y"]).all()


def test_a_program_that_was_stopped_runs_again() -> None:
    x = ones(2, 4, 4)
    x[0] = 0
    p = applied(logarithm, x)
    for _ in range(2):
        with pytest.raises(KernelError):
            p.run()
    x[0] = 1
    assert not p.run().tensors["y"].any()
    assert p.copy()._checker is not p._checker


def test_a_fault_of_the_check_itself_is_not_hidden() -> None:
    p = applied(logarithm, ones(2, 4, 4))
    assert p._checker is not None
    p._checker._kernels = {}
    with pytest.raises(KeyError):
        p.run()


@pytest.mark.parametrize("check", ["", "race", 1, True, ["races"]])
def test_there_are_four_checks(check: Any) -> None:
    w = scattered(ones(3, 4, 4), Tensor(ones(8, 4, 4)), np.array([5, 2, 8]))
    with pytest.raises(CompileError, match="PTO410"):
        w.compile(check=check)


def test_a_nan_of_infinities_is_found() -> None:
    @kernel
    def masked(x: In[Tensor], y: Out[Tensor]):
        pto.store(y, pto.softmax(pto.where(x > 0.0, x, -np.inf)))

    x = np.ones((2, 4, 4), np.float32)
    x[1, 2] = -1  # nothing is left of this row: -inf - -inf
    with pytest.raises(KernelError) as caught:
        applied(masked, x).run()
    assert caught.value.code == "PTO722"
    assert "masked[b=1]: sub makes" in caught.value.what


def test_what_stops_a_kernel_is_said_of_its_task() -> None:
    @kernel
    def picked(x: In[Tensor], index: In[Tensor], y: Out[Tensor]):
        pto.store(y, pto.gather(x, index))

    @workload
    def rows(X, index, Y):
        for i in P(8):
            picked[i](x=X[i : i + 1], index=index[i : i + 1], y=Y[i : i + 1])

    x, index = np.ones((8, 4), np.float32), np.zeros((8, 4), np.int32)
    index[5, 2] = 9
    with pytest.raises(BoundsError) as caught:
        rows(x, index, np.zeros_like(x)).compile(check="numerics").run()
    assert caught.value.code == "PTO730"
    assert caught.value.values["task"] == "picked[i=5]"
