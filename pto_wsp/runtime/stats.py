"""What a run was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pto_wsp.ir.readonly import ReadOnly
from pto_wsp.runtime.resources import MOST


@dataclass(frozen=True)
class WindowStats:
    """One window of the schedule, in semantic time: how often and how long issue waited for it, and most tasks issued and not retired.
    high_bytes: most bytes that they write, which are counted where the schedule has a window in bytes. Window 0 is the bound of 65,536 that
    always holds."""

    stalls: int
    stall_cycles: int
    high_water: int
    high_bytes: int


@dataclass(frozen=True)
class ChannelStats:
    """A channel of a pipeline, in semantic time: cycles that processes waited for tokens of it, CHANNEL_EMPTY_WAIT, and for places in
    it, CHANNEL_FULL_WAIT. Both ends of a rendezvous wait for each other. undelivered: tokens that nobody had received when the pipeline
    ended, which is no error; of `c.free`, buffers of `c` that are free again."""

    empty_cycles: int
    full_cycles: int
    undelivered: int = 0


@dataclass(frozen=True)
class SemanticStats:
    """Semantic time of a run: exact, the same for every number of threads.

    task_count            tasks that ran; where the run ended with an error, those issued until then
    total_cycles          the last completion, in cycles of the arch
    stalls, stall_cycles  how often, and how long in cycles, issue waited for a full window
    high_water            most tasks issued and not retired
    windows               the same for each window
    scalar_waits, scalar_wait_cycles   how often, and how long in cycles, issue waited for tasks whose results a scalar or a gather
                          reads
    channels              of pipelines, by name: what processes waited for, and what nobody received
    lanes, arch, model    of the machine that the cycles belong to, and how costs of kernels are made on it: "serial" or "pipes"
    """

    task_count: int = 0
    total_cycles: int = 0
    stalls: int = 0
    stall_cycles: int = 0
    high_water: int = 0
    windows: tuple[WindowStats, ...] = ()
    scalar_waits: int = 0
    scalar_wait_cycles: int = 0
    channels: Mapping[str, ChannelStats] = field(default_factory=ReadOnly[ChannelStats])
    lanes: int = 0
    arch: str = ""
    model: str = ""


def semantic_stats(record: Mapping[str, Any], manifest: Mapping[str, Any], channels: tuple[str, ...]) -> SemanticStats:
    """From what the core says of a run, the machine that an artifact is for, and the names of its channels."""
    windows = tuple(WindowStats(**w) for w in record["windows"])
    counts = (
        "task_count",
        "total_cycles",
        "stalls",
        "stall_cycles",
        "high_water",
        "scalar_waits",
        "scalar_wait_cycles",
        "lanes",
    )
    return SemanticStats(
        windows=windows,
        channels=ReadOnly({n: ChannelStats(*cycles) for n, cycles in zip(channels, record["channels"], strict=False)}),
        arch=manifest["arch"],
        model=manifest["model"],
        **{name: record[name] for name in counts},
    )


@dataclass(frozen=True)
class ResourceStats:
    """One resource of a run, measured.

    reason      what issue waits for when it is used up, as `program.waiting_for` says it
    capacity    how much there was; None where there is no size: what a scalar waits for, and windows, which the schedule sizes
    high_water  most that was in use at once; None as above
    stalls      how often issue waited for more
    stall_ns    how long, in nanoseconds, until a thread went on with it
    suffices    a size with which no run of this program with these sizes waits for it or works with fewer threads for it, the other
                resources as they are; None where it never waited and let all threads work, or where there is no telling: of a run
                that ended with an error, too
    threads     most that could work, because no more tasks could be in flight, where that is fewer than the program's and the
                tasks: so few may never wait for it. None where all could
    """

    reason: str
    capacity: int | None
    high_water: int | None
    stalls: int
    stall_ns: int
    suffices: int | None
    threads: int | None = None


@dataclass(frozen=True)
class WindowInFlight:
    """One window of the schedule, measured: most tasks really issued and not retired, and most bytes that they write."""

    tasks: int
    bytes: int


@dataclass(frozen=True)
class RealStats:
    """What was measured of a run: differs from run to run.

    execute_time_ms  from the start of the run to its last task
    threads          most threads that worked on the run at once, the one that waits in `synchronize` among them: at most those of the
                     program, and where lanes are pinned to threads, to which the waiting one does not belong, one more
    max_in_flight    most tasks that were running or waiting to run: what was in use of `task_window`
    arena_bytes      memory of the temporaries: most that lived at once, what was in use of `arena`
    grid_cells       cells of the tensors where conflicts are found by cells
    boxed_tensors    tensors where they are found by boxes
    windows_in_flight  of each window, in the order of `semantic.windows`, most that was in flight at once, tasks and bytes (which are
                     counted where the schedule has a window in bytes); empty where each thread runs tasks as it issues them
    resources        by name: those of `Resources`; "window", the schedule's; "scalars", tasks whose results a scalar or a gather reads
    """

    execute_time_ms: float = 0.0
    threads: int = 0
    max_in_flight: int = 0
    arena_bytes: int = 0
    grid_cells: int = 0
    boxed_tensors: int = 0
    windows_in_flight: tuple[WindowInFlight, ...] = ()
    resources: Mapping[str, ResourceStats] = field(default_factory=ReadOnly[ResourceStats])

    @property
    def limited_by(self) -> str | None:
        """The resource that issue waited for longest, of those that waited at all; else the one that let the fewest threads work, of
        those that did not let all."""
        waited = {name: r.stall_ns for name, r in self.resources.items() if r.stalls}
        fewer = {name: r.threads for name, r in self.resources.items() if r.threads is not None}
        return max(waited, key=waited.__getitem__, default=min(fewer, key=fewer.__getitem__, default=None))


@dataclass(frozen=True)
class ProgramStats:
    """Figures of the last run that is over. What `semantic` and `real` hold can be asked for here too: `stats.total_cycles` is
    `stats.semantic.total_cycles`. `str(stats)` is a table for people. They can be pickled and copied.

    compile_time_ms       tracing excluded: passes, lowering, loading
    semantic              of semantic time, exact
    real                  of the run itself, measured
    kernel_counts         tasks by kernel
    tiers                 by kernel: "native" where code compiled for it runs, "first" where tile operations do, "cpp" of C++
    tier_note             why kernels run in the first tier though native code was asked for; else ""
    ended_with            the error that ended the run, in a line: the figures are those of what it did until then; else ""
    """

    compile_time_ms: float = 0.0
    semantic: SemanticStats = SemanticStats()
    real: RealStats = RealStats()
    kernel_counts: dict[str, int] = field(default_factory=dict[str, int])
    tiers: dict[str, str] = field(default_factory=dict[str, str])
    tier_note: str = ""
    ended_with: str = ""

    @property
    def task_count(self) -> int:
        """Tasks that ran."""
        return self.semantic.task_count

    @property
    def total_cycles(self) -> int:
        """Semantic time of the last completion."""
        return self.semantic.total_cycles

    @property
    def stalls(self) -> int:
        """How often issue waited for a full window, in semantic time."""
        return self.semantic.stalls

    @property
    def stall_cycles(self) -> int:
        """How long, in cycles."""
        return self.semantic.stall_cycles

    @property
    def high_water(self) -> int:
        """Most tasks issued and not retired, in semantic time."""
        return self.semantic.high_water

    @property
    def windows(self) -> tuple[WindowStats, ...]:
        """The same for each window."""
        return self.semantic.windows

    @property
    def lanes(self) -> int:
        """Lanes of semantic time."""
        return self.semantic.lanes

    @property
    def arch(self) -> str:
        """The machine that the cycles belong to."""
        return self.semantic.arch

    @property
    def model(self) -> str:
        """How costs of kernels are made on it: "serial" or "pipes"."""
        return self.semantic.model

    @property
    def scalar_waits(self) -> int:
        """How often issue waited for tasks whose results a scalar or a gather reads, in semantic time."""
        return self.semantic.scalar_waits

    @property
    def scalar_wait_cycles(self) -> int:
        """How long, in cycles."""
        return self.semantic.scalar_wait_cycles

    @property
    def execute_time_ms(self) -> float:
        """From the start of the run to its last task, measured."""
        return self.real.execute_time_ms

    @property
    def threads(self) -> int:
        """Most threads that worked on the run at once, the waiting one among them, measured."""
        return self.real.threads

    @property
    def max_in_flight(self) -> int:
        """Most tasks that were really running or waiting to run, measured."""
        return self.real.max_in_flight

    @property
    def arena_bytes(self) -> int:
        """Memory of the temporaries: most that lived at once."""
        return self.real.arena_bytes

    def __str__(self) -> str:
        if not self.real.resources:
            return f"no run is over yet: program.run() first; compiled in {self.compile_time_ms:.3f} ms"
        return "\n".join((*_head(self), *_undelivered(self.semantic), *_table(self.real), *_verdict(self)))


# The names of the resources, in the order of the core's reasons.
_NAMES = ("task_window", "window", "dependence_map", "edges", "arena", "ready_queue", "scalars")
_WITHOUT_SIZE = ("window", "scalars")


def resource_stats(rows: list[tuple[str, int, int, int, int, int, int]], whole: bool) -> Mapping[str, ResourceStats]:
    """By name, from the rows of the core: reason, capacity, high-water mark, what suffices or 0, stalls, nanoseconds, threads or 0.
    `whole`: the run came to its end, so that what it needed is known."""
    found: dict[str, ResourceStats] = {}
    for name, (reason, capacity, high, enough, stalls, ns, threads) in zip(_NAMES, rows, strict=True):
        sized = name not in _WITHOUT_SIZE
        known = whole and (stalls > 0 or threads > 0) and 0 < enough <= MOST.get(name, 0)
        found[name] = ResourceStats(
            *(reason, capacity if sized else None, high if sized else None),
            *(stalls, ns, enough if known else None, threads or None),
        )
    return ReadOnly(found)


def _head(s: ProgramStats) -> tuple[str, ...]:
    semantic = f"semantic: {s.total_cycles:,} cycles on {_count(s.lanes, 'lane')} of {s.arch}, {_count(s.stalls, 'stall')} of {s.stall_cycles:,} cycles"
    real = f"real: {s.execute_time_ms:.3f} ms on {_count(s.threads, 'thread')}, {_count(s.max_in_flight, 'task')} in flight at most"
    ended = (f"the run ended with {s.ended_with}", "until then:") if s.ended_with else ()
    return (*ended, _count(s.task_count, "task") + (" issued" if s.ended_with else ""), semantic, real)


def _undelivered(s: SemanticStats) -> tuple[str, ...]:
    left = {name: c.undelivered for name, c in s.channels.items() if c.undelivered and not _of_buffers(s, name)}
    return tuple(f"channel {name}: {_count(n, 'token')} sent that nobody received" for name, n in left.items())


def _of_buffers(s: SemanticStats, name: str) -> bool:
    return name.removesuffix(".free") != name and name.removesuffix(".free") in s.channels


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _table(real: RealStats) -> tuple[str, ...]:
    def row(name: str, *cells: Any) -> str:
        return f"  {name:<16}" + "".join(
            f"{'-' if c is None else c:>{w}}" for c, w in zip(cells, (12, 12, 10, 12), strict=True)
        )

    rows = [row("resource", "capacity", "high water", "stalls", "stalled ms")]
    for name, r in real.resources.items():
        capacity, high = (None if n is None else f"{n:,}" for n in (r.capacity, r.high_water))
        rows.append(row(name, capacity, high, f"{r.stalls:,}", f"{r.stall_ns / 1e6:.3f}"))
    return tuple(rows)


def _verdict(s: ProgramStats) -> tuple[str, ...]:
    name = s.real.limited_by
    if name is not None:
        return (_limit(s.real, name),)
    return () if s.ended_with else ("no resource limited the run",)


def _limit(real: RealStats, name: str) -> str:
    r = real.resources[name]
    share = r.stall_ns / sum(other.stall_ns for other in real.resources.values()) if r.stall_ns else 0
    how = [f"{share:.0%} of the stalled time"] if r.stalls else []
    if r.threads is not None:
        how.append(f"no more than {_count(r.threads, 'thread')} could work")
    head = f"limited by {name} ({r.reason}): {', and '.join(how)}"
    if name == "window":
        return f"{head}; the window is the schedule's"
    if name == "scalars":
        return f"{head}; tasks must be over before what they computed is read"
    if name == "arena":
        return f"{head}; temporaries wait for memory that earlier tasks use, and no size changes that"
    more = f"{head}; more than {r.capacity:,} are needed"
    return f"{more}, {r.suffices:,} suffice" if r.suffices is not None else more
