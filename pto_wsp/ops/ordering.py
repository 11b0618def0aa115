"""Order within rows and columns, and running sums.

In the order of elements NaN comes first, -0 equals +0, and of equal elements the one with the lower index comes first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import DType, Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.elementwise import quiet, wide
from pto_wsp.ops.layout import transpose
from pto_wsp.ops.memory import check_axis, need_value
from pto_wsp.ops.rules import NUMBERS, at_least, need_dtype, need_tile
from pto_wsp.ops.value import Value, bind, composed

cumsum_p = Primitive("cumsum", opcode=67)
extract_topk_indices_p = Primitive("extract_topk_indices", opcode=71)
topk_values_p = Primitive("topk_values", opcode=72)


def _order(x: np.ndarray, *, smallest_first: bool) -> np.ndarray:
    """Column numbers of each row, in order."""
    x = wide(x)
    if x.dtype.kind != "f":
        return np.argsort(x if smallest_first else ~x, axis=1, kind="stable")
    missing = np.isnan(x)
    key = np.where(missing, 0, x if smallest_first else -x)
    return np.lexsort((key, ~missing), axis=1)


@composed
def topk(x: Value, k: int) -> tuple[Value, Value]:
    """The k largest elements of each row and the columns they stand in, a pair of tiles, largest first, in the order above. Rows with
    fewer than k valid columns are an error of the task.

    [m, n] -> [m, k], i32 [m, k]; numbers; TSORT32, TMRGSORT; exact
    """
    index = _largest("topk", x, k)
    return bind("topk_values", x, index), index


def extract_topk_indices(x: Value, k: int) -> Value:
    """The columns of the k largest elements of each row, as the second result of `topk`.

    [m, n] -> i32 [m, k]; numbers; TSORT32, TMRGSORT; exact
    """
    return _largest("extract_topk_indices", x, k)


def _largest(what: str, x: Value, k: int) -> Value:
    n = need_value(what, x).shape[1]
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not 1 <= k <= n:
        raise TypeCheckError(
            "PTO106",
            f"{what} of {n} columns",
            values={"k": repr(k)[:80]},
            loc=here(),
            fix=f"k is a Python integer from 1 to {n}",
        )
    need_dtype(what, x.dtype, NUMBERS, here())
    return bind("extract_topk_indices", x, cols=int(k), valid=int(k))


@extract_topk_indices_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    """params cols: how many; valid: how many columns x must have, 1 where those that are missing are -1."""
    tile = need_tile("topk", x)
    need_dtype("topk", tile.dtype, NUMBERS)
    if not 1 <= params["valid"] <= params["cols"] <= tile.cols:
        raise TypeCheckError("PTO106", f"topk of {tile.cols} columns", values=params, fix="take as many as there are")
    checks = at_least(tile.vcols, params["valid"]) if params["valid"] > 1 else ()
    return Typed(TileType(DType.I32, tile.rows, params["cols"], tile.vrows), checks)


@extract_topk_indices_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return True, False


@extract_topk_indices_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    first = _order(x, smallest_first=False)[:, : params["cols"]]
    return np.pad(first, ((0, 0), (0, params["cols"] - first.shape[1])), constant_values=-1).astype(np.int32)


@extract_topk_indices_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    pairs = TileType(DType.F32, x.rows, x.cols, x.vrows, x.vcols)  # whatever the dtype: a value and an index
    merges = math.ceil(math.log(max(x.cols / 32, 1), 4))  # four runs into one, from runs of 32
    return arch.vector("sort32", pairs) + arch.vector("merge_sort", pairs) * merges


@topk_values_p.def_type
def _(params: dict[str, Any], x: Type, index: Type) -> Typed:
    """The elements of x that index names; -inf, or the smallest integer, where it is -1."""
    x, index = need_tile("topk", x), need_tile("topk", index)
    need_dtype("topk", x.dtype, NUMBERS)
    need_dtype("topk by an index", index.dtype, (DType.I32,))
    if index.rows != x.rows or index.vrows != x.vrows:
        raise TypeCheckError("PTO103", "topk: rows differ", values={"x": x, "index": index}, fix="give equal rows")
    return Typed(TileType(x.dtype, x.rows, index.cols, x.vrows, index.vcols))


@topk_values_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return True, operand == 1


@topk_values_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, index: np.ndarray) -> np.ndarray:
    least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -math.inf
    there = (index >= 0) & (index < x.shape[1])
    return np.where(there, np.take_along_axis(wide(x), np.where(there, index, 0), axis=1), least)


@topk_values_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType, index: TileType) -> Expr:
    return arch.vector("every_second", out)


def _arg(name: str, opcode: int, *, smallest_first: bool) -> Primitive:
    p = Primitive(name, opcode=opcode)

    @p.def_type
    def _(params: dict[str, Any], x: Type) -> Typed:
        tile = need_tile(name, x)
        need_dtype(name, tile.dtype, NUMBERS)
        return Typed(TileType(DType.I32, tile.rows, 1, tile.vrows))

    @p.def_follows
    def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
        return True, False

    @p.def_reference
    def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return _order(x, smallest_first=smallest_first)[:, :1].astype(np.int32)

    @p.def_cost
    def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
        return arch.reduce_rows("rowmin" if smallest_first else "rowmax", x)

    return p


rowargmax_p = _arg("rowargmax", 69, smallest_first=False)
rowargmin_p = _arg("rowargmin", 70, smallest_first=True)


def rowargmax(x: Value) -> Value:
    """The column of the largest element of each row, in the order above.

    [m, n] -> i32 [m, 1]; numbers; TROWMAX, TCMP (newer PTO-ISA: TROWARGMAX); exact
    """
    return bind("rowargmax", need_value("rowargmax", x))


def rowargmin(x: Value) -> Value:
    """The column of the smallest element of each row; of NaN, if there is one.

    [m, n] -> i32 [m, 1]; numbers; TROWMIN, TCMP (newer PTO-ISA: TROWARGMIN); exact
    """
    return bind("rowargmin", need_value("rowargmin", x))


@composed
def colargmax(x: Value) -> Value:
    """The row of the largest element of each column, in the order above.

    [m, n] -> i32 [1, n]; numbers; TTRANS, TROWMAX, TCMP (newer PTO-ISA: TCOLARGMAX); exact
    """
    return transpose(rowargmax(transpose(x)))


@composed
def colargmin(x: Value) -> Value:
    """The row of the smallest element of each column; of NaN, if there is one.

    [m, n] -> i32 [1, n]; numbers; TTRANS, TROWMIN, TCMP (newer PTO-ISA: TCOLARGMIN); exact
    """
    return transpose(rowargmin(transpose(x)))


def cumsum(x: Value, axis: int = 1) -> Value:
    """Sums up to and with each element, along each row (axis=1) or down each column (axis=0); integers wrap.

    One chain of additions from +0; of f16 and bf16 in f32, each sum rounded once.

    [m, n] -> [m, n]; numbers; TADD; n roundings of f32 (m with axis=0), then one
    """
    return bind("cumsum", need_value("cumsum", x), axis=check_axis("cumsum", axis))


@cumsum_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("cumsum", x)
    need_dtype("cumsum", tile.dtype, NUMBERS)
    return Typed(tile)


@cumsum_p.def_reference
@quiet
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return 0 + np.cumsum(wide(x), axis=params["axis"])


@cumsum_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.vector("add", x) * max((x.rows, x.cols)[params["axis"]] - 1, 1).bit_length()
