"""Tiles of regions, elements, and extents."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import BoundsError, TraceError, TypeCheckError, here
from pto_wsp.ir.build import KernelBuilder, current_kernel
from pto_wsp.ir.core import (
    Check,
    Dim,
    Direction,
    DType,
    In,
    Literal,
    Primitive,
    RegionType,
    ScalarType,
    TileType,
    Type,
    Typed,
    Var,
)
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ops.value import Operand, Ref, Region, Value, bind_scalars, extent, is_scalar, to_in, widened

load_part_p = Primitive("load_part", opcode=93, unit="load")
store_part_p = Primitive("store_part", opcode=94, unit="store")
element_p = Primitive("element", opcode=95)
restrict_p = Primitive("restrict", opcode=92, unit="none")
dim_p = Primitive("dim", unit="none")
widen_p = Primitive("widen", unit="none")
narrow_p = Primitive("narrow", unit="none")

_I64 = ScalarType(DType.I64)


def _memory(x: object, what: str) -> Ref | Region:
    if not isinstance(x, (Ref, Region)):
        raise TypeCheckError(
            "PTO105",
            f"{what} of something that is not a parameter",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a parameter of the kernel; pto.slice takes a part of a value",
        )
    return x


def rank(t: Type) -> int:
    return len(t.shape) if isinstance(t, RegionType) else 2


def _size(t: Type, k: int) -> int | None:
    """The static size of dimension k of a parameter or tile; None where it is known at the task."""
    if isinstance(t, RegionType):
        return t.shape[k]
    assert isinstance(t, TileType)
    valid = (t.vrows, t.vcols)[k]
    return valid if isinstance(valid, int) else None


def _dim_name(x: Ref | Region, k: int) -> str:
    return f"{x.param.name}.{k}" if isinstance(x, Region) else f"{x.param.name}.{('rows', 'cols')[k]}"


def indices(builder: KernelBuilder, index: object, count: int, what: str) -> list[In]:
    """One i64 operand for each of `count` dimensions."""
    given = index if isinstance(index, (tuple, list)) else (index,)
    if len(given) != count:
        raise TypeCheckError(
            "PTO133",
            f"{what} with {len(given)} indices",
            values={"dimensions": count},
            loc=here(),
            fix="give an index for each dimension",
        )
    return [integer(builder, x, f"{what}: an index") for x in given]


def integer(builder: KernelBuilder, x: object, what: str) -> In:
    """x as an i64 operand. Raises TypeCheckError for what is no integer."""
    good = is_scalar(x) or (isinstance(x, (int, np.integer)) and not isinstance(x, bool))
    operand = widened(builder, x, DType.I64, what) if good else None
    if isinstance(operand, Var) and operand.type == ScalarType(DType.U64):
        operand = builder.emit("s.cast", [operand], {"to": DType.I64, "checked": True}, here())
    if operand is None or (isinstance(operand, Var) and operand.type != _I64):
        raise TypeCheckError(
            "PTO134",
            f"{what} is an integer",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="give a Python integer, a loop index, a length, pto.item of integers, or pto.cast(x, DType.I64)",
        )
    return operand


def _valid(builder: KernelBuilder, x: Ref | Region, k: int, start: In, size: int) -> Dim:
    """How many of `size` elements from `start` on dimension k of x has."""
    have = _size(x.type, k)
    if isinstance(start, Literal) and have is not None:
        return size if have - int(start.value) >= size else _constant(builder, have - int(start.value)).name
    whole = extent(builder, _dim_name(x, k)) if have is None else have
    begin = Value(builder, start) if isinstance(start, Var) else start.value  # type: ignore[union-attr]
    left = whole if isinstance(begin, int) and begin == 0 else bind_scalars("sub", (whole, begin))
    n = bind_scalars("minimum", (left, size)).read()
    return n.name


def load_part(x: object, index: object, shape: object) -> Value:
    from pto_wsp.ops.memory import check_shape

    ref = _memory(x, "load")
    if index is None or shape is None:
        raise TypeCheckError(
            "PTO133",
            "load of a part needs both an index and a shape",
            loc=here(),
            fix="pto.load(x, (row, col), (16, 128))",
        )
    rows, cols = check_shape("load", shape)
    builder = current_kernel("load")
    if ref.param.direction is Direction.OUT and ref.param.name not in builder.written:
        raise TraceError(
            "PTO123",
            f"the output {ref.param.name} is read before it is written",
            values={ref.param.name: f"out {ref.type}"},
            loc=here(),
            fix="declare it InOut[...], or store to it first",
        )
    at = indices(builder, index, rank(ref.type), "load")
    _inside(ref, at, (rows, cols)[-rank(ref.type) :])
    if rank(ref.type) == 1 and rows != 1:
        raise TypeCheckError(
            "PTO133",
            f"load of {rows} rows of one dimension",
            loc=here(),
            fix="a vector gives tiles of one row: (1, cols)",
        )
    last = rank(ref.type) - 1
    vcols = _valid(builder, ref, last, at[last], cols)
    vrows = _valid(builder, ref, last - 1, at[last - 1], rows) if last else 1
    params: dict[str, Any] = {"rows": rows, "cols": cols, "vrows": vrows, "vcols": vcols}
    var = builder.emit("load_part", [ref.memory, *at], params, here())
    assert var is not None
    return Value(builder, var)


def _inside(ref: Ref | Region, at: Sequence[In], sizes: Sequence[int]) -> None:
    """Refuse starts that are known to lie outside."""
    for k, x in enumerate(at):
        have = _size(ref.type, k)
        if isinstance(x, Literal) and (x.value < 0 or (have is not None and x.value >= have)):
            raise BoundsError(
                "PTO163",
                f"{ref.param.name} has {have or 'some'} elements in dimension {k}, but element {x.value} is named",
                loc=here(),
                fix="use indices inside of it",
            )


def store_part(out: object, x: Operand, index: object) -> None:
    ref = _memory(out, "store")
    builder = current_kernel("store")
    if ref.param.direction is not Direction.INOUT:
        raise TraceError(
            "PTO124",
            f"store into a part of {ref.param.name}",
            values={ref.param.name: f"{ref.param.direction} {ref.type}"},
            loc=here(),
            fix="declare the parameter InOut[...]: the rest of it stays as it was",
        )
    if not isinstance(x, Value) or not isinstance(x.type, TileType):
        raise TypeCheckError(
            "PTO105",
            "store of a part needs a tile",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="pto.full((1, 1), x)",
        )
    at = indices(builder, index, rank(ref.type), "store")
    _inside(ref, at, ())
    builder.emit("store_part", [ref.memory, to_in(x, None, builder, "store"), *at], {}, here())
    builder.stored[ref.param.name] = builder.stored.get(ref.param.name, 0) + 1


def item(x: Value, index: object) -> Value:
    """One element of a tile, or of a region or tile parameter, as a scalar: i64, u64, f64 or bool. index: one for each dimension.

    An index outside is a BoundsError of the task. What depends on an element may not say how often a loop runs.

    [m, n] -> scalar; f32 f16 bf16 i32 bool; GetValue; exact
    """
    builder = current_kernel("item")
    if isinstance(x, (Ref, Region)):
        if x.param.direction is Direction.OUT and x.param.name not in builder.written:
            raise TraceError(
                "PTO123",
                f"the output {x.param.name} is read before it is written",
                values={x.param.name: f"out {x.type}"},
                loc=here(),
                fix="declare it InOut[...], or store to it first",
            )
        source = x.memory
    elif isinstance(x, Value) and isinstance(x.type, TileType):
        source = x.read()
    else:
        raise TypeCheckError(
            "PTO105",
            "item of something that is not a tile",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a tile",
        )
    at = indices(builder, index, rank(source.type), "item")
    for k, i in enumerate(at):
        have = _size(source.type, k)
        if isinstance(i, Literal) and (i.value < 0 or (have is not None and i.value >= have)):
            raise BoundsError(
                "PTO163",
                f"item: {have or 'some'} elements in dimension {k}, but element {i.value} is named",
                loc=here(),
                fix="use indices inside of it",
            )
    var = builder.emit("element", [source, *at], {}, here())
    assert var is not None
    return Value(builder, var)


def valid_shape(x: Value) -> tuple[Any, Any]:
    """How many rows and columns of x are valid: Python numbers where that is static, else scalars.

    [m, n] -> two scalars; f32 f16 bf16 i32 bool; GetValidRow, GetValidCol; exact
    """
    builder = current_kernel("valid_shape")
    t = x.type if isinstance(x, Value) else None
    if not isinstance(t, TileType):
        raise TypeCheckError(
            "PTO105",
            "valid_shape of something that is not a tile",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a tile",
        )
    return _known(builder, t.vrows), _known(builder, t.vcols)


def _known(builder: KernelBuilder, d: Dim) -> Any:
    if isinstance(d, int):
        return d
    return extent(builder, d) if "." in d else Value(builder, Var(d, _I64))


def restrict(x: Value, rows: Operand, cols: Operand) -> Value:
    """x with a smaller valid shape: rows and cols are numbers or scalars, at least 1 and at most those that x has.

    [m, n] -> [m, n]; f32 f16 bf16 i32 bool; TSUBVIEW; exact
    """
    builder = current_kernel("restrict")
    if not isinstance(x, Value) or not isinstance(x.type, TileType):
        raise TypeCheckError(
            "PTO105",
            "restrict of something that is not a tile",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a tile",
        )
    value = x.read()
    assert isinstance(value.type, TileType)
    dims: list[Dim] = []
    for n, have in ((rows, value.type.vrows), (cols, value.type.vcols)):
        d = integer(builder, n, "restrict: an extent")
        if isinstance(d, Literal) and (d.value < 1 or (isinstance(have, int) and d.value > have)):
            raise BoundsError(
                "PTO163", f"restrict to {d.value} of {have}", loc=here(), fix="give extents of 1 up to what is valid"
            )
        dims.append(_extent(builder, d, value.type.shape[len(dims)]))
    var = builder.emit("restrict", [value], {"vrows": dims[0], "vcols": dims[1]}, here())
    assert var is not None
    return Value(builder, var)


def _constant(builder: KernelBuilder, n: int) -> Var:
    """A scalar that holds n. Dims are numbers only where they are the whole static shape."""
    var = builder.emit("s.add", [Literal(n, DType.I64), Literal(0, DType.I64)], {}, here())
    assert var is not None
    return var


def _extent(builder: KernelBuilder, d: In, size: int) -> Dim:
    if isinstance(d, Literal):
        return size if d.value == size else _constant(builder, int(d.value)).name
    assert isinstance(d, Var)
    return d.name


def debug_print(label: str, x: Operand) -> None:
    """Print the label, the kernel, and dtype, valid shape and numbers of the tile or scalar x, when the task runs, on standard
    error. Prints of one task come in order; those of tasks that run at the same time in any.

    [m, n] -> nothing; f32 f16 bf16 i32 bool; TPRINT; exact
    """
    builder = current_kernel("debug_print")
    if not isinstance(label, str) or not isinstance(x, Value):
        raise TypeCheckError(
            "PTO105",
            "debug_print takes a label and a value of the kernel",
            values={"got": f"{label!r}, {x!r}"[:80]},
            loc=here(),
            fix='pto.debug_print("x", x); Python\'s print shows what is known while tracing',
        )
    builder.emit("debug_print", [x.read()], {"label": label}, here())


def need_indices(what: str, index: Sequence[Type], t: Type) -> None:
    if len(index) != rank(t) or any(i != _I64 for i in index):
        raise TypeError(f"{what} takes an i64 for each dimension")


def _fitting(t: Type, dim: Dim, size: int) -> None:
    if isinstance(dim, int) and dim != size:
        raise TypeError("a valid extent that is a number is the whole static shape")


@load_part_p.def_type
def _(params: dict[str, Any], x: Type, *index: Type) -> Typed:
    if not isinstance(x, (RegionType, TileType)):
        raise TypeError("load_part reads a region or tile")
    need_indices("load_part", index, x)
    out = TileType(x.dtype, params["rows"], params["cols"], params["vrows"], params["vcols"])
    for dim, size in ((out.vrows, out.rows), (out.vcols, out.cols)):
        _fitting(out, dim, size)
    return Typed(out)


@load_part_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, *index: int) -> np.ndarray:
    """params has the valid extents as numbers."""
    return _part(x, index, (params["vrows"], params["vcols"])).copy()


def _part(x: np.ndarray, index: Sequence[int], valid: Sequence[int]) -> np.ndarray:
    sizes = [1] * (x.ndim - 2) + list(valid[-x.ndim :])
    for k, (i, n) in enumerate(zip(index, sizes, strict=True)):
        if i < 0 or n < 1 or i + n > x.shape[k]:
            raise BoundsError(
                "PTO732",
                f"a part of {n} elements from {i} on, in dimension {k} of size {x.shape[k]}",
                fix="begin inside of the parameter: loop up to its length",
            )
    view = x[tuple(slice(int(i), int(i) + int(n)) for i, n in zip(index, sizes, strict=True))]
    return view.reshape(valid) if x.ndim != 2 else view


@load_part_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: Type, *index: Type) -> Expr:
    return arch.transfer("load", out)


@store_part_p.def_type
def _(params: dict[str, Any], out: Type, x: Type, *index: Type) -> Typed:
    if not isinstance(out, (RegionType, TileType)):
        raise TypeError("store_part writes a region or tile")
    if not isinstance(x, TileType) or x.dtype is not out.dtype or (rank(out) == 1 and x.rows != 1):
        raise TypeCheckError(
            "PTO125",
            "stored value and output differ",
            values={"output": out, "value": x},
            fix="store a tile of the output's dtype: pto.cast changes the dtype; into a vector one row",
        )
    need_indices("store_part", index, out)
    return Typed(None)


@store_part_p.def_reference
def _(params: dict[str, Any], out: np.ndarray, x: np.ndarray, *index: int) -> None:
    sizes = x.shape[-min(out.ndim, 2) :]
    at = _place(out, index, sizes)
    out[at] = x.reshape([1] * (out.ndim - 2) + list(sizes))


def _place(x: np.ndarray, index: Sequence[int], valid: Sequence[int]) -> tuple[slice, ...]:
    sizes = [1] * (x.ndim - len(valid)) + list(valid)
    for k, (i, n) in enumerate(zip(index, sizes, strict=True)):
        if i < 0 or i + n > x.shape[k]:
            raise BoundsError(
                "PTO732",
                f"a part of {n} elements from {i} on, in dimension {k} of size {x.shape[k]}",
                fix="store inside of the parameter: pto.restrict makes the tile smaller",
            )
    return tuple(slice(int(i), int(i) + int(n)) for i, n in zip(index, sizes, strict=True))


@store_part_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: None, ref: Type, x: TileType, *index: Type) -> Expr:
    return arch.transfer("store", x)


@element_p.def_type
def _(params: dict[str, Any], x: Type, *index: Type) -> Typed:
    if not isinstance(x, (RegionType, TileType)):
        raise TypeError("element reads a region or tile")
    need_indices("element", index, x)
    return Typed(ScalarType(x.dtype.scalar))


@element_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, *index: int) -> np.ndarray:
    for k, i in enumerate(index):
        if not 0 <= i < x.shape[k]:
            raise BoundsError(
                "PTO732", f"element {i} in dimension {k} of size {x.shape[k]}", fix="use indices inside of it"
            )
    return np.asarray(x[tuple(int(i) for i in index)])


@element_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: ScalarType, x: Type, *index: Type) -> Expr:
    one = TileType(x.dtype if isinstance(x, (TileType, RegionType)) else out.dtype, 1, 1)
    return arch.transfer("load", one) if isinstance(x, RegionType) else arch.vector("copy", one)


@restrict_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    if not isinstance(x, TileType):
        raise TypeError("restrict of a tile")
    out = TileType(x.dtype, x.rows, x.cols, params["vrows"], params["vcols"])
    checks: list[Check] = []
    for have, new, size in ((x.vrows, out.vrows, x.rows), (x.vcols, out.vcols, x.cols)):
        _fitting(out, new, size)
        if have != new:
            checks += [Check("ge", have, new), Check("ge", new, 1)]
    return Typed(out, tuple(checks))


@restrict_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x[: params["vrows"], : params["vcols"]].copy()


@restrict_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return const(0)


@dim_p.def_type
def _(params: dict[str, Any]) -> Typed:
    if not isinstance(params["of"], str):
        raise TypeError("dim names an extent")
    return Typed(_I64)


@dim_p.def_reference
def _(params: dict[str, Any]) -> np.ndarray:
    """params has the extent as a number."""
    return np.asarray(params["of"])


@widen_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    if not isinstance(x, ScalarType):
        raise TypeError("widen of a scalar")
    return Typed(ScalarType(x.dtype.scalar))


@widen_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x


@narrow_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    to = params["to"]
    if not isinstance(x, ScalarType) or not isinstance(to, DType) or to.is_float is not (x.dtype is DType.F64):
        raise TypeError("narrow of a scalar to a dtype of its kind")
    return Typed(ScalarType(to))


@narrow_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x


def _free(arch: Arch, params: dict[str, Any], *types: Any) -> Expr:
    """Scalars are computed beside the tiles."""
    return const(0)


debug_print_p = Primitive("debug_print", opcode=96, unit="none")


@debug_print_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    if not isinstance(x, (TileType, ScalarType)) or not isinstance(params["label"], str):
        raise TypeError("debug_print of a value, with a label")
    return Typed(None)


@debug_print_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> None:
    shape = "x".join(map(str, x.shape)) or "scalar"
    print(f"{params['label']}: {shape}\n{x}", file=sys.stderr)


for _p in (dim_p, widen_p, narrow_p, debug_print_p):
    _p.def_cost(_free)
