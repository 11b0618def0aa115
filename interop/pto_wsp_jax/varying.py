"""Values that differ between the devices of a `shard_map`, as the types of JAX have it.

Inside of `shard_map` the type of an array says over which axes of the mesh it varies, and what a loop carries and what the branches of a `cond` give must
agree in that. All that is given varies over the axes over which any of it does from the start, and so does memory and what is carried. Outside, and with
check_vma=False, there are no such axes, and nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
from jax import lax
from jax.core import Tracer

Axes = frozenset[str]


def axes_of(values: Iterable[Any]) -> Axes:
    """The axes over which any of these values varies."""
    return frozenset(a for x in values if isinstance(x, Tracer) for a in axes_of_type(jax.typeof(x)))


def axes_of_type(t: Any) -> Axes:
    """The axes over which values of this type vary."""
    return t.manual_axis_type.varying if hasattr(t, "manual_axis_type") else t.vma


def alike(values: list[Any]) -> list[Any]:
    """All of them varying over the same axes."""
    axes = axes_of(values)
    return [varying(x, axes) for x in values] if axes else values


def varying(x: Any, axes: Axes) -> Any:
    """x, which varies over these axes too. Its derivative is summed over those that are added."""
    if not axes:
        return x
    missing = tuple(sorted(axes - axes_of_type(jax.typeof(x))))
    if not missing:
        return x
    jax_lax: Any = lax
    return jax_lax.pcast(x, missing, to="varying") if hasattr(lax, "pcast") else jax_lax.pvary(x, missing)
