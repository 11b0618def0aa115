"""Workloads whose outermost loops do the same to each part of their tensors: what there is to divide, and the workload of one share.

    parallel_for i in i: Range(16) {                        level: 16 parts, dimension 0 of x and of y
      task k[i](x=x[i, 0 :+ 8], w=w[0 :+ 8], y=y[i, 0 :+ 8])
    }

A device that has four of the sixteen rows of x and y, and all of w, runs the same loop over `Range(4)`. Inner loops are levels in their turn,
where every loop of the body goes over parts of its own: those of nested `vmap`s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import lcm

from pto_wsp.ir.core import (
    Axis,
    DataAxis,
    Eqn,
    Gather,
    Slice,
    TensorType,
    TileAt,
    Var,
    View,
    ViewDim,
    Wir,
    written_tensors,
)
from pto_wsp.ir.coverage import Uses, iterates
from pto_wsp.ir.expr import Expr, const, var
from pto_wsp.ir.rename import Renaming
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import LOOPS, PARTS, READS, SLOTS


@dataclass(frozen=True)
class Level:
    """One nest of loops: the dimension of each of these tensors of which iterations have parts of their own.

    size: its elements. block: so many of them belong together.
    """

    size: int
    block: int
    dims: Mapping[str, int]

    def divides(self, n: int) -> bool:
        """Whether there are `n` equal shares."""
        return self.size % (self.block * n) == 0


def levels(wir: Wir) -> tuple[Level, ...]:
    """What can be divided, from the outermost loops inwards. Sizes must be numbers: see `with_sizes`."""
    if any(e.prim in SLOTS for top in wir.body.eqns for e in top.walk()):
        return ()  # whose values one iteration hands on to another
    look = _Levels(wir)
    eqns: Sequence[Eqn] = wir.body.eqns
    while (level := look.level(roots := list(_flat(eqns)))) is not None:
        look.found.append(level)
        eqns = [e for root in roots for r in root.regions for e in r.eqns]
    return tuple(look.found)


def with_sizes(wir: Wir, sizes: Mapping[str, int]) -> Wir:
    """The wir with numbers in the place of its symbols."""
    numbers = _Numbers(numbers={"$" + n: const(size) for n, size in sizes.items()})
    return replace(
        wir,
        symbols=tuple(n for n in wir.symbols if n not in sizes),
        tensors=tuple(numbers.var(v) for v in wir.tensors),
        body=numbers.region(wir.body),
        axes=tuple(numbers.axis(a) for a in wir.axes),
    )


def share(wir: Wir, found: Sequence[Level], parts: Sequence[int]) -> Wir:
    """The workload of one of `parts[k]` equal shares of each level k, where `found[k].divides(parts[k])`."""
    divisors = {(t, d): n for level, n in zip(found, parts, strict=True) for t, d in level.dims.items()}
    change = _Share(divisors=divisors, parts=tuple(parts))
    return replace(
        wir,
        tensors=tuple(change.tensor(v) for v in wir.tensors),
        body=change.region(wir.body),
        axes=tuple(change.axis(a) for a in wir.axes),
    )


def _flat(eqns: Sequence[Eqn]) -> Iterator[Eqn]:
    """The equations inside of parts and scopes."""
    for e in eqns:
        if e.prim in (*PARTS, *SCOPES):
            for r in e.regions:
                yield from _flat(r.eqns)
        else:
            yield e


class _Levels:
    def __init__(self, wir: Wir) -> None:
        self.wir = wir
        self.found: list[Level] = []
        self._uses = Uses()
        self._written = written_tensors(wir)

    def level(self, roots: list[Eqn]) -> Level | None:
        """The level that these loops are; None where they are none."""
        loops = [e for e in roots if e.prim in LOOPS]
        others = [e for e in roots if e.prim not in LOOPS]
        if not loops or any(len(e.regions) != 1 for e in loops) or any(e.prim not in READS for e in others):
            return None
        shared = {v.tensor for e in others for v in _views(e)}
        dims: dict[str, set[int]] = {}
        for loop in loops:
            for t, views in self._uses.views(loop).items():
                mine = self._candidates(loop, t, views)
                dims[t] = dims[t] & mine if t in dims else mine
        chosen = {t: min(ds) for t, ds in dims.items() if ds and t not in shared}
        sizes = {self.wir.tensor_type(t).shape[d] for t, d in chosen.items()}
        written = {t for t in dims if t in self._written}
        size = next(iter(sizes)) if len(sizes) == 1 else None
        if size is None or not size.is_const or size.const == 0 or not written <= chosen.keys():
            return None
        if any(
            _uses_elsewhere(e, loop.regions[0].params[0].name, chosen) for loop in loops for e in loop.regions[0].eqns
        ):
            return None
        blocks = {
            _block(v.dims[d]) for loop in loops for t, d in chosen.items() for v in self._uses.views(loop).get(t, ())
        }
        return Level(size.const, lcm(*blocks), chosen)

    def _candidates(self, loop: Eqn, tensor: str, views: Sequence[View]) -> set[int]:
        """The dimensions of which each iteration has its own part."""
        axis, i = loop.params["axis"], loop.regions[0].params[0].name
        assert isinstance(axis, Axis)
        taken = {level.dims.get(tensor) for level in self.found}
        shape = self.wir.tensor_type(tensor).shape
        return {
            k for k, n in enumerate(shape) if k not in taken and all(iterates(v.dims[k], i, axis, n) for v in views)
        }


def _block(d: ViewDim) -> int:
    """How many elements a part of a dimension has."""
    return d.length if isinstance(d, Slice) else d.size if isinstance(d, TileAt) else 1


def _views(e: Eqn) -> Iterator[View]:
    for x in e.ins:
        if isinstance(x, View):
            yield x
            yield from x.index_views()


def _uses_elsewhere(eqn: Eqn, loop: str, dims: Mapping[str, int]) -> bool:
    """Whether an equation, or one inside, reads the number of the iteration other than to name its part of a tensor. Coordinates of tasks do
    not count: no result depends on them."""
    used = (
        e
        for e in eqn.walk()
        for x in (*e.ins, *(v for k, v in e.params.items() if k != "coords"))
        for e in _exprs(x, dims)
    )
    return any(loop in e.names() for e in used)


def _exprs(x: object, dims: Mapping[str, int]) -> Iterator[Expr]:
    match x:
        case Expr():
            yield x
        case Var():
            yield var(x.name)
        case Axis():
            yield x.size
        case View():
            for k, d in enumerate(x.dims):
                if isinstance(d, Gather):
                    yield from _exprs(d.index, dims)
                elif dims.get(x.tensor) != k:
                    yield from View(x.tensor, (d,)).exprs()
        case tuple():
            for part in x:
                yield from _exprs(part, dims)
        case _:
            pass


@dataclass(frozen=True)
class _Numbers(Renaming):
    """Puts numbers in the place of symbols."""

    numbers: Mapping[str, Expr] = field(default_factory=dict[str, Expr])

    def expr(self, e: Expr) -> Expr:
        """The expression with these numbers."""
        return e.substitute({n: self.numbers[n] for n in e.names() if n in self.numbers})


@dataclass(frozen=True)
class _Share(Renaming):
    """Divides dimensions of tensors, by tensor and position, and the loops that go over them, from the outermost inwards."""

    divisors: Mapping[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    parts: tuple[int, ...] = ()

    def tensor(self, v: Var) -> Var:
        """The tensor's share."""
        assert isinstance(v.type, TensorType)
        shape = tuple(_divided(n, self.divisors.get((v.name, k), 1)) for k, n in enumerate(v.type.shape))
        return Var(v.name, replace(v.type, shape=shape))

    def axis(self, axis: DataAxis) -> DataAxis:
        """A ragged axis with the rows of a share."""
        return replace(axis, outer=_divided(axis.outer, self.divisors.get((axis.tensors[0], 0), 1)))

    def eqn(self, eqn: Eqn) -> Eqn:
        """What is inside of a loop is of the next level."""
        if eqn.prim not in LOOPS or not self.parts:
            return super().eqn(eqn)
        axis = eqn.params["axis"]
        assert isinstance(axis, Axis)
        inner = replace(self, parts=self.parts[1:])
        params = {**eqn.params, "axis": replace(axis, size=_divided(axis.size, self.parts[0]))}
        return replace(eqn, params=params, regions=tuple(inner.region(r) for r in eqn.regions))

    def view(self, view: View) -> View:
        """The view, whose tiles end where the share does."""
        dims = super().view(view).dims
        return View(view.tensor, tuple(self._dim_of_share(view.tensor, k, d) for k, d in enumerate(dims)))

    def _dim_of_share(self, tensor: str, k: int, d: ViewDim) -> ViewDim:
        n = self.divisors.get((tensor, k), 1)
        return replace(d, limit=_divided(d.limit, n)) if isinstance(d, TileAt) else d


def _divided(size: Expr, n: int) -> Expr:
    return size if n == 1 else const(size.const // n)
