"""Arguments of kernel calls: views, scalars, constants, and the types of bare tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pto_wsp.errors import BoundsError, Location, TypeCheckError, here
from pto_wsp.ir import expr
from pto_wsp.ir.bounds import interval
from pto_wsp.ir.core import (
    At,
    DType,
    In,
    Literal,
    Slice,
    TileAt,
    TileType,
    View,
    ViewDim,
)
from pto_wsp.ir.dependence import reachable
from pto_wsp.ir.expr import Expr
from pto_wsp.ops.value import is_number, literal
from pto_wsp.trace.annotations import ConstexprParam
from pto_wsp.trace.index import Scalar64
from pto_wsp.trace.tensor import TensorSpec, TensorView

if TYPE_CHECKING:
    from pto_wsp.trace.builder import WorkloadBuilder


def scalar(builder: WorkloadBuilder, x: Any, dtype: DType, what: str, loc: Location) -> In:
    """The argument of a scalar parameter: a literal of its dtype, or an integer expression."""
    if isinstance(x, Scalar64):
        e = x.to_expr()
        builder.use(x, e, loc)
        if dtype is DType.BOOL:
            raise TypeCheckError(
                "PTO142",
                f"{what} is a bool, but got an integer expression",
                values={"expression": e},
                loc=loc,
                fix="declare it Scalar[DType.I32]",
            )
        return e
    if not is_number(x):
        raise TypeCheckError(
            "PTO142",
            f"{what} is a scalar, but got {type(x).__name__}",
            values={"got": repr(x)[:80]},
            loc=loc,
            fix="give a Python number, a loop variable, a symbol, or an expression of them",
        )
    value = x.item() if isinstance(x, (np.number, np.bool_)) else x
    if (isinstance(value, float) and dtype is DType.I32) or isinstance(value, bool) is not (dtype is DType.BOOL):
        wanted = "an integer" if dtype is DType.I32 else "True or False" if dtype is DType.BOOL else "a number"
        raise TypeCheckError(
            "PTO142", f"{what} is a scalar of {dtype}", values={"got": repr(x)[:80]}, loc=loc, fix=f"give {wanted}"
        )
    try:
        lit = literal(value, dtype, what)
    except TypeCheckError as e:
        raise BoundsError(
            "PTO713", f"{what}: {value} does not fit {dtype}", loc=loc, fix=f"give a number that {dtype} holds"
        ) from e
    return Literal(float(lit.value), dtype) if dtype.is_float else lit


def view(builder: WorkloadBuilder, x: Any, param: TileType, what: str, loc: Location) -> View:
    """The argument of a tile parameter: a view of its dtype and shape, inside its tensor as far as is known now."""
    given = _as_view(x, what)
    if given.dtype is not param.dtype:
        raise TypeCheckError(
            "PTO143",
            f"{what} holds {given.dtype}, but the kernel takes {param.dtype}",
            values={"tensor": given.root, "parameter": param},
            loc=loc,
            fix="declare the parameter with the tensor's dtype, and cast inside the kernel",
        )
    for i in given.indices:
        builder.use(i, i.to_expr(), loc)
    tensor = builder.tensor(given.root)
    shape = given.root.dims(builder)
    dims: list[ViewDim] = []
    for part, size in zip(given.parts, shape, strict=True):
        if part.kind == "at":
            dims.append(At(part.start))
        elif part.kind == "range":
            dims.append(Slice(part.start, part.size))
        elif part.kind == "tile":
            assert part.limit is not None
            dims.append(TileAt(part.start, part.size, part.limit))
        elif size.is_const:
            dims.append(Slice(expr.const(0), size.const))
        else:
            raise TypeCheckError(
                "PTO162",
                f"{what}: a dimension of unknown size",
                values={"tensor": given.root, "size": size},
                loc=loc,
                fix="a tile has a static shape: iterate x.tiles(16) and index with the tile index, or slice",
            )
    out = View(tensor, tuple(dims))
    if out.shape != param.shape:
        got = "x".join(map(str, out.shape)) or "one element"
        raise TypeCheckError(
            "PTO144",
            f"{what} is {got}, but the kernel takes {param.rows}x{param.cols}",
            values={"tensor": given.root, "parameter": param},
            loc=loc,
            fix="a tile is two-dimensional: X[b, t] drops two dimensions, X[b, i:i+1, :] keeps the second as one row",
        )
    for k, (d, size) in enumerate(zip(dims, shape, strict=True)):
        _check_bounds(builder, d, size, k, f"{what}: tensor {tensor}", loc)
    return out


def _check_bounds(builder: WorkloadBuilder, d: ViewDim, size: Expr, k: int, what: str, loc: Location) -> None:
    """Refuse an access that leaves the tensor in an iteration that some sizes reach, where this is known now."""
    ranges: dict[str, tuple[int, int]] = {}
    for loop in builder.loops:
        extent = loop.axis.extent
        if not extent.is_const:
            continue
        if extent.const == 0:
            return
        ranges[loop.var.name] = (0, extent.const - 1)
    first, last = (
        (d.start, d.start + d.length)
        if isinstance(d, Slice)
        else (d.index, d.index + 1)
        if isinstance(d, At)
        else (expr.const(0), d.limit)
    )
    builder.check_scope(first, loc)
    builder.check_scope(last, loc)
    low, high = interval(first, ranges), interval(last, ranges)
    if not size.is_const or low is None or high is None or (low[0] >= 0 and high[1] <= size.const):
        return
    around = {loop.var.name: loop.axis for loop in builder.loops}
    if not (reachable(around, -first - 1) or reachable(around, last - size - 1)):
        return
    at = high[1] - 1 if high[1] > size.const else low[0]
    fix = "make the axis shorter, or the tensor larger"
    if isinstance(d, Slice):
        fix += "; where the last piece is shorter, iterate x.tiles(n) and index with the tile index"
    raise BoundsError(
        "PTO163",
        f"{what} has {size} elements in dimension {k}, but element {at} is reached",
        values={"index": d.start if isinstance(d, Slice) else d.index},
        loc=loc,
        fix=fix,
    )


def _as_view(x: Any, what: str) -> TensorView:
    if isinstance(x, TensorView):
        return x
    if isinstance(x, TensorSpec):
        return TensorView(x)
    raise TypeCheckError(
        "PTO142",
        f"{what} is a tile, but got {type(x).__name__}",
        values={"got": repr(x)[:80]},
        loc=here(),
        fix="give a view of a Tensor, such as X[b, t]",
    )


def bare_type(x: Any, what: str) -> TileType:
    view = _as_view(x, what)
    shape: list[int] = []
    for p, size in zip(view.parts, view.root.shape, strict=True):
        if p.kind == "all" and not isinstance(size, int):
            raise TypeCheckError(
                "PTO162",
                f"{what}: a dimension of unknown size",
                values={"tensor": view.root},
                loc=here(),
                fix="iterate x.tiles(16) and index with the tile index, or slice",
            )
        if p.kind != "at":
            shape.append(size if p.kind == "all" and isinstance(size, int) else p.size)
    if len(shape) != 2 or not math.prod(shape):
        raise TypeCheckError(
            "PTO144",
            f"{what} has shape {shape}, but a tile is two-dimensional",
            values={"tensor": view.root},
            loc=here(),
            fix="index so that two non-empty dimensions remain: X[b, i:i+1, :] keeps the second as one row",
        )
    return TileType(view.dtype, *shape)


def constant(x: Any, spec: ConstexprParam, what: str) -> Any:
    if isinstance(x, np.generic) and not isinstance(x, spec.type):
        x = x.item()
    if isinstance(x, Scalar64) or not isinstance(x, spec.type) or (isinstance(x, bool) and spec.type is int):
        raise TypeCheckError(
            "PTO146",
            f"{what} is a Constexpr[{spec.type.__name__}], but got {type(x).__name__}",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="give a Python constant; declare Scalar[DType...] for values known later",
        )
    return x


def exactly(x: Any) -> object:
    """x as a key that tells 1 from True and 1.0, and 0.0 from -0.0."""
    if isinstance(x, (tuple, frozenset)):
        return type(x), type(x)(exactly(v) for v in x) if type(x) in (tuple, frozenset) else x
    return type(x), repr(x) if isinstance(x, (float, complex)) else x
