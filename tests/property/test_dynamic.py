"""Random workloads whose shape is in data: the evaluator, runs on any number of threads and the model of time agree with plain
Python, which knows nothing of tracing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic import Case, Data, cases
from models import schedule_time
from property.elaborate import expected, figures, model
from pto_wsp import DispatchPolicy, Program, TaskWindow, arch, combine
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.discharge import discharge
from pto_wsp.passes.expand import expand

Arrays = dict[str, np.ndarray[Any, Any]]


def inputs(case: Case, data: Data) -> tuple[Arrays, dict[str, int]]:
    """Arrays by tensor name, and sizes by symbol, for the evaluator."""
    arrays = {n: a.copy() for n, a in data.arrays.items()}
    arrays["lens.lengths"], arrays["sparse.indptr"] = np.array(data.lengths), np.array(data.indptr)
    arrays["sparse.indices"] = np.array(data.indices, np.int64)
    wir = case.workload.wir
    sizes = {**data.sizes, "outer": len(data.lengths), "sparse.nnz": len(data.indices)}
    return {v.name: arrays[v.name] for v in wir.tensors}, {n: sizes[n] for n in wir.symbols}


def same_bits(got: Arrays, want: Arrays) -> bool:
    return all(a.tobytes() == want[n].tobytes() for n, a in got.items() if n in want)


def run(case: Case, program: Program, data: Data) -> Arrays:
    """The arrays after a run of a program that is bound to this data."""
    arrays = {n: a.copy() for n, a in data.arrays.items()}
    program.bind({n: a for n, a in arrays.items() if n in program.tensors})
    program.set_axis_sizes(case.bindings(data))
    if "slot_get" in program.wir:
        program.set_slot(0, data.slots.get(0, 0))
    program.run()
    return arrays


@given(cases())
def test_the_evaluator_gives_what_python_gives(case: Case) -> None:
    for data in case.data:
        want, _ = case.eager(data)
        for form in (expand, canonicalize, discharge):
            arrays, sizes = inputs(case, data)
            wir = expand(form(case.workload.wir))
            assert parse(show(wir)) == wir
            evaluate(wir, {v.name: arrays[v.name] for v in wir.tensors}, {n: sizes[n] for n in wir.symbols}, data.slots)
            assert same_bits(arrays, want), form.__name__


@pytest.mark.parametrize("threads", [1, 2, 8])
@settings(max_examples=max(60, settings.default.max_examples))  # type: ignore[union-attr]
@given(case=cases())
def test_one_program_gives_what_python_gives_with_any_data(threads: int, case: Case) -> None:
    program = case.workload.compile(threads=threads)
    compiled = program.to_bytes()
    for data in (*case.data, case.data[0]):
        want, tasks = case.eager(data)
        assert same_bits(run(case, program, data), want)
        assert program.stats.task_count == tasks
    assert program.to_bytes() == compiled


@pytest.mark.parametrize("machine", ["ascend_a2a3", "ascend_a2a3_measured"])
@given(case=cases(windows=False), window=st.integers(1, 6) | st.none(), threads=st.sampled_from((1, 2, 8)))
def test_semantic_time_is_that_of_the_model(machine: str, case: Case, window: int | None, threads: int) -> None:
    w = case.workload if window is None else case.workload.task_graph(window=TaskWindow(window))
    program = w.compile(arch=machine, threads=threads)
    for data in case.data:
        arrays, sizes = inputs(case, data)
        of = model(w.wir, sizes, arch.get(machine), arrays, data.slots)
        want = schedule_time.simulate(of.tasks, **of.options)
        run(case, program, data)
        assert figures(program) == expected(of, want)


@given(cases())
def test_results_do_not_depend_on_the_schedule(case: Case) -> None:
    part = combine(case.workload)  # what has a schedule may not have the same directly around it; a part of another may
    for data in case.data:
        want, _ = case.eager(data)
        for w in (part.dispatch(DispatchPolicy.round_robin(1)), part.task_graph(window=TaskWindow(1))):
            assert same_bits(run(case, w.compile(threads=2), data), want)
