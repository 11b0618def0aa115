"""A workload on a mesh, as a workload that does the work of all devices.

    before:  mesh x=2                                              after:  tensor x: f32[128,8]
             tensor x: f32[64,8] @ [S(x), R]                               temporary y: f32[2,64,8]
             temporary y: f32[64,8] @ [R, R] + sum(x)                      result z: f32[64,8]
             result z: f32[64,8] @ [R, R]                                  temporary z.parts: f32[2,64,8]
             parallel_for i in i: Range(64) {                              parallel_for device.x in device.x: Dense(2) {
               task k[i](x=x[i, 0 :+ 8], y=y[i, 0 :+ 8])                     parallel_for i in i: Range(64) {
             }                                                                 task k[device.x, i](x=x[i + 64*device.x, 0 :+ 8], y=y[device.x, i, 0 :+ 8])
             allreduce[axes=["x"]] y z                                       }
                                                                           }
                                                                           (the sum of y[0] and y[1], to both parts of z.parts)
                                                                           (a copy of the first part, z)

Devices own temporaries and what they have replicas of, each its own: what is computed on several devices is computed as often here. Arguments and
results are whole; what a device replicates of one that is written is copied from the first one in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pto_wsp.errors import CompileError, InternalError, here
from pto_wsp.ir.collectives import COLLECTIVES, operands
from pto_wsp.ir.core import (
    At,
    Eqn,
    Gather,
    Region,
    Role,
    Slice,
    Span,
    TensorType,
    TileAt,
    Var,
    View,
    ViewDim,
    Wir,
    written_tensors,
)
from pto_wsp.ir.coverage import Uses, every_view, is_written_first
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.layout import Mesh, TensorLayout, replicated
from pto_wsp.ir.rename import Renaming
from pto_wsp.ir.scopes import OF_THE_WHOLE, SCOPES
from pto_wsp.ir.tasks import PARTS, bound_vars
from pto_wsp.passes.batch import inside
from pto_wsp.passes.exchange import Coordinates, Exchange, Names, Parts, begin, on_devices

MOST_DIMS = 8
"""Of a tensor in the runtime."""


def on_one_machine(wir: Wir) -> Wir:
    """The wir without a mesh that computes the same; a wir without a mesh as it is."""
    return wir if wir.mesh is None else _Machine(wir, wir.mesh).wir()


class _Machine:
    def __init__(self, wir: Wir, mesh: Mesh) -> None:
        self.before, self.mesh = wir, mesh
        self.types = {v.name: wir.tensor_type(v.name) for v in wir.tensors}
        variables = {v.name for v in bound_vars(wir.body.eqns)}
        self.names = Names(variables, dict(self.types), {k.name: k for k in wir.kernels})
        self.met = {x.name for top in wir.body.eqns for e in top.walk() if e.prim in COLLECTIVES for x in operands(e)}
        self.written = written_tensors(wir) | {
            operands(e)[1].name for top in wir.body.eqns for e in top.walk() if e.prim in COLLECTIVES
        }
        self.parts: dict[str, str] = {}  # of arguments and results: the temporaries that hold the devices' parts
        for name, t in self.types.items():
            if t.role is not Role.TEMPORARY and not self.is_direct(name):
                self.parts[name] = self.names.temporary(f"{name}.parts", self.own(t))

    def wir(self) -> Wir:
        body = [*self.prologue(), *self.region(self.before.body.eqns, ()), *self.epilogue()]
        tensors = tuple(Var(n, self.type_of(n)) for n in self.types)
        extra = tuple(Var(n, t) for n, t in self.names.tensors.items() if n not in self.types)
        return replace(
            self.before,
            tensors=(*tensors, *extra),
            kernels=tuple(self.names.kernels.values()),
            body=Region((), _outside(tuple(body))),
            axes=tuple(a for a in self.before.axes if all(self.is_whole(t) for t in a.tensors)),
        )

    # tensors

    def layout(self, name: str) -> TensorLayout:
        """That of an argument or a result; devices have replicas of one without."""
        t = self.types[name]
        return t.layout or replicated(self.mesh, len(t.shape))

    def is_direct(self, name: str) -> bool:
        """Whether devices use an argument or a result where it is: each of its elements is of one device, or none writes it. A gather along a divided
        dimension names a device's own elements, which no index in the whole can."""
        layout = self.layout(name)
        if name in self.met or (
            name in self.written and any(n > 1 and a not in layout.varies for a, n in self.mesh.shape.items())
        ):
            return False
        views = (v for v in every_view(self.before.body.eqns) if v.tensor == name)
        return not any(
            isinstance(d, Gather) and x.axes for v in views for d, x in zip(v.dims, layout.dims, strict=True)
        )

    def is_whole(self, name: str) -> bool:
        """Whether each device has all of an argument, and nothing is in its place."""
        return self.types[name].role is not Role.TEMPORARY and name not in self.parts and not self.layout(name).varies

    def own(self, t: TensorType) -> TensorType:
        """The type of a tensor that has the parts of all devices."""
        if len(self.mesh.shape) + len(t.shape) > MOST_DIMS:
            raise CompileError(
                *("PTO405", f"a tensor of {len(t.shape)} dimensions, of all devices of {self.mesh} on one machine"),
                values={"most dimensions": f"{MOST_DIMS}, those of the mesh included"},
                loc=here(),
                fix="use a mesh of fewer axes, or tensors of fewer dimensions",
            )
        return TensorType(t.dtype, (*(const(n) for n in self.mesh.shape.values()), *t.shape), Role.TEMPORARY)

    def type_of(self, name: str) -> TensorType:
        t = self.types[name]
        if t.role is Role.TEMPORARY:
            return self.own(t)
        local: tuple[int | Expr, ...] = tuple(d.const if d.is_const else d for d in t.shape)
        whole = self.layout(name).global_shape(local)
        return TensorType(t.dtype, tuple(const(n) if isinstance(n, int) else n for n in whole), t.role)

    # what stands before and after

    def prologue(self) -> list[Eqn]:
        """Each device gets its part of arguments that something is in the place of."""
        out: list[Eqn] = []
        uses = Uses()
        for name, parts in self.parts.items():
            t = self.types[name]
            needed = name in self.met or not is_written_first(self.before, uses, self.before.body, name, {})
            if t.role is Role.GIVEN and needed:
                x = Parts(name, self.mesh, t.shape, self.layout(name))
                out += Exchange(self.names, self.mesh).copy_all(x, Parts(parts, self.mesh, t.shape), t.dtype)
        return out

    def epilogue(self) -> list[Eqn]:
        """Arguments and results that were written get what the first device that has it has."""
        out: list[Eqn] = []
        for name, parts in self.parts.items():
            if name in self.written:
                t, layout = self.types[name], self.layout(name)
                x, y = Parts(parts, self.mesh, t.shape), Parts(name, self.mesh, t.shape, layout)
                of = [a for a in self.mesh.shape if a in layout.varies]
                out += Exchange(self.names, self.mesh).copy_all(x, y, t.dtype, of)
        return out

    # the body

    def region(self, eqns: Sequence[Eqn], scopes: tuple[Eqn, ...]) -> list[Eqn]:
        """The equations of all devices, with schedules around what each device does."""
        out: list[Eqn] = []
        alone: list[Eqn] = []

        def flush() -> None:
            if alone:
                out.append(self.of_devices(tuple(alone), scopes))
                alone.clear()

        for eqn in eqns:
            if not any(e.prim in COLLECTIVES or e.prim in OF_THE_WHOLE for e in eqn.walk()):
                alone.append(eqn)
                continue
            flush()
            out += self.together(eqn, scopes)
        flush()
        return out

    def together(self, eqn: Eqn, scopes: tuple[Eqn, ...]) -> list[Eqn]:
        """A collective, or an equation that has one inside."""
        if eqn.prim in COLLECTIVES:
            source, target = (self.types[x.name] for x in operands(eqn))
            named = tuple(Var(self.parts.get(x.name, x.name), x.type) for x in operands(eqn))
            return Exchange(self.names, self.mesh, eqn.loc).collective(replace(eqn, ins=named), source, target)
        if eqn.prim in OF_THE_WHOLE:
            return [replace(eqn, regions=(Region((), tuple(self.region(eqn.regions[0].eqns, scopes))),))]
        if eqn.prim in SCOPES:
            return self.region(eqn.regions[0].eqns, (*scopes, eqn))
        assert eqn.prim in PARTS
        return [replace(eqn, regions=tuple(Region((), tuple(self.region(r.eqns, scopes))) for r in eqn.regions))]

    def of_devices(self, eqns: tuple[Eqn, ...], scopes: tuple[Eqn, ...]) -> Eqn:
        """What each device does alone."""

        def body(device: Coordinates) -> tuple[Eqn, ...]:
            change = _OfDevice(tensors=self.parts, machine=self, device=device)
            return tuple(change.eqn(e) for e in eqns)

        out = on_devices(self.names, self.mesh, list(self.mesh.shape), body)
        for scope in reversed(scopes):
            out = replace(scope, regions=(Region((), (out,)),))
        return out


def _outside(eqns: tuple[Eqn, ...]) -> tuple[Eqn, ...]:
    """The equations, with schedules of the whole workload around all of them."""
    whole = [e for e in eqns if e.prim in OF_THE_WHOLE]
    if not whole or len(eqns) == 1:
        return eqns
    flat = tuple(x for e in eqns for x in (e.regions[0].eqns if e in whole else (e,)))
    (scope,) = whole
    return (replace(scope, regions=(Region((), _outside(flat)),)),)


@dataclass(frozen=True)
class _OfDevice(Renaming):
    """Views of a device's part, and coordinates of tasks with those of the device in front."""

    machine: _Machine = field(kw_only=True)
    device: Coordinates = field(kw_only=True)

    def view(self, view: View) -> View:
        """A view of this device's part."""
        m, dims = self.machine, super().view(view).dims
        t = m.types[view.tensor]
        if t.role is Role.TEMPORARY or view.tensor in m.parts:
            coords: list[ViewDim] = [At(self.device[a]) for a in m.mesh.shape]
            return View(m.parts.get(view.tensor, view.tensor), (*coords, *dims))
        layout = m.layout(view.tensor)
        moved = (
            _moved(d, begin(layout, self.device, k, n)) if layout.dims[k].axes else d
            for k, (d, n) in enumerate(zip(dims, t.shape, strict=True))
        )
        return View(view.tensor, tuple(moved))

    def eqn(self, eqn: Eqn) -> Eqn:
        """A task of this device."""
        new = super().eqn(eqn)
        return new if new.prim != "task" else inside(new, tuple(self.device.values()))


def _moved(d: ViewDim, by: Expr) -> ViewDim:
    match d:
        case At():
            return At(d.index + by)
        case Slice():
            return Slice(d.start + by, d.length)
        case Span():
            return Span(d.start + by, d.length)
        case TileAt():
            return TileAt(d.index, d.size, d.limit + by, d.offset + by)
        case Gather():
            raise InternalError("a gather of a device's own elements goes through a tensor of all parts")
