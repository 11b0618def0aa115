"""A kernel's Python function run with numbers: what is emitted is computed at once, so that a debugger shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pto_wsp.errors import InternalError
from pto_wsp.ir.build import Control, KernelBuilder, Mark, Scope, tracing_kernel
from pto_wsp.ir.core import PRIMITIVES, Eqn, Literal, Var
from pto_wsp.ir.evaluate_kernel import Numbers
from pto_wsp.ops.value import Value


class RunningKernel(KernelBuilder):
    """Runs a kernel that `traced` was the trace of.

    Names are those of the trace, iteration by iteration, so that what is carried has the types found there.
    """

    def __init__(self, traced: KernelBuilder, args: Mapping[str, Any]) -> None:
        super().__init__(traced.label, params=traced.params)
        self.traced = traced.controls
        self.facts = dict(traced.facts)
        self.extents = dict(traced.extents)
        self.numbers = Numbers(traced.label, traced.params.values(), args)

    def append(self, eqn: Eqn, scope: Scope | None = None) -> None:
        """Add an equation, and run it."""
        super().append(eqn, scope)
        self._run(eqn)

    def begin(self, control: Control) -> None:
        """Before a loop or branch: compute what was traced inside of it and is computed before it."""
        for scope, after in zip(self.scopes, control.after.scopes, strict=True):
            self._know(scope, after, scope.names)
        self.numbers.check_outs(control.eqn)

    def back(self, mark: Mark) -> None:
        """To a point of the trace. What it knows there from regions that did not run, and computed before them, is computed now."""
        known = [scope.names for scope in self.scopes]
        super().back(mark)
        for scope, was, names in zip(self.scopes, mark.scopes, known, strict=True):
            self._know(scope, was, names)

    def _know(self, scope: Scope, mark: Scope, names: set[str]) -> None:
        """Compute the values and scalars that `mark` knows and that are not in `names`, which become those of `scope`."""
        made = {v.name: e for e in mark.eqns for v in e.outs}
        for var in (*mark.loads.values(), *mark.scalars.values()):
            if var.name not in names:
                self._run(made[var.name])
                names.add(var.name)
        scope.names = names

    def leave(self, control: Control, given: Sequence[Any]) -> list[Value]:
        """After a loop or branch that gave these values: what stands for its results."""
        self.back(control.after)
        self.numbers.bind_all(control.eqn.outs, given)
        return [Value(self, v) for v in control.eqn.outs]

    def shown(self, var: Var) -> object | None:
        """The number or array that a variable stands for."""
        return self.numbers.values.get(var.name)

    def _run(self, eqn: Eqn) -> None:
        expand = PRIMITIVES[eqn.prim].expand
        if expand is None:
            self.numbers.step(eqn)
            return
        inner = KernelBuilder(self.label, params=self.params)
        running = RunningKernel(inner, dict(self.numbers.values))
        running.numbers.extents |= self.numbers.extents
        running._used |= set(self.numbers.values)
        operands = [x.value if isinstance(x, Literal) else Value(running, _var(x)) for x in eqn.ins]
        with tracing_kernel(running):
            result = expand(*operands, **eqn.params)
        self.numbers.bind(eqn.outs[0], running.numbers.operand(result.read()))


def _var(x: object) -> Var:
    if not isinstance(x, Var):
        raise InternalError(f"{x} is no operand of a kernel")
    return x
