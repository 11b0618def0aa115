"""Comparisons, logic on bool tiles, and where."""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TypeCheckError
from pto_wsp.ir.core import DType, Primitive, ScalarType, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.elementwise import elementwise, wide
from pto_wsp.ops.memory import need_value
from pto_wsp.ops.rules import COMPUTED, NUMBERS, broadcast, need_dtype, need_tile, same_dtype
from pto_wsp.ops.value import Operand, Value, bind, is_number, is_scalar

eq_p = elementwise("eq", 40, COMPUTED, np.equal, result=DType.BOOL)
ne_p = elementwise("ne", 41, COMPUTED, np.not_equal, result=DType.BOOL)
lt_p = elementwise("lt", 42, NUMBERS, np.less, result=DType.BOOL)
le_p = elementwise("le", 43, NUMBERS, np.less_equal, result=DType.BOOL)
gt_p = elementwise("gt", 44, NUMBERS, np.greater, result=DType.BOOL)
ge_p = elementwise("ge", 45, NUMBERS, np.greater_equal, result=DType.BOOL)
logical_and_p = elementwise("logical_and", 36, (DType.BOOL,), np.logical_and)
logical_or_p = elementwise("logical_or", 37, (DType.BOOL,), np.logical_or)
logical_not_p = elementwise("logical_not", 25, (DType.BOOL,), np.logical_not)
where_p = Primitive("where", opcode=8)


def eq(a: Operand, b: Operand) -> Value:
    """a == b as a bool tile; false where one is NaN.

    [m, n], [m, n] -> [m, n]; computed; TCMP, TCMPS; exact
    """
    return bind("eq", a, b)


def ne(a: Operand, b: Operand) -> Value:
    """a != b as a bool tile; true where one is NaN.

    [m, n], [m, n] -> [m, n]; computed; TCMP, TCMPS; exact
    """
    return bind("ne", a, b)


def lt(a: Operand, b: Operand) -> Value:
    """a < b as a bool tile; false where one is NaN.

    [m, n], [m, n] -> [m, n]; numbers; TCMP, TCMPS; exact
    """
    return bind("lt", a, b)


def le(a: Operand, b: Operand) -> Value:
    """a <= b as a bool tile; false where one is NaN.

    [m, n], [m, n] -> [m, n]; numbers; TCMP, TCMPS; exact
    """
    return bind("le", a, b)


def gt(a: Operand, b: Operand) -> Value:
    """a > b as a bool tile; false where one is NaN.

    [m, n], [m, n] -> [m, n]; numbers; TCMP, TCMPS; exact
    """
    return bind("gt", a, b)


def ge(a: Operand, b: Operand) -> Value:
    """a >= b as a bool tile; false where one is NaN.

    [m, n], [m, n] -> [m, n]; numbers; TCMP, TCMPS; exact
    """
    return bind("ge", a, b)


def logical_and(a: Operand, b: Operand) -> Value:
    """True where both are.

    [m, n], [m, n] -> [m, n]; bool; TAND; exact
    """
    return bind("logical_and", a, b)


def logical_or(a: Operand, b: Operand) -> Value:
    """True where one is.

    [m, n], [m, n] -> [m, n]; bool; TOR; exact
    """
    return bind("logical_or", a, b)


def logical_not(x: Operand) -> Value:
    """True where x is not.

    [m, n] -> [m, n]; bool; TNOT; exact
    """
    return bind("logical_not", x)


def where(mask: Value, a: Operand, b: Operand) -> Value:
    """a where the bool tile `mask` is true, else b. Of two numbers it makes f32.

    bool [m, n], [m, n], [m, n] -> [m, n]; computed; TSEL, TSELS; exact
    """
    if is_scalar(mask) and all(is_scalar(x) or is_number(x) for x in (a, b)):
        return bind("where", mask, a, b)
    dtype = next((x.dtype for x in (a, b) if isinstance(x, Value)), DType.F32)
    return bind("where", need_value("where", mask), a, b, dtype=dtype)


@where_p.def_type
def _(params: dict[str, Any], mask: Type, a: Type, b: Type) -> Typed:
    if need_tile("where", mask).dtype is not DType.BOOL:
        raise TypeCheckError(
            "PTO104", "where needs a bool mask", values={"mask": mask}, fix="make one by comparing: pto.gt(x, 0)"
        )
    dtype = same_dtype("where", (a, b))
    need_dtype("where", dtype, COMPUTED)
    (rows, cols), (vrows, vcols), checks = broadcast("where", (mask, a, b))
    return Typed(TileType(dtype, rows, cols, vrows, vcols), checks)


@where_p.def_reference
def _(params: dict[str, Any], mask: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(mask, wide(a), wide(b))


@where_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, mask: TileType, *values: TileType | ScalarType) -> Expr:
    return arch.vector("where", out)
