"""Elementwise primitives of JAX, as operations on tiles and on scalars of a kernel."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from pto_wsp import pto
from pto_wsp.ir.core import DType
from pto_wsp.ir.facts import Facts, facts_of
from pto_wsp.ir.scalars import RANGES
from pto_wsp.ops.value import Value, is_scalar
from pto_wsp_jax.arrays import Array, Operation, elementwise, folded, single

Rule = Callable[..., Any]
SHORT = (DType.F16, DType.BF16)
_UNSIGNED = {DType.I8: DType.U8, DType.I16: DType.U16, DType.I32: DType.U32, DType.I64: DType.U64}


def _choice(of_bool: Rule | None, of_numbers: Rule) -> Rule:
    """By the dtype of the first operand. None: JAX has it for bool, tiles do not."""

    def choose(op: Operation) -> Rule:
        f = of_bool if op.takes[0] is DType.BOOL else of_numbers
        if f is None:
            raise op.refusal("of bool")
        return f

    def apply(op: Operation, *xs: Any) -> Value:
        return choose(op)(*xs)

    return apply


def _plain(f: Rule) -> Rule:
    def apply(op: Operation, *xs: Any) -> Value:
        return f(*xs)

    return apply


def _power(x: Value, n: int) -> Value:
    """As many products as XLA makes of it."""
    result: Value | None = None
    while True:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        if n == 0:
            assert result is not None
            return result
        x = x * x


def _integer_pow(op: Operation, x: Value) -> Value:
    n = op.params["y"]
    if n == 0:
        return pto.full_like(x, 1)
    return _power(x, n) if n > 0 else pto.reciprocal(_power(x, -n))


def _square(op: Operation, x: Value) -> Value:
    return x * x


def _tan(op: Operation, x: Value) -> Value:
    return pto.sin(x) / pto.cos(x)


def _is_finite(op: Operation, x: Value) -> Value:
    return pto.abs(x) < float("inf")


def _pow(op: Operation, x: Any, y: Any) -> Value:
    if not op.dtype.is_float:
        raise op.refusal("of integers")
    if op.takes[1] is not op.dtype:
        y = pto.cast(y, op.dtype) if isinstance(y, Value) else float(y)
    return pto.pow(x, y)


def _sign(op: Operation, x: Value) -> Value:
    zero, one = pto.full_like(x, 0), pto.full_like(x, 1)
    positive = pto.where(x > 0, one, x if op.dtype.is_float else zero)  # of floats: zeros with their sign, and NaN
    return positive if op.dtype.is_unsigned else pto.where(x < 0, pto.full_like(x, -1), positive)


def _round(op: Operation, x: Value) -> Value:
    return (pto.round, pto.rint)[int(op.params["rounding_method"])](x)


def _erfc(op: Operation, x: Value) -> Value:
    wide = pto.cast(x, DType.F32) if x.dtype in SHORT else x
    return pto.cast(1.0 - pto.erf(wide), x.dtype)


def _shift_right_logical(op: Operation, x: Any, n: Any) -> Value:
    dtype = op.dtype
    if dtype not in _UNSIGNED:
        return pto.shr(x, n)
    bits = _UNSIGNED[dtype]

    def unsigned(v: Any) -> Any:
        return pto.cast(v, bits) if isinstance(v, Value) else v % 2 ** RANGES[bits][1].bit_length()

    return pto.cast(pto.shr(unsigned(x), unsigned(n)), dtype)


def _select_n(op: Operation, which: Value, *cases: Any) -> Value:
    chosen, *rest = reversed(cases)
    if not isinstance(chosen, Value) and not any(isinstance(x, Value) for x in rest):
        chosen = pto.full((1, 1), chosen, op.dtype)
    if which.dtype is DType.BOOL:
        return pto.where(which, chosen, rest[0])
    for k, case in reversed(list(enumerate(reversed(rest)))):
        chosen = pto.where(which <= k, case, chosen)
    return chosen


def _cast(op: Operation, x: Value) -> Value:
    return pto.cast(x, op.dtype)


def _reduce_precision(op: Operation, x: Value) -> Value:
    widths = {(8, 7): DType.BF16, (5, 10): DType.F16, (8, 23): DType.F32, (11, 52): DType.F64}
    to = widths.get((op.params["exponent_bits"], op.params["mantissa_bits"]))
    if to is None:
        raise op.refusal("to a number of bits that no dtype has")
    return pto.cast(pto.cast(x, to), op.dtype)


def _clamp(op: Operation, low: Any, x: Any, high: Any) -> Value:
    return _between(low, x, high)


TILES: Mapping[str, Rule] = {
    "add": _choice(pto.logical_or, pto.add),
    "add_any": _choice(None, pto.add),
    "sub": _plain(pto.sub),
    "mul": _choice(pto.logical_and, pto.mul),
    "div": _plain(pto.div),
    "rem": _plain(pto.fmod),
    "neg": _plain(pto.neg),
    "abs": _plain(pto.abs),
    "sign": _sign,
    "max": _choice(pto.logical_or, pto.maximum),
    "min": _choice(pto.logical_and, pto.minimum),
    "clamp": _clamp,
    "square": _square,
    "integer_pow": _integer_pow,
    "pow": _pow,
    "exp": _plain(pto.exp),
    "exp2": _plain(pto.exp2),
    "expm1": _plain(pto.expm1),
    "log": _plain(pto.log),
    "log1p": _plain(pto.log1p),
    "sqrt": _plain(pto.sqrt),
    "rsqrt": _plain(pto.rsqrt),
    "tanh": _plain(pto.tanh),
    "logistic": _plain(pto.sigmoid),
    "erf": _plain(pto.erf),
    "erfc": _erfc,
    "sin": _plain(pto.sin),
    "cos": _plain(pto.cos),
    "tan": _tan,
    "floor": _plain(pto.floor),
    "ceil": _plain(pto.ceil),
    "round": _round,
    "is_finite": _is_finite,
    "eq": _plain(pto.eq),
    "ne": _plain(pto.ne),
    "lt": _choice(None, pto.lt),
    "le": _choice(None, pto.le),
    "gt": _choice(None, pto.gt),
    "ge": _choice(None, pto.ge),
    "and": _choice(pto.logical_and, pto.bit_and),
    "or": _choice(pto.logical_or, pto.bit_or),
    "xor": _choice(pto.logical_xor, pto.bit_xor),
    "not": _choice(pto.logical_not, pto.bit_not),
    "shift_left": _plain(pto.shl),
    "shift_right_arithmetic": _plain(pto.shr),
    "shift_right_logical": _shift_right_logical,
    "select_n": _select_n,
    "convert_element_type": _cast,
    "reduce_precision": _reduce_precision,
}
"""What each primitive is on tiles: operands are tiles, or scalars and numbers beside a tile."""


def _quotient(a: Any, b: int) -> Any:
    """Of integers, toward zero; b is not 0."""
    q = pto.abs(a) // abs(b)
    return pto.where((a < 0) if b > 0 else (a >= 0), -q, q)


def _remainder(a: Any, b: int) -> Any:
    """Of integers, with the sign of a; b is not 0."""
    r = pto.abs(a) % abs(b)
    return pto.where(a < 0, -r, r)


def _between(low: Any, x: Any, high: Any) -> Any:
    return pto.minimum(pto.maximum(low, x), high)


def _same_truth(a: Any, b: Any) -> Any:
    return ~(a ^ b)


def _sign_of_scalar(a: Any) -> Any:
    return pto.where(a > 0, 1, pto.where(a < 0, -1, 0))


_EXACT: Mapping[str, Rule] = {
    "neg": operator.neg,
    "max": pto.maximum,
    "min": pto.minimum,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
"""On integers and floats."""

_ORDERS = ("lt", "le", "gt", "ge")

_OF_INTEGERS: Mapping[str, Rule] = _EXACT | {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "abs": pto.abs,
    "sign": _sign_of_scalar,
    "clamp": _between,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "not": operator.invert,
}
_OF_BOOL: Mapping[str, Rule] = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "not": operator.invert,
    "eq": _same_truth,
    "ne": operator.xor,
}


def _on_scalars(op: Operation) -> Rule | None:
    """What the primitive is on scalars of the kernel, where it means the same there as on arrays of rank 0."""
    name, dtype = op.primitive.name, op.takes[0]
    if dtype is DType.BOOL:
        return _OF_BOOL.get(name)
    return (_EXACT if dtype.is_float else _OF_INTEGERS).get(name)


def known_of(x: Any) -> Facts:
    """What is known of an integer, a number or a scalar."""
    return facts_of(x.read(), x.builder.facts) if isinstance(x, Value) else Facts.exactly(x)


def _known(name: str, a: Facts, b: Facts) -> bool | None:
    """What a comparison gives for all numbers that there may be, where that is one answer: as of an index of a loop with 0."""
    if name in ("gt", "ge"):
        return _known({"gt": "lt", "ge": "le"}[name], b, a)
    holds, fails = (a.high < b.low, a.low >= b.high) if name == "lt" else (a.high <= b.low, a.low > b.high)
    return True if holds else False if fails else None


def in_range(value: Any, dtype: DType) -> Any:
    """A scalar of integers of 64 bits, wrapped to `dtype` where it may not fit."""
    if not isinstance(value, Value) or dtype not in RANGES:
        return value
    low, high = RANGES[dtype]
    facts = known_of(value)
    return value if low <= facts.low and facts.high <= high else pto.cast(value, dtype)


def _scalar_result(op: Operation, arrays: tuple[Array, ...]) -> Any:
    """The result as a scalar of the kernel, None where it has to be a tile."""
    name, values = op.primitive.name, [a.value for a in arrays]
    if name in ("div", "rem") and op.dtype.is_integer and arrays[1].is_number and values[1] != 0:
        return (_quotient if name == "div" else _remainder)(*values)
    if name == "convert_element_type":
        if op.takes[0].is_float or (op.dtype.is_float and op.takes[0] in (DType.I64, DType.U64)):
            return None  # of 64 bits it would be rounded twice
        if op.takes[0].scalar is op.dtype.scalar:
            return values[0]
        return values[0] != 0 if op.dtype is DType.BOOL else pto.cast(values[0], op.dtype)
    if name in _ORDERS and op.takes[0].is_integer:
        known = _known(name, *map(known_of, values))
        if known is not None:
            return known
    if name == "select_n" and is_scalar(values[0]) and op.takes[0] is DType.BOOL and len(values) == 3:
        if not any(isinstance(x, Value) for x in values[1:]):
            return None if op.dtype.is_float else pto.where(values[0], values[2], values[1])
        return pto.where(values[0], values[2], values[1])
    f = _on_scalars(op)
    return None if f is None else f(*values)


def rule(op: Operation, *arrays: Array) -> Array:
    """The result of an elementwise primitive."""
    if op.primitive.name == "select_n" and arrays[0].is_number:
        chosen = arrays[1 + int(arrays[0].value)]
        return op.result(chosen.value, chosen.row, chosen.col)
    if all(a.is_number for a in arrays):
        return op.result(folded(op, [a.value for a in arrays]))
    if not any(a.is_tile for a in arrays):
        value = _scalar_result(op, arrays)
        if value is not None:
            return op.result(in_range(value, op.dtype) if op.dtype.is_integer else value)
    if op.primitive.name == "select_n" or any(a.dtype is DType.BOOL for a in arrays):
        arrays = tuple(single(a) if is_scalar(a.value) else a for a in arrays)
    return elementwise(op, lambda *xs: TILES[op.primitive.name](op, *xs), *arrays)
