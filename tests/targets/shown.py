"""What shows that `cpu_sim` enforces what it declares: a function for each name, and workloads for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp import Dense, DType, ExecutionTrace, In, InOut, Out, P, Program, Tile, Workload, kernel, pto, workload

F = DType.F32
N = 12

Show = Callable[[], None]
SHOWN: dict[str, Show] = {}


def shows(name: str) -> Callable[[Show], Show]:
    """Decorator: this fails where what the target declares to enforce changes nothing."""

    def register(f: Show) -> Show:
        assert name not in SHOWN, f"{name} is shown twice"
        SHOWN[name] = f
        return f

    return register


@kernel
def brief(x: In[Tile[1, 8, F]], out: Out[Tile[1, 8, F]]):
    pto.store(out, x + 1.0)


@kernel
def lengthy(x: In[Tile[1, 8, F]], out: Out[Tile[1, 8, F]]):
    for _ in range(12):
        x = pto.exp(x * 0.5)
    pto.store(out, x)


@kernel
def grow(x: InOut[Tile[1, 8, F]]):
    pto.store(x, x + 1.0)


@kernel
def product(a: In[Tile[16, 16, F]], b: In[Tile[16, 16, F]], out: Out[Tile[16, 16, F]]):
    pto.store(out, pto.matmul(a, b))


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


def even(n: int = N) -> Workload:
    """n independent tasks of one cost."""

    @workload
    def w(X, Y):
        for b in P(Dense[n](name="batch")):
            brief[b](x=X[b], out=Y[b])

    return w(ones(n, 1, 8), ones(n, 1, 8))


def skewed(n: int = N) -> Workload:
    """2 n independent tasks: a brief one, a lengthy one, and so on."""

    @workload
    def w(X, Y, Z):
        for b in P(Dense[n](name="batch")):
            brief[b](x=X[b], out=Y[b])
            lengthy[b](x=X[b], out=Z[b])

    return w(ones(n, 1, 8), ones(n, 1, 8), ones(n, 1, 8))


def units(n: int = N) -> Workload:
    """n tasks with a matrix product, and n without."""

    @workload
    def w(A, C, X, Y):
        for b in P(n):
            product[b](a=A[b], b=A[b], out=C[b])
            brief[b](x=X[b], out=Y[b])

    return w(ones(n, 16, 16), ones(n, 16, 16), ones(n, 1, 8), ones(n, 1, 8))


def ran(w: Workload, **options: Any) -> Program:
    return w.compile(threads=2, **options).run()


def traced(w: Workload, arch: str | None = None) -> ExecutionTrace:
    """A run where issue, hand-over and reads cost nothing, or on another arch."""
    return w.compile(threads=2, arch=arch).enable_tracing().run().trace


COSTLY = "ascend_a2a3_measured"
"""Where they cost cycles."""


def cycles(w: Workload, **options: Any) -> int:
    return ran(w, **options).stats.total_cycles
