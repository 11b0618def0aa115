"""What a traced run tells of its tasks: an ExecutionTrace of columns, and TraceEvents, one a task."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import BindError, here
from pto_wsp.runtime.explain import Explanation, explain
from pto_wsp.runtime.pipe_columns import pipes_of, place_tasks
from pto_wsp.runtime.places import Places
from pto_wsp.runtime.schedule import Origin, RunSchedule, schedule_of
from pto_wsp.runtime.views.chrome import to_chrome
from pto_wsp.runtime.views.columns import Columns, Ints, Site, Timing
from pto_wsp.runtime.views.dot import to_dot
from pto_wsp.runtime.views.gantt import gantt
from pto_wsp.runtime.views.operations import Operations, PipelineEvent, occupancy, pipeline_events
from pto_wsp.runtime.views.pipes import TracedChannel, TracedProcess
from pto_wsp.runtime.views.timeline import to_timeline

OUTCOMES = ("dropped", "done", "failed", "skipped")
"""Of a task: it was issued but the run stopped before it started; it ran; it ran and failed, or could not run; it depends on one
that failed."""


class TraceLevel(Enum):
    """How much `program.enable_tracing` records.

    NONE    nothing
    TASKS   each task: kernel, coordinates, lane, thread, and when it was issued, ready, started and ended
    FULL    also what each task had to wait for
    """

    NONE = "none"
    TASKS = "tasks"
    FULL = "full"


@dataclass(frozen=True)
class TraceEvent:
    """One task of a traced run.

    id                        position in program order, from 0
    kernel, coords            label of its kernel; its coordinates by name (by place where they have none)
    lane, window              where it ran in semantic time, and the window that it counts in
    stream, stream_scope      its stream, and which of the schedule's scopes of streams that belongs to, from 0; -1, -1: it has none
    issue, ready, start, end  cycles of semantic time; -1: it never was
    issued_ns, started_ns, ended_ns  nanoseconds since the run began, measured; -1: it never was. Issued is a task once its window, and
                              the resources of the run, have had room for it
    thread                    the system's number of the thread that ran it (threading.get_native_id()); 0: none did
    process, pipeline         the process that it is a task of, a place in `trace.processes`, and which of `trace.pipelines`; -1, -1: none.
                              Its lane is -1, and it is issued when its process comes to it
    outcome                   "done", "failed", "skipped" (it depends on a task that failed), "dropped" (the run stopped before it)
    name                      what messages call it: scale[b=3]
    """

    id: int
    kernel: str
    coords: dict[str, int]
    lane: int
    window: int
    stream: int
    stream_scope: int
    issue: int
    ready: int
    start: int
    end: int
    issued_ns: int
    started_ns: int
    ended_ns: int
    thread: int
    process: int
    pipeline: int
    outcome: str
    name: str


class ExecutionTrace(Sequence[TraceEvent]):
    """The tasks of one run in program order; `program.trace` gives it.

    Its columns are arrays that cannot be written, with a number for each task: `lane`, `window`, `stream`, `stream_scope`,
    `issue`, `ready`, `start`, `end` (cycles), `issued_ns`, `started_ns`, `ended_ns`, `thread`, `outcome` (a place in OUTCOMES), `site` (a place in `sites`: which
    call of which kernel), and `coords` with a row for each task. `trace[i]` is a task as a TraceEvent. What a number means is said
    there; -1 stands for what never was.

    edges     of level "full": rows (from, to) of tasks by id, for each task that another had to wait for when that was issued in
              semantic time; what was complete by then has no edge. Negative numbers are joins: complete when all that leads there
              is. Empty at level "tasks".
    dropped, dropped_edges   how many tasks and edges the run had beyond the limit of `enable_tracing`; they are not here
    arch      the arch that the cycles belong to

    Of pipelines (docs/pipelines.md): `pipelines`, each time that one ran; `processes` and `channels` of the workload; `operations`, what
    processes did with channels; `occupancy(channel)`, how full one was.
    """

    def __init__(self, columns: Columns, origin: Origin | None = None) -> None:
        self._columns, self._origin = columns, origin

    @property
    def sites(self) -> tuple[Site, ...]:
        """The calls of kernels in the workload: label of the kernel, names of the coordinates, the user's line."""
        return self._columns.sites

    @property
    def arch(self) -> str:
        """The arch that the cycles belong to."""
        return self._columns.arch

    @property
    def dropped(self) -> int:
        """Tasks of the run that are not here, because it had more than the limit of `enable_tracing`."""
        return self._columns.dropped

    @property
    def dropped_edges(self) -> int:
        """Edges of the run that are not here, for the same reason."""
        return self._columns.dropped_edges

    @property
    def pipelines(self) -> tuple[PipelineEvent, ...]:
        """Each time that a pipeline ran, outer ones before those that their processes ran."""
        return pipeline_events(self._columns.pipes)

    @property
    def processes(self) -> tuple[TracedProcess, ...]:
        """The processes of all pipelines of the workload."""
        return self._columns.pipes.processes

    @property
    def channels(self) -> tuple[TracedChannel, ...]:
        """The channels of all pipelines of the workload, as the run had them."""
        return self._columns.pipes.channels

    @cached_property
    def operations(self) -> Operations:
        """What the processes of pipelines did beside their tasks, in the order of semantic time."""
        return Operations(self._columns.pipes)

    def occupancy(self, channel: str, pipeline: int | None = None) -> tuple[Ints, Ints]:
        """How full a channel was: cycles at which that changes, and the tokens that are in it from each on until the next. They are sent and
        not received. `pipeline`: which of `pipelines`, by default the first that has the channel. Raises BindError."""
        return occupancy(self._columns.pipes, channel, pipeline)

    def __getattr__(self, name: str) -> Ints:
        column = self._columns.arrays.get(name) if not name.startswith("_") else None
        if column is None:
            raise AttributeError(name)
        return column

    def __len__(self) -> int:
        return len(self._columns)

    @overload
    def __getitem__(self, i: int) -> TraceEvent: ...
    @overload
    def __getitem__(self, i: slice) -> list[TraceEvent]: ...
    def __getitem__(self, i: int | slice) -> TraceEvent | list[TraceEvent]:
        if isinstance(i, slice):
            return [self._event(k) for k in range(*i.indices(len(self)))]
        k = int(i)
        if not -len(self) <= k < len(self):
            raise IndexError(f"the trace has {len(self)} tasks, and no task {k}")
        return self._event(k % len(self))

    def __iter__(self) -> Iterator[TraceEvent]:
        return map(self._event, range(len(self)))

    @cached_property
    def events(self) -> tuple[TraceEvent, ...]:
        """All tasks. Slower and larger than the columns: about a microsecond, and a kilobyte, each."""
        return tuple(self)

    def _event(self, i: int) -> TraceEvent:
        c = self._columns
        numbers = {name: c.lists[name][i] for name in _NUMBERS}
        return TraceEvent(
            id=i,
            kernel=c.site_of(i).kernel,
            coords=c.coords_of(i),
            outcome=OUTCOMES[c.lists["outcome"][i]],
            name=c.name_of(i),
            **numbers,
        )

    def __repr__(self) -> str:
        return f"ExecutionTrace({len(self)} tasks, {len(self.edges)} edges, dropped={self.dropped})"

    def explain(self) -> Explanation:
        """Where the cycles of the run went: its critical path by task and line, how lanes were used, what stalled. Raises
        ExecutionError (PTO764) where the trace lacks tasks or edges: it takes level "full", which `program.explain` does not."""
        return explain(self._columns)

    def schedule(self) -> RunSchedule:
        """Which thread ran each task, and in which order, to be saved, and forced upon another run by `program.run(replay=...)`.
        Raises ExecutionError (PTO764) where not every task was kept and done."""
        return schedule_of(self._columns, self._origin)

    # pictures

    def to_chrome(self, path: str | os.PathLike[str]) -> None:
        """Write the trace for chrome://tracing and https://ui.perfetto.dev: JSON with a process for semantic time by lane (1 cycle
        is shown as 1 ns) and one for wall time by thread; coordinates and times of each task as arguments; dependences as flows
        from the task that was waited for longest; how many tasks of each window are in flight as counters. Raises BindError."""
        to_chrome(self._columns, _path(path, "to_chrome"))

    def to_dot(self, path: str | os.PathLike[str]) -> None:
        """Write the task graph for Graphviz: a node for each task, its edges, and a point for each join. Raises BindError."""
        to_dot(self._columns, _path(path, "to_dot"))

    def to_timeline(self, path: str | os.PathLike[str], *, time: str = "semantic") -> None:
        """Draw when each task ran, as SVG or PNG by the suffix of `path`: by lane in "semantic" time, or by thread in "wall" time.
        Raises BindError, and UnsupportedError (PTO762) where matplotlib is missing."""
        to_timeline(self._columns, _path(path, "to_timeline"), _time(time, "to_timeline"))

    def gantt(self, width: int = 100, *, time: str = "semantic") -> str:
        """The same as text, `width` characters wide: a row for each lane or thread, in each part of it the letter of the kernel that
        takes most of that part, "." where it is idle for longer. Raises BindError."""
        ok = isinstance(width, (int, np.integer)) and not isinstance(width, bool) and 20 <= width <= 10_000
        if not ok:
            raise BindError(
                *("PTO705", f"gantt takes a width of 20 .. 10000 characters, not {width!r}"),
                loc=here(),
                fix="give a width of 20 .. 10000",
            )
        return gantt(self._columns, int(width), _time(time, "gantt"))


_NUMBERS = (
    *("lane", "window", "stream", "stream_scope", "issue", "ready", "start", "end"),
    *("issued_ns", "started_ns", "ended_ns", "thread", "process", "pipeline"),
)


def _path(path: object, what: str) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise BindError("PTO705", f"{what} takes a path, not {path!r:.80}", loc=here(), fix="give a path")
    return os.fsdecode(path)


def _time(time: object, what: str) -> str:
    if not isinstance(time, str) or time not in ("semantic", "wall"):
        raise BindError(
            *("PTO705", f"{what} knows no time {time!r:.80}"), loc=here(), fix='give time="semantic" or time="wall"'
        )
    return time


def columns_of(record: dict[str, Any], artifact: Artifact) -> Columns:
    """The columns of a trace of a program, as the core records it (csrc/include/pto_wsp/tracer.hpp says what they hold)."""

    def column(name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.frombuffer(record[name], dtype)

    arrays: dict[str, Ints] = {}
    places = Places(artifact.wir)
    for name in (
        "issue",
        "due",
        "asked",
        "order",
        "ready",
        "start",
        "end",
        "issued_ns",
        "started_ns",
        "ended_ns",
        "stream",
    ):
        arrays[name] = column(name, np.int64)  # with all bits set: -1
    for name in ("site", "window", "thread"):
        arrays[name] = column(name, np.uint32)
    for name in ("lane", "stream_scope", "batch", "pipeline", "process"):
        arrays[name] = column(name, np.int32)
    for name in ("outcome", "waited", "stalled", "boundary"):
        arrays[name] = column(name, np.uint8)
    arrays["coords"] = column("coords", np.int64).reshape(record["tasks"], record["width"])
    arrays["edges"] = column("edges", np.int64).reshape(-1, 2)
    sites = tuple(
        Site(
            kernel=places.label(i),
            names=tuple(places.coordinate_names(i)),
            loc=p.eqn.loc,
        )
        for i, p in enumerate(places.sites)
    )
    pipes = pipes_of(record["pipes"], places)
    place_tasks(arrays, pipes)
    costs = (record[name] for name in ("issue_cost", "handover", "read_cost", "start_at"))
    timing = Timing(*costs, batches=tuple(record["batches"]), lanes=record["lanes"])
    dropped = record["dropped"], record["dropped_edges"]
    return Columns(arrays, sites, artifact.manifest["arch"], timing, record["full"], *dropped, pipes)
