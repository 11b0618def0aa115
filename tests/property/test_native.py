"""Random kernels in both tiers: native code gives the bits that the tile operations give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.chains import COLS, DTYPES, ROWS, Chain, bits, chain_kernel, chains, inputs
from kernels.programs import ROWS as PROGRAM_ROWS
from kernels.programs import Program, arguments, kernel_of, programs
from property.test_kernel_costs import DEEP
from property.test_kernels import OUTPUTS
from pto_wsp import Dense, P, workload

# each compiles a kernel or two
FEW = settings(max_examples=max(4, settings().max_examples // 20))


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@FEW
@given(chains(), st.integers(1, 2 * ROWS), st.integers(1, 2 * COLS), st.integers(0, 99))
@example(
    [("exp", 0, 1, 0), ("rowmax", 0, 1, 2), ("sub", 0, 2, 1), ("rowsum", 1, 0, 0), ("div", 1, 0, 2)], 2 * ROWS, COLS, 0
)
def test_chains_of_tile_operations(chain: Chain, rows: int, cols: int, seed: int) -> None:
    kernels = [chain_kernel(dtype, chain) for dtype in DTYPES]
    given_arrays = [inputs(dtype, rows, cols, seed) for dtype in DTYPES]

    @workload
    def w(arrays, outs):
        for k, (a, b, row), out in zip(kernels, arrays, outs, strict=True):
            for i, j in P(a.tiles(ROWS), Dense[cols]().tiles(COLS)):
                k(a=a[i, j], b=b[i, j], row=row[:, j], out=out[i, j])

    made: list[list[np.ndarray[Any, Any]]] = []
    for native in (False, True):
        outs = [np.zeros_like(a) for a, _, _ in given_arrays]
        program = w(given_arrays, outs).compile(threads=1, native=native)
        program.run()
        made.append(outs)
        assert set(program.stats.tiers.values()) <= ({"native", "first"} if native else {"first"})
    for first, native in zip(*made, strict=True):
        np.testing.assert_array_equal(bits(first), bits(native), str(first.dtype))


@FEW
@given(programs(), st.integers(0, 99))
@example(DEEP, 7)
def test_loops_branches_and_regions(program: Program, seed: int) -> None:
    k = kernel_of(program)
    n = arguments(seed)["n"]

    @workload
    def w(x, r, s, y, z):
        for b in P(x.tiles(PROGRAM_ROWS)):
            k(x=x[b], r=r, s=s, n=n, y=y[b], z=z)

    made: list[dict[str, Any]] = []
    cycles: list[int] = []
    for native in (False, True):
        args = arguments(seed)
        run = w(*(args[name] for name in ("x", "r", "s", "y", "z"))).compile(threads=1, native=native).run()
        made.append(args)
        cycles.append(run.stats.total_cycles)
    for name in OUTPUTS:
        np.testing.assert_array_equal(made[0][name], made[1][name], name)
    assert cycles[0] == cycles[1]
