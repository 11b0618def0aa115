"""Conversion between dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.build import current_kernel
from pto_wsp.ir.core import DType, Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scalars import RANGES, SCALAR_DTYPES
from pto_wsp.ops.elementwise import quiet, wide
from pto_wsp.ops.memory import check_dtype, need_value
from pto_wsp.ops.rules import need_tile
from pto_wsp.ops.scalars import cast as cast_of_scalar
from pto_wsp.ops.value import Value, bind, is_scalar, same, var_of

ROUNDINGS = ("rint", "round", "floor", "ceil", "trunc", "odd")
"""To nearest even, to nearest with halves away from zero, down, up, towards zero, to the odd neighbour: by their number in plans."""

cast_p = Primitive("cast", opcode=6)
cast_as_p = Primitive("cast_as", opcode=100)


def cast(x: Value, dtype: DType, rounding: str | None = None, saturate: bool | None = None) -> Value:
    """x in another dtype. rounding: "rint" (floats by default), "round", "floor", "ceil", "trunc" (floats to integers by default) or
    "odd". saturate: what is too large becomes the largest, or smallest, number of the dtype (floats to integers by default);
    without it integers wrap, floats become infinite, of f8e4m3 NaN. A float beyond 64 bits (for unsigned dtypes: beyond -2^63 ..
    2^64 - 1) saturates to 64 bits first, and then wraps. NaN as an integer is 0; to bool: x != 0; bool gives 0 and 1.
    Scalars are cast to I64, U64, F64, BOOL and to the dtypes of tiles, without options.

    Raises TypeCheckError for another rounding, and for a rounding of integers or of bool.

    [m, n] -> [m, n]; all; TCVT; one rounding
    """
    if is_scalar(x) and rounding is None and saturate is None:
        to = dtype if dtype in SCALAR_DTYPES else check_dtype("cast", dtype)
        builder = current_kernel("cast")
        return Value(builder, cast_of_scalar(builder, var_of(x, builder, "cast"), to))
    value = need_value("cast", x)
    to = check_dtype("cast", dtype)
    if rounding is None and saturate is None:
        return same("cast", value) if to is value.dtype else bind("cast", value, dtype=None, to=to)
    integer = value.dtype.is_float and to.is_integer
    known = rounding is None or (isinstance(rounding, str) and rounding in ROUNDINGS)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not known or (rounding is not None and (not value.dtype.is_float or to is DType.BOOL)):
        raise TypeCheckError(
            "PTO106",
            f"cast of {value.dtype} to {to} with rounding {repr(rounding)[:80]}",
            values={"there is": ", ".join(ROUNDINGS)},
            loc=here(),
            fix="floats are rounded in one of these ways; integers and bool take none",
        )
    if saturate is not None and (not isinstance(saturate, bool) or DType.BOOL in (to, value.dtype)):
        raise TypeCheckError(
            "PTO106",
            f"cast of {value.dtype} to {to} with saturate {repr(saturate)[:80]}",
            loc=here(),
            fix="give True or False, for numbers",
        )
    mode = rounding or ("trunc" if integer else "rint")
    return bind("cast_as", value, dtype=None, to=to, rounding=mode, saturate=integer if saturate is None else saturate)


def _type(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("cast", x)
    return Typed(TileType(params["to"], tile.rows, tile.cols, tile.vrows, tile.vcols))


@cast_as_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    if params["rounding"] not in ROUNDINGS or not isinstance(params["saturate"], bool):
        raise TypeError("cast_as has a rounding and a flag")
    return _type(params, x)


cast_p.def_type(_type)


def _whole(x: np.ndarray, rounding: str) -> np.ndarray:
    """To integers, in float64."""
    match rounding:
        case "rint":
            return np.rint(x)
        case "round":
            down = np.trunc(x)
            return np.where(np.abs(x - down) < 0.5, down, down + np.copysign(1.0, x))
        case "floor":
            return np.floor(x)
        case "ceil":
            return np.ceil(x)
        case "trunc":
            return np.trunc(x)
        case _:
            down = np.trunc(x)
            return np.where((down == x) | (np.fmod(down, 2) != 0), down, down + np.copysign(1.0, x))


def _to_integer(x: np.ndarray, to: DType, rounding: str, saturate: bool) -> np.ndarray:
    whole = _whole(np.where(np.isnan(x), 0.0, x), rounding)
    if saturate or not to.is_unsigned:
        return _nearest(whole, to if saturate else DType.I64)
    return np.where(whole < 0, _nearest(whole, DType.I64).view(np.uint64), _nearest(whole, DType.U64))


def _nearest(whole: np.ndarray, to: DType) -> np.ndarray:
    """Whole numbers of float64 in 64 bits: the nearest that `to` has."""
    low, high = RANGES[to]
    inside = np.where((whole > low) & (whole < high), whole, 0.0)
    kind = np.uint64 if to.is_unsigned else np.int64
    out = inside.astype(kind)
    out = np.where(whole >= float(high), kind(high), out)
    return np.where(whole <= float(low), kind(low), out)


def _to_float(x: np.ndarray, to: DType, rounding: str, saturate: bool) -> np.ndarray:
    import ml_dtypes  # it costs a tenth of the import time

    info = ml_dtypes.finfo(to.numpy)
    largest = float(info.max)
    out = x
    if rounding != "rint" and to is not DType.F64:
        _, exponent = np.frexp(x)
        last = np.maximum(exponent - 1, int(info.minexp)) - int(info.nmant)
        out = np.copysign(np.ldexp(_whole(np.ldexp(x, -last), rounding), last), x)
        out = np.where(np.isfinite(x) & (x != 0), out, x)
    if not saturate:
        return out
    # what rounds to the largest number or beyond it is that
    near = np.clip(out, -largest, largest)
    return np.where(np.isnan(x), x, near)


@cast_p.def_reference
@quiet
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    to: DType = params["to"]
    integer = wide(x).dtype.kind == "f" and to.is_integer
    return _cast(x, to, "trunc" if integer else "rint", integer)


@cast_as_p.def_reference
@quiet
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return _cast(x, params["to"], params["rounding"], params["saturate"])


def _cast(x: np.ndarray, to: DType, rounding: str, saturate: bool) -> np.ndarray:
    x = wide(x)
    if to is DType.BOOL:
        return x != 0
    if x.dtype.kind == "f":
        return _to_integer(x, to, rounding, saturate) if to.is_integer else _to_float(x, to, rounding, saturate)
    if to.is_integer:
        if saturate and x.dtype.kind != "b":
            low, high = RANGES[to]
            info = np.iinfo(x.dtype)
            x = np.clip(x, x.dtype.type(max(low, int(info.min))), x.dtype.type(min(high, int(info.max))))
        return x
    exact = x.astype(np.float64)
    if x.dtype.kind in "iu" and to is not DType.F64:
        # float64 would be a rounding of its own: of integers beyond its 53 bits, bit 11 says whether there is more below
        low, bit = x.dtype.type(0x7FF), x.dtype.type(0x800)
        kept = (x & ~low) | np.where(x & low != 0, bit, x.dtype.type(0))
        exact = np.where(np.abs(exact) >= 2.0**53, kept.astype(np.float64), exact)
    return _to_float(exact, to, "rint", saturate)


def _cost(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.vector("cast", out if out.dtype.itemsize >= x.dtype.itemsize else x)


cast_p.def_cost(_cost)
cast_as_p.def_cost(_cost)
