"""The workload being traced: loops open and close, kernel calls become task equations."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from pto_wsp.errors import (
    BoundsError,
    CompileError,
    LayoutIncompatibleError,
    Location,
    TraceError,
    TypeCheckError,
    here,
)
from pto_wsp.ir import expr
from pto_wsp.ir.build import MAX_NESTING, in_kernel
from pto_wsp.ir.conflict import surely_overlap
from pto_wsp.ir.core import (
    Axis,
    Direction,
    DType,
    Eqn,
    In,
    IndexType,
    Kernel,
    Region,
    RegionType,
    Role,
    ScalarType,
    TensorType,
    TileType,
    TokenType,
    Var,
    View,
    Wir,
)
from pto_wsp.ir.coverage import every_view
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.layout import Mesh, replicated
from pto_wsp.ir.rename import Renaming, unique_name
from pto_wsp.trace import arguments
from pto_wsp.trace.annotations import ConstexprParam, TileParam
from pto_wsp.trace.calls import Call
from pto_wsp.trace.index import Index, as_expr, owner_of
from pto_wsp.trace.names import assigned_name, held_by, variable_name
from pto_wsp.trace.scalar import DataScalar
from pto_wsp.trace.tensor import TensorSpec, TensorView

if TYPE_CHECKING:
    from pto_wsp.trace.axes import LoopAxis
    from pto_wsp.trace.conditions import Chain
    from pto_wsp.trace.data_axes import Known
    from pto_wsp.trace.kernel import KernelFunction
    from pto_wsp.trace.pipes import Home, OpenPipeline


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a kernel call gives: the task it emitted, for `after=` of other calls.

    In loops it stands for all tasks that the call emitted so far in the iteration that both calls share.
    """

    builder: WorkloadBuilder
    label: str
    locs: tuple[Location, ...]  # of its task equations: several where a variant is chosen at run time
    written: tuple[Any, ...] = ()  # the views that it writes
    process: Block | None = None  # in which it was emitted

    def __repr__(self) -> str:
        return f"<task of {self.label}>"


@dataclass(slots=True)
class OpenLoop:
    """A loop whose body is being traced."""

    mode: str  # the primitive: parallel_for or seq_for
    var: Var
    axis: Axis
    label: str
    loc: Location
    coord: Expr  # what a task inside answers to under the loop's label


Read = tuple[str, View]
"""What an equation reads: item or a reduction, of a view."""


class NamedTensors:
    """The tensors that the equations of a list name, those inside included: of a list that grows each is looked at once."""

    def __init__(self) -> None:
        self._seen: list[Eqn] = []
        self._names: set[str] = set()

    def of(self, eqns: Sequence[Eqn]) -> AbstractSet[str]:
        if eqns[: len(self._seen)] != self._seen:
            self._seen, self._names = [], set()
        for e in eqns[len(self._seen) :]:
            self._names |= {v.tensor for v in every_view((e,))}
            self._seen.append(e)
        return self._names


@dataclass(slots=True)
class Block:
    """A region being traced: a loop's body, a branch, or the whole workload."""

    loop: OpenLoop | None = None
    iterated: bool = False  # whether it runs several times
    apart: bool = False  # whether it is a pipeline: what is read outside may be something else here
    eqns: list[Eqn] = field(default_factory=list[Eqn])
    names: list[str] = field(default_factory=list[str])  # loop variables and scalars that end with it
    computed: dict[object, Var] = field(default_factory=dict[object, Var])  # scalar operations, by what they say
    held: dict[Read, tuple[Var, int]] = field(default_factory=dict["Read", "tuple[Var, int]"])  # with writes before
    reads: list[tuple[Read, str]] = field(default_factory=list["tuple[Read, str]"])  # those inside included
    chain: Chain | None = None  # the branches that `P.otherwise` may continue
    given: list[tuple[In, bool]] = field(default_factory=list[tuple[In, bool]])  # conditions, and what they are in here
    held_buffers: list[HeldBuffer] = field(default_factory=list["HeldBuffer"])  # that came with tokens here
    sent_views: list[tuple[View, Location]] = field(default_factory=list["tuple[View, Location]"])
    sent_names: dict[str, Location] = field(default_factory=dict[str, Location])  # of buffers' numbers
    named: NamedTensors = field(default_factory=NamedTensors)


@dataclass(slots=True)
class HeldBuffer:
    """A buffer that a process was given with a token, until it sends it on; else `giving_back` is emitted where its block ends."""

    number: str
    giving_back: Eqn
    is_sent: bool = False


class WorkloadBuilder:
    """State of one trace. Names of axes, symbols, tensors, kernels and loops are decided here."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.calls: list[Call] = []  # the workload's function, and those called in it
        self.blocks: list[Block] = [Block()]
        self.loops: list[OpenLoop] = []
        self.symbols: dict[str, int | None] = {}
        self.tensors: dict[str, TensorSpec] = {}
        self._tensor_names: dict[int, str] = {}  # by id: of those, and of some that are forgotten
        self.data_axes: list[Known] = []
        self.returns: str | tuple[str, ...] | None = None
        self.kernels: dict[Any, Kernel] = {}
        self.scalars: dict[str, Var] = {}
        self.slots: dict[int, DType] = {}
        self.fixed: set[str] = set()  # tensors that no task can name
        self._tokens: dict[int, str] = {}  # by id of a task's location
        self._writes: dict[str, int] = {}  # by tensor, the task equations so far that write it
        self._inside: list[tuple[Expr | None, Expr, Expr, Location]] = []  # extent of an index's loop, index, length
        self._merged: dict[str, str] = {}  # scalars that turned out to be others
        self.broken: Location | None = None
        self.arrays: dict[int, tuple[object, TensorSpec]] = {}  # by id: a user's array, and the tensor it became
        self.mapped: list[Expr] = []  # variables of loops that vmap made, which stand first in coordinates
        self._names: dict[int, str | None] = {}
        self._keep: list[object] = []  # objects whose id is a key above
        self._taken: set[str] = set()  # names of loop variables and scalars, those of closed regions included
        self._visible: set[str] = set()  # those of open regions
        self.pipes: list[OpenPipeline] = []  # those being traced, outermost first
        self.pipe_names: set[str] = set()  # those of all pipelines
        self.channel_homes: dict[int, Home] = {}  # by id of the channel

    # names

    def name(self, obj: object, given: str | None) -> str | None:
        """The name of an axis or tensor: given, else that of the workload's parameter, else of the variable that holds it."""
        if given is not None:
            return given
        if id(obj) not in self._names:
            self._keep.append(obj)
            named = (
                next((n for n, a in call.arguments.items() if a is obj), None) or held_by(call.function, obj)
                for call in reversed(self.calls)
            )
            self._names[id(obj)] = next(filter(None, named), None) or variable_name(obj)
        return self._names[id(obj)]

    def known_name(self, obj: object, given: str | None) -> str | None:
        """The name of an axis or tensor that the workload uses: given, or found by `name` before."""
        return given or self._names.get(id(obj))

    def call_it(self, obj: object, name: str) -> None:
        """Give an axis or tensor without a name of its own this one."""
        self._keep.append(obj)
        self._names[id(obj)] = name

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
        """The name of a tensor of the workload, which becomes one of its inputs. Raises TraceError for one that a branch or a
        sequential loop made, which has ended: the branch may not have run, and a loop hands nothing on from one iteration to the next."""
        if t.sent is not None:
            raise sent_before(str(self.name(t.handle, t.given_name) or "a tensor"), t.sent, here())
        left = next((b for b in t.within if not any(b is open_ for open_ in self.blocks)), None)
        if left is not None:
            branch = "a branch of P.when" if left.given else "a process"
            where = branch if left.loop is None else f"the loop over {left.loop.label}"
            raise TraceError(
                "PTO157",
                f"a tensor made inside of {where} is used outside of it",
                values={"tensor": t},
                loc=here(),
                fix="make it before, and write it inside; what one iteration hands to the next: scan(f), or two tensors used in turn",
            )
        known = self._tensor_names.get(id(t))
        if known is not None and self.tensors.get(known) is t:
            return known
        name = self.name(t.handle, t.given_name)
        if t.given_name in self.tensors and t.role is Role.GIVEN:
            raise TraceError(
                "PTO156", f"two tensors are called {t.given_name}", loc=here(), fix="give each its own name="
            )
        unique = unique_name(name or f"t{len(self.tensors)}", self.tensors)
        self.tensors[unique] = t
        self._tensor_names[id(t)] = unique
        return unique

    def replace_tensor(self, name: str, by: str) -> None:
        """Forget a tensor in whose place another stands now."""
        del self.tensors[name]
        self._writes[by] = self._writes.get(by, 0) + self._writes.pop(name, 0)

    def reshape(self, tensors: Iterable[Var]) -> None:
        """Give temporaries that a transformation changed the shapes that they have now."""
        for v in tensors:
            known = self.tensors[v.name]
            if isinstance(v.type, TensorType) and v.type.role is Role.TEMPORARY and known.dims(self) != v.type.shape:
                known.spec_shape = tuple(e.const if e.is_const else Index(e, None) for e in v.type.shape)

    def writes(self, tensor: str) -> int:
        """How many task equations so far write a tensor."""
        return self._writes.get(tensor, 0)

    @property
    def visible(self) -> frozenset[str]:
        """The loop variables and scalars that are known here."""
        return frozenset(self._visible)

    def hidden(self, t: TensorSpec) -> TensorSpec:
        """A tensor that no task can name, under its name: the one that is there, or `t`."""
        name = t.given_name or ""
        if name not in self.fixed:
            self.fixed.add(self.tensor(t))
        return self.tensors[name]

    def reserve(self, wanted: str) -> str:
        """A name that no variable of the workload has, or will have."""
        name = unique_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def bind_name(self, wanted: str) -> str:
        """A new name of a loop variable or scalar, visible until the innermost region ends."""
        name = self.reserve(wanted)
        self._visible.add(name)
        self.blocks[-1].names.append(name)
        return name

    # regions

    def append(self, eqn: Eqn) -> None:
        self.blocks[-1].eqns.append(eqn)

    def open_block(self, loop: OpenLoop | None = None) -> Block:
        """Equations go into a new region from here on."""
        block = Block(loop)
        self.blocks.append(block)
        return block

    def close_block(self) -> tuple[Eqn, ...]:
        """The equations of the innermost region, which ends."""
        block = self.blocks.pop()
        block.eqns += [b.giving_back for b in block.held_buffers if not b.is_sent]
        self._visible.difference_update(block.names)
        same = self._merge_reads(block) if block.reads and block.iterated else {}
        self.blocks[-1].reads += [(key, name) for key, name in block.reads if name not in same]
        if not same:
            return tuple(block.eqns)
        self._merged |= same
        return Renaming(values=same).region(Region((), _without(tuple(block.eqns), same))).eqns

    # scalars

    def read(self, prim: str, view: View, dtype: DType, name: str | None, loc: Location) -> Var:
        """The variable that holds what `prim` reads from `view` here; a value that certainly is the same is not read again."""
        writes = self._writes.get(view.tensor, 0)
        for block in reversed(self.blocks):
            known = block.held.get((prim, view))
            if known is not None and known[1] == writes:
                return known[0]
            if (block.iterated or block.apart) and view.tensor not in self.fixed:
                break  # a later iteration, or another process, may find another value
        named = name or next(n for n in (f"{view.tensor}.{k}" for k in count(1)) if n not in self._taken)
        var = self.define(prim, (view,), {}, dtype, named, loc)
        if not self.blocks[-1].apart:
            self.blocks[-1].held[prim, view] = (var, writes)
        self.blocks[-1].reads.append(((prim, view), var.name))
        return var

    def scalar_of(self, prim: str, given: TensorView, name: str | None) -> DataScalar:
        """What `prim` reads from a view here."""
        loc = here()
        view = arguments.reading(self, given, prim, loc)
        scalar = DType.BOOL if prim in ("reduce_any", "reduce_all") else given.dtype.scalar
        var = self.read(prim, view, scalar, name, loc)
        return DataScalar.of(var, scalar, self)

    def need_inside(self, index: Expr, length: Expr, loc: Location) -> None:
        """`index` must be less than `length` in all iterations, which is looked at when all reads are known."""
        loop = next((x for x in self.loops if index == expr.var(x.var.name)), None)
        self._inside.append((None if loop is None or loop.axis.tile != 1 else loop.axis.size, index, length, loc))

    def compute(self, prim: str, ins: tuple[In, ...], params: dict[str, Any], dtype: DType, loc: Location) -> Var:
        """The variable that holds a scalar operation's result; equal ones are computed once in a region."""
        key = (prim, ins, tuple(params.items()))
        for block in reversed(self.blocks):
            if key in block.computed:
                return block.computed[key]
        var = self.blocks[-1].computed[key] = self.define(prim, ins, params, dtype, "s", loc)
        return var

    def define(
        self, prim: str, ins: tuple[In, ...], params: dict[str, Any], dtype: DType, name: str, loc: Location
    ) -> Var:
        """A new equation that gives a scalar."""
        var = Var(self.bind_name(name), ScalarType(dtype))
        self.scalars[var.name] = var
        self.append(Eqn(prim, (var,), ins, params, loc=loc))
        return var

    def check_operand(self, owner: WorkloadBuilder | None, x: In, loc: Location) -> None:
        """Check that a scalar or index expression of `owner`'s trace may stand here."""
        if isinstance(x, Var):
            x = expr.var(x.name)
        if isinstance(x, Expr):
            self.use(owner, x, loc)

    def _merge_reads(self, block: Block) -> dict[str, str]:
        """Of reads inside a loop's body that wrote nothing they read: the variables outside that hold the same."""
        same: dict[str, str] = {}
        for key, name in block.reads:
            for around in reversed(self.blocks):
                known = around.held.get(key)
                if known is not None and known[1] == self._writes.get(key[1].tensor, 0):
                    same[name] = known[0].name
                    break
                if around.iterated or around.apart:
                    break
        return same

    def open_loop(self, axis: LoopAxis, mode: str, label: str | None, loc: Location) -> Index:
        if len(self.blocks) > MAX_NESTING:
            raise CompileError(
                "PTO405",
                f"loops nested deeper than {MAX_NESTING}",
                loc=loc,
                fix="write several axes as one loop over their product",
            )
        label = label or f"i{len(self.loops)}"
        resolved = axis.resolve(self, label)
        self.check_scope(resolved.size, loc)
        for e in resolved.size.names():
            if e.startswith("$"):
                self.symbol(e[1:], None)
        block = self.open_block()
        block.iterated = True
        name = self.bind_name(axis.variable(label))
        block.loop = OpenLoop(mode, Var(name, IndexType()), resolved, label, loc, expr.var(name))
        self.loops.append(block.loop)
        return Index(expr.var(name), self, (resolved.tile, resolved.size) if resolved.kind == "Tiles" else None)

    def close_loop(self, condition: Region | None = None) -> None:
        """The innermost loop's body ends; `condition` is the region that is evaluated before each iteration."""
        loop = self.loops.pop()
        regions = (Region((loop.var,), self.close_block()), *(() if condition is None else (condition,)))
        self.append(Eqn(loop.mode, params={"axis": loop.axis, "loop": loop.label}, regions=regions, loc=loop.loc))

    def abandon_block(self) -> None:
        """A region ends that Python left in its middle: the trace is broken, and what it holds is of no use."""
        if self.blocks[-1].loop is not None:
            self.loops.pop()
        self.close_block()

    def adopt(self, outer: Block, eqns: list[Eqn]) -> None:
        """Move equations that stood last in `outer` into the innermost region, with the scalars they give."""
        inner = self.blocks[-1]
        inner.eqns += eqns
        moved = {v.name for e in eqns for v in e.outs}
        inner.names += [n for n in outer.names if n in moved]
        outer.names = [n for n in outer.names if n not in moved]
        inner.computed |= {key: v for key, v in outer.computed.items() if v.name in moved}
        outer.computed = {key: v for key, v in outer.computed.items() if v.name not in moved}
        inner.held |= {key: v for key, v in outer.held.items() if v[0].name in moved}
        outer.held = {key: v for key, v in outer.held.items() if v[0].name not in moved}
        inner.reads += [r for r in outer.reads if r[1] in moved]
        outer.reads = [r for r in outer.reads if r[1] not in moved]

    @property
    def parallel_loops(self) -> list[OpenLoop]:
        """The open loops whose iterations are independent, outermost first."""
        return [loop for loop in self.loops if loop.mode == "parallel_for"]

    def check_scope(self, e: Expr, loc: Location) -> None:
        if not e.fits_64_bits:
            raise BoundsError(
                "PTO712",
                "an integer expression beyond 64 bits",
                values={"expression": e},
                loc=loc,
                fix="use integers of -2^63 .. 2^63 - 1",
            )
        for name in e.names():
            if name not in self._visible and not name.startswith("$"):
                raise TraceError(
                    "PTO157",
                    f"{name} is used outside of its loop or branch",
                    values={"expression": e},
                    loc=loc,
                    fix="use a loop variable or a scalar only inside the loop or branch that gives it; what a branch decides goes through a tensor or a slot; after a collective read anew what was read before it",
                )

    @property
    def process(self) -> Block | None:
        """The block of the innermost process around; directly in a pipeline, that of the pipeline."""
        if not self.pipes:
            return None
        k = next(k for k, b in enumerate(self.blocks) if b is self.pipes[-1].block)
        return self.blocks[min(k + 1, len(self.blocks) - 1)]

    def forget_reads(self) -> None:
        """What was read in this process may be something else from here on: another process may have gone on."""
        process = self.process
        for block in reversed(self.blocks):
            block.held.clear()
            if block is process:
                break

    def check_sent(self, view: View, loc: Location) -> None:
        """Refuse a view that was sent before, in this iteration."""
        names = view.names()
        for block in self.blocks:
            sent = next((at for v, at in block.sent_views if surely_overlap(v, view)), None)
            sent = sent or next((at for name, at in block.sent_names.items() if name in names), None)
            if sent is not None:
                raise sent_before(view.tensor, sent, loc)

    def need_together(self, what: str) -> None:
        """Raise TraceError where devices of a mesh may be at different places."""
        inside = next((b for b in self.blocks[1:] if b.loop is not None or b.given or b.apart), None)
        if inside is not None or self.pipes:
            loop = None if inside is None else inside.loop
            where = f"the loop over {loop.label}" if loop is not None else "a pipeline" if self.pipes else "a branch"
            raise TraceError(
                *("PTO895", f"{what} inside of {where}"),
                loc=here(),
                fix="devices meet outside of traced loops: end the loop before, or write Python's for over a Python number",
            )

    def together(self, what: str, reads: str, writes: str, params: dict[str, Any]) -> None:
        """Emit what all devices of a mesh do together."""
        named = (Var(n, self._plain_type(n)) for n in (reads, writes))
        self.append(Eqn(what, (), tuple(named), params, (), here()))
        self._writes[writes] = self._writes.get(writes, 0) + 1
        for block in self.blocks:  # scalars are read anew by what comes after
            block.held.clear()
            block.computed.clear()
            self._visible.difference_update(block.names)

    def _plain_type(self, name: str) -> TensorType:
        t = self.tensors[name]
        return TensorType(t.dtype, t.dims(self), Role.GIVEN, t.layout)

    # tasks

    def tokens_of(self, after: Any) -> tuple[str, ...]:
        """The names of tasks that a call waits for."""
        tasks = tuple(after) if isinstance(after, (tuple, list)) else (after,)
        names: list[str] = []
        for t in tasks:
            if not isinstance(t, Task):
                raise TraceError(
                    "PTO188",
                    "after= of something that is not a task",
                    values={"got": repr(t)[:80]},
                    loc=here(),
                    fix="give what kernel calls return: t = load[b](...); use[b](..., after=t), or a list of such",
                )
            if t.process is not None and (t.process.apart or not any(b is t.process for b in self.blocks)):
                raise TraceError(
                    "PTO824",
                    "after= of a task of another process",
                    values={"task": t},
                    loc=here(),
                    fix="let the other process send a token, and receive it before",
                )
            if t.builder is not self:
                raise TraceError(
                    "PTO158",
                    "after= of a task of another workload",
                    values={"task": t},
                    loc=here(),
                    fix="wait for tasks of the workload being traced",
                )
            names += [self._token(loc, t.label) for loc in t.locs]
        return tuple(dict.fromkeys(names))

    def _token(self, loc: Location, label: str) -> str:
        """The name of the tasks emitted at `loc`."""
        if id(loc) not in self._tokens:
            self._keep.append(loc)
            self._tokens[id(loc)] = self.reserve(assigned_name(loc) or label)
        return self._tokens[id(loc)]

    def named(self, eqns: tuple[Eqn, ...]) -> tuple[Eqn, ...]:
        """The equations with the names of tasks that others wait for."""
        if not self._tokens:
            return eqns
        return tuple(
            replace(
                e,
                outs=(Var(self._tokens[id(e.loc)], TokenType()),) if id(e.loc) in self._tokens else e.outs,
                regions=tuple(Region(r.params, self.named(r.eqns)) for r in e.regions),
            )
            for e in eqns
        )

    def task(
        self,
        kernel: KernelFunction,
        coords: tuple[Any, ...] | None,
        given: dict[str, Any],
        after: tuple[str, ...] = (),
    ) -> Location:
        """Emit one task; where it stands in the user's program, which is an object of its own for each."""
        loc = here()
        types: dict[str, TileType] = {}
        constants: dict[str, Any] = {}
        for name, spec in kernel.specs.items():
            x = given[name]
            what = f"kernel {kernel.label}, argument {name}"
            if isinstance(spec, ConstexprParam):
                constants[name] = arguments.constant(x, spec, what)
            elif isinstance(spec, TileParam) and spec.type is None:
                types[name] = arguments.bare_type(x, what)
        traced = self._kernel(kernel, types, constants)
        ins: list[In] = []
        for param in traced.params:
            x = given[param.name]
            what = f"kernel {kernel.label}, argument {param.name}"
            match param.type:
                case TileType():
                    ins.append(arguments.view(self, x, param.type, what, loc))
                case RegionType():
                    ins.append(arguments.region(self, x, param.type, what, loc))
                case ScalarType():
                    ins.append(arguments.scalar(self, x, param.type.dtype, what, loc))
        params: dict[str, Any] = {"kernel": traced.name, "coords": self._coords(coords, loc)}
        if self.mapped:  # which of the coordinates the user's kernel call does not know
            ours = range(len(self.mapped))
            own = (
                ours
                if coords is not None
                else [k for k in range(len(self.loops)) if self.loops[k].coord in self.mapped]
            )
            params["mapped"] = tuple(own)
        if after:
            params["after"] = after
        self.append(Eqn("task", (), tuple(ins), params, (), loc))
        for param, x in zip(traced.params, ins, strict=True):
            if isinstance(x, View) and param.direction is not Direction.IN:
                self._writes[x.tensor] = self._writes.get(x.tensor, 0) + 1
        return loc

    def _kernel(self, kernel: KernelFunction, types: dict[str, TileType], constants: dict[str, Any]) -> Kernel:
        try:
            key = (id(kernel), tuple(types.items()), tuple((n, arguments.exactly(v)) for n, v in constants.items()))
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
            return tuple(loop.coord for loop in self.loops)
        out = list(self.mapped)
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
            self.use(owner_of(c), e, loc)
            out.append(e)
        return tuple(out)

    def use(self, owner: WorkloadBuilder | None, e: Expr, loc: Location) -> None:
        """Check that an expression made in `owner`'s trace, where it has one, is in scope here; declare its symbols."""
        if owner is not None and owner is not self:
            raise TraceError(
                "PTO158",
                "a loop variable or scalar of another workload",
                values={"expression": e},
                loc=loc,
                fix="use the loop variables and scalars of the workload being traced",
            )
        self.check_scope(e, loc)
        for name in e.names():
            if name.startswith("$"):
                self.symbol(name[1:], None)

    def _check_inside(self) -> None:
        """Refuse indices into slices of unknown length that no loop bounds."""
        for extent, index, length, loc in self._inside:
            while extent is not None and extent != length:
                known = {n: expr.var(self._merged[n]) for n in (extent - length).names() if n in self._merged}
                if not known:
                    break
                extent, length = extent.substitute(known), length.substitute(known)
            if extent != length:
                raise TraceError(
                    "PTO161",
                    "an index into a slice of unknown length",
                    values={"index": index, "length": length},
                    loc=loc,
                    fix="loop over its length, `for k in P(n): ...[k]` of X[s : s + n], or index the tensor itself",
                )

    def _typed_tensors(self) -> Iterator[Var]:
        """Of a workload on a mesh, devices have all of the arguments that have no layout."""
        mesh = self.mesh
        for n, t in self.tensors.items():
            layout = t.layout
            if layout is None and mesh is not None and t.role is Role.GIVEN:
                layout = replicated(mesh, len(t.spec_shape))
            yield Var(n, TensorType(t.dtype, t.dims(self), t.role, layout))

    @property
    def mesh(self) -> Mesh | None:
        """The devices that the workload's tensors lie on. Raises LayoutIncompatibleError where they are several meshes."""
        layouts = {n: t.layout for n, t in self.tensors.items() if t.layout is not None}
        first = next(iter(layouts), None)
        for n, layout in layouts.items():
            if first is not None and layout.mesh != layouts[first].mesh:
                raise LayoutIncompatibleError(
                    *("PTO891", f"tensors {first} and {n} lie on different meshes"),
                    values={first: layouts[first].mesh, n: layout.mesh},
                    loc=here(),
                    fix="one workload runs on one mesh",
                )
        return None if first is None else layouts[first].mesh

    def finish(self) -> Wir:
        if len(self.blocks) == 1:
            self._check_inside()
        return Wir(
            self.label,
            tuple(self.symbols),
            tuple(self._typed_tensors()),
            tuple(self.kernels.values()),
            Region((), self.named(tuple(self.blocks[0].eqns))),
            tuple(known.declared for known in self.data_axes if known.is_checked),
            self.returns,
        )


def sent_before(tensor: str, sent: Location, loc: Location) -> TraceError:
    """The error of using what belongs to who received it."""
    return TraceError(
        "PTO815",
        f"a view of {tensor} that was sent is used",
        values={"sent": sent},
        loc=loc,
        fix="use it before the send, or receive a token back from who has it now",
    )


def _without(eqns: tuple[Eqn, ...], names: Mapping[str, str]) -> tuple[Eqn, ...]:
    """The equations without those that give one of `names`."""
    return tuple(
        replace(e, regions=tuple(Region(r.params, _without(r.eqns, names)) for r in e.regions)) if e.regions else e
        for e in eqns
        if not any(v.name in names for v in e.outs)
    )


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
        _current.stack = (*_current.stack, self._builder)
        return self._builder

    def __exit__(self, *exc: object) -> None:
        _current.stack = _current.stack[:-1]


def innermost_workload() -> WorkloadBuilder | None:
    """The workload under trace in this thread, if there is one."""
    return _current.stack[-1] if _current.stack else None
