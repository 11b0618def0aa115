"""split: one loop into two."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pto_wsp.ir.core import Axis, Wir
from pto_wsp.ir.expr import const, minimum, var
from pto_wsp.ir.rename import unique_name
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.loops import (
    Place,
    axis,
    bound_names,
    find,
    label,
    loop_over,
    refuse_while,
    replaced,
    variable,
    without,
)
from pto_wsp.transforms.policies import positive

W = TypeVar("W", bound=Traced | TracedFunction)


def split(*, loop: str, size: int) -> Callable[[W], W]:
    """`split(loop="b", size=4)(w)`: iterations of b in groups of 4, and a loop b_i inside of each group b_o.

        before:  parallel_for b in batch: DenseDyn($batch) { task k[b](x=X[b], out=Y[b]) }
        after:   parallel_for b_o in batch_o: Tiles($batch, 4) {
                   parallel_for b_i in batch_i: Range(min(4, $batch - 4*b_o)) {
                     task[names=["b"]] k[b_i + 4*b_o](x=X[b_i + 4*b_o], out=Y[b_i + 4*b_o])
                   }
                 }

    The last group is shorter where the size does not divide the extent. Tasks, their order and their coordinates stay. A loop is
    called by its variable, or by a path of variables, "b/t". Raises ScheduleError for a loop that is not there or of which there
    are several, for a size below 1, and for loops with a `while_` condition.
    """
    count = positive("split", "size", size, 2**40)

    def apply(w: Traced) -> Traced:
        return w.with_wir(split_loop(w.wir, find(w.wir, "split", loop), count, "split")[0])

    return transformation("split", apply)


def split_loop(wir: Wir, place: Place, size: int, what: str) -> tuple[Wir, str, str]:
    """The workload with one loop split, and the variables of the two loops it became."""
    old = place.loop
    refuse_while(what, old)
    taken = bound_names(wir.body.eqns)
    outer = unique_name(variable(old) + "_o", taken)
    inner = unique_name(variable(old) + "_i", {*taken, outer})
    over, extent = axis(old), axis(old).extent
    groups = Axis("Tiles", over.name + "_o", over.size, over.tile * size)
    full = extent.is_const and extent.const % size == 0
    rest = const(size) if full else minimum(const(size), extent - var(outer) * size)
    body = without(old, var(outer) * size + var(inner))
    inside = loop_over(old, inner, label(old) + "_i", Axis("Range", over.name + "_i", rest), body)
    outside = loop_over(old, outer, label(old) + "_o", groups, (inside,))
    return replaced(wir, place, (outside,)), outer, inner
