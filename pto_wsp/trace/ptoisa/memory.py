"""Instructions between memory and tile registers, and the matrix unit's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pto_wsp import ops
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import DType
from pto_wsp.ops.region import RegionRef
from pto_wsp.ops.value import Operand, Ref, Value
from pto_wsp.trace.ptoisa.conversion import scaled
from pto_wsp.trace.ptoisa.instruction import Event, Instruction, instruction, typed
from pto_wsp.trace.ptoisa.machine import ALIGN, Machine, Register, TileType, current_machine

_LOADED = (TileType.Vec, TileType.Mat)
_STORED = (TileType.Vec, TileType.Mat, TileType.Acc)


class GlobalTensor:
    """A part of a parameter of the kernel, of a tile register's size: `TLOAD(t, GlobalTensor(x, (row, col)))`.

    index: where it begins, a Python integer or scalar for each dimension of x. What lies past the end of x is not valid.
    """

    def __init__(self, x: Value, index: Sequence[Operand]) -> None:
        if not isinstance(x, (Ref, RegionRef)):
            raise TypeCheckError(
                "PTO190",
                "GlobalTensor of something that is not a parameter",
                values={"got": repr(x)[:80]},
                loc=here(),
                fix="give a parameter declared In, Out or InOut",
            )
        self.parameter = x
        self.index = index

    def __repr__(self) -> str:
        return f"<part of {self.parameter}>"


class _Transfer(Instruction):
    """A tile register and memory."""

    def _form(self, given: Sequence[Any]) -> tuple[str, ...]:
        names = self.forms[0]
        if len(given) != len(names):
            return super()._form(given)
        for name, x in zip(names, given, strict=True):
            memory = isinstance(x, (Ref, GlobalTensor))
            if memory is not (name == "global") or not (memory or isinstance(x, Register)):
                what = "a parameter of the kernel" if name == "global" else "a tile register"
                raise TypeCheckError(
                    "PTO190",
                    f"{self.__name__}: the operand {name} is {what}",
                    values={"got": repr(x)[:80], "it is": self.show()},
                    loc=here(),
                    fix="write TLOAD(tile, x), TSTORE(out, tile); of a region ptoisa.GlobalTensor(x, (row, col))",
                )
        return names

    def take(self, operands: Sequence[Any]) -> tuple[Machine, Ref | GlobalTensor, list[Register]]:
        """The kernel under trace, the memory, and the tile registers."""
        machine, given = self.begin(operands)
        memory: list[Ref | GlobalTensor] = []
        registers: list[Register] = []
        for name, x in zip(self._form(given), given, strict=True):
            if name == "global":
                memory.append(x)
                continue
            self._own(machine, x, name)
            self._placed(name, x)
            registers.append(x)
        return machine, memory[0], registers


class _Load(_Transfer):
    def __call__(self, *operands: Any) -> Event:
        machine, memory, (register,) = self.take(operands)
        if isinstance(memory, GlobalTensor):
            value = ops.load(memory.parameter, memory.index, register.held)
        else:
            value = ops.load(memory)
        register.write(self.__name__, "dst", value)
        return Event(machine, self.__name__)


class _Store(_Transfer):
    def __call__(self, *operands: Any) -> Event:
        machine, memory, (register, *scale) = self.take(operands)
        value = register.read(self.__name__, "src")
        target = memory.parameter if isinstance(memory, GlobalTensor) else memory
        if register.loc is TileType.Acc and not scale:
            value = typed(value, target.dtype)
        index = memory.index if isinstance(memory, GlobalTensor) else None
        self.lower(target, value, index, *(t.read(self.__name__, "scale") for t in scale))
        return Event(machine, self.__name__)


class _Gather(_Transfer):
    def __call__(self, *operands: Any) -> Event:
        machine, memory, (register, index) = self.take(operands)
        value = self.lower(self.whole(memory), index.read(self.__name__, "index"))
        register.write(self.__name__, "dst", value)
        return Event(machine, self.__name__)

    def whole(self, memory: Ref | GlobalTensor) -> Ref:
        """A tile parameter."""
        if isinstance(memory, GlobalTensor):
            raise TypeCheckError(
                "PTO190",
                f"{self.__name__} of a part of a parameter",
                values={"got": memory},
                loc=here(),
                fix="give a tile parameter, of which the indices count the elements row by row",
            )
        return memory


class _Scatter(_Gather):
    def __call__(self, *operands: Any) -> Event:
        machine, memory, (register, index) = self.take(operands)
        self.lower(self.whole(memory), register.read(self.__name__, "src"), index.read(self.__name__, "index"))
        return Event(machine, self.__name__)


class _Prefetch(_Transfer):
    def __call__(self, *operands: Any) -> Event:
        return Event(self.take(operands)[0], self.__name__)


TLOAD = _Load(
    "TLOAD",
    ("dst, global",),
    ops.load,
    "dst = the parameter, valid as it is",
    places={"dst": _LOADED},
)
TSTORE = _Store(
    "TSTORE",
    ("global, src",),
    ops.store,
    "the parameter = src; an accumulator is rounded to its dtype",
    places={"src": _STORED},
)


def _store_scaled(target: Value, x: Value, index: Sequence[Operand] | None, scale: Value) -> None:
    ops.store(target, scaled(x, scale, target.dtype), index)


TSTORE_FP = _Store(
    "TSTORE_FP",
    ("global, src, scale",),
    _store_scaled,
    "the parameter = src * scale [1, n] in its dtype, saturated in integers",
    places={"src": (TileType.Acc,), "scale": (TileType.Scaling,)},
)


def _taken(memory: Value, index: Value) -> Value:
    return ops.take(ops.load(memory), typed(index, DType.I32))


def _put(memory: Value, x: Value, index: Value) -> None:
    ops.store(memory, ops.put(ops.load(memory), typed(index, DType.I32), x))


MGATHER = _Gather(
    "MGATHER",
    ("dst, global, index",),
    _taken,
    "dst = the elements of the parameter, counted row by row, that index names",
)
MSCATTER = _Scatter(
    "MSCATTER", ("global, src, index",), _put, "the parameter's elements, counted row by row, that index names = src"
)


def _nothing() -> None:
    pass


TPREFETCH = _Prefetch(
    "TPREFETCH",
    ("dst, global",),
    _nothing,
    "a hint: nothing to do on one core in program order",
    places={"dst": _LOADED},
)


def TASSIGN(tile: Register, address: int) -> None:  # noqa: N802 - the name of PTO-ISA
    """Place a tile register at a byte address of its memory. Registers of one type and size at one address are one register; else
    writing one of those that share bytes empties the others. Before the register is first written. How much memory a device has is not
    asked here. Raises TypeCheckError for an address that is negative or no multiple of 32, and for a register in use."""
    machine = current_machine("TASSIGN")
    good = isinstance(tile, Register) and isinstance(address, int) and not isinstance(address, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not good or address < 0 or address % ALIGN:
        raise TypeCheckError(
            "PTO192",
            "TASSIGN places a tile register at a byte address",
            values={"tile": repr(tile)[:80], "address": repr(address)[:80]},
            loc=here(),
            fix=f"write ptoisa.TASSIGN(tile, 0x2000): a multiple of {ALIGN}; parameters have their memory already",
        )
    if tile.address is not None or tile.cell.value is not None:
        raise TypeCheckError(
            "PTO192",
            "TASSIGN of a tile register that is in use",
            values={"tile": tile, "its address": tile.address},
            loc=here(),
            fix="place a register once, before it is written; make another one for another address",
        )
    machine.place(tile, address)


_A, _B, _C = (TileType.Left,), (TileType.Right,), (TileType.Acc,)
_PRODUCT = {"dst": _C, "a": _A, "b": _B, "acc": _C, "bias": (TileType.Bias,)}


def _accumulated(acc: Value, a: Value, b: Value) -> Value:
    return ops.matmul(a, b, acc)


def _with_bias(a: Value, b: Value, bias: Value) -> Value:
    product = ops.matmul(a, b)
    return ops.add(product, ops.broadcast(bias, product.shape))


def _product(name: str, form: str, lower: Callable[..., Value], doc: str) -> Instruction:
    return instruction(f"{name} {form}", lower, doc, places=_PRODUCT)


TMATMUL = _product("TMATMUL", "dst, a, b", ops.matmul, "dst = a @ b")
TMATMUL_ACC = _product("TMATMUL_ACC", "dst, acc, a, b", _accumulated, "dst = acc + a @ b")
TMATMUL_BIAS = _product("TMATMUL_BIAS", "dst, a, b, bias", _with_bias, "dst = a @ b + bias [1, n]")
TGEMV = _product("TGEMV", "dst, a, b", ops.matmul, "dst [1, n] = a [1, k] @ b")
TGEMV_ACC = _product("TGEMV_ACC", "dst, acc, a, b", _accumulated, "dst [1, n] = acc + a [1, k] @ b")
TGEMV_BIAS = _product("TGEMV_BIAS", "dst, a, b, bias", _with_bias, "dst [1, n] = a [1, k] @ b + bias [1, n]")
