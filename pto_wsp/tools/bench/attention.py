"""Rows of attention: one query a sequence over a paged cache of any lengths, and causal over a whole sequence.

Both are one kernel for each tile of queries, which loops over the keys with a running maximum, sum and weighted sum of values
(Dao et al., FlashAttention, 2022).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pto_wsp import (
    DenseDyn,
    DType,
    In,
    Out,
    P,
    Program,
    Scalar,
    Symbol,
    Tensor,
    TensorSpec,
    Tile,
    empty,
    item,
    kernel,
    pto,
    workload,
)
from pto_wsp.tools.bench.arms import Arms, Array, Call, has_jax, in_n_eps, jitted

DIM, PAGE = 128, 16
GROUP = 8  # pages of a step, as long as there are so many
QUERIES, KEYS = 128, 128  # rows of a task of the causal form, and keys of a step
PADDED = "jax.jit padded to {} and masked"
UNROLLED = "jax.jit unrolled over the four static lengths"
NUMPY = "numpy per sequence and head"
DENSE, FUSED = "jax.jit dense with mask", "jax.nn.dot_product_attention"


def attend(carry: Any, scores: Any, values: Any) -> Any:
    """One step of attention: scores, a list of [n, k_i], with values [k_i, d]. carry: maximum, sum, weighted sum."""
    peak, total, acc = carry
    new_peak = peak
    for s in scores:
        new_peak = pto.maximum(new_peak, pto.rowmax(s))
    shrink = pto.exp(peak - new_peak)
    total, acc = total * shrink, acc * shrink
    for s, v in zip(scores, values, strict=True):
        p = pto.exp(s - new_peak)
        total, acc = total + pto.rowsum(p), pto.matmul(p, v, acc=acc)
    return new_peak, total, acc


def nothing_yet(rows: int) -> Any:
    return pto.full((rows, 1), -math.inf), pto.full((rows, 1), 0.0), pto.full((rows, DIM), 0.0)


@kernel
def decode_head(
    q: In[Tile[1, DIM, DType.F32]],
    k: In[Tensor[None, PAGE, DIM, DType.F32]],
    v: In[Tensor[None, PAGE, DIM, DType.F32]],
    table: In[Tensor[None, DType.I32]],
    length: Scalar[DType.I32],
    out: Out[Tile[1, DIM, DType.F32]],
) -> None:
    """One head of one sequence: position p lies in page table[p // PAGE] of k and v."""
    query = q * (1 / math.sqrt(DIM))

    def whole(j: Any, carry: Any) -> Any:
        at = [(pto.item(table, (j * GROUP + g,)), 0, 0) for g in range(GROUP)]
        keys, values = ([pto.load(x, place, (PAGE, DIM)) for place in at] for x in (k, v))
        return attend(carry, [pto.matmul(query, tile, transpose_b=True) for tile in keys], values)

    def page(j: Any, carry: Any) -> Any:
        at, rows = (pto.item(table, (j,)), 0, 0), pto.minimum(length - j * PAGE, PAGE)
        keys, values = (pto.restrict(pto.load(x, at, (PAGE, DIM)), rows, DIM) for x in (k, v))
        return attend(carry, [pto.matmul(query, keys, transpose_b=True)], [values])

    groups = length // (GROUP * PAGE)
    carry = pto.fori_loop(0, groups, whole, nothing_yet(1))
    _, total, acc = pto.fori_loop(groups * GROUP, (length + (PAGE - 1)) // PAGE, page, carry)
    pto.store(out, acc / total)


@kernel
def turn(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.transpose(x))


@kernel
def prefill_tile(
    q: In[Tile[QUERIES, DIM, DType.F32]],
    k: In[Tensor[None, DIM, KEYS, DType.F32]],
    v: In[Tensor[None, DIM, DType.F32]],
    first: Scalar[DType.I32],
    out: Out[Tile[QUERIES, DIM, DType.F32]],
) -> None:
    """QUERIES rows from position `first` on, of one head: each sees the keys up to its own position. k: tiles of keys, turned."""
    query = q * (1 / math.sqrt(DIM))

    def scores(j: Any) -> Any:
        return pto.matmul(query, pto.load(k, (j, 0, 0), (DIM, KEYS)))

    def values(j: Any) -> Any:
        return pto.load(v, (j * KEYS, 0), (KEYS, DIM))

    def step(j: Any, carry: Any) -> Any:
        return attend(carry, [scores(j)], [values(j)])

    def last(j: Any, carry: Any) -> Any:
        s = scores(j)
        ahead = pto.iota(s.shape, axis=1) - pto.iota(s.shape, axis=0)
        return attend(carry, [pto.where(ahead > first - j * KEYS, -math.inf, s)], [values(j)])

    seen = first // KEYS  # steps all of whose keys all rows see
    carry = pto.fori_loop(0, seen, step, nothing_yet(QUERIES))
    _, total, acc = pto.fori_loop(seen, (first + (QUERIES + KEYS - 1)) // KEYS, last, carry)
    pto.store(out, acc / total)


@workload
def decode(q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor, out: Tensor) -> None:
    """q, out [batch, heads, DIM]; k, v [pages, heads, PAGE, DIM]; table [batch, blocks]; lengths [batch]."""
    for b in P(q.shape[0]):
        for h in P(q.shape[1]):
            head = slice(h, h + 1)
            decode_head[b, h](
                q=q[b, head], k=k[:, h], v=v[:, h], table=table[b], length=item(lengths[b]), out=out[b, head]
            )


@workload
def prefill(q: Any, k: Any, v: Any, out: Any) -> None:
    """q, k, v, out [heads, seq, DIM]; seq is a multiple of KEYS. Tiles of keys are turned once: products then run in order."""
    heads, seq, _ = q.shape
    turned = empty((heads, seq // KEYS, DIM, KEYS), DType.F32)
    for h in P(heads):
        for j in P(seq // KEYS):
            turn[h, j](x=k[h, j * KEYS : (j + 1) * KEYS], out=turned[h, j])
    for h in P(heads):
        for i in P(q[0].tiles(QUERIES)):
            prefill_tile[h, i](q=q[h, i], k=turned[h], v=v[h], first=i * QUERIES, out=out[h, i])


def compiled_decode(heads: int, threads: int) -> Program:
    batch, pages = DenseDyn(name="batch"), Symbol("pages")
    cache = TensorSpec((pages, heads, PAGE, DIM), DType.F32)
    rows = TensorSpec((batch, heads, DIM), DType.F32)
    table = TensorSpec((batch, Symbol("blocks")), DType.I32)
    return decode(rows, cache, cache, table, TensorSpec((batch,), DType.I64), rows).compile(threads=threads)


def compiled_prefill(heads: int, seq: int, threads: int) -> Program:
    spec = TensorSpec((heads, seq, DIM), DType.F32)
    return prefill(spec, spec, spec, spec).compile(threads=threads)


def decode_row(shape: Mapping[str, Any], threads: int, *, unrolled: bool) -> Arms:
    lengths = shape["kv_lens"]
    if isinstance(lengths, str):
        lengths = [int(n) for n in np.random.default_rng(1).integers(1, 4097, 64)]
    heads, batch = shape["heads"], len(lengths)
    random = np.random.default_rng(2)
    blocks = [-(-n // PAGE) for n in lengths]
    order = random.permutation(sum(blocks))
    table = np.zeros((batch, max(blocks)), np.int32)
    for b, n in enumerate(blocks):
        table[b, :n] = order[sum(blocks[:b]) :][:n]
    q = random.standard_normal((batch, heads, DIM), dtype=np.float32)
    k, v = (random.standard_normal((sum(blocks), heads, PAGE, DIM), dtype=np.float32) for _ in range(2))
    out = np.zeros_like(q)
    program = compiled_decode(heads, threads)
    program.set_axis_sizes({"batch": batch, "pages": len(k), "blocks": table.shape[1]})
    program.bind({"q": q, "k": k, "v": v, "table": table, "lengths": np.array(lengths, np.int64), "out": out})
    caches = [_contiguous(c, table, lengths) for c in (k, v)]

    def error() -> tuple[float, str]:
        exact, size = np.zeros(q.shape), np.zeros(q.shape)
        for b in range(batch):
            keys, values = (c[b].astype(np.float64) for c in caches)
            s = np.einsum("hkd,hd->hk", keys, q[b].astype(np.float64)) / math.sqrt(DIM)
            p = np.exp(s - s.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            exact[b], size[b] = np.einsum("hk,hkd->hd", p, values), np.einsum("hk,hkd->hd", p, np.abs(values))
        return in_n_eps(out, exact, max(lengths), size)

    peers: dict[str, Call] = {NUMPY: lambda: by_numpy(q, caches)}
    padded = PADDED.format(32768 if unrolled else 4096)
    missing: tuple[str, ...] = ()
    if has_jax():
        longest = 32768 if unrolled else 4096
        wide = [np.zeros((batch, heads, longest, DIM), np.float32) for _ in caches]
        for array, cache in zip(wide, caches, strict=True):
            for b, n in enumerate(lengths):
                array[b, :, :n] = cache[b]
        peers[padded] = jitted(masked, q, *wide, np.array(lengths, np.int32))
        if unrolled:
            peers[UNROLLED] = jitted(by_length, q, *caches[0], *caches[1])
    else:
        missing = (padded, UNROLLED) if unrolled else (padded,)
    return Arms(program.run, error, bytes=2 * sum(lengths) * heads * DIM * 4, reads=True, peers=peers, missing=missing)


def _contiguous(cache: Array, table: Array, lengths: Sequence[int]) -> list[Array]:
    """[heads, length, DIM] of each sequence."""
    return [
        np.ascontiguousarray(cache[table[b, : -(-n // PAGE)]].swapaxes(0, 1).reshape(cache.shape[1], -1, DIM)[:, :n])
        for b, n in enumerate(lengths)
    ]


def by_numpy(q: Array, caches: Sequence[Sequence[Array]]) -> Array:
    out = np.empty_like(q)
    for b, (k, v) in enumerate(zip(*caches, strict=True)):
        for h in range(len(k)):
            s = k[h] @ q[b, h] * np.float32(1 / math.sqrt(DIM))
            p = np.exp(s - s.max())
            out[b, h] = (p @ v[h]) / p.sum()
    return out


def masked(jnp: Any, q: Any, k: Any, v: Any, lengths: Any) -> Any:
    s = jnp.einsum("bhd,bhsd->bhs", q, k) / math.sqrt(DIM)
    s = jnp.where(jnp.arange(k.shape[2]) < lengths[:, None, None], s, -jnp.inf)
    p = jnp.exp(s - s.max(axis=2, keepdims=True))
    return jnp.einsum("bhs,bhsd->bhd", p / p.sum(axis=2, keepdims=True), v)


def by_length(jnp: Any, q: Any, *caches: Any) -> Any:
    out: list[Any] = []
    for b in range(len(caches) // 2):
        k, v = caches[b], caches[len(caches) // 2 + b]
        s = jnp.einsum("hd,hsd->hs", q[b], k) / math.sqrt(DIM)
        p = jnp.exp(s - s.max(axis=1, keepdims=True))
        out.append(jnp.einsum("hs,hsd->hd", p / p.sum(axis=1, keepdims=True), v))
    return jnp.stack(out)


def prefill_row(shape: Mapping[str, Any], flops: int, threads: int) -> Arms:
    heads, seq = shape["heads"], shape["s"]
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((heads, seq, DIM), dtype=np.float32) for _ in range(3))
    out = np.zeros_like(q)
    program = compiled_prefill(heads, seq, threads).bind({"q": q, "k": k, "v": v, "out": out})

    def error() -> tuple[float, str]:
        worst = 0.0
        for h in range(heads):
            s = q[h].astype(np.float64) @ k[h].astype(np.float64).T / math.sqrt(DIM)
            s = np.where(np.tri(seq, dtype=bool), s, -np.inf)
            p = np.exp(s - s.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            worst = max(worst, in_n_eps(out[h], p @ v[h].astype(np.float64), seq, p @ np.abs(v[h]))[0])
        return worst, "n*eps"

    def dense(jnp: Any, a: Any, b: Any, c: Any) -> Any:
        s = jnp.where(np.tri(seq, dtype=bool), jnp.einsum("hqd,hkd->hqk", a, b) / math.sqrt(DIM), -jnp.inf)
        p = jnp.exp(s - s.max(axis=-1, keepdims=True))
        return jnp.einsum("hqk,hkd->hqd", p / p.sum(axis=-1, keepdims=True), c)

    def fused(jnp: Any, a: Any, b: Any, c: Any) -> Any:
        attention = importlib.import_module("jax").nn.dot_product_attention
        return attention(*(x.swapaxes(0, 1) for x in (a, b, c)), is_causal=True)

    peers = {DENSE: jitted(dense, q, k, v), FUSED: jitted(fused, q, k, v)} if has_jax() else {}
    return Arms(program.run, error, flops=flops, peers=peers, missing=() if has_jax() else (DENSE, FUSED))
