"""Rows of pipelines: what a token costs beyond its kernels, and stages that overlap on real threads."""

from __future__ import annotations

import numpy as np

from pto_wsp import Channel, In, Out, P, Tensor, Workload, consume, kernel, pto, send, workload
from pto_wsp.tools.bench.arms import medians

COLUMNS = 14_400  # of a tile that a stage works on for about 20 us


@kernel
def nothing(x: In[Tensor]) -> None:
    pass


@kernel
def load(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.erf(pto.tanh(pto.exp(x))))


@kernel
def compute(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.erf(pto.tanh(pto.exp(x))))


@kernel
def store(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.rowsum(pto.erf(pto.tanh(pto.exp(x)))))


@workload
def two_stages(x: Tensor, n: int, depth: int) -> None:
    tokens = Channel[int](depth=depth)
    with P.pipe():
        for i in P.seq(n):
            nothing[i](x=x)
            send(tokens, i)
        with consume(tokens) as i:
            nothing[i](x=x)


@workload
def three_stages(x: Tensor, loaded: Tensor, computed: Tensor, out: Tensor, depth: int) -> None:
    """Tokens carry rows of `loaded` and of `computed`: one that is written, `depth` on their way, and one in use."""
    tiles, results = Channel[Tensor](depth=depth), Channel[Tensor, int](depth=depth)
    n, buffers = out.shape[0], loaded.shape[0]
    with P.pipe():
        for i in P.seq(n):
            send(tiles, load[i](x=x[i % x.shape[0]], out=loaded[i % buffers]))
        for i in P.seq(n):
            send(results, compute[i](x=tiles.recv(), out=computed[i % buffers]), i)
        with consume(results) as (tile, i):
            store[i](x=tile, out=out[i])


def tokens(n: int, depth: int) -> Workload:
    return two_stages(np.ones((1, 8), np.float32), n, depth)


def tokens_row(sizes: list[int], depths: list[int], threads: int, repeats: int) -> dict[str, float]:
    """Nanoseconds of one more token at each depth, from the smaller to the larger size."""
    few, many = sizes
    programs = {f"{d} {n}": tokens(n, d).compile(threads=threads) for d in depths for n in sizes}
    times = medians({name: p.run for name, p in programs.items()}, repeats)
    return {f"depth_{d}_ns": (times[f"{d} {many}"] - times[f"{d} {few}"]) / (many - few) * 1e9 for d in depths}


def stages(n: int, depth: int) -> Workload:
    x = np.random.default_rng(0).standard_normal((2, 1, COLUMNS), dtype=np.float32)
    loaded, computed = (np.zeros((depth + 2, 1, COLUMNS), np.float32) for _ in range(2))
    return three_stages(x, loaded, computed, np.zeros((n, 1, 1), np.float32), depth)


def stages_row(n: int, depth: int, repeats: int) -> dict[str, float]:
    """n tokens through three stages, on one thread, one kernel after the other, and on two, in turn."""
    workload = stages(n, depth)
    programs = {str(threads): workload.compile(threads=threads) for threads in (1, 2)}
    times = medians({threads: p.run for threads, p in programs.items()}, repeats)
    return {
        "us_per_kernel": times["1"] / (3 * n) * 1e6,
        "ms": times["2"] * 1e3,
        "speed_up": times["1"] / times["2"],
    }
