"""Rewrites of loops: before and after as text, equal results, and what is refused."""

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import (
    BoundsError,
    DenseDyn,
    DType,
    Out,
    P,
    RaceError,
    ScheduleError,
    Tile,
    interchange,
    kernel,
    pto,
    split,
    tile,
    unroll,
    workload,
)
from pto_wsp.ir.core import Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.trace.workload import Traced

Rewrite = Callable[[Traced], Traced]

HEAD = """workload w {
  symbol $n
  tensor X: f32[12,12,4]
  tensor Y: f32[12,12,4]
  tensor I: i32[12]
  kernel k "k" (x: in f32<1x4>, y: inout f32<1x4>) {
    a: f32<1x4 of x.rows x x.cols> = load x
    b: f32<1x4 of y.rows x y.cols> = load y
    c: f32<1x4 of x.rows x x.cols> = mul a 0.5:f32
    d: f32<1x4 of x.rows x x.cols> = add c b
    store y d
  }
  kernel w "w" (y: out f32<1x4>, s: f32) {
    a: f32<1x4> = full[cols=4, rows=1] 1.0:f32
    b: f32<1x4> = add a s
    store y b
  }
"""


def traced(body: str) -> Traced:
    wir = parse(HEAD + dedent(body) + "\n}")
    verify(wir)
    return Traced(wir)


def body_of(w: Traced) -> str:
    rows = show(w.wir).splitlines()[len(HEAD.splitlines()) : -1]
    return dedent("\n".join(rows))


def check(step: Rewrite, before: str, after: str) -> None:
    w = traced(before)
    text = show(w.wir)
    out = step(w)
    verify(out.wir)
    refuse_races(out.wir)
    assert body_of(out) == dedent(after).strip()
    assert parse(show(out.wir)) == out.wir
    assert show(w.wir) == text


def results(wir: Wir, n: int) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        t: random.integers(-9, 9, (12, 12, 4)).astype(np.float32) for t in ("X", "Y")
    }
    arrays["I"] = np.arange(12, dtype=np.int32) % 5
    evaluate(wir, arrays, {"n": n})
    return [arrays["X"], arrays["Y"]]


WRITE = "task w[{i}](y=Y[{i}, 0 :+ 1, 0 :+ 4], s=(i))"


def test_split_of_a_size_that_divides() -> None:
    check(
        split(loop="i", size=4),
        "parallel_for i in batch: Dense(12) {\n  task w[i](y=Y[i, 0 :+ 1, 0 :+ 4], s=(i + 1))\n}",
        """
        parallel_for i_o in batch_o: Tiles(12, 4) {
          parallel_for i_i in batch_i: Range(4) {
            task[names=["i"]] w[i_i + 4*i_o](y=Y[i_i + 4*i_o, 0 :+ 1, 0 :+ 4], s=(i_i + 4*i_o + 1))
          }
        }
        """,
    )


def test_split_leaves_a_shorter_group_at_the_end() -> None:
    check(
        split(loop="i", size=4),
        "parallel_for i in batch: DenseDyn($n) {\n  task w[2*i, i](y=Y[i, 0 :+ 1, 0 :+ 4], s=0.0:f32)\n}",
        """
        parallel_for i_o in batch_o: Tiles($n, 4) {
          parallel_for i_i in batch_i: Range(min($n - 4*i_o, 4)) {
            task[names=["" "i"]] w[2*i_i + 8*i_o, i_i + 4*i_o](y=Y[i_i + 4*i_o, 0 :+ 1, 0 :+ 4], s=0.0:f32)
          }
        }
        """,
    )


def test_split_of_tiles_and_of_sequential_loops_inside_of_schedules_conditions_and_scalars() -> None:
    check(
        split(loop="b/t", size=2),
        """
        parallel_for b in b: Range(4) {
          m: i64 = item I[b]
          c: bool = s.lt m 3:i64
          cond c {
            then {
              dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {
                seq_for t.1 "t" in t: Tiles(m + 1, 3) {
                  task w[b, t.1](y=Y[b, t.1 :+ 1, 0 :+ 4], s=(t.1))
                }
              }
            }
          }
        }
        """,
        """
        parallel_for b in b: Range(4) {
          m: i64 = item I[b]
          c: bool = s.lt m 3:i64
          cond c {
            then {
              dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {
                seq_for t.1_o "t_o" in t_o: Tiles(m + 1, 6) {
                  seq_for t.1_i "t_i" in t_i: Range(min(-2*t.1_o + ceildiv(m + 1, 3), 2)) {
                    task[names=["" "t"]] w[b, t.1_i + 2*t.1_o](y=Y[b, t.1_i + 2*t.1_o :+ 1, 0 :+ 4], s=(t.1_i + 2*t.1_o))
                  }
                }
              }
            }
          }
        }
        """,
    )


def test_interchange_takes_schedules_conditions_and_scalars_inside() -> None:
    check(
        interchange(outer="b", inner="t"),
        """
        parallel_for b in batch: Dense(4) {
          m: i64 = item I[b]
          c: bool = s.lt m 3:i64
          cond c {
            then {
              dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {
                parallel_for t in t: Range(8) {
                  task w[b, t](y=Y[b, t :+ 1, 0 :+ 4], s=(m))
                  task k[b, t](x=X[b, t :+ 1, 0 :+ 4], y=Y[b, t :+ 1, 0 :+ 4])
                }
              }
            }
          }
        }
        """,
        """
        parallel_for t in t: Range(8) {
          parallel_for b in batch: Dense(4) {
            m: i64 = item I[b]
            c: bool = s.lt m 3:i64
            cond c {
              then {
                dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {
                  task w[b, t](y=Y[b, t :+ 1, 0 :+ 4], s=(m))
                  task k[b, t](x=X[b, t :+ 1, 0 :+ 4], y=Y[b, t :+ 1, 0 :+ 4])
                }
              }
            }
          }
        }
        """,
    )


NEST = "parallel_for b in b: Range(4) {{ {before} parallel_for t in t: {axis} {{ {task} }} {after} }}"
TASK = "task w[b, t](y=Y[b, t :+ 1, 0 :+ 4], s=0.0:f32)"


def nest(before: str = "", axis: str = "Range(8)", task: str = TASK, after: str = "") -> str:
    return NEST.format(before=before, axis=axis, task=task, after=after)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (nest(axis="Range(b + 1)"), "depends on b"),
        (nest(before="m: i64 = item I[b]\n", axis="Ragged(m)"), "depends on b"),
        (nest().replace("parallel_for t", "seq_for t"), "t is sequential"),
        (nest().replace("parallel_for b", "seq_for b"), "b is sequential"),
        (nest(after="task w[](y=X[b, 0 :+ 1, 0 :+ 4], s=0.0:f32)"), "more than the loop over t"),
        (nest(before="parallel_for u in u: Range(2) { } "), "more than the loop over t"),
        (nest(task="m: i64 = item I[t] task w[](y=Y[b, m :+ 1, 0 :+ 4], s=0.0:f32)"), "iterations of t may depend"),
        (nest(task="m: i64 = item I[t] task w[](y=Y[m, t :+ 1, 0 :+ 4], s=0.0:f32)"), "iterations of b may depend"),
        (
            nest(task=f"{TASK} e: f64 = item Y[b, t, 0] task w[](y=X[b, t :+ 1, 0 :+ 4], s=0.0:f32)"),
            "reads Y, which tasks inside write",
        ),
        (
            f"parallel_for b in b: Range(4) {{ parallel_for u in u: Range(1) {{ parallel_for t in t: Range(2) {{ {TASK} }} }} }}",
            "not the next loop",
        ),
    ],
)
def test_what_interchange_refuses(body: str, why: str) -> None:
    w = traced(body)
    with pytest.raises(ScheduleError, match=f"PTO409.*{why}"):
        interchange(outer="b", inner="t")(w)


def test_tile() -> None:
    check(
        tile(sizes={"b": 2, "b/t": 5}),
        """
        parallel_for b in b: Range(4) {
          parallel_for t in t: DenseDyn($n) {
            task w[b, t](y=Y[b, t :+ 1, 0 :+ 4], s=(b + t))
          }
        }
        """,
        """
        parallel_for b_o in b_o: Tiles(4, 2) {
          parallel_for t_o in t_o: Tiles($n, 5) {
            parallel_for b_i in b_i: Range(2) {
              parallel_for t_i in t_i: Range(min($n - 5*t_o, 5)) {
                task[names=["b" "t"]] w[b_i + 2*b_o, t_i + 5*t_o](y=Y[b_i + 2*b_o, t_i + 5*t_o :+ 1, 0 :+ 4], s=(b_i + 2*b_o + t_i + 5*t_o))
              }
            }
          }
        }
        """,
    )


def test_unroll_gives_each_copy_its_names_and_waits_for_all_of_them() -> None:
    check(
        unroll(loop="i"),
        """
        parallel_for i in i: Range(2) {
          m: i64 = item I[i]
          a: task = task w[i](y=Y[i, 0 :+ 1, 0 :+ 4], s=(m))
          seq_for j in j: Range(3) {
            task[after=["a"]] k[i, j](x=X[i, j :+ 1, 0 :+ 4], y=Y[i, 0 :+ 1, 0 :+ 4])
          }
        }
        task[after=["a"]] w[](y=X[0, 0 :+ 1, 0 :+ 4], s=0.0:f32)
        """,
        """
        m: i64 = item I[0]
        a: task = task[names=["i"]] w[0](y=Y[0, 0 :+ 1, 0 :+ 4], s=(m))
        seq_for j in j: Range(3) {
          task[after=["a"], names=["i" ""]] k[0, j](x=X[0, j :+ 1, 0 :+ 4], y=Y[0, 0 :+ 1, 0 :+ 4])
        }
        m.1: i64 = item I[1]
        a.1: task = task[names=["i"]] w[1](y=Y[1, 0 :+ 1, 0 :+ 4], s=(m.1))
        seq_for j.1 "j" in j: Range(3) {
          task[after=["a.1"], names=["i" ""]] k[1, j.1](x=X[1, j.1 :+ 1, 0 :+ 4], y=Y[1, 0 :+ 1, 0 :+ 4])
        }
        task[after=["a" "a.1"]] w[](y=X[0, 0 :+ 1, 0 :+ 4], s=0.0:f32)
        """,
    )


def test_unroll_by_a_factor_keeps_the_order_of_a_sequential_loop() -> None:
    check(
        unroll(loop="i", factor=2),
        "seq_for i in i: DenseDyn($n) {\n  task w[i](y=Y[i, 0 :+ 1, 0 :+ 4], s=0.0:f32)\n}",
        """
        sequential {
          part {
            seq_for i_o in i_o: Range(floordiv($n, 2)) {
              sequential {
                part {
                  task[names=["i"]] w[2*i_o](y=Y[2*i_o, 0 :+ 1, 0 :+ 4], s=0.0:f32)
                }
                part {
                  task[names=["i"]] w[2*i_o + 1](y=Y[2*i_o + 1, 0 :+ 1, 0 :+ 4], s=0.0:f32)
                }
              }
            }
          }
          part {
            seq_for i in i: Range(mod($n, 2)) {
              task[names=["i"]] w[i + 2*floordiv($n, 2)](y=Y[i + 2*floordiv($n, 2), 0 :+ 1, 0 :+ 4], s=0.0:f32)
            }
          }
        }
        """,
    )


def test_a_sparse_index_keeps_its_name() -> None:
    body = """parallel_for e.k "e" in r: Sparse($n) {
  e: i64 = item I[e.k + 2]
  task w[e](y=Y[e.k, 0 :+ 1, 0 :+ 4], s=0.0:f32)
}"""
    for step in (split(loop="e", size=2), unroll(loop="e", factor=2)):
        tasks = list(step(traced(body)).wir.tasks())
        assert {t.params["names"] for t in tasks} == {("e",)}


def test_a_failing_task_is_called_as_before_the_rewrite() -> None:
    @kernel
    def one(y: Out[Tile[1, 4, DType.F32]]):
        pto.store(y, 1.0)

    n = DenseDyn(12, name="n")

    @workload
    def fill(y):
        for b, t in P(n, 2):
            one[b, t](y=y[b, t : t + 1])

    w = fill(np.zeros((12, 2, 4), np.float32)).tile(sizes={"b": 5, "t": 2})
    program = w.compile()
    program.run()
    program.set_axis_sizes({"n": 14})
    with pytest.raises(BoundsError, match=r"one\[b=12, t=0\]"):
        program.run()


def test_unroll_of_no_iterations_leaves_nothing() -> None:
    check(unroll(loop="i"), "parallel_for i in i: Range(0) {\n  task w[](y=Y[i, 0 :+ 1, 0 :+ 4], s=0.0:f32)\n}", "")


UNTIL = """seq_for t in t: Range(8) {
  task w[t](y=Y[0, t :+ 1, 0 :+ 4], s=0.0:f32)
} while {
  v: i64 = slot_get[slot=0]
  c: bool = s.lt v 3:i64
  yield c
}"""


@pytest.mark.parametrize(
    ("step", "body", "why"),
    [
        (unroll(loop="t"), nest(axis="DenseDyn($n)"), "has \\$n iterations"),
        (unroll(loop="t"), nest(axis="Range(5000)"), "has 5000 iterations"),
        (split(loop="t", size=2), UNTIL, "while_"),
        (unroll(loop="t"), UNTIL, "while_"),
    ],
)
def test_what_unroll_and_split_refuse(step: Rewrite, body: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=f"PTO409.*{why}"):
        step(traced(body))


TWICE = f'{nest()} parallel_for t.1 "t" in t: Range(3) {{ task w[](y=X[t.1, 0 :+ 1, 0 :+ 4], s=0.0:f32) }}'


@pytest.mark.parametrize(("name", "found"), [("t", 2), ("u", 0), ("t/b", 0), ("/t", 0), ("", 0), (3, 0)])
def test_a_loop_that_is_not_there_or_one_of_several_is_an_error_that_lists_them(name: Any, found: int) -> None:
    with pytest.raises(ScheduleError, match="PTO408") as caught:
        split(loop=name, size=2)(traced(TWICE))
    assert caught.value.values["loops"] == ("/b/t, /t.1" if found else "/b, /b/t, /t.1")


@pytest.mark.parametrize("name", ["b/t", "/b/t", "/t.1"])
def test_a_path_tells_loops_of_one_name_apart(name: str) -> None:
    assert "_o" in show(split(loop=name, size=2)(traced(TWICE)).wir)


extent = st.sampled_from(("0", "1", "3", "4", "$n", "$n + 1", "m", "b + 1"))
row = st.sampled_from(("b", "t", "0", "m", "mod(b + t, 5)"))
steps = st.sampled_from(
    (
        *(split(loop=v, size=k) for v in "bt" for k in (1, 2, 3)),
        *(unroll(loop=v, factor=k) for v in "bt" for k in (1, 2, 3)),
        *(unroll(loop=v) for v in "bt"),
        *(interchange(outer="b", inner="t") for _ in range(4)),
        *(tile(sizes={"b": 2, "t": 2}) for _ in range(2)),
    )
)


@st.composite
def nests(draw: Any) -> str:
    """Two loops, with scalars, a condition, and tasks that build on each other."""
    first, second = (draw(st.sampled_from(("parallel_for", "seq_for"))) for _ in "bt")
    a = f"task w[b, t](y=Y[{draw(row)}, {draw(row)} :+ 1, 0 :+ 4], s=(b + 3*t))"
    b = f"task k[t](x=X[t, b :+ 1, 0 :+ 4], y=Y[{draw(row)}, {draw(row)} :+ 1, 0 :+ 4])"
    body = f"{a} cond c {{ then {{ {b} }} else {{ {a} }} }}" if draw(st.booleans()) else f"{a} {b}"
    inner = f"c: bool = s.lt m (t)\n {body}"
    outer = draw(extent.filter(lambda e: "m" not in e and "b" not in e))
    return (
        f"{first} b in b: Range({outer}) {{ m: i64 = item I[b]\n{second} t in t: Range({draw(extent)}) {{ {inner} }} }}"
    )


@given(nests(), steps, st.integers(0, 5))
def test_rewrites_keep_results(body: str, step: Rewrite, n: int) -> None:
    w = traced(body)
    try:
        refuse_races(w.wir, {"n": n})
    except RaceError:
        return
    try:
        out = step(w)
    except ScheduleError as e:
        assert e.code == "PTO409"  # noqa: PT017 - a refusal is an answer
        return
    verify(out.wir)
    for a, b in zip(results(w.wir, n), results(out.wir, n), strict=True):
        np.testing.assert_array_equal(a, b)
