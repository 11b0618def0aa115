"""The pipelines of a traced run, from what the core has recorded (csrc/include/pto_wsp/pipe_trace.hpp says what that is)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pto_wsp.ir.core import Eqn, Wir
from pto_wsp.ir.processes import buffers_of, channel_names, channels_of, ends_of, pipelines, processes_of
from pto_wsp.runtime.places import Places
from pto_wsp.runtime.views.pipes import Ints, Pipes, Place, TracedChannel, TracedProcess, with_waits

_OF_TASKS = ("issue", "ready", "start", "end")


def pipes_of(record: dict[str, Any], places: Places) -> Pipes:
    """The pipelines of a run, its operations with cycles of the run."""
    found = tuple(pipelines(places.wir))
    where = _places(found)
    channels = _channels(places.wir, found, where, record["channels"])
    runs = _runs(record["pipelines"], [_place(found, p.eqn) for p in places.origins])
    given = record["operations"]
    o: dict[str, Ints] = {
        name: np.frombuffer(given[name], np.int32).astype(np.int64)
        for name in ("pipeline", "process", "channel", "origin")
    }
    o |= {name: np.frombuffer(given[name], np.int64) for name in ("token", "came", "went")}
    o["operation"] = np.frombuffer(given["kind"], np.uint8).astype(np.int64)
    run = o["run"] = o.pop("pipeline")
    o["process"] = o["process"] + np.array([p.first_process for p in where], np.int64)[runs["place"]][run]
    first_channel = np.array([p.first_channel for p in where], np.int64)[runs["place"]][run]
    o["channel"] = np.where(o["channel"] < 0, -1, o["channel"] + first_channel)
    since = began(runs)[run]
    o["came"] = o["came"] + since
    o["went"] = np.where(o["went"] < 0, -1, o["went"] + since)
    return Pipes(
        where,
        tuple(
            TracedProcess(str(e.params["name"]), str(p.params["name"]), e.loc) for p in found for e in processes_of(p)
        ),
        channels,
        runs,
        with_waits(o, channels),
        tuple(p.eqn.loc for p in places.origins),
        record["dropped"],
    )


def place_tasks(arrays: dict[str, Ints], pipes: Pipes) -> None:
    """Count the cycles of the tasks of processes from the beginning of the run, and their processes among all."""
    inside = arrays["pipeline"] >= 0
    if not inside.any():
        return
    run = arrays["pipeline"][inside]
    since = began(pipes.runs)[run]
    for name in _OF_TASKS:
        arrays[name] = arrays[name].copy()
        arrays[name][inside] += since
    first = np.array([p.first_process for p in pipes.places], np.int64)
    arrays["process"] = arrays["process"].astype(np.int64)
    arrays["process"][inside] += first[pipes.runs["place"][run]]
    for name in (*_OF_TASKS, "process"):
        arrays[name].flags.writeable = False


def began(runs: dict[str, Ints]) -> Ints:
    """For each run of a pipeline when the outermost one around it began; 0 where the run of the program did not come to that."""
    return np.maximum(runs["task_start"][runs["outermost"]], 0)


def _place(found: tuple[Eqn, ...], eqn: Eqn) -> int:
    return next((k for k, p in enumerate(found) if p is eqn), -1)


def _places(found: tuple[Eqn, ...]) -> tuple[Place, ...]:
    out: list[Place] = []
    processes = channels = 0
    for p in found:
        n, m = len(processes_of(p)), len(channels_of(p))
        out.append(Place(str(p.params["name"]), processes, n, channels, m, p.loc))
        processes, channels = processes + n, channels + m
    return tuple(out)


def _channels(wir: Wir, found: tuple[Eqn, ...], where: tuple[Place, ...], had: Any) -> tuple[TracedChannel, ...]:
    out: list[TracedChannel] = []
    names = iter(zip(channel_names(wir), had, strict=True))
    for p, place in zip(found, where, strict=True):
        own = [str(c.params["name"]) for c in channels_of(p)]
        views = {free: c for c, free in buffers_of(p).items()}
        ends = list(enumerate(processes_of(p), place.first_process))
        for c in channels_of(p):
            name, (capacity, latency, response, initial) = next(names)
            producers, consumers = (
                tuple(k for k, e in ends if c.params["name"] in ends_of(e, which)) for which in ("produces", "consumes")
            )
            of = views.get(str(c.params["name"]))
            number = None if of is None else place.first_channel + own.index(of)
            out.append(
                TracedChannel(
                    name, place.name, capacity, latency, response, initial, number, producers, consumers, c.loc
                )
            )
    return tuple(out)


def _runs(given: dict[str, bytes], by_origin: list[int]) -> dict[str, Ints]:
    runs: dict[str, Ints] = {
        name: np.frombuffer(given[name], np.int32).astype(np.int64)
        for name in ("origin", "around", "process", "outermost", "window", "batch")
    }
    runs["place"] = np.array(by_origin, np.int64)[runs.pop("origin")]
    for name in ("begin", "end", "due", "asked", "order", "waited", "stalled", "issue", "ready"):
        runs[name] = np.frombuffer(given[name], np.int64)
    runs["task_start"] = np.frombuffer(given["start"], np.int64)
    since = began(runs)
    runs["start"] = runs.pop("begin") + since
    runs["end"] = np.where(runs["end"] < 0, -1, runs["end"] + since)
    return runs
