"""tile: several nested loops in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pto_wsp.errors import ScheduleError, here
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.interchange import interchange_loops
from pto_wsp.transforms.loops import at, find, variable
from pto_wsp.transforms.policies import positive
from pto_wsp.transforms.split import split_loop

W = TypeVar("W", bound=Traced | TracedFunction)
_WHAT = "tile"


def tile(*, sizes: Mapping[str, int]) -> Callable[[W], W]:
    """`tile(sizes={"i": 4, "j": 8})(w)`: the iterations of nested parallel loops in blocks of 4 x 8.

        before:  parallel_for i in i: Range(16) { parallel_for j in j: Range(64) { task k[i, j](...) } }
        after:   parallel_for i_o in i_o: Tiles(16, 4) {
                   parallel_for j_o in j_o: Tiles(64, 8) {
                     parallel_for i_i in i_i: Range(4) {
                       parallel_for j_i in j_i: Range(8) { task[names=["i" "j"]] k[i_i + 4*i_o, j_i + 8*j_o](...) }
                     }
                   }
                 }

    Loops are given from outside in; each is split, and the blocks' loops are moved outward by interchanges. Coordinates of tasks
    stay. Raises ScheduleError as `split` and `interchange` do, and for fewer than two loops.
    """
    if not isinstance(sizes, Mapping) or len(sizes) < 2:
        raise ScheduleError(
            "PTO403",
            "tile needs at least two loops",
            values={"sizes": repr(sizes)[:80]},
            loc=here(),
            fix='write tile(sizes={"i": 4, "j": 8}), or split(loop="i", size=4) for one loop',
        )
    counts = {name: positive(_WHAT, f"the size of {name}", n, 2**40) for name, n in sizes.items()}

    def apply(w: Traced) -> Traced:
        wir = w.wir
        inside: list[str] = []
        for name, size in [(variable(find(wir, _WHAT, n).loop), size) for n, size in counts.items()]:
            wir, block, element = split_loop(wir, at(wir, name), size, _WHAT)
            for other in reversed(inside):
                wir = interchange_loops(wir, other, block, _WHAT)
            inside.append(element)
        return w.with_wir(wir)

    return transformation(_WHAT, apply)
