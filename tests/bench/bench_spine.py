"""What a task, a compile and an import cost: `python tests/bench/bench_spine.py`.

Everything in one process, warm, medians of `REPEATS`; import in fresh processes. Marginal costs are differences between two
sizes, so that what a run costs once is not in them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from pto_wsp import (
    Dense,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Program,
    TaskWindow,
    TensorSpec,
    Tile,
    Workload,
    kernel,
    pto,
    workload,
)

REPEATS = 9


@kernel
def add_row(x: In[Tile[1, 8, DType.F32]], out: Out[Tile[1, 8, DType.F32]]):
    pto.store(out, x + 1.0)


@kernel
def rmsnorm_mib(x: In[Tile[2048, 128, DType.F32]], out: Out[Tile[2048, 128, DType.F32]]):
    pto.store(out, x * pto.rsqrt(pto.rowmean(x * x)))


@kernel
def rmsnorm_tile(x: In[Tile[16, 128, DType.F32]], out: Out[Tile[16, 128, DType.F32]]):
    pto.store(out, x * pto.rsqrt(pto.rowmean(x * x)))


def independent(n: int) -> Workload:
    """n tasks, none of which waits for another."""
    x, y = np.ones((n, 1, 8), np.float32), np.zeros((n, 1, 8), np.float32)

    @workload
    def loop(X, Y):
        for i in P(n):
            add_row[i](x=X[i], out=Y[i])

    return loop(x, y)


def two_loops(n: int) -> Workload:
    """n tasks, and n that read what those wrote."""
    arrays = [np.ones((n, 1, 8), np.float32) for _ in range(3)]

    @workload
    def loops(X, Y, Z):
        for i in P(n):
            add_row[i](x=X[i], out=Y[i])
        for j in P(n):
            add_row[j](x=Y[j], out=Z[j])

    return loops(*arrays)


def chain(n: int) -> Workload:
    """n tasks, each of which waits for the one before."""
    arrays = [np.ones((1, 8), np.float32) for _ in range(2)]

    @workload
    def loop(X, Y):
        for i in P.seq(n):
            add_row[i](x=X, out=Y)

    return loop(*arrays)


def quick_start(n: int) -> Workload:
    """The quick start over n tiles, for arrays that are bound later."""
    spec = TensorSpec((n, 16, 128), DType.F32)
    tiles = Dense[n](name="tiles")

    @workload
    def attention(X, Y):
        for t in P(tiles):
            rmsnorm_tile[t](x=X[t], out=Y[t])

    return attention(spec, TensorSpec((n, 16, 128), DType.F32))


def median(f: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds of one call."""
    f()
    times: list[float] = []
    for _ in range(repeats):
        begin = time.perf_counter()
        f()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def marginal(make: Callable[[int], Workload], small: int, large: int, tasks_each: int, threads: int) -> float:
    """Nanoseconds of one more task."""
    few, many = (make(n).compile(threads=threads) for n in (small, large))
    return (median(many.run) - median(few.run)) / (large - small) / tasks_each * 1e9


def compile_ms(n: int) -> float:
    """Trace, schedule and compile the quick start."""

    def once() -> Program:
        w = quick_start(n).dispatch(DispatchPolicy.round_robin(4)).task_graph(window=TaskWindow(8192))
        return w.compile(threads=1)

    return median(once) * 1e3


def import_ms() -> float:
    code = "import time; t = time.perf_counter(); import pto_wsp; print(time.perf_counter() - t)"
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) * 1e3
        for _ in range(REPEATS)
    )


def rmsnorm_seconds(threads: int) -> float:
    x = np.ones((64, 2048, 128), np.float32)
    y = np.zeros_like(x)

    @workload
    def norm(X, Y):
        for i in P(64):
            rmsnorm_mib[i](x=X[i], out=Y[i])

    return median(norm(x, y).compile(threads=threads).run)


def main() -> None:
    rows = [("import", import_ms(), "ms", "<= 250")]
    rows += [
        ("compile the quick start", compile_ms(2), "ms", "<= 10"),
        ("compile it with 10^9 tasks", compile_ms(10**9), "ms", "<= 10"),
    ]
    for threads in (1, 2):
        hundred = independent(100).compile(threads=threads)
        rows.append(
            (f"execute + synchronize, 100 tasks, {threads} threads", median(hundred.run, 201) * 1e6, "us", "<= 50")
        )
    rows += [
        ("independent task, 1 thread", marginal(independent, 10_000, 200_000, 1, 1), "ns", "<= 60"),
        ("task of two dependent loops, 1 thread", marginal(two_loops, 10_000, 200_000, 2, 1), "ns", "<= 200"),
        ("task of a chain, 1 thread", marginal(chain, 10_000, 200_000, 1, 1), "ns", ""),
        ("independent task, 2 threads", marginal(independent, 10_000, 200_000, 1, 2), "ns", ""),
        ("task of two dependent loops, 2 threads", marginal(two_loops, 10_000, 200_000, 2, 2), "ns", ""),
    ]
    one, two = rmsnorm_seconds(1), rmsnorm_seconds(2)
    rows += [
        ("64 rmsnorm tasks of 1 MiB, 1 thread", one * 1e3, "ms", ""),
        ("the same, 2 threads over 1", one / two, "x", ">= 1.6"),
    ]
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for name, value, unit, want in rows:
        print(f"{name:<44} {value:10.1f} {unit:<3} {want}")


if __name__ == "__main__":
    main()
