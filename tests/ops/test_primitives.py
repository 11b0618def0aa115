"""Rules about the primitives of tiles: no rule is missing, and the numbers of the leaves are those of the plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pto_wsp import ops as pto
from pto_wsp.arch import VECTOR_OPS
from pto_wsp.errors import UnsupportedError
from pto_wsp.ir.core import PRIMITIVES, Dialect, Primitive

TILE = [p for p in PRIMITIVES.values() if p.dialect is Dialect.TILE]
HEADER = Path(__file__).parents[2] / "csrc/include/pto_wsp/tile_ops.hpp"

OPCODES = {
    **dict(load=1, store=2, full=3, iota=4, broadcast=5, cast=6, matmul=7, where=8, fma=9, neg=10, abs=11, exp=12),
    **dict(log=13, sqrt=14, rsqrt=15, reciprocal=16, tanh=17, erf=18, sin=19, cos=20, floor=21, ceil=22, rint=23),
    **dict(trunc=24, logical_not=25, add=30, sub=31, mul=32, div=33, maximum=34, minimum=35, logical_and=36),
    **dict(logical_or=37, eq=40, ne=41, lt=42, le=43, gt=44, ge=45, rowsum=50, rowmax=51, rowmin=52, rowprod=53),
    **dict(colsum=54, colmax=55, colmin=56, colprod=57, count_cols=58, count_rows=59, slice=60, concat=61),
    **dict(transpose=62, reshape=63, interleave=64, gather=65, scatter=66, cumsum=67, bincount=68, rowargmax=69),
    **dict(
        rowargmin=70,
        extract_topk_indices=71,
        topk_values=72,
        fill_pad=91,
        bit_not=73,
        round=74,
        logical_xor=77,
        fmod=78,
        rem=79,
    ),
    **dict(exp2=75, log2=76, pow=86, log1p=87, expm1=88),
    **dict(bit_and=80, bit_or=81, bit_xor=82, shl=83, shr=84, floordiv=85, cast_as=100),
}
OF_PARTS = dict(restrict=92, load_part=93, store_part=94, element=95, debug_print=96, cpp=99)
OF_SCALARS = {"dim", "widen", "narrow"}


@pytest.mark.parametrize("p", TILE, ids=lambda p: p.name)
def test_a_primitive_has_a_type_a_meaning_and_a_cost(p: Primitive) -> None:
    assert p.type is not None
    if p.expand is not None:
        assert p.opcode is None
        assert p.reference is None
        assert p.cost is None
    else:
        assert (p.opcode is None) == (p.name in OF_SCALARS)
        assert p.reference is not None
        assert p.cost is not None


def test_the_opcodes_of_the_leaves() -> None:
    assert {p.name: p.opcode for p in TILE if p.opcode is not None} == OPCODES | OF_PARTS
    assert len({*OPCODES.values(), *OF_PARTS.values()}) == len(OPCODES | OF_PARTS)


def test_the_core_knows_the_same_opcodes() -> None:
    enum = re.search(r"enum class Op\b[^{]*\{([^}]*)\}", HEADER.read_text())
    assert enum is not None
    codes = {name: int(code) for name, code in re.findall(r"(\w+) = (\d+)", enum[1])}
    assert codes.items() >= (OPCODES | OF_PARTS).items()


def test_an_arch_prices_the_elementwise_leaves_and_what_others_are_made_of() -> None:
    other = {"load", "store", "broadcast", "matmul"} | {
        f"{a}{r}" for a in ("row", "col") for r in ("sum", "max", "min", "prod")
    }
    made = {"slice", "concat", "reshape", "interleave", "cumsum", "bincount", "rowargmax", "rowargmin"}
    made |= {"extract_topk_indices", "topk_values", "cast_as", "fill_pad"}
    assert set(OPCODES) - other - made <= set(VECTOR_OPS)


@pytest.mark.parametrize("name", sorted(pto.__all__))
def test_a_public_operation_says_what_it_does(name: str) -> None:
    assert getattr(pto, name).__doc__


def test_the_namespace_has_each_primitive_but_the_counts_and_a_half_of_topk() -> None:
    inner = {
        "count_cols",
        "count_rows",
        "topk_values",
        "cast_as",
        "load_part",
        "store_part",
        "element",
        "cpp",
    } | OF_SCALARS
    assert {p.name for p in TILE} - set(pto.__all__) == inner
    assert dir(pto) == sorted(pto.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(UnsupportedError) as e:
        pto.rowsums  # noqa: B018
    assert e.value.code == "PTO001"
    assert isinstance(e.value, AttributeError)
    assert "rowsum" in str(e.value)
    assert e.value.loc is not None
    assert e.value.loc.file == __file__
    assert not hasattr(pto, "shuffle")
    with pytest.raises(ImportError):
        from pto_wsp.ops import shuffle  # noqa: F401
