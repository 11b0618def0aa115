"""Semantic time of whole programs: lanes, windows, dependences and tails, in costs of one task."""

from __future__ import annotations

import numpy as np
import pytest

from pto_wsp import (
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    TaskWindow,
    Tensor,
    Tile,
    Workload,
    combine,
    dispatch,
    kernel,
    pto,
    sequential,
    task_graph,
    workload,
)


@kernel
def copy(x: In[Tile[4, 8, DType.F32]], out: Out[Tile[4, 8, DType.F32]]):
    pto.store(out, x)


@kernel
def grow(acc: InOut[Tile[4, 8, DType.F32]]):
    pto.store(acc, acc + 1.0)


def tensor(n: int, name: str) -> Tensor:
    return Tensor(np.ones((n, 4, 8), np.float32), name=name)


@workload
def copies(X, Y, n):
    for i in P(n):
        copy[i](x=X[i], out=Y[i])


def cycles(w: Workload, **options: object) -> int:
    program = w.compile(**options)  # type: ignore[arg-type]
    return program.run().stats.total_cycles


def independent(n: int) -> Workload:
    return copies(tensor(n, "X"), tensor(n, "Y"), n)


def cost_of_one() -> int:
    return cycles(independent(1))


@pytest.mark.parametrize(("lanes", "costs"), [(1, 16), (2, 8), (4, 4), (16, 1)])
def test_sixteen_tasks_on_lanes(lanes: int, costs: int) -> None:
    assert cycles(independent(16).dispatch(DispatchPolicy.round_robin(lanes))) == costs * cost_of_one()


@pytest.mark.parametrize(("window", "costs"), [(1, 16), (2, 8), (3, 6), (4, 4)])
@pytest.mark.parametrize("threads", [1, 2])
def test_sixteen_tasks_in_a_window(window: int, costs: int, threads: int) -> None:
    w = independent(16).dispatch(DispatchPolicy.round_robin(4)).task_graph(window=TaskWindow(window))
    program = w.compile(threads=threads).run()
    assert program.stats.total_cycles == costs * cost_of_one()
    assert program.stats.windows[1].high_water == window
    assert program.stats.max_in_flight <= window


def test_without_dispatch_tasks_go_round_the_lanes_of_the_arch() -> None:
    assert cycles(independent(16)) == 4 * cost_of_one()


def test_a_loop_that_reads_what_another_wrote_takes_twice_one() -> None:
    X, Y, Z = tensor(4, "X"), tensor(4, "Y"), tensor(4, "Z")
    w = combine(copies(X, Y, 4), copies(Y, Z, 4)).dispatch(DispatchPolicy.round_robin(4))
    assert cycles(w) == 2 * cost_of_one()


def test_loops_that_share_nothing_overlap() -> None:
    w = combine(copies(tensor(2, "A"), tensor(2, "B"), 2), copies(tensor(2, "C"), tensor(2, "D"), 2))
    assert cycles(w.dispatch(DispatchPolicy.round_robin(4))) == cost_of_one()


def test_sequential_parts_do_not_overlap() -> None:
    w = sequential(copies(tensor(2, "A"), tensor(2, "B"), 2), copies(tensor(2, "C"), tensor(2, "D"), 2))
    assert cycles(w.dispatch(DispatchPolicy.round_robin(4))) == 2 * cost_of_one()


def test_a_sequential_loop_waits_for_every_iteration() -> None:
    X, Y = tensor(3, "X"), Tensor(np.ones((5, 3, 4, 8), np.float32), name="Y")

    @workload
    def steps():
        for k in P.seq(5):
            for i in P(3):
                copy[k, i](x=X[i], out=Y[k, i])

    assert cycles(steps().dispatch(DispatchPolicy.round_robin(4))) == 5 * cost_of_one()


def test_chains_in_independent_iterations_run_side_by_side() -> None:
    S = tensor(4, "S")

    @workload
    def chains():
        for b in P(4):
            for k in P.seq(6):
                grow[b, k](acc=S[b])

    w = chains()
    alone = cycles(w.dispatch(DispatchPolicy.round_robin(1)))
    # task 6*b + k goes to lane (6*b + k) mod 4: chains 0 and 2 start in lane 0, chains 1 and 3 in lane 2
    assert alone > cycles(w.dispatch(DispatchPolicy.round_robin(4))) > alone // 4
    assert (S.data == 13).all()


def test_the_innermost_dispatch_decides_and_counts_for_itself() -> None:
    left = independent(4)
    right = copies(tensor(4, "C"), tensor(4, "D"), 4)
    one = dispatch(DispatchPolicy.round_robin(1))
    # three of the four lanes of the outer scope stay empty: its only tasks are the right part's
    assert cycles(dispatch(DispatchPolicy.round_robin(4))(combine(one(left), right))) == 5 * cost_of_one()


def test_a_scope_that_gives_no_task_its_lane_still_sets_the_number_of_lanes() -> None:
    inner = combine(dispatch(DispatchPolicy.round_robin(2))(independent(4)))
    both = combine(dispatch(DispatchPolicy.round_robin(8))(inner), copies(tensor(8, "C"), tensor(8, "D"), 8))
    program = both.compile().run()
    # lanes 0 and 1 have two tasks each of the inner scope; tasks 4 .. 11 of the program go to lanes 4 .. 7, 0 .. 3
    assert program.stats.lanes == 8
    assert program.stats.total_cycles == 3 * cost_of_one()


def test_a_task_counts_in_the_innermost_window() -> None:
    inner = combine(task_graph(window=TaskWindow(1))(independent(4)))
    outer = task_graph(window=TaskWindow(100))(inner).dispatch(DispatchPolicy.round_robin(4))
    program = outer.compile().run()
    assert program.stats.total_cycles == 4 * cost_of_one()
    assert [w.high_water for w in program.stats.windows] == [0, 1]


def test_a_tail_costs_less_than_a_whole_tile() -> None:
    @workload
    def tiled(X, Y):
        for i in P(X.tiles(4)):
            copy[i](x=X[i], out=Y[i])

    def rows(n: int) -> int:
        x = np.ones((n, 8), np.float32)
        return cycles(tiled(x, x.copy()).dispatch(DispatchPolicy.round_robin(1)))

    assert rows(4) < rows(5) < rows(8) == 2 * rows(4)


def test_costs_of_issue_and_handover_are_the_archs() -> None:
    few, many = independent(1), independent(3)
    measured = "ascend_a2a3_measured"
    first, third = cycles(few, arch=measured), cycles(many, arch=measured)
    assert first > cost_of_one()
    assert third > first


def test_cycles_do_not_depend_on_threads() -> None:
    X, Y, Z = tensor(40, "X"), tensor(40, "Y"), tensor(40, "Z")
    w = combine(copies(X, Y, 40), copies(Y, Z, 40)).task_graph(window=TaskWindow(7))
    assert len({cycles(w, threads=t) for t in (1, 2, 8)}) == 1


def test_a_scope_without_tasks_counts_whether_its_axis_is_static_or_not() -> None:
    def total(n: object) -> int:
        empty = copies(tensor(0, "A"), tensor(0, "B"), n).dispatch(DispatchPolicy.round_robin(16))
        program = combine(empty, independent(40)).compile()
        return program.run().stats.total_cycles

    assert total(Dense[0]()) == total(DenseDyn(0, name="n")) == 3 * cost_of_one()
