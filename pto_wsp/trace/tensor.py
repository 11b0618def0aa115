"""Tensors and views of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pto_wsp.errors import (
    BindError,
    BoundsError,
    Location,
    TraceError,
    TypeCheckError,
    check_name,
    here,
    no_attribute,
    without_control,
    without_operators,
)
from pto_wsp.ir import expr
from pto_wsp.ir.core import MOST_REGION_DIMS, Axis, DType, RegionType, Role
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.layout import TensorLayout
from pto_wsp.trace.axes import DenseDyn, LoopAxis, Names, Tiles
from pto_wsp.trace.index import Element, Index, Scalar64, as_expr, owner_of
from pto_wsp.trace.scalar import DataScalar, innermost

if TYPE_CHECKING:
    from pto_wsp.trace.builder import Block, WorkloadBuilder

ShapeDim = int | Scalar64 | DenseDyn
Use = tuple["WorkloadBuilder | None", Expr]
"""An expression in a view, and the trace it belongs to."""


def array_of(data: Any, what: str) -> np.ndarray:
    """`data` as a numpy array that shares its memory. Raises BindError for what is not an array."""
    if isinstance(data, np.ma.MaskedArray):
        raise BindError(
            "PTO501", f"{what} is a masked array", loc=here(), fix="fill it: array.filled(value); kernels know no masks"
        )
    if isinstance(data, np.ndarray):
        return data if data.dtype.names is None else _records(data, what)
    if not isinstance(data, (list, tuple)) and (hasattr(data, "__array_interface__") or hasattr(data, "__dlpack__")):
        try:
            return np.asarray(data) if hasattr(data, "__array_interface__") else np.from_dlpack(data)
        except Exception as e:
            raise BindError(
                "PTO501",
                f"{what}: its memory cannot be used",
                values={"got": type(data).__name__, "because": e},
                loc=here(),
                fix="give a numpy array in this machine's memory",
            ) from e
    raise BindError(
        "PTO501",
        f"{what} is not an array",
        values={"got": type(data).__name__},
        loc=here(),
        fix="give a numpy array (numpy.asarray(...)), or an object with __dlpack__ or __array_interface__",
    )


def _records(array: np.ndarray, what: str) -> np.ndarray:
    """A structured array of int32 fields as an int32 array [n, fields], of the same memory."""
    names = array.dtype.names or ()
    layout: Any = array.dtype.fields
    kinds = [layout[n][:2] for n in names]
    if array.ndim != 1 or kinds != [(np.dtype(np.int32), 4 * k) for k in range(len(names))]:
        raise BindError(
            "PTO502",
            f"{what} is a structured array that is no array of records",
            values={"array": f"{array.dtype}{list(array.shape)}"},
            loc=here(),
            fix="records are one-dimensional, of int32 fields that follow each other: np.dtype([('request', np.int32), ...])",
        )
    first: np.ndarray = array.getfield(np.int32, 0)
    return np.lib.stride_tricks.as_strided(first, (len(array), len(names)), (array.strides[0], 4))


def dtype_of(array: np.ndarray) -> DType | None:
    """The DType of an array in either byte order, or None when there is none."""
    native = array.dtype.newbyteorder("=")
    return next((d for d in DType if _matches(d, native)), None)


def _matches(d: DType, native: np.dtype[Any]) -> bool:
    # bf16 is compared by name first, so that ml_dtypes is loaded only where it is used
    return native == d.numpy if d is not DType.BF16 else native.name == "bfloat16" and native == d.numpy


def check_array(array: np.ndarray, dtype: DType, what: str) -> None:
    """Raise BindError unless `array` holds `dtype` in this machine's byte order."""
    if array.dtype is dtype.numpy:  # what numpy makes of it in this byte order is one object
        return
    found = dtype_of(array)
    if found is not dtype:
        raise BindError(
            "PTO502",
            f"{what} holds {array.dtype}, but is declared {dtype}",
            values={"array": f"{array.dtype}{list(array.shape)}"},
            loc=here(),
            fix=f"convert the array (array.astype(...)), or declare the dtype it has: {found or 'none of ' + ', '.join(map(str, DType))}",
        )
    if not array.dtype.isnative:
        raise BindError(
            "PTO504",
            f"{what} is in another byte order",
            values={"array": array.dtype.str},
            loc=here(),
            fix="array.astype(array.dtype.newbyteorder('='))",
        )


@without_control("bool lt le gt ge eq ne", "a tensor")
@without_operators(
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg abs invert matmul rmatmul setitem",
    "a tensor",
    "a workload passes views to kernels, and kernels compute: kernel[i](x=X[i], out=Y[i]); item(n[i]) reads an element as a scalar",
)
class TensorSpec(Element):
    """The type of a tensor whose array is bound later: shape (integers, symbols, dynamic axes), dtype, name.

    fields: names of the columns of an i32 [n, k] tensor, whose rows then are records: `for r in P(work)` gives r.kv_start and r.index.
    layout: how it lies on a mesh of devices, each of which runs the workload. `shape` is that of the whole tensor, `.shape` what a device has of it.
    """

    def __init__(
        self,
        shape: Sequence[ShapeDim],
        dtype: DType,
        *,
        name: str | None = None,
        fields: Sequence[str] | None = None,
        layout: TensorLayout | None = None,
    ) -> None:
        self.spec_shape = _check_shape(shape)
        self.layout = check_layout(layout)
        if self.layout is not None:
            self.spec_shape = self.layout.local_shape(self.spec_shape)
        self.dtype = _check_dtype(dtype)
        self.given_name = check_name(name, "a tensor", "PTO164")
        self.fields = _check_fields(fields, self.spec_shape, self.dtype)

    sent: Location | None = None
    """Where a process sent it to another, whose it is then."""

    @property
    def shape(self) -> tuple[ShapeDim, ...]:
        """Dimensions as declared."""
        return self.spec_shape

    @property
    def within(self) -> tuple[Block, ...]:
        """The branches and sequential loops that it may be used in alone."""
        return ()

    @property
    def role(self) -> Role:
        """Who owns the storage."""
        return Role.GIVEN

    @property
    def handle(self) -> object:
        """What the user's variables hold of this tensor: itself, or a view of it."""
        return self

    def dims(self, names: Names) -> tuple[Expr, ...]:
        """Dimensions as expressions, under the names of the workload being traced."""
        out = tuple(d.size_expr(names, None) if isinstance(d, DenseDyn) else _expr(d) for d in self.spec_shape)
        for d in out:
            if any(not str(name).startswith("$") for name, _ in d.terms):
                raise TraceError(
                    "PTO164",
                    "a tensor dimension that is not affine in symbols",
                    values={"tensor": self, "dimension": d},
                    loc=here(),
                    fix="give the product a Symbol of its own, and no loop variables",
                )
            for name in d.names():
                names.symbol(name[1:], None)
        return out

    def __getitem__(self, index: Any) -> TensorView:
        return TensorView(self)[index]

    def tiles(self, size: int) -> Tiles:
        """Tile indices over the first dimension."""
        return TensorView(self).tiles(size)

    def valid(self, *, rows: Any = None, cols: Any = None) -> TensorView:
        """As of a view: the tensor as a tile of which only the first rows and columns are valid."""
        return TensorView(self).valid(rows=rows, cols=cols)

    @property
    def is_element(self) -> bool:
        """Whether it has no dimensions."""
        return not self.spec_shape

    def element(self, name: str | None = None) -> DataScalar:
        return TensorView(self).element(name)

    def reduced(self, prim: str, name: str | None = None) -> DataScalar:
        return TensorView(self).reduced(prim, name)

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("a tensor", name, "shape, dtype, tiles(n), and indexing")

    def __len__(self) -> int:
        raise TraceError("PTO128", "the length of a tensor", values={"tensor": self}, loc=here(), fix="use .shape")

    def __iter__(self) -> Any:
        raise TraceError(
            "PTO150",
            "iteration over a tensor",
            values={"tensor": self},
            loc=here(),
            fix="write `for i in P(x.tiles(16))`, or P(axis) and x[i]",
        )

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.given_name or type(self).__name__

    def __repr__(self) -> str:
        dims = ",".join(str(d.to_expr()) if isinstance(d, Scalar64) else repr(d) for d in self.spec_shape)
        return f"{self.called}: {self.dtype}[{dims}]"


class Tensor(TensorSpec):
    """An array bound by reference: outputs appear in the user's array without a copy.

    data: numpy or ml_dtypes array of any strides, or an object with `__array_interface__` or `__dlpack__`. shape and dtype are
    optional and checked against it; the shape may name symbols and dynamic axes. Raises BindError where they differ.
    fields: as of TensorSpec; a structured array of int32 fields has them already. layout: as of TensorSpec; the array is that of the whole tensor.
    Indexing gives a view; a view of a tensor is a declared part of it, so both may be used in one workload.
    """

    def __class_getitem__(cls, item: Any) -> RegionType:
        """A region in an annotation of a kernel: `Tensor[None, 128, DType.F32]`; None is any length."""
        *shape, dtype = item if isinstance(item, tuple) else (item,)
        good = all(
            n is None or (isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1) for n in shape
        )
        if not isinstance(dtype, DType) or not 1 <= len(shape) <= MOST_REGION_DIMS or not good:
            raise TraceError(
                "PTO121",
                f"Tensor[..., dtype] needs 1 to {MOST_REGION_DIMS} positive integers or None, and a DType of tiles",
                values={"got": repr(item)[:80]},
                loc=here(),
                fix="write Tensor[None, 128, DType.F32]: any number of rows of 128",
            )
        return RegionType(dtype, tuple(None if n is None else int(n) for n in shape))

    def __init__(
        self,
        data: Any = None,
        shape: Sequence[ShapeDim] | None = None,
        dtype: DType | None = None,
        *,
        name: str | None = None,
        fields: Sequence[str] | None = None,
        layout: TensorLayout | None = None,
    ) -> None:
        what = f"the data of tensor {name}" if name else "the data of a tensor"
        if data is None:
            raise BindError(
                "PTO507",
                "a Tensor without an array",
                loc=here(),
                fix="give data=, or declare TensorSpec(shape, dtype) and bind an array to the program",
            )
        array = array_of(data, what)
        declared = dtype_of(array) if dtype is None else _check_dtype(dtype)
        if declared is None:
            raise BindError(
                "PTO502",
                f"{what} holds {array.dtype}, which is not a DType",
                loc=here(),
                fix=f"convert it to one of {', '.join(map(str, DType))}",
            )
        check_array(array, declared, what)
        if fields is None and isinstance(data, np.ndarray):
            fields = data.dtype.names
        super().__init__(array.shape if shape is None else shape, declared, name=name, fields=fields, layout=layout)
        whole = self.spec_shape if self.layout is None else self.layout.global_shape(self.spec_shape)
        fixed = [d if isinstance(d, (int, np.integer)) else None for d in whole]
        if len(fixed) != array.ndim or any(d is not None and d != n for d, n in zip(fixed, array.shape, strict=True)):
            raise BindError(
                "PTO503",
                f"{what} has another shape than declared",
                values={"declared": list(whole), "array": list(array.shape)},
                loc=here(),
                fix="declare shape=array.shape, or reshape the array",
            )
        self.data = array


def check_layout(layout: object) -> TensorLayout | None:
    """A layout, or none. Raises TraceError for anything else."""
    if layout is not None and not isinstance(layout, TensorLayout):
        raise TraceError(
            "PTO164",
            "a tensor's layout is a TensorLayout",
            values={"layout": repr(layout)[:80]},
            loc=here(),
            fix='write layout=TensorLayout(mesh, TensorShard("x"), TensorReplicate())',
        )
    return layout


def _check_shape(shape: Any) -> tuple[ShapeDim, ...]:
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TraceError(
            "PTO164",
            "a tensor's shape is a tuple",
            values={"shape": repr(shape)[:80]},
            loc=here(),
            fix="write shape=(4, 16, 128)",
        )
    for d in shape:
        if not isinstance(d, (Scalar64, DenseDyn)) and (
            not isinstance(d, (int, np.integer)) or isinstance(d, bool) or d < 0
        ):
            raise TraceError(
                "PTO164",
                "a tensor dimension is an integer >= 0, a Symbol or a DenseDyn axis",
                values={"dimension": repr(d)[:80]},
                loc=here(),
                fix="write shape=(batch, 16, 128)",
            )
    if len(shape) > 8:
        raise TraceError(
            "PTO164",
            "a tensor of more than 8 dimensions",
            values={"shape": list(shape)},
            loc=here(),
            fix="reshape the array",
        )
    return tuple(int(d) if isinstance(d, np.integer) else d for d in shape)


def _check_dtype(dtype: object) -> DType:
    if not isinstance(dtype, DType):
        raise TraceError(
            "PTO164",
            "a tensor's dtype is a DType",
            values={"dtype": repr(dtype)[:80]},
            loc=here(),
            fix=f"write one of {', '.join(f'DType.{d.name}' for d in DType)}",
        )
    return dtype


def _check_fields(fields: Any, shape: tuple[ShapeDim, ...], dtype: DType) -> tuple[str, ...] | None:
    if fields is None:
        return None
    good = isinstance(fields, Sequence) and all(isinstance(f, str) and f.isidentifier() for f in fields)
    names: tuple[str, ...] = tuple(fields) if good else ()
    taken = ("index", "dtype", "root", "parts", "uses", "kept")
    clash = [f for f in names if f in taken or f.startswith("_") or hasattr(TensorSpec, f)]
    if not names or clash or len(set(names)) != len(names) or dtype is not DType.I32 or shape[1:] != (len(names),):
        raise TraceError(
            "PTO185",
            "records are an i32 [n, k] tensor with k fields of different names",
            values={
                "fields": repr(fields)[:80],
                "tensor": f"{dtype}{list(shape)}",
                "taken names": ", ".join(clash) or "none",
            },
            loc=here(),
            fix='write Tensor(data, fields=("request", "kv_start", ...)), a name for each column',
        )
    return names


def _expr(x: object) -> Expr:
    e = as_expr(x)
    assert e is not None, x
    return e


_FIRST = expr.const(0)


@dataclass(frozen=True, slots=True)
class Part:
    """What a view takes of one dimension of its tensor.

    all; at: one element, the dimension is dropped; range: `size` elements from `start`; span: `length` elements from `start`, a
    number known only at run time; tile: tile `index` of `size` elements from `start`, up to `limit`; gather: the elements that the
    view `through` names.
    """

    kind: str
    start: Expr = _FIRST
    size: int = 0
    length: Expr = _FIRST
    index: Expr = _FIRST
    limit: Expr = _FIRST
    through: TensorView | None = None


@without_control("bool lt le gt ge eq ne", "a tensor")
@without_operators(
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg abs invert matmul rmatmul setitem",
    "a tensor",
    "a workload passes views to kernels, and kernels compute: kernel[i](x=X[i], out=Y[i]); item(n[i]) reads an element as a scalar",
)
class TensorView(Element):
    """A rectangular part of a tensor: made by indexing, passed to kernels. Without dimensions left it may stand for a scalar."""

    def __init__(self, root: TensorSpec, parts: tuple[Part, ...] | None = None, uses: tuple[Use, ...] = ()) -> None:
        self.root = root
        self.parts = parts if parts is not None else tuple(Part("all") for _ in root.spec_shape)
        self.uses = uses

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.root.dtype

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        fields = self.root.fields or ()
        if name in fields and [(k, self.parts[k].kind) for k in self.kept] == [(1, "all")]:
            return self[fields.index(name)].element(name)
        raise no_attribute(
            "a view", name, ", ".join(("shape, dtype, tiles(n), valid(rows=, cols=), and indexing", *fields))
        )

    @property
    def shape(self) -> tuple[ShapeDim, ...]:
        """Remaining dimensions; of a tile index, the tile's static size."""
        return tuple(self._extent(d) for d in self.kept)

    def __len__(self) -> int:
        raise TraceError("PTO128", "the length of a view", values={"view": self}, loc=here(), fix="use .shape")

    def __iter__(self) -> Any:
        raise TraceError(
            "PTO150",
            "iteration over a view",
            values={"view": self},
            loc=here(),
            fix="write `for i in P(x.tiles(16))`, or P(axis) and x[i]",
        )

    @property
    def layout(self) -> TensorLayout | None:
        """How it lies on a mesh of devices; None too where it has a part of what is divided."""
        layout = self.root.layout
        if layout is None or any(d.axes and p.kind != "all" for d, p in zip(layout.dims, self.parts, strict=True)):
            return None
        return TensorLayout(layout.mesh, *(layout.dims[k] for k in self.kept), pending=layout.pending)

    @property
    def kept(self) -> list[int]:
        """The dimensions of the tensor that are not dropped."""
        return [i for i, p in enumerate(self.parts) if p.kind != "at"]

    @property
    def is_element(self) -> bool:
        """Whether it has no dimensions."""
        return not self.kept

    def element(self, name: str | None = None) -> DataScalar:
        if self.kept:
            raise TraceError(
                "PTO172",
                f"a scalar from a view of {len(self.kept)} dimensions",
                values={"view": self},
                loc=here(),
                fix="index every dimension: item(lens[b]); reduce_sum, reduce_max, ... give one scalar of several elements",
            )
        return self.reduced("item", name)

    def reduced(self, prim: str, name: str | None = None) -> DataScalar:
        if any(p.through is not None for p in self.parts):
            raise TraceError(
                "PTO172",
                f"{prim} of a gather",
                values={"view": self},
                loc=here(),
                fix="read the index with item first: x[item(idx[i])]; or reduce in a kernel, which takes gathers",
            )
        if self.dtype is DType.BOOL and prim in ("reduce_sum", "reduce_max", "reduce_min"):
            raise TypeCheckError(
                "PTO171",
                f"{prim} of a tensor of bools",
                values={"view": self},
                loc=here(),
                fix="use reduce_any or reduce_all, or count in a kernel",
            )
        return innermost(prim).scalar_of(prim, self, name)

    def tiles(self, size: int) -> Tiles:
        """Tile indices over the first remaining dimension."""
        if not self.kept:
            raise TraceError(
                "PTO160",
                "tiles of a view without dimensions",
                values={"view": self},
                loc=here(),
                fix="index fewer dimensions",
            )
        first = self.kept[0]
        part = self.parts[first]
        if part.kind in ("tile", "gather"):
            raise TraceError(
                "PTO153", f"tiles of a {part.kind}", values={"view": self}, loc=here(), fix="tile the dimension once"
            )
        length = {"range": expr.const(part.size), "span": part.length}.get(part.kind)
        return Tiles(_DimAxis(self.root, first, length), size)

    def valid(self, *, rows: Any = None, cols: Any = None) -> TensorView:
        """The same tile of which only the first `rows` rows and `cols` columns are valid: numbers known late, of at least 1.

        The view has two dimensions left of static size. A number above the tile's size makes all of it valid; one that reaches
        beyond the tensor is a BoundsError when its task comes. What lies outside the valid part is never read or written.
        """
        if len(self.kept) != 2:
            raise TraceError(
                "PTO160",
                f"valid() of a view of {len(self.kept)} dimensions",
                values={"view": self},
                loc=here(),
                fix="index until two dimensions are left: K[page, h].valid(rows=n)",
            )
        parts = list(self.parts)
        uses = list(self.uses)
        for dim, n in zip(self.kept, (rows, cols), strict=True):
            if n is None:
                continue
            count, old, size = as_expr(n), parts[dim], self._extent(dim)
            if count is None or not isinstance(size, int) or old.kind == "gather":
                raise TraceError(
                    "PTO161",
                    "valid() needs integers, and a dimension of static size",
                    values={"view": self, "got": repr(n)[:80]},
                    loc=here(),
                    fix="give an integer, a scalar or an expression of loop variables; of a gather, cut the index view",
                )
            uses.append((owner_of(n), count))
            first = old.start + old.index * size
            limit = first + count if old.kind != "tile" else expr.minimum(old.limit, first + count)
            parts[dim] = Part("tile", old.start, size, index=old.index, limit=limit)
        return TensorView(self.root, tuple(parts), tuple(uses))

    def __getitem__(self, index: Any) -> TensorView:
        items = list(index) if isinstance(index, tuple) else [index]
        kept = self.kept
        dots = [k for k, x in enumerate(items) if x is Ellipsis]
        if len(dots) > 1:
            raise TraceError(
                "PTO160", "more than one ... in an index", values={"view": self}, loc=here(), fix="keep one"
            )
        if dots:
            k = dots[0]
            items[k : k + 1] = [slice(None)] * (len(kept) - len(items) + 1)
        if len(items) > len(kept):
            raise TraceError(
                "PTO160",
                f"{len(items)} indices for {len(kept)} dimensions",
                values={"view": self},
                loc=here(),
                fix="give at most one index for each dimension",
            )
        parts = list(self.parts)
        uses = list(self.uses)
        for dim, x in zip(kept, items, strict=False):
            parts[dim] = self._part(dim, x, uses)
        return TensorView(self.root, tuple(parts), tuple(uses))

    def _extent(self, dim: int) -> ShapeDim:
        """Elements that dimension `dim` of this view has."""
        part = self.parts[dim]
        if part.kind == "span":
            return Index(part.length, next((owner for owner, _ in self.uses if owner is not None), None))
        return self.root.spec_shape[dim] if part.kind == "all" else part.size

    def _part(self, dim: int, x: Any, uses: list[Use]) -> Part:
        old = self.parts[dim]
        if isinstance(x, slice):
            return self._slice(dim, x, uses)
        if isinstance(x, Index) and x.tile is not None:
            uses += [(x.builder, x.expr), (x.builder, x.tile[1])]
            return self._tile(dim, x, *x.tile)
        if isinstance(x, (TensorSpec, TensorView)) and not x.is_element:
            return self._gather(dim, x[...])
        i = as_expr(x)
        if i is None:
            raise TraceError(
                "PTO161",
                f"an index of kind {type(x).__name__}",
                values={"index": repr(x)[:80]},
                loc=here(),
                fix="P(a, b) and P.seq(a, b) go over two axes and give pairs: for i, j in P(a, b)"
                if isinstance(x, tuple)
                else "index with integers, loop variables, scalars, expressions of them, slices, and views of index tensors",
            )
        uses.append((owner_of(x), i))
        if old.kind in ("tile", "gather"):
            raise TraceError(
                "PTO161",
                f"an element of a {old.kind}",
                values={"view": self},
                loc=here(),
                fix="index the tensor itself",
            )
        if old.kind == "span":
            innermost("an element of a slice").need_inside(i, old.length, here())
            return Part("at", i + old.start)
        return Part("at", self._inside(dim, i, 1) + old.start)

    def _tile(self, dim: int, x: Index, size: int, elements: Expr) -> Part:
        """Tile `x` of an axis of so many elements, of what this view takes of a dimension."""
        old = self.parts[dim]
        if old.kind in ("tile", "gather"):
            raise TraceError(
                "PTO161",
                f"a tile index into a {old.kind}",
                values={"view": self, "index": x},
                loc=here(),
                fix="index the tensor itself",
            )
        if old.kind == "all":
            return Part("tile", _FIRST, size, index=x.expr, limit=elements)
        have = expr.const(old.size) if old.kind == "range" else old.length
        if have.is_const and elements.is_const and elements.const > have.const:
            raise BoundsError(
                "PTO163",
                f"tiles of {elements} elements of a slice that has {have}",
                values={"view": self},
                loc=here(),
                fix="tile the slice itself: P(x.tiles(n))",
            )
        return Part("tile", old.start, size, index=x.expr, limit=old.start + expr.minimum(elements, have))

    def _gather(self, dim: int, index: TensorView) -> Part:
        """The elements of a dimension that an integer view names."""
        kept = [index.parts[k].kind for k in index.kept]
        if len(kept) != 1 or index.dtype not in (DType.I32, DType.I64) or kept[0] == "gather":
            raise TraceError(
                "PTO161",
                f"an index view of {len(kept)} dimensions of {index.dtype}",
                values={"index": index},
                loc=here(),
                fix="gather through one dimension of an i32 or i64 tensor: X[idx[t*16:(t+1)*16], :]",
            )
        if self.parts[dim].kind != "all":
            raise TraceError(
                "PTO161",
                "a gather of a slice or a tile",
                values={"view": self},
                loc=here(),
                fix="index the tensor itself",
            )
        size = index.shape[0]
        if not isinstance(size, int):
            raise TraceError(
                "PTO162",
                "an index view of unknown length",
                values={"index": index},
                loc=here(),
                fix="a tile has a static shape: iterate idx.tiles(16) and write X[idx[t], :]",
            )
        return Part("gather", size=size, through=index)

    def _inside(self, dim: int, start: Expr, length: int) -> Expr:
        """`start` with a negative constant counted from the end, checked where sizes are known now."""
        extent = self._extent(dim)
        size = extent if isinstance(extent, int) else None
        asked = f"{start}" if length == 1 else f"{start} .. {start + length}"
        if start.is_const and start.const < 0:
            if size is None:
                raise TraceError(
                    "PTO161",
                    "a negative index into a dimension of unknown size",
                    values={"view": self, "index": start},
                    loc=here(),
                    fix="count from the front, or write X[n - 1] with the symbol of the size",
                )
            start = start + size
        # of a whole dimension, whether the access is reached is looked at where a kernel gets it
        known = start.is_const and size is not None and (start.const < 0 or self.parts[dim].kind != "all")
        if known and size is not None and not (start.const >= 0 and start.const + length <= size):
            raise BoundsError(
                "PTO163",
                f"{asked} lies outside of dimension {dim}, which has {size} elements",
                values={"tensor": self.root},
                loc=here(),
                fix="use an index that exists",
            )
        return start

    def _slice(self, dim: int, s: slice, uses: list[Use]) -> Part:
        old = self.parts[dim]
        if s.start is None and s.stop is None and s.step is None:
            return old
        if s.step not in (None, 1):
            raise TraceError(
                "PTO162",
                "a slice with a step",
                values={"step": s.step},
                loc=here(),
                fix="bind a strided array as a tensor of its own: Tensor(data=x[::2])",
            )
        if old.kind in ("tile", "gather", "span"):
            what = "slice of unknown length" if old.kind == "span" else old.kind
            raise TraceError(
                "PTO162", f"a slice of a {what}", values={"view": self}, loc=here(), fix="slice the tensor itself"
            )
        start, stop = self._ends(dim, s, uses)
        length = stop - start
        if not length.is_const:
            return Part("span", start + old.start, length=length)
        if length.const < 0:
            raise BoundsError(
                "PTO163",
                "a slice that ends before it starts",
                values={"start": start, "stop": stop},
                loc=here(),
                fix="a slice has 0 or more elements",
            )
        return Part("range", self._inside(dim, start, length.const) + old.start, length.const)

    def _ends(self, dim: int, s: slice, uses: list[Use]) -> tuple[Expr, Expr]:
        """Where a slice starts and stops."""
        extent = self._extent(dim)
        end = extent.size_expr(innermost("a slice"), None) if isinstance(extent, DenseDyn) else _expr(extent)
        ends: list[Expr] = []
        for x, default in ((s.start, _FIRST), (s.stop, end)):
            e = default if x is None else as_expr(x)
            if e is None:
                raise TraceError(
                    "PTO162",
                    "a slice whose bounds are not integers",
                    values={"slice": repr(s)},
                    loc=here(),
                    fix="slice with integers, scalars and expressions of loop variables; : alone takes all",
                )
            if e.is_const and e.const < 0:
                e = e + end
            uses.append((owner_of(x), e))
            ends.append(e)
        return ends[0], ends[1]

    def __repr__(self) -> str:
        return f"a view of {self.root}"


class _DimAxis(LoopAxis):
    """One dimension of a tensor as an axis; it takes the tensor's name."""

    def __init__(self, root: TensorSpec, dim: int, size: Expr | None) -> None:
        self.root = root
        self.dim = dim
        self.size = size

    def resolve(self, names: Names, loop: str) -> Axis:
        size = self.root.dims(names)[self.dim] if self.size is None else self.size
        return Axis("Dense" if size.is_const else "DenseDyn", names.name(self.root, self.root.given_name) or loop, size)
