"""Names that Python gives: of the variable that holds an object, and of the targets of a `for` loop."""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType, FrameType, FunctionType

from pto_wsp.errors import Location, TraceError, user_frame


def variable_name(obj: object) -> str | None:
    """The user's variable that holds `obj`: a local of the innermost frame of the user's, else a global."""
    frame = user_frame()
    for names in (frame.f_locals, frame.f_globals):
        for name, value in names.items():
            if value is obj and not name.startswith("__"):
                return name
    return None


def held_by(fn: FunctionType, obj: object) -> str | None:
    """The name under which `fn` sees `obj`: a closure variable or a global."""
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            if cell.cell_contents is obj:
                return name
        except ValueError:  # an empty cell: the variable is not assigned yet
            continue
    return next((n for n in fn.__code__.co_names if fn.__globals__.get(n) is obj), None)


_NOTHING = ("CACHE", "EXTENDED_ARG", "NOP")
# what stands between the start of an inlined comprehension's loop and the loop (Python 3.12 and later)
_INLINED = (*_NOTHING, "LOAD_FAST_AND_CLEAR", "SWAP", "BUILD_LIST", "BUILD_SET", "BUILD_MAP")


@lru_cache(maxsize=1024)
def _targets(code: CodeType, offset: int) -> tuple[str, ...] | None:
    """What the loop that starts with the GET_ITER at `offset` assigns to; None where Python does not say."""
    instructions = list(dis.get_instructions(code))
    start = next((k for k, ins in enumerate(instructions) if ins.offset == offset and ins.opname == "GET_ITER"), None)
    if start is None:
        return None
    after = next((k for k in range(start + 1, len(instructions)) if instructions[k].opname not in _INLINED), start)
    if instructions[after].opname.startswith("FOR_ITER"):
        return _stored(instructions[after + 1 :])
    # a comprehension is a function of its own, made by an instruction that belongs to the same expression
    whole = instructions[start].positions
    for ins in reversed(instructions[:start]):
        if isinstance(ins.argval, CodeType) and ins.positions == whole:
            inner = list(dis.get_instructions(ins.argval))
            loop = next(k for k, x in enumerate(inner) if x.opname.startswith("FOR_ITER"))
            return _stored(inner[loop + 1 :])
    return None


def _stored(instructions: list[dis.Instruction]) -> tuple[str, ...] | None:
    """The variables that the first instructions of a loop's body assign to; None for other targets."""
    names: list[str] = []
    left = 1
    for ins in instructions:
        if ins.opname == "UNPACK_SEQUENCE":
            left += int(ins.arg or 0) - 1
        elif ins.opname.startswith("STORE_") and isinstance(ins.argval, (str, tuple)):
            stored = ins.argval if isinstance(ins.argval, tuple) else (ins.argval,)
            # STORE_FAST_LOAD_FAST pairs a store with the load that follows it
            names += stored[:1] if ins.opname == "STORE_FAST_LOAD_FAST" else stored
        elif ins.opname not in _NOTHING:
            return None
        if len(names) >= left:
            return tuple(names[:left])
    return None


def loop_targets(frame: FrameType, count: int) -> tuple[str | None, ...]:
    """The variables of the `for` statement that `frame` is entering, or None for each where Python offers no name.

    Raises TraceError where the statement unpacks into another number of variables than `count`.
    """
    names = _targets(frame.f_code, frame.f_lasti)
    if names is not None and len(names) not in (1, count):
        raise TraceError(
            "PTO154",
            f"{count} axes, but {len(names)} loop variables",
            values={"variables": ", ".join(names)},
            loc=Location.of_frame(frame),
            fix="P(...) gives as many loop variables as it has axes",
        )
    return names if names is not None and len(names) == count else (None,) * count


@lru_cache(maxsize=1024)
def _assigned(code: CodeType, offset: int) -> str | None:
    after = (ins for ins in dis.get_instructions(code) if ins.offset > offset and ins.opname not in _NOTHING)
    stored = _stored([ins for ins, _ in zip(after, range(1), strict=False)])
    return stored[0] if stored is not None else None


def assigned_name(loc: Location | None = None) -> str | None:
    """The variable that takes the value of the call that the user's program is in, or that stands at `loc`."""
    if loc is None:
        frame = user_frame()
        return _assigned(frame.f_code, frame.f_lasti)
    instruction = loc.instruction
    return None if instruction is None else _assigned(*instruction)
