"""Pipelines by their sequential elaboration: the tasks of all processes in one order in which channels let them run.

Processes run while JAX traces, on the numbers that are known then, as `pto_wsp.ir.network` has them; what computes is noted as events. A sequence of
events that comes again and again becomes a `scan` over the numbers in which its turns differ.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import PRIMITIVES, Axis, ChannelType, Dialect, DType, Eqn, In, Literal, Region, ScalarType, Var
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.network import Body, Channel, Network, Reply, Request
from pto_wsp.ir.processes import ENDS, TIMED, channel_var, channels_of, ends_inside, ends_of, processes_of, settings_of
from pto_wsp.ir.scalars import compute, index_value
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import LOOPS, PARTS, SLOTS, bound_vars, used_names, value_type
from pto_wsp_jax.lower import numbers, workload
from pto_wsp_jax.lower.numbers import Int
from pto_wsp_jax.lower.workload import Changes, Frame

MOST_EVENTS = 4096
"""That do not repeat."""


@dataclass(frozen=True, eq=False)
class Later:
    """A number that an event gives."""

    name: str


@dataclass(frozen=True)
class Event:
    """An equation that computes, the numbers it names, and what it gives."""

    eqn: Eqn
    names: Mapping[str, Any]
    gives: Mapping[str, Later]


def pipeline(eqn: Eqn, frame: Frame) -> None:
    """Run a pipeline."""
    if eqn.params["timed"]:
        raise _no_form(eqn, "is timed: what it does depends on cycles")
    elaboration = Elaboration(eqn, frame)
    emit(elaboration.events(), elaboration.outside, eqn, frame)


def _no_form(eqn: Eqn, why: str, at: Eqn | None = None) -> UnsupportedError:
    return UnsupportedError(
        *("PTO885", f"pipeline {eqn.params['name']} has no form in JAX: it {why}"),
        loc=(at or eqn).loc or here(),
        fix="run the workload by as_jax",
    )


@dataclass
class Process:
    """What a process knows: numbers, or what will be numbers, by name; slots; its channels by variable."""

    numbers: dict[str, Any]
    slots: dict[int, Any]
    channels: Mapping[str, str]

    def inner(self) -> Process:
        return Process(dict(self.numbers), self.slots, self.channels)


Steps = Generator[Request, Reply, tuple[In, ...]]


class Elaboration:
    """The events of one pipeline."""

    def __init__(self, eqn: Eqn, frame: Frame) -> None:
        self.eqn, self.frame = eqn, frame
        self._events: list[Event] = []
        self.outside: dict[Later, Any] = {}  # numbers from around the pipeline that are traced

    def events(self) -> list[Event]:
        channels: dict[str, Channel] = {}
        names: dict[str, str] = {}
        for c in channels_of(self.eqn):
            n, t = settings_of(c), c.outs[0].type
            assert isinstance(t, ChannelType)
            name = names[c.outs[0].name] = str(c.params["name"])
            tokens = [tuple(_initial(f, k) for f in t.fields) for k in range(n["initial"])]
            channels[name] = Channel(name, n.get("depth"), n["latency"], n["response"], tokens)
        known = {n: self._known(n, x) for n, x in self.frame.numbers.items()}
        processes: dict[str, tuple[Body, Sequence[str]]] = {}
        for p in processes_of(self.eqn):
            slots = {s: self._known(f"slot {s}", x) for s, x in self.frame.slots.items()}
            body = self._process(p.regions[0], Process(dict(known), slots, names))
            processes[str(p.params["name"])] = (body, ends_of(p, "produces"))
        Network(channels, processes).run()
        return self._events

    def _known(self, name: str, x: Any) -> Any:
        if numbers.is_known(x):
            return x
        later = Later(name)
        self.outside[later] = x
        return later

    def _process(self, region: Region, p: Process) -> Body:
        yield from self._run(region, p)

    def _run(self, region: Region, p: Process) -> Steps:
        for eqn in region.eqns:
            if eqn.prim == "yield":
                return eqn.ins
            yield from self._step(eqn, p)
        return ()

    def _step(self, eqn: Eqn, p: Process) -> Steps:
        inside = [e for r in eqn.regions for e in r.eqns]
        alone = not any(True for e in inside for _ in ends_inside(e)) and not any(
            x.prim in SLOTS for e in inside for x in e.walk()
        )
        if eqn.prim in TIMED:
            raise _no_form(self.eqn, f"has {eqn.prim}", eqn)
        if eqn.prim in ENDS:
            yield from self._end(eqn, p)
        elif eqn.prim in SLOTS:
            self._slot(eqn, p)
        elif PRIMITIVES[eqn.prim].dialect is Dialect.SCALAR:
            self._scalar(eqn, p)
        elif eqn.prim in PARTS or eqn.prim in SCOPES:
            for r in eqn.regions:
                yield from self._run(r, p)
        elif eqn.prim in LOOPS and not alone:
            yield from self._loop(eqn, p)
        elif eqn.prim == "cond" and not alone:
            c = self._number(eqn.ins[0], p, eqn)
            yield from self._run(eqn.regions[0 if c else 1], p.inner())
        else:
            yield Request("work")
            self._note(eqn, p)
        return ()

    def _note(self, eqn: Eqn, p: Process) -> None:
        used = {n for e in eqn.walk() for n in used_names(e)} - {v.name for e in [eqn] for v in bound_vars([e])}
        gives = {v.name: Later(v.name) for v in eqn.outs if isinstance(v.type, ScalarType)}
        names = {n: p.numbers[n] for n in sorted(used) if n in p.numbers and not n.startswith("$")}
        self._events.append(Event(eqn, names, gives))
        p.numbers.update(gives)

    def _scalar(self, eqn: Eqn, p: Process) -> None:
        values = [self._value(x, p) for x in eqn.ins]
        if any(isinstance(x, Later) for x in values):
            self._note(eqn, p)
            return
        dtypes = [t.dtype for t in map(value_type, eqn.ins) if isinstance(t, ScalarType)]
        p.numbers[eqn.outs[0].name] = compute(eqn.prim, eqn.params, dtypes, values)

    def _value(self, x: In, p: Process) -> Any:
        """A number, or what will be one."""
        if isinstance(x, Literal):
            return x.value
        if isinstance(x, Var):
            return p.numbers[x.name]
        assert isinstance(x, Expr)
        if any(isinstance(p.numbers[n], Later) for n in x.names()):
            found = next((p.numbers[n] for n in x.names() if x == var(n)), None)
            if found is None:
                raise _no_form(self.eqn, f"hands on {x}, which depends on data")
            return found
        return index_value(x, p.numbers)

    def _number(self, x: In, p: Process, eqn: Eqn) -> Any:
        value = self._value(x, p)
        if isinstance(value, Later):
            raise _no_form(
                self.eqn, f"has {eqn.prim} around sends and receives that depends on data ({value.name})", eqn
            )
        return value

    def _slot(self, eqn: Eqn, p: Process) -> None:
        slot = eqn.params["slot"]
        assert isinstance(slot, int)
        if eqn.prim == "slot_get":
            p.numbers[eqn.outs[0].name] = p.slots[slot]
        else:
            p.slots[slot] = self._value(eqn.ins[0], p)

    def _loop(self, eqn: Eqn, p: Process) -> Steps:
        axis, (body, *condition) = eqn.params["axis"], eqn.regions
        assert isinstance(axis, Axis)
        for i in range(self._number(axis.extent, p, eqn)):
            inner = p.inner()
            inner.numbers[body.params[0].name] = i
            if condition:
                (last,) = yield from self._run(condition[0], inner)
                if not self._number(last, inner, eqn):
                    return ()
            yield from self._run(body, inner)
        return ()

    def _end(self, eqn: Eqn, p: Process) -> Steps:
        token = tuple(self._value(x, p) for x in eqn.ins[1:])
        request = Request(eqn.prim, p.channels[channel_var(eqn).name], token=token, loc=eqn.loc)
        if eqn.prim != "consume":
            reply = yield request
            for v, x in zip(eqn.outs, reply if isinstance(reply, tuple) else (), strict=True):
                p.numbers[v.name] = x
            return ()
        while True:
            reply = yield request
            if reply is None:
                return ()
            assert isinstance(reply, tuple)
            inner = p.inner()
            inner.numbers.update({v.name: x for v, x in zip(eqn.regions[0].params, reply, strict=True)})
            yield from self._run(eqn.regions[0], inner)


def _initial(t: ScalarType, k: int) -> Any:
    return {DType.F64: float(k), DType.BOOL: k != 0}.get(t.dtype, k)


# events as operations of JAX


def emit(events: Sequence[Event], outside: Mapping[Later, Any], eqn: Eqn, frame: Frame) -> None:
    """Compute what the events say."""
    made = dict(outside)
    alone = 0
    for first, period, turns in repeated(_keys(events)):
        parts = [events[first + k * period : first + (k + 1) * period] for k in range(turns)]
        if turns > 1 and _stands_alone(parts[1]):
            _emit_turns(parts, made, frame)
            continue
        for event in (e for part in parts for e in part):
            alone += 1
            if alone > MOST_EVENTS:
                raise _no_form(eqn, f"does more than {MOST_EVENTS} things that do not come again")
            _emit_one(event, made, frame, {})


def _stands_alone(turn: Sequence[Event]) -> bool:
    """Whether a turn names no number that another turn gives."""
    own: set[Later] = set()
    for e in turn:
        if any(isinstance(x, Later) and x not in own for x in e.names.values()):
            return False
        own |= set(e.gives.values())
    return True


def _emit_one(event: Event, made: dict[Later, Any], frame: Frame, changing: Mapping[str, Any]) -> None:
    inner = frame.inner(frame.active)
    for n, x in event.names.items():
        inner.numbers[n] = changing[n] if n in changing else made[x] if isinstance(x, Later) else x
    workload.step(event.eqn, inner)
    frame.parts.update(inner.parts)
    made.update({later: inner.numbers[n] for n, later in event.gives.items()})


def _emit_turns(turns: Sequence[Sequence[Event]], made: dict[Later, Any], frame: Frame) -> None:
    """The same events again and again, with numbers of their own in each turn."""
    tables: list[dict[str, np.ndarray[Any, Any]]] = []
    for position in zip(*turns, strict=True):
        columns = {n: [e.names[n] for e in position] for n, x in position[0].names.items() if not isinstance(x, Later)}
        tables.append({n: np.array(c) for n, c in columns.items() if any(x != c[0] for x in c)})
    changes = Changes.of([Region((), tuple(e.eqn for e in turns[0]))], frame.wir)

    def turn(state: list[Any], rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], None]:
        inner = frame.inner(frame.active)
        changes.put(inner, state)
        own = dict(made)
        for event, row, table in zip(turns[0], rows, tables, strict=True):
            _emit_one(event, own, inner, {n: _one_of(x, table[n]) for n, x in row.items()})
        return changes.of_frame(inner), None

    rows = [{n: _narrowed(c) for n, c in t.items()} for t in tables]
    state, _ = jax.lax.scan(turn, changes.of_frame(frame), rows, length=len(turns))
    changes.put(frame, state)


def _narrowed(column: np.ndarray[Any, Any]) -> jax.Array:
    return jnp.asarray(column, jax.dtypes.canonicalize_dtype(column.dtype))


def _one_of(x: Any, column: np.ndarray[Any, Any]) -> Any:
    """An element of a column of which all numbers are known."""
    return Int(x, int(column.min()), int(column.max())) if column.dtype.kind in "iu" else x


def _keys(events: Sequence[Event]) -> np.ndarray[Any, Any]:
    """Equal numbers for events that differ in known numbers alone."""
    seen: dict[object, int] = {}
    at = {later: k for k, e in enumerate(events) for later in e.gives.values()}
    out: list[int] = []
    for k, e in enumerate(events):
        shape = tuple(
            (n, (k - at[x] if x in at else id(x)) if isinstance(x, Later) else type(x).__name__)
            for n, x in e.names.items()
        )
        out.append(seen.setdefault((id(e.eqn), shape), len(seen)))
    return np.array(out, np.int64)


def repeated(keys: np.ndarray[Any, Any]) -> Iterable[tuple[int, int, int]]:
    """(first, period, turns) of the events, in order: what comes again at least `FEWEST` times is taken together."""
    first, n = 0, len(keys)
    while first < n:
        period, turns = _best(keys[first:])
        yield first, period, turns
        first += period * turns


FEWEST = 4
MOST_PERIODS = 256


def _best(keys: np.ndarray[Any, Any]) -> tuple[int, int]:
    best = (1, 1)
    periods = np.flatnonzero(keys[1 : len(keys) // FEWEST + 1] == keys[0])[:MOST_PERIODS] + 1
    for period in map(int, periods):
        same = keys[period:] == keys[:-period]
        run = len(same) if same.all() else int(np.argmin(same))
        turns = run // period + 1
        if turns >= FEWEST and period * turns > best[0] * best[1]:
            best = (period, turns)
    return best
