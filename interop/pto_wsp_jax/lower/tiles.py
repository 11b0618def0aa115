"""Operations of kernels as functions of jax.numpy: a row for each.

A tile is an array of its static shape. Elements outside of its valid shape hold something or other: what reads across rows or columns
masks them. Floats of 16 bits are computed in float32 and rounded once, as the runtime does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pto_wsp.ir.core import DType, Eqn, ScalarType, TileType, Type
from pto_wsp.ir.scalars import RANGES
from pto_wsp_jax.lower.numbers import Int, raw

Rule = Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """One equation: the types of its operands and result, and how many rows and columns of an operand are valid."""

    eqn: Eqn
    types: tuple[Type, ...]
    out: TileType | ScalarType
    valid: Callable[[TileType], tuple[int | Int, int | Int]]

    @property
    def params(self) -> Any:
        return self.eqn.params

    def tile(self, k: int) -> TileType:
        t = self.types[k]
        assert isinstance(t, TileType)
        return t

    def there(self, k: int, axes: tuple[int, ...] = (0, 1)) -> Any:
        """Which elements of operand k are valid, as far as these axes say; None where all are."""
        t, mask = self.tile(k), None
        for axis, (n, size) in enumerate(zip(self.valid(t), t.shape, strict=True)):
            if axis not in axes or (isinstance(n, int) and n >= size):
                continue
            rows = jnp.arange(size) < raw(n)
            rows = rows[:, None] if axis == 0 else rows[None, :]
            mask = rows if mask is None else mask & rows
        return mask

    def filled(self, k: int, x: jax.Array, value: Any, axes: tuple[int, ...] = (0, 1)) -> jax.Array:
        """Operand k with `value` where it is not valid."""
        mask = self.there(k, axes)
        return x if mask is None else jnp.where(mask, x, jnp.asarray(value, x.dtype))


RULES: dict[str, Rule] = {}
ELEMENTWISE: set[str] = set()


def rule(*names: str) -> Callable[[Rule], Rule]:
    def add(f: Rule) -> Rule:
        for name in names:
            RULES[name] = f
        return f

    return add


def wide(x: jax.Array) -> jax.Array:
    """In what it is computed in."""
    return x.astype(jnp.float32) if x.dtype in (jnp.float16, jnp.bfloat16) else x


def rounded(x: jax.Array, dtype: DType) -> jax.Array:
    """In the dtype, rounded once. XLA may leave out a conversion to 16 bits and back, but no reduction of the precision."""
    if dtype in _BITS and x.dtype != dtype.numpy and jnp.issubdtype(x.dtype, jnp.floating):
        x = lax.reduce_precision(x, *_BITS[dtype])
    return x.astype(dtype.numpy)


_BITS = {DType.F16: (5, 10), DType.BF16: (8, 7)}


def _elementwise(name: str, f: Rule, *, safe: bool = False) -> None:
    """safe: what is not valid is 1, so that neither it nor its derivative is infinite."""

    def apply(c: Call, *operands: jax.Array) -> jax.Array:
        xs = [wide(x) for x in operands]
        if safe:
            xs = [c.filled(k, x, 1) if isinstance(c.types[k], TileType) else x for k, x in enumerate(xs)]
        return f(*xs)

    RULES[name] = apply
    ELEMENTWISE.add(name)


def _trunc_div(a: jax.Array, b: jax.Array) -> jax.Array:
    if jnp.issubdtype(a.dtype, jnp.floating):
        return a / b
    a, b = jnp.broadcast_arrays(a, b)
    if jnp.issubdtype(a.dtype, jnp.unsignedinteger):
        return jnp.where(b == 0, ~jnp.zeros((), a.dtype), lax.div(a, jnp.where(b == 0, 1, b).astype(a.dtype)))
    turned = b == -1  # the smallest number by -1 is itself
    safe = jnp.where((b == 0) | turned, 1, b).astype(a.dtype)
    return jnp.where(b == 0, -1, jnp.where(turned, -a, lax.div(a, safe))).astype(a.dtype)


def _fmod(a: jax.Array, b: jax.Array) -> jax.Array:
    if jnp.issubdtype(a.dtype, jnp.floating):
        return jnp.fmod(a, b)
    return jnp.where(b == 0, a, a - _trunc_div(a, b) * b).astype(a.dtype)


def _rem(a: jax.Array, b: jax.Array) -> jax.Array:
    r = _fmod(a, b)
    if jnp.issubdtype(a.dtype, jnp.unsignedinteger):
        return r
    if jnp.issubdtype(a.dtype, jnp.floating):
        other = jnp.isfinite(r) & ((r < 0) != (b < 0))
        return jnp.where(r == 0, jnp.copysign(r, b), jnp.where(other, r + b, r))
    return jnp.where((b != 0) & (r != 0) & ((r < 0) != (b < 0)), r + b, r).astype(a.dtype)


def _floordiv(a: jax.Array, b: jax.Array) -> jax.Array:
    q, r = _trunc_div(a, b), _fmod(a, b)
    if jnp.issubdtype(a.dtype, jnp.unsignedinteger):
        return q
    return jnp.where((b != 0) & (r != 0) & ((r < 0) != (b < 0)), q - 1, q).astype(a.dtype)


def _width(x: jax.Array) -> int:
    return 8 * x.dtype.itemsize


def _shl(a: jax.Array, n: jax.Array) -> jax.Array:
    a, n = jnp.broadcast_arrays(a, n)
    inside = (n >= 0) & (n < _width(a))
    return jnp.where(inside, lax.shift_left(a, jnp.where(inside, n, 0).astype(a.dtype)), 0).astype(a.dtype)


def _shr(a: jax.Array, n: jax.Array) -> jax.Array:
    a, n = jnp.broadcast_arrays(a, n)
    inside = (n >= 0) & (n < _width(a))
    by = jnp.where(inside, n, 0).astype(a.dtype)
    if jnp.issubdtype(a.dtype, jnp.unsignedinteger):
        return jnp.where(inside, lax.shift_right_logical(a, by), 0).astype(a.dtype)
    return jnp.where(inside, lax.shift_right_arithmetic(a, by), jnp.where(a < 0, -1, 0)).astype(a.dtype)


def _away(x: jax.Array) -> jax.Array:
    whole = jnp.trunc(x)
    return jnp.copysign(jnp.where(jnp.abs(x - whole) >= 0.5, whole + jnp.sign(x), whole), x)


def _fma(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    return a * b + c


for _name, _f in {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "neg": jnp.negative,
    "abs": jnp.abs,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "fma": _fma,
    "floordiv": _floordiv,
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "logical_not": jnp.logical_not,
    "bit_and": jnp.bitwise_and,
    "bit_or": jnp.bitwise_or,
    "bit_xor": jnp.bitwise_xor,
    "bit_not": jnp.bitwise_not,
    "shl": _shl,
    "shr": _shr,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "rint": jnp.rint,
    "trunc": jnp.trunc,
    "round": _away,
}.items():
    _elementwise(_name, _f)
for _name, _f in {
    "div": _trunc_div,
    "fmod": _fmod,
    "rem": _rem,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log2": jnp.log2,
    "log1p": jnp.log1p,
    "pow": jnp.power,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "reciprocal": jnp.reciprocal,
    "tanh": jnp.tanh,
    "erf": lax.erf,
    "sin": jnp.sin,
    "cos": jnp.cos,
}.items():
    _elementwise(_name, _f, safe=True)


@rule("where")
def _(c: Call, mask: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(mask, a, b)


@rule("full")
def _(c: Call, value: jax.Array) -> jax.Array:
    return jnp.full((c.params["rows"], c.params["cols"]), value)


@rule("iota")
def _(c: Call) -> jax.Array:
    return lax.broadcasted_iota(jnp.int32, (c.params["rows"], c.params["cols"]), c.params["axis"])


@rule("broadcast")
def _(c: Call, x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(x, c.out.shape)  # type: ignore[union-attr]


# reductions


def least(dtype: Any) -> Any:
    """What `maximum` changes nothing with."""
    return np.asarray(-math.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min, dtype)


def greatest(dtype: Any) -> Any:
    return np.asarray(math.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).max, dtype)


def _reduction(name: str, axis: int, f: Rule, identity: Callable[[Any], Any]) -> None:
    def apply(c: Call, x: jax.Array) -> jax.Array:
        x = wide(x)
        return f(c.filled(0, x, identity(x.dtype), (axis,)), axis=axis, keepdims=True)

    RULES[name] = apply


def _sum(x: jax.Array, **options: Any) -> jax.Array:
    return jnp.sum(x, dtype=x.dtype, **options)


def _prod(x: jax.Array, **options: Any) -> jax.Array:
    return jnp.prod(x, dtype=x.dtype, **options)


for _of, _axis in (("row", 1), ("col", 0)):
    _reduction(f"{_of}sum", _axis, _sum, lambda dtype: 0)
    _reduction(f"{_of}prod", _axis, _prod, lambda dtype: 1)
    _reduction(f"{_of}max", _axis, jnp.max, least)
    _reduction(f"{_of}min", _axis, jnp.min, greatest)


@rule("count_cols")
def _(c: Call, x: jax.Array) -> jax.Array:
    return jnp.full((x.shape[0], 1), raw(c.valid(c.tile(0))[1]), x.dtype)


@rule("count_rows")
def _(c: Call, x: jax.Array) -> jax.Array:
    return jnp.full((1, x.shape[1]), raw(c.valid(c.tile(0))[0]), x.dtype)


@rule("matmul")
def _(c: Call, a: jax.Array, b: jax.Array, *acc: jax.Array) -> jax.Array:
    ka, kb = (0 if c.params["transpose_a"] else 1), (1 if c.params["transpose_b"] else 0)
    # of k what is not valid of one is 0 in both: it may hold anything
    masks = [m.reshape(-1) for m in (c.there(0, (ka,)), c.there(1, (kb,))) if m is not None]
    for m in masks:
        a = jnp.where(m[:, None] if ka == 0 else m[None, :], a, jnp.zeros((), a.dtype))
        b = jnp.where(m[:, None] if kb == 0 else m[None, :], b, jnp.zeros((), b.dtype))
    to = c.out.dtype.numpy
    a, b = (x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(to) for x in (a, b))
    out = lax.dot_general(
        a,
        b,
        (((ka,), (kb,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=to,
    )
    return out + acc[0] if acc else out


# parts and other arrangements


@rule("slice")
def _(c: Call, x: jax.Array) -> jax.Array:
    p = c.params
    return x[p["row"] : p["row"] + p["rows"], p["col"] : p["col"] + (p["cols"] - 1) * p["step"] + 1 : p["step"]]


@rule("concat")
def _(c: Call, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.concatenate([a, b], axis=c.params["axis"])


@rule("transpose")
def _(c: Call, x: jax.Array) -> jax.Array:
    return x.T


@rule("reshape")
def _(c: Call, x: jax.Array) -> jax.Array:
    return x.reshape(c.params["rows"], c.params["cols"])


@rule("interleave")
def _(c: Call, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.stack([a, b], axis=2).reshape(a.shape[0], -1)


@rule("fill_pad")
def _(c: Call, x: jax.Array, value: jax.Array) -> jax.Array:
    shape = (c.params["rows"], c.params["cols"])
    x = c.filled(0, x, value)
    if x.shape == shape:
        return x
    return jnp.full(shape, value, x.dtype).at[: x.shape[0], : x.shape[1]].set(x)


@rule("restrict")
def _(c: Call, x: jax.Array) -> jax.Array:
    return x


# elements by index


def _repeated(x: jax.Array, axis: int, n: int) -> jax.Array:
    shape = (x.shape[0], n) if axis == 1 else (n, x.shape[1])
    return jnp.broadcast_to(x, shape)


@rule("gather")
def _(c: Call, x: jax.Array, index: jax.Array) -> jax.Array:
    axis, other = c.params["axis"], 1 - c.params["axis"]
    if index.shape[other] == 1:  # whole rows or columns
        return jnp.take(x, index.reshape(-1), axis=axis, mode="clip")
    n = max(x.shape[other], index.shape[other])
    x, index = (_repeated(t, other, n) for t in (x, index))
    return jnp.take_along_axis(x, index, axis=axis, mode="clip")


@rule("scatter")
def _(c: Call, x: jax.Array, index: jax.Array, values: jax.Array) -> jax.Array:
    axis, other = c.params["axis"], 1 - c.params["axis"]
    masks = [m for m in (c.there(1), c.there(2, (axis,))) if m is not None]
    index = _repeated(index, other, values.shape[other])
    there = jnp.ones(index.shape, bool)
    for m in masks:
        there = there & m
    # of equal indices the last one counts: with whole rows that is the last row
    lines = index.T if axis == 0 else index  # [lines, k]
    live = there.T if axis == 0 else there
    k = lines.shape[1]
    later = jnp.triu(jnp.ones((k, k), bool), 1)
    again = ((lines[:, :, None] == lines[:, None, :]) & later & live[:, None, :]).any(axis=2)
    kept = live & ~again
    lines = jnp.where(kept, lines, x.shape[axis])
    number = jnp.arange(lines.shape[0])[:, None]
    if axis == 1:
        return x.at[number, lines].set(values, mode="drop")
    return x.at[lines, number].set(values.T, mode="drop")


@rule("bincount")
def _(c: Call, x: jax.Array) -> jax.Array:
    x = c.filled(0, x, -1).reshape(-1)
    return (x[:, None] == jnp.arange(c.params["cols"])).sum(axis=0, dtype=jnp.int32)[None]


# order


def _columns(c: Call, x: jax.Array, *, smallest_first: bool) -> jax.Array:
    """The columns of each row in order: NaN, then numbers, then what is not valid; of equal ones the lower first."""
    mask = c.there(0, (1,))
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = wide(x)
        missing = jnp.isnan(x)
        key = jnp.where(missing, 0, x if smallest_first else -x)
        group = jnp.where(missing, 0, 1)
        key = jnp.where(key == 0, 0, key)  # -0 is +0
    else:
        key, group = (x if smallest_first else ~x), jnp.ones(x.shape, jnp.int32)
    if mask is not None:
        group = jnp.where(mask, group, 2)
    columns = lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return lax.sort((group.astype(jnp.int32), key, columns), dimension=1, is_stable=True, num_keys=2)[2]


@rule("extract_topk_indices")
def _(c: Call, x: jax.Array) -> jax.Array:
    first = _columns(c, lax.stop_gradient(x), smallest_first=False)[:, : c.params["cols"]]
    n = raw(c.valid(c.tile(0))[1])
    return jnp.where(jnp.arange(first.shape[1]) < n, first, -1)


@rule("topk_values")
def _(c: Call, x: jax.Array, index: jax.Array) -> jax.Array:
    n = raw(c.valid(c.tile(0))[1])
    there = (index >= 0) & (index < n)
    values = jnp.take_along_axis(x, jnp.where(there, index, 0), axis=1)
    return jnp.where(there, values, jnp.asarray(least(x.dtype), x.dtype))


@rule("rowargmax")
def _(c: Call, x: jax.Array) -> jax.Array:
    return _columns(c, lax.stop_gradient(x), smallest_first=False)[:, :1]


@rule("rowargmin")
def _(c: Call, x: jax.Array) -> jax.Array:
    return _columns(c, lax.stop_gradient(x), smallest_first=True)[:, :1]


@rule("cumsum")
def _(c: Call, x: jax.Array) -> jax.Array:
    return jnp.cumsum(wide(x), axis=c.params["axis"], dtype=wide(x).dtype)


# conversion


@rule("cast")
def _(c: Call, x: jax.Array) -> jax.Array:
    to = c.params["to"]
    integer = jnp.issubdtype(x.dtype, jnp.floating) and to.is_integer
    return _cast(x, to, "trunc" if integer else "rint", saturate=integer)


@rule("cast_as")
def _(c: Call, x: jax.Array) -> jax.Array:
    return _cast(x, c.params["to"], c.params["rounding"], saturate=c.params["saturate"])


def _cast(x: jax.Array, to: DType, rounding: str, *, saturate: bool) -> jax.Array:
    if to is DType.BOOL:
        return x != 0
    if x.dtype == jnp.bool_:
        return x.astype(to.numpy)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        if to.is_integer:
            return _between_integers(x, to) if saturate else x.astype(to.numpy)
        return _to_float(x.astype(jnp.float32) if to is not DType.F64 else x.astype(jnp.float64), to, "rint", saturate)
    x = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    return _to_integer(x, to, rounding, saturate) if to.is_integer else _to_float(x, to, rounding, saturate)


def _between_integers(x: jax.Array, to: DType) -> jax.Array:
    info, (least, most) = jnp.iinfo(x.dtype), RANGES[to]
    return jnp.clip(x, max(least, int(info.min)), min(most, int(info.max))).astype(to.numpy)


def _whole(x: jax.Array, rounding: str) -> jax.Array:
    match rounding:
        case "rint":
            return jnp.rint(x)
        case "round":
            return _away(x)
        case "floor":
            return jnp.floor(x)
        case "ceil":
            return jnp.ceil(x)
        case "trunc":
            return jnp.trunc(x)
        case _:
            down = jnp.trunc(x)
            return jnp.where((down == x) | (jnp.fmod(down, 2) != 0), down, down + jnp.copysign(1.0, x))


def _to_integer(x: jax.Array, to: DType, rounding: str, saturate: bool) -> jax.Array:
    whole = _whole(jnp.where(jnp.isnan(x), 0, x), rounding)
    if saturate:
        return _nearest(whole, *RANGES[to]).astype(to.numpy)
    # beyond 32 bits it is taken apart: there may be no wider integer
    if to.itemsize == 8:
        wide = _nearest(whole, *RANGES[DType.I64])
        return jnp.where(whole < 0, wide, _nearest(whole, *RANGES[to])).astype(to.numpy)
    small = jnp.clip(whole, -(2.0**63), 2.0**64 if to.is_unsigned else 2.0**63)
    at_end = (whole >= (2.0**64 if to.is_unsigned else 2.0**63)).astype(jnp.uint32)
    low_bits = jnp.mod(small, 2.0**32).astype(jnp.uint32) - at_end
    return lax.convert_element_type(low_bits, to.numpy)


def _nearest(whole: jax.Array, least: int, most: int) -> jax.Array:
    """Whole floats as integers of at least that range, held within it."""
    kind = jnp.uint32 if least == 0 and most < 2**32 else jnp.int32
    if most > 2**32:
        kind = jnp.uint64 if least == 0 else jnp.int64
    inside = jnp.where((whole > least) & (whole < most), whole, 0).astype(kind)
    out = jnp.where(whole >= most, jnp.asarray(most, kind), inside)
    return jnp.where(whole <= least, jnp.asarray(least, kind), out)


def _to_float(x: jax.Array, to: DType, rounding: str, saturate: bool) -> jax.Array:
    info = jnp.finfo(to.numpy)
    largest = float(info.max)
    if rounding != "rint" and to is not DType.F64:
        _, exponent = jnp.frexp(x)
        last = jnp.maximum(exponent - 1, int(info.minexp)) - int(info.nmant)
        out = jnp.copysign(jnp.ldexp(_whole(jnp.ldexp(x, -last), rounding), last), x)
        x = jnp.where(jnp.isfinite(x) & (x != 0), out, x)
    if saturate:
        x = jnp.where(jnp.isnan(x), x, jnp.clip(x, -largest, largest))
    return rounded(x, to)
