"""The cycles of a kernel on an arch: which unit of a core each equation takes and for how long, and the sum of it all.

A core has four units that work beside each other: load, vector, cube, store. Both models are one recurrence over the
equations in order, in which `free[u]` is when unit u is done with what it was given, and `ready[x]` when x is there:

    start = max(free[u], ready of each operand)
    free[u] = ready of each result = start + cycles

- Model `pipes` has the four units; model `serial` has one that takes everything, which makes the cost a sum.
- A parameter in memory is an operand and a result of whatever loads it or stores to it.
- Scalars and control take no unit: their results are ready when their operands are.
- A loop runs its body once a trip, with the state going through. Nothing starts inside a loop or branch before its bounds or
  condition are ready: then every free[u] becomes at least that.
- A branch goes the way of its condition. Where the condition depends on elements of tensors, both ways are run from the same
  state, and each number of the state is the larger one of the two.
- The cost is the largest free[u] in the end.

So it never falls when the cycles of an equation grow. Buffers of a core are as many as the loads need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from pto_wsp.arch.model import Arch, to_dim
from pto_wsp.errors import InternalError, KernelError
from pto_wsp.ir.control import data_scalars, trips, walk, yields
from pto_wsp.ir.core import (
    PRIMITIVES,
    Dialect,
    Eqn,
    In,
    Kernel,
    Literal,
    Param,
    Region,
    RegionType,
    ScalarType,
    TileType,
    Type,
    Var,
    operand_type,
)
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.rounding import round_to
from pto_wsp.ir.scalars import Number, compute


class CoreUnit(IntEnum):
    """A unit of one core; the numbers are those of plans."""

    LOAD = 0
    VECTOR = 1
    CUBE = 2
    STORE = 3

    def __str__(self) -> str:
        return self.name.lower()


CONTROL = ("fori_loop", "branch", "yield")
MOST_WALKED = 2**19
"""Equations, about a second of them. A run counts in C++, and leaps over trips of loops that cost the same."""


UNITS: dict[str, CoreUnit | None] = {**{str(u): u for u in CoreUnit}, "none": None}


@dataclass(frozen=True, slots=True)
class Work:
    """What an equation takes: `cycles` of `unit`, an expression over valid extents and integer scalars of the kernel.

    bytes: what it moves from or to memory; flops: what it computes, one for each element of a vector operation and two for each
    product of a matrix product. Both are for reports.
    """

    unit: CoreUnit
    cycles: Expr
    bytes: Expr
    flops: Expr


class Costs:
    """What each equation of an expanded kernel takes on `arch`.

    data: scalars that depend on elements of tensors; a valid extent among them counts as the whole static size.
    """

    def __init__(self, kernel: Kernel, arch: Arch) -> None:
        self.kernel = kernel
        self.arch = arch
        self.memory = frozenset(p.name for p in kernel.params if not isinstance(p.type, ScalarType))
        self.data = data_scalars(kernel)
        self._cube = _of_cube(kernel)
        self._works: dict[int, Work | None] = {}

    def work(self, eqn: Eqn) -> Work | None:
        """None: it takes no unit (scalars, control, debug_print)."""
        if id(eqn) not in self._works:
            self._works[id(eqn)] = self._work(eqn)
        return self._works[id(eqn)]

    def _work(self, eqn: Eqn) -> Work | None:
        if eqn.prim in CONTROL or PRIMITIVES[eqn.prim].dialect is not Dialect.TILE:
            return None
        unit = self._unit(eqn)
        if unit is None:
            return None
        rule = PRIMITIVES[eqn.prim].cost
        if rule is None:
            raise InternalError(f"{eqn.prim} has no cost")
        arch = self.arch.with_cube_paths if self._beside_cube(eqn) else self.arch
        out = self._known(eqn.outs[0].type) if eqn.outs else None
        params: dict[str, Param] = {k: self._known_dim(eqn, k, v) for k, v in eqn.params.items()}
        types = [self._known(operand_type(x)) for x in eqn.ins]
        if eqn.prim == "element" and unit is CoreUnit.LOAD and isinstance(x := types[0], TileType):
            types[0] = RegionType(x.dtype, (None, None))  # of a tile in memory as of a region
        cycles = rule(arch, params, out, *types)
        return Work(unit, cycles, *_figures(eqn, unit, out, types))

    def _unit(self, eqn: Eqn) -> CoreUnit | None:
        if eqn.prim == "element":
            x = eqn.ins[0]
            return CoreUnit.LOAD if isinstance(x, Var) and x.name in self.memory else CoreUnit.VECTOR
        return UNITS[PRIMITIVES[eqn.prim].unit]

    def _beside_cube(self, eqn: Eqn) -> bool:
        """Whether a transfer goes to the matrix unit's memories, or comes from them."""
        if PRIMITIVES[eqn.prim].unit == "load":
            return any(v.name in self._cube for v in eqn.outs)
        return PRIMITIVES[eqn.prim].unit == "store" and any(
            x.name in self._cube for x in eqn.ins[1:] if isinstance(x, Var)
        )

    def _known(self, t: Type) -> Type:
        if not isinstance(t, TileType):
            return t
        return replace(
            t,
            vrows=t.rows if t.vrows in self.data else t.vrows,
            vcols=t.cols if t.vcols in self.data else t.vcols,
        )

    def _known_dim(self, eqn: Eqn, name: str, value: Param) -> Param:
        if name not in ("vrows", "vcols") or value not in self.data:
            return value
        out = eqn.outs[0].type
        assert isinstance(out, TileType)
        return out.rows if name == "vrows" else out.cols


def _figures(eqn: Eqn, unit: CoreUnit, out: Type | None, types: Sequence[Type]) -> tuple[Expr, Expr]:
    """Bytes and flops."""
    zero = const(0)
    match unit:
        case CoreUnit.LOAD:
            return (_elements(out) * out.dtype.itemsize, zero) if isinstance(out, TileType) else (const(1), zero)
        case CoreUnit.STORE:
            value = next((t for t in types[1:] if isinstance(t, TileType)), None)
            return (_elements(value) * value.dtype.itemsize, zero) if value else (zero, zero)
        case CoreUnit.CUBE:
            a = types[0]
            assert isinstance(a, TileType)
            return zero, _elements(out) * to_dim(a.vrows if eqn.params.get("transpose_a") else a.vcols) * 2
        case CoreUnit.VECTOR:
            tiles = [t for t in (out, *types) if isinstance(t, TileType)]
            return zero, _elements(max(tiles, key=lambda t: t.rows * t.cols, default=None))


def _elements(t: Type | None) -> Expr:
    return to_dim(t.vrows) * to_dim(t.vcols) if isinstance(t, TileType) else const(1)


def _of_cube(kernel: Kernel) -> frozenset[str]:
    """Loaded tiles that only products take, as their first two operands, and what products give, through loops and branches too."""
    uses: dict[str, set[bool]] = {}
    for eqn in walk(kernel.body):
        for i, x in enumerate(eqn.ins):
            if isinstance(x, Var):
                uses.setdefault(x.name, set()).add(_takes(eqn, i))
    out = {
        v.name for eqn in walk(kernel.body) if _is(eqn, "load") for v in eqn.outs if uses.get(v.name, set()) == {True}
    }
    before = -1
    while before != len(out):
        before = len(out)
        for eqn in walk(kernel.body):
            if _is(eqn, "cube"):
                out |= {v.name for v in eqn.outs}
            for i, v in enumerate(eqn.outs if eqn.prim in CONTROL else ()):
                given = [x[i] for x in yields(eqn) if i < len(x)]
                if given and all(isinstance(x, Var) and x.name in out for x in given):
                    out.add(v.name)
    return frozenset(out)


def _is(eqn: Eqn, unit: str) -> bool:
    return eqn.prim not in CONTROL and PRIMITIVES[eqn.prim].unit == unit


def _takes(eqn: Eqn, operand: int) -> bool:
    return _is(eqn, "cube") and operand < 2


def kernel_cost(kernel: Kernel, arch: Arch, values: Mapping[str, Number]) -> int:
    """Cycles of one task of an expanded kernel on `arch`.

    values: valid extents of the parameters ("x.rows", "x.cols", of regions "x.0", ...) and scalar parameters by name; those that no
    cost depends on may lack. Raises KeyError for another one that lacks, BoundsError and ExecutionError as the kernel's scalar
    operations do, KernelError for a loop that runs too often, or too often to be walked here.
    """
    return max(kernel_timing(kernel, arch, values).free)


@dataclass
class Timing:
    """The state of the recurrence; and of each unit of a core the cycles it works, the bytes it moves, the flops it computes."""

    free: list[int]
    ready: dict[str, int]
    busy: list[int]
    bytes: list[int]
    flops: list[int]

    def copy(self) -> Timing:
        return Timing(list(self.free), dict(self.ready), list(self.busy), list(self.bytes), list(self.flops))

    def _lists(self) -> tuple[list[int], ...]:
        return self.free, self.busy, self.bytes, self.flops

    def wait(self, until: int) -> None:
        self.free = [max(f, until) for f in self.free]

    def of(self, x: In) -> int:
        return self.ready.get(x.name, 0) if isinstance(x, Var) else 0

    def join(self, other: Timing) -> None:
        """The later of both, number by number."""
        for mine, others in zip(self._lists(), other._lists(), strict=True):
            mine[:] = map(max, mine, others)
        for name, t in other.ready.items():
            self.ready[name] = max(self.ready.get(name, 0), t)


def kernel_timing(kernel: Kernel, arch: Arch, values: Mapping[str, Number]) -> Timing:
    """The state after one task; arguments are those of `kernel_cost`."""
    run = _Run(Costs(kernel, arch), dict(values))
    run.region(kernel.body)
    return run.state


class _Run:
    def __init__(self, costs: Costs, env: dict[str, Number]) -> None:
        self.costs = costs
        self.env = env
        self.serial = costs.arch.model == "serial"
        self.walked = 0  # equations
        n = len(CoreUnit)
        self.state = Timing([0] * (1 if self.serial else n), {}, *([0] * n for _ in range(3)))

    def region(self, region: Region) -> tuple[In, ...]:
        """What it yields."""
        self.walked += len(region.eqns)
        for eqn in region.eqns:
            match eqn.prim:
                case "yield":
                    return eqn.ins
                case "fori_loop":
                    self._loop(eqn)
                case "branch":
                    self._branch(eqn)
                case _:
                    self._equation(eqn)
        return ()

    def _equation(self, eqn: Eqn) -> None:
        state = self.state
        start = max((state.of(x) for x in eqn.ins), default=0)
        work = self.costs.work(eqn)
        if work is not None:
            unit = 0 if self.serial else work.unit
            cycles = self._number(work.cycles)
            start = state.free[unit] = max(start, state.free[unit]) + cycles
            state.busy[work.unit] += cycles
            state.bytes[work.unit] += self._number(work.bytes)
            state.flops[work.unit] += self._number(work.flops)
            for x in eqn.ins:
                if isinstance(x, Var) and x.name in self.costs.memory:
                    state.ready[x.name] = start
        for v in eqn.outs:
            state.ready[v.name] = start
            if isinstance(v.type, ScalarType) and v.name not in self.costs.data:
                with suppress(KeyError):  # of a scalar that was not given
                    self.env[v.name] = self._scalar(eqn)

    def _number(self, e: Expr) -> int:
        return e.const if e.is_const else e.value(self.env)  # pyright: ignore[reportArgumentType] - extents are integers

    def _scalar(self, eqn: Eqn) -> Number:
        if eqn.prim == "dim":
            return self.env[str(eqn.params["of"])]
        values = [self._value(x) for x in eqn.ins]
        prim = PRIMITIVES[eqn.prim]
        if prim.dialect is Dialect.SCALAR:
            dtypes = [t.dtype for t in map(operand_type, eqn.ins) if isinstance(t, ScalarType)]
            return compute(eqn.prim, eqn.params, dtypes, values)
        if prim.reference is None:
            raise InternalError(f"{eqn.prim} is no scalar operation")
        result = np.asarray(prim.reference(dict(eqn.params), *map(np.asarray, values)))
        to = eqn.outs[0].type
        return (round_to(to.dtype, result) if isinstance(to, ScalarType) else result).item()

    def _value(self, x: In) -> Number:
        if isinstance(x, Literal):
            return x.value
        assert isinstance(x, Var)
        return self.env[x.name]

    def _bind(self, vs: Iterable[Var], ins: Iterable[In]) -> None:
        """Give new names to values, all at once."""
        moved: list[tuple[Var, int, Number | None]] = []
        for v, x in zip(vs, ins, strict=True):
            known = isinstance(v.type, ScalarType) and v.name not in self.costs.data
            moved.append((v, self.state.of(x), self._value(x) if known else None))
        for v, ready, value in moved:
            self.state.ready[v.name] = ready
            if value is not None:
                self.env[v.name] = value

    def _loop(self, eqn: Eqn) -> None:
        low, high, *init = eqn.ins
        index, *carried = eqn.regions[0].params
        self.state.wait(max(self.state.of(low), self.state.of(high)))
        given: Iterable[In] = init
        indices = trips(eqn, int(self._value(low)), int(self._value(high)))
        self._check_walk(eqn, len(indices))
        for i in indices:
            self._bind(carried, given)
            self.env[index.name] = i
            given = self.region(eqn.regions[0])
        self._bind(eqn.outs, given)

    def _check_walk(self, eqn: Eqn, trips: int) -> None:
        if self.walked + trips * len(eqn.regions[0].eqns) <= MOST_WALKED:
            return
        raise KernelError(
            "PTO733",
            f"the cost of kernel {self.costs.kernel.label}: its loops run too often to be walked without a run",
            values={"trips of this loop": trips, "most equations, in all loops": MOST_WALKED},
            loc=eqn.loc,
            fix="run a task: program.stats.total_cycles counts it; or ask for fewer trips, and scale",
        )

    def _branch(self, eqn: Eqn) -> None:
        (condition,) = eqn.ins
        self.state.wait(self.state.of(condition))
        if not isinstance(condition, Var) or condition.name not in self.costs.data:
            taken = eqn.regions[0 if self._value(condition) else 1]
            self._bind(eqn.outs, self.region(taken))
            return
        before, ends = self.state, list[Timing]()
        for region in eqn.regions:
            self.state = before.copy()
            self._bind(eqn.outs, self.region(region))
            ends.append(self.state)
        self.state = ends[0]
        self.state.join(ends[1])
