"""`compile(check=...)`: runs that are watched task by task, single-threaded in program order.

The core calls the hook around each task with the registers of the plan. Of these and the arrays, everything that is checked is
computed anew, in Python: the elements of every view, who touched them before, and the task's results.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import BoundsError, CompileError, InternalError, KernelError, PtoError, RaceError, here
from pto_wsp.ir.core import (
    At,
    Direction,
    DType,
    Eqn,
    Gather,
    Kernel,
    KernelParam,
    Literal,
    Role,
    ScalarType,
    TensorType,
    Var,
    View,
    Wir,
)
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.rounding import round_integer, round_to
from pto_wsp.ir.text import show_view
from pto_wsp.passes.expand import expand_kernel
from pto_wsp.runtime.elements import Array, OutOfBounds, Range, indices, take
from pto_wsp.runtime.numerics import Birth, Reference, differing, not_finite
from pto_wsp.runtime.places import Places
from pto_wsp.runtime.races import Instance, RaceWatch, paths_of
from pto_wsp.targets.cpu_sim.target import registers

MODES = ("races", "bounds", "numerics", "all")


def check_modes(check: object) -> frozenset[str]:
    """What `check=` asks for. Raises CompileError for anything there is no check for."""
    if check is None:
        return frozenset()
    if not isinstance(check, str) or check not in MODES:
        raise CompileError(
            "PTO410",
            f"there is no check {check!r}",
            values={"there is": ", ".join(MODES)},
            loc=here(),
            fix="use one of these, or None",
        )
    return frozenset(MODES[:3]) if check == "all" else frozenset((check,))


def keep_temporaries(wir: Wir) -> tuple[Wir, frozenset[str]]:
    """wir whose temporaries are tensors with memory of their own for the whole run, so that tasks can be looked at; their names.

    before:  temporary y: f32[4,16]      after:  tensor y: f32[4,16]
    """
    names = frozenset(v.name for v in wir.tensors if wir.tensor_type(v.name).role is Role.TEMPORARY)

    def kept(v: Var) -> Var:
        assert isinstance(v.type, TensorType)
        return replace(v, type=replace(v.type, role=Role.GIVEN)) if v.name in names else v

    return replace(wir, tensors=tuple(map(kept, wir.tensors))), names


class Checker:
    """The hook of a program, and what it has found."""

    def __init__(self, artifact: Artifact, modes: frozenset[str]) -> None:
        self.wir = artifact.wir
        self.modes = modes
        self._registers = registers(self.wir)
        self._places = Places(self.wir)
        self._paths = paths_of(self.wir)
        self._kernels = {k.name: k for k in self.wir.kernels}
        self._leaves = {k.name: expand_kernel(k) for k in self.wir.kernels}
        self._arrays: Mapping[str, Array] = {}
        self._watch = RaceWatch()
        self._open: _Task | None = None

    def begin_run(self, arrays: Mapping[str, Array]) -> None:
        """A run with these arrays begins."""
        self._arrays = arrays
        self._watch = RaceWatch()
        self._open = None

    def __call__(self, begin: bool, site: int, regs: list[int]) -> None:
        """Called by the core before and after each task. What is raised stops the run."""
        if begin:
            self._open = self._begin(site, regs)
        else:
            self._end()

    def _begin(self, site: int, regs: list[int]) -> _Task:
        eqn = self._places.sites[site].eqn
        env = {name: regs[r] for name, r in self._registers[site].items()}
        coords = eqn.params["coords"]
        assert isinstance(coords, tuple)
        numbers = [c.value(env) for c in coords if isinstance(c, Expr)]
        task = _Task(eqn, self._kernels[str(eqn.params["kernel"])], self._places.task(site, numbers), env)
        for i, (param, x) in enumerate(zip(task.kernel.params, eqn.ins, strict=True)):
            if isinstance(x, View):
                task.taken[i] = self._elements(task, param, x)
        if "races" in self.modes:
            self._look_for_races(site, task)
        if "numerics" in self.modes:
            task.reference = self._reference(task)
        return task

    def _reference(self, task: _Task) -> Reference:
        try:
            return Reference(self._leaves[task.kernel.name], self._arguments(task))
        except PtoError as e:
            at = {} if e.loc is None else {"operation at": e.loc}
            raise self._found(e.code, type(e), task, f"task {task.name}: {e.what}", {**e.values, **at}, e.fix) from e

    def _elements(self, task: _Task, param: KernelParam, view: View) -> list[Range]:
        try:
            return indices(view, task.env, self._arrays)
        except OutOfBounds as e:
            what = f"kernel {task.kernel.label}, argument {param.name}: {e.reached} of dimension {e.dim} of {e.view.tensor}, which has {e.size}"
            raise self._found(
                *("PTO720", BoundsError, task, what),
                {param.name: show_view(view)},
                "make the axis shorter, or the tensor larger",
            ) from None

    def _look_for_races(self, site: int, task: _Task) -> None:
        path = self._paths[site]
        numbers = tuple(task.env[str(name)] if kind != "at" else 0 for kind, name in path)
        self._watch.begin(Instance(site, path, numbers, task.name))
        for i, taken in task.taken.items():
            direction = task.kernel.params[i].direction
            view = task.view(i)
            race = self._watch.touch(
                *(view.tensor, self._arrays[view.tensor].shape, taken),
                writes=direction is not Direction.IN,
            )
            if race is not None:
                label = self._places.labels[race.loop]
                where = f"{race.tensor}[{', '.join(map(str, race.element))}]"
                what = f"iterations of the P loop over {label} touch {where}, and one writes: {race.first.name} and {race.second.name}"
                first = self._places.sites[race.first.site].eqn.loc
                values = {"tensor": race.tensor, "element": where, "first task": f"{race.first.name}, {first}"}
                fix = f"let {label} choose what is written, or use P.seq where iterations build on each other"
                raise self._found("PTO204", RaceError, task, what, values, fix)

    def _arguments(self, task: _Task) -> dict[str, Array]:
        out: dict[str, Array] = {}
        for i, (param, x) in enumerate(zip(task.kernel.params, task.eqn.ins, strict=True)):
            if isinstance(x, View):
                out[param.name] = take(self._arrays[x.tensor], x, task.taken[i])
            else:
                assert isinstance(param.type, ScalarType)
                value = _scalar(x, task.env)
                dtype = param.type.dtype
                if isinstance(value, int) and not isinstance(value, bool):
                    out[param.name] = round_integer(dtype, value)
                else:
                    out[param.name] = round_to(dtype, np.asarray(value))
        return out

    def _end(self) -> None:
        task, self._open = self._open, None
        if task is None:
            raise InternalError("a task ends that has not begun")
        if task.reference is None:
            return
        for i, taken in task.taken.items():
            param = task.kernel.params[i]
            if param.direction is not Direction.IN:
                self._compare(task, i, param, take(self._arrays[task.view(i).tensor], task.view(i), taken))

    def _compare(self, task: _Task, i: int, param: KernelParam, got: Array) -> None:
        assert task.reference is not None
        want, radius = task.reference.values[param.name], task.reference.radii[param.name]
        last = _last_ones(task.view(i), task.taken[i])
        place = differing(got[last], want[last], radius[last])
        if place is not None:
            number = f"{param.name}[{', '.join(map(str, place))}]"
            g, w, r = got[last][place], want[last][place], radius[last][place]
            what = f"task {task.name}: {number} is {g}, but the reference gives {w} +- {r:.3g}"
            values = {"kernel": task.kernel.label, param.name: show_view(task.view(i))}
            fix = "report this: the runtime and the reference differ by more than rounding explains"
            raise self._found("PTO721", KernelError, task, what, values, fix)
        birth = task.reference.births.get(param.name)
        if birth is None and not_finite(got[last], want[last]):
            birth = task.reference.overflows.get(param.name)
        if birth is not None:
            raise self._not_finite(task, param, birth)

    def _not_finite(self, task: _Task, param: KernelParam, birth: Birth) -> PtoError:
        what = f"task {task.name}: {birth.operation} makes a NaN of numbers, or an infinity of finite ones, and {param.name} gets it"
        values: dict[str, object] = {"kernel": task.kernel.label, "operation": birth.operation}
        if birth.loc is not None:
            values["operation at"] = birth.loc
        fix = "keep operands where the operation, and what it adds up or multiplies on the way, is finite: subtract the maximum before exp, add eps to a divisor"
        return self._found("PTO722", KernelError, task, what, values, fix)

    def _found(
        self, code: str, cls: type[PtoError], task: _Task, what: str, values: Mapping[str, object], fix: str
    ) -> PtoError:
        return cls(code, what, values={"task": task.name, **values}, loc=task.eqn.loc, fix=fix)


class _Task:
    """A task that the core is about to run: its variables, and the elements of its views by argument."""

    def __init__(self, eqn: Eqn, kernel: Kernel, name: str, env: dict[str, int]) -> None:
        self.eqn, self.kernel, self.name, self.env = eqn, kernel, name, env
        self.taken: dict[int, list[Range]] = {}
        self.reference: Reference | None = None

    def view(self, i: int) -> View:
        x = self.eqn.ins[i]
        assert isinstance(x, View)
        return x


def _scalar(x: object, env: Mapping[str, int]) -> int | float | bool:
    """The value of a scalar argument; registers hold 64 bits."""
    match x:
        case Literal():
            return x.value
        case Expr():
            return x.value(env)
        case Var() if isinstance(x.type, ScalarType):
            bits = env[x.name] % 2**64
            if x.type.dtype is DType.F64:
                return struct.unpack("<d", bits.to_bytes(8, "little"))[0]
            signed = bits - 2**64 if bits >= 2**63 and x.type.dtype is DType.I64 else bits
            return bool(bits) if x.type.dtype is DType.BOOL else signed
        case _:
            raise InternalError(f"{x} is no scalar argument")


def _last_ones(view: View, taken: list[Range]) -> tuple[Array, ...]:
    """Selects the rows and columns of a result that a later one of the same task does not overwrite."""
    out: list[Array] = []
    for d, r in zip(view.dims, taken, strict=True):
        if not isinstance(d, At):
            last = {int(x): k for k, x in enumerate(r)} if isinstance(d, Gather) else None
            out.append(np.arange(len(r)) if last is None else np.array(sorted(last.values()), dtype=np.int64))
    return np.ix_(*out)
