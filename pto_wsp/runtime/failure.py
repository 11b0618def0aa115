"""Failures of a run, as the core reports them, become errors that name the task and the user's line."""

from __future__ import annotations

from typing import Any

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.artifact.container import damaged
from pto_wsp.errors import BoundsError, Cancelled, ExecutionError, InternalError, KernelError, Location, PtoError
from pto_wsp.ir.core import At, Eqn, Kernel, TileAt, View, Wir
from pto_wsp.ir.expr import var
from pto_wsp.ir.text import show_view
from pto_wsp.passes.expand import expand_kernel
from pto_wsp.targets.cpu_sim.kernels import kernel_checks


def to_error(artifact: Artifact, failure: dict[str, Any]) -> PtoError:
    """The error for `failure`, a record of the core (csrc/include/pto_wsp/bound.hpp says what its fields hold)."""
    try:
        return _to_error(artifact, failure)
    except (LookupError, AssertionError, ValueError) as e:
        error = damaged("its plan and its wir have different tasks")
        raise error from e


def _to_error(artifact: Artifact, failure: dict[str, Any]) -> PtoError:
    kind, numbers = failure["kind"], failure["values"]
    if kind == "cancelled":
        return Cancelled("PTO703", "the run was cancelled", fix="execute() runs the program again")
    if kind == "memory":
        return ExecutionError("PTO715", "there is no memory for the run", fix="use smaller tiles, or fewer threads")
    if failure["site"] is None:
        return ExecutionError("PTO714", "semantic time is beyond 2^62 cycles", fix="use smaller sizes")
    eqn = list(artifact.wir.tasks())[failure["site"]]
    kernel = artifact.wir.kernel(str(eqn.params["kernel"]))
    loc = _at(artifact.task_locations, failure["site"])
    values: dict[str, object] = {}
    if failure["coords"]:
        values["task"] = f"{kernel.label}[{', '.join(_coordinates(artifact.wir, eqn, failure['coords']))}]"
    name = "" if failure["arg"] is None else kernel.params[failure["arg"]].name
    if kind == "bounds":
        view = eqn.ins[failure["arg"]]
        assert isinstance(view, View)
        values[name] = show_view(view)
        d = view.dims[failure["dim"]]
        last = numbers[1] if isinstance(d, TileAt) else numbers[0] + numbers[1]
        reached = f"element {numbers[0]}" if isinstance(d, At) else f"{numbers[0]} .. {last}"
        what = f"kernel {kernel.label}, argument {name}: {reached} of dimension {failure['dim']} of {view.tensor}, which has {numbers[2]}"
        return BoundsError("PTO163", what, values=values, loc=loc, fix=_FIXES[kind])
    if kind == "valid_shape":
        return _valid_shape(artifact, failure, kernel, values, loc)
    codes = {
        "extent": ("PTO511", BoundsError),
        "scalar_range": ("PTO713", BoundsError),
        "zero_divisor": ("PTO711", ExecutionError),
        "overflow": ("PTO712", BoundsError),
        "cost": ("PTO714", ExecutionError),
    }
    if kind not in codes:
        raise InternalError(f"the core reports {failure}")
    code, cls = codes[kind]
    shown = f" ({numbers[0]})" if numbers else ""
    where = f", argument {name}" if name else ""
    return cls(code, f"kernel {kernel.label}{where}: {_KINDS[kind]}{shown}", values=values, loc=loc, fix=_FIXES[kind])


_KINDS = {
    "extent": "a loop around it has a negative extent",
    "scalar_range": "a scalar does not fit its parameter",
    "zero_divisor": "an index expression divides by zero",
    "overflow": "an integer beyond 64 bits",
    "cost": "a cost that is negative or beyond 64 bits",
}
_FIXES = {
    "extent": "extents are 0 or more",
    "bounds": "make the axis shorter, or the tensor larger",
    "scalar_range": "give an integer that the parameter's dtype holds",
    "zero_divisor": "bind the divisor to something else than 0",
    "overflow": "use smaller sizes",
    "cost": "correct the cost tables of the arch",
}


def _coordinates(wir: Wir, task: Eqn, numbers: list[int]) -> list[str]:
    """`b=3` where a coordinate is a loop variable, else its number."""
    labels: dict[str, str] = {}
    for top in wir.body.eqns:
        for loop in top.walk():
            for v in (v for r in loop.regions for v in r.params):
                labels[v.name] = str(loop.params["loop"])
    coords = task.params["coords"]
    assert isinstance(coords, tuple)
    names = [next((label for name, label in labels.items() if c == var(name)), None) for c in coords]
    return [str(x) if name is None else f"{name}={x}" for name, x in zip(names, numbers, strict=True)]


def _at(table: tuple[Location | None, ...], k: int) -> Location | None:
    return table[k] if 0 <= k < len(table) else None


def _valid_shape(
    artifact: Artifact, failure: dict[str, Any], kernel: Kernel, values: dict[str, object], loc: Location | None
) -> PtoError:
    checks = kernel_checks(expand_kernel(kernel))
    check, eqn = checks[failure["check"]]
    index = artifact.wir.kernels.index(kernel)
    rows = artifact.check_locations[index] if index < len(artifact.check_locations) else ()
    inside = _at(rows, failure["check"])
    if inside is not None:
        values["needed at"] = inside
    word = "differ from" if check.rel == "eq" else "are fewer than"
    what = f"kernel {kernel.label}: {eqn.prim} gets tiles whose valid extents do not fit: {check.a} {word} {check.b}"
    return KernelError(
        "PTO710",
        what,
        values=values,
        loc=loc,
        fix="pass tiles of equal valid shape: tile both tensors by the same axis, or pad them to whole tiles",
    )
