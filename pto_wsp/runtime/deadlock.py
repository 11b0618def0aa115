"""Deadlocks of semantic time: what waits for what, and what would let it go on.

There is one way into a deadlock of tasks: lanes take nothing before so many tasks are issued, and before that a window is full. Tasks only wait
for tasks issued before them, so everything else goes on by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pto_wsp.errors import DeadlockError, InternalError, Location
from pto_wsp.ir.core import Eqn, View, Wir
from pto_wsp.ir.processes import channel_names, out_of_buffers
from pto_wsp.ir.scopes import of_the_whole, scopes
from pto_wsp.ir.text import show_view
from pto_wsp.proofs.blocked import depths_fix
from pto_wsp.runtime.places import Places
from pto_wsp.runtime.schedule_failure import windows

_AT_WINDOW = 0


class Blocked:
    """What the core says of a deadlock: the numbers of its failure, with the scopes that they are about."""

    def __init__(self, wir: Wir, numbers: list[int]) -> None:
        at, place, self.tasks, limit, size, byte_limit, self.more, self.issued, _, self.start = numbers
        if at != _AT_WINDOW:
            raise InternalError("a deadlock without a full window")
        self.window = window_scope(wir, place)
        self.start_scope = of_the_whole(wir, "start")
        self.in_bytes = self.tasks < limit
        self.unit = "bytes" if self.in_bytes else "tasks"
        self.occupancy, self.capacity = (size, byte_limit) if self.in_bytes else (self.tasks, limit)

    @property
    def resource(self) -> str:
        return f"window of {self.capacity:,} {self.unit}"

    @property
    def threshold(self) -> str:
        """How many tasks must be issued before lanes take any."""
        said = 0 if self.start_scope is None else self.start_scope.params["tasks"]
        return f"{said:,} tasks are" if said else "all tasks are"


def window_scope(wir: Wir, place: int) -> Eqn | None:
    """A window by its place in the plan; None of the one that always holds."""
    return windows(wir)[place - 1] if place else None


def name_of_window(wir: Wir, scope: Eqn | None) -> str:
    """`window 2` for the third of the workload in program order; `window` where there is only one, or none."""
    all_of_them = list(scopes(wir, "window"))
    if scope is None or len(all_of_them) == 1:
        return "window"
    return f"window {next(k for k, e in enumerate(all_of_them) if e is scope)}"


def deadlock_failure(wir: Wir, task: str, loc: Location | None, numbers: list[int]) -> DeadlockError:
    """Semantic time cannot go on: `task` has no place in its window, and never will."""
    b = Blocked(wir, numbers)
    where = b.window.loc if b.window is not None else loc
    error = DeadlockError(
        "PTO740",
        f"{task} waits for a place in a {b.resource} of which none gets free",
        values={},
        loc=where or loc,
        fix=f"start with StartPolicy.threshold({b.issued}) at most, or make the window larger",
    )
    error.task, error.resource, error.occupancy, error.capacity = task, b.resource, b.occupancy, b.capacity
    error.alternative = {"start": b.issued}
    return error


def tell_remedy(error: DeadlockError, wir: Wir, failure: Mapping[str, Any], remedy: Mapping[str, Any]) -> None:
    """Tell in a deadlock what waits for what, and the smallest windows with which it goes on.

    failure, remedy: records of the core (csrc/include/pto_wsp/dry_run.hpp).
    """
    if failure["kind"] == "processes":
        _tell_depths(error, wir, remedy)
        return
    b, places = Blocked(wir, failure["values"]), Places(wir)
    oldest = places.task(*remedy["oldest"]) if remedy["oldest"] is not None else "its oldest task"
    more = f", and {error.task} would write {b.more:,} more" if b.in_bytes else ""
    start = b.start_scope.loc if b.start_scope is not None else None
    error.values |= {
        "issue": f"waits to issue {error.task}, for a place in the {b.resource}{_at(b.window.loc if b.window is not None else None)}: {b.occupancy:,} {b.unit} are in it{more}",
        "the window": f"waits for its oldest task, {oldest}, to retire",
        oldest: "waits for a lane to take it",
        "lanes": f"wait for issue: they take nothing before {b.threshold} issued{_at(start)}, and {b.issued:,} are",
    }
    first = name_of_window(wir, b.window)
    sizes = {name_of_window(wir, window_scope(wir, w)): (w, is_bytes, n) for w, is_bytes, n in remedy["sizes"]}
    if not remedy["known"]:
        error.values["smallest window"] = _unknown(places, remedy["unknown"])
        error.remedy = None if remedy["unknown"] is None else {}
        return
    error.remedy = {"window" if name == first else name: n for name, (_, _, n) in sizes.items()}
    said: list[str] = []
    for w, is_bytes, n in sizes.values():
        scope = window_scope(wir, w)
        unit = ', "bytes"' if is_bytes else ""
        said.append(f"TaskWindow({n}{unit}){_at(scope.loc if scope is not None else None)}")
    around = "" if b.window is not None else " around the workload"
    sizes_of = ", for the sizes of this run" if wir.symbols or wir.axes else ""
    error.fix = f"give the window{around} {' and '.join(said)} at least, or start with StartPolicy.threshold({b.issued}) at most{sizes_of}"


def _tell_depths(error: DeadlockError, wir: Wir, remedy: Mapping[str, Any]) -> None:
    """Tell in a deadlock of processes the depths with which it goes on, or that none helps."""
    names, unknown = channel_names(wir), remedy["unknown"]
    if remedy["known"]:
        error.remedy = {names[c]: n for c, n in remedy["channels"]}
    elif unknown is None:
        error.remedy = None
        error.values["depths"] = "no capacity helps"
    elif unknown["kind"] == "not_given":
        error.values["depths"] = _unknown(Places(wir), unknown)
    else:
        ends = "the run takes longer than was looked at" if unknown["kind"] == "cancelled" else "it ends otherwise"
        error.values["depths"] = f"not known: with more places {ends}"
    short = out_of_buffers(wir, (str(b["channel"]) for b in error.blocked))
    error.fix = depths_fix(error.remedy, short)


def _at(loc: Location | None) -> str:
    return "" if loc is None else f" at {loc}"


def _unknown(places: Places, why: Mapping[str, Any] | None) -> str:
    """Why no size is known to suffice."""
    if why is None:
        return "none suffices: a window in bytes has room for 65,536 tasks"
    if why["kind"] != "not_given":
        return "not known: the tasks that would come next cannot all be issued"
    place = places.origins[why["origin"]] if why["origin"] is not None else places.sites[why["site"]]
    views = [v for x in place.eqn.ins if isinstance(x, View) for v in ((*x.index_views(),) or (x,))]
    read = show_view(next(v for v in views))
    return f"not known: what comes after the read of {read}{_at(place.eqn.loc)} is decided by what tasks compute"
