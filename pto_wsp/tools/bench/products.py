"""Rows of matrix products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pto_wsp import DType, In, Out, P, Tensor, kernel, pto, workload
from pto_wsp.tools.bench.arms import Arms, Call, has_jax, in_n_eps, jitted

ROWS, COLS = 1024, 256  # of a task's result: b is packed once for each task


@kernel
def product(a: In[Tensor], b: In[Tensor], out: Out[Tensor]) -> None:
    pto.store(out, pto.matmul(a, b))


@workload
def matmul(a: Tensor, b: Tensor, out: Tensor) -> None:
    """a [m, k], b [k, n], out [m, n]: a task for each tile of out."""
    for i, j in P(a.tiles(ROWS), b[0].tiles(COLS)):
        product[i, j](a=a[i], b=b[:, j], out=out[i, j])


@workload
def batched(a: Tensor, b: Tensor, out: Tensor) -> None:
    """a, b, out [batch, n, n]: a task for each product."""
    for i in P(a.shape[0]):
        product[i](a=a[i], b=b[i], out=out[i])


def _product(jnp: Any, x: Any, y: Any) -> Any:
    return jnp.matmul(x, y)


def _peers(names: Mapping[str, Call]) -> dict[str, Any]:
    return {"peers": dict(names), "missing": () if has_jax() else ("jax.jit",)}


def matmul_row(shape: Mapping[str, int], dtype: DType, flops: int, threads: int) -> Arms:
    random = np.random.default_rng(0)
    m, n, k = shape["m"], shape["n"], shape["k"]
    a = random.standard_normal((m, k), dtype=np.float32).astype(dtype.numpy)
    b = random.standard_normal((k, n), dtype=np.float32).astype(dtype.numpy)
    out = np.zeros((m, n), np.float32)
    program = matmul(a, b, out).compile(threads=threads)

    def error() -> tuple[float, str]:
        x, y = a.astype(np.float64), b.astype(np.float64)
        return in_n_eps(out, x @ y, k, np.abs(x) @ np.abs(y))

    peers: dict[str, Call] = {}
    if dtype is DType.F32:
        c = np.empty_like(out)
        peers["numpy"] = lambda: np.matmul(a, b, out=c)
    else:
        wide = matmul(a.astype(np.float32), b.astype(np.float32), np.zeros_like(out)).compile(threads=threads)
        peers["ours f32"] = wide.run
    if has_jax():

        def wide_product(jnp: Any, x: Any, y: Any) -> Any:
            return jnp.matmul(x, y, preferred_element_type=jnp.float32)

        peers["jax.jit"] = jitted(wide_product, a, b)
    return Arms(program.run, error, flops=flops, **_peers(peers))


def bmm_row(shape: Mapping[str, int], flops: int, threads: int) -> Arms:
    random = np.random.default_rng(0)
    size = (shape["batch"], shape["m"], shape["k"]), (shape["batch"], shape["k"], shape["n"])
    a, b = (random.standard_normal(s, dtype=np.float32) for s in size)
    out = np.zeros((shape["batch"], shape["m"], shape["n"]), np.float32)
    c = np.empty_like(out)
    program = batched(a, b, out).compile(threads=threads)

    def error() -> tuple[float, str]:
        x, y = a.astype(np.float64), b.astype(np.float64)
        return in_n_eps(out, x @ y, shape["k"], np.abs(x) @ np.abs(y))

    peers: dict[str, Call] = {"numpy": lambda: np.matmul(a, b, out=c)}
    if has_jax():
        peers["jax.jit"] = jitted(_product, a, b)
    return Arms(program.run, error, flops=flops, **_peers(peers))
