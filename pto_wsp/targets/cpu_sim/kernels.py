"""Kernels in the plan: blocks of tile operations, equations over registers, loops and branches, and what they cost.

kernel   := label model params checks types values block
block    := items cost
item     := segment | equation | loop | branch
segment  := instructions over tile values, which may be put into another order
cost     := cycles                          model serial: of the block's own operations, items have theirs
          | events                          model pipes: what each equation takes, and the items between
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from pto_wsp.arch import Arch
from pto_wsp.arch.cost import Costs
from pto_wsp.errors import InternalError
from pto_wsp.ir.control import shaped_by
from pto_wsp.ir.core import (
    PRIMITIVES,
    Check,
    Dialect,
    Dim,
    Direction,
    DType,
    Eqn,
    In,
    Kernel,
    Literal,
    Region,
    RegionType,
    ScalarType,
    TileType,
    Typed,
    Var,
    operand_type,
)
from pto_wsp.ir.expr import Expr, Op, const
from pto_wsp.ops.conversion import ROUNDINGS
from pto_wsp.targets.cpu_sim.nodes import SCALAR_OPS
from pto_wsp.targets.cpu_sim.stream import Stream

_DIRECTION = {Direction.IN: 0, Direction.OUT: 1, Direction.INOUT: 2}
_RELATION = {"eq": 0, "ge": 1}
# parameters that an operation carries in the plan; shapes and dtypes are in the types of its values
_IMMEDIATES = {
    **dict.fromkeys(("iota", "concat", "gather", "scatter", "cumsum"), ("axis",)),
    "matmul": ("transpose_a", "transpose_b"),
    "slice": ("row", "col", "step"),
    "cast_as": ("rounding", "saturate"),
}
_COST_OPS = {"mul": 4, "floordiv": 5, "mod": 6, "min": 7, "max": 8, "ceildiv": 9}
_ADD = 2
_NO_UNIT = 4
_SEGMENT, _EQUATION, _LOOP, _BRANCH, _CPP = range(5)
_COMPUTE, _WIDTH, _WIDEN, _NARROW, _ELEMENT, _PART, _STORE_PART, _EXTENT, _CHECK, _PRINT, _ROUND = range(11)


def kernel_checks(kernel: Kernel) -> list[tuple[Check, Eqn]]:
    """What valid shapes must fulfil for each task of this kernel, and the equation that needs it."""
    extents = _extents(kernel)
    out: list[tuple[Check, Eqn]] = []
    for eqn in _walk(kernel.body):
        for c in _checks(eqn):
            of_parameters = all(isinstance(d, int) or d in extents for d in (c.a, c.b))
            if of_parameters and c not in [seen for seen, _ in out]:
                out.append((c, eqn))
    return out


def _walk(region: Region) -> Iterator[Eqn]:
    for eqn in region.eqns:
        yield from eqn.walk()


def _checks(eqn: Eqn) -> tuple[Check, ...]:
    prim = PRIMITIVES[eqn.prim]
    if prim.dialect is not Dialect.TILE:
        return ()
    if prim.type is None:
        raise InternalError(f"{eqn.prim} has no type rule")
    typed = prim.type(dict(eqn.params), *(operand_type(x) for x in eqn.ins))
    assert isinstance(typed, Typed)
    return typed.checks


def _extents(kernel: Kernel) -> frozenset[str]:
    """The extents of a kernel's parameters."""
    names: set[str] = set()
    for p in kernel.params:
        if isinstance(p.type, TileType):
            names |= {f"{p.name}.rows", f"{p.name}.cols"}
        elif isinstance(p.type, RegionType):
            names |= {f"{p.name}.{k}" for k in range(len(p.type.shape))}
    return frozenset(names)


def write_kernel(s: Stream, kernel: Kernel, arch: Arch) -> None:
    """Append an expanded kernel."""
    s.out += _Writer(kernel, arch).write().out


class _Events:
    """What a block's equations take, and the items between them."""

    def __init__(self) -> None:
        self.out = Stream()
        self.count = 0

    def items(self, n: int) -> None:
        self.count += n
        self.out.u(*[1] * n)

    def work(self) -> Stream:
        self.count += 1
        self.out.u(0)
        return self.out


class _Writer:
    def __init__(self, kernel: Kernel, arch: Arch) -> None:
        self.kernel = kernel
        self.costs = Costs(kernel, arch)
        self.pipes = arch.model == "pipes"
        self.position = {p.name: i for i, p in enumerate(kernel.params)}
        self.direction = {p.name: p.direction for p in kernel.params}
        self.extents = _extents(kernel)
        self.values: dict[str, int] = {}
        self.types: list[TileType] = []
        self.regs: dict[str, int] = {}
        self.reg_types: list[DType] = []
        self.scalars: dict[str, int] = {}  # of tiles' dtypes: the parameter that holds it
        self.narrowed: dict[str, tuple[DType, int]] = {}  # what each of those was before, in which register
        self.made = len(kernel.params)  # parameters so far, those without arguments included
        self.bounded: dict[str, int] = {}  # extents that are known to be at most this
        self.origins = {id(e): i for i, e in enumerate(_walk(kernel.body))}

    def write(self) -> Stream:
        self._number(self.kernel.body)
        body = self._block(self.kernel.body, ())
        s = Stream()
        s.text(self.kernel.label)
        s.u(int(self.pipes))
        self._params(s)
        checks = kernel_checks(self.kernel)
        s.u(len(checks))
        for c, _ in checks:
            s.u(_RELATION[c.rel])
            self._dim(s, c.a)
            self._dim(s, c.b)
        s.u(len(self.reg_types))
        s.u(*(t.code for t in self.reg_types))
        s.u(len(self.types))
        for t in self.types:
            s.u(t.dtype.code, t.rows, t.cols)
            self._dim(s, t.vrows)
            self._dim(s, t.vcols)
        s.out += body.out
        return s

    def _number(self, region: Region) -> None:
        for v in (*region.params, *(v for e in region.eqns for v in e.outs)):
            if isinstance(v.type, TileType):
                self.values[v.name] = len(self.types)
                self.types.append(v.type)
            elif isinstance(v.type, ScalarType):
                self.regs[v.name] = len(self.reg_types)
                self.reg_types.append(v.type.dtype)
        for e in region.eqns:
            if e.prim == "narrow":  # in a parameter of its own, not in a register
                self.reg_types[self.regs[e.outs[0].name]] = DType.I64
            for r in e.regions:
                self._number(r)

    def _params(self, s: Stream) -> None:
        s.u(len(self.kernel.params))
        for p in self.kernel.params:
            match p.type:
                case ScalarType():
                    s.u(1, p.type.dtype.code)
                case TileType():
                    s.u(0, _DIRECTION[p.direction], p.type.dtype.code, p.type.rows, p.type.cols)
                case RegionType():
                    s.u(2, _DIRECTION[p.direction], p.type.dtype.code, len(p.type.shape))
                    s.u(*(0 if n is None else n + 1 for n in p.type.shape))

    # blocks

    def _block(self, region: Region, yields: Sequence[In]) -> Stream:
        """Items and cost; then what it yields, for a loop or branch."""
        known = dict(self.bounded)
        items = Stream()
        count = 0
        segment: list[Eqn] = []
        waiting = Stream()  # equations that may come before the segment
        waits = 0
        events = _Events()

        def flush() -> None:
            nonlocal count, waiting, waits
            items.out += waiting.out
            count += waits
            waiting, waits = Stream(), 0
            if segment:
                items.u(_SEGMENT, len(segment))
                for e in segment:
                    self._instruction(items, e)
                count += 1
                segment.clear()

        for eqn in region.eqns:
            if eqn.prim == "yield":
                continue
            if self._in_segment(eqn):
                made = self._requirements(waiting, eqn)
                waits += made
                segment.append(eqn)
            elif eqn.prim == "cpp":
                items.u(_CPP, self.origins[id(eqn)])
                made, count = 0, count + 1
            elif eqn.regions:
                flush()
                made = self._control(items, eqn)
                count += made
            elif self._before_segment(eqn):
                made = self._equation(waiting, eqn)
                waits += made
            else:
                flush()
                made = self._equation(items, eqn)
                count += made
            if self.pipes:
                events.items(made)
                self._work(events, eqn)
        flush()
        self.bounded = known
        s = Stream()
        s.u(count)
        s.out += items.out
        if self.pipes:
            s.u(events.count)
            s.out += events.out.out
        else:
            self._cycles(s, self._own_cost(region))
        for x in yields:
            self._given(s, x)
        return s

    def _own_cost(self, region: Region) -> Expr:
        works = map(self.costs.work, region.eqns)
        return sum((w.cycles for w in works if w is not None), const(0))

    @staticmethod
    def _in_segment(eqn: Eqn) -> bool:
        if eqn.prim == "restrict":
            return True
        return PRIMITIVES[eqn.prim].opcode is not None and eqn.prim not in _BETWEEN

    def _before_segment(self, eqn: Eqn) -> bool:
        """Whether it reads nothing that the segment before it computes or stores."""
        if eqn.prim in ("store_part", "debug_print"):
            return False
        if eqn.prim in ("element", "load_part"):
            x = eqn.ins[0]
            assert isinstance(x, Var)
            return self.direction.get(x.name) is Direction.IN
        return True

    def _requirements(self, s: Stream, eqn: Eqn) -> int:
        """What must be known of extents in registers before an equation; how many equations it took."""
        n = 0
        for v in eqn.outs:
            assert isinstance(v.type, TileType)
            if eqn.prim in ("restrict", "load_part"):
                n += self._bound(s, eqn, v.type.vrows, v.type.rows) + self._bound(s, eqn, v.type.vcols, v.type.cols)
        for c in _checks(eqn):
            if all(isinstance(d, int) or d in self.extents for d in (c.a, c.b)):
                continue
            s.u(_EQUATION, _CHECK, self.origins[id(eqn)], _RELATION[c.rel])
            self._dim(s, c.a)
            self._dim(s, c.b)
            n += 1
        return n

    def _bound(self, s: Stream, eqn: Eqn, d: Dim, most: int) -> int:
        if isinstance(d, int) or d in self.extents or self.bounded.get(d, most + 1) <= most:
            return 0
        self.bounded[d] = most
        shaped = shaped_by(eqn, d) if eqn.regions else eqn
        s.u(_EQUATION, _EXTENT, self.origins[id(shaped)], self.regs[d], most)
        return 1

    def _instruction(self, s: Stream, eqn: Eqn) -> None:
        opcode = PRIMITIVES[eqn.prim].opcode
        if opcode is None:
            raise InternalError(f"{eqn.prim} is not a leaf")
        s.u(opcode, self.values[eqn.outs[0].name] + 1 if eqn.outs else 0, len(eqn.ins))
        for x in eqn.ins:
            self._operand(s, x)
        immediates = _IMMEDIATES.get(eqn.prim, ())
        s.u(len(immediates))
        for name in immediates:
            value = eqn.params[name]
            if name == "rounding":
                value = ROUNDINGS.index(str(value))
            assert isinstance(value, int)
            s.s(int(value))
        s.u(self.origins[id(eqn)])

    def _operand(self, s: Stream, x: In) -> None:
        if isinstance(x, Literal):
            s.u(1)
            s.out += _bits(x)
        elif isinstance(x, Var) and x.name in self.values:
            s.u(0, self.values[x.name])
        elif isinstance(x, Var) and x.name in self.scalars:
            s.u(2, self.scalars[x.name])
        elif isinstance(x, Var) and x.name in self.position:
            s.u(2, self.position[x.name])
        else:
            raise InternalError(f"{x} is no operand of a kernel")

    # equations over registers

    def _equation(self, s: Stream, eqn: Eqn) -> int:
        n = self._requirements(s, eqn) if eqn.prim == "load_part" else 0
        origin = self.origins[id(eqn)]
        match eqn.prim:
            case "dim":
                s.u(_EQUATION, _WIDTH, origin)
                self._dim(s, str(eqn.params["of"]))
                s.u(self.regs[eqn.outs[0].name])
            case "widen":
                self._widen(s, eqn)
            case "narrow":
                x, to = eqn.ins[0], eqn.params["to"]
                assert isinstance(x, Var) and isinstance(to, DType)
                s.u(_EQUATION, _NARROW, origin, to.code, self.regs[x.name])
                self.scalars[eqn.outs[0].name] = self._new_param()
                self.narrowed[eqn.outs[0].name] = (to, self.regs[x.name])
            case "element":
                x = eqn.ins[0]
                assert isinstance(x, Var)
                s.u(_EQUATION, _ELEMENT, origin)
                s.u(*((1, self.values[x.name]) if x.name in self.values else (0, self.position[x.name])))
                self._indices(s, eqn.ins[1:])
                s.u(self.regs[eqn.outs[0].name])
            case "load_part":
                x = eqn.ins[0]
                assert isinstance(x, Var)
                s.u(_EQUATION, _PART, origin, self.position[x.name])
                self._indices(s, eqn.ins[1:])
                s.u(self.values[eqn.outs[0].name])
                self._new_param()
            case "store_part":
                out, x = eqn.ins[:2]
                assert isinstance(out, Var) and isinstance(x, Var)
                s.u(_EQUATION, _STORE_PART, origin, self.position[out.name], self.values[x.name])
                self._indices(s, eqn.ins[2:])
            case "debug_print":
                self._print(s, eqn)
            case _:
                self._compute(s, eqn)
        return n + 1

    def _new_param(self) -> int:
        self.made += 1
        return self.made - 1

    def _widen(self, s: Stream, eqn: Eqn) -> None:
        x = eqn.ins[0]
        assert isinstance(x, Var)
        origin, out = self.origins[id(eqn)], self.regs[eqn.outs[0].name]
        if x.name in self.narrowed:
            to, reg = self.narrowed[x.name]
            s.u(_EQUATION, _ROUND, origin, to.code, reg, out)
        else:
            s.u(_EQUATION, _WIDEN, origin, self.position[x.name], out)

    def _compute(self, s: Stream, eqn: Eqn) -> None:
        number = SCALAR_OPS.get(eqn.prim)
        if number is None:
            raise InternalError(f"{eqn.prim} has no place in a kernel of a plan")
        to = eqn.params.get("to")
        first = operand_type(eqn.ins[-1])
        assert isinstance(first, ScalarType)
        s.u(_EQUATION, _COMPUTE, self.origins[id(eqn)], number, first.dtype.code, int("checked" in eqn.params))
        s.u(to.code if isinstance(to, DType) else DType.I64.code)
        for x in eqn.ins:
            self._scalar(s, x)
        s.u(self.regs[eqn.outs[0].name])

    def _indices(self, s: Stream, ins: Sequence[In]) -> None:
        for x in ins:
            self._scalar(s, x)

    def _scalar(self, s: Stream, x: In) -> None:
        if isinstance(x, Literal):
            s.u(1)
            s.out += _bits(x)
        else:
            assert isinstance(x, Var)
            s.u(0, self.regs[x.name])

    def _print(self, s: Stream, eqn: Eqn) -> None:
        x = eqn.ins[0]
        assert isinstance(x, Var)
        s.u(_EQUATION, _PRINT, self.origins[id(eqn)])
        s.text(str(eqn.params["label"]))
        if x.name in self.values:
            s.u(0, self.values[x.name])
        elif x.name in self.scalars or x.name in self.position:
            s.u(2, self.scalars.get(x.name, self.position.get(x.name, 0)))
        else:
            assert isinstance(x.type, ScalarType)
            s.u(1, x.type.dtype.code, self.regs[x.name])

    # loops and branches

    def _given(self, s: Stream, x: In) -> None:
        """A value at the end of a region."""
        if isinstance(x, Var) and x.name in self.values:
            s.u(self.values[x.name])
        else:
            self._scalar(s, x)

    def _control(self, s: Stream, eqn: Eqn) -> int:
        """A loop or branch, and before it what must be known of the extents of what it gives; how many items that took."""
        origin = self.origins[id(eqn)]
        made = 1
        for v in eqn.outs:
            if isinstance(v.type, TileType):
                made += self._bound(s, eqn, v.type.vrows, v.type.rows) + self._bound(s, eqn, v.type.vcols, v.type.cols)
        ends = [r.eqns[-1].ins for r in eqn.regions]
        tiles = [isinstance(v.type, TileType) for v in eqn.outs]
        if eqn.prim == "fori_loop":
            lo, hi, *init = eqn.ins
            index, *carried = eqn.regions[0].params
            s.u(_LOOP, origin)
            self._scalar(s, lo)
            self._scalar(s, hi)
            s.u(len(carried))
            for v, x in zip(carried, init, strict=True):
                if isinstance(v.type, TileType):
                    assert isinstance(x, Var)
                    s.u(0, self.values[x.name], self.values[v.name])
                    self._new_param()
                else:
                    s.u(1, self.regs[v.name])
                    self._scalar(s, x)
            s.u(self.regs[index.name])
            s.out += self._block(eqn.regions[0], ends[0]).out
            for v, is_tile in zip(eqn.outs, tiles, strict=True):
                s.u(self.values[v.name] if is_tile else self.regs[v.name])
            return made
        condition = eqn.ins[0]
        data = isinstance(condition, Var) and condition.name in self.costs.data
        s.u(_BRANCH, origin)
        self._scalar(s, condition)
        s.u(int(data), len(eqn.outs))
        for v, is_tile in zip(eqn.outs, tiles, strict=True):
            s.u(*((0, self.values[v.name]) if is_tile else (1, self.regs[v.name])))
            if is_tile:
                self._new_param()
        for region, yields in zip(eqn.regions, ends, strict=True):
            s.out += self._block(region, yields).out
        return made

    # extents and costs

    def _dim(self, s: Stream, d: Dim) -> None:
        if isinstance(d, int):
            s.u(0, d)
        elif d in self.extents:
            param, _, side = d.rpartition(".")
            if side in ("rows", "cols"):
                s.u(1 if side == "rows" else 2, self.position[param])
            else:
                s.u(3, self.position[param], int(side))
        else:
            s.u(4, self.regs[d])

    def _cycles(self, s: Stream, e: Expr) -> None:
        code = Stream()
        s.u(self._cost(code, e))
        s.out += code.out

    def _work(self, events: _Events, eqn: Eqn) -> None:
        """What an equation waits for and takes, in model pipes; scalars that no element of a tensor decides are always there."""
        work = self.costs.work(eqn)
        outs = [v for v in eqn.outs if not isinstance(v.type, ScalarType) or v.name in self.costs.data]
        if eqn.regions or (work is None and not outs):
            return
        ins = [x for x in eqn.ins if isinstance(x, Var)]
        s = events.work()
        s.u(_NO_UNIT if work is None else work.unit)
        if work is not None:
            self._cycles(s, work.cycles)
        memory = [x for x in ins if work is not None and x.name in self.costs.memory]
        for group in (ins, [*outs, *memory]):
            s.u(len(group))
            s.u(*map(self._place, group))

    def _place(self, v: Var) -> int:
        """The number of a value, register or parameter, in this order."""
        if v.name in self.values:
            return self.values[v.name]
        if v.name in self.regs:
            return len(self.types) + self.regs[v.name]
        return len(self.types) + len(self.reg_types) + self.position[v.name]

    def _cost(self, s: Stream, e: Expr) -> int:
        """Append code that leaves `e` on the stack; the number of operations."""
        n = 0
        if e.const or not e.terms:
            s.u(0)
            s.s(e.const)
            n += 1
        for k, (atom, coef) in enumerate(e.terms):
            if isinstance(atom, Op):
                n += self._cost(s, atom.a) + self._cost(s, atom.b) + 1
                s.u(_COST_OPS[atom.kind])
            else:
                s.u(1)
                self._dim(s, atom)
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


_BETWEEN = ("load_part", "store_part", "element", "debug_print", "cpp")


def _bits(x: Literal) -> bytes:
    """As the core holds scalars: an f64, i64 or u64, or 0 or 1."""
    return struct.pack("<d", x.value) if x.dtype.is_float else (int(x.value) % 2**64).to_bytes(8, "little")
