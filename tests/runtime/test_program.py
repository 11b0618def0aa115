"""Programs: running, waiting, cancelling, binding anew, several at once."""

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BindError,
    BoundsError,
    Cancelled,
    DenseDyn,
    DispatchPolicy,
    DType,
    ExecutionError,
    In,
    InOut,
    KernelError,
    Out,
    P,
    Program,
    Symbol,
    TaskWindow,
    Tensor,
    TensorSpec,
    Tile,
    kernel,
    pto,
    workload,
)

F32 = DType.F32


@kernel
def copy(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, x)


@kernel
def add(x: In[Tile[4, 4, F32]], a: InOut[Tile[4, 4, F32]]):
    pto.store(a, a + x)


@workload
def copied(x, y, n):
    for b in P(n):
        copy(x=x[b], y=y[b])


@workload
def endless(x, a):
    for _ in P.seq(10**12):
        add(x=x, a=a)


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


def running() -> Program:
    return endless(zeros(4, 4), zeros(4, 4)).compile(threads=2).execute()


def stop(p: Program) -> None:
    p.cancel()
    with pytest.raises(Cancelled):
        p.synchronize()


def test_execute_returns_at_once_and_synchronize_waits() -> None:
    p = running()
    assert not p.is_complete()
    with pytest.raises(ExecutionError, match="PTO704"):
        p.synchronize(timeout=0)
    assert not p.is_complete()
    stop(p)
    assert p.is_complete()


def test_a_cancelled_program_runs_again() -> None:
    y = zeros(8, 4, 4)
    p = copied(ones(8, 4, 4), y, 8).compile()
    p.run()
    p.cancel()
    p.synchronize()
    y[...] = 0
    p.run()
    assert y.all()


def test_synchronize_may_be_called_twice() -> None:
    p = copied(ones(8, 4, 4), zeros(8, 4, 4), 8).compile()
    p.execute()
    p.synchronize()
    p.synchronize()


def test_a_copy_runs_beside() -> None:
    p = running()
    try:
        other = p.copy()
        other.execute()
        stop(other)
        assert not p.is_complete()
    finally:
        stop(p)


def test_a_copy_has_bindings_of_its_own() -> None:
    x, y, z = ones(8, 4, 4), zeros(8, 4, 4), zeros(8, 4, 4)
    p = copied(x, y, DenseDyn(8, name="n")).compile()
    other = p.copy().bind({"y": z}).set_axis_sizes({"n": 2})
    other.run()
    assert not y.any()
    assert z[:2].all()
    assert not z[2:].any()
    p.run()
    assert y.all()
    assert other.hash == p.hash


def test_many_programs_at_once() -> None:
    programs = [copied(np.full((50, 4, 4), k, np.float32), zeros(50, 4, 4), 50).compile(threads=2) for k in range(8)]
    failures: list[BaseException] = []

    def run(p: Program, k: int) -> None:
        try:
            for _ in range(5):
                p.tensors["y"][...] = -1
                p.run()
                assert (p.tensors["y"] == k).all()
        except BaseException as e:
            failures.append(e)
            raise

    threads = [threading.Thread(target=run, args=(p, k)) for k, p in enumerate(programs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_arrays_are_bound_by_reference_and_kept() -> None:
    x, y = ones(8, 4, 4), zeros(8, 4, 4)
    alive = weakref.ref(x)
    p = copied(x, y, 8).compile()
    assert p.tensors["x"] is x
    del x
    gc.collect()
    assert alive() is not None
    p.run()
    assert y.all()
    p.bind({"x": ones(8, 4, 4)})
    gc.collect()
    p.run()


def test_a_refused_binding_changes_nothing() -> None:
    x, y = ones(8, 4, 4), zeros(8, 4, 4)
    p = copied(x, y, DenseDyn(8, name="n")).compile()
    for wrong in ({"y": zeros(8, 4, 4), "x": [1]}, {"y": zeros(8, 4, 4), "z": x}):
        with pytest.raises(BindError):
            p.bind(wrong)
    with pytest.raises(BindError):
        p.set_axis_sizes({"n": 2, "m": 3})
    assert p.tensors["y"] is y
    assert p.axis_sizes == {"n": 8}
    p.run()
    assert y.all()


@pytest.mark.parametrize("size", [-1, 1.5, "4", None, True, 2**63, np.float32(2)])
def test_sizes_that_are_none(size: Any) -> None:
    p = copied(ones(8, 4, 4), zeros(8, 4, 4), DenseDyn(8, name="n")).compile()
    with pytest.raises(BindError, match="PTO511"):
        p.set_axis_sizes({"n": size})
    with pytest.raises(BindError, match="PTO511"):
        p.set_symbol_u64("n", size)
    p.set_axis_sizes({"n": np.int64(3)})


def test_tensors_that_share_storage_may_be_read() -> None:
    both = ones(9, 4, 4)
    y = zeros(8, 4, 4)

    @workload
    def w(x, z, y):
        for b in P(8):
            copy(x=x[b], y=y[b])
            add(x=z[b], a=y[b])

    w(both[:8], both[1:], y).compile().run()
    assert (y == 2).all()
    interleaved = zeros(8, 8, 4)
    copied(interleaved[:, ::2], interleaved[:, 1::2], 8).compile().run()
    with pytest.raises(BindError, match="PTO506"):
        copied(both[:8], both[1:], 8).compile().run()


def test_views_of_one_tensor_may_be_read_and_written() -> None:
    t = Tensor(zeros(9, 4, 4), name="T")
    t.data[0] = 5

    @workload
    def w():
        for b in P.seq(8):
            copy(x=t[b], y=t[b + 1])

    w().compile(threads=4).run()
    assert (t.data == 5).all()


def test_unknown_order_is_program_order_on_every_run() -> None:
    n = 64

    @workload
    def w(x, a):
        for b in P(n):
            copy(x=x[b], y=a[b * b % 7])

    x = np.repeat(np.arange(n, dtype=np.float32), 16).reshape(n, 4, 4)
    want = zeros(7, 4, 4)
    for b in range(n):
        want[b * b % 7] = x[b]
    for threads in (1, 2, 8):
        a = zeros(7, 4, 4)
        p = w(x, a).compile(threads=threads)
        for _ in range(5):
            p.run()
            assert (a == want).all()


def test_the_earliest_failure_is_reported_and_tasks_before_it_run() -> None:
    @workload
    def w(x, z, y):
        for b in P.seq(6):
            copy(x=x[b], y=y[b])
            for i in P.seq(z.tiles(4)):
                add(x=z[i], a=x[b])

    x, y = ones(6, 4, 4), zeros(6, 4, 4)
    p = w(x, zeros(6, 4), y).compile(threads=2)
    with pytest.raises(KernelError, match=r"add\[b=0, i=1\]"):
        p.run()
    assert y[0].all()
    assert not y[2:].any()
    with pytest.raises(KernelError):
        p.run()


def test_bounds_that_depend_on_sizes_are_checked_before_anything_runs() -> None:
    n = Symbol("n")
    y = zeros(8, 4, 4)

    @workload
    def w(x, y):
        for b in P(8):
            copy(x=x[b], y=y[b])
        copy(x=x[n], y=y[0])

    p = w(ones(8, 4, 4), y).compile().set_symbol_u64("n", 8)
    with pytest.raises(BoundsError, match="PTO163"):
        p.execute()
    assert not y.any()
    p.set_symbol_u64("n", 7).run()
    assert y.all()


def test_stats() -> None:
    p = copied(ones(8, 4, 4), zeros(8, 4, 4), 8).dispatch(DispatchPolicy.round_robin(2))
    q = p.task_graph(window=TaskWindow(2)).compile(threads=1)
    assert q.stats.task_count == 0
    assert str(q.stats).startswith("no run is over yet: program.run() first")
    q.run()
    assert str(q.stats).startswith("8 tasks\n")
    s = q.stats
    assert (s.task_count, s.lanes, s.high_water, s.threads, s.kernel_counts) == (8, 2, 2, 1, {"copy": 8})
    assert s.arch == "ascend_a2a3"
    assert s.stalls > 0
    assert s.compile_time_ms > 0
    assert s.execute_time_ms > 0


@pytest.mark.parametrize(
    ("lanes", "window", "times"),
    [(1, 99, 16), (2, 99, 8), (4, 99, 4), (16, 99, 1), (4, 1, 16), (4, 2, 8), (4, 3, 6), (4, 4, 4)],
)
def test_sixteen_equal_tasks(lanes: int, window: int, times: int) -> None:
    def cycles(n: int, lanes: int, window: int) -> int:
        w = copied(ones(n, 4, 4), zeros(n, 4, 4), n).dispatch(DispatchPolicy.round_robin(lanes))
        p = w.task_graph(window=TaskWindow(window, "tasks")).compile(threads=2)
        p.run()
        return p.stats.total_cycles

    assert cycles(16, lanes, window) == times * cycles(1, 1, 1)


def test_a_loop_that_reads_another_takes_twice_as_long() -> None:
    @workload
    def w(x, y, z):
        for b in P(4):
            copy(x=x[b], y=y[b])
        for b in P(4):
            copy(x=y[b], y=z[b])

    p = w(ones(4, 4, 4), zeros(4, 4, 4), zeros(4, 4, 4)).compile()
    p.run()
    one = copied(ones(4, 4, 4), zeros(4, 4, 4), 4).compile()
    one.run()
    assert p.stats.total_cycles == 2 * one.stats.total_cycles


def test_threads_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    w = endless(zeros(4, 4), zeros(4, 4))
    monkeypatch.setenv("PTO_WSP_NUM_THREADS", "1")
    p = w.compile().execute()
    stop(p)
    assert p.stats.threads == 1
    monkeypatch.setenv("PTO_WSP_NUM_THREADS", "many")
    with pytest.raises(Exception, match="PTO406"):
        w.compile()


def test_ctrl_c_cancels_the_run() -> None:
    script = textwrap.dedent("""
        import os, signal, threading
        import numpy as np
        from pto_wsp import *

        @kernel
        def add(x: In[Tile[4, 4, DType.F32]], a: InOut[Tile[4, 4, DType.F32]]):
            pto.store(a, a + x)

        @workload
        def w(x, a):
            for _ in P.seq(10**12):
                add(x=x, a=a)

        p = w(np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)).compile(threads=2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
        p.execute()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            p.synchronize()
        except KeyboardInterrupt:
            print("interrupted", p.is_complete())
    """)
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["interrupted", "True"], done.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_task_hears_of_the_time_and_of_ctrl_c(threads: int) -> None:
    script = textwrap.dedent("""
        import os, signal, sys, threading
        import numpy as np
        from pto_wsp import *

        @kernel
        def forever(n: Scalar[DType.I64], a: InOut[Tile[4, 4, DType.F32]]):
            pto.store(a, pto.fori_loop(0, n, lambda i, c: pto.fori_loop(0, n, lambda j, d: d + 1.0, c), a))

        @workload
        def w(a):
            forever(n=2**30, a=a)

        p = w(np.zeros((4, 4), np.float32)).compile(threads=int(sys.argv[1]))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        p.execute()
        try:
            p.synchronize(timeout=0.1)
        except ExecutionError as e:
            print(e.code, p.is_complete())
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            p.synchronize()
        except KeyboardInterrupt:
            print("interrupted", p.is_complete())
    """)
    command = [sys.executable, "-P", "-c", script, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["PTO704", "False", "interrupted", "True"], done.stderr


def test_a_process_may_end_while_a_program_runs() -> None:
    script = textwrap.dedent("""
        import numpy as np
        from pto_wsp import *

        @kernel
        def add(x: In[Tile[4, 4, DType.F32]], a: InOut[Tile[4, 4, DType.F32]]):
            pto.store(a, a + x)

        @workload
        def w(x, a):
            for _ in P.seq(10**12):
                add(x=x, a=a)

        w(np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)).compile(threads=2).execute()
    """)
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_is_dropped_while_it_runs() -> None:
    for _ in range(3):
        running()
        gc.collect()


def test_programs_without_arrays_take_them_later() -> None:
    spec = TensorSpec((8, 4, 4), F32)
    other = TensorSpec((8, 4, 4), F32)
    p = Program.from_bytes(copied(spec, other, 8).compile().to_bytes())
    y = zeros(8, 4, 4)
    p.bind({"x": Tensor(ones(8, 4, 4)), "y": y}).run()
    assert y.all()
