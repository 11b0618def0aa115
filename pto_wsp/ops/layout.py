"""Parts, joins and other arrangements of tiles.

What is cut, joined or reshaped must be valid as a whole; what is left as it is may be a tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import Check, Dim, Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.memory import check_axis, check_shape, need_value
from pto_wsp.ops.rules import at_least, join, need_tile, same_dtype
from pto_wsp.ops.value import Value, bind, composed

slice_p = Primitive("slice", opcode=60)
concat_p = Primitive("concat", opcode=61)
transpose_p = Primitive("transpose", opcode=62)
reshape_p = Primitive("reshape", opcode=63)
interleave_p = Primitive("interleave", opcode=64)


def _range(which: str, part: object, size: int) -> tuple[int, int]:
    if part is None:
        return 0, size
    ok = (
        isinstance(part, Sequence)
        and len(part) == 2
        and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in part)
        and 0 <= part[0] < part[1] <= size
    )
    if not ok:
        raise TypeCheckError(
            "PTO106",
            f"slice: {which} are not a part of 0 .. {size}",
            values={which: repr(part)[:80]},
            loc=here(),
            fix=f"give a pair of Python integers (start, stop), 0 <= start < stop <= {size}",
        )
    return int(part[0]), int(part[1])  # type: ignore[index]


def slice(x: Value, rows: Sequence[int] | None = None, cols: Sequence[int] | None = None) -> Value:
    """The rows and columns of x from start up to, without, stop. rows, cols: a pair (start, stop), or None for all.

    [m, n] -> [stop - start, ...]; all; TEXTRACT; exact
    """
    m, n = need_value("slice", x).shape
    top, bottom = _range("rows", rows, m)
    left, right = _range("cols", cols, n)
    return bind("slice", x, row=top, col=left, step=1, rows=bottom - top, cols=right - left)


@composed
def slice_even(x: Value) -> Value:
    """Columns 0, 2, 4, ... of x.

    [m, n] -> [m, n / 2]; all; TGATHER P0101; exact
    """
    return _every_second("slice_even", x, 0)


@composed
def slice_odd(x: Value) -> Value:
    """Columns 1, 3, 5, ... of x.

    [m, n] -> [m, n / 2]; all; TGATHER P1010; exact
    """
    return _every_second("slice_odd", x, 1)


def _every_second(what: str, x: Value, first: int) -> Value:
    m, n = need_value(what, x).shape
    if n % 2:
        raise TypeCheckError(
            "PTO103",
            f"{what} of an odd number of columns",
            values={"x": x.type},
            loc=here(),
            fix="give a tile with an even number of columns",
        )
    return bind("slice", x, row=0, col=first, step=2, rows=m, cols=n // 2)


@slice_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    """params row, col: where it starts; step: of columns; rows, cols: how many."""
    tile = need_tile("slice", x)
    valid: list[Dim] = []
    checks: tuple[Check, ...] = ()
    for start, step, size, whole, have in (
        (params["row"], 1, params["rows"], tile.rows, tile.vrows),
        (params["col"], params["step"], params["cols"], tile.cols, tile.vcols),
    ):
        stop = start + (size - 1) * step + 1
        if start < 0 or step < 1 or size < 1 or stop > whole:
            raise TypeCheckError("PTO106", "slice leaves the tile", values={"x": x}, fix="cut where x has elements")
        everything = (start, step, size) == (0, 1, whole)
        valid.append(have if everything else size)
        checks += () if everything else at_least(have, stop)
    return Typed(TileType(tile.dtype, params["rows"], params["cols"], *valid), checks)


@slice_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return False, False


@slice_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    row, col, step = params["row"], params["col"], params["step"]
    return x[row : row + params["rows"], col : col + params["cols"] * step : step]


@slice_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.vector("copy", out) if params["step"] == 1 else arch.vector("every_second", x)


def concat(a: Value, b: Value, axis: int = 1) -> Value:
    """a and b as one tile: side by side (axis=1) or a above b (axis=0).

    [m, n], [m, k] -> [m, n + k]; all; TINSERT (newer PTO-ISA: TCONCAT); exact
    """
    return bind("concat", need_value("concat", a), need_value("concat", b), axis=check_axis("concat", axis))


@concat_p.def_type
def _(params: dict[str, Any], a: Type, b: Type) -> Typed:
    a, b = need_tile("concat", a), need_tile("concat", b)
    dtype = same_dtype("concat", (a, b))
    axis = params["axis"]
    if a.shape[1 - axis] != b.shape[1 - axis]:
        raise TypeCheckError(
            "PTO103",
            f"concat: {'rows' if axis == 1 else 'columns'} differ",
            values={"a": a, "b": b},
            fix="give tiles with equal rows, or columns with axis=0",
        )
    (valid_a, valid_b) = ((t.vrows, t.vcols)[axis] for t in (a, b))
    checks = at_least(valid_a, a.shape[axis]) + at_least(valid_b, b.shape[axis])
    other, more = join((a.vrows, a.vcols)[1 - axis], (b.vrows, b.vcols)[1 - axis])
    total = a.shape[axis] + b.shape[axis]
    out = TileType(dtype, a.rows, total, other) if axis == 1 else TileType(dtype, total, a.cols, -1, other)
    return Typed(out, checks + more)


@concat_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return params["axis"] == 1, params["axis"] == 0


@concat_p.def_reference
def _(params: dict[str, Any], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b], axis=params["axis"])


@concat_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, a: TileType, b: TileType) -> Expr:
    return arch.vector("copy", a) + arch.vector("copy", b)


def transpose(x: Value) -> Value:
    """x with rows and columns exchanged. A product takes them so by itself: matmul(..., transpose_b=True).

    [m, n] -> [n, m]; all; TTRANS; exact
    """
    return bind("transpose", need_value("transpose", x))


@transpose_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("transpose", x)
    return Typed(TileType(tile.dtype, tile.cols, tile.rows, tile.vcols, tile.vrows))


@transpose_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return False, False


@transpose_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x.T


@transpose_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.vector("transpose", x)


def reshape(x: Value, shape: Sequence[int]) -> Value:
    """The elements of x, row by row, as a tile of another shape (rows, cols) with as many elements.

    [m, n] -> [k, m * n / k]; all; TRESHAPE; exact
    """
    rows, cols = check_shape("reshape", shape)
    m, n = need_value("reshape", x).shape
    if rows * cols != m * n:
        raise TypeCheckError(
            "PTO103",
            f"reshape: {rows}x{cols} has not as many elements as {m}x{n}",
            values={"x": x.type},
            loc=here(),
            fix=f"give a shape of {m * n} elements",
        )
    return bind("reshape", x, rows=rows, cols=cols)


@reshape_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    tile = need_tile("reshape", x)
    rows, cols = params["rows"], params["cols"]
    if rows * cols != tile.rows * tile.cols:
        raise TypeCheckError("PTO103", "reshape: the numbers of elements differ", values={"x": x}, fix="keep them")
    return Typed(TileType(tile.dtype, rows, cols), at_least(tile.vrows, tile.rows) + at_least(tile.vcols, tile.cols))


@reshape_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return False, False


@reshape_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x.reshape(params["rows"], params["cols"])


@reshape_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.vector("copy", x)


def interleave(a: Value, b: Value) -> Value:
    """Columns of a and b in turn: a[:, 0], b[:, 0], a[:, 1], ... `slice_even` and `slice_odd` take them apart.

    [m, n], [m, n] -> [m, 2 n]; all; TSCATTER (newer PTO-ISA: TINTERLEAVE); exact
    """
    return bind("interleave", need_value("interleave", a), need_value("interleave", b))


@interleave_p.def_type
def _(params: dict[str, Any], a: Type, b: Type) -> Typed:
    a, b = need_tile("interleave", a), need_tile("interleave", b)
    dtype = same_dtype("interleave", (a, b))
    if a.shape != b.shape:
        raise TypeCheckError(
            "PTO103",
            "interleave: shapes differ",
            values={"a": a, "b": b},
            fix="give tiles of equal shape",
        )
    rows, more = join(a.vrows, b.vrows)
    checks = at_least(a.vcols, a.cols) + at_least(b.vcols, b.cols)
    return Typed(TileType(dtype, a.rows, 2 * a.cols, rows), checks + more)


@interleave_p.def_follows
def _(params: dict[str, Any], operand: int) -> tuple[bool, bool]:
    return True, False


@interleave_p.def_reference
def _(params: dict[str, Any], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a, b], axis=2).reshape(a.shape[0], -1)


@interleave_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, a: TileType, b: TileType) -> Expr:
    return arch.vector("scatter", out)
