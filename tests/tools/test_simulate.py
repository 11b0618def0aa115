"""Task graphs in semantic time against the model: its worked cases, and random graphs under every combination of options."""

import json
import sys
import time
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from project import ROOT
from pto_wsp import BindError, PtoError, ScheduleError, UnsupportedError
from pto_wsp.tools import simulate
from pto_wsp.tools.simulate import TaskArrays

sys.path.insert(0, str(ROOT / "tests" / "models"))
import semantic_time

Task = dict[str, Any]
CASES = json.loads((ROOT / "tests" / "data" / "semantic_time.json").read_text(encoding="utf-8"))


def csr(lists: list[list[int]]) -> tuple[Any, Any]:
    """As indptr and indices."""
    return np.array([0, *accumulate(map(len, lists))]), np.array([x for row in lists for x in row], np.int64)


def as_arrays(tasks: list[Task], pools: dict[str, int] | None) -> TaskArrays:
    units = list(pools or ())
    return TaskArrays(
        np.array([t["cost"] for t in tasks], np.int64),
        *csr([t["deps"] for t in tasks]),
        lanes=np.array([-1 if t.get("lane") is None else t["lane"] for t in tasks], np.int32),
        streams=np.array([-1 if t.get("stream") is None else t["stream"] for t in tasks], np.int64),
        priorities=[t.get("priority", 0) for t in tasks],
        units=[units.index(t["unit"]) for t in tasks] if pools else None,
        bytes=np.array([t.get("bytes", 0) for t in tasks], np.uint64),
        **dict(zip(("waits_indptr", "waits_indices"), csr([t.get("wait", []) for t in tasks]), strict=True)),
    )


def as_lists(result: dict[str, Any]) -> dict[str, Any]:
    return {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in result.items()}


def both(tasks: list[Task], options: dict[str, Any]) -> dict[str, Any]:
    """The result for dicts, which is that for arrays too."""
    result = simulate.tasks(tasks, **options)
    arrays = simulate.tasks(as_arrays(tasks, options.get("pools")), **options)
    assert all(isinstance(arrays[name], np.ndarray) for name in ("start", "end", "lane") if name in arrays)
    assert as_lists(arrays) == result
    return result


def test_the_worked_cases() -> None:
    assert len(CASES) == 240
    for case in CASES:
        assert both(case["tasks"], case["options"]) == case["expect"], case


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Task], dict[str, Any]]:
    """Tasks and options, with few values of each, so that events meet in one cycle."""
    n = draw(st.integers(0, 24))
    random = draw(st.randoms(use_true_random=False))
    has = {f for f in ("lane", "stream", "priority", "bytes", "wait", "later") if draw(st.booleans())}
    costs = draw(st.sampled_from([(0,), (1,), (0, 1, 2), (1, 3, 7, 25), (0, 0, 0, 5)]))
    density = draw(st.sampled_from([0.0, 0.05, 0.3]))
    options: dict[str, Any] = {
        "mode": draw(st.sampled_from(["stall", "stall", "stall", "abort", "benchmark"])),
        "issue_cost": draw(st.sampled_from([0, 0, 1, 4])),
        "min_distance": draw(st.sampled_from([0, 0, 2])),
        "handover": draw(st.sampled_from([0, 0, 1, 3])),
        "read_cost": draw(st.sampled_from([0, 1, 5])),
        "ready": draw(st.sampled_from(["fifo", "priority", "work_steal"])),
        "start": draw(st.sampled_from([0, 0, 0, 1, 3, 100, "after_orchestration"])),
        "batch": draw(st.sampled_from([1, 1, 2, 5])),
        "window": draw(st.sampled_from([None, 1, 2, 3, 5, 8, 64])),
        "window_bytes": draw(st.sampled_from([None, 0, 3, 8])),
        "interleave": draw(st.sampled_from([None, None, 1, 2, 3])),
    }
    typed = draw(st.booleans())
    if typed:
        options["pools"] = {"cube": draw(st.integers(1, 3)), "vector": draw(st.integers(1, 4))}
    else:
        options["lanes"] = draw(st.integers(1, 6))
    tasks: list[Task] = []
    for i in range(n):
        below = i if "later" not in has else min(n, i + 2)
        task: Task = {
            "cost": random.choice(costs),
            "deps": [d for d in range(max(0, i - 9), below) if random.random() < (density if d < i else density / 8)],
        }
        if typed:
            task["unit"] = random.choice(["cube", "vector"])
        if "lane" in has:
            task["lane"] = random.randrange(8)
        if "stream" in has and random.random() < 0.8:
            task["stream"] = random.randrange(4)
        if "priority" in has:
            task["priority"] = random.randrange(-2, 3)
        if "bytes" in has:
            task["bytes"] = random.choice([0, 1, 2, 5])
        if "wait" in has and i > 0 and random.random() < 0.2:
            task["wait"] = random.sample(range(below), min(i, random.randrange(4)))
        tasks.append(task)
    return tasks, options


@settings(max_examples=20 * settings().max_examples, deadline=None)
@given(graphs())
def test_random_graphs(graph: tuple[list[Task], dict[str, Any]]) -> None:
    tasks, options = graph
    assert both(tasks, options) == semantic_time.simulate(tasks, **options)


def test_fields_may_be_left_out() -> None:
    got = simulate.tasks(
        [{"cost": 10}, {"cost": np.int8(5), "deps": (0,), "lane": None, "wait": None}], lanes=np.int64(2)
    )
    assert (got["start"], got["lane"], got["total"]) == ([0, 10], [0, 1], 15)
    assert simulate.tasks([], lanes=1)["total"] == 0
    assert simulate.tasks(TaskArrays([], [0], []), pools={"cube": 1})["start"].shape == (0,)


def test_priorities_of_64_bits_and_streams_of_any_number() -> None:
    tasks = [{"cost": 1, "priority": p, "stream": 2**62 + i} for i, p in enumerate((-(2**63), 2**63 - 1, 0))]
    got = simulate.tasks(tasks, lanes=1, ready="priority", interleave=2**61)
    assert got["start"] == [2, 0, 1]


def test_numbers_of_any_width() -> None:
    narrow = TaskArrays(np.array([3, 4], np.uint8), np.array([0, 0, 1], np.int32), np.array([0], np.uint64))
    got = simulate.tasks(narrow, lanes=2)
    assert got["end"].tolist() == [3, 7]
    assert (got["start"].dtype, got["end"].dtype, got["lane"].dtype) == (np.int64, np.int64, np.int32)
    every_other = TaskArrays(np.array([3, 9, 4, 9])[::2], [0, 0, 1], [0])
    assert simulate.tasks(every_other, lanes=2)["end"].tolist() == [3, 7]


def test_the_largest_numbers() -> None:
    assert simulate.tasks([{"cost": 2**62 - 1}], lanes=1)["total"] == 2**62 - 1
    assert (
        simulate.tasks([{"cost": 1}] * 3, lanes=65536, window=2**62 - 1, batch=2**62 - 1, start=2**62 - 1)["total"] == 1
    )


def chain(n: int) -> TaskArrays:
    """Tasks that each wait for the previous one and for one a while back."""
    i = np.arange(n)
    deps = np.stack([i - 1, i - 37], axis=1)
    kept = deps >= 0
    return TaskArrays(i % 50, np.concatenate([[0], np.cumsum(kept.sum(axis=1))]), deps[kept])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": 1000},
        {"window": 1000, "ready": "work_steal"},
        {"ready": "priority"},
        {"ready": "work_steal", "lanes": 4096},
        {"interleave": 8, "window": 64},
        {"mode": "abort", "window": 1},
        {"start": "after_orchestration", "batch": 16, "handover": 2, "issue_cost": 1},
    ],
    ids=str,
)
def test_time_grows_with_the_tasks(options: dict[str, Any]) -> None:
    """A graph of a million tasks, within what even a sanitizer takes; twenty times the smaller one at most, with room for noise."""

    def seconds(n: int) -> float:
        i = np.arange(n)
        tasks = TaskArrays(i % 50, 2 * np.maximum(np.arange(n + 1) - 40, 0), np.repeat(np.arange(max(n - 40, 0)), 2))
        began = time.process_time()
        simulate.tasks(tasks, **{"lanes": 16} | options)
        return time.process_time() - began

    small, large = min(seconds(50_000) for _ in range(3)), seconds(1_000_000)
    assert large < 100 * small
    assert large < 60


def test_a_long_chain() -> None:
    n = 1_000_000
    got = simulate.tasks(chain(n), lanes=3, window=64)
    assert got["total"] == (np.arange(n) % 50).sum()
    assert np.array_equal(got["start"][1:], got["end"][:-1])


GOOD = TaskArrays([1, 2], [0, 0, 1], [0])


def changed(**fields: Any) -> TaskArrays:
    return TaskArrays(**{**vars(GOOD), **fields})


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        (None, "PTO801"),
        ("tasks", "PTO801"),
        ({"cost": 1}, "PTO801"),
        (5, "PTO801"),
        ([5], "PTO801"),
        ([{}], "PTO801"),
        ([{"cost": 1, "colour": 2}], "PTO801"),
        ([{"cost": -1}], "PTO801"),
        ([{"cost": 2**62}], "PTO801"),
        ([{"cost": 2**70}], "PTO801"),
        ([{"cost": True}], "PTO801"),
        ([{"cost": "1"}], "PTO801"),
        ([{"cost": None}], "PTO801"),
        ([{"cost": 1, "deps": 0}], "PTO801"),
        ([{"cost": 1, "deps": "0"}], "PTO801"),
        ([{"cost": 1, "deps": [0.0]}], "PTO801"),
        ([{"cost": 1, "deps": [2**64]}], "PTO801"),
        ([{"cost": 1, "lane": -1}], "PTO801"),
        ([{"cost": 1, "stream": "a"}], "PTO801"),
        ([{"cost": 1, "priority": 2**63}], "PTO801"),
        ([{"cost": 1, "bytes": -1}], "PTO801"),
        ([{"cost": 1, "bytes": 2**62}], "PTO801"),
        ([{"cost": 1, "bytes": 2**61}] * 2, "PTO803"),
        ([{"cost": 1, "deps": [1]}], "PTO802"),
        ([{"cost": 1, "deps": [-1]}], "PTO802"),
        ([{"cost": 1, "wait": [7]}], "PTO802"),
        (changed(costs=None), "PTO803"),
        (changed(costs=[1.0, 2.0]), "PTO803"),
        (changed(costs=[[1, 2]]), "PTO803"),
        (changed(costs=[[1], [2, 3]]), "PTO803"),
        (changed(lanes=[np.zeros(1), np.zeros(2)]), "PTO803"),
        (changed(costs=[True, False]), "PTO803"),
        (changed(costs=np.array([1, 2], object)), "PTO803"),
        (changed(costs=[1]), "PTO803"),
        (changed(costs=[1, -2]), "PTO801"),
        (changed(costs=np.array([1, 2**63], np.uint64)), "PTO803"),
        (changed(deps_indptr=[]), "PTO803"),
        (changed(deps_indptr=[0, 0]), "PTO803"),
        (changed(deps_indptr=[0, 0, 2]), "PTO803"),
        (changed(deps_indptr=[1, 1, 1]), "PTO803"),
        (changed(deps_indptr=[0, 2, 1]), "PTO803"),
        (changed(deps_indices=[2]), "PTO802"),
        (changed(deps_indices=[-1]), "PTO802"),
        (changed(lanes=[0]), "PTO803"),
        (changed(lanes=[0, -2]), "PTO801"),
        (changed(streams=[0, -2]), "PTO801"),
        (changed(bytes=[0, -2]), "PTO801"),
        (changed(priorities=["a", "b"]), "PTO803"),
        (changed(waits_indptr=[0, 0, 0]), "PTO803"),
        (changed(waits_indptr=[0, 0, 1], waits_indices=[9]), "PTO802"),
    ],
)
def test_wrong_tasks_are_refused(tasks: Any, code: str) -> None:
    with pytest.raises(BindError) as caught:
        simulate.tasks(tasks, lanes=2)
    assert caught.value.code == code
    assert caught.value.loc is not None and caught.value.loc.file == __file__


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lanes": 1, "pools": {"cube": 1}},
        {"lanes": 0},
        {"lanes": 65537},
        {"lanes": 2.0},
        {"lanes": True},
        {"pools": {}},
        {"pools": [1]},
        {"pools": {1: 1}},
        {"pools": {"cube": 0}},
        {"pools": {"cube": 65536, "vector": 1}},
        {"lanes": 1, "window": 0},
        {"lanes": 1, "window": "8"},
        {"lanes": 1, "window_bytes": -1},
        {"lanes": 1, "mode": "wait"},
        {"lanes": 1, "mode": None},
        {"lanes": 1, "issue_cost": -1},
        {"lanes": 1, "issue_cost": 2**62},
        {"lanes": 1, "min_distance": 0.5},
        {"lanes": 1, "handover": None},
        {"lanes": 1, "read_cost": -1},
        {"lanes": 1, "ready": "lifo"},
        {"lanes": 1, "ready": ["fifo"]},
        {"lanes": 1, "start": -1},
        {"lanes": 1, "start": "later"},
        {"lanes": 1, "start": None},
        {"lanes": 1, "batch": 0},
        {"lanes": 1, "interleave": 0},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError) as caught:
        simulate.tasks([{"cost": 1}], **options)
    assert caught.value.code == "PTO805"
    assert caught.value.loc is not None and caught.value.loc.file == __file__


def test_tasks_belong_to_pools() -> None:
    pools = {"cube": 1, "vector": 2}
    for tasks in (
        [{"cost": 1}],
        [{"cost": 1, "unit": "scalar"}],
        [{"cost": 1, "unit": ["cube"]}],
        GOOD,
        changed(units=[0, 2]),
    ):
        with pytest.raises(PtoError, match="unit"):
            simulate.tasks(tasks, pools=pools)
    assert simulate.tasks([{"cost": 1, "unit": "anything"}], lanes=1)["total"] == 1


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="colour"):
        simulate.tasks([], lanes=1, colour=2)


def test_home_lanes_count_modulo_the_lanes_of_their_pool() -> None:
    given = [{"cost": 1, "lane": k} for k in (0, 1, 2, 5, 2**63 - 1)]
    assert simulate.tasks(given, lanes=3)["lane"] == [0, 1, 2, 2, (2**63 - 1) % 3]
    mixed = [{"cost": 1, "lane": k, "unit": u} for k, u in ((0, "a"), (3, "a"), (0, "b"), (4, "b"))]
    assert simulate.tasks(mixed, pools={"a": 2, "b": 3})["lane"] == [0, 1, 2, 3]
    by_position = [{"cost": 1, "unit": u} for u in "abba"]
    assert simulate.tasks(by_position, pools={"a": 2, "b": 3})["lane"] == [0, 3, 4, 1]
