"""Explaining runs and simulations that were not traced: what it needs, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from pto_wsp import (
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    ExecutionError,
    In,
    InOut,
    Out,
    P,
    Program,
    PtoError,
    Scalar,
    TaskWindow,
    Tensor,
    TensorSpec,
    Tile,
    UnsupportedError,
    WindowError,
    WindowMode,
    Workload,
    item,
    kernel,
    pto,
    workload,
)

N = 8


@kernel
def double(x: In[Tile[1, 4, DType.I32]], y: Out[Tile[1, 4, DType.I32]]):
    pto.store(y, x + x)


@kernel
def count(out: Out[Tile[1, 4, DType.I32]], first: Scalar[DType.I32]):
    pto.store(out, pto.iota((1, 4), axis=1) + first)


@kernel
def total(x: In[Tile[64, 4, DType.I32]], y: InOut[Tile[1, 4, DType.I32]]):
    pto.store(y, y + pto.colsum(x))


@kernel
def pick(i: In[Tile[1, 1, DType.I32]], x: In[Tile[1, 4, DType.I32]], y: Out[Tile[1, 1, DType.I32]]):
    pto.store(y, pto.full((1, 1), pto.item(x, (0, pto.item(i, (0, 0)))), DType.I32))


def ints(n: int, name: str) -> Tensor:
    return Tensor(np.ones((n, 4), np.int32), name=name)


def chains(window: TaskWindow | None = None) -> Workload:
    @workload
    def w(X, Y, Z):
        for b in P(Dense[N](name="batch")):
            double[b](x=X[b : b + 1, :], y=Y[b : b + 1, :])
            double[b](x=Y[b : b + 1, :], y=Z[b : b + 1, :])

    return (
        w(ints(N, "X"), ints(N, "Y"), ints(N, "Z"))
        .dispatch(DispatchPolicy.round_robin(3))
        .window(window or TaskWindow(5))
    )


@workload
def counted(A, X, Y):
    """As many doubles as a task of the run says."""
    count(out=A[0:1, :], first=2)
    for i in P(item(A[0, 1])):
        double[i](x=X[i : i + 1, :], y=Y[i : i + 1, :])


def counting() -> Program:
    return counted(ints(1, "A"), ints(6, "X"), ints(6, "Y")).compile()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("level", ["none", "tasks"])
def test_a_run_needs_no_trace(level: str, threads: int) -> None:
    program = chains().compile(threads=threads)
    want = program.copy().enable_tracing("full").run().trace.explain()
    why = program.enable_tracing(level).run().explain()
    assert why == want
    assert str(why) == str(want)
    assert why.total_cycles == program.stats.total_cycles
    assert {step.loc for step in why.path} == {step.loc for step in want.path}
    assert None not in {step.loc for step in why.path}


def test_sizes_are_enough() -> None:
    n = DenseDyn(None, name="n")

    @workload
    def w(X, Y):
        for b in P(n):
            double[b](x=X[b : b + 1, :], y=Y[b : b + 1, :])

    program = w(TensorSpec((n, 4), DType.I32), TensorSpec((n, 4), DType.I32)).compile()
    for size in (3, 100, 0):
        figures = program.set_axis_sizes({"n": size}).simulate()
        why = program.explain()
        assert why.total_cycles == figures.total_cycles
        assert sum(k.tasks for k in why.kernels) == size


def test_what_was_done_last_is_told() -> None:
    n = DenseDyn(None, name="n")

    @workload
    def w(X, Y):
        for b in P(n):
            double[b](x=X[b : b + 1, :], y=Y[b : b + 1, :])

    def tasks(p: Program) -> int:
        return sum(k.tasks for k in p.explain().kernels)

    def bound(p: Program, size: int) -> Program:
        x, y = np.ones((size, 4), np.int32), np.ones((size, 4), np.int32)
        return p.bind({"X": x, "Y": y}).set_axis_sizes({"n": size})

    program = w(TensorSpec((n, 4), DType.I32), TensorSpec((n, 4), DType.I32)).compile().enable_tracing("full")
    bound(program, 4).run()
    assert tasks(program) == 4
    bound(program, 7)
    assert tasks(program) == 4  # of the run, which has a trace
    program.simulate()
    assert tasks(program) == 7
    bound(program, 4).run()
    assert tasks(program) == 4


def test_reads_of_what_tasks_compute_need_a_run() -> None:
    program = counting()
    with pytest.raises(UnsupportedError) as e:
        program.explain()
    assert e.value.code == "PTO750"
    assert "item of A[0, 1]" in e.value.what
    why = program.run().explain()
    assert [(k.name, k.tasks) for k in why.kernels] == [("count", 1), ("double", 3)]
    assert "boundary" in {step.because for step in why.path}


def test_a_simulation_is_told_with_the_scalars_that_it_was_given() -> None:
    scalars = counting().run().scalars
    program = counting()
    figures = program.simulate(scalars=scalars)
    assert program.explain().total_cycles == figures.total_cycles


def test_scalars_that_were_not_kept() -> None:
    program = counting().keep_scalars(0).run()
    with pytest.raises(ExecutionError) as e:
        program.explain()
    assert e.value.code == "PTO752"
    assert "keep_scalars" in e.value.fix


def test_more_tasks_than_the_limit() -> None:
    program = chains().compile()
    with pytest.raises(ExecutionError) as e:
        program.explain(limit=2 * N - 1)
    assert e.value.code == "PTO764"
    assert e.value.values["tasks beyond the limit"] == 1
    assert e.value.fix == f"program.explain(limit={2 * N})"
    assert program.explain(limit=2 * N) == program.explain()
    with pytest.raises(PtoError, match="a limit of 1"):
        program.explain(limit=0)


def test_more_edges_than_the_limit_has_room_for() -> None:
    """64 tasks wait for 64 others each, and a task of the limit has room for 16 edges."""

    @workload
    def w(X, Y, Z):
        for b in P(64):
            double[b](x=X[b : b + 1, :], y=Y[b : b + 1, :])
        for b in P(64):
            total[b](x=Y, y=Z[b : b + 1, :])

    program = w(ints(64, "X"), ints(64, "Y"), ints(64, "Z")).compile()
    full = program.copy().enable_tracing("full").run().trace
    assert len(full.edges) == 64 * 64
    with pytest.raises(ExecutionError) as e:
        program.explain(limit=255)
    assert e.value.values == {"edges beyond it": 16}
    assert e.value.fix == "program.explain(limit=256)"
    assert program.explain(limit=256) == full.explain()


def test_a_run_that_failed_is_told_as_if_it_had_not() -> None:
    flags = np.zeros((4, 1), np.int32)

    @workload
    def w(F, X, Y):
        for b in P(4):
            pick[b](i=F[b : b + 1, :], x=X[0:1, :], y=Y[b : b + 1, :])

    program = w(flags, np.ones((1, 4), np.int32), np.zeros((4, 1), np.int32)).compile().enable_tracing("full")
    want = program.run().explain()
    flags[1] = 7
    with pytest.raises(PtoError):
        program.run()
    assert program.explain() == want


def test_a_window_that_gives_up_is_told() -> None:
    program = chains(TaskWindow(3, mode=WindowMode.ABORT)).compile()
    with pytest.raises(WindowError):
        program.explain()
