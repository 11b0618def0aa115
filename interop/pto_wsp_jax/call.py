"""`as_jax`: workload functions as functions of JAX arrays, by custom calls."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pto_wsp.api.jit import Signature, name_in
from pto_wsp.api.workload import Workload, WorkloadFunction
from pto_wsp.errors import TypeCheckError, UnsupportedError, here
from pto_wsp.ir.core import DType, Role
from pto_wsp.ir.coverage import Uses, is_written_first
from pto_wsp.trace.builder import WorkloadBuilder, innermost_workload
from pto_wsp.trace.functional import tree_map
from pto_wsp.trace.tensor import TensorSpec
from pto_wsp.trace.workload import TracedFunction
from pto_wsp.transforms.vmap import vmap
from pto_wsp_jax.handler import TARGET, VERSION, register


def as_jax(f: WorkloadFunction, *, vjp: Callable[..., Any] | None = None, **options: Any) -> JaxFunction:
    """A function of JAX arrays that runs workload function `f`, for use under `jax.jit`, `vmap`, `lax.scan`, `cond`, `shard_map` and so on.

        y = jax.jit(lambda x: as_jax(rmsnorm)(x) + 1)(x)

    Arguments are those of `f`: arrays, in tuples, lists and dicts where `f` takes such, and what steers tracing (numbers, strings, axes), which
    must be hashable and no traced value. A jax.ShapeDtypeStruct in the place of an array is new memory, zeros at first, that `f` writes.
    Nothing is changed in place: what `f` writes comes back as a new array. It gives

        what `f` returns                                 where `f` writes no argument,
        the arguments that `f` writes, in order          where it returns nothing: one, or a tuple of them,
        both, as a pair                                  else.

    Arrays keep their dtype: f32, bf16, f16, 8-bit floats, integers and bool, and with x64 those of 64 bits. It is traced and compiled once for each
    signature. At run one custom call without the interpreter's lock works on the arrays where XLA has them, on the thread that calls and
    those of the runtime. `jax.vmap` of it is `vmap` of the workload: one call, with one more parallel axis.

    vjp: what `jax.grad` uses. vjp(arguments, cotangents) gives the cotangents of the array arguments, all that are in `arguments`, a tuple in their
    order; `cotangents` is like what the function gives. A function of JAX arrays, which may call `as_jax` again.
    options: those of `Workload.compile`, but for `check` and `resources`, which calls do not carry (UnsupportedError). Raises what tracing and compiling raise when it is called; what goes wrong in a run is an error of XLA's with
    our message.
    """
    TracedFunction.need("as_jax", f)
    for name in ("check", "resources"):
        if options.get(name) is not None:
            raise UnsupportedError(
                *("PTO881", f"as_jax has no option {name}="),
                loc=here(),
                fix=f"compile the workload by itself with {name}=, and run that",
            )
    return JaxFunction(f, vjp, options)


class JaxFunction:
    """What `as_jax` gives. Any threads may call it."""

    def __init__(self, f: WorkloadFunction, vjp: Callable[..., Any] | None, options: dict[str, Any]) -> None:
        self._f, self._vjp, self._options = f, vjp, options
        self._lock = threading.Lock()
        self._sites: dict[object, Site] = {}
        self._batched: dict[object, JaxFunction] = {}
        self.__name__ = f.label
        self.__doc__ = f.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if innermost_workload() is not None:
            raise UnsupportedError(
                *("PTO881", f"a function of JAX arrays, {self._f.label}, called inside of a workload"),
                loc=here(),
                fix=f"call the workload function {self._f.label} itself",
            )
        signature = JaxSignature()
        given = {n: tree_map(signature.leaf, a, n) for n, a in self._f.arguments(args, kwargs).items()}
        site = self.site_of(given, signature)
        operands = [signature.operands[p] for p in site.operands]
        if self._vjp is None:
            return site.pack(bound(site, operands))
        return site.pack(_with_rule(site, self._vjp)(*operands))

    def __repr__(self) -> str:
        return f"<function of JAX arrays, workload {self._f.label}>"

    def site_of(self, given: dict[str, Any], signature: JaxSignature) -> Site:
        """What a call with these arguments is."""
        register()
        key = (signature.key, signature.values)
        with self._lock:
            if key not in self._sites:
                self._sites[key] = Site.of(self, self._f, given, signature, self._options)
            return self._sites[key]

    def batched(self, site: Site, dims: tuple[int | None, ...], size: int) -> tuple[JaxFunction, dict[str, Any]]:
        """This function under vmap over those dimensions of its operands, and arguments of its signature."""
        axes = dict(zip(site.operands, dims, strict=True))
        with self._lock:
            if (site, dims) not in self._batched:
                in_axes = {
                    n: tree_map(lambda _, p: axes.get(p, 0 if p in site.fresh else None), a, n)
                    for n, a in site.given.items()
                }
                self._batched[site, dims] = JaxFunction(vmap(self._f, in_axes), None, self._options)
        fresh = {p: jax.ShapeDtypeStruct((size, *s.shape), s.dtype) for p, s in site.fresh.items()}
        return self._batched[site, dims], fresh


class Operand(TensorSpec):
    """What stands for one array while a workload is traced."""


class JaxSignature(Signature):
    """The arguments of one call: what stands for them in a trace, and their signature."""

    def __init__(self) -> None:
        super().__init__()
        self.operands: dict[str, Any] = {}
        self.fresh: dict[str, jax.ShapeDtypeStruct] = {}

    @property
    def values(self) -> object:
        """Those of axes: here they are of the signature."""
        return tuple((p, _hashable(v)) for p, v in sorted(self.sizes.items()))

    def leaf(self, x: Any, path: str) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            self.fresh[path] = x
        elif isinstance(x, (jax.Array, np.ndarray)):
            self.operands[path] = x = jnp.asarray(x)
        else:
            return super().leaf(x, path)
        dtype = next((d for d in DType if d.numpy == x.dtype), None)
        if dtype is None:
            raise TypeCheckError(
                *("PTO502", f"argument {path} holds {x.dtype}"),
                loc=here(),
                fix=f"convert it: one of {', '.join(map(str, DType))}",
            )
        spec = Operand(x.shape, dtype)
        self.tensors[path] = spec
        self.note((path, "memory" if path in self.fresh else "array", x.shape, dtype))
        return spec


def _hashable(x: Any) -> object:
    if isinstance(x, tuple):
        return tuple(map(_hashable, x))
    return (x.shape, x.dtype.str, x.tobytes()) if isinstance(x, np.ndarray) else x


@dataclass(frozen=True, eq=False)
class Site:
    """One signature of a function: its program, and how operands and results of calls are its tensors."""

    function: JaxFunction
    name: str
    given: dict[str, Any]
    operands: tuple[str, ...]
    fresh: dict[str, jax.ShapeDtypeStruct]
    constants: tuple[Any, ...]  # behind the operands
    results: tuple[
        tuple[tuple[int, ...], Any], ...
    ]  # shapes and dtypes: what it returns, then arguments that it writes
    aliases: dict[int, int]  # operands that are also results
    attributes: dict[str, Any]
    returns: Any
    names: tuple[str, ...]
    written: tuple[str, ...]  # paths

    @staticmethod
    def of(
        function: JaxFunction,
        f: WorkloadFunction,
        given: dict[str, Any],
        signature: JaxSignature,
        options: dict[str, Any],
    ) -> Site:
        builder = WorkloadBuilder(f.label)
        traced = f.trace((), given, builder)
        wir = traced.wir
        paths = {n: p for p, x in signature.tensors.items() for n, t in traced.tensors.items() if t is x}
        axes = {p: n for p, x in signature.axes.items() if (n := name_in(builder, x)) is not None}
        others = {n: t for n, t in traced.tensors.items() if n not in paths}
        program = Workload(wir, others, traced.sizes, traced.returns).compile(**options)
        program.set_axis_sizes({axes[p]: size for p, size in signature.sizes.items() if p in axes})
        bound = program.bindings
        bound.check_control(set())
        env = {"$" + n: v for n, v in bound.sizes.items()}
        names = wir.returns if isinstance(wir.returns, tuple) else () if wir.returns is None else (wir.returns,)
        by_path = {p: n for n, p in paths.items()}
        operands = tuple(p for p in signature.operands if p in by_path)
        written = tuple(p for p in signature.tensors if by_path.get(p) in bound.written)
        held = {n: a for n, a in bound.arrays.items() if n in bound.types}
        constants = [n for n in held if n not in paths]
        for n in constants:
            if n in bound.written:
                raise UnsupportedError(
                    *("PTO881", f"workload {f.label} writes tensor {n}, which is none of its arguments"),
                    loc=here(),
                    fix="make it an argument: what a function of JAX arrays writes it gives back",
                )
        results = [(tuple(d.value(env) for d in bound.types[n].shape), bound.types[n].dtype) for n in names]
        results += [
            (tuple(d.value(env) for d in bound.types[by_path[p]].shape), bound.types[by_path[p]].dtype) for p in written
        ]
        n_inputs = len(operands) + len(constants)
        place = {by_path[p]: i for i, p in enumerate(operands)}
        place |= {n: len(operands) + i for i, n in enumerate(constants)}
        place |= {n: n_inputs + i for i, n in enumerate(names)}
        place |= {by_path[p]: n_inputs + len(names) + i for i, p in enumerate(written)}
        aliases = {operands.index(p): len(names) + i for i, p in enumerate(written) if p in signature.operands}
        uses = Uses()
        zeroed = [place[n] for n in names if not is_written_first(wir, uses, wir.body, n, {})]
        zeroed += [place[by_path[p]] for p in written if p in signature.fresh]
        wide = [place[n] for n in constants if held[n].dtype.itemsize == 8]
        sources = [-1 if t.role is Role.TEMPORARY else place[n] for n, t in bound.types.items()]
        attributes = {
            "version": np.int64(VERSION),
            "key": program.hash,
            "artifact": program.to_bytes(),
            "sources": np.array(sources, np.int64),
            "zeroed": np.array(zeroed, np.int64),
            "wide": np.array(wide, np.int64),
            "sizes": np.array([bound.sizes[n] for n in wir.symbols], np.int64),
            "threads": np.int64(program.threads),
        }
        return Site(
            *(function, f.label, given, operands, dict(signature.fresh)),
            tuple(_narrow(held[n]) for n in constants),
            tuple((shape, dtype.numpy) for shape, dtype in results),
            *(aliases, attributes, traced.returns, names, written),
        )

    def pack(self, outs: list[Any]) -> Any:
        """What the function gives, of the results of the call."""
        arrays = dict(zip(self.names, outs, strict=False))
        returned = tree_map(lambda n, _: None if n is None else arrays[n], self.returns, "")
        rest = tuple(outs[len(self.names) :])
        changed = rest[0] if len(rest) == 1 else rest
        if not self.written:
            return returned
        return changed if not self.names else (returned, changed)

    def __repr__(self) -> str:
        """As it stands in a jaxpr."""
        return self.name


def _narrow(a: np.ndarray) -> np.ndarray:
    """Integers of 64 bits as pairs of 32: JAX may have none."""
    return (
        np.ascontiguousarray(a).view(np.uint32).reshape(*a.shape, 2)
        if a.dtype.itemsize == 8
        else np.ascontiguousarray(a)
    )


# The primitive. Parameters: `site`, of which nothing but its name shows.

call_p = Primitive("pto_call")
call_p.multiple_results = True


def bound(site: Site, operands: list[Any]) -> list[Any]:
    """The results of a call."""
    return call_p.bind(*operands, *map(jnp.asarray, site.constants), site=site)


def _abstract(*avals: Any, site: Site) -> list[Any]:
    # Inside of shard_map results vary over the axes of the mesh over which any operand does.
    like = max(avals, key=lambda a: len(getattr(a, "vma", ())), default=ShapedArray((), np.float32))
    return [like.update(shape=shape, dtype=dtype, weak_type=False) for shape, dtype in site.results]


@functools.cache
def _jitted(site: Site) -> Any:
    def call(*operands: Any) -> Any:
        return call_p.bind(*operands, site=site)

    return jax.jit(call)


def _run(*operands: Any, site: Site) -> Any:
    return _jitted(site)(*operands)


def _lower(ctx: Any, *operands: Any, site: Site) -> Any:
    rule = jax.ffi.ffi_lowering(TARGET, operand_output_aliases=site.aliases)
    return rule(ctx, *operands, **site.attributes)


def _no_lowering(ctx: Any, *operands: Any, site: Site) -> Any:
    raise UnsupportedError(
        *("PTO882", f"workload {site.name} runs on CPUs alone"),
        loc=here(),
        fix='jax.device_put its arguments to jax.devices("cpu")[0], or jit it for that device',
    )


call_p.def_abstract_eval(_abstract)
call_p.def_impl(_run)
mlir.register_lowering(call_p, _no_lowering)
mlir.register_lowering(call_p, _lower, platform="cpu")


def _batch(args: tuple[Any, ...], dims: tuple[Any, ...], *, site: Site) -> tuple[list[Any], list[int]]:
    own = len(site.operands)
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    values, axes = list(args[:own]), list(dims[:own])
    for i in site.aliases:  # what is written has an example each
        if axes[i] is None:
            values[i], axes[i] = jnp.broadcast_to(values[i], (size, *values[i].shape)), 0
    function, fresh = site.function.batched(site, tuple(axes), size)
    at = dict(zip(site.operands, values, strict=True)) | fresh
    given = {n: tree_map(lambda x, p: at.get(p, x), a, n) for n, a in site.given.items()}
    signature = JaxSignature()
    specs = {n: tree_map(signature.leaf, a, n) for n, a in given.items()}
    new = function.site_of(specs, signature)
    outs = bound(new, [signature.operands[p] for p in new.operands])
    # An argument that is written keeps its axis where it was.
    own_axis = dict(zip(site.operands, axes, strict=True))
    back = [0] * len(site.names) + [own_axis.get(p) or 0 for p in site.written]
    return outs, back


batching.primitive_batchers[call_p] = _batch


def _no_derivative(primals: Any, tangents: Any, *, site: Site) -> Any:
    raise TypeCheckError(
        *("PTO883", f"workload {site.name} has no derivative: kernels are not differentiated"),
        loc=here(),
        fix="as_jax(..., vjp=rule) with a function of your own, or jax.lax.stop_gradient around its arguments",
    )


ad.primitive_jvps[call_p] = _no_derivative


@functools.cache
def _with_rule(site: Site, vjp: Callable[..., Any]) -> Any:
    def call(*operands: Any) -> list[Any]:
        return bound(site, list(operands))

    def forward(*operands: Any) -> Any:
        return bound(site, list(operands)), operands

    def backward(operands: tuple[Any, ...], cotangents: list[Any]) -> Any:
        return tuple(vjp(operands, site.pack(cotangents)))

    run: Any = jax.custom_vjp(call)
    run.defvjp(forward, backward)
    return run
