"""Continuous batching: requests of any lengths enter and leave while the same jitted step runs on and on.

A step has a fixed number of rows. Each running request gets one for its next token, and those that still have tokens of their
prompt before them share what rows are left: chunks of prompts run beside tokens of others, in the same program. Rows that nobody
needs are empty. Pages of the cache come from a free list as sequences grow. A request for whose next token there is no page waits;
if all wait, the youngest gives its pages back and begins again, with what it has generated as a part of its prompt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from decoder_model import Outcome, Rows

from pto_wsp.tools.bounds import Array


@dataclass(eq=False)
class Request:
    """`prompt` tokens, then `new` more, from step `arrival` on. logits, choices: of the generated tokens, and of all by position."""

    prompt: tuple[int, ...]
    new: int
    arrival: int
    tokens: list[int] = field(default_factory=list[int])
    logits: list[Array] = field(default_factory=list[Array])
    choices: list[Array] = field(default_factory=list[Array])
    cached: int = 0
    slot: int = -1
    pages: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.prompt)

    @property
    def length(self) -> int:
        """Positions that it caches in the end: all but that of its last token."""
        return len(self.prompt) + self.new - 1


@dataclass
class Statistics:
    steps: int = 0
    together: int = 0  # most requests in one step
    waits: int = 0  # requests without a page, added up over steps
    restarts: int = 0


class Limits(NamedTuple):
    """How many requests run at once, and how many rows a step and pages the cache has."""

    slots: int
    rows: int
    pages: int


class Scheduler:
    """Says what each step works on. page: positions of a page; blocks: the most pages of one request."""

    def __init__(self, limits: Limits, page: int, blocks: int) -> None:
        slots, rows, pages = limits
        if rows < slots:
            raise ValueError(f"{rows} rows are less than one for each of {slots} slots")
        self.statistics = Statistics()
        self._rows, self._page = rows, page
        self._capacity = min(pages, blocks) * page
        self._free_pages, self._free_slots = list(range(pages)), list(range(slots))
        self._table = np.zeros((slots, blocks), np.int32)
        self._waiting, self._running = deque[Request](), list[Request]()
        self._planned: list[tuple[Request, int]] = []

    def submit(self, request: Request) -> None:
        if request.length > self._capacity:
            raise ValueError(f"a request of {request.length} positions, but the cache has {self._capacity}")
        self._waiting.append(request)

    @property
    def free_pages(self) -> int:
        return len(self._free_pages)

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def plan(self) -> Rows:
        """What the next step works on."""
        self._planned = self._allotted()
        if self._running and not self._planned:
            self._restart(self._running.pop())
            self._planned = self._allotted()
        while self._waiting and self._free_slots and self._free_pages and self._left > 0:
            self._enter(self._waiting.popleft())
        self.statistics.steps += 1
        self.statistics.together = max(self.statistics.together, len(self._planned))
        return self._as_rows()

    @property
    def _left(self) -> int:
        return self._rows - sum(n for _, n in self._planned)

    def _allotted(self) -> list[tuple[Request, int]]:
        """How many rows each running request gets: who generates comes before prompts, else who came first."""
        planned, left = list[tuple[Request, int]](), self._rows
        for request in sorted(self._running, key=lambda r: len(r.tokens) - r.cached > 1):
            count = self._grown(request, left)
            self.statistics.waits += count == 0 < left
            if count:
                planned.append((request, count))
            left -= count
        return planned

    def _grown(self, request: Request, most: int) -> int:
        """For how many of its next tokens it has pages, of those that it takes now."""
        count = min(len(request.tokens) - request.cached, most)
        while len(request.pages) * self._page < request.cached + count and self._free_pages:
            self._table[request.slot, len(request.pages)] = self._free_pages[-1]
            request.pages.append(self._free_pages.pop())
        return min(count, len(request.pages) * self._page - request.cached)

    def _enter(self, request: Request) -> None:
        request.slot = self._free_slots.pop()
        self._running.append(request)
        self._planned.append((request, self._grown(request, self._left)))

    def _leave(self, request: Request) -> None:
        self._free_slots.append(request.slot)
        self._free_pages.extend(request.pages)
        request.pages, request.slot, request.cached = [], -1, 0

    def _restart(self, request: Request) -> None:
        self._leave(request)
        request.choices.clear()
        self._waiting.appendleft(request)
        self.statistics.restarts += 1

    def _as_rows(self) -> Rows:
        token, slot, last = (np.zeros(n, np.int32) for n in (self._rows, self._rows, len(self._table)))
        position = np.full(self._rows, -1, np.int32)
        at = 0
        for request, count in self._planned:
            of, lo = slice(at, at + count), request.cached
            token[of] = request.tokens[lo : lo + count]
            position[of] = np.arange(lo, lo + count)
            slot[of], at = request.slot, at + count
            last[request.slot] = at - 1
        return Rows(token, position, slot, self._table.copy(), last)

    def take(self, outcome: Outcome) -> None:
        """What the planned step gave. Requests that have all of their tokens leave."""
        at, choices = 0, np.stack(outcome.choices, axis=1) if outcome.choices else None  # [rows, layers, top]
        tokens, logits = np.asarray(outcome.token), np.asarray(outcome.logits)
        for request, count in self._planned:
            request.cached += count
            if choices is not None:
                request.choices.extend(choices[at : at + count])
            at += count
            if request.cached == len(request.tokens):
                request.tokens.append(int(tokens[request.slot]))
                request.logits.append(logits[request.slot].copy())
        for request in [r for r in self._running if r.generated == r.new]:
            self._running.remove(request)
            self._leave(request)


def serve(step: Callable[[Rows], Outcome], scheduler: Scheduler, requests: Sequence[Request]) -> list[Rows]:
    """Until all requests are done. What the steps worked on."""
    done, coming = list[Rows](), deque(sorted(requests, key=lambda r: r.arrival))
    while coming or not scheduler.idle:
        while coming and coming[0].arrival <= len(done):
            scheduler.submit(coming.popleft())
        done.append(scheduler.plan())
        scheduler.take(step(done[-1]))
    return done
