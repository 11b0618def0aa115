"""Random workloads under random schedules: the parts of the critical path add up to the run, and each begins where what it names ends."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import dynamic
from property.test_dynamic import run as run_dynamic
from property.test_schedules import MACHINES, run_static, scheduled
from pto_wsp import DeadlockError, Program, ScheduleError, Workload
from pto_wsp.runtime.explain import Explanation
from schedules import of_whole

ACTIVITIES = {"run", "handover", "read", "issue", "rate limit"}
WAITED_FOR = {"lane", "dependence", "stream", "window", "boundary"}
OTHERS = {"begin", "issued", "ready", "batch", "start"}


def explained(program: Program) -> Explanation:
    e, t, stats = program.explain(), program.trace, program.stats
    assert e.total_cycles == stats.total_cycles
    at = 0
    for step in e.path:
        assert step.activity in ACTIVITIES
        assert step.start == at
        at = step.end
        follows(step, t)
    assert at == e.total_cycles
    assert sum(e.activities.values()) == e.total_cycles
    for shares in (e.kernels, e.lines):
        assert sum(s.path for s in shares) == e.total_cycles
        assert sum(s.busy for s in shares) == int((t.end - t.start).sum())
        assert sum(s.tasks for s in shares) == len(t)
    assert len(e.lanes) == stats.lanes
    for use in e.lanes:
        assert use.busy + sum(use.idle.values()) == e.total_cycles
        assert min(use.idle.values(), default=1) > 0
        assert use.tasks == int((t.lane == use.lane).sum())
    stalls = {w.window: (w.stalls, w.cycles) for w in e.windows}
    assert {k: (w.stalls, w.stall_cycles) for k, w in enumerate(stats.windows) if w.stalls} == stalls
    assert f"{e.total_cycles:,} cycles" in str(e)
    return e


def follows(step: Any, t: Any) -> None:
    """What a part says of its task, and of the one before it."""
    assert step.name == t[step.task].name
    if step.activity == "run":
        assert (step.start, step.end) == (t.start[step.task], t.end[step.task])
    if step.activity == "handover":
        assert step.end == t.ready[step.task]
    if step.activity in ("issue", "rate limit"):
        assert step.start == t.issue[step.task]
    assert (step.because in WAITED_FOR) == (step.after is not None)
    if step.after is None:
        assert step.because in OTHERS
        return
    assert t.end[step.after] == step.start
    if step.because == "lane":
        assert t.lane[step.after] == t.lane[step.task]
    if step.because == "stream":
        assert [t.stream[step.after], t.stream_scope[step.after]] == [t.stream[step.task], t.stream_scope[step.task]]


def compiled(w: Workload, machine: str, threads: int = 1) -> Program:
    """Traced; schedules under which no run ends are refused."""
    try:
        return w.compile(arch=machine, threads=threads).enable_tracing("full")
    except ScheduleError as e:
        if e.code != "PTO419":
            raise
        reject()


@pytest.mark.parametrize("machine", MACHINES)
@given(case=scheduled())
def test_parts_add_up(machine: str, case: Any) -> None:
    program = compiled(case.workload, machine)
    try:
        run_static(case, program)
    except DeadlockError:
        return
    explained(program)


@pytest.mark.parametrize("machine", MACHINES)
@given(case=dynamic.cases(whole=of_whole))
def test_so_they_do_behind_boundaries(machine: str, case: dynamic.Case) -> None:
    program = compiled(case.workload, machine)
    for data in case.data:
        try:
            run_dynamic(case, program, data)
        except DeadlockError:
            continue
        explained(program)


@pytest.mark.parametrize("machine", MACHINES)
@given(case=scheduled(), threads=st.sampled_from((1, 3)))
def test_without_a_trace_it_is_the_same(machine: str, case: Any, threads: int) -> None:
    program = compiled(case.workload, machine, threads)
    try:
        run_static(case, program)
    except DeadlockError:
        return
    same_without_a_trace(program, partial(run_static, case, program))


@pytest.mark.parametrize("machine", MACHINES)
@given(case=dynamic.cases(whole=of_whole), threads=st.sampled_from((1, 3)))
def test_so_it_is_behind_boundaries(machine: str, case: dynamic.Case, threads: int) -> None:
    program = compiled(case.workload, machine, threads)
    for data in case.data:
        program.enable_tracing("full")
        try:
            run_dynamic(case, program, data)
        except DeadlockError:
            continue
        same_without_a_trace(program, partial(run_dynamic, case, program, data))


def same_without_a_trace(program: Program, run: Callable[[], object]) -> None:
    """Of a program that has run with a trace: once it is simulated, and once it has run without."""
    want = program.explain()
    program.simulate(scalars=program.scalars)
    assert program.explain() == want
    program.enable_tracing("none")
    run()
    assert program.explain() == want
