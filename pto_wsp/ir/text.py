"""The wir as text: `parse(show(w)) == w`, source locations aside.

wir     := "workload" name "{" {symbol | tensor | kernel} {eqn} "}"
symbol  := "symbol" "$" name
tensor  := "tensor" name ":" dtype "[" expr {"," expr} "]"
kernel  := "kernel" name label "(" {param} ")" "{" {tile_eqn} "}"
param   := name ":" (direction dtype "<" rows "x" cols ">" | dtype)
eqn     := loop | parts | scope | task
loop    := ("parallel_for" | "seq_for") [params] name [label] "in" axis "{" {eqn} "}"
axis    := name ":" kind "(" expr ["," tile] ")"
parts   := ("combine" | "sequential") "{" {"part" "{" {eqn} "}"} "}"
scope   := ("dispatch" | "window") params "{" {eqn} "}"
task    := "task" [params] name "[" {expr} "]" "(" {param "=" arg} ")"
params  := "[" name "=" value {"," name "=" value} "]"
arg     := view | expr | literal
literal := number ":" dtype
"""

from __future__ import annotations

from typing import Any

from pto_wsp.ir.core import (
    At,
    Axis,
    Eqn,
    In,
    Kernel,
    KernelParam,
    Literal,
    Param,
    Region,
    ScalarType,
    Slice,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.expr import Expr, escape, show_name
from pto_wsp.ir.parser import Parser


def show(wir: Wir) -> str:
    """The text of a workload and its kernels."""
    rows = [f"workload {show_name(wir.name)} {{"]
    rows += [f"  symbol {show_name('$' + s)}" for s in wir.symbols]
    rows += [f"  tensor {show_name(v.name)}: {v.type}" for v in wir.tensors]
    for k in wir.kernels:
        rows += ["  " + r for r in show_kernel(k).splitlines()]
    for eqn in wir.body.eqns:
        rows += _show_eqn(wir, eqn, "  ")
    return "\n".join([*rows, "}"])


def show_kernel(kernel: Kernel) -> str:
    """The text of one kernel."""
    params = ", ".join(f"{show_name(p.name)}: {_show_param(p)}" for p in kernel.params)
    rows = [f"kernel {show_name(kernel.name)} {_quote(kernel.label)} ({params}) {{"]
    for eqn in kernel.body.eqns:
        out = "".join(f"{show_name(v.name)}: {v.type} = " for v in eqn.outs)
        ins = "".join(" " + _show_in(x) for x in eqn.ins)
        rows.append(f"  {out}{eqn.prim}{_show_params(eqn.params)}{ins}")
    return "\n".join([*rows, "}"])


def _show_param(p: KernelParam) -> str:
    return (
        str(p.type) if isinstance(p.type, ScalarType) else f"{p.direction} {p.type.dtype}<{p.type.rows}x{p.type.cols}>"
    )


def _quote(text: str) -> str:
    return f'"{"".join(map(escape, text))}"'


def _number(value: float | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _show_in(x: In) -> str:
    if isinstance(x, Var):
        return show_name(x.name)
    if isinstance(x, Literal):
        return f"{_number(x.value)}:{x.dtype}"
    if isinstance(x, Expr):
        return f"({x})"
    return show_view(x)


def show_view(view: View) -> str:
    """`X[b, 16*t :+ 16, tile(i, 16, 100)]`"""
    return f"{show_name(view.tensor)}[{', '.join(map(_show_dim, view.dims))}]"


def _show_dim(d: ViewDim) -> str:
    if isinstance(d, At):
        return str(d.index)
    if isinstance(d, Slice):
        return f"{d.start} :+ {d.length}"
    return f"tile({d.index}, {d.size}, {d.limit})"


def _show_value(value: Param) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, tuple):
        return f"[{' '.join(map(_show_value, value))}]"
    if isinstance(value, Axis):
        return _show_axis(value)
    return f"({value})" if isinstance(value, Expr) else str(value)


def _show_params(params: Any) -> str:
    return "[" + ", ".join(f"{k}={_show_value(v)}" for k, v in sorted(params.items())) + "]" if params else ""


def _show_axis(axis: Axis) -> str:
    tile = f", {axis.tile}" if axis.kind == "Tiles" else ""
    return f"{show_name(axis.name)}: {axis.kind}({axis.size}{tile})"


def _show_eqn(wir: Wir, eqn: Eqn, pad: str) -> list[str]:
    def body(region: Region, indent: str) -> list[str]:
        return [row for e in region.eqns for row in _show_eqn(wir, e, indent)]

    if eqn.prim in ("parallel_for", "seq_for"):
        axis, label, name = eqn.params["axis"], eqn.params["loop"], eqn.regions[0].params[0].name
        assert isinstance(axis, Axis) and isinstance(label, str)
        called = "" if label == name else f" {_quote(label)}"
        rest = _show_params({k: v for k, v in eqn.params.items() if k not in ("axis", "loop")})
        return [
            f"{pad}{eqn.prim}{rest} {show_name(name)}{called} in {_show_axis(axis)} {{",
            *body(eqn.regions[0], pad + "  "),
            pad + "}",
        ]
    if eqn.prim == "task":
        kernel, coords = eqn.params["kernel"], eqn.params["coords"]
        assert isinstance(kernel, str) and isinstance(coords, tuple)
        names = [p.name for p in wir.kernel(kernel).params]
        args = ", ".join(f"{show_name(n)}={_show_in(x)}" for n, x in zip(names, eqn.ins, strict=True))
        rest = _show_params({k: v for k, v in eqn.params.items() if k not in ("kernel", "coords")})
        return [f"{pad}task{rest} {show_name(kernel)}[{', '.join(map(str, coords))}]({args})"]
    if eqn.prim in ("combine", "sequential"):
        rows = [f"{pad}{eqn.prim} {{"]
        for r in eqn.regions:
            rows += [f"{pad}  part {{", *body(r, pad + "    "), pad + "  }"]
        return [*rows, pad + "}"]
    return [f"{pad}{eqn.prim}{_show_params(eqn.params)} {{", *body(eqn.regions[0], pad + "  "), pad + "}"]


def parse(text: str) -> Wir:
    """The workload that `text` shows. Raises IRConversionError PTO301, with line and column, for anything else."""
    p = Parser(text)
    wir = p.wir()
    p.end()
    return wir


def parse_kernel(text: str) -> Kernel:
    """The kernel that `text` shows."""
    p = Parser(text)
    p.word("kernel")
    kernel = p.kernel()
    p.end()
    return kernel
