"""What an error tells of processes that wait for ever, and of what would help, found before a run or in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pto_wsp.errors import Location
from pto_wsp.ir.readonly import ReadOnly


def blocked(
    process: str,
    op: str,
    channel: str,
    capacity: int | None,
    *,
    occupancy: int | None = None,
    clock: int | None = None,
    loc: Location | None,
) -> Mapping[str, object]:
    """A process of `DeadlockError.blocked`. op: "send" or "recv"; capacity: None of any number; occupancy, clock: None where not known."""
    return ReadOnly(
        {
            "process": process,
            "op": op,
            "channel": channel,
            "occupancy": occupancy,
            "capacity": capacity,
            "clock": clock,
            "loc": loc,
        }
    )


def depths_fix(depths: Mapping[str, int] | None, short: Sequence[str]) -> str:
    """What to do about processes that wait for ever. depths: of the channels that are too small, as in `DeadlockError.remedy`; short:
    channels of whose buffers a process waits for one."""
    if depths is None:
        return "no capacity helps: send as many tokens as are received, and close channels that are done"
    if depths:
        return "make channels deeper: " + ", ".join(f"{c} depth={n}" for c, n in depths.items())
    if short:
        return f"if a receiver holds several views at once, make {' and '.join(short)} as deep; else close channels that are done"
    return "make channels deeper, and send as many tokens as are received"
