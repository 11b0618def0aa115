"""Values of ragged and sparse axes: taken from what users have, and checked before anything runs."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pto_wsp.errors import BindError, here
from pto_wsp.ir.core import DataAxis, DType
from pto_wsp.trace.tensor import array_of

PARTS = {"Ragged": ("lengths",), "Sparse": ("indptr", "indices")}
_ADDRESS_DTYPES = (DType.I32, DType.I64, DType.U64)


def hidden_tensors(axis: DataAxis) -> tuple[str, ...]:
    """The names that tensors of `axis` have where the user gave no tensor: `seq.lengths`."""
    own = tuple(f"{axis.name}.{part}" for part in PARTS[axis.kind])
    return tuple(t for t in axis.tensors if t in own)


def integers(data: Any, what: str) -> np.ndarray:
    """`data` (an array, a sequence or a buffer of integers) as an i64 array of its own. Raises BindError."""
    array = (
        np.asarray(data) if isinstance(data, Sequence) and not isinstance(data, (str, bytes)) else _array(data, what)
    )
    if array.size == 0 and isinstance(data, Sequence):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise BindError(
            *("PTO502", f"{what} are {array.dtype}, not integers"),
            values={"got": repr(data)[:80]},
            loc=here(),
            fix="give integers",
        )
    out = np.array(array, dtype=np.int64, order="C")
    if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
        raise BindError("PTO511", f"{what} reach {array.max()}", loc=here(), fix="give integers below 2^63")
    return out


def _array(data: Any, what: str) -> np.ndarray:
    """Arrays, and objects with the buffer protocol."""
    if not hasattr(data, "__array_interface__") and not hasattr(data, "__dlpack__"):
        try:
            return np.asarray(memoryview(data))
        except (TypeError, ValueError):
            pass  # array_of says what is wrong with it
    return array_of(data, what)


def at_address(address: int, name: str, size: object, dtype: object, unsafe: object) -> np.ndarray:
    """The array of `size` integers at `address`. Raises BindError unless the caller takes the risk on himself."""
    number = isinstance(size, (int, np.integer)) and not isinstance(size, bool) and 0 <= size < 2**40
    if unsafe is not True or not number or dtype not in _ADDRESS_DTYPES or address <= 0:
        raise BindError(
            "PTO518",
            f"symbol {name!r} is given an address without saying what is there",
            values={"address": address, "size": size, "dtype": dtype, "unsafe": unsafe},
            loc=here(),
            fix="give an array; or size= (elements), dtype= (DType.I32, I64 or U64) and unsafe=True",
        )
    assert isinstance(dtype, DType)
    assert isinstance(size, (int, np.integer))
    memory = (ctypes.c_char * (int(size) * dtype.itemsize)).from_address(address)
    return np.frombuffer(memoryview(memory), dtype=dtype.numpy)


def check_values(axis: DataAxis, arrays: Mapping[str, np.ndarray], outer: int | None, inner: int | None) -> None:
    """Raise BindError for values that no axis has. `outer` and `inner`: the sizes, where they are known already; `arrays`: those of
    the axis's tensors that are known. What tasks write is not checked here but when it is read."""
    values = [arrays.get(t) for t in axis.tensors]
    for part, a in zip(PARTS[axis.kind], values, strict=True):
        if a is not None and a.ndim != 1:
            code = "PTO513" if axis.kind == "Ragged" else "PTO514"
            _refuse(code, axis, f"{part} have {a.ndim} dimensions", "give one number after the other", part, a)
    if axis.kind == "Ragged":
        _check_lengths(axis, values[0], outer)
    else:
        _check_pointers(axis, values[0], outer)
        _check_indices(axis, values[0], values[1], inner)


def _check_lengths(axis: DataAxis, lengths: np.ndarray | None, outer: int | None) -> None:
    if lengths is None:
        return
    if outer is not None and len(lengths) != outer:
        what = f"there are {len(lengths)} lengths for an outer axis of {outer}"
        _refuse("PTO513", axis, what, "give one length for each index of the outer axis", "lengths", lengths)
    if len(lengths) and lengths.min() < 0:
        i = int(lengths.argmin())
        _refuse("PTO513", axis, f"length {i} is {lengths[i]}", "give lengths of 0 or more", "lengths", lengths)


def _check_pointers(axis: DataAxis, indptr: np.ndarray | None, outer: int | None) -> None:
    if indptr is None:
        return
    if len(indptr) == 0 or (outer is not None and len(indptr) != outer + 1):
        what = f"indptr has {len(indptr)} elements for an outer axis of {'any size' if outer is None else outer}"
        _refuse("PTO514", axis, what, "give one element more than the outer axis has", "indptr", indptr)
    down = indptr[1:] < indptr[:-1]
    if down.any() or indptr[0] < 0:
        i = int(down.argmax()) if down.any() else -1
        what = f"indptr[{i + 1}] is {indptr[i + 1]}, less than {indptr[i] if i >= 0 else 0}"
        _refuse("PTO514", axis, what, "begin an indptr at 0 and let it never decrease", "indptr", indptr)


def _check_indices(axis: DataAxis, indptr: np.ndarray | None, indices: np.ndarray | None, inner: int | None) -> None:
    if indices is None:
        return
    if indptr is not None and indptr[-1] > len(indices):
        what = f"indptr reaches {indptr[-1]}, but there are {len(indices)} indices"
        _refuse("PTO514", axis, what, "end the indptr at the number of indices", "indptr", indptr)
    if not len(indices):
        return
    low, high = indices.min(), indices.max()
    if low < 0 or (inner is not None and high >= inner):
        i = int(indices.argmin() if low < 0 else indices.argmax())
        what = f"indices[{i}] is {indices[i]}, outside of 0 .. {'' if inner is None else inner - 1}".rstrip()
        _refuse("PTO514", axis, what, "give indices of 0 or more, below the inner size", "indices", indices)


def _refuse(code: str, axis: DataAxis, what: str, fix: str, part: str, array: np.ndarray) -> None:
    shown = np.array2string(array, threshold=16, max_line_width=10**6)
    raise BindError(code, f"axis {axis.name}: {what}", values={part: shown}, loc=here(), fix=fix)
