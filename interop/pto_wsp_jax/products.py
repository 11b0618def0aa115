"""Products and gathers of arrays in more tiles than one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import product

from jax import lax

from pto_wsp.ir.core import DType
from pto_wsp_jax import elementwise, layouts
from pto_wsp_jax.arrays import Array, Operation, Shape
from pto_wsp_jax.stacks import (
    Index,
    Stack,
    accumulated,
    as_dtype,
    check_count,
    cut,
    every,
    fewest,
    grid,
    of_parts,
    ones,
    uncut,
)


@dataclass(frozen=True)
class _Operand:
    """An operand of a product.

    names: of its axes, by which they are those of the other operand and of the result: first the axes of the result, then those summed over.
    """

    x: Stack
    names: Mapping[int, int]

    @property
    def cut(self) -> frozenset[int]:
        return frozenset(self.names[k] for k in self.x.cut)

    @property
    def axes(self) -> frozenset[int]:
        return frozenset(self.names[k] for k in self.x.axes)

    def own(self, names: Collection[int]) -> list[int]:
        """Its axes of these names."""
        return [k for k, name in self.names.items() if name in names]

    def each(self, f: Callable[..., Stack], op: Operation, names: Collection[int]) -> _Operand:
        """The same after f for each of these axes."""
        x = self.x
        for k in self.own(names):
            x = f(op, x, k)
        return replace(self, x=x)

    def along(self, op: Operation, names: Collection[int]) -> _Operand:
        """The same, cut along these axes."""
        return replace(self, x=cut(op, self.x, self.own(names)))

    def part(self, index: Mapping[int, int], names: Collection[int]) -> Array:
        return self.x.part(tuple(index.get(self.names[k], 0) for k in range(len(self.x.shape))), self.own(names))


def dot_general(op: Operation, left: Stack, right: Stack) -> Stack:
    """Products of parts, added up along the axes that are cut.

    Of the axes summed over one stays in the tiles. In products of matrices all batches are cut, and of the others of each operand all but one.
    """
    (a_summed, b_summed), (a_batch, b_batch) = op.params["dimension_numbers"]
    rank, n = len(op.shape), len(a_batch)
    a_free = [k for k in range(len(left.shape)) if k not in (*a_summed, *a_batch)]
    b_free = [k for k in range(len(right.shape)) if k not in (*b_summed, *b_batch)]
    summed = range(rank, rank + len(a_summed))
    a = _Operand(left, dict(zip((*a_batch, *a_free, *a_summed), (*range(n + len(a_free)), *summed), strict=True)))
    b_names = (*range(n), *range(n + len(a_free), rank), *summed)
    b = _Operand(right, dict(zip((*b_batch, *b_free, *b_summed), b_names, strict=True)))
    shape = (*op.shape, *(left.shape[k] for k in a_summed))
    ends = (range(n, n + len(a_free)), range(n + len(a_free), rank), summed)
    rows, cols, long = ([k for k in names if shape[k] > 1] for names in ends)
    if rows or cols:
        a, b = (x.along(op, range(n)) for x in (a, b))
    a, b, kept = _kept(op, a, b, long, bool(rows and cols))
    cuts = a.cut | b.cut
    if kept is not None and (rows or cols):
        for x, free in ((a, rows), (b, cols)):
            cuts |= fewest(shape, {*(x.axes & set(free)) - cuts, kept}, {kept})
    else:
        axes = (a.axes | b.axes) - cuts
        cuts |= fewest(shape, axes if kept is None else {*axes, kept}, () if kept is None else (kept,))
    terms = cuts & set(summed)
    a, b = (x.along(op, cuts).each(every, op, terms) for x in (a, b))
    return _products(op, a, b, shape, cuts, terms)


def _kept(
    op: Operation, a: _Operand, b: _Operand, summed: list[int], matrices: bool
) -> tuple[_Operand, _Operand, int | None]:
    """The operands, with one of the axes summed over in the tiles, the others cut; which.

    It is the longest of those that nothing is cut along; without one, in products of matrices, the longest.
    """
    size = {name: a.x.shape[k] for k, name in a.names.items()}
    whole = [k for k in summed if k not in a.cut | b.cut]
    kept = max(whole or (summed if matrices else ()), key=lambda k: size[k], default=None)
    others = [k for k in summed if k != kept]
    a, b = (x.each(every, op, others) for x in (a, b))
    if kept is not None and not whole:
        a, b = (x.each(uncut, op, (kept,)) for x in (a, b))
    return a, b, kept


def _products(
    op: Operation, a: _Operand, b: _Operand, shape: Shape, cuts: frozenset[int], terms: frozenset[int]
) -> Stack:
    rank = len(op.shape)
    same = frozenset(range(rank)) - cuts - a.axes - b.axes  # along which neither operand differs, and so the result
    short = op.dtype in elementwise.SHORT and len(terms) > 0
    between = replace(op, gives=((op.shape, DType.F32 if short else op.dtype),))
    part = of_parts(between, cuts | same)
    sizes = tuple(n if k in cuts else 1 for k, n in enumerate(op.shape))
    check_count(op, math.prod(sizes) * math.prod(shape[k] for k in terms))

    def element(index: Index) -> Array:
        def term(place: tuple[int, ...]) -> Array:
            at = dict(enumerate(index)) | dict(zip(sorted(terms), place, strict=True))
            return layouts.dot_general(part, a.part(at, cuts | same), b.part(at, cuts | same))

        places = product(*(range(shape[k]) for k in sorted(terms)))
        total = as_dtype(accumulated(op, lax.add_p, [term(place) for place in places]), op.dtype)
        return replace(total, shape=ones(op.shape, cuts))

    return Stack(grid(op, sizes, element), *op.gives[0])


def gather(op: Operation, x: Stack, indices: Stack) -> Stack:
    """Of each part; the axis that the indices count is in the tiles."""
    n = op.params["dimension_numbers"]
    if len(n.start_index_map) != 1 or n.collapsed_slice_dims != n.start_index_map:
        raise op.refusal("by other than one index for each part, which is one row or column, or one element of it")
    (axis,) = n.start_index_map
    sizes = op.params["slice_sizes"]
    kept = [k for k in range(len(x.shape)) if k != axis and k not in n.operand_batching_dims]
    if any(sizes[k] != x.shape[k] for k in kept):
        raise op.refusal("of parts of rows or columns")
    places = [k for k in range(len(op.shape)) if k not in n.offset_dims]  # of the axes of the indices, in the result
    names = dict(zip(kept, n.offset_dims, strict=True))
    names |= {k: places[i] for k, i in zip(n.operand_batching_dims, n.start_indices_batching_dims, strict=True)}
    a = _Operand(uncut(op, x, axis), names | {axis: len(op.shape)})
    i = _Operand(indices, dict(enumerate((*places, len(op.shape) + 1))))
    cuts = a.cut | i.cut
    cuts |= fewest(op.shape, (a.axes - {len(op.shape)} | i.axes) - cuts)
    a, i = a.along(op, cuts), i.along(op, cuts)
    ones_of = cuts | (frozenset(range(len(op.shape))) - a.axes - i.axes)  # where it is the same, one element is enough
    params = {**op.params, "slice_sizes": tuple(1 if names.get(k) in ones_of else s for k, s in enumerate(sizes))}
    part = of_parts(replace(op, params=params), ones_of)

    def element(index: Index) -> Array:
        at = dict(enumerate(index))
        given = layouts.gather(part, a.part(at, ones_of), i.part(at, ones_of))
        return replace(given, shape=ones(op.shape, cuts))

    return Stack(grid(op, tuple(m if k in cuts else 1 for k, m in enumerate(op.shape)), element), *op.gives[0])
