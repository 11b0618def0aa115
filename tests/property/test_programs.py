"""Random programs run as the reference evaluator says: the same bits or the same error, on any number of threads, and in few resources."""

from dataclasses import replace

import pytest

from ir.programs import SLOTS, arrays, bits, meaning, program, sizes
from pto_wsp import PtoError, RaceError, Resources, arch
from pto_wsp.ir.core import Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.tasks import slot_types
from pto_wsp.runtime.program import Program
from pto_wsp.targets import base


def run(wir: Wir, seed: int, threads: int, resources: Resources | None = None) -> dict[str, bytes] | str:
    """What the program leaves, or its error. Raises RaceError for one that means nothing."""
    refuse_races(wir)
    given = arrays(seed)
    try:
        artifact = base.get("cpu_sim").compile(wir, arch.get(), sizes(seed))
        p = Program(artifact, threads, resources=resources).bind(given)
        for slot, value in SLOTS.items():
            if slot in slot_types(artifact.wir):
                p.set_slot(slot, value)
        p.run()
    except RaceError:
        raise
    except PtoError as e:
        return e.code
    return bits({**given, "R": p.results})


def run_in_few(wir: Wir, seed: int, threads: int) -> dict[str, bytes] | str:
    """The same where there are one to three of each resource, or as many as a single task needs."""
    few = Resources(
        task_window=2 + seed % 2,
        edges=1 + seed // 2 % 2,
        ready_queue=1 + seed // 4 % 2,
        dependence_map=1 + seed // 8 % 2,
    )
    found = run(wir, seed, threads, few)
    return found if found != "PTO519" else run(wir, seed, threads, replace(few, dependence_map="auto"))


@pytest.mark.parametrize("block", range(10))
def test_random_programs_run_as_the_evaluator_says(block: int) -> None:
    refused = 0
    for seed in range(block * 30, block * 30 + 30):
        # sparse axes would ask more of `pages` than to be indices
        wir = replace(program(seed), axes=())
        want = meaning(wir, seed)
        want = want if isinstance(want, dict) else want[:6]
        try:
            assert run(wir, seed, 1) == want, seed
            assert run(wir, seed, 2) == want, seed
            assert run_in_few(wir, seed, 2 + seed % 3) == want, seed
        except RaceError:
            refused += 1
    assert refused < 10
