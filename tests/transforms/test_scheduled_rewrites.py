"""What keys of schedules mean when rewrites, `vmap`, calls and `combine` give loops and scalars other names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    DenseDyn,
    DispatchPolicy,
    In,
    Out,
    P,
    ReadyPolicy,
    ScheduleError,
    TaskWindow,
    Tensor,
    Workload,
    combine,
    item,
    kernel,
    pto,
    vmap,
    where,
    workload,
)


@kernel
def double(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + x)


@kernel
def grow(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + 1.0)


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def by(key: Callable[[Any], Any]) -> Any:
    """Lane k for tasks of key k."""
    return DispatchPolicy.dispatch_by(key, 8)


def lanes(w: Workload) -> list[int]:
    return w.compile().enable_tracing().run().trace.lane.tolist()


@workload
def rows(x, y):
    for i in P(4):
        double[2 * i](x=x[i : i + 1], y=y[i : i + 1])


@pytest.mark.parametrize("key", [lambda t: t.i0, lambda t: t.get("i0", 7)])
def test_a_coordinate_without_a_name_keeps_its_place_under_vmap(key: Callable[[Any], Any]) -> None:
    assert lanes(rows.dispatch(by(key))(zeros(4, 8), zeros(4, 8))) == [0, 2, 4, 6]
    for w in (
        vmap(rows.dispatch(by(key)))(zeros(3, 4, 8), zeros(3, 4, 8)),
        vmap(rows)(zeros(3, 4, 8), zeros(3, 4, 8)).dispatch(by(key)),
        vmap(vmap(rows.dispatch(by(key))))(zeros(1, 3, 4, 8), zeros(1, 3, 4, 8)),
    ):
        assert lanes(w) == [0, 2, 4, 6] * 3
        assert lanes(w.split(loop="i", size=3)) == [0, 2, 4, 6] * 3


def scheduled_rows(x: Any, y: Any, key: Callable[[Any], Any]) -> Workload:
    """Two loops called b, with a schedule inside of each."""

    def one(x, y, b):
        double[b](x=x, y=y)

    @workload
    def both(x, y):
        for b in P(3):
            workload(one).dispatch(by(key))(x[b], y[b], b)
        for b in P(3):
            workload(one).dispatch(by(key))(x[3 + b], y[3 + b], b)

    return both(x, y)


@pytest.mark.parametrize("key", [lambda t: t.b, lambda t: t.get("b", 7)])
def test_a_schedule_inside_of_a_loop_knows_its_variable_whatever_other_loops_are_called(
    key: Callable[[Any], Any],
) -> None:
    a, b = (scheduled_rows(zeros(6, 4, 8), zeros(6, 4, 8), key) for _ in "ab")
    assert lanes(a) == [0, 1, 2] * 2
    assert lanes(combine(a, b)) == [0, 1, 2] * 4
    assert lanes(a.unroll(loop="/b.1").split(loop="b", size=2)) == [0, 1, 2] * 2


@pytest.mark.parametrize("key", [lambda t: t.m, lambda t: t.get("m", 7)])
def test_a_scalar_is_called_as_the_user_calls_it_in_all_copies(key: Callable[[Any], Any]) -> None:
    @workload
    def picked(x, y, index):
        for i in P.seq(3):
            m = item(index[i])
            double[m](x=x[i], y=y[i])

    index = np.array([5, 1, 3])
    a, b = (picked(zeros(3, 4, 8), zeros(3, 4, 8), index).dispatch(by(key)) for _ in "ab")
    assert lanes(combine(a, b)) == [5, 1, 3] * 2
    assert lanes(a.unroll(loop="i")) == [5, 1, 3]


@pytest.mark.parametrize("key", [lambda t: t.k, lambda t: t.get("k", 7)])
@pytest.mark.parametrize("n", [4, DenseDyn(4, name="k"), DenseDyn(4, name="n")])
def test_a_loop_that_is_no_coordinate_is_not_replaced_by_one_of_its_parts(n: Any, key: Callable[[Any], Any]) -> None:
    @workload
    def bare(x, y):
        for k in P(n):
            double[3](x=x[k], y=y[k])

    w = bare(zeros(4, 4, 8), zeros(4, 4, 8)).dispatch(by(key))
    assert lanes(w) == [0, 1, 2, 3]
    for rewrite in (lambda: w.unroll(loop="k", factor=2), lambda: w.split(loop="k", size=2)):
        with pytest.raises(ScheduleError, match=r"PTO411.*no coordinate k"):
            rewrite()


@pytest.mark.parametrize(
    "say",
    [
        lambda key: lambda w: w.stream_by(key),
        lambda key: lambda w: w.dispatch(DispatchPolicy.hash(key, 2)),
        lambda key: lambda w: w.task_graph(ready=ReadyPolicy.priority(key)),
    ],
)
def test_tasks_beside_a_scope_may_lack_what_its_key_asks_for(say: Callable[[Any], Callable[[Any], Any]]) -> None:
    @workload
    def alone(x, y):
        double(x=x[3:4], y=y[3:4])

    x, y = Tensor(zeros(4, 8), name="x"), Tensor(zeros(4, 8), name="y")
    schedule = say(lambda t: t.get("i", 0))
    both = schedule(combine(schedule(rows(x, y)), alone(x, y)))
    both.compile().run()
    with pytest.raises(ScheduleError, match=r"PTO411.*no coordinate i"):
        both.split(loop="i", size=2)


def test_the_loops_that_a_rewrite_makes_have_names_too() -> None:
    w = rows(zeros(4, 8), zeros(4, 8)).split(loop="i", size=3)
    assert lanes(w.dispatch(by(lambda t: t.i_o * 4 + t.i_i))) == [0, 1, 2, 4]


@workload
def pair(x, y, z):
    for i in P(4):
        double[i](x=x[i : i + 1], y=y[i : i + 1])
        grow[i](x=y[i : i + 1], y=z[i : i + 1])


def test_kernels_that_a_policy_asks_for_are_not_fused() -> None:
    w = pair(zeros(4, 8), zeros(4, 8), zeros(4, 8))
    asking = w.task_graph(ready=ReadyPolicy.priority(lambda t: where(t.kernel == "grow", 1, 0)))
    with pytest.raises(ScheduleError, match=r"PTO409.*ready asks for tasks of kernel grow"):
        asking.fuse(loop="i")
    other = w.task_graph(ready=ReadyPolicy.priority(lambda t: where(t.kernel == "double_grow", t.i, 0)))
    assert "task double_grow[i]" in str(other.fuse(loop="i"))


def test_what_is_fused_must_fit_in_the_window_around_it() -> None:
    w = pair(zeros(4, 8), zeros(4, 8), zeros(4, 8))
    assert w.window(TaskWindow(64, "bytes")).fuse(loop="i").compile().run().stats.high_water == 1
    with pytest.raises(
        ScheduleError, match=r"PTO403.*a window of 63 bytes, where a task of kernel double_grow writes 64"
    ):
        w.window(TaskWindow(63, "bytes")).fuse(loop="i")
