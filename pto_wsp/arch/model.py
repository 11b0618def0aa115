"""What an arch is, and the cycles of one tile operation on it.

An operation costs its whole latency; what a kernel costs is in cost.py. Every cost is an integer expression over valid rows and
columns that never falls when one of them grows. Tables hold exact rationals, rounded up once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

from pto_wsp.errors import InternalError
from pto_wsp.ir.core import Dim, DType, TileType
from pto_wsp.ir.expr import Expr, ceildiv, const, to_expr, var

# Every operation an arch must have a price for; an arch file that lacks one is refused.
VECTOR_OPS = (
    *("full", "iota", "copy", "cast", "where", "count_cols", "count_rows"),
    *("add", "sub", "mul", "div", "neg", "abs", "maximum", "minimum", "fma"),
    *("rem", "fmod", "floordiv", "pow", "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "reciprocal"),
    *("tanh", "erf", "sin", "cos", "floor", "ceil", "rint", "round", "trunc"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not"),
    *("bit_and", "bit_or", "bit_xor", "bit_not", "shl", "shr"),
    *("transpose", "every_second", "gather", "scatter", "sort32", "merge_sort"),
)
MODELS = ("serial", "pipes")
ROW_OPS = ("rowsum", "rowmax", "rowmin", "rowprod", "rowexpand")
CUBE_DTYPES = (
    *("f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"),
    *("f8e4m3", "f8e5m2"),
)
COL_OPS = ("colsum", "colmax", "colmin", "colprod")


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory. bytes: capacity (None: not stated); align: what addresses are multiples of, in bytes."""

    name: str
    bytes: int | None
    align: int
    source: str


@dataclass(frozen=True, slots=True)
class Path:
    """A way data takes from one memory to another: exact GiB/s of one core, and the unit that moves it."""

    src: str
    dst: str
    gib_per_s: Fraction
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a core that works by itself. core: the kind of core that has it; beside: what may run while it does."""

    name: str
    core: str
    does: str
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SyncDomain:
    """What parts of the machine wait for each other with: `count` identifiers for each `scope`."""

    name: str
    scope: str
    count: int
    source: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """A vector instruction: head + slope * repeats + tail cycles, `unaligned` more where a tile ends within one."""

    head: int
    slope: int
    tail: int
    unaligned: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted tile operation: bias + slope * rows for the first repeat of each row, next_* for each further one."""

    bias: Fraction
    slope: Fraction
    next_bias: Fraction
    next_slope: Fraction


@dataclass(frozen=True, slots=True)
class Cube:
    """The matrix unit: head + slope[dtype] for each block of m x (k_bytes of k) x n."""

    head: int
    m: int
    k_bytes: int
    n: int
    slope: Mapping[str, int]


@dataclass(frozen=True)
class Arch:
    """A machine: its memories, units, synchronisation, scheduling figures and cost tables.

    clock_khz       cycles a millisecond
    lanes           lanes of a run without a dispatch directive
    issue_cost      cycles from one issue to the next
    handover        cycles from a task being ready to its being in a queue
    read_cost       cycles that reading a scalar back adds
    model           how the operations of a kernel make its cost: "serial", one after another, or "pipes", units beside each other
    tables          hash of everything but the model
    digest          hash of everything: equal archs have equal digests
    """

    name: str
    model: str
    digest: str
    tables: str = field(compare=False, repr=False)
    summary: str = field(compare=False)
    clock_khz: int = field(compare=False)
    lanes: int = field(compare=False)
    issue_cost: int = field(compare=False)
    handover: int = field(compare=False)
    read_cost: int = field(compare=False)
    sources: Mapping[str, str] = field(compare=False, repr=False)
    memories: tuple[Memory, ...] = field(compare=False, repr=False)
    paths: tuple[Path, ...] = field(compare=False, repr=False)
    units: tuple[Unit, ...] = field(compare=False, repr=False)
    sync: tuple[SyncDomain, ...] = field(compare=False, repr=False)
    granularity: int = field(compare=False, repr=False)
    transfers: Mapping[str, Path] = field(compare=False, repr=False)
    repeat_bytes: int = field(compare=False, repr=False)
    instructions: Mapping[str, Instruction] = field(compare=False, repr=False)
    vector_ops: Mapping[str, Mapping[str, int]] = field(compare=False, repr=False)
    scalar_ops: Mapping[str, Mapping[str, int]] = field(compare=False, repr=False)
    row_fits: Mapping[str, Fit] = field(compare=False, repr=False)
    col_fits: Mapping[str, Fit] = field(compare=False, repr=False)
    cube: Cube = field(compare=False, repr=False)

    @cached_property
    def with_cube_paths(self) -> Arch:
        """This machine for transfers to and from the matrix unit's memories."""
        return replace(self, transfers={kind: self.transfers[f"{kind}_cube"] for kind in ("load", "store")})

    def transfer(self, kind: str, tile: TileType) -> Expr:
        """Cycles to move the tile's valid part; kind: "load" or "store". Each row is rounded up to the granularity."""
        bytes_per_cycle = self.transfers[kind].gib_per_s * 2**30 / (self.clock_khz * 1000)
        blocks = to_dim(tile.vrows) * ceildiv(to_dim(tile.vcols) * tile.dtype.itemsize, const(self.granularity))
        return _round_up([(self.granularity / bytes_per_cycle, blocks)])

    def vector(self, op: str, tile: TileType, *, scalar: bool = False) -> Expr:
        """Cycles of an elementwise operation over the valid elements of `tile`; scalar: one operand is a number."""
        table = self.scalar_ops if scalar and op in self.scalar_ops else self.vector_ops
        if op not in table:
            raise InternalError(f"arch {self.name} has no cost of {op}")
        # the static shape decides: a valid shape that grows to a whole number of repeats must not get cheaper
        unaligned = tile.rows * tile.cols * tile.dtype.itemsize % self.repeat_bytes != 0
        fixed = each = 0
        for name, times in table[op].items():
            i = self.instructions[name]
            fixed += times * (i.head + i.tail + (i.unaligned if unaligned else 0))
            each += times * i.slope
        return self._repeats(tile) * each + fixed

    def reduce_rows(self, op: str, x: TileType) -> Expr:
        """Cycles of a row operation on x [m, n], to or from [m, 1]."""
        return self._fitted(self.row_fits[op], x)

    def reduce_cols(self, op: str, x: TileType) -> Expr:
        """Cycles of a column reduction of x [m, n] to [1, n]."""
        return self._fitted(self.col_fits[op], x)

    def matmul(self, dtype: DType, m: Dim, n: Dim, k: Dim) -> Expr:
        """Cycles of the matrix unit for [m, k] x [k, n] of `dtype`."""
        c = self.cube
        blocks = (
            ceildiv(to_dim(m), const(c.m))
            * ceildiv(to_dim(k) * dtype.itemsize, const(c.k_bytes))
            * ceildiv(to_dim(n), const(c.n))
        )
        return blocks * c.slope[dtype.short] + c.head

    def _repeats(self, tile: TileType) -> Expr:
        if tile.cols == 1:  # a column vector lies in memory as one row
            return ceildiv(to_dim(tile.vrows) * tile.dtype.itemsize, const(self.repeat_bytes))
        return to_dim(tile.vrows) * self._row_repeats(tile)

    def _row_repeats(self, tile: TileType) -> Expr:
        return ceildiv(to_dim(tile.vcols) * tile.dtype.itemsize, const(self.repeat_bytes))

    def _fitted(self, fit: Fit, x: TileType) -> Expr:
        rows, further = to_dim(x.vrows), self._row_repeats(x) - 1
        return _round_up(
            [(fit.bias, const(1)), (fit.slope, rows), (fit.next_bias, further), (fit.next_slope, rows * further)]
        )


def to_dim(d: Dim) -> Expr:
    """The extent as an expression."""
    return var(d) if isinstance(d, str) else to_expr(d)


def _round_up(terms: Iterable[tuple[Fraction, Expr]]) -> Expr:
    """The sum of rational multiples, as the least integer that is not below it."""
    terms = list(terms)
    denominator = math.lcm(*(factor.denominator for factor, _ in terms))
    total = const(0)
    for factor, expr in terms:
        total = total + expr * (factor.numerator * (denominator // factor.denominator))
    return ceildiv(total, const(denominator))
