"""`@kernel`: a Python function over tiles, traced once for each specialisation a workload needs."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

from pto_wsp.errors import Location, TraceError, TypeCheckError, check_name, here, user_frame
from pto_wsp.ir.build import KernelBuilder, tracing_kernel
from pto_wsp.ir.core import Direction, Kernel, KernelParam, Region, RegionType, ScalarType, TileType, Var
from pto_wsp.ops.region import RegionRef
from pto_wsp.ops.running import RunningKernel
from pto_wsp.ops.value import Ref, Value
from pto_wsp.trace.annotations import ConstexprParam, ParamSpec, ScalarParam, TileParam, kernel_parameters
from pto_wsp.trace.builder import Task, current_workload
from pto_wsp.trace.evaluated import arrays_of, undisturbed
from pto_wsp.trace.variants import Variant, add_variant, emit_variant

_depth = threading.local()
_NOT_RUN_BY_A_CALL = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)


class KernelFunction:
    """What `@kernel` makes: call it in a workload, `k[b, t](x=..., out=...)`, to emit one task at coordinates (b, t)."""

    def __init__(self, fn: Callable[..., Any], label: str, frame: FrameType) -> None:
        self.fn = fn
        self.label = label
        self.__name__ = label
        self.__doc__ = fn.__doc__
        self.specs = kernel_parameters(fn, frame)
        self.variants: list[Variant] = []
        if "after" in self.specs:
            raise TraceError(
                "PTO131",
                f"kernel {label}: a parameter called after",
                loc=here(),
                fix="give it another name: after= of a call names the tasks to wait for",
            )

    def __repr__(self) -> str:
        return f"<kernel {self.label}>"

    def __getitem__(self, coords: Any) -> PlacedKernel:
        return PlacedKernel(self, coords if isinstance(coords, tuple) else (coords,))

    def __call__(self, *args: Any, after: Any = (), **kwargs: Any) -> Task:
        """Emit one task whose coordinates are the loop variables around it. after: tasks that end before it starts."""
        return self.emit(None, args, kwargs, after)

    def variant(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        when: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Decorator: another kernel behind the same name, with the same parameters of other types or for other values.

            @indexer.variant(when=lambda n: n <= 2048)
            def indexer(x: In[...], n: Scalar[DType.I32], out: Out[...]): ...

        A call takes the first variant, in order of definition, whose parameter types fit and whose `when` holds; else the kernel
        itself. when: takes arguments by name, tiles with `dtype` and `shape`, Constexpr values, scalars; a Python bool chooses
        while tracing, a traced bool at run time. name: what reports call it; by default the kernel's name and a number.
        """
        frame = user_frame()

        def make(f: Callable[..., Any]) -> KernelFunction:
            label = check_name(name, "a kernel", "PTO155") or f"{self.label}.v{len(self.variants) + 1}"
            add_variant(self, KernelFunction(f, label, frame), when)
            return self

        return make if fn is None else make(fn)

    def emit(self, coords: tuple[Any, ...] | None, args: tuple[Any, ...], kwargs: dict[str, Any], after: Any) -> Task:
        """Emit one task, of this kernel or the variant that fits."""
        builder = current_workload(f"kernel {self.label}")
        given = self.arguments(args, kwargs)
        waits = builder.tokens_of(after)
        if self.variants:
            locs = tuple(emit_variant(builder, self, coords, given, waits))
        else:
            locs = (builder.task(self, coords, given, waits),)
        outputs = (n for n, s in self.specs.items() if isinstance(s, TileParam) and s.direction is not Direction.IN)
        return Task(builder, self.label, locs, tuple(given[n] for n in outputs), builder.process)

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name, in the order of the parameters."""
        names = list(self.specs)
        if len(args) > len(names):
            raise TypeCheckError(
                "PTO140",
                f"kernel {self.label} takes {len(names)} arguments, but got {len(args)}",
                values={"parameters": ", ".join(names)},
                loc=here(),
                fix="give each parameter once",
            )
        given = dict(zip(names, args, strict=False))
        for name, x in kwargs.items():
            if name not in self.specs or name in given:
                word = "twice gets" if name in given else "has no"
                raise TypeCheckError(
                    "PTO140",
                    f"kernel {self.label} {word} argument {name}",
                    values={"parameters": ", ".join(names)},
                    loc=here(),
                    fix="use the names of the kernel's parameters, each once",
                )
            given[name] = x
        missing = [n for n in names if n not in given]
        if missing:
            raise TypeCheckError(
                "PTO141",
                f"kernel {self.label}: missing {', '.join(missing)}",
                values={"parameters": ", ".join(names)},
                loc=here(),
                fix="give every parameter an argument",
            )
        return {n: given[n] for n in names}

    def wir(self, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel as wir. Its parameters that need one, in order or by name, get a `Tile[...]` (bare tensors) or a value
        (Constexpr)."""
        bare = [n for n, s in self.specs.items() if isinstance(s, TileParam) and s.type is None]
        wanted = [n for n, s in self.specs.items() if n in bare or isinstance(s, ConstexprParam)]
        given = dict(zip(wanted, args, strict=False)) | kwargs
        if (
            len(args) + len(kwargs) != len(wanted)
            or set(given) != set(wanted)
            or not all(isinstance(given[n], TileType) for n in bare)
        ):
            raise TypeCheckError(
                "PTO141",
                f"kernel {self.label}: its wir needs other arguments",
                values={
                    "tiles": ", ".join(bare) or "none",
                    "constants": ", ".join(n for n in wanted if n not in bare) or "none",
                },
                loc=here(),
                fix="give a Tile[...] for each bare tensor parameter and a value for each Constexpr",
            )
        return self.trace(self.label, {n: given[n] for n in bare}, {n: given[n] for n in wanted if n not in bare})

    def body(self, builder: KernelBuilder, given: Mapping[str, Any]) -> Any:
        """Run the user's function, whose operations append to `builder`."""
        if any(is_kind(self.fn) for is_kind in _NOT_RUN_BY_A_CALL):
            raise TraceError(
                "PTO127",
                f"kernel {self.label} is a generator or coroutine function: a call of it runs nothing",
                loc=self._loc,
                fix="write a plain function, without yield, async and await",
            )
        return self.fn(**given)

    def trace(self, name: str, types: Mapping[str, TileType], constants: Mapping[str, Any]) -> Kernel:
        """The kernel as wir, for these types of bare tensor parameters and these Constexpr values."""
        builder = self._traced(types, constants)
        return Kernel(name, self.label, tuple(builder.params.values()), Region((), tuple(builder.eqns)), self._loc)

    def evaluate(self, **arguments: Any) -> None:
        """Run the Python function with numbers, one operation after another, in the reference evaluator: each in float64, rounded
        once. pdb steps through it, and values print their arrays. Arrays of outputs are written in place.

        arguments: an array for each tile and region, of its valid shape and dtype; a number for each scalar; each Constexpr's value.
        A trace comes first, without the debugger, so that what the kernel says wrongly is an error before anything runs.

        Raises TypeCheckError for arguments that do not fit, BindError for outputs that are read-only, TraceError where the function
        does something else than in the trace, and what tasks raise: BoundsError, ExecutionError, KernelError.
        """
        given = self.arguments((), arguments)
        constants = {n: given[n] for n, s in self.specs.items() if isinstance(s, ConstexprParam)}
        arrays, types = arrays_of(self.label, self.specs, given)
        with undisturbed():
            traced = self._traced(types, constants)
        running = RunningKernel(traced, arrays)
        self._call(running, constants)
        running.finish()

    @property
    def _loc(self) -> Location:
        code = self.fn.__code__
        return Location(code.co_filename, code.co_firstlineno, code.co_name)

    def _call(self, builder: KernelBuilder, constants: Mapping[str, Any]) -> None:
        """Call the function, with values of `builder` as its parameters."""
        values = {p.name: _value(builder, p) for p in builder.params.values()}
        _depth.busy = True
        try:
            with tracing_kernel(builder):
                result = self.body(builder, {**values, **constants})
        finally:
            _depth.busy = False
        if result is not None:
            raise TraceError(
                "PTO127",
                f"kernel {self.label} returns a value",
                values={"returned": repr(result)[:80]},
                loc=self._loc,
                fix="store results into Out parameters: pto.store(out, value)",
            )

    def _traced(self, types: Mapping[str, TileType], constants: Mapping[str, Any]) -> KernelBuilder:
        if getattr(_depth, "busy", False):
            raise TraceError(
                "PTO129",
                f"kernel {self.label} called inside a kernel",
                loc=here(),
                fix="call kernels from a workload; share code between kernels in plain Python functions",
            )
        params = [
            _kernel_param(n, spec, types) for n, spec in self.specs.items() if not isinstance(spec, ConstexprParam)
        ]
        builder = KernelBuilder(self.label, params={p.name: p for p in params})
        self._call(builder, constants)
        for p in params:
            written = builder.written if p.direction is Direction.OUT else builder.stored
            if p.direction is not Direction.IN and p.name not in written:
                raise TraceError(
                    "PTO122",
                    f"kernel {self.label} does not write {p.name}",
                    values={p.name: f"{p.direction} {p.type}"},
                    loc=self._loc,
                    fix=f"pto.store({p.name}, value) writes; Python's = and += only rename values. What is only read is In; what "
                    "only a loop or one branch writes, which may not run, is InOut, or stored to before",
                )
        return builder


def _value(builder: KernelBuilder, p: KernelParam) -> Value:
    if isinstance(p.type, TileType):
        return Ref(builder, p)
    return RegionRef(builder, p) if isinstance(p.type, RegionType) else Value(builder, Var(p.name, p.type))


def _kernel_param(name: str, spec: ParamSpec, types: Mapping[str, TileType]) -> KernelParam:
    if isinstance(spec, ScalarParam):
        return KernelParam(name, Direction.IN, ScalarType(spec.dtype))
    assert isinstance(spec, TileParam)
    if isinstance(spec.type, RegionType):
        return KernelParam(name, spec.direction, spec.type)
    tile = spec.type or types[name]
    return KernelParam(name, spec.direction, replace(tile, vrows=f"{name}.rows", vcols=f"{name}.cols"))


class PlacedKernel:
    """A kernel at coordinates: `k[b, t]`."""

    def __init__(self, kernel: KernelFunction, coords: tuple[Any, ...]) -> None:
        self._kernel = kernel
        self._coords = coords

    def __call__(self, *args: Any, after: Any = (), **kwargs: Any) -> Task:
        """Emit one task with these arguments. after: tasks that end before it starts."""
        return self._kernel.emit(self._coords, args, kwargs, after)
