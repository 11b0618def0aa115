"""task_graph: how tasks depend on each other, how many are issued, which are taken first and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pto_wsp.errors import ScheduleError, here, no_options
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.graph_policies import DepsMode, Start, TaskGraphConfig, TaskWindow, TracePolicy
from pto_wsp.transforms.policies import Policy
from pto_wsp.transforms.scope import need_policy, scoped
from pto_wsp.transforms.window import window as window_of

W = TypeVar("W", bound=Traced | TracedFunction)


def task_graph(
    config: TaskGraphConfig | None = None,
    *,
    deps: DepsMode | None = None,
    window: TaskWindow | None = None,
    pools: Policy | None = None,
    ready: Policy | None = None,
    start: Start | None = None,
    trace: TracePolicy | None = None,
    **options: object,
) -> Callable[[W], W]:
    """`task_graph(deps=Deps.hybrid, window=TaskWindow(1024))(w)`: how the tasks of w depend on each other, and are run.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   deps[mode="hybrid"] { window[mode="STALL", tasks=1024] { parallel_for b in batch: Dense(8) { ... } } }

    deps: how dependences are found (`DepsMode`); without, exactly. Of the whole workload.
    window: how many tasks, or bytes, are issued and not retired (`TaskWindow`); as `window` does.
    ready: which ready task a lane takes first (`ReadyPolicy`).
    start: how many tasks are issued before lanes take any (`StartPolicy`). Of the whole workload.
    pools: which lanes tasks may run on (`Pools`). Of the whole workload.
    trace: what runs record (`TracePolicy`). Of the whole workload.
    Give any of them, or a `TaskGraphConfig`. Results stay the same; semantic time, placement and the use of resources change.

    Raises ScheduleError for what is none of these, and for a part of a workload where only the whole may say it; RaceError where
    `explicit` leaves a conflict unordered.
    """
    no_options("task_graph", options, "deps, window, pools, ready, start, trace")
    said = [x is not None for x in (deps, window, pools, ready, start, trace)]
    if config is not None:
        _need("config", config, TaskGraphConfig, "TaskGraphConfig", "TaskGraphConfig(window=TaskWindow(1024))")
        if any(said):
            raise ScheduleError(
                "PTO418", "task_graph of a config and of options", loc=here(), fix="give one or the other"
            )
        return task_graph(
            deps=config.deps,
            window=config.window,
            pools=config.pools,
            ready=config.ready,
            start=config.start,
            trace=config.trace,
        )
    if not any(said):
        raise ScheduleError(
            "PTO403",
            "task_graph says nothing",
            loc=here(),
            fix="write task_graph(window=TaskWindow(1024)), task_graph(deps=Deps.hybrid), or both",
        )
    _need("window", window, TaskWindow, "TaskWindow", "window=TaskWindow(1024)")
    _need("deps", deps, DepsMode, "Deps", "deps=Deps.infer_tensor_map_exact")
    _need("start", start, Start, "StartPolicy", "start=StartPolicy.threshold(64)")
    _need("trace", trace, TracePolicy, "TracePolicy", "trace=TracePolicy.tasks")
    if ready is not None:
        need_policy("task_graph(ready=...)", "ready", ready, "task_graph(ready=ReadyPolicy.fifo)")
    if pools is not None:
        need_policy("task_graph(pools=...)", "pools", pools, "task_graph(pools=Pools.single)")

    def apply(w: Traced) -> Traced:
        if ready is not None:
            w = scoped(w, "ready", {**ready.params, "policy": ready.name, **_rule("priority", ready)})
        if window is not None:
            w = window_of(window)(w)
        if pools is not None:
            w = scoped(w, "pools", {**pools.params, "policy": pools.name, **_rule("pool", pools)})
        if start is not None:
            w = scoped(w, "start", {"tasks": start.tasks})
        if trace is not None:
            w = scoped(w, "trace", {"level": trace.name})
        if deps is not None:
            w = scoped(w, "deps", {"mode": deps.name})
            refuse_races(w.wir)
        return w

    return transformation("task_graph", apply)


def _rule(name: str, policy: Policy) -> dict[str, Any]:
    return {} if policy.rule is None else {name: policy.rule}


def _need(name: str, value: object, kind: type, called: str, example: str) -> None:
    """`called`: what users know the kind by."""
    if value is not None and not isinstance(value, kind):
        raise ScheduleError(
            "PTO403",
            f"task_graph: {name} is no {called}",
            values={name: repr(value)[:80]},
            loc=here(),
            fix=f"write task_graph({example})",
        )
