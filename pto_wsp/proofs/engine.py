"""Processes and channels in semantic time, by the rules of `ir/network.py`, with what has happened before what.

An order of tokens that is the same whenever processes act is what a run has; of others (`loose`) nothing is taken for granted but
that a token is sent before it is received: each iteration that receives one is a strand of its own.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pto_wsp.ir.core import Eqn
from pto_wsp.ir.network import Reply, Request
from pto_wsp.proofs.blocked import blocked
from pto_wsp.proofs.clocks import Clocks, Past, Strand
from pto_wsp.proofs.walk import Known, Place, Steps, Touch, Undecided

MOST_PAST = 2 * 10**7
"""Entries of vector clocks."""

Token = tuple[Known, ...]


@dataclass
class Line:
    """A channel: tokens sent with when they are visible and what is before them; of receives, when and what is before."""

    name: str
    capacity: int | None
    latency: int = 0
    response: int = 0
    mixed: bool = False  # its tokens are sent in no known order
    silent: bool = False  # nobody knows who of several gets which token
    producers: list[Thread] = field(default_factory=list["Thread"])
    consumers: list[Thread] = field(default_factory=list["Thread"])
    sent: list[tuple[Token, int, Past]] = field(default_factory=list[tuple[Token, int, Past]])
    received: list[tuple[int, Past]] = field(default_factory=list[tuple[int, Past]])
    senders: list[Thread] = field(default_factory=list["Thread"])
    receivers: list[Thread] = field(default_factory=list["Thread"])

    @property
    def held(self) -> int:
        return len(self.sent) - len(self.received)

    @property
    def has_room(self) -> bool:
        return self.capacity is None or self.held < self.capacity

    @property
    def is_over(self) -> bool:
        return not self.held and all(p.state == "done" or self.name in p.closed for p in self.producers)


class Thread(Place):
    """A process as it goes on, and who records what it touches."""

    def __init__(self, name: str, index: int, eqn: Eqn, clocks: Clocks, bodies: frozenset[int]) -> None:
        self.name, self.index, self.eqn = name, index, eqn
        self.clock = self.floor = 0
        self.state = "run"
        self.request = Request("work")
        self.closed: dict[str, tuple[int, Past]] = {}
        self.touches: list[Touch] = []
        self.clocks = clocks
        self.strand = clocks.strand(index, {})
        self.steps: Steps
        self._bodies = bodies

    def __lt__(self, other: Thread) -> bool:
        return (self.clock, self.index) < (other.clock, other.index)

    @property
    def key(self) -> tuple[int, int]:
        return (self.clock if self.request.kind == "close" else max(self.clock, self.floor), self.index)

    def go_on(self, reply: Any = None) -> None:
        """Up to its next request, or its end."""
        self.state = "run"
        try:
            self.request = self.steps.send(reply)
        except StopIteration:
            self.request = Request("end")

    # what it touches

    def touch(self, touch: Touch) -> None:
        touch.strand, touch.step = self.strand.number, self.strand.step
        self.touches.append(touch)

    def enter(self, eqn: Eqn) -> object:
        return (self.strand, self.strand.give(), list[Strand]()) if id(eqn) in self._bodies else None

    def iterate(self, mark: Any) -> None:
        if mark is not None:
            outer, before, ended = mark
            if self.strand is not outer:
                ended.append(self.strand)
            self.strand = self.clocks.strand(self.index, before)

    def leave(self, mark: Any) -> None:
        if mark is not None:
            outer, _, ended = mark
            last = self.strand
            self.strand = outer
            outer.take(*(s.give() for s in (*ended, last)))


@dataclass
class Stuck:
    """Who waits when nothing moves any more, and for what; capacities with which it goes on, of channels that must hold more: None
    where none helps, empty where finding them takes too long."""

    waiting: list[Thread]
    requests: list[Request]
    blocked: list[Mapping[str, object]]
    remedy: dict[str, int] | None = field(default_factory=dict[str, int])
    said: list[str] = field(default_factory=list[str])
    chain: list[str] = field(default_factory=list[str])


class Engine:
    """Runs the walks of threads. `spend` is called for each action, and may raise Undecided."""

    def __init__(
        self, lines: Mapping[str, Line], threads: Sequence[Thread], clocks: Clocks, spend: Callable[[], None]
    ) -> None:
        # by channel, the numbers of its buffers that are free
        self.buffers = {c: lines[f"{c}.free"] for c in lines if f"{c}.free" in lines}
        self.lines, self.threads, self.clocks, self._spend = lines, threads, clocks, spend
        self.heap: list[tuple[tuple[int, int], Thread]] = []
        self.closed_send: Thread | None = None

    def run(self, exact: Callable[[], bool] = lambda: False) -> Stuck | None:
        """To the end; None where every process gets there. `exact`: whether clocks are those of runs, and can be told."""
        for t in self.threads:
            self._go_on(t)
        self._act()
        waiting = [t for t in self.threads if t.state != "done"]
        if not waiting or self.closed_send is not None:
            return None
        said = [self.said(t, exact()) for t in waiting]
        told = [self._blocked(t, exact()) for t in waiting]
        stuck = Stuck(waiting, [t.request for t in waiting], told, said=said, chain=self._chain(waiting[0]))
        self._find_remedy(stuck)
        return stuck

    @property
    def total(self) -> int:
        return max((t.clock for t in self.threads), default=0)

    def said(self, t: Thread, exact: bool) -> str:
        """What a process waits for, in the words of a message."""
        c = self.lines[t.request.channel]
        of = "" if c.capacity is None else f" of {c.capacity}"
        place = f", {t.request.loc}" if t.request.loc else ""
        return f"{t.request.kind} {c.name} ({c.held}{of} tokens){f' at clock {t.clock}' if exact else ''}{place}"

    def _blocked(self, t: Thread, exact: bool) -> Mapping[str, object]:
        c = self.lines[t.request.channel]
        clock = t.clock if exact else None
        return blocked(t.name, t.state, c.name, c.capacity, occupancy=c.held, clock=clock, loc=t.request.loc)

    def _chain(self, t: Thread) -> list[str]:
        """Who waits for whom, from one process to where it comes back, or ends."""
        out: list[str] = []
        seen: list[Thread] = []
        while t not in seen:
            seen.append(t)
            c = self.lines[t.request.channel]
            others = self._others(c)
            if not others:
                return [*out, f"{t.name} waits to {t.state} {c.name}, which nobody else goes on with"]
            out.append(f"{t.name} waits to {t.state} {c.name} with {others[0].name}")
            t = others[0]
        return out

    def _go_on(self, t: Thread, reply: Reply | Token = None) -> None:
        t.go_on(reply)
        if t.request.kind == "end":
            t.state = "done"
            self._let_end(c for c in self.lines.values() if t in c.producers)
        else:
            heapq.heappush(self.heap, (t.key, t))

    def _act(self) -> None:
        while self.heap and self.closed_send is None:
            _, t = heapq.heappop(self.heap)
            self._spend()
            if self.clocks.size > MOST_PAST:
                raise Undecided("more processes hand on more tokens than are followed here")
            r = t.request
            t.clock = max(t.clock, t.floor)
            if r.kind == "work":
                t.clock += r.cycles
                self._go_on(t)
            else:
                self._operate(t, self.lines[r.channel], r)

    def _operate(self, t: Thread, c: Line, r: Request) -> None:
        if r.kind in ("send", "try_send") and c.name in t.closed:
            self.closed_send = t
        elif r.kind == "close":
            t.closed[c.name] = (t.clock, t.strand.give())
            self._let_end((c,))
            self._go_on(t)
        elif r.kind == "query":
            now = c.senders != [] if c.capacity == 0 else c.held > 0 and c.sent[len(c.received)][1] <= t.clock
            self._go_on(t, now)
        elif r.kind == "try_send" and not self._can_send_now(c, t.clock):
            self._go_on(t, False)
        else:
            sends = r.kind in ("send", "try_send")
            t.state = "send" if sends else "recv"
            insort(c.senders if sends else c.receivers, t)
            self.settle(c)
            self._let_end((c,))

    @staticmethod
    def _can_send_now(c: Line, clock: int) -> bool:
        if c.capacity == 0:
            return c.senders == [] and c.receivers != []
        return c.senders == [] and c.has_room and Engine._room_at(c, clock) <= clock

    @staticmethod
    def _room_at(c: Line, clock: int) -> int:
        k, cap = len(c.sent), c.capacity
        return clock if cap is None or k < cap else max(clock, c.received[k - cap][0] + c.response)

    def settle(self, c: Line) -> None:
        """Grant what can be granted."""
        while True:
            if c.capacity == 0:
                if not (c.senders and c.receivers):
                    return
                s, r = c.senders.pop(0), c.receivers.pop(0)
                s.clock = r.clock = max(s.clock, r.clock) + c.latency
                there = s.strand.give()
                r.strand.take(there)
                s.strand.take(r.strand.give())
                c.sent.append((s.request.token, s.clock, there))
                c.received.append((s.clock, there))
                self._go_on(s, True if s.request.kind == "try_send" else None)
                self._go_on(r, c.sent[-1][0])
            elif c.senders and c.has_room:
                s, k = c.senders.pop(0), len(c.sent)
                s.clock = self._room_at(c, s.clock)
                if c.capacity is not None and k >= c.capacity and not (c.mixed or c.silent):
                    s.strand.take(c.received[k - c.capacity][1])
                c.sent.append((s.request.token, s.clock + c.latency, s.strand.give()))
                self._go_on(s, True if s.request.kind == "try_send" else None)
            elif c.receivers and c.held:
                r, k = c.receivers.pop(0), len(c.received)
                token, visible, past = c.sent[k]
                r.clock = max(r.clock, visible)
                if not c.silent:
                    r.strand.take(past)
                c.received.append((r.clock, r.strand.give()))
                self._go_on(r, token)
            else:
                return

    def _let_end(self, lines: Iterable[Line]) -> None:
        """What consumes channels that are closed and drained goes on."""
        for c in lines:
            if c.is_over:
                for r in [r for r in c.receivers if r.request.kind == "consume"]:
                    c.receivers.remove(r)
                    ends = [p.closed.get(c.name) or (p.clock, p.strand.give()) for p in c.producers]
                    r.floor = max([r.floor, *(clock for clock, _ in ends)])
                    r.strand.take(*(past for _, past in ends))
                    self._go_on(r)

    # what would help

    def _find_remedy(self, stuck: Stuck) -> None:
        """Raise the smallest channel on a cycle of waits, full or out of buffers, by one, as often as it takes."""
        begin = {c.name: c.capacity for c in self.lines.values()}
        try:
            while any(t.state != "done" for t in self.threads):
                c = self.channel_to_raise()
                if c is None:
                    stuck.remedy = None
                    return
                self._raise(c)
                self._spend()
                self._act()
        except Undecided:
            return
        hidden = {free.name for free in self.buffers.values()}
        stuck.remedy = {
            c.name: c.capacity
            for c in self.lines.values()
            if c.name not in hidden and c.capacity is not None and c.capacity != begin[c.name]
        }

    def channel_to_raise(self) -> Line | None:
        """The smallest channel with a sender, or one who needs a buffer of it, waiting, that is on a cycle of waits, or of which nobody
        receives any more, or gives buffers back."""
        found: Line | None = None
        for c in self.lines.values():
            free = self.buffers.get(c.name)
            short = [c] if c.senders else [free] if free is not None and free.receivers else []
            if any(not self._others(x) or self._waits_for_itself(x) for x in short) and (
                found is None or _size(c) < _size(found)
            ):
                found = c
        return found

    def _raise(self, c: Line) -> None:
        """One place more, or two where the first brings no buffer and that is what is waited for: there is always one buffer."""
        free = self.buffers.get(c.name)
        needs_buffer = free is not None and not c.senders
        c.capacity = _size(c) + (2 if needs_buffer and c.capacity == 0 else 1)
        if free is not None and c.capacity > _size(free):
            free.sent.append(((free.capacity,), 0, {}))
            free.capacity = c.capacity
            self.settle(free)
        self.settle(c)

    @staticmethod
    def _others(c: Line) -> list[Thread]:
        """Who those that wait for a channel wait for."""
        if c.senders:
            return [t for t in c.consumers if t.state != "done"]
        return [t for t in c.producers if t.state != "done" and c.name not in t.closed] if c.receivers else []

    def _waits_for_itself(self, c: Line) -> bool:
        todo, seen = list(self._others(c)), set[str]()
        while todo:
            next_one = self.lines[todo.pop().request.channel]
            if next_one is c:
                return True
            if next_one.name not in seen:
                seen.add(next_one.name)
                todo += self._others(next_one)
        return False


def _size(c: Line) -> int:
    assert c.capacity is not None
    return c.capacity
