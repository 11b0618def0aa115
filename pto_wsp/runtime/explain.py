"""Where the cycles of a run went: its critical path, how its lanes were used, what stalled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pto_wsp.errors import ExecutionError, Location, here
from pto_wsp.ir.readonly import ReadOnly
from pto_wsp.runtime.causes import At, Causes, Moment
from pto_wsp.runtime.explain_pipes import ChannelUse, Outer, Part, Paths, ProcessUse, channel_uses, outer, process_uses
from pto_wsp.runtime.views.columns import FIRST_PIPELINE, Columns, Site

_SHOWN = 40  # steps of a path, and lanes, that are printed
_OF_OTHERS = ("full", "empty", "rendezvous", "closed")  # waits for other processes


@dataclass(frozen=True)
class PathStep:
    """A part of the critical path: from cycle `start` to `end`, as long as `activity` of a task took.

    task, name, kernel, loc  the task: its position in program order, its name, its kernel, the line of the call, which does not tell two
              steps apart.
              Where it is no task's: -1, and the name of the pipeline, or of the channel
    activity  "run"; "handover" to its lane; "read", of what is read before it is issued; "issue", until the next task may be
              issued; "rate limit", the same where a schedule says longer; the
              "latency" or the "response" of a channel
    because   what was over when that began: "begin", of the run; "lane", which was busy with another task; "dependence"; "stream";
              "window", which was full; "boundary", of what is read; "batch", which was released; "start", the policy; "issued"; "ready".
              In a pipeline: "full", "empty" or "rendezvous", a wait for another process at `channel`; "closed", by the last producer
              of `channel`; "process": what it did before
    after     the task that was waited for; None: there is none, or it is a pipeline
    process   whose it is, in a pipeline
    """

    task: int
    name: str
    kernel: str
    loc: Location | None = field(compare=False)
    activity: str
    start: int
    end: int
    because: str
    after: int | None
    process: str = ""
    channel: str = ""

    @property
    def cycles(self) -> int:
        """How long it took."""
        return self.end - self.start


@dataclass(frozen=True)
class LaneUse:
    """A lane: how many tasks it ran, the cycles it was busy, and the others by what the next task waited for: as PathStep says, or
    "handover", "nothing left" where it had no task any more."""

    lane: int
    tasks: int
    busy: int
    idle: Mapping[str, int]


@dataclass(frozen=True)
class WindowStalls:
    """A window: for how many tasks issue waited for room in it, and for how many cycles together."""

    window: int
    stalls: int
    cycles: int


@dataclass(frozen=True)
class Share:
    """Of a kernel or a line: its tasks, the cycles that they ran, and the cycles of the critical path that are theirs."""

    name: str
    tasks: int
    busy: int
    path: int


@dataclass(frozen=True)
class Explanation:
    """Where the cycles of a run went; print it. Those of equal runs are equal; they can be pickled and copied.

    total_cycles  what the parts of the path add up to
    path          the critical path, in order of time: each part begins where the one before it ends
    activities    cycles of the path by activity
    lanes         of each lane, what it did
    windows       of each window that stalled issue, how long
    kernels, lines  shares of kernels and of lines of the workload, those with most of the path first
    processes, channels  of pipelines: what each process did, what each channel held, and which make the run slower
    """

    total_cycles: int
    path: tuple[PathStep, ...]
    activities: Mapping[str, int]
    lanes: tuple[LaneUse, ...]
    windows: tuple[WindowStalls, ...]
    kernels: tuple[Share, ...]
    lines: tuple[Share, ...]
    processes: tuple[ProcessUse, ...] = ()
    channels: tuple[ChannelUse, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self._text())

    def _text(self) -> Iterator[str]:
        total = self.total_cycles

        def share(cycles: int) -> str:
            return f"{cycles / total:6.1%}" if total else "      "

        yield f"{total:,} cycles"
        yield f"\ncritical path: {len(self.path)} parts"
        for activity, cycles in self.activities.items():
            yield f"  {share(cycles)} {cycles:>14,}  {activity}"
        yield f"\n{'from':>12} {'cycles':>12}  part of the path"
        for k, step in enumerate(self.path):
            if _SHOWN // 2 <= k < len(self.path) - _SHOWN // 2:
                if k == _SHOWN // 2:
                    yield f"{'...':>12} {'':>12}  {len(self.path) - 2 * (_SHOWN // 2)} more"
                continue
            after = "" if step.after is None else f" {step.after}"
            whose = f"{step.process}: " if step.process else ""
            because = f"{step.because} {step.channel}" if step.because in _OF_OTHERS else step.because
            yield f"{step.start:>12,} {step.cycles:>12,}  {whose}{step.activity} {step.name}: {because}{after}"
        for title, shares in (("kernel", self.kernels), ("line", self.lines)):
            yield f"\n{'of path':>12} {'busy cycles':>14} {'tasks':>10}  {title}"
            for s in shares:
                yield f"{share(s.path):>12} {s.busy:>14,} {s.tasks:>10,}  {s.name}"
        yield f"\n{'lane':>12} {'busy':>7} {'tasks':>10}  idle, by what its next task waited for"
        for use in self.lanes[:_SHOWN]:
            idle = ", ".join(f"{share(n).strip()} {why}" for why, n in sorted(use.idle.items(), key=lambda e: -e[1]))
            yield f"{use.lane:>12} {share(use.busy):>7} {use.tasks:>10,}  {idle}"
        if len(self.lanes) > _SHOWN:
            yield f"{'...':>12} {len(self.lanes) - _SHOWN} more"
        for w in self.windows:
            yield f"\nwindow {w.window} stalled issue {w.stalls:,} times, {w.cycles:,} cycles"
        if self.processes:
            yield f"\n{'busy':>12} {'cycles':>14} {'tasks':>10}  process: what it waited for"
        for p in self.processes[:_SHOWN]:
            waits = ", ".join(f"{n / p.cycles:.1%} {why}" for why, n in sorted(p.waits.items(), key=lambda e: -e[1]))
            busy = f"{p.busy / p.cycles:.1%}" if p.cycles else ""
            yield f"{busy:>12} {p.busy:>14,} {p.tasks:>10,}  {p.process}: {waits}"
        if len(self.processes) > _SHOWN:
            yield f"{'...':>12} {len(self.processes) - _SHOWN} more"
        if self.channels:
            yield f"\n{'tokens':>12} {'full':>14} {'empty':>10}  channel"
        for ch in self.channels:
            holds = "no limit" if ch.capacity is None else f"capacity {ch.capacity}"
            needs = "" if ch.depth is None else f"; it throttles: depth={ch.depth} gives the full rate"
            yield f"{ch.tokens:>12,} {ch.full:>14,} {ch.empty:>10,}  {ch.channel}: {holds}, at most {ch.most} in it{needs}"


def lacks(c: Columns) -> dict[str, object]:
    """What a trace would have to have beside what it has, for `explain`."""
    missing = {
        "edges": "" if c.full else 'not recorded at level "tasks"',
        "tasks beyond the limit": c.dropped,
        "edges beyond it": c.dropped_edges,
        "tasks that semantic time did not reach": int((c.arrays["end"] < 0).sum()),
        "pipelines and operations beyond the limit": c.pipes.dropped,
        "pipelines that came to no end": int((c.pipes.runs["end"] < 0).sum()),
    }
    return {name: n for name, n in missing.items() if n}


def explain(
    c: Columns, fix: str = "program.explain(), which takes no trace of a run", depths: Mapping[str, int] | None = None
) -> Explanation:
    """Of a traced run. depths: of channels that throttle, where that was looked for. Raises ExecutionError (PTO764), with this way out, where its trace lacks tasks or edges."""
    if missing := lacks(c):
        raise ExecutionError(
            *("PTO764", "a run can be explained where its trace has every task and edge"),
            values=missing,
            loc=here(),
            fix=fix,
        )
    o = outer(c)
    causes = Causes(o.columns)
    path = tuple(reversed(list(_inside(c, o, _path(o.columns, causes)))))
    activities: dict[str, int] = {}
    for step in path:
        activities[step.activity] = activities.get(step.activity, 0) + step.cycles
    return Explanation(
        total_cycles=max(o.columns.lists["end"], default=0),
        path=path,
        activities=ReadOnly(dict(sorted(activities.items(), key=lambda e: -e[1]))),
        lanes=_lanes(o.columns, causes),
        windows=_windows(o.columns),
        kernels=_shares(c, path, _kernel),
        lines=_shares(c, path, _line),
        processes=process_uses(c),
        channels=channel_uses(c, depths),
    )


def _inside(c: Columns, o: Outer, path: Iterator[PathStep]) -> Iterator[PathStep]:
    """The path, from its end, with that of pipelines in their places."""
    paths = Paths(c) if len(c.pipes.runs["place"]) else None
    for step in path:
        node = o.nodes[step.task]
        after = None if step.after is None else o.nodes[step.after]
        after = after if after is None or after >= 0 else None
        if node >= 0 or paths is None:
            yield replace(step, task=node, after=after)
        elif step.activity != "run":
            yield replace(step, task=-1, name=c.pipes.name_of(FIRST_PIPELINE - node), after=after)
        else:
            parts = list(paths.back(FIRST_PIPELINE - node))
            for part, before in zip(parts, [*parts, None][1:], strict=True):
                yield _step_of(part, before, step.because, after)


def _step_of(p: Part, before: Part | None, because: str, after: int | None) -> PathStep:
    """A part of a path as a step, which begins where `before` ends, or with the pipeline."""
    if before is not None:
        because = p.because
        after = before.task if before.activity == "run" and because in _OF_OTHERS else None
    whole = (p.task, p.name, p.kernel, p.loc, p.activity, p.start, p.end, because, after)
    return PathStep(*whole, p.process, p.channel)


def _path(c: Columns, causes: Causes) -> Iterator[PathStep]:
    """From the end of the run back to its beginning. What took no time but the run of a task is no part."""
    if not len(c):
        return
    m: Moment | None = Moment(At.ENDED, int(np.argmax(c.arrays["end"])))
    step: tuple[int, str, int, int] | None = None  # whose beginning is looked at: task, activity, since, until
    because, after = "", None
    while m is not None:
        cause = causes.of(m)
        if cause.reason and not because:
            because, after = (
                cause.reason,
                cause.before.task if cause.before is not None and cause.before.at is At.ENDED else None,
            )
        takes = cause.activity == "run" or (cause.activity and cause.until > cause.since)
        if takes:
            if step is not None:
                yield _step(
                    c,
                    step,
                    because or ("issued" if cause.activity in ("issue", "rate limit", "read") else "ready"),
                    after,
                )
            whose = (
                m.task if cause.activity not in ("issue", "rate limit") or cause.before is None else cause.before.task
            )
            step, because, after = (whose, cause.activity, cause.since, cause.until), "", None
        m = cause.before
    if step is not None:
        yield _step(c, step, because or "begin", after)


def _step(c: Columns, step: tuple[int, str, int, int], because: str, after: int | None) -> PathStep:
    task, activity, since, until = step
    site = c.site_of(task)
    return PathStep(task, c.name_of(task), site.kernel, site.loc, activity, since, until, because, after)


def _kernel(of: Site | PathStep) -> str:
    return of.kernel


def _line(of: Site | PathStep) -> str:
    return "no line" if of.loc is None else f"{of.loc.file}:{of.loc.line}"


def _shares(c: Columns, path: tuple[PathStep, ...], by: Callable[[Site | PathStep], str]) -> tuple[Share, ...]:
    cost = c.arrays["end"] - c.arrays["start"]
    tasks: dict[str, int] = {}
    busy: dict[str, int] = {}
    for k, site in enumerate(c.sites):
        mine = c.arrays["site"] == k
        tasks[by(site)] = tasks.get(by(site), 0) + int(mine.sum())
        busy[by(site)] = busy.get(by(site), 0) + int(cost[mine].sum())
    on_path = dict.fromkeys(tasks, 0)
    for step in path:
        on_path[by(step)] = on_path.get(by(step), 0) + step.cycles
    order = sorted(on_path, key=lambda n: (-on_path[n], -busy.get(n, 0)))
    return tuple(Share(n, tasks.get(n, 0), busy.get(n, 0), on_path[n]) for n in order)


def _windows(c: Columns) -> tuple[WindowStalls, ...]:
    a = c.arrays
    stalled = a["stalled"] != 0
    waits = a["issue"] - a["asked"]
    return tuple(
        WindowStalls(w, int((mine := stalled & (a["window"] == w)).sum()), int(waits[mine].sum()))
        for w in np.unique(a["window"][stalled]).tolist()
    )


def _lanes(c: Columns, causes: Causes) -> tuple[LaneUse, ...]:
    start, end, lane = (c.lists[n] for n in ("start", "end", "lane"))
    total = max(end, default=0)
    tasks, busy, free = ([0] * c.timing.lanes for _ in range(3))
    idle: list[dict[str, int]] = [{} for _ in range(c.timing.lanes)]
    for i in np.lexsort([c.arrays["end"], c.arrays["start"]]).tolist():
        k = lane[i]
        if k < 0:
            continue
        for why, cycles in _gap(causes, i, free[k]):
            idle[k][why] = idle[k].get(why, 0) + cycles
        tasks[k] += 1
        busy[k] += end[i] - start[i]
        free[k] = end[i]
    for k in range(c.timing.lanes):
        if total > free[k]:
            idle[k]["nothing left"] = total - free[k]
    return tuple(LaneUse(k, tasks[k], busy[k], ReadOnly(idle[k])) for k in range(c.timing.lanes))


def _gap(causes: Causes, i: int, since: int) -> Iterator[tuple[str, int]]:
    """Why a lane had nothing to do from `since` until task `i` started: its handover, then the first thing that it waited for."""
    m: Moment | None = Moment(At.STARTED, i)
    until: int = causes.c.lists["start"][i]
    while m is not None and until > since:
        cause = causes.of(m)
        if cause.reason or cause.activity in ("issue", "rate limit"):
            yield cause.reason or cause.activity, until - since
            return
        if (begin := max(since, cause.since)) < until:
            yield cause.activity, until - begin
            until = begin
        m = cause.before
