"""Text of kernels with loops, branches, scalars and regions, and what the verifier refuses of it."""

from textwrap import dedent, indent

import pytest

from pto_wsp import IRConversionError
from pto_wsp.errors import PtoError
from pto_wsp.ir.text import parse_kernel, show_kernel
from pto_wsp.ir.verify import verify_kernel

HEAD = 'kernel k "k" (x: in f32<4x8>, r: in f32[*,2,8], w: inout i32[9], n: i32, c: bool, y: out f32<4x8>) {\n'
T = "f32<4x8 of x.rows x x.cols>"
BEGIN = f"a: {T} = load x\nb: i64 = widen n\nd: bool = widen c\n"
END = "store y a"


def text(body: str, begin: str = BEGIN, end: str = END) -> str:
    return HEAD + indent(dedent(begin + body + ("\n" if body else "") + end), "  ") + "\n}"


LEGAL = [
    "fori_loop 0:i64 b as i {\n  yield\n}",
    f"e: {T}, f: i64 = fori_loop b 9:i64 a 0:i64 as i, t: {T}, u: i64 {{\n  g: i64 = s.add u i\n  yield t g\n}}",
    # what is whole may take the place of what is smaller
    f"z: f32<4x8> = full[cols=8, rows=4] 0.0:f32\ne: {T} = fori_loop 0:i64 b z as i, t: {T} {{\n  f: f32<4x8> = full[cols=8, rows=4] 1.0:f32\n  yield f\n}}",
    f"e: {T} = branch d {{\n  then {{\n    yield a\n  }}\n  else {{\n    f: {T} = exp a\n    yield f\n  }}\n}}",
    (
        'e: i64 = dim[of="r.0"]\nf: i64 = s.min e 4:i64\n'
        'g: f32<4x8 of f x 8> = load_part[cols=8, rows=4, vcols=8, vrows="f"] r 0:i64 1:i64 0:i64'
    ),
    "e: i64 = element w 8:i64\nf: i32 = narrow[to=i32] e\ng: i32<1x4> = full[cols=4, rows=1] f\nstore_part w g 5:i64",
    'e: f64 = element a 0:i64 b\ndebug_print[label="e \\"x\\""] e',
    'e: f32<4x8 of b x x.cols> = restrict[vcols="x.cols", vrows="b"] a',
]


@pytest.mark.parametrize("body", LEGAL)
def test_what_may_be_said(body: str) -> None:
    kernel = parse_kernel(text(body))
    verify_kernel(kernel)
    assert show_kernel(kernel) == text(body)


@pytest.mark.parametrize(
    "end",
    [
        "fori_loop 0:i64 2:i64 as i {\n  store y a\n  yield\n}",
        "branch d {\n  then {\n    store y a\n    yield\n  }\n  else {\n    store y a\n    yield\n  }\n}",
    ],
)
def test_outputs_that_are_surely_written(end: str) -> None:
    verify_kernel(parse_kernel(text("", end=end)))


BROKEN = [
    # scopes
    (f"fori_loop 0:i64 b as i {{\n  e: {T} = exp a\n  yield\n}}\nf: {T} = exp e", "e is not defined here"),
    (
        f"branch d {{\n then {{\n e: {T} = exp a\n yield\n}}\n else {{\n f: {T} = exp e\n yield\n }}\n}}",
        "e is not defined",
    ),
    ("fori_loop 0:i64 b as a {\n  yield\n}", "bound twice"),
    (f"fori_loop 0:i64 b as i {{\n  a: {T} = load x\n  yield\n}}", "bound twice"),
    ("fori_loop 0:i64 b as i {\n  e: i64 = s.add i 1:i64\n  yield\n}\nf: i64 = s.add e 1:i64", "e is not defined here"),
    # yields
    (f"e: {T} = fori_loop 0:i64 b a as i, t: {T} {{\n  yield\n}}", "gives , not f32"),
    (f"e: {T} = fori_loop 0:i64 b a as i, t: {T} {{\n  f: {T} = exp t\n}}", "does not yield"),
    ("fori_loop 0:i64 b as i {\n  yield\n  yield\n}", "stands at the end"),
    ("yield", "stands at the end"),
    (f"e: {T} = fori_loop 0:i64 b a as i, t: {T} {{\n  f: f32<1x8 of 1 x x.cols> = colsum t\n  yield f\n}}", "not f32"),
    (f"e: {T} = branch d {{\n then {{\n yield a\n }}\n else {{\n yield b\n }}\n}}", "gives i64"),
    # types
    ("e: i64 = fori_loop 0:i64 b 0:i64 as i, t: f64 {\n  yield t\n}", "types are those of its results"),
    ("e: f64 = fori_loop 0:i64 b 0:i64 as i, t: f64 {\n  yield t\n}", "begins with values of other types"),
    ("fori_loop 0:i64 n as i {\n  yield\n}", "bounds are i64"),
    ("fori_loop 0:i64 b as i, t: i64 {\n  yield t\n}", "what is carried"),
    ("branch b {\n then {\n yield\n }\n else {\n yield\n }\n}", "has a bool"),
    ("e: i64 = s.add b n", "s.add of i64 and i32"),
    ("e: i64 = s.add a 1:i64", "operands or parameters"),
    ("e: i64 = s.add[checked=false] b 1:i64", "the parameters checked and to"),
    ("e: f64 = widen n", "its type is i64"),
    ("e: f32 = narrow[to=f32] b", "operands or parameters"),
    ("e: bool = narrow[to=bool] b", "operands or parameters"),
    ('e: i64 = dim[of="n.0"]', "names no extent"),
    ('e: i64 = dim[of="r.3"]', "names no extent"),
    # extents
    ('e: f32<4x8 of q x 8> = load_part[cols=8, rows=4, vcols=8, vrows="q"] r 0:i64 0:i64 0:i64', "has the extent q"),
    ('e: f32<4x8 of d x 8> = load_part[cols=8, rows=4, vcols=8, vrows="d"] r 0:i64 0:i64 0:i64', "has the extent d"),
    ("e: f32<4x8> = load_part[cols=8, rows=4, vcols=8, vrows=3] r 0:i64 0:i64 0:i64", "operands or parameters"),
    (
        (
            "z: f32<4x8> = full[cols=8, rows=4] 0.0:f32\ne: f32<4x8 of f x 8> = fori_loop 0:i64 b z as i, t: f32<4x8 of f x 8> "
            "{\n  f: i64 = s.min i 4:i64\n  yield t\n}"
        ),
        "has the extent f",
    ),
    # memory
    ("e: f32<4x8> = load_part[cols=8, rows=4, vcols=8, vrows=4] r 0:i64 0:i64", "operands or parameters"),
    ("e: i32<2x4> = load_part[cols=4, rows=2, vcols=4, vrows=2] w 0:i64", "operands or parameters"),
    ("e: f32<4x8> = load_part[cols=8, rows=4, vcols=8, vrows=4] a 0:i64 0:i64", "needs a parameter"),
    ("e: f64 = element r 0:i64", "operands or parameters"),
    ("e: f64 = element y 0:i64 0:i64", "read before it is written"),
    ("store_part y a 0:i64 0:i64", "nothing is written before"),
    ("store_part x a 0:i64 0:i64", "is an input"),
    ("store_part w a 0:i64", "stored value and output differ"),
    (f"e: {T} = exp r", "r is used as"),
    ("e: f32<4x8> = load r", "r is used as"),
    ("e: f32<4x8> = load n", "n is used as"),
    (f"e: {T} = restrict[vcols=8, vrows=3] a", "operands or parameters"),
    # data
    (
        "e: i64 = element w 0:i64\nfori_loop 0:i64 e as i {\n  yield\n}",
        "bounds depend on elements",
    ),
    (
        (
            "e: i64 = fori_loop 0:i64 b 1:i64 as i, t: i64 {\n  f: i64 = element w t\n  yield f\n}\n"
            "fori_loop 0:i64 e as j {\n  yield\n}"
        ),
        "bounds depend on elements",
    ),
    ("parallel_for i in i: Dense(4) { }", "is no operation of kernels"),
]


@pytest.mark.parametrize(("body", "why"), BROKEN)
def test_what_may_not(body: str, why: str) -> None:
    with pytest.raises(PtoError, match=why):
        verify_kernel(parse_kernel(text(body)))


def test_outputs_that_may_stay_unwritten() -> None:
    for end in (
        "fori_loop 0:i64 b as i {\n  store y a\n  yield\n}",
        "branch d {\n  then {\n    store y a\n    yield\n  }\n  else {\n    yield\n  }\n}",
        "fori_loop 2:i64 2:i64 as i {\n  store y a\n  yield\n}",
    ):
        with pytest.raises(IRConversionError, match="does not write y"):
            verify_kernel(parse_kernel(text("", end=end)))


@pytest.mark.parametrize(
    ("param", "why"),
    [("f32[]", "1 to 4"), ("f32[1,2,3,4,5]", "1 to 4"), ("f32[-1]", "1 to 4"), ("f32[x]", "expected an integer")],
)
def test_regions_that_are_none(param: str, why: str) -> None:
    with pytest.raises(IRConversionError, match=why):
        parse_kernel(f'kernel k "k" (r: in {param}) {{\n}}')


def test_regions_nested_too_deep() -> None:
    body = "".join(f"fori_loop 0:i64 2:i64 as i{k} {{\n" for k in range(31)) + "yield\n}\n" * 31
    with pytest.raises(PtoError, match="nested deeper"):
        verify_kernel(parse_kernel(text(body)))
    with pytest.raises(IRConversionError, match="too deeply nested"):
        parse_kernel(text("".join(f"fori_loop 0:i64 2:i64 as i{k} {{\n" for k in range(100))))
