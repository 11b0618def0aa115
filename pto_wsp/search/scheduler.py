"""AutoScheduler and auto_schedule: the search itself."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pto_wsp import arch as archs
from pto_wsp.api.workload import Workload
from pto_wsp.errors import Cancelled, Location, PtoError, ScheduleError, here
from pto_wsp.ir.core import read_tensors
from pto_wsp.ir.dependence import tensors_read_at_issue
from pto_wsp.runtime.program import Program, thread_count
from pto_wsp.search.bench import COSTS, Bench, Machine, difference
from pto_wsp.search.config import ScheduleConfig
from pto_wsp.search.result import SearchResult, SearchTable, Trial
from pto_wsp.search.space import SearchSpace, default_space
from pto_wsp.search.store import Entry, Store
from pto_wsp.search.strategy import Enough, exhaustive, local_search
from pto_wsp.trace.workload import Traced

Bind = Callable[[Program], object]


class AutoScheduler:
    """Searches a space for the schedule of the least cost: `AutoScheduler(space).explore(workload)`.

    cost     "simulate": cycles of semantic time, exact; no kernel runs, unless extents, conditions or indices read what tasks compute;
             "measured": milliseconds, the median of 5 runs on this machine
    seed     of the order in which a space is searched that is larger than `trials`; a smaller one is searched whole
    trials   most configurations that are tried, beside the given one
    seconds  no trial begins later than this; None: no such bound
    cache    a folder where results are kept: a search that was stopped or killed goes on where it was, and the same one again only
             reads. Files are named by the hash of the workload (its wir without locations, its sizes, and the data that its control
             reads), the arch, and of measured costs the machine and its threads. Any number of processes may use it at once. None: none
    arch, threads   as `Workload.compile` takes them

    Larger spaces are searched from random configurations along better neighbours; the same seed, space and costs give the same table.
    The arrays of the workload stay as they are: programs run on copies of what they write.
    Raises ScheduleError for a wrong option, CompileError for an unknown arch.
    """

    def __init__(
        self,
        search_space: SearchSpace,
        *,
        cost: str = "simulate",
        seed: int = 0,
        trials: int = 64,
        seconds: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        arch: Any = None,
        threads: int | None = None,
    ) -> None:
        _need(isinstance(search_space, SearchSpace), "a search space", search_space, "give a SearchSpace")
        _need(isinstance(cost, str) and cost in COSTS, "cost", cost, f"give one of {', '.join(COSTS)}")
        _need(_is_integer(seed), "seed", seed, "give an integer")
        _need(_is_integer(trials) and trials >= 1, "trials", trials, "give a positive integer")
        timed = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds >= 0
        _need(seconds is None or timed, "seconds", seconds, "give seconds, or None")
        _need(cache is None or isinstance(cache, (str, os.PathLike)), "cache", cache, "give the path of a folder")
        self.space, self.cost, self.seed, self.trials = search_space, cost, int(seed), int(trials)
        self.seconds = math.inf if seconds is None else float(seconds)
        self.cache, self.arch = cache, archs.get(arch)
        self.threads = None if threads is None else thread_count(threads)

    def explore(self, workload: Workload, *, bind: Bind | None = None) -> SearchResult:
        """The best configuration, a table of all that were tried, and the scheduled workload.

        bind: called with each program before it runs, to bind what the workload does not come with: sizes, arrays, slots. What a
        configuration's transformations or run refuse (any PtoError) is in the table with its reason, never raised; what fails
        without a schedule too is raised. Configurations with constants make other programs: these run, and one whose results differ
        by more than `SearchSpace.within` is refused.

        Raises TraceError for what is no traced workload, ScheduleError for loops and coordinates that it does not have, ArtifactError
        for a cache that cannot be used, and what running the workload as it is given raises.
        """
        Traced.need("AutoScheduler.explore", workload)
        _need(bind is None or callable(bind), "bind", bind, "give a function of a program")
        self.space.check_loops(workload)
        self.space.check_coordinates(workload)
        search = _Search(self, workload, Machine(self.arch, self.threads, bind))
        stopped = "all were tried"
        try:
            if self.space.size <= self.trials:
                exhaustive(self.space, search.evaluate)
            else:
                local_search(self.space, search.evaluate, self.trials, self.seed)
        except Enough as e:
            stopped = str(e)
        table = SearchTable(tuple(search.trials.values()), COSTS[self.cost][0], self.space.size, stopped)
        return SearchResult(table.best.config, table, search.made(table.best.config))


def auto_schedule(
    workload: Workload,
    space: SearchSpace | None = None,
    *,
    cost: str = "simulate",
    seed: int = 0,
    trials: int = 64,
    seconds: float | None = None,
    cache: str | os.PathLike[str] | None = None,
    arch: Any = None,
    threads: int | None = None,
    bind: Bind | None = None,
) -> tuple[Workload, SearchTable]:
    """The workload with the best schedule that a search finds, and a table of what was tried.

        scheduled, table = auto_schedule(attention(q, k, v, out))

    space: by default every shipped dispatch policy on the arch's lanes, keyed by each loop that all tasks are in, with work stealing and
    longest processing time first, and with the tasks of each loop body fused; a dispatch or ready policy of the workload itself stays.
    The rest is as in `AutoScheduler`.
    """
    Traced.need("auto_schedule", workload)
    space = default_space(workload, archs.get(arch)) if space is None else space
    scheduler = AutoScheduler(
        space, cost=cost, seed=seed, trials=trials, seconds=seconds, cache=cache, arch=arch, threads=threads
    )
    result = scheduler.explore(workload, bind=bind)
    return result.workload, result.table


class _Search:
    """One search: what was tried so far."""

    def __init__(self, scheduler: AutoScheduler, workload: Workload, machine: Machine) -> None:
        self._scheduler, self._workload, self._machine = scheduler, workload, machine
        self._end = time.monotonic() + scheduler.seconds
        self._variants: dict[Any, Workload] = {}
        given = machine.bench(workload)
        self._store = None if scheduler.cache is None else Store(scheduler.cache, self._key(given))
        self._want = None
        if scheduler.space.constants:
            given.run()
            self._want = given.outputs()
        entry = self._known("") or self._remember("", {"cost": self._price(given)})
        self._base: float = entry["cost"]
        self.trials = {"": Trial(ScheduleConfig(), self._base, 1.0)}

    def evaluate(self, rank: int) -> float:
        """Try configuration `rank` of the space; its cost. Raises Enough."""
        config = self._scheduler.space.config(rank)
        if config.key not in self.trials:
            if len(self.trials) > self._scheduler.trials:
                raise Enough("trials")
            if time.monotonic() > self._end:
                raise Enough("time")
            self.trials[config.key] = self._trial(config)
        cost = self.trials[config.key].cost
        return math.inf if cost is None else cost

    def made(self, config: ScheduleConfig) -> Workload:
        """The workload with a configuration."""
        if not config.constants:
            return config.apply(self._workload)
        if config.constants not in self._variants:
            make = self._scheduler.space.make
            assert make is not None
            self._variants[config.constants] = ScheduleConfig(constants=config.constants).apply(make)
        return replace(config, constants=()).apply(self._variants[config.constants])

    def _trial(self, config: ScheduleConfig) -> Trial:
        try:
            workload = self.made(config)
            key = config.key + (f" of {self._variant(config)}" if config.constants else "")
            entry = self._known(key) or self._remember(key, self._tried(config, workload))
        except Cancelled:
            raise
        except PtoError as e:  # of transformations: found again as fast as read
            entry = _refused(e)
        cost = entry.get("cost")
        ratio = None if cost is None else cost / self._base if self._base else 1.0
        return Trial(config, cost, ratio, entry.get("refused", ""), entry.get("error"), entry.get("bound"))

    def _tried(self, config: ScheduleConfig, workload: Workload) -> Entry:
        """What compiling and running a configuration gives."""
        try:
            bench = self._machine.bench(workload)
            compared = self._compare(bench) if config.constants else {}
            return compared if "refused" in compared else {"cost": self._price(bench), **compared}
        except Cancelled:
            raise
        except PtoError as e:
            return _refused(e)

    def _compare(self, bench: Bench) -> Entry:
        """Of another program: how far its results lie from the given one's."""
        assert self._want is not None
        bench.run()
        found = difference(self._want, bench.outputs(), self._scheduler.space.within)
        if found is None:
            return {"refused": "its results have other names, shapes or dtypes than the given workload's"}
        if not found.of_bound <= 1:
            return {"refused": f"its results differ by {found.error:.3g}, and may by {found.bound:.3g}"}
        return {"error": found.error, "bound": found.bound}

    def _price(self, bench: Bench) -> float:
        return COSTS[self._scheduler.cost][1](bench)

    def _known(self, key: str) -> Entry | None:
        return None if self._store is None else self._store.get(key)

    def _remember(self, key: str, entry: Entry) -> Entry:
        if self._store is not None:
            self._store.add(key, entry)
        return entry

    def _variant(self, config: ScheduleConfig) -> str:
        """What says which program the constants made, and which results are good enough."""
        made = self._variants[config.constants]
        return _hash(str(made.wir), sorted(made.sizes.items()), self._scheduler.space.within)

    def _key(self, given: Bench) -> str:
        """What the results of a search depend on, beside the configuration."""
        wir, program, scheduler = self._workload.wir, given.program, self._scheduler
        bound = [sorted(program.axis_sizes.items()), sorted(program.slots.items())]
        parts: list[Any] = [program.hash, bound, scheduler.cost]
        if scheduler.space.constants or wir.axes or tensors_read_at_issue(wir):
            read = read_tensors(wir) | tensors_read_at_issue(wir) | {t for a in wir.axes for t in a.tensors}
            parts += [_data(n, a) for n, a in sorted(program.tensors.items()) if n in read]
        if scheduler.cost == "measured":
            parts += [platform.node(), platform.machine(), os.cpu_count(), thread_count(scheduler.threads)]
        return _hash(*parts)


def _data(name: str, array: np.ndarray[Any, Any]) -> str:
    return f"{name} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _refused(e: PtoError) -> Entry:
    values = "; ".join(f"{k}: {v}" for k, v in e.values.items() if not isinstance(v, Location))
    return {"refused": f"[{e.code}] {e.what}" + (f" ({values})" if values else "")}


def _is_integer(x: object) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def _need(good: bool, name: str, value: object, fix: str) -> None:
    if not good:
        raise ScheduleError("PTO431", f"AutoScheduler: {name} is {repr(value)[:80]}", loc=here(), fix=fix)
