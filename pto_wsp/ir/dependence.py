"""Which tasks of a workload may touch common elements: the proofs of independence, the races, and what must be tracked.

(docs/language.md, Order.) Two instances of task sites conflict when they touch a common element of one tensor and one writes it.
Where they first differ in a `seq_for` loop or in different parts of `sequential`, structure orders them. Where they first
differ in a `parallel_for` loop the conflict is a race. Where they differ only by their place in a body, program order holds
and the run tracks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from pto_wsp.errors import RaceError, TypeCheckError
from pto_wsp.ir.affine import Linear, has_solution
from pto_wsp.ir.core import At, Axis, Eqn, Slice, View, ViewDim, Wir, task_effects
from pto_wsp.ir.expr import Expr, Op


class Verdict(IntEnum):
    """Of a question about instances: never, for some sizes, certainly, or beyond affine reasoning."""

    NEVER = 0
    SOME_SIZES = 1
    ALWAYS = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One level on the way from the root to a site: a loop, or the i-th part of an equation's body."""

    eqn: Eqn
    part: int


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """One argument of one task site that touches a tensor."""

    site: int
    arg: int
    eqn: Eqn
    path: tuple[Step, ...]
    view: View
    writes: bool


@dataclass
class Dependences:
    """What `analyse` finds: (site, argument) pairs to track, races with their verdicts, and overlaps inside one task."""

    tracked: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    races: list[tuple[Access, Access, Eqn, Verdict]] = field(default_factory=list[tuple[Access, Access, Eqn, Verdict]])
    overlaps: list[tuple[Access, Access, Verdict]] = field(default_factory=list[tuple[Access, Access, Verdict]])
    unproven: list[Eqn] = field(default_factory=list[Eqn])

    @property
    def depends_on_sizes(self) -> bool:
        """Whether something here must be asked again when the sizes are bound."""
        return any(v is Verdict.SOME_SIZES for *_, v in (*self.races, *self.overlaps))


def accesses(wir: Wir) -> list[Access]:
    """Every access of every task site, in program order."""
    out: list[Access] = []
    site = 0

    def visit(eqns: tuple[Eqn, ...], path: tuple[Step, ...]) -> None:
        nonlocal site
        for k, eqn in enumerate(eqns):
            here = (*path, Step(eqn, k))
            if eqn.prim == "task":
                out.extend(Access(site, arg, eqn, here, view, writes) for arg, view, writes in task_effects(wir, eqn))
                site += 1
            for r, region in enumerate(eqn.regions):
                visit(region.eqns, (*here, Step(eqn, r)))

    visit(wir.body.eqns, ())
    return out


def loops_of(path: tuple[Step, ...]) -> list[Eqn]:
    """The loops around a site, outermost first."""
    return [
        s.eqn
        for i, s in enumerate(path)
        if s.eqn.prim in ("parallel_for", "seq_for") and (i == 0 or path[i - 1].eqn is not s.eqn)
    ]


class _System:
    """Constraints over two instances; `exact` says whether every expression in it was understood."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.equal: list[Linear] = []
        self.at_least: list[Linear] = []
        self.sizes = sizes
        self.exact = True
        self.symbolic = False
        self._ops: dict[Op, str] = {}
        self._nonnegative: set[str] = set()

    def linear(self, e: Expr, rename: Mapping[str, str]) -> Linear:
        """`e` with loop variables renamed for one instance, symbols replaced by their sizes, other atoms by new variables."""
        coefs: dict[str, int] = {}
        const = e.const
        for atom, coef in e.terms:
            if isinstance(atom, Op):
                name = self._op(Op(atom.kind, *(_rename(x, rename) for x in (atom.a, atom.b))))
            elif atom.startswith("$"):
                if atom[1:] in self.sizes:
                    const += coef * self.sizes[atom[1:]]
                    continue
                name = atom
                self.symbolic = True
                if name not in self._nonnegative:
                    self._nonnegative.add(name)
                    self.at_least.append(Linear.of({name: 1}, 0))
            else:
                name = rename[atom]
            coefs[name] = coefs.get(name, 0) + coef
        return Linear.of(coefs, const)

    def _op(self, op: Op) -> str:
        """A variable for a non-affine atom; quotients and remainders by positive constants are exact, others free."""
        if op in self._ops:
            return self._ops[op]
        name = self._ops[op] = f"op{len(self._ops)}"
        divisor = op.b.const if op.b.is_const else 0
        if op.kind in ("floordiv", "ceildiv", "mod") and divisor > 0:
            a = self.linear(op.a, _Same())
            if op.kind == "mod":
                quotient = self._op(Op("floordiv", op.a, op.b))
                self.equal.append(a.plus(Linear.of({name: -1, quotient: -divisor}, 0)))
            else:
                shift = divisor - 1 if op.kind == "ceildiv" else 0
                rest = Linear.of(dict(a.coefs) | {}, a.const + shift).plus(Linear.of({name: -divisor}, 0))
                self.at_least += [rest, Linear.of({v: -c for v, c in rest.coefs}, divisor - 1 - rest.const)]
        else:
            self.exact = False
        return name

    def less(self, a: Linear, b: Linear, by: int = 1) -> None:
        """a + by <= b"""
        self.at_least.append(b.plus(a, -1).plus(Linear.of({}, -by)))

    def verdict(self) -> Verdict:
        answer = has_solution(self.equal, self.at_least)
        if answer is False:
            return Verdict.NEVER
        if answer is None or not self.exact:
            return Verdict.UNKNOWN
        return Verdict.SOME_SIZES if self.symbolic else Verdict.ALWAYS


class _Same(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return key


def _rename(e: Expr, rename: Mapping[str, str]) -> Expr:
    from pto_wsp.ir.expr import var

    return e.substitute({n: var(rename[n]) for n in e.names() if not n.startswith("$")})


def _in_loops(system: _System, loops: list[Eqn], rename: dict[str, str]) -> None:
    for eqn in loops:
        axis = eqn.params["axis"]
        assert isinstance(axis, Axis)
        _in_loop(system, rename[eqn.regions[0].params[0].name], axis, rename)


def _in_loop(system: _System, name: str, axis: Axis, rename: Mapping[str, str]) -> None:
    """0 <= name < the axis's extent; tile indices are those with name * tile < size."""
    system.at_least.append(Linear.of({name: 1}, 0))
    system.less(Linear.of({name: axis.tile}, 0), system.linear(axis.size, rename))


def reachable(loops: Mapping[str, Axis], at_least_0: Expr) -> bool:
    """Whether for some sizes there is certainly an iteration of these nested loops, by variable, with `at_least_0` >= 0."""
    system = _System({})
    rename = {v: v for v in loops}
    for v, axis in loops.items():
        _in_loop(system, v, axis, rename)
    system.at_least.append(system.linear(at_least_0, rename))
    return system.verdict() in (Verdict.SOME_SIZES, Verdict.ALWAYS)


def _overlap(system: _System, a: View, b: View, names_a: dict[str, str], names_b: dict[str, str]) -> None:
    for x, y in zip(a.dims, b.dims, strict=True):
        ends: list[tuple[Linear, list[Linear]]] = []
        for d, names in ((x, names_a), (y, names_b)):
            if isinstance(d, At):
                first = system.linear(d.index, names)
                ends.append((first, [first]))
            elif isinstance(d, Slice):
                first = system.linear(d.start, names)
                ends.append((first, [first.plus(Linear.of({}, d.length - 1))]))
            else:
                first = system.linear(d.start, names)
                ends.append(
                    (
                        first,
                        [first.plus(Linear.of({}, d.size - 1)), system.linear(d.limit, names).plus(Linear.of({}, -1))],
                    )
                )
        for (first, _), (_, lasts) in (ends, ends[::-1]):
            for last in lasts:
                system.less(first, last, 0)


def _variables(loops: list[Eqn]) -> list[str]:
    return [e.regions[0].params[0].name for e in loops]


def _told_apart(a: View, b: View, agree: set[str], stepping: str | None) -> bool:
    """The common cases, decided at a glance: in one dimension the two views lie a known distance apart; or they are indexed alike,
    by the variable that differs and nothing else that may, in steps no shorter than what is taken."""
    for x, y in zip(a.dims, b.dims, strict=True):
        (first, length), (second, other) = _span(x), _span(y)
        if first.is_const and second.is_const:
            distance = second.const - first.const
            if distance >= length or -distance >= other:
                return True
            continue
        if not (first.is_affine and second.is_affine):
            continue
        names = {str(atom) for e in (first, second) for atom, _ in e.terms}
        if all(n in agree or n.startswith("$") for n in names):
            gap = second - first
            if gap.is_const and (gap.const >= length or -gap.const >= other):
                return True
        elif stepping in names and first == second and all(n in agree or n.startswith("$") for n in names - {stepping}):
            step = next(abs(c) for atom, c in first.terms if atom == stepping)
            if step >= max(length, other):
                return True
    return False


def _span(d: ViewDim) -> tuple[Expr, int]:
    """The first element, and how many at most."""
    return (d.index, 1) if isinstance(d, At) else (d.start, d.length) if isinstance(d, Slice) else (d.start, d.size)


def _question(
    a: Access, b: Access, sizes: Mapping[str, int], differ_at: Eqn | None, *, a_first: bool = True
) -> Verdict:
    """May instances of a and b overlap that agree in all common loops outside `differ_at` and differ there (None: agree in all)?"""
    loops_a, loops_b = loops_of(a.path), loops_of(b.path)
    agree: set[str] = set()
    for x, y in zip(loops_a, loops_b, strict=False):
        if x is not y or x is differ_at:
            break
        agree.add(x.regions[0].params[0].name)
    if _told_apart(a.view, b.view, agree, None if differ_at is None else differ_at.regions[0].params[0].name):
        return Verdict.NEVER
    system = _System(sizes)
    names_a = {v: v for v in _variables(loops_a)}
    names_b = {v: v if v in agree else v + "'" for v in _variables(loops_b)}
    _in_loops(system, loops_a, names_a)
    _in_loops(system, loops_b, names_b)
    if differ_at is not None:
        v = differ_at.regions[0].params[0].name
        i, j = Linear.of({names_a[v]: 1}, 0), Linear.of({names_b[v]: 1}, 0)
        system.less(i, j) if a_first else system.less(j, i)
    _overlap(system, a.view, b.view, names_a, names_b)
    return system.verdict()


def _pairs(all_accesses: list[Access]) -> Iterator[tuple[Access, Access]]:
    by_tensor: dict[str, list[Access]] = {}
    for x in all_accesses:
        by_tensor.setdefault(x.view.tensor, []).append(x)
    for group in by_tensor.values():
        for i, a in enumerate(group):
            for b in group[i:]:
                if a.writes or b.writes:
                    yield a, b


def analyse(wir: Wir, sizes: Mapping[str, int] | None = None) -> Dependences:
    """Answer every question about pairs of accesses, for any sizes, or for the given ones."""
    sizes = sizes or {}
    out = Dependences()
    for a, b in _pairs(accesses(wir)):
        common = 0
        while (
            common < min(len(a.path), len(b.path))
            and a.path[common].eqn is b.path[common].eqn
            and a.path[common].part == b.path[common].part
        ):
            common += 1
        shared = loops_of(a.path[:common])
        if a.site == b.site and a.arg != b.arg:
            verdict = _question(a, b, sizes, None)
            if verdict is not Verdict.NEVER:
                out.overlaps.append((a, b, verdict))
        for loop in shared:
            if loop.prim == "parallel_for":
                orders = (True,) if a is b else (True, False)
                for verdict in {_question(a, b, sizes, loop, a_first=o) for o in orders}:
                    if verdict in (Verdict.UNKNOWN, Verdict.SOME_SIZES):
                        # where the sizes turn out to leave it open, the run keeps program order
                        out.tracked |= {(a.site, a.arg), (b.site, b.arg)}
                    if verdict is Verdict.UNKNOWN:
                        out.unproven += [loop] if not any(x is loop for x in out.unproven) else []
                    elif verdict is not Verdict.NEVER:
                        out.races.append((a, b, loop, verdict))
        parts = [x.path[common].eqn for x in (a, b) if common < len(x.path)]
        parts_ordered = len(parts) == 2 and parts[0] is parts[1] and parts[0].prim == "sequential"
        both = {(a.site, a.arg), (b.site, b.arg)}
        asked = a.site != b.site and not parts_ordered and not both <= out.tracked
        if asked and _question(a, b, sizes, None) is not Verdict.NEVER:
            out.tracked |= both
    return out


def refuse_races(wir: Wir, sizes: Mapping[str, int] | None = None) -> Dependences:
    """Raise RaceError for two conflicting iterations of a `P` loop, TypeCheckError for an output that overlaps another argument
    of its task. Without `sizes`, only for conflicts that exist whatever the sizes are."""
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
            label = loop.params["loop"]
            values = {
                "tensor": a.view.tensor,
                "loop": f"P loop over {label}" + (f", {loop.loc}" if loop.loc else ""),
                **{f"size of {n}": v for n, v in (sizes or {}).items()},
                "tasks": f"{a.eqn.loc} and {b.eqn.loc}" if a.eqn is not b.eqn else a.eqn.loc,
            }
            raise RaceError(
                "PTO201",
                f"iterations of the P loop over {label} touch common elements of {a.view.tensor}, and one writes",
                values=values,
                loc=a.eqn.loc,
                fix=f"index the output with {label}, or use P.seq where iterations build on each other",
            )
    return found
