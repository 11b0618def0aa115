"""The kernel being traced: operations append their equations to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pto_wsp.errors import InternalError, Location, PtoError, TraceError, here
from pto_wsp.ir.core import (
    PRIMITIVES,
    Dialect,
    Eqn,
    In,
    KernelParam,
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
from pto_wsp.ir.scalars import scalar_type

DATA = ("element",)
"""Primitives whose scalar results are read from tensors inside of the kernel."""


@dataclass
class KernelBuilder:
    """Equations of one kernel under trace, of the region that is open.

    stored   how many stores to each parameter there are so far
    written  the parameters that are surely written here
    loads    values of parameters that are known here, by parameter and count of stores
    data     scalars that depend on what the kernel reads from tensors
    """

    label: str
    eqns: list[Eqn] = field(default_factory=list[Eqn])
    stored: dict[str, int] = field(default_factory=dict[str, int])
    written: set[str] = field(default_factory=set[str])
    loads: dict[tuple[str, int], Var] = field(default_factory=dict[tuple[str, int], Var])
    params: dict[str, KernelParam] = field(default_factory=dict[str, KernelParam])
    data: set[str] = field(default_factory=set[str])
    _used: set[str] = field(default_factory=set[str])
    _begun: int = 0

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
                return name
            n += 1

    def append(self, eqn: Eqn) -> None:
        self.eqns.append(eqn)
        self._begun += 1

    def emit(self, prim: str, ins: Sequence[In], params: dict[str, Param], loc: Location | None) -> Var | None:
        """Type the equation, append it, and give its result (None for an effect). Errors get the user's line."""
        try:
            kind = result_type(prim, ins, params)
        except PtoError as e:
            e.loc = e.loc or loc or here()
            raise
        out = None if kind is None else Var(self.fresh(), kind)
        if isinstance(kind, ScalarType) and out is not None and (prim in DATA or self.is_data(ins)):
            self.data.add(out.name)
        self.append(Eqn(prim, () if out is None else (out,), tuple(ins), params, (), loc))
        return out

    def is_data(self, ins: Sequence[In]) -> bool:
        """Whether a scalar among the operands depends on what the kernel reads."""
        return any(isinstance(x, Var) and x.name in self.data for x in ins)

    @contextmanager
    def region(self, params: Sequence[Var] = (), *, again: bool = False) -> Generator[Callable[[], Region]]:
        """What is emitted inside becomes a region, which the function given makes when all is there. again: it may run more than
        once, so that what was loaded from memory before may differ."""
        outer, loads = self.eqns, dict(self.loads)
        self.eqns = []
        if again:
            self.loads = {k: v for k, v in self.loads.items() if k[0] not in self.params or self._is_input(k[0])}
        inner = self.eqns
        try:
            yield lambda: Region(tuple(params), tuple(inner))
        finally:
            self.eqns, self.loads = outer, loads

    def _is_input(self, name: str) -> bool:
        return self.params[name].direction.value == "in"

    def mark(self) -> tuple[object, ...]:
        """What `back` undoes."""
        return (
            dict(self.stored),
            set(self.written),
            dict(self.loads),
            set(self.data),
            set(self._used),
            self._begun,
            len(self.eqns),
        )

    def back(self, mark: tuple[object, ...]) -> None:
        """Forget what was emitted since the mark."""
        self.stored, self.written, self.loads, self.data, self._used, self._begun, count = mark  # type: ignore[assignment]
        assert isinstance(count, int)
        del self.eqns[count:]


def result_type(prim: str, ins: Sequence[In], params: dict[str, Param]) -> TileType | ScalarType | None:
    """The type of the result of an equation of a kernel without regions. Raises TypeCheckError without a location."""
    p = PRIMITIVES[prim]
    types: list[Type] = [operand_type(x) for x in ins]
    if p.dialect is Dialect.SCALAR:
        dtypes = [t.dtype for t in types if isinstance(t, ScalarType)]
        if len(dtypes) != len(types):
            raise InternalError(f"{prim} of a tile")
        return ScalarType(scalar_type(prim, params, dtypes))
    if p.type is None:
        raise InternalError(f"{prim} has no type rule")
    typed = p.type(params, *types)
    assert isinstance(typed, Typed)
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
