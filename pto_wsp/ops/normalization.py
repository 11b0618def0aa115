"""Normalisation of rows.

Over valid columns only. These are compositions: on f16 and bf16 they compute in f32 and round once at the end.
"""

from __future__ import annotations

import math
from typing import Any

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import Check, Primitive, TileType, Type, Typed
from pto_wsp.ops.arithmetic import add, div, mul, sub
from pto_wsp.ops.conversion import cast
from pto_wsp.ops.functions import exp, rsqrt
from pto_wsp.ops.memory import need_value
from pto_wsp.ops.reduction import rowmax, rowmean, rowsum
from pto_wsp.ops.rules import COMPUTED_IN, WITH_F64, join, need_dtype, need_tile, same_dtype
from pto_wsp.ops.value import Operand, Value, bind

softmax_p = Primitive("softmax")
rmsnorm_p = Primitive("rmsnorm")
layernorm_p = Primitive("layernorm")


def softmax(x: Operand) -> Value:
    """exp(x - max) / sum(exp(x - max)) over the valid columns of each row; NaN for a row that is all -inf.

    [m, n] -> [m, n]; floats f64; TROWMAX, TROWEXPANDSUB, TEXP, TROWSUM, TROWEXPANDDIV;
    (n/16 + 8 + |x - max|) roundings of f32, then one
    """
    return bind("softmax", x)


@softmax_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("softmax", x)
    need_dtype("softmax", tile.dtype, WITH_F64)
    return Typed(tile)


@softmax_p.def_expand
def _(x: Value) -> Value:
    wide = cast(x, COMPUTED_IN[x.dtype])
    e = exp(sub(wide, rowmax(wide)))
    return cast(div(e, rowsum(e)), x.dtype)


def _check_eps(what: str, eps: object) -> float:
    if not isinstance(eps, (int, float)) or isinstance(eps, bool) or not math.isfinite(eps) or eps < 0:
        raise TypeCheckError(
            "PTO106",
            f"{what}: eps is a Python number >= 0",
            values={"eps": repr(eps)[:80]},
            loc=here(),
            fix="give a small number such as 1e-6",
        )
    return float(eps)


def _normalized(what: str, x: Type, vectors: tuple[Type, ...]) -> Typed:
    """The type of x, normalised and combined with row vectors [1, cols]."""
    tile = need_tile(what, x)
    need_dtype(what, tile.dtype, WITH_F64)
    vcols, checks = tile.vcols, tuple[Check, ...]()
    for v in vectors:
        same_dtype(what, (x, v))
        if need_tile(what, v).shape != (1, tile.cols):
            raise TypeCheckError(
                "PTO108",
                f"{what} needs a row vector [1, {tile.cols}]",
                values={"x": x, "vector": v},
                fix=f"give a tile of 1x{tile.cols}: one number for each column",
            )
        vcols, more = join(vcols, need_tile(what, v).vcols)
        checks += more
    return Typed(TileType(tile.dtype, tile.rows, tile.cols, tile.vrows, vcols), checks)


def rmsnorm(x: Value, gamma: Value | None = None, eps: float = 1e-6) -> Value:
    """x / sqrt(mean(x^2) + eps) over the valid columns of each row, times gamma if given.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.

    [m, n] (, [1, n]) -> [m, n]; floats f64; TMUL, TROWSUM, TDIVS, TADDS, TRSQRT, TROWEXPANDMUL,
    TCOLEXPANDMUL; (n/32 + 8) roundings of f32, then one, where the sum of x^2 is below 3.4e38 and mean(x^2) + eps above 1.2e-38
    (of f64: 1.7e308, 2.3e-308)
    """
    vectors = [] if gamma is None else [need_value("rmsnorm", gamma)]
    return bind("rmsnorm", need_value("rmsnorm", x), *vectors, eps=_check_eps("rmsnorm", eps))


@rmsnorm_p.def_type
def _(params: dict[str, Any], x: Type, *gamma: Type) -> Typed:
    return _normalized("rmsnorm", x, gamma)


@rmsnorm_p.def_expand
def _(x: Value, *gamma: Value, eps: float) -> Value:
    wide = cast(x, COMPUTED_IN[x.dtype])
    y = mul(wide, rsqrt(add(rowmean(mul(wide, wide)), eps)))
    for g in gamma:
        y = mul(y, cast(g, wide.dtype))
    return cast(y, x.dtype)


def layernorm(x: Value, gamma: Value | None = None, beta: Value | None = None, eps: float = 1e-5) -> Value:
    """(x - mean) / sqrt(variance + eps) over the valid columns of each row, times gamma, plus beta, where given.

    Source: Ba, Kiros and Hinton, Layer Normalization, 2016. The variance is the mean of (x - mean)^2.

    [m, n] (, [1, n], [1, n]) -> [m, n]; floats f64; TROWSUM, TDIVS, TROWEXPANDSUB, TMUL, TADDS, TRSQRT,
    TROWEXPANDMUL, TCOLEXPANDMUL, TCOLEXPANDADD; (n/8 + 12) roundings of f32 of
    the largest |x| over the deviation, then one, where the sums of |x| and of (x - mean)^2 are below 3.4e38 and variance + eps above
    1.2e-38 (of f64: 1.7e308, 2.3e-308)
    """
    vectors = [need_value("layernorm", v) for v in (gamma, beta) if v is not None]
    return bind(
        "layernorm",
        need_value("layernorm", x),
        *vectors,
        eps=_check_eps("layernorm", eps),
        gamma=gamma is not None,
        beta=beta is not None,
    )


@layernorm_p.def_type
def _(params: dict[str, Any], x: Type, *vectors: Type) -> Typed:
    return _normalized("layernorm", x, vectors)


@layernorm_p.def_expand
def _(x: Value, *vectors: Value, eps: float, gamma: bool, beta: bool) -> Value:
    wide = cast(x, COMPUTED_IN[x.dtype])
    centred = sub(wide, rowmean(wide))
    y = mul(centred, rsqrt(add(rowmean(mul(centred, centred)), eps)))
    if gamma:
        y = mul(y, cast(vectors[0], wide.dtype))
    if beta:
        y = add(y, cast(vectors[-1], wide.dtype))
    return cast(y, x.dtype)
