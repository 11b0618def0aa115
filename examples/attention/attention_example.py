"""Multi-head attention over a whole sequence, causal or not, that never holds more than one tile of scores.

For each tile of queries the keys come tile by tile. A running maximum and a running sum of the exponentials are kept in
memory between tasks; whenever the maximum grows, what was summed up so far shrinks by the exponential of the difference
(Milakov and Gimelshein, Online normalizer calculation for softmax, 2018; Dao et al., FlashAttention, 2022).

Causal attention skips the tiles above the diagonal, and masks within the tile on it. Lengths need not be multiples of
the tile.
"""

import math
import sys

import numpy as np

from pto_wsp import DispatchPolicy, In, InOut, Out, P, Tensor, Value, kernel, pto, workload
from pto_wsp.tools.bounds import (
    EXP,
    Array,
    U,
    compare,
    gamma,
    relative,
    rowsum_roundings,
    transposed_matmul_roundings,
    worst,
)
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

HEADS, SEQ, DIM = 8, 1024, 64
TILE = 64
# By `causal`. Tasks cost 326 (start), 3610 (attend), 4075 (attend_on_diagonal) and 751 (finish). Not causal: the fullest
# lane has tasks of 1,896,384 cycles, and begins with an attend that waits for a start. Causal: each lane has tasks of
# 1,031,264 cycles, and waits now and then for the task before in the chain of a tile of queries.
CYCLES = {False: 326 + 1_896_384, True: 1_033_337}


def weights(q: Array, k: Array, causal: bool) -> tuple[Array, Array]:
    """Of one head: how far each score lies below the largest of its query, and the softmax of the scores."""
    s = q.astype(np.float64) @ k.astype(np.float64).T / math.sqrt(q.shape[1])
    if causal:
        s[~np.tri(len(q), dtype=bool)] = -np.inf
    below = s.max(axis=1, keepdims=True) - s
    p = np.exp(-below)
    return below, p / p.sum(axis=1, keepdims=True)


def golden(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """Attention of one head: q, k, v [seq, dim]."""
    return weights(q, k, causal)[1] @ v


@kernel
def start(peak: Out[Tensor], total: Out[Tensor], out: Out[Tensor]):
    pto.store(peak, -math.inf)
    pto.store(total, 0.0)
    pto.store(out, 0.0)


def add_keys(s: Value, v: Value, peak: Value, total: Value, out: Value) -> None:
    """Bring the scores s of one tile of keys into the running maximum, sum and weighted sum of values."""
    new_peak = pto.maximum(peak, pto.rowmax(s))
    shrink = pto.exp(peak - new_peak)
    p = pto.exp(s - new_peak)
    pto.store(total, total * shrink + pto.rowsum(p))
    pto.store(out, pto.matmul(p, v, acc=out * shrink))
    pto.store(peak, new_peak)


def scaled_scores(q: Value, k: Value) -> Value:
    return pto.matmul(q, k, transpose_b=True) * (1 / math.sqrt(q.shape[1]))


@kernel
def attend(q: In[Tensor], k: In[Tensor], v: In[Tensor], peak: InOut[Tensor], total: InOut[Tensor], out: InOut[Tensor]):
    add_keys(scaled_scores(q, k), v, peak, total, out)


@kernel
def attend_on_diagonal(
    q: In[Tensor], k: In[Tensor], v: In[Tensor], peak: InOut[Tensor], total: InOut[Tensor], out: InOut[Tensor]
):
    s = scaled_scores(q, k)
    seen = pto.iota(s.shape, axis=0) >= pto.iota(s.shape, axis=1)  # both tiles start at the same position
    add_keys(pto.where(seen, s, -math.inf), v, peak, total, out)


@kernel
def finish(total: In[Tensor], out: InOut[Tensor]):
    pto.store(out, out / total)


@workload
def attention(q: Tensor, k: Tensor, v: Tensor, peak: Tensor, total: Tensor, out: Tensor, heads: int, causal: bool):
    for h in P(heads):
        for i in P(q[h].tiles(TILE)):
            rows = {"peak": peak[h, i], "total": total[h, i], "out": out[h, i]}
            start[h, i](**rows)
            if causal:
                for j in P.seq(i):  # whole tiles: only the one on the diagonal can be the last
                    keys = slice(j * TILE, (j + 1) * TILE)
                    attend[h, i, j](q=q[h, i], k=k[h, keys], v=v[h, keys], **rows)
                attend_on_diagonal[h, i, i](q=q[h, i], k=k[h, i], v=v[h, i], **rows)
            else:
                for j in P.seq(k[h].tiles(TILE)):
                    attend[h, i, j](q=q[h, i], k=k[h, j], v=v[h, j], **rows)
            finish[h, i](total=total[h, i], out=out[h, i])


def bound(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """For one head. An error d of an exponent is a factor exp(d) of its exponential."""
    seq, dim = q.shape
    below, p = weights(q, k, causal)
    # A score is a product over dim, scaled by a number that is itself rounded.
    of_score = gamma(transposed_matmul_roundings(dim) + 2) * (
        np.abs(q).astype(np.float64) @ np.abs(k).T / math.sqrt(dim)
    )
    # The weight of a key is exp(s - peak at its tile), times exp(peak - new peak) for each later tile: the distances
    # add up to `below`, each is rounded once, and each tile costs an exponential and a product.
    tiles = -(-seq // TILE)
    of_weight = of_score + U * (np.where(p > 0, below, 0) + EXP + tiles * (EXP + 1))
    # A term of the sum of weights is added up in its tile, and then once with each later one. A term of the weighted
    # values goes through the chain of fused multiply-adds of its tile and of all later ones.
    of_sum = (p * relative(of_weight + U * (rowsum_roundings(TILE) + tiles))).sum(axis=1, keepdims=True)
    of_values = (p * relative(of_weight + U * seq)) @ np.abs(v)
    y = np.abs(p @ v)
    in_quotient = (of_values + y * of_sum) / (1 - of_sum)
    return in_quotient + U * (y + in_quotient)


def run(heads: int = HEADS, seq: int = SEQ, dim: int = DIM, causal: bool = False, threads: int | None = None) -> Result:
    check_sizes(heads=heads, seq=seq, dim=dim)
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((heads, seq, dim), dtype=np.float32) for _ in range(3))
    peak, total, out = (np.zeros((heads, seq, n), dtype=np.float32) for n in (1, 1, dim))
    program = (
        attention(q, k, v, peak, total, out, heads, causal)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )

    def check() -> tuple[float, float]:
        inputs = [(q[h], k[h], v[h], causal) for h in range(heads)]
        return worst(compare(out[h], golden(*x), bound(*x)) for h, x in enumerate(inputs))

    cycles = CYCLES[causal] if (heads, seq, dim) == (HEADS, SEQ, DIM) else None
    name = f"{'causal ' if causal else ''}attention {heads}x{seq}x{dim}"
    return measured(name, program, [out], check, cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
