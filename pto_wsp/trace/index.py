"""Traced scalars of a workload: loop variables, symbols, what is read from tensors, and expressions of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pto_wsp.errors import (
    CompileError,
    ExecutionError,
    Location,
    ScheduleError,
    TraceError,
    UnsupportedError,
    check_name,
    here,
    without_operators,
)
from pto_wsp.ir import expr
from pto_wsp.ir.core import DType
from pto_wsp.ir.expr import Expr

if TYPE_CHECKING:
    from pto_wsp.trace.builder import WorkloadBuilder
    from pto_wsp.trace.scalar import DataScalar


_MAX_DEPTH = 24  # products, quotients and remainders inside each other
_MAX_OPERATIONS = 500  # of them in all

# numpy's names of what scalars have as operators
_UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "floor_divide": "floordiv",
    "remainder": "mod",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_xor": "xor",
    "left_shift": "shl",
    "right_shift": "shr",
    "equal": "eq",
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
}

_CONTROL = (
    "Python's if, and, or, not, min, max, range and chained comparisons need values now. Write `with P.when(c): ...` and "
    "`with P.otherwise(): ...`, (a < b) & (b < c), | and ~, minimum(a, b), maximum(a, b), where(c, a, b), P(n) or P.seq(n)"
)


_FUNCTIONS = (
    "scalars have + - * / // % & | ^ ~ << >> abs and comparisons; minimum, maximum, where and cast are functions"
)


@dataclass(frozen=True, eq=False)
class Asker:
    """A policy whose function is traced, and where it is used: to it belong the scalars that the function asks the task for."""

    policy: str
    loc: Location

    def __str__(self) -> str:
        return f"{self.policy}, {self.loc}"


def one_asker(askers: Iterable[Asker | None]) -> Asker | None:
    """The policy that scalars of one expression belong to. Raises ScheduleError where there are two."""
    found: Asker | None = None
    for asker in askers:
        if asker is None or asker is found:
            continue
        if found is not None:
            raise ScheduleError(
                "PTO417",
                "what one policy asks of a task is used by another",
                values={"one": found, "another": asker},
                loc=here(),
                fix="ask the task that the function itself is given: lambda t: t.b",
            )
        found = asker
    return found


@without_operators(
    "pow rpow divmod rdivmod matmul rmatmul round trunc floor ceil len getitem setitem call",
    "a scalar of a workload",
    _FUNCTIONS,
)
class Scalar64(ABC):
    """A scalar whose value is known when the program is bound or runs: i64, u64, f64 or bool.

    Operators: `+ - * // %` (`//` and `%` floor), `/` on f64, `& | ^ ~`, `<< >>` on integers, abs, and comparisons, which give
    traced bools for `P.when`. Python numbers take the type of the other operand; types are mixed by `cast` alone.
    """

    __slots__ = ()

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Scalar64:
        """Operators with a numpy scalar on the left arrive here; numpy's functions on scalars have no meaning."""
        op = _UFUNCS.get(ufunc.__name__)
        if op is None or method != "__call__" or options:
            raise UnsupportedError("PTO003", f"numpy.{ufunc.__name__} of a scalar", loc=here(), fix=_FUNCTIONS)
        return combine(op, *(x[()] if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in operands))

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise UnsupportedError("PTO003", "a numpy array of a scalar of a workload", loc=here(), fix=_FUNCTIONS)

    @property
    def dtype(self) -> DType:
        """I64, U64, F64 or BOOL."""
        return DType.I64

    @abstractmethod
    def to_expr(self) -> Expr:
        """The index expression this stands for, here in the workload."""

    def __add__(self, o: object) -> Scalar64:
        return combine("add", self, o)

    def __radd__(self, o: object) -> Scalar64:
        return combine("add", o, self)

    def __sub__(self, o: object) -> Scalar64:
        return combine("sub", self, o)

    def __rsub__(self, o: object) -> Scalar64:
        return combine("sub", o, self)

    def __mul__(self, o: object) -> Scalar64:
        return combine("mul", self, o)

    def __rmul__(self, o: object) -> Scalar64:
        return combine("mul", o, self)

    def __floordiv__(self, o: object) -> Scalar64:
        return combine("floordiv", self, o)

    def __rfloordiv__(self, o: object) -> Scalar64:
        return combine("floordiv", o, self)

    def __mod__(self, o: object) -> Scalar64:
        return combine("mod", self, o)

    def __rmod__(self, o: object) -> Scalar64:
        return combine("mod", o, self)

    def __truediv__(self, o: object) -> Scalar64:
        return combine("div", self, o)

    def __rtruediv__(self, o: object) -> Scalar64:
        return combine("div", o, self)

    def __and__(self, o: object) -> Scalar64:
        return combine("and", self, o)

    def __rand__(self, o: object) -> Scalar64:
        return combine("and", o, self)

    def __or__(self, o: object) -> Scalar64:
        return combine("or", self, o)

    def __ror__(self, o: object) -> Scalar64:
        return combine("or", o, self)

    def __xor__(self, o: object) -> Scalar64:
        return combine("xor", self, o)

    def __rxor__(self, o: object) -> Scalar64:
        return combine("xor", o, self)

    def __lshift__(self, o: object) -> Scalar64:
        return combine("shl", self, o)

    def __rlshift__(self, o: object) -> Scalar64:
        return combine("shl", o, self)

    def __rshift__(self, o: object) -> Scalar64:
        return combine("shr", self, o)

    def __rrshift__(self, o: object) -> Scalar64:
        return combine("shr", o, self)

    def __neg__(self) -> Scalar64:
        return combine("neg", self)

    def __invert__(self) -> Scalar64:
        return combine("not", self)

    def __abs__(self) -> Scalar64:
        return combine("abs", self)

    def __lt__(self, o: object) -> DataScalar:
        return _compare("lt", self, o)

    def __le__(self, o: object) -> DataScalar:
        return _compare("le", self, o)

    def __gt__(self, o: object) -> DataScalar:
        return _compare("gt", self, o)

    def __ge__(self, o: object) -> DataScalar:
        return _compare("ge", self, o)

    def __eq__(self, o: object) -> Any:
        return _compare("eq", self, o)

    def __ne__(self, o: object) -> Any:
        return _compare("ne", self, o)

    @property
    def asker(self) -> Asker | None:
        """The policy for whose rule it asks something of a task."""
        return None

    def __hash__(self) -> int:
        if self.asker is not None:
            raise TraceError(
                "PTO128",
                "the hash of a scalar of a policy",
                values={"scalar": self},
                loc=here(),
                fix="write arithmetic of it, t.b % 4, or t.splitmix64(t.b); DispatchPolicy.hash(key, n) hashes its key itself",
            )
        return object.__hash__(self)

    def _flow(self, what: str) -> TraceError:
        return TraceError("PTO128", f"{what} a traced scalar", values={"scalar": self}, loc=here(), fix=_CONTROL)

    def __bool__(self) -> bool:
        raise self._flow("the truth of")

    def __format__(self, spec: str) -> str:
        if spec:
            raise self._flow("formatting")
        return str(self)

    def __int__(self) -> int:
        raise self._flow("the number of")

    def __index__(self) -> int:
        raise TraceError(
            "PTO128",
            "the number of a traced scalar",
            values={"scalar": self},
            loc=here(),
            fix=f"of an array that is no argument, make it one or a Tensor(array) before it is indexed. {_CONTROL}",
        )

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

    __slots__ = ("_asker", "builder", "expr", "tile")

    def __init__(
        self,
        value: Expr,
        builder: WorkloadBuilder | None,
        tile: tuple[int, Expr] | None = None,
        asker: Asker | None = None,
    ) -> None:
        self.expr = value
        self._asker = asker
        self.builder = builder
        self.tile = tile

    def to_expr(self) -> Expr:
        return self.expr

    @property
    def asker(self) -> Asker | None:
        return self._asker

    def __repr__(self) -> str:
        return f"<index {self.expr}>"


class Element(ABC):
    """What may stand for a scalar where one is needed: a view without dimensions."""

    @property
    @abstractmethod
    def is_element(self) -> bool:
        """Whether it has no dimensions."""

    @abstractmethod
    def element(self, name: str | None = None) -> Scalar64:
        """The scalar that it holds now, read here in the workload; `name` is what to call it."""

    @abstractmethod
    def reduced(self, prim: str, name: str | None = None) -> Scalar64:
        """The scalar that all its elements give now, read here in the workload."""


EXPR_OPS = frozenset({"add", "sub", "mul", "floordiv", "mod", "min", "max", "neg"})


def combine(op: str, *operands: object) -> Scalar64:
    """`op` of scalars: an index expression where all are such, else a tree of values."""
    if op in EXPR_OPS:
        parts = [as_index(x) for x in operands]
        if None not in parts:
            return Index(
                index_op(op, *(x for x in parts if x is not None)),
                next((x.builder for x in operands if isinstance(x, Index) and x.builder is not None), None),
                asker=one_asker(x.asker for x in operands if isinstance(x, Index)),
            )
    from pto_wsp.trace.scalar import tree  # it builds on the classes here

    return tree(op, *operands)


def _compare(op: str, a: object, b: object) -> DataScalar:
    from pto_wsp.trace.scalar import tree

    return tree(op, a, b)


def index_op(op: str, *operands: Expr) -> Expr:
    """`op` of index expressions, exactly."""
    a, b = operands if len(operands) == 2 else (expr.const(0), operands[0])
    if op == "add":
        value = a + b
    elif op in ("sub", "neg"):
        value = a - b
    else:
        value = expr.apply(op, a, b)
    # counted first: what is used twice stands twice in an expression, so that depth alone bounds nothing
    if _operations(value) > _MAX_OPERATIONS or value.depth > _MAX_DEPTH:
        raise CompileError(
            "PTO405",
            f"an integer expression of more than {_MAX_OPERATIONS} operations, or {_MAX_DEPTH} inside each other",
            loc=here(),
            fix="compute it in fewer steps",
        )
    if op in ("floordiv", "mod") and b == expr.const(0):
        raise ExecutionError(
            "PTO711",
            "an index expression divides by zero",
            values={"dividend": a},
            loc=here(),
            fix="divide by something else than 0",
        )
    return value


def _operations(e: Expr) -> int:
    """How many products, quotients, remainders, minima and maxima stand in it."""
    return sum(1 + _operations(a.a) + _operations(a.b) for a, _ in e.terms if not isinstance(a, str))


def is_integer(x: object) -> bool:
    """Whether x is an integer of Python's or numpy's, and no bool."""
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def as_index(x: object) -> Expr | None:
    """x as an index expression: of loop variables, symbols and integers alone."""
    if isinstance(x, (Index, Symbol)):
        return x.to_expr()
    return expr.const(int(x)) if isinstance(x, (int, np.integer)) and not isinstance(x, bool) else None


def owner_of(x: object) -> WorkloadBuilder | None:
    """The trace that a scalar belongs to; symbols and numbers belong to none."""
    return getattr(x, "builder", None) if isinstance(x, Scalar64) else None


def as_expr(x: object) -> Expr | None:
    """x as an integer expression, here in the workload, or None when it is not one."""
    if isinstance(x, Element):
        x = x.element()
    return x.to_expr() if isinstance(x, Scalar64) else as_index(x)
