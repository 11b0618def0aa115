"""Variants of a kernel: several kernels behind one name, chosen by the arguments of each call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pto_wsp.errors import Location, TraceError, TypeCheckError, here
from pto_wsp.ir.core import Eqn, Region, RegionType
from pto_wsp.trace import arguments
from pto_wsp.trace.annotations import ConstexprParam, ParamSpec, ScalarParam, TileParam
from pto_wsp.trace.builder import WorkloadBuilder
from pto_wsp.trace.index import Element, Scalar64
from pto_wsp.trace.scalar import truth

if TYPE_CHECKING:
    from pto_wsp.trace.kernel import KernelFunction


@dataclass(frozen=True, slots=True)
class Variant:
    """A kernel, and what asks whether a call takes it; None: where the types fit."""

    kernel: KernelFunction
    when: Callable[..., Any] | None
    asks: tuple[str, ...]  # the parameters that `when` takes


def add_variant(base: KernelFunction, kernel: KernelFunction, when: Callable[..., Any] | None) -> None:
    """Raises TraceError for other parameters than those of `base`, and for a `when` that takes anything else."""
    kinds = [{n: _kind(s) for n, s in k.specs.items()} for k in (base, kernel)]
    if list(kinds[0].items()) != list(kinds[1].items()):
        raise TraceError(
            "PTO179",
            f"a variant of kernel {base.label} with other parameters",
            values={k.label: ", ".join(f"{n} {_kind(s)}" for n, s in k.specs.items()) for k in (base, kernel)},
            loc=here(),
            fix="give it the same names, directions and kinds in the same order: only types may differ",
        )
    asks: tuple[str, ...] = ()
    if when is not None:
        if not callable(when):
            raise _bad_when(base, repr(when)[:80])
        parameters = inspect.signature(when).parameters.values()
        asks = tuple(p.name for p in parameters if p.default is p.empty)
        if any(n not in base.specs for n in asks):
            raise _bad_when(base, ", ".join(asks))
    base.variants.append(Variant(kernel, when, asks))


def _kind(spec: ParamSpec) -> str:
    return (
        spec.direction.value
        if isinstance(spec, TileParam)
        else "scalar"
        if isinstance(spec, ScalarParam)
        else "constant"
    )


def _bad_when(base: KernelFunction, got: str) -> TraceError:
    return TraceError(
        "PTO179",
        f"when= of a variant of kernel {base.label} takes something else than its parameters",
        values={"when": got, "parameters": ", ".join(base.specs)},
        loc=here(),
        fix="give a function of parameters by name: when=lambda n: n <= 2048",
    )


def emit_variant(
    builder: WorkloadBuilder,
    base: KernelFunction,
    coords: tuple[Any, ...] | None,
    given: dict[str, Any],
    after: tuple[str, ...],
) -> list[Location]:
    """Emit the task of the variant that fits, or conditionals around several; where each stands in the user's program."""
    for name, spec in base.specs.items():
        x = given[name]
        if isinstance(spec, ScalarParam) and isinstance(x, Element) and x.is_element:
            given[name] = x.element()
    choice = _Choice(builder, base, coords, given, after)
    choice.emit([*base.variants, Variant(base, None, ())])
    return choice.locs


@dataclass
class _Choice:
    """One call of a kernel that has variants."""

    builder: WorkloadBuilder
    base: KernelFunction
    coords: tuple[Any, ...] | None
    given: dict[str, Any]
    after: tuple[str, ...]

    def __post_init__(self) -> None:
        self.locs: list[Location] = []
        self.refused: dict[str, str] = {}

    def emit(self, candidates: list[Variant]) -> None:
        """The first of these that fits, and where only the run can tell, a conditional with the others."""
        for k, v in enumerate(candidates):
            why = self._misfit(v.kernel)
            if why is not None:
                self.refused[v.kernel.label] = why
                continue
            holds = True if v.when is None else v.when(*(self.given[n] for n in v.asks))
            condition = truth(holds, f"when= of variant {v.kernel.label}")
            if isinstance(holds, (Scalar64, Element)):
                operand = condition.operand(self.builder)
                regions = (self._region([Variant(v.kernel, None, ())]), self._region(candidates[k + 1 :]))
                self.builder.append(Eqn("cond", ins=(operand,), regions=regions, loc=here()))
                return
            if holds:
                self.locs.append(self.builder.task(v.kernel, self.coords, self.given, self.after))
                return
            self.refused[v.kernel.label] = "its when= is False"
        raise TypeCheckError(
            "PTO179",
            f"no variant of kernel {self.base.label} fits",
            values=self.refused,
            loc=here(),
            fix="give arguments that one of them takes, or add a variant: the kernel itself takes what no when= wants",
        )

    def _region(self, candidates: list[Variant]) -> Region:
        self.builder.open_block()
        self.emit(candidates)
        return Region((), self.builder.close_block())

    def _misfit(self, kernel: KernelFunction) -> str | None:
        """Why the arguments do not fit, or None."""
        try:
            for name, spec in kernel.specs.items():
                self._check(self.given[name], spec, f"argument {name}")
        except TypeCheckError as e:
            return e.what
        return None

    def _check(self, x: Any, spec: ParamSpec, what: str) -> None:
        if isinstance(spec, ConstexprParam):
            arguments.constant(x, spec, what)
        elif isinstance(spec, ScalarParam):
            arguments.check_scalar(x, spec.dtype, what, here())
        elif spec.type is None:
            arguments.bare_type(x, what)
        elif isinstance(spec.type, RegionType):
            arguments.region(self.builder, x, spec.type, what, here())
        else:
            arguments.view(self.builder, x, spec.type, what, here())
