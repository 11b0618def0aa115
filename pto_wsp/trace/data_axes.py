"""Axes whose extents are data: ragged and sparse ones, and tensors of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pto_wsp.errors import BindError, TraceError, check_name, here, no_attribute
from pto_wsp.ir.core import Axis, DataAxis, DType, In
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.rename import unique_name
from pto_wsp.trace.axes import DenseAxis, DenseDyn, LoopAxis, Names, Tiles
from pto_wsp.trace.index import Index, Scalar64, Symbol, as_expr, is_integer
from pto_wsp.trace.names import assigned_name
from pto_wsp.trace.scalar import DataScalar, innermost
from pto_wsp.trace.tensor import ShapeDim, Tensor, TensorSpec, TensorView

if TYPE_CHECKING:
    from pto_wsp.trace.builder import OpenLoop, WorkloadBuilder

Given = np.ndarray[Any, Any] | TensorSpec | TensorView | Symbol
Outer = int | Symbol | DenseAxis | DenseDyn
Data = Sequence[int] | np.ndarray[Any, Any] | TensorSpec | TensorView | Symbol


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A data axis in a workload."""

    axis: _Rows
    declared: DataAxis
    tensors: tuple[TensorSpec | TensorView, ...]

    @property
    def is_checked(self) -> bool:
        """Whether its values are checked when they are bound; those of parts of tensors are where they are read."""
        return not any(isinstance(t, TensorView) for t in self.tensors)


class _Rows:
    """Base of axes with a row for each index of an outer axis."""

    kind = ""

    def __init__(self, outer: Outer, name: str | None) -> None:
        if not isinstance(outer, (Symbol, DenseAxis, DenseDyn)) and not (is_integer(outer) and int(outer) >= 0):
            raise TraceError(
                "PTO177",
                f"{self.kind} over an outer axis of kind {type(outer).__name__}",
                values={"outer": repr(outer)[:80]},
                loc=here(),
                fix="give Dense[n](), DenseDyn(...), an integer or a Symbol: what the rows are numbered by",
            )
        self._outer: Outer = outer if isinstance(outer, (Symbol, DenseAxis, DenseDyn)) else int(outer)
        self.given_name = check_name(name, "an axis", "PTO177")
        self._data: dict[str, Given] = {}  # by what it is: lengths, or indptr and indices

    @property
    def outer(self) -> Any:
        """The axis that numbers the rows."""
        return self._outer

    @property
    def data(self) -> Mapping[str, Given]:
        """What its rows are made of: lengths, or indptr and indices, each as integers, a tensor or a symbol."""
        return self._data

    @property
    def inner(self) -> Outer | None:
        """The axis that a row yields indices of, where one was given."""
        return None

    @property
    def rows(self) -> ShapeDim:
        """The number of rows."""
        return self._outer.size if isinstance(self._outer, DenseAxis) else self._outer

    def inner_size(self, names: Names) -> Expr | None:
        """A bound of what a row yields, where one was given."""
        return None

    def count(self, names: Names, what: str, name: str) -> Expr:
        """How many elements the data called `what` has, in the axis called `name`."""
        return size_of(names, self.rows)

    def tensors(self, builder: WorkloadBuilder) -> tuple[TensorSpec | TensorView, ...]:
        """The tensors that hold its data in this workload, which knows the axis from here on."""
        return next((known.tensors for known in builder.data_axes if known.axis is self), None) or self._declare(
            builder
        )

    def name_in(self, builder: WorkloadBuilder) -> str:
        """What the workload calls it."""
        self.tensors(builder)
        return next(known.declared.name for known in builder.data_axes if known.axis is self)

    def _declare(self, builder: WorkloadBuilder) -> tuple[TensorSpec | TensorView, ...]:
        taken = {known.declared.name for known in builder.data_axes}
        wanted = builder.name(self, self.given_name) or self.kind.lower()
        name = unique_name(wanted, taken)
        tensors = tuple(self._tensor(builder, data, what, name) for what, data in self._data.items())
        names = tuple(builder.tensor(t.root if isinstance(t, TensorView) else t) for t in tensors)
        outer = size_of(builder, self.rows)
        declared = DataAxis(self.kind, name, outer, names, self.inner_size(builder))
        builder.data_axes.append(Known(self, declared, tensors))
        return tensors

    def _tensor(self, builder: WorkloadBuilder, data: Given, what: str, name: str) -> TensorSpec | TensorView:
        if isinstance(data, (TensorSpec, TensorView)):
            return data
        size = self.count(builder, what, name)
        shape: tuple[ShapeDim, ...] = (size.const if size.is_const else Index(size, None),)
        if isinstance(data, Symbol):
            return builder.hidden(TensorSpec(shape, DType.I64, name=data.name))
        return builder.hidden(Tensor(data, shape, name=f"{name}.{what}"))

    def __iter__(self) -> NoReturn:
        raise TraceError(
            "PTO150",
            f"iteration over a {self.kind} axis itself",
            loc=here(),
            fix="loop over its rows: `for b in P(lens.outer)`, and in it P(lens[b]) or P.sel(routing[b])",
        )

    def __getattr__(self, name: str) -> Any:
        raise no_attribute(f"a {self.kind} axis", name, "outer, and a row for each index: axis[b]")

    def __repr__(self) -> str:
        return f"{self.kind}({self.given_name or ''})"


def size_of(names: Names, dim: ShapeDim) -> Expr:
    """A dimension as an expression, under the names of the workload being traced."""
    if isinstance(dim, DenseDyn):
        return dim.size_expr(names, None)
    e = as_expr(dim)
    assert e is not None
    for n in e.names():
        names.symbol(n[1:], None)
    return e


class Ragged(_Rows):
    """An axis that has another length in each row: `lens = Ragged(batch, [512, 2048])`, then `P(lens[b])`.

    outer: what numbers the rows, an axis, an integer or a Symbol. lengths: the length of each row, as integers (bound anew with
    `program.set_axis_sizes`), as a one-dimensional i32 or i64 tensor or view (`counts[0]`), which tasks may write, or as a Symbol
    (bound with `program.set_symbol_ptr`). `lens[b]` is an axis and a scalar: P(lens[b]), lens[b].tiles(64), K[b, :lens[b]], lens[b] + 1.
    Raises BindError for lengths that are negative or not one for each row.
    """

    kind = "Ragged"

    def __init__(self, outer: Outer, lengths: Data, *, name: str | None = None) -> None:
        super().__init__(outer, name)
        data = _data(self, lengths, "lengths", self.rows, "PTO513")
        if isinstance(data, np.ndarray):
            _refuse(data, data < 0, "PTO513", "a negative length", "lengths are 0 or more")
        self._data = {"lengths": data}

    def __getitem__(self, index: Any) -> RaggedRow:
        return RaggedRow(self, row_index(self, index), assigned_name())


class RaggedRow(DataScalar, LoopAxis):
    """One row of a ragged axis: an axis, and the i64 that is its length. It is read where it is used."""

    def __init__(self, axis: Ragged, index: Any, name: str | None) -> None:
        super().__init__("row", (), DType.I64, getattr(index, "builder", None))
        self.axis = axis
        self.row = index
        self.called = name or "n"

    @property
    def outer(self) -> Any:
        """The axis that numbers the rows."""
        return self.axis.outer

    def held(self, builder: WorkloadBuilder) -> In | None:
        return self.axis.tensors(builder)[0][self.row].element(self.called).held(builder)

    def resolve(self, names: Names, loop: str) -> Axis:
        builder = innermost("P")
        return Axis("Ragged", self.axis.name_in(builder), self.to_expr())

    __hash__ = object.__hash__

    def __iter__(self) -> NoReturn:
        LoopAxis.__iter__(self)

    def __repr__(self) -> str:
        return f"<row {self.row} of {self.axis}>"


class Sparse(_Rows):
    """An axis whose rows yield chosen indices, in compressed rows (CSR): row i yields indices[indptr[i]:indptr[i + 1]].

    outer: what numbers the rows. indptr (one more than rows, rising from 0) and indices: integers, i32 or i64 tensors or views (`indptr[0]`),
    which tasks may write, or Symbols. inner: the axis, integer or Symbol that indices are less than, where there is one. `P.sel(routing[b])`
    yields the indices of row b; `P.sel(routing[b].tiles(16))` yields tile indices t, of which routing[b][t] is an index view:
    X[routing[b][t], :]. routing[b].size is their number. Raises BindError for an indptr that decreases or does not fit, and for
    indices outside of `inner`.
    """

    kind = "Sparse"

    def __init__(
        self, outer: Outer, indptr: Data, indices: Data, inner: Outer | None = None, *, name: str | None = None
    ) -> None:
        super().__init__(outer, name)
        more = self.rows + 1 if isinstance(self.rows, int) else None
        starts = _data(self, indptr, "indptr", more, "PTO514")
        chosen = _data(self, indices, "indices", None, "PTO514")
        self._data = {"indptr": starts, "indices": chosen}
        if inner is not None and not isinstance(inner, (Symbol, DenseAxis, DenseDyn)) and not is_integer(inner):
            raise TraceError(
                "PTO177",
                "an inner axis of another kind",
                values={"inner": repr(inner)[:80]},
                loc=here(),
                fix="give Dense[n](), DenseDyn(...), an integer or a Symbol: what the indices are less than",
            )
        self._inner: Outer | None = inner
        if isinstance(starts, np.ndarray):
            self._check_starts(starts, len(chosen) if isinstance(chosen, np.ndarray) else None)
        if isinstance(chosen, np.ndarray):
            size = inner.size if isinstance(inner, DenseAxis) else inner if is_integer(inner) else None
            wrong = (chosen < 0) | (chosen >= (2**63 - 1 if size is None else size))
            fix = "indices are 0 or more" if size is None else f"indices are 0 .. {size} - 1"
            _refuse(chosen, wrong, "PTO514", "an index outside of the inner axis", fix)

    def _check_starts(self, starts: np.ndarray, indices: int | None) -> None:
        first = np.arange(len(starts)) == 0
        _refuse(
            starts,
            first & (starts != 0),
            "PTO514",
            "an indptr that does not start with 0",
            "indptr is 0, then where each row ends",
        )
        falls = np.concatenate(([False], np.diff(starts) < 0))
        _refuse(starts, falls, "PTO514", "an indptr that decreases", "each row ends no earlier than it starts")
        ends = np.arange(len(starts)) == len(starts) - 1
        if indices is not None:
            what = f"an indptr that ends elsewhere than the {indices} indices"
            _refuse(starts, ends & (starts != indices), "PTO514", what, "its last element is the number of indices")

    @property
    def inner(self) -> Outer | None:
        """The axis that a row yields indices of, where one was given."""
        return self._inner

    def count(self, names: Names, what: str, name: str) -> Expr:
        data = self._data[what]
        if what == "indptr":
            return super().count(names, what, name) + 1
        return names.symbol(f"{name}.nnz", len(data) if isinstance(data, np.ndarray) else None)

    def inner_size(self, names: Names) -> Expr | None:
        if self._inner is None:
            return None
        return size_of(names, self._inner.size if isinstance(self._inner, DenseAxis) else self._inner)

    def __getitem__(self, index: Any) -> SparseRow:
        return SparseRow(self, row_index(self, index))

    def ends(self, builder: WorkloadBuilder, row: Any) -> tuple[DataScalar, DataScalar]:
        """Where a row starts and ends in the indices."""
        starts = self.tensors(builder)[0]
        return starts[row].element("lo"), starts[row + 1].element("hi")


class SparseRow(LoopAxis):
    """One row of a sparse axis: `P.sel(row)` yields its indices, `row.size` is their number, `row[t]` an index view of a tile."""

    def __init__(self, axis: Sparse, index: Any) -> None:
        self.axis = axis
        self.row = index

    @property
    def outer(self) -> Any:
        """The axis that numbers the rows."""
        return self.axis.outer

    @property
    def size(self) -> Scalar64:
        """How many indices the row has: an i64."""
        lo, hi = self.axis.ends(innermost("a row of a sparse axis"), self.row)
        return hi - lo

    def __getitem__(self, index: Any) -> TensorView:
        builder = innermost("a row of a sparse axis")
        lo, hi = self.axis.ends(builder, self.row)
        return self.axis.tensors(builder)[1][lo:hi][index]

    def resolve(self, names: Names, loop: str) -> Axis:
        return Axis("Sparse", self.axis.name_in(innermost("P.sel")), self.size.to_expr())

    def __repr__(self) -> str:
        return f"<row {self.row} of {self.axis}>"


class Selected(LoopAxis):
    """What `P.sel` loops over: the loop counts positions in the row, and its variable is the index found there."""

    def __init__(self, row: SparseRow) -> None:
        self.row = row

    def variable(self, label: str) -> str:
        return f"{label}.k"

    def resolve(self, names: Names, loop: str) -> Axis:
        return self.row.resolve(names, loop)

    def value(self, builder: WorkloadBuilder, index: Index, loop: OpenLoop) -> object:
        lo, _ = self.row.axis.ends(builder, self.row.row)
        found = self.row.axis.tensors(builder)[1][lo + index].element(loop.label)
        loop.coord = found.to_expr()
        return found


def selected(x: Any) -> LoopAxis:
    """What a user may give to P.sel: a row of a sparse axis, its tiles, or a tensor of records."""
    if isinstance(x, SparseRow):
        return Selected(x)
    if isinstance(x, Tiles) and isinstance(x.axis, SparseRow):
        return x
    if isinstance(x, TensorSpec) and x.fields is not None:
        return Records(x)
    raise TraceError(
        "PTO178",
        "P.sel of something that is not a row of a sparse axis",
        values={"got": repr(x)[:80]},
        loc=here(),
        fix="make routing = Sparse(outer, indptr, indices), and write P.sel(routing[b]); loop over other axes with P",
    )


class Records(LoopAxis):
    """The rows of a tensor of records."""

    def __init__(self, tensor: TensorSpec) -> None:
        self.tensor = tensor

    def resolve(self, names: Names, loop: str) -> Axis:
        builder = innermost("P")
        return Axis("Records", builder.tensor(self.tensor), self.tensor.dims(builder)[0])

    def value(self, builder: WorkloadBuilder, index: Index, loop: OpenLoop) -> object:
        return Record(self.tensor, index)


class Record:
    """One row of a tensor of records: a scalar for each field, and `index`, its position."""

    __slots__ = ("_tensor", "index")

    def __init__(self, tensor: TensorSpec, index: Index) -> None:
        self._tensor = tensor
        self.index = index

    def __getattr__(self, name: str) -> Any:
        fields = self._tensor.fields or ()
        if name not in fields:
            raise no_attribute("a record", name, ", ".join(("index", *fields)))
        return self._tensor[self.index, fields.index(name)].element(name)

    def __repr__(self) -> str:
        return f"<record {self.index} of {self._tensor}>"


def row_index(axis: _Rows, index: Any) -> Any:
    """The number of a row, as what tensors are indexed with. Raises TraceError for anything else."""
    if (isinstance(index, Index) and index.tile is None) or isinstance(index, Symbol) or is_integer(index):
        return index
    e = None if isinstance(index, Index) else as_expr(index)
    if e is None:
        raise TraceError(
            "PTO161",
            f"a row of a {axis.kind} axis by {type(index).__name__}",
            values={"index": repr(index)[:80]},
            loc=here(),
            fix="index with a loop variable of the outer axis, or an integer",
        )
    return Index(e, getattr(index, "builder", None))


def _data(axis: _Rows, x: Any, what: str, size: ShapeDim | None, code: str) -> Given:
    """The data of an axis, checked: integers as an i64 array of its own. size: how many there must be, where this is known."""
    if isinstance(x, (TensorSpec, TensorView)):
        known = x.shape[0] if len(x.shape) == 1 else None
        if len(x.shape) != 1 or x.dtype not in (DType.I32, DType.I64):
            raise TraceError(
                "PTO177",
                f"{what} of a {axis.kind} axis that are no vector of i32 or i64",
                values={what: x},
                loc=here(),
                fix="give a one-dimensional i32 or i64 tensor, or one row or column of a matrix: indptr[0]",
            )
        if isinstance(size, int) and isinstance(known, int) and known != size:
            raise _wrong_count(axis, what, known, size, code)
        return x
    if isinstance(x, Symbol):
        return x
    array = np.asarray(x) if isinstance(x, (list, tuple, np.ndarray, range)) else None
    empty = array is not None and array.size == 0
    if array is None or array.ndim != 1 or not (empty or np.issubdtype(array.dtype, np.integer)):
        raise TraceError(
            "PTO177",
            f"{what} of a {axis.kind} axis that are no integers",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="give a list or a one-dimensional array of integers, an i32 or i64 Tensor, or a Symbol",
        )
    if isinstance(size, int) and len(array) != size:
        raise _wrong_count(axis, what, len(array), size, code)
    return array.astype(np.int64)


def _wrong_count(axis: _Rows, what: str, have: int, want: int, code: str) -> BindError:
    each = "one for each row" if what == "lengths" else "one more than rows"
    return BindError(
        code,
        f"{have} {what} of a {axis.kind} axis of {axis.rows} rows",
        values={"wanted": want},
        loc=here(),
        fix=f"give {each}",
    )


def _refuse(data: np.ndarray, wrong: np.ndarray, code: str, what: str, fix: str) -> None:
    """Raise BindError for the first element that is wrong."""
    if wrong.any():
        at = int(np.argmax(wrong))
        raise BindError(code, what, values={"position": at, "value": data[at]}, loc=here(), fix=fix)
