"""Rows of operations on rows: rmsnorm and softmax."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from pto_wsp import In, Out, P, Tensor, kernel, pto, workload
from pto_wsp.tools.bench.arms import Arms, Array, Call, has_jax, in_ulp, jitted

TILE_BYTES = 2**18  # of a task's input
EPS = 1e-6


@kernel
def rmsnorm_tile(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, x * pto.rsqrt(pto.rowmean(x * x) + EPS))


@kernel
def softmax_tile(x: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.softmax(x))


@workload
def rmsnorm(x: Tensor, out: Tensor, rows: int) -> None:
    for i in P(x.tiles(rows)):
        rmsnorm_tile[i](x=x[i], out=out[i])


@workload
def softmax(x: Tensor, out: Tensor, rows: int) -> None:
    for i in P(x.tiles(rows)):
        softmax_tile[i](x=x[i], out=out[i])


def exact_rmsnorm(x: Array) -> Array:
    wide = x.astype(np.float64)
    return wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + EPS)


def exact_softmax(x: Array) -> Array:
    wide = x.astype(np.float64)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def rmsnorm_of_jax(jnp: Any, x: Any) -> Any:
    return x / jnp.sqrt((x * x).mean(axis=1, keepdims=True) + EPS)


def softmax_of_jax(jnp: Any, x: Any) -> Any:
    return importlib.import_module("jax").nn.softmax(x, axis=1)


def arrays(shape: Mapping[str, int]) -> tuple[Array, Array, int]:
    """x, memory for the result, and the rows of a task."""
    x = np.random.default_rng(0).standard_normal((shape["rows"], shape["cols"]), dtype=np.float32)
    return x, np.zeros_like(x), max(1, TILE_BYTES // (4 * shape["cols"]))


def rmsnorm_row(shape: Mapping[str, int], count: int, threads: int, *, numpy_too: bool) -> Arms:
    x, out, rows = arrays(shape)
    program = rmsnorm(x, out, rows).compile(threads=threads)
    spare, square = np.empty_like(x), np.empty_like(x)

    def error() -> tuple[float, str]:
        return in_ulp(out, exact_rmsnorm(x))

    def by_numpy() -> None:
        np.multiply(x, x, out=square)
        scale = 1 / np.sqrt(square.mean(axis=1, keepdims=True) + np.float32(EPS))
        np.multiply(x, scale, out=spare)

    peers: dict[str, Call] = {"numpy in place": by_numpy} if numpy_too else {}
    if has_jax():
        peers["jax.jit"] = jitted(rmsnorm_of_jax, x)
    return Arms(program.run, error, bytes=count, peers=peers, missing=() if has_jax() else ("jax.jit",))


def softmax_row(shape: Mapping[str, int], count: int, threads: int, *, numpy_too: bool) -> Arms:
    x, out, rows = arrays(shape)
    program = softmax(x, out, rows).compile(threads=threads)
    spare = np.empty_like(x)

    def error() -> tuple[float, str]:
        return in_ulp(out, exact_softmax(x))

    def by_numpy() -> None:
        np.subtract(x, x.max(axis=1, keepdims=True), out=spare)
        np.exp(spare, out=spare)
        np.divide(spare, spare.sum(axis=1, keepdims=True), out=spare)

    name = "jax.nn.softmax under jit"
    peers: dict[str, Call] = {"numpy in place": by_numpy} if numpy_too else {}
    if has_jax():
        peers[name] = jitted(softmax_of_jax, x)
    return Arms(program.run, error, bytes=count, peers=peers, missing=() if has_jax() else (name,))
