"""`@workload`: a Python function that emits tasks becomes wir."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, Self

import numpy as np

from pto_wsp.errors import Location, TraceError, TypeCheckError, here
from pto_wsp.ir.core import Eqn, Region, Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.verify import check_nesting, verify
from pto_wsp.trace.builder import WorkloadBuilder, tracing_workload
from pto_wsp.trace.tensor import Tensor, TensorSpec


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced workload: its wir, the tensors it was traced with by name, and the sizes its axes came with."""

    wir: Wir
    tensors: dict[str, TensorSpec] = field(default_factory=dict[str, TensorSpec])
    sizes: dict[str, int] = field(default_factory=dict[str, int])

    def __eq__(self, other: object) -> bool:
        """The same wir, sizes, and the very same tensors."""
        if not isinstance(other, Traced):
            return NotImplemented
        same = self.tensors.keys() == other.tensors.keys() and all(
            t is other.tensors[n] for n, t in self.tensors.items()
        )
        return same and (self.wir, self.sizes) == (other.wir, other.sizes)

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def need(what: str, w: object) -> None:
        """Raise TraceError unless w is a traced workload."""
        if not isinstance(w, Traced):
            raise TraceError(
                "PTO155",
                f"{what} needs a traced workload",
                values={"got": repr(w)[:80]},
                loc=here(),
                fix=f"call the workload first: {what}(...)(attention(x, y))",
            )

    def with_wir(self, wir: Wir) -> Self:
        """The same tensors and sizes around another wir."""
        return replace(self, wir=wir)

    def wrapped(self, prim: str, **params: Any) -> Self:
        """The whole body inside one equation `prim[params] { ... }`."""
        eqn = Eqn(prim, params=params, regions=(self.wir.body,), loc=here())
        check_nesting(Region((), (eqn,)))
        return self.with_wir(self.wir.with_body(eqn))


def call_arguments(fn: Callable[..., Any], label: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by parameter; numpy arrays become tensors. Raises TypeCheckError where they do not fit."""
    signature = inspect.signature(fn)
    if any(p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in signature.parameters.values()):
        raise TraceError(
            "PTO131",
            f"workload {label} takes *args, **kwargs or positional-only parameters",
            loc=_where(fn),
            fix="name every parameter",
        )
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as e:
        method = next(iter(signature.parameters), "") == "self"
        fix = "a workload is a function, not a method" if method else "give the arguments its definition names"
        raise TypeCheckError("PTO155", f"workload {label}: {e}", loc=here(), fix=fix) from e
    bound.apply_defaults()
    return {n: _argument(a, n) for n, a in bound.arguments.items()}


def _argument(x: Any, name: str) -> Any:
    """Arrays become tensors, named like the parameter. A TensorSpec is a type: each parameter given one is a tensor of its own."""
    if isinstance(x, np.ndarray) or (hasattr(type(x), "__dlpack__") and not isinstance(x, np.generic)):
        tensor = Tensor(x, name=name)
        tensor.given_name = None
        return tensor
    return copy(x) if type(x) is TensorSpec else x


def trace_workload(fn: FunctionType, label: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Run `fn` once under trace and give its wir, verified and free of proven races."""
    arguments = call_arguments(fn, label, args, kwargs)
    builder = WorkloadBuilder(fn, label, arguments)
    with tracing_workload(builder):
        result = fn(**arguments)
    left = builder.broken or (builder.loops[0].loc if builder.loops else None)
    if left is not None:
        raise TraceError(
            "PTO151",
            "break, return or an exception left a traced loop",
            loc=left,
            fix="a traced loop runs its body once, for all iterations: make its extent shorter instead",
        )
    if result is not None:
        raise TraceError(
            "PTO155",
            f"workload {label} returns a value",
            values={"returned": repr(result)[:80]},
            loc=_where(fn),
            fix="write results into tensor arguments",
        )
    wir = builder.finish()
    verify(wir, "traced")
    refuse_races(wir)
    return Traced(wir, builder.tensors, {n: v for n, v in builder.symbols.items() if v is not None})


def _where(fn: Callable[..., Any]) -> Location:
    return Location(fn.__code__.co_filename, fn.__code__.co_firstlineno, fn.__name__)
