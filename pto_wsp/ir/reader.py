"""The parts of wir text that workloads and kernels share: tokens, names, numbers, expressions, types, views, parameters."""

from __future__ import annotations

import math
import re
from typing import NoReturn

from pto_wsp.errors import IRConversionError, here
from pto_wsp.ir import expr
from pto_wsp.ir.core import (
    SHORT_DTYPES,
    At,
    DType,
    Gather,
    Literal,
    Param,
    Role,
    RuleCall,
    Slice,
    Span,
    TensorType,
    TileAt,
    TileType,
    View,
    ViewDim,
)
from pto_wsp.ir.expr import OPS, RESERVED, Expr
from pto_wsp.ir.scalars import RANGES

_TOKEN = re.compile(
    r'\s*(?:(?P<number>-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d+))|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<op>:\+|[-+*:=(){}\[\],<>$@]))'
)
_ESCAPE = re.compile(r"\\(u\{([0-9a-f]+)\}|.)")
_MAX_DEPTH = 64


class Reader:
    """A token at a time: `kind` and `token` are what stands here."""

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

    def deeper(self) -> None:
        """Into what may stand in itself; whoever calls it takes 1 off `depth` when out again."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("too deeply nested")

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
        self.deeper()
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
        self.deeper()
        try:
            if self.kind == "number":
                return self.literal() if self.followed_by(":") else self.number()
            if self.kind == "string":
                return self.string()
            if self.accept("["):
                items: list[Param] = []
                while not self.accept("]"):
                    items.append(self.value())
                return tuple(items)
            if self.token in SHORT_DTYPES:
                return self.dtype()
            if self.kind == "name" and self.token in ("true", "false") and not self.followed_by(":"):
                return self.take() == "true"
            return self.rule()
        finally:
            self.depth -= 1

    def rule(self) -> Expr | Literal | RuleCall:
        if self.accept("("):
            e = self.expr()
            self.word(")")
            return e
        if not self.followed_by("("):
            return self.literal()
        self.deeper()
        op = self.take()
        self.word("(")
        text = self.string() if self.kind == "string" else None
        args: list[Expr | Literal | RuleCall] = []
        to: DType | None = None
        first = text is None
        while not self.accept(")"):
            if not first:
                self.word(",")
            first = False
            if self.token in SHORT_DTYPES and to is None:
                to = self.dtype()
            else:
                args.append(self.rule())
        self.depth -= 1
        return RuleCall(op, tuple(args), to, text)

    def tensor_type(self, dtype: DType, role: Role = Role.GIVEN) -> TensorType:
        self.word("[")
        dims: list[Expr] = []
        while not self.accept("]"):
            dims.append(self.expr())
            if not self.at("]"):
                self.word(",")
        return TensorType(dtype, tuple(dims), role)

    def names(self) -> tuple[str, ...]:
        """Names with commas between them, up to the closing bracket, which is taken."""
        out: list[str] = []
        while not self.accept("]"):
            out.append(self.name())
            if not self.at("]"):
                self.word(",")
        return tuple(out)

    # views

    def view(self) -> View:
        tensor = self.name()
        self.word("[")
        self.deeper()
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

    def names_variable(self) -> bool:
        return self.kind == "string" or self.at("$") or (self.kind == "name" and self.token not in RESERVED)

    def ends_operands(self) -> bool:
        """An equation ends at the next line: equations stand on lines of their own."""
        return "\n" in self.text[self.pos : self.start] or self.at("}") or self.kind == "end"
