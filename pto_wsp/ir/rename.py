"""Consistent renaming of variables, tensors, kernels and symbols in a region; names that nothing else has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from pto_wsp.ir.core import (
    At,
    Axis,
    DataAxis,
    Eqn,
    Gather,
    In,
    Literal,
    Param,
    Region,
    RuleCall,
    Slice,
    Span,
    TensorType,
    TileAt,
    Type,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.expr import Expr, var


def unique_name(name: str, taken: Collection[str]) -> str:
    """`name`, or `name.1`, `name.2`, ... where it is taken."""
    if name not in taken:
        return name
    k = 1
    while f"{name}.{k}" in taken:
        k += 1
    return f"{name}.{k}"


def pipeline_names(eqns: Iterable[Eqn]) -> list[str]:
    """Of the pipelines in these equations, outer ones before inner ones."""
    return [str(e.params["name"]) for top in eqns for e in top.walk() if e.prim == "pipeline"]


def name_pipelines_apart(eqns: Iterable[Eqn], taken: set[str]) -> tuple[Eqn, ...]:
    """The equations with names for their pipelines of which none is another's or taken; they are taken then."""
    return tuple(_pipelines_apart(e, taken) for e in eqns)


def _pipelines_apart(e: Eqn, taken: set[str]) -> Eqn:
    if e.prim == "pipeline":
        name = unique_name(str(e.params["name"]), taken)
        taken.add(name)
        e = replace(e, params={**e.params, "name": name})
    regions = tuple(Region(r.params, name_pipelines_apart(r.eqns, taken)) for r in e.regions)
    return replace(e, regions=regions) if regions else e


def with_pipelines_apart(wir: Wir) -> Wir:
    """The wir where a rewrite that repeats a pipeline has given each repetition a name of its own."""
    names = pipeline_names(wir.body.eqns)
    return wir if len(names) == len(set(names)) else wir.with_body(*name_pipelines_apart(wir.body.eqns, set()))


@dataclass(frozen=True)
class Renaming:
    """New names by old name; names that are not listed stay.

    `values` are the variables of a workload: of loops, of scalars, of tasks. Symbols stand without their `$`.
    """

    values: Mapping[str, str] = field(default_factory=dict[str, str])
    tensors: Mapping[str, str] = field(default_factory=dict[str, str])
    kernels: Mapping[str, str] = field(default_factory=dict[str, str])
    symbols: Mapping[str, str] = field(default_factory=dict[str, str])

    def expr(self, e: Expr) -> Expr:
        return e.substitute({n: var(self._atom(n)) for n in e.names() if self._atom(n) != n})

    def _atom(self, name: str) -> str:
        if name.startswith("$"):
            return "$" + self.symbols.get(name[1:], name[1:])
        return self.values.get(name, name)

    def var(self, v: Var) -> Var:
        names = self.tensors if isinstance(v.type, TensorType) else self.values
        return Var(names.get(v.name, v.name), self._type(v.type))

    def axis(self, axis: DataAxis) -> DataAxis:
        """The axis with its sizes and tensors renamed."""
        inner = None if axis.inner is None else self.expr(axis.inner)
        tensors = tuple(self.tensors.get(t, t) for t in axis.tensors)
        return replace(axis, outer=self.expr(axis.outer), tensors=tensors, inner=inner)

    def region(self, region: Region) -> Region:
        return Region(tuple(self.var(v) for v in region.params), tuple(self.eqn(e) for e in region.eqns))

    def eqn(self, eqn: Eqn) -> Eqn:
        return replace(
            eqn,
            outs=tuple(self.var(v) for v in eqn.outs),
            ins=tuple(self.operand(x) for x in eqn.ins),
            params={k: self._param(k, v) for k, v in eqn.params.items()},
            regions=tuple(self.region(r) for r in eqn.regions),
        )

    def operand(self, x: In) -> In:
        if isinstance(x, Expr):
            return self.expr(x)
        if isinstance(x, Var):
            return self.var(x)
        return self.view(x) if isinstance(x, View) else x

    def view(self, view: View) -> View:
        return View(self.tensors.get(view.tensor, view.tensor), tuple(self._dim(d) for d in view.dims))

    def _type(self, t: Type) -> Type:
        return replace(t, shape=tuple(self.expr(d) for d in t.shape)) if isinstance(t, TensorType) else t

    def _param(self, key: str, value: Param) -> Param:
        if key == "kernel" and isinstance(value, str):
            return self.kernels.get(value, value)
        if key in ("after", "of") and isinstance(value, tuple):
            names = self.values if key == "after" else self.tensors
            return tuple(names.get(t, t) if isinstance(t, str) else t for t in value)
        return self._value(value)

    def _value(self, value: Param) -> Param:
        if isinstance(value, Expr):
            return self.expr(value)
        if isinstance(value, Axis):
            return replace(value, size=self.expr(value.size))
        if isinstance(value, RuleCall):
            return self._rule(value)
        return tuple(self._value(v) for v in value) if isinstance(value, tuple) else value

    def _rule(self, rule: Expr | Literal | RuleCall) -> Expr | Literal | RuleCall:
        """A rule of a schedule."""
        if isinstance(rule, RuleCall):
            return replace(rule, args=tuple(self._rule(a) for a in rule.args))
        return self.expr(rule) if isinstance(rule, Expr) else rule

    def _dim(self, d: ViewDim) -> ViewDim:
        match d:
            case At():
                return At(self.expr(d.index))
            case Slice():
                return Slice(self.expr(d.start), d.length)
            case TileAt():
                return TileAt(self.expr(d.index), d.size, self.expr(d.limit), self.expr(d.offset))
            case Span():
                return Span(self.expr(d.start), self.expr(d.length))
            case Gather():
                return Gather(self.view(d.index))
