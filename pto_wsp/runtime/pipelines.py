"""Pipelines of programs: their channels by name, what bounds them, and what goes wrong in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pto_wsp.errors import (
    BindError,
    ChannelClosed,
    DeadlockError,
    InternalError,
    LimitError,
    Location,
    PtoError,
    UnsupportedError,
    here,
)
from pto_wsp.ir.core import Eqn, Wir
from pto_wsp.ir.processes import (
    MOST_CYCLES,
    buffers_of,
    channel_names,
    channels_of,
    pipelines,
    processes_of,
    settings_of,
)
from pto_wsp.proofs.blocked import blocked
from pto_wsp.proofs.verdict import Party, race_error
from pto_wsp.runtime.places import Places

_NUMBERS = 7  # of each process that waits, in the core's failure
_MOST = 2**62 - 1


def buffer_channels(wir: Wir) -> list[tuple[int, int]]:
    """The channels of views of all pipelines, each with the one in which the numbers of its free buffers wait, by their numbers in the plan."""
    out: list[tuple[int, int]] = []
    first = 0
    for p in pipelines(wir):
        names = [str(c.params["name"]) for c in channels_of(p)]
        out += [(first + names.index(c), first + names.index(free)) for c, free in buffers_of(p).items()]
        first += len(names)
    return out


@dataclass
class Bounds:
    """What runs of pipelines may take, and channels whose times are not those of the workload: (latency, response) by number."""

    max_cycles: int | None
    max_actions: int | None
    times: dict[int, tuple[int, int]]

    @staticmethod
    def of(max_cycles: object, max_actions: object, times: Mapping[int, tuple[int, int]]) -> Bounds:
        """Raises BindError for bounds that are none."""
        return Bounds(_bound("max_cycles", max_cycles), _bound("max_actions", max_actions), dict(times))

    def give(self, to: Any, plan: Any, *more: object) -> None:
        """Tell the core, an instance, with the pipelines in which races are looked for, or a dry run of the plan."""
        channels = []
        if self.times:
            channels = [
                (depth, *self.times.get(k, (latency, response)), initial)
                for k, (depth, latency, response, initial) in enumerate(plan.channels())
            ]
        to.set_pipelines(self.max_cycles, self.max_actions, channels, *more)


def _bound(name: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise BindError(
            *("PTO705", f"{name} is {value!r}"),
            values={"range": "1 .. 2^62 - 1"},
            loc=here(),
            fix=f"give a number, or leave {name} out",
        )
    return int(value)


def checked(wir: Wir, unproved: Iterable[int], times: Iterable[int]) -> list[int]:
    """The pipelines in which races are looked for: those that are left to the run, and timed ones with a channel of which the times
    are not those of the workload. One inside of another is looked at with it."""
    everything = list(pipelines(wir))
    channels = [p for p in everything for _ in channels_of(p)]
    wanted = {id(everything[k]) for k in unproved} | {id(channels[c]) for c in times if channels[c].params["timed"]}
    return [k for k, p in enumerate(everything) if any(id(e) in wanted for e in p.walk())]


def times_of(wir: Wir, name: object, latency: object, response: object) -> tuple[int, tuple[int, int]]:
    """The number of a channel, and the latency and response that it is to have. Raises BindError."""
    names = channel_names(wir)
    if name not in names:
        raise BindError(
            *("PTO705", f"there is no channel {name!r}"),
            values={"channels": ", ".join(names) or "none"},
            loc=here(),
            fix="name one of these",
        )
    number = names.index(name)
    of = settings_of([c for p in pipelines(wir) for c in channels_of(p)][number])
    return number, (_cycles("latency", latency, of), _cycles("response", response, of))


def changed(times: Mapping[int, tuple[int, int]], plan: Any) -> dict[int, tuple[int, int]]:
    """The times of channels, by number, that are not those of the plan."""
    own = [(latency, response) for _, latency, response, _ in plan.channels()]
    return {k: t for k, t in sorted(times.items()) if t != own[k]}


def _cycles(name: str, value: object, of: Mapping[str, int]) -> int:
    if value is None:
        return of[name]
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 0 <= value <= MOST_CYCLES:
        raise BindError(
            *("PTO705", f"{name} is {value!r}"),
            values={"range": "0 .. 2^40"},
            loc=here(),
            fix="give a number of cycles",
        )
    return int(value)


def refuse_with_pipelines(wir: Wir, what: str, fix: str) -> None:
    """Raise UnsupportedError for what programs with pipelines do not have."""
    pipeline = next(pipelines(wir), None)
    if pipeline is not None:
        raise UnsupportedError(
            *("PTO003", f"a program with pipelines has no {what}"),
            values={"pipeline": f"{pipeline.params['name']}{_at(pipeline.loc)}"},
            loc=here(),
            fix=fix,
        )


def pipeline_failure(places: Places, pipeline: Eqn, kind: str, numbers: list[int], eqn: Eqn) -> PtoError:
    """processes: those that wait for ever; closed: a send after one's own close, at `eqn`; limit: a bound."""
    name = str(pipeline.params["name"])
    if kind == "processes":
        return _blocked(places, pipeline, numbers)
    if kind == "closed":
        process, channel, clock = numbers
        return ChannelClosed(
            "PTO817",
            f"process {processes_of(pipeline)[process].params['name']} sends to channel {channels_of(pipeline)[channel].params['name']}, which it has closed",
            values={"pipeline": name, "clock": clock},
            loc=eqn.loc,
            fix="close a channel after the last send",
        )
    which, limit = numbers
    if which == 0:
        return LimitError(
            *("PTO849", f"pipeline {name} takes more than {limit:,} cycles"),
            loc=pipeline.loc,
            fix="give a larger max_cycles, or let its processes end",
        )
    return LimitError(
        *("PTO822", f"pipeline {name} makes {limit:,} actions in which no clock advances"),
        loc=pipeline.loc,
        fix="let each round of a cycle of processes do work, or end; or give a larger max_actions",
    )


def race_failure(places: Places, numbers: list[int]) -> PtoError:
    """Two processes touch a common element, and no token orders them."""
    rest = iter(numbers)
    pipeline, tensor, dims = next(rest), next(rest), next(rest)
    element = [next(rest) for _ in range(dims)]
    eqn = list(pipelines(places.wir))[pipeline]
    (_, one), (_, other) = sorted((_party(places, eqn, rest) for _ in range(2)), key=lambda party: party[0])
    return race_error(eqn, one, other, places.wir.tensors[tensor].name, element)


def _party(places: Places, pipeline: Eqn, numbers: Iterator[int]) -> tuple[int, Party]:
    """The number of a process, and what it does."""
    number, writes, site, origin, coords = (next(numbers) for _ in range(5))
    at = [next(numbers) for _ in range(coords)]
    process = str(processes_of(pipeline)[number].params["name"])
    eqn = (places.sites[site] if site >= 0 else places.origins[origin]).eqn
    what = f"{places.label(site)}[{', '.join(map(str, at))}]" if site >= 0 else eqn.prim
    return number, Party(process, f"{what} in process {process}{_at(eqn.loc)}", bool(writes), eqn.loc)


def pipeline_around(wir: Wir, eqn: Eqn) -> Eqn:
    """The innermost pipeline around an equation, or itself."""
    found = [p for p in pipelines(wir) if any(e is eqn for e in p.walk())]
    if not found:
        raise InternalError(f"{eqn.prim} stands in no pipeline")
    return found[-1]


def _rows(numbers: list[int]) -> Iterator[list[int]]:
    return (numbers[i : i + _NUMBERS] for i in range(0, len(numbers), _NUMBERS))


def _blocked(places: Places, pipeline: Eqn, numbers: list[int]) -> DeadlockError:
    processes = [str(p.params["name"]) for p in processes_of(pipeline)]
    channels = [str(c.params["name"]) for c in channels_of(pipeline)]
    said: dict[str, object] = {}
    waiting: list[Mapping[str, object]] = []
    for process, receives, channel, held, capacity, clock, origin in _rows(numbers):
        eqn = places.origins[origin].eqn
        of = "" if capacity < 0 else f" of {capacity}"
        said[f"process {processes[process]}"] = (
            f"{eqn.prim} {channels[channel]} ({held}{of} tokens) at clock {clock}{_at(eqn.loc)}"
        )
        waiting.append(
            blocked(
                processes[process],
                "recv" if receives else "send",
                channels[channel],
                None if capacity < 0 else capacity,
                occupancy=held,
                clock=clock,
                loc=eqn.loc,
            )
        )
    names = ", ".join(str(b["process"]) for b in waiting)
    first = waiting[0]["loc"]
    error = DeadlockError(
        "PTO820",
        f"a deadlock of pipeline {pipeline.params['name']}: {names} {'wait' if len(waiting) > 1 else 'waits'} for ever",
        values=said,
        loc=first if isinstance(first, Location) else pipeline.loc,
        fix="close channels that are done, send as many tokens as are received, and make channels deeper",
    )
    error.resource = f"channel {waiting[0]['channel']}"
    error.blocked = tuple(waiting)
    return error


def _at(loc: Location | None) -> str:
    return "" if loc is None else f", {loc}"
