"""What a process does, as far as no data decides it: the operations on channels, and the elements that it touches in between.

A number that only the run knows is None here. Where one decides which operations on channels there are, or how many, the walk ends
(`Undecided`); where it decides about tasks alone, what they may touch is kept as what may be touched.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pto_wsp.errors import PtoError
from pto_wsp.ir.conditions import loop_axis
from pto_wsp.ir.core import (
    PRIMITIVES,
    At,
    Dialect,
    Eqn,
    Gather,
    In,
    Kernel,
    Literal,
    Region,
    ScalarType,
    Slice,
    Span,
    Var,
    View,
    ViewDim,
    Wir,
    task_effects,
)
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.network import Reply, Request
from pto_wsp.ir.processes import ENDS, channel_var
from pto_wsp.ir.scalars import Number, compute, index_value
from pto_wsp.ir.tasks import LOOPS, READS, SLOTS, value_type

Known = Number | None
Box = tuple[tuple[int, int], ...]
"""Of a tensor, from and to in each dimension."""
EVERYTHING = (-(2**62), 2**62)

Steps = Generator[Request, Reply, tuple[Known, ...]]
Cycles = Callable[[Kernel, Sequence[tuple[int, ...] | Known]], int | None]
"""The cycles of a task, by shapes of views and values of scalars; None where data decides them."""


class Undecided(Exception):
    """What a network does is decided in its run. `eqn`: by what."""

    def __init__(self, why: str, eqn: Eqn | None = None) -> None:
        super().__init__(why)
        self.why, self.eqn = why, eqn


@dataclass(slots=True)
class Budget:
    """Equations that may still be walked."""

    left: int

    def spend(self, eqn: Eqn) -> None:
        """Raises Undecided where nothing is left."""
        self.left -= 1
        if self.left < 0:
            raise Undecided("it does more than is walked here", eqn)


@dataclass(slots=True, eq=False)
class Touch:
    """Elements that a task or a read touches. `certain`: that it does, and these. `at`: numbers of the coordinates."""

    eqn: Eqn
    tensor: str
    box: Box
    writes: bool
    certain: bool
    at: tuple[Known, ...]
    strand: int = 0
    step: int = 0


class Place:
    """Who walks: gets what is touched, and hears of iterations whose order nobody knows."""

    def touch(self, touch: Touch) -> None:
        """Elements are touched now."""

    def enter(self, eqn: Eqn) -> object:
        """A loop begins."""
        return None

    def iterate(self, mark: object) -> None:
        """Another iteration of it does."""

    def leave(self, mark: object) -> None:
        """It is over."""


@dataclass
class Walk:
    """One process, or a workload around processes. `numbers` by name, as names are used once in a workload."""

    wir: Wir
    place: Place
    budget: Budget
    numbers: dict[str, Known]
    slots: dict[int, Known] = field(default_factory=dict[int, Known])
    channels: Mapping[str, str] = field(default_factory=dict[str, str])
    cycles: Cycles | None = None
    pipeline: Callable[[Eqn, Walk], int | None] | None = None
    pipelines_only: bool = False  # what else there is takes no part
    maybe: int = 0
    inexact_time: bool = False

    # numbers

    def index(self, e: Expr) -> int | None:
        """None also for what would be an error of the run."""
        try:
            return index_value(e, self.numbers)  # type: ignore[arg-type]
        except (TypeError, PtoError):
            return None

    def value(self, x: In) -> Known:
        if isinstance(x, Expr):
            return self.index(x)
        if isinstance(x, Literal):
            return x.value
        return self.numbers.get(x.name) if isinstance(x, Var) else None

    def bind(self, variables: Sequence[Var], values: Sequence[Known] = ()) -> None:
        """None for what has no value."""
        for k, v in enumerate(variables):
            self.numbers[v.name] = values[k] if k < len(values) else None

    # equations

    def region(self, region: Region) -> Steps:
        for eqn in region.eqns:
            self.budget.spend(eqn)
            if eqn.prim == "yield":
                return tuple(self.value(x) for x in eqn.ins)
            if PRIMITIVES[eqn.prim].dialect is Dialect.SCALAR:
                self.bind(eqn.outs, (self.scalar(eqn),))
            else:
                yield from self.equation(eqn)
        return ()

    def scalar(self, eqn: Eqn) -> Known:
        values = [self.value(x) for x in eqn.ins]
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            return None
        types = [value_type(x) for x in eqn.ins]
        try:
            return compute(eqn.prim, eqn.params, [t.dtype for t in types if isinstance(t, ScalarType)], known)
        except PtoError:
            return None

    def equation(self, eqn: Eqn) -> Steps:
        prim = eqn.prim
        if self.pipelines_only and prim not in SLOTS and not any(e.prim == "pipeline" for e in eqn.walk()):
            self.forget_slots(eqn)
            self.bind(eqn.outs)
            return ()
        if prim == "task":
            yield from self.task(eqn)
        elif prim in ENDS:
            yield from self.end(eqn)
        elif prim in LOOPS:
            yield from self.loop(eqn)
        elif prim == "cond":
            yield from self.cond(eqn)
        elif prim in READS:
            self.touch_all(eqn, ((v, False) for v in eqn.ins if isinstance(v, View)))
            yield Request("work")
            self.bind(eqn.outs)
        elif prim == "slot_get":
            self.bind(eqn.outs, (self.slots.get(int(str(eqn.params["slot"]))),))
        elif prim == "slot_set":
            self.slots[int(str(eqn.params["slot"]))] = None if self.maybe else self.value(eqn.ins[0])
        elif prim == "pipeline":
            yield from self.inner_pipeline(eqn)
        else:  # parts and scopes
            for r in eqn.regions:
                yield from self.region(r)
            self.bind(eqn.outs)
        return ()

    def task(self, eqn: Eqn) -> Steps:
        self.touch_all(eqn, ((v, writes) for _, v, writes in task_effects(self.wir, eqn)))
        cycles: int | None = 0
        if self.cycles is not None:
            values = [self.shape(x) if isinstance(x, View) else self.value(x) for x in eqn.ins]
            cycles = self.cycles(self.wir.kernel(str(eqn.params["kernel"])), values)
        self.inexact_time = self.inexact_time or self.maybe > 0 or cycles is None
        yield Request("work", cycles=cycles or 0)
        self.bind(eqn.outs)
        return ()

    def inner_pipeline(self, eqn: Eqn) -> Steps:
        if self.maybe or self.pipeline is None:
            raise Undecided("data decides about a pipeline inside of a process", eqn)
        cycles = self.pipeline(eqn, self)
        self.inexact_time = self.inexact_time or cycles is None
        yield Request("work", cycles=cycles or 0)
        return ()

    def loop(self, eqn: Eqn) -> Steps:
        extent = self.index(loop_axis(eqn).extent)
        body, *conditions = eqn.regions
        if extent is None:
            yield from self.perhaps(eqn, "how often a loop runs")
            return ()
        mark = self.place.enter(eqn)
        for i in range(extent):
            self.budget.spend(eqn)
            self.bind(body.params, (i,))
            goes_on: Known = True
            for condition in conditions:
                (goes_on,) = (yield from self.region(condition)) or (True,)
            if goes_on is None:
                yield from self.perhaps(eqn, "whether a loop goes on")
                break
            if not goes_on:
                break
            self.place.iterate(mark)
            yield from self.region(body)
        self.place.leave(mark)
        self.bind(eqn.outs)
        return ()

    def cond(self, eqn: Eqn) -> Steps:
        holds = self.value(eqn.ins[0])
        if holds is None:
            yield from self.perhaps(eqn, "which branch is taken")
            return ()
        given = yield from self.region(eqn.regions[0 if holds else 1])
        self.bind(eqn.outs, given)
        return ()

    def perhaps(self, eqn: Eqn, what: str) -> Steps:
        """What may happen inside, where that is only tasks."""
        if any(e.prim in ENDS or e.prim == "pipeline" for e in eqn.walk()):
            raise Undecided(f"data decides {what}", eqn)
        self.maybe += 1
        self.forget_slots(eqn)
        for r in eqn.regions:
            self.bind(r.params)
            yield from self.region(r)
        self.maybe -= 1
        self.bind(eqn.outs)
        return ()

    def forget_slots(self, eqn: Eqn) -> None:
        """What is set inside may have any value."""
        for e in eqn.walk():
            if e.prim == "slot_set":
                self.slots[int(str(e.params["slot"]))] = None

    def end(self, eqn: Eqn) -> Steps:
        channel = self.channels[channel_var(eqn).name]
        token = tuple(self.value(x) for x in eqn.ins[1:])
        request = Request(eqn.prim, channel, token=token, loc=eqn.loc)  # type: ignore[arg-type]
        if eqn.prim != "consume":
            reply = yield request
            self.bind(eqn.outs, reply if isinstance(reply, tuple) else () if reply is None else (reply,))
            return ()
        mark = self.place.enter(eqn)
        while True:
            self.budget.spend(eqn)
            self.place.iterate(mark)
            reply = yield request
            if not isinstance(reply, tuple):
                break
            self.bind(eqn.regions[0].params, reply)
            yield from self.region(eqn.regions[0])
        self.place.leave(mark)
        return ()

    # elements

    def touch_all(self, eqn: Eqn, views: Iterator[tuple[View, bool]]) -> None:
        coords = eqn.params.get("coords", ())
        assert isinstance(coords, tuple)
        at = tuple(self.index(c) for c in coords if isinstance(c, Expr))
        for view, writes in views:
            for index in view.index_views():
                self.touch(eqn, index, False, at)
            self.touch(eqn, view, writes, at)

    def touch(self, eqn: Eqn, view: View, writes: bool, at: tuple[Known, ...]) -> None:
        known = [self.extent(d) for d in view.dims]
        box = tuple(EVERYTHING if e is None else e for e in known)
        if all(low < high for low, high in box):
            self.place.touch(Touch(eqn, view.tensor, box, writes, None not in known and not self.maybe, at))

    def extent(self, d: ViewDim) -> tuple[int, int] | None:
        if isinstance(d, Gather):
            return None
        first = self.index(d.index if isinstance(d, At) else d.start)
        if first is None:
            return None
        if isinstance(d, At):
            return first, first + 1
        if isinstance(d, Slice):
            return first, first + d.length
        size = self.index(d.length) if isinstance(d, Span) else d.size
        limit = None if isinstance(d, Span) else self.index(d.limit)
        if size is None or (limit is None and not isinstance(d, Span)):
            return None
        return first, first + size if limit is None else min(first + size, limit)

    def shape(self, view: View) -> tuple[int, ...] | None:
        extents = [(d.size,) if isinstance(d, Gather) else self.extent(d) for d in view.kept]
        known = [e for e in extents if e is not None]
        return None if len(known) < len(extents) else tuple(e[-1] - (e[0] if len(e) > 1 else 0) for e in known)
