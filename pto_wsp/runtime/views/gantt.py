"""A trace as text: a row for each lane and process, or thread."""

from __future__ import annotations

import string

import numpy as np

from pto_wsp.runtime.views.columns import Columns, Ints
from pto_wsp.runtime.views.rows import KINDS, Rows, rows_of

_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
_IDLE = "."
_NOTHING = -len(KINDS)
_MARKS = {"full": ">", "empty": "<", "rendezvous": "=", "response": "-", "latency": "~", "read": "?", "pipeline": "#"}
_MEANINGS = {
    "full": "waits: a channel is full",
    "empty": "waits: a channel is empty",
    "rendezvous": "waits for the other process at a rendezvous",
    "response": "the response of a channel",
    "latency": "the latency of a channel",
    "read": "reads a scalar",
    "pipeline": "runs a pipeline",
}


def gantt(c: Columns, width: int, time: str) -> str:
    """One row of `width` characters for each lane and process, or thread, a line that says the scale, and what the letters mean."""
    s = rows_of(c, time)
    if len(s.at) == 0:
        return "no task ran"
    margin = max(map(len, s.names)) + 1
    cells = max(width - margin, 1)
    first, last = s.limits
    lines = [name.ljust(margin) + _row(s, s.at == k, first, last, cells) for k, name in enumerate(s.names)]
    scale = f"{first} .. {last} {s.unit}, {(last - first) / cells:.4g} a character"
    kinds = sorted(np.unique(s.kinds).tolist(), key=lambda k: (k < 0, abs(k)))
    legend = [f"{_letter(k)} {c.kernels[k] if k >= 0 else _MEANINGS[KINDS[-k]]}" for k in kinds]
    return "\n".join([*lines, " " * margin + scale, *(" " * margin + line for line in legend)])


def _letter(kind: int) -> str:
    return _LETTERS[kind % len(_LETTERS)] if kind >= 0 else _MARKS[KINDS[-kind]]


def _row(s: Rows, here: Ints, first: int, last: int, cells: int) -> str:
    """For each cell what takes most of it, tasks of one kernel or one kind of wait, if that is more than nothing does. Where tasks take no
    time at all, the cell that they stand in, if nothing takes any of it."""
    width = max(last - first, 1)  # of a cell, as times are counted here: in parts of a unit, so that all are whole
    exact = np.int64 if width * cells < 2**62 else object
    start, end = ((t[here].astype(exact) - first) * cells for t in (s.start, s.end))
    numbers = np.unique(s.kinds[here]).tolist()
    taken = [_coverage(start[mine], end[mine], cells, width) for mine in (s.kinds[here] == k for k in numbers)]
    idle = width - np.sum(taken, axis=0)
    best, shown = idle, np.full(cells, _NOTHING)
    for k, cycles in zip(numbers, taken, strict=True):
        shown = np.where(cycles > best, k, shown)
        best = np.maximum(cycles, best)
    for at, k in zip(start[start == end].tolist(), s.kinds[here][start == end].tolist(), strict=True):
        if idle[cell := min(at // width, cells - 1)] == width:
            shown[cell] = k
    return "".join(_IDLE if k == _NOTHING else _letter(k) for k in shown.tolist())


def _coverage(start: Ints, end: Ints, cells: int, width: int) -> Ints:
    """How much of each cell [i * width, (i + 1) * width) the spans take, which do not overlap."""
    edges = np.arange(cells + 1).astype(start.dtype) * width
    return np.diff(_time_before(edges, start) - _time_before(edges, end))


def _time_before(at: Ints, points: Ints) -> Ints:
    """For each of `at`, the sum of max(at - point, 0) over all points: modulo 2**64, of which differences are exact."""
    ordered = np.sort(points)
    sums = np.concatenate([np.zeros(1, points.dtype), np.cumsum(ordered)])
    count = np.searchsorted(ordered, at)
    return count * at - sums[count]
