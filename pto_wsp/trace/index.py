"""Traced integers of a workload: loop variables, symbols, and sums and products of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from pto_wsp.errors import CompileError, ExecutionError, TraceError, check_name, here, without_operators
from pto_wsp.ir import expr
from pto_wsp.ir.expr import Expr

if TYPE_CHECKING:
    from pto_wsp.trace.builder import WorkloadBuilder


_MAX_DEPTH = 24  # products, quotients and remainders inside each other


@without_operators(
    "truediv rtruediv pow rpow abs invert and rand or ror xor rxor lshift rlshift rshift rrshift divmod rdivmod matmul rmatmul",
    "an integer expression",
    "loop variables and symbols have + - * // % and negation",
)
class Scalar64(ABC):
    """An integer whose value is known when the program is bound or runs. Supports `+ - * // %` (`//` and `%` floor)."""

    __slots__ = ()
    __array_ufunc__ = None

    @abstractmethod
    def to_expr(self) -> Expr:
        """The expression this stands for."""

    def _combine(self, kind: str, a: object, b: object) -> Index:
        x, y = as_expr(a), as_expr(b)
        if x is None or y is None:
            bad = a if x is None else b
            raise TraceError(
                "PTO161",
                f"an integer expression with {type(bad).__name__}",
                values={"operand": repr(bad)[:80]},
                loc=here(),
                fix="combine loop variables and symbols with Python integers",
            )
        builder = next((i.builder for i in (a, b) if isinstance(i, Index) and i.builder is not None), None)
        if kind in ("add", "sub", "mul"):
            value = {"add": x.__add__, "sub": x.__sub__, "mul": x.__mul__}[kind](y)
        else:
            value = expr.apply(kind, x, y)
        if value.depth > _MAX_DEPTH:
            raise CompileError(
                "PTO405",
                f"an integer expression of more than {_MAX_DEPTH} operations inside each other",
                loc=here(),
                fix="compute it in fewer steps",
            )
        if kind in ("floordiv", "mod") and y == expr.const(0):
            raise ExecutionError(
                "PTO711",
                "an index expression divides by zero",
                values={"dividend": x},
                loc=here(),
                fix="divide by something else than 0",
            )
        return Index(value, builder)

    def __add__(self, o: object) -> Index:
        return self._combine("add", self, o)

    def __radd__(self, o: object) -> Index:
        return self._combine("add", o, self)

    def __sub__(self, o: object) -> Index:
        return self._combine("sub", self, o)

    def __rsub__(self, o: object) -> Index:
        return self._combine("sub", o, self)

    def __mul__(self, o: object) -> Index:
        return self._combine("mul", self, o)

    def __rmul__(self, o: object) -> Index:
        return self._combine("mul", o, self)

    def __floordiv__(self, o: object) -> Index:
        return self._combine("floordiv", self, o)

    def __rfloordiv__(self, o: object) -> Index:
        return self._combine("floordiv", o, self)

    def __mod__(self, o: object) -> Index:
        return self._combine("mod", self, o)

    def __rmod__(self, o: object) -> Index:
        return self._combine("mod", o, self)

    def __neg__(self) -> Index:
        return self._combine("sub", 0, self)

    def _flow(self, what: str) -> TraceError:
        return TraceError(
            "PTO128",
            f"{what} a traced integer",
            values={"expression": self},
            loc=here(),
            fix="it has no number while tracing: put it into an extent (P(n), P.seq(n)), an index or a kernel argument; Python's if, and, or, not, min, max, range and comparisons need numbers now",
        )

    def __bool__(self) -> bool:
        raise self._flow("the truth of")

    def __lt__(self, o: object) -> bool:
        raise self._flow("comparing")

    __le__ = __gt__ = __ge__ = __lt__

    def __eq__(self, o: object) -> bool:
        raise self._flow("comparing")

    __ne__ = __eq__
    __hash__ = object.__hash__

    def __int__(self) -> int:
        raise self._flow("the number of")

    __index__ = __int__

    def __float__(self) -> float:
        raise self._flow("the number of")

    def __iter__(self) -> NoReturn:
        raise TraceError(
            "PTO154",
            "unpacking one loop variable",
            values={"variable": self},
            loc=here(),
            fix="P(...) gives as many loop variables as it has axes",
        )


class Symbol(Scalar64):
    """A named non-negative integer bound before a run: `Symbol("n")`, then `program.set_symbol_u64("n", 4)`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if check_name(name, "a symbol", "PTO153") is None:
            raise TraceError("PTO153", "a symbol without a name", loc=here(), fix='write Symbol("n")')
        self.name = name

    def to_expr(self) -> Expr:
        return expr.symbol(self.name)

    def __repr__(self) -> str:
        return f"Symbol({self.name!r})"


class Index(Scalar64):
    """A loop variable or an expression of some. A tile index also knows its tile size and the extent of its axis."""

    __slots__ = ("builder", "expr", "tile")

    def __init__(self, value: Expr, builder: WorkloadBuilder | None, tile: tuple[int, Expr] | None = None) -> None:
        self.expr = value
        self.builder = builder
        self.tile = tile

    def to_expr(self) -> Expr:
        return self.expr

    def __repr__(self) -> str:
        return f"<index {self.expr}>"


def as_expr(x: object) -> Expr | None:
    """x as an integer expression, or None when it is not one."""
    if isinstance(x, Scalar64):
        return x.to_expr()
    if isinstance(x, (int, np.integer)) and not isinstance(x, (bool, np.bool_)):
        return expr.const(int(x))
    return None
