"""Scalar operations at their edges, against Python's integers and floats."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import BoundsError, DType, ExecutionError, PtoError, TypeCheckError
from pto_wsp.ir.core import PRIMITIVES, Dialect
from pto_wsp.ir.expr import Expr, apply, const, var
from pto_wsp.ir.scalars import can_fail, compute, index_value, scalar_type

I64, U64, F64, BOOL = DType.I64, DType.U64, DType.F64, DType.BOOL
LOW, HIGH, TOP = -(2**63), 2**63 - 1, 2**64 - 1
NAN, INF = math.nan, math.inf

signed = st.sampled_from([0, 1, -1, 2, -2, 3, 63, 64, LOW, LOW + 1, HIGH, HIGH - 1]) | st.integers(LOW, HIGH)
unsigned = st.sampled_from([0, 1, 2, 63, 64, 2**63, HIGH, TOP, TOP - 1]) | st.integers(0, TOP)
floats = st.sampled_from([0.0, -0.0, 1.0, -1.5, INF, -INF, NAN, 5e-324, 1.7976931348623157e308]) | st.floats()
EXACT = {
    "s.add": lambda a, b: a + b,
    "s.sub": lambda a, b: a - b,
    "s.mul": lambda a, b: a * b,
    "s.floordiv": lambda a, b: a // b,
    "s.mod": lambda a, b: a % b,
    "s.and": lambda a, b: a & b,
    "s.or": lambda a, b: a | b,
    "s.xor": lambda a, b: a ^ b,
    "s.min": min,
    "s.max": max,
}
COMPARE = {
    "s.eq": lambda a, b: a == b,
    "s.ne": lambda a, b: a != b,
    "s.lt": lambda a, b: a < b,
    "s.le": lambda a, b: a <= b,
    "s.gt": lambda a, b: a > b,
    "s.ge": lambda a, b: a >= b,
}


def run(prim: str, dtype: DType, *values: float, **params: object) -> float:
    return compute(prim, params, [dtype] * len(values), values)


def wrapped(n: int, dtype: DType) -> int:
    return int(np.asarray(n % 2**64, np.uint64).astype(np.uint64 if dtype is U64 else np.int64))


def same(a: float, b: float) -> bool:
    return (a != a and b != b) or (type(a) is type(b) and struct.pack("d", a) == struct.pack("d", b))


def test_every_operation_has_a_type_a_reference_and_a_line_of_text() -> None:
    scalars = [p for p in PRIMITIVES.values() if p.dialect is Dialect.SCALAR]
    assert len(scalars) == 24
    assert all(p.type and p.reference and p.doc for p in scalars)


@pytest.mark.parametrize("prim", EXACT)
@given(data=st.data())
def test_integers_wrap_and_checked_ones_fail(prim: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([I64, U64]))
    a, b = (data.draw(signed if dtype is I64 else unsigned) for _ in range(2))
    if b == 0 and prim in ("s.floordiv", "s.mod"):
        with pytest.raises(ExecutionError, match="zero"):
            run(prim, dtype, a, b)
        return
    exact = EXACT[prim](a, b)
    assert run(prim, dtype, a, b) == wrapped(exact, dtype)
    if exact == wrapped(exact, dtype):
        assert run(prim, dtype, a, b, checked=True) == exact
    else:
        with pytest.raises(BoundsError, match="64 bits") as e:
            run(prim, dtype, a, b, checked=True)
        assert e.value.code == "PTO712"


@given(signed, unsigned)
def test_one_operand(a: int, u: int) -> None:
    assert run("s.neg", I64, a) == wrapped(-a, I64) and run("s.neg", U64, u) == wrapped(-u, U64)
    assert run("s.abs", I64, a) == wrapped(abs(a), I64) and run("s.abs", U64, u) == u
    assert run("s.not", I64, a) == ~a and run("s.not", U64, u) == TOP - u


def test_the_least_integer_has_no_negative() -> None:
    assert run("s.neg", I64, LOW) == run("s.abs", I64, LOW) == run("s.floordiv", I64, LOW, -1) == LOW
    for prim in ("s.neg", "s.abs"):
        with pytest.raises(BoundsError, match="64 bits"):
            run(prim, I64, LOW, checked=True)
    with pytest.raises(BoundsError, match="64 bits"):
        run("s.floordiv", I64, LOW, -1, checked=True)
    assert run("s.mod", I64, LOW, -1, checked=True) == 0


@given(st.data(), st.integers(-2, 66))
def test_shifts(data: st.DataObject, by: int) -> None:
    for dtype, values in ((I64, signed), (U64, unsigned)):
        a = data.draw(values)
        if dtype is U64 and by < 0:
            continue
        if not 0 <= by < 64:
            for prim in ("s.shl", "s.shr"):
                with pytest.raises(ExecutionError, match="a shift by"):
                    run(prim, dtype, a, by)
            continue
        assert run("s.shl", dtype, a, by) == wrapped(a << by, dtype)
        assert run("s.shr", dtype, a, by) == a >> by
        if wrapped(a << by, dtype) != a << by:
            with pytest.raises(BoundsError, match="64 bits"):
                run("s.shl", dtype, a, by, checked=True)


@pytest.mark.parametrize("prim", COMPARE)
@given(data=st.data())
def test_comparisons(prim: str, data: st.DataObject) -> None:
    for dtype, values in ((I64, signed), (U64, unsigned), (F64, floats)):
        a, b = data.draw(values), data.draw(values)
        assert run(prim, dtype, a, b) is COMPARE[prim](a, b)


@given(floats, floats)
def test_floats_are_ieee_and_divide_as_pythons(a: float, b: float) -> None:
    with np.errstate(all="ignore"):
        for prim, rule in (("s.add", np.add), ("s.sub", np.subtract), ("s.mul", np.multiply)):
            assert same(run(prim, F64, a, b), float(rule(np.float64(a), np.float64(b))))
    for prim, rule in (
        ("s.floordiv", lambda: a // b),
        ("s.mod", lambda: a % b),
        ("s.div", lambda: a / b),
    ):
        if b == 0:
            with pytest.raises(ExecutionError, match="zero"):
                run(prim, F64, a, b)
        else:
            assert same(run(prim, F64, a, b), rule())


@given(floats, floats)
def test_smaller_and_larger_floats(a: float, b: float) -> None:
    low, high = run("s.min", F64, a, b), run("s.max", F64, a, b)
    if a != a or b != b:
        assert low != low and high != high
    else:
        assert low == min(a, b) and high == max(a, b)


def test_zeros_have_an_order() -> None:
    for a, b in ((0.0, -0.0), (-0.0, 0.0)):
        assert same(run("s.min", F64, a, b), -0.0) and same(run("s.max", F64, a, b), 0.0)


@given(floats)
def test_casts_of_floats(x: float) -> None:
    for to, low, high in ((I64, LOW, HIGH), (U64, 0, TOP)):
        if math.isfinite(x) and low <= math.trunc(x) <= high:
            assert run("s.cast", F64, x, to=to) == math.trunc(x)
        else:
            with pytest.raises(BoundsError) as e:
                run("s.cast", F64, x, to=to)
            assert e.value.code == "PTO717"
    assert run("s.cast", F64, x, to=BOOL) is (x != 0)
    assert same(run("s.cast", F64, x, to=F64), x)


@given(signed, unsigned)
def test_casts_of_integers(a: int, u: int) -> None:
    assert run("s.cast", I64, a, to=U64) == a % 2**64 and run("s.cast", U64, u, to=I64) == wrapped(u, I64)
    assert run("s.cast", I64, a, to=F64) == float(a) and run("s.cast", U64, u, to=F64) == float(u)
    assert run("s.cast", I64, a, to=BOOL) is (a != 0)
    for value, dtype, to in ((a, I64, U64), (u, U64, I64)):
        if wrapped(value, to) != value:
            with pytest.raises(BoundsError, match="64 bits"):
                run("s.cast", dtype, value, to=to, checked=True)


def test_integers_round_to_the_nearest_float() -> None:
    assert run("s.cast", I64, 2**53 + 1, to=F64) == 2.0**53
    assert run("s.cast", U64, TOP, to=F64) == 2.0**64


def test_bools() -> None:
    for a in (False, True):
        assert run("s.not", BOOL, a) is (not a)
        assert run("s.cast", BOOL, a, to=I64) == int(a) and same(run("s.cast", BOOL, a, to=F64), float(a))
        for b in (False, True):
            assert run("s.and", BOOL, a, b) is (a and b)
            assert run("s.or", BOOL, a, b) is (a or b)
            assert run("s.xor", BOOL, a, b) is run("s.ne", BOOL, a, b) is (a != b)
    assert compute("s.where", {}, [BOOL, F64, F64], [True, 1.0, 2.0]) == 1.0
    assert compute("s.where", {}, [BOOL, F64, F64], [False, 1.0, 2.0]) == 2.0


@pytest.mark.parametrize(
    ("prim", "dtypes", "code"),
    [
        ("s.add", [I64, U64], "PTO102"),
        ("s.add", [I64, F64], "PTO102"),
        ("s.add", [BOOL, BOOL], "PTO104"),
        ("s.div", [I64, I64], "PTO104"),
        ("s.and", [F64, F64], "PTO104"),
        ("s.shl", [F64, F64], "PTO104"),
        ("s.lt", [BOOL, BOOL], "PTO104"),
        ("s.neg", [I64, I64], "PTO106"),
        ("s.where", [I64, I64, I64], "PTO102"),
        ("s.where", [BOOL, I64, U64], "PTO102"),
        ("s.where", [], "PTO102"),
        ("s.cast", [I64], "PTO106"),
    ],
)
def test_operands_that_do_not_fit(prim: str, dtypes: list[DType], code: str) -> None:
    with pytest.raises(TypeCheckError) as e:
        scalar_type(prim, {}, dtypes)
    assert e.value.code == code


@given(st.data())
def test_what_cannot_fail_does_not(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([I64, U64, F64, BOOL]))
    prim = data.draw(st.sampled_from([p.name for p in PRIMITIVES.values() if p.dialect is Dialect.SCALAR]))
    params: dict[str, object] = {"checked": True} if data.draw(st.booleans()) else {}
    params |= {"to": data.draw(st.sampled_from([I64, U64, F64, BOOL]))} if prim == "s.cast" else {}
    count = {"s.not": 1, "s.abs": 1, "s.neg": 1, "s.cast": 1}.get(prim, 2)
    draw = {I64: signed, U64: unsigned, F64: floats, BOOL: st.booleans()}[dtype]
    values = [data.draw(draw) for _ in range(count)]
    dtypes = [dtype] * count
    if prim == "s.where":
        dtypes, values = [BOOL, *dtypes], [True, *values]
    try:
        out = scalar_type(prim, params, dtypes)
        got = compute(prim, params, dtypes, values)
    except TypeCheckError:
        return
    except PtoError:
        assert can_fail(prim, params, dtypes, values)
        assert can_fail(prim, params, dtypes, [None] * len(values))
        return
    assert type(got) is {I64: int, U64: int, F64: float, BOOL: bool}[out]


def test_index_expressions_stay_within_64_bits() -> None:
    n = var("n")
    assert index_value(n * 2 - 1, {"n": 2**62}) == HIGH
    for e in (n * 2, apply("mul", n, n), apply("mul", n, n) - apply("mul", n, n) + apply("min", n * 2, const(0))):
        with pytest.raises(BoundsError, match="64 bits"):
            index_value(e, {"n": 2**62})
    for kind in ("floordiv", "ceildiv", "mod"):
        with pytest.raises(ExecutionError, match="zero"):
            index_value(apply(kind, Expr(5), n), {"n": 0})
