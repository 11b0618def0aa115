"""Resolve scopes to attributes of each task; the innermost scope that names a property wins.

    before:  dispatch[policy=round_robin(4)] {          after:  task[dispatch=[0 round_robin(4)]] k[](x=X[0], out=Y[0])
               task k[](x=X[0], out=Y[0])
             }

A scope is one state for the whole run, so each gets a number.
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.ir.core import Eqn, Param, Region, Wir
from pto_wsp.ir.tasks import SCOPES


def resolve_schedules(wir: Wir) -> Wir:
    """wir without scopes: tasks say `dispatch=(scope, policy)` and `window=(scope, tasks, mode)`."""
    count = dict.fromkeys(SCOPES, 0)

    def visit(eqn: Eqn, scope: dict[str, Param]) -> list[Eqn]:
        if eqn.prim == "task":
            return [replace(eqn, params={**eqn.params, **scope})]
        if eqn.prim in SCOPES:
            number = count[eqn.prim]
            count[eqn.prim] += 1
            state = (
                (number, eqn.params["policy"])
                if eqn.prim == "dispatch"
                else (number, eqn.params["tasks"], eqn.params["mode"])
            )
            inner = {**scope, eqn.prim: state}
            return [e for x in eqn.regions[0].eqns for e in visit(x, inner)]
        return [
            replace(
                eqn,
                regions=tuple(Region(r.params, tuple(e for x in r.eqns for e in visit(x, scope))) for r in eqn.regions),
            )
        ]

    return replace(wir, body=Region((), tuple(e for x in wir.body.eqns for e in visit(x, {}))))
