"""`pto`: the operations of kernels. docs/operations.md lists them with shapes, dtypes and error bounds."""

from __future__ import annotations

import difflib
from typing import NoReturn

from pto_wsp.errors import UnsupportedNameError, here
from pto_wsp.ops.activation import gelu, relu, sigmoid, silu
from pto_wsp.ops.arithmetic import (
    abs,
    add,
    div,
    floordiv,
    fma,
    fmod,
    max,
    maximum,
    min,
    minimum,
    mul,
    neg,
    rem,
    sub,
)
from pto_wsp.ops.bits import bit_and, bit_not, bit_or, bit_xor, logical_xor, shl, shr
from pto_wsp.ops.broadcasting import broadcast, coladd, coldiv, colmul, colsub, rowadd, rowdiv, rowmul, rowsub
from pto_wsp.ops.comparison import eq, ge, gt, le, logical_and, logical_not, logical_or, lt, ne, where
from pto_wsp.ops.control import cond, fori_loop
from pto_wsp.ops.conversion import cast
from pto_wsp.ops.functions import (
    ceil,
    cos,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    log,
    log1p,
    log2,
    pow,
    reciprocal,
    rint,
    round,
    rsqrt,
    sin,
    sqrt,
    tanh,
    trunc,
)
from pto_wsp.ops.indexing import bincount, gather, put, scatter, take
from pto_wsp.ops.layout import concat, interleave, reshape, slice, slice_even, slice_odd, transpose
from pto_wsp.ops.memory import constant, full, full_like, iota, load, store
from pto_wsp.ops.normalization import layernorm, rmsnorm, softmax
from pto_wsp.ops.ordering import (
    colargmax,
    colargmin,
    cumsum,
    extract_topk_indices,
    rowargmax,
    rowargmin,
    topk,
)
from pto_wsp.ops.padding import fill_pad
from pto_wsp.ops.parts import debug_print, item, restrict, valid_shape
from pto_wsp.ops.product import matmul
from pto_wsp.ops.reduction import colmax, colmean, colmin, colprod, colsum, rowmax, rowmean, rowmin, rowprod, rowsum

__all__ = [
    "abs",
    "add",
    "bincount",
    "bit_and",
    "bit_not",
    "bit_or",
    "bit_xor",
    "broadcast",
    "cast",
    "ceil",
    "coladd",
    "colargmax",
    "colargmin",
    "coldiv",
    "colmax",
    "colmean",
    "colmin",
    "colmul",
    "colprod",
    "colsub",
    "colsum",
    "concat",
    "cond",
    "constant",
    "cos",
    "cumsum",
    "debug_print",
    "div",
    "eq",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "extract_topk_indices",
    "fill_pad",
    "floor",
    "floordiv",
    "fma",
    "fmod",
    "fori_loop",
    "full",
    "full_like",
    "gather",
    "ge",
    "gelu",
    "gt",
    "interleave",
    "iota",
    "item",
    "layernorm",
    "le",
    "load",
    "log",
    "log1p",
    "log2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "matmul",
    "max",
    "maximum",
    "min",
    "minimum",
    "mul",
    "ne",
    "neg",
    "pow",
    "put",
    "reciprocal",
    "relu",
    "rem",
    "reshape",
    "restrict",
    "rint",
    "rmsnorm",
    "round",
    "rowadd",
    "rowargmax",
    "rowargmin",
    "rowdiv",
    "rowmax",
    "rowmean",
    "rowmin",
    "rowmul",
    "rowprod",
    "rowsub",
    "rowsum",
    "rsqrt",
    "scatter",
    "shl",
    "shr",
    "sigmoid",
    "silu",
    "sin",
    "slice",
    "slice_even",
    "slice_odd",
    "softmax",
    "sqrt",
    "store",
    "sub",
    "take",
    "tanh",
    "topk",
    "transpose",
    "trunc",
    "valid_shape",
    "where",
]


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    near = difflib.get_close_matches(name, __all__, 3)
    values = {"near names": ", ".join(near)} if near else {}
    raise UnsupportedNameError(
        "PTO001",
        f"pto has no {name}",
        values=values,
        loc=here(),
        fix="docs/operations.md lists the operations there are",
    )


def __dir__() -> list[str]:
    return sorted(__all__)
