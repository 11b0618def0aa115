"""Reductions of rows and columns.

Over valid elements only. f16 and bf16 are reduced in f32, with one rounding at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import here
from pto_wsp.ir.core import DType, Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.arithmetic import div
from pto_wsp.ops.comparison import eq
from pto_wsp.ops.conversion import cast
from pto_wsp.ops.elementwise import quiet, wide
from pto_wsp.ops.memory import need_value
from pto_wsp.ops.rules import COMPUTED_IN, NUMBERS, WITH_F64, need_dtype, need_tile
from pto_wsp.ops.value import Operand, Value, bind, composed


def _sum(x: np.ndarray, axis: int) -> np.ndarray:
    return 0 + x.sum(axis=axis, keepdims=True)  # from +0: a sum is never -0


def _max(x: np.ndarray, axis: int) -> np.ndarray:
    m = x.max(axis=axis, keepdims=True)
    if x.dtype.kind != "f":
        return m
    has_plus_zero = ((x == 0) & ~np.signbit(x)).any(axis=axis, keepdims=True)
    return np.where(m == 0, np.where(has_plus_zero, 0.0, -0.0), m)


def _min(x: np.ndarray, axis: int) -> np.ndarray:
    return -_max(-x, axis) if x.dtype.kind == "f" else x.min(axis=axis, keepdims=True)


def _prod(x: np.ndarray, axis: int) -> np.ndarray:
    return x.prod(axis=axis, keepdims=True)


def _reduced(x: TileType, axis: int, dtype: DType) -> TileType:
    """x with one row (axis 0) or one column (axis 1)."""
    return TileType(dtype, x.rows, 1, x.vrows, 1) if axis == 1 else TileType(dtype, 1, x.cols, 1, x.vcols)


def _reduction(name: str, opcode: int, axis: int, reference: Callable[[np.ndarray, int], np.ndarray]) -> Primitive:
    p = Primitive(name, opcode=opcode)

    @p.def_type
    def _(params: dict[str, Any], x: Type) -> Typed:
        tile = need_tile(name, x)
        need_dtype(name, tile.dtype, NUMBERS)
        return Typed(_reduced(tile, axis, tile.dtype))

    @p.def_reference
    @quiet
    def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return reference(wide(x), axis)

    @p.def_cost
    def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
        return arch.reduce_rows(name, x) if axis == 1 else arch.reduce_cols(name, x)

    return p


rowsum_p = _reduction("rowsum", 50, 1, _sum)
rowmax_p = _reduction("rowmax", 51, 1, _max)
rowmin_p = _reduction("rowmin", 52, 1, _min)
rowprod_p = _reduction("rowprod", 53, 1, _prod)
colsum_p = _reduction("colsum", 54, 0, _sum)
colmax_p = _reduction("colmax", 55, 0, _max)
colmin_p = _reduction("colmin", 56, 0, _min)
colprod_p = _reduction("colprod", 57, 0, _prod)


def _count(name: str, opcode: int, axis: int) -> Primitive:
    """How many valid columns (axis 1) or rows (axis 0) the operand has, in every element of the reduced shape."""
    p = Primitive(name, opcode=opcode)

    @p.def_type
    def _(params: dict[str, Any], x: Type) -> Typed:
        tile = need_tile(name, x)
        need_dtype(name, tile.dtype, (DType.F32, DType.F64))
        return Typed(_reduced(tile, axis, tile.dtype))

    @p.def_reference
    def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return np.full((x.shape[0], 1) if axis == 1 else (1, x.shape[1]), float(x.shape[axis]))

    @p.def_cost
    def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
        return arch.vector(name, out)

    return p


count_cols_p = _count("count_cols", 58, 1)
count_rows_p = _count("count_rows", 59, 0)


def _mean(name: str, axis: int, total: str, count: str) -> Primitive:
    p = Primitive(name)

    @p.def_type
    def _(params: dict[str, Any], x: Type) -> Typed:
        tile = need_tile(name, x)
        need_dtype(name, tile.dtype, WITH_F64)
        return Typed(_reduced(tile, axis, tile.dtype))

    @p.def_expand
    def _(x: Value) -> Value:
        wide_x = cast(x, COMPUTED_IN[x.dtype])
        return cast(div(bind(total, wide_x), bind(count, wide_x)), x.dtype)

    return p


rowmean_p = _mean("rowmean", 1, "rowsum", "count_cols")
colmean_p = _mean("colmean", 0, "colsum", "count_rows")


def rowsum(x: Operand) -> Value:
    """The sum of each row; integers wrap.

    [m, n] -> [m, 1]; numbers; TROWSUM; (n/16 + 4) roundings of f32, then one
    """
    return bind("rowsum", x)


def rowmax(x: Operand) -> Value:
    """The largest element of each row; NaN if one is NaN.

    [m, n] -> [m, 1]; numbers; TROWMAX; exact
    """
    return bind("rowmax", x)


def rowmin(x: Operand) -> Value:
    """The smallest element of each row; NaN if one is NaN.

    [m, n] -> [m, 1]; numbers; TROWMIN; exact
    """
    return bind("rowmin", x)


def rowprod(x: Operand) -> Value:
    """The product of each row; integers wrap. Column c goes into product c % 16, and of these i + 8 into i, then 4, 2 and 1.

    [m, n] -> [m, 1]; numbers; TROWPROD; n roundings of f32, then one, where none of these products overflows or underflows f32 (of f64: f64)
    """
    return bind("rowprod", x)


def rowmean(x: Operand) -> Value:
    """The mean over the valid columns of each row.

    [m, n] -> [m, 1]; floats f64; TROWSUM, TDIVS; as rowsum, and one rounding
    """
    return bind("rowmean", x)


def colsum(x: Operand) -> Value:
    """The sum of each column; integers wrap.

    [m, n] -> [1, n]; numbers; TCOLSUM; (m/4 + 2) roundings of f32, then one
    """
    return bind("colsum", x)


def colmax(x: Operand) -> Value:
    """The largest element of each column; NaN if one is NaN.

    [m, n] -> [1, n]; numbers; TCOLMAX; exact
    """
    return bind("colmax", x)


def colmin(x: Operand) -> Value:
    """The smallest element of each column; NaN if one is NaN.

    [m, n] -> [1, n]; numbers; TCOLMIN; exact
    """
    return bind("colmin", x)


def colprod(x: Operand) -> Value:
    """The product of each column; integers wrap. Row r goes into product r % 4, and of these 2 into 0, 3 into 1, then 1 into 0.

    [m, n] -> [1, n]; numbers; TCOLPROD; m roundings of f32, then one, where none of these products overflows or underflows f32 (of f64: f64)
    """
    return bind("colprod", x)


def colmean(x: Operand) -> Value:
    """The mean over the valid rows of each column.

    [m, n] -> [1, n]; floats f64; TCOLSUM, TDIVS; as colsum, and one rounding
    """
    return bind("colmean", x)


def _of_bool(what: str, reduction: str, x: Operand) -> Value:
    value = need_value(what, x)
    need_dtype(what, value.dtype, (DType.BOOL,), here())
    return eq(bind(reduction, cast(value, DType.U8)), 1)


@composed
def rowany(x: Operand) -> Value:
    """Whether one element of each row is true.

    [m, n] -> [m, 1]; bool; TCVT, TROWMAX, TCMPS; exact
    """
    return _of_bool("rowany", "rowmax", x)


@composed
def rowall(x: Operand) -> Value:
    """Whether all elements of each row are true.

    [m, n] -> [m, 1]; bool; TCVT, TROWMIN, TCMPS; exact
    """
    return _of_bool("rowall", "rowmin", x)


@composed
def colany(x: Operand) -> Value:
    """Whether one element of each column is true.

    [m, n] -> [1, n]; bool; TCVT, TCOLMAX, TCMPS; exact
    """
    return _of_bool("colany", "colmax", x)


@composed
def colall(x: Operand) -> Value:
    """Whether all elements of each column are true.

    [m, n] -> [1, n]; bool; TCVT, TCOLMIN, TCMPS; exact
    """
    return _of_bool("colall", "colmin", x)
