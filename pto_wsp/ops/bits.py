"""Bits of integers.

A shift by less than 0, or by as many bits as there are or more, leaves 0, and of a negative number shifted right -1.
"""

from __future__ import annotations

import numpy as np

from pto_wsp.ir.core import DType
from pto_wsp.ops.elementwise import elementwise
from pto_wsp.ops.rules import INTEGERS
from pto_wsp.ops.value import Operand, Value, bind


def _left(a: np.ndarray, n: np.ndarray) -> np.ndarray:
    inside = (n >= 0) & (n < 64)
    by = np.where(inside, n, 0).astype(np.uint64)
    return np.where(inside, np.left_shift(a.astype(np.uint64), by), 0).astype(a.dtype)


def _right(a: np.ndarray, n: np.ndarray) -> np.ndarray:
    inside = (n >= 0) & (n < 64)
    by = np.where(inside, n, 0).astype(a.dtype)
    beyond = np.where(a < 0, -1, 0).astype(a.dtype) if a.dtype.kind == "i" else np.zeros_like(a)
    return np.where(inside, np.right_shift(a, by), beyond)


bit_not_p = elementwise("bit_not", 73, INTEGERS, np.invert)
bit_and_p = elementwise("bit_and", 80, INTEGERS, np.bitwise_and)
bit_or_p = elementwise("bit_or", 81, INTEGERS, np.bitwise_or)
bit_xor_p = elementwise("bit_xor", 82, INTEGERS, np.bitwise_xor)
shl_p = elementwise("shl", 83, INTEGERS, _left)
shr_p = elementwise("shr", 84, INTEGERS, _right)
logical_xor_p = elementwise("logical_xor", 77, (DType.BOOL,), np.logical_xor)


def bit_not(x: Operand) -> Value:
    """All bits of x turned. Also `~`.

    [m, n] -> [m, n]; integers; TNOT; exact
    """
    return bind("bit_not", x)


def bit_and(a: Operand, b: Operand) -> Value:
    """The bits that a and b both have. Also `&`.

    [m, n], [m, n] -> [m, n]; integers; TAND, TANDS; exact
    """
    return bind("bit_and", a, b)


def bit_or(a: Operand, b: Operand) -> Value:
    """The bits that a or b has. Also `|`.

    [m, n], [m, n] -> [m, n]; integers; TOR, TORS; exact
    """
    return bind("bit_or", a, b)


def bit_xor(a: Operand, b: Operand) -> Value:
    """The bits that one of a and b has. Also `^`.

    [m, n], [m, n] -> [m, n]; integers; TXOR, TXORS; exact
    """
    return bind("bit_xor", a, b)


def shl(a: Operand, n: Operand) -> Value:
    """a shifted left by n bits. Also `<<`.

    [m, n], [m, n] -> [m, n]; integers; TSHL, TSHLS; exact
    """
    return bind("shl", a, n)


def shr(a: Operand, n: Operand) -> Value:
    """a shifted right by n bits: with its sign, of unsigned integers with zeros. Also `>>`.

    [m, n], [m, n] -> [m, n]; integers; TSHR, TSHRS; exact
    """
    return bind("shr", a, n)


def logical_xor(a: Operand, b: Operand) -> Value:
    """Whether one of a and b holds. Also `^`.

    [m, n], [m, n] -> [m, n]; bool; TXOR, TXORS; exact
    """
    return bind("logical_xor", a, b)
