"""What all elementwise operations share: one type rule, one way to compute in float64, one cost rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import InternalError
from pto_wsp.ir.core import DType, Primitive, ScalarType, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.rules import broadcast, need_dtype, same_dtype

quiet = np.errstate(all="ignore")
"""Decorates references: IEEE results, without numpy's warnings."""


def wide(x: Any) -> np.ndarray:
    """The numbers of x, exactly: bool, int64, uint64 (of u64) or float64."""
    x = np.asarray(x)
    if x.dtype.kind == "b" or x.dtype == np.uint64:
        return x
    return x.astype(np.int64 if x.dtype.kind in "iu" else np.float64)


def operand_dtype(t: Type) -> DType:
    if not isinstance(t, (TileType, ScalarType)):
        raise InternalError(f"{t} is no operand of a tile operation")
    return t.dtype


def elementwise(
    name: str, opcode: int, dtypes: Sequence[DType], reference: Callable[..., np.ndarray], result: DType | None = None
) -> Primitive:
    """A leaf whose operands have one dtype of `dtypes` and broadcast. result: its dtype, by default theirs.

    reference: function of float64, int64, uint64 or bool arrays; integers are wrapped to the dtype by the caller.
    """
    p = Primitive(name, opcode=opcode)
    arity = reference.nin if isinstance(reference, np.ufunc) else len(signature(reference).parameters)

    @p.def_type
    def _(params: dict[str, Any], *operands: Type) -> Typed:
        if len(operands) != arity:  # only wir read from a file can have another number
            raise TypeError(f"{name} takes {arity} operands")
        dtype = same_dtype(name, operands)
        need_dtype(name, dtype, dtypes)
        (rows, cols), (vrows, vcols), checks = broadcast(name, operands)
        return Typed(TileType(result or dtype, rows, cols, vrows, vcols), checks)

    @p.def_reference
    @quiet
    def _(params: dict[str, Any], *operands: np.ndarray) -> np.ndarray:
        return reference(*map(wide, operands))

    @p.def_cost
    def _(arch: Arch, params: dict[str, Any], out: TileType, *operands: Type) -> Expr:
        worked_on = TileType(operand_dtype(operands[0]), out.rows, out.cols, out.vrows, out.vcols)
        return arch.vector(name, worked_on, scalar=any(isinstance(t, ScalarType) for t in operands))

    return p
