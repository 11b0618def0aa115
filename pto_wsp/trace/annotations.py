"""What kernel parameters are annotated with. All of them are real types: `typing.Annotated` underneath."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

import numpy as np

from pto_wsp.errors import Location, PtoError, TraceError, here
from pto_wsp.ir.core import MOST_ELEMENTS, Direction, DType, RegionType, TileType
from pto_wsp.ops.value import Value
from pto_wsp.trace.tensor import Tensor


@dataclass(frozen=True, slots=True)
class TileParam:
    """A tile or region in memory; type None is a bare tensor, specialised at each call to a tile."""

    direction: Direction
    type: TileType | RegionType | None


@dataclass(frozen=True, slots=True)
class ScalarParam:
    dtype: DType


@dataclass(frozen=True, slots=True)
class ConstexprParam:
    type: Any


ParamSpec = TileParam | ScalarParam | ConstexprParam


class Tile:
    """A tile in an annotation: `Tile[rows, cols, dtype]`, static shape, e.g. `In[Tile[16, 128, DType.F32]]`."""

    def __class_getitem__(cls, item: Any) -> TileType:
        bad = TraceError(
            "PTO121",
            "Tile[rows, cols, dtype] needs two positive integers and a DType of tiles",
            values={"got": repr(item)[:80]},
            loc=here(),
            fix=f"write Tile[16, 128, DType.F32]; tiles hold {', '.join(map(str, DType))}",
        )
        if not isinstance(item, tuple) or len(item) != 3:
            raise bad
        *shape, dtype = item
        if not isinstance(dtype, DType) or not all(
            isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in shape
        ):
            raise bad
        rows, cols = (int(n) for n in shape)
        if rows * cols > MOST_ELEMENTS:
            raise TraceError(
                "PTO121",
                "a tile of more than 2^28 elements",
                values={"tile": f"{rows}x{cols}"},
                loc=here(),
                fix="tile the axis: tiles are pieces that a core holds",
            )
        return TileType(dtype, rows, cols)


def _direction(direction: Direction, item: Any) -> Any:
    if item is Tensor:
        return Annotated[Value, TileParam(direction, None)]
    if isinstance(item, TileType) or (isinstance(item, RegionType) and direction is not Direction.OUT):
        return Annotated[Value, TileParam(direction, item)]
    if isinstance(item, RegionType):
        raise TraceError(
            "PTO121",
            "Out[Tensor[...]]: nothing shows that a kernel writes all of a region",
            values={"got": item},
            loc=here(),
            fix="write InOut[Tensor[...]], whose elements that are not stored stay as they were; or Out[Tile[...]]",
        )
    word = {"in": "In", "out": "Out", "inout": "InOut"}[direction.value]
    raise TraceError(
        "PTO121",
        f"{word}[...] of something that is not a tile",
        values={"got": repr(item)[:80]},
        loc=here(),
        fix=f"write {word}[Tile[16, 128, DType.F32]], {word}[Tensor] to take the shape of each call's view, or a region of any "
        "length: In[Tensor[None, 128, DType.F32]]",
    )


T = TypeVar("T")
if TYPE_CHECKING:
    Parameter = Value  # inside the kernel a parameter is a value, and that is what type checkers shall see
else:
    Parameter = object


class In(Parameter):
    """An input of a kernel: `In[Tile[16, 128, DType.F32]]`; `In[Tensor]` for the shape and dtype of each call's view; or a region
    from which the kernel loads tiles, of 1 to 4 dimensions, of any length where it says None: `In[Tensor[None, 128, DType.F32]]`."""

    def __class_getitem__(cls, item: Any) -> Any:
        return _direction(Direction.IN, item)


class Out(Parameter):
    """An output of a kernel. The kernel must write it; its elements before are not read."""

    def __class_getitem__(cls, item: Any) -> Any:
        return _direction(Direction.OUT, item)


class InOut(Parameter):
    """A parameter that a kernel reads and may write: an accumulator, a state; or a region of which it stores parts."""

    def __class_getitem__(cls, item: Any) -> Any:
        return _direction(Direction.INOUT, item)


class Scalar(Parameter):
    """A scalar parameter: `Scalar[DType.F32]`. Arguments are numbers, loop variables, symbols, scalars read from tensors, expressions of them."""

    def __class_getitem__(cls, item: Any) -> Any:
        if not isinstance(item, DType):
            raise TraceError(
                "PTO121",
                "Scalar[dtype] needs a DType of tiles",
                values={"got": repr(item)[:80]},
                loc=here(),
                fix=f"write Scalar[DType.F32]: one of {', '.join(map(str, DType))}; arguments are rounded to it once",
            )
        return Annotated[Value, ScalarParam(item)]


if TYPE_CHECKING:
    Constexpr = Annotated[T, "a Python constant"]  # inside the kernel it is one
else:

    class Constexpr:
        """A Python constant known while tracing: `Constexpr[int]`. Each value makes a kernel of its own."""

        def __class_getitem__(cls, item: Any) -> Any:
            if not _is_class(item):
                raise TraceError(
                    "PTO121",
                    "Constexpr[type] needs a Python type whose values can be told from others",
                    values={"got": repr(item)[:80]},
                    loc=here(),
                    fix="write Constexpr[int]; Constexpr[object] takes any value",
                )
            return Annotated[item, ConstexprParam(item)]


def _is_class(item: object) -> bool:
    """Whether isinstance takes it; typing's Any, TypedDict and Protocol are types that it does not take."""
    try:
        isinstance(None, item)  # pyright: ignore[reportArgumentType] - that is the question
    except TypeError:
        return False
    return isinstance(item, type)


def kernel_parameters(fn: Callable[..., Any], frame: FrameType) -> dict[str, ParamSpec]:
    """The parameters of a kernel function; string annotations are evaluated where `frame` defines it."""
    loc = Location(fn.__code__.co_filename, fn.__code__.co_firstlineno, fn.__name__)
    specs: dict[str, ParamSpec] = {}
    for p in inspect.signature(fn).parameters.values():
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) or p.default is not p.empty:
            raise TraceError(
                "PTO131",
                f"kernel {fn.__name__}: parameter {p.name} is positional-only, *args or **kwargs, or has a default",
                loc=loc,
                fix="name every parameter; make constants Constexpr parameters",
            )
        note = p.annotation
        if isinstance(note, str):
            note = _evaluated(note, fn, p.name, frame, loc)
        spec = (
            next((a for a in get_args(note)[1:] if isinstance(a, (TileParam, ScalarParam, ConstexprParam))), None)
            if get_origin(note) is Annotated
            else None
        )
        if spec is None:
            shown = "none" if note is p.empty else repr(note)[:80]
            raise TraceError(
                "PTO120",
                f"kernel {fn.__name__}: parameter {p.name} has no usable annotation",
                values={"annotation": shown},
                loc=loc,
                fix="write In[Tile[...]], Out[...], InOut[...], Scalar[DType...] or Constexpr[...]",
            )
        specs[p.name] = spec
    return specs


def _evaluated(note: str, fn: Callable[..., Any], parameter: str, frame: FrameType, loc: Location) -> object:
    """The value of the annotation `note`, with the names that the function itself would see."""
    try:
        return eval(note, fn.__globals__, _names_at(fn, frame))  # the user's own code
    except PtoError as e:
        e.loc = loc
        raise
    except Exception as e:
        raise TraceError(
            "PTO120",
            f"kernel {fn.__name__}: the annotation of {parameter} cannot be evaluated",
            values={"annotation": note, "because": f"{type(e).__name__}: {e}"},
            loc=loc,
            fix="define its names before the kernel, where the kernel is defined",
        ) from e


def _names_at(fn: Callable[..., Any], frame: FrameType | None) -> dict[str, object]:
    """Local names of the function that `frame` runs, and of the functions around it that are still running."""
    scopes = [frame.f_locals] if frame is not None else []
    while frame is not None:
        inner, frame = frame.f_code, frame.f_back
        while frame is not None and inner not in frame.f_code.co_consts:
            frame = frame.f_back
        scopes += [frame.f_locals] if frame is not None else []
    names: dict[str, object] = {}
    for scope in reversed(scopes):
        names |= scope
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # assigned later
            continue
    return names
