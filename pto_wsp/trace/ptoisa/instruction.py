"""An instruction: its operands, and the operation of `pto` that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pto_wsp.errors import TraceError, TypeCheckError, here
from pto_wsp.ir.core import Choice, DType
from pto_wsp.ops.value import Value, is_number
from pto_wsp.trace.ptoisa.machine import Machine, Register, TileType, current_machine

INSTRUCTIONS: dict[str, Instruction] = {}
"""All of them by name."""


class CmpMode(Choice):
    """What TCMP and TCMPS compare."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


class RoundMode(Choice):
    """How TCVT rounds."""

    CAST_NONE = None
    CAST_RINT = "rint"
    CAST_ROUND = "round"
    CAST_FLOOR = "floor"
    CAST_CEIL = "ceil"
    CAST_TRUNC = "trunc"
    CAST_ODD = "odd"


class SaturationMode(Choice):
    """Whether TCVT clamps what the target type does not hold."""

    ON = True
    OFF = False


class MaskPattern(Choice):
    """Which columns TGATHER takes: of each four the ones, from the right."""

    P0101 = (0, 2)
    P1010 = (1, 2)
    P0001 = (0, 4)
    P0010 = (1, 4)
    P0100 = (2, 4)
    P1000 = (3, 4)
    P1111 = (0, 1)


class Event:
    """What an instruction gives: later instructions take it as a further operand, or TSYNC, to wait for it."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name

    def __repr__(self) -> str:
        return f"<event of {self.name}>"


CHOICES: dict[str, type[Choice]] = {
    "mode": CmpMode,
    "round": RoundMode,
    "saturate": SaturationMode,
    "pattern": MaskPattern,
}
INTEGERS = frozenset({"row", "col", "start", "diag", "length"})


def kind_of(name: str) -> str:
    """What an operand of this name is: dst (written), inout (read and written), tmp, scalar, int, bool, choice, or src (read)."""
    name = name.rstrip("?")
    if name.startswith("dst"):
        return "dst"
    if name in ("inout", "tmp"):
        return name
    if name.startswith("s_") or name == "s":
        return "scalar"
    if name in CHOICES:
        return "choice"
    if name in ("descending", "upper"):
        return "bool"
    return "int" if name in INTEGERS else "src"


class Instruction:
    """One instruction of PTO-ISA. Called in a kernel of instructions, it is recorded there, and gives its event."""

    def __init__(
        self,
        name: str,
        forms: Sequence[str],
        lower: Callable[..., Any],
        doc: str,
        *,
        places: Mapping[str, Sequence[TileType]] | None = None,
        shaped: bool = False,
    ) -> None:
        """forms: operands, as "dst, src0, src1, tmp?"; lower: the values of the operands that are read, in order (first the
        destination itself, if shaped) -> value of the destination. places: where tiles lie, by operand; else Vec."""
        self.__name__ = name
        self.__doc__ = doc
        self.forms = tuple(tuple(f.split(", ")) for f in forms)
        self.lower = lower
        self._places = places or {}
        self._shaped = shaped
        INSTRUCTIONS[name] = self

    def __repr__(self) -> str:
        return f"<instruction {self.show()}>"

    def show(self) -> str:
        """Name and operands."""
        forms = [f"{self.__name__}({', '.join(n.removesuffix('?') for n in f)})" for f in self.forms]
        return " or ".join(forms)

    def __call__(self, *operands: Any) -> Event:
        """Record it. Further operands that are events are waited for, which program order does already."""
        machine, given = self.begin(operands)
        names = self._form(given)
        inputs: list[Any] = []
        targets: list[tuple[str, Register]] = []
        for name, x in zip(names, given, strict=True):
            kind = kind_of(name)
            if kind in ("src", "inout", "dst", "tmp"):
                self._own(machine, x, name)
                self._placed(name, x)
            if kind in ("src", "inout"):
                inputs.append(x.read(self.__name__, name))
            elif kind not in ("dst", "tmp"):
                inputs.append(x)
            if kind in ("dst", "inout"):
                targets.append((name, x))
        if self._shaped:
            inputs.insert(0, targets[0][1])
        result = self.lower(*inputs)
        results: tuple[Value, ...] = result if isinstance(result, tuple) else (result,)
        for (name, register), value in zip(targets, results, strict=True):
            register.write(self.__name__, name, value)
        written = [r.cell for _, r in targets]
        for name, x in zip(names, given, strict=True):
            if kind_of(name) == "tmp" and x.cell not in written:
                x.clear(f"{self.__name__} used it as tmp")
        return Event(machine, self.__name__)

    def begin(self, operands: Sequence[Any]) -> tuple[Machine, list[Any]]:
        """The kernel under trace, and the operands without the events."""
        machine = current_machine(self.__name__)
        given = list(operands)
        while given and isinstance(given[-1], Event):
            self._own(machine, given.pop(), "event")
        return machine, given

    def _form(self, given: Sequence[Any]) -> tuple[str, ...]:
        """The operands' names, of the form that fits what is given."""
        fitting = [
            form[: len(given)]
            for form in self.forms
            if sum(not n.endswith("?") for n in form) <= len(given) <= len(form)
        ]
        if not fitting:
            raise TypeCheckError(
                "PTO190",
                f"{self.__name__} with {len(given)} operands",
                values={"it is": self.show()},
                loc=here(),
                fix="give the destination first, then the sources",
            )
        for form in fitting:
            if all(_fits(n, x) for n, x in zip(form, given, strict=True)):
                return form
        name, x = next((n, x) for n, x in zip(fitting[0], given, strict=True) if not _fits(n, x))
        raise TypeCheckError(
            "PTO190",
            f"{self.__name__}: the operand {name.rstrip('?')} is {_WORDS[kind_of(name)]}",
            values={"got": repr(x)[:80], "it is": self.show()},
            loc=here(),
            fix="give the destination first, then the sources; parameters go through TLOAD and TSTORE",
        )

    def _own(self, machine: Machine, x: Register | Event, operand: str) -> None:
        if x.machine is not machine:
            raise TraceError(
                "PTO130",
                f"{self.__name__}: {operand} of another kernel",
                values={operand: x},
                loc=here(),
                fix="make tiles in the kernel that uses them",
            )

    def _placed(self, operand: str, x: Register) -> None:
        places = self._places.get(operand.rstrip("?"), (TileType.Vec,))
        if x.loc not in places:
            raise TypeCheckError(
                "PTO190",
                f"{self.__name__}: the tile register {operand.rstrip('?')} is in {x.loc}",
                values={operand.rstrip("?"): x, "it may be in": ", ".join(map(str, places))},
                loc=here(),
                fix="move it first: ptoisa.TMOV(dst, src)",
            )


_WORDS = {
    **dict.fromkeys(("dst", "src", "inout", "tmp"), "a tile register"),
    "scalar": "a number or scalar",
    "int": "a Python integer",
    "bool": "True or False",
    "choice": "one of the enum's members",
}


def _fits(name: str, x: Any) -> bool:
    match kind_of(name):
        case "dst" | "src" | "inout" | "tmp":
            return isinstance(x, Register)
        case "scalar":
            return is_number(x) or (isinstance(x, Value) and not x.shape)
        case "int":
            return isinstance(x, (int, np.integer)) and not isinstance(x, bool)
        case "bool":
            return isinstance(x, bool)
        case _:
            return isinstance(x, CHOICES[name.rstrip("?")])


def instruction(
    forms: str,
    lower: Callable[..., Any],
    doc: str,
    *,
    places: Mapping[str, Sequence[TileType]] | None = None,
    shaped: bool = False,
) -> Instruction:
    """The instruction with these forms: "TADD dst, src0, src1" or several, separated by " | "."""
    name, _, operands = forms.partition(" ")
    return Instruction(name, operands.split(" | "), lower, doc, places=places, shaped=shaped)


def typed(x: Value, dtype: DType) -> Value:
    """x in `dtype`."""
    from pto_wsp import ops

    return x if x.dtype is dtype else ops.cast(x, dtype)
