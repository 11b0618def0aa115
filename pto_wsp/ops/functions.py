"""Mathematical functions and rounding to whole numbers."""

from __future__ import annotations

import math

import numpy as np

from pto_wsp.ops.elementwise import elementwise
from pto_wsp.ops.rules import WITH_F64
from pto_wsp.ops.value import Operand, Value, bind


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _reciprocal(x: np.ndarray) -> np.ndarray:
    return 1.0 / x


def _rsqrt(x: np.ndarray) -> np.ndarray:
    return 1.0 / np.sqrt(x)


def _away(x: np.ndarray) -> np.ndarray:
    """To the nearest integer; halves away from zero."""
    whole = np.trunc(x)
    return np.copysign(np.where(np.abs(x - whole) >= 0.5, whole + np.sign(x), whole), x)


exp_p = elementwise("exp", 12, WITH_F64, np.exp)
exp2_p = elementwise("exp2", 75, WITH_F64, np.exp2)
expm1_p = elementwise("expm1", 88, WITH_F64, np.expm1)
log_p = elementwise("log", 13, WITH_F64, np.log)
log2_p = elementwise("log2", 76, WITH_F64, np.log2)
log1p_p = elementwise("log1p", 87, WITH_F64, np.log1p)
pow_p = elementwise("pow", 86, WITH_F64, np.power)
sqrt_p = elementwise("sqrt", 14, WITH_F64, np.sqrt)
rsqrt_p = elementwise("rsqrt", 15, WITH_F64, _rsqrt)
reciprocal_p = elementwise("reciprocal", 16, WITH_F64, _reciprocal)
tanh_p = elementwise("tanh", 17, WITH_F64, np.tanh)
erf_p = elementwise("erf", 18, WITH_F64, _erf)
sin_p = elementwise("sin", 19, WITH_F64, np.sin)
cos_p = elementwise("cos", 20, WITH_F64, np.cos)
floor_p = elementwise("floor", 21, WITH_F64, np.floor)
ceil_p = elementwise("ceil", 22, WITH_F64, np.ceil)
rint_p = elementwise("rint", 23, WITH_F64, np.rint)
trunc_p = elementwise("trunc", 24, WITH_F64, np.trunc)
round_p = elementwise("round", 74, WITH_F64, _away)


def exp(x: Operand) -> Value:
    """e to the power x.

    [m, n] -> [m, n]; floats f64; TEXP; 1.1 ulp of f32, then one rounding
    """
    return bind("exp", x)


def exp2(x: Operand) -> Value:
    """2 to the power x; exact for whole numbers.

    [m, n] -> [m, n]; floats f64; TMULS, TEXP; 1.1 ulp of f32, then one rounding
    """
    return bind("exp2", x)


def expm1(x: Operand) -> Value:
    """e to the power x, less 1, without the error that the subtraction has near 0.

    [m, n] -> [m, n]; floats f64; TEXP, TADDS, TMUL, TDIV, TSEL; one rounding, of f64 2 ulp
    """
    return bind("expm1", x)


def log(x: Operand) -> Value:
    """The natural logarithm of x; -inf of 0, NaN of negative numbers.

    [m, n] -> [m, n]; floats f64; TLOG; 1 ulp of f32, then one rounding
    """
    return bind("log", x)


def log2(x: Operand) -> Value:
    """The logarithm of x with base 2; exact for powers of two.

    [m, n] -> [m, n]; floats f64; TLOG, TMULS; 1 ulp of f32, then one rounding
    """
    return bind("log2", x)


def log1p(x: Operand) -> Value:
    """The natural logarithm of 1 + x, without the error that the addition has near 0.

    [m, n] -> [m, n]; floats f64; TADDS, TLOG, TMUL, TDIV, TSEL; one rounding, of f64 2 ulp
    """
    return bind("log1p", x)


def pow(x: Operand, y: Operand) -> Value:
    """x to the power y, as C's pow: 1 where y is 0, NaN where x is negative and y not whole. Also `**`.

    [m, n], [m, n] -> [m, n]; floats f64; TLOG, TMUL, TEXP (newer PTO-ISA: TPOW, TPOWS); one rounding, of f64 2 ulp
    """
    return bind("pow", x, y)


def sqrt(x: Operand) -> Value:
    """The square root of x; NaN of negative numbers.

    [m, n] -> [m, n]; floats f64; TSQRT; one rounding
    """
    return bind("sqrt", x)


def rsqrt(x: Operand) -> Value:
    """1 / sqrt(x); infinite of zeros, with their sign.

    [m, n] -> [m, n]; floats f64; TRSQRT; 1.5 ulp of f32, then one rounding
    """
    return bind("rsqrt", x)


def reciprocal(x: Operand) -> Value:
    """1 / x.

    [m, n] -> [m, n]; floats f64; TRECIP; one rounding
    """
    return bind("reciprocal", x)


def tanh(x: Operand) -> Value:
    """The hyperbolic tangent of x.

    [m, n] -> [m, n]; floats f64; TMULS, TEXP, TADDS, TDIV; 1.5 ulp of f32, then one rounding
    """
    return bind("tanh", x)


def erf(x: Operand) -> Value:
    """The error function of x, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    [m, n] -> [m, n]; floats f64; TMAXS, TMINS, TMUL, TADDS, TDIV; 1.1 ulp of f32, then one rounding
    """
    return bind("erf", x)


def sin(x: Operand) -> Value:
    """The sine of x, in radians.

    [m, n] -> [m, n]; floats f64; TMULS, TCVT, TSUB, TMUL, TADDS; 2 ulp of f32, then one rounding
    """
    return bind("sin", x)


def cos(x: Operand) -> Value:
    """The cosine of x, in radians.

    [m, n] -> [m, n]; floats f64; TMULS, TCVT, TSUB, TMUL, TADDS; 2 ulp of f32, then one rounding
    """
    return bind("cos", x)


def floor(x: Operand) -> Value:
    """The largest whole number that is not above x.

    [m, n] -> [m, n]; floats f64; TCVT FLOOR; exact
    """
    return bind("floor", x)


def ceil(x: Operand) -> Value:
    """The smallest whole number that is not below x.

    [m, n] -> [m, n]; floats f64; TCVT CEIL; exact
    """
    return bind("ceil", x)


def rint(x: Operand) -> Value:
    """The whole number nearest to x, the even one of two.

    [m, n] -> [m, n]; floats f64; TCVT RINT; exact
    """
    return bind("rint", x)


def trunc(x: Operand) -> Value:
    """The whole part of x.

    [m, n] -> [m, n]; floats f64; TCVT TRUNC; exact
    """
    return bind("trunc", x)


def round(x: Operand) -> Value:
    """x to the nearest integer; halves away from zero. `rint` takes halves to the even one.

    [m, n] -> [m, n]; floats f64; TCVT with RoundMode ROUND; exact
    """
    return bind("round", x)
