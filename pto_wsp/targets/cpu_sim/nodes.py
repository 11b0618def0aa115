"""The tree of a plan: loops, branches, scalars, reads and tasks, each with the equation it comes from.

Loop variables, scalars and the non-affine parts of index expressions live in registers, which are visible after they are written
in the same block and the blocks inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pto_wsp.errors import InternalError
from pto_wsp.ir.core import (
    At,
    Axis,
    ChannelType,
    DType,
    Eqn,
    Gather,
    In,
    Literal,
    Region,
    RegionType,
    ScalarType,
    Slice,
    Span,
    TileAt,
    Var,
    View,
    ViewDim,
    Wir,
    read_tensors,
    written_tensors,
)
from pto_wsp.ir.expr import Expr, Op, const, maximum, minimum, var
from pto_wsp.ir.processes import channel_var, channels_of, ends_of, processes_of, settings_of
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import BUFFERS
from pto_wsp.targets.cpu_sim.handles import handles_of, named_in, token_of
from pto_wsp.targets.cpu_sim.schedule import Machine, Schedule, bits, mixed_dispatches, write_rule
from pto_wsp.targets.cpu_sim.stream import Stream

_BLOCK, _SEQ, _LOOP, _EVALUATE, _TASK, _SCALAR, _READ = range(7)
_COND, _SLOT_GET, _SLOT_SET, _ACQUIRE, _RELEASE, _RESET = range(7, 13)
_PIPELINE, _SEND, _RECV, _CONSUME, _CLOSE, _TRY_SEND, _QUERY = range(13, 20)
_PARALLEL, _SEQUENTIAL, _WHILE = range(3)
_REG, _CONSTANT, _AFFINE = range(3)
_EVAL = {"mul": 0, "floordiv": 1, "mod": 2, "min": 3, "max": 4}
_READS = {name: i for i, name in enumerate(("item", *(f"reduce_{k}" for k in ("sum", "max", "min", "any", "all"))))}
# in the order of the runtime's ScalarOp
SCALAR_OPS = {
    f"s.{name}": i
    for i, name in enumerate(
        (
            *("add", "sub", "mul", "floordiv", "mod", "div", "and", "or", "xor", "not", "shl", "shr"),
            *("eq", "ne", "lt", "le", "gt", "ge", "min", "max", "abs", "neg", "where", "cast"),
        )
    )
}


def scalar_reads(wir: Wir) -> frozenset[str]:
    """The tensors that tasks, scalars or gathers read."""
    out = set(read_tensors(wir))
    for top in wir.body.eqns:
        for eqn in top.walk():
            for view in (x for x in eqn.ins if isinstance(x, View)):
                out |= {i.tensor for i in view.index_views()}
                if eqn.prim != "task":
                    out.add(view.tensor)
    return frozenset(out)


def _sums(d: ViewDim) -> tuple[Expr, ...]:
    """The expressions that a dimension of a view has in the plan."""
    match d:
        case At():
            return (d.index,)
        case Slice():
            return (d.start,)
        case TileAt():
            return (d.start, d.limit)
        case Span():
            return (d.start, d.length)
        case Gather():
            return tuple(e for inner in d.index.dims for e in _sums(inner))


class Body:
    """Writes the tree, giving registers to loop variables, scalars and non-affine expressions.

    With `keep_registers`, `registers` says for each task site, after all is written, which register holds which variable there.
    """

    def __init__(self, wir: Wir, machine: Machine, *, keep_registers: bool = False) -> None:
        self.wir = wir
        self.s = Stream()
        self.n_regs = len(wir.symbols)
        self.regs: dict[str | Op, int] = {"$" + n: i for i, n in enumerate(wir.symbols)}
        self.kernels = {k.name: i for i, k in enumerate(wir.kernels)}
        self.tensors = {v.name: i for i, v in enumerate(wir.tensors)}
        self.written = written_tensors(wir)
        self.lengths = _bound_lengths(wir, self.written)
        self.schedule = Schedule(machine, mixed_dispatches(wir))
        self.sites = 0
        self.registers: list[dict[str, int]] | None = [] if keep_registers else None
        found = handles_of(wir.body)
        self.handles, self._resets = found.numbers, found.resets
        self._visible: list[str | Op] = []  # what `regs` has besides symbols, in the order it came
        self._loops = self._regions = self._origins = 0
        self._yielded: bytes | None = None
        self.channels: dict[str, int] = {}  # of the pipeline around, by variable

    def new_reg(self) -> int:
        self.n_regs += 1
        return self.n_regs - 1

    def show(self, what: str | Op, reg: int) -> None:
        """From here to the end of the block, `reg` holds `what`."""
        self.regs[what] = reg
        self._visible.append(what)

    def hide_since(self, mark: int) -> None:
        while len(self._visible) > mark:
            del self.regs[self._visible.pop()]

    @property
    def mark(self) -> int:
        return len(self._visible)

    def affine(self, s: Stream, e: Expr) -> None:
        """Append an expression whose non-affine parts have been evaluated into registers."""
        s.s(e.const)
        s.u(len(e.terms))
        for atom, coef in e.terms:
            s.u(self.regs[atom])
            s.s(coef)

    def block(self, region: Region) -> bytes:
        """A body: its equations in program order. Registers made inside are forgotten at its end."""
        mark, parent = self.mark, self.s
        self.s = Stream()
        n = 0
        resets = self._resets.get(self._regions, ())
        self._regions += 1
        for handle in resets:
            self.s.u(_RESET, handle)
            n += 1
        n += sum(self._node(e) for e in region.eqns)
        body, self.s = self.s, parent
        self.hide_since(mark)
        head = Stream()
        head.u(_BLOCK, n)
        return bytes(head.out + body.out)

    def _node(self, eqn: Eqn) -> int:
        """Append one equation; the number of nodes it took."""
        if eqn.prim in (*SCOPES, *BUFFERS):  # no message names them
            return self._without_origin(eqn)
        self._origins += 1
        write = _NODES.get(eqn.prim) or (_scalar if eqn.prim in SCALAR_OPS else None)
        if write is None:
            raise InternalError(f"{eqn.prim} has no place in a plan")
        return write(self, eqn, self._origins)

    def _without_origin(self, eqn: Eqn) -> int:
        if eqn.prim in BUFFERS:
            tensor = self.tensors[_buffer(eqn)]
            self.s.u(*((_ACQUIRE, tensor, int("zero" in eqn.params)) if eqn.prim == "acquire" else (_RELEASE, tensor)))
        else:
            self.s.out += self.block(eqn.regions[0])
        return 1

    def evaluate(self, origin: int, exprs: Iterator[Expr]) -> int:
        """Append what computes the non-affine atoms of `exprs` that are not in registers yet; how many nodes."""
        n = 0
        for e in exprs:
            for atom, _ in e.terms:
                if isinstance(atom, str) or atom in self.regs:
                    continue
                a, b, kind = (
                    (atom.a + atom.b - 1, atom.b, "floordiv") if atom.kind == "ceildiv" else (atom.a, atom.b, atom.kind)
                )
                n += self.evaluate(origin, iter((a, b))) + 1
                reg = self.new_reg()
                self.s.u(_EVALUATE, origin, reg, _EVAL[kind])
                self.affine(self.s, a)
                self.affine(self.s, b)
                self.show(atom, reg)
        return n

    def define(self, eqn: Eqn) -> int:
        """A register for the value of `eqn`, which operands and expressions after it may use."""
        reg = self.new_reg()
        self.show(eqn.outs[0].name, reg)
        return reg

    def operand(self, x: In) -> bytes:
        """A scalar operand, whose expressions have been evaluated."""
        s = Stream()
        match x:
            case Var():
                s.u(_REG, self.regs[x.name])
            case Literal():
                s.u(_CONSTANT)
                s.out += bits(x)
            case Expr():
                s.u(_AFFINE)
                self.affine(s, x)
            case View():
                raise InternalError(f"{x} is no scalar")
        return bytes(s.out)

    def dims(self, view: View, *, sized: bool) -> None:
        """Append the dimensions of a view; with their sizes where no parameter says them."""
        s = self.s
        for d in view.dims:
            match d:
                case At():
                    s.u(0)
                case Slice():
                    s.u(1)
                case TileAt():
                    s.u(2)
                case Gather():
                    s.u(3, self.tensors[d.index.tensor], int(d.index.tensor in self.written))
                    self.dims(d.index, sized=True)
                    continue
                case Span():
                    s.u(4)
            for e in _sums(d):
                self.affine(s, e)
            if sized and isinstance(d, (Slice, TileAt)):
                s.u(d.length if isinstance(d, Slice) else d.size)

    def loop_id(self) -> int:
        self._loops += 1
        return self._loops - 1

    def pipeline(self, eqn: Eqn) -> bytes:
        """Its channels, and its processes: what each may send to, and its body."""
        channels, outer = channels_of(eqn), self.channels
        self._regions += 1
        self._origins += len(channels)
        s = Stream()
        s.u(len(channels))
        for c in channels:
            t, of = c.outs[0].type, settings_of(c)
            assert isinstance(t, ChannelType)
            s.u(of["depth"] + 1 if "depth" in of else 0, of["latency"], of["response"], of["initial"])
            s.u(len(t.fields), *(f.dtype.code for f in t.fields))
        processes = processes_of(eqn)
        s.u(len(processes))
        numbers = {c.params["name"]: k for k, c in enumerate(channels)}
        names = {c.outs[0].name: k for k, c in enumerate(channels)}
        for p in processes:
            self._origins += 1
            self.channels = names
            produces = sorted(numbers[name] for name in ends_of(p, "produces"))
            s.u(len(produces), *produces)
            s.out += self.block(p.regions[0])
        self.channels = outer
        return bytes(s.out)

    def condition(self, region: Region) -> bytes:
        """A block, and the value it yields."""
        block = self.block(region)
        if self._yielded is None:
            raise InternalError("a condition yields nothing")
        yielded, self._yielded = self._yielded, None
        return block + yielded

    def yields(self, value: In) -> None:
        self._yielded = self.operand(value)


def _type(x: In) -> DType:
    """The type of a scalar operand; index expressions are i64."""
    if isinstance(x, Var) and isinstance(x.type, ScalarType):
        return x.type.dtype
    return x.dtype if isinstance(x, Literal) else DType.I64


def _buffer(eqn: Eqn) -> str:
    x = eqn.ins[0]
    assert isinstance(x, Var)
    return x.name


def _parts(b: Body, eqn: Eqn, origin: int) -> int:
    b.s.u(_BLOCK if eqn.prim == "combine" else _SEQ, len(eqn.regions))
    for r in eqn.regions:
        b.s.out += b.block(r)
    return 1


def _loop(b: Body, eqn: Eqn, origin: int) -> int:
    axis = eqn.params["axis"]
    assert isinstance(axis, Axis)
    extent = _extent(axis, b.lengths)
    n = b.evaluate(origin, iter((extent,)))
    s = Stream()
    b.affine(s, extent)
    number = b.loop_id()
    mark, reg = b.mark, b.new_reg()
    b.show(eqn.regions[0].params[0].name, reg)
    body = b.block(eqn.regions[0])
    condition = b.condition(eqn.regions[1]) if len(eqn.regions) > 1 else b""
    b.hide_since(mark)
    mode = _PARALLEL if eqn.prim == "parallel_for" else _WHILE if condition else _SEQUENTIAL
    b.s.u(_LOOP, origin, mode, reg)
    b.s.out += s.out
    b.s.u(number)
    b.s.out += condition + body
    return n + 1


def _extent(axis: Axis, lengths: frozenset[str]) -> Expr:
    """The loop's extent, and of a negative number of elements that number, which the run refuses: too few tiles would be 0 tiles.
    Symbols and the lengths of ragged axes are not negative when a run starts."""
    if axis.tile == 1 or all(n.startswith("$") for n in axis.size.names()) or axis.size in map(var, lengths):
        return axis.extent
    return maximum(axis.extent, const(0)) + minimum(axis.size, const(0))


def _bound_lengths(wir: Wir, written: frozenset[str]) -> frozenset[str]:
    """The scalars that are lengths of ragged axes, which are checked when they are bound."""
    tensors = {a.tensors[0] for a in wir.axes if a.kind == "Ragged"} - written
    reads = (e for top in wir.body.eqns for e in top.walk() if e.prim == "item")
    return frozenset(e.outs[0].name for e in reads if isinstance(e.ins[0], View) and e.ins[0].tensor in tensors)


def _yield(b: Body, eqn: Eqn, origin: int) -> int:
    b.yields(eqn.ins[0])
    return 0


def _cond(b: Body, eqn: Eqn, origin: int) -> int:
    operand = b.operand(eqn.ins[0])
    branches = [b.block(r) for r in eqn.regions]
    b.s.u(_COND, origin)
    b.s.out += operand + b"".join(branches)
    return 1


def _scalar(b: Body, eqn: Eqn, origin: int) -> int:
    n = b.evaluate(origin, (x for x in eqn.ins if isinstance(x, Expr)))
    operands = [b.operand(x) for x in eqn.ins]
    to = eqn.params.get("to")
    b.s.u(
        _SCALAR,
        origin,
        b.define(eqn),
        SCALAR_OPS[eqn.prim],
        _type(eqn.ins[1 if eqn.prim == "s.where" else 0]).code,
        int(bool(eqn.params.get("checked"))),
        to.code if isinstance(to, DType) else 0,
        len(operands),
    )
    b.s.out += b"".join(operands)
    return n + 1


def _read(b: Body, eqn: Eqn, origin: int) -> int:
    view = eqn.ins[0]
    assert isinstance(view, View)
    n = b.evaluate(origin, (e for d in view.dims for e in _sums(d)))
    reg = b.new_reg()
    b.s.u(_READ, origin, reg, _READS[eqn.prim], b.tensors[view.tensor], int(view.tensor in b.written))
    b.dims(view, sized=True)
    b.show(eqn.outs[0].name, reg)
    return n + 1


def _slot_get(b: Body, eqn: Eqn, origin: int) -> int:
    b.s.u(_SLOT_GET, origin, b.define(eqn), _slot(eqn))
    return 1


def _slot_set(b: Body, eqn: Eqn, origin: int) -> int:
    n = b.evaluate(origin, (x for x in eqn.ins if isinstance(x, Expr)))
    operand = b.operand(eqn.ins[0])
    b.s.u(_SLOT_SET, origin, _slot(eqn))
    b.s.out += operand
    return n + 1


def _slot(eqn: Eqn) -> int:
    slot = eqn.params["slot"]
    assert isinstance(slot, int)
    return slot


def _task(b: Body, eqn: Eqn, origin: int) -> int:
    coords = eqn.params["coords"]
    assert isinstance(coords, tuple)
    exprs = [c for c in coords if isinstance(c, Expr)]
    exprs += [x for x in eqn.ins if isinstance(x, Expr)]
    exprs += [e for x in eqn.ins if isinstance(x, View) for d in x.dims for e in _sums(d)]
    n = b.evaluate(origin, iter(exprs))
    tracked = eqn.params.get("tracked", ())
    assert isinstance(tracked, tuple)
    kernel = b.wir.kernel(str(eqn.params["kernel"]))
    said = b.schedule.of(eqn, kernel)
    n += b.evaluate(origin, said.exprs())
    b.s.u(_TASK, b.kernels[kernel.name], b.sites, said.dispatch, said.window, len(coords))
    for c in coords:
        assert isinstance(c, Expr)
        b.affine(b.s, c)
    for i, (p, x) in enumerate(zip(kernel.params, eqn.ins, strict=True)):
        _argument(b, x, i in tracked, sized=isinstance(p.type, RegionType))
    token = token_of(eqn)
    after = named_in(eqn)
    b.s.u(b.handles[token] + 1 if token in b.handles else 0, len(after))
    b.s.u(*(b.handles[t] for t in after))
    b.s.u(said.batch, int(said.steal), said.stream)
    for rule in said.rules:
        write_rule(b.s, rule, b.regs)
    b.sites += 1
    if b.registers is not None:
        b.registers.append({name: reg for name, reg in b.regs.items() if isinstance(name, str)})
    return n + 1


def _argument(b: Body, x: In, tracked: bool, *, sized: bool) -> None:
    s = b.s
    match x:
        case View():
            s.u(b.tensors[x.tensor], int(tracked))
            b.dims(x, sized=sized)
        case Literal():
            s.u(0)
            s.out += bits(x)
        case Expr():
            s.u(1)
            b.affine(s, x)
        case Var():
            s.u(2, b.regs[x.name], _type(x).code)


def _pipeline(b: Body, eqn: Eqn, origin: int) -> int:
    window = b.schedule.window(eqn)
    inside = b.pipeline(eqn)
    b.s.u(_PIPELINE, origin, window, 0)
    b.s.out += inside
    return 1


def _port(b: Body, eqn: Eqn, kind: int, origin: int) -> None:
    b.s.u(kind, origin, b.channels[channel_var(eqn).name])


def _fields(b: Body, eqn: Eqn, origin: int) -> tuple[int, bytes]:
    """What a token consists of, and how many nodes evaluate it."""
    n = b.evaluate(origin, (x for x in eqn.ins[1:] if isinstance(x, Expr)))
    return n, b"".join(b.operand(x) for x in eqn.ins[1:])


def _send(b: Body, eqn: Eqn, origin: int) -> int:
    n, token = _fields(b, eqn, origin)
    _port(b, eqn, _SEND, origin)
    b.s.out += token
    return n + 1


def _try_send(b: Body, eqn: Eqn, origin: int) -> int:
    n, token = _fields(b, eqn, origin)
    _port(b, eqn, _TRY_SEND, origin)
    b.s.out += token
    b.s.u(b.define(eqn))
    return n + 1


def _recv(b: Body, eqn: Eqn, origin: int) -> int:
    _port(b, eqn, _RECV, origin)
    for v in eqn.outs:
        reg = b.new_reg()
        b.s.u(reg)
        b.show(v.name, reg)
    return 1


def _consume(b: Body, eqn: Eqn, origin: int) -> int:
    (region,) = eqn.regions
    mark = b.mark
    regs = [b.new_reg() for _ in region.params]
    for v, reg in zip(region.params, regs, strict=True):
        b.show(v.name, reg)
    body = b.block(region)
    b.hide_since(mark)
    _port(b, eqn, _CONSUME, origin)
    b.s.u(*regs)
    b.s.out += body
    return 1


def _close(b: Body, eqn: Eqn, origin: int) -> int:
    _port(b, eqn, _CLOSE, origin)
    return 1


def _query(b: Body, eqn: Eqn, origin: int) -> int:
    _port(b, eqn, _QUERY, origin)
    b.s.u(b.define(eqn))
    return 1


_NODES: dict[str, Callable[[Body, Eqn, int], int]] = {
    "combine": _parts,
    "sequential": _parts,
    "parallel_for": _loop,
    "seq_for": _loop,
    "yield": _yield,
    "cond": _cond,
    **dict.fromkeys(_READS, _read),
    "slot_get": _slot_get,
    "slot_set": _slot_set,
    "task": _task,
    "pipeline": _pipeline,
    "send": _send,
    "try_send": _try_send,
    "recv": _recv,
    "consume": _consume,
    "close": _close,
    "query": _query,
}
