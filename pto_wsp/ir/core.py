"""The wir's data: types, variables, equations, regions, kernels, workloads. Plain, immutable, printable.

    wir      := symbols tensors axes kernels region returns    one workload with the kernels it calls
    kernel   := name params region                             tile dialect: equations over tiles
    region   := params equations
    equation := outs = primitive[params] ins regions           every equation keeps the user's source location
    in       := var | literal | view | expr
    view     := tensor[dim, ...]
    dim      := expr | expr :+ length | tile(expr, size, limit, offset) | gather(view) | span(expr, expr)

Names are identities: within one kernel, and within one workload, no two variables share a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, EnumMeta
from typing import Any

import numpy as np

from pto_wsp.errors import InternalError, Location, UnsupportedNameError, here
from pto_wsp.ir.expr import Expr, ceildiv, const, escape, show_name
from pto_wsp.ir.layout import Mesh, TensorLayout


class _NamedChoices(EnumMeta):
    """An enum whose missing members are an error at the user's line."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        have = ", ".join(cls.__members__)
        raise UnsupportedNameError(
            "PTO001", f"{cls.__name__} has no {name}", values={"there is": have}, loc=here(), fix="use one of these"
        )


class Choice(Enum, metaclass=_NamedChoices):
    """Base of the public enums."""

    def __str__(self) -> str:
        return self.name


class DType(Choice):
    """Element types: IEEE f64, f32 and f16, bf16, two's complement integers of 8 to 64 bits, unsigned ones, bool (one byte); for
    storage f8e4m3 (without infinities: ml_dtypes.float8_e4m3fn) and f8e5m2, which are cast before anything is computed."""

    F32 = ("f32", 0, 4)
    F16 = ("f16", 1, 2)
    BF16 = ("bf16", 2, 2)
    I32 = ("i32", 3, 4)
    BOOL = ("bool", 4, 1)
    I64 = ("i64", 5, 8)
    U64 = ("u64", 6, 8)
    F64 = ("f64", 7, 8)
    I8 = ("i8", 8, 1)
    I16 = ("i16", 9, 2)
    U8 = ("u8", 10, 1)
    U16 = ("u16", 11, 2)
    U32 = ("u32", 12, 4)
    F8E4M3 = ("f8e4m3", 13, 1)
    F8E5M2 = ("f8e5m2", 14, 1)

    def __init__(self, short: str, code: int, itemsize: int) -> None:
        self.short = short
        self.code = code
        self.itemsize = itemsize

    def __str__(self) -> str:
        return self.short

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return self.short.startswith(("f", "bf"))

    @property
    def is_unsigned(self) -> bool:
        """Whether it is an unsigned integer."""
        return self.short.startswith("u")

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer; bool is not."""
        return self.short.startswith(("i", "u"))

    @property
    def scalar(self) -> DType:
        """The type of a scalar read from a tensor of it: f64, i64, u64 or bool."""
        if self is DType.BOOL:
            return self
        return DType.F64 if self.is_float else DType.U64 if self.is_unsigned else DType.I64

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype of arrays that hold it; of bf16 and the types of 8 bits those of ml_dtypes."""
        if self.short in _ML:
            import ml_dtypes  # loaded when first needed: it costs a tenth of the import time

            return np.dtype(getattr(ml_dtypes, _ML[self.short]))
        return _NUMPY[self.short]


_ML = {"bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}
_NUMPY = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bool": np.dtype(np.bool_),
    **{f"{k}{n}": np.dtype(f"{k}{n // 8}") for k in "iu" for n in (8, 16, 32, 64)},
}
SHORT_DTYPES = {d.short: d for d in DType}

ZERO = const(0)

Dim = int | str
"""A valid extent: a number (all of them, by construction), "x.rows"/"x.cols" of the tile parameter x, "x.0", "x.1", ... of the
region parameter x, or the name of an i64 scalar of the kernel."""


def _dim(d: Dim) -> str:
    return show_name(d) if isinstance(d, str) else str(d)


MOST_ELEMENTS = 2**28
"""Of a tile, as the runtime takes it: 2^31 bytes of the widest dtype (`most_elements` in csrc/src/kernel_decoder.hpp)."""


@dataclass(frozen=True, slots=True)
class TileType:
    """A tile in registers: static shape, valid shape of which elements outside are never read into a result."""

    dtype: DType
    rows: int
    cols: int
    vrows: Dim = -1
    vcols: Dim = -1

    def __post_init__(self) -> None:
        if self.vrows == -1:
            object.__setattr__(self, "vrows", self.rows)
        if self.vcols == -1:
            object.__setattr__(self, "vcols", self.cols)

    def __str__(self) -> str:
        valid = (
            "" if (self.vrows, self.vcols) == (self.rows, self.cols) else f" of {_dim(self.vrows)} x {_dim(self.vcols)}"
        )
        return f"{self.dtype}<{self.rows}x{self.cols}{valid}>"

    @property
    def shape(self) -> tuple[int, int]:
        return (self.rows, self.cols)


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A scalar: of a kernel's parameter, or in a workload one of i64, u64, f64, bool."""

    dtype: DType

    def __str__(self) -> str:
        return str(self.dtype)


MOST_REGION_DIMS = 4


@dataclass(frozen=True, slots=True)
class RegionType:
    """A region of a tensor, of which a kernel loads tiles: 1 to 4 dimensions, None where the length is known at the task."""

    dtype: DType
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join('*' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True, slots=True)
class IndexType:
    """A loop variable: an integer."""

    def __str__(self) -> str:
        return "index"


@dataclass(frozen=True, slots=True)
class TokenType:
    """A task that others name in `after`: all instances of it so far in the iteration that both share."""

    def __str__(self) -> str:
        return "task"


class Role(Enum):
    """Who owns a tensor's storage: the user; the run, while the tensor lives; or the program, which gives it to its caller."""

    GIVEN = "tensor"
    TEMPORARY = "temporary"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor in memory; dims are numbers or expressions over symbols. With a layout they are those of the part that a device has."""

    dtype: DType
    shape: tuple[Expr, ...]
    role: Role = Role.GIVEN
    layout: TensorLayout | None = None

    def __str__(self) -> str:
        layout = "" if self.layout is None else f" @ {self.layout}"
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{layout}"


@dataclass(frozen=True, slots=True)
class ChannelType:
    """A channel between processes; a token that goes through it has these fields, each a scalar of a workload."""

    fields: tuple[ScalarType, ...] = ()

    def __str__(self) -> str:
        return f"channel<{', '.join(map(str, self.fields))}>"


Type = TileType | RegionType | ScalarType | IndexType | TensorType | TokenType | ChannelType


@dataclass(frozen=True, slots=True)
class Var:
    name: str
    type: Type

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant of a dtype; `value` is exactly representable in it. NaNs are equal to each other."""

    value: float | int | bool
    dtype: DType

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        shown = str(self.value).lower() if isinstance(self.value, bool) else repr(self.value)
        return f"{shown}:{self.dtype}"

    @property
    def key(self) -> tuple[str, DType]:
        # repr tells -0.0 from 0.0 and makes NaN equal to itself
        return (repr(self.value), self.dtype)


@dataclass(frozen=True, slots=True)
class At:
    """A plain index; drops the dimension."""

    index: Expr


@dataclass(frozen=True, slots=True)
class Slice:
    """`length` elements from `start`, all of which must exist."""

    start: Expr
    length: int


@dataclass(frozen=True, slots=True)
class TileAt:
    """Tile `index` of the elements offset .. limit: offset + index*size .. min(offset + (index+1)*size, limit)."""

    index: Expr
    size: int
    limit: Expr
    offset: Expr = ZERO

    @property
    def start(self) -> Expr:
        return self.offset + self.index * self.size


@dataclass(frozen=True, slots=True)
class Gather:
    """The elements that an integer view names, in its order, repeated ones included. `index` keeps one dimension."""

    index: View

    @property
    def size(self) -> int:
        return self.index.shape[0]


@dataclass(frozen=True, slots=True)
class Span:
    """`length` elements from `start`, a number known when the view is read: of scalar reads only."""

    start: Expr
    length: Expr


ViewDim = At | Slice | TileAt | Gather | Span


@dataclass(frozen=True, slots=True)
class View:
    """A rectangular part of a tensor; one dim for each dimension of the tensor."""

    tensor: str
    dims: tuple[ViewDim, ...]

    @property
    def kept(self) -> tuple[Slice | TileAt | Gather | Span, ...]:
        return tuple(d for d in self.dims if not isinstance(d, At))

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape: sizes of the dimensions that are not dropped. Of a view without `Span`."""
        out: list[int] = []
        for d in self.kept:
            if isinstance(d, Span):
                raise InternalError(f"a view of {self.tensor} has no static shape")
            out.append(d.length if isinstance(d, Slice) else d.size)
        return tuple(out)

    def exprs(self) -> Iterator[Expr]:
        """Every expression in it, those of index views included."""
        for d in self.dims:
            yield from _exprs(d)

    def names(self) -> frozenset[str]:
        return frozenset(n for e in self.exprs() for n in e.names())

    def index_views(self) -> Iterator[View]:
        """The views that its gathers read."""
        for d in self.dims:
            if isinstance(d, Gather):
                yield d.index


def _exprs(d: ViewDim) -> tuple[Expr, ...]:
    match d:
        case At():
            return (d.index,)
        case Slice():
            return (d.start,)
        case TileAt():
            return (d.index, d.limit, d.offset)
        case Span():
            return (d.start, d.length)
        case Gather():
            return tuple(d.index.exprs())


In = Var | Literal | View | Expr


@dataclass(frozen=True, slots=True)
class Axis:
    """What a loop runs over: `size` elements, in tiles of `tile` (1: elements).

    kind: Dense, DenseDyn, Tiles, Range, Ragged (a row of lengths), Sparse (a row of a sparse axis), or Records.
    """

    kind: str
    name: str
    size: Expr
    tile: int = 1

    @property
    def extent(self) -> Expr:
        return self.size if self.tile == 1 else ceildiv(self.size, const(self.tile))


@dataclass(frozen=True, slots=True)
class RuleCall:
    """An operation of a rule on rules (`ir/rule.py`). `to`: of a cast; `text`: the name that `coord` and `kernel_is` ask for; `loc`: the
    user's line, of what the user's own function asks of the task."""

    op: str
    args: tuple[Expr | Literal | RuleCall, ...] = ()
    to: DType | None = None
    text: str | None = None
    loc: Location | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        parts = [f"({a})" if isinstance(a, Expr) else str(a) for a in self.args]
        parts += [] if self.to is None else [str(self.to)]
        quoted = [] if self.text is None else ['"' + "".join(map(escape, self.text)) + '"']
        return f"{self.op}({', '.join([*quoted, *parts])})"


Param = int | bool | float | str | Expr | Axis | Literal | RuleCall | DType | tuple["Param", ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A nested scope: variables it binds, and equations in order."""

    params: tuple[Var, ...]
    eqns: tuple[Eqn, ...]


@dataclass(frozen=True, slots=True)
class Eqn:
    """outs = prim[params] ins { regions }"""

    prim: str
    outs: tuple[Var, ...] = ()
    ins: tuple[In, ...] = ()
    params: Mapping[str, Param] = field(default_factory=dict[str, Param])
    regions: tuple[Region, ...] = ()
    loc: Location | None = field(default=None, compare=False, repr=False)

    def walk(self) -> Iterator[Eqn]:
        """This equation and all equations inside it, in program order."""
        yield self
        for region in self.regions:
            for eqn in region.eqns:
                yield from eqn.walk()


class Direction(Enum):
    IN = "in"
    OUT = "out"
    INOUT = "inout"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class KernelParam:
    """A parameter of a kernel: a tile or region in memory with a direction, or a scalar (direction IN)."""

    name: str
    direction: Direction
    type: TileType | RegionType | ScalarType
    loc: Location | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A traced kernel. `name` is unique in its workload, `label` is what the user called it."""

    name: str
    label: str
    params: tuple[KernelParam, ...]
    body: Region
    loc: Location | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        from pto_wsp.ir.text import show_kernel

        return show_kernel(self)


@dataclass(frozen=True, slots=True)
class DataAxis:
    """An axis whose extents are values in tensors, which are checked when they are bound.

    Ragged: tensors = (lengths,), one length for each of `outer`. Sparse: tensors = (indptr, indices), row i of `outer` is
    indices[indptr[i] .. indptr[i+1]]; `inner` bounds the indices where it is known.
    """

    kind: str
    name: str
    outer: Expr
    tensors: tuple[str, ...]
    inner: Expr | None = None


@dataclass(frozen=True, slots=True)
class Wir:
    """One workload with its kernels. `symbols` are the sizes bound at run time; `returns` names results, as they are returned."""

    name: str
    symbols: tuple[str, ...]
    tensors: tuple[Var, ...]
    kernels: tuple[Kernel, ...]
    body: Region
    axes: tuple[DataAxis, ...] = ()
    returns: str | tuple[str, ...] | None = None
    _types: Mapping[str, Type] = field(init=False, compare=False, repr=False)  # of the tensors

    def __post_init__(self) -> None:
        object.__setattr__(self, "_types", {v.name: v.type for v in self.tensors})

    def kernel(self, name: str) -> Kernel:
        return next(k for k in self.kernels if k.name == name)

    def tensor_type(self, name: str) -> TensorType:
        t = self._types[name]
        if not isinstance(t, TensorType):
            raise InternalError(f"{name} is not a tensor")
        return t

    @property
    def mesh(self) -> Mesh | None:
        """The devices that its tensors lie on: each of them runs it. None for a workload of one device."""
        layouts = (v.type.layout for v in self.tensors if isinstance(v.type, TensorType))
        return next((x.mesh for x in layouts if x is not None), None)

    def tasks(self) -> Iterator[Eqn]:
        """Every task equation in program order: the sites of the workload."""
        for eqn in self.body.eqns:
            yield from (e for e in eqn.walk() if e.prim == "task")

    def with_body(self, *eqns: Eqn) -> Wir:
        return replace(self, body=Region((), eqns))

    def __str__(self) -> str:
        from pto_wsp.ir.text import show

        return show(self)


@dataclass(frozen=True, slots=True)
class Check:
    """A requirement on valid shapes that tracing could not decide: a == b, or a >= b."""

    rel: str
    a: Dim
    b: Dim


@dataclass(frozen=True, slots=True)
class Typed:
    """What a tile primitive's type rule gives: the result's type, and checks left for the task."""

    type: TileType | ScalarType | None
    checks: tuple[Check, ...] = ()


class Dialect(Enum):
    TILE = "tile"
    TASK = "task"
    SCALAR = "scalar"
    CONTROL = "control"


class Primitive:
    """A primitive and its rules. A missing rule is a failing test, never a default.

    type       tile: (params, *operand types) -> Typed, raises TypeCheckError without a location
               task: (eqn, scope) -> None, raises IRConversionError
               scalar: (params, *operand dtypes) -> DType, raises TypeCheckError without a location
               control (of kernels): (eqn) -> None, raises IRConversionError
    reference  tile: (params, *arrays) -> array of the valid shape: float64 (integers exact), the caller rounds once
               task: the evaluator's step
               scalar: (params, dtype, *numbers) -> number
    follows    tile: (params, operand) -> whether the operand's rows, and columns, are those of the result; all are, without it
    cost       tile: (arch, params, result, *operands) -> Expr over the operands' valid dims, cycles
    expand     compositions only: (*values, **params) -> value, in terms of other primitives
    opcode     leaves only: the number of the operation in the plan
    unit       tile: the unit of a core that runs it (load, vector, cube, store), or "none": no instruction stands for it
    """

    def __init__(
        self,
        name: str,
        dialect: Dialect = Dialect.TILE,
        *,
        opcode: int | None = None,
        doc: str = "",
        unit: str = "vector",
    ) -> None:
        if name in PRIMITIVES:
            raise InternalError(f"primitive {name} is defined twice")
        self.name = name
        self.dialect = dialect
        self.opcode = opcode
        self.doc = doc
        self.unit = unit
        self.type: Callable[..., Any] | None = None
        self.reference: Callable[..., Any] | None = None
        self.follows: Callable[[dict[str, Any], int], tuple[bool, bool]] = lambda params, operand: (True, True)
        self.cost: Callable[..., Expr] | None = None
        self.expand: Callable[..., Any] | None = None
        PRIMITIVES[name] = self

    def def_type(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        self.type = rule
        return rule

    def def_reference(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        self.reference = rule
        return rule

    def def_follows(self, rule: Callable[[dict[str, Any], int], tuple[bool, bool]]) -> Callable[..., Any]:
        self.follows = rule
        return rule

    def def_cost(self, rule: Callable[..., Expr]) -> Callable[..., Expr]:
        self.cost = rule
        return rule

    def def_expand(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        self.expand = rule
        return rule


PRIMITIVES: dict[str, Primitive] = {}


def operand_type(x: In) -> Type:
    if isinstance(x, Var):
        return x.type
    if isinstance(x, Literal):
        return ScalarType(x.dtype)
    raise InternalError(f"{x} has no type of its own")


def task_effects(wir: Wir, eqn: Eqn) -> Iterator[tuple[int, View, bool]]:
    """The views a task touches: (position of the argument, view, whether it writes)."""
    kernel = wir.kernel(str(eqn.params["kernel"]))
    for i, (param, arg) in enumerate(zip(kernel.params, eqn.ins, strict=True)):
        if isinstance(arg, View):
            yield i, arg, param.direction is not Direction.IN


def written_tensors(wir: Wir) -> frozenset[str]:
    return frozenset(v.tensor for eqn in wir.tasks() for _, v, writes in task_effects(wir, eqn) if writes)


def read_tensors(wir: Wir) -> frozenset[str]:
    out: set[str] = set()
    for eqn in wir.tasks():
        kernel = wir.kernel(str(eqn.params["kernel"]))
        out |= {v.tensor for i, v, _ in task_effects(wir, eqn) if kernel.params[i].direction is not Direction.OUT}
    return frozenset(out)
