"""Does a sequence of equations write a tensor, or a part of one, before it reads it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pto_wsp.ir.core import At, Axis, Direction, Eqn, Region, Slice, TileAt, View, ViewDim, Wir
from pto_wsp.ir.expr import Expr, ceildiv, const, var
from pto_wsp.ir.tasks import LOOPS, PARTS


def views_of(eqn: Eqn, tensor: str) -> Iterator[View]:
    """The views of a tensor that an equation, or one inside of it, names."""
    for e in eqn.walk():
        for x in e.ins:
            if isinstance(x, View):
                yield from (v for v in (x, *x.index_views()) if v.tensor == tensor)


def users_of(region: Region, tensor: str) -> list[int]:
    """Positions of the equations of a region that name a tensor."""
    return [k for k, e in enumerate(region.eqns) if any(True for _ in views_of(e, tensor))]


def is_written_first(wir: Wir, eqns: Sequence[Eqn], tensor: str, fixed: Mapping[int, ViewDim]) -> bool:
    """Whether these equations write every element of the part of the tensor that `fixed` says before they read one of it.

    `fixed` gives dims by position, which all views of the tensor in `eqns` have there.
    """
    first = next((e for e in eqns if any(True for _ in views_of(e, tensor))), None)
    if first is None:
        return False
    if first.prim in PARTS:
        part = next(r for r in first.regions if users_of(r, tensor))
        return is_written_first(wir, part.eqns, tensor, fixed)
    shape = wir.tensor_type(tensor).shape
    if first.prim == "task":
        views = list(views_of(first, tensor))
        return _only_written(wir, first, tensor) and any(
            all(k in fixed or _is_whole(d, n) for k, (d, n) in enumerate(zip(v.dims, shape, strict=True)))
            for v in views
        )
    if first.prim not in LOOPS:
        return False
    axis, (body, *condition) = first.params["axis"], first.regions
    assert isinstance(axis, Axis)
    if condition:
        return False
    for k, n in enumerate(shape):
        dims = {v.dims[k] for v in views_of(first, tensor)}
        if k not in fixed and len(dims) == 1 and _iterates(next(iter(dims)), body.params[0].name, axis, n):
            return is_written_first(wir, body.eqns, tensor, {**fixed, k: next(iter(dims))})
    return axis.size.is_const and axis.size.const > 0 and is_written_first(wir, body.eqns, tensor, fixed)


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


def _iterates(d: ViewDim, loop: str, axis: Axis, size: Expr) -> bool:
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
