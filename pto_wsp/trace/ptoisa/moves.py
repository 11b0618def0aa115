"""Instructions that move, cut, join, fill and pick elements of tile registers."""

from __future__ import annotations

import math

from pto_wsp import ops
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import DType
from pto_wsp.ir.scalars import RANGES
from pto_wsp.ops.value import Operand, Value
from pto_wsp.trace.ptoisa.conversion import scaled
from pto_wsp.trace.ptoisa.instruction import MaskPattern, instruction, typed
from pto_wsp.trace.ptoisa.machine import ALIGN, PadValue, Register, TileType

_ANY = tuple(TileType)
_MOVED = {"dst": _ANY, "inout": _ANY, "src": _ANY}


def _moved(dst: Register, x: Value, scale: Operand | None = None) -> Value:
    return typed(x, dst.dtype) if scale is None else scaled(x, scale, dst.dtype)


TMOV = instruction(
    "TMOV dst, src | dst, src, scale | dst, src, s",
    _moved,
    "dst = src; from an accumulator in dst's dtype; with a scale src * scale in f32, saturated in integers",
    places=_MOVED | {"scale": (TileType.Scaling,)},
    shaped=True,
)


def _extract(dst: Register, x: Value, row: int, col: int) -> Value:
    m, n = dst.held
    return ops.slice(x, (row, row + m), (col, col + n))


def _insert(whole: Value, part: Value, row: int, col: int) -> Value:
    (m, n), (rows, cols) = whole.shape, part.shape
    if not (0 <= row <= m - rows and 0 <= col <= n - cols):
        raise TypeCheckError(
            "PTO106",
            "TINSERT leaves the tile",
            values={"dst": whole.type, "src": part.type, "row": row, "col": col},
            loc=here(),
            fix="insert where all of src has room",
        )
    band = part
    if col > 0:
        band = ops.concat(ops.slice(whole, (row, row + rows), (0, col)), band, axis=1)
    if col + cols < n:
        band = ops.concat(band, ops.slice(whole, (row, row + rows), (col + cols, n)), axis=1)
    if row > 0:
        band = ops.concat(ops.slice(whole, (0, row), None), band, axis=0)
    if row + rows < m:
        band = ops.concat(band, ops.slice(whole, (row + rows, m), None), axis=0)
    return band


TEXTRACT = instruction(
    "TEXTRACT dst, src, row, col", _extract, "dst = the part of src from (row, col)", places=_MOVED, shaped=True
)
TSUBVIEW = instruction(
    "TSUBVIEW dst, src, row, col", _extract, "dst = the part of src from (row, col), as it is now", shaped=True
)
TINSERT = instruction("TINSERT inout, src, row, col", _insert, "dst from (row, col) = src", places=_MOVED)


def _reshape(dst: Register, x: Value) -> Value:
    return ops.reshape(x, dst.held)


TRESHAPE = instruction("TRESHAPE dst, src", _reshape, "dst = the elements of src, row by row", shaped=True)
TTRANS = instruction("TTRANS dst, src, tmp?", ops.transpose, "dst = src with rows and columns exchanged")
TCONCAT = instruction("TCONCAT dst, src0, src1", ops.concat, "dst = src0 and src1 side by side")


def _filled(dst: Register, x: Value) -> Value:
    dtype = dst.dtype
    if dst.pad is PadValue.Null or (dtype is DType.BOOL and dst.pad is not PadValue.Zero):
        raise TypeCheckError(
            "PTO190",
            "the tile register dst has nothing to be filled with",
            values={"dst": dst, "pad": dst.pad},
            loc=here(),
            fix="say it where the register is made: ptoisa.tile(rows, cols, dtype, pad=ptoisa.PadValue.Zero)",
        )
    least, most = (-math.inf, math.inf) if dtype.is_float else RANGES.get(dtype, (0, 0))
    number = {PadValue.Min: least, PadValue.Max: most}.get(dst.pad, 0)
    return ops.fill_pad(x, False if dtype is DType.BOOL else number, dst.held)


TFILLPAD = instruction(
    "TFILLPAD dst, src", _filled, "dst = src, and beyond its valid part dst's pad value", shaped=True
)
TFILLPAD_INPLACE = instruction("TFILLPAD_INPLACE dst, src", _filled, "as TFILLPAD, of one memory", shaped=True)
TFILLPAD_EXPAND = instruction("TFILLPAD_EXPAND dst, src", _filled, "as TFILLPAD, in a larger dst", shaped=True)
TPARTADD = instruction("TPARTADD dst, src0, src1", ops.part_add, "dst = src0 + src1, or the one that is valid")
TPARTMUL = instruction("TPARTMUL dst, src0, src1", ops.part_mul, "dst = src0 * src1, or the one that is valid")
TPARTMAX = instruction(
    "TPARTMAX dst, src0, src1", ops.part_max, "dst = the larger of src0 and src1, or the one that is valid"
)
TPARTMIN = instruction(
    "TPARTMIN dst, src0, src1", ops.part_min, "dst = the smaller of src0 and src1, or the one that is valid"
)


def _interleave(a: Value, b: Value) -> tuple[Value, Value]:
    both, n = ops.interleave(a, b), a.shape[1]
    return ops.slice(both, None, (0, n)), ops.slice(both, None, (n, 2 * n))


def _deinterleave(a: Value, b: Value) -> tuple[Value, Value]:
    both = ops.concat(a, b)
    return ops.slice_even(both), ops.slice_odd(both)


TINTERLEAVE = instruction(
    "TINTERLEAVE dst0, dst1, src0, src1", _interleave, "dst0 and dst1 = the two halves of src0 and src1 in turn"
)
TDEINTERLEAVE = instruction(
    "TDEINTERLEAVE dst0, dst1, src0, src1",
    _deinterleave,
    "dst0 = columns 0, 2, ... of src0 and src1 side by side, dst1 = columns 1, 3, ...",
)


def _iota(dst: Register, start: Operand, descending: bool = False) -> Value:
    counted = ops.iota(dst.held)
    values = ops.sub(start, counted) if descending else ops.add(counted, start)
    return typed(values, dst.dtype)


TCI = instruction(
    "TCI dst, s, descending?", _iota, "dst = s, s + 1, ... along the columns, or s, s - 1, ...", shaped=True
)


def _triangle(dst: Register, diag: int, upper: bool = False) -> Value:
    return ops.tri(dst.held, diag, upper, dst.dtype)


def _random(dst: Register, key: Operand, counter: Operand) -> Value:
    return typed(ops.random_bits(dst.held, key, counter), dst.dtype)


TRANDOM = instruction(
    "TRANDOM dst, s_key, s_counter",
    _random,
    "dst = random bits of a key of 64 bits and a counter of 128, by Philox4x32-10",
    shaped=True,
)
TTRI = instruction(
    "TTRI dst, diag, upper?",
    _triangle,
    "dst = 1 up to diagonal `diag` of each row, or with upper from there on, else 0",
    shaped=True,
)


def _gather(x: Value, index: Value) -> Value:
    return ops.take(x, typed(index, DType.I32))


def _masked(x: Value, pattern: MaskPattern) -> Value:
    first, step = pattern.value
    if step == 1:
        return x
    half = ops.slice_odd(x) if first % 2 else ops.slice_even(x)
    if step == 2:
        return half
    return ops.slice_odd(half) if first // 2 else ops.slice_even(half)


def _gather_or_mask(x: Value, which: Value | MaskPattern) -> Value:
    return _masked(x, which) if isinstance(which, MaskPattern) else _gather(x, which)


TGATHER = instruction(
    "TGATHER dst, src, index, tmp? | dst, src, pattern",
    _gather_or_mask,
    "dst = the elements of src, counted row by row, that index names; or the columns that a mask pattern takes",
)


def _gather_blocks(dst: Register, x: Value, offset: Value) -> Value:
    (m, n), size = dst.held, x.dtype.itemsize
    block = ALIGN // size
    first = ops.floordiv(typed(offset, DType.I32), size)
    each = ops.broadcast(ops.reshape(first, (first.shape[0] * first.shape[1], 1)), (m * n // block, block))
    return ops.take(x, ops.reshape(ops.add(each, ops.iota((1, block))), (m, n)))


TGATHERB = instruction(
    "TGATHERB dst, src, offset",
    _gather_blocks,
    "dst = blocks of 32 bytes of src, counted row by row, from the byte offsets on",
    shaped=True,
)


def _scatter(old: Value, x: Value, index: Value) -> Value:
    return ops.scatter(old, typed(index, DType.I32), x, axis=0)


TSCATTER = instruction("TSCATTER inout, src, index", _scatter, "dst[index[r, c], c] = src[r, c]; the rest stays")
