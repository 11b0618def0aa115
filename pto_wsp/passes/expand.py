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
from pto_wsp.ir.core import PRIMITIVES, Eqn, In, Kernel, Literal, Region, Var, Wir
from pto_wsp.ops.value import Value


def expand(wir: Wir) -> Wir:
    """Every kernel in terms of leaf operations only."""
    return replace(wir, kernels=tuple(expand_kernel(k) for k in wir.kernels))


def expand_kernel(kernel: Kernel) -> Kernel:
    """The kernel in terms of leaf operations only; expanded equations keep the location of what they came from."""
    if all(PRIMITIVES[e.prim].expand is None for e in kernel.body.eqns):
        return kernel
    builder = KernelBuilder(kernel.label, params={p.name: p for p in kernel.params})
    renamed: dict[str, Var] = {p.name: Var(p.name, p.type) for p in kernel.params}
    with tracing_kernel(builder):
        for eqn in kernel.body.eqns:
            rule = PRIMITIVES[eqn.prim].expand
            ins: list[In] = [renamed[x.name] if isinstance(x, Var) else x for x in eqn.ins]
            if rule is None:
                out = (
                    builder.emit(eqn.prim, ins, dict(eqn.params), eqn.loc)
                    if eqn.loc
                    else _emit_unlocated(builder, eqn, ins)
                )
            else:
                first = len(builder.eqns)
                result = rule(*(_operand(builder, x) for x in ins), **eqn.params)
                if not isinstance(result, Value):
                    raise InternalError(f"the expansion of {eqn.prim} is no value")
                out = result.read()
                builder.eqns[first:] = [replace(e, loc=eqn.loc) for e in builder.eqns[first:]]
            if out is not None:
                renamed[eqn.outs[0].name] = out
    return expand_kernel(replace(kernel, body=Region((), tuple(builder.eqns))))


def _emit_unlocated(builder: KernelBuilder, eqn: Eqn, ins: list[In]) -> Var | None:
    from pto_wsp.errors import here

    out = builder.emit(eqn.prim, ins, dict(eqn.params), here())
    builder.eqns[-1] = replace(builder.eqns[-1], loc=None)
    return out


def _operand(builder: KernelBuilder, x: In) -> Value | float | int | bool:
    if isinstance(x, Literal):
        return x.value
    if not isinstance(x, Var):
        raise InternalError(f"{x} is no operand of a kernel")
    return Value(builder, x)
