"""The decoder in float64, and how far a correct computation in its dtypes may lie from that."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from decoder_model import EPS, Layer, Weights

from pto_wsp import DType
from pto_wsp.tools.bounds import EXP, Array, Estimate, U

LEAD = 6.0  # standard deviations by which the best logit leads where errors decide no token: of probability below 1e-8

exact = Estimate.exact


def rounded(x: Estimate, dtype: DType) -> Estimate:
    """Converted from f32 to a dtype. Errors of rounding to bf16 are spread evenly over a step of its numbers."""
    if dtype is DType.F32:
        return x
    step = np.ldexp(1.0, np.frexp(x.value)[1] - 8)
    return Estimate(x.value, x.variance + step**2 / 12)


def product(x: Estimate, w: Array) -> Estimate:
    """`x @ exact(w)`, without products of the variance that w has not."""
    wide = w.astype(np.float64)
    value, walk = x.value @ wide, len(w) * U**2
    return Estimate(value, (x.variance + walk * x.value**2) @ wide**2 + walk * value**2)


def beside(parts: Sequence[Estimate], axis: int) -> Estimate:
    return Estimate(*(np.concatenate([getattr(p, f) for p in parts], axis=axis) for f in ("value", "variance")))


def turned(x: Estimate, cos: Array, sin: Array) -> Estimate:
    """x [tokens, dim]; cos, sin [tokens, dim / 2]."""
    half, c, s = cos.shape[1], exact(cos), exact(sin)
    a, b = x[:, :half], x[:, half:]
    return beside([a * c - b * s, b * c + a * s], axis=1)


def attended(q: Estimate, k: Estimate, v: Estimate, page: int, dtype: DType) -> Estimate:
    """One head: q [tokens, dim] are the last positions of k, v [positions, dim]."""
    tokens, positions = len(q.value), len(k.value)
    s = (rounded(q, dtype) @ k.transposed()).scaled(1 / math.sqrt(q.value.shape[1]))
    seen = np.arange(positions) <= np.arange(positions - tokens, positions)[:, None]
    below = np.where(seen, s.value, -np.inf).max(axis=1, keepdims=True) - s.value
    # The weight of a key is exp(s - peak at its page), times exp(peak - new peak) for each later page: the distances add up to
    # `below`, each is rounded once, and each page costs an exponential and a product.
    later = 2 + -(-positions // page) - np.arange(positions) // page
    p = np.where(seen, np.exp(-np.where(seen, below, 0)), 0)
    spread = s.variance + U**2 * (below**2 + (1 + later) * (EXP**2 + 1))
    weight = rounded(Estimate(p, p**2 * np.where(seen, spread, 0)), dtype)
    return (weight @ v) / weight.rowsum()


class Golden:
    """Logits of one sequence's tokens, and whether the experts that a computation chose may be chosen.

    tokens [n] follow the positions of `past`, exact keys and values [heads, positions, dim] by layer, in their order. choices: by
    layer, [n, top], those of the computation: where errors decide, there is more than one right choice.
    """

    def __init__(
        self,
        weights: Weights,
        page: int,
        dtype: DType,
        tokens: Array,
        past: Sequence[tuple[Array, Array]],
        choices: Sequence[Array],
    ) -> None:
        self.wrong_choices = 0
        self._page, self._dtype = page, dtype
        first = past[0][0].shape[1]
        of = slice(first, first + len(tokens))
        self._turns = weights.cos[of], weights.sin[of]
        x = exact(weights.embedding[tokens])
        for i, (layer, cached) in enumerate(zip(weights.layers, past, strict=True)):
            x = x + self._attention(x.rmsnorm(EPS) * exact(layer.norm1), layer, cached)
            y = x.rmsnorm(EPS) * exact(layer.norm2)
            if layer.router is None:
                x = x + self._feed_forward(y, layer.w1, layer.w3, layer.w2)
            else:
                x = x + self._experts(y, layer, choices[i])
        self.logits = self._product(x.rmsnorm(EPS) * exact(weights.norm), weights.head)

    def leads(self, n: int) -> Array:
        """Of the last n tokens: whether no error explains another best logit."""
        value, variance = self.logits.value[-n:], self.logits.variance[-n:]
        best = value.argmax(axis=1)[:, None]
        top, spread = (np.take_along_axis(x, best, axis=1) for x in (value, variance))
        behind = top - value > LEAD * np.sqrt(spread + variance)
        np.put_along_axis(behind, best, True, axis=1)
        return behind.all(axis=1)

    def _product(self, x: Estimate, w: Array) -> Estimate:
        return product(rounded(x, self._dtype), w)

    def _attention(self, x: Estimate, layer: Layer, cached: tuple[Array, Array]) -> Estimate:
        dim, heads = 2 * self._turns[0].shape[1], []
        qkv = self._product(x, layer.wqkv)
        for h, (old_k, old_v) in enumerate(zip(*cached, strict=True)):
            q, k, v = (qkv[:, c : c + dim] for c in range(h * dim, qkv.value.shape[1], qkv.value.shape[1] // 3))
            new_k, new_v = (rounded(y, self._dtype) for y in (turned(k, *self._turns), v))
            k, v = (beside([exact(old), new], axis=0) for old, new in ((old_k, new_k), (old_v, new_v)))
            heads.append(attended(turned(q, *self._turns), k, v, self._page, self._dtype))
        return self._product(beside(heads, axis=1), layer.wo)

    def _feed_forward(self, x: Estimate, w1: Array, w3: Array, w2: Array) -> Estimate:
        return self._product(self._product(x, w1).silu() * self._product(x, w3), w2)

    def _experts(self, x: Estimate, layer: Layer, chosen: Array) -> Estimate:
        router = self._product(x, layer.router)
        rows = np.arange(len(chosen))
        self.wrong_choices += wrong_choices(router, chosen)
        share = Estimate(*(f[rows[:, None], chosen] for f in (router.value, router.variance))).softmax()
        y = Estimate(np.zeros(x.value.shape), np.zeros(x.value.shape))
        for e in np.unique(chosen):
            mine, choice = np.nonzero(chosen == e)
            z = self._feed_forward(x[mine], layer.w1[e], layer.w3[e], layer.w2[e]) * share[mine, choice].reshape(-1, 1)
            y.value[mine] += z.value
            y.variance[mine] += z.variance
        return y


def wrong_choices(router: Estimate, chosen: Array) -> int:
    """Tokens of which an expert was chosen whose exact score lies below that of one that was not, by more than errors explain."""
    those = np.zeros(router.value.shape, bool)
    np.put_along_axis(those, chosen, True, axis=1)
    low = np.where(those, router.value + router.bound, np.inf).min(axis=1)
    high = np.where(those, -np.inf, router.value - router.bound).max(axis=1)
    return int(((those.sum(axis=1) != chosen.shape[1]) | (low < high)).sum())
