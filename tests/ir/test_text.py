"""wir text: what it shows it reads back, and anything else is an error with its place."""

import contextlib
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import IRConversionError, PtoError
from pto_wsp.ir import expr
from pto_wsp.ir.core import (
    At,
    Axis,
    Direction,
    DType,
    Eqn,
    IndexType,
    Kernel,
    KernelParam,
    Literal,
    Region,
    ScalarType,
    Slice,
    TensorType,
    TileType,
    Var,
    View,
    Wir,
)
from pto_wsp.ir.text import parse, parse_kernel, show, show_kernel
from pto_wsp.ir.verify import verify
from pto_wsp.passes.discharge import discharge

names = st.text(min_size=1, max_size=8) | st.sampled_from(
    [
        "$(...)",
        "$",
        "$x",
        '"',
        "\\",
        "a b",
        "é",
        "中",
        "\n",
        "\x00",
        "tile",
        "min",
        "inf",
        "nan",
        "true",
        "f32",
        "in",
        "part",
        "x16",
    ]
)
small = st.integers(-5, 5)


@st.composite
def exprs(draw, depth: int = 0) -> expr.Expr:
    kind = draw(st.sampled_from(("const", "var", "sum", "scale", *expr.OPS) if depth < 4 else ("const", "var")))
    if kind == "const":
        return expr.const(draw(small | st.integers(-(2**63), 2**63 - 1)))
    if kind == "var":
        return expr.var(draw(names))
    a = draw(exprs(depth + 1))
    if kind == "scale":
        return a * draw(small)
    b = draw(exprs(depth + 1))
    return a + b if kind == "sum" else expr.apply(kind, a, b)


@st.composite
def wirs(draw) -> Wir:
    """A wir of arbitrary names and expressions; it need not keep any rule but those of the text."""
    tensor, kernel, label, loop, axis, name, param, scalar = (draw(names) for _ in range(8))
    symbols = tuple(draw(st.lists(names, max_size=2, unique=True)))
    tile = TileType(DType.F32, 2, 3, f"{param}.rows", f"{param}.cols")
    params = (KernelParam(param, Direction.OUT, tile), KernelParam(scalar + "s", Direction.IN, ScalarType(DType.F16)))
    k = Kernel(kernel, label, params, Region((), ()))
    view = View(tensor, (At(draw(exprs())), Slice(draw(exprs()), 2)))
    value = draw(st.floats(width=16) | st.sampled_from([0.0, -0.0]))
    task = Eqn(
        "task",
        (),
        (view, draw(exprs()) if draw(st.booleans()) else Literal(value, DType.F16)),
        {"kernel": kernel, "coords": (draw(exprs()),)},
    )
    inner = Eqn("window", params={"mode": draw(names), "tasks": 3}, regions=(Region((), (task,)),))
    made = Axis("Dense", axis, draw(exprs()))
    outer = Eqn(
        "parallel_for",
        params={"axis": made, "loop": draw(names)},
        regions=(Region((Var(loop, IndexType()),), (inner,)),),
    )
    tensors = (Var(tensor, TensorType(DType.BF16, (draw(exprs()), expr.const(0)))),)
    return Wir(name, symbols, tensors, (k,), Region((), (outer,)))


@given(wirs())
def test_any_names_and_expressions_round_trip(wir: Wir) -> None:
    assert parse(show(wir)) == wir
    assert show(parse(show(wir))) == show(wir)


@given(exprs(), st.lists(small, min_size=3, max_size=3))
def test_normal_form_keeps_the_value(e: expr.Expr, values: list[int]) -> None:
    env = {n: values[k % 3] for k, n in enumerate(sorted(e.names()))}
    moved = e.substitute({n: expr.const(v) for n, v in env.items()})
    try:
        want = e.value(env)
    except ZeroDivisionError:
        return
    assert moved.value({}) == want
    assert (e + e - e) == e


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e-07", "-0.0", "5e-324", "1.7976931348623157e+308", "3.0"])
def test_numbers_round_trip(value: str) -> None:
    text = f'kernel k "k" (y: out f32<1x1>) {{\n  a: f32<1x1> = full[cols=1, rows=1] {value}:f32\n  store y a\n}}'
    assert show_kernel(parse_kernel(text)) == text


SAMPLE = """workload w {
  symbol $n
  tensor X: f32[$n,8,8]
  kernel k "a kernel" (x: in f32<8x8>, s: f32, y: out f32<8x8>) {
    a: f32<8x8 of x.rows x x.cols> = load x
    b: f32<8x8 of x.rows x x.cols> = fma a s 0.5:f32
    c: i32<8x8> = iota[axis=1, cols=8, rows=8]
    d: f32<8x8> = cast[to=f32] c
    e: f32<8x8 of x.rows x x.cols> = add b d
    store y e
  }
  sequential {
    part {
      dispatch[lane=mod(position(), lanes()), lanes=3, policy="round_robin"] {
        parallel_for i "b" in batch: DenseDyn($n) {
          task k[i](x=X[i, 0 :+ 8, tile(0, 8, 8)], s=(2*i - 1), y=X[$n + mod(i, 2), 0 :+ 8, 0 :+ 8])
        }
      }
    }
  }
}"""


DATA = """workload w {
  symbol $n
  tensor X: f32[$n,8]
  tensor idx: i32[8]
  tensor reals: f64[4]
  temporary T: f32[8,8]
  result Z: f32[8,8]
  ragged seq: outer=$n lengths="idx"
  sparse routes: outer=4 indptr="idx" indices="idx" inner=2*$n + 1
  kernel k "k" (x: in f32<8x8>, s: f32, y: out f32<8x8>) {
    a: f32<8x8 of x.rows x x.cols> = load x
    store y a
  }
  deps[mode="hybrid"] {
    n: i64 = item idx[3]
    m: i64 = s.add[checked=true] n -3:i64
    f: f64 = reduce_max[wait=true] reals[span(m, 2)]
    g: u64 = s.cast[to=u64] f
    slot_set[slot=63] g
    h: u64 = slot_get[slot=63]
    c: bool = s.lt f inf:f64
    cond c {
      then {
        t: task = task[tracked=[0 2]] k[n](x=X[gather(idx[0 :+ 8]), 0 :+ 8], s=f, y=T[0 :+ 8, 0 :+ 8])
      }
      else {
        parallel_for e in routes: Sparse(m - n) {
        }
      }
    }
    seq_for i "j" in seq: Tiles(n, 8) {
      task[after=["t"]] k[i, 2*n](x=X[tile(i, 8, n, m), gather(idx[tile(0, 8, 8)])], s=(i + n), y=Z[0 :+ 8, 0 :+ 8])
    } while {
      d: bool = reduce_any idx[tile(i, 2, n)]
      p: bool = s.where d true:bool c
      yield p
    }
  }
  return [Z]
}"""


@pytest.mark.parametrize("sample", [SAMPLE, DATA, str(discharge(parse(DATA)))])
def test_the_samples_round_trip(sample: str) -> None:
    wir = parse(sample)
    assert show(wir) == sample
    verify(wir, "pure" if "carry" in sample else "traced")


@pytest.mark.parametrize("sample", [SAMPLE, DATA, str(discharge(parse(DATA)))])
def test_damaged_text_is_an_error_and_nothing_else(sample: str) -> None:
    rng = random.Random(1)
    stage = "pure" if "carry" in sample else "traced"
    tokens = re.findall(r"\s+|[A-Za-z_.0-9]+|.", sample)
    odd = [
        "0",
        "-1",
        "9" * 30,
        "inf",
        "$",
        '"',
        "x.rows",
        "true",
        "f16",
        "[",
        "add",
        "store",
        "cast",
        "task",
        "part",
        "cond",
        "yield",
        "carry",
        "item",
        "s.add",
        "X",
        "n",
        "\x00",
        "é",
    ]
    for _ in range(1500):
        changed = list(tokens)
        for _ in range(rng.randint(1, 3)):
            i = rng.randrange(len(changed))
            changed[i : i + rng.randint(0, 1)] = rng.choice(([], [rng.choice(odd)], [rng.choice(tokens)]))
        with contextlib.suppress(PtoError):
            verify(parse("".join(changed)), stage)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "line 1, column 1"),
        ("workload", "line 1, column 9"),
        ("workload w {\n  tensor X f32[1]\n}", "line 2, column 12"),
        ("workload w {\n  ?\n}", "line 2, column 3"),
        ("workload w {\n}\nmore", "line 3, column 1"),
        ('workload "\\q" {\n}', "line 1, column 10"),
        ("workload w { tensor X: f32[" + "min(1, " * 100 + "1" + ")" * 100 + "] }", "too deeply nested"),
        ("workload w { tensor X: f32[" + "9" * 50 + "] }", "expected an integer"),
    ],
)
def test_an_error_says_where(text: str, place: str) -> None:
    with pytest.raises(IRConversionError, match=re.escape(place)):
        parse(text)


KERNEL = """workload w {{
  tensor X: f32[8,8]
  kernel k "k" (x: in f32<8x8>, y: out f32<8x8>) {{
    {kernel}
  }}
  {body}
}}"""
LOAD = "a: f32<8x8 of x.rows x x.cols> = load x"
TASK = "task k[](x=X[0 :+ 8, 0 :+ 8], y=X[0 :+ 8, 0 :+ 8])"


@pytest.mark.parametrize(
    ("kernel", "body", "why"),
    [
        (LOAD, TASK, "does not write y"),
        (f"{LOAD}\nstore x a\nstore y a", TASK, "is an input"),
        ("a: f32<8x8 of y.rows x y.cols> = load y\nstore y a", TASK, "read before it is written"),
        (f"{LOAD}\n{LOAD}\nstore y a", TASK, "bound twice"),
        ("a: f32<8x8> = load x\nstore y a", TASK, "its type is"),
        (f"{LOAD}\nb: f32<8x8 of x.rows x x.cols> = add a\nstore y b", TASK, "operands or parameters"),
        ("a: f32<8x8> = full 1.0:f32\nstore y a", TASK, "operands or parameters"),
        (f"{LOAD}\nstore\nstore y a", TASK, "needs a parameter"),
        (f"{LOAD}\nstore y a", "task k[i](x=X[0 :+ 8, 0 :+ 8], y=X[0 :+ 8, 0 :+ 8])", "i is not in scope"),
        (f"{LOAD}\nstore y a", "task k[](x=X[0 :+ 8, 0 :+ 7], y=X[0 :+ 8, 0 :+ 8])", "does not fit"),
        (f"{LOAD}\nstore y a", "task k[](x=Z[0 :+ 8, 0 :+ 8], y=X[0 :+ 8, 0 :+ 8])", "no tensor Z"),
        (f"{LOAD}\nstore y a", "task k[](x=X[0 :+ 8], y=X[0 :+ 8, 0 :+ 8])", "dimensions"),
        (f"{LOAD}\nstore y a", 'window[mode="GIVE UP", tasks=1] { }', "mode is GIVE UP"),
        (f"{LOAD}\nstore y a", 'dispatch[policy="affinity", lanes=2] { }', "lane is missing"),
        (f"{LOAD}\nstore y a", "parallel_for i in i: Round(4) { }", "a Round axis"),
        (f"{LOAD}\nstore y a", "combine { }", "needs regions"),
        (f"{LOAD}\nstore y a", "parallel_for i in i: Dense(4) { } seq_for i in i: Dense(4) { }", "bound twice"),
    ],
)
def test_wir_that_breaks_a_rule(kernel: str, body: str, why: str) -> None:
    with pytest.raises(IRConversionError, match=why):
        verify(parse(KERNEL.format(kernel=kernel, body=body)))


def test_names_stand_once() -> None:
    for text in ("symbol $n\n symbol $n", "tensor X: f32[1]\n tensor X: f32[1]"):
        with pytest.raises(IRConversionError, match="share a name"):
            verify(parse(f"workload w {{ {text} }}"))
