"""What a device of a mesh does between the collectives of its workload: workloads of their own, and the collectives between them.

    before:  parallel_for i { task k[i](x=x[i, ...], y=y[i, ...]) }       after:  a workload that writes y
             allreduce[axes=["x"]] y z                                            allreduce[axes=["x"]] y z
             parallel_for i { task l[i](x=z[i, ...], y=r[i, ...]) }               a workload that reads z and writes r

A tensor that several of them use is an argument of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pto_wsp.ir.collectives import COLLECTIVES, operands
from pto_wsp.ir.core import Eqn, Region, Role, TensorType, TokenType, Var, Wir
from pto_wsp.ir.coverage import every_view
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import bound_vars


def segments(wir: Wir) -> list[Wir | Eqn]:
    """The workloads between the collectives of a wir, and those, in order. The workloads are of one device: their tensors have no layouts."""
    pieces = list(_pieces(wir.body.eqns))
    used = [_tensors(p) for p in pieces]
    out: list[Wir | Eqn] = []
    for k, piece in enumerate(pieces):
        if isinstance(piece, Eqn):
            out.append(piece)
            continue
        others = frozenset(n for j, names in enumerate(used) if j != k for n in names)
        out.append(_part(wir, piece, f"{wir.name}.{k}", used[k], others))
    return out


def _tensors(piece: Eqn | tuple[Eqn, ...]) -> frozenset[str]:
    if isinstance(piece, Eqn):
        return frozenset(x.name for x in operands(piece))
    return frozenset(v.tensor for v in every_view(piece))


def _pieces(eqns: Sequence[Eqn]) -> Iterator[Eqn | tuple[Eqn, ...]]:
    """Collectives, and what stands between them, within the schedules that stood around it."""
    alone: list[Eqn] = []
    for eqn in eqns:
        if not any(e.prim in COLLECTIVES for e in eqn.walk()):
            alone.append(eqn)
            continue
        if alone:
            yield tuple(alone)
            alone = []
        if eqn.prim in COLLECTIVES:
            yield eqn
            continue
        for piece in (p for r in eqn.regions for p in _pieces(r.eqns)):
            if isinstance(piece, Eqn) or eqn.prim not in SCOPES:
                yield piece
            else:
                yield (replace(eqn, regions=(Region((), piece),)),)
    if alone:
        yield tuple(alone)


def _part(wir: Wir, eqns: tuple[Eqn, ...], name: str, used: frozenset[str], others: frozenset[str]) -> Wir:
    """These equations as a workload, whose tensors are given but for temporaries that nothing else uses."""
    tasks = {v.name for v in bound_vars(eqns) if isinstance(v.type, TokenType)}
    eqns = tuple(_waiting_for(e, tasks) for e in eqns)
    types = {v.name: wir.tensor_type(v.name) for v in wir.tensors if v.name in used}
    roles = {n: t.role if t.role is Role.TEMPORARY and n not in others else Role.GIVEN for n, t in types.items()}
    called = {str(e.params["kernel"]) for top in eqns for e in top.walk() if e.prim == "task"}
    return replace(
        wir,
        name=name,
        tensors=tuple(Var(n, TensorType(t.dtype, t.shape, roles[n])) for n, t in types.items()),
        kernels=tuple(k for k in wir.kernels if k.name in called),
        body=Region((), eqns),
        axes=tuple(a for a in wir.axes if used.issuperset(a.tensors)),
        returns=None,
    )


def _waiting_for(eqn: Eqn, tasks: set[str]) -> Eqn:
    """An equation that waits for these tasks alone: the others are over."""
    regions = tuple(Region(r.params, tuple(_waiting_for(e, tasks) for e in r.eqns)) for r in eqn.regions)
    after = eqn.params.get("after")
    if not isinstance(after, tuple):
        return replace(eqn, regions=regions) if regions else eqn
    left = tuple(t for t in after if t in tasks)
    params = {k: v for k, v in eqn.params.items() if k != "after"}
    return replace(eqn, params=params | ({"after": left} if left else {}))
