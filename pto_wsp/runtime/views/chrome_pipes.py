"""The pipelines of a trace for Perfetto: a group of tracks for each, with a track for each process, and a counter for each channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pto_wsp.runtime.views.columns import Columns
from pto_wsp.runtime.views.rows import KINDS, bars, fillings, numbered

FIRST = 3  # of the groups of tracks
_COLOURS = {"full": "terrible", "empty": "grey", "rendezvous": "bad", "response": "olive", "latency": "yellow"}
Event = dict[str, Any]


def pipeline_track(c: Columns, run: int) -> tuple[int, int]:
    """Where a pipeline that ran is shown: a group, and a track in it."""
    place, slot = int(c.pipes.runs["place"][run]), int(c.pipes.slots[run])
    return FIRST + place, slot * (c.pipes.places[place].processes + 1)


def process_track(c: Columns, run: int, process: int) -> tuple[int, int]:
    """Where what a process does is shown."""
    group, track = pipeline_track(c, run)
    return group, track + 1 + process - c.pipes.places[group - FIRST].first_process


def events_of_pipelines(c: Columns) -> Iterator[Event]:
    """Pipelines that ran, what their processes did, and how full their channels were, in semantic time."""
    yield from _heads(c)
    for run, (start, end) in enumerate(zip(*(c.pipes.runs[n].tolist() for n in ("start", "end")), strict=True)):
        if end >= 0:
            args = {n: int(c.pipes.runs[n][run]) for n in ("issue", "ready")}
            yield _slice(pipeline_track(c, run), start, end, c.pipes.name_of(run), "pipeline", {"run": run, **args})
    b = bars(c)
    columns = (x.tolist() for x in (b.run, b.process, b.start, b.end, b.kinds, b.ids))
    for run, process, start, end, kind, i in zip(*columns, strict=True):
        track = process_track(c, run, process)
        if kind >= 0:
            yield _slice(track, start, end, c.name_of(i), c.site_of(i).kernel, {"id": i, **c.coords_of(i)})
            continue
        what = KINDS[-kind]
        if what == "pipeline":
            yield _slice(track, start, end, c.pipes.name_of(i), what, {"run": i})
        elif what == "read":
            yield _slice(track, start, end, what, what, {})
        else:
            channel = c.pipes.channels[int(c.pipes.operations["channel"][i])].name
            args = {"channel": channel, "token": int(c.pipes.operations["token"][i])}
            yield {**_slice(track, start, end, f"{what}: {channel}", what, args), "cname": _COLOURS[what]}
    for f in fillings(c.pipes):
        name = f"{f.name}, of {'any number' if f.capacity is None else f.capacity}"
        for time, tokens in zip(f.times.tolist(), f.tokens.tolist(), strict=True):
            yield {"ph": "C", "pid": FIRST + f.place, "name": name, "ts": time / 1e3, "args": {"tokens": tokens}}


def _slice(track: tuple[int, int], start: int, end: int, name: str, kind: str, args: dict[str, Any]) -> Event:
    pid, tid = track
    times = {"ts": start / 1e3, "dur": (end - start) / 1e3}
    return {
        "ph": "X",
        "pid": pid,
        "tid": tid,
        **times,
        "name": name,
        "cat": kind,
        "args": {**args, "start": start, "end": end},
    }


def _heads(c: Columns) -> Iterator[Event]:
    for k, p in enumerate(c.pipes.places):
        runs = np.flatnonzero(c.pipes.runs["place"] == k)
        if not len(runs):
            continue
        pid = FIRST + k
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": f"pipeline {p.name}, semantic time"}}
        yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
        for slot in range(int(c.pipes.slots[runs].max()) + 1):
            own = c.pipes.processes[p.first_process : p.first_process + p.processes]
            for i, name in enumerate([p.name, *(q.name for q in own)]):
                tid = slot * (p.processes + 1) + i
                yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": numbered(name, slot)}}
                yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}
