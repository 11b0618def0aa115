"""Semantic time of any task graph: the events of a machine of lanes, in cycles, by the engine that times every run.

    from pto_wsp.tools import simulate

    simulate.tasks([{"cost": 10}, {"cost": 5, "deps": [0]}], lanes=2)["total"]  # 15

`tasks` takes a list of dicts, or `TaskArrays` for large graphs. The rules are this project's own; docs/semantic_time.md has them.
`processes`, `remedy` and `throttle` are about processes and channels instead: docs/pipelines.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

import numpy as np

from pto_wsp.errors import BindError, ScheduleError, here, no_options
from pto_wsp.runtime.core import core
from pto_wsp.tools.simulate_processes import processes, remedy, throttle
from pto_wsp.tools.simulation_options import END_OF_TIME, beyond_time, choice, integer, number, wrong_option

__all__ = ["TaskArrays", "processes", "remedy", "tasks", "throttle"]

Array = np.ndarray[Any, Any]

_MOST_LANES = 65536
_MOST_TASKS = 2**30
_FIELDS = ("cost", "deps", "lane", "stream", "priority", "unit", "bytes", "wait")
_OPTIONS = "lanes, pools, window, window_bytes, mode, issue_cost, min_distance, handover, read_cost, ready, start, batch, interleave"


@dataclass(frozen=True, eq=False)
class TaskArrays:
    """A task graph as arrays of integers, one entry for each of n tasks in program order.

    Lists of tasks are in CSR form: that of task i is `indices[indptr[i]:indptr[i + 1]]`, and indptr has n + 1 entries from 0 to
    the number of indices. None stands for what the entry of a dict that is left out means. Arrays of int64, side by side, are used
    where they are; they must not change meanwhile.

    costs: cycles.
    deps_indptr, deps_indices: tasks that must be complete.
    lanes: home lanes, modulo the lanes there are, with pools those of the task's unit; -1 for the task's position, modulo the same.
    streams: -1 for none.
    priorities: the highest first, under ready="priority".
    units: places in `pools`, in the order of that mapping.
    bytes: what a task holds of a byte window.
    waits_indptr, waits_indices: tasks that the boundary before a task waits for.
    """

    costs: Any
    deps_indptr: Any
    deps_indices: Any
    lanes: Any = None
    streams: Any = None
    priorities: Any = None
    units: Any = None
    bytes: Any = None
    waits_indptr: Any = None
    waits_indices: Any = None


def tasks(
    tasks: Sequence[Mapping[str, Any]] | TaskArrays,
    *,
    lanes: int | None = None,
    pools: Mapping[str, int] | None = None,
    window: int | None = None,
    window_bytes: int | None = None,
    mode: str = "stall",
    issue_cost: int = 0,
    min_distance: int = 0,
    handover: int = 0,
    read_cost: int = 0,
    ready: str = "fifo",
    start: int | str = 0,
    batch: int = 1,
    interleave: int | None = None,
    **unknown: Any,
) -> dict[str, Any]:
    """Run a task graph in semantic time.

    tasks: a list of dicts in program order, or TaskArrays. A dict holds `cost` in cycles, and where wanted `deps` (positions of
      tasks; a later one is waited for too), `lane` (its home, 0 or more, modulo the lanes, with pools those
      of its unit; default: its position, modulo the same), `stream` (a number; a
      task waits for the previous one of its stream in issue order), `priority`, `unit` (a name of `pools`), `bytes`, and `wait`
      (positions: it is issued behind a boundary that waits for these).
    lanes, or pools={"cube": 2, "vector": 4}: lanes in all, or those of each unit; 1 to 65536.
    window, window_bytes: tasks and bytes issued and not retired, None: no limit. An empty ring admits any task.
    mode: what a full window does: issue waits ("stall"); the answer is what is needed, if that is more ("abort"); nothing
      ("benchmark").
    issue_cost, min_distance: tasks are issued as many cycles apart as the larger says.
    handover: cycles from ready to the queue. read_cost: cycles a boundary takes.
    ready: what an idle lane takes: of its queue what became ready first ("fifo"), or the highest priority ("priority"); or with
      "work_steal" as fifo, then from the longest queue of its pool.
    start: nothing is taken before so many tasks, or all, are issued; "after_orchestration": before all are.
    batch: tasks released together.
    interleave: so many streams take turns in issue, among the next `window` tasks.

    Returns a dict: `start`, `end` and `lane` of each task, the lane that ran it, those of pools counted through in the order of the
    mapping (lists, or arrays for TaskArrays), `total` cycles, `stalls`,
    `stall_cycles`, `high_water` (tasks in flight), `high_bytes`, `scalar_waits`, `scalar_wait_cycles` (at boundaries).
    Or {"deadlock": {"issued": tasks, "retired": tasks, "reason": "TASK_RING_FULL" | "NOT_READY"}}.
    Or {"abort": {"window": tasks needed, "bytes": bytes needed}}, with those that the limits are below.

    Time and memory grow with tasks and dependences; beyond input and output, memory with tasks in flight, and under `interleave`
    with all.

    Raises BindError for tasks that are none, or wait for what is not there, and for times of 2**62 cycles and more; ScheduleError
    for options with wrong values; UnsupportedError for unknown ones.
    """
    no_options("simulate.tasks", unknown, _OPTIONS)
    options, units = core().SimulationOptions(), _pools(lanes, pools)
    options.pools = list(units.values())
    no_limit: int = core().NO_LIMIT
    limits = (
        no_limit if window is None else number("window", window, 1),
        no_limit if window_bytes is None else number("window_bytes", window_bytes),
    )
    options.issue_cost = max(number("issue_cost", issue_cost), number("min_distance", min_distance))
    options.handover = number("handover", handover)
    options.read_cost = number("read_cost", read_cost)
    options.batches = [number("batch", batch, 1)]
    options.interleave = 0 if interleave is None else number("interleave", interleave, 1)
    mode = choice("mode", mode, ("stall", "abort", "benchmark"))
    options.windows = [core().WindowLimits(*limits, getattr(core().WindowMode, mode))]
    choice("ready", ready, ("fifo", "priority", "work_steal"))
    if isinstance(start, str):
        choice("start", start, ("after_orchestration",))
        options.start = no_limit
    else:
        options.start = number("start", start)
    as_arrays = isinstance(tasks, TaskArrays)
    given = tasks if as_arrays else _arrays(tasks, units if pools is not None else None)
    columns = _checked(given, units, typed=pools is not None)
    if ready != "priority":
        columns.pop("priorities", None)
    n = len(columns["costs"])
    if ready == "work_steal":
        columns["steals"] = np.ones(n, np.int64)
    if batch > 1:
        columns["batches"] = np.zeros(n, np.int64)
    return _run(columns, options, as_arrays)


def _run(columns: dict[str, Array], options: Any, as_arrays: bool) -> dict[str, Any]:
    n = len(columns["costs"])
    trace = {"start": np.empty(n, np.int64), "end": np.empty(n, np.int64), "lane": np.empty(n, np.int32)}
    got: dict[str, Any] = core().simulate(columns, options, trace)
    if got.pop("overflowed"):
        raise beyond_time()
    deadlock, needed, windows = got.pop("deadlock"), got.pop("needed"), got.pop("windows")
    if deadlock is not None:
        reason = "TASK_RING_FULL" if deadlock.get("at") in ("window", "boundary") else "NOT_READY"
        return {"deadlock": {"issued": deadlock["issued"], "retired": deadlock["retired"], "reason": reason}}
    for _, in_tasks, in_bytes in needed:
        return {"abort": {name: x for name, x in (("window", in_tasks), ("bytes", in_bytes)) if x is not None}}
    return {name: x if as_arrays else x.tolist() for name, x in trace.items()} | windows[0] | got


# lanes


def _pools(lanes: object, pools: object) -> dict[str, int]:
    """Lanes by unit; without typed pools there is one, without a name."""
    if (lanes is None) == (pools is None):
        raise ScheduleError(
            "PTO805",
            "a simulation has either lanes or pools",
            values={"lanes": lanes, "pools": pools},
            loc=here(),
            fix='write lanes=4, or pools={"cube": 2, "vector": 4}',
        )
    if pools is None:
        counts: dict[str, int] = {"": number("lanes", lanes, 1)}
    else:
        if not isinstance(pools, Mapping) or not pools or not all(isinstance(name, str) for name in pools):
            raise wrong_option("pools", pools, "a mapping from names of units to their lanes")
        counts = {name: number(f"pools[{name!r}]", count, 1) for name, count in pools.items()}
    if sum(counts.values()) > _MOST_LANES:
        raise wrong_option(
            "lanes" if pools is None else "pools", lanes if pools is None else pools, f"at most {_MOST_LANES} lanes"
        )
    return counts


# tasks as dicts


def _task_error(i: int, what: str, values: Mapping[str, object], fix: str) -> BindError:
    return BindError("PTO801", f"task {i} {what}", values=values, loc=here(), fix=fix)


def _arrays(tasks: object, units: Mapping[str, int] | None) -> TaskArrays:
    if isinstance(tasks, str | bytes | Mapping) or not isinstance(tasks, Sequence):
        raise BindError(
            *("PTO801", "tasks are a list of dicts, or TaskArrays"),
            values={"given": repr(tasks)[:80]},
            loc=here(),
            fix='write tasks([{"cost": 10}, {"cost": 5, "deps": [0]}], lanes=2)',
        )
    for i, task in enumerate(tasks):
        if not isinstance(task, Mapping) or "cost" not in task or not set(task) <= set(_FIELDS):
            values = {"task": repr(task)[:80], "fields": ", ".join(_FIELDS)}
            raise _task_error(i, "is not a dict with a cost and no unknown fields", values, "use these fields")
    places = {name: place for place, name in enumerate(units or ())}

    def unit(i: int, name: object) -> int:
        if not isinstance(name, str) or name not in places:
            values = {"unit": repr(name)[:80], "pools": ", ".join(places)}
            raise _task_error(i, "is of no unit that has lanes", values, "name one of the pools")
        return places[name]

    def column(name: str) -> list[int] | None:
        if not any(task.get(name) is not None for task in tasks):
            return None
        absent, least = _ABSENT[name], 0 if name != "priority" else -(2**63)
        return [absent if (x := t.get(name)) is None else _entry(i, name, x, least) for i, t in enumerate(tasks)]

    deps, waits = ([_positions(i, name, t.get(name)) for i, t in enumerate(tasks)] for name in ("deps", "wait"))
    return TaskArrays(
        [_entry(i, "cost", t["cost"], 0) for i, t in enumerate(tasks)],
        *_csr(deps),
        column("lane"),
        column("stream"),
        column("priority"),
        None if units is None else [unit(i, t.get("unit")) for i, t in enumerate(tasks)],
        column("bytes"),
        *(_csr(waits) if any(waits) else (None, None)),
    )


_ABSENT = {"lane": -1, "stream": -1, "priority": 0, "bytes": 0}


def _entry(i: int, name: str, value: object, least: int) -> int:
    n = integer(value)
    if n is None or not least <= n < 2**63:
        what = f"has a {name} that is not an integer" + (" of 0 or more" if least == 0 else "") + " of 64 bits"
        raise _task_error(i, what, {name: repr(value)[:80]}, f"give {name} as an integer")
    return n


def _positions(i: int, name: str, value: object) -> list[int]:
    if value is None:
        return []
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise _task_error(
            i, f"has {name} that is not a list of tasks", {name: repr(value)[:80]}, f'write "{name}": [0, 1]'
        )
    given: list[object] = list(value)
    found = [integer(x) for x in given]
    if any(x is None or not -(2**63) <= x < 2**63 for x in found):
        raise _task_error(
            i, f"has {name} that are not positions of tasks", {name: repr(given)[:80]}, f'write "{name}": [0, 1]'
        )
    return [x for x in found if x is not None]


def _csr(lists: list[list[int]]) -> tuple[list[int], list[int]]:
    return list(accumulate(map(len, lists), initial=0)), [x for row in lists for x in row]


# tasks as arrays


def _array_error(name: str, what: str, values: Mapping[str, object]) -> BindError:
    return BindError(
        "PTO803", f"{name} of TaskArrays {what}", values=values, loc=here(), fix="see the fields of TaskArrays"
    )


def _int64(name: str, value: object) -> Array:
    """One row of integers as int64, side by side; no copy of what is so already."""
    try:
        x = np.asarray(value if not isinstance(value, list) or value else np.empty(0, np.int64))
    except (ValueError, TypeError) as e:  # rows of several lengths
        raise _array_error(name, "is not a row of integers", {"got": repr(value)[:80], "because": e}) from e
    if x.ndim != 1 or x.dtype.kind not in "iu":
        raise _array_error(name, "is not a row of integers", {"dtype": x.dtype, "shape": x.shape})
    if x.dtype == np.uint64 and x.size and int(x.max()) >= 2**63:
        raise _array_error(name, "holds a number beyond 64 bits with a sign", {"number": x.max()})
    return np.ascontiguousarray(x, np.int64)


def _checked(given: TaskArrays, units: Mapping[str, int], typed: bool) -> dict[str, Array]:
    """The arrays that there are, fit for the core."""
    columns = {
        f.name: _int64(f.name, getattr(given, f.name)) for f in fields(given) if getattr(given, f.name) is not None
    }
    for name in ("costs", "deps_indptr", "deps_indices"):
        if name not in columns:
            raise _array_error(name, "is missing", {name: None})
    n = len(columns["costs"])
    if n >= _MOST_TASKS:
        raise _array_error("costs", "has too many tasks", {"tasks": n, "at most": _MOST_TASKS - 1})
    for name in columns.keys() & {"lanes", "streams", "priorities", "units", "bytes"}:
        if len(columns[name]) != n:
            raise _array_error(name, "has not one entry for each task", {"entries": len(columns[name]), "tasks": n})
    _check_lists("deps", columns, n)
    if ("waits_indptr" in columns) != ("waits_indices" in columns):
        raise _array_error("waits_indptr", "goes with waits_indices, and one of them is missing", {})
    if "waits_indptr" in columns:
        _check_lists("waits", columns, n)
    _check_range("cost", columns["costs"], 0, END_OF_TIME - 1)
    for name in columns.keys() & {"lanes", "streams"}:
        _check_range(name[:-1], columns[name], -1)
    if typed and "units" not in columns and n:
        raise _array_error("units", "is missing, and lanes belong to units", {"pools": ", ".join(units)})
    if not typed:
        columns.pop("units", None)
    elif "units" in columns:
        _check_range("unit", columns["units"], 0, len(units) - 1)
    if "bytes" in columns:
        _check_range("number of bytes", columns["bytes"], 0, END_OF_TIME - 1)
        if float(columns["bytes"].sum(dtype=np.float64)) >= END_OF_TIME:
            raise _array_error("bytes", "add up to 2**62 and more", {})
    return columns


def _check_lists(name: str, columns: Mapping[str, Array], n: int) -> None:
    indptr, indices = columns[f"{name}_indptr"], columns[f"{name}_indices"]
    ends = (int(indptr[0]), int(indptr[-1])) if len(indptr) else None
    if len(indptr) != n + 1 or ends != (0, len(indices)) or bool(np.any(indptr[1:] < indptr[:-1])):
        values = {"entries": len(indptr), "tasks": n, "first and last": ends, "indices": len(indices)}
        raise _array_error(f"{name}_indptr", "does not divide the indices among the tasks", values)
    wrong = _outside(indices, 0, n - 1)
    if wrong is not None:
        task = int(np.searchsorted(indptr, wrong, side="right")) - 1
        raise BindError(
            *("PTO802", f"task {task} waits for a task that does not exist"),
            values={"waits for": int(indices[wrong]), "tasks": n},
            loc=here(),
            fix="tasks are named by their positions in program order, from 0",
        )


def _check_range(what: str, x: Array, least: int, most: int | None = None) -> None:
    wrong = _outside(x, least, most)
    if wrong is not None:
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        raise _task_error(wrong, f"has a {what} that it cannot have", {what: int(x[wrong])}, f"it may be {limits}")


def _outside(x: Array, least: int, most: int | None) -> int | None:
    """Where the first number that is out of range stands."""
    if not len(x) or (int(x.min()) >= least and (most is None or int(x.max()) <= most)):
        return None
    return int(np.argmax((x < least) | (False if most is None else x > most)))
