"""Scalars while a workload is lowered: numbers that are known, or traced values with what is known of them.

Integers know an interval and a divisor, from which follow how often a loop runs at most, and that a tile does not reach over the end of
a tensor. Without jax_enable_x64 scalars that are traced have 32 bits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pto_wsp.errors import BoundsError, ExecutionError
from pto_wsp.ir.core import DType
from pto_wsp.ir.expr import Expr, Op
from pto_wsp.ir.scalars import compute

INF = math.inf
_MOST = 2**62


@partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["low", "high", "step"])
@dataclass(frozen=True)
class Int:
    """A traced integer. low, high: all that it may be, infinite where nothing is known; step: it is a multiple of that."""

    value: Any
    low: float = -INF
    high: float = INF
    step: int = 1


Number = int | float | bool | Int | jax.Array
"""A Python number is known; an Int is a traced integer, an array without dimensions a traced float or bool."""


def low(x: int | Int) -> float:
    return x.low if isinstance(x, Int) else x


def high(x: int | Int) -> float:
    return x.high if isinstance(x, Int) else x


def step(x: int | Int) -> int:
    return x.step if isinstance(x, Int) else abs(int(x))


def is_known(x: Number) -> bool:
    return isinstance(x, (int, float, bool))


def within(x: int | Int, least: float, most: float) -> int | Int:
    """x, of which it is known that it lies there."""
    return x if not isinstance(x, Int) else Int(x.value, max(x.low, least), min(x.high, most), x.step)


def raw(x: Number) -> Any:
    """What jax.numpy takes."""
    return x.value if isinstance(x, Int) else x


def traced_dtype(dtype: DType) -> Any:
    """What a scalar of a workload is traced in."""
    return jax.dtypes.canonicalize_dtype(dtype.numpy)


def integer(value: Any, lo: float = -INF, hi: float = INF, multiple: int = 1) -> int | Int:
    """An integer of which that is known: a number where nothing else is left."""
    if lo < -_MOST or hi > _MOST:  # it may have wrapped
        lo, hi = (lo if lo >= -_MOST else -INF), (hi if hi <= _MOST else INF)
    return int(lo) if lo == hi else Int(value, lo, hi, multiple)


Ends = tuple[float, float]


def ends(x: int | Int) -> Ends:
    return low(x), high(x)


def _times(a: float, b: float) -> float:
    return 0 if 0 in (a, b) else a * b  # also of infinities


def _quotient(a: float, b: float) -> float:
    return a if math.isinf(a) else int(a) // int(b)


def _mul_ends(a: Ends, b: Ends) -> Ends:
    products = [_times(x, y) for x in a for y in b]
    return min(products), max(products)


def _floordiv_ends(a: Ends, b: Ends) -> Ends:
    if b[0] != b[1] or b[0] <= 0:
        return -INF, INF
    return _quotient(a[0], b[0]), _quotient(a[1], b[0])


def _ceildiv_ends(a: Ends, b: Ends) -> Ends:
    least, most = _floordiv_ends((-a[1], -a[0]), b)
    return -most, -least


def _mod_ends(a: Ends, b: Ends) -> Ends:
    if b[0] != b[1] or b[0] <= 0:
        return -INF, INF
    return a if a[0] >= 0 and a[1] < b[0] else (0, b[0] - 1)


OP_ENDS: dict[str, Callable[[Ends, Ends], Ends]] = {
    "mul": _mul_ends,
    "floordiv": _floordiv_ends,
    "ceildiv": _ceildiv_ends,
    "mod": _mod_ends,
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
}


def ends_of(e: Expr, env: Mapping[str, Ends]) -> Ends:
    """Least and greatest value of an index expression; of names that are not in `env` nothing is known."""
    least: float = e.const
    most: float = e.const
    for atom, coef in e.terms:
        if isinstance(atom, Op):
            x = OP_ENDS[atom.kind](ends_of(atom.a, env), ends_of(atom.b, env))
        else:
            x = env.get(atom, (-INF, INF))
        x = _mul_ends(x, (coef, coef))
        least, most = least + x[0], most + x[1]
    return least, most


def add(a: int | Int, b: int | Int) -> int | Int:
    return integer(raw(a) + raw(b), low(a) + low(b), high(a) + high(b), math.gcd(step(a), step(b)))


def sub(a: int | Int, b: int | Int) -> int | Int:
    return integer(raw(a) - raw(b), low(a) - high(b), high(a) - low(b), math.gcd(step(a), step(b)))


def mul(a: int | Int, b: int | Int) -> int | Int:
    return integer(raw(a) * raw(b), *_mul_ends(ends(a), ends(b)), step(a) * step(b))


def minimum(a: int | Int, b: int | Int) -> int | Int:
    if high(a) <= low(b) or high(b) <= low(a):
        return a if high(a) <= low(b) else b
    of_both = OP_ENDS["min"](ends(a), ends(b))
    return integer(jnp.minimum(raw(a), raw(b)), *of_both, math.gcd(step(a), step(b)))


def maximum(a: int | Int, b: int | Int) -> int | Int:
    if low(a) >= high(b) or low(b) >= high(a):
        return a if low(a) >= high(b) else b
    of_both = OP_ENDS["max"](ends(a), ends(b))
    return integer(jnp.maximum(raw(a), raw(b)), *of_both, math.gcd(step(a), step(b)))


def _divisor(b: int | Int) -> Any:
    """b, where it is not 0: a division by 0 is an error of a run, of which there is none here."""
    return jnp.where(b.value == 0, 1, b.value) if isinstance(b, Int) else b or 1


def floordiv(a: int | Int, b: int | Int) -> int | Int:
    whole = isinstance(b, int) and b > 0 and step(a) % b == 0
    multiple = step(a) // b if whole else 1  # type: ignore[operator]
    return integer(raw(a) // _divisor(b), *_floordiv_ends(ends(a), ends(b)), multiple)


def ceildiv(a: int | Int, b: int | Int) -> int | Int:
    return sub(0, floordiv(sub(0, a), b))


def mod(a: int | Int, b: int | Int) -> int | Int:
    within = _mod_ends(ends(a), ends(b))
    if within == ends(a) and within[0] >= 0:
        return a
    return integer(raw(a) % _divisor(b), *within, math.gcd(step(a), step(b)))


_EXPR_OPS: dict[str, Callable[[int | Int, int | Int], int | Int]] = {
    "mul": mul,
    "floordiv": floordiv,
    "ceildiv": ceildiv,
    "mod": mod,
    "min": minimum,
    "max": maximum,
}


def value_of(e: Expr, env: Mapping[str, Number]) -> int | Int:
    """The integer that an index expression is."""
    total: int | Int = e.const
    for atom, coef in e.terms:
        x = _op(atom, env) if isinstance(atom, Op) else env[atom]
        assert isinstance(x, (int, Int))
        total = add(total, mul(x, coef))
    return total


def _op(op: Op, env: Mapping[str, Number]) -> int | Int:
    return _EXPR_OPS[op.kind](value_of(op.a, env), value_of(op.b, env))


# operations on scalars


def scalar_op(prim: str, params: Mapping[str, Any], dtypes: Sequence[DType], values: Sequence[Number]) -> Number:
    """An operation `s.*`. What would be an error of a run gives some number."""
    if all(map(is_known, values)):
        try:
            return compute(prim, params, dtypes, values)  # type: ignore[arg-type]
        except (BoundsError, ExecutionError):
            return False if dtypes[-1] is DType.BOOL else 0.0 if dtypes[-1] is DType.F64 else 0
    if dtypes[-1] is DType.I64 and prim in _INTEGER:
        return _INTEGER[prim](*values)
    if prim == "s.cast":
        return _cast(values[0], dtypes[0], params["to"])
    operands = [_array(x, d) for x, d in zip(values, dtypes, strict=True)]
    out = _TRACED[prim](*operands)
    if prim in _COMPARISONS or dtypes[-1] in (DType.BOOL, DType.F64):
        return out
    if prim == "s.where" and all(isinstance(x, (int, Int)) for x in values[1:]):
        a, b = values[1:]
        return Int(out, min(low(a), low(b)), max(high(a), high(b)), math.gcd(step(a), step(b)))  # type: ignore[arg-type]
    return Int(out, 0 if dtypes[-1] is DType.U64 else -INF)


def _array(x: Number, dtype: DType) -> jax.Array:
    return jnp.asarray(raw(x), traced_dtype(dtype))


def _cast(x: Number, dtype: DType, to: DType) -> Number:
    if dtype is to:
        return x
    value = _array(x, dtype)
    if to is DType.BOOL:
        return value != 0
    if to is DType.F64:
        return value.astype(traced_dtype(to))
    out = value.astype(traced_dtype(to))
    if isinstance(x, Int) and x.low >= 0:
        return Int(out, x.low, x.high, x.step)
    if dtype is DType.BOOL:
        return Int(out, 0, 1)
    return Int(out, 0 if to is DType.U64 else -INF)


def _no_zero(b: jax.Array) -> jax.Array:
    return b if jnp.issubdtype(b.dtype, jnp.floating) else jnp.where(b == 0, 1, b)


def _floordiv(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.floor_divide(a, _no_zero(b))


def _mod(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.mod(a, _no_zero(b))


def _not(a: jax.Array) -> jax.Array:
    return jnp.logical_not(a) if a.dtype == jnp.bool_ else jnp.invert(a)


_INTEGER: dict[str, Any] = {
    "s.add": add,
    "s.sub": sub,
    "s.mul": mul,
    "s.floordiv": floordiv,
    "s.mod": mod,
    "s.min": minimum,
    "s.max": maximum,
}
_COMPARISONS = ("s.eq", "s.ne", "s.lt", "s.le", "s.gt", "s.ge")
_TRACED: dict[str, Callable[..., jax.Array]] = {
    "s.add": operator.add,
    "s.sub": operator.sub,
    "s.mul": operator.mul,
    "s.neg": jnp.negative,
    "s.abs": jnp.abs,
    "s.floordiv": _floordiv,
    "s.mod": _mod,
    "s.div": operator.truediv,
    "s.and": operator.and_,
    "s.or": operator.or_,
    "s.xor": operator.xor,
    "s.not": _not,
    "s.shl": operator.lshift,
    "s.shr": operator.rshift,
    "s.eq": operator.eq,
    "s.ne": operator.ne,
    "s.lt": operator.lt,
    "s.le": operator.le,
    "s.gt": operator.gt,
    "s.ge": operator.ge,
    "s.min": jnp.minimum,
    "s.max": jnp.maximum,
    "s.where": jnp.where,
}


def has_64_bits() -> bool:
    """Whether JAX has numbers of 64 bits."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64
