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
from pto_wsp.trace.builder import WorkloadBuilder, innermost_workload
from pto_wsp.trace.data_axes import Ragged, Sparse
from pto_wsp.trace.functional import tree_map
from pto_wsp.trace.index import Symbol
from pto_wsp.trace.tensor import Tensor, TensorSpec
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
    axes: dict[str, str]  # what axes that have values of their own are called
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
        call = Signature()
        given = {n: tree_map(call.leaf, a, n) for n, a in given.items()}
        key = call.key
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self._compile(given, call)
            compiled = self._compiled[key]
        program = compiled.program.copy()
        program.bind({compiled.tensors[p]: a for p, a in call.arrays.items() if p in compiled.tensors})
        program.set_axis_sizes({compiled.axes[p]: size for p, size in call.sizes.items() if p in compiled.axes})
        results = program.run().results
        parts = results if isinstance(results, tuple) else (results,)
        arrays = dict(zip(compiled.names, parts, strict=True)) if compiled.names else {}
        return tree_map(lambda n, _: None if n is None else arrays[n], compiled.returns, "")

    def _compile(self, given: dict[str, Any], call: Signature) -> _Compiled:
        builder = WorkloadBuilder(self.label)
        traced = self.trace((), given, builder)
        wir = traced.wir
        tensors = {p: n for p, x in call.tensors.items() for n, t in traced.tensors.items() if t is x}
        axes = {p: n for p, x in call.axes.items() if (n := name_in(builder, x)) is not None}
        known = {*wir.symbols, *(a.name for a in wir.axes)}
        hidden = {t for a in wir.axes for t in a.tensors if a.name in axes.values()}
        others = {n: t for n, t in traced.tensors.items() if n not in tensors.values() and n not in hidden}
        sizes = {n: size for n, size in traced.sizes.items() if n not in axes.values()}
        program = Workload(wir, others, sizes, traced.returns).compile(**self.options)
        names = wir.returns if isinstance(wir.returns, tuple) else () if wir.returns is None else (wir.returns,)
        axes = {p: n for p, n in axes.items() if n in known}
        return _Compiled(program, tensors, axes, names, traced.returns)

    def __repr__(self) -> str:
        return f"<jit of workload function {self.label}>"


class Signature:
    """The arguments of one call: what stands for them in a trace, and their signature."""

    def __init__(self) -> None:
        self.tensors: dict[str, TensorSpec] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.sizes: dict[str, Any] = {}
        self.axes: dict[str, DenseDyn | Ragged | Sparse] = {}
        self._key: list[object] = []

    @property
    def key(self) -> object:
        """What a compiled program depends on."""
        return tuple(self._key)

    def note(self, part: object) -> None:
        """Something more that a compiled program depends on."""
        self._key.append(part)

    def leaf(self, x: Any, path: str) -> Any:
        """What the function is traced with in the place of argument `x`, which is called `path`."""
        if isinstance(x, np.ndarray) or (hasattr(type(x), "__dlpack__") and not isinstance(x, np.generic)):
            x = Tensor(x, name=path)
            x.given_name = None
        if isinstance(x, Tensor):
            self._key.append(self._tensor(x, path))
        else:
            self._key.append((path, self._part(x, path)))
        return x

    def _tensor(self, x: Tensor, path: str) -> object:
        self.tensors[path] = x
        self.arrays[path] = x.data
        dims = tuple(d if isinstance(d, int) else self._part(d, path) for d in x.spec_shape)
        return (path, "tensor", dims, x.dtype, x.fields, x.given_name)

    def _part(self, x: Any, path: str) -> object:
        """What is no array, as a part of the signature. Values of axes are not: they are bound."""
        if isinstance(x, DenseDyn):
            return self._axis(x, path)
        if isinstance(x, (Ragged, Sparse)):
            return self._rows(x, path)
        if isinstance(x, DenseAxis):
            return ("Dense", x.size, x.given_name)
        if isinstance(x, Tiles):
            return ("tiles", self._part(x.axis, path), x.size)
        if isinstance(x, Symbol):
            return ("Symbol", x.name)
        if isinstance(x, (TensorSpec, LoopAxis)):  # pyright: ignore[reportUnnecessaryIsInstance]
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

    def _known(self, axis: object) -> str | None:
        """Where an axis stands that was seen before: the same object in two places is one axis of the signature."""
        return next((p for p, a in self.axes.items() if a is axis), None)

    def _axis(self, axis: DenseDyn, path: str) -> object:
        if (known := self._known(axis)) is not None:
            return ("axis", known)
        self.axes[path] = axis
        if axis.default is not None:
            self.sizes[path] = axis.default
        return ("DenseDyn", axis.symbol.name if axis.symbol is not None else axis.given_name)

    def _rows(self, axis: Ragged | Sparse, path: str) -> object:
        if (known := self._known(axis)) is not None:
            return ("axis", known)
        self.axes[path] = axis
        integers = tuple(d for d in axis.data.values() if isinstance(d, np.ndarray))
        if len(integers) == len(axis.data):
            self.sizes[path] = integers if isinstance(axis, Sparse) else integers[0]
        outer = axis.outer
        if isinstance(outer, DenseDyn) and outer.symbol is None and outer.given_name is None and not self._known(outer):
            raise TypeCheckError(
                "PTO155",
                f"jit: the outer axis of argument {path} has no name",
                loc=here(),
                fix='name it, DenseDyn(4, name="batch"), or give it to the function before',
            )
        data = tuple(self._data(d, f"{path}.{what}") for what, d in axis.data.items())
        around = tuple(self._part(a, f"{path}.{w}") for w, a in (("outer", axis.outer), ("inner", axis.inner)))
        return (axis.kind, axis.given_name, data, around)

    def _data(self, data: object, path: str) -> object:
        """What holds lengths, pointers or indices: integers are bound anew."""
        if isinstance(data, np.ndarray):
            return "integers"
        return self._tensor(data, path) if isinstance(data, Tensor) else self._part(data, path)


def name_in(builder: WorkloadBuilder, axis: DenseDyn | Ragged | Sparse) -> str | None:
    """What a workload calls an axis whose values are bound anew; None where it does not use it."""
    if isinstance(axis, DenseDyn):
        return axis.symbol.name if axis.symbol is not None else builder.known_name(axis, axis.given_name)
    return next((known.declared.name for known in builder.data_axes if known.axis is axis), None)
