"""One program used by several Python threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from pto_wsp import Cancelled, DType, ExecutionError, In, Out, P, Program, PtoError, Tile, kernel, pto, workload


@kernel
def add_one(x: In[Tile[1, 8, DType.F32]], out: Out[Tile[1, 8, DType.F32]]):
    pto.store(out, x + 1.0)


def program() -> Program:
    x, y = np.zeros((100, 1, 8), np.float32), np.zeros((100, 1, 8), np.float32)

    @workload
    def ones(X, Y):
        for i in P(100):
            add_one[i](x=X[i], out=Y[i])

    return ones(x, y).compile(threads=2)


def hammer(*actions: Callable[[], object]) -> list[BaseException]:
    """Repeat each action in a thread of its own for a while; what they raised besides errors of pto_wsp."""
    end = time.monotonic() + 0.5
    raised: list[BaseException] = []

    def repeat(action: Callable[[], object]) -> None:
        while time.monotonic() < end:
            try:
                action()
            except (Cancelled, ExecutionError):
                pass
            except BaseException as e:  # noqa: BLE001 - the test reports it
                raised.append(e)
                return

    threads = [threading.Thread(target=repeat, args=(a,)) for a in actions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return raised


def test_two_threads_run_one_program() -> None:
    p = program()
    assert hammer(p.run, p.run, p.run) == []
    p.run()
    assert p.stats.task_count == 100


def test_runs_cancels_waits_and_reads() -> None:
    p = program()
    p.run()
    assert hammer(p.run, p.cancel, p.synchronize, lambda: p.stats, lambda: p.copy().run(), p.is_complete) == []


def test_only_one_of_several_starts_wins() -> None:
    p = program()
    started: list[bool] = []
    codes: set[str] = set()

    def start() -> None:
        try:
            p.execute()
        except PtoError as e:
            codes.add(e.code)
        else:
            started.append(True)
            p.synchronize()

    assert hammer(start, start) == []
    assert started
    assert codes <= {"PTO702"}
