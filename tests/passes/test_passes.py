import pytest

from passes.check import check_pass
from pto_wsp import RaceError
from pto_wsp.ir.text import parse
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.expand import expand
from pto_wsp.passes.infer_dependences import infer_dependences
from pto_wsp.passes.resolve_schedules import resolve_schedules


def in_kernel(body: str, params: str = "x: in f32<8x8>, y: out f32<8x8>") -> str:
    rows = "\n".join("    " + r.strip() for r in body.strip().splitlines())
    args = ", ".join(
        f"{p.split(':')[0].strip()}={p.split(':')[0].strip().upper()}[0 :+ 8, 0 :+ 8]" for p in params.split(",")
    )
    names = [p.split(":")[0].strip() for p in params.split(",")]
    tensors = "\n".join(f"  tensor {n.upper()}: f32[8,8]" for n in names)
    return f'workload w {{\n{tensors}\n  kernel k "k" ({params}) {{\n{rows}\n  }}\n  task k[]({args})\n}}'


T = "f32<8x8 of x.rows x x.cols>"


def test_equal_operations_are_computed_once_and_unused_ones_not_at_all() -> None:
    check_pass(
        canonicalize,
        in_kernel(
            f"a: {T} = load x\nb: {T} = load x\nc: {T} = mul a b\nd: {T} = mul b a\ne: {T} = exp c\nf: {T} = add c d\nstore y f"
        ),
        in_kernel(f"a: {T} = load x\nc: {T} = mul a a\nf: {T} = add c c\nstore y f"),
    )


def test_a_load_after_a_store_is_another_one() -> None:
    u = "f32<8x8 of y.rows x y.cols>"
    text = in_kernel(
        f"a: {u} = load y\nb: {u} = add a a\nstore y b\nc: {u} = load y\nd: {u} = add a c\nstore y d",
        "y: inout f32<8x8>",
    )
    check_pass(canonicalize, text, text)


def test_zeros_of_either_sign_and_numbers_of_either_dtype_stay_apart() -> None:
    text = in_kernel(f"a: {T} = load x\nb: {T} = add a 0.0:f32\nc: {T} = add a -0.0:f32\nd: {T} = div b c\nstore y d")
    check_pass(canonicalize, text, text)


def test_equal_nans_are_one() -> None:
    check_pass(
        canonicalize,
        in_kernel(f"a: {T} = load x\nb: {T} = add a nan:f32\nc: {T} = add a nan:f32\nd: {T} = add b c\nstore y d"),
        in_kernel(f"a: {T} = load x\nb: {T} = add a nan:f32\nd: {T} = add b b\nstore y d"),
    )


WORK = """workload w {{
  tensor X: f32[4,8,8]
  kernel k "k" (y: out f32<8x8>) {{
    a: f32<8x8> = full[cols=8, rows=8] 1.0:f32
    store y a
  }}
{body}
}}"""


def work(body: str) -> str:
    return WORK.format(body=body.strip("\n"))


def test_loops_scopes_and_parts_without_tasks_disappear() -> None:
    check_pass(
        canonicalize,
        work("""
  parallel_for i in i: Dense(0) {
    task k[i](y=X[i, 0 :+ 8, 0 :+ 8])
  }
  window[mode="STALL", tasks=2] {
    dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {
      seq_for j in j: Dense(4) {
      }
    }
  }
  sequential {
    part {
    }
    part {
      task k[](y=X[0, 0 :+ 8, 0 :+ 8])
    }
  }
"""),
        work("""
  sequential {
    part {
    }
    part {
      task k[](y=X[0, 0 :+ 8, 0 :+ 8])
    }
  }
"""),
    )


def test_kernels_that_nothing_calls_disappear() -> None:
    check_pass(
        canonicalize,
        work("  parallel_for i in i: Dense(0) {\n    task k[i](y=X[i, 0 :+ 8, 0 :+ 8])\n  }"),
        "workload w {\n  tensor X: f32[4,8,8]\n}",
    )


def test_temporaries_that_nothing_names_disappear() -> None:
    text = work("  task k[](y=X[0, 0 :+ 8, 0 :+ 8])")
    unused = text.replace("  kernel k", "  temporary T: f32[8,8]\n  kernel k")
    check_pass(canonicalize, unused, text)
    used = unused.replace("y=X[0, ", "y=T[")
    check_pass(canonicalize, used, used)


def test_compositions_expand_to_leaves() -> None:
    row = "f32<8x1 of x.rows x 1>"
    check_pass(
        expand,
        in_kernel(f"p: {T} = load x\nq: {row} = rowmean p\nr: {T} = mul p q\nstore y r"),
        in_kernel(
            f"a: {T} = load x\nb: {row} = rowsum a\nc: {row} = count_cols a\nd: {row} = div b c\n"
            f"e: {T} = mul a d\nstore y e"
        ),
    )


def test_a_kernel_of_leaves_stays() -> None:
    text = in_kernel(f"p: {T} = load x\nstore y p")
    check_pass(expand, text, text)


def test_the_innermost_scope_wins_and_scopes_are_numbered() -> None:
    check_pass(
        resolve_schedules,
        work("""
  window[mode="STALL", tasks=8] {
    dispatch[lane=mod(position(), lanes()), lanes=4, policy="round_robin"] {
      combine {
        part {
          dispatch[lane=mod(position(), lanes()), lanes=2, policy="round_robin"] {
            task k[](y=X[0, 0 :+ 8, 0 :+ 8])
          }
        }
        part {
          task k[](y=X[1, 0 :+ 8, 0 :+ 8])
        }
      }
    }
  }
  task k[](y=X[2, 0 :+ 8, 0 :+ 8])
"""),
        work("""
  combine {
    part {
      task[dispatch=[1 2 false mod(position(), lanes())], window=[0 8 0 "STALL"]] k[](y=X[0, 0 :+ 8, 0 :+ 8])
    }
    part {
      task[dispatch=[0 4 false mod(position(), lanes())], window=[0 8 0 "STALL"]] k[](y=X[1, 0 :+ 8, 0 :+ 8])
    }
  }
  task k[](y=X[2, 0 :+ 8, 0 :+ 8])
"""),
        stage="resolved",
    )


def test_proofs_are_written_down() -> None:
    check_pass(
        infer_dependences,
        work("""
  parallel_for i in i: Dense(4) {
    task k[i](y=X[i, 0 :+ 8, 0 :+ 8])
  }
  parallel_for j in j: Dense(4) {
    task k[j](y=X[mod(mul(j, j), 4), 0 :+ 8, 0 :+ 8])
  }
"""),
        work("""
  parallel_for[proof="independent"] i in i: Dense(4) {
    task[tracked=[0]] k[i](y=X[i, 0 :+ 8, 0 :+ 8])
  }
  parallel_for[proof="unknown"] j in j: Dense(4) {
    task[tracked=[0]] k[j](y=X[mod(mul(j, j), 4), 0 :+ 8, 0 :+ 8])
  }
"""),
    )


def test_what_nothing_conflicts_with_is_not_tracked() -> None:
    check_pass(
        infer_dependences,
        work("  seq_for i in i: Dense(4) {\n    task k[i](y=X[0, 0 :+ 8, 0 :+ 8])\n  }"),
        work("  seq_for i in i: Dense(4) {\n    task k[i](y=X[0, 0 :+ 8, 0 :+ 8])\n  }"),
    )


READS = """workload w {{
  tensor X: f32[8,8,8]
  tensor N: i32[1,8]
  tensor M: i32[8]
  kernel k "k" (y: out f32<8x8>) {{
    a: f32<8x8> = full[cols=8, rows=8] 1.0:f32
    store y a
  }}
  kernel c "c" (y: out i32<1x8>) {{
    a: i32<1x8> = full[cols=8, rows=1] 2:i32
    store y a
  }}
{body}
}}"""


def reading(body: str) -> str:
    return READS.format(body=body.strip("\n"))


def test_reads_and_gathers_of_what_tasks_write_wait_and_those_tasks_are_tracked() -> None:
    check_pass(
        infer_dependences,
        reading("""
  m: i64 = item M[0]
  task c[](y=N[0 :+ 1, 0 :+ 8])
  n: i64 = reduce_sum N[0, 0 :+ 8]
  seq_for i in i: Range(n) {
    task k[i](y=X[m, gather(N[0, 0 :+ 8]), 0 :+ 8])
    task k[i](y=X[m, gather(M[0 :+ 8]), 0 :+ 8])
  } while {
    e: i64 = item N[0, i]
    f: bool = s.lt e 3:i64
    yield f
  }
"""),
        reading("""
  m: i64 = item M[0]
  task[tracked=[0]] c[](y=N[0 :+ 1, 0 :+ 8])
  n: i64 = reduce_sum[wait=true] N[0, 0 :+ 8]
  seq_for i in i: Range(n) {
    task[tracked=[0], waits=[0]] k[i](y=X[m, gather(N[0, 0 :+ 8]), 0 :+ 8])
    task[tracked=[0]] k[i](y=X[m, gather(M[0 :+ 8]), 0 :+ 8])
  } while {
    e: i64 = item[wait=true] N[0, i]
    f: bool = s.lt e 3:i64
    yield f
  }
"""),
    )


def test_explicit_dependences_track_only_what_reads_wait_for() -> None:
    check_pass(
        infer_dependences,
        reading("""
  deps[mode="explicit"] {
    t: task = task k[](y=X[0, 0 :+ 8, 0 :+ 8])
    task[after=["t"]] k[](y=X[0, 0 :+ 8, 0 :+ 8])
    task c[](y=N[0 :+ 1, 0 :+ 8])
    n: i64 = item N[0, 0]
  }
"""),
        reading("""
  deps[mode="explicit"] {
    t: task = task k[](y=X[0, 0 :+ 8, 0 :+ 8])
    task[after=["t"]] k[](y=X[0, 0 :+ 8, 0 :+ 8])
    task[tracked=[0]] c[](y=N[0 :+ 1, 0 :+ 8])
    n: i64 = item[wait=true] N[0, 0]
  }
"""),
    )


def test_what_explicit_dependences_leave_unordered_is_no_plan() -> None:
    two = "task k[](y=X[0, 0 :+ 8, 0 :+ 8])\n" * 2
    with pytest.raises(RaceError, match="PTO203"):
        infer_dependences(parse(reading(f'deps[mode="explicit"] {{ {two} }}')))


def test_dependences_are_resolved_for_the_whole_workload() -> None:
    check_pass(
        resolve_schedules,
        work("""
  dispatch[lane=mod(position(), lanes()), lanes=4, policy="round_robin"] {
    deps[mode="hybrid"] {
      task k[](y=X[0, 0 :+ 8, 0 :+ 8])
    }
  }
"""),
        work("  task[dispatch=[0 4 false mod(position(), lanes())]] k[](y=X[0, 0 :+ 8, 0 :+ 8])"),
        stage="resolved",
    )
