"""A workload written out: every task with what it touches, what it costs and what must come before, one by one.

Slow and obvious on purpose. Dependences are found by comparing sets of elements pair by pair, and structure by comparing
the ways from the root; nothing here uses the analysis or the plan that it is compared with. What control flow reads, the
reference evaluator has computed by then.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pto_wsp import Program
from pto_wsp.arch import Arch
from pto_wsp.arch.cost import kernel_cost
from pto_wsp.ir import evaluate as reference
from pto_wsp.ir.core import (
    PRIMITIVES,
    At,
    Axis,
    Direction,
    DType,
    Eqn,
    Kernel,
    Literal,
    Region,
    RegionType,
    Role,
    RuleCall,
    View,
    Wir,
    task_effects,
)
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.rule import ScopeMemory, TaskFacts, integer_of
from pto_wsp.ir.scalars import index_value
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
    """One task of a run. `reads`: what the workload itself reads since the task before; `numbers`: scalars in scope, and variables of
    loops."""

    eqn: Eqn
    way: tuple[Step, ...]
    touched: tuple[tuple[str, Elements, bool], ...]
    valid: Mapping[str, int]
    reads: tuple[tuple[str, Elements], ...]
    numbers: Mapping[str, Any]


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
        reference._at_once(reference._run(Region((), (eqn,)), frame))

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
            reference._at_once(reference._run(Region((), (eqn,)), frame))
        return Instance(eqn, way, touched, valid, reads, dict(frame.numbers))

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


# what schedules say


@dataclass
class Model:
    """What `schedule_time.simulate` takes."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Memory:
    """What one scope remembers of the tasks that asked it. loads: cycles by pool and lane."""

    position: int = 0
    keys: ScopeMemory = field(default_factory=ScopeMemory)
    loads: dict[tuple[int, int], int] = field(default_factory=dict)


def model(
    wir: Wir, sizes: Mapping[str, int], arch: Arch, arrays: Arrays | None = None, slots: Mapping[int, Any] | None = None
) -> Model:
    """Tasks and options of the model, under all that the workload's scopes say."""
    lowered = canonicalize(expand(canonicalize(wir)))
    kernels = {k.name: k for k in lowered.kernels}
    costs: dict[tuple[str, tuple[tuple[str, int], ...]], int] = {}
    run = instances(lowered, sizes, arrays, slots)
    said = _Said(wir, lowered, arch)
    tasks: list[dict[str, Any]] = []
    for i, task in enumerate(run):
        name = str(task.eqn.params["kernel"])
        key = (name, tuple(task.valid.items()))
        if key not in costs:
            costs[key] = kernel_cost(kernels[name], arch, task.valid)
        deps = [j for j in range(i) if ordered(run[j], task)]
        wait = [j for j in range(i) if task.reads and awaited(run[j], task)]
        facts = TaskFacts(dict(task.numbers), id=i, cost=costs[key], clock_khz=arch.clock_khz)
        facts.unit = 0 if any(PRIMITIVES[e.prim].unit == "cube" for e in walk_of(kernels[name].body)) else 1
        tasks.append({"cost": costs[key], "deps": deps, "wait": wait, **said.of(task, kernels[name], facts)})
    machine = {"issue_cost": arch.issue_cost, "handover": arch.handover, "read_cost": arch.read_cost}
    return Model(tasks, {**machine, **said.options()})


class _Said:
    """What the scopes around tasks say, task after task in program order."""

    def __init__(self, wir: Wir, lowered: Wir, arch: Arch) -> None:
        self.wir, self.arch = lowered, arch
        self.lanes = max(lanes_of(wir, arch).values(), default=arch.lanes)
        self.of_dispatch = lanes_of(lowered, arch)
        self.memories: dict[int, Memory] = {}
        self.windows = innermost(lowered, "window")
        self.timings = innermost(lowered, "timing")
        pools = [e for e in walk_of(lowered.body) if e.prim == "pools"]
        self.pools = [n or self.lanes for n in pools[0].params["lanes"]] if pools else [self.lanes]

    def options(self) -> dict[str, Any]:
        windows = [{k: e.params.get(k) for k in ("tasks", "bytes")} | {"mode": mode_of(e)} for e in self.windows]
        start = [e.params["tasks"] for e in walk_of(self.wir.body) if e.prim == "start"]
        turns = [e.params["turns"] for e in walk_of(self.wir.body) if "turns" in e.params]
        return {
            "interleave": turns[0] if turns else None,
            "pools": dict(enumerate(self.pools)),
            "windows": [{}, *windows],
            "batches": [e.params.get("batch", 1) for e in self.timings],
            "start": (start[0] or "after_orchestration") if start else 0,
        }

    def of(self, task: Instance, kernel: Kernel, facts: TaskFacts) -> dict[str, Any]:
        """What the model of time wants to know of a task, beside its cost and what it waits for."""
        around = {s.eqn.prim: k for k, s in enumerate(task.way)}  # the last of each kind: the innermost

        def scope(prim: str) -> Eqn | None:
            return task.way[around[prim]].eqn if prim in around else None

        def asked(prim: str, param: str, lanes: int) -> int:
            """What the rule of a scope is for this task, which the scope then has had."""
            eqn = task.way[around[prim]].eqn
            memory = self.memories.setdefault(id(eqn), Memory())
            if param not in eqn.params:
                return 0
            names = names_of(self.wir, task, around[prim])
            rule = plain(eqn.params[param], names, kernel.label, memory, pool, lanes)
            env = {**facts.env, **{f"task.{n}": v for n, v in names.items()}}
            about = replace(facts, env=env, position=memory.position, lanes=said_lanes, scope=memory.keys)
            memory.position += 1
            return integer_of(rule, about)

        said_lanes, pool = self.lanes, 0
        pool = asked("pools", "pool", 1) if "pools" in around else 0
        out: dict[str, Any] = {"unit": pool, "lane": facts.id}
        if "ready" in around:
            out["priority"] = asked("ready", "priority", 1)
            out["steal"] = "steal" in task.way[around["ready"]].eqn.params
        if "timing" in around:
            out["distance"] = asked("timing", "distance", 1)
            out["batch"] = place(self.timings, scope("timing"))
        if "window" in around:
            out["window"] = 1 + place(self.windows, scope("window"))
        out["bytes"] = written_bytes(kernel, task)
        if "stream_by" in around or "streams" in around:
            out["stream"] = self.stream(scope("streams"), scope("stream_by"), asked)
        if "dispatch" in around:
            eqn = task.way[around["dispatch"]].eqn
            said_lanes = self.of_dispatch[id(eqn)]
            usable = min(said_lanes, self.pools[pool])
            lane = asked("dispatch", "lane", usable) % usable
            loads = self.memories[id(eqn)].loads
            loads[pool, lane] = loads.get((pool, lane), 0) + facts.cost
            out["lane"] = lane
        return out

    def stream(self, streams: Eqn | None, by: Eqn | None, asked: Any) -> tuple[tuple[int, int], int]:
        if by is not None:
            number = asked("stream_by", "key", 1)
        else:
            memory = self.memories.setdefault(id(streams), Memory())
            number, memory.position = memory.position, memory.position + 1
        return (id(streams), id(by)), number if streams is None else number % int(streams.params["count"])


def walk_of(region: Region) -> Iterator[Eqn]:
    return (e for top in region.eqns for e in top.walk())


def place(scopes: list[Eqn], scope: Eqn | None) -> int:
    return next(k for k, e in enumerate(scopes) if e is scope)


def mode_of(window: Eqn) -> str:
    return str(window.params["mode"]).lower()


def innermost(wir: Wir, prim: str) -> list[Eqn]:
    """The scopes of a kind that some task is directly in, by their first task."""
    found: list[Eqn] = []

    def visit(region: Region, scope: Eqn | None) -> None:
        for eqn in region.eqns:
            if eqn.prim == "task" and scope is not None and all(scope is not e for e in found):
                found.append(scope)
            for r in eqn.regions:
                visit(r, eqn if eqn.prim == prim else scope)

    visit(wir.body, None)
    return found


def lanes_of(wir: Wir, arch: Arch) -> dict[int, int]:
    """The lanes of every dispatch scope, whether it gives some task its lane or not: those it says, else as many as the largest of the
    streams around and inside, else the arch's."""
    out: dict[int, int] = {}

    def visit(region: Region, around: tuple[int, ...]) -> None:
        for eqn in region.eqns:
            if eqn.prim == "dispatch":
                inside = [e.params["count"] for e in eqn.walk() if e.prim == "streams"]
                out[id(eqn)] = eqn.params["lanes"] or min(max((*around, *inside), default=arch.lanes), 65_536)
            more = (eqn.params["count"],) if eqn.prim == "streams" else ()
            for r in eqn.regions:
                visit(r, (*around, *more))

    visit(wir.body, ())
    return out


def names_of(wir: Wir, task: Instance, scope: int) -> dict[str, int]:
    """What a task answers to when the scope at this place of its way asks: its coordinates, then the loops between the two, then places
    in the user's brackets."""
    loops: list[tuple[tuple[str, str], Expr]] = []
    for step in task.way[scope:]:
        axis = step.eqn.params.get("axis")
        if isinstance(axis, Axis):
            variable = step.eqn.regions[0].params[0].name
            if axis.kind == "Sparse" and any(a.kind == "Sparse" and a.name == axis.name for a in wir.axes):
                # the user's variable is the index that the loop reads
                reads = [e for e in step.eqn.regions[0].eqns if e.prim == "item"]
                variable = next(e.outs[0].name for e in reads if e.ins[0].tensor == f"{axis.name}.indices")
            loops.append(((str(step.eqn.params["loop"]), axis.name), var(variable)))
    coords, mapped = task.eqn.params["coords"], task.eqn.params.get("mapped", ())
    in_brackets = [c for k, c in enumerate(coords) if k not in mapped]
    out = {f"i{k}": index_value(c, task.numbers) for k, c in enumerate(in_brackets)}
    out |= {name: index_value(v, task.numbers) for names, v in loops for name in names}
    kept = task.eqn.params.get("names")
    for k, c in enumerate(coords):
        names = [n for both, v in loops if v == c for n in both]
        names += [kept[k]] if kept and kept[k] else []
        if not names and len(c.names()) == 1 and c == var(min(c.names())) and not min(c.names()).startswith("$"):
            called = min(c.names())
            names = [called, re.sub(r"(\.\d+)+$", "", called)]
        out |= dict.fromkeys(names, index_value(c, task.numbers))
    return out


def plain(rule: Any, names: Mapping[str, int], kernel: str, memory: Memory, pool: int, lanes: int) -> Any:
    """The rule without questions about names, and about the loads of the lanes that this task may have."""
    if not isinstance(rule, RuleCall):
        return rule
    if rule.op == "coord":
        return Literal(names[rule.text], DType.I64) if rule.text in names else rule.args[0]
    if rule.op == "kernel_is":
        return Literal(kernel == rule.text, DType.BOOL)
    if rule.op == "least_loaded":
        least = min(range(lanes), key=lambda k: (memory.loads.get((pool, k), 0), k))
        return Literal(least, DType.I64)
    return replace(rule, args=tuple(plain(a, names, kernel, memory, pool, lanes) for a in rule.args))


def written_bytes(kernel: Kernel, task: Instance) -> int:
    """Valid bytes of what a task writes."""
    total = 0
    for param in kernel.params:
        sizes = [n for name, n in task.valid.items() if name.rpartition(".")[0] == param.name]
        if param.direction in (Direction.OUT, Direction.INOUT):
            total += math.prod(sizes) * param.type.dtype.itemsize
    return total


def figures(program: Program) -> dict[str, Any]:
    """What the program says of the semantic time of its last run."""
    got = program.stats.semantic
    names = ("task_count", "lanes", "total_cycles", "scalar_waits", "scalar_wait_cycles", "stalls", "stall_cycles")
    windows = [(w.stalls, w.stall_cycles, w.high_water) for w in got.windows]
    return {n: getattr(got, n) for n in names} | {"windows": windows}


def expected(of: Model, run: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a run of the model."""
    windows = [(w["stalls"], w["stall_cycles"], w["high_water"]) for w in run["windows"]]
    stalls, cycles = (sum(w[k] for w in windows) for k in (0, 1))
    waits = {n: run[n] for n in ("scalar_waits", "scalar_wait_cycles")}
    count = {"task_count": len(of.tasks), "lanes": sum(of.options["pools"].values()), "total_cycles": run["total"]}
    return {**count, **waits, "stalls": stalls, "stall_cycles": cycles, "windows": windows}
