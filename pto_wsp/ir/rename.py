"""Consistent renaming of loop variables, tensors, kernels and symbols in a region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pto_wsp.ir.core import At, Axis, Eqn, In, Param, Region, Slice, TileAt, Var, View, ViewDim
from pto_wsp.ir.expr import Expr, var


@dataclass(frozen=True)
class Renaming:
    """New names by old name; names that are not listed stay."""

    loops: Mapping[str, str] = field(default_factory=dict[str, str])
    tensors: Mapping[str, str] = field(default_factory=dict[str, str])
    kernels: Mapping[str, str] = field(default_factory=dict[str, str])

    def expr(self, e: Expr) -> Expr:
        return e.substitute({n: var(self.loops[n]) for n in e.names() if n in self.loops})

    def region(self, region: Region) -> Region:
        params = tuple(Var(self.loops.get(v.name, v.name), v.type) for v in region.params)
        return Region(params, tuple(self.eqn(e) for e in region.eqns))

    def eqn(self, eqn: Eqn) -> Eqn:
        params = {k: self._kernel(v) if k == "kernel" else self._param(v) for k, v in eqn.params.items()}
        return replace(
            eqn,
            ins=tuple(self._in(x) for x in eqn.ins),
            params=params,
            regions=tuple(self.region(r) for r in eqn.regions),
        )

    def _kernel(self, value: Param) -> Param:
        return self.kernels.get(value, value) if isinstance(value, str) else value

    def _param(self, value: Param) -> Param:
        if isinstance(value, Expr):
            return self.expr(value)
        if isinstance(value, Axis):
            return replace(value, size=self.expr(value.size))
        return tuple(self._param(v) for v in value) if isinstance(value, tuple) else value

    def _in(self, x: In) -> In:
        if isinstance(x, Expr):
            return self.expr(x)
        return (
            View(self.tensors.get(x.tensor, x.tensor), tuple(self._dim(d) for d in x.dims))
            if isinstance(x, View)
            else x
        )

    def _dim(self, d: ViewDim) -> ViewDim:
        if isinstance(d, At):
            return At(self.expr(d.index))
        return (
            Slice(self.expr(d.start), d.length)
            if isinstance(d, Slice)
            else TileAt(self.expr(d.index), d.size, self.expr(d.limit))
        )
