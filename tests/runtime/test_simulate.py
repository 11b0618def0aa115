"""Simulating: what it needs, what it does not, and what it refuses."""

from __future__ import annotations

import dataclasses
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BindError,
    Channel,
    DeadlockError,
    DenseDyn,
    DType,
    ExecutionError,
    In,
    Out,
    P,
    Program,
    Scalar,
    StartPolicy,
    TaskWindow,
    Tensor,
    TensorSpec,
    Tile,
    UnsupportedError,
    WindowError,
    WindowMode,
    consume,
    item,
    kernel,
    pto,
    send,
    slot_i64,
    slot_set_i64,
    workload,
)


@kernel
def count(out: Out[Tile[1, 4, DType.I32]], first: Scalar[DType.I32]):
    pto.store(out, pto.iota((1, 4), axis=1) + first)


@kernel
def double(x: In[Tile[1, 4, DType.I32]], y: Out[Tile[1, 4, DType.I32]]):
    pto.store(y, x + x)


@workload
def counted(N, X, Y):
    """As many doubles as a task of the run says."""
    count(out=N[0:1, :], first=2)
    for i in P(item(N[0, 1])):
        double[i](x=X[i : i + 1, :], y=Y[i : i + 1, :])


@workload
def told(N, Y):
    """A task computes a number that others get, and on which no cost depends."""
    count(out=N[0:1, :], first=2)
    n = item(N[0, 3])
    for i in P(6):
        count[i](out=Y[i : i + 1, :], first=n // (n - 4))


@workload
def doubles(X, Y, n):
    for i in P(n):
        double[i](x=X[i : i + 1, :], y=Y[i : i + 1, :])


def ints(n: int, name: str) -> Tensor:
    return Tensor(np.ones((n, 4), np.int32), name=name)


def counting() -> Program:
    return counted(ints(1, "N"), ints(6, "X"), ints(6, "Y")).compile()


def test_a_read_of_what_tasks_write_needs_scalars() -> None:
    program = counting()
    with pytest.raises(UnsupportedError) as e:
        program.simulate()
    assert e.value.code == "PTO750"
    assert "item of N[0, 1]" in e.value.what
    assert e.value.loc is not None
    assert e.value.loc.line == counted_line("item(N[0, 1])")
    program.run()
    assert list(program.scalars.numbers) == [3]
    assert program.simulate(scalars=program.scalars) == program.stats.semantic
    assert program.stats.semantic.task_count == 4


def counted_line(text: str) -> int:
    rows = Path(__file__).read_text().splitlines()
    return next(k for k, row in enumerate(rows, 1) if text in row)


def test_scalars_of_another_program_or_other_sizes_are_refused() -> None:
    scalars = counting().run().scalars
    with pytest.raises(BindError) as e:
        doubles(ints(4, "X"), ints(4, "Y"), 4).compile().simulate(scalars=scalars)
    assert e.value.code == "PTO751"
    assert counting().simulate(scalars=scalars).task_count == 4  # the same program again

    n = DenseDyn(4, name="n")

    @workload
    def sized(N, X, Y):
        count(out=N[0:1, :], first=2)
        item(N[0, 1])
        for i in P(n):
            double[i](x=X[i : i + 1, :], y=Y[i : i + 1, :])

    program = sized(ints(1, "N"), TensorSpec((n, 4), DType.I32), TensorSpec((n, 4), DType.I32)).compile()
    program.bind({"X": np.ones((4, 4), np.int32), "Y": np.ones((4, 4), np.int32)})
    scalars = program.run().scalars
    program.bind({"X": np.ones((5, 4), np.int32), "Y": np.ones((5, 4), np.int32)}).set_axis_sizes({"n": 5})
    with pytest.raises(BindError, match="other sizes"):
        program.simulate(scalars=scalars)


@pytest.mark.parametrize("numbers", [np.ones(1), np.ones((1, 1), np.int64), [3], 3, "3", None])
def test_scalars_are_integers(numbers: Any) -> None:
    scalars = counting().run().scalars
    with pytest.raises(BindError) as e:
        counting().simulate(scalars=dataclasses.replace(scalars, numbers=numbers))
    assert e.value.code == "PTO705"


def test_a_number_that_decides_nothing_needs_no_scalars() -> None:
    program = told(ints(1, "N"), ints(6, "Y")).compile()
    figures = program.simulate()
    assert figures.scalar_waits == 1
    assert figures == program.run().stats.semantic
    assert figures == program.simulate(scalars=program.scalars)


@workload
def handed_on(N, Y, depth):
    """The number goes through two channels and a slot."""
    first, second = Channel[int]("first", depth=depth), Channel[int]("second", depth=1)
    with P.pipe():
        for _ in P.seq(3):
            count(out=N[0:1, :], first=2)
            send(first, item(N[0, 3]))
        with consume(first) as n:
            send(second, n)
        for i in P.seq(3):
            slot_set_i64(0, second.recv())
            count[i](out=Y[i : i + 1, :], first=7 // slot_i64(0))


def test_a_token_that_decides_nothing_needs_no_scalars() -> None:
    program = handed_on(ints(1, "N"), ints(3, "Y"), 2).compile()
    figures = program.simulate()
    assert figures.task_count == 6
    assert figures == program.run().stats.semantic
    assert figures == program.simulate(scalars=program.scalars)


def test_a_token_that_decides_needs_scalars() -> None:
    @workload
    def repeated(N, Y):
        c = Channel[int]("c", depth=1)
        with P.pipe():
            for _ in P.seq(2):
                count(out=N[0:1, :], first=2)
                send(c, item(N[0, 1]))
            with consume(c) as n:
                for i in P.seq(n):
                    count[i](out=Y[i : i + 1, :], first=0)

    program = repeated(ints(1, "N"), ints(6, "Y")).compile()
    with pytest.raises(UnsupportedError, match=r"item of N\[0, 1\]") as e:
        program.simulate()
    assert e.value.code == "PTO750"
    program.run()
    assert program.simulate(scalars=program.scalars) == program.stats.semantic


def test_a_deadlock_names_depths_where_tokens_decide_nothing() -> None:
    @workload
    def undelivered(N, A, Y):
        c = Channel[int]("c", depth=1)
        with P.pipe():
            for _ in P.seq(item(A[0, 0])):  # which the run knows
                count(out=N[0:1, :], first=2)
                send(c, item(N[0, 3]))
            for _ in P.seq(1):
                count(out=Y[0:1, :], first=c.recv())

    a = Tensor(np.full((1, 4), 4, np.int32), name="A")
    with pytest.raises(DeadlockError) as e:
        undelivered(ints(1, "N"), a, ints(1, "Y")).compile().run()
    assert e.value.remedy == {"c": 3}


def test_sizes_are_enough() -> None:
    n = DenseDyn(None, name="n")

    @workload
    def sized(X, Y):
        for i in P(n):
            double[i](x=X[i : i + 1, :], y=Y[i : i + 1, :])

    x, y = TensorSpec((n, 4), DType.I32), TensorSpec((n, 4), DType.I32)
    program = sized(x, y).compile()
    with pytest.raises(BindError) as e:
        program.simulate()
    assert e.value.code == "PTO509"
    program.set_axis_sizes({"n": 10_000_000})
    begin = time.process_time()
    assert program.simulate().task_count == 10_000_000
    assert time.process_time() - begin < 3
    with pytest.raises(BindError) as e:
        program.run()
    assert e.value.code == "PTO507"


def test_a_window_that_gives_up_is_told() -> None:
    w = doubles(ints(8, "X"), ints(8, "Y"), 8).window(TaskWindow(3, mode=WindowMode.ABORT))
    with pytest.raises(WindowError) as e:
        w.compile().simulate()
    assert e.value.code == "PTO741"


def test_scalars_are_there_after_a_run_that_ends_well() -> None:
    program = counting()
    with pytest.raises(ExecutionError) as e:
        _ = program.scalars
    assert e.value.code == "PTO752"
    program.keep_scalars(0).run()
    with pytest.raises(ExecutionError, match="more than 0 numbers"):
        _ = program.scalars
    program.keep_scalars(1).run()
    assert len(program.scalars) == 1
    assert len(pickle.loads(pickle.dumps(program.scalars))) == 1
    assert len(doubles(ints(4, "X"), ints(4, "Y"), 4).compile().run().scalars) == 0


def test_signals_are_handled_meanwhile() -> None:
    n = DenseDyn(None, name="n")

    @workload
    def sized(X, Y):
        for i in P(n):
            double[i](x=X[0:1, :], y=Y[i : i + 1, :])

    program = sized(ints(1, "X"), TensorSpec((n, 4), DType.I32)).compile()
    program.set_axis_sizes({"n": 10**12})

    def interrupt() -> None:
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    begin = time.process_time()
    with pytest.raises(KeyboardInterrupt):
        program.simulate()
    assert time.process_time() - begin < 5


@pytest.mark.parametrize("threads", [1, 3])
def test_start_policies_and_windows_are_simulated(threads: int) -> None:
    w: Any = doubles(ints(12, "X"), ints(12, "Y"), 12).window(TaskWindow(5)).task_graph(start=StartPolicy.threshold(5))
    program = w.compile(threads=threads)
    assert program.simulate() == program.run().stats.semantic
