"""Softmax of long rows, written out: `pto.softmax` is these four operations.

Each tile holds whole rows, so that every task is independent; the last tile may have fewer rows than the others.
"""

import sys

import numpy as np

from pto_wsp import DispatchPolicy, In, Out, P, Tensor, kernel, pto, workload
from pto_wsp.tools.bounds import EXP, Array, compare, gamma, rowsum_roundings
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

ROWS, COLS = 1024, 4096
TILE_ROWS = 4  # 64 KiB: of three such tiles one core's buffer of 192 KiB is full
CYCLES = 64 * 6600  # 256 tasks on 4 lanes, 6600 cycles each


def golden(x: Array) -> Array:
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@kernel
def softmax_tile(x: In[Tensor], out: Out[Tensor]):
    e = pto.exp(x - pto.rowmax(x))  # at most 1, so that nothing overflows
    pto.store(out, e / pto.rowsum(e))


@workload
def softmax(x: Tensor, y: Tensor):
    for i in P(x.tiles(TILE_ROWS)):
        softmax_tile[i](x=x[i], out=y[i])


def bound(x: Array, want: Array) -> Array:
    # An error d of an exponent is a relative error d of its exponential: x - max has one rounding, that is at most
    # U * |x - max|. The sum has the mean of its terms' relative errors, weighted by the terms, and those of adding up.
    # The last rounding is the division's.
    distance = x.max(axis=-1, keepdims=True).astype(np.float64) - x
    mean_distance = (want * distance).sum(axis=-1, keepdims=True)
    return gamma(distance + EXP + mean_distance + EXP + rowsum_roundings(x.shape[-1]) + 1) * want


def run(rows: int = ROWS, cols: int = COLS, threads: int | None = None) -> Result:
    check_sizes(rows=rows, cols=cols)
    x = np.random.default_rng(0).normal(0, 3, (rows, cols)).astype(np.float32)
    y = np.zeros_like(x)
    program = (
        softmax(x, y)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )
    want = golden(x)
    cycles = CYCLES if (rows, cols) == (ROWS, COLS) else None
    return measured(f"softmax {rows}x{cols}", program, [y], lambda: compare(y, want, bound(x, want)), cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
