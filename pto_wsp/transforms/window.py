"""window: a bound of the tasks in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pto_wsp.errors import ScheduleError, here
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.checks import refuse_small_window
from pto_wsp.transforms.graph_policies import TaskWindow
from pto_wsp.transforms.scope import scoped

W = TypeVar("W", bound=Traced | TracedFunction)


def window(bound: TaskWindow) -> Callable[[W], W]:
    """`window(TaskWindow(1024))(w)`: at most 1024 tasks of w are issued and not retired.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   window[mode="STALL", tasks=1024] { parallel_for b in batch: Dense(8) { ... } }

    A task counts in the innermost window around it; a full window stalls all issue. Without a window the bound is 65,536. Results
    stay the same; semantic time and the number of tasks in flight change. Raises ScheduleError for what is no window, for one in bytes
    that a task inside does not fit, and where a window inside holds all tasks.
    """
    if not isinstance(bound, TaskWindow):
        raise ScheduleError(
            "PTO403",
            "window needs a TaskWindow",
            values={"window": repr(bound)[:80]},
            loc=here(),
            fix="write window(TaskWindow(1024))",
        )

    def apply(w: Traced) -> Traced:
        out = scoped(w, "window", {bound.unit: int(bound.size), "mode": bound.mode.name})
        if bound.unit == "bytes":
            refuse_small_window(out.wir, out.wir.body.eqns[0], int(bound.size))
        return out

    return transformation("window", apply)
