"""A loop over tiles of rows as one task of all the rows, where the kernel computes each row by itself.

before:  for i in P(x.tiles(16)): k[i](x=x[i], out=out[i])      x: 37 rows
after:   k(x=x, out=out)                                         tiles of 37 rows

XLA computes a matrix faster than a stack of tiles of it, and needs no rows behind the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pto_wsp.ir.core import (
    At,
    Direction,
    Eqn,
    In,
    Kernel,
    KernelParam,
    Region,
    Slice,
    TileAt,
    TileType,
    Type,
    Var,
    View,
    Wir,
    operand_type,
)
from pto_wsp.ir.expr import Expr
from pto_wsp_jax.lower.batching import line
from pto_wsp_jax.lower.tiles import ELEMENTWISE

Norm = Callable[[Expr], Expr]
BY_ROWS = ELEMENTWISE | {"where", "cast", "interleave", "count_cols", "rowsum", "rowprod", "rowmax", "rowmin"}


def merged(body: Region, loop: str, count: int, wir: Wir, norm: Norm) -> tuple[Eqn, Kernel] | None:
    """The task for all `count` iterations, and its kernel; None where there is none."""
    if len(body.eqns) != 1 or body.eqns[0].prim != "task":
        return None
    task = body.eqns[0]
    kernel = wir.kernel(str(task.params["kernel"]))
    ins: list[In] = []
    rows: dict[str, int] = {}
    for p, x in zip(kernel.params, task.ins, strict=True):
        if loop not in _names(x):
            if p.direction is not Direction.IN:
                return None
            ins.append(x)
            continue
        view = _whole(x, p, loop, count, norm)
        if view is None:
            return None
        ins.append(view[0])
        rows[p.name] = view[1]
    if len(set(rows.values())) != 1:
        return None
    whole = _with_rows(kernel, set(rows), next(iter(rows.values())))
    return None if whole is None else (replace(task, ins=tuple(ins)), whole)


def _names(x: In) -> frozenset[str]:
    if isinstance(x, Var):
        return frozenset((x.name,))
    return x.names() if isinstance(x, (Expr, View)) else frozenset()


def _whole(x: In, p: KernelParam, loop: str, count: int, norm: Norm) -> tuple[View, int] | None:
    """What all iterations take of an argument, and how many rows that is: where each takes the next tile of rows, and no gap is between."""
    if not isinstance(x, View) or not isinstance(p.type, TileType):
        return None
    kept = [k for k, d in enumerate(x.dims) if not isinstance(d, At)]
    if len(kept) != 2 or any(loop in View(x.tensor, (d,)).names() for k, d in enumerate(x.dims) if k != kept[0]):
        return None
    d = x.dims[kept[0]]
    found = _rows_of(d, loop, norm) if isinstance(d, (Slice, TileAt)) else None
    if found is None:
        return None
    first, size, limit = found
    n = count * size if limit is None else min(count * size, limit - first)
    if size != p.type.rows or n <= (count - 1) * size:
        return None
    dims = (*x.dims[: kept[0]], Slice(Expr(first), n), *x.dims[kept[0] + 1 :])
    return replace(x, dims=dims), n


def _rows_of(d: Slice | TileAt, loop: str, norm: Norm) -> tuple[int, int, int | None] | None:
    """Where rows begin, how many an iteration has at most, and where they end."""
    size = d.length if isinstance(d, Slice) else d.size
    found = line(norm(d.start), loop)
    if found is None or found[0] != size or not found[1].is_const:
        return None
    limit = norm(d.limit) if isinstance(d, TileAt) else None
    if limit is not None and not limit.is_const:
        return None
    return found[1].const, size, None if limit is None else limit.const


def _with_rows(kernel: Kernel, taken: set[str], n: int) -> Kernel | None:
    """The kernel for n rows of the parameters in `taken`, where it computes each row by itself."""
    sizes = {p.type.rows for p in kernel.params if p.name in taken and isinstance(p.type, TileType)}
    if len(sizes) != 1:
        return None
    (size,) = sizes
    by_row = set(taken)
    eqns: list[Eqn] = []
    for eqn in kernel.body.eqns:
        if _is_by_row(eqn, by_row, size):
            by_row |= {v.name for v in eqn.outs}
            eqns.append(_resized(eqn, by_row, n))
        elif _any_of(eqn, by_row, {f"{p}.rows" for p in taken}):
            return None
        else:
            eqns.append(eqn)
    params = tuple(replace(p, type=_of_rows(p.type, n)) if p.name in taken else p for p in kernel.params)
    return replace(kernel, params=params, body=replace(kernel.body, eqns=tuple(eqns)))


def _any_of(eqn: Eqn, names: set[str], extents: set[str]) -> bool:
    """Whether an equation, or one inside of it, takes one of these, or has such an extent."""
    for e in eqn.walk():
        types = [v.type for v in e.outs if isinstance(v.type, TileType)]
        if e.params.get("of") in extents or any(t.vrows in extents or t.vcols in extents for t in types):
            return True
        if any(isinstance(x, Var) and x.name in names for x in e.ins):
            return True
    return False


def _is_by_row(eqn: Eqn, by_row: set[str], size: int) -> bool:
    """Whether each row of its result, one of `size`, is of the same row of what is in `by_row`, and of what is the same for all."""
    each = [isinstance(x, Var) and x.name in by_row for x in eqn.ins]
    types = [operand_type(x) for x in eqn.ins]
    alike = all(own or not isinstance(t, TileType) or t.rows == 1 for own, t in zip(each, types, strict=True))
    to = eqn.outs[0].type if eqn.outs else None
    fits = isinstance(to, TileType) and to.rows == size
    p = eqn.params
    match eqn.prim:
        case "load" | "store":
            return all(each)
        case "full":
            return fits and size > 1
        case "iota":
            return fits and size > 1 and p["axis"] == 1
        case "broadcast":
            return fits and alike and (any(each) or size > 1)
        case "concat":
            return all(each) and p["axis"] == 1
        case "slice":
            return all(each) and (p["row"], p["rows"]) == (0, size)
        case "matmul":
            return each[0] and not each[1] and all(each[2:]) and not p["transpose_a"]
        case _:
            return eqn.prim in BY_ROWS and any(each) and alike


def _resized(eqn: Eqn, by_row: set[str], n: int) -> Eqn:
    ins = tuple(Var(x.name, _of_rows(x.type, n)) if isinstance(x, Var) and x.name in by_row else x for x in eqn.ins)
    outs = tuple(Var(v.name, _of_rows(v.type, n)) for v in eqn.outs)
    repeats = eqn.prim == "broadcast" and ins == eqn.ins  # of one row, so many times
    sized = eqn.prim in ("full", "iota", "slice") or repeats
    params = {**eqn.params, "rows": n} if sized else eqn.params
    return replace(eqn, outs=outs, ins=ins, params=params)


def _of_rows(t: Type, n: int) -> Type:
    if not isinstance(t, TileType):
        return t
    return replace(t, rows=n, vrows=n if t.vrows == t.rows else t.vrows)
