"""The reference evaluator: tasks one after another in program order, each operation in float64 and rounded once to its dtype.

Obvious and slow. It takes wir whose compositions are expanded (`pto_wsp.passes.expand`), and is the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pto_wsp.errors import BoundsError, InternalError, KernelError
from pto_wsp.ir.core import (
    PRIMITIVES,
    At,
    Axis,
    DType,
    Eqn,
    Kernel,
    Literal,
    Region,
    ScalarType,
    Slice,
    TileType,
    Typed,
    Var,
    View,
    Wir,
    operand_type,
)
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.tasks import LOOPS, PARTS, SCOPES

Array = np.ndarray[Any, Any]


def round_to(dtype: DType, x: Array) -> Array:
    """x (float64, or integers) in `dtype` with one rounding to nearest even; integers wrap."""
    if dtype is DType.I32:
        return np.asarray(x).astype(np.int64).astype(np.int32)
    if dtype is not DType.BF16:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(x).astype(dtype.numpy)
    wide = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        near = wide.astype(np.float32)
    # round to odd first: float64 -> float32 -> bf16 would otherwise round twice
    toward_zero = np.where(np.abs(near) > np.abs(wide), np.nextafter(near, np.float32(0)), near)
    inexact = np.isfinite(wide) & (toward_zero != wide)
    odd = (
        np.where(inexact, toward_zero.view(np.uint32) | 1, toward_zero.view(np.uint32))
        .astype(np.uint32)
        .view(np.float32)
    )
    return odd.astype(dtype.numpy)


def evaluate(wir: Wir, arrays: Mapping[str, Array], sizes: Mapping[str, int] | None = None) -> None:
    """Run every task of `wir` on `arrays` (by tensor name, written in place), with symbols bound to `sizes`."""
    env = {"$" + name: int((sizes or {})[name]) for name in wir.symbols}
    for v in wir.tensors:
        want = tuple(d.value(env) for d in wir.tensor_type(v.name).shape)
        if arrays[v.name].shape != want:
            raise InternalError(f"{v.name} has shape {arrays[v.name].shape}, not {want}")
    _run(wir, wir.body, env, arrays)


def _run(wir: Wir, region: Region, env: dict[str, int], arrays: Mapping[str, Array]) -> None:
    for eqn in region.eqns:
        reference = PRIMITIVES[eqn.prim].reference
        if reference is None:
            raise InternalError(f"{eqn.prim} has no reference")
        reference(wir, eqn, env, arrays)


def _loop(wir: Wir, eqn: Eqn, env: dict[str, int], arrays: Mapping[str, Array]) -> None:
    axis = eqn.params["axis"]
    assert isinstance(axis, Axis)
    region = eqn.regions[0]
    for i in range(axis.extent.value(env)):
        _run(wir, region, {**env, region.params[0].name: i}, arrays)


def _parts(wir: Wir, eqn: Eqn, env: dict[str, int], arrays: Mapping[str, Array]) -> None:
    for region in eqn.regions:
        _run(wir, region, env, arrays)


def _task(wir: Wir, eqn: Eqn, env: dict[str, int], arrays: Mapping[str, Array]) -> None:
    kernel = wir.kernel(str(eqn.params["kernel"]))
    args: dict[str, Array] = {}
    for param, x in zip(kernel.params, eqn.ins, strict=True):
        if isinstance(x, View):
            args[param.name] = view_of(arrays[x.tensor], x, env)
        else:
            assert isinstance(x, (Expr, Literal)) and isinstance(param.type, ScalarType)
            args[param.name] = round_to(param.type.dtype, np.asarray(x.value(env) if isinstance(x, Expr) else x.value))
    run_kernel(kernel, args)


for _name in LOOPS:
    PRIMITIVES[_name].def_reference(_loop)
for _name in (*PARTS, *SCOPES):
    PRIMITIVES[_name].def_reference(_parts)
PRIMITIVES["task"].def_reference(_task)


def view_of(array: Array, view: View, env: Mapping[str, int]) -> Array:
    """The elements of `view`, as a numpy view of `array`. Raises BoundsError for any outside of it."""
    index: list[int | slice] = []
    for k, (d, size) in enumerate(zip(view.dims, array.shape, strict=True)):
        if isinstance(d, At):
            first = d.index.value(env)
            last = first + 1
        elif isinstance(d, Slice):
            first = d.start.value(env)
            last = first + d.length
        else:
            first = d.start.value(env)
            last = min(first + d.size, d.limit.value(env))
        if first < 0 or last > size:
            raise BoundsError(
                "PTO163",
                f"{view.tensor}: {first} .. {last} in dimension {k} of size {size}",
                fix="use indices inside the tensor",
            )
        index.append(first if isinstance(d, At) else slice(first, last))
    return array[tuple(index)]


def run_kernel(kernel: Kernel, args: Mapping[str, Array]) -> None:
    """One task: `args` are arrays of the valid shapes (written in place for outputs) and zero-dimensional scalars."""
    valid: dict[str, int] = {}
    for p in kernel.params:
        if isinstance(p.type, TileType):
            valid[f"{p.name}.rows"], valid[f"{p.name}.cols"] = args[p.name].shape
    values: dict[str, Array] = dict(args)
    for eqn in kernel.body.eqns:
        _run_tile(eqn, values, valid)


def _run_tile(eqn: Eqn, values: dict[str, Array], valid: Mapping[str, int]) -> None:
    prim = PRIMITIVES[eqn.prim]
    if prim.reference is None or prim.type is None:
        raise InternalError(f"{eqn.prim} is not a leaf: expand the kernel first")
    types = [operand_type(x) for x in eqn.ins]
    typed = prim.type(dict(eqn.params), *types)
    assert isinstance(typed, Typed)
    for c in typed.checks:
        a, b = (valid[d] if isinstance(d, str) else d for d in (c.a, c.b))
        if not (a == b if c.rel == "eq" else a >= b):
            raise KernelError(
                "PTO710",
                f"{eqn.prim}: valid shapes differ",
                values={str(c.a): a, str(c.b): b},
                loc=eqn.loc,
                fix="give tiles of equal valid shape",
            )
    ins = [
        values[x.name] if isinstance(x, Var) else np.asarray(x.value) for x in eqn.ins if isinstance(x, (Var, Literal))
    ]
    if typed.type is None:
        prim.reference(dict(eqn.params), *ins)
        return
    out = typed.type
    shape = tuple(valid[d] if isinstance(d, str) else d for d in (out.vrows, out.vcols))
    clipped = [
        _clip_matmul(i, x, ins, eqn) if eqn.prim == "matmul" and i < 2 else _clip(x, t, out, shape)
        for i, (x, t) in enumerate(zip(ins, types, strict=True))
    ]
    wide = [x.astype(np.float64) if x.dtype.kind not in "iub" else x for x in clipped]
    with np.errstate(all="ignore"):
        result = np.asarray(prim.reference(dict(eqn.params), *wide))
    rounded = round_to(out.dtype, result)
    values[eqn.outs[0].name] = rounded if eqn.prim in ("full", "iota", "broadcast") else np.broadcast_to(rounded, shape)


def _clip(x: Array, t: object, out: TileType, shape: tuple[int, ...]) -> Array:
    """A tile that is defined everywhere takes the valid shape of what it is combined with."""
    if not isinstance(t, TileType):
        return x
    rows, cols = (n if size == full else None for n, size, full in zip(shape, t.shape, out.shape, strict=True))
    return x[:rows, :cols]


def _clip_matmul(i: int, x: Array, ins: list[Array], eqn: Eqn) -> Array:
    flags = [bool(eqn.params.get("transpose_a")), bool(eqn.params.get("transpose_b"))]
    axes = [0 if flags[0] else 1, 1 if flags[1] else 0]
    k = min(ins[0].shape[axes[0]], ins[1].shape[axes[1]])
    return x[:k] if axes[i] == 0 else x[:, :k]
