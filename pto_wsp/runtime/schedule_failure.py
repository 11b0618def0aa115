"""Failures of schedules: rules without a value, windows that hold too much, deadlocks."""

from __future__ import annotations

from collections.abc import Iterator

from pto_wsp.errors import (
    BoundsError,
    ExecutionError,
    InternalError,
    PtoError,
    ScheduleError,
    WindowError,
)
from pto_wsp.ir.core import Eqn, Region, Wir
from pto_wsp.ir.scopes import SCOPES

Values = dict[str, object]

_WHOSE = ("dispatch", "stream_by", "ready", "timing", "pools")
_WHAT = ("the lane", "the stream", "the priority", "the cycles until the next issue", "the pool")

# By the core's RuleStatus and PlacingStatus (csrc/include/pto_wsp/{rule,placer}.hpp).
_STATUS: dict[int, tuple[str, type[PtoError], str, str]] = {
    1: ("PTO712", BoundsError, ": an integer beyond 64 bits", "use smaller numbers"),
    2: ("PTO711", ExecutionError, ": a division by zero", "divide by what is not 0"),
    3: ("PTO716", ExecutionError, ": a shift outside of 0 .. 63", "shift by 0 .. 63"),
    4: ("PTO717", BoundsError, ": a cast of a number that the type does not hold", "cast smaller numbers"),
    5: (
        *("PTO742", ScheduleError, ": more than 65,536 different keys"),
        "use DispatchPolicy.hash, which remembers no keys",
    ),
    16: ("PTO742", ScheduleError, " is {}", "give a number that a pool has, from 0"),
    17: ("PTO742", ScheduleError, " is {}", "give 0 or more"),
}


def rule_failure(wir: Wir, task: Eqn, numbers: list[int], values: Values) -> PtoError:
    """A rule of the schedule has no value for a task."""
    which, status, value = numbers
    scope = next((e for e in reversed(around(wir, task)) if e.prim == _WHOSE[which]), None)
    loc = scope.loc if scope is not None and scope.loc is not None else task.loc
    what, whose = _WHAT[which], "" if scope is None else f" by {scope.params.get('policy', scope.prim)}"
    if status not in _STATUS:
        raise InternalError(f"the core reports the status {status} of a rule")
    code, cls, why, fix = _STATUS[status]
    return cls(code, f"{what}{whose}{why.format(value)}", values=values, loc=loc, fix=fix)


def window_failure(wir: Wir, numbers: list[int]) -> PtoError:
    """A window of mode ABORT had to hold more than it may."""
    place, needed, limit, is_bytes = numbers
    scope = windows(wir)[place - 1]
    unit = "bytes" if is_bytes else "tasks"
    return WindowError(
        "PTO741",
        f"the run has {needed} {unit} in flight, in a window of {limit}",
        values={"needed": f"{needed} {unit}", "window": f"{limit} {unit}"},
        loc=scope.loc,
        fix=f"give the window {needed} {unit}, or let it stall: WindowMode.STALL",
    )


def around(wir: Wir, task: Eqn) -> list[Eqn]:
    """The scopes around a task, outermost first."""

    def visit(region: Region, outer: list[Eqn]) -> list[Eqn] | None:
        for eqn in region.eqns:
            if eqn is task:
                return outer
            inside = [*outer, eqn] if eqn.prim in SCOPES else outer
            for r in eqn.regions:
                found = visit(r, inside)
                if found is not None:
                    return found
        return None

    return visit(wir.body, []) or []


def windows(wir: Wir) -> list[Eqn]:
    """The windows that tasks count in, in the order in which the plan has them behind the one that always holds."""
    out: list[Eqn] = []

    def visit(region: Region, inner: Eqn | None) -> Iterator[Eqn]:
        for eqn in region.eqns:
            if eqn.prim in ("task", "pipeline") and inner is not None:
                yield inner
            for r in eqn.regions if eqn.prim != "pipeline" else ():
                yield from visit(r, eqn if eqn.prim == "window" else inner)

    for scope in visit(wir.body, None):
        if not any(scope is known for known in out):
            out.append(scope)
    return out
