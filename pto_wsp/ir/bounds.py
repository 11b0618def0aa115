"""Interval arithmetic over integer expressions."""

from __future__ import annotations

from collections.abc import Mapping

from pto_wsp.ir.expr import Expr


def interval(e: Expr, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Smallest and largest value of an affine `e` when each variable takes every value of its inclusive range.

    Exact, because each variable stands once in the normal form. None when a variable has no range, or `e` is not affine.
    """
    low = high = e.const
    for atom, coef in e.terms:
        if not isinstance(atom, str) or atom not in ranges:
            return None
        ends = [coef * x for x in ranges[atom]]
        low, high = low + min(ends), high + max(ends)
    return low, high
