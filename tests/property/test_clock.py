"""The clock under schedules of nested scopes against the model of them, which is the plain model where only that is asked."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from models import schedule_time, semantic_time
from pto_wsp.runtime.core import core
from tools.test_simulate import CASES, Task, csr, graphs

Options = dict[str, Any]
MANY = settings(max_examples=10 * settings.default.max_examples)  # type: ignore[union-attr]


def clock(tasks: list[Task], options: Options) -> dict[str, Any]:
    """What the core says, in the words of the model."""
    c, n = core(), len(tasks)
    o = c.SimulationOptions()
    pools = options.get("pools")
    o.pools = list(pools.values()) if pools else [options["lanes"]]
    limits = options.get("windows", ({},))
    o.windows = [c.WindowLimits(*map(limit, (w.get("tasks"), w.get("bytes"))), mode(w)) for w in limits]
    o.batches = list(options.get("batches", ()))
    for name in ("issue_cost", "handover", "read_cost"):
        setattr(o, name, options.get(name, 0))
    start = options.get("start", 0)
    o.start = c.NO_LIMIT if start == "after_orchestration" else start
    o.interleave = options.get("interleave") or 0
    columns = dict(zip(("deps_indptr", "deps_indices"), csr([t["deps"] for t in tasks]), strict=True))
    columns |= dict(zip(("waits_indptr", "waits_indices"), csr([t.get("wait", []) for t in tasks]), strict=True))
    columns["costs"] = column([t["cost"] for t in tasks])
    for name, field, absent in COLUMNS:
        if any(field in t for t in tasks):  # also that a column which is missing means the same
            columns[name] = column([absent if t.get(field) is None else t[field] for t in tasks])
    if pools:
        columns["units"] = column([list(pools).index(t["unit"]) for t in tasks])
    # A stream of a scope as one number that takes the same turn.
    streams = [t.get("stream") for t in tasks]
    turns = 1000 * max(o.interleave, 1)
    columns["streams"] = column(
        [-1 if s is None else s[0] * turns + s[1] if isinstance(s, tuple) else s for s in streams]
    )
    trace = {name: np.empty(n, np.int64) for name in ("start", "end", "issue", "ready")} | {
        "lane": np.empty(n, np.int32)
    }
    got: dict[str, Any] = c.simulate(columns, o, trace)
    assert not got.pop("overflowed")
    deadlock, needed = got.pop("deadlock"), got.pop("needed")
    if deadlock is not None:
        return {"deadlock": deadlock}
    if needed:
        names = ("tasks", "bytes")
        return {"abort": {w: {k: x for k, x in zip(names, xs, strict=True) if x is not None} for w, *xs in needed}}
    return {name: x.tolist() for name, x in trace.items()} | got


COLUMNS = [
    ("lanes", "lane", -1),
    ("priorities", "priority", 0),
    ("steals", "steal", 0),
    ("windows", "window", 0),
    ("batches", "batch", -1),
    ("distances", "distance", 0),
    ("bytes", "bytes", 0),
    ("composites", "composite", 0),
]


def column(numbers: list[int]) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.int64)


def limit(x: int | None) -> int:
    return core().NO_LIMIT if x is None else x


def mode(window: Options) -> Any:
    return getattr(core().WindowMode, window.get("mode", "stall"))


def both(tasks: list[Task], **options: Any) -> dict[str, Any]:
    result = schedule_time.simulate(tasks, **options)
    assert clock(tasks, options) == result
    return result


# the plain model


def in_scopes(tasks: list[Task], options: Options) -> tuple[list[Task], Options]:
    """Options of a whole run as what they say of each task."""
    rest = dict(options)
    ready, distance, batch = rest.pop("ready", "fifo"), rest.pop("min_distance", 0), rest.pop("batch", 1)
    limits = {
        "tasks": rest.pop("window", None),
        "bytes": rest.pop("window_bytes", None),
        "mode": rest.pop("mode", "stall"),
    }
    said = {"distance": distance, "steal": ready == "work_steal", "batch": 0}
    each = [t | said | ({} if ready == "priority" else {"priority": 0}) for t in tasks]
    return each, rest | {"windows": [limits], "batches": [batch]}


def as_plain(result: dict[str, Any]) -> dict[str, Any]:
    """A result in the words of the plain model."""
    if "abort" in result:
        return {"abort": {"window" if k == "tasks" else k: x for k, x in result["abort"][0].items()}}
    if "deadlock" in result:
        why = result["deadlock"]
        reason = "TASK_RING_FULL" if why.get("at") in ("window", "boundary") else "NOT_READY"
        return {"deadlock": {"issued": why["issued"], "retired": why["retired"], "reason": reason}}
    (window,) = result["windows"]
    return {k: x for k, x in result.items() if k not in ("windows", "issue", "ready")} | window


def test_the_worked_cases_of_the_plain_model() -> None:
    for case in CASES:
        tasks, options = in_scopes(case["tasks"], case["options"])
        assert as_plain(both(tasks, **options)) == case["expect"], case


@MANY
@given(graphs())
def test_the_plain_model_is_a_part_of_the_model(graph: tuple[list[Task], Options]) -> None:
    tasks, options = graph
    each, rest = in_scopes(tasks, options)
    assert as_plain(schedule_time.simulate(each, **rest)) == semantic_time.simulate(tasks, **options)


# the clock


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[Task], Options]:
    """Tasks in random scopes, with few values of each thing, so that events meet in one cycle."""
    tasks, plain = draw(graphs())
    random = draw(st.randoms(use_true_random=False))
    names = ("lanes", "pools", "issue_cost", "handover", "read_cost", "start", "interleave")
    options = {name: plain[name] for name in names if name in plain}
    limits = st.fixed_dictionaries(
        {
            "tasks": st.sampled_from([None, 1, 2, 3, 5, 8]),
            "bytes": st.sampled_from([None, None, 0, 3, 8]),
            "mode": st.sampled_from(["stall"] * 8 + ["benchmark", "abort"]),
        }
    )
    windows = options["windows"] = draw(st.lists(limits, min_size=1, max_size=4))
    batches = options["batches"] = draw(st.lists(st.sampled_from([1, 2, 3, 5]), max_size=3))
    has = {f for f in ("batch", "distance", "priority", "steal", "composite") if draw(st.booleans())}
    stealable = draw(st.sampled_from([0.2, 0.6, 1.0]))
    homes = draw(st.sampled_from([0, 1, 2, 3]))  # few of them: long queues
    later = draw(st.sampled_from([False, False, True]))  # most graphs with such dependences end in a deadlock
    scope: Task = {}
    for i, task in enumerate(tasks):
        for name in {"deps", "wait"} & set(task) if not later else ():
            task[name] = [d for d in task[name] if d < i]
        if random.random() < 0.3:  # tasks of one scope follow each other
            scope = {"window": random.randrange(len(windows)), "batch": random.choice([None, *range(len(batches))])}
        task["window"] = scope.get("window", 0)
        if "batch" in has:
            task["batch"] = scope.get("batch")
        if "distance" in has:
            task["distance"] = random.choice([0, 0, 1, 2, 6])
        task.pop("priority", None)
        if "priority" in has and random.random() < 0.7:
            task["priority"] = random.randrange(-2, 3)
        if "steal" in has:
            task["steal"] = random.random() < stealable
        if "composite" in has:
            task["composite"] = random.random() < 0.3
        if homes:
            task["lane"] = random.randrange(homes)
        if "stream" in task and random.random() < 0.5:
            task["stream"] = (random.randrange(1, 3), task["stream"])
    return tasks, options


@MANY
@given(schedules())
def test_the_clock_is_the_model(schedule: tuple[list[Task], Options]) -> None:
    tasks, options = schedule
    both(tasks, **options)


class EveryRule(Exception):
    """Nothing is left to look for."""


def test_the_schedules_reach_every_rule() -> None:
    """Random schedules differ from those that leave one thing out: what is compared above is there."""
    seen: set[str] = set()
    fields = {"window", "batch", "distance", "priority", "steal", "stream", "composite"}
    every = fields | {"total", "deadlock", "abort", "two windows stall"}

    @settings(max_examples=4000, database=None, derandomize=True, phases=(Phase.generate,))
    @given(schedules())
    def look(schedule: tuple[list[Task], Options]) -> None:
        tasks, options = schedule
        result = schedule_time.simulate(tasks, **options)
        seen.add(next(iter(result)) if len(result) == 1 else "total")
        if "total" in result and sum(w["stalls"] > 0 for w in result["windows"]) > 1:
            seen.add("two windows stall")
        for name in fields - seen:
            without = [{k: x for k, x in t.items() if k != name} for t in tasks]
            if schedule_time.simulate(without, **options) != result:
                seen.add(name)
        if seen == every:
            raise EveryRule

    with suppress(EveryRule):
        look()
    assert seen == every


# worked by hand


def job(cost: int, **said: Any) -> Task:
    return {"cost": cost, "deps": [], **said}


def test_a_full_ring_stalls_though_others_have_room() -> None:
    tasks = [job(10, window=w) for w in (0, 1, 0, 1)]
    got = both(tasks, lanes=4, windows=[{"tasks": 1}, {"tasks": 2}])
    assert got["issue"] == [0, 0, 10, 10]
    assert got["windows"] == [
        {"stalls": 1, "stall_cycles": 10, "high_water": 1, "high_bytes": 0},
        {"stalls": 0, "stall_cycles": 0, "high_water": 1, "high_bytes": 0},
    ]


def test_a_ring_retires_whatever_others_do() -> None:
    tasks = [job(30), *(job(5, window=1) for _ in range(3)), job(5, window=1, lane=1)]
    got = both(tasks, lanes=4, windows=[{"tasks": 1}, {"tasks": 3}])
    assert got["start"] == [0, 0, 0, 0, 5]
    assert (got["total"], got["windows"][1]["stall_cycles"]) == (30, 5)


def test_a_ring_counts_its_own_bytes() -> None:
    tasks = [job(10, window=1, bytes=60), job(10, bytes=90), job(10, window=1, bytes=60)]
    got = both(tasks, lanes=4, windows=[{}, {"bytes": 100}])
    assert got["start"] == [0, 0, 10]
    assert [w["high_bytes"] for w in got["windows"]] == [90, 60]


def test_each_scope_has_its_batch() -> None:
    tasks = [job(10, batch=0), job(10, batch=1), job(10), job(10, batch=0), job(10, batch=1)]
    got = both(tasks, lanes=4, batches=[2, 3], issue_cost=1)
    assert got["issue"] == [0, 1, 2, 3, 4]
    assert got["ready"] == [3, 4, 2, 3, 4]
    assert got["start"] == [3, 4, 2, 3, 13]


def test_a_stall_releases_every_batch() -> None:
    got = both([job(10, batch=0), job(10, batch=1), job(10)], lanes=2, batches=[4, 4], windows=[{"tasks": 2}])
    assert got["ready"] == [0, 0, 10]
    assert got["total"] == 20


def test_a_distance_is_that_after_its_task() -> None:
    tasks = [job(1, distance=0), job(1, distance=7), job(1, distance=2)]
    assert both(tasks, lanes=4, issue_cost=3)["issue"] == [0, 3, 10]


def test_a_lane_takes_by_priority_what_it_keeps_and_what_may_be_stolen() -> None:
    tasks = [job(5), job(1, steal=True), job(1, priority=1), job(1)]
    assert both(tasks, lanes=1)["start"] == [1, 6, 0, 7]


def test_thieves_take_what_may_be_stolen() -> None:
    tasks = [job(10, lane=0), job(10, lane=0), job(10, lane=0, steal=True), job(10, lane=0, steal=True, priority=3)]
    got = both(tasks, lanes=2)
    assert (got["start"], got["lane"]) == ([10, 20, 0, 0], [0, 0, 1, 0])


def test_thieves_count_what_may_be_stolen() -> None:
    tasks = [
        *(job(10, lane=0) for _ in range(3)),
        job(10, lane=0, steal=True),
        *(job(10, lane=1, steal=True) for _ in range(3)),
    ]
    got = both(tasks, lanes=3)
    assert got["start"] == [0, 10, 20, 10, 0, 0, 10]
    assert got["lane"] == [0, 0, 0, 2, 1, 2, 1]


def test_a_composite_task_takes_no_lane() -> None:
    tasks = [job(10), job(25, composite=True), job(10), job(1) | {"deps": [1]}]
    got = both(tasks, lanes=1, handover=2)
    assert (got["start"], got["end"], got["lane"]) == ([2, 2, 12, 29], [12, 27, 22, 30], [0, -1, 0, 0])


def test_a_composite_task_is_held_back_as_lanes_are_and_takes_room_in_its_window() -> None:
    tasks = [job(5, composite=True), job(5), job(0, composite=True)]
    got = both(tasks, lanes=1, start=2, issue_cost=3, windows=[{"tasks": 2}])
    assert (got["start"], got["issue"]) == ([3, 3, 8], [0, 3, 8])
    assert got["total"] == 8


def test_one_window_aborts_while_another_stalls() -> None:
    tasks = [job(10, window=w) for w in (0, 0, 1, 1)]
    windows = [{"tasks": 1}, {"tasks": 1, "mode": "abort"}]
    assert both(tasks, lanes=4, windows=windows) == {"abort": {1: {"tasks": 2}}}
    windows[1] = {"tasks": 2, "mode": "abort"}
    assert both(tasks, lanes=4, windows=windows)["issue"] == [0, 10, 10, 10]


def test_the_first_task_tells_how_far_issue_looks() -> None:
    tasks = [job(1, stream=s, window=w) for s, w in ((0, 0), (0, 1), (0, 0), (1, 0), (1, 0), (1, 0))]
    got = both(tasks, lanes=1, windows=[{"tasks": 6}, {"tasks": 1}], issue_cost=1, interleave=2)
    assert got["issue"] == [0, 1, 3, 2, 4, 5]


@pytest.mark.parametrize(
    ("tasks", "options", "at"),
    [
        (
            [job(1, window=1, bytes=2), job(1, window=1, bytes=3), job(1, window=1, bytes=4)],
            {"windows": [{}, {"tasks": 2}], "start": "after_orchestration"},
            {
                "at": "window",
                "issued": 2,
                "retired": 0,
                "first": 0,
                "window": 1,
                "tasks": 2,
                "bytes": 5,
                "more_bytes": 4,
            },
        ),
        ([job(1), job(1, wait=[2]), job(1)], {}, {"at": "boundary", "issued": 1, "retired": 1, "first": None}),
        ([job(1), job(1) | {"deps": [1]}, job(1)], {}, {"at": "end", "issued": 3, "retired": 1, "first": 1}),
    ],
)
def test_a_deadlock_says_where(tasks: list[Task], options: Options, at: dict[str, Any]) -> None:
    assert both(tasks, lanes=4, **options) == {"deadlock": at}
