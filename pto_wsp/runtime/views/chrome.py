"""A trace for chrome://tracing and Perfetto: the Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from pto_wsp.runtime.views.chrome_pipes import events_of_pipelines, pipeline_track
from pto_wsp.runtime.views.columns import FIRST_PIPELINE, Columns, is_join, spans, write

SEMANTIC, WALL = 1, 2  # processes
Event = dict[str, Any]


def to_chrome(c: Columns, path: str) -> None:
    """Write the events, one a line."""
    write(path, "the trace", _text(c))


def _text(c: Columns) -> Iterator[str]:
    yield '{"displayTimeUnit": "ns", "traceEvents": ['
    for k, event in enumerate(_events(c)):
        yield (",\n" if k else "\n") + json.dumps(event)
    yield "\n]}\n"


def _events(c: Columns) -> Iterator[Event]:
    yield from _heads(c)
    for pid, time in ((SEMANTIC, "semantic"), (WALL, "wall")):
        s = spans(c, time)
        for i, row, start, end in zip(*(x.tolist() for x in (s.ids, s.rows, s.start, s.end)), strict=True):
            yield {
                "ph": "X",
                "pid": pid,
                "tid": row,
                "ts": start / 1e3,
                "dur": (end - start) / 1e3,
                "name": c.name_of(i),
                "cat": c.site_of(i).kernel,
                "args": _arguments(c, i),
            }
    yield from events_of_pipelines(c)
    yield from _flows(c)
    yield from _counters(c)


def _heads(c: Columns) -> Iterator[Event]:
    for pid, time, name in (
        (SEMANTIC, "semantic", f"semantic time, {c.arch} (1 ns is 1 cycle)"),
        (WALL, "wall", "wall time"),
    ):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
        s = spans(c, time)
        for k, row in enumerate(np.unique(s.rows).tolist()):
            yield {"ph": "M", "pid": pid, "tid": row, "name": "thread_name", "args": {"name": f"{s.row_name} {row}"}}
            yield {"ph": "M", "pid": pid, "tid": row, "name": "thread_sort_index", "args": {"sort_index": k}}


def _arguments(c: Columns, i: int) -> dict[str, Any]:
    times = {name: c.lists[name][i] for name in ("window", "issue", "ready", "start", "end", "issued_ns")}
    scope = c.lists["stream_scope"][i]
    stream = {} if scope < 0 else {"stream": c.lists["stream"][i], "stream_scope": scope}
    return {"id": i, **c.coords_of(i), **stream, **times}


def _flows(c: Columns) -> Iterator[Event]:
    """From the end of a task or pipeline to the start of each that waits for it, of a join from the member that ended last; and along
    streams."""
    before = c.before_in_stream
    flows = [
        ("stream" if target >= 0 and before[target] == origin >= 0 else "dependence", origin, target)
        for origin, target in c.waits
    ]
    held = set(c.waits)
    flows += [("stream", origin, target) for target, origin in enumerate(before) if (origin, target) not in held]
    for k, (what, origin, target) in enumerate(flows):
        if is_join(target) or is_join(origin) or c.span_of(origin)[1] < 0 or c.span_of(target)[1] < 0:
            continue
        flow: Event = {"cat": what, "name": what, "id": k}
        start, end = c.span_of(origin)
        leaves = max(start, end - 0.5)  # inside of the task, for at its end the next one may have begun
        yield {**flow, "ph": "s", **_track(c, origin), "ts": leaves / 1e3}
        yield {**flow, "ph": "f", "bp": "e", **_track(c, target), "ts": c.span_of(target)[0] / 1e3}


def _track(c: Columns, node: int) -> Event:
    pid, tid = (SEMANTIC, c.lists["lane"][node]) if node >= 0 else pipeline_track(c, FIRST_PIPELINE - node)
    return {"pid": pid, "tid": tid}


def _counters(c: Columns) -> Iterator[Event]:
    """Tasks of each window that are issued and not retired, in semantic time; they retire in order of issue."""
    a = c.arrays
    for window in np.unique(a["window"]).tolist():
        ids = np.flatnonzero((a["window"] == window) & (a["end"] >= 0) & (a["lane"] >= 0))
        ids = ids[np.argsort(a["issue"][ids], kind="stable")]
        issue, retire = a["issue"][ids], np.maximum.accumulate(a["end"][ids])
        times, at = np.unique(np.concatenate([issue, retire]), return_inverse=True)
        change = np.bincount(at, np.repeat([1, -1], len(ids)), len(times)).astype(np.int64)
        for time, count in zip(times.tolist(), np.cumsum(change).tolist(), strict=True):
            name = f"tasks in flight, window {window}"
            yield {"ph": "C", "pid": SEMANTIC, "name": name, "ts": time / 1e3, "args": {"tasks": count}}
