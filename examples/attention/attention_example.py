"""Attention of many queries at once over sequences of any lengths: one kernel for each tile of queries, which loops over the keys.

The kernel takes the keys tile by tile, and carries a running maximum, a running sum of exponentials and a weighted sum of
values; whenever the maximum grows, what was summed up so far shrinks by the exponential of the difference (Milakov and
Gimelshein, Online normalizer calculation for softmax, 2018; Dao et al., FlashAttention, 2022). No more than one tile of scores
exists at a time.

Heads of queries share heads of keys in groups. How many keys and queries a sequence has is data, and need not be a multiple of
the tile: the last tile is valid in part, and nothing is padded. Causal attention is that of a prompt whose last part is new: the
queries are the last positions of their sequence. A tile of them ends its loop where its last query sees no more, and masks only
where some of its queries see less than others. Otherwise each query sees all keys; where there are none the result is 0.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp import (
    Constexpr,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Program,
    Ragged,
    Scalar,
    Symbol,
    Tensor,
    TensorSpec,
    Value,
    kernel,
    pto,
    workload,
)
from pto_wsp.tools.bounds import (
    EXP,
    Array,
    U,
    compare,
    gamma,
    relative,
    rowsum_roundings,
    transposed_matmul_roundings,
)
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

LENGTHS, QUERIES, HEADS, KV_HEADS, DIM = (1024, 700, 65, 1), 512, 8, 2, 64
TILE = 64  # queries of a task, and keys of a step
# By `causal`. A task costs 968 cycles and 2518 for each whole tile of keys; 617 more where it masks.
CYCLES = {False: 1_243_680, True: 996_984}


@kernel
def attend(
    q: In[Tensor],
    k: In[Tensor[None, None, DType.F32]],
    v: In[Tensor[None, None, DType.F32]],
    first: Scalar[DType.I32],
    causal: Constexpr[bool],
    out: Out[Tensor],
):
    """q, out [TILE, dim]: queries from position `first` on. k, v [keys, dim]."""
    dim, keys = q.shape[1], k.shape[0]
    rows, _ = pto.valid_shape(q)
    query = q * (1 / math.sqrt(dim))

    def scores(j: Value) -> Value:
        return pto.matmul(query, pto.load(k, (j * TILE, 0), (TILE, dim)), transpose_b=True)

    def add_keys(j: Value, s: Value, carry: tuple[Value, Value, Value]) -> tuple[Value, Value, Value]:
        """Bring the scores s of tile j of the keys into the running maximum, sum and weighted sum of values."""
        peak, total, acc = carry
        new_peak = pto.maximum(peak, pto.rowmax(s))
        shrink = pto.exp(peak - new_peak)
        p = pto.exp(s - new_peak)
        values = pto.load(v, (j * TILE, 0), (TILE, dim))
        return new_peak, total * shrink + pto.rowsum(p), pto.matmul(p, values, acc=acc * shrink)

    def whole(j: Value, carry: Any) -> Any:
        return add_keys(j, scores(j), carry)

    def masked(j: Value, carry: Any) -> Any:
        s = scores(j)
        ahead = pto.iota(s.shape, axis=1) - pto.iota(s.shape, axis=0)  # of the first key and the first query
        return add_keys(j, pto.where(ahead > first - j * TILE, -math.inf, s), carry)

    carry = (pto.full((TILE, 1), -math.inf), pto.full((TILE, 1), 0.0), pto.full((TILE, dim), 0.0))
    if causal:
        seen_by_all = (first + 1) // TILE
        carry = pto.fori_loop(0, seen_by_all, whole, carry)
        _, total, acc = pto.fori_loop(seen_by_all, (first + rows + (TILE - 1)) // TILE, masked, carry)
    else:
        _, total, acc = pto.fori_loop(0, (keys + (TILE - 1)) // TILE, whole, carry)
    pto.store(out, acc / pto.maximum(total, 1.0))  # the largest score alone gives 1, but without keys total is 0


@workload
def attention(q: Tensor, k: Tensor, v: Tensor, keys: Ragged, queries: Ragged, out: Tensor, causal: bool):
    """q, out [batch, heads, most queries, dim]; k, v [batch, kv heads, most keys, dim]; keys[b], queries[b]: how many of them
    sequence b has."""
    heads = q.shape[1]
    group = heads // k.shape[1]
    for b in P(keys.outer):
        for h in P(heads):
            for i in P(queries[b].tiles(TILE)):
                attend[b, h, i](
                    q=q[b, h, i],
                    k=k[b, h // group, : keys[b]],
                    v=v[b, h // group, : keys[b]],
                    first=keys[b] - queries[b] + i * TILE,
                    causal=causal,
                    out=out[b, h, i],
                )


def compiled(heads: int, kv_heads: int, dim: int, causal: bool, threads: int | None) -> Program:
    batch = DenseDyn(name="batch")
    rows = TensorSpec((batch, heads, Symbol("most_queries"), dim), DType.F32)
    cache = TensorSpec((batch, kv_heads, Symbol("most_keys"), dim), DType.F32)
    keys, queries = Ragged(batch, Symbol("keys")), Ragged(batch, Symbol("queries"))
    return (
        attention(rows, cache, cache, keys, queries, rows, causal)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )


def bind(program: Program, arrays: tuple[Array, ...], keys: Sequence[int], queries: Sequence[int]) -> None:
    """Other arrays (q, k, v, out) and lengths for the same program: nothing is traced or compiled again."""
    q, k, v, out = arrays
    program.bind({"q": q, "k": k, "v": v, "out": out})
    program.set_axis_sizes({"batch": len(q), "most_queries": q.shape[2], "most_keys": k.shape[2]})
    program.set_axis_sizes({"keys": keys, "queries": queries})


def inputs(
    keys: Sequence[int], queries: Sequence[int], heads: int, kv_heads: int, dim: int
) -> tuple[Array, Array, Array, Array]:
    """q, k, v and out, which is zeros. What lies beyond the lengths holds NaN: nothing may read it."""
    random = np.random.default_rng(0)

    def rows(count: int, lengths: Sequence[int]) -> Array:
        x = random.standard_normal((len(lengths), count, max([*lengths, 1]), dim), dtype=np.float32)
        for one, n in zip(x, lengths, strict=True):
            one[:, n:] = np.nan
        return x

    q = rows(heads, queries)
    return q, rows(kv_heads, keys), rows(kv_heads, keys), np.zeros_like(q)


def weights(q: Array, k: Array, causal: bool) -> tuple[Array, Array]:
    """Of one head: how far each score lies below the largest of its query, and the softmax of the scores."""
    s = q.astype(np.float64) @ k.astype(np.float64).T / math.sqrt(q.shape[1])
    if causal:
        s[~np.tri(*s.shape, len(k) - len(q), dtype=bool)] = -np.inf
    below = s.max(axis=1, keepdims=True, initial=-np.inf) - s
    p = np.exp(-below)
    return below, p / p.sum(axis=1, keepdims=True)


def golden(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """Attention of one head in float64: q [queries, dim], k, v [keys, dim]."""
    return weights(q, k, causal)[1] @ v


def bound(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """For one head. An error d of an exponent is a factor exp(d) of its exponential."""
    keys, dim = k.shape
    below, p = weights(q, k, causal)
    # A query is scaled by a number that is itself rounded, and a score is a product over dim.
    of_score = gamma(transposed_matmul_roundings(dim) + 2) * (
        np.abs(q).astype(np.float64) @ np.abs(k).T / math.sqrt(dim)
    )
    # The weight of a key is exp(s - peak at its tile), times exp(peak - new peak) for each later tile: the distances
    # add up to `below`, each is rounded once, and each tile costs an exponential and a product.
    tiles = -(-keys // TILE)
    of_weight = of_score + U * (np.where(p > 0, below, 0) + EXP + tiles * (EXP + 1))
    # A term of the sum of weights is added up in its tile, and then once with each later one. A term of the weighted
    # values goes through the chain of fused multiply-adds of its tile and of all later ones.
    of_sum = (p * relative(of_weight + U * (rowsum_roundings(TILE) + tiles))).sum(axis=1, keepdims=True)
    of_values = (p * relative(of_weight + U * keys)) @ np.abs(v)
    y = np.abs(p @ v)
    in_quotient = (of_values + y * of_sum) / (1 - of_sum)
    return in_quotient + U * (y + in_quotient)


def compared(
    arrays: tuple[Array, ...], keys: Sequence[int], queries: Sequence[int], causal: bool
) -> tuple[float, float]:
    """The largest error of all, and its share of the bound. Rows that are no queries must still be 0."""
    q, k, v, out = arrays
    want, limit = np.zeros(out.shape), np.zeros(out.shape)
    for b, (n, m) in enumerate(zip(keys, queries, strict=True)):
        for h in range(q.shape[1]):
            g = h // (q.shape[1] // k.shape[1])
            of = q[b, h, :m], k[b, g, :n], v[b, g, :n], causal
            want[b, h, :m], limit[b, h, :m] = golden(*of), bound(*of)
    return compare(out, want, limit)


def run(
    lengths: Sequence[int] = LENGTHS,
    queries: int = QUERIES,
    heads: int = HEADS,
    kv_heads: int = KV_HEADS,
    dim: int = DIM,
    causal: bool = True,
    threads: int | None = None,
) -> Result:
    """lengths: keys of each sequence. queries: of each; causal ones are at most as many as there are keys."""
    check_sizes(queries=queries, heads=heads, kv_heads=kv_heads, dim=dim)
    if heads % kv_heads:
        raise ValueError(f"{kv_heads} heads of keys do not serve {heads} of queries")
    counts = [min(queries, n) if causal else queries for n in lengths]
    arrays = inputs(lengths, counts, heads, kv_heads, dim)
    program = compiled(heads, kv_heads, dim, causal, threads)
    bind(program, arrays, lengths, counts)
    sizes = (tuple(lengths), queries, heads, kv_heads, dim)
    cycles = CYCLES[causal] if sizes == (LENGTHS, QUERIES, HEADS, KV_HEADS, DIM) else None
    name = f"attention {len(lengths)}x{heads}x{queries}x{dim}{', causal' if causal else ''}"
    return measured(name, program, [arrays[3]], lambda: compared(arrays, lengths, counts, causal), cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
