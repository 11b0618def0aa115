"""Partly valid operands.

Where one operand alone is valid it is copied. The result has as many rows, and as many columns, as the one that has more of them;
what neither has there is the number that changes nothing: 0 (of floats -0.0), 1, or the smallest or largest of the dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pto_wsp.errors import here
from pto_wsp.ir.core import DType, TileType
from pto_wsp.ir.scalars import RANGES
from pto_wsp.ops.arithmetic import add, maximum, minimum, mul
from pto_wsp.ops.memory import need_value
from pto_wsp.ops.padding import fill_pad
from pto_wsp.ops.parts import restrict, valid_shape
from pto_wsp.ops.rules import NUMBERS, need_dtype
from pto_wsp.ops.value import Operand, Value, composed


@composed
def part_add(a: Value, b: Value) -> Value:
    """a + b.

    [m, n], [m, n] -> [m, n]; numbers; TPARTADD; one rounding
    """
    return _part("part_add", add, a, b, lambda dtype: -0.0 if dtype.is_float else 0)


@composed
def part_mul(a: Value, b: Value) -> Value:
    """a * b.

    [m, n], [m, n] -> [m, n]; numbers; TPARTMUL; one rounding
    """
    return _part("part_mul", mul, a, b, lambda dtype: 1)


@composed
def part_max(a: Value, b: Value) -> Value:
    """The larger of a and b; NaN where one is NaN.

    [m, n], [m, n] -> [m, n]; numbers; TPARTMAX; exact
    """
    return _part("part_max", maximum, a, b, lambda dtype: -math.inf if dtype.is_float else RANGES[dtype][0])


@composed
def part_min(a: Value, b: Value) -> Value:
    """The smaller of a and b; NaN where one is NaN.

    [m, n], [m, n] -> [m, n]; numbers; TPARTMIN; exact
    """
    return _part("part_min", minimum, a, b, lambda dtype: math.inf if dtype.is_float else RANGES[dtype][1])


def _part(
    what: str,
    operation: Callable[[Operand, Operand], Value],
    a: Value,
    b: Value,
    neutral: Callable[[DType], float | int],
) -> Value:
    for x in (a, b):
        need_dtype(what, need_value(what, x).dtype, NUMBERS, here())
    x, y = a.type, b.type
    assert isinstance(x, TileType) and isinstance(y, TileType)
    if (x.shape, x.vrows, x.vcols) == (y.shape, y.vrows, y.vcols):
        return operation(a, b)
    shape = (max(x.rows, y.rows), max(x.cols, y.cols))
    whole = operation(*(fill_pad(t, neutral(t.dtype), shape) for t in (a, b)))
    rows, cols = map(_more, shape, valid_shape(a), valid_shape(b))
    return whole if isinstance(rows, int) and isinstance(cols, int) else restrict(whole, rows, cols)


def _more(size: int, n: Operand, m: Operand) -> Operand:
    """The larger of two valid extents; those that are numbers are static sizes."""
    return size if any(isinstance(k, int) and k == size for k in (n, m)) else maximum(n, m)
