"""Quantisation.

A scale and a zero point are one number or scalar, or a tile with one for each row [m, 1] or column [1, n], a scale of f32. What is
computed in between is f32.
"""

from __future__ import annotations

import math

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import DType
from pto_wsp.ops.arithmetic import add, div, mul, sub
from pto_wsp.ops.conversion import cast
from pto_wsp.ops.functions import rint
from pto_wsp.ops.memory import check_dtype, need_value
from pto_wsp.ops.rules import FLOATS, INTEGERS, need_dtype
from pto_wsp.ops.value import Operand, Value, composed, is_number, is_scalar

QUANTIZED = (DType.I8, DType.U8, DType.F8E4M3, DType.F8E5M2)
DEQUANTIZED = (*QUANTIZED, DType.I16, DType.U16, DType.I32)


@composed
def quantize(x: Value, scale: Operand, dtype: DType = DType.I8, zero_point: Operand | None = None) -> Value:
    """x / scale, rounded to the nearest (the even one of two), plus zero_point, in dtype I8, U8, F8E4M3 or F8E5M2. What is too large
    becomes the largest, or smallest, number of it; NaN the integer 0. f8 has no zero point: one is refused. TQUANT multiplies by the inverse scale.

    [m, n], f32 [m, 1] -> i8 [m, n]; floats; TROWEXPANDDIV, TADDS, TCVT (TQUANT); one rounding of f32, then one
    """
    value = need_value("quantize", x)
    need_dtype("quantize", value.dtype, FLOATS, here())
    need_dtype("quantize: the result", check_dtype("quantize", dtype), QUANTIZED, here())
    q = div(cast(value, DType.F32), _scale("quantize", value, scale))
    if zero_point is not None:
        q = add(rint(q), _zero("quantize", value, zero_point, dtype))
    return cast(q, dtype, "rint", True)


@composed
def dequantize(q: Value, scale: Operand, zero_point: Operand | None = None, dtype: DType = DType.F32) -> Value:
    """(q - zero_point) * scale, in dtype F32, F16 or BF16. f8 has no zero point: one is refused.

    [m, n], f32 [m, 1] -> f32 [m, n]; i8 u8 f8e4m3 f8e5m2 i16 u16 i32; TCVT, TSUBS, TROWEXPANDMUL (TDEQUANT); one rounding of f32
    (of i32 three), then one
    """
    value = need_value("dequantize", q)
    need_dtype("dequantize", value.dtype, DEQUANTIZED, here())
    need_dtype("dequantize: the result", check_dtype("dequantize", dtype), FLOATS, here())
    y = cast(value, DType.F32)
    if zero_point is not None:
        y = sub(y, _zero("dequantize", value, zero_point, value.dtype))
    return cast(mul(y, _scale("dequantize", value, scale)), dtype)


def _scale(what: str, x: Value, scale: Operand) -> Operand:
    if is_number(scale):
        number = float(scale)  # type: ignore[arg-type]
        if isinstance(scale, bool) or not math.isfinite(number) or number == 0:
            raise _wrong(what, "scale", scale, "give a number that is not 0, a scalar, or a tile of f32")
        return number
    return _vector(what, "scale", x, scale, (DType.F32,))


def _zero(what: str, x: Value, zero: Operand, of: DType) -> Operand:
    if not of.is_integer:
        raise _wrong(what, "zero_point", zero, f"leave it out: {of} has numbers of both signs around 0")
    if is_number(zero):
        if isinstance(zero, (bool, float)):
            raise _wrong(what, "zero_point", zero, "give a Python integer, a scalar, or a tile of integers")
        return float(zero)  # type: ignore[arg-type]
    return cast(_vector(what, "zero_point", x, zero, INTEGERS), DType.F32)


def _vector(what: str, name: str, x: Value, v: Operand, dtypes: tuple[DType, ...]) -> Value:
    """A scalar, or a tile of one row or column for those of x."""
    if is_scalar(v):
        assert isinstance(v, Value)
        return v
    value = need_value(f"{what}: {name}", v)
    need_dtype(f"{what}: {name}", value.dtype, dtypes, here())
    m, n = x.shape
    if value.shape not in ((m, 1), (1, n), (1, 1)):
        raise TypeCheckError(
            "PTO108",
            f"{what}: {name} is neither one for each row nor one for each column",
            values={"x": x.type, name: value.type},
            loc=here(),
            fix=f"give a tile of {m}x1, 1x{n} or 1x1",
        )
    return value


def _wrong(what: str, name: str, x: object, fix: str) -> TypeCheckError:
    return TypeCheckError("PTO106", f"{what}: not such a {name}", values={name: repr(x)[:80]}, loc=here(), fix=fix)
