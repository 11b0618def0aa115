"""The verifier: runs after tracing and after every pass, against what its stage allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pto_wsp.errors import CompileError, InternalError, IRConversionError, PtoError, here
from pto_wsp.ir import control, processes, tasks
from pto_wsp.ir.build import MAX_NESTING, result_type
from pto_wsp.ir.collectives import COLLECTIVES
from pto_wsp.ir.core import (
    PRIMITIVES,
    DataAxis,
    Dialect,
    Dim,
    Direction,
    DType,
    Eqn,
    IndexType,
    Kernel,
    Literal,
    Region,
    RegionType,
    Role,
    ScalarType,
    TensorType,
    TileType,
    Type,
    Var,
    Wir,
    operand_type,
)
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scalars import scalar_type
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import Scope, broken, operand, same_type

_PURE = (*tasks.LOOPS, *tasks.PARTS, *tasks.READS, *tasks.SLOTS, "cond", "yield", "task")
_BODY = (*_PURE, *processes.PIPELINES, *processes.ENDS)
STAGES: dict[str, tuple[str, ...]] = {
    # what a task dialect equation may be, at each stage of the way to the plan; scalar operations may stand in all of them
    "traced": (*_BODY, *SCOPES, *COLLECTIVES),
    "resolved": _BODY,
    "lowered": (*_BODY, *tasks.BUFFERS),
    # and beside it: all writes are new values
    "pure": (*_PURE, *(s for s in SCOPES if s not in ("deps", "trace"))),
}


def verify(wir: Wir, stage: str = "traced", *, after: str | None = None, known: Sequence[Kernel] = ()) -> None:
    """Check every rule of the wir; kernels that are objects of `known` were checked before. Raises IRConversionError; when `after` names
    a pass, InternalError: the pass broke it."""
    try:
        _verify(wir, stage, known)
    except PtoError as e:
        if after is None:
            e.loc = e.loc or here()
            raise
        raise InternalError(f"pass {after} gave wir that breaks a rule:\n{e}") from e


def _verify(wir: Wir, stage: str, known: Sequence[Kernel]) -> None:
    for what, names in (
        ("the symbols", list(wir.symbols)),
        ("the tensors", [v.name for v in wir.tensors]),
        ("the kernels", [k.name for k in wir.kernels]),
        ("the axes", [a.name for a in wir.axes]),
    ):
        if len(set(names)) != len(names):
            raise _rule(f"two of {what} share a name", ", ".join(names))
    for v in wir.tensors:
        layout = wir.tensor_type(v.name).layout
        if layout is not None and (layout.mesh != wir.mesh or len(layout.dims) != len(wir.tensor_type(v.name).shape)):
            raise _rule(
                f"tensor {v.name} has the layout {layout}", f"layouts are of {wir.mesh}, and of the tensor's rank"
            )
        for d in wir.tensor_type(v.name).shape:
            if not _over_symbols(d, wir) or (d.is_const and d.const < 0):
                raise _rule(f"tensor {v.name} has a dimension {d}", "dimensions are numbers >= 0 and symbols")
    for axis in wir.axes:
        _verify_axis(axis, wir)
    _verify_returns(wir)
    for k in wir.kernels:
        if not any(k is other for other in known):
            verify_kernel(k)
    check_nesting(wir.body)
    scope = Scope(wir, pure=stage == "pure")
    for v in wir.tensors:
        scope.bind(v)
    seen = {v.name for v in wir.tensors} if scope.pure else set[str]()
    if wir.body.params:
        raise _rule("the workload's region has parameters", ", ".join(map(str, wir.body.params)))
    last = wir.body.eqns[-1] if scope.pure and wir.body.eqns and wir.body.eqns[-1].prim == "yield" else None
    _verify_region(wir.body, scope, STAGES[stage], seen, None if last is None else _final(last, wir))


def _rule(what: str, why: str) -> IRConversionError:
    return IRConversionError("PTO302", what, values={"rule": why}, fix="this wir breaks a rule of the language")


def _over_symbols(e: Expr, wir: Wir) -> bool:
    return all(n.startswith("$") and n[1:] in wir.symbols for n in e.names())


def _verify_axis(axis: DataAxis, wir: Wir) -> None:
    count = {"Ragged": 1, "Sparse": 2}.get(axis.kind)
    if len(axis.tensors) != count:
        raise _rule(f"axis {axis.name} is {axis.kind} of {len(axis.tensors)} tensors", "Ragged has 1, Sparse has 2")
    vectors = {
        v.name
        for v in wir.tensors
        if isinstance(v.type, TensorType) and v.type.dtype in tasks.INDEX_DTYPES and len(v.type.shape) == 1
    }
    for name in axis.tensors:
        if name not in vectors:
            raise _rule(f"axis {axis.name} reads {name}", "its tensors are vectors of i32 or i64")
    for e in (axis.outer, axis.inner):
        if e is not None and not _over_symbols(e, wir):
            raise _rule(f"axis {axis.name} has the size {e}", "sizes are numbers and symbols")


def _verify_returns(wir: Wir) -> None:
    returned = wir.returns if isinstance(wir.returns, tuple) else () if wir.returns is None else (wir.returns,)
    results = [v.name for v in wir.tensors if wir.tensor_type(v.name).role is Role.RESULT]
    if set(returned) != set(results):
        raise _rule(f"returns {', '.join(returned) or 'nothing'}", f"the results are {', '.join(results) or 'none'}")


def _final(last: Eqn, wir: Wir) -> tuple[Type, ...]:
    """What the body of the pure form yields: the last values of tensors of the workload, each named once."""
    names = last.params.get("of")
    tensors: dict[object, Type] = {v.name: v.type for v in wir.tensors}
    if not isinstance(names, tuple) or len(set(names)) != len(names) or not set(names) <= set(tensors):
        raise broken(last, "names the tensors it is of")
    return tuple(tensors[n] for n in names)


def check_nesting(body: Region) -> None:
    """Refuse loops, parts and scopes nested deeper than text and plans can be. Raises CompileError."""
    level = [e for e in body.eqns if e.regions]
    for _ in range(MAX_NESTING):
        level = [e for outer in level for r in outer.regions for e in r.eqns if e.regions]
    if level:
        raise CompileError(
            "PTO405",
            f"loops, parts and schedules nested deeper than {MAX_NESTING}",
            loc=level[0].loc or here(),
            fix="write several axes as one loop over their product",
        )


def _verify_region(
    region: Region, scope: Scope, allowed: tuple[str, ...], seen: set[str], gives: tuple[Type, ...] | None
) -> None:
    """`gives`: the types of its `yield`, which is its last equation; None for a region that has none."""
    for k, eqn in enumerate(region.eqns):
        prim = PRIMITIVES.get(eqn.prim)
        if prim is not None and prim.dialect is Dialect.SCALAR:
            _verify_scalar(eqn, scope)
        elif prim is None or prim.dialect is not Dialect.TASK or prim.type is None or eqn.prim not in allowed:
            raise broken(eqn, "not allowed here")
        elif eqn.prim in COLLECTIVES and not scope.together:
            raise broken(eqn, "stands in a loop, branch or process, where devices may do different things")
        else:
            prim.type(eqn, scope)
        if eqn.prim == "yield" and (gives is None or k != len(region.eqns) - 1):
            raise broken(eqn, "stands at the end of a region that gives values")
        for r, want in zip(eqn.regions, _gives(eqn), strict=True):
            inner = scope.inner()
            inner.together = scope.together and eqn.prim in (*SCOPES, *tasks.PARTS)
            # a condition sees the variables of the loop that it is of
            for v in (*(eqn.regions[0].params if eqn.prim == "seq_for" else ()), *r.params):
                inner.bind(v)
            processes.entered(eqn, inner)
            for v in r.params:
                _bind_once(v, eqn, seen)
            _verify_region(r, inner, allowed, seen, want)
        for v in eqn.outs:
            _bind_once(v, eqn, seen)
            scope.bind(v)
        if any(e.prim in COLLECTIVES for e in eqn.walk()):
            scope.names.clear()  # what devices have read before, they read anew
    if gives is None:
        return
    last = region.eqns[-1] if region.eqns else None
    if last is None or last.prim != "yield":
        raise _rule("a region gives no values", f"it gives {', '.join(map(str, gives))}")
    have = [operand(x, scope, last) for x in last.ins]
    if len(have) != len(gives) or not all(map(same_type, have, gives)):
        raise broken(last, f"gives {', '.join(map(str, have))}, not {', '.join(map(str, gives))}")


def _gives(eqn: Eqn) -> Iterator[tuple[Type, ...] | None]:
    """The types that each region of an equation yields."""
    carried = tuple(v.type for v in eqn.outs) or None
    for k in range(len(eqn.regions)):
        yield (ScalarType(DType.BOOL),) if eqn.prim == "seq_for" and k == 1 else carried


def _bind_once(v: Var, eqn: Eqn, seen: set[str]) -> None:
    if v.name in seen or v.name.startswith("$"):
        raise broken(eqn, f"the name {v.name} is bound twice")
    seen.add(v.name)


def _verify_scalar(eqn: Eqn, scope: Scope) -> None:
    types = [operand(x, scope, eqn) for x in eqn.ins]
    dtypes = [t.dtype for t in types if isinstance(t, ScalarType)]
    if len(dtypes) != len(types) or eqn.regions or IndexType() in types:
        raise broken(eqn, "takes scalars")
    _verify_scalar_params(eqn)
    want = ScalarType(scalar_type(eqn.prim, eqn.params, dtypes))
    if [v.type for v in eqn.outs] != [want]:
        raise broken(eqn, f"its type is {want}")


def _verify_scalar_params(eqn: Eqn) -> None:
    if eqn.params.get("checked", True) is not True or not set(eqn.params) <= {"checked", "to"}:
        raise broken(eqn, "has the parameters checked and to")


def verify_kernel(kernel: Kernel) -> None:
    """Names bound once and before use, types as the primitives' rules give them, outputs written before the end."""
    known: dict[str, Var] = {}
    params = {p.name: p for p in kernel.params}
    if len(params) != len(kernel.params):
        raise IRConversionError(
            "PTO302",
            f"kernel {kernel.name}: two parameters share a name",
            loc=kernel.loc,
            fix="this wir breaks a rule of the language",
        )
    written: set[str] = set()
    check_nesting(kernel.body)
    _verify_tile_region(kernel.body, kernel, known, set(), written, None)
    data = control.data_scalars(kernel)
    for eqn in control.walk(kernel.body):
        if eqn.prim == "fori_loop" and any(isinstance(x, Var) and x.name in data for x in eqn.ins[:2]):
            raise broken(eqn, "its bounds depend on elements that the kernel reads")
    for p in kernel.params:
        if p.direction is Direction.OUT and p.name not in written:
            raise IRConversionError(
                "PTO302", f"kernel {kernel.name} does not write {p.name}", loc=kernel.loc, fix="store to every output"
            )


def _verify_tile_region(
    region: Region,
    kernel: Kernel,
    known: dict[str, Var],
    bound: set[str],
    written: set[str],
    gives: tuple[Type, ...] | None,
) -> None:
    """`bound`: all names so far. `gives`: the types of its `yield`, which is its last equation; None for the body of a kernel."""
    known = dict(known)
    for v in region.params:
        _bind_value(v, kernel, known, bound, None)
    for k, eqn in enumerate(region.eqns):
        if eqn.prim == "yield":
            if gives is None or k != len(region.eqns) - 1 or eqn.outs or eqn.params or eqn.regions:
                raise broken(eqn, "stands at the end of a region that gives values")
            _verify_operands(eqn, kernel, known)
            types = [operand_type(x) for x in eqn.ins]
            if len(types) != len(gives) or not all(map(control.fits, types, gives)):
                raise broken(eqn, f"gives {', '.join(map(str, types))}, not {', '.join(map(str, gives))}")
        elif eqn.prim in ("fori_loop", "branch"):
            _verify_control(eqn, kernel, known, bound, written)
        else:
            _verify_tile_eqn(eqn, kernel, known, bound, written)
    if gives is not None and (not region.eqns or region.eqns[-1].prim != "yield"):
        raise _rule("a region of a kernel does not yield", f"it gives {', '.join(map(str, gives)) or 'nothing'}")


def _verify_control(eqn: Eqn, kernel: Kernel, known: dict[str, Var], bound: set[str], written: set[str]) -> None:
    _verify_operands(eqn, kernel, known)
    rule = PRIMITIVES[eqn.prim].type
    assert rule is not None
    rule(eqn)
    after = [set(written) for _ in eqn.regions]
    for region, writes in zip(eqn.regions, after, strict=True):
        _verify_tile_region(region, kernel, known, bound, writes, tuple(v.type for v in eqn.outs))
    if eqn.prim == "branch":
        written |= after[0] & after[1]
    else:
        lo, hi = eqn.ins[:2]
        if isinstance(lo, Literal) and isinstance(hi, Literal) and lo.value < hi.value:
            written |= after[0]
    for v in eqn.outs:
        _bind_value(v, kernel, known, bound, eqn)


def _bind_value(v: Var, kernel: Kernel, known: dict[str, Var], bound: set[str], eqn: Eqn | None) -> None:
    if v.name in bound or any(p.name == v.name for p in kernel.params):
        raise _rule(f"the name {v.name} is bound twice", f"in kernel {kernel.name}")
    if isinstance(v.type, TileType):
        for d, size in ((v.type.vrows, v.type.rows), (v.type.vcols, v.type.cols)):
            if not _is_extent(d, size, kernel, known):
                raise _rule(
                    f"{v.name}: {v.type} has the extent {d}", "extents are whole, of a parameter, or i64 scalars"
                )
    bound.add(v.name)
    known[v.name] = v


def _is_extent(d: Dim, size: int, kernel: Kernel, known: dict[str, Var]) -> bool:
    if isinstance(d, int):
        return d == size
    return d in extents_of(kernel) or (d in known and known[d].type == control.INDEX)


def extents_of(kernel: Kernel) -> set[str]:
    """The extents of a kernel's parameters."""
    names: set[str] = set()
    for p in kernel.params:
        if isinstance(p.type, TileType):
            names |= {f"{p.name}.rows", f"{p.name}.cols"}
        elif isinstance(p.type, RegionType):
            names |= {f"{p.name}.{k}" for k in range(len(p.type.shape))}
    return names


_MEMORY: dict[str, tuple[type, ...]] = {
    "load": (TileType,),
    "store": (TileType,),
    "load_part": (TileType, RegionType),
    "store_part": (TileType, RegionType),
    "element": (TileType, RegionType),
}


def _verify_operands(eqn: Eqn, kernel: Kernel, known: dict[str, Var]) -> None:
    params = {p.name: p for p in kernel.params}
    for i, x in enumerate(eqn.ins):
        if isinstance(x, Literal):
            continue
        if not isinstance(x, Var):
            raise broken(eqn, "operands of kernels are values and literals")
        p = params.get(x.name)
        if p is not None:
            memory = (TileType, RegionType) if eqn.prim == "cpp" else _MEMORY.get(eqn.prim, ()) if i == 0 else ()
            allowed = memory if not isinstance(p.type, ScalarType) else (ScalarType,)
            misplaced = memory and isinstance(p.type, ScalarType) and eqn.prim != "cpp"
            if p.type != x.type or not isinstance(p.type, allowed) or misplaced:
                raise broken(eqn, f"{x.name} is used as {x.type}")
        elif known.get(x.name) != x:
            raise broken(eqn, f"{x.name} is not defined here as {x.type}")


def _verify_cpp(eqn: Eqn, kernel: Kernel, written: set[str]) -> None:
    """C++ takes all parameters in order, reads and writes as they say, and stands alone."""
    names = [x.name if isinstance(x, Var) else "" for x in eqn.ins]
    params = list(enumerate(kernel.params))
    reads = tuple(i for i, p in params if p.direction is not Direction.OUT and not isinstance(p.type, ScalarType))
    writes = tuple(i for i, p in params if p.direction is not Direction.IN)
    same = eqn.params.get("reads") == reads and eqn.params.get("writes") == writes
    if kernel.body.eqns != (eqn,) or names != [p.name for _, p in params] or not same:
        raise broken(eqn, "takes all parameters of its kernel, and is all there is in it")
    written |= {names[i] for i in writes}


def _verify_tile_eqn(eqn: Eqn, kernel: Kernel, known: dict[str, Var], bound: set[str], written: set[str]) -> None:
    prim = PRIMITIVES.get(eqn.prim)
    if prim is None or prim.dialect not in (Dialect.TILE, Dialect.SCALAR) or prim.type is None or eqn.regions:
        raise broken(eqn, "not an operation of kernels")
    params = {p.name: p for p in kernel.params}
    _verify_operands(eqn, kernel, known)
    if prim.dialect is Dialect.SCALAR:
        _verify_scalar_params(eqn)
    memory = eqn.prim in _MEMORY
    if eqn.prim == "cpp":
        _verify_cpp(eqn, kernel, written)
    if eqn.prim == "dim" and eqn.params.get("of") not in extents_of(kernel):
        raise broken(eqn, "names no extent of a parameter")
    if memory:
        name = eqn.ins[0].name if eqn.ins and isinstance(eqn.ins[0], Var) else ""
        if name not in params and eqn.prim != "element":
            raise broken(eqn, "needs a parameter")
        if eqn.prim in ("store", "store_part"):
            direction = params[name].direction
            if direction is Direction.IN:
                raise broken(eqn, f"{name} is an input")
            if eqn.prim == "store_part" and direction is Direction.OUT and name not in written:
                raise broken(eqn, f"{name} is an output of which nothing is written before")
            if eqn.prim == "store":
                written.add(name)
        elif name in params and params[name].direction is Direction.OUT and name not in written:
            raise broken(eqn, f"{name} is read before it is written")
    try:
        want = result_type(eqn.prim, eqn.ins, dict(eqn.params))
    except (LookupError, TypeError, ValueError, AttributeError) as e:  # wir read from a file may lack anything
        raise broken(eqn, f"its operands or parameters are not those it has: {e}") from e
    if [v.type for v in eqn.outs] != ([] if want is None else [want]):
        raise broken(eqn, f"its type is {'nothing' if want is None else want}")
    for v in eqn.outs:
        _bind_value(v, kernel, known, bound, eqn)
