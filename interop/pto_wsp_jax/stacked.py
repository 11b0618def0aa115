"""Primitives of JAX on arrays in more tiles than one: the rules of one tile, part by part, and what becomes of the axes that are cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax import lax

from pto_wsp_jax import elementwise, layouts
from pto_wsp_jax.arrays import Array, Operation, as_scalar
from pto_wsp_jax.products import dot_general, gather
from pto_wsp_jax.reshaped import reshaped
from pto_wsp_jax.stacks import (
    Index,
    Parts,
    Stack,
    Wide,
    accumulated,
    alike,
    check_count,
    cut,
    each,
    every,
    fewest,
    fitting,
    grid,
    in_tile,
    known_index,
    of_parts,
    piece,
    settled,
    stack_of,
    uncut,
)

Rule = Callable[..., Any]


def apply(op: Operation, ins: Sequence[Wide]) -> list[Wide]:
    """What an equation gives."""
    name = op.primitive.name
    if name not in elementwise.TILES and name not in layouts.RULES:
        raise op.refusal()
    shapes = [*(a.shape for a in ins), *(s for s, _ in op.gives)]
    arrays = [a for a in ins if isinstance(a, Array)]
    if (
        len(arrays) == len(ins)
        and all(len(layouts.long_axes(s)) <= 2 for s in shapes)
        and not _is_long_product(op, ins)
    ):
        return [*_plain(op, *arrays)]
    given = RULES.get(name, _elementwise)(op, *map(stack_of, ins))
    return [settled(x) for x in (given if isinstance(given, list) else [given])]


def _is_long_product(op: Operation, ins: Sequence[Wide]) -> bool:
    """Whether it is a sum over two long axes."""
    if op.primitive.name != "dot_general":
        return False
    (left, _), _ = op.params["dimension_numbers"]
    return sum(ins[0].shape[k] > 1 for k in left) > 1


def _plain(op: Operation, *arrays: Array) -> list[Array]:
    """What it gives of arrays that are in one tile each."""
    name = op.primitive.name
    if name in elementwise.TILES:
        return [elementwise.rule(op, *arrays)]
    given = layouts.RULES[name](op, *arrays)
    return given if isinstance(given, list) else [given]


def _part_by_part(op: Operation, *xs: Stack) -> list[Stack]:
    """The rule of one tile on each part of operands whose axes are those of the results, and that are cut alike."""
    cuts = frozenset[int]().union(*(x.cut for x in xs))
    sizes = np.broadcast_shapes(*(x.parts.shape for x in xs))
    cuts = frozenset(k for k in cuts if sizes[k] > 1)
    part = of_parts(op, cuts)
    check_count(op, math.prod(sizes))
    made = {index: _plain(part, *(x.part(index, cuts) for x in xs)) for index in np.ndindex(*sizes)}
    return [Stack(grid(op, sizes, lambda index, k=k: made[index][k]), *x) for k, x in enumerate(op.gives)]


def _elementwise(op: Operation, *xs: Stack) -> Stack:
    return _part_by_part(op, *alike(op, xs)[0])[0]


# shapes


def _renamed(op: Operation, x: Stack, sizes: Sequence[int]) -> Stack:
    """The rule of one tile on each part, which are as many along each axis of the result."""
    part = of_parts(op, [k for k, n in enumerate(sizes) if n > 1])
    return Stack(each(x.parts, lambda a: _plain(part, a)[0]).reshape(sizes), *op.gives[0])


def _broadcast_in_dim(op: Operation, x: Stack) -> Stack:
    sizes = [1] * len(op.shape)
    for k, new in enumerate(op.params["broadcast_dimensions"]):
        sizes[new] = x.parts.shape[k]
    return _renamed(op, x, sizes)


def _squeeze(op: Operation, x: Stack) -> Stack:
    gone = {k % len(x.shape) for k in op.params["dimensions"]}
    return _renamed(op, x, [n for k, n in enumerate(x.parts.shape) if k not in gone])


def _transpose(op: Operation, x: Stack) -> Stack:
    order = op.params["permutation"]
    return _renamed(op, replace(x, parts=x.parts.transpose(order)), [x.parts.shape[k] for k in order])


def _reshape(op: Operation, x: Stack) -> Stack:
    if op.params.get("dimensions") is not None:
        raise op.refusal("with dimensions")
    return reshaped(op, x)


def _same(op: Operation, *xs: Stack) -> list[Stack]:
    return list(xs)


def _iota(op: Operation) -> Stack:
    return stack_of(layouts.RULES["iota"](op))


# reductions


def _reduction(fold: Any) -> Rule:
    def reduce(op: Operation, x: Stack) -> Stack:
        """Of each part along the axes that it has, and then of the parts, in order."""
        axes = op.params["axes"]
        x = fitting(op, x)
        for k in axes:
            if x.shape[k] > 1 and k not in x.cut | x.axes:
                x = every(op, x, k)
        kept = [k for k in range(len(x.shape)) if k not in axes]
        part = of_parts(op, [new for new, old in enumerate(kept) if old in x.cut])
        parts = each(x.parts, lambda a: _plain(part, a)[0]).transpose(*kept, *axes)
        lines = parts.reshape(*(x.parts.shape[k] for k in kept), -1)
        made = grid(op, lines.shape[:-1], lambda index: accumulated(part, fold, lines[index]))
        return Stack(made, *op.gives[0])

    return reduce


def _along(op: Operation, x: Stack) -> Stack:
    """What runs along one axis, in tiles that have it."""
    return _part_by_part(op, uncut(op, x, op.params["axis"]))[0]


def _arg(op: Operation, x: Stack) -> Stack:
    (axis,) = op.params["axes"]
    x = uncut(op, x, axis)
    return _renamed(op, x, [n for k, n in enumerate(x.parts.shape) if k != axis])


def _sort(op: Operation, *xs: Stack) -> list[Stack]:
    axis = op.params["dimension"]
    cuts = frozenset[int]().union(*(x.cut for x in xs)) - {axis}
    axes = frozenset[int]().union(*(x.axes for x in xs), {axis}) - cuts
    cuts |= fewest(op.shape, axes, (axis,))
    return _part_by_part(op, *(uncut(op, cut(op, x, cuts), axis) for x in xs))


def _top_k(op: Operation, x: Stack) -> list[Stack]:
    return _part_by_part(op, uncut(op, x, op.params.get("axis", len(x.shape) - 1)))


# parts


def _slice(op: Operation, x: Stack) -> Stack:
    starts, stops = op.params["start_indices"], op.params["limit_indices"]
    strides = op.params["strides"] or (1,) * len(starts)
    cuts = x.cut
    for k in cuts:
        x = replace(x, parts=piece(x, k, slice(starts[k], stops[k], strides[k])))

    def inside(given: Sequence[int], of_cut: int) -> tuple[int, ...]:
        return tuple(of_cut if k in cuts else n for k, n in enumerate(given))

    params = {"start_indices": inside(starts, 0), "limit_indices": inside(stops, 1), "strides": inside(strides, 1)}
    part = of_parts(replace(op, params=params), cuts)
    return Stack(each(x.parts, lambda a: _plain(part, a)[0]), *op.gives[0])


def _dynamic_slice(op: Operation, x: Stack, *indices: Stack) -> Stack:
    cuts, starts = x.cut, [in_tile(op, i) for i in indices]
    for k in cuts:
        if op.shape[k] < x.shape[k]:
            begin = known_index(op, layouts.clamped(as_scalar(starts[k]), x.shape[k] - op.shape[k]), k)
            x = replace(x, parts=piece(x, k, slice(begin, begin + op.shape[k])))
    part = of_parts(op, cuts)
    return Stack(each(x.parts, lambda a: _plain(part, a, *starts)[0]), *op.gives[0])


def _dynamic_update_slice(op: Operation, x: Stack, new: Stack, *indices: Stack) -> Stack:
    starts = [in_tile(op, i) for i in indices]
    partly = {k for k, n in enumerate(new.shape) if n < x.shape[k]}
    cuts = x.cut | new.cut
    cuts |= fewest(x.shape, (x.axes | new.axes | partly) - cuts)
    begin = {k: layouts.clamped(as_scalar(starts[k]), x.shape[k] - new.shape[k]) for k in partly & cuts}
    begin = {k: known_index(op, i, k) for k, i in begin.items()}
    for k in cuts:
        x, new = every(op, x, k), every(op, new, k)
    part = of_parts(op, cuts)

    def element(index: Index) -> Array:
        place = tuple(i - begin.get(k, 0) for k, i in enumerate(index))
        old = x.part(index, cuts)
        if all(0 <= place[k] < new.shape[k] for k in begin):
            return _plain(part, old, new.part(place, cuts), *starts)[0]
        return old

    return Stack(grid(op, x.parts.shape, element), *op.gives[0])


def joined(op: Operation, arrays: Sequence[Wide], axis: int) -> Stack:
    """The arrays one behind the other along an axis."""
    xs = [stack_of(a) for a in arrays if a.shape[axis] > 0]
    xs, cuts = alike(op, xs, axis)
    if axis in cuts:
        xs = [every(op, x, axis) for x in xs]
        others = np.broadcast_shapes(*((*x.parts.shape[:axis], 1, *x.parts.shape[axis + 1 :]) for x in xs))
    else:
        others = np.broadcast_shapes(*(x.parts.shape for x in xs))
    own = frozenset(k for k, n in enumerate(others) if n > 1)

    def placed(x: Stack) -> Parts:
        sizes = (*others[:axis], x.parts.shape[axis], *others[axis + 1 :])
        return grid(op, sizes, lambda index: x.part(index, own))

    if axis in cuts:
        return Stack(np.concatenate([placed(x) for x in xs], axis=axis), *op.gives[0])
    part = of_parts(op, own)
    made = grid(op, others, lambda index: layouts.joined(part, [x.part(index, own) for x in xs], axis))
    return Stack(made, *op.gives[0])


def _concatenate(op: Operation, *xs: Stack) -> Stack:
    return joined(op, xs, op.params["dimension"])


def _stack(op: Operation, *xs: Stack) -> Stack:
    return joined(op, [_with_axis(x, op.params["axis"]) for x in xs], op.params["axis"])


def _with_axis(x: Stack, axis: int) -> Stack:
    """x, with an axis of one element more."""
    names = {k: k + (k >= axis) for k in range(len(x.shape))}
    parts = each(x.parts, lambda a: a.renamed((*a.shape[:axis], 1, *a.shape[axis:]), names))
    return Stack(np.expand_dims(parts, axis), (*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)


def _unstack(op: Operation, x: Stack) -> list[Stack]:
    axis = op.params["axis"]
    x = every(op, x, axis)
    names = {k: k - (k > axis) for k in range(len(x.shape)) if k != axis}

    def element(i: int) -> Parts:
        parts = x.parts[(slice(None),) * axis + (i,)]
        return each(np.asarray(parts, object), lambda a: a.renamed((*a.shape[:axis], *a.shape[axis + 1 :]), names))

    return [Stack(element(i), *given) for i, given in enumerate(op.gives)]


def _split(op: Operation, x: Stack) -> list[Stack]:
    axis, begin, made = op.params["axis"], 0, list[Stack]()
    if axis not in x.cut:
        return _part_by_part(op, x)
    for n, given in zip(op.params["sizes"], op.gives, strict=True):
        made.append(Stack(piece(x, axis, slice(begin, begin + n)), *given))
        begin += n
    return made


def _pad(op: Operation, x: Stack, value: Stack) -> Stack:
    return layouts.padding(joined)(op, x, in_tile(op, value))


def _rev(op: Operation, x: Stack) -> Stack:
    turned = tuple(k for k in op.params["dimensions"] if k in x.cut)
    return _part_by_part(op, replace(x, parts=np.flip(x.parts, turned)))[0]


def stack(op: Operation, arrays: Sequence[Wide]) -> Wide:
    """The arrays as one, along a new first axis."""
    return settled(_stack(replace(op, params={"axis": 0}), *map(stack_of, arrays)))


def unstacked(op: Operation, x: Wide) -> list[Wide]:
    """x[0], x[1], ..."""
    rest = ((x.shape[1:], x.dtype),) * x.shape[0]
    return [settled(a) for a in _unstack(replace(op, params={"axis": 0}, gives=rest), stack_of(x))]


RULES: Mapping[str, Rule] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "copy": _same,
    "stop_gradient": _same,
    "optimization_barrier": _same,
    "iota": _iota,
    "reduce_sum": _reduction(lax.add_p),
    "reduce_prod": _reduction(lax.mul_p),
    "reduce_max": _reduction(lax.max_p),
    "reduce_min": _reduction(lax.min_p),
    "reduce_or": _reduction(lax.or_p),
    "reduce_and": _reduction(lax.and_p),
    "argmax": _arg,
    "argmin": _arg,
    "cumsum": _along,
    "dot_general": dot_general,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "pad": _pad,
    "tile": layouts.repeating(joined),
    "rev": _rev,
    "gather": gather,
    "split": _split,
    "sort": _sort,
    "top_k": _top_k,
}
