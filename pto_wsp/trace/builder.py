"""The workload being traced: loops open and close, kernel calls become task equations."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from pto_wsp.errors import BoundsError, CompileError, Location, TraceError, TypeCheckError, here
from pto_wsp.ir import expr
from pto_wsp.ir.bounds import interval
from pto_wsp.ir.build import in_kernel
from pto_wsp.ir.core import (
    At,
    Axis,
    DType,
    Eqn,
    In,
    IndexType,
    Kernel,
    Literal,
    Region,
    Slice,
    TensorType,
    TileAt,
    TileType,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.dependence import reachable
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.verify import MAX_NESTING
from pto_wsp.ops.value import is_number, literal
from pto_wsp.trace.annotations import ConstexprParam, TileParam
from pto_wsp.trace.index import Index, Scalar64, as_expr
from pto_wsp.trace.names import held_by, variable_name
from pto_wsp.trace.tensor import TensorSpec, TensorView

if TYPE_CHECKING:
    from pto_wsp.trace.axes import LoopAxis
    from pto_wsp.trace.kernel import KernelFunction


@dataclass
class OpenLoop:
    """A loop whose body is being traced."""

    mode: str  # the primitive: parallel_for or seq_for
    var: Var
    axis: Axis
    label: str
    loc: Location
    eqns: list[Eqn] = field(default_factory=list[Eqn])


class WorkloadBuilder:
    """State of one trace. Names of axes, symbols, tensors, kernels and loops are decided here."""

    def __init__(self, fn: FunctionType, label: str, arguments: dict[str, Any]) -> None:
        self.fn = fn
        self.label = label
        self.arguments = arguments
        self.loops: list[OpenLoop] = []
        self.top: list[Eqn] = []
        self.symbols: dict[str, int | None] = {}
        self.tensors: dict[str, TensorSpec] = {}
        self.kernels: dict[Any, Kernel] = {}
        self.broken: Location | None = None
        self._names: dict[int, str | None] = {}
        self._keep: list[object] = []  # objects whose id is a key above
        self._symbol_of: dict[str, object] = {}
        self._loop_names: set[str] = set()

    # names

    def name(self, obj: object, given: str | None) -> str | None:
        """The name of an axis or tensor: given, else that of the workload's parameter, else of the variable that holds it."""
        if given is not None:
            return given
        if id(obj) not in self._names:
            self._keep.append(obj)
            argument = next((n for n, a in self.arguments.items() if a is obj), None)
            self._names[id(obj)] = argument or held_by(self.fn, obj) or variable_name(obj)
        return self._names[id(obj)]

    def symbol(self, name: str, default: int | None) -> Expr:
        """The symbol `name`; one name has one initial value."""
        if name in self.symbols and default is not None and self.symbols[name] not in (None, default):
            raise TraceError(
                "PTO156",
                f"two sizes are called {name}",
                values={"values": f"{self.symbols[name]} and {default}"},
                loc=here(),
                fix='give one of them another name: DenseDyn(4, name="...")',
            )
        if self.symbols.get(name) is None:
            self.symbols[name] = default
        return expr.symbol(name)

    def tensor(self, t: TensorSpec) -> str:
        """The name of a tensor of the workload, which becomes one of its inputs."""
        for name, known in self.tensors.items():
            if known is t:
                return name
        name = self.name(t, t.given_name)
        if t.given_name in self.tensors:
            raise TraceError(
                "PTO156", f"two tensors are called {t.given_name}", loc=here(), fix="give each its own name="
            )
        unique = unique_name(name or f"t{len(self.tensors)}", self.tensors)
        self.tensors[unique] = t
        return unique

    # loops

    def open_loop(self, axis: LoopAxis, mode: str, label: str | None, loc: Location) -> Index:
        if len(self.loops) >= MAX_NESTING:
            raise CompileError(
                "PTO405",
                f"loops nested deeper than {MAX_NESTING}",
                loc=loc,
                fix="write several axes as one loop over their product",
            )
        label = label or f"i{len(self.loops)}"
        resolved = axis.resolve(self, label)
        self._check_scope(resolved.size, loc)
        for e in resolved.size.names():
            if e.startswith("$"):
                self.symbol(e[1:], None)
        name = unique_name(label, self._loop_names)
        self._loop_names.add(name)
        self.loops.append(OpenLoop(mode, Var(name, IndexType()), resolved, label, loc))
        return Index(expr.var(name), self, (resolved.tile, resolved.size) if resolved.kind == "Tiles" else None)

    def close_loop(self) -> None:
        loop = self.loops.pop()
        self.append(
            Eqn(
                loop.mode,
                params={"axis": loop.axis, "loop": loop.label},
                regions=(Region((loop.var,), tuple(loop.eqns)),),
                loc=loop.loc,
            )
        )

    def append(self, eqn: Eqn) -> None:
        (self.loops[-1].eqns if self.loops else self.top).append(eqn)

    def _check_scope(self, e: Expr, loc: Location) -> None:
        if not e.fits_64_bits:
            raise BoundsError(
                "PTO712",
                "an integer expression beyond 64 bits",
                values={"expression": e},
                loc=loc,
                fix="use integers of -2^63 .. 2^63 - 1",
            )
        open_names = {loop.var.name for loop in self.loops}
        for name in e.names():
            if not name.startswith("$") and name not in open_names:
                raise TraceError(
                    "PTO157",
                    f"{name} is used outside of its loop",
                    values={"expression": e},
                    loc=loc,
                    fix="use a loop variable only inside the loop that binds it",
                )

    # tasks

    def task(self, kernel: KernelFunction, coords: tuple[Any, ...] | None, arguments: dict[str, Any]) -> None:
        loc = here()
        types: dict[str, TileType] = {}
        constants: dict[str, Any] = {}
        for name, spec in kernel.specs.items():
            x = arguments[name]
            what = f"kernel {kernel.label}, argument {name}"
            if isinstance(spec, ConstexprParam):
                constants[name] = _constant(x, spec, what)
            elif isinstance(spec, TileParam) and spec.type is None:
                types[name] = _bare_type(x, what)
        traced = self._kernel(kernel, types, constants)
        ins: list[In] = []
        for param in traced.params:
            x = arguments[param.name]
            what = f"kernel {kernel.label}, argument {param.name}"
            ins.append(
                self._view(x, param.type, what, loc)
                if isinstance(param.type, TileType)
                else self._scalar(x, param.type.dtype, what, loc)
            )
        self.append(Eqn("task", (), tuple(ins), {"kernel": traced.name, "coords": self._coords(coords, loc)}, (), loc))

    def _kernel(self, kernel: KernelFunction, types: dict[str, TileType], constants: dict[str, Any]) -> Kernel:
        try:
            key = (id(kernel), tuple(types.items()), tuple((n, _exactly(v)) for n, v in constants.items()))
            hash(key)
        except TypeError as e:
            raise TypeCheckError(
                "PTO146",
                f"kernel {kernel.label}: a Constexpr argument that cannot be hashed",
                values={"because": e},
                loc=here(),
                fix="give numbers, strings or tuples",
            ) from e
        if key not in self.kernels:
            self._keep.append(kernel)
            self.kernels[key] = kernel.trace(
                unique_name(kernel.label, {k.name for k in self.kernels.values()}), types, constants
            )
        return self.kernels[key]

    def _coords(self, coords: tuple[Any, ...] | None, loc: Location) -> tuple[Expr, ...]:
        if coords is None:
            return tuple(expr.var(loop.var.name) for loop in self.loops)
        out: list[Expr] = []
        for c in coords:
            e = as_expr(c)
            if e is None:
                raise TraceError(
                    "PTO161",
                    "a task coordinate that is not an integer",
                    values={"coordinate": repr(c)[:80]},
                    loc=loc,
                    fix="write kernel[b, t](...) with loop variables, integers, or expressions of them",
                )
            self._use(c, e, loc)
            out.append(e)
        return tuple(out)

    def _use(self, x: object, e: Expr, loc: Location) -> None:
        """Check that a traced integer belongs to this trace and is in scope; declare its symbols."""
        if isinstance(x, Index) and x.builder is not None and x.builder is not self:
            raise TraceError(
                "PTO158",
                "a loop variable of another workload",
                values={"expression": x},
                loc=loc,
                fix="use the loop variables of the workload being traced",
            )
        self._check_scope(e, loc)
        for name in e.names():
            if name.startswith("$"):
                self.symbol(name[1:], None)

    def _scalar(self, x: Any, dtype: DType, what: str, loc: Location) -> In:
        if isinstance(x, Scalar64):
            e = x.to_expr()
            self._use(x, e, loc)
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
        if (
            dtype is DType.I32
            and isinstance(value, int)
            and not isinstance(value, bool)
            and not -(2**31) <= value < 2**31
        ):
            raise BoundsError("PTO713", f"{what}: {value} does not fit i32", loc=loc, fix="give an integer of 32 bits")
        lit = literal(value, dtype, what)
        return Literal(float(lit.value), dtype) if dtype.is_float else lit

    def _view(self, x: Any, param: TileType, what: str, loc: Location) -> View:
        view = _as_view(x, what)
        if view.dtype is not param.dtype:
            raise TypeCheckError(
                "PTO143",
                f"{what} holds {view.dtype}, but the kernel takes {param.dtype}",
                values={"tensor": view.root, "parameter": param},
                loc=loc,
                fix="declare the parameter with the tensor's dtype, and cast inside the kernel",
            )
        for i in view.indices:
            self._use(i, i.to_expr(), loc)
        tensor = self.tensor(view.root)
        shape = view.root.dims(self)
        dims: list[ViewDim] = []
        for part, size in zip(view.parts, shape, strict=True):
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
                    values={"tensor": view.root, "size": size},
                    loc=loc,
                    fix="a tile has a static shape: iterate x.tiles(16) and index with the tile index, or slice",
                )
        out = View(tensor, tuple(dims))
        if out.shape != param.shape:
            got = "x".join(map(str, out.shape)) or "one element"
            raise TypeCheckError(
                "PTO144",
                f"{what} is {got}, but the kernel takes {param.rows}x{param.cols}",
                values={"tensor": view.root, "parameter": param},
                loc=loc,
                fix="a tile is two-dimensional: X[b, t] drops two dimensions, X[b, i:i+1, :] keeps the second as one row",
            )
        for k, (d, size) in enumerate(zip(dims, shape, strict=True)):
            self._check_bounds(d, size, k, f"{what}: tensor {tensor}", loc)
        return out

    def _check_bounds(self, d: ViewDim, size: Expr, k: int, what: str, loc: Location) -> None:
        """Refuse an access that leaves the tensor in an iteration that some sizes reach, where this is known now."""
        ranges: dict[str, tuple[int, int]] = {}
        for loop in self.loops:
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
        self._check_scope(first, loc)
        self._check_scope(last, loc)
        low, high = interval(first, ranges), interval(last, ranges)
        if not size.is_const or low is None or high is None or (low[0] >= 0 and high[1] <= size.const):
            return
        around = {loop.var.name: loop.axis for loop in self.loops}
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

    def finish(self) -> Wir:
        tensors = tuple(Var(n, TensorType(t.dtype, t.dims(self))) for n, t in self.tensors.items())
        return Wir(self.label, tuple(self.symbols), tensors, tuple(self.kernels.values()), Region((), tuple(self.top)))


def unique_name(name: str, taken: Any) -> str:
    if name not in taken:
        return name
    k = 1
    while f"{name}.{k}" in taken:
        k += 1
    return f"{name}.{k}"


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


def _bare_type(x: Any, what: str) -> TileType:
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


def _constant(x: Any, spec: ConstexprParam, what: str) -> Any:
    if isinstance(x, Scalar64) or not isinstance(x, spec.type) or (isinstance(x, bool) and spec.type is int):
        raise TypeCheckError(
            "PTO146",
            f"{what} is a Constexpr[{spec.type.__name__}], but got {type(x).__name__}",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="give a Python constant; declare Scalar[DType...] for values known later",
        )
    return x


def _exactly(x: Any) -> object:
    """x as a key that tells 1 from True and 1.0, and 0.0 from -0.0."""
    if isinstance(x, (tuple, frozenset)):
        return type(x), type(x)(_exactly(v) for v in x) if type(x) in (tuple, frozenset) else x
    return type(x), repr(x) if isinstance(x, (float, complex)) else x


class _Current(threading.local):
    stack: tuple[WorkloadBuilder, ...] = ()


_current = _Current()


def current_workload(what: str) -> WorkloadBuilder:
    """The workload under trace in this thread; `what` is used in the error when there is none."""
    code = "PTO129" if what.startswith("kernel") else "PTO152"
    if in_kernel():
        raise TraceError(
            code,
            f"{what} inside of a kernel",
            loc=here(),
            fix="loop over axes and call kernels in a workload; kernels share code in plain Python functions",
        )
    if not _current.stack:
        raise TraceError(
            code, f"{what} outside of a workload", loc=here(), fix="use it inside a function decorated with @workload"
        )
    return _current.stack[-1]


class tracing_workload:  # noqa: N801 - used as a context manager
    """`with tracing_workload(builder):` makes it the current one of this thread."""

    def __init__(self, builder: WorkloadBuilder) -> None:
        self._builder = builder

    def __enter__(self) -> WorkloadBuilder:
        if _current.stack:
            raise TraceError(
                "PTO155",
                "a workload called inside a workload",
                loc=here(),
                fix="combine(...) or sequential(...) the workloads outside",
            )
        _current.stack = (*_current.stack, self._builder)
        return self._builder

    def __exit__(self, *exc: object) -> None:
        _current.stack = _current.stack[:-1]


def loop_iterator(
    builder: WorkloadBuilder, axes: list[LoopAxis], mode: str, labels: tuple[str | None, ...], loc: Location
) -> Iterator[Any]:
    """One pass over nested loops: opens them, gives the loop variables once, and closes them when the body is traced."""
    if _current.stack[-1:] != (builder,):
        raise TraceError(
            "PTO158",
            "a P loop made in another workload",
            loc=here(),
            fix="write `for b in P(batch)` in the workload that runs the loop",
        )
    indices = [builder.open_loop(a, mode, n, loc) for a, n in zip(axes, labels, strict=True)]
    done = False
    try:
        yield indices[0] if len(indices) == 1 else tuple(indices)
        done = True
    finally:
        if not done:
            builder.broken = builder.broken or loc
        for _ in indices:
            builder.close_loop()
