"""What each leaf means, against numpy written down plainly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pto_wsp.ir.core import PRIMITIVES, DType

NAN, INF = float("nan"), float("inf")
INT_MIN, INT_MAX = -(2**31), 2**31 - 1


def meaning(name: str, *operands: Any, **params: Any) -> np.ndarray:
    rule = PRIMITIVES[name].reference
    assert rule is not None
    return rule(params, *operands)


def same(a: np.ndarray, b: Any) -> bool:
    """Equal by bits, up to the payload of NaN."""
    b = np.asarray(b)
    return a.shape == b.shape and bool(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        and np.array_equal(np.signbit(a)[a == a], np.signbit(b)[b == b])
    )


floats = arrays(np.float32, (5, 7), elements=st.floats(width=32))
ints = arrays(np.int32, (5, 7))


@given(floats, floats)
def test_float_arithmetic_is_exact_in_float64(a: np.ndarray, b: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        for name, want in (
            ("add", x + y),
            ("sub", x - y),
            ("mul", x * y),
            ("div", x / y),
            ("neg", -x),
            ("abs", abs(x)),
        ):
            operands = (a,) if name in ("neg", "abs") else (a, b)
            got = meaning(name, *operands)
            assert got.dtype == np.float64
            assert same(got, want)
        assert same(meaning("fma", a, b, a), x * y + x)


@given(ints, ints)
def test_integers_wrap(a: np.ndarray, b: np.ndarray) -> None:
    def i32(*given: Any, **params: Any) -> np.ndarray:
        return meaning(*given, **params).astype(np.int32)

    with np.errstate(over="ignore"):
        for name, want in (("add", a + b), ("sub", a - b), ("mul", a * b), ("neg", -a), ("abs", np.abs(a))):
            assert same(i32(name, a) if name in ("neg", "abs") else i32(name, a, b), want)
        assert same(i32("maximum", a, b), np.where(a > b, a, b))
        assert same(i32("minimum", a, b), np.where(a < b, a, b))
        assert same(i32("rowsum", a), a.sum(axis=1, keepdims=True, dtype=np.int32))
        assert same(i32("colprod", a), a.prod(axis=0, keepdims=True, dtype=np.int32))
        zero = np.zeros((5, 5), np.int32)
        assert same(i32("matmul", a, b.T, zero, transpose_a=False, transpose_b=False), np.matmul(a, b.T))


@pytest.mark.parametrize(
    ("a", "b", "larger", "smaller"),
    [
        (NAN, 1, NAN, NAN),
        (1, NAN, NAN, NAN),
        (-0.0, 0.0, 0.0, -0.0),
        (0.0, -0.0, 0.0, -0.0),
        (-0.0, -0.0, -0.0, -0.0),
        (INF, 1, INF, 1),
    ],
)
def test_maximum_and_minimum(a: float, b: float, larger: float, smaller: float) -> None:
    x, y = np.array([[a]], np.float32), np.array([[b]], np.float32)
    assert same(meaning("maximum", x, y), [[larger]])
    assert same(meaning("minimum", x, y), [[smaller]])
    both = np.array([[a, b]], np.float32)
    assert same(meaning("rowmax", both), [[larger]])
    assert same(meaning("rowmin", both), [[smaller]])
    assert same(meaning("colmax", both.T), [[larger]])
    assert same(meaning("colmin", both.T), [[smaller]])


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16])
def test_functions(dtype: DType) -> None:
    x = np.array([[0.1, 0.5, 1.0, 2.5, 7.0]]).astype(dtype.numpy)
    values = [float(v) for v in x[0]]
    for name, f in (
        *(("exp", math.exp), ("log", math.log), ("sqrt", math.sqrt), ("rsqrt", lambda v: 1 / math.sqrt(v))),
        *(
            ("reciprocal", lambda v: 1 / v),
            ("tanh", math.tanh),
            ("erf", math.erf),
            ("sin", math.sin),
            ("cos", math.cos),
        ),
        *(("floor", math.floor), ("ceil", math.ceil), ("rint", round), ("trunc", math.trunc)),
    ):
        np.testing.assert_allclose(meaning(name, x), [[f(v) for v in values]], rtol=1e-15)
    assert same(meaning("rint", np.array([[0.5, 1.5, -0.5, -2.5]])), [[0.0, 2.0, -0.0, -2.0]])
    assert same(meaning("rsqrt", np.array([[0.0, -0.0, -1.0, INF]])), [[INF, -INF, NAN, 0.0]])
    assert same(meaning("log", np.array([[0.0, -1.0]])), [[-INF, NAN]])


def test_comparisons_with_nan() -> None:
    a, b = np.array([[1, NAN, 2]], np.float32), np.array([[1, 1, 1]], np.float32)
    for name, want in (
        ("eq", [1, 0, 0]),
        ("ne", [0, 1, 1]),
        ("lt", [0, 0, 0]),
        ("le", [1, 0, 0]),
        ("gt", [0, 0, 1]),
        ("ge", [1, 0, 1]),
    ):
        got = meaning(name, a, b)
        assert got.dtype == np.bool_
        assert got.astype(int).tolist() == [want]


def test_logic_and_where() -> None:
    a, b = np.array([[True, True, False]]), np.array([[True, False, False]])
    assert same(meaning("logical_and", a, b), a & b)
    assert same(meaning("logical_or", a, b), a | b)
    assert same(meaning("logical_not", a), ~a)
    assert same(meaning("where", a, np.float32([[1, NAN, 3]]), np.array(4.0)), [[1, NAN, 4]])
    assert same(
        meaning("where", a[:, :1], np.int32([[1, 2, 3]]), np.int32([[4], [5]])), np.int32([[1, 2, 3], [1, 2, 3]])
    )
    assert same(meaning("where", a, a, b), np.array([[True, True, False]]))


def test_cast() -> None:
    x = np.array([[1.9, -1.9, 3e9, -3e9, NAN, INF, -INF, -0.0]], np.float32)
    assert same(meaning("cast", x, to=DType.I32), np.int32([[1, -1, INT_MAX, INT_MIN, 0, INT_MAX, INT_MIN, 0]]))
    assert meaning("cast", x, to=DType.BOOL).tolist() == [[True] * 7 + [False]]
    assert same(meaning("cast", x, to=DType.F16), x.astype(np.float64))
    assert same(meaning("cast", np.int32([[INT_MAX, INT_MIN]]), to=DType.F32), [[float(INT_MAX), float(INT_MIN)]])
    assert meaning("cast", np.int32([[3, 0]]), to=DType.BOOL).tolist() == [[True, False]]
    assert same(meaning("cast", np.array([[True, False]]), to=DType.I32), np.int32([[1, 0]]))
    assert same(meaning("cast", np.array([[True, False]]), to=DType.BF16), [[1.0, 0.0]])


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-1e3, 1e3, width=32)))
def test_reductions(x: np.ndarray) -> None:
    wide = x.astype(np.float64)
    for axis, kind in ((1, "row"), (0, "col")):
        for op in ("sum", "max", "min", "prod"):
            got = meaning(kind + op, x)
            assert got.dtype == np.float64
            np.testing.assert_array_equal(got, getattr(wide, op)(axis=axis, keepdims=True))
    assert same(meaning("count_cols", x), np.full((x.shape[0], 1), float(x.shape[1])))
    assert same(meaning("count_rows", x), np.full((1, x.shape[1]), float(x.shape[0])))


def test_a_sum_starts_from_plus_zero() -> None:
    assert same(meaning("rowsum", np.float32([[-0.0, -0.0]])), [[0.0]])
    assert same(meaning("rowprod", np.float32([[-0.0]])), [[-0.0]])
    assert same(meaning("rowmax", np.float32([[-INF, NAN]])), [[NAN]])


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul(transpose_a: bool, transpose_b: bool) -> None:
    rng = np.random.default_rng(1)
    a, b, c = (rng.standard_normal(s).astype(np.float32) for s in ((3, 5), (5, 4), (3, 4)))
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    operands = a.T if transpose_a else a, b.T if transpose_b else b
    want = np.einsum("mk,kn->mn", a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(meaning("matmul", *operands, **flags), want, rtol=1e-14)
    np.testing.assert_allclose(meaning("matmul", *operands, c, **flags), want + c, rtol=1e-14)


def test_matmul_with_a_tile_that_is_defined_everywhere() -> None:
    flags = {"transpose_a": False, "transpose_b": False}
    assert same(
        meaning("matmul", np.ones((2, 8), np.float32), np.ones((3, 4), np.float32), **flags), np.full((2, 4), 3.0)
    )
    acc = np.ones((8, 8), np.float32)
    assert same(
        meaning("matmul", np.ones((2, 3), np.float32), np.ones((3, 4), np.float32), acc, **flags), np.full((2, 4), 4.0)
    )


def test_memory_and_constants() -> None:
    x = np.float32([[1, 2], [3, 4], [5, 6]])
    out = np.zeros((2, 2), np.float32)
    meaning("store", out, x)
    assert same(out, x[:2])
    assert same(meaning("load", x), x)
    assert same(meaning("full", np.float32(2.5), rows=2, cols=3), np.full((2, 3), 2.5))
    assert meaning("iota", axis=1, rows=2, cols=3).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert meaning("iota", axis=0, rows=2, cols=3).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert same(meaning("broadcast", x[:, :1], rows=1, cols=3), np.float32([[1, 1, 1], [3, 3, 3], [5, 5, 5]]))
    assert same(meaning("broadcast", x[:1], rows=2, cols=1), np.float32([[1, 2], [1, 2]]))
