"""Instructions that convert between dtypes: casts and quantisation."""

from __future__ import annotations

from pto_wsp import ops
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import DType
from pto_wsp.ops.value import Operand, Value
from pto_wsp.trace.ptoisa.instruction import RoundMode, SaturationMode, instruction, typed
from pto_wsp.trace.ptoisa.machine import Register

_WHOLE = {
    RoundMode.CAST_RINT: ops.rint,
    RoundMode.CAST_ROUND: ops.round,
    RoundMode.CAST_FLOOR: ops.floor,
    RoundMode.CAST_CEIL: ops.ceil,
    RoundMode.CAST_TRUNC: ops.trunc,
}


def _convert(
    dst: Register, x: Value, mode: RoundMode = RoundMode.CAST_NONE, saturate: SaturationMode | None = None
) -> Value:
    floats = x.dtype.is_float
    if x.dtype is dst.dtype and floats and mode is not RoundMode.CAST_NONE:
        if mode not in _WHOLE:
            raise TypeCheckError(
                "PTO106",
                f"TCVT of {x.dtype} to {dst.dtype} with {mode}",
                values={"there is": ", ".join(map(str, _WHOLE))},
                loc=here(),
                fix="in one dtype it rounds to whole numbers, in these ways",
            )
        return _WHOLE[mode](x)
    # integers are exact in integers, and rounded to the nearest in floats
    plain = not floats and (dst.dtype.is_integer or mode is RoundMode.CAST_RINT)
    return ops.cast(x, dst.dtype, None if plain else mode.value, None if saturate is None else saturate.value)


TCVT = instruction(
    "TCVT dst, src, round?, saturate?",
    _convert,
    "dst = src in dst's dtype, rounded and saturated as RoundMode and SaturationMode say; of floats in one dtype whole numbers; without "
    "a RoundMode to the nearest float, and to integers towards zero",
    shaped=True,
)


def _packed(dst: Register, x: Value) -> Value:
    for dtype in (x.dtype, dst.dtype):
        if not dtype.is_integer:
            raise TypeCheckError(
                "PTO104", f"TPACK does not exist for {dtype}", loc=here(), fix="TCVT converts numbers of other dtypes"
            )
    return ops.cast(x, dst.dtype)


TPACK = instruction(
    "TPACK dst, src", _packed, "dst = the low bits of integers, as many as dst's dtype has", shaped=True
)


def scaled(x: Value, scale: Operand, dtype: DType) -> Value:
    """x * scale in f32, then in `dtype`: integers are rounded to the nearest, and saturate."""
    y = ops.mul(typed(x, DType.F32), scale)
    return ops.cast(y, dtype, "rint", True) if dtype.is_integer else typed(y, dtype)


def _quantized(dst: Register, x: Value, scale: Value, offset: Value | None = None) -> Value:
    y = ops.mul(x, scale)
    return ops.cast(y if offset is None else ops.add(y, offset), dst.dtype, "rint", True)


def _dequantized(dst: Register, x: Value, scale: Value, offset: Value | None = None) -> Value:
    y = typed(x, DType.F32)
    return typed(ops.mul(y if offset is None else ops.sub(y, offset), scale), dst.dtype)


TQUANT = instruction(
    "TQUANT dst, src, scale, offset?",
    _quantized,
    "dst = src * scale + offset in dst's dtype, to the nearest, saturated; scale and offset [m, 1]",
    shaped=True,
)
TDEQUANT = instruction(
    "TDEQUANT dst, src, scale, offset?",
    _dequantized,
    "dst = (src - offset) * scale; scale and offset [m, 1]",
    shaped=True,
)


def _dequantized_relu(dst: Register, a: Value, b: Value, s: Operand) -> Value:
    return ops.relu(typed(ops.mul(typed(ops.add(a, b), DType.F32), s), dst.dtype))


TADDDEQRELU = instruction(
    "TADDDEQRELU dst, src0, src1, s, tmp?",
    _dequantized_relu,
    "dst = relu((src0 + src1) * s) of integers, in dst's dtype",
    shaped=True,
)
