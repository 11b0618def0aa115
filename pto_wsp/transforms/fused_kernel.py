"""One kernel of several: the bodies of their tasks one after another, with values in the place of what they hand over in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pto_wsp.errors import InternalError, Location, here
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.ir.conflict import impossible
from pto_wsp.ir.control import DIM_PARAMS, INDEX, walk
from pto_wsp.ir.core import (
    Axis,
    Dim,
    Direction,
    DType,
    Eqn,
    Gather,
    In,
    Kernel,
    KernelParam,
    Literal,
    Region,
    RegionType,
    ScalarType,
    Slice,
    Span,
    TileAt,
    TileType,
    Type,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.expr import Expr, const, minimum, var
from pto_wsp.ir.rebuild import Rebuild
from pto_wsp.ir.rename import unique_name
from pto_wsp.ir.text import show_view
from pto_wsp.ops.cpp import is_cpp
from pto_wsp.ops.scalars import constant, extent
from pto_wsp.transforms.loops import refuse

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
    written: bool = False  # all of it is stored to: at once, or by a task whose output it is
    read: bool = False  # loaded before that
    loaded: bool = False  # loaded at all
    parts: bool = False  # stored to inside of a loop or branch, or in part
    stores: list[int] = field(default_factory=list[int])
    seen: int = 0  # how many of the stores something reads from memory
    fits: bool = True  # every value stored has exactly the valid shape of the view
    value: Var | None = None
    owner: int = -1  # the task that stored `value`, where it is not proved to have the view's valid shape; else -1

    @property
    def direction(self) -> Direction:
        if not self.stores and not self.parts:
            return Direction.IN
        return Direction.INOUT if self.read else Direction.OUT

    def touch(self, *, writes: bool = False, reads: bool = True) -> None:
        """Memory is read, or written in a way of which no value is known."""
        self.read = self.read or (reads and not self.written)
        self.loaded = self.loaded or reads
        self.seen = len(self.stores) if reads else self.seen
        if writes:
            self.parts, self.value, self.owner = True, None, -1


def fused_kernel(
    wir: Wir, tasks: Sequence[Eqn], name: str, only_here: frozenset[str], loops: Mapping[str, Axis]
) -> Fused:
    """The kernel `name` that does what `tasks` do one after another in an iteration of `loops`. `only_here` are temporaries that no
    other task uses. Raises ScheduleError where valid shapes cannot be proved equal."""
    kernels = [wir.kernel(str(t.params["kernel"])) for t in tasks]
    label = "_".join(dict.fromkeys(k.label for k in kernels))
    work = _Work(label, loops)
    for number, (task, kernel) in enumerate(zip(tasks, kernels, strict=True)):
        if is_cpp(kernel.body.eqns):
            raise refuse(_WHAT, f"kernel {kernel.label} is C++", task, "fuse in the C++")
        _Part(work, number, task, kernel).eqns(kernel.body)
    return work.finish(name, label, only_here, kernels[0].loc)


class _Work:
    """The kernel under construction."""

    def __init__(self, label: str, loops: Mapping[str, Axis]) -> None:
        self.builder = KernelBuilder(label)
        self.dropped: set[int] = set()
        self._loops = loops
        self._memory: dict[object, _Memory] = {}

    def parameter(self, p: KernelParam, arg: In, task: Eqn) -> _Memory:
        """The same views, and the same scalars of one dtype, are one parameter."""
        key = (arg.key if isinstance(arg, Literal) else arg, p.type.dtype, type(p.type))
        if key in self._memory:
            return self._memory[key]
        if isinstance(arg, View) and any(m.arg == arg and type(m.var.type) is not type(p.type) for m in self.memories):
            raise refuse(
                _WHAT,
                f"{show_view(arg)} is a tile of one kernel and a region of another",
                task,
                "fuse kernels that take the view in the same way",
            )
        name = unique_name(p.name, {m.var.name for m in self.memories} | self.builder.names)
        kind = p.type
        if isinstance(kind, TileType):
            kind = TileType(kind.dtype, kind.rows, kind.cols, f"{name}.rows", f"{name}.cols")
        memory = self._memory[key] = _Memory(arg, Var(name, kind), p.loc)
        self.builder.params[name] = KernelParam(name, Direction.IN, kind, p.loc)
        return memory

    @property
    def memories(self) -> list[_Memory]:
        """The parameters."""
        return list(self._memory.values())

    def fits(self, value: Var, m: _Memory) -> bool:
        """Whether a value's valid shape is proved to be that of the view it is stored to."""
        assert isinstance(value.type, TileType) and isinstance(m.arg, View)
        return [self._extent(d) for d in (value.type.vrows, value.type.vcols)] == [self._valid(d) for d in m.arg.kept]

    def _extent(self, d: Dim) -> Expr:
        if isinstance(d, int):
            return const(d)
        name, _, side = d.rpartition(".")
        view = next((m.arg for m in self.memories if m.var.name == name), None)
        if not isinstance(view, View):
            return var(f"a scalar of the kernel: {d}")
        return self._valid(view.kept[{"rows": 0, "cols": 1}[side] if side in ("rows", "cols") else int(side)])

    def _valid(self, d: ViewDim) -> Expr:
        """How many elements a dimension of a view has: exact, where this is a number in every iteration."""
        match d:
            case Slice():
                return const(d.length)
            case Span():
                return d.length
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
        for m in self.memories:
            if isinstance(m.arg, View):
                by_tensor.setdefault(m.arg.tensor, []).append(m)
        gone: list[_Memory] = []
        for tensor, memory in by_tensor.items():
            if tensor in only_here and not any(m.loaded or m.parts or not m.fits for m in memory):
                gone += memory
        for m in gone:
            self.dropped |= set(m.stores)
        kept = [m for m in self.memories if not any(m is g for g in gone)]
        params = tuple(KernelParam(m.var.name, m.direction, _kind(m.var), m.loc) for m in kept)
        eqns = tuple(e for k, e in enumerate(self.builder.eqns) if k not in self.dropped)
        return Fused(Kernel(name, label, params, Region((), eqns), loc), tuple(m.arg for m in kept))


class _Part(Rebuild):
    """The equations of one task, after those of the tasks before it."""

    def __init__(self, work: _Work, number: int, task: Eqn, kernel: Kernel) -> None:
        super().__init__(work.builder)
        self._work = work
        self._number = number
        self._task = task
        self._label = kernel.label
        self._memory = {p.name: work.parameter(p, arg, task) for p, arg in zip(kernel.params, task.ins, strict=True)}
        self._outputs = [Var(p.name, p.type) for p in kernel.params if p.direction is Direction.OUT]
        for name, m in self._memory.items():
            self.names[name] = m.var
            for side in _sides(m.var.type):
                self.names[f"{name}.{side}"] = Var(f"{m.var.name}.{side}", INDEX)
        for name in _named(kernel) & set(self._memory):
            self._name_extents(name, kernel)

    def _name_extents(self, name: str, kernel: Kernel) -> None:
        """Equations name the extents of a parameter: they are those of the value that all loads of it give, or it is kept."""
        m = self._memory[name]
        same = [n for n, other in self._memory.items() if other is m]
        uses = [e for e in walk(kernel.body) for x in e.ins if isinstance(x, Var) and x.name in same]
        if m.value is None or m.owner != -1 or any(e.prim != "load" for e in uses):
            self._forget(m)
            return
        t = m.value.type
        assert isinstance(t, TileType)
        for n in same:
            for side, d in zip(_sides(t), (t.vrows, t.vcols), strict=True):
                self.names[f"{n}.{side}"] = Var(d, INDEX) if isinstance(d, str) else Literal(d, DType.I64)

    def leaf(self, eqn: Eqn) -> In | None:
        """Loads give what was stored before; other operations are as they were."""
        if eqn.prim == "dim":
            return self._extent(str(eqn.params["of"]))
        m = self._memory.get(eqn.ins[0].name) if eqn.ins and isinstance(eqn.ins[0], Var) else None
        if m is None or isinstance(m.var.type, ScalarType):
            return super().leaf(eqn)
        inside = len(self.builder.scopes) > 1
        match eqn.prim:
            case "load" if not inside or (m.value is not None and m.owner == -1):
                return self._load(m, eqn)
            case "store" if not inside:
                return self._store(m, eqn)
            case "store" | "store_part":
                # the rest stays, which is read in this sense; of what is its output a kernel stores everything
                m.written = m.written or eqn.ins[0] in self._outputs
                m.touch(writes=True)
            case _:
                self._own(m)
                m.touch()
        return super().leaf(eqn)

    def _extent(self, name: str) -> Var:
        """An extent of a parameter, or of the value in its place, as a scalar."""
        of = self.names[name]
        if isinstance(of, Literal):
            return constant(self.builder, int(of.value))
        assert isinstance(of, Var)
        owner = of.name.rpartition(".")[0]
        return extent(self.builder, of.name) if owner in self.builder.params else of

    def control(self, eqn: Eqn) -> None:
        """A loop or branch: what it stores to is unknown before it, too, as an iteration may come after one that stored."""
        for e in eqn.walk():
            x = e.ins[0] if e.prim in ("store", "store_part") else None
            if isinstance(x, Var) and x.name in self._memory:
                self._forget(self._memory[x.name])
        super().control(eqn)

    def _forget(self, m: _Memory) -> None:
        """From here on the value is what memory holds."""
        self._own(m)
        m.value, m.owner, m.loaded = None, -1, True

    def _own(self, m: _Memory) -> None:
        """Refuse to read memory that another task stored a value of another valid shape to."""
        if m.value is not None and m.owner not in (-1, self._number):
            assert isinstance(m.arg, View)
            raise refuse(
                _WHAT,
                f"{show_view(m.arg)} is loaded with its own valid shape, which is not proved to be that of the value stored to it",
                self._task,
                "store values of the view's valid shape: combine constants with a tile x of it, or "
                "pto.store(out, pto.restrict(y, *pto.valid_shape(x)))",
            )

    def _load(self, m: _Memory, eqn: Eqn) -> Var:
        if m.value is not None and m.owner == -1:
            return m.value
        self._own(m)
        m.touch()
        m.value, m.owner = self.builder.value("load", [m.var], {}, eqn.loc or here()), -1
        return m.value

    def _store(self, m: _Memory, eqn: Eqn) -> None:
        value = self.operand(eqn.ins[1])
        assert isinstance(value, Var)
        eqns = self.builder.eqns
        before = eqns[m.stores[-1]].ins[1] if m.stores else None
        unseen = m.seen < len(m.stores) and m.value is not None and before == m.value
        if unseen and isinstance(before, Var) and before.type == value.type:
            self._work.dropped.add(m.stores[-1])  # overwritten before anything loads it from memory
        m.stores.append(len(eqns))
        m.written = True
        self.builder.emit("store", [m.var, value], {}, eqn.loc or here())
        fits = self._work.fits(value, m)
        m.fits = m.fits and fits
        m.value, m.owner = value, -1 if fits else self._number


def _sides(t: Type) -> tuple[str, ...]:
    """What the extents of a parameter are called after its name."""
    if isinstance(t, RegionType):
        return tuple(str(k) for k in range(len(t.shape)))
    return ("rows", "cols") if isinstance(t, TileType) else ()


def _named(kernel: Kernel) -> set[str]:
    """The parameters whose extents equations name: a value of the same extents cannot take their place."""
    dims: set[object] = set()
    for eqn in walk(kernel.body):
        dims |= {eqn.params.get(k) for k in ("of", *DIM_PARAMS)}
        for v in (*eqn.outs, *(v for r in eqn.regions for v in r.params)) if eqn.regions else ():
            dims |= {v.type.vrows, v.type.vcols} if isinstance(v.type, TileType) else set()
    return {d.rpartition(".")[0] for d in dims if isinstance(d, str)}


def _kind(v: Var) -> TileType | RegionType | ScalarType:
    if not isinstance(v.type, (TileType, RegionType, ScalarType)):
        raise InternalError(f"{v} is no parameter of a kernel")
    return v.type
