"""Random workloads: what a run computes and how long it takes, against the evaluator and the model of semantic time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import schedule_time
from property.elaborate import expected, figures, model
from pto_wsp import DispatchPolicy, Program, TaskWindow, arch, combine
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.passes.expand import expand
from workloads import Case, cases

Arrays = dict[str, np.ndarray[Any, Any]]


def evaluated(case: Case) -> Arrays:
    arrays = case.fresh()
    wir = expand(case.workload.wir)
    evaluate(wir, {v.name: arrays[v.name] for v in wir.tensors}, case.sizes)
    return arrays


def run(case: Case, program: Program) -> Arrays:
    arrays = case.fresh()
    program.bind({n: a for n, a in arrays.items() if n in program.tensors})
    program.set_axis_sizes(case.sizes)
    program.run()
    return arrays


def same_bits(a: Arrays, b: Arrays) -> bool:
    return all(a[n].tobytes() == b[n].tobytes() for n in a)


@given(cases())
def test_a_run_gives_what_the_evaluator_gives(case: Case) -> None:
    want = evaluated(case)
    for threads in (1, 2, 8):
        program = case.workload.compile(threads=threads)
        assert same_bits(run(case, program), want), f"{threads} threads"
        assert same_bits(run(case, program), want), f"{threads} threads, again"


@pytest.mark.parametrize("machine", ["ascend_a2a3", "ascend_a2a3_measured"])
@given(case=cases(windows="root"), threads=st.sampled_from((1, 2, 8)))
def test_semantic_time_is_that_of_the_model(machine: str, case: Case, threads: int) -> None:
    of = model(case.workload.wir, case.sizes, arch.get(machine))
    want = schedule_time.simulate(of.tasks, **of.options)
    program = case.workload.compile(arch=machine, threads=threads)
    run(case, program)
    assert figures(program) == expected(of, want)


@given(cases())
def test_results_do_not_depend_on_the_schedule(case: Case) -> None:
    plain = case.workload.compile(threads=2)
    want = run(case, plain)
    part = combine(case.workload)  # which may have a schedule
    for w in (part.dispatch(DispatchPolicy.round_robin(1)), part.task_graph(window=TaskWindow(1))):
        assert same_bits(run(case, w.compile(threads=2)), want)
