"""Passes as text in, text out."""

from collections.abc import Callable
from textwrap import dedent

from pto_wsp.ir.core import Wir
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify


def check_pass(step: Callable[[Wir], Wir], before: str, after: str, *, stage: str = "traced") -> None:
    """`step` makes `after` of `before`; both keep the rules."""
    wir = parse(dedent(before))
    verify(wir)
    out = step(wir)
    verify(out, stage, after=step.__name__)
    assert show(out) == dedent(after).strip()
    assert parse(show(out)) == out
