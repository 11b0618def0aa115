"""Slices from a place that is traced.

`lax.dynamic_slice` under `vmap` becomes a gather, which moves the batched dimension to the front: of a cache, all of it, for one page. This one
leaves it where it is, as long as the place is the same for the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pto_wsp_jax.varying import axes_of, varying

slice_p = Primitive("pto_slice")


def dynamic_slice(x: jax.Array, starts: Sequence[Any], sizes: Sequence[int]) -> jax.Array:
    """`sizes` elements of each dimension from `starts` on; the slice lies inside of x, or is moved to where it does."""
    at = [jnp.asarray(s, jnp.int32) for s in starts]
    return slice_p.bind(varying(x, axes_of(at)), *at, sizes=tuple(sizes))


lane_p = Primitive("pto_lane")


def lane_slice(x: jax.Array, lane: Any, starts: Sequence[Any], sizes: Sequence[int], dim: int, step: int) -> jax.Array:
    """`dynamic_slice` with `step * lane` more in dimension `dim`. lane: the number of an iteration, which under a `vmap` of ours counts 0, 1, ...: what
    all of them take lies side by side, and is one slice."""
    at = [jnp.asarray(s, jnp.int32) for s in starts]
    x = varying(x, axes_of((lane, *at)))
    return lane_p.bind(x, lane, *at, sizes=tuple(sizes), dim=dim, step=step)


def _lane(x: Any, lane: Any, *starts: Any, sizes: tuple[int, ...], dim: int, step: int) -> Any:
    at = (starts[dim] + step * lane).astype(starts[dim].dtype)
    return slice_p.bind(x, *starts[:dim], at, *starts[dim + 1 :], sizes=sizes)


def _shaped(x: Any, *_: Any, sizes: tuple[int, ...], **params: Any) -> Any:
    return x.update(shape=sizes, weak_type=False)


def _slice(x: Any, *starts: Any, sizes: tuple[int, ...]) -> Any:
    return lax.dynamic_slice(x, starts, sizes)


slice_p.def_impl(jax.jit(_slice, static_argnames=("sizes",)))
slice_p.def_abstract_eval(_shaped)
mlir.register_lowering(slice_p, mlir.lower_fun(_slice, multiple_results=False))


def _batch(args: Sequence[Any], dims: Sequence[Any], *, sizes: tuple[int, ...]) -> tuple[Any, int]:
    (x, *starts), (d, *of_starts) = args, dims
    if d is not None and all(s is None for s in of_starts):
        starts.insert(d, jnp.zeros((), starts[0].dtype))
        return slice_p.bind(x, *starts, sizes=(*sizes[:d], x.shape[d], *sizes[d:])), d
    return jax.vmap(partial(_slice, sizes=sizes), in_axes=tuple(dims))(*args), 0


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, sizes: tuple[int, ...]) -> tuple[Any, Any]:
    x, *starts = primals
    out = slice_p.bind(x, *starts, sizes=sizes)
    t = tangents[0]
    return out, ad.Zero(jax.typeof(out).to_tangent_aval()) if type(t) is ad.Zero else slice_p.bind(
        t, *starts, sizes=sizes
    )


def _transpose(ct: Any, x: Any, *starts: Any, sizes: tuple[int, ...]) -> list[Any]:
    if type(ct) is ad.Zero:
        return [ad.Zero(x.aval), *(None for _ in starts)]
    back = lax.dynamic_update_slice(jnp.zeros(x.aval.shape, ct.dtype), ct, starts)
    return [back, *(None for _ in starts)]


def _batch_lane(
    args: Sequence[Any], dims: Sequence[Any], *, sizes: tuple[int, ...], dim: int, step: int
) -> tuple[Any, int]:
    (x, lane, *starts), (d, of_lane, *of_starts) = args, dims
    if d is None and of_lane is not None and all(s is None for s in of_starts):
        count = lane.shape[0]
        out = slice_p.bind(x, *starts, sizes=(*sizes[:dim], step * count, *sizes[dim + 1 :]))
        out = out.reshape(*sizes[:dim], count, step, *sizes[dim + 1 :])
        return lax.slice_in_dim(out, 0, sizes[dim], axis=dim + 1), dim
    if d is not None and of_lane is None and all(s is None for s in of_starts):
        starts.insert(d, jnp.zeros((), starts[0].dtype))
        sizes = (*sizes[:d], x.shape[d], *sizes[d:])
        return lane_p.bind(x, lane, *starts, sizes=sizes, dim=dim + (d <= dim), step=step), d
    return jax.vmap(partial(_lane, sizes=sizes, dim=dim, step=step), in_axes=tuple(dims))(*args), 0


def _jvp_lane(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    out, t = lane_p.bind(*primals, **params), tangents[0]
    return out, ad.Zero(jax.typeof(out).to_tangent_aval()) if type(t) is ad.Zero else lane_p.bind(
        t, *primals[1:], **params
    )


def _transpose_lane(ct: Any, x: Any, lane: Any, *starts: Any, sizes: tuple[int, ...], dim: int, step: int) -> list[Any]:
    at = (starts[dim] + step * lane).astype(starts[dim].dtype)
    return [*_transpose(ct, x, *starts[:dim], at, *starts[dim + 1 :], sizes=sizes), None]


lane_p.def_impl(jax.jit(_lane, static_argnames=("sizes", "dim", "step")))
lane_p.def_abstract_eval(_shaped)
mlir.register_lowering(lane_p, mlir.lower_fun(_lane, multiple_results=False))
batching.primitive_batchers[lane_p] = _batch_lane
ad.primitive_jvps[lane_p] = _jvp_lane
ad.primitive_transposes[lane_p] = _transpose_lane
batching.primitive_batchers[slice_p] = _batch
ad.primitive_jvps[slice_p] = _jvp
ad.primitive_transposes[slice_p] = _transpose
