"""A workload written out: every task with what it touches, what it costs and what must come before, one by one.

Slow and obvious on purpose. Dependences are found by comparing boxes of elements pair by pair, and structure by comparing
the ways from the root; nothing here uses the analysis or the plan that it is compared with.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pto_wsp.arch import Arch
from pto_wsp.ir.core import At, Axis, Eqn, In, Literal, Policy, Region, Slice, TileAt, Var, View, Wir, task_effects
from pto_wsp.ir.expr import Expr
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.expand import expand
from pto_wsp.targets.cpu_sim.kernels import kernel_cost

Env = dict[str, int]
CONDITIONS = {
    **{f"s.{name}": getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "s.and": operator.and_,
    "s.or": operator.or_,
    "s.not": operator.not_,
}
Box = tuple[tuple[int, int], ...]  # first and one past the last element of each dimension


@dataclass(frozen=True)
class Step:
    """One level on the way from the root to a task: the equation, and which of its regions or iterations."""

    eqn: Eqn
    number: int


@dataclass(frozen=True)
class Instance:
    """One task of a run."""

    eqn: Eqn
    way: tuple[Step, ...]
    touched: tuple[tuple[str, Box, bool], ...]
    valid: Mapping[str, int]


def instances(wir: Wir, sizes: Mapping[str, int]) -> list[Instance]:
    """Every task in program order."""
    return list(_walk(wir, wir.body, {f"${n}": v for n, v in sizes.items()}, ()))


def _walk(wir: Wir, region: Region, env: Env, way: tuple[Step, ...]) -> Iterator[Instance]:
    env = dict(env)
    for eqn in region.eqns:
        axis = eqn.params.get("axis")
        if eqn.prim in CONDITIONS:
            env[eqn.outs[0].name] = CONDITIONS[eqn.prim](*(_value(x, env) for x in eqn.ins))
            continue
        if eqn.prim == "cond":
            branch = 0 if _value(eqn.ins[0], env) else 1
            yield from _walk(wir, eqn.regions[branch], env, (*way, Step(eqn, branch)))
            continue
        if eqn.prim == "task":
            yield _instance(wir, eqn, env, way)
        elif isinstance(axis, Axis):
            (inner,) = eqn.regions
            for i in range(axis.extent.value(env)):
                yield from _walk(wir, inner, {**env, inner.params[0].name: i}, (*way, Step(eqn, i)))
        else:
            for k, inner in enumerate(eqn.regions):
                yield from _walk(wir, inner, env, (*way, Step(eqn, k)))


def _value(x: In, env: Env) -> int:
    if isinstance(x, Var):
        return env[x.name]
    return int(x.value) if isinstance(x, Literal) else x.value(env) if isinstance(x, Expr) else 0


def _instance(wir: Wir, eqn: Eqn, env: Env, way: tuple[Step, ...]) -> Instance:
    touched = tuple((v.tensor, _box(v, env), writes) for _, v, writes in task_effects(wir, eqn))
    kernel = wir.kernel(str(eqn.params["kernel"]))
    valid: dict[str, int] = {}
    for param, arg in zip(kernel.params, eqn.ins, strict=True):
        if isinstance(arg, View):
            kept = [
                last - first for (first, last), d in zip(_box(arg, env), arg.dims, strict=True) if not isinstance(d, At)
            ]
            valid[f"{param.name}.rows"], valid[f"{param.name}.cols"] = kept
    return Instance(eqn, way, touched, valid)


def _box(view: View, env: Env) -> Box:
    out: list[tuple[int, int]] = []
    for d in view.dims:
        if isinstance(d, At):
            i = d.index.value(env)
            out.append((i, i + 1))
        elif isinstance(d, Slice):
            i = d.start.value(env)
            out.append((i, i + d.length))
        elif isinstance(d, TileAt):
            i = d.start.value(env)
            out.append((i, min(i + d.size, d.limit.value(env))))
        else:
            raise NotImplementedError(f"{d} takes no box of elements")
    return tuple(out)


def conflict(a: Instance, b: Instance) -> bool:
    """Whether two tasks touch a common element of one tensor, and at least one writes it."""
    return any(
        s == t and (writes or overwrites) and all(max(p[0], q[0]) < min(p[1], q[1]) for p, q in zip(x, y, strict=True))
        for s, x, writes in a.touched
        for t, y, overwrites in b.touched
    )


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


def model_tasks(wir: Wir, sizes: Mapping[str, int], arch: Arch) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What `semantic_time.simulate` takes: tasks and options, for a workload with at most one window around everything."""
    lanes = max((p.lanes for p in policies(wir)), default=arch.lanes)
    wir = canonicalize(wir)
    lowered = canonicalize(expand(wir))
    costs = {k.name: kernel_cost(k, arch) for k in lowered.kernels}
    run = instances(wir, sizes)
    counts: dict[int, int] = {}
    tasks: list[dict[str, Any]] = []
    for i, task in enumerate(run):
        inner = [s.eqn for s in task.way if s.eqn.prim == "dispatch"][-1:]
        lane = i % lanes
        for scope in inner:
            policy = scope.params["policy"]
            assert isinstance(policy, Policy)
            lane = counts.get(id(scope), 0) % policy.lanes
            counts[id(scope)] = counts.get(id(scope), 0) + 1
        cost = costs[str(task.eqn.params["kernel"])].value(task.valid)
        tasks.append({"cost": cost, "deps": [j for j in range(i) if ordered(run[j], task)], "lane": lane})
    windows = [e.params["tasks"] for top in wir.body.eqns for e in top.walk() if e.prim == "window"]
    options = {"lanes": lanes, "issue_cost": arch.issue_cost, "handover": arch.handover}
    return tasks, {**options, "window": windows[0] if windows else 65_536}


def policies(wir: Wir) -> Iterator[Policy]:
    """The policies of every dispatch scope of the workload, whether it gives some task its lane or not."""
    for top in wir.body.eqns:
        for eqn in top.walk():
            policy = eqn.params.get("policy")
            if isinstance(policy, Policy):
                yield policy
