"""How many iterations of a batched loop are computed at once.

for r in P(n): attend[r](..., length=item(lengths[r]))      the kernel loops over `length` keys

Iterations at once run as often as the longest of them, and on a CPU all that they hold goes through memory in each round. Where
an iteration decides how often loops inside of it run, a CPU takes as many at a time as its cache holds.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax

from pto_wsp.ir.control import walk
from pto_wsp.ir.core import Axis, Eqn, In, Kernel, Region, Span, TileAt, TileType, Var, View, Wir
from pto_wsp.ir.expr import Expr
from pto_wsp_jax.lower.batching import Ranges
from pto_wsp_jax.lower.numbers import INF

CACHE = 2**20  # bytes


def at_once(body: Region, loop: str, count: int, wir: Wir, ranges: Ranges, lanes: int) -> int:
    """Of `count` iterations. lanes: how many of each there are, in loops around."""
    if jax.default_backend() != "cpu" or not _decides(body, {loop}, wir):
        return count
    held = lanes * _held(body, wir, ranges)
    return _even(count, min(count, max(1, CACHE // max(held, 1))))


def _even(count: int, most: int) -> int:
    """A number of iterations, at most so many, of which `count` is a multiple; where there is none near, the most."""
    return next((n for n in range(most, most // 2, -1) if count % n == 0), most)


# Whether a loop decides how often others inside of it run


def _decides(region: Region, known: set[str], wir: Wir) -> bool:
    """Whether how often a loop in a region, or in a kernel of its tasks, runs depends on what has these names; adds what depends on them."""
    for eqn in region.eqns:
        axis = eqn.params.get("axis")
        if eqn.prim == "seq_for" and isinstance(axis, Axis) and not known.isdisjoint(axis.extent.names()):
            return True
        if eqn.prim == "task" and not known.isdisjoint(_deciding_names(eqn, wir)):
            return True
        if any(not known.isdisjoint(_names(x)) for x in eqn.ins):
            known |= {v.name for v in eqn.outs}
        if any(_decides(r, known, wir) for r in eqn.regions):
            return True
    return False


def _names(x: In) -> frozenset[str]:
    if isinstance(x, Var):
        return frozenset((x.name,))
    return x.names() if isinstance(x, (Expr, View)) else frozenset()


def _deciding_names(task: Eqn, wir: Wir) -> Iterator[str]:
    """What says how often the loops of a task's kernel run."""
    kernel = wir.kernel(str(task.params["kernel"]))
    values, extents = _deciding(kernel)
    for p, x in zip(kernel.params, task.ins, strict=True):
        if p.name in values:
            yield from _names(x)
        elif p.name in extents and isinstance(x, View):
            for d in x.dims:
                yield from d.length.names() if isinstance(d, Span) else ()
                yield from (d.limit - d.start).names() if isinstance(d, TileAt) else ()


def _deciding(kernel: Kernel) -> tuple[set[str], set[str]]:
    """The parameters whose values, and those whose extents its loops run by."""
    needed: set[str] = set()
    extents: set[str] = set()
    for eqn in reversed(list(walk(kernel.body))):
        if eqn.prim == "fori_loop":
            needed |= {n for x in eqn.ins[:2] for n in _names(x)}
        made = (*eqn.outs, *(p for r in eqn.regions for p in r.params))
        if any(v.name in needed for v in made):
            needed |= {n for x in eqn.ins for n in _names(x)}
            if eqn.prim == "dim":
                extents.add(str(eqn.params["of"]).split(".")[0])
    return needed, extents


# What an iteration holds


def _held(region: Region, wir: Wir, ranges: Ranges) -> int:
    """Bytes of all tiles that it computes."""
    total = 0
    for eqn in region.eqns:
        if eqn.prim == "task":
            total += sum(map(_bytes, walk(wir.kernel(str(eqn.params["kernel"])).body)))
        axis = eqn.params.get("axis")
        times = 1
        if eqn.prim == "parallel_for" and isinstance(axis, Axis):
            most = ranges.of(axis.extent)[1]
            times = 1 if most == INF else int(most)
        total += times * sum(_held(r, wir, ranges) for r in eqn.regions)
    return total


def _bytes(eqn: Eqn) -> int:
    types = [v.type for v in eqn.outs if isinstance(v.type, TileType)]
    return sum(t.shape[0] * t.shape[1] * t.dtype.itemsize for t in types)
