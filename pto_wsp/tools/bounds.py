"""How far a result in f32 may lie from the exact one, counted in roundings.

One rounding changes a number by a factor 1 + d with |d| <= U. After n of them it lies within gamma(n) of the exact one,
relatively (Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1). For a sum of terms of either sign that
holds for each term, so the bound is gamma(n) times the sum of absolute values. No number here is subnormal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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

    Both are NaN where one side is, and 0 where there is nothing to compare.
    """
    error = np.abs(got.astype(np.float64) - want)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(error.max(initial=0)), float(np.where(error == 0, 0.0, error / bound).max(initial=0))


def worst(errors: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The largest of several answers of `compare`."""
    absolute, relative = np.array(list(errors)).max(axis=0)
    return float(absolute), float(relative)


CONFIDENCE = 12.0
"""Standard deviations that a result may lie away: for errors that add up from many roundings, of probability below 1e-32."""


@dataclass(frozen=True)
class Estimate:
    """Exact values in float64, with the variance of the error that a computation in f32 has collected by then.

    Bounds of the worst case grow exponentially along a model's layers and say nothing about the second. Here roundings are
    independent, of mean zero and of at most U (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019),
    and errors pass through an operation by its derivative. An operation's own error is taken at its stated bound.
    """

    value: Array
    variance: Array

    @staticmethod
    def exact(x: Array) -> Estimate:
        """Numbers that are given, without an error."""
        x = np.asarray(x, dtype=np.float64)
        return Estimate(x, np.zeros_like(x))

    @staticmethod
    def _of(value: Array, variance: Array, roundings: float = 1.0) -> Estimate:
        return Estimate(value, variance + roundings * (U * value) ** 2)

    def __getitem__(self, index: Any) -> Estimate:
        return Estimate(self.value[index], self.variance[index])

    def reshape(self, *shape: int) -> Estimate:
        return Estimate(self.value.reshape(*shape), self.variance.reshape(*shape))

    def transposed(self) -> Estimate:
        """A matrix, turned over."""
        return Estimate(self.value.T, self.variance.T)

    @property
    def bound(self) -> Array:
        """How far a correct result may lie from `value`."""
        return CONFIDENCE * np.sqrt(self.variance)

    def __add__(self, o: Estimate) -> Estimate:
        return self._of(self.value + o.value, self.variance + o.variance)

    def __sub__(self, o: Estimate) -> Estimate:
        return self._of(self.value - o.value, self.variance + o.variance)

    def __mul__(self, o: Estimate) -> Estimate:
        spread = self.variance * o.value**2 + o.variance * self.value**2 + self.variance * o.variance
        return self._of(self.value * o.value, spread)

    def __truediv__(self, o: Estimate) -> Estimate:
        y = self.value / o.value
        return self._of(y, (self.variance + y**2 * o.variance) / o.value**2)

    def scaled(self, factor: float) -> Estimate:
        """Times a constant, which is rounded too."""
        return self._of(self.value * factor, self.variance * factor**2, 2)

    def __matmul__(self, o: Estimate) -> Estimate:
        """Each of the k roundings of a chain is of a partial sum: part of the way to the result, and beside it as far as terms of
        either sign walk."""
        a, b, y = self.value, o.value, self.value @ o.value
        spread = self.variance @ b**2 + a**2 @ o.variance + self.variance @ o.variance
        return Estimate(y, spread + a.shape[-1] * U**2 * (y**2 + a**2 @ b**2))

    def rowsum(self) -> Estimate:
        """Sums of the last axis, which is kept."""
        y = self.value.sum(axis=-1, keepdims=True)
        walk = y**2 + (self.value**2).sum(axis=-1, keepdims=True)
        spread = self.variance.sum(axis=-1, keepdims=True) + rowsum_roundings(self.value.shape[-1]) * U**2 * walk
        return Estimate(y, spread)

    def through(self, y: Array, slope: Array, roundings: float) -> Estimate:
        """A function's values y, and its derivative; `roundings` is its own error in units of U."""
        return Estimate(y, self.variance * slope**2 + (roundings * U * y) ** 2)

    def exp(self) -> Estimate:
        y = np.exp(self.value)
        return self.through(y, y, EXP)

    def rsqrt(self) -> Estimate:
        y = 1 / np.sqrt(self.value)
        return self.through(y, -0.5 * y / self.value, RSQRT)

    def silu(self) -> Estimate:
        """x * sigmoid(x), where the sigmoid is 1 / (1 + exp(-x))."""
        s = 1 / (1 + np.exp(-self.value))
        return self.through(self.value * s, s * (1 + self.value * (1 - s)), EXP + 4)

    def softmax(self) -> Estimate:
        """Of the last axis. An error of the largest score shifts all of them alike, which changes nothing."""
        top = self.value.max(axis=-1, keepdims=True)
        p = self._of(self.value - top, self.variance).exp()
        return p / p.rowsum()

    def rmsnorm(self, eps: float) -> Estimate:
        """Of the last axis: x * rsqrt(mean(x * x) + eps)."""
        n = self.value.shape[-1]
        mean = (self * self).rowsum().scaled(1 / n)
        return self * self._of(mean.value + eps, mean.variance).rsqrt()

    def compared(self, got: Array) -> tuple[float, float]:
        """As `compare`."""
        return compare(got, self.value, self.bound)
