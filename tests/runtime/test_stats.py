"""The figures of a run as values: what is said of runs that ended with an error, and what copies, files and comparisons keep."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BoundsError,
    DeadlockError,
    DenseDyn,
    DType,
    Out,
    P,
    Program,
    RaceError,
    Scalar,
    StartPolicy,
    TaskWindow,
    TensorSpec,
    Tile,
    item,
    kernel,
    pto,
    workload,
)


@kernel
def fill(s: Scalar[DType.F32], y: Out[Tile[1, 8, DType.F32]]):
    pto.store(y, pto.full((1, 8), s, DType.F32))


n = DenseDyn("n")


@workload
def filled(Y):
    for b in P(n):
        fill[b](s=1.0, y=Y[b])


def waiting(threads: int) -> Program:
    """Ends where there are more than 4 tasks."""
    w = filled(TensorSpec((n, 1, 8), DType.F32))
    w = w.task_graph(window=TaskWindow(4), start=StartPolicy.after_orchestration)
    return w.compile(threads=threads)


def bound(p: Program, tasks: int) -> Program:
    return p.set_axis_sizes({"n": tasks}).bind({"Y": np.zeros((tasks, 1, 8), np.float32)})


@pytest.mark.parametrize("threads", [1, 2])
def test_the_report_of_a_deadlock_says_what_ended_the_run(threads: int) -> None:
    p = bound(waiting(threads), 6)
    with pytest.raises(DeadlockError) as caught:
        p.run()
    text = str(p.stats).splitlines()
    assert p.stats.ended_with == f"DeadlockError [PTO740]: {caught.value.what}"
    assert text[:3] == [f"the run ended with {p.stats.ended_with}", "until then:", "4 tasks issued"]
    assert p.stats.task_count == 4
    assert all(r.suffices is None for r in p.stats.real.resources.values())
    assert "no resource limited" not in str(p.stats)

    bound(p, 4).run()
    assert p.stats.ended_with == ""
    assert str(p.stats).startswith("4 tasks\n")


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_the_report_of_a_run_that_fails_says_so(on_error: str) -> None:
    at = np.array([0, 9], np.int64)
    Y = np.zeros((2, 1, 8), np.float32)

    @workload
    def beyond(at, Y):
        for b in P.seq(2):
            fill[b](s=1.0, y=Y[item(at[b])])

    p = beyond(at, Y).compile(threads=2)
    with pytest.raises(BoundsError) as caught:
        p.run(on_error)
    assert p.stats.ended_with == f"BoundsError [{caught.value.code}]: {caught.value.what}"
    assert "no resource limited" not in str(p.stats)


def test_what_a_check_finds_is_said_too() -> None:
    at, Y = np.array([1, 1], np.int64), np.zeros((2, 1, 8), np.float32)

    @workload
    def twice(at, Y):
        for b in P(2):
            fill[b](s=1.0, y=Y[item(at[b])])

    p = twice(at, Y).compile(check="races")
    with pytest.raises(RaceError) as caught:
        p.run()
    assert p.stats.ended_with == f"RaceError [{caught.value.code}]: {caught.value.what}"


def traced() -> Program:
    p = bound(filled(TensorSpec((n, 1, 8), DType.F32)).compile(threads=2), 6)
    p.enable_tracing("full").run()
    return p


VALUES: dict[str, Callable[[Program], Any]] = {
    "stats": lambda p: p.stats,
    "semantic": lambda p: p.simulate(),
    "explanation": lambda p: p.explain(),
    "explanation of a trace": lambda p: p.trace.explain(),
    "events": lambda p: p.trace.events,
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_results_are_copied_and_pickled(name: str, again: Callable[[Any], Any]) -> None:
    value = VALUES[name](traced())
    made = again(value)
    assert made == value
    assert str(made) == str(value)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_traces_and_schedules_are_copied_and_pickled(again: Callable[[Any], Any]) -> None:
    p = traced()
    made = again(p.trace)
    assert made.events == p.trace.events
    assert made.edges.tolist() == p.trace.edges.tolist()
    assert made.explain() == p.trace.explain()
    schedule = again(p.trace.schedule())
    p.run(replay=schedule)
    ran = p.trace.schedule().sequences  # in the order in which the threads began
    assert sorted(s.tolist() for s in ran) == sorted(s.tolist() for s in schedule.sequences)


def test_equal_runs_have_equal_explanations() -> None:
    one, other = traced(), traced()
    assert one.explain() == other.explain()
    assert one.stats.semantic == other.stats.semantic
    assert one.explain() != bound(one, 5).run().explain()


def test_what_stands_under_names_cannot_be_changed() -> None:
    resources = traced().stats.real.resources
    with pytest.raises(TypeError):
        resources["arena"] = resources["edges"]  # type: ignore[index]
    assert resources == dict(resources)
    assert repr(resources) == repr(dict(resources))
