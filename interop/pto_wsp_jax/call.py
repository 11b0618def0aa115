"""`as_jax`: workloads as functions of JAX arrays, by custom calls."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from pto_wsp.api.workload import Workload, WorkloadFunction
from pto_wsp.errors import TraceError, TypeCheckError, UnsupportedError, here
from pto_wsp.runtime.program import Program
from pto_wsp.trace.builder import innermost_workload
from pto_wsp_jax.handler import register
from pto_wsp_jax.meshes import is_on_mesh, on_devices
from pto_wsp_jax.primitive import bind
from pto_wsp_jax.signature import pack
from pto_wsp_jax.site import Site
from pto_wsp_jax.sources import Given, OfFunction, OfProgram
from pto_wsp_jax.varying import alike

Vjp = Callable[..., Any] | WorkloadFunction


def as_jax(
    f: WorkloadFunction | Workload | Program,
    *,
    vjp: Vjp | None = None,
    mesh: jax.sharding.Mesh | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """A function of JAX arrays that runs workload `f`, for use under `jax.jit`, `vmap`, `lax.scan`, `cond`, `shard_map` and so on.

        y = jax.jit(lambda x: as_jax(rmsnorm)(x) + 1)(x)

    f: a workload function, which is traced and compiled once for each signature; or a traced `Workload` or compiled `Program`.
    Arguments of a function are its own: arrays, in tuples, lists and dicts where it takes such, and what steers tracing (numbers, strings, axes), which
    must be hashable and no traced value; an array of rank 0 is a scalar that the run reads, as an extent too. Those of a workload or program are
    its tensors, by name (one alone also without), and the sizes of its axes and symbols: numbers, or integer arrays of rank 0, which the run reads.
    Tensors that are left out have the values that they are bound to when JAX traces, or are new memory if they are only written.
    A jax.ShapeDtypeStruct in the place of an array is new memory, zeros at first, that `f` writes.
    Nothing is changed in place: what `f` writes comes back as a new array. It gives

        what `f` returns                                 where `f` writes no argument,
        the arguments that `f` writes, in order          where it returns nothing: one, or a tuple of them, of a workload or program a dict,
        both, as a pair                                  else.

    Arrays keep their dtype: f32, bf16, f16, 8-bit floats, integers and bool, and with x64 those of 64 bits. At run one custom call without the
    interpreter's lock works on the arrays where XLA has them, on the thread that calls and those of the runtime. `jax.vmap` of it is `vmap` of
    the workload: one call, with one more parallel axis. Where operands are divided between devices along axes of its outermost loops, each
    device runs its share; along others it is an error.

    A traced workload with layouts gives a function of what a device has, for use inside of shard_map over axes as its mesh has; with mesh= a function
    of whole arrays, which is that shard_map. It meets the other devices in collectives of JAX.

    vjp: what `jax.grad` uses. A function: vjp(arguments, cotangents) gives the cotangents of the array arguments, all that are in `arguments`, a
    tuple in their order, with None for those that have none; `cotangents` is like what the function gives. Or a workload function: its arguments
    are those arrays and then the cotangents of the results, one by one; its results are the cotangents of the arrays of floats, in order.
    options: those of `Workload.compile`, but for `check` and `resources`, which calls do not carry (UnsupportedError); none for a program.
    Raises what tracing and compiling raise when it is called; what goes wrong in a run is an error of XLA's with our message.
    """
    if is_on_mesh(f, mesh):
        if vjp is not None:
            raise UnsupportedError(
                *("PTO881", "vjp= of a workload with layouts"),
                loc=here(),
                fix="lower_to_jax has derivatives; or give rules to the workloads between collectives, inside of your own shard_map",
            )
        return on_devices(f, mesh, ("as_jax", *sorted(options.items())), lambda w: as_jax(w, **options))
    key = (id(f), id(vjp), *((n, v if isinstance(v, (str, int)) else id(v)) for n, v in sorted(options.items())))
    known = _functions.get(key)
    if known is None:
        known = _functions.setdefault(key, JaxFunction(f, vjp, options))
        if isinstance(f, WorkloadFunction):
            _recent.append(known)
    return known


_functions: weakref.WeakValueDictionary[object, JaxFunction] = weakref.WeakValueDictionary()
"""Those alive, each of which keeps what its key names: calling `as_jax` again in each step traces nothing anew."""
_recent: deque[JaxFunction] = deque(maxlen=16)
"""They stay alive between calls such as `as_jax(f)(x)`. Not those of workloads and programs, which have arrays."""


class JaxFunction:
    """What `as_jax` gives. Any threads may call it."""

    def __init__(self, f: object, vjp: object, options: dict[str, Any]) -> None:
        self._f, self._vjp, self._options = f, vjp, options
        self._source = _source(f, options)
        self._rule = _rule(self._source.label, vjp, options)
        self._lock = threading.Lock()
        self._entries: dict[object, Entry] = {}
        self.__name__ = self._source.label
        self.__doc__ = self._source.doc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if innermost_workload() is not None:
            raise UnsupportedError(
                *("PTO881", f"a function of JAX arrays, {self.__name__}, called inside of a workload"),
                loc=here(),
                fix=f"call the workload function {self.__name__} itself",
            )
        given = self._source.given(args, kwargs)
        entry = self.entry(given)
        operands = alike([given.operands[p] for p in entry.paths])
        return entry.pack(bind(entry.site, operands) if self._rule is None else entry.with_rule(*operands))

    def __repr__(self) -> str:
        return f"<function of JAX arrays, workload {self.__name__}>"

    def entry(self, given: Given) -> Entry:
        """What a call with these arguments is."""
        register()
        with self._lock:
            if given.key not in self._entries:
                self._entries[given.key] = Entry(*self._source.site(given), self._rule)
            return self._entries[given.key]


@dataclass(frozen=True, eq=False)
class Entry:
    """What calls of one signature are.

    paths: the arguments that are operands of the site. returns: the names of its first results, in the tuples in which calls give them.
    """

    site: Site
    paths: tuple[str, ...]
    returns: Any
    by_name: bool  # arguments that are written are given back in a dict
    rule: Rule | None

    def pack(self, outs: Sequence[Any]) -> Any:
        """What the function gives, of the results of the call."""
        names = (*self.site.returned, *self.site.written)
        return pack(dict(zip(names, outs, strict=True)), self.returns, self.site.written, by_name=self.by_name)

    @cached_property
    def with_rule(self) -> Any:
        """The call, with a derivative."""
        rule = self.rule
        assert rule is not None
        n_arrays = len(self.site.operands)

        def call(*operands: Any) -> list[Any]:
            return bind(self.site, list(operands))

        def forward(*operands: Any) -> Any:
            return run(*operands), operands  # which has a derivative again

        def backward(operands: tuple[Any, ...], cotangents: list[Any]) -> Any:
            found = _checked(self.site, rule(operands[:n_arrays], self.pack(cotangents)), operands[:n_arrays])
            return (*found, *(None for _ in self.site.sized))

        call.__name__ = repr(self.site)  # as it stands in a jaxpr
        run: Any = jax.custom_vjp(call)
        run.defvjp(forward, backward)
        return run


Rule = Callable[[tuple[Any, ...], Any], Any]


def _checked(site: Site, found: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a rule gives, if that is cotangents of its arguments. Raises TypeCheckError."""
    like = [(x.shape, x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else None for x in arguments]
    wrong = f"{type(found).__name__}" if not isinstance(found, (tuple, list)) else None
    if isinstance(found, (tuple, list)):
        got = [
            None if c is None or t is None else (jnp.shape(c), jnp.result_type(c))
            for c, t in zip(found, like, strict=False)
        ]
        want = [t if c is not None else None for c, t in zip(found, like, strict=False)]
        if len(found) != len(like) or got != want:
            shown = ("None" if c is None else f"{jnp.result_type(c)}{list(jnp.shape(c))}" for c in found)
            wrong = f"({', '.join(shown)})"
    if wrong is not None:
        raise TypeCheckError(
            *("PTO883", f"vjp= of workload {site} gives {wrong}"),
            values={"arguments": ", ".join(f"{x.dtype}{list(x.shape)}" for x in arguments)},
            loc=here(),
            fix="return a tuple with the cotangent of each argument, of its shape and dtype; None for integers and for zeros",
        )
    return tuple(found)


def _rule(label: str, vjp: object, options: dict[str, Any]) -> Rule | None:
    if not isinstance(vjp, WorkloadFunction):
        if vjp is not None and not callable(vjp):
            raise TraceError(
                *("PTO155", "vjp= is neither a function nor a workload function"),
                values={"got": repr(vjp)[:80]},
                loc=here(),
                fix="give a function of (arguments, cotangents), or a workload function",
            )
        return vjp
    of_vjp = as_jax(vjp, **options)

    def rule(arguments: tuple[Any, ...], cotangents: Any) -> tuple[Any, ...]:
        found = jax.tree.leaves(
            of_vjp(*arguments, *(c for c in jax.tree.leaves(cotangents) if c.dtype != jax.dtypes.float0))
        )
        floats = [jnp.issubdtype(x.dtype, jnp.inexact) for x in arguments]
        if len(found) != sum(floats):
            raise TypeCheckError(
                *(
                    "PTO883",
                    f"vjp= of workload {label} gives {len(found)} cotangents for {sum(floats)} arrays of floats",
                ),
                loc=here(),
                fix="return one for each of them, in order",
            )
        each = iter(found)
        return tuple(next(each) if is_float else None for is_float in floats)

    return rule


def _source(f: object, options: dict[str, Any]) -> OfFunction | OfProgram:
    for name in ("check", "resources"):
        if options.get(name) is not None:
            raise UnsupportedError(
                *("PTO881", f"as_jax has no option {name}="),
                loc=here(),
                fix=f"compile the workload by itself with {name}=, and run that",
            )
    if isinstance(f, WorkloadFunction):
        return OfFunction(f, options)
    if isinstance(f, Workload):
        return OfProgram(f.compile(**options), f.returns, options)
    if isinstance(f, Program):
        return OfProgram.of(f, options)
    raise TraceError(
        *("PTO155", "as_jax needs a workload function, a workload or a program"),
        values={"got": repr(f)[:80]},
        loc=here(),
        fix="give the function itself, as_jax(attention), and arrays to what it gives",
    )
