"""Attention of one new query per sequence over a paged cache of keys and values, of any lengths, with no padding.

The cache lies in pages of 16 positions, and a block table says which page holds which part of a sequence. A planner on the
host cuts each sequence into pieces: records of (request, kv_start, kv_len, out), rows of an array. Each record and head makes
a chain of tasks, one for each page, with a running maximum, sum and weighted sum of values; a second loop merges the pieces
of a sequence in their order (Flash-Decoding, 2023). All of that is data: the program is traced and compiled once, and bound
to other lengths, tables and records without compiling again.
"""

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
    InOut,
    Out,
    P,
    Program,
    Ragged,
    Symbol,
    Tensor,
    TensorSpec,
    empty,
    item,
    kernel,
    minimum,
    pto,
    workload,
)
from pto_wsp.tools.bounds import EXP, Array, Estimate, U, compare, worst
from pto_wsp.tools.report import Result, check_sizes, command_line, jitted, measured

HEADS, DIM, PAGE, PIECE = 8, 128, 16, 1024
LENGTHS = (512, 2048, 8192, 32768)
MANY = tuple(int(n) for n in np.random.default_rng(1).integers(1, 4097, 64))
FIELDS = ("request", "kv_start", "kv_len", "out")
CYCLES = {(False, False): 4_084_370, (True, False): 3_986_450, (False, True): 12_070_996}  # by `bf16` and `many`


@kernel
def start(peak: Out[Tensor], total: Out[Tensor], out: Out[Tensor]):
    pto.store(peak, -math.inf)
    pto.store(total, 0.0)
    pto.store(out, 0.0)


@kernel
def attend(q: In[Tensor], k: In[Tensor], v: In[Tensor], peak: InOut[Tensor], total: InOut[Tensor], out: InOut[Tensor]):
    s = pto.matmul(q, k, transpose_b=True) * (1 / math.sqrt(q.shape[1]))
    new_peak = pto.maximum(peak, pto.rowmax(s))
    shrink = pto.exp(peak - new_peak)
    p = pto.exp(s - new_peak)
    pto.store(total, total * shrink + pto.rowsum(p))
    pto.store(out, pto.matmul(p, pto.cast(v, DType.F32), acc=out * shrink))
    pto.store(peak, new_peak)


@kernel
def merge(
    piece_peak: In[Tensor],
    piece_total: In[Tensor],
    piece: In[Tensor],
    peak: InOut[Tensor],
    total: InOut[Tensor],
    out: InOut[Tensor],
):
    new_peak = pto.maximum(peak, piece_peak)
    ours, theirs = pto.exp(peak - new_peak), pto.exp(piece_peak - new_peak)
    pto.store(total, total * ours + piece_total * theirs)
    pto.store(out, out * ours + piece * theirs)
    pto.store(peak, new_peak)


@kernel
def finish(total: In[Tensor], out: InOut[Tensor]):
    pto.store(out, pto.where(pto.broadcast(total > 0.0, out.shape), out / total, 0.0))  # no keys: zeros


@workload
def decode(q: Tensor, k: Tensor, v: Tensor, table: Tensor, work: Tensor, first: Tensor, pieces: Ragged, out: Tensor):
    """q, out [batch, heads, d]; k, v [pages, heads, PAGE, d]; table [batch, blocks]; work [n] records; pieces[b] records of
    sequence b, from record first[b] on."""
    n, (batch, heads, dim) = work.shape[0], q.shape
    peaks, totals = empty((n, heads, 1), DType.F32), empty((n, heads, 1), DType.F32)
    parts = empty((n, heads, dim), DType.F32)
    for r in P(work):
        for h in P(heads):
            head = slice(h, h + 1)
            state = {"peak": peaks[r.out, head], "total": totals[r.out, head], "out": parts[r.out, head]}
            start[r.out, h](**state)
            for j in P.seq((r.kv_len + (PAGE - 1)) // PAGE):
                page = table[r.request, r.kv_start // PAGE + j]
                rows = minimum(PAGE, r.kv_len - j * PAGE)
                attend[r.out, h, j](
                    q=q[r.request, head], k=k[page, h].valid(rows=rows), v=v[page, h].valid(rows=rows), **state
                )
    peak, total = empty((batch, heads, 1), DType.F32), empty((batch, heads, 1), DType.F32)
    for b in P(pieces.outer):
        for h in P(heads):
            head = slice(h, h + 1)
            state = {"peak": peak[b, head], "total": total[b, head], "out": out[b, head]}
            start[b, h](**state)
            for i in P.seq(pieces[b]):
                at = item(first[b]) + i
                merge[b, h, i](piece_peak=peaks[at, head], piece_total=totals[at, head], piece=parts[at, head], **state)
            finish[b, h](total=total[b, head], out=out[b, head])


@dataclass(frozen=True)
class Batch:
    """Sequences of `lengths` positions: queries, caches in pages, block table."""

    lengths: tuple[int, ...]
    q: Array
    k: Array
    v: Array
    table: Array

    @staticmethod
    def random(lengths: Sequence[int], heads: int, dim: int, dtype: np.dtype, pages: int | None = None) -> "Batch":
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
        k, v = (random.standard_normal((pages, heads, PAGE, dim), dtype=np.float32).astype(dtype) for _ in range(2))
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
        """Keys and values of one sequence, [heads, length, d]."""
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
    return estimate(q, k, v).value


def by_numpy(batch: Batch) -> Callable[[], object]:
    """Per sequence and head, on contiguous keys and values."""
    caches = [batch.contiguous(b) for b in range(len(batch.lengths))]

    def run() -> None:
        for b, (k, v) in enumerate(caches):
            for h in range(k.shape[0] if k.shape[1] else 0):
                s = k[h] @ batch.q[b, h] / math.sqrt(k.shape[2])
                p = np.exp(s - s.max())
                _ = (p / p.sum()) @ v[h]

    return run


def padded(jnp: Any, q: Any, k: Any, v: Any, lengths: Any) -> Any:
    """What XLA does with lengths it learns late: everything padded to the longest, and masked."""
    s = jnp.einsum("bhd,bhsd->bhs", q, k) / math.sqrt(q.shape[2])
    s = jnp.where(jnp.arange(k.shape[2]) < lengths[:, None, None], s, -jnp.inf)
    p = jnp.exp(s - s.max(axis=2, keepdims=True))
    return jnp.einsum("bhs,bhsd->bhd", p / p.sum(axis=2, keepdims=True), v)


def by_jax(batch: Batch) -> Mapping[str, Callable[[], object]]:
    longest, (_, heads, dim) = max(batch.lengths), batch.q.shape
    caches = [np.zeros((len(batch.lengths), heads, longest, dim), batch.q.dtype) for _ in range(2)]
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


def compiled(heads: int, dim: int, dtype: DType, threads: int | None) -> Program:
    batch, pages, records = DenseDyn(name="batch"), Symbol("pages"), Symbol("records")
    cache = TensorSpec((pages, heads, PAGE, dim), dtype)
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


def run(
    lengths: Sequence[int] = LENGTHS,
    heads: int = HEADS,
    dim: int = DIM,
    bf16: bool = False,
    many: bool = False,
    threads: int | None = None,
) -> Result:
    """many: MANY lengths instead."""
    check_sizes(heads=heads, dim=dim)
    lengths = MANY if many else tuple(lengths)
    dtype = DType.BF16 if bf16 else DType.F32
    program = compiled(heads, dim, dtype, threads)
    batch = Batch.random(lengths, heads, dim, dtype.numpy)
    out = np.zeros((len(lengths), heads, dim), np.float32)
    bind(program, batch, out)

    def check() -> tuple[float, float]:
        return worst(
            compare(out[b, h : h + 1], golden(batch.q[b, h], k[h], v[h]), estimate(batch.q[b, h], k[h], v[h]).bound)
            for b in range(len(lengths))
            for k, v in [batch.contiguous(b)]
            for h in range(heads)
        )

    cycles = CYCLES.get((bf16, many)) if (heads, dim) == (HEADS, DIM) and lengths in (LENGTHS, MANY) else None
    peers = {"numpy": by_numpy(batch), **by_jax(batch)}
    return measured(f"decode_attention {dtype} {len(lengths)}x{heads}x{dim}", program, [out], check, cycles, peers)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
