"""Axes: what loops run over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from pto_wsp.errors import BoundsError, TraceError, check_name, here, without_control, without_operators
from pto_wsp.ir import expr
from pto_wsp.ir.core import Axis
from pto_wsp.ir.expr import Expr
from pto_wsp.trace.index import Element, Index, Symbol, as_expr

if TYPE_CHECKING:
    from pto_wsp.trace.builder import OpenLoop, WorkloadBuilder


def _check_size(what: str, size: object) -> int:
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
        raise TraceError(
            "PTO153",
            f"{what} needs an integer size",
            values={"size": repr(size)[:80]},
            loc=here(),
            fix="write Dense[8](), or DenseDyn(...) for a size known later",
        )
    if size < 0:
        raise BoundsError(
            "PTO511", f"{what} of negative size", values={"size": size}, loc=here(), fix="sizes are 0 or more"
        )
    return int(size)


class Names(Protocol):
    """How the workload being traced calls axes and symbols: given names first, else those of parameters and variables."""

    def name(self, obj: object, given: str | None) -> str | None: ...

    def symbol(self, name: str, default: int | None) -> Expr: ...


@without_operators(
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow neg abs getitem",
    "an axis",
    'name the size: n = Symbol("n"), P(DenseDyn(n)), and n - i in expressions; axis.tiles(16) tiles it',
)
class LoopAxis(ABC):
    """Base of what `P(...)` takes."""

    def tiles(self, size: int) -> Tiles:
        """The tile indices of this axis: tile k covers elements k*size .. min((k+1)*size, extent). size >= 1."""
        return Tiles(self, size)

    def __iter__(self) -> NoReturn:
        raise TraceError(
            "PTO150",
            "iteration over an axis itself",
            values={"axis": self},
            loc=here(),
            fix="write `for b in P(batch)`",
        )

    def variable(self, label: str) -> str:
        """What to call the loop variable of a loop over it that the user calls `label`."""
        return label

    def value(self, builder: WorkloadBuilder, index: Index, loop: OpenLoop) -> object:
        """What the `for` statement gets, inside the loop whose variable is `index`."""
        return index

    @abstractmethod
    def resolve(self, names: Names, loop: str) -> Axis:
        """The axis as plain data, under the names of the workload being traced; `loop` is the loop variable's name."""


class DenseAxis(LoopAxis):
    """`Dense[n]()`: n iterations, known while tracing."""

    def __init__(self, size: int, name: str | None = None) -> None:
        self.size = _check_size("Dense", size)
        self.given_name = check_name(name, "an axis", "PTO153")

    def resolve(self, names: Names, loop: str) -> Axis:
        return Axis("Dense", names.name(self, self.given_name) or loop, expr.const(self.size))

    def __repr__(self) -> str:
        return f"Dense[{self.size}]({self.given_name or ''})"


class _DenseOf:
    def __init__(self, size: int) -> None:
        self._size = size

    def __repr__(self) -> str:
        return f"Dense[{self._size}] without ()"

    def __call__(self, *, name: str | None = None) -> DenseAxis:
        return DenseAxis(self._size, name)


class Dense:
    """A dense axis of static size: `Dense[8]()`, `Dense[8](name="heads")`. Size 0 is legal and does nothing.

    Raises BoundsError for a negative size, TraceError for anything that is not an integer.
    """

    def __class_getitem__(cls, size: int) -> _DenseOf:
        return _DenseOf(_check_size("Dense", size))

    def __new__(cls, *size: object, name: str | None = None) -> DenseAxis:  # what `Dense[8]` is called like
        raise TraceError(
            "PTO153", "Dense without a size", loc=here(), fix="write Dense[8](), or DenseDyn() for a size known later"
        )


@without_control("bool lt le gt ge eq ne", "a dynamic axis")
class DenseDyn(LoopAxis):
    """A dense axis whose size is bound before a run, anew whenever one likes.

    `DenseDyn()` and `DenseDyn("batch")` are unbound, `DenseDyn(4)` starts with 4, `DenseDyn(Symbol("n"))` has the size of a
    symbol. Bind with `program.set_axis_sizes({"batch": 4})`.
    """

    def __init__(self, size: int | str | Symbol | None = None, *, name: str | None = None) -> None:
        if isinstance(size, str):
            size, name = None, name or size
        self.symbol = size if isinstance(size, Symbol) else None
        self.default = None if size is None or isinstance(size, Symbol) else _check_size("DenseDyn", size)
        self.given_name = check_name(name, "an axis", "PTO153")

    def size_expr(self, names: Names, loop: str | None) -> Expr:
        """The symbol that holds this axis's size, called like the axis; `loop` is what to call it where nothing names it."""
        if self.symbol is not None:
            return names.symbol(self.symbol.name, None)
        name = names.name(self, self.given_name) or loop
        if name is None:
            raise TraceError(
                "PTO153", "a dynamic axis without a name in a shape", loc=here(), fix='write DenseDyn(name="batch")'
            )
        return names.symbol(name, self.default)

    def resolve(self, names: Names, loop: str) -> Axis:
        return Axis("DenseDyn", names.name(self, self.given_name) or loop, self.size_expr(names, loop))

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"DenseDyn({self.given_name or ''})"


class Tiles(LoopAxis):
    """Tile indices of an axis or of a tensor's first dimension."""

    def __init__(self, axis: LoopAxis, size: int, name: str | None = None) -> None:
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise TraceError(
                "PTO153",
                "tiles(n) needs a positive integer",
                values={"n": repr(size)[:80]},
                loc=here(),
                fix="write axis.tiles(16)",
            )
        self.axis = axis
        self.size = int(size)
        self.given_name = name

    def resolve(self, names: Names, loop: str) -> Axis:
        whole = self.axis.resolve(names, loop)
        if whole.tile != 1:
            raise TraceError(
                "PTO153", "tiles of tiles", values={"axis": whole.name}, loc=here(), fix="tile the axis once"
            )
        return Axis("Tiles", names.name(self, self.given_name) or whole.name, whole.size, self.size)


class Range(LoopAxis):
    """A plain extent: `P(4)`, `P.seq(q + 1)`."""

    def __init__(self, extent: Expr, name: str | None) -> None:
        self.extent = extent
        self.given_name = name

    def resolve(self, names: Names, loop: str) -> Axis:
        return Axis("Range", names.name(self, self.given_name) or loop, self.extent)


def to_axis(x: Any) -> LoopAxis:
    """What a user may give to P: an axis, an integer, a scalar, or an integer expression."""
    if isinstance(x, LoopAxis):
        return x
    extent = None if isinstance(x, Element) and not x.is_element else as_expr(x)
    if extent is None:
        kind = "the class Dense" if x is Dense else repr(x)[:80]
        raise TraceError(
            "PTO150",
            "P(...) of something that is not an axis",
            values={"got": kind},
            loc=here(),
            fix="give Dense[n](), DenseDyn(...), axis.tiles(n), tensor.tiles(n), a row lens[b] of a Ragged axis, a tensor of records, an integer, or a scalar",
        )
    if extent.is_const and extent.const < 0:
        raise BoundsError(
            "PTO511", "a loop of negative extent", values={"extent": extent}, loc=here(), fix="extents are 0 or more"
        )
    return Range(extent, x.name if isinstance(x, Symbol) else None)
