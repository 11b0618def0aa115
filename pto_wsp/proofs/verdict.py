"""What is proved of each pipeline of a workload: it is safe, or it fails and how, or its run decides.

Proved is, for every time that tasks may take (of a timed pipeline, and of who waits for whom where several share an end: for the
cycles of the arch),

- that the network is determinate (`determinacy.py`),
- that its processes come to an end: by what it looks like (`waits.py`), or by walking it (`walk.py`, `engine.py`) where neither data nor
  sizes decide how many tokens there are,
- that tokens order what two processes touch: by vector clocks on that walk, or for any sizes by what tokens name (`order.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from pto_wsp.errors import ChannelClosed, DeadlockError, Location, PtoError, RaceError, TypeCheckError, here
from pto_wsp.ir.core import Eqn, Kernel, Wir
from pto_wsp.ir.processes import (
    TIMED,
    channel_names,
    channels_of,
    ends_of,
    out_of_buffers,
    pipelines,
    processes_of,
    settings_of,
)
from pto_wsp.ir.tasks import used_names
from pto_wsp.proofs.blocked import depths_fix
from pto_wsp.proofs.clocks import Clocks
from pto_wsp.proofs.conflicts import Conflict, conflicts
from pto_wsp.proofs.determinacy import Freedom, freedom
from pto_wsp.proofs.ends import Ends, Owned, channel_fields
from pto_wsp.proofs.engine import Engine, Line, Stuck, Thread
from pto_wsp.proofs.order import ordered
from pto_wsp.proofs.waits import ends_surely, refuse_hopeless
from pto_wsp.proofs.walk import Budget, Cycles, Known, Place, Touch, Undecided, Walk

MOST_WALKED = 300_000
"""Equations, about a second of them."""

_ORDERS = 8

Kind = Literal["safe", "indeterminate", "race", "deadlock", "closed", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """Of one pipeline, by its name. `error`: what compile() raises; None of what is safe or unknown."""

    pipeline: str
    kind: Kind
    reason: str
    error: PtoError | None = None


@dataclass
class _Found:
    """What is known of a pipeline after some of its walks."""

    ends: Ends
    free: Freedom
    by_time: bool = False  # numbers depend on it
    error: tuple[Kind, PtoError] | None = None
    unknown: list[str] = field(default_factory=list[str])
    walked: set[tuple[Known, ...]] = field(default_factory=set[tuple[Known, ...]])


def verdicts(wir: Wir, sizes: Mapping[str, int] | None = None, cycles: Cycles | None = None) -> list[Verdict]:
    """Of every pipeline of a traced workload, those around before those inside. `sizes` of symbols where they are bound. `cycles` of tasks;
    without them nothing is said where they decide."""
    found: dict[int, _Found] = {}
    out: dict[int, Verdict] = {}
    everything = list(pipelines(wir))
    for p in everything:
        ends = Ends.of(wir, p)
        name = str(p.params["name"])
        try:
            refuse_hopeless(ends)
            found[id(p)] = _of(ends)
        except DeadlockError as e:
            out[id(p)] = Verdict(name, "deadlock", e.what, e)
        except TypeCheckError as e:
            out[id(p)] = Verdict(name, "indeterminate", e.what, e)
    for key, f in found.items():
        if not (f.by_time or f.free.doubts) and ends_surely(f.ends, f.free) and ordered(f.ends, f.free, sizes or {}):
            out[key] = Verdict(str(f.ends.pipeline.params["name"]), "safe", "for any sizes and data")
    if len(out) < len(everything) and all(v.error is None for v in out.values()):
        _walk(wir, sizes or {}, cycles, found)
    for p in everything:
        if id(p) not in out:
            out[id(p)] = _verdict(str(p.params["name"]), found[id(p)])
    return [out[id(p)] for p in everything]


def _of(ends: Ends) -> _Found:
    """Raises TypeCheckError for what must be timed and is not. What is timed may be determinate all the same."""
    asks = any(s.eqn.prim in TIMED for s in ends.everything)
    try:
        free = freedom(ends) if not asks else None
        if free is not None and not (free.doubts and ends.pipeline.params["timed"]):
            return _Found(ends, free)
    except TypeCheckError:
        if not ends.pipeline.params["timed"]:
            raise
    return _Found(ends, Freedom(Owned()), by_time=True)


def refuse_networks(wir: Wir, sizes: Mapping[str, int] | None = None, cycles: Cycles | None = None) -> list[int]:
    """Raise what is proved to go wrong in pipelines: TypeCheckError where numbers would depend on time, RaceError, DeadlockError,
    ChannelClosed. The numbers of the pipelines that are left to the run."""
    found = verdicts(wir, sizes, cycles)
    for v in found:
        if v.error is not None:
            raise v.error
    return [k for k, v in enumerate(found) if v.kind == "unknown"]


def _verdict(name: str, found: _Found) -> Verdict:
    if found.error is not None:
        kind, error = found.error
        return Verdict(name, kind, error.what, error)
    if found.unknown:
        for _, doubt in found.free.doubts:
            return Verdict(name, "indeterminate", doubt.what, doubt)
        return Verdict(name, "unknown", found.unknown[0])
    return Verdict(name, "safe", "all that it does was walked" if found.walked else "it never runs")


# walks


def _walk(wir: Wir, sizes: Mapping[str, int], cycles: Cycles | None, found: Mapping[int, _Found]) -> None:
    """Everything around pipelines, and them."""
    budget = Budget(MOST_WALKED)
    numbers: dict[str, Known] = {"$" + n: sizes.get(n) for n in wir.symbols}
    around = _Around(wir, budget, cycles, found)
    walk = Walk(wir, Place(), budget, numbers, cycles=cycles, pipeline=around.pipeline, pipelines_only=True)
    try:
        for request in walk.region(wir.body):
            if request.kind != "work":
                raise Undecided(f"{request.kind} outside of a process")
    except Undecided as e:
        for f in found.values():
            f.unknown.append(_why(e))


def _why(e: Undecided) -> str:
    return e.why + (f", {e.eqn.loc}" if e.eqn is not None and e.eqn.loc else "")


class _Around:
    """Runs pipelines as walks come to them."""

    def __init__(self, wir: Wir, budget: Budget, cycles: Cycles | None, found: Mapping[int, _Found]) -> None:
        self.wir, self.budget, self.cycles, self.found = wir, budget, cycles, found
        self.names = {id(f.ends.pipeline): sorted(_all_names(f.ends.pipeline)) for f in found.values()}

    def pipeline(self, eqn: Eqn, walk: Walk) -> int | None:
        """The cycles that it takes, None where they are not known."""
        found = self.found[id(eqn)]
        outermost = type(walk.place) is Place
        key = tuple(walk.numbers.get(n) for n in self.names[id(eqn)]) + tuple(v for _, v in sorted(walk.slots.items()))
        if outermost and key in found.walked:
            return 0
        found.walked.add(key)
        try:
            run = _Run(self, found, walk)
            run.judge()
        except Undecided as e:
            found.unknown.append(_why(e))
            for inside in (p for p in eqn.walk() if p.prim == "pipeline" and p is not eqn):
                self.found[id(inside)].unknown.append(_why(e))
            if not outermost:
                raise
            return None
        if not outermost:
            for x in chain.from_iterable(t.touches for t in run.threads):
                walk.place.touch(replace(x))
        return None if run.inexact else run.engine.total


def _all_names(eqn: Eqn) -> set[str]:
    return {n for e in eqn.walk() for n in used_names(e)}


class _Run:
    """One elaboration of a pipeline."""

    def __init__(
        self, around: _Around, found: _Found, outer: Walk, free: Freedom | None = None, cycles: Cycles | None = None
    ) -> None:
        """`free`, `cycles`: other than what is known of the pipeline, for one order of those that are possible."""
        self.around, self.found, self.outer = around, found, outer
        eqn, free = found.ends.pipeline, free or found.free
        clocks = self.clocks = Clocks()
        lines: dict[str, Line] = {}
        for c in channels_of(eqn):
            n, name = settings_of(c), str(c.params["name"])
            silent = name in free.silent
            lines[name] = Line(name, n.get("depth"), n["latency"], n["response"], name in free.mixed, silent)
            width = channel_fields(c)
            lines[name].sent = [((k,) * width, 0, {}) for k in range(n["initial"])]
        bodies = frozenset(free.bodies)
        self.threads: list[Thread] = []
        self.walks: list[Walk] = []
        for k, p in enumerate(processes_of(eqn)):
            t = Thread(str(p.params["name"]), k, p, clocks, bodies)
            numbers = dict(outer.numbers)
            w = Walk(
                around.wir,
                t,
                around.budget,
                numbers,
                dict(outer.slots),
                found.ends.names,
                cycles or around.cycles,
                around.pipeline,
            )
            t.steps = w.region(p.regions[0])
            self.threads.append(t)
            self.walks.append(w)
            for name in ends_of(p, "produces"):
                lines[name].producers.append(t)
            for name in ends_of(p, "consumes"):
                lines[name].consumers.append(t)
        self.engine = Engine(lines, self.threads, clocks, lambda: around.budget.spend(eqn))

    @property
    def inexact(self) -> bool:
        """Whether the time that this takes is not known."""
        return self.around.cycles is None or any(w.inexact_time for w in self.walks)

    def judge(self) -> None:
        """Find what is wrong; raises Undecided."""
        found, free = self.found, self.found.free
        stuck = self.engine.run(lambda: not self.inexact)
        for name, doubt in free.doubts:
            if len(self.engine.lines[name].sent) > 1:
                self._fail("indeterminate", doubt)
                return
        if found.by_time and self.inexact:
            raise Undecided("data decides the cycles of tasks, and these who comes first")
        certain = (free.is_none and not found.by_time) or not self.inexact
        if self.engine.closed_send is not None:
            self._fail("closed", _closed(self.engine.closed_send, not self.inexact))
        elif stuck is not None:
            if not certain:
                raise Undecided("whether it comes to an end may depend on time")
            self._fail("deadlock", _deadlock(found.ends, stuck))
        elif not certain and not ends_surely(found.ends, free):
            found.unknown.append("whether it comes to an end may depend on time")
        if stuck is None:
            self._judge_order()

    def _fail(self, kind: Kind, error: PtoError) -> None:
        self.found.error = self.found.error or (kind, error)

    def _judge_order(self) -> None:
        found, free = self.found, self.found.free
        owned = frozenset[str]() if free.is_none else free.owned.tensors | free.scratch
        perhaps: Conflict | None = None
        for c, one, other in self._conflicts(owned):
            if c.certain and one is other:
                self._fail("indeterminate", _mixed_up(found.ends, one, c))
                return
            if c.certain and (free.is_none or _replicas(one, other)):
                self._fail("race", _race(found.ends, one, other, c))
                return
            perhaps = perhaps or c
        if perhaps is None:
            return
        if free.is_none or not self._races_in_some_order():
            a, b = (self.threads[self.clocks.process[t.strand]].name for t in (perhaps.first, perhaps.second))
            found.unknown.append(
                f"processes {a} and {b} may touch common elements of {perhaps.first.tensor} without an order"
            )

    def _conflicts(self, owned: frozenset[str] = frozenset()) -> Iterator[tuple[Conflict, Thread, Thread]]:
        for c in conflicts(chain.from_iterable(t.touches for t in self.threads), self.clocks, owned):
            one, other = (self.threads[self.clocks.process[t.strand]] for t in (c.first, c.second))
            yield c, one, other

    def _races_in_some_order(self) -> bool:
        """Whether two processes race in one of a few orders of those that time may bring about; then that is what is wrong."""
        for seed in range(_ORDERS):
            run = _Run(self.around, self.found, self.outer, Freedom(Owned()), _some_cycles(seed))
            if run.engine.run() is None:
                for c, one, other in run._conflicts():
                    if c.certain:
                        self._fail("race", _race(self.found.ends, one, other, c))
                        return True
        return False


def _some_cycles(seed: int) -> Cycles:
    some = random.Random(seed)

    def cycles(kernel: Kernel, arguments: object) -> int:
        return some.randrange(1, 20)

    return cycles


def _replicas(a: Thread, b: Thread) -> bool:
    return a.eqn.params.get("replica") is not None and a.eqn.params.get("replica") == b.eqn.params.get("replica")


# errors


def _task(ends: Ends, t: Thread, touch: Touch) -> str:
    eqn = touch.eqn
    place = f", {eqn.loc}" if eqn.loc else ""
    if eqn.prim != "task":
        return f"{eqn.prim} in process {t.name}{place}"
    label = ends.wir.kernel(str(eqn.params["kernel"])).label
    at = ", ".join("?" if n is None else str(n) for n in touch.at)
    return f"{label}[{at}] in process {t.name}{place}"


def _race(ends: Ends, one: Thread, other: Thread, c: Conflict) -> RaceError:
    first, second = c.first, c.second
    if other.index < one.index:
        one, other, first, second = other, one, second, first

    def said(t: Thread, touch: Touch) -> Party:
        return Party(t.name, _task(ends, t, touch), touch.writes, touch.eqn.loc)

    return race_error(ends.pipeline, said(one, first), said(other, second), c.first.tensor, c.element)


@dataclass(frozen=True)
class Party:
    """One of two processes that race: its name, and what it does, in the words of a message."""

    process: str
    does: str
    writes: bool
    loc: Location | None


def race_error(pipeline: Eqn, one: Party, other: Party, tensor: str, element: Sequence[int]) -> RaceError:
    """The error for two processes of a pipeline that touch a common element of a tensor."""
    return RaceError(
        "PTO863",
        f"processes {one.process} and {other.process} touch common elements of {tensor}, one writes, and no token orders them",
        values={
            "pipeline": _called(pipeline),
            "one": f"{one.does}{' writes' if one.writes else ' reads'}",
            "the other": f"{other.does}{' writes' if other.writes else ' reads'}",
            "element": f"{tensor}[{', '.join(map(str, element))}]",
        },
        loc=(other if other.writes else one).loc or here(),
        fix="send a token behind the first and receive it before the second, or let them touch different elements",
    )


def _mixed_up(ends: Ends, t: Thread, c: Conflict) -> TypeCheckError:
    return TypeCheckError(
        "PTO862",
        f"process {t.name} takes tokens in an order that depends on time, and for two of them it touches common elements of "
        f"{c.first.tensor}",
        values={
            "one": _task(ends, t, c.first),
            "the other": _task(ends, t, c.second),
            "element": f"{c.first.tensor}[{', '.join(map(str, c.element))}]",
        },
        loc=c.first.eqn.loc or here(),
        fix="let each token name elements of its own, let one process send and one receive, or write timed=True, by which the cycles "
        "of the arch decide",
    )


def _called(eqn: Eqn) -> str:
    return str(eqn.params["name"]) + (f", {eqn.loc}" if eqn.loc else "")


def _closed(t: Thread, exact: bool) -> ChannelClosed:
    return ChannelClosed(
        "PTO817",
        f"process {t.name} sends to channel {t.request.channel}, which it has closed",
        values={"clock": t.clock} if exact else {},
        loc=t.request.loc or here(),
        fix="close a channel after the last send",
    )


def _deadlock(ends: Ends, stuck: Stuck) -> DeadlockError:
    channels = chain.from_iterable(map(channels_of, pipelines(ends.wir)))
    names = {id(c): name for c, name in zip(channels, channel_names(ends.wir), strict=True)}
    names = {str(c.params["name"]): names[id(c)] for c in channels_of(ends.pipeline)}
    depths = None if stuck.remedy is None else {names[c]: n for c, n in stuck.remedy.items()}
    short = out_of_buffers(ends.wir, (r.channel for r in stuck.requests))
    error = DeadlockError(
        "PTO864",
        f"a deadlock of processes in every run: {', '.join(t.name for t in stuck.waiting)} {'wait' if len(stuck.waiting) > 1 else 'waits'} for ever",
        values={"pipeline": _called(ends.pipeline)}
        | {f"process {t.name}": said for t, said in zip(stuck.waiting, stuck.said, strict=True)}
        | {"chain": "; ".join(stuck.chain)},
        loc=stuck.requests[0].loc or here(),
        fix=depths_fix(depths, short),
    )
    error.resource = f"channel {stuck.requests[0].channel}"
    error.blocked, error.remedy = tuple(stuck.blocked), depths
    return error
