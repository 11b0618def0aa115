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


def lane_slice(
    x: jax.Array,
    lanes: Sequence[Any],
    starts: Sequence[Any],
    sizes: Sequence[int],
    along: Sequence[int],
    steps: Sequence[int],
) -> jax.Array:
    """`dynamic_slice` with `step * lane` more in dimension `dim`, for each lane. A lane is the number of an iteration, which under a `vmap` of ours counts
    0, 1, ...: what all of them take lies side by side, and is one slice."""
    at = [jnp.asarray(s, jnp.int32) for s in starts]
    x = varying(x, axes_of((*lanes, *at)))
    return lane_p.bind(x, *lanes, *at, sizes=tuple(sizes), along=tuple(along), steps=tuple(steps))


def _lane(x: Any, *args: Any, sizes: tuple[int, ...], along: tuple[int, ...], steps: tuple[int, ...]) -> Any:
    return slice_p.bind(x, *_starts(args, along, steps), sizes=sizes)


def _starts(args: Sequence[Any], along: tuple[int, ...], steps: tuple[int, ...]) -> list[Any]:
    """Where a slice begins, of the numbers of its lanes and what they are added to."""
    lanes, starts = args[: len(along)], list(args[len(along) :])
    for lane, dim, step in zip(lanes, along, steps, strict=True):
        starts[dim] = (starts[dim] + step * lane).astype(starts[dim].dtype)
    return starts


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
    args: Sequence[Any],
    of_args: Sequence[Any],
    *,
    sizes: tuple[int, ...],
    along: tuple[int, ...],
    steps: tuple[int, ...],
) -> tuple[Any, int]:
    (x, *rest), (d, *of_rest) = args, of_args
    many = [j for j, b in enumerate(of_rest) if b is not None]
    if d is None and len(many) == 1 and many[0] < len(along):
        (j,) = many
        dim, step, count = along[j], steps[j], rest[j].shape[0]
        others, by = (*along[:j], *along[j + 1 :]), (*steps[:j], *steps[j + 1 :])
        wide = (*sizes[:dim], step * count, *sizes[dim + 1 :])
        out = lane_p.bind(x, *rest[:j], *rest[j + 1 :], sizes=wide, along=others, steps=by)
        out = out.reshape(*sizes[:dim], count, step, *sizes[dim + 1 :])
        return lax.slice_in_dim(out, 0, sizes[dim], axis=dim + 1), dim
    if d is not None and not many:
        rest.insert(len(along) + d, jnp.zeros((), jnp.int32))
        sizes = (*sizes[:d], x.shape[d], *sizes[d:])
        return lane_p.bind(x, *rest, sizes=sizes, along=tuple(k + (d <= k) for k in along), steps=steps), d
    return jax.vmap(partial(_lane, sizes=sizes, along=along, steps=steps), in_axes=tuple(of_args))(*args), 0


def _jvp_lane(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    out, t = lane_p.bind(*primals, **params), tangents[0]
    return out, ad.Zero(jax.typeof(out).to_tangent_aval()) if type(t) is ad.Zero else lane_p.bind(
        t, *primals[1:], **params
    )


def _transpose_lane(
    ct: Any, x: Any, *args: Any, sizes: tuple[int, ...], along: tuple[int, ...], steps: tuple[int, ...]
) -> list[Any]:
    back = _transpose(ct, x, *_starts(args, along, steps), sizes=sizes)
    return [back[0], *(None for _ in args)]


lane_p.def_impl(jax.jit(_lane, static_argnames=("sizes", "along", "steps")))
lane_p.def_abstract_eval(_shaped)
mlir.register_lowering(lane_p, mlir.lower_fun(_lane, multiple_results=False))
batching.primitive_batchers[lane_p] = _batch_lane
ad.primitive_jvps[lane_p] = _jvp_lane
ad.primitive_transposes[lane_p] = _transpose_lane
batching.primitive_batchers[slice_p] = _batch
ad.primitive_jvps[slice_p] = _jvp
ad.primitive_transposes[slice_p] = _transpose
