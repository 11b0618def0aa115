"""Has a system of linear constraints an integer solution? The Omega test.

Pugh, "The Omega test: a fast and practical integer programming algorithm for dependence analysis", 1991: equalities are
eliminated by substitution, inequalities by Fourier-Motzkin projection; where the projection is not exact the dark shadow
proves a solution and splinters search what lies between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

_BUDGET = 20_000  # constraints combined before the answer is "not known"; loops of real programs need a few hundred


@dataclass(frozen=True, slots=True)
class Linear:
    """sum(coef * variable) + const, constrained to be >= 0 or == 0 by where it stands."""

    coefs: tuple[tuple[str, int], ...]
    const: int

    @staticmethod
    def of(coefs: Mapping[str, int], const: int) -> Linear:
        return Linear(tuple(sorted((v, c) for v, c in coefs.items() if c)), const)

    def __getitem__(self, v: str) -> int:
        return next((c for name, c in self.coefs if name == v), 0)

    def plus(self, other: Linear, k: int = 1, m: int = 1) -> Linear:
        """m * self + k * other."""
        out = {v: m * c for v, c in self.coefs}
        for v, c in other.coefs:
            out[v] = out.get(v, 0) + k * c
        return Linear.of(out, m * self.const + k * other.const)


class _OutOfBudget(Exception):
    pass


class _Solver:
    def __init__(self) -> None:
        self.left = _BUDGET
        self.fresh = 0

    def spend(self, n: int) -> None:
        self.left -= n
        if self.left < 0:
            raise _OutOfBudget

    def solve(self, equal: list[Linear], at_least: list[Linear]) -> bool:
        while equal:
            self.spend(len(equal) + len(at_least))
            e = equal.pop()
            g = math.gcd(*(c for _, c in e.coefs)) if e.coefs else 0
            if g == 0:
                if e.const:
                    return False
                continue
            if e.const % g:
                return False
            e = Linear(tuple((v, c // g) for v, c in e.coefs), e.const // g)
            v, c = min(e.coefs, key=lambda t: abs(t[1]))
            if abs(c) == 1:
                equal = [_substitute(x, e, v, c) for x in equal]
                at_least = [_substitute(x, e, v, c) for x in at_least]
                continue
            # Pugh's modulus step: a new variable makes a unit coefficient, and the others shrink
            m = abs(c) + 1
            self.fresh += 1
            helper = Linear.of({u: _mod_hat(k, m) for u, k in e.coefs} | {f"~{self.fresh}": -m}, _mod_hat(e.const, m))
            unit = helper[v]
            equal = [_substitute(x, helper, v, unit) for x in [*equal, e]]
            at_least = [_substitute(x, helper, v, unit) for x in at_least]
        return self.inequalities(at_least)

    def inequalities(self, at_least: list[Linear]) -> bool:
        while True:
            self.spend(len(at_least) + 1)
            tight: dict[tuple[tuple[str, int], ...], int] = {}
            for x in at_least:
                if not x.coefs:
                    if x.const < 0:
                        return False
                    continue
                g = math.gcd(*(c for _, c in x.coefs))
                key = tuple((v, c // g) for v, c in x.coefs)
                tight[key] = min(tight.get(key, x.const // g), x.const // g)
            for key, const in tight.items():
                opposite = tuple((v, -c) for v, c in key)
                if opposite in tight and tight[opposite] + const < 0:
                    return False
                if opposite in tight and tight[opposite] + const == 0:
                    rest = [Linear(k, c) for k, c in tight.items() if k not in (key, opposite)]
                    return self.solve([Linear(key, const)], rest)
            at_least = [Linear(k, c) for k, c in tight.items()]
            if not at_least:
                return True
            v, exact = self._choose(at_least)
            low = [x for x in at_least if x[v] > 0]
            high = [x for x in at_least if x[v] < 0]
            rest = [x for x in at_least if not x[v]]
            self.spend(len(low) * len(high))
            # a*v >= -p and b*v <= q give the real shadow a*q + b*p >= 0
            real = [h.plus(lo, -h[v], lo[v]) for lo in low for h in high]
            if exact:
                at_least = rest + real
                continue
            if not self.inequalities(rest + real):
                return False
            dark = [
                Linear(x.coefs, x.const - (lo[v] - 1) * (-h[v] - 1))
                for (lo, h), x in zip(((lo, h) for lo in low for h in high), real, strict=True)
            ]
            if self.inequalities(rest + dark):
                return True
            widest = max(-h[v] for h in high)
            for lo in low:
                for i in range((widest * lo[v] - widest - lo[v]) // widest + 1):
                    if self.solve([Linear(lo.coefs, lo.const - i)], list(at_least)):
                        return True
            return False

    def _choose(self, at_least: list[Linear]) -> tuple[str, bool]:
        """The variable that is cheapest to eliminate, exactly where possible."""
        best: tuple[bool, int, str] | None = None
        for v in sorted({name for x in at_least for name, _ in x.coefs}):
            low = [x[v] for x in at_least if x[v] > 0]
            high = [-x[v] for x in at_least if x[v] < 0]
            exact = not low or not high or max(low) == 1 or max(high) == 1
            rank = (not exact, len(low) * len(high), v)
            best = rank if best is None else min(best, rank)
        assert best is not None
        return best[2], not best[0]


def _mod_hat(a: int, m: int) -> int:
    return a - m * ((2 * a + m) // (2 * m))


def _substitute(x: Linear, e: Linear, v: str, c: int) -> Linear:
    """x with v eliminated by e == 0, where v has coefficient c = +-1 in e."""
    k = x[v]
    return x.plus(e, -k * c) if k else x


def has_solution(equal: Iterable[Linear], at_least: Iterable[Linear]) -> bool | None:
    """Whether integers exist with every `equal` == 0 and every `at_least` >= 0; None when the budget is used up."""
    return _answer(tuple(equal), tuple(at_least))


# a workload is asked the same when it is traced, lowered and loaded
@lru_cache(maxsize=4096)
def _answer(equal: tuple[Linear, ...], at_least: tuple[Linear, ...]) -> bool | None:
    try:
        return _Solver().solve(list(equal), list(at_least))
    except _OutOfBudget:
        return None
