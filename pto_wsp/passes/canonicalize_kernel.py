"""Kernels without what has no effect, in which nothing is computed twice.

    before:  a: f32<8x8> = load x            after:   a: f32<8x8> = load x
             b: f32<8x8> = load x                     c: f32<8x8> = mul a a
             c: f32<8x8> = mul a b                    store out c
             d: f32<8x8> = exp c
             store out c

So it is inside of loops and branches, which know what is computed before them. Loops and branches carry and give only what is used,
and disappear where that is nothing and they have no effect. What can fail stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from pto_wsp.ir.control import DIM_PARAMS, renamed_params, renamed_type
from pto_wsp.ir.core import (
    PRIMITIVES,
    Dialect,
    Eqn,
    In,
    Kernel,
    Literal,
    Region,
    ScalarType,
    TileType,
    Var,
    operand_type,
)
from pto_wsp.ir.scalars import can_fail

T = TypeVar("T")
_STORES = ("store", "store_part")
_MAY_FAULT = ("load_part", "element")


def canonicalize_kernel(kernel: Kernel) -> Kernel:
    """A load is the same as an earlier one of the same parameter when nothing was stored to it in between."""
    region = _Common().region(kernel.body, {})
    return replace(kernel, body=_live_region(region, set(), ()))


class _Common:
    """Gives equations that compute what an earlier one did the earlier one's name."""

    def __init__(self) -> None:
        self.known: dict[str, In] = {}
        self.stores: dict[str, int] = {}

    def region(self, region: Region, same: dict[object, Var]) -> Region:
        """`same`: the values there are, by what they are."""
        same = dict(same)
        params = tuple(Var(v.name, renamed_type(v.type, self.known)) for v in region.params)
        self.known |= {old.name: new for old, new in zip(region.params, params, strict=True) if old != new}
        eqns = [new for eqn in region.eqns for new in self.eqn(eqn, same)]
        return Region(params, tuple(eqns))

    def eqn(self, eqn: Eqn, same: dict[object, Var]) -> tuple[Eqn, ...]:
        ins: tuple[In, ...] = tuple(self.known.get(x.name, x) if isinstance(x, Var) else x for x in eqn.ins)
        outs = tuple(Var(v.name, renamed_type(v.type, self.known)) for v in eqn.outs)
        self.known |= {old.name: new for old, new in zip(eqn.outs, outs, strict=True) if old != new}
        if eqn.regions:
            stored = {_target(e) for e in eqn.walk() if e.prim in _STORES}
            regions: list[Region] = []
            for r in eqn.regions:
                self._forget(stored)  # an iteration may come after one that stored, a branch after the other
                regions.append(self.region(r, same))
            self._forget(stored)
            return (replace(eqn, ins=ins, outs=outs, regions=tuple(regions)),)
        params = renamed_params(eqn.params, self.known)
        new = replace(eqn, ins=ins, outs=outs, params=params)
        if eqn.prim in _STORES:
            self._forget({_target(new)})
        if not outs:
            return (new,)
        operands = tuple(
            (x.name, self.stores.get(x.name, 0)) if isinstance(x, Var) else x.key if isinstance(x, Literal) else x
            for x in ins
        )
        key = (eqn.prim, operands, tuple(sorted(params.items(), key=str)), outs[0].type)
        if key in same:
            self.known[eqn.outs[0].name] = same[key]
            return ()
        same[key] = outs[0]
        return (new,)

    def _forget(self, names: set[str]) -> None:
        for name in names:
            self.stores[name] = self.stores.get(name, 0) + 1


def _target(eqn: Eqn) -> str:
    assert isinstance(eqn.ins[0], Var)
    return eqn.ins[0].name


def _live_region(region: Region, live: set[str], gives: Sequence[bool]) -> Region:
    """Without equations whose value nothing uses. `live` has the names used after it, and then those used in it; `gives` says which
    of what the region yields is used."""
    kept: list[Eqn] = []
    for eqn in reversed(region.eqns):
        new = _live_eqn(eqn, live, gives)
        if new is not None:
            live |= {x.name for x in new.ins if isinstance(x, Var)} | _dims(new)
            kept.append(new)
    return replace(region, eqns=tuple(reversed(kept)))


def _live_eqn(eqn: Eqn, live: set[str], gives: Sequence[bool]) -> Eqn | None:
    if eqn.prim == "yield":
        return replace(eqn, ins=_those(eqn.ins, gives))
    if eqn.regions:
        return _live_control(eqn, live)
    # what valid shapes must fulfil is part of the meaning, even where the value is not used
    needed = not eqn.outs or any(v.name in live for v in eqn.outs) or _may_fail(eqn)
    return eqn if needed else None


def _live_control(eqn: Eqn, live: set[str]) -> Eqn | None:
    """A loop or branch with what is used of its results; what a loop carries is used where its body uses it for something else."""
    loop = eqn.prim == "fori_loop"
    keep = [v.name in live for v in eqn.outs]
    while True:
        used: set[str] = set()
        regions = [_live_region(r, used, keep) for r in eqn.regions]
        now = [k or v.name in used for k, v in zip(keep, eqn.regions[0].params[1:], strict=True)] if loop else keep
        if now == keep:
            break
        keep = now
    if not any(keep) and all(len(r.eqns) == 1 for r in regions):
        return None
    live |= used
    if not loop:
        return replace(eqn, outs=_those(eqn.outs, keep), regions=tuple(regions))
    (region,) = regions
    index, *carried = region.params
    region = replace(region, params=(index, *_those(carried, keep)))
    return replace(eqn, outs=_those(eqn.outs, keep), ins=(*eqn.ins[:2], *_those(eqn.ins[2:], keep)), regions=(region,))


def _those(xs: Sequence[T], keep: Sequence[bool]) -> tuple[T, ...]:
    return tuple(x for x, k in zip(xs, keep, strict=True) if k)


def _dims(eqn: Eqn) -> set[str]:
    """The extents that an equation names."""
    values = (*eqn.outs, *(v for r in eqn.regions for v in r.params))
    dims = [d for v in values if isinstance(v.type, TileType) for d in (v.type.vrows, v.type.vcols)]
    return {d for d in (*dims, *(eqn.params.get(key) for key in DIM_PARAMS)) if isinstance(d, str)}


def _may_fail(eqn: Eqn) -> bool:
    prim = PRIMITIVES[eqn.prim]
    types = [operand_type(x) for x in eqn.ins]
    if prim.dialect is Dialect.SCALAR:
        dtypes = [t.dtype for t in types if isinstance(t, ScalarType)]
        return can_fail(eqn.prim, eqn.params, dtypes, [x.value if isinstance(x, Literal) else None for x in eqn.ins])
    return eqn.prim in _MAY_FAULT or (prim.type is not None and bool(prim.type(dict(eqn.params), *types).checks))
