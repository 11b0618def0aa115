"""A decoder as Llama has them, as jitted steps: over a paged cache with workloads in it, and padded, in JAX alone.

Both steps are the same `forward`, which is JAX, and differ in two of its parts. Over pages, attention is a workload that reads
of each sequence as many positions as it has, and the experts are one that computes those which somebody chose. Padded, every
sequence is as long as the cache and masked, and every expert is computed for every row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pto_wsp import (
    Constexpr,
    DType,
    In,
    Out,
    P,
    Scalar,
    Sparse,
    Tensor,
    Value,
    empty,
    item,
    kernel,
    pto,
    workload,
)
from pto_wsp.tools.bounds import Array
from pto_wsp_jax import as_jax

EPS, BASE, TOP = 1e-5, 10_000.0, 2
STEP = 2  # pages that attention takes at once, as long as there are so many
TILE, WIDTH = 16, 256  # of experts: rows of a task, columns of its product


@dataclass(frozen=True)
class Sizes:
    """Of a model. experts: 0, or as many in each layer in the place of one feed forward. page: positions of a page of the cache."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocabulary: int
    experts: int
    page: int
    dtype: DType

    @property
    def dim(self) -> int:
        return self.hidden // self.heads


class Layer(NamedTuple):
    """Weights of a layer. With experts, `router` [hidden, experts], and w1, w3, w2 have a dimension of experts in front."""

    norm1: Any  # [hidden]
    wqkv: Any  # [hidden, 3 * hidden]
    wo: Any  # [hidden, hidden]
    norm2: Any  # [hidden]
    router: Any
    w1: Any  # [hidden, ffn]
    w3: Any
    w2: Any  # [ffn, hidden]


class Weights(NamedTuple):
    """Of the whole model. cos, sin: of each position's rotation, in f32."""

    embedding: Any  # [vocabulary, hidden]
    cos: Any  # [positions, dim / 2]
    sin: Any
    layers: tuple[Layer, ...]
    norm: Any  # [hidden]
    head: Any  # [hidden, vocabulary]


class Rows(NamedTuple):
    """What a step works on. A row is one token of a sequence, with the next of its positions; several rows may be of one sequence."""

    token: Any  # [rows]
    position: Any  # [rows], -1 where the row is empty
    slot: Any  # [rows]: the sequence's row of the table
    table: Any  # [slots, blocks]: the pages of each sequence
    last: Any  # [slots]: the row that gives the sequence's next token


class Outcome(NamedTuple):
    token: Any  # [slots]: the next tokens
    logits: Any  # [slots, vocabulary]
    choices: tuple[Any, ...]  # by layer, [rows, TOP]: the experts of each row; empty without experts


Cache = tuple[tuple[Any, Any], ...]
"""Keys and values, by layer. In pages: [pages, heads, dim, page] and [pages, heads, page, dim]; padded: [slots, heads, positions, dim]."""

Attend = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""(cache of a layer, q, k, v [rows, heads, dim]) to the cache with k and v, and the result [rows, heads, dim]."""

Experts = Callable[[Layer, Any, Any, Any], Any]
"""(layer, x [rows, hidden], index [rows, TOP], weight [rows, TOP]) to the weighted sum of the chosen, [rows, hidden]."""


def random_weights(sizes: Sizes, positions: int) -> Weights:
    random = np.random.default_rng(0)

    def weight(*shape: int) -> Array:
        scale = np.float32(1 / math.sqrt(shape[-2]))
        return (random.standard_normal(shape, dtype=np.float32) * scale).astype(sizes.dtype.numpy)

    def norm() -> Array:
        return random.uniform(0.5, 1.5, sizes.hidden).astype(np.float32)

    def layer() -> Layer:
        hidden, ffn = sizes.hidden, sizes.ffn
        many = (sizes.experts,) if sizes.experts else ()
        router = weight(hidden, sizes.experts) if sizes.experts else None
        square = norm(), weight(hidden, 3 * hidden), weight(hidden, hidden)
        return Layer(
            *square, norm(), router, *(weight(*many, *s) for s in [(hidden, ffn), (hidden, ffn), (ffn, hidden)])
        )

    turns = np.arange(positions)[:, None] * BASE ** (-2 * np.arange(sizes.dim // 2) / sizes.dim)
    return Weights(
        embedding=random.standard_normal((sizes.vocabulary, sizes.hidden), dtype=np.float32).astype(sizes.dtype.numpy),
        cos=np.cos(turns).astype(np.float32),
        sin=np.sin(turns).astype(np.float32),
        layers=tuple(layer() for _ in range(sizes.layers)),
        norm=norm(),
        head=weight(sizes.hidden, sizes.vocabulary),
    )


# Workloads.


def pages_of(dtype: DType) -> Any:
    return In[Tensor[None, None, None, dtype]]


@functools.cache
def attend(dtype: DType) -> Any:
    """The kernel for keys and values of this dtype."""

    @kernel
    def attend(
        q: In[Tensor],
        k: pages_of(dtype),  # type: ignore[valid-type]
        v: pages_of(dtype),  # type: ignore[valid-type]
        table: In[Tensor[None, DType.I32]],
        length: Scalar[DType.I32],
        out: Out[Tensor],
        page: Constexpr[int],
    ):
        """One head of one row over the first `length` positions: position p is in page table[p // page]. Without any the result is 0."""
        rows, dim = q.shape
        query = q * (1 / math.sqrt(dim))

        def step(j: Value, carry: Any, count: int, valid: Any) -> Any:
            """From page j on; `valid` positions of each."""
            peak, total, acc = carry
            at = [(pto.item(table, (j + i,)), 0, 0) for i in range(count)]
            keys = [pto.restrict(pto.load(k, place, (dim, page)), dim, valid) for place in at]
            values = [pto.restrict(pto.load(v, place, (page, dim)), valid, dim) for place in at]
            scores = [pto.matmul(query, pto.cast(tile, DType.F32)) for tile in keys]
            new_peak = functools.reduce(pto.maximum, map(pto.rowmax, scores), peak)
            shrink = pto.exp(peak - new_peak)
            total, acc = total * shrink, acc * shrink
            for s, tile in zip(scores, values, strict=True):
                p = pto.exp(s - new_peak)
                total, acc = total + pto.rowsum(p), pto.matmul(p, pto.cast(tile, DType.F32), acc=acc)
            return new_peak, total, acc

        steps, pages = length // (STEP * page), (length + (page - 1)) // page
        carry = pto.full((rows, 1), -math.inf), pto.full((rows, 1), 0.0), pto.full((rows, dim), 0.0)
        carry = pto.fori_loop(0, steps, lambda j, c: step(j * STEP, c, STEP, page), carry)
        carry = pto.fori_loop(
            steps * STEP, pages, lambda j, c: step(j, c, 1, pto.minimum(length - j * page, page)), carry
        )
        _, total, acc = carry
        pto.store(out, acc / pto.maximum(total, 1.0))  # the largest score alone gives 1, but without keys total is 0

    return attend


@kernel
def keep(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.cast(x, out.dtype))


@kernel
def keep_turned(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.cast(pto.transpose(x), out.dtype))


@workload
def append(new_k: Tensor, new_v: Tensor, k: Tensor, v: Tensor, table: Tensor, slot: Tensor, position: Tensor):
    """Keys and values of the rows, [rows, heads, dim], at their positions. Empty rows have none."""
    page = v.shape[2]
    for r in P(new_k.shape[0]):
        p = item(position[r])
        with P.when(p >= 0):
            to, at = item(table[item(slot[r]), p // page]), p % page
            for h in P(new_k.shape[1]):
                keep_turned[r, h](x=new_k[r, h : h + 1], out=k[to, h, :, at : at + 1])
                keep[r, h](x=new_v[r, h : h + 1], out=v[to, h, at : at + 1])


@workload
def paged_attention(
    q: Tensor, new_k: Tensor, new_v: Tensor, k: Tensor, v: Tensor, table: Tensor, slot: Tensor, position: Tensor
):
    """Each row's keys and values go to its position, then it attends to all up to that. q, new_k, new_v [rows, heads, dim];
    k [pages, heads, dim, page]; v [pages, heads, page, dim]; table [slots, blocks]; slot, position [rows]."""
    out = empty(q.shape, DType.F32)
    append(new_k, new_v, k, v, table, slot, position)
    for r in P(q.shape[0]):
        for h in P(q.shape[1]):
            attend(k.dtype)[r, h](
                q=q[r, h : h + 1],
                k=k[:, h],
                v=v[:, h],
                table=table[item(slot[r])],
                length=item(position[r]) + 1,
                out=out[r, h : h + 1],
                page=v.shape[2],
            )
    return out


@kernel
def gate_and_up(x: In[Tensor], w1: In[Tensor], w3: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.cast(pto.silu(pto.matmul(x, w1)) * pto.matmul(x, w3), out.dtype))


@kernel
def down(x: In[Tensor], w: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(x, w))


@workload
def ragged_experts(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, indptr: Tensor, row: Tensor, place: Tensor):
    """x [rows, hidden]; w1, w3 [experts, hidden, ffn]; w2 [experts, ffn, hidden]. Expert e has the entries from indptr[e] to
    indptr[e + 1] of `row` and of `place`: what it computes of a row of x goes to a place of the result [places, hidden]."""
    (count, hidden, ffn), places = w1.shape, place.shape[0]
    h, out = empty((places, ffn), x.dtype), empty((places, hidden), DType.F32)
    rows_of, places_of = Sparse(count, indptr, row, name="rows_of"), Sparse(count, indptr, place, name="places_of")
    for e in P(count):
        for i in P(rows_of[e].tiles(TILE)):
            for j in P(h[0].tiles(WIDTH)):
                gate_and_up[e, i, j](x=x[rows_of[e][i], :], w1=w1[e, :, j], w3=w3[e, :, j], out=h[places_of[e][i], j])
    for e in P(count):
        for i in P(places_of[e].tiles(TILE)):
            for j in P(out[0].tiles(WIDTH)):
                down[e, i, j](x=h[places_of[e][i], :], w=w2[e, :, j], out=out[places_of[e][i], j])
    return out


# The model.


def rmsnorm(x: Any, weight: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + EPS) * weight


def product(x: Any, w: Any) -> Any:
    """In f32, of the weights' dtype."""
    return jnp.dot(x.astype(w.dtype), w, preferred_element_type=jnp.float32)


def rotated(x: Any, cos: Any, sin: Any) -> Any:
    """x [rows, heads, dim]; cos, sin [rows, 1, dim / 2]."""
    a, b = jnp.split(x, 2, axis=2)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2)


def forward(
    weights: Weights, cache: Cache, token: Any, position: Any, attend: Attend, experts: Experts
) -> tuple[Cache, Any, tuple[Any, ...]]:
    """The cache with the new keys and values, the hidden states [rows, hidden], and the chosen experts by layer."""
    x = weights.embedding[token].astype(jnp.float32)
    cos, sin = weights.cos[position][:, None], weights.sin[position][:, None]
    dim = 2 * cos.shape[2]
    caches, choices = [], []
    for layer, of_layer in zip(weights.layers, cache, strict=True):
        q, k, v = (
            y.reshape(len(x), -1, dim) for y in jnp.split(product(rmsnorm(x, layer.norm1), layer.wqkv), 3, axis=1)
        )
        of_layer, y = attend(of_layer, rotated(q, cos, sin), rotated(k, cos, sin), v)
        caches.append(of_layer)
        x = x + product(y.reshape(len(x), -1), layer.wo)
        y = rmsnorm(x, layer.norm2)
        if layer.router is None:
            x = x + product(jax.nn.silu(product(y, layer.w1)) * product(y, layer.w3), layer.w2)
        else:
            best, index = lax.top_k(product(y, layer.router), TOP)
            choices.append(index)
            x = x + experts(layer, y.astype(layer.w1.dtype), index, jax.nn.softmax(best))
    return tuple(caches), x, tuple(choices)


def outcome(weights: Weights, x: Any, choices: tuple[Any, ...]) -> Outcome:
    """x [slots, hidden]: the last hidden state of each sequence."""
    logits = product(rmsnorm(x, weights.norm), weights.head)
    return Outcome(jnp.argmax(logits, axis=1).astype(jnp.int32), logits, choices)


# Over pages.


def chosen_experts(run: Callable[..., Any], live: Any, layer: Layer, x: Any, index: Any, weight: Any) -> Any:
    """Rows sorted by expert, through the workload. Empty rows choose none; what comes of a row stands at choice * rows + row."""
    of = jnp.where(live[:, None], index, len(layer.w1)).T.reshape(-1)
    place = jnp.argsort(of).astype(jnp.int32)
    indptr = jnp.searchsorted(of[place], jnp.arange(len(layer.w1) + 1)).astype(jnp.int32)
    y = run(x, layer.w1, layer.w3, layer.w2, indptr, place % len(x), place)
    return (y.reshape(TOP, *x.shape) * weight.T[:, :, None]).sum(axis=0)


@functools.cache
def paged_step(threads: int | None) -> Any:
    """step(weights, cache, rows) gives the cache, whose memory it takes over, and the outcome."""
    attention, experts = (as_jax(f, threads=threads) for f in (paged_attention, ragged_experts))

    def step(weights: Weights, cache: Cache, rows: Rows) -> tuple[Cache, Outcome]:
        def attend(pages: Any, q: Any, k: Any, v: Any) -> tuple[Any, Any]:
            y, pages = attention(q, k, v, *pages, rows.table, rows.slot, rows.position)
            return pages, y

        by_expert = functools.partial(chosen_experts, experts, rows.position >= 0)
        cache, x, choices = forward(weights, cache, rows.token, rows.position, attend, by_expert)
        return cache, outcome(weights, x[rows.last], choices)

    return jax.jit(step, donate_argnums=1)


# Padded.


def placed(cache: Any, new: Any, position: Any) -> Any:
    """new [slots, heads, dim] at each slot's position. A loop: what XLA makes of a scatter in bf16 converts the whole cache."""

    def one(b: Any, cache: Any) -> Any:
        return lax.dynamic_update_slice(cache, new[b, None, :, None].astype(cache.dtype), (b, 0, position[b], 0))

    return lax.fori_loop(0, len(new), one, cache)


def masked_attention(cache: tuple[Any, Any], length: Any, q: Any) -> Any:
    """Over all positions of the cache, of which those from `length` [slots] on have no weight."""
    keys, values = cache
    s = jnp.einsum("bhd,bhsd->bhs", q.astype(keys.dtype), keys, preferred_element_type=jnp.float32)
    s = jnp.where(jnp.arange(keys.shape[2]) < length[:, None, None], s / math.sqrt(q.shape[2]), -jnp.inf)
    p = jax.nn.softmax(s, axis=2).astype(values.dtype)
    return jnp.einsum("bhs,bhsd->bhd", p, values, preferred_element_type=jnp.float32)


def every_expert(layer: Layer, x: Any, index: Any, weight: Any) -> Any:
    """For every row; those not chosen have weight 0."""
    share = (jax.nn.one_hot(index, len(layer.w1)) * weight[..., None]).sum(axis=1)
    exact = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    h = jax.nn.silu(exact("rd,edf->erf", x, layer.w1)) * exact("rd,edf->erf", x, layer.w3)
    return exact("re,erd->rd", share, exact("erf,efd->erd", h.astype(x.dtype), layer.w2))


@functools.partial(jax.jit, donate_argnums=1)
def padded_step(weights: Weights, cache: Cache, token: Any, position: Any) -> tuple[Cache, Outcome]:
    """One token for each slot; token, position [slots]."""

    def attend(padded: Any, q: Any, k: Any, v: Any) -> tuple[Any, Any]:
        keys, values = (placed(x, new, position) for x, new in zip(padded, (k, v), strict=True))
        return (keys, values), masked_attention((keys, values), position + 1, q)

    cache, x, choices = forward(weights, cache, token, position, attend, every_expert)
    return cache, outcome(weights, x, choices)
