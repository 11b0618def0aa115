"""Workloads as functions of JAX arrays.

The state is what every tensor holds, and what slots hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import (
    PRIMITIVES,
    Dialect,
    Direction,
    DType,
    Eqn,
    In,
    Kernel,
    KernelParam,
    Literal,
    Region,
    ScalarType,
    Span,
    TileType,
    Var,
    View,
    Wir,
)
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import LOOPS, PARTS, READS, SLOTS, slot_types, value_type, written_by
from pto_wsp_jax.lower import control, numbers, views
from pto_wsp_jax.lower.kernel import KernelLowering, Memory
from pto_wsp_jax.lower.numbers import INF, Int, Number, raw
from pto_wsp_jax.lower.tiles import greatest, least, rounded
from pto_wsp_jax.lower.views import Part
from pto_wsp_jax.varying import Axes, varying

Norm = Callable[[Expr], Expr]


def _as_it_is(e: Expr) -> Expr:
    return e


@dataclass
class Frame:
    """What equations name: numbers, tensors, slots. axes: those of a mesh over which all tensors vary; active: whether this counts, None where it
    always does; batched: inside of a `vmap`."""

    wir: Wir
    bounds: Mapping[str, int]
    numbers: dict[str, Number]
    parts: dict[str, Part]
    slots: dict[int, Number]
    axes: Axes = frozenset()
    active: Any = None
    batched: bool = False
    batches: Mapping[str, views.Batch] = field(
        default_factory=dict[str, views.Batch]
    )  # of loops around, the outermost first
    norm: Norm = field(default=_as_it_is)

    def inner(self, active: Any) -> Frame:
        """The same for a region inside."""
        new = replace(self, active=active)
        new.numbers, new.parts, new.slots = dict(self.numbers), dict(self.parts), dict(self.slots)
        return new

    @property
    def scope(self) -> views.Scope:
        return views.Scope(self.numbers, self.parts, self.norm, self.batches)

    def value(self, x: In) -> Number:
        if isinstance(x, Expr):
            return self.scope.integer(x)
        return x.value if isinstance(x, Literal) else self.numbers[x.name]  # type: ignore[union-attr]

    def bind(self, v: Var, value: Number) -> None:
        t = v.type
        integer = isinstance(t, ScalarType) and t.dtype in (DType.I64, DType.U64)
        self.numbers[v.name] = Int(value) if integer and not isinstance(value, (int, Int)) else value


def run(region: Region, frame: Frame) -> tuple[In, ...]:
    """The equations of a region, up to its `yield`; what that gives."""
    for eqn in region.eqns:
        if eqn.prim == "yield":
            return eqn.ins
        step(eqn, frame)
    return ()


def step(eqn: Eqn, frame: Frame) -> None:
    if PRIMITIVES[eqn.prim].dialect is Dialect.SCALAR:
        dtypes = [t.dtype for t in map(value_type, eqn.ins) if isinstance(t, ScalarType)]
        frame.bind(eqn.outs[0], numbers.scalar_op(eqn.prim, eqn.params, dtypes, [frame.value(x) for x in eqn.ins]))
    elif eqn.prim in LOOPS:
        from pto_wsp_jax.lower.loops import loop

        loop(eqn, frame)
    elif eqn.prim in PARTS or eqn.prim in SCOPES:
        for region in eqn.regions:
            run(region, frame)
    elif eqn.prim == "cond":
        cond(eqn, frame)
    elif eqn.prim in READS:
        frame.bind(eqn.outs[0], read(eqn, frame))
    elif eqn.prim in SLOTS:
        slot(eqn, frame)
    elif eqn.prim == "task":
        task(eqn, frame.wir.kernel(str(eqn.params["kernel"])), frame)
    elif eqn.prim == "pipeline":
        from pto_wsp_jax.lower.pipelines import pipeline

        pipeline(eqn, frame)
    else:
        raise UnsupportedError(
            *("PTO885", f"{eqn.prim} of workload {frame.wir.name} has no form in JAX"),
            loc=eqn.loc or here(),
            fix="run the workload by as_jax",
        )


# tasks


def task(eqn: Eqn, kernel: Kernel, frame: Frame) -> None:
    scope = frame.scope
    memory: dict[str, Memory] = {}
    scalars: dict[str, Any] = {}
    at: dict[str, list[views.Place]] = {}
    for p, x in zip(kernel.params, eqn.ins, strict=True):
        if not isinstance(x, View):
            scalars[p.name] = scalar_argument(p, x, frame)
            continue
        at[p.name] = where = views.places(x, scope)
        part = frame.parts[x.tensor]
        if isinstance(p.type, TileType):
            if p.direction is Direction.OUT:
                array = varying(jnp.zeros([n.size for n in where if n.kept], part.array.dtype), frame.axes)
            else:
                array = _dropped(views.taken(part.array, where), where)
            kept = [n for n in where if n.kept]
            memory[p.name] = Memory.whole(array, tuple(n.valid for n in kept))
        else:
            memory[p.name] = (read_region if p.direction is Direction.IN else own_region)(part.array, x, where)
    after = KernelLowering(kernel, memory, scalars, frame.active, frame.batched, frame.axes).run()
    for p, x in zip(kernel.params, eqn.ins, strict=True):
        if p.direction is Direction.IN or not isinstance(x, View):
            continue
        where = at[p.name]
        if any(isinstance(d, Span) for d in x.dims):
            where = [
                replace(n, start=0, valid=n.size, inside=True) if isinstance(d, Span) else n
                for d, n in zip(x.dims, where, strict=True)
            ]
        frame.parts[x.tensor] = views.written(frame.parts[x.tensor], where, after[p.name].array, frame.active)


def _dropped(array: jax.Array, where: Sequence[views.Place]) -> jax.Array:
    return jax.lax.squeeze(array, tuple(k for k, n in enumerate(where) if not n.kept))


def read_region(array: jax.Array, view: View, where: Sequence[views.Place]) -> Memory:
    """A region that is only read is where it is: nothing is copied."""
    kept = tuple(k for k, n in enumerate(where) if n.kept)
    valid = tuple(where[k].valid for k in kept)
    return Memory(array, tuple(n.start for n in where), valid, kept, tuple(n.lanes for n in where))


def own_region(array: jax.Array, view: View, where: Sequence[views.Place]) -> Memory:
    """A region that is written is a part of its own; of a length that is known at the task the whole dimension, from an offset on."""
    spans = [isinstance(d, Span) for d in view.dims]
    at = [replace(n, start=0, inside=True) if s else n for s, n in zip(spans, where, strict=True)]
    starts = tuple(n.start if s else 0 for s, n in zip(spans, where, strict=True) if n.kept)
    part = _dropped(views.taken(array, at), at)
    return Memory(part, starts, tuple(n.valid for n in where if n.kept), tuple(range(part.ndim)))


def scalar_argument(p: KernelParam, x: In, frame: Frame) -> Any:
    assert isinstance(p.type, ScalarType)
    dtype, value = p.type.dtype, frame.value(x)
    if dtype is DType.BOOL:
        return value if isinstance(value, bool) else raw(value) != 0
    if dtype.is_float:
        if isinstance(x, Literal):
            return x.value
        return rounded(jnp.asarray(raw(value), numbers.traced_dtype(DType.F64)), dtype)
    return value


# reads


def read(eqn: Eqn, frame: Frame) -> Number:
    view, out = eqn.ins[0], eqn.outs[0].type
    assert isinstance(view, View) and isinstance(out, ScalarType)
    part = frame.parts[view.tensor]
    if eqn.prim == "item":
        x, _ = views.read(view, frame.scope)
        return _number(x, out.dtype, part)
    where = views.places(view, frame.scope)
    spans = [isinstance(d, Span) for d in view.dims]
    x = views.taken(
        part.array, [replace(n, start=0, inside=True) if s else n for s, n in zip(spans, where, strict=True)]
    )
    mask = jnp.ones((), bool)
    for k, (n, s) in enumerate(zip(where, spans, strict=True)):
        place = jnp.arange(n.size) - (raw(n.start) if s else 0)
        shape = [n.size if i == k else 1 for i in range(x.ndim)]
        mask = mask & ((place >= 0) & (place < raw(n.valid))).reshape(shape)
    return _reduced(eqn.prim, x, jnp.broadcast_to(mask, x.shape), out.dtype)


def _number(x: Any, dtype: DType, part: Part) -> Number:
    x = x.astype(numbers.traced_dtype(dtype))
    if dtype is DType.BOOL or dtype is DType.F64:
        return x
    least, most = part.limits
    return numbers.integer(x, max(least, 0) if dtype is DType.U64 else least, most)


def _reduced(prim: str, x: Any, mask: Any, dtype: DType) -> Number:
    if prim == "reduce_any":
        return ((x != 0) & mask).any()
    if prim == "reduce_all":
        return ((x != 0) | ~mask).all()
    x = x.astype(numbers.traced_dtype(dtype))
    floating = dtype is DType.F64
    if prim == "reduce_sum":
        out = jnp.where(mask, x, 0).sum()
    elif prim == "reduce_max":
        out = jnp.where(mask, x, least(x.dtype)).max()
    else:
        out = jnp.where(mask, x, greatest(x.dtype)).min()
    return out if floating else Int(out, 0 if dtype is DType.U64 else -INF)


# slots


def slot(eqn: Eqn, frame: Frame) -> None:
    number = eqn.params["slot"]
    assert isinstance(number, int)
    if eqn.prim == "slot_get":
        frame.bind(eqn.outs[0], frame.slots[number])
        return
    new, old = frame.value(eqn.ins[0]), frame.slots[number]
    if frame.active is None:
        frame.slots[number] = new
    else:
        frame.slots[number] = _slot(frame, number, jnp.where(frame.active, raw(new), raw(old)))


def _slot(frame: Frame, number: int, x: Any) -> Number:
    dtype = slot_types(frame.wir)[number]
    x = jnp.asarray(x, numbers.traced_dtype(dtype))
    return Int(x) if dtype in (DType.I64, DType.U64) else x


# what regions change


@dataclass(frozen=True)
class Changes:
    """The tensors that regions write, and the slots that they set, in order."""

    tensors: tuple[str, ...]
    slots: tuple[int, ...]

    @staticmethod
    def of(regions: Sequence[Region], wir: Wir) -> Changes:
        tensors: set[str] = set()
        slots: set[int] = set()
        for eqn in (e for r in regions for top in r.eqns for e in top.walk()):
            if eqn.prim == "task":
                tensors |= set(written_by(eqn, wir.kernel(str(eqn.params["kernel"]))))
            elif eqn.prim == "slot_set":
                slots.add(int(eqn.params["slot"]))  # type: ignore[arg-type]
        return Changes(tuple(sorted(tensors)), tuple(sorted(slots)))

    def of_frame(self, frame: Frame) -> list[Any]:
        dtypes = slot_types(frame.wir)
        of_slots = [jnp.asarray(raw(frame.slots[s]), numbers.traced_dtype(dtypes[s])) for s in self.slots]
        return [frame.parts[t].array for t in self.tensors] + [varying(x, frame.axes) for x in of_slots]

    def put(self, frame: Frame, values: Sequence[Any]) -> None:
        for t, x in zip(self.tensors, values, strict=False):
            frame.parts[t] = frame.parts[t].holding(x)
        for s, x in zip(self.slots, values[len(self.tensors) :], strict=True):
            frame.slots[s] = _slot(frame, s, x)


def cond(eqn: Eqn, frame: Frame) -> None:
    c = frame.value(eqn.ins[0])
    if isinstance(c, bool):
        run(eqn.regions[0 if c else 1], frame)
        return
    changes = Changes.of(eqn.regions, frame.wir)
    if frame.batched:
        for region, on in zip(eqn.regions, (raw(c), jnp.logical_not(raw(c))), strict=True):
            inner = frame.inner(control.both(frame.active, on))
            run(region, inner)
            changes.put(frame, changes.of_frame(inner))
        return

    def side(region: Region) -> Callable[[Any], list[Any]]:
        def go(active: Any) -> list[Any]:
            inner = frame.inner(active)
            run(region, inner)
            return changes.of_frame(inner)

        return go

    then, otherwise = map(side, eqn.regions)
    changes.put(frame, control.branch(c, then, otherwise, frame.active, batched=False))
