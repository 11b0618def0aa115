"""Tensors and views of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp.errors import (
    BindError,
    BoundsError,
    TraceError,
    check_name,
    here,
    no_attribute,
    without_control,
    without_operators,
)
from pto_wsp.ir import expr
from pto_wsp.ir.core import Axis, DType, Role
from pto_wsp.ir.expr import Expr
from pto_wsp.trace.axes import DenseDyn, LoopAxis, Names, Tiles
from pto_wsp.trace.index import Index, Scalar64, as_expr

ShapeDim = int | Scalar64 | DenseDyn


def array_of(data: Any, what: str) -> np.ndarray:
    """`data` as a numpy array that shares its memory. Raises BindError for what is not an array."""
    if isinstance(data, np.ma.MaskedArray):
        raise BindError(
            "PTO501", f"{what} is a masked array", loc=here(), fix="fill it: array.filled(value); kernels know no masks"
        )
    if isinstance(data, np.ndarray):
        return data
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


def dtype_of(array: np.ndarray) -> DType | None:
    """The DType of an array in either byte order, or None when there is none."""
    native = array.dtype.newbyteorder("=")
    return next((d for d in DType if _matches(d, native)), None)


def _matches(d: DType, native: np.dtype[Any]) -> bool:
    # bf16 is compared by name first, so that ml_dtypes is loaded only where it is used
    return native == d.numpy if d is not DType.BF16 else native.name == "bfloat16" and native == d.numpy


def check_array(array: np.ndarray, dtype: DType, what: str) -> None:
    """Raise BindError unless `array` holds `dtype` in this machine's byte order."""
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
    "a workload passes views to kernels, and kernels compute: kernel[i](x=X[i], out=Y[i])",
)
class TensorSpec:
    """The type of a tensor whose array is bound later: shape (integers, symbols, dynamic axes), dtype, name."""

    def __init__(self, shape: Sequence[ShapeDim], dtype: DType, *, name: str | None = None) -> None:
        self.spec_shape = _check_shape(shape)
        self.dtype = _check_dtype(dtype)
        self.given_name = check_name(name, "a tensor", "PTO164")

    @property
    def shape(self) -> tuple[ShapeDim, ...]:
        """Dimensions as declared."""
        return self.spec_shape

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

    def __repr__(self) -> str:
        dims = ",".join(str(d.to_expr()) if isinstance(d, Scalar64) else repr(d) for d in self.spec_shape)
        return f"{self.given_name or type(self).__name__}: {self.dtype}[{dims}]"


class Tensor(TensorSpec):
    """An array bound by reference: outputs appear in the user's array without a copy.

    data: numpy or ml_dtypes array of any strides, or an object with `__array_interface__` or `__dlpack__`. shape and dtype are
    optional and checked against it; the shape may name symbols and dynamic axes. Raises BindError where they differ.
    Indexing gives a view; a view of a tensor is a declared part of it, so both may be used in one workload.
    """

    def __init__(
        self,
        data: Any = None,
        shape: Sequence[ShapeDim] | None = None,
        dtype: DType | None = None,
        *,
        name: str | None = None,
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
        super().__init__(array.shape if shape is None else shape, declared, name=name)
        fixed = [d if isinstance(d, (int, np.integer)) else None for d in self.spec_shape]
        if len(fixed) != array.ndim or any(d is not None and d != n for d, n in zip(fixed, array.shape, strict=True)):
            raise BindError(
                "PTO503",
                f"{what} has another shape than declared",
                values={"declared": list(self.spec_shape), "array": list(array.shape)},
                loc=here(),
                fix="declare shape=array.shape, or reshape the array",
            )
        self.data = array


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
            fix="write DType.F32, F16, BF16, I32 or BOOL",
        )
    return dtype


def _expr(x: object) -> Expr:
    e = as_expr(x)
    assert e is not None, x
    return e


_FIRST = expr.const(0)


class Part:
    """What a view takes of one dimension of its tensor: an index (dropped), a range, a tile, or everything."""

    __slots__ = ("kind", "limit", "size", "start")

    def __init__(self, kind: str, start: Expr = _FIRST, size: int = 0, limit: Expr | None = None) -> None:
        self.kind = kind  # "all" | "at" | "range" | "tile"
        self.start = start  # of a tile: its index
        self.size = size
        self.limit = limit


@without_control("bool lt le gt ge eq ne", "a tensor")
@without_operators(
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg abs invert matmul rmatmul setitem",
    "a tensor",
    "a workload passes views to kernels, and kernels compute: kernel[i](x=X[i], out=Y[i])",
)
class TensorView:
    """A rectangular part of a tensor: made by indexing, passed to kernels."""

    def __init__(
        self, root: TensorSpec, parts: tuple[Part, ...] | None = None, indices: tuple[Scalar64, ...] = ()
    ) -> None:
        self.root = root
        self.parts = parts if parts is not None else tuple(Part("all") for _ in root.spec_shape)
        self.indices = indices  # every traced index used, so that the workload can check their scope

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.root.dtype

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("a view", name, "shape, dtype, tiles(n), and indexing")

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
    def kept(self) -> list[int]:
        """The dimensions of the tensor that are not dropped."""
        return [i for i, p in enumerate(self.parts) if p.kind != "at"]

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
        if part.kind == "tile":
            raise TraceError(
                "PTO153", "tiles of a tile", values={"view": self}, loc=here(), fix="tile the dimension once"
            )
        return Tiles(_DimAxis(self.root, first, part.size if part.kind == "range" else None), size)

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
        used = list(self.indices)
        for dim, x in zip(kept, items, strict=False):
            parts[dim] = self._part(dim, x)
            used += [i for i in ((x.start, x.stop) if isinstance(x, slice) else (x,)) if isinstance(i, Scalar64)]
        return TensorView(self.root, tuple(parts), tuple(used))

    def _extent(self, dim: int) -> ShapeDim:
        """Elements that dimension `dim` of this view has."""
        part = self.parts[dim]
        return part.size if part.kind in ("range", "tile") else self.root.spec_shape[dim]

    def _part(self, dim: int, x: Any) -> Part:
        old = self.parts[dim]
        if isinstance(x, slice):
            return self._slice(dim, x)
        if isinstance(x, Index) and x.tile is not None:
            if old.kind != "all":
                raise TraceError(
                    "PTO161",
                    "a tile index into a slice or a tile",
                    values={"view": self, "index": x},
                    loc=here(),
                    fix="slice with start and stop instead: X[i*16:(i+1)*16]",
                )
            return Part("tile", x.expr, x.tile[0], x.tile[1])
        i = as_expr(x)
        if i is None:
            raise TraceError(
                "PTO161",
                f"an index of kind {type(x).__name__}",
                values={"index": repr(x)[:80]},
                loc=here(),
                fix="index with integers, loop variables, expressions of them, and slices",
            )
        if old.kind == "tile":
            raise TraceError(
                "PTO161", "an element of a tile", values={"view": self}, loc=here(), fix="index the tensor itself"
            )
        return Part("at", self._inside(dim, i, 1) + old.start)

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

    def _slice(self, dim: int, s: slice) -> Part:
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
        if old.kind == "tile":
            raise TraceError(
                "PTO162", "a slice of a tile", values={"view": self}, loc=here(), fix="slice the tensor itself"
            )
        extent = self._extent(dim)
        end = _expr(extent) if isinstance(extent, (int, Scalar64)) else None
        ends: list[Expr] = []
        for x, default in ((s.start, expr.const(0)), (s.stop, end)):
            e = default if x is None else as_expr(x)
            if e is None:
                raise TraceError(
                    "PTO162",
                    "a slice whose bounds are not integers",
                    values={"slice": repr(s)},
                    loc=here(),
                    fix="slice with integers and expressions of loop variables; : alone takes all",
                )
            if e.is_const and e.const < 0 and isinstance(extent, int):
                e = e + extent
            ends.append(e)
        length = ends[1] - ends[0]
        if not length.is_const:
            raise TraceError(
                "PTO162",
                "a slice of unknown length",
                values={"start": ends[0], "stop": ends[1]},
                loc=here(),
                fix="tiles have static shapes: write X[i*16:(i+1)*16], or iterate axis.tiles(16)",
            )
        if length.const < 1:
            raise BoundsError(
                "PTO163",
                "an empty slice",
                values={"start": ends[0], "stop": ends[1]},
                loc=here(),
                fix="a tile has at least one row and one column",
            )
        start = self._inside(dim, ends[0], length.const)
        return Part("range", start + old.start, length.const)

    def __repr__(self) -> str:
        return f"a view of {self.root}"


class _DimAxis(LoopAxis):
    """One dimension of a tensor as an axis; it takes the tensor's name."""

    def __init__(self, root: TensorSpec, dim: int, size: int | None) -> None:
        self.root = root
        self.dim = dim
        self.size = size

    def resolve(self, names: Names, loop: str) -> Axis:
        size = self.root.dims(names)[self.dim] if self.size is None else expr.const(self.size)
        return Axis("Dense" if size.is_const else "DenseDyn", names.name(self.root, self.root.given_name) or loop, size)
