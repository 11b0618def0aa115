"""Options of compile() and of runs show in what is measured, reported and raised."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BindError,
    BoundsError,
    DType,
    In,
    InOut,
    KernelError,
    Out,
    P,
    RaceError,
    Resources,
    RunSchedule,
    Tile,
    Workload,
    empty,
    kernel,
    pto,
    workload,
)
from targets.shown import F, N, brief, even, grow, ones, ran, shows, skewed


@shows("native")
def _() -> None:
    assert ran(skewed()).stats.tiers["lengthy"] == "first"
    assert ran(skewed(), native=True).stats.tiers["lengthy"] == "native"


def through_index(indices: list[int]) -> Workload:
    """Tasks that change the rows that an index names, each in an iteration of its own."""

    @workload
    def w(index, Y):
        for i in P(len(indices)):
            grow(x=Y[index[i], :, :])

    return w(np.array(indices), ones(4, 1, 8))


@shows("check.races")
def _() -> None:
    ran(through_index([1, 2, 1]))
    with pytest.raises(RaceError):
        ran(through_index([1, 2, 1]), check="races")


@shows("check.bounds")
def _() -> None:
    with pytest.raises(BoundsError) as e:
        ran(through_index([1, 2, 7]), check="bounds")
    assert e.value.loc is not None
    ran(through_index([1, 2, 3]), check="bounds")


@shows("check.numerics")
def _() -> None:
    @kernel
    def divide(x: In[Tile[1, 8, F]], y: Out[Tile[1, 8, F]]):
        pto.store(y, x / x)

    @workload
    def w(X, Y):
        divide(x=X, y=Y)

    zero = np.zeros((1, 8), np.float32)
    ran(w(zero, ones(1, 8)))
    with pytest.raises(KernelError):
        ran(w(zero, ones(1, 8)), check="numerics")


def chains() -> Workload:
    """Sixteen chains of tasks, which are waited for, each of the row before too."""

    @workload
    def w(Y):
        for _ in P.seq(64):
            for i in P(16):
                grow(x=Y[i])

    return w(ones(16, 1, 8))


def bounded(name: str, size: int) -> None:
    with_less = chains().compile(threads=2, resources=Resources(**{name: size})).run().stats.real.resources[name]
    assert with_less.capacity == size
    assert with_less.high_water is not None
    assert with_less.high_water <= size
    assert ran(chains()).stats.real.resources[name].capacity != size


@shows("resources.task_window")
def _() -> None:
    bounded("task_window", 5)


@shows("resources.dependence_map")
def _() -> None:
    bounded("dependence_map", 37)


@shows("resources.edges")
def _() -> None:
    bounded("edges", 41)


@shows("resources.ready_queue")
def _() -> None:
    bounded("ready_queue", 3)


@shows("resources.arena")
def _() -> None:
    @workload
    def w(X, Y):
        h = empty((1, 8), F)
        brief(x=X, out=h)
        brief(x=h, out=Y)

    program = ran(w(ones(1, 8), ones(1, 8)))
    needed = program.stats.arena_bytes
    ran(w(ones(1, 8), ones(1, 8)), resources=Resources(arena=needed))
    with pytest.raises(BindError, match="PTO519"):
        ran(w(ones(1, 8), ones(1, 8)), resources=Resources(arena=needed - 1))


@shows("observe.tracing")
def _() -> None:
    program = even().compile().enable_tracing().run()
    assert [e.name for e in program.trace] == [f"brief[b={k}]" for k in range(N)]


@shows("observe.replay")
def _() -> None:
    program = even().compile(threads=2).enable_tracing().run()
    backwards = [list(range(N))[::-1]]
    program.run(replay=RunSchedule(program.trace.schedule().origin, backwards))
    assert [schedule.tolist() for schedule in program.trace.schedule().sequences] == backwards


@shows("observe.log")
def _() -> None:
    with tempfile.TemporaryFile() as told, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTO_WSP_LOG", "task")
        stderr = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            even(2).compile().run()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        told.seek(0)
        assert [row.split()[2] for row in told.read().decode().splitlines()] == ["brief[b=0]", "brief[b=1]"]


@shows("on_error.continue")
def _() -> None:
    @kernel
    def checked(flag: In[Tile[1, 1, DType.I32]], x: InOut[Tile[1, 8, F]]):
        """Fails where the flag is not 0."""
        pto.store(x, x + pto.item(x, (pto.item(flag, (0, 0)), 0)))

    @workload
    def w(flag, Y):
        for i in P(4):
            checked(flag=flag[i], x=Y[i])

    flags: Any = np.array([0, 1, 0, 0], np.int32).reshape(4, 1, 1)
    y = ones(4, 1, 8)
    program = w(flags, y).compile(threads=1)
    with pytest.raises(BoundsError) as e:
        program.run(on_error="continue")
    assert y[:, 0, 0].tolist() == [2, 1, 2, 2]
    assert len(e.value.failed) == 1
    y[:] = 1
    with pytest.raises(BoundsError):
        program.run()
    assert y[:, 0, 0].tolist() == [2, 1, 1, 1]
