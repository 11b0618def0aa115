"""RMS normalisation with weights of a tensor as large as a layer's activations: rows of 128 numbers, 64 MiB of them.

Tasks share the weights, and the last tile may have fewer rows than the others.
"""

import sys

import numpy as np

from pto_wsp import DispatchPolicy, In, Out, P, Tensor, kernel, pto, workload
from pto_wsp.tools.bounds import RSQRT, Array, compare, gamma, rowsum_roundings, worst
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

ROWS, COLS = 131_072, 128
TILE_ROWS = 128
EPS = 1e-6
CYCLES = 256 * 4549  # 1024 tasks on 4 lanes, 4549 cycles each


def golden(x: Array, weight: Array) -> Array:
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS) * weight


@kernel
def rmsnorm_tile(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rmsnorm(x, weight, eps=EPS))


@workload
def rmsnorm(x: Tensor, weight: Tensor, y: Tensor):
    for i in P(x.tiles(TILE_ROWS)):
        rmsnorm_tile[i](x=x[i], weight=weight, out=y[i])


def bound(want: Array, cols: int) -> Array:
    # x * x, its row sum, the division by cols, eps and its addition are relative errors of the mean, as no term is
    # negative; the root halves them. Then come the root's own error and two products.
    mean = 1 + rowsum_roundings(cols) + 1 + 2
    return gamma(mean / 2 + RSQRT + 2) * np.abs(want)


def run(rows: int = ROWS, cols: int = COLS, threads: int | None = None) -> Result:
    check_sizes(rows=rows, cols=cols)
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, cols), dtype=np.float32)
    weight = random.uniform(0.5, 2.0, (1, cols)).astype(np.float32)
    y = np.zeros_like(x)
    program = (
        rmsnorm(x, weight, y)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )

    def check() -> tuple[float, float]:
        parts = [slice(start, start + 8192) for start in range(0, rows, 8192)]  # float64 of everything is large
        goldens = ((part, golden(x[part], weight)) for part in parts)
        return worst(compare(y[part], want, bound(want, cols)) for part, want in goldens)

    cycles = CYCLES if (rows, cols) == (ROWS, COLS) else None
    return measured(f"rmsnorm {rows}x{cols}", program, [y], check, cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
