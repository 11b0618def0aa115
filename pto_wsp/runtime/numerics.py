"""Tasks beside the reference evaluator: results within the bound of rounding, and where numbers stop being finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pto_wsp.errors import Location
from pto_wsp.ir.core import Eqn, In, Kernel, TileType, Var
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.runtime.deviation import ACCUMULATING, deviation
from pto_wsp.runtime.elements import Array

OWN = ("store", "store_part", "load_part", "element", "restrict", "debug_print")
"""Operations that move numbers between memory and values, or show them: `Reference` moves radii as they do."""


@dataclass(frozen=True)
class Birth:
    """The operation that made a NaN of numbers, or an infinity of finite ones."""

    operation: str
    loc: Location | None


class Reference:
    """One task as the evaluator runs it, on copies of its arguments, with radii and the births of what is not finite.

    `overflows` are births that the runtime may have where the evaluator, in float64, has none: what it adds up or multiplies is
    finite, and a sum or product of some of it is not. Where a scalar with a radius decides which way a loop or branch goes, nothing is known of what comes after.
    """

    def __init__(self, kernel: Kernel, args: Mapping[str, Array]) -> None:
        self.values = {name: np.array(a) for name, a in args.items()}
        self.radii = {name: np.zeros(a.shape) for name, a in args.items()}
        self.births: dict[str, Birth] = {}
        self.overflows: dict[str, Birth] = {}
        self._open = False
        run_kernel(kernel, self.values, self)

    def decided(self, by: Sequence[In]) -> None:
        """A loop or branch looked at these scalars."""
        self._open = self._open or any(self._radius(x).any() for x in by)

    def moved(self, to: Sequence[Var], given: Sequence[In]) -> None:
        """Values got other names."""
        radii = [self._radius(x) for x in given]
        names = [x.name if isinstance(x, Var) else "" for x in given]
        born = [{n: by[n] for n in names if n in by} for by in (self.births, self.overflows)]
        for v, radius, name in zip(to, radii, names, strict=True):
            self.radii[v.name] = radius
            _put(self.births, v.name, born[0].get(name))
            _put(self.overflows, v.name, born[1].get(name))

    def computed(self, eqn: Eqn, ins: list[Array], out: Array | None) -> None:
        """After each operation: `ins` are its operands, cut to the valid shape."""
        if eqn.prim in ("store", "store_part"):
            self._stored(eqn, ins)
            return
        if out is None:
            return
        name = eqn.outs[0].name
        self.radii[name] = self._deviation(eqn, ins, out)
        # of parameters that are loaded, the part that was read
        given = [out] if eqn.prim in ("load_part", "element") else ins
        from_finite = all(_finite(a) for a in given)
        # an infinity may be meant (a mask), a NaN that none of the operands has is not
        if (from_finite and not _finite(out)) or (_has_nan(out) and not any(_has_nan(a) for a in given)):
            self.births[name] = Birth(eqn.prim, eqn.loc)
        else:
            _inherit(self.births, name, eqn.ins, not _finite(out))
        _inherit(self.overflows, name, eqn.ins, np.isinf(self.radii[name]).any())
        known = not self._open and not any(np.isinf(self._radius(x)).any() for x in eqn.ins)
        if eqn.prim in ACCUMULATING and known and np.isinf(self.radii[name]).any():
            self.overflows[name] = Birth(eqn.prim, eqn.loc)

    def _radius(self, x: In) -> Array:
        """The radius of an operand; of numbers it is 0."""
        return self.radii.get(x.name, np.zeros(())) if isinstance(x, Var) else np.zeros(())

    def _deviation(self, eqn: Eqn, ins: list[Array], out: Array) -> Array:
        if self._open:
            return np.full(out.shape, np.inf)
        radii = [self._radius(x) for x in eqn.ins]
        if eqn.prim in ("load_part", "element"):
            if any(r.any() for r in radii[1:]):
                return np.full(out.shape, np.inf)
            return np.array(_part(radii[0], ins[1:], out.shape)).reshape(out.shape)
        if isinstance(eqn.outs[0].type, TileType):
            radii = [np.zeros(a.shape) if r.ndim != a.ndim else _cut(r, a) for r, a in zip(radii, ins, strict=True)]
            return (
                radii[0][: out.shape[0], : out.shape[1]] if eqn.prim == "restrict" else deviation(eqn, ins, radii, out)
            )
        if eqn.prim == "widen":
            return radii[0]
        return np.full(out.shape, np.inf if any(r.any() for r in radii) else 0.0)

    def _stored(self, eqn: Eqn, ins: list[Array]) -> None:
        target, source = (x.name for x in eqn.ins[:2] if isinstance(x, Var))
        radius = self.radii[target]
        place = radius if eqn.prim == "store" else _part(radius, ins[2:], ins[1].shape)
        known = not self._open and not any(self._radius(x).any() for x in eqn.ins[2:])
        if not known:
            radius[...] = np.inf
        elif eqn.prim == "store":
            place[...] = _cut(self.radii[source], place)
        else:
            place[...] = _cut(self.radii[source], ins[1]).reshape(place.shape)
        _inherit(self.births, target, eqn.ins[1:2], not _finite(self.values[target]))
        _inherit(self.overflows, target, eqn.ins[1:2], np.isinf(radius).any())


def _inherit(births: dict[str, Birth], name: str, ins: Sequence[In], lasts: bool | np.bool) -> None:
    """What is not finite, or open, in `name` comes from an operand, if that had a birth."""
    found = (births[x.name] for x in ins if isinstance(x, Var) and x.name in births)
    _put(births, name, next(found, None) if lasts else None)


def _put(births: dict[str, Birth], name: str, born: Birth | None) -> None:
    if born is None:
        births.pop(name, None)
    else:
        births[name] = born


def _part(x: Array, index: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """The part of `shape` from `index` on; dimensions before those of the shape have one element."""
    sizes = [*[1] * (x.ndim - len(shape)), *shape[len(shape) - min(len(shape), x.ndim) :]]
    return x[tuple(slice(int(i), int(i) + n) for i, n in zip(index, sizes, strict=True))]


def _has_nan(a: Array) -> bool:
    return a.dtype.kind not in "biu" and bool(np.isnan(a.astype(np.float64)).any())


def _finite(x: object) -> bool:
    a = np.asarray(x)
    return a.dtype.kind in "biu" or bool(np.isfinite(a.astype(np.float64)).all())


def _cut(radius: Array, like: Array) -> Array:
    """Radii of a value that was cut to the valid shape of what it is combined with."""
    return radius[tuple(slice(None, n) for n in like.shape)] if radius.ndim == like.ndim else radius


def differing(got: Array, want: Array, radius: Array) -> tuple[int, ...] | None:
    """The first element outside of want +- radius. NaN and infinities equal themselves."""
    a, b = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= radius) | np.isinf(radius)
    return None if same.all() else tuple(int(i) for i in np.argwhere(~same)[0])


def not_finite(got: Array, want: Array) -> bool:
    """Whether an element is infinite or NaN where `want` is finite."""
    if got.dtype.kind in "biu":
        return False
    return bool((~np.isfinite(got.astype(np.float64)) & np.isfinite(want.astype(np.float64))).any())
