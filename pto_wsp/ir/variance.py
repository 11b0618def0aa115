"""What differs between the devices of a mesh, and whether layouts say so.

Every device runs the same workload on its part of the tensors. What it computes differs along an axis of the mesh where it comes from something that does:
a tensor that the axis divides, an element of one in an index, an extent or a condition. So a layout is a type, and these are its rules:

    a task that reads what differs along x writes only tensors that x divides, that are pending over x, or that have no layout (a device's own);
    what is pending is read by no one, but by a task that adds to it;
    the dimensions that a loop goes over have a join: S(x) with S(y) has none, and R with S(x) has one where they are as long on a device;
    what is pending over x as a sum is written from something that differs along x, and so is what a task adds to it: it would be counted once for
    each device.

That is the type system of JAX's shard_map (varying and invariant values) for tensors that are written in parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pto_wsp.errors import LayoutIncompatibleError, Location, PtoError, TypeCheckError
from pto_wsp.ir.collectives import COLLECTIVES
from pto_wsp.ir.core import (
    At,
    Axis,
    Direction,
    Eqn,
    In,
    Kernel,
    Region,
    Role,
    Slice,
    TensorType,
    TileAt,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.coverage import Uses, is_written_first
from pto_wsp.ir.expr import Expr, ceildiv, const
from pto_wsp.ir.layout import Distribution, pending_read
from pto_wsp.ir.processes import ENDS
from pto_wsp.ir.tasks import LOOPS, READS

K = TypeVar("K")
Varying = Mapping[str, str]
"""Axes of the mesh along which something differs, and what makes it."""
NOTHING: Varying = {}
_COMBINES = {"sum": ("add", "matmul"), "max": ("maximum",), "min": ("minimum",)}


def check_layouts(wir: Wir, loc: Location | None) -> None:
    """Raise LayoutIncompatibleError, and TypeCheckError for what is read while it is pending, at the user's line; `loc` is that of the workload."""
    if wir.mesh is None:
        return
    for v in wir.tensors:
        t = wir.tensor_type(v.name)
        if t.layout is not None and t.layout.pending and t.role is not Role.TEMPORARY:
            done = "returned" if t.role is Role.RESULT else "given"
            error = pending_read(f"tensor {v.name} of workload {wir.name}", t.layout, done)
            error.loc = loc
            raise error
    look = _Look(wir)
    size = -1
    while size != look.size:  # what a loop's first iterations leave may differ in the next
        size = look.size
        look.region(wir.body, NOTHING)
    look.reports = True
    look.region(wir.body, NOTHING)
    look.check_written(loc)


@dataclass(frozen=True)
class _Walked:
    """A dimension that a loop goes over: how it is distributed, and how many iterations there are for what a device has of it."""

    tensor: str
    dim: int
    distribution: Distribution
    extent: Expr
    view: View


@dataclass
class _Look:
    """One walk in program order after another; what differs only grows."""

    wir: Wir
    reports: bool = False
    tensors: dict[str, dict[str, str]] = field(default_factory=dict[str, "dict[str, str]"])  # those without a layout
    scalars: dict[str, dict[str, str]] = field(default_factory=dict[str, "dict[str, str]"])
    slots: dict[int, dict[str, str]] = field(default_factory=dict[int, "dict[str, str]"])
    fed: dict[str, set[str]] = field(default_factory=dict[str, set[str]])  # axes along which a tensor's writes differ
    combined: dict[str, Location | None] = field(
        default_factory=dict[str, "Location | None"]
    )  # where tensors first are
    loops: dict[str, list[_Walked]] = field(default_factory=dict[str, "list[_Walked]"])

    @property
    def size(self) -> int:
        """How much is known to differ."""
        return sum(len(found) for of in (self.tensors, self.scalars, self.slots) for found in of.values())

    # what differs

    def tensor(self, name: str) -> Varying:
        layout = self.wir.tensor_type(name).layout
        if layout is None:
            return self.tensors.get(name, NOTHING)
        return dict.fromkeys(sorted(layout.varies), f"{name}, which lies as {layout}")

    def expr(self, e: Expr) -> Varying:
        return _union(*(self.scalars.get(n, NOTHING) for n in sorted(e.names())))

    def position(self, view: View) -> Varying:
        """Along which axes a view names different elements."""
        return _union(*(self.expr(e) for e in view.exprs()), *(self.tensor(v.tensor) for v in view.index_views()))

    def value(self, x: In) -> Varying:
        match x:
            case Var():
                return self.scalars.get(x.name, NOTHING)
            case Expr():
                return self.expr(x)
            case View():
                return _union(self.tensor(x.tensor), self.position(x))
            case _:
                return NOTHING

    # the walk

    def region(self, region: Region, control: Varying) -> None:
        for eqn in region.eqns:
            self.eqn(eqn, control)

    def eqn(self, eqn: Eqn, control: Varying) -> None:
        if eqn.prim == "task":
            self.task(eqn, control)
        elif eqn.prim in LOOPS:
            self.loop(eqn, control)
        elif eqn.prim == "cond":
            inside = _union(control, self.value(eqn.ins[0]))
            for r in eqn.regions:
                self.region(r, inside)
        elif eqn.prim in ENDS:
            self.end(eqn, control)
        elif eqn.prim in COLLECTIVES:
            pass  # the verifier compares the layouts
        else:
            self.scalar(eqn, control)
            for r in eqn.regions:
                self.region(r, control)

    def scalar(self, eqn: Eqn, control: Varying) -> None:
        if eqn.prim in READS:
            for view in (x for x in eqn.ins if isinstance(x, View)):
                self.need_reduced(view, eqn.loc)
        found = _union(*map(self.value, eqn.ins))
        if eqn.prim in ("slot_get", "slot_set"):
            slot = eqn.params["slot"]
            assert isinstance(slot, int)
            if eqn.prim == "slot_set":
                _grow(self.slots, slot, _union(found, control))
            found = self.slots.get(slot, NOTHING)
        for v in eqn.outs:
            _grow(self.scalars, v.name, found)

    def loop(self, eqn: Eqn, control: Varying) -> None:
        axis, body = eqn.params["axis"], eqn.regions[0]
        assert isinstance(axis, Axis)
        inside = _union(control, self.expr(axis.size))
        for condition in eqn.regions[1:]:
            self.region(condition, inside)
            inside = _union(inside, *(self.value(x) for x in condition.eqns[-1].ins))
        name = body.params[0].name
        self.loops[name] = []
        self.region(body, inside)

    def end(self, eqn: Eqn, control: Varying) -> None:
        """A channel's tokens: how many there are, and what they hold."""
        channel = eqn.ins[0]
        assert isinstance(channel, Var)
        # which token is received next depends on how many were before
        _grow(self.scalars, channel.name, _union(control, *map(self.value, eqn.ins[1:])))
        found = self.scalars.get(channel.name, NOTHING)
        if eqn.prim in ("try_send", "query"):  # what they answer depends on time, which depends on all data
            assert self.wir.mesh is not None
            found = dict.fromkeys(self.wir.mesh.shape, f"the answer of {eqn.prim}, which depends on time")
        for v in (*eqn.outs, *(p for r in eqn.regions for p in r.params)):
            _grow(self.scalars, v.name, found)
        for r in eqn.regions:
            self.region(r, _union(control, found))

    def task(self, eqn: Eqn, control: Varying) -> None:
        kernel = self.wir.kernel(str(eqn.params["kernel"]))
        found = control
        for param, x in zip(kernel.params, eqn.ins, strict=True):
            if not isinstance(x, View):
                found = _union(found, self.value(x))
                continue
            self.walk(x, eqn)
            found = _union(found, self.position(x))
            for v in x.index_views():
                self.need_reduced(v, eqn.loc)
            if param.direction is not Direction.OUT:
                layout = self.wir.tensor_type(x.tensor).layout
                ops = [] if layout is None else list(layout.pending.values())
                if param.direction is Direction.IN or not all(combines(kernel, param.name, op) for op in ops):
                    self.need_reduced(x, eqn.loc)
                elif ops:
                    self.combined.setdefault(x.tensor, eqn.loc)
                found = _union(found, {} if ops else self.tensor(x.tensor))
        for param, x in zip(kernel.params, eqn.ins, strict=True):
            if isinstance(x, View) and param.direction is not Direction.IN:
                self.written(x, found, kernel, eqn.loc, adds=param.direction is Direction.INOUT)

    def written(self, view: View, found: Varying, kernel: Kernel, loc: Location | None, *, adds: bool) -> None:
        name, layout = view.tensor, self.wir.tensor_type(view.tensor).layout
        self.fed.setdefault(name, set()).update(found)
        if layout is None:
            _grow(self.tensors, name, found)
            return
        wrong = [a for a in found if a not in layout.varies]
        if wrong and self.reports:
            axis = wrong[0]
            raise LayoutIncompatibleError(
                *(
                    "PTO893",
                    f"task {kernel.label} writes {name}, which is the same on all devices along {axis}, from what is not",
                ),
                values={f"differs along {axis}": found[axis], name: self.wir.tensor_type(name)},
                loc=loc,
                fix=f"give {name} a layout that {axis} divides, or in which a reduction over {axis} is pending",
            )
        same = next((a for a, op in layout.pending.items() if op == "sum" and a not in found), None)
        if adds and same and self.reports:
            raise LayoutIncompatibleError(
                *(
                    "PTO893",
                    f"task {kernel.label} adds to {name}, a sum over {same}, what is the same on all devices along it",
                ),
                values={name: self.wir.tensor_type(name)},
                loc=loc,
                fix=f"each device would add it: add it to what allreduce gives, or on one device, or leave {same} out of what is pending",
            )

    # checks

    def need_reduced(self, view: View, loc: Location | None) -> None:
        layout = self.wir.tensor_type(view.tensor).layout
        if layout is not None and layout.pending and self.reports:
            error = pending_read(view.tensor, layout)
            error.loc = loc or error.loc
            raise error

    def walk(self, view: View, eqn: Eqn) -> None:
        """Compare the dimensions of a view that a loop goes over with those of views before."""
        t = self.wir.tensor_type(view.tensor)
        if t.layout is None or not self.reports:
            return
        for k, (d, n) in enumerate(zip(view.dims, t.shape, strict=True)):
            name, unit = _walked_by(d)
            if name not in self.loops:
                continue
            new = _Walked(view.tensor, k, t.layout.dims[k], ceildiv(n, const(unit)), view)
            for old in self.loops[name]:
                if not _join(old, new):
                    raise self.no_join(name, old, new, eqn)
            self.loops[name].append(new)

    def no_join(self, loop: str, a: _Walked, b: _Walked, eqn: Eqn) -> PtoError:
        types: dict[str, TensorType] = {x.tensor: self.wir.tensor_type(x.tensor) for x in (a, b)}
        return LayoutIncompatibleError(
            *(
                "PTO891",
                f"{loop} goes over dimension {a.dim} of {a.tensor}, which is {a.distribution}, and dimension {b.dim} of {b.tensor}, which is {b.distribution}",
            ),
            values=types,
            loc=eqn.loc,
            fix="relayout one of them: relayout(t, tensor_layout_join(a, b)) where there is a join",
        )

    def check_written(self, loc: Location | None) -> None:
        for v in self.wir.tensors:
            t = self.wir.tensor_type(v.name)
            found = self.tensors.get(v.name, NOTHING)
            if t.role is Role.RESULT and found:
                axis = next(iter(found))
                raise LayoutIncompatibleError(
                    *(
                        "PTO893",
                        f"workload {self.wir.name} returns {v.name}, which differs between devices and has no layout",
                    ),
                    values={f"differs along {axis}": found[axis]},
                    loc=loc,
                    fix="empty(shape, dtype, layout=TensorLayout(mesh, ...)) says of what the devices' parts are parts",
                )
            for axis, op in ({} if t.layout is None else t.layout.pending).items():
                unwritten = v.name in self.combined and op != "sum"  # a sum may begin with the zeros that are there
                if unwritten and not is_written_first(self.wir, Uses(), self.wir.body, v.name, {}):
                    raise TypeCheckError(
                        *("PTO892", f"{v.name}, a {op} over {axis}, is read before all of it is written"),
                        values={v.name: t},
                        loc=self.combined[v.name],
                        fix="write all of it first, with an Out parameter: what nothing has written is 0",
                    )
                if op == "sum" and v.name in self.fed and axis not in self.fed[v.name]:
                    raise LayoutIncompatibleError(
                        *("PTO893", f"{v.name} is a sum over {axis} of what is the same on all devices along it"),
                        values={v.name: t},
                        loc=loc,
                        fix=f"leave {axis} out of what is pending",
                    )


def combines(kernel: Kernel, param: str, op: str) -> bool:
    """Whether all that a kernel does with a parameter is to combine it with something: load, add (or the product's accumulator), store."""
    inside = [e for top in kernel.body.eqns for e in top.walk()]
    uses = [e for e in inside if any(isinstance(x, Var) and x.name == param for x in e.ins)]
    if [e.prim for e in uses] != ["load", "store"] or not all(any(e is top for top in kernel.body.eqns) for e in uses):
        return False
    load, store = uses
    old, new = load.outs[0], store.ins[1]
    users = [e for e in inside if old in e.ins]
    if (
        len(users) != 1
        or not isinstance(new, Var)
        or new not in users[0].outs
        or sum(new in e.ins for e in inside) != 1
    ):
        return False
    ins = users[0].ins
    place = ins.index(old)
    return users[0].prim in _COMBINES[op] and ins.count(old) == 1 and (users[0].prim != "matmul" or place == 2)


def _union(*found: Varying) -> Varying:
    if len(found) == 1:
        return found[0]
    return {a: why for f in reversed(found) for a, why in f.items()}


def _grow(of: dict[K, dict[str, str]], key: K, found: Varying) -> None:
    have = of.setdefault(key, {})
    for axis, why in found.items():
        have.setdefault(axis, why)


def _walked_by(d: ViewDim) -> tuple[str, int]:
    """The loop variable that alone decides where a view is in a dimension, and how many elements an iteration takes there; "" for none."""
    match d:
        case At():
            index, unit = d.index, 1
        case TileAt() if d.offset.is_const and d.offset.const == 0:
            index, unit = d.index * d.size, d.size
        case Slice():
            index, unit = d.start, d.length
        case _:
            return "", 1
    (atom, factor), *rest = index.terms or (("", 0),)
    return (atom, unit) if isinstance(atom, str) and not rest and not index.const and factor == unit else ("", 1)


def _join(a: _Walked, b: _Walked) -> bool:
    if a.distribution.axes and b.distribution.axes:
        return a.distribution == b.distribution
    return not (a.distribution.axes or b.distribution.axes) or a.extent == b.extent
