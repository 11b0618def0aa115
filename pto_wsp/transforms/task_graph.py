"""task_graph: how tasks are issued."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pto_wsp.errors import ScheduleError, here, no_options
from pto_wsp.trace.workload import Traced
from pto_wsp.transforms.policies import TaskWindow

W = TypeVar("W", bound=Traced)


def task_graph(*, window: TaskWindow, **options: object) -> Callable[[W], W]:
    """`task_graph(window=TaskWindow(1024))(w)`: at most that many tasks of w are issued and not retired.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   window[mode="STALL", tasks=1024] { parallel_for b in batch: Dense(8) { ... } }

    A task counts in the innermost window around it; a full window stalls all issue. Without a window the bound is 65,536.
    Results stay the same; semantic time and the number of tasks in flight change. Raises ScheduleError for what is no window.
    """
    no_options("task_graph", options, "window")
    if not isinstance(window, TaskWindow):
        raise ScheduleError(
            "PTO403",
            "task_graph needs a TaskWindow",
            values={"window": repr(window)[:80]},
            loc=here(),
            fix="write task_graph(window=TaskWindow(1024))",
        )

    def apply(w: W) -> W:
        Traced.need("task_graph", w)
        return w.wrapped("window", tasks=int(window.size), mode=window.mode.name)

    return apply
