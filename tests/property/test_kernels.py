"""Random kernels: the evaluator, passes, the function run with numbers, and runs agree with plain numpy, bit by bit."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.programs import ROWS, Program, arguments, kernel_of, programs, run_plain
from pto_wsp import P, workload
from pto_wsp.ir.core import Kernel
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ir.text import parse_kernel, show_kernel
from pto_wsp.ir.verify import verify_kernel
from pto_wsp.passes.canonicalize_kernel import canonicalize_kernel
from pto_wsp.passes.expand import expand_kernel

SEEDS = st.integers(0, 99)
OUTPUTS = ("s", "y", "z")


def wanted(program: Program, seed: int) -> dict[str, Any]:
    """The arguments after the program."""
    given = arguments(seed)
    run_plain(program, **given)
    return given


def check(got: dict[str, Any], want: dict[str, Any]) -> None:
    for name in OUTPUTS:
        np.testing.assert_array_equal(got[name], want[name], name)


@given(programs(), SEEDS)
def test_the_evaluator_gives_what_numpy_gives(program: Program, seed: int) -> None:
    traced: Kernel = kernel_of(program).wir()
    want = wanted(program, seed)
    for form in (traced, canonicalize_kernel(traced), canonicalize_kernel(expand_kernel(traced))):
        verify_kernel(form)
        assert parse_kernel(show_kernel(form)) == form
        args = arguments(seed)
        run_kernel(form, args | {"n": np.int32(args["n"])})
        check(args, want)


@given(programs(), SEEDS)
def test_the_function_run_with_numbers_gives_the_same(program: Program, seed: int) -> None:
    args = arguments(seed)
    kernel_of(program).evaluate(**args)
    check(args, wanted(program, seed))


@given(programs(), SEEDS)
def test_a_run_gives_the_same(program: Program, seed: int) -> None:
    k = kernel_of(program)

    @workload
    def w(x, r, s, y, z):
        for b in P(x.tiles(ROWS)):
            k(x=x[b], r=r, s=s, n=args["n"], y=y[b], z=z)

    args = arguments(seed)
    w(*(args[n] for n in ("x", "r", "s", "y", "z"))).compile(threads=1).run()
    check(args, wanted(program, seed))
