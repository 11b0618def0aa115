"""A first kernel and a first workload: each tile of 16 rows is divided by the root mean square of its rows."""

import sys

import numpy as np

from pto_wsp import DispatchPolicy, DType, In, Out, P, TaskWindow, Tensor, Tile, WindowMode, kernel, pto, workload
from pto_wsp.tools.bounds import RSQRT, Array, compare, gamma, rowsum_roundings
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

ROWS, COLS = 16, 128
BATCH, TILES = 1, 2
CYCLES = 683  # one task: the two run at once, each on a lane of its own


def golden(x: Array) -> Array:
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True))


@kernel
def rmsnorm_tile(x: In[Tile[ROWS, COLS, DType.F32]], out: Out[Tile[ROWS, COLS, DType.F32]]):
    mean_square = pto.rowmean(x * x)
    pto.store(out, x * pto.rsqrt(mean_square))


@workload
def rmsnorm(x: Tensor, y: Tensor, batch: int, tiles: int):
    for b, t in P.grid(batch, tiles):
        rmsnorm_tile[b, t](x=x[b, t], out=y[b, t])


def bound(want: Array) -> Array:
    # x * x, its row sum and the division by COLS are relative errors of the mean, as no term is negative; the root halves
    # them. Then come the root's own error and the product.
    mean = 1 + rowsum_roundings(COLS) + 1
    return gamma(mean / 2 + RSQRT + 1) * np.abs(want)


def run(batch: int = BATCH, tiles: int = TILES, threads: int | None = None) -> Result:
    check_sizes(batch=batch, tiles=tiles)
    x = np.random.default_rng(0).standard_normal((batch, tiles, ROWS, COLS), dtype=np.float32)
    y = np.zeros_like(x)
    program = (
        rmsnorm(x, y, batch, tiles)
        .dispatch(DispatchPolicy.round_robin(4))
        .task_graph(window=TaskWindow(8192, "tasks", WindowMode.STALL))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )
    want = golden(x)
    cycles = CYCLES if (batch, tiles) == (BATCH, TILES) else None
    return measured(f"quick_start {batch}x{tiles}", program, [y], lambda: compare(y, want, bound(want)), cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
