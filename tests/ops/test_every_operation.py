"""Every public operation in every dtype, as a whole kernel on tails: traced, expanded, evaluated, priced, shown and parsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pto_wsp import arch
from pto_wsp import ops as pto
from pto_wsp.arch.cost import Costs, kernel_cost
from pto_wsp.ir.core import PRIMITIVES, Dialect, Direction, DType, Kernel, Region, TileType, Wir
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ir.rounding import round_to
from pto_wsp.ir.text import parse, show
from pto_wsp.ops.product import ACCUMULATED
from pto_wsp.ops.table import Row, rows
from pto_wsp.ops.value import Value
from pto_wsp.passes.expand import expand_kernel

NEEDS_SHAPE = ("load", "store", "full", "full_like", "iota", "tri", "random_bits", "sort32", "merge_sort")
NEEDS_SCALARS = ("item", "valid_shape", "restrict", "debug_print", "fori_loop", "cond")
M, N, VALID = 8, 8, 5  # static size of long dimensions, and their valid size
CASES = [(row, dtype) for row in rows() if row.name not in (*NEEDS_SHAPE, *NEEDS_SCALARS) for dtype in row.dtypes]


def operands(row: Row, dtype: DType) -> Iterator[tuple[DType, int, int]]:
    """Dtype and static shape of each operand that the table says, optional ones included."""
    text = row.shapes.split(" -> ")[0].replace(" (,", ",").replace("f32 or i32 [m, n])", "[m, n] acc").replace(")", "")
    for part in text.split("], "):
        if part == "number":
            continue
        own = {"bool": DType.BOOL, "i32": DType.I32, "f32": DType.F32}.get(part.split(" ")[0], dtype)
        if part.endswith("acc"):
            own = ACCUMULATED[dtype]
        first = (
            part.removeprefix("bool ")
            .removeprefix("i32 ")
            .removeprefix("f32 ")
            .replace(" acc", "")
            .split(" or ")[0]
            .strip("[]")
        )
        rows_, cols = (1 if side == "1" else M for side in first.split(", "))
        yield own, rows_, cols


def call(row: Row, tiles: list[Value]) -> Value:
    more = {
        "broadcast": ((M, N),),
        "cast": (DType.F16,),
        "slice": ((1, 3), (2, N)),
        "reshape": ((4, M * N // 4),),
        "bincount": (6,),
        "fill_pad": (tiles[0].dtype is DType.BOOL or 1, (M + 1, N + 2)),
        "lrelu": (3,),
        "topk": (3,),
        "extract_topk_indices": (VALID,),
    }
    result = getattr(pto, row.name)(*tiles, *more.get(row.name, ()))
    return result[0] if row.name == "topk" else result


def valid_extent(row: Row, size: int) -> int:
    whole = row.name in ("slice", "slice_even", "slice_odd", "concat", "reshape", "interleave", "take", "put")
    return size if whole else min(size, VALID)


@pytest.mark.parametrize(("row", "dtype"), CASES, ids=[f"{row.name}-{dtype}" for row, dtype in CASES])
def test_as_a_whole_kernel(k: Any, row: Row, dtype: DType) -> None:
    rng = np.random.default_rng(4)
    tiles: list[Value] = []
    arrays: dict[str, np.ndarray] = {}
    for i, (own, rows_, cols) in enumerate(operands(row, dtype)):
        tiles.append(k.tile(f"p{i}", rows_, cols, own))
        numbers = rng.uniform(0.5, 4.0, (valid_extent(row, rows_), valid_extent(row, cols)))
        arrays[f"p{i}"] = numbers > 2 if own is DType.BOOL else round_to(own, numbers)
    result = call(row, tiles)
    assert isinstance(result.type, TileType)
    pto.store(k.tile("out", *result.type.shape, result.dtype, Direction.OUT), result)
    kernel = Kernel("kernel", "kernel", tuple(k.builder.params.values()), Region((), tuple(k.builder.eqns)))
    valid = {
        f"{name}.{side}": n for name, a in arrays.items() for side, n in zip(("rows", "cols"), a.shape, strict=True)
    }
    # an extent that the kernel computes is the larger of two that are VALID
    valid |= {d: VALID for d in (result.type.vrows, result.type.vcols) if isinstance(d, str) and d not in valid}
    out_shape = [d if isinstance(d, int) else valid[d] for d in (result.type.vrows, result.type.vcols)]
    arrays["out"] = np.zeros(out_shape, result.dtype.numpy)
    valid |= {"out.rows": out_shape[0], "out.cols": out_shape[1]}

    leaves = expand_kernel(kernel)
    run_kernel(leaves, arrays)

    assert np.isfinite(arrays["out"].astype(np.float64)).all()
    for machine in (arch.get(f"{name}:{model}") for name in arch.names() for model in arch.MODELS):
        costs = Costs(leaves, machine)
        tiles_of = [e for e in leaves.body.eqns if PRIMITIVES[e.prim].dialect is not Dialect.SCALAR]
        works = [(PRIMITIVES[e.prim].unit, costs.work(e)) for e in tiles_of]
        assert all((unit == "none") if work is None else work.cycles.value(valid) >= 1 for unit, work in works)
        longest = max(work.cycles.value(valid) for _, work in works if work is not None)
        assert longest <= kernel_cost(leaves, machine, valid)
    wir = Wir("w", (), (), (kernel,), Region((), ()))
    assert parse(show(wir)) == wir
