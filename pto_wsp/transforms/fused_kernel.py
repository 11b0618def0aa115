"""One kernel of several: the bodies of their tasks one after another, with values in the place of what they hand over in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pto_wsp.errors import InternalError, Location, here
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.ir.conflict import impossible
from pto_wsp.ir.core import (
    Axis,
    Dim,
    Direction,
    Eqn,
    Gather,
    In,
    Kernel,
    KernelParam,
    Literal,
    Region,
    ScalarType,
    Slice,
    TileAt,
    TileType,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.expr import Expr, const, minimum
from pto_wsp.transforms.loops import refuse, unique

_WHAT = "fuse"


@dataclass(frozen=True)
class Fused:
    """The kernel, and the arguments that its task takes."""

    kernel: Kernel
    ins: tuple[In, ...]


@dataclass
class _Memory:
    """A parameter of the fused kernel, and what is known of the memory behind it."""

    arg: In
    var: Var
    loc: Location | None
    read: bool = False  # loaded before anything was stored
    loaded: bool = False  # loaded at all
    stores: list[int] = field(default_factory=list[int])
    fits: bool = True  # every value stored has exactly the valid shape of the view
    value: Var | None = None
    owner: int = -1  # the task that stored `value`, where it is not proved to have the view's valid shape; else -1

    @property
    def direction(self) -> Direction:
        if not self.stores:
            return Direction.IN
        return Direction.INOUT if self.read else Direction.OUT


def fused_kernel(
    wir: Wir, tasks: Sequence[Eqn], name: str, only_here: frozenset[str], loops: Mapping[str, Axis]
) -> Fused:
    """The kernel `name` that does what `tasks` do one after another in an iteration of `loops`. `only_here` are temporaries that no
    other task uses. Raises ScheduleError where valid shapes cannot be proved equal."""
    kernels = [wir.kernel(str(t.params["kernel"])) for t in tasks]
    label = "_".join(dict.fromkeys(k.label for k in kernels))
    work = _Work(label, loops)
    for number, (task, kernel) in enumerate(zip(tasks, kernels, strict=True)):
        work.add(number, task, kernel)
    return work.finish(name, label, only_here, kernels[0].loc)


class _Work:
    def __init__(self, label: str, loops: Mapping[str, Axis]) -> None:
        self._loops = loops
        self._memory: dict[object, _Memory] = {}
        self._builder = KernelBuilder(label)
        self._dropped: set[int] = set()

    def add(self, number: int, task: Eqn, kernel: Kernel) -> None:
        """The equations of one task."""
        memory = {p.name: self._parameter(p, arg) for p, arg in zip(kernel.params, task.ins, strict=True)}
        values: dict[str, Var] = {n: m.var for n, m in memory.items() if isinstance(m.var.type, ScalarType)}
        for eqn in kernel.body.eqns:
            target = eqn.ins[0] if eqn.ins else None
            if eqn.prim in ("load", "store"):
                assert isinstance(target, Var)
                if eqn.prim == "load":
                    values[eqn.outs[0].name] = self._load(memory[target.name], number, eqn, task)
                else:
                    value = eqn.ins[1]
                    assert isinstance(value, Var)
                    self._store(memory[target.name], values[value.name], number, eqn)
                continue
            if any(isinstance(x, Var) and x.name not in values for x in eqn.ins):
                raise refuse(
                    _WHAT, f"{kernel.label} uses memory by {eqn.prim}", task, "fuse kernels that load and store"
                )
            out = self._emit(eqn, [values[x.name] if isinstance(x, Var) else x for x in eqn.ins])
            if out is not None:
                values[eqn.outs[0].name] = out

    def _parameter(self, p: KernelParam, arg: In) -> _Memory:
        """The same views, and the same scalars of one dtype, are one parameter."""
        key = (arg.key if isinstance(arg, Literal) else arg, p.type.dtype)
        if key not in self._memory:
            taken = {m.var.name for m in self._memory.values()} | {v.name for e in self._builder.eqns for v in e.outs}
            name = unique(p.name, taken)
            kind = p.type
            if isinstance(kind, TileType):
                kind = TileType(kind.dtype, kind.rows, kind.cols, f"{name}.rows", f"{name}.cols")
            memory = self._memory[key] = _Memory(arg, Var(name, kind), p.loc)
            self._builder.params[name] = KernelParam(name, Direction.IN, kind, p.loc)
            return memory
        return self._memory[key]

    def _emit(self, eqn: Eqn, ins: Sequence[In]) -> Var | None:
        return self._builder.emit(eqn.prim, ins, dict(eqn.params), eqn.loc or here())

    def _load(self, m: _Memory, number: int, eqn: Eqn, task: Eqn) -> Var:
        if m.value is not None and m.owner == -1:
            return m.value
        if m.value is not None and m.owner != number:
            raise refuse(
                _WHAT,
                f"{m.arg} is loaded with its own valid shape, which is not proved to be that of the value stored to it",
                task,
                "store values of the view's valid shape: combine constants with a tile of it first",
            )
        out = self._emit(eqn, [m.var])
        if out is None:
            raise InternalError("a load without a value")
        m.read = m.read or not m.stores
        m.loaded = True
        m.value, m.owner = out, -1
        return out

    def _store(self, m: _Memory, value: Var, number: int, eqn: Eqn) -> None:
        before = self._builder.eqns[m.stores[-1]].ins[1] if m.stores else None
        if m.value is not None and before == m.value and isinstance(before, Var) and before.type == value.type:
            self._dropped.add(m.stores[-1])  # overwritten before anything loads it from memory
        m.stores.append(len(self._builder.eqns))
        self._emit(eqn, [m.var, value])
        fits = self._fits(value, m)
        m.fits = m.fits and fits
        m.value, m.owner = value, -1 if fits else number

    def _fits(self, value: Var, m: _Memory) -> bool:
        """Whether a value's valid shape is proved to be that of the view it is stored to."""
        assert isinstance(value.type, TileType) and isinstance(m.arg, View)
        return [self._extent(d) for d in (value.type.vrows, value.type.vcols)] == [self._valid(d) for d in m.arg.kept]

    def _extent(self, d: Dim) -> Expr:
        if isinstance(d, int):
            return const(d)
        name, _, side = d.rpartition(".")
        view = next(m.arg for m in self._memory.values() if m.var.name == name)
        assert isinstance(view, View)
        return self._valid(view.kept[0 if side == "rows" else 1])

    def _valid(self, d: ViewDim) -> Expr:
        """How many elements a dimension of a view has: exact, where this is a number in every iteration."""
        match d:
            case Slice():
                return const(d.length)
            case TileAt():
                rest = d.limit - d.start
                full = const(d.size)
                return full if impossible(self._loops, full - rest - 1) else minimum(full, rest)
            case Gather():
                return self._valid(d.index.kept[0])
            case _:
                raise InternalError(f"{d} has no place in a task")

    def finish(self, name: str, label: str, only_here: frozenset[str], loc: Location | None) -> Fused:
        """The kernel, without stores that nothing loads."""
        by_tensor: dict[str, list[_Memory]] = {}
        for m in self._memory.values():
            if isinstance(m.arg, View):
                by_tensor.setdefault(m.arg.tensor, []).append(m)
        gone: list[_Memory] = []
        for tensor, memory in by_tensor.items():
            if tensor in only_here and not any(m.loaded or not m.fits for m in memory):
                gone += memory
        for m in gone:
            self._dropped |= set(m.stores)
        kept = [m for m in self._memory.values() if not any(m is g for g in gone)]
        params = tuple(KernelParam(m.var.name, m.direction, _kind(m.var), m.loc) for m in kept)
        eqns = tuple(e for k, e in enumerate(self._builder.eqns) if k not in self._dropped)
        return Fused(Kernel(name, label, params, Region((), eqns), loc), tuple(m.arg for m in kept))


def _kind(v: Var) -> TileType | ScalarType:
    if not isinstance(v.type, (TileType, ScalarType)):
        raise InternalError(f"{v} is no parameter of a kernel")
    return v.type
