"""Schedules together with rewrites of loops, `vmap`, `scan` and `jit`, in any order: the same bits as without any, and the time of
every task that the model gives for the workload that came out."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import dynamic
import workloads
from models import schedule_time
from property.elaborate import conflict, expected, figures, instances, model, parted
from property.test_dynamic import inputs
from property.test_dynamic import run as run_dynamic
from property.test_schedules import TRACED, agrees, compiled, stands_still, times
from property.test_time import Arrays
from pto_wsp import P, Program, RaceError, Tensor, arch, empty_like, jit, scan, vmap, workload
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.passes.expand import expand
from rewrites import Steps, Tried
from schedules import of_loop, of_whole

MACHINES = ("ascend_a2a3", "ascend_a2a3_measured")


class Case(workloads.Case):
    """f: the function that the workload is of, for `jit`."""

    f: Any = None


def names(returns: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (returns,) if isinstance(returns, str) else returns or ()


def meant(case: Case) -> tuple[Arrays, list[Any]]:
    """What the workload leaves and returns without any schedule or rewrite."""
    wir, arrays = expand(case.plain.wir), case.fresh()
    found = evaluate(wir, {n: a for n, a in arrays.items() if n in {v.name for v in wir.tensors}}, case.sizes)
    return arrays, [found[n] for n in names(wir.returns)]


def ran(case: Case, program: Program) -> tuple[Arrays, list[Any]]:
    arrays = case.fresh()
    program.bind({n: a for n, a in arrays.items() if f"tensor {n}:" in str(program.wir)})
    program.set_axis_sizes({n: v for n, v in case.sizes.items() if n in case.workload.wir.symbols})
    results = program.run().results
    return arrays, list(results) if isinstance(results, tuple) else [] if results is None else [results]


def bits(of: tuple[Arrays, list[Any]]) -> list[bytes]:
    return [a.tobytes() for a in (*(of[0][n] for n in sorted(of[0])), *of[1])]


def races(case: Case) -> bool:
    """Whether iterations of a P loop touch common elements, one writing."""
    tasks = instances(case.workload.wir, case.sizes)
    for k, b in enumerate(tasks):
        for a in tasks[:k]:
            level = parted(a, b)
            if level is not None and level.eqn.prim == "parallel_for" and conflict(a, b):
                return True
    return False


def check(case: Case, machine: str, threads: int, want: list[bytes]) -> bool:
    """Whether the workload runs: then it does as the model of time says, and so it does from an artifact. Of a wild index a rewrite may
    leave one of which a race is proved."""
    try:
        return runs_as_said(case, machine, threads, want)
    except RaceError:
        assert races(case)
        return False


def runs_as_said(case: Case, machine: str, threads: int, want: list[bytes]) -> bool:
    wir = case.workload.wir
    assert parse(show(wir)) == wir
    of = model(wir, case.sizes, arch.get(machine))
    program = compiled(case.workload, arch=machine, threads=threads)
    if program is None or stands_still(of):
        assert stands_still(of)
        return False
    run = schedule_time.simulate(of.tasks, **of.options)
    for again in (program, Program.from_bytes(program.to_bytes(), threads=threads)):
        assert bits(ran(case, again.enable_tracing())) == want
        assert figures(again) == expected(of, run)
        assert not of.tasks or times(again) == {n: run[n] for n in TRACED}
    return True


@st.composite
def rewritten(draw: Callable[[Any], Any]) -> tuple[Case, Tried]:
    """A workload whose parts, and parts of these, are scheduled and rewritten in any order, and the whole at the end again."""
    tried = Tried()

    def part(_: Any, w: Any) -> Any:
        return Steps(draw, tried)(w)

    try:
        case = draw(workloads.cases(inner=of_loop, part=part))
        w = Steps(draw, tried, 2)(of_whole(draw, case.workload))
    except RaceError:  # a race that is proved once a rewrite has put constants into a wild index, as in `check`
        reject()
    return Case(w, case.arrays, case.sizes, case.plain), tried


@st.composite
def in_data(draw: Callable[[Any], Any]) -> tuple[dynamic.Case, Tried]:
    """The same of a workload whose shape is in data."""
    tried = Tried()

    def whole(_: Any, w: Any) -> Any:
        return Steps(draw, tried, 2)(of_whole(draw, Steps(draw, tried)(w)))

    return draw(dynamic.cases(whole=whole)), tried


@st.composite
def transformed(draw: Callable[[Any], Any]) -> tuple[Case, Tried]:
    """vmap or scan of a function that is scheduled and rewritten, or scan within vmap; then all of it scheduled and rewritten."""
    tried = Tried()
    mapped, scanned = draw(st.sampled_from(((True, False), (True, False), (False, True), (True, True))))
    d = workloads.Drawing(draw, of_loop, 5 if scanned else workloads.INDEXED)  # scan copies all of a carry
    roles = {"A": "in", "B": "in", "C": "own"} if scanned else None
    body = d.body(workloads.Scope(roles=roles), 0)
    steps, outer = Steps(draw, tried, 2), Steps(draw, tried, 2, more=("batch", "vmap", "step"))
    length, n = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    name = draw(st.sampled_from((None, "batch", "v1")))
    emit_y, bare = draw(st.booleans()), d.kernels.bare

    def function(plain: bool) -> Any:
        @workload(name="f")
        def in_place(A, B, C):
            d.tensors = {"A": A, "B": B, "C": C}
            workloads.emit(body, {}, plain)

        @workload(name="f")
        def step(carry, x):
            C = empty_like(carry)
            for i, j in P(d.indexed, d.indexed):
                bare[i, j](x=carry[i, j], y=C[i, j])
            d.tensors = {"A": carry, "B": x, "C": C}
            workloads.emit(body, {}, plain)
            return C, C if emit_y else None

        f: Any = step if scanned else in_place
        f = f if plain else f.then(steps)
        f = scan(f) if scanned else f
        f = vmap(f, axis_name=name) if mapped else f
        return f if plain else f.then(outer)

    lead = (n,) * mapped
    shapes = {"A": lead, "B": (*lead, length)} if scanned else dict.fromkeys("ABC", lead)
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    one = d.arrays["A"]
    arrays = {k: random.integers(-3, 4, (*s, *one.shape)).astype(one.dtype) for k, s in shapes.items()}
    given = [Tensor(a, name=k) for k, a in arrays.items()]
    plain, f = function(True)(*given), function(False)
    sizes = {k: v for k, v in d.sizes.items() if k in plain.wir.symbols}
    try:
        w = f(*given)
    except RaceError:  # as in `rewritten`
        reject()
    tried.rewrites += mapped + scanned
    tried.asked.add(True)
    out = Case(of_whole(draw, w), arrays, sizes, plain)
    out.f = f
    return out, tried


def counted(cases: st.SearchStrategy[tuple[Any, Tried]], each: Callable[[Any, str, int], bool]) -> None:
    """Draw cases. Of those that a schedule and a rewrite were asked for more run with both than not."""
    count: Counter[str] = Counter()

    @settings(max_examples=max(20, settings.default.max_examples // 4))  # type: ignore[union-attr]
    @given(drawn=cases, machine=st.sampled_from(MACHINES), threads=st.sampled_from((1, 2, 4)))
    def draw(drawn: tuple[Any, Tried], machine: str, threads: int) -> None:
        case, tried = drawn
        run = each(case, machine, threads)
        count["run" if run and tried.both else "less" if len(tried.asked) == 2 else "plain"] += 1
        count["done"] += tried.rewrites + tried.directives
        count["refused"] += tried.refused

    draw()
    assert count["done"] > count["refused"]
    assert count["run"] > count["less"]


def test_schedules_and_rewrites_in_any_order() -> None:
    counted(rewritten(), lambda case, machine, threads: check(case, machine, threads, bits(meant(case))))


def test_vmap_and_scan_of_what_is_scheduled_and_rewritten() -> None:
    def each(case: Case, machine: str, threads: int) -> bool:
        want = bits(meant(case))
        if not check(case, machine, threads, want):
            return False
        if case.workload.sizes.keys() >= set(case.workload.wir.symbols):
            arrays = case.fresh()
            made = jit(case.f, arch=machine, threads=threads)(*arrays.values())
            leaves = [x for x in (made if isinstance(made, tuple) else (made,)) if x is not None]
            assert bits((arrays, leaves)) == want
        return True

    counted(transformed(), each)


def test_where_the_shape_is_in_data_too() -> None:
    def each(case: dynamic.Case, machine: str, threads: int) -> bool:
        w = case.workload
        assert parse(show(w.wir)) == w.wir
        try:
            program, run = compiled(w, arch=machine, threads=threads), True
        except RaceError:  # as in `check`
            return False
        for data in case.data:
            arrays, sizes = inputs(case, data)
            of = model(w.wir, sizes, arch.get(machine), arrays, data.slots)
            if program is None:
                assert stands_still(of)
                return False
            program.enable_tracing()
            left = agrees(program, of, partial(run_dynamic, case, program, data))
            want, _ = case.eager(data)
            run = run and left is not None
            assert left is None or all(a.tobytes() == want[n].tobytes() for n, a in left.items() if n in want)
        return run

    counted(in_data(), each)
