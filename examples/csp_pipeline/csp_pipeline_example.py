"""Load, compute, store: three processes, and channels of several depths between them.

`load` copies a tile into a buffer, `compute` makes another buffer of it, `store` copies that out. Each process has a core of its own;
buffers go round between neighbours, as many as the channel between them is deep, and at least one. README.md derives the cycles.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pto_wsp import (
    Channel,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Tensor,
    Tile,
    Workload,
    consume,
    empty,
    kernel,
    pto,
    send,
    workload,
)
from pto_wsp.tools.bounds import EXP, Array, compare, gamma
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

TILES, SIDE = 4096, 64
DEPTHS = (0, 1, 2, 8)
ARCH = "ascend_a2a3"
F32 = DType.F32


@kernel
def load(x: In[Tile[SIDE, SIDE, F32]], out: Out[Tile[SIDE, SIDE, F32]]):
    pto.store(out, x)


@kernel
def compute(x: In[Tile[SIDE, SIDE, F32]], out: Out[Tile[SIDE, SIDE, F32]]):
    pto.store(out, pto.silu(x) * 2)


@kernel
def store(x: In[Tile[SIDE, SIDE, F32]], out: Out[Tile[SIDE, SIDE, F32]]):
    pto.store(out, x)


@workload
def piped(x: Tensor, y: Tensor, depth: int):
    """x, y [tiles, SIDE, SIDE]."""
    tiles, results = Channel[Tensor](depth=depth), Channel[Tensor](depth=depth)
    with P.pipe():
        for i in P.seq(x.shape[0]):
            send(tiles, load[i](x=x[i], out=empty((SIDE, SIDE), F32)))
        with consume(tiles) as tile:
            send(results, compute(x=tile, out=empty((SIDE, SIDE), F32)))
        for i in P.seq(y.shape[0]):
            store[i](x=results.recv(), out=y[i])


@workload
def in_turn(x: Tensor, y: Tensor):
    """The same tasks, one after another."""
    tile, result = empty((SIDE, SIDE), F32), empty((SIDE, SIDE), F32)
    for i in P.seq(x.shape[0]):
        load[i](x=x[i], out=tile)
        compute[i](x=tile, out=result)
        store[i](x=result, out=y[i])


def cycles(tiles: int, depth: int, costs: Sequence[int]) -> int:
    """Of the pipeline, where `load`, `compute` and `store` cost so much.

    With two buffers between neighbours the slowest process never waits, but for the first tile and after the last. With one, also
    between processes that meet without a buffer of the channel's own, `load` waits until `compute` is done with the tile before, and
    `compute` until `store` is: the neighbours work beside each other, but never beside `compute`.
    """
    first, middle, last = costs
    if depth >= 2:
        return sum(costs) + (tiles - 1) * max(costs)
    return sum(costs) + (tiles - 1) * (middle + max(first, last))


def golden(x: Array) -> Array:
    """In float64."""
    wide = x.astype(np.float64)
    return 2 * wide / (1 + np.exp(-wide))


def run(tiles: int = TILES, threads: int | None = None) -> list[Result]:
    check_sizes(tiles=tiles)
    x = np.random.default_rng(0).standard_normal((tiles, SIDE, SIDE), dtype=np.float32)
    costs = [k.cost(ARCH) for k in (load, compute, store)]
    want = golden(x)
    bound = gamma(EXP + 3) * np.abs(want)  # an exponential, an addition, a division, a product; doubling is exact

    def result(how: str, make: Callable[[Array], Workload], expected: int) -> Result:
        y = np.zeros_like(x)
        program = make(y).compile(target="cpu_sim", arch=ARCH, threads=threads)
        return measured(f"csp_pipeline {tiles} {how}", program, [y], lambda: compare(y, want, bound), expected)

    alone = result("in turn", lambda y: in_turn(x, y).dispatch(DispatchPolicy.round_robin(1)), tiles * sum(costs))
    results = [alone]
    for depth in DEPTHS:
        r = result(f"depth {depth}", lambda y, depth=depth: piped(x, y, depth), cycles(tiles, depth, costs))
        results.append(replace(r, notes=(f"{alone.cycles / r.cycles:.2f} times as fast as in turn",)))
    return results


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
