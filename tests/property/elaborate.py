"""A workload written out: every task with what it touches, what it costs and what must come before, one by one.

Slow and obvious on purpose. Dependences are found by comparing sets of elements pair by pair, and structure by comparing
the ways from the root; nothing here uses the analysis or the plan that it is compared with. What control flow reads, the
reference evaluator has computed by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.arch.cost import kernel_cost
from pto_wsp.ir import evaluate as reference
from pto_wsp.ir.core import At, Axis, Eqn, Region, RegionType, Role, View, Wir, task_effects
from pto_wsp.ir.tasks import READS
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.expand import expand

Arrays = Mapping[str, np.ndarray[Any, Any]]
Elements = tuple[frozenset[int], ...]  # the indices taken of each dimension


@dataclass(frozen=True)
class Step:
    """One level on the way from the root to a task: the equation, and which of its regions or iterations."""

    eqn: Eqn
    number: int


@dataclass(frozen=True)
class Instance:
    """One task of a run. `reads`: what the workload itself reads since the task before."""

    eqn: Eqn
    way: tuple[Step, ...]
    touched: tuple[tuple[str, Elements, bool], ...]
    valid: Mapping[str, int]
    reads: tuple[tuple[str, Elements], ...]


def instances(
    wir: Wir, sizes: Mapping[str, int], arrays: Arrays | None = None, slots: Mapping[int, Any] | None = None
) -> list[Instance]:
    """Every task in program order. Without arrays no task runs: control flow must not depend on data."""
    return list(_Walk(wir, sizes, arrays, slots or {}).region(wir.body, (), None))


class _Walk:
    def __init__(self, wir: Wir, sizes: Mapping[str, int], arrays: Arrays | None, slots: Mapping[int, Any]) -> None:
        self.wir = wir
        self.runs = arrays is not None
        self.reads: list[tuple[str, Elements]] = []
        self.frame = reference._Frame(wir, dict.fromkeys(range(64), 0) | dict(slots))
        self.frame.numbers = {f"${n}": v for n, v in sizes.items()}
        for v in wir.tensors:
            t = wir.tensor_type(v.name)
            shape = tuple(d.value(self.frame.numbers) for d in t.shape)
            given = arrays is not None and t.role is Role.GIVEN
            fresh = np.zeros(shape, t.dtype.numpy) if self.runs else np.broadcast_to(t.dtype.numpy.type(0), shape)
            self.frame.arrays[v.name] = arrays[v.name].copy() if given and arrays is not None else fresh

    def region(self, region: Region, way: tuple[Step, ...], frame: Any) -> Iterator[Instance]:
        frame = frame or self.frame
        for eqn in region.eqns:
            if eqn.prim == "task":
                yield self.task(eqn, way, frame)
            elif isinstance(eqn.params.get("axis"), Axis):
                yield from self.loop(eqn, way, frame)
            elif eqn.prim == "cond":
                branch = 0 if frame.value(eqn.ins[0]) else 1
                yield from self.region(eqn.regions[branch], (*way, Step(eqn, branch)), frame.inner())
            elif eqn.regions:
                for k, inner in enumerate(eqn.regions):
                    yield from self.region(inner, (*way, Step(eqn, k)), frame.inner())
            else:
                self.step(eqn, frame)

    def step(self, eqn: Eqn, frame: Any) -> None:
        if eqn.prim in READS:
            (view,) = eqn.ins
            assert isinstance(view, View)
            self.reads.append((view.tensor, self.elements(view, frame)))
        reference._step(eqn, frame)

    def loop(self, eqn: Eqn, way: tuple[Step, ...], frame: Any) -> Iterator[Instance]:
        axis = eqn.params["axis"]
        assert isinstance(axis, Axis)
        body, *condition = eqn.regions
        for i in range(axis.extent.value(frame.numbers)):
            inner = frame.inner()
            inner.numbers[body.params[0].name] = i
            asked = inner.inner()
            for e in (e for r in condition for e in r.eqns):
                if e.prim != "yield":
                    self.step(e, asked)
                elif not asked.value(e.ins[0]):
                    return
            yield from self.region(body, (*way, Step(eqn, i)), inner)

    def task(self, eqn: Eqn, way: tuple[Step, ...], frame: Any) -> Instance:
        touched = tuple((v.tensor, self.elements(v, frame), writes) for _, v, writes in task_effects(self.wir, eqn))
        kernel = self.wir.kernel(str(eqn.params["kernel"]))
        valid: dict[str, int] = {}
        for param, arg in zip(kernel.params, eqn.ins, strict=True):
            if not isinstance(arg, View):
                valid[param.name] = reference._scalar_argument(param, arg, frame).item()
            else:
                self.reads += [(v.tensor, self.elements(v, frame)) for v in arg.index_views()]
                sizes = [len(list(part)) for part in reference._elements(frame.arrays, arg, frame.numbers)]
                kept = [n for n, d in zip(sizes, arg.dims, strict=True) if not isinstance(d, At)]
                of = range(len(kept)) if isinstance(param.type, RegionType) else ("rows", "cols")
                valid |= {f"{param.name}.{k}": n for k, n in zip(of, kept, strict=True)}
        reads, self.reads = tuple(self.reads), []
        if self.runs:
            reference._step(eqn, frame)
        return Instance(eqn, way, touched, valid, reads)

    def elements(self, view: View, frame: Any) -> Elements:
        return tuple(frozenset(part) for part in reference._elements(frame.arrays, view, frame.numbers))


def meet(a: Elements, b: Elements) -> bool:
    """Whether two views of one tensor have a common element."""
    return all(x & y for x, y in zip(a, b, strict=True))


def conflict(a: Instance, b: Instance) -> bool:
    """Whether two tasks touch a common element of one tensor, and at least one writes it."""
    return any(
        s == t and (writes or overwrites) and meet(x, y) for s, x, writes in a.touched for t, y, overwrites in b.touched
    )


def awaited(a: Instance, b: Instance) -> bool:
    """Whether the workload reads, just before b, what a wrote."""
    return any(s == t and writes and meet(x, y) for s, x, writes in a.touched for t, y in b.reads)


def parted(a: Instance, b: Instance) -> Step | None:
    """Where the way of the earlier task a leaves that of b: the level at which they differ, None for one body."""
    for p, q in zip(a.way, b.way, strict=False):
        if p.eqn is not q.eqn:
            return None
        if p.number != q.number:
            return p
    return None


def ordered(a: Instance, b: Instance) -> bool:
    """Whether a must be complete before b, which follows it in program order, is ready."""
    level = parted(a, b)
    by_structure = level is not None and level.eqn.prim in ("seq_for", "sequential")
    return by_structure or conflict(a, b)


@dataclass
class Model:
    """What `semantic_time.simulate` takes."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


def model(
    wir: Wir, sizes: Mapping[str, int], arch: Arch, arrays: Arrays | None = None, slots: Mapping[int, Any] | None = None
) -> Model:
    """Tasks and options of the model, for a workload with at most one window around everything."""
    lanes = max(lanes_of(wir), default=arch.lanes)
    lowered = canonicalize(expand(canonicalize(wir)))
    kernels = {k.name: k for k in lowered.kernels}
    costs: dict[tuple[str, tuple[tuple[str, int], ...]], int] = {}
    run = instances(lowered, sizes, arrays, slots)
    counts: dict[int, int] = {}
    tasks: list[dict[str, Any]] = []
    for i, task in enumerate(run):
        inner = [s.eqn for s in task.way if s.eqn.prim == "dispatch"][-1:]
        lane = i % lanes
        for scope in inner:
            lane = counts.get(id(scope), 0) % int(scope.params["lanes"])
            counts[id(scope)] = counts.get(id(scope), 0) + 1
        name = str(task.eqn.params["kernel"])
        key = (name, tuple(task.valid.items()))
        if key not in costs:
            costs[key] = kernel_cost(kernels[name], arch, task.valid)
        cost = costs[key]
        deps = [j for j in range(i) if ordered(run[j], task)]
        wait = [j for j in range(i) if task.reads and awaited(run[j], task)]
        tasks.append({"cost": cost, "deps": deps, "lane": lane, "wait": wait})
    windows = [e.params["tasks"] for top in wir.body.eqns for e in top.walk() if e.prim == "window"]
    machine = {"issue_cost": arch.issue_cost, "handover": arch.handover, "read_cost": arch.read_cost}
    return Model(tasks, {"lanes": lanes, **machine, "window": windows[0] if windows else 65_536})


def lanes_of(wir: Wir) -> Iterator[int]:
    """The lanes of every dispatch scope of the workload, whether it gives some task its lane or not."""
    return (int(e.params["lanes"]) for top in wir.body.eqns for e in top.walk() if e.prim == "dispatch")
