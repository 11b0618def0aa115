"""Values of a kernel under trace, and `bind`, which applies a primitive to them."""

from __future__ import annotations

import math
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
from pto_wsp.ir.core import Direction, DType, In, KernelParam, Literal, Param, ScalarType, TileType, Type, Var
from pto_wsp.ir.evaluate import round_to


@without_operators(
    "pow rpow floordiv rfloordiv mod rmod lshift rlshift rshift rrshift xor rxor divmod rdivmod round trunc floor ceil setitem delitem",
    "a tile",
    "use the operations of pto: docs/operations.md lists them; results go to pto.store(out, value)",
)
class Value:
    """A tile or a scalar of the kernel being traced.

    Python operators mean the `pto` operation of that name: `+ - * /` (add sub mul div), `@` (matmul), unary `-`, `abs`,
    comparisons (give bool tiles), and `& | ~` on bool tiles. `shape` and `dtype` are Python values and may steer tracing.
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
        if isinstance(self.type, (TileType, ScalarType)):
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
            "select with pto.where(mask, a, b); `if`, `and`, `or`, `not`, chained comparisons, min and max of Python run while tracing, before there are numbers",
        )

    def __len__(self) -> int:
        raise self._flow("the length", "use .shape")

    def __iter__(self) -> Any:
        raise self._flow("iteration", "operate on the whole tile")

    def __float__(self) -> float:
        raise self._flow("the number", "keep it a traced value: its number is known only when the program runs")

    __int__ = __index__ = __float__  # type: ignore[assignment]

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
        stored = self._builder.stored.get(self.param.name, 0)
        if self.param.direction is Direction.OUT and not stored:
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
    if dtype is DType.I32:
        if isinstance(value, (bool, float)) or not -(2**31) <= value < 2**31:
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
        return x.read()
    if dtype is None:
        raise TypeCheckError(
            "PTO105",
            f"{what} without a tile",
            values={"operand": repr(x)[:80]},
            loc=here(),
            fix="at least one operand must be a tile of the kernel",
        )
    return literal(x, dtype, what)


def bind(prim: str, *operands: object, dtype: DType | None = None, **params: Param) -> Value:
    """Apply primitive `prim` to values and numbers; numbers get `dtype`, by default that of the first value."""
    builder = current_kernel(prim)
    if dtype is None:
        dtype = next((x.dtype for x in operands if isinstance(x, Value)), None)
    var = builder.emit(prim, [to_in(x, dtype, builder, prim) for x in operands], dict(params), here())
    if var is None:
        raise InternalError(f"{prim} has no result")
    return Value(builder, var)
