"""Races of networks of which data decides what is touched and how often: runs find those that there are, at the access at which there is
one, and no others.

What there is, is found without clocks: by everything that is done, in the order of the reference (`ir/network.py`, which is the model's),
each with all that must have come before it by the channels that were used.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

from property.networks import ARCH, GIVES, ROWS, Net, Op, cycles_of, outcome, program_of, shares, value
from property.test_network_faults import FAMILIES, fork, merge
from pto_wsp import Program, PtoError, RaceError
from pto_wsp.ir import network
from pto_wsp.ir.network import Request
from pto_wsp.proofs.cycles import cycles_on
from pto_wsp.proofs.verdict import verdicts

NETWORKS = 400
MOST_EVENTS = 2000
"""Of one network; those here that end have fewer."""


class Endless(Exception):
    pass


def by_data(rng: random.Random, net: Net) -> Net:
    """Rows and numbers of iterations come from tables: mostly those that they were. In timed networks some sends are only tried."""

    def table(numbers: list[int]) -> str:
        net.tables[f"I{len(net.tables)}"] = numbers
        return f"I{len(net.tables) - 1}"

    def item(numbers: list[int], e: str, before: list[Op]) -> str:
        before.append(("item", f"d{len(net.tables)}", table(numbers), e))
        return str(before[-1][1])

    def row(e: str, before: list[Op]) -> str:
        if rng.random() < 0.4:
            return e
        numbers = list(range(ROWS))
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            numbers[rng.randrange(6)] = rng.randrange(6)
        return item(numbers, f"mod({e}, {ROWS})", before)

    def one(op: Op, before: list[Op]) -> Op:
        match op:
            case ("task", kernel, reads, (tensor, at)):
                return ("task", kernel, [(t, row(e, before)) for t, e in reads], (tensor, row(at, before)))
            case ("for", n, times, inner):
                times = max(times, 0)
                return ("for", n, item([times], "0", before) if rng.random() < 0.2 else times, ops(inner))
            case ("consume", c, names, inner):
                return ("consume", c, names, ops(inner))
            case ("if", inner):
                return ("if", ops(inner))
            case ("send", c, es) if net.timed and rng.random() < 0.3:
                return ("try", c, es)
            case _:
                return op

    def ops(body: list[Op]) -> list[Op]:
        out: list[Op] = []
        for op in body:
            before: list[Op] = []
            changed = one(op, before)
            out += [*before, changed]
        return out

    net.processes = {n: ops(body) for n, body in net.processes.items()}
    return net


# what there is


@dataclass
class Access:
    """What a task does, by its number among all events, with what is before it: a bit for each."""

    process: str
    reads: set[tuple[str, int]]
    writes: tuple[str, int]
    number: int
    past: int

    def meets(self, other: Access) -> set[tuple[str, int]]:
        touched, others = self.reads | {self.writes}, other.reads | {other.writes}
        return touched & others & {self.writes, other.writes}


class Reference:
    """A network as it goes on: its accesses, in order, and the code of what ends it, or None."""

    def __init__(self, net: Net, cycles: dict[str, int]) -> None:
        self.net, self.cycles = net, cycles
        self.accesses: list[Access] = []
        self.events = 0
        self.past = dict.fromkeys(net.processes, 0)
        self.sent: dict[str, list[tuple[str, int]]] = {c: [("", 0)] * x.initial for c, x in net.channels.items()}
        self.received: dict[str, list[int]] = {c: [] for c in net.channels}
        self.closed: dict[str, dict[str, int]] = {c: {} for c in net.channels}
        channels = {
            n: network.Channel(n, c.depth, c.latency, c.response, [(k,) * c.fields for k in range(c.initial)])
            for n, c in net.channels.items()
        }
        bodies = {n: (self.body(n, ops, {}, {}), net.ends(n, GIVES)) for n, ops in net.processes.items()}
        self.ends: str | None = None
        try:
            network.Network(channels, bodies).run()
        except PtoError as e:
            self.ends = e.code
        except Endless:
            self.ends = "endless"

    def event(self, n: str, *behind: int) -> int:
        """What a process does now, behind what it did before; all that is before it, itself included."""
        for past in behind:
            self.past[n] |= past
        if self.events == MOST_EVENTS:
            raise Endless
        self.past[n] |= 1 << self.events
        self.events += 1
        return self.past[n]

    def body(self, n: str, ops: list[Op], env: dict[str, int], slots: dict[int, int]) -> Any:
        for op in ops:
            match op:
                case ("task", kernel, reads, (tensor, at)):
                    row = (tensor, value(at, env))
                    seen = {(t, value(e, env)) for t, e in reads} if kernel in ("copy", "fold") else set()
                    yield Request("work", cycles=self.cycles["put" if kernel == "fill" else kernel])
                    past = self.event(n)
                    self.accesses.append(
                        Access(n, seen | ({row} if kernel == "fold" else set()), row, self.events - 1, past)
                    )
                case ("send" | "try", c, es):
                    kind = "send" if op[0] == "send" else "try_send"
                    if (yield Request(kind, c, token=tuple(value(e, env) for e in es))) is not False:
                        self.sends(n, c)
                case ("recv", c, names):
                    env.update(zip(names, (yield Request("recv", c)), strict=True))
                    self.receives(n, c)
                case ("consume", c, names, inner):
                    while (token := (yield Request("consume", c))) is not None:
                        env.update(zip(names, token, strict=True))
                        self.receives(n, c)
                        yield from self.body(n, inner, env, slots)
                    self.drains(n, c)
                case ("for", name, times, inner):
                    for i in range(value(times, env)):
                        env[name] = i
                        yield from self.body(n, inner, env, slots)
                case ("if", inner):
                    yield from self.body(n, inner, env, slots)
                case ("item", name, table, e):
                    env[name] = self.net.tables[table][value(e, env)]
                case ("set", slot, e):
                    slots[slot] = value(e, env)
                case ("get", slot, name):
                    env[name] = slots.get(slot, 0)
                case _:
                    raise AssertionError(op)

    def sends(self, n: str, c: str) -> None:
        """Behind the receive that has made room for it."""
        k, depth = len(self.sent[c]), self.net.channels[c].depth
        room = [self.received[c][k - depth]] if depth and k >= depth else []
        self.sent[c].append((n, self.event(n, *room)))

    def receives(self, n: str, c: str) -> None:
        """Behind its send; both at once, where they meet."""
        sender, past = self.sent[c][len(self.received[c])]
        self.received[c].append(self.event(n, past))
        if self.net.channels[c].depth == 0:
            self.past[sender] |= self.past[n]

    def drains(self, n: str, c: str) -> None:
        """Behind the ends of all that send: none of these closes a channel before."""
        self.event(n, *(self.past[p] for p in self.net.processes if c in self.net.ends(p, GIVES)))

    def first_race(self) -> tuple[int, list[Access]] | None:
        """The number of the first access that races with an earlier one, and those with which it does."""
        for k, b in enumerate(self.accesses):
            with_these = [
                a for a in self.accesses[:k] if a.process != b.process and a.meets(b) and not b.past >> a.number & 1
            ]
            if with_these:
                return k, with_these
        return None


@cache
def networks() -> list[tuple[str, Net]]:
    out: list[tuple[str, Net]] = []
    for seed in range(NETWORKS):
        rng = random.Random(f"races {seed}")
        family = rng.choice([*(f for f in FAMILIES if f is not fork), merge])
        net = by_data(rng, family(rng, "constant"))
        if Reference(net, dict.fromkeys(("put", "copy", "fold"), 1)).ends != "endless":
            out.append((f"{family.__name__} {seed}", net))
    return out


@cache
def judged() -> list[tuple[str, Net, Reference, Program, PtoError | None]]:
    """All networks, what there is in them, and how a run of each ends, which nothing that is proved keeps from looking for races."""
    out: list[tuple[str, Net, Reference, Program, PtoError | None]] = []
    for k, (name, net) in enumerate(networks()):
        wir = net.wir()
        program = program_of(net, wir, 1 + k % 3)
        out.append((name, net, Reference(net, cycles_of(wir)), program, outcome(program)))
    return out


def test_a_run_finds_the_first_race_that_there_is_and_no_other() -> None:
    kinds = Counter[str]()
    for name, _, real, program, found in judged():
        race = real.first_race()
        kinds["race" if race else real.ends or "none"] += 1
        if race is None:
            assert (found.code if found else None) == real.ends, (name, found)
            continue
        second, with_these = race
        assert isinstance(found, RaceError), (name, found)
        # found when the task came, with one of those that it races with, at an element of both
        assert program.stats.task_count == second, name
        b = real.accesses[second]
        told = {(frozenset((a.process, b.process)), t, row) for a in with_these for t, row in a.meets(b)}
        one, other = (str(found.values[k]).split(" in process ")[1].split()[0] for k in ("one", "the other"))
        tensor, row = str(found.values["element"]).split("[")
        assert (frozenset((one, other)), tensor, int(row.split(",")[0])) in told, name
    assert min(kinds[k] for k in ("race", "none", "PTO820")) >= 20, kinds


def test_what_is_proved_is_what_runs_find() -> None:
    """What is proved to be safe neither races nor waits for ever; where processes share no ends, what is proved to race does."""
    kinds = Counter[str]()
    for name, net, _, _, found in judged():
        (proved,) = verdicts(net.wir(), cycles=cycles_on(ARCH))
        kinds[proved.kind] += 1
        if proved.kind == "safe":
            assert found is None, (name, found)
        elif proved.kind == "race" and not list(shares(net)):
            assert isinstance(found, RaceError), (name, found)
    assert min(kinds[k] for k in ("unknown", "safe")) >= 40, kinds
    assert kinds["race"] >= 5
