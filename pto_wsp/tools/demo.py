"""The main job: run two workloads, compare them with float64, and print what they took.

    python -m pto_wsp.tools.demo

The first divides tiles of rows by their root mean square. The second is multi-head attention, a task for each tile of
queries. `examples/` has more, among them attention that takes the keys tile by tile. Exits with 1 if a number is wrong.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from pto_wsp import DispatchPolicy, DType, In, Out, P, TaskWindow, Tensor, Tile, Workload, kernel, pto, workload
from pto_wsp.tools.bounds import (
    EXP,
    RSQRT,
    Array,
    U,
    compare,
    gamma,
    relative,
    rowsum_roundings,
    transposed_matmul_roundings,
    worst,
)
from pto_wsp.tools.report import Result, measured, show

BATCH, TILES, ROWS, COLS = 4, 64, 16, 128
HEADS, SEQ, DIM, QUERIES = 8, 512, 64, 64
RMSNORM_CYCLES = 64 * 683  # 256 tasks on 4 lanes, 683 cycles each
ATTENTION_CYCLES = 16 * 14_890  # 64 tasks on 4 lanes, 14,890 cycles each


@kernel
def rmsnorm_tile(x: In[Tile[ROWS, COLS, DType.F32]], out: Out[Tile[ROWS, COLS, DType.F32]]) -> None:
    mean_square = pto.rowmean(x * x)
    pto.store(out, x * pto.rsqrt(mean_square))


@workload
def rmsnorm(x: Tensor, y: Tensor) -> None:
    for b, t in P.grid(BATCH, TILES):
        rmsnorm_tile[b, t](x=x[b, t], out=y[b, t])


@kernel
def attend(
    q: In[Tile[QUERIES, DIM, DType.F32]],
    k: In[Tile[SEQ, DIM, DType.F32]],
    v: In[Tile[SEQ, DIM, DType.F32]],
    out: Out[Tile[QUERIES, DIM, DType.F32]],
) -> None:
    scores = pto.matmul(q, k, transpose_b=True) * (1 / math.sqrt(DIM))
    pto.store(out, pto.matmul(pto.softmax(scores), v))


@workload
def attention(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    for h in P(HEADS):
        for i in P(q[h].tiles(QUERIES)):
            attend[h, i](q=q[h, i], k=k[h], v=v[h], out=out[h, i])


def scheduled(w: Workload) -> Any:
    return w.dispatch(DispatchPolicy.round_robin(4)).task_graph(window=TaskWindow(8192)).compile(arch="ascend_a2a3")


def run_rmsnorm() -> Result:
    x = np.random.default_rng(0).standard_normal((BATCH, TILES, ROWS, COLS), dtype=np.float32)
    y = np.zeros_like(x)

    def check() -> tuple[float, float]:
        wide = x.astype(np.float64)
        want = wide / np.sqrt((wide * wide).mean(axis=-1, keepdims=True))
        # x * x, its row sum and the division by COLS are relative errors of the mean, as no term is negative; the root
        # halves them. Then come the root's own error and the product.
        roundings = (1 + rowsum_roundings(COLS) + 1) / 2 + RSQRT + 1
        return compare(y, want, gamma(roundings) * np.abs(want))

    name = f"rmsnorm {BATCH}x{TILES}x{ROWS}x{COLS}"
    return measured(name, scheduled(rmsnorm(x, y)), [y], check, RMSNORM_CYCLES)


def check_head(q: Array, k: Array, v: Array, out: Array) -> tuple[float, float]:
    """Compare one head with float64."""
    s = q @ k.T / math.sqrt(DIM)
    below = s.max(axis=1, keepdims=True) - s
    p = np.exp(-below)
    p /= p.sum(axis=1, keepdims=True)
    # An error d of an exponent is a factor exp(d) of its exponential. A score is a product over DIM, scaled by a number
    # that is itself rounded; the distance to the maximum is rounded once.
    of_score = gamma(transposed_matmul_roundings(DIM) + 2) * (np.abs(q) @ np.abs(k).T / math.sqrt(DIM))
    of_exp = relative(of_score + U * (below + EXP))
    of_sum = (p * of_exp).sum(axis=1, keepdims=True) + gamma(rowsum_roundings(SEQ))
    of_weight = (of_exp + of_sum) / (1 - of_sum) + 2 * U  # the quotient, and its rounding
    # The weighted values are a chain of fused multiply-adds over all keys.
    bound = (p * (of_weight + gamma(SEQ) * (1 + of_weight))) @ np.abs(v)
    return compare(out, p @ v, bound)


def run_attention() -> Result:
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((HEADS, SEQ, DIM), dtype=np.float32) for _ in range(3))
    out = np.zeros_like(q)

    def check() -> tuple[float, float]:
        wide = (x.astype(np.float64) for x in (q, k, v))
        return worst(check_head(*head) for head in zip(*wide, out, strict=True))

    name = f"attention {HEADS}x{SEQ}x{DIM}"
    return measured(name, scheduled(attention(q, k, v, out)), [out], check, ATTENTION_CYCLES)


def main() -> int:
    status = show([run_rmsnorm(), run_attention()])
    print("max error: against float64; of bound: its share of the bound derived from the number of roundings;")
    print("cycles: semantic time on ascend_a2a3, 4 lanes; wall ms: this machine, median of 5 runs")
    return status


if __name__ == "__main__":
    sys.exit(main())
