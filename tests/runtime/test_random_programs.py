"""Random programs of everything that workloads say: what runs give is what the reference evaluator gives, failures included."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ir.programs import arrays, program
from pto_wsp import Program, PtoError, RaceError, TypeCheckError, arch
from pto_wsp.ir.core import Role, Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.runtime.check import check_modes, keep_temporaries
from pto_wsp.targets.cpu_sim.target import CpuSim

SLOTS: dict[int, Any] = {0: 2, 1: 2**63, 2: -0.5, 3: True}
ARCH = arch.get()
Outcome = dict[str, bytes] | str


def without_data_axes(seed: int) -> Wir:
    """The program of a seed; its random numbers are no pointers of a sparse axis."""
    return replace(program(seed), axes=())


def is_refused(wir: Wir, n: int) -> bool:
    """Whether iterations of a P loop conflict, so that nothing is compiled."""
    try:
        refuse_races(wir)
        refuse_races(wir, {"n": n})
    except (RaceError, TypeCheckError):
        return True
    return False


def bits(found: dict[str, np.ndarray[Any, Any]]) -> dict[str, bytes]:
    """Bits of every array, with one NaN."""
    return {
        n: np.where(a == a, a, np.array(np.nan, a.dtype)).tobytes() if a.dtype.kind == "f" else a.tobytes()
        for n, a in found.items()
    }


def meaning(wir: Wir, seed: int, first: float = 0) -> Outcome:
    """What the evaluator gives where temporaries begin with the number `first` everywhere."""
    found = arrays(seed)
    kept = keep_temporaries(wir)[0]
    try:
        results = evaluate(kept, found | {"T": np.full((6, 6, 4), first, np.float32)}, {"n": seed % 4}, SLOTS)
    except PtoError as e:
        return e.code
    return bits(found | results)


def bound(wir: Wir, seed: int, **options: Any) -> tuple[Program, dict[str, np.ndarray[Any, Any]]]:
    found = arrays(seed)
    p = Program(CpuSim().compile(wir, ARCH, {"n": seed % 4}), **options).bind(found)
    for slot, value in SLOTS.items():
        if str(slot) in p._artifact.manifest["slots"]:
            p.set_slot(slot, value)
    return p, found


def outcome(p: Program, found: dict[str, np.ndarray[Any, Any]]) -> Outcome:
    try:
        p.run()
    except PtoError as e:
        return e.code
    return bits({**found, "R": p.results})


@given(st.integers(0, 2**32 - 1))
def test_runs_give_what_the_evaluator_gives(seed: int) -> None:
    wir = without_data_axes(seed)
    want = meaning(wir, seed)
    if is_refused(wir, seed % 4) or meaning(wir, seed, np.nan) != want:  # what was in the memory of a temporary
        return
    for threads in (1, 3):
        assert outcome(*bound(wir, seed, threads=threads)) == want


@given(st.integers(0, 2**32 - 1))
def test_what_the_checks_see_is_what_the_core_does(seed: int) -> None:
    wir, scratch = keep_temporaries(without_data_axes(seed))
    if is_refused(wir, seed % 4):
        return
    got = outcome(*bound(wir, seed, threads=2, check=check_modes("all"), scratch=scratch))
    assert got not in ("PTO720", "PTO721", "PTO722")
    if got != "PTO204":
        assert got == meaning(wir, seed)


def test_temporaries_are_not_there_to_be_bound() -> None:
    wir = next(w for w in map(without_data_axes, range(100)) if not is_refused(w, 0))
    assert wir.tensor_type("T").role is Role.TEMPORARY
    with pytest.raises(PtoError, match="PTO508"):
        bound(wir, 0)[0].bind({"T": np.zeros((6, 6, 4), np.float32)})
