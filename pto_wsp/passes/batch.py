"""A workload over one axis more: what `vmap` of a function traces, of a workload that is traced already.

    before:  tensor x: f32[16,8]                       after:  tensor x: f32[4,16,8]
             parallel_for i in i: Range(16) {                  parallel_for vmap in vmap: Dense(4) {
               task k[i](x=x[i, 0 :+ 8], ...)                    parallel_for i in i: Range(16) {
             }                                                     task[mapped=[0]] k[vmap, i](x=x[vmap, i, 0 :+ 8], ...)
                                                                 }
                                                               }

Temporaries and results have the axis in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pto_wsp.ir.core import At, Axis, Eqn, IndexType, Region, Role, TensorType, Var, View, Wir
from pto_wsp.ir.expr import Expr, const, var
from pto_wsp.ir.rename import Renaming, unique_name
from pto_wsp.ir.scopes import OF_THE_WHOLE
from pto_wsp.ir.tasks import bound_vars


def batch(wir: Wir, dims: Mapping[str, int], size: int) -> Wir:
    """The wir that does the work of `wir` for each of `size` parts of the tensors in `dims`, which get a dimension at the position given there.

    Every given tensor that is written must be among them.
    """
    loop = unique_name("vmap", {v.name for v in bound_vars(wir.body.eqns)})
    axes = dict(dims) | {v.name: 0 for v in wir.tensors if wir.tensor_type(v.name).role is not Role.GIVEN}
    change = _Batching(axes=axes, loop=loop)
    body = change.region(wir.body).eqns
    whole: list[Eqn] = []
    while len(body) == 1 and body[0].prim in OF_THE_WHOLE:
        whole.append(body[0])
        body = body[0].regions[0].eqns
    params = {"axis": Axis("Dense", "vmap", const(size)), "loop": "vmap"}
    inner = Eqn("parallel_for", params=params, regions=(Region((Var(loop, IndexType()),), body),))
    for scope in reversed(whole):
        inner = replace(scope, regions=(Region((), (inner,)),))
    return replace(
        wir,
        name=f"vmap({wir.name})",
        tensors=tuple(_batched(v, axes, size) for v in wir.tensors),
        body=Region((), (inner,)),
        axes=tuple(
            a for a in wir.axes if axes.keys().isdisjoint(a.tensors)
        ),  # the others are checked where they are read
    )


def _batched(v: Var, axes: Mapping[str, int], size: int) -> Var:
    if v.name not in axes:
        return v
    assert isinstance(v.type, TensorType)
    at, shape = axes[v.name], v.type.shape
    return Var(v.name, replace(v.type, shape=(*shape[:at], const(size), *shape[at:])))


@dataclass(frozen=True)
class _Batching(Renaming):
    """Gives views of the tensors in `axes`, and the coordinates of tasks, the variable of a loop around them."""

    axes: Mapping[str, int] = field(default_factory=dict[str, int])
    loop: str = ""

    def view(self, view: View) -> View:
        """A view of the part of this iteration."""
        dims = super().view(view).dims
        at = self.axes.get(view.tensor)
        return View(view.tensor, dims if at is None else (*dims[:at], At(var(self.loop)), *dims[at:]))

    def eqn(self, eqn: Eqn) -> Eqn:
        """A task of this iteration."""
        new = super().eqn(eqn)
        return new if new.prim != "task" else inside(new, (var(self.loop),))


def inside(task: Eqn, around: tuple[Expr, ...]) -> Eqn:
    """The task with coordinates in front that the user's kernel call does not know: those of loops around."""
    coords, mapped, names = (task.params.get(k, ()) for k in ("coords", "mapped", "names"))
    assert isinstance(coords, tuple) and isinstance(mapped, tuple) and isinstance(names, tuple)
    n = len(around)
    params = {**task.params, "coords": (*around, *coords)}
    params["mapped"] = (*range(n), *(k + n for k in mapped if isinstance(k, int)))
    if names:  # of coordinates that rewrites of loops changed
        params["names"] = (*("" for _ in range(n)), *names)
    return replace(task, params=params)
