"""The machine that instructions of one kernel are recorded on: tile registers, what they hold, flags between pipes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pto_wsp.errors import InternalError, TraceError, TypeCheckError, here, no_attribute, without_operators
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.ir.core import Choice, DType
from pto_wsp.ops.running import RunningKernel
from pto_wsp.ops.value import Value

ALIGN = 32
"""What addresses of tiles are multiples of, in bytes."""


class TileType(Choice):
    """Where a tile register lies: Vec in the unified buffer, Mat in L1, Left, Right and Acc at the matrix unit (L0A, L0B, L0C), Bias
    and Scaling in the small buffers beside it."""

    Vec = "UB"
    Mat = "L1"
    Left = "L0A"
    Right = "L0B"
    Acc = "L0C"
    Bias = "BT"
    Scaling = "FB"


class PadValue(Choice):
    """What TFILLPAD writes beyond the valid part of a register: 0, or the largest or smallest number of its dtype; of floats they are
    infinite."""

    Null = None
    Zero = "zero"
    Max = "max"
    Min = "min"


@dataclass(eq=False)
class Cell:
    """What a register holds: a value, or nothing, and why."""

    value: Value | None = None
    empty: str = "nothing was written to it"

    def clear(self, why: str) -> None:
        """It holds nothing any more."""
        self.value, self.empty = None, why


@without_operators(
    "add radd sub rsub mul rmul truediv rtruediv matmul rmatmul neg abs invert and or xor mod floordiv pow lt le gt ge "
    "getitem setitem iter len bool float int index",
    "a tile register",
    "write the instruction: ptoisa.TADD(dst, a, b); registers have shape, valid, dtype and loc",
)
class Register:
    """A mutable tile register of a kernel. `ptoisa.tile(rows, cols, dtype)` makes one; instructions read and write it.

    shape: (rows, cols) of its storage; valid: the part that instructions work on, None where the data say how much.
    """

    def __init__(
        self,
        machine: Machine,
        shape: tuple[int, int],
        valid: tuple[int | None, int | None],
        dtype: DType,
        loc: TileType,
        pad: PadValue,
    ) -> None:
        self.machine = machine
        self.shape = shape
        self.valid = valid
        self.dtype = dtype
        self.loc = loc
        self.pad = pad
        self.cell = Cell()
        machine.cells.append(self.cell)
        self.address: int | None = None

    @property
    def held(self) -> tuple[int, int]:
        """Static shape of the values it holds."""
        (m, n), (vm, vn) = self.shape, self.valid
        return m if vm is None else vm, n if vn is None else vn

    @property
    def bytes(self) -> range:
        """The bytes of its memory that it takes, where TASSIGN has placed it."""
        if self.address is None:
            return range(0)
        return range(self.address, self.address + self.shape[0] * self.shape[1] * self.dtype.itemsize)

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("a tile register", name, "shape, valid, dtype, loc; instructions are functions of ptoisa")

    def __repr__(self) -> str:
        m, n = self.shape
        part = "" if self.held == self.shape else f" of {self.held[0]} x {self.held[1]}"
        return f"{self.loc} {self.dtype}<{m}x{n}{part}>"

    def read(self, what: str, operand: str) -> Value:
        """The value it holds. Raises TraceError where it holds none."""
        if self.cell.value is None:
            raise TraceError(
                "PTO191",
                f"{what}: the tile register {operand} is read before it is written",
                values={operand: self, "it holds nothing": self.cell.empty},
                loc=here(),
                fix="load or compute it first: ptoisa.TLOAD(tile, x), ptoisa.TEXPANDS(tile, 0.0)",
            )
        for seen in self.machine.watchers:
            seen.read |= {self.cell} - seen.written
        return self.cell.value

    def write(self, what: str, operand: str, value: Value) -> None:
        """Let it hold `value`. Raises TypeCheckError for another dtype or shape."""
        if value.dtype is not self.dtype or value.shape != self.held:
            raise TypeCheckError(
                "PTO193",
                f"{what} gives what the tile register {operand} does not hold",
                values={operand: self, "result": value.type},
                loc=here(),
                fix=f"make it ptoisa.tile({value.shape[0]}, {value.shape[1]}, DType.{value.dtype.name})",
            )
        self.cell.value = value
        self.machine.overwrite(self, f"{what} wrote over its bytes")

    def clear(self, why: str) -> None:
        """It holds nothing any more."""
        self.cell.clear(why)
        self.machine.overwrite(self, why)


@dataclass(eq=False)
class Seen:
    """What a part of a kernel did to registers: read before it wrote to them, and written."""

    read: set[Cell] = field(default_factory=set[Cell])
    written: set[Cell] = field(default_factory=set[Cell])


State = tuple[list[Cell], list[tuple[Value | None, str]], list["Register"], Counter[tuple[object, ...]]]
Carried = dict[tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...]]]


@dataclass(eq=False)
class Machine:
    """What one trace of a kernel keeps.

    cells    what registers hold, in the order of their making
    placed   the registers that TASSIGN has placed
    flags    how often each was set and not waited for
    carried  of each loop or branch, which of the cells there are before it it gives on, and which it leaves empty
    """

    builder: KernelBuilder
    carried: Carried
    cells: list[Cell] = field(default_factory=list[Cell])
    placed: list[Register] = field(default_factory=list[Register])
    flags: Counter[tuple[object, ...]] = field(default_factory=Counter[tuple[object, ...]])
    watchers: list[Seen] = field(default_factory=list[Seen])

    @contextmanager
    def watching(self) -> Generator[Seen]:
        """See what is done to registers."""
        self.watchers.append(Seen())
        try:
            yield self.watchers[-1]
        finally:
            self.watchers.pop()

    @contextmanager
    def inner(self) -> Generator[None]:
        """A body, whose own registers end with it."""
        cells, placed = len(self.cells), len(self.placed)
        yield
        del self.cells[cells:], self.placed[placed:]

    def state(self) -> State:
        """What `back` brings back."""
        return list(self.cells), [(c.value, c.empty) for c in self.cells], list(self.placed), self.flags.copy()

    def back(self, state: State) -> None:
        """Let registers and flags be as they were."""
        cells, held, placed, flags = state
        self.cells[:], self.placed[:], self.flags = cells, placed, flags.copy()
        for cell, (value, empty) in zip(cells, held, strict=True):
            cell.value, cell.empty = value, empty

    def place(self, register: Register, address: int) -> None:
        """TASSIGN: registers of one type and size at one address are one register."""
        register.address = address
        for other in self.placed:
            if (other.loc, other.address, other.dtype, other.held) == (
                *(register.loc, address),
                *(register.dtype, register.held),
            ):
                register.cell = other.cell
        self.placed.append(register)

    def overwrite(self, register: Register, why: str) -> None:
        """Registers that share bytes with `register`, which was written, hold nothing any more."""
        a, lost = register.bytes, {register.cell}
        for other in self.placed if a else ():
            b = other.bytes
            if other.cell is not register.cell and other.loc is register.loc and a.start < b.stop and b.start < a.stop:
                other.cell.clear(why)
                lost.add(other.cell)
        for seen in self.watchers:
            seen.written |= lost


class _Current(threading.local):
    machine: Machine | None = None
    carried: Carried | None = None


_current = _Current()


def current_machine(what: str) -> Machine:
    """The machine of the kernel under trace in this thread; `what` is the instruction that needs it."""
    if _current.machine is None:
        raise TraceError(
            "PTO126",
            f"{what} outside of a kernel of instructions",
            loc=here(),
            fix="call it in a function decorated with @ptoisa_kernel that a workload calls",
        )
    return _current.machine


class recording:  # noqa: N801 - used as a context manager
    """`with recording(builder):` records this thread's instructions. A run with numbers goes by the trace before it."""

    def __init__(self, builder: KernelBuilder) -> None:
        if _current.carried is None or not isinstance(builder, RunningKernel):
            _current.carried = {}
        self._machine = Machine(builder, _current.carried)

    def __enter__(self) -> Machine:
        if _current.machine is not None:
            raise InternalError("a kernel of instructions inside of another")
        _current.machine = self._machine
        return self._machine

    def __exit__(self, *exc: object) -> None:
        _current.machine = None


def tile(
    rows: int,
    cols: int,
    dtype: DType = DType.F32,
    *,
    valid: tuple[int | None, int | None] | None = None,
    loc: TileType = TileType.Vec,
    pad: PadValue = PadValue.Null,
) -> Register:
    """A tile register of rows x cols elements.

    valid: (rows, cols) that instructions work on, by default all; None for what only the data say, as the tail of a loop.
    pad: what TFILLPAD fills the rest with.
    Raises TypeCheckError for sizes, dtypes or places that there are not.
    """
    machine = current_machine("tile")
    whole = valid if valid is not None else (rows, cols)
    sizes_ok = (
        all(_is_size(n) for n in (rows, cols))
        and isinstance(dtype, DType)
        and isinstance(loc, TileType)
        and isinstance(pad, PadValue)
    )  # pyright: ignore[reportUnnecessaryIsInstance]
    valid_ok = (
        isinstance(whole, tuple)  # pyright: ignore[reportUnnecessaryIsInstance]
        and len(whole) == 2
        and all(v is None or (_is_size(v) and v <= n) for v, n in zip(whole, (rows, cols), strict=True))
        if sizes_ok
        else False
    )
    if not valid_ok:
        raise TypeCheckError(
            "PTO192",
            "a tile register that was declared wrongly",
            values={"rows": rows, "cols": cols, "dtype": dtype, "valid": valid, "loc": loc, "pad": pad},
            loc=here(),
            fix="write ptoisa.tile(16, 128, DType.F32); valid=(rows, cols) is no larger, loc= is one of ptoisa.TileType, pad= of PadValue",
        )
    return Register(machine, (int(rows), int(cols)), whole, dtype, loc, pad)


def TileLeft(rows: int, cols: int, dtype: DType = DType.F16) -> Register:  # noqa: N802 - the name of PTO-ISA
    """A left operand of the matrix unit: a tile register in L0A."""
    return tile(rows, cols, dtype, loc=TileType.Left)


def TileRight(rows: int, cols: int, dtype: DType = DType.F16) -> Register:  # noqa: N802
    """A right operand of the matrix unit: a tile register in L0B."""
    return tile(rows, cols, dtype, loc=TileType.Right)


def TileAcc(rows: int, cols: int, dtype: DType = DType.F32) -> Register:  # noqa: N802
    """An accumulator of the matrix unit: a tile register in L0C."""
    return tile(rows, cols, dtype, loc=TileType.Acc)


def _is_size(n: object) -> bool:
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool) and bool(n >= 1)
