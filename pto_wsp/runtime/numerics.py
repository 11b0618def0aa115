"""Tasks beside the reference evaluator: results within the bound of rounding, and where numbers stop being finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pto_wsp.errors import InternalError, Location
from pto_wsp.ir.core import PRIMITIVES, Eqn, Kernel, Literal, ScalarType, Var
from pto_wsp.ir.evaluate import run_kernel
from pto_wsp.runtime.deviation import deviation
from pto_wsp.runtime.elements import Array


@dataclass(frozen=True)
class Birth:
    """The operation that made a NaN of numbers, or an infinity of finite ones."""

    operation: str
    loc: Location | None


class Reference:
    """One task as the evaluator runs it, on copies of its arguments, with radii and the births of what is not finite."""

    def __init__(self, kernel: Kernel, args: Mapping[str, Array]) -> None:
        self.values = {name: np.array(a) for name, a in args.items()}
        self.radii = {name: np.zeros(a.shape) for name, a in args.items()}
        self.births: dict[str, Birth] = {}
        self._scalars = {p.name for p in kernel.params if isinstance(p.type, ScalarType)}
        run_kernel(kernel, self.values, self._observe)

    def _observe(self, eqn: Eqn, ins: list[Array], out: Array | None) -> None:
        """After each operation: `ins` are its operands, cut to the valid shape."""
        names = [x.name if isinstance(x, Var) else None for x in eqn.ins]
        if eqn.prim == "debug_print":
            return
        if eqn.prim == "store_part":
            self._store_part(eqn, str(names[0]), str(names[1]), ins)
            return
        if out is None:
            target, source = str(names[0]), str(names[1])
            radius = self.radii[source]
            self.radii[target] = np.array(np.broadcast_to(_cut(radius, self.values[target]), self.values[target].shape))
            self._pass(target, [source], self.values[target])
            return
        name = eqn.outs[0].name
        # numbers and the indices of loops are exact
        radii = [_cut(self.radii.get(n or "", np.zeros(a.shape)), a) for n, a in zip(names, ins, strict=True)]
        self.radii[name] = deviation(eqn, ins, radii, out)
        known = [n for n in names if n is not None]
        given = [*ins, *(np.asarray(x.value) for x in eqn.ins if isinstance(x, Literal))]
        from_finite = all(_finite(a) for a in given)
        # an infinity may be meant (a mask), a NaN that none of the operands has is not
        if (from_finite and not _finite(out)) or (_has_nan(out) and not any(_has_nan(a) for a in given)):
            self.births[name] = Birth(eqn.prim, eqn.loc)
            return
        if from_finite:
            return
        self._pass(name, known, out)

    def _store_part(self, eqn: Eqn, target: str, source: str, ins: list[Array]) -> None:
        reference = PRIMITIVES[eqn.prim].reference
        if reference is None:
            raise InternalError(f"{eqn.prim} has no reference")
        reference(dict(eqn.params), self.radii[target], _cut(self.radii[source], ins[1]), *ins[2:])
        self._pass(target, [source, target], self.values[target])

    def _pass(self, name: str, sources: list[str], value: Array) -> None:
        """What is not finite here comes from an operand, if that had a birth."""
        born = next((self.births[s] for s in sources if s in self.births), None)
        if born is not None and not _finite(value):
            self.births[name] = born
        else:
            self.births.pop(name, None)


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
