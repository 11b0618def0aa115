"""`kernel.cost` and `kernel.roofline`: what runs count, and what users read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Constexpr,
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    Tensor,
    Tile,
    kernel,
    pto,
    ptoisa,
    ptoisa_kernel,
    workload,
)

F32, F16 = DType.F32, DType.F16


@kernel
def softmax(x: In[Tile[16, 128, F32]], out: Out[Tile[16, 128, F32]]):
    pto.store(out, pto.softmax(x))


@kernel
def blocks(a: In[Tensor[None, 64, F32]], n: Scalar[DType.I32], scale: Scalar[F32], out: Out[Tile[1, 64, F32]]):
    def body(i: Any, acc: Any) -> Any:
        return acc + pto.colsum(pto.load(a, (i * 16, 0), (16, 64))) * scale

    pto.store(out, pto.fori_loop(0, pto.cast(n, DType.I64), body, pto.full((1, 64), 0.0)))


@pytest.mark.parametrize("rows", [16, 5])
def test_it_is_what_a_run_counts(rows: int) -> None:
    @workload
    def w(x: Any, out: Any) -> None:
        for i in P(x.tiles(16)):
            softmax(x=x[i], out=out[i])

    x = np.zeros((rows, 128), np.float32)
    program = w(x, np.zeros_like(x)).compile(threads=1)
    program.run()
    assert program.stats.total_cycles == softmax.cost(x=(rows, 128), out=(rows, 128))
    assert (program.stats.arch, program.stats.model) == ("ascend_a2a3", "serial")


@pytest.mark.parametrize("n", [-2, 0, 3])
@pytest.mark.parametrize("length", [48, 41])
def test_it_is_what_a_run_counts_of_loops(n: int, length: int) -> None:
    @kernel
    def walk(a: In[Tensor[None, 64, F32]], n: Scalar[DType.I32], out: Out[Tile[1, 64, F32]]):
        def body(i: Any, acc: Any) -> Any:
            part = pto.load(a, (i * 16, 0), (16, 64))
            return pto.cond(i > 1, lambda: acc + pto.colsum(pto.exp(part)), lambda: acc + pto.colmax(part))

        pto.store(out, pto.fori_loop(0, pto.cast(n, DType.I64), body, pto.full((1, 64), 0.0)))

    @workload
    def w(a: Any, out: Any) -> None:
        walk(a=a, n=n, out=out)

    program = w(np.zeros((length, 64), np.float32), np.zeros((1, 64), np.float32)).compile(threads=1)
    program.run()
    assert program.stats.total_cycles == walk.cost(a=(length, 64), n=n)


def test_of_whole_tiles_by_default_and_of_each_model() -> None:
    whole = softmax.cost("ascend_a2a3")
    assert softmax.cost() == whole == softmax.cost("ascend_a2a3:serial")
    assert softmax.cost("ascend_a2a3:pipes") < whole or whole > softmax.cost(x=(3, 128), out=(3, 128))
    assert softmax.cost(x=(3, 128), out=(3, 128)) < whole


def test_loops_take_their_trips_from_scalars() -> None:
    costs = [blocks.cost(a=(160, 64), n=n) for n in range(4)]
    steps = {b - a for a, b in pairwise(costs)}
    assert len(steps) == 1
    assert steps.pop() > 0
    hidden = [blocks.cost("ascend_a2a3:pipes", a=(160, 64), n=n) for n in range(4)]
    assert all(p <= s for p, s in zip(hidden, costs, strict=True))
    assert hidden[3] - hidden[2] < costs[3] - costs[2]


def test_constants_and_bare_tensors() -> None:
    @kernel
    def scaled(x: In[Tensor], times: Constexpr[int], out: Out[Tensor]):
        value = pto.load(x)
        for _ in range(times):
            value = value * 2.0
        pto.store(out, value)

    one, three = (scaled.cost(x=Tile[16, 64, F32], times=n, out=Tile[16, 64, F32]) for n in (1, 3))
    assert three - one == 2 * (11 + 16 + 15)


def test_a_kernel_of_instructions_costs_the_same() -> None:
    @ptoisa_kernel
    def recorded(x: In[Tile[16, 128, F32]], out: Out[Tile[16, 128, F32]]):
        a, v = ptoisa.tile(16, 128), ptoisa.tile(16, 1)
        ptoisa.TLOAD(a, x)
        ptoisa.TROWMAX(v, a)
        ptoisa.TROWEXPANDSUB(a, a, v)
        ptoisa.TEXP(a, a)
        ptoisa.TROWSUM(v, a)
        ptoisa.TROWEXPANDDIV(a, a, v)
        ptoisa.TSTORE(out, a)

    assert recorded.cost() == softmax.cost()


def test_a_roofline_names_what_bounds() -> None:
    @kernel
    def product(a: In[Tile[128, 64, F16]], b: In[Tile[64, 256, F16]], out: InOut[Tile[128, 256, F32]]):
        pto.store(out, pto.matmul(a, b))

    text = product.roofline("ascend_a2a3:pipes")
    cycles = product.cost("ascend_a2a3:pipes")
    assert text.splitlines()[0] == f"product on ascend_a2a3, model pipes: {cycles} cycles, {cycles / 1850:.4g} us"
    loaded, stored, flops = (128 * 64 + 64 * 256) * 2, 128 * 256 * 4, 2 * 128 * 64 * 256
    rows = {line.split()[0]: line.split() for line in text.splitlines()[2:6]}
    assert rows["load"][-2:] == [str(loaded), "-"]
    assert rows["store"][-2:] == [str(stored), "-"]
    assert rows["cube"][1:2] + rows["cube"][-1:] == [str(6 + 8 * 4 * 16), str(flops)]
    assert rows["vector"][1] == "0"
    assert f"intensity {flops / (loaded + stored):.3g} flop/byte" in text
    assert "bound by store" in text
