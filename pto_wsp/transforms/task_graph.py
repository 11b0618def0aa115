"""task_graph: how tasks depend on each other, and how many are issued."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pto_wsp.errors import ScheduleError, here, no_options
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.trace.workload import Traced
from pto_wsp.transforms.policies import DepsMode, TaskWindow

W = TypeVar("W", bound=Traced)


def task_graph(
    *, deps: DepsMode | None = None, window: TaskWindow | None = None, **options: object
) -> Callable[[W], W]:
    """`task_graph(deps=Deps.hybrid, window=TaskWindow(1024))(w)`: how tasks of w depend on each other, and that at most 1024 of them
    are issued and not retired.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   deps[mode="hybrid"] { window[mode="STALL", tasks=1024] { parallel_for b in batch: Dense(8) { ... } } }

    Give either or both. A task counts in the innermost window around it; a full window stalls all issue. Without a window the
    bound is 65,536. Dependences are said once, of the whole workload; without, they are inferred exactly (`DepsMode`). Results stay
    the same; semantic time and the number of tasks in flight change.

    Raises ScheduleError for what is no window and no mode, and for dependences of a part of a workload; RaceError where `explicit`
    leaves a conflict unordered.
    """
    no_options("task_graph", options, "deps, window")
    _need("window", window, TaskWindow, "window=TaskWindow(1024)")
    _need("deps", deps, DepsMode, "deps=Deps.infer_tensor_map_exact")
    if deps is None and window is None:
        raise ScheduleError(
            "PTO403",
            "task_graph says nothing",
            loc=here(),
            fix="write task_graph(window=TaskWindow(1024)), task_graph(deps=Deps.hybrid), or both",
        )

    def apply(w: W) -> W:
        Traced.need("task_graph", w)
        if window is not None:
            w = w.wrapped("window", tasks=int(window.size), mode=window.mode.name)
        if deps is not None:
            w = w.wrapped("deps", mode=deps.name)
            refuse_races(w.wir)
        return w

    return apply


def _need(name: str, value: object, kind: type, example: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ScheduleError(
            "PTO403",
            f"task_graph: {name} is no {kind.__name__}",
            values={name: repr(value)[:80]},
            loc=here(),
            fix=f"write task_graph({example})",
        )
