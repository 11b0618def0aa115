"""Putting a schedule scope around a workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pto_wsp.errors import ScheduleError, here
from pto_wsp.ir.coordinates import check_scope
from pto_wsp.ir.core import Eqn, Literal, RuleCall, Wir
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.rule import rule_names
from pto_wsp.ir.scopes import OF_THE_WHOLE, around_all, of_the_whole, refuse_around_pipelines
from pto_wsp.trace.workload import Traced
from pto_wsp.transforms.checks import refuse_without_value
from pto_wsp.transforms.policies import KINDS, Policy

W = TypeVar("W", bound=Traced)

_ONCE = {
    "dispatch": "say it once; the innermost places the tasks, and more lanes are for it to name",
    "window": "say it once; a task counts in the innermost window alone",
    "ready": "say it once; the innermost is the one that counts (DispatchPolicy.work_steal says ready=work_steal too)",
}


def scoped(w: W, prim: str, params: Mapping[str, Any]) -> W:
    """w inside of `prim[params] { ... }`, checked: keys name coordinates that the tasks have, and nothing says the same directly inside.

    Raises ScheduleError.
    """
    refuse_around_pipelines(Eqn(prim, regions=(w.wir.body,), loc=here()))
    w = w.with_wir(_with_symbols(w.wir, params)).wrapped(prim, **params)
    scope = w.wir.body.eqns[0]
    check_scope(w.wir, scope)
    refuse_without_value(w.wir, scope)
    if prim in OF_THE_WHOLE or "turns" in params:
        of_the_whole(w.wir, prim)
    inner = next((e for e in around_all(w.wir)[1:] if e.prim == prim), None)
    if inner is not None:
        raise ScheduleError(
            "PTO418",
            f"{_called(scope)} directly around {_called(inner)}, which would decide nothing",
            values={"inside": inner.loc or ", ".join(f"{k}={v}" for k, v in sorted(inner.params.items()))},
            loc=here(),
            fix=_ONCE.get(prim, "say it once; the innermost is the one that counts"),
        )
    return w


def _called(scope: Eqn) -> str:
    return f"{scope.prim}={scope.params['policy']}" if "policy" in scope.params else scope.prim


def _with_symbols(wir: Wir, params: Mapping[str, Any]) -> Wir:
    """wir that knows the symbols of rules too."""
    rules = [p for p in params.values() if isinstance(p, (Expr, Literal, RuleCall))]
    names = sorted({n[1:] for r in rules for n in rule_names(r) if n.startswith("$")} - set(wir.symbols))
    return replace(wir, symbols=(*wir.symbols, *names)) if names else wir


def need_policy(what: str, kind: str, policy: object, example: str) -> Policy:
    """`policy`, of that kind. Raises ScheduleError."""
    if not isinstance(policy, Policy) or policy.kind != kind:
        raise ScheduleError(
            "PTO403",
            f"{what} needs a {KINDS[kind]}",
            values={"got": str(policy)[:80] if isinstance(policy, Policy) else repr(policy)[:80]},
            loc=here(),
            fix="call it with its arguments"
            if callable(policy) and not isinstance(policy, Policy)
            else f"write {example}",
        )
    return policy
