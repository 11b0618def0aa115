"""Schedules with seeded faults: what is proved of them holds, and those that stand still say what lets them go on.

Each is safe or not by the model of semantic time, which knows nothing of proofs: a program is compiled, elaborated task by task and
simulated with its sizes and data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import pytest

from models import schedule_time
from property.elaborate import model
from pto_wsp import (
    DeadlockError,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Program,
    Scalar,
    ScheduleError,
    StartPolicy,
    TaskWindow,
    TensorSpec,
    Tile,
    TimingPolicy,
    Workload,
    arch,
    combine,
    item,
    kernel,
    pto,
    sequential,
    workload,
)
from pto_wsp.runtime.verdict import verdict
from pto_wsp.targets.base import get

SCHEDULES = 520
KINDS = ("constant",) * 15 + ("dynamic",) * 3 + ("data",) * 2
SIZES = (1, 4, 9)  # of what is dynamic, or in data
MACHINE = "ascend_a2a3_measured"


@kernel
def copy(x: In[Tile[4, 8, DType.F32]], out: Out[Tile[4, 8, DType.F32]]):
    pto.store(out, x)


@kernel
def count(out: Out[Tile[1, 4, DType.I32]], first: Scalar[DType.I32]):
    pto.store(out, pto.iota((1, 4), axis=1) + first)


@workload
def constant(X, Y, N, n):
    for b in P(n):
        copy[b](x=X[b], out=Y[b])


@workload
def nested(X, Y, N, n):
    for b in P(n):
        for c in P(2):
            copy[b, c](x=X[2 * b + c], out=Y[2 * b + c])


@workload
def behind_a_read(X, Y, N, n):
    """A number that decides nothing is read in between."""
    for b in P(2):
        copy[b](x=X[b], out=Y[b])
    count(out=N[0:1, :], first=1)
    first = item(N[0, 2])
    for b in P(n):
        count[b](out=N[b + 1 : b + 2, :], first=first)


@workload
def as_many_as_computed(X, Y, N, n):
    count(out=N[0:1, :], first=n - 1)
    for b in P(item(N[0, 1])):
        copy[b](x=X[b], out=Y[b])


@workload
def as_many_as_given(X, Y, N, n):
    for b in P(item(N[0, 0])):
        copy[b](x=X[b], out=Y[b])


@workload
def dynamic(X, Y, N, n):
    for b in P(n):
        copy[b](x=X[b], out=Y[b])


ROWS = 24
CONSTANT: tuple[Any, ...] = (constant, nested, behind_a_read)
IN_DATA: tuple[Any, ...] = (as_many_as_computed, as_many_as_given)


@dataclass(frozen=True)
class Part:
    """One loop: its body, how often it runs, and a window of its own, in tasks or bytes."""

    body: Any
    n: int
    window: TaskWindow | None


@dataclass(frozen=True)
class Spec:
    """A schedule over parts. `start`: tasks, 0 for all."""

    kind: str
    parts: tuple[Part, ...]
    window: TaskWindow | None
    start: int
    around: Callable[..., Any]
    also: Callable[[Any], Any]

    def workload(self) -> Workload:
        made = []
        for k, part in enumerate(self.parts):
            n = DenseDyn(None, name=f"n{k}") if part.body is dynamic else part.n
            rows = n if part.body is dynamic else ROWS
            x, y = (TensorSpec((rows, 4, 8), DType.F32, name=f"{name}{k}") for name in "XY")
            w = part.body(x, y, TensorSpec((ROWS, 4), DType.I32, name=f"N{k}"), n)
            made.append(w if part.window is None else w.window(part.window))
        w = self.also(self.around(*made))
        if self.window is not None:
            w = w.window(self.window)
        start = StartPolicy.threshold(self.start) if self.start else StartPolicy.after_orchestration
        return w.task_graph(start=start)

    def sizes(self, n: int) -> dict[str, int]:
        return {f"n{k}": n for k, part in enumerate(self.parts) if part.body is dynamic}

    def with_windows(self, sizes: Mapping[int, int]) -> Spec:
        """With other sizes of these windows, by their place in program order."""
        place, windows = 0, list[TaskWindow | None]()
        for bound in (self.window, *(p.window for p in self.parts)):
            windows.append(bound)
            if bound is not None:
                windows[-1] = replace(bound, size=sizes.get(place, bound.size))
                place += 1
        parts = (replace(p, window=w) for p, w in zip(self.parts, windows[1:], strict=True))
        return replace(self, window=windows[0], parts=tuple(parts))


ALSO: tuple[Callable[[Any], Any], ...] = (
    lambda w: w,
    lambda w: w.streams(2),
    lambda w: w.dispatch(DispatchPolicy.round_robin(3)),
    lambda w: w.timing(TimingPolicy.batched(3)),
    lambda w: w.timing(TimingPolicy.rate_limit(100)),
    lambda w: w.streams(3).timing(TimingPolicy.interleaved(2)),
    lambda w: w.stream_by(lambda t: t.get("b", 0)).timing(TimingPolicy.interleaved(3)),
)


def generated(rng: Random) -> Spec:
    kind = rng.choice(KINDS)

    def window(tasks: int) -> TaskWindow | None:
        if rng.random() < 0.35:
            return None
        size = max(1, tasks + rng.randint(-3, 3))
        return TaskWindow(128 * size + rng.choice((0, 1, 60)), "bytes") if rng.random() < 0.3 else TaskWindow(size)

    def part(only: str) -> Part:
        bodies = {"constant": CONSTANT, "dynamic": (dynamic,), "data": IN_DATA}[only]
        n = rng.randint(1, 10)
        return Part(rng.choice(bodies), n, window(n))

    count_of = rng.randint(1, 3)
    parts = [part("constant") for _ in range(count_of)]
    if kind != "constant":
        parts[rng.randrange(count_of)] = part(kind)
    total = sum(p.n for p in parts)
    start = rng.choice((0, 0, rng.randint(1, 4), rng.randint(2, total + 3)))
    around = rng.choice((combine, sequential))
    return Spec(kind, tuple(parts), window(min(total, start or total)), start, around, rng.choice(ALSO))


def arrays_of(wir: Any, sizes: Mapping[str, int], n: int) -> dict[str, np.ndarray[Any, Any]]:
    env = {f"${name}": size for name, size in sizes.items()}
    types = {v.name: wir.tensor_type(v.name) for v in wir.tensors}
    return {name: np.full([d.value(env) for d in t.shape], n, t.dtype.numpy) for name, t in types.items()}


def deadlocks(w: Workload, sizes: Mapping[str, int], n: int) -> bool:
    """By the model."""
    of = model(w.wir, dict(sizes), arch.get(MACHINE), arrays_of(w.wir, sizes, n), {})
    return "deadlock" in schedule_time.simulate(of.tasks, **of.options)


def unproved(w: Workload, threads: int = 1) -> Program:
    """Its program, whatever can be proved of it."""
    return Program(get("cpu_sim").compile(w.wir, arch.get(MACHINE), {}), threads)


def bound(program: Program, w: Workload, sizes: Mapping[str, int], n: int) -> Program:
    program.set_axis_sizes(sizes)
    return program.bind(arrays_of(w.wir, sizes, n))


def error_of(act: Callable[[], object]) -> DeadlockError | None:
    try:
        act()
    except DeadlockError as e:
        return e
    return None


def places(spec: Spec, error: DeadlockError) -> dict[int, int]:
    """The remedy by place of window; the one that blocks is said without its number."""
    full = next(k for k, w in enumerate(windows_of(spec)) if f"window of {w.size:,} {w.unit}" == error.resource)
    return {full if k == "window" else int(k.removeprefix("window ")): n for k, n in error.remedy.items()}


def windows_of(spec: Spec) -> list[TaskWindow]:
    """In program order."""
    return [w for w in (spec.window, *(p.window for p in spec.parts)) if w is not None]


@pytest.fixture(scope="module")
def specs() -> list[Spec]:
    rng = Random(5)
    found: list[Spec] = []
    while len(found) < SCHEDULES:
        spec = generated(rng)
        if len({(w.size, w.unit) for w in windows_of(spec)}) == len(windows_of(spec)):  # so that a size says which
            found.append(spec)
    return found


def test_what_is_proved_of_schedules_holds(specs: list[Spec]) -> None:
    seen: Counter[str] = Counter()
    for spec in specs:
        w = spec.workload()
        found = verdict(w.wir).kind
        decisive = SIZES[:1] if spec.kind == "constant" else SIZES
        truths = {deadlocks(w, spec.sizes(n), n) for n in decisive}
        assert found != "safe" or truths == {False}, f"accepted: {spec}"
        assert found != "deadlock" or truths == {True}, f"rejected: {spec}"
        refused = False
        try:
            w.compile(arch=MACHINE)
        except ScheduleError as e:
            refused = e.code == "PTO419"
        assert refused == (found == "deadlock")
        seen[f"{spec.kind} {found != 'unknown'}"] += 1
        seen["unsafe" if True in truths else "safe"] += 1
    assert sum(seen[f"{kind} True"] for kind in set(KINDS)) >= 0.8 * len(specs)
    assert seen["constant False"] == 0
    assert seen["constant True"] >= 300
    assert min(seen["dynamic True"] + seen["dynamic False"], seen["data True"] + seen["data False"]) >= 50
    assert 0.4 < seen["unsafe"] / len(specs) < 0.6


def test_what_stands_still_says_what_lets_it_go_on(specs: list[Spec], request: pytest.FixtureRequest) -> None:
    """That a remedy is the smallest takes several runs: of a third of the schedules, and of all with --full."""
    seen: Counter[str] = Counter()
    some = specs if request.config.getoption("--full") else specs[::3]
    for k, spec in enumerate(some):
        n = SIZES[k % len(SIZES)]
        w, sizes, threads = spec.workload(), spec.sizes(n), 1 + k % 3
        program = bound(unproved(w, threads), w, sizes, n)
        error = error_of(program.run)
        assert (error is not None) == deadlocks(w, sizes, n), spec
        if error is None:
            continue
        assert error.occupancy <= error.capacity
        assert error.task.startswith(("copy[", "count["))
        # the largest start that passes
        start = error.alternative["start"]
        assert not stands_still(replace(spec, start=start), n)
        assert stands_still(replace(spec, start=start + 1), n)
        if not error.remedy:  # what comes behind a read is not known
            assert "computed" in {p.body.label.rsplit("_", 1)[-1] for p in spec.parts}
            assert "not known" in str(error.values["smallest window"])
            seen["not known"] += 1
            continue
        found = places(spec, error)
        assert not stands_still(spec.with_windows(found), n), (spec, found)
        for place, size in found.items():
            assert stands_still(spec.with_windows({**found, place: size - 1}), n), (spec, found, place)
        seen[f"{len(found)} windows"] += 1
        if "computed" not in str(spec.parts):
            told = error_of(program.simulate)
            assert told is not None
            assert (told.task, told.resource, told.remedy) == (error.task, error.resource, error.remedy)
    assert seen["1 windows"] > len(some) / 6
    assert seen["2 windows"] > len(some) / 60
    assert seen["not known"] > 0


def stands_still(spec: Spec, n: int) -> bool:
    w = spec.workload()
    return error_of(bound(unproved(w), w, spec.sizes(n), n).run) is not None
