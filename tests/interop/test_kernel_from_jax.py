"""Kernels of functions of `jnp` and `lax`: what they compute, and what they refuse."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interop.jax_kernels import BF16, BOOL, F16, F32, I32, check, inputs, run, tiled
from pto_wsp import (
    BoundsError,
    DType,
    KernelError,
    P,
    PtoError,
    Scalar,
    Tensor,
    Tile,
    TraceError,
    UnsupportedError,
    empty_like,
    workload,
)
from pto_wsp.ir.text import parse_kernel
from pto_wsp_jax import as_jax, elementwise, kernel_from_jax, layouts

X, ROW = Tile[16, 64, F32], Tile[1, 64, F32]


# what models are made of


def layer_norm(x, gamma, beta):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(jnp.var(x, axis=-1, keepdims=True) + 1e-5) * gamma + beta


def rmsnorm(x, gamma):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + 1e-6)).astype(x.dtype) * gamma


def swiglu(x, w, v):
    return jax.nn.silu(x @ w) * (x @ v)


def rotary(x, cos, sin):
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attention(q, k, v):
    s = q @ k.T / jnp.sqrt(q.shape[-1]).astype(q.dtype)
    mask = jnp.arange(q.shape[0])[:, None] + 16 >= jnp.arange(k.shape[0])[None, :]
    return jax.nn.softmax(jnp.where(mask, s, -jnp.inf), axis=-1) @ v


def online_attention(q, k, v):
    """Flash attention: statistics of rank 1, blocks of 16 keys."""

    def block(i, carry):
        m, total, o = carry
        keys, values = (jax.lax.dynamic_slice(x, (i * 16, 0), (16, x.shape[1])) for x in (k, v))
        s = q @ keys.T
        new = jnp.maximum(m, s.max(axis=1))
        p, scale = jnp.exp(s - new[:, None]), jnp.exp(m - new)
        return new, total * scale + p.sum(axis=1), o * scale[:, None] + p @ values

    n = q.shape[0]
    init = jnp.full(n, -jnp.inf, q.dtype), jnp.zeros(n, q.dtype), jnp.zeros((n, v.shape[1]), q.dtype)
    _, total, o = jax.lax.fori_loop(0, k.shape[0] // 16, block, init)
    return o / total[:, None]


def cross_entropy(x, labels):
    hot = jax.nn.one_hot(labels[:, 0], x.shape[1], dtype=x.dtype)
    return -jnp.sum(jax.nn.log_softmax(x) * hot, axis=-1, keepdims=True)


K = Tile[32, 64, F32]
MODELS = {
    "softmax": (jax.nn.softmax, X),
    "softmax_of_columns": (functools.partial(jax.nn.softmax, axis=0), X),
    "log_softmax": (jax.nn.log_softmax, X),
    "gelu": (jax.nn.gelu, X),
    "gelu_by_erf": (functools.partial(jax.nn.gelu, approximate=False), X),
    "relu": (jax.nn.relu, X),
    "silu": (jax.nn.silu, X),
    "softplus": (jax.nn.softplus, X),
    "layer_norm": (layer_norm, X, ROW, ROW),
    "rmsnorm": (rmsnorm, X, ROW),
    "swiglu": (swiglu, X, Tile[64, 32, F32], Tile[64, 32, F32]),
    "rotary": (rotary, X, Tile[16, 32, F32], Tile[16, 32, F32]),
    "attention": (attention, X, K, K),
    "online_attention": (online_attention, X, K, K),
    "cross_entropy": (cross_entropy, X, Tile[16, 1, I32]),
    "norm": (jnp.linalg.norm, X),
    "std": (functools.partial(jnp.std, axis=0), X),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_models_are_made_of(name: str) -> None:
    f, *types = MODELS[name]
    check(f, *types)


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("name", ["softmax", "gelu", "silu", "rmsnorm", "attention"])
def test_short_floats(name: str, dtype: DType) -> None:
    """Each operation of JAX rounds to the dtype, as the kernel does."""
    f, *types = MODELS[name]
    check(f, *(Tile[*t.shape, dtype] for t in types), roundings=16)


def test_online_attention_transposes_nothing() -> None:
    k = kernel_from_jax(online_attention, X, K, K)
    assert "transpose " not in str(k.wir())  # what is carried of rank 1 stands in columns
    assert "transpose_b=true" in str(k.wir())


OPERATIONS: dict[str, tuple[Any, ...]] = {
    "sums": (lambda x: (x.sum(0), x.sum(1), x.sum(), x.sum(axis=1, keepdims=True)), X),
    "products": (lambda x: (jnp.prod(x / 2, 0), jnp.prod(x / 2, 1)), Tile[4, 8, F32]),
    "extremes": (lambda x: (x.max(0), x.min(1), x.max(), jnp.ptp(x, 1)), X),
    "any_and_all": (lambda x: ((x > 2).any(0), (x > -1).all(1), jnp.any(x > 5), (x > 0).max(1), (x > 0).min()), X),
    "counts": (lambda x: ((x > 0).sum(), (x > 0).sum(1), jnp.count_nonzero(x > 1, axis=0)), X),
    "arguments": (lambda x: (x.argmax(0), x.argmin(1), x.argmax(), jnp.argmax(x > 0, 1)), X),
    "cumsum": (lambda x: (jnp.cumsum(x, 0), jnp.cumsum(x, 1), jax.lax.cumsum(x, 1, reverse=True)), X),
    "transposed": (lambda x, y: (x.T + y, (x.T @ x).T, x.T), X, Tile[64, 16, F32]),
    "reshaped": (lambda x: (x.reshape(64, 16), x.reshape(-1)[3:9], x[:, None, :].sum(1), x.reshape(1, 1, 16, 64)[0, 0]), X),
    "parts": (lambda x: (x[3], x[:, 5], x[2:7, 1:9], x[::3][:, 4::2], x[-1, -1], x[4:5]), X),
    "joined": (lambda x, y: (jnp.concatenate([x, x[:2]]), jnp.hstack([x, x]), jnp.stack([y[0], x[1]]), jnp.vstack([y, x])), X, ROW),
    "padded": (lambda x: (jnp.pad(x, ((1, 2), (3, 0))), jnp.pad(x, 1, constant_values=7.0)), X),
    "repeated": (lambda x, y: (jnp.broadcast_to(y, x.shape), jnp.ones_like(x), x * 0 + y.sum(), jnp.zeros(5)), X, ROW),
    "rolled": (lambda x: (jnp.roll(x, 3, axis=1), x[::-1], jnp.flip(x, 1)), X),
    "outer": (lambda x, y: (jnp.outer(x[0], y[0]), jnp.vdot(x[0], y[0]), x @ y[0], y @ x.T), X, ROW),
    "einsum": (lambda x, y: (jnp.einsum("ij,kj->ki", x, y), jnp.einsum("ij,ij->i", x, x), jnp.einsum("ij->ji", x)), X, K),
    "sorted": (lambda x: (jnp.sort(x), jnp.sort(x, axis=0), jnp.argsort(x), -jnp.sort(-x, axis=1)), X),
    "top": (lambda x: (*jax.lax.top_k(x, 5), jax.lax.top_k(x, 1)[0]), X),
    "set": (lambda x: (jax.lax.dynamic_update_slice(x, x[:2, :3] * 2, (5, 9)), jax.lax.dynamic_update_slice(x, x[:1], (20, 0))), X),
    "triangles": (lambda x: (jnp.tril(x), jnp.triu(x, 3), jnp.eye(16) + 1), X),
    "picked": (lambda x, i: (jnp.take(x, i[0], axis=0), x[i[0]], x[:, i[0] + 20], x.T[i[0]], jnp.take(x, i[0] * 4, axis=0, mode="clip"),
                jnp.nan_to_num(jnp.take(x, i[0] * 4, axis=1), nan=7.0), jnp.take(i[0], i[0] * 3), x[i[0, 1]]), X, Tile[1, 5, I32]),
    "picked_of_each": (lambda x, i: (jnp.take_along_axis(x, i, 1), jnp.take_along_axis(x, i[:, :1] + 9, 1), jnp.take_along_axis(x.T, i.T, 0),
                        jnp.take_along_axis(x[:, :3], i[:5], 0)), X, Tile[16, 3, I32]),
    "powers": (lambda x: (x**3, jnp.abs(x) ** 0.5, x**-2, x**0, jnp.square(x), jnp.power(2.0, x)), Tile[4, 8, F32]),
    "functions": (
        lambda x: tuple(f(x) for f in (jnp.sin, jnp.cos, jnp.tanh, jnp.exp2, jnp.expm1, jax.scipy.special.erf, jax.nn.sigmoid)), X),
    "of_positive": (lambda x: (jnp.log(x * x), jnp.log1p(x * x), jnp.sqrt(x * x), jax.lax.rsqrt(x * x + 1), jnp.hypot(x, x)), X),
    "pieces": (lambda x: (jnp.clip(x, -0.5, 0.5), jnp.where(x > 0, x, x.T[0, 0]), jnp.where((x > 1) | (x < 0), -1, 3.0)), X),
    "mean_of_rank_1": (lambda x: (x - x.mean(1)[:, None], x / x.sum(0), x.mean(1) + x[:, 3], x.mean(0) * x[2]), X),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name: str) -> None:
    f, *types = OPERATIONS[name]
    check(f, *types)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("dtype", [F32, BF16, DType.I8])
def test_products_of_all_forms(left: int, right: int, dtype: DType) -> None:
    types = [Tile[5, 8, dtype] if side == 1 else Tile[8, 5, dtype] for side in (left, right)]

    def f(a, b):
        wide = jnp.promote_types(a.dtype, jnp.int32 if jnp.issubdtype(a.dtype, jnp.integer) else jnp.float32)
        return jax.lax.dot_general(a, b, (((left,), (right,)), ((), ())), preferred_element_type=wide)

    k = check(f, *types)
    assert "transpose " not in str(k.wir())
    assert f"transpose_a={str(left == 0).lower()}, transpose_b={str(right == 1).lower()}" in str(k.wir())


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.5, 2.5, 3.0, -7.0, 0.5, np.inf, -np.inf, np.nan, 1e-15, 1e18, -2.5, 1e9, 5e-3], np.float32
)


def test_special_numbers_are_those_of_jax() -> None:
    """NaN, infinities and signed zeros, but for the sign of zeros of max and min, which JAX leaves open, and subnormals, which XLA flushes."""
    x, y = np.repeat(SPECIAL[:, None], 16, axis=1), np.repeat(SPECIAL[None], 16, axis=0)

    def f(x, y):
        exact = [jnp.floor(x), jnp.ceil(x), jnp.round(x), jax.lax.round(x), jnp.abs(x), -x, jnp.sign(x), jnp.trunc(x)]
        compared = [x < y, x <= y, x > y, x >= y, x == y, x != y, jnp.isnan(x), jnp.isfinite(x), jnp.isinf(x)]
        made = [x + y, x - y, x * y, x / y, jnp.sqrt(x), jax.lax.rem(x, y), jnp.where(x < y, x, y)]
        return exact, compared, made, x.astype(jnp.int32), (x > 0).astype(jnp.float32), x.astype(bool)

    def zeros(x, y):
        return (
            jnp.maximum(x, y),
            jnp.minimum(x, y),
            jnp.clip(x, -1, y),
            x.max(1),
            x.min(1),
            x.argmax(1),
            x.argmin(1),
            x.argmax(0),
        )

    def ordered(x, y):
        return jnp.sort(x + 0.0 * x, 0), jnp.argsort(x, 0), jnp.argsort(y), *jax.lax.top_k(y, 16)

    for g, same_zeros in ((f, True), (zeros, False), (ordered, False)):
        types = (Tile[16, 16, F32],) * 2
        for got, want in zip(run(kernel_from_jax(g, *types), (x, y)), jax.tree.leaves(jax.jit(g)(x, y)), strict=True):
            want = np.asarray(want).reshape(got.shape)
            np.testing.assert_array_equal(got, want)
            if same_zeros and got.dtype == np.float32:
                assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


NUMBERS = np.array([0, 1, -1, 5, -7, 100, -128, 127, 3, 31, 32, -2, 64, 8, 9, -100])


@pytest.mark.parametrize("dtype", [DType.I8, DType.I16, I32, DType.U8, DType.U32])
def test_integers_are_those_of_jax(dtype: DType) -> None:
    x, y = (
        a.astype(dtype.numpy) for a in (np.repeat(NUMBERS[:, None], 16, axis=1), np.repeat(NUMBERS[None], 16, axis=0))
    )

    def f(x, y):
        yield from (x + y, x - y, x * y, jax.lax.div(x, y), jax.lax.rem(x, y), -x, abs(x), jnp.sign(x), x**2)
        yield from (x & y, x | y, x ^ y, ~x, x << y, x >> y, jax.lax.shift_right_logical(x, y), jnp.minimum(x, y))
        yield from (x < y, x == y, jnp.clip(x, 1, 5), x.max(0), x.sum(1), x.argmax(1), jnp.sort(y), jnp.cumsum(x, 0))
        yield from (
            x.astype(jnp.int8),
            x.astype(jnp.float32),
            x.astype(bool),
            jnp.where(x > y, x, 3),
            x @ x if x.dtype == jnp.int32 else x,
        )

    def g(x, y):
        return list(f(x, y))

    types = (Tile[16, 16, dtype],) * 2
    for got, want in zip(run(kernel_from_jax(g, *types), (x, y)), jax.jit(g)(x, y), strict=True):
        np.testing.assert_array_equal(got, np.asarray(want).reshape(got.shape))


# control


def test_a_loop_whose_trips_are_an_argument() -> None:
    def f(x, n):
        return jax.lax.fori_loop(2, n, lambda i, c: c + x[i] * i, x[0])

    k = check(f, X, Scalar[I32], arrays=[*inputs([X]), np.asarray(9, np.int32)])
    assert "s.where" not in str(k.wir())  # the index is known not to be negative
    for n in (0, 2, 3, 16):
        check(f, X, Scalar[I32], arrays=[*inputs([X]), np.asarray(n, np.int32)])


CONTROL: dict[str, tuple[Any, ...]] = {
    "fori": (lambda x: jax.lax.fori_loop(0, 5, lambda i, c: jnp.sin(c) + i, x), X),
    "unrolled": (lambda x: jax.lax.fori_loop(0, 4, lambda i, c: c + x[i], x[0], unroll=2), X),
    "scan": (lambda x: jax.lax.scan(lambda c, r: (c * 0.5 + r, c.sum()), jnp.zeros(64), x), X),
    "scan_of_columns": (lambda x: jax.lax.scan(lambda c, r: (c + r, c * r), jnp.zeros(16), x.T), X),
    "scan_reversed": (lambda x: jax.lax.scan(lambda c, r: (c + r, c), jnp.zeros(64), x, reverse=True), X),
    "scan_of_several": (lambda x, y: jax.lax.scan(lambda c, r: (c + r[0] @ r[1], {"a": r[0] * 2, "b": c}), 0.0, (x, x + y)), X, ROW),
    "scan_of_numbers": (lambda x: jax.lax.scan(lambda c, r: (c + r, c * 2), 1.0, jnp.ones(3) * x[0, 0]), X),
    "scan_without_rows": (lambda x: jax.lax.scan(lambda c, _: (c * 2, None), x, None, length=3)[0], X),
    "counter": (lambda x: jax.lax.scan(lambda c, r: (c + (r.sum() > 0), c), 0, x), X),
    "several_counters": (lambda x: jax.lax.fori_loop(0, 4, lambda i, c: (c[0] + x[c[1]], c[1] + 3, c[2]), (x[0], 0, x.sum())), X),
    "nested": (lambda x: jax.lax.fori_loop(0, 3, lambda i, a: jax.lax.fori_loop(0, i + 1, lambda j, c: c + x[i + j], a), x[0]), X),
    "map": (lambda x: jax.lax.map(lambda r: r / r.sum(), x), X),
    "cond": (lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x + 1, lambda: x.sum(1, keepdims=True) + jnp.zeros_like(x)), X),
    "cond_of_known": (lambda x: jax.lax.cond(x.shape[0] > 3, lambda x: x, lambda x: -x, x), X),
    "cond_of_scalar": (lambda x, n: (jax.lax.cond(n * 2 % 3 == 1, lambda: (x, n), lambda: (-x, n + 1)), n // 2, -n % 5), X, Scalar[I32]),
    "switch": (lambda x, n: jax.lax.switch(n + 3, [lambda x: x, lambda x: -x, lambda x: x * 2, jnp.sin], x), X, Scalar[I32]),
    "cond_in_loop": (lambda x: jax.lax.fori_loop(0, 6, lambda i, c: jax.lax.cond(i % 2 == 0, lambda: c + 1, lambda: c * 2), x), X),
    "scalars": (lambda x, s, n: (x * s + n, jnp.exp(s) * n, (s > 0) & (n > 3), jnp.maximum(s, 0.5)), X, Scalar[F32], Scalar[I32]),
    "flag": (lambda x, b: (jnp.where(b, x, 0), jnp.where(x > 0, b, ~b), b.astype(jnp.int32)), X, Scalar[BOOL]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTROL)
def test_control(name: str) -> None:
    f, *types = CONTROL[name]
    check(f, *types)


# as a kernel among others

normalised = kernel_from_jax(rmsnorm, X, ROW, name="normalised")
gated = kernel_from_jax(swiglu, X, Tile[64, 32, F32], Tile[64, 32, F32])


@workload
def layer(x, gamma, w, v, out):
    y = empty_like(x)
    for i in P(x.tiles(16)):
        normalised[i](x=x[i], gamma=gamma, out=y[i])
    for i in P(x.tiles(16)):
        gated[i](y[i], w, v, out[i])


def test_it_is_a_kernel_as_others() -> None:
    """Called by position and by name, over tiles whose last one is a part; printed, costed, and run inside of JAX."""
    rng = np.random.default_rng(1)
    x, gamma, w, v = (rng.standard_normal(s).astype(np.float32) for s in ((37, 64), (1, 64), (64, 32), (64, 32)))
    out = np.zeros((37, 32), np.float32)
    program = layer(x, gamma, w, v, out).compile().run()
    want = swiglu(rmsnorm(x, gamma), w, v)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-4)
    assert program.stats.total_cycles > 0
    twice = jax.jit(lambda x: as_jax(layer)(x, gamma, w, v, jax.ShapeDtypeStruct(out.shape, out.dtype)) * 2)(x)
    np.testing.assert_allclose(twice, 2 * want, rtol=1e-4, atol=2e-4)

    assert repr(normalised) == "<kernel normalised>" and list(normalised.specs) == ["x", "gamma", "out"]
    assert str(parse_kernel(str(normalised.wir()))) == str(normalised.wir())
    assert 0 < normalised.cost(x=(1, 64)) < normalised.cost() and "cycles" in normalised.roofline()
    assert {e.loc.function for e in normalised.wir().body.eqns if e.prim == "rsqrt" and e.loc} == {"rmsnorm"}


def test_names_of_parameters() -> None:
    assert list(kernel_from_jax(jax.nn.gelu, X).specs) == ["x", "out"]
    assert list(kernel_from_jax(lambda *xs: xs, X, X).specs) == ["xs0", "xs1", "out0", "out1"]
    assert list(kernel_from_jax(lambda a, *, b=1: {"u": a * b, "v": {"w": a}}, X).specs) == ["a", "out0", "out1"]
    assert kernel_from_jax(functools.partial(jnp.sum, axis=1), X).label == "partial"
    one = kernel_from_jax(lambda x, s: (x.sum(), x.sum(0), s), X, Scalar[F32]).specs
    assert [one[f"out{k}"].type.shape for k in range(3)] == [(1, 1), (1, 64), (1, 1)]


def test_in_the_native_tier() -> None:
    x, out, native = *inputs([Tile[64, 64, F32]]), *np.zeros((2, 64, 64), np.float32)
    k = kernel_from_jax(jax.nn.softmax, X)

    @workload
    def rows(x, out):
        for i in P(x.tiles(16)):
            k[i](x=x[i], out=out[i])

    rows(x, out).compile().run()
    program = rows(x, native).compile(native=True).run()
    assert (out == native).all() and program.stats.tiers == {"softmax": "native"}


def test_the_document_lists_what_there_is() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "jax.md").read_text()
    table = set(re.findall(r"\w+", text[text.index("| of JAX |") : text.index("Everything else is an error")]))
    assert {*elementwise.TILES, *layouts.RULES} - {"add_any"} <= table


# parts of tiles


PARTS: dict[str, Callable[..., Any]] = {
    "softmax": jax.nn.softmax,
    "running": lambda x: jnp.cumsum(x, axis=0)[:, ::-1],
    "mixed": lambda x: jnp.where(jnp.arange(16)[:, None] > 4, x - x.mean(1, keepdims=True), x[:1]),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c * 2 + x.max(1, keepdims=True), jnp.zeros_like(x)),
    "product": lambda x: x @ jnp.full((64, 64), 0.5),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_tile_gives_that_part_of_the_result(name: str) -> None:
    f = PARTS[name]
    x, out = tiled(kernel_from_jax(f, X), 16, (37, 64), (37, 64))
    padded = np.concatenate([x, np.full((11, 64), 100, np.float32)])
    want = np.concatenate([f(jnp.asarray(padded[i : i + 16])) for i in range(0, 48, 16)])
    np.testing.assert_allclose(out, want[:37], rtol=1e-4, atol=1e-4)


NEEDED = {
    "mean": lambda x: x - jnp.mean(x, axis=0),
    "sum": lambda x: x + x.sum(),
    "product": lambda x: x @ (x.T @ x),
    "argmax": lambda x: x + x.argmax(axis=0),
    "order": lambda x: jnp.sort(x, axis=0),
    "reversed": lambda x: x[::-1],
    "reversed_sum": lambda x: jax.lax.cumsum(x, 0, reverse=True),
    "row": lambda x: x + x[9],
    "loop": lambda x: jax.lax.scan(lambda c, r: (c + r, c), jnp.zeros(64), x)[1],
    "in_loop": lambda x: jax.lax.fori_loop(0, 2, lambda i, c: c + c.sum(0), x),
    "joined": lambda x: jnp.concatenate([x, x])[8:24],
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_part_is_refused_where_a_result_depends_on_all(name: str) -> None:
    """Never a number that is silently wrong."""
    f = NEEDED[name]
    k = kernel_from_jax(f, X)
    x, out = tiled(k, 16, (32, 64), (32, 64))
    np.testing.assert_allclose(
        out, np.concatenate([f(jnp.asarray(x[i : i + 16])) for i in (0, 16)]), rtol=1e-4, atol=1e-3
    )
    with pytest.raises((KernelError, BoundsError), match=r"PTO7(10|30)") as caught:
        tiled(k, 16, (37, 64), (37, 64))
    assert __file__ in str(caught.value)
    with pytest.raises((KernelError, BoundsError), match=r"PTO7(10|30)"):
        k.evaluate(x=x[:5], out=out[:5])


# refusals

MASK = np.tri(16, 64, dtype=np.float32)


@jax.jit
def helper(x):
    return jnp.linalg.inv(x)


def traced_outside() -> None:
    jax.jit(lambda c: kernel_from_jax(lambda x: x + c, X))(1.0)


REFUSED: list[tuple[str, type[PtoError], Callable[[], Any], str]] = [
    ("PTO888", UnsupportedError, lambda: kernel_from_jax(jnp.arctan, X), "for atan of JAX"),
    ("PTO888", UnsupportedError, lambda: kernel_from_jax(lambda x: x[:8, :8] + helper(x[:8, :8]), X), "for lu of JAX"),
    ("PTO888", UnsupportedError, lambda: kernel_from_jax(lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x), X), "number of trips"),
    ("PTO888", UnsupportedError, lambda: kernel_from_jax(lambda x: jax.random.normal(jax.random.key(0), (16, 64)) + x, X), "key"),
    ("PTO888", UnsupportedError, lambda: kernel_from_jax(lambda x: jnp.lexsort((x, x)), X), "more than one key"),
    ("PTO888", UnsupportedError, lambda: kernel_from_jax(jax.lax.population_count, Tile[4, 4, I32]), "population_count"),
    ("PTO889", UnsupportedError, lambda: kernel_from_jax(lambda x: x + MASK, X), "float32[16,64]"),
    ("PTO889", UnsupportedError, traced_outside, "traced value"),
    ("PTO889", TraceError, lambda: kernel_from_jax(lambda x: x[None], X), "shape (1, 16, 64)"),
    ("PTO889", TraceError, lambda: kernel_from_jax(lambda x: None, X), "gives no array"),
    ("PTO889", TraceError, lambda: kernel_from_jax(lambda x: x, X, X), "does not take 2 arguments"),
    ("PTO889", TraceError, lambda: kernel_from_jax(lambda out: out, X), "name of a result"),
    ("PTO889", TraceError, lambda: kernel_from_jax(jnp.sin, (16, 64)), "Tile[rows, cols, dtype]"),
    ("PTO889", TraceError, lambda: kernel_from_jax(jnp.sin, Tensor), "Tile[rows, cols, dtype]"),
    ("PTO889", TraceError, lambda: kernel_from_jax(jnp.sin, Tile[4, 4, DType.F64]), "jax_enable_x64"),
    ("PTO889", TraceError, lambda: kernel_from_jax(3, X), "of int"),
    ("PTO155", TraceError, lambda: kernel_from_jax(jnp.sin, X, name=""), "name of a kernel"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "cls", "make", "says"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_a_kernel_is_a_clear_error(
    code: str, cls: type[PtoError], make: Callable[[], Any], says: str
) -> None:
    with pytest.raises(cls) as caught:
        make()
    text = str(caught.value)
    assert caught.value.code == code and says in text and "fix: " in text
    assert f"--> {__file__}" in text


def test_an_error_stands_at_the_line_of_the_function() -> None:
    def f(x):
        y = jnp.exp(x)
        return y + jnp.arctan2(y, x)

    first = f.__code__.co_firstlineno
    for make in (lambda: kernel_from_jax(f, X), lambda: kernel_from_jax(jax.jit(f), X)):
        with pytest.raises(UnsupportedError, match=r"PTO888.*atan2 of JAX") as caught:
            make()
        assert caught.value.loc and (caught.value.loc.line, caught.value.loc.function) == (first + 2, "f")
        assert "y + jnp.arctan2(y, x)" in str(caught.value) and "^^^^^" in str(caught.value)


# any expression

UNARY = [
    jnp.tanh,
    jnp.abs,
    jnp.negative,
    jnp.square,
    jax.nn.sigmoid,
    jnp.sin,
    lambda x: jnp.exp(-jnp.abs(x)),
    jnp.sign,
    jnp.round,
]
BINARY = [operator.add, operator.sub, operator.mul, jnp.maximum, jnp.minimum, lambda a, b: jnp.where(a > b, a, -b)]
TO_ROWS = [
    lambda x: x.sum(1, keepdims=True),
    lambda x: x.max(1)[:, None],
    lambda x: x.mean(1).reshape(-1, 1),
    lambda x: jnp.cumsum(x, 1),
]
TO_COLS = [
    lambda x: x.sum(0),
    lambda x: x.min(0, keepdims=True),
    lambda x: x[2],
    lambda x: jnp.cumsum(x, 0),
    lambda x: x[::-1],
]
OTHER = [
    lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c * 0.5 + x[i], x),
    lambda x: (x @ x.T / 8) @ x,
    lambda x: jnp.concatenate([x[3:], x[:3]]),
    lambda x: jax.lax.cond(x[0, 0] > x[1, 1], lambda: x, lambda: -x),
    lambda x: x.T.reshape(8, 6).T.reshape(6, 8) * 1.0,
    lambda x: jax.lax.dynamic_slice(jnp.pad(x, 2), (jnp.argmax(x[:, 0]), 1), x.shape),
]


@st.composite
def expressions(draw: st.DrawFn) -> Callable[..., Any]:
    steps = draw(st.lists(st.tuples(st.sampled_from([*UNARY, *TO_ROWS, *TO_COLS, *OTHER]), st.sampled_from(BINARY), st.integers(0, 9)), min_size=1, max_size=5))  # fmt: skip

    def f(x, y):
        known = [x, y, jnp.float32(0.5)]
        for one, two, k in steps:
            big = jnp.broadcast_to(known[k % len(known)], x.shape)
            known.append(two(one(big), known[(k * 3 + 1) % len(known)]))
        return known[-1]

    return f


@settings(max_examples=12, deadline=None, derandomize=True)
@given(expressions(), st.integers(0, 99))
def test_any_expression(f: Callable[..., Any], seed: int) -> None:
    """Of numbers with few bits, so that rounding decides no comparison."""
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(-8, 9, (6, 8)).astype(np.float32) / 4 for _ in range(2))
    k = kernel_from_jax(f, Tile[6, 8, F32], Tile[6, 8, F32])
    (got,), want = run(k, [x, y]), np.asarray(f(jnp.asarray(x), jnp.asarray(y)))
    finite = np.abs(want).max(initial=1)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=2e-4, atol=2e-4 * finite)
