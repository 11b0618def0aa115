"""A whole algorithm in one kernel, beside numpy in float64."""

import numpy as np
import pytest

from kernels.attention import BLOCK, DIM, attention, reference
from pto_wsp.ir.core import Kernel
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ir.text import parse_kernel, show_kernel
from pto_wsp.ir.verify import verify_kernel
from pto_wsp.passes.canonicalize_kernel import canonicalize_kernel
from pto_wsp.passes.expand import expand_kernel


@pytest.fixture(scope="module")
def traced() -> Kernel:
    return attention.wir(2)


def test_its_text_says_it_all(traced: Kernel) -> None:
    verify_kernel(traced)
    assert parse_kernel(show_kernel(traced)) == traced


@pytest.mark.parametrize(
    ("rows", "first", "length"), [(16, 5, 21), (3, 0, 3), (7, 30, 37), (1, 0, 40), (16, 0, 16), (1, 63, 64)]
)
def test_attention_over_blocks_of_a_table(traced: Kernel, rows: int, first: int, length: int) -> None:
    rng = np.random.default_rng(rows)
    blocks, head = -(-length // BLOCK), 3
    table = rng.permutation(10)[:blocks].astype(np.int32)
    keys, values = np.full(
        (2, 10, 2, BLOCK, DIM), np.nan, np.float32
    )  # blocks that the table does not name are never read
    for x in (keys, values):
        x[table, head // 2] = rng.normal(size=(blocks, BLOCK, DIM))
    q, out = rng.normal(size=(rows, DIM)).astype(np.float32), np.zeros((rows, DIM), np.float32)
    k, v = (x[table, head // 2].reshape(-1, DIM)[:length].astype(np.float64) for x in (keys, values))
    for kernel in (traced, canonicalize_kernel(expand_kernel(traced))):
        verify_kernel(kernel)
        scalars = {n: np.int32(x) for n, x in (("length", length), ("first", first), ("head", head))}
        run_kernel(kernel, {"q": q, "keys": keys, "values": values, "table": table, "out": out, **scalars})
        np.testing.assert_allclose(out, reference(q.astype(np.float64), k, v, first), atol=2e-6)
