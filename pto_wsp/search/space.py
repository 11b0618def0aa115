"""What a search may try."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pto_wsp.api.workload import Workload
from pto_wsp.arch import Arch
from pto_wsp.errors import PtoError, ScheduleError, here
from pto_wsp.ir.coordinates import answers, sites
from pto_wsp.ir.rule import COORDINATE, Rule, rule_names
from pto_wsp.ir.scopes import around_all
from pto_wsp.search.config import REWRITES, Constant, ScheduleConfig
from pto_wsp.transforms.graph_policies import TaskWindow
from pto_wsp.transforms.loops import find, label, places
from pto_wsp.transforms.policies import DispatchPolicy, Policy, ReadyPolicy
from pto_wsp.transforms.record import TaskRecord

Key = Callable[[TaskRecord], Any]
KEYED = ("affinity", "hash", "dispatch_by", "priority")
_SHIPPED = ("round_robin", "work_steal", "least_loaded")
_MOST_KEYS = 4  # of the default space


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The choices that a search may combine. A field that is left out is not searched.

        SearchSpace(dispatch=("round_robin", "affinity"), keys=("b", lambda t: t.b + t.h), lanes=(4, 8), window=(None, 16))

    dispatch   names of `DispatchPolicy`, shipped or registered without arguments; policies; None: as the workload is
    keys       what "affinity", "hash", "dispatch_by" and the ready policy "priority" are used with: names of coordinates, or functions of
               the task
    lanes      of the dispatch policies that are given by name; alone: of round_robin. None: what streams or the arch say
    window     TaskWindow, or a number of tasks; None: as it is
    ready      names of `ReadyPolicy`; policies; None: as it is
    fuse       by loop, numbers of iterations that become one task (1: the tasks of a body); None in these four: not at all
    tile       sizes by loop, as `tile(sizes=)` takes them
    split      by loop, sizes
    unroll     by loop, factors
    constants  values by name of what another program is made with, as of a Constexpr parameter
    make       the function that makes the workload of these values: `lambda block: attention(x, y, block)`
    within     how far results of what it makes may lie from those of the given workload, by the largest magnitude of the array; None:
               2^-14 in f32, 2^-40 in f64, 2^-8 in f16, 2^-5 in smaller floats. Integers are equal

    Raises ScheduleError for a space without choices, and for choices that are none; UnsupportedError for unknown names of policies.
    """

    dispatch: Sequence[str | Policy | None] = ()
    keys: Sequence[str | Key] = ()
    lanes: Sequence[int | None] = ()
    window: Sequence[TaskWindow | int | None] = ()
    ready: Sequence[str | Policy | None] = ()
    fuse: Mapping[str, Sequence[int | None]] | None = None
    tile: Sequence[Mapping[str, int] | None] = ()
    split: Mapping[str, Sequence[int | None]] | None = None
    unroll: Mapping[str, Sequence[int | None]] | None = None
    constants: Mapping[str, Sequence[Constant]] | None = None
    make: Callable[..., Workload] | None = None
    within: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_axes", tuple(self._all()))

    @property
    def axes(self) -> tuple[tuple[ScheduleConfig, ...], ...]:
        """The choices, one kind after another, each as a configuration of nothing else."""
        return self.__dict__["_axes"]

    @property
    def size(self) -> int:
        """How many configurations there are."""
        return math.prod(map(len, self.axes))

    def config(self, rank: int) -> ScheduleConfig:
        """Configuration number `rank` of them, from 0."""
        fields: dict[str, Any] = {}
        for choice in self.choices(rank):
            for name, value in vars(choice).items():
                if value not in ((), None):
                    fields[name] = (*fields.get(name, ()), *value) if isinstance(value, tuple) else value
        return ScheduleConfig(**fields)

    def choices(self, rank: int) -> tuple[ScheduleConfig, ...]:
        """What configuration `rank` takes of each kind."""
        out: list[ScheduleConfig] = []
        for axis in reversed(self.axes):
            rank, k = divmod(rank, len(axis))
            out.append(axis[k])
        return tuple(reversed(out))

    def neighbours(self, rank: int) -> list[int]:
        """The configurations that differ from this one in one choice."""
        out: list[int] = []
        stride = 1
        for axis in reversed(self.axes):
            mine = rank // stride % len(axis)
            out += [rank + (k - mine) * stride for k in range(len(axis)) if k != mine]
            stride *= len(axis)
        return out

    def check_loops(self, workload: Workload) -> None:
        """Raise ScheduleError for loops that the workload does not have."""
        tiled = [loop for sizes in self.tile if sizes for loop in sizes]
        named = {**{name: getattr(self, name) or {} for name in ("fuse", "split", "unroll")}, "tile": tiled}
        for name in REWRITES:
            for loop in named[name]:
                find(workload.wir, f"SearchSpace({name}=...)", loop)

    def check_coordinates(self, workload: Workload) -> None:
        """Raise ScheduleError for policies that ask for coordinates that the tasks do not have, whichever rewrite of the space is done
        first. Of programs that constants make nothing is known yet."""
        choices = [c for axis in self.axes for c in axis]
        asked = {p.rule: c for c in choices for p in (c.dispatch, c.ready) if p is not None and p.rule is not None}
        known = [_shared(workload)]
        if self.constants or all(_names(rule) <= known[0] for rule in asked):
            return
        for choice in choices:
            if any(choice.pairs(name) for name in REWRITES):
                try:
                    known.append(_shared(choice.apply(workload)))
                except PtoError:  # it is in the table with its reason
                    continue
        for rule, choice in asked.items():
            if not _names(rule) <= set[str]().union(*known):
                choice.apply(workload)

    def _all(self) -> list[tuple[ScheduleConfig, ...]]:
        axes = [self._constants(name, values) for name, values in _mapping("constants", self.constants)]
        if bool(axes) != (self.make is not None):
            raise _wrong("constants and make belong together", self.make, "give both, or neither")
        if self.within is not None and not (axes and isinstance(self.within, (int, float)) and self.within >= 0):
            raise _wrong(
                "within is a bound for what constants make", self.within, "give a positive number, with constants"
            )
        for name in ("fuse", "split", "unroll"):
            for loop, sizes in _mapping(name, getattr(self, name)):
                axes.append(tuple(_rewrite(name, {} if n is None else {loop: n}) for n in sizes))
        axes.append(tuple(ScheduleConfig(tile=sizes or ()) for sizes in _sequence("tile", self.tile)))
        axes.append(tuple(ScheduleConfig(dispatch=p) for p in self._dispatch()))
        axes.append(tuple(ScheduleConfig(ready=p) for p in self._ready()))
        windows = [TaskWindow(w) if isinstance(w, int) else w for w in _sequence("window", self.window)]
        axes.append(tuple(ScheduleConfig(window=w) for w in windows))
        axes = [tuple(dict.fromkeys(axis)) for axis in axes if axis]
        if not axes:
            raise _wrong(
                "a search space without choices",
                "nothing",
                'write SearchSpace(dispatch=("round_robin", "least_loaded"))',
            )
        return axes

    @staticmethod
    def _constants(name: str, values: Sequence[Any]) -> tuple[ScheduleConfig, ...]:
        for v in values:
            if not isinstance(v, Constant):
                raise _wrong(f"constant {name} is no number or text", v, "give Python numbers or strings")
        return tuple(ScheduleConfig(constants={name: v}) for v in values)

    def _dispatch(self) -> list[Policy | None]:
        given = _sequence("dispatch", self.dispatch)
        named = [x for x in given if isinstance(x, str)]
        if self.lanes and not named:
            if given:
                raise _wrong(
                    "lanes, but no dispatch policy that is given by name",
                    self.lanes,
                    "leave lanes out, or name policies",
                )
            given = ["round_robin"]
        self._check_keys(named)
        lanes = _sequence("lanes", self.lanes) or [None]
        out: list[Policy | None] = []
        for x in given:
            out += [p for n in lanes for p in self._used_dispatch(x, n)] if isinstance(x, str) else [x]
        return out

    def _check_keys(self, dispatch: list[str]) -> None:
        takers = [n for n in (*dispatch, *(x for x in self.ready if isinstance(x, str))) if n in KEYED]
        if bool(self.keys) != bool(takers):
            what = f"{takers[0]} without keys" if takers else "keys that no policy takes"
            raise _wrong(what, self.keys, 'write SearchSpace(dispatch=("affinity",), keys=("b", lambda t: t.b + t.h))')

    def _used_dispatch(self, name: str, lanes: int | None) -> list[Policy]:
        policy = _named(DispatchPolicy, name)
        if name in KEYED:
            return [policy(_key(k), lanes) for k in _sequence("keys", self.keys)]
        return [policy(lanes) if name in _SHIPPED else policy(lanes=lanes)]

    def _ready(self) -> list[Policy | None]:
        out: list[Policy | None] = []
        for x in _sequence("ready", self.ready):
            if not isinstance(x, str):
                out.append(x)
                continue
            policy = _named(ReadyPolicy, x)
            keyed = [policy(_key(k)) for k in _sequence("keys", self.keys)] if x in KEYED else []
            out += keyed or [policy if isinstance(policy, Policy) else policy()]
        return out


def _shared(workload: Workload) -> set[str]:
    """What coordinates are called that all tasks have."""
    have = [set(answers(workload.wir, site)) for site in sites(workload.wir.body)]
    return have[0].intersection(*have) if have else set()


def _names(rule: Rule) -> set[str]:
    """The coordinates that a rule cannot do without."""
    return {n.removeprefix(COORDINATE) for n in rule_names(rule) if n.startswith(COORDINATE)}


def default_space(workload: Workload, arch: Arch) -> SearchSpace:
    """What `auto_schedule` tries where nothing is said: every shipped dispatch policy on the lanes that the arch has, keyed by each
    coordinate that all tasks have; longest processing time and work stealing; and bodies of several tasks fused. A dispatch or ready
    policy that the workload has already stays."""
    said = {scope.prim for scope in around_all(workload.wir)}
    shared = _shared(workload)
    loops = list(places(workload.wir))
    names = list(dict.fromkeys(label(p.loop) for p in loops))
    keys = [n for n in names if n in shared][:_MOST_KEYS]
    several = [p for p in loops if sum(e.prim == "task" for e in p.loop.regions[0].eqns) > 1]
    paths = ["/" + "/".join(e.regions[0].params[0].name for e in p.around) for p in several]
    policies = ("round_robin", "least_loaded", *(("affinity", "hash", "dispatch_by") if keys else ()))
    placed = "dispatch" in said
    return SearchSpace(
        dispatch=(None, *(() if placed else policies)),
        keys=() if placed else tuple(keys),
        lanes=() if placed else (arch.lanes,),
        ready=(None, *(() if "ready" in said else ("work_steal", "longest_processing_time"))),
        fuse=dict.fromkeys(paths, (None, 1)),
    )


def _rewrite(name: str, sizes: Mapping[str, int]) -> ScheduleConfig:
    fields: dict[str, Any] = {name: sizes}
    return ScheduleConfig(**fields)


def _key(key: object) -> Key:
    if isinstance(key, str) and key:
        return lambda t: t.get(key)
    if not callable(key):
        raise _wrong("a key is no coordinate and no function of the task", key, 'write keys=("b", lambda t: t.b + t.h)')
    return key


def _named(policies: Any, name: str) -> Any:
    if not name.isidentifier() or name.startswith("_"):
        raise _wrong("a policy that has no name", name, 'write the name of a policy: "round_robin"')
    return getattr(policies, name)


def _sequence(what: str, given: object) -> list[Any]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise _wrong(f"{what} are no sequence of choices", given, f"write {what}=(...,)")
    return list(given)


def _mapping(what: str, given: object) -> list[tuple[str, list[Any]]]:
    if given is None:
        return []
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise _wrong(f"{what} are no choices by name", given, f'write {what}={{"b": (None, 4)}}')
    return [
        (name, _sequence(f"{what} of {name}", values)) for name, values in given.items() if len(_sequence(what, values))
    ]


def _wrong(what: str, got: object, fix: str) -> ScheduleError:
    return ScheduleError("PTO430", f"SearchSpace: {what}", values={"got": repr(got)[:80]}, loc=here(), fix=fix)
