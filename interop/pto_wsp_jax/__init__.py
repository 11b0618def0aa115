"""Workloads inside of JAX programs, and kernels of JAX functions."""

from __future__ import annotations

from pto_wsp.errors import UnsupportedImportError, here

try:
    from pto_wsp_jax.call import as_jax
    from pto_wsp_jax.handler import TARGET, register
    from pto_wsp_jax.kernels import kernel_from_jax
    from pto_wsp_jax.lower.function import lower_to_jax
    from pto_wsp_jax.meshes import named_sharding, tensor_layout
except ModuleNotFoundError as e:
    if e.name not in ("jax", "jaxlib"):
        raise
    raise UnsupportedImportError(
        *("PTO880", f"pto_wsp_jax needs {e.name}, which is not installed"),
        loc=here(),
        fix="pip install 'pto_wsp[jax]', or in a checkout pip install '.[jax]'",
    ) from e

__all__ = ["TARGET", "as_jax", "kernel_from_jax", "lower_to_jax", "named_sharding", "register", "tensor_layout"]
