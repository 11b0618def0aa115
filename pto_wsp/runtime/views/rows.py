"""What each lane, thread and process of a traced run does when: the rows of its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pto_wsp.runtime.views.columns import Columns, spans
from pto_wsp.runtime.views.pipes import READ, WAITS, Ints, Pipes

KINDS = (*WAITS, "read", "pipeline")
"""What a process does beside tasks: what it waits for, a read, a pipeline of its own. Its kind in rows is its place here, negative."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Bars of one kind of time. names: of the rows; at, start, end, kinds: of each bar; a kind is a place in the kernels of the trace, or
    negative, see KINDS."""

    names: tuple[str, ...]
    at: Ints
    start: Ints
    end: Ints
    kinds: Ints
    unit: str

    @property
    def limits(self) -> tuple[int, int]:
        """The first and the last moment."""
        return (int(self.start.min()), int(self.end.max())) if len(self.at) else (0, 0)


@dataclass(frozen=True, eq=False)
class Bars:
    """What processes do: which pipeline that ran, which process (a place in `trace.processes`), when, and the kind. `ids`: of tasks, else of
    operations; of pipelines, where the kind says so."""

    run: Ints
    process: Ints
    start: Ints
    end: Ints
    kinds: Ints
    ids: Ints


def rows_of(c: Columns, time: str) -> Rows:
    """Lanes, then processes, in semantic time; threads in wall time."""
    s = spans(c, time)
    lanes, at = np.unique(s.rows, return_inverse=True)
    names = [f"{s.row_name} {n}" for n in lanes.tolist()]
    kinds = c.kernel_numbers()[s.ids] if len(s.ids) else s.ids
    if time == "wall" or not len(c.pipes.runs["place"]):
        return Rows(tuple(names), at, s.start, s.end, kinds, s.unit)
    b = bars(c)
    keys = _process_keys(c.pipes)
    place = np.searchsorted(keys, process_rows(c.pipes, b.run, b.process))
    names += [row_name(c.pipes, *divmod(key, len(c.pipes.processes))) for key in keys]
    both = ((at, place + len(lanes)), (s.start, b.start), (s.end, b.end), (kinds, b.kinds))
    at, start, end, kinds = (np.concatenate(pair) for pair in both)
    return Rows(tuple(names), at, start, end, kinds, s.unit)


def _process_keys(pipes: Pipes) -> list[int]:
    """The numbers of the rows of all processes of pipelines that ran, those that did nothing too."""
    ran = {(p, slot) for p, slot in zip(pipes.runs["place"].tolist(), pipes.slots.tolist(), strict=True)}
    found = ((pipes.places[p], slot) for p, slot in ran)
    return sorted(
        slot * len(pipes.processes) + place.first_process + i for place, slot in found for i in range(place.processes)
    )


def process_rows(pipes: Pipes, run: Ints, process: Ints) -> Ints:
    """The number of a row of a process: another one for each of the runs of a pipeline that overlap."""
    return pipes.slots[run] * len(pipes.processes) + process


def row_name(pipes: Pipes, slot: int, process: int) -> str:
    """What a process is called, with its pipeline where two have that name; `load #2` of a second one at the same time."""
    p = pipes.processes[process]
    alone = sum(q.name == p.name for q in pipes.processes) == 1
    return numbered(p.name if alone else f"{p.pipeline}.{p.name}", slot)


def numbered(name: str, slot: int) -> str:
    """A name, of the second at a time with a number."""
    return name if slot == 0 else f"{name} #{slot + 1}"


def bars(c: Columns) -> Bars:
    """What the processes of all pipelines do, in order of their beginnings: tasks, waits, reads, pipelines of their own."""
    parts = [tuple(np.asarray(x) for x in part) for part in _parts(c)]
    run, process, start, end, kinds, ids = (np.concatenate([p[k] for p in parts]) for k in range(6))
    order = np.lexsort((kinds, end, start))
    return Bars(*(x[order] for x in (run, process, start, end, kinds, ids)))


def _parts(c: Columns) -> Iterator[tuple[Ints, Ints, Ints, Ints, Ints, Ints]]:
    a, o, r = c.arrays, c.pipes.operations, c.pipes.runs
    tasks = np.flatnonzero(a["pipeline"] >= 0)
    if len(tasks):
        kernels = c.kernel_numbers()[tasks]
        yield a["pipeline"][tasks], a["process"][tasks], a["start"][tasks], a["end"][tasks], kernels, tasks
    last = max(x.max(initial=0) for x in (a["end"], r["end"], o["went"], o["came"]))
    until, went = (np.where(o[name] < 0, last, o[name]) for name in ("until", "went"))
    waited = np.array([KINDS.index("full"), KINDS.index("empty"), KINDS.index("rendezvous")])
    acted = np.isin(o["waited"], waited) & (until > o["came"])
    yield _of_operations(c, acted, o["came"], until, -o["waited"])
    own = np.where(np.isin(o["operation"], (0, 5)), KINDS.index("response"), KINDS.index("latency"))
    rendezvous = np.array([x.capacity == 0 for x in c.pipes.channels] or [False])[o["channel"]]
    own = np.where(rendezvous, KINDS.index("latency"), own)
    yield _of_operations(c, (went > until) & (o["operation"] != READ), until, went, -own)
    read = np.full(len(own), -KINDS.index("read"))
    yield _of_operations(c, o["operation"] == READ, o["came"], went, read)
    nested = np.flatnonzero(r["around"] >= 0)
    around = r["around"][nested]
    first = np.array([p.first_process for p in c.pipes.places] or [0], np.int64)
    process = r["process"][nested] + first[r["place"][around]]
    end = np.where(r["end"][nested] < 0, last, r["end"][nested])
    yield around, process, r["start"][nested], end, np.full(len(nested), -KINDS.index("pipeline")), nested


def _of_operations(
    c: Columns, which: Ints, start: Ints, end: Ints, kinds: Ints
) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    o, ids = c.pipes.operations, np.flatnonzero(which)
    return o["run"][ids], o["process"][ids], start[ids], end[ids], kinds[ids], ids


@dataclass(frozen=True, eq=False)
class Filling:
    """How full a channel was: its name, its capacity (None: no limit), and from each of `times` until the next the tokens in it. Runs of
    its pipeline that follow each other stand in one."""

    name: str
    capacity: int | None
    place: int
    times: Ints
    tokens: Ints


def fillings(pipes: Pipes) -> list[Filling]:
    """Of each channel that was used, in each of the rows of its pipeline."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for run, channel in pipes.used():
        found.setdefault((channel, int(pipes.slots[run])), []).append((int(pipes.runs["start"][run]), run))
    out: list[Filling] = []
    for (channel, slot), runs in sorted(found.items()):
        c = pipes.channels[channel]
        series = [pipes.occupancy(run, channel) for _, run in sorted(runs)]
        times, tokens = (np.concatenate([x[k] for x in series]) for k in (0, 1))
        place = int(pipes.runs["place"][runs[0][1]])
        out.append(Filling(numbered(c.name, slot), c.capacity, place, times, tokens))
    return out
