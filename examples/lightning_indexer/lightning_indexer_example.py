"""The indexer of sparse attention: for each query the keys with the largest scores, of as many as the query may see.

How many that are is read from a tensor, row by row. It decides the tier: a row of 1,000 keys is not worth a buffer for
131,072, so there is a task for each of four sizes (2K, 8K, 64K, 128K) and the workload takes the smallest that holds the row.
Where there are no more keys than asked for, all are taken in their order, and nothing is sorted: a variant of the same kernel.
Missing entries are -1. Scores beyond the length are never read.
"""

import sys
from collections.abc import Callable

import numpy as np

from pto_wsp import Constexpr, DispatchPolicy, DType, In, Out, P, Scalar, Tensor, item, kernel, pto, workload
from pto_wsp.tools.bounds import Array
from pto_wsp.tools.report import Result, check_sizes, command_line, jitted, measured

ROWS, TOP = 64, 2048
TIERS = (2048, 8192, 65_536, 131_072)
CYCLES = 3_095_624


@kernel
def choose(scores: In[Tensor], n: Scalar[DType.I32], top: Constexpr[int], index: Out[Tensor]):
    """Of the n valid columns of scores [1, tier] those of the largest, largest first, of equal ones the first."""
    pto.store(index, pto.extract_topk_indices(scores, top))


@choose.variant(when=lambda n, top: n <= top)
def choose_all(scores: In[Tensor], n: Scalar[DType.I32], top: Constexpr[int], index: Out[Tensor]):
    column = pto.iota((1, top), axis=1)
    pto.store(index, pto.where(column < n, column, -1))


@workload
def indexer(scores: Tensor, lengths: Tensor, index: Tensor, tiers: tuple[int, ...], top: int):
    """scores [rows, keys]; lengths [rows]; index [rows, top]."""
    for r in P(scores.shape[0]):
        n = item(lengths[r])
        row = slice(r, r + 1)
        with P.when(n == 0):
            nothing[r](index=index[row])
        for tier in tiers:
            with P.otherwise(n <= tier) if tier < tiers[-1] else P.otherwise():
                choose[r](scores=scores[row, :tier].valid(cols=n), n=n, top=top, index=index[row])


@kernel
def nothing(index: Out[Tensor]):
    pto.store(index, -1)


def golden(scores: Array, lengths: Array, top: int) -> Array:
    """By sorting each row."""
    out = np.full((len(scores), top), -1.0)
    for row, x, n in zip(out, scores, lengths, strict=True):
        row[: min(n, top)] = np.arange(n) if n <= top else np.argsort(-x[:n], kind="stable")[:top]
    return out


def by_numpy(scores: Array, lengths: Array, top: int) -> Callable[[], object]:
    """np.argpartition of each row, unsorted."""

    def run() -> None:
        for x, n in zip(scores, lengths, strict=True):
            if n > top:
                np.argpartition(x[:n], n - top)

    return run


def run(rows: int = ROWS, top: int = TOP, scale: int = 1, threads: int | None = None) -> Result:
    """scale: tiers are this many times smaller."""
    check_sizes(rows=rows, top=top, scale=scale)
    tiers = tuple(max(t // scale, top) for t in TIERS)
    random = np.random.default_rng(0)
    scores = random.standard_normal((rows, tiers[-1]), dtype=np.float32)
    lengths = (2 ** random.uniform(0, np.log2(tiers[-1]), rows)).astype(np.int32)
    lengths[: len(tiers) + 1] = (0, *tiers)[:rows]
    for x, n in zip(scores, lengths, strict=True):
        x[n:] = np.nan  # beyond the length
    index = np.zeros((rows, top), np.int32)
    program = (
        indexer(scores, lengths, index, tiers, top)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )

    def check() -> tuple[float, float]:
        wrong = float(np.abs(index - golden(scores, lengths, top)).max())
        return wrong, wrong  # exact, or wrong

    def padded(jnp, x, n):  # type: ignore[no-untyped-def]
        import jax

        seen = jnp.where(jnp.arange(x.shape[1]) < n[:, None], x, -jnp.inf)
        best, column = jax.lax.top_k(seen, top)
        return jnp.where(best > -jnp.inf, column, -1)

    standard = (rows, top, scale) == (ROWS, TOP, 1)
    peers = {"numpy, not sorted": by_numpy(scores, lengths, top), **jitted(padded, scores, lengths)}
    name = f"lightning_indexer {rows}x{tiers[-1]}, top {top}"
    return measured(name, program, [index], check, CYCLES if standard else None, peers)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
