"""Primitives of JAX that are not elementwise: shapes, reductions, products, parts, order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jax.lax import GatherScatterMode

from pto_wsp import pto
from pto_wsp.ir.core import DType
from pto_wsp.ir.scalars import RANGES
from pto_wsp.ops.value import Value
from pto_wsp_jax.arrays import (
    Array,
    Operation,
    Shape,
    along,
    as_scalar,
    elementwise,
    layout,
    number,
    oriented,
    spread,
    whole,
)
from pto_wsp_jax.elementwise import known_of

Rule = Callable[..., Any]
MULTIPLIED = (DType.F32, DType.F16, DType.BF16, DType.F64, DType.I8, DType.U8, DType.I32)
LONGEST = 2**24
"""Up to here f32 has every integer."""


# shapes


def long_axes(shape: Shape) -> list[int]:
    """Those that are longer than 1."""
    return [k for k, n in enumerate(shape) if n > 1]


def standard(op: Operation, shape: Shape) -> tuple[int | None, int | None]:
    """The axes of a tile that holds an array row by row."""
    axes = long_axes(shape)
    if len(axes) > 2:
        raise op.refusal(f"{'x'.join(map(str, shape))} has more than two axes that are longer than 1")
    if len(axes) == 2:
        return axes[0], axes[1]
    if not axes:
        return None, None
    return (axes[0], None) if axes[0] < len(shape) - 1 else (None, axes[0])


def _broadcast_in_dim(op: Operation, x: Array) -> Array:
    new = dict(enumerate(op.params["broadcast_dimensions"]))
    return x.renamed(op.shape, new)


def _reshape(op: Operation, x: Array) -> Array:
    if op.params.get("dimensions") is not None:
        raise op.refusal("with dimensions")
    old, new = long_axes(x.shape), long_axes(op.shape)
    if [x.shape[k] for k in old] == [op.shape[k] for k in new]:
        return x.renamed(op.shape, dict(zip(old, new, strict=True)))
    if not x.axes:
        return op.result(x.value)
    to = standard(op, op.shape)
    rows, cols = (1 if k is None else op.shape[k] for k in to)
    return op.result(pto.reshape(spread(x, *standard(op, x.shape)), (rows, cols)), *to)


def _squeeze(op: Operation, x: Array) -> Array:
    return x.renamed(op.shape, dict(zip(long_axes(x.shape), long_axes(op.shape), strict=True)))


def _transpose(op: Operation, x: Array) -> Array:
    return x.renamed(op.shape, {old: new for new, old in enumerate(op.params["permutation"])})


def _same(op: Operation, x: Array) -> Array:
    return x


def _optimization_barrier(op: Operation, *xs: Array) -> list[Array]:
    return list(xs)


def _iota(op: Operation) -> Array:
    axis = op.params["dimension"]
    n = op.shape[axis]
    if n == 1:
        return op.result(number(0, op.dtype))
    if op.dtype in (DType.F16, DType.BF16) or n > LONGEST:
        raise op.refusal(f"of {n} numbers of {op.dtype}")
    in_cols = axis == len(op.shape) - 1
    tile = pto.cast(pto.iota((1, n) if in_cols else (n, 1), axis=int(in_cols)), op.dtype)
    return op.result(tile, *((None, axis) if in_cols else (axis, None)))


# reductions


def _without(axes: Sequence[int], x: Array, op: Operation) -> Callable[[Any, int | None, int | None], Array]:
    """Makes the result, whose axes are those of x but for `axes`."""
    kept = [k for k in range(len(x.shape)) if k not in axes]
    names: dict[int | None, int | None] = {old: new for new, old in enumerate(kept)}
    return lambda value, row, col: op.result(value, names.get(row), names.get(col))


def _reduction(rows: Rule, cols: Rule, *, of_bool: bool = False) -> Rule:
    """rows reduces each row, cols each column."""

    def reduce(op: Operation, x: Array) -> Array:
        axes = [k for k in op.params["axes"] if x.shape[k] > 1]
        result = _without(op.params["axes"], x, op)
        row, col = layout(op, x, axes)
        if not axes:
            return result(x.value, row, col)
        value: Value = spread(x, row, col)
        if (x.dtype is DType.BOOL) is not of_bool:
            raise op.refusal(f"of {x.dtype}")
        value = whole(value, rows=row in axes, cols=col in axes)
        if col in axes:
            value = rows(value)
        if row in axes:
            value = cols(value)
        return result(value, row, col)

    return reduce


def _reduce_extreme(of_numbers: Rule, of_bool: Rule) -> Rule:
    def reduce(op: Operation, x: Array) -> Array:
        return (of_bool if x.dtype is DType.BOOL else of_numbers)(op, x)

    return reduce


_reduce_or = _reduction(pto.rowany, pto.colany, of_bool=True)
_reduce_and = _reduction(pto.rowall, pto.colall, of_bool=True)


def _arg(in_row: Rule, in_col: Rule) -> Rule:
    def index(op: Operation, x: Array) -> Array:
        (axis,) = op.params["axes"]
        result = _without((axis,), x, op)
        if x.shape[axis] == 1:
            return op.result(number(0, op.dtype))
        row, col = layout(op, x, (axis,))
        value: Value = spread(x, row, col)
        if x.dtype is DType.BOOL:
            value = pto.cast(value, DType.I32)
        value = whole(value, rows=row == axis, cols=col == axis)
        value = in_row(value) if col == axis else in_col(value)
        return result(pto.cast(value, op.dtype), row, col)

    return index


def _cumsum(op: Operation, x: Array) -> Array:
    axis = op.params["axis"]
    if x.shape[axis] == 1:
        return x
    row, col = layout(op, x, (axis,))
    value, in_cols = spread(x, row, col), int(col == axis)
    if op.params["reverse"]:
        last = x.shape[axis] - 1
        value = picked(pto.cumsum(picked(value, last, -1, last + 1, in_cols), in_cols), last, -1, last + 1, in_cols)
    else:
        value = pto.cumsum(value, in_cols)
    return op.result(value, row, col)


# products


def dot_general(op: Operation, a: Array, b: Array) -> Array:
    """The product of two matrices or vectors, or of rows with rows."""
    (left, right), (a_batch, b_batch) = op.params["dimension_numbers"]
    pairs = [(i, j) for i, j in zip(left, right, strict=True) if a.shape[i] > 1]
    if len(pairs) > 1:
        raise op.refusal("over more than one axis that is longer than 1")
    a_free = [k for k in range(len(a.shape)) if k not in (*left, *a_batch)]
    b_free = [k for k in range(len(b.shape)) if k not in (*right, *b_batch)]
    of_a = {k: n for n, k in enumerate((*a_batch, *a_free))}
    of_b = {k: n for n, k in enumerate(b_batch)} | {k: len(a_batch) + len(a_free) + n for n, k in enumerate(b_free)}
    if not pairs:
        return _outer(op, a.renamed(op.shape, of_a), b.renamed(op.shape, of_b))
    ((i, j),) = pairs
    if any(a.shape[k] > 1 for k in a_batch):
        if any(x.shape[k] > 1 for x, free in ((a, a_free), (b, b_free)) for k in free):
            raise op.refusal("in batches; give the kernel one matrix of each, and loop in the workload")
        return _inner(
            op, a, b, dict(zip((j, *b_batch, *b_free), (i, *a_batch, *(i,) * len(b_free)), strict=True)), of_a
        )
    a_long, b_long = ([k for k in free if x.shape[k] > 1] for x, free in ((a, a_free), (b, b_free)))
    if len(a_long) > 1 or len(b_long) > 1:
        raise op.refusal("of arrays with more than two axes that are longer than 1")
    m, n = (long[0] if long else None for long in (a_long, b_long))
    transpose_a, transpose_b = _lies(a, m, i) == (i, m), _lies(b, j, n) == (n, j)
    tile_a = whole(spread(a, *((i, m) if transpose_a else (m, i))), rows=transpose_a, cols=not transpose_a)
    tile_b = whole(spread(b, *((n, j) if transpose_b else (j, n))), rows=not transpose_b, cols=transpose_b)
    if a.dtype is not b.dtype or a.dtype not in MULTIPLIED:
        raise op.refusal(f"of {a.dtype} and {b.dtype}")
    product = pto.matmul(tile_a, tile_b, transpose_a=transpose_a, transpose_b=transpose_b)
    return op.result(pto.cast(product, op.dtype), None if m is None else of_a[m], None if n is None else of_b[n])


def _lies(x: Array, row: int | None, col: int | None) -> tuple[int | None, int | None]:
    """These axes in the order in which they are rows and columns of its tile: as asked, where that is open."""
    swapped = x.row in (None, col) and x.col in (None, row)
    return (col, row) if swapped and x.axes else (row, col)


def _inner(op: Operation, a: Array, b: Array, as_in_a: Mapping[int, int], of_a: Mapping[int, int]) -> Array:
    """The sums of the products of rows with rows."""
    (i,) = (k for k in range(len(a.shape)) if k not in of_a and a.shape[k] > 1)
    between = Operation(op.primitive, op.params, op.takes, ((a.shape, op.dtype),), op.shown)
    product = _outer(between, a, b.renamed(a.shape, as_in_a))
    row, col = layout(op, product, (i,))
    tile = whole(spread(product, row, col), rows=row == i, cols=col == i)
    total, other = (pto.rowsum(tile), row) if col == i else (pto.colsum(tile), col)
    place = None if other is None else of_a[other]
    return op.result(total, *((place, None) if col == i else (None, place)))


def _outer(op: Operation, a: Array, b: Array) -> Array:
    def product(x: Any, y: Any) -> Value:
        x, y = (pto.cast(v, op.dtype) if isinstance(v, Value) else v for v in (x, y))
        return pto.mul(x, y)

    if not (a.is_tile or b.is_tile):
        a = Array(pto.full((1, 1), a.value, a.dtype), a.shape, a.dtype)
    return elementwise(op, product, a, b)


# parts


def picked(x: Value, start: Any, step: int, n: int, axis: int) -> Value:
    """The rows (axis=0) or columns of x from `start` on, n of them."""
    shape = (n, 1) if axis == 0 else (1, n)
    if n == 1:
        index = pto.full(shape, start, DType.I32)
    else:
        index = pto.iota(shape, axis)
        index = (index if step == 1 else index * step) + start
    return pto.gather(x, index, axis=axis)


def _slice(op: Operation, x: Array) -> Array:
    starts, stops = op.params["start_indices"], op.params["limit_indices"]
    strides = op.params["strides"] or (1,) * len(starts)
    value = x.value
    for axis in x.axes:
        start, stop, step = starts[axis], stops[axis], strides[axis]
        in_cols = int(axis == x.col)
        if step > 1:
            value = picked(value, start, step, op.shape[axis], in_cols)
        elif (start, stop) != (0, x.shape[axis]):
            value = pto.slice(value, **{"cols" if in_cols else "rows": (start, stop)})
    return _short(op, value, x)


def _short(op: Operation, value: Any, x: Array) -> Array:
    """A part of x, some axes of which may have one element now."""
    return op.result(value, *(None if k is None or op.shape[k] == 1 else k for k in (x.row, x.col)))


def clamped(i: Any, most: int) -> Any:
    """An index as JAX takes it: the nearest of 0 .. most."""
    if isinstance(i, Value):
        known = known_of(i)
        i = i if known.low >= 0 else pto.maximum(i, 0)
        return i if known.high <= most else pto.minimum(i, most)
    return min(max(i, 0), most)


def _starts(x: Array, sizes: Sequence[int], indices: Sequence[Array]) -> dict[int, Any]:
    """Where the part begins, by the axes of x along which it is a part."""
    return {k: clamped(as_scalar(indices[k]), x.shape[k] - n) for k, n in enumerate(sizes) if n < x.shape[k]}


def taken(x: Value, start: Any, n: int, axis: int) -> Value:
    """n rows (axis=0) or columns of x from `start` on, a number or a scalar."""
    if isinstance(start, Value):
        return picked(x, start, 1, n, axis)
    return pto.slice(x, **{"cols" if axis else "rows": (start, start + n)})


def _dynamic_slice(op: Operation, x: Array, *indices: Array) -> Array:
    value = x.value
    for axis, start in _starts(x, op.shape, indices).items():
        if axis in x.axes:
            value = taken(value, start, op.shape[axis], int(axis == x.col))
    return _short(op, value, x)


def put(x: Value, part: Value, start: Any, axis: int) -> Value:
    """x with the rows (axis=0) or columns of `part` from `start` on."""
    n = part.shape[axis]
    shape = (n, 1) if axis == 0 else (1, n)
    index = pto.full(shape, start, DType.I32) if n == 1 else pto.iota(shape, axis) + start
    if axis == 1:
        index = pto.broadcast(index, (x.shape[0], n))
    return pto.scatter(x, index, part, axis=axis)


def _dynamic_update_slice(op: Operation, x: Array, part: Array, *indices: Array) -> Array:
    starts = _starts(x, part.shape, indices)
    if not starts:
        return part
    row, col = layout(op, x, [*starts, *(k for k in part.axes if k not in starts)])
    value = spread(x, row, col)
    shape = tuple(1 if k is None else part.shape[k] for k in (row, col))
    new = oriented(part, row, col) if part.is_tile else pto.full(shape, part.value, part.dtype)
    new = new if new.shape == shape else pto.broadcast(new, shape)
    if row in starts and col in starts:
        block = taken(value, starts[row], shape[0], 0)
        return op.result(put(value, put(block, new, starts[col], 1), starts[row], 0), row, col)
    ((long, start),) = starts.items()
    return op.result(put(value, new, start, int(long == col)), row, col)


def gather(op: Operation, x: Array, indices: Array) -> Array:
    """Whole rows or columns by their numbers, or an element of each row or column."""
    n = op.params["dimension_numbers"]
    sizes = op.params["slice_sizes"]
    if len(n.start_index_map) != 1 or n.collapsed_slice_dims != n.start_index_map:
        raise op.refusal("by other than one index for each part, which is one row or column, or one element of it")
    (axis,) = n.start_index_map
    kept = [k for k in range(len(x.shape)) if k != axis and k not in n.operand_batching_dims]
    if any(sizes[k] != x.shape[k] for k in kept) or x.shape[axis] == 1:
        raise op.refusal("of parts of rows or columns")
    places = [k for k in range(len(op.shape)) if k not in n.offset_dims]  # of the axes of the indices, in the result
    names = dict(zip(kept, n.offset_dims, strict=True))
    names |= {k: places[i] for k, i in zip(n.operand_batching_dims, n.start_indices_batching_dims, strict=True)}
    index = indices.renamed(op.shape, dict(enumerate(places)))
    long = index.axes - set(names.values())
    if len(long) > 1:
        raise op.refusal("by indices with more than one axis that is longer than 1")
    row, col = layout(op, x, (axis, *(k for k in kept if x.shape[k] > 1), *n.operand_batching_dims))
    by = next(iter(long), None)
    out_row, out_col = (by if k == axis else None if k is None else names[k] for k in (row, col))
    tile = pto.cast(_index_tile(index, out_row, out_col), DType.I32)
    mode, last = op.params["mode"], x.shape[axis] - 1
    safe = tile if mode is GatherScatterMode.PROMISE_IN_BOUNDS else pto.clamp(tile, 0, last)
    value = pto.gather(spread(x, row, col), safe, axis=int(axis == col))
    if mode is GatherScatterMode.FILL_OR_DROP:
        inside = pto.logical_and(tile >= 0, tile <= last)
        value = pto.where(inside, value, pto.full((1, 1), _filler(op), op.dtype))
    return op.result(value, out_row, out_col)


def _index_tile(index: Array, row: int | None, col: int | None) -> Value:
    """The tile of the indices, of one row or column where they are the same in all."""
    if not index.is_tile:
        return pto.full((1, 1), index.value, index.dtype)
    return oriented(index, row if row in index.axes else None, col if col in index.axes else None)


def _filler(op: Operation) -> Any:
    """What stands for elements beyond the end."""
    given = op.params["fill_value"]
    if given is not None:
        return number(given, op.dtype)
    if op.dtype is DType.BOOL:
        return True
    if op.dtype.is_float:
        return math.nan
    low, high = RANGES[op.dtype]
    return high if op.dtype.is_unsigned else low


def joined(op: Operation, arrays: Sequence[Array], axis: int) -> Array:
    """The arrays one behind the other along an axis."""
    wide = [a for a in arrays if a.shape[axis] > 0]
    if len(wide) == 1:
        return wide[0]
    row, col = along(op, wide)
    if axis not in (row, col):
        last = axis == len(op.shape) - 1
        if (col is None) and (last or row is not None):
            col = axis
        elif row is None:
            row = axis
        else:
            raise op.refusal("the array has more than two axes that are longer than 1")
    tiles = [spread(a, row, col) for a in wide]
    result = tiles[0]
    for t in tiles[1:]:
        result = pto.concat(result, t, axis=int(axis == col))
    return op.result(result, row, col)


def _concatenate(op: Operation, *arrays: Array) -> Array:
    return joined(op, arrays, op.params["dimension"])


def _stack(op: Operation, *arrays: Array) -> Array:
    axis = op.params["axis"]
    names = {k: k + (k >= axis) for k in range(len(arrays[0].shape))}
    shape = (*op.shape[:axis], 1, *op.shape[axis + 1 :])
    return joined(op, [a.renamed(shape, names) for a in arrays], axis)


def _unstack(op: Operation, x: Array) -> list[Array]:
    axis = op.params["axis"]
    names: dict[int | None, int | None] = {k: k - (k > axis) for k in range(len(x.shape)) if k != axis}
    parts = list[Array]()
    for i, (shape, dtype) in enumerate(op.gives):
        value = x.value if axis not in x.axes else taken(x.value, i, 1, int(axis == x.col))
        parts.append(Array(value, shape, dtype, names.get(x.row), names.get(x.col)))
    return parts


def padding(join: Rule) -> Rule:
    """The rule of `pad`, where `join` gives arrays one behind the other."""

    def pad(op: Operation, x: Any, value: Array) -> Any:
        for axis, (low, high, interior) in enumerate(op.params["padding_config"]):
            if interior:
                raise op.refusal("between elements")
            if min(low, high) < 0:
                raise op.refusal("by less than nothing")
            for n, before in ((low, True), (high, False)):
                if n:
                    shape = (*x.shape[:axis], n, *x.shape[axis + 1 :])
                    edge = Array(value.value, shape, x.dtype)
                    bigger = (*x.shape[:axis], x.shape[axis] + n, *x.shape[axis + 1 :])
                    wider = replace(op, gives=((bigger, x.dtype),))
                    x = join(wider, [edge, x] if before else [x, edge], axis)
        return x

    return pad


def repeating(join: Rule) -> Rule:
    """The rule of `tile`, where `join` gives arrays one behind the other."""

    def tile(op: Operation, x: Any) -> Any:
        for axis, n in enumerate(op.params["reps"]):
            if n > 1:
                bigger = (*x.shape[:axis], n * x.shape[axis], *x.shape[axis + 1 :])
                x = join(replace(op, gives=((bigger, x.dtype),)), [x] * n, axis)
        return x

    return tile


def _rev(op: Operation, x: Array) -> Array:
    value = x.value
    for axis in op.params["dimensions"]:
        if axis in x.axes:
            last = x.shape[axis] - 1
            value = picked(value, last, -1, last + 1, int(axis == x.col))
    return op.result(value, x.row, x.col)


def _split(op: Operation, x: Array) -> list[Array]:
    axis, begin, parts = op.params["axis"], 0, list[Array]()
    for (shape, dtype), n in zip(op.gives, op.params["sizes"], strict=True):
        value = x.value if axis not in x.axes else taken(x.value, begin, n, int(axis == x.col))
        parts.append(Array(value, shape, dtype, *(None if k is None or shape[k] == 1 else k for k in (x.row, x.col))))
        begin += n
    return parts


# order


def _in_columns(op: Operation, x: Array, axis: int) -> tuple[Value, int | None]:
    """The tile of x whose columns run along `axis`, all of them valid, and the axis of its rows."""
    others = [k for k in layout(op, x, (axis,)) if k not in (None, axis)]
    row = others[0] if others else None
    return whole(spread(x, row, axis), cols=True), row


def _ascending(x: Value) -> Value:
    """The columns of the elements of each row in the order of JAX: smallest first, NaN last."""
    index = pto.argsort(x, descending=False)
    if not x.dtype.is_float:
        return index
    n = x.shape[1]
    nans = pto.rowsum(pto.cast(pto.ne(x, x), DType.I32))  # which come first in our order
    place = pto.iota((1, n)) + nans
    return pto.gather(index, pto.where(place >= n, place - n, place))


def _sort(op: Operation, *arrays: Array) -> list[Array]:
    axis = op.params["dimension"]
    if op.params["num_keys"] > 1:
        raise op.refusal("by more than one key")
    if arrays[0].shape[axis] == 1:
        return list(arrays)
    key, row = _in_columns(op, arrays[0], axis)
    index = _ascending(pto.cast(key, DType.I32) if key.dtype is DType.BOOL else key)
    sorted_ = list[Array]()
    for a in arrays:
        other = spread(a, row, axis) if a.axes <= {row, axis} else None
        if other is None:
            raise op.refusal("of arrays with more than two axes that are longer than 1")
        sorted_.append(Array(pto.gather(other, index), a.shape, a.dtype, row, axis))
    return sorted_


def _top_k(op: Operation, x: Array) -> list[Array]:
    axis, k = op.params.get("axis", len(x.shape) - 1), op.params["k"]
    if x.shape[axis] == 1:
        return [x, Array(number(0, op.gives[1][1]), *op.gives[1])]
    tile, row = _in_columns(op, x, axis)
    col = axis if k > 1 else None
    values, indices = pto.topk(tile, k)
    return [op.result(values, row, col), Array(pto.cast(indices, op.gives[1][1]), *op.gives[1], row, col)]


RULES: Mapping[str, Rule] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "copy": _same,
    "stop_gradient": _same,
    "optimization_barrier": _optimization_barrier,
    "iota": _iota,
    "reduce_sum": _reduction(pto.rowsum, pto.colsum),
    "reduce_prod": _reduction(pto.rowprod, pto.colprod),
    "reduce_max": _reduce_extreme(_reduction(pto.rowmax, pto.colmax), _reduce_or),
    "reduce_min": _reduce_extreme(_reduction(pto.rowmin, pto.colmin), _reduce_and),
    "reduce_or": _reduce_or,
    "reduce_and": _reduce_and,
    "argmax": _arg(pto.rowargmax, pto.colargmax),
    "argmin": _arg(pto.rowargmin, pto.colargmin),
    "cumsum": _cumsum,
    "dot_general": dot_general,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "pad": padding(joined),
    "tile": repeating(joined),
    "rev": _rev,
    "gather": gather,
    "split": _split,
    "sort": _sort,
    "top_k": _top_k,
}
