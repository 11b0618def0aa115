"""What schedules say of real runs, measured: threads, order, and what is in flight; numbers never change."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Cancelled,
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
    ReadyPolicy,
    Scalar,
    StartPolicy,
    TaskWindow,
    Tile,
    Workload,
    combine,
    kernel,
    pto,
    register_policy,
    window,
    workload,
)

F = DType.F32
THREADS = (1, 2, 4)

register_policy("dispatch", "placed_diagonally", lambda t: (t.b + t.step) % t.lanes, pin=True)


@kernel
def brief(x: InOut[Tile[1, 64, F]]):
    pto.store(x, x * 0.5 + 1.0)


@kernel
def busy(x: InOut[Tile[1, 64, F]]):
    """Some microseconds, without a loop: who waits may run it."""
    v = x * 0.5
    for _ in range(60):
        v = pto.exp(v) * 0.25
    pto.store(x, v)


@kernel
def trips(n: Scalar[DType.I64], x: In[Tile[1, 64, F]], out: Out[Tile[1, 64, F]]):
    """As long as n says."""
    pto.store(out, pto.fori_loop(0, n, lambda i, v: pto.exp(v * 0.25) * 0.5, x))


def rows(n: int) -> np.ndarray[Any, Any]:
    return np.linspace(0, 1, n * 64, dtype=np.float32).reshape(n, 1, 64)


def steps(batch: int = 24, count: int = 6) -> Workload:
    """Steps one after another, and in each a task for each row."""

    @workload
    def w(Y):
        for step in P.seq(count):
            for b in P(Dense[batch](name="batch")):
                busy[step, b](x=Y[b])

    return w(rows(batch))


def independent(n: int) -> Workload:
    @workload
    def w(Y):
        for b in P(Dense[n](name="batch")):
            brief[b](x=Y[b])

    return w(rows(n))


def traced(w: Workload, threads: int, **options: Any) -> ExecutionTrace:
    return w.compile(threads=threads, **options).enable_tracing().run().trace


Key = Callable[[dict[str, int]], int]
PINNED: dict[str, tuple[Any, Key]] = {
    "affinity": (DispatchPolicy.affinity(lambda t: t.b * 7 % 5, 3), lambda c: c["b"] * 7 % 5),
    "hash": (DispatchPolicy.hash(lambda t: t.b // 3, 16), lambda c: c["b"] // 3),
    "dispatch_by": (DispatchPolicy.dispatch_by(lambda t: t.b - 7, 5), lambda c: (c["b"] - 7) % 5),
    "registered": (DispatchPolicy.placed_diagonally(lanes=6), lambda c: (c["b"] + c["step"]) % 6),
}


def check_pins(trace: ExecutionTrace, key: Key, threads: int) -> None:
    """Each key is on one thread, lanes on thread lane mod threads, and none is the thread that waits."""
    of_key, of_worker = defaultdict[int, set[int]](set), defaultdict[int, set[int]](set)
    for e in trace:
        assert e.outcome == "done"
        of_key[key(e.coords)].add(e.thread)
        of_worker[e.lane % threads].add(e.thread)
    assert all(len(ids) == 1 for ids in of_key.values())
    assert all(len(ids) == 1 for ids in of_worker.values())
    assert len(set.union(*of_worker.values())) == len(of_worker)
    assert threading.get_native_id() not in set.union(*of_worker.values())


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", PINNED)
def test_a_key_is_on_one_thread(name: str, threads: int) -> None:
    policy, key = PINNED[name]
    program = steps().dispatch(policy).compile(threads=threads).enable_tracing()
    for _ in range(5):
        check_pins(program.run().trace, key, threads)
        assert len({e.thread for e in program.trace}) == min(threads, len({e.lane for e in program.trace}))


def test_what_is_not_pinned_the_waiting_thread_may_run() -> None:
    """That it never runs what is pinned says something."""
    program = steps().dispatch(DispatchPolicy.round_robin(4)).compile(threads=2).enable_tracing()
    assert any(threading.get_native_id() in program.run().trace.thread for _ in range(1000))


def test_pins_among_other_programs() -> None:
    failed: list[BaseException] = []
    stop = threading.Event()

    def run(program: Program, key: Key | None, threads: int) -> None:
        try:
            while not stop.is_set():
                program.run()
                if key is not None:
                    check_pins(program.trace, key, threads)
        except BaseException as e:  # noqa: BLE001 - the test reports it
            failed.append(e)

    users: list[threading.Thread] = []
    for name, threads in (("affinity", 2), ("hash", 4), ("registered", 3)):
        policy, key = PINNED[name]
        program = steps().dispatch(policy).compile(threads=threads).enable_tracing()
        users.append(threading.Thread(target=run, args=(program, key, threads)))
    users.append(threading.Thread(target=run, args=(steps().compile(threads=2), None, 2)))
    for user in users:
        user.start()
    policy, key = PINNED["dispatch_by"]
    program = steps().dispatch(policy).compile(threads=4).enable_tracing()
    for _ in range(20):
        check_pins(program.run().trace, key, 4)
    stop.set()
    for user in users:
        user.join()
    assert failed == []


def in_flight_at_most(trace: ExecutionTrace, size: Callable[[int], int], bound: int) -> int:
    """Most that was measured in flight when a task was issued, itself included: tasks retire in program order."""
    retired = np.maximum.accumulate(trace.ended_ns)
    most = 0
    for k in range(len(trace)):
        before = [j for j in range(k) if retired[j] > trace.issued_ns[k]]
        most = max(most, size(k) + sum(map(size, before)))
        assert not before or size(k) + sum(map(size, before)) <= bound
    return most


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("size", [1, 3, 16])
def test_a_window_bounds_what_is_in_flight(size: int, threads: int) -> None:
    program = steps().window(TaskWindow(size)).compile(threads=threads).enable_tracing().run()
    assert in_flight_at_most(program.trace, lambda k: 1, size) <= size
    assert program.stats.max_in_flight == size  # issue is ahead of those steps
    if size > 1:  # or tasks run as they are issued
        assert program.stats.real.windows_in_flight[1].tasks == size
    wide = steps().compile(threads=threads).run()
    assert wide.stats.real.windows_in_flight[0].tasks > 16


ROW = 64 * 4


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("size", [ROW, 5 * ROW + 7])
def test_a_window_in_bytes_bounds_what_is_in_flight(size: int, threads: int) -> None:
    program = steps().window(TaskWindow(size, "bytes")).compile(threads=threads).enable_tracing().run()
    tasks = size // ROW
    assert in_flight_at_most(program.trace, lambda k: ROW, tasks * ROW) <= tasks * ROW
    if threads > 1:
        assert program.stats.real.windows_in_flight[1].bytes == tasks * ROW
        assert program.stats.real.windows_in_flight[1].tasks == tasks


def test_nested_windows_each_bound_their_own() -> None:
    inner = window(TaskWindow(2))(steps(12, 3))
    program = combine(inner, steps(12, 3)).window(TaskWindow(5)).compile(threads=4).enable_tracing().run()
    assert [w.tasks for w in program.stats.real.windows_in_flight[1:]] == [2, 5]
    t = program.trace
    assert set(t.window.tolist()) == {1, 2}


def greedy(n: int, priority: Callable[[int], int], stream: Callable[[int], int]) -> list[int]:
    """The order of one thread that has all tasks before it: of those whose stream is that far the highest priority, then the first."""
    waiting, order = list(range(n)), list[int]()
    while waiting:
        heads: dict[int, int] = {}
        for k in waiting:
            heads.setdefault(stream(k), k)
        order.append(min(heads.values(), key=lambda k: (-priority(k), k)))
        waiting.remove(order[-1])
    return order


def really(trace: ExecutionTrace) -> list[int]:
    return np.argsort(trace.started_ns, kind="stable").tolist()


@pytest.mark.parametrize("start", [StartPolicy.after_orchestration, StartPolicy.threshold(200)])
def test_one_thread_runs_in_the_order_of_priorities(start: Any) -> None:
    w = independent(200).task_graph(ready=ReadyPolicy.priority(lambda t: t.b * 37 % 11 - 5), start=start)
    want = greedy(200, lambda k: k * 37 % 11 - 5, lambda k: k)
    assert really(traced(w, 1)) == want


def test_one_thread_runs_streams_in_order_and_the_best_of_their_heads() -> None:
    w = independent(120).stream_by(lambda t: t.b * 5 % 7)
    w = w.task_graph(ready=ReadyPolicy.priority(lambda t: t.b * 37 % 11), start=StartPolicy.after_orchestration)
    assert really(traced(w, 1)) == greedy(120, lambda k: k * 37 % 11, lambda k: k * 5 % 7)


def test_longest_tasks_really_run_first() -> None:
    w = combine(independent(5), steps(5, 1), independent(5))
    w = w.task_graph(ready=ReadyPolicy.longest_processing_time(), start=StartPolicy.after_orchestration)
    assert really(traced(w, 1)) == [*range(5, 10), *range(5), *range(10, 15)]


@pytest.mark.parametrize("threads", THREADS)
def test_each_pinned_thread_runs_its_own_in_the_order_of_priorities(threads: int) -> None:
    w = independent(240).dispatch(DispatchPolicy.dispatch_by(lambda t: t.b, threads))
    w = w.task_graph(ready=ReadyPolicy.priority(lambda t: t.b * 37 % 11), start=StartPolicy.after_orchestration)
    order = really(traced(w, threads))
    for lane in range(threads):
        mine = [k for k in range(240) if k % threads == lane]
        assert [k for k in order if k % threads == lane] == sorted(mine, key=lambda k: (-(k * 37 % 11), k))


@pytest.mark.parametrize("threads", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 3])
def test_tasks_of_a_stream_really_run_one_after_another(threads: int, count: int) -> None:
    t = traced(independent(150).streams(count), threads)
    for s in range(count):
        assert (t.started_ns[s::count][1:] >= t.ended_ns[s::count][:-1]).all()


@pytest.mark.parametrize("threads", THREADS)
def test_nothing_really_starts_before_the_gate(threads: int) -> None:
    t = traced(independent(300).task_graph(start=StartPolicy.threshold(100)), threads)
    assert t.started_ns.min() >= t.issued_ns[99]
    t = traced(independent(300).task_graph(start=StartPolicy.after_orchestration), threads)
    assert t.started_ns.min() >= t.issued_ns.max()


def long_tasks_of_lane_0() -> tuple[Workload, np.ndarray[Any, Any]]:
    """Even rows take some thousand times as long as odd ones."""
    out = np.zeros((80, 1, 64), np.float32)

    @workload
    def w(X, Y):
        for b in P(80):
            trips[b](n=(1 - b % 2) * 3000 + 1, x=X[b], out=Y[b])

    return w(rows(80), out), out


def test_stealing_moves_work_to_idle_threads() -> None:
    def threads_of_even_rows(policy: Any) -> tuple[int, bytes]:
        w, out = long_tasks_of_lane_0()
        trace = traced(w.dispatch(policy), 2)
        return len(set(trace.thread[::2].tolist())), out.tobytes()

    held, bits = threads_of_even_rows(DispatchPolicy.dispatch_by(lambda t: t.b, 2))
    assert held == 1
    # A busy machine may give the second thread no processor before the run is over.
    runs = (threads_of_even_rows(DispatchPolicy.work_steal(2)) for _ in range(50))
    moved, same = next((r for r in runs if r[0] == 2), (1, b""))
    assert moved == 2
    assert bits == same


SCHEDULES: dict[str, Callable[[Workload], Workload]] = {
    "none": lambda w: w,
    **{name: (lambda w, p=policy: w.dispatch(p)) for name, (policy, _) in PINNED.items()},
    "work_steal": lambda w: w.dispatch(DispatchPolicy.work_steal(8)),
    "least_loaded": lambda w: w.dispatch(DispatchPolicy.least_loaded(5)),
    "streams": lambda w: w.streams(3),
    "bytes": lambda w: w.window(TaskWindow(3 * ROW, "bytes")),
    "all": lambda w: (
        w.dispatch(PINNED["affinity"][0])
        .stream_by(lambda t: t.b % 6)
        .window(TaskWindow(9))
        .task_graph(ready=ReadyPolicy.priority(lambda t: t.b), start=StartPolicy.threshold(7))
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_numbers_never_change_with_many_threads(name: str) -> None:
    want = steps().compile(threads=1).run().tensors["Y"]
    program = SCHEDULES[name](steps()).compile(threads=8)
    for _ in range(20):
        program.tensors["Y"][:] = rows(24)
        program.run()
        assert program.tensors["Y"].tobytes() == want.tobytes()
        assert program.stats.task_count == 144


def endless() -> Workload:
    w = steps(8, 10**9)
    return w.dispatch(DispatchPolicy.affinity(lambda t: t.b, 4))


@pytest.mark.parametrize("threads", THREADS)
def test_pinned_runs_are_cancelled(threads: int) -> None:
    program = endless().compile(threads=threads)
    for k in range(10):
        program.execute()
        time.sleep(0.001 * k)
        program.cancel()
        with pytest.raises(Cancelled):
            program.synchronize()
        assert program.is_complete()


@pytest.mark.parametrize("threads", THREADS)
def test_waiting_for_pinned_long_tasks_ends_in_time(threads: int) -> None:
    y = rows(4)

    @workload
    def w(X, Y):
        for b in P(4):
            trips[b](n=2**31 - 1, x=X[b], out=Y[b])

    program = w(rows(4), y).dispatch(DispatchPolicy.affinity(lambda t: t.b, 4)).compile(threads=threads).execute()
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(ExecutionError, match="PTO704"):
            program.synchronize(timeout=0.05)
        assert time.monotonic() - began < 5
        assert not program.is_complete()
    program.cancel()
    with pytest.raises(Cancelled):
        program.synchronize()


SCRIPT = """
import os, signal, sys, threading
import numpy as np
from pto_wsp import *

@kernel
def grow(x: InOut[Tile[1, 8, DType.F32]]):
    pto.store(x, x + 1.0)

def program(count, threads):
    @workload
    def w(Y):
        for _ in P.seq(count):
            for b in P(8):
                grow[b](x=Y[b])
    w_ = w(np.zeros((8, 1, 8), np.float32)).dispatch(DispatchPolicy.affinity(lambda t: t.b, 4))
    return w_.compile(threads=threads).enable_tracing("tasks", limit=1000)

def threads_of_keys(p):
    # without this one, and tasks that were dropped
    return [len({e.thread for e in p.trace if e.coords["b"] == b} - {threading.get_native_id(), 0}) for b in range(8)]

threads = int(sys.argv[1])
"""


def script(text: str, threads: int) -> str:
    command = [sys.executable, "-P", "-W", "ignore", "-c", SCRIPT + textwrap.dedent(text), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("threads", THREADS)
def test_ctrl_c_during_a_pinned_run(threads: int) -> None:
    told = script(
        """
        p = program(10**12, threads)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        p.execute()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            p.synchronize()
        except KeyboardInterrupt:
            print("interrupted", p.is_complete(), threads_of_keys(p))
        """,
        threads,
    )
    assert told.strip() == f"interrupted True {[1] * 8}"


@pytest.mark.parametrize("threads", THREADS)
def test_a_forked_child_has_pinned_runs_of_its_own(threads: int) -> None:
    told = script(
        """
        p = program(50, threads)
        for _ in range(3):
            p.run()
        child = os.fork()
        if child == 0:
            p.run()
            q = program(50, threads).run()
            os._exit(0 if threads_of_keys(p) == threads_of_keys(q) == [1] * 8 and (p.tensors["Y"] == 200).all() else 1)
        p.run()
        print(threads_of_keys(p), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        threads,
    )
    assert told.strip() == f"{[1] * 8} 0"
