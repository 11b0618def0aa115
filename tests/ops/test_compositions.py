"""Compositions: their expansion computes what they say, over valid elements, with one rounding of f16 and bf16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import ops as pto
from pto_wsp.ir.build import KernelBuilder, tracing_kernel
from pto_wsp.ir.core import PRIMITIVES, DType, Var
from pto_wsp.ops.value import Value

FLOATS = [DType.F32, DType.F16, DType.BF16]
EPS = {DType.F32: 2.0**-24, DType.F16: 2.0**-11, DType.BF16: 2.0**-8}

# A composition has at most 12 leaves, each of which rounds once in f32. An operand lies within 4 of 0, so an absolute error
# of an argument comes out of exp, of a product and of a cube at most 4 times as large, relatively to values of at most 4.
OF_F32 = 12 * 4 * EPS[DType.F32]
LARGEST = 4

erf = np.vectorize(__import__("math").erf)
SIMPLE: list[tuple[Callable[..., Value], Callable[[np.ndarray], np.ndarray]]] = [
    (pto.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    (pto.silu, lambda x: x / (1 + np.exp(-x))),
    (pto.relu, lambda x: np.maximum(x, 0)),
    (pto.gelu, lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))),
    (
        lambda x: pto.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    (pto.rowmean, lambda x: x.mean(axis=1, keepdims=True)),
    (pto.colmean, lambda x: x.mean(axis=0, keepdims=True)),
    (
        pto.softmax,
        lambda x: np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True),
    ),
    (pto.rmsnorm, lambda x: x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-6)),
    (pto.layernorm, lambda x: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("operation", "formula"), SIMPLE)
@pytest.mark.parametrize("valid", [(8, 32), (5, 7), (1, 1)])
def test_against_the_formula(k: Any, operation: Any, formula: Any, dtype: DType, valid: tuple[int, int]) -> None:
    x = np.random.default_rng(2).uniform(-4, 4, valid).astype(dtype.numpy)
    got = k.evaluate(operation(k.tile("x", 8, 32, dtype)), x=x)
    assert got.dtype == dtype.numpy
    want = formula(x.astype(np.float64))
    # the f32 computation, then one rounding to the dtype
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=EPS[dtype] + OF_F32, atol=LARGEST * OF_F32)


def test_scale_and_shift(k: Any) -> None:
    rng = np.random.default_rng(3)
    x, g, b = rng.standard_normal((5, 7)), rng.standard_normal((1, 7)), rng.standard_normal((1, 7))
    tx, tg, tb = k.tile("x", 8, 16), k.tile("g", 1, 16), k.tile("b", 1, 16)
    arrays = {name: v.astype(np.float32) for name, v in (("x", x), ("g", g), ("b", b))}
    rms = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-3)
    normal = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-3)
    for value, want in (
        (pto.rmsnorm(tx, tg, 1e-3), rms * g),
        (pto.layernorm(tx, tg, tb, 1e-3), normal * g + b),
        (pto.layernorm(tx, beta=tb, eps=1e-3), normal + b),
        (pto.layernorm(tx, tg, eps=1e-3), normal * g),
    ):
        np.testing.assert_allclose(k.evaluate(value, **arrays), want, rtol=OF_F32, atol=LARGEST * OF_F32)


def test_extremes(k: Any) -> None:
    x = np.array([[1e3, -1e3, np.nan]], np.float32)
    t = k.tile("x", 1, 3)
    assert np.array_equal(k.evaluate(pto.sigmoid(t), x=x), [[1, 0, np.nan]], equal_nan=True)
    assert np.array_equal(k.evaluate(pto.silu(t), x=x), [[1e3, 0, np.nan]], equal_nan=True)
    assert np.array_equal(k.evaluate(pto.relu(t), x=x), [[1e3, 0, np.nan]], equal_nan=True)
    masked = np.array([[0, -np.inf, 0]], np.float32)
    assert k.evaluate(pto.softmax(t), x=masked).tolist() == [[0.5, 0, 0.5]]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu", "rowmean", "colmean", "softmax", "rmsnorm", "layernorm"])
def test_narrow_dtypes_are_computed_in_f32(k: Any, name: str, dtype: DType) -> None:
    value = getattr(pto, name)(k.tile("x", 8, 32, dtype))
    eqn = k.last
    primitive = PRIMITIVES[name]
    assert primitive.expand is not None
    inner = KernelBuilder("expansion")
    with tracing_kernel(inner):
        result = primitive.expand(*(Value(inner, v) for v in eqn.ins if isinstance(v, Var)), **eqn.params)
    assert result.type == value.type
    casts = [e.prim for e in inner.eqns].count("cast")
    assert casts == (0 if dtype is DType.F32 else 2)
    assert all(out.type.dtype is DType.F32 for e in inner.eqns[:-1] for out in e.outs)
