"""Compiling takes work in proportion to the processes of a pipeline."""

import cProfile
from collections.abc import Callable

import numpy as np

from pto_wsp import Channel, DType, InOut, P, Scalar, Tensor, Tile, Workload, connect, kernel, process, pto, send

I64 = DType.I64


@kernel
def add(k: Scalar[I64], out: InOut[Tile[1, 1, I64]]):
    pto.store(out, out + k)


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


def calls_of(n: int) -> int:
    w, _ = chain(n)
    counted = cProfile.Profile()
    counted.runcall(w.compile)
    return sum(entry.callcount for entry in counted.getstats())


def test_four_times_the_processes_are_four_times_the_work() -> None:
    calls_of(2)  # what is done once
    assert calls_of(160) < 1.5 * 4 * calls_of(40)


def test_many_processes_run() -> None:
    n = 300
    w, out = chain(n)
    w.compile().run()
    assert (out.data.ravel() == 6 + 4 * np.arange(n)).all()
