"""The bytes of a plan: integers as LEB128, signed ones zigzag, floats as 8 little-endian bytes, text with its length."""

from __future__ import annotations

import struct

from pto_wsp.errors import InternalError


class Stream:
    """Appends values; `bytes(stream.out)` is what the runtime's cursor reads back."""

    def __init__(self) -> None:
        self.out = bytearray()

    def u(self, *values: int) -> None:
        """Unsigned integers."""
        for value in values:
            if value < 0:
                raise InternalError(f"{value} in an unsigned place")
            while value > 0x7F:
                self.out.append(0x80 | (value & 0x7F))
                value >>= 7
            self.out.append(value)

    def s(self, value: int) -> None:
        """A signed integer of 64 bits."""
        if not -(2**63) <= value < 2**63:
            raise InternalError(f"{value} does not fit 64 bits")
        self.u((value << 1) ^ (value >> 63))

    def f64(self, value: float) -> None:
        self.out += struct.pack("<d", value)

    def text(self, value: str) -> None:
        data = value.encode()
        self.u(len(data))
        self.out += data
