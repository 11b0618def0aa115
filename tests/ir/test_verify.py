"""Wir that breaks a rule of workloads: scopes, types, regions, who owns what."""

import pytest

from pto_wsp import IRConversionError, ScheduleError, TypeCheckError
from pto_wsp.ir.scopes import origins
from pto_wsp.ir.tasks import used_names
from pto_wsp.ir.text import parse
from pto_wsp.ir.verify import verify

HEAD = """workload w {{
  symbol $n
  tensor X: f32[4,2]
  tensor idx: i32[4]
  tensor lens: i64[3]
  tensor wide: u64[4]
  tensor flags: bool[4]
  {more}
  kernel k "k" (x: in f32<2x2>, s: f32, y: out f32<2x2>) {{
    a: f32<2x2 of x.rows x x.cols> = load x
    store y a
  }}
  {body}
}}"""


def text(body: str, more: str = "") -> str:
    return HEAD.format(body=body, more=more)


def call(x: str = "X[0 :+ 2, 0 :+ 2]", s: str = "1.0:f32", coords: str = "") -> str:
    return f"task k[{coords}](x={x}, s={s}, y=X[2 :+ 2, 0 :+ 2])"


LEGAL = [
    "a: i64 = item idx[0]\n parallel_for t in t: Range(a) { b: i64 = item lens[a + t]\n }",
    "a: u64 = item wide[$n]\n b: u64 = s.add a 3:u64\n c: i64 = s.cast[to=i64] b\n " + call(coords="c"),
    call(x="X[gather(idx[2*$n :+ 2]), 0 :+ 2]"),
    call(x="X[0 :+ 2, gather(lens[tile(0, 2, 3)])]"),
    "a: f64 = item X[0, 0]\n " + call(s="a"),
    "a: u64 = item wide[0]\n " + call(s="a"),
    "t: task = " + call() + '\n seq_for i in i: Range(2) { task[after=["t"]]' + call()[4:] + " }",
    "cond true:bool { then { t: task = " + call() + ' } else { task[after=["t"]]' + call()[4:] + " } }",
    'deps[mode="explicit"] { window[mode="STALL", tasks=2] { ' + call() + " } }",
    'window[mode="STALL", tasks=2] { deps[mode="hybrid"] { ' + call() + " } }",
    "seq_for i in i: Range($n) { " + call() + " } while { a: bool = s.lt (i) 3:i64\n yield a }",
    "task: i64 = item lens[0]\n return: i64 = s.neg task\n",
    "kernel: i64 = item lens[0]\n parallel_for tensor in part: Range(kernel) { }",
]


@pytest.mark.parametrize("body", LEGAL)
def test_what_may_be_said(body: str) -> None:
    wir = parse(text(body))
    verify(wir)
    assert parse(str(wir)) == wir


BROKEN = [
    ("cond true:bool { then { a: i64 = item lens[0]\n } }\n b: i64 = item lens[a]", "a is not in scope"),
    (
        "seq_for i in i: Range(2) { a: i64 = item lens[0]\n } while { b: bool = s.lt a 3:i64\n yield b }",
        "a is not in scope",
    ),
    ("a: u64 = item wide[0]\n b: i64 = item lens[a]", "a is u64, which is no index"),
    ("a: i64 = item lens[0]\n a: i64 = item lens[1]", "a is bound twice"),
    ("a: i64 = item lens[0]\n parallel_for a in i: Range(2) { }", "a is bound twice"),
    ("a: f64 = item lens[0]", "its type is i64"),
    ("a: i64 = item lens[0 :+ 2]", "cannot read such a view"),
    ("a: i64 = reduce_sum lens[gather(idx[0 :+ 2])]", "cannot read such a view"),
    ("a: bool = reduce_sum flags[0 :+ 2]", "needs a tensor of numbers"),
    ("a: i64 = item lens[0, 0]", "has 1 dimensions"),
    ("a: i64 = item nothing[0]", "there is no tensor nothing"),
    ("a: f64 = s.add 1:i64 2:i64", "its type is i64"),
    ("a: i64 = s.add[checked=false] 1:i64 2:i64", "checked"),
    ("a: i64 = s.add[fast=true] 1:i64 2:i64", "checked"),
    ("parallel_for i in i: Range(2) { a: i64 = s.add i 2:i64\n }", "i is not in scope as index"),
    ("cond 1:i64 { then { } }", "is not bool"),
    ("seq_for i in i: Range(2) { } while { a: bool = s.lt (i) 3:i64\n }", "gives no values"),
    ("seq_for i in i: Range(2) { } while { yield (i) }", "gives i64, not bool"),
    ("seq_for i in i: Range(2) { } while { yield true:bool\n a: i64 = item lens[0]\n }", "at the end of a region"),
    ("seq_for i in i: Range(2) { } while { slot_set[slot=0] (i)\n yield true:bool }", "only reads"),
    ("seq_for i in i: Range(2) { } while { " + call() + " yield true:bool }", "only reads"),
    ("parallel_for i in i: Range(2) { } while { yield true:bool }", "a region too many"),
    ("yield true:bool", "at the end of a region"),
    ("slot_set[slot=64] 1:i64", "needs a slot"),
    ("slot_set[slot=true] 1:i64", "needs a slot"),
    ("slot_set[slot=0] 1:i64\n a: u64 = slot_get[slot=0]", "slot 0 is i64"),
    ('task[after=["t"]]' + call()[4:] + "\n t: task = " + call(), "there is no task t"),
    ("t: i64 = " + call(), "results"),
    (call(x="X[span(0, 2), 0 :+ 2]"), "no static shape"),
    (call(x="X[gather(wide[0 :+ 2]), 0 :+ 2]"), "no vector of i32 or i64"),
    (call(x="X[gather(idx[0]), 0 :+ 2]"), "no vector of i32 or i64"),
    (call(x="X[gather(idx[gather(idx[0 :+ 2])]), 0 :+ 2]"), "no vector of i32 or i64"),
    (call(x="X[gather(idx[0 :+ 3]), 0 :+ 2]"), "does not fit"),
    (call(x="X[gather(idx[z :+ 2]), 0 :+ 2]"), "z is not in scope"),
    ("a: bool = item flags[0]\n " + call(s="a"), "needs a scalar of f32, not bool"),
    (call(s="1.0:f16"), "needs a scalar of f32"),
    ('deps[mode="guess"] { }', "mode is guess"),
    ("acquire T", "not allowed here"),
    ("return X", "returns X"),
    ("return Z", "returns Z"),
    ("combine carry 1:i64 { part as b { } }", "only the pure form"),
]


@pytest.mark.parametrize(("body", "why"), BROKEN)
def test_rules_of_workloads(body: str, why: str) -> None:
    with pytest.raises(IRConversionError, match=why):
        verify(parse(text(body, "temporary T: f32[1]")))


@pytest.mark.parametrize(
    "body", ['deps[mode="hybrid"] { }\n ' + call(), 'combine { part { deps[mode="hybrid"] { } } }']
)
def test_dependences_are_of_the_whole_workload(body: str) -> None:
    with pytest.raises(ScheduleError, match="of a part"):
        verify(parse(text(body)))


def test_operands_of_two_types_are_a_type_error() -> None:
    with pytest.raises(TypeCheckError, match="i64 and u64"):
        verify(parse(text("a: i64 = s.add 1:i64 2:u64")))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('ragged s: outer=3 lengths="lens"\n ragged s: outer=4 lengths="idx"', "the axes share a name"),
        ('ragged s: outer=3 lengths="none"', "reads none"),
        ('ragged s: outer=3 lengths="X"', "reads X"),
        ('sparse s: outer=3 indptr="lens" indices="wide"', "reads wide"),
        ('ragged s: outer=$m lengths="lens"', "the size"),
        ('sparse s: outer=3 indptr="lens" indices="idx" inner=n', "the size n"),
        ("result Z: f32[4]", "returns nothing"),
        ("temporary T: f32[$m]", "dimension"),
    ],
)
def test_rules_of_headers(more: str, why: str) -> None:
    with pytest.raises(IRConversionError, match=why):
        verify(parse(text("", more)))


def test_results_are_returned_alone_or_as_a_tuple() -> None:
    for returns in ("Z", "[Z]"):
        wir = parse(text(f"return {returns}", "result Z: f32[$n]"))
        verify(wir)
        assert str(wir).endswith(f"  return {returns}\n}}")
    assert parse(text("return Z", "result Z: f32[1]")) != parse(text("return [Z]", "result Z: f32[1]"))


def test_origins_are_equations_without_scopes() -> None:
    wir = parse(
        text(
            """window[mode="STALL", tasks=2] {
  seq_for i in i: Range(2) {
    cond true:bool {
      then {
        slot_set[slot=0] (i)
      }
    }
  } while {
    yield true:bool
  }
}"""
        )
    )
    assert [e.prim for e in origins(wir)] == ["seq_for", "cond", "slot_set", "yield"]


def test_names_that_an_equation_uses() -> None:
    wir = parse(
        text(f"a: i64 = item lens[0]\n b: f64 = item X[a, 1]\n {call('X[gather(idx[a :+ 2]), 0 :+ 2]', 'b', '$n')}")
    )
    assert [used_names(e) for e in wir.body.eqns] == [set(), {"a"}, {"a", "b", "$n"}]
