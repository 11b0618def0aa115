"""Resolve scopes to attributes of each task; the innermost scope that names a property wins.

    before:  dispatch[policy=round_robin(4)] {          after:  task[dispatch=[0 round_robin(4)]] k[](x=X[0], out=Y[0])
               task k[](x=X[0], out=Y[0])
             }

A scope is one state for the whole run, so each gets a number. How dependences are found is said of the whole workload, and goes.
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.errors import InternalError
from pto_wsp.ir.core import Eqn, Param, Region, Wir
from pto_wsp.ir.tasks import SCOPES, deps_mode


def resolve_schedules(wir: Wir) -> Wir:
    """wir without scopes: tasks say `dispatch=(scope, policy)` and `window=(scope, tasks, mode)`.

    Raises ScheduleError for dependences of a part of the workload.
    """
    deps_mode(wir)
    count = dict.fromkeys(SCOPES, 0)

    def region(r: Region, scope: dict[str, Param]) -> Region:
        return replace(r, eqns=tuple(e for x in r.eqns for e in visit(x, scope)))

    def visit(eqn: Eqn, scope: dict[str, Param]) -> list[Eqn]:
        if eqn.prim == "task":
            return [replace(eqn, params={**eqn.params, **scope})]
        if eqn.prim not in SCOPES:
            return [replace(eqn, regions=tuple(region(r, scope) for r in eqn.regions))]
        number = count[eqn.prim]
        count[eqn.prim] += 1
        return list(region(eqn.regions[0], {**scope, **_state(eqn, number)}).eqns)

    return replace(wir, body=region(wir.body, {}))


def _state(eqn: Eqn, number: int) -> dict[str, Param]:
    """What a scope says of the tasks inside."""
    match eqn.prim:
        case "dispatch":
            return {"dispatch": (number, eqn.params["policy"])}
        case "window":
            return {"window": (number, eqn.params["tasks"], eqn.params["mode"])}
        case "deps":
            return {}
        case _:
            raise InternalError(f"{eqn.prim} is no scope")
