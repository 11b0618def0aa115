"""The core's operations on scalars are those of the wir: same bits, same failures."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from pto_wsp.errors import BoundsError, ExecutionError, TypeCheckError
from pto_wsp.ir.core import DType, Param
from pto_wsp.ir.scalars import SCALAR_DTYPES, Number, compute, scalar_type
from pto_wsp.runtime.core import core

CORE: Any = core()
# in the order of the plan's codes
OPS = (
    *("add", "sub", "mul", "floordiv", "mod", "div", "and", "or", "xor", "not", "shl", "shr"),
    *("eq", "ne", "lt", "le", "gt", "ge", "min", "max", "abs", "neg", "where", "cast"),
)
UNARY = ("not", "abs", "neg", "cast")
FAILURES = {"overflow": "PTO712", "zero_divisor": "PTO711", "shift": "PTO716", "cast_range": "PTO717"}
EDGES: dict[DType, list[Number]] = {
    DType.I64: [
        0,
        1,
        -1,
        2,
        -2,
        3,
        -7,
        31,
        62,
        63,
        64,
        -64,
        2**31,
        2**53 + 1,
        2**62,
        -(2**62),
        2**63 - 1,
        -(2**63),
        -(2**63) + 1,
    ],
    DType.U64: [0, 1, 2, 3, 10, 62, 63, 64, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1025, 2**64 - 1],
    DType.F64: [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        -0.1,
        2.5,
        -3.5,
        5e-324,
        -5e-324,
        1e-310,
        1e16,
        2.0**63,
        -(2.0**63),
        2.0**64,
        1.7e308,
        -1.7e308,
        math.inf,
        -math.inf,
        math.nan,
    ],
    DType.BOOL: [False, True],
}


def _bits(value: Number, dtype: DType) -> int:
    if dtype is DType.F64:
        return struct.unpack("<Q", struct.pack("<d", value))[0]
    return int(value) & (2**64 - 1)


def _same(got: int, expected: Number, dtype: DType) -> bool:
    if dtype is DType.F64 and math.isnan(expected):
        return math.isnan(struct.unpack("<d", struct.pack("<Q", got))[0])
    return got == _bits(expected, dtype)


def _values(dtype: DType, rng: np.random.Generator) -> list[Number]:
    more: list[Number] = []
    for word in rng.integers(0, 2**64, 12, dtype=np.uint64, endpoint=False):
        short = int(word) >> int(rng.integers(0, 64))
        if dtype is DType.F64:
            more.append(struct.unpack("<d", struct.pack("<Q", int(word)))[0])
        elif dtype is not DType.BOOL:
            more.append(short if dtype is DType.U64 else short - 2**64 if short >= 2**63 else short)
    return EDGES[dtype] + more


def _agree(op: str, dtype: DType, to: DType, checked: bool, values: tuple[Number, ...]) -> None:
    prim, params = f"s.{op}", {"checked": checked} | ({"to": to} if op == "cast" else {})
    dtypes = [DType.BOOL, dtype, dtype] if op == "where" else [dtype] * len(values)
    out = scalar_type(prim, params, dtypes)
    status, bits = CORE.scalar_op(
        OPS.index(op), dtype.code, to.code, checked, [_bits(v, d) for v, d in zip(values, dtypes, strict=True)]
    )
    said = f"{prim} of {values} {dtype} -> {to}, checked={checked}: {status} {bits}"
    expected = _reference(prim, params, dtypes, values)
    if isinstance(expected, str):
        assert FAILURES.get(status) == expected, said
    else:
        assert status == "ok", said
        assert _same(bits, expected, out), f"{said}, not {expected}"


def _reference(prim: str, params: Mapping[str, Param], dtypes: list[DType], values: tuple[Number, ...]) -> Number | str:
    """The result, or the code of the error."""
    try:
        return compute(prim, params, dtypes, values)
    except (BoundsError, ExecutionError) as e:
        return e.code


def _exists(op: str, dtype: DType, count: int) -> bool:
    try:
        scalar_type(f"s.{op}", {"to": dtype}, [DType.BOOL, dtype, dtype] if op == "where" else [dtype] * count)
    except TypeCheckError:
        return False
    return True


@pytest.mark.parametrize("dtype", SCALAR_DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_operations_give_the_bits_of_the_reference(op: str, dtype: DType) -> None:
    count = 1 if op in UNARY else 2
    if not _exists(op, dtype, count):
        with pytest.raises(ValueError, match="no such operation"):
            CORE.scalar_op(OPS.index(op), dtype.code, dtype.code, False, [0] * count)
        return
    values = _values(dtype, np.random.default_rng(OPS.index(op)))
    for checked in (False, True):
        for args in product(values, repeat=count):
            if op == "where":
                for c in (False, True):
                    _agree(op, dtype, dtype, checked, (c, *args))
            elif op == "cast":
                for to in SCALAR_DTYPES:
                    _agree(op, dtype, to, checked, args)
            else:
                _agree(op, dtype, dtype, checked, args)
