"""Rewritten workloads and every mode of dependences, on the machine: the same bits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import Deps, DType, In, Out, P, Tile, Workload, empty, kernel, pto, workload

F = DType.F32


@kernel
def scale(x: In[Tile[4, 8, F]], y: Out[Tile[4, 8, F]]):
    pto.store(y, x * 1.7)


@kernel
def add(x: In[Tile[4, 8, F]], z: In[Tile[4, 8, F]], y: Out[Tile[4, 8, F]]):
    pto.store(y, pto.exp(x) + z)


@workload
def layer(x, z):
    t = empty((18, 8), F, name="t")
    y = empty((18, 8), F, name="y")
    for i in P(x.tiles(4)):
        first = scale[i](x=x[i], y=t[i])
        add[i](x=t[i], z=z[i], y=y[i], after=first)
    return y


X, Z = np.random.default_rng(0).standard_normal((2, 18, 8), dtype=np.float32)


def run(w: Workload) -> tuple[Any, Any]:
    program = w.compile(threads=2)
    program.run()
    return program.results, program.stats


@pytest.mark.parametrize(
    ("step", "tasks"),
    [
        (lambda w: w.split(loop="i", size=3), 10),
        (lambda w: w.unroll(loop="i"), 10),
        (lambda w: w.unroll(loop="i", factor=2).task_graph(deps=Deps.explicit), 10),
        (lambda w: w.fuse(loop="i"), 5),
        *((lambda w, m=m: w.task_graph(deps=m), 10) for m in Deps),
    ],
)
def test_the_same_bits(step: Callable[[Any], Any], tasks: int) -> None:
    want, _ = run(layer(X, Z))
    got, stats = run(step(layer(X, Z)))
    assert got.tobytes() == want.tobytes()
    assert stats.task_count == tasks


def test_fused_tasks_keep_what_they_hand_over_out_of_memory() -> None:
    _, apart = run(layer(X, Z))
    _, fused = run(layer(X, Z).fuse(loop="i"))
    assert apart.arena_bytes >= X.nbytes
    assert fused.arena_bytes == 0
    assert fused.total_cycles < apart.total_cycles
