"""Names that Python gives: of the variable that holds an object, and of the targets of a `for` loop."""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType, FrameType, FunctionType

from pto_wsp.errors import user_frame


def variable_name(obj: object) -> str | None:
    """The user's variable that holds `obj`: innermost local first, then enclosing frames' locals are not searched, then globals."""
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


@lru_cache(maxsize=1024)
def _targets(code: CodeType, offset: int) -> tuple[str, ...] | None:
    """What the loop whose GET_ITER stands at or after `offset` assigns to; None where Python does not say."""
    instructions = iter(dis.get_instructions(code))
    for ins in instructions:
        if ins.offset > offset and ins.opname.startswith("FOR_ITER"):
            break
    names: list[str] = []
    left = 1
    for ins in instructions:
        if ins.opname in ("UNPACK_SEQUENCE", "UNPACK_EX"):
            left += int(ins.arg or 0) - 1
        elif ins.opname.startswith("STORE_") and isinstance(ins.argval, (str, tuple)):
            stored = ins.argval if isinstance(ins.argval, tuple) else (ins.argval,)
            # STORE_FAST_LOAD_FAST pairs a store with the load that follows it
            names += stored[:1] if ins.opname == "STORE_FAST_LOAD_FAST" else stored
        elif ins.opname not in ("CACHE", "EXTENDED_ARG", "NOP"):
            return None
        if len(names) >= left:
            return tuple(names[:left])
    return None


def loop_targets(frame: FrameType, count: int) -> tuple[str | None, ...]:
    """The variables of the `for` statement that `frame` is entering, or None for each where Python offers no name."""
    names = _targets(frame.f_code, frame.f_lasti)
    return names if names is not None and len(names) == count else (None,) * count
