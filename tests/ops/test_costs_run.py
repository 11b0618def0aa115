"""What operations cost, in either model: runs count what the reference of the model gives."""

from typing import Any

import numpy as np
import pytest

from ops.conftest import Bench
from ops.test_every_operation import CASES, call, operands
from pto_wsp import DType, In, InOut, Out, Scalar, Tensor, Tile, kernel, pto, workload
from pto_wsp.ir.build import tracing_kernel
from pto_wsp.ir.core import TileType
from pto_wsp.ops.table import Row

MODELS = ("ascend_a2a3:serial", "ascend_a2a3:pipes")
FIRST = {row.name: (row, dtype) for row, dtype in reversed(CASES)}


@pytest.mark.parametrize(("row", "dtype"), FIRST.values(), ids=FIRST)
def test_of_every_operation(row: Row, dtype: DType) -> None:
    types = list(operands(row, dtype))
    bench = Bench()
    with tracing_kernel(bench.builder):
        result = call(row, [bench.tile(f"p{i}", rows, cols, own) for i, (own, rows, cols) in enumerate(types)])
    assert isinstance(result.type, TileType)
    more = [Tile[rows, cols, own] for own, rows, cols in [*types, *[types[0]] * (4 - len(types))]]
    a_t, b_t, c_t, d_t = more
    out_t = Tile[*result.type.shape, result.dtype]

    @kernel
    def operation(a: In[a_t], b: In[b_t], c: In[c_t], d: In[d_t], out: Out[out_t]):
        given = [a, b, c, d][: len(types)]
        pto.store(out, call(row, given))

    arrays = [np.ones(t.shape, t.dtype.numpy) for t in more]
    out = np.zeros(result.type.shape, result.dtype.numpy)

    @workload
    def w(a, b, c, d, out):
        operation(a=a, b=b, c=c, d=d, out=out)

    for model in MODELS:
        stats = w(*arrays, out).compile(threads=1, arch=model).run().stats
        assert stats.total_cycles == operation.cost(model) > 0


@kernel
def product(
    a: In[Tensor[None, None, DType.F16]],
    b: In[Tile[32, 48, DType.F16]],
    n: Scalar[DType.I32],
    acc: InOut[Tile[16, 48, DType.F32]],
):
    def step(i: Any, c: Any) -> Any:
        part = pto.load(a, (0, i % 4 * 32), (16, 32))
        return c + pto.matmul(part, b)

    pto.store(acc, pto.exp(pto.fori_loop(0, pto.cast(n, DType.I64), step, pto.load(acc))))


def cycles_of(model: str, n: int) -> tuple[int, int]:
    """What a run counts, and what the reference gives."""
    a, b, acc = np.zeros((16, 128), np.float16), np.zeros((32, 48), np.float16), np.zeros((16, 48), np.float32)

    @workload
    def w(a, b, acc):
        product(a=a, b=b, n=n, acc=acc)

    stats = w(a, b, acc).compile(threads=1, arch=model).run().stats
    assert f"ascend_a2a3:{stats.model}" == model
    return stats.total_cycles, product.cost(model, a=(16, 128), n=n) if n < 10_000 else 0


@pytest.mark.parametrize("model", MODELS)
def test_of_all_units_in_a_loop_of_any_length(model: str) -> None:
    for n in (-1, 0, 1, 2, 39, 40, 41, 1000):
        counted, wanted = cycles_of(model, n)
        assert counted == wanted
    before, after = (cycles_of(model, n)[0] for n in (1000, 1001))
    assert cycles_of(model, 200_000)[0] == before + (200_000 - 1000) * (after - before)
