"""The arguments of one call: what stands for them while a workload is traced; and in which form a call gives what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pto_wsp.api.jit import Signature
from pto_wsp.errors import TypeCheckError, UnsupportedError, here
from pto_wsp.ir.core import DType, TensorType
from pto_wsp.trace.functional import leaves, tree_map
from pto_wsp.trace.tensor import TensorSpec


class Operand(TensorSpec):
    """What stands for one array while a workload is traced."""


class JaxSignature(Signature):
    """The arguments of one call, by path: arrays are operands, a jax.ShapeDtypeStruct is new memory, the rest steers tracing."""

    def __init__(self) -> None:
        super().__init__()
        self.operands: dict[str, jax.Array] = {}
        self.fresh: dict[str, jax.ShapeDtypeStruct] = {}

    @property
    def values(self) -> object:
        """Those of axes: here they are of the signature."""
        return tuple((p, _hashable(v)) for p, v in sorted(self.sizes.items()))

    def leaf(self, x: Any, path: str) -> Any:
        """What the workload is traced with in the place of argument `x`."""
        if isinstance(x, jax.ShapeDtypeStruct):
            self.fresh[path] = x
        elif isinstance(x, (jax.Array, np.ndarray)):
            self.operands[path] = x = jnp.asarray(x)
        else:
            return super().leaf(x, path)
        spec = Operand(x.shape, dtype_of(x, path))
        self.tensors[path] = spec
        self.note((path, "memory" if path in self.fresh else "array", x.shape, spec.dtype))
        return spec


def dtype_of(x: Any, path: str) -> DType:
    """Ours of an array. Raises TypeCheckError where there is none."""
    dtype = next((d for d in DType if d.numpy == x.dtype), None)
    if dtype is None:
        raise TypeCheckError(
            *("PTO502", f"argument {path} holds {x.dtype}"),
            loc=here(),
            fix=f"convert it: one of {', '.join(map(str, DType))}",
        )
    return dtype


def static_shape(name: str, t: TensorType, sizes: Mapping[str, int], workload: str) -> tuple[int, ...]:
    """The shape of a tensor that JAX makes. Raises UnsupportedError where it depends on a size that is a traced value, which is not in `sizes`."""
    env = {"$" + n: size for n, size in sizes.items()}
    for n in (n[1:] for d in t.shape for n in sorted(d.names()) if n not in env):
        raise UnsupportedError(
            *("PTO881", f"the shape of {name} of workload {workload} depends on {n}, which is a traced value"),
            values={name: t},
            loc=here(),
            fix=f"give {n} as a number: shapes are static in JAX",
        )
    return tuple(d.value(env) for d in t.shape)


def _hashable(x: Any) -> object:
    if isinstance(x, tuple):
        return tuple(map(_hashable, x))
    return (x.shape, x.dtype.str, x.tobytes()) if isinstance(x, np.ndarray) else x


def pack(arrays: Mapping[str, Any], returns: Any, written: Sequence[str], *, by_name: bool) -> Any:
    """What a function of arrays gives: what it returns, those of its arguments that it writes, or both."""
    returned = tree_map(lambda n, _: None if n is None else arrays[n], returns, "")
    changed = {n: arrays[n] for n in written}
    if not changed:
        return returned
    given = next(iter(changed.values())) if len(changed) == 1 else changed if by_name else tuple(changed.values())
    return given if not any(n is not None for n in leaves(returns)) else (returned, given)
