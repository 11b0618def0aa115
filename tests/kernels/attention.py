"""Flash attention as one kernel for each tile of queries: causal, grouped queries, any number of keys, in blocks that a table names."""

from __future__ import annotations

import math

import numpy as np

from pto_wsp import Constexpr, DType, In, Out, Scalar, Tensor, Tile, kernel, pto

F32, I32 = DType.F32, DType.I32
QUERIES, BLOCK, DIM = 16, 8, 32


@kernel
def attention(
    q: In[Tile[QUERIES, DIM, F32]],
    keys: In[Tensor[None, None, BLOCK, DIM, F32]],
    values: In[Tensor[None, None, BLOCK, DIM, F32]],
    table: In[Tensor[None, I32]],
    length: Scalar[I32],
    first: Scalar[I32],
    head: Scalar[I32],
    group: Constexpr[int],
    out: Out[Tile[QUERIES, DIM, F32]],
):
    """keys, values: blocks, heads, positions in a block, DIM; table: the block of each BLOCK positions. `first` is the position of
    the first query, `head` the head of the queries, `group` of which share one of keys."""
    scaled = q * (1 / math.sqrt(DIM))
    rows, _ = pto.valid_shape(q)
    position = pto.iota((QUERIES, BLOCK), axis=0) + first
    column = pto.iota((QUERIES, BLOCK), axis=1)
    end = pto.minimum(length, first + rows)  # no query of this tile sees what comes later

    def step(j, carry):
        largest, total, acc = carry
        block = pto.item(table, j)
        k, v = (pto.load(x, (block, head // group, 0, 0), (BLOCK, DIM)) for x in (keys, values))
        key = column + j * BLOCK
        scores = pto.matmul(scaled, k, transpose_b=True)
        scores = pto.where((key <= position) & (key < length), scores, -math.inf)
        m = pto.maximum(largest, pto.rowmax(scores))
        p = pto.exp(scores - m)
        shrink = pto.exp(largest - m)
        return m, total * shrink + pto.rowsum(p), acc * shrink + pto.matmul(p, v)

    init = (pto.full((QUERIES, 1), -math.inf), pto.full((QUERIES, 1), 0.0), pto.full((QUERIES, DIM), 0.0))
    _, total, acc = pto.fori_loop(0, (end + BLOCK - 1) // BLOCK, step, init)
    pto.store(out, acc / total)


def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int) -> np.ndarray:
    """q: [queries, dim], k and v: [keys, dim], in float64."""
    scores = q @ k.T / math.sqrt(q.shape[1])
    seen = np.arange(k.shape[0])[None, :] <= first + np.arange(q.shape[0])[:, None]
    scores = np.where(seen, scores, -np.inf)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p @ v / p.sum(axis=1, keepdims=True)
