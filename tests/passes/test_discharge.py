"""The pure form: what it looks like, its rules, and that it means the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ir.programs import meaning, program
from passes.check import check_pass
from pto_wsp import IRConversionError
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.passes.discharge import discharge

WORK = """workload w {{
  tensor X: f32[4,8]
  tensor Y: f32[4,8]
  temporary T: f32[4,8]
  result Z: f32[4,8]
  kernel copy "copy" (x: in f32<1x8>, y: out f32<1x8>) {{
    a: f32<1x8 of x.rows x x.cols> = load x
    store y a
  }}
  kernel two "two" (x: in f32<1x8>, y: out f32<1x8>, z: inout f32<1x8>) {{
    a: f32<1x8 of x.rows x x.cols> = load x
    store y a
    store z a
  }}
{body}
  return Z
}}"""


def check(before: str, after: str) -> None:
    texts = (WORK.format(body=t.strip("\n")) for t in (before, after))
    check_pass(discharge, *texts, stage="pure")


def test_loops_carry_what_their_bodies_write() -> None:
    check(
        """
  deps[mode="hybrid"] {
    parallel_for i in i: Dense(4) {
      t: task = task copy[i](x=X[i :+ 1, 0 :+ 8], y=T[i :+ 1, 0 :+ 8])
      task[after=["t"]] two[i](x=T[i :+ 1, 0 :+ 8], y=Y[i :+ 1, 0 :+ 8], z=Z[i :+ 1, 0 :+ 8])
    }
  }
""",
        """
  Y.3: f32[4,8], T.3: f32[4,8], Z.3: f32[4,8] = parallel_for i in i: Dense(4) carry Y T Z as Y.1, T.1, Z.1 {
    T.2: f32[4,8] = task copy[i](x=X[i :+ 1, 0 :+ 8], y=T.1[i :+ 1, 0 :+ 8])
    Y.2: f32[4,8], Z.2: f32[4,8] = task two[i](x=T.2[i :+ 1, 0 :+ 8], y=Y.1[i :+ 1, 0 :+ 8], z=Z.1[i :+ 1, 0 :+ 8])
    yield Y.2 T.2 Z.2
  }
  yield[of=["Y" "Z"]] Y.3 Z.3
""",
    )


def test_branches_parts_and_scopes_carry_and_conditions_see_the_iteration() -> None:
    check(
        """
  combine {
    part {
      task copy[](x=X[0 :+ 1, 0 :+ 8], y=Y[0 :+ 1, 0 :+ 8])
    }
    part {
      dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {
        seq_for i in i: Dense(4) {
          a: bool = s.lt (i) 2:i64
          cond a {
            then {
              task copy[](x=X[i :+ 1, 0 :+ 8], y=Y[0 :+ 1, 0 :+ 8])
            }
          }
        } while {
          b: f64 = item Y[0, 0]
          c: bool = s.ne b 0.0:f64
          yield c
        }
      }
    }
  }
""",
        """
  Y.12: f32[4,8] = combine carry Y {
    part as Y.1 {
      Y.2: f32[4,8] = task copy[](x=X[0 :+ 1, 0 :+ 8], y=Y.1[0 :+ 1, 0 :+ 8])
      yield Y.2
    }
    part as Y.3 {
      Y.11: f32[4,8] = dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] carry Y.3 as Y.4 {
        Y.10: f32[4,8] = seq_for i in i: Dense(4) carry Y.4 as Y.5 {
          a: bool = s.lt (i) 2:i64
          Y.9: f32[4,8] = cond a carry Y.5 {
            then as Y.6 {
              Y.7: f32[4,8] = task copy[](x=X[i :+ 1, 0 :+ 8], y=Y.6[0 :+ 1, 0 :+ 8])
              yield Y.7
            }
            else as Y.8 {
              yield Y.8
            }
          }
          yield Y.9
        } while {
          b: f64 = item Y.5[0, 0]
          c: bool = s.ne b 0.0:f64
          yield c
        }
        yield Y.10
      }
      yield Y.11
    }
  }
  yield[of=["Y"]] Y.12
""",
    )


def test_slots_are_carried_values() -> None:
    check(
        """
  parallel_for X in X: Dense(3) {
    a: i64 = slot_get[slot=3]
    b: i64 = s.add a (X)
    slot_set[slot=3] b
  }
  c: i64 = slot_get[slot=3]
  d: f64 = slot_get[slot=4]
""",
        """
  slot3.1: i64 = slot_get[slot=3]
  slot3.3: i64 = parallel_for X.1 "X" in X: Dense(3) carry slot3.1 as slot3.2 {
    a: i64 = s.cast[to=i64] slot3.2
    b: i64 = s.add a (X.1)
    yield b
  }
  c: i64 = s.cast[to=i64] slot3.3
  d: f64 = slot_get[slot=4]
""",
    )


@given(st.integers(0, 2**32 - 1))
def test_either_form_means_the_same_bit_for_bit(seed: int) -> None:
    wir = program(seed)
    pure = discharge(wir)
    verify(pure, "pure", after="discharge")
    assert parse(show(pure)) == pure
    want, got = meaning(wir, seed), meaning(pure, seed)
    # failures name tensors, which have other names here
    assert got == want if isinstance(want, dict) else (isinstance(got, str) and got[:6] == want[:6])


COPY = "task copy[](x=X[0 :+ 1, 0 :+ 8], y=Y[0 :+ 1, 0 :+ 8])"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (COPY, "its results are not"),
        ("Y.1: f32[4,7] = " + COPY, "its results are not"),
        ("Y.1: f32[4,8] = " + COPY + "\n  yield Y.1", "names the tensors"),
        ("Y.1: f32[4,8] = " + COPY + '\n  yield[of=["Q"]] Y.1', "names the tensors"),
        ("Y.1: f32[4,8] = " + COPY + '\n  yield[of=["Y" "X"]] Y.1', "not f32"),
        ("slot_set[slot=0] 1:i64", "sets no slots"),
        ("Y.1: f32[4,8] = combine carry Y {\n part as Y.2 {\n } }", "gives no values"),
        (
            "Y.1: f32[4,8] = combine carry Y {\n part as Y.2 {\n yield X } part as Y.3 {\n yield 1:i64\n } }",
            "gives i64",
        ),
        ("combine {\n part {\n Y.2: f32[4,8] = " + COPY + ' } }\n yield[of=["Y"]] Y.2', "is not in scope"),
        (
            "Y.1: f32[4,8] = combine carry Y {\n part as Y.2 {\n yield Y.2 } }\n t: task = " + COPY,
            "its results are not",
        ),
    ],
)
def test_rules_of_the_pure_form(body: str, why: str) -> None:
    with pytest.raises(IRConversionError, match=why):
        verify(parse(WORK.format(body="  " + body)), "pure")


def test_a_pure_workload_is_not_a_traced_one() -> None:
    with pytest.raises(IRConversionError):
        verify(discharge(parse(WORK.format(body="  " + COPY))))
