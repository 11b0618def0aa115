"""Where the cycles of pipelines went: the critical path through their processes and channels, and what their processes waited for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pto_wsp.errors import InternalError, Location
from pto_wsp.ir.readonly import ReadOnly
from pto_wsp.runtime.views.columns import FIRST_PIPELINE, Columns, Site
from pto_wsp.runtime.views.pipes import CLOSE, END, ENDED, WAITS, Ints
from pto_wsp.runtime.views.rows import KINDS, bars


@dataclass(frozen=True)
class ProcessUse:
    """A process: its tasks, the cycles it was busy with them (and with what it read, and pipelines of its own), and the others by what it
    waited for, as `trace.operations` says, or "ended" where it had ended before its pipeline. `cycles`: all of its pipeline."""

    process: str
    pipeline: str
    tasks: int
    cycles: int
    busy: int
    waits: Mapping[str, int]


@dataclass(frozen=True)
class ChannelUse:
    """A channel: its capacity (None: no limit), tokens sent and the most that were in it, and the cycles that processes waited for room, or
    a free buffer, and for tokens. depth: with it the run takes as long as with any, where the channel is what makes it slower; None: it is
    not, or that was not looked for."""

    channel: str
    capacity: int | None
    tokens: int
    most: int
    full: int
    empty: int
    depth: int | None


@dataclass(frozen=True)
class Part:
    """A part of the critical path in a pipeline, `task` -1 where it is none's."""

    task: int
    name: str
    kernel: str
    loc: Location | None
    activity: str
    start: int
    end: int
    because: str
    process: str
    channel: str


@dataclass(frozen=True)
class Outer:
    """The tasks of semantic time: those of no process, and each outermost pipeline as one. `nodes`: what each is in edges."""

    columns: Columns
    nodes: list[int]


def outer(c: Columns) -> Outer:
    """Of a traced run. Pipelines take no lane: each has a number below 0 of its own."""
    a, r = c.arrays, c.pipes.runs
    tasks = np.flatnonzero(a["pipeline"] < 0)
    runs = np.flatnonzero(r["around"] < 0)
    if not len(runs):
        return Outer(c, list(range(len(c))))
    m = len(runs)
    given: dict[str, Ints] = {
        name: r[name][runs]
        for name in ("due", "asked", "order", "issue", "ready", "end", "window", "batch", "waited", "stalled")
    }
    given |= {"start": r["task_start"][runs], "lane": -1 - np.arange(m), "site": len(c.sites) + r["place"][runs]}
    given |= dict.fromkeys(("stream", "stream_scope", "pipeline", "process"), np.full(m, -1))
    arrays = {name: np.concatenate([a[name][tasks].astype(np.int64), extra]) for name, extra in given.items()}
    arrays["coords"] = np.concatenate([a["coords"][tasks], np.zeros((m, a["coords"].shape[1]), np.int64)])
    nodes = [*tasks.tolist(), *(FIRST_PIPELINE - runs).tolist()]
    row = {node: k for k, node in enumerate(nodes)}
    edges = [[row.get(x, x) for x in edge] for edge in a["edges"].tolist()]
    arrays["edges"] = np.array(edges, np.int64).reshape(-1, 2)
    arrays["boundary"] = a["boundary"]
    sites = (*c.sites, *(Site(p.name, (), p.loc) for p in c.pipes.places))
    return Outer(Columns(arrays, sites, c.arch, c.timing, c.full, 0, 0), nodes)


class Paths:
    """The critical paths of the pipelines of a run that came to its end, back from the end of each."""

    def __init__(self, c: Columns) -> None:
        self._c, self._o = c, {k: v.tolist() for k, v in c.pipes.operations.items()}
        self._runs = {k: v.tolist() for k, v in c.pipes.runs.items()}
        b = bars(c)
        spent = b.end > b.start
        self._items: dict[tuple[int, int], tuple[list[int], list[tuple[int, int, int]]]] = {}
        columns = (x[spent].tolist() for x in (b.run, b.process, b.start, b.end, b.kinds, b.ids))
        waits: set[int] = set()
        for run, process, start, end, kind, i in zip(*columns, strict=True):
            if kind < 0 and KINDS[-kind] in WAITS:  # its parts are looked at together
                if i in waits:
                    continue
                waits.add(i)
                start, end = self._o["came"][i], self._o["went"][i]
            elif kind >= 0:
                start = c.lists["issue"][i]
            ends, items = self._items.setdefault((run, process), ([], []))
            ends.append(end)
            items.append((start, kind, i))
        for ends, items in self._items.values():
            order = sorted(range(len(ends)), key=ends.__getitem__)
            ends[:], items[:] = [ends[k] for k in order], [items[k] for k in order]
        self._last: dict[int, int] = {}
        self._closes: dict[tuple[int, int], list[int]] = {}
        for i, kind in enumerate(self._o["operation"]):
            run, process, at = (self._o[name][i] for name in ("run", "process", "came"))
            if kind in (CLOSE, END):
                self._closes.setdefault((run, at), []).append(process)
            if kind == END and at == self._runs["end"][run]:
                self._last.setdefault(run, process)

    def back(self, run: int) -> Iterator[Part]:
        """The parts of the path of a pipeline, from its end to its beginning. The first of all has begun with it."""
        process, at = self._last[run], self._runs["end"][run]
        part: Part | None = None  # whose beginning is looked at
        because, channel = "", ""
        while (item := self._ending(run, process, at)) is not None:
            start, kind, i = item
            if kind < 0 and KINDS[-kind] in WAITS:
                found = self._wait(i)
                if found.spent is not None:
                    if part is not None:
                        yield _because(part, because or "process", channel)
                    part, because, channel = found.spent, "", ""
                if found.because and not because:
                    because, channel = found.because, self._channel(i)
                process, at = found.process, found.at
                continue
            if part is not None:
                yield _because(part, because or "process", channel)
            later, part = self._spent(process, item, at)
            yield from later
            because, channel = "", ""
            at = start
        if part is not None:
            yield _because(part, because or "begin", channel)

    def _spent(self, process: int, item: tuple[int, int, int], end: int) -> tuple[list[Part], Part | None]:
        """The parts of something that took a process until `end`, from its end to its beginning; apart the first, if why it began is open."""
        start, kind, i = item
        if kind >= 0:
            whole = self._task(i, process)
            if whole.start == start:
                return [], whole
            return [_because(whole, "boundary", "")], replace(whole, activity="read", start=start, end=whole.start)
        if KINDS[-kind] == "read":
            name = self._name(process)
            return [], Part(-1, "read", name, self._loc(i), "read", start, end, "", name, "")
        return list(self.back(i)), None

    def _ending(self, run: int, process: int, at: int) -> tuple[int, int, int] | None:
        """What took a process until then."""
        ends, items = self._items.get((run, process), ([], []))
        k = bisect_left(ends, at)
        return items[k] if k < len(ends) and ends[k] == at else None

    def _wait(self, i: int) -> _Wait:
        o = self._o
        came, until, went, process = (o[name][i] for name in ("came", "until", "went", "process"))
        spent = None
        if went > until:
            sends = o["operation"][i] in (0, 5) and self._c.pipes.channels[o["channel"][i]].capacity != 0
            name, line = self._channel(i), self._loc(i)
            activity = "response" if sends else "latency"
            spent = Part(
                -1, f"of {name}", f"channel {name}", line, activity, until, went, "", self._name(process), name
            )
        if until == came:
            return _Wait(spent, "", process, came)
        if o["operation"][i] == ENDED:
            return _Wait(spent, "closed", self._closer(o["run"][i], i, went), went)
        partner = o["partner"][i]
        at = o["came"][partner] if self._c.pipes.channels[o["channel"][i]].capacity == 0 else o["went"][partner]
        return _Wait(spent, WAITS[o["waited"][i]], o["process"][partner], at)

    def _closer(self, run: int, i: int, at: int) -> int:
        producers = self._c.pipes.channels[self._o["channel"][i]].producers
        found = next((p for p in self._closes.get((run, at), []) if p in producers), None)
        if found is None:
            raise InternalError(f"nobody closes a channel at {at} that is closed then")
        return found

    def _task(self, i: int, process: int) -> Part:
        site, start, end = self._c.site_of(i), self._c.lists["start"][i], self._c.lists["end"][i]
        return Part(i, self._c.name_of(i), site.kernel, site.loc, "run", start, end, "", self._name(process), "")

    def _name(self, process: int) -> str:
        return self._c.pipes.processes[process].name

    def _channel(self, i: int) -> str:
        return self._c.pipes.channels[self._o["channel"][i]].name

    def _loc(self, i: int) -> Location | None:
        origin = self._o["origin"][i]
        return self._c.pipes.lines[origin] if origin >= 0 else None


@dataclass(frozen=True)
class _Wait:
    """A wait looked at from its end: the time of the channel in it, what it was for, and where the path goes on."""

    spent: Part | None
    because: str
    process: int
    at: int


def _because(part: Part, because: str, channel: str) -> Part:
    """With why it began; a wait, with its channel."""
    return replace(part, because=because, channel=channel or part.channel)


def process_uses(c: Columns) -> tuple[ProcessUse, ...]:
    """Of each process of pipelines that ran."""
    b, r = bars(c), c.pipes.runs
    length = b.end - b.start
    out: list[ProcessUse] = []
    for k, place in enumerate(c.pipes.places):
        runs = np.flatnonzero(r["place"] == k)
        cycles = int((r["end"][runs] - r["start"][runs]).sum())
        if not len(runs):
            continue
        for i in range(place.first_process, place.first_process + place.processes):
            mine = b.process == i
            waits = {what: int(length[mine & (b.kinds == -n)].sum()) for n, what in enumerate(WAITS) if what}
            working = mine & ((b.kinds >= 0) | (b.kinds <= -KINDS.index("read")))
            busy = int(length[working].sum()) + _reads(c, i)
            waits["ended"] = cycles - busy - sum(waits.values())
            tasks = int((mine & (b.kinds >= 0)).sum())
            left = ReadOnly({what: n for what, n in waits.items() if n})
            out.append(ProcessUse(c.pipes.processes[i].name, place.name, tasks, cycles, busy, left))
    return tuple(out)


def _reads(c: Columns, process: int) -> int:
    """Of what its tasks read before they start."""
    mine = c.arrays["process"] == process
    return int((c.arrays["start"][mine] - c.arrays["issue"][mine]).sum())


def channel_uses(c: Columns, depths: Mapping[str, int] | None) -> tuple[ChannelUse, ...]:
    """Of each channel that the workload has; what waits for its buffers counts as full. depths: what those that throttle need."""
    o, pipes = c.pipes.operations, c.pipes
    waits = np.maximum(o["went"] - o["came"], 0)
    most: dict[int, int] = {}
    for run, k in pipes.used():
        most[k] = max(most.get(k, 0), int(pipes.occupancy(run, k)[1].max()))
    out: list[ChannelUse] = []
    for k, channel in enumerate(pipes.channels):
        if channel.buffers_of is not None:
            continue
        mine = o["channel"] == k
        free = [j for j, other in enumerate(pipes.channels) if other.buffers_of == k]
        sends, receives = np.isin(o["operation"], (0, 5)), np.isin(o["operation"], (1, 2, ENDED))
        full = int(waits[mine & sends].sum()) + int(waits[np.isin(o["channel"], free) & receives].sum())
        depth = None if depths is None else depths.get(channel.name)
        sent, empty = int((mine & sends).sum()), int(waits[mine & receives].sum())
        out.append(ChannelUse(channel.name, channel.capacity, sent, most.get(k, 0), full, empty, depth))
    return tuple(out)
