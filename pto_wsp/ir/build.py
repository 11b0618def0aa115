"""The kernel being traced: operations append their equations to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from pto_wsp.errors import InternalError, Location, PtoError, TraceError, here
from pto_wsp.ir.core import PRIMITIVES, Eqn, In, KernelParam, Param, TileType, Typed, Var, operand_type
from pto_wsp.ir.expr import RESERVED


@dataclass
class KernelBuilder:
    """Equations of one kernel under trace; `stored` counts the stores to each parameter so far."""

    label: str
    eqns: list[Eqn] = field(default_factory=list[Eqn])
    stored: dict[str, int] = field(default_factory=dict[str, int])
    loads: dict[tuple[str, int], Var] = field(default_factory=dict[tuple[str, int], Var])
    params: dict[str, KernelParam] = field(default_factory=dict[str, KernelParam])

    def fresh(self) -> str:
        """a, b, ..., z, aa, ab, ... skipping the names of parameters."""
        n = len(self.eqns)
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

    _used: set[str] = field(default_factory=set[str])

    def emit(self, prim: str, ins: Sequence[In], params: dict[str, Param], loc: Location) -> Var | None:
        """Type the equation, append it, and give its result (None for an effect). Errors get the user's line."""
        rule = PRIMITIVES[prim].type
        if rule is None:
            raise InternalError(f"{prim} has no type rule")
        try:
            typed = rule(params, *(operand_type(x) for x in ins))
        except PtoError as e:
            e.loc = e.loc or loc
            raise
        assert isinstance(typed, Typed)
        out = None if typed.type is None else Var(self.fresh(), typed.type)
        self.eqns.append(Eqn(prim, () if out is None else (out,), tuple(ins), params, (), loc))
        return out


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
