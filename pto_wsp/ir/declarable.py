"""What targets declare whether they do it, and what of it a workload uses."""

from __future__ import annotations

from collections.abc import Iterator

from pto_wsp.errors import Location
from pto_wsp.ir.collectives import COLLECTIVES
from pto_wsp.ir.core import At, Axis, Eqn, Gather, Kernel, RegionType, Role, ScalarType, Slice, Span, TileAt, View, Wir
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import READS

DECLARABLE: dict[str, str] = {
    "dispatch.round_robin": "lanes in turn",
    "dispatch.affinity": "a lane for each key, in order of first appearance",
    "dispatch.hash": "a lane for each key, by its hash",
    "dispatch.dispatch_by": "the lane itself",
    "dispatch.least_loaded": "the lane with the fewest cycles so far",
    "dispatch.work_steal": "lanes in turn, from which idle lanes take",
    "dispatch.registered": "lanes by `register_policy`",
    "streams": "tasks of one of n streams one after another",
    "stream_by": "tasks of one key one after another",
    "timing.immediate": "released when issued",
    "timing.batched": "released n at a time",
    "timing.interleaved": "issue takes one task of each stream in turn",
    "timing.rate_limit": "at most so many issued a millisecond",
    "timing.registered": "cycles to the next issue by `register_policy`",
    "window.tasks.STALL": "at most n tasks in flight: issue waits",
    "window.tasks.ABORT": "at most n tasks in flight: else the run fails",
    "window.tasks.BENCHMARK": "most tasks in flight are recorded",
    "window.bytes.STALL": "at most n bytes in flight: issue waits",
    "window.bytes.ABORT": "at most n bytes in flight: else the run fails",
    "window.bytes.BENCHMARK": "most bytes in flight are recorded",
    "ready.fifo": "the task that became ready first is taken first",
    "ready.work_steal": "idle lanes take from the longest queue",
    "ready.priority": "the task of the highest priority is taken first",
    "ready.longest_processing_time": "the longest task is taken first",
    "ready.registered": "priorities by `register_policy`",
    "start.after_orchestration": "nothing is taken before all is issued",
    "start.threshold": "nothing is taken before n tasks are issued",
    "pools.single": "all lanes are one pool",
    "pools.by_exec_unit": "lanes of cube cores, and of vector cores",
    "pools.custom": "lanes of their own for some tasks",
    "pools.registered": "pools by `register_policy`",
    "deps.infer_tensor_map_exact": "order of tasks that touch a common element",
    "deps.infer_bytes_overlap": "order of tasks whose ranges of bytes overlap",
    "deps.explicit": "order by `after=` alone, verified",
    "deps.hybrid": "order by `after=`, and of tasks that touch a common element",
    "trace.none": "runs record nothing",
    "trace.tasks": "runs record each task",
    "trace.full": "and what it waits for",
    "axes.Dense": "a fixed size",
    "axes.DenseDyn": "a size bound at run time",
    "axes.Tiles": "tiles of an axis, the last one narrower",
    "axes.Range": "numbers; extents that are data",
    "axes.Ragged": "lengths in a tensor",
    "axes.Sparse": "pointers and indices in tensors",
    "axes.Records": "records in program order",
    "loops.parallel": "`P`: independent iterations",
    "loops.seq": "`P.seq`: one iteration after another",
    "loops.while": "`P.seq(while_=)`: while a condition holds",
    "loops.cond": "`P.when`, `P.otherwise`, `P.sel`",
    "parts.combine": "workloads in program order",
    "parts.sequential": "all of a workload before any of the next",
    "after": "tasks named by others: `after=`",
    "views.index": "an index, which drops the dimension",
    "views.slice": "so many elements from a start",
    "views.tile": "a tile of an axis",
    "views.gather": "the elements that an integer view names",
    "scalars.item": "an element, in extents, indices, conditions, arguments",
    "scalars.reduce_sum": "a sum, in the same places",
    "scalars.reduce_max": "the largest element",
    "scalars.reduce_min": "the smallest element",
    "scalars.reduce_any": "whether an element is not 0",
    "scalars.reduce_all": "whether no element is 0",
    "scalars.expressions": "arithmetic of these",
    "scalars.slots": "values kept between reads",
    "tensors.temporary": "memory for as long as the tensor lives",
    "tensors.result": "tensors that the workload returns",
    "kernels.tiles": "parameters that are tiles",
    "kernels.regions": "parameters that are regions, loaded in parts",
    "kernels.scalars": "parameters that are scalars",
    "kernels.fori_loop": "loops with carried values",
    "kernels.cond": "one of two branches",
    "kernels.cpp": "bodies in C++",
    "native": "`compile(native=)`: fused C++ for each kernel",
    "check.races": '`compile(check="races")`',
    "check.bounds": '`compile(check="bounds")`',
    "check.numerics": '`compile(check="numerics")`',
    "resources.task_window": "most tasks issued and not retired",
    "resources.dependence_map": "most entries where conflicts are looked for",
    "resources.edges": "most edges between tasks",
    "resources.arena": "bytes of temporaries",
    "resources.ready_queue": "most tasks that no thread has begun",
    "observe.tracing": "`enable_tracing` and `trace`",
    "observe.replay": "`execute(replay=)`",
    "observe.log": "`PTO_WSP_LOG=task`",
    "on_error.continue": '`execute(on_error="continue")`',
    "csp.processes": "pipelines of processes",
    "csp.channels": "bounded channels between them",
    "csp.timed": "`try_send` and `query`, whose answers are those of semantic time",
    "layouts": "layouts of tensors",
}
"""Schedule directives, then features of the language and of runs; one line each for the table."""

LOOPS = {"parallel_for": "loops.parallel", "seq_for": "loops.seq"}
OF_TASKS: dict[str, str] = {
    **LOOPS,
    "cond": "loops.cond",
    "combine": "parts.combine",
    "sequential": "parts.sequential",
    **{name: f"scalars.{name}" for name in READS},
    "slot_get": "scalars.slots",
    "slot_set": "scalars.slots",
    **dict.fromkeys(("pipeline", "process"), "csp.processes"),
    **dict.fromkeys(("channel", "send", "recv", "consume", "close"), "csp.channels"),
    "try_send": "csp.timed",
    "query": "csp.timed",
    **dict.fromkeys(COLLECTIVES, "layouts"),
}
"""Equations of workloads; a task and what a region yields need nothing more than what they name."""
OF_KERNELS = {"fori_loop": "kernels.fori_loop", "branch": "kernels.cond", "cpp": "kernels.cpp"}
_DIMS = {At: "views.index", Slice: "views.slice", Span: "views.slice", TileAt: "views.tile", Gather: "views.gather"}


def declarables(wir: Wir) -> dict[str, Location | None]:
    """The names of DECLARABLE that a workload uses, in order of appearance, each with the first line that does."""
    out: dict[str, Location | None] = {}
    for name, loc in _all(wir):
        out.setdefault(name, loc)
    return out


def _all(wir: Wir) -> Iterator[tuple[str, Location | None]]:
    if wir.mesh is not None:
        yield "layouts", None
    for v in wir.tensors:
        role = wir.tensor_type(v.name).role
        if role is not Role.GIVEN:
            yield f"tensors.{role.value}", None
    for a in wir.axes:
        yield f"axes.{a.kind}", None
    called = {str(t.params["kernel"]) for t in wir.tasks()}
    for kernel in wir.kernels:
        if kernel.name in called:
            yield from _of_kernel(kernel)
    for top in wir.body.eqns:
        for eqn in top.walk():
            yield from ((name, eqn.loc) for name in _of_equation(eqn))


def _of_kernel(kernel: Kernel) -> Iterator[tuple[str, Location | None]]:
    for p in kernel.params:
        kind = "scalars" if isinstance(p.type, ScalarType) else "regions" if isinstance(p.type, RegionType) else "tiles"
        yield f"kernels.{kind}", p.loc or kernel.loc
    for top in kernel.body.eqns:
        for eqn in top.walk():
            if eqn.prim in OF_KERNELS:
                yield OF_KERNELS[eqn.prim], eqn.loc or kernel.loc


def _of_equation(eqn: Eqn) -> Iterator[str]:
    if eqn.prim in SCOPES:
        yield from _of_scope(eqn)
    elif eqn.prim in OF_TASKS:
        yield OF_TASKS[eqn.prim]
    elif eqn.prim.startswith("s."):
        yield "scalars.expressions"
    axis = eqn.params.get("axis")
    if isinstance(axis, Axis):
        yield f"axes.{axis.kind}"
        if len(eqn.regions) > 1:
            yield "loops.while"
    if eqn.params.get("after"):
        yield "after"
    for x in eqn.ins:
        if isinstance(x, View):
            yield from _of_view(x)


def _of_view(view: View) -> Iterator[str]:
    for d in view.dims:
        yield _DIMS[type(d)]
    for index in view.index_views():
        yield from _of_view(index)


def _of_scope(eqn: Eqn) -> Iterator[str]:
    p = eqn.params
    match eqn.prim:
        case "window":
            yield f"window.{'tasks' if 'tasks' in p else 'bytes'}.{p['mode']}"
        case "start":
            yield "start.threshold" if p["tasks"] else "start.after_orchestration"
        case "deps":
            yield f"deps.{p['mode']}"
        case "trace":
            yield f"trace.{p['level']}"
        case "dispatch" | "timing" | "ready" | "pools":
            name = f"{eqn.prim}.{p['policy']}"
            yield name if name in DECLARABLE else f"{eqn.prim}.registered"
            if _steals_in_turn(eqn):
                yield "dispatch.work_steal"
        case _:
            yield eqn.prim


def _steals_in_turn(eqn: Eqn) -> bool:
    """Whether this is what `DispatchPolicy.work_steal` says: stealing of what goes round the lanes."""
    inner = eqn.regions[0].eqns[0] if eqn.regions[0].eqns else None
    return "steal" in eqn.params and inner is not None and inner.params.get("policy") == "round_robin"
