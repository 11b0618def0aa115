"""A matrix product of any size in tiles, with an accumulator that stays in memory between tasks.

No size needs to be a multiple of the tile: the last tiles of rows, columns and of the inner dimension are smaller. The
loop over the inner dimension is `P.seq`, as each of its tasks adds to what the one before left in C.
"""

import sys

import numpy as np

from pto_wsp import Dense, DispatchPolicy, In, InOut, Out, P, Tensor, kernel, pto, workload
from pto_wsp.tools.bounds import Array, compare, gamma
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

M = N = K = 1000
TILE = 128
CYCLES = 800_602  # the cost of the fullest lane's tasks: 6462 for a whole multiply_add, less for those at the edges


def golden(a: Array, b: Array) -> Array:
    return a.astype(np.float64) @ b.astype(np.float64)


@kernel
def clear(c: Out[Tensor]):
    pto.store(c, 0.0)


@kernel
def multiply_add(a: In[Tensor], b: In[Tensor], c: InOut[Tensor]):
    pto.store(c, pto.matmul(a, b, acc=c))


@workload
def matmul(a: Tensor, b: Tensor, c: Tensor, m: int, n: int, k: int):
    rows, cols, inner = Dense[m](), Dense[n](), Dense[k]()
    for i, j in P(rows.tiles(TILE), cols.tiles(TILE)):
        clear[i, j](c=c[i, j])
        for p in P.seq(inner.tiles(TILE)):
            multiply_add[i, j, p](a=a[i, p], b=b[p, j], c=c[i, j])


def bound(a: Array, b: Array) -> Array:
    # Each number of C is one chain of fused multiply-adds over all of k: storing C between tasks rounds nothing, as it
    # is f32 like the chain. So a product goes through at most k roundings.
    return gamma(a.shape[1]) * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))


def run(m: int = M, n: int = N, k: int = K, threads: int | None = None) -> Result:
    check_sizes(m=m, n=n, k=k)
    random = np.random.default_rng(0)
    a = random.standard_normal((m, k), dtype=np.float32)
    b = random.standard_normal((k, n), dtype=np.float32)
    c = np.zeros((m, n), dtype=np.float32)
    program = (
        matmul(a, b, c, m, n, k)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )
    cycles = CYCLES if (m, n, k) == (M, N, K) else None
    name = f"validated_matmul {m}x{n}x{k}"
    return measured(name, program, [c], lambda: compare(c, golden(a, b), bound(a, b)), cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
