"""How far a task's results may lie from those of the reference evaluator.

The evaluator computes each operation in float64 and rounds once; the runtime rounds as docs/operations.md says. Beside each value
goes a radius: the runtime's value is inside value +- radius. An operation passes the radii of its operands on, as its derivative
or its monotony does, and adds its own error. A radius is infinite where the radii of the operands leave open what an operation
does: a comparison of numbers that may be equal, an overflow, also of a part of a sum or product. Bounds on sums are Higham's (Accuracy and Stability of Numerical
Algorithms, lemma 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pto_wsp.errors import InternalError
from pto_wsp.ir.core import PRIMITIVES, DType, Eqn, TileType
from pto_wsp.ir.scalars import RANGES

Array = np.ndarray[Any, Any]
Rule = Callable[[Mapping[str, Any], list[Array], list[Array]], Array]
OwnRule = Callable[[Mapping[str, Any], list[Array], list[Array], float], Array]  # the last: the unit that it rounds to

U32 = 2.0**-24  # what sums of smaller floats are rounded to as well
U64 = 2.0**-53
# half the distance from 1 to the next number, half the smallest number, and the largest one
_UNIT = {
    DType.F64: U64,
    DType.F32: U32,
    DType.F16: 2.0**-11,
    DType.BF16: 2.0**-8,
    DType.F8E4M3: 2.0**-4,
    DType.F8E5M2: 2.0**-3,
}
_SMALL = {
    DType.F64: 0.0,
    DType.F32: 2.0**-150,
    DType.F16: 2.0**-25,
    DType.BF16: 2.0**-134,
    DType.F8E4M3: 2.0**-10,
    DType.F8E5M2: 2.0**-17,
}
_LARGE = {
    DType.F64: 1.7976931348623157e308,
    DType.F32: 3.4028234663852886e38,
    DType.F16: 65504.0,
    DType.BF16: 3.3895313892515355e38,
    DType.F8E4M3: 448.0,
    DType.F8E5M2: 57344.0,
}
# what the runtime's polynomials may be off, in units of f32 (an ulp is at most two)
_ULPS = {
    "exp": 1.1,
    "exp2": 1.1,
    "log": 1.0,
    "log2": 1.0,
    "rsqrt": 1.5,
    "tanh": 1.5,
    "erf": 1.1,
    "sin": 2.0,
    "cos": 2.0,
}
_FUNCTIONS = (*_ULPS, "expm1", "log1p", "pow")
_ULPS_F64 = 6.0  # of functions: 2 of the C library, 4 of numpy
_SLACK = 1 + 1e-9  # the bounds themselves are computed with rounding


def deviation(eqn: Eqn, ins: list[Array], radii: list[Array], out: Array) -> Array:
    """The radius of the result `out` of `eqn` on operands `ins`, each with its radius."""
    t = eqn.outs[0].type
    assert isinstance(t, TileType)
    wide = [x if x.dtype.kind == "b" else x.astype(np.float64) for x in ins]
    exact = not any(r.any() for r in radii)
    rule, own_rule = _RULES.get(eqn.prim), _OWN.get(eqn.prim)
    unit = U64 if t.dtype is DType.F64 else U32
    with np.errstate(all="ignore"):
        if own_rule is not None:
            passed = np.broadcast_to(own_rule(eqn.params, wide, radii, unit), out.shape)
        elif exact:
            passed = np.zeros(out.shape)
        elif rule is None:
            passed = np.full(out.shape, np.inf)
        else:
            passed = np.broadcast_to(rule(eqn.params, wide, radii), out.shape)
        if not t.dtype.is_float:
            return np.where((passed > 0) & (not exact), np.inf, 0.0)
        size = np.abs(out.astype(np.float64))
        ulps = _ULPS.get(eqn.prim, 0.0) if unit == U32 else _ULPS_F64 * (eqn.prim in _FUNCTIONS)
        own = (2 * _UNIT[t.dtype] + unit + 2 * unit * ulps) * (size + passed) + 3 * _SMALL[t.dtype]
        radius = np.where(np.isnan(passed), np.inf, (passed + (0 if eqn.prim in _EXACT else own)) * _SLACK)
        return np.where(np.isfinite(size) & (size + radius > _LARGE[t.dtype]), np.inf, radius)


def _first(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    return r[0]


def _nothing(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    return np.array(0.0)


def _sum(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    return sum(r[1:], r[0])


def _largest(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    return np.maximum(r[0], r[1])


def _mul(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    a, b = np.abs(x[0]), np.abs(x[1])
    return a * r[1] + b * r[0] + r[0] * r[1]


def _fma(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    return _mul(params, x, r) + r[2]


def _div(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    least = np.abs(x[1]) - r[1]
    moved = (r[0] + np.abs(x[0] / x[1]) * r[1]) / least
    return np.where(r[0] + r[1] == 0, 0.0, np.where(least > 0, moved, np.inf))


def _monotone(f: Callable[[Array], Array]) -> Rule:
    """Of an increasing function; where it is not defined on the whole of x +- r, nothing is known."""

    def rule(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
        y = f(x[0])
        reach = np.maximum(f(x[0] + r[0]) - y, y - f(x[0] - r[0]))
        return np.where(r[0] == 0, 0.0, np.where(np.isnan(reach), np.inf, np.abs(reach)))

    return rule


def _pole(f: Callable[[Array], Array]) -> Rule:
    """Of a function of |x| that falls, with a pole at 0."""

    def rule(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
        a = np.abs(x[0])
        return np.where(r[0] == 0, 0.0, np.where(a > r[0], f(a - r[0]) - f(a), np.inf))

    return rule


def _pow(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    """Where x is positive all over, the farthest of the corners: pow is monotone in each operand."""
    y = np.power(x[0], x[1])
    corners = [np.power(x[0] + i * r[0], x[1] + j * r[1]) for i in (-1, 1) for j in (-1, 1)]
    reach = np.maximum.reduce([np.abs(c - y) for c in corners])
    known = (r[0] + r[1] == 0) | ((x[0] > r[0]) & np.isfinite(reach))
    return np.where(known, np.where(r[0] + r[1] == 0, 0.0, reach), np.inf)


def _lipschitz(slope: float) -> Rule:
    return lambda params, x, r: np.minimum(slope * r[0], 2.0)


def _compare(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    if x[0].dtype.kind == "b":
        return r[0] + r[1]
    room = r[0] + r[1]
    return np.where((room > 0) & (np.abs(x[0] - x[1]) <= room), np.inf, 0.0)


def _where(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    known = np.where(x[0], r[1], r[2])
    if x[1].dtype.kind == "b":
        return np.where(r[0] > 0, np.inf, known)
    return np.where(r[0] > 0, np.abs(x[1] - x[2]) + np.maximum(r[1], r[2]), known)


def _cast(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    to: DType = params["to"]
    if to.is_float or x[0].dtype.kind == "b":
        return r[0]
    if to is DType.BOOL:
        return np.where((r[0] > 0) & (np.abs(x[0]) <= r[0]), np.inf, 0.0)
    return _monotone(np.trunc)(params, x, r)


def _roundings(n: float, unit: float) -> float:
    return n * unit / (1 - n * unit)


def _cast_as(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
    to: DType = params["to"]
    reference = PRIMITIVES["cast_as"].reference
    if reference is None:
        raise InternalError("cast_as has no reference")
    if to.is_float:
        return r[0]
    low, high = RANGES[to]
    moved = _monotone(lambda v: np.asarray(reference(dict(params), v), np.float64))(params, x, r)
    inside = params["saturate"] | ((x[0] - r[0] >= low) & (x[0] + r[0] <= high)) | (r[0] == 0)
    return np.where(inside, moved, np.inf)


def _if_finite(bound: Array, most: Array, unit: float) -> Array:
    """The bound, where no sum of some of what adds up to `most` can be infinite in what the runtime adds in."""
    return np.where(most <= _LARGE[_adds_in(unit)], bound, np.inf)


def _adds_in(unit: float) -> DType:
    return DType.F64 if unit == U64 else DType.F32


def _row_or_column_sum(axis: int, accumulators: int, levels: int) -> OwnRule:
    def rule(params: Mapping[str, Any], x: list[Array], r: list[Array], unit: float) -> Array:
        n = -(-x[0].shape[axis] // accumulators) + levels
        size = (np.abs(x[0]) + r[0]).sum(axis=axis, keepdims=True)
        return _if_finite(r[0].sum(axis=axis, keepdims=True) + _roundings(n, unit) * size, size, unit)

    return rule


def _product(axis: int, accumulators: int) -> OwnRule:
    def rule(params: Mapping[str, Any], x: list[Array], r: list[Array], unit: float) -> Array:
        size = np.abs(x[0]).prod(axis=axis, keepdims=True)
        most = (np.abs(x[0]) + r[0]).prod(axis=axis, keepdims=True)
        bound = most - size + _roundings(x[0].shape[axis], unit) * most
        # a factor that is 0, or may be, makes a product small that is not wrong for it
        least = np.where(np.abs(x[0]) > r[0], np.abs(x[0]) - r[0], 1.0)
        up = _partial_products(np.abs(x[0]) + r[0], axis, accumulators)
        down = _partial_products(least, axis, accumulators)
        info = np.finfo(_adds_in(unit).numpy)
        inside = (up <= float(info.max)).all(axis=0) & (down >= float(info.tiny)).all(axis=0)
        return np.where(np.expand_dims(inside, axis), bound, np.inf)

    return rule


def _partial_products(x: Array, axis: int, accumulators: int) -> Array:
    """[products, rows or columns]: all that come about in the runtime's order, element i into accumulator i mod so many, and then
    the upper half of these into the lower half."""
    x = np.moveaxis(x, axis, 0)
    missing = -x.shape[0] % accumulators
    x = np.concatenate([x, np.ones((missing, x.shape[1]))]).reshape(-1, accumulators, x.shape[1])
    chains = np.cumprod(x, axis=0)
    found, last = [chains.reshape(-1, x.shape[2])], chains[-1]
    while len(last) > 1:
        last = last[: len(last) // 2] * last[len(last) // 2 :]
        found.append(last)
    return np.concatenate(found)


def _extreme(axis: int) -> Rule:
    return lambda params, x, r: r[0].max(axis=axis, keepdims=True)


def _matmul(params: Mapping[str, Any], x: list[Array], r: list[Array], unit: float) -> Array:
    a, ra = (v.T if params["transpose_a"] else v for v in (np.abs(x[0]), r[0]))
    b, rb = (v.T if params["transpose_b"] else v for v in (np.abs(x[1]), r[1]))
    k = min(a.shape[1], b.shape[0])
    a, ra, b, rb = a[:, :k], ra[:, :k], b[:k], rb[:k]
    most = (a + ra) @ (b + rb)
    passed = most - a @ b
    for c, rc in zip(x[2:], r[2:], strict=True):
        passed, most = passed + rc, most + np.abs(c) + rc
    return _if_finite(np.maximum(passed, 0.0) + _roundings(k + 5, unit) * most, most, unit)


def _moved(name: str) -> Rule:
    """Of an operation that moves elements: radii move as they do."""

    def rule(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
        reference = PRIMITIVES[name].reference
        if reference is None:
            raise InternalError(f"{name} has no reference")
        return np.asarray(reference(dict(params), *r))

    return rule


def _indexed(name: str) -> Rule:
    """The same, by indices: operand 1, which is known or nothing is."""

    def rule(params: Mapping[str, Any], x: list[Array], r: list[Array]) -> Array:
        if r[1].any():
            return np.array(np.inf)
        moved = _moved(name)(params, x, [r[0], x[1].astype(np.int64), *r[2:]])
        return np.where(np.isneginf(moved), 0.0, moved)  # topk_values of an index of nothing

    return rule


def _chain(params: Mapping[str, Any], x: list[Array], r: list[Array], unit: float) -> Array:
    axis = params["axis"]
    size = np.cumsum(np.abs(x[0]) + r[0], axis=axis)
    return _if_finite(np.cumsum(r[0], axis=axis) + _roundings(x[0].shape[axis], unit) * size, size, unit)


# operations whose own error is not in proportion to the result: it is added by their rule
_OWN: dict[str, OwnRule] = {
    "rowsum": _row_or_column_sum(1, 16, 4),
    "colsum": _row_or_column_sum(0, 4, 2),
    "rowprod": _product(1, 16),
    "colprod": _product(0, 4),
    "matmul": _matmul,
    "cumsum": _chain,
}
ACCUMULATING = tuple(_OWN)
"""Operations that add up or multiply many elements: what they make of some of them may be infinite though the result is not."""
_SAME = ("load", "full", "iota", "broadcast")
_MOVES = ("fill_pad", "slice", "concat", "transpose", "reshape", "interleave")
_INDEXED = ("gather", "scatter", "topk_values")
_EXACT = (
    *(*_SAME, *_MOVES, *_INDEXED, "neg", "abs", "maximum", "minimum", "where", "floor", "ceil", "rint", "trunc"),
    *("round", "fmod", "rowmax", "rowmin", "colmax", "colmin", "count_rows", "count_cols"),
)
_RULES: dict[str, Rule] = {
    **dict.fromkeys((*_SAME, "neg", "abs", "logical_not"), _first),
    **dict.fromkeys(("add", "sub", "logical_and", "logical_or"), _sum),
    **dict.fromkeys(("maximum", "minimum"), _largest),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _compare),
    **dict.fromkeys(("sin", "cos", "tanh"), _lipschitz(1.0)),
    "erf": _lipschitz(1.13),
    "mul": _mul,
    "fma": _fma,
    "pow": _pow,
    "div": _div,
    "exp": _monotone(np.exp),
    "log": _monotone(np.log),
    **{name: _monotone(getattr(np, name)) for name in ("exp2", "expm1", "log2", "log1p")},
    "sqrt": _monotone(np.sqrt),
    "rsqrt": _pole(lambda x: 1 / np.sqrt(x)),
    "reciprocal": _pole(lambda x: 1 / x),
    **{name: _monotone(getattr(np, name)) for name in ("floor", "ceil", "rint", "trunc")},
    "round": _monotone(lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x)),
    "where": _where,
    "cast": _cast,
    "cast_as": _cast_as,
    **dict.fromkeys(("rowmax", "rowmin"), _extreme(1)),
    **dict.fromkeys(("colmax", "colmin"), _extreme(0)),
    **dict.fromkeys(("count_rows", "count_cols"), _nothing),
    **{name: _moved(name) for name in _MOVES},
    **{name: _indexed(name) for name in _INDEXED},
}
# of deviating operands nothing is known: orders, counts of what is found by index, and what C++ of the user makes of them
OPEN = (
    *("rowargmax", "rowargmin", "extract_topk_indices", "bincount", "fmod", "rem", "floordiv"),
    *("bit_not", "bit_and", "bit_or", "bit_xor", "shl", "shr", "logical_xor", "cpp"),
)
