"""What canonicalize leaves of a workload's scalars, reads and branches."""

from passes.check import check_pass
from pto_wsp.passes.canonicalize import canonicalize

WORK = """workload w {{
  tensor X: f32[4,8]
  tensor lens: i64[4]
  kernel k "k" (y: out f32<1x8>) {{
    a: f32<1x8> = full[cols=8, rows=1] 1.0:f32
    store y a
  }}
{body}
}}"""


def check(before: str, after: str) -> None:
    check_pass(canonicalize, WORK.format(body=before.strip("\n")), WORK.format(body=after.strip("\n")))


def test_scalars_that_nothing_uses_disappear_unless_they_can_fail() -> None:
    check(
        """
  a: i64 = item lens[0]
  b: i64 = s.add a 1:i64
  c: i64 = s.mul b b
  d: i64 = slot_get[slot=1]
  e: i64 = s.floordiv a 2:i64
  f: i64 = s.floordiv a e
  g: i64 = s.add[checked=true] a 1:i64
  h: i64 = s.shl a 3:i64
  i: i64 = s.shl a h
  slot_set[slot=1] 4:i64
  task k[](y=X[0 :+ 1, 0 :+ 8])
""",
        """
  a: i64 = item lens[0]
  d: i64 = slot_get[slot=1]
  e: i64 = s.floordiv a 2:i64
  f: i64 = s.floordiv a e
  g: i64 = s.add[checked=true] a 1:i64
  h: i64 = s.shl a 3:i64
  i: i64 = s.shl a h
  slot_set[slot=1] 4:i64
  task k[](y=X[0 :+ 1, 0 :+ 8])
""",
    )


def test_branches_without_equations_disappear_and_known_ones_are_taken() -> None:
    check(
        """
  a: i64 = item lens[0]
  b: bool = s.lt a 3:i64
  cond b {
    then {
      c: i64 = s.add a 1:i64
    }
  }
  cond true:bool {
    then {
      d: i64 = s.add a 2:i64
      task k[d](y=X[d :+ 1, 0 :+ 8])
    }
    else {
      task k[](y=X[0 :+ 1, 0 :+ 8])
    }
  }
  cond b {
    then {
    }
    else {
      slot_set[slot=0] true:bool
    }
  }
""",
        """
  a: i64 = item lens[0]
  b: bool = s.lt a 3:i64
  d: i64 = s.add a 2:i64
  task k[d](y=X[d :+ 1, 0 :+ 8])
  cond b {
    then {
    }
    else {
      slot_set[slot=0] true:bool
    }
  }
""",
    )


def test_tasks_that_never_run_are_not_waited_for() -> None:
    check(
        """
  parallel_for i in i: Dense(0) {
    t: task = task k[i](y=X[i :+ 1, 0 :+ 8])
  }
  u: task = task k[](y=X[1 :+ 1, 0 :+ 8])
  task[after=["t" "u"]] k[](y=X[2 :+ 1, 0 :+ 8])
  task[after=["t"]] k[](y=X[3 :+ 1, 0 :+ 8])
""",
        """
  u: task = task k[](y=X[1 :+ 1, 0 :+ 8])
  task[after=["u"]] k[](y=X[2 :+ 1, 0 :+ 8])
  task k[](y=X[3 :+ 1, 0 :+ 8])
""",
    )


def test_empty_loops_disappear_where_their_extent_is_no_data() -> None:
    kept = """
  task k[](y=X[0 :+ 1, 0 :+ 8])
  a: i64 = item lens[0]
  seq_for j in j: Range(a) {
  }
  seq_for k in k: Range(4) {
  } while {
    b: i64 = item lens[k]
    c: bool = s.gt b 0:i64
    yield c
  }
"""
    check(
        kept
        + """
  f: bool = s.gt a 1:i64
  seq_for l in l: Range(4) {
  } while {
    d: bool = s.and f true:bool
    yield d
  }
  seq_for m in m: Range(4) {
    e: bool = s.gt a 0:i64
  }
""",
        kept,
    )
