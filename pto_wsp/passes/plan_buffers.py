"""Write down how long temporaries live: memory is acquired before their first use and released after their last.

    before:  task k[](x=X[0], y=T[0])          after:  acquire T
             task k[](x=T[0], y=Y[0])                  task k[](x=X[0], y=T[0])
                                                       task k[](x=T[0], y=Y[0])
                                                       release T

Both stand in the innermost region around all uses that is in no parallel loop, whose iterations run at once. A temporary whose
elements a loop's body always writes before it reads them is acquired anew in each iteration; else it keeps them for the next.
Where that is not known of the first use after acquiring, the memory begins as zeros: what a run gives never depends on the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pto_wsp.ir.core import Eqn, Param, Region, Role, Var, Wir
from pto_wsp.ir.coverage import Uses, is_written_first, writes_first
from pto_wsp.ir.tasks import PARTS


def plan_buffers(wir: Wir) -> Wir:
    """wir with `acquire` and `release` of every temporary that is used; in a chain of layers two are held at a time."""
    temporaries = {v.name: v for v in wir.tensors if wir.tensor_type(v.name).role is Role.TEMPORARY}
    if not temporaries:
        return wir
    return replace(wir, body=_place(wir, Uses(), wir.body, temporaries))


def _place(wir: Wir, uses: Uses, region: Region, temporaries: Mapping[str, Var]) -> Region:
    """`region` with the lives of these temporaries, all of whose uses are in it."""
    users = uses.users(region)
    before: dict[int, list[Eqn]] = {}
    after: dict[int, list[Eqn]] = {}
    eqns = list(region.eqns)
    inner: dict[tuple[int, int], dict[str, Var]] = {}  # those that live within one region of one equation
    for v in (temporaries[n] for n in temporaries if n in users):
        first, last = users[v.name][0], users[v.name][-1]
        inside = [k for k, r in enumerate(region.eqns[first].regions) if v.name in uses.users(r)]
        if first == last and len(inside) == 1 and _lives_within(wir, uses, region.eqns[first], inside[0], v):
            inner.setdefault((first, inside[0]), {})[v.name] = v
            continue
        for k, prim, at in ((first, "acquire", before), (last, "release", after)):
            params = _begin(wir, uses, region.eqns[first], v) if prim == "acquire" else {}
            if eqns[k].prim in PARTS:
                eqns[k] = _in_part(eqns[k], v, prim, params)
            else:
                at.setdefault(k, []).append(Eqn(prim, ins=(v,), params=params, loc=region.eqns[k].loc))
    for (k, part), those in inner.items():
        eqns[k] = _with_region(eqns[k], part, _place(wir, uses, eqns[k].regions[part], those))
    # what was acquired last is released first, so that lives nest where they can
    return replace(
        region,
        eqns=tuple(e for k, eqn in enumerate(eqns) for e in (*before.get(k, ()), eqn, *reversed(after.get(k, ())))),
    )


def _lives_within(wir: Wir, uses: Uses, eqn: Eqn, part: int, v: Var) -> bool:
    """Whether no other iteration or region than this one needs what the temporary holds."""
    if eqn.prim == "seq_for":
        return part == 0 and is_written_first(wir, uses, eqn.regions[0], v.name, {})
    return eqn.prim in (*PARTS, "cond")


def _begin(wir: Wir, uses: Uses, first: Eqn, v: Var) -> dict[str, Param]:
    """How its memory begins: `first` is what uses it first."""
    return {} if writes_first(wir, uses, first, v.name, {}) else {"zero": True}


def _in_part(eqn: Eqn, v: Var, prim: str, params: dict[str, Param]) -> Eqn:
    """Acquire before the first use in the first part that has one, or release after the last in the last."""
    uses = Uses()  # of what other temporaries may have changed
    parts = [i for i, r in enumerate(eqn.regions) if v.name in uses.users(r)]
    part = parts[0] if prim == "acquire" else parts[-1]
    region = eqn.regions[part]
    users = uses.users(region)[v.name]
    k = users[0] if prim == "acquire" else users[-1]
    user = region.eqns[k]
    if user.prim in PARTS:
        new = (_in_part(user, v, prim, params),)
    else:
        mark = Eqn(prim, ins=(v,), params=params, loc=user.loc)
        new = (mark, user) if prim == "acquire" else (user, mark)
    return _with_region(eqn, part, replace(region, eqns=(*region.eqns[:k], *new, *region.eqns[k + 1 :])))


def _with_region(eqn: Eqn, part: int, new: Region) -> Eqn:
    return replace(eqn, regions=(*eqn.regions[:part], new, *eqn.regions[part + 1 :]))
