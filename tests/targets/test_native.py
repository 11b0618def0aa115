"""The C++ that the native tier writes: every operation in every dtype gives the bits of the tile operation."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from kernels.chains import bits, inputs
from pto_wsp import Dense, DType, In, Out, P, Tile, kernel, pto, workload

ROWS, COLS = 21, 70
Values = dict[str, Any]
F32, F16, BF16, I32, BOOL = DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL

_FLOAT_UNARY = (
    *("exp", "log", "exp2", "log2", "sqrt", "rsqrt", "reciprocal", "tanh", "erf", "sin", "cos"),
    *("floor", "ceil", "rint", "trunc", "round", "log1p", "expm1"),
)
_BINARY = ("add", "sub", "mul", "maximum", "minimum", "div", "rem", "fmod")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path / "cache"))


def of_numbers(dtype: DType, a: Any, b: Any, row: Any) -> Values:
    """Every operation on numbers of a dtype; thin values, rows and numbers among their operands."""
    thin, more = pto.rowmax(a), pto.rowsum(pto.maximum(b, 0) + 1)
    out = {name: getattr(pto, name)(a, b) for name in _BINARY}
    out |= {f"{name}_of_thin": getattr(pto, name)(a, thin) for name in _BINARY}
    out |= {
        name: getattr(pto, name)(a)
        for name in ("neg", "abs", "rowsum", "rowmax", "rowmin", "rowprod", "cumsum", "colsum")
    }
    masks = {name: getattr(pto, name)(a, b) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
    either = (masks["lt"] | ~masks["ne"]) & masks["le"]
    out |= masks | {
        "logic": either,
        "same": pto.eq(masks["ge"], either),
        "mask": pto.where(either, masks["gt"], masks["eq"]),
    }
    out |= {
        "where": pto.where(masks["lt"], a, b),
        "where_row": pto.where(either, row, 3),
        "row": row * a - row,
        "number": 2 - a,
    }
    out |= {
        "thin": thin - more,
        "thin_row": thin * row,
        "of_row": pto.abs(row) * 2,
        "copy": a,
        "column": pto.broadcast(thin, (ROWS, COLS)),
    }
    out |= {f"to_{to}": pto.cast(a + 1, to) for to in (F32, F16, BF16, I32, BOOL, DType.F64, DType.I8)}
    out |= {"from_mask": pto.cast(either, dtype) + 1, "count": pto.rowmean(pto.cast(a, F32))}
    down = pto.cast(pto.iota((ROWS, COLS), axis=0), dtype)
    out |= {
        "iota": down - pto.cast(pto.iota((ROWS, COLS), axis=1), dtype),
        "iota_thin": pto.cast(pto.iota((ROWS, 1), axis=0), dtype) * 2,
    }
    if dtype is not I32:
        out |= {name: getattr(pto, name)(a) for name in _FLOAT_UNARY} | {
            "fma": pto.fma(a, b, row),
            "fma_thin": pto.fma(thin, more, b),
        }
    return out


def kernel_of(dtype: DType) -> tuple[Any, Values]:
    """A kernel that stores every value of `of_numbers`, and the types of these."""
    types: Values = {}

    @kernel
    def trial(a: In[Tile[ROWS, COLS, dtype]], b: In[Tile[ROWS, COLS, dtype]], row: In[Tile[1, COLS, dtype]]):
        made = of_numbers(dtype, pto.load(a), pto.load(b), pto.load(row))
        types.update({name: value.type for name, value in made.items()})

    def every(**tiles: Any) -> None:
        for name, value in of_numbers(dtype, *(pto.load(tiles[n]) for n in ("a", "b", "row"))).items():
            pto.store(tiles[f"o_{name}"], value)

    trial.wir()
    notes = {n: In[Tile[rows, COLS, dtype]] for n, rows in (("a", ROWS), ("b", ROWS), ("row", 1))}
    notes |= {f"o_{name}": Out[Tile[t.rows, t.cols, t.dtype]] for name, t in types.items()}
    every.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=note) for n, note in notes.items()]
    )
    return kernel(every), types


@pytest.mark.parametrize("shape", [(ROWS, COLS), (ROWS - 2, COLS - 9)])
@pytest.mark.parametrize("dtype", [F32, F16, BF16, I32])
def test_every_operation(dtype: DType, shape: tuple[int, int]) -> None:
    k, types = kernel_of(dtype)
    a, b, row = inputs(dtype, *shape, seed=3)
    known = {
        f"{p}.{side}": x.shape[at]
        for p, x in (("a", a), ("b", b), ("row", row))
        for at, side in enumerate(("rows", "cols"))
    }

    @workload
    def w(a, b, row, outs):
        for i, j in P.seq(a.tiles(ROWS), Dense[shape[1]]().tiles(COLS)):
            views = {
                f"o_{n}": o[i if t.rows > 1 else slice(0, 1), j if t.cols > 1 else slice(0, 1)]
                for (n, t), o in zip(types.items(), outs, strict=True)
            }
            k(a=a[i, j], b=b[i, j], row=row[:, j], **views)

    made: list[list[np.ndarray[Any, Any]]] = []
    for native in (False, True):
        outs = [
            np.zeros((known.get(t.vrows, t.rows), known.get(t.vcols, t.cols)), t.dtype.numpy) for t in types.values()
        ]
        program = w(a, b, row, outs).compile(threads=1, native=native).run()
        assert program.stats.tiers == {"every": "native" if native else "first"}
        made.append(outs)
    for name, first, native in zip(types, *made, strict=True):
        np.testing.assert_array_equal(bits(first), bits(native), name)
