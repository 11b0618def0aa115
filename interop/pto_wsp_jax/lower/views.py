"""Tensors while a workload is lowered, and what their views read and write.

A tensor is a whole array, or inside of a batched loop the part of it that one iteration has: `base` says where in the tensor that part
begins. Views become slices where their place is known, dynamic slices where it is traced, gathers and scatters where a tile may reach
over the end or rows are named one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pto_wsp.ir.core import At, Gather, Slice, Span, TileAt, View, ViewDim
from pto_wsp.ir.expr import Expr, var
from pto_wsp_jax.lower import numbers
from pto_wsp_jax.lower.numbers import Int, high, raw, step
from pto_wsp_jax.lower.slices import dynamic_slice, lane_slice


@dataclass(frozen=True)
class Part:
    """A tensor, or a part of it. shape: of the whole tensor; base: where in it the part begins; limits: least and greatest element, of
    integers that are known."""

    array: jax.Array
    shape: tuple[int, ...]
    base: tuple[Expr, ...]
    limits: tuple[float, float] = (-numbers.INF, numbers.INF)

    @staticmethod
    def whole(array: jax.Array, limits: tuple[float, float] = (-numbers.INF, numbers.INF)) -> Part:
        return Part(array, array.shape, (Expr(),) * array.ndim, limits)

    def holding(self, array: jax.Array) -> Part:
        return replace(self, array=array)


@dataclass(frozen=True)
class Batch:
    """Iterations first, first + 1, ... of `total` of a loop, which are computed at once; number: 0, 1, ..."""

    number: Any
    count: int
    first: Any
    total: int


@partial(jax.tree_util.register_dataclass, data_fields=["first", "numbers"], meta_fields=["steps"])
@dataclass(frozen=True)
class Lanes:
    """Where a place begins: first + step * number for each batched loop around, of the number of its iteration."""

    first: Any
    numbers: tuple[Any, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """What a view takes of one dimension of a part: `size` elements from `start` on, of which `valid` are there; or the elements `index`.
    `kept`: whether the dimension stays. `inside`: whether all `size` elements are in the array for sure."""

    start: int | Int
    size: int
    valid: int | Int
    kept: bool
    inside: bool
    index: jax.Array | None = None
    at_end: bool = False  # what is not valid lies behind the end of the tensor
    lanes: Lanes | None = None


class Scope:
    """What expressions and index views name."""

    def __init__(
        self, env: Mapping[str, Any], parts: Mapping[str, Part], norm: Any, batches: Mapping[str, Batch]
    ) -> None:
        self.env, self.parts, self.norm, self.batches = env, parts, norm, batches

    def lanes(self, e: Expr, size: int, room: int) -> Lanes | None:
        """Of the first of `size` elements: where the iterations of batched loops take them side by side."""
        e = self.norm(e)
        found: list[tuple[Batch, int]] = []
        for name, batch in reversed([*self.batches.items()]):  # the innermost first
            step = next((c for atom, c in e.terms if atom == name), 0)
            if step == 0:
                continue
            if step < size:
                return None
            size = step * batch.total
            found.append((batch, step))
            e = e - var(name) * step
        if not found or not e.is_const or not 0 <= e.const <= room - size:
            return None
        first = e.const + sum(batch.first * step for batch, step in found)
        return Lanes(first, tuple(batch.number for batch, _ in found), tuple(step for _, step in found))

    def integer(self, e: Expr) -> int | Int:
        return numbers.value_of(self.norm(e), self.env)


def place(d: ViewDim, k: int, part: Part, scope: Scope) -> Place:
    """Where dimension k of a view lies."""
    size = part.array.shape[k]
    if isinstance(d, Gather):
        index, (valid,) = read(d.index, scope)
        return Place(0, index.shape[0], valid, True, False, index)
    first = (d.index if isinstance(d, At) else d.start) - part.base[k]
    start = scope.integer(first)
    match d:
        case At():
            return Place(start, 1, 1, False, True, lanes=scope.lanes(first, 1, size))
        case Slice():
            return Place(start, d.length, d.length, True, True, lanes=scope.lanes(first, d.length, size))
        case Span():
            return Place(start, size, numbers.within(scope.integer(d.length), 0, part.shape[k]), True, False)
        case TileAt():
            return _tile_place(d, k, start, part, scope)


def _tile_place(d: TileAt, k: int, start: int | Int, part: Part, scope: Scope) -> Place:
    size = part.array.shape[k]
    left = scope.integer(d.limit - d.start)
    valid = numbers.minimum(d.size, left)
    if isinstance(valid, Int) and step(left) % d.size == 0 and step(left) > 0:
        valid = d.size  # whole tiles, and each has an element
    fits = high(start) + d.size <= size
    steps = size % d.size == 0 and step(start) % d.size == 0
    limit = scope.integer(d.limit)
    at_end = isinstance(limit, int) and limit >= part.shape[k]
    if isinstance(start, int) and isinstance(valid, int) and start + valid <= size:
        return Place(start, d.size, valid, True, start + d.size <= size, at_end=at_end)
    return Place(start, d.size, valid, True, bool(fits or steps), at_end=at_end)


def places(view: View, scope: Scope) -> list[Place]:
    part = scope.parts[view.tensor]
    return [place(d, k, part, scope) for k, d in enumerate(view.dims)]


def read(view: View, scope: Scope) -> tuple[jax.Array, tuple[int | Int, ...]]:
    """The elements of a view in its static shape, and how many of each dimension are valid."""
    at = places(view, scope)
    array = taken(scope.parts[view.tensor].array, at)
    dropped = tuple(k for k, p in enumerate(at) if not p.kept)
    return lax.squeeze(array, dropped), tuple(p.valid for p in at if p.kept)


def taken(array: jax.Array, at: Sequence[Place]) -> jax.Array:
    """What the places name, all dimensions kept. What is not there is any element, or 0."""
    for k, p in enumerate(at):
        if p.index is not None:
            array = jnp.take(array, p.index, axis=k, mode="clip")
        elif not p.inside and isinstance(p.start, Int):
            rows = p.start.value + jnp.arange(p.size)
            array = jnp.take(array, rows, axis=k, mode="clip")
        elif isinstance(p.start, int) and not p.inside:
            array = _cut(array, k, p.start, p.size)
    rest = [(0, array.shape[k]) if p.index is not None or not p.inside else (p.start, p.size) for k, p in enumerate(at)]
    return sliced(array, [s for s, _ in rest], [n for _, n in rest], [p.lanes for p in at])


def _cut(array: jax.Array, k: int, start: int, size: int) -> jax.Array:
    """`size` elements from `start` on, behind the end zeros."""
    have = lax.slice_in_dim(array, min(start, array.shape[k]), min(start + size, array.shape[k]), axis=k)
    return padded(have, k, size)


def padded(array: jax.Array, k: int, size: int) -> jax.Array:
    """The array with zeros behind, so that dimension k has so many elements."""
    missing = size - array.shape[k]
    if missing <= 0:
        return array
    return jnp.pad(array, [(0, missing if i == k else 0) for i in range(array.ndim)])


def sliced(
    array: jax.Array, starts: Sequence[int | Int], sizes: Sequence[int], lanes: Sequence[Lanes | None]
) -> jax.Array:
    """A slice that lies inside of the array."""
    if tuple(sizes) == array.shape:
        return array
    for k, (s, n) in enumerate(zip(starts, sizes, strict=True)):
        if isinstance(s, int) and n != array.shape[k]:
            first = max(0, min(s, array.shape[k] - n))  # what lies outside is an error of a run
            array = lax.slice_in_dim(array, first, first + n, axis=k)
    if not any(isinstance(s, Int) for s in starts):
        return array
    at = [s.value if isinstance(s, Int) else 0 for s in starts]
    dims, numbers_, steps = [], [], []
    for k, x in enumerate(lanes):
        if x is not None and isinstance(starts[k], Int):
            at[k] = x.first
            dims += [k] * len(x.steps)
            numbers_ += x.numbers
            steps += x.steps
    return lane_slice(array, numbers_, at, sizes, dims, steps) if dims else dynamic_slice(array, at, sizes)


def written(part: Part, at: Sequence[Place], value: jax.Array, active: Any) -> Part:
    """The part with `value`, of the kept dimensions, at these places: as far as it is valid, and where `active`."""
    array = part.array
    value = value.astype(array.dtype).reshape([p.size for p in at])
    if all(p.inside for p in at):
        starts = [p.start for p in at]
        mask = _mask(at, active)
        if mask is not None:
            value = jnp.where(mask, value, taken(array, at))
        if value.shape == array.shape:
            return part.holding(value)
        return part.holding(_updated(array, value, starts))
    return part.holding(_scattered(array, at, value, active))


def _updated(array: jax.Array, value: jax.Array, starts: Sequence[int | Int]) -> jax.Array:
    if any(isinstance(s, Int) for s in starts):
        return lax.dynamic_update_slice(array, value, [jnp.asarray(raw(s), jnp.int32) for s in starts])
    first = [max(0, min(int(numbers.low(s)), n - m)) for s, n, m in zip(starts, array.shape, value.shape, strict=True)]
    return lax.dynamic_update_slice(array, value, first)


def _mask(at: Sequence[Place], active: Any) -> Any:
    """Which elements are written; None where all are."""
    mask = active
    for k, p in enumerate(at):
        if p.at_end or (isinstance(p.valid, int) and p.valid >= p.size):
            continue
        rows = jnp.arange(p.size) < raw(p.valid)
        rows = rows.reshape([p.size if i == k else 1 for i in range(len(at))])
        mask = rows if mask is None else mask & rows
    return mask


def _scattered(array: jax.Array, at: Sequence[Place], value: jax.Array, active: Any) -> jax.Array:
    """Element by element; of an element that is named twice the last one stays."""
    index: list[Any] = []
    for k, p in enumerate(at):
        rows = raw(p.start) + jnp.arange(p.size) if p.index is None else p.index
        there = jnp.arange(p.size) < raw(p.valid)
        if active is not None:
            there = there & active
        if p.index is not None and p.size > 1:
            named = rows[:, None] == rows[None, :]
            again = jnp.triu(jnp.ones((p.size, p.size), bool), 1) & there[None, :]
            there = there & ~(named & again).any(axis=1)
        rows = jnp.where(there & (rows >= 0), rows, array.shape[k])
        index.append(rows.reshape([p.size if i == k else 1 for i in range(len(at))]))
    return array.at[tuple(index)].set(value, mode="drop")
