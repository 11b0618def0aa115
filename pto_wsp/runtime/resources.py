"""What a run may use: five bounded resources."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from pto_wsp.errors import CompileError, here

Size = int | Literal["auto"]
MOST = {
    "task_window": 1 << 16,
    "dependence_map": 1 << 28,
    "edges": 1 << 24,
    "arena": 1 << 47,
    "ready_queue": 1 << 16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """How much a run may use of what runs are bounded by, beside what its schedule says. A number, or "auto".

        w.compile(threads=8, resources=Resources(task_window=256, edges=1024))

    task_window     tasks issued and not retired (tasks retire in program order), 1 .. 65,536.
                    auto: what the windows of the schedule hold together, at most 4,096, and less where tasks have very many arguments
    dependence_map  what those tasks read and write where conflicts are looked for, 1 .. 2^28 entries: of a tensor that a grid fits, one for
                    each cell that a view reads (its cells themselves, with their last writers, belong to the tensor and are not counted); of
                    others one for each view, or for each index of a gathered one.
                    auto: task_window times the most that one task takes, at most 2^20 (never below what one task takes)
    edges           from those tasks to what each waits for, 1 .. 2^24. auto: 8 times task_window
    arena           bytes of temporaries, 1 .. 2^47. auto: what the plan lays out, for temporaries that are alive at once
    ready_queue     tasks issued that no thread has begun, 1 .. 65,536: each has a place in the queue of ready tasks kept for it.
                    auto: task_window

    A resource that is used up makes issue wait until tasks are over, and changes no result; `stats.real.resources` says how often and how
    long. Where waiting would not help - one task, or the temporaries, need more than all there is - execute() raises BindError with the
    smallest size that passes. With one thread each task is over before the next is issued, so that nothing is ever used up.
    Raises CompileError for other sizes.
    """

    task_window: Size = "auto"
    dependence_map: Size = "auto"
    edges: Size = "auto"
    arena: Size = "auto"
    ready_queue: Size = "auto"

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f.name, getattr(self, f.name))

    def sizes(self) -> dict[str, int]:
        """The sizes given, in numbers."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: int(size) for name, size in given.items() if size != "auto"}


def resources_of(given: object) -> Resources:
    """What compile(resources=) was given. Raises CompileError."""
    if given is None or (isinstance(given, str) and given == "auto"):
        return Resources()
    if isinstance(given, Resources):
        return given
    raise CompileError(
        "PTO425",
        "resources= takes a Resources",
        values={"got": repr(given)[:80]},
        loc=here(),
        fix='write resources=Resources(task_window=256), or "auto"',
    )


def _check(name: str, size: object) -> None:
    if isinstance(size, str) and size == "auto":
        return
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if not whole or not 1 <= int(size) <= MOST[name]:  # type: ignore[call-overload]
        raise CompileError(
            "PTO425",
            f"Resources({name}=...) is {size!r:.80}",
            values={"range": f"1 .. {MOST[name]:,}"},
            loc=here(),
            fix=f'give {name} an integer of 1 .. {MOST[name]:,}, or "auto"',
        )
