"""Random kernels of tiles, rows, columns and masks, whose values outlive each other in every order: both tiers give the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    Tile,
    kernel,
    pto,
    workload,
)

F32, F16, BF16, I32, BOOL = DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL
Array = np.ndarray[Any, Any]
UNARY = {
    **dict.fromkeys(
        (F32, F16, BF16), ("neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "tanh", "erf", "sin", "cos")
    ),
    I32: ("neg", "abs", "bit_not"),
}
ROUND = ("floor", "ceil", "rint", "trunc", "round", "exp2", "log2", "expm1", "log1p")
BINARY = ("add", "sub", "mul", "maximum", "minimum", "div", "rem")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
BY_ROW = ("rowsum", "rowmax", "rowmin", "rowprod")
BY_COLUMN = ("colsum", "colmax")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path))


def same_bits(a: Array, b: Array) -> None:
    """What is NaN aside, whose sign and payload no operation promises."""
    nan = [np.isnan(x.astype(np.float64)) for x in (a, b)]
    np.testing.assert_array_equal(*nan)
    np.testing.assert_array_equal(*(x.view(f"u{x.itemsize}")[~nan[0]] for x in (a, b)))


def numbers(rng: np.random.Generator, dtype: DType, *shape: int) -> Array:
    """Numbers, with what is no number among the floats."""
    if dtype is I32:
        return rng.integers(-(2**31), 2**31, shape).astype(np.int32)
    x = rng.normal(0, 2, shape) * 10.0 ** rng.integers(-3, 2, shape)
    x[rng.random(shape) < 0.03] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 300.0])
    with np.errstate(over="ignore"):
        return x.astype(dtype.numpy)


def dag(seed: int, dtype: DType, shape: tuple[int, int]) -> Any:
    """A kernel of random operations on tiles, rows, columns and a scalar. Reductions start new passes, kept values new memory."""
    m, n = shape

    @kernel(name=f"dag_{seed}_{dtype}")
    def k(
        a: In[Tile[m, n, dtype]],
        row: In[Tile[1, n, dtype]],
        column: In[Tile[m, 1, dtype]],
        s: Scalar[dtype],
        inout: InOut[Tile[m, n, dtype]],
        out: Out[Tile[m, n, dtype]],
        thin: Out[Tile[m, 1, dtype]],
        mask: Out[Tile[m, n, BOOL]],
    ) -> None:
        rng = np.random.default_rng(seed)
        wide: list[Any] = [pto.load(a), pto.load(inout)]
        columns: list[Any] = [pto.load(column)]
        rows: list[Any] = [pto.load(row)]
        masks: list[Any] = [pto.gt(wide[0], 0)]

        def pick(*lists: list[Any]) -> Any:
            some = lists[rng.integers(len(lists))]
            return some[-1 - min(rng.geometric(0.4) - 1, len(some) - 1)]

        for _ in range(14):
            what = rng.integers(13)
            if what < 3:
                name = rng.choice((*UNARY[dtype], *(ROUND if dtype.is_float else ())))
                wide.append(getattr(pto, name)(pick(wide)))
            elif what < 6:
                other = s if rng.random() < 0.15 else pick(wide, columns, rows)
                name = rng.choice(BINARY)
                wide.append(getattr(pto, name)(pick(wide), other))
            elif what == 6:
                columns.append(getattr(pto, rng.choice(BY_ROW))(pick(wide)))
            elif what == 7:
                columns.append(pto.maximum(pick(columns), pick(columns)) - 1)
            elif what == 8:
                masks.append(getattr(pto, rng.choice(COMPARISONS))(pick(wide), pick(wide, columns, rows)))
            elif what == 9:
                wide.append(pto.where(pick(masks), pick(wide), pick(wide)))
            elif what == 10:
                masks.append(pto.logical_or(pick(masks), pto.logical_not(pick(masks))))
            elif what == 11:
                wide.append(pto.cast(pto.cast(pick(wide), I32 if dtype.is_float else F32), dtype))
            else:
                rows.append(getattr(pto, rng.choice(BY_COLUMN))(pick(wide)))
        wide.append(pto.where(pick(masks), wide[-1], pto.cast(pto.iota((m, n), axis=int(rng.integers(2))), dtype)))
        pto.store(inout, pick(wide))
        pto.store(out, pto.add(pick(wide), pick(columns)))
        pto.store(thin, columns[-1])
        pto.store(mask, masks[-1])

    return k


def run_dags(
    kernels: list[Any], dtype: DType, shape: tuple[int, int], size: tuple[int, int], tier: Any, *, strided: bool
) -> list[Array]:
    (m, n), (rows, cols) = shape, size
    rng = np.random.default_rng(1)
    a = numbers(rng, dtype, rows, 2 * cols)[:, ::2] if strided else numbers(rng, dtype, rows, cols)
    row, column, start = numbers(rng, dtype, 1, cols), numbers(rng, dtype, rows, 1), numbers(rng, dtype, rows, cols)
    results: list[Array] = []

    @workload
    def w(a: Any, row: Any, column: Any, outs: Any) -> None:
        for k, (inout, out, thin, mask) in zip(kernels, outs, strict=True):
            for i, j in P(a.tiles(m), a[0].tiles(n)):
                s = 3 if dtype is I32 else 1.5
                k[i, j](
                    a=a[i, j],
                    row=row[0:1, j],
                    column=column[i],
                    s=s,
                    inout=inout[i, j],
                    out=out[i, j],
                    thin=thin[i, j : j + 1],
                    mask=mask[i, j],
                )

    parts = -(-cols // n)
    outs = [
        (start.copy(), np.zeros_like(start), np.zeros((rows, parts), dtype.numpy), np.zeros((rows, cols), bool))
        for _ in kernels
    ]
    program = w(a, row, column, outs).compile(threads=2, native=tier)
    program.run()
    assert set(program.stats.tiers.values()) == {"native" if tier else "first"}
    for group in outs:
        results += group
    return results


@pytest.mark.parametrize("dtype", [F32, F16, BF16, I32], ids=str)
def test_random_kernels_have_the_same_bits(dtype: DType, request: pytest.FixtureRequest) -> None:
    count = 60 if request.config.getoption("--full") else 6
    shape, size = ((24, 40), (53, 97))
    kernels = [dag(seed, dtype, shape) for seed in range(count)]
    for strided in (False, True):
        tiers = [run_dags(kernels, dtype, shape, size, tier, strided=strided) for tier in (False, True)]
        for first, second in zip(*tiers, strict=True):
            same_bits(first, second)
