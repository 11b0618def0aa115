"""Why things happened when they did in semantic time: for each moment of a task, the moment before it that it had to wait for.

A task is due when the orchestrator comes to it; asked for, when a boundary before it lies behind; then issued, unblocked, ready,
started, ended. The times are those that the clock recorded, so each answer is exact; which of several moments of one cycle was
waited for follows the order in which the clock goes through a cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from pto_wsp.runtime.views.columns import Columns


class At(Enum):
    """A moment of a task."""

    DUE = 0
    ASKED = 1
    ARRIVED = 2  # what its boundary waits for is there
    ISSUED = 3
    UNBLOCKED = 4
    READY = 5
    STARTED = 6
    ENDED = 7


class Moment(NamedTuple):
    at: At
    task: int


@dataclass(frozen=True, slots=True)
class Cause:
    """What a moment came after.

    before: the moment before it; None: the beginning of the run
    activity: what took time from then on: "run", "handover", "issue", "rate limit", "read"; "": nothing did
    since, until: the cycles that it took
    reason: what kind of wait was over then: "dependence", "stream", "lane", "window", "boundary", "batch", "start"; "": none
    """

    before: Moment | None
    since: int
    until: int
    activity: str = ""
    reason: str = ""


class Causes:
    """Of a traced run, with its edges, in which every task ended."""

    def __init__(self, c: Columns) -> None:
        self.c = c
        self._t = {name: c.lists[name] for name in ("due", "asked", "issue", "ready", "start", "end")}
        self._before_on_lane = _before(c, ("id", "ready", "end", "start", "lane"))
        self._issued = c.issue_order
        self._issued_before = [-1] * len(c)
        for before, i in zip(self._issued, self._issued[1:], strict=False):
            self._issued_before[i] = before
        self._needs: dict[int, list[int]] = {}
        self._awaits: dict[int, list[int]] = {}
        for (origin, target), boundary in zip(c.waits, c.lists["boundary"], strict=True):
            if target >= 0 and origin >= 0:
                (self._awaits if boundary else self._needs).setdefault(target, []).append(origin)
        self._retired = self._retirements()
        self._released = self._releases()
        self._opened = self._openings()

    def of(self, m: Moment) -> Cause:
        """What a moment came after."""
        return _CAUSES[m.at](self, m.task)

    # what the clock does with several tasks

    def _retirements(self) -> dict[int, tuple[list[int], np.ndarray]]:
        """Of each window its tasks in order of issue, and when each retires: not before those ahead of it."""
        window, out = self.c.lists["window"], {}
        tasks: dict[int, list[int]] = {}
        for i in self._issued:
            tasks.setdefault(window[i], []).append(i)
        for w, ids in tasks.items():
            out[w] = ids, np.maximum.accumulate([self._t["end"][i] for i in ids])
        return out

    def _releases(self) -> dict[int, Moment]:
        """For each task of a batch, what released it: the last of its batch, or the first wait of the orchestrator, or the end of issue."""
        sizes, of = self.c.timing.batches, self.c.lists["batch"]
        waited, stalled = self.c.lists["waited"], self.c.lists["stalled"]
        open_batches: dict[int, list[int]] = {}
        out: dict[int, Moment] = {}

        def release(batches: list[int], by: Moment) -> None:
            for b in batches:
                out.update((i, by) for i in open_batches.pop(b))

        for j in self._issued:
            if waited[j] or stalled[j]:
                release(list(open_batches), Moment(At.DUE if waited[j] else At.ASKED, j))
            if (b := of[j]) >= 0:
                open_batches.setdefault(b, []).append(j)
                if len(open_batches[b]) == sizes[b]:
                    release([b], Moment(At.ISSUED, j))
        if self._issued:
            release(list(open_batches), Moment(At.ISSUED, self._issued[-1]))
        return out

    def _openings(self) -> dict[int, Moment]:
        """When lanes were let go under a start policy: by cycle, the first time in it."""
        out: dict[int, Moment] = {}
        n = self.c.timing.start
        for k, j in enumerate(self._issued if n else ()):
            if self.c.lists["waited"][j]:
                out.setdefault(self._t["due"][j], Moment(At.DUE, j))
            if k + 1 == min(n, len(self._issued)):
                out.setdefault(self._t["issue"][j], Moment(At.ISSUED, j))
        return out

    # the moments of a task

    def ended(self, i: int) -> Cause:
        return Cause(Moment(At.STARTED, i), self._t["start"][i], self._t["end"][i], "run")

    def started(self, i: int) -> Cause:
        start, before = self._t["start"][i], self._before_on_lane[i]
        if start == self._t["ready"][i]:
            return Cause(Moment(At.READY, i), start, start)
        if before >= 0 and self._t["end"][before] == start:
            return Cause(Moment(At.ENDED, before), start, start, reason="lane")
        return Cause(self._opened[start], start, start, reason="start")

    def ready(self, i: int) -> Cause:
        ready = self._t["ready"][i]
        return Cause(Moment(At.UNBLOCKED, i), ready - self.c.timing.handover, ready, "handover")

    def unblocked(self, i: int) -> Cause:
        at = self._t["ready"][i] - self.c.timing.handover
        stream = self.c.before_in_stream[i]
        needs = self._needs.get(i, [])
        for need in needs:
            # A stream is among what a task needs once more.
            if self._t["end"][need] == at and (need != stream or needs.count(need) > 1):
                return Cause(Moment(At.ENDED, need), at, at, reason="dependence")
        if at > self._t["issue"][i] and stream >= 0 and self._t["end"][stream] == at:
            return Cause(Moment(At.ENDED, stream), at, at, reason="stream")
        if at > self._t["issue"][i]:
            return Cause(self._released[i], at, at, reason="batch")
        return Cause(Moment(At.ISSUED, i), at, at)

    def issued(self, i: int) -> Cause:
        at = self._t["issue"][i]
        if at == self._t["asked"][i]:
            return Cause(Moment(At.ASKED, i), at, at)
        tasks, retired = self._retired[self.c.lists["window"][i]]
        head = tasks[int(np.searchsorted(retired, at))]
        return Cause(Moment(At.ENDED, head), at, at, reason="window")

    def asked(self, i: int) -> Cause:
        asked = self._t["asked"][i]
        if not self.c.lists["waited"][i]:
            return Cause(Moment(At.DUE, i), self._t["due"][i], asked, "read")
        return Cause(Moment(At.ARRIVED, i), asked - self.c.timing.read_cost, asked, "read")

    def arrived(self, i: int) -> Cause:
        at = self._t["asked"][i] - self.c.timing.read_cost
        last = next(a for a in self._awaits[i] if self._t["end"][a] == at)
        return Cause(Moment(At.ENDED, last), at, at, reason="boundary")

    def due(self, i: int) -> Cause:
        before, due = self._issued_before[i], self._t["due"][i]
        if before < 0:
            return Cause(None, due, due)
        since = self._t["issue"][before]
        activity = "issue" if due - since <= self.c.timing.issue_cost else "rate limit"
        return Cause(Moment(At.ISSUED, before), since, due, activity)


_CAUSES: dict[At, Callable[[Causes, int], Cause]] = {
    At.DUE: Causes.due,
    At.ASKED: Causes.asked,
    At.ARRIVED: Causes.arrived,
    At.ISSUED: Causes.issued,
    At.UNBLOCKED: Causes.unblocked,
    At.READY: Causes.ready,
    At.STARTED: Causes.started,
    At.ENDED: Causes.ended,
}


def _before(c: Columns, keys: tuple[str, ...]) -> list[int]:
    """For each task, the one that ran before it on its lane; -1 where there is none."""
    n = len(c)
    columns = {**c.arrays, "id": np.arange(n)}
    order = np.lexsort([columns[key] for key in keys])
    lane, out = c.arrays["lane"][order], np.full(n, -1)
    same = np.flatnonzero(lane[1:] == lane[:-1])
    out[order[same + 1]] = order[same]
    return out.tolist()
