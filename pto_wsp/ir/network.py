"""The time of processes and channels, and the order in which processes act: the reference, slow and obvious.

A process has a clock. With capacity C, latency L and response R, send k (from 0) and its receive are at

    s[k] = T_s if C is None or k < C, else max(T_s, d[k-C] + R)      the sender's clock becomes s[k]
    a[k] = s[k] + L                                                  visible
    d[k] = max(T_r, a[k])                                            the receiver's clock becomes d[k]
    C = 0: s[k] = d[k] = max(T_s, T_r) + L

The process of the smallest (clock, index) takes its next action; a request is granted as soon as it can be, waiting requests in order
of (clock asked, index). A channel is closed when each of its producers has ended or closed it; what ends with a closed and drained
channel goes on no earlier than the last close. `try_send` and `query` look at what is so at the clock of their process.

A process is a generator that yields what it does next (`Request`) and is sent what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from pto_wsp.errors import ChannelClosed, DeadlockError, LimitError, Location, here
from pto_wsp.ir.scalars import Number

Token = tuple[Number, ...]
MOST_ACTIONS = 10_000_000
"""Without any clock advancing, of one network."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a process does next: work of so many cycles, or an operation on a channel. `token` is what it sends; None: it receives."""

    kind: str  # work, send, recv, consume, close, try_send, query
    channel: str = ""
    cycles: int = 0
    token: Token = ()
    loc: Location | None = None


Reply = Token | bool | None
"""Of a receive the token, of a consume None at the end; of try_send and query whether; of others None."""
Body = Generator[Request, Reply, None]


@dataclass
class Channel:
    """capacity: tokens it holds, None without a bound. latency, response: cycles. `tokens` are those sent so far; s, a and d the
    clocks of sends, of when they are visible, and of receives."""

    name: str
    capacity: int | None
    latency: int = 0
    response: int = 0
    tokens: list[Token] = field(default_factory=list[Token])
    producers: list[Process] = field(default_factory=list["Process"])
    s: list[int] = field(default_factory=list[int])
    a: list[int] = field(default_factory=list[int])
    d: list[int] = field(default_factory=list[int])
    senders: list[Process] = field(default_factory=list["Process"])
    receivers: list[Process] = field(default_factory=list["Process"])
    closed_by: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.s, self.a = [0] * len(self.tokens), [0] * len(self.tokens)

    @property
    def has_room(self) -> bool:
        """Whether a token may be sent, now or at some clock that is known."""
        return self.capacity is None or len(self.s) < self.capacity or len(self.s) - self.capacity < len(self.d)

    @property
    def has_token(self) -> bool:
        """Whether there is a token that nobody has taken, visible now or later."""
        return len(self.d) < len(self.a)

    @property
    def is_over(self) -> bool:
        """Whether it is closed and drained."""
        return not self.has_token and all(p.state == "done" or p.name in self.closed_by for p in self.producers)

    @property
    def close_clock(self) -> int:
        """When the last of its producers closed it or ended."""
        return max((self.closed_by.get(p.name, p.clock) for p in self.producers), default=0)

    def room_at(self, clock: int) -> int:
        """The clock of a send that is asked for at `clock`; there is room."""
        k, c = len(self.s), self.capacity
        return clock if c is None or k < c else max(clock, self.d[k - c] + self.response)


@dataclass
class Process:
    """A process: its clock, what it waits for, and since a consume that ended, the clock before which it does not go on."""

    name: str
    index: int
    body: Body
    clock: int = 0
    floor: int = 0
    state: str = "run"
    request: Request = field(default_factory=lambda: Request("work"))

    def go_on(self, reply: Reply = None) -> None:
        """Run it up to its next request, or its end."""
        self.state = "run"
        try:
            self.request = self.body.send(reply)
        except StopIteration:
            self.request = Request("end")

    @property
    def key(self) -> tuple[int, int]:
        """Of the processes that can act, that of the smallest acts."""
        return (self.clock if self.request.kind == "close" else max(self.clock, self.floor), self.index)


class Network:
    """Processes and channels, by name. `run` elaborates them to their end."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        processes: Mapping[str, tuple[Body, Sequence[str]]],
        most_actions: int = MOST_ACTIONS,
    ) -> None:
        """processes: each with the channels that it produces."""
        self.channels = channels
        self.processes = [Process(name, i, body) for i, (name, (body, _)) in enumerate(processes.items())]
        self.most_actions = most_actions
        for p, (_, produces) in zip(self.processes, processes.values(), strict=True):
            for c in produces:
                channels[c].producers.append(p)

    def run(self) -> int:
        """The largest clock in the end. Raises DeadlockError where processes wait for ever, ChannelClosed for a send after one's
        own close, LimitError for too many actions without any clock advancing, and what processes raise."""
        for p in self.processes:
            p.go_on()
        now, actions = 0, 0  # the sum of all clocks, and actions since it last grew
        while self._settle_ends():
            acting = [p for p in self.processes if p.state == "run"]
            if not acting:
                break
            self._act(min(acting, key=lambda p: p.key))
            before, now = now, sum(p.clock for p in self.processes)
            actions = 0 if now > before else actions + 1
            if actions > self.most_actions:
                raise LimitError(
                    "PTO822",
                    f"more than {self.most_actions} actions of processes in which no clock advances",
                    values={"clock": max(p.clock for p in self.processes)},
                    loc=here(),
                    fix="let each round of a cycle of processes do work, or end",
                )
        waiting = [p for p in self.processes if p.state != "done"]
        if waiting:
            raise self._deadlock(waiting)
        return max((p.clock for p in self.processes), default=0)

    def _settle_ends(self) -> bool:
        """Let go on what waits for channels that are over, and end what has ended, until nothing of that is left."""
        moved = True
        while moved:
            moved = False
            for p in self.processes:
                c = self.channels.get(p.request.channel)
                if p.state == "recv" and p.request.kind == "consume" and c is not None and c.is_over:
                    c.receivers.remove(p)
                    p.floor = max(p.floor, c.close_clock)
                    p.go_on()
                    moved = True
            for p in self.processes:
                if p.state == "run" and p.request.kind == "end":
                    p.state, moved = "done", True
        return True

    def _act(self, p: Process) -> None:
        p.clock = max(p.clock, p.floor)
        r = p.request
        if r.kind == "work":
            p.clock += r.cycles
            p.go_on()
            return
        c = self.channels[r.channel]
        if r.kind in ("send", "try_send") and p.name in c.closed_by:
            raise ChannelClosed(
                "PTO817",
                f"process {p.name} sends to channel {c.name}, which it has closed",
                values={"clock": p.clock},
                loc=r.loc or here(),
                fix="close a channel after the last send",
            )
        match r.kind:
            case "close":
                c.closed_by[p.name] = p.clock
                p.go_on()
            case "query":
                p.go_on(c.senders != [] if c.capacity == 0 else c.has_token and c.a[len(c.d)] <= p.clock)
            case "try_send" if not self._can_send_now(c, p.clock):
                p.go_on(False)
            case "send" | "try_send":
                self._wait(c.senders, p, "send")
                self._settle(c)
            case _:
                self._wait(c.receivers, p, "recv")
                self._settle(c)

    @staticmethod
    def _can_send_now(c: Channel, clock: int) -> bool:
        if c.capacity == 0:
            return c.senders == [] and c.receivers != []
        return c.senders == [] and c.has_room and c.room_at(clock) <= clock

    @staticmethod
    def _wait(queue: list[Process], p: Process, state: str) -> None:
        p.state = state
        queue.append(p)
        queue.sort(key=lambda q: (q.clock, q.index))

    def _settle(self, c: Channel) -> None:
        """Grant what of the requests that wait can be granted."""
        while True:
            if c.capacity == 0:
                if not (c.senders and c.receivers):
                    return
                s, r = c.senders.pop(0), c.receivers.pop(0)
                s.clock = r.clock = max(s.clock, r.clock) + c.latency
                for clocks in (c.s, c.a, c.d):
                    clocks.append(s.clock)
                c.tokens.append(s.request.token)
                self._sent(s)
                r.go_on(c.tokens[len(c.d) - 1])
            elif c.senders and c.has_room:
                p = c.senders.pop(0)
                p.clock = c.room_at(p.clock)
                c.s.append(p.clock)
                c.a.append(p.clock + c.latency)
                c.tokens.append(p.request.token)
                self._sent(p)
            elif c.receivers and c.has_token:
                p, k = c.receivers.pop(0), len(c.d)
                p.clock = max(p.clock, c.a[k])
                c.d.append(p.clock)
                p.go_on(c.tokens[k])
            else:
                return

    @staticmethod
    def _sent(p: Process) -> None:
        p.go_on(True if p.request.kind == "try_send" else None)

    def _deadlock(self, waiting: Sequence[Process]) -> DeadlockError:
        def said(p: Process) -> str:
            c = self.channels[p.request.channel]
            held = len(c.s) - len(c.d)
            place = f", {p.request.loc}" if p.request.loc else ""
            of = "" if c.capacity is None else f" of {c.capacity}"
            return f"{p.request.kind} {c.name} ({held}{of} tokens) at clock {p.clock}{place}"

        return DeadlockError(
            "PTO820",
            f"a deadlock of processes: {', '.join(p.name for p in waiting)} {'wait' if len(waiting) > 1 else 'waits'} for ever",
            values={f"process {p.name}": said(p) for p in waiting},
            loc=waiting[0].request.loc or here(),
            fix="close channels that are done, send as many tokens as are received, and make channels deeper",
        )


Costs = Callable[[str, Mapping[str, tuple[int, ...]]], int]
"""Cycles of a task: by the name of its kernel, and the valid shapes of its tiles and regions by parameter."""
