"""Values read from tensors, and expressions of them: trees until they are used.

Used as an index or an extent, `+ - * // % minimum maximum` of i64 stay one exact index expression, and other operations become
checked equations; used anywhere else, each operation is an equation that wraps. Equal equations are made once in a region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pto_wsp.errors import (
    BoundsError,
    CompileError,
    ExecutionError,
    Location,
    TraceError,
    TypeCheckError,
    here,
)
from pto_wsp.ir import expr
from pto_wsp.ir.core import DType, In, Literal, Var
from pto_wsp.ir.expr import Expr
from pto_wsp.trace.index import EXPR_OPS, Asker, Element, Index, Scalar64, Symbol, combine, index_op, one_asker
from pto_wsp.trace.names import assigned_name

if TYPE_CHECKING:
    from pto_wsp.trace.builder import WorkloadBuilder

I64, U64, F64, BOOL = DType.I64, DType.U64, DType.F64, DType.BOOL
SCALAR_DTYPES = (I64, U64, F64, BOOL)

COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
_NUMERIC = frozenset({"add", "sub", "mul", "floordiv", "mod", "min", "max", "abs", "neg"}) | COMPARISONS
_BITS = frozenset({"and", "or", "xor", "not"})
_HAVE = {
    I64: _NUMERIC | _BITS | {"shl", "shr"},
    U64: _NUMERIC | _BITS | {"shl", "shr"},
    F64: _NUMERIC | {"div"},
    BOOL: _BITS | {"eq", "ne"},
}
_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "floordiv": "//",
    "mod": "%",
    "div": "/",
    "and": "&",
    "or": "|",
    "xor": "^",
    "not": "~",
    "shl": "<<",
    "shr": ">>",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "min": "minimum",
    "max": "maximum",
    "abs": "abs",
    "neg": "negation",
}
_RANGES = {I64: (-(2**63), 2**63 - 1), U64: (0, 2**64 - 1)}
_MAX_DEPTH = 100  # operations inside each other


class DataScalar(Scalar64):
    """A scalar that is read from a tensor or a slot, or computed from such: a tree of operations over values.

    A leaf has the operation "value" and one operand: the variable that holds it, a constant, or an index expression.
    """

    __slots__ = ("_asker", "_dtype", "args", "builder", "depth", "loc", "op", "source")

    def __init__(
        self,
        op: str,
        args: tuple[DataScalar, ...],
        dtype: DType,
        builder: WorkloadBuilder | None,
        loc: Location | None = None,
        source: In | None = None,
        asker: Asker | None = None,
    ) -> None:
        self.op = op
        self.args = args
        self._dtype = dtype
        self.builder = builder
        self.loc = loc
        self.source = source
        self._asker = one_asker((asker, *(a.asker for a in args)))
        self.depth = 1 + max((a.depth for a in args), default=0)
        if self.depth > _MAX_DEPTH:
            raise CompileError(
                "PTO405",
                f"a scalar of more than {_MAX_DEPTH} operations inside each other",
                loc=here(),
                fix="compute it in fewer steps, or in a kernel",
            )

    @staticmethod
    def of(
        source: Var | Literal | Expr, dtype: DType, builder: WorkloadBuilder | None, asker: Asker | None = None
    ) -> DataScalar:
        """The leaf that holds `source`."""
        return DataScalar("value", (), dtype, builder, None, source, asker)

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def asker(self) -> Asker | None:
        return self._asker

    def leaf(self) -> In | None:
        """What a leaf holds; None of an operation."""
        return self.source

    def to_expr(self) -> Expr:
        if self.dtype is DType.U64:  # where it is used, a number beyond i64 is an error
            return node("cast", (self,), I64).to_expr()
        if self.dtype is not I64:
            raise TraceError(
                "PTO161",
                f"an index, extent or coordinate of type {self.dtype}",
                values={"scalar": self},
                loc=here(),
                fix="cast(x, DType.I64) makes an index of it",
            )
        return _Lowering(innermost("an index")).index(self)

    def operand(self, builder: WorkloadBuilder) -> In:
        """This as an operand of an equation."""
        return _Lowering(builder).operand(self, checked=False)

    def held(self, builder: WorkloadBuilder) -> In | None:
        """What a leaf holds, which is in scope here; None of an operation."""
        source = self.leaf()
        if source is not None:
            builder.check_operand(self.builder, source, here())
        return source

    def __repr__(self) -> str:
        source = self.leaf()
        if source is not None:
            return f"{source.value}" if isinstance(source, Literal) else f"<{self.dtype} {source}>"
        return f"<{self.dtype} {self._text()}>"

    def _text(self, depth: int = 0) -> str:
        if self.op not in _SIGNS:
            return repr(self) if not self.args else f"{self.op}(...)"
        if depth == 4:
            return "..."
        inner = [a._text(depth + 1) for a in self.args]
        sign = _SIGNS[self.op]
        infix = len(inner) == 2 and not sign.isalpha()
        return f"({inner[0]} {sign} {inner[1]})" if infix else f"{sign}({', '.join(inner)})"


class _Lowering:
    """One use of a tree: what is used twice in it is lowered once."""

    def __init__(self, builder: WorkloadBuilder) -> None:
        self._builder = builder
        self._indices: dict[int, Expr] = {}
        self._operands: dict[tuple[int, bool], In] = {}

    def index(self, x: DataScalar) -> Expr:
        """An i64 as an index expression: exact, with equations before it where expressions do not reach."""
        if id(x) not in self._indices:
            self._indices[id(x)] = self._index(x)
        return self._indices[id(x)]

    def _index(self, x: DataScalar) -> Expr:
        source = x.held(self._builder)
        if isinstance(source, Literal):
            return expr.const(int(source.value))
        if source is not None:
            return source if isinstance(source, Expr) else expr.var(_var(source).name)
        if x.op in EXPR_OPS:
            return index_op(x.op, *(self.index(a) for a in x.args))
        return expr.var(self._equation(x, checked=True).name)

    def operand(self, x: DataScalar, *, checked: bool) -> In:
        """An operand of an equation. `checked`: overflow is an error, because the value goes into an index."""
        key = (id(x), checked)
        if key not in self._operands:
            self._operands[key] = self._operand(x, checked=checked)
        return self._operands[key]

    def _operand(self, x: DataScalar, *, checked: bool) -> In:
        source = x.held(self._builder)
        if source is not None:
            return as_operand(source)
        if checked and x.dtype is I64:
            e = self.index(x)
            name = next(iter(e.names()), "")
            return self._builder.scalars.get(name, e) if e == expr.var(name) else as_operand(e)
        return self._equation(x, checked=checked and x.dtype is not BOOL)

    def _equation(self, x: DataScalar, *, checked: bool) -> Var:
        ins = tuple(self.operand(a, checked=checked) for a in x.args)
        params: dict[str, Any] = {"to": x.dtype} if x.op == "cast" else {}
        if checked and x.dtype is not F64:
            params["checked"] = True
        return self._builder.compute(f"s.{x.op}", ins, params, x.dtype, x.loc or here())


def _var(source: In) -> Var:
    assert isinstance(source, Var)
    return source


def as_operand(e: In) -> In:
    """An index expression without variables as the constant it is."""
    return Literal(e.const, I64) if isinstance(e, Expr) and e.is_const and e.fits_64_bits else e


def innermost(what: str) -> WorkloadBuilder:
    from pto_wsp.trace.builder import current_workload  # it builds on this module

    return current_workload(what)


def is_number(x: object) -> bool:
    """Whether x is a Python or numpy number or bool."""
    return isinstance(x, (bool, int, float, np.bool_, np.integer, np.floating))


def tree(op: str, *operands: object) -> DataScalar:
    """`op` of scalars and Python numbers, which take the type of the scalars. Raises TypeCheckError where types do not fit."""
    nodes, dtype = typed(f"`{_SIGNS[op]}`", operands)
    if op not in _HAVE[dtype]:
        raise _no_operation(op, dtype, operands)
    if op in ("shl", "shr"):
        _check_shift(nodes[1])
    return node(op, nodes, BOOL if op in COMPARISONS else dtype)


def node(op: str, nodes: tuple[DataScalar, ...], dtype: DType) -> DataScalar:
    """The operation as a tree. Raises TraceError for values of two workloads."""
    builder = next((n.builder for n in nodes if n.builder is not None), None)
    for n in nodes:
        if n.builder is not None and n.builder is not builder:
            raise TraceError(
                "PTO158",
                "scalars of two workloads in one expression",
                values={"one": nodes[0], "another": n},
                loc=here(),
                fix="use the loop variables and scalars of the workload being traced",
            )
    return DataScalar(op, nodes, dtype, builder, here())


def typed(what: str, operands: tuple[object, ...]) -> tuple[tuple[DataScalar, ...], DType]:
    """Operands as trees of one type."""
    read = [x.element() if isinstance(x, Element) else x for x in operands]
    for x in read:
        if not isinstance(x, Scalar64) and not is_number(x):
            raise TraceError(
                "PTO161",
                f"{what} of a scalar and {type(x).__name__}",
                values={"operand": repr(x)[:80]},
                loc=here(),
                fix="combine scalars, loop variables and symbols with numbers; item(view) reads an element of a tensor",
            )
    dtypes = {x.dtype for x in read if isinstance(x, Scalar64)}
    if len(dtypes) > 1:
        raise TypeCheckError(
            "PTO170",
            f"{what} of {' and '.join(sorted(map(str, dtypes)))}",
            values={f"operand {k}": x for k, x in enumerate(read)},
            loc=here(),
            fix="there is no implicit conversion: cast(x, DType.I64), cast(x, DType.F64), ...",
        )
    dtype = dtypes.pop() if dtypes else _type_of_numbers(read)
    return tuple(as_node(x, dtype, what) for x in read), dtype


def _type_of_numbers(numbers: list[Any]) -> DType:
    if all(isinstance(x, (bool, np.bool_)) for x in numbers):
        return BOOL
    return F64 if any(isinstance(x, (float, np.floating)) for x in numbers) else I64


def as_node(x: Any, dtype: DType, what: str) -> DataScalar:
    """A scalar as a tree; a Python number becomes a constant of `dtype`. `what` is used in the error for other things."""
    if isinstance(x, DataScalar):
        return x
    if isinstance(x, (Index, Symbol)):
        return DataScalar.of(x.to_expr(), I64, x.builder if isinstance(x, Index) else None, x.asker)
    return DataScalar.of(number(x, dtype, what), dtype, None)


def number(x: Any, dtype: DType, what: str) -> Literal:
    """A Python number as a constant of `dtype`. Raises TypeCheckError for another kind, BoundsError where it does not fit."""
    value = x.item() if isinstance(x, (np.number, np.bool_)) else x
    if not isinstance(value, (bool, int, float)):
        raise TraceError(
            "PTO161",
            f"{what} of {type(x).__name__}",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="give a scalar, a loop variable or a number; item(view) reads an element of a tensor",
        )
    if isinstance(value, bool) is not (dtype is BOOL) or (isinstance(value, float) and dtype is not F64):
        raise TypeCheckError(
            "PTO170",
            f"{what} of {dtype} and the Python {type(value).__name__} {value}",
            loc=here(),
            fix="there is no implicit conversion: cast(x, DType.F64), or x != 0 for a bool",
        )
    if dtype is F64:
        return Literal(float(value), F64)
    if dtype is not BOOL and not _RANGES[dtype][0] <= value <= _RANGES[dtype][1]:
        raise BoundsError(
            "PTO713", f"{value} does not fit {dtype}", loc=here(), fix=f"give a number that {dtype} holds"
        )
    return Literal(value, dtype)


def _no_operation(op: str, dtype: DType, operands: tuple[object, ...]) -> TypeCheckError:
    fixes = {
        "div": "`/` is division of f64: cast(x, DType.F64) / y; `//` is the quotient of integers",
        "add": "cast(x, DType.I64) counts bools",
    }
    fix = fixes.get(op, f"{dtype} has " + " ".join(sorted(_SIGNS[o] for o in _HAVE[dtype])) + ", where and cast")
    values = {f"operand {k}": repr(x)[:80] for k, x in enumerate(operands)}
    return TypeCheckError("PTO171", f"{dtype} has no `{_SIGNS[op]}`", values=values, loc=here(), fix=fix)


def _check_shift(by: DataScalar) -> None:
    source = by.leaf()
    value = (
        source.value
        if isinstance(source, Literal)
        else source.const
        if isinstance(source, Expr) and source.is_const
        else 0
    )
    if not 0 <= value <= 63:
        raise ExecutionError(
            "PTO716", "a shift outside of 0 .. 63", values={"by": value}, loc=here(), fix="shift by 0 .. 63"
        )


# what users call


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two scalars of one type; of f64, NaN where either is. Of two Python numbers, a Python number."""
    return _extreme("min", a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two scalars of one type; of f64, NaN where either is. Of two Python numbers, a Python number."""
    return _extreme("max", a, b)


def _extreme(op: str, a: Any, b: Any) -> Any:
    if is_number(a) and is_number(b):
        return min(a, b) if op == "min" else max(a, b)
    return combine(op, a, b)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`: scalars of one type. Both are computed."""
    if isinstance(condition, (bool, np.bool_)):
        return a if condition else b
    c = truth(condition, "where")
    nodes, dtype = typed("where", (a, b))
    return node("where", (c, *nodes), dtype)


def truth(condition: Any, what: str) -> DataScalar:
    """A condition: a traced bool, a Python bool, or an element of a bool tensor. Raises TypeCheckError for anything else."""
    c = condition.element() if isinstance(condition, Element) else condition
    if isinstance(c, DataScalar) and c.dtype is BOOL:
        return c
    if isinstance(c, (bool, np.bool_)):
        return DataScalar.of(Literal(bool(c), BOOL), BOOL, None)
    got = f"a scalar of {c.dtype}" if isinstance(c, Scalar64) else type(c).__name__
    raise TypeCheckError(
        "PTO174",
        f"{what} of something that is not a bool",
        values={"got": got, "value": repr(c)[:80]},
        loc=here(),
        fix="compare it: P.when(n > 0), P.when(item(flags[b]) != 0)",
    )


def cast(x: Any, dtype: DType) -> Scalar64:
    """`x` as I64, U64, F64 or BOOL.

    f64 to an integer truncates toward zero, and is a BoundsError for NaN and what does not fit; between i64 and u64 it wraps
    (where the value becomes an index, a value that does not fit is a BoundsError); to BOOL is `!= 0`.
    """
    if dtype not in SCALAR_DTYPES:
        raise TypeCheckError(
            "PTO171",
            f"a scalar of {dtype}",
            values={"scalar": repr(x)[:80]},
            loc=here(),
            fix="scalars of workloads are DType.I64, U64, F64 or BOOL; a kernel's Scalar parameter rounds to its own dtype",
        )
    if is_number(x):
        value = bool(x) if dtype is BOOL else float(x) if dtype is F64 else int(x)
        return DataScalar.of(number(value, dtype, "cast"), dtype, None)
    nodes, have = typed("cast", (x,))
    if have is dtype:
        return x if isinstance(x, Scalar64) else nodes[0]
    return node("cast", nodes, dtype)


def item(view: Any) -> Scalar64:
    """The element that a view without dimensions holds at this point of the workload: `n = item(lens[b])`.

    i64 of signed integers, u64 of unsigned ones, f64 of floats, bool of bools. Waits for the tasks before it that write the
    element. Raises TraceError for a view with dimensions left.
    """
    if isinstance(view, Element):
        return view.element(assigned_name())
    raise _no_view("item", view)


def reduce_sum(view: Any) -> Scalar64:
    """The sum of a view's elements in row-major order, from 0: integers wrap in i64 or u64, floats add in f64."""
    return _reduced("reduce_sum", view)


def reduce_max(view: Any) -> Scalar64:
    """The largest element; NaN where one is NaN. Of no elements it is an ExecutionError."""
    return _reduced("reduce_max", view)


def reduce_min(view: Any) -> Scalar64:
    """The smallest element; NaN where one is NaN. Of no elements it is an ExecutionError."""
    return _reduced("reduce_min", view)


def reduce_any(view: Any) -> Scalar64:
    """Whether an element is not zero; False of no elements."""
    return _reduced("reduce_any", view)


def reduce_all(view: Any) -> Scalar64:
    """Whether all elements are not zero; True of no elements."""
    return _reduced("reduce_all", view)


def _reduced(prim: str, view: Any) -> Scalar64:
    if isinstance(view, Element):
        return view.reduced(prim, assigned_name())
    raise _no_view(prim, view)


def _no_view(what: str, x: object) -> TraceError:
    return TraceError(
        "PTO172",
        f"{what} of {type(x).__name__}",
        values={"got": repr(x)[:80]},
        loc=here(),
        fix=f"give a view of a Tensor: {what}(lens[b])",
    )
