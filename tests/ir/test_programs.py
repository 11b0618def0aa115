"""Random programs of everything that workloads say: text, rules, meaning."""

from hypothesis import given
from hypothesis import strategies as st

from ir.programs import meaning, program
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.passes.canonicalize import canonicalize

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_programs_keep_the_rules_and_round_trip(seed: int) -> None:
    wir = program(seed)
    verify(wir)
    assert parse(show(wir)) == wir
    assert show(parse(show(wir))) == show(wir)


def test_most_programs_do_not_fail() -> None:
    ends = [meaning(program(seed), seed) for seed in range(60)]
    assert sum(isinstance(e, dict) for e in ends) > 30
    assert any(isinstance(e, str) for e in ends)


@given(seeds)
def test_canonicalize_keeps_the_meaning_failures_included(seed: int) -> None:
    wir = program(seed)
    once = canonicalize(wir)
    verify(once, after="canonicalize")
    assert meaning(once, seed) == meaning(wir, seed)
    assert canonicalize(once) == once
