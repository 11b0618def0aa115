"""Each rule of schedules by hand: lanes, streams, batches, rates, windows, what is taken first, starts and pools; and what is refused."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BoundsError,
    Constexpr,
    DeadlockError,
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    ExecutionTrace,
    Out,
    P,
    Pools,
    ReadyPolicy,
    ScheduleError,
    ScheduleWarning,
    StartPolicy,
    TaskWindow,
    Tensor,
    TensorSpec,
    Tile,
    TimingPolicy,
    TraceError,
    UnsupportedError,
    WindowError,
    WindowMode,
    Workload,
    arch,
    cast,
    combine,
    dispatch,
    item,
    kernel,
    minimum,
    pto,
    register_policy,
    split,
    stream_by,
    streams,
    task_graph,
    timing,
    unroll,
    vmap,
    where,
    window,
    workload,
)

CELL = Tile[1, 8, DType.F32]


@kernel
def work(n: Constexpr[int], y: Out[CELL]):
    v = pto.full((1, 8), 1, DType.F32)
    for _ in range(n):
        v = v * 2.0
    pto.store(y, v)


def tensor(*shape: int, name: str = "Y") -> Tensor:
    return Tensor(np.zeros((*shape, 1, 8), np.float32), name=name)


@workload
def row(Y, n, long):
    for b in P(Dense[n](name="batch")):
        work[b](n=long, y=Y[b])


@workload
def grid(Y, m, n):
    for b in P(m):
        for h in P(Dense[n](name="heads")):
            work[b, h](n=1, y=Y[b, h])


def eight(long: int = 1, name: str = "Y") -> Workload:
    return row(tensor(8, name=name), 8, long)


def run(w: Workload, threads: int = 2) -> Any:
    return w.compile(threads=threads).enable_tracing().run()


def trace(w: Workload) -> ExecutionTrace:
    return run(w).trace


def lanes(w: Workload) -> list[int]:
    return trace(w).lane.tolist()


def starts(w: Workload) -> list[int]:
    """When each task starts, in costs of one."""
    found = trace(w).start
    assert not (found % cost()).any()
    return (found // cost()).tolist()


def cost(long: int = 1) -> int:
    return run(eight(long).dispatch(DispatchPolicy.round_robin(8))).stats.total_cycles


# lanes


@pytest.mark.parametrize(
    ("policy", "want"),
    [
        (DispatchPolicy.round_robin(3), [0, 1, 2, 0, 1, 2, 0, 1]),
        (DispatchPolicy.affinity(lambda t: 7 - t.b // 3, 2), [0, 0, 0, 1, 1, 1, 0, 0]),
        (DispatchPolicy.dispatch_by(lambda t: t.b - 4, 3), [2, 0, 1, 2, 0, 1, 2, 0]),
        (DispatchPolicy.dispatch_by(lambda t: t.batch, 8), [0, 1, 2, 3, 4, 5, 6, 7]),
        (DispatchPolicy.dispatch_by(lambda t: t.position * 2, 4), [0, 2, 0, 2, 0, 2, 0, 2]),
        (DispatchPolicy.dispatch_by(lambda t: where(t.kernel == "work", 1, 2), 4), [1] * 8),
        (DispatchPolicy.dispatch_by(lambda t: where(t.kernel != work, 1, 2), 4), [2] * 8),
        (DispatchPolicy.least_loaded(3), [0, 1, 2, 0, 1, 2, 0, 1]),
        # splitmix64 of 0, 1, 2, 3 is e220a8397b1dcdaf, 910a2dec89025cc1, 975835de1c9756ce, 1d0b14e4db018fed
        (DispatchPolicy.hash(lambda t: t.b % 4, 16), [15, 1, 14, 13, 15, 1, 14, 13]),
    ],
)
def test_the_lanes_of_a_policy(policy: Any, want: list[int]) -> None:
    assert lanes(eight().dispatch(policy)) == want


def test_the_least_loaded_lane_is_the_one_with_the_fewest_cycles() -> None:
    w = combine(row(tensor(1, name="A"), 1, 40), eight(1)).dispatch(DispatchPolicy.least_loaded(2))
    assert cost(40) > 8 * cost()
    assert lanes(w) == [0] + [1] * 8


def test_one_lane_and_stealing() -> None:
    one = eight().dispatch(DispatchPolicy.dispatch_by(lambda t: 0, 4))
    assert starts(one) == [0, 1, 2, 3, 4, 5, 6, 7]
    stolen = one.task_graph(ready=ReadyPolicy.work_steal)
    assert lanes(stolen)[:4] == [0, 1, 2, 3]
    assert starts(stolen) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_scope_inside_of_a_loop_is_one_state() -> None:
    @workload
    def outer():
        for i in P(2):
            row.dispatch(DispatchPolicy.affinity(lambda t: t.b + 3 * t.position, 4))(Y[i], 3, 1)

    Y = tensor(2, 3)
    assert lanes(outer()) == [0, 1, 2, 3, 0, 1]


def test_a_round_robin_that_only_some_tasks_go_by_counts_all() -> None:
    # the lanes for tasks without heads, which alone would be a round robin; 4 and 5 for those with
    register_policy("dispatch", "test_partly", lambda t: t.position % (t.get("heads", -1) + 5))
    w = combine(row(tensor(3, name="A"), 3, 1), grid(tensor(1, 2), 1, 2), row(tensor(2, name="C"), 2, 1))
    assert lanes(w.dispatch(DispatchPolicy.test_partly(lanes=4))) == [0, 1, 2, 3, 0, 1, 2]


# streams


def test_streams_take_turns_and_wait_for_themselves() -> None:
    w = eight().dispatch(DispatchPolicy.round_robin(8))
    assert starts(w.streams(2)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert starts(w.stream_by(lambda t: t.b // 4)) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert starts(w.stream_by(lambda t: -t.b).streams(4)) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_dispatch_without_lanes_has_as_many_as_streams() -> None:
    assert lanes(eight().dispatch(DispatchPolicy.round_robin()).streams(3)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert max(lanes(eight().dispatch(DispatchPolicy.round_robin()))) == arch.get().lanes - 1


# issue


def test_rate_limit_rounds_the_cycles_up() -> None:
    khz = arch.get().clock_khz
    w = eight().dispatch(DispatchPolicy.round_robin(8)).timing(TimingPolicy.rate_limit(khz / 7.5))
    assert trace(w).issue.tolist() == [8 * k for k in range(8)]


def test_a_registered_timing_gives_the_cycles_to_the_next_issue() -> None:
    register_policy("timing", "test_slower", lambda t, n: t.b * n)
    w = eight().dispatch(DispatchPolicy.round_robin(8)).timing(TimingPolicy.test_slower(2))
    assert trace(w).issue.tolist() == [0, 0, 2, 6, 12, 20, 30, 42]


def test_a_batch_is_released_with_its_last_and_when_all_are_issued() -> None:
    w = eight().dispatch(DispatchPolicy.round_robin(8)).timing(TimingPolicy.batched(3))
    machine = arch.get("ascend_a2a3_measured")
    program = w.compile(arch=machine.name).enable_tracing().run()
    assert machine.issue_cost > 0
    released = [2, 2, 2, 5, 5, 5, 7, 7]
    assert program.trace.ready.tolist() == [k * machine.issue_cost + machine.handover for k in released]


def test_windows_in_bytes_hold_what_is_written() -> None:
    w = eight().dispatch(DispatchPolicy.round_robin(8)).window(TaskWindow(3 * 32, "bytes"))
    program = run(w)
    assert program.trace.start.tolist() == [k // 3 * cost() for k in range(8)]
    assert (program.stats.windows[1].high_water, program.stats.windows[1].stalls) == (3, 2)


def test_a_window_inside_of_a_smaller_one_is_a_ring_of_its_own() -> None:
    w = combine(eight().window(TaskWindow(4)), row(tensor(1, name="Z"), 1, 1)).window(TaskWindow(1))
    assert starts(w.dispatch(DispatchPolicy.round_robin(9))) == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_modes_of_windows() -> None:
    w = eight().dispatch(DispatchPolicy.round_robin(8))
    recorded = run(w.window(TaskWindow(2, mode=WindowMode.BENCHMARK))).stats
    assert (recorded.windows[1].high_water, recorded.stalls, recorded.total_cycles) == (8, 0, cost())
    with pytest.raises(WindowError, match="8 tasks"):
        run(w.window(TaskWindow(7, mode=WindowMode.ABORT)))
    assert run(w.window(TaskWindow(8, mode=WindowMode.ABORT))).stats.total_cycles == cost()


# what is taken


def test_the_highest_priority_is_taken_first() -> None:
    w = eight().dispatch(DispatchPolicy.round_robin(1)).task_graph(ready=ReadyPolicy.priority(lambda t: t.b % 4))
    assert starts(w.task_graph(start=StartPolicy.after_orchestration)) == [6, 4, 2, 0, 7, 5, 3, 1]


def test_longest_first_is_better_than_in_order_where_something_waits_for_a_long_one() -> None:
    L = tensor(1, name="L")
    w = combine(eight(), row(L, 1, 60), row(L, 1, 61)).dispatch(
        DispatchPolicy.dispatch_by(lambda t: t.position // 9, 2)
    )
    long, longer = cost(60), cost(61)
    assert longer > 8 * cost()
    assert run(w).stats.total_cycles == 8 * cost() + long + longer
    first = w.task_graph(ready=ReadyPolicy.longest_processing_time())
    assert run(first).stats.total_cycles == long + longer


# start


def test_nothing_is_taken_before_the_start() -> None:
    w = eight().dispatch(DispatchPolicy.round_robin(8)).timing(TimingPolicy.rate_limit(arch.get().clock_khz / 5))
    assert trace(w.task_graph(start=StartPolicy.threshold(4))).start.tolist() == [15] * 4 + [20, 25, 30, 35]
    assert trace(w.task_graph(start=StartPolicy.after_orchestration)).start.tolist() == [35] * 8
    assert trace(w.task_graph(start=StartPolicy.threshold(100))).start.tolist() == [35] * 8


def test_a_window_that_the_start_never_lets_go_is_refused() -> None:
    with pytest.raises(ScheduleError, match="no run ends"):
        run(eight().task_graph(window=TaskWindow(3), start=StartPolicy.threshold(4)))


def test_the_advice_for_sizes_that_are_no_constants_says_so() -> None:
    n = DenseDyn("n")

    @workload
    def dynamic(Y, Z):
        for b in P(n):
            work[b](n=1, y=Y[b])
        for b in P(6):
            work[b](n=1, y=Z[b])

    def waiting(w: Workload, size: int) -> Workload:
        return w.task_graph(window=TaskWindow(size), start=StartPolicy.after_orchestration)

    w = dynamic(TensorSpec((n, 1, 8), DType.F32), tensor(6, name="Z"))
    with pytest.raises(ScheduleError, match="no run ends") as caught:
        waiting(w, 4).compile()
    assert "no constants" in str(caught.value.values["sizes"])
    assert "TaskWindow(6)" in caught.value.fix
    assert "more where the sizes of the run need it" in caught.value.fix
    with pytest.raises(DeadlockError, match=r"TaskWindow.8.*for the sizes of this run"):
        waiting(w, 6).compile().set_axis_sizes({"n": 2}).simulate()
    waiting(w, 8).compile().set_axis_sizes({"n": 2}).simulate()
    with pytest.raises(ScheduleError, match="no run ends") as caught:
        waiting(eight(), 4).compile()
    assert "sizes" not in caught.value.values
    assert caught.value.fix.endswith("or start with StartPolicy.threshold(4) at most")


# pools


def test_pools_have_lanes_of_their_own() -> None:
    custom = Pools.custom(lambda t: where(t.b < 2, 0, 1), {"big": 1, "small": 3})
    assert lanes(eight().task_graph(pools=custom)) == [
        0,
        0,
        3,
        1,
        2,
        3,
        1,
        2,
    ]  # the position modulo the lanes of the pool
    five = eight().dispatch(DispatchPolicy.round_robin(5))
    assert lanes(five.task_graph(pools=custom)) == [0, 0, 3, 1, 2, 1, 2, 3]  # its lane of five modulo these


@pytest.mark.parametrize("n", [5, 2])
def test_one_pool_of_other_lanes_than_dispatch_deals_out(n: int) -> None:
    w = eight().dispatch(DispatchPolicy.round_robin(n)).task_graph(pools=Pools.custom(lambda t: 0, {"all": 3}))
    assert lanes(w) == [k % n % 3 for k in range(8)]


def test_a_single_pool_is_no_pool() -> None:
    assert lanes(eight().task_graph(pools=Pools.single)) == lanes(eight())


def test_the_least_loaded_lane_is_one_of_the_pool() -> None:
    pools = Pools.custom(lambda t: t.b % 2, {"a": 2, "b": 1})
    w = eight().dispatch(DispatchPolicy.least_loaded(4)).task_graph(pools=pools)
    assert lanes(w) == [0, 2, 1, 2, 0, 2, 1, 2]


# coordinates


def test_a_scalar_of_the_data_can_be_a_coordinate() -> None:
    lengths, Y = Tensor(np.array([2, 0, 3], np.int32), name="N"), tensor(3, 4)

    @workload
    def ragged():
        for b in P(3):
            n = item(lengths[b])
            for h in P(n):
                work[b, h, n](n=1, y=Y[b, h])

    assert lanes(ragged().dispatch(DispatchPolicy.dispatch_by(lambda t: t.n + t.h, 8))) == [2, 3, 3, 4, 5]


def test_coordinates_by_place() -> None:
    Y = tensor(4)

    @workload
    def shifted():
        for b in P(4):
            work[2 * b + 1](n=1, y=Y[b])

    assert lanes(shifted().dispatch(DispatchPolicy.dispatch_by(lambda t: t.i0, 8))) == [1, 3, 5, 7]
    w = grid(tensor(2, 3), 2, 3)
    assert lanes(w.dispatch(DispatchPolicy.dispatch_by(lambda t: 3 * t.i0 + t.get("i1", 7), 8))) == [0, 1, 2, 3, 4, 5]
    mapped = vmap(row)(tensor(2, 3, name="M"), 3, 1)
    assert lanes(mapped.dispatch(DispatchPolicy.dispatch_by(lambda t: t.i0, 8))) == [0, 1, 2] * 2
    with pytest.raises(ScheduleError, match="PTO411"):
        w.stream_by(lambda t: t.i2)


def test_a_loop_may_be_called_like_a_place() -> None:
    Y = tensor(4)

    @workload
    def swapped():
        for i1 in P(2):
            for i0 in P(2):
                work[i1, i0](n=1, y=Y[2 * i1 + i0])

    w = swapped().dispatch(DispatchPolicy.dispatch_by(lambda t: t.i0, 8))
    assert lanes(w) == [0, 1, 0, 1]
    assert lanes(w.unroll(loop="i0")) == [0, 1, 0, 1]

    @workload
    def bare():
        for i0 in P(4):
            work[3](n=1, y=Y[i0])

    for key in (lambda t: t.i0, lambda t: t.get("i0", 0)):
        asking = bare().dispatch(DispatchPolicy.dispatch_by(key, 8))
        assert lanes(asking) == [0, 1, 2, 3]
        with pytest.raises(ScheduleError, match=r"PTO411.*no coordinate i0"):
            asking.unroll(loop="i0")


def test_rewrites_keep_what_rules_ask_for() -> None:
    w = grid(tensor(4, 6), 4, 6).dispatch(DispatchPolicy.dispatch_by(lambda t: t.b * 6 + t.h, 24))
    for step in (split(loop="h", size=4), split(loop="b", size=3), unroll(loop="h"), unroll(loop="b", factor=3)):
        assert lanes(w.then(step)) == list(range(24))


@pytest.mark.parametrize("key", [lambda t: t.heads, lambda t: t.get("heads", 0)])
def test_rewrites_refuse_to_take_a_coordinate_that_a_rule_asks_for(key: Callable[[Any], Any]) -> None:
    w = grid(tensor(4, 6), 4, 6).stream_by(key)
    with pytest.raises(ScheduleError) as caught:
        w.then(unroll(loop="h"))
    assert caught.value.code == "PTO411"
    assert "heads" in caught.value.what


def test_unknown_coordinates_say_what_there_is() -> None:
    with pytest.raises(ScheduleError) as caught:
        grid(tensor(4, 6), 4, 6).stream_by(lambda t: t.rows)
    assert caught.value.values == {"loops": "b, h", "axes": "b, heads"}


# what is refused


@pytest.mark.parametrize("n", [0, -1, True, 2.0, "4", 2**70])
@pytest.mark.parametrize(
    "say",
    [
        DispatchPolicy.round_robin,
        lambda n: DispatchPolicy.affinity(lambda t: t.b, n),
        lambda n: eight().streams(n),
        TaskWindow,
        TimingPolicy.batched,
        TimingPolicy.interleaved,
        StartPolicy.threshold,
        lambda n: Pools.custom(lambda t: 0, {"a": n}),
    ],
)
def test_counts_are_positive_integers(say: Callable[[Any], Any], n: Any) -> None:
    with pytest.raises(ScheduleError) as caught:
        say(n)
    assert caught.value.code == "PTO403"
    assert str(caught.value.values["range"]) in caught.value.fix


def test_what_options_take_is_called_as_users_know_it() -> None:
    with pytest.raises(ScheduleError, match="start is no StartPolicy"):
        task_graph(start="x")  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match="deps is no Deps"):
        task_graph(deps="explicit")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key",
    [
        lambda t: hash(t) + 0,
        lambda t: 1 if t else 0,
        lambda t: 1 if t == 3 else 0,
        lambda t: len(t) + 0,
        lambda t: sum(t) + 0,
        lambda t: 1 if "b" in t else 0,
        lambda t: np.add(t, 1),
        lambda t: [1, 2, 3][t],
        lambda t: len(t.b),
        lambda t: np.sqrt(t.b),
        lambda t: t.sum(),
        lambda t: np.asarray(t.b) + 1,
        lambda t: [1, 2, 3][t.b],
        lambda t: np.where(t.b > 1, 1, 0),
    ],
)
def test_what_python_and_numpy_ask_of_a_task_is_refused(key: Callable[[Any], Any]) -> None:
    with pytest.raises((UnsupportedError, TraceError)) as caught:
        DispatchPolicy.dispatch_by(key, 4)
    assert caught.value.loc is not None
    assert (caught.value.loc.file, caught.value.loc.line) == (__file__, key.__code__.co_firstlineno)


def test_numbers_of_numpy_go_with_scalars_of_tasks() -> None:
    three = np.int64(3)
    w = eight()
    for key in (lambda t: three - t.b, lambda t: where(three > t.b, 3 - t.b, 3 - t.b), lambda t: np.subtract(3, t.b)):
        assert lanes(w.dispatch(DispatchPolicy.dispatch_by(key, 4))) == [3, 2, 1, 0] * 2


def test_functions_take_schedules_as_workloads_do() -> None:
    Y = tensor(3, 8)
    say = (
        dispatch(DispatchPolicy.round_robin(4)),
        streams(2),
        stream_by(lambda t: t.position),
        timing(TimingPolicy.batched(2)),
        window(TaskWindow(4)),
        task_graph(ready=ReadyPolicy.fifo),
        split(loop="b", size=2),
        unroll(loop="b", factor=2),
    )
    for f, args in ((row, (tensor(8), 8, 1)), (vmap(row), (Y, 8, 1))):
        for directive in say:
            assert str(directive(f)(*args)) == str(directive(f(*args)))
    with pytest.raises(TraceError, match="dispatch needs a traced workload"):
        say[0](work)  # type: ignore[type-var]


@pytest.mark.parametrize(
    "key",
    [
        lambda t: cast(t.b, DType.F64),
        lambda t: 1.5,
        lambda t: None,
        lambda t: True,
        lambda t: t.b > 1,
        lambda t: t,
        lambda t: t.kernel,
        lambda t: 2**63,
        lambda t: t.cost / 2,
        lambda t: t.b * 0.5,
    ],
)
def test_keys_are_integers(key: Callable[[Any], Any]) -> None:
    for say in (
        lambda: DispatchPolicy.affinity(key, 2),
        lambda: ReadyPolicy.priority(key),
        lambda: eight().stream_by(key),
    ):
        with pytest.raises(ScheduleError) as caught:
            say()
        assert caught.value.code == "PTO417"
        assert caught.value.loc is not None
        assert caught.value.loc.file == __file__


OUTER: dict[str, Callable[[Workload], Workload]] = {
    "dispatch": lambda w: w.dispatch(DispatchPolicy.affinity(lambda t: t.b, 8)),
    "work_steal": lambda w: w.dispatch(DispatchPolicy.work_steal(8)),
    "window": lambda w: w.window(TaskWindow(1)),
    "window of bytes": lambda w: w.window(TaskWindow(512, "bytes")),
    "window of task_graph": lambda w: w.task_graph(window=TaskWindow(1, mode=WindowMode.BENCHMARK)),
    "streams": lambda w: w.streams(2),
    "timing": lambda w: w.timing(TimingPolicy.batched(2)),
}


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("between", ["nothing", "another directive"])
def test_a_directive_directly_around_its_like_is_refused(outer: str, between: str) -> None:
    inner = (
        eight()
        .dispatch(DispatchPolicy.round_robin(2))
        .window(TaskWindow(4))
        .streams(3)
        .timing(TimingPolicy.rate_limit(9.0))
    )
    if between != "nothing":
        inner = inner.task_graph(start=StartPolicy.threshold(2))
    with pytest.raises(ScheduleError, match="directly around") as caught:
        OUTER[outer](inner)
    assert caught.value.code == "PTO418"
    assert str(caught.value.values["inside"]).startswith(__file__)
    run(
        OUTER[outer](combine(inner, eight(name="Z")) if between == "nothing" else eight())
    )  # decides for some tasks, or all


@pytest.mark.parametrize(
    "key",
    [
        lambda t: hash(t.b),
        lambda t: hash(t.id % 4),
        lambda t: hash(where(t.kernel == "work", t.get("b", 0), 1)),
        lambda t: {0: 1}.get(t.b + 1, 5),
        lambda t: 1 if t.b in {1, 2} else 0,
    ],
)
def test_scalars_of_policies_have_no_hash(key: Callable[[Any], Any]) -> None:
    with pytest.raises(TraceError, match="the hash of a scalar of a policy") as caught:
        DispatchPolicy.dispatch_by(key, 4)
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__


@pytest.mark.parametrize(
    "key",
    [
        lambda t: hash(t.kernel),
        lambda t: t.kernel % 4,
        lambda t: 1 if t.kernel else 0,
        lambda t: int(t.kernel in {"work"}),
        lambda t: t.kernel < "work",
    ],
)
def test_kernels_of_tasks_are_only_compared(key: Callable[[Any], Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        DispatchPolicy.dispatch_by(key, 4)
    assert caught.value.code == "PTO003"


def called_as_facts() -> Workload:
    """Tasks with coordinates that are called as facts of tasks are."""

    @workload
    def w(Y):
        for cost in P(Dense[4](name="lanes")):
            work[cost](n=1, y=Y[cost])

    return w(tensor(4))


register_policy("dispatch", "test_by_cost", lambda t, n: t.cost * n)


@pytest.mark.parametrize(
    ("name", "say"),
    [
        ("cost", lambda w: w.dispatch(DispatchPolicy.dispatch_by(lambda t: t.cost, 4))),
        ("lanes", lambda w: w.stream_by(lambda t: t.get("cost") + t.lanes)),
        ("cost", lambda w: w.task_graph(ready=ReadyPolicy.priority(lambda t: -t.cost))),
        ("cost", lambda w: w.dispatch(DispatchPolicy.test_by_cost(3, lanes=2))),
    ],
)
def test_a_fact_that_hides_a_coordinate_is_refused(name: str, say: Callable[[Workload], Workload]) -> None:
    with pytest.raises(ScheduleError, match=f"t.{name} is no coordinate") as caught:
        say(called_as_facts())
    assert caught.value.code == "PTO156"
    assert f't.get("{name}")' in caught.value.fix
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__


def test_coordinates_that_facts_hide_are_got_by_name() -> None:
    w = called_as_facts()
    assert lanes(w.dispatch(DispatchPolicy.dispatch_by(lambda t: 3 - t.get("cost"), 4))) == [3, 2, 1, 0]
    assert lanes(w.dispatch(DispatchPolicy.dispatch_by(lambda t: 3 - t["lanes"] + 0 * t.position, 4))) == [3, 2, 1, 0]
    assert lanes(w.dispatch(DispatchPolicy.round_robin(2))) == [
        0,
        1,
        0,
        1,
    ]  # the lanes of the policy, not the coordinate


def misspelt(t: Any) -> Any:
    return where(t.kernel == "wrok", 1, 2)


def test_a_kernel_that_is_not_there_is_a_warning() -> None:
    w = eight().dispatch(DispatchPolicy.dispatch_by(misspelt, 4))
    with pytest.warns(ScheduleWarning, match=r'"wrok" holds for no task.*did you mean "work"') as told:
        program = w.compile()
    assert [(t.filename, t.lineno) for t in told] == [(__file__, misspelt.__code__.co_firstlineno + 1)]
    assert program.enable_tracing().run().trace.lane.tolist() == [2] * 8
    with pytest.warns(ScheduleWarning, match="it has work"):
        eight().stream_by(lambda t: where(t.kernel != "attend", 1, 2)).compile()


def misspelt_coordinate(t: Any) -> Any:
    return t.get("batc", 3)


def test_a_coordinate_that_no_task_has_is_a_warning() -> None:
    w = eight().dispatch(DispatchPolicy.dispatch_by(misspelt_coordinate, 4))
    with pytest.warns(ScheduleWarning, match=r't.get\("batc", ...\) is its default .*did you mean "batch"') as told:
        program = w.compile()
    assert [(t.filename, t.lineno) for t in told] == [(__file__, misspelt_coordinate.__code__.co_firstlineno + 1)]
    assert program.enable_tracing().run().trace.lane.tolist() == [3] * 8
    for say in (
        lambda: eight().stream_by(lambda t: t.get("heads", 0)),
        lambda: eight().task_graph(ready=ReadyPolicy.priority(lambda t: t.cost + t.get("heads", 0))),
        lambda: eight().task_graph(pools=Pools.custom(lambda t: t.get("heads", 0), {"one": 1})),
    ):
        with pytest.warns(ScheduleWarning, match="they have b, batch"):
            say().compile()


def test_coordinates_that_some_task_has_or_a_registered_rule_asks_for_are_no_warning() -> None:
    register_policy("dispatch", "test_everywhere", lambda t: t.get("heads", 1))
    h = Dense[2](name="heads")

    @workload
    def mixed(Y, Z):
        for b in P(Dense[8](name="batch")):
            work[b](n=1, y=Y[b])
        for x in P(h):
            work[x](n=1, y=Z[x])

    w = mixed(tensor(8, name="Y"), tensor(2, name="Z"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("b", "batch", "x", "heads", "i0"):
            w.stream_by(lambda t, name=name: t.get(name, 7)).compile()
        eight().dispatch(DispatchPolicy.test_everywhere(lanes=2)).compile()


def test_what_one_policy_asks_is_refused_in_another() -> None:
    kept: list[Any] = []

    def keeps(t: Any) -> Any:
        kept[:] = [t.b, t.cost, t, t.b % 2 == 0, t.kernel]
        return t.b

    def refused(say: Callable[[], object]) -> ScheduleError:
        with pytest.raises(ScheduleError) as caught:
            say()
        assert caught.value.code == "PTO417"
        assert caught.value.loc is not None
        assert caught.value.loc.file == __file__
        assert "lambda" in caught.value.loc.function
        return caught.value

    w = eight()
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    w.dispatch(DispatchPolicy.affinity(keeps, 2))
    alone: tuple[Callable[[Any], Any], ...] = (
        lambda t: kept[0],
        lambda t: kept[1] + 1,
        lambda t: kept[2].b,
        lambda t: where(kept[3], 1, 2),
        lambda t: where(kept[4] == "work", 1, 2),
    )
    for key in alone:
        for say in (
            lambda key=key: w.stream_by(key),
            lambda key=key: DispatchPolicy.hash(key, 2),
            lambda key=key: ReadyPolicy.priority(key),
        ):
            error = refused(say)
            assert "uses what another policy has asked" in error.what
            assert str(error.values["it belongs to"]) == f"DispatchPolicy.affinity, {__file__}:{line}"
    mixed: tuple[Callable[[Any], Any], ...] = (
        lambda t: t.b + kept[0],
        lambda t: kept[1] + t.b,
        lambda t: minimum(t.position, kept[0]),
        lambda t: where(kept[3], t.b, 2),
        lambda t: t.first_appearance(kept[0]),
    )
    for key in mixed:
        error = refused(lambda key=key: w.stream_by(key))
        assert f"DispatchPolicy.affinity, {__file__}:{line}" in map(str, error.values.values())
        assert any(str(v).startswith("stream_by, ") for v in error.values.values())


def test_kernels_that_are_there_or_are_no_names_are_no_warning() -> None:
    @kernel
    def attend(y: Out[CELL]):
        pto.store(y, pto.full((1, 8), 1, DType.F32))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for asked in ("work", work, attend):
            eight().stream_by(lambda t, asked=asked: where(t.kernel == asked, 1, 2)).compile()


def test_a_policy_of_another_kind_is_refused() -> None:
    for say in (
        lambda: eight().dispatch(ReadyPolicy.fifo),
        lambda: eight().timing(DispatchPolicy.round_robin(2)),
        lambda: eight().task_graph(ready=TimingPolicy.immediate),
        lambda: eight().task_graph(pools=ReadyPolicy.fifo),
    ):
        with pytest.raises(ScheduleError) as caught:
            say()
        assert caught.value.code == "PTO403"


def again(a: int) -> None:
    register_policy("dispatch", "test_again", lambda t, k=3: t.b * a + k)


def test_the_same_rule_may_be_registered_again() -> None:
    again(1)
    again(1)
    with pytest.raises(ScheduleError, match="name is 'test_again'"):
        again(2)
    with pytest.raises(ScheduleError, match="name is 'test_again'"):
        register_policy("dispatch", "test_again", lambda t, k=3: t.b * 1 + k)
    assert lanes(eight().dispatch(DispatchPolicy.test_again(lanes=8))) == [3, 4, 5, 6, 7, 0, 1, 2]


@pytest.mark.parametrize(
    "bad",
    [
        ("lane", "x", lambda t: 0),
        ("dispatch", "not a name", lambda t: 0),
        ("dispatch", "_hidden", lambda t: 0),
        ("dispatch", "affinity", lambda t: 0),
        ("ready", "fifo", lambda t: 0),
        ("pools", "single", lambda t: 0),
        ("timing", "test_no_function", 4),
    ],
)
def test_bad_policies_are_not_registered(bad: tuple[Any, ...]) -> None:
    with pytest.raises(ScheduleError) as caught:
        register_policy(*bad)
    assert caught.value.code == "PTO403"


def test_a_priority_beyond_64_bits_names_its_scope() -> None:
    N = Tensor(np.array([2**62, 1], np.int64), name="N")
    Y = tensor(2)

    @workload
    def big():
        for b in P(2):
            n = item(N[b])
            work[b, n](n=1, y=Y[b])

    w = big().task_graph(ready=ReadyPolicy.priority(lambda t: t.n * 4))
    with pytest.raises(BoundsError) as caught:
        run(w)
    assert caught.value.code == "PTO712"
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__
