"""Copies of tensors by tasks."""

from __future__ import annotations

import inspect
from types import FrameType

from pto_wsp.errors import InternalError, Location, TraceError
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.memory import store
from pto_wsp.trace.annotations import In, Out
from pto_wsp.trace.axes import DenseAxis, DenseDyn, LoopAxis, to_axis
from pto_wsp.trace.builder import WorkloadBuilder
from pto_wsp.trace.index import as_expr
from pto_wsp.trace.kernel import KernelFunction
from pto_wsp.trace.tensor import ShapeDim, Tensor, TensorSpec, TensorView

_ROWS, _COLS = 64, 512  # of a task


def _copy(x: In[Tensor], out: Out[Tensor]) -> None:
    store(out, x)


def _frame() -> FrameType:
    frame = inspect.currentframe()
    if frame is None:
        raise InternalError("this Python has no frames")
    return frame


copy_kernel = KernelFunction(_copy, "copy", _frame())


def copy_tasks(
    builder: WorkloadBuilder, x: TensorSpec | TensorView, out: TensorSpec | TensorView, name: str, loc: Location
) -> None:
    """Tasks that copy `x` to `out`, both of one shape of two or more dimensions, in tiles of up to 64 x 512 elements.

    Raises TraceError for fewer dimensions, as tiles have two.
    """
    shape = x.shape
    if len(shape) < 2:
        raise TraceError(
            "PTO186",
            f"{name} has {len(shape)} dimensions",
            values={name: x},
            loc=loc,
            fix="tasks copy tensors of two or more dimensions: give it shape (1, n)",
        )
    index: list[object] = []
    opened = 0
    for k, dim in enumerate(shape):
        most = {len(shape) - 2: _ROWS, len(shape) - 1: _COLS}.get(k)
        if most is not None and isinstance(dim, int) and 0 < dim <= most:
            index.append(slice(None))
            continue
        axis = axis_of(dim, None) if most is None else axis_of(dim, None).tiles(most)
        index.append(builder.open_loop(axis, "parallel_for", f"d{k}", loc))
        opened += 1
    copy_kernel(x=x[tuple(index)], out=out[tuple(index)])
    for _ in range(opened):
        builder.close_loop()


def axis_of(dim: ShapeDim, name: str | None) -> LoopAxis:
    """A dimension as an axis; `name` is for dimensions that are numbers."""
    if isinstance(dim, LoopAxis):
        return dim
    return DenseAxis(dim, name) if isinstance(dim, int) else to_axis(dim)


def dim_expr(builder: WorkloadBuilder, dim: ShapeDim) -> Expr:
    """A dimension as an expression of the workload under trace."""
    if isinstance(dim, DenseDyn):
        return dim.size_expr(builder, None)
    e = as_expr(dim)
    if e is None:
        raise InternalError(f"{dim} is no dimension")
    return e
