"""Semantic time without running anything, what takes it, and the scalars that this needs of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import BindError, DeadlockError, here
from pto_wsp.ir.core import Eqn, Region, Wir
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.text import show
from pto_wsp.runtime.bindings import Bindings
from pto_wsp.runtime.core import core
from pto_wsp.runtime.deadlock import tell_remedy
from pto_wsp.runtime.explain import Explanation, explain, lacks
from pto_wsp.runtime.failure import to_error
from pto_wsp.runtime.pipelines import buffer_channels
from pto_wsp.runtime.throttle import throttling
from pto_wsp.runtime.trace import columns_of

KEPT = 2**20
"""Numbers that runs keep of what their control reads."""

MOST_TASKS = 10**8
"""Tasks that a trace keeps at most."""


@dataclass(frozen=True, eq=False)
class Scalars:
    """What the control of a workload has read, in one run, from tensors that its tasks write: `program.scalars`.

    numbers   in program order: the value of each scalar that was read, as 64 bits with a sign, and each index of each gather
    of        the program, without its schedule, and the sizes, slots and values of axes that the run had
    """

    numbers: np.ndarray[Any, np.dtype[np.int64]]
    of: str

    def __post_init__(self) -> None:
        """Raises BindError for numbers that are no row of int64."""
        n: object = self.numbers
        if not isinstance(n, np.ndarray) or n.dtype != np.int64 or n.ndim != 1:
            raise BindError(
                *("PTO705", "the scalars of a run are a row of int64"),
                values={"got": repr(n)[:80]},
                loc=here(),
                fix="give program.scalars, after a run",
            )

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return f"<scalars of a run: {len(self)} numbers>"


@dataclass(frozen=True)
class Given:
    """What decides, beside the numbers that are read, what a run of a program does."""

    sizes: dict[str, int]
    slots: dict[int, int]
    arrays: dict[str, np.ndarray[Any, Any]]

    @staticmethod
    def of(bound: Bindings) -> Given:
        """What is bound just now. Arrays: the values of axes."""
        own = (t for a in bound.wir.axes for t in a.tensors if t not in bound.written and t in bound.arrays)
        return Given(dict(bound.sizes), dict(bound.slots), {t: bound.arrays[t] for t in own})

    def digest(self, wir: Wir) -> str:
        """Of this and a workload, whose schedule does not matter: its numbers are the same under each."""
        found = sha256(show(_without_schedule(wir)).encode())
        found.update(repr((sorted(self.sizes.items()), sorted(self.slots.items()))).encode())
        for name, a in sorted(self.arrays.items()):
            found.update(name.encode() + np.ascontiguousarray(a, np.int64).tobytes())
        return found.hexdigest()


def _without_schedule(wir: Wir) -> Wir:
    def eqns(region: Region) -> Iterator[Eqn]:
        for e in region.eqns:
            if e.prim in SCOPES:
                yield from (x for x in eqns(e.regions[0]) if x.prim != "yield")
            else:
                yield replace(e, regions=tuple(replace(r, eqns=tuple(eqns(r))) for r in e.regions))

    return replace(wir, body=replace(wir.body, eqns=tuple(eqns(wir.body))))


def scalars_of(record: tuple[bytes, bool] | None, given: Given, wir: Wir) -> Scalars | None:
    """The scalars of a run, from what the core has kept; None where it has not kept all."""
    numbers, whole = (b"", True) if record is None else record
    return Scalars(np.frombuffer(numbers, np.int64), given.digest(wir)) if whole else None


def dry_run(plan: Any, bound: Bindings, numbers: np.ndarray[Any, Any] | None) -> Any:
    """The core's dry run of a plan with what is bound: all sizes, and the tensors that control reads and no task writes. Raises
    BindError where one is missing."""
    bound.check_control(set(plan.control()))
    sizes = [bound.sizes[n] for n in bound.wir.symbols]
    slots = [(i, bound.slots.get(i, 0)) for i in bound.slot_types]
    dry = core().DryRun(plan, sizes, slots, None if numbers is None else numbers.tolist(), False)
    for name, a in bound.arrays.items():
        dry.bind(bound.order.index(name), a.ctypes.data, list(a.shape), list(a.strides))
    return dry


def numbers_of(scalars: object, bound: Bindings) -> np.ndarray[Any, Any] | None:
    """The numbers of `program.simulate(scalars=...)`. Raises BindError for what is none, and for those of something else."""
    if scalars is None:
        return None
    if not isinstance(scalars, Scalars):
        raise BindError(
            *("PTO705", "simulate takes scalars of a run"),
            values={"got": repr(scalars)[:80]},
            loc=here(),
            fix="give program.scalars, after a run",
        )
    if scalars.of != Given.of(bound).digest(bound.wir):
        raise BindError(
            *("PTO751", "these scalars are of another program, or of a run with other sizes"),
            values={"scalars": len(scalars)},
            loc=here(),
            fix="run this program with these sizes once, and give its program.scalars",
        )
    return scalars.numbers


def simulated(artifact: Artifact, dry: Any, trace_limit: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of a dry run, and with a limit its trace, as the core has them. Raises what a run would raise before any kernel
    fails, and UnsupportedError where it comes to a number that it has not been given."""
    figures, failure, record = dry.run(trace_limit)
    if failure is not None:
        error = to_error(artifact, failure)
        if isinstance(error, DeadlockError):
            tell_remedy(error, artifact.wir, failure, dry.remedy(buffer_channels(artifact.wir)))
        error.loc = error.loc or here()
        raise error
    return figures, record


def explained(artifact: Artifact, dry: Any, limit: int) -> Explanation:
    """Where the cycles of a dry run go. Raises what `simulated` does, and ExecutionError (PTO764) where it has more than `limit` tasks."""
    _, record = simulated(artifact, dry, limit)
    enough = record["enough"]
    fix = f"program.explain(limit={enough})" if enough <= MOST_TASKS else "explain it with smaller sizes"
    c = columns_of(record, artifact)
    return explain(c, fix, throttling(dry, c) if c.pipes.places and not lacks(c) else None)
