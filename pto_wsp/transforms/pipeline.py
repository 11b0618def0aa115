"""pipeline and pipeline_loop: stages that run beside each other, joined by channels with n buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pto_wsp.errors import ScheduleError, TraceError, here, no_options
from pto_wsp.ir.conditions import Names
from pto_wsp.ir.conflict import Access, Verdict, question
from pto_wsp.ir.core import Eqn, Region, View, Wir
from pto_wsp.ir.dependence import accesses
from pto_wsp.ir.expr import var
from pto_wsp.ir.processes import ENDS
from pto_wsp.ir.tasks import LOOPS, PARTS
from pto_wsp.trace.builder import current_workload
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.loops import Place, axis, find, label, refuse, refuse_while, variable, without
from pto_wsp.transforms.policies import positive
from pto_wsp.transforms.stages import Stage, first_kernel, staged, touch

F = TypeVar("F", bound=TracedFunction)
W = TypeVar("W", bound=Traced | TracedFunction)
_MOST = 2**20  # buffers


def pipeline_loop(*, loop: str = "", depth: int = 2, **options: object) -> Callable[[W], W]:
    """`pipeline_loop(loop="i", depth=2)(w)`: the statements in the body of a loop become processes that run beside each other.

        before:  parallel_for i in i: Range(8) {          after:  a process for each statement, the first a loop over i, each other
                   task load[i](x=X[i], y=T[i])                   one for each token that it gets from the one before
                   task store[i](x=T[i], y=Y[i])
                 }

    Each task, loop or branch directly in the body is a stage, with the scalars before it; stages of one iteration come in order, each
    takes its iterations in order, and so several iterations are under way. depth: how many tokens are between two stages; memory that
    one stage writes for later ones of the same iteration alone becomes so many buffers, which the writer takes and the last user gives
    back. Scalars go with the tokens. Results stay the same; a pipeline is one task of what is around it.

    Raises ScheduleError for a loop that is not there or of which there are several, for one stage alone, for loops with a `while_`
    condition, and where a stage must come before what an earlier one does in a later iteration, or where that is not known; it says
    which tasks, of what, and how many iterations later.
    """
    no_options("pipeline_loop", options, "loop, depth")
    count = positive("pipeline_loop", "depth", depth, _MOST)

    def apply(w: Traced) -> Traced:
        return w.with_wir(_piped_loop(w.wir, loop, count))

    return transformation("pipeline_loop", apply)


def _piped_loop(wir: Wir, loop: str, depth: int) -> Wir:
    what = "pipeline_loop"
    place = find(wir, what, loop)
    refuse_while(what, place.loop)
    groups = _statements(place.loop.regions[0].eqns)
    if len(groups) < 2:
        raise refuse(
            what,
            f"the body of the loop over {label(place.loop)} is one stage",
            place.loop,
            "name a loop with several tasks, loops or branches directly in its body; of nested loops, the inner one",
        )
    return staged(what, wir, place, [Stage(first_kernel(wir, g), g) for g in groups], [depth] * (len(groups) - 1))


def _statements(eqns: Sequence[Eqn]) -> list[tuple[Eqn, ...]]:
    """A body as stages: each statement with the scalars before it; or the parts of the only statement that has parts."""
    if len(eqns) == 1 and eqns[0].prim in PARTS:
        return [r.eqns for r in eqns[0].regions if r.eqns]
    out: list[tuple[Eqn, ...]] = []
    scalars: list[Eqn] = []
    for e in eqns:
        scalars.append(e)
        if e.regions or e.prim == "task" or e.prim in ENDS:
            out.append(tuple(scalars))
            scalars = []
    if scalars and out:
        out[-1] += tuple(scalars)
    return out


def pipeline(*stages: F, depth: int = 2, **options: object) -> F:
    """The workload function that is `f`, then `g`, then `h`, each as a process beside the others: `pipeline(f, g, h, depth=2)`.

        y = f(x); z = g(y); return h(z)                  with a loop over the same tiles in each

    What a stage returns is what the next is called with: a tensor, or a tuple of arguments; the first has the pipeline's parameters, the
    last gives its results. Iteration i of each stage comes behind iteration i of the one before, so each must be one loop of the same
    extent, and need of the others what their iterations up to its own have done. depth: how many tokens are between two stages; a
    tensor of which an iteration uses one part alone, and nobody else, becomes so many parts. A pipeline among the stages is its stages,
    with the depths that it has.

    Raises TraceError for what is no workload function, and while it is traced ScheduleError where a stage is no such loop, or needs what
    an earlier one does later; it says which tasks, and of what.
    """
    no_options("pipeline", options, "depth")
    count = positive("pipeline", "depth", depth, _MOST)
    if len(stages) < 2:
        raise TraceError(
            "PTO871",
            f"pipeline of {len(stages)} functions",
            loc=here(),
            fix="give two or more: pipeline(norm, attention, depth=2)",
        )
    for f in stages:
        TracedFunction.need("pipeline", f)
    functions: list[TracedFunction] = []
    depths: list[int] = []
    for f in stages:
        inner, between = f.joined or ((f,), ())
        depths += [*([count] if functions else []), *between]
        functions += inner
    first = stages[0]
    names = [f.label for f in functions]
    loc = here()

    def composed(**arguments: Any) -> Any:
        builder = current_workload("pipeline")
        regions: list[Region] = []
        args, kwargs, result = (), arguments, None
        for f in functions:
            builder.open_block()
            result = f.inline(builder, args, kwargs)
            regions.append(Region((), builder.close_block()))
            args, kwargs = result if isinstance(result, tuple) else () if result is None else (result,), {}
        builder.append(Eqn("combine", regions=tuple(regions), loc=loc))
        return result

    def join(w: Traced) -> Traced:
        return w.with_wir(_piped_functions(w.wir, names, depths))

    made = first.derived(composed, f"pipeline({', '.join(f.label for f in stages)})", functions[0].signature).then(join)
    made.joined = (tuple(functions), tuple(depths))
    return made


def _piped_functions(wir: Wir, names: Sequence[str], depths: Sequence[int]) -> Wir:
    """The parts of the `combine` that a workload is, as stages."""
    what = "pipeline"
    at = next(k for k, e in enumerate(wir.body.eqns) if e.prim == "combine")
    parts = [r.eqns for r in wir.body.eqns[at].regions]
    loops = [_loop_of(what, wir, names, parts, k) for k in range(len(parts))]
    first = loops[0]
    for k, loop in enumerate(loops[1:], 1):
        if axis(loop).extent != axis(first).extent:
            raise _mismatch(
                what,
                f"{names[k]} runs {axis(loop).extent} iterations, {names[0]} runs {axis(first).extent}",
                wir,
                names,
                parts,
                k,
                loop,
            )
    scalars = [e for eqns in parts for e in eqns[:-1]]
    bodies = [without(loop, var(variable(first))) if k else loop.regions[0].eqns for k, loop in enumerate(loops)]
    region = replace(first.regions[0], eqns=tuple(e for body in bodies for e in body))
    merged = replace(first, regions=(region,))
    eqns = (*wir.body.eqns[:at], *scalars, merged, *wir.body.eqns[at + 1 :])
    wir = replace(wir, body=replace(wir.body, eqns=eqns))
    place = Place((), at + len(scalars), (merged,))
    return staged(what, wir, place, [Stage(n, tuple(b)) for n, b in zip(names, bodies, strict=True)], depths)


def _loop_of(what: str, wir: Wir, names: Sequence[str], parts: Sequence[Sequence[Eqn]], k: int) -> Eqn:
    """The loop that a stage is, behind scalars."""
    eqns = parts[k]
    outer = [e for e in eqns if e.regions or e.prim == "task"]
    if len(outer) != 1 or outer[0].prim not in LOOPS or eqns[-1] is not outer[0]:
        have = ", ".join(f"{e.prim} over {label(e)}" if e.prim in LOOPS else e.prim for e in outer) or "nothing"
        raise _mismatch(
            what, f"{names[k]} is not one loop but {have}", wir, names, parts, k, outer[0] if outer else None
        )
    refuse_while(what, outer[0])
    written = {a.view.tensor for a in _touched(wir, parts[:k]) if a.writes}
    for e in eqns[:-1]:
        read = next((x.tensor for x in e.ins if isinstance(x, View) and x.tensor in written), None)
        if read is not None or e.prim == "slot_set":
            why = f"reads {read} before its loop" if read is not None else "sets a slot before its loop"
            raise _mismatch(what, f"{names[k]} {why}", wir, names, parts, k, e)
    return outer[0]


def _touched(wir: Wir, parts: Sequence[Sequence[Eqn]]) -> list[Access]:
    inside = {id(e) for eqns in parts for top in eqns for e in top.walk()}
    return [x for x in accesses(wir, at_issue=True) if id(x.eqn) in inside and not x.is_slot]


def _mismatch(
    what: str,
    why: str,
    wir: Wir,
    names: Sequence[str],
    parts: Sequence[Sequence[Eqn]],
    k: int,
    at: Eqn | None,
) -> ScheduleError:
    """The error of a stage that is not matched with those before, and what it needs of them."""
    values: dict[str, object] = {"stages": ", ".join(names)}
    found = next(_needs(wir, parts, k), None)
    if found is not None:
        stage, a, b = found
        values["tensor"] = a.view.tensor
        values |= {f"stage {names[stage]}": touch(wir, a), f"stage {names[k]}": touch(wir, b)}
    return ScheduleError(
        "PTO872",
        f"{what}: {why}",
        values=values,
        loc=(at.loc if at is not None else None) or here(),
        fix="let each stage be one loop over the same tiles, x.tiles(16) in all of them; a stage that needs all of what another gives "
        "follows it: combine(f(x), g(x)), or call one after the other",
    )


def _needs(wir: Wir, parts: Sequence[Sequence[Eqn]], k: int) -> Iterator[tuple[int, Access, Access]]:
    """What a stage needs of those before: the stage, what that touches, and what this does."""
    names = Names.of(wir)
    mine = _touched(wir, parts[k : k + 1])
    for j in reversed(range(k)):
        for a in _touched(wir, parts[j : j + 1]):
            for b in mine:
                same = a.view.tensor == b.view.tensor and (a.writes or b.writes)
                if same and question(a, b, {}, names, None) is not Verdict.NEVER:
                    yield j, a, b
