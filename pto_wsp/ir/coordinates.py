"""What the coordinates of tasks are called, and rules of schedules for single tasks.

A coordinate answers to the name of its loop variable and, where the loop stands in the scope that asks, to that of its axis, and to its
place in the kernel's brackets, i0, i1, ..., where nothing is called so. A task also answers to the loops around it, as far as they
stand in the scope that asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pto_wsp.errors import Location, ScheduleError, here
from pto_wsp.ir.core import Axis, DType, Eqn, Literal, Region, RuleCall, View, Wir
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.rule import COORDINATE, RULE_OPS, Rule, mapped, rule_names, walk
from pto_wsp.ir.scopes import SCOPES, rules_of
from pto_wsp.ir.tasks import LOOPS


@dataclass(frozen=True, eq=False)
class Site:
    """A task, and the loops around it, outermost first."""

    eqn: Eqn
    loops: tuple[Eqn, ...]


def sites(region: Region, loops: tuple[Eqn, ...] = ()) -> Iterator[Site]:
    """The tasks of a region."""
    for eqn in region.eqns:
        if eqn.prim == "task":
            yield Site(eqn, loops)
        inside = (*loops, eqn) if eqn.prim in LOOPS else loops
        for r in eqn.regions:
            yield from sites(r, inside)


def variable_of(wir: Wir, loop: Eqn) -> str:
    """The variable that the user's loop variable is: of a sparse loop the index that it reads in each iteration."""
    return index_of_sparse(wir, loop) or loop.regions[0].params[0].name


def index_of_sparse(wir: Wir, loop: Eqn) -> str | None:
    """The scalar that a loop over a sparse row reads first: what the user's variable is."""
    axis = loop.params["axis"]
    assert isinstance(axis, Axis)
    data = next((a for a in wir.axes if a.kind == axis.kind == "Sparse" and a.name == axis.name), None)
    if data is None:
        return None
    for eqn in loop.regions[0].eqns:
        view = eqn.ins[0] if eqn.prim == "item" else None
        if isinstance(view, View) and view.tensor == data.tensors[1]:
            return eqn.outs[0].name
    return None


def _loop_names(wir: Wir, loop: Eqn) -> tuple[str, str, Expr]:
    """What a loop is called: by its variable and by its axis; and the variable."""
    axis = loop.params["axis"]
    assert isinstance(axis, Axis)
    return str(loop.params["loop"]), axis.name, var(variable_of(wir, loop))


def answers(wir: Wir, site: Site) -> dict[str, set[Expr]]:
    """What a task's coordinates answer to; then, for names that none has, the loops around it, and places."""
    return _places(site.eqn) | _named(wir, site)


def _named(wir: Wir, site: Site) -> dict[str, set[Expr]]:
    """`answers` without places."""
    loops = [_loop_names(wir, e) for e in site.loops]
    kept = site.eqn.params.get("names")
    out: dict[str, set[Expr]] = {}
    for k, c in enumerate(_coords(site.eqn)):
        names = [n for loop, axis, v in loops if v == c for n in (loop, axis)]
        names += [str(kept[k])] if isinstance(kept, tuple) and kept[k] else []
        for name in dict.fromkeys(names or _scalar_names(c)):
            out.setdefault(name, set()).add(c)
    around: dict[str, set[Expr]] = {}
    for loop, axis, v in loops:
        for name in dict.fromkeys((loop, axis)):
            around.setdefault(name, set()).add(v)
    return around | out


def _places(task: Eqn) -> dict[str, set[Expr]]:
    """Coordinates by place: as if those that `vmap` put there were not."""
    mapped = task.params.get("mapped", ())
    assert isinstance(mapped, tuple)
    in_brackets = (c for k, c in enumerate(_coords(task)) if k not in mapped)
    return {f"i{k}": {c} for k, c in enumerate(in_brackets)}


def _coords(task: Eqn) -> list[Expr]:
    coords = task.params["coords"]
    assert isinstance(coords, tuple)
    return [c for c in coords if isinstance(c, Expr)]


def _scalar_names(c: Expr) -> list[str]:
    """What the scalar that a coordinate is answers to: its name in the wir, and what the user called it; none of one that is no scalar."""
    atom = c.terms[0][0] if len(c.terms) == 1 and c.const == 0 and c.terms[0][1] == 1 else None
    if not isinstance(atom, str) or atom.startswith("$"):
        return []
    return list(dict.fromkeys((atom, re.sub(r"(\.\d+)+$", "", atom))))


def resolved(wir: Wir, scope: Eqn, rule: Rule, site: Site) -> Rule:
    """The rule of a scope for one task inside: coordinates are expressions, kernels are known. `site` has the loops inside of the
    scope. Raises ScheduleError for a coordinate that the task does not have."""
    known = answers(wir, site)
    kernel = wir.kernel(str(site.eqn.params["kernel"]))

    def coordinate(name: str) -> Expr:
        found = known.get(name, set())
        if len(found) != 1:
            raise _no_coordinate(scope, kernel.label, name, found, [_loop_names(wir, e) for e in site.loops], known)
        return next(iter(found))

    def leaf(r: Rule) -> Rule:
        match r:
            case Expr():
                return r.substitute({COORDINATE + n: coordinate(n) for n in _asked_for(r)})
            case RuleCall("coord", (default,), _, str(name)):
                return default if name not in known else coordinate(name)
            case RuleCall("kernel_is", _, _, str(name)):
                return Literal(kernel.label == name, DType.BOOL)
            case _:
                return r

    return mapped(rule, leaf)


def _asked_for(rule: Rule) -> list[str]:
    """The coordinates that a rule asks for without a default."""
    return sorted(n.removeprefix(COORDINATE) for n in rule_names(rule) if n.startswith(COORDINATE))


def _no_coordinate(
    scope: Eqn,
    kernel: str,
    name: str,
    found: set[Expr],
    loops: Sequence[tuple[str, str, Expr]],
    known: dict[str, set[Expr]],
) -> ScheduleError:
    what = "no coordinate" if not found else "more than one coordinate"
    by_name = [n for n in known if n[:1] != "i" or not n[1:].isdigit()]
    have = {e for n in by_name for e in known[n]}
    others = [n for n in known if all(n not in (a, b) for a, b, _ in loops) and (n in by_name or not known[n] <= have)]
    return ScheduleError(
        "PTO411",
        f"{scope.prim}: tasks of kernel {kernel} have {what} {name}",
        values={
            "loops": ", ".join(dict.fromkeys(a for a, _, _ in loops)) or "none",
            "axes": ", ".join(dict.fromkeys(b for _, b, _ in loops)) or "none",
            **({"others": ", ".join(others)} if others else {}),
        },
        loc=scope.loc or here(),
        fix=f'name one of these, or say what the others have: t.get("{name}", 0)'
        if not found
        else "give the loops and axes names that differ, and ask for one of these",
    )


def check_rules(wir: Wir) -> None:
    """Raise ScheduleError where a rule names a coordinate that a task it is for does not have."""

    def visit(region: Region) -> None:
        for eqn in region.eqns:
            if eqn.prim in SCOPES:
                check_scope(wir, eqn)
            for r in eqn.regions:
                visit(r)

    visit(wir.body)


def check_scope(wir: Wir, scope: Eqn) -> None:
    """`check_rules` of one scope."""
    for _, rule in rules_of(scope):
        calls = [r for r in walk(rule) if isinstance(r, RuleCall)]
        facts = [r for r in calls if r.text is None and not r.args and r.loc is not None]
        asks = any(r.text is not None for r in calls) or bool(_asked_for(rule))
        for site in sites(scope.regions[0]) if asks or facts else ():
            resolved(wir, scope, rule, site)
            _refuse_hidden(wir, scope, facts, site)


def _refuse_hidden(wir: Wir, scope: Eqn, facts: Sequence[RuleCall], site: Site) -> None:
    """Refuse what a user's function asks where the task has a coordinate of that name as well."""
    for fact in facts:
        if fact.op in answers(wir, site):
            raise ScheduleError(
                "PTO156",
                f"{scope.prim}: t.{fact.op} is no coordinate, and tasks have a coordinate {fact.op} too",
                values={
                    f"t.{fact.op}": RULE_OPS[fact.op].doc,
                    "kernel": wir.kernel(str(site.eqn.params["kernel"])).label,
                    "scope": scope.loc or scope.prim,
                },
                loc=fact.loc,
                fix=f'ask for the coordinate by t.get("{fact.op}"), or give its loop and axis other names',
            )


def check_kept(before: Wir, after: Wir) -> None:
    """Raise ScheduleError where a rewrite takes away a coordinate that a rule asks for with a default, which would now decide."""
    had, lacked = _asked(before)
    for question, scope in _asked(after)[1].items():
        if question in had and question not in lacked:
            *_, kernel, name = question
            raise ScheduleError(
                "PTO411",
                f"{scope.prim}: tasks of kernel {kernel} would have no coordinate {name} any more",
                loc=scope.loc or here(),
                fix=f"rewrite the loop first, or give the tasks the coordinate: {kernel}[{name}](...)",
            )


_Question = tuple[Location | None, str, Rule, Location | None, str, str]
"""Which scope asks, with which rule, which task, of which kernel, for which coordinate. Scopes and tasks keep the very location that they
were traced with, which tells them from others on the same line."""


def _asked(wir: Wir) -> tuple[dict[_Question, Eqn], dict[_Question, Eqn]]:
    """Coordinates that rules ask for with a default, or by what may be a place: of tasks that have them by name, and of tasks that do
    not."""
    had: dict[_Question, Eqn] = {}
    lacked: dict[_Question, Eqn] = {}
    for scope in (e for top in wir.body.eqns for e in top.walk() if e.prim in SCOPES):
        for _, rule in rules_of(scope):
            names = {str(r.text) for r in walk(rule) if isinstance(r, RuleCall) and r.op == "coord"}
            names |= {n for n in _asked_for(rule) if n[:1] == "i" and n[1:].isdigit()}
            for site in sites(scope.regions[0]) if names else ():
                known = _named(wir, site)
                for name in names:
                    kernel = wir.kernel(str(site.eqn.params["kernel"])).label
                    question = (scope.loc, scope.prim, rule, site.eqn.loc, kernel, name)
                    (had if name in known else lacked)[question] = scope
    return had, lacked
