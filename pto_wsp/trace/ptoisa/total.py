"""Every instruction of PTO-ISA: those there are, with the operations of `pto` that they mean, and those without a meaning, and why."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from pto_wsp import ops
from pto_wsp.trace.ptoisa import conversion, elementwise, memory, moves, reduction, sorting, sync
from pto_wsp.trace.ptoisa.instruction import INSTRUCTIONS

_FAMILIES = (elementwise, conversion, reduction, moves, sorting, memory, sync)

_HERE = __name__.rpartition(".")[0]

_TWO_CORES = "one core runs a kernel: tasks of a workload meet in tensors, and its processes in channels"
_IMAGES = "convolutions from image registers are not part of the language; gather the columns, or lay them out before"
_SCALED = "products of scaled blocks (MX) are not part of the language: cast, and multiply by the scales"
_SETTING = "a register of the device; give the scale to the instruction: TSTORE_FP, TMOV, TQUANT"
_TASK = "the workload's loops say which task this is: give the number as a Scalar parameter"
WITHOUT_MEANING: dict[str, str] = {
    **dict.fromkeys(("TPUSH", "TPOP", "TFREE", "TALLOC", "TPipe", "SYNCALL"), _TWO_CORES),
    **dict.fromkeys(("TPUT", "TGET", "TPUT_ASYNC", "TGET_ASYNC", "TNOTIFY", "TWAIT", "TTEST"), _TWO_CORES),
    **dict.fromkeys(("TBROADCAST", "TREDUCE", "ffts_cross_core_sync", "wait_flag_dev"), _TWO_CORES),
    **dict.fromkeys(("TIMG2COL", "TSETFMATRIX", "SETFMATRIX", "TSET_IMG2COL_RPT", "TSET_IMG2COL_PADDING"), _IMAGES),
    **dict.fromkeys(("TMATMUL_MX", "TGEMV_MX", "TGET_SCALE_ADDR"), _SCALED),
    **dict.fromkeys(("SET_QUANT_SCALAR", "SET_QUANT_VECTOR"), _SETTING),
    **dict.fromkeys(("get_block_idx", "get_block_num", "get_subblockid", "get_subblockdim"), _TASK),
}
"""Names of PTO-ISA that a kernel cannot use, and why."""


@dataclass(frozen=True)
class Row:
    """One instruction. operations: those of `pto` that it means; none of what program order does by itself."""

    name: str
    family: str
    operands: str
    meaning: str
    operations: tuple[str, ...]


_FUNCTIONS = ("TASSIGN", "TSYNC", "TPRINT", "set_flag", "wait_flag", "pipe_barrier")
"""Those that work on no tiles, or name them."""


def rows() -> Iterator[Row]:
    """The instructions there are, by family, in the order of the source."""
    for module in _FAMILIES:
        family = (module.__doc__ or "").partition(". ")[0].rstrip(".")
        for name, x in vars(module).items():
            if INSTRUCTIONS.get(name) is x:
                yield Row(name, family, x.show(), x.__doc__ or "", tuple(operations(x.lower)))
            elif name in _FUNCTIONS and x.__module__ == module.__name__:
                operands = f"{name}({', '.join(inspect.signature(x).parameters)})"
                yield Row(name, family, operands, " ".join((x.__doc__ or "").split()), tuple(operations(x)))


def operations(f: Callable[..., Any]) -> list[str]:
    """The operations of `pto` that a lowering uses, in the order of its source: itself, or those its code names."""
    found: dict[str, None] = {}
    seen: set[int] = set()

    def visit(x: object) -> None:
        if id(x) in seen:
            return
        seen.add(id(x))
        if isinstance(x, Mapping):
            for value in x.values():
                visit(value)
        elif inspect.isfunction(x) and x.__name__ in ops.__all__ and getattr(ops, x.__name__) is x:
            found[x.__name__] = None
        elif inspect.isfunction(x) and x.__module__.startswith(_HERE):
            for cell in x.__closure__ or ():
                visit(cell.cell_contents)
            named(x.__code__, x.__globals__)

    def named(code: CodeType, known: Mapping[str, Any]) -> None:
        for name in code.co_names:
            if name in known:
                visit(known[name])
            elif name in ops.__all__:
                visit(getattr(ops, name))
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                named(inner, known)

    visit(f)
    return list(found)


_HEAD = """# Instructions of PTO-ISA

Generated from `pto_wsp.trace.ptoisa` (`python -m pytest tests/trace --update-golden` writes it).

`ptoisa.NAME(...)` in a kernel made by `@ptoisa_kernel`. The destination comes first, scalars after the sources; `tmp` may be left
out, and is empty after the instruction. Each instruction means the operations of `pto` beside it, which docs/operations.md
describes with shapes, dtypes and error bounds. Every instruction also takes events of earlier ones as further operands.
"""

_REFUSED = """
## Without a meaning here

A kernel runs on one core, in program order. These names are errors that say why.

| instruction | reason |
|---|---|
"""


def render() -> str:
    """The page docs/ptoisa.md."""
    out = [_HEAD]
    family = ""
    for row in rows():
        if row.family != family:
            family = row.family
            out += ["", f"## {family}", "", "| instruction | operands | meaning | pto |", "|---|---|---|---|"]
        operands = row.operands.replace(row.name, "").replace(" or ", "<br>")
        means = ", ".join(f"`{name}`" for name in row.operations) or "none"
        out.append(
            "| " + " | ".join(c.replace("|", "\\|") for c in (f"`{row.name}`", operands, row.meaning, means)) + " |"
        )
    refused = [f"| `{name}` | {reason} |" for name, reason in sorted(WITHOUT_MEANING.items())]
    return "\n".join(out) + "\n" + _REFUSED + "\n".join(refused) + "\n"
