"""The tasks of a traced run as columns, and what every picture of them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pto_wsp.errors import BindError, Location, here
from pto_wsp.runtime.views.pipes import Pipes, no_pipes

Ints = npt.NDArray[Any]

FIRST_PIPELINE = -(2**40)
"""Of the numbers in edges that stand for pipelines, downwards; the core has the same. Those of joins are above."""


@dataclass(frozen=True)
class Site:
    """A call of a kernel in a workload. `names`: of its coordinates, "" where one has none; `loc`: the user's line."""

    kernel: str
    names: tuple[str, ...]
    loc: Location | None

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The names of the coordinates, each once: by place where there is no name or another has it."""
        return tuple(
            name if name and name not in self.names[:k] else f"{name}.{k}" if name else str(k)
            for k, name in enumerate(self.names)
        )


@dataclass(frozen=True)
class Timing:
    """What the schedule and the arch say of a run as a whole: cycles from one issue to the next, from ready to the queue, and of a
    boundary; tasks issued before lanes take any; tasks of each scope of batches; lanes."""

    issue_cost: int
    handover: int
    read_cost: int
    start: int
    batches: tuple[int, ...]
    lanes: int


class Lists(dict[str, list[Any]]):
    """Columns as lists, each made when it is asked for."""

    def __init__(self, arrays: dict[str, Ints]) -> None:
        super().__init__()
        self._arrays = arrays

    def __missing__(self, name: str) -> list[Any]:
        self[name] = made = self._arrays[name].tolist()
        return made


@dataclass(frozen=True, eq=False)
class Columns:
    """See ExecutionTrace."""

    arrays: dict[str, Ints]
    sites: tuple[Site, ...]
    arch: str
    timing: Timing
    full: bool  # edges were recorded
    dropped: int
    dropped_edges: int
    pipes: Pipes = field(default_factory=no_pipes)

    def __len__(self) -> int:
        return len(self.arrays["site"])

    @cached_property
    def lists(self) -> Lists:
        """The columns as lists, whose elements are found much faster."""
        return Lists(self.arrays)

    def site_of(self, i: int) -> Site:
        return self.sites[self.lists["site"][i]]

    def coords_of(self, i: int) -> dict[str, int]:
        return dict(zip(self.site_of(i).keys, self.arrays["coords"][i].tolist(), strict=False))

    def name_of(self, i: int) -> str:
        site = self.site_of(i)
        coords = self.arrays["coords"][i].tolist()
        shown = [f"{name}={n}" if name else str(n) for name, n in zip(site.names, coords, strict=False)]
        return f"{site.kernel}[{', '.join(shown)}]"

    @cached_property
    def issue_order(self) -> list[int]:
        """The tasks that were issued, in that order."""
        order = self.arrays["order"]
        ids = np.flatnonzero(order >= 0)
        return ids[np.argsort(order[ids])].tolist()

    @cached_property
    def before_in_stream(self) -> list[int]:
        """For each task, the one issued before it in its stream; -1 where there is none."""
        before = [-1] * len(self)
        last: dict[tuple[int, int], int] = {}
        for i in self.issue_order:
            if (scope := self.lists["stream_scope"][i]) < 0:
                continue
            stream = scope, self.lists["stream"][i]
            before[i] = last.get(stream, -1)
            last[stream] = i
        return before

    @cached_property
    def waits(self) -> list[tuple[int, int]]:
        """The edges from a task or pipeline to one or to a join: of a join, from the member that ended last; -1 where that is not known."""
        edges = self.arrays["edges"]
        last = _last_members(edges, self.span_of)
        both = zip(edges[:, 0].tolist(), edges[:, 1].tolist(), strict=True)
        return [(last.get(source, -1) if is_join(source) else source, target) for source, target in both]

    def span_of(self, node: int) -> tuple[int, int]:
        """When a task or pipeline of `edges` began and ended."""
        if node >= 0:
            return self.lists["start"][node], self.lists["end"][node]
        run = FIRST_PIPELINE - node
        return int(self.pipes.runs["start"][run]), int(self.pipes.runs["end"][run])

    @property
    def kernels(self) -> tuple[str, ...]:
        """The labels of kernels, each once, in the order of the workload."""
        return tuple(dict.fromkeys(s.kernel for s in self.sites))

    def kernel_numbers(self) -> Ints:
        """For each task, the place of its kernel in `kernels`."""
        numbers = {label: k for k, label in enumerate(self.kernels)}
        of_site = np.array([numbers[s.kernel] for s in self.sites], np.int64)
        return of_site[self.arrays["site"]]


def is_join(node: int) -> bool:
    """Whether a number in edges stands for a join."""
    return FIRST_PIPELINE < node < 0


def _last_members(edges: Ints, span: Callable[[int], tuple[int, int]]) -> dict[int, int]:
    """For each join, the task or pipeline among its members, and members of members, that ended last."""
    members: dict[int, list[int]] = {}
    for source, target in edges[(edges[:, 1] < 0) & (edges[:, 1] > FIRST_PIPELINE)].tolist():
        members.setdefault(target, []).append(source)
    last: dict[int, int] = {}
    for join in members:
        stack = [join]
        while stack:
            inner = [m for m in members.get(stack[-1], []) if is_join(m) and m not in last]
            if inner:
                stack.extend(inner)
                continue
            found = stack.pop()
            tasks = [last[m] if is_join(m) else m for m in members.get(found, [])]
            last[found] = max((t for t in tasks if not is_join(t)), key=lambda t: (span(t)[1], t), default=-1)
    return last


@dataclass(frozen=True, eq=False)
class Spans:
    """Tasks that ran, as spans of one kind of time: `ids` of the tasks, the `rows` they stand in, `start` and `end`."""

    ids: Ints
    rows: Ints
    start: Ints
    end: Ints
    unit: str
    row_name: str


def spans(c: Columns, time: str) -> Spans:
    """By lane in cycles, or by thread in nanoseconds. Tasks of processes take no lane."""
    first, last, row = ("start", "end", "lane") if time == "semantic" else ("started_ns", "ended_ns", "thread")
    ids = np.flatnonzero((c.arrays[last] >= 0) & (c.arrays[row] >= 0))
    unit = "cycles" if time == "semantic" else "ns"
    at = [c.arrays[n][ids] for n in (row, first, last)]
    return Spans(ids, at[0], at[1], at[2], unit, "lane" if time == "semantic" else "thread")


def write(path: str, what: str, parts: Iterable[str]) -> None:
    """Write text. Raises BindError (PTO763)."""
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 - by name
            file.writelines(parts)
    except OSError as e:
        raise not_written(path, what, e) from e


def not_written(path: str, what: str, why: OSError) -> BindError:
    """The error where a picture cannot be written."""
    values = {"path": path, "because": why.strerror or why}
    fix = "give the path of a file that can be written"
    return BindError("PTO763", f"{what} cannot be written", values=values, loc=here(), fix=fix)
