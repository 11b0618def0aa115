"""Running programs: start, wait, cancel, interrupt, fail, run again."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from pto_wsp import (
    BindError,
    BoundsError,
    Cancelled,
    DenseDyn,
    DType,
    ExecutionError,
    In,
    InOut,
    KernelError,
    Out,
    P,
    Program,
    RaceError,
    Tensor,
    TensorSpec,
    Tile,
    Workload,
    kernel,
    pto,
    workload,
)


@kernel
def add_one(x: In[Tile[1, 8, DType.F32]], out: Out[Tile[1, 8, DType.F32]]):
    pto.store(out, x + 1.0)


@kernel
def square(acc: InOut[Tile[256, 256, DType.F32]]):
    pto.store(acc, pto.matmul(acc, acc))


@kernel
def add_tiles(x: In[Tile[4, 8, DType.F32]], y: In[Tile[4, 8, DType.F32]], out: Out[Tile[4, 8, DType.F32]]):
    pto.store(out, x + y)


n = DenseDyn("n")


@workload
def ones(X, Y):
    for i in P(n):
        add_one[i](x=X[i], out=Y[i])


def small(count: int, threads: int = 2) -> tuple[Program, np.ndarray]:
    x, y = np.zeros((count, 1, 8), np.float32), np.zeros((count, 1, 8), np.float32)
    spec = TensorSpec((n, 1, 8), DType.F32)
    return ones(spec, spec).compile(threads=threads).set_axis_sizes({"n": count}).bind({"X": x, "Y": y}), y


def long_chain() -> Program:
    """Hours of work, in tasks of well under a millisecond."""
    a = np.zeros((256, 256), np.float32)

    @workload
    def chain(A):
        for _ in P.seq(10**9):
            square(acc=A)

    return chain(a).compile(threads=2)


def test_execute_returns_before_the_run_is_over_and_synchronize_waits() -> None:
    program = long_chain()
    assert not program.is_complete()
    program.execute()
    assert not program.is_complete()
    with pytest.raises(ExecutionError) as late:
        program.synchronize(timeout=0.01)
    assert late.value.code == "PTO704"
    program.cancel()
    with pytest.raises(Cancelled):
        program.synchronize()
    assert program.is_complete()


def test_a_run_goes_on_without_anybody_waiting() -> None:
    program, y = small(1000)
    program.execute()
    end = time.monotonic() + 30
    while not program.is_complete():
        assert time.monotonic() < end
        time.sleep(0.001)
    assert (y == 1).all()


def test_synchronize_before_execute_and_execute_while_running() -> None:
    program = long_chain()
    with pytest.raises(ExecutionError) as early:
        program.synchronize()
    assert early.value.code == "PTO701"
    program.execute()
    for again in (program.execute, lambda: program.bind({}), lambda: program.set_axis_sizes({})):
        with pytest.raises(ExecutionError) as twice:
            again()
        assert twice.value.code == "PTO702"
    program.cancel()
    with pytest.raises(Cancelled):
        program.synchronize()


def test_a_cancelled_program_runs_again() -> None:
    program, y = small(10)
    program.execute()
    program.cancel()
    try:
        program.synchronize()
    except Cancelled:
        y[:] = 0
    program.run()
    assert (y == 1).all()


def test_an_interrupt_cancels_the_run_and_leaves_it_usable() -> None:
    program = long_chain()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            program.run()
    finally:
        timer.join()
    assert program.is_complete()
    with pytest.raises(Cancelled):
        program.synchronize()


def test_the_interpreter_is_free_during_a_run() -> None:
    program = long_chain().execute()
    ended: list[str] = []

    def wait() -> None:
        try:
            program.synchronize()
        except Cancelled as e:
            ended.append(e.code)

    waiter = threading.Thread(target=wait)
    waiter.start()
    program.cancel()  # reached only when the thread inside synchronize() lets go of the interpreter
    waiter.join(30)
    assert ended == ["PTO703"]


def test_a_program_dropped_while_it_runs_stops() -> None:
    program = long_chain().execute()
    del program


def test_programs_of_one_artifact_run_beside_each_other() -> None:
    first, y = small(500)
    second = first.copy()
    z = np.zeros_like(y)
    second.bind({"Y": z})
    first.execute()
    second.execute()
    first.synchronize()
    second.synchronize()
    assert (y == 1).all() and (z == 1).all()


def test_sizes_bound_anew_need_no_compile() -> None:
    program, _ = small(3)
    for count in (0, 1, 1000, 2):
        x, y = np.full((count, 1, 8), 2, np.float32), np.zeros((count, 1, 8), np.float32)
        program.set_axis_sizes({"n": count}).bind({"X": x, "Y": y}).run()
        assert (y == 3).all() and program.stats.task_count == count


def test_the_last_of_several_bindings_counts_even_when_an_earlier_one_failed() -> None:
    program, y = small(4)
    with pytest.raises(BindError):
        program.bind({"X": np.zeros((4, 1, 8), np.float64)})
    program.run()
    assert (y == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_earliest_failing_task_is_reported_and_those_before_it_ran(threads: int) -> None:
    x, y, out = np.ones((18, 8), np.float32), np.ones((20, 8), np.float32), np.zeros((20, 8), np.float32)

    @workload
    def add(X, Y, Z):
        for i in P(X.tiles(4)):
            add_tiles[i](x=X[i], y=Y[i * 4 : i * 4 + 4], out=Z[i * 4 : i * 4 + 4])

    program = add(x, y, out).compile(threads=threads)
    for _ in range(2):
        out[:] = 0
        with pytest.raises(KernelError) as failed:
            program.run()
        assert failed.value.code == "PTO710"
        assert "add_tiles[i=4]" in str(failed.value)
        assert failed.value.loc is not None and failed.value.loc.file == __file__
        assert (out[:16] == 2).all() and (out[16:] == 0).all()


def test_a_race_that_depends_on_a_size_is_found_when_the_size_is_bound() -> None:
    x, y = np.ones((3, 1, 8), np.float32), np.zeros((1, 8), np.float32)

    @workload
    def collide(X, Y):
        for i in P(n):
            add_one[i](x=X[i], out=Y)

    program = collide(Tensor(x), Tensor(y)).compile()
    program.set_axis_sizes({"n": 1}).run()
    assert (y == 2).all()
    with pytest.raises(RaceError):
        program.set_axis_sizes({"n": 2}).run()


def test_an_axis_beyond_its_tensor_is_found_before_anything_runs() -> None:
    x, y = np.ones((3, 1, 8), np.float32), np.zeros((3, 1, 8), np.float32)
    program = ones(Tensor(x), Tensor(y)).compile()
    with pytest.raises(BoundsError) as beyond:
        program.set_axis_sizes({"n": 4}).execute()
    assert beyond.value.code == "PTO163" and (y == 0).all()


def workload_of_everything() -> tuple[Workload, list[np.ndarray]]:
    """Dependences across loops, a chain in each iteration, and tails."""
    random = np.random.default_rng(5)
    x = random.standard_normal((50, 8), dtype=np.float32)
    y, z, s = np.zeros((50, 8), np.float32), np.zeros((50, 8), np.float32), np.zeros((13, 4, 8), np.float32)

    @workload
    def everything(X, Y, Z, S):
        for i in P(X.tiles(4)):
            add_tiles[i](x=X[i], y=X[i], out=Y[i])
        for i in P(Y.tiles(4)):
            add_tiles[i](x=Y[i], y=X[i], out=Z[i])
        for b in P(12):
            for _ in P.seq(3):
                accumulate[b](x=Z[b * 4 : b * 4 + 4], acc=S[b])

    return everything(x, y, z, s), [y, z, s]


@kernel
def accumulate(x: In[Tile[4, 8, DType.F32]], acc: InOut[Tile[4, 8, DType.F32]]):
    pto.store(acc, pto.exp(x * 0.1) + acc)


def test_the_same_bits_for_every_number_of_threads() -> None:
    w, outputs = workload_of_everything()
    seen: set[bytes] = set()
    for threads in (1, 2, 8):
        for a in outputs:
            a[:] = 0
        w.compile(threads=threads).run()
        seen.add(b"".join(a.tobytes() for a in outputs))
    assert len(seen) == 1
