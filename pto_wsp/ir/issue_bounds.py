"""How many tasks, and bytes that they write, each window of a workload gets: between how many, for all sizes and all data. A
pipeline is one task, of no bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pto_wsp.ir.core import Axis, Direction, Eqn, Kernel, Region, TileType, Wir
from pto_wsp.ir.tasks import LOOPS

Most = int | float
"""A number, or infinity."""


@dataclass(frozen=True)
class Counts:
    """Between so many tasks; bytes at most."""

    low: int = 0
    high: Most = 0
    bytes: Most = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.low + other.low, self.high + other.high, self.bytes + other.bytes)

    def __or__(self, other: Counts) -> Counts:
        """One of the two."""
        return Counts(min(self.low, other.low), max(self.high, other.high), max(self.bytes, other.bytes))

    def times(self, low: int, high: Most) -> Counts:
        """Repeated between so often."""
        return Counts(self.low * low, _product(self.high, high), _product(self.bytes, high))


def _product(a: Most, b: Most) -> Most:
    return a * b if a and b else 0


@dataclass(frozen=True)
class Windows:
    """Counts by the place of the window in program order, -1 without a window; and the most bytes that a task of each writes."""

    counts: Mapping[int, Counts] = field(default_factory=dict[int, Counts])
    largest: Mapping[int, Most] = field(default_factory=dict[int, Most])


def issue_bounds(wir: Wir) -> Windows:
    """Of a traced workload."""
    places = {id(e): k for k, e in enumerate(e for top in wir.body.eqns for e in top.walk() if e.prim == "window")}
    largest: dict[int, Most] = {}

    def region(r: Region, window: int) -> dict[int, Counts]:
        return _sum(eqn(e, window) for e in r.eqns)

    def eqn(e: Eqn, window: int) -> dict[int, Counts]:
        if e.prim in ("task", "pipeline"):
            size = _bytes(wir.kernel(str(e.params["kernel"]))) if e.prim == "task" else 0
            largest[window] = max(largest.get(window, 0), size)
            return {window: Counts(1, 1, size)}
        inside = places[id(e)] if e.prim == "window" else window
        parts = [region(r, inside) for r in e.regions]
        if e.prim in LOOPS:
            low, high = _extent(e)
            return {w: c.times(low, high) for w, c in parts[0].items()}
        if e.prim == "cond":
            return {w: parts[0].get(w, Counts()) | parts[1].get(w, Counts()) for p in parts for w in p}
        return _sum(parts)

    return Windows(region(wir.body, -1), largest)


def _sum(parts: Iterable[Mapping[int, Counts]]) -> dict[int, Counts]:
    out: dict[int, Counts] = {}
    for part in parts:
        for w, c in part.items():
            out[w] = out.get(w, Counts()) + c
    return out


def _extent(loop: Eqn) -> tuple[int, Most]:
    axis = loop.params["axis"]
    assert isinstance(axis, Axis)
    if not axis.extent.is_const:
        return 0, math.inf
    n = max(axis.extent.const, 0)
    return (0 if len(loop.regions) > 1 else n), n  # one with a condition may stop


def _bytes(kernel: Kernel) -> Most:
    """Most that a task writes."""
    written = (p.type for p in kernel.params if p.direction is not Direction.IN)
    return sum(t.rows * t.cols * t.dtype.itemsize if isinstance(t, TileType) else math.inf for t in written)
