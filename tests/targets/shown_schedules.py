"""Schedule directives show in semantic time: lanes, and cycles of issue, readiness, start and end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Deps,
    DispatchPolicy,
    ExecutionError,
    Out,
    P,
    Pools,
    RaceError,
    ReadyPolicy,
    StartPolicy,
    TaskWindow,
    Tile,
    TimingPolicy,
    TracePolicy,
    WindowError,
    WindowMode,
    Workload,
    combine,
    item,
    kernel,
    pto,
    register_policy,
    task_graph,
    timing,
    where,
    workload,
)
from targets.shown import COSTLY, F, N, cycles, even, grow, ones, ran, shows, skewed, traced, units

register_policy("dispatch", "shown_by_rows", lambda t: t.b // 4 % t.lanes)
register_policy("timing", "shown_distance", lambda t: 500 + t.b)
register_policy("ready", "shown_last_first", lambda t: t.id)
register_policy("pools", "shown_halves", lambda t: where(t.b < N // 2, 0, 1))
ONE_LANE = DispatchPolicy.round_robin(1)


def lanes(w: Workload) -> list[int]:
    return traced(w).lane.tolist()


def in_order_of_start(w: Workload) -> list[int]:
    """Tasks as one lane takes them once all are issued."""
    t = traced(w.dispatch(ONE_LANE).task_graph(start=StartPolicy.after_orchestration))
    return np.argsort(t.start, kind="stable").tolist()


@shows("dispatch.round_robin")
def _() -> None:
    assert lanes(even().dispatch(DispatchPolicy.round_robin(3))) == [k % 3 for k in range(N)]


@shows("dispatch.affinity")
def _() -> None:
    keys = [k * 5 % 7 for k in range(N)]
    first = list(dict.fromkeys(keys))
    assert lanes(even().dispatch(DispatchPolicy.affinity(lambda t: t.b * 5 % 7, 3))) == [
        first.index(k) % 3 for k in keys
    ]


@shows("dispatch.hash")
def _() -> None:
    def mixed(x: int) -> int:
        """SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    assert lanes(even().dispatch(DispatchPolicy.hash(lambda t: t.b // 2, 5))) == [mixed(k // 2) % 5 for k in range(N)]


@shows("dispatch.dispatch_by")
def _() -> None:
    assert lanes(even().dispatch(DispatchPolicy.dispatch_by(lambda t: t.b // 2 - 3, 4))) == [
        (k // 2 - 3) % 4 for k in range(N)
    ]


@shows("dispatch.least_loaded")
def _() -> None:
    t = traced(skewed().dispatch(DispatchPolicy.least_loaded(3)))
    loads, want = [0, 0, 0], list[int]()
    for cost in (t.end - t.start).tolist():
        want.append(loads.index(min(loads)))
        loads[want[-1]] += cost
    assert t.lane.tolist() == want
    assert want != [k % 3 for k in range(2 * N)]


@shows("dispatch.work_steal")
def _() -> None:
    in_turn = skewed().dispatch(DispatchPolicy.round_robin(2))
    stolen = skewed().dispatch(DispatchPolicy.work_steal(2))
    assert cycles(stolen) < cycles(in_turn)
    assert lanes(stolen) != lanes(in_turn)


@shows("dispatch.registered")
def _() -> None:
    assert lanes(even().dispatch(DispatchPolicy.shown_by_rows(lanes=2))) == [k // 4 % 2 for k in range(N)]


def one_after_another(w: Workload, stream: Any) -> None:
    t = traced(w.dispatch(DispatchPolicy.round_robin(N)))
    end: dict[int, int] = {}
    for k in range(N):
        assert t.start[k] >= end.get(stream(k), 0)
        end[stream(k)] = t.end[k]
    assert len(end) > 1
    assert cycles(w.dispatch(DispatchPolicy.round_robin(N))) > cycles(even().dispatch(DispatchPolicy.round_robin(N)))


@shows("streams")
def _() -> None:
    one_after_another(even().streams(2), lambda k: k % 2)


@shows("stream_by")
def _() -> None:
    one_after_another(even().stream_by(lambda t: t.b // 4), lambda k: k // 4)


@shows("timing.immediate")
def _() -> None:
    inner = timing(TimingPolicy.immediate)(even(3))
    t = traced(combine(inner, even(3)).timing(TimingPolicy.batched(100)), COSTLY)
    waited = t.ready - t.issue
    assert (waited[:3] < waited[3:5].min()).all()  # the others until all is issued


@shows("timing.batched")
def _() -> None:
    t = traced(even().timing(TimingPolicy.batched(4)), COSTLY)
    assert (t.ready.reshape(3, 4) >= t.issue.reshape(3, 4)[:, 3:]).all()
    assert (np.ptp(t.ready.reshape(3, 4), axis=1) == 0).all()


@shows("timing.interleaved")
def _() -> None:
    streams = even().stream_by(lambda t: t.b // (N // 2))
    t = traced(streams.timing(TimingPolicy.interleaved(2)), COSTLY)
    halves_in_turn = [k for pair in zip(range(N // 2), range(N // 2, N), strict=True) for k in pair]
    assert np.argsort(t.issue).tolist() == halves_in_turn
    assert (np.diff(traced(streams, COSTLY).issue) > 0).all()


@shows("timing.rate_limit")
def _() -> None:
    program = even().timing(TimingPolicy.rate_limit(1000)).compile(arch="ascend_a2a3_measured").enable_tracing()
    clock_khz = program.run()._artifact.manifest["clock_khz"]
    assert np.diff(program.trace.issue).tolist() == [-(-clock_khz // 1000)] * (N - 1)


@shows("timing.registered")
def _() -> None:
    assert np.diff(traced(even().timing(TimingPolicy.shown_distance())).issue).tolist() == [
        500 + b for b in range(N - 1)
    ]


BYTES = 4 * 8  # that a task writes


def stalls(bound: TaskWindow, in_flight: int) -> None:
    stats = ran(even().window(bound)).stats
    assert stats.windows[1].high_water == in_flight
    assert stats.windows[1].stalls > 0
    assert stats.total_cycles > cycles(even())


def aborts(bound: TaskWindow, enough: TaskWindow) -> None:
    program = even().window(bound).compile()
    with pytest.raises(WindowError):
        program.run()
    assert cycles(even().window(enough)) == cycles(even())


def records(bound: TaskWindow) -> None:
    stats = ran(even().window(bound)).stats
    assert stats.windows[1].high_water == N
    assert stats.windows[1].stalls == 0
    assert stats.total_cycles == cycles(even())


@shows("window.tasks.STALL")
def _() -> None:
    stalls(TaskWindow(2), 2)


@shows("window.tasks.ABORT")
def _() -> None:
    aborts(TaskWindow(N - 1, "tasks", WindowMode.ABORT), TaskWindow(N, "tasks", WindowMode.ABORT))


@shows("window.tasks.BENCHMARK")
def _() -> None:
    records(TaskWindow(2, "tasks", WindowMode.BENCHMARK))


@shows("window.bytes.STALL")
def _() -> None:
    stalls(TaskWindow(3 * BYTES + 1, "bytes"), 3)


@shows("window.bytes.ABORT")
def _() -> None:
    aborts(TaskWindow(N * BYTES - 1, "bytes", WindowMode.ABORT), TaskWindow(N * BYTES, "bytes", WindowMode.ABORT))


@shows("window.bytes.BENCHMARK")
def _() -> None:
    w = even().window(TaskWindow(BYTES, "bytes", WindowMode.BENCHMARK))
    assert ran(w).stats.windows[1].high_bytes == N * BYTES
    records(TaskWindow(BYTES, "bytes", WindowMode.BENCHMARK))


@shows("ready.fifo")
def _() -> None:
    inner = task_graph(ready=ReadyPolicy.fifo)(even(3))  # of priority 0
    w = combine(inner, even(3)).task_graph(ready=ReadyPolicy.priority(lambda t: t.id + 1))
    assert in_order_of_start(w) == [5, 4, 3, 0, 1, 2]


@shows("ready.work_steal")
def _() -> None:
    home = even().dispatch(DispatchPolicy.dispatch_by(lambda t: 0, 4))
    assert set(lanes(home)) == {0}
    assert set(lanes(home.task_graph(ready=ReadyPolicy.work_steal))) == {0, 1, 2, 3}


@shows("ready.priority")
def _() -> None:
    w = even().task_graph(ready=ReadyPolicy.priority(lambda t: t.b % 3))
    assert in_order_of_start(w) == sorted(range(N), key=lambda k: (-(k % 3), k))


@shows("ready.longest_processing_time")
def _() -> None:
    w = skewed().task_graph(ready=ReadyPolicy.longest_processing_time())
    assert in_order_of_start(w) == [*range(1, 2 * N, 2), *range(0, 2 * N, 2)]


@shows("ready.registered")
def _() -> None:
    assert in_order_of_start(even().task_graph(ready=ReadyPolicy.shown_last_first())) == [*reversed(range(N))]


@shows("start.after_orchestration")
def _() -> None:
    t = traced(even().task_graph(start=StartPolicy.after_orchestration), COSTLY)
    assert t.start.min() >= t.issue.max() > traced(even(), COSTLY).start.min()


@shows("start.threshold")
def _() -> None:
    slowly = even().timing(TimingPolicy.shown_distance())
    t = traced(slowly.task_graph(start=StartPolicy.threshold(5)))
    assert t.start.min() == t.issue[4] < t.issue.max()
    assert traced(slowly).start.min() < t.issue[4]


@shows("pools.single")
def _() -> None:
    assert set(lanes(units().dispatch(ONE_LANE).task_graph(pools=Pools.single))) == {0}


@shows("pools.by_exec_unit")
def _() -> None:
    assert lanes(units().dispatch(ONE_LANE).task_graph(pools=Pools.by_exec_unit)) == [0, 1] * N


@shows("pools.custom")
def _() -> None:
    pools = Pools.custom(lambda t: where(t.b == 0, 0, 1), {"first": 1, "others": 2})
    got = lanes(even().task_graph(pools=pools))
    assert got[0] == 0
    assert set(got[1:]) == {1, 2}


@shows("pools.registered")
def _() -> None:
    got = lanes(even().task_graph(pools=Pools.shown_halves({"low": 1, "high": 1})))
    assert got == [0] * (N // 2) + [1] * (N // 2)


@kernel
def fill(out: Out[Tile[4, 4, F]]):
    pto.store(out, 1.0)


def halves(mode: Any) -> Workload:
    """Two tasks write the columns of rows, one the left, one the right: bytes between each other's, and no element."""

    @workload
    def w(first, Y):
        for i in P.seq(1):
            for k in (0, 1):
                fill[i, k](out=Y[:, item(first[k]) : item(first[k]) + 4])

    return w(np.array([0, 4]), ones(4, 8)).task_graph(deps=mode)


@shows("deps.infer_tensor_map_exact")
def _() -> None:
    assert np.ptp(traced(halves(Deps.infer_tensor_map_exact)).start) == 0
    t = traced(twice(Deps.infer_tensor_map_exact))
    assert t.start[1] >= t.end[0]


@shows("deps.infer_bytes_overlap")
def _() -> None:
    t = traced(halves(Deps.infer_bytes_overlap))
    assert t.start[1] >= t.end[0]


def twice(mode: Any, after: bool = False, same: bool = True) -> Workload:
    """Two tasks that change one row, or one row each, the second after the first."""

    @workload
    def w(X):
        first = grow[0](x=X[0])
        grow[1](x=X[0 if same else 1], **({"after": first} if after else {}))

    return w(ones(2, 1, 8)).task_graph(deps=mode)


@shows("deps.explicit")
def _() -> None:
    with pytest.raises(RaceError):
        twice(Deps.explicit)
    t = traced(twice(Deps.explicit, after=True))
    assert t.start[1] >= t.end[0]


@shows("deps.hybrid")
def _() -> None:
    for w in (twice(Deps.hybrid), twice(Deps.hybrid, after=True, same=False)):
        t = traced(w)
        assert t.start[1] >= t.end[0]
    assert np.ptp(traced(twice(Deps.hybrid, same=False)).start) == 0


@shows("trace.none")
def _() -> None:
    program = even().task_graph(trace=TracePolicy.none).compile().run()
    with pytest.raises(ExecutionError):
        _ = program.trace


@shows("trace.tasks")
def _() -> None:
    trace = twice(Deps.hybrid).task_graph(trace=TracePolicy.tasks).compile().run().trace
    assert (len(trace), len(trace.edges)) == (2, 0)


@shows("trace.full")
def _() -> None:
    trace = twice(Deps.hybrid).task_graph(trace=TracePolicy.full).compile().run().trace
    assert trace.edges.tolist() == [[0, 1]]
