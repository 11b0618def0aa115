"""Schedule scopes: equations with a region that say something of the tasks inside; the innermost that names a property wins.

    dispatch[lanes=4, policy="affinity", lane=mod(first_appearance((task.b)), (4)), pinned=true]
                                  home lane: the rule modulo the lanes (0: as many as streams, else the arch, say); `pinned` to a thread
    streams[count=4]              tasks of one stream run one after another
    stream_by[key=(task.b)]       which stream; with a count modulo it
    timing[policy="batched", batch=4]     released 4 at a time; `distance`: cycles until the next issue, at least; `turns`: one task of
                                  each of so many streams in turn
    window[tasks=8, mode="STALL"]         issued and not retired at most; or `bytes`
    ready[policy="priority", priority=(task.b)]   which ready task a lane takes first; `steal`: idle lanes take them from others
    start[tasks=4]                lanes take nothing before so many are issued; 0: all
    pools[policy="custom", names=["a" "b"], lanes=[1 2], pool=(task.b)]   lanes of their own for some tasks; 0 lanes: as many as dispatch deals out
    deps[mode="hybrid"]           how dependences are found
    trace[level="tasks"]          what runs record, until `program.enable_tracing` says otherwise

`start`, `pools`, `deps`, `trace` and turns are said of the whole workload, once. A pipeline is one task of the scopes around it, which are
those that AROUND_PIPELINES names; inside of a process there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pto_wsp.errors import PtoError, ScheduleError, here
from pto_wsp.ir.core import Dialect, DType, Eqn, Literal, Primitive, RuleCall, Wir
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.rule import COORDINATE, Rule, dtype_of, rule_names
from pto_wsp.ir.tasks import BUFFERS, Scope, broken, no_cycles, scope_regions

SCOPES = ("dispatch", "streams", "stream_by", "timing", "window", "ready", "start", "pools", "deps", "trace")
OF_THE_WHOLE = ("start", "pools", "deps", "trace")
"""Scopes that stand around the whole workload, once."""
AROUND_PIPELINES = ("window", "start", "deps", "trace")
"""Scopes that have a meaning for a pipeline inside."""

DEPS = ("infer_tensor_map_exact", "infer_bytes_overlap", "explicit", "hybrid")
MODES = ("STALL", "ABORT", "BENCHMARK")
TRACES = ("none", "tasks", "full")
MOST_LANES = 65_536
MOST = 2**40
"""Tasks of a window, a batch or a start."""


@dataclass(frozen=True)
class _Param:
    """A parameter of a scope: whether a value is one, and whether it may be left out."""

    ok: Callable[[object], bool]
    needed: bool = True


def _count(low: int, high: int) -> Callable[[object], bool]:
    return lambda x: type(x) is int and low <= x <= high


def _is_name(x: object) -> bool:
    return isinstance(x, str) and x != ""


def _is_rule(x: object) -> bool:
    """A rule of integers, over coordinates and symbols."""
    if not isinstance(x, (Expr, Literal, RuleCall)):
        return False
    try:
        integer = dtype_of(x) in (DType.I64, DType.U64)
    except (PtoError, LookupError):
        return False
    return integer and all(n.startswith(("$", COORDINATE)) for n in rule_names(x))


def _list_of(ok: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda x: isinstance(x, tuple) and len(x) >= 1 and all(map(ok, x))


_RULE, _OPTIONAL_RULE = _Param(_is_rule), _Param(_is_rule, needed=False)
_NAME = _Param(_is_name)
_FLAG = _Param(lambda x: x is True, needed=False)
PARAMS: dict[str, dict[str, _Param]] = {
    "dispatch": {"lanes": _Param(_count(0, MOST_LANES)), "policy": _NAME, "lane": _RULE, "pinned": _FLAG},
    "streams": {"count": _Param(_count(1, MOST))},
    "stream_by": {"key": _RULE},
    "timing": {
        "policy": _NAME,
        "batch": _Param(_count(1, MOST), needed=False),
        "turns": _Param(_count(1, MOST), needed=False),
        "distance": _OPTIONAL_RULE,
    },
    "window": {
        "tasks": _Param(_count(1, MOST), needed=False),
        "bytes": _Param(_count(1, 2**62), needed=False),
        "mode": _Param(lambda x: x in MODES),
    },
    "ready": {"policy": _NAME, "priority": _OPTIONAL_RULE, "steal": _FLAG},
    "start": {"tasks": _Param(_count(0, MOST))},
    "pools": {
        "policy": _NAME,
        "names": _Param(_list_of(_is_name)),
        "lanes": _Param(_list_of(_count(0, MOST_LANES))),
        "pool": _OPTIONAL_RULE,
    },
    "deps": {"mode": _Param(lambda x: x in DEPS)},
    "trace": {"level": _Param(lambda x: x in TRACES)},
}
_DOCS = {
    "dispatch": "gives each task inside its home lane",
    "streams": "how many streams the tasks inside go to",
    "stream_by": "which stream each task inside goes to",
    "timing": "when the tasks inside are issued and released",
    "window": "bounds the tasks inside that are issued and not retired",
    "ready": "which of the ready tasks inside are taken first, and by whom",
    "start": "how many tasks are issued before the first is taken",
    "pools": "which lanes the tasks inside may run on",
    "deps": "how the tasks inside are ordered",
    "trace": "what runs record of the tasks inside",
}


def _scope_type(eqn: Eqn, scope: Scope) -> None:
    params = PARAMS[eqn.prim]
    for name, p in params.items():
        have = name in eqn.params
        if (p.needed and not have) or (have and not p.ok(eqn.params[name])):
            raise broken(eqn, f"{name} is {eqn.params.get(name, 'missing')}")
    if unknown := sorted(set(eqn.params) - set(params)):
        raise broken(eqn, f"has no {', '.join(unknown)}")
    if eqn.prim == "window" and ("tasks" in eqn.params) == ("bytes" in eqn.params):
        raise broken(eqn, "is in tasks or in bytes")
    if eqn.prim == "pools" and _length(eqn.params["names"]) != _length(eqn.params["lanes"]):
        raise broken(eqn, "needs lanes for each name")
    for p in eqn.params.values():
        if isinstance(p, (Expr, Literal, RuleCall)):
            for name in rule_names(p):
                if name.startswith("$") and name[1:] not in scope.wir.symbols:
                    raise broken(eqn, f"{name} is not in scope")
    if scope.process is not None:
        raise in_process(eqn, scope.process)
    refuse_around_pipelines(eqn)
    scope_regions(eqn, scope)
    if eqn.prim in OF_THE_WHOLE or "turns" in eqn.params:
        of_the_whole(scope.wir, eqn.prim)


def refuse_around_pipelines(scope: Eqn) -> None:
    """Raise ScheduleError for a scope around a pipeline that says nothing of one."""
    inside = next((e for e in scope.walk() if e.prim == "pipeline"), None)
    if inside is not None and scope.prim not in AROUND_PIPELINES:
        fix = f"schedule what stands beside it alone; around a pipeline there may be {', '.join(AROUND_PIPELINES)}"
        raise _no_meaning(scope, f"around pipeline {inside.params.get('name')}", fix)


def in_process(scope: Eqn, process: Eqn) -> ScheduleError:
    """The error of a scope inside of a process."""
    return _no_meaning(scope, f"inside of process {process.params.get('name')}", "say it around the pipeline")


def _no_meaning(scope: Eqn, where: str, fix: str) -> ScheduleError:
    return ScheduleError("PTO404", f"{scope.prim} {where}", loc=scope.loc or here(), fix=fix)


def _length(x: object) -> int:
    return len(x) if isinstance(x, tuple) else 0


for _name in SCOPES:
    _p = Primitive(_name, Dialect.TASK, doc=_DOCS[_name])
    _p.def_type(_scope_type)
    _p.def_cost(no_cycles)


def origins(wir: Wir) -> tuple[Eqn, ...]:
    """Every equation of the body but scopes and buffers, in walk order: positions in it name equations in plans and failures."""
    return tuple(e for top in wir.body.eqns for e in top.walk() if e.prim not in (*SCOPES, *BUFFERS))


def scopes(wir: Wir, prim: str) -> Iterator[Eqn]:
    """Every scope of a kind, in program order."""
    return (e for top in wir.body.eqns for e in top.walk() if e.prim == prim)


def of_the_whole(wir: Wir, prim: str) -> Eqn | None:
    """The scope of a kind that must be said of the whole workload, once; of `timing` the one with turns. Raises ScheduleError."""
    found = [e for e in scopes(wir, prim) if prim != "timing" or "turns" in e.params]
    if not found:
        return None
    if len(found) > 1 or not any(e is found[0] for e in around_all(wir)):
        what = {
            "deps": "dependences",
            "start": "a start policy",
            "pools": "pools",
            "trace": "a trace policy",
            "timing": "interleaved timing",
        }[prim]
        raise ScheduleError(
            "PTO404",
            f"{what} of a part of a workload, or said twice",
            values={"said": ", ".join(_said(e) for e in found)},
            loc=found[-1].loc or here(),
            fix="say it once, of the whole workload",
        )
    return found[0]


def _said(eqn: Eqn) -> str:
    return ", ".join(f"{k}={v}" for k, v in sorted(eqn.params.items()))


def around_all(wir: Wir) -> list[Eqn]:
    """The scopes around everything, outermost first."""
    out, region = list[Eqn](), wir.body
    while region.eqns and region.eqns[0].prim in SCOPES and all(e.prim == "yield" for e in region.eqns[1:]):
        out.append(region.eqns[0])
        region = region.eqns[0].regions[0]
    return out


def deps_mode(wir: Wir) -> str:
    """How dependences are found, which only the whole workload says. Raises ScheduleError where a part says so, or it is said twice."""
    found = of_the_whole(wir, "deps")
    return DEPS[0] if found is None else str(found.params["mode"])


def rules_of(eqn: Eqn) -> Iterator[tuple[str, Rule]]:
    """The rules of a scope, by parameter."""
    for name, p in eqn.params.items():
        if isinstance(p, (Expr, Literal, RuleCall)):
            yield name, p
