"""Memory and constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.errors import TraceError, TypeCheckError, here
from pto_wsp.ir.build import current_kernel
from pto_wsp.ir.core import Check, Direction, DType, Primitive, ScalarType, TileType, Type, Typed
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scalars import SCALAR_DTYPES
from pto_wsp.ops.parts import load_part, store_part
from pto_wsp.ops.scalars import narrowed
from pto_wsp.ops.value import Operand, Ref, Value, bind, composed, is_scalar, to_in, var_of

load_p = Primitive("load", opcode=1, doc="TLOAD", unit="load")
store_p = Primitive("store", opcode=2, doc="TSTORE", unit="store")
full_p = Primitive("full", opcode=3, doc="TEXPANDS")
iota_p = Primitive("iota", opcode=4, doc="TCI")


def _ref(x: object, what: str) -> Ref:
    if not isinstance(x, Ref):
        raise TypeCheckError(
            "PTO105",
            f"{what} of something that is not a tile parameter",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a parameter declared In, Out or InOut",
        )
    return x


def load(x: Value, index: Sequence[Operand] | None = None, shape: Sequence[int] | None = None) -> Value:
    """The value of the tile parameter x now; a later store does not change it. With index and shape a tile of the region or
    tile parameter x: `index` has a number or scalar for each dimension, the last two (of one dimension: the last) are where the
    tile of static `shape` (rows, cols) begins. What lies past the end of x is not valid: the tail of a loop over it.

    Using a parameter as an operand loads it by itself. Raises TraceError for an output that nothing was stored to; a tile that
    begins outside of x is a BoundsError of the task.

    parameter [m, n] -> [m, n]; all; TLOAD; exact
    """
    if index is not None or shape is not None:
        return load_part(x, index, shape)
    ref = _ref(x, "load")
    return Value(ref.builder, ref.read())


@load_p.def_type
def _(params: dict[str, Any], x: TileType) -> Typed:
    return Typed(x)


@load_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x.copy()


@load_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: TileType) -> Expr:
    return arch.transfer("load", x)


def store(out: Value, x: Operand, index: Sequence[Operand] | None = None) -> None:
    """Write the tile or number x over the valid region of the Out or InOut parameter `out`. With index, the valid part of the
    tile x from there on, into an InOut region or tile: an index is as of load.

    Raises TraceError for an input, TypeCheckError for another shape or dtype.

    parameter [m, n], [m, n]; all; TSTORE; exact
    """
    if index is not None:
        store_part(out, x, index)
        return
    ref = _ref(out, "store")
    builder = current_kernel("store")
    if ref.param.direction is Direction.IN:
        raise TraceError(
            "PTO124",
            f"store into the input {ref.param.name}",
            values={ref.param.name: f"in {ref.type}"},
            loc=here(),
            fix="declare the parameter Out[...] or InOut[...]",
        )
    value = x if isinstance(x, Value) and x.shape else full(ref.shape, x, ref.dtype)
    builder.emit("store", [ref.memory, to_in(value, None, builder, "store")], {}, here())
    builder.stored[ref.param.name] = builder.stored.get(ref.param.name, 0) + 1
    builder.written.add(ref.param.name)


@store_p.def_type
def _(params: dict[str, Any], out: TileType, x: Type) -> Typed:
    if not isinstance(x, TileType) or x.shape != out.shape or x.dtype is not out.dtype:
        raise TypeCheckError(
            "PTO125",
            "stored value and output differ",
            values={"output": out, "value": x},
            fix="store a tile of the output's shape and dtype: pto.cast changes the dtype, pto.broadcast the shape",
        )
    return Typed(
        None,
        tuple(
            Check("ge", a, b)
            for a, b in ((x.vrows, out.vrows), (x.vcols, out.vcols))
            if not isinstance(a, int) and a != b
        ),
    )


@store_p.def_reference
def _(params: dict[str, Any], out: np.ndarray, x: np.ndarray) -> None:
    out[...] = x[: out.shape[0], : out.shape[1]]


@store_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: None, ref: TileType, x: TileType) -> Expr:
    return arch.transfer("store", ref)


def check_shape(what: str, shape: object) -> tuple[int, int]:
    """(rows, cols) of Python integers >= 1."""
    ok = (
        isinstance(shape, Sequence)
        and len(shape) == 2
        and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in shape)
    )
    if not ok:
        raise TypeCheckError(
            "PTO106",
            f"{what} needs a shape (rows, cols)",
            values={"shape": shape},
            loc=here(),
            fix="give two positive Python integers",
        )
    return int(shape[0]), int(shape[1])  # type: ignore[index]


def check_axis(what: str, axis: object) -> int:
    """0 (rows) or 1 (columns)."""
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or axis not in (0, 1):
        raise TypeCheckError(
            "PTO106",
            f"{what} needs axis 0 or 1",
            values={"axis": repr(axis)[:80]},
            loc=here(),
            fix="0 goes along the rows (down a column), 1 along the columns",
        )
    return int(axis)


def check_dtype(what: str, dtype: object) -> DType:
    if not isinstance(dtype, DType):
        raise TypeCheckError(
            "PTO106",
            f"{what} needs a DType",
            values={"dtype": str(dtype)[:80]},
            loc=here(),
            fix="write one, such as DType.F32",
        )
    return dtype


def full(shape: Sequence[int], value: Operand, dtype: DType | None = None) -> Value:
    """A tile of one number, which may be NaN or infinite. shape: (rows, cols); value: a number, a scalar parameter, whose own dtype the
    tile has, or a scalar that the kernel computes: integers wrap to an integer `dtype`, f64 is rounded to a float one. dtype: by default
    F32, and that of a scalar parameter, of which no other one may be asked for.

    It is defined everywhere: with a tile of smaller valid shape it takes that shape. Raises TypeCheckError where a scalar would have
    to be converted: pto.cast does that.

    number -> [m, n]; all; TEXPANDS; exact
    """
    rows, cols = check_shape("full", shape)
    if is_scalar(value):
        assert isinstance(value, Value)
        value = _in_dtype(value, _dtype_of(value) if dtype is None else check_dtype("full", dtype))
        dtype = value.dtype
    wanted = DType.F32 if dtype is None else check_dtype("full", dtype)
    return bind("full", value, dtype=wanted, rows=rows, cols=cols)


def _dtype_of(x: Value) -> DType:
    """The dtype of a tile of the scalar x, where none is said: its own, where tiles and parameters have it; else F32."""
    computed = x.dtype in SCALAR_DTYPES and x.read().name not in x.builder.params
    return DType.F32 if computed else x.dtype


def _in_dtype(x: Value, dtype: DType) -> Value:
    """The scalar x in the dtype of a tile."""
    var = var_of(x, current_kernel("full"), "full")
    known = x.dtype is dtype or var.name in x.builder.params
    same = x if known else Value(x.builder, narrowed(x.builder, var, dtype))
    if same.dtype is not dtype:
        raise TypeCheckError(
            "PTO102",
            f"full of {dtype} with a scalar of {x.dtype}",
            values={"value": x},
            loc=here(),
            fix=f"pto.cast(x, DType.{dtype.name}); or say another dtype: a scalar parameter's own, one of the kind of what is computed",
        )
    return same


constant = full


@composed
def full_like(x: Value, value: Operand) -> Value:
    """`full` of the shape and dtype of x.

    [m, n], number -> [m, n]; all; TEXPANDS; exact
    """
    like = need_value("full_like", x)
    return full(like.shape, value, like.dtype)


@full_p.def_type
def _(params: dict[str, Any], value: Type) -> Typed:
    if not isinstance(value, ScalarType):
        raise TypeCheckError(
            "PTO105",
            "full of a tile",
            values={"value": value},
            fix="give a number or a scalar parameter; pto.broadcast repeats a tile",
        )
    return Typed(TileType(value.dtype, params["rows"], params["cols"]))


@full_p.def_reference
def _(params: dict[str, Any], value: np.ndarray) -> np.ndarray:
    return np.full((params["rows"], params["cols"]), value)


@full_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, value: ScalarType) -> Expr:
    return arch.vector("full", out)


def iota(shape: Sequence[int], axis: int = 1) -> Value:
    """Each element's own row (axis=0) or column (axis=1) number, from 0. shape: (rows, cols).

    -> [m, n]; i32; TCI; exact
    """
    rows, cols = check_shape("iota", shape)
    builder = current_kernel("iota")
    var = builder.emit("iota", [], {"axis": check_axis("iota", axis), "rows": rows, "cols": cols}, here())
    assert var is not None
    return Value(builder, var)


@iota_p.def_type
def _(params: dict[str, Any]) -> Typed:
    return Typed(TileType(DType.I32, params["rows"], params["cols"]))


@iota_p.def_reference
def _(params: dict[str, Any]) -> np.ndarray:
    return np.indices((params["rows"], params["cols"]), dtype=np.int32)[params["axis"]]


@iota_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType) -> Expr:
    return arch.vector("iota", out)


def need_value(what: str, x: object) -> Value:
    """x as a tile value of the current kernel."""
    if not isinstance(x, Value):
        raise TypeCheckError(
            "PTO105",
            f"{what} of {type(x).__name__}",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a tile of the kernel",
        )
    if not isinstance(x.type, TileType):
        raise TypeCheckError(
            "PTO105",
            f"{what} of a scalar",
            values={"operand": x.type},
            loc=here(),
            fix="give a tile; pto.full((rows, cols), s) makes one of a scalar",
        )
    return x
