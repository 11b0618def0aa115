"""The core's clock against the model of semantic time: its worked cases, and random graphs."""

import itertools
import json
import random
import sys
from typing import Any

import pytest

from project import ROOT
from pto_wsp import _core

sys.path.insert(0, str(ROOT / "tests" / "models"))
import semantic_time

Task = dict[str, Any]
CASES = json.loads((ROOT / "tests" / "data" / "semantic_time.json").read_text(encoding="utf-8"))
COMPARED = (
    "start",
    "end",
    "lane",
    "total",
    "stalls",
    "stall_cycles",
    "high_water",
    "scalar_waits",
    "scalar_wait_cycles",
)


def expressible(case: dict[str, Any]) -> bool:
    """Whether the case asks for nothing but lanes, streams (as dependences), boundaries, a window, issue cost, handover and read cost."""
    tasks, options = case["tasks"], case["options"]
    return (
        not any(options.get(name) for name in ("pools", "window_bytes", "interleave"))
        and (
            options["ready"] == "fifo"
            or (options["ready"] == "priority" and not any("priority" in task for task in tasks))
        )
        and options["batch"] == 1
        and options["start"] in (0, 1)
        and "abort" not in case["expect"]
    )


def core_simulate(tasks: list[Task], options: dict[str, Any]) -> dict[str, Any]:
    """The case in the core's terms: the previous task of a stream is one more dependence."""
    indptr, indices, last = [0], [], {}
    for i, task in enumerate(tasks):
        indices += task["deps"]
        stream = task.get("stream")
        if stream is not None:
            indices += [last[stream]] if stream in last else []
            last[stream] = i
        indptr.append(len(indices))
    waits = list(itertools.accumulate((len(task.get("wait", [])) for task in tasks), initial=0))
    lanes = options["lanes"]
    window = None if options.get("mode") == "benchmark" else options.get("window")
    return _core.simulate(
        costs=[task["cost"] for task in tasks],
        lanes=[task.get("lane", i) % lanes for i, task in enumerate(tasks)],
        deps_indptr=indptr,
        deps_indices=indices,
        window=window or max(len(tasks), 1),
        total_lanes=lanes,
        issue_cost=max(options.get("issue_cost", 0), options.get("min_distance", 0)),
        handover=options.get("handover", 0),
        waits_indptr=waits,
        waits_indices=[i for task in tasks for i in task.get("wait", [])],
        read_cost=options.get("read_cost", 0),
    )


def test_the_worked_cases() -> None:
    cases = [case for case in CASES if expressible(case)]
    assert len(cases) >= 18
    assert sum(any(task.get("wait") for task in case["tasks"]) for case in cases) >= 3
    for case in cases:
        got = core_simulate(case["tasks"], case["options"])
        assert {name: got[name] for name in COMPARED} == {name: case["expect"][name] for name in COMPARED}, case


@pytest.mark.parametrize("costs", [(0, 1, 3, 7, 25), (1, 3, 7, 25), (0,), (5,)], ids=str)
def test_random_graphs(costs: tuple[int, ...]) -> None:
    rng = random.Random(repr(costs))
    for _ in range(300):
        n, lanes = rng.randrange(0, 60), rng.choice([1, 2, 3, 8])
        options = {
            "lanes": lanes,
            "window": rng.choice([1, 2, 3, 5, 8, 64]),
            "issue_cost": rng.choice([0, 0, 1, 4]),
            "handover": rng.choice([0, 0, 1, 3]),
            "read_cost": rng.choice([0, 0, 1, 5]),
        }
        density = rng.choice([0.0, 0.05, 0.3])
        tasks = [
            {"cost": rng.choice(costs), "deps": [d for d in range(max(0, i - 12), i) if rng.random() < density]}
            for i in range(n)
        ]
        if rng.random() < 0.5:
            for task in tasks:
                task["lane"] = rng.randrange(lanes)
        if rng.random() < 0.5:
            for i, task in enumerate(tasks):
                task["wait"] = rng.sample(range(i), min(i, rng.choice([0, 0, 1, 3])))
        want = semantic_time.simulate(tasks, **options)
        got = core_simulate(tasks, options)
        assert {name: got[name] for name in COMPARED} == {name: want[name] for name in COMPARED}, (tasks, options)


def test_wrong_graphs_are_refused() -> None:
    with pytest.raises(ValueError, match="earlier tasks"):
        _core.simulate([1], [], [0, 1], [0], 1, 1)
    with pytest.raises(ValueError, match="divide"):
        _core.simulate([1], [], [0], [], 1, 1)
    with pytest.raises(ValueError, match="waits_indptr"):
        _core.simulate([1], [], [0, 0], [], 1, 1, waits_indptr=[0], waits_indices=[0])
    with pytest.raises(ValueError, match="earlier tasks"):
        _core.simulate([1], [], [0, 0], [], 1, 1, waits_indptr=[0, 1], waits_indices=[0])
    with pytest.raises(ValueError, match="lanes"):
        _core.simulate([1], [], [0, 0], [], 1, 0)
    with pytest.raises(ValueError, match="window"):
        _core.simulate([1], [], [0, 0], [], 0, 1)
