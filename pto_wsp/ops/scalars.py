"""Scalars of kernels: indices, lengths, elements, parameters, and what is computed of them, in 64 bits or bool.

dim     an extent of a parameter: valid rows and columns of a tile, lengths of a region
widen   a Scalar parameter as i64, u64, f64 or bool: exact
narrow  the other way, for operations on tiles: integers wrap, floats round once
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import InternalError
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.ir.core import DType, In, Literal, Primitive, RegionType, ScalarType, TileType, Type, Typed, Var
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.facts import Facts
from pto_wsp.ir.scalars import SCALAR_DTYPES

I64 = ScalarType(DType.I64)

dim_p = Primitive("dim", doc="an extent of a parameter", unit="none")
widen_p = Primitive("widen", doc="a scalar of a dtype of tiles in 64 bits, exactly", unit="none")
narrow_p = Primitive(
    "narrow", doc="a scalar of 64 bits in a dtype of tiles: integers wrap, floats round once", unit="none"
)

SCALAR_OPS = {
    **dict.fromkeys(("logical_and", "bit_and"), "s.and"),
    **dict.fromkeys(("logical_or", "bit_or"), "s.or"),
    **dict.fromkeys(("logical_xor", "bit_xor"), "s.xor"),
    **dict.fromkeys(("logical_not", "bit_not"), "s.not"),
    **{name: f"s.{name}" for name in ("add", "sub", "mul", "div", "floordiv", "neg", "abs", "shl", "shr", "where")},
    **{name: f"s.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "rem": "s.mod",
    "maximum": "s.max",
    "minimum": "s.min",
}
"""The operation on scalars that an operation on tiles is where no operand is a tile."""


def extent(builder: KernelBuilder, dim: str) -> Var:
    """An extent of a parameter ("x.rows", "x.0") as a scalar."""
    var = builder.scalar("dim", [], {"of": dim})
    builder.facts[var.name] = Facts(0, *most(builder, dim))
    builder.extents[var.name] = dim
    return var


def most(builder: KernelBuilder, dim: str) -> tuple[int, ...]:
    """What an extent of a parameter is at most, where that is known."""
    name, _, side = dim.rpartition(".")
    t = builder.params[name].type
    if isinstance(t, TileType):
        return (t.rows if side == "rows" else t.cols,)
    size = t.shape[int(side)] if isinstance(t, RegionType) else None
    return () if size is None else (size,)


def constant(builder: KernelBuilder, n: int) -> Var:
    """A scalar that holds n: a valid extent is a number only where it is all of the static shape."""
    return builder.scalar("s.add", [Literal(n, DType.I64), Literal(0, DType.I64)], {})


def widened(builder: KernelBuilder, var: Var) -> Var:
    """A scalar in 64 bits, or a bool."""
    if not isinstance(var.type, ScalarType):
        raise InternalError(f"{var.type} as a scalar")
    if var.type.dtype in SCALAR_DTYPES and var.name not in builder.params:
        return var
    return builder.scalar("widen", [var], {})


def narrowed(builder: KernelBuilder, var: Var, dtype: DType) -> Var:
    """The scalar `var` as an operand of tiles of `dtype`, where it is one of 64 bits of the same kind; else, and as a parameter, it
    stays as it is, and the operation refuses what has another dtype."""
    assert isinstance(var.type, ScalarType)
    have = var.type.dtype
    if (
        (have is dtype and var.name in builder.params)
        or have not in SCALAR_DTYPES
        or (have is DType.BOOL) is not (dtype is DType.BOOL)
        or (have is DType.F64) is not dtype.is_float
    ):
        return var
    return builder.scalar("narrow", [var], {"to": dtype})


def cast(builder: KernelBuilder, x: Var, dtype: DType) -> Var:
    """x as a scalar of 64 bits or a bool (floats to integers toward zero), or as an operand of tiles of `dtype`."""
    var = widened(builder, x)
    wide = dtype if dtype in SCALAR_DTYPES else dtype.scalar
    if var.type != ScalarType(wide):
        var = builder.scalar("s.cast", [var], {"to": wide})
    return var if dtype in SCALAR_DTYPES else narrowed(builder, var, dtype)


def type_of(x: In) -> Type:
    """The type of an operand."""
    if isinstance(x, Literal):
        return ScalarType(x.dtype)
    assert isinstance(x, Var)
    return x.type


@dim_p.def_type
def _(params: dict[str, Any]) -> Typed:
    if not isinstance(params["of"], str):
        raise TypeError("dim names an extent")
    return Typed(I64)


@dim_p.def_reference
def _(params: dict[str, Any]) -> int:
    """params has the extent as a number."""
    return int(params["of"])


@widen_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    if not isinstance(x, ScalarType):
        raise TypeError("widen of a scalar")
    return Typed(ScalarType(x.dtype.scalar))


@widen_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x


@narrow_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    to = params["to"]
    if not isinstance(x, ScalarType) or not isinstance(to, DType):
        raise TypeError("narrow of a scalar")
    same_kind = all((x.dtype is d) is other for d, other in ((DType.BOOL, to is DType.BOOL), (DType.F64, to.is_float)))
    if x.dtype not in SCALAR_DTYPES or not same_kind:
        raise TypeError("narrow of an integer to an integer, of f64 to a float, or of bool")
    return Typed(ScalarType(to))


@narrow_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x


def _free(arch: Arch, params: dict[str, Any], out: Type | None, *operands: Type) -> Expr:
    return const(0)


for _p in (dim_p, widen_p, narrow_p):
    _p.def_cost(_free)
