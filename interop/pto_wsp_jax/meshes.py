"""Workloads with layouts on meshes of JAX: each device runs what it does alone, and meets the others in collectives of JAX."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from pto_wsp.api.workload import Workload
from pto_wsp.errors import BindError, LayoutIncompatibleError, TraceError, TypeCheckError, UnsupportedError, here
from pto_wsp.ir.collectives import operands, reduced_axes
from pto_wsp.ir.core import Eqn, Role, TensorType, Wir, written_tensors
from pto_wsp.ir.coverage import Uses, is_written_first
from pto_wsp.ir.expr import const
from pto_wsp.ir.layout import Mesh, Move, TensorLayout, TensorReplicate, TensorShard, moves, pending_read, replicated
from pto_wsp.ir.tasks import SLOTS
from pto_wsp.passes.segments import segments
from pto_wsp.trace.builder import innermost_workload
from pto_wsp.trace.tensor import Tensor
from pto_wsp_jax.signature import pack, static_shape

COMBINE: dict[str, Callable[..., Any]] = {"sum": jnp.add, "max": jnp.maximum, "min": jnp.minimum}


def named_sharding(layout: TensorLayout, mesh: jax.sharding.Mesh) -> NamedSharding:
    """The sharding on a mesh of JAX of arrays that lie as `layout`: its axes are those of the same names.

    Raises LayoutIncompatibleError where the mesh lacks an axis or has another number of devices along it, and TypeCheckError where a reduction is
    pending, which no sharding says.
    """
    if layout.pending:
        raise pending_read("a tensor", layout)
    _check_axes(layout.mesh, dict(mesh.shape))
    return NamedSharding(mesh, _spec(layout))


def tensor_layout(sharding: NamedSharding, rank: int) -> TensorLayout:
    """The layout of arrays of `rank` dimensions with this sharding. Raises LayoutIncompatibleError for what says nothing of devices."""
    if not isinstance(sharding, NamedSharding) or len(sharding.spec) > rank:
        raise LayoutIncompatibleError(
            *("PTO896", f"{type(sharding).__name__} of {rank} dimensions has no layout"),
            values={"sharding": repr(sharding)[:120]},
            loc=here(),
            fix="give a jax.sharding.NamedSharding of no more dimensions than the array has",
        )
    parts = [*sharding.spec, *(None,) * (rank - len(sharding.spec))]
    axes = [() if p is None else (p,) if isinstance(p, str) else p for p in parts]
    unknown = next((p for p, a in zip(parts, axes, strict=True) if not isinstance(a, tuple)), None)
    if unknown is not None:
        raise LayoutIncompatibleError(
            *("PTO896", f"a dimension that is {unknown} has no layout"), loc=here(), fix="name the axes that divide it"
        )
    dims = (TensorShard(*a) if a else TensorReplicate() for a in axes)
    return TensorLayout(Mesh(**dict(sharding.mesh.shape)), *dims)


def _spec(layout: TensorLayout) -> PartitionSpec:
    return PartitionSpec(*(d.axes[0] if len(d.axes) == 1 else d.axes or None for d in layout.dims))


def _check_axes(mesh: Mesh, have: Mapping[Any, int]) -> None:
    for axis, n in mesh.shape.items():
        if have.get(axis) != n:
            raise LayoutIncompatibleError(
                *("PTO896", f"axis {axis} of {mesh} has {n} devices, but the mesh of JAX {_has(have, axis)}"),
                values={"mesh of JAX": dict(have)},
                loc=here(),
                fix="lay tensors on a mesh that JAX has, or run it inside of shard_map over these axes: mesh= does",
            )


def _has(have: Mapping[Any, int], axis: str) -> str:
    return f"has {have[axis]}" if axis in have else "has no such axis"


def is_on_mesh(f: object, mesh: jax.sharding.Mesh | None) -> TypeGuard[Workload]:
    """Whether it is a workload with layouts. Raises TraceError for another thing where a mesh is given."""
    if isinstance(f, Workload) and f.wir.mesh is not None:
        return True
    if mesh is not None:
        raise TraceError(
            *("PTO155", "mesh= of something that is no traced workload with layouts"),
            values={"got": repr(f)[:80]},
            loc=here(),
            fix="call the workload first, with TensorSpec(shape, dtype, layout=TensorLayout(...)) for its tensors",
        )
    return False


def on_devices(
    w: Workload, mesh: jax.sharding.Mesh | None, kind: object, alone: Callable[[Workload], Callable[..., Any]]
) -> Callable[..., Any]:
    """A function of JAX arrays: of what a device has, or with a mesh of whole ones. The same one for the same workload and `kind`, as long as it lives."""
    key = (id(w), mesh, kind)
    known = _functions.get(key)
    if known is None:
        function = OnMesh(w, alone)
        known = _functions[key] = function if mesh is None else OverMesh(function, mesh)
    return known


_functions: weakref.WeakValueDictionary[object, OnMesh | OverMesh] = weakref.WeakValueDictionary()


class OnMesh:
    """A function of JAX arrays that does what a workload with layouts does on each device. Any threads may call it."""

    def __init__(self, w: Workload, alone: Callable[[Workload], Callable[..., Any]]) -> None:
        """alone: makes a function of arrays of a workload without layouts."""
        self._workload, self._wir, self._tensors = w, w.wir, w.tensors
        self._returns, self._sizes = w.returns, w.sizes
        self._alone = alone
        self._steps = segments(w.wir)
        self._types = {v.name: w.wir.tensor_type(v.name) for v in w.wir.tensors}
        in_steps = [
            any(e.prim in SLOTS for top in s.body.eqns for e in top.walk()) for s in self._steps if isinstance(s, Wir)
        ]
        if sum(in_steps) > 1:
            raise UnsupportedError(
                *("PTO881", f"slots of workload {w.wir.name} are used before and after a collective"),
                loc=here(),
                fix="hand values on in tensors",
            )
        self.__name__ = w.wir.name
        self.__doc__ = f"Workload {w.wir.name}, on {w.wir.mesh}."

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        assert self._wir.mesh is not None
        return self._wir.mesh

    def __repr__(self) -> str:
        return f"<function of JAX arrays on {self.mesh}, workload {self.__name__}>"

    @cached_property
    def _functions(self) -> dict[int, Callable[..., Any]]:
        """Of steps that a device does alone."""
        return {
            k: self._alone(Workload(s, {}, {n: v for n, v in self._sizes.items() if n in s.symbols}))
            for k, s in enumerate(self._steps)
            if isinstance(s, Wir)
        }

    @cached_property
    def _written(self) -> tuple[str, ...]:
        """The arguments that it writes."""
        written = {n for s in self._steps for n in self._writes(s)}
        return tuple(n for n, t in self._types.items() if t.role is Role.GIVEN and n in written)

    def _writes(self, step: Wir | Eqn) -> list[str]:
        """The tensors that a step hands on."""
        if isinstance(step, Eqn):
            return [operands(step)[1].name]
        given = ((n, step.tensor_type(n)) for n in sorted(written_tensors(step)))
        return [n for n, t in given if t.role is Role.GIVEN and const(0) not in t.shape]

    # calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Of a device's parts, inside of shard_map over the mesh."""
        arrays, sizes = self.named(args, kwargs)
        _check_axes(self.mesh, {a: n for a in self.mesh.shape if (n := _axis_size(a)) is not None})
        for n, x in arrays.items():
            self.check(n, x)
        env = {**self._constants(arrays), **self._empty(), **arrays}
        for k, step in enumerate(self._steps):
            if isinstance(step, Eqn):
                source, target = (x.name for x in operands(step))
                if const(0) in self._types[target].shape:  # which XLA does not gather
                    continue
                env[target] = self._collective(step, env[source], self._types[source], self._types[target])
            else:
                env |= self._run(k, step, env, sizes)
        return pack(env, self._returns, self._written, by_name=True)

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments by name: tensors, and sizes."""
        if innermost_workload() is not None:
            raise UnsupportedError(
                *("PTO881", f"a function of JAX arrays, {self.__name__}, called inside of a workload"),
                loc=here(),
                fix="call the workload function itself",
            )
        given = [n for n, t in self._types.items() if t.role is Role.GIVEN]
        if len(args) > 1 or (args and len(given) > 1):
            raise self._wrong(f"has {len(given)} tensors, which are given by name")
        named = dict(zip(given, args, strict=False)) | kwargs
        for n in named:
            if n not in given and n not in self._wir.symbols:
                raise self._wrong(f"takes no argument {n}")
        arrays = {n: _array(x) for n, x in named.items() if n in given}
        return arrays, {n: x for n, x in named.items() if n not in arrays}

    def _wrong(self, what: str) -> TypeCheckError:
        given = (n for n, t in self._types.items() if t.role is Role.GIVEN)
        return TypeCheckError(
            *("PTO155", f"workload {self.__name__} {what}"),
            values={"tensors": ", ".join(given), "sizes": ", ".join(self._wir.symbols) or "none"},
            loc=here(),
            fix="give arrays for the tensors that it uses, and numbers or integer arrays of rank 0 for sizes",
        )

    def spec(self, name: str) -> PartitionSpec:
        """How an argument or a result is divided."""
        return _spec(self._layout(name))

    @property
    def specs_of_results(self) -> Any:
        """How what it gives is divided."""
        results = (n for n, t in self._types.items() if t.role is Role.RESULT)
        specs = {n: self.spec(n) for n in (*results, *self._written)}
        return pack(specs, self._returns, self._written, by_name=True)

    def _layout(self, name: str) -> TensorLayout:
        t = self._types[name]
        return t.layout or replicated(self.mesh, len(t.shape))

    def check(self, name: str, x: Any, *, whole: bool = False) -> None:
        t = self._types[name]
        local: tuple[Any, ...] = tuple(d.const if d.is_const else None for d in t.shape)
        want = self._layout(name).global_shape(local) if whole else local
        fits = len(want) == x.ndim and all(n is None or n == m for n, m in zip(want, x.shape, strict=True))
        if x.dtype != t.dtype.numpy or not fits:
            shown = ["*" if n is None else n for n in want]
            narrowed = fits and x.dtype == jax.dtypes.canonicalize_dtype(t.dtype.numpy)
            raise BindError(
                *(
                    "PTO503",
                    f"argument {name} is {x.dtype}{list(x.shape)}, but {'all of it' if whole else 'the part of a device'} is {t.dtype}{shown}",
                ),
                values={name: t},
                loc=here(),
                fix='jax.config.update("jax_enable_x64", True): without it JAX has numbers of 32 bits'
                if narrowed
                else "give whole arrays to the function with mesh=, and parts to the one inside of shard_map",
            )

    def bound(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays that the workload was traced with, of tensors that are not given."""
        return {n: jnp.asarray(t.data) for n, t in self._tensors.items() if n not in arrays and isinstance(t, Tensor)}

    def _constants(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The device's parts of these."""
        out: dict[str, Any] = {}
        for n, x in self.bound(arrays).items():
            layout = self._layout(n)
            for d, axes in enumerate(x.axes for x in layout.dims):
                for a in axes:
                    x = _own_part(x, a, d, x.shape[d] // self.mesh.shape[a])
            out[n] = x
        return out

    # steps

    def _run(self, k: int, step: Wir, env: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
        """What a step writes."""
        given: dict[str, Any] = {n: x for n, x in sizes.items() if n in step.symbols}
        for v in step.tensors:
            t = step.tensor_type(v.name)
            if t.role is not Role.GIVEN:
                continue
            if v.name in env:
                given[v.name] = env[v.name]
            elif not is_written_first(step, Uses(), step.body, v.name, {}):
                given[v.name] = self._zeros(v.name, t, sizes)
        written = self._writes(step)
        if not written:  # of what nobody else uses
            return {}
        out = self._functions[k](**given)
        return {written[0]: out} if len(written) == 1 else dict(out)

    def _empty(self) -> dict[str, Any]:
        """The tensors without elements, which no step writes."""
        none = {n: t for n, t in self._types.items() if const(0) in t.shape}
        return {n: jnp.zeros([d.const if d.is_const else 0 for d in t.shape], t.dtype.numpy) for n, t in none.items()}

    def _zeros(self, name: str, t: TensorType, sizes: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
        if self._types[name].role is Role.GIVEN:
            raise BindError(
                *(
                    "PTO507",
                    f"tensor {name} of workload {self.__name__} is not given, and not all of it is written before it is read",
                ),
                loc=here(),
                fix=f"give {name} an array",
            )
        known = {n: int(x) for n, x in {**self._sizes, **sizes}.items() if isinstance(x, (int, np.integer))}
        return jax.ShapeDtypeStruct(static_shape(name, t, known, self.__name__), t.dtype.numpy)

    def _collective(self, eqn: Eqn, x: Any, source: TensorType, target: TensorType) -> Any:
        here_, there = source.layout, target.layout
        assert here_ is not None and there is not None
        match eqn.prim:
            case "allreduce":
                axes = reduced_axes(eqn)
                op = here_.pending[axes[0]]
                return lax.psum(x, axes) if op == "sum" else _extreme(x, axes, op)
            case "reduce_scatter":
                axis, dim = str(eqn.params["axis"]), eqn.params["dim"]
                assert isinstance(dim, int)
                return _reduce_scatter(x, axis, dim, self.mesh.shape[axis], COMBINE[here_.pending[axis]])
            case _:
                for step in moves(here_, there):
                    x = self._move(x, step)
                return x

    def _move(self, x: Any, step: Move) -> Any:
        kind, axis, dim, to = step
        if kind == "slice":
            return _own_part(x, axis, to, x.shape[to] // self.mesh.shape[axis])
        if kind == "allgather":
            return lax.all_gather(x, axis, axis=dim, tiled=True)
        return lax.all_to_all(x, axis, split_axis=to, concat_axis=dim, tiled=True)


class OverMesh:
    """The same of whole arrays: shard_map over a mesh of JAX."""

    def __init__(self, local: OnMesh, mesh: jax.sharding.Mesh) -> None:
        _check_axes(local.mesh, dict(mesh.shape))
        self._local, self._mesh = local, mesh
        self._made: dict[object, Callable[..., Any]] = {}  # so that calls outside of jax.jit compile once
        self.__name__, self.__doc__ = local.__name__, local.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arrays, sizes = self._local.named(args, kwargs)
        arrays |= self._local.bound(arrays)
        for n, x in arrays.items():
            self._local.check(n, x, whole=True)
        numbers = {
            n: int(x) for n, x in sizes.items() if isinstance(x, (int, np.integer))
        }  # which shapes may depend on
        read = {n: jnp.asarray(x) for n, x in sizes.items() if n not in numbers}
        if jax.sharding.AxisType.Explicit in self._mesh.axis_types:  # whose arrays have layouts as types
            arrays = {
                n: jax.sharding.reshard(x, NamedSharding(self._mesh, self._local.spec(n))) for n, x in arrays.items()
            }
        return self._run(tuple(arrays), tuple(read), tuple(sorted(numbers.items())))(arrays, read)

    def _run(
        self, arrays: tuple[str, ...], read: tuple[str, ...], numbers: tuple[tuple[str, int], ...]
    ) -> Callable[..., Any]:
        """The function of these arrays and of sizes that it reads, with the other sizes."""
        key = (arrays, read, numbers)
        if key not in self._made:

            def local(arrays: Mapping[str, Any], sizes: Mapping[str, Any]) -> Any:
                return self._local(**arrays, **sizes, **dict(numbers))

            self._made[key] = jax.jit(
                jax.shard_map(
                    local,
                    mesh=self._mesh,
                    in_specs=({n: self._local.spec(n) for n in arrays}, {n: PartitionSpec() for n in read}),
                    out_specs=self._local.specs_of_results,
                    check_vma=False,  # layouts say what is the same on all devices; JAX does not know it of what was gathered
                )
            )
        return self._made[key]

    def __repr__(self) -> str:
        return f"<{self._local!r}, of whole arrays>"


def _array(x: Any) -> jax.Array:
    return jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)


def _axis_size(axis: str) -> int | None:
    try:
        return lax.axis_size(axis)
    except NameError:
        return None


def _own_part(x: Any, axis: str, dim: int, n: int) -> Any:
    return lax.dynamic_slice_in_dim(x, lax.axis_index(axis) * n, n, dim)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _extreme(x: Any, axes: tuple[str, ...], op: str) -> Any:
    """The largest, or smallest, element of all devices along these axes. Floats are compared as integers in their order: lax.pmax and lax.pmin lose NaNs
    on CPUs, and take either zero."""
    reduce = lax.pmax if op == "max" else lax.pmin
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return reduce(x, axes)
    nan = jnp.asarray(jnp.nan if op == "max" else -jnp.nan, x.dtype)  # the largest of these integers, or the smallest
    return _swapped(reduce(_swapped(jnp.where(jnp.isnan(x), nan, x), _ordered(x.dtype)), axes), x.dtype)


@_extreme.defjvp
def _(axes: tuple[str, ...], op: str, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    """As of jnp.max: devices that have the largest element share its derivative."""
    (x,), (dx,) = primals, tangents
    out = _extreme(x, axes, op)
    has = jnp.asarray(x == out, dx.dtype)
    return out, lax.psum(has * dx, axes) / lax.psum(has, axes)


def _ordered(dtype: Any) -> Any:
    return jnp.dtype(f"int{8 * jnp.dtype(dtype).itemsize}")


def _swapped(x: Any, to: Any) -> Any:
    """Floats as signed integers in the same order, or back: of negative ones all bits but that of the sign are the other ones."""
    whole = x if jnp.issubdtype(x.dtype, jnp.integer) else lax.bitcast_convert_type(x, to)
    turned = jnp.where(whole < 0, whole ^ jnp.iinfo(whole.dtype).max, whole)
    return turned if turned.dtype == to else lax.bitcast_convert_type(turned, to)


def _reduce_scatter(x: Any, axis: str, dim: int, n: int, combine: Callable[..., Any]) -> Any:
    """Each device sends its parts to those that reduce them, which add one after another: after lax.psum_scatter collectives of several
    processes on CPUs stall (docs/jax.md), and it knows sums alone."""
    parts = x.reshape(*x.shape[:dim], n, x.shape[dim] // n, *x.shape[dim + 1 :])
    parts = lax.all_to_all(parts, axis, split_axis=dim, concat_axis=dim, tiled=True)
    out = lax.index_in_dim(parts, 0, dim, keepdims=False)
    for k in range(1, n):
        out = combine(out, lax.index_in_dim(parts, k, dim, keepdims=False))
    return out
