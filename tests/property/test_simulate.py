"""What simulating gives is what a run gives, for random workloads, static and shaped by data."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamic
from property.test_dynamic import run as run_dynamic
from property.test_time import run
from pto_wsp import DispatchPolicy, Program, ReadyPolicy, TimingPolicy, UnsupportedError, Workload, combine
from pto_wsp.runtime.stats import SemanticStats
from workloads import Case, cases

_SCHEDULES = (
    lambda w: w,
    lambda w: w.streams(2),
    lambda w: w.dispatch(DispatchPolicy.least_loaded(3)),
    lambda w: w.timing(TimingPolicy.batched(3)),
    lambda w: w.timing(TimingPolicy.rate_limit(1000)),
    lambda w: w.task_graph(ready=ReadyPolicy.priority(lambda t: t.position % 3)),
)


@pytest.mark.parametrize("machine", ["ascend_a2a3", "ascend_a2a3_measured"])
@given(case=cases(), schedule=st.sampled_from(_SCHEDULES), threads=st.sampled_from((1, 3)))
def test_simulating_gives_the_figures_of_a_run(machine: str, case: Case, schedule: Any, threads: int) -> None:
    # what has a schedule already may be scheduled again as a part of another
    program: Program = schedule(combine(case.workload)).compile(arch=machine, threads=threads)
    program.set_axis_sizes(case.sizes)
    before = program.simulate()  # before there are arrays
    arrays = run(case, program)
    assert before == program.stats.semantic
    kept = {n: a.tobytes() for n, a in arrays.items()}
    assert program.simulate() == before
    assert kept == {n: a.tobytes() for n, a in arrays.items()}


def figures_without_scalars(program: Program) -> SemanticStats | None:
    try:
        return program.simulate()
    except UnsupportedError:
        return None


@given(case=dynamic.cases(), threads=st.sampled_from((1, 3)))
def test_simulating_with_the_scalars_of_a_run_gives_its_figures(case: dynamic.Case, threads: int) -> None:
    program = case.workload.compile(arch="ascend_a2a3_measured", threads=threads)
    other: Workload = case.workload.streams(3)
    scheduled = other.compile(threads=threads)
    for data in case.data:
        run_dynamic(case, program, data)
        figures, scalars = program.stats.semantic, program.scalars
        assert program.simulate(scalars=scalars) == figures
        without = figures_without_scalars(program)
        assert without == figures or (without is None and len(scalars) > 0)
        # the numbers are the same under each schedule
        run_dynamic(case, scheduled, data)
        assert np.array_equal(scheduled.scalars.numbers, scalars.numbers)
        assert scheduled.simulate(scalars=scalars) == scheduled.stats.semantic
