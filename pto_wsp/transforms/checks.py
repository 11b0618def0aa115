"""What schedule scopes can be refused for before anything runs: rules without a value, and windows that no task fits; and what is only
worth a warning: kernels and coordinates that are not there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pto_wsp.errors import Location, PtoError, ScheduleError, ScheduleWarning, here
from pto_wsp.ir.coordinates import Site, answers, resolved, sites
from pto_wsp.ir.core import At, Direction, Eqn, Region, RuleCall, Slice, TileType, View, Wir
from pto_wsp.ir.rule import RULE_OPS, Rule, TaskFacts, evaluate_rule, rule_names, walk
from pto_wsp.ir.scalars import Number
from pto_wsp.ir.scopes import SCOPES, rules_of
from pto_wsp.transforms.loops import axis, label, variable


def refuse_without_value(wir: Wir, scope: Eqn) -> None:
    """Raise ScheduleError where a rule, or a part of one, has no value for the first or the last iteration of loops whose sizes are
    numbers, and where it gives a pool that there is not."""
    conditional = {id(t) for e in scope.walk() if e.prim == "cond" for t in e.walk()}
    for what, rule in rules_of(scope):
        for site in (s for s in sites(scope.regions[0]) if id(s.eqn) not in conditional):
            for_task = resolved(wir, scope, rule, site)
            for part in walk(for_task):
                for env in _corners(site, part):
                    value = _value(scope, what, part, site, env)
                    if part is for_task and what == "pool":
                        _refuse_pool(scope, value, site, env)


def _value(scope: Eqn, what: str, rule: Rule, site: Site, env: dict[str, int]) -> Number:
    try:
        return evaluate_rule(rule, TaskFacts(env=env))
    except PtoError as e:
        raise ScheduleError(
            "PTO417",
            f"{scope.prim}: the {what} has no value: {e.what}",
            values={"iteration": _iteration(site, env), **e.values},
            loc=scope.loc or here(),
            fix="use smaller numbers, and divisors other than 0",
        ) from e


def _refuse_pool(scope: Eqn, value: Number, site: Site, env: dict[str, int]) -> None:
    lanes = scope.params["lanes"]
    assert isinstance(lanes, tuple)
    if not 0 <= value < len(lanes):
        raise ScheduleError(
            "PTO417",
            f"the pool of a task is {value}",
            values={"iteration": _iteration(site, env), "pools": f"0 .. {len(lanes) - 1}"},
            loc=scope.loc or here(),
            fix="give a number that a pool has, from 0",
        )


def _iteration(site: Site, env: dict[str, int]) -> str:
    names = {variable(e): label(e) for e in site.loops}
    return ", ".join(f"{names[n]}={v}" for n, v in env.items()) or "every"


def _corners(site: Site, rule: Rule) -> Iterator[dict[str, int]]:
    """The first and the last iteration around a task, where the rule depends on them alone and there are any."""
    if any(isinstance(r, RuleCall) and r.op in RULE_OPS and r.op != "splitmix64" for r in walk(rule)):
        return
    last: dict[str, int] = {}
    for loop in site.loops:
        extent = axis(loop).extent
        if len(loop.regions) > 1 or not extent.is_const or extent.const < 1:
            return
        last[variable(loop)] = extent.const - 1
    if rule_names(rule) <= set(last):
        yield dict.fromkeys(last, 0)
        yield last


_told: dict[Any, Any] = {}
"""What Python keeps of warnings that it shows once."""


def warn_of_kernels(wir: Wir) -> None:
    """A ScheduleWarning, at the line of the policy, for each name of a kernel that `t.kernel` is compared with and no kernel has."""
    have = sorted({k.label for k in wir.kernels})
    for name, loc in _named(wir, "kernel_is"):
        if name not in have:
            text = (
                f't.kernel == "{name}" holds for no task: workload {wir.name} has no kernel of that name; '
                f"{_instead(name, have, 'it has')} A policy for several workloads compares with the kernel itself, without quotes."
            )
            warnings.warn_explicit(text, ScheduleWarning, loc.file, loc.line, registry=_told)


def warn_of_coordinates(wir: Wir) -> None:
    """A ScheduleWarning, at the line of the policy, for each name that a function for one workload asks `t.get(name, default)` for and no
    task has."""
    asked = list(_named(wir, "coord"))
    found = [answers(wir, site) for site in sites(wir.body)] if asked else []
    have = set[str]().union(*found)
    named = sorted(n for n in have if n[:1] != "i" or not n[1:].isdigit())
    for name, loc in asked:
        if name not in have and found:
            text = (
                f't.get("{name}", ...) is its default for every task: none of workload {wir.name} has such a coordinate; '
                f"{_instead(name, named, 'they have')} A rule for several workloads is registered: register_policy."
            )
            warnings.warn_explicit(text, ScheduleWarning, loc.file, loc.line, registry=_told)


def _named(wir: Wir, op: str) -> Iterator[tuple[str, Location]]:
    """What users' functions ask for by name, with the line that does."""
    scopes = (e for top in wir.body.eqns for e in top.walk() if e.prim in SCOPES)
    calls = (r for e in scopes for _, rule in rules_of(e) for r in walk(rule) if isinstance(r, RuleCall))
    return ((r.text, r.loc) for r in calls if r.op == op and r.text is not None and r.loc is not None)


def _instead(name: str, have: list[str], there_is: str) -> str:
    near = get_close_matches(name, have, 1)
    return f'did you mean "{near[0]}"?' if near else f"{there_is} {', '.join(have) or 'none'}."


def refuse_small_window(wir: Wir, scope: Eqn, size: int) -> None:
    """Raise ScheduleError where a task that counts in a window of `size` bytes writes more than that."""
    for task in _counted(scope.regions[0]):
        written = _written_bytes(wir, task)
        if written > size:
            kernel = wir.kernel(str(task.params["kernel"])).label
            raise ScheduleError(
                "PTO403",
                f"a window of {size} bytes, where a task of kernel {kernel} writes {written}",
                values={"task": task.loc or kernel},
                loc=scope.loc or here(),
                fix=f"give it {written} bytes or more",
            )


def _counted(region: Region) -> Iterator[Eqn]:
    """The tasks that have no other window around them."""
    for eqn in region.eqns:
        if eqn.prim == "task":
            yield eqn
        elif eqn.prim != "window":
            for r in eqn.regions:
                yield from _counted(r)


def _written_bytes(wir: Wir, task: Eqn) -> int:
    """Bytes that a task is sure to write: of tiles without a tail."""
    total = 0
    for p, x in zip(wir.kernel(str(task.params["kernel"])).params, task.ins, strict=True):
        if p.direction is Direction.IN or not isinstance(p.type, TileType) or not isinstance(x, View):
            continue
        if all(isinstance(d, (At, Slice)) for d in x.dims):
            total += p.type.rows * p.type.cols * p.type.dtype.itemsize
    return total
