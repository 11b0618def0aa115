"""The reference evaluator by hand: reads, branches, loops that end early, slots, gathers and scatters, results."""

from typing import Any

import numpy as np
import pytest

from pto_wsp import BoundsError, DType, ExecutionError, PtoError
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.rounding import round_integer
from pto_wsp.ir.text import parse
from pto_wsp.ir.verify import verify

HEAD = """workload w {{
  symbol $n
  tensor X: f32[4,2]
  tensor Y: f32[4,2]
  tensor idx: i32[4]
  tensor lens: i64[3]
  {more}
  kernel put "put" (s: f32, y: out f32<1x2>) {{
    a: f32<1x2> = full[cols=2, rows=1] 1.0:f32
    b: f32<1x2> = mul a s
    store y b
  }}
  kernel add "add" (x: in f32<2x2>, y: inout f32<2x2>) {{
    a: f32<2x2 of x.rows x x.cols> = load x
    b: f32<2x2 of y.rows x y.cols> = load y
    c: f32<2x2 of x.rows x x.cols> = add a b
    store y c
  }}
  {body}
}}"""


def run(body: str, more: str = "", slots: Any = None, **given: Any) -> dict[str, np.ndarray]:
    wir = parse(HEAD.format(body=body, more=more))
    verify(wir)
    arrays = {
        "X": np.arange(8, dtype=np.float32).reshape(4, 2),
        "Y": np.zeros((4, 2), np.float32),
        "idx": np.array([2, 0, 2, 1], np.int32),
        "lens": np.array([2, 0, 3], np.int64),
        **{k: v for k, v in given.items() if k != "n"},
    }
    return arrays | evaluate(wir, arrays, {"n": given.get("n", 2)}, slots)


def test_a_ragged_loop_runs_as_often_as_its_length_says() -> None:
    out = run("""
  parallel_for b in outer: Dense(3) {
    m: i64 = item lens[b]
    parallel_for t in seq: Ragged(m) {
      task put[b, t](s=(b + t + 1), y=Y[b :+ 1, 0 :+ 2])
    }
  }""")
    assert out["Y"][:, 0].tolist() == [2, 0, 5, 0]


def test_a_read_sees_what_tasks_before_it_wrote() -> None:
    out = run("""
  task put[](s=3.0:f32, y=Y[1 :+ 1, 0 :+ 2])
  a: f64 = item Y[1, 0]
  b: i64 = s.cast[to=i64] a
  task put[](s=9.0:f32, y=Y[b :+ 1, 0 :+ 2])
  c: f64 = reduce_sum Y[0 :+ 4, 0]
  task put[](s=c, y=Y[0 :+ 1, 0 :+ 2])""")
    assert out["Y"][:, 1].tolist() == [12, 3, 0, 9]


@pytest.mark.parametrize(("n", "want"), [(0, [5, 0]), (1, [0, 6]), (2, [0, 7])])
def test_exactly_one_branch_runs(n: int, want: list[float]) -> None:
    out = run(
        """
  a: bool = s.eq ($n) 0:i64
  cond a {
    then {
      task put[](s=5.0:f32, y=Y[0 :+ 1, 0 :+ 2])
    }
    else {
      b: bool = s.eq ($n) 1:i64
      cond b {
        then {
          task put[](s=6.0:f32, y=Y[1 :+ 1, 0 :+ 2])
        }
        else {
          task put[](s=7.0:f32, y=Y[1 :+ 1, 0 :+ 2])
        }
      }
    }
  }""",
        n=n,
    )
    assert out["Y"][:2, 0].tolist() == want


def test_a_condition_is_asked_before_each_iteration() -> None:
    body = """
  seq_for i in i: Range(4) {
    task put[i](s=(i + 1), y=Y[i :+ 1, 0 :+ 2])
  } while {
    a: f64 = reduce_sum Y[0 :+ 4, 0]
    b: bool = s.lt a 3.0:f64
    yield b
  }"""
    assert run(body)["Y"][:, 0].tolist() == [1, 2, 0, 0]
    assert run(body, Y=np.full((4, 2), 3, np.float32))["Y"][:, 0].tolist() == [3, 3, 3, 3]


def test_slots_begin_with_what_is_given_or_zero() -> None:
    body = """
  seq_for i in i: Range(3) {
    a: i64 = slot_get[slot=5]
    task put[i](s=a, y=Y[i :+ 1, 0 :+ 2])
    b: i64 = s.add a 2:i64
    slot_set[slot=5] b
  }"""
    assert run(body)["Y"][:, 0].tolist() == [0, 2, 4, 0]
    assert run(body, slots={5: 7})["Y"][:, 0].tolist() == [7, 9, 11, 0]


def test_gathers_repeat_rows_and_the_last_of_equal_rows_is_stored() -> None:
    out = run("task add[](x=X[gather(idx[0 :+ 2]), 0 :+ 2], y=Y[0 :+ 2, 0 :+ 2])")
    assert out["Y"].tolist() == [[4, 5], [0, 1], [0, 0], [0, 0]]
    tail = "task add[](x=X[tile(1, 2, 3), 0 :+ 2], y=Y[gather(idx[tile(1, 2, 3)]), 0 :+ 2])"
    assert run(tail, idx=np.full(4, 3, "i4"))["Y"].tolist() == [[0, 0], [0, 0], [0, 0], [4, 5]]
    twice = np.array([3, 3, 0, 0], np.int32)
    out = run("task add[](x=X[0 :+ 2, 0 :+ 2], y=Y[gather(idx[0 :+ 2]), 0 :+ 2])", idx=twice)
    assert out["Y"].tolist() == [[0, 0], [0, 0], [0, 0], [2, 3]]


def test_columns_and_rows_may_both_be_gathered() -> None:
    both = "Y[gather(idx[0 :+ 2]), gather(idx[2 :+ 2])]"
    out = run(f"task add[](x=X[0 :+ 2, 0 :+ 2], y={both})", idx=np.array([3, 1, 1, 0], np.int32))
    assert out["Y"].tolist() == [[0, 0], [3, 2], [0, 0], [1, 0]]


def test_results_and_temporaries_are_the_evaluators() -> None:
    out = run(
        """
  task add[](x=X[2 :+ 2, 0 :+ 2], y=T[0 :+ 2, 0 :+ 2])
  task add[](x=T[0 :+ 2, 0 :+ 2], y=Z[$n :+ 2, 0 :+ 2])
  return Z""",
        more="temporary T: f32[2,2]\n result Z: f32[2*$n,2]",
    )
    assert out["Z"].tolist() == [[0, 0], [0, 0], [4, 5], [6, 7]]
    assert "T" not in out


def test_tasks_after_others_run_in_program_order_anyway() -> None:
    out = run("""
  t0: task = task put[](s=1.0:f32, y=Y[0 :+ 1, 0 :+ 2])
  task[after=["t0"]] add[](x=Y[0 :+ 2, 0 :+ 2], y=Y[2 :+ 2, 0 :+ 2])""")
    assert out["Y"][:, 0].tolist() == [1, 0, 1, 0]


READS = [
    ("reduce_sum", "i64", "a", [2**63 - 1, 1], -(2**63)),
    ("reduce_sum", "u64", "c", [2**64 - 1, 2], 1),
    ("reduce_sum", "f64", "f", [1e16, 1.0, -1e16], 0.0),
    ("reduce_sum", "f64", "f", [-0.0], 0.0),
    ("reduce_max", "f64", "f", [1.0, np.nan, 2.0], np.nan),
    ("reduce_min", "f64", "f", [0.0, -0.0], -0.0),
    ("reduce_max", "f64", "f", [-0.0, 0.0], 0.0),
    ("reduce_max", "i64", "a", [-5, -(2**63)], -5),
    ("reduce_min", "u64", "c", [2**64 - 1, 2**63], 2**63),
    ("reduce_any", "bool", "f", [0.0, -0.0], False),
    ("reduce_any", "bool", "f", [0.0, np.nan], True),
    ("reduce_all", "bool", "a", [1, 2, 0], False),
    ("reduce_all", "bool", "a", [], True),
    ("reduce_any", "bool", "a", [], False),
    ("reduce_sum", "i64", "a", [], 0),
]


@pytest.mark.parametrize(("prim", "out", "tensor", "values", "want"), READS)
def test_reductions(prim: str, out: str, tensor: str, values: list[float], want: float) -> None:
    dtype = {"a": ("i64", np.int64), "c": ("u64", np.uint64), "f": ("f64", np.float64)}[tensor]
    arrays = {tensor: np.array(values, dtype[1])}
    wir = parse(f"""workload w {{
  tensor {tensor}: {dtype[0]}[{len(values)}]
  v: {out} = {prim} {tensor}[span(0, {len(values)})]
  slot_set[slot=0] v
  g: {out} = slot_get[slot=0]
  w: bool = s.eq g {str(want).lower()}:{out}
  x: bool = s.ne g g
  y: bool = s.or w x
  cond y {{
    then {{
    }}
    else {{
      z: i64 = s.floordiv 1:i64 0:i64
    }}
  }}
}}""")
    verify(wir)
    evaluate(wir, arrays)


def test_floats_are_added_in_order() -> None:
    x = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    total = 0.0
    for v in x.flat:
        total += float(v)
    run(
        f"""
  a: f64 = reduce_sum X[0 :+ 4, 0 :+ 2]
  b: bool = s.ne a {total!r}:f64
  cond b {{
    then {{
      c: i64 = s.mod 1:i64 0:i64
    }}
  }}""",
        X=x,
    )


@pytest.mark.parametrize(
    ("body", "cls", "code"),
    [
        ("a: i64 = item lens[3]", BoundsError, "PTO163"),
        ("a: i64 = item lens[0]\n b: i64 = reduce_sum lens[span(2, a)]", BoundsError, "PTO163"),
        ("a: i64 = reduce_sum lens[span(0, $n - 3)]", BoundsError, "PTO163"),
        ("task add[](x=X[gather(idx[0 :+ 2]), 0 :+ 2], y=Y[3 :+ 2, 0 :+ 2])", BoundsError, "PTO163"),
        ("task add[](x=X[0 :+ 2, gather(idx[0 :+ 2])], y=Y[0 :+ 2, 0 :+ 2])", BoundsError, "PTO163"),
        ("task add[](x=X[gather(idx[3 :+ 2]), 0 :+ 2], y=Y[0 :+ 2, 0 :+ 2])", BoundsError, "PTO163"),
        ("a: i64 = reduce_sum lens[tile($n, 2, 3)]", BoundsError, "PTO163"),
        ("a: i64 = reduce_sum lens[tile(0, 2, 4)]", BoundsError, "PTO163"),
        ("a: i64 = reduce_sum lens[tile(0, 2, $n, 2)]", BoundsError, "PTO163"),
        ("parallel_for i in i: Ragged($n - 3) {\n}", BoundsError, "PTO511"),
        ("a: i64 = reduce_max lens[span(0, 0)]", ExecutionError, "PTO718"),
        ("task put[mod(1, $n - 2)](s=1.0:f32, y=Y[mod(1, $n - 2) :+ 1, 0 :+ 2])", ExecutionError, "PTO711"),
        ("a: i64 = s.floordiv ($n) 0:i64", ExecutionError, "PTO711"),
    ],
)
def test_what_fails(body: str, cls: type[PtoError], code: str) -> None:
    with pytest.raises(cls) as e:
        run(body)
    assert e.value.code == code


def test_an_index_out_of_range_fails_before_the_task_writes() -> None:
    y = np.zeros((4, 2), np.float32)
    with pytest.raises(BoundsError, match="index -1 of idx in dimension 0 of size 4"):
        run("task add[](x=X[0 :+ 2, 0 :+ 2], y=Y[gather(idx[0 :+ 2]), 0 :+ 2])", Y=y, idx=np.array([0, -1, 0, 0], "i4"))
    assert not y.any()


def test_integers_become_scalars_with_one_rounding() -> None:
    assert float(round_integer(DType.F32, 2**24 + 1)) == 2**24
    assert float(round_integer(DType.F32, (2**24 + 1) * 2**36 + 1)) == (2**24 + 2) * 2**36
    assert float(round_integer(DType.F32, -(2**24 + 1) * 2**36 - 1)) == -(2**24 + 2) * 2**36
    assert float(round_integer(DType.BF16, 257 * 2**52 + 1)) == 258 * 2**52
    assert int(round_integer(DType.I32, -(2**31))) == -(2**31)
    for dtype, n in ((DType.I32, 2**31), (DType.F16, 65520)):
        with pytest.raises(BoundsError) as e:
            round_integer(dtype, n)
        assert e.value.code == "PTO713"
