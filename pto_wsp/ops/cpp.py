"""Kernels that are C++: one equation that takes every parameter of its kernel.

    cpp[cost=(0), reads=[0 1], source="...", unit="rms.cpp", writes=[2]] x s out

`source` is a whole translation unit whose `pto_wsp_entry` has the type CppEntry of csrc/include/pto_wsp/kernel.hpp; `unit` is what
its `#line`s call the user's text. Without `cost`, what is read and written counts as loaded and stored.
"""

from __future__ import annotations

import ctypes
import linecache
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pto_wsp.arch import Arch
from pto_wsp.cxx.compiler import Diagnostic, DoesNotCompile
from pto_wsp.cxx.library import address, required
from pto_wsp.errors import CompileError, ExecutionError, KernelError, Location
from pto_wsp.ir.core import Eqn, Primitive, RegionType, ScalarType, TileType, Type, Typed
from pto_wsp.ir.expr import Expr, const

cpp_p = Primitive("cpp", opcode=99)

ENTRY = "pto_wsp_entry"
OURS = "pto_wsp"
"""What `#line` calls the lines around the user's text."""
INCLUDES = "cpp_includes"
_TEXT_BYTES = 1024
_MARK = re.compile(r'#line (\d+) "([^"]*)"')


class _Argument(ctypes.Structure):
    """struct Argument of csrc/include/pto_wsp/cpp_kernel.hpp."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("strides", ctypes.c_int64 * 4),
        ("sizes", ctypes.c_int32 * 4),
        ("scalar", ctypes.c_ubyte * 8),
    )


def compiled(source: str, label: str, unit: str, at: Location | None) -> int:
    """The address of a kernel's entry, compiled where that was not done before. at: the first line of the user's text.

    Raises CompileError: no compiler, text that does not compile, no entry for these parameters.
    """
    try:
        return address(required(source, f"kernel {label}'s C++", at), ENTRY)
    except DoesNotCompile as e:
        raise _refused(e, source, label, unit, at) from e


def _refused(e: DoesNotCompile, source: str, label: str, unit: str, at: Location | None) -> CompileError:
    first = e.first
    values: dict[str, object] = {}
    if first.file == OURS and "expected" not in first.what:
        wanted = re.search(r"^// wanted: (.*)$", source, re.MULTILINE)
        values |= {"the compiler says": first.what} | ({"wanted": wanted[1]} if wanted else {})
        return CompileError(
            "PTO414",
            f"kernel {label}: {unit} has no function {label} that takes the kernel's parameters",
            values=values,
            loc=at,
            fix="define it outside of namespaces, with pto_wsp::Tile and Region by const reference and scalars by value",
        )
    if first.file == OURS:  # the lines after the text are no longer what they should be
        last = _last_line(source, unit)
        values["the compiler says"] = first.what
        if at is not None:
            at = Location(at.file, at.line + last - 1, at.function)
        what = "a brace, bracket or quotation mark of its text has no other half"
        return CompileError(
            "PTO413", f"kernel {label}: {what}", values=values, loc=at, fix="close what is open, and no more"
        )
    if first.file == unit and at is not None and (place := _place(source, unit, first, at)) is not None:
        at = place
    elif first.file:
        values["in"] = f"{first.file}:{first.line}"
    fix = "correct the C++"
    if first.file == INCLUDES or "No such file" in first.what:
        fix = "name headers that exist: '<cmath>', or a path from the folder of the Python file"
    return CompileError("PTO413", f"kernel {label}: {first.what}", values=values, loc=at, fix=fix)


def _place(source: str, unit: str, first: Diagnostic, at: Location) -> Location | None:
    """Where a line of the user's text stands in the user's file, unless that has changed. at: the first line of the text."""
    line = at.line + first.line - 1
    written, here = _line(source, unit, first.line), linecache.getline(at.file, line).rstrip()
    start = here.find(written.rstrip())
    if start < 0 or not written.strip():
        return None
    col = len(here[:start].encode()) + first.col - 1
    return Location(at.file, line, at.function, (col, col + 1) if first.col else None)


def _last_line(source: str, unit: str) -> int:
    """The number of the last line of `unit` that is not blank."""
    return max((n for n in range(1, source.count("\n") + 2) if _line(source, unit, n).strip()), default=1)


def _line(source: str, unit: str, wanted: int) -> str:
    """Line `wanted` of what the source calls `unit`; "" where it has none."""
    name, number = "", 0
    for row in source.split("\n"):
        mark = _MARK.match(row)
        if mark is not None:
            name, number = mark[2], int(mark[1])
            continue
        if (name, number) == (unit, wanted):
            return row
        number += 1
    return ""


def entry_of(eqn: Eqn, label: str) -> int:
    """The compiled entry of a kernel that is this equation. Raises CompileError."""
    return compiled(str(eqn.params["source"]), label, str(eqn.params["unit"]), eqn.loc)


@cpp_p.def_type
def _(params: dict[str, Any], *types: Type) -> Typed:
    cost = params.get("cost")
    if set(params) - {"cost"} != {"source", "unit", "reads", "writes"} or not isinstance(cost, Expr | None):
        raise TypeError("a source, what it is called, and which parameters it reads and writes")
    if not isinstance(params["source"], str) or not isinstance(params["unit"], str):
        raise TypeError("its source is text")
    for i in (*params["reads"], *params["writes"]):
        if not 0 <= i < len(types) or not isinstance(types[i], (TileType, RegionType)):
            raise TypeError(f"parameter {i} is no tile or region")
    if cost is None and any(isinstance(t, RegionType) for t in types):
        raise TypeError("C++ that takes regions says what it costs")
    return Typed(None)


@cpp_p.def_reference
def _(params: dict[str, Any], *operands: np.ndarray) -> None:
    """The compiled function on these arrays: outputs are written in place."""
    arguments = (_Argument * len(operands))()
    kept: list[np.ndarray] = []
    memory = {*params["reads"], *params["writes"]}
    for i, x in enumerate(operands):
        a = arguments[i]
        if i not in memory:
            data = x.tobytes()
            a.scalar[: len(data)] = data
            continue
        array = np.array(x, order="C", copy=True)
        kept.append(array)
        a.data = array.ctypes.data
        a.strides[: array.ndim] = array.strides
        a.sizes[: array.ndim] = array.shape
    entry = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)(
        compiled(params["source"], params["unit"], params["unit"], None)
    )
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    if entry(arguments, text, _TEXT_BYTES) != 0:
        raise threw("C++", text.value.decode(errors="replace"))
    for i, array in zip(sorted(memory), kept, strict=True):
        if i in params["writes"]:
            operands[i][...] = array


def threw(what: str, text: str) -> ExecutionError:
    """The error for an exception of C++."""
    return KernelError("PTO734", f"{what} threw: {text}", fix="catch it in the C++, or give it other arguments")


@cpp_p.def_cost
def _(arch: Arch, params: dict[str, Any], out: Type | None, *types: Type) -> Expr:
    if "cost" in params:
        return params["cost"]
    total = const(0)
    for kind, those in (("load", params["reads"]), ("store", params["writes"])):
        for i in those:
            t = types[i]
            assert isinstance(t, TileType)
            total = total + arch.transfer(kind, t)
    return total


def is_cpp(eqns: Sequence[Eqn]) -> bool:
    """Whether a kernel is C++: then it has this equation alone."""
    return len(eqns) == 1 and eqns[0].prim == cpp_p.name


def scalar_cpp(t: ScalarType | TileType | RegionType) -> str:
    """The C++ type of an element or scalar."""
    return _TYPES[t.dtype.short]


_TYPES = {
    "f32": "float",
    "f64": "double",
    "bool": "bool",
    **{name: f"pto_wsp::{name}" for name in ("f16", "bf16", "f8e4m3", "f8e5m2")},
    **{f"{'ui'[not u]}{bits}": f"std::{'u' * u}int{bits}_t" for u in (0, 1) for bits in (8, 16, 32, 64)},
}
