"""Resolved wir becomes a plan: bytecode and tables whose size does not depend on the number of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pto_wsp.arch import Arch
from pto_wsp.errors import InternalError, Location
from pto_wsp.ir.core import At, Axis, Eqn, Literal, Policy, Region, Slice, View, Wir, read_tensors, written_tensors
from pto_wsp.ir.expr import Expr, Op
from pto_wsp.targets.cpu_sim.kernels import kernel_checks, write_kernel
from pto_wsp.targets.cpu_sim.stream import Stream

T = TypeVar("T")
VERSION = 1
DEFAULT_WINDOW = 65_536
_POLICIES = {"round_robin": 0}
_EVAL = {"mul": 0, "floordiv": 1, "mod": 2, "min": 3, "max": 4}
_BLOCK, _SEQ, _LOOP, _EVALUATE, _TASK = range(5)


@dataclass(frozen=True)
class Plan:
    """A lowered workload: bytes for the runtime, and where its parts come from in the user's source."""

    data: bytes
    lanes: int
    task_locations: tuple[Location | None, ...]
    check_locations: tuple[tuple[Location | None, ...], ...]


def lanes_of(wir: Wir, arch: Arch) -> int:
    """As many lanes as the largest of the workload's dispatch scopes says, innermost or not; without any, the arch's."""
    policies = [e.params["policy"] for top in wir.body.eqns for e in top.walk() if e.prim == "dispatch"]
    return max((p.lanes for p in policies if isinstance(p, Policy)), default=arch.lanes)


def lower(wir: Wir, arch: Arch, lanes: int) -> Plan:
    """The plan of resolved, expanded wir on `arch` with `lanes` lanes."""
    body = _Body(wir)
    body.block(wir.body)
    s = Stream()
    s.out += b"PWPL" + VERSION.to_bytes(4, "little")
    s.u(len(wir.symbols))
    for name in wir.symbols:
        s.text(name)
    s.u(body.n_regs, len(wir.tensors))
    written, read = written_tensors(wir), read_tensors(wir)
    for v in wir.tensors:
        t = wir.tensor_type(v.name)
        s.text(v.name)
        s.u(t.dtype.code, (v.name in read) | (v.name in written) << 1, len(t.shape))
        for d in t.shape:
            body.affine(s, d)
    s.u(len(wir.kernels))
    for k in wir.kernels:
        write_kernel(s, k, arch)
    s.u(lanes, arch.issue_cost, arch.handover, arch.read_cost, len(body.dispatches))
    for _, policy in body.dispatches:
        s.u(_POLICIES[policy.name], policy.lanes)
    s.u(1 + len(body.windows), DEFAULT_WINDOW, 0)
    for _, tasks in body.windows:
        s.u(tasks, 0)
    s.out += body.s.out
    checks = tuple(tuple(e.loc for _, e in kernel_checks(k)) for k in wir.kernels)
    return Plan(bytes(s.out), lanes, tuple(body.locations), checks)


class _Body:
    """Writes the tree of loops and tasks, giving registers to loop variables and to non-affine expressions."""

    def __init__(self, wir: Wir) -> None:
        self.wir = wir
        self.s = Stream()
        self.n_regs = len(wir.symbols)
        self.regs: dict[str | Op, int] = {"$" + n: i for i, n in enumerate(wir.symbols)}
        self.kernels = {k.name: i for i, k in enumerate(wir.kernels)}
        self.tensors = {v.name: i for i, v in enumerate(wir.tensors)}
        self.dispatches: list[tuple[int, Policy]] = []
        self.windows: list[tuple[int, int]] = []
        self.locations: list[Location | None] = []
        self.loops = 0

    def _new_reg(self) -> int:
        self.n_regs += 1
        return self.n_regs - 1

    def affine(self, s: Stream, e: Expr) -> None:
        """Append an expression whose non-affine parts have been evaluated into registers."""
        s.s(e.const)
        s.u(len(e.terms))
        for atom, coef in e.terms:
            s.u(self.regs[atom])
            s.s(coef)

    def _evaluate(self, s: Stream, *exprs: Expr) -> int:
        """Append what computes the non-affine atoms of `exprs` that are not in registers yet; how many nodes."""
        n = 0
        for e in exprs:
            for atom, _ in e.terms:
                if isinstance(atom, str) or atom in self.regs:
                    continue
                a, b, kind = (
                    (atom.a + atom.b - 1, atom.b, "floordiv") if atom.kind == "ceildiv" else (atom.a, atom.b, atom.kind)
                )
                n += self._evaluate(s, a, b) + 1
                reg = self._new_reg()
                s.u(_EVALUATE, reg, _EVAL[kind])
                self.affine(s, a)
                self.affine(s, b)
                self.regs[atom] = reg
        return n

    def block(self, region: Region) -> None:
        """A body: its equations in program order. Registers made inside are forgotten at its end."""
        outer, parent = dict(self.regs), self.s
        self.s = Stream()
        n = sum(self._node(e) for e in region.eqns)
        self.regs = outer
        parent.u(_BLOCK, n)
        parent.out += self.s.out
        self.s = parent

    def _node(self, eqn: Eqn) -> int:
        """Append one equation; the number of nodes it took."""
        if eqn.prim == "task":
            return self._task(eqn)
        if eqn.prim in ("combine", "sequential"):
            self.s.u(_BLOCK if eqn.prim == "combine" else _SEQ, len(eqn.regions))
            for r in eqn.regions:
                self.block(r)
            return 1
        axis = eqn.params["axis"]
        assert isinstance(axis, Axis)
        extent = axis.extent
        n = self._evaluate(self.s, extent)
        var = eqn.regions[0].params[0].name
        reg = self.regs[var] = self._new_reg()
        self.s.u(_LOOP, 1 if eqn.prim == "seq_for" else 0, reg)
        self.affine(self.s, extent)
        self.s.u(self.loops)
        self.loops += 1
        self.block(eqn.regions[0])
        del self.regs[var]
        return n + 1

    def _task(self, eqn: Eqn) -> int:
        s = self.s
        coords = eqn.params["coords"]
        assert isinstance(coords, tuple)
        exprs = [c for c in coords if isinstance(c, Expr)]
        for x in eqn.ins:
            if isinstance(x, Expr):
                exprs.append(x)
            elif isinstance(x, View):
                for d in x.dims:
                    exprs += (
                        [d.index] if isinstance(d, At) else [d.start] if isinstance(d, Slice) else [d.start, d.limit]
                    )
        n = self._evaluate(s, *exprs)
        tracked = eqn.params.get("tracked", ())
        assert isinstance(tracked, tuple)
        s.u(
            _TASK,
            self.kernels[str(eqn.params["kernel"])],
            len(self.locations),
            self._dispatch(eqn),
            self._window(eqn),
            len(coords),
        )
        for c in coords:
            assert isinstance(c, Expr)
            self.affine(s, c)
        for i, x in enumerate(eqn.ins):
            if isinstance(x, View):
                self._view(s, x, i in tracked)
            elif isinstance(x, Literal):
                s.u(0)
                s.f64(float(x.value))
            elif isinstance(x, Expr):
                s.u(1)
                self.affine(s, x)
            else:
                raise InternalError(f"{x} is no argument of a task")
        self.locations.append(eqn.loc)
        return n + 1

    def _view(self, s: Stream, view: View, tracked: bool) -> None:
        s.u(self.tensors[view.tensor], int(tracked))
        for d in view.dims:
            s.u(0 if isinstance(d, At) else 1 if isinstance(d, Slice) else 2)
            self.affine(s, d.index if isinstance(d, At) else d.start)
            if not isinstance(d, (At, Slice)):
                self.affine(s, d.limit)

    def _dispatch(self, eqn: Eqn) -> int:
        state = eqn.params.get("dispatch")
        if state is None:
            return 0
        assert isinstance(state, tuple) and isinstance(state[0], int) and isinstance(state[1], Policy)
        return _number(self.dispatches, (state[0], state[1])) + 1

    def _window(self, eqn: Eqn) -> int:
        state = eqn.params.get("window")
        if state is None:
            return 0
        assert isinstance(state, tuple) and isinstance(state[0], int) and isinstance(state[1], int)
        return _number(self.windows, (state[0], state[1])) + 1


def _number(table: list[T], entry: T) -> int:
    if entry not in table:
        table.append(entry)
    return table.index(entry)
