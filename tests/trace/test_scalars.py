"""Scalars read from tensors, expressions of them, and slots."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import copy, fill, ints, same, zeros
from pto_wsp import (
    DType,
    P,
    Symbol,
    Tensor,
    Workload,
    cast,
    item,
    maximum,
    minimum,
    reduce_all,
    reduce_any,
    reduce_max,
    reduce_min,
    reduce_sum,
    slot_f64,
    slot_load_bool,
    slot_set_f64,
    slot_set_i64,
    slot_set_u64,
    slot_u64,
    where,
    workload,
)
from pto_wsp.ir.evaluate import evaluate

I64, U64, F64, BOOL = DType.I64, DType.U64, DType.F64, DType.BOOL


def traced(make: Any) -> Workload:
    """`make(x, y, n)` as a workload: two tensors f32[8,4,4] and an i32[8]."""

    @workload
    def w(x, y, n):
        make(x, y, n)

    return w(zeros(8, 4, 4), zeros(8, 4, 4), ints(8))


def test_types_of_elements_and_reductions() -> None:
    arrays = [zeros(4, dtype=t) for t in (np.float16, np.int32, np.int64, np.uint64, np.float64, np.bool_)]

    @workload
    def w(h, i, j, u, d, m):
        assert [item(t[0]).dtype for t in (h, i, j, u, d, m)] == [F64, I64, I64, U64, F64, BOOL]
        assert [reduce_max(t).dtype for t in (h, i, j, u, d)] == [F64, I64, I64, U64, F64]
        assert {reduce_any(t).dtype for t in (h, i, m)} == {reduce_all(m).dtype} == {BOOL}

    w(*arrays)


def test_reductions_of_views() -> None:
    same(
        traced(lambda x, y, n: [reduce_sum(n), [reduce_min(n[4 * b : 4 * b + 4]) for b in P(2)]]),
        """
        n.1: i64 = reduce_sum n[0 :+ 8]
        parallel_for b in b: Range(2) {
          n.2: i64 = reduce_min n[4*b :+ 4]
        }
        """,
    )

    @workload
    def w(n, out):
        total = reduce_sum(n)
        some = reduce_max(n[1 : 1 + total])
        for t in P.seq(n.tiles(4)):
            fill(some + reduce_sum(n[t]), out)

    same(
        w(ints(8), ints(1, 1)),
        """
        total: i64 = reduce_sum n[0 :+ 8]
        some: i64 = reduce_max n[span(1, total)]
        seq_for t in n: Tiles(8, 4) {
          n.1: i64 = reduce_sum n[tile(t, 4, 8)]
          s: i64 = s.add some n.1
          task fill[t](s=s, y=out[0 :+ 1, 0 :+ 1])
        }
        """,
    )


def test_an_index_is_one_exact_expression() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        a = item(n[0])
        b = item(n[1])
        copy(x[(a + 2 * b - 1) // 3 % 4], y[minimum(a, b) + maximum(a, 2) * b])

    same(
        traced(body),
        """
        a: i64 = item n[0]
        b: i64 = item n[1]
        task copy[](x=X[mod(floordiv(a + 2*b - 1, 3), 4), 0 :+ 4, 0 :+ 4], y=Y[min(a, b) + mul(b, max(2, a)), 0 :+ 4, 0 :+ 4])
        """.replace("X[", "x[").replace("Y[", "y["),
    )


def test_other_operations_of_an_index_are_checked_equations() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        a = item(n[0])
        copy(x[where(a > 2, a - 2, abs(a)) + (a << 1)], y[cast(cast(a, F64) / 2.0, I64)])

    same(
        traced(body),
        """
        a: i64 = item n[0]
        s: bool = s.gt a 2:i64
        s.1: i64 = s.abs[checked=true] a
        s.2: i64 = s.where[checked=true] s (a - 2) s.1
        s.3: i64 = s.shl[checked=true] a 1:i64
        s.4: f64 = s.cast[to=f64] a
        s.5: f64 = s.div s.4 2.0:f64
        s.6: i64 = s.cast[checked=true, to=i64] s.5
        task copy[](x=x[s.2 + s.3, 0 :+ 4, 0 :+ 4], y=y[s.6, 0 :+ 4, 0 :+ 4])
        """,
    )


def test_elsewhere_operations_wrap_and_equal_ones_are_made_once() -> None:
    @workload
    def w(n, out):
        k = Symbol("k")
        a = item(n[0])
        fill(a * a + a * a, out)
        fill(2 * k + 1, out)
        with P.when((a * a > k) & ~(k == 3)):
            fill(-(a * a), out)

    same(
        w(ints(4), ints(1, 1)),
        """
        a: i64 = item n[0]
        s: i64 = s.mul a a
        s.1: i64 = s.add s s
        task fill[](s=s.1, y=out[0 :+ 1, 0 :+ 1])
        task fill[](s=(2*$k + 1), y=out[0 :+ 1, 0 :+ 1])
        s.2: bool = s.gt s ($k)
        s.3: bool = s.eq ($k) 3:i64
        s.4: bool = s.not s.3
        s.5: bool = s.and s.2 s.4
        cond s.5 {
          then {
            s.6: i64 = s.neg s
            task fill[](s=s.6, y=out[0 :+ 1, 0 :+ 1])
          }
        }
        """,
    )


def test_views_without_dimensions_stand_for_scalars() -> None:
    @workload
    def w(x, y, table, on, out):
        for b in P(2):
            for j in P(table[b, 0]):
                copy(x[table[b, j]], y[b])
            with P.when(on[b]):
                fill(table[b, 1], out)

    same(
        w(zeros(8, 4, 4), zeros(8, 4, 4), ints(2, 3), zeros(2, dtype=np.bool_), ints(1, 1)),
        """
        parallel_for b in b: Range(2) {
          table.1: i64 = item table[b, 0]
          parallel_for j in j: Range(table.1) {
            table.2: i64 = item table[b, j]
            task copy[b, j](x=x[table.2, 0 :+ 4, 0 :+ 4], y=y[b, 0 :+ 4, 0 :+ 4])
          }
          on.1: bool = item on[b]
          cond on.1 {
            then {
              table.3: i64 = item table[b, 1]
              task fill[b](s=table.3, y=out[0 :+ 1, 0 :+ 1])
            }
          }
        }
        """,
    )


def count_reads(w: Workload) -> int:
    return sum(e.prim == "item" for top in w.wir.body.eqns for e in top.walk())


def test_what_certainly_is_the_same_is_read_once() -> None:
    def unwritten(x: Any, y: Any, n: Any) -> None:
        for b in P.seq(item(n[0])):
            for t in P.seq(item(n[b])):
                copy(x[item(n[0])], y[item(n[b]) + t])

    assert count_reads(traced(unwritten)) == 2

    @workload
    def w(n, out):
        fill(item(out[0, 0]), out)
        fill(item(out[0, 0]) + item(out[0, 0]), out)
        for _ in P.seq(item(out[0, 0])):
            fill(item(out[0, 0]), out)

    # before the first task, after it, for the loop, and in each iteration
    assert count_reads(w(ints(1), ints(1, 1))) == 4


def test_a_read_in_a_branch_does_not_serve_what_follows() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        with P.when(item(n[0]) > 0):
            copy(x[item(n[1])], y[0])
        copy(x[item(n[1])], y[1])

    assert count_reads(traced(body)) == 3


def test_gathers_and_slices_of_unknown_length() -> None:
    @workload
    def w(x, y, idx, n):
        k = item(n[0])
        for t in P.seq(x[:k].tiles(4)):
            copy(x[:k][t], y)
            copy(x[k : 2 * k][t], y)
            copy(x[2:20][t], y)
            copy(x[idx[t], :], y)
        for i in P.seq(k):
            copy(x[idx[0:4]], y)
            fill(idx[:k][i], Tensor(ints(1, 1), name="out"))

    same(
        w(zeros(64, 4), zeros(4, 4), ints(64), ints(4)),
        """
        k: i64 = item n[0]
        seq_for t in x: Tiles(k, 4) {
          task copy[t](x=x[tile(t, 4, k), 0 :+ 4], y=y[0 :+ 4, 0 :+ 4])
          task copy[t](x=x[tile(t, 4, 2*k, k), 0 :+ 4], y=y[0 :+ 4, 0 :+ 4])
          task copy[t](x=x[tile(t, 4, min(18, k) + 2, 2), 0 :+ 4], y=y[0 :+ 4, 0 :+ 4])
          task copy[t](x=x[gather(idx[tile(t, 4, k)]), 0 :+ 4], y=y[0 :+ 4, 0 :+ 4])
        }
        seq_for i in i: Range(k) {
          task copy[i](x=x[gather(idx[0 :+ 4]), 0 :+ 4], y=y[0 :+ 4, 0 :+ 4])
          idx.1: i64 = item idx[i]
          task fill[i](s=idx.1, y=out[0 :+ 1, 0 :+ 1])
        }
        """,
    )


def test_slots() -> None:
    @workload
    def w(n, on):
        slot_set_i64(0, 3)
        slot_set_u64(1, cast(item(n[0]), U64) + 1)
        slot_set_f64(2, 1)
        slot_load_bool(3, on[0])
        count = slot_u64(1)
        for _ in P.seq(cast(count, I64)):
            slot_set_f64(2, slot_f64(2) * 0.5)

    same(
        w(ints(1), zeros(1, dtype=np.bool_)),
        """
        slot_set[slot=0] 3:i64
        n.1: i64 = item n[0]
        s: u64 = s.cast[to=u64] n.1
        s.1: u64 = s.add s 1:u64
        slot_set[slot=1] s.1
        slot_set[slot=2] 1.0:f64
        on.1: bool = item on[0]
        slot_set[slot=3] on.1
        count: u64 = slot_get[slot=1]
        s.2: i64 = s.cast[checked=true, to=i64] count
        seq_for _ in _: Range(s.2) {
          slot2: f64 = slot_get[slot=2]
          s.3: f64 = s.mul slot2 0.5:f64
          slot_set[slot=2] s.3
        }
        """,
    )


def test_what_is_used_twice_is_computed_once() -> None:
    @workload
    def w(n, out):
        a = item(n[0])
        for k in range(40):
            a = where(a > k, a - k, a)
        fill(a, out)
        fill(n[a], out)

    made = w(ints(4), ints(1, 1))
    assert len(made.wir.body.eqns) < 300
    evaluate(made.wir, {"n": np.array([4, 1, 1, 1], np.int32), "out": ints(1, 1)})


def test_numbers_stay_numbers() -> None:
    assert minimum(3, 4) == 3
    assert maximum(3.5, 4.0) == 4.0
    assert where(True, "a", "b") == "a"


@pytest.mark.parametrize("shown", ["item(n[0]) > 2", "where(item(n[0]) > 2, 1, item(n[0]) + 1)", "~(item(n[0]) == 3)"])
def test_scalars_print(shown: str) -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        assert str(eval(shown)).startswith("<")

    traced(body)


# Expressions as Python's integers, floats and bools compute them, wrapped to 64 bits.

EDGES = st.sampled_from([0, 1, -1, 2, 3, 7, 63, -(2**63), 2**63 - 1, 2**62, -(2**31)]) | st.integers(
    -(2**63), 2**63 - 1
)


def wrap(n: int, dtype: DType) -> int:
    n %= 2**64
    return n - 2**64 if dtype is I64 and n >= 2**63 else n


OPERATIONS: dict[str, Any] = {
    "a + b": None,
    "a - b": None,
    "a * b": None,
    "a // b": None,
    "a % b": None,
    "a & b": None,
    "a | b": None,
    "a ^ b": None,
    "~a": None,
    "-a": None,
    "abs(a)": None,
    "minimum(a, b)": "min(a, b)",
    "maximum(a, b)": "max(a, b)",
    "where(a < b, a, b - a)": "a if a < b else b - a",
    "a << 5": None,
    "a >> 5": None,
    "a * 3 - 7 * b + (a // 3) % 5": None,
    "where((a >= b) & ~(a == b) | (b != 3), a * b, 1)": "a * b if (a >= b and a != b) or b != 3 else 1",
}


@settings(max_examples=200, deadline=None)
@given(a=EDGES, b=EDGES, op=st.sampled_from(sorted(OPERATIONS)), unsigned=st.booleans())
def test_expressions_are_those_of_python_modulo_2_to_the_64(a: int, b: int, op: str, unsigned: bool) -> None:
    dtype = U64 if unsigned else I64
    a, b = wrap(a, dtype), wrap(b, dtype)
    if b == 0 and ("/ b" in op or "% b" in op):
        return
    env = {"minimum": minimum, "maximum": maximum, "where": where, "abs": abs}

    @workload
    def w(n, out):
        x = eval(op, env, {"a": item(n[0]), "b": item(n[1])})
        for k, shift in enumerate((0, 31, 62)):
            fill((x >> shift) & 0x7FFFFFFF, out[k])

    n = np.array([a, b], np.uint64 if unsigned else np.int64)
    out = ints(3, 1, 1)
    evaluate(w(n, out).wir, {"n": n, "out": out})
    want = wrap(eval(OPERATIONS[op] or op, {}, {"a": a, "b": b}), dtype)
    assert [int(v) for v in out.ravel()] == [(want >> shift) & 0x7FFFFFFF for shift in (0, 31, 62)]
