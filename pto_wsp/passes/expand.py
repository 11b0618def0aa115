"""Replace compositions (rowmean, softmax, ...) by the operations they are made of.

before:  b: f32<16x1> = rowmean a
after:   b: f32<16x1> = rowsum a
         c: f32<16x1> = count_cols a
         d: f32<16x1> = div b c
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.errors import InternalError
from pto_wsp.ir.build import KernelBuilder, tracing_kernel
from pto_wsp.ir.control import renamed_params
from pto_wsp.ir.core import PRIMITIVES, Eqn, In, Kernel, Literal, Region, Var, Wir
from pto_wsp.ir.rebuild import Rebuild
from pto_wsp.ops.value import Value


def expand(wir: Wir) -> Wir:
    """Every kernel in terms of leaf operations only."""
    return replace(wir, kernels=tuple(expand_kernel(k) for k in wir.kernels))


def expand_kernel(kernel: Kernel) -> Kernel:
    """The kernel in terms of leaf operations only; expanded equations keep the location of what they came from."""
    if not any(_is_composition(e) for top in kernel.body.eqns for e in top.walk()):
        return kernel
    work = _Expand(KernelBuilder(kernel.label))
    for p in kernel.params:
        work.parameter(p)
    with tracing_kernel(work.builder):
        work.eqns(kernel.body)
    return expand_kernel(replace(kernel, body=Region((), tuple(work.builder.eqns))))


def _is_composition(eqn: Eqn) -> bool:
    return PRIMITIVES[eqn.prim].expand is not None


class _Expand(Rebuild):
    def leaf(self, eqn: Eqn) -> In | None:
        rule = PRIMITIVES[eqn.prim].expand
        if rule is None:
            return super().leaf(eqn)
        builder, first = self.builder, len(self.builder.eqns)
        ins = [_operand(builder, self.operand(x)) for x in eqn.ins]
        result = rule(*ins, **renamed_params(eqn.params, self.names))
        if not isinstance(result, Value):
            raise InternalError(f"the expansion of {eqn.prim} is no value")
        out = result.read()
        builder.eqns[first:] = [replace(e, loc=eqn.loc) for e in builder.eqns[first:]]
        return out


def _operand(builder: KernelBuilder, x: In) -> Value | float | int | bool:
    if isinstance(x, Literal):
        return x.value
    if not isinstance(x, Var):
        raise InternalError(f"{x} is no operand of a kernel")
    return Value(builder, x)
