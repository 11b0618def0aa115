"""canonicalize of kernels with loops, branches and scalars, text in, text out."""

from textwrap import dedent, indent

import pytest

from pto_wsp.ir.text import parse_kernel, show_kernel
from pto_wsp.ir.verify import verify_kernel
from pto_wsp.passes.canonicalize_kernel import canonicalize_kernel

HEAD = 'kernel k "k" (x: in f32<4x8>, r: in f32[*,8], n: i32, y: inout f32<4x8>) {\n'
T = "f32<4x8 of y.rows x y.cols>"


def check(before: str, after: str) -> None:
    texts = [HEAD + indent(dedent(t).strip(), "  ") + "\n}" for t in (before, after)]
    kernel = parse_kernel(texts[0])
    verify_kernel(kernel)
    out = canonicalize_kernel(kernel)
    verify_kernel(out)
    assert show_kernel(out) == texts[1]


def test_loads_are_the_same_until_something_stores_in_a_loop_too() -> None:
    check(
        f"""
        a: {T} = load y
        b: i64 = widen n
        fori_loop 0:i64 b as i {{
          c: {T} = load y
          d: {T} = load y
          e: {T} = add c d
          store y e
          yield
        }}
        f: {T} = load y
        g: {T} = add f a
        store y g
        """,
        f"""
        a: {T} = load y
        b: i64 = widen n
        fori_loop 0:i64 b as i {{
          c: {T} = load y
          e: {T} = add c c
          store y e
          yield
        }}
        f: {T} = load y
        g: {T} = add f a
        store y g
        """,
    )


def test_what_is_computed_before_is_known_inside_and_not_the_other_way_round() -> None:
    check(
        f"""
        a: {T} = load y
        b: i64 = widen n
        c: bool = s.lt b 3:i64
        d: {T} = branch c {{
          then {{
            e: {T} = load y
            f: {T} = exp e
            yield f
          }}
          else {{
            g: {T} = exp a
            h: {T} = exp a
            p: {T} = add g h
            yield p
          }}
        }}
        q: {T} = exp a
        z: {T} = add d q
        store y z
        """,
        f"""
        a: {T} = load y
        b: i64 = widen n
        c: bool = s.lt b 3:i64
        d: {T} = branch c {{
          then {{
            f: {T} = exp a
            yield f
          }}
          else {{
            g: {T} = exp a
            p: {T} = add g g
            yield p
          }}
        }}
        q: {T} = exp a
        z: {T} = add d q
        store y z
        """,
    )


def test_loops_carry_what_is_used() -> None:
    # u is used by nothing but itself, v by what is used
    check(
        f"""
        a: {T} = load y
        b: i64 = widen n
        c: {T}, d: i64, e: i64 = fori_loop 0:i64 b a 0:i64 1:i64 as i, t: {T}, u: i64, v: i64 {{
          f: i64 = s.add u i
          g: i64 = s.mul v 2:i64
          h: f32<1x8> = load_part[cols=8, rows=1, vcols=8, vrows=1] r v 0:i64
          p: {T} = add t h
          yield p f g
        }}
        store y c
        """,
        f"""
        a: {T} = load y
        b: i64 = widen n
        c: {T}, e: i64 = fori_loop 0:i64 b a 1:i64 as i, t: {T}, v: i64 {{
          g: i64 = s.mul v 2:i64
          h: f32<1x8> = load_part[cols=8, rows=1, vcols=8, vrows=1] r v 0:i64
          p: {T} = add t h
          yield p g
        }}
        store y c
        """,
    )


def test_loops_and_branches_without_effect_disappear_and_what_can_fail_stays() -> None:
    check(
        f"""
        a: {T} = load y
        b: i64 = widen n
        c: bool = s.lt b 3:i64
        d: {T} = fori_loop 0:i64 b a as i, t: {T} {{
          e: {T} = branch c {{
            then {{
              yield t
            }}
            else {{
              f: {T} = exp t
              yield f
            }}
          }}
          yield e
        }}
        branch c {{
          then {{
            yield
          }}
          else {{
            g: i64 = s.floordiv 1:i64 b
            yield
          }}
        }}
        store y a
        """,
        f"""
        a: {T} = load y
        b: i64 = widen n
        c: bool = s.lt b 3:i64
        branch c {{
          then {{
            yield
          }}
          else {{
            g: i64 = s.floordiv 1:i64 b
            yield
          }}
        }}
        store y a
        """,
    )


@pytest.mark.parametrize("use", ['c: f32<4x8 of m x 8> = load_part[cols=8, rows=4, vcols=8, vrows="m"] r 0:i64 0:i64'])
def test_extents_are_used_by_what_they_are_extents_of(use: str) -> None:
    text = f"""
        a: i64 = dim[of="r.0"]
        b: i64 = dim[of="r.0"]
        m: i64 = s.min b 4:i64
        {use}
        d: f32<1x8> = colsum c
        e: {T} = load y
        f: {T} = add e d
        store y f
        """
    check(text, text.replace('        b: i64 = dim[of="r.0"]\n', "").replace("min b", "min a"))
