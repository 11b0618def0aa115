"""What a run that goes on after failures has lost, as part of the error that it raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import PtoError, TaskName
from pto_wsp.ir.core import View
from pto_wsp.ir.text import show_view
from pto_wsp.runtime.failure import to_error
from pto_wsp.runtime.places import Places

_SHOWN = 8
Row = tuple[int, int, list[int]]  # position, site, coordinates


def add_casualties(error: PtoError, artifact: Artifact, record: dict[str, Any], issued: int) -> None:
    """Tell in the earliest failure which other tasks failed, which were skipped, and where the run ended if it did before its end.

    record: of the core (Instance.casualties); issued: tasks that the run came to.
    """
    places = Places(artifact.wir)
    stopped: dict[str, Any] | None = record["stopped"]
    failed = _names(places, record["failed"])
    if stopped is not None and stopped["kind"] != "unknown" and stopped["site"] is not None:
        failed = (*failed, TaskName(issued, places.task(stopped["site"], stopped["coords"])))
    error.failed, error.skipped = failed, _names(places, record["skipped"])
    error.values["failed"] = _shown(error.failed)
    error.values["skipped"] = _shown(error.skipped)
    if stopped is not None:
        error.values["not run"] = _rest(artifact, places, stopped)


def _names(places: Places, rows: Sequence[Row]) -> tuple[TaskName, ...]:
    return tuple(TaskName(position, places.task(site, coords)) for position, site, coords in rows)


def _shown(tasks: Sequence[TaskName]) -> str:
    """How many, and the first of them."""
    if not tasks:
        return "none"
    more = f" and {len(tasks) - _SHOWN} more" if len(tasks) > _SHOWN else ""
    return f"{len(tasks)}: {', '.join(t.name for t in tasks[:_SHOWN])}{more}"


def _rest(artifact: Artifact, places: Places, stopped: dict[str, Any]) -> str:
    """Why nothing from a point on was run."""
    if stopped["kind"] != "unknown":
        told = to_error(artifact, stopped)
        return f"all after this: {told.what}: which tasks depend on it is not known"
    place = places.origins[stopped["origin"]] if stopped["site"] is None else places.sites[stopped["site"]]
    read = next(v for v in _read(place.eqn.ins) if v is not None)
    where = f" at {place.eqn.loc}" if place.eqn.loc is not None else ""
    return f"all after the read of {show_view(read)}{where}: task {stopped['values'][0]} would have written it"


def _read(operands: Sequence[object]) -> list[View | None]:
    """What a read reads: its view, or the index views of a task's gathers."""
    views = [x for x in operands if isinstance(x, View)]
    return [next(iter(v.index_views()), None) for v in views] if len(operands) > 1 else [*views]
