"""The task dialect: primitives inside workloads, with their typing rules.

Loops, scopes, parts and conditionals have regions; a task has effects on the views it is given; a read gives a scalar. In the
pure form all of these give new values instead: what a region changes goes in as `ins`, is bound by the region's parameters,
comes out of its `yield`, and is the equation's `outs`.
Costs nothing but the tasks inside: `def_cost` gives 0 for all but `task`, whose cost is its kernel's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pto_wsp.errors import InternalError, IRConversionError
from pto_wsp.ir.core import (
    At,
    Axis,
    Dialect,
    Direction,
    DType,
    Eqn,
    Gather,
    In,
    IndexType,
    Kernel,
    Literal,
    Param,
    Primitive,
    RegionType,
    Role,
    RuleCall,
    ScalarType,
    Slice,
    Span,
    TensorType,
    TileAt,
    TileType,
    TokenType,
    Type,
    Var,
    View,
    Wir,
    operand_type,
)
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.scalars import SCALAR_DTYPES

parallel_for_p = Primitive("parallel_for", Dialect.TASK, doc="independent iterations")
seq_for_p = Primitive(
    "seq_for", Dialect.TASK, doc="all of an iteration before any of the next, while a condition holds"
)
combine_p = Primitive("combine", Dialect.TASK, doc="several workloads in program order")
sequential_p = Primitive("sequential", Dialect.TASK, doc="all of a part before any of the next")
cond_p = Primitive("cond", Dialect.TASK, doc="one of two regions")
yield_p = Primitive("yield", Dialect.TASK, doc="what a region gives")
task_p = Primitive("task", Dialect.TASK, doc="one invocation of a kernel")
item_p = Primitive("item", Dialect.TASK, doc="one element of a tensor")
reduce_sum_p = Primitive("reduce_sum", Dialect.TASK, doc="the sum, row-major from 0; of integers modulo 2**64")
reduce_max_p = Primitive("reduce_max", Dialect.TASK, doc="the largest element, NaN if one is")
reduce_min_p = Primitive("reduce_min", Dialect.TASK, doc="the smallest element, NaN if one is")
reduce_any_p = Primitive("reduce_any", Dialect.TASK, doc="whether an element is not 0")
reduce_all_p = Primitive("reduce_all", Dialect.TASK, doc="whether no element is 0")
slot_get_p = Primitive("slot_get", Dialect.TASK, doc="the value of a slot")
slot_set_p = Primitive("slot_set", Dialect.TASK, doc="gives a slot its value")
acquire_p = Primitive("acquire", Dialect.TASK, doc="memory for a temporary, of any content, or with zero=true of zeros")
release_p = Primitive("release", Dialect.TASK, doc="the end of a temporary's life")

LOOPS = ("parallel_for", "seq_for")
PARTS = ("combine", "sequential")
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_any", "reduce_all")
READS = ("item", *REDUCTIONS)
SLOTS = ("slot_get", "slot_set")
BUFFERS = ("acquire", "release")

AXES = ("Dense", "DenseDyn", "Tiles", "Range", "Ragged", "Sparse", "Records")
N_SLOTS = 64
INDEX_DTYPES = (DType.I32, DType.I64)
"""What gathers and data axes may read indices and lengths from."""


@dataclass
class Scope:
    """What equations of a region may name. `tokens` are those of all tasks before, in whatever region; `pipeline` and `process` are
    the innermost around, `channels` those of that pipeline, by variable. `together`: all devices of a mesh come here."""

    wir: Wir
    pure: bool
    names: dict[str, Var] = field(default_factory=dict[str, Var])
    tensors: dict[str, TensorType] = field(default_factory=dict[str, TensorType])
    tokens: set[str] = field(default_factory=set[str])
    slots: dict[int, DType] = field(default_factory=dict[int, DType])
    pipeline: Eqn | None = None
    process: Eqn | None = None
    channels: Mapping[str, Eqn] = field(default_factory=dict[str, Eqn])
    together: bool = True

    def inner(self) -> Scope:
        """The scope of a region inside of this one."""
        return replace(self, names=dict(self.names), tensors=dict(self.tensors))

    def bind(self, v: Var) -> None:
        if isinstance(v.type, TensorType):
            self.tensors[v.name] = v.type
        elif isinstance(v.type, TokenType):
            self.tokens.add(v.name)
        else:
            self.names[v.name] = v


def bound_vars(eqns: Sequence[Eqn]) -> Iterator[Var]:
    """Every variable that these equations and their regions bind: loop variables, scalars, tasks."""
    for top in eqns:
        for eqn in top.walk():
            yield from eqn.outs
            for r in eqn.regions:
                yield from r.params


def used_names(eqn: Eqn) -> frozenset[str]:
    """The variables and symbols that an equation itself names; those of its regions are theirs."""
    out: set[str] = set()
    for x in (*eqn.ins, *eqn.params.values()):
        out |= _names_in(x)
    return frozenset(out)


def _names_in(x: In | Param) -> frozenset[str]:
    match x:
        case Var():
            return frozenset((x.name,))
        case View() | Expr():
            return frozenset(x.names())
        case RuleCall():
            return frozenset(n for a in x.args for n in _names_in(a))
        case Axis():
            return x.size.names()
        case tuple():
            return frozenset(n for item in x for n in _names_in(item))
        case _:
            return frozenset()


def slot_types(wir: Wir) -> dict[int, DType]:
    """The dtype of each slot that the workload uses."""
    out: dict[int, DType] = {}
    for top in wir.body.eqns:
        for eqn in top.walk():
            if eqn.prim in SLOTS:
                slot = eqn.params["slot"]
                assert isinstance(slot, int)
                t = value_type(eqn.ins[0]) if eqn.ins else eqn.outs[0].type
                assert isinstance(t, ScalarType)
                out.setdefault(slot, t.dtype)
    return out


def value_type(x: In) -> Type:
    """The type of an operand; index expressions are i64."""
    if isinstance(x, Expr):
        return ScalarType(DType.I64)
    if isinstance(x, View):
        raise InternalError("a view is no value")
    return operand_type(x)


def same_type(a: Type, b: Type) -> bool:
    """Whether they hold the same; who owns a tensor's storage aside."""
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        return (a.dtype, a.shape) == (b.dtype, b.shape)
    return a == b


def broken(eqn: Eqn, why: str) -> IRConversionError:
    return IRConversionError("PTO302", f"{eqn.prim}: {why}", loc=eqn.loc, fix="this wir breaks a rule of the language")


def _need(ok: bool, eqn: Eqn, why: str) -> None:
    if not ok:
        raise broken(eqn, why)


def _in_scope(e: Expr, scope: Scope, eqn: Eqn) -> None:
    for name in e.names():
        if name.startswith("$"):
            _need(name[1:] in scope.wir.symbols, eqn, f"{name} is not in scope")
            continue
        _need(name in scope.names, eqn, f"{name} is not in scope")
        t = scope.names[name].type
        _need(t in (IndexType(), ScalarType(DType.I64)), eqn, f"{name} is {t}, which is no index")


def operand(x: In, scope: Scope, eqn: Eqn) -> Type:
    """The type of a value that is used; its names are in scope."""
    if isinstance(x, Expr):
        _in_scope(x, scope, eqn)
    elif isinstance(x, Var):
        known = scope.tensors.get(x.name) if isinstance(x.type, TensorType) else None
        here = scope.names[x.name].type if known is None and x.name in scope.names else known
        _need(here == x.type and here != IndexType(), eqn, f"{x.name} is not in scope as {x.type}")
    else:
        _need(isinstance(x, Literal), eqn, "needs values")
    return value_type(x)


def _scalar(x: In, scope: Scope, eqn: Eqn, takes: Sequence[DType] = SCALAR_DTYPES) -> DType:
    t = operand(x, scope, eqn)
    _need(isinstance(t, ScalarType) and t.dtype in takes, eqn, f"{t} is not {' or '.join(map(str, takes))}")
    assert isinstance(t, ScalarType)
    return t.dtype


def _regions(eqn: Eqn, scope: Scope, *, first: int = 0, own: tuple[Type, ...] = (), count: int | None = None) -> None:
    """`count` regions, each with parameters for `own` values and the carried `ins[first:]`, which are also the results."""
    carried = tuple(operand(x, scope, eqn) for x in eqn.ins[first:])
    _need(scope.pure or not carried, eqn, "carries values, which only the pure form does")
    n = len(eqn.regions) if count is None else count
    _need(len(eqn.regions) == n and n >= 1, eqn, f"needs regions: {n}")
    for r in eqn.regions:
        have = tuple(v.type for v in r.params)
        _need(
            len(have) == len(own) + len(carried) and all(map(same_type, have, (*own, *carried))),
            eqn,
            "a region has parameters of other types",
        )
    _need(
        len(eqn.outs) == len(carried) and all(map(same_type, (v.type for v in eqn.outs), carried)),
        eqn,
        "its results are not what it carries",
    )


def _loop_type(eqn: Eqn, scope: Scope) -> None:
    axis = eqn.params.get("axis")
    _need(isinstance(axis, Axis) and isinstance(eqn.params.get("loop"), str), eqn, "needs an axis and a loop name")
    assert isinstance(axis, Axis)
    body = replace(eqn, regions=eqn.regions[:1])
    _regions(body, scope, own=(IndexType(),), count=1)
    condition = eqn.regions[1:]
    _need(
        not condition or (eqn.prim == "seq_for" and len(condition) == 1 and not condition[0].params),
        eqn,
        "has a region too many",
    )
    for e in (e for r in condition for e in r.eqns):
        _need(e.prim in (*READS, "slot_get", "yield") or e.prim.startswith("s."), e, "in a condition, which only reads")
    _need(axis.kind in AXES and axis.tile >= 1, eqn, f"a {axis.kind} axis of tiles of {axis.tile}")
    _in_scope(axis.size, scope, eqn)


def _parts_type(eqn: Eqn, scope: Scope) -> None:
    _regions(eqn, scope)


def _cond_type(eqn: Eqn, scope: Scope) -> None:
    _need(len(eqn.ins) >= 1, eqn, "needs a condition")
    _scalar(eqn.ins[0], scope, eqn, (DType.BOOL,))
    _regions(eqn, scope, first=1, count=2)


def _yield_type(eqn: Eqn, scope: Scope) -> None:
    for x in eqn.ins:
        operand(x, scope, eqn)
    _need(bool(eqn.ins) and not eqn.outs and not eqn.regions, eqn, "gives values, and has no results")


def scope_regions(eqn: Eqn, scope: Scope) -> None:
    """The rule of an equation around one region, that carries what this changes."""
    _regions(eqn, scope, count=1)


def _read_type(eqn: Eqn, scope: Scope) -> None:
    _need(len(eqn.ins) == 1 and isinstance(eqn.ins[0], View) and not eqn.regions, eqn, "needs one view")
    view = eqn.ins[0]
    assert isinstance(view, View)
    tensor = _view_type(view, scope, eqn)
    dims = (At,) if eqn.prim == "item" else None
    for d in view.dims:
        _need(not isinstance(d, Gather) and (dims is None or isinstance(d, dims)), eqn, "cannot read such a view")
    _need(
        eqn.prim not in ("reduce_sum", "reduce_max", "reduce_min") or tensor.dtype is not DType.BOOL,
        eqn,
        "needs a tensor of numbers",
    )
    logical = eqn.prim in ("reduce_any", "reduce_all")
    want = ScalarType(DType.BOOL if logical else tensor.dtype.scalar)
    _need([v.type for v in eqn.outs] == [want], eqn, f"its type is {want}")


def _slot_type(eqn: Eqn, scope: Scope) -> None:
    slot = eqn.params.get("slot")
    _need(type(slot) is int and 0 <= slot < N_SLOTS and not eqn.regions, eqn, f"needs a slot of 0 .. {N_SLOTS - 1}")
    assert isinstance(slot, int)
    if eqn.prim == "slot_set":
        _need(len(eqn.ins) == 1 and not eqn.outs, eqn, "needs a value")
        dtype = _scalar(eqn.ins[0], scope, eqn)
    else:
        _need(not eqn.ins and len(eqn.outs) == 1, eqn, "has one result")
        t = eqn.outs[0].type
        _need(isinstance(t, ScalarType) and t.dtype in SCALAR_DTYPES, eqn, f"a slot of {t}")
        assert isinstance(t, ScalarType)
        dtype = t.dtype
    known = scope.slots.setdefault(slot, dtype)
    _need(known is dtype, eqn, f"slot {slot} is {known}")
    _need(not scope.pure or eqn.prim == "slot_get", eqn, "the pure form sets no slots")


def _buffer_type(eqn: Eqn, scope: Scope) -> None:
    x = eqn.ins[0] if len(eqn.ins) == 1 else None
    _need(isinstance(x, Var) and not eqn.outs and not eqn.regions, eqn, "needs a tensor")
    assert isinstance(x, Var)
    t = x.type
    temporary = isinstance(t, TensorType) and t.role is Role.TEMPORARY and scope.tensors.get(x.name) == t
    _need(temporary, eqn, f"{x.name} is no temporary")
    _need(
        dict(eqn.params) in ({}, {"zero": True}) and (eqn.prim == "acquire" or not eqn.params),
        eqn,
        "has no such parameter",
    )


def _task_type(eqn: Eqn, scope: Scope) -> None:
    name, coords = eqn.params.get("kernel"), eqn.params.get("coords")
    kernel = next((k for k in scope.wir.kernels if k.name == name), None)
    _need(kernel is not None, eqn, f"there is no kernel {name}")
    assert kernel is not None
    _need(
        isinstance(coords, tuple) and len(eqn.ins) == len(kernel.params) and not eqn.regions,
        eqn,
        "needs coordinates and one argument for each parameter",
    )
    assert isinstance(coords, tuple)
    for c in coords:
        _need(isinstance(c, Expr), eqn, "a coordinate is an expression")
        assert isinstance(c, Expr)
        _in_scope(c, scope, eqn)
    names = eqn.params.get("names", ("",) * len(coords))
    _need(
        isinstance(names, tuple) and len(names) == len(coords) and all(isinstance(n, str) for n in names),
        eqn,
        "needs as many names as coordinates",
    )
    for param, arg in zip(kernel.params, eqn.ins, strict=True):
        if isinstance(param.type, ScalarType):
            _need(param.direction is Direction.IN, eqn, f"{param.name} is a scalar")
            _scalar_argument(param.name, param.type.dtype, arg, scope, eqn)
        else:
            _need(isinstance(arg, View), eqn, f"{param.name} needs a view")
            assert isinstance(arg, View)
            if isinstance(param.type, RegionType):
                _region_argument(arg, param.type, scope, eqn)
            else:
                _tile_argument(arg, param.type, scope, eqn)
    after = eqn.params.get("after", ())
    _need(isinstance(after, tuple), eqn, "after is a list of tasks")
    assert isinstance(after, tuple)
    for t in after:
        _need(t in scope.tokens, eqn, f"there is no task {t} before it")
    want = [scope.tensors[t] for t in written_by(eqn, kernel)] if scope.pure else []
    types = [v.type for v in eqn.outs]
    token = not scope.pure and types == [TokenType()]
    _need(
        token or (len(want) == len(types) and all(map(same_type, types, want))),
        eqn,
        f"its results are not {', '.join(map(str, want)) or 'a task'}",
    )


def written_by(task: Eqn, kernel: Kernel) -> tuple[str, ...]:
    """The tensors a task writes, each once, in the order of the parameters."""
    views = (
        x
        for p, x in zip(kernel.params, task.ins, strict=True)
        if p.direction is not Direction.IN and isinstance(x, View)
    )
    return tuple(dict.fromkeys(v.tensor for v in views))


def _scalar_argument(name: str, dtype: DType, arg: In, scope: Scope, eqn: Eqn) -> None:
    if isinstance(arg, Literal):
        _need(arg.dtype is dtype, eqn, f"{name} needs a scalar of {dtype}")
        return
    got = _scalar(arg, scope, eqn)
    takes = (
        (DType.BOOL,)
        if dtype is DType.BOOL
        else (DType.I64, DType.U64, DType.F64)
        if dtype.is_float
        else (DType.I64, DType.U64)
    )
    # an index expression of integers is also 0 and not 0 of a bool parameter
    _need(isinstance(arg, Expr) or got in takes, eqn, f"{name} needs a scalar of {dtype}, not {got}")


def _tile_argument(view: View, param: TileType, scope: Scope, eqn: Eqn) -> None:
    tensor = _view_type(view, scope, eqn)
    _need(not any(isinstance(d, Span) for d in view.dims), eqn, f"a view of {view.tensor} has no static shape")
    _need(
        tensor.dtype is param.dtype and view.shape == param.shape, eqn, f"a view of {view.tensor} does not fit {param}"
    )


def region_fits(view: View, param: RegionType) -> bool:
    """Whether a view has the number of dimensions of a region parameter, and the sizes that it states."""
    if len(view.kept) != len(param.shape) or any(isinstance(d, Gather) for d in view.kept):
        return False
    return all(
        n is None or (isinstance(d, Slice) and d.length == n) for d, n in zip(view.kept, param.shape, strict=True)
    )


def _region_argument(view: View, param: RegionType, scope: Scope, eqn: Eqn) -> None:
    tensor = _view_type(view, scope, eqn)
    fits = tensor.dtype is param.dtype and region_fits(view, param)
    _need(fits, eqn, f"a view of {view.tensor} does not fit {param}")


def _view_type(view: View, scope: Scope, eqn: Eqn) -> TensorType:
    """The tensor that is viewed; names are in scope, index views are vectors of integers."""
    _need(view.tensor in scope.tensors, eqn, f"there is no tensor {view.tensor}")
    tensor = scope.tensors[view.tensor]
    _need(len(view.dims) == len(tensor.shape), eqn, f"{view.tensor} has {len(tensor.shape)} dimensions")
    for d in view.dims:
        if isinstance(d, Gather):
            index = _view_type(d.index, scope, eqn)
            _need(
                index.dtype in INDEX_DTYPES
                and len(d.index.kept) == 1
                and not any(isinstance(k, (Gather, Span)) for k in d.index.dims),
                eqn,
                f"{d.index.tensor} gives no vector of i32 or i64",
            )
    for e in view.exprs():
        _in_scope(e, scope, eqn)
    _need(all(d.size >= 1 for d in view.kept if isinstance(d, TileAt)), eqn, "tiles have at least one element")
    return tensor


for _p in (parallel_for_p, seq_for_p):
    _p.def_type(_loop_type)
for _p in (combine_p, sequential_p):
    _p.def_type(_parts_type)
cond_p.def_type(_cond_type)
yield_p.def_type(_yield_type)
task_p.def_type(_task_type)
for _p in (item_p, reduce_sum_p, reduce_max_p, reduce_min_p, reduce_any_p, reduce_all_p):
    _p.def_type(_read_type)
for _p in (slot_get_p, slot_set_p):
    _p.def_type(_slot_type)
for _p in (acquire_p, release_p):
    _p.def_type(_buffer_type)


def no_cycles(eqn: Eqn, kernel_cost: Callable[[str], Expr]) -> Expr:
    """The cost of what only holds tasks."""
    return const(0)


for _p in (
    *(parallel_for_p, seq_for_p, combine_p, sequential_p, cond_p, yield_p),
    *(item_p, reduce_sum_p, reduce_max_p, reduce_min_p, reduce_any_p, reduce_all_p),
    *(slot_get_p, slot_set_p, acquire_p, release_p),
):
    _p.def_cost(no_cycles)


@task_p.def_cost
def _(eqn: Eqn, kernel_cost: Callable[[str], Expr]) -> Expr:
    name = eqn.params["kernel"]
    if not isinstance(name, str):
        raise InternalError("a task without a kernel")
    return kernel_cost(name)
