"""A wir as a function of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import DType, Role, Wir
from pto_wsp.ir.tasks import slot_types
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.expand import expand
from pto_wsp_jax.lower import numbers, workload
from pto_wsp_jax.lower.views import Part
from pto_wsp_jax.varying import Axes, axes_of, varying


def lowered(wir: Wir) -> Wir:
    """What `evaluate` takes: kernels in leaf operations."""
    return canonicalize(expand(canonicalize(wir)))


def evaluate(
    wir: Wir,
    arrays: Mapping[str, Any],
    sizes: Mapping[str, Any],
    slots: Mapping[int, Any] | None = None,
    bounds: Mapping[str, int] | None = None,
) -> dict[str, jax.Array]:
    """What each tensor that a user has or gets holds in the end, by name. arrays: those that are given, and sizes of symbols; numpy arrays and
    numbers are known, JAX's are traced."""
    axes = axes_of((*arrays.values(), *sizes.values()))
    env: dict[str, Any] = {"$" + n: _size(sizes[n], axes) for n in wir.symbols}
    parts: dict[str, Part] = {}
    for v in wir.tensors:
        t = wir.tensor_type(v.name)
        if t.role is Role.GIVEN:
            parts[v.name] = _given(arrays[v.name], axes)
        else:
            shape = [numbers.value_of(d, env) for d in t.shape]
            if any(isinstance(n, numbers.Int) for n in shape):
                raise UnsupportedError(
                    *("PTO885", f"the shape of {v.name} depends on a traced size: it has no form in JAX"),
                    values={v.name: t},
                    loc=here(),
                    fix="give a number: shapes are static in JAX",
                )
            parts[v.name] = Part.whole(varying(jnp.zeros(shape, numbers.traced_dtype(t.dtype)), axes))
    zero = {DType.F64: 0.0, DType.BOOL: False}
    of_slots = {s: zero.get(t, 0) for s, t in slot_types(wir).items()} | dict(slots or {})
    frame = workload.Frame(wir, bounds or {}, env, parts, of_slots, axes)
    workload.run(wir.body, frame)
    return {n: p.array for n, p in frame.parts.items() if wir.tensor_type(n).role is not Role.TEMPORARY}


def _size(x: Any, axes: Axes) -> int | numbers.Int:
    return numbers.Int(varying(x, axes), 0) if isinstance(x, jax.Array) else int(x)


def _given(x: Any, axes: Axes) -> Part:
    known = isinstance(x, np.ndarray) and x.dtype.kind in "iu" and x.size > 0
    limits = (int(x.min()), int(x.max())) if known else (-numbers.INF, numbers.INF)
    return Part.whole(varying(jnp.asarray(x), axes), limits)
