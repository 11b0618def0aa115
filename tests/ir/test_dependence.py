"""The proofs about pairs of tasks, against counting over all pairs of iterations."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.elaborate import conflict, instances
from pto_wsp import RaceError, TypeCheckError
from pto_wsp.ir.core import Wir
from pto_wsp.ir.dependence import Verdict, analyse, refuse_races
from pto_wsp.ir.text import parse
from pto_wsp.ir.verify import verify

SIZE = 40

HEAD = f"""workload w {{
  symbol $n
  symbol $m
  tensor X: f32[{SIZE},{SIZE},4]
  tensor Y: f32[{SIZE},{SIZE},4]
  kernel r "r" (x: in f32<2x4>, y: out f32<2x4>) {{
    a: f32<2x4 of x.rows x x.cols> = load x
    store y a
  }}
  kernel w "w" (y: out f32<2x4>) {{
    a: f32<2x4> = full[cols=4, rows=2] 1.0:f32
    store y a
  }}
"""


def wir(body: str) -> Wir:
    out = parse(HEAD + body + "}")
    verify(out)
    return out


def view(tensor: str, row: str, start: str) -> str:
    return f"{tensor}[{row}, {start} :+ 2, 0 :+ 4]"


index = st.sampled_from(
    (
        *("i", "j", "2*i", "i + j", "2*i + 3*j", "-i + 6", "3", "0", "i + 1", "4*i + j", "$m", "i + $m"),
        *("floordiv(i, 2)", "mod(i, 3)", "mod(i + 2*j, 4)", "floordiv(3*i + j, 2)", "ceildiv(i, 2)"),
    )
)


@st.composite
def nests(draw: Any) -> str:
    """Two tasks in a nest of two loops, one of which may be sequential or triangular."""
    first, second = (draw(st.sampled_from(("parallel_for", "seq_for", "parallel_for"))) for _ in "ij")
    outer, inner = (
        draw(st.sampled_from(("3", "1", "4", "$n"))),
        draw(st.sampled_from(("3", "2", "i + 1", "0", "i", "$n"))),
    )
    a = f"task r[](x={view('X', draw(index), draw(index))}, y={view('Y', draw(index), draw(index))})"
    other = draw(st.sampled_from("XY"))
    b = f"task w[](y={view(other, draw(index), draw(index))})"
    if draw(st.booleans()):
        return f"{first} i in i: Range({outer}) {{ {second} j in j: Range({inner}) {{ {a} {b} }} }}"
    b = b.replace("j", "i")
    return f"{first} i in i: Range({outer}) {{ {second} j in j: Range({inner}) {{ {a} }} {b} }}"


def races(w: Wir, sizes: dict[str, int]) -> bool:
    """Whether two conflicting tasks first differ in a parallel loop."""
    run = instances(w, sizes)
    for k, b in enumerate(run):
        for a in run[:k]:
            first = next(
                (p for p, q in zip(a.way, b.way, strict=False) if p.eqn is q.eqn and p.number != q.number), None
            )
            diverged = next((p.eqn is not q.eqn for p, q in zip(a.way, b.way, strict=False) if p != q), False)
            if first is not None and not diverged and first.eqn.prim == "parallel_for" and conflict(a, b):
                return True
    return False


def own_overlap(w: Wir, sizes: dict[str, int]) -> bool:
    """Whether an output of some task overlaps another of its arguments."""
    for task in instances(w, sizes):
        for (s, x, one), (t, y, two) in product(task.touched, repeat=2):
            apart = x is y or s != t or not (one or two)
            if not apart and all(max(p[0], q[0]) < min(p[1], q[1]) for p, q in zip(x, y, strict=True)):
                return True
    return False


@given(nests(), st.integers(0, 4), st.integers(0, 5))
def test_races_and_overlaps_are_those_that_counting_finds(body: str, n: int, m: int) -> None:
    w = wir(body)
    found = analyse(w, {"n": n, "m": m})
    verdicts = {v for *_, v in (*found.races, *found.overlaps)}
    assert verdicts <= {Verdict.ALWAYS}, "with sizes, everything affine is decided"
    assert not found.unproven
    sizes = {"n": n, "m": m}
    assert bool(found.races) == races(w, sizes)
    assert bool(found.overlaps) == own_overlap(w, sizes)


@given(nests(), st.integers(0, 4), st.integers(0, 5))
def test_without_sizes_nothing_is_missed_and_nothing_is_made_up(body: str, n: int, m: int) -> None:
    w = wir(body)
    found = analyse(w)
    verdicts = {v for *_, v in found.races}
    if races(w, {"n": n, "m": m}):
        assert verdicts
    if Verdict.ALWAYS in verdicts:
        assert any(races(w, {"n": k, "m": j}) for k in range(6) for j in range(6))
    assert found.depends_on_sizes == any(v is Verdict.SOME_SIZES for *_, v in (*found.races, *found.overlaps))


@given(nests(), st.integers(0, 4), st.integers(0, 5))
def test_conflicts_of_one_body_are_tracked(body: str, n: int, m: int) -> None:
    w = wir(body)
    tracked = {site for site, _ in analyse(w).tracked}
    sites = {id(e): k for k, e in enumerate(w.tasks())}
    run = instances(w, {"n": n, "m": m})
    for k, b in enumerate(run):
        for a in run[:k]:
            same_iteration = all(p == q for p, q in zip(a.way, b.way, strict=False))
            if a.eqn is not b.eqn and same_iteration and conflict(a, b):
                assert {sites[id(a.eqn)], sites[id(b.eqn)]} <= tracked


@pytest.mark.parametrize(
    ("index", "proof"),
    [
        ("i", "independent"),
        ("3*i + 1", "independent"),
        ("floordiv(i, 1)", "independent"),
        ("mod(i, 8)", "independent"),
        ("mod(i, 4)", "race"),
        ("floordiv(i, 2)", "race"),
        ("0", "race"),
        ("mul(i, i)", "unknown"),
        ("mul(i, $n)", "unknown"),
        ("i + $n", "independent"),
        ("$n", "race"),
    ],
)
def test_one_loop(index: str, proof: str) -> None:
    found = analyse(wir(f"parallel_for i in i: Range(8) {{ task w[](y={view('Y', index, '0')}) }}"))
    got = "race" if found.races else "unknown" if found.unproven else "independent"
    assert got == proof
    assert bool(found.tracked) == (proof == "unknown" or found.depends_on_sizes)


def test_tiles_of_one_axis_are_independent_whatever_its_size() -> None:
    body = "parallel_for i in i: Tiles($n, 2) { task w[](y=Y[0, tile(i, 2, $n), 0 :+ 4]) }"
    assert not analyse(wir(body)).races


def test_overlapping_slices_of_neighbours_race() -> None:
    with pytest.raises(RaceError):
        refuse_races(wir("parallel_for i in i: Range(8) { task w[](y=Y[0, i :+ 2, 0 :+ 4]) }"))
    refuse_races(wir("parallel_for i in i: Range(8) { task w[](y=Y[0, 2*i :+ 2, 0 :+ 4]) }"))


def test_an_extent_of_one_never_races() -> None:
    refuse_races(wir("parallel_for i in i: Range(1) { task w[](y=Y[0, 0 :+ 2, 0 :+ 4]) }"))


def test_a_size_decides() -> None:
    w = wir("parallel_for i in i: DenseDyn($n) { task w[](y=Y[0, 0 :+ 2, 0 :+ 4]) }")
    assert refuse_races(w).depends_on_sizes
    refuse_races(w, {"n": 1, "m": 0})
    with pytest.raises(RaceError):
        refuse_races(w, {"n": 2, "m": 0})


def test_an_output_that_may_overlap_an_input_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        refuse_races(wir(f"task r[](x={view('Y', '0', '0')}, y={view('Y', '0', '1')})"))
    refuse_races(wir(f"task r[](x={view('Y', '0', '0')}, y={view('Y', '0', '2')})"))


def test_structure_orders_what_need_not_be_tracked() -> None:
    a, b = (f"task w[](y={view('Y', '0', '0')})" for _ in "ab")
    assert not analyse(wir(f"sequential {{ part {{ {a} }} part {{ {b} }} }}")).tracked
    assert analyse(wir(f"combine {{ part {{ {a} }} part {{ {b} }} }}")).tracked == {(0, 0), (1, 0)}
    assert not analyse(wir(f"seq_for i in i: Range(4) {{ {a} }}")).tracked
    assert analyse(wir(f"seq_for i in i: Range(4) {{ {a} {b} }}")).tracked == {(0, 0), (1, 0)}
