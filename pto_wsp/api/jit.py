"""jit: a workload function as a function of arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pto_wsp.api.workload import Workload, WorkloadFunction
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.runtime.program import Program
from pto_wsp.trace.arguments import exactly
from pto_wsp.trace.axes import DenseAxis, DenseDyn, LoopAxis, Tiles
from pto_wsp.trace.builder import innermost_workload
from pto_wsp.trace.functional import tree_map
from pto_wsp.trace.index import Symbol
from pto_wsp.trace.tensor import Tensor, TensorSpec, array_of
from pto_wsp.trace.workload import TracedFunction


def jit(f: WorkloadFunction, **options: Any) -> JitFunction:
    """A function that runs `f` on arrays: arrays in, new arrays out, as `jax.jit`.

        y = jit(vmap(block).dispatch(DispatchPolicy.round_robin(4)))(x)

    It is traced and compiled once for each signature: shapes and dtypes of arrays, and what is no array, which steers tracing and
    must be hashable. Sizes of axes are bound anew at each call. `f` may write arguments too: they are changed in place. Results
    are numpy arrays, in the tuples in which `f` returns them. Any number of threads may call it. Inside a workload it is `f`.
    options: those of `Workload.compile`. Raises what tracing, compiling and running raise.
    """
    TracedFunction.need("jit", f)
    return JitFunction.of(f, options)


@dataclass(frozen=True)
class _Compiled:
    """What one signature compiled to. Each call runs a copy of the program, so that it keeps no array alive."""

    program: Program
    tensors: dict[str, str]  # what arguments are called in it
    names: tuple[str, ...]  # of results, as the program gives them
    returns: Any  # them, as the function does


class JitFunction(WorkloadFunction):
    """What `jit` makes: call it with arrays. Transformations of it are functions of arrays again."""

    options: dict[str, Any]

    @classmethod
    def of(cls, f: WorkloadFunction, options: dict[str, Any]) -> JitFunction:
        """`f` as a function of arrays."""
        new = cls(f.user_fn, f.label)
        new._set(f.fn, f.signature, f.steps, options)
        return new

    def _set(self, fn: Callable[..., Any], signature: Any, steps: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.fn, self.signature, self.steps, self.options = fn, signature, steps, options
        self._lock = threading.Lock()
        self._compiled: dict[object, _Compiled] = {}

    def derived(self, fn: Callable[..., Any], label: str, signature: Any) -> Self:
        """As for workload functions, with the same options."""
        new = type(self)(self.user_fn, label)
        new._set(fn, signature, (), self.options)
        return new

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on these arguments; what the function returns, as new arrays."""
        if innermost_workload() is not None:
            return super().__call__(*args, **kwargs)
        given = self.arguments(args, kwargs)
        call = _Call()
        given = {n: tree_map(call.leaf, a, n) for n, a in given.items()}
        key = call.key
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self._compile(given, call)
            compiled = self._compiled[key]
        program = compiled.program.copy()
        program.bind({compiled.tensors[p]: a for p, a in call.arrays.items() if p in compiled.tensors})
        used = program.axis_sizes
        program.set_axis_sizes({n: size for n, size in call.sizes.items() if n in used})
        results = program.run().results
        parts = results if isinstance(results, tuple) else (results,)
        arrays = dict(zip(compiled.names, parts, strict=True)) if compiled.names else {}
        return tree_map(lambda n, _: None if n is None else arrays[n], compiled.returns, "")

    def _compile(self, given: dict[str, Any], call: _Call) -> _Compiled:
        traced = self.trace((), given)
        names = {p: n for p, x in call.tensors.items() for n, t in traced.tensors.items() if t is x}
        others = {n: t for n, t in traced.tensors.items() if n not in names.values()}
        program = Workload(traced.wir, others, traced.sizes, traced.returns).compile(**self.options)
        returned = traced.wir.returns
        results = returned if isinstance(returned, tuple) else () if returned is None else (returned,)
        return _Compiled(program, names, results, traced.returns)

    def __repr__(self) -> str:
        return f"<jit of workload function {self.label}>"


class _Call:
    """The arguments of one call: what stands for them in a trace, and their signature."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.sizes: dict[str, int] = {}
        self._key: list[object] = []
        self._axes: list[LoopAxis] = []

    @property
    def key(self) -> object:
        """What a compiled program depends on."""
        return tuple(self._key)

    def leaf(self, x: Any, path: str) -> Any:
        """What the function is traced with in the place of argument `x`, which is called `path`."""
        if isinstance(x, np.ndarray) or (hasattr(type(x), "__dlpack__") and not isinstance(x, np.generic)):
            x = Tensor(array_of(x, f"argument {path}"), name=path)
            x.given_name = None
        if isinstance(x, Tensor):
            self.tensors[path] = x
            self.arrays[path] = x.data
            dims = tuple(d if isinstance(d, int) else self._part(d, path) for d in x.spec_shape)
            self._key.append((path, "tensor", dims, x.dtype, x.fields, x.given_name))
        else:
            self._key.append((path, self._part(x, path)))
        return x

    def _part(self, x: Any, path: str) -> object:
        """What is no array, as a part of the signature. Values of axes are not: they are bound."""
        if isinstance(x, DenseDyn):
            return self._axis(x, path)
        if isinstance(x, DenseAxis):
            return ("Dense", x.size, x.given_name)
        if isinstance(x, Tiles):
            return ("tiles", self._part(x.axis, path), x.size)
        if isinstance(x, Symbol):
            return ("Symbol", x.name)
        if isinstance(x, (TensorSpec, LoopAxis)):
            raise TypeCheckError(
                "PTO155",
                f"jit: argument {path} has no values",
                values={"got": repr(x)[:80]},
                loc=here(),
                fix="give arrays, and axes by themselves; f(...) outside of jit traces types",
            )
        try:
            hash(x)
        except TypeError as e:
            raise TypeCheckError(
                "PTO155",
                f"jit: argument {path} steers tracing, but cannot be hashed",
                values={"got": repr(x)[:80], "because": e},
                loc=here(),
                fix="give numbers, strings, and tuples and dicts of them",
            ) from e
        return exactly(x)

    def _axis(self, axis: DenseDyn, path: str) -> object:
        """A dynamic axis: the same object in two places is one axis of the signature."""
        known = next((k for k, a in enumerate(self._axes) if a is axis), None)
        if known is not None:
            return ("axis", known)
        self._axes.append(axis)
        name = axis.symbol.name if axis.symbol is not None else axis.given_name or path
        if axis.default is not None:
            self.sizes[name] = axis.default
        return ("DenseDyn", name)
