"""A batch of matrix products: f16 in, f32 accumulated and out.

`pto.matmul` of f16 tiles gives f32, and takes the sum so far as its accumulator.
"""

import sys

import numpy as np

from pto_wsp import Dense, DispatchPolicy, In, InOut, Out, P, Tensor, kernel, pto, workload
from pto_wsp.tools.bounds import Array, compare, gamma, worst
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

BATCH = 8
M = N = K = 512
TILE = 128
CYCLES = 128 * 4090 + 32 * 880  # a lane has a quarter of 512 multiply_add and of 128 clear, and never waits


def golden(a: Array, b: Array) -> Array:
    return a.astype(np.float64) @ b.astype(np.float64)


@kernel
def clear(c: Out[Tensor]):
    pto.store(c, 0.0)


@kernel
def multiply_add(a: In[Tensor], b: In[Tensor], c: InOut[Tensor]):
    pto.store(c, pto.matmul(a, b, acc=c))


@workload
def bgemm(a: Tensor, b: Tensor, c: Tensor, batch: int, m: int, n: int, k: int):
    rows, cols, inner = Dense[m](), Dense[n](), Dense[k]()
    for s, i, j in P(batch, rows.tiles(TILE), cols.tiles(TILE)):
        clear[s, i, j](c=c[s, i, j])
        for p in P.seq(inner.tiles(TILE)):
            multiply_add[s, i, j, p](a=a[s, i, p], b=b[s, p, j], c=c[s, i, j])


def bound(a: Array, b: Array) -> Array:
    # A product of two f16 is exact in f32, so each of the k terms is rounded only as it is added to the f32 accumulator.
    return gamma(a.shape[-1]) * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))


def run(batch: int = BATCH, m: int = M, n: int = N, k: int = K, threads: int | None = None) -> Result:
    check_sizes(batch=batch, m=m, n=n, k=k)
    random = np.random.default_rng(0)
    a = random.standard_normal((batch, m, k)).astype(np.float16)
    b = random.standard_normal((batch, k, n)).astype(np.float16)
    c = np.zeros((batch, m, n), dtype=np.float32)
    program = (
        bgemm(a, b, c, batch, m, n, k)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )

    def check() -> tuple[float, float]:
        return worst(compare(c[s], golden(a[s], b[s]), bound(a[s], b[s])) for s in range(batch))

    cycles = CYCLES if (batch, m, n, k) == (BATCH, M, N, K) else None
    return measured(f"bgemm {batch}x{m}x{n}x{k}", program, [c], check, cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
