"""Traced runs: what each column holds, in semantic time and in wall time, and that nothing else changes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Dense,
    DispatchPolicy,
    DType,
    ExecutionError,
    ExecutionTrace,
    In,
    InOut,
    Out,
    P,
    Program,
    PtoError,
    ScheduleError,
    TaskWindow,
    Tile,
    TraceLevel,
    TracePolicy,
    Workload,
    combine,
    kernel,
    pto,
    workload,
)

N = 24


@kernel
def checked(flag: In[Tile[1, 1, DType.I32]], x: InOut[Tile[1, 8, DType.F32]]):
    """Fails where the flag is not 0."""
    pto.store(x, x + pto.item(x, (pto.item(flag, (0, 0)), 0)))


@kernel
def scale(x: In[Tile[1, 8, DType.F32]], out: Out[Tile[1, 8, DType.F32]]):
    pto.store(out, x * 2.0)


@kernel
def add(x: InOut[Tile[1, 8, DType.F32]]):
    pto.store(x, x + 1.0)


def arrays(n: int = N) -> tuple[Any, Any]:
    return np.ones((n, 1, 8), np.float32), np.zeros((n, 1, 8), np.float32)


def independent(n: int = N) -> Workload:
    @workload
    def w(X, Y):
        for b in P(Dense[n](name="batch")):
            scale[b](x=X[b], out=Y[b])

    return w(*arrays(n))


def pairs(n: int = N) -> Workload:
    @workload
    def w(X, Y):
        for b in P(Dense[n](name="batch")):
            scale[b](x=X[b], out=Y[b])
            add[b, b](x=Y[b])

    return w(*arrays(n))


def steps(n: int = N) -> Workload:
    @workload
    def w(X, Y):
        for t in P.seq(3):
            for b in P(Dense[n](name="batch")):
                add[t, b](x=Y[b])

    return w(*arrays(n))


def traced(w: Workload, level: TraceLevel | str = "full", threads: int = 2, **options: Any) -> ExecutionTrace:
    return w.compile(threads=threads, **options).enable_tracing(level).run().trace


def figures(p: Program) -> tuple[object, ...]:
    s = p.stats
    return (s.task_count, s.total_cycles, s.stalls, s.stall_cycles, s.high_water, s.windows, s.kernel_counts)


@pytest.mark.parametrize("arch", ["ascend_a2a3", "ascend_a2a3_measured"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("make", [independent, pairs, steps])
def test_results_and_figures_are_those_of_a_run_without(make: Any, threads: int, arch: str) -> None:
    w = make().dispatch(DispatchPolicy.round_robin(3)).task_graph(window=TaskWindow(7))
    p = w.compile(threads=threads, arch=arch)
    p.run()
    want, bits = figures(p), p.tensors["Y"].copy()
    p.tensors["Y"][:] = 0
    p.enable_tracing("full").run()
    assert figures(p) == want
    assert np.array_equal(p.tensors["Y"], bits)
    t = p.trace
    assert len(t) == want[0]
    assert t.end.max() == want[1]


def test_each_task_by_its_names() -> None:
    t = traced(pairs())
    assert [e.name for e in t[:3]] == ["scale[b=0]", "add[b=0, b=0]", "scale[b=1]"]
    assert t[3].kernel == "add"
    assert t[3].coords == {"b": 1, "b.1": 1}
    assert t.coords.tolist()[:4] == [[0, 0], [0, 0], [1, 0], [1, 1]]
    assert t[-1] == t[2 * N - 1] == t.events[-1]
    assert [e.id for e in t] == list(range(2 * N))
    assert t.sites[0].loc is not None
    assert t.sites[0].loc.file == __file__
    with pytest.raises(IndexError, match="48 tasks"):
        t[48]


def test_cycles_follow_the_rules() -> None:
    w = pairs().dispatch(DispatchPolicy.round_robin(3)).task_graph(window=TaskWindow(5))
    t = traced(w, arch="ascend_a2a3_measured")
    assert (np.diff(t.issue) >= 0).all()
    assert (t.issue <= t.ready).all()
    assert (t.ready <= t.start).all()
    assert (t.start < t.end).all()
    assert t.lane.tolist() == [k % 3 for k in range(2 * N)]
    for lane in range(3):
        mine = t.lane == lane
        assert (np.sort(t.start[mine])[1:] >= np.sort(t.end[mine])[:-1]).all()
    # a task needs a place in the ring: fewer than 5 issued and not retired, in order of issue
    retired = np.maximum.accumulate(t.end)
    assert (t.issue[5:] >= retired[:-5]).all()


def test_what_tasks_wait_for() -> None:
    t = traced(pairs())
    assert sorted(map(tuple, t.edges.tolist())) == [(2 * k, 2 * k + 1) for k in range(N)]
    assert (t.ready[1::2] == t.end[::2]).all()
    assert len(traced(pairs(), "tasks").edges) == 0


def test_joins_stand_between_all_of_one_step_and_all_of_the_next() -> None:
    t = traced(steps(4))
    tasks, joins = set(range(12)), {-1, -2, -3}
    edges = t.edges.tolist()
    assert {n for e in edges for n in e} >= tasks | joins
    into = {j: {a for a, b in edges if b == j} for j in joins}
    out = {j: {b for a, b in edges if a == j} for j in joins}
    assert into == {-1: {0, 1, 2, 3}, -2: {4, 5, 6, 7}, -3: {8, 9, 10, 11}}
    assert out == {-1: {4, 5, 6, 7}, -2: {8, 9, 10, 11}, -3: set()}
    assert len(edges) == 20


def test_edges_do_not_depend_on_threads() -> None:
    def edges(threads: int) -> set[tuple[int, int]]:
        w = steps().task_graph(window=TaskWindow(9))
        return set(map(tuple, traced(w, threads=threads, arch="ascend_a2a3_measured").edges.tolist()))

    assert edges(1) == edges(2) == edges(4)


def test_wall_time_and_threads() -> None:
    p = steps(200).compile(threads=2).enable_tracing()
    began = time.perf_counter_ns()
    p.run()
    took = time.perf_counter_ns() - began
    t = p.trace
    assert (t.issued_ns <= t.started_ns).all()
    assert (t.started_ns <= t.ended_ns).all()
    assert t.issued_ns.min() >= 0
    assert t.ended_ns.max() <= took
    assert set(t.thread.tolist()) <= set(_native_ids())
    for thread in np.unique(t.thread):  # a thread does one thing at a time
        mine = np.argsort(t.started_ns[t.thread == thread])
        assert (t.started_ns[t.thread == thread][mine][1:] >= t.ended_ns[t.thread == thread][mine][:-1]).all()
    # no task of a step begins before all of the last one have ended
    for k in (1, 2):
        assert t.started_ns[200 * k : 200 * (k + 1)].min() >= t.ended_ns[200 * (k - 1) : 200 * k].max()
    assert {e.outcome for e in t} == {"done"}


def _native_ids() -> list[int]:
    from pathlib import Path

    return [int(p.name) for p in Path("/proc/self/task").iterdir()]


def test_tasks_beyond_the_limit_are_counted() -> None:
    p = pairs().compile(threads=2).enable_tracing("full", limit=11).run()
    t = p.trace
    assert (len(t), t.dropped) == (11, 2 * N - 11)
    assert (len(t.edges), t.dropped_edges) == (5, N - 5)
    assert p.stats.task_count == 2 * N
    assert "dropped=37" in repr(t)
    assert traced(pairs()).dropped == 0


def test_a_million_tasks() -> None:
    n = 1_000_000
    x = np.zeros((64, 1, 8), np.float32)

    @workload
    def w(X):
        for t in P.seq(n // 64):
            for b in P(64):
                add[t, b](x=X[b])

    t = w(x).compile(threads=2).enable_tracing(limit=n).run().trace
    assert (len(t), t.dropped) == (n, 0)
    assert t[n - 1].coords == {"t": n // 64 - 1, "b": 63}
    assert (t.end >= 0).all()


def test_columns_cannot_be_written() -> None:
    t = traced(pairs())
    with pytest.raises(ValueError, match="read-only"):
        t.lane[0] = 1
    with pytest.raises(AttributeError):
        t.no_such_column  # noqa: B018


def test_a_trace_belongs_to_the_last_run() -> None:
    p = pairs().compile(threads=2).enable_tracing()
    first = p.run().trace
    ended = first.ended_ns.copy()
    p.run()
    assert np.array_equal(first.ended_ns, ended)
    p.enable_tracing(TraceLevel.NONE).run()
    with pytest.raises(PtoError, match="no traced run"):
        _ = p.trace
    assert len(p.copy().run().stats.kernel_counts) == 2
    assert len(p.enable_tracing().copy().run().trace) == 2 * N


def test_an_empty_workload() -> None:
    t = traced(independent(0))
    assert (len(t), list(t), t.events, len(t.edges)) == (0, [], (), 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_fails(threads: int) -> None:
    flags = np.zeros((8, 1, 1), np.int32)
    flags[5] = 1

    @workload
    def w(F, X):
        for t in P.seq(8):
            checked[t](flag=F[t], x=X[0])

    p = w(flags, np.zeros((1, 1, 8), np.float32)).compile(threads=threads).enable_tracing()
    with pytest.raises(PtoError):
        p.run()
    t = p.trace
    assert [e.outcome for e in t][:6] == ["done"] * 5 + ["failed"]
    assert {e.outcome for e in t[6:]} <= {"dropped"}
    assert (t.started_ns[6:] == -1).all()
    assert (t.thread[6:] == 0).all()


def test_levels_by_name() -> None:
    p = pairs().compile(threads=1)
    for level in ("tasks", TraceLevel.TASKS):
        assert len(p.enable_tracing(level).run().trace) == 2 * N


def test_a_trace_policy_says_what_runs_record() -> None:
    """Of the whole workload, and kept in the artifact; `enable_tracing` has the last word."""
    x, y = np.zeros((4, 8, 8), np.float32), np.zeros((4, 8, 8), np.float32)

    @kernel
    def grown(x: In[Tile[8, 8, DType.F32]], y: Out[Tile[8, 8, DType.F32]]) -> None:
        pto.store(y, x + 1.0)

    @workload
    def rows(x, y):  # type: ignore[no-untyped-def]
        for b in P(Dense[4]()):
            grown[b](x=x[b], y=y[b])

    w = rows(x, y).task_graph(trace=TracePolicy.tasks)
    program = w.compile().run()
    assert len(program.trace) == 4
    again = Program.from_bytes(program.to_bytes()).bind({"x": x, "y": y}).run()
    assert len(again.trace) == 4
    with pytest.raises(ExecutionError, match="no traced run"):
        _ = program.enable_tracing("none").run().trace
    with pytest.raises(ScheduleError, match="a trace policy of a part"):
        combine(w, rows(x, y)).compile()


def test_streams() -> None:
    t = traced(pairs().streams(3))
    assert t.stream.tolist() == [k % 3 for k in range(2 * N)]
    assert set(t.stream_scope.tolist()) == {0}
    assert (t[4].stream, t[4].stream_scope) == (1, 0)
    assert (t.start[3:] >= t.end[:-3]).all()
    none = traced(pairs())
    assert set(none.stream.tolist()) == set(none.stream_scope.tolist()) == {-1}


def test_streams_of_several_scopes() -> None:
    @workload
    def w(X, Y):
        for b in P(Dense[6](name="batch")):
            scale[b](x=X[b], out=Y[b])

    x, y = arrays(6)
    both = combine(w(x, y).stream_by(lambda t: t.b - 3), independent(4).streams(2), independent(2))
    t = traced(both)
    assert t.stream.tolist() == [-3, -2, -1, 0, 1, 2, 0, 1, 0, 1, -1, -1]
    assert t.stream_scope.tolist() == [0] * 6 + [1] * 4 + [-1] * 2


def test_windows_are_those_of_the_schedule() -> None:
    @workload
    def w(X, Y):
        for b in P(Dense[6](name="batch")):
            scale[b](x=X[b], out=Y[b])

    x, y = arrays(6)
    t = traced(combine(w(x, y), w(x, y.copy()).task_graph(window=TaskWindow(2))))
    assert len(set(t.window.tolist())) == 2
    in_small = t.window == t.window[6]
    assert (t.issue[in_small][2:] >= t.end[in_small][:-2]).all()
