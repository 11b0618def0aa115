"""Which steps of a kernel are fused into one function, and the passes over columns that such a piece makes.

A value is *wide* (it has columns) or *thin* (one number a row). In a piece, thin values of sixteen rows are the lanes of one
register; wide ones are computed chunk by chunk of sixteen columns, in passes. A pass may use what the row reductions of earlier passes
gave. A value of one pass that a later one uses is computed again where that is cheap, else kept in memory.

    y = exp(x - rowmax(x)); out = y / rowsum(y)        pass 0: m = max(m, x)
                                                       pass 1: y = exp(x - m), kept; s = s + y
                                                       pass 2: out = y / s
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pto_wsp.targets.cpu_sim.native import operations
from pto_wsp.targets.cpu_sim.native.steps import FIRST_PARAM, Extent, Group, Operand, Place, Step

_CHEAP = 3
_MOST_STEPS = 48  # of a piece: what compiles in well under a second
_MOST_BUFFERED_BYTES = 128 << 10
_STRIP_BYTES = 48 << 10


@dataclass
class Pass:
    """One walk over the columns of a strip: steps in order, and those whose result is put into memory in it."""

    level: int
    cols: Extent
    steps: list[Step] = field(default_factory=list[Step])
    puts: set[int] = field(default_factory=set[int])
    buffers: set[int] = field(default_factory=set[int])


@dataclass
class Piece:
    """Consecutive steps that are fused.

    passes   by level
    thin     thin steps by the level before whose passes they are computed, in order
    buffered steps whose values a pass leaves in memory of the piece's own for later ones
    strip    most rows at a time
    equal    extents that a task must have equal to run it
    """

    steps: tuple[Step, ...]
    passes: list[Pass]
    thin: list[list[Step]]
    buffered: tuple[Step, ...]
    strip: int
    equal: tuple[tuple[Place, Place], ...] = ()


def pieces_of(groups: Sequence[Group]) -> Iterator[Piece]:
    """The pieces of a kernel, in the order of its steps."""
    for group in groups:
        if not group.whole:
            for run in _runs(group.steps):
                piece = _passes(_with_uses(run, group.steps))
                if piece is not None:
                    yield replace(piece, equal=group.equal)


def _with_uses(run: Sequence[Step], steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps of a piece, whose values are kept where another step of the group uses them."""
    inside = {s.number for s in run}
    used = {o.value for s in steps if s.number not in inside for o in s.sources if o.is_value}
    return tuple(replace(s, kept=s.kept or s.result.value in used) for s in run)


def _runs(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Steps in a row that can be one piece, where that gains something."""
    run: list[Step] = []
    for step in (*steps, None):
        if step is not None and _is_fusible(step) and (not run or run[0].rows == step.rows):
            run.append(step)
            continue
        yield from (r for r in _cut(run, steps) if sum(operations.cost(s) > 0 for s in r) > 1)
        run = [step] if step is not None and _is_fusible(step) else []


def _cut(run: Sequence[Step], steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """A run in pieces, each as long as it can be."""
    while run:
        n = min(len(run), _MOST_STEPS)
        while n > 1 and _conflicts(_with_uses(run[:n], steps), steps):
            n -= 1
        yield tuple(run[:n])
        run = run[n:]


def _is_fusible(s: Step) -> bool:
    if any(o.dtype not in operations.TAGS for o in (s.result, *s.sources)):
        return False
    if s.op == "count_cols":
        return True
    if s.op in operations.REDUCTIONS:
        return s.operand != "bool" and s.sources[0].cols > 1 and not s.sources[0].one_row
    if s.op == "iota":
        return True
    if operations.function(s) is None:
        return False
    return all(o.cols in (1, s.result.cols) for o in s.sources)


def _conflicts(run: Sequence[Step], steps: Sequence[Step]) -> bool:
    """Whether passes over steps that keep these results would read what they have overwritten, or leave other bits.

    A value has its place until its last use; then others, of other sizes, may lie there. One in just the same place does no harm: each
    of its elements is written after what was there is read.
    """
    last: dict[int, int] = {}
    for s in steps:
        last |= dict.fromkeys((o.value for o in s.sources if o.is_value), s.number)
    inside = {s.result.value for s in run if s.result.value >= 0}
    written: list[Operand] = []
    read: list[Operand] = []
    for s in run:
        outside = [o for o in s.sources if _is_outside(o, inside)]
        if outside and s.op in operations.COPIES and s.operand in operations.HALVES:
            return True
        if any(w.memory == o.memory for w in written for o in outside):
            return True
        read += outside
        if not s.kept:
            continue
        if any(w.memory == s.result.memory for w in written):
            return True
        gone = (o for o in read if o.is_value and o.base == s.result.base < FIRST_PARAM and last[o.value] <= s.number)
        if not all(o.place == s.result.place for o in gone):
            return True
        written.append(s.result)
    return False


def _is_outside(o: Operand, inside: set[int]) -> bool:
    return not (o.is_value and o.value in inside)


class _Levels:
    """In which pass a value can be computed first: after the reductions that it needs."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.made = {s.result.value: s for s in steps if s.op != "store"}
        self.level: dict[int, int] = {}
        for s in steps:
            inner = [self.made[o.value] for o in s.sources if o.value in self.made]
            level = max((self.level[x.number] for x in inner), default=0)
            self.level[s.number] = level + 1 if s.op in operations.REDUCTIONS else level

    def source(self, o: Operand) -> Step | None:
        """The step of the piece that makes an operand."""
        return self.made.get(o.value) if o.is_value else None


def _domain(s: Step) -> Extent:
    """The columns that a wide step or a reduction walks over."""
    return s.extents[2] if s.op in operations.REDUCTIONS else s.extents[1]


def _passes(steps: tuple[Step, ...]) -> Piece | None:
    levels = _Levels(steps)
    level = dict(levels.level)  # of what is put into memory, and of reductions: their pass
    for s in steps:
        if s.op in operations.REDUCTIONS:
            level[s.number] -= 1
    roots = [s for s in steps if s.op in operations.REDUCTIONS or (s.is_wide and s.kept)]
    buffered: set[int] = set()
    while True:
        passes = _scheduled(steps, levels, roots, level, buffered)
        if passes is None:
            return None
        again = _expensive(passes, levels, buffered)
        late = {} if again else _raised(passes, levels, level)
        if not again and not late:
            break
        buffered |= again
        level |= late
    used = {n for p in passes for n in p.buffers}
    in_memory = tuple(s for s in steps if s.number in used)
    row = sum(s.result.cols * 4 for s in in_memory)
    if row > _MOST_BUFFERED_BYTES:
        return None
    thin = [s for s in steps if not s.is_wide]
    n = 1 + max([p.level for p in passes] + [levels.level[s.number] for s in thin], default=0)
    by_level = [[s for s in thin if levels.level[s.number] == k] for k in range(n)]
    wide = sum(o.cols * 4 for s in steps for o in (s.result, *s.sources) if o.cols > 1 and (s.kept or not o.is_value))
    strip = max(4, min(16, _STRIP_BYTES // max(1, wide + row)))
    while strip > 1 and strip * row > _MOST_BUFFERED_BYTES:
        strip //= 2
    return Piece(steps, passes, by_level, in_memory, strip)


def _scheduled(
    steps: Sequence[Step], levels: _Levels, roots: Sequence[Step], level: dict[int, int], buffered: set[int]
) -> list[Pass] | None:
    """The passes that put each root where `level` says; values in `buffered` are computed once. None: a value would be read
    further than it is computed."""
    passes: list[Pass] = []
    there: dict[int, Extent] = {}  # buffered values that earlier passes have computed, and how far
    for k in sorted({level[r.number] for r in roots}):
        of_level = [r for r in roots if level[r.number] == k]
        for cols in dict.fromkeys(map(_domain, of_level)):
            p = Pass(k, cols)
            pending = [r for r in of_level if _domain(r) == cols]
            p.puts = {r.number for r in pending if r.is_wide}
            needed: set[int] = set()
            while pending:
                s = pending.pop()
                if s.number in needed or (s.number in there and s.number not in p.puts):
                    if there.get(s.number, cols) != cols:
                        return None
                    continue
                needed.add(s.number)
                pending += [x for x in map(levels.source, s.sources) if x is not None and x.is_wide]
            p.steps = [s for s in steps if s.number in needed]
            p.buffers = {n for n in needed if n in buffered and n not in there}
            there |= dict.fromkeys(p.buffers, cols)
            passes.append(p)
    return passes


def _expensive(passes: Sequence[Pass], levels: _Levels, buffered: set[int]) -> set[int]:
    """Values that several passes compute and that cost too much for that."""
    times: dict[int, int] = {}
    by_number: dict[int, Step] = {}
    for p in passes:
        for s in p.steps:
            if s.op not in operations.REDUCTIONS:
                times[s.number] = times.get(s.number, 0) + 1
                by_number[s.number] = s
    repeated = {n for n, k in times.items() if k > 1 and n not in buffered}
    heavy = {n for n in repeated if _cone(by_number[n], levels, buffered) > _CHEAP}
    # of a chain its end: what leads to it alone is then computed once
    return {n for n in heavy if not any(_feeds(levels, n, by_number[m]) for m in heavy if m != n)}


def _cone(s: Step, levels: _Levels, buffered: set[int]) -> int:
    """The cost of a value from what is in memory."""
    seen: set[int] = set()

    def visit(x: Step) -> int:
        if x.number in seen or x.number in buffered or not x.is_wide:
            return 0
        seen.add(x.number)
        inner = (levels.source(o) for o in x.sources)
        return operations.cost(x) + sum(visit(i) for i in inner if i is not None)

    return visit(s)


def _feeds(levels: _Levels, number: int, s: Step) -> bool:
    return any(x is not None and x.number == number for x in map(levels.source, s.sources))


def _raised(passes: Sequence[Pass], levels: _Levels, level: dict[int, int]) -> dict[int, int]:
    """Writes that come before another pass has read what the memory holds: the pass they must wait for."""
    late: dict[int, int] = {}
    for w in (s for p in passes for s in p.steps if s.number in p.puts):
        for p in passes:
            read = {o.memory for s in p.steps for o in s.sources if levels.source(o) is None}
            if w.result.memory in read and p.level > level[w.number]:
                late[w.number] = max(late.get(w.number, 0), p.level)
    return late
