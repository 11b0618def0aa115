"""Numbers in the dtypes of tiles, each with one rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pto_wsp.errors import BoundsError
from pto_wsp.ir.core import DType
from pto_wsp.ir.scalars import RANGES

Array = np.ndarray[Any, Any]


def round_to(dtype: DType, x: Array) -> Array:
    """x (float64, or integers) in `dtype` with one rounding to nearest even; integers wrap."""
    if dtype not in (DType.BF16, DType.F8E4M3, DType.F8E5M2):
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(x).astype(dtype.numpy)
    wide = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        near = wide.astype(np.float32)
    # round to odd first: float64 -> float32 -> bf16 would otherwise round twice
    toward_zero = np.where(np.abs(near) > np.abs(wide), np.nextafter(near, np.float32(0)), near)
    inexact = np.isfinite(wide) & (toward_zero != wide)
    odd = (
        np.where(inexact, toward_zero.view(np.uint32) | 1, toward_zero.view(np.uint32))
        .astype(np.uint32)
        .view(np.float32)
    )
    return odd.astype(dtype.numpy)


def round_integer(dtype: DType, n: int) -> Array:
    """An integer in `dtype` with one rounding. Raises BoundsError where it does not fit, or is too large for a float."""
    if dtype is DType.BOOL:
        return np.asarray(n != 0)
    if not dtype.is_float:
        low, high = RANGES[dtype]
        if not low <= n <= high:
            raise _does_not_fit(n, dtype)
        return np.asarray(n, dtype.numpy)
    # float64 would be a rounding of its own: keep 53 bits, the last of which says whether there is more
    more = max(n.bit_length() - 53, 0)
    kept = abs(n) >> more
    odd = (kept | (kept << more != abs(n))) << more
    out = round_to(dtype, np.asarray(math.copysign(float(odd), n)))
    if not np.isfinite(out):
        raise _does_not_fit(n, dtype)
    return out


def _does_not_fit(n: int, dtype: DType) -> BoundsError:
    return BoundsError("PTO713", f"{n} as {dtype}", fix="give a number that the parameter's dtype holds")
