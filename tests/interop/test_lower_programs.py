"""Random programs in operations of JAX give what plain Python, numpy and the reference evaluator give, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic import Case as DynamicCase
from dynamic import cases as dynamic_cases
from ir.programs import arrays, bits, meaning, program, sizes
from kernels.programs import Program, arguments, kernel_of, programs, run_plain
from pipelines import pipelines
from property.test_dynamic import inputs
from pto_wsp import P, RaceError, workload
from pto_wsp.ir.core import Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.passes.expand import expand
from pto_wsp_jax.lower import wirs
from pto_wsp_jax.target import x64
from workloads import Case, cases

FEW = max(3, (settings.default or settings()).max_examples // 40)  # XLA takes seconds to compile one
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SLOTS = {0: np.int64(2), 1: np.uint64(2**63), 2: np.float64(-0.5), 3: np.bool_(True)}


def computed(
    wir: Wir, given: dict[str, Any], of: dict[str, int], slots: dict[int, Any] | None = None
) -> dict[str, Any]:
    """What the tensors hold in the end."""
    low = wirs.lowered(wir)
    used = {v.name for v in low.tensors}
    with x64():
        run = jax.jit(lambda a, s: wirs.evaluate(low, a, of, s), compiler_options=QUICKLY)
        return {n: np.asarray(a) for n, a in run({n: a for n, a in given.items() if n in used}, slots or {}).items()}


def same(got: dict[str, Any], want: dict[str, Any]) -> None:
    for n, a in got.items():
        if n in want:
            np.testing.assert_array_equal(a, want[n], n)


@settings(max_examples=FEW)
@given(cases())
def test_workloads(case: Case) -> None:
    wir, want = case.workload.wir, case.fresh()
    evaluate(expand(wir), {v.name: want[v.name] for v in wir.tensors}, case.sizes)
    same(computed(wir, case.fresh(), case.sizes), want)


@settings(max_examples=FEW)
@given(dynamic_cases())
def test_workloads_whose_shape_is_in_data(case: DynamicCase) -> None:
    for data in case.data:
        want, _ = case.eager(data)
        given_arrays, of = inputs(case, data)
        same(computed(case.workload.wir, given_arrays, of, {0: np.int64(data.slots.get(0, 0))}), want)


@settings(max_examples=FEW)
@given(programs(), st.integers(0, 99))
def test_kernels(p: Program, seed: int) -> None:
    args, want, k = arguments(seed), arguments(seed), kernel_of(p)
    run_plain(p, **want)

    @workload
    def w(x, r, s, y, z):
        for b in P(x.tiles(4)):
            k(x=x[b], r=r, s=s, n=args["n"], y=y[b], z=z)

    tensors = {n: args[n] for n in ("x", "r", "s", "y", "z")}
    same(computed(w(**tensors).wir, tensors, {}), {n: want[n] for n in "syz"})


@pytest.mark.parametrize("block", range(2))
def test_random_wir(block: int) -> None:
    found = 0
    for seed in range(block * 3, block * 3 + 3):
        wir = replace(program(seed), axes=())
        want = meaning(wir, seed)
        if not isinstance(want, dict):
            continue  # what is an error of a run gives some number here
        try:
            refuse_races(wir)
        except RaceError:
            continue
        got = bits(computed(wir, arrays(seed), sizes(seed), SLOTS))
        assert {n: got[n] for n in want if n in got} == {n: want[n] for n in want if n in got}, seed
        found += 1
    assert found


@pytest.mark.parametrize("block", range(2))
def test_networks(block: int) -> None:
    for seed in range(block * 2, block * 2 + 2):
        case = pipelines(seed)
        got = computed(case.workload(case.arrays()).wir, case.arrays(), {})
        assert (got["Y"] == case.expected).all(), seed
