"""Arrays in more tiles than one.

An array that differs along more than two axes is cut along some of them, to one element each, until what stays between fits a tile. Which axes are
cut is found anew in each equation, as those that make the fewest tiles; what has been cut stays so. Cutting takes slices of tiles,
and joining puts tiles beside each other: that is all that moves numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from pto_wsp import pto
from pto_wsp.errors import UnsupportedError
from pto_wsp.ir.core import DType
from pto_wsp_jax import elementwise, layouts
from pto_wsp_jax.arrays import Array, Operation, Shape, single, spread

MOST = 4096
"""Tiles of one array."""

Index = tuple[int, ...]
Parts = np.ndarray[Any, Any]
"""Of arrays."""


@dataclass(frozen=True, eq=False)
class Stack:
    """One array of a jaxpr, in parts.

    parts: as many along an axis as the array has elements there, where it is cut, and one elsewhere. A part has one element along the axes that
    are cut, and all elements of the others.
    """

    parts: Parts
    shape: Shape
    dtype: DType

    @property
    def cut(self) -> frozenset[int]:
        """The axes along which it is cut."""
        return frozenset(k for k, n in enumerate(self.parts.shape) if n > 1)

    @property
    def axes(self) -> frozenset[int]:
        """Those along which tiles of it differ: with `cut`, those along which it is not the same everywhere."""
        return frozenset[int]().union(*(a.axes for a in self.parts.flat))

    def part(self, index: Index, cut: Collection[int]) -> Array:
        """That at an index into an array that is cut along `cut`, where this one is so too or else is the same everywhere."""
        own = (
            zip(index, self.parts.shape, strict=True) if self.shape else ()
        )  # an array of one element is the same everywhere
        a: Array = self.parts[tuple(0 if n == 1 else i for i, n in own)]
        return replace(a, shape=ones(a.shape, cut))


Wide = Array | Stack


def ones(shape: Shape, cut: Collection[int]) -> Shape:
    """The shape of a part."""
    return tuple(1 if k in cut else n for k, n in enumerate(shape))


def of_parts(op: Operation, cut: Collection[int]) -> Operation:
    """The same, of parts of its operands that make parts of its results."""
    return replace(op, gives=tuple((ones(s, cut), d) for s, d in op.gives))


def stack_of(a: Wide) -> Stack:
    """The same, in parts."""
    if isinstance(a, Stack):
        return a
    parts = np.empty((1,) * len(a.shape), object)
    parts.fill(a)
    return Stack(parts, a.shape, a.dtype)


def each(parts: Parts, f: Callable[[Array], Array]) -> Parts:
    """f of each."""
    made = np.empty(parts.shape, object)
    for index in np.ndindex(*parts.shape):
        made[index] = f(parts.item(index))
    return made


def settled(x: Stack) -> Wide:
    """The same, as an array where it is not cut."""
    return x if x.parts.size > 1 else x.parts.item()


def grid(op: Operation, sizes: Shape, make: Callable[[Index], Array]) -> Parts:
    """make at each index. Raises UnsupportedError for too many."""
    check_count(op, math.prod(sizes))
    parts = np.empty(sizes, object)
    for index in np.ndindex(*sizes):
        parts[index] = make(index)
    return parts


def check_count(op: Operation, tiles: int) -> None:
    """Raises UnsupportedError for more tiles than a kernel should have."""
    if tiles > MOST:
        raise op.refusal(
            f"that would be {tiles} tiles, and at most {MOST} are made; loop over some axes in the workload"
        )


def fewest(shape: Shape, axes: Collection[int], keep: Collection[int] = ()) -> frozenset[int]:
    """Of these axes those along which to cut, so that a tile holds the others: the fewest tiles, then the first axes. keep: these are not cut."""
    free = sorted(set(axes) - set(keep))
    cuts = combinations(free, max(0, len(set(axes)) - 2))
    return frozenset(min(cuts, key=lambda cut: math.prod(shape[k] for k in cut)))


def cut(op: Operation, x: Stack, axes: Collection[int]) -> Stack:
    """x, cut along these axes too, but for those along which it is the same everywhere."""
    for axis in sorted(axes):
        if axis in x.axes:
            x = _cut(op, x, axis)
    return x


def _cut(op: Operation, x: Stack, axis: int) -> Stack:
    def element(index: Index) -> Array:
        a = x.part((*index[:axis], 0, *index[axis + 1 :]), (axis,))
        if axis not in a.axes:
            return a
        value = layouts.taken(a.value, index[axis], 1, int(axis == a.col))
        return replace(a, value=value, row=None if a.row == axis else a.row, col=None if a.col == axis else a.col)

    sizes = (*x.parts.shape[:axis], x.shape[axis], *x.parts.shape[axis + 1 :])
    return replace(x, parts=grid(op, sizes, element))


def fitting(op: Operation, x: Stack) -> Stack:
    """x, in tiles that differ along the same two axes at most."""
    return cut(op, x, fewest(x.shape, x.axes))


def repeated(op: Operation, x: Stack, axis: int) -> Stack:
    """x, which is the same everywhere along an axis, with a part for each of its elements."""
    if axis in x.cut or x.shape[axis] == 1:
        return x
    sizes = (*x.parts.shape[:axis], x.shape[axis], *x.parts.shape[axis + 1 :])
    return replace(x, parts=grid(op, sizes, lambda index: x.part(index, (axis,))))


def every(op: Operation, x: Stack, axis: int) -> Stack:
    """x, with a part for each of its elements along an axis."""
    return repeated(op, cut(op, x, (axis,)), axis)


def joined(op: Operation, x: Stack, axis: int) -> Stack:
    """x, not cut along an axis for which its tiles have room."""
    if axis not in x.cut:
        return x

    def whole(index: Index) -> Array:
        line = list(x.parts[(*index[:axis], slice(None), *index[axis + 1 :])])
        shape = (*line[0].shape[:axis], x.shape[axis], *line[0].shape[axis + 1 :])
        if all(a is line[0] for a in line):
            return replace(line[0], shape=shape)
        return layouts.joined(replace(op, gives=((shape, x.dtype),)), line, axis)

    sizes = (*x.parts.shape[:axis], 1, *x.parts.shape[axis + 1 :])
    return replace(x, parts=grid(op, sizes, whole))


def alike(op: Operation, xs: Sequence[Stack], *more: int) -> tuple[list[Stack], frozenset[int]]:
    """Operands of one shape, that of the result, cut along the same axes; which. more: axes that are in a tile besides those of the operands.

    The axes are those of one of the operands where that is enough, so that no tile is cut along all that others are cut along.
    """
    cuts = frozenset[int]().union(*(x.cut for x in xs))
    axes = frozenset[int]().union(cuts, more, *(x.axes for x in xs))
    enough = [x.cut for x in xs if x.cut and len(axes - x.cut) <= 2]
    if enough:
        cuts = min(enough, key=lambda cut: math.prod(op.shape[k] for k in cut))
    cuts |= fewest(op.shape, axes - cuts)
    made = list[Stack]()
    for x in (cut(op, x, cuts) for x in xs):
        for axis in sorted(x.cut - cuts):
            x = joined(op, x, axis)
        made.append(x)
    return made, cuts


def uncut(op: Operation, x: Stack, axis: int) -> Stack:
    """x, whose tiles differ along an axis, or have room to: cut along another where they had none."""
    others = x.axes - {axis}
    return joined(op, cut(op, x, fewest(x.shape, {axis, *others}, (axis,))), axis)


def in_tile(op: Operation, a: Wide) -> Array:
    """An array with at most two axes longer than 1 in one tile."""
    x = stack_of(a)
    for axis in sorted(x.cut):
        x = joined(op, x, axis)
    return x.parts.item()


# what loops carry and branches give


@dataclass(frozen=True)
class Form:
    """In which tiles an array is carried."""

    cut: frozenset[int]
    row: int | None
    col: int | None

    def leaves(self, op: Operation, a: Wide) -> list[Any]:
        """The tiles of an array, in this form."""
        x = cut(op, stack_of(a), self.cut)
        for axis in sorted(x.cut - self.cut):
            x = joined(op, x, axis)
        for axis in self.cut:
            x = repeated(op, x, axis)
        return [spread(part, self.row, self.col) for part in x.parts.flat]

    def array(self, tiles: Iterator[Any], shape: Shape, dtype: DType) -> Wide:
        """The array of these tiles."""
        own = ones(shape, self.cut)
        parts = np.empty(tuple(n if k in self.cut else 1 for k, n in enumerate(shape)), object)
        for index in np.ndindex(*parts.shape):
            parts[index] = Array(next(tiles), own, dtype, self.row, self.col)
        return settled(Stack(parts, shape, dtype))


def form_of(op: Operation, shape: Shape, x: Wide | None = None) -> Form:
    """That of x where it is in parts, and else that with the fewest tiles, row by row."""
    given = x.cut if isinstance(x, Stack) else frozenset[int]()
    axes = given | fewest(shape, set(layouts.long_axes(shape)) - given)
    check_count(op, math.prod(shape[k] for k in axes))
    row, col = layouts.standard(op, ones(shape, axes))
    if isinstance(x, Stack):
        first: Array = x.parts.flat[0]
        if None not in (row, col) and (first.row, first.col) == (col, row):
            row, col = col, row
    return Form(axes, row, col)


# folds


def accumulated(op: Operation, primitive: Any, arrays: Sequence[Array]) -> Array:
    """The first with the second, the result with the third, ...: `primitive` takes two. Short floats are added and multiplied in f32."""
    dtype = arrays[0].dtype
    between = (
        DType.F32 if dtype in elementwise.SHORT and len(arrays) > 2 and primitive.name in ("add", "mul") else dtype
    )
    shape = arrays[0].shape
    step = Operation(primitive, {}, (between, between), ((shape, between),), op.shown)
    total = as_dtype(arrays[0], between)
    for a in arrays[1:]:
        total = elementwise.rule(step, total, as_dtype(a, between))
    return as_dtype(total, dtype)


def as_dtype(a: Array, dtype: DType) -> Array:
    """The same numbers, in a dtype that has them."""
    return a if a.dtype is dtype else replace(single(a), value=pto.cast(single(a).value, dtype), dtype=dtype)


class DynamicIndexError(UnsupportedError):
    """An index into an axis that is cut is not known while tracing."""


def known_index(op: Operation, index: Any, axis: int) -> int:
    """A number, to find a part by. Raises DynamicIndexError."""
    if not isinstance(index, int):
        why = (
            f"by an index that is not known while tracing, along axis {axis}, whose elements are in tiles of their own"
        )
        raise op.refusal(why, DynamicIndexError)
    return index


def piece(x: Stack, axis: int, where: slice) -> Parts:
    """Some of the parts along an axis."""
    return x.parts[(slice(None),) * axis + (where,)]
