"""Kernels of functions of `jnp` whose arrays between have more than two long axes: heads, groups, batches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interop.jax_kernels import BF16, F16, F32, I32, check, inputs, tiled
from pto_wsp import BoundsError, DType, KernelError, P, Scalar, Tile, UnsupportedError, workload
from pto_wsp_jax import as_jax, kernel_from_jax, lower_to_jax

# attention of several heads


def attention_block(x, wq, wk, wv, wo, heads):
    t, d = x.shape[0], wq.shape[1] // heads
    q, k, v = ((x @ w).reshape(t, heads, d) for w in (wq, wk, wv))
    mask = jnp.arange(t)[:, None] >= jnp.arange(t)[None]
    s = jnp.einsum("qhd,khd->hqk", q, k) / np.sqrt(d).astype(x.dtype)
    p = jax.nn.softmax(jnp.where(mask, s, -jnp.inf), axis=-1)
    return jnp.einsum("hqk,khd->qhd", p, v).reshape(t, heads * d) @ wo


def by_transposes(x, wq, wk, wv, wo, heads):
    t, d = x.shape[0], wq.shape[1] // heads
    q, k, v = ((x @ w).reshape(t, heads, d).transpose(1, 0, 2) for w in (wq, wk, wv))
    p = jax.nn.softmax(q @ k.transpose(0, 2, 1) * d**-0.5, axis=-1)
    return (p @ v).transpose(1, 0, 2).reshape(t, heads * d) @ wo


def by_vmap(x, wq, wk, wv, wo, heads):
    def head(q, k, v):
        return jax.nn.softmax(q @ k.T / q.shape[1] ** 0.5, axis=-1) @ v

    q, k, v = ((x @ w).reshape(x.shape[0], heads, -1) for w in (wq, wk, wv))
    return jax.vmap(head, in_axes=1, out_axes=1)(q, k, v).reshape(x.shape[0], -1) @ wo


def by_scan(x, wq, wk, wv, wo, heads):
    q, k, v = ((x @ w).reshape(x.shape[0], heads, -1).swapaxes(0, 1) for w in (wq, wk, wv))

    def head(total, each):
        q, k, v = each
        o = jax.nn.softmax(q @ k.T / q.shape[1] ** 0.5, axis=-1) @ v
        return total + o.sum(), o

    total, o = jax.lax.scan(head, jnp.zeros((), x.dtype), (q, k, v))
    return o.swapaxes(0, 1).reshape(x.shape[0], -1) @ wo + total


def by_index(x, wq, wk, wv, wo, heads):
    q, k, v = ((x @ w).reshape(x.shape[0], heads, -1) for w in (wq, wk, wv))

    def head(h, out):
        o = jax.nn.softmax(q[:, h] @ k[:, h].T, axis=-1) @ v[:, h]
        return jax.lax.dynamic_update_slice(out, o[:, None], (0, h, 0))

    return jax.lax.fori_loop(0, heads, head, jnp.zeros_like(q)).reshape(x.shape[0], -1) @ wo


def of_jax(x, wq, wk, wv, wo, heads):
    q, k, v = ((x @ w).reshape(1, x.shape[0], heads, -1) for w in (wq, wk, wv))
    return jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape[0], -1) @ wo


def weights_of_heads(x, wq, wk, wv, wo, heads):
    wq, wk, wv = (w.reshape(w.shape[0], heads, -1) for w in (wq, wk, wv))
    q, k, v = (jnp.einsum("tm,mhd->htd", x, w) for w in (wq, wk, wv))
    o = jax.nn.softmax(jnp.einsum("htd,hsd->hts", q, k)) @ v
    return jnp.einsum("htd,hdm->tm", o, wo.reshape(heads, -1, wo.shape[1]))


def online(x, wq, wk, wv, wo, heads):
    """Flash attention of all heads: what is carried is in parts."""
    q, k, v = ((x @ w).reshape(x.shape[0], heads, -1) for w in (wq, wk, wv))
    n = x.shape[0] // 2

    def block(i, carry):
        m, total, o = carry
        keys, values = (jax.lax.dynamic_slice_in_dim(a, i * n, n) for a in (k, v))
        s = jnp.einsum("qhd,khd->hqk", q, keys)
        new = jnp.maximum(m, s.max(-1))
        p, scale = jnp.exp(s - new[..., None]), jnp.exp(m - new)
        return new, total * scale + p.sum(-1), o * scale[..., None] + jnp.einsum("hqk,khd->hqd", p, values)

    t, d = q.shape[0], q.shape[2]
    init = jnp.full((heads, t), -jnp.inf, x.dtype), jnp.zeros((heads, t), x.dtype), jnp.zeros((heads, t, d), x.dtype)
    _, total, o = jax.lax.fori_loop(0, 2, block, init)
    return (o / total[..., None]).transpose(1, 0, 2).reshape(t, -1) @ wo


FORMS = [attention_block, by_scan, by_index, of_jax, online]
MORE_FORMS = [by_transposes, by_vmap, weights_of_heads]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The gate runs of each kind what differs most."""
    full = metafunc.config.getoption("--full")
    names = metafunc.fixturenames
    if "form" in names:
        metafunc.parametrize("form", [*FORMS, *MORE_FORMS] if full else FORMS, ids=lambda f: f.__name__)
    if "shape" in names:
        forms = [attention_block, by_vmap, weights_of_heads] if full else [attention_block]
        metafunc.parametrize(("shaped", "shape"), [(f, s) for f in forms for s in SHAPES])
    if "operation" in names:
        metafunc.parametrize("operation", OPERATIONS if full else GATE)


def block_types(t: int, m: int, heads: int, d: int, dtype: DType = F32) -> list[Any]:
    w = Tile[m, heads * d, dtype]
    return [Tile[t, m, dtype], w, w, w, Tile[heads * d, m, dtype]]


def test_attention_of_heads(form: Callable[..., Any]) -> None:
    check(functools.partial(form, heads=3), *block_types(10, 12, 3, 4), roundings=512)


SHAPES = {
    "one_head": (6, 5, 1, 4),
    "one_column": (6, 5, 4, 1),
    "one_row": (1, 8, 4, 2),
    "odd": (7, 9, 5, 3),
    "many_heads": (4, 6, 16, 2),
}


def test_shapes_of_heads(shaped: Callable[..., Any], shape: str) -> None:
    t, m, heads, d = SHAPES[shape]
    check(functools.partial(shaped, heads=heads), *block_types(t, m, heads, d), roundings=1024)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_short_floats(dtype: DType) -> None:
    types = block_types(6, 8, 2, 4, dtype)
    arrays = [a / 4 for a in inputs(types)]
    for f in (attention_block, weights_of_heads):
        k = check(functools.partial(f, heads=2), *types, arrays=arrays, roundings=32)
        assert k.specs["out"].type.dtype is dtype


def grouped(q, k, v):
    """Groups of query heads that share keys: q in groups."""
    t, s = q.shape[0], k.shape[0]
    q, k, v = q.reshape(t, 2, 3, 4), k.reshape(s, 2, 4), v.reshape(s, 2, 4)
    p = jax.nn.softmax(jnp.einsum("tkgd,skd->kgts", q, k), axis=-1)
    return jnp.einsum("kgts,skd->tkgd", p, v).reshape(t, -1)


def repeated(q, k, v):
    """The same, of keys for each query head."""
    t, s = q.shape[0], k.shape[0]
    q, k, v = q.reshape(t, 6, 4), *(jnp.repeat(a.reshape(s, 2, 4), 3, axis=1) for a in (k, v))
    return jnp.einsum("hts,shd->thd", jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k)), v).reshape(t, -1)


def rotary(x, angle):
    x, cos, sin = x.reshape(x.shape[0], 3, 8), jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape[0], -1)


def rotary_of_pairs(x, angle):
    pairs = x.reshape(x.shape[0], 3, 4, 2)
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    a, b = pairs[..., 0], pairs[..., 1]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)


def group_norm(x, gamma):
    g = x.reshape(x.shape[0], 4, -1)
    g = (g - g.mean(-1, keepdims=True)) * jax.lax.rsqrt(g.var(-1, keepdims=True) + 1e-5)
    return g.reshape(x.shape) * gamma


def rows(t: int, n: int) -> Any:
    return Tile[t, n, F32]


def of(f: Callable[..., Any], *shape: int) -> Callable[..., Any]:
    """f of an array of this shape."""
    return lambda x, *more: f(x.reshape(shape), *more)


OPERATIONS: dict[str, tuple[Any, ...]] = {
    "grouped": (grouped, rows(5, 24), rows(7, 8), rows(7, 8)),
    "grouped_decode": (grouped, rows(1, 24), rows(7, 8), rows(7, 8)),
    "repeated": (repeated, rows(5, 24), rows(7, 8), rows(7, 8)),
    "rotary": (rotary, rows(5, 24), rows(5, 4)),
    "rotary_of_pairs": (rotary_of_pairs, rows(5, 24), rows(5, 4)),
    "group_norm": (group_norm, rows(6, 20), rows(1, 20)),
    "pool": (of(lambda x: x.max(1), 4, 3, 8), rows(12, 8)),
    "sums": (of(lambda x: (x.sum(0), x.sum(1), x.sum(2), x.sum(), x.sum((0, 2)), x.mean((0, 1))), 3, 4, 5), rows(12, 5)),
    "extremes": (of(lambda x: (x.max(0), x.min(1), (x > 1).any(0), (x > -1).all((1, 2)), x.prod(0)), 3, 4, 5), rows(12, 5)),
    "picked_of_same": (lambda x, i: jnp.take((x.reshape(5, 3, 4)[:, :, :1] * jnp.ones(3)), i[0], axis=1).reshape(10, 3), rows(15, 4), Tile[1, 2, I32]),
    "of_repeated": (lambda x, y: ((x[:, :, None] * jnp.ones(3)).sum(0), (x[None] + jnp.zeros((3, 1, 1))).sum(0), (x[:, None] - y[None]).max(2)), rows(4, 5), rows(3, 5)),
    "distances": (lambda x, y: ((x[:, None] - y[None]) ** 2).sum(-1), rows(7, 3), rows(5, 3)),
    "outer": (lambda x, y: jnp.einsum("ij,ik->ijk", x, y).sum(0), rows(4, 5), rows(4, 6)),
    "rows_with_rows": (lambda x, y: jnp.einsum("thd,thd->th", x.reshape(5, 3, 4), y.reshape(5, 3, 4)), rows(5, 12), rows(5, 12)),
    "sum_of_two": (lambda x, y: (jnp.einsum("ij,ij->", x, y), jnp.tensordot(x.reshape(5, 3, 4), y.reshape(3, 4, 5), 2)), rows(5, 12), rows(5, 12)),
    "sum_over_heads": (lambda x, y: (jnp.einsum("hqk,h->qk", x.reshape(3, 4, 5), y[0, :3]), jnp.einsum("hqk,hk->q", x.reshape(3, 4, 5), y.reshape(3, 4)[:, :1] * jnp.ones(5))), rows(12, 5), rows(1, 12)),
    "cut_axis_summed": (lambda x, w: jnp.einsum("hqk,hn->qkn", x.reshape(3, 4, 5), w).sum(2), rows(12, 5), rows(3, 6)),
    "two_batches": (lambda x, y: jnp.einsum("abtd,absd->abts", x.reshape(2, 3, 4, 5), y.reshape(2, 3, 2, 5)).reshape(24, 2), rows(24, 5), rows(12, 5)),
    "matrices_in_batches": (lambda x: jnp.einsum("ijk,ikl->ijl", x[None] * jnp.ones((2, 1, 1)), x.T[None] * jnp.ones((2, 1, 1)))[0], rows(6, 8)),
    "reshaped": (of(lambda x: (x.reshape(12, 5), x.reshape(3, 20), x.reshape(2, 30), x.reshape(5, 12), x.transpose(2, 0, 1).reshape(5, 12), x.transpose(1, 0, 2).reshape(4, 15), x.transpose(0, 2, 1).reshape(15, 4), x.transpose(2, 1, 0).reshape(-1)), 3, 4, 5), rows(12, 5)),
    "reshaped_again": (lambda x: (x.reshape(3, 2, 2, 5).swapaxes(0, 2).reshape(12, 5), x.reshape(2, 6, 5).reshape(3, 4, 5).sum(1), x.reshape(3, 2, 10).swapaxes(1, 2).reshape(15, 4), x.reshape(2, 2, 3, 5).transpose(3, 2, 1, 0).reshape(5, 12)), rows(12, 5)),
    "parts": (of(lambda x: (x[1], x[:, 2], x[..., 3], x[::2][:, 1], x[1:, :2, 1:4].sum(0), x[:, 1:3].max(1), x[2, 3, 4]), 3, 4, 5), rows(12, 5)),
    "joined": (of(lambda x: (jnp.concatenate([x, x[:1]]).sum(0), jnp.concatenate([x, x[:, :2] * 2], 1).reshape(18, 5), jnp.concatenate([x, -x], 2).reshape(12, 10), jnp.stack([x, x + 1]).max((0, 1))), 3, 4, 5), rows(12, 5)),
    "stacked": (lambda x, y: (jnp.stack([x, y], 1).reshape(8, 5), jnp.stack([x, y]).transpose(1, 2, 0).reshape(4, 10), sum(jax.numpy.unstack(jnp.stack([x, y, x]))) if hasattr(jnp, "unstack") else x + y + x), rows(4, 5), rows(4, 5)),
    "padded": (of(lambda x: (jnp.pad(x, ((1, 0), (0, 2), (3, 0))).reshape(24, 8), jnp.pad(x, ((1, 1), (0, 0), (0, 0)), constant_values=2.0).max(0)), 3, 4, 5), rows(12, 5)),
    "rolled": (of(lambda x: (jnp.roll(x, 1, 0).reshape(12, 5), jnp.roll(x, 2, 2).reshape(12, 5), x[::-1].reshape(12, 5), jnp.flip(x, (0, 2)).reshape(12, 5)), 3, 4, 5), rows(12, 5)),
    "repeated_axes": (of(lambda x: (jnp.repeat(x, 2, 0).reshape(24, 5), jnp.repeat(x, 2, 1).reshape(24, 5), jnp.repeat(x, 2, 2).reshape(12, 10), jnp.tile(x, (2, 1, 1)).reshape(24, 5), jnp.tile(x, 3).reshape(12, 15)), 3, 4, 5), rows(12, 5)),
    "along": (of(lambda x: (*(jnp.cumsum(x, k).reshape(12, 5) for k in range(3)), jax.lax.cumsum(x, 0, reverse=True)[0]), 3, 4, 5), rows(12, 5)),
    "places": (of(lambda x: tuple(f(x, k) for k in range(3) for f in (jnp.argmax, jnp.argmin)), 3, 4, 5), rows(12, 5)),
    "sorted": (of(lambda x: (*(jnp.sort(x, k).reshape(12, 5) for k in range(3)), jnp.argsort(x, 0).sum(0), jax.lax.top_k(x, 2)[0].reshape(12, 2), jax.lax.top_k(x, 2)[1][1]), 3, 4, 5), rows(12, 5)),
    "chosen": (of(lambda x, n: (jnp.where(x > 0, x, -1).sum(0), jnp.clip(x, -1, 1)[1], jnp.where(n > 2, x, x * 2)[2], jnp.where(jnp.arange(3)[:, None, None] == n, x, 0).sum(0)), 3, 4, 5), rows(12, 5), Scalar[I32]),
    "picked": (of(lambda x, i: (jnp.take(x, i[0], axis=1).reshape(9, 5), x[i[0]].sum(0), x[..., i[0]].sum(0), x[1][i[0]]), 3, 4, 5), rows(12, 5), Tile[1, 3, I32]),
    "embedded": (lambda x, i: x[i].reshape(6, 4), rows(9, 4), Tile[2, 3, I32]),
    "picked_of_each": (lambda x, i: jnp.take_along_axis(x.reshape(2, 3, 5), i.reshape(2, 3, 2) % 5, axis=2).reshape(6, 2), rows(6, 5), Tile[6, 2, I32]),
    "of_two_in_one": (lambda x: jax.vmap(jax.vmap(lambda r: r / r.sum()))(jnp.abs(x.reshape(3, 4, 5))).reshape(12, 5), rows(12, 5)),
    "cond": (lambda x, n: jax.lax.cond(n > 2, lambda a: a * 2, lambda a: jnp.flip(a, 0), x.reshape(3, 4, 5)).reshape(12, 5), rows(12, 5), Scalar[I32]),
    "while": (lambda x, n: jax.lax.fori_loop(0, n, lambda i, a: a * 0.5 + a.max(0) + i, x.reshape(3, 4, 5)).reshape(12, 5), rows(12, 5), Scalar[I32]),
    "scan_of_parts": (lambda x: jax.lax.scan(lambda c, a: (c + a, c * a), jnp.zeros((4, 5)), x.reshape(3, 4, 5))[1].reshape(12, 5), rows(12, 5)),
    "scan_reversed": (lambda x: jax.lax.scan(lambda c, a: (c + a, c), jnp.zeros((4, 5)), x.reshape(3, 4, 5), reverse=True)[1].reshape(12, 5), rows(12, 5)),
    "scan_of_rows": (lambda x: jax.lax.scan(lambda c, a: (c * 0.5 + a.reshape(2, 1, 3), c.sum((0, 1))), jnp.zeros((2, 4, 3)), x)[1], rows(5, 6)),
    "map": (lambda x: jax.lax.map(lambda a: a @ a.T, x.reshape(3, 4, 5)).reshape(12, 4), rows(12, 5)),
    "nested": (lambda x: jax.lax.fori_loop(0, 3, lambda i, c: jax.lax.fori_loop(0, 2, lambda j, d: d + x.reshape(3, 4, 5)[i] * j, c), jnp.zeros((4, 5))), rows(12, 5)),
    "updated": (lambda x: jax.lax.dynamic_update_slice(x.reshape(3, 4, 5), jnp.ones((2, 2, 5)), (1, 1, 0)).reshape(12, 5), rows(12, 5)),
    "depthwise": (lambda x, w: sum(jnp.pad(x.reshape(8, 3, 2), ((k, 0), (0, 0), (0, 0)))[:8] * w.reshape(4, 3, 2)[k] for k in range(4)).reshape(8, 6), rows(8, 6), rows(4, 6)),
}  # fmt: skip


GATE = [
    "grouped",
    "grouped_decode",
    "repeated",
    "rotary_of_pairs",
    "sums",
    "two_batches",
    "cut_axis_summed",
    "reshaped",
    "joined",
    "along",
    "picked",
    "cond",
    "while",
    "updated",
]


def test_operations(operation: str) -> None:
    f, *types = OPERATIONS[operation]
    arrays = inputs(types)
    check(f, *types, roundings=256, arrays=[np.abs(a) % 3 if a.dtype == np.int32 else a for a in arrays])


# as a kernel among others


def test_in_a_workload_and_inside_of_jax() -> None:
    """The runtime, as_jax and lower_to_jax give the same, and the lines are those of the function."""
    block = kernel_from_jax(functools.partial(attention_block, heads=4), *block_types(8, 16, 4, 4), name="block")
    assert {e.loc.function for e in block.wir().body.eqns if e.prim == "rowmax" and e.loc} == {"attention_block"}

    @workload
    def layer(x, wq, wk, wv, wo, out):
        for i in P(x.tiles(8)):
            block[i](x=x[i], wq=wq, wk=wk, wv=wv, wo=wo, out=out[i])

    rng = np.random.default_rng(0)
    x, *weights = (rng.standard_normal(s).astype(np.float32) / 4 for s in ((24, 16), *[(16, 16)] * 4))
    out = np.zeros_like(x)
    layer(x, *weights, out).compile().run()
    want = np.concatenate([attention_block(x[i : i + 8], *weights, heads=4) for i in (0, 8, 16)])
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    np.testing.assert_allclose(as_jax(layer)(x, *weights, shape), out, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(lower_to_jax(layer)(x, *weights, shape), out, rtol=1e-4, atol=1e-5)


def test_heads_take_slices_and_products() -> None:
    """Nothing but what the heads need: no transpose, no gather, and one product for each head and matrix."""
    k = kernel_from_jax(functools.partial(by_vmap, heads=3), *block_types(8, 16, 3, 4))
    prims = [e.prim for e in k.wir().body.eqns]
    assert prims.count("matmul") == 4 + 2 * 3 and prims.count("slice") == 3 * 3
    assert prims.count("concat") == 2 and not {"transpose", "gather"} & {*prims}
    assert "transpose_b=true" in str(k.wir())


def test_a_loop_carries_its_arrays_in_the_parts_that_its_body_makes() -> None:
    k = kernel_from_jax(functools.partial(online, heads=16), *block_types(8, 16, 16, 4))
    assert len(str(k.wir()).splitlines()) < 600 and "fori" in str(k.wir())


# parts of tiles


def queries(x):
    """Attention of the rows of x over keys that are there."""
    q, k = x.reshape(8, 3, 4), (jnp.arange(120, dtype=jnp.float32) / 60 - 1).reshape(10, 3, 4)
    p = jax.nn.softmax(jnp.einsum("qhd,khd->hqk", q, k), axis=-1)
    return jnp.einsum("hqk,khd->qhd", p, k).reshape(8, 12)


PARTS: dict[str, Callable[..., Any]] = {
    "queries": queries,
    "rotary": lambda x: rotary_of_pairs(x.repeat(2, axis=1), x[:, :4]).reshape(8, 2, 12)[:, 1],
    "norm": lambda x: group_norm(x, jnp.full((1, 12), 0.5)),
    "running": lambda x: jnp.cumsum(x.reshape(8, 3, 4), axis=0)[:, ::-1].reshape(8, 12),
    "loop": lambda x: jax.lax.fori_loop(0, 2, lambda i, c: c[:, ::-1] * 2 + i, x.reshape(8, 3, 4)).reshape(8, 12),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_tile_gives_that_part_of_the_result(name: str) -> None:
    f = PARTS[name]
    x, out = tiled(kernel_from_jax(f, rows(8, 12)), 8, (21, 12), (21, 12))
    padded = np.concatenate([x, np.full((3, 12), 100, np.float32)])
    want = np.concatenate([f(jnp.asarray(padded[i : i + 8])) for i in range(0, 24, 8)])
    np.testing.assert_allclose(out, want[:21], rtol=1e-4, atol=1e-4)


NEEDED: dict[str, Callable[..., Any]] = {
    "keys": lambda x: attention_block(x, *(jnp.full((12, 12), 0.1),) * 4, heads=3),
    "sum": lambda x: x - jnp.repeat(x.reshape(8, 3, 4).sum(0), 3, axis=0).reshape(9, 4)[:8, :1],
    "halves": lambda x: jnp.tile(x.reshape(2, 4, 12).max(0), (2, 1)),
    "across": lambda x: x.reshape(8, 3, 4).transpose(1, 0, 2).reshape(8, 12),
    "order": lambda x: jnp.sort(x.reshape(8, 3, 4), axis=0).reshape(8, 12),
    "scan": lambda x: jax.lax.scan(lambda c, a: (c + a, c), jnp.zeros((3, 4)), x.reshape(8, 3, 4))[1].reshape(8, 12),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_part_is_refused_where_a_result_depends_on_all(name: str) -> None:
    f = NEEDED[name]
    k = kernel_from_jax(f, rows(8, 12))
    x, out = tiled(k, 8, (8, 12), (8, 12))
    np.testing.assert_allclose(out, f(jnp.asarray(x)), rtol=1e-4, atol=1e-4)
    with pytest.raises((KernelError, BoundsError), match=r"PTO7(10|30)") as caught:
        tiled(k, 8, (13, 12), (13, 12))
    assert __file__ in str(caught.value)


# refusals

REFUSED: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "primitive": (lambda x: jnp.arctan2(x.reshape(2, 3, 4), 1.0).sum(0), (rows(6, 4),), "for atan2 of JAX"),
    "too_many": (lambda x: jnp.einsum("ij,kl->ijkl", x, x).sum((0, 1)), (rows(72, 65),), "that would be 4225 tiles"),
    "too_many_in_all": (
        lambda x: jax.lax.fori_loop(0, 9000, lambda i, c: c + x.reshape(2, 3, 4)[i % 2], jnp.zeros((3, 4))),
        (rows(6, 4),),
        "more than 16384 tiles",
    ),
    "unknown_index": (
        lambda x, n: jax.lax.fori_loop(0, n, lambda i, c: c + x.reshape(3, 8, 4)[i], jnp.zeros((8, 4))),
        (rows(24, 4), Scalar[I32]),
        "an index that is not known while tracing, along axis 0",
    ),
    "two_indices": (
        lambda x, i: x.reshape(2, 3, 4)[i[0], i[0]],
        (rows(6, 4), Tile[1, 2, I32]),
        "by other than one index",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_kernel_is_an_error_at_its_line(name: str) -> None:
    f, types, says = REFUSED[name]
    with pytest.raises(UnsupportedError, match=r"PTO888") as caught:
        kernel_from_jax(f, *types)
    text = str(caught.value)
    assert says in text and "fix: " in text and "equation: " in text
    assert caught.value.loc and caught.value.loc.file == __file__
    first = f.__code__.co_firstlineno
    assert first <= caught.value.loc.line <= first + 1


# any chain of operations


STEPS: list[Callable[[Any, int], Any]] = [
    lambda x, k: x * 0.5 + jnp.abs(x),
    lambda x, k: x - x.max(k, keepdims=True),
    lambda x, k: x + x.sum(k, keepdims=True) / 4,
    lambda x, k: x.min(k, keepdims=True) + jnp.zeros_like(x),
    jnp.flip,
    lambda x, k: jax.lax.slice_in_dim(x, 0, x.shape[k], 2, k),
    lambda x, k: jnp.concatenate([x, jax.lax.slice_in_dim(x, 0, 1, axis=k)], k),
    lambda x, k: jnp.stack([x, -x], k) if x.ndim < 4 else x,
    lambda x, k: jnp.cumsum(x, k) / 2,
    jnp.sort,
    lambda x, k: jnp.repeat(x, 2, k),
    lambda x, k: jnp.pad(x, [(int(j == k), 0) for j in range(x.ndim)]),
    lambda x, k: jnp.where(jax.lax.broadcasted_iota(jnp.int32, x.shape, k) > 0, x, 0.5),
    lambda x, k: x + jnp.expand_dims(x.argmax(k), k),
    lambda x, k: jax.lax.fori_loop(0, 2, lambda i, c: c * 0.5 + jnp.roll(x, 1, k) + i, x),
    lambda x, k: jax.lax.scan(lambda c, a: (c * 0.5 + a, c - a), jnp.zeros(x.shape[1:]), x)[1],
    lambda x, k: jnp.tensordot(x, (jnp.arange(x.shape[k])[:, None] - jnp.arange(3)) * 0.125, ((k,), (0,))),
    lambda x, k: jnp.einsum("...ij,...kj->...ik", *(jnp.moveaxis(x, k, -1) / 4,) * 2) if x.ndim > 1 else x,
    lambda x, k: jnp.tensordot(x, x, (list(range(x.ndim)),) * 2).reshape(1, 1) / 64 + x if k == 0 else x,
]


@st.composite
def chains(draw: st.DrawFn) -> Callable[..., Any]:
    first = draw(st.sampled_from([(3, 4, 5), (5, 12), (5, 3, 4), (2, 2, 3, 5), (4, 3, 5)]))
    choices = [draw(st.tuples(st.sampled_from(STEPS), st.integers(0, 3))) for _ in range(draw(st.integers(1, 5)))]
    shapes = [draw(st.permutations(range(4))) for _ in choices]
    cuts = [draw(st.integers(1, 4)) for _ in choices]

    def f(x):
        x = x.reshape(first)
        for (step, k), order, rank in zip(choices, shapes, cuts, strict=True):
            x = step(x, k % x.ndim)
            x = x.transpose([j for j in order if j < x.ndim] if x.ndim <= 4 else None)
            if x.size > 240:
                x = x[tuple(slice(0, 2) for _ in x.shape)]
            x = x.reshape([x.shape[0], -1, *x.shape[-1:]][:rank] if rank == 3 and x.ndim > 2 else x.shape)
        return x.reshape(-1, x.shape[-1])

    return f


def test_any_chain_of_operations(request: pytest.FixtureRequest) -> None:
    """Of numbers with few bits, so that rounding decides no comparison."""
    n = 150 if request.config.getoption("--full") else 6

    @settings(max_examples=n, deadline=None, derandomize=True, database=None)
    @given(chains(), st.integers(0, 99))
    def agrees(f: Callable[..., Any], seed: int) -> None:
        x = np.random.default_rng(seed).integers(-8, 9, (12, 5)).astype(np.float32) / 4
        want = np.asarray(jax.jit(f)(x))
        got = np.zeros(want.shape, np.float32)
        kernel_from_jax(f, rows(12, 5)).evaluate(x=x, out=got)
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * max(1, np.abs(want).max()))

    agrees()
