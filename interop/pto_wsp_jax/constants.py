"""What stands for variables and constants of a jaxpr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import DType
from pto_wsp_jax.arrays import Array, Shape, number
from pto_wsp_jax.stacks import Wide

Held = Wide | np.ndarray[Any, Any]
"""What a variable stands for: an array of the kernel, or one that no kernel holds, which may go unused."""


def dtype_of(dtype: Any) -> DType | None:
    """Ours, where there is one."""
    return next((d for d in DType if d.numpy == dtype), None)


def aval_of(aval: Any) -> tuple[Shape, DType]:
    """Shape and dtype of what a variable of a jaxpr stands for. Raises UnsupportedError where tiles have no such dtype."""
    dtype = dtype_of(getattr(aval, "dtype", None))
    if dtype is None:
        raise UnsupportedError(
            *("PTO888", f"a kernel has no values of {aval.str_short()}"),
            loc=here(),
            fix=f"use one of {', '.join(map(str, DType))}",
        )
    return tuple(aval.shape), dtype


def constant(x: Any, aval: Any) -> Array | np.ndarray[Any, Any]:
    """A constant of a jaxpr: a number, everywhere, or else the array itself, which no kernel holds."""
    if isinstance(x, Tracer):
        raise UnsupportedError(
            *("PTO889", "the function uses a traced value of the JAX program around it"),
            values={"value": aval.str_short()},
            loc=here(),
            fix="make it an argument of the function, which the workload gives",
        )
    shape, dtype = aval_of(aval)
    array = np.asarray(x)
    first = array.reshape(-1)[0]
    if array.ndim and not (array == first).all() and not np.isnan(array.astype(np.float64)).all():
        return array
    return Array(number(first, dtype), shape, dtype)


def read(env: Mapping[Any, Held], x: Any) -> Wide:
    """What an operand of an equation stands for."""
    a = constant(x.val, x.aval) if isinstance(x, Literal) else env[x]
    if isinstance(a, Wide):
        return a
    raise UnsupportedError(
        *("PTO889", f"the function uses an array that is no argument of it: {x.aval.str_short()}"),
        loc=here(),
        fix="make it an argument, which the workload gives: a kernel holds no arrays but those whose elements are all one number",
    )
