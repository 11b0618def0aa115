"""The row of a mixture of experts. Every arm computes the routing too: softmax gate, two of 32 experts a token."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pto_wsp import Constexpr, DType, In, InOut, Out, P, Sparse, Tensor, empty, kernel, pto, workload
from pto_wsp.tools.bench.arms import Arms, Array, Call, has_jax, in_n_eps, jitted

GATE_TILE, TILE = 128, 128
PEERS = (
    "jax.jit scan over all experts, masked",
    "jax.jit capacity 128 gather + batched matmul",
    "jax.lax.ragged_dot",
)
CAPACITY = 128


@kernel
def gate(x: In[Tensor], w: In[Tensor], weight: Out[Tensor], choice: Out[Tensor], top: Constexpr[int]) -> None:
    """weight [tile, top]: softmax over the chosen experts. choice [top, tile]: their numbers."""
    best, index = pto.topk(pto.matmul(x, w), top)
    pto.store(weight, pto.softmax(best))
    pto.store(choice, pto.transpose(index))


@kernel
def sort(
    choice: In[Tensor], indptr: Out[Tensor], token: Out[Tensor], slot: Out[Tensor], experts: Constexpr[int]
) -> None:
    """Tokens and slots (choice * tokens + token) by expert: those of expert e from indptr[e] to indptr[e + 1]."""
    top, tokens = choice.shape
    shape = (tokens, experts)
    hits: list[Any] = []
    places: list[Any] = []
    count: Any = pto.full((1, experts), 0, DType.I32)
    for c in range(top):
        hit = pto.broadcast(pto.transpose(pto.slice(choice, rows=(c, c + 1))), shape) == pto.iota(shape, axis=1)
        ones = pto.cast(hit, DType.I32)
        hits.append(hit)
        places.append(pto.coladd(pto.cumsum(ones, axis=0), count - 1))
        count = count + pto.colsum(ones)
    end = pto.cumsum(count)
    pto.store(indptr, pto.concat(pto.full((1, 1), 0, DType.I32), end))
    number = pto.iota((1, tokens), axis=1)
    tokens_of = slots_of = pto.full((1, top * tokens), 0, DType.I32)
    for c in range(top):
        place = pto.transpose(pto.rowsum(pto.where(hits[c], pto.coladd(places[c], end - count), 0)))
        tokens_of = pto.scatter(tokens_of, place, number)
        slots_of = pto.scatter(slots_of, place, number + c * tokens)
    pto.store(token, tokens_of)
    pto.store(slot, slots_of)


@kernel
def expert(x: In[Tensor], w1: In[Tensor], w2: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.matmul(pto.relu(pto.matmul(x, w1)), w2))


@kernel
def scale(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.rowmul(x, weight))


@kernel
def add(x: In[Tensor], weight: In[Tensor], out: InOut[Tensor]) -> None:
    pto.store(out, out + pto.rowmul(x, weight))


@workload
def moe(x: Any, w_gate: Any, w1: Any, w2: Any, choice: Any, weight: Any, out: Any) -> None:
    """x, out [tokens, hidden]; w1 [experts, hidden, ffn]; w2 [experts, ffn, hidden]; choice and weight are filled."""
    (tokens, hidden), (top, _), experts = x.shape, choice.shape, w1.shape[0]
    for i in P(x.tiles(GATE_TILE)):
        gate[i](x=x[i], w=w_gate, weight=weight[i], choice=choice[:, i], top=top)
    indptr, token, slot = (empty((1, n), DType.I32) for n in (experts + 1, top * tokens, top * tokens))
    sort(choice=choice, indptr=indptr, token=token, slot=slot, experts=experts)
    results = empty((top * tokens, hidden), DType.F32)
    tokens_of = Sparse(experts, indptr[0], token[0], name="tokens_of")
    slots_of = Sparse(experts, indptr[0], slot[0], name="slots_of")
    for e in P(experts):
        for i in P(tokens_of[e].tiles(TILE)):
            expert[e, i](x=x[tokens_of[e][i], :], w1=w1[e], w2=w2[e], out=results[slots_of[e][i], :])
    for i in P(x.tiles(GATE_TILE)):
        scale[i](x=results[:tokens][i], weight=weight[i, 0:1], out=out[i])
        for c in range(1, top):
            add[i](x=results[c * tokens : (c + 1) * tokens][i], weight=weight[i, c : c + 1], out=out[i])


def moe_row(shape: Mapping[str, Any], flops: int, threads: int) -> Arms:
    random = np.random.default_rng(0)
    tokens, hidden, ffn, experts, top = (shape[k] for k in ("tokens", "hidden", "ffn", "experts", "top"))

    def normal(*size: int) -> Array:
        return random.standard_normal(size, dtype=np.float32)

    x, w_gate = normal(tokens, hidden), normal(hidden, experts)
    w1 = normal(experts, hidden, ffn) / np.float32(np.sqrt(hidden))
    w2 = normal(experts, ffn, hidden) / np.float32(np.sqrt(ffn))
    choice, weight = np.zeros((top, tokens), np.int32), np.zeros((tokens, top), np.float32)
    out = np.zeros((tokens, hidden), np.float32)
    program = moe(x, w_gate, w1, w2, choice, weight, out).compile(threads=threads)

    def error() -> tuple[float, str]:
        """Of the weighted sums. Which experts a token has is what the run chose; a choice that rounding cannot explain is wrong."""
        exact, size = np.zeros(out.shape), np.zeros(out.shape)
        logits = x.astype(np.float64) @ w_gate
        chosen = np.take_along_axis(logits, choice.T, axis=1)
        slack = hidden * float(np.finfo(np.float32).eps) * (np.abs(x) @ np.abs(w_gate)).max()
        least = np.sort(logits, axis=1)[:, experts - top, None]
        twice = np.diff(np.sort(choice, axis=0), axis=0) == 0
        if twice.any() or (chosen < least - slack).any():
            return math.inf, "n*eps"
        share = np.exp(chosen - chosen.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        for c in range(top):
            for e in range(experts):
                rows = np.flatnonzero(choice[c] == e)
                h, w = np.maximum(x[rows].astype(np.float64) @ w1[e], 0), share[rows, c : c + 1]
                exact[rows] += w * (h @ w2[e])
                size[rows] += w * (np.abs(h) @ np.abs(w2[e]))
        return in_n_eps(out, exact, ffn, size)

    peers: dict[str, Call] = {"numpy loop over experts": lambda: by_numpy(x, w_gate, w1, w2, top)}
    if has_jax():
        for name, form in zip(PEERS, (_masked, _padded, _ragged), strict=True):
            peers[name] = jitted(partial(form, top), x, w_gate, w1, w2)
    return Arms(program.run, error, flops=flops, peers=peers, missing=() if has_jax() else PEERS)


def by_numpy(x: Array, w_gate: Array, w1: Array, w2: Array, top: int) -> Array:
    logits = x @ w_gate
    index = np.argsort(-logits, axis=1)[:, :top]
    best = np.take_along_axis(logits, index, axis=1)
    e = np.exp(best - best.max(axis=1, keepdims=True))
    weight = e / e.sum(axis=1, keepdims=True)
    out = np.zeros_like(x)
    for n in range(len(w1)):
        rows, choice = np.nonzero(index == n)
        h = np.maximum(x[rows] @ w1[n], 0)
        out[rows] += (h @ w2[n]) * weight[rows, choice][:, None]  # a token has an expert at most once
    return out


def _routing(jnp: Any, x: Any, w_gate: Any, top: int) -> tuple[Any, Any]:
    jax = importlib.import_module("jax")
    best, index = jax.lax.top_k(x @ w_gate, top)
    return jax.nn.softmax(best), index


def _masked(top: int, jnp: Any, x: Any, w_gate: Any, w1: Any, w2: Any) -> Any:
    """Every expert for every token; the weights of those not chosen are 0."""
    jax = importlib.import_module("jax")
    weight, index = _routing(jnp, x, w_gate, top)

    def one(out: Any, of: Any) -> tuple[Any, None]:
        n, a, b = of
        share = jnp.where(index == n, weight, 0).sum(axis=1, keepdims=True)
        return out + share * (jnp.maximum(x @ a, 0) @ b), None

    return jax.lax.scan(one, jnp.zeros_like(x), (jnp.arange(w1.shape[0]), w1, w2))[0]


def _padded(top: int, jnp: Any, x: Any, w_gate: Any, w1: Any, w2: Any) -> Any:
    """Every expert for CAPACITY tokens; tokens beyond are dropped (with this routing there are none)."""
    weight, index = _routing(jnp, x, w_gate, top)
    of, experts = index.reshape(-1), w1.shape[0]
    order = jnp.argsort(of, stable=True)
    first = jnp.searchsorted(of[order], jnp.arange(experts))
    place = jnp.arange(len(of)) - first[of[order]]
    at = of[order] * CAPACITY + place
    a = jnp.zeros((experts * CAPACITY, x.shape[1]), x.dtype).at[at].set(x[order // top], mode="drop")
    h = jnp.maximum(jnp.einsum("ecd,edf->ecf", a.reshape(experts, CAPACITY, -1), w1), 0)
    y = jnp.einsum("ecf,efd->ecd", h, w2).reshape(experts * CAPACITY, -1)[at] * weight.reshape(-1)[order][:, None]
    return jnp.zeros_like(x).at[order // top].add(y)


def _ragged(top: int, jnp: Any, x: Any, w_gate: Any, w1: Any, w2: Any) -> Any:
    lax = importlib.import_module("jax").lax
    weight, index = _routing(jnp, x, w_gate, top)
    of = index.reshape(-1)
    order = jnp.argsort(of)
    sizes = jnp.bincount(of, length=w1.shape[0])
    h = jnp.maximum(lax.ragged_dot(x[order // top], w1, sizes), 0)
    y = lax.ragged_dot(h, w2, sizes) * weight.reshape(-1)[order][:, None]
    return jnp.zeros_like(x).at[order // top].add(y)
