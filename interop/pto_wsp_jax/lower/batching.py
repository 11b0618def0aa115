"""Which part of a tensor one iteration of a loop has to itself: what `vmap` maps over and `scan` scans over.

for i in P(4): k(x=X[i], y=Y[:, 8 * i : 8 * i + 8])      X: one row, dimension 0; Y: a block of 8, dimension 1
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax

from pto_wsp.ir.core import At, Axis, Eqn, Gather, Region, Slice, TileAt, View, ViewDim
from pto_wsp.ir.expr import Expr, Op, apply, var
from pto_wsp_jax.lower import numbers
from pto_wsp_jax.lower.numbers import INF, Int, Number
from pto_wsp_jax.lower.views import Part, padded


@dataclass(frozen=True)
class Block:
    """Iteration i has elements first + size * i .. first + size * (i + 1) of dimension `dim` of a part."""

    dim: int
    first: int
    size: int

    def split(self, array: jax.Array, count: int) -> jax.Array:
        """The blocks: a dimension of `count` before the one that they are of."""
        stop = self.first + self.size * count
        array = padded(array, self.dim, stop)
        array = lax.slice_in_dim(array, self.first, stop, axis=self.dim)
        shape = array.shape
        return array.reshape(*shape[: self.dim], count, self.size, *shape[self.dim + 1 :])

    def joined(self, blocks: jax.Array, old: jax.Array) -> jax.Array:
        """`old` with these blocks."""
        shape = blocks.shape
        new = blocks.reshape(*shape[: self.dim], shape[self.dim] * self.size, *shape[self.dim + 2 :])
        room = old.shape[self.dim] - self.first
        if new.shape[self.dim] > room:
            new = lax.slice_in_dim(new, 0, room, axis=self.dim)
        if new.shape == old.shape:
            return new
        return lax.dynamic_update_slice_in_dim(old, new, self.first, axis=self.dim)

    def base(self, part: Part, loop: str) -> tuple[Expr, ...]:
        at = part.base[self.dim] + var(loop) * self.size + self.first
        return (*part.base[: self.dim], at, *part.base[self.dim + 1 :])


def views_in(region: Region) -> Iterator[View]:
    """Every view in a region, index views included."""
    for top in region.eqns:
        for eqn in top.walk():
            for x in eqn.ins:
                if isinstance(x, View):
                    yield x
                    yield from x.index_views()


class Ranges:
    """Least and greatest value of expressions in a region: of variables around it from what is known of them, of loops inside from
    their extents."""

    def __init__(
        self, env: Mapping[str, Number], region: Region, norm: Callable[[Expr], Expr], own: Mapping[str, Any]
    ) -> None:
        self._norm = norm
        self._ends = {n: numbers.ends(x) for n, x in env.items() if isinstance(x, (int, Int))} | dict(own)
        for top in region.eqns:
            for eqn in top.walk():
                axis = eqn.params.get("axis")
                if isinstance(axis, Axis):
                    _, most = self.of(axis.extent)
                    self._ends[eqn.regions[0].params[0].name] = (0, max(most - 1, 0))

    def of(self, e: Expr) -> numbers.Ends:
        return numbers.ends_of(self._norm(e), self._ends)


def start_of(d: ViewDim) -> Expr:
    return d.index if isinstance(d, At) else d.start  # type: ignore[union-attr]


def length_of(d: ViewDim, ranges: Ranges) -> float:
    match d:
        case At():
            return 1
        case Slice():
            return d.length
        case TileAt():
            return d.size
        case _:
            return ranges.of(d.length)[1]  # type: ignore[union-attr]


def line(e: Expr, loop: str) -> tuple[int, Expr] | None:
    """e as coef * loop + rest, the rest without the loop's variable; None where it is no such sum."""
    coef = next((c for atom, c in e.terms if atom == loop), 0)
    rest = e - var(loop) * coef
    return None if loop in rest.names() else (coef, rest)


def blocks_of(
    tensors: Iterable[str],
    views: Iterable[View],
    parts: Mapping[str, Part],
    loop: str,
    count: int,
    ranges: Ranges,
    norm: Any,
    in_place: Container[str],
) -> dict[str, Block]:
    """The block of each tensor that one iteration of the loop has, for those of which all views lie in it. in_place: tensors that had better
    stay where they are, where blocks would have to be moved together."""
    by_tensor: dict[str, list[View]] = {}
    for v in views:
        by_tensor.setdefault(v.tensor, []).append(v)
    out: dict[str, Block] = {}
    for name in tensors:
        part = parts[name]
        dims = [k for k in range(len(part.shape)) if name not in in_place or all(n == 1 for n in part.array.shape[:k])]
        found = (_block(k, by_tensor[name], part, loop, count, ranges, norm) for k in dims)
        block = next((b for b in found if b is not None), None)
        if block is not None:
            out[name] = block
    return out


def _block(k: int, views: list[View], part: Part, loop: str, count: int, ranges: Ranges, norm: Any) -> Block | None:
    size, ends = 0, []
    for v in views:
        d = v.dims[k]
        if isinstance(d, Gather):
            return None
        found = line(norm(start_of(d) - part.base[k]), loop)
        if found is None or found[0] <= 0 or size not in (0, found[0]):
            return None
        size = found[0]
        least, most = ranges.of(found[1])
        ends.append((least, most + length_of(d, ranges)))
    least, most = min(e[0] for e in ends), max(e[1] for e in ends)
    if least < 0 or most - least > size or math.isinf(most):
        return None
    first = int(least)
    if first + size * (count - 1) >= part.array.shape[k]:
        return None
    return Block(k, first, size)


# Loops over groups: floordiv(i, g) and mod(i, g) become variables of their own.


def group_of(region: Region, loop: str, norm: Callable[[Expr], Expr]) -> int | None:
    """The g of all floordiv(loop, g) and mod(loop, g) in a region, where it is one."""
    found: set[int] = set()
    for e in _exprs_in(region):
        _collect(norm(e), loop, found)
    return found.pop() if len(found) == 1 else None


def _exprs_in(region: Region) -> Iterator[Expr]:
    for top in region.eqns:
        for eqn in top.walk():
            for x in eqn.ins:
                if isinstance(x, View):
                    yield from x.exprs()
                elif isinstance(x, Expr):
                    yield x
            axis = eqn.params.get("axis")
            if isinstance(axis, Axis):
                yield axis.size


def _collect(e: Expr, loop: str, found: set[int]) -> None:
    for atom, _ in e.terms:
        if isinstance(atom, Op):
            if atom.kind in ("floordiv", "mod") and atom.a == var(loop) and atom.b.is_const and atom.b.const > 1:
                found.add(atom.b.const)
            _collect(atom.a, loop, found)
            _collect(atom.b, loop, found)


def grouped(e: Expr, loop: str, group: int, outer: Expr, inner: Expr) -> Expr:
    """e with loop = outer * group + inner."""
    whole = outer * group + inner
    out = Expr(e.const)
    for atom, coef in e.terms:
        out = out + _atom(atom, loop, group, outer, inner, whole) * coef
    return out


def _atom(atom: str | Op, loop: str, group: int, outer: Expr, inner: Expr, whole: Expr) -> Expr:
    if isinstance(atom, str):
        return whole if atom == loop else var(atom)
    if atom.a == var(loop) and atom.b == Expr(group) and atom.kind in ("floordiv", "mod"):
        return outer if atom.kind == "floordiv" else inner
    return apply(atom.kind, *(grouped(x, loop, group, outer, inner) for x in (atom.a, atom.b)))


# How often a loop runs at most


def most_iterations(region: Region, loop: str, parts: Mapping[str, Part], ranges: Ranges) -> float:
    """By what its iterations touch, which lies inside of the tensors; infinite where an iteration may touch nothing that tells."""
    bounds = [
        _most_of(eqn, loop, parts, ranges, sure)
        for eqn, sure in _effects(region, True)
        if eqn.prim in ("task", "slot_set")
    ]
    return max(bounds, default=INF)


def _effects(region: Region, sure: bool) -> Iterator[tuple[Eqn, bool]]:
    for eqn in region.eqns:
        yield eqn, sure
        for r in eqn.regions:
            yield from _effects(r, sure and eqn.prim != "cond")


def _most_of(eqn: Eqn, loop: str, parts: Mapping[str, Part], ranges: Ranges, sure: bool) -> float:
    least = INF
    views = [v for x in eqn.ins if isinstance(x, View) for v in (x, *x.index_views())]
    for v in views:
        for k, d in enumerate(v.dims):
            if isinstance(d, Gather):
                continue
            found = line(start_of(d), loop)
            if found is None or found[0] <= 0:
                continue
            rest = ranges.of(found[1])[0]
            if sure:  # it lies inside of the tensor in the first iteration too
                rest = max(rest, 0)
            length = d.length if isinstance(d, Slice) else 1
            if not math.isinf(rest):
                least = min(least, (parts[v.tensor].shape[k] - length - rest) // found[0] + 1)
    return max(least, 0)
