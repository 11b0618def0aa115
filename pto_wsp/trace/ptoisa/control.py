"""Loops and branches whose trips and conditions are known when a task runs. Python's own loops record a body again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

from pto_wsp import ops
from pto_wsp.errors import Location, TraceError, TypeCheckError, here
from pto_wsp.ops.control import check_takes
from pto_wsp.ops.running import RunningKernel
from pto_wsp.ops.value import Value
from pto_wsp.trace.ptoisa.instruction import Event
from pto_wsp.trace.ptoisa.machine import Cell, Machine, current_machine


def drain(x: object, loc: Location | None = None) -> None:
    """Run a generator of instructions to its end, and those it yields. Raises TraceError for what is no instruction, where it was
    yielded; loc: where x comes from."""
    if x is None or isinstance(x, Event):
        return
    if isinstance(x, Iterable) and not isinstance(x, (str, bytes)):
        for inner in x:  # pyright: ignore[reportUnknownVariableType]
            frame = x.gi_frame if isinstance(x, GeneratorType) else None
            drain(inner, loc if frame is None else Location.of_frame(frame))  # pyright: ignore[reportUnknownArgumentType]
        return
    raise TraceError(
        "PTO196",
        "a kernel of instructions yields or returns what is no instruction",
        values={"got": repr(x)[:80]},
        loc=loc or here(),
        fix="yield what instructions return, or nothing; results are stored: ptoisa.TSTORE(out, tile)",
    )


def fori_loop(lo: Any, hi: Any, body: Callable[[Any], Any]) -> None:
    """Record `body(i)` for i from lo to hi - 1, as many as the task says: integers or scalars of the kernel.

    Registers keep what they hold from iteration to iteration. Those that only the body writes are empty after it, as it may not
    run. body may be a generator, and is recorded more than once. Raises as `pto.fori_loop` does.
    """
    machine = current_machine("fori_loop")
    _need_function("fori_loop", body, 1)

    def find() -> tuple[list[Cell], list[Cell]]:
        live = {c: c.value for c in machine.cells if c.value is not None}

        def once(i: Value, _: object) -> tuple[()]:
            drain(body(i))
            return ()

        with machine.watching() as seen:
            ops.fori_loop(lo, hi, once, ())
        carried = [c for c in live if c in seen.written and c.value is not None]
        carried = [c for c in carried if c in seen.read or (c.value and c.value.type == live[c].type)]
        return carried, [c for c in seen.written if c not in carried]

    carried, emptied = _found(machine, find)
    for cell in emptied:
        cell.clear("only a loop wrote it, which may not run")

    def turn(i: Value, values: list[Value]) -> list[Value | None]:
        for cell, value in zip(carried, values, strict=True):
            cell.value = value
        with machine.inner():
            drain(body(i))
        return [c.value for c in carried]

    results = ops.fori_loop(lo, hi, turn, [c.value for c in carried])
    for cell, value in zip(carried, results, strict=True):
        cell.value = value
    for cell in emptied:
        cell.clear("only a loop wrote it, which may not run")


def cond(pred: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> None:
    """Record `then()` for tasks where the bool scalar pred holds, `otherwise()` for the others. A Python bool chooses while recording.

    Registers that hold something after both hold what the branch taken leaves. Raises as `pto.cond` does.
    """
    machine = current_machine("cond")
    for side in (then, otherwise):
        _need_function("cond", side, 0)
    if isinstance(pred, bool):
        drain((then if pred else otherwise)())
        return

    def branches(given: list[Cell], ends: list[dict[Cell, Value | None]]) -> list[Value]:
        before = machine.state()

        def side(record: Callable[[], Any]) -> Callable[[], list[Value | None]]:
            def run() -> list[Value | None]:
                machine.back(before)
                with machine.inner():
                    drain(record())
                ends.append({c: c.value for c in machine.cells})
                return [c.value for c in given]

            return run

        return ops.cond(pred, side(then), side(otherwise))

    def find() -> tuple[list[Cell], list[Cell]]:
        ends: list[dict[Cell, Value | None]] = []
        cells = list(machine.cells)
        with machine.watching() as seen:
            branches([], ends)
        written = [c for c in cells if c in seen.written]
        given = [c for c in written if all(end[c] is not None for end in ends)]
        return given, [c for c in written if c not in given]

    given, emptied = _found(machine, find)
    results = branches(given, [])
    for cell, value in zip(given, results, strict=True):
        cell.value = value
    for cell in emptied:
        cell.clear("only one branch wrote it")


def _found(machine: Machine, find: Callable[[], tuple[list[Cell], list[Cell]]]) -> tuple[list[Cell], list[Cell]]:
    """The registers that a loop or branch gives on, and those it leaves empty: by recording it, of which nothing stays; in a run
    with numbers as it was recorded."""
    builder = machine.builder
    place = (*builder.scopes[-1].place, builder.scopes[-1].controls + 1)
    cells = list(machine.cells)
    if isinstance(builder, RunningKernel):
        given, emptied = machine.carried.get(place, ((len(cells),), ()))
        if any(k >= len(cells) for k in (*given, *emptied)):
            raise builder.differs(None, "a loop or branch")
        return [cells[k] for k in given], [cells[k] for k in emptied]
    mark, state = builder.mark(), machine.state()
    given, emptied = find()
    builder.back(mark)
    machine.back(state)
    kept = [c for c in emptied if c in cells]
    machine.carried[place] = tuple(map(cells.index, given)), tuple(map(cells.index, kept))
    return given, kept


def _need_function(what: str, f: object, count: int) -> None:
    fix = "write ptoisa.fori_loop(0, n, body) with def body(i), ptoisa.cond(pred, then, otherwise) with functions of nothing"
    if not callable(f):
        raise TypeCheckError(
            "PTO190",
            f"{what} records a function",
            values={"got": repr(f)[:80]},
            loc=here(),
            fix=fix,
        )
    check_takes(f, count, f"{what} records a function of {count} arguments", fix, "PTO190")
