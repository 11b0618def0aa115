"""The proofs about pairs of tasks, against counting over all pairs of iterations."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.elaborate import conflict, instances
from pto_wsp import RaceError, ScheduleError, TypeCheckError
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
  tensor I: i32[{SIZE}]
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


comparison = st.sampled_from(("lt", "le", "gt", "ge", "eq", "ne"))
compared = st.sampled_from(("i", "2*i + 1", "1", "2", "$n", "i + $m", "mod(i, 2)"))


@st.composite
def conditions(draw: Any) -> str:
    """Scalars that end in a bool called c, of the variable i, symbols and numbers."""
    rows = [f"{v}: bool = s.{draw(comparison)} ({draw(compared)}) ({draw(compared)})" for v in "pqr"]
    both = f"d: bool = s.{draw(st.sampled_from(('and', 'or')))} p q"
    last = draw(
        st.sampled_from(("c: bool = s.not p", "c: bool = s.and d r", "c: bool = s.or d r", "c: bool = s.not d"))
    )
    return "\n".join((*rows, both, last)) + "\n"


@st.composite
def guarded(draw: Any) -> str:
    """Tasks in both branches of a condition, in a loop around which or in which another loop may stand."""
    a, b, other = (
        f"task w[](y={view('Y', row, draw(st.sampled_from(('0', '2*i', '2', 'i'))))})\n"
        for row in (draw(st.sampled_from(("i", "0", "2", "i + 1", "3 - i", "mod(i, 2)"))) for _ in "abc")
    )
    branches = f"cond c {{ then {{ {a} }} else {{ {b} }} }}\n"
    body = draw(conditions()) + branches + (other if draw(st.booleans()) else "")
    if draw(st.booleans()):
        return f"c: bool = s.lt ($n) 2:i64\n parallel_for i in i: Range(4) {{ {branches} }}"
    return f"parallel_for i in i: Range({draw(st.sampled_from(('4', '$n', '1')))}) {{ {body} }}"


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


@given(nests() | guarded(), st.integers(0, 4), st.integers(0, 5))
def test_races_and_overlaps_are_those_that_counting_finds(body: str, n: int, m: int) -> None:
    w = wir(body)
    found = analyse(w, {"n": n, "m": m})
    verdicts = {v for *_, v in (*found.races, *found.overlaps)}
    assert verdicts <= {Verdict.ALWAYS}, "with sizes, everything affine is decided"
    assert not found.unproven
    sizes = {"n": n, "m": m}
    assert bool(found.races) == races(w, sizes)
    assert bool(found.overlaps) == own_overlap(w, sizes)


@given(nests() | guarded(), st.integers(0, 4), st.integers(0, 5))
def test_without_sizes_nothing_is_missed_and_nothing_is_made_up(body: str, n: int, m: int) -> None:
    w = wir(body)
    found = analyse(w)
    verdicts = {v for *_, v in found.races}
    if races(w, {"n": n, "m": m}):
        assert verdicts
    if Verdict.ALWAYS in verdicts:
        assert any(races(w, {"n": k, "m": j}) for k in range(6) for j in range(6))
    assert found.depends_on_sizes == any(v is Verdict.SOME_SIZES for *_, v in (*found.races, *found.overlaps))


@given(nests() | guarded(), st.integers(0, 4), st.integers(0, 5))
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


DATA = "n: i64 = item I[i]\n"


@pytest.mark.parametrize(
    ("body", "proof"),
    [
        # told apart by the loop's variable, whatever the data says
        (DATA + f"task w[](y={view('Y', 'i', 'n')})", "independent"),
        (DATA + f"parallel_for t in t: Ragged(n) {{ task w[](y={view('Y', 'i', '2*t')}) }}", "independent"),
        (DATA + "parallel_for t in t: Tiles(n, 2) { task w[](y=Y[i, tile(t, 2, n + 1, 1), 0 :+ 4]) }", "independent"),
        # resting on data
        (DATA + f"task w[](y={view('Y', 'n', '0')})", "unknown"),
        (DATA + f"task w[](y={view('Y', 'i + n', '0')})", "unknown"),
        (DATA + f"parallel_for t in t: Ragged(n) {{ task w[](y={view('Y', '0', '0')}) }}", "unknown"),
        (DATA + f"c: bool = s.lt n 3:i64\n cond c {{ then {{ task w[](y={view('Y', '0', '0')}) }} }}", "unknown"),
        # a value of before the loop is one value
        (f"task w[](y={view('Y', 'i', 'k')})", "independent"),
        (f"task w[](y={view('Y', 'i + k', '0')})", "independent"),
        (
            f"cond e {{ then {{ task w[](y={view('Y', 'i', '0')}) }} else {{ task w[](y={view('Y', '3 - i', '0')}) }} }}",
            "independent",
        ),
        # gathers
        ("task w[](y=Y[i, gather(I[2*i :+ 2]), 0 :+ 4])", "independent"),
        ("task w[](y=Y[0, gather(I[2*i :+ 2]), 0 :+ 4])", "unknown"),
        (f"task r[](x=Y[0, gather(I[2*i :+ 2]), 0 :+ 4], y={view('X', 'i', '0')})", "independent"),
        # conditions on what is known
        (f"c: bool = s.eq (i) 2:i64\n cond c {{ then {{ task w[](y={view('Y', '0', '0')}) }} }}", "independent"),
        (f"c: bool = s.ge (i) 2:i64\n cond c {{ then {{ task w[](y={view('Y', '0', '0')}) }} }}", "race"),
        (f"c: bool = s.gt (i) 9:i64\n cond c {{ then {{ task w[](y={view('Y', '0', '0')}) }} }}", "independent"),
        (f"cond false:bool {{ then {{ task w[](y={view('Y', '0', '0')}) }} }}", "independent"),
        (f"parallel_for t in t: Range(min(4, $n - 4*i)) {{ task w[](y={view('Y', '4*i + t', '0')}) }}", "independent"),
        # slots
        ("v: i64 = slot_get[slot=3]\n", "independent"),
        ("slot_set[slot=3] (i)\n", "race"),
        ("slot_set[slot=3] (i)\n v: i64 = slot_get[slot=4]\n", "race"),
        (DATA + "c: bool = s.eq n 0:i64\n cond c { then { slot_set[slot=3] (i)\n } }", "unknown"),
    ],
)
def test_data_conditions_gathers_and_slots(body: str, proof: str) -> None:
    before = "k: i64 = item I[0]\n e: bool = s.lt k 5:i64\n"
    found = analyse(wir(f"{before} parallel_for i in i: Range(8) {{ {body} }}"))
    assert ("race" if found.races else "unknown" if found.unproven else "independent") == proof


SPARSE = HEAD.replace(
    "  kernel r ",
    '  tensor r.indptr: i64[9]\n  tensor r.indices: i64[$m]\n  sparse r: outer=8 indptr="r.indptr" indices="r.indices"\n  kernel r ',
)


@pytest.mark.parametrize(
    ("use", "proof"),
    [
        ("parallel_for k in r: Sparse(hi - lo) { task w[](y=Y[k + lo, 0 :+ 2, 0 :+ 4]) }", "independent"),
        ("parallel_for k in r: Tiles(hi - lo, 2) { task w[](y=Y[0, tile(k, 2, hi, lo), 0 :+ 4]) }", "independent"),
        ("parallel_for k in r: Tiles(hi - lo, 2) { task w[](y=Y[0, tile(k, 2, hi + 1, lo), 0 :+ 4]) }", "unknown"),
        ("c: bool = s.lt lo 3:i64\n cond c { then { task w[](y=Y[lo, 0 :+ 2, 0 :+ 4]) } }", "unknown"),
        ("c: bool = s.lt lo hi\n cond c { then { task w[](y=Y[lo, 0 :+ 2, 0 :+ 4]) } }", "independent"),
        (
            "parallel_for k in r: Sparse(hi - lo) { e: i64 = item r.indices[k + lo] task w[](y=Y[e, 0 :+ 2, 0 :+ 4]) }",
            "unknown",
        ),
    ],
)
def test_the_rows_of_a_sparse_axis_lie_apart(use: str, proof: str) -> None:
    rows = "parallel_for i in i: Range(8) { lo: i64 = item r.indptr[i] hi: i64 = item r.indptr[i + 1]\n"
    found = analyse(parse(SPARSE + rows + use + "}}"))
    assert ("race" if found.races else "unknown" if found.unproven else "independent") == proof


def test_a_loop_with_a_condition_is_sequential_and_may_not_run() -> None:
    write = f"task w[](y={view('Y', '0', '0')})"
    end = "while { s: i64 = slot_get[slot=0]\n c: bool = s.gt s 0:i64\n yield c\n }"
    found = analyse(wir(f"seq_for i in i: Range(8) {{ {write} }} {end}"))
    assert not found.races
    assert not found.tracked
    assert analyse(wir(f"seq_for i in i: Range(8) {{ parallel_for j in j: Range(4) {{ {write} }} }} {end}")).unproven


def test_what_writes_a_tensor_that_is_read_at_issue_is_tracked() -> None:
    text = (
        HEAD + '  kernel s "s" (y: out i32<1x8>) { a: i32<1x8> = full[cols=8, rows=1] 1:i32\n store y a\n }\n'
    ).replace("I: i32[40]", "I: i32[40,40]")
    write = "task s[](y=I[0 :+ 1, 0 :+ 8])\n"
    for read in (
        "n: i64 = item I[9, 9]\n",
        "n: i64 = reduce_sum I[3, 0 :+ 8]\n",
        "task w[](y=Y[0, gather(I[0, 0 :+ 2]), 0 :+ 4])",
    ):
        found = analyse(parse(text + write + read + "}"))
        assert found.tracked == {(0, 0)}
    assert not analyse(parse(text + write + "}")).tracked


W0 = f"w[](y={view('Y', '0', '0')})"
WI = f"w[](y={view('X', 'i', '0')})"
YI = f"w[](y={view('Y', 'i', '0')})"


@pytest.mark.parametrize(
    ("body", "ordered"),
    [
        (f'a: task = task {W0} task[after=["a"]] {W0}', True),
        (f"a: task = task {W0} task {W0}", False),
        (f"task {W0} task w[](y={view('Y', '1', '0')})", True),
        (f"sequential {{ part {{ task {W0} }} part {{ task {W0} }} }}", True),
        (f'combine {{ part {{ a: task = task {W0} }} part {{ task[after=["a"]] {W0} }} }}', True),
        (f"seq_for i in i: Range(4) {{ task {W0} }}", True),
        # chains
        (
            f'a: task = task {W0} b: task = task[after=["a"]] w[](y={view("X", "0", "0")}) task[after=["b"]] {W0}',
            True,
        ),
        (
            f'a: task = task {W0} parallel_for i in i: Range($n) {{ b: task = task[after=["a"]] {WI} }} task[after=["b"]] {W0}',
            False,  # the loop may be empty
        ),
        (
            f'parallel_for i in i: Range(4) {{ a: task = task {YI} seq_for j in j: Range(3) {{ task[after=["a"]] {YI} }} }}',
            True,
        ),
        ("parallel_for i in i: Range(4) { n: i64 = item I[i] " + f"task w[](y={view('Y', 'n', '0')}) }}", False),
        (f"n: i64 = item I[0] task {W0} task w[](y={view('Y', 'n', '0')})", False),
    ],
)
def test_explicit_dependences_are_verified(body: str, ordered: bool) -> None:
    w = wir('deps[mode="explicit"] {' + body + "}")
    if ordered:
        assert not refuse_races(w).tracked
    else:
        with pytest.raises(RaceError, match="PTO203"):
            refuse_races(w)
    refuse_races(wir('deps[mode="hybrid"] {' + body + "}"))


def test_sizes_may_decide_what_explicit_dependences_leave_open() -> None:
    w = wir(f'deps[mode="explicit"] {{ task {W0} task w[](y={view("Y", "$n", "0")}) }}')
    assert refuse_races(w).depends_on_sizes
    refuse_races(w, {"n": 1, "m": 0})
    with pytest.raises(RaceError, match="PTO203"):
        refuse_races(w, {"n": 0, "m": 0})


@pytest.mark.parametrize(
    "body",
    [
        f'combine {{ part {{ deps[mode="hybrid"] {{ task {W0} }} }} part {{ task {W0} }} }}',
        f'deps[mode="hybrid"] {{ deps[mode="explicit"] {{ task {W0} }} }}',
    ],
)
def test_dependences_are_said_once_of_the_whole(body: str) -> None:
    with pytest.raises(ScheduleError, match="PTO404"):
        refuse_races(wir(body))
