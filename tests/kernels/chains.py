"""Random chains of tile operations on three values, wide or thin, in dtypes that the native tier fuses and in one that it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from pto_wsp import DType, In, Out, Tile, kernel, pto

ROWS, COLS = 20, 70
DTYPES = (DType.F32, DType.F16, DType.BF16, DType.I32, DType.F64)
Chain = list[tuple[str, int, int, int]]
"""(operation, first operand, second operand, which value the result replaces)."""

_BINARY = ("add", "sub", "mul", "maximum", "minimum", "div")
_FLOAT_UNARY = (
    "exp",
    "log",
    "exp2",
    "log2",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "tanh",
    "erf",
    "sin",
    "floor",
    "ceil",
    "rint",
    "trunc",
)
_UNARY = (*_FLOAT_UNARY, "neg", "abs")
_REDUCTIONS = ("rowsum", "rowmax", "rowmin", "rowprod")
_OTHERS = ("fma", "where", "both", "row", "scalar", "through", "iota", "cumsum", "colmax", "thin")

_PICK = st.integers(0, 2)


def chains() -> st.SearchStrategy[Chain]:
    operation = st.sampled_from((*_BINARY, *_REDUCTIONS, *_OTHERS)) | st.sampled_from(_UNARY)
    return st.lists(st.tuples(operation, _PICK, _PICK, _PICK), min_size=2, max_size=12)


def _step(op: str, a: Any, b: Any, row: Any, dtype: DType) -> Any:
    of_floats = dtype is not DType.I32
    if op in _BINARY:
        return getattr(pto, op)(a, b)
    if op in _UNARY:
        return getattr(pto, op)(a) if of_floats or op in ("neg", "abs") else a + 3
    if op in _REDUCTIONS:
        return getattr(pto, op)(a)
    match op:
        case "fma":
            return pto.fma(a, b, a) if of_floats else a * b + a
        case "where":
            return pto.where((a < b) | (a == 1), b, a)
        case "both":
            return pto.where(~((a >= b) & (b != 0)), pto.maximum(a, b), a - b)
        case "row":
            return a + row
        case "scalar":
            return a * 3 - 1
        case "through":  # another dtype
            return pto.cast(pto.cast(a, DType.F16 if dtype is DType.F32 else DType.F32), dtype) + b
        case "iota":
            return a + pto.cast(pto.iota((ROWS, COLS), axis=1) - pto.iota((ROWS, COLS), axis=0), dtype)
        case "cumsum":
            return pto.cumsum(a, axis=1) if dtype is not DType.F64 else a
        case "colmax":
            return a - pto.colmax(b)
        case _:
            return pto.abs(pto.rowsum(a)) * pto.rowmax(b) - b


def chain_kernel(dtype: DType, chain: Chain) -> Any:
    """A kernel that computes the chain from a, b and their sum, and stores what the values come to."""

    @kernel(name=f"chain_{dtype}")
    def k(
        a: In[Tile[ROWS, COLS, dtype]],
        b: In[Tile[ROWS, COLS, dtype]],
        row: In[Tile[1, COLS, dtype]],
        out: Out[Tile[ROWS, COLS, dtype]],
    ):
        x, y, r = pto.load(a), pto.load(b), pto.load(row)
        state = [x, y, x + y]
        for op, i, j, to in chain:
            state[to] = _step(op, state[i], state[j], r, dtype)
        pto.store(out, pto.maximum(state[0] + state[1], state[2]) + x)

    return k


def inputs(dtype: DType, rows: int, cols: int, seed: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Arrays of the dtype; floats with what is special among them."""
    rng = np.random.default_rng(seed)
    out: list[np.ndarray[Any, Any]] = []
    for shape in ((rows, cols), (rows, cols), (1, cols)):
        if dtype is DType.I32:
            x = rng.integers(-(2**31), 2**31, shape).astype(np.int32)
            x[rng.random(shape) < 0.7] %= 7
        else:
            x = rng.standard_normal(shape) * 4
            special = rng.random(shape) < 0.05
            x[special] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 1e30, 1.0], special.sum())
            with np.errstate(over="ignore"):
                x = x.astype(dtype.numpy)
        out.append(x)
    return tuple(out)


def bits(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array's bits, in which all NaNs are the same."""
    x = x.copy()
    if x.dtype != np.bool_ and not np.issubdtype(x.dtype, np.integer):
        x[np.isnan(x.astype(np.float64))] = np.nan
    return x.view(np.uint8)
