"""What a search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from pto_wsp.api.workload import Workload
from pto_wsp.search.config import ScheduleConfig


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried.

    cost     cycles or milliseconds; None where it was refused
    ratio    the cost by that of the unscheduled workload: below 1 is better
    refused  why there is no cost: the error of a transformation or run; "" where there is one
    error    with constants, which make another program: the largest difference of its results to those of the unscheduled one, by the
             largest magnitude of the array; None for the same program
    bound    what that may be
    """

    config: ScheduleConfig
    cost: float | None
    ratio: float | None
    refused: str = ""
    error: float | None = None
    bound: float | None = None

    @property
    def results(self) -> str:
        """In words, how its results compare with the unscheduled ones."""
        if self.error is None:
            return "the same bits" if not self.refused else "-"
        return f"within {self.error:.1e} ({self.bound:.1e})"


@dataclass(frozen=True, repr=False)
class SearchTable(Sequence[Trial]):
    """The configurations that were tried, in that order; the first one changes nothing. `str(table)` sorts them, the best first.

    unit      of the costs: "cycles" or "ms"
    size      configurations of the space
    stopped   why the search was over: "all were tried", "trials", "time"
    """

    trials: tuple[Trial, ...]
    unit: str
    size: int
    stopped: str

    @overload
    def __getitem__(self, i: int) -> Trial: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[Trial, ...]: ...
    def __getitem__(self, i: int | slice) -> Trial | tuple[Trial, ...]:
        return self.trials[i]

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def best(self) -> Trial:
        """The one of the least cost, of several the first."""
        return min((t for t in self.trials if t.cost is not None), key=lambda t: t.cost or 0.0)

    def __str__(self) -> str:
        ran = sorted((t for t in self.trials if t.cost is not None), key=lambda t: t.cost or 0.0)
        other = any(t.error is not None for t in self.trials)
        rows = [(self.unit, "ratio", *(("results (bound)",) if other else ()), "configuration")]
        rows += [(_number(t.cost), f"{t.ratio:.3f}", *((t.results,) if other else ()), str(t.config)) for t in ran]
        widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]) - 1)]
        lines = ["  ".join([*(c.rjust(w) for c, w in zip(r, widths, strict=False)), r[-1]]) for r in rows]
        refused = [t for t in self.trials if t.refused]
        lines += [f"refused: {t.config}: {t.refused}" for t in refused]
        return "\n".join([*lines, f"tried the given one, and {len(self) - 1} of {self.size}; stopped: {self.stopped}"])

    def __repr__(self) -> str:
        return f"<SearchTable of {len(self)} trials, best {self.best.config}>"


def _number(cost: float | None) -> str:
    return f"{cost:,}" if isinstance(cost, int) else f"{cost:,.4f}"


@dataclass(frozen=True, repr=False)
class SearchResult:
    """best: the configuration of the least cost; table: what was tried; workload: the scheduled workload."""

    best: ScheduleConfig
    table: SearchTable
    workload: Workload

    def __str__(self) -> str:
        return f"best: {self.best}\n{self.table}"

    def __repr__(self) -> str:
        return f"<SearchResult: {self.best}>"
