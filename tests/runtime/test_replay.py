"""Replayed schedules: each worker runs the tasks it ran, in that order, or the run is refused."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    ArtifactError,
    BindError,
    BoundsError,
    Cancelled,
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    ExecutionError,
    In,
    InOut,
    Out,
    P,
    Program,
    ReadyPolicy,
    Resources,
    RunSchedule,
    StartPolicy,
    TaskWindow,
    Tile,
    TimingPolicy,
    UnsupportedError,
    Workload,
    item,
    kernel,
    pto,
    workload,
)

F = DType.F32


@kernel
def scale(x: In[Tile[1, 8, F]], y: Out[Tile[1, 8, F]]):
    pto.store(y, x * 2.0)


@kernel
def grow(y: InOut[Tile[1, 8, F]]):
    pto.store(y, y * 1.5 + 1.0)


@kernel
def picked(flag: In[Tile[1, 1, DType.I32]], x: In[Tile[1, 8, F]], y: Out[Tile[1, 8, F]]):
    """Fails where the flag is not 0."""
    pto.store(y, x + pto.item(x, (pto.item(flag, (0, 0)), 0)))


def rows(n: int, value: float = 1.0) -> Any:
    return np.full((n, 1, 8), value, np.float32)


def independent(n: int = 24) -> Workload:
    @workload
    def w(X, Y):
        for b in P(Dense[n](name="batch")):
            scale[b](x=X[b], y=Y[b])

    return w(rows(n), rows(n, 0.0))


def steps(n: int = 8, rounds: int = 3) -> Workload:
    @workload
    def w(X, Y):
        for b in P(Dense[n](name="batch")):
            scale[b](x=X[b], y=Y[b])
        for t in P.seq(rounds):
            for b in P(Dense[n](name="batch")):
                grow[t, b](y=Y[b])

    return w(rows(n), rows(n, 0.0))


def chain(n: int = 12) -> Workload:
    @workload
    def w(Y):
        for t in P.seq(n):
            grow[t](y=Y[0])

    return w(rows(1))


SCHEDULES: dict[str, Callable[[Workload], Workload]] = {
    "none": lambda w: w,
    "window": lambda w: w.task_graph(window=TaskWindow(3)),
    "bytes": lambda w: w.task_graph(window=TaskWindow(70, "bytes")),
    "streams": lambda w: w.streams(3),
    "pins": lambda w: w.dispatch(DispatchPolicy.affinity(lambda t: t.b)),
    "priorities": lambda w: w.task_graph(ready=ReadyPolicy.priority(lambda t: t.b)),
    "start": lambda w: w.task_graph(start=StartPolicy.threshold(5)),
    "batches": lambda w: w.timing(TimingPolicy.batched(4)),
}


def sequences(trace: Any) -> set[tuple[int, ...]]:
    """What each thread ran, in order."""
    order = np.lexsort((np.arange(len(trace)), trace.ended_ns, trace.started_ns))
    return {tuple(order[trace.thread[order] == t].tolist()) for t in set(trace.thread.tolist())}


def forced(schedule: RunSchedule) -> set[tuple[int, ...]]:
    return {tuple(own.tolist()) for own in schedule.sequences}


def figures(p: Program) -> tuple[object, ...]:
    s = p.stats
    return s.task_count, s.total_cycles, s.stalls, s.stall_cycles, s.high_water, s.windows, s.kernel_counts


def made(like: RunSchedule, worker: Any, order: Any) -> RunSchedule:
    """All tasks in an order, dealt to workers."""
    return RunSchedule(like.origin, [[t for t in order if worker[t] == w] for w in range(int(np.max(worker)) + 1)])


@pytest.mark.parametrize("make", [independent, steps])
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_each_worker_runs_what_it_ran(make: Callable[[], Workload], schedule: str) -> None:
    p = SCHEDULES[schedule](make()).compile(threads=3).enable_tracing()
    p.run()
    want, bits, recorded = figures(p), p.tensors["Y"].copy(), p.trace.schedule()
    assert len(recorded) == p.stats.task_count
    for _ in range(3):
        p.tensors["Y"][:] = 0
        p.run(replay=recorded)
        assert sequences(p.trace) == forced(recorded) == forced(p.trace.schedule())
        assert figures(p) == want
        assert np.array_equal(p.tensors["Y"], bits)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_any_order_that_tasks_allow(schedule: str, workers: int) -> None:
    """Tasks dealt to workers at random, each worker in program order."""
    p = SCHEDULES[schedule](steps()).compile(threads=2).enable_tracing()
    like, bits = p.run().trace.schedule(), p.tensors["Y"].copy()
    rng = np.random.default_rng(workers)
    for _ in range(5):
        worker = rng.integers(0, workers, len(like))
        worker[:workers] = np.arange(workers)
        given = made(like, worker, np.arange(len(like)))
        p.tensors["Y"][:] = 0
        p.run(replay=given)
        assert sequences(p.trace) == forced(given)
        assert len(sequences(p.trace)) == workers
        assert np.array_equal(p.tensors["Y"], bits)


def test_an_order_against_program_order() -> None:
    p = independent().compile(threads=1).enable_tracing()
    like = p.run().trace.schedule()
    backwards = made(like, np.arange(24) % 2, np.arange(24)[::-1])
    p.run(replay=backwards)
    assert sequences(p.trace) == {tuple(range(22, -1, -2)), tuple(range(23, 0, -2))}
    p.run()  # without a schedule nothing is forced
    assert p.trace.schedule().workers <= 1


def refused(p: Program, schedule: RunSchedule) -> None:
    began = time.monotonic()
    with pytest.raises(ArtifactError, match="PTO765"):
        p.run(replay=schedule)
    assert time.monotonic() - began < 5


def test_an_order_that_cannot_be_is_found_at_once() -> None:
    p = chain().compile(threads=2).enable_tracing()
    like = p.run().trace.schedule()
    refused(p, made(like, np.zeros(12, int), np.arange(12)[::-1]))
    # two workers that wait for each other: 0 before 3 before 2 before 1
    order = np.array([3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11])
    refused(p, made(like, np.array([0, 1, 1, 0] + [0] * 8), order))
    p.run(replay=like)


def test_an_order_that_a_smaller_window_does_not_allow() -> None:
    """The last task comes first, but is issued only when others have ended."""
    order = np.r_[23, np.arange(23)]
    for limited in (
        independent().task_graph(window=TaskWindow(4)).compile(threads=1),
        independent().compile(threads=1, resources=Resources(task_window=4)),
    ):
        like = limited.enable_tracing().run().trace.schedule()
        refused(limited, made(like, np.zeros(24, int), order))
    free = independent().compile(threads=1).enable_tracing()
    free.run(replay=made(free.run().trace.schedule(), np.zeros(24, int), order))


def allowed(worker: Any, order: Any, window: int) -> bool:
    """Whether some run has this order: with what is done, the next of each worker that depends on nothing else."""
    edges: dict[int, set[int]] = {}
    rounds, n = 3, 4
    for k in range(n, n + rounds * n):  # a row once it is scaled, and all of one step before all of the next
        edges[k] = {k % n} if k < 2 * n else set(range((k // n - 1) * n, k // n * n))
    left = [[int(t) for t in order if worker[t] == w] for w in range(int(max(worker)) + 1)]
    done: set[int] = set()
    while True:
        retired = next((k for k in range(len(order)) if k not in done), len(order))
        ready = [q for q in left if q and q[0] < retired + window and edges.get(q[0], set()) <= done]
        if not ready:
            return not any(left)
        done.add(ready[0].pop(0))


@pytest.mark.parametrize("window", [3, 100])
def test_random_orders_run_or_are_refused(window: int) -> None:
    p = steps(4).task_graph(window=TaskWindow(window)).compile(threads=2).enable_tracing()
    like, bits = p.run().trace.schedule(), p.tensors["Y"].copy()
    rng = np.random.default_rng(window)
    verdicts = set()
    for _ in range(150):
        worker = rng.integers(0, 3, 16)
        worker[:3] = [0, 1, 2]
        order = np.arange(16)
        for _ in range(rng.integers(0, 4)):
            i = rng.integers(0, 15)
            order[[i, i + 1]] = order[[i + 1, i]]
        given = made(like, worker, order)
        p.tensors["Y"][:] = 0
        verdicts.add(allowed(worker, order, window))
        if allowed(worker, order, window):
            p.run(replay=given)
            assert sequences(p.trace) == forced(given)
            assert np.array_equal(p.tensors["Y"], bits)
        else:
            refused(p, given)
    assert verdicts == {True, False}


def test_saved_and_loaded(tmp_path: Path) -> None:
    p = steps().compile(threads=3).enable_tracing()
    schedule = p.run().trace.schedule()
    schedule.save(tmp_path / "run.json")
    again = RunSchedule.load(tmp_path / "run.json")
    assert (again.origin, again.workers, len(again)) == (schedule.origin, schedule.workers, len(schedule))
    assert forced(again) == forced(schedule)
    assert [f.name for f in tmp_path.iterdir()] == ["run.json"]
    steps().compile(threads=1).run(replay=again)  # another program of the same workload, and other threads
    with pytest.raises(ValueError, match="read-only"):
        again.sequences[0][0] = 1


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    p = steps().compile(threads=3).enable_tracing()
    path = tmp_path / "run.json"
    p.run().trace.schedule().save(path)
    whole = path.read_bytes()
    for k in range(0, len(whole), 37):
        path.write_bytes(whole[:k])
        with pytest.raises(ArtifactError, match="PTO765"):
            RunSchedule.load(path)
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
        with contextlib.suppress(ArtifactError):
            assert len(RunSchedule.load(path)) == 32
    good = {"format": "pto_wsp schedule 1", "program": "", "sizes": {}, "axes": "", "sequences": [[0, 2], [1]]}
    for wrong in (
        {"sequences": [[0, 2], [1], []]},
        {"sequences": [[0, 2], [2]]},
        {"sequences": [[0, 2], [3]]},
        {"sequences": [[0, 2], [-1]]},
        {"sequences": [[0, 2], [1.0]]},
        {"sequences": [[0, 2], [True]]},
        {"sequences": [[0, 2], ["1"]]},
        {"sequences": [[0, 2], [[1]]]},
        {"sequences": [[0, 2], [10**30]]},
        {"sequences": [[0, 2], 1]},
        {"sequences": {"0": 1}},
        {"format": "pto_wsp schedule 2"},
        {"more": 1},
    ):
        path.write_text(json.dumps(good | wrong))
        with pytest.raises(ArtifactError, match="PTO765"):
            RunSchedule.load(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="PTO765"):
        RunSchedule.load(path)
    path.write_text(json.dumps(good))
    assert len(RunSchedule.load(path)) == 3


def test_what_is_no_schedule_is_refused(tmp_path: Path) -> None:
    like = independent().compile(threads=1).enable_tracing().run().trace.schedule()
    for wrong in ("run.json", None, {"program": ""}, like):
        with pytest.raises(ArtifactError, match="PTO765"):
            RunSchedule(wrong, like.sequences)  # type: ignore[arg-type]
    for step in (RunSchedule.load, like.save):
        for path in (4, None, [tmp_path]):
            with pytest.raises(ArtifactError, match="PTO603"):
                step(path)  # type: ignore[arg-type]


def test_more_workers_than_can_be() -> None:
    like = independent().compile(threads=1).enable_tracing().run().trace.schedule()
    with pytest.raises(ArtifactError, match="1024"):
        RunSchedule(like.origin, [[t] for t in range(1025)])


def test_another_program() -> None:
    schedule = independent().compile(threads=1).enable_tracing().run().trace.schedule()
    with pytest.raises(BindError, match="PTO766"):
        steps().compile(threads=1).run(replay=schedule)
    with pytest.raises(BindError, match="PTO766"):
        independent().streams(2).compile(threads=1).run(replay=schedule)


def test_other_sizes() -> None:
    @workload
    def w(X, Y):
        for b in P(DenseDyn(name="batch")):
            scale[b](x=X[b], y=Y[b])

    p = w(rows(9), rows(9)).compile(threads=1).enable_tracing()
    p.set_axis_sizes({"batch": 7})
    schedule = p.run().trace.schedule()
    p.set_axis_sizes({"batch": 8})
    with pytest.raises(BindError, match="8, not 7"):
        p.run(replay=schedule)
    p.set_axis_sizes({"batch": 7})
    p.run(replay=schedule)


@pytest.mark.parametrize("n", [3, 9])
def test_another_number_of_tasks(n: int) -> None:
    count, y = np.array([6], np.int64), rows(10)

    @workload
    def w(N, Y):
        for t in P(item(N[0])):
            grow[t](y=Y[t])

    p = w(count, y).compile(threads=2).enable_tracing()
    schedule = p.run().trace.schedule()
    assert len(schedule) == 6
    count[0] = n
    for how in ("stop", "continue"):
        with pytest.raises(ExecutionError, match="PTO767"):
            p.run(how, replay=schedule)
    count[0] = 6
    p.run(replay=schedule)


@pytest.mark.parametrize("how", ["stop", "continue"])
def test_a_task_that_fails(how: str) -> None:
    """After the schedule of a run in which it did not."""
    flags, y = np.zeros((16, 1, 1), np.int32), rows(16, 0.0)

    @workload
    def w(G, X, Y):
        for b in P(Dense[16](name="batch")):
            picked[b](flag=G[b], x=X[b], y=Y[b])
            grow[b](y=Y[b])

    p = w(flags, rows(16), y).compile(threads=2).enable_tracing()
    like = p.run().trace.schedule()
    rng = np.random.default_rng(0)
    worker = rng.integers(0, 3, 32)
    worker[:3] = [0, 1, 2]
    flags[5] = 1
    for _ in range(5):
        y[:] = 0
        with pytest.raises(BoundsError, match=r"picked\[b=5\]") as caught:
            p.run(how, replay=made(like, worker, np.arange(32)))
        good = [b for b in range(16) if (y[b] == 4).all()]
        if how == "continue":
            assert good == [b for b in range(16) if b != 5]
            assert [t.name for t in caught.value.skipped] == ["grow[b=5]"]
        else:
            assert good[:5] == list(range(5))
    flags[5] = 0
    p.run(replay=like)
    assert (y == 4).all()
    flags[5] = 1
    with pytest.raises(BoundsError):
        p.run("continue")
    with pytest.raises(ExecutionError, match="PTO764"):
        p.trace.schedule()


def test_a_replay_can_be_cancelled() -> None:
    p = steps(64, 200).compile(threads=2).enable_tracing()
    schedule = p.run().trace.schedule()
    p.execute(replay=schedule)
    p.cancel()
    with contextlib.suppress(Cancelled):
        p.synchronize()
    p.run(replay=schedule)
    assert sequences(p.trace) == forced(schedule)


def test_schedules_of_whole_traces_only() -> None:
    p = independent().compile(threads=1).enable_tracing(limit=5)
    with pytest.raises(ExecutionError, match="PTO764"):
        p.run().trace.schedule()


def test_programs_with_checks_are_not_replayed() -> None:
    schedule = independent().compile(threads=1).enable_tracing().run().trace.schedule()
    with pytest.raises(UnsupportedError, match="PTO003"):
        independent().compile(threads=1, check="races").run(replay=schedule)


def test_no_tasks() -> None:
    p = independent(0).compile(threads=2).enable_tracing()
    schedule = p.run().trace.schedule()
    assert (len(schedule), schedule.workers) == (0, 0)
    p.run(replay=schedule)
    assert len(p.trace) == 0


def test_many_tasks() -> None:
    p = steps(64, 300).compile(threads=4).enable_tracing()
    schedule, bits = p.run().trace.schedule(), p.tensors["Y"].copy()
    p.tensors["Y"][:] = 0
    p.run(replay=schedule)
    assert sequences(p.trace) == forced(schedule)
    assert np.array_equal(p.tensors["Y"], bits)
