"""What differs between devices: what rules allow and refuse, of wir as text. What users do wrong is in tests/test_errors.py."""

import pytest

from pto_wsp import LayoutIncompatibleError, PtoError, TypeCheckError
from pto_wsp.ir.text import parse
from pto_wsp.ir.variance import check_layouts, combines
from pto_wsp.ir.verify import verify

KERNELS = """
  kernel copy "copy" (x: in f32<1x8>, y: out f32<1x8>) {
    a: f32<1x8 of x.rows x x.cols> = load x
    store y a
  }
  kernel add "add" (x: in f32<1x8>, y: inout f32<1x8>) {
    a: f32<1x8 of y.rows x y.cols> = load y
    b: f32<1x8 of x.rows x x.cols> = load x
    c: f32<1x8 of y.rows x y.cols> = add a b
    store y c
  }
  kernel twice "twice" (y: inout f32<1x8>) {
    a: f32<1x8 of y.rows x y.cols> = load y
    b: f32<1x8 of y.rows x y.cols> = add a a
    store y b
  }
  kernel larger "larger" (x: in f32<1x8>, y: inout f32<1x8>) {
    a: f32<1x8 of y.rows x y.cols> = load y
    b: f32<1x8 of x.rows x x.cols> = load x
    c: f32<1x8 of x.rows x x.cols> = maximum b a
    store y c
  }
  kernel hand "hand" (x: in f32<1x8>, y: inout f32<1x8>, z: out f32<1x8>) {
    a: f32<1x8 of y.rows x y.cols> = load y
    b: f32<1x8 of x.rows x x.cols> = load x
    c: f32<1x8 of y.rows x y.cols> = add a b
    store y c
    store z c
  }
  kernel inner "inner" (x: in f32<1x8>, y: inout f32<1x8>, z: out f32<1x8>) {
    a: f32<1x8 of y.rows x y.cols> = load y
    b: f32<1x8 of x.rows x x.cols> = load x
    c: f32<1x8 of y.rows x y.cols> = add a b
    store y c
    fori_loop 0:i64 1:i64 as i {
      d: f32<1x8 of y.rows x y.cols> = load y
      store z d
      yield
    }
  }
  kernel fill "fill" (s: f64, y: out f64<1x8>) {
    a: f64<1x8> = full[cols=8, rows=1] s
    store y a
  }"""
TENSORS = """
  tensor x: f32[4,8] @ [S(i), R]
  tensor w: f32[4,8] @ [R, R]
  tensor n: i32[4] @ [S(i)]
  tensor m: i32[4] @ [R]
  temporary t: f32[4,8]
  temporary u: f32[4,8]
  temporary r: f32[4,8] @ [R, R]
  temporary s: f32[4,8] @ [S(i), R]
  temporary d: f64[4,8] @ [R, R]
  temporary y: f32[4,8] @ [R, R] + sum(i)
  temporary z: f32[4,8] @ [R, R] + max(i)"""
ROW = "[0 :+ 1, 0 :+ 8]"


def check(body: str) -> None:
    wir = parse(f"workload v {{\n  mesh i=2 j=2{TENSORS}{KERNELS}\n{body}\n}}")
    verify(wir)
    check_layouts(wir, None)


def copy(a: str, b: str) -> str:
    return f"task copy[](x={a}{ROW}, y={b}{ROW})"


def both(name: str, a: str, b: str) -> str:
    return f"task {name}[](x={a}{ROW}, y={b}{ROW})"


ALLOWED = {
    "to what the axis divides": copy("x", "s"),
    "to what is pending": copy("x", "y"),
    "of what is the same": copy("w", "r"),
    "of what is the same to what is divided": copy("w", "s"),
    "a sum that is added to": copy("w", "y") + "\n" + both("add", "x", "y"),
    "a maximum": (
        "parallel_for a in a: Dense(4) {\n  task copy[a](x=w[a :+ 1, 0 :+ 8], y=z[a :+ 1, 0 :+ 8])\n}\n"
        + both("larger", "x", "z")
    ),
    "a device's own": copy("x", "t") + "\n" + copy("t", "s"),
    "own but the same": copy("w", "t") + "\n" + copy("t", "r"),
    "extents that are the same": f"k: i64 = item m[0]\nparallel_for a in a: Range(k) {{\n{copy('w', 'r')}\n}}",
    "extents that differ": f"k: i64 = item n[0]\nparallel_for a in a: Range(k) {{\n{copy('w', 's')}\n}}",
    "gathers of what is divided": "task copy[](x=w[gather(n[0 :+ 1]), 0 :+ 8], y=s[0 :+ 1, 0 :+ 8])",
    "equal extents of R and S": "parallel_for a in a: Dense(4) {\n  task copy[a](x=w[a :+ 1, 0 :+ 8], y=s[a :+ 1, 0 :+ 8])\n}",
    "a slot of what is the same": f"k: i64 = item m[0]\nslot_set[slot=0] k\nl: i64 = slot_get[slot=0]\nparallel_for a in a: Range(l) {{\n{copy('w', 'r')}\n}}",
}


@pytest.mark.parametrize("what", ALLOWED)
def test_allowed(what: str) -> None:
    check(ALLOWED[what])


V, P = LayoutIncompatibleError, TypeCheckError
REFUSED: dict[str, tuple[type[PtoError], str, str]] = {
    "to what is the same": (V, "PTO893", copy("x", "r")),
    "by way of a device's own": (V, "PTO893", copy("x", "t") + "\n" + copy("t", "u") + "\n" + copy("u", "r")),
    "what a loop brings back": (
        V,
        "PTO893",
        f"seq_for a in a: Dense(3) {{\n{copy('t', 'r')}\n{copy('u', 't')}\n{copy('x', 'u')}\n}}",
    ),
    "extents": (V, "PTO893", f"k: i64 = item n[0]\nparallel_for a in a: Range(k) {{\n{copy('w', 'r')}\n}}"),
    "conditions": (
        V,
        "PTO893",
        f"k: i64 = item n[0]\nc: bool = s.lt k 3:i64\ncond c {{\n  then {{\n{copy('w', 'r')}\n  }}\n}}",
    ),
    "the branch not taken": (
        V,
        "PTO893",
        f"k: i64 = item n[0]\nc: bool = s.lt k 3:i64\ncond c {{\n  then {{\n  }}\n  else {{\n{copy('w', 'r')}\n  }}\n}}",
    ),
    "indices that are read": (V, "PTO893", "k: i64 = item n[0]\ntask copy[](x=w[k :+ 1, 0 :+ 8], y=r[0 :+ 1, 0 :+ 8])"),
    "where it is written": (V, "PTO893", "k: i64 = item n[0]\ntask copy[](x=w[0 :+ 1, 0 :+ 8], y=r[k :+ 1, 0 :+ 8])"),
    "gathers": (V, "PTO893", "task copy[](x=w[gather(n[0 :+ 1]), 0 :+ 8], y=r[0 :+ 1, 0 :+ 8])"),
    "scalars": (V, "PTO893", "k: f64 = item x[0, 0]\ntask fill[](s=k, y=d[0 :+ 1, 0 :+ 8])"),
    "slots": (
        V,
        "PTO893",
        f"k: i64 = item n[0]\nslot_set[slot=0] k\nl: i64 = slot_get[slot=0]\nparallel_for a in a: Range(l) {{\n{copy('w', 'r')}\n}}",
    ),
    "slots set in a branch": (
        V,
        "PTO893",
        (
            "k: i64 = item n[0]\nc: bool = s.lt k 3:i64\ncond c {\n  then {\n    slot_set[slot=0] 1:i64\n  }\n}\n"
            f"l: i64 = slot_get[slot=0]\nparallel_for a in a: Range(l) {{\n{copy('w', 'r')}\n}}"
        ),
    ),
    "while": (
        V,
        "PTO893",
        f"seq_for a in a: Dense(3) {{\n{copy('w', 'r')}\n}} while {{\n  k: i64 = item n[0]\n  c: bool = s.lt k 3:i64\n  yield c\n}}",
    ),
    "tokens": (
        V,
        "PTO893",
        f"""pipeline[name="p", timed=false] {{
    c: channel<i64> = channel[depth=1, initial=0, latency=0, name="c", response=0]
    process[consumes=[], name="a", produces=["c"]] {{
      k: i64 = item n[0]
      send c k
    }}
    process[consumes=["c"], name="b", produces=[]] {{
      l: i64 = recv c
      parallel_for a in a: Range(l) {{
        {copy("w", "r")}
      }}
    }}
  }}""",
    ),
    "tokens after others under a condition": (
        V,
        "PTO893",
        f"""pipeline[name="p", timed=false] {{
    c: channel<i64> = channel[depth=1, initial=0, latency=0, name="c", response=0]
    process[consumes=[], name="a", produces=["c"]] {{
      seq_for a in a: Dense(3) {{
        send c 1:i64
      }}
    }}
    process[consumes=["c"], name="b", produces=[]] {{
      k: i64 = item n[0]
      d: bool = s.lt k 3:i64
      cond d {{
        then {{
          m1: i64 = recv c
        }}
      }}
      l: i64 = recv c
      parallel_for b in b: Range(l) {{
        {copy("w", "r")}
      }}
    }}
  }}""",
    ),
    "a sum of what is the same": (V, "PTO893", copy("w", "y")),
    "to a sum, what is the same": (V, "PTO893", copy("x", "y") + "\n" + both("add", "w", "y")),
    "a sum that is handed on": (P, "PTO892", copy("x", "y") + f"\ntask hand[](x=x{ROW}, y=y{ROW}, z=s{ROW})"),
    "a sum that is read": (P, "PTO892", copy("x", "y") + "\n" + copy("y", "s")),
    "a sum that is doubled": (P, "PTO892", copy("x", "y") + f"\ntask twice[](y=y{ROW})"),
    "a maximum that begins with zeros": (P, "PTO892", both("larger", "x", "z")),
    "a sum of which the larger is taken": (P, "PTO892", copy("x", "y") + "\n" + both("larger", "x", "y")),
    "a maximum that is added to": (P, "PTO892", copy("x", "z") + "\n" + both("add", "x", "z")),
    "an element of a sum": (P, "PTO892", copy("x", "y") + "\nk: f64 = item y[0, 0]"),
    "R and S of other extents": (
        V,
        "PTO891",
        "parallel_for a in a: Dense(4) {\n  task copy[a](x=b[a :+ 1, 0 :+ 8], y=s[a :+ 1, 0 :+ 8])\n}",
    ),
    "two axes": (
        V,
        "PTO891",
        "parallel_for a in a: Dense(4) {\n  task copy[a](x=o[a :+ 1, 0 :+ 8], y=s[a :+ 1, 0 :+ 8])\n}",
    ),
    "two axes in tiles": (
        V,
        "PTO891",
        "parallel_for a in a: Tiles(4, 1) {\n  task copy[a](x=o[tile(a, 1, 4), 0 :+ 8], y=s[tile(a, 1, 4), 0 :+ 8])\n}",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, code, body = REFUSED[what]
    more = "\n  tensor b: f32[8,8] @ [R, R]\n  tensor o: f32[4,8] @ [S(j), R]"
    monkeypatch.setitem(globals(), "TENSORS", TENSORS + more)
    with pytest.raises(cls, match=code):
        check(body)


def test_flattened_indices_go_over_no_dimension_alone() -> None:
    """Rows b*2 + t of what is divided, and row t of a table that all devices have."""
    check(
        "parallel_for a in a: Dense(2) {\n  parallel_for t1 in t1: Dense(2) {\n    task copy[a, t1](x=w[t1 :+ 1, 0 :+ 8], y=s[2*a + t1 :+ 1, 0 :+ 8])\n  }\n}"
    )


def test_what_combines() -> None:
    wir = parse(f"workload v {{{KERNELS}\n}}")
    found = {
        (k, op)
        for k in ("add", "twice", "larger", "copy", "hand", "inner")
        for op in ("sum", "max", "min")
        if combines(wir.kernel(k), "y", op)
    }
    assert found == {("add", "sum"), ("larger", "max")}
