"""Random kernels: runs count the cycles that the model of costs gives, in either model."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.programs import ROWS, Program, arguments, kernel_of, programs
from property.test_kernels import SEEDS
from pto_wsp import P, workload

LOOP = ("loop", 2, True, (("load", "restricted"), ("n", "mul"), ("tile", "add")))
DEEP: Program = (LOOP, ("item", "region"), ("cond", "m", 0, (LOOP,), (("store", "row"), ("row", "mul"))))


@pytest.mark.parametrize("model", ["serial", "pipes"])
@given(programs(), SEEDS)
@example(DEEP, 7)
def test_a_run_counts_what_the_kernel_costs(model: str, program: Program, seed: int) -> None:
    check(model, program, seed)


@pytest.mark.parametrize("model", ["serial", "pipes"])
@given(programs(0), programs(1), st.integers(30, 300), SEEDS)
@example((("tile", "add"),), (("load", "part"), ("row", "mul"), ("store", "row")), 300, 3)
@example((), (("load", "restricted"), LOOP), 100, 3)
@settings(max_examples=max(settings.default.max_examples // 4, 5))
def test_of_long_loops_too(model: str, program: Program, body: Program, trips: int, seed: int) -> None:
    check(model, (*program, ("loop", trips, False, body), *program), seed)


def check(model: str, program: Program, seed: int) -> None:
    k, args = kernel_of(program), arguments(seed)

    @workload
    def w(x, r, s, y, z):
        for b in P(x.tiles(ROWS)):
            k(x=x[b], r=r, s=s, n=args["n"], y=y[b], z=z)

    run = w(*(args[n] for n in ("x", "r", "s", "y", "z"))).compile(threads=1, arch=f"ascend_a2a3:{model}")
    run.run()
    sizes = {n: args[n].shape for n in ("x", "r", "s", "y")}
    assert run.stats.total_cycles == k.cost(f"ascend_a2a3:{model}", n=args["n"], **sizes)
    assert run.stats.model == model
