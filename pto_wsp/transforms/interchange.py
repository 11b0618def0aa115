"""interchange: swap two loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from pto_wsp.ir.core import Eqn, Region, Wir, task_effects
from pto_wsp.ir.dependence import analyse, read_at_issue
from pto_wsp.ir.processes import ends_inside
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.loops import Place, at, axis, find, label, refuse, replaced, variable

W = TypeVar("W", bound=Traced | TracedFunction)
_WHAT = "interchange"


def interchange(*, outer: str, inner: str) -> Callable[[W], W]:
    """`interchange(outer="b", inner="t")(w)`: swap two perfectly nested parallel loops.

        before:  parallel_for b in batch: Dense(4) { parallel_for t in t: Range(8) { task k[b, t](...) } }
        after:   parallel_for t in t: Range(8) { parallel_for b in batch: Dense(4) { task k[b, t](...) } }

    Schedules, conditions and scalars between the loops move inside with `outer`. Results stay the same, because the iterations of
    both loops are proved independent; the order in which tasks are issued changes, and with it semantic time.

    Raises ScheduleError for loops that are not there, for `P.seq`, where the extent of `inner` depends on `outer`, where anything
    else stands beside `inner` in the body of `outer`, where the independence of an iteration is not proved, and where a scalar or
    gather inside reads what a task inside writes.
    """

    def apply(w: Traced) -> Traced:
        first, second = (variable(find(w.wir, _WHAT, name).loop) for name in (outer, inner))
        return w.with_wir(interchange_loops(w.wir, first, second, _WHAT))

    return transformation(_WHAT, apply)


def interchange_loops(wir: Wir, outer: str, inner: str, what: str) -> Wir:
    """The workload with two loops swapped, which have these variables."""
    first, second = at(wir, outer), at(wir, inner)
    around, inside = first.loop, second.loop
    for loop in (around, inside):
        if loop.prim != "parallel_for":
            raise refuse(what, f"the loop over {label(loop)} is sequential", loop, "swap loops of P")
    end = next(ends_inside(around), None)
    if end is not None:
        fix = "leave loops that send or receive in their order"
        raise refuse(
            what, f"a {end.prim} inside of the loop over {label(around)}: tokens come in program order", end, fix
        )
    body = _body_between(first, second, what)
    _refuse_dependent_extent(around, inside, body, what)
    _refuse_order(wir, around, inside, what)
    moved = replace(around, regions=(replace(around.regions[0], eqns=body),))
    return replaced(wir, first, (replace(inside, regions=(replace(inside.regions[0], eqns=(moved,)),)),))


def _body_between(first: Place, second: Place, what: str) -> tuple[Eqn, ...]:
    """The body of the outer loop with the inner loop replaced by its body. Raises ScheduleError where more than schedules, conditions
    and scalars stands between them."""
    around, inside = first.loop, second.loop
    if len(second.around) < 2 or second.around[-2] is not around:
        raise refuse(
            what,
            f"{label(inside)} is not the next loop inside of {label(around)}",
            inside,
            "swap one pair of loops at a time",
        )

    def visit(region: Region) -> tuple[Eqn, ...]:
        out: list[Eqn] = []
        for eqn in region.eqns:
            if eqn is inside:
                out += eqn.regions[0].eqns
            elif any(e is inside for e in eqn.walk()) and eqn.prim in (*SCOPES, "cond"):
                out.append(replace(eqn, regions=tuple(replace(r, eqns=visit(r)) for r in eqn.regions)))
            elif any(e.prim in ("task", "slot_set") for e in eqn.walk()) or eqn.regions:
                raise refuse(
                    what,
                    f"the body of {label(around)} has more than the loop over {label(inside)}",
                    eqn if eqn.loc else around,
                    "give each statement a P loop of its own",
                )
            else:
                out.append(eqn)
        return tuple(out)

    return visit(around.regions[0])


def _refuse_dependent_extent(around: Eqn, inside: Eqn, body: tuple[Eqn, ...], what: str) -> None:
    made = {v.name for e in around.walk() for v in e.outs} | {variable(around)}
    if axis(inside).size.names() & made:
        raise refuse(
            what,
            f"the extent of {label(inside)}, {axis(inside).size}, depends on {label(around)}",
            inside,
            "swap loops whose extents do not depend on each other",
        )


def _refuse_order(wir: Wir, around: Eqn, inside: Eqn, what: str) -> None:
    """Refuse loops whose iterations might need program order."""
    unproven = analyse(wir).unproven
    for loop in (around, inside):
        if any(x is loop for _, _, x in unproven):
            raise refuse(
                what,
                f"iterations of {label(loop)} may depend on each other, so that program order decides",
                loop,
                "index outputs so that iterations are proved apart",
            )
    written = {v.tensor for e in around.walk() if e.prim == "task" for _, v, writes in task_effects(wir, e) if writes}
    for eqn in around.walk():
        for _, tensor in read_at_issue(eqn):
            if tensor in written:
                raise refuse(
                    what,
                    f"a scalar or gather reads {tensor}, which tasks inside write",
                    eqn,
                    "swap loops that read what is there before",
                )
