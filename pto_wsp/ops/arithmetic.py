"""Arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.ops.elementwise import elementwise
from pto_wsp.ops.rules import INTEGERS, NUMBERS, WITH_F64
from pto_wsp.ops.value import Operand, Value, bind, composed


def larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """maximum of IEEE 754-2019: NaN propagates, +0 is larger than -0."""
    m = np.maximum(a, b)
    return np.where((a == 0) & (b == 0), a + b, m)


def smaller(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """minimum of IEEE 754-2019: NaN propagates, -0 is smaller than +0."""
    return -larger(-a, -b) if a.dtype.kind == "f" else np.minimum(a, b)


def _fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a * b + c


def _ones(x: np.ndarray) -> Any:
    return x.dtype.type(-1) if x.dtype.kind == "i" else ~x.dtype.type(0)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of integers truncated; by 0 all ones, the smallest number by -1 itself."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    a, b = np.broadcast_arrays(a, b)
    safe = np.where((b == 0) | _overflows(a, b), 1, b).astype(b.dtype)
    down = np.floor_divide(a, safe)
    up = (down < 0) & (down * safe != a) if a.dtype.kind == "i" else np.zeros(a.shape, bool)
    return np.where(b == 0, _ones(a), (down + up.astype(a.dtype)).astype(a.dtype))


def _overflows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether the quotient is beyond 64 bits; of smaller types it wraps."""
    if a.dtype.kind != "i":
        return np.zeros(a.shape, bool)
    return (a == np.iinfo(np.int64).min) & (b == -1)


def _fmod(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return np.fmod(a, b)
    a, b = np.broadcast_arrays(a, b)
    with np.errstate(all="ignore"):
        return np.where(b == 0, a, a - _quotient(a, b) * b)


def _rem(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r = _fmod(a, b)
    if a.dtype.kind == "f":
        return np.where(r == 0, np.copysign(r, b), np.where(np.isfinite(r) & ((r < 0) != (b < 0)), r + b, r))
    if a.dtype.kind == "u":
        return r
    return np.where((b != 0) & (r != 0) & ((r < 0) != (b < 0)), r + b, r)


def _floordiv(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    q, r = _quotient(a, b), _fmod(a, b)
    if q.dtype.kind == "u":
        return q
    return np.where((b != 0) & (r != 0) & ((r < 0) != (b < 0)), q - 1, q)


add_p = elementwise("add", 30, NUMBERS, np.add)
sub_p = elementwise("sub", 31, NUMBERS, np.subtract)
mul_p = elementwise("mul", 32, NUMBERS, np.multiply)
div_p = elementwise("div", 33, NUMBERS, _quotient)
maximum_p = elementwise("maximum", 34, NUMBERS, larger)
minimum_p = elementwise("minimum", 35, NUMBERS, smaller)
neg_p = elementwise("neg", 10, NUMBERS, np.negative)
abs_p = elementwise("abs", 11, NUMBERS, np.abs)
fma_p = elementwise("fma", 9, WITH_F64, _fused)
fmod_p = elementwise("fmod", 78, NUMBERS, _fmod)
rem_p = elementwise("rem", 79, NUMBERS, _rem)
floordiv_p = elementwise("floordiv", 85, INTEGERS, _floordiv)


def add(a: Operand, b: Operand) -> Value:
    """a + b.

    [m, n], [m, n] -> [m, n]; numbers; TADD, TADDS; one rounding
    """
    return bind("add", a, b)


def sub(a: Operand, b: Operand) -> Value:
    """a - b.

    [m, n], [m, n] -> [m, n]; numbers; TSUB, TSUBS; one rounding
    """
    return bind("sub", a, b)


def mul(a: Operand, b: Operand) -> Value:
    """a * b.

    [m, n], [m, n] -> [m, n]; numbers; TMUL, TMULS; one rounding
    """
    return bind("mul", a, b)


def div(a: Operand, b: Operand) -> Value:
    """a / b: of floats infinite or NaN where b is 0; of integers truncated, -1 (all ones) where b is 0. The operator `/` is of
    floats alone.

    [m, n], [m, n] -> [m, n]; numbers; TDIV, TDIVS; one rounding
    """
    return bind("div", a, b)


def neg(x: Operand) -> Value:
    """-x; also of zeros and NaN.

    [m, n] -> [m, n]; numbers; TNEG; exact
    """
    return bind("neg", x)


def abs(x: Operand) -> Value:
    """The magnitude of x; that of the smallest integer wraps to itself.

    [m, n] -> [m, n]; numbers; TABS; exact
    """
    return bind("abs", x)


def maximum(a: Operand, b: Operand) -> Any:
    """The larger of a and b; NaN where one is NaN; +0 of +0 and -0. Of two Python integers, a Python integer.

    [m, n], [m, n] -> [m, n]; numbers; TMAX, TMAXS; exact
    """
    if isinstance(a, int) and isinstance(b, int):
        return b if b > a else a
    return bind("maximum", a, b)


def minimum(a: Operand, b: Operand) -> Any:
    """The smaller of a and b; NaN where one is NaN; -0 of +0 and -0. Of two Python integers, a Python integer.

    [m, n], [m, n] -> [m, n]; numbers; TMIN, TMINS; exact
    """
    if isinstance(a, int) and isinstance(b, int):
        return b if b < a else a
    return bind("minimum", a, b)


@composed
def clamp(x: Operand, lo: Operand, hi: Operand) -> Value:
    """x where it lies between lo and hi, else the nearer of them: min(max(x, lo), hi), which is hi where lo is above it; NaN where
    one is NaN.

    [m, n], [m, n], [m, n] -> [m, n]; numbers; TMAX, TMAXS, TMIN, TMINS; exact
    """
    return minimum(maximum(x, lo), hi)


def fma(a: Operand, b: Operand, c: Operand) -> Value:
    """a * b + c, fused in f32, of f64 in f64.

    [m, n], [m, n], [m, n] -> [m, n]; floats f64; TMUL, TADD (newer PTO-ISA: TFUSEDMULADD); one rounding in f32, then
    one to the dtype
    """
    return bind("fma", a, b, c)


def floordiv(a: Operand, b: Operand) -> Value:
    """a / b of integers, rounded down; -1 (all ones) where b is 0. Also `//`.

    [m, n], [m, n] -> [m, n]; integers; TDIV, and TSUB where signs differ; exact
    """
    return bind("floordiv", a, b)


def rem(a: Operand, b: Operand) -> Value:
    """a - floor(a / b) * b, with the sign of b; a where b is 0 (of floats NaN). Also `%`.

    [m, n], [m, n] -> [m, n]; numbers; TREM, TREMS; one rounding
    """
    return bind("rem", a, b)


def fmod(a: Operand, b: Operand) -> Value:
    """a - trunc(a / b) * b, with the sign of a; a where b is 0 (of floats NaN).

    [m, n], [m, n] -> [m, n]; numbers; TFMOD, TFMODS; exact
    """
    return bind("fmod", a, b)


max = maximum
min = minimum
