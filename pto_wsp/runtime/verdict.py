"""Whether a schedule can deadlock: proved from the workload alone, before anything runs.

Lanes may take nothing before k tasks are issued, or all. Before that nothing retires but what a boundary in between has started; so
the run goes on where each window has room for its share of the first k tasks, and where it has not and there is no boundary, it does
not, whatever the costs. Where neither data nor sizes nor slots decide anything, the issue of the first k tasks is walked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pto_wsp import arch as archs
from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import ScheduleError, here
from pto_wsp.ir.core import Eqn, Wir
from pto_wsp.ir.issue_bounds import Counts, Most, issue_bounds
from pto_wsp.ir.scopes import of_the_whole, scopes
from pto_wsp.runtime.core import core
from pto_wsp.runtime.deadlock import window_scope
from pto_wsp.targets.base import get
from pto_wsp.targets.cpu_sim.schedule import DEFAULT_WINDOW

MOST_WALKED = 10**8
"""Tasks whose issue is walked."""


@dataclass(frozen=True)
class Verdict:
    """What is proved, and why; of a deadlock the windows that are too small, with sizes without which it stays one."""

    kind: Literal["safe", "deadlock", "unknown"]
    reason: str
    windows: tuple[tuple[Eqn | None, str, int], ...] = ()  # scope, None of the bound that always holds; unit; size
    start: int = 0  # a threshold that passes


def verdict(wir: Wir) -> Verdict:
    """Of a scheduled workload on the target cpu_sim."""
    return verdict_of(get("cpu_sim").compile(wir, archs.get(None), {}))


def verdict_of(artifact: Artifact) -> Verdict:
    """Of a workload that is compiled."""
    wir = artifact.wir
    start = of_the_whole(wir, "start")
    if start is None:
        return Verdict("safe", "lanes take tasks as they come")
    k: Most = int(str(start.params["tasks"])) or math.inf
    plan = core().Plan(artifact.plan)
    proved = _by_counting(wir, k, plan.foreseeable())
    return _by_walking(wir, plan) if proved.kind != "safe" and plan.foregone() else proved


def refuse_deadlock(artifact: Artifact) -> None:
    """Raise ScheduleError for a schedule under which every run would deadlock."""
    found = verdict_of(artifact)
    if found.kind != "deadlock":
        return
    start = of_the_whole(artifact.wir, "start")
    k = 0 if start is None else start.params["tasks"]
    values: dict[str, object] = {
        "start": f"lanes take nothing before {f'{k:,}' if k else 'all'} tasks are issued{_at(start)}"
    }
    for n, (scope, unit, size) in enumerate(found.windows, 1):
        which = f" {n}" if len(found.windows) > 1 else ""
        values[f"window{which}{_at(scope)}"] = f"holds {_held(scope)} {unit}, and would have to hold {size:,}"
    sizes = " and ".join(f"TaskWindow({n}{_unit(u)}){_at(s)}" for s, u, n in found.windows)
    more = ","
    if not core().Plan(artifact.plan).foregone():
        values["sizes"] = (
            "are no constants: a run may need more than these numbers, which program.simulate() tells for its sizes"
        )
        more = ", more where the sizes of the run need it,"
    scope = found.windows[0][0] if found.windows else None
    raise ScheduleError(
        "PTO419",
        "under this schedule no run ends: a window has no room for the tasks that must be issued before lanes take any",
        values=values,
        loc=(scope.loc if scope is not None else None) or (start.loc if start is not None else None) or here(),
        fix=f"{f'give {sizes} at least{more} or ' if sizes else ''}start with StartPolicy.threshold({found.start}) at most",
    )


def _held(scope: Eqn | None) -> str:
    return f"{DEFAULT_WINDOW:,}" if scope is None else f"{scope.params.get('tasks', scope.params.get('bytes')):,}"


def _unit(unit: str) -> str:
    return ', "bytes"' if unit == "bytes" else ""


def _at(eqn: Eqn | None) -> str:
    return "" if eqn is None or eqn.loc is None else f" at {eqn.loc}"


def _by_counting(wir: Wir, k: Most, foreseeable: bool) -> Verdict:
    found = issue_bounds(wir)
    all_windows = list(scopes(wir, "window"))
    total = sum((c for c in found.counts.values()), Counts())
    unknown = ""
    for place, c in found.counts.items():
        scope = all_windows[place] if place >= 0 else None
        if scope is not None and scope.params["mode"] != "STALL":
            continue
        tasks, size = _limits(scope)
        # of the first k tasks, whatever comes before whatever
        others = sum(x.high for w, x in found.counts.items() if w != place)
        least, most = c.low if k >= total.high else max(0, min(k, total.low) - others), min(k, c.high)
        if foreseeable and least > tasks:
            need = int(least)
            return Verdict("deadlock", f"{need} tasks must be in a window of {tasks}", ((scope, "tasks", need),), tasks)
        if most > tasks:
            unknown = unknown or f"up to {most} tasks may have to be in a window of {tasks}"
        if min(c.bytes, _bytes(most, found.largest[place])) > size:
            unknown = unknown or f"the tasks of a window of {size} bytes may have to write more at once"
    if unknown:
        return Verdict("unknown", unknown)
    return Verdict("safe", "each window has room for what is issued before lanes take tasks")


def _bytes(tasks: Most, each: Most) -> Most:
    return tasks * each if tasks and each else 0


def _limits(scope: Eqn | None) -> tuple[int, Most]:
    """In tasks and in bytes."""
    params: Mapping[str, Any] = {} if scope is None else scope.params
    return params.get("tasks", DEFAULT_WINDOW), params.get("bytes", math.inf)


def _by_walking(wir: Wir, plan: Any) -> Verdict:
    """Of a plan in which nothing is decided by data, sizes or slots."""
    dry = core().DryRun(plan, [], [], None, True)
    failure = dry.run_until_open(MOST_WALKED)
    if failure is None:
        return Verdict("safe", "each window has room for what is issued before lanes take tasks")
    if failure["kind"] != "deadlock":
        return Verdict("unknown", f"issue fails before that: {failure['kind']}")
    remedy = dry.remedy([])
    issued = failure["values"][7]
    sizes = [(window_scope(wir, w), "bytes" if is_bytes else "tasks", n) for w, is_bytes, n in remedy["sizes"]]
    return Verdict("deadlock", f"{issued} tasks are issued, and there is no room for the next", tuple(sizes), issued)
