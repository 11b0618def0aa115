"""Programs: an artifact bound to tensors and runtime values."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn, Self

import numpy as np

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.artifact.container import damaged
from pto_wsp.errors import (
    ArtifactError,
    BindError,
    CompileError,
    DeadlockError,
    ExecutionError,
    PtoError,
    UnsupportedError,
    here,
    no_attribute,
    no_options,
)
from pto_wsp.ir.core import DType, Kernel, Wir
from pto_wsp.ir.processes import channel_names, pipelines
from pto_wsp.ir.scopes import of_the_whole
from pto_wsp.ops.cpp import entry_of, is_cpp
from pto_wsp.runtime.bindings import Bindings
from pto_wsp.runtime.casualties import add_casualties
from pto_wsp.runtime.check import Checker
from pto_wsp.runtime.core import core
from pto_wsp.runtime.deadlock import tell_remedy
from pto_wsp.runtime.explain import Explanation, explain, lacks
from pto_wsp.runtime.failure import in_a_line, to_error
from pto_wsp.runtime.log import task_names
from pto_wsp.runtime.native import Native, Tier
from pto_wsp.runtime.pipelines import Bounds, buffer_channels, changed, checked, refuse_with_pipelines, times_of
from pto_wsp.runtime.resources import Resources, resources_of
from pto_wsp.runtime.schedule import Origin, RunSchedule, check_replay, origin
from pto_wsp.runtime.simulation import (
    KEPT,
    MOST_TASKS,
    Given,
    Scalars,
    dry_run,
    explained,
    numbers_of,
    scalars_of,
    simulated,
)
from pto_wsp.runtime.stats import ProgramStats, RealStats, SemanticStats, WindowInFlight, resource_stats, semantic_stats
from pto_wsp.runtime.throttle import throttling
from pto_wsp.runtime.trace import ExecutionTrace, TraceLevel, columns_of
from pto_wsp.targets.base import TARGETS, get, refuse_unsupported

_SLICE = 0.05  # seconds between looks at signals while waiting
_MAX_THREADS = 1024
_MOST_TRACED = 2_000_000  # tasks of a run
_MOST_EXPLAINED = 1_000_000  # of one that was not traced


def thread_count(threads: int | None) -> int:
    """`threads`, or PTO_WSP_NUM_THREADS, or the processors this process may use. Raises CompileError."""
    source: object = threads
    if threads is None:
        source = os.environ.get("PTO_WSP_NUM_THREADS") or min(len(os.sched_getaffinity(0)), _MAX_THREADS)
    if threads is None and isinstance(source, str):
        source = int(source) if source.isascii() and source.isdigit() and len(source) < 10 else source
    ok = isinstance(source, (int, np.integer)) and not isinstance(source, bool)
    if not ok or not 1 <= int(source) <= _MAX_THREADS:  # type: ignore[call-overload]
        raise CompileError(
            "PTO406",
            f"the number of threads is {source!r}",
            values={"range": f"1 .. {_MAX_THREADS}"},
            loc=here(),
            fix=f"give threads= (or PTO_WSP_NUM_THREADS) an integer of 1 .. {_MAX_THREADS}",
        )
    return int(source)  # type: ignore[call-overload]


class Program:
    """A compiled workload with its arrays and sizes. Runs share nothing but the artifact, which is immutable.

    Made by `workload.compile()` or `Program.load(path)`. Any number of programs may run at once; one program runs once at a time.
    """

    def __init__(
        self,
        artifact: Artifact,
        threads: int | None = None,
        *,
        plan: Any = None,
        check: frozenset[str] = frozenset(),
        scratch: frozenset[str] = frozenset(),
        native: Native | None = None,
        tier: Tier | None = None,
        resources: Resources | None = None,
    ) -> None:
        """`check`, `scratch`: what `workload.compile(check=...)` looks for, and the tensors that are temporaries without it. `native`: see `Tier`;
        by default what the artifact was compiled with. `tier`: that of `plan`."""
        self._artifact = artifact
        self._threads = thread_count(threads)
        self.compile_time_ms = 0.0
        self._plan = plan if plan is not None else _load_plan(artifact)
        self._tier = tier if tier is not None else _tier(artifact, self._plan, native)
        self._resources = resources_of(resources)
        self._run = core().Instance(self._plan, self._threads, core().Resources(**self._resources.sizes()))
        self._bound = Bindings(artifact, scratch)
        self._channel_names = channel_names(artifact.wir)
        self._has_pipelines = next(pipelines(artifact.wir), None) is not None
        self._bounds = Bounds(None, None, {})  # of the last run
        self._times: dict[int, tuple[int, int]] = {}  # of channels, where they are not those of the workload
        self._check, self._scratch = check, scratch
        self._checker = Checker(artifact, check) if check else None
        if self._checker is not None:
            self._run.set_hook(self._checker)
        names = task_names(artifact.wir)
        if names is not None:
            self._need_feature("observe.log")
            self._run.set_log(names)
        self._started = False
        self._origin: Origin | None = None  # of the last run, where it is traced
        self._waits = not self._plan.foreseeable()  # control reads what tasks write
        self._kept = KEPT
        self._given: Given | None = None  # of the last run, where it waits
        self._simulated: tuple[Scalars | None] | None = None  # what was given to a simulation after the last run
        self._tracing = (_trace_level(artifact.wir), _MOST_TRACED)
        self._set_trace(self._run)
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        public = [n for n in dir(type(self)) if not n.startswith("_")]
        raise no_attribute("a program", name, ", ".join(public))

    # bindings

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The bound arrays by name, the values of ragged and sparse axes among them."""
        return dict(self._bound.arrays)

    @property
    def bindings(self) -> Bindings:
        """What it is bound to, with the types of its tensors."""
        return self._bound

    @property
    def threads(self) -> int:
        """Most threads that work on a run."""
        return self._threads

    @property
    def checks(self) -> frozenset[str]:
        """What runs look for, as `workload.compile(check=...)` said."""
        return self._check

    @property
    def resources(self) -> Resources:
        """The bounds of runs, as `workload.compile(resources=...)` said."""
        return self._resources

    @property
    def axis_sizes(self) -> dict[str, int | None]:
        """The sizes bound at run time by symbol name; None where unbound."""
        return {n: self._bound.sizes.get(n) for n in self._bound.numbers}

    @property
    def slots(self) -> dict[int, int]:
        """What `set_slot` has set, by slot: the 64 bits of each value."""
        return dict(self._bound.slots)

    @property
    def wir(self) -> str:
        """The workload as text, with its schedule."""
        return self._artifact.wir_text

    def bind(self, tensors: Mapping[str, Any]) -> Self:
        """Bind arrays by tensor name, by reference. Raises BindError for an unknown name, a wrong dtype, rank, shape or byte order,
        or a read-only array for an output.

        A result of the workload may be bound too: then each run writes it there. The lengths, pointers and indices of axes that
        were made from lists or arrays are tensors as well (`seq.lengths`), which take any integers and copy them.
        """
        _need(isinstance(tensors, Mapping), "bind", "a mapping from names to arrays", tensors)
        with self._lock:
            self._not_running("bind()")
            self._bound.bind(tensors)
        return self

    def set_axis_sizes(self, sizes: Mapping[str, Any]) -> Self:
        """Bind the sizes of axes by axis name (or by the name of their symbol): a number for a dynamic axis, the lengths of a ragged
        one, (indptr, indices) of a sparse one. Lists and arrays of integers are copied. Nothing is traced or built again.

            program.set_axis_sizes({"batch": 3, "seq": [3, 5, 0], "routing": (indptr, indices)})

        Raises BindError for an unknown or static axis, a size that is negative or no integer, and for lengths, pointers and
        indices that no axis has; what only other bindings decide is checked when a run starts, before anything runs.
        """
        _need(isinstance(sizes, Mapping), "set_axis_sizes", "a mapping from axis names to sizes", sizes)
        with self._lock:
            self._not_running("set_axis_sizes()")
            self._bound.set_axis_sizes(sizes)
        return self

    def set_symbol_u64(self, name: str, value: int) -> Self:
        """Bind a symbol that is a number. Raises BindError for an unknown symbol, for one that is an array, and for a value that is
        negative or not an integer."""
        with self._lock:
            self._not_running("set_symbol_u64()")
            self._bound.set_symbol_u64(name, value)
        return self

    def set_symbol_ptr(
        self, name: str, buffer: Any, *, size: int | None = None, dtype: DType = DType.I64, unsafe: bool = False
    ) -> Self:
        """Bind a symbol that gives an axis its lengths, pointers or indices.

        buffer: an array, a list or a buffer object of integers, which are copied; or an address, with `size` elements of `dtype`
        there and unsafe=True. Raises BindError for an unknown symbol, for one that is a number, and for values no axis has.
        """
        with self._lock:
            self._not_running("set_symbol_ptr()")
            self._bound.set_symbol_ptr(name, buffer, size, dtype, unsafe)
        return self

    def set_slot(self, slot: int, value: bool | int | float) -> Self:
        """The value that slot `slot` has when a run starts; 0 where this was never called. Raises BindError for a slot that the
        workload does not use, and for a value its type does not hold."""
        with self._lock:
            self._not_running("set_slot()")
            self._bound.set_slot(slot, value)
        return self

    @property
    def results(self) -> Any:
        """What the workload returns: an array or a tuple of arrays, complete when the run is; None where it returns nothing.

        Each run gives new arrays, except for results that `bind` has given an array; elements that no task writes are 0.
        Raises ExecutionError before the first run.
        """
        returns = self._artifact.wir.returns
        if returns is None:
            return None
        if not self._started:
            raise ExecutionError(
                *("PTO701", "results before execute()"), loc=here(), fix="program.execute() first, or program.run()"
            )
        made = self._bound.results
        return made[returns] if isinstance(returns, str) else tuple(made[n] for n in returns)

    def set_channel(
        self, name: str, *, latency: int | None = None, response: int | None = None, **options: object
    ) -> Self:
        """Let a channel of a pipeline take other times in the next runs and simulations, in cycles; None: what the workload says.
        Nothing is built again. Where two pipelines have channels of one name, this is "pipe.c". Raises BindError."""
        no_options("set_channel", options, "latency, response")
        with self._lock:
            self._not_running("set_channel()")
            number, times = times_of(self._artifact.wir, name, latency, response)
            self._times[number] = times
        return self

    # running

    def _not_running(self, what: str) -> None:
        if self._started and self._run.is_running():
            raise ExecutionError(
                "PTO702",
                f"{what} while the program runs",
                loc=here(),
                fix="synchronize() first, or use program.copy() beside it",
            )

    def _need_feature(self, name: str) -> None:
        refuse_unsupported(get(self._artifact.manifest["target"]), {name: None})

    def execute(
        self,
        on_error: str = "stop",
        *,
        replay: RunSchedule | None = None,
        max_cycles: int | None = None,
        max_actions: int | None = None,
        **options: object,
    ) -> Self:
        """Start a run and return at once. Raises BindError, BoundsError or RaceError for what can be checked before, and
        ExecutionError when the program is running already.

        on_error: what happens once a task fails. "stop": tasks before it in program order still run, later ones that have not
        started are dropped. "continue": all tasks run but those that depend on it, through data, sequence or `after=`, directly or
        not; synchronize() then raises the earliest failure, whose `failed` and `skipped` name the tasks. Which these are, and what
        the others compute, does not depend on threads. Where what a failed task would have written is read by the workload itself
        (an extent, a condition, an index), or a task's views are wrong so that nobody knows what depends on it, the run ends there.

        replay: the schedule of an earlier run of this program with the same sizes: as many threads as it had each run the tasks
        they ran, in the same order, and no other thread runs any. Raises BindError for that of another run; what only the run
        shows, such as another number of tasks, synchronize() raises.

        max_cycles, max_actions: most that a pipeline may take, and most actions of its processes in which no clock advances, 10^9
        where this is None; LimitError beyond. Programs with pipelines have on_error="stop" alone, and no replay.
        """
        no_options("execute", options, "on_error, replay, max_cycles, max_actions")
        bounds = Bounds.of(max_cycles, max_actions, self._times)
        _need(replay is None or isinstance(replay, RunSchedule), "execute", "replay=trace.schedule()", replay)
        _need(on_error in ("stop", "continue"), "execute", 'on_error="stop" or on_error="continue"', on_error)
        if on_error == "continue" and self._checker is not None:
            raise UnsupportedError(
                *("PTO003", 'a program with check= stops at its first finding: it has no on_error="continue"'),
                loc=here(),
                fix="compile without check=, or leave on_error out",
            )
        if on_error == "continue":
            refuse_with_pipelines(self._artifact.wir, 'on_error="continue"', "leave on_error out")
        if replay is not None:
            self._need_feature("observe.replay")
        if on_error == "continue":
            self._need_feature("on_error.continue")
        if replay is not None and self._checker is not None:
            raise UnsupportedError(
                *("PTO003", "a program with check= runs in program order: it has no replay="),
                loc=here(),
                fix="compile without check=, or leave replay out",
            )
        with self._lock:
            self._not_running("execute()")
            self._bound.hand_over(self._run)
            if self._has_pipelines:
                bounds.give(self._run, self._plan, self._looks_for_races())
                self._bounds = bounds
            self._origin = None
            self._simulated = None
            if replay is not None or self._tracing[0] is not TraceLevel.NONE:
                self._origin = origin(self.hash, self._bound, changed(self._times, self._plan))
            if replay is not None and self._origin is not None:
                check_replay(replay, self._origin)
            if self._checker is not None:
                self._checker.begin_run({**self._bound.arrays, **self._bound.results})
            try:
                ran = self._run.start(on_error == "continue", None if replay is None else replay.forced)
            except MemoryError as e:
                raise self._error({"kind": "memory", "values": []}) from e
            self._started = True
            self._given = Given.of(self._bound) if self._waits else None
            self._tier.tell()
            failure = None if ran else self._run.error()
        if failure is not None:
            raise self._error(failure)
        return self

    def _looks_for_races(self) -> list[int]:
        """The pipelines in which the next run looks for races: with check="races" all."""
        wir = self._artifact.wir
        unproved = range(sum(1 for _ in pipelines(wir))) if "races" in self._check else self._bound.unproved
        return checked(wir, unproved, self._times)

    def synchronize(self, timeout: float | None = None) -> None:
        """Wait until the run is over, working on it meanwhile, except where a task may be long: kernels with loops and kernels in C++
        are left to the other threads. Raises what went wrong in the run; ExecutionError (PTO704) when `timeout` seconds pass, and
        the run goes on. Ctrl-C cancels the run and waits for the kernels that are running, whose loops end after the trip they
        are in. With `check=` this thread does all the work, and looks at signals and the time between tasks."""
        if not self._started:
            raise ExecutionError(
                "PTO701", "synchronize() before execute()", loc=here(), fix="program.execute() first, or program.run()"
            )
        number = isinstance(timeout, (int, float, np.number)) and not isinstance(timeout, bool)
        _need(timeout is None or (number and 0 <= timeout < 1e9), "synchronize", "seconds, or None", timeout)
        end = math.inf if timeout is None else time.monotonic() + timeout
        try:
            while True:
                over, failure = self._run.wait(max(0.0, min(_SLICE, end - time.monotonic())))
                if over:
                    break
                if time.monotonic() >= end:
                    raise ExecutionError(
                        "PTO704",
                        f"the run is not over after {timeout} s",
                        loc=here(),
                        fix="synchronize() waits on, cancel() stops it",
                    )
        except KeyboardInterrupt:
            self.cancel()
            while not self._run.wait(_SLICE)[0]:
                pass
            raise
        if failure is not None:
            raise self._error(failure)

    def _error(self, failure: dict[str, Any]) -> PtoError:
        """The error for what went wrong in a run."""
        if failure["kind"] == "hook":
            found = failure["exception"]
            if not isinstance(found, PtoError):
                raise found
            return found
        error = to_error(self._artifact, failure)
        if isinstance(error, DeadlockError):
            tape = self._run.tape()
            numbers = None if tape is None else np.frombuffer(tape[0], np.int64)
            dry = dry_run(self._plan, self._bound, numbers)
            if self._has_pipelines:
                self._bounds.give(dry, self._plan)
            tell_remedy(error, self._artifact.wir, failure, dry.remedy(buffer_channels(self._artifact.wir)))
        error.loc = error.loc or here()
        lost = self._run.casualties()
        if lost is not None and failure["kind"] != "cancelled":
            add_casualties(error, self._artifact, lost, self._run.stats()["task_count"])
        return error

    def run(
        self,
        on_error: str = "stop",
        *,
        replay: RunSchedule | None = None,
        max_cycles: int | None = None,
        max_actions: int | None = None,
    ) -> Self:
        """execute() with these options, and synchronize()."""
        self.execute(on_error, replay=replay, max_cycles=max_cycles, max_actions=max_actions)
        self.synchronize()
        return self

    def is_complete(self) -> bool:
        """Whether a run was started and is over."""
        return self._started and not self._run.is_running()

    def cancel(self) -> None:
        """Start no further task of the run; synchronize() then raises Cancelled."""
        if self._started:
            self._run.cancel()

    @property
    def stats(self) -> ProgramStats:
        """Figures of the last run that is over; of one that ended with an error, what it did until then (`stats.ended_with`)."""
        s = self._run.stats()
        if not self.is_complete() or len(s["kernel_counts"]) != len(self._artifact.wir.kernels):
            # not over, or another thread has started the next run meanwhile
            return ProgramStats(compile_time_ms=self.compile_time_ms, tiers=self._tier.tiers, tier_note=self._tier.note)
        failure = self._run.error()
        counts: dict[str, int] = {}
        for k, n in zip(self._artifact.wir.kernels, s["kernel_counts"], strict=True):
            counts[k.label] = counts.get(k.label, 0) + n
        return ProgramStats(
            compile_time_ms=self.compile_time_ms,
            semantic=semantic_stats(s, self._artifact.manifest, self._channel_names),
            real=RealStats(
                execute_time_ms=s["wall_ns"] / 1e6,
                threads=s["threads"],
                max_in_flight=s["max_in_flight"],
                arena_bytes=s["arena_bytes"],
                grid_cells=s["grid_cells"],
                boxed_tensors=s["boxed_tensors"],
                windows_in_flight=tuple(WindowInFlight(*w) for w in s["windows_in_flight"]),
                resources=resource_stats(s["resources"], failure is None),
            ),
            kernel_counts=counts,
            tiers=self._tier.tiers,
            tier_note=self._tier.note,
            ended_with="" if failure is None else in_a_line(self._artifact, failure),
        )

    @property
    def waiting_for(self) -> str | None:
        """What issue waits for at this moment in the run in progress, before another task can be issued: one of the reasons of
        `stats.real.resources`, such as "TASK_RING_FULL"; None when it does not wait. May be asked by any thread."""
        return self._run.waiting_for() or None

    # without running

    def simulate(
        self, *, scalars: Scalars | None = None, max_cycles: int | None = None, max_actions: int | None = None
    ) -> SemanticStats:
        """The semantic figures that a run would have, `program.stats.semantic`, without one: no kernel runs, and no array that tasks
        write is looked at. Sizes must be bound, and the arrays that extents, conditions, indices and gathers read; others need not be.

        scalars: `program.scalars` of an earlier run, under this schedule or another, where such a read is of what tasks compute.
        max_cycles, max_actions: bounds of pipelines, as of `execute`.
        Raises what a run would raise before any kernel fails, DeadlockError and WindowError among it; BindError for what is not
        bound and for scalars of another program or other sizes; UnsupportedError where scalars are needed, naming the read.
        """
        bounds = Bounds.of(max_cycles, max_actions, self._times)
        figures, _ = simulated(self._artifact, self._dry_run(scalars, bounds))
        self._simulated = (scalars,)
        return semantic_stats(figures, self._artifact.manifest, self._channel_names)

    def _dry_run(self, scalars: object, bounds: Bounds | None = None) -> Any:
        with self._lock:
            dry = dry_run(self._plan, self._bound, numbers_of(scalars, self._bound))
        if bounds is not None and self._has_pipelines:
            bounds.give(dry, self._plan)
        return dry

    @property
    def scalars(self) -> Scalars:
        """What the control of the workload has read in the last run from tensors that its tasks write, for `simulate`. Raises
        ExecutionError where no run has ended well, and where it has read more than is kept: 2^20 numbers, or what `keep_scalars` says."""
        record = self._run.tape() if self.is_complete() and self._run.error() is None else None
        missing = not self.is_complete() or self._run.error() is not None
        given = self._given or Given.of(self._bound)
        found = None if missing else scalars_of(record, given, self._artifact.wir)
        if found is None:
            raise ExecutionError(
                "PTO752",
                "no run has ended well" if missing else f"the run has read more than {self._kept:,} numbers",
                loc=here(),
                fix="program.run() first"
                if missing
                else f"program.keep_scalars({16 * self._kept}) before program.run()",
            )
        return found

    def keep_scalars(self, limit: int) -> Self:
        """Keep at most `limit` numbers for `scalars` in the next runs, 8 bytes each; of a run that reads more, none. Raises BindError."""
        _need(_is_integer(limit) and 0 <= limit < 2**40, "keep_scalars", "a number of 0 .. 2^40", limit)
        with self._lock:
            self._not_running("keep_scalars()")
            self._kept = int(limit)
            self._run.set_tape(self._kept)
        return self

    # looking at runs

    def enable_tracing(self, level: TraceLevel | str = TraceLevel.TASKS, *, limit: int = _MOST_TRACED) -> Self:
        """Record each task of the next runs, for `program.trace`; TraceLevel.NONE turns it off again.

        level: TraceLevel, or its value: "none", "tasks", "full" (with what each task had to wait for). limit: tasks that are kept
        of a run, the first in program order, 1 .. 10^8; `trace.dropped` counts the others. A task takes 120 bytes, and 8 for each
        coordinate; an edge 24, and there are 16 for each task of the limit at most. Results, cycles and all semantic figures are
        those of a run without. Raises BindError.
        """
        values = [v.value for v in TraceLevel]
        _need(isinstance(level, TraceLevel) or level in values, "enable_tracing", f"one of {', '.join(values)}", level)
        _need(_is_integer(limit) and 1 <= limit <= MOST_TASKS, "enable_tracing", "a limit of 1 .. 10^8 tasks", limit)
        self._need_feature("observe.tracing")
        with self._lock:
            self._not_running("enable_tracing()")
            self._tracing = (TraceLevel(level), int(limit))
            self._set_trace(self._run)
        return self

    def _set_trace(self, run: Any) -> None:
        level, limit = self._tracing
        levels = core().TraceLevel
        run.set_trace({"none": levels.off, "tasks": levels.tasks, "full": levels.full}[level.value], limit)

    @property
    def trace(self) -> ExecutionTrace:
        """The tasks of the last run that is over. Raises ExecutionError where it was not traced."""
        record = self._run.trace()
        if record is None:
            raise ExecutionError(
                *("PTO760", "there is no traced run that is over"),
                loc=here(),
                fix="program.enable_tracing() before program.run()",
            )
        return ExecutionTrace(columns_of(record, self._artifact), self._origin)

    def explain(self, *, limit: int = _MOST_EXPLAINED) -> Explanation:
        """Where the cycles of the last run went, or of a simulation since: critical path by task and line, use of lanes, stalls. It
        prints well.

        A run that was traced at level "full" is told by its trace, where that is whole. Else the program is simulated as it is bound
        now, with the scalars that the run has read or the simulation was given. limit: tasks that this may have, 1 .. 10^8; each takes
        about 1,200 bytes and 10 us. Raises what `simulate` does, and ExecutionError where there are more tasks.
        """
        _need(_is_integer(limit) and 1 <= limit <= MOST_TASKS, "explain", "a limit of 1 .. 10^8 tasks", limit)
        bounds = Bounds.of(None, None, self._times)
        if self._simulated is not None:
            return explained(self._artifact, self._dry_run(self._simulated[0], bounds), int(limit))
        if (record := self._run.trace()) is not None and not lacks(traced := columns_of(record, self._artifact)):
            look = self._has_pipelines and not self._waits
            return explain(traced, depths=throttling(self._dry_run(None), traced) if look else None)
        ended = self._waits and self.is_complete() and self._run.error() is None
        return explained(self._artifact, self._dry_run(self.scalars if ended else None, bounds), int(limit))

    # the artifact

    def callee(self) -> Any:
        """What the core needs for calls of this program from outside of Python; nothing is bound in it."""
        return core().Callee(self._plan, self._looks_for_races() if self._has_pipelines else [])

    def copy(self) -> Program:
        """Another program of the same artifact, with the same bindings, that can run beside this one."""
        other = Program(
            *(self._artifact, self._threads),
            plan=self._plan,
            check=self._check,
            scratch=self._scratch,
            tier=self._tier,
            resources=self._resources,
        )
        other.compile_time_ms = self.compile_time_ms
        other._tracing = self._tracing
        other._set_trace(other._run)
        other.keep_scalars(self._kept)
        other._times = dict(self._times)
        with self._lock:
            self._bound.copy_to(other._bound)
        return other

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "PTO003",
            "a program cannot be pickled or copied by copy.copy",
            loc=here(),
            fix="pickle program.to_bytes(), of which Program.from_bytes makes it again; or program.save(path); program.copy() copies",
        )

    def to_bytes(self) -> bytes:
        """The artifact as bytes, without arrays. The same workload gives the same bytes, source locations aside."""
        return self._artifact.to_bytes()

    @property
    def hash(self) -> str:
        """Content hash of the artifact, without source locations: SHA-256 in hex."""
        return self._artifact.hash

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artifact, whole or not at all. Raises ArtifactError."""
        _need(isinstance(path, (str, os.PathLike)), "save", "a path", path)
        self._artifact.save(path)

    @staticmethod
    def from_bytes(data: bytes, *, threads: int | None = None, resources: Resources | None = None) -> Program:
        """The program of an artifact's bytes; bind arrays before running it. Raises ArtifactError."""
        _need(isinstance(data, (bytes, bytearray, memoryview)), "from_bytes", "bytes", data)
        return Program(Artifact.from_bytes(bytes(data)), threads, resources=resources)

    @staticmethod
    def load(
        path: str | os.PathLike[str], *, threads: int | None = None, resources: Resources | None = None
    ) -> Program:
        """The program that `save` wrote; bind arrays before running it. Raises ArtifactError."""
        _need(isinstance(path, (str, os.PathLike)), "load", "a path", path)
        return Program(Artifact.load(path), threads, resources=resources)


def _trace_level(wir: Wir) -> TraceLevel:
    """What the schedule wants recorded."""
    scope = of_the_whole(wir, "trace")
    return TraceLevel.NONE if scope is None else TraceLevel(str(scope.params["level"]))


def _need(ok: bool, what: str, wanted: str, got: object) -> None:
    if not ok:
        values = {"got": repr(got)[:80]}
        raise BindError("PTO705", f"{what} takes {wanted}", values=values, loc=here(), fix=f"give {wanted}")


def _is_integer(x: object) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def _load_plan(artifact: Artifact) -> Any:
    """The plan, verified by the core and equal in its tables to the wir."""
    target = artifact.manifest["target"]
    if target not in TARGETS:
        raise ArtifactError(
            "PTO602",
            f"the artifact is for target {target!r}",
            values={"this version has": ", ".join(sorted(TARGETS))},
            loc=here(),
            fix="use the version of pto_wsp that wrote it, or compile for another target",
        )
    compiled = core()
    try:
        plan = compiled.Plan(artifact.plan)
    except compiled.PlanError as e:
        raise damaged(f"its plan: {e}") from e
    wir = artifact.wir
    tensors = [(v.name, wir.tensor_type(v.name).dtype.code, len(wir.tensor_type(v.name).shape)) for v in wir.tensors]
    same = [(t[0], t[1], t[3]) for t in plan.tensors()] == tensors and list(plan.symbols()) == list(wir.symbols)
    if not same or list(plan.kernels()) != [k.label for k in wir.kernels]:
        raise damaged("its plan and its wir name different tensors, symbols or kernels")
    for i, kernel in enumerate(wir.kernels):
        if is_cpp(kernel.body.eqns):
            _link_cpp(plan, i, kernel)
    return plan


def _tier(artifact: Artifact, plan: Any, native: Native | None) -> Tier:
    """The native tier of a plan. An artifact that asks for it runs without, with a warning, where it cannot be had."""
    recorded: Native = artifact.manifest["native"]
    mode = native if native is not None else "loaded" if recorded is True else recorded
    return Tier(plan, [(k.label, is_cpp(k.body.eqns)) for k in artifact.wir.kernels], mode)


def _link_cpp(plan: Any, i: int, kernel: Kernel) -> None:
    """Give a kernel of C++ its function. Raises CompileError."""
    entry = entry_of(kernel.body.eqns[0], kernel.label)
    try:
        plan.link_cpp(i, entry)
    except core().PlanError as e:
        raise damaged(f"its plan: {e}") from e
