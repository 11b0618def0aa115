"""What a traced run tells of its pipelines, one event after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from pto_wsp.errors import BindError, Location, here
from pto_wsp.runtime.views.pipes import OPERATIONS, WAITS, Ints, Pipes

_COLUMNS = ("run", "process", "channel", "operation", "token", "came", "until", "went", "waited")


@dataclass(frozen=True)
class PipelineEvent:
    """A time that a pipeline ran.

    name            of the pipeline
    around, process the one whose process ran it, and that process, as places in `trace.pipelines` and `trace.processes`; -1, -1: it
                    was a task of what is around
    issue, ready    cycles, as of a task; -1: a process ran it, or it never was
    start, end      cycles. -1 as its end: it came to none; if no process ran it, its start is 0, and its cycles, and those of its tasks and
                    operations, count from its beginning
    """

    name: str
    around: int
    process: int
    issue: int
    ready: int
    start: int
    end: int


@dataclass(frozen=True)
class Operation:
    """Something that a process did beside its tasks.

    process, channel  by name; "" as the channel: it has none
    operation, token  one of OPERATIONS; which token of the channel, counted from 0 with the initial ones, -1 where it is about none
    came, until, went cycles: it came to it, the other process that it waited for acted, it went on; -1: it waited for ever
    waited            what it waited for first, one of WAITS
    pipeline          a place in `trace.pipelines`
    loc               the user's line
    """

    process: str
    channel: str
    operation: str
    token: int
    came: int
    until: int
    went: int
    waited: str
    pipeline: int
    loc: Location | None


class Operations(Sequence[Operation]):
    """What processes did beside their tasks, in the order of semantic time. `operations[i]` is one of them; columns, arrays that cannot
    be written, hold a number for each: `pipeline`, `process`, `channel` (places in those of the trace), `operation` (a place in
    OPERATIONS), `token`, `came`, `until`, `went`, `waited` (a place in WAITS). `dropped`: how many more there were than the trace keeps."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._arrays = {("pipeline" if name == "run" else name): pipes.operations[name].copy() for name in _COLUMNS}
        self._arrays["token"][~np.isin(self._arrays["operation"], (0, 1, 2, 5))] = -1
        for column in self._arrays.values():
            column.flags.writeable = False

    @property
    def dropped(self) -> int:
        """Pipelines and operations that the trace had no room for."""
        return self._pipes.dropped

    def __getattr__(self, name: str) -> Ints:
        column = self._arrays.get(name) if not name.startswith("_") else None
        if column is None:
            raise AttributeError(name)
        return column

    def __len__(self) -> int:
        return len(self._arrays["process"])

    @overload
    def __getitem__(self, i: int) -> Operation: ...
    @overload
    def __getitem__(self, i: slice) -> list[Operation]: ...
    def __getitem__(self, i: int | slice) -> Operation | list[Operation]:
        if isinstance(i, slice):
            return [self._at(k) for k in range(*i.indices(len(self)))]
        k = int(i)
        if not -len(self) <= k < len(self):
            raise IndexError(f"the trace has {len(self)} operations, and no operation {k}")
        return self._at(k % len(self))

    def __iter__(self) -> Iterator[Operation]:
        return map(self._at, range(len(self)))

    def _at(self, i: int) -> Operation:
        a = {name: int(column[i]) for name, column in self._arrays.items()}
        origin = int(self._pipes.operations["origin"][i])
        return Operation(
            process=self._pipes.processes[a["process"]].name,
            channel=self._pipes.channels[a["channel"]].name if a["channel"] >= 0 else "",
            operation=OPERATIONS[a["operation"]],
            token=a["token"],
            came=a["came"],
            until=a["until"],
            went=a["went"],
            waited=WAITS[a["waited"]],
            pipeline=a["pipeline"],
            loc=self._pipes.lines[origin] if origin >= 0 else None,
        )

    def __repr__(self) -> str:
        return f"Operations({len(self)}, dropped={self.dropped})"


def pipeline_events(pipes: Pipes) -> tuple[PipelineEvent, ...]:
    """Each time that a pipeline ran."""
    r = pipes.runs
    around, start, end = (r[name].tolist() for name in ("around", "start", "end"))
    own, issue, ready = (r[name].tolist() for name in ("process", "issue", "ready"))
    return tuple(
        PipelineEvent(
            pipes.name_of(i),
            around[i],
            own[i] if around[i] < 0 else own[i] + pipes.places[int(r["place"][around[i]])].first_process,
            *(issue[i], ready[i], start[i], end[i]),
        )
        for i in range(len(around))
    )


def occupancy(pipes: Pipes, channel: object, run: object) -> tuple[Ints, Ints]:
    """See ExecutionTrace. Raises BindError."""
    names = [c.name for c in pipes.channels]
    if channel not in names:
        raise BindError(
            *("PTO705", f"there is no channel {channel!r:.80}"),
            values={"channels": ", ".join(names) or "none"},
            loc=here(),
            fix="name one of these",
        )
    k = names.index(str(channel))
    mine = [i for i, p in enumerate(pipes.runs["place"].tolist()) if _has(pipes, p, k)]
    if run is None and not mine:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if run is not None and run not in mine:
        raise BindError(
            *("PTO705", f"pipeline {run!r:.80} of the trace has no channel {channel}"),
            values={"those with it": ", ".join(map(str, mine[:8])) or "none"},
            loc=here(),
            fix="give one of these, or leave it out",
        )
    return pipes.occupancy(mine[0] if run is None else int(str(run)), k)


def _has(pipes: Pipes, place: int, channel: int) -> bool:
    p = pipes.places[place]
    return p.first_channel <= channel < p.first_channel + p.channels
