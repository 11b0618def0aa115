"""Failures of a run, as the core reports them, become errors that name the task and the user's line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.artifact.container import damaged
from pto_wsp.errors import (
    BindError,
    BoundsError,
    Cancelled,
    ExecutionError,
    InternalError,
    KernelError,
    Location,
    PtoError,
    UnsupportedError,
)
from pto_wsp.ir.core import At, Axis, Eqn, Gather, Kernel, Span, TileAt, Var, View, ViewDim, Wir, written_tensors
from pto_wsp.ir.processes import deepest_of_views
from pto_wsp.ir.requirements import ENOUGH, failed, requirements, unfit, unfit_restrict
from pto_wsp.ir.text import show_view
from pto_wsp.passes.canonicalize_kernel import canonicalize_kernel
from pto_wsp.passes.expand import expand_kernel
from pto_wsp.runtime.deadlock import deadlock_failure
from pto_wsp.runtime.pipelines import pipeline_around, pipeline_failure, race_failure
from pto_wsp.runtime.places import Place, Places
from pto_wsp.runtime.schedule import replay_failure
from pto_wsp.runtime.schedule_failure import rule_failure, window_failure
from pto_wsp.targets.cpu_sim.kernels import kernel_checks

Values = dict[str, object]


def to_error(artifact: Artifact, failure: dict[str, Any]) -> PtoError:
    """The error for `failure`, a record of the core (csrc/include/pto_wsp/bound.hpp says what its fields hold)."""
    kind = failure["kind"]
    if kind == "cancelled":
        return Cancelled("PTO703", "the run was cancelled", fix="execute() runs the program again")
    if kind == "resource":
        return _too_small(failure)
    if kind == "replay":
        return replay_failure(failure["values"])
    if kind == "memory":
        return _no_memory(artifact.wir)
    try:
        return _to_error(_Failure(artifact, failure))
    except (LookupError, AssertionError, ValueError) as e:
        error = damaged("its plan and its wir have different equations")
        raise error from e


def _no_memory(wir: Wir) -> ExecutionError:
    most = deepest_of_views(wir)
    less = "" if most is None else f"make channel {most[0]} less deep, "
    return ExecutionError(
        "PTO715",
        "there is no memory for the run",
        values={} if most is None else {"buffers": f"{most[1]:,} of channel {most[0]}, as many as it is deep"},
        fix=f"{less}use smaller tiles, or fewer threads",
    )


def in_a_line(artifact: Artifact, failure: dict[str, Any]) -> str:
    """The error for `failure`, without values and lines."""
    error = failure["exception"] if failure["kind"] == "hook" else to_error(artifact, failure)
    if not isinstance(error, PtoError):
        return f"{type(error).__name__}: {error}"
    return f"{type(error).__name__} [{error.code}]: {error.what}"


def _too_small(failure: dict[str, Any]) -> PtoError:
    """More of a resource is needed at once than there is of it."""
    needed, given = failure["values"]
    name, what = {
        "TENSORMAP_POOL_FULL": ("dependence_map", "a task takes more entries of the dependence map than there are"),
        "HEAP_ARENA_FULL": ("arena", "the temporaries that are alive at once need more memory than there is"),
    }[failure["text"]]
    values = {"needed": f"{needed:,}", name: f"{given:,}"}
    return BindError("PTO519", what, values=values, fix=f"compile with resources=Resources({name}={needed}), or more")


class _Failure:
    """A failure with what it is about."""

    def __init__(self, artifact: Artifact, record: dict[str, Any]) -> None:
        self.artifact = artifact
        self.wir = artifact.wir
        self.places = Places(artifact.wir)
        self.kind: str = record["kind"]
        self.numbers: list[int] = record["values"]
        self.text: str = record.get("text", "")
        self.arg: int | None = record["arg"]
        self.dim: int | None = record["dim"]
        self.check: int | None = record["check"]
        self.site: int | None = record["site"]
        origin: int | None = record.get("origin")
        self.place: Place | None = (
            self.places.origins[origin]
            if origin is not None
            else self.places.sites[self.site]
            if self.site is not None
            else None
        )
        self.values: Values = {}
        self.task = (self.site or 0, record["coords"])
        if self.place is None:
            return
        if self.place.eqn.prim == "task" and self.site is not None:
            if record["coords"]:
                self.values["task"] = self.places.task(self.site, record["coords"])
        elif record["coords"]:
            self.values["iteration"] = self.places.iteration(self.place, record["coords"])

    @property
    def eqn(self) -> Eqn:
        assert self.place is not None
        return self.place.eqn

    @property
    def loc(self) -> Location | None:
        return self.eqn.loc

    @property
    def kernel(self) -> Kernel:
        return self.wir.kernel(str(self.eqn.params["kernel"]))

    @property
    def leaves(self) -> Kernel:
        """The kernel as it is in the plan."""
        return canonicalize_kernel(expand_kernel(self.kernel))

    def made_in_the_run(self, tensor: str) -> bool:
        """Whether `tensor` holds lengths, pointers or indices of an axis that tasks of the run compute."""
        return self.places.axis_of(tensor) is not None and tensor in written_tensors(self.wir)

    def error(self, code: str, cls: type[PtoError], what: str, fix: str) -> PtoError:
        return cls(code, what, values=self.values, loc=self.loc, fix=fix)


def _to_error(f: _Failure) -> PtoError:
    if f.kind == "window":
        return window_failure(f.wir, f.numbers)
    if f.kind == "not_given" and f.place is None:
        what = f"{f.numbers[0]} more scalars are given than the workload reads"
        return BindError("PTO751", what, fix="give those of a run of this program with these sizes")
    if f.place is None:
        return ExecutionError("PTO714", "semantic time is beyond 2^62 cycles", fix="use smaller sizes")
    match f.kind:
        case "not_given":
            return _not_given(f)
        case "rule":
            return rule_failure(f.wir, f.eqn, f.numbers, f.values)
        case "deadlock":
            pipeline = f"pipeline {f.eqn.params['name']}" if f.eqn.prim == "pipeline" else None
            return deadlock_failure(f.wir, pipeline or f.places.task(*f.task), f.loc, f.numbers)
        case "race":
            return race_failure(f.places, f.numbers)
        case "processes" | "closed" | "limit":
            return pipeline_failure(f.places, pipeline_around(f.wir, f.eqn), f.kind, f.numbers, f.eqn)
        case "bounds":
            return _bounds(f)
        case "read_bounds":
            return _read_bounds(f)
        case "gather_bounds":
            return _gather_bounds(f)
        case "valid_shape":
            return _valid_shape(f)
        case "kernel_fault":
            return _kernel_fault(f)
        case "extent":
            return _extent(f)
        case _:
            return _number(f)


def _not_given(f: _Failure) -> PtoError:
    """A dry run comes to a read of what tasks of the run write."""
    if f.eqn.prim == "task":
        outer, name = _argument(f)
        view = next(iter(outer.index_views()))
        what = f"kernel {f.kernel.label}, argument {name}: a gather by {show_view(view)}"
    else:
        view = f.eqn.ins[0]
        assert isinstance(view, View)
        what = f"{f.eqn.prim} of {show_view(view)}"
    f.values["boundary"] = f"{view.tensor}, which tasks of the run write"
    fix = "program.simulate(scalars=program.scalars) after a run with these sizes"
    return f.error(
        "PTO750", UnsupportedError, f"{what} decides what comes next, and there are no scalars of an earlier run", fix
    )


def _kernel_fault(f: _Failure) -> PtoError:
    """An equation of a kernel meets what it cannot compute."""
    a, b, origin, kind = f.numbers
    inside = [e for top in f.leaves.body.eqns for e in top.walk()][origin]
    if inside.loc is not None:
        f.values["at"] = inside.loc
    label = f"kernel {f.kernel.label}"
    match ("index", "part", "scalar", "shape", "trips", "stopped", "cpp", "unaligned")[kind]:
        case "index":
            what = f"{label}: {inside.prim} by the index {a}, where there are {b}"
            return f.error("PTO730", BoundsError, what, f"give indices from 0 to {b - 1}")
        case "part":
            what = f"{label}: {inside.prim} of {_first_operand(f, inside)} from {a} on, in a dimension of {b}"
            return f.error(
                "PTO732", BoundsError, what, "begin inside of it: loop up to its length, restrict what is stored"
            )
        case "shape" if inside.prim == "restrict":
            what, fix = unfit_restrict(inside, a, b)
            return f.error("PTO710", KernelError, f"{label}: {what}", fix)
        case "shape" if inside.prim == "load_part":
            what = f"{label}: {inside.prim} of {_first_operand(f, inside)} with {a} valid rows or columns, of 1 .. {b}"
            return f.error("PTO732", BoundsError, what, "begin inside of it: loop up to its length")
        case "shape":
            check = failed(requirements(inside), a, b)
            assert check is not None
            what, fix = unfit(inside, check, a, b)
            return f.error("PTO710", KernelError, f"{label}: {what}", fix)
        case "trips":
            what = f"{label}: fori_loop of {a if a < 2**63 - 1 else '2^63 or more'} trips"
            return f.error("PTO733", KernelError, what, f"loop at most {b} times")
        case "cpp":
            return f.error(
                "PTO734",
                KernelError,
                f"{label}: its C++ threw: {f.text}",
                "catch it in the C++, or give it other arguments",
            )
        case "unaligned":
            what = f"{label}: elements of {f.kernel.params[a].name} do not lie at multiples of {b} bytes"
            return f.error("PTO735", KernelError, what, "bind an array that numpy calls aligned: array.flags.aligned")
        case _:
            return _no_result(f, inside, a, b)


def _first_operand(f: _Failure, eqn: Eqn) -> str:
    """What an equation reads or writes, as users call it: names of what a kernel computes are ours."""
    x = eqn.ins[0]
    return x.name if isinstance(x, Var) and x.name in (p.name for p in f.kernel.params) else "a tile that it computes"


def _no_result(f: _Failure, eqn: Eqn, status: int, operand: int) -> PtoError:
    """A scalar operation of a kernel."""
    what = f"kernel {f.kernel.label}: "
    match ("ok", "overflow", "zero_divisor", "shift", "cast_range", "empty")[status]:
        case "overflow":
            return f.error("PTO712", BoundsError, what + "an integer beyond 64 bits", "use smaller numbers")
        case "zero_divisor":
            return f.error("PTO711", ExecutionError, what + "a division by zero", "divide by what is not 0")
        case "shift":
            return f.error("PTO716", ExecutionError, what + f"a shift by {operand}", "shift by 0 .. 63")
        case _:
            return f.error(
                "PTO717", BoundsError, what + "a cast of a number that the type does not hold", "cast smaller numbers"
            )


def _bounds(f: _Failure) -> PtoError:
    """A view of a task reaches outside of its tensor."""
    view, name = _argument(f)
    assert f.dim is not None
    d = view.dims[f.dim]
    f.values[name] = show_view(view)
    what = f"kernel {f.kernel.label}, argument {name}: {_reached(d, f.numbers)} of dimension {f.dim} of {view.tensor}, which has {f.numbers[2]}"
    if isinstance(d, Span):
        return _span_bounds(f, d, what)
    source = f.places.source(d.index) if isinstance(d, At) else None
    if source is not None and f.made_in_the_run(source.tensor):
        return _wrong_axis(f, source.tensor, what)
    return f.error("PTO163", BoundsError, what, "make the axis shorter, or the tensor larger")


def _span_bounds(f: _Failure, d: Span, what: str) -> PtoError:
    """A region of a length that is known at the task."""
    start, length, size = f.numbers
    view, name = _argument(f)
    read = f.places.source(d.length) or f.places.source(d.start)
    if read is not None and f.made_in_the_run(read.tensor):
        return _wrong_axis(f, read.tensor, what)
    if length < 0:
        what = f"kernel {f.kernel.label}, argument {name}: {length} elements from {start}, in dimension {f.dim} of {view.tensor}"
        return f.error("PTO163", BoundsError, what, "let lengths be 0 or more: maximum(n, 0) where they may be less")
    if start >= 0 and start + length <= size:
        what = f"kernel {f.kernel.label}, argument {name}: a region of {length} elements in dimension {f.dim} of {view.tensor}"
        return f.error("PTO163", BoundsError, what, "regions have less than 2^31 elements in each dimension: split it")
    fix = "let the slice end inside the tensor: compare its length with the size before, or take minimum(n, size)"
    return f.error("PTO163", BoundsError, what, fix)


def _argument(f: _Failure) -> tuple[View, str]:
    """The view that a failure of a task is about, and the name of its parameter."""
    assert f.arg is not None
    view = f.eqn.ins[f.arg]
    assert isinstance(view, View)
    return view, f.kernel.params[f.arg].name


def _reached(d: ViewDim, numbers: list[int]) -> str:
    if isinstance(d, At):
        return f"element {numbers[0]}"
    last = numbers[1] if isinstance(d, TileAt) else numbers[0] + numbers[1]
    return f"{numbers[0]} .. {last}"


def _read_bounds(f: _Failure) -> PtoError:
    """A scalar is read, or the indices of a gather are, from outside of a tensor."""
    assert f.dim is not None
    if f.eqn.prim == "task":
        outer, name = _argument(f)
        view = next(v for v in outer.index_views() if f.dim < len(v.dims))
        what = f"kernel {f.kernel.label}, argument {name}: the indices of a gather are"
    else:
        view = f.eqn.ins[0]
        assert isinstance(view, View)
        what = f"{f.eqn.prim} of"
    f.values["view"] = show_view(view)
    d = view.dims[f.dim]
    start, length, size = f.numbers
    reached = f"element {start}" if isinstance(d, At) else f"{length} elements from {start}"
    what = f"{what} {reached} of dimension {f.dim} of {view.tensor}, which has {size}"
    if f.made_in_the_run(view.tensor):
        return _wrong_axis(f, view.tensor, what)
    return f.error("PTO163", BoundsError, what, "read inside the tensor: compare the index with the size before")


def _gather_bounds(f: _Failure) -> PtoError:
    """An index that a gather has read names no element."""
    view, name = _argument(f)
    assert f.dim is not None
    d = view.dims[f.dim]
    assert isinstance(d, Gather)
    index, size, position = f.numbers
    f.values[name] = show_view(view)
    what = f"kernel {f.kernel.label}, argument {name}: index {index}, number {position} of {show_view(d.index)}, into dimension {f.dim} of {view.tensor}, which has {size}"
    if f.made_in_the_run(d.index.tensor):
        return _wrong_axis(f, d.index.tensor, what)
    return f.error("PTO163", BoundsError, what, "let indices be 0 or more, and less than the size of the dimension")


def _wrong_axis(f: _Failure, tensor: str, what: str) -> PtoError:
    f.values["axis"] = f"{f.places.axis_of(tensor)}, from {tensor}, which tasks of this run compute"
    fix = "compute lengths of 0 or more, pointers that do not decrease, and indices inside their axis"
    return f.error("PTO719", ExecutionError, what, fix)


def _extent(f: _Failure) -> PtoError:
    """A loop of a negative number of iterations."""
    shown = f" ({f.numbers[0]})" if f.numbers else ""
    if f.eqn.prim == "task":
        what = f"kernel {f.kernel.label}: a loop around it has a negative extent{shown}"
        return f.error("PTO511", BoundsError, what, "extents are 0 or more")
    axis = f.eqn.params["axis"]
    assert isinstance(axis, Axis)
    what = f"the loop over {f.eqn.params['loop']} has a negative extent{shown}"
    data = next((a for a in f.wir.axes if a.name == axis.name), None)
    if data is not None and f.made_in_the_run(data.tensors[0]):
        return _wrong_axis(f, data.tensors[0], what)
    read = f.places.source(axis.size)
    if read is not None and read.tensor in written_tensors(f.wir):
        f.values["elements"] = f"{show_view(read)}, which tasks of this run compute"
        return f.error("PTO719", ExecutionError, what, "compute lengths of 0 or more")
    return f.error("PTO511", BoundsError, what, "extents are 0 or more")


@dataclass(frozen=True)
class _Kind:
    code: str
    cls: type[PtoError]
    what: str
    fix: str


_KINDS = {
    "scalar_range": _Kind(
        *("PTO713", BoundsError, "a scalar does not fit its parameter"),
        "give an integer that the parameter's dtype holds",
    ),
    "zero_divisor": _Kind("PTO711", ExecutionError, "a division by zero", "let the divisor be something else than 0"),
    "overflow": _Kind("PTO712", BoundsError, "an integer beyond 64 bits", "use smaller sizes"),
    "cost": _Kind(
        *("PTO714", ExecutionError, "a cost that is negative, or beyond 64 bits"),
        "correct the cost tables of the arch, or of a kernel in C++ its cost=",
    ),
    "trips": _Kind(
        *("PTO733", KernelError, "loops of more than 2^28 trips that cost differently"),
        "make loops over that much of the workload",
    ),
    "shift": _Kind("PTO716", ExecutionError, "a shift outside of 0 .. 63", "shift by 0 .. 63 bits"),
    "cast_range": _Kind(
        *("PTO717", BoundsError, "a cast of a number that the new type does not hold"),
        "cast numbers inside the range of the type; minimum and maximum bring them there",
    ),
    "changed": _Kind(
        *("PTO731", ExecutionError, "a tensor that no task writes changed while the run read it"),
        "leave inputs as they are until synchronize() returns",
    ),
    "empty_reduce": _Kind(
        *("PTO718", ExecutionError, "the largest or smallest of no elements"),
        "reduce at least one element, under P.when(n > 0) if need be",
    ),
}


def _number(f: _Failure) -> PtoError:
    """A number that is no good, in a task's arguments or in the scalars between tasks."""
    kind = _KINDS.get(f.kind)
    if kind is None:
        raise InternalError(f"the core reports {f.kind}")
    where = f.eqn.prim
    if f.eqn.prim == "task":
        name = "" if f.arg is None else f", argument {f.kernel.params[f.arg].name}"
        where = f"kernel {f.kernel.label}{name}"
    elif f.eqn.outs:
        where = f"{f.eqn.prim}, which gives {f.eqn.outs[0].name}"
    elif f.eqn.prim in ("parallel_for", "seq_for"):
        where = f"the loop over {f.eqn.params['loop']}"
    shown = f" ({', '.join(map(str, f.numbers))})" if f.numbers else ""
    return f.error(kind.code, kind.cls, f"{where}: {kind.what}{shown}", kind.fix)


def _valid_shape(f: _Failure) -> PtoError:
    kernel = f.kernel
    assert f.check is not None
    check, eqn = kernel_checks(f.leaves)[f.check]
    index = f.wir.kernels.index(kernel)
    rows = f.artifact.check_locations[index] if index < len(f.artifact.check_locations) else ()
    inside = rows[f.check] if f.check < len(rows) else None
    if inside is not None:
        f.values["needed at"] = inside
    word, fix = (
        (
            "differ from",
            "pass tiles of equal valid shape: tile both tensors by the same axis, or pad them to whole tiles",
        )
        if check.rel == "eq"
        else ("are fewer than", ENOUGH)
    )
    unfit = "gets tiles whose valid extents do not fit"
    if eqn.prim == "restrict" and isinstance(check.b, int):
        unfit = "to all of a tile, which is valid in part"
    what = f"kernel {kernel.label}: {eqn.prim} {unfit}: {check.a} {word} {check.b}"
    return f.error("PTO710", KernelError, what, fix)
