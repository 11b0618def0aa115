"""Races that really happen: iterations of one P loop that touch a common element, one of them writing it.

Two tasks are ordered unless they first differ in the iteration of a P loop. Tasks come in program order, so of each element it is
enough to remember the last task that wrote it, and one of those that have read it since: whatever a later task races with, it
races with one of the tasks remembered, or one of these has raced with another before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pto_wsp.ir.core import Eqn, Region, Wir
from pto_wsp.runtime.elements import Array, Range, selector

Level = tuple[str, str | int]
"""On the way to a task: ("at", its place in a body), ("P" or "seq", the variable of a loop)."""


def paths_of(wir: Wir) -> list[tuple[Level, ...]]:
    """The way from the root to each task site, or to the outermost pipeline that it is in: P loops of a process are in order, and
    processes are looked at by the core."""
    out: list[tuple[Level, ...]] = []

    def visit(region: Region, path: tuple[Level, ...]) -> None:
        for k, eqn in enumerate(region.eqns):
            here = (*path, ("at", k))
            if eqn.prim == "task":
                out.append(here)
            if eqn.prim == "pipeline":
                out.extend(here for e in eqn.walk() if e.prim == "task")
                continue
            for r, inner in enumerate(eqn.regions):
                visit(inner, (*here, _level(eqn, r)))

    visit(wir.body, ())
    return out


def _level(eqn: Eqn, region: int) -> Level:
    if eqn.prim in ("parallel_for", "seq_for"):
        return ("P" if eqn.prim == "parallel_for" else "seq", eqn.regions[0].params[0].name)
    return ("at", region)


@dataclass(frozen=True)
class Instance:
    """One task of the run: its site, its way with numbers for loop variables, and what messages call it."""

    site: int
    path: tuple[Level, ...]
    numbers: tuple[int, ...]
    name: str


@dataclass(frozen=True)
class Race:
    """Two tasks, the variable of the P loop that they belong to different iterations of, and the element they share."""

    first: Instance
    second: Instance
    loop: str
    tensor: str
    element: tuple[int, ...]


class RaceWatch:
    """Remembers who touched which element."""

    def __init__(self) -> None:
        self._tasks: list[Instance] = []
        self._writers: dict[str, Array] = {}
        self._readers: dict[str, Array] = {}

    def begin(self, task: Instance) -> None:
        """The task whose accesses come next, in program order."""
        self._tasks.append(task)

    def touch(self, tensor: str, shape: tuple[int, ...], taken: Sequence[Range], *, writes: bool) -> Race | None:
        """The current task reads or writes these elements; gives a race that this makes."""
        for table in (self._writers, self._readers):
            if tensor not in table:
                table[tensor] = np.full(shape, -1, np.int32)
        where = selector(taken)
        found = self._race(tensor, self._writers[tensor], where, taken)
        if found is None and writes:
            found = self._race(tensor, self._readers[tensor], where, taken)
        if found is None:
            self._remember(tensor, where, writes=writes)
        return found

    def _race(self, tensor: str, table: Array, where: tuple[Any, ...], taken: Sequence[Range]) -> Race | None:
        known = table[where]
        for k in np.unique(known[known >= 0]):
            loop = _unordered(self._tasks[int(k)], self._tasks[-1])
            if loop is not None:
                place = np.argwhere(known == k)[0]
                element = tuple(int(r[i]) for r, i in zip(taken, place, strict=True))
                return Race(self._tasks[int(k)], self._tasks[-1], loop, tensor, element)
        return None

    def _remember(self, tensor: str, where: tuple[Any, ...], *, writes: bool) -> None:
        me = len(self._tasks) - 1
        if writes:
            self._writers[tensor][where] = me
            self._readers[tensor][where] = -1
            return
        # a reader of another iteration stays: whatever races with this one races with it
        readers = self._readers[tensor]
        known = readers[where]
        keep = [int(k) for k in np.unique(known[known >= 0]) if _unordered(self._tasks[int(k)], self._tasks[-1])]
        readers[where] = np.where(np.isin(known, keep), known, me) if keep else me


def _unordered(a: Instance, b: Instance) -> str | None:
    """The variable of the P loop in whose iteration two tasks first differ, if that is where they do."""
    for x, y, i, j in zip(a.path, b.path, a.numbers, b.numbers, strict=False):
        if x != y or i != j:
            return str(x[1]) if x[0] == "P" and x == y else None
    return None
