"""Conflicts that depend on sizes: asked again when sizes are bound, tracked where nothing can be proved."""

from __future__ import annotations

import numpy as np
import pytest

from pto_wsp import DenseDyn, DType, InOut, P, Program, RaceError, Symbol, Tensor, Tile, Workload, kernel, pto, workload
from pto_wsp.ir import affine


@kernel
def grow(y: InOut[Tile[1, 8, DType.F32]], z: InOut[Tile[1, 8, DType.F32]]):
    pto.store(y, y * 0.5 + 1.0)
    pto.store(z, z * 0.5 + 3.0)


@kernel
def halve(y: InOut[Tile[1, 8, DType.F32]]):
    pto.store(y, y * 0.5 + 1.0)


def mixed(y: np.ndarray, z: np.ndarray) -> Workload:
    """Y may conflict, which nobody can know; Z conflicts when there are two iterations."""
    n, m = DenseDyn("n"), Symbol("m")

    @workload
    def w(Y, Z):
        for i in P(n):
            grow[i](y=Y[i * m], z=Z[0])

    return w(Tensor(y), Tensor(z))


def test_a_conflict_that_sizes_decide_is_found_beside_one_that_nobody_can_decide() -> None:
    y, z = np.zeros((9, 1, 8), np.float32), np.zeros((1, 1, 8), np.float32)
    program = mixed(y, z).compile(threads=4)
    for p in (program, Program.from_bytes(program.to_bytes()).bind({"Y": y, "Z": z})):
        p.set_symbol_u64("m", 1).set_axis_sizes({"n": 1}).run()
        with pytest.raises(RaceError):
            p.set_axis_sizes({"n": 2}).run()


def test_what_cannot_be_decided_for_the_bound_sizes_keeps_program_order(monkeypatch: pytest.MonkeyPatch) -> None:
    n = DenseDyn("n")

    @workload
    def w(Y):
        for i in P(n):
            for j in P.seq(3):
                halve[i, j](y=Y[i * 2 + j])

    def values(threads: int) -> bytes:
        y = np.zeros((40, 1, 8), np.float32)
        program = w(Tensor(y)).compile(threads=threads)
        with monkeypatch.context() as patch:
            patch.setattr(affine, "_BUDGET", 0)
            program.set_axis_sizes({"n": 18}).run()
        return y.tobytes()

    expected = np.zeros((40, 1, 8), np.float32)
    for i in range(18):
        for j in range(3):
            expected[i * 2 + j] = expected[i * 2 + j] * 0.5 + 1.0
    assert {values(t) for t in (1, 4, 4, 4)} == {expected.tobytes()}
