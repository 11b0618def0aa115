"""Drop what has no effect, and compute nothing twice.

    before:  a: f32<8x8> = load x            after:   a: f32<8x8> = load x
             b: f32<8x8> = load x                     c: f32<8x8> = mul a a
             c: f32<8x8> = mul a b                    store out c
             d: f32<8x8> = exp c
             store out c

In workloads: loops of extent 0, and loops and scopes without tasks, disappear.
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.ir.core import PRIMITIVES, Axis, Eqn, In, Kernel, Literal, Region, Var, Wir, operand_type


def canonicalize(wir: Wir) -> Wir:
    """Common subexpressions and dead equations of kernels, empty loops of the workload, kernels that nothing calls."""
    body = _region(wir.body)
    out = replace(wir, body=body)
    used = {e.params["kernel"] for e in out.tasks()}
    return replace(out, kernels=tuple(canonicalize_kernel(k) for k in wir.kernels if k.name in used))


def _region(region: Region) -> Region:
    eqns: list[Eqn] = []
    for eqn in region.eqns:
        new = replace(eqn, regions=tuple(_region(r) for r in eqn.regions))
        axis = eqn.params.get("axis")
        never = isinstance(axis, Axis) and axis.size.is_const and axis.size.const == 0
        if eqn.prim == "task" or (not never and any(r.eqns for r in new.regions)):
            eqns.append(new)
    return replace(region, eqns=tuple(eqns))


def canonicalize_kernel(kernel: Kernel) -> Kernel:
    """A load is the same as an earlier one of the same parameter when nothing was stored to it in between."""
    same: dict[object, Var] = {}
    known: dict[str, Var] = {}
    stores: dict[str, int] = {}
    eqns: list[Eqn] = []
    for eqn in kernel.body.eqns:
        ins: tuple[In, ...] = tuple(known.get(x.name, x) if isinstance(x, Var) else x for x in eqn.ins)
        if not eqn.outs:
            target = ins[0]
            if isinstance(target, Var):
                stores[target.name] = stores.get(target.name, 0) + 1
            eqns.append(replace(eqn, ins=ins))
            continue
        operands = tuple(
            (x.name, stores.get(x.name, 0)) if isinstance(x, Var) else x.key if isinstance(x, Literal) else x
            for x in ins
        )
        key = (eqn.prim, operands, tuple(sorted(eqn.params.items(), key=str)), eqn.outs[0].type)
        if key in same:
            known[eqn.outs[0].name] = same[key]
            continue
        same[key] = eqn.outs[0]
        eqns.append(replace(eqn, ins=ins))
    live: set[str] = set()
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        # what valid shapes must fulfil is part of the meaning, even where the value is not used
        if not eqn.outs or eqn.outs[0].name in live or _checks(eqn):
            live |= {x.name for x in eqn.ins if isinstance(x, Var)}
            kept.append(eqn)
    return replace(kernel, body=Region((), tuple(reversed(kept))))


def _checks(eqn: Eqn) -> bool:
    rule = PRIMITIVES[eqn.prim].type
    return rule is not None and bool(rule(dict(eqn.params), *(operand_type(x) for x in eqn.ins)).checks)
