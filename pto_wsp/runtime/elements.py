"""The elements that views mean for given values of variables, computed in Python's integers, apart from the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pto_wsp.ir.core import At, Gather, Slice, Span, TileAt, View, ViewDim

Array = np.ndarray[Any, Any]
Range = range | Array
"""The indices that a view takes of one dimension, in its order."""


class OutOfBounds(Exception):
    """A dimension of a view reaches outside of its tensor. `dim` is of `view`, which may be the index view of a gather."""

    def __init__(self, view: View, dim: int, reached: str, size: int) -> None:
        super().__init__(view, dim, reached, size)
        self.view, self.dim, self.reached, self.size = view, dim, reached, size


def indices(view: View, env: Mapping[str, int], arrays: Mapping[str, Array]) -> list[Range]:
    """For each dimension of `view` the indices it takes; one for a plain index. Raises OutOfBounds."""
    shape = arrays[view.tensor].shape
    return [_indices(view, k, d, size, env, arrays) for k, (d, size) in enumerate(zip(view.dims, shape, strict=True))]


def _indices(view: View, k: int, d: ViewDim, size: int, env: Mapping[str, int], arrays: Mapping[str, Array]) -> Range:
    match d:
        case At():
            first = d.index.value(env)
            last = first + 1
        case Slice():
            first = d.start.value(env)
            last = first + d.length
        case Span():
            first = d.start.value(env)
            last = first + d.length.value(env)
        case TileAt():
            first, limit = d.start.value(env), d.limit.value(env)
            if limit > size or first >= limit:
                raise OutOfBounds(view, k, f"{first} .. {limit}", size)
            last = min(first + d.size, limit)
        case Gather():
            return _gathered(view, k, d, size, env, arrays)
    if first < 0 or last > size or last < first:
        raise OutOfBounds(view, k, f"element {first}" if isinstance(d, At) else f"{first} .. {last}", size)
    return range(first, last)


def _gathered(view: View, k: int, d: Gather, size: int, env: Mapping[str, int], arrays: Mapping[str, Array]) -> Range:
    index = take(arrays[d.index.tensor], d.index, indices(d.index, env, arrays)).reshape(-1).astype(np.int64)
    wrong = (index < 0) | (index >= size)
    if wrong.any():
        raise OutOfBounds(view, k, f"index {index[int(wrong.argmax())]}", size)
    return index


def selector(taken: Sequence[Range]) -> tuple[Any, ...]:
    """What selects these indices of an array, every dimension kept: slices where that is possible, so that it is a view."""
    if all(isinstance(r, range) for r in taken):
        return tuple(slice(r[0], r[0] + len(r)) if len(r) else slice(0, 0) for r in taken)
    return np.ix_(*(np.asarray(r, dtype=np.int64) for r in taken))


def take(array: Array, view: View, taken: Sequence[Range]) -> Array:
    """The elements, with plain indices dropped: a view of `array` where there is no gather."""
    dropped = tuple(i for i, d in enumerate(view.dims) if isinstance(d, At))
    return np.squeeze(array[selector(taken)], axis=dropped)
