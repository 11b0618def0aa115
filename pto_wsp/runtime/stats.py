"""What a run was."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class WindowStats:
    """One window of the schedule, in semantic time. Window 0 is the bound of 65,536 that always holds."""

    stalls: int
    stall_cycles: int
    high_water: int


@dataclass(frozen=True)
class ProgramStats:
    """Figures of the last finished run.

    compile_time_ms       tracing excluded: passes, lowering, loading
    execute_time_ms       from the start of the run to its last task, measured
    task_count            tasks that ran
    total_cycles          semantic time of the last completion, in cycles of the arch
    stalls, stall_cycles  how often, and how long in cycles, issue waited for a full window
    high_water            most tasks issued and not retired, in semantic time
    windows               the same for each window
    lanes, arch, model    of the machine that the cycles belong to, and how costs of kernels are made on it: "serial" or "pipes"
    threads               most threads that worked on the run at once, measured
    max_in_flight         most tasks that were really running or waiting to run, measured
    kernel_counts         tasks by kernel
    scalar_waits, scalar_wait_cycles   how often, and how long in cycles, issue waited for tasks whose results a scalar or a gather
                          reads
    arena_bytes           memory of the temporaries: most that lived at once
    tiers                 by kernel: "native" where code compiled for it runs, "first" where tile operations do, "cpp" of C++
    tier_note             why kernels run in the first tier though native code was asked for; else ""
    """

    compile_time_ms: float = 0.0
    execute_time_ms: float = 0.0
    task_count: int = 0
    total_cycles: int = 0
    stalls: int = 0
    stall_cycles: int = 0
    high_water: int = 0
    windows: tuple[WindowStats, ...] = ()
    lanes: int = 0
    arch: str = ""
    model: str = ""
    threads: int = 0
    max_in_flight: int = 0
    kernel_counts: dict[str, int] = field(default_factory=dict[str, int])
    scalar_waits: int = 0
    scalar_wait_cycles: int = 0
    arena_bytes: int = 0
    tiers: dict[str, str] = field(default_factory=dict[str, str])
    tier_note: str = ""
