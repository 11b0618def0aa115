"""Scalar operations of workloads: exact integers of 64 bits, float64, and bool.

A type rule takes the parameters and the operands' dtypes and gives the result's; a reference takes the parameters, the dtype
the operation is done in, and the operands' values (int, float, bool). Integers wrap; with `checked`, where the value goes into
an index, extent or address, overflow is a BoundsError.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence

from pto_wsp.errors import BoundsError, ExecutionError, InternalError, TypeCheckError
from pto_wsp.ir.core import PRIMITIVES, Dialect, DType, Param, Primitive
from pto_wsp.ir.expr import OPS, Expr

Number = int | float | bool
Params = Mapping[str, Param]

INTEGERS = (DType.I64, DType.U64)
NUMBERS = (*INTEGERS, DType.F64)
SCALAR_DTYPES = (*NUMBERS, DType.BOOL)
RANGES = {
    d: (0, 2 ** (8 * d.itemsize) - 1)
    if d.is_unsigned
    else (-(2 ** (8 * d.itemsize - 1)), 2 ** (8 * d.itemsize - 1) - 1)
    for d in DType
    if d.is_integer
}


def scalar_type(prim: str, params: Params, dtypes: Sequence[DType]) -> DType:
    """The result's dtype. Raises TypeCheckError for operands that the operation does not take."""
    rule = PRIMITIVES[prim].type
    if rule is None or PRIMITIVES[prim].dialect is not Dialect.SCALAR:
        raise InternalError(f"{prim} is no operation on scalars")
    return rule(params, *dtypes)


def compute(prim: str, params: Params, dtypes: Sequence[DType], values: Sequence[Number]) -> Number:
    """The operation on `values`. Raises BoundsError and ExecutionError as the module says."""
    reference = PRIMITIVES[prim].reference
    if reference is None:
        raise InternalError(f"{prim} has no reference")
    return reference(params, dtypes[-1], *values)


def can_fail(prim: str, params: Params, dtypes: Sequence[DType], values: Sequence[Number | None]) -> bool:
    """Whether some operands make it an error; `values` are those known, None for the others."""
    if params.get("checked") and dtypes[-1] in INTEGERS:
        return True
    last = values[-1]
    match prim:
        case "s.floordiv" | "s.mod" | "s.div":
            return last is None or last == 0
        case "s.shl" | "s.shr":
            return last is None or not 0 <= last < 64
        case "s.cast":
            return dtypes[0] is DType.F64 and params["to"] in INTEGERS
        case _:
            return False


def wrap(n: int, dtype: DType) -> int:
    """The integer of 64 bits that is n modulo 2**64."""
    n &= 2**64 - 1
    return n - 2**64 if dtype is DType.I64 and n >= 2**63 else n


def overflow(n: int, dtype: DType) -> BoundsError:
    return BoundsError(
        "PTO712", "an integer beyond 64 bits", values={"value": n, "type": dtype}, fix="use smaller numbers"
    )


def zero_divisor(values: Mapping[str, object]) -> ExecutionError:
    return ExecutionError("PTO711", "a division by zero", values=values, fix="divide by what is not 0")


def index_value(e: Expr, env: Mapping[str, int]) -> int:
    """The number an index expression is: exact, each operation and the sum within 64 bits."""
    total = e.const
    for atom, coef in e.terms:
        if isinstance(atom, str):
            total += coef * env[atom]
            continue
        a, b = index_value(atom.a, env), index_value(atom.b, env)
        if b == 0 and atom.kind in ("floordiv", "ceildiv", "mod"):
            raise zero_divisor({"expression": atom, "dividend": a})
        total += coef * _fit(OPS[atom.kind](a, b), DType.I64, checked=True)
    return _fit(total, DType.I64, checked=True)


def _fit(n: int, dtype: DType, *, checked: bool) -> int:
    low, high = RANGES[dtype]
    if checked and not low <= n <= high:
        raise overflow(n, dtype)
    return wrap(n, dtype)


def _takes(prim: str, count: int, takes: Sequence[DType], dtypes: Sequence[DType]) -> None:
    """Refuse another number of operands, operands of several dtypes, and of dtypes it does not take."""
    if len(dtypes) != count:
        raise TypeCheckError(
            "PTO106", f"{prim} takes {count} operands", values={"got": len(dtypes)}, fix="give as many"
        )
    if len(set(dtypes)) != 1:
        got = " and ".join(map(str, dtypes))
        raise TypeCheckError("PTO102", f"{prim} of {got}", fix=f"cast one of them: cast(x, DType.{dtypes[0].name})")
    if dtypes[0] not in takes:
        raise TypeCheckError(
            "PTO104",
            f"{prim} of {dtypes[0]}",
            values={"there is": ", ".join(map(str, takes))},
            fix="cast the operands first: cast(x, DType.F64)",
        )


def _same(
    name: str, doc: str, takes: Sequence[DType] = NUMBERS, *, count: int = 2, to: DType | None = None
) -> Primitive:
    """An operation on operands of one dtype; `to` is the result's where it is another."""
    prim = Primitive(f"s.{name}", Dialect.SCALAR, doc=doc)

    @prim.def_type
    def _(params: Params, *dtypes: DType) -> DType:
        _takes(prim.name, count, takes, dtypes)
        return to or dtypes[0]

    return prim


def _wrapping(prim: Primitive, rule: Callable[..., Number]) -> None:
    """Reference of an operation that is exact on integers, and Python's on floats."""

    @prim.def_reference
    def _(params: Params, dtype: DType, *values: Number) -> Number:
        out = rule(*values)
        if dtype not in INTEGERS or isinstance(out, bool):
            return out
        return _fit(int(out), dtype, checked=bool(params.get("checked")))


_wrapping(_same("add", "a + b"), operator.add)
_wrapping(_same("sub", "a - b"), operator.sub)
_wrapping(_same("mul", "a * b"), operator.mul)


def _negative(a: Number) -> Number:
    return -a


def _magnitude(a: Number) -> Number:
    return abs(a)


_wrapping(_same("abs", "the absolute value", count=1), _magnitude)
_wrapping(_same("neg", "-a", count=1), _negative)

floordiv_p = _same("floordiv", "the quotient, rounded down; of floats as Python's")
mod_p = _same("mod", "a - floordiv(a, b) * b, with the sign of b; of floats as Python's")
div_p = _same("div", "the quotient of floats", (DType.F64,))


def _nonzero_divisor(prim: Primitive, rule: Callable[[Number, Number], Number]) -> None:
    def divide(a: Number, b: Number) -> Number:
        if b == 0:
            raise zero_divisor({"dividend": a})
        return rule(a, b)

    _wrapping(prim, divide)


_nonzero_divisor(floordiv_p, operator.floordiv)
_nonzero_divisor(mod_p, operator.mod)
_nonzero_divisor(div_p, operator.truediv)

_BITS = (*INTEGERS, DType.BOOL)
_wrapping(_same("and", "bitwise, of bools logical", _BITS), operator.and_)
_wrapping(_same("or", "bitwise, of bools logical", _BITS), operator.or_)
_wrapping(_same("xor", "bitwise, of bools logical", _BITS), operator.xor)

not_p = _same("not", "bitwise, of bools logical", _BITS, count=1)


@not_p.def_reference
def _(params: Params, dtype: DType, a: int) -> Number:
    return not a if dtype is DType.BOOL else wrap(~a, dtype)


shl_p = _same("shl", "a * 2**b for b of 0 .. 63", INTEGERS)
shr_p = _same("shr", "a / 2**b rounded down, for b of 0 .. 63", INTEGERS)


def _shift_count(b: int) -> int:
    if not 0 <= b < 64:
        raise ExecutionError("PTO716", f"a shift by {b}", values={"range": "0 .. 63"}, fix="shift by 0 .. 63")
    return b


@shl_p.def_reference
def _(params: Params, dtype: DType, a: int, b: int) -> int:
    return _fit(a << _shift_count(b), dtype, checked=bool(params.get("checked")))


@shr_p.def_reference
def _(params: Params, dtype: DType, a: int, b: int) -> int:
    return a >> _shift_count(b)


for _name, _rule, _doc in (
    ("eq", operator.eq, "whether a is b; false for NaN"),
    ("ne", operator.ne, "whether a is not b; true for NaN"),
):
    _wrapping(_same(_name, _doc, SCALAR_DTYPES, to=DType.BOOL), _rule)
for _name, _rule in (("lt", operator.lt), ("le", operator.le), ("gt", operator.gt), ("ge", operator.ge)):
    _wrapping(_same(_name, "comparison; false for NaN", to=DType.BOOL), _rule)

min_p = _same("min", "the smaller one; NaN if one is, and min(-0, +0) = -0")
max_p = _same("max", "the larger one; NaN if one is, and max(-0, +0) = +0")


@min_p.def_reference
def _(params: Params, dtype: DType, a: Number, b: Number) -> Number:
    return smaller(a, b)


@max_p.def_reference
def _(params: Params, dtype: DType, a: Number, b: Number) -> Number:
    return -smaller(-a, -b)


def smaller(a: Number, b: Number) -> Number:
    if math.isnan(a) or math.isnan(b):
        return math.nan
    if a == b == 0 and isinstance(a, float):
        return a if math.copysign(1, a) < 0 else b
    return min(a, b)


where_p = Primitive("s.where", Dialect.SCALAR, doc="a where the condition holds, else b; both are computed")


@where_p.def_type
def _(params: Params, *dtypes: DType) -> DType:
    if dtypes[:1] != (DType.BOOL,):
        raise TypeCheckError(
            "PTO102", f"s.where needs a bool condition, not {', '.join(map(str, dtypes[:1]))}", fix="write a comparison"
        )
    _takes("s.where", 2, SCALAR_DTYPES, dtypes[1:])
    return dtypes[1]


@where_p.def_reference
def _(params: Params, dtype: DType, c: bool, a: Number, b: Number) -> Number:
    return a if c else b


cast_p = Primitive("s.cast", Dialect.SCALAR, doc="a in the dtype `to`")


@cast_p.def_type
def _(params: Params, *dtypes: DType) -> DType:
    _takes("s.cast", 1, SCALAR_DTYPES, dtypes)
    to = params.get("to")
    if not isinstance(to, DType) or to not in SCALAR_DTYPES:
        raise TypeCheckError(
            "PTO106",
            f"a scalar cast to {to}",
            values={"there is": ", ".join(map(str, SCALAR_DTYPES))},
            fix="cast to one of these",
        )
    return to


@cast_p.def_reference
def _(params: Params, dtype: DType, a: Number) -> Number:
    """Floats toward zero, integers modulo 2**64, integers to the nearest float (ties to even), and `!= 0` to bool."""
    to = params["to"]
    assert isinstance(to, DType)
    if to is DType.BOOL:
        return a != 0
    if to is DType.F64:
        return float(a)
    if dtype is not DType.F64:
        return _fit(int(a), to, checked=bool(params.get("checked")))
    low, high = RANGES[to]
    if not math.isfinite(a) or not low <= int(a) <= high:
        raise BoundsError(
            "PTO717", f"{a} as {to}", values={"range": f"{low} .. {high}"}, fix="cast numbers that the type holds"
        )
    return int(a)
