"""What is known of a scalar while tracing: the range that holds it, and a number that divides it.

Enough to see that tiles at multiples of their size have no tail, and that a loop stays inside of what it loads from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pto_wsp.ir.core import DType, In, Literal, Param, ScalarType, Var
from pto_wsp.ir.scalars import RANGES

LOW, HIGH = RANGES[DType.I64]


@dataclass(frozen=True, slots=True)
class Facts:
    """low <= the scalar <= high, and `divisor` divides it; 0 is divided by everything, and its divisor is 0."""

    low: int = LOW
    high: int = HIGH
    divisor: int = 1

    @staticmethod
    def exactly(n: int) -> Facts:
        return Facts(n, n, abs(n))

    def within(self) -> Facts:
        """Nothing where 64 bits do not hold all of the range: it may wrap."""
        return self if self.low >= LOW and self.high <= HIGH else Facts()


def _add(a: Facts, b: Facts) -> Facts:
    return Facts(a.low + b.low, a.high + b.high, math.gcd(a.divisor, b.divisor))


def _sub(a: Facts, b: Facts) -> Facts:
    return Facts(a.low - b.high, a.high - b.low, math.gcd(a.divisor, b.divisor))


def _mul(a: Facts, b: Facts) -> Facts:
    ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Facts(min(ends), max(ends), a.divisor * b.divisor)


def _min(a: Facts, b: Facts) -> Facts:
    return Facts(min(a.low, b.low), min(a.high, b.high), math.gcd(a.divisor, b.divisor))


def _max(a: Facts, b: Facts) -> Facts:
    return Facts(max(a.low, b.low), max(a.high, b.high), math.gcd(a.divisor, b.divisor))


def _floordiv(a: Facts, b: Facts) -> Facts:
    if b.low != b.high or b.low < 1:
        return Facts()
    return Facts(a.low // b.low, a.high // b.low, a.divisor // b.low if a.divisor % b.low == 0 else 1)


def _mod(a: Facts, b: Facts) -> Facts:
    if b.low < 1:
        return Facts()
    return Facts(0, b.high - 1, math.gcd(a.divisor, b.divisor))


def _shl(a: Facts, b: Facts) -> Facts:
    known = b.low == b.high and 0 <= b.low < 64
    return _mul(a, Facts.exactly(2**b.low)) if known else Facts()


_RULES: dict[str, Callable[[Facts, Facts], Facts]] = {
    "s.add": _add,
    "s.sub": _sub,
    "s.mul": _mul,
    "s.min": _min,
    "s.max": _max,
    "s.floordiv": _floordiv,
    "s.mod": _mod,
    "s.shl": _shl,
}


def facts_of(x: In, known: dict[str, Facts]) -> Facts:
    """Of an operand."""
    if isinstance(x, Literal) and isinstance(x.value, int):
        return Facts.exactly(int(x.value))
    return known.get(x.name, Facts()) if isinstance(x, Var) else Facts()


def derive(prim: str, ins: tuple[In, ...], params: dict[str, Param], known: dict[str, Facts]) -> Facts:
    """Of the i64 result of an operation on scalars."""
    operands = [facts_of(x, known) for x in ins]
    if prim == "s.where":
        a, b = operands[1:]
        return Facts(min(a.low, b.low), max(a.high, b.high), math.gcd(a.divisor, b.divisor))
    if prim == "widen" and isinstance(ins[0], Var) and isinstance(ins[0].type, ScalarType):
        return Facts(*RANGES[ins[0].type.dtype])
    rule = _RULES.get(prim)
    return Facts() if rule is None or len(operands) != 2 else rule(*operands).within()
