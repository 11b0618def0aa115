"""Random bits.

From a key and a counter, without a state: the same in every run, target and order of tasks. Give each task its own part of the
counter, or its own key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.build import KernelBuilder, current_kernel
from pto_wsp.ir.core import DType, In, Literal, Primitive, ScalarType, TileType, Type, Typed, Var
from pto_wsp.ops.arithmetic import add, mul
from pto_wsp.ops.bits import bit_and, bit_xor, shr
from pto_wsp.ops.comparison import lt
from pto_wsp.ops.conversion import cast
from pto_wsp.ops.layout import interleave, reshape, slice
from pto_wsp.ops.memory import check_shape, iota
from pto_wsp.ops.scalars import cast as cast_scalar
from pto_wsp.ops.value import Operand, Value, bind, is_scalar, to_in

random_bits_p = Primitive("random_bits")

_LOW = 2**32 - 1
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def random_bits(shape: Sequence[int], key: Operand, counter: Operand = 0) -> Value:
    """32 random bits for each element, by Philox4x32-10. key: an integer of 0 to 2^64 - 1, counter: of 0 to
    2^128 - 1, negative ones are refused; or scalars of the kernel, which wrap to u64. Element e, counted row by row, is word e % 4 of the block of counter + e // 4.

    Source: Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, 2011. TRANDOM of a device has other rounds.

    -> [m, n]; u32; TCI, TMUL, TSHRS, TANDS, TXOR (TRANDOM); exact
    """
    rows, cols = check_shape("random_bits", shape)
    builder = current_kernel("random_bits")
    _check(key, "key", 64)
    _check(counter, "counter", 128)
    low, high = (counter, 0) if isinstance(counter, Value) else (int(counter) & (2**64 - 1), int(counter) >> 64)
    ins = [_word(builder, x) for x in (key, low, high)]
    return Value(builder, builder.value("random_bits", ins, {"rows": rows, "cols": cols}, here()))


def _check(x: object, name: str, bits: int) -> None:
    number = isinstance(x, (int, np.integer)) and not isinstance(x, bool) and 0 <= int(x) < 2**bits
    if not number and not (is_scalar(x) and isinstance(x, Value) and x.dtype.is_integer):
        raise TypeCheckError(
            "PTO106",
            f"random_bits: not such a {name}",
            values={name: repr(x)[:80]},
            loc=here(),
            fix=f"give an integer of 0 to 2**{bits} - 1, or an integer scalar of the kernel",
        )


def _word(builder: KernelBuilder, x: Operand) -> In:
    if not isinstance(x, Value):
        return Literal(int(x), DType.U64)
    var = to_in(x, None, builder, "random_bits")
    assert isinstance(var, Var)
    return cast_scalar(builder, var, DType.U64)


@random_bits_p.def_type
def _(params: dict[str, Any], *words: Type) -> Typed:
    if words != (ScalarType(DType.U64),) * 3:
        raise TypeError("random_bits takes a key and two words of a counter")
    return Typed(TileType(DType.U32, params["rows"], params["cols"]))


@random_bits_p.def_expand
def _(key: Any, low: Any, high: Any, *, rows: int, cols: int) -> Value:
    # rows of whole blocks, or all elements in one row that is cut and folded
    blocks = (rows, cols // 4) if cols % 4 == 0 else (1, -(-rows * cols // 4))
    words = _philox(_counted(blocks), key, low, high)
    a, b, c, d = (cast(w, DType.U32) for w in words)
    out = interleave(interleave(a, c), interleave(b, d))
    if cols % 4 == 0:
        return out
    return reshape(slice(out, None, (0, rows * cols)), (rows, cols))


def _counted(shape: tuple[int, int]) -> Value:
    """0, 1, ... row by row, in u64."""
    across = cast(iota(shape), DType.U64)
    return add(across, mul(cast(iota(shape, axis=0), DType.U64), shape[1])) if shape[0] > 1 else across


def _philox(block: Value, key: Any, low: Any, high: Any) -> tuple[Value, Value, Value, Value]:
    """The four words of each block, in u64. key, low and high are integers or u64 scalars: the same operators on both."""
    counter = add(block, low)
    top = bind("where", lt(counter, low), (high + 1) & (2**64 - 1), high, dtype=DType.U64)  # the carry
    a, b, c, d = bit_and(counter, _LOW), shr(counter, 32), bit_and(top, _LOW), shr(top, 32)
    k0, k1 = key & _LOW, key >> 32
    for r in range(_ROUNDS):
        p, q = mul(a, _MULTIPLIERS[0]), mul(c, _MULTIPLIERS[1])
        s, t = ((k + r * step) & _LOW for k, step in zip((k0, k1), _KEY_STEPS, strict=True))
        a, b, c, d = (
            bit_xor(bit_xor(shr(q, 32), b), s),
            bit_and(q, _LOW),
            bit_xor(bit_xor(shr(p, 32), d), t),
            bit_and(p, _LOW),
        )
    return a, b, c, d
