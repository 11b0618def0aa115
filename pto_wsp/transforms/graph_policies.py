"""What `task_graph` says: windows, when lanes start, and how dependences are found."""

from __future__ import annotations

from dataclasses import dataclass

from pto_wsp.errors import ScheduleError, here
from pto_wsp.ir.core import Choice
from pto_wsp.ir.scopes import MOST
from pto_wsp.transforms.policies import Policy, positive


class WindowMode(Choice):
    """What a full window does. STALL: issue waits until the oldest task retires. ABORT: the run fails, when semantic time would need
    more, with a WindowError that says how much; only the whole run shows that, so its tasks have run by then, and `program.simulate`
    says it without running any. BENCHMARK: nothing; the high-water mark is recorded."""

    STALL = "STALL"
    ABORT = "ABORT"
    BENCHMARK = "BENCHMARK"


@dataclass(frozen=True, slots=True)
class TaskWindow:
    """At most `size` tasks are issued and not retired at any time; with unit "bytes", tasks whose `Out` and `InOut` views have at most
    `size` valid bytes together, though one task is always admitted when there is no other.

    Raises ScheduleError for a size below 1, another unit and another mode.
    """

    size: int
    unit: str = "tasks"
    mode: WindowMode = WindowMode.STALL

    def __post_init__(self) -> None:
        if self.unit not in ("tasks", "bytes"):
            raise _wrong(f"a window in {self.unit!r}", "tasks, bytes", 'write TaskWindow(1024, "tasks")')
        positive("TaskWindow", "size", self.size, MOST if self.unit == "tasks" else 2**62)
        if not isinstance(self.mode, WindowMode):
            raise _wrong(
                "a window's mode is a WindowMode", repr(self.mode)[:80], "write WindowMode.STALL, ABORT or BENCHMARK"
            )


@dataclass(frozen=True, slots=True)
class Start:
    """Lanes take no task before `tasks` are issued, or all there are; 0: before all are. Issue that waits at a scalar counts as all."""

    tasks: int

    def __call__(self, *args: object) -> Start:
        fix = "write StartPolicy.after_orchestration, or StartPolicy.threshold(64)"
        raise ScheduleError("PTO403", "a start policy is called, and takes nothing more", loc=here(), fix=fix)


class StartPolicy:
    """When lanes begin to take tasks. Without one: at once."""

    after_orchestration = Start(0)

    @staticmethod
    def threshold(k: int) -> Start:
        """Once k tasks are issued, or all there are."""
        return Start(positive("threshold", "k", k, MOST))


class DepsMode(Choice):
    """How the run finds which earlier tasks a task must wait for, beside what structure says.

    infer_tensor_map_exact: tasks that touch a common element, one writing. infer_bytes_overlap: tasks whose ranges of bytes overlap,
    one writing: never less order, sometimes more, and cheaper to find. explicit: only what `after=` says; a conflict that structure
    and `after=` leave unordered is a RaceError. Processes and their tokens are structure. hybrid: `after=`, and what infer_tensor_map_exact finds.
    """

    infer_tensor_map_exact = "infer_tensor_map_exact"
    infer_bytes_overlap = "infer_bytes_overlap"
    explicit = "explicit"
    hybrid = "hybrid"


Deps = DepsMode


class TracePolicy(Choice):
    """What runs record for `program.trace`, until `program.enable_tracing` says otherwise. none: nothing. tasks: each task. full: also what
    each task had to wait for."""

    none = "none"
    tasks = "tasks"
    full = "full"


@dataclass(frozen=True, slots=True)
class TaskGraphConfig:
    """What `task_graph` takes, as one value: `task_graph(config)`."""

    deps: DepsMode | None = None
    window: TaskWindow | None = None
    pools: Policy | None = None
    ready: Policy | None = None
    start: Start | None = None
    trace: TracePolicy | None = None


def _wrong(what: str, there_is: str, fix: str) -> ScheduleError:
    return ScheduleError("PTO403", what, values={"there is": there_is}, loc=here(), fix=fix)
