"""The verifier: runs after tracing and after every pass, against what its stage allows."""

from __future__ import annotations

from pto_wsp.errors import CompileError, InternalError, IRConversionError, PtoError, here
from pto_wsp.ir import tasks
from pto_wsp.ir.core import PRIMITIVES, Dialect, Direction, Eqn, Kernel, Literal, Region, Var, Wir, operand_type
from pto_wsp.ir.tasks import Scope, broken

MAX_NESTING = 30

STAGES: dict[str, tuple[str, ...]] = {
    # what a task dialect equation may be, at each stage of the way to the plan
    "traced": (*tasks.LOOPS, *tasks.PARTS, *tasks.SCOPES, "task"),
    "resolved": (*tasks.LOOPS, *tasks.PARTS, "task"),
}


def verify(wir: Wir, stage: str = "traced", *, after: str | None = None) -> None:
    """Check every rule of the wir. Raises IRConversionError; when `after` names a pass, InternalError: the pass broke it."""
    try:
        _verify(wir, stage)
    except PtoError as e:
        if after is None:
            e.loc = e.loc or here()
            raise
        raise InternalError(f"pass {after} gave wir that breaks a rule:\n{e}") from e


def _verify(wir: Wir, stage: str) -> None:
    for what, names in (
        ("symbol", list(wir.symbols)),
        ("tensor", [v.name for v in wir.tensors]),
        ("kernel", [k.name for k in wir.kernels]),
    ):
        if len(set(names)) != len(names):
            raise IRConversionError(
                "PTO302",
                f"two {what}s share a name",
                values={"names": ", ".join(names)},
                fix="this wir breaks a rule of the language",
            )
    for v in wir.tensors:
        for d in wir.tensor_type(v.name).shape:
            if any(not n.startswith("$") or n[1:] not in wir.symbols for n in d.names()) or (
                d.is_const and d.const < 0
            ):
                raise IRConversionError(
                    "PTO302",
                    f"tensor {v.name} has a dimension {d}",
                    fix="dimensions are numbers >= 0 and symbols of the workload",
                )
    for k in wir.kernels:
        verify_kernel(k)
    check_nesting(wir.body)
    seen: set[str] = set()
    _verify_body(wir, wir.body, {}, STAGES[stage], seen)


def check_nesting(body: Region) -> None:
    """Refuse loops, parts and scopes nested deeper than text and plans can be. Raises CompileError."""
    level = [e for e in body.eqns if e.regions]
    for _ in range(MAX_NESTING):
        level = [e for outer in level for r in outer.regions for e in r.eqns if e.regions]
    if level:
        raise CompileError(
            "PTO405",
            f"loops, parts and schedules nested deeper than {MAX_NESTING}",
            loc=level[0].loc or here(),
            fix="write several axes as one loop over their product",
        )


def _verify_body(wir: Wir, region: Region, scope: Scope, allowed: tuple[str, ...], seen: set[str]) -> None:
    for eqn in region.eqns:
        prim = PRIMITIVES.get(eqn.prim)
        if prim is None or prim.dialect is not Dialect.TASK or prim.type is None or eqn.prim not in allowed:
            raise broken(eqn, "not allowed here")
        prim.type(eqn, wir, scope)
        for r in eqn.regions:
            inner = dict(scope)
            for v in r.params:
                if v.name in seen or v.name.startswith("$"):
                    raise broken(eqn, f"the name {v.name} is bound twice")
                seen.add(v.name)
                inner[v.name] = eqn.params["axis"]  # type: ignore[assignment]
            _verify_body(wir, r, inner, allowed, seen)


def verify_kernel(kernel: Kernel) -> None:
    """Names bound once and before use, types as the primitives' rules give them, outputs written before the end."""
    known: dict[str, Var] = {}
    params = {p.name: p for p in kernel.params}
    if len(params) != len(kernel.params):
        raise IRConversionError(
            "PTO302",
            f"kernel {kernel.name}: two parameters share a name",
            loc=kernel.loc,
            fix="this wir breaks a rule of the language",
        )
    written: set[str] = set()
    for eqn in kernel.body.eqns:
        _verify_tile_eqn(eqn, kernel, known, written)
    for p in kernel.params:
        if p.direction is Direction.OUT and p.name not in written:
            raise IRConversionError(
                "PTO302", f"kernel {kernel.name} does not write {p.name}", loc=kernel.loc, fix="store to every output"
            )


def _verify_tile_eqn(eqn: Eqn, kernel: Kernel, known: dict[str, Var], written: set[str]) -> None:
    prim = PRIMITIVES.get(eqn.prim)
    if prim is None or prim.dialect is not Dialect.TILE or prim.type is None or eqn.regions:
        raise broken(eqn, "not an operation of kernels")
    params = {p.name: p for p in kernel.params}
    memory = eqn.prim in ("load", "store")
    for i, x in enumerate(eqn.ins):
        if isinstance(x, Literal):
            continue
        if not isinstance(x, Var):
            raise broken(eqn, "operands of kernels are values and literals")
        p = params.get(x.name)
        if p is not None:
            if p.type != x.type or (memory and i == 0) is (str(p.type) == str(getattr(p.type, "dtype", ""))):
                raise broken(eqn, f"{x.name} is used as {x.type}")
        elif known.get(x.name) != x:
            raise broken(eqn, f"{x.name} is not defined here as {x.type}")
    if memory:
        name = eqn.ins[0].name if eqn.ins and isinstance(eqn.ins[0], Var) else ""
        if name not in params:
            raise broken(eqn, "needs a parameter")
        if eqn.prim == "store":
            if params[name].direction is Direction.IN:
                raise broken(eqn, f"{name} is an input")
            written.add(name)
        elif params[name].direction is Direction.OUT and name not in written:
            raise broken(eqn, f"{name} is read before it is written")
    try:
        typed = prim.type(dict(eqn.params), *(operand_type(x) for x in eqn.ins))
    except (LookupError, TypeError, ValueError, AttributeError) as e:  # wir read from a file may lack anything
        raise broken(eqn, f"its operands or parameters are not those it has: {e}") from e
    want = () if typed.type is None else (typed.type,)
    if tuple(v.type for v in eqn.outs) != want:
        raise broken(eqn, f"its type is {', '.join(map(str, want)) or 'nothing'}")
    for v in eqn.outs:
        if v.name in known or v.name in params:
            raise broken(eqn, f"the name {v.name} is bound twice")
        known[v.name] = v
