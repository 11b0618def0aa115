"""Kernels in the plan: SSA over tile values, checks on valid shapes, and the cost as a stack program."""

from __future__ import annotations

from pto_wsp.arch import Arch
from pto_wsp.arch.cost import Costs
from pto_wsp.errors import InternalError, UnsupportedError, here
from pto_wsp.ir.core import (
    PRIMITIVES,
    Check,
    Dim,
    Direction,
    Eqn,
    In,
    Kernel,
    Literal,
    RegionType,
    ScalarType,
    TileType,
    Typed,
    Var,
    operand_type,
)
from pto_wsp.ir.expr import Expr, Op, const
from pto_wsp.targets.cpu_sim.stream import Stream

_DIRECTION = {Direction.IN: 0, Direction.OUT: 1, Direction.INOUT: 2}
_RELATION = {"eq": 0, "ge": 1}
# parameters that an operation carries in the plan; shapes and dtypes are in the types of its values
_IMMEDIATES = {
    **dict.fromkeys(("iota", "concat", "gather", "scatter", "cumsum"), ("axis",)),
    "matmul": ("transpose_a", "transpose_b"),
    "slice": ("row", "col", "step"),
}
_COST_OPS = {"mul": 4, "floordiv": 5, "mod": 6, "min": 7, "max": 8, "ceildiv": 9}
_ADD = 2


def kernel_checks(kernel: Kernel) -> list[tuple[Check, Eqn]]:
    """What valid shapes must fulfil for this kernel, and the equation that needs it."""
    out: list[tuple[Check, Eqn]] = []
    for eqn in kernel.body.eqns:
        typed = _type_rule(eqn)
        out += [(c, eqn) for c in typed.checks if c not in [seen for seen, _ in out]]
    return out


def _type_rule(eqn: Eqn) -> Typed:
    rule = PRIMITIVES[eqn.prim].type
    if rule is None:
        raise InternalError(f"{eqn.prim} has no type rule")
    return rule(dict(eqn.params), *(operand_type(x) for x in eqn.ins))


def kernel_cost(kernel: Kernel, arch: Arch) -> Expr:
    """Cycles of one task on `arch`, over the valid rows and columns of the parameters: operations one after another."""
    if arch.model != "serial":
        raise UnsupportedError(
            "PTO003", f"model {arch.model} of costs on cpu_sim", loc=here(), fix=f"use {arch.name}:serial"
        )
    costs = Costs(kernel, arch)
    return sum((w.cycles for w in map(costs.work, kernel.body.eqns) if w is not None), const(0))


def write_kernel(s: Stream, kernel: Kernel, arch: Arch) -> None:
    """Append an expanded kernel."""
    position = {p.name: i for i, p in enumerate(kernel.params)}
    s.text(kernel.label)
    s.u(len(kernel.params))
    for p in kernel.params:
        if isinstance(p.type, ScalarType):
            s.u(1, p.type.dtype.code)
        elif isinstance(p.type, RegionType):
            raise InternalError(f"kernel {kernel.label} takes a region, which plans do not have")
        else:
            s.u(0, _DIRECTION[p.direction], p.type.dtype.code, p.type.rows, p.type.cols)
    checks = kernel_checks(kernel)
    s.u(len(checks))
    for c, _ in checks:
        s.u(_RELATION[c.rel])
        _dim(s, c.a, position)
        _dim(s, c.b, position)
    values: dict[str, int] = {}
    types: list[TileType] = []
    for eqn in kernel.body.eqns:
        for v in eqn.outs:
            assert isinstance(v.type, TileType)
            values[v.name] = len(types)
            types.append(v.type)
    s.u(len(types))
    for t in types:
        s.u(t.dtype.code, t.rows, t.cols)
        _dim(s, t.vrows, position)
        _dim(s, t.vcols, position)
    s.u(len(kernel.body.eqns))
    for eqn in kernel.body.eqns:
        opcode = PRIMITIVES[eqn.prim].opcode
        if opcode is None:
            raise InternalError(f"{eqn.prim} is not a leaf")
        s.u(opcode, values[eqn.outs[0].name] + 1 if eqn.outs else 0, len(eqn.ins))
        for x in eqn.ins:
            _operand(s, x, values, position)
        immediates = _IMMEDIATES.get(eqn.prim, ())
        s.u(len(immediates))
        for name in immediates:
            value = eqn.params[name]
            assert isinstance(value, int)
            s.s(int(value))
    cost = Stream()
    n = _cost(cost, kernel_cost(kernel, arch), position)
    s.u(n)
    s.out += cost.out


def _dim(s: Stream, d: Dim, position: dict[str, int]) -> None:
    if isinstance(d, int):
        s.u(0, d)
    else:
        param, _, side = d.rpartition(".")
        s.u(1 if side == "rows" else 2, position[param])


def _operand(s: Stream, x: In, values: dict[str, int], position: dict[str, int]) -> None:
    if isinstance(x, Literal):
        s.u(1)
        s.f64(float(x.value))
    elif isinstance(x, Var) and x.name in values:
        s.u(0, values[x.name])
    elif isinstance(x, Var):
        s.u(2, position[x.name])
    else:
        raise InternalError(f"{x} is no operand of a kernel")


def _cost(s: Stream, e: Expr, position: dict[str, int]) -> int:
    """Append code that leaves `e` on the stack; the number of operations."""
    n = 0
    if e.const or not e.terms:
        s.u(0)
        s.s(e.const)
        n += 1
    for k, (atom, coef) in enumerate(e.terms):
        if isinstance(atom, Op):
            n += _cost(s, atom.a, position) + _cost(s, atom.b, position) + 1
            s.u(_COST_OPS[atom.kind])
        else:
            s.u(1)
            _dim(s, atom, position)
            n += 1
        if coef != 1:
            s.u(0)
            s.s(coef)
            s.u(_COST_OPS["mul"])
            n += 2
        if k or e.const:
            s.u(_ADD)
            n += 1
    return n
