"""Reading the wir's text: a recursive-descent parser of the grammar in `ir/text.py`."""

from __future__ import annotations

import math
import re
from typing import NoReturn

from pto_wsp.errors import IRConversionError, here
from pto_wsp.ir import expr
from pto_wsp.ir.core import (
    PRIMITIVES,
    SHORT_DTYPES,
    At,
    Axis,
    DataAxis,
    Dialect,
    Direction,
    DType,
    Eqn,
    Gather,
    In,
    IndexType,
    Kernel,
    KernelParam,
    Literal,
    Param,
    Policy,
    Region,
    Role,
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
    ViewDim,
    Wir,
)
from pto_wsp.ir.expr import OPS, RESERVED, Expr
from pto_wsp.ir.scalars import RANGES
from pto_wsp.ir.tasks import BUFFERS, LOOPS, PARTS, READS, SCOPES, value_type

_TOKEN = re.compile(
    r'\s*(?:(?P<number>-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d+))|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<op>:\+|[-+*:=(){}\[\],<>$]))'
)
_ESCAPE = re.compile(r"\\(u\{([0-9a-f]+)\}|.)")
_MAX_DEPTH = 64


class Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.depth = 0
        self._advance()

    def _advance(self) -> None:
        m = _TOKEN.match(self.text, self.pos)
        if m is None:
            rest = self.text[self.pos :]
            self.start = self.pos + len(rest) - len(rest.lstrip())
            if rest.strip():
                self.kind, self.token = "bad", rest.lstrip()[0]
                self.fail("a character that begins no token")
            self.kind, self.token, self.next = "end", "the end", self.pos
            return
        self.kind = str(m.lastgroup)
        self.token = m.group(self.kind)
        self.start, self.next = m.start(self.kind), m.end()

    def fail(self, why: str) -> NoReturn:
        line = self.text.count("\n", 0, self.start) + 1
        col = self.start - (self.text.rfind("\n", 0, self.start) + 1) + 1
        raise IRConversionError(
            "PTO301",
            f"line {line}, column {col}: {why}, at {self.token!r}",
            loc=here(),
            fix="give text as make_wir prints it",
        )

    def followed_by(self, token: str) -> bool:
        """Whether `token` comes after the one that stands here."""
        m = _TOKEN.match(self.text, self.next)
        return m is not None and m.group("op") == token

    def take(self) -> str:
        token = self.token
        self.pos = self.next
        self._advance()
        return token

    def end(self) -> None:
        if self.kind != "end":
            self.fail("text after the workload")

    def at(self, token: str) -> bool:
        return self.token == token and self.kind in ("op", "name")

    def accept(self, token: str) -> bool:
        if self.at(token):
            self.take()
            return True
        return False

    def word(self, token: str) -> None:
        if not self.accept(token):
            self.fail(f"expected {token!r}")

    def name(self) -> str:
        if self.accept("$"):
            return "$" + self.name()
        if self.kind == "string":
            return self.string()
        if self.kind != "name":
            self.fail("expected a name")
        return self.take()

    def string(self) -> str:
        if self.kind != "string":
            self.fail("expected a quoted name")

        def unescape(m: re.Match[str]) -> str:
            if m.group(2):
                code = int(m.group(2), 16)
                if code > 0x10FFFF:
                    self.fail("not a character")
                return chr(code)
            if m.group(1) not in '"\\':
                self.fail("an unknown escape")
            return m.group(1)

        body = _ESCAPE.sub(unescape, self.token[1:-1])
        self.take()
        return body

    def integer(self) -> int:
        if self.kind != "number" or not re.fullmatch(r"-?\d+", self.token) or len(self.token) > 40:
            self.fail("expected an integer")
        return int(self.take())

    def number(self) -> int | float:
        if re.fullmatch(r"-?\d+", self.token):
            return self.integer()
        value = float(self.token)
        if math.isinf(value):
            self.fail("expected a finite number")
        self.take()
        return value

    def dtype(self) -> DType:
        if self.token not in SHORT_DTYPES:
            self.fail("expected a dtype")
        return SHORT_DTYPES[self.take()]

    # expressions

    def expr(self) -> Expr:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("too deeply nested")
        minus = self.accept("-")
        out = self.term() * (-1 if minus else 1)
        while self.at("+") or self.at("-") or (self.kind == "number" and self.token.startswith("-")):
            sign = -1 if self.at("-") else 1
            if self.kind == "op":
                self.take()
            out = out + self.term() * sign
        self.depth -= 1
        return out

    def term(self) -> Expr:
        if self.kind == "number":
            n = self.integer()
            return self.atom() * n if self.accept("*") else expr.const(n)
        return self.atom()

    def atom(self) -> Expr:
        if self.kind == "name" and self.token in OPS:
            kind = self.take()
            self.word("(")
            a = self.expr()
            self.word(",")
            b = self.expr()
            self.word(")")
            return expr.apply(kind, a, b)
        return expr.var(self.name())

    # types and values

    def tile_type(self) -> TileType:
        dtype = self.dtype()
        self.word("<")
        rows, cols = self.shape()
        valid: list[int | str] = [rows, cols]
        if self.accept("of"):
            valid = [self.dim()]
            self.word("x")
            valid.append(self.dim())
        self.word(">")
        return TileType(dtype, rows, cols, valid[0], valid[1])

    def shape(self) -> tuple[int, int]:
        """`16x128` is the number 16 and the name x128."""
        rows = self.integer()
        if self.kind != "name" or not re.fullmatch(r"x\d{1,10}", self.token):
            self.fail("expected a tile shape like 16x128")
        cols = int(self.take()[1:])
        if rows < 1 or cols < 1:
            self.fail("tiles have at least one element")
        return rows, cols

    def dim(self) -> int | str:
        return self.integer() if self.kind == "number" else self.name()

    def literal(self) -> Literal:
        minus = self.accept("-")
        word = self.take()
        self.word(":")
        dtype = self.dtype()
        if dtype is DType.BOOL and word in ("true", "false"):
            return Literal(word == "true", dtype)
        try:
            value = int(word) if dtype in RANGES and len(word) <= 40 else float(word)
        except ValueError:
            self.fail("expected a number")
        low, high = RANGES.get(dtype, (-math.inf, math.inf))
        if dtype is DType.BOOL or (dtype in RANGES and not (isinstance(value, int) and low <= value <= high)):
            self.fail("a literal that its dtype does not hold")
        if isinstance(value, float) and math.isnan(value) and minus:
            self.fail("NaN has no sign here")
        return Literal(-value if minus else value, dtype)

    def params(self) -> dict[str, Param]:
        out: dict[str, Param] = {}
        if self.accept("["):
            while True:
                key = self.name()
                self.word("=")
                out[key] = self.value()
                if not self.accept(","):
                    break
            self.word("]")
        return out

    def value(self) -> Param:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("too deeply nested")
        try:
            if self.kind == "number":
                return self.number()
            if self.kind == "string":
                return self.string()
            if self.accept("["):
                items: list[Param] = []
                while not self.accept("]"):
                    items.append(self.value())
                return tuple(items)
            if self.accept("("):
                e = self.expr()
                self.word(")")
                return e
            if self.token in SHORT_DTYPES:
                return self.dtype()
            word = self.name()
            if word in ("true", "false"):
                return word == "true"
            self.word("(")
            lanes = self.integer()
            self.word(")")
            return Policy(word, lanes)
        finally:
            self.depth -= 1

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
        while not self.followed_by(
            ":"
        ):  # where the first result of an equation may be called like a word of the header
            if self.accept("symbol"):
                self.word("$")
                symbols.append(self.name())
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

    def names(self) -> tuple[str, ...]:
        """Names with commas between them, up to the closing bracket, which is taken."""
        out: list[str] = []
        while not self.accept("]"):
            out.append(self.name())
            if not self.at("]"):
                self.word(",")
        return tuple(out)

    def tensor(self, role: Role) -> Var:
        name = self.name()
        self.word(":")
        return Var(name, self.tensor_type(self.dtype(), role))

    def tensor_type(self, dtype: DType, role: Role = Role.GIVEN) -> TensorType:
        self.word("[")
        dims: list[Expr] = []
        while not self.accept("]"):
            dims.append(self.expr())
            if not self.at("]"):
                self.word(",")
        return TensorType(dtype, tuple(dims), role)

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
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("too deeply nested")
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
        dtype = self.dtype()
        return self.tensor_type(dtype) if self.at("[") else ScalarType(dtype)

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
        if prim in BUFFERS:
            return Eqn(prim, outs, (self.tensor_var(),))
        if prim in ("yield", "slot_get", "slot_set") or self.is_scalar(prim):
            params = self.params()
            return Eqn(prim, outs, self.operands(), params)
        return self.fail(f"{prim!r} is no equation of workloads")

    def is_scalar(self, prim: str) -> bool:
        return prim in PRIMITIVES and PRIMITIVES[prim].dialect is Dialect.SCALAR

    def operands(self) -> tuple[In, ...]:
        """The values on the rest of the line."""
        ins: list[In] = []
        while not self._ends_operands() and not self.at("{") and not self.at("as"):
            ins.append(self.workload_value())
        return tuple(ins)

    def workload_value(self) -> In:
        if self.accept("("):
            e = self.expr()
            self.word(")")
            return e
        if not self._names_variable():
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

    def view(self) -> View:
        tensor = self.name()
        self.word("[")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("too deeply nested")
        dims: list[ViewDim] = []
        while not self.accept("]"):
            dims.append(self.view_dim())
            if not self.at("]"):
                self.word(",")
        self.depth -= 1
        return View(tensor, tuple(dims))

    def view_dim(self) -> ViewDim:
        if self.accept("tile"):
            self.word("(")
            index = self.expr()
            self.word(",")
            size = self.integer()
            self.word(",")
            limit = self.expr()
            offset = self.expr() if self.accept(",") else expr.const(0)
            self.word(")")
            return TileAt(index, size, limit, offset)
        if self.accept("gather"):
            self.word("(")
            view = self.view()
            self.word(")")
            return Gather(view)
        if self.accept("span"):
            self.word("(")
            first = self.expr()
            self.word(",")
            length = self.expr()
            self.word(")")
            return Span(first, length)
        start = self.expr()
        return Slice(start, self.integer()) if self.accept(":+") else At(start)

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
        eqns: list[Eqn] = []
        while not self.accept("}"):
            eqns.append(self.tile_eqn(known))
        return Kernel(name, label, tuple(params), Region((), tuple(eqns)))

    def kernel_param(self) -> KernelParam:
        name = self.name()
        self.word(":")
        directions = {d.value: d for d in Direction}
        if self.token not in directions:
            return KernelParam(name, Direction.IN, ScalarType(self.dtype()))
        direction = directions[self.take()]
        t = self.tile_type()
        return KernelParam(name, direction, TileType(t.dtype, t.rows, t.cols, f"{name}.rows", f"{name}.cols"))

    def tile_eqn(self, known: dict[str, Var]) -> Eqn:
        first = self.name()
        out: Var | None = None
        if self.accept(":"):
            out = Var(first, self.tile_type())
            self.word("=")
            first = self.name()
        prim = PRIMITIVES.get(first)
        if prim is None or prim.type is None:
            self.fail(f"{first!r} is no operation of kernels")
        params = self.params()
        ins: list[In] = []
        while not self._ends_operands():
            ins.append(self.operand(known) if self._names_variable() else self.literal())
        eqn = Eqn(first, () if out is None else (out,), tuple(ins), params)
        if out is not None:
            known[out.name] = out
        return eqn

    def _names_variable(self) -> bool:
        return self.kind == "string" or self.at("$") or (self.kind == "name" and self.token not in RESERVED)

    def operand(self, known: dict[str, Var]) -> Var:
        name = self.name()
        if name not in known:
            self.fail(f"{name!r} is not defined before")
        return known[name]

    def _ends_operands(self) -> bool:
        """An equation ends at the next line: equations stand on lines of their own."""
        return "\n" in self.text[self.pos : self.start] or self.at("}") or self.kind == "end"


def _plain(t: Type) -> Type:
    """The type of a value, whoever owns the storage it begins in."""
    return TensorType(t.dtype, t.shape) if isinstance(t, TensorType) else t
