"""Reading the wir's text: a recursive-descent parser of the grammar in `ir/text.py`."""

from __future__ import annotations

from dataclasses import replace

from pto_wsp.errors import LayoutIncompatibleError
from pto_wsp.ir.collectives import COLLECTIVES
from pto_wsp.ir.core import (
    MOST_REGION_DIMS,
    PRIMITIVES,
    Axis,
    ChannelType,
    DataAxis,
    Dialect,
    Direction,
    DType,
    Eqn,
    In,
    IndexType,
    Kernel,
    KernelParam,
    Region,
    RegionType,
    Role,
    ScalarType,
    TensorType,
    TileType,
    TokenType,
    Type,
    Var,
    Wir,
)
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.layout import Mesh, TensorLayout, TensorReplicate, TensorShard
from pto_wsp.ir.processes import ENDS
from pto_wsp.ir.reader import Reader
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import BUFFERS, LOOPS, PARTS, READS, value_type


class Parser(Reader):
    """Reads a workload, or a kernel."""

    mesh: Mesh | None = None

    # workloads

    def wir(self) -> Wir:
        self.word("workload")
        name = self.name()
        self.word("{")
        symbols: list[str] = []
        tensors: list[Var] = []
        axes: list[DataAxis] = []
        kernels: list[Kernel] = []
        roles = {r.value: r for r in Role}
        # a word of the header before a colon is the first result of an equation
        while not self.followed_by(":"):
            if self.accept("symbol"):
                self.word("$")
                symbols.append(self.name())
            elif self.at("mesh") and not tensors:
                self.take()
                self.mesh = self.mesh_axes()
            elif self.kind == "name" and self.token in roles:
                tensors.append(self.tensor(roles[self.take()]))
            elif self.at("ragged") or self.at("sparse"):
                axes.append(self.data_axis(self.take()))
            elif self.accept("kernel"):
                kernels.append(self.kernel())
            else:
                break
        self.kernels = {k.name: k for k in kernels}
        self.tensors = {v.name: v for v in tensors}
        self.values: dict[str, Var] = {}
        eqns: list[Eqn] = []
        returns: str | tuple[str, ...] | None = None
        while not self.accept("}"):
            if self.at("return") and not self.followed_by(":"):
                self.take()
                returns = self.names() if self.accept("[") else self.name()
                self.word("}")
                break
            eqns.append(self.eqn())
        return Wir(name, tuple(symbols), tuple(tensors), tuple(kernels), Region((), tuple(eqns)), tuple(axes), returns)

    def tensor(self, role: Role) -> Var:
        name = self.name()
        self.word(":")
        t = self.tensor_type(self.dtype(), role)
        return Var(name, replace(t, layout=self.layout(len(t.shape))) if self.accept("@") else t)

    def mesh_axes(self) -> Mesh:
        axes: dict[str, int] = {}
        while True:
            name = self.name()
            self.word("=")
            axes[name] = self.integer()
            if not self.followed_by("="):
                break
        try:
            return Mesh(**axes)
        except LayoutIncompatibleError as e:
            self.fail(e.what)

    def layout(self, rank: int) -> TensorLayout:
        """Up to the end of the line."""
        if self.mesh is None:
            self.fail("a layout without a mesh")
        self.word("[")
        dims: list[TensorShard | TensorReplicate] = []
        while not self.accept("]"):
            if self.accept("R"):
                dims.append(TensorReplicate())
            else:
                self.word("S")
                self.word("(")
                axes = [self.name()]
                while self.accept(","):
                    axes.append(self.name())
                self.word(")")
                dims.append(TensorShard(*axes))
            if not self.at("]"):
                self.word(",")
        pending: dict[str, str] = {}
        while self.accept("+"):
            op = self.name()
            self.word("(")
            pending[self.name()] = op
            self.word(")")
        if len(dims) != rank:
            self.fail("a layout of another rank")
        try:
            return TensorLayout(self.mesh, *dims, pending=pending)
        except LayoutIncompatibleError as e:
            self.fail(e.what)

    def data_axis(self, kind: str) -> DataAxis:
        name = self.name()
        self.word(":")
        self.word("outer")
        self.word("=")
        outer = self.expr()
        tensors: list[str] = []
        for key in ("lengths",) if kind == "ragged" else ("indptr", "indices"):
            self.word(key)
            self.word("=")
            tensors.append(self.string())
        inner = None
        if kind == "sparse" and self.at("inner") and self.followed_by("="):
            self.take()
            self.word("=")
            inner = self.expr()
        return DataAxis(kind.capitalize(), name, outer, tuple(tensors), inner)

    def region(self, params: tuple[Var, ...]) -> Region:
        """Equations up to the closing brace, which is taken."""
        self.deeper()
        for v in params:
            self.bind(v)
        eqns: list[Eqn] = []
        while not self.accept("}"):
            eqns.append(self.eqn())
        self.depth -= 1
        return Region(params, tuple(eqns))

    def bind(self, v: Var) -> None:
        (self.tensors if isinstance(v.type, TensorType) else self.values)[v.name] = v

    def type(self) -> Type:
        if self.accept("task"):
            return TokenType()
        if self.accept("channel"):
            return self.channel_type()
        dtype = self.dtype()
        return self.tensor_type(dtype) if self.at("[") else ScalarType(dtype)

    def channel_type(self) -> ChannelType:
        self.word("<")
        fields: list[ScalarType] = []
        while not self.accept(">"):
            fields.append(ScalarType(self.dtype()))
            if not self.at(">"):
                self.word(",")
        return ChannelType(tuple(fields))

    def eqn(self) -> Eqn:
        outs: list[Var] = []
        if self.followed_by(":") or self.at("$"):
            while True:
                name = self.name()
                self.word(":")
                outs.append(Var(name, self.type()))
                if not self.accept(","):
                    break
            self.word("=")
        eqn = self.right_side(tuple(outs))
        for v in outs:
            self.bind(v)
        return eqn

    def right_side(self, outs: tuple[Var, ...]) -> Eqn:
        prim = self.take()
        if prim in LOOPS:
            return self.loop(prim, outs)
        if prim == "task":
            return self.task(outs)
        if prim in PARTS:
            return self.parts(prim, outs)
        if prim == "cond":
            return self.cond(outs)
        if prim in SCOPES:
            params = self.params()
            carried = self.carry()
            inside = self.called(carried)
            self.word("{")
            return Eqn(prim, outs, carried, params, (self.region(inside),))
        if prim in READS:
            params = self.params()
            return Eqn(prim, outs, (self.view(),), params)
        if prim in COLLECTIVES:
            params = self.params()
            return Eqn(prim, outs, tuple(_operand(self.tensor_var()) for _ in range(2)), params)
        if prim in BUFFERS:
            params = self.params()
            return Eqn(prim, outs, (self.tensor_var(),), params)
        if prim in ("pipeline", "process"):
            params = self.params()
            self.word("{")
            return Eqn(prim, outs, (), params, (self.region(()),))
        if prim == "consume":
            return self.consume(outs)
        if prim in ("yield", "slot_get", "slot_set", "channel", *ENDS) or self.is_scalar(prim):
            params = self.params()
            return Eqn(prim, outs, self.operands(), params)
        return self.fail(f"{prim!r} is no equation of workloads")

    def is_scalar(self, prim: str) -> bool:
        return prim in PRIMITIVES and PRIMITIVES[prim].dialect is Dialect.SCALAR

    def operands(self) -> tuple[In, ...]:
        """The values on the rest of the line."""
        ins: list[In] = []
        while not self.ends_operands() and not self.at("{") and not self.at("as"):
            ins.append(self.workload_value())
        return tuple(ins)

    def workload_value(self) -> In:
        if self.accept("("):
            e = self.expr()
            self.word(")")
            return e
        if not self.names_variable():
            return self.literal()
        name = self.name()
        known = self.values.get(name) or self.tensors.get(name)
        return known or self.fail(f"{name!r} is not defined before")

    def tensor_var(self) -> Var:
        name = self.name()
        return self.tensors.get(name) or self.fail(f"there is no tensor {name!r}")

    def carry(self) -> tuple[In, ...]:
        return self.operands() if self.accept("carry") else ()

    def called(self, carried: tuple[In, ...]) -> tuple[Var, ...]:
        """What carried values are called in a region."""
        if not carried:
            return ()
        self.word("as")
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        if len(names) != len(carried):
            self.fail("as many names as values are carried")
        return tuple(Var(n, _plain(value_type(x))) for n, x in zip(names, carried, strict=True))

    def loop(self, prim: str, outs: tuple[Var, ...]) -> Eqn:
        params = self.params()
        name = self.name()
        label = self.string() if self.kind == "string" else name
        self.word("in")
        axis_name = self.name()
        self.word(":")
        kind = self.name()
        self.word("(")
        size = self.expr()
        tile = self.integer() if self.accept(",") else 1
        self.word(")")
        carried = self.carry()
        inside = (Var(name, IndexType()), *self.called(carried))
        self.word("{")
        regions = [self.region(inside)]
        if self.accept("while"):
            self.word("{")
            regions.append(self.region(()))
        axis = Axis(kind, axis_name, size, tile)
        return Eqn(prim, outs, carried, {"axis": axis, "loop": label, **params}, tuple(regions))

    def parts(self, prim: str, outs: tuple[Var, ...]) -> Eqn:
        carried = self.carry()
        self.word("{")
        parts: list[Region] = []
        while self.accept("part"):
            inside = self.called(carried)
            self.word("{")
            parts.append(self.region(inside))
        self.word("}")
        return Eqn(prim, outs, carried, regions=tuple(parts))

    def consume(self, outs: tuple[Var, ...]) -> Eqn:
        params, ins = self.params(), self.operands()
        t = ins[0].type if len(ins) == 1 and isinstance(ins[0], Var) else None
        if not isinstance(t, ChannelType):
            self.fail("expected a channel")
        names = [self.name()] if self.accept("as") else []
        while names and self.accept(","):
            names.append(self.name())
        if len(names) != len(t.fields):
            self.fail("as many names as a token has fields")
        inside = tuple(Var(n, f) for n, f in zip(names, t.fields, strict=True))
        self.word("{")
        return Eqn("consume", outs, ins, params, (self.region(inside),))

    def cond(self, outs: tuple[Var, ...]) -> Eqn:
        condition = self.workload_value()
        carried = self.carry()
        self.word("{")
        regions: list[Region] = []
        for word in ("then", "else"):
            if word == "else" and not self.at("else"):
                regions.append(Region((), ()))
                break
            self.word(word)
            inside = self.called(carried)
            self.word("{")
            regions.append(self.region(inside))
        self.word("}")
        return Eqn("cond", outs, (condition, *carried), regions=tuple(regions))

    def task(self, outs: tuple[Var, ...]) -> Eqn:
        params = self.params()
        name = self.name()
        if name not in self.kernels:
            self.fail(f"there is no kernel {name!r}")
        coords: list[Expr] = []
        self.word("[")
        while not self.accept("]"):
            coords.append(self.expr())
            if not self.at("]"):
                self.word(",")
        self.word("(")
        ins: list[In] = []
        for k, p in enumerate(self.kernels[name].params):
            if k:
                self.word(",")
            if self.name() != p.name:
                self.fail(f"expected the argument {p.name}")
            self.word("=")
            ins.append(self.workload_value() if isinstance(p.type, ScalarType) else self.view())
        self.word(")")
        return Eqn("task", outs, tuple(ins), {"kernel": name, "coords": tuple(coords), **params})

    # kernels

    def kernel(self) -> Kernel:
        name, label = self.name(), self.string()
        self.word("(")
        params: list[KernelParam] = []
        while not self.accept(")"):
            params.append(self.kernel_param())
            if not self.at(")"):
                self.word(",")
        self.word("{")
        known: dict[str, Var] = {p.name: Var(p.name, p.type) for p in params}
        return Kernel(name, label, tuple(params), self.tile_region((), known))

    def tile_region(self, params: tuple[Var, ...], known: dict[str, Var]) -> Region:
        """Equations up to the closing brace, which is taken."""
        self.deeper()
        known |= {v.name: v for v in params}
        eqns: list[Eqn] = []
        while not self.accept("}"):
            eqns.append(self.tile_eqn(known))
        self.depth -= 1
        return Region(params, tuple(eqns))

    def kernel_param(self) -> KernelParam:
        name = self.name()
        self.word(":")
        directions = {d.value: d for d in Direction}
        if self.token not in directions:
            return KernelParam(name, Direction.IN, ScalarType(self.dtype()))
        direction = directions[self.take()]
        if self.followed_by("["):
            return KernelParam(name, direction, self.region_type())
        t = self.tile_type()
        return KernelParam(name, direction, TileType(t.dtype, t.rows, t.cols, f"{name}.rows", f"{name}.cols"))

    def tile_eqn(self, known: dict[str, Var]) -> Eqn:
        outs: list[Var] = []
        while self.followed_by(":"):
            name = self.name()
            self.word(":")
            outs.append(Var(name, self.value_type()))
            if not self.accept(","):
                self.word("=")
                break
        eqn = self.tile_right_side(tuple(outs), known)
        known |= {v.name: v for v in outs}
        return eqn

    def tile_right_side(self, outs: tuple[Var, ...], known: dict[str, Var]) -> Eqn:
        prim = self.name()
        if prim not in PRIMITIVES or (PRIMITIVES[prim].dialect is Dialect.TASK and prim != "yield"):
            self.fail(f"{prim!r} is no operation of kernels")
        params = self.params()
        ins = self.tile_operands(known)
        if prim == "fori_loop":
            self.word("as")
            inside = [Var(self.name(), ScalarType(DType.I64))]
            while self.accept(","):
                name = self.name()
                self.word(":")
                inside.append(Var(name, self.value_type()))
            self.word("{")
            return Eqn(prim, outs, ins, params, (self.tile_region(tuple(inside), known),))
        if prim == "branch":
            self.word("{")
            regions: list[Region] = []
            for word in ("then", "else"):
                self.word(word)
                self.word("{")
                regions.append(self.tile_region((), known))
            self.word("}")
            return Eqn(prim, outs, ins, params, tuple(regions))
        return Eqn(prim, outs, ins, params)

    def tile_operands(self, known: dict[str, Var]) -> tuple[In, ...]:
        ins: list[In] = []
        while not self.ends_operands() and not self.at("as") and not self.at("{"):
            ins.append(self.operand(known) if self.names_variable() else self.literal())
        return tuple(ins)

    def value_type(self) -> TileType | ScalarType:
        return self.tile_type() if self.followed_by("<") else ScalarType(self.dtype())

    def region_type(self) -> RegionType:
        dtype = self.dtype()
        self.word("[")
        shape: list[int | None] = []
        while not self.accept("]"):
            shape.append(None if self.accept("*") else self.integer())
            if not self.at("]"):
                self.word(",")
        if not 1 <= len(shape) <= MOST_REGION_DIMS or any(n is not None and n < 0 for n in shape):
            self.fail("regions have 1 to 4 dimensions of 0 or more")
        return RegionType(dtype, tuple(shape))

    def operand(self, known: dict[str, Var]) -> Var:
        name = self.name()
        if name not in known:
            self.fail(f"{name!r} is not defined before")
        return known[name]


def _operand(v: Var) -> Var:
    """A tensor as a collective names it."""
    assert isinstance(v.type, TensorType)
    return Var(v.name, replace(v.type, role=Role.GIVEN))


def _plain(t: Type) -> Type:
    """The type of a value, whoever owns the storage it begins in."""
    return TensorType(t.dtype, t.shape) if isinstance(t, TensorType) else t
