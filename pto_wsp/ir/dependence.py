"""Which tasks of a workload may touch common elements: the proofs of independence, the races, and what must be tracked.

(docs/language.md, Order.) Two instances of task sites conflict when they touch a common element of one tensor and one writes it.
Where they first differ in a `seq_for` loop or in different parts of `sequential`, structure orders them. Where they first
differ in a `parallel_for` loop the conflict is a race. Where they differ only by their place in a body, program order holds
and the run tracks it; or, where the workload says `explicit`, `after` must say it.

What scalars and gathers read while tasks are issued conflicts with nothing that comes later; the run waits for what wrote it.

In a pipeline each process orders its tasks, and tokens order those of two, which is proved, or checked by the run (proofs/verdict.py).
That is the order in which they are issued, and nothing here: whatever of one pipeline may conflict is tracked, also under `explicit`.
Slots that a process sets are its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pto_wsp.errors import RaceError, TypeCheckError, here
from pto_wsp.ir.conditions import Case, Names, Path, Step, guards_of, loops_of
from pto_wsp.ir.conflict import Access, Verdict, any_of, constant_span, question, reachable
from pto_wsp.ir.core import Eqn, Region, View, Wir, task_effects
from pto_wsp.ir.scopes import deps_mode

__all__ = [
    "Access",
    "Dependences",
    "Verdict",
    "accesses",
    "analyse",
    "reachable",
    "read_at_issue",
    "refuse_races",
    "refuse_unordered",
    "tensors_read_at_issue",
]

EXPLICIT = "explicit"

_MANY = 16  # accesses of one tensor beyond which it pays to sort them

Pair = tuple[Access, Access, Verdict]


@dataclass
class Dependences:
    """What `analyse` finds: (site, argument) pairs to track, races with their verdicts, overlaps inside one task, pairs in a P loop
    of which nothing is proved, and under `explicit` pairs in one body that neither structure nor `after` orders."""

    tracked: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    races: list[tuple[Access, Access, Eqn, Verdict]] = field(default_factory=list[tuple[Access, Access, Eqn, Verdict]])
    overlaps: list[Pair] = field(default_factory=list[Pair])
    unproven: list[tuple[Access, Access, Eqn]] = field(default_factory=list[tuple[Access, Access, Eqn]])
    unordered: list[Pair] = field(default_factory=list[Pair])

    @property
    def depends_on_sizes(self) -> bool:
        """Whether something here must be asked again when the sizes are bound."""
        return any(v is Verdict.SOME_SIZES for *_, v in (*self.races, *self.overlaps, *self.unordered))


def read_at_issue(eqn: Eqn) -> Iterator[tuple[int, str]]:
    """(position of the operand, tensor) of what an equation reads while it is issued: scalars, and the indices of gathers."""
    yield from ((i, v.tensor) for i, v in _views_at_issue(eqn))


def _views_at_issue(eqn: Eqn) -> Iterator[tuple[int, View]]:
    for i, x in enumerate(eqn.ins):
        if isinstance(x, View):
            if eqn.prim != "task":
                yield i, x
            yield from ((i, index) for index in x.index_views())


def tensors_read_at_issue(wir: Wir) -> frozenset[str]:
    """What scalars and gathers read while tasks are issued."""
    return frozenset(t for top in wir.body.eqns for eqn in top.walk() for _, t in read_at_issue(eqn))


def accesses(wir: Wir, names: Names | None = None, *, at_issue: bool = False) -> list[Access]:
    """Every access of every task site, and every use of a slot, in program order; `at_issue`: and what is read while tasks are issued."""
    names = names or Names.of(wir)
    out: list[Access] = []
    site = 0

    def visit(region: Region, path: Path, guards: tuple[Case, ...], process: Eqn | None) -> None:
        nonlocal site
        for k, eqn in enumerate(region.eqns):
            here = (*path, Step(eqn, k))
            if eqn.prim == "task":
                effects = task_effects(wir, eqn)
                out.extend(Access(site, i, eqn, here, v, writes, guards, process) for i, v, writes in effects)
                site += 1
            elif eqn.prim in ("slot_get", "slot_set"):
                slot = View(f"slot {eqn.params['slot']}", ())
                out.append(Access(-1, 0, eqn, here, slot, eqn.prim == "slot_set", guards))
            if at_issue:
                out.extend(Access(site, i, eqn, here, v, False, guards) for i, v in _views_at_issue(eqn))
            for r, inner in enumerate(eqn.regions):
                way = (*here, Step(eqn, r))
                outermost = eqn if eqn.prim == "process" and process is None and not loops_of(way) else process
                visit(inner, way, tuple(guards_of(way, names)), outermost)

    visit(wir.body, (), ((),), None)
    return out


def _pairs(all_accesses: list[Access]) -> Iterator[tuple[Access, Access]]:
    """Pairs of accesses of one storage of which one writes, the earlier first."""
    by_storage: dict[tuple[bool, str], list[Access]] = {}
    for x in all_accesses:
        by_storage.setdefault((x.is_slot, x.view.tensor), []).append(x)
    for group in by_storage.values():
        for i, j in _meeting(group):
            if group[i].writes or group[j].writes:
                yield group[i], group[j]


def _meeting(group: list[Access]) -> Iterator[tuple[int, int]]:
    """Positions i <= j of accesses; without those that lie apart in a dimension in which all are numbers, as unrolled loops have."""
    spans = [[constant_span(d) for d in x.view.dims] for x in group]
    dim = next((d for d in range(len(spans[0])) if all(s[d] is not None for s in spans)), None)
    if dim is None or len(group) < _MANY:
        yield from ((i, j) for i in range(len(group)) for j in range(i, len(group)))
        return
    rows = sorted((span[dim], k) for k, span in enumerate(spans) if span[dim] is not None)
    open_rows: list[tuple[int, int]] = []
    found: list[tuple[int, int]] = []
    for span, k in rows:
        assert span is not None
        open_rows = [(end, other) for end, other in open_rows if end > span[0]]
        found += [(min(k, other), max(k, other)) for _, other in open_rows]
        found.append((k, k))
        open_rows.append((span[1], k))
    yield from sorted(found)


class _Order:
    """What `after` orders: sites that are complete, in the iteration that both share, before another is issued."""

    def __init__(self, wir: Wir) -> None:
        self._loops: list[list[Eqn]] = []
        self._conds: list[list[tuple[Eqn, int]]] = []
        self._before: list[set[int]] = []
        tokens: dict[str, int] = {}

        def visit(region: Region, path: Path) -> None:
            for k, eqn in enumerate(region.eqns):
                here = (*path, Step(eqn, k))
                if eqn.prim == "task":
                    after = eqn.params.get("after", ())
                    assert isinstance(after, tuple)
                    self._before.append({tokens[str(t)] for t in after if str(t) in tokens})
                    for v in eqn.outs:
                        tokens[v.name] = len(self._loops)
                    self._loops.append(loops_of(here))
                    self._conds.append([(s.eqn, s.part) for s in here if s.eqn.prim == "cond"])
                for r, inner in enumerate(eqn.regions):
                    visit(inner, (*here, Step(eqn, r)))

        visit(wir.body, ())

    def holds(self, a: int, b: int) -> bool:
        """Whether a chain of `after` leads from site a to a later site b. What stands between must run whenever b does, once."""
        todo, seen = [b], {b}
        while todo:
            x = todo.pop()
            if a in self._before[x]:
                return True
            for y in self._before[x] - seen:
                if self._runs_with(y, b):
                    seen.add(y)
                    todo.append(y)
        return False

    def _runs_with(self, x: int, b: int) -> bool:
        loops = self._loops[x]
        same_loops = len(loops) <= len(self._loops[b]) and all(
            p is q for p, q in zip(loops, self._loops[b], strict=False)
        )
        conds = self._conds[b]
        return same_loops and all(any(c is d and i == j for d, j in conds) for c, i in self._conds[x])


def _common(a: Access, b: Access) -> int:
    """How many levels the ways from the root to both have in common."""
    steps = zip(a.path, b.path, strict=False)
    return next(
        (i for i, (p, q) in enumerate(steps) if p.eqn is not q.eqn or p.part != q.part),
        min(len(a.path), len(b.path)),
    )


def _outside(a: Access, b: Access) -> int | None:
    """How many loops stand around the outermost pipeline that both are in, None where there is none."""
    for k, (p, q) in enumerate(zip(a.path, b.path, strict=False)):
        if p.eqn is not q.eqn:
            return None
        if p.eqn.prim == "pipeline":
            return len(loops_of(a.path[:k]))
    return None


def _meet(a: Access, b: Access, sizes: Mapping[str, int], names: Names, outside: int) -> Iterator[Verdict]:
    """Whether two different tasks of one pipeline, of these sites, may overlap, `outside` loops being around it."""
    if a.site != b.site:
        yield question(a, b, sizes, names, None, agreeing=outside)
        return
    if a.arg != b.arg:
        return  # of one site, arguments that overlap are refused, or the same in all instances
    for loop in loops_of(a.path)[outside:]:
        yield question(a, b, sizes, names, loop)
    for k, s in enumerate(a.path):
        if s.eqn.prim == "consume":
            yield question(a, b, sizes, names, None, agreeing=len(loops_of(a.path[:k])))


def _apart(a: Access, b: Access) -> bool:
    """Whether these are of two processes around which there is nothing but, perhaps, their pipeline."""
    return a.process is not b.process and a.process is not None and b.process is not None and not a.is_slot


def _process_at(x: Access) -> int:
    """Where on the way to an access the innermost process around it stands, 0 without one."""
    return max((k + 1 for k, s in enumerate(x.path) if s.eqn.prim == "process"), default=0)


def _private(a: Access, b: Access) -> int:
    """How much of the way to two uses of a slot is outside of the process that sets it: another iteration there has its own."""
    return max(_process_at(x) for x in (a, b) if x.writes) if a.is_slot else 0


def _one_slot(a: Access, b: Access) -> bool:
    """Whether one of two uses sets what the other one uses: not from inside of a process to what is outside of it."""
    for x, y in ((a, b), (b, a)):
        k = _process_at(x)
        if x.writes and (k == 0 or (k <= len(y.path) and y.path[k - 1].eqn is x.path[k - 1].eqn)):
            return True
    return False


def analyse(wir: Wir, sizes: Mapping[str, int] | None = None) -> Dependences:
    """Answer every question about pairs of accesses, for any sizes, or for the given ones."""
    sizes = sizes or {}
    names = Names.of(wir)
    order = _Order(wir) if deps_mode(wir) == EXPLICIT else None
    out = Dependences()
    in_pipelines: set[tuple[int, int]] = set()
    everything = accesses(wir, names)
    for a, b in _pairs(everything):
        if _apart(a, b) and order is None and {(a.site, a.arg), (b.site, b.arg)} <= out.tracked:
            continue
        if a.is_slot and not _one_slot(a, b):
            continue
        common = _common(a, b)
        both: set[tuple[int, int]] = set() if a.is_slot else {(a.site, a.arg), (b.site, b.arg)}
        if a.site == b.site and a.arg != b.arg:
            verdict = question(a, b, sizes, names, None)
            if verdict is not Verdict.NEVER:
                out.overlaps.append((a, b, verdict))
        for loop in loops_of(a.path[_private(a, b) : common]):
            if loop.prim == "parallel_for":
                orders = (True,) if a is b else (True, False)
                for verdict in {question(a, b, sizes, names, loop, a_first=o) for o in orders}:
                    if verdict in (Verdict.UNKNOWN, Verdict.SOME_SIZES):
                        # where the sizes turn out to leave it open, the run keeps program order
                        out.tracked |= both
                    if verdict is Verdict.UNKNOWN:
                        out.unproven.append((a, b, loop))
                    elif verdict is not Verdict.NEVER:
                        out.races.append((a, b, loop, verdict))
        outside = None if a.is_slot else _outside(a, b)
        if outside is not None:
            verdict = any_of(_meet(a, b, sizes, names, outside))
            if verdict is not Verdict.NEVER:
                out.tracked |= both
                in_pipelines |= both
            continue
        parts = [x.path[common].eqn for x in (a, b) if common < len(x.path)]
        parts_ordered = len(parts) == 2 and parts[0] is parts[1] and parts[0].prim == "sequential"
        if a.site == b.site or parts_ordered:
            continue
        if order.holds(a.site, b.site) if order is not None else both <= out.tracked:
            continue
        verdict = question(a, b, sizes, names, None)
        if verdict is not Verdict.NEVER:
            out.tracked |= both
            if order is not None:
                out.unordered.append((a, b, verdict))
    if order is not None:
        out.tracked = in_pipelines
    read = tensors_read_at_issue(wir)
    out.tracked |= {(x.site, x.arg) for x in everything if x.writes and not x.is_slot and x.view.tensor in read}
    return out


def refuse_races(wir: Wir, sizes: Mapping[str, int] | None = None) -> Dependences:
    """Raise RaceError for two conflicting iterations of a `P` loop, and for what `explicit` leaves unordered; TypeCheckError for
    an output that overlaps another argument of its task. Without `sizes`, only for conflicts that exist whatever the sizes are."""
    found = analyse(wir, sizes)
    for a, b, verdict in found.overlaps:
        if verdict in (Verdict.ALWAYS, Verdict.UNKNOWN):
            names = [wir.kernel(str(a.eqn.params["kernel"])).params[x.arg].name for x in (a, b)]
            word = "overlap" if verdict is Verdict.ALWAYS else "cannot be proved apart"
            raise TypeCheckError(
                "PTO145",
                f"arguments {names[0]} and {names[1]} of one task {word}, and one is written",
                values={"tensor": a.view.tensor},
                loc=a.eqn.loc,
                fix="declare one InOut parameter instead of an In and an Out, or write to another tensor",
            )
    for a, b, loop, verdict in found.races:
        if verdict is Verdict.ALWAYS:
            raise _race(a, b, loop, sizes or {})
    refuse_unordered(wir, found)
    return found


def _race(a: Access, b: Access, loop: Eqn, sizes: Mapping[str, int]) -> RaceError:
    label = loop.params["loop"]
    places = f"{a.eqn.loc} and {b.eqn.loc}" if a.eqn is not b.eqn else a.eqn.loc
    around = {"loop": f"P loop over {label}" + (f", {loop.loc}" if loop.loc else "")}
    around |= {f"size of {n}": str(v) for n, v in sizes.items()}
    if a.is_slot:
        return RaceError(
            "PTO202",
            f"iterations of the P loop over {label} touch {a.view.tensor}, and one sets it",
            values={**around, "uses": places},
            loc=(a if a.writes else b).eqn.loc or here(),
            fix="use P.seq where iterations hand a value on, or keep each iteration's value as a Python variable",
        )
    return RaceError(
        "PTO201",
        f"iterations of the P loop over {label} touch common elements of {a.view.tensor}, and one writes",
        values={"tensor": a.view.tensor, **around, "tasks": places},
        loc=a.eqn.loc,
        fix=f"index the output with {label}, or use P.seq where iterations build on each other",
    )


def refuse_unordered(wir: Wir, found: Dependences) -> None:
    """Under `explicit`, raise RaceError for what may conflict and is not ordered. What only some sizes make conflict is asked when
    they are bound."""
    if deps_mode(wir) != EXPLICIT:
        return
    for a, b, loop in found.unproven:
        if not a.is_slot:
            raise RaceError(
                "PTO203",
                f"explicit dependences: iterations of the P loop over {loop.params['loop']} may touch common elements of "
                f"{a.view.tensor}, and nothing orders them",
                values={"first": _called(wir, a), "second": _called(wir, b)},
                loc=b.eqn.loc,
                fix="use P.seq, or Deps.hybrid, which infers what is not said",
            )
    for a, b, verdict in found.unordered:
        if verdict in (Verdict.ALWAYS, Verdict.UNKNOWN):
            first = wir.kernel(str(a.eqn.params["kernel"])).label
            order = f"name the first, t = {first}[...](...), and give the second after=t"
            if any(s.eqn.prim == "pipeline" for s in a.path):
                order = "write sequential(...) of the pipeline that the first is in, and of what comes behind it"
            raise RaceError(
                "PTO203",
                f"explicit dependences: two tasks touch common elements of {a.view.tensor}, and nothing orders them",
                values={"first": _called(wir, a), "second": _called(wir, b)},
                loc=b.eqn.loc,
                fix=f"{order}; or use Deps.hybrid, which infers what is not said",
            )


def _called(wir: Wir, x: Access) -> str:
    label = wir.kernel(str(x.eqn.params["kernel"])).label
    return f"{label}, {x.eqn.loc}" if x.eqn.loc else label
