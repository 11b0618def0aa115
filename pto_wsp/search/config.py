"""A schedule as a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pto_wsp.api.workload import Workload
from pto_wsp.errors import ScheduleError, here
from pto_wsp.trace.workload import Traced
from pto_wsp.transforms.dispatch import dispatch
from pto_wsp.transforms.fuse import fuse
from pto_wsp.transforms.graph_policies import TaskWindow, WindowMode
from pto_wsp.transforms.policies import Policy, positive
from pto_wsp.transforms.scope import need_policy
from pto_wsp.transforms.split import split
from pto_wsp.transforms.task_graph import task_graph
from pto_wsp.transforms.tile import tile
from pto_wsp.transforms.unroll import unroll
from pto_wsp.transforms.window import window

Constant = bool | int | float | str
Pairs = tuple[tuple[str, Any], ...]
REWRITES = ("fuse", "tile", "split", "unroll")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ScheduleConfig:
    """What to do to a workload: `ScheduleConfig(split={"b": 4}, dispatch=DispatchPolicy.round_robin(4)).apply(w)`.

    constants  values that another program is made with: `apply` then takes the function that makes it
    fuse       by loop, how many iterations become one task: 1 fuses the tasks of each body, n those of n iterations too
    tile       sizes of blocks by loop, as `tile(sizes=)`
    split      by loop, the size of `split`
    unroll     by loop, the factor of `unroll`
    dispatch, ready, window   as `dispatch`, `task_graph(ready=)` and `window` take them

    Applied in this order; what is left out is left as it is. Two that say the same are equal, hash alike and print alike:
    `str(config)` is short, `config.key` has every expression. Raises ScheduleError for what directives do not take.
    """

    constants: Mapping[str, Constant] | Pairs = ()
    fuse: Mapping[str, int] | Pairs = ()
    tile: Mapping[str, int] | Pairs = ()
    split: Mapping[str, int] | Pairs = ()
    unroll: Mapping[str, int] | Pairs = ()
    dispatch: Policy | None = None
    ready: Policy | None = None
    window: TaskWindow | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", pairs("constants", self.constants))
        for name in REWRITES:
            loops = pairs(name, getattr(self, name))
            sized = tuple((loop, positive(name, f"the size of {loop}", n, 2**40)) for loop, n in loops)
            object.__setattr__(self, name, sized)
        for name, example in (("dispatch", "DispatchPolicy.round_robin(4)"), ("ready", "ReadyPolicy.fifo")):
            if getattr(self, name) is not None:
                need_policy(f"ScheduleConfig({name}=...)", name, getattr(self, name), f"{name}={example}")
        if self.window is not None:
            window(self.window)

    def apply(self, workload: Workload | Callable[..., Workload]) -> Workload:
        """The workload with all this done to it; with constants, of the function that makes it of them. Raises what the
        transformations raise, and ScheduleError for a workload that is made already where there are constants."""
        constants = dict(self.pairs("constants"))
        if constants:
            workload = _make(workload, constants)
        Traced.need("ScheduleConfig.apply", workload)
        assert isinstance(workload, Workload)
        for step in self._steps():
            workload = step(workload)
        return workload

    def _steps(self) -> Iterable[Callable[[Workload], Workload]]:
        for loop, n in self.pairs("fuse"):
            if n > 1:
                yield unroll(loop=loop, factor=n)
            yield fuse(loop=loop if n == 1 else loop + "_o")
        if self.tile:
            yield tile(sizes=dict(self.tile))
        for loop, n in self.pairs("split"):
            yield split(loop=loop, size=n)
        for loop, n in self.pairs("unroll"):
            yield unroll(loop=loop, factor=n)
        if self.dispatch is not None:
            yield dispatch(self.dispatch)
        if self.ready is not None:
            yield task_graph(ready=self.ready)
        if self.window is not None:
            yield window(self.window)

    def pairs(self, name: str) -> Pairs:
        """One of the fields that go by name: (loop, size) or (constant, value)."""
        return getattr(self, name)

    @property
    def key(self) -> str:
        """All of it as text, policies with the expressions that they are."""
        return self._text(lambda p: f"{policy_text(p)} = {p.rule} {sorted(p.params.items())}")

    def _text(self, policy: Callable[[Policy], str]) -> str:
        parts = [f"{name}={value!r}" for name, value in self.pairs("constants")]
        parts += [
            f"{what}({', '.join(f'{k}={n}' for k, n in getattr(self, what))})"
            for what in REWRITES
            if getattr(self, what)
        ]
        parts += [policy(p) for p in (self.dispatch, self.ready) if p is not None]
        if self.window is not None:
            mode = "" if self.window.mode is WindowMode.STALL else f", {self.window.mode.name}"
            parts.append(f"window({self.window.size} {self.window.unit}{mode})")
        return ", ".join(parts)

    def __str__(self) -> str:
        return self._text(policy_text) or "as given"

    def __repr__(self) -> str:
        return f"<ScheduleConfig {self}>"

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, ScheduleConfig) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)


def _make(make: Any, constants: dict[str, Any]) -> Workload:
    if not callable(make):
        raise ScheduleError(
            "PTO431",
            "a configuration with constants needs the function that makes the workload of them",
            values={"constants": ", ".join(f"{k}={v!r}" for k, v in constants.items()), "got": repr(make)[:80]},
            loc=here(),
            fix="config.apply(lambda **values: attention(x, y, **values))",
        )
    made: Any = make(**constants)
    return made


def policy_text(p: Policy) -> str:
    """A policy as users write it: `affinity(t.b, lanes=4)`."""
    name = "work_steal" if p.steal else p.name
    lanes = p.params.get("lanes")
    parts = [*p.given, *([f"lanes={lanes}"] if isinstance(lanes, int) and lanes else [])]
    kind = "ready=" if p.kind == "ready" else ""
    return f"{kind}{name}({', '.join(parts)})" if parts else kind + name


def pairs(what: str, given: object) -> Pairs:
    """A mapping from names, as pairs. Raises ScheduleError."""
    found: Any = tuple(given.items()) if isinstance(given, Mapping) else given
    good = isinstance(found, tuple) and all(
        isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) for p in found
    )
    if not good:
        raise ScheduleError(
            "PTO430",
            f"{what} are no values by name",
            values={what: repr(given)[:80]},
            loc=here(),
            fix=f'write {what}={{"b": 4}}',
        )
    return found
