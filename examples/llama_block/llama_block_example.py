"""Transformer blocks as Llama has them, composed of workloads that return tensors.

A block normalises, projects to queries, keys and values, rotates queries and keys by their positions, attends causally with
fewer heads of keys than of queries (each of them serves a group), projects back and adds; then it normalises again, goes
through SwiGLU and adds. What lies between is made by `empty` and lives in memory that the run reuses: `program.stats` has its
size. The blocks are a loop in Python, over weights that are stacked in one tensor each.

Attention is one kernel for each tile of queries, which loops over the keys that it can see with a running maximum, sum and
weighted sum of values (Dao et al., FlashAttention, 2022). Lengths need not be multiples of the tile.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pto_wsp import DispatchPolicy, DType, In, Out, P, Scalar, Tensor, Value, empty, kernel, pto, workload
from pto_wsp.tools.bounds import EXP, Array, Estimate, U, compare
from pto_wsp.tools.report import Result, check_sizes, command_line, jitted, measured

LAYERS, SEQ, HIDDEN, HEADS, KV_HEADS, DIM, FFN = 2, 512, 1024, 16, 4, 64, 2816
TILE, WIDTH = 64, 256  # rows of a task, columns of a task's product
EPS, BASE = 1e-5, 10_000.0
CYCLES = 7_100_852  # a quarter of what all tasks cost: the four lanes have the same work, and no lane waits


@kernel
def norm(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rmsnorm(x, weight, EPS))


@kernel
def project(x: In[Tensor], w: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(x, w))


@kernel
def project_and_rotate(x: In[Tensor], w: In[Tensor], cos: In[Tensor], sin: In[Tensor], out: Out[Tensor]):
    """Element i of the first half and element i of the second are a point in the plane, which turns with the position."""
    y = pto.matmul(x, w)
    half = y.shape[1] // 2
    a, b = pto.slice(y, cols=(0, half)), pto.slice(y, cols=(half, 2 * half))
    pto.store(out, pto.concat(a * cos - b * sin, b * cos + a * sin))


@kernel
def attend(
    q: In[Tensor],
    k: In[Tensor[None, None, DType.F32]],
    v: In[Tensor[None, None, DType.F32]],
    tile: Scalar[DType.I32],
    out: Out[Tensor],
):
    """q, out [TILE, dim]: the queries from position tile * TILE on; k, v [seq, dim]."""
    dim = q.shape[1]
    query = q * (1 / math.sqrt(dim))

    def step(j: Value, carry: tuple[Value, Value, Value], mask: Any = None) -> tuple[Value, Value, Value]:
        peak, total, acc = carry
        keys, values = (pto.load(x, (j * TILE, 0), (TILE, dim)) for x in (k, v))
        s = pto.matmul(query, keys, transpose_b=True)
        s = s if mask is None else pto.where(mask, s, -math.inf)
        new_peak = pto.maximum(peak, pto.rowmax(s))
        p, shrink = pto.exp(s - new_peak), pto.exp(peak - new_peak)
        return new_peak, total * shrink + pto.rowsum(p), pto.matmul(p, values, acc=acc * shrink)

    nothing = pto.full((TILE, 1), -math.inf), pto.full((TILE, 1), 0.0), pto.full((TILE, dim), 0.0)
    before = pto.fori_loop(0, tile, step, nothing)
    seen = pto.iota((TILE, TILE), axis=0) >= pto.iota((TILE, TILE), axis=1)
    _, total, acc = step(tile, before, seen)
    pto.store(out, acc / total)


@kernel
def project_and_add(x: In[Tensor], w: In[Tensor], residual: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(x, w, acc=residual))


@kernel
def gate_and_up(x: In[Tensor], w1: In[Tensor], w3: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.silu(pto.matmul(x, w1)) * pto.matmul(x, w3))


@workload
def normalised(x, weight):
    y = empty(x.shape, DType.F32)
    for i in P(x.tiles(TILE)):
        norm[i](x=x[i], weight=weight, out=y[i])
    return y


@workload
def added(x, w, residual):
    """residual + x w."""
    y = empty(residual.shape, DType.F32)
    for i, j in P(x.tiles(TILE), y[0].tiles(WIDTH)):
        project_and_add[i, j](x=x[i], w=w[:, j], residual=residual[i, j], out=y[i, j])
    return y


@workload
def attention(x, cos, sin, wq, wk, wv):
    """x [seq, hidden], wq [hidden, heads * dim], wk, wv [hidden, kv heads * dim]; [seq, heads * dim]."""
    seq, dim = x.shape[0], 2 * cos.shape[1]
    heads, kv_heads = wq.shape[1] // dim, wk.shape[1] // dim
    q, k, v = (empty((w.shape[1] // dim, seq, dim), DType.F32) for w in (wq, wk, wv))
    y = empty((seq, heads * dim), DType.F32)
    for to, w, count in ((q, wq, heads), (k, wk, kv_heads)):
        for h, i in P(count, x.tiles(TILE)):
            columns = w[:, h * dim : (h + 1) * dim]
            project_and_rotate[h, i](x=x[i], w=columns, cos=cos[i], sin=sin[i], out=to[h, i])
    for h, i in P(kv_heads, x.tiles(TILE)):
        project[h, i](x=x[i], w=wv[:, h * dim : (h + 1) * dim], out=v[h, i])
    for i, h in P(x.tiles(TILE), heads):  # lanes take heads in turn: all tiles of one cost the same
        g = h // (heads // kv_heads)
        attend[h, i](q=q[h, i], k=k[g], v=v[g], tile=i, out=y[i, h * dim : (h + 1) * dim])
    return y


@workload
def feed_forward(x, w1, w3):
    """silu(x w1) * (x w3)."""
    y = empty((x.shape[0], w1.shape[1]), DType.F32)
    for i, j in P(x.tiles(TILE), w1[0].tiles(WIDTH)):
        gate_and_up[i, j](x=x[i], w1=w1[:, j], w3=w3[:, j], out=y[i, j])
    return y


@workload
def block(x, cos, sin, norm1, wq, wk, wv, wo, norm2, w1, w3, w2):
    a = added(attention(normalised(x, norm1), cos, sin, wq, wk, wv), wo, x)
    return added(feed_forward(normalised(a, norm2), w1, w3), w2, a)


@workload
def blocks(x: Tensor, cos: Tensor, sin: Tensor, weights: Sequence[Tensor]):
    """Weights as `block` takes them, [layers, ...] each; x [seq, hidden], cos and sin [seq, dim / 2]."""
    for layer in range(weights[0].shape[0]):
        x = block(x, cos, sin, *(w[layer] for w in weights))
    return x


def angles(seq: int, dim: int) -> tuple[Array, Array]:
    """Cosines and sines of position times frequency, [seq, dim / 2]."""
    turns = np.arange(seq)[:, None] * BASE ** (-2 * np.arange(dim // 2) / dim)
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)


def rotated(x: Estimate, cos: Array, sin: Array) -> Estimate:
    half = cos.shape[1]
    a, b, c, s = x[:, :half], x[:, half:], Estimate.exact(cos), Estimate.exact(sin)
    return beside([a * c - b * s, b * c + a * s])


def beside(parts: list[Estimate]) -> Estimate:
    return Estimate(*(np.concatenate([getattr(p, f) for p in parts], axis=1) for f in ("value", "variance")))


def accumulated(x: Estimate, w: Array, residual: Estimate) -> Estimate:
    """The chain of a product begins with the residual, so each of its roundings is of that too."""
    y = x @ Estimate.exact(w)
    walk = len(w) * (U * residual.value) ** 2
    return Estimate(y.value + residual.value, y.variance + residual.variance + walk)


def attention_estimate(q: Estimate, k: Estimate, v: Estimate) -> Estimate:
    """One head, [seq, dim] each."""
    s = (q @ k.transposed()).scaled(1 / math.sqrt(q.value.shape[1]))
    seen = np.tri(len(s.value), dtype=bool)
    below = np.where(seen, s.value, -np.inf).max(axis=1, keepdims=True) - s.value
    # The weight of a key is exp(s - peak at its tile), times exp(peak - new peak) for each later tile: the distances add up to
    # `below`, each is rounded once, and each tile costs an exponential and a product.
    tiles = -(-len(s.value) // TILE)
    p = np.where(seen, np.exp(-np.where(seen, below, 0)), 0)
    weight = Estimate(p, p**2 * (s.variance + U**2 * (below**2 + (1 + tiles) * (EXP**2 + 1))))
    return (weight @ v) / weight.rowsum()


def block_estimate(x: Estimate, cos: Array, sin: Array, *weights: Array) -> Estimate:
    norm1, wq, wk, wv, wo, norm2, w1, w3, w2 = weights
    dim = 2 * cos.shape[1]

    def heads(y: Estimate) -> Iterator[Estimate]:
        return (y[:, c : c + dim] for c in range(0, y.value.shape[1], dim))

    y = x.rmsnorm(EPS) * Estimate.exact(norm1)
    q, k, v = (list(heads(y @ Estimate.exact(w))) for w in (wq, wk, wv))
    k = [rotated(one, cos, sin) for one in k]
    group = len(q) // len(k)
    of = [attention_estimate(rotated(one, cos, sin), k[h // group], v[h // group]) for h, one in enumerate(q)]
    a = accumulated(beside(of), wo, x)
    y = a.rmsnorm(EPS) * Estimate.exact(norm2)
    return accumulated((y @ Estimate.exact(w1)).silu() * (y @ Estimate.exact(w3)), w2, a)


def estimate(x: Array, cos: Array, sin: Array, *weights: Array) -> Estimate:
    """In float64, with how far f32 may lie from it."""
    y = Estimate.exact(x)
    for layer in range(len(weights[0])):
        y = block_estimate(y, cos, sin, *(w[layer] for w in weights))
    return y


def by_arrays(xp: Any, x: Any, cos: Any, sin: Any, *weights: Any) -> Any:
    """The same with whole arrays of numpy or jax.numpy."""

    def normal(x: Any, weight: Any) -> Any:
        return x / xp.sqrt((x * x).mean(axis=1, keepdims=True) + np.float32(EPS)) * weight

    seq, dim = len(x), 2 * cos.shape[1]
    seen = np.tri(seq, dtype=bool)
    for norm1, wq, wk, wv, wo, norm2, w1, w3, w2 in zip(*weights, strict=True):
        y = normal(x, norm1)
        q, k, v = ((y @ w).reshape(seq, -1, dim).swapaxes(0, 1) for w in (wq, wk, wv))

        def turned(t: Any) -> Any:
            a, b = t[..., : dim // 2], t[..., dim // 2 :]
            return xp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

        q = turned(q).reshape(len(k), -1, seq, dim)
        s = q @ turned(k)[:, None].swapaxes(2, 3) / np.float32(math.sqrt(dim))
        s = xp.where(seen, s, -np.float32(np.inf))
        p = xp.exp(s - s.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True) @ v[:, None]
        x = x + p.reshape(-1, seq, dim).swapaxes(0, 1).reshape(seq, -1) @ wo
        y = normal(x, norm2)
        g = y @ w1
        x = x + (g / (1 + xp.exp(-g)) * (y @ w3)) @ w2
    return x


def golden(*inputs: Array) -> Array:
    """In float64, computed with whole arrays."""
    return by_arrays(np, *(x.astype(np.float64) for x in inputs))


def run(
    layers: int = LAYERS,
    seq: int = SEQ,
    hidden: int = HIDDEN,
    heads: int = HEADS,
    kv_heads: int = KV_HEADS,
    dim: int = DIM,
    ffn: int = FFN,
    threads: int | None = None,
) -> Result:
    check_sizes(layers=layers, seq=seq, hidden=hidden, heads=heads, kv_heads=kv_heads, dim=dim, ffn=ffn)
    if heads % kv_heads or dim % 2:
        raise ValueError(f"{kv_heads} heads of keys do not serve {heads} of queries, or their {dim} elements are odd")
    random = np.random.default_rng(0)

    def weight(rows: int, cols: int) -> Array:
        return random.standard_normal((layers, rows, cols), dtype=np.float32) / np.float32(math.sqrt(rows))

    def scale() -> Array:
        return random.uniform(0.5, 1.5, (layers, 1, hidden)).astype(np.float32)

    wide, narrow = heads * dim, kv_heads * dim
    attention_weights = (
        scale(),
        weight(hidden, wide),
        weight(hidden, narrow),
        weight(hidden, narrow),
        weight(wide, hidden),
    )
    ffn_weights = (scale(), weight(hidden, ffn), weight(hidden, ffn), weight(ffn, hidden))
    inputs = (
        random.standard_normal((seq, hidden), dtype=np.float32),
        *angles(seq, dim),
        *attention_weights,
        *ffn_weights,
    )
    program = (
        blocks(*inputs[:3], [Tensor(w) for w in inputs[3:]])
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )
    outputs: list[Array] = []

    def check() -> tuple[float, float]:
        outputs.append(program.results)
        expected = estimate(*inputs)
        return compare(outputs[0], golden(*inputs), expected.bound)

    sizes = (layers, seq, hidden, heads, kv_heads, dim, ffn)
    cycles = CYCLES if sizes == (LAYERS, SEQ, HIDDEN, HEADS, KV_HEADS, DIM, FFN) else None
    peers = {"numpy": lambda: by_arrays(np, *inputs)} | jitted(by_arrays, *inputs)
    return measured(f"llama_block {layers} of {seq}x{hidden}", program, outputs, check, cycles, peers)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
