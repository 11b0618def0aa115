"""Arrays of JAX as values of a kernel, and the equations that are made of them.

An array of any rank stands in a tile whose rows run along one of its axes and whose columns along another. Along all other axes it is the same
everywhere: what is broadcast takes no room, and transposing is another order of the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from pto_wsp import pto
from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import DType, TileType
from pto_wsp.ops.value import Value, is_scalar

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Array:
    """One array of a jaxpr.

    value: a tile, a scalar of the kernel, or a number. row, col: the axes that the tile's rows and columns run along, whose sizes are more than 1;
    where one is None the tile has one row, or column. A scalar or number has none.
    """

    value: Any
    shape: Shape
    dtype: DType
    row: int | None = None
    col: int | None = None

    @property
    def axes(self) -> frozenset[int]:
        """Those along which it is not the same everywhere."""
        return frozenset(x for x in (self.row, self.col) if x is not None)

    @property
    def is_number(self) -> bool:
        """Whether it is one number, known while tracing."""
        return not isinstance(self.value, Value)

    @property
    def is_tile(self) -> bool:
        """Whether it is a tile, of one element too."""
        return not (self.is_number or is_scalar(self.value))

    def renamed(self, shape: Shape, names: Mapping[int, int]) -> Array:
        """The same elements as an array of another shape, whose axes names[k] are those that were k."""
        row, col = (None if x is None else names[x] for x in (self.row, self.col))
        return replace(self, shape=shape, row=row, col=col)


@dataclass(frozen=True)
class Operation:
    """One equation of a jaxpr: what is asked of a rule."""

    primitive: Any
    params: Mapping[str, Any]
    takes: tuple[DType, ...]
    gives: tuple[tuple[Shape, DType], ...]
    shown: str

    @property
    def shape(self) -> Shape:
        """Of the first result."""
        return self.gives[0][0]

    @property
    def dtype(self) -> DType:
        """Of the first result."""
        return self.gives[0][1]

    def result(self, value: Any, row: int | None = None, col: int | None = None) -> Array:
        """The first result, as `value`."""
        return Array(value, *self.gives[0], row, col)

    def refusal(self, why: str = "", kind: type[UnsupportedError] = UnsupportedError) -> UnsupportedError:
        """The error for what has no operation on tiles."""
        return kind(
            *("PTO888", f"a kernel has no operation for {self.primitive.name} of JAX{': ' if why else ''}{why}"),
            values={"equation": self.shown},
            loc=here(),
            fix="write it of operations that kernels have (docs/jax.md lists them), or leave it to the JAX program around the workload",
        )


def number(x: Any, dtype: DType) -> Any:
    """The number x of JAX, as Python has it."""
    return np.asarray(x).astype(dtype.numpy).item()


def folded(op: Operation, values: Sequence[Any]) -> Any:
    """The number that an elementwise operation gives for numbers: JAX's own."""
    with jax.ensure_compile_time_eval():
        given = [np.asarray(x, d.numpy) for x, d in zip(values, op.takes, strict=True)]
        return number(op.primitive.bind(*given, **op.params), op.dtype)


def oriented(a: Array, row: int | None, col: int | None) -> Any:
    """Its value with rows along axis `row` and columns along `col`; of size 1 where it is the same there."""
    if not a.is_tile or (a.row in (None, row) and a.col in (None, col)):
        return a.value
    return pto.transpose(a.value)


def spread(a: Array, row: int | None, col: int | None) -> Value:
    """Its tile with rows along axis `row` and columns along `col`, repeated to their sizes."""
    shape = (1 if row is None else a.shape[row], 1 if col is None else a.shape[col])
    value = oriented(a, row, col)
    if not a.is_tile:
        return pto.full(shape, value, a.dtype)
    return value if value.shape == shape else pto.broadcast(value, shape)


def single(a: Array) -> Array:
    """The same, as a tile."""
    return a if a.is_tile else replace(a, value=pto.full((1, 1), a.value, a.dtype))


def as_scalar(a: Array) -> Any:
    """An array of one element as a scalar of the kernel, or as a number."""
    return pto.item(a.value, (0, 0)) if a.is_tile else a.value


def along(op: Operation, arrays: Sequence[Array]) -> tuple[int | None, int | None]:
    """The axes that rows and columns of a tile run along in which all of them stand: as most of them do already."""
    axes = sorted(set[int]().union(*(a.axes for a in arrays)))
    if len(axes) > 2:
        raise op.refusal("the arrays have more than two axes that are longer than 1")
    if not axes:
        return None, None
    first = max(arrays, key=lambda a: len(a.axes))
    if len(first.axes) == 2:
        return first.row, first.col
    if len(axes) == 1:  # columns come of reductions of rows, and go back to where they came from
        return (axes[0], None) if any(a.row is not None for a in arrays) else (None, axes[0])
    return axes[0], axes[1]


def layout(op: Operation, a: Array, needed: Sequence[int]) -> tuple[int | None, int | None]:
    """The axes of its tile, and those of `needed` that are longer than 1."""
    free = [k for k in needed if a.shape[k] > 1 and k not in a.axes]
    row, col = a.row, a.col
    if free and row is None and col is None and len(free) == 2:
        return free[0], free[1]
    for k in free:
        if row is not None and col is not None:
            raise op.refusal("the array has more than two axes that are longer than 1")
        last = k == len(a.shape) - 1
        if col is None and (last or row is not None):
            col = k
        elif row is None:
            row = k
        else:
            col = k
    return row, col


def whole(value: Value, *, rows: bool = False, cols: bool = False) -> Value:
    """The tile, of which all rows, or columns, must be valid: a result depends on each of them. A part is an error of the task."""
    t = value.type
    assert isinstance(t, TileType)
    wanted = [n if needed else have for n, needed, have in zip(t.shape, (rows, cols), (t.vrows, t.vcols), strict=True)]
    if wanted == [t.vrows, t.vcols]:
        return value
    have = pto.valid_shape(value)
    return pto.restrict(value, *(n if needed else h for n, needed, h in zip(t.shape, (rows, cols), have, strict=True)))


def elementwise(op: Operation, f: Callable[..., Any], *arrays: Array) -> Array:
    """f on the values of the arrays, each of which is a tile, or a scalar or number where another is a tile."""
    if all(a.is_number for a in arrays):
        return op.result(folded(op, [a.value for a in arrays]))
    if not any(a.is_tile for a in arrays):
        arrays = tuple(a if a.is_number else single(a) for a in arrays)
    row, col = along(op, arrays)
    return op.result(f(*(oriented(a, row, col) for a in arrays)), row, col)
