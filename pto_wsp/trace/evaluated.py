"""The arguments of a kernel that runs in the reference evaluator, and the debugger while it is traced."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from pto_wsp.errors import BindError, BoundsError, TypeCheckError, here
from pto_wsp.ir.core import SHORT_DTYPES, Direction, DType, RegionType, TileType
from pto_wsp.ir.rounding import Array, round_integer, round_to
from pto_wsp.ops.value import is_number
from pto_wsp.trace.annotations import ConstexprParam, ParamSpec, ScalarParam


def arrays_of(
    label: str, specs: Mapping[str, ParamSpec], given: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, TileType]]:
    """Arrays of tiles and regions and rounded scalars by name, and the types of bare tensors, which are those of their arrays."""
    arrays: dict[str, Array] = {}
    types: dict[str, TileType] = {}
    for name, spec in specs.items():
        x = given[name]
        if isinstance(spec, ConstexprParam):
            continue
        if isinstance(spec, ScalarParam):
            arrays[name] = _scalar(label, name, spec.dtype, x)
            continue
        array = arrays[name] = _array(label, name, x)
        if spec.direction is not Direction.IN and not array.flags.writeable:
            raise BindError(
                *("PTO505", f"kernel {label} writes {name}, but its array is read-only"),
                loc=here(),
                fix="give a writable array, such as array.copy()",
            )
        if spec.type is None:
            types[name] = TileType(_dtype(array), *_shape(label, name, array))
        else:
            _check(label, name, spec.type, array)
    return arrays, types


def _array(label: str, name: str, x: Any) -> Array:
    if not isinstance(x, np.ndarray):
        raise _misfit("PTO142", label, name, f"is {type(x).__name__}", "give a numpy array")
    return x


def _misfit(code: str, label: str, name: str, what: str, fix: str) -> TypeCheckError:
    return TypeCheckError(code, f"kernel {label}, argument {name}: {what}", loc=here(), fix=fix)


def _dtype(array: Array) -> DType:
    return next((d for d in SHORT_DTYPES.values() if d.numpy == array.dtype), DType.F64)


def _shape(label: str, name: str, array: Array) -> tuple[int, int]:
    if array.ndim != 2:
        raise _misfit("PTO144", label, name, f"has {array.ndim} dimensions", "a tile has two: x.reshape(rows, cols)")
    return array.shape[0], array.shape[1]


def _check(label: str, name: str, t: TileType | RegionType, array: Array) -> None:
    if array.dtype != t.dtype.numpy:
        raise _misfit("PTO143", label, name, f"holds {array.dtype}", f"give an array of {t.dtype}")
    if isinstance(t, RegionType):
        fits = array.ndim == len(t.shape) and all(n in (None, m) for n, m in zip(t.shape, array.shape, strict=True))
    else:
        fits = array.ndim == 2 and 1 <= array.shape[0] <= t.rows and 1 <= array.shape[1] <= t.cols
    if not fits:
        raise _misfit("PTO144", label, name, f"has shape {array.shape}", f"give an array that fits {t}")


def _scalar(label: str, name: str, dtype: DType, x: Any) -> Array:
    value = x.item() if isinstance(x, np.generic) else x
    fits = isinstance(value, bool) is (dtype is DType.BOOL) and not (isinstance(value, float) and not dtype.is_float)
    if not is_number(value) or not fits:
        raise _misfit("PTO142", label, name, f"is {type(x).__name__}", f"give a number that {dtype} holds")
    try:
        return round_integer(dtype, value) if isinstance(value, int) else round_to(dtype, np.asarray(value))
    except BoundsError as e:
        e.loc = here()
        raise


@contextmanager
def undisturbed() -> Generator[None]:
    """The debugger is not called inside: neither by its breakpoints, nor by breakpoint()."""
    tracer, hook = sys.gettrace(), sys.breakpointhook
    sys.settrace(None)
    sys.breakpointhook = lambda *args, **kwargs: None
    try:
        yield
    finally:
        sys.breakpointhook = hook
        sys.settrace(tracer)
