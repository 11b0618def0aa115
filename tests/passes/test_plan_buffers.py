"""Where temporaries are acquired and released."""

from itertools import pairwise

import numpy as np
import pytest

from passes.check import check_pass
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.passes.plan_buffers import plan_buffers

WORK = """workload w {{
  symbol $n
  tensor X: f32[4,8]
  tensor Y: f32[4,8]
{tensors}
  kernel copy "copy" (x: in f32<1x8>, y: out f32<1x8>) {{
    a: f32<1x8 of x.rows x x.cols> = load x
    store y a
  }}
  kernel add "add" (x: in f32<1x8>, y: inout f32<1x8>) {{
    a: f32<1x8 of x.rows x x.cols> = load x
    b: f32<1x8 of y.rows x y.cols> = load y
    c: f32<1x8 of x.rows x x.cols> = add a b
    store y c
  }}
{body}
}}"""
ONE = "  temporary T: f32[4,8]"


def check(before: str, after: str, tensors: str = ONE) -> None:
    check_pass(
        plan_buffers,
        WORK.format(body=before.strip("\n"), tensors=tensors),
        WORK.format(body=after.strip("\n"), tensors=tensors),
        stage="lowered",
    )


def test_around_the_first_and_the_last_use_and_outside_of_parallel_loops() -> None:
    check(
        """
  task copy[](x=X[0 :+ 1, 0 :+ 8], y=Y[1 :+ 1, 0 :+ 8])
  parallel_for i in i: Dense(4) {
    task copy[i](x=X[i :+ 1, 0 :+ 8], y=T[i :+ 1, 0 :+ 8])
  }
  parallel_for j in j: Dense(4) {
    task copy[j](x=T[j :+ 1, 0 :+ 8], y=Y[j :+ 1, 0 :+ 8])
  }
  task copy[](x=X[0 :+ 1, 0 :+ 8], y=Y[1 :+ 1, 0 :+ 8])
""",
        """
  task copy[](x=X[0 :+ 1, 0 :+ 8], y=Y[1 :+ 1, 0 :+ 8])
  acquire T
  parallel_for i in i: Dense(4) {
    task copy[i](x=X[i :+ 1, 0 :+ 8], y=T[i :+ 1, 0 :+ 8])
  }
  parallel_for j in j: Dense(4) {
    task copy[j](x=T[j :+ 1, 0 :+ 8], y=Y[j :+ 1, 0 :+ 8])
  }
  release T
  task copy[](x=X[0 :+ 1, 0 :+ 8], y=Y[1 :+ 1, 0 :+ 8])
""",
    )


def test_reads_and_gathers_are_uses_and_unused_temporaries_are_not_there() -> None:
    check(
        """
  a: f64 = item T[0, 0]
  task copy[](x=X[gather(I[0 :+ 1]), 0 :+ 8], y=Y[0 :+ 1, 0 :+ 8])
""",
        """
  acquire[zero=true] T
  a: f64 = item T[0, 0]
  release T
  acquire[zero=true] I
  task copy[](x=X[gather(I[0 :+ 1]), 0 :+ 8], y=Y[0 :+ 1, 0 :+ 8])
  release I
""",
        "  temporary T: f32[4,8]\n  temporary I: i32[4]\n  temporary U: f32[4,8]",
    )


ROW = "T[0 :+ 1, 0 :+ 8]"
SMALL = "  temporary T: f32[1,8]"


def test_what_each_iteration_writes_before_it_reads_is_acquired_inside() -> None:
    check(
        f"""
  seq_for i in i: Dense(4) {{
    task copy[i](x=X[i :+ 1, 0 :+ 8], y={ROW})
    task copy[i](x={ROW}, y=Y[i :+ 1, 0 :+ 8])
  }}
""",
        f"""
  seq_for i in i: Dense(4) {{
    acquire T
    task copy[i](x=X[i :+ 1, 0 :+ 8], y={ROW})
    task copy[i](x={ROW}, y=Y[i :+ 1, 0 :+ 8])
    release T
  }}
""",
        SMALL,
    )


WHOLE = [
    ("Dense(4)", "T[{} :+ 1, 0 :+ 8]", "f32[4,8]"),
    ("DenseDyn($n)", "T[{}, 0 :+ 1, 0 :+ 8]", "f32[$n,1,8]"),
    ("Tiles($n, 1)", "T[tile({}, 1, $n), 0 :+ 8]", "f32[$n,8]"),
    ("Dense(2)", "T[0 :+ 1, 8*{} :+ 8]", "f32[1,16]"),
    ("Dense(3)", "T[0 :+ 1, 0 :+ 8]", "f32[1,8]"),
    ("Dense(3)", "T[0 :+ 1, tile(0, 8, 5)]", "f32[1,5]"),
]
PART = [
    ("Dense(3)", "T[{} :+ 1, 0 :+ 8]", "f32[4,8]"),
    ("Dense(4)", "T[{} :+ 1, 0 :+ 8]", "f32[$n,8]"),
    ("DenseDyn($n)", "T[0 :+ 1, 0 :+ 8]", "f32[1,8]"),
    ("Dense(2)", "T[0 :+ 1, 0 :+ 8]", "f32[2,8]"),
    ("Dense(2)", "T[{}, {} :+ 1, 0 :+ 8]", "f32[2,2,8]"),
    ("Dense(4)", "T[mod({}, 2) :+ 1, 0 :+ 8]", "f32[2,8]"),
    ("Tiles($n, 1)", "T[tile({}, 1, $n, 1), 0 :+ 8]", "f32[$n,8]"),
]


@pytest.mark.parametrize(("axis", "view", "type_", "inside"), [(*c, True) for c in WHOLE] + [(*c, False) for c in PART])
def test_a_nest_of_loops_writes_all_of_it_or_not(axis: str, view: str, type_: str, inside: bool) -> None:
    wir = parse(
        WORK.format(
            tensors=f"  temporary T: {type_}",
            body=f"""
  seq_for i in i: Dense(4) {{
    parallel_for j in j: {axis} {{
      task copy[](x=X[0 :+ 1, 0 :+ 8], y={view.replace("{}", "j")})
    }}
    parallel_for k in k: {axis} {{
      task copy[](x={view.replace("{}", "k")}, y=Y[0 :+ 1, 0 :+ 8])
    }}
  }}""",
        )
    )
    (loop,) = (e for e in plan_buffers(wir).body.eqns if e.regions)
    assert (loop.regions[0].eqns[0].prim == "acquire") is inside


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"add[i](x=X[i :+ 1, 0 :+ 8], y={ROW})", f"copy[i](x={ROW}, y=Y[i :+ 1, 0 :+ 8])"),
        (f"copy[i](x={ROW}, y=Y[i :+ 1, 0 :+ 8])", f"copy[i](x=X[i :+ 1, 0 :+ 8], y={ROW})"),
    ],
)
def test_what_the_next_iteration_reads_is_acquired_outside(first: str, second: str) -> None:
    loop = f"  seq_for i in i: Dense(4) {{\n    task {first}\n    task {second}\n  }}"
    check(loop, f"  acquire[zero=true] T\n{loop}\n  release T", SMALL)


def test_conditions_branches_and_nests_that_read_other_elements_stay_inside() -> None:
    for loop in (
        f"""  seq_for i in i: Dense(4) {{
    task copy[i](x=X[i :+ 1, 0 :+ 8], y={ROW})
  }} while {{
    a: f64 = item T[0, 0]
    b: bool = s.ne a 0.0:f64
    yield b
  }}""",
        f"""  seq_for i in i: Dense(4) {{
    a: bool = s.lt (i) 2:i64
    cond a {{
      then {{
        task copy[i](x=X[i :+ 1, 0 :+ 8], y={ROW})
      }}
    }}
    task copy[i](x={ROW}, y=Y[i :+ 1, 0 :+ 8])
  }}""",
        """  seq_for i in i: Dense(4) {
    seq_for j in j: Dense(1) {
      task copy[i](x=X[i :+ 1, 0 :+ 8], y=T[j :+ 1, 0 :+ 8])
      task copy[i](x=T[0 :+ 1, 0 :+ 8], y=Y[i :+ 1, 0 :+ 8])
    }
  }""",
    ):
        check(loop, f"  acquire[zero=true] T\n{loop}\n  release T", SMALL)


def test_a_branch_and_a_part_have_their_own() -> None:
    check(
        f"""
  combine {{
    part {{
      cond true:bool {{
        then {{
          task copy[](x={ROW}, y=Y[0 :+ 1, 0 :+ 8])
        }}
        else {{
          task copy[](x=U[0 :+ 1, 0 :+ 8], y=Y[0 :+ 1, 0 :+ 8])
        }}
      }}
    }}
    part {{
      task copy[](x=Y[0 :+ 1, 0 :+ 8], y=U[0 :+ 1, 0 :+ 8])
    }}
  }}
""",
        f"""
  combine {{
    part {{
      acquire[zero=true] U
      cond true:bool {{
        then {{
          acquire[zero=true] T
          task copy[](x={ROW}, y=Y[0 :+ 1, 0 :+ 8])
          release T
        }}
        else {{
          task copy[](x=U[0 :+ 1, 0 :+ 8], y=Y[0 :+ 1, 0 :+ 8])
        }}
      }}
    }}
    part {{
      task copy[](x=Y[0 :+ 1, 0 :+ 8], y=U[0 :+ 1, 0 :+ 8])
      release U
    }}
  }}
""",
        SMALL + "\n  temporary U: f32[1,8]",
    )


def test_a_chain_of_fifty_layers_holds_two_at_a_time() -> None:
    layers = 50
    tensors = "\n".join(f"  temporary T{k}: f32[4,8]" for k in range(layers))
    names = ["X", *(f"T{k}" for k in range(layers)), "Y"]
    loops = [
        f"  parallel_for i{k} in i{k}: Dense(4) {{\n    task copy[](x={a}[i{k} :+ 1, 0 :+ 8], y={b}[i{k} :+ 1, 0 :+ 8])\n  }}"
        for k, (a, b) in enumerate(pairwise(names))
    ]
    wir = plan_buffers(parse(WORK.format(tensors=tensors, body="\n".join(loops))))
    verify(wir, "lowered")
    held = most = 0
    for eqn in wir.body.eqns:
        held += {"acquire": 1, "release": -1}.get(eqn.prim, 0)
        most = max(most, held)
    assert (held, most) == (0, 2)


def test_a_lowered_workload_shows_parses_and_evaluates() -> None:
    body = f"  task copy[](x=X[1 :+ 1, 0 :+ 8], y={ROW})\n  task copy[](x={ROW}, y=Y[2 :+ 1, 0 :+ 8])"
    wir = plan_buffers(parse(WORK.format(tensors=SMALL, body=body)))
    assert parse(show(wir)) == wir
    arrays = {"X": np.arange(32, dtype=np.float32).reshape(4, 8), "Y": np.zeros((4, 8), np.float32)}
    evaluate(wir, arrays, {"n": 1})
    assert (arrays["Y"][2] == arrays["X"][1]).all()
