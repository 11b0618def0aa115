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
    Direction,
    DType,
    Eqn,
    In,
    IndexType,
    Kernel,
    KernelParam,
    Literal,
    Param,
    Policy,
    Region,
    ScalarType,
    Slice,
    TensorType,
    TileAt,
    TileType,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.expr import OPS, RESERVED, Expr

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
            value = int(word) if dtype is DType.I32 else float(word)
        except ValueError:
            self.fail("expected a number")
        if dtype is DType.BOOL or (dtype is DType.I32 and not -(2**31) <= value < 2**31):
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
        kernels: list[Kernel] = []
        while True:
            if self.accept("symbol"):
                self.word("$")
                symbols.append(self.name())
            elif self.accept("tensor"):
                tensors.append(self.tensor())
            elif self.accept("kernel"):
                kernels.append(self.kernel())
            else:
                break
        self.kernels = {k.name: k for k in kernels}
        body = self.region(())
        return Wir(name, tuple(symbols), tuple(tensors), tuple(kernels), body)

    def tensor(self) -> Var:
        name = self.name()
        self.word(":")
        dtype = self.dtype()
        self.word("[")
        dims: list[Expr] = []
        while not self.accept("]"):
            dims.append(self.expr())
            if not self.at("]"):
                self.word(",")
        return Var(name, TensorType(dtype, tuple(dims)))

    def region(self, params: tuple[Var, ...]) -> Region:
        """Equations up to the closing brace, which is taken."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("too deeply nested")
        eqns: list[Eqn] = []
        while not self.accept("}"):
            eqns.append(self.eqn())
        self.depth -= 1
        return Region(params, tuple(eqns))

    def eqn(self) -> Eqn:
        prim = self.take()
        if prim in ("parallel_for", "seq_for"):
            return self.loop(prim)
        if prim == "task":
            return self.task()
        if prim in ("combine", "sequential"):
            self.word("{")
            parts: list[Region] = []
            while self.accept("part"):
                self.word("{")
                parts.append(self.region(()))
            self.word("}")
            return Eqn(prim, regions=tuple(parts))
        if prim in ("dispatch", "window"):
            params = self.params()
            self.word("{")
            return Eqn(prim, params=params, regions=(self.region(()),))
        return self.fail(f"{prim!r} is no equation of workloads")

    def loop(self, prim: str) -> Eqn:
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
        self.word("{")
        region = self.region((Var(name, IndexType()),))
        return Eqn(prim, params={"axis": Axis(kind, axis_name, size, tile), "loop": label, **params}, regions=(region,))

    def task(self) -> Eqn:
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
            ins.append(self.arg(p))
        self.word(")")
        return Eqn("task", (), tuple(ins), {"kernel": name, "coords": tuple(coords), **params})

    def arg(self, p: KernelParam) -> In:
        if isinstance(p.type, ScalarType):
            if not self.accept("("):
                return self.literal()
            e = self.expr()
            self.word(")")
            return e
        tensor = self.name()
        self.word("[")
        dims: list[ViewDim] = []
        while not self.accept("]"):
            dims.append(self.view_dim())
            if not self.at("]"):
                self.word(",")
        return View(tensor, tuple(dims))

    def view_dim(self) -> ViewDim:
        if self.accept("tile"):
            self.word("(")
            index = self.expr()
            self.word(",")
            size = self.integer()
            self.word(",")
            limit = self.expr()
            self.word(")")
            return TileAt(index, size, limit)
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
            is_var = self.kind == "string" or (self.kind == "name" and self.token not in RESERVED)
            ins.append(self.operand(known) if is_var else self.literal())
        eqn = Eqn(first, () if out is None else (out,), tuple(ins), params)
        if out is not None:
            known[out.name] = out
        return eqn

    def operand(self, known: dict[str, Var]) -> Var:
        name = self.name()
        if name not in known:
            self.fail(f"{name!r} is not defined before")
        return known[name]

    def _ends_operands(self) -> bool:
        """An equation ends at the next line: equations stand on lines of their own."""
        return "\n" in self.text[self.pos : self.start] or self.at("}") or self.kind == "end"
