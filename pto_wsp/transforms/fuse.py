"""fuse: the tasks of one body into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pto_wsp.errors import ScheduleError, here
from pto_wsp.ir.collectives import whole_tensors
from pto_wsp.ir.conditions import Names
from pto_wsp.ir.conflict import Access, Verdict, question
from pto_wsp.ir.core import Axis, Eqn, Kernel, Region, Role, RuleCall, Var, View, Wir
from pto_wsp.ir.dependence import accesses, read_at_issue
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.processes import ENDS
from pto_wsp.ir.rename import Renaming, unique_name
from pto_wsp.ir.rule import walk
from pto_wsp.ir.scopes import SCOPES, rules_of, scopes
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.checks import refuse_small_window
from pto_wsp.transforms.fused_kernel import fused_kernel
from pto_wsp.transforms.loops import axis, find, refuse, replaced, variable

W = TypeVar("W", bound=Traced | TracedFunction)
_WHAT = "fuse"


def fuse(*, loop: str | None = None, kernels: Sequence[str] | None = None) -> Callable[[W], W]:
    """`fuse(loop="i")(w)`: the tasks in the body of a loop become one task of one kernel.

        before:  parallel_for i in x: Tiles(64, 16) {
                   task scale[i](x=X[tile(i, 16, 64), 0 :+ 8], y=T[tile(i, 16, 64), 0 :+ 8])
                   task add[i](x=T[tile(i, 16, 64), 0 :+ 8], z=Z[tile(i, 16, 64), 0 :+ 8], y=Y[tile(i, 16, 64), 0 :+ 8])
                 }
        after:   parallel_for i in x: Tiles(64, 16) {
                   task scale_add[i](x=X[tile(i, 16, 64), 0 :+ 8], z=Z[tile(i, 16, 64), 0 :+ 8], y=Y[tile(i, 16, 64), 0 :+ 8])
                 }

    kernels: fuse the tasks of these kernels only, by what the user calls them; by default all tasks of the body. Without `loop`,
    the body is that of the workload. What a task loads from the view that an earlier one of them stored is that value; a temporary
    that nothing else uses is not stored at all. Results stay the same; the task has the coordinates of the first.

    Raises ScheduleError for a loop that is not there or of which there are several, for fewer than two tasks, where tasks, scalars
    or gathers need something that stands between, where a schedule, loop or condition does, where a policy around asks for one of the
    kernels, where two tasks touch overlapping views that are not the same, and where a value's valid shape cannot be proved to be that
    of the view it is loaded from, and where the task does not fit in a window around it.
    """
    wanted = _labels(kernels)

    def apply(w: Traced) -> Traced:
        if loop is None:
            body, kernel, tokens = _Body(w.wir, {}, wanted).fused(w.wir.body)
            wir = replace(w.wir, body=body)
        else:
            place = find(w.wir, _WHAT, loop)
            around = {variable(e): axis(e) for e in place.around}
            body, kernel, tokens = _Body(w.wir, around, wanted).fused(place.loop.regions[0])
            regions = (body, *place.loop.regions[1:])
            wir = replaced(w.wir, place, (replace(place.loop, regions=regions),))
        wir = replace(wir, body=Renaming(values=tokens).region(wir.body), kernels=(*wir.kernels, kernel))
        for bound in scopes(wir, "window"):
            if isinstance(size := bound.params.get("bytes"), int):
                refuse_small_window(wir, bound, size)
        called = {t.params["kernel"] for t in wir.tasks()}
        return w.with_wir(replace(wir, kernels=tuple(k for k in wir.kernels if k.name in called)))

    return transformation(_WHAT, apply)


def _labels(kernels: object) -> tuple[str, ...] | None:
    if kernels is None:
        return None
    if isinstance(kernels, str) or not isinstance(kernels, Sequence) or not all(isinstance(k, str) for k in kernels):
        raise ScheduleError(
            "PTO403",
            "fuse: kernels are names of kernels",
            values={"kernels": repr(kernels)[:80]},
            loc=here(),
            fix='write fuse(loop="i", kernels=("scale", "add"))',
        )
    return tuple(kernels)


class _Body:
    """A body whose tasks become one."""

    def __init__(self, wir: Wir, loops: Mapping[str, Axis], labels: tuple[str, ...] | None) -> None:
        self._wir = wir
        self._loops = loops
        self._labels = labels
        self._names = Names.of(wir)
        self._accesses: dict[int, list[Access]] = {}
        for x in accesses(wir, self._names):
            self._accesses.setdefault(id(x.eqn), []).append(x)

    def fused(self, region: Region) -> tuple[Region, Kernel, dict[str, str]]:
        """The body, the new kernel, and tokens of which another takes the place."""
        if len(region.eqns) == 1 and region.eqns[0].prim in SCOPES:
            body, kernel, tokens = self.fused(region.eqns[0].regions[0])
            return replace(region, eqns=(replace(region.eqns[0], regions=(body,)),)), kernel, tokens
        group = [k for k, e in enumerate(region.eqns) if e.prim == "task" and self._wanted(e)]
        if len(group) < 2:
            raise ScheduleError(
                "PTO409",
                f"fuse: the body has {len(group)} of these tasks",
                values={"kernels": "any" if self._labels is None else ", ".join(self._labels)},
                loc=here(),
                fix="fuse two or more tasks that stand directly in one body",
            )
        tasks = [region.eqns[k] for k in group]
        self._need_one_view(tasks)
        self._need_no_kernel(tasks)
        place = self._place(region, group)
        kernel, task, tokens = self._task(tasks)
        eqns = [task if k == place else e for k, e in enumerate(region.eqns) if k == place or k not in group]
        return replace(region, eqns=tuple(eqns)), kernel, tokens

    def _wanted(self, task: Eqn) -> bool:
        return self._labels is None or self._label(task) in self._labels

    def _label(self, task: Eqn) -> str:
        return self._wir.kernel(str(task.params["kernel"])).label

    def _task(self, tasks: Sequence[Eqn]) -> tuple[Kernel, Eqn, dict[str, str]]:
        only_here = self._used_only_in(tasks)
        name = unique_name("_".join(dict.fromkeys(self._label(t) for t in tasks)), {k.name for k in self._wir.kernels})
        new = fused_kernel(self._wir, tasks, name, only_here, self._loops)
        first = tasks[0]
        outs = [v for t in tasks for v in t.outs]
        own = {v.name for v in outs}
        after = tuple(dict.fromkeys(t for task in tasks for t in _after(task) if t not in own))
        params = {k: v for k, v in first.params.items() if k not in ("after", "kernel")} | {"kernel": name}
        if after:
            params["after"] = after
        task = Eqn("task", tuple(outs[:1]), new.ins, params, (), first.loc)
        return new.kernel, task, {v.name: outs[0].name for v in outs[1:]}

    def _used_only_in(self, tasks: Sequence[Eqn]) -> frozenset[str]:
        """Temporaries that no equation beside these tasks touches."""
        inside = {id(t) for t in tasks}
        others: set[str] = set()
        for eqn in (e for top in self._wir.body.eqns for e in top.walk()):
            others |= {t for _, t in read_at_issue(eqn)}
            if id(eqn) not in inside:
                others |= whole_tensors(eqn) | {x.tensor for x in eqn.ins if isinstance(x, View)}
        mine = {v.name for v in self._wir.tensors if self._wir.tensor_type(v.name).role is Role.TEMPORARY}
        return frozenset(mine - others)

    def _need_one_view(self, tasks: Sequence[Eqn]) -> None:
        """Refuse tasks that touch common elements by views that are not the same, and indices that one of them writes."""
        for j, later in enumerate(tasks):
            for earlier in tasks[:j]:
                read = {t for _, t in read_at_issue(later)}
                for a, b in self._conflicts(earlier, later):
                    if a.view != b.view or any(True for _ in a.view.index_views()):
                        raise refuse(
                            _WHAT,
                            f"{self._label(earlier)} and {self._label(later)} may touch common elements of {a.view.tensor} by views "
                            "that are not the same, or gather them",
                            later,
                            "give both tasks the same view",
                        )
                for a in self._accesses.get(id(earlier), ()):
                    if a.writes and a.view.tensor in read:
                        raise refuse(
                            _WHAT,
                            f"{self._label(later)} gathers by {a.view.tensor}, which {self._label(earlier)} writes",
                            later,
                            "fuse tasks that do not need each other's results as indices",
                        )

    def _need_no_kernel(self, tasks: Sequence[Eqn]) -> None:
        """Refuse tasks whose kernel a policy asks for, which would not know the new one."""
        labels = {self._label(t) for t in tasks}
        for scope in (e for top in self._wir.body.eqns for e in top.walk() if e.prim in SCOPES):
            calls = [r for _, rule in rules_of(scope) for r in walk(rule) if isinstance(r, RuleCall)]
            asked = {r.text for r in calls if r.op == "kernel_is"}
            if asked & labels and any(e is tasks[0] for e in scope.walk()):
                raise refuse(
                    _WHAT,
                    f"{scope.prim} asks for tasks of kernel {min(str(n) for n in asked & labels)}, which would be none any more",
                    scope,
                    "fuse first, then say the schedule of the new kernel",
                )

    def _conflicts(self, x: Eqn, y: Eqn) -> Iterator[tuple[Access, Access]]:
        """Accesses of two equations of one iteration that may touch common elements, one writing."""
        for a in self._accesses.get(id(x), ()):
            for b in self._accesses.get(id(y), ()):
                same = a.view.tensor == b.view.tensor and a.is_slot == b.is_slot and (a.writes or b.writes)
                if same and (a.view == b.view or question(a, b, {}, self._names, None) is not Verdict.NEVER):
                    yield a, b

    def _place(self, region: Region, group: Sequence[int]) -> int:
        """Where the new task stands: at the place of the last one, or of the first."""
        eqns = region.eqns
        between = [k for k in range(group[0], group[-1]) if k not in group]
        for k in between:
            if eqns[k].regions or eqns[k].prim in ENDS:
                raise refuse(
                    _WHAT,
                    f"a {eqns[k].prim} stands between the tasks",
                    eqns[k],
                    "fuse tasks that stand beside each other",
                )
        down = [(k, m) for k in between for m in group if m < k and self._ordered(eqns[m], eqns[k])]
        up = [(k, m) for k in between for m in group if m > k and self._ordered(eqns[k], eqns[m])]
        if down and up:
            k, m = up[0]
            raise refuse(
                _WHAT,
                f"{self._label(eqns[m])} needs what stands between the tasks, which needs an earlier one of them",
                eqns[k],
                "fuse tasks that nothing between them depends on",
            )
        return group[0] if down else group[-1]

    def _ordered(self, x: Eqn, y: Eqn) -> bool:
        """Whether equation y of the same body must stay behind x."""
        if any(True for _ in self._conflicts(x, y)):
            return True
        made = {v.name for v in x.outs}
        if made & _used(y):
            return True
        for reader, writer in ((x, y), (y, x)):
            read = {t for _, t in read_at_issue(reader)}
            if any(a.writes and a.view.tensor in read for a in self._accesses.get(id(writer), ())):
                return True
        return False


def _after(task: Eqn) -> tuple[str, ...]:
    after = task.params.get("after", ())
    assert isinstance(after, tuple)
    return tuple(str(t) for t in after)


def _used(eqn: Eqn) -> set[str]:
    """The scalars and tokens that an equation without regions uses."""
    out = set(_after(eqn))
    coords = eqn.params.get("coords", ())
    assert isinstance(coords, tuple)
    for x in (*eqn.ins, *coords):
        if isinstance(x, Var):
            out.add(x.name)
        elif isinstance(x, (Expr, View)):
            out |= x.names()
    return out
