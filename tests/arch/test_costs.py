"""Costs: the published figures, and the laws every cost keeps."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import arch
from pto_wsp.arch.model import COL_OPS, ROW_OPS
from pto_wsp.ir.core import DType, TileType
from pto_wsp.ir.expr import Expr

A = arch.get()
GIB = 2**30


def tile(rows: int, cols: int, dtype: DType = DType.F32) -> TileType:
    return TileType(dtype, rows, cols)


def cycles(cost: Expr) -> int:
    assert cost.is_const
    return cost.const


def test_transfers_move_whole_blocks_at_the_published_bandwidth() -> None:
    # 8192 bytes at 100.9 and 188.46 GiB/s, 1.85 GHz: 139.9 and 74.9 cycles
    assert cycles(A.transfer("load", tile(16, 128))) == 140
    assert cycles(A.transfer("store", tile(16, 128))) == 75
    assert cycles(A.transfer("load", tile(16, 128))) == -(-8192 * 1_850_000_000 // (Fraction("100.9") * GIB))
    # a row of 5 f32 is 20 bytes, which move as 32
    assert A.transfer("load", tile(64, 5)) == A.transfer("load", tile(64, 8))
    assert cycles(A.transfer("load", tile(64, 8))) == 35


def test_vector_instructions() -> None:
    assert cycles(A.vector("add", tile(16, 64))) == 10 + 2 * 16 + 14
    assert cycles(A.vector("mul", tile(16, 128))) == 10 + 2 * 32 + 15
    assert cycles(A.vector("mul", tile(16, 128, DType.F16))) == 10 + 2 * 16 + 15
    assert cycles(A.vector("mul", tile(16, 128), scalar=True)) == 11 + 32 + 15
    assert (
        cycles(A.vector("exp", tile(16, 64), scalar=True)) == cycles(A.vector("exp", tile(16, 64))) == 13 + 2 * 16 + 18
    )
    assert cycles(A.vector("div", tile(1, 64), scalar=True)) == 5 + 45
    assert cycles(A.vector("tanh", tile(1, 64))) == (11 + 1 + 15) + (13 + 2 + 18) + 2 * (13 + 1 + 18) + (11 + 4 + 19)


def test_the_unaligned_penalty_is_of_the_tile_not_of_its_valid_part() -> None:
    assert cycles(A.vector("add", tile(5, 7))) == 10 + 2 * 5 + 14 + 16
    assert cycles(A.vector("exp", tile(5, 7))) == 13 + 2 * 5 + 18
    tail = TileType(DType.F32, 16, 128, "x.rows", "x.cols")
    assert A.vector("add", tail).value({"x.rows": 16, "x.cols": 127}) == cycles(A.vector("add", tile(16, 128)))


def test_a_column_vector_is_one_row() -> None:
    assert cycles(A.vector("rsqrt", tile(64, 1))) == 10 + 1 + 14
    assert cycles(A.vector("rsqrt", tile(128, 1))) == 10 + 2 + 14


def test_fitted_reductions() -> None:
    # slope * rows * columns + bias, as published at 64 and 128 columns
    for rows in (1, 16, 64):
        for op, at64, at128 in (
            ("rowsum", ("0.1094", 44), ("0.0625", "61.5")),
            ("rowmax", ("0.1094", 32), ("0.0625", 48)),
            ("rowexpand", ("0.2187", 37), ("0.1176", "34.5")),
        ):
            for cols, (slope, bias) in ((64, at64), (128, at128)):
                published = float(Fraction(slope) * rows * cols + Fraction(bias))
                assert cycles(A.reduce_rows(op, tile(rows, cols))) == pytest.approx(published, abs=4)
        for op, at64, at128 in (("colsum", (".3047", 15), (".1728", 8)), ("colmax", (".2734", 17), (".1571", 10))):
            for cols, (slope, bias) in ((64, at64), (128, at128)):
                published = float(Fraction(slope) * rows * cols + Fraction(bias))
                assert cycles(A.reduce_cols(op, tile(rows, cols))) == pytest.approx(published, rel=0.02, abs=8)
    assert cycles(A.reduce_rows("rowsum", tile(16, 128))) == 190


def test_the_matrix_unit() -> None:
    assert cycles(A.matmul(DType.F16, 16, 16, 16)) == 7
    assert cycles(A.matmul(DType.F32, 16, 16, 16)) == 6 + 2 * 2
    assert cycles(A.matmul(DType.BF16, 128, 256, 64)) == 6 + 8 * 4 * 16
    assert cycles(A.matmul(DType.F16, 17, 1, 17)) == 6 + 2 * 2 * 1


COSTS: dict[str, Callable[[arch.Arch, TileType], Expr]] = {
    "load": lambda a, t: a.transfer("load", t),
    "store": lambda a, t: a.transfer("store", t),
    "matmul": lambda a, t: a.matmul(t.dtype, t.vrows, t.vcols, t.vrows),
    **{op: lambda a, t, op=op: a.vector(op, t) for op in arch.VECTOR_OPS},
    **{f"{op} number": lambda a, t, op=op: a.vector(op, t, scalar=True) for op in A.scalar_ops},
    **{op: lambda a, t, op=op: a.reduce_rows(op, t) for op in ROW_OPS},
    **{op: lambda a, t, op=op: a.reduce_cols(op, t) for op in COL_OPS},
}


@pytest.mark.parametrize("name", arch.names())
@given(
    st.sampled_from(sorted(COSTS)),
    st.sampled_from([DType.F32, DType.F16, DType.BF16, DType.I32]),
    st.tuples(st.integers(1, 300), st.integers(1, 700)),
    st.data(),
)
def test_costs_are_positive_and_monotone(
    name: str, op: str, dtype: DType, shape: tuple[int, int], data: st.DataObject
) -> None:
    cost = COSTS[op](arch.get(name), TileType(dtype, *shape, "x.rows", "x.cols"))
    assert cost.names() <= {"x.rows", "x.cols"}
    rows, cols = (data.draw(st.integers(1, n)) for n in shape)
    less = data.draw(st.integers(1, rows)), data.draw(st.integers(1, cols))
    small, large = (cost.value({"x.rows": m, "x.cols": n}) for m, n in (less, (rows, cols)))
    assert 1 <= small <= large
    full = COSTS[op](arch.get(name), TileType(dtype, *shape))
    assert cycles(full) == cost.value({"x.rows": shape[0], "x.cols": shape[1]}) >= large


@pytest.mark.parametrize("op", sorted(COSTS))
def test_the_largest_tile_fits_64_bits(op: str) -> None:
    """Every value that evaluating the expression meets, for the largest tile there can be."""

    def largest(e: Expr) -> int:
        parts = [abs(e.const)]
        for atom, factor in e.terms:
            assert not isinstance(atom, str) or factor >= 0
            if not isinstance(atom, str):
                parts += [largest(atom.a), largest(atom.b), abs(factor) * abs(Expr(0, ((atom, 1),)).value(env))]
        return max(*parts, abs(e.value(env)))

    for rows, cols in ((2**28, 1), (1, 2**28), (2**14, 2**14)):
        env = {"x.rows": rows, "x.cols": cols}
        t = TileType(DType.F32, rows, cols, "x.rows", "x.cols")
        cost = COSTS[op](A, t) if op != "matmul" else A.matmul(DType.F32, 2**14, "x.rows", "x.cols")
        assert largest(cost) < 2**63
