"""The kernel being traced: operations append their equations to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pto_wsp.errors import CompileError, InternalError, Location, PtoError, TraceError, here
from pto_wsp.ir.core import (
    MOST_ELEMENTS,
    PRIMITIVES,
    Dialect,
    Direction,
    DType,
    Eqn,
    In,
    KernelParam,
    Literal,
    Param,
    Region,
    ScalarType,
    TileType,
    Type,
    Typed,
    Var,
    operand_type,
)
from pto_wsp.ir.expr import RESERVED
from pto_wsp.ir.facts import Facts, derive
from pto_wsp.ir.scalars import can_fail, scalar_type

DATA = ("element",)
"""Primitives whose scalar results are read from tensors inside of the kernel."""
MAX_NESTING = 30


@dataclass
class Scope:
    """A region under trace.

    place    which of the regions of the kernel it is: the same in every trace of it
    repeats  it is the body of a loop
    loads    values of parameters that are known here, by parameter and count of stores
    scalars  scalars that are known here, by what computes them
    names    what its parameters and equations bind
    controls how many loops and branches it has so far
    """

    place: tuple[int, ...] = ()
    repeats: bool = False
    eqns: list[Eqn] = field(default_factory=list[Eqn])
    loads: dict[tuple[str, int], Var] = field(default_factory=dict[tuple[str, int], Var])
    scalars: dict[object, Var] = field(default_factory=dict[object, Var])
    names: set[str] = field(default_factory=set[str])
    controls: int = 0


@dataclass(frozen=True)
class Mark:
    """A point of the trace: what `KernelBuilder.back` brings back."""

    names: tuple[frozenset[str], int]
    stored: dict[str, int]
    written: frozenset[str]
    data: frozenset[str]
    ended: frozenset[str]
    scopes: tuple[Scope, ...]


@dataclass(frozen=True)
class Control:
    """A loop or branch that was traced: its equation, the marks at the beginning of its regions, and the one after it."""

    eqn: Eqn
    begins: tuple[Mark, ...]
    after: Mark


@dataclass
class KernelBuilder:
    """Equations of one kernel under trace; those of the region that is open are `eqns`.

    stored   how many stores to each parameter there are so far
    written  the parameters that are surely written here
    data     scalars that depend on what the kernel reads from tensors
    facts    what is known of i64 scalars
    extents  the extent of a parameter that a scalar is
    controls the loops and branches that are traced to the end, by place
    """

    label: str
    params: dict[str, KernelParam] = field(default_factory=dict[str, KernelParam])
    stored: dict[str, int] = field(default_factory=dict[str, int])
    written: set[str] = field(default_factory=set[str])
    data: set[str] = field(default_factory=set[str])
    facts: dict[str, Facts] = field(default_factory=dict[str, Facts])
    extents: dict[str, str] = field(default_factory=dict[str, str])
    controls: dict[tuple[int, ...], Control] = field(default_factory=dict[tuple[int, ...], "Control"])
    scopes: list[Scope] = field(default_factory=lambda: [Scope()])
    _ended: set[str] = field(default_factory=set[str])
    _used: set[str] = field(default_factory=set[str])
    _begun: int = 0

    @property
    def eqns(self) -> list[Eqn]:
        """The equations of the region that is open."""
        return self.scopes[-1].eqns

    @property
    def names(self) -> frozenset[str]:
        """Every name that was given so far."""
        return frozenset(self._used)

    def fresh(self) -> str:
        """a, b, ..., z, aa, ab, ... skipping the names of parameters."""
        n = self._begun
        while True:
            name, k = "", n
            while True:
                name = chr(ord("a") + k % 26) + name
                k = k // 26 - 1
                if k < 0:
                    break
            if name not in self._used and name not in self.params and name not in RESERVED:
                self._used.add(name)
                self.facts.pop(name, None)  # of a trace that was given up
                self.extents.pop(name, None)
                return name
            n += 1

    def append(self, eqn: Eqn, scope: Scope | None = None) -> None:
        """Add an equation to the region that is open, or to one around it."""
        scope = scope or self.scopes[-1]
        scope.eqns.append(eqn)
        scope.names.update(v.name for v in eqn.outs)
        self._begun += 1

    def emit(
        self, prim: str, ins: Sequence[In], params: dict[str, Param], loc: Location | None, scope: Scope | None = None
    ) -> Var | None:
        """Type the equation, append it, and give its result (None for an effect). Errors get the user's line."""
        try:
            kind = result_type(prim, ins, params)
        except PtoError as e:
            e.loc = e.loc or loc or here()
            raise
        out = None if kind is None else Var(self.fresh(), kind)
        if isinstance(kind, ScalarType) and out is not None:
            if prim in DATA or self.is_data(ins):
                self.data.add(out.name)
            if kind.dtype is DType.I64:
                self.facts[out.name] = derive(prim, tuple(ins), params, self.facts)
        self.append(Eqn(prim, () if out is None else (out,), tuple(ins), params, (), loc), scope)
        return out

    def value(
        self, prim: str, ins: Sequence[In], params: dict[str, Param], loc: Location | None, scope: Scope | None = None
    ) -> Var:
        """`emit` of what has a result."""
        out = self.emit(prim, ins, params, loc, scope)
        if out is None:
            raise InternalError(f"{prim} has no result")
        return out

    def shown(self, var: Var) -> object | None:
        """What a variable stands for, where that is known while the function runs."""
        return None

    # what is computed once

    def load(self, name: str) -> Var:
        """The value of a tile parameter now: one load for all uses between two stores. What nothing stores to is loaded before the
        loops around."""
        key = (name, self.stored.get(name, 0))
        is_input = self.params[name].direction is Direction.IN
        for scope in reversed(self.scopes):
            if key in scope.loads:
                return scope.loads[key]
            if scope.repeats and not is_input:
                break  # an earlier iteration may have stored
        scope = self._before_loops() if is_input else self.scopes[-1]
        scope.loads[key] = self.value("load", [Var(name, self.params[name].type)], {}, here(), scope)
        return scope.loads[key]

    def scalar(self, prim: str, ins: Sequence[In], params: dict[str, Param]) -> Var:
        """A scalar that is computed once in a region and those inside of it: where all that it is made of is known, unless it can
        fail. So what is the same in all iterations of a loop is known outside of it."""
        key = (prim, tuple(x.key if isinstance(x, Literal) else x for x in ins), tuple(sorted(params.items())))
        for scope in reversed(self.scopes):
            if key in scope.scalars:
                return scope.scalars[key]
        scope = self.scopes[-1] if _can_fail(prim, ins, params) else self._home(ins)
        scope.scalars[key] = self.value(prim, ins, params, here(), scope)
        return scope.scalars[key]

    def _home(self, ins: Sequence[In]) -> Scope:
        """The outermost region in which all operands are known."""
        names = {x.name for x in ins if isinstance(x, Var)}
        return next((s for s in reversed(self.scopes) if names & s.names), self.scopes[0])

    def _before_loops(self) -> Scope:
        return next(s for s in reversed(self.scopes) if not s.repeats)

    # data

    def is_data(self, ins: Sequence[In]) -> bool:
        """Whether a scalar among the operands depends on what the kernel reads."""
        return any(isinstance(x, Var) and x.name in self.data for x in ins)

    def check_in_scope(self, var: Var, what: str) -> None:
        """Refuse a value of a loop or branch that has ended."""
        if var.name in self._ended:
            raise TraceError(
                "PTO138",
                f"{what} of a value of a loop or branch that has ended",
                values={var.name: var.type},
                loc=here(),
                fix="return it: what fori_loop carries and what the branches of cond give is there afterwards",
            )

    # regions

    def place(self) -> tuple[int, ...]:
        """The place of a loop or branch that begins here. Raises CompileError where it is nested too deep."""
        if len(self.scopes) > MAX_NESTING:
            raise CompileError(
                "PTO405",
                f"loops and branches of a kernel nested deeper than {MAX_NESTING}",
                loc=here(),
                fix="write several loops as one over their product",
            )
        scope = self.scopes[-1]
        scope.controls += 1
        return (*scope.place, scope.controls)

    @contextmanager
    def region(
        self, params: Sequence[Var] = (), place: tuple[int, ...] = (), *, repeats: bool = False
    ) -> Generator[Callable[[], Region]]:
        """What is emitted inside becomes a region, which the function given makes when all is there. repeats: it is a loop's."""
        scope = Scope(place, repeats, names={v.name for v in params})
        self.scopes.append(scope)
        try:
            yield lambda: Region(tuple(params), tuple(scope.eqns))
        finally:
            self.scopes.pop()
            self._ended |= scope.names

    def mark(self) -> Mark:
        """What `back` brings back."""
        scopes = tuple(
            replace(s, eqns=list(s.eqns), loads=dict(s.loads), scalars=dict(s.scalars), names=set(s.names))
            for s in self.scopes
        )
        names = (frozenset(self._used), self._begun)
        return Mark(
            names, dict(self.stored), frozenset(self.written), frozenset(self.data), frozenset(self._ended), scopes
        )

    def back(self, mark: Mark) -> None:
        """Forget what was emitted since the mark, which is of the same region."""
        self._used, self._begun = set(mark.names[0]), mark.names[1]
        self.stored, self.written, self.data = dict(mark.stored), set(mark.written), set(mark.data)
        self._ended = set(mark.ended)
        for scope, was in zip(self.scopes, mark.scopes, strict=True):
            scope.eqns[:] = was.eqns
            scope.loads, scope.scalars, scope.names = dict(was.loads), dict(was.scalars), set(was.names)
            scope.controls = was.controls


def _can_fail(prim: str, ins: Sequence[In], params: dict[str, Param]) -> bool:
    """Whether some operands make an operation on scalars an error."""
    if PRIMITIVES[prim].dialect is not Dialect.SCALAR:
        return False
    dtypes = [t.dtype for t in map(operand_type, ins) if isinstance(t, ScalarType)]
    return can_fail(prim, params, dtypes, [x.value if isinstance(x, Literal) else None for x in ins])


def result_type(prim: str, ins: Sequence[In], params: dict[str, Param]) -> TileType | ScalarType | None:
    """The type of the result of an equation of a kernel without regions. Raises TypeCheckError and CompileError, without a
    location."""
    p = PRIMITIVES[prim]
    types: list[Type] = [operand_type(x) for x in ins]
    if p.dialect is Dialect.SCALAR:
        dtypes = [t.dtype for t in types if isinstance(t, ScalarType)]
        if len(dtypes) != len(types):
            raise TypeError(f"{prim} of a tile")
        return ScalarType(scalar_type(prim, params, dtypes))
    if p.type is None:
        raise InternalError(f"{prim} has no type rule")
    typed = p.type(params, *types)
    assert isinstance(typed, Typed)
    if isinstance(typed.type, TileType) and typed.type.rows * typed.type.cols > MOST_ELEMENTS:
        raise CompileError(
            "PTO405",
            f"{prim} makes a tile of more than 2^28 elements",
            values={"tile": typed.type},
            fix="tile the axis: tiles are pieces that a core holds",
        )
    return typed.type


class _Current(threading.local):
    kernel: KernelBuilder | None = None


_current = _Current()


def current_kernel(what: str) -> KernelBuilder:
    """The kernel under trace in this thread; `what` is the operation that needs it."""
    if _current.kernel is None:
        raise TraceError(
            "PTO126",
            f"{what} outside of a kernel",
            loc=here(),
            fix="call it in a function decorated with @kernel that a workload calls",
        )
    return _current.kernel


def in_kernel() -> bool:
    """Whether a kernel is under trace in this thread."""
    return _current.kernel is not None


class tracing_kernel:  # noqa: N801 - used as a context manager
    """`with tracing_kernel(builder):` makes it the current one of this thread."""

    def __init__(self, builder: KernelBuilder) -> None:
        self._builder = builder

    def __enter__(self) -> KernelBuilder:
        self._before, _current.kernel = _current.kernel, self._builder
        return self._builder

    def __exit__(self, *exc: object) -> None:
        _current.kernel = self._before


def tile(v: Var) -> TileType:
    if not isinstance(v.type, TileType):
        raise InternalError(f"{v} is not a tile")
    return v.type
