"""`reshape` of arrays in more tiles than one: axes are merged and split, one at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pto_wsp import pto
from pto_wsp_jax import layouts
from pto_wsp_jax.arrays import Array, Operation, Shape, spread
from pto_wsp_jax.stacks import Index, Parts, Stack, each, every, fitting, grid

STRIDED = 4
"""How many slices of columns side by side one of every n-th column is worth."""


def reshaped(op: Operation, x: Stack) -> Stack:
    """x with the shape of the result: elements stay in the order of rows."""
    x, axis = _without_ones(x), 0
    for old, new in _groups(x.shape, [n for n in op.shape if n > 1]):
        if old != new:
            for _ in old[1:]:
                x = _merged(op, x, axis)
            for n in new[:-1]:
                x = _split(op, x, axis, n)
                axis += 1
        axis += 1
    return _with_ones(x, op.shape)


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[Shape, Shape]]:
    """The shortest runs of old and of new axes that have as many elements."""
    groups, i, j = list[tuple[Shape, Shape]](), 0, 0
    while i < len(old):
        a, b = i + 1, j + 1
        while (have := math.prod(old[i:a])) != (want := math.prod(new[j:b])):
            a, b = (a + 1, b) if have < want else (a, b + 1)
        groups.append((tuple(old[i:a]), tuple(new[j:b])))
        i, j = a, b
    return groups


def _without_ones(x: Stack) -> Stack:
    """x without the axes that have one element."""
    kept = layouts.long_axes(x.shape)
    names = {old: new for new, old in enumerate(kept)}
    parts = each(x.parts, lambda a: a.renamed(tuple(a.shape[k] for k in kept), names))
    return Stack(parts.reshape([x.parts.shape[k] for k in kept]), tuple(x.shape[k] for k in kept), x.dtype)


def _with_ones(x: Stack, shape: Shape) -> Stack:
    """x, with axes of one element where `shape` has them."""
    names = dict(enumerate(layouts.long_axes(shape)))
    old = {new: k for k, new in names.items()}

    def widened(sizes: Shape) -> Shape:
        return tuple(sizes[old[k]] if k in old else 1 for k in range(len(shape)))

    parts = each(x.parts, lambda a: a.renamed(widened(a.shape), names))
    return Stack(parts.reshape(widened(x.parts.shape)), shape, x.dtype)


# two axes as one


def _in_one(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])


def _merged(op: Operation, x: Stack, axis: int) -> Stack:
    """x with `axis` and the next one as one."""
    x = fitting(op, x)
    shape, (b, c) = _in_one(x.shape, axis), x.shape[axis : axis + 2]
    names = {k: k if k <= axis else k - 1 for k in range(len(x.shape))}

    def renamed(a: Array) -> Array:
        return a.renamed(_in_one(a.shape, axis), names)

    if {axis, axis + 1} <= x.axes:
        parts = each(x.parts, lambda a: _flat(a, axis, _in_one(a.shape, axis)))
        return Stack(parts.reshape(_in_one(x.parts.shape, axis)), shape, x.dtype)
    if {axis, axis + 1} & (x.cut | x.axes):
        x = x if axis in x.axes else every(op, x, axis)
        x = x if axis + 1 in x.axes else every(op, x, axis + 1)
    parts = each(x.parts, renamed).reshape(_in_one(x.parts.shape, axis))
    if not {axis, axis + 1} & x.axes:
        return Stack(parts, shape, x.dtype)
    first = axis in x.axes

    def beside(index: Index) -> Array:
        line = list(parts[(*index[:axis], slice(None), *index[axis + 1 :])])
        sizes = (*line[0].shape[:axis], b * c, *line[0].shape[axis + 1 :])
        whole = layouts.joined(replace(op, gives=((sizes, x.dtype),)), line, axis)
        return _woven(whole, axis, b, c) if first else whole

    return Stack(grid(op, (*parts.shape[:axis], 1, *parts.shape[axis + 1 :]), beside), shape, x.dtype)


def _flat(a: Array, axis: int, shape: Shape) -> Array:
    """Of a tile that has both of the axes: one row, or column."""
    if not a.axes:
        return Array(a.value, shape, a.dtype)
    last = axis == len(shape) - 1
    value = pto.reshape(spread(a, axis, axis + 1), (1, shape[axis]) if last else (shape[axis], 1))
    return Array(value, shape, a.dtype, *((None, axis) if last else (axis, None)))


def _woven(a: Array, axis: int, b: int, c: int) -> Array:
    """a, whose elements along an axis are c runs of b: the first of each run, then the second of each, ..."""
    in_cols = axis == a.col
    place = pto.iota((1, b * c), axis=1) if in_cols else pto.iota((b * c, 1), axis=0)
    index = pto.fmod(place, c) * b + place // c
    return Array(pto.gather(a.value, index, axis=int(in_cols)), a.shape, a.dtype, a.row, a.col)


# one axis as two


def _split(op: Operation, x: Stack, axis: int, n: int) -> Stack:
    """x with `axis` as two, the first of n elements."""
    x = fitting(op, x)
    m = x.shape[axis] // n
    after = {k: k if k < axis else k + 1 for k in range(len(x.shape))}

    def in_two(sizes: Shape, first: int, second: int) -> Shape:
        return (*sizes[:axis], first, second, *sizes[axis + 1 :])

    def stack(parts: Parts) -> Stack:
        return Stack(parts, in_two(x.shape, n, m), x.dtype)

    if axis in x.cut:
        parts = each(x.parts, lambda a: a.renamed(in_two(a.shape, 1, 1), after))
        return stack(parts.reshape(in_two(x.parts.shape, n, m)))
    if axis not in x.axes:
        parts = each(x.parts, lambda a: a.renamed(in_two(a.shape, n, m), after))
        return stack(parts.reshape(in_two(x.parts.shape, 1, 1)))
    if x.axes == frozenset((axis,)):
        parts = each(x.parts, lambda a: _square(a, axis, in_two(a.shape, n, m)))
        return stack(parts.reshape(in_two(x.parts.shape, 1, 1)))
    leading = n <= STRIDED * m

    def run(index: Index) -> Array:
        a: Array = x.parts[(*index[:axis], 0, *index[axis + 2 :])]
        names = after if leading else after | {axis: axis}
        shape = in_two(a.shape, 1, m) if leading else in_two(a.shape, n, 1)
        if axis not in a.axes:
            return a.renamed(shape, names)
        in_cols = int(axis == a.col)
        if leading:
            value = layouts.taken(a.value, index[axis] * m, m, in_cols)
        else:
            value = layouts.picked(a.value, index[axis + 1], m, n, in_cols)
        return Array(value, a.shape, a.dtype, a.row, a.col).renamed(shape, names)

    return stack(grid(op, in_two(x.parts.shape, *((n, 1) if leading else (1, m))), run))


def _square(a: Array, axis: int, shape: Shape) -> Array:
    """Of a tile that has this axis alone: in rows and columns."""
    if not a.axes:
        return Array(a.value, shape, a.dtype)
    return Array(pto.reshape(a.value, shape[axis : axis + 2]), shape, a.dtype, axis, axis + 1)
