"""What devices of a mesh do together, called inside of workloads: functions of whole tensors that give new ones."""

from __future__ import annotations

from typing import Any

from pto_wsp.errors import TraceError, here
from pto_wsp.ir import collectives as ir
from pto_wsp.ir.core import TensorType
from pto_wsp.ir.layout import TensorLayout
from pto_wsp.trace.builder import WorkloadBuilder, current_workload
from pto_wsp.trace.functional import Buffer, empty
from pto_wsp.trace.index import Index
from pto_wsp.trace.names import assigned_name
from pto_wsp.trace.tensor import TensorSpec, check_layout


def allreduce(t: Any, axes: str | tuple[str, ...] | None = None, *, name: str | None = None) -> Any:
    """The tensor of which `t` holds each device's part of a reduction: a new one, of the same shape and dtype, on every device.

    axes: the axes of the mesh over which to reduce, of those that are pending in the layout of t; by default all. One device after another is added,
    in the order of their coordinates, in t's dtype.
    Raises LayoutIncompatibleError where nothing is pending over an axis, TraceError inside of a loop, branch or pipeline.
    """
    builder, of = _operand("allreduce", t)
    pending = tuple(ir.layout_of(of, "allreduce").pending)
    chosen = pending if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
    return _emit(builder, "allreduce", t, ir.allreduced(of, chosen), {"axes": chosen}, name)


def reduce_scatter(t: Any, dim: int, axis: str | None = None, *, name: str | None = None) -> Any:
    """Of the tensor of which `t` holds each device's part of a reduction, the device's part of dimension `dim`: a new tensor, whose dimension the axis
    divides (after those that divide it already).

    axis: of the mesh, over which to reduce; by default the one that is pending. Raises as allreduce, and LayoutIncompatibleError where the
    dimension cannot be divided.
    """
    builder, of = _operand("reduce_scatter", t)
    pending = list(ir.layout_of(of, "reduce_scatter").pending)
    if axis is None and len(pending) > 1:
        raise TraceError(
            *("PTO164", "reduce_scatter of a tensor with several reductions pending"),
            values={"layout": of.layout},
            loc=here(),
            fix=f'say which: reduce_scatter(t, {dim}, "{pending[0]}")',
        )
    over = axis or (pending[0] if pending else "")
    return _emit(builder, "reduce_scatter", t, ir.reduce_scattered(of, over, dim), {"axis": over, "dim": dim}, name)


def allgather(t: Any, axis: str, *, name: str | None = None) -> Any:
    """All parts of the dimension of `t` that an axis of the mesh divides: a new tensor, on every device along the axis.

    Raises LayoutIncompatibleError where the axis divides no dimension, or not as the last one; TraceError inside of a loop, branch or pipeline.
    """
    builder, of = _operand("allgather", t)
    return _emit(builder, "allgather", t, ir.allgathered(of, axis), {"axis": axis}, name)


def relayout(t: Any, layout: TensorLayout, *, name: str | None = None) -> Any:
    """The elements of `t` in another layout of the same mesh: a new tensor. What is pending stays so.

    A device that has all of a dimension takes its part; what axes no longer divide is gathered; what moves to another dimension is exchanged.
    Raises LayoutIncompatibleError for layouts of other meshes, ranks or reductions, and where a dimension cannot be divided; TraceError inside of a
    loop, branch or pipeline.
    """
    builder, of = _operand("relayout", t)
    to = check_layout(layout)
    if to is None:
        raise TraceError(*("PTO164", "relayout to no layout"), loc=here(), fix="give a TensorLayout")
    return _emit(builder, "relayout", t, ir.relaid(of, to), {}, name)


def _operand(what: str, t: object) -> tuple[WorkloadBuilder, TensorType]:
    builder = current_workload(what)
    builder.need_together(what)
    if not isinstance(t, TensorSpec):
        raise TraceError(
            *("PTO164", f"{what} of something that is not a whole tensor"),
            values={"got": repr(t)[:80]},
            loc=here(),
            fix="give an argument, or what empty, empty_like or another collective gave, whole",
        )
    return builder, TensorType(t.dtype, t.dims(builder), layout=t.layout)


def _emit(
    builder: WorkloadBuilder, what: str, t: TensorSpec, result: TensorType, params: dict[str, Any], name: str | None
) -> Buffer:
    shape = tuple(d.const if d.is_const else Index(d, None) for d in result.shape)
    out = empty(shape, result.dtype, name=name or assigned_name(here()), layout=result.layout)
    builder.together(what, builder.tensor(t), builder.tensor(out), params)
    return out
