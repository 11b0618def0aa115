"""What schedules say: policies, windows, and how dependences are found.

A policy is a rule, a scalar expression of the task (`transforms/record.py`), whoever wrote it: those here and those of users come
through `register_policy`.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from pto_wsp.errors import PtoError, ScheduleError, UnsupportedNameError, here
from pto_wsp.ir.core import DType
from pto_wsp.ir.rule import COORDINATE, Rule
from pto_wsp.ir.scopes import MOST, MOST_LANES
from pto_wsp.trace.scalar import cast
from pto_wsp.transforms.record import TaskRecord, key_of, rule_of

KINDS = {"dispatch": "DispatchPolicy", "ready": "ReadyPolicy", "timing": "TimingPolicy", "pools": "Pools"}


@dataclass(frozen=True)
class Policy:
    """A policy for `dispatch`, `ready`, `timing` or `pools`, with its arguments. `params`: those of its scope in the wir beside the rule.
    `given`: what it was used with, as text."""

    kind: str
    name: str
    rule: Rule | None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    steal: bool = False
    given: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __call__(self, *args: object, **options: object) -> Policy:
        raise ScheduleError(
            *("PTO403", f"{KINDS[self.kind]}.{self.name} is called, and takes nothing"),
            loc=here(),
            fix=f"write {KINDS[self.kind]}.{self.name}",
        )

    def __str__(self) -> str:
        return f"{KINDS[self.kind]}.{self.name}"


@dataclass(frozen=True)
class _Registered:
    """A policy as it was registered."""

    rule: Callable[..., Any]
    pin: bool


Key = Callable[[TaskRecord], Any]


def _round_robin(t: Any) -> Any:
    return t.position % t.lanes


def _affinity(t: Any, key: Key) -> Any:
    return t.first_appearance(key_of(t, key)) % t.lanes


def _hash(t: Any, key: Key) -> Any:
    return cast(t.splitmix64(key_of(t, key)) % cast(t.lanes, DType.U64), DType.I64)


def _dispatch_by(t: Any, lane: Key) -> Any:
    return key_of(t, lane) % t.lanes


def _least_loaded(t: Any) -> Any:
    return t.least_loaded


def _longest_processing_time(t: Any, cost: Key | None) -> Any:
    return t.cost if cost is None else key_of(t, cost)


def _rate_limit(t: Any, per_ms: Fraction) -> Any:
    return (t.clock_khz * per_ms.denominator + (per_ms.numerator - 1)) // per_ms.numerator


def _unit(t: Any) -> Any:
    return t.unit


_REGISTRY: dict[tuple[str, str], _Registered] = {
    ("dispatch", "round_robin"): _Registered(_round_robin, pin=False),
    ("dispatch", "affinity"): _Registered(_affinity, pin=True),
    ("dispatch", "hash"): _Registered(_hash, pin=True),
    ("dispatch", "dispatch_by"): _Registered(_dispatch_by, pin=True),
    ("dispatch", "least_loaded"): _Registered(_least_loaded, pin=False),
    ("ready", "priority"): _Registered(key_of, pin=False),
    ("ready", "longest_processing_time"): _Registered(_longest_processing_time, pin=False),
    ("timing", "rate_limit"): _Registered(_rate_limit, pin=False),
    ("pools", "custom"): _Registered(key_of, pin=False),
    ("pools", "by_exec_unit"): _Registered(_unit, pin=False),
}


def register_policy(kind: str, name: str, rule: Callable[..., Any], *, pin: bool = False) -> None:
    """Make a policy that everybody can name: `register_policy("dispatch", "diagonal", lambda t: (t.b + t.h) % t.lanes)` gives
    `DispatchPolicy.diagonal(lanes=4)`.

    kind: what the rule, a function of the task and the arguments that the policy is used with, gives.
      "dispatch"  the home lane, taken modulo the lanes. Used with lanes=n, or without: as many as `streams`, else the arch, say.
                  pin: tasks really run on thread lane mod threads
      "ready"     the priority: of the ready tasks of a lane the one of the largest is taken first
      "timing"    cycles from the issue of the task to the next issue, at least
      "pools"     the number of the task's pool: `Pools.name({"big": 1, "small": 3}, ...)`
    The rule is traced when the policy is used, into an expression that the runtime evaluates for each task.

    The very rule may be registered again, as by a notebook's cell that is run twice. Raises ScheduleError for an unknown kind, a name that
    another rule has or that is no identifier, and a rule that is no function.
    """
    if kind not in KINDS:
        raise _wrong("register_policy", "kind", kind, ", ".join(KINDS), "name one of these kinds")
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise _wrong(
            "register_policy", "name", name, "an identifier", 'write register_policy("dispatch", "diagonal", ...)'
        )
    known = _REGISTRY.get((kind, name))
    if known is not None and known.pin == bool(pin) and _same_text(known.rule, rule):
        return
    if known is not None or name in dir(_CLASSES[kind]) or name in dir(type):
        raise _wrong("register_policy", "name", name, "a name that is new", "choose another name")
    if not callable(rule):
        raise _wrong("register_policy", "rule", rule, "a function of the task", "write lambda t: t.b % t.lanes")
    _REGISTRY[kind, name] = _Registered(rule, bool(pin))


def _same_text(a: object, b: object) -> bool:
    """Whether two functions are one, or made twice of the same text, with the same values around."""
    if not isinstance(a, FunctionType) or not isinstance(b, FunctionType):
        return a is b
    return a is b or (
        a.__globals__ is b.__globals__ and _code(a.__code__) == _code(b.__code__) and _around(a) == _around(b)
    )


def _code(code: CodeType) -> tuple[object, ...]:
    """What a function does, wherever it stands."""
    constants = [_code(c) if isinstance(c, CodeType) else (type(c), repr(c)) for c in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_flags


def _around(f: FunctionType) -> list[object]:
    """What a function uses of its surroundings: numbers and texts by value, all else by identity."""
    values = [
        *(f.__defaults__ or ()),
        *(f.__kwdefaults__ or {}).values(),
        *(c.cell_contents for c in f.__closure__ or ()),
    ]
    return [(type(x), repr(x)) if isinstance(x, (int, float, str, bytes)) else id(x) for x in values]


def _made(kind: str, name: str, *args: Any, **params: Any) -> Policy:
    """The registered policy, used with `args`."""
    known = _REGISTRY[kind, name]
    called = f"{KINDS[kind]}.{name}"
    rule = rule_of(called, known.rule, *args)
    if known.pin:
        params["pinned"] = True
    return Policy(kind, name, rule, params, given=tuple(_text(called, a) for a in args if a is not None))


def _text(policy: str, argument: object) -> str:
    """What `policy` is used with, as users write it: of a function of the task, its expression."""
    if not callable(argument):
        return str(argument)
    try:
        rule = str(rule_of(policy, argument))
    except (PtoError, TypeError):  # of a registered policy, which calls it with more than the task
        return getattr(argument, "__name__", "function")
    inside = rule[1:-1] if rule.startswith("(") and rule.endswith(")") else rule
    return inside.replace(COORDINATE, "t.")


def _lanes(name: str, lanes: int | None) -> int:
    return 0 if lanes is None else positive(name, "lanes", lanes, MOST_LANES)


class _Policies(type):
    kind = ""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        kind = next(k for k, c in KINDS.items() if c == cls.__name__)
        if (kind, name) in _REGISTRY:
            return _USED[kind](name)
        have = [n for n in vars(cls) if not n.startswith("_")]
        have += [n for k, n in _REGISTRY if k == kind and n not in have]
        raise UnsupportedNameError(
            "PTO001",
            f"{cls.__name__} has no {name}",
            values={"there is": ", ".join(have)},
            loc=here(),
            fix="use one of these, or register_policy",
        )


class DispatchPolicy(metaclass=_Policies):
    """How tasks get their home lanes. Lanes: 1 .. 65536; None: as many as `streams` around the scope, else the arch, say.

    With `affinity`, `hash` and `dispatch_by`, lane k is really thread k mod threads for the whole run; for others the lane is a hint, and
    idle threads take any ready task.
    """

    @staticmethod
    def round_robin(num_aicpus: int | None = None) -> Policy:
        """Task k of the scope (counted from 0 in program order) goes to lane k mod num_aicpus."""
        return _made("dispatch", "round_robin", lanes=_lanes("round_robin", num_aicpus))

    @staticmethod
    def affinity(key: Key, num_aicpus: int | None = None) -> Policy:
        """All tasks of one key share a lane: keys get lanes 0, 1, .. in order of first appearance, and again from 0. At most 65,536
        keys: more are a ScheduleError of the run."""
        return _made("dispatch", "affinity", key, lanes=_lanes("affinity", num_aicpus))

    @staticmethod
    def hash(key: Key, num_aicpus: int | None = None) -> Policy:
        """SplitMix64 of the key as u64, modulo the lanes: all tasks of one key share a lane, of any number of keys."""
        return _made("dispatch", "hash", key, lanes=_lanes("hash", num_aicpus))

    @staticmethod
    def dispatch_by(lane: Key, num_aicpus: int | None = None) -> Policy:
        """The lane itself, floored modulo the lanes."""
        return _made("dispatch", "dispatch_by", lane, lanes=_lanes("dispatch_by", num_aicpus))

    @staticmethod
    def least_loaded(num_aicpus: int | None = None) -> Policy:
        """The lane that the scope has assigned the fewest cycles so far; the lowest of several."""
        return _made("dispatch", "least_loaded", lanes=_lanes("least_loaded", num_aicpus))

    @staticmethod
    def work_steal(num_aicpus: int | None = None) -> Policy:
        """round_robin, and `ReadyPolicy.work_steal` of the same tasks: idle lanes take them from the longest queue."""
        made = _made("dispatch", "round_robin", lanes=_lanes("work_steal", num_aicpus))
        return replace(made, steal=True)


class ReadyPolicy(metaclass=_Policies):
    """Which of its ready tasks a lane takes first.

    fifo         the one that became ready first, ties in program order
    work_steal   as fifo; a lane that has none takes so from the longest queue of its pool
    """

    fifo = Policy("ready", "fifo", None)
    work_steal = Policy("ready", "work_steal", None, {"steal": True})

    @staticmethod
    def priority(priority: Key) -> Policy:
        """The one of the largest priority, an i64; then as fifo. Tasks without a priority have 0."""
        return _made("ready", "priority", priority)

    @staticmethod
    def longest_processing_time(cost: Key | None = None) -> Policy:
        """The one that takes longest: list scheduling by longest processing time first, within 4/3 of the best makespan for independent
        tasks (R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969). cost: of a task, by default its cycles."""
        return _made("ready", "longest_processing_time", cost)


class TimingPolicy(metaclass=_Policies):
    """When tasks are issued, and when those issued are released to become ready."""

    immediate = Policy("timing", "immediate", None)

    @staticmethod
    def batched(n: int) -> Policy:
        """Released n at a time in issue order, and whenever issue waits or ends."""
        return Policy("timing", "batched", None, {"batch": positive("batched", "n", n, MOST)})

    @staticmethod
    def interleaved(n: int) -> Policy:
        """Issue takes one task of each stream (mod n) in turn, among as many tasks as the window holds, never past one that it depends on,
        nor past a boundary. Of the whole workload."""
        return Policy("timing", "interleaved", None, {"turns": positive("interleaved", "n", n, MOST)})

    @staticmethod
    def rate_limit(tasks_per_ms: float) -> Policy:
        """At most so many tasks are issued a millisecond: ceil(clock_khz / tasks_per_ms) cycles from one to the next, at least."""
        ok = isinstance(tasks_per_ms, (int, float, np.integer, np.floating)) and not isinstance(tasks_per_ms, bool)
        if not ok or not 2**-20 <= tasks_per_ms <= 2**40:
            raise _wrong("rate_limit", "tasks_per_ms", tasks_per_ms, "2^-20 .. 2^40", "give a number of 2^-20 .. 2^40")
        return _made("timing", "rate_limit", Fraction(float(tasks_per_ms)).limit_denominator(2**20))


class Pools(metaclass=_Policies):
    """Which lanes tasks may run on. A dispatch of n lanes deals out n of each pool.

    single         all lanes are one pool
    by_exec_unit   two pools: tasks of kernels with matrix products run on lanes of the arch's cube cores, others on those of vector cores
    """

    single = Policy("pools", "single", None, {"names": ("all",), "lanes": (0,)})
    by_exec_unit = _made("pools", "by_exec_unit", names=("cube", "vector"), lanes=(0, 0))

    @staticmethod
    def custom(pool: Key, lanes: Mapping[str, int]) -> Policy:
        """Pool number `pool` of `lanes`, which gives each pool's lanes by name: `Pools.custom(lambda t: where(t.b < 2, 0, 1), {"big": 1, "small":
        3})`. A number that no pool has is a ScheduleError of the run."""
        return _made("pools", "custom", pool, **_pool_lanes("custom", lanes))


def _pool_lanes(what: str, lanes: object) -> dict[str, Any]:
    if not isinstance(lanes, Mapping) or not lanes or not all(isinstance(n, str) and n for n in lanes):
        raise _wrong(what, "lanes", lanes, "lanes by the names of pools", 'write {"big": 1, "small": 3}')
    counts = tuple(positive(what, f"the lanes of {n}", v, MOST_LANES) for n, v in lanes.items())
    if sum(counts) > MOST_LANES:
        raise _wrong(what, "lanes", lanes, f"{MOST_LANES} in all", "give fewer lanes")
    return {"names": tuple(str(n) for n in lanes), "lanes": counts}


def positive(what: str, field_: str, value: object, most: int) -> int:
    """`value` as an integer of 1 .. most. Raises ScheduleError."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= most:
        raise _wrong(what, field_, value, f"1 .. {most:,}", f"give an integer of 1 .. {most:,}")
    return int(value)


def _wrong(what: str, name: str, value: object, range_: str, fix: str) -> ScheduleError:
    return ScheduleError(
        "PTO403", f"{what}: {name} is {repr(value)[:80]}", values={"range": range_}, loc=here(), fix=fix
    )


_CLASSES: dict[str, type] = {"dispatch": DispatchPolicy, "ready": ReadyPolicy, "timing": TimingPolicy, "pools": Pools}


def _used_dispatch(name: str) -> Callable[..., Policy]:
    def use(*args: Any, lanes: int | None = None) -> Policy:
        return _made("dispatch", name, *args, lanes=_lanes(name, lanes))

    return use


def _used_pools(name: str) -> Callable[..., Policy]:
    def use(lanes: Mapping[str, int], *args: Any) -> Policy:
        return _made("pools", name, *args, **_pool_lanes(name, lanes))

    return use


# How policies that were registered are used.
_USED: dict[str, Callable[[str], Callable[..., Policy]]] = {
    "dispatch": _used_dispatch,
    "ready": lambda name: lambda *args: _made("ready", name, *args),
    "timing": lambda name: lambda *args: _made("timing", name, *args),
    "pools": _used_pools,
}
