"""The task dialect: primitives inside workloads, with their typing rules.

Loops, scopes and parts have one region (or several) and no results; a task has effects on the views it is given.
Costs nothing but the tasks inside: `def_cost` gives 0 for all but `task`, whose cost is its kernel's.
"""

from __future__ import annotations

from collections.abc import Callable

from pto_wsp.errors import InternalError, IRConversionError
from pto_wsp.ir.core import (
    Axis,
    Dialect,
    Direction,
    Eqn,
    IndexType,
    Literal,
    Policy,
    Primitive,
    ScalarType,
    TileAt,
    TileType,
    View,
    Wir,
)
from pto_wsp.ir.expr import Expr, const

Scope = dict[str, Axis]
"""The loop variables in scope, and what they run over."""

parallel_for_p = Primitive("parallel_for", Dialect.TASK, doc="independent iterations")
seq_for_p = Primitive("seq_for", Dialect.TASK, doc="all of an iteration before any of the next")
combine_p = Primitive("combine", Dialect.TASK, doc="several workloads in program order")
sequential_p = Primitive("sequential", Dialect.TASK, doc="all of a part before any of the next")
task_p = Primitive("task", Dialect.TASK, doc="one invocation of a kernel")
dispatch_p = Primitive("dispatch", Dialect.TASK, doc="gives each task inside its home lane")
window_p = Primitive("window", Dialect.TASK, doc="bounds the tasks inside that are issued and not retired")

LOOPS = ("parallel_for", "seq_for")
PARTS = ("combine", "sequential")
SCOPES = ("dispatch", "window")


def broken(eqn: Eqn, why: str) -> IRConversionError:
    return IRConversionError("PTO302", f"{eqn.prim}: {why}", loc=eqn.loc, fix="this wir breaks a rule of the language")


def _need(ok: bool, eqn: Eqn, why: str) -> None:
    if not ok:
        raise broken(eqn, why)


def _in_scope(e: Expr, wir: Wir, scope: Scope, eqn: Eqn) -> None:
    for name in e.names():
        known = name[1:] in wir.symbols if name.startswith("$") else name in scope
        _need(known, eqn, f"{name} is not in scope")


def _loop_type(eqn: Eqn, wir: Wir, scope: Scope) -> None:
    axis = eqn.params.get("axis")
    _need(isinstance(axis, Axis) and isinstance(eqn.params.get("loop"), str), eqn, "needs an axis and a loop name")
    assert isinstance(axis, Axis)
    _need(
        len(eqn.regions) == 1 and [v.type for v in eqn.regions[0].params] == [IndexType()],
        eqn,
        "needs one region with one loop variable",
    )
    _need(
        axis.kind in ("Dense", "DenseDyn", "Tiles", "Range") and axis.tile >= 1,
        eqn,
        f"a {axis.kind} axis of tiles of {axis.tile}",
    )
    _in_scope(axis.size, wir, scope, eqn)


def _parts_type(eqn: Eqn, wir: Wir, scope: Scope) -> None:
    _need(len(eqn.regions) >= 1 and not any(r.params for r in eqn.regions), eqn, "needs regions without parameters")


def _dispatch_type(eqn: Eqn, wir: Wir, scope: Scope) -> None:
    policy = eqn.params.get("policy")
    _need(isinstance(policy, Policy) and policy.name == "round_robin" and policy.lanes >= 1, eqn, "needs a policy")
    _need(len(eqn.regions) == 1 and not eqn.regions[0].params, eqn, "needs one region")


def _window_type(eqn: Eqn, wir: Wir, scope: Scope) -> None:
    tasks, mode = eqn.params.get("tasks"), eqn.params.get("mode")
    _need(isinstance(tasks, int) and tasks >= 1 and mode == "STALL", eqn, "needs tasks >= 1 and mode STALL")
    _need(len(eqn.regions) == 1 and not eqn.regions[0].params, eqn, "needs one region")


def _task_type(eqn: Eqn, wir: Wir, scope: Scope) -> None:
    name, coords = eqn.params.get("kernel"), eqn.params.get("coords")
    kernel = next((k for k in wir.kernels if k.name == name), None)
    _need(kernel is not None, eqn, f"there is no kernel {name}")
    assert kernel is not None
    _need(
        isinstance(coords, tuple) and len(eqn.ins) == len(kernel.params) and not eqn.regions,
        eqn,
        "needs coordinates and one argument for each parameter",
    )
    assert isinstance(coords, tuple)
    for c in coords:
        _need(isinstance(c, Expr), eqn, "a coordinate is an expression")
        assert isinstance(c, Expr)
        _in_scope(c, wir, scope, eqn)
    for param, arg in zip(kernel.params, eqn.ins, strict=True):
        if isinstance(param.type, ScalarType):
            _need(
                isinstance(arg, Expr) or (isinstance(arg, Literal) and arg.dtype is param.type.dtype),
                eqn,
                f"{param.name} needs a scalar of {param.type}",
            )
            if isinstance(arg, Expr):
                _need(param.direction is Direction.IN, eqn, f"{param.name} is a scalar")
                _in_scope(arg, wir, scope, eqn)
        else:
            _need(isinstance(arg, View), eqn, f"{param.name} needs a view")
            assert isinstance(arg, View)
            _view_type(arg, param.type, wir, scope, eqn)


def _view_type(view: View, param: TileType, wir: Wir, scope: Scope, eqn: Eqn) -> None:
    _need(any(v.name == view.tensor for v in wir.tensors), eqn, f"there is no tensor {view.tensor}")
    tensor = wir.tensor_type(view.tensor)
    _need(len(view.dims) == len(tensor.shape), eqn, f"{view.tensor} has {len(tensor.shape)} dimensions")
    _need(
        tensor.dtype is param.dtype and view.shape == param.shape, eqn, f"a view of {view.tensor} does not fit {param}"
    )
    for name in view.names():
        known = name[1:] in wir.symbols if name.startswith("$") else name in scope
        _need(known, eqn, f"{name} is not in scope")
    _need(all(d.size >= 1 for d in view.kept if isinstance(d, TileAt)), eqn, "tiles have at least one element")


for _p in (parallel_for_p, seq_for_p):
    _p.def_type(_loop_type)
for _p in (combine_p, sequential_p):
    _p.def_type(_parts_type)
dispatch_p.def_type(_dispatch_type)
window_p.def_type(_window_type)
task_p.def_type(_task_type)


def _no_cycles(eqn: Eqn, kernel_cost: Callable[[str], Expr]) -> Expr:
    return const(0)


for _p in (parallel_for_p, seq_for_p, combine_p, sequential_p, dispatch_p, window_p):
    _p.def_cost(_no_cycles)


@task_p.def_cost
def _(eqn: Eqn, kernel_cost: Callable[[str], Expr]) -> Expr:
    name = eqn.params["kernel"]
    if not isinstance(name, str):
        raise InternalError("a task without a kernel")
    return kernel_cost(name)
