"""Rows of the scheduler: tasks under each kind of directive, more threads than processors, short runs, and simulated
graphs and processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pto_wsp import (
    DispatchPolicy,
    ReadyPolicy,
    StartPolicy,
    TaskWindow,
    TimingPolicy,
    Workload,
)
from pto_wsp.tools.bench.arms import medians
from pto_wsp.tools.bench.tasks import dependent, independent
from pto_wsp.tools.simulate import TaskArrays, processes
from pto_wsp.tools.simulate import tasks as simulate

DIRECTIVES: dict[str, Callable[[Workload], Workload]] = {
    "none": lambda w: w,
    "round_robin": lambda w: w.dispatch(DispatchPolicy.round_robin(8)),
    "least_loaded": lambda w: w.dispatch(DispatchPolicy.least_loaded(8)),
    "work_steal": lambda w: w.dispatch(DispatchPolicy.work_steal(8)),
    "hash": lambda w: w.dispatch(DispatchPolicy.hash(lambda t: t.id, 8)),
    "priority": lambda w: w.task_graph(ready=ReadyPolicy.priority(lambda t: t.id % 7)),
    "streams": lambda w: w.streams(8),
    "batched": lambda w: w.timing(TimingPolicy.batched(16)),
    "interleaved": lambda w: (
        w.stream_by(lambda t: t.id % 4).timing(TimingPolicy.interleaved(4)).window(TaskWindow(1024))
    ),
    "window_bytes": lambda w: w.window(TaskWindow(2**20, "bytes")),
    "start": lambda w: w.task_graph(start=StartPolicy.threshold(64)),
}
"""Schedules of one loop, by the directive that they add."""


def directives_row(sizes: list[int], threads: int, repeats: int) -> dict[str, float]:
    """Nanoseconds of one more independent task under each directive, from the smaller to the larger size."""
    few, many = sizes
    programs = {
        f"{name} {n}": step(independent(n)).compile(threads=threads) for name, step in DIRECTIVES.items() for n in sizes
    }
    times = medians({k: p.run for k, p in programs.items()}, repeats)
    return {name: (times[f"{name} {many}"] - times[f"{name} {few}"]) / (many - few) * 1e9 for name in DIRECTIVES}


def many_threads_row(n: int, repeats: int) -> dict[str, float]:
    """Time with 8 threads over that with 2, of n independent tasks and of 2 n in two dependent loops."""
    makers = {"independent": independent, "two_loops": dependent}
    programs = {f"{name} {k}": make(n).compile(threads=k) for name, make in makers.items() for k in (2, 8)}
    times = medians({k: p.run for k, p in programs.items()}, repeats)
    return {f"{name}_8_over_2": times[f"{name} 8"] / times[f"{name} 2"] for name in makers}


def short_run_row(n: int, threads: int, repeats: int) -> dict[str, float]:
    """Microseconds of execute and synchronize of n tasks."""
    program = independent(n).compile(threads=threads)

    def hundred() -> None:
        for _ in range(100):
            program.execute()
            program.synchronize()

    return {"us": medians({"run": hundred}, repeats)["run"] * 1e4}


def simulate_row(n: int, repeats: int) -> dict[str, float]:
    """Seconds to simulate n explicit tasks given as arrays: independent, and each after the one before the last."""
    costs = np.random.default_rng(0).integers(1, 100, n)
    nothing, none = np.zeros(n + 1, np.int64), np.zeros(0, np.int64)
    two_before = np.maximum(np.arange(n + 1) - 2, 0)
    graphs = {
        "independent_s": TaskArrays(costs, nothing, none),
        "dependent_s": TaskArrays(costs, two_before, np.arange(max(n - 2, 0))),
    }
    calls = {name: partial(simulate, g, lanes=8, window=65_536) for name, g in graphs.items()}
    return medians(calls, repeats)


def processes_row(n: int, ring: int, repeats: int) -> dict[str, float]:
    """Seconds to simulate n sends and receives: of two processes at a few depths, and of a ring of processes."""
    networks = {f"depth_{depth}_s": _pipeline(n // 2, depth) for depth in (0, 1, 8)}
    networks[f"ring_{ring}_s"] = _ring(ring, n // 2 // ring)
    return medians({name: partial(processes, *network, times="none") for name, network in networks.items()}, repeats)


def _pipeline(tokens: int, depth: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    made = {"name": "make", "ops": [["repeat", tokens, [["work", 3], ["send", "c"]]]]}
    return [made, {"name": "use", "ops": [["consume", "c", [["work", 4]]]]}], {"c": {"capacity": depth}}


def _ring(n: int, rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Each process hands on what it receives; every other channel holds a token at the start."""
    names = [f"c{i}" for i in range(n)]
    bodies = ([["recv", names[i]], ["work", 1 + i % 3], ["send", names[(i + 1) % n]]] for i in range(n))
    made = [{"name": f"p{i}", "ops": [["repeat", rounds, body]]} for i, body in enumerate(bodies)]
    return made, {name: {"capacity": 2, "initial": i % 2} for i, name in enumerate(names)}
