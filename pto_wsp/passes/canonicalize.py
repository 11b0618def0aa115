"""Drop what has no effect, and compute nothing twice.

In workloads (for kernels see `canonicalize_kernel`): loops of extent 0, loops, scopes and branches without equations, and scalars that nothing uses disappear; of a
condition that is known the branch taken stays. What can fail stays, and so do reads: they are boundaries of the run. Temporaries
that no equation names take no memory.

    before:  a: i64 = item lens[0]             after:   a: i64 = item lens[0]
             b: i64 = s.add a 1:i64                     task k[](x=X[0])
             cond true:bool {
               then {
                 task k[](x=X[0])
               }
             }
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.ir.core import (
    PRIMITIVES,
    Axis,
    Dialect,
    Eqn,
    IndexType,
    Literal,
    Region,
    Role,
    ScalarType,
    TokenType,
    Var,
    View,
    Wir,
)
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.processes import ENDS, PIPELINES
from pto_wsp.ir.scalars import can_fail
from pto_wsp.ir.tasks import bound_vars, used_names, value_type
from pto_wsp.passes.canonicalize_kernel import canonicalize_kernel


def canonicalize(wir: Wir) -> Wir:
    """Common subexpressions and dead equations of kernels, empty loops of the workload, kernels that nothing calls."""
    loops = {v.name for v in bound_vars(wir.body.eqns) if v.type == IndexType()}
    body = _without_tokens(_Sweep(loops).region(wir.body))
    out = replace(wir, body=body)
    used = {e.params["kernel"] for e in out.tasks()}
    kernels = tuple(canonicalize_kernel(k) for k in wir.kernels if k.name in used)
    return replace(out, kernels=kernels, tensors=_needed_tensors(out))


def _needed_tensors(wir: Wir) -> tuple[Var, ...]:
    """The tensors without temporaries that nothing names."""
    views = [x for top in wir.body.eqns for e in top.walk() for x in e.ins if isinstance(x, View)]
    named = {v.tensor for x in views for v in (x, *x.index_views())} | {t for a in wir.axes for t in a.tensors}
    return tuple(v for v in wir.tensors if v.name in named or wir.tensor_type(v.name).role is not Role.TEMPORARY)


class _Sweep:
    """Goes over a workload from its end, so that every use is seen before what it uses."""

    def __init__(self, loops: set[str]) -> None:
        self.loops = loops
        self.live: set[str] = set()

    def region(self, region: Region) -> Region:
        kept: list[Eqn] = []
        for eqn in reversed(region.eqns):
            kept += reversed(self.eqn(eqn))
        return replace(region, eqns=tuple(reversed(kept)))

    def eqn(self, eqn: Eqn) -> tuple[Eqn, ...]:
        axis = eqn.params.get("axis")
        if isinstance(axis, Axis) and axis.size.is_const and axis.size.const == 0:
            return ()
        if eqn.prim == "cond" and isinstance(eqn.ins[0], Literal):
            return self.region(eqn.regions[0 if eqn.ins[0].value else 1]).eqns
        before = set(self.live)
        new = replace(eqn, regions=tuple(self.region(r) for r in reversed(eqn.regions))[::-1])
        if self._does_nothing(new):
            self.live = before
            return ()
        self.live |= used_names(new)
        return (new,)

    def _does_nothing(self, eqn: Eqn) -> bool:
        axis = eqn.params.get("axis")
        if isinstance(axis, Axis):
            # an extent that is data may turn out negative
            is_counted = all(n in self.loops or n.startswith("$") for n in axis.size.names())
            body, *condition = eqn.regions
            asks = any(e.prim != "yield" and not _cannot_fail(e) for r in condition for e in r.eqns)
            return is_counted and not body.eqns and not asks
        if eqn.prim in (*PIPELINES, *ENDS):
            return False  # a consume takes its tokens, and a process closes its channels when it ends
        if eqn.regions:
            return not any(r.eqns for r in eqn.regions)
        return _cannot_fail(eqn) and not any(v.name in self.live for v in eqn.outs)


def _cannot_fail(eqn: Eqn) -> bool:
    """Whether it is a scalar that no operands make an error; sums of an index expression may overflow."""
    if PRIMITIVES[eqn.prim].dialect is not Dialect.SCALAR:
        return False  # reads stay, and slots that the workload reads can be set
    types = [value_type(x) for x in eqn.ins]
    dtypes = [t.dtype for t in types if isinstance(t, ScalarType)]
    if any(isinstance(x, Expr) and not x.is_const and x not in map(var, x.names()) for x in eqn.ins):
        return False
    values = [
        x.value if isinstance(x, Literal) else x.const if isinstance(x, Expr) and x.is_const else None for x in eqn.ins
    ]
    return not can_fail(eqn.prim, eqn.params, dtypes, values)


def _without_tokens(body: Region) -> Region:
    """`after` without the tasks that are no longer there."""
    there = {v.name for v in bound_vars(body.eqns) if v.type == TokenType()}

    def visit(eqn: Eqn) -> Eqn:
        params = dict(eqn.params)
        after = params.get("after")
        if isinstance(after, tuple) and not set(after) <= there:
            params["after"] = tuple(t for t in after if t in there)
            if not params["after"]:
                del params["after"]
        return replace(
            eqn, params=params, regions=tuple(replace(r, eqns=tuple(map(visit, r.eqns))) for r in eqn.regions)
        )

    return replace(body, eqns=tuple(map(visit, body.eqns)))


def canonicalize_kernels(wir: Wir) -> Wir:
    """Common subexpressions and dead equations of kernels alone: equations of the workload keep their numbers."""
    return replace(wir, kernels=tuple(map(canonicalize_kernel, wir.kernels)))
