"""Random workloads: text and passes keep what they mean."""

from hypothesis import given

from pto_wsp.ir.core import Wir
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.discharge import discharge
from pto_wsp.passes.expand import expand
from pto_wsp.passes.infer_dependences import infer_dependences
from pto_wsp.passes.resolve_schedules import resolve_schedules
from workloads import Case, cases


def meaning(case: Case, wir: Wir) -> dict[str, bytes]:
    arrays = case.fresh()
    evaluate(expand(wir), {n: arrays[n] for n in (v.name for v in wir.tensors)}, case.sizes)
    return {n: a.tobytes() for n, a in arrays.items()}


@given(cases())
def test_text_round_trip(case: Case) -> None:
    wir = case.workload.wir
    assert parse(show(wir)) == wir
    assert show(parse(show(wir))) == show(wir)


@given(cases())
def test_passes_keep_the_meaning_and_the_rules(case: Case) -> None:
    wir = case.workload.wir
    want = meaning(case, wir)
    for step, stage in (
        (canonicalize, "traced"),
        (expand, "traced"),
        (canonicalize, "traced"),
        (infer_dependences, "traced"),
        (resolve_schedules, "resolved"),
    ):
        wir = step(wir)
        verify(wir, stage, after=step.__name__)
        assert parse(show(wir)) == wir
        assert meaning(case, wir) == want, step.__name__


@given(cases())
def test_passes_change_nothing_the_second_time(case: Case) -> None:
    for step in (canonicalize, expand, infer_dependences, resolve_schedules):
        once = step(case.workload.wir)
        assert step(once) == once
        assert show(step(once)) == show(once)


@given(cases())
def test_the_pure_form_means_the_same(case: Case) -> None:
    wir = case.workload.wir
    pure = discharge(wir)
    verify(pure, "pure", after="discharge")
    assert parse(show(pure)) == pure
    assert meaning(case, pure) == meaning(case, wir)
