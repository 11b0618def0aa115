"""Rows of attention: one query a sequence over a paged cache of any lengths, and causal over a whole sequence.

Both are one kernel for each tile of queries, which loops over the keys with a running maximum, sum and weighted sum of values
(Dao et al., FlashAttention, 2022).
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pto_wsp import (
    Constexpr,
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


def over_pages(q: Any, k: Any, v: Any, page_of: Callable[[Any], Any], length: Any) -> Any:
    """Maximum, sum and weighted sum over `length` positions: position p is in page page_of(p // PAGE) of k and v."""
    query = q * (1 / math.sqrt(DIM))

    def whole(j: Any, carry: Any) -> Any:
        at = [(page_of(j * GROUP + g), 0, 0) for g in range(GROUP)]
        keys, values = ([pto.load(x, place, (PAGE, DIM)) for place in at] for x in (k, v))
        return attend(carry, [pto.matmul(query, tile, transpose_b=True) for tile in keys], values)

    def page(j: Any, carry: Any) -> Any:
        at, rows = (page_of(j), 0, 0), pto.minimum(length - j * PAGE, PAGE)
        keys, values = (pto.restrict(pto.load(x, at, (PAGE, DIM)), rows, DIM) for x in (k, v))
        return attend(carry, [pto.matmul(query, keys, transpose_b=True)], [values])

    groups = length // (GROUP * PAGE)
    carry = pto.fori_loop(0, groups, whole, nothing_yet(1))
    return pto.fori_loop(groups * GROUP, (length + (PAGE - 1)) // PAGE, page, carry)


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
    _, total, acc = over_pages(q, k, v, lambda j: pto.item(table, (j,)), length)
    pto.store(out, acc / total)


@kernel
def decode_piece(
    q: In[Tile[1, DIM, DType.F32]],
    k: In[Tensor[None, PAGE, DIM, DType.F32]],
    v: In[Tensor[None, PAGE, DIM, DType.F32]],
    table: In[Tensor[None, DType.I32]],
    start: Scalar[DType.I32],
    length: Scalar[DType.I32],
    peak: Out[Tile[1, 1, DType.F32]],
    total: Out[Tile[1, 1, DType.F32]],
    out: Out[Tile[1, DIM, DType.F32]],
) -> None:
    """The same of `length` positions from `start` on, a multiple of PAGE, and what it takes to bring pieces together."""
    first = start // PAGE
    carry = over_pages(q, k, v, lambda j: pto.item(table, (first + j,)), length)
    for to, x in zip((peak, total, out), carry, strict=True):
        pto.store(to, x)


@kernel
def merge_pieces(
    peaks: In[Tensor[None, 1, 1, DType.F32]],
    totals: In[Tensor[None, 1, 1, DType.F32]],
    parts: In[Tensor[None, 1, DIM, DType.F32]],
    out: Out[Tile[1, DIM, DType.F32]],
) -> None:
    def piece(i: Any, carry: Any) -> Any:
        peak, total, acc = carry
        of_peak, of_total = (pto.load(x, (i, 0, 0), (1, 1)) for x in (peaks, totals))
        new_peak = pto.maximum(peak, of_peak)
        ours, theirs = pto.exp(peak - new_peak), pto.exp(of_peak - new_peak)
        return new_peak, total * ours + of_total * theirs, acc * ours + pto.load(parts, (i, 0, 0), (1, DIM)) * theirs

    _, total, acc = pto.fori_loop(0, peaks.shape[0], piece, nothing_yet(1))
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
    causal: Constexpr[bool],
    out: Out[Tile[QUERIES, DIM, DType.F32]],
) -> None:
    """QUERIES rows from position `first` on, of one head: each sees the keys, causal those up to its own position. k: tiles of keys, turned."""
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

    seen = first // KEYS if causal else k.shape[0]  # steps all of whose keys all rows see
    _, total, acc = carry = pto.fori_loop(0, seen, step, nothing_yet(QUERIES))
    if causal:
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


@kernel
def decode_contiguous_head(
    q: In[Tile[1, DIM, DType.F32]],
    k: In[Tensor[None, DIM, DType.F32]],
    v: In[Tensor[None, DIM, DType.F32]],
    out: Out[Tile[1, DIM, DType.F32]],
) -> None:
    """One head of one sequence, whose keys and values lie in a row."""
    query = q * (1 / math.sqrt(DIM))

    def tile(j: Any, carry: Any) -> Any:
        keys, values = (pto.load(x, (j * KEYS, 0), (KEYS, DIM)) for x in (k, v))
        return attend(carry, [pto.matmul(query, keys, transpose_b=True)], [values])

    _, total, acc = pto.fori_loop(0, (k.shape[0] + (KEYS - 1)) // KEYS, tile, nothing_yet(1))
    pto.store(out, acc / total)


@workload
def decode_contiguous(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, out: Tensor) -> None:
    """q, out [batch, heads, DIM]; k, v [batch, heads, longest, DIM]; lengths [batch]."""
    for b in P(q.shape[0]):
        n = item(lengths[b])
        for h in P(q.shape[1]):
            head = slice(h, h + 1)
            decode_contiguous_head[b, h](q=q[b, head], k=k[b, h, :n], v=v[b, h, :n], out=out[b, head])


@workload
def decode_in_pieces(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, pieces: Tensor, of_sequence: Tensor, out: Tensor
) -> None:
    """The same, in pieces of which none is long: pieces [n, 3] of a sequence, a first position and a length, those of one sequence in a
    row; of_sequence [batch, 2]: its first piece, and how many it has."""
    n, heads = pieces.shape[0], q.shape[1]
    peaks, totals, parts = (empty((n, heads, size), DType.F32) for size in (1, 1, DIM))
    for r in P(n):
        for h in P(heads):
            head, sequence = slice(h, h + 1), item(pieces[r, 0])
            decode_piece[r, h](
                q=q[sequence, head],
                k=k[:, h],
                v=v[:, h],
                table=table[sequence],
                start=item(pieces[r, 1]),
                length=item(pieces[r, 2]),
                peak=peaks[r, head],
                total=totals[r, head],
                out=parts[r, head],
            )
    for b in P(q.shape[0]):
        for h in P(heads):
            head, first = slice(h, h + 1), item(of_sequence[b, 0])
            mine = slice(first, first + item(of_sequence[b, 1]))
            merge_pieces[b, h](
                peaks=peaks[mine, head], totals=totals[mine, head], parts=parts[mine, head], out=out[b, head]
            )


@workload
def prefill(q: Any, k: Any, v: Any, out: Any, causal: bool = True) -> None:
    """q, k, v, out [heads, seq, DIM]; seq is a multiple of KEYS. Tiles of keys are turned once: products then run in order."""
    heads, seq, _ = q.shape
    turned = empty((heads, seq // KEYS, DIM, KEYS), DType.F32)
    for h in P(heads):
        for j in P(seq // KEYS):
            turn[h, j](x=k[h, j * KEYS : (j + 1) * KEYS], out=turned[h, j])
    for h in P(heads):
        for i in P(q[0].tiles(QUERIES)):
            prefill_tile[h, i](q=q[h, i], k=turned[h], v=v[h], first=i * QUERIES, causal=causal, out=out[h, i])


def compiled_decode(heads: int, threads: int) -> Program:
    batch, pages = DenseDyn(name="batch"), Symbol("pages")
    cache = TensorSpec((pages, heads, PAGE, DIM), DType.F32)
    rows = TensorSpec((batch, heads, DIM), DType.F32)
    table = TensorSpec((batch, Symbol("blocks")), DType.I32)
    return decode(rows, cache, cache, table, TensorSpec((batch,), DType.I64), rows).compile(threads=threads)


def compiled_prefill(heads: int, seq: int, threads: int) -> Program:
    spec = TensorSpec((heads, seq, DIM), DType.F32)
    return prefill(spec, spec, spec, spec).compile(threads=threads)


@dataclass(frozen=True)
class Batch:
    """Queries, a cache in pages in random order, and the same contiguous: keys and values of each sequence, [heads, length, DIM]."""

    lengths: list[int]
    q: Array
    k: Array
    v: Array
    table: Array
    caches: list[list[Array]]

    @staticmethod
    def of(shape: Mapping[str, Any]) -> Batch:
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
        return Batch(lengths, q, k, v, table, [_contiguous(c, table, lengths) for c in (k, v)])

    def padded(self, longest: int) -> list[Array]:
        """Keys and values, [batch, heads, longest, DIM]."""
        out = [np.zeros((*self.q.shape[:2], longest, DIM), np.float32) for _ in self.caches]
        for array, cache in zip(out, self.caches, strict=True):
            for b, n in enumerate(self.lengths):
                array[b, :, :n] = cache[b]
        return out

    def pieces(self, most: int) -> tuple[Array, Array]:
        """As `decode_in_pieces` takes them, of so many positions at most."""
        counts = [-(-n // most) for n in self.lengths]
        pieces = [(b, i * most, min(most, n - i * most)) for b, n in enumerate(self.lengths) for i in range(counts[b])]
        first = np.cumsum([0, *counts[:-1]])
        return np.array(pieces, np.int32), np.stack([first, counts], axis=1).astype(np.int32)

    def error(self, out: Array) -> tuple[float, str]:
        exact, size = np.zeros(self.q.shape), np.zeros(self.q.shape)
        for b in range(len(self.lengths)):
            keys, values = (c[b].astype(np.float64) for c in self.caches)
            s = np.einsum("hkd,hd->hk", keys, self.q[b].astype(np.float64)) / math.sqrt(DIM)
            p = np.exp(s - s.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            exact[b], size[b] = np.einsum("hk,hkd->hd", p, values), np.einsum("hk,hkd->hd", p, np.abs(values))
        return in_n_eps(out, exact, max(self.lengths), size)


def decode_row(shape: Mapping[str, Any], threads: int, *, unrolled: bool) -> Arms:
    given = Batch.of(shape)
    q, heads = given.q, shape["heads"]
    out = np.zeros_like(q)
    program = compiled_decode(heads, threads)
    program.set_axis_sizes({"batch": len(q), "pages": len(given.k), "blocks": given.table.shape[1]})
    lengths = np.array(given.lengths, np.int64)
    program.bind({"q": q, "k": given.k, "v": given.v, "table": given.table, "lengths": lengths, "out": out})
    peers: dict[str, Call] = {NUMPY: lambda: by_numpy(q, given.caches)}
    longest = 32768 if unrolled else 4096
    padded = PADDED.format(longest)
    missing: tuple[str, ...] = ()
    if has_jax():
        peers[padded] = jitted(masked, q, *given.padded(longest), np.array(given.lengths, np.int32))
        if unrolled:
            peers[UNROLLED] = jitted(by_length, q, *given.caches[0], *given.caches[1])
    else:
        missing = (padded, UNROLLED) if unrolled else (padded,)
    moved = 2 * sum(given.lengths) * heads * DIM * 4
    return Arms(program.run, lambda: given.error(out), bytes=moved, reads=True, peers=peers, missing=missing)


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


def heads_of_sequence(shape: Mapping[str, Any]) -> tuple[Array, Array, Array]:
    """q, k, v [heads, seq, DIM]."""
    random = np.random.default_rng(0)
    size = (shape["heads"], shape["s"], DIM)
    q, k, v = (random.standard_normal(size, dtype=np.float32) for _ in range(3))
    return q, k, v


def sequence_error(q: Array, k: Array, v: Array, out: Array, *, causal: bool) -> tuple[float, str]:
    worst, seq = 0.0, q.shape[1]
    for h in range(len(q)):
        s = q[h].astype(np.float64) @ k[h].astype(np.float64).T / math.sqrt(DIM)
        s = np.where(np.tri(seq, dtype=bool), s, -np.inf) if causal else s
        p = np.exp(s - s.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        worst = max(worst, in_n_eps(out[h], p @ v[h].astype(np.float64), seq, p @ np.abs(v[h]))[0])
    return worst, "n*eps"


def dense(jnp: Any, q: Any, k: Any, v: Any, *, causal: bool) -> Any:
    s = jnp.einsum("hqd,hkd->hqk", q, k) / math.sqrt(DIM)
    s = jnp.where(np.tri(q.shape[1], dtype=bool), s, -jnp.inf) if causal else s
    p = jnp.exp(s - s.max(axis=-1, keepdims=True))
    return jnp.einsum("hqk,hkd->hqd", p / p.sum(axis=-1, keepdims=True), v)


def prefill_row(shape: Mapping[str, Any], flops: int, threads: int) -> Arms:
    q, k, v = heads_of_sequence(shape)
    out = np.zeros_like(q)
    program = compiled_prefill(shape["heads"], shape["s"], threads).bind({"q": q, "k": k, "v": v, "out": out})

    def error() -> tuple[float, str]:
        return sequence_error(q, k, v, out, causal=True)

    def fused(jnp: Any, a: Any, b: Any, c: Any) -> Any:
        attention = importlib.import_module("jax").nn.dot_product_attention
        return attention(*(x.swapaxes(0, 1) for x in (a, b, c)), is_causal=True)

    of_dense = functools.partial(dense, causal=True)
    peers = {DENSE: jitted(of_dense, q, k, v), FUSED: jitted(fused, q, k, v)} if has_jax() else {}
    return Arms(program.run, error, flops=flops, peers=peers, missing=() if has_jax() else (DENSE, FUSED))
