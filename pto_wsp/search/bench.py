"""What one configuration costs: its program simulated, or run on copies of the arrays that it writes."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pto_wsp.api.workload import Workload
from pto_wsp.arch import Arch
from pto_wsp.errors import ScheduleWarning, UnsupportedError
from pto_wsp.ir.core import written_tensors
from pto_wsp.runtime.program import Program

Array = np.ndarray[Any, Any]
RUNS = 5
"""A measured cost is the median of so many runs, after a first one."""

# of results of another program: largest difference to the unscheduled one's, by the largest magnitude of the array
_BOUNDS = {"f": 2.0**-14, "d": 2.0**-40, "e": 2.0**-8}
_COARSE = 2.0**-5  # bf16 and the like


@dataclass(frozen=True)
class Machine:
    """Where programs run. bind: what gives them values that the workload does not come with."""

    arch: Arch
    threads: int | None
    bind: Callable[[Program], object] | None

    def bench(self, workload: Workload) -> Bench:
        """The workload's program, ready to run. Raises what compiling and binding raise."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScheduleWarning)  # policies of a space are for all its candidates
            program = workload.compile(arch=self.arch, threads=self.threads)
        if self.bind is not None:
            self.bind(program)
        return Bench(program, written_tensors(workload.wir))


class Bench:
    """A program that leaves the arrays it was bound to as they are."""

    def __init__(self, program: Program, written: frozenset[str]) -> None:
        self.program = program
        self._given = {n: a for n, a in program.tensors.items() if n in written}
        self._own: dict[str, Array] = {}

    def run(self) -> None:
        """One run, from the values that were given."""
        self._begin()
        self.program.run()

    def _begin(self) -> None:
        if not self._own:
            self._own = {n: a.copy() for n, a in self._given.items()}
            self.program.bind(self._own)
        for name, given in self._given.items():
            np.copyto(self._own[name], given)

    def cycles(self) -> int:
        """Semantic time, simulated; of a run where its control reads what its tasks compute."""
        try:
            return self.program.simulate().total_cycles
        except UnsupportedError:
            self.run()
            return self.program.stats.total_cycles

    def milliseconds(self) -> float:
        """The median time of some runs, measured."""
        self.run()
        times: list[float] = []
        for _ in range(RUNS):
            self._begin()
            begin = time.perf_counter()
            self.program.run()
            times.append((time.perf_counter() - begin) * 1e3)
        return statistics.median(times)

    def outputs(self) -> dict[str, Array]:
        """What the last run wrote and gave, as copies."""
        results: Any = self.program.results
        several = results if isinstance(results, tuple) else () if results is None else (results,)
        named = {f"result {i}": a for i, a in enumerate(several)}
        return {n: a.copy() for n, a in (self._own | named).items()}


COSTS: Mapping[str, tuple[str, Callable[[Bench], float]]] = {
    "simulate": ("cycles", Bench.cycles),
    "measured": ("ms", Bench.milliseconds),
}
"""By name of a cost: its unit, and how it is found."""


@dataclass(frozen=True)
class Difference:
    """How far results lie from the unscheduled program's. error: the largest difference, by the largest magnitude of the array; bound: what
    that may be. of_bound: above 1, the results are wrong."""

    error: float
    bound: float

    @property
    def of_bound(self) -> float:
        if self.error == 0:
            return 0.0
        return self.error / self.bound if self.bound else np.inf


def difference(want: Mapping[str, Array], got: Mapping[str, Array], within: float | None) -> Difference | None:
    """The difference that is the largest part of its bound; None where the results have other names or shapes."""
    if {n: (a.shape, a.dtype) for n, a in want.items()} != {n: (a.shape, a.dtype) for n, a in got.items()}:
        return None
    found = [_difference(want[n], got[n], within) for n in want]
    return max(found, key=lambda d: d.of_bound, default=Difference(0.0, 0.0))


def _difference(want: Array, got: Array, within: float | None) -> Difference:
    if want.dtype.kind in "iub":
        return Difference(0.0 if np.array_equal(want, got) else np.inf, 0.0)
    bound = _BOUNDS.get(want.dtype.char, _COARSE) if within is None else within
    a, b = want.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    largest = np.max(np.abs(a), where=np.isfinite(a), initial=0.0)
    top = np.max(apart, initial=0.0)
    if top == 0:
        return Difference(0.0, bound)
    return Difference(float(top / largest) if np.isfinite(top) and largest > 0 else np.inf, bound)
