"""What channels carry: scalars, and views as the numbers that their indices are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from pto_wsp.errors import Location, TraceError, TypeCheckError, here
from pto_wsp.ir import expr
from pto_wsp.ir.core import ChannelType, DType, In, ScalarType, Var
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scalars import SCALAR_DTYPES
from pto_wsp.trace.builder import Task, WorkloadBuilder
from pto_wsp.trace.index import Element, Index, Scalar64
from pto_wsp.trace.scalar import DataScalar, as_node, is_number
from pto_wsp.trace.tensor import Part, Tensor, TensorSpec, TensorView

Kind = DType | None
"""What one value of a token is: a scalar of i64, u64, f64 or bool, or a view."""
Kinds = Kind | tuple["Kinds", ...]
"""Of a token: one value, or a tuple of such; () of one that carries nothing."""

_SCALARS: dict[object, DType] = {int: DType.I64, float: DType.F64, bool: DType.BOOL}


def kinds_of(t: Any) -> Kinds:
    """What `Channel[t]` carries. Raises TraceError."""
    if t is None or t is type(None):
        return ()
    if t is Tensor or t is TensorSpec:
        return None
    if isinstance(t, tuple):
        return tuple(map(kinds_of, t))
    if get_origin(t) is tuple:
        return tuple(map(kinds_of, get_args(t)))
    kind = _SCALARS.get(t) if isinstance(t, type) else t if isinstance(t, DType) else None
    if kind is not None and kind not in SCALAR_DTYPES:
        raise TraceError(
            "PTO823",
            f"a channel of {kind} numbers",
            values={"tokens carry": ", ".join(map(str, SCALAR_DTYPES))},
            loc=here(),
            fix=f"write Channel[DType.{kind.scalar.name}], as which an item of such a tensor is read; or send a view of it: Channel[Tensor]",
        )
    if kind is None:
        raise TraceError(
            "PTO823",
            "a channel of something that tokens do not carry",
            values={"got": repr(t)[:80]},
            loc=here(),
            fix="write Channel[Tensor], Channel[int], float, bool, DType.U64, None, or a tuple: Channel[tuple[Tensor, int]]",
        )
    return kind


def leaves(kinds: Kinds) -> tuple[Kind, ...]:
    """The kinds of the single values."""
    return tuple(k for part in kinds for k in leaves(part)) if isinstance(kinds, tuple) else (kinds,)


def shaped(kinds: Kinds, values: Iterator[Any]) -> Any:
    """Values in the tuples in which a channel carries them."""
    return tuple(shaped(k, values) for k in kinds) if isinstance(kinds, tuple) else next(values)


def show_kinds(kinds: Kinds) -> str:
    """`tuple[Tensor, i64]`"""
    if isinstance(kinds, tuple):
        return f"tuple[{', '.join(map(show_kinds, kinds))}]" if kinds else "nothing"
    return "Tensor" if kinds is None else str(kinds)


@dataclass(frozen=True, slots=True)
class ScalarForm:
    """A scalar of a token, in one field; `tile`: of a tile index, the size and the elements of its axis."""

    dtype: DType
    field: int
    tile: tuple[int, Expr] | None = None

    def __str__(self) -> str:
        return str(self.dtype) if self.tile is None else f"index of tiles of {self.tile[0]} of {self.tile[1]}"


_HOLES = re.compile(r'\$"#(\d+)"')


@dataclass(frozen=True, slots=True)
class ViewForm:
    """A view of a token: its tensor, by name, and its parts, with `#k` for the number in field k. `gathers`: the forms of the index
    views, by part."""

    tensor: str
    parts: tuple[Part, ...]
    gathers: tuple[tuple[int, ViewForm], ...] = ()

    def __str__(self) -> str:
        return _HOLES.sub(r"#\1", f"{self.tensor}[{', '.join(map(_show, self.parts))}]")


def _show(p: Part) -> str:
    match p.kind:
        case "all":
            return ":"
        case "at":
            return str(p.start)
        case "range":
            return f"{p.start} :+ {p.size}"
        case "span":
            return f"{p.start} :+ {p.length}"
        case "tile":
            return f"tile {p.index} of {p.size}"
        case _:
            return "gather"


Form = ScalarForm | ViewForm


@dataclass(frozen=True)
class Structure:
    """What all tokens of a channel have in common. `fields`: the types of the numbers that differ; `returns`: to which channels
    the consumer gives back which field, the number of a buffer."""

    forms: tuple[Form, ...]
    fields: tuple[DType, ...]
    returns: tuple[tuple[str, int], ...] = ()

    @property
    def type(self) -> ChannelType:
        """Of the channel in the wir."""
        return ChannelType(tuple(map(ScalarType, self.fields)))

    def __str__(self) -> str:
        return ", ".join(map(str, self.forms)) or "nothing"


def _hole(k: int) -> str:
    """What stands in a form for the number in field k; no variable is called so."""
    return f"$#{k}"


class Packing:
    """A token being made: its forms, and the values of its fields."""

    def __init__(self, builder: WorkloadBuilder, is_known: Callable[[Expr], bool]) -> None:
        """is_known: whether the receiver knows what an expression names."""
        self._builder = builder
        self._is_known = is_known
        self.forms: list[Form] = []
        self.fields: list[DType] = []
        self.values: list[In] = []
        self.returns: list[tuple[str, int]] = []
        self._numbers: dict[tuple[str, Expr], Expr] = {}

    @property
    def structure(self) -> Structure:
        """What is made so far, without the values."""
        return Structure(tuple(self.forms), tuple(self.fields), tuple(self.returns))

    def _field(self, dtype: DType, value: In) -> Expr:
        self.fields.append(dtype)
        self.values.append(value)
        return expr.var(_hole(len(self.fields) - 1))

    def number(self, free: str, e: Expr) -> Expr:
        """A buffer that goes with the token, once: the consumer gives its number back to channel `free`."""
        key = (free, e)
        if key not in self._numbers:
            self._numbers[key] = self._field(DType.I64, e)
            self.returns.append((free, len(self.fields) - 1))
        return self._numbers[key]

    def scalar(self, x: Any, dtype: DType, what: str) -> None:
        """A scalar of the workload, or a number."""
        if isinstance(x, Index):
            self._builder.use(x.builder, x.expr, here())
        tile = x.tile if isinstance(x, Index) and x.tile is not None and self._is_known(x.tile[1]) else None
        self.forms.append(ScalarForm(dtype, len(self.fields), tile if dtype is DType.I64 else None))
        self._field(dtype, as_node(x, dtype, what).operand(self._builder))

    def view(self, v: TensorView, tensor: str, numbers: dict[int, Expr]) -> None:
        """A view. numbers: which parts are buffers' numbers, and the fields that have them."""
        self.forms.append(self._form(v, tensor, numbers))

    def _form(self, v: TensorView, tensor: str, numbers: dict[int, Expr]) -> ViewForm:
        parts: list[Part] = []
        gathers: list[tuple[int, ViewForm]] = []
        for k, p in enumerate(v.parts):
            if k in numbers:
                parts.append(Part("at", numbers[k]))
                continue
            if p.kind == "range" and p.start == expr.const(0) and p.size == v.root.spec_shape[k]:
                parts.append(Part("all"))
                continue
            start, length, index, limit = map(self._held, (p.start, p.length, p.index, p.limit))
            if p.through is not None:
                inner = self._builder.tensor(p.through.root)
                gathers.append((k, self._form(p.through, inner, {})))
            parts.append(Part(p.kind, start, p.size, length, index, limit))
        return ViewForm(tensor, tuple(parts), tuple(gathers))

    def _held(self, e: Expr) -> Expr:
        return e if self._is_known(e) else self._field(DType.I64, e)


def unpacked(builder: WorkloadBuilder, structure: Structure, fields: Sequence[Var]) -> Iterator[Any]:
    """The values of a token whose fields are these variables."""
    numbers = {_hole(k): expr.var(v.name) for k, v in enumerate(fields)}
    for form in structure.forms:
        if isinstance(form, ViewForm):
            yield _view(builder, form, numbers)
        elif form.tile is None:
            yield DataScalar.of(fields[form.field], form.dtype, builder)
        else:
            yield Index(expr.var(fields[form.field].name), builder, form.tile)


def _view(builder: WorkloadBuilder, form: ViewForm, numbers: dict[str, Expr]) -> TensorView:
    def put(e: Expr) -> Expr:
        return e.substitute({n: numbers[n] for n in e.names() if n in numbers})

    inner = {k: _view(builder, f, numbers) for k, f in form.gathers}
    parts = tuple(
        replace(
            p, start=put(p.start), length=put(p.length), index=put(p.index), limit=put(p.limit), through=inner.get(k)
        )
        for k, p in enumerate(form.parts)
    )
    uses = tuple((builder, e) for p in parts for e in (p.start, p.length, p.index, p.limit) if not e.is_const)
    return TensorView(builder.tensors[form.tensor], parts, uses)


def values_of(given: Sequence[Any]) -> list[Any]:
    """What a token is made of, one after the other: of a task the views that it writes."""
    out: list[Any] = []
    for x in given:
        if isinstance(x, Task):
            out += x.written
        elif isinstance(x, (tuple, list)):
            out += values_of(x)
        else:
            out.append(x)
    return out


def checked(kinds: Kinds, values: Sequence[Any], what: str, loc: Location) -> None:
    """Raise TypeCheckError where values are not of these kinds."""
    wanted = leaves(kinds)
    fits = len(wanted) == len(values) and all(_fits(k, x) for k, x in zip(wanted, values, strict=True))
    if not fits:
        raise TypeCheckError(
            "PTO813",
            f"{what} of something else than the channel carries",
            values={"channel": show_kinds(kinds), "given": ", ".join(_called(x) for x in values) or "nothing"},
            loc=loc,
            fix="send what the channel was made for; cast(x, DType.I64) makes an integer of a scalar, item(view) reads an element",
        )


def _fits(kind: Kind, x: Any) -> bool:
    if kind is None:
        return isinstance(x, (TensorSpec, TensorView))
    if isinstance(x, Element):
        return x.is_element and isinstance(x, (TensorSpec, TensorView)) and x.dtype.scalar is kind
    if isinstance(x, Scalar64):
        return x.dtype is kind
    return is_number(x)


def _called(x: Any) -> str:
    if isinstance(x, (TensorSpec, TensorView)):
        return repr(x)
    return str(x.dtype) if isinstance(x, Scalar64) else type(x).__name__
