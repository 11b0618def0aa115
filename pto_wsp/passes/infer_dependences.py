"""Write the proofs into the wir: which loops are independent, which arguments the run must track, which reads wait for tasks.

before:  parallel_for b in batch: Dense(4) {      after:  parallel_for[proof="independent"] b in batch: Dense(4) {
           task k[b](x=X[b], out=Y[b])                      task[tracked=[1]] k[b](x=X[b], out=Y[b])
         }                                                }
         task m[](x=Y[0], out=Z[0])                       task[tracked=[0, 1]] m[](x=Y[0], out=Z[0])
         n: i64 = item Z[0, 0]                            n: i64 = item[wait=true] Z[0, 0]
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.ir.core import Eqn, Param, Wir, written_tensors
from pto_wsp.ir.dependence import Verdict, analyse, read_at_issue, refuse_unordered


def infer_dependences(wir: Wir) -> Wir:
    """`proof` on every parallel_for; on every task that needs it, `tracked` (positions of arguments) and `waits` (positions of
    arguments whose gathers read indices that tasks write); `wait` on reads of what tasks write.

    proof: "independent"; "sizes" where a conflict depends on sizes bound later, which are asked then; "unknown" where nothing is
    decided. In both of the latter the run tracks. Raises RaceError for what `explicit` dependences leave unordered, and
    ScheduleError for dependences of a part of the workload.
    """
    found = analyse(wir)
    refuse_unordered(wir, found)
    written = written_tensors(wir)
    unproven = {id(loop) for _, _, loop in found.unproven}
    by_sizes = {id(loop) for _, _, loop, verdict in found.races if verdict is Verdict.SOME_SIZES}
    tracked: dict[int, list[int]] = {}
    for site, arg in sorted(found.tracked):
        tracked.setdefault(site, []).append(arg)
    site = 0

    def visit(eqn: Eqn) -> Eqn:
        nonlocal site
        params: dict[str, Param] = dict(eqn.params)
        waits = tuple(sorted({i for i, tensor in read_at_issue(eqn) if tensor in written}))
        if eqn.prim == "task":
            if site in tracked:
                params["tracked"] = tuple(tracked[site])
            site += 1
        if waits:
            params |= {"waits": waits} if eqn.prim == "task" else {"wait": True}
        if eqn.prim == "parallel_for":
            params["proof"] = "unknown" if id(eqn) in unproven else "sizes" if id(eqn) in by_sizes else "independent"
        regions = tuple(replace(r, eqns=tuple(visit(e) for e in r.eqns)) for r in eqn.regions)
        return replace(eqn, params=params, regions=regions)

    return replace(wir, body=replace(wir.body, eqns=tuple(visit(e) for e in wir.body.eqns)))
