"""A whole algorithm in one kernel, beside numpy in float64."""

import numpy as np
import pytest

from kernels.attention import BLOCK, DIM, QUERIES, attention, reference
from pto_wsp import P, item, workload
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


@pytest.mark.parametrize("check", [None, "numerics"])
def test_attention_as_tasks_of_a_ragged_batch(check: str | None) -> None:
    rng = np.random.default_rng(7)
    lengths, heads, group, queries = [37, 5, 64], 4, 2, 32
    blocks = max(lengths) // BLOCK
    q = rng.normal(size=(len(lengths), heads, queries, DIM)).astype(np.float32)
    keys, values = rng.normal(size=(2, 30, heads // group, BLOCK, DIM)).astype(np.float32)
    table = rng.permutation(30)[: len(lengths) * blocks].reshape(len(lengths), blocks).astype(np.int32)

    @workload
    def prefill(q, keys, values, table, lengths, out):
        for b, h in P(q.shape[0], q.shape[1]):
            for t in P(queries // QUERIES):
                rows = slice(t * QUERIES, (t + 1) * QUERIES)
                attention(
                    q=q[b, h, rows],
                    keys=keys,
                    values=values,
                    table=table[b],
                    length=item(lengths[b]),
                    first=t * QUERIES,
                    head=h,
                    group=group,
                    out=out[b, h, rows],
                )

    out = np.zeros_like(q)
    prefill(q, keys, values, table, np.array(lengths), out).compile(check=check).run()
    for b, length in enumerate(lengths):
        for h in range(heads):
            k, v = (x[table[b], h // group].reshape(-1, DIM)[:length].astype(np.float64) for x in (keys, values))
            want = reference(q[b, h].astype(np.float64), k, v, 0)
            np.testing.assert_allclose(out[b, h], want, atol=2e-6)
