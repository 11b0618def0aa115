"""Tracing and compiling take work in proportion to the processes of a pipeline."""

import cProfile
from collections.abc import Callable

import numpy as np
import pytest

from pto_wsp import (
    Channel,
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    Tensor,
    Tile,
    Workload,
    connect,
    consume,
    empty,
    kernel,
    process,
    pto,
    send,
    workload,
)

I64 = DType.I64


@kernel
def add(k: Scalar[I64], out: InOut[Tile[1, 1, I64]]):
    pto.store(out, out + k)


@kernel
def copy(x: In[Tile[1, 1, I64]], out: Out[Tile[1, 1, I64]]):
    pto.store(out, x)


def chain(n: int) -> tuple[Workload, Tensor]:
    """Process i adds each token to element i of one tensor, and sends one more."""
    channels = [Channel[int](f"c{i}", depth=1) for i in range(n)]
    out = Tensor(np.zeros((n, 1, 1), np.int64), name="out")

    def first() -> None:
        for i in P.seq(4):
            send(channels[0], i)

    def step(i: int) -> Callable[[object], None]:
        def body(k: object) -> None:
            add(k=k, out=out[i])
            if i < n - 1:
                send(channels[i + 1], k + 1)

        return body

    processes = [process("first").produces(channels[0]).body(first)]
    for i, c in enumerate(channels):
        ends = process(f"p{i}").consumes(c)
        processes.append((ends.produces(channels[i + 1]) if i < n - 1 else ends).body(step(i)))
    return connect(processes, channels), out


def chain_of_views(n: int) -> Workload:
    """Process i copies the memory of each token into memory of its own, and sends that on: as many tensors as processes."""

    @workload
    def copies(x: Tensor, y: Tensor) -> None:
        channels = [Channel[Tensor](f"c{i}", depth=1) for i in range(n)]
        with P.pipe():
            for _ in P.seq(4):
                send(channels[0], copy(x=x[0], out=empty((1, 1), I64)))
            for i in range(n - 1):
                with consume(channels[i]) as t:
                    send(channels[i + 1], copy(x=t, out=empty((1, 1), I64)))
            with consume(channels[-1]) as t:
                copy(x=t, out=y[0])

    zeros = np.zeros((1, 1, 1), np.int64)
    return copies(Tensor(zeros, name="x"), Tensor(zeros.copy(), name="y"))


def calls_of(program: Callable[[int], Workload], n: int) -> int:
    counted = cProfile.Profile()
    counted.runcall(lambda: program(n).compile())
    return sum(entry.callcount for entry in counted.getstats())


@pytest.mark.parametrize("program", [lambda n: chain(n)[0], chain_of_views], ids=["numbers", "views"])
def test_four_times_the_processes_are_four_times_the_work(program: Callable[[int], Workload]) -> None:
    calls_of(program, 2)  # what is done once
    assert calls_of(program, 160) < 1.25 * 4 * calls_of(program, 40)


def test_many_processes_run() -> None:
    n = 300
    w, out = chain(n)
    w.compile().run()
    assert (out.data.ravel() == 6 + 4 * np.arange(n)).all()
