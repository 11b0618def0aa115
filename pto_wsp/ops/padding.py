"""Tiles beyond their valid shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TypeCheckError
from pto_wsp.ir.core import Primitive, ScalarType, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.memory import check_shape, need_value
from pto_wsp.ops.rules import need_tile, same_dtype
from pto_wsp.ops.value import Operand, Value, bind

fill_pad_p = Primitive("fill_pad", opcode=91)


def fill_pad(x: Value, value: Operand, shape: tuple[int, int] | None = None) -> Value:
    """x with `value` wherever x is not valid, whole; in a larger tile where a shape says so.

    [m, n] -> [m, n] or shape; all; TFILLPAD, TFILLPAD_INPLACE, TFILLPAD_EXPAND; exact
    """
    tile = need_value("fill_pad", x)
    rows, cols = tile.shape if shape is None else check_shape("fill_pad", shape)
    return bind("fill_pad", tile, value, rows=rows, cols=cols)


@fill_pad_p.def_type
def _(params: dict[str, Any], x: Type, value: Type) -> Typed:
    tile = need_tile("fill_pad", x)
    same_dtype("fill_pad", (x, value))
    if not isinstance(value, ScalarType):
        raise TypeCheckError(
            "PTO105",
            "fill_pad with a tile",
            values={"value": value},
            fix="give a number or a scalar; pto.where chooses between tiles",
        )
    rows, cols = params["rows"], params["cols"]
    if rows < tile.rows or cols < tile.cols:
        raise TypeCheckError(
            "PTO103",
            f"fill_pad: {rows}x{cols} is smaller than the tile",
            values={"x": x},
            fix="give a shape of at least as many rows and columns; pto.slice takes a part",
        )
    return Typed(TileType(tile.dtype, rows, cols))


@fill_pad_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return False, False


@fill_pad_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, value: np.ndarray) -> np.ndarray:
    out = np.full((params["rows"], params["cols"]), value, x.dtype)
    out[: x.shape[0], : x.shape[1]] = x
    return out


@fill_pad_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType, value: Type) -> Expr:
    return arch.vector("full", out) + arch.vector("copy", x)
