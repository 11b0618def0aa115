"""Synchronisation: nothing to do on one core in program order, but what would hang there is refused."""

from __future__ import annotations

from pto_wsp import ops
from pto_wsp.errors import TraceError, TypeCheckError, here
from pto_wsp.ir.core import Choice
from pto_wsp.trace.ptoisa.instruction import Event
from pto_wsp.trace.ptoisa.machine import Register, current_machine


class Pipe(Choice):
    """The units of a core that wait for each other: scalar, vector, the moves MTE1, MTE2, MTE3, matrix, FIX, and all."""

    PIPE_S = "scalar instructions"
    PIPE_V = "vector instructions"
    PIPE_MTE1 = "L1 to L0A, L0B, BT"
    PIPE_MTE2 = "GM to UB or L1"
    PIPE_MTE3 = "UB or L1 to GM"
    PIPE_M = "matrix products"
    PIPE_FIX = "L0C to GM or L1"
    PIPE_ALL = "all of them"


PIPE_S, PIPE_V, PIPE_MTE1, PIPE_MTE2 = Pipe.PIPE_S, Pipe.PIPE_V, Pipe.PIPE_MTE1, Pipe.PIPE_MTE2
PIPE_MTE3, PIPE_M, PIPE_FIX, PIPE_ALL = Pipe.PIPE_MTE3, Pipe.PIPE_M, Pipe.PIPE_FIX, Pipe.PIPE_ALL
EVENT_ID0, EVENT_ID1, EVENT_ID2, EVENT_ID3, EVENT_ID4, EVENT_ID5, EVENT_ID6, EVENT_ID7 = range(8)


def TSYNC(*events: Event) -> None:  # noqa: N802 - the name of PTO-ISA
    """Wait for events of instructions; without any, for the vector instructions before. Program order does so already."""
    machine = current_machine("TSYNC")
    if not all(isinstance(e, Event) and e.machine is machine for e in events):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeCheckError(
            "PTO190",
            "TSYNC waits for events of this kernel",
            values={"got": ", ".join(map(repr, events))[:80]},
            loc=here(),
            fix="give what instructions return: e = ptoisa.TLOAD(a, x); ptoisa.TSYNC(e)",
        )


def _flag(what: str, src: object, dst: object, event: object) -> tuple[object, ...]:
    pipes = isinstance(src, Pipe) and isinstance(dst, Pipe) and Pipe.PIPE_ALL not in (src, dst)
    if not pipes or not isinstance(event, int) or isinstance(event, bool) or not 0 <= event <= EVENT_ID7:
        raise TypeCheckError(
            "PTO190",
            f"{what} takes two pipes and an event",
            values={"got": f"{src!r}, {dst!r}, {event!r}"[:80]},
            loc=here(),
            fix=f"write ptoisa.{what}(ptoisa.PIPE_MTE2, ptoisa.PIPE_V, ptoisa.EVENT_ID0)",
        )
    return src, dst, event


def set_flag(src: Pipe, dst: Pipe, event: int) -> None:
    """Pipe `src` sets the flag `event` for pipe `dst`: nothing to do on one core in program order."""
    current_machine("set_flag").flags[_flag("set_flag", src, dst, event)] += 1


def wait_flag(src: Pipe, dst: Pipe, event: int) -> None:
    """Pipe `dst` waits for the flag `event` of pipe `src`. Raises TraceError where nothing has set it: it would wait for ever."""
    machine, flag = current_machine("wait_flag"), _flag("wait_flag", src, dst, event)
    if not machine.flags[flag]:
        raise TraceError(
            "PTO195",
            "wait_flag for a flag that nothing has set",
            values={"from": src, "to": dst, "event": f"EVENT_ID{event}"},
            loc=here(),
            fix=f"set it first: ptoisa.set_flag(ptoisa.{src}, ptoisa.{dst}, ptoisa.EVENT_ID{event})",
        )
    machine.flags[flag] -= 1


def TPRINT(tile: Register, label: str = "TPRINT") -> None:  # noqa: N802
    """Print a tile register: `label`, kernel, coordinates, dtype, valid shape and values."""
    current_machine("TPRINT")
    if not isinstance(tile, Register) or not isinstance(label, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeCheckError(
            "PTO190",
            "TPRINT takes a tile register and a text",
            values={"got": f"{tile!r}, {label!r}"[:80]},
            loc=here(),
            fix='write ptoisa.TPRINT(tile, "label")',
        )
    ops.debug_print(label, tile.read("TPRINT", "tile"))


def pipe_barrier(pipe: Pipe) -> None:
    """All of a pipe's instructions before end before those after: they do in program order."""
    current_machine("pipe_barrier")
    if not isinstance(pipe, Pipe):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeCheckError(
            "PTO190",
            "pipe_barrier takes a pipe",
            values={"got": repr(pipe)[:80]},
            loc=here(),
            fix="write ptoisa.pipe_barrier(ptoisa.PIPE_V)",
        )
