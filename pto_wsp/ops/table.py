"""The page docs/operations.md, from the docstrings and primitives of the operations.

The last paragraph of each operation's docstring has four fields: shapes; dtypes; PTO-ISA instructions; largest error.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pto_wsp import ops
from pto_wsp.ir.core import PRIMITIVES, SHORT_DTYPES, DType
from pto_wsp.ops.rules import GROUPS

_FAMILIES = (
    *("memory", "parts", "control", "arithmetic", "bits", "functions", "activation", "comparison", "conversion"),
    *("reduction", "broadcasting", "triangles", "product", "normalization", "layout", "padding", "partial"),
    *("indexing", "ordering", "sorting", "quantization", "random"),
)

_HEAD = """# Operations

Generated from the operations of `pto_wsp.ops` (`python -m pytest tests/ops --update-golden` writes it).

`pto.name(...)` inside a kernel. In the shapes, an operand `[m, n]` of an elementwise operation may also be `[m, 1]`,
`[1, n]`, `[1, 1]`, a scalar parameter or a number, as long as one operand is a tile. Operands have one dtype: nothing
is converted by itself. Elements outside of a tile's valid shape are never read into a result.

Dtypes: *floats* are f32 f16 bf16; *integers* i8 i16 i32 i64 u8 u16 u32 u64; *numbers* both and f64; *computed* these and
bool; *all* also f8e4m3 and f8e5m2, which are only moved and cast.

Largest error: *one rounding* is the exact result rounded to the dtype. *ulp of f32* is in units in the last place of
the exact result; f16 and bf16 are computed in f32, and the f32 result is then rounded once. f64 is
computed in f64, its functions by the C library: within 2 ulp; its *roundings of f32* are roundings of f64. *k roundings of f32* is at
most k * 2^-24 times the sum of the magnitudes that are added up (times the result, where nothing is added), where that sum is
finite. Integers are exact, and wrap.

A leaf is one instruction of a plan, control is structure of it; a composition is traced as one equation and expands to leaves before lowering. The
PTO-ISA column names the instructions an operation maps to.
"""


@dataclass(frozen=True)
class Row:
    """One operation of the page."""

    name: str
    aliases: tuple[str, ...]
    family: str
    signature: str
    summary: str
    shapes: str
    dtypes: tuple[DType, ...]
    instructions: str
    error: str
    kind: str


def rows() -> Iterator[Row]:
    """Every public operation, by family, in the order of the source."""
    names: dict[Callable[..., Any], list[str]] = {}
    for name in ops.__all__:
        names.setdefault(getattr(ops, name), []).append(name)
    for function, known_as in sorted(names.items(), key=lambda item: _place(item[0])):
        text = inspect.getdoc(function) or ""
        paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
        shapes, dtypes, instructions, error = paragraphs[-1].split("; ")
        yield Row(
            name=function.__name__,
            aliases=tuple(n for n in known_as if n != function.__name__),
            family=str(sys.modules[function.__module__].__doc__),
            signature=_signature(function),
            summary=paragraphs[0],
            shapes=shapes,
            dtypes=tuple(d for word in dtypes.split() for d in GROUPS.get(word) or (SHORT_DTYPES[word],)),
            instructions=instructions,
            error=error,
            kind=_kind(function.__name__),
        )


def _place(function: Callable[..., Any]) -> tuple[int, int]:
    return _FAMILIES.index(function.__module__.rpartition(".")[2]), inspect.unwrap(function).__code__.co_firstlineno


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(
        inspect.Signature(
            [p if not isinstance(p.default, DType) else p.replace(default=_Bare(p.default)) for p in bare]
        )
    )


class _Bare:
    """A default that shows as its own text."""

    def __init__(self, dtype: DType) -> None:
        self._text = f"DType.{dtype.name}"

    def __repr__(self) -> str:
        return self._text


def _words(dtypes: tuple[DType, ...]) -> str:
    """Dtypes by the names of groups where they are such."""
    return next((word for word, group in GROUPS.items() if set(group) == set(dtypes)), " ".join(map(str, dtypes)))


def _kind(name: str) -> str:
    if name in ("fori_loop", "cond"):
        return "control"
    primitive = PRIMITIVES.get({"item": "element"}.get(name, name))
    if primitive is None:
        return "of others"
    return "composition" if primitive.opcode is None else f"leaf {primitive.opcode}"


def render() -> str:
    """The page."""
    out = [_HEAD]
    family = ""
    for row in rows():
        if row.family != family:
            family = row.family
            title, _, rest = family.strip().partition("\n\n")
            out += ["", f"## {title.rstrip('.')}", ""]
            out += [" ".join(rest.split()), ""] if rest else []
            out += [
                "| operation | meaning | shapes | dtypes | PTO-ISA | largest error | kind |",
                "|---|---|---|---|---|---|---|",
            ]
        name = f"`{row.name}{row.signature}`" + "".join(f", `{a}`" for a in row.aliases)
        cells = (name, row.summary, row.shapes, _words(row.dtypes), row.instructions, row.error, row.kind)
        out.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(out) + "\n" + _OPERATORS


_OPERATORS = """
## Operators

On tiles of a kernel: `a + b`, `a - b`, `a * b`, `a / b` (of floats), `a // b` (of integers), `a % b`, `a ** b` (of floats), `a @ b`,
`-a`, `abs(a)`, the comparisons `a < b`, `a <= b`, `a > b`, `a >= b`, `a == b`, `a != b`, which give bool tiles, `a & b`, `a | b`,
`a ^ b`, `~a` on bool and integer tiles, and `a << b`, `a >> b` on integer tiles. Each means the operation of that name above; `%` is
`rem`.

On scalars of a kernel (indices of loops, lengths, elements, Scalar parameters) and Python numbers: `+ - * / // % & | ^ ~ << >>`,
comparisons, `abs`, `pto.minimum`, `pto.maximum`, `pto.where` and `pto.cast`, in i64, u64, f64 or bool, as on scalars of
workloads: integers wrap in 64 bits, `//` and `%` round down, `/` is for f64. A scalar parameter counts as the widest type of its
kind. What has no result is an error of the task: a divisor of 0, a shift outside of 0 .. 63, a number that a cast cannot hold; tiles
have a result for each ([Numbers](language.md#numbers)). As an operand of a tile, an integer wraps to the tile's integer dtype, an f64 is rounded once to its float dtype, and other
mixtures are errors: `pto.cast(n, DType.F32)`.
"""
