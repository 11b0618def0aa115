"""Conversion between dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.ir.core import DType, Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scalars import SCALAR_DTYPES
from pto_wsp.ops.elementwise import quiet, wide
from pto_wsp.ops.memory import check_dtype, need_value
from pto_wsp.ops.rules import need_tile
from pto_wsp.ops.scalars import cast as cast_of_scalar
from pto_wsp.ops.value import Value, bind, is_scalar

cast_p = Primitive("cast", opcode=6)


def cast(x: Value, dtype: DType) -> Value:
    """x in another dtype. Floats to i32: towards zero, saturating, NaN gives 0; to bool: x != 0; bool gives 0 and 1.

    A scalar may also become I64, U64, F64 or BOOL: floats toward zero, a BoundsError of the task where it does not fit.

    [m, n] -> [m, n]; f32 f16 bf16 i32 bool; TCVT; one rounding to nearest even
    """
    if is_scalar(x) and dtype in SCALAR_DTYPES:
        return Value(x.builder, cast_of_scalar(x.builder, x.read(), dtype))
    if is_scalar(x):
        return Value(x.builder, cast_of_scalar(x.builder, x.read(), check_dtype("cast", dtype)))
    need_value("cast", x)
    if check_dtype("cast", dtype) is x.dtype:
        return Value(x.builder, x.read())
    return bind("cast", x, dtype=None, to=dtype)


@cast_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("cast", x)
    return Typed(TileType(params["to"], tile.rows, tile.cols, tile.vrows, tile.vcols))


@cast_p.def_reference
@quiet
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    x = wide(x)
    to: DType = params["to"]
    if to is DType.BOOL:
        return x != 0
    if to is DType.I32 and x.dtype.kind == "f":
        return np.clip(np.trunc(np.nan_to_num(x, nan=0.0)), -(2.0**31), 2.0**31 - 1).astype(np.int32)
    return x.astype(np.int32 if to is DType.I32 else np.float64)


@cast_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.vector("cast", out if out.dtype.itemsize >= x.dtype.itemsize else x)
