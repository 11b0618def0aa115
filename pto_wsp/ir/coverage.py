"""Does a sequence of equations write a tensor, or a part of one, before it reads it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pto_wsp.ir.core import At, Axis, Direction, Eqn, Region, Slice, TileAt, View, ViewDim, Wir
from pto_wsp.ir.expr import Expr, ceildiv, const, var
from pto_wsp.ir.tasks import LOOPS, PARTS


def every_view(eqns: Iterable[Eqn]) -> Iterator[View]:
    """The views in equations and in those inside, index views too."""
    for x in (x for top in eqns for e in top.walk() for x in e.ins):
        if isinstance(x, View):
            yield x
            yield from x.index_views()


class Uses:
    """Which views of each tensor equations have, those inside of them included: each equation is looked at once."""

    def __init__(self) -> None:
        # by id, with what has it: as long as that lives, so does its id
        self._views: dict[int, tuple[Eqn, Mapping[str, Sequence[View]]]] = {}
        self._users: dict[int, tuple[Region, Mapping[str, Sequence[int]]]] = {}

    def views(self, eqn: Eqn) -> Mapping[str, Sequence[View]]:
        """The views in an equation by tensor, index views too."""
        if id(eqn) not in self._views:
            found: dict[str, list[View]] = {}
            for x in eqn.ins:
                if isinstance(x, View):
                    for v in (x, *x.index_views()):
                        found.setdefault(v.tensor, []).append(v)
            for e in (e for r in eqn.regions for e in r.eqns):
                for name, views in self.views(e).items():
                    found.setdefault(name, []).extend(views)
            self._views[id(eqn)] = (eqn, found)
        return self._views[id(eqn)][1]

    def users(self, region: Region) -> Mapping[str, Sequence[int]]:
        """The positions of the equations of a region that name a tensor, by tensor."""
        if id(region) not in self._users:
            found: dict[str, list[int]] = {}
            for k, eqn in enumerate(region.eqns):
                for name in self.views(eqn):
                    found.setdefault(name, []).append(k)
            self._users[id(region)] = (region, found)
        return self._users[id(region)][1]


def is_written_first(wir: Wir, uses: Uses, region: Region, tensor: str, fixed: Mapping[int, ViewDim]) -> bool:
    """Whether a region writes every element of the part of the tensor that `fixed` says before it reads one of it.

    `fixed` gives dims by position, which all views of the tensor in the region have there.
    """
    users = uses.users(region).get(tensor)
    return users is not None and writes_first(wir, uses, region.eqns[users[0]], tensor, fixed)


def writes_first(wir: Wir, uses: Uses, first: Eqn, tensor: str, fixed: Mapping[int, ViewDim]) -> bool:
    """The same of one equation, which uses the tensor."""
    if first.prim in PARTS:
        part = next(r for r in first.regions if tensor in uses.users(r))
        return is_written_first(wir, uses, part, tensor, fixed)
    if first.prim != "task" and first.prim not in LOOPS:
        return False
    shape = wir.tensor_type(tensor).shape
    views = uses.views(first)[tensor]
    if first.prim == "task":
        return _only_written(wir, first, tensor) and any(
            all(k in fixed or _is_whole(d, n) for k, (d, n) in enumerate(zip(v.dims, shape, strict=True)))
            for v in views
        )
    axis, (body, *condition) = first.params["axis"], first.regions
    assert isinstance(axis, Axis)
    if condition:
        return False
    for k, n in enumerate(shape):
        dims = {v.dims[k] for v in views}
        if k not in fixed and len(dims) == 1 and iterates(next(iter(dims)), body.params[0].name, axis, n):
            return is_written_first(wir, uses, body, tensor, {**fixed, k: next(iter(dims))})
    return axis.size.is_const and axis.size.const > 0 and is_written_first(wir, uses, body, tensor, fixed)


def _only_written(wir: Wir, task: Eqn, tensor: str) -> bool:
    for p, x in zip(wir.kernel(str(task.params["kernel"])).params, task.ins, strict=True):
        if isinstance(x, View):
            reads = (x.tensor,) if p.direction is not Direction.OUT else ()
            if tensor in (*reads, *(i.tensor for i in x.index_views())):
                return False
    return True


def _is_whole(d: ViewDim, size: Expr) -> bool:
    """Whether it is all elements of a dimension."""
    match d:
        case At():
            return d.index == const(0) and size == const(1)
        case Slice():
            return d.start == const(0) and size == const(d.length)
        case TileAt():
            return d.start == const(0) and d.limit == size and size.is_const and size.const <= d.size
        case _:
            return False


def iterates(d: ViewDim, loop: str, axis: Axis, size: Expr) -> bool:
    """Whether it is all elements of a dimension, some in each iteration of the loop."""
    i = var(loop)
    match d:
        case At():
            return d.index == i and axis.extent == size
        case Slice():
            return d.start == i * d.length and axis.extent * d.length == size
        case TileAt():
            whole = axis.extent == ceildiv(size, const(d.size))
            return d.index == i and d.offset == const(0) and d.limit == size and whole
        case _:
            return False
