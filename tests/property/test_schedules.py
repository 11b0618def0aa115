"""Random workloads under random schedules: the time of every task is that of the model, and results are those without a schedule."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamic
import workloads
from models import schedule_time
from property.elaborate import Model, expected, figures, model
from property.test_dynamic import inputs
from property.test_dynamic import run as run_dynamic
from property.test_time import Arrays, evaluated, same_bits
from pto_wsp import DeadlockError, Program, ScheduleError, Workload, arch, split
from pto_wsp.ir.text import parse, show
from pto_wsp.transforms.loops import places, variable
from schedules import of_loop, of_part, of_whole

MACHINES = ["ascend_a2a3", "ascend_a2a3_measured"]
TRACED = ("lane", "issue", "ready", "start", "end")


def scheduled() -> st.SearchStrategy[workloads.Case]:
    return st.composite(_scheduled)()


def _scheduled(draw: Any) -> workloads.Case:
    case = draw(workloads.cases(inner=of_loop, part=of_part))
    return workloads.Case(of_whole(draw, case.workload), case.arrays, case.sizes, case.plain)


def run_static(case: workloads.Case, program: Program) -> Arrays:
    arrays = case.fresh()
    program.bind({v.name: arrays[v.name] for v in case.workload.wir.tensors if v.name in str(program.wir)})
    program.set_axis_sizes(case.sizes)
    program.run()
    return arrays


def times(program: Program) -> dict[str, Any]:
    """What a traced run says of each task."""
    return {n: np.asarray(getattr(program.trace, n)).tolist() for n in TRACED}


def agrees(program: Program, of: Model, run: Callable[[], Arrays]) -> Arrays | None:
    """The run takes the time that the model says; or stands still as it does. Gives what the run leaves; of one
    that stands still, None."""
    want = schedule_time.simulate(of.tasks, **of.options)
    if "deadlock" in want:
        with pytest.raises(DeadlockError):
            run()
        return None
    left = run()
    assert figures(program) == expected(of, want)
    if of.tasks:
        assert times(program) == {n: want[n] for n in TRACED}
    return left


def compiled(w: Workload, **options: Any) -> Program | None:
    """None where it is proved that no run would end."""
    try:
        return w.compile(**options)
    except ScheduleError as e:
        if e.code != "PTO419":
            raise
        return None


def stands_still(of: Model) -> bool:
    return "deadlock" in schedule_time.simulate(of.tasks, **of.options)


@pytest.mark.parametrize("machine", MACHINES)
@given(case=scheduled(), threads=st.sampled_from((1, 2, 4)))
def test_the_time_of_each_task_is_that_of_the_model(machine: str, case: workloads.Case, threads: int) -> None:
    wir = case.workload.wir
    assert parse(show(wir)) == wir
    of = model(wir, case.sizes, arch.get(machine))
    want = evaluated(case)
    program = compiled(case.workload, arch=machine, threads=threads)
    if program is None:
        assert stands_still(of)
        return
    program.enable_tracing()
    left = agrees(program, of, lambda: run_static(case, program))
    if left is not None:
        assert same_bits(left, want)
        again = Program.from_bytes(program.to_bytes(), threads=threads).enable_tracing()
        assert same_bits(run_static(case, again), want)
        assert (figures(again), times(again)) == (figures(program), times(program))


@pytest.mark.parametrize("machine", MACHINES)
@given(case=dynamic.cases(whole=of_whole), threads=st.sampled_from((1, 2, 4)))
def test_so_it_is_where_the_shape_is_in_data(machine: str, case: dynamic.Case, threads: int) -> None:
    w = case.workload
    program = compiled(w, arch=machine, threads=threads)
    for data in case.data:
        arrays, sizes = inputs(case, data)
        of = model(w.wir, sizes, arch.get(machine), arrays, data.slots)
        if program is None:
            assert stands_still(of)
            continue
        program.enable_tracing()
        left = agrees(program, of, partial(run_dynamic, case, program, data))
        if left is not None:
            want, _ = case.eager(data)
            assert all(a.tobytes() == want[n].tobytes() for n, a in left.items() if n in want)


@given(case=scheduled(), data=st.data())
def test_splitting_a_loop_keeps_the_time_of_each_task_or_is_refused(case: workloads.Case, data: st.DataObject) -> None:
    loops = ["/" + "/".join(variable(e) for e in p.around) for p in places(case.workload.wir)]
    if not loops:
        return
    step = split(loop=data.draw(st.sampled_from(loops)), size=data.draw(st.integers(1, 3)))
    try:
        after = step(case.workload)
    except ScheduleError as e:
        assert e.code == "PTO411", e  # noqa: PT017
        return
    of = model(case.workload.wir, case.sizes, arch.get())
    program = compiled(after, threads=2)
    if program is None:
        assert stands_still(of)
        return
    program.enable_tracing()
    left = agrees(program, of, lambda: run_static(case, program))
    assert left is None or same_bits(left, evaluated(case))
