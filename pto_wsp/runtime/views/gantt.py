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
    cell that they stand in."""
    scale = cells / max(last - first, 1)
    start, end = (s.start[here] - first) * scale, (s.end[here] - first) * scale
    best, shown = np.zeros(cells), np.full(cells, -1)
    for k in np.unique(kernels[here]).tolist():
        mine = kernels[here] == k
        taken = _coverage(start[mine], end[mine], cells)
        instants = np.minimum(start[mine][start[mine] == end[mine]].astype(np.int64), cells - 1)
        np.maximum.at(taken, instants, 1e-9)
        shown = np.where(taken > best, k, shown)
        best = np.maximum(taken, best)
    return "".join(_IDLE if k < 0 else _letter(k) for k in shown.tolist())


def _coverage(start: Ints, end: Ints, cells: int) -> Ints:
    """How much of each cell [i, i + 1) the spans take, which do not overlap."""
    return np.diff(_time_before(np.arange(cells + 1.0), start) - _time_before(np.arange(cells + 1.0), end))


def _time_before(at: Ints, points: Ints) -> Ints:
    """For each of `at`, the sum of max(at - point, 0) over all points."""
    ordered = np.sort(points)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = np.searchsorted(ordered, at)
    return count * at - sums[count]
