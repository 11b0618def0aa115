"""Triangles.

Diagonal k has the elements whose column is k more than their row. It is a Python integer or an integer scalar of the kernel, and may
lie beyond the tile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import DType
from pto_wsp.ops.arithmetic import maximum, minimum, sub
from pto_wsp.ops.broadcasting import broadcast
from pto_wsp.ops.comparison import ge, le, where
from pto_wsp.ops.memory import check_dtype, check_shape, full, iota, need_value
from pto_wsp.ops.rules import COMPUTED, need_dtype
from pto_wsp.ops.value import Operand, Value, composed, is_scalar


def _zero(dtype: DType) -> float | int | bool:
    return False if dtype is DType.BOOL else 0.0 if dtype.is_float else 0


def _one(dtype: DType) -> float | int | bool:
    return True if dtype is DType.BOOL else 1.0 if dtype.is_float else 1


def _inside(what: str, shape: tuple[int, int], diagonal: Operand, upper: bool) -> Value:
    """The bool tile of a triangle."""
    good = _is_integer(diagonal) or (isinstance(diagonal, (int, np.integer)) and not isinstance(diagonal, bool))
    if not good or not isinstance(upper, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeCheckError(
            "PTO106",
            f"{what}: a triangle that was said wrongly",
            values={"diagonal": repr(diagonal)[:80], "upper": repr(upper)[:80]},
            loc=here(),
            fix="diagonal is an integer: a Python one or a scalar of the kernel; upper is True or False",
        )
    rows, cols = iota((shape[0], 1), axis=0), iota((1, shape[1]))
    distance = sub(broadcast(cols, shape), rows)
    nearest = _nearest(diagonal, shape)
    return ge(distance, nearest) if upper else le(distance, nearest)


def _is_integer(x: object) -> bool:
    return isinstance(x, Value) and is_scalar(x) and x.dtype.is_integer


def _nearest(diagonal: Operand, shape: tuple[int, int]) -> Operand:
    """The diagonal, or beyond the tile the one next to its corner: of i32, as distances are."""
    if not isinstance(diagonal, Value):
        diagonal = int(diagonal)
    negative = not isinstance(diagonal, Value) or not diagonal.dtype.is_unsigned
    return minimum(maximum(diagonal, -shape[0]) if negative else diagonal, shape[1])


@composed
def tri(shape: Sequence[int], diagonal: Operand = 0, upper: bool = False, dtype: DType = DType.F32) -> Value:
    """1 at and below the diagonal, with upper=True at and above it, and 0 elsewhere. shape: (rows, cols).

    -> [m, n]; computed; TTRI; exact
    """
    need_dtype("tri", check_dtype("tri", dtype), COMPUTED, here())
    whole = check_shape("tri", shape)
    inside = _inside("tri", whole, diagonal, upper)
    return inside if dtype is DType.BOOL else where(inside, full(whole, _one(dtype), dtype), _zero(dtype))


@composed
def tril(x: Value, diagonal: Operand = 0) -> Value:
    """x at and below the diagonal, 0 above it.

    [m, n] -> [m, n]; computed; TTRI, TSELS; exact
    """
    return _part("tril", x, diagonal, upper=False)


@composed
def triu(x: Value, diagonal: Operand = 0) -> Value:
    """x at and above the diagonal, 0 below it.

    [m, n] -> [m, n]; computed; TTRI, TSELS; exact
    """
    return _part("triu", x, diagonal, upper=True)


def _part(what: str, x: Value, diagonal: Operand, *, upper: bool) -> Value:
    value = need_value(what, x)
    need_dtype(what, value.dtype, COMPUTED, here())
    m, n = value.shape
    return where(_inside(what, (m, n), diagonal, upper), value, _zero(value.dtype))
