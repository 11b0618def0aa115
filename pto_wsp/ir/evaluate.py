"""The reference evaluator: tasks one after another in program order, each operation in float64 and rounded once to its dtype.

Obvious and slow. It takes wir whose compositions are expanded (`pto_wsp.passes.expand`), as traced or in the pure form, and is
the oracle of the tests.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pto_wsp.errors import BoundsError, ExecutionError, InternalError, KernelError, PtoError, here
from pto_wsp.ir.control import MOST_TRIPS
from pto_wsp.ir.core import (
    PRIMITIVES,
    At,
    Axis,
    Dialect,
    Direction,
    DType,
    Eqn,
    Gather,
    In,
    Kernel,
    KernelParam,
    Literal,
    Region,
    RegionType,
    Role,
    ScalarType,
    Slice,
    Span,
    TensorType,
    TileType,
    Typed,
    Var,
    View,
    ViewDim,
    Wir,
    operand_type,
)
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scalars import RANGES, Number, compute, index_value, smaller, wrap
from pto_wsp.ir.tasks import BUFFERS, LOOPS, PARTS, READS, SCOPES, slot_types, value_type, written_by

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


def round_integer(dtype: DType, n: int) -> Array:
    """An integer in `dtype` with one rounding. Raises BoundsError where it does not fit, or is too large for a float."""
    if dtype is DType.BOOL:
        return np.asarray(n != 0)
    low, high = RANGES.get(dtype, (-math.inf, math.inf))
    # float64 would be a rounding of its own: keep 53 bits, the last of which says whether there is more
    more = max(n.bit_length() - 53, 0)
    kept = abs(n) >> more
    odd = (kept | (kept << more != abs(n))) << more
    out = round_to(dtype, np.asarray(n if dtype is DType.I32 else math.copysign(float(odd), n)))
    if not low <= n <= high or (dtype.is_float and not np.isfinite(out)):
        raise BoundsError("PTO713", f"{n} as {dtype}", fix="give a number that the parameter's dtype holds")
    return out


@dataclass
class _Frame:
    """What a region's equations name: numbers (loop variables, scalars, symbols), and tensors."""

    wir: Wir
    slots: dict[int, Number]
    numbers: dict[str, Any] = field(default_factory=dict[str, Any])
    arrays: dict[str, Array] = field(default_factory=dict[str, "Array"])

    def inner(self) -> _Frame:
        return _Frame(self.wir, self.slots, dict(self.numbers), dict(self.arrays))

    def bind(self, v: Var, value: Any) -> None:
        (self.arrays if isinstance(v.type, TensorType) else self.numbers)[v.name] = value

    def value(self, x: In) -> Any:
        """A number, or an array."""
        if isinstance(x, Expr):
            return index_value(x, self.numbers)
        if isinstance(x, Literal):
            return x.value
        assert isinstance(x, Var)
        return (self.arrays if isinstance(x.type, TensorType) else self.numbers)[x.name]

    def values(self, ins: Sequence[In]) -> tuple[Any, ...]:
        return tuple(self.value(x) for x in ins)


def evaluate(
    wir: Wir,
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int] | None = None,
    slots: Mapping[int, Number] | None = None,
) -> dict[str, Array]:
    """Run every task of `wir` on `arrays` (by tensor name, written in place), and return the results by tensor name.

    Symbols are bound to `sizes`, slots begin with the values of `slots`, else 0. Temporaries and results begin as zeros.
    Raises BoundsError, ExecutionError or KernelError at the first equation that fails, in program order.
    """
    frame = _Frame(wir, {n: _zero(t) for n, t in slot_types(wir).items()} | dict(slots or {}))
    frame.numbers = {"$" + name: int((sizes or {})[name]) for name in wir.symbols}
    for v in wir.tensors:
        t = wir.tensor_type(v.name)
        want = tuple(d.value(frame.numbers) for d in t.shape)
        array = arrays[v.name] if t.role is Role.GIVEN else np.zeros(want, t.dtype.numpy)
        if array.shape != want:
            raise InternalError(f"{v.name} has shape {array.shape}, not {want}")
        frame.arrays[v.name] = array
    results = {v.name: frame.arrays[v.name] for v in wir.tensors if wir.tensor_type(v.name).role is Role.RESULT}
    final = _run(wir.body, frame)
    if final:
        # the pure form: what the names stood for in the end
        names = wir.body.eqns[-1].params["of"]
        assert isinstance(names, tuple)
        for name, value in zip(names, final, strict=True):
            {**arrays, **results}[str(name)][...] = value
    return results


def _zero(dtype: DType) -> Number:
    return {DType.F64: 0.0, DType.BOOL: False}.get(dtype, 0)


def _run(region: Region, frame: _Frame) -> tuple[Any, ...]:
    """The equations of a region, up to its `yield`; what that gives."""
    for eqn in region.eqns:
        if eqn.prim == "yield":
            return frame.values(eqn.ins)
        try:
            _step(eqn, frame)
        except PtoError as e:
            e.loc = e.loc or eqn.loc or here()
            raise
    return ()


def _step(eqn: Eqn, frame: _Frame) -> None:
    if PRIMITIVES[eqn.prim].dialect is Dialect.SCALAR:
        _scalar(eqn, frame)
        return
    reference = PRIMITIVES[eqn.prim].reference
    if reference is None:
        raise InternalError(f"{eqn.prim} has no reference")
    reference(eqn, frame)


def _bind_all(eqn: Eqn, frame: _Frame, values: Sequence[Any]) -> None:
    for v, value in zip(eqn.outs, values, strict=True):
        frame.bind(v, value)


def _inside(region: Region, frame: _Frame, values: Sequence[Any]) -> _Frame:
    inner = frame.inner()
    for v, value in zip(region.params, values, strict=True):
        inner.bind(v, value)
    return inner


def _scalar(eqn: Eqn, frame: _Frame) -> None:
    types = [value_type(x) for x in eqn.ins]
    dtypes = [t.dtype for t in types if isinstance(t, ScalarType)]
    frame.bind(eqn.outs[0], compute(eqn.prim, eqn.params, dtypes, frame.values(eqn.ins)))


def _loop(eqn: Eqn, frame: _Frame) -> None:
    axis = eqn.params["axis"]
    assert isinstance(axis, Axis)
    size = index_value(axis.size, frame.numbers)
    if size < 0:
        raise BoundsError("PTO511", f"{axis.name} has {size} elements", fix="extents are 0 or more")
    carried = frame.values(eqn.ins)
    for i in range(index_value(axis.extent, frame.numbers)):
        inner = _inside(eqn.regions[0], frame, (i, *carried))
        if any(_run(condition, inner.inner()) == (False,) for condition in eqn.regions[1:]):
            break
        carried = _run(eqn.regions[0], inner)
    _bind_all(eqn, frame, carried)


def _parts(eqn: Eqn, frame: _Frame) -> None:
    carried = frame.values(eqn.ins)
    for region in eqn.regions:
        carried = _run(region, _inside(region, frame, carried))
    _bind_all(eqn, frame, carried)


def _cond(eqn: Eqn, frame: _Frame) -> None:
    region = eqn.regions[0 if frame.value(eqn.ins[0]) else 1]
    _bind_all(eqn, frame, _run(region, _inside(region, frame, frame.values(eqn.ins[1:]))))


def _read(eqn: Eqn, frame: _Frame) -> None:
    view = eqn.ins[0]
    assert isinstance(view, View)
    out = eqn.outs[0].type
    assert isinstance(out, ScalarType)
    elements: list[Number] = [_number(x) for x in read_view(frame.arrays, view, frame.numbers).flat]
    frame.bind(eqn.outs[0], _reduce(eqn.prim, out.dtype, elements))


def _number(x: Any) -> Number:
    if x.dtype.kind == "b":
        return bool(x)
    return int(x) if x.dtype.kind in "iu" else float(x)


def _reduce(prim: str, dtype: DType, elements: Sequence[Number]) -> Number:
    match prim:
        case "item":
            return elements[0]
        case "reduce_any":
            return any(x != 0 for x in elements)
        case "reduce_all":
            return all(x != 0 for x in elements)
        case "reduce_sum":
            total = _zero(dtype)
            for x in elements:  # not sum(), which compensates
                total += x
            return total if dtype is DType.F64 else wrap(int(total), dtype)
        case _:
            if not elements:
                raise ExecutionError(
                    "PTO718", f"{prim} of no elements", fix="give it one, or ask for the length first: P.when(n > 0)"
                )
            sign = -1 if prim == "reduce_max" else 1
            best = sign * elements[0]
            for x in elements[1:]:
                best = smaller(best, sign * x)
            return sign * best


def _slot_get(eqn: Eqn, frame: _Frame) -> None:
    slot = eqn.params["slot"]
    assert isinstance(slot, int)
    frame.bind(eqn.outs[0], frame.slots[slot])


def _slot_set(eqn: Eqn, frame: _Frame) -> None:
    slot = eqn.params["slot"]
    assert isinstance(slot, int)
    frame.slots[slot] = frame.value(eqn.ins[0])


def _buffer(eqn: Eqn, frame: _Frame) -> None:
    """Whose memory it is makes no difference to what it holds between its first write and its last read."""


def _task(eqn: Eqn, frame: _Frame) -> None:
    kernel = frame.wir.kernel(str(eqn.params["kernel"]))
    written = written_by(eqn, kernel)
    arrays = frame.arrays
    if eqn.outs and isinstance(eqn.outs[0].type, TensorType):
        arrays = arrays | {name: arrays[name].copy() for name in written}
        _bind_all(eqn, frame, [arrays[name] for name in written])
    args: dict[str, Array] = {}
    for param, x in zip(kernel.params, eqn.ins, strict=True):
        if isinstance(x, View):
            args[param.name] = read_view(arrays, x, frame.numbers)
        else:
            args[param.name] = _scalar_argument(param, x, frame)
    run_kernel(kernel, args)
    for param, x in zip(kernel.params, eqn.ins, strict=True):
        if param.direction is not Direction.IN and isinstance(x, View):
            write_view(arrays, x, frame.numbers, args[param.name])


def _scalar_argument(param: KernelParam, x: In, frame: _Frame) -> Array:
    assert isinstance(param.type, ScalarType)
    value = frame.value(x)
    if isinstance(x, Literal) or isinstance(value, (float, bool)):
        return round_to(param.type.dtype, np.asarray(value))
    return round_integer(param.type.dtype, value)


for _name in LOOPS:
    PRIMITIVES[_name].def_reference(_loop)
for _name in (*PARTS, *SCOPES):
    PRIMITIVES[_name].def_reference(_parts)
for _name in READS:
    PRIMITIVES[_name].def_reference(_read)
for _name in BUFFERS:
    PRIMITIVES[_name].def_reference(_buffer)
PRIMITIVES["cond"].def_reference(_cond)
PRIMITIVES["slot_get"].def_reference(_slot_get)
PRIMITIVES["slot_set"].def_reference(_slot_set)
PRIMITIVES["task"].def_reference(_task)


def read_view(arrays: Mapping[str, Array], view: View, env: Mapping[str, int]) -> Array:
    """The elements of `view`: a numpy view of its tensor, or a copy where it gathers. Raises BoundsError."""
    array = arrays[view.tensor]
    rows = _elements(arrays, view, env)
    if any(isinstance(d, Gather) for d in view.dims):
        at = tuple(k for k, d in enumerate(view.dims) if isinstance(d, At))
        return array[np.ix_(*rows)].squeeze(at)
    index: list[int | slice] = []
    for d, r in zip(view.dims, rows, strict=True):
        assert isinstance(r, range)
        index.append(r.start if isinstance(d, At) else slice(r.start, r.stop))
    return np.asarray(array[tuple(index)])


def write_view(arrays: Mapping[str, Array], view: View, env: Mapping[str, int], value: Array) -> None:
    """Store `value` as the elements of `view`, in order: of an element that is named twice the last one stays."""
    if not any(isinstance(d, Gather) for d in view.dims):
        read_view(arrays, view, env)[...] = value
        return
    array, rows = arrays[view.tensor], _elements(arrays, view, env)
    for place, x in zip(itertools.product(*rows), value.flat, strict=True):
        array[place] = x


def _elements(arrays: Mapping[str, Array], view: View, env: Mapping[str, int]) -> list[range | list[int]]:
    """The indices that the view takes of each dimension, all of them checked."""
    dims = zip(view.dims, arrays[view.tensor].shape, strict=True)
    return [_indices(arrays, d, k, size, view, env) for k, (d, size) in enumerate(dims)]


def _indices(
    arrays: Mapping[str, Array], d: ViewDim, k: int, size: int, view: View, env: Mapping[str, int]
) -> range | list[int]:
    if isinstance(d, Gather):
        picked = [int(i) for i in read_view(arrays, d.index, env)]
        for i in picked:
            if not 0 <= i < size:
                raise _outside(f"index {i} of {d.index.tensor}", view, k, size)
        return picked
    if isinstance(d, At):
        first = index_value(d.index, env)
        last = first + 1
    elif isinstance(d, Slice):
        first = index_value(d.start, env)
        last = first + d.length
    elif isinstance(d, Span):
        first = index_value(d.start, env)
        last = first + index_value(d.length, env)
        if last < first:
            raise _outside(f"{last - first} elements", view, k, size)
    else:
        first = index_value(d.start, env)
        limit = index_value(d.limit, env)
        last = min(first + d.size, limit)
        if not first < limit <= size:
            raise _outside(f"a tile of {first} .. {last} of elements up to {limit}", view, k, size)
    if first < 0 or last > size:
        raise _outside(f"{first} .. {last}", view, k, size)
    return range(first, last)


def _outside(what: str, view: View, k: int, size: int) -> BoundsError:
    return BoundsError(
        "PTO163", f"{view.tensor}: {what} in dimension {k} of size {size}", fix="use indices inside the tensor"
    )


Observer = Callable[[Eqn, list[Array], Array | None], None]


def run_kernel(kernel: Kernel, args: Mapping[str, Array], observe: Observer | None = None) -> None:
    """One task: `args` are arrays of the valid shapes (written in place for outputs) and zero-dimensional scalars.

    `observe` is called after each operation: its operands, cut to the valid shape of the result, and the result (a store has none).
    """
    valid: dict[str, int] = {}
    for p in kernel.params:
        if isinstance(p.type, TileType):
            valid[f"{p.name}.rows"], valid[f"{p.name}.cols"] = args[p.name].shape
        elif isinstance(p.type, RegionType):
            valid |= {f"{p.name}.{k}": n for k, n in enumerate(args[p.name].shape)}
    _run_region(kernel.body, dict(args), valid, observe)


def _run_region(
    region: Region, values: dict[str, Any], valid: dict[str, int], observe: Observer | None
) -> tuple[Any, ...]:
    """The values that a region of a kernel yields. Tiles and scalars of their dtypes are arrays, other scalars numbers; those of
    i64 are extents too."""
    for eqn in region.eqns:
        if eqn.prim == "yield":
            return tuple(_operand(x, values) for x in eqn.ins)
        if eqn.prim in ("fori_loop", "branch"):
            given, of = _run_control(eqn, values, valid, observe)
            for v, x, value in zip(eqn.outs, of, given, strict=True):
                _carry(v, x, value, values, valid, observe)
            continue
        ins = _run_tile(eqn, values, valid)
        if observe is not None:
            observe(_with_numbers(eqn, valid), ins, np.asarray(values[eqn.outs[0].name]) if eqn.outs else None)
    return ()


def _with_numbers(eqn: Eqn, valid: Mapping[str, int]) -> Eqn:
    """With numbers in the place of extents that are named."""
    named = {k: valid[d] for k in ("vrows", "vcols", "of") if isinstance(d := eqn.params.get(k), str) and d in valid}
    return replace(eqn, params={**eqn.params, **named}) if named else eqn


def _carry(v: Var, x: In, value: Any, values: dict[str, Any], valid: dict[str, int], observe: Observer | None) -> None:
    """v becomes the value of x, that of another region; observed as an equation `carry`."""
    _bind_value(v, value, values, valid)
    if observe is not None:
        observe(Eqn("carry", (v,), (x,)), [np.asarray(value)], np.asarray(values[v.name]))


def _operand(x: In, values: Mapping[str, Any]) -> Any:
    if isinstance(x, Literal):
        return x.value
    assert isinstance(x, Var)
    return values[x.name]


def _bind_value(v: Var, value: Any, values: dict[str, Any], valid: dict[str, int]) -> None:
    if isinstance(v.type, TileType):
        rows, cols = (valid[d] if isinstance(d, str) else d for d in (v.type.vrows, v.type.vcols))
        value = value[:rows, :cols]  # a tile that is whole takes the place of a smaller one
    elif v.type == ScalarType(DType.I64):
        valid[v.name] = value
    values[v.name] = value


def _run_control(
    eqn: Eqn, values: dict[str, Any], valid: dict[str, int], observe: Observer | None
) -> tuple[Sequence[Any], Sequence[In]]:
    """What a loop or branch gives, and as what."""
    ins = [_operand(x, values) for x in eqn.ins]
    if eqn.prim == "branch":
        taken = eqn.regions[0 if ins[0] else 1]
        return _run_region(taken, dict(values), dict(valid), observe), taken.eqns[-1].ins
    lo, hi, *given = ins
    region, of = eqn.regions[0], eqn.ins[2:]
    if hi - lo > MOST_TRIPS:
        raise KernelError(
            "PTO733", f"fori_loop of {hi - lo} trips", values={"most": MOST_TRIPS}, loc=eqn.loc, fix="loop less often"
        )
    for i in range(lo, hi):
        inner, extents = dict(values), dict(valid)
        index, *carried = region.params
        _bind_value(index, i, inner, extents)
        for v, x, value in zip(carried, of, given, strict=True):
            _carry(v, x, value, inner, extents, observe)
        given = list(_run_region(region, inner, extents, observe))
        of = region.eqns[-1].ins
    return given, of


_PARTS = ("load_part", "restrict")


def _run_tile(eqn: Eqn, values: dict[str, Any], valid: dict[str, int]) -> list[Array]:
    """Run one operation; its operands, cut to the valid shape."""
    prim = PRIMITIVES[eqn.prim]
    if prim.dialect is Dialect.SCALAR:
        return _run_scalar(eqn, values, valid)
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
    ins = [np.asarray(_operand(x, values)) for x in eqn.ins]
    params: dict[str, Any] = dict(eqn.params)
    params |= {k: valid[params[k]] for k in ("vrows", "vcols", "of") if isinstance(params.get(k), str)}
    try:
        if typed.type is None:
            prim.reference(params, *ins)
            return ins
        if isinstance(typed.type, ScalarType):
            result = prim.reference(params, *ins)
            _bind_value(eqn.outs[0], _as_scalar(result, typed.type.dtype, eqn.prim), values, valid)
            return ins
        if eqn.prim in _PARTS:
            values[eqn.outs[0].name] = prim.reference(params, *ins)
            return ins
    except PtoError as e:
        e.loc = e.loc or eqn.loc
        raise
    out = typed.type
    shape = tuple(valid[d] if isinstance(d, str) else d for d in (out.vrows, out.vcols))
    clipped = [
        _clip_matmul(i, x, ins, eqn)
        if eqn.prim == "matmul" and i < 2
        else _clip(x, t, out, shape, prim.follows(dict(eqn.params), i))
        for i, (x, t) in enumerate(zip(ins, types, strict=True))
    ]
    wide = [x.astype(np.float64) if x.dtype.kind not in "iub" else x for x in clipped]
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(prim.reference(dict(eqn.params), *wide))
    except PtoError as e:
        e.loc = e.loc or eqn.loc
        raise
    rounded = round_to(out.dtype, result)
    values[eqn.outs[0].name] = rounded if eqn.prim in ("full", "iota", "broadcast") else np.broadcast_to(rounded, shape)
    return clipped


def _as_scalar(x: Any, dtype: DType, prim: str) -> Any:
    """A number, of an operation that gives 64 bits; `narrow` rounds to the dtype of tiles, and wraps."""
    if prim == "narrow":
        return round_to(dtype, np.asarray(x))
    x = np.asarray(x)
    if dtype is DType.BOOL:
        return bool(x)
    return float(x) if dtype is DType.F64 else int(x)


def _run_scalar(eqn: Eqn, values: dict[str, Any], valid: dict[str, int]) -> list[Array]:
    dtypes = [t.dtype for t in map(operand_type, eqn.ins) if isinstance(t, ScalarType)]
    ins = [_operand(x, values) for x in eqn.ins]
    try:
        number = compute(eqn.prim, eqn.params, dtypes, ins)
    except PtoError as e:
        e.loc = e.loc or eqn.loc
        raise
    _bind_value(eqn.outs[0], number, values, valid)
    return [np.asarray(x) for x in ins]


def _clip(x: Array, t: object, out: TileType, shape: tuple[int, ...], follows: tuple[bool, bool]) -> Array:
    """A tile that is defined everywhere takes the valid shape of what it is combined with."""
    if not isinstance(t, TileType):
        return x
    rows, cols = (
        n if follow and size == full else None
        for n, size, full, follow in zip(shape, t.shape, out.shape, follows, strict=True)
    )
    return x[:rows, :cols]


def _clip_matmul(i: int, x: Array, ins: list[Array], eqn: Eqn) -> Array:
    flags = [bool(eqn.params.get("transpose_a")), bool(eqn.params.get("transpose_b"))]
    axes = [0 if flags[0] else 1, 1 if flags[1] else 0]
    k = min(ins[0].shape[axes[0]], ins[1].shape[axes[1]])
    return x[:k] if axes[i] == 0 else x[:, :k]
