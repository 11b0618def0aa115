"""Kernels of functions of `jnp`, run and compared with JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from pto_wsp import DType, P, workload
from pto_wsp.ir.core import Direction
from pto_wsp_jax import kernel_from_jax

F32, F16, BF16, I32, BOOL = DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL
EPS = {F32: 2.0**-23, F16: 2.0**-10, BF16: 2.0**-7}


def inputs(types: Sequence[Any], seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    arrays: list[Any] = []
    for t in types:
        note = t if not hasattr(t, "__metadata__") else t.__metadata__[0]
        shape = t.shape if note is t else ()
        a = (
            rng.standard_normal(shape)
            if note.dtype.is_float
            else rng.integers(0 if note.dtype is BOOL else -9, 9, shape)
        )
        arrays.append(np.asarray(a).astype(note.dtype.numpy))
    return arrays


def run(k: Any, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """What the kernel gives: of the runtime, and the same, within rounding, of the evaluator."""
    given = {n: a if a.ndim else a.item() for n, a in zip(k.specs, arrays, strict=False)}
    written = {n: s.type for n, s in k.specs.items() if getattr(s, "direction", None) is Direction.OUT}
    outs = {n: np.zeros(t.shape, t.dtype.numpy) for n, t in written.items()}
    again = {n: np.zeros_like(a) for n, a in outs.items()}
    spelled = ", ".join(f"{n}={n}" for n in (*given, *outs))
    scope = {"_kernel": k}
    exec(f"def task({', '.join((*given, *outs))}):\n    _kernel({spelled})", scope)
    workload(scope["task"])(*given.values(), *outs.values()).compile().run()
    k.evaluate(**given, **again)
    for n, a in outs.items():
        if a.dtype.kind in "iub":
            assert (a == again[n]).all()
        else:
            t = written[n]
            eps = EPS.get(t.dtype, 2.0**-52)
            finite = np.abs(a[np.isfinite(a)].astype(float)).max(initial=1)
            np.testing.assert_allclose(a.astype(float), again[n].astype(float), rtol=64 * eps, atol=64 * eps * finite)
    return list(outs.values())


def reference(f: Callable[..., Any], arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """What JAX makes of the numbers in float64."""
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        wide = [a.astype(np.float64) if a.dtype.kind not in "iub" else a for a in arrays]
        return [np.asarray(x) for x in jax.tree.leaves(jax.jit(f)(*wide))]


def check(f: Callable[..., Any], *types: Any, roundings: float = 64, arrays: Sequence[Any] | None = None) -> Any:
    """The kernel of f agrees with JAX in float64: integers exactly, floats within so many roundings of the largest number."""
    k = kernel_from_jax(f, *types)
    arrays = inputs(types) if arrays is None else arrays
    eps = max(EPS.get(a.dtype, 0) for a in (t if not hasattr(t, "__metadata__") else t.__metadata__[0] for t in types))
    for got, want in zip(run(k, arrays), reference(f, arrays), strict=True):
        assert got.size == want.size
        want = want.reshape(got.shape)
        if got.dtype.kind in "iub":
            assert (got == want).all()
        else:
            finite = np.abs(want[np.isfinite(want)]).max(initial=1)
            np.testing.assert_allclose(got.astype(float), want, rtol=roundings * eps, atol=roundings * eps * finite)
    return k


def tiled(k: Any, n: int, shape: tuple[int, ...], out_shape: tuple[int, ...]) -> Any:
    """x and what k makes of its rows, n at a time; the last are a part of a tile."""
    x, out = np.random.default_rng(2).standard_normal(shape).astype(np.float32), np.zeros(out_shape, np.float32)

    @workload
    def rows(x, out):
        for i in P(x.tiles(n)):
            k[i](x=x[i], out=out[i])

    rows(x, out).compile().run()
    return x, out
