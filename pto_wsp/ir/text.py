"""The wir as text: `parse(show(w)) == w`, source locations aside.

wir     := "workload" name "{" {symbol} [mesh] {tensor | axis | kernel} {eqn} ["return" returned] "}"
symbol  := "symbol" "$" name
mesh    := "mesh" {name "=" number}
tensor  := ("tensor" | "temporary" | "result") name ":" type ["@" layout]
layout  := "[" {"R" | "S" "(" name {"," name} ")"} "]" {"+" reduction "(" name ")"}
axis    := "ragged" name ":" "outer" "=" expr "lengths" "=" string
         | "sparse" name ":" "outer" "=" expr "indptr" "=" string "indices" "=" string ["inner" "=" expr]
kernel  := "kernel" name label "(" {param} ")" "{" {tile_eqn} "}"
param   := name ":" (direction dtype ("<" rows "x" cols ">" | "[" {size | "*"} "]") | dtype)
tile_eqn := [outs] (operation [params] {value} | fori | branch | "yield" {value})
fori    := "fori_loop" value value {value} "as" name {"," name ":" type} "{" {tile_eqn} "}"
branch  := "branch" value "{" "then" "{" {tile_eqn} "}" "else" "{" {tile_eqn} "}" "}"
eqn     := [outs] (loop | cond | parts | scope | task | read | scalar | slot | buffer | yield | pipeline | consume | end | collective)
outs    := name ":" type {"," name ":" type} "="
type    := dtype | dtype "[" expr {"," expr} "]" | "task" | "channel" "<" [dtype {"," dtype}] ">"
loop    := ("parallel_for" | "seq_for") [params] name [label] "in" over [carry [as]] region ["while" region]
over    := name ":" kind "(" expr ["," tile] ")"
cond    := "cond" value [carry] "{" "then" [as] region ["else" [as] region] "}"
parts   := ("combine" | "sequential") [carry] "{" {"part" [as] region} "}"
scope   := ("dispatch" | "streams" | "stream_by" | "timing" | "window" | "ready" | "start" | "pools" | "deps" | "trace")
           params [carry [as]] region
region  := "{" {eqn} "}"
task    := "task" [params] name "[" {expr} "]" "(" {param "=" (view | value)} ")"
read    := ("item" | "reduce_sum" | ... | "reduce_all") [params] view
scalar  := "s." operation [params] {value}
slot    := "slot_get" params | "slot_set" params value
buffer  := ("acquire" | "release") [params] name
yield   := "yield" [params] {value}
pipeline := ("pipeline" | "process") params region | "channel" params
consume := "consume" name [as] region
end     := ("send" | "recv" | "close" | "try_send" | "query") name {value}
collective := ("allreduce" | "reduce_scatter" | "allgather" | "relayout") [params] name name
carry   := "carry" {value}                 in the pure form: what a region changes,
as      := "as" name {"," name}            and what it is called inside
params  := "[" name "=" param {"," name "=" param} "]"
param   := number | string | "true" | "false" | dtype | "[" {param} "]" | rule
rule    := "(" expr ")" | literal | name "(" [(rule | string | dtype) {"," (rule | dtype)}] ")"
value   := name | "(" expr ")" | literal
view    := name "[" dim {"," dim} "]"
dim     := expr | expr ":+" length | "tile" "(" expr "," size "," expr ["," expr] ")"
         | "gather" "(" view ")" | "span" "(" expr "," expr ")"
literal := number ":" dtype
returned := name | "[" {name} "]"

An equation that ends in values ends with its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pto_wsp.ir.core import (
    ZERO,
    At,
    Axis,
    DataAxis,
    Eqn,
    Gather,
    In,
    Kernel,
    KernelParam,
    Literal,
    Param,
    Region,
    RegionType,
    ScalarType,
    Slice,
    Span,
    TensorType,
    TileAt,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.expr import Expr, escape, show_name
from pto_wsp.ir.parser import Parser
from pto_wsp.ir.processes import ENDS, PIPELINES
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import LOOPS, PARTS


def show(wir: Wir) -> str:
    """The text of a workload and its kernels."""
    rows = [f"workload {show_name(wir.name)} {{"]
    rows += [f"  symbol {show_name('$' + s)}" for s in wir.symbols]
    rows += [] if wir.mesh is None else [f"  mesh {' '.join(f'{show_name(n)}={k}' for n, k in wir.mesh.shape.items())}"]
    rows += [f"  {_owner(v)} {show_name(v.name)}: {v.type}" for v in wir.tensors]
    rows += [f"  {_show_data_axis(a)}" for a in wir.axes]
    for k in wir.kernels:
        rows += ["  " + r for r in show_kernel(k).splitlines()]
    for eqn in wir.body.eqns:
        rows += _show_eqn(wir, eqn, "  ")
    if wir.returns is not None:
        rows.append(f"  return {_show_returns(wir.returns)}")
    return "\n".join([*rows, "}"])


def _owner(v: Var) -> str:
    assert isinstance(v.type, TensorType)
    return v.type.role.value


def _show_data_axis(a: DataAxis) -> str:
    tensors = zip({"Ragged": ("lengths",), "Sparse": ("indptr", "indices")}[a.kind], a.tensors, strict=True)
    fields = [f"outer={a.outer}", *(f"{k}={_quote(t)}" for k, t in tensors)]
    fields += [] if a.inner is None else [f"inner={a.inner}"]
    return f"{a.kind.lower()} {show_name(a.name)}: {' '.join(fields)}"


def _show_returns(returns: str | tuple[str, ...]) -> str:
    return show_name(returns) if isinstance(returns, str) else f"[{', '.join(map(show_name, returns))}]"


def show_kernel(kernel: Kernel) -> str:
    """The text of one kernel."""
    params = ", ".join(f"{show_name(p.name)}: {_show_param(p)}" for p in kernel.params)
    rows = [f"kernel {show_name(kernel.name)} {_quote(kernel.label)} ({params}) {{"]
    rows += [row for eqn in kernel.body.eqns for row in _show_tile_eqn(eqn, "  ")]
    return "\n".join([*rows, "}"])


def _show_tile_eqn(eqn: Eqn, pad: str) -> list[str]:
    if not eqn.regions:
        return [pad + _show_plain(eqn)]
    head = f"{pad}{_show_outs(eqn)}{eqn.prim}{_show_values(eqn.ins)}"
    if eqn.prim == "fori_loop":
        index, *carried = eqn.regions[0].params
        inside = ", ".join([show_name(index.name), *(f"{show_name(v.name)}: {v.type}" for v in carried)])
        return [f"{head} as {inside} {{", *_show_tile_region(eqn.regions[0], pad), pad + "}"]
    rows = [head + " {"]
    for word, region in zip(("then", "else"), eqn.regions, strict=True):
        rows += [f"{pad}  {word} {{", *_show_tile_region(region, pad + "  "), pad + "  }"]
    return [*rows, pad + "}"]


def _show_tile_region(region: Region, pad: str) -> list[str]:
    return [row for e in region.eqns for row in _show_tile_eqn(e, pad + "  ")]


def _show_plain(eqn: Eqn) -> str:
    return f"{_show_outs(eqn)}{eqn.prim}{_show_params(eqn.params)}{_show_values(eqn.ins)}"


def _show_outs(eqn: Eqn) -> str:
    return ", ".join(f"{show_name(v.name)}: {v.type}" for v in eqn.outs) + " = " if eqn.outs else ""


def _show_values(ins: Sequence[In]) -> str:
    return "".join(" " + _show_in(x) for x in ins)


def _show_param(p: KernelParam) -> str:
    if isinstance(p.type, ScalarType):
        return str(p.type)
    if isinstance(p.type, RegionType):
        return f"{p.direction} {p.type}"
    return f"{p.direction} {p.type.dtype}<{p.type.rows}x{p.type.cols}>"


def _quote(text: str) -> str:
    return f'"{"".join(map(escape, text))}"'


def _show_in(x: In) -> str:
    if isinstance(x, Var):
        return show_name(x.name)
    if isinstance(x, Literal):
        return str(x)
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
    if isinstance(d, Gather):
        return f"gather({show_view(d.index)})"
    if isinstance(d, Span):
        return f"span({d.start}, {d.length})"
    assert isinstance(d, TileAt)
    offset = "" if d.offset == ZERO else f", {d.offset}"
    return f"tile({d.index}, {d.size}, {d.limit}{offset})"


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
    if eqn.prim in LOOPS:
        return _show_loop(wir, eqn, pad)
    if eqn.prim == "task":
        return [f"{pad}{_show_outs(eqn)}{_show_task(wir, eqn)}"]
    if eqn.prim in PARTS:
        parts = [("part", r) for r in eqn.regions]
        return _show_choices(wir, eqn, f"{eqn.prim}{_carry(eqn.ins)}", parts, pad)
    if eqn.prim == "cond":
        parts = [("then", eqn.regions[0]), ("else", eqn.regions[1])][: 2 if eqn.regions[1].eqns else 1]
        return _show_choices(wir, eqn, f"cond {_show_in(eqn.ins[0])}{_carry(eqn.ins[1:])}", parts, pad)
    if eqn.prim in SCOPES:
        head = f"{_show_outs(eqn)}{eqn.prim}{_show_params(eqn.params)}{_carry(eqn.ins)}{_as(eqn.regions[0].params)}"
        return [f"{pad}{head} {{", *_show_region(wir, eqn.regions[0], pad), pad + "}"]
    if eqn.regions and eqn.prim in (*PIPELINES, *ENDS):
        head = f"{eqn.prim}{_show_params(eqn.params)}{_show_values(eqn.ins)}{_as(eqn.regions[0].params)}"
        return [f"{pad}{head} {{", *_show_region(wir, eqn.regions[0], pad), pad + "}"]
    return [pad + _show_plain(eqn)]


def _show_region(wir: Wir, region: Region, pad: str) -> list[str]:
    return [row for e in region.eqns for row in _show_eqn(wir, e, pad + "  ")]


def _carry(values: Sequence[In]) -> str:
    return f" carry{_show_values(values)}" if values else ""


def _as(params: Sequence[Var]) -> str:
    return f" as {', '.join(show_name(v.name) for v in params)}" if params else ""


def _show_loop(wir: Wir, eqn: Eqn, pad: str) -> list[str]:
    axis, label = eqn.params["axis"], eqn.params["loop"]
    v, *carried = eqn.regions[0].params
    assert isinstance(axis, Axis) and isinstance(label, str)
    called = "" if label == v.name else f" {_quote(label)}"
    rest = _show_params({k: p for k, p in eqn.params.items() if k not in ("axis", "loop")})
    over = f"{show_name(v.name)}{called} in {_show_axis(axis)}{_carry(eqn.ins)}{_as(carried)}"
    rows = [f"{pad}{_show_outs(eqn)}{eqn.prim}{rest} {over} {{", *_show_region(wir, eqn.regions[0], pad)]
    for condition in eqn.regions[1:]:
        rows += [pad + "} while {", *_show_region(wir, condition, pad)]
    return [*rows, pad + "}"]


def _show_choices(wir: Wir, eqn: Eqn, head: str, parts: Sequence[tuple[str, Region]], pad: str) -> list[str]:
    rows = [f"{pad}{_show_outs(eqn)}{head} {{"]
    for word, r in parts:
        rows += [f"{pad}  {word}{_as(r.params)} {{", *_show_region(wir, r, pad + "  "), pad + "  }"]
    return [*rows, pad + "}"]


def _show_task(wir: Wir, eqn: Eqn) -> str:
    kernel, coords = eqn.params["kernel"], eqn.params["coords"]
    assert isinstance(kernel, str) and isinstance(coords, tuple)
    names = [p.name for p in wir.kernel(kernel).params]
    args = ", ".join(f"{show_name(n)}={_show_in(x)}" for n, x in zip(names, eqn.ins, strict=True))
    rest = _show_params({k: v for k, v in eqn.params.items() if k not in ("kernel", "coords")})
    return f"task{rest} {show_name(kernel)}[{', '.join(map(str, coords))}]({args})"


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
