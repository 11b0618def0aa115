"""Branches, loops with a condition, variants of kernels, and tasks that wait for others."""

from typing import Any

import numpy as np
import pytest

from bodies import copy, fill, ints, same, zeros
from pto_wsp import (
    Constexpr,
    Dense,
    DType,
    In,
    Out,
    P,
    Scalar,
    Tensor,
    Tile,
    Workload,
    item,
    kernel,
    pto,
    slot_i64,
    slot_set_i64,
    workload,
)
from pto_wsp.ir.evaluate import evaluate

F32, F16, I32 = DType.F32, DType.F16, DType.I32


def test_a_chain_becomes_nested_conditionals() -> None:
    @workload
    def w(n, out):
        for b in P(2):
            with P.when(item(n[b]) > 2):
                fill(1, out[b])
            with P.otherwise(item(n[b + 2]) == 0):
                fill(2, out[b])
                with P.when(b == 1):
                    fill(3, out[b])
            with P.otherwise():
                fill(4, out[b])

    same(
        w(ints(4), ints(2, 1, 1)),
        """
        parallel_for b in b: Range(2) {
          n.1: i64 = item n[b]
          s: bool = s.gt n.1 2:i64
          cond s {
            then {
              task fill[b](s=1:i32, y=out[b, 0 :+ 1, 0 :+ 1])
            }
            else {
              n.2: i64 = item n[b + 2]
              s.1: bool = s.eq n.2 0:i64
              cond s.1 {
                then {
                  task fill[b](s=2:i32, y=out[b, 0 :+ 1, 0 :+ 1])
                  s.2: bool = s.eq (b) 1:i64
                  cond s.2 {
                    then {
                      task fill[b](s=3:i32, y=out[b, 0 :+ 1, 0 :+ 1])
                    }
                  }
                }
                else {
                  task fill[b](s=4:i32, y=out[b, 0 :+ 1, 0 :+ 1])
                }
              }
            }
          }
        }
        """,
    )


@pytest.mark.parametrize("n", range(5))
def test_exactly_one_branch_runs(n: int) -> None:
    @workload
    def w(n, out):
        k = item(n[0])
        with P.when(k == 0):
            fill(10, out)
        with P.otherwise((k == 1) | (k == 2)):
            with P.when(k == 1):
                fill(11, out)
            with P.otherwise():
                fill(12, out)
        with P.otherwise(k == 3):
            fill(13, out)

    out = ints(1, 1)
    evaluate(w(ints(1), out).wir, {"n": np.array([n], np.int32), "out": out})
    assert out[0, 0] == [10, 11, 12, 13, 0][n]


def test_python_conditions_are_constants() -> None:
    @workload
    def w(out):
        with P.when(True):
            fill(1, out)

    same(w(ints(1, 1)), "cond true:bool {\n  then {\n    task fill[](s=1:i32, y=out[0 :+ 1, 0 :+ 1])\n  }\n}")


def test_return_and_break_of_python_inside_a_branch() -> None:
    @workload
    def w(out):
        with P.when(slot_i64(0) == 0):
            for k in range(5):
                if k == 2:
                    break
                fill(k, out)
            pick = [j for j in range(4) if (lambda j: j == 3)(j)]

            def three() -> int:
                return pick[0]

            fill(three(), out)

    assert str(w(ints(1, 1))).count("task fill") == 3


def test_a_loop_with_a_condition_stops_early() -> None:
    @workload
    def w(n, out):
        for k in P.seq(8, while_=lambda: (item(out[0, 0]) < 5) & (slot_i64(0) == 0)):
            fill(k * 2, out)
            slot_set_i64(1, k)

    made = w(ints(1), ints(1, 1))
    same(
        made,
        """
        seq_for k in k: Range(8) {
          task fill[k](s=(2*k), y=out[0 :+ 1, 0 :+ 1])
          slot_set[slot=1] (k)
        } while {
          out.1: i64 = item out[0, 0]
          slot0: i64 = slot_get[slot=0]
          s: bool = s.lt out.1 5:i64
          s.1: bool = s.eq slot0 0:i64
          s.2: bool = s.and s s.1
          yield s.2
        }
        """,
    )
    out = ints(1, 1)
    evaluate(made.wir, {"out": out}, slots={0: 0, 1: 0})
    assert out[0, 0] == 6
    evaluate(made.wir, {"out": out}, slots={0: 1, 1: 0})
    assert out[0, 0] == 6


def test_a_condition_is_read_anew_although_it_was_read_before() -> None:
    @workload
    def w(out):
        first = item(out[0, 0])
        for k in P.seq(8, while_=lambda: item(out[0, 0]) < 3):
            fill(k + first, out)

    out = ints(1, 1)
    evaluate(w(ints(1, 1)).wir, {"out": out})
    assert out[0, 0] == 3


# variants


def tasks(w: Workload) -> list[str]:
    return [str(e.params["kernel"]) for e in w.wir.tasks()]


@kernel
def scaled(x: In[Tile[4, 4, F32]], k: Constexpr[int], y: Out[Tile[4, 4, F32]]):
    pto.store(y, x * float(k))


@scaled.variant(when=lambda k: k == 1, name="unscaled")
def scaled(x: In[Tile[4, 4, F32]], k: Constexpr[int], y: Out[Tile[4, 4, F32]]):  # type: ignore[no-redef]
    pto.store(y, x)


@kernel.variant()
def scaled(x: In[Tile[4, 4, F16]], k: Constexpr[int], y: Out[Tile[4, 4, F16]]):  # type: ignore[no-redef]
    pto.store(y, x * float(k))


@kernel.variant(when=lambda x, k: x.shape == (8, 4) and k > 1)
def scaled(x: In[Tensor], k: Constexpr[int], y: Out[Tensor]):  # type: ignore[no-redef]
    pto.store(y, x)


def test_variants_chosen_while_tracing() -> None:
    @workload
    def w(x, h, t, y, g, u):
        scaled(x, 1, y)
        scaled(x, 3, y)
        scaled(h, 3, g)
        scaled(t, 2, u)

    made = w(
        zeros(4, 4),
        zeros(4, 4, dtype=np.float16),
        zeros(8, 4),
        zeros(4, 4),
        zeros(4, 4, dtype=np.float16),
        zeros(8, 4),
    )
    assert tasks(made) == ["unscaled", "scaled", "scaled.v2", "scaled.v3"]


@kernel
def tier(n: Scalar[I32], y: Out[Tile[1, 1, I32]]):
    pto.store(y, 3)


@tier.variant(when=lambda n: n <= 2)
def tier(n: Scalar[I32], y: Out[Tile[1, 1, I32]]):  # type: ignore[no-redef]
    pto.store(y, 1)


@tier.variant(when=lambda n: n <= 8)
def tier(n: Scalar[I32], y: Out[Tile[1, 1, I32]]):  # type: ignore[no-redef]
    pto.store(y, 2)


def test_variants_chosen_at_run_time() -> None:
    @workload
    def w(n, out):
        for b in P(Dense[4](name="batch")):
            tier(n[b], out[b])
        tier(5, out[0])

    made = w(ints(4), ints(4, 1, 1))
    same(
        made,
        """
        parallel_for b in batch: Dense(4) {
          n.1: i64 = item n[b]
          s: bool = s.le n.1 2:i64
          cond s {
            then {
              task tier.v1[b](n=n.1, y=out[b, 0 :+ 1, 0 :+ 1])
            }
            else {
              s.1: bool = s.le n.1 8:i64
              cond s.1 {
                then {
                  task tier.v2[b](n=n.1, y=out[b, 0 :+ 1, 0 :+ 1])
                }
                else {
                  task tier[b](n=n.1, y=out[b, 0 :+ 1, 0 :+ 1])
                }
              }
            }
          }
        }
        task tier.v2[](n=5:i32, y=out[0, 0 :+ 1, 0 :+ 1])
        """,
    )
    out = ints(4, 1, 1)
    evaluate(made.wir, {"n": np.array([2, 3, 8, 9], np.int32), "out": out})
    assert out.ravel().tolist() == [2, 2, 2, 3]


# after=


def test_tasks_that_wait_for_others() -> None:
    @workload
    def w(x, y):
        for b in P(2):
            first = copy[b](x[b], y[b])
            with P.when(b == 1):
                inner = copy(x[2], y[2])
            copy(x[b], y[b + 4], after=[first, inner])
            copy(x[b], y[b + 6], after=first)

    same(
        w(zeros(8, 4, 4), zeros(8, 4, 4)),
        """
        parallel_for b in b: Range(2) {
          first: task = task copy[b](x=x[b, 0 :+ 4, 0 :+ 4], y=y[b, 0 :+ 4, 0 :+ 4])
          s: bool = s.eq (b) 1:i64
          cond s {
            then {
              inner: task = task copy[b](x=x[2, 0 :+ 4, 0 :+ 4], y=y[2, 0 :+ 4, 0 :+ 4])
            }
          }
          task[after=["first" "inner"]] copy[b](x=x[b, 0 :+ 4, 0 :+ 4], y=y[b + 4, 0 :+ 4, 0 :+ 4])
          task[after=["first"]] copy[b](x=x[b, 0 :+ 4, 0 :+ 4], y=y[b + 6, 0 :+ 4, 0 :+ 4])
        }
        """,
    )


def test_a_call_with_variants_is_waited_for_as_a_whole() -> None:
    def body(n: Any, out: Any) -> None:
        t = tier(item(n[0]), out[0])
        tier(1, out[1], after=t)

    @workload
    def w(n, out):
        body(n, out)

    assert 'task[after=["t" "t.1" "t.2"]] tier.v1' in str(w(ints(1), ints(2, 1, 1)))
