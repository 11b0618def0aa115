"""May two instances of equations touch common elements? One question at a time, as a system of linear constraints.

Variables are the loops' variables, symbols, and scalars that the workload reads. Two instances share a variable when they agree on
all loops around its definition. What a scalar read from data is, nobody knows here: answers may rest on such a scalar only where
they are "never".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice, permutations, product

from pto_wsp.ir.affine import Linear, has_solution
from pto_wsp.ir.conditions import Case, Fact, Names, Path, loop_axis, loop_variable, loops_of, pointer
from pto_wsp.ir.core import At, Axis, Eqn, Gather, Slice, Span, TileAt, View, ViewDim
from pto_wsp.ir.expr import Expr, Op, var


class Verdict(IntEnum):
    """Of a question about instances: never, for some sizes, certainly, or beyond affine reasoning."""

    NEVER = 0
    SOME_SIZES = 1
    ALWAYS = 2
    UNKNOWN = 3


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether one of several cases exists."""
    found = set(verdicts)
    certain_first = (Verdict.ALWAYS, Verdict.UNKNOWN, Verdict.SOME_SIZES)
    return next((v for v in certain_first if v in found), Verdict.NEVER)


class _Instance:
    """One of two instances. A variable that it does not share with the other has a name of its own."""

    def __init__(self, names: Names, shared: frozenset[str] | None = None) -> None:
        self._names = names
        self._shared = shared

    def shares(self, name: str) -> bool:
        """Whether `name` has the same value in both: they agree on all loops around its definition."""
        return self._shared is None or name[0] == "$" or self._names.around.get(name, _NO_LOOPS) <= self._shared

    def __getitem__(self, name: str) -> str:
        return name if self.shares(name) else name + "'"

    def expr(self, e: Expr) -> Expr:
        own = {n: var(n + "'") for n in e.names() if not self.shares(n)}
        return e.substitute(own) if own else e


_NO_LOOPS: frozenset[str] = frozenset()


class _System:
    """Constraints over two instances; `exact` says whether every expression in it was understood."""

    def __init__(self, sizes: Mapping[str, int], names: Names) -> None:
        self.equal: list[Linear] = []
        self.at_least: list[Linear] = []
        self.sizes = sizes
        self.exact = True
        self.symbolic = False
        self._names = names
        self._ops: dict[Op, str] = {}
        self._nonnegative: set[str] = set()

    def linear(self, e: Expr, of: _Instance) -> Linear:
        """`e` of one instance, symbols replaced by their sizes, and atoms that are no names by new variables."""
        coefs: dict[str, int] = {}
        total = e.const
        for atom, coef in e.terms:
            if isinstance(atom, Op):
                name = self._op(Op(atom.kind, of.expr(atom.a), of.expr(atom.b)))
            elif atom[0] == "$":
                if atom[1:] in self.sizes:
                    total += coef * self.sizes[atom[1:]]
                    continue
                name = atom
                self.symbolic = True
                if name not in self._nonnegative:
                    self._nonnegative.add(name)
                    self.at_least.append(Linear.of({name: 1}, 0))
            else:
                name = of[atom]
                self.exact = self.exact and name in self._names.loops
            coefs[name] = coefs.get(name, 0) + coef
        return Linear.of(coefs, total)

    def _op(self, op: Op) -> str:
        """A variable for an atom that is no name: exact for quotients and remainders by positive constants, bounded on one side
        for the lesser and the greater of two, else free."""
        if op in self._ops:
            return self._ops[op]
        name = self._ops[op] = f"op{len(self._ops)}"
        here = _Instance(self._names)
        divisor = op.b.const if op.b.is_const else 0
        if op.kind in ("floordiv", "ceildiv", "mod") and divisor > 0:
            a = self.linear(op.a, here)
            if op.kind == "mod":
                quotient = self._op(Op("floordiv", op.a, op.b))
                self.equal.append(a.plus(Linear.of({name: -1, quotient: -divisor}, 0)))
            else:
                shift = divisor - 1 if op.kind == "ceildiv" else 0
                rest = a.plus(Linear.of({name: -divisor}, shift))
                self.at_least += [rest, Linear.of({v: -c for v, c in rest.coefs}, divisor - 1 - rest.const)]
            return name
        self.exact = False
        if op.kind in ("min", "max"):
            sign = 1 if op.kind == "min" else -1
            for x in (op.a, op.b):
                self.at_least.append(Linear.of({name: -sign}, 0).plus(self.linear(x, here), sign))
        return name

    def less(self, a: Linear, b: Linear, by: int = 1) -> None:
        """a + by <= b"""
        self.at_least.append(b.plus(a, -1).plus(Linear.of({}, -by)))

    def loop(self, name: str, axis: Axis, of: _Instance) -> None:
        """0 <= name < the axis's extent; tile indices are those with name * tile < size."""
        v = of[name]
        self.at_least.append(Linear.of({v: 1}, 0))
        for bound in upper_bounds(axis.size):
            self.less(Linear.of({v: axis.tile}, 0), self.linear(bound, of))

    def fact(self, fact: Fact, of: _Instance) -> None:
        (self.equal if fact.zero else self.at_least).append(self.linear(fact.expr, of))

    def overlap(self, a: View, b: View, of_a: _Instance, of_b: _Instance, *, same_rows: bool) -> None:
        """Some element in both views. `same_rows`: equal gathers of the two instances take the same elements."""
        for x, y in zip(a.dims, b.dims, strict=True):
            if isinstance(x, Gather) or isinstance(y, Gather):
                self.exact = self.exact and same_rows and x == y
                continue
            if same_rows and x == y:
                continue
            ends = [(self.linear(_first(d), of), self._lasts(d, of)) for d, of in ((x, of_a), (y, of_b))]
            for (first, _), (_, lasts) in (ends, ends[::-1]):
                for last in lasts:
                    self.less(first, last, 0)
            for d, (first, lasts) in zip((x, y), ends, strict=True):
                for last in lasts if isinstance(d, (Slice, Span)) else ():  # an empty one has no element
                    self.less(first, last, 0)

    def _lasts(self, d: At | Slice | TileAt | Span, of: _Instance) -> list[Linear]:
        """The last element is the least of these."""
        if isinstance(d, Span):
            return [self.linear(end - 1, of) for end in upper_bounds(d.start + d.length)]
        start, length = _span(d)
        out = [self.linear(start + (length - 1), of)]
        if isinstance(d, TileAt):
            out += [self.linear(limit - 1, of) for limit in upper_bounds(d.limit)]
        return out

    def order_pointers(self, scalars: Iterable[tuple[str, _Instance]]) -> bool:
        """Of scalars that are elements of one tensor that never falls, the one that certainly does not stand later is not greater.
        Whether there are such scalars. Where they stand is decided by what is known of their indices alone, which is cheap."""
        found: dict[str, tuple[str, Linear]] = {}
        for name, of in scalars:
            at = pointer(name, self._names)
            if at is not None:
                found[of[name]] = (at[0], self.linear(at[1], of))
        known = list(self.at_least)
        for (p, (tensor, i)), (q, (other, j)) in permutations(found.items(), 2):
            if tensor != other:
                continue
            behind = i.plus(j, -1).plus(Linear.of({}, -1))
            names = {v for v, _ in behind.coefs}
            equal, at_least = ([x for x in xs if names.issuperset(v for v, _ in x.coefs)] for xs in (self.equal, known))
            if has_solution(equal, [*at_least, behind]) is False:
                self.less(Linear.of({p: 1}, 0), Linear.of({q: 1}, 0), 0)
        return bool(found)

    def verdict(self) -> Verdict:
        answer = has_solution(self.equal, self.at_least)
        if answer is False:
            return Verdict.NEVER
        if answer is None or not self.exact:
            return Verdict.UNKNOWN
        return Verdict.SOME_SIZES if self.symbolic else Verdict.ALWAYS

    def copy(self) -> _System:
        out = copy(self)
        out.equal, out.at_least = list(self.equal), list(self.at_least)
        out._ops, out._nonnegative = dict(self._ops), set(self._nonnegative)
        return out


def upper_bounds(e: Expr) -> list[Expr]:
    """x <= e exactly where x is at most each of these: the lesser of two is a bound by both."""
    for atom, coef in e.terms:
        if isinstance(atom, Op) and (atom.kind, coef > 0) in (("min", True), ("max", False)):
            rest = e - Expr(0, ((atom, coef),))
            return [bound for x in (atom.a, atom.b) for bound in upper_bounds(rest + x * coef)]
    return [e]


def _first(d: At | Slice | TileAt | Span) -> Expr:
    return d.index if isinstance(d, At) else d.start


def _span(d: At | Slice | TileAt) -> tuple[Expr, int]:
    """The first element, and how many at most."""
    return (d.index, 1) if isinstance(d, At) else (d.start, d.length) if isinstance(d, Slice) else (d.start, d.size)


def surely_overlap(a: View, b: View) -> bool:
    """Whether two views of one iteration have a common element for sure: their dimensions are equal, or lie a known distance apart."""
    return a.tensor == b.tensor and all(map(_share, a.dims, b.dims))


def _share(x: ViewDim, y: ViewDim) -> bool:
    if x == y:
        return True
    if not isinstance(x, (At, Slice)) or not isinstance(y, (At, Slice)):
        return False
    (first, length), (second, other) = _span(x), _span(y)
    gap = second - first
    return gap.is_const and -other < gap.const < length


def constant_span(d: ViewDim) -> tuple[int, int] | None:
    """The first element that a dimension may take and the one behind the last, where these are numbers."""
    if isinstance(d, (Gather, Span)):
        return None
    first, length = _span(d)
    return (first.const, first.const + length) if first.is_const else None


def _iteration(loops: Mapping[str, Axis], facts: Iterable[Fact]) -> Verdict:
    names = Names(loops=set(loops))
    system = _System({}, names)
    here = _Instance(names)
    for v, axis in loops.items():
        system.loop(v, axis, here)
    for fact in facts:
        system.fact(fact, here)
    return system.verdict()


def reachable(loops: Mapping[str, Axis], at_least_0: Expr, facts: Iterable[Fact] = ()) -> bool:
    """Whether for some sizes there is certainly an iteration of these nested loops, by variable, with `at_least_0` >= 0 and with
    what the conditions around say."""
    return _iteration(loops, (Fact(False, at_least_0), *facts)) in (Verdict.SOME_SIZES, Verdict.ALWAYS)


def impossible(loops: Mapping[str, Axis], at_least_0: Expr) -> bool:
    """Whether no iteration of these nested loops has `at_least_0` >= 0, whatever sizes and data are."""
    return _iteration(loops, (Fact(False, at_least_0),)) is Verdict.NEVER


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """One argument of one task site that touches a tensor, or a use of a slot, as if that were a tensor without dimensions. `process`:
    of the outermost pipeline, where no loop is around that."""

    site: int
    arg: int
    eqn: Eqn
    path: Path
    view: View
    writes: bool
    guards: tuple[Case, ...] = ((),)
    process: Eqn | None = None

    @property
    def is_slot(self) -> bool:
        return self.site < 0


def _told_apart(a: View, b: View, of_b: _Instance, stepping: str | None) -> bool:
    """The common cases, decided at a glance: in one dimension the two views lie a known distance apart; or they are indexed alike,
    by the variable that differs and nothing else that may, in steps no shorter than what is taken."""
    for x, y in zip(a.dims, b.dims, strict=True):
        if isinstance(x, (Gather, Span)) or isinstance(y, (Gather, Span)):
            continue
        (first, length), (second, other) = _span(x), _span(y)
        if first.is_const and second.is_const:
            distance = second.const - first.const
            if distance >= length or -distance >= other:
                return True
            continue
        if not (first.is_affine and second.is_affine):
            continue
        names = {str(atom) for e in (first, second) for atom, _ in e.terms}
        if all(map(of_b.shares, names)):
            gap = second - first
            if gap.is_const and (gap.const >= length or -gap.const >= other):
                return True
        elif stepping in names and first == second and all(of_b.shares(n) for n in names if n != stepping):
            step = next(abs(c) for atom, c in first.terms if atom == stepping)
            if step >= max(length, other):
                return True
    return False


def _scalars(x: Access, loops: Sequence[Eqn], of: _Instance) -> Iterator[tuple[str, _Instance]]:
    """The names in what an access touches, in the extents of the loops around it, and in the conditions."""
    exprs = (*(loop_axis(e).size for e in loops), *(fact.expr for case in x.guards for fact in case))
    for name in x.view.names().union(*(e.names() for e in exprs)):
        yield name, of


def question(
    a: Access,
    b: Access,
    sizes: Mapping[str, int],
    names: Names,
    differ_at: Eqn | None,
    *,
    a_first: bool = True,
    agreeing: int | None = None,
    apart: int | None = None,
) -> Verdict:
    """May instances of a and b overlap that agree in all common loops outside `differ_at` and differ there (None: agree in all)?
    `agreeing`: they agree in so many of the outermost loops alone, and of the others nothing is known. `apart`: they differ by so
    many iterations."""
    loops_a, loops_b = loops_of(a.path), loops_of(b.path)
    agree: set[str] = set()
    for x, y in islice(zip(loops_a, loops_b, strict=False), agreeing):
        if x is not y or x is differ_at:
            break
        agree.add(loop_variable(x))
    of_a, of_b = _Instance(names), _Instance(names, frozenset(agree))
    stepping = None if differ_at is None else loop_variable(differ_at)
    if _told_apart(a.view, b.view, of_b, stepping):
        return Verdict.NEVER
    system = _System(sizes, names)
    for loops, of in ((loops_a, of_a), (loops_b, of_b)):
        for eqn in loops:
            system.loop(loop_variable(eqn), loop_axis(eqn), of)
    if stepping is not None:
        i, j = Linear.of({of_a[stepping]: 1}, 0), Linear.of({of_b[stepping]: 1}, 0)
        system.less(i, j) if a_first else system.less(j, i)
        if apart is not None:
            system.equal.append(i.plus(j, -1).plus(Linear.of({}, apart if a_first else -apart)))
    system.overlap(a.view, b.view, of_a, of_b, same_rows=differ_at is None and a.site == b.site)
    always = a.guards == b.guards == ((),)
    verdict = system.verdict() if always else Verdict.UNKNOWN
    ordered = verdict is Verdict.UNKNOWN and system.order_pointers(
        [*_scalars(a, loops_a, of_a), *_scalars(b, loops_b, of_b)]
    )
    if always and not ordered:
        return verdict
    verdicts: set[Verdict] = set()
    for case_a, case_b in product(a.guards, b.guards):
        guarded = system.copy()
        for case, of in ((case_a, of_a), (case_b, of_b)):
            for fact in case:
                guarded.fact(fact, of)
        verdicts.add(guarded.verdict())
    return any_of(verdicts)
