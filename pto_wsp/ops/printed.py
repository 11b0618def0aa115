"""The text of debug_print: the same here and in the core (kernel_control.cpp), character by character.

    label (kernel name): f32<2x3>       label (kernel name): i64 7
      0.5 nan -inf
      -0 1e-05 3

Floats have 9 significant digits, f64 has 17: enough to give the number back. Of more than 16 rows or columns, 8 are shown at each end.
"""

from __future__ import annotations

import numpy as np

from pto_wsp.ir.core import DType

_ENDS = 8


def printed(label: str, kernel: str, dtype: DType, x: np.ndarray) -> str:
    """What debug_print writes of a tile, by its valid shape, or of a scalar, which has no dimensions."""
    head = f"{label} (kernel {kernel}): {dtype}"
    if x.ndim == 0:
        return f"{head} {_number(dtype, x)}\n"
    lines = [f"{head}<{x.shape[0]}x{x.shape[1]}>"]
    lines += ["  ..." if row is None else "  " + " ".join(_numbers(dtype, x[row])) for row in _shown(x.shape[0])]
    return "\n".join(lines) + "\n"


def _shown(size: int) -> list[int | None]:
    """The indices that are shown; None: where some are left out."""
    if size <= 2 * _ENDS:
        return list(range(size))
    return [*range(_ENDS), None, *range(size - _ENDS, size)]


def _numbers(dtype: DType, row: np.ndarray) -> list[str]:
    return ["..." if col is None else _number(dtype, row[col]) for col in _shown(len(row))]


def _number(dtype: DType, x: np.ndarray) -> str:
    if dtype is DType.BOOL:
        return "true" if x else "false"
    if dtype.is_float:
        return format(float(x), ".17g" if dtype is DType.F64 else ".9g")
    return str(int(x))
