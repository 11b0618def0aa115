"""Tiles of regions, elements, and valid shapes."""

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
from pto_wsp.ir.facts import facts_of
from pto_wsp.ops.printed import printed
from pto_wsp.ops.region import RegionRef
from pto_wsp.ops.scalars import I64, constant, extent, type_of
from pto_wsp.ops.value import Operand, Ref, Value, is_scalar, scalar_in, to_in

load_part_p = Primitive("load_part", opcode=93, doc="TLOAD", unit="load")
store_part_p = Primitive("store_part", opcode=94, doc="TSTORE", unit="store")
element_p = Primitive("element", opcode=95, doc="GetValue")
restrict_p = Primitive("restrict", opcode=92, doc="TSUBVIEW", unit="none")
debug_print_p = Primitive("debug_print", opcode=96, doc="TPRINT", unit="none")

Memory = Ref | RegionRef


def _memory(x: object, what: str) -> Memory:
    if not isinstance(x, (Ref, RegionRef)):
        raise TypeCheckError(
            "PTO105",
            f"{what} of something that is not a parameter",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a parameter of the kernel; pto.slice takes a part of a value",
        )
    return x


def _tile(x: object, what: str) -> Var:
    """The variable of a tile, as it is now."""
    if not isinstance(x, Value) or not isinstance(x.type, TileType):
        raise TypeCheckError(
            "PTO105",
            f"{what} of something that is not a tile",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="give a tile of the kernel; pto.load takes one from a region, pto.full makes one of a scalar",
        )
    var = to_in(x, None, x.builder, what)
    assert isinstance(var, Var)
    return var


def rank(t: Type) -> int:
    """How many dimensions a region or tile has."""
    return len(t.shape) if isinstance(t, RegionType) else 2


def integer(builder: KernelBuilder, x: object, what: str) -> In:
    """x as an i64 operand. Raises TypeCheckError for what is no integer."""
    good = is_scalar(x) or (isinstance(x, (int, np.integer)) and not isinstance(x, bool))
    operand = scalar_in(builder, x, DType.I64, what) if good else None
    if isinstance(operand, Var) and operand.type == ScalarType(DType.U64):
        operand = builder.scalar("s.cast", [operand], {"to": DType.I64})
    if operand is None or type_of(operand) != I64:
        raise TypeCheckError(
            "PTO134",
            f"{what} is an integer",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="give a Python integer, a loop index, a length, pto.item of integers, or pto.cast(x, DType.I64)",
        )
    return operand


def _start(builder: KernelBuilder, memory: Type, index: object, what: str) -> list[In]:
    """One i64 operand for each dimension of a region or tile. Refuses indices that are known to lie outside."""
    given = index if isinstance(index, (tuple, list)) else (index,)
    if len(given) != rank(memory):
        raise TypeCheckError(
            "PTO133",
            f"{what} with {len(given)} indices",
            values={"dimensions": rank(memory)},
            loc=here(),
            fix="give an index for each dimension",
        )
    at = [integer(builder, x, f"{what}: an index") for x in given]
    for k, x in enumerate(at):
        size = _size(memory, k)
        if isinstance(x, Literal) and (x.value < 0 or (size is not None and x.value >= size)):
            raise BoundsError(
                "PTO163",
                f"{what}: index {x.value} of dimension {k}",
                values={"size": "known at the task" if size is None else size},
                loc=here(),
                fix="use indices of 0 up to the size - 1",
            )
    return at


def _size(t: Type, k: int) -> int | None:
    """The size of dimension k of a region or tile; None where it is known at the task."""
    if isinstance(t, RegionType):
        return t.shape[k]
    assert isinstance(t, TileType)
    valid = (t.vrows, t.vcols)[k]
    return valid if isinstance(valid, int) else None


def _valid(builder: KernelBuilder, x: Memory, k: int, start: In, length: int) -> Dim:
    """How many of `length` elements from `start` on there are in dimension k of x: all where that can be seen, else a scalar."""
    if length == 1:
        return 1
    size, at = _size(x.type, k), facts_of(start, builder.facts)
    if size is not None and (at.high + length <= size or (size % length == 0 and at.divisor % length == 0)):
        return length
    if size is not None:
        have: In = Literal(size, DType.I64)
    else:
        name = f"{x.param.name}.{k if isinstance(x, RegionRef) else ('rows', 'cols')[k]}"
        have = extent(builder, name)
        if at.low == at.high == 0 and facts_of(have, builder.facts).high <= length:
            return name
    if isinstance(have, Literal) and isinstance(start, Literal):
        return constant(builder, int(have.value) - int(start.value)).name
    left = have if at.low == at.high == 0 else builder.scalar("s.sub", [have, start], {})
    if isinstance(left, Var) and facts_of(left, builder.facts).high <= length:
        return left.name
    return builder.scalar("s.min", [left, Literal(length, DType.I64)], {}).name


def load_part(x: object, index: object, shape: object) -> Value:
    """A tile of the parameter x; see `load`."""
    from pto_wsp.ops.memory import check_shape  # it builds on this module

    ref = _memory(x, "load")
    dims = rank(ref.type)
    if index is None or shape is None:
        raise TypeCheckError(
            "PTO133",
            "load of a part without an index or a shape",
            values={"index": index, "shape": shape},
            loc=here(),
            fix="pto.load(x, (row, col), (16, 128)): where the tile begins, and its static shape",
        )
    if dims == 1 and isinstance(shape, (tuple, list)) and len(shape) == 1:
        shape = (1, *shape)
    rows, cols = check_shape("load", shape)
    if dims == 1 and rows != 1:
        raise TypeCheckError(
            "PTO133",
            f"load of {rows} rows of one dimension",
            loc=here(),
            fix="a vector gives tiles of one row: (1, cols)",
        )
    builder = current_kernel("load")
    if isinstance(ref, Ref):
        ref.check_written()
    at = _start(builder, ref.type, index, "load")
    vcols = _valid(builder, ref, dims - 1, at[-1], cols)
    vrows = 1 if dims == 1 else _valid(builder, ref, dims - 2, at[-2], rows)
    params: dict[str, Any] = {"rows": rows, "cols": cols, "vrows": vrows, "vcols": vcols}
    return Value(builder, builder.value("load_part", [ref.memory, *at], params, here()))


def store_part(out: object, x: Operand, index: object) -> None:
    """Store into a part of the parameter `out`; see `store`."""
    ref = _memory(out, "store")
    builder = current_kernel("store")
    if ref.param.direction is Direction.IN or (
        ref.param.direction is Direction.OUT and ref.param.name not in builder.written
    ):
        raise TraceError(
            "PTO124",
            f"store into a part of {ref.param.name}",
            values={ref.param.name: f"{ref.param.direction} {ref.type}"},
            loc=here(),
            fix="declare the parameter InOut[...], the rest of which stays as it was; or store to all of it first",
        )
    value = _tile(x, "store")
    builder.emit("store_part", [ref.memory, value, *_start(builder, ref.type, index, "store")], {}, here())
    builder.stored[ref.param.name] = builder.stored.get(ref.param.name, 0) + 1


def item(x: Value, index: Sequence[Operand] | Operand) -> Value:
    """One element of a tile, or of a tile or region parameter, as a scalar: i64, u64, f64 or bool. index: one for each dimension.

    An index outside of it is a BoundsError of the task. What depends on elements may not say how often a loop runs.

    [m, n] -> scalar; all; GetValue; exact
    """
    builder = current_kernel("item")
    if isinstance(x, (Ref, RegionRef)):
        if isinstance(x, Ref):
            x.check_written()
        source = x.memory
    else:
        source = _tile(x, "item")
    return Value(builder, builder.value("element", [source, *_start(builder, source.type, index, "item")], {}, here()))


def valid_shape(x: Value) -> tuple[Any, Any]:
    """How many rows and columns of x are valid: Python numbers where that is static, else scalars.

    [m, n] -> two scalars; all; GetValidRow, GetValidCol; exact
    """
    builder = current_kernel("valid_shape")
    t = x.type if isinstance(x, Ref) else _tile(x, "valid_shape").type
    assert isinstance(t, TileType)
    rows, cols = (_known(builder, d) for d in (t.vrows, t.vcols))
    return rows, cols


def _known(builder: KernelBuilder, d: Dim) -> int | Value:
    if isinstance(d, int):
        return d
    return Value(builder, extent(builder, d) if d.rpartition(".")[0] in builder.params else Var(d, I64))


def restrict(x: Value, rows: Operand, cols: Operand) -> Value:
    """x with a smaller valid shape: rows and cols are numbers or scalars, at least 1 and at most what is valid.

    Raises BoundsError where that is known to be wrong; else it is checked when the task runs: KernelError.

    [m, n] -> [m, n]; all; TSUBVIEW; exact
    """
    builder = current_kernel("restrict")
    value = _tile(x, "restrict")
    t = value.type
    assert isinstance(t, TileType)
    dims: list[Dim] = []
    for n, have, size in ((rows, t.vrows, t.rows), (cols, t.vcols, t.cols)):
        d = integer(builder, n, "restrict: an extent")
        if isinstance(d, Literal) and not 1 <= d.value <= (have if isinstance(have, int) else size):
            raise BoundsError(
                "PTO163",
                f"restrict to {d.value} of {have}",
                values={"tile": t},
                loc=here(),
                fix="give extents of 1 up to what is valid",
            )
        dims.append(_as_dim(builder, d, size))
    return Value(builder, builder.value("restrict", [value], {"vrows": dims[0], "vcols": dims[1]}, here()))


def _as_dim(builder: KernelBuilder, d: In, size: int) -> Dim:
    if isinstance(d, Literal):
        return size if d.value == size else constant(builder, int(d.value)).name
    assert isinstance(d, Var)
    return builder.extents.get(d.name, d.name)


def debug_print(label: str, x: Value) -> None:
    """Print the label, the kernel, and the valid shape and numbers of the tile or scalar x, on standard error, when the task runs.
    Prints of one task come in order; those of tasks that run at the same time in any.

    [m, n] -> nothing; all; TPRINT; exact
    """
    builder = current_kernel("debug_print")
    if not isinstance(label, str) or not isinstance(x, Value):
        raise TypeCheckError(
            "PTO105",
            "debug_print without a label or a value of the kernel",
            values={"got": f"{label!r}, {x!r}"[:80]},
            loc=here(),
            fix='pto.debug_print("x", x); Python\'s print shows what is known while tracing',
        )
    builder.emit("debug_print", [to_in(x, None, builder, "debug_print")], {"label": label}, here())


def _need_start(what: str, index: Sequence[Type], t: Type) -> RegionType | TileType:
    if not isinstance(t, (RegionType, TileType)) or len(index) != rank(t) or any(i != I64 for i in index):
        raise TypeError(f"{what} takes a region or tile, and an i64 for each of its dimensions")
    return t


def _restricted(dtype: DType, rows: int, cols: int, params: dict[str, Any]) -> TileType:
    out = TileType(dtype, rows, cols, params["vrows"], params["vcols"])
    if any(isinstance(d, int) and d != size for d, size in ((out.vrows, rows), (out.vcols, cols))):
        raise TypeError("a valid extent that is a number is the whole static shape")
    return out


def _part(x: np.ndarray, index: Sequence[int], sizes: Sequence[int], fix: str) -> np.ndarray:
    """The view of `sizes` elements from `index` on; only the last dimensions have a size, of the others it is one element."""
    sizes = [1] * (x.ndim - len(sizes)) + list(sizes)
    for k, (i, n) in enumerate(zip(index, sizes, strict=True)):
        if i < 0 or n < 1 or i + n > x.shape[k]:
            values = {"from": int(i)} | ({"elements": int(n)} if n > 0 else {}) | {"size": x.shape[k]}
            raise BoundsError("PTO732", f"a part that lies outside of dimension {k}", values=values, fix=fix)
    return x[tuple(slice(int(i), int(i) + int(n)) for i, n in zip(index, sizes, strict=True))]


@load_part_p.def_type
def _(params: dict[str, Any], x: Type, *index: Type) -> Typed:
    memory = _need_start("load_part", index, x)
    if rank(memory) == 1 and params["rows"] != 1:
        raise TypeError("load_part takes one row of a vector")
    return Typed(_restricted(memory.dtype, params["rows"], params["cols"], params))


@load_part_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, *index: int) -> np.ndarray:
    """params has the valid extents as numbers."""
    valid = (params["vrows"], params["vcols"])
    part = _part(x, index, valid[-x.ndim :], "begin inside of the parameter: loop up to its length")
    return part.reshape(valid).copy()


@load_part_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: TileType, x: Type, *index: Type) -> Expr:
    return arch.transfer("load", out)


@store_part_p.def_type
def _(params: dict[str, Any], out: Type, x: Type, *index: Type) -> Typed:
    memory = _need_start("store_part", index, out)
    if not isinstance(x, TileType) or x.dtype is not memory.dtype or (rank(memory) == 1 and x.rows != 1):
        raise TypeCheckError(
            "PTO125",
            "stored value and output differ",
            values={"output": out, "value": x},
            fix="store a tile of the output's dtype: pto.cast changes the dtype; into a vector one row",
        )
    return Typed(None)


@store_part_p.def_reference
def _(params: dict[str, Any], out: np.ndarray, x: np.ndarray, *index: int) -> None:
    part = _part(out, index, x.shape[-out.ndim :], "store inside of the parameter: pto.restrict makes the tile smaller")
    part[...] = x.reshape(part.shape)


@store_part_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: None, ref: Type, x: TileType, *index: Type) -> Expr:
    return arch.transfer("store", x)


@element_p.def_type
def _(params: dict[str, Any], x: Type, *index: Type) -> Typed:
    return Typed(ScalarType(_need_start("element", index, x).dtype.scalar))


@element_p.def_reference
def _(params: dict[str, Any], x: np.ndarray, *index: int) -> np.ndarray:
    return _part(x, index, (), "use indices of 0 up to the size - 1").reshape(())


@element_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: ScalarType, x: RegionType | TileType, *index: Type) -> Expr:
    one = TileType(x.dtype, 1, 1)
    return arch.transfer("load", one) if isinstance(x, RegionType) else arch.vector("copy", one)


@restrict_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    if not isinstance(x, TileType):
        raise TypeError("restrict of a tile")
    out = _restricted(x.dtype, x.rows, x.cols, params)
    pairs = ((x.vrows, out.vrows), (x.vcols, out.vcols))
    checks = [c for have, new in pairs if have != new for c in (Check("ge", have, new), Check("ge", new, 1))]
    return Typed(out, tuple(checks))


@restrict_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """params has the valid extents as numbers."""
    return x[: params["vrows"], : params["vcols"]]


@debug_print_p.def_type
def _(params: dict[str, Any], x: Type) -> Typed:
    if not isinstance(x, (TileType, ScalarType)) or not isinstance(params["label"], str):
        raise TypeError("debug_print of a value, with a label")
    return Typed(None)


@debug_print_p.def_reference
def _(params: dict[str, Any], x: np.ndarray) -> None:
    print(printed(params["label"], params["kernel"], params["dtype"], x), end="", file=sys.stderr)


@restrict_p.def_cost
@debug_print_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: Type | None, x: Type) -> Expr:
    return const(0)
