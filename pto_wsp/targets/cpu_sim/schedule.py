"""What schedules say of tasks, as the plan has it: tables of scopes, and a rule for each task that needs one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pto_wsp.arch import Arch
from pto_wsp.errors import InternalError, PtoError, ScheduleError, here
from pto_wsp.ir.core import PRIMITIVES, DType, Eqn, Kernel, Literal, Param, Region, RuleCall, Wir
from pto_wsp.ir.expr import Expr, Op, const
from pto_wsp.ir.rule import RULE_OPS, Rule, TaskFacts, dtype_of, evaluate_rule, mapped, walk
from pto_wsp.ir.scopes import MODES, MOST_LANES, of_the_whole, scopes
from pto_wsp.targets.cpu_sim.stream import Stream

T = TypeVar("T")
DEFAULT_WINDOW = 65_536
NO_BOUND = 2**64 - 1
_PINNED, _CYCLIC = 1, 2
_REG, _CONSTANT, _AFFINE, _STEP = range(4)


@dataclass(frozen=True)
class Machine:
    """What a workload runs on. lanes: of a pool that says nothing else; dispatches: lanes of each dispatch scope, in program order; pools:
    lanes of each pool; start: tasks issued before the first is taken; turns: of interleaved issue, 0 without."""

    arch: Arch
    lanes: int
    dispatches: tuple[int, ...]
    pools: tuple[int, ...]
    start: int
    turns: int

    @property
    def all_lanes(self) -> int:
        """The lanes of all pools."""
        return sum(self.pools)

    @staticmethod
    def of(wir: Wir, arch: Arch, said: Wir | None = None) -> Machine:
        """As many lanes as the largest of the dispatch scopes says, innermost or not, with tasks or without (which `said` still has);
        without any, the arch's. Raises ScheduleError."""
        dispatches = tuple(_lanes_of(wir.body, 0, arch))
        lanes = max(_lanes_of((said or wir).body, 0, arch), default=arch.lanes)
        pools = of_the_whole(wir, "pools")
        of_each = (0,) if pools is None else pools.params["lanes"]
        assert isinstance(of_each, tuple)
        counts = tuple(lanes if n == 0 else n for n in of_each if isinstance(n, int))
        if sum(counts) > MOST_LANES:
            raise ScheduleError(
                "PTO403",
                f"pools have {sum(counts)} lanes",
                values={"most": MOST_LANES},
                loc=pools.loc if pools and pools.loc else here(),
                fix="give fewer lanes",
            )
        start, turns = of_the_whole(wir, "start"), of_the_whole(wir, "timing")
        _refuse_abort(wir, turns)
        return Machine(
            arch,
            lanes,
            dispatches,
            counts,
            0 if start is None else _int(start.params["tasks"]) or NO_BOUND,
            0 if turns is None else _int(turns.params["turns"]),
        )


def _refuse_abort(wir: Wir, turns: Eqn | None) -> None:
    """Interleaved issue looks as far ahead as the window goes, which under ABORT is known only when the run is over."""
    aborts = next((e for e in scopes(wir, "window") if e.params["mode"] == "ABORT"), None)
    if turns is not None and aborts is not None:
        raise ScheduleError(
            "PTO418",
            "interleaved timing with a window of mode ABORT",
            values={"window": aborts.loc or "ABORT"},
            loc=turns.loc or here(),
            fix="let the window stall, or only record: WindowMode.BENCHMARK",
        )


def _int(p: Param) -> int:
    if not isinstance(p, int):
        raise InternalError(f"{p} is no number")
    return p


def _lanes_of(region: Region, streams: int, arch: Arch) -> Iterator[int]:
    """Lanes of the dispatch scopes; of one without a number, the largest count of the streams around and inside, else the arch's."""
    for eqn in region.eqns:
        around = max(streams, _int(eqn.params["count"])) if eqn.prim == "streams" else streams
        if eqn.prim == "dispatch":
            inside = (_int(e.params["count"]) for e in eqn.walk() if e.prim == "streams")
            yield _int(eqn.params["lanes"]) or min(max((around, *inside)), MOST_LANES) or arch.lanes
        for r in eqn.regions:
            yield from _lanes_of(r, around, arch)


@dataclass(frozen=True)
class TaskRule:
    """A rule, and the number of the scope that remembers for it."""

    memory: int
    rule: Rule


@dataclass(frozen=True)
class Said:
    """What a task has in the plan: places in the tables + 1, 0 for none, of `window` the place; and rules for its lane, stream, priority,
    distance and pool."""

    dispatch: int
    window: int
    batch: int
    steal: bool
    stream: int
    rules: tuple[TaskRule | None, ...]

    def exprs(self) -> Iterator[Expr]:
        """The index expressions in its rules."""
        return (e for r in self.rules if r is not None for e in walk(r.rule) if isinstance(e, Expr))


@dataclass
class Schedule:
    """The tables, filled as tasks are met. mixed: dispatch scopes whose rule is another one for some of their tasks."""

    machine: Machine
    mixed: frozenset[int]
    dispatches: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    windows: list[tuple[int, int, int, str]] = field(default_factory=list[tuple[int, int, int, str]])
    batches: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    streams: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    memories: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    def of(self, task: Eqn, kernel: Kernel) -> Said:
        """What the plan says of a task of lowered wir."""
        p = task.params
        stream, key = self._stream(p.get("stream"), kernel)
        dispatch, lane = self._dispatch(p.get("dispatch"), kernel)
        ready, timing = _fields(p.get("ready"), 3), _fields(p.get("timing"), 3)
        batch = 0
        if timing and _int(timing[1]) > 1:
            batch = 1 + _place(self.batches, (_int(timing[0]), _int(timing[1])))
        return Said(
            dispatch,
            self._window(p.get("window")),
            batch,
            bool(ready and ready[1]),
            stream,
            (
                lane,
                key,
                self._rule("ready", ready, kernel),
                self._rule("timing", timing, kernel),
                self._rule("pools", _fields(p.get("pool"), 2), kernel),
            ),
        )

    def window(self, pipeline: Eqn) -> int:
        """The place of the window that a pipeline counts in."""
        return self._window(pipeline.params.get("window"))

    def _dispatch(self, state: Param | None, kernel: Kernel) -> tuple[int, TaskRule | None]:
        fields = _fields(state, 4)
        if not fields:
            return 0, None
        number = _int(fields[0])
        lanes = self.machine.dispatches[number]
        rule = self._folded(fields[3], kernel, lanes)
        # a round robin that only some tasks go by would count only these
        cyclic = rule == RuleCall("mod", (RuleCall("position"), const(lanes))) and number not in self.mixed
        flags = _PINNED * bool(fields[2]) | _CYCLIC * cyclic
        place = 1 + _place(self.dispatches, (number, lanes, flags))
        return place, None if cyclic else TaskRule(self._memory("dispatch", number), rule)

    def _stream(self, state: Param | None, kernel: Kernel) -> tuple[int, TaskRule | None]:
        fields = _fields(state, 4)
        if not fields:
            return 0, None
        streams, by, count = _int(fields[0]), _int(fields[1]), _int(fields[2])
        memory = self._memory("stream_by", by) if by >= 0 else self._memory("streams", streams)
        rule = self._folded(fields[3], kernel, self.machine.lanes)
        return 1 + _place(self.streams, (streams, by, count)), TaskRule(memory, rule)

    def _window(self, state: Param | None) -> int:
        fields = _fields(state, 4)
        if not fields:
            return 0
        return 1 + _place(self.windows, (_int(fields[0]), _int(fields[1]), _int(fields[2]), str(fields[3])))

    def _rule(self, prim: str, fields: tuple[Param, ...], kernel: Kernel) -> TaskRule | None:
        """The rule that stands last; none where it is 0 for every task."""
        if not fields:
            return None
        rule = self._folded(fields[-1], kernel, self.machine.lanes)
        return None if rule == const(0) else TaskRule(self._memory(prim, _int(fields[0])), rule)

    def _memory(self, prim: str, number: int) -> int:
        return _place(self.memories, (prim, number))

    def _folded(self, rule: Param, kernel: Kernel, lanes: int) -> Rule:
        """The rule with what is known of the kernel and the arch in it."""
        assert isinstance(rule, (Expr, Literal, RuleCall))
        facts = TaskFacts(unit=unit_of(kernel), lanes=lanes, clock_khz=self.machine.arch.clock_khz)

        def leaf(r: Rule) -> Rule:
            if isinstance(r, Expr):
                return _as_calls(r)
            if not isinstance(r, RuleCall) or not all(_is_const(a) for a in r.args):
                return r
            if r.op in RULE_OPS and not RULE_OPS[r.op].constant:
                return r
            try:
                value = evaluate_rule(r, facts)
            except PtoError:  # told for the task that meets it
                return r
            dtype = dtype_of(r)
            return const(int(value)) if dtype is DType.I64 else Literal(value, dtype)

        return mapped(rule, leaf)

    def write(self, s: Stream) -> None:
        """Append the machine and the tables."""
        m = self.machine
        s.u(m.all_lanes, m.arch.issue_cost, m.arch.handover, m.arch.read_cost, len(m.pools), *m.pools)
        s.u(len(self.dispatches))
        for _, lanes, flags in self.dispatches:
            s.u(lanes, flags)
        s.u(1 + len(self.windows), DEFAULT_WINDOW, 0, 0)
        for _, tasks, size, mode in self.windows:
            s.u(tasks or DEFAULT_WINDOW, size, MODES.index(mode))
        s.u(len(self.batches), *(n for _, n in self.batches))
        s.u(len(self.streams), *(n for *_, n in self.streams))
        s.u(m.start, m.turns, len(self.memories))


def mixed_dispatches(wir: Wir) -> frozenset[int]:
    """The dispatch scopes whose tasks go by different rules, such as where only some have a coordinate."""
    rules: dict[int, set[Param]] = {}
    for task in wir.tasks():
        fields = _fields(task.params.get("dispatch"), 4)
        if fields:
            rules.setdefault(_int(fields[0]), set()).add(fields[3])
    return frozenset(number for number, found in rules.items() if len(found) > 1)


def _as_calls(e: Expr) -> Rule:
    """An index expression whose products, quotients and the like are steps of the rule, so that what fails in them is the rule's fault."""
    out: Rule = Expr(e.const, tuple((a, c) for a, c in e.terms if isinstance(a, str)))
    for atom, coef in e.terms:
        if isinstance(atom, str):
            continue
        a, b, kind = (
            (atom.a + atom.b - 1, atom.b, "floordiv") if atom.kind == "ceildiv" else (atom.a, atom.b, atom.kind)
        )
        part = RuleCall(kind, (_as_calls(a), _as_calls(b)))
        part = part if coef == 1 else RuleCall("mul", (part, const(coef)))
        out = part if out == const(0) else RuleCall("add", (out, part))
    return out


def _fields(state: Param | None, count: int) -> tuple[Param, ...]:
    """The fields of an attribute of a task; none where the task has no such attribute."""
    if state is None:
        return ()
    assert isinstance(state, tuple) and len(state) == count
    return state


def _place(table: list[T], entry: T) -> int:
    if entry not in table:
        table.append(entry)
    return table.index(entry)


def _is_const(r: Rule) -> bool:
    return isinstance(r, Literal) or (isinstance(r, Expr) and r.is_const)


def unit_of(kernel: Kernel) -> int:
    """The unit that a kernel needs: 0, cube, for matrix products, else 1, vector."""
    return 0 if any(PRIMITIVES[e.prim].unit == "cube" for top in kernel.body.eqns for e in top.walk()) else 1


def bits(x: Literal) -> bytes:
    """64 bits of a constant."""
    if x.dtype.is_float:
        return struct.pack("<d", x.value)
    return (int(x.value) % 2**64).to_bytes(8, "little")


def write_rule(s: Stream, said: TaskRule | None, registers: Mapping[str | Op, int]) -> None:
    """Append a rule as steps, operands first, or that there is none."""
    if said is None:
        s.u(0)
        return
    steps: list[bytes] = []

    def operand(r: Rule) -> bytes:
        out = Stream()
        match r:
            case Literal():
                out.u(_CONSTANT)
                out.out += bits(r)
            case Expr() if r.is_const:
                out.u(_CONSTANT)
                out.out += bits(Literal(r.const, DType.I64))
            case Expr():
                out.u(_AFFINE)
                out.s(r.const)
                out.u(len(r.terms))
                for atom, coef in r.terms:
                    out.u(registers[atom])
                    out.s(coef)
            case RuleCall():
                args = [operand(a) for a in r.args]
                types = [dtype_of(a) for a in r.args]
                step = Stream()
                step.text(r.op)
                step.u((types[-1] if types else DType.I64).code, (r.to or DType.I64).code)
                step.out += b"".join(args)
                steps.append(bytes(step.out))
                out.u(_STEP, len(steps) - 1)
        return bytes(out.out)

    result = operand(said.rule)
    s.u(1 + len(steps), said.memory)
    s.out += b"".join(steps)
    s.u(dtype_of(said.rule).code)
    s.out += result
