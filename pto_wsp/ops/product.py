"""The matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import Check, Dim, DType, Primitive, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.elementwise import quiet, wide
from pto_wsp.ops.memory import need_value
from pto_wsp.ops.rules import FLOATS, join, need_dtype, need_tile, same_dtype
from pto_wsp.ops.value import Value, bind

ACCUMULATED = {
    **dict.fromkeys(FLOATS, DType.F32),
    DType.F64: DType.F64,
    **dict.fromkeys((DType.I32, DType.I8, DType.U8), DType.I32),
}
"""The dtype that products of a dtype are summed in."""

matmul_p = Primitive("matmul", opcode=7, unit="cube")


def matmul(
    a: Value, b: Value, acc: Value | None = None, *, transpose_a: bool = False, transpose_b: bool = False
) -> Value:
    """a @ b, plus acc if given. The result is f32; of f64 it is f64; of i8, u8 and i32 it is i32, and wraps.

    transpose_a: a is stored [k, m]; transpose_b: b is stored [n, k].

    [m, k], [k, n] (, f32 or i32 [m, n]) -> [m, n]; floats f64 i8 u8 i32; TMATMUL, TMATMUL_ACC; k roundings of f32
    """
    for name, flag in (("transpose_a", transpose_a), ("transpose_b", transpose_b)):
        if not isinstance(flag, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeCheckError(
                "PTO106",
                f"matmul: {name} is True or False",
                values={name: repr(flag)[:80]},
                loc=here(),
                fix="give a Python bool; the accumulator is acc=",
            )
    operands = [need_value("matmul", a), need_value("matmul", b)]
    if acc is not None:
        operands.append(need_value("matmul", acc))
    return bind("matmul", *operands, transpose_a=transpose_a, transpose_b=transpose_b)


def _inner(params: dict[str, Any], a: TileType, b: TileType) -> tuple[Dim, tuple[Check, ...]]:
    """Valid k: columns of a, which are rows of b."""
    return join(a.vrows if params["transpose_a"] else a.vcols, b.vcols if params["transpose_b"] else b.vrows)


@matmul_p.def_type
def _(params: dict[str, Any], a: Type, b: Type, *acc: Type) -> Typed:
    a, b = need_tile("matmul", a), need_tile("matmul", b)
    dtype = same_dtype("matmul", (a, b))
    need_dtype("matmul", dtype, tuple(ACCUMULATED))
    m, ka, vm = (a.cols, a.rows, a.vcols) if params["transpose_a"] else (a.rows, a.cols, a.vrows)
    kb, n, vn = (b.cols, b.rows, b.vrows) if params["transpose_b"] else (b.rows, b.cols, b.vcols)
    if ka != kb:
        of_a, of_b = ("rows" if params["transpose_a"] else "columns"), ("columns" if params["transpose_b"] else "rows")
        raise TypeCheckError(
            "PTO101",
            f"matmul needs a's {of_a} to equal b's {of_b}, but {ka} is not {kb}",
            values={"a": a, "b": b},
            fix=_fix_inner(params, ka, b),
        )
    checks = _inner(params, a, b)[1]
    out = TileType(ACCUMULATED[dtype], m, n, vm, vn)
    for c in acc:
        if not isinstance(c, TileType) or c.dtype is not out.dtype or c.shape != out.shape:
            raise TypeCheckError(
                "PTO107",
                f"matmul: the accumulator must be {out.dtype}<{m}x{n}>",
                values={"acc": c, "a": a, "b": b},
                fix="start from pto.full((m, n), 0.0): products are summed in f32, of i32 in i32",
            )
        vm, rows = join(out.vrows, c.vrows)
        vn, cols = join(out.vcols, c.vcols)
        out = TileType(out.dtype, m, n, vm, vn)
        checks += rows + cols
    return Typed(out, checks)


def _fix_inner(params: dict[str, Any], k: int, b: TileType) -> str:
    if params["transpose_b"]:
        return "say transpose_b=False: b is stored [k, n]" if b.rows == k else f"load b as [n, {k}]"
    return "say transpose_b=True: b is stored [n, k]" if b.cols == k else f"load b as [{k}, n], or say transpose_a=True"


@matmul_p.def_reference
@quiet
def _(params: dict[str, Any], a: np.ndarray, b: np.ndarray, *acc: np.ndarray) -> np.ndarray:
    a, b = wide(a), wide(b)
    a, b = a.T if params["transpose_a"] else a, b.T if params["transpose_b"] else b
    k = min(a.shape[1], b.shape[0])  # a tile that is defined everywhere gives as many as the other has
    out = a[:, :k] @ b[:k]
    for c in acc:
        m, n = min(out.shape[0], c.shape[0]), min(out.shape[1], c.shape[1])
        out = wide(c)[:m, :n] + out[:m, :n]
    return out


@matmul_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, a: TileType, b: TileType, *acc: TileType) -> Expr:
    return arch.matmul(a.dtype, out.vrows, out.vcols, _inner(params, a, b)[0])
