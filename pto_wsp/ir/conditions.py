"""Where equations of a workload stand, and under which conditions they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pto_wsp.ir.core import At, Axis, DType, Eqn, In, Literal, Region, ScalarType, Var, View, Wir, written_tensors
from pto_wsp.ir.expr import Expr, const, var

_LOOPS = ("parallel_for", "seq_for")
_MOST_CASES = 8  # alternatives of the conditions around an equation that are told apart; beyond, they are unknown
_DEEPEST = 32  # conditions of conditions


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One level on the way from the root to an equation: the equation, and the place in its body or the number of its region."""

    eqn: Eqn
    part: int


Path = tuple[Step, ...]


def loops_of(path: Path) -> list[Eqn]:
    """The loops around a site, outermost first."""
    return [s.eqn for i, s in enumerate(path) if s.eqn.prim in _LOOPS and i and path[i - 1].eqn is s.eqn]


@dataclass(frozen=True, slots=True)
class Fact:
    """expr >= 0, or expr == 0."""

    zero: bool
    expr: Expr


Case = tuple[Fact, ...]
"""Facts that all hold."""


@dataclass(slots=True)
class Names:
    """What stands behind the names of a workload: the loops around each variable's definition, and what scalars are computed by.

    `around` counts a `consume` as a loop, of which no two instances are known to agree. `loops` are the loops' variables, with a prime also where two instances do not share them. `rising` are tensors whose elements
    never fall: pointers of sparse axes, which are checked when they are bound, where tasks leave them alone.
    """

    around: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    loops: set[str] = field(default_factory=set[str])
    scalars: dict[str, Eqn] = field(default_factory=dict[str, Eqn])
    rising: frozenset[str] = frozenset()
    cases: dict[tuple[str, bool], list[Case]] = field(default_factory=dict[tuple[str, bool], list[Case]])

    @staticmethod
    def of(wir: Wir) -> Names:
        out = Names(rising=frozenset(x.tensors[0] for x in wir.axes if x.kind == "Sparse") - written_tensors(wir))

        def visit(region: Region, loops: frozenset[str]) -> None:
            for eqn in region.eqns:
                for v in eqn.outs:
                    out.around[v.name] = loops
                    out.scalars[v.name] = eqn
                inner = loops
                if eqn.prim in _LOOPS:
                    name = loop_variable(eqn)
                    inner = loops | {name}
                    out.around[name] = inner
                    out.loops |= {name, name + "'"}
                elif eqn.prim == "consume":
                    inner = loops | {f"$consume {len(out.around)}"}  # no variable is called so
                    out.around |= {v.name: inner for v in eqn.regions[0].params}
                for r in eqn.regions:
                    visit(r, inner)

        visit(wir.body, frozenset())
        return out


def loop_variable(loop: Eqn) -> str:
    return loop.regions[0].params[0].name


def loop_axis(loop: Eqn) -> Axis:
    axis = loop.params["axis"]
    assert isinstance(axis, Axis)
    return axis


_UNKNOWN: Case = (Fact(False, var("?")),)
"""A fact about a variable that nothing else is known of."""

_AT_LEAST_0: dict[str, Callable[[Expr, Expr], Expr]] = {
    "s.lt": lambda a, b: b - a - 1,
    "s.le": lambda a, b: b - a,
    "s.gt": lambda a, b: a - b - 1,
    "s.ge": lambda a, b: a - b,
}
_NEGATED = {"s.lt": "s.ge", "s.le": "s.gt", "s.gt": "s.le", "s.ge": "s.lt", "s.eq": "s.ne", "s.ne": "s.eq"}


def pointer(name: str, names: Names) -> tuple[str, Expr] | None:
    """The tensor and the index that a scalar is read from, if it is an element of what never falls."""
    eqn = names.scalars.get(name)
    view = eqn.ins[0] if eqn is not None and eqn.prim == "item" else None
    if not isinstance(view, View) or view.tensor not in names.rising:
        return None
    (dim,) = view.dims
    return (view.tensor, dim.index) if isinstance(dim, At) else None


def cases_of(condition: In, holds: bool, names: Names, depth: int = 0) -> list[Case]:
    """The alternatives under which `condition` is `holds`. A condition on more than integers is a variable of 0 or 1."""
    if isinstance(condition, Literal):
        return [()] if bool(condition.value) is holds else []
    if not isinstance(condition, Var):
        return [_UNKNOWN]
    key = (condition.name, holds)
    if key not in names.cases:
        unknown: list[Case] = [(Fact(False, var(condition.name) - 1 if holds else -var(condition.name)),)]
        eqn = names.scalars.get(condition.name)
        found = None if eqn is None or depth == _DEEPEST else _computed(eqn, holds, names, depth + 1)
        names.cases[key] = unknown if found is None or len(found) > _MOST_CASES else found
    return names.cases[key]


def _computed(eqn: Eqn, holds: bool, names: Names, depth: int) -> list[Case] | None:
    if eqn.prim == "s.not":
        return cases_of(eqn.ins[0], not holds, names, depth)
    if eqn.prim in ("s.and", "s.or"):
        a, b = (cases_of(x, holds, names, depth) for x in eqn.ins)
        return _both(a, b) if (eqn.prim == "s.and") is holds else list(dict.fromkeys((*a, *b)))
    return _comparison(eqn, holds)


def _both(a: list[Case], b: list[Case]) -> list[Case]:
    return [tuple(dict.fromkeys((*x, *y))) for x in a for y in b]


def _comparison(eqn: Eqn, holds: bool) -> list[Case] | None:
    """The cases of a comparison of integers; None for what is no such comparison."""
    prim = eqn.prim if holds else _NEGATED.get(eqn.prim)
    if prim not in _NEGATED:
        return None
    a, b = (_integer(x) for x in eqn.ins)
    if a is None or b is None:
        return None
    if prim == "s.eq":
        return [(Fact(True, a - b),)]
    if prim == "s.ne":
        return [(Fact(False, a - b - 1),), (Fact(False, b - a - 1),)]
    return [(Fact(False, _AT_LEAST_0[prim](a, b)),)]


def _integer(x: In) -> Expr | None:
    if isinstance(x, Expr):
        return x
    if isinstance(x, Literal):
        return const(int(x.value)) if x.dtype is DType.I64 else None
    return var(x.name) if isinstance(x, Var) and x.type == ScalarType(DType.I64) else None


def cases_of_all(conditions: Iterable[tuple[In, bool]], names: Names) -> list[Case]:
    """The alternatives under which each of the conditions is what stands beside it."""
    out: list[Case] = [()]
    for condition, holds in conditions:
        out = _both(out, cases_of(condition, holds, names))
        if len(out) > _MOST_CASES:
            out = [_UNKNOWN]
    return out


def guards_of(path: Path, names: Names) -> list[Case]:
    """The alternatives under which all conditions around an equation let it run."""
    around: list[tuple[In, bool]] = []
    for i, s in enumerate(path):
        if i and path[i - 1].eqn is s.eqn:
            if s.eqn.prim == "cond":
                around.append((s.eqn.ins[0], s.part == 0))
            elif s.eqn.prim == "seq_for" and len(s.eqn.regions) > 1:
                around.append((s.eqn.regions[1].eqns[-1].ins[0], True))
    return cases_of_all(around, names)
