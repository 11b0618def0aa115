"""`@kernel`, `@workload`, and the workload that calling one gives."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, overload

from pto_wsp import arch as archs
from pto_wsp.api.costs import Costed
from pto_wsp.api.kinds import workload_type
from pto_wsp.api.schedules import Schedules
from pto_wsp.errors import (
    ArtifactError,
    CompileError,
    Location,
    TraceError,
    UnsupportedNameError,
    check_name,
    here,
    no_attribute,
    no_options,
    user_frame,
)
from pto_wsp.ir.core import Kernel, Wir
from pto_wsp.ir.declarable import declarables
from pto_wsp.ir.processes import pipelines
from pto_wsp.ir.verify import verify
from pto_wsp.passes.discharge import discharge as to_pure_form
from pto_wsp.passes.on_one_machine import on_one_machine
from pto_wsp.proofs.cycles import cycles_on
from pto_wsp.proofs.verdict import refuse_networks
from pto_wsp.runtime.check import check_modes, keep_temporaries
from pto_wsp.runtime.native import Native, native_mode
from pto_wsp.runtime.program import Program, thread_count
from pto_wsp.runtime.resources import Resources, resources_of
from pto_wsp.runtime.verdict import refuse_deadlock
from pto_wsp.targets import base
from pto_wsp.targets.cpu_sim import target as cpu_sim
from pto_wsp.trace.builder import current_workload, innermost_workload
from pto_wsp.trace.cpp import CppKernel, cpp_text
from pto_wsp.trace.kernel import KernelFunction
from pto_wsp.trace.ptoisa.kernel import InstructionKernel
from pto_wsp.trace.tensor import Tensor
from pto_wsp.trace.workload import Traced, TracedFunction
from pto_wsp.transforms.checks import warn_of_coordinates, warn_of_kernels

DEFAULT_TARGET = cpu_sim.CpuSim.name


@dataclass(frozen=True, eq=False, repr=False)
class Workload(Traced, Schedules):
    """A traced workload: a program that generates tasks. Immutable; transformations give new workloads. `str(w)` is its wir."""

    def then(self, step: Callable[[Workload], Workload]) -> Workload:
        """This workload transformed: `step(self)`."""
        return step(self)

    def compile(
        self,
        target: str = DEFAULT_TARGET,
        arch: Any = None,
        threads: int | None = None,
        check: str | None = None,
        native: bool | str = False,
        resources: Resources | str | None = None,
        **options: object,
    ) -> Program:
        """The program of this workload, bound to the arrays it was traced with.

        target: "cpu_sim", or "jax", whose programs compute with operations of JAX (docs/jax.md). arch: the name of an architecture model, a path to one, or None for the default ("ascend_a2a3").
        threads: most threads that work on a run, the one that waits for it among them, unless lanes are pinned to threads: it is then
        one more. None means PTO_WSP_NUM_THREADS, else the processors there are.
        check: "races", "bounds", "numerics" or "all": runs go task by task in program order, and the first iterations of one P loop
        or processes that touch a common element (RaceError), view outside of its tensor (BoundsError), result away from the reference
        evaluator's, or a NaN made of numbers, or an infinity of finite ones (KernelError) stops them. Slow; None checks what every run checks.
        native: True compiles C++ for each kernel, with the system's compiler, that computes the same bits, before this returns;
        "auto" meanwhile, and runs use what is ready. stats.tiers says which kernels run it. False: none.
        resources: most that runs use of what they are bounded by, see `Resources`; None or "auto": what the plan suggests.
        Of a workload on a mesh the program does the work of all devices, on whole arrays.
        Raises CompileError (unknown target or arch, schedules that have no meaning), UnsupportedError for what the target does not
        have (see `capabilities`), ScheduleError for a schedule under which every run would deadlock, and BindError (arrays that do not
        fit). Of pipelines TypeCheckError where numbers would depend on time and timed=True is not said, RaceError for processes that
        touch common elements without an order, DeadlockError for what can never move, where these are proved. Warns (ScheduleWarning) of policies
        that ask for a kernel or, with a default, for a coordinate by a name that none has.
        """
        no_options("compile", options, "target, arch, threads, check, native, resources")
        count = thread_count(threads)
        limits = resources_of(resources)
        modes = check_modes(check)
        tier = native_mode(native)
        of = base.get(target)
        alone = on_one_machine(self.wir)
        unproved = refuse_networks(alone, cycles=cycles_on(archs.get(arch)))
        used = declarables(self.wir) | declarables(alone)
        base.refuse_unsupported(of, {**used, **_of_options(modes, tier, limits)})
        begin = time.perf_counter()
        wir, scratch = keep_temporaries(alone) if modes else (alone, frozenset[str]())
        artifact = of.compile(wir, archs.get(arch), self.sizes)
        warn_of_kernels(alone)
        warn_of_coordinates(alone)
        if len(artifact.manifest["unproved"]) != sum(1 for _ in pipelines(alone)):  # some are where no run comes
            unproved = artifact.manifest["unproved"]
        artifact = replace(artifact, manifest={**artifact.manifest, "native": tier, "unproved": unproved})
        try:
            program = (
                Program(artifact, count, check=modes, scratch=scratch, native=tier, resources=limits)
                if of.program is None
                else of.program(artifact)
            )
        except ArtifactError as e:  # what the runtime refuses of a plan just made is a limit of the runtime
            raise CompileError(
                "PTO405",
                f"the runtime cannot take workload {self.wir.name}",
                values={"because": e.what},
                loc=here(),
                fix="make kernels shorter, or loops less deeply nested",
            ) from e
        refuse_deadlock(artifact)
        program.compile_time_ms = (time.perf_counter() - begin) * 1e3
        return program.bind({n: t for n, t in self.tensors.items() if isinstance(t, Tensor)})

    def discharge(self) -> Wir:
        """`discharge(self)`: the pure form, in which every write gives a new tensor."""
        return discharge(self)

    @property
    def type(self) -> str:
        """The inferred type: axes, kernels and kind of parallelism, e.g. `Workload[Dense[4](batch), {attn}, Independent]`."""
        return workload_type(self.wir)

    def __str__(self) -> str:
        return str(self.wir)

    def __repr__(self) -> str:
        return f"<workload {self.wir.name}: {self.type}>"

    def __getattr__(self, name: str) -> Any:
        raise no_attribute(
            "a workload",
            name,
            "compile, dispatch, streams, stream_by, timing, window, task_graph, split, tile, interchange, unroll, fuse, pipeline_loop, type, wir",
        )


def _of_options(checks: frozenset[str], native: Native, limits: Resources) -> dict[str, Location | None]:
    """What options of compile() ask of a target."""
    names = [f"check.{c}" for c in sorted(checks)] + [f"resources.{r}" for r in limits.sizes()]
    return dict.fromkeys([*names, *(["native"] if native is not False else [])])


class WorkloadFunction(TracedFunction, Schedules):
    """What `@workload` makes, and `vmap` and `scan`: call it with its arguments to trace it.

    Called inside another workload, its tasks become part of that one, and it gives the tensors that it returns. Its schedules
    (`f.dispatch(policy)`) are functions that trace it and then apply them.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The traced `Workload`; inside a workload, what the function returns. Raises TraceError, TypeCheckError, RaceError and
        BoundsError at the user's line."""
        outer = innermost_workload()
        if outer is not None:
            return self.inline(current_workload(f"workload {self.label}"), args, kwargs)
        traced = self.trace(args, kwargs)
        return Workload(traced.wir, traced.tensors, traced.sizes, traced.returns, traced.channels)

    def __repr__(self) -> str:
        return f"<workload function {self.label}>"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(Workload, name):
            raise UnsupportedNameError(
                "PTO001",
                f"{self.label} is not traced yet, so it has no {name}",
                loc=here(),
                fix=f"call it first: {self.label}(...).{name}",
            )
        raise no_attribute("a workload function", name, "being called, and schedules")


class _KernelDecorator:
    """Make a function over tiles a kernel: the unit that runs on one core.

    Parameters are annotated `In[Tile[rows, cols, dtype]]`, `Out[...]`, `InOut[...]`, `Scalar[dtype]` or `Constexpr[type]`; the
    body uses `pto` operations and Python operators, and stores into every output. It is traced when a workload calls it.
    name: what reports call it; by default the function's name. Raises TraceError for parameters it cannot take.

    A kernel may be C++ instead, compiled with the system's compiler when a program is made; its Python body is `...`:

        @kernel(cpp_src='''
            for (int i = 0; i < x.rows(); ++i)
              for (int j = 0; j < x.cols(); ++j) out(i, j) = s * x(i, j);
        ''')
        def scale(x: In[Tile[16, 128, DType.F32]], s: Scalar[DType.F32], out: Out[Tile[16, 128, DType.F32]]): ...

    cpp_src, cpp_body_path: the body of a function, as text or in a file. cpp_tu_path: a file that defines a function of the
    kernel's name. cpp_includes: headers: "<cmath>", or the user's own from the Python file's folder. cost: cycles of a task, a
    number or a function of parameters, of which tiles have rows, cols and shape, regions shape; by default those of moving what it reads and writes. What the
    parameters are in C++, csrc/include/pto_wsp/cpp_kernel.hpp says.
    """

    @overload
    def __call__(self, fn: Callable[..., Any], /) -> Costed: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        cpp_src: str | None = None,
        cpp_body_path: str | os.PathLike[str] | None = None,
        cpp_tu_path: str | os.PathLike[str] | None = None,
        cpp_includes: Sequence[str] = (),
        cost: int | Callable[..., Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Costed]: ...
    def __call__(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        cpp_src: str | None = None,
        cpp_body_path: str | os.PathLike[str] | None = None,
        cpp_tu_path: str | os.PathLike[str] | None = None,
        cpp_includes: Sequence[str] = (),
        cost: int | Callable[..., Any] | None = None,
        **options: object,
    ) -> Any:
        no_options("kernel", options, "name, cpp_src, cpp_body_path, cpp_tu_path, cpp_includes, cost")
        frame = user_frame()
        is_cpp = any(x is not None for x in (cpp_src, cpp_body_path, cpp_tu_path, cost)) or bool(cpp_includes)
        text = cpp_text(frame, cpp_src, cpp_body_path, cpp_tu_path, cpp_includes, cost) if is_cpp else None

        def make(f: Callable[..., Any]) -> KernelFunction:
            function, label = _function("kernel", f), _label("kernel", name, f)
            return Costed(function, label, frame) if text is None else CostedCpp(function, label, frame, text)

        return make if fn is None else make(fn)

    def variant(self, *, when: Callable[..., Any] | None = None, name: str | None = None) -> Any:
        """`@kernel.variant(when=...)` above a def: a variant of the kernel of the same name that stands above; see its `variant`."""
        frame = user_frame()

        def make(f: Callable[..., Any]) -> KernelFunction:
            label = _function("kernel.variant", f).__name__
            base = frame.f_locals.get(label, frame.f_globals.get(label))
            if isinstance(base, KernelFunction):
                return base.variant(f, when=when, name=name)
            raise TraceError(
                "PTO179",
                f"a variant of a kernel {label} that is not there",
                loc=here(),
                fix=f"define the kernel itself first: @kernel above def {label}",
            )

        return make


kernel = _KernelDecorator()


class CostedCpp(CppKernel, Costed):
    """What `@kernel(cpp_src=...)` makes."""


class PtoisaKernel(Costed, InstructionKernel):
    """What `@ptoisa_kernel` makes."""


@overload
def ptoisa_kernel(fn: Callable[..., Any], /) -> Costed: ...
@overload
def ptoisa_kernel(*, name: str | None = None) -> Callable[[Callable[..., Any]], Costed]: ...
def ptoisa_kernel(fn: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: object) -> Any:
    """Make a function that records PTO-ISA instructions a kernel, which workloads call as any other.

    Parameters are annotated as those of `kernel`; the body calls instructions of `ptoisa` on its tile registers, in order, and may be
    a generator, as its helpers may. name: what reports call it. Raises TraceError for parameters it cannot take.
    """
    no_options("ptoisa_kernel", options, "name")
    frame = user_frame()

    def make(f: Callable[..., Any]) -> KernelFunction:
        return PtoisaKernel(_function("ptoisa_kernel", f), _label("ptoisa_kernel", name, f), frame)

    return make if fn is None else make(fn)


@overload
def workload(fn: Callable[..., Any], /) -> WorkloadFunction: ...
@overload
def workload(*, name: str | None = None) -> Callable[[Callable[..., Any]], WorkloadFunction]: ...
def workload(fn: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: object) -> Any:
    """Make a function that emits tasks a workload: `for b in P(batch): k[b](x=X[b], out=Y[b])`.

    Calling it traces it and gives a `Workload`. Arguments are tensors (numpy arrays become tensors), axes, symbols, and Python
    values that steer tracing. name: what reports call it; by default the function's name.
    """

    no_options("workload", options, "name")

    def make(f: Callable[..., Any]) -> WorkloadFunction:
        return WorkloadFunction(_function("workload", f), _label("workload", name, f))

    return make if fn is None else make(fn)


def _function(what: str, f: object) -> FunctionType:
    if not isinstance(f, FunctionType):
        raise TraceError(
            "PTO155",
            f"@{what} on something that is no Python function",
            values={"got": repr(f)[:80]},
            loc=here(),
            fix=f"put @{what} directly above a def",
        )
    return f


def _label(what: str, name: object, f: Callable[..., Any]) -> str:
    return check_name(name, f"a {what}", "PTO155") or f.__name__


def make_wir(f: WorkloadFunction | KernelFunction) -> Callable[..., Wir | Kernel]:
    """`make_wir(f)(*types)`: the wir of a workload or a kernel, as `jax.make_jaxpr` shows a function's.

    Of a workload: give `TensorSpec`s, tensors, axes or Python values for its parameters,
    `print(make_wir(attention)(TensorSpec((4, 16, 128), DType.F32)))`. Of a kernel: give, by name, a `Tile[...]` for each bare
    tensor parameter and a value for each `Constexpr`. Raises as tracing does.
    """
    if isinstance(f, WorkloadFunction):
        return lambda *args, **kwargs: f.trace(args, kwargs).wir
    if isinstance(f, KernelFunction):
        return f.wir
    raise TraceError(
        "PTO155",
        "make_wir needs a kernel or a workload",
        values={"got": repr(f)[:80]},
        loc=here(),
        fix="give a decorated function",
    )


def discharge(w: Workload) -> Wir:
    """The pure form of a workload: every write gives a new tensor, loops and branches carry what they change.

        before:  task k[](x=X[0], y=Y[0])
        after:   Y.1: f32[4,8,8] = task k[](x=X[0], y=Y[0])

    To print and to evaluate; either form gives the same arrays. Order is data flow there, so `after`, `deps` and `trace` are left out.
    """
    Traced.need("discharge", w)
    pure = to_pure_form(w.wir)
    verify(pure, "pure", after="discharge")
    return pure
