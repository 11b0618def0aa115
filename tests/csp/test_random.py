"""Random networks: what they compute, as text, and after every pass."""

import random
from typing import Any

import numpy as np
import pytest

from pipelines import Case, pipelines
from pto_wsp import split, unroll
from pto_wsp.ir.core import Wir
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.passes.canonicalize import canonicalize, canonicalize_kernels
from pto_wsp.passes.expand import expand
from pto_wsp.passes.infer_dependences import infer_dependences
from pto_wsp.passes.plan_buffers import plan_buffers
from pto_wsp.passes.resolve_schedules import resolve_schedules
from pto_wsp.transforms.loops import places, variable


def computed(case: Case, wir: Wir, **options: Any) -> np.ndarray[Any, Any]:
    arrays = case.arrays()
    evaluate(expand(wir), {v.name: arrays[v.name] for v in wir.tensors if v.name in arrays}, **options)
    return arrays["Y"]


@pytest.mark.parametrize("seed", range(150))
def test_a_network_computes_what_its_tokens_say(seed: int) -> None:
    case = pipelines(seed)
    wir = case.workload(case.arrays()).wir
    assert parse(show(wir)) == wir
    assert (computed(case, wir) == case.expected).all()


@pytest.mark.parametrize("seed", range(40))
def test_costs_change_no_number(seed: int) -> None:
    case = pipelines(seed)
    wir = case.workload(case.arrays()).wir
    found = computed(case, wir, costs=lambda kernel, _: 1 + (seed * len(kernel)) % 7)
    assert (found == case.expected).all()


@pytest.mark.parametrize("seed", range(40))
def test_passes_keep_what_a_network_computes(seed: int) -> None:
    case = pipelines(seed)
    wir = case.workload(case.arrays()).wir
    for step, stage in (
        (canonicalize, "traced"),
        (expand, "traced"),
        (canonicalize_kernels, "traced"),
        (infer_dependences, "traced"),
        (resolve_schedules, "resolved"),
        (plan_buffers, "lowered"),
    ):
        wir = step(wir)
        verify(wir, stage, after=step.__name__)
        assert parse(show(wir)) == wir
        assert step is plan_buffers or step(wir) == wir
        assert (computed(case, wir) == case.expected).all()


@pytest.mark.parametrize("seed", range(60))
def test_rewrites_of_loops_keep_what_a_network_computes(seed: int) -> None:
    case = pipelines(seed)
    w = case.workload(case.arrays())
    rng = random.Random(seed)
    place = rng.choice(list(places(w.wir)) or [None])
    if place is None:
        return
    path = "/" + "/".join(map(variable, place.around))
    rewrites = [split(loop=path, size=2), unroll(loop=path), unroll(loop=path, factor=2)]
    rewritten = rng.choice(rewrites)(w)
    verify(rewritten.wir)
    assert (computed(case, rewritten.wir) == case.expected).all()
