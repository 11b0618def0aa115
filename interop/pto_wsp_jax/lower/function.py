"""`lower_to_jax`: workload functions as functions of JAX arrays, by operations of JAX alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pto_wsp.api.workload import Workload, WorkloadFunction
from pto_wsp.errors import TraceError, TypeCheckError, UnsupportedError, here
from pto_wsp.ir.core import Axis, Wir
from pto_wsp.ir.tasks import LOOPS
from pto_wsp.trace.builder import innermost_workload
from pto_wsp_jax.call import Entry
from pto_wsp_jax.lower import wirs
from pto_wsp_jax.lower.numbers import has_64_bits
from pto_wsp_jax.meshes import is_on_mesh, on_devices
from pto_wsp_jax.signature import static_shape
from pto_wsp_jax.site import Site
from pto_wsp_jax.sources import OfFunction, OfProgram


def lower_to_jax(
    f: WorkloadFunction | Workload,
    *,
    bound: int | Mapping[str, int] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Callable[..., Any]:
    """A function of JAX arrays that computes what workload `f` does with plain operations of JAX: on any device that XLA has, under every
    transformation, `jax.grad` among them.

        loss = lambda x: lower_to_jax(rmsnorm)(x).sum()
        dx = jax.jit(jax.grad(loss))(x)

    Arguments and what it gives are as `as_jax` has them. A `P` loop whose iterations have parts of what is written to themselves is computed at
    once, as by `jax.vmap`; another loop is a `lax.scan`; a loop as often as data says is one up to the most that fits the tensors, of which
    those that do not count do nothing.
    mesh: as of `as_jax`, for a workload with layouts.
    bound: the most iterations of loops as often as data says: a number, or numbers by the names of axes or loops. What lies beyond is left
    out. Where nobody knows the most, a loop is a `lax.while_loop`, whose reverse derivative is an UnsupportedError that names it.

    Numbers agree with those of a run within the bounds of the operations (docs/jax.md), not bit for bit. What is an error of a run, as an index outside of a
    tensor, gives some number here. Raises UnsupportedError for what has no form in JAX, naming it.
    """
    most = dict(bound) if isinstance(bound, Mapping) else {} if bound is None else {"": bound}
    _check_numbers(most)
    if is_on_mesh(f, mesh):
        _check_names(most, f.wir)
        return on_devices(
            f, mesh, ("lower_to_jax", str(bound)), lambda w: lower_to_jax(w, bound=_of_loops_in(w.wir, most))
        )
    source: OfFunction | OfProgram
    if isinstance(f, WorkloadFunction):
        source = OfFunction(f, {})
    elif isinstance(f, Workload):
        source = OfProgram(f.compile(), f.returns, {})
    else:
        raise TraceError(
            *("PTO155", "lower_to_jax needs a workload function or a workload"),
            values={"got": repr(f)[:80]},
            loc=here(),
            fix="give the function itself, lower_to_jax(attention), and arrays to what it gives",
        )
    if isinstance(f, Workload):
        _check_names(most, f.wir)
    return LoweredFunction(source, most)


def _check_numbers(bounds: Mapping[str, Any]) -> None:
    for name, n in bounds.items():
        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise TypeCheckError(
                *("PTO887", f"bound of {name or 'loops'} is {n!r}"),
                loc=here(),
                fix="give how many iterations there are at most, a Python integer of 0 or more",
            )


def _loops_in(wir: Wir) -> list[str]:
    """The names of its loops and of their axes, in order."""
    loops = (e.params for top in wir.body.eqns for e in top.walk() if e.prim in LOOPS)
    names = (n for p in loops if isinstance(p["axis"], Axis) for n in (p["axis"].name, str(p["loop"])))
    return list(dict.fromkeys(names))


def _of_loops_in(wir: Wir, bounds: Mapping[str, int]) -> dict[str, int]:
    return {n: most for n, most in bounds.items() if n in ("", *_loops_in(wir))}


def _check_names(bounds: Mapping[str, int], wir: Wir) -> None:
    """Raise TypeCheckError for bounds of loops that there are not."""
    known = _of_loops_in(wir, bounds)
    unknown = next((n for n in bounds if n not in known), None)
    if unknown is not None:
        raise TypeCheckError(
            *("PTO887", f"bound of {unknown}, but no loop or axis of workload {wir.name} is called so"),
            values={"loops and axes": ", ".join(_loops_in(wir)) or "none"},
            loc=here(),
            fix="name a loop by its axis, or by its variable; a number alone is the bound of all",
        )


class LoweredFunction:
    """What `lower_to_jax` gives. Any threads may call it."""

    def __init__(self, source: OfFunction | OfProgram, bounds: Mapping[str, int]) -> None:
        self._source, self._bounds = source, bounds
        self._lock = threading.Lock()
        self._entries: dict[object, tuple[Entry, Any]] = {}
        self.__name__ = source.label
        self.__doc__ = source.doc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if innermost_workload() is not None:
            raise UnsupportedError(
                *("PTO881", f"a function of JAX arrays, {self.__name__}, called inside of a workload"),
                loc=here(),
                fix=f"call the workload function {self.__name__} itself",
            )
        given = self._source.given(args, kwargs)
        key = (given.key, has_64_bits())
        with self._lock:
            if key not in self._entries:
                entry = Entry(*self._source.site(given), None)
                _check_names(self._bounds, entry.site.wir)
                self._entries[key] = entry, _jitted(entry.site, self._bounds)
            entry, run = self._entries[key]
        return entry.pack(run([given.operands[p] for p in entry.paths]))

    def __repr__(self) -> str:
        return f"<function of JAX arrays, workload {self.__name__} in operations of JAX>"


def _jitted(site: Site, bounds: Mapping[str, int]) -> Any:
    """The results of a site of its operands."""
    bound, wir = site.program.bindings, wirs.lowered(site.wir)
    used = {v.name for v in wir.tensors}
    known = {n: size for n, size in bound.sizes.items() if n not in site.sized}
    constants = {n: np.array(bound.arrays[n]) for n in site.constants}  # what they are now

    def run(operands: list[Any]) -> list[Any]:
        arrays = dict(zip(site.operands, operands, strict=False))
        sizes = known | dict(zip(site.sized, operands[len(arrays) :], strict=True))
        for n in site.fresh:
            t = bound.types[n]
            arrays[n] = jnp.zeros(static_shape(n, t, known, str(site)), t.dtype.numpy)
        arrays |= constants
        out = arrays | wirs.evaluate(wir, {n: a for n, a in arrays.items() if n in used}, sizes, bounds=bounds)
        return [out[n] for n in (*site.returned, *site.written)]

    return jax.jit(run, inline=True)
