"""The C++ of a kernel's pieces: one translation unit, one function a piece. What it is written with: csrc/src/tiles/native.hpp.

Names: b, n    bases and extents                        u3    a number, the same in all lanes
       p3, s3  memory at the first row, and its stride   q3    a thin value from memory: rows are lanes
       v7      the value of step 7                       t7    a thin value in memory, for h7 to repeat along its row
       a7      accumulators of a reduction, row by row   k7    a wide value that is kept for later passes
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pto_wsp.targets.cpu_sim.native import operations
from pto_wsp.targets.cpu_sim.native.operations import COPIES, REDUCTIONS, REGISTERS, TAGS
from pto_wsp.targets.cpu_sim.native.pieces import Pass, Piece
from pto_wsp.targets.cpu_sim.native.steps import FIRST_PARAM, Extent, Operand, Place, Step

_SIZES = {"f32": 4, "f16": 2, "bf16": 2, "i32": 4, "bool": 1}
_LANES = 16
_ROWS_AT_ONCE = 4
_LIGHT = 24  # of a pass: so little work that reductions of several rows must go on at once
_INDENT = "  "


@dataclass(frozen=True)
class Compiled:
    """The function of a piece: its symbol, its steps, the extents it takes, and those that must be equal."""

    symbol: str
    first: int
    count: int
    sizes: tuple[Place, ...]
    equal: tuple[tuple[Place, Place], ...]


def emit(pieces: Sequence[Piece]) -> tuple[str, tuple[Compiled, ...]]:
    """The translation unit of a kernel's pieces, and what it has. The same pieces give the same text."""
    rows = ['#include "pto_wsp/tiles/native.hpp"', "", "namespace pto_wsp::tiles::PTO_WSP_LEVEL {", ""]
    out: list[Compiled] = []
    for piece in pieces:
        writer = _Writer(piece)
        rows += [*writer.function(), ""]
        out.append(Compiled(writer.symbol, piece.steps[0].number, len(piece.steps), tuple(writer.sizes), piece.equal))
    return "\n".join([*rows, "}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL", ""]), tuple(out)


class _Writer:
    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.symbol = f"piece_{piece.steps[0].number}"
        self.made = {s.result.value: s for s in piece.steps if s.op != "store"}
        self.sizes: list[Place] = []
        self._extents: dict[Extent, int] = {}
        self._memory: dict[tuple[object, ...], int] = {}
        self._places: list[Operand] = []
        self._uniforms: dict[tuple[object, ...], int] = {}
        self._heads: list[str] = []
        # thin values that passes read, steps and memory: those need a copy in memory
        self._repeated: set[str] = set()
        for p in piece.passes:
            for s in p.steps:
                for o in s.sources:
                    if self.is_thin(o) and s.op not in REDUCTIONS:
                        self._repeated.add(self.thin_name(o))

    # operands

    def source(self, o: Operand) -> Step | None:
        return self.made.get(o.value) if o.is_value else None

    def is_uniform(self, o: Operand) -> bool:
        return self.source(o) is None and o.one_row and o.cols == 1

    def is_thin(self, o: Operand) -> bool:
        return o.cols == 1 and not self.is_uniform(o)

    def thin_name(self, o: Operand) -> str:
        """Of a thin value: v7 or q3."""
        s = self.source(o)
        return f"v{s.number}" if s is not None else f"q{self.place(o)}"

    def uniform(self, o: Operand) -> str:
        key = (o.base, o.offset, o.dtype)
        if key not in self._uniforms:
            i = self._uniforms[key] = len(self._uniforms)
            tag = TAGS[o.dtype]
            self._heads.append(f"const {REGISTERS[o.dtype]} u{i} = {tag}::repeat(b[{o.base}].data + {o.offset});")
        return f"u{self._uniforms[key]}"

    def place(self, o: Operand) -> int:
        """The number of a memory: of p and s."""
        key = o.place
        if key not in self._memory:
            i = self._memory[key] = len(self._places)
            self._places.append(o)
            stride = "0" if o.one_row else f"b[{o.base}].stride" if o.base >= FIRST_PARAM else str(o.stride)
            start = f"b[{o.base}].data" + (f" + {o.offset}" if o.offset else "")
            if not o.one_row:
                self._heads.append(f"const std::ptrdiff_t s{i} = {stride};")
                start += "" if o.of_strip else f" + row * s{i}"
            self._heads.append(f"std::byte* const p{i} = {start};")
        return self._memory[key]

    def _extent(self, e: Extent, s: Step) -> str:
        if e[0] == "c":
            return str(e[1])
        if e not in self._extents:
            self._extents[e] = len(self.sizes)
            self.sizes.append((s.number, s.extents.index(e)))
        return f"n[{self._extents[e]}]"

    # the function

    def function(self) -> list[str]:
        flat = self._is_flat()
        body = self._flat() if flat else self._strips()
        head = [
            f"// {', '.join(s.op for s in self.piece.steps)}",
            f"PTO_WSP_PIECE void {self.symbol}(const Base* b, const std::int32_t* n, std::int32_t row, std::int32_t rows) {{",
        ]
        return [*head, *_indented(self._heads), *_indented(body), "}"]

    def _is_flat(self) -> bool:
        """Whether nothing in it depends on the row: then rows that lie side by side are one."""
        steps = self.piece.steps
        whole = len(self.piece.passes) == 1 and len(self.piece.passes[0].steps) == len(steps)
        if not whole or any(s.op in (*REDUCTIONS, "iota") or not s.is_wide for s in steps):
            return False
        outside = [o for s in steps for o in s.sources if self.source(o) is None]
        return not any(o.one_row if o.cols > 1 else not self.is_uniform(o) for o in outside)

    def _flat(self) -> list[str]:
        (p,) = self.piece.passes
        lines = self._pass(p, "at", "cols")
        cols = self._extent(p.cols, self._sized(p))
        dense = [f"s{i} == cols * {_SIZES[o.dtype]}" for i, o in enumerate(self._places)]
        return [
            f"std::int32_t cols = {cols};",
            f"if ({' && '.join(dense)}) {{",
            _INDENT + "cols *= rows;",
            _INDENT + "rows = 1;",
            "}",
            "for (std::int32_t at = 0; at < rows; ++at) {",
            *_indented(lines),
            "}",
        ]

    def _sized(self, p: Pass) -> Step:
        """A step of the pass that has its extent."""
        return next(s for s in reversed(p.steps) if p.cols in s.extents)

    def _strips(self) -> list[str]:
        piece = self.piece
        lines: list[str] = []
        arrays = [
            f"alignas(64) std::byte k{s.number}[{piece.strip} * {s.result.cols * _SIZES[s.result.dtype]}];"
            for s in piece.buffered
            if not self.in_place(s)
        ]
        loaded: set[str] = set()
        for o in (o for s in piece.steps for o in s.sources):
            if self.source(o) is None and self.is_thin(o) and self.thin_name(o) not in loaded:
                i, tag = self.place(o), TAGS[o.dtype]
                loaded.add(self.thin_name(o))
                lines.append(f"const {REGISTERS[o.dtype]} q{i} = column<{tag}>(p{i} + at * s{i}, s{i}, m);")
                lines += self._repeats_of(f"q{i}", o.dtype)
        for level, thin in enumerate(piece.thin):
            for s in thin:
                lines += self._thin(s)
            for number, p in enumerate(piece.passes):
                if p.level == level:
                    lines += self._rows(p, number)
        return [
            *arrays,
            f"for (std::int32_t at = 0; at < rows; at += {piece.strip}) {{",
            _INDENT + f"const int m = rows - at < {piece.strip} ? rows - at : {piece.strip};",
            *_indented(lines),
            "}",
        ]

    def in_place(self, s: Step) -> bool:
        """Whether a buffered value is put into its own memory by the pass that computes it."""
        return any(s.number in p.puts and s.number in p.buffers for p in self.piece.passes)

    def _repeats_of(self, name: str, dtype: str) -> list[str]:
        if name not in self._repeated:
            return []
        array = f"t{name}"
        size = _LANES * _SIZES[dtype]
        return [f"alignas(64) std::byte {array}[{size}];", f"{TAGS[dtype]}::store({array}, {name});"]

    def _thin(self, s: Step) -> list[str]:
        t = s.result.dtype
        if s.op in REDUCTIONS:
            value = f"trees<{TAGS[t]}, {REDUCTIONS[s.op]}>(a{s.number}, m)"
        elif s.op == "count_cols":
            value = f"splat(static_cast<float>({self._extent(s.extents[2], s)}))"
        elif s.op == "iota":
            value = "add(lane_index(), splat(row + at))" if s.immediate == 0 else "splat(0)"
        else:
            value = _computed(s, [self.uniform(o) if self.is_uniform(o) else self.thin_name(o) for o in s.sources])
        lines = [f"const {REGISTERS[t]} v{s.number} = {value};", *self._repeats_of(f"v{s.number}", t)]
        if s.kept:
            i = self.place(s.result)
            lines.append(f"put_column<{TAGS[t]}>(p{i} + at * s{i}, s{i}, v{s.number}, m);")
        return lines

    # passes

    def _rows(self, p: Pass, number: int) -> list[str]:
        """A pass over all rows of a strip."""
        reductions = [s for s in p.steps if s.op in REDUCTIONS]
        light = sum(map(operations.cost, p.steps)) <= _LIGHT
        lines = [f"{REGISTERS[s.operand]} a{s.number}[{_LANES}];" for s in reductions]
        cols = self._extent(p.cols, self._sized(p))
        if not reductions or not light:
            return [*lines, "for (int r = 0; r < m; ++r) {", *_indented(self._pass(p, "at + r", cols, "r")), "}"]
        name = f"pass{number}"
        return [
            *lines,
            f"const auto {name} = [&]<int R>(int r) PTO_WSP_ALWAYS {{",
            *_indented(self._pass(p, "at + r + k", cols, "r + k", "R")),
            "};",
            f"int from{number} = 0;",
            f"for (; from{number} + {_ROWS_AT_ONCE} <= m; from{number} += {_ROWS_AT_ONCE}) {name}.template operator()<{_ROWS_AT_ONCE}>(from{number});",
            f"for (; from{number} < m; ++from{number}) {name}.template operator()<1>(from{number});",
        ]

    def _pass(self, p: Pass, row: str, cols: str, strip_row: str = "", at_once: str = "") -> list[str]:
        """A pass over one row, or over `at_once` rows k: what is by row, the loop over chunks, what is left of it."""
        chunk = _Chunk(self, p, row, strip_row, at_once)
        inside = chunk.lines()
        each = f"for (int k = 0; k < {at_once}; ++k) " if at_once else ""
        lines = [*chunk.declared, *(each + x for x in chunk.by_row)]
        body = [*chunk.shared, *inside]
        if at_once:
            body = [*chunk.shared, f"#pragma GCC unroll {_ROWS_AT_ONCE}", each + "{", *_indented(inside), "}"]
        lines += [
            "const auto chunk = [&](int c, auto lanes) PTO_WSP_ALWAYS {",
            *_indented(body),
            "};",
            "int c = 0;",
            f"for (; c + {_LANES} <= {cols}; c += {_LANES}) chunk(c, Whole{{}});",
            f"if (c < {cols}) chunk(c, {cols} - c);",
            *(each + x for x in chunk.after),
        ]
        return lines


class _Chunk:
    """What a pass does with sixteen columns.

    declared, by_row   what is made ready for a row, or each of several
    shared             what all rows have in common
    after              what is left of a row
    """

    def __init__(self, writer: _Writer, p: Pass, row: str, strip_row: str, at_once: str) -> None:
        self.w, self.p, self.row, self.strip_row = writer, p, row, strip_row
        self.index = "[k]" if at_once else ""
        self.array = f"[{at_once}]" if at_once else ""
        self.declared: list[str] = []
        self.by_row: list[str] = []
        self.shared: list[str] = []
        self.after: list[str] = []
        self._known: set[str] = set()
        self._body: list[str] = []
        self._unrounded = self._only_put()

    def _only_put(self) -> set[int]:
        """Steps whose result is put into memory alone, which rounds it, copies of it included."""
        used = {o.value for s in self.p.steps if s.op not in COPIES for o in s.sources if o.is_value}
        out: set[int] = set()
        for s in reversed(self.p.steps):
            if s.op != "store" and s.result.value in used:
                if s.op in COPIES:
                    used |= {o.value for o in s.sources if o.is_value}
            elif s.op not in REDUCTIONS:
                out.add(s.number)
        return out

    def lines(self) -> list[str]:
        for s in self.p.steps:
            self._step(s)
        return self._body

    def _step(self, s: Step) -> None:
        t = s.result.dtype
        n = s.number
        if s.op in REDUCTIONS:
            kind, joins = REGISTERS[s.operand], REDUCTIONS[s.op]
            self._ready(kind, f"r{n}", f"{joins}::start({kind}{{}})")
            x = self._operand(s.sources[0])
            self._body.append(f"r{n}{self.index} = joined<{joins}>(r{n}{self.index}, {x}, lanes);")
            self.after.append(f"a{n}[{self.strip_row}] = r{n}{self.index};")
            return
        if s.op == "iota":
            value = f"splat(row + {self.row})" if s.immediate == 0 else "add(lane_index(), splat(c))"
        else:
            value = _computed(s, [self._operand(o) for o in s.sources], n not in self._unrounded)
        self._body.append(f"const {REGISTERS[t]} v{n} = {value};")
        if n in self.p.puts:
            self._put(s, self._pointer(s.result))
        if n in self.p.buffers and not self.w.in_place(s):
            self._put(s, self._buffer(s))

    def _put(self, s: Step, pointer: str) -> None:
        t = s.result.dtype
        put = "put" if s.number in self._unrounded else "put_exact"
        self._body.append(f"{put}<{TAGS[t]}>({pointer} + c * {_SIZES[t]}, v{s.number}, lanes);")

    def _operand(self, o: Operand) -> str:
        s = self.w.source(o)
        if s is None and self.w.is_uniform(o):
            return self.w.uniform(o)
        t = o.dtype
        if self.w.is_thin(o):
            name = self.w.thin_name(o)
            self._ready(REGISTERS[t], f"h{name}", f"{TAGS[t]}::repeat(t{name} + ({self.strip_row}) * {_SIZES[t]})")
            return f"h{name}{self.index}"
        if s is not None and s in self.p.steps:
            return f"v{s.number}"
        if s is not None:
            pointer = self._pointer(s.result) if self.w.in_place(s) else self._buffer(s)
            return self._loaded(f"m{s.number}", t, pointer, self._body)
        i = self.w.place(o)
        if o.one_row:
            return self._loaded(f"w{i}", t, f"p{i}", self.shared)
        return self._loaded(f"x{i}", t, self._pointer(o), self._body)

    def _loaded(self, name: str, dtype: str, pointer: str, where: list[str]) -> str:
        if name not in self._known:
            self._known.add(name)
            where.append(
                f"const {REGISTERS[dtype]} {name} = get<{TAGS[dtype]}>({pointer} + c * {_SIZES[dtype]}, lanes);"
            )
        return name

    def _pointer(self, o: Operand) -> str:
        i = self.w.place(o)
        row = self.row if "+" not in self.row else f"({self.row})"
        self._ready("std::byte*", f"y{i}", f"p{i} + {row} * s{i}")
        return f"y{i}{self.index}"

    def _buffer(self, s: Step) -> str:
        bytes_of_row = s.result.cols * _SIZES[s.result.dtype]
        self._ready("std::byte*", f"z{s.number}", f"k{s.number} + ({self.strip_row}) * {bytes_of_row}")
        return f"z{s.number}{self.index}"

    def _ready(self, kind: str, name: str, value: str) -> None:
        """A variable of the row: declared, and set once."""
        if name in self._known:
            return
        self._known.add(name)
        if self.index:
            self.declared.append(f"{kind} {name}{self.array};")
            self.by_row.append(f"{name}{self.index} = {value};")
        else:
            self.declared.append(f"{kind} {name} = {value};")


def _computed(s: Step, operands: Sequence[str], is_rounded: bool = True) -> str:
    f = operations.function(s)
    assert f is not None
    value = f"{f}{{}}({', '.join(operands)})" if f else operands[0]
    return value if operations.is_exact(s) or not is_rounded else f"rounded<{TAGS[s.result.dtype]}>({value})"


def _indented(lines: Iterable[str]) -> list[str]:
    return [x if x.startswith("#") else _INDENT + x for x in lines]
