"""Pipelines with nothing else in the workload wait for the start of a schedule as tasks do: the cycles are the model's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import semantic_time
from pto_wsp import (
    Channel,
    DType,
    InOut,
    P,
    Scalar,
    ScheduleError,
    StartPolicy,
    TaskWindow,
    Tile,
    Workload,
    arch,
    combine,
    consume,
    kernel,
    pto,
    send,
    sequential,
    workload,
)

MACHINE = arch.get("ascend_a2a3_measured")
STARTS = (StartPolicy.after_orchestration, *(StartPolicy.threshold(k) for k in (1, 2, 3, 4, 9)))
WINDOWS = (None, TaskWindow(1), TaskWindow(2), TaskWindow(4), TaskWindow(8, "bytes"))


@kernel
def add(total: InOut[Tile[1, 1, DType.I64]], t: Scalar[DType.I64]):
    pto.store(total, total + t)


@workload
def sums(total, n):
    c = Channel[int]("c")
    with P.pipe():
        for i in P.seq(n):
            send(c, i)
        with consume(c) as t:
            add(total=total, t=t)


def zero() -> np.ndarray[Any, Any]:
    return np.zeros((1, 1), np.int64)


def cycles_alone(n: int) -> int:
    """Of one pipeline, from when it starts."""
    return sums(zero(), n).compile(arch=MACHINE.name).run().stats.total_cycles - MACHINE.handover


def model(lengths: tuple[int, ...], deps: list[list[int]], start: Any, window: TaskWindow | None) -> dict[str, Any]:
    n = len(lengths)
    tasks = [
        {"cost": cycles_alone(m), "deps": d, "lane": k} for k, (m, d) in enumerate(zip(lengths, deps, strict=True))
    ]
    size = window.size if window is not None and window.unit == "tasks" else None  # pipelines count no bytes
    return semantic_time.simulate(
        tasks,
        lanes=n,
        window=size,
        issue_cost=MACHINE.issue_cost,
        handover=MACHINE.handover,
        start=start.tasks or "after_orchestration",
    )


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("start", STARTS, ids=str)
@pytest.mark.parametrize("together", [combine, sequential])
@pytest.mark.parametrize("lengths", [(4,), (40, 1, 3)], ids=str)
def test_pipelines_wait_for_the_start(
    lengths: tuple[int, ...], together: Callable[..., Workload], start: Any, window: TaskWindow | None
) -> None:
    totals = [zero() for _ in lengths]
    w = together(*(sums(a, n) for a, n in zip(totals, lengths, strict=True)))
    w = w.task_graph(start=start) if window is None else w.task_graph(start=start, window=window)
    deps = [[k - 1] if k and together is sequential else [] for k in range(len(lengths))]
    want = model(lengths, deps, start, window)
    if "deadlock" in want:
        with pytest.raises(ScheduleError, match="PTO419"):
            w.compile(arch=MACHINE.name)
        return
    assert w.compile(arch=MACHINE.name).run().stats.total_cycles == want["total"]
    assert [int(a[0, 0]) for a in totals] == [n * (n - 1) // 2 for n in lengths]
