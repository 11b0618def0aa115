"""Broadcasts.

`row...` and `col...` are the elementwise operations with the vector's shape checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.arithmetic import add, div, maximum, minimum, mul, sub
from pto_wsp.ops.functions import exp
from pto_wsp.ops.memory import check_shape, need_value
from pto_wsp.ops.rules import need_tile
from pto_wsp.ops.value import Value, bind, composed, same

broadcast_p = Primitive("broadcast", opcode=5)


def _vector(what: str, x: Value, v: Value, axis: int) -> None:
    """v must be [rows, 1] (axis 1) or [1, cols] (axis 0) of the tile x [rows, cols]."""
    rows, cols = need_value(what, x).shape
    want = (rows, 1) if axis == 1 else (1, cols)
    if need_value(what, v).shape != want:
        kind = "column vector [rows, 1]" if axis == 1 else "row vector [1, cols]"
        raise TypeCheckError(
            "PTO108",
            f"{what} needs a {kind} as second operand",
            values={"a": x.type, "b": v.type},
            loc=here(),
            fix=f"give a tile of {want[0]}x{want[1]}; pto.{what[3:]} takes any shapes that broadcast",
        )


@composed
def rowadd(x: Value, v: Value) -> Value:
    """x + v, with one number of v for each row.

    [m, n], [m, 1] -> [m, n]; numbers; TROWEXPANDADD; one rounding
    """
    _vector("rowadd", x, v, 1)
    return add(x, v)


@composed
def rowsub(x: Value, v: Value) -> Value:
    """x - v, with one number of v for each row.

    [m, n], [m, 1] -> [m, n]; numbers; TROWEXPANDSUB; one rounding
    """
    _vector("rowsub", x, v, 1)
    return sub(x, v)


@composed
def rowmul(x: Value, v: Value) -> Value:
    """x * v, with one number of v for each row.

    [m, n], [m, 1] -> [m, n]; numbers; TROWEXPANDMUL; one rounding
    """
    _vector("rowmul", x, v, 1)
    return mul(x, v)


@composed
def rowdiv(x: Value, v: Value) -> Value:
    """pto.div(x, v), with one number of v for each row.

    [m, n], [m, 1] -> [m, n]; numbers; TROWEXPANDDIV; one rounding
    """
    _vector("rowdiv", x, v, 1)
    return div(x, v)


@composed
def rowmaximum(x: Value, v: Value) -> Value:
    """The larger of x and v, with one number of v for each row; NaN where one is NaN.

    [m, n], [m, 1] -> [m, n]; numbers; TROWEXPANDMAX; exact
    """
    _vector("rowmaximum", x, v, 1)
    return maximum(x, v)


@composed
def rowminimum(x: Value, v: Value) -> Value:
    """The smaller of x and v, with one number of v for each row; NaN where one is NaN.

    [m, n], [m, 1] -> [m, n]; numbers; TROWEXPANDMIN; exact
    """
    _vector("rowminimum", x, v, 1)
    return minimum(x, v)


@composed
def rowexpdif(x: Value, v: Value) -> Value:
    """exp(x - v), with one number of v for each row. The difference is rounded to the dtype.

    [m, n], [m, 1] -> [m, n]; floats f64; TROWEXPANDEXPDIF; as sub and then exp
    """
    _vector("rowexpdif", x, v, 1)
    return exp(sub(x, v))


@composed
def coladd(x: Value, v: Value) -> Value:
    """x + v, with one number of v for each column.

    [m, n], [1, n] -> [m, n]; numbers; TCOLEXPANDADD; one rounding
    """
    _vector("coladd", x, v, 0)
    return add(x, v)


@composed
def colsub(x: Value, v: Value) -> Value:
    """x - v, with one number of v for each column.

    [m, n], [1, n] -> [m, n]; numbers; TCOLEXPANDSUB; one rounding
    """
    _vector("colsub", x, v, 0)
    return sub(x, v)


@composed
def colmul(x: Value, v: Value) -> Value:
    """x * v, with one number of v for each column.

    [m, n], [1, n] -> [m, n]; numbers; TCOLEXPANDMUL; one rounding
    """
    _vector("colmul", x, v, 0)
    return mul(x, v)


@composed
def coldiv(x: Value, v: Value) -> Value:
    """pto.div(x, v), with one number of v for each column.

    [m, n], [1, n] -> [m, n]; numbers; TCOLEXPANDDIV; one rounding
    """
    _vector("coldiv", x, v, 0)
    return div(x, v)


@composed
def colmaximum(x: Value, v: Value) -> Value:
    """The larger of x and v, with one number of v for each column; NaN where one is NaN.

    [m, n], [1, n] -> [m, n]; numbers; TCOLEXPANDMAX; exact
    """
    _vector("colmaximum", x, v, 0)
    return maximum(x, v)


@composed
def colminimum(x: Value, v: Value) -> Value:
    """The smaller of x and v, with one number of v for each column; NaN where one is NaN.

    [m, n], [1, n] -> [m, n]; numbers; TCOLEXPANDMIN; exact
    """
    _vector("colminimum", x, v, 0)
    return minimum(x, v)


@composed
def colexpdif(x: Value, v: Value) -> Value:
    """exp(x - v), with one number of v for each column. The difference is rounded to the dtype.

    [m, n], [1, n] -> [m, n]; floats f64; TCOLEXPANDEXPDIF; as sub and then exp
    """
    _vector("colexpdif", x, v, 0)
    return exp(sub(x, v))


def broadcast(x: Value, shape: Sequence[int]) -> Value:
    """x repeated to `shape`, a pair (rows, cols) of Python integers. Each dimension of x has that size or is 1.

    [m, 1] or [1, n] or [1, 1] -> [m, n]; all; TROWEXPAND, TCOLEXPAND; exact
    """
    rows, cols = check_shape("broadcast", shape)
    m, n = need_value("broadcast", x).shape
    if m not in (1, rows) or n not in (1, cols):
        raise TypeCheckError(
            "PTO103",
            f"broadcast: {m}x{n} does not repeat to {rows}x{cols}",
            values={"x": x.type},
            loc=here(),
            fix="each dimension of x must be 1 or that of the shape",
        )
    if (m, n) == (rows, cols):
        return same("broadcast", x)
    return bind("broadcast", x, rows=rows // m, cols=cols // n)


@broadcast_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    """params rows, cols: how often the row and the column are repeated."""
    tile = need_tile("broadcast", x)
    times = params["rows"], params["cols"]
    if any(t != 1 and n != 1 for t, n in zip(times, tile.shape, strict=True)):
        raise TypeCheckError(
            "PTO103",
            "broadcast repeats a dimension that is not 1",
            values={"x": x, "times": times},
            fix="repeat single rows and columns",
        )
    valid = (tile.vrows if times[0] == 1 else times[0], tile.vcols if times[1] == 1 else times[1])
    return Typed(TileType(tile.dtype, tile.rows * times[0], tile.cols * times[1], *valid))


@broadcast_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return np.tile(x, (params["rows"], params["cols"]))


@broadcast_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.reduce_rows("rowexpand", out) if params["cols"] > 1 else arch.vector("copy", out)
