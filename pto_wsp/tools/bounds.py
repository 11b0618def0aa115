"""How far a result in f32 may lie from the exact one, counted in roundings.

One rounding changes a number by a factor 1 + d with |d| <= U. After n of them it lies within gamma(n) of the exact one,
relatively (Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1). For a sum of terms of either sign that
holds for each term, so the bound is gamma(n) times the sum of absolute values. No number here is subnormal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

U = 2.0**-24  # half the distance from 1 to the next f32
EXP = RSQRT = 3  # at most 1.5 units in the last place, each of at most two U


def gamma(roundings: float) -> float:
    """The largest relative change that this many roundings make."""
    return relative(roundings * U)


def relative(exponent: Any) -> Any:
    """A bound of exp(exponent) - 1 for 0 <= exponent < 1: the relative change by a factor exp(exponent)."""
    return exponent / (1 - exponent)


def rowsum_roundings(cols: int) -> int:
    """Roundings that an element goes through in `pto.rowsum`: 16 accumulators, then a tree of 4 levels."""
    return -(-cols // 16) + 4


def transposed_matmul_roundings(k: int) -> int:
    """Those of a product in `pto.matmul(..., transpose_b=True)`: as a row sum, and the accumulator's addition."""
    return rowsum_roundings(k) + 1


def compare(got: Array, want: Array, bound: Array) -> tuple[float, float]:
    """The largest |got - want|, and the largest |got - want| / bound: infinite for an error where the bound is 0.

    Both are NaN where one side is.
    """
    error = np.abs(got.astype(np.float64) - want)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(error.max()), float(np.where(error == 0, 0.0, error / bound).max())


def worst(errors: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The largest of several answers of `compare`."""
    absolute, relative = np.array(list(errors)).max(axis=0)
    return float(absolute), float(relative)
