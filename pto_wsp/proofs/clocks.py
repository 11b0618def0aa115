"""Vector clocks: what has happened before what, in strands of actions that hand tokens to each other.

A strand is what comes one after another: a process, or one iteration of a loop of it whose iterations are in no order that is known.
It is cut into steps at each token that it gives or takes. Of each step is kept which step of each other strand is before it.
"""

from __future__ import annotations

from collections.abc import Mapping

Past = Mapping[int, int]
"""By strand, the last of its steps that is before."""


class Strand:
    """One of `clocks`, at its step `step`."""

    __slots__ = ("_clocks", "number")

    def __init__(self, clocks: Clocks, number: int) -> None:
        self._clocks, self.number = clocks, number

    @property
    def step(self) -> int:
        return len(self._clocks.pasts[self.number]) - 1

    @property
    def past(self) -> Past:
        return self._clocks.pasts[self.number][-1]

    def give(self) -> Past:
        """What is before whoever gets this; then the next step."""
        out = {**self.past, self.number: self.step}
        self._clocks.add(self.number, self.past)
        return out

    def take(self, *given: Past) -> None:
        """The next step, behind what was given."""
        merged = dict(self.past)
        for past in given:
            for strand, step in past.items():
                if merged.get(strand, -1) < step:
                    merged[strand] = step
        self._clocks.add(self.number, merged)


class Clocks:
    """Strands by number: the pasts of their steps, and the process that each is of."""

    def __init__(self) -> None:
        self.pasts: list[list[Past]] = []
        self.process: list[int] = []
        self.size = 0

    def strand(self, process: int, past: Past) -> Strand:
        """A new one, behind `past`."""
        self.pasts.append([])
        self.process.append(process)
        number = len(self.pasts) - 1
        self.add(number, past)
        return Strand(self, number)

    def add(self, strand: int, past: Past) -> None:
        """The next step of a strand."""
        self.pasts[strand].append(past)
        self.size += 1 + len(past)

    def first_after(self, strand: int, step: int, other: int) -> int:
        """The first step of `other` that is behind that step of `strand`; beyond the last where there is none."""
        pasts = self.pasts[other]
        low, high = 0, len(pasts)
        while low < high:
            middle = (low + high) // 2
            if pasts[middle].get(strand, -1) >= step:
                high = middle
            else:
                low = middle + 1
        return low
