"""The pipelines of a traced run as columns: when each ran, what its processes did with channels, and what they waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from pto_wsp.errors import Location

Ints = npt.NDArray[Any]

OPERATIONS = (
    *("send", "recv", "consume", "end of consume", "close", "try_send", "refused try_send", "query: yes", "query: no"),
    *("read", "end"),
)
"""What a process does beside its tasks. "consume": a token was taken; "read": a scalar that tasks write; "end": the process ended."""

WAITS = ("", "full", "empty", "rendezvous", "response", "latency")
"""What an operation waited for first: nothing; a place in the channel, which another process had to take a token from, or one of the
buffers of a channel, `c.free`; a token, which another had to send; the other process at a rendezvous; the response of a place; the
latency of a token."""

SENDS, RECEIVES, ENDED, CLOSE, READ, END = (0, 5), (1, 2), 3, 4, 9, 10
_WORDS = {word: k for k, word in enumerate(WAITS)}


@dataclass(frozen=True)
class TracedProcess:
    """A process of the workload: its name, that of its pipeline, and the user's line."""

    name: str
    pipeline: str
    loc: Location | None


@dataclass(frozen=True)
class TracedChannel:
    """A channel as the run had it. capacity: in tokens, None without a limit; latency, response: in cycles; initial: tokens that are
    there at first; buffers_of: the channel whose free buffers it holds, a place in `trace.channels`; producers, consumers: places in `trace.processes` of those that may send to it, and receive from it."""

    name: str
    pipeline: str
    capacity: int | None
    latency: int
    response: int
    initial: int
    buffers_of: int | None
    producers: tuple[int, ...]
    consumers: tuple[int, ...]
    loc: Location | None


@dataclass(frozen=True)
class Place:
    """A pipeline of the workload: its name, and where its processes and channels begin among all."""

    name: str
    first_process: int
    processes: int
    first_channel: int
    channels: int
    loc: Location | None


@dataclass(frozen=True, eq=False)
class Pipes:
    """See ExecutionTrace. `runs`: a number for each time that a pipeline ran; `operations`: one for each operation; `lines`: the user's
    line of each operation of the workload, by `operations["origin"]`."""

    places: tuple[Place, ...]
    processes: tuple[TracedProcess, ...]
    channels: tuple[TracedChannel, ...]
    runs: dict[str, Ints]
    operations: dict[str, Ints]
    lines: tuple[Location | None, ...]
    dropped: int

    def name_of(self, run: int) -> str:
        """What a pipeline that ran is called."""
        return self.places[int(self.runs["place"][run])].name

    @cached_property
    def slots(self) -> Ints:
        """For each run of a pipeline a number, such that of two of one pipeline with the same number one is over when the other begins."""
        out = np.zeros(len(self.runs["place"]), np.int64)
        begin, end = self.runs["start"], self.runs["end"]
        for place in np.unique(self.runs["place"]).tolist():
            busy: list[tuple[int, int]] = []  # (end, slot)
            free: list[int] = []
            used = 0
            mine = np.flatnonzero(self.runs["place"] == place)
            for run in mine[np.lexsort((mine, begin[mine]))].tolist():
                while busy and busy[0][0] <= begin[run]:
                    heappush(free, heappop(busy)[1])
                slot = heappop(free) if free else used
                used = max(used, slot + 1)
                out[run] = slot
                heappush(busy, (int(end[run]) if end[run] >= 0 else 2**62, slot))
        return out

    def occupancy(self, run: int, channel: int) -> tuple[Ints, Ints]:
        """Cycles at which the tokens in a channel change, and how many there are from then on."""
        o = self.operations
        mine = (o["run"] == run) & (o["channel"] == channel) & (o["went"] >= 0)
        sent, received = (o["went"][mine & np.isin(o["operation"], kinds)] for kinds in (SENDS, RECEIVES))
        begin = np.maximum(self.runs["start"][run : run + 1], 0)
        times, at = np.unique(np.concatenate([begin, sent, received]), return_inverse=True)
        changes = np.repeat([self.channels[channel].initial, 1, -1], [1, len(sent), len(received)])
        return times, np.cumsum(np.bincount(at, changes, len(times)).astype(np.int64))

    def used(self) -> Iterator[tuple[int, int]]:
        """(run, channel) of each channel that was used."""
        o = self.operations
        moves = np.isin(o["operation"], [*SENDS, *RECEIVES])
        yield from np.unique(np.stack([o["run"][moves], o["channel"][moves]], axis=1), axis=0).tolist()


def with_waits(o: dict[str, Ints], channels: tuple[TracedChannel, ...]) -> dict[str, Ints]:
    """The operations, and of each until when it waited for another process (`until`), what for (`waited`: a place in WAITS), and for which
    operation of that (`partner`: -1 where none)."""
    n = len(o["run"])
    came, went, kind = o["came"], o["went"], o["operation"]
    capacity = np.array([-1 if c.capacity is None else c.capacity for c in channels] or [0], np.int64)[o["channel"]]
    initial = np.array([c.initial for c in channels] or [0], np.int64)[o["channel"]]
    sends, receives = np.isin(kind, SENDS), np.isin(kind, RECEIVES)
    free = np.array([c.buffers_of is not None for c in channels] or [False])[o["channel"]]
    meets = capacity == 0
    partner = np.full(n, -1)
    bounded = sends & (capacity > 0) & (o["token"] >= capacity)
    partner[bounded] = _find(o, receives, bounded, o["token"] - capacity)
    told = receives & ~meets & (o["token"] >= initial)
    partner[told] = _find(o, sends, told, o["token"])
    for mine, others in ((sends & meets, receives), (receives & meets, sends)):
        partner[mine] = _find(o, others, mine, o["token"])
    until = np.where(kind == ENDED, went, came)
    known = partner >= 0
    acted = np.where(meets, came, went)[partner]
    until[known] = np.clip(acted, came, np.maximum(came, went))[known]
    for_ever = (went < 0) & (sends | receives)
    until[for_ever] = -1
    waits = for_ever | (until > came)
    waited = np.zeros(n, np.int64)
    waited[went > until] = np.where(sends & ~meets, _WORDS["response"], _WORDS["latency"])[went > until]
    waited[kind == READ] = 0
    waited[waits] = np.where(
        meets & (kind != ENDED), _WORDS["rendezvous"], np.where(sends | free, _WORDS["full"], _WORDS["empty"])
    )[waits]
    return {**o, "until": until, "waited": waited, "partner": np.where(known, partner, -1)}


def _find(o: dict[str, Ints], among: Ints, of: Ints, token: Ints) -> Ints:
    """For each operation of `of`, the one of `among` on the same channel that is about `token`, or -1."""
    most = int(max(o["token"].max(initial=0), 0)) + 1
    width = int(o["channel"].max(initial=0)) + 1
    key = (o["run"] * width + o["channel"]) * most
    ids = np.flatnonzero(among)
    keys = key[ids] + o["token"][ids]
    order = np.argsort(keys)
    ids, keys = ids[order], keys[order]
    wanted = key[of] + token[of]
    if len(ids) == 0:
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(ids) - 1)
    return np.where(keys[at] == wanted, ids[at], -1)


def no_pipes() -> Pipes:
    """Those of a program without any."""
    none = np.zeros(0, np.int64)
    runs = ("place", "around", "process", "outermost", "start", "end", "issue", "ready")
    operations = (
        "run",
        "process",
        "channel",
        "origin",
        "operation",
        "token",
        "came",
        "went",
        "until",
        "waited",
        "partner",
    )
    return Pipes((), (), (), dict.fromkeys(runs, none), dict.fromkeys(operations, none), (), 0)
