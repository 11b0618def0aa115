"""Loops of a workload by name, and the surgery that rewrites of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pto_wsp.errors import ScheduleError, here
from pto_wsp.ir.core import Axis, Eqn, IndexType, Param, Region, Var, View, Wir
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.rename import Renaming
from pto_wsp.ir.tasks import LOOPS

Route = tuple[tuple[int, int], ...]
"""The way from the root to a body: which equation of a body, and which of its regions."""


@dataclass(frozen=True)
class Place:
    """A loop: the route of the body it stands in, its position there, and the loops around it, itself last."""

    route: Route
    index: int
    around: tuple[Eqn, ...]

    @property
    def loop(self) -> Eqn:
        return self.around[-1]


def variable(loop: Eqn) -> str:
    """The name of a loop's variable in the wir."""
    return loop.regions[0].params[0].name


def label(loop: Eqn) -> str:
    """What the user calls a loop."""
    return str(loop.params["loop"])


def axis(loop: Eqn) -> Axis:
    out = loop.params["axis"]
    assert isinstance(out, Axis)
    return out


def places(wir: Wir) -> Iterator[Place]:
    """Every loop, in program order; schedules, conditions and parts may stand between."""

    def visit(region: Region, route: Route, around: tuple[Eqn, ...]) -> Iterator[Place]:
        for k, eqn in enumerate(region.eqns):
            inner = around
            if eqn.prim in LOOPS:
                inner = (*around, eqn)
                yield Place(route, k, inner)
            for r, body in enumerate(eqn.regions):
                yield from visit(body, (*route, (k, r)), inner)

    return visit(wir.body, (), ())


def find(wir: Wir, what: str, name: str) -> Place:
    """The loop that `name` says: a label "t"; labels from outside in "b/t", of which the first may be any loop; or "/b/t.1", the
    whole way by names of the wir. Raises ScheduleError where there is none, or more than one.
    """
    everything = list(places(wir))
    found = [p for p in everything if isinstance(name, str) and _answers(p, name)]
    if len(found) == 1:
        return found[0]
    paths = ["/" + "/".join(map(variable, p.around)) for p in (found or everything)]
    raise ScheduleError(
        "PTO408",
        f"{what}: {'no loop is' if not found else f'{len(found)} loops are'} called {name!r}",
        values={"loops": ", ".join(paths) or "none"},
        loc=here(),
        fix="name a loop by its variable, by a path of variables such as b/t, or by one of the paths above",
    )


def _answers(p: Place, name: str) -> bool:
    if name.startswith("/"):
        return name == "/" + "/".join(map(variable, p.around))
    parts = name.split("/")
    return parts == [label(e) for e in p.around][-len(parts) :]


def at(wir: Wir, name: str) -> Place:
    """The loop whose variable in the wir is `name`."""
    return next(p for p in places(wir) if variable(p.loop) == name)


def refuse(what: str, why: str, at: Eqn, fix: str) -> ScheduleError:
    """The error of a rewrite that would change what the workload means."""
    return ScheduleError("PTO409", f"{what}: {why}", loc=at.loc or here(), fix=fix)


def refuse_while(what: str, loop: Eqn) -> None:
    """Loops with a condition end where it says, which a rewrite of their extent cannot keep."""
    if len(loop.regions) > 1:
        raise refuse(what, f"the loop over {label(loop)} has a while_ condition", loop, "rewrite a loop without while_")


def replaced(wir: Wir, p: Place, new: Sequence[Eqn]) -> Wir:
    """The workload with `new` in the place of a loop."""

    def visit(region: Region, route: Route) -> Region:
        if not route:
            return replace(region, eqns=(*region.eqns[: p.index], *new, *region.eqns[p.index + 1 :]))
        (k, r), rest = route[0], route[1:]
        eqn = region.eqns[k]
        regions = list(eqn.regions)
        regions[r] = visit(regions[r], rest)
        eqns = list(region.eqns)
        eqns[k] = replace(eqn, regions=tuple(regions))
        return replace(region, eqns=tuple(eqns))

    return replace(wir, body=visit(wir.body, p.route))


def without(loop: Eqn, value: Expr, renamed: Mapping[str, str] | None = None) -> tuple[Eqn, ...]:
    """The body of a loop for the iteration `value`, with new names for variables that it binds."""
    name = variable(loop)
    called = name if axis(loop).kind != "Sparse" else _index_of(loop) or name
    new = Substitution(values=renamed or {}, loops={name: value}, labels={called: label(loop)})
    return tuple(map(new.eqn, loop.regions[0].eqns))


def _index_of(loop: Eqn) -> str | None:
    """The scalar that a loop over a sparse row reads first: what the user's variable is."""
    for eqn in loop.regions[0].eqns:
        view = eqn.ins[0] if eqn.prim == "item" else None
        if isinstance(view, View) and variable(loop) in view.names():
            return eqn.outs[0].name
    return None


def loop_over(like: Eqn, name: str, called: str, over: Axis, body: Sequence[Eqn]) -> Eqn:
    """A loop of the kind of another, with a variable and an axis of its own."""
    params: dict[str, Param] = {"axis": over, "loop": called}
    return Eqn(like.prim, (), (), params, (Region((Var(name, IndexType()),), tuple(body)),), like.loc)


def bound_names(eqns: Sequence[Eqn]) -> set[str]:
    """Every name that these equations bind: loop variables, scalars, tokens."""
    every = [e for top in eqns for e in top.walk()]
    return {v.name for e in every for v in e.outs} | {v.name for e in every for r in e.regions for v in r.params}


@dataclass(frozen=True)
class Substitution(Renaming):
    """Loop variables become expressions, and other variables get new names. Tasks keep the names of their coordinates."""

    loops: Mapping[str, Expr] = field(default_factory=dict[str, Expr])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def expr(self, e: Expr) -> Expr:
        renamed = super().expr(e)
        return renamed.substitute({n: self.loops[n] for n in renamed.names() if n in self.loops})

    def eqn(self, eqn: Eqn) -> Eqn:
        new = super().eqn(eqn)
        return replace(new, params={**new.params, **_names(eqn, self.labels)}) if eqn.prim == "task" else new


def _names(task: Eqn, labels: Mapping[str, str]) -> dict[str, Param]:
    """`names` of a task whose coordinates change: coordinates that were loop variables are still called as these."""
    coords, names = task.params["coords"], task.params.get("names")
    assert isinstance(coords, tuple)
    known = names if isinstance(names, tuple) else ("",) * len(coords)
    kept = tuple(
        n or next((label for v, label in labels.items() if c == var(v)), "") for n, c in zip(known, coords, strict=True)
    )
    return {"names": kept} if any(kept) else {}
