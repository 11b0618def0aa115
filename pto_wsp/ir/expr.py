"""Integer expressions over named variables: indices, extents, valid shapes and costs.

    expr := const + coef * atom + ...            a sum in normal form, so that equal expressions compare equal
    atom := name | op(expr, expr)                op: mul floordiv ceildiv mod min max, where not already a sum

An affine expression is one whose atoms are all names. Values are mathematical integers here; the plan checks 64 bits.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


def _floordiv(a: int, b: int) -> int:
    return a // b


def _ceildiv(a: int, b: int) -> int:
    return -(-a // b)


OPS: dict[str, Callable[[int, int], int]] = {
    "mul": operator.mul,
    "floordiv": _floordiv,
    "ceildiv": _ceildiv,
    "mod": operator.mod,
    "min": min,
    "max": max,
}


@dataclass(frozen=True, slots=True)
class Op:
    """A non-affine atom: `kind` of OPS over two expressions."""

    kind: str
    a: Expr
    b: Expr

    def __str__(self) -> str:
        return f"{self.kind}({self.a}, {self.b})"


Atom = str | Op


def _key(term: tuple[Atom, int]) -> tuple[int, str]:
    atom = term[0]
    return (0, atom) if isinstance(atom, str) else (1, str(atom))


@dataclass(frozen=True, slots=True)
class Expr:
    """A sum `const + coef * atom + ...`; terms are sorted and no coefficient is 0."""

    const: int = 0
    terms: tuple[tuple[Atom, int], ...] = ()

    def __add__(self, other: Expr | int) -> Expr:
        other = to_expr(other)
        if not other.terms:
            return Expr(self.const + other.const, self.terms) if other.const else self
        if not self.terms:
            return Expr(self.const + other.const, other.terms)
        return linear(self.const + other.const, (*self.terms, *other.terms))

    __radd__ = __add__

    def __neg__(self) -> Expr:
        return self * -1

    def __sub__(self, other: Expr | int) -> Expr:
        return self + to_expr(other) * -1

    def __rsub__(self, other: Expr | int) -> Expr:
        return to_expr(other) - self

    def __mul__(self, other: Expr | int) -> Expr:
        other = to_expr(other)
        if other.is_const:
            k = other.const
            return Expr(self.const * k, tuple((a, c * k) for a, c in self.terms) if k else ())
        if self.is_const:
            return other * self
        return _atom("mul", *sorted((self, other), key=str))

    __rmul__ = __mul__

    def __floordiv__(self, other: Expr | int) -> Expr:
        return floordiv(self, to_expr(other))

    def __mod__(self, other: Expr | int) -> Expr:
        return mod(self, to_expr(other))

    @property
    def is_const(self) -> bool:
        return not self.terms

    @property
    def is_affine(self) -> bool:
        return all(isinstance(atom, str) for atom, _ in self.terms)

    @property
    def depth(self) -> int:
        """How deeply operations stand inside of operations."""
        return max((1 + max(a.a.depth, a.b.depth) for a, _ in self.terms if isinstance(a, Op)), default=0)

    @property
    def fits_64_bits(self) -> bool:
        """Whether every number in it is a signed integer of 64 bits."""
        inside = (x for atom, _ in self.terms if isinstance(atom, Op) for x in (atom.a, atom.b))
        return all(-(2**63) <= n < 2**63 for n in (self.const, *(c for _, c in self.terms))) and all(
            x.fits_64_bits for x in inside
        )

    def names(self) -> frozenset[str]:
        """Every variable that occurs."""
        out: set[str] = set()
        for atom, _ in self.terms:
            out |= {atom} if isinstance(atom, str) else atom.a.names() | atom.b.names()
        return frozenset(out)

    def value(self, env: Mapping[str, int]) -> int:
        """The number this is under `env`. Raises KeyError for an unbound name, ZeroDivisionError."""
        total = self.const
        for atom, coef in self.terms:
            total += coef * (
                env[atom] if isinstance(atom, str) else OPS[atom.kind](atom.a.value(env), atom.b.value(env))
            )
        return total

    def substitute(self, env: Mapping[str, Expr]) -> Expr:
        """Replace names by expressions, and normalise again."""
        out = Expr(self.const)
        for atom, coef in self.terms:
            new = (
                env.get(atom, var(atom))
                if isinstance(atom, str)
                else apply(atom.kind, atom.a.substitute(env), atom.b.substitute(env))
            )
            out = out + new * coef
        return out

    def __str__(self) -> str:
        rows: list[str] = []
        for atom, coef in self.terms:
            text = show_name(atom) if isinstance(atom, str) else str(atom)
            sign = "-" if coef < 0 else "+"
            rows.append(f"{sign} {text}" if abs(coef) == 1 else f"{sign} {abs(coef)}*{text}")
        if self.const or not rows:
            rows.append(f"{'-' if self.const < 0 else '+'} {abs(self.const)}")
        text = " ".join(rows)
        return text[2:] if text.startswith("+ ") else "-" + text[2:]


def show_name(name: str) -> str:
    """A name as it stands in wir text: bare where it is a plain identifier, else quoted. Symbols start with `$`."""
    if name.startswith("$"):
        return "$" + show_name(name[1:])
    if _PLAIN.fullmatch(name) and name not in RESERVED:
        return name
    body = "".join(map(escape, name))
    return f'"{body}"'


# words that mean something else where a name may stand
RESERVED = frozenset({*OPS, "tile", "gather", "span", "as", "inf", "nan", "true", "false"})
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")


def escape(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    if c.isprintable():
        return c
    return f"\\u{{{ord(c):x}}}"


def linear(const: int, terms: Iterable[tuple[Atom, int]]) -> Expr:
    """The sum in normal form."""
    total: dict[Atom, int] = {}
    for atom, coef in terms:
        total[atom] = total.get(atom, 0) + coef
    kept = [(a, c) for a, c in total.items() if c]
    return Expr(const, tuple(sorted(kept, key=_key) if len(kept) > 1 else kept))


def var(name: str) -> Expr:
    return Expr(0, ((name, 1),))


def symbol(name: str) -> Expr:
    """The size or value that is bound at run time under `name`; symbols and loop variables have names of their own."""
    return var("$" + name)


def const(value: int) -> Expr:
    return Expr(value)


def to_expr(value: Expr | int) -> Expr:
    return value if isinstance(value, Expr) else Expr(int(value))


def _atom(kind: str, a: Expr, b: Expr) -> Expr:
    return Expr(0, ((Op(kind, a, b), 1),))


def apply(kind: str, a: Expr, b: Expr) -> Expr:
    """`kind` of OPS applied to two expressions, simplified."""
    if kind == "mul":
        return a * b
    return {"floordiv": floordiv, "ceildiv": ceildiv, "mod": mod, "min": minimum, "max": maximum}[kind](a, b)


def floordiv(a: Expr, b: Expr) -> Expr:
    if b == Expr(1):
        return a
    if a.is_const and b.is_const and b.const:
        return Expr(a.const // b.const)
    if b.is_const and b.const and all(c % b.const == 0 for c in (a.const, *(c for _, c in a.terms))):
        return linear(a.const // b.const, ((atom, c // b.const) for atom, c in a.terms))
    return _atom("floordiv", a, b)


def ceildiv(a: Expr, b: Expr) -> Expr:
    if b.is_const and b.const and (a.is_const or floordiv(a, b).is_affine):
        return Expr(_ceildiv(a.const, b.const)) if a.is_const else floordiv(a, b)
    return a if b == Expr(1) else _atom("ceildiv", a, b)


def mod(a: Expr, b: Expr) -> Expr:
    if a.is_const and b.is_const and b.const:
        return Expr(a.const % b.const)
    return Expr(0) if b == Expr(1) else _atom("mod", a, b)


def minimum(a: Expr, b: Expr) -> Expr:
    if (a - b).is_const:
        return a if (a - b).const <= 0 else b
    return _atom("min", *sorted((a, b), key=str))


def maximum(a: Expr, b: Expr) -> Expr:
    if (a - b).is_const:
        return a if (a - b).const >= 0 else b
    return _atom("max", *sorted((a, b), key=str))
