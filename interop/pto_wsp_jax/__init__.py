"""Workloads inside of JAX programs."""

from __future__ import annotations

from pto_wsp_jax.call import as_jax
from pto_wsp_jax.handler import TARGET, register
from pto_wsp_jax.lower.function import lower_to_jax

__all__ = ["TARGET", "as_jax", "lower_to_jax", "register"]
