"""Arguments of kernel calls: views, scalars, constants, and the types of bare tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pto_wsp.errors import BoundsError, CompileError, Location, TypeCheckError, here
from pto_wsp.ir import expr
from pto_wsp.ir.bounds import interval
from pto_wsp.ir.conditions import Case, Names, cases_of_all
from pto_wsp.ir.core import (
    MOST_ELEMENTS,
    At,
    DType,
    Gather,
    In,
    Literal,
    RegionType,
    Slice,
    Span,
    TileAt,
    TileType,
    View,
    ViewDim,
)
from pto_wsp.ir.dependence import reachable
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.tasks import region_fits
from pto_wsp.ir.text import show_view
from pto_wsp.ops.value import is_number, literal
from pto_wsp.trace.annotations import ConstexprParam
from pto_wsp.trace.index import Element, Scalar64, owner_of
from pto_wsp.trace.scalar import DataScalar
from pto_wsp.trace.tensor import Part, TensorSpec, TensorView

if TYPE_CHECKING:
    from pto_wsp.trace.builder import WorkloadBuilder


def scalar(builder: WorkloadBuilder, x: Any, dtype: DType, what: str, loc: Location) -> In:
    """The argument of a scalar parameter: a literal of its dtype, an integer expression, or a scalar of the workload."""
    if isinstance(x, Element) and x.is_element:
        x = x.element()
    constant = x.leaf() if isinstance(x, DataScalar) else None
    if isinstance(constant, Literal):
        x = constant.value
    known = check_scalar(x, dtype, what, loc)
    if known is not None:
        return known
    if isinstance(x, DataScalar):
        return x.operand(builder)
    assert isinstance(x, Scalar64)
    e = x.to_expr()
    builder.use(owner_of(x), e, loc)
    return e


def check_scalar(x: Any, dtype: DType, what: str, loc: Location) -> Literal | None:
    """The literal that a number is for a scalar parameter; None of a scalar that fits it. Raises TypeCheckError and BoundsError."""
    if isinstance(x, Scalar64):
        if not takes(dtype, x.dtype):
            raise TypeCheckError(
                "PTO142",
                f"{what} is a scalar of {dtype}, but got one of {x.dtype}",
                values={"scalar": x},
                loc=loc,
                fix="cast(x, DType.I64) for an integer parameter, x != 0 for a bool",
            )
        return None
    if not is_number(x):
        raise TypeCheckError(
            "PTO142",
            f"{what} is a scalar, but got {type(x).__name__}",
            values={"got": repr(x)[:80]},
            loc=loc,
            fix="give a number, a loop variable, a symbol, a scalar such as item(lens[b]), or an expression of them",
        )
    value = x.item() if isinstance(x, (np.number, np.bool_)) else x
    if (isinstance(value, float) and dtype.is_integer) or isinstance(value, bool) is not (dtype is DType.BOOL):
        wanted = "an integer" if dtype.is_integer else "True or False" if dtype is DType.BOOL else "a number"
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


def takes(parameter: DType, scalar: DType) -> bool:
    """Whether a scalar parameter takes a scalar of a workload: integers fit integers and floats, the others their own kind."""
    if parameter.is_float:
        return scalar is not DType.BOOL
    return scalar is DType.BOOL if parameter is DType.BOOL else scalar in (DType.I64, DType.U64)


def view(builder: WorkloadBuilder, x: Any, param: TileType, what: str, loc: Location) -> View:
    """The argument of a tile parameter: a view of its dtype and shape, inside its tensor as far as is known now."""
    given = _as_view(x, what)
    if given.dtype is not param.dtype:
        raise _other_dtype(given, param, what, loc)
    dims, shape = view_dims(builder, given, what, loc)
    for part, size in zip(given.parts, shape, strict=True):
        if part.kind == "span" or (part.kind == "all" and not size.is_const):
            raise TypeCheckError(
                "PTO162",
                f"{what}: a dimension of unknown size",
                values={"tensor": given.root, "size": size if part.kind == "all" else part.length},
                loc=loc,
                fix="a tile has a static shape: iterate x.tiles(16) and index with the tile index, or slice with known length",
            )
    tensor = builder.tensor(given.root)
    out = View(tensor, dims)
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
    builder.check_sent(out, loc)
    return out


def region(builder: WorkloadBuilder, x: Any, param: RegionType, what: str, loc: Location) -> View:
    """The argument of a region parameter: a view of its dtype and number of dimensions, of any length where the parameter says so,
    inside its tensor as far as is known now."""
    given = _as_view(x, what)
    if given.dtype is not param.dtype:
        raise _other_dtype(given, param, what, loc)
    dims, shape = view_dims(builder, given, what, loc)
    out = View(builder.tensor(given.root), tuple(map(_whole, dims)))
    if any(isinstance(d, Gather) for d in dims):
        raise TypeCheckError(
            "PTO144",
            f"{what} is a gather, but the kernel takes a region",
            values={"tensor": given.root, "parameter": param},
            loc=loc,
            fix="give the whole tensor and the indices, and load the rows one by one; or a tile parameter, which takes gathers",
        )
    if not region_fits(out, param):
        raise TypeCheckError(
            "PTO144",
            f"{what} {_misfit(out, param)}",
            values={"view": show_view(out), "parameter": param},
            loc=loc,
            fix="index so that as many dimensions remain, of the sizes that the annotation states; None takes any length",
        )
    for k, (d, size) in enumerate(zip(dims, shape, strict=True)):
        _check_bounds(builder, d, size, k, f"{what}: tensor {out.tensor}", loc)
    builder.check_sent(out, loc)
    return out


def _misfit(view: View, param: RegionType) -> str:
    """In what a view differs from a region parameter."""
    if len(view.kept) != len(param.shape):
        return f"has {len(view.kept)} dimensions, but the kernel takes {len(param.shape)}"
    pairs = enumerate(zip(view.kept, param.shape, strict=True))
    k, d, n = next((k, d, n) for k, (d, n) in pairs if n is not None and not (isinstance(d, Slice) and d.length == n))
    match d:
        case Slice():
            size = str(d.length)
        case TileAt():
            size = f"at most {d.size}"
        case _:
            size = "a computed number of"
    return f"has {size} elements in dimension {k}, but the kernel takes {n}"


def _whole(d: ViewDim) -> ViewDim:
    """A slice in the place of a tile where all tiles are whole."""
    if not isinstance(d, TileAt) or not d.limit.is_const or not d.offset.is_const:
        return d
    return d if (d.limit.const - d.offset.const) % d.size else Slice(d.start, d.size)


def _other_dtype(given: TensorView, param: TileType | RegionType, what: str, loc: Location) -> TypeCheckError:
    return TypeCheckError(
        "PTO143",
        f"{what} holds {given.dtype}, but the kernel takes {param.dtype}",
        values={"tensor": given.root, "parameter": param},
        loc=loc,
        fix="declare the parameter with the tensor's dtype, and cast inside the kernel",
    )


def reading(builder: WorkloadBuilder, given: TensorView, what: str, loc: Location) -> View:
    """The view that a scalar is read from, inside its tensor as far as is known now."""
    dims, shape = view_dims(builder, given, what, loc)
    tensor = builder.tensor(given.root)
    for k, (d, size) in enumerate(zip(dims, shape, strict=True)):
        _check_bounds(builder, d, size, k, f"{what}: tensor {tensor}", loc)
    builder.check_sent(View(tensor, dims), loc)
    return View(tensor, dims)


def view_dims(
    builder: WorkloadBuilder, given: TensorView, what: str, loc: Location
) -> tuple[tuple[ViewDim, ...], tuple[Expr, ...]]:
    """A view's dims in the wir, and the sizes of its tensor's dimensions; everything in it is in scope."""
    for owner, e in given.uses:
        builder.use(owner, e, loc)
    shape = given.root.dims(builder)
    return tuple(_dim(builder, p, size, what, loc) for p, size in zip(given.parts, shape, strict=True)), shape


def _dim(builder: WorkloadBuilder, part: Part, size: Expr, what: str, loc: Location) -> ViewDim:
    if part.kind == "at":
        return At(part.start)
    if part.kind == "range":
        return Slice(part.start, part.size)
    if part.kind == "tile":
        return TileAt(part.index, part.size, part.limit, part.start)
    if part.kind == "span":
        return Span(part.start, part.length)
    if part.through is not None:
        return Gather(reading(builder, part.through, f"{what}, index", loc))
    return Slice(expr.const(0), size.const) if size.is_const else Span(expr.const(0), size)


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
    if isinstance(d, Gather):
        return
    first, last = (
        (d.start, d.start + d.length)
        if isinstance(d, (Slice, Span))
        else (d.index, d.index + 1)
        if isinstance(d, At)
        else (d.offset, d.limit)
    )
    builder.check_scope(first, loc)
    builder.check_scope(last, loc)
    low, high = interval(first, ranges), interval(last, ranges)
    if not size.is_const or low is None or high is None or (low[0] >= 0 and high[1] <= size.const):
        return
    around = {loop.var.name: loop.axis for loop in builder.loops}
    outside = (-first - 1, last - size - 1)
    if not any(reachable(around, e, case) for case in _cases(builder) for e in outside):
        return
    at = high[1] - 1 if high[1] > size.const else low[0]
    fix = "make the axis shorter, or the tensor larger"
    if isinstance(d, Slice):
        fix += "; where the last piece is shorter, iterate x.tiles(n) and index with the tile index"
    raise BoundsError(
        "PTO163",
        f"{what} has {size} elements in dimension {k}, but element {at} is reached",
        values={"index": d.index if isinstance(d, (At, TileAt)) else d.start},
        loc=loc,
        fix=fix,
    )


def _cases(builder: WorkloadBuilder) -> list[Case]:
    """The alternatives under which the conditions around let a task run."""
    given = [c for block in builder.blocks for c in block.given]
    scalars = {v.name: e for block in builder.blocks for e in block.eqns for v in e.outs} if given else {}
    return cases_of_all(given, Names(scalars=scalars))


def _as_view(x: Any, what: str) -> TensorView:
    if isinstance(x, TensorView):
        return x
    if isinstance(x, TensorSpec):
        return TensorView(x)
    raise TypeCheckError(
        "PTO142",
        f"{what} is a part of a tensor, but got {type(x).__name__}",
        values={"got": repr(x)[:80]},
        loc=here(),
        fix="give a view of a Tensor, such as X[b, t]",
    )


def bare_type(x: Any, what: str) -> TileType:
    view = _as_view(x, what)
    shape = [_static(view.shape[k], view, what) for k in range(len(view.kept))]
    if len(shape) != 2 or not math.prod(shape):
        raise TypeCheckError(
            "PTO144",
            f"{what} has shape {shape}, but a tile is two-dimensional",
            values={"tensor": view.root},
            loc=here(),
            fix="index so that two non-empty dimensions remain: X[b, i:i+1, :] keeps the second as one row",
        )
    if math.prod(shape) > MOST_ELEMENTS:
        raise CompileError(
            "PTO405",
            f"{what} is a tile of more than 2^28 elements",
            values={"tensor": view.root, "tile": f"{shape[0]}x{shape[1]}"},
            loc=here(),
            fix="tile the axis: x.tiles(16); or declare a region, of which the kernel loads tiles: In[Tensor[None, 128, DType.F32]]",
        )
    return TileType(view.dtype, *shape)


def _static(size: object, view: TensorView, what: str) -> int:
    if isinstance(size, int):
        return size
    raise TypeCheckError(
        "PTO162",
        f"{what}: a dimension of unknown size",
        values={"tensor": view.root},
        loc=here(),
        fix="iterate x.tiles(16) and index with the tile index, or slice with known length",
    )


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
