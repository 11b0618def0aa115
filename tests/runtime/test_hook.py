"""Functions that the core calls around every task: what `check=` is made of."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from pto_wsp import Dense, DType, In, Out, P, Tile, kernel, pto, workload

rows = Dense[8](name="rows")


@kernel
def double(x: In[Tile[1, 16, DType.F32]], out: Out[Tile[1, 16, DType.F32]]) -> None:
    pto.store(out, x + x)


@workload
def doubled(x: Any, y: Any) -> None:
    for i in P(rows):
        double[i](x=x[i : i + 1, :], out=y[i : i + 1, :])


class Stop(Exception):
    pass


def program(threads: int) -> tuple[Any, np.ndarray]:
    x, y = np.ones((8, 16), np.float32), np.zeros((8, 16), np.float32)
    return doubled(x, y).compile(threads=threads), y


@pytest.mark.parametrize("threads", [1, 4])
def test_the_hook_sees_every_task_in_program_order(threads: int) -> None:
    p, y = program(threads)
    seen = []

    def hook(begin: bool, site: int, registers: list[int]) -> None:
        i = len(seen) // 2
        assert y[i, 0] == (0 if begin else 2), "called before and after the kernel"
        assert threading.current_thread() is threading.main_thread()
        seen.append((begin, site, registers[0]))

    p._run.set_hook(hook)
    p.run()
    assert seen == [(begin, 0, i) for i in range(8) for begin in (True, False)]
    assert p.stats.task_count == 8
    p._run.set_hook(None)
    p.run()
    assert len(seen) == 16


@pytest.mark.parametrize("at", [True, False])
def test_an_exception_stops_the_run_and_comes_back(at: bool) -> None:
    p, y = program(2)

    def hook(begin: bool, site: int, registers: list[int]) -> None:
        if registers[0] == 3 and begin is at:
            raise Stop("at 3")

    p._run.set_hook(hook)
    for _ in range(2):
        y[:] = 0
        with pytest.raises(Stop, match="at 3") as caught:
            p.run()
        assert any(entry.name == "hook" for entry in caught.traceback)
        assert y[:, 0].tolist() == ([2, 2, 2, 0] if at else [2, 2, 2, 2]) + [0] * 4


def test_programs_whose_hook_has_raised_are_collected() -> None:
    p, _ = program(1)

    class Hook:
        def __init__(self, owner: Any) -> None:
            self.owner = owner

        def __call__(self, begin: bool, site: int, registers: list[int]) -> None:
            raise Stop

    p._run.set_hook(Hook(p))
    with pytest.raises(Stop):
        p.run()
    gone = weakref.ref(p)
    del p
    gc.collect()
    assert gone() is None
