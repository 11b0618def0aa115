"""The stages of a loop as processes that run beside each other.

    before:  parallel_for i in i: Range(8) {          after:  pipeline[name="pipe", timed=false] {
               task load[i](x=X[i], y=T[i])                     load_store: channel<i64, i64> = channel[depth=2, ...]
               task store[i](x=T[i], y=Y[i])                    load_store.free: channel<i64> = channel[depth=2, initial=2, ...]
             }                                                  process[name="load", ...] {
                                                                  seq_for i in i: Range(8) {
                                                                    load_store.b: i64 = recv load_store.free
                                                                    task load[i](x=X[i], y=T[load_store.b])
                                                                    send load_store (i) (load_store.b)
                                                                  }
                                                                }
                                                                process[name="store", ...] {
                                                                  consume load_store as i.1, load_store.b.1 {
                                                                    task[names=["i"]] store[i.1](x=T[load_store.b.1], y=Y[i.1])
                                                                    send load_store.free (load_store.b.1)
                                                                  }
                                                                }
                                                              }

A token goes from each stage to the next: the iteration, and what that one and later stages need: scalars, and the numbers of buffers.
So iteration i of a stage comes behind iterations 0 .. i of all stages before. That is enough where no stage needs, or overwrites, what
an earlier stage does in a later iteration; else the loop is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from pto_wsp.errors import ScheduleError, here
from pto_wsp.ir.conditions import Names
from pto_wsp.ir.conflict import Access, Verdict, question
from pto_wsp.ir.core import ChannelType, DType, Eqn, In, Param, Region, ScalarType, TokenType, Var, Wir
from pto_wsp.ir.coverage import every_view
from pto_wsp.ir.dependence import accesses
from pto_wsp.ir.expr import var
from pto_wsp.ir.processes import ends_inside, pipelines, processes_of
from pto_wsp.ir.rename import unique_name
from pto_wsp.ir.scopes import SCOPES, in_process, refuse_around_pipelines
from pto_wsp.ir.tasks import used_names
from pto_wsp.transforms.loops import Place, bound_names, label, refuse, replaced, variable
from pto_wsp.transforms.stage_buffers import Handed, StageRenaming, handed_on, with_buffers

_FARTHEST = 8  # distances of dependences that an error tells
_I64 = ScalarType(DType.I64)


@dataclass(frozen=True)
class Stage:
    """What one process does in an iteration."""

    name: str
    eqns: tuple[Eqn, ...]


def staged(what: str, wir: Wir, place: Place, stages: Sequence[Stage], depths: Sequence[int]) -> Wir:
    """The workload with a pipeline of the stages in the place of a loop; `depths`: tokens and buffers between each and the next.
    Raises ScheduleError."""
    body = tuple(e for s in stages for e in s.eqns)
    loop = replace(place.loop, regions=(replace(place.loop.regions[0], eqns=body),))
    wir = replaced(wir, place, (loop,))
    stages = _named(stages, wir)
    _refuse_bound(what, wir, loop, stages)
    handed = handed_on(wir, place.around[:-1], loop, [s.eqns for s in stages])
    _refuse_backward(what, wir, loop, stages, handed)
    made = _Pipeline(wir, loop, stages, depths, handed)
    place = replace(place, around=(*place.around[:-1], loop))
    pipeline = made.eqn()
    wir = replaced(wir, place, (pipeline,))
    _refuse_schedules(wir, pipeline)
    return replace(wir, tensors=with_buffers(wir, handed, made.counts))


def _named(stages: Sequence[Stage], wir: Wir) -> list[Stage]:
    out: list[Stage] = []
    for s in stages:
        out.append(replace(s, name=unique_name(s.name, {o.name for o in out})))
    return out


def first_kernel(wir: Wir, eqns: Sequence[Eqn]) -> str:
    """What the user calls the first kernel of these equations."""
    tasks = (t for e in eqns for t in e.walk() if t.prim == "task")
    return next((wir.kernel(str(t.params["kernel"])).label for t in tasks), "process")


# what cannot be


def _refuse_bound(what: str, wir: Wir, loop: Eqn, stages: Sequence[Stage]) -> None:
    """Refuse what ties stages, or the loop and what is outside, by other means than tensors and scalars."""
    for end in (e for s in stages for top in s.eqns for e in ends_inside(top)):
        raise refuse(
            what,
            f"{end.prim} of a channel stands in the loop over {label(loop)}",
            end,
            "rewrite loops without channels",
        )
    everything = [e for top in wir.body.eqns for e in top.walk()]
    for s in stages:
        inside = {id(e) for top in s.eqns for e in top.walk()}
        for e in (e for top in s.eqns for e in top.walk() if e.prim == "slot_set"):
            raise refuse(
                what,
                f"stage {s.name} sets slot {e.params['slot']}: what a process sets is gone with it",
                e,
                "keep the value as a Python variable, which goes to later stages with the token",
            )
        tokens = {v.name for top in s.eqns for e in top.walk() for v in e.outs if isinstance(v.type, TokenType)}
        for e in everything:
            after = e.params.get("after", ())
            if id(e) not in inside and isinstance(after, tuple) and tokens & set(after):
                raise refuse(
                    what,
                    f"a task waits by after= for a task of stage {s.name} and is not in it",
                    e,
                    "leave out after=: stages of one iteration come in order, and what follows a pipeline comes behind it",
                )


def _refuse_schedules(wir: Wir, pipeline: Eqn) -> None:
    """Refuse schedules that say nothing of a pipeline, or of what is in a process."""
    for scope in (e for top in wir.body.eqns for e in top.walk() if e.prim in SCOPES):
        refuse_around_pipelines(scope)
    for process in processes_of(pipeline):
        for scope in (e for e in process.walk() if e.prim in SCOPES):
            raise in_process(scope, process)


def at_line(e: Eqn) -> str:
    return f", {e.loc}" if e.loc else ""


def _refuse_backward(what: str, wir: Wir, loop: Eqn, stages: Sequence[Stage], handed: Mapping[str, Handed]) -> None:
    """Raise ScheduleError where a stage must come before what an earlier stage does in a later iteration."""
    names = Names.of(wir)
    of_stage = {id(e): k for k, s in enumerate(stages) for e in s.eqns}
    found: list[list[Access]] = [[] for _ in stages]
    for x in accesses(wir, names, at_issue=True):
        k = next((of_stage[id(s.eqn)] for s in x.path if id(s.eqn) in of_stage), None)
        if k is not None and not x.is_slot and x.view.tensor not in handed:
            found[k].append(x)
    for k, later in enumerate(found):
        for a, b in product((x for xs in found[:k] for x in xs), later):
            same = a.view.tensor == b.view.tensor and (a.writes or b.writes)
            if same and question(a, b, {}, names, loop, a_first=False) is not Verdict.NEVER:
                raise _backward(what, wir, loop, stages, of_stage, a, b, names)


def _backward(
    what: str,
    wir: Wir,
    loop: Eqn,
    stages: Sequence[Stage],
    of_stage: Mapping[int, int],
    a: Access,
    b: Access,
    names: Names,
) -> ScheduleError:
    first, then = (stages[next(of_stage[id(s.eqn)] for s in x.path if id(s.eqn) in of_stage)].name for x in (a, b))
    verdicts = ((d, question(a, b, {}, names, loop, a_first=False, apart=d)) for d in range(1, _FARTHEST + 1))
    near = next(((d, v) for d, v in verdicts if v is not Verdict.NEVER), None)
    sure = near is not None and near[1] is not Verdict.UNKNOWN
    distance = "any" if near is None else f"{near[0]}" if sure else f"perhaps {near[0]}"
    return ScheduleError(
        "PTO870",
        f"{what}: stage {then} must be done with {a.view.tensor} before stage {first} comes to a later iteration",
        values={
            "tensor": a.view.tensor,
            "loop": f"{label(loop)}{at_line(loop)}",
            f"stage {then}": touch(wir, b),
            f"stage {first}": f"{touch(wir, a)}, in a later iteration",
            "iterations later": distance,
        },
        loc=b.eqn.loc or loop.loc or here(),
        fix="let each iteration write memory of its own before it reads it (empty(...) in the loop), keep both tasks in one stage "
        "(fuse them, or call them in a loop inside), or leave the loop as it is",
    )


def touch(wir: Wir, x: Access) -> str:
    """`load writes it, w.py:3`"""
    called = wir.kernel(str(x.eqn.params["kernel"])).label if x.eqn.prim == "task" else x.eqn.prim
    return f"{called} {'writes' if x.writes else 'reads'} it{at_line(x.eqn)}"


# what it becomes


class _Pipeline:
    """The equation of a pipeline, while it is made."""

    def __init__(
        self, wir: Wir, loop: Eqn, stages: Sequence[Stage], depths: Sequence[int], handed: Mapping[str, Handed]
    ) -> None:
        self._wir, self._loop, self._stages, self._handed, self._depths = wir, loop, stages, handed, depths
        self._taken = bound_names(wir.body.eqns) | {v.name for v in wir.tensors}
        self._channels: list[Eqn] = []
        self._links = [self._link_name(k, k + 1) for k in range(len(stages) - 1)]
        self._lots: dict[tuple[int, int], Var] = {}
        self._scalars = {v.name: v for s in stages for e in s.eqns for v in e.outs if isinstance(v.type, ScalarType)}
        self._made_in = {v.name: k for k, s in enumerate(stages) for e in s.eqns for v in e.outs}
        self._used_until = self._last_uses()
        self.counts = {h.tensor: max(depths[h.first : h.last]) for h in handed.values()}

    def eqn(self) -> Eqn:
        links = [self._channel(name, self._fields(k), self._depths[k], 0) for k, name in enumerate(self._links)]
        for first, last in sorted({(h.first, h.last) for h in self._handed.values()}):
            name = self._links[first] if last == first + 1 else self._link_name(first, last)
            count = max(self._depths[first:last])
            self._lots[first, last] = self._channel(f"{name}.free", (_I64,), count, count)
        processes = [self._process(k, links) for k in range(len(self._stages))]
        used = {str(p.params["name"]) for p in pipelines(self._wir)}
        params: dict[str, Param] = {"name": unique_name("pipe", used), "timed": False}
        return Eqn("pipeline", params=params, regions=(Region((), (*self._channels, *processes)),), loc=self._loop.loc)

    def _link_name(self, first: int, last: int) -> str:
        return f"{self._stages[first].name}_{self._stages[last].name}"

    def _name(self, wanted: str) -> str:
        name = unique_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def _channel(self, name: str, fields: Sequence[ScalarType], depth: int, initial: int) -> Var:
        name = unique_name(name, {str(c.params["name"]) for c in self._channels})
        out = Var(self._name(name), ChannelType(tuple(fields)))
        params: dict[str, Param] = {"name": name, "depth": depth, "initial": initial, "latency": 0, "response": 0}
        self._channels.append(Eqn("channel", (out,), params=params, loc=self._loop.loc))
        return out

    # what tokens carry

    def _last_uses(self) -> dict[str, int]:
        """The last stage that uses each scalar of an iteration."""
        out: dict[str, int] = {}
        for k, s in enumerate(self._stages):
            for name in (n for top in s.eqns for e in top.walk() for n in used_names(e)):
                out[name] = k
        return out

    def _carried(self, k: int) -> list[str]:
        """The scalars that go from stage k to the next."""
        return [n for n in self._scalars if self._made_in[n] <= k < self._used_until.get(n, -1)]

    def _held(self, k: int) -> list[tuple[int, int]]:
        """The lots of buffers of which one goes from stage k to the next."""
        return sorted({(h.first, h.last) for h in self._handed.values() if h.first <= k < h.last})

    def _fields(self, k: int) -> list[ScalarType]:
        types = (self._scalars[n].type for n in self._carried(k))
        return [_I64, *(_I64 for _ in self._held(k)), *(t for t in types if isinstance(t, ScalarType))]

    # processes

    def _process(self, k: int, links: Sequence[Var]) -> Eqn:
        loop, eqns = self._loop, self._stages[k].eqns
        i = variable(loop)
        new = {n: n for n in self._scalars}
        numbers: dict[tuple[int, int], str] = {}
        fields: tuple[Var, ...] = ()
        if k > 0:
            i = self._name(label(loop))
            numbers = {lot: self._name(f"{self._link_name(*lot)}.b") for lot in self._held(k - 1)}
            new |= {n: self._name(n) for n in self._carried(k - 1)}
            carried = (Var(new[n], self._scalars[n].type) for n in self._carried(k - 1))
            fields = (Var(i, _I64), *(Var(n, _I64) for n in numbers.values()), *carried)
        acquired = {lot: self._name(f"{self._link_name(*lot)}.b") for lot in self._lots if lot[0] == k}
        numbers |= acquired
        body = self._body(eqns, i, new, numbers, acquired)
        if k < len(self._stages) - 1:
            values = [*(var(numbers[lot]) for lot in self._held(k)), *(self._value(n, new) for n in self._carried(k))]
            body.append(Eqn("send", ins=(links[k], var(i), *values), loc=loop.loc))
        for lot in (lot for lot in self._lots if lot[1] == k):
            body.append(Eqn("send", ins=(self._lots[lot], var(numbers[lot])), loc=loop.loc))
        region = Region(loop.regions[0].params if k == 0 else fields, tuple(body))
        repeated = (
            Eqn("seq_for", params=loop.params, regions=(region,), loc=loop.loc)
            if k == 0
            else Eqn("consume", ins=(links[k - 1],), regions=(region,), loc=loop.loc)
        )
        ends = self._ends(k, links)
        params: dict[str, Param] = {"name": self._stages[k].name, **ends}
        return Eqn(
            "process",
            params=params,
            regions=(Region((), (repeated,)),),
            loc=(eqns[0].loc if eqns else None) or loop.loc,
        )

    def _body(
        self,
        eqns: Sequence[Eqn],
        i: str,
        new: Mapping[str, str],
        numbers: Mapping[tuple[int, int], str],
        acquired: Mapping[tuple[int, int], str],
    ) -> list[Eqn]:
        """What a stage does; a buffer is taken before its first use."""
        loop = self._loop
        called = {variable(loop): label(loop)}
        by_tensor = {h.tensor: numbers[h.first, h.last] for h in self._handed.values() if (h.first, h.last) in numbers}
        renaming = StageRenaming(
            values={a: b for a, b in new.items() if a != b},
            loops={variable(loop): var(i)} if i != variable(loop) else {},
            labels=called if i != variable(loop) else {},
            handed=self._handed,
            numbers=by_tensor,
        )
        left = dict(acquired)
        out: list[Eqn] = []
        for e in eqns:
            names = {v.tensor for v in every_view((e,))}
            for lot in [
                x for x in left if any((h.first, h.last) == x and h.tensor in names for h in self._handed.values())
            ]:
                out.append(Eqn("recv", (Var(left.pop(lot), _I64),), (self._lots[lot],), loc=e.loc))
            out.append(renaming.eqn(e))
        return out

    def _value(self, name: str, new: Mapping[str, str]) -> In:
        v = self._scalars[name]
        return var(new[name]) if v.type == _I64 else Var(new[name], v.type)

    def _ends(self, k: int, links: Sequence[Var]) -> dict[str, Param]:
        name = {c.outs[0]: str(c.params["name"]) for c in self._channels}
        consumes = [*links[k - 1 : k], *(c for (first, _), c in self._lots.items() if first == k)] if k else []
        consumes = consumes or [c for (first, _), c in self._lots.items() if first == k]
        produces = [*links[k : k + 1], *(c for (_, last), c in self._lots.items() if last == k)]
        return {"consumes": tuple(name[c] for c in consumes), "produces": tuple(name[c] for c in produces)}
