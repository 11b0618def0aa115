"""A trace as text: a row for each lane or thread."""

from __future__ import annotations

import string

import numpy as np

from pto_wsp.runtime.views.columns import Columns, Ints, Spans, spans

_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
_IDLE = "."


def gantt(c: Columns, width: int, time: str) -> str:
    """One row of `width` characters for each lane or thread, a line that says the scale, and what the letters mean."""
    s = spans(c, time)
    if len(s.ids) == 0:
        return "no task ran"
    rows = np.unique(s.rows).tolist()
    margin = max(len(f"{s.row_name} {row}") for row in rows) + 1
    cells = max(width - margin, 1)
    kernels = c.kernel_numbers()[s.ids]
    first, last = int(s.start.min()), int(s.end.max())
    lines = [f"{s.row_name} {row}".ljust(margin) + _row(s, s.rows == row, kernels, first, last, cells) for row in rows]
    scale = f"{first} .. {last} {s.unit}, {(last - first) / cells:.4g} a character"
    legend = [f"{_letter(k)} {c.kernels[k]}" for k in np.unique(kernels).tolist()]
    return "\n".join([*lines, " " * margin + scale, *(" " * margin + line for line in legend)])


def _letter(kernel: int) -> str:
    return _LETTERS[kernel % len(_LETTERS)]


def _row(s: Spans, here: Ints, kernels: Ints, first: int, last: int, cells: int) -> str:
    """For each cell the kernel whose tasks take most of it, if that is more than nothing does. Where tasks take no time at all, the
    cell that they stand in, if no task takes any of it."""
    width = max(last - first, 1)  # of a cell, as times are counted here: in parts of a unit, so that all are whole
    exact = np.int64 if width * cells < 2**62 else object
    start, end = ((t[here].astype(exact) - first) * cells for t in (s.start, s.end))
    numbers = np.unique(kernels[here]).tolist()
    taken = [_coverage(start[mine], end[mine], cells, width) for mine in (kernels[here] == k for k in numbers)]
    idle = width - np.sum(taken, axis=0)
    best, shown = idle, np.full(cells, -1)
    for k, cycles in zip(numbers, taken, strict=True):
        shown = np.where(cycles > best, k, shown)
        best = np.maximum(cycles, best)
    for at, k in zip(start[start == end].tolist(), kernels[here][start == end].tolist(), strict=True):
        if idle[cell := min(at // width, cells - 1)] == width:
            shown[cell] = k
    return "".join(_IDLE if k < 0 else _letter(k) for k in shown.tolist())


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
