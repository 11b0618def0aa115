"""Arithmetic."""

from __future__ import annotations

import numpy as np

from pto_wsp.ops.elementwise import elementwise
from pto_wsp.ops.rules import FLOATS, NUMBERS
from pto_wsp.ops.value import Operand, Value, bind


def larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """maximum of IEEE 754-2019: NaN propagates, +0 is larger than -0."""
    m = np.maximum(a, b)
    return np.where((a == 0) & (b == 0), a + b, m)


def smaller(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """minimum of IEEE 754-2019: NaN propagates, -0 is smaller than +0."""
    return -larger(-a, -b)


def _fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a * b + c


add_p = elementwise("add", 30, NUMBERS, np.add)
sub_p = elementwise("sub", 31, NUMBERS, np.subtract)
mul_p = elementwise("mul", 32, NUMBERS, np.multiply)
div_p = elementwise("div", 33, FLOATS, np.divide)
maximum_p = elementwise("maximum", 34, NUMBERS, larger)
minimum_p = elementwise("minimum", 35, NUMBERS, smaller)
neg_p = elementwise("neg", 10, NUMBERS, np.negative)
abs_p = elementwise("abs", 11, NUMBERS, np.abs)
fma_p = elementwise("fma", 9, FLOATS, _fused)


def add(a: Operand, b: Operand) -> Value:
    """a + b.

    [m, n], [m, n] -> [m, n]; f32 f16 bf16 i32; TADD, TADDS; one rounding
    """
    return bind("add", a, b)


def sub(a: Operand, b: Operand) -> Value:
    """a - b.

    [m, n], [m, n] -> [m, n]; f32 f16 bf16 i32; TSUB, TSUBS; one rounding
    """
    return bind("sub", a, b)


def mul(a: Operand, b: Operand) -> Value:
    """a * b.

    [m, n], [m, n] -> [m, n]; f32 f16 bf16 i32; TMUL, TMULS; one rounding
    """
    return bind("mul", a, b)


def div(a: Operand, b: Operand) -> Value:
    """a / b; infinite or NaN where b is 0.

    [m, n], [m, n] -> [m, n]; f32 f16 bf16; TDIV, TDIVS; one rounding
    """
    return bind("div", a, b)


def neg(x: Operand) -> Value:
    """-x; also of zeros and NaN.

    [m, n] -> [m, n]; f32 f16 bf16 i32; TNEG; exact
    """
    return bind("neg", x)


def abs(x: Operand) -> Value:
    """The magnitude of x; that of the smallest i32 wraps to itself.

    [m, n] -> [m, n]; f32 f16 bf16 i32; TABS; exact
    """
    return bind("abs", x)


def maximum(a: Operand, b: Operand) -> Value:
    """The larger of a and b; NaN where one is NaN; +0 of +0 and -0.

    [m, n], [m, n] -> [m, n]; f32 f16 bf16 i32; TMAX, TMAXS; exact
    """
    return bind("maximum", a, b)


def minimum(a: Operand, b: Operand) -> Value:
    """The smaller of a and b; NaN where one is NaN; -0 of +0 and -0.

    [m, n], [m, n] -> [m, n]; f32 f16 bf16 i32; TMIN, TMINS; exact
    """
    return bind("minimum", a, b)


def fma(a: Operand, b: Operand, c: Operand) -> Value:
    """a * b + c, fused in f32.

    [m, n], [m, n], [m, n] -> [m, n]; f32 f16 bf16; TMUL, TADD (newer PTO-ISA: TFUSEDMULADD); one rounding in f32, then
    one to the dtype
    """
    return bind("fma", a, b, c)


max = maximum
min = minimum
