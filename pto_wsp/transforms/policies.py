"""What schedules say: dispatch policies, windows, and how dependences are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pto_wsp.errors import ScheduleError, UnsupportedNameError, here
from pto_wsp.ir.core import Choice, Policy


class _Policies(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UnsupportedNameError(
            "PTO001",
            f"DispatchPolicy has no {name}",
            values={"there is": "round_robin"},
            loc=here(),
            fix="use DispatchPolicy.round_robin(n)",
        )


class DispatchPolicy(metaclass=_Policies):
    """How tasks get their home lanes."""

    @staticmethod
    def round_robin(num_aicpus: int) -> Policy:
        """Task k of the scope (counted from 0 in program order) goes to lane k mod num_aicpus. num_aicpus: 1 .. 65536."""
        return Policy("round_robin", positive("round_robin", "lanes", num_aicpus, 65_536))


class WindowMode(Choice):
    """What a full window does. STALL: issue waits until the oldest task retires."""

    STALL = "STALL"


@dataclass(frozen=True, slots=True)
class TaskWindow:
    """At most `size` tasks are issued and not retired at any time. unit: "tasks"; mode: STALL.

    Raises ScheduleError for a size below 1 or another unit.
    """

    size: int
    unit: str = "tasks"
    mode: WindowMode = WindowMode.STALL

    def __post_init__(self) -> None:
        positive("TaskWindow", "size", self.size, 2**40)
        if self.unit != "tasks":
            raise ScheduleError(
                "PTO403",
                f"a window in {self.unit!r}",
                values={"there is": "tasks"},
                loc=here(),
                fix='write TaskWindow(1024, "tasks")',
            )
        if not isinstance(self.mode, WindowMode):
            raise ScheduleError(
                "PTO403",
                "a window's mode is a WindowMode",
                values={"mode": repr(self.mode)[:80]},
                loc=here(),
                fix="write WindowMode.STALL",
            )


class DepsMode(Choice):
    """How the run finds which earlier tasks a task must wait for, beside what structure says.

    infer_tensor_map_exact: tasks that touch a common element, one writing. infer_bytes_overlap: tasks whose ranges of bytes overlap,
    one writing: never less order, sometimes more, and cheaper to find. explicit: only what `after=` says; a conflict that structure
    and `after=` leave unordered is a RaceError. hybrid: `after=`, and what infer_tensor_map_exact finds.
    """

    infer_tensor_map_exact = "infer_tensor_map_exact"
    infer_bytes_overlap = "infer_bytes_overlap"
    explicit = "explicit"
    hybrid = "hybrid"


Deps = DepsMode


def positive(what: str, field: str, value: object, most: int) -> int:
    """`value` as an integer of 1 .. most. Raises ScheduleError."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= most:
        raise ScheduleError(
            "PTO403",
            f"{what}: {field} is {value!r}",
            values={"range": f"1 .. {most}"},
            loc=here(),
            fix="give a positive integer",
        )
    return int(value)
