"""Runs in few resources wait, say for what and how long, and give the same bits."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BindError,
    CompileError,
    Deps,
    DType,
    In,
    InOut,
    Out,
    P,
    Program,
    Resources,
    TaskWindow,
    Tensor,
    Tile,
    Workload,
    empty,
    item,
    kernel,
    pto,
    workload,
)

F32, I32 = DType.F32, DType.I32
N = 64


def for_long(x: Any) -> Any:
    """In kernels, so that issue is ahead of them: those with loops never run in the place of the one who issues them."""
    return pto.fori_loop(0, 40, lambda _, v: pto.exp(v * 0.5), x)


@kernel
def add_one(x: InOut[Tile[1, 8, F32]]):
    pto.store(x, for_long(x + 0.0))


@kernel
def copy(x: In[Tile[1, 8, F32]], out: Out[Tile[1, 8, F32]]):
    pto.store(out, for_long(x + 0.0))


@kernel
def mean(x: In[Tile[5, 8, F32]], out: Out[Tile[1, 8, F32]]):
    pto.store(out, for_long(pto.colmean(x)))


@kernel
def count(n: InOut[Tile[1, 1, I32]]):
    pto.store(n, n + 1)


@kernel
def slow(x: In[Tile[1, 256, F32]], out: Out[Tile[1, 256, F32]]):
    pto.store(out, pto.fori_loop(0, 4000, lambda i, v: pto.exp(v * 0.5), x))


@workload
def chains(rows: Tensor):
    for _ in P.seq(N):
        for j in P(16):
            add_one(x=rows[j])


@workload
def once(rows: Tensor):
    for i in P(N):
        add_one(x=rows[i])


@workload
def averages(x: Tensor, out: Tensor, index: Tensor):
    """Each row of `out` is a mean of rows of `x`, which then get other values."""
    for i in P.seq(N):
        mean(x=x[index[i], :], out=out[i : i + 1])
        copy(x=out[i : i + 1], out=x[i : i + 1])


@workload
def through_temporaries(x: Tensor, out: Tensor):
    for i in P.seq(N):
        t = empty((1, 8), F32)
        copy(x=x[i : i + 1], out=t)
        copy(x=t, out=out[i : i + 1])


@workload
def counted(n: Tensor, x: Tensor):
    for i in P.seq(N):
        count(n=n)
        for _ in P.seq(item(n[0, 0]) % 3):
            add_one(x=x[i])


def made(name: str) -> tuple[Workload, list[np.ndarray[Any, Any]]]:
    """A workload and the arrays that it writes."""
    random = np.random.default_rng(0)
    x = random.random((N, 8), dtype=np.float32)
    out = np.zeros((N, 8), np.float32)
    if name == "chains":
        rows = x.reshape(N, 1, 8)
        return chains(rows), [rows]
    if name == "averages":
        return averages(x, out, random.integers(0, N, (N, 5)).astype(np.int32)), [x, out]
    if name == "temporaries":
        return through_temporaries(x, out), [out]
    if name == "independent":
        rows = x.reshape(N, 1, 8)
        return once(rows), [rows]
    n, rows = np.zeros((1, 1), np.int32), x.reshape(N, 1, 8)
    return counted(n, rows), [n, rows]


def result(name: str, **options: Any) -> tuple[list[bytes], Program]:
    w, arrays = made(name)
    program = w.compile(**options).run()
    return [a.tobytes() for a in arrays], program


CASES = [
    ("chains", "task_window", 2, "TASK_RING_FULL"),
    ("chains", "task_window", 5, "TASK_RING_FULL"),
    ("chains", "edges", 1, "DEPLIST_POOL_FULL"),
    ("chains", "edges", 3, "DEPLIST_POOL_FULL"),
    ("chains", "ready_queue", 1, "READY_QUEUE_FULL"),
    ("chains", "ready_queue", 7, "READY_QUEUE_FULL"),
    ("averages", "dependence_map", 5, "TENSORMAP_POOL_FULL"),
    ("averages", "dependence_map", 17, "TENSORMAP_POOL_FULL"),
]


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize(("name", "resource", "size", "reason"), CASES)
def test_what_is_used_up_is_waited_for(name: str, resource: str, size: int, reason: str, threads: int) -> None:
    want, _ = result(name, threads=1)
    got, program = result(name, threads=threads, resources=Resources(**{resource: size}))
    assert got == want
    found = program.stats.real.resources[resource]
    assert (found.reason, found.capacity) == (reason, size)
    least = 5 if name == "averages" else 1  # what the task may need for which there was no room
    assert size - least < found.high_water <= size
    assert found.stalls > 0
    assert found.stall_ns > 0
    assert found.suffices is None or found.suffices > size
    assert program.waiting_for is None


@pytest.mark.parametrize(("name", "resource", "size"), [(n, r, s) for n, r, s, _ in CASES])
def test_what_is_said_to_suffice_suffices(name: str, resource: str, size: int) -> None:
    _, program = result(name, threads=2, resources=Resources(**{resource: size}))
    enough = program.stats.real.resources[resource].suffices
    assert enough is not None
    assert f"{enough:,} suffice" in str(program.stats)
    for _ in range(3):
        _, again = result(name, threads=2, resources=Resources(**{resource: enough}))
        assert again.stats.real.resources[resource].stalls == 0


@pytest.mark.parametrize(("name", "resource"), [("temporaries", "arena"), ("counted", "scalars")])
def test_memory_of_temporaries_and_scalars_are_waited_for(name: str, resource: str) -> None:
    want, _ = result(name, threads=1)
    got, program = result(name, threads=2)
    assert got == want
    found = program.stats.real.resources[resource]
    assert found.reason == {"arena": "HEAP_ARENA_FULL", "scalars": "SCALAR_WAIT"}[resource]
    assert found.stalls > 0
    assert found.suffices is None


def test_windows_of_the_schedule_are_waited_for() -> None:
    w, _ = made("chains")
    stats = w.task_graph(window=TaskWindow(4)).compile(threads=2).run().stats
    assert stats.real.resources["window"].reason == "TASK_RING_FULL"
    assert stats.real.limited_by == "window"
    assert "limited by window (TASK_RING_FULL): 100% of the stalled time" in str(stats)
    assert stats.max_in_flight <= 4


@pytest.mark.parametrize("deps", [Deps.infer_tensor_map_exact, Deps.infer_bytes_overlap])
def test_a_task_that_takes_more_entries_than_there_are_is_refused(deps: Any) -> None:
    want, _ = result("averages", threads=1)
    w, arrays = made("averages")
    w = w.task_graph(deps=deps)
    with pytest.raises(BindError, match="PTO519") as e:
        w.compile(threads=2, resources=Resources(dependence_map=1)).run()
    least = int(str(e.value.values["needed"]))
    assert least == (5 if deps is Deps.infer_tensor_map_exact else 2)
    with pytest.raises(BindError, match=f"dependence_map={least}"):
        w.compile(threads=1, resources=Resources(dependence_map=least - 1)).run()
    w.compile(threads=2, resources=Resources(dependence_map=least)).run()
    assert [a.tobytes() for a in arrays] == want


def test_temporaries_that_need_more_than_the_arena_are_refused() -> None:
    w, (out,) = made("temporaries")
    with pytest.raises(BindError, match="PTO519"):
        w.compile(resources=Resources(arena=63)).run()
    assert not out.any()
    stats = w.compile(resources=Resources(arena=64)).run().stats
    assert out.all()
    assert stats.arena_bytes == stats.real.resources["arena"].high_water == 64
    assert w.compile(resources=Resources(arena=1 << 40)).run().stats.real.resources["arena"].capacity == 1 << 40


def test_with_one_thread_nothing_is_used_up() -> None:
    few = Resources(task_window=1, dependence_map=5, edges=1, ready_queue=1)
    for name in ("chains", "averages", "temporaries", "counted"):
        want, _ = result(name, threads=2)
        for threads in (1, 2):
            got, program = result(name, threads=threads, resources=few)
            assert got == want
            assert all(r.stalls == 0 for r in program.stats.real.resources.values())
            limited = program.stats.real.limited_by
            assert limited == (None if threads == 1 else "task_window")
            assert str(program.stats).endswith("no resource limited the run") == (threads == 1)


@pytest.mark.parametrize(("name", "size"), [("chains", 1), ("independent", 1), ("independent", 2)])
def test_what_lets_fewer_threads_work_is_said(name: str, size: int) -> None:
    w, _ = made(name)
    stats = w.compile(threads=3, resources=Resources(task_window=size)).run().stats
    found = stats.real.resources["task_window"]
    assert (found.stalls, found.threads, found.suffices) == (0, size, stats.task_count)
    assert stats.real.limited_by == "task_window"
    assert stats.threads <= size
    said = f"no more than {size} thread{'s' if size > 1 else ''} could work; more than {size:,} are needed, {stats.task_count:,} suffice"
    assert str(stats).endswith(f"limited by task_window (TASK_RING_FULL): {said}")
    enough = w.compile(threads=3, resources=Resources(task_window=found.suffices)).run().stats
    assert enough.real.limited_by is None
    assert str(enough).endswith("no resource limited the run")


def test_a_window_of_the_schedule_that_lets_one_thread_work_is_said() -> None:
    w, _ = made("chains")
    w = w.task_graph(window=TaskWindow(1))
    stats = w.compile(threads=2).run().stats
    assert stats.real.limited_by == "window"
    assert stats.real.resources["window"].threads == 1
    assert str(stats).endswith(
        "limited by window (TASK_RING_FULL): no more than 1 thread could work; the window is the schedule's"
    )
    assert w.compile(threads=1).run().stats.real.limited_by is None


def test_as_many_threads_as_tasks_are_all_that_could_work() -> None:
    w, _ = made("independent")
    stats = w.compile(threads=N + 1, resources=Resources(task_window=N)).run().stats
    assert stats.task_count == N
    assert stats.real.limited_by is None


def test_the_suggested_sizes() -> None:
    w, _ = made("averages")
    found = w.task_graph(window=TaskWindow(100)).compile(threads=2).run().stats.real.resources
    sizes = {n: found[n].capacity for n in ("task_window", "dependence_map", "edges", "ready_queue")}
    assert sizes == {"task_window": 100, "dependence_map": 500, "edges": 800, "ready_queue": 100}
    chosen, _ = made("averages")
    assert chosen.compile(threads=2, resources="auto").run().stats.real.resources["task_window"].capacity == 4096


def test_what_is_waited_for_can_be_asked_while_it_runs() -> None:
    @workload
    def long(x: Tensor, y: Tensor):
        for i in P(x.shape[0]):
            slow(x=x[i], out=y[i])
        for i in P(x.shape[0]):
            slow(x=y[i], out=x[i])

    x, y = np.ones((60, 1, 256), np.float32), np.zeros((60, 1, 256), np.float32)
    program = long(x, y).compile(threads=2, resources=Resources(task_window=3))
    seen: set[str | None] = set()

    def watch() -> None:
        while not program.is_complete():
            seen.add(program.waiting_for)
            time.sleep(0)

    assert program.waiting_for is None
    program.execute()
    watcher = threading.Thread(target=watch)
    watcher.start()
    program.synchronize()
    watcher.join()
    assert "TASK_RING_FULL" in seen
    assert program.waiting_for is None


def test_short_names_of_figures_are_the_same_figures() -> None:
    stats = result("counted", threads=2)[1].stats
    for part in (stats.semantic, stats.real):
        for f in fields(part):
            if f.name not in ("grid_cells", "boxed_tensors", "windows_in_flight", "resources", "channels"):
                assert getattr(stats, f.name) == getattr(part, f.name)
    assert stats.real.resources["task_window"].high_water == stats.max_in_flight
    assert stats.total_cycles > 0
    assert stats.scalar_waits > 0


def test_semantic_time_does_not_depend_on_resources() -> None:
    for name in ("chains", "averages", "temporaries", "counted"):
        want = result(name, threads=1)[1].stats.semantic
        for few in (Resources(task_window=2, edges=1), Resources(dependence_map=5, ready_queue=1)):
            assert result(name, threads=2, resources=few)[1].stats.semantic == want


def test_the_report_names_what_limited_the_run() -> None:
    text = str(result("chains", threads=2, resources=Resources(ready_queue=1))[1].stats)
    assert "limited by ready_queue (READY_QUEUE_FULL): " in text
    assert "more than 1 are needed, 1,024 suffice" in text
    assert [line.split()[0] for line in text.splitlines()[4:-1]] == [
        *("task_window", "window", "dependence_map", "edges", "arena", "ready_queue", "scalars")
    ]


def test_copies_and_loaded_programs_have_resources() -> None:
    w, _ = made("chains")
    program = w.compile(threads=2, resources=Resources(task_window=3))
    assert program.copy().run().stats.real.resources["task_window"].capacity == 3
    loaded = Program.from_bytes(program.to_bytes(), threads=2, resources=Resources(task_window=9))
    assert loaded.bind(w.tensors).run().stats.real.resources["task_window"].capacity == 9


@pytest.mark.parametrize("name", [f.name for f in fields(Resources)])
@pytest.mark.parametrize("size", [0, -1, 1.0, 2**60, True, None, "all", [4]])
def test_sizes_that_are_none(name: str, size: Any) -> None:
    with pytest.raises(CompileError, match="PTO425"):
        Resources(**{name: size})


PEAK = """
import resource, sys
import numpy as np
from pto_wsp import In, InOut, Out, P, Tensor, kernel, pto, workload

@kernel
def next_byte(x: In[Tensor], out: Out[Tensor]): pto.store(out, x + 1)

@kernel
def accumulate(x: InOut[Tensor]): pto.store(x, x + 1.0)

@kernel
def mean(x: In[Tensor], out: Out[Tensor]): pto.store(out, pto.colmean(x))

@workload
def independent(x: Tensor, y: Tensor, index: Tensor, n: int):
    for i in P(n * 100): next_byte(x=x[i : i + 1], out=y[i : i + 1])

@workload
def dependent(x: Tensor, y: Tensor, index: Tensor, n: int):
    for i in P.seq(n):
        for j in P(100): accumulate(x=x[j : j + 1])

@workload
def gathered(x: Tensor, y: Tensor, index: Tensor, n: int):
    for i in P.seq(n):
        for j in P.seq(50):
            mean(x=x[index[j], :], out=y[j : j + 1])
            mean(x=y[index[j], :], out=x[j : j + 1])

shape, dtype = ((10_000_000, 1), np.int8) if sys.argv[1] == "independent" else ((100, 8), np.float32)
x, y = np.ones(shape, dtype), np.ones(shape, dtype)
index = np.random.default_rng(0).integers(0, 100, (50, 4)).astype(np.int32)
make, tasks, threads = {"independent": independent, "dependent": dependent, "gathered": gathered}[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
program = make(x, y, index, tasks // 100).compile(threads=threads)
program.run()
assert program.stats.task_count == tasks
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(kind: str, tasks: int, threads: int) -> int:
    """Most memory of a process that runs so many tasks, in KiB."""
    command = [sys.executable, "-P", "-c", PEAK, kind, str(tasks), str(threads)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["independent", "dependent", "gathered"])
def test_memory_does_not_grow_with_tasks(kind: str, threads: int, request: pytest.FixtureRequest) -> None:
    # By then every slot of the ring has held its largest task, and the tables have their final size.
    few = 400_000
    many = 10_000_000 if request.config.getoption("--full") else 4 * few
    assert peak(kind, many, threads) < peak(kind, few, threads) + 4096
