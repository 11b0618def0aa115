"""Conflicts: two processes touch a common element, one writes, and nothing orders the two."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pto_wsp.proofs.clocks import Clocks
from pto_wsp.proofs.walk import Box, Touch, Undecided

MOST_COMPARED = 2 * 10**6
"""Pairs of touches and boxes."""


@dataclass(frozen=True)
class Conflict:
    """Two touches without an order, and an element that is in both. `certain`: both are what happens."""

    first: Touch
    second: Touch
    element: tuple[int, ...]

    @property
    def certain(self) -> bool:
        return self.first.certain and self.second.certain


class _Group:
    """Touches of one box: of each strand all and those that write, each in order of steps."""

    def __init__(self) -> None:
        self.all: dict[int, list[Touch]] = {}
        self.writes: dict[int, list[Touch]] = {}

    def add(self, t: Touch) -> None:
        for kept in (self.all, self.writes) if t.writes else (self.all,):
            of = kept.setdefault(t.strand, [])
            if not of or of[-1].step != t.step or (t.certain and not of[-1].certain):
                of.append(t)


def conflicts(touches: Iterable[Touch], clocks: Clocks, owned: frozenset[str] = frozenset()) -> Iterator[Conflict]:
    """Of each tensor, and each pair of boxes and strands, one at most. `owned`: tensors that are left out. Raises Undecided where
    there is too much to compare."""
    tensors: dict[str, dict[Box, _Group]] = {}
    for t in touches:
        if t.tensor not in owned:
            tensors.setdefault(t.tensor, {}).setdefault(t.box, _Group()).add(t)
    left = [MOST_COMPARED]
    for boxes in tensors.values():
        strands = {s for g in boxes.values() for s in g.all}
        if len(strands) > 1 and any(g.writes for g in boxes.values()):
            for a, b in _overlapping(boxes, left):
                yield from _between(a, boxes[a], b, boxes[b], clocks, left)


def _spend(left: list[int], n: int) -> None:
    left[0] -= n
    if left[0] < 0:
        raise Undecided("more touches of common tensors are in it than are compared here")


def _overlapping(boxes: Iterable[Box], left: list[int]) -> Iterator[tuple[Box, Box]]:
    """Pairs of boxes that have common elements, each with itself too; swept along the dimension of most starts."""
    rows = list(boxes)
    dim = max(range(len(rows[0])), key=lambda d: len({b[d][0] for b in rows}), default=None)
    if dim is None:
        yield from ((b, b) for b in rows)
        return
    rows.sort(key=lambda b: b[dim][0])
    open_rows: list[Box] = []
    for b in rows:
        open_rows = [a for a in open_rows if a[dim][1] > b[dim][0]]
        _spend(left, 1 + len(open_rows))
        yield from ((a, b) for a in open_rows if all(x[0] < y[1] and y[0] < x[1] for x, y in zip(a, b, strict=True)))
        yield b, b
        open_rows.append(b)


def _between(a: Box, of_a: _Group, b: Box, of_b: _Group, clocks: Clocks, left: list[int]) -> Iterator[Conflict]:
    element = tuple(max(x[0], y[0]) for x, y in zip(a, b, strict=True))
    ways = ((of_a, of_b),) if of_a is of_b else ((of_a, of_b), (of_b, of_a))
    for writing, other in ways:
        for s, writes in writing.writes.items():
            for r, touched in other.all.items():
                if r != s:
                    _spend(left, len(writes))
                    found = _unordered(writes, touched, clocks)
                    if found is not None:
                        yield Conflict(*found, element)


def _unordered(writes: list[Touch], touched: list[Touch], clocks: Clocks) -> tuple[Touch, Touch] | None:
    """The first of `writes`, in order of steps as `touched`, that is neither before nor behind one of these."""
    s, r = writes[0].strand, touched[0].strand
    steps = [t.step for t in touched]
    for w in writes:
        behind = bisect_left(steps, clocks.first_after(s, w.step, r))
        seen = clocks.pasts[s][w.step].get(r, -1)
        if behind and steps[behind - 1] > seen:
            return w, touched[bisect_left(steps, seen + 1)]
    return None
