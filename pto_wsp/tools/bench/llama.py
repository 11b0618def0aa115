"""The row of two transformer blocks as Llama has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pto_wsp import DType, In, Out, P, Program, Tensor, TensorSpec, empty, kernel, pto, workload
from pto_wsp.tools.bench.arms import Arms, Array, Call, has_jax, in_n_eps, jitted

TILE, WIDTH = 128, 256  # rows of a task, columns of a task's product
EPS, BASE = 1e-5, 10_000.0


@kernel
def norm(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.rmsnorm(x, weight, EPS))


@kernel
def project(x: In[Tensor], w: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.matmul(x, w))


@kernel
def rotate(x: In[Tensor], cos: In[Tensor], sin: In[Tensor], out: Out[Tensor]) -> None:
    half = x.shape[1] // 2
    a, b = pto.slice(x, cols=(0, half)), pto.slice(x, cols=(half, 2 * half))
    pto.store(out, pto.concat(a * cos - b * sin, b * cos + a * sin))


@kernel
def attend(q: In[Tensor], k: In[Tensor], v: In[Tensor], out: Out[Tensor]) -> None:
    """q [n, dim]: the last n of the m positions of k and v [m, dim]."""
    s = pto.matmul(q, k, transpose_b=True) * (1 / math.sqrt(q.shape[1]))
    before = k.shape[0] - q.shape[0]
    seen = pto.iota(s.shape, axis=0) + before >= pto.iota(s.shape, axis=1)
    pto.store(out, pto.matmul(pto.softmax(pto.where(seen, s, -math.inf)), v))


@kernel
def project_and_add(x: In[Tensor], w: In[Tensor], residual: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.matmul(x, w, acc=residual))


@kernel
def gate_and_up(x: In[Tensor], w1: In[Tensor], w3: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.silu(pto.matmul(x, w1)) * pto.matmul(x, w3))


@workload
def normalised(x: Any, weight: Any) -> Any:
    y = empty(x.shape, DType.F32)
    for i in P(x.tiles(TILE)):
        norm[i](x=x[i], weight=weight, out=y[i])
    return y


@workload
def projected(x: Any, w: Any) -> Any:
    y = empty((x.shape[0], w.shape[1]), DType.F32)
    for i, j in P(x.tiles(TILE), w[0].tiles(WIDTH)):
        project[i, j](x=x[i], w=w[:, j], out=y[i, j])
    return y


@workload
def added(x: Any, w: Any, residual: Any) -> Any:
    y = empty(residual.shape, DType.F32)
    for i, j in P(x.tiles(TILE), y[0].tiles(WIDTH)):
        project_and_add[i, j](x=x[i], w=w[:, j], residual=residual[i, j], out=y[i, j])
    return y


@workload
def rotated(x: Any, cos: Any, sin: Any) -> Any:
    y, dim = empty(x.shape, DType.F32), 2 * cos.shape[1]
    for h, i in P(x.shape[1] // dim, x.tiles(TILE)):
        columns = slice(h * dim, (h + 1) * dim)
        rotate[h, i](x=x[i, columns], cos=cos[i], sin=sin[i], out=y[i, columns])
    return y


@workload
def attention(q: Any, k: Any, v: Any, dim: int) -> Any:
    """q [seq, heads * dim], k and v [seq, kv heads * dim]."""
    seq, heads, kv_heads = q.shape[0], q.shape[1] // dim, k.shape[1] // dim
    y = empty(q.shape, DType.F32)
    for start in range(0, seq, TILE):
        stop = min(start + TILE, seq)
        for g, h in P(kv_heads, heads // kv_heads):
            head = g * (heads // kv_heads) + h
            own, shared = slice(head * dim, (head + 1) * dim), slice(g * dim, (g + 1) * dim)
            attend[head](q=q[start:stop, own], k=k[:stop, shared], v=v[:stop, shared], out=y[start:stop, own])
    return y


@workload
def feed_forward(x: Any, w1: Any, w3: Any) -> Any:
    y = empty((x.shape[0], w1.shape[1]), DType.F32)
    for i, j in P(x.tiles(TILE), w1[0].tiles(WIDTH)):
        gate_and_up[i, j](x=x[i], w1=w1[:, j], w3=w3[:, j], out=y[i, j])
    return y


@workload
def blocks(x: Any, cos: Any, sin: Any, weights: Sequence[Any], out: Any) -> None:
    dim, layers = 2 * cos.shape[1], weights[0].shape[0]
    for layer in range(layers):
        norm1, wq, wk, wv, wo, norm2, w1, w3, w2 = (w[layer] for w in weights)
        y = normalised(x, norm1)
        q, k, v = rotated(projected(y, wq), cos, sin), rotated(projected(y, wk), cos, sin), projected(y, wv)
        a = added(attention(q, k, v, dim), wo, x)
        h = feed_forward(normalised(a, norm2), w1, w3)
        if layer + 1 < layers:
            x = added(h, w2, a)
            continue
        for i, j in P(h.tiles(TILE), out[0].tiles(WIDTH)):
            project_and_add[i, j](x=h[i], w=w2[:, j], residual=a[i, j], out=out[i, j])


def compiled(shape: Mapping[str, int], threads: int = 1) -> Program:
    """For arrays that are bound later."""

    def spec(*size: int) -> TensorSpec:
        return TensorSpec(size, DType.F32)

    layers, seq, hidden, ffn = shape["layers"], shape["s"], shape["hidden"], shape["ffn"]
    wide, narrow, half = shape["q_heads"] * shape["head"], shape["kv_heads"] * shape["head"], shape["head"] // 2
    sizes = [(1, hidden), (hidden, wide), (hidden, narrow), (hidden, narrow), (wide, hidden)]
    sizes += [(1, hidden), (hidden, ffn), (hidden, ffn), (ffn, hidden)]
    weights = [spec(layers, *size) for size in sizes]
    return blocks(spec(seq, hidden), spec(seq, half), spec(seq, half), weights, spec(seq, hidden)).compile(
        threads=threads
    )


def by_arrays(xp: Any, x: Any, cos: Any, sin: Any, *weights: Any) -> Any:
    """The same with whole arrays of numpy or jax.numpy."""

    def normal(x: Any, weight: Any) -> Any:
        return x / xp.sqrt((x * x).mean(axis=1, keepdims=True) + EPS) * weight

    def turned(t: Any) -> Any:
        a, b = t[..., : t.shape[-1] // 2], t[..., t.shape[-1] // 2 :]
        return xp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    seq, dim = len(x), 2 * cos.shape[1]
    seen = np.tri(seq, dtype=bool)
    for norm1, wq, wk, wv, wo, norm2, w1, w3, w2 in zip(*weights, strict=True):
        y = normal(x, norm1)
        q, k, v = ((y @ w).reshape(seq, -1, dim).swapaxes(0, 1) for w in (wq, wk, wv))
        q = turned(q).reshape(len(k), -1, seq, dim)
        s = q @ turned(k)[:, None].swapaxes(2, 3) / math.sqrt(dim)
        s = xp.where(seen, s, -math.inf)
        p = xp.exp(s - s.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True) @ v[:, None]
        x = x + p.reshape(-1, seq, dim).swapaxes(0, 1).reshape(seq, -1) @ wo
        y = normal(x, norm2)
        g = y @ w1
        x = x + (g / (1 + xp.exp(-g)) * (y @ w3)) @ w2
    return x


def operations(shape: Mapping[str, int]) -> int:
    """Of the products; of attention those over what is seen."""
    s, d, wide = shape["s"], shape["hidden"], shape["q_heads"] * shape["head"]
    narrow = shape["kv_heads"] * shape["head"]
    projections = 2 * s * d * (2 * wide + 2 * narrow) + 6 * s * d * shape["ffn"]
    return shape["layers"] * (projections + 2 * wide * s * (s + 1))


def arrays(shape: Mapping[str, int]) -> tuple[Array, ...]:
    """x, cos, sin and the weights of all layers."""
    random = np.random.default_rng(0)
    layers, hidden, seq = shape["layers"], shape["hidden"], shape["s"]
    wide, narrow, ffn = shape["q_heads"] * shape["head"], shape["kv_heads"] * shape["head"], shape["ffn"]

    def weight(rows: int, cols: int) -> Array:
        return random.standard_normal((layers, rows, cols), dtype=np.float32) / np.float32(math.sqrt(rows))

    def scales() -> Array:
        return random.uniform(0.5, 1.5, (layers, 1, hidden)).astype(np.float32)

    half = shape["head"] // 2
    turns = np.arange(seq)[:, None] * BASE ** (-np.arange(half) / half)
    cos, sin = np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)
    weights = (
        *(scales(), weight(hidden, wide), weight(hidden, narrow), weight(hidden, narrow), weight(wide, hidden)),
        *(scales(), weight(hidden, ffn), weight(hidden, ffn), weight(ffn, hidden)),
    )
    return random.standard_normal((seq, hidden), dtype=np.float32), cos, sin, *weights


def error_of(given: Sequence[Array], out: Array) -> tuple[float, str]:
    exact = by_arrays(np, *(a.astype(np.float64) for a in given))
    return in_n_eps(out, exact, given[-1].shape[1], float(np.abs(exact).max()))


def llama_row(shape: Mapping[str, int], threads: int) -> Arms:
    given = x, cos, sin, *weights = arrays(shape)
    out = np.zeros_like(x)
    program = blocks(x, cos, sin, [Tensor(w) for w in weights], out).compile(threads=threads)
    peers: dict[str, Call] = {}
    if has_jax():
        peers["jax.jit"] = jitted(by_arrays, *given)
    missing = () if has_jax() else ("jax.jit",)
    return Arms(program.run, lambda: error_of(given, out), flops=operations(shape), peers=peers, missing=missing)
