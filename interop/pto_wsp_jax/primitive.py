"""The primitive that calls are in a jaxpr, and its rules."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.dispatch import prim_requires_devices_during_lowering
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pto_wsp.errors import TypeCheckError, UnsupportedError, here
from pto_wsp_jax.handler import TARGET
from pto_wsp_jax.sharding import abstract_results, lower_divided
from pto_wsp_jax.site import Site

call_p = Primitive("pto_call")
call_p.multiple_results = True
# JAX says which devices a program is lowered for only where a primitive asks, and has no public way to ask; custom_partitioning's own
# primitive, into which `lower_divided` makes this one, does it the same way.
prim_requires_devices_during_lowering.add(call_p)


def bind(site: Site, operands: list[Any]) -> list[Any]:
    """The results of a call, of its operands and sizes."""
    return call_p.bind(*operands, *site.call.constants, site=site)


def _call(*operands: Any, site: Site) -> list[Any]:
    return call_p.bind(*operands, site=site)


@cache
def _jitted() -> Any:
    return jax.jit(_call, static_argnames="site")


@call_p.def_impl
def _run(*operands: Any, site: Site) -> Any:
    with jax.disable_jit(False):  # under disable_jit this is what is called at last
        return _jitted()(*operands, site=site)


call_p.def_abstract_eval(abstract_results)


def _lower(ctx: Any, *operands: Any, site: Site) -> Any:
    divided = lower_divided(ctx, *operands, site=site, call=_call)
    if divided is not None:
        return divided
    rule = jax.ffi.ffi_lowering(TARGET, operand_output_aliases=dict(site.call.aliases))
    return rule(ctx, *operands, **site.call.attributes)


def _no_lowering(ctx: Any, *operands: Any, site: Site) -> Any:
    raise UnsupportedError(
        *("PTO882", f"workload {site} runs on CPUs alone"),
        loc=here(),
        fix='jax.device_put its arguments to jax.devices("cpu")[0], or jit it for that device',
    )


mlir.register_lowering(call_p, _no_lowering)
mlir.register_lowering(call_p, _lower, platform="cpu")


def _batch(args: tuple[Any, ...], dims: tuple[Any, ...], *, site: Site) -> tuple[list[Any], list[int]]:
    own, n_sized = len(site.operands), len(site.sized)
    if any(d is not None for d in dims[own : own + n_sized]):
        return _one_by_one(args, dims, site)
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    values, axes = list(args[:own]), list(dims[:own])
    for i in site.call.aliases:  # what is written has an example each
        if axes[i] is None:
            values[i], axes[i] = jnp.broadcast_to(values[i], (size, *values[i].shape)), 0
    at = {n: d for n, d in zip(site.operands, axes, strict=True) if d is not None}
    outs = bind(site.batched(at, size), [*values, *args[own : own + n_sized]])
    # An argument that is written keeps its axis where it was.
    return outs, [0] * len(site.returned) + [at.get(n, 0) for n in site.written]


def _one_by_one(args: tuple[Any, ...], dims: tuple[Any, ...], site: Site) -> tuple[list[Any], list[int]]:
    """Calls one after another: a size that each example has for itself is no size of one workload."""
    mapped = [jnp.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True) if d is not None]

    def one(parts: list[Any]) -> list[Any]:
        rest = iter(parts)
        return call_p.bind(*(x if d is None else next(rest) for x, d in zip(args, dims, strict=True)), site=site)

    outs = jax.lax.map(one, mapped)
    return outs, [0] * len(outs)


batching.primitive_batchers[call_p] = _batch


def _no_derivative(primals: Any, tangents: Any, *, site: Site) -> Any:
    raise TypeCheckError(
        *("PTO883", f"workload {site} has no derivative: kernels are not differentiated"),
        loc=here(),
        fix="as_jax(..., vjp=rule) with a function or a workload of your own, lower_to_jax, which JAX differentiates, or jax.lax.stop_gradient "
        "around its arguments",
    )


ad.primitive_jvps[call_p] = _no_derivative
