"""Failures of a run, as the core reports them, become errors that name the task and the user's line."""

from __future__ import annotations

from typing import Any

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import BoundsError, Cancelled, ExecutionError, InternalError, KernelError, Location, PtoError
from pto_wsp.ir.core import Axis, Eqn, View
from pto_wsp.ir.text import show_view

_FIX_BOUNDS = "make the axis shorter, or the tensor larger"


def to_error(artifact: Artifact, failure: dict[str, Any]) -> PtoError:
    """The error for `failure`, a record of the core."""
    kind = failure["kind"]
    if kind == "cancelled":
        return Cancelled("PTO703", "the run was cancelled", fix="execute() runs the program again")
    if kind == "extent":
        return _extent(artifact, failure)
    eqn = list(artifact.wir.tasks())[failure["site"]]
    kernel = artifact.wir.kernel(str(eqn.params["kernel"]))
    loc = _at(artifact.task_locations, failure["site"])
    values: dict[str, object] = {"task": f"{kernel.label}[{', '.join(map(str, failure['coords']))}]"}
    numbers = failure["values"]
    name = kernel.params[failure["arg"]].name if failure["arg"] >= 0 else ""
    if kind == "bounds":
        view = eqn.ins[failure["arg"]]
        assert isinstance(view, View)
        values[name] = show_view(view)
        first, last, size = numbers[:3]
        what = f"kernel {kernel.label}, argument {name}: elements {first} .. {last} of dimension {failure['dim']} of {view.tensor}, which has {size}"
        return BoundsError("PTO163", what, values=values, loc=loc, fix=_FIX_BOUNDS)
    if kind == "valid_shape":
        return _valid_shape(artifact, failure, kernel.name, values, loc)
    if kind == "scalar_range":
        return BoundsError("PTO713", f"kernel {kernel.label}, argument {name}: {numbers[0]} does not fit", values=values, loc=loc, fix="give an integer of 32 bits")
    if kind == "zero_divisor":
        return ExecutionError("PTO711", "an index expression divides by zero", values=values, loc=loc, fix="bind the divisor to something else than 0")
    if kind == "overflow":
        return BoundsError("PTO712", "an index expression overflows 64 bits", values=values, loc=loc, fix="use smaller sizes")
    if kind == "cost":
        return ExecutionError("PTO714", f"the cost of kernel {kernel.label} is negative or overflows", values=values, loc=loc, fix="correct the arch's cost tables")
    raise InternalError(f"the core reports {failure}")


def _at(table: tuple[Location | None, ...], k: int) -> Location | None:
    return table[k] if 0 <= k < len(table) else None


def _valid_shape(artifact: Artifact, failure: dict[str, Any], kernel: str, values: dict[str, object], loc: Location | None) -> PtoError:
    index = [k.name for k in artifact.wir.kernels].index(kernel)
    rows = artifact.check_locations[index] if index < len(artifact.check_locations) else ()
    inside = _at(rows, failure["check"])
    if inside is not None:
        values["needed at"] = inside
    a, b = failure["values"][:2]
    what = f"kernel {artifact.wir.kernel(kernel).label}: tiles of one operation have valid extents {a} and {b}"
    return KernelError("PTO710", what, values=values, loc=loc, fix="pass tiles of equal valid shape: tile both tensors by the same axis, or pad them to whole tiles")


def _extent(artifact: Artifact, failure: dict[str, Any]) -> PtoError:
    loops: list[Eqn] = []
    for top in artifact.wir.body.eqns:
        loops += [e for e in top.walk() if isinstance(e.params.get("axis"), Axis)]
    loop = loops[failure["site"]]
    axis = loop.params["axis"]
    assert isinstance(axis, Axis)
    values = {"axis": axis.name, "extent": axis.extent}
    return BoundsError("PTO511", f"the loop over {loop.params['loop']} has extent {failure['values'][0]}", values=values, fix="extents are 0 or more")
