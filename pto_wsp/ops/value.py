"""Values of a kernel under trace, and `bind`, which applies a primitive to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from pto_wsp.errors import (
    InternalError,
    TraceError,
    TypeCheckError,
    UnsupportedError,
    here,
    no_attribute,
    without_operators,
)
from pto_wsp.ir.build import KernelBuilder, current_kernel
from pto_wsp.ir.core import (
    Direction,
    DType,
    In,
    KernelParam,
    Literal,
    Param,
    RegionType,
    ScalarType,
    TileType,
    Type,
    Var,
    operand_type,
)
from pto_wsp.ir.evaluate import round_to
from pto_wsp.ir.scalars import RANGES, SCALAR_DTYPES


@without_operators(
    "pow rpow divmod rdivmod round trunc floor ceil setitem delitem",
    "a tile",
    "use the operations of pto: docs/operations.md lists them; results go to pto.store(out, value)",
)
class Value:
    """A tile or a scalar of the kernel being traced.

    Python operators mean the `pto` operation of that name: `+ - * /` (add sub mul div), `@` (matmul), unary `-`, `abs`,
    comparisons (give bool tiles), and `& | ~` on bool tiles. `shape` and `dtype` are Python values and may steer tracing.
    Scalars alone (loop indices, lengths, Scalar parameters, elements) have `+ - * / // % & | ^ ~ << >>` and comparisons of
    64-bit integers, float64 and bool, as scalars of workloads have.
    """

    __slots__ = ("_builder", "_var")

    def __init__(self, builder: KernelBuilder, var: Var) -> None:
        self._builder = builder
        self._var = var

    @property
    def type(self) -> Type:
        """Type in the wir: dtype, static shape and valid shape."""
        return self._var.type

    @property
    def dtype(self) -> DType:
        """Element type."""
        if isinstance(self.type, (TileType, ScalarType, RegionType)):
            return self.type.dtype
        raise InternalError(f"a kernel value of type {self.type}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape: (rows, cols), or () of a scalar."""
        return self.type.shape if isinstance(self.type, TileType) else ()

    def read(self) -> Var:
        """The variable that holds this value now."""
        return self._var

    @property
    def builder(self) -> KernelBuilder:
        """The trace it belongs to."""
        return self._builder

    def __repr__(self) -> str:
        return f"<{self._var.name}: {self.type}>"

    __hash__ = object.__hash__

    def _flow(self, what: str, fix: str) -> TraceError:
        return TraceError(
            "PTO128", f"{what} of a traced value", values={self._var.name: self.type}, loc=here(), fix=fix
        )

    def __bool__(self) -> bool:
        raise self._flow(
            "the truth",
            "select with pto.where(mask, a, b), branch on a scalar with pto.cond(c, then, otherwise); `if`, `and`, `or`, `not`, chained comparisons, min and max of Python run while tracing, before there are numbers",
        )

    def __len__(self) -> int:
        raise self._flow("the length", "use .shape")

    def __iter__(self) -> Any:
        raise self._flow("iteration", "operate on the whole tile")

    def __float__(self) -> float:
        raise self._flow("the number", "keep it a traced value: its number is known only when the program runs")

    def __index__(self) -> int:
        raise self._flow(
            "the number", "loop with pto.fori_loop(lo, hi, body, init): range() needs a number before the program runs"
        )

    __int__ = __index__

    def __getitem__(self, _: object) -> NoReturn:
        raise self._flow(
            "an element or part",
            "pto.slice(x, rows, cols) takes a part, pto.gather elements by their indices; or slice the tensor where the workload calls the kernel",
        )

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("a tile", name, "shape, dtype, operators, and the operations of pto")

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Value:
        """Operators with a numpy scalar on the left arrive here; numpy's functions on tiles have no meaning."""
        name = _UFUNCS.get(ufunc.__name__)
        if name is None or method != "__call__" or options:
            raise UnsupportedError(
                "PTO003",
                f"numpy.{ufunc.__name__} of a tile",
                loc=here(),
                fix=f"write pto.{ufunc.__name__}, where docs/operations.md has it",
            )
        return _op(name, *operands)

    def __add__(self, o: Operand) -> Value:
        return _op("add", self, o)

    def __radd__(self, o: Operand) -> Value:
        return _op("add", o, self)

    def __sub__(self, o: Operand) -> Value:
        return _op("sub", self, o)

    def __rsub__(self, o: Operand) -> Value:
        return _op("sub", o, self)

    def __mul__(self, o: Operand) -> Value:
        return _op("mul", self, o)

    def __rmul__(self, o: Operand) -> Value:
        return _op("mul", o, self)

    def __truediv__(self, o: Operand) -> Value:
        return _op("div", self, o)

    def __rtruediv__(self, o: Operand) -> Value:
        return _op("div", o, self)

    def __matmul__(self, o: Value) -> Value:
        return _op("matmul", self, o)

    def __neg__(self) -> Value:
        return _op("neg", self)

    def __abs__(self) -> Value:
        return _op("abs", self)

    def __invert__(self) -> Value:
        return _op("logical_not", self)

    def __and__(self, o: Operand) -> Value:
        return _op("logical_and", self, o)

    def __or__(self, o: Operand) -> Value:
        return _op("logical_or", self, o)

    def __floordiv__(self, o: Operand) -> Value:
        return _op("floordiv", self, o)

    def __rfloordiv__(self, o: Operand) -> Value:
        return _op("floordiv", o, self)

    def __mod__(self, o: Operand) -> Value:
        return _op("rem", self, o)

    def __rmod__(self, o: Operand) -> Value:
        return _op("rem", o, self)

    def __xor__(self, o: Operand) -> Value:
        return _op("bit_xor", self, o)

    def __rxor__(self, o: Operand) -> Value:
        return _op("bit_xor", o, self)

    def __lshift__(self, o: Operand) -> Value:
        return _op("shl", self, o)

    def __rlshift__(self, o: Operand) -> Value:
        return _op("shl", o, self)

    def __rshift__(self, o: Operand) -> Value:
        return _op("shr", self, o)

    def __rrshift__(self, o: Operand) -> Value:
        return _op("shr", o, self)

    def __lt__(self, o: Operand) -> Value:
        return _op("lt", self, o)

    def __le__(self, o: Operand) -> Value:
        return _op("le", self, o)

    def __gt__(self, o: Operand) -> Value:
        return _op("gt", self, o)

    def __ge__(self, o: Operand) -> Value:
        return _op("ge", self, o)

    def __eq__(self, o: object) -> Value:  # type: ignore[override]
        return _op("eq", self, o)

    def __ne__(self, o: object) -> Value:  # type: ignore[override]
        return _op("ne", self, o)


Operand = Value | float | int | bool


_UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
}


def _op(name: str, *operands: Any) -> Value:
    from pto_wsp import ops

    if not hasattr(ops, name) and not any(isinstance(x, Value) and x.shape for x in operands):
        return bind(name, *operands)
    if not hasattr(ops, name):
        raise UnsupportedError(
            "PTO003",
            f"a tile has no operator {name}",
            values={"operands": ", ".join(repr(x)[:80] for x in operands)},
            loc=here(),
            fix="use the operations of pto: docs/operations.md lists them",
        )
    return getattr(ops, name)(*operands)


class Region(Value):
    """A region parameter of the kernel: memory from which `load` takes tiles. `shape`: a number or a scalar for each dimension."""

    __slots__ = ("param",)

    def __init__(self, builder: KernelBuilder, param: KernelParam) -> None:
        super().__init__(builder, Var(param.name, param.type))
        self.param = param

    @property
    def memory(self) -> Var:
        """The parameter itself, as an operand of load and store."""
        return self._var

    @property
    def shape(self) -> tuple[Any, ...]:
        """A Python number of each dimension that the annotation states, a scalar of the others."""
        assert isinstance(self.param.type, RegionType)
        sizes = enumerate(self.param.type.shape)
        return tuple(extent(self._builder, f"{self.param.name}.{k}") if n is None else n for k, n in sizes)

    def read(self) -> Var:
        raise TypeCheckError(
            "PTO132",
            f"the region {self.param.name} as a tile",
            values={self.param.name: f"{self.param.direction} {self.type}"},
            loc=here(),
            fix=f"take a tile of it: pto.load({self.param.name}, (row, col), (rows, cols))",
        )


def extent(builder: KernelBuilder, dim: str) -> Value:
    """An extent of a parameter ("x.rows", "x.0") as a scalar."""
    if (dim, -1) not in builder.loads:
        var = builder.emit("dim", [], {"of": dim}, here())
        assert var is not None
        builder.loads[dim, -1] = var
    return Value(builder, builder.loads[dim, -1])


class Ref(Value):
    """A tile parameter of the kernel: memory that `load` reads and `store` writes. As an operand it means its value now."""

    __slots__ = ("param",)

    def __init__(self, builder: KernelBuilder, param: KernelParam) -> None:
        super().__init__(builder, Var(param.name, param.type))
        self.param = param

    @property
    def memory(self) -> Var:
        """The parameter itself, as the operand of load and store."""
        return self._var

    def read(self) -> Var:
        """The value now: one load for all uses between two stores."""
        stored = self._builder.stored.get(self.param.name, 0)
        if self.param.direction is Direction.OUT and self.param.name not in self._builder.written:
            raise TraceError(
                "PTO123",
                f"the output {self.param.name} is read before it is written",
                values={self.param.name: f"out {self.type}"},
                loc=here(),
                fix="declare it InOut[...], or store to it first",
            )
        key = (self.param.name, stored)
        if key not in self._builder.loads:
            var = self._builder.emit("load", [self._var], {}, here())
            assert var is not None
            self._builder.loads[key] = var
        return self._builder.loads[key]


def is_number(x: object) -> bool:
    return isinstance(x, (int, float, bool, np.number, np.bool_))


def literal(x: object, dtype: DType, what: str) -> Literal:
    """The Python or numpy number x in `dtype`: floats are rounded to it, integers must fit, fractions never become integers."""
    if not is_number(x):
        raise TypeCheckError(
            "PTO105",
            f"{what} of {type(x).__name__}",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="operands are tiles of this kernel, its scalar parameters, and Python numbers",
        )
    value: Any = x.item() if isinstance(x, (np.number, np.bool_)) else x
    bad = TypeCheckError(
        "PTO109",
        f"{what}: {value!r} does not fit {dtype}",
        loc=here(),
        fix=f"write a number that {dtype} holds, or cast the tile first",
    )
    if dtype is DType.BOOL:
        if not isinstance(value, bool):
            raise bad
        return Literal(value, dtype)
    if dtype in RANGES:
        low, high = RANGES[dtype]
        if isinstance(value, (bool, float)) or not low <= value <= high:
            raise bad
        return Literal(int(value), dtype)
    if isinstance(value, (bool, complex)):
        raise bad
    try:
        wide = float(value)
    except OverflowError:
        raise bad from None
    rounded = float(round_to(dtype, np.asarray(wide)))
    if math.isinf(rounded) and not math.isinf(wide):
        raise bad
    return Literal(rounded, dtype)


def to_in(x: object, dtype: DType | None, builder: KernelBuilder, what: str) -> In:
    """An operand of an equation: a variable of the current kernel, or a literal of `dtype`."""
    if isinstance(x, Value):
        if x.builder is not builder:
            raise TraceError(
                "PTO130",
                f"{what} of a value of another kernel",
                values={"value": x},
                loc=here(),
                fix="pass it between kernels through a tensor",
            )
        var = x.read()
        return narrowed(builder, var, dtype) if isinstance(var.type, ScalarType) and dtype is not None else var
    if dtype is None:
        raise TypeCheckError(
            "PTO105",
            f"{what} without a tile",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="at least one operand must be a tile of the kernel",
        )
    return literal(x, dtype, what)


SCALAR_OPS = {
    **{name: f"s.{name}" for name in ("add", "sub", "mul", "div", "floordiv", "neg", "abs", "shl", "shr", "where")},
    **{name: f"s.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "rem": "s.mod",
    "maximum": "s.max",
    "minimum": "s.min",
    "logical_and": "s.and",
    "logical_or": "s.or",
    "logical_not": "s.not",
    "logical_xor": "s.xor",
    "bit_and": "s.and",
    "bit_or": "s.or",
    "bit_xor": "s.xor",
    "bit_not": "s.not",
}
"""The operation on scalars that an operation on tiles is where no operand is a tile."""


def is_scalar(x: object) -> bool:
    """Whether x is a scalar of a kernel: a Scalar parameter, an index, a length, an element."""
    return isinstance(x, Value) and isinstance(x.type, ScalarType)


def narrowed(builder: KernelBuilder, var: Var, dtype: DType) -> Var:
    """The scalar `var` as an operand of tiles of `dtype`: integers wrap, floats round once. Others are as they are."""
    assert isinstance(var.type, ScalarType)
    have = var.type.dtype
    if have is dtype or have not in SCALAR_DTYPES or (have is DType.F64) is not dtype.is_float or have is DType.BOOL:
        return var
    out = builder.emit("narrow", [var], {"to": dtype}, here())
    assert out is not None
    return out


def widened(builder: KernelBuilder, x: object, dtype: DType | None, what: str) -> In:
    """An operand of an operation on scalars: a scalar of 64 bits or a bool, or a number in `dtype`."""
    if not isinstance(x, Value):
        if dtype is None:
            raise InternalError(f"{what} of numbers alone")
        value = x.item() if isinstance(x, np.generic) else x
        return literal(float(value) if dtype is DType.F64 and type(value) is int else value, dtype, what)
    var = to_in(x, None, builder, what)
    assert isinstance(var, Var)
    if not isinstance(var.type, ScalarType):
        raise InternalError(f"{what} of a tile")
    if var.type.dtype in SCALAR_DTYPES and var.name not in builder.params:
        return var
    if (var.name, -1) not in builder.loads:
        out = builder.emit("widen", [var], {}, here())
        assert out is not None
        builder.loads[var.name, -1] = out
    return builder.loads[var.name, -1]


def bind_scalars(prim: str, operands: Sequence[object]) -> Value:
    """An operation on scalars and numbers alone."""
    builder = current_kernel(prim)
    values = [x for x in operands if isinstance(x, Value)]
    condition = [widened(builder, operands[0], DType.BOOL, prim)] if prim == "where" else []
    typed = [x for x in values if not (prim == "where" and x is operands[0])]
    known = [widened(builder, x, None, prim) for x in typed]
    first = operand_type(known[0]) if known else ScalarType(_number_dtype(operands[1:]))
    assert isinstance(first, ScalarType)
    ins = condition + [widened(builder, x, first.dtype, prim) for x in operands[len(condition) :]]
    var = builder.emit(SCALAR_OPS[prim], ins, {}, here())
    assert var is not None
    return Value(builder, var)


def cast_scalar(x: Value, dtype: object) -> Value:
    """The scalar x as one of 64 bits or a bool (floats to integers toward zero), or as an operand of tiles of `dtype`."""
    if not isinstance(dtype, DType) or not (dtype in SCALAR_DTYPES or dtype.in_tiles):
        raise TypeCheckError(
            "PTO106",
            "cast needs a DType",
            values={"dtype": str(dtype)[:80]},
            loc=here(),
            fix="write DType.I64, F64, ...",
        )
    builder = current_kernel("cast")
    var = widened(builder, x, None, "cast")
    assert isinstance(var, Var)
    wide = dtype if dtype in SCALAR_DTYPES else dtype.scalar
    if var.type != ScalarType(wide):
        cast = builder.emit("s.cast", [var], {"to": wide}, here())
        assert cast is not None
        var = cast
    return Value(builder, narrowed(builder, var, dtype))


def _number_dtype(numbers: Sequence[object]) -> DType:
    if any(isinstance(x, (float, np.floating)) for x in numbers):
        return DType.F64
    return DType.BOOL if all(isinstance(x, (bool, np.bool_)) for x in numbers) else DType.I64


def bind(prim: str, *operands: object, dtype: DType | None = None, **params: Param) -> Value:
    """Apply primitive `prim` to values and numbers; numbers get `dtype`, by default that of the first tile, or value."""
    builder = current_kernel(prim)
    values = [x for x in operands if isinstance(x, Value)]
    if prim in SCALAR_OPS and values and all(map(is_scalar, values)):
        return bind_scalars(prim, operands)
    if dtype is None:
        tiles = [x for x in values if not is_scalar(x) and not (prim == "where" and x is operands[0])]
        dtype = next((x.dtype for x in (*tiles, *values)), None)
    var = builder.emit(prim, [to_in(x, dtype, builder, prim) for x in operands], dict(params), here())
    if var is None:
        raise InternalError(f"{prim} has no result")
    return Value(builder, var)
