"""Attention of one new query per sequence over a paged cache of keys and values, of any lengths, with no padding.

The cache lies in pages of 16 positions, and a block table says which page holds which part of a sequence. Heads of queries share
heads of keys in groups: the queries of a group are one tile, so that a page is read once for all of them. A planner on the host
cuts each sequence into pieces: records of (request, kv_start, kv_len, out), rows of an array. Each record and group is one task,
whose kernel takes the pages of its piece from the table with a running maximum, sum and weighted sum of values; then one task for
each sequence and group merges its pieces in their order (Flash-Decoding, 2023). All of that is data: the program is traced
and compiled once, and bound to other lengths, tables and records without compiling again.
"""

import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pto_wsp import (
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
    empty,
    item,
    kernel,
    pto,
    workload,
)
from pto_wsp.tools.bounds import EXP, Array, Estimate, U, compare
from pto_wsp.tools.report import Result, check_sizes, command_line, jitted, measured

HEADS, KV_HEADS, DIM, PAGE, PIECE = 8, 8, 128, 16, 1024
STEP = 8  # pages that the kernel takes at once, as long as there are so many
LENGTHS = (512, 2048, 8192, 32768)
MANY = tuple(int(n) for n in np.random.default_rng(1).integers(1, 4097, 64))
FIELDS = ("request", "kv_start", "kv_len", "out")
CYCLES = {(False, False): 3_588_914, (True, False): 3_218_736, (False, True): 10_637_668}  # by `bf16` and `many`

Running = tuple[Value, Value, Value]
"""A maximum of scores, and the sum of their exponentials and of the values weighted by them, relative to it."""


def nothing_yet(rows: int, dim: int) -> tuple[Any, Any, Any]:
    return pto.full((rows, 1), -math.inf), pto.full((rows, 1), 0.0), pto.full((rows, dim), 0.0)


def add_pages(carry: Running, scores: Sequence[Value], values: Sequence[Value]) -> Running:
    """With a few tiles of keys more: their scores [rows, n] and values [n, dim]."""
    peak, total, acc = carry
    new_peak = functools.reduce(pto.maximum, map(pto.rowmax, scores), peak)
    shrink = pto.exp(peak - new_peak)
    total, acc = total * shrink, acc * shrink
    for s, v in zip(scores, values, strict=True):
        p = pto.exp(s - new_peak)
        total, acc = total + pto.rowsum(p), pto.matmul(p, pto.cast(v, DType.F32), acc=acc)
    return new_peak, total, acc


@functools.cache
def attend(dtype: DType) -> Any:
    """The kernel for keys and values of this dtype."""

    @kernel
    def attend(
        q: In[Tensor],
        k: In[Tensor[None, PAGE, None, dtype]],
        v: In[Tensor[None, PAGE, None, dtype]],
        table: In[Tensor[None, DType.I32]],
        start: Scalar[DType.I32],
        length: Scalar[DType.I32],
        peak: Out[Tensor],
        total: Out[Tensor],
        out: Out[Tensor],
    ):
        """q [group, dim] over `length` positions from `start`, a multiple of PAGE, on: position p is in page table[p // PAGE]."""
        rows, dim = q.shape
        scale, first = 1 / math.sqrt(dim), start // PAGE

        def pages(j: Value, count: int, carry: Running, valid: Any = PAGE) -> Running:
            """From page j of the piece on; `valid` positions of each."""
            at = [(pto.item(table, (first + j + i,)), 0, 0) for i in range(count)]
            keys, values = ([pto.restrict(pto.load(x, place, (PAGE, dim)), valid, dim) for place in at] for x in (k, v))
            return add_pages(carry, [pto.matmul(q, tile, transpose_b=True) * scale for tile in keys], values)

        steps, whole = length // (STEP * PAGE), length // PAGE
        carry = pto.fori_loop(0, steps, lambda j, c: pages(j * STEP, STEP, c), nothing_yet(rows, dim))
        carry = pto.fori_loop(steps * STEP, whole, lambda j, c: pages(j, 1, c), carry)
        rest = length - whole * PAGE
        carry = pto.cond(rest > 0, lambda c: pages(whole, 1, c, rest), lambda c: c, carry)
        for to, x in zip((peak, total, out), carry, strict=True):
            pto.store(to, x)

    return attend


@kernel
def merge(
    peaks: In[Tensor[None, None, 1, DType.F32]],
    totals: In[Tensor[None, None, 1, DType.F32]],
    parts: In[Tensor[None, None, None, DType.F32]],
    out: Out[Tensor],
):
    """The pieces of one sequence: peaks, totals [pieces, group, 1], parts [pieces, group, dim]. Without any the result is 0."""
    rows, dim = out.shape

    def piece(i: Value, carry: Running) -> Running:
        peak, total, acc = carry
        of_peak, of_total = (pto.load(x, (i, 0, 0), (rows, 1)) for x in (peaks, totals))
        new_peak = pto.maximum(peak, of_peak)
        ours, theirs = pto.exp(peak - new_peak), pto.exp(of_peak - new_peak)
        return new_peak, total * ours + of_total * theirs, acc * ours + pto.load(parts, (i, 0, 0), (rows, dim)) * theirs

    _, total, acc = pto.fori_loop(0, peaks.shape[0], piece, nothing_yet(rows, dim))
    pto.store(out, acc / pto.maximum(total, 1.0))  # the largest score alone gives 1, but without keys total is 0


@workload
def decode(q: Tensor, k: Tensor, v: Tensor, table: Tensor, work: Tensor, first: Tensor, pieces: Ragged, out: Tensor):
    """q, out [batch, heads, d]; k, v [pages, kv heads, PAGE, d]; table [batch, blocks]; work [n] records; pieces[b] records of
    sequence b, from record first[b] on."""
    n, (_, heads, dim) = work.shape[0], q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    peaks, totals = empty((n, heads, 1), DType.F32), empty((n, heads, 1), DType.F32)
    parts = empty((n, heads, dim), DType.F32)
    for r in P(work):
        for g in P(kv_heads):
            of = slice(g * group, (g + 1) * group)
            attend(k.dtype)[r.out, g](
                q=q[r.request, of],
                k=k[:, g],
                v=v[:, g],
                table=table[r.request],
                start=r.kv_start,
                length=r.kv_len,
                peak=peaks[r.out, of],
                total=totals[r.out, of],
                out=parts[r.out, of],
            )
    for b in P(pieces.outer):
        for g in P(kv_heads):
            of, lo = slice(g * group, (g + 1) * group), item(first[b])
            mine = slice(lo, lo + pieces[b])
            merge[b, g](peaks=peaks[mine, of], totals=totals[mine, of], parts=parts[mine, of], out=out[b, of])


@dataclass(frozen=True)
class Batch:
    """Sequences of `lengths` positions: queries, caches in pages, block table."""

    lengths: tuple[int, ...]
    q: Array
    k: Array
    v: Array
    table: Array

    @staticmethod
    def random(
        lengths: Sequence[int], heads: int, kv_heads: int, dim: int, dtype: np.dtype, pages: int | None = None
    ) -> "Batch":
        """The pages of a sequence lie in random order. Of the pages that exist, those not named hold NaN."""
        random = np.random.default_rng(2)
        blocks = [-(-n // PAGE) for n in lengths]
        pages = sum(blocks) + 1 if pages is None else pages
        order = random.permutation(pages)
        table = np.full((len(lengths), max([*blocks, 1])), -1, np.int32)
        at = 0
        for b, n in enumerate(blocks):
            table[b, :n] = order[at : at + n]
            at += n
        q = random.standard_normal((len(lengths), heads, dim), dtype=np.float32).astype(dtype)
        k, v = (random.standard_normal((pages, kv_heads, PAGE, dim), dtype=np.float32).astype(dtype) for _ in range(2))
        for cache in (k, v):
            cache[order[at:]] = np.nan
            for b, n in enumerate(lengths):
                if n % PAGE:
                    cache[table[b, n // PAGE], :, n % PAGE :] = np.nan  # beyond the sequence
        return Batch(tuple(lengths), q, k, v, table)

    def plan(self) -> tuple[Array, Array, Array]:
        """Records, the first record of each sequence, and how many it has."""
        counts = np.array([-(-n // PIECE) for n in self.lengths], np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int32)
        rows = [
            (b, s, min(PIECE, n - s), first[b] + s // PIECE)
            for b, n in enumerate(self.lengths)
            for s in range(0, n, PIECE)
        ]
        return np.array(rows, np.int32).reshape(-1, len(FIELDS)), first, counts

    def contiguous(self, b: int) -> tuple[Array, Array]:
        """Keys and values of one sequence, [kv heads, length, d]."""
        pages = self.table[b, : -(-self.lengths[b] // PAGE)]
        return tuple(
            c[pages].swapaxes(0, 1).reshape(c.shape[1], -1, c.shape[3])[:, : self.lengths[b]] for c in (self.k, self.v)
        )  # type: ignore[return-value]


def estimate(q: Array, k: Array, v: Array) -> Estimate:
    """Of one head of one sequence: q [d], k, v [length, d]. An empty sequence gives zeros."""
    if not len(k):
        return Estimate.exact(np.zeros((1, len(q))))
    s = (Estimate.exact(q[None]) @ Estimate.exact(k).transposed()).scaled(1 / math.sqrt(len(q)))
    # The weight of a key is exp(s - peak at its page), times exp(peak - new peak) for each later page and piece: the distances
    # add up to `below`, each is rounded once, and each page costs an exponential and a product.
    below = s.value.max() - s.value
    later = 2 + -(-len(k) // PAGE) - np.arange(len(k)) // PAGE
    p = np.exp(-below)
    weight = Estimate(p, p**2 * (s.variance + U**2 * (below**2 + (1 + later) * (EXP**2 + 1))))
    return (weight @ Estimate.exact(v)) / weight.rowsum()


def golden(q: Array, k: Array, v: Array) -> Array:
    """Attention of one head of one sequence in float64."""
    if not len(k):
        return np.zeros(q.shape)
    s = k.astype(np.float64) @ q.astype(np.float64) / math.sqrt(len(q))
    p = np.exp(s - s.max())
    return p @ v.astype(np.float64) / p.sum()


def by_numpy(batch: Batch) -> Callable[[], object]:
    """Per sequence and head, on contiguous keys and values."""
    caches = [batch.contiguous(b) for b in range(len(batch.lengths))]
    group = batch.q.shape[1] // batch.k.shape[1]

    def run() -> None:
        for b, (k, v) in enumerate(caches):
            for h in range(batch.q.shape[1] if k.shape[1] else 0):
                s = k[h // group] @ batch.q[b, h] / math.sqrt(k.shape[2])
                p = np.exp(s - s.max())
                _ = (p / p.sum()) @ v[h // group]

    return run


def padded(jnp: Any, q: Any, k: Any, v: Any, lengths: Any) -> Any:
    """What XLA does with lengths it learns late: everything padded to the longest, and masked."""
    batch, kv_heads, longest, dim = k.shape
    s = jnp.einsum("bgrd,bgsd->bgrs", q.reshape(batch, kv_heads, -1, dim), k) / math.sqrt(dim)
    s = jnp.where(jnp.arange(longest) < lengths[:, None, None, None], s, -jnp.inf)
    p = jnp.exp(s - s.max(axis=3, keepdims=True))
    return jnp.einsum("bgrs,bgsd->bgrd", p / p.sum(axis=3, keepdims=True), v).reshape(q.shape)


def by_jax(batch: Batch) -> Mapping[str, Callable[[], object]]:
    if importlib.util.find_spec("jax") is None:
        return {}
    longest, (_, kv_heads, _, dim) = max(batch.lengths), batch.k.shape
    caches = [np.zeros((len(batch.lengths), kv_heads, longest, dim), batch.q.dtype) for _ in range(2)]
    for b, n in enumerate(batch.lengths):
        for cache, part in zip(caches, batch.contiguous(b), strict=True):
            cache[b, :, :n] = part
    return {
        f"{name}, padded": f for name, f in jitted(padded, batch.q, *caches, np.array(batch.lengths, np.int32)).items()
    }


def bind(program: Program, batch: Batch, out: Array) -> None:
    """Another batch for the same program: nothing is traced or compiled again."""
    work, first, counts = batch.plan()
    program.bind(
        {"q": batch.q, "k": batch.k, "v": batch.v, "table": batch.table, "work": work, "first": first, "out": out}
    )
    program.set_axis_sizes(
        {"batch": len(batch.lengths), "records": len(work), "pages": len(batch.k), "blocks": batch.table.shape[1]}
    )
    program.set_axis_sizes({"pieces": counts})


def compiled(heads: int, kv_heads: int, dim: int, dtype: DType, threads: int | None) -> Program:
    batch, pages, records = DenseDyn(name="batch"), Symbol("pages"), Symbol("records")
    cache = TensorSpec((pages, kv_heads, PAGE, dim), dtype)
    return (
        decode(
            q=TensorSpec((batch, heads, dim), dtype),
            k=cache,
            v=cache,
            table=TensorSpec((batch, Symbol("blocks")), DType.I32),
            work=TensorSpec((records, len(FIELDS)), DType.I32, fields=FIELDS),
            first=TensorSpec((batch,), DType.I32),
            pieces=Ragged(batch, Symbol("pieces")),
            out=TensorSpec((batch, heads, dim), DType.F32),
        )
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )


def compared(batch: Batch, out: Array) -> tuple[float, float]:
    """The largest error of all, and its share of the bound."""
    want, limit = np.zeros(out.shape), np.zeros(out.shape)
    group = batch.q.shape[1] // batch.k.shape[1]
    for b in range(len(batch.lengths)):
        k, v = batch.contiguous(b)
        for h in range(out.shape[1]):
            of = batch.q[b, h], k[h // group], v[h // group]
            want[b, h], limit[b, h] = golden(*of), estimate(*of).bound
    return compare(out, want, limit)


def run(
    lengths: Sequence[int] = LENGTHS,
    heads: int = HEADS,
    kv_heads: int = KV_HEADS,
    dim: int = DIM,
    bf16: bool = False,
    many: bool = False,
    threads: int | None = None,
) -> Result:
    """many: MANY lengths instead."""
    check_sizes(heads=heads, kv_heads=kv_heads, dim=dim)
    if heads % kv_heads:
        raise ValueError(f"{kv_heads} heads of keys do not serve {heads} of queries")
    lengths = MANY if many else tuple(lengths)
    dtype = DType.BF16 if bf16 else DType.F32
    program = compiled(heads, kv_heads, dim, dtype, threads)
    batch = Batch.random(lengths, heads, kv_heads, dim, dtype.numpy)
    out = np.zeros((len(lengths), heads, dim), np.float32)
    bind(program, batch, out)
    whole = (heads, kv_heads, dim) == (HEADS, KV_HEADS, DIM) and lengths in (LENGTHS, MANY)
    cycles = CYCLES.get((bf16, many)) if whole else None
    peers = {"numpy": by_numpy(batch), **by_jax(batch)}
    name = f"decode_attention {dtype} {len(lengths)}x{heads}x{dim}"
    return measured(name, program, [out], lambda: compared(batch, out), cycles, peers)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
