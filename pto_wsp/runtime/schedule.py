"""The schedule of a run: which worker ran each task, and in which order; saved, and forced upon another run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pto_wsp.artifact.artifact import replace_file
from pto_wsp.errors import ArtifactError, BindError, ExecutionError, PtoError, here
from pto_wsp.runtime.bindings import Bindings
from pto_wsp.runtime.core import core
from pto_wsp.runtime.views.columns import Columns

_FORMAT = "pto_wsp schedule 1"
_FIELDS = {"format": str, "program": str, "sizes": dict, "axes": str, "sequences": list}
_DONE = 1  # of OUTCOMES


@dataclass(frozen=True)
class Origin:
    """What a run was of: the hash of its program, the sizes, and a digest of the lengths, pointers and indices of its axes, and of the
    times of its channels where they are not the program's."""

    program: str
    sizes: Mapping[str, int]
    axes: str


def origin(program: str, bound: Bindings, times: Mapping[int, tuple[int, int]]) -> Origin:
    """That of a run that starts now. times: of channels, by number, where they are others."""
    digest = hashlib.sha256()
    for name in sorted(bound.hidden & set(bound.arrays)):
        digest.update(f"{name}\0".encode())
        digest.update(np.ascontiguousarray(bound.arrays[name]).tobytes())
    if times:
        digest.update(repr(sorted(times.items())).encode())
    return Origin(program, dict(bound.sizes), digest.hexdigest())


class RunSchedule:
    """Which worker ran each task of a run, and in which order; `trace.schedule()` gives it.

        program.enable_tracing().run()
        program.trace.schedule().save("run.json")
        program.run(replay=RunSchedule.load("run.json"))

    sequences: for each worker an array of its tasks, as their places in program order, in the order in which it ran them. Workers
    stand in the order in which they began.
    """

    def __init__(self, origin: Origin, sequences: Sequence[npt.ArrayLike] = ()) -> None:
        """Raises ArtifactError (PTO765) where `sequences` do not have each task once, or a worker has none, and for what is no Origin."""
        if not isinstance(origin, Origin):
            raise _damaged(f"it says of no run where it is from: {repr(origin)[:80]}")
        self.origin = origin
        try:
            self.sequences = tuple(_positions(s) for s in sequences)
            order = np.concatenate([np.zeros(0, np.uint64), *self.sequences])
            worker = np.zeros(len(order), np.uint32)
            for w, own in enumerate(self.sequences):
                worker[own] = w
            self.forced: Any = core().Replay(worker, order)  # as the core has it
            if len(self.sequences) > 1 and not all(len(own) for own in self.sequences):
                raise ValueError("each worker must have a task")
        except (ValueError, TypeError, IndexError, OverflowError) as e:
            raise _damaged(e) from e

    def __reduce__(self) -> tuple[object, ...]:
        return RunSchedule, (self.origin, self.sequences)

    @property
    def workers(self) -> int:
        """How many threads ran tasks."""
        return len(self.sequences)

    def __len__(self) -> int:
        return sum(map(len, self.sequences))

    def __repr__(self) -> str:
        return f"RunSchedule({len(self)} tasks, {self.workers} workers, program {self.origin.program[:12]})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all. Raises ArtifactError."""
        _need_path("written to", path)
        record = {"format": _FORMAT, **asdict(self.origin), "sequences": [own.tolist() for own in self.sequences]}
        try:
            replace_file(Path(os.path.realpath(path)), json.dumps(record).encode())
        except (OSError, ValueError) as e:
            raise ArtifactError(
                *("PTO603", f"cannot write {os.fspath(path)!r}"),
                values={"because": e},
                loc=here(),
                fix="give the path of a file that can be written, on a disk with room",
            ) from e

    @staticmethod
    def load(path: str | os.PathLike[str]) -> RunSchedule:
        """Read what `save` wrote. Raises ArtifactError."""
        _need_path("read from", path)
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError) as e:
            raise ArtifactError(
                *("PTO603", f"cannot read {os.fspath(path)!r}"),
                values={"because": e},
                loc=here(),
                fix="give the path of a saved schedule",
            ) from e
        try:
            record = json.loads(data)
            if not isinstance(record, dict) or record.keys() != _FIELDS.keys() or record["format"] != _FORMAT:
                raise ValueError("it has another format")
            if not all(isinstance(record[name], kind) for name, kind in _FIELDS.items()):
                raise ValueError("its parts have wrong types")
        except (ValueError, RecursionError) as e:
            raise _damaged(e) from e
        return RunSchedule(Origin(record["program"], record["sizes"], record["axes"]), record["sequences"])


def _need_path(what: str, path: object) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise ArtifactError(
            *("PTO603", f"a schedule is {what} a file"),
            values={"got": repr(path)[:80]},
            loc=here(),
            fix='give the path of a file: "run.json"',
        )


def _positions(tasks: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    given = np.asarray(tasks)
    if given.ndim != 1 or (len(given) and given.dtype.kind not in "iu"):
        raise ValueError("a worker's tasks are places in program order")
    if len(given) and int(given.min()) < 0:
        raise ValueError("a place in program order is negative")
    own = given.astype(np.uint64)
    own.flags.writeable = False
    return own


def schedule_of(c: Columns, made: Origin | None) -> RunSchedule:
    """The schedule of a traced run. Raises ExecutionError (PTO764) where not every task was kept and done."""
    lost = int((c.arrays["outcome"] != _DONE).sum())
    if made is None or c.dropped or lost:
        why = {"tasks that did not run": lost, "tasks beyond the limit of enable_tracing": c.dropped}
        raise ExecutionError(
            *("PTO764", "a run has a schedule where each of its tasks was kept and done"),
            values={name: n for name, n in why.items() if n},
            loc=here(),
            fix="trace a run that ends well, with a limit of at least as many tasks as it has",
        )
    # Where two began in one nanosecond, program order has what depends on another behind it.
    order = np.lexsort((np.arange(len(c)), c.arrays["ended_ns"], c.arrays["started_ns"]))
    thread = c.arrays["thread"][order]
    threads, first = np.unique(thread, return_index=True)
    return RunSchedule(made, [order[thread == t] for t in threads[np.argsort(first)]])


def check_replay(schedule: RunSchedule, now: Origin) -> None:
    """Raises BindError (PTO766) where a schedule is that of another program, or of other sizes."""
    was = schedule.origin
    differs: dict[str, object] = {}
    if was.program != now.program:
        differs = {"program": f"{now.program[:12]}, not {was.program[:12]}"}
    elif dict(was.sizes) != dict(now.sizes):
        names = sorted(n for n in {*was.sizes, *now.sizes} if was.sizes.get(n) != now.sizes.get(n))
        differs = {n: f"{now.sizes.get(n)}, not {was.sizes.get(n)}" for n in names}
    elif was.axes != now.axes:
        differs = {"axes": "other lengths, pointers or indices, or times of channels"}
    if differs:
        raise BindError(
            *("PTO766", "the schedule is of another run"),
            values=differs,
            loc=here(),
            fix="replay the schedule of a run of this program, with the same sizes",
        )


def replay_failure(numbers: list[int]) -> PtoError:
    """A run did not follow its schedule (csrc/include/pto_wsp/replay.hpp says what the numbers are)."""
    why, a, b = numbers
    if why == 3:
        return ArtifactError(
            *("PTO765", "the schedule is not in an order in which tasks can run"),
            values={
                "worker": a,
                "its next task": f"the one at place {b} of its sequence, from 0, which needs others before it",
            },
            fix="replay a schedule as trace.schedule() gives it, with no smaller resources",
        )
    what, has = ("threads", "threads that the system gives") if why == 2 else ("tasks", "tasks of the run")
    return ExecutionError(
        *("PTO767", f"the run has other {what} than the schedule"),
        values={has: a if why else f"{a} or more", f"{what} of the schedule": b},
        fix="give the workload the data of the run that was recorded"
        if why != 2
        else "let the process have more threads",
    )


def _damaged(why: object) -> ArtifactError:
    return ArtifactError(
        *("PTO765", "a schedule that is damaged, or none"),
        values={"because": why},
        loc=here(),
        fix="trace a run again, and save its schedule",
    )
