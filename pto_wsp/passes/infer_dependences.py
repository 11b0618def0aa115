"""Write the proofs into the wir: which loops are independent, which arguments the run must track.

before:  parallel_for b in batch: Dense(4) {      after:  parallel_for[proof="independent"] b in batch: Dense(4) {
           task k[b](x=X[b], out=Y[b])                      task[tracked=[1]] k[b](x=X[b], out=Y[b])
         }                                                }
         task m[](x=Y[0], out=Z[0])                       task[tracked=[0]] m[](x=Y[0], out=Z[0])
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.ir.core import Eqn, Region, Wir
from pto_wsp.ir.dependence import Verdict, analyse


def infer_dependences(wir: Wir) -> Wir:
    """`proof` on every parallel_for, `tracked` (positions of arguments) on every task that needs it.

    proof: "independent"; "sizes" where a conflict depends on sizes bound later, which are asked then; "unknown" where nothing is
    decided. In both of the latter the run tracks.
    """
    found = analyse(wir)
    unproven = {id(e) for e in found.unproven}
    by_sizes = {id(loop) for _, _, loop, verdict in found.races if verdict is Verdict.SOME_SIZES}
    tracked: dict[int, list[int]] = {}
    for site, arg in sorted(found.tracked):
        tracked.setdefault(site, []).append(arg)
    site = 0

    def visit(eqn: Eqn) -> Eqn:
        nonlocal site
        if eqn.prim == "task":
            params = dict(eqn.params)
            if site in tracked:
                params["tracked"] = tuple(tracked[site])
            site += 1
            return replace(eqn, params=params)
        new = replace(eqn, regions=tuple(Region(r.params, tuple(visit(e) for e in r.eqns)) for r in eqn.regions))
        if eqn.prim == "parallel_for":
            proof = "unknown" if id(eqn) in unproven else "sizes" if id(eqn) in by_sizes else "independent"
            new = replace(new, params={**eqn.params, "proof": proof})
        return new

    return replace(wir, body=Region((), tuple(visit(e) for e in wir.body.eqns)))
