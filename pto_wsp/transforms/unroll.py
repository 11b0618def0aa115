"""unroll: a loop's iterations written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from pto_wsp.ir.core import Axis, Eqn, Region, Wir
from pto_wsp.ir.expr import Expr, const, var
from pto_wsp.ir.rename import unique_name
from pto_wsp.ir.verify import check_nesting
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.loops import (
    Place,
    axis,
    bound_names,
    find,
    label,
    loop_over,
    refuse,
    refuse_while,
    replaced,
    variable,
    without,
)
from pto_wsp.transforms.policies import positive

W = TypeVar("W", bound=Traced | TracedFunction)
_WHAT = "unroll"
_MOST = 1024


def unroll(*, loop: str, factor: int | None = None) -> Callable[[W], W]:
    """`unroll(loop="k")(w)`: the iterations of a loop of constant extent, one after another; with `factor`, of any loop in groups.

        before:  parallel_for k in k: Range(2) { task f[k](y=Y[k]) }
        after:   task[names=["k"]] f[0](y=Y[0])
                 task[names=["k"]] f[1](y=Y[1])

        before:  parallel_for k in k: DenseDyn($n) { task f[k](y=Y[k]) }
        after:   parallel_for k_o in k_o: Range(floordiv($n, 2)) {                     factor=2
                   task[names=["k"]] f[2*k_o](y=Y[2*k_o])
                   task[names=["k"]] f[2*k_o + 1](y=Y[2*k_o + 1])
                 }
                 parallel_for k in k: Range(mod($n, 2)) {
                   task[names=["k"]] f[k + 2*floordiv($n, 2)](y=Y[k + 2*floordiv($n, 2)])
                 }

    Iterations of `P.seq` become the parts of a `sequential`. Tasks, their order and their coordinates stay. A schedule inside of the
    loop becomes one in each copy, with a state of its own. Raises ScheduleError for a loop that is not there or of which there are
    several, for an extent that is no constant (without `factor`), for more than 1024 copies, and for loops with a `while_` condition.
    """
    count = None if factor is None else positive(_WHAT, "factor", factor, _MOST)

    def apply(w: Traced) -> Traced:
        place = find(w.wir, _WHAT, loop)
        refuse_while(_WHAT, place.loop)
        wir = _all(w.wir, place) if count is None else _groups(w.wir, place, count)
        check_nesting(wir.body)
        return w.with_wir(wir)

    return transformation(_WHAT, apply)


def _all(wir: Wir, place: Place) -> Wir:
    loop = place.loop
    extent = axis(loop).extent
    if not extent.is_const or extent.const > _MOST:
        raise refuse(
            _WHAT,
            f"the loop over {label(loop)} has {extent} iterations",
            loop,
            f"unroll loops of a constant extent of at most {_MOST}, or give factor=",
        )
    return _with_copies(wir, place, [const(i) for i in range(extent.const)], lambda copies: _in_order(loop, copies))


def _groups(wir: Wir, place: Place, factor: int) -> Wir:
    loop = place.loop
    extent, name = axis(loop).extent, variable(loop)
    outer = unique_name(name + "_o", bound_names(wir.body.eqns))
    whole = extent // const(factor)
    values = [var(outer) * factor + i for i in range(factor)]
    exact = extent.is_const and extent.const % factor == 0
    if not exact:
        values.append(whole * factor + var(name))

    def build(copies: Sequence[tuple[Eqn, ...]]) -> Sequence[Eqn]:
        called, kind = label(loop), axis(loop).name
        group = _in_order(loop, copies[:factor])
        out = [loop_over(loop, outer, called + "_o", Axis("Range", kind + "_o", whole), group)]
        if not exact:
            out.append(loop_over(loop, name, called, Axis("Range", kind, extent % const(factor)), copies[-1]))
        return _in_order(loop, [(e,) for e in out])

    return _with_copies(wir, place, values, build)


def _in_order(loop: Eqn, copies: Sequence[tuple[Eqn, ...]]) -> Sequence[Eqn]:
    """Copies one after another, with the order that the loop gives its iterations."""
    if loop.prim == "parallel_for" or len(copies) < 2:
        return [e for copy in copies for e in copy]
    return [Eqn("sequential", regions=tuple(Region((), copy) for copy in copies), loc=loop.loc)]


def _with_copies(
    wir: Wir, place: Place, values: Sequence[Expr], build: Callable[[Sequence[tuple[Eqn, ...]]], Sequence[Eqn]]
) -> Wir:
    """A loop replaced by what `build` makes of its bodies for `values`. What the body binds has a name of its own in each, and tasks
    that wait for a task inside wait for all copies of it."""
    loop = place.loop
    bound = sorted(bound_names(loop.regions[0].eqns))
    taken = bound_names(wir.body.eqns)
    copies: list[tuple[Eqn, ...]] = []
    names: dict[str, list[str]] = {n: [] for n in bound}
    for i, value in enumerate(values):
        new = {n: n if not i else unique_name(n, taken) for n in bound}
        taken |= set(new.values())
        for n in bound:
            names[n].append(new[n])
        copies.append(without(loop, value, new))
    out = replaced(wir, place, build(copies))
    # inside of the copies a name already is the copy's own
    inside = {id(e) for copy in copies for top in copy for e in top.walk()}
    return replace(out, body=_after_all(out.body, names, inside))


def _after_all(region: Region, names: dict[str, list[str]], inside: set[int]) -> Region:
    eqns: list[Eqn] = []
    for eqn in region.eqns:
        after = eqn.params.get("after")
        if isinstance(after, tuple) and id(eqn) not in inside:
            every = tuple(new for t in after for new in names.get(str(t), [str(t)]))
            eqn = replace(eqn, params={**eqn.params, "after": every})
        elif eqn.regions:
            eqn = replace(eqn, regions=tuple(_after_all(r, names, inside) for r in eqn.regions))
        eqns.append(eqn)
    return replace(region, eqns=tuple(eqns))
