"""Collectives: what devices of a mesh do together, as equations of a workload that name two whole tensors.

    allreduce[axes=["x"]] y z             z: what is pending over x in y, reduced
    reduce_scatter[axis="x", dim=0] y z   the same, of which each device gets its part of dimension 0
    allgather[axis="x"] y z               z: all parts of the dimension that x divides last
    relayout y z                          z: the elements of y in the layout of z, with the same reductions pending

They stand where a device does one thing after the other: in no loop, branch or process. `passes/on_one_machine.py` says what they mean.
"""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.errors import IRConversionError, LayoutIncompatibleError, PtoError, TypeCheckError, here
from pto_wsp.ir.core import Dialect, DType, Eqn, Param, Primitive, TensorType, Var
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.layout import TensorLayout, TensorReplicate, TensorShard
from pto_wsp.ir.tasks import Scope, broken, no_cycles

COLLECTIVES = ("allreduce", "reduce_scatter", "allgather", "relayout")
_DOCS = {
    "allreduce": "a pending reduction, done: every device gets the result",
    "reduce_scatter": "a pending reduction, done: every device gets its part of the result",
    "allgather": "every device gets all parts of a dimension",
    "relayout": "the same elements in another layout",
}


def operands(eqn: Eqn) -> tuple[Var, Var]:
    """The tensor that a collective reads, and the one that it writes."""
    source, target = eqn.ins
    assert isinstance(source, Var) and isinstance(target, Var)
    return source, target


def whole_tensors(eqn: Eqn) -> frozenset[str]:
    """The tensors that an equation names whole: a collective those that it reads and writes, others none."""
    return frozenset(x.name for x in operands(eqn)) if eqn.prim in COLLECTIVES else frozenset()


def reduced_axes(eqn: Eqn) -> tuple[str, ...]:
    """The axes of the mesh that an allreduce discharges."""
    axes = eqn.params["axes"]
    assert isinstance(axes, tuple)
    return tuple(map(str, axes))


def _wrong(what: str, layout: TensorLayout | None, fix: str) -> LayoutIncompatibleError:
    return LayoutIncompatibleError("PTO894", what, values={"layout": layout}, loc=here(), fix=fix)


def layout_of(t: TensorType, what: str) -> TensorLayout:
    """The layout of a collective's operand. Raises LayoutIncompatibleError for a tensor without one."""
    if t.layout is None:
        raise _wrong(
            f"{what} of a tensor without a layout",
            None,
            "give arguments and empty(...) layout=TensorLayout(mesh, ...), one distribution for each dimension",
        )
    if not t.shape:
        raise _wrong(f"{what} of a tensor without dimensions", t.layout, "give it one, of one element")
    return t.layout


def allreduced(t: TensorType, axes: tuple[str, ...]) -> TensorType:
    """What an allreduce over these axes gives. Raises LayoutIncompatibleError, and TypeCheckError for dtypes without arithmetic."""
    layout = layout_of(t, "allreduce")
    _need_pending("allreduce", t, layout, axes)
    if len({layout.pending[a] for a in axes}) > 1:
        raise _wrong("allreduce of different reductions at once", layout, "do one after the other: allreduce(t, axis)")
    return replace(t, layout=layout.without(*axes))


def _need_pending(what: str, t: TensorType, layout: TensorLayout, axes: tuple[str, ...]) -> None:
    if t.dtype in (DType.BOOL, DType.F8E4M3, DType.F8E5M2):
        raise TypeCheckError(
            *("PTO104", f"{what} does not exist for {t.dtype}"),
            values={"layout": layout},
            loc=here(),
            fix="reduce what it is cast to: pto.cast(x, DType...) in the kernel that writes it",
        )
    missing = [a for a in axes if a not in layout.pending]
    if missing or not axes:
        raise _wrong(
            f"{what} of a tensor with nothing pending{f' over {missing[0]}' if missing else ''}",
            layout,
            'declare what it holds: empty(..., layout=TensorLayout(mesh, ..., pending={"x": "sum"}))',
        )


def reduce_scattered(t: TensorType, axis: str, dim: int) -> TensorType:
    """What a reduce_scatter gives. Raises as `allreduced`."""
    layout = layout_of(t, "reduce_scatter")
    _need_pending("reduce_scatter", t, layout, (axis,))
    return _divided(t, layout.without(axis), axis, dim)


def _divided(t: TensorType, layout: TensorLayout, axis: str, dim: int) -> TensorType:
    """Each device's part along `axis` of a dimension."""
    if not 0 <= dim < len(layout.dims):
        raise _wrong(f"dimension {dim} of a tensor of {len(layout.dims)} dimensions", layout, "use one that it has")
    extent, count = t.shape[dim], layout.mesh.shape[axis]
    if not extent.is_const or extent.const % count:
        raise _wrong(
            f"dimension {dim} of {extent} elements for {count} devices along {axis}",
            layout,
            "divide dimensions of fixed sizes that are multiples of the devices",
        )
    divided = layout.with_dim(dim, TensorShard(*layout.dims[dim].axes, axis))
    return replace(t, layout=divided, shape=_with(t.shape, dim, extent.const // count))


def _with(shape: tuple[Expr, ...], dim: int, n: int) -> tuple[Expr, ...]:
    return (*shape[:dim], const(n), *shape[dim + 1 :])


def allgathered(t: TensorType, axis: str) -> TensorType:
    """What an allgather along an axis gives. Raises LayoutIncompatibleError."""
    layout = layout_of(t, "allgather")
    dim = layout.dim_of(axis)
    if dim is None or layout.dims[dim].axes[-1] != axis:
        last = "" if dim is None else f" before {layout.dims[dim].axes[-1]}, which divides it last"
        raise _wrong(
            f"allgather along {axis} of a tensor {'that it does not divide' if dim is None else 'whose dimension is gathered' + last}",
            layout,
            "gather along the axis that divides a dimension last, or relayout(t, layout)",
        )
    left = layout.dims[dim].axes[:-1]
    gathered = layout.with_dim(dim, TensorShard(*left) if left else TensorReplicate())
    return replace(t, layout=gathered, shape=_with(t.shape, dim, t.shape[dim].const * layout.mesh.shape[axis]))


def relaid(t: TensorType, to: TensorLayout) -> TensorType:
    """What a relayout gives. Raises LayoutIncompatibleError."""
    layout = layout_of(t, "relayout")
    if layout.mesh != to.mesh or len(layout.dims) != len(to.dims):
        raise _wrong(f"relayout to {to}, of another mesh or rank", layout, "give a layout of the same mesh and rank")
    if layout.pending != to.pending:
        raise _wrong(
            f"relayout to {to}, which has other reductions pending",
            layout,
            "allreduce or reduce_scatter does what is pending",
        )
    whole = layout.global_shape([d.const if d.is_const else d for d in t.shape])
    local = to.local_shape(whole)
    return replace(t, layout=to, shape=tuple(const(n) if isinstance(n, int) else n for n in local))


def _is_axis(x: Param | None) -> bool:
    return isinstance(x, str)


def _result(eqn: Eqn, source: TensorType, target: TensorType) -> TensorType:
    axes, axis, dim = (eqn.params.get(k) for k in ("axes", "axis", "dim"))
    match eqn.prim:
        case "allreduce" if isinstance(axes, tuple) and all(map(_is_axis, axes)):
            return allreduced(source, tuple(map(str, axes)))
        case "reduce_scatter" if isinstance(axis, str) and type(dim) is int:
            return reduce_scattered(source, axis, dim)
        case "allgather" if isinstance(axis, str):
            return allgathered(source, axis)
        case "relayout" if target.layout is not None:
            return relaid(source, target.layout)
        case _:
            raise broken(eqn, "lacks parameters")


def _type(eqn: Eqn, scope: Scope) -> None:
    types = [scope.tensors.get(x.name) if isinstance(x, Var) else None for x in eqn.ins]
    if len(types) != 2 or eqn.outs or eqn.regions or None in types or types[0] is types[1]:
        raise broken(eqn, "names two tensors")
    source, target = (t for t in types if t is not None)
    try:
        want = _result(eqn, source, target)
    except IRConversionError:
        raise
    except PtoError as e:
        raise broken(eqn, e.what) from e
    if (want.dtype, want.shape, want.layout) != (target.dtype, target.shape, target.layout):
        raise broken(eqn, f"gives {want}, not {target}")


for _name in COLLECTIVES:
    _p = Primitive(_name, Dialect.TASK, doc=_DOCS[_name])
    _p.def_type(_type)
    _p.def_cost(no_cycles)
