"""Resolve scopes to attributes of each task; the innermost scope that names a property wins.

    before:  dispatch[lanes=4, policy="round_robin", lane=mod(position(), 4:i64)] {
               task k[](x=X[0], out=Y[0])
             }

    after:   task[dispatch=[0 4 false mod(position(), 4:i64)]] k[](x=X[0], out=Y[0])

A scope is one state for the whole run, so each gets a number. Rules are over the variables that the coordinates are. What is said of
the whole workload goes: `start`, `deps`, `trace`, turns, and the names and lanes of pools.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pto_wsp.ir.coordinates import Site, resolved
from pto_wsp.ir.core import Eqn, Literal, Param, Region, RuleCall, Wir
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.rule import Rule
from pto_wsp.ir.scopes import SCOPES, of_the_whole
from pto_wsp.ir.tasks import LOOPS


@dataclass(frozen=True)
class _Around:
    """A scope around a task: its number among those of its kind, and the loops inside of it."""

    eqn: Eqn
    number: int
    loops: tuple[Eqn, ...]


def resolve_schedules(wir: Wir) -> Wir:
    """wir without scopes. Tasks say, where there is one:

        dispatch=(scope, lanes, pinned, rule)     stream=(scope of streams, of stream_by, -1 without, count, 0 without, rule)
        timing=(scope, batch, rule)               window=(scope, tasks, bytes, mode), 0 without
        ready=(scope, steal, rule)                pool=(scope, rule)

    So does a pipeline, which is one task of the window around; tasks inside of its processes say nothing.

    Raises ScheduleError for what only the whole workload may say.
    """
    for prim in ("deps", "start", "pools", "timing", "trace"):
        of_the_whole(wir, prim)
    count = dict.fromkeys(SCOPES, 0)

    def region(r: Region, around: dict[str, _Around]) -> Region:
        return replace(r, eqns=tuple(e for x in r.eqns for e in visit(x, around)))

    def visit(eqn: Eqn, around: dict[str, _Around]) -> list[Eqn]:
        if eqn.prim == "task":
            return [replace(eqn, params={**eqn.params, **_attributes(wir, eqn, around)})]
        if eqn.prim == "pipeline":
            window = {"window": _window(around["window"])} if "window" in around else {}
            return [replace(eqn, params={**eqn.params, **window}, regions=tuple(region(r, {}) for r in eqn.regions))]
        if eqn.prim not in SCOPES:
            if eqn.prim in LOOPS:
                around = {k: replace(a, loops=(*a.loops, eqn)) for k, a in around.items()}
            return [replace(eqn, regions=tuple(region(r, around) for r in eqn.regions))]
        number = count[eqn.prim]
        count[eqn.prim] += 1
        return list(region(eqn.regions[0], {**around, eqn.prim: _Around(eqn, number, ())}).eqns)

    return replace(wir, body=region(wir.body, {}))


def _window(a: _Around) -> Param:
    p = a.eqn.params
    return (a.number, p.get("tasks", 0), p.get("bytes", 0), p["mode"])


def _attributes(wir: Wir, task: Eqn, around: dict[str, _Around]) -> dict[str, Param]:
    """What the scopes around a task say of it."""
    out: dict[str, Param] = {}

    def rule(a: _Around, param: str) -> Rule:
        said = a.eqn.params.get(param, const(0))
        assert isinstance(said, (Expr, Literal, RuleCall))
        return resolved(wir, a.eqn, said, Site(task, a.loops))

    for prim, a in around.items():
        p = a.eqn.params
        match prim:
            case "dispatch":
                out["dispatch"] = (a.number, p["lanes"], "pinned" in p, rule(a, "lane"))
            case "timing":
                out["timing"] = (a.number, p.get("batch", 1), rule(a, "distance"))
            case "window":
                out["window"] = _window(a)
            case "ready":
                out["ready"] = (a.number, "steal" in p, rule(a, "priority"))
            case "pools":
                out["pool"] = (a.number, rule(a, "pool"))
            case _:
                pass
    streams, by = around.get("streams"), around.get("stream_by")
    if streams or by:
        key = rule(by, "key") if by else RuleCall("position")
        count = streams.eqn.params["count"] if streams else 0
        out["stream"] = (streams.number if streams else -1, by.number if by else -1, count, key)
    return out
