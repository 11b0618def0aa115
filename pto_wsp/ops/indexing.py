"""Elements by index.

An index outside of the valid rows (axis=0) or columns (axis=1) is an error of the task.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import BoundsError, TypeCheckError
from pto_wsp.ir.core import Check, Dim, DType, Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.layout import reshape
from pto_wsp.ops.memory import check_axis, check_shape, need_value
from pto_wsp.ops.rules import join, need_dtype, need_tile, same_dtype
from pto_wsp.ops.value import Value, bind, composed

gather_p = Primitive("gather", opcode=65)
scatter_p = Primitive("scatter", opcode=66)
bincount_p = Primitive("bincount", opcode=68)


def _inside(what: str, index: np.ndarray, size: int) -> np.ndarray:
    outside = (index < 0) | (index >= size)
    if outside.any():
        raise BoundsError(
            "PTO730",
            f"{what}: index {int(index[outside][0])} into {size}",
            fix=f"give indices from 0 to {size - 1}",
        )
    return index.astype(np.int64)


def _extent(t: TileType, axis: int) -> Dim:
    return (t.vrows, t.vcols)[axis]


def _tile(dtype: DType, shape: dict[int, int], valid: dict[int, Dim]) -> TileType:
    return TileType(dtype, shape[0], shape[1], valid[0], valid[1])


def _repeats(what: str, a: TileType, b: TileType, axis: int) -> tuple[int, Dim, tuple[Check, ...]]:
    """Size and valid extent of what both have, or one has for the other."""
    m, n = a.shape[axis], b.shape[axis]
    if m != n and 1 not in (m, n):
        raise TypeCheckError(
            "PTO103",
            f"{what}: {('rows', 'columns')[axis]} of tile and indices differ",
            values={"a": a, "b": b},
            fix="give as many, or one that stands for all",
        )
    if m != n:
        return (m, _extent(a, axis), ()) if n == 1 else (n, _extent(b, axis), ())
    return (m, *join(_extent(a, axis), _extent(b, axis)))


def gather(x: Value, index: Value, axis: int = 1) -> Value:
    """x[r, index[r, c]] at each [r, c]; with axis=0 x[index[r, c], c]. x or index may have one row or column for all.

    With axis=0 and index [k, 1] it takes whole rows of x.

    [m, n], i32 [m, k] -> [m, k]; all; TGATHER; exact
    """
    return bind("gather", need_value("gather", x), need_value("gather", index), axis=check_axis("gather", axis))


@gather_p.def_type
def _(params: dict[str, Any], x: Type, index: Type) -> Typed:
    x, index = need_tile("gather", x), need_tile("gather", index)
    need_dtype("gather by an index", index.dtype, (DType.I32,))
    axis = params["axis"]
    size, valid, checks = _repeats("gather", x, index, 1 - axis)
    shape = {axis: index.shape[axis], 1 - axis: size}
    return Typed(_tile(x.dtype, shape, {axis: _extent(index, axis), 1 - axis: valid}), checks)


@gather_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    axis = params["axis"]
    return operand == 1 or axis == 1, operand == 1 or axis == 0


@gather_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, index: np.ndarray) -> np.ndarray:
    axis = params["axis"]
    index = _inside("gather", index, x.shape[axis])
    shape = list(index.shape)
    shape[1 - axis] = max(x.shape[1 - axis], index.shape[1 - axis])
    x = np.broadcast_to(x, (x.shape[0], shape[1]) if axis == 0 else (shape[0], x.shape[1]))
    return np.take_along_axis(x, np.broadcast_to(index, shape), axis=axis)


@gather_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType, index: TileType) -> Expr:
    return arch.vector("gather", out)


def scatter(x: Value, index: Value, values: Value, axis: int = 1) -> Value:
    """x with values[r, c] at [r, index[r, c]]; with axis=0 at [index[r, c], c]. Of equal indices the last one counts.

    They are written row by row. With axis=0 and index [k, 1] it replaces whole rows of x.

    [m, n], i32 [m, k], [m, k] -> [m, n]; all; TSCATTER; exact
    """
    operands = [need_value("scatter", t) for t in (x, index, values)]
    return bind("scatter", *operands, axis=check_axis("scatter", axis))


@scatter_p.def_type
def _(params: dict[str, Any], x: Type, index: Type, values: Type) -> Typed:
    x, index, values = need_tile("scatter", x), need_tile("scatter", index), need_tile("scatter", values)
    need_dtype("scatter by an index", index.dtype, (DType.I32,))
    dtype = same_dtype("scatter", (x, values))
    axis = params["axis"]
    other = 1 - axis
    fits = index.shape[axis] == values.shape[axis] and index.shape[other] in (1, values.shape[other])
    if not fits or values.shape[other] != x.shape[other]:
        raise TypeCheckError(
            "PTO103",
            "scatter: shapes do not fit",
            values={"x": x, "index": index, "values": values},
            fix="give an index for each value, and values with the other dimension of x",
        )
    _, _, checks = _repeats("scatter", values, index, other)
    _, more = join(_extent(values, axis), _extent(index, axis))
    valid, rest = join(_extent(x, other), _extent(values, other))
    return Typed(_tile(dtype, {0: x.rows, 1: x.cols}, {axis: _extent(x, axis), other: valid}), checks + more + rest)


@scatter_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    axis = params["axis"]
    return operand == 0 or axis == 1, operand == 0 or axis == 0


@scatter_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = x.copy()
    axis = params["axis"]
    n = min(index.shape[axis], values.shape[axis])  # one may be defined everywhere
    index = _inside("scatter", index[:n] if axis == 0 else index[:, :n], x.shape[axis])
    values = values[:n] if axis == 0 else values[:, :n]
    index = np.broadcast_to(index, values.shape)
    for r, c in np.ndindex(values.shape):
        out[(index[r, c], c) if axis == 0 else (r, index[r, c])] = values[r, c]
    return out


@scatter_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType, index: TileType, values: TileType) -> Expr:
    return arch.vector("copy", x) + arch.vector("scatter", values)


@composed
def take(x: Value, index: Value) -> Value:
    """The elements of x by their numbers, counted row by row from 0.

    [m, n], i32 [p, q] -> [p, q]; all; MGATHER; exact
    """
    tile, where = need_value("take", x), need_value("take", index)
    return reshape(gather(_in_a_row("take", tile), _in_a_row("take", where)), where.shape)


@composed
def put(x: Value, index: Value, values: Value) -> Value:
    """x with `values` at the elements of these numbers, counted row by row from 0. Of equal numbers the last one counts.

    [m, n], i32 [p, q], [p, q] -> [m, n]; all; MSCATTER; exact
    """
    tile, where, given = (need_value("put", t) for t in (x, index, values))
    row = _in_a_row("put", tile)
    return reshape(scatter(row, _in_a_row("put", where), _in_a_row("put", given)), tile.shape)


def _in_a_row(what: str, x: Value) -> Value:
    tile = need_tile(what, x.type)
    return reshape(x, (1, tile.rows * tile.cols))


def bincount(x: Value, n: int) -> Value:
    """How many elements of x are 0, 1, ..., n - 1. Another number among them is an error of the task.

    i32 [m, k] -> [1, n]; i32; TGATHER, TADDS, TSCATTER (newer PTO-ISA: THISTOGRAM); exact
    """
    _, cols = check_shape("bincount", (1, n))
    return bind("bincount", need_value("bincount", x), cols=cols)


@bincount_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("bincount", x)
    need_dtype("bincount", tile.dtype, (DType.I32,))
    return Typed(TileType(DType.I32, 1, params["cols"]))


@bincount_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return False, False


@bincount_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    n = params["cols"]
    return np.bincount(_inside("bincount", x, n).ravel(), minlength=n).astype(np.int32)[None]


@bincount_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.vector("full", out) + arch.vector("gather", x) + arch.vector("add", x) + arch.vector("scatter", x)
