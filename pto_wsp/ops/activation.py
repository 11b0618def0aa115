"""Activations.

sigmoid, silu and gelu are compositions: on f16 and bf16 they compute in f32 and round once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import Primitive, Type, Typed
from pto_wsp.ops.arithmetic import add, div, maximum, mul, neg
from pto_wsp.ops.comparison import gt, where
from pto_wsp.ops.conversion import cast
from pto_wsp.ops.functions import erf, exp, reciprocal, tanh
from pto_wsp.ops.memory import need_value
from pto_wsp.ops.rules import COMPUTED_IN, NUMBERS, WITH_F64, need_dtype, need_tile
from pto_wsp.ops.value import Operand, Value, bind, composed


def _activation(name: str, computed: Callable[..., Value]) -> Primitive:
    p = Primitive(name)

    @p.def_type
    def _(params: dict[str, Any], x: Type) -> Typed:
        tile = need_tile(name, x)
        need_dtype(name, tile.dtype, WITH_F64)
        return Typed(tile)

    @p.def_expand
    def _(x: Value, **params: Any) -> Value:
        return cast(computed(cast(x, COMPUTED_IN[x.dtype]), **params), x.dtype)

    return p


def _sigmoid(x: Value) -> Value:
    return reciprocal(add(exp(neg(x)), 1.0))


def _silu(x: Value) -> Value:
    return div(x, add(exp(neg(x)), 1.0))


def _gelu(x: Value, approximate: str) -> Value:
    if approximate == "tanh":
        inner = mul(math.sqrt(2 / math.pi), add(x, mul(0.044715, mul(x, mul(x, x)))))
        return mul(mul(0.5, x), add(1.0, tanh(inner)))
    return mul(mul(0.5, x), add(1.0, erf(mul(x, math.sqrt(0.5)))))


sigmoid_p = _activation("sigmoid", _sigmoid)
silu_p = _activation("silu", _silu)
gelu_p = _activation("gelu", _gelu)
relu_p = Primitive("relu")


def sigmoid(x: Operand) -> Value:
    """1 / (1 + exp(-x)).

    [m, n] -> [m, n]; floats f64; TNEG, TEXP, TADDS, TRECIP; 4 ulp of f32 or 3e-39, then one rounding
    """
    return bind("sigmoid", x)


def relu(x: Operand) -> Value:
    """max(x, 0); NaN of NaN.

    [m, n] -> [m, n]; numbers; TMAXS; exact
    """
    return bind("relu", x)


@relu_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("relu", x)
    need_dtype("relu", tile.dtype, NUMBERS)
    return Typed(tile)


@relu_p.def_expand
def _(x: Value) -> Value:
    return maximum(x, 0)


@composed
def lrelu(x: Value, slope: Operand) -> Value:
    """x where it is positive, else x * slope; NaN of NaN.

    [m, n], number -> [m, n]; numbers; TLRELU; one rounding
    """
    return _leaky("lrelu", x, slope)


@composed
def prelu(x: Value, slope: Value) -> Value:
    """x where it is positive, else x * slope, a tile of slopes: of each element, or [m, 1] or [1, n].

    [m, n], [m, n] -> [m, n]; numbers; TPRELU; one rounding
    """
    return _leaky("prelu", x, need_value("prelu", slope))


def _leaky(what: str, x: Value, slope: Operand) -> Value:
    need_dtype(what, need_value(what, x).dtype, NUMBERS, here())
    return where(gt(x, 0), x, mul(x, slope))


def gelu(x: Operand, *, approximate: str = "none") -> Value:
    """x times the normal distribution function of x: 0.5 x (1 + erf(x / sqrt(2))), or approximate="tanh".

    Source of the approximation: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.

    [m, n] -> [m, n]; floats f64; as erf or tanh, TMULS, TMUL, TADDS; 4e-7 |x|, then one rounding
    """
    if not isinstance(approximate, str) or approximate not in ("none", "tanh"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeCheckError(
            "PTO106",
            "gelu: an unknown approximation",
            values={"approximate": repr(approximate)[:80]},
            loc=here(),
            fix='write approximate="none" or approximate="tanh"',
        )
    return bind("gelu", x, approximate=approximate)


def silu(x: Operand) -> Value:
    """x / (1 + exp(-x)), also called swish.

    [m, n] -> [m, n]; floats f64; TNEG, TEXP, TADDS, TDIV; 4 ulp of f32 or 3e-37, then one rounding
    """
    return bind("silu", x)
