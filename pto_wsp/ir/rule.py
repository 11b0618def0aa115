"""Rules: the scalar expressions of schedules, evaluated for each task as it is issued.

    rule := expr | literal | call
    call := op(rule, ...)          op(text) and cast(rule, dtype) too

An index expression (i64) is over the task's coordinates, `task.b`, and symbols; once scopes are resolved, over the loop variables
and scalars that the coordinates are. Operations are those on scalars (`ir/scalars.py`; what integers of 64 bits do not hold is a
BoundsError), and those of RULE_OPS: what the run knows of the task, and what the scope remembers. A policy is such an expression, so
that a new one needs no word of the wir and nothing in the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from pto_wsp.errors import InternalError, TypeCheckError
from pto_wsp.ir.core import DType, Literal, RuleCall
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scalars import Number, compute, index_value, scalar_type, wrap

Rule = Expr | Literal | RuleCall

COORDINATE = "task."
"""What names of coordinates begin with, in the expressions of a scope."""


@dataclass
class ScopeMemory:
    """What a scope remembers of the tasks it had: keys by the operation that asks, and the cycles that each lane was given."""

    keys: dict[int, dict[int, int]] = field(default_factory=dict[int, dict[int, int]])
    loads: dict[int, int] = field(default_factory=dict[int, int])


@dataclass
class TaskFacts:
    """What a rule may ask of a task, and of the scope that it belongs to. `scope`: what the scope remembers, between tasks."""

    env: Mapping[str, int] = field(default_factory=dict[str, int])
    position: int = 0
    id: int = 0
    cost: int = 0
    unit: int = 0
    lanes: int = 1
    clock_khz: int = 1
    scope: ScopeMemory = field(default_factory=ScopeMemory)


@dataclass(frozen=True)
class RuleOp:
    """An operation of rules alone. type: operand dtypes -> dtype; reference: (task, number of the operation in the rule, operands) ->
    value. `constant`: the same for all tasks, known when the workload is compiled."""

    name: str
    type: Callable[[Sequence[DType]], DType]
    reference: Callable[[TaskFacts, int, Sequence[Number]], Number]
    doc: str
    constant: bool = False


RULE_OPS: dict[str, RuleOp] = {}


def _no_operands(dtypes: Sequence[DType]) -> DType:
    if dtypes:
        raise TypeCheckError("PTO106", "an operation without operands", values={"got": len(dtypes)}, fix="give none")
    return DType.I64


def _integer(name: str, to: DType) -> Callable[[Sequence[DType]], DType]:
    def rule(dtypes: Sequence[DType]) -> DType:
        if list(dtypes) not in ([DType.I64], [DType.U64]):
            raise TypeCheckError(
                "PTO104",
                f"{name} of {', '.join(map(str, dtypes)) or 'nothing'}",
                values={"there is": "i64, u64"},
                fix="cast the operand first: cast(x, DType.I64)",
            )
        return to

    return rule


def splitmix64(x: int) -> int:
    """The bits of x mixed, modulo 2**64: the output function of SplitMix64 at state x (Steele, Lea and Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014, as S. Vigna's splitmix64.c states it)."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def _first_appearance(task: TaskFacts, number: int, values: Sequence[Number]) -> int:
    keys = task.scope.keys.setdefault(number, {})
    return keys.setdefault(int(values[0]), len(keys))


def _least_loaded(task: TaskFacts, number: int, values: Sequence[Number]) -> int:
    return min(range(task.lanes), key=lambda lane: (task.scope.loads.get(lane, 0), lane))


for _op in (
    RuleOp("position", _no_operands, lambda t, n, v: t.position, "tasks of the scope before it"),
    RuleOp("id", _no_operands, lambda t, n, v: t.id, "tasks of the run before it"),
    RuleOp("cost", _no_operands, lambda t, n, v: t.cost, "its cycles"),
    RuleOp("unit", _no_operands, lambda t, n, v: t.unit, "the unit it needs: 0 cube, 1 vector", constant=True),
    RuleOp("lanes", _no_operands, lambda t, n, v: t.lanes, "lanes that the scope deals out", constant=True),
    RuleOp("clock_khz", _no_operands, lambda t, n, v: t.clock_khz, "cycles of the arch a millisecond", constant=True),
    RuleOp("least_loaded", _no_operands, _least_loaded, "the lane with the fewest cycles assigned so far"),
    RuleOp(
        "first_appearance",
        _integer("first_appearance", DType.I64),
        _first_appearance,
        "different keys of the scope before this one first came",
    ),
    RuleOp(
        "splitmix64",
        _integer("splitmix64", DType.U64),
        lambda t, n, v: splitmix64(int(v[0])),
        "a key of 64 bits, mixed",
    ),
):
    RULE_OPS[_op.name] = _op


def dtype_of(rule: Rule) -> DType:
    """The type of a rule. Raises TypeCheckError where operations do not take their operands, LookupError for unknown ones."""
    match rule:
        case Expr():
            return DType.I64
        case Literal():
            return rule.dtype
        case RuleCall():
            operands = [dtype_of(a) for a in rule.args]
            if rule.op == "coord" and rule.text is not None:
                return _integer("coord", DType.I64)(operands)
            if rule.op == "kernel_is" and rule.text is not None:
                _no_operands(operands)
                return DType.BOOL
            if rule.op in RULE_OPS:
                return RULE_OPS[rule.op].type(operands)
            return scalar_type(f"s.{rule.op}", _params(rule), operands)


def _params(rule: RuleCall) -> dict[str, DType | bool]:
    return {"to": rule.to} if rule.to is not None else {"checked": True}


def walk(rule: Rule) -> Iterator[Rule]:
    """A rule and all in it, operands first."""
    if isinstance(rule, RuleCall):
        for a in rule.args:
            yield from walk(a)
    yield rule


def rule_names(rule: Rule) -> frozenset[str]:
    """Every name that its index expressions have."""
    return frozenset(n for r in walk(rule) if isinstance(r, Expr) for n in r.names())


def mapped(rule: Rule, leaf: Callable[[Rule], Rule]) -> Rule:
    """The rule with `leaf` of each leaf and call without operands, from the inside out."""
    if isinstance(rule, RuleCall):
        return leaf(replace(rule, args=tuple(mapped(a, leaf) for a in rule.args)))
    return leaf(rule)


def evaluate_rule(rule: Rule, task: TaskFacts) -> Number:
    """What a resolved rule is for a task. Operations of RULE_OPS have numbers, in the order in which they stand."""
    calls = count()

    def value(r: Rule) -> Number:
        match r:
            case Expr():
                return index_value(r, task.env)
            case Literal():
                return r.value
            case RuleCall():
                operands = [value(a) for a in r.args]
                if r.op in RULE_OPS:
                    return RULE_OPS[r.op].reference(task, next(calls), operands)
                return compute(f"s.{r.op}", _params(r), [dtype_of(a) for a in r.args], operands)

    return value(rule)


def integer_of(rule: Rule, task: TaskFacts) -> int:
    """The value of a rule of integers, as 64 bits with a sign."""
    out = evaluate_rule(rule, task)
    if isinstance(out, (bool, float)):
        raise InternalError("a rule that is no integer")
    return wrap(out, DType.I64)
