"""Random rewrites of loops for property tests, and functions under them: what stands before, between and behind schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from pto_wsp import ScheduleError, fuse, interchange, split, tile, unroll
from pto_wsp.transforms.loops import Place, axis, places, variable
from schedules import directive, names_of

Draw = Callable[[Any], Any]
Step = Callable[[Any], Any]


@dataclass
class Tried:
    """What was tried on one workload, and what of it was done."""

    rewrites: int = 0
    directives: int = 0
    refused: int = 0
    asked: set[bool] = field(default_factory=set[bool])  # True: a rewrite, False: a directive

    def attempt(self, w: Any, step: Step, *, rewrite: bool) -> Any:
        """w after the step, or as it is where the step is refused as documented."""
        self.asked.add(rewrite)
        try:
            w = step(w)
        except ScheduleError as e:
            if e.code not in ("PTO409", "PTO411", "PTO418") and "a window of" not in e.what:
                raise
            self.refused += 1
            return w
        self.rewrites += rewrite
        self.directives += not rewrite
        return w

    @property
    def both(self) -> bool:
        return self.rewrites > 0 and self.directives > 0


def path(p: Place) -> str:
    return "/" + "/".join(map(variable, p.around))


def nests(loops: list[Place]) -> Iterator[tuple[Place, Place]]:
    """P loops, each with the next P loop inside of it."""
    for inner in loops:
        for outer in loops:
            if inner.around[:-1] == outer.around and outer.loop.prim == inner.loop.prim == "parallel_for":
                yield outer, inner


def rewrite(draw: Draw, w: Any) -> Step | None:
    """A rewrite of some loop; None where there is nothing to rewrite."""
    loops, n = list(places(w.wir)), draw(st.integers(1, 3))
    pairs = list(nests(loops))
    bodies = [p for p in loops if sum(e.prim == "task" for e in p.loop.regions[0].eqns) > 1]
    short = [p for p in loops if axis(p.loop).extent.is_const and axis(p.loop).extent.const <= 4]
    kinds = {"split": loops, "groups": loops, "unroll": short, "interchange": pairs, "tile": pairs, "fuse": bodies}
    if not loops:
        return None
    kind = draw(st.sampled_from(sorted(k for k, of in kinds.items() if of)))
    of: Any = draw(st.sampled_from(kinds[kind]))
    match kind:
        case "split":
            return split(loop=path(of), size=n)
        case "groups":
            return unroll(loop=path(of), factor=n)
        case "unroll":
            return unroll(loop=path(of))
        case "interchange":
            return interchange(outer=path(of[0]), inner=path(of[1]))
        case "tile":
            return tile(sizes={path(of[0]): n, path(of[1]): 2})
        case _:
            return fuse(loop=path(of))


@dataclass
class Steps:
    """Random directives and rewrites in any order, of a workload, or of a function whenever it is traced: then again the same."""

    draw: Draw
    tried: Tried
    most: int = 4
    taken: list[Step] | None = None
    more: tuple[str, ...] = field(default=())

    def __call__(self, w: Any) -> Any:
        if self.taken is None:
            self.taken = []
            rewriting = self.draw(st.booleans())
            for k in range(self.draw(st.integers(2, self.most))):
                w = self.one(w, rewriting ^ (k % 2 == 1))
            return w
        for step in self.taken:
            w = step(w)
        return w

    def one(self, w: Any, rewriting: bool) -> Any:
        assert self.taken is not None
        names = sorted({*names_of(w), *self.more})
        step = rewrite(self.draw, w) if rewriting else directive(self.draw, names)
        if step is None:
            return w
        refused = self.tried.refused
        w = self.tried.attempt(w, step, rewrite=rewriting)
        if self.tried.refused == refused:
            self.taken.append(step)
        return w
