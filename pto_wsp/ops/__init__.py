"""`pto`: the operations of kernels. docs/operations.md lists them with shapes, dtypes and error bounds."""

from __future__ import annotations

import difflib
from typing import NoReturn

from pto_wsp.errors import UnsupportedNameError, here
from pto_wsp.ops.activation import gelu, relu, sigmoid, silu
from pto_wsp.ops.arithmetic import abs, add, div, fma, max, maximum, min, minimum, mul, neg, sub  # noqa: A004 - their names in the field
from pto_wsp.ops.broadcasting import broadcast, coladd, coldiv, colmul, colsub, rowadd, rowdiv, rowmul, rowsub
from pto_wsp.ops.comparison import eq, ge, gt, le, logical_and, logical_not, logical_or, lt, ne, where
from pto_wsp.ops.conversion import cast
from pto_wsp.ops.functions import ceil, cos, erf, exp, floor, log, reciprocal, rint, rsqrt, sin, sqrt, tanh, trunc
from pto_wsp.ops.memory import constant, full, full_like, iota, load, store
from pto_wsp.ops.normalization import layernorm, rmsnorm, softmax
from pto_wsp.ops.product import matmul
from pto_wsp.ops.reduction import colmax, colmean, colmin, colprod, colsum, rowmax, rowmean, rowmin, rowprod, rowsum

__all__ = [
    "load", "store", "full", "constant", "full_like", "iota",
    "add", "sub", "mul", "div", "neg", "abs", "maximum", "max", "minimum", "min", "fma",
    "exp", "log", "sqrt", "rsqrt", "reciprocal", "tanh", "erf", "sin", "cos", "floor", "ceil", "rint", "trunc",
    "sigmoid", "relu", "gelu", "silu",
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "where",
    "cast",
    "rowsum", "rowmax", "rowmin", "rowprod", "rowmean", "colsum", "colmax", "colmin", "colprod", "colmean",
    "rowadd", "rowsub", "rowmul", "rowdiv", "coladd", "colsub", "colmul", "coldiv", "broadcast",
    "matmul",
    "softmax", "rmsnorm", "layernorm",
]


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    near = difflib.get_close_matches(name, __all__, 3)
    values = {"near names": ", ".join(near)} if near else {}
    raise UnsupportedNameError("PTO001", f"pto has no {name}", values=values, loc=here(), fix="docs/operations.md lists the operations there are")


def __dir__() -> list[str]:
    return sorted(__all__)
