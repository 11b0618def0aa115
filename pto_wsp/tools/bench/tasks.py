"""Rows of what a task costs beyond its arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp import In, InOut, Out, P, Tensor, Workload, kernel, pto, workload
from pto_wsp.tools.bench.arms import medians

Make = Callable[[int], Workload]
ROWS_READ = 2  # by a task of the random graph
AHEAD = 16  # rows of the random graph that are there before the first task


@kernel
def add_one(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, x + 1.0)


@kernel
def accumulate(x: In[Tensor], total: InOut[Tensor]) -> None:
    pto.store(total, total + x)


@kernel
def add_rows(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.colmean(x))


@kernel
def about_a_microsecond(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.rowsum(pto.erf(pto.tanh(pto.exp(x)))))


@workload
def one_loop(x: Tensor, y: Tensor) -> None:
    for i in P(x.shape[0]):
        add_one[i](x=x[i], out=y[i])


@workload
def two_loops(x: Tensor, y: Tensor, z: Tensor) -> None:
    for i in P(x.shape[0]):
        add_one[i](x=x[i], out=y[i])
    for i in P(x.shape[0]):
        add_one[i](x=y[i], out=z[i])


@workload
def chain(x: Tensor, total: Tensor, n: int) -> None:
    for i in P.seq(n):
        accumulate[i](x=x, total=total)


@workload
def random_graph(even: Tensor, odd: Tensor, earlier: Tensor) -> None:
    """Tasks write rows of `even` and `odd` in turn, each the mean of rows that earlier tasks wrote to the other."""
    for i in P(earlier.shape[0]):
        add_rows[i](x=odd[earlier[i], :], out=even[i + AHEAD : i + AHEAD + 1])
        add_rows[i](x=even[earlier[i], :], out=odd[i + AHEAD : i + AHEAD + 1])


@workload
def heavier(x: Tensor, out: Tensor) -> None:
    for i in P(out.shape[0]):
        about_a_microsecond[i](x=x, out=out[i])


def _rows(n: int) -> np.ndarray[Any, Any]:
    return np.ones((n, 1, 8), np.float32)


def independent(n: int) -> Workload:
    return one_loop(_rows(n), _rows(n))


def dependent(n: int) -> Workload:
    return two_loops(_rows(n), _rows(n), _rows(n))


def in_a_row(n: int) -> Workload:
    return chain(np.ones((1, 8), np.float32), np.zeros((1, 8), np.float32), n)


def through_gathers(n: int) -> Workload:
    random = np.random.default_rng(0)
    earlier = (random.random((n // 2, ROWS_READ)) * (np.arange(n // 2)[:, None] + AHEAD)).astype(np.int32)
    even, odd = (np.ones((n // 2 + AHEAD, 8), np.float32) for _ in range(2))
    return random_graph(even, odd, earlier)


MAKERS: dict[str, tuple[Make, int]] = {
    "tasks_independent": (independent, 1),
    "tasks_two_loops": (dependent, 2),
    "tasks_chain": (in_a_row, 1),
    "tasks_random_dag": (through_gathers, 1),
}
"""By row: the workload for n, and its tasks for each of n."""


def task_row(name: str, sizes: list[int], threads: int, repeats: int) -> dict[str, float]:
    """Nanoseconds of one more task, from the smallest to the largest size; microseconds of what a run costs once."""
    make, each = MAKERS[name]
    sizes = sizes if len(sizes) > 1 else [sizes[0] // 100, *sizes]
    programs = {str(n): make(n).compile(threads=threads) for n in sizes}
    times = medians({n: p.run for n, p in programs.items()}, repeats)
    few, many = sizes[0], sizes[-1]
    marginal = (times[str(many)] - times[str(few)]) / (many - few)
    return {
        "ns_per_task": marginal / each * 1e9,
        "us_fixed": (times[str(few)] - few * marginal) * 1e6,
        **{f"us_of_{n * each}": times[str(n)] * 1e6 for n in sizes},
    }


def microsecond_row(repeats: int) -> dict[str, float]:
    """100000 tasks of about 1 us on one thread and on two, in turn."""
    random = np.random.default_rng(0)
    x, out = random.standard_normal((1, 720), dtype=np.float32), np.zeros((100_000, 1, 1), np.float32)
    workload = heavier(x, out)
    programs = {str(n): workload.compile(threads=n) for n in (1, 2)}
    times = medians({n: p.run for n, p in programs.items()}, repeats)
    return {
        "us_per_task": times["1"] / len(out) * 1e6,
        "ms": times["2"] * 1e3,
        "speed_up": times["1"] / times["2"],
    }
