"""A kernel's Python function run with numbers: what is emitted is computed at once, so that a debugger shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pto_wsp.errors import InternalError, TraceError, here
from pto_wsp.ir.build import Control, KernelBuilder, Mark, Scope, tracing_kernel
from pto_wsp.ir.core import PRIMITIVES, Eqn, In, KernelParam, Literal, Var
from pto_wsp.ir.evaluate_kernel import Numbers
from pto_wsp.ops.value import Value


class Computing(KernelBuilder):
    """Runs each equation when it is added."""

    def __init__(self, label: str, params: dict[str, KernelParam], args: Mapping[str, Any]) -> None:
        super().__init__(label, params=params)
        self.numbers = Numbers(label, params.values(), args)

    def append(self, eqn: Eqn, scope: Scope | None = None) -> None:
        """Add an equation, and run it."""
        super().append(eqn, scope)
        self._run(eqn)

    def shown(self, var: Var) -> object | None:
        """The number or array that a variable stands for."""
        return self.numbers.values.get(var.name)

    def _run(self, eqn: Eqn) -> None:
        expand = PRIMITIVES[eqn.prim].expand
        if expand is None:
            self.numbers.step(eqn)
            return
        running = Computing(self.label, self.params, dict(self.numbers.values))
        running.numbers.extents |= self.numbers.extents
        running._used |= set(self.numbers.values)
        operands = [x.value if isinstance(x, Literal) else Value(running, _var(x)) for x in eqn.ins]
        with tracing_kernel(running):
            result = expand(*operands, **eqn.params)
        self.numbers.bind(eqn.outs[0], running.numbers.operand(result.read()))


class RunningKernel(Computing):
    """Runs a kernel that `traced` was the trace of.

    Names are those of the trace, iteration by iteration, so that what is carried has the types found there. A function that does
    something else than it did then is an error at the first equation that differs.
    """

    def __init__(self, traced: KernelBuilder, args: Mapping[str, Any]) -> None:
        super().__init__(traced.label, traced.params, args)
        self._traced = traced
        self.facts = dict(traced.facts)
        self.extents = dict(traced.extents)

    def append(self, eqn: Eqn, scope: Scope | None = None) -> None:
        """Add an equation, which is that of the trace, and run it."""
        self._check(eqn, scope or self.scopes[-1])
        super().append(eqn, scope)

    def _check(self, eqn: Eqn, scope: Scope) -> None:
        eqns = self._traced_in(scope.place)
        n = len(scope.eqns)
        if n >= len(eqns):
            raise self.differs(None, _word(eqn))
        if not _same(eqns[n], eqn):
            same = eqns[n].prim == eqn.prim
            raise self.differs(eqns[n], f"{_word(eqn)}, of other operands" if same else _word(eqn))

    def _traced_in(self, place: tuple[int, ...]) -> Sequence[Eqn]:
        """The equations of a region as it was traced."""
        if not place:
            return self._traced.eqns
        *control, k = place
        return self._traced.controls[tuple(control)].eqn.regions[k].eqns

    def differs(self, traced: Eqn | None, now: str) -> TraceError:
        """The error for a function that does something else than in its trace; traced: what it did there, None where it had ended."""
        where = "" if traced is None or traced.loc is None else f" at {traced.loc}"
        return TraceError(
            "PTO139",
            f"kernel {self.label} does something else now than when it was traced",
            values={"traced": "the end" if traced is None else f"{_word(traced)}{where}", "now": now},
            loc=here(),
            fix="let its Python code depend on its parameters alone: what changes from call to call (counters, random numbers, lists that "
            "it appends to) comes as a Constexpr or Scalar",
        )

    def begin(self, place: tuple[int, ...], prim: str, ins: Sequence[In]) -> Control:
        """Before a loop or branch: what it was in the trace. Computes what was traced inside of it and is computed before it."""
        control = self._traced.controls.get(place)
        if control is None:
            raise self.differs(None, prim)
        before = control.begins[0].scopes
        missing = any(len(scope.eqns) != len(was.eqns) for scope, was in zip(self.scopes, before, strict=False))
        if missing or control.eqn.prim != prim or _keys(control.eqn.ins) != _keys(ins):
            raise self.differs(control.eqn, prim)
        for scope, after in zip(self.scopes, control.after.scopes, strict=True):
            self._know(scope, after, scope.names)
        self.numbers.check_outs(control.eqn)
        return control

    def end(self, given: Sequence[In]) -> None:
        """At the end of the region that is open, which gives these."""
        self._check(Eqn("yield", (), tuple(given), {}, ()), self.scopes[-1])

    def finish(self) -> None:
        """At the end of the kernel."""
        eqns, n = self._traced.eqns, len(self.eqns)
        if n < len(eqns):
            raise self.differs(eqns[n], "the end")

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
        self.scopes[-1].names.update(v.name for v in control.eqn.outs)
        self.numbers.bind_all(control.eqn.outs, given)
        return [Value(self, v) for v in control.eqn.outs]


def _word(eqn: Eqn) -> str:
    return "the end of a loop or branch" if eqn.prim == "yield" else eqn.prim


def _keys(ins: Sequence[In]) -> list[object]:
    """Operands, of which a NaN is equal to itself."""
    return [x.key if isinstance(x, Literal) else x for x in ins]


def _same(a: Eqn, b: Eqn) -> bool:
    """Whether two equations say the same, wherever they stand."""
    if (a.prim, a.outs, _keys(a.ins)) != (b.prim, b.outs, _keys(b.ins)):
        return False
    return a.params == b.params or repr(a.params) == repr(b.params)  # as text a NaN is equal to itself


def _var(x: object) -> Var:
    if not isinstance(x, Var):
        raise InternalError(f"{x} is no operand of a kernel")
    return x
