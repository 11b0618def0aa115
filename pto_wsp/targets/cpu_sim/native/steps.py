"""The steps of a planned kernel, as the core describes them (csrc/include/pto_wsp/kernel.hpp: GroupInfo)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Extent = tuple[str, int]
"""("c", n): the number n; others: equal extents are equal for all arguments."""


@dataclass(frozen=True)
class Operand:
    """Where an operand lies, and which value of the kernel it is; -1: memory of a parameter, a number or a scalar."""

    is_value: bool
    value: int
    dtype: str
    base: int
    offset: int
    stride: int
    one_row: bool
    of_strip: bool
    cols: int

    @property
    def memory(self) -> tuple[int, int]:
        """Operands of different memories do not overlap, those of strips aside."""
        return (self.base, -1 if self.base >= FIRST_PARAM else self.offset)

    @property
    def place(self) -> tuple[object, ...]:
        """Operands of equal places have each element in the same bytes."""
        return (self.base, self.offset, self.stride, self.one_row, self.of_strip, self.dtype)


FIRST_PARAM = 2


@dataclass(frozen=True)
class Step:
    """One tile operation. kept: its result must be in memory. number: among all steps of the kernel."""

    number: int
    op: str
    operand: str
    result: Operand
    kept: bool
    sources: tuple[Operand, ...]
    immediate: int
    extents: tuple[Extent, Extent, Extent]

    @property
    def rows(self) -> Extent:
        return self.extents[0]

    @property
    def is_wide(self) -> bool:
        """Whether its result has columns; else it is a number a row."""
        return self.result.cols > 1


Place = tuple[int, int]
"""An extent of a step: (number of the step, 0 rows, 1 cols, 2 inner)."""


@dataclass(frozen=True)
class Group:
    """Steps that run together, strip by strip of rows. Their extents of one static size count as equal, as they are but for outputs
    that are smaller than what is computed: `equal` are the pairs that a task must have for that."""

    whole: bool
    steps: tuple[Step, ...]
    equal: tuple[tuple[Place, Place], ...]


def groups_of(described: Sequence[Mapping[str, Any]]) -> tuple[Group, ...]:
    """What `Plan.groups(kernel)` of the core says."""
    return tuple(map(_group, described))


def _group(g: Mapping[str, Any]) -> Group:
    first: dict[tuple[str, int], tuple[Extent, Place]] = {}
    equal: dict[tuple[Extent, Extent], tuple[Place, Place]] = {}
    steps: list[Step] = []
    for i, described in enumerate(g["steps"]):
        s = _step(g["first"] + i, described)
        extents = list(s.extents)
        for which, size in ((0, ("rows", 0)), (1, ("cols", s.result.cols)), (2, ("cols", _inner(s)))):
            e = extents[which]
            if e[0] == "c" and e[1] != size[1]:
                continue  # no whole static size, which others may have by chance
            same, place = first.setdefault(size, (e, (s.number, which)))
            extents[which] = same
            if e != same:
                equal.setdefault((same, e), (place, (s.number, which)))
        steps.append(replace(s, extents=(extents[0], extents[1], extents[2])))
    return Group(g["whole"], tuple(steps), tuple(equal.values()))


def _inner(s: Step) -> int:
    """The static size of a step's third extent, which is that of its operand's columns where this counts."""
    return s.sources[0].cols if s.sources else 0


def _step(number: int, s: Mapping[str, Any]) -> Step:
    rows, cols, inner = s["extents"]
    return Step(
        number,
        s["op"],
        s["operand"],
        Operand(**s["result"]),
        s["kept"],
        tuple(Operand(**o) for o in s["sources"]),
        s["immediate"],
        (rows, cols, inner),
    )
