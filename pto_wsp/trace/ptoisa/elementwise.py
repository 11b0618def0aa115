"""Instructions that work on each element: tiles with tiles, tiles with scalars, bits, comparisons, selections."""

from __future__ import annotations

from collections.abc import Callable

from pto_wsp import ops
from pto_wsp.ir.core import DType
from pto_wsp.ops.value import Operand, Value
from pto_wsp.trace.ptoisa.instruction import CmpMode, instruction, typed
from pto_wsp.trace.ptoisa.machine import Register

TADD = instruction("TADD dst, src0, src1", ops.add, "dst = src0 + src1")
TSUB = instruction("TSUB dst, src0, src1", ops.sub, "dst = src0 - src1")
TMUL = instruction("TMUL dst, src0, src1", ops.mul, "dst = src0 * src1")
TDIV = instruction("TDIV dst, src0, src1", ops.div, "dst = src0 / src1")
TMAX = instruction("TMAX dst, src0, src1", ops.maximum, "dst = the larger of src0 and src1")
TMIN = instruction("TMIN dst, src0, src1", ops.minimum, "dst = the smaller of src0 and src1")
TADDS = instruction("TADDS dst, src, s", ops.add, "dst = src + s")
TSUBS = instruction("TSUBS dst, src, s", ops.sub, "dst = src - s")
TMULS = instruction("TMULS dst, src, s", ops.mul, "dst = src * s")
TMAXS = instruction("TMAXS dst, src, s", ops.maximum, "dst = the larger of src and s")
TMINS = instruction("TMINS dst, src, s", ops.minimum, "dst = the smaller of src and s")
TDIVS = instruction(
    "TDIVS dst, src, s | dst, s, src", ops.div, "dst = src / s, or s / src: in the order of the operands"
)
TREM = instruction("TREM dst, src0, src1, tmp?", ops.rem, "dst = src0 - floor(src0 / src1) * src1")
TFMOD = instruction("TFMOD dst, src0, src1", ops.fmod, "dst = src0 - trunc(src0 / src1) * src1")
TREMS = instruction("TREMS dst, src, s, tmp?", ops.rem, "dst = src - floor(src / s) * s")
TFMODS = instruction("TFMODS dst, src, s", ops.fmod, "dst = src - trunc(src / s) * s")


def _of_bits(bits: Callable[..., Value], bools: Callable[..., Value]) -> Callable[..., Value]:
    """An operation of bits, also of masks."""

    def lower(a: Value, *rest: Operand) -> Value:
        return (bools if a.dtype is DType.BOOL else bits)(a, *rest)

    return lower


_and, _or, _xor = (
    _of_bits(bits, bools)
    for bits, bools in (
        (ops.bit_and, ops.logical_and),
        (ops.bit_or, ops.logical_or),
        (ops.bit_xor, ops.logical_xor),
    )
)
TAND = instruction(
    "TAND dst, src0, src1", _and, "dst = the bits that src0 and src1 both have; of masks where both hold"
)
TOR = instruction("TOR dst, src0, src1", _or, "dst = the bits that src0 or src1 has; of masks where one holds")
TXOR = instruction(
    "TXOR dst, src0, src1, tmp?", _xor, "dst = the bits that one of src0 and src1 has; of masks where one alone holds"
)
TNOT = instruction("TNOT dst, src", _of_bits(ops.bit_not, ops.logical_not), "dst = all bits of src turned")
TANDS = instruction("TANDS dst, src, s", _and, "dst = the bits that src and s both have")
TORS = instruction("TORS dst, src, s", _or, "dst = the bits that src or s has")
TXORS = instruction("TXORS dst, src, s, tmp?", _xor, "dst = the bits that one of src and s has")
TSHL = instruction("TSHL dst, src0, src1", ops.shl, "dst = src0 shifted left by src1 bits")
TSHR = instruction("TSHR dst, src0, src1", ops.shr, "dst = src0 shifted right by src1 bits, with its sign")
TSHLS = instruction("TSHLS dst, src, s", ops.shl, "dst = src shifted left by s bits")
TSHRS = instruction("TSHRS dst, src, s", ops.shr, "dst = src shifted right by s bits, with its sign")
TEXP = instruction("TEXP dst, src", ops.exp, "dst = e to the power of src")
TLOG = instruction("TLOG dst, src", ops.log, "dst = natural logarithm of src")
TSQRT = instruction("TSQRT dst, src", ops.sqrt, "dst = square root of src")
TRSQRT = instruction("TRSQRT dst, src", ops.rsqrt, "dst = 1 / square root of src")
TPOW = instruction("TPOW dst, src0, src1, tmp?", ops.pow, "dst = src0 to the power src1")
TPOWS = instruction("TPOWS dst, src, s, tmp?", ops.pow, "dst = src to the power s")
TRECIP = instruction("TRECIP dst, src", ops.reciprocal, "dst = 1 / src")
TABS = instruction("TABS dst, src", ops.abs, "dst = absolute value of src")
TNEG = instruction("TNEG dst, src", ops.neg, "dst = -src")
TRELU = instruction("TRELU dst, src", ops.relu, "dst = src, or 0 where it is negative")


def _sum_of_three(a: Operand, b: Operand, c: Operand) -> Value:
    return ops.add(ops.add(a, b), c)


def _difference_of_three(a: Operand, b: Operand, c: Operand) -> Value:
    return ops.add(ops.sub(a, b), c)


TADDC = instruction("TADDC dst, src0, src1, src2", _sum_of_three, "dst = src0 + src1 + src2")
TSUBC = instruction("TSUBC dst, src0, src1, src2", _difference_of_three, "dst = src0 - src1 + src2")
TADDSC = instruction("TADDSC dst, src0, s, src1", _sum_of_three, "dst = src0 + s + src1")
TSUBSC = instruction("TSUBSC dst, src0, s, src1", _difference_of_three, "dst = src0 - s + src1")


def _scaled(acc: Value, a: Value, s: Operand) -> Value:
    return ops.add(ops.mul(a, s), acc)


def _subrelu(a: Value, b: Value) -> Value:
    return ops.relu(ops.sub(a, b))


def _fused_on_destination(acc: Value, a: Value, b: Value) -> Value:
    return ops.fma(acc, a, b)


def _fused_on_destination_relu(acc: Value, a: Value, b: Value) -> Value:
    return ops.relu(ops.fma(acc, a, b))


def _multiplied_onto_destination(acc: Value, a: Value, b: Value) -> Value:
    return ops.fma(a, b, acc)


TAXPY = instruction("TAXPY inout, src, s", _scaled, "dst = src * s + dst")
TFUSEDMULADD = instruction("TFUSEDMULADD inout, src0, src1", _fused_on_destination, "dst = dst * src0 + src1")
TFUSEDMULADDRELU = instruction(
    "TFUSEDMULADDRELU inout, src0, src1", _fused_on_destination_relu, "dst = relu(dst * src0 + src1)"
)
TMULADDDST = instruction("TMULADDDST inout, src0, src1", _multiplied_onto_destination, "dst = src0 * src1 + dst")


def _addrelu_converted(dst: Register, a: Value, b: Value) -> Value:
    return typed(ops.relu(ops.add(a, b)), dst.dtype)


def _subrelu_converted(dst: Register, a: Value, b: Value) -> Value:
    return typed(_subrelu(a, b), dst.dtype)


TLRELU = instruction("TLRELU dst, src, s", ops.lrelu, "dst = src, or src * s where it is not positive")
TPRELU = instruction("TPRELU dst, src, slope, tmp?", ops.prelu, "dst = src, or src * slope where it is not positive")
TADDRELUCONV = instruction(
    "TADDRELUCONV dst, src0, src1", _addrelu_converted, "dst = relu(src0 + src1) in dst's dtype", shaped=True
)
TSUBRELUCONV = instruction(
    "TSUBRELUCONV dst, src0, src1", _subrelu_converted, "dst = relu(src0 - src1) in dst's dtype", shaped=True
)
TSUBRELU = instruction("TSUBRELU dst, src0, src1", _subrelu, "dst = relu(src0 - src1)")


def _compare(a: Value, b: Operand, mode: CmpMode = CmpMode.EQ) -> Value:
    match mode:
        case CmpMode.EQ:
            return ops.eq(a, b)
        case CmpMode.NE:
            return ops.ne(a, b)
        case CmpMode.LT:
            return ops.lt(a, b)
        case CmpMode.LE:
            return ops.le(a, b)
        case CmpMode.GT:
            return ops.gt(a, b)
        case _:
            return ops.ge(a, b)


TCMP = instruction(
    "TCMP dst, src0, src1, mode?", _compare, "dst = src0 mode src1, a tile of bool (packed bits on a device)"
)
TCMPS = instruction("TCMPS dst, src, s, mode?", _compare, "dst = src mode s, a tile of bool")
TSEL = instruction("TSEL dst, mask, src0, src1, tmp?", ops.where, "dst = src0 where mask, else src1")


def _select_scalar(mask: Value, a: Value, s: Operand) -> Value:
    return ops.where(mask, a, s)


TSELS = instruction("TSELS dst, mask, src, s | dst, mask, src, tmp, s", _select_scalar, "dst = src where mask, else s")


def _expand_scalar(dst: Register, s: Operand) -> Value:
    return ops.full(dst.held, s, dst.dtype)


TEXPANDS = instruction("TEXPANDS dst, s", _expand_scalar, "dst = s everywhere", shaped=True)
