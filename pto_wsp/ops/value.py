"""Values of a kernel under trace, and `bind`, which applies a primitive to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from pto_wsp.errors import (
    InternalError,
    PtoError,
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
)
from pto_wsp.ir.rounding import round_to
from pto_wsp.ir.scalars import RANGES
from pto_wsp.ops.scalars import SCALAR_OPS, narrowed, type_of, widened

A = ParamSpec("A")
R = TypeVar("R")


@without_operators(
    "divmod rdivmod round trunc floor ceil setitem delitem",
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
        shown = self._builder.shown(self._var)
        return f"<{self._var.name}: {self.type}>" if shown is None else f"<{self._var.name}: {self.type} =\n{shown}>"

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
        raise self._flow("iteration", "operate on the whole tile, or loop with pto.fori_loop(lo, hi, body, init)")

    def __float__(self) -> float:
        raise self._flow(
            "the number",
            "keep it a traced value, whose number is known only when the program runs: operators and pto.cast take it as it is",
        )

    __int__ = __float__

    def __index__(self) -> int:
        raise self._flow(
            "the number",
            "its number is known only when the program runs. In the place of range(), loop with pto.fori_loop(lo, hi, body, init); of an "
            "element of a Python list, choose with pto.cond or pto.where, or read a tensor with pto.item; or make it a Constexpr",
        )

    def __getitem__(self, _: object) -> NoReturn:
        raise self._flow(
            "an element or part",
            "pto.load(x, index, shape) takes a tile of a parameter, pto.slice(x, rows, cols) a part of a value, pto.item(x, index) an element, pto.gather elements by their indices; or slice the tensor where the workload calls the kernel",
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

    @property
    def _is_bool(self) -> bool:
        return self.dtype is DType.BOOL

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
        return _quotient(self, o)

    def __rtruediv__(self, o: Operand) -> Value:
        return _quotient(o, self)

    def __matmul__(self, o: Value) -> Value:
        return _op("matmul", self, o)

    def __neg__(self) -> Value:
        return _op("neg", self)

    def __abs__(self) -> Value:
        return _op("abs", self)

    def __invert__(self) -> Value:
        return _op("logical_not" if self._is_bool else "bit_not", self)

    def __and__(self, o: Operand) -> Value:
        return _op("logical_and" if self._is_bool else "bit_and", self, o)

    def __or__(self, o: Operand) -> Value:
        return _op("logical_or" if self._is_bool else "bit_or", self, o)

    def __rand__(self, o: Operand) -> Value:
        return _op("logical_and", o, self)

    def __ror__(self, o: Operand) -> Value:
        return _op("logical_or", o, self)

    def __floordiv__(self, o: Operand) -> Value:
        return _op("floordiv", self, o)

    def __rfloordiv__(self, o: Operand) -> Value:
        return _op("floordiv", o, self)

    def __mod__(self, o: Operand) -> Value:
        return _op("rem", self, o)

    def __rmod__(self, o: Operand) -> Value:
        return _op("rem", o, self)

    def __pow__(self, o: Operand) -> Value:
        return _op("pow", self, o)

    def __rpow__(self, o: Operand) -> Value:
        return _op("pow", o, self)

    def __xor__(self, o: Operand) -> Value:
        return _op("logical_xor" if self._is_bool else "bit_xor", self, o)

    def __rxor__(self, o: Operand) -> Value:
        return _op("logical_xor" if self._is_bool else "bit_xor", o, self)

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


def _quotient(a: Any, b: Any) -> Value:
    """`/`: of floats; what it would be of integers is said by name."""
    for x in (a, b):
        if isinstance(x, Value) and x.shape and x.dtype.is_integer:
            raise TypeCheckError(
                "PTO104",
                f"/ does not exist for {x.dtype}",
                values={"tile": x.type},
                loc=here(),
                fix="// rounds down, pto.div(a, b) truncates; or cast to a float first",
            )
    return _op("div", a, b)


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
        self.check_written()
        return self._builder.load(self.param.name)

    def check_written(self) -> None:
        """Refuse to read an output that is not surely written before."""
        if self.param.direction is Direction.OUT and self.param.name not in self._builder.written:
            raise TraceError(
                "PTO123",
                f"the output {self.param.name} is read before it is written",
                values={self.param.name: f"out {self.type}"},
                loc=here(),
                fix="declare it InOut[...], or store to it first, where that surely happens",
            )


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
        f"{what}: {_shown(value)} does not fit {dtype}",
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
    # what is too large for f8e4m3 becomes NaN: it has no infinity
    if not (math.isfinite(rounded) or math.isnan(wide) or rounded == wide):
        raise bad
    return Literal(rounded, dtype)


def var_of(x: Value, builder: KernelBuilder, what: str) -> Var:
    """The variable of a value that `what` reads in this kernel. Raises TraceError for one of another kernel, or of a loop or branch
    that has ended."""
    if x.builder is not builder:
        raise TraceError(
            "PTO130",
            f"{what} of a value of another kernel",
            values={"value": x},
            loc=here(),
            fix="pass it between kernels through a tensor",
        )
    var = x.read()
    builder.check_in_scope(var, what)
    return var


def same(what: str, x: Value) -> Value:
    """x as the result of `what`, where it changes nothing."""
    builder = current_kernel(what)
    return Value(builder, var_of(x, builder, what))


def _shown(number: object) -> str:
    """A number in a message: of a long integer how long it is, as Python may refuse to write it out."""
    if isinstance(number, int) and number.bit_length() > 256:
        return f"an integer of {number.bit_length()} bits"
    return repr(number)


def to_in(x: object, dtype: DType | None, builder: KernelBuilder, what: str) -> In:
    """An operand of an equation: a variable of the current kernel, or a literal of `dtype`."""
    if isinstance(x, Value):
        var = var_of(x, builder, what)
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


def is_scalar(x: object) -> bool:
    """Whether x is a scalar of a kernel: a Scalar parameter, an index, a length, an element."""
    return isinstance(x, Value) and isinstance(x.type, ScalarType)


def scalar_in(builder: KernelBuilder, x: object, dtype: DType | None, what: str) -> In:
    """An operand of an operation on scalars: a scalar of 64 bits or a bool, or a number in `dtype`, by default its own kind's."""
    if isinstance(x, Value):
        var = to_in(x, None, builder, what)
        assert isinstance(var, Var)
        return widened(builder, var)
    value = x.item() if isinstance(x, np.generic) else x
    if dtype is None:
        dtype = DType.BOOL if isinstance(value, bool) else DType.F64 if isinstance(value, float) else DType.I64
    return literal(float(value) if dtype is DType.F64 and type(value) is int else value, dtype, what)


def bind_scalars(prim: str, operands: Sequence[object]) -> Value:
    """An operation on scalars and numbers alone; numbers take the type of the scalars."""
    builder = current_kernel(prim)
    condition = [scalar_in(builder, operands[0], DType.BOOL, prim)] if prim == "where" else []
    rest = operands[len(condition) :]
    scalars = [scalar_in(builder, x, None, prim) for x in rest if isinstance(x, Value)]
    first = type_of(scalars[0]) if scalars else None
    dtype = first.dtype if isinstance(first, ScalarType) else None
    if dtype is None and any(isinstance(x, (float, np.floating)) for x in rest):
        dtype = DType.F64
    ins = condition + [scalar_in(builder, x, dtype, prim) for x in rest]
    return Value(builder, builder.scalar(SCALAR_OPS[prim], ins, {}))


def composed(function: Callable[A, R]) -> Callable[A, R]:
    """Decorates an operation that is made of others: errors of these begin with the name that the user wrote."""
    name = function.__name__

    @wraps(function)
    def operation(*args: A.args, **kwargs: A.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except PtoError as e:
            if not e.what.startswith(name):
                e.what = f"{name}: {e.what}"
            raise

    return operation


def bind(prim: str, *operands: object, dtype: DType | None = None, **params: Param) -> Value:
    """Apply primitive `prim` to values and numbers; numbers get `dtype`, by default that of the first tile, or value."""
    builder = current_kernel(prim)
    values = [x for x in operands if isinstance(x, Value)]
    if prim in SCALAR_OPS and values and all(map(is_scalar, values)):
        return bind_scalars(prim, operands)
    if dtype is None:
        tiles = [x for x in values if not is_scalar(x) and not (prim == "where" and x is operands[0])]
        dtype = next((x.dtype for x in (*tiles, *values)), None)
    var = builder.value(prim, [to_in(x, dtype, builder, prim) for x in operands], dict(params), here())
    return Value(builder, var)
