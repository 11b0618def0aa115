"""Workloads as functions of JAX arrays.

The state is what every tensor holds. A `P` loop whose iterations have parts of what is written to themselves is a `vmap`, every
other loop a `scan`, or a `fori_loop` where nobody knows how often it runs at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import (
    PRIMITIVES,
    Axis,
    Dialect,
    Direction,
    DType,
    Eqn,
    In,
    IndexType,
    Kernel,
    KernelParam,
    Literal,
    Region,
    RegionType,
    ScalarType,
    Span,
    TileType,
    Var,
    View,
    Wir,
)
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import LOOPS, PARTS, READS, SLOTS, slot_types, value_type, written_by
from pto_wsp_jax.lower import batching, control, numbers, turns, views
from pto_wsp_jax.lower.batching import Block, Ranges
from pto_wsp_jax.lower.kernel import KernelLowering, Memory
from pto_wsp_jax.lower.merged import merged
from pto_wsp_jax.lower.numbers import INF, Int, Number, high, raw
from pto_wsp_jax.lower.tiles import greatest, least, rounded
from pto_wsp_jax.lower.views import Part

Norm = Callable[[Expr], Expr]


def _as_it_is(e: Expr) -> Expr:
    return e


@dataclass
class Frame:
    """What equations name: numbers, tensors, slots. active: whether this counts, None where it always does; batched: inside of a `vmap`."""

    wir: Wir
    bounds: Mapping[str, int]
    numbers: dict[str, Number]
    parts: dict[str, Part]
    slots: dict[int, Number]
    active: Any = None
    batched: bool = False
    lanes: Mapping[str, int] = field(
        default_factory=dict[str, int]
    )  # loops that are batched, and how many iterations each has
    norm: Norm = field(default=_as_it_is)

    def inner(self, active: Any) -> Frame:
        """The same for a region inside."""
        new = replace(self, active=active)
        new.numbers, new.parts, new.slots = dict(self.numbers), dict(self.parts), dict(self.slots)
        return new

    @property
    def scope(self) -> views.Scope:
        return views.Scope(self.numbers, self.parts, self.norm, self.lanes)

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
                array = jnp.zeros([n.size for n in where if n.kept], part.array.dtype)
            else:
                array = _dropped(views.taken(part.array, where), where)
            kept = [n for n in where if n.kept]
            memory[p.name] = Memory.whole(array, tuple(n.valid for n in kept))
        else:
            memory[p.name] = (read_region if p.direction is Direction.IN else own_region)(part.array, x, where)
    after = KernelLowering(kernel, memory, scalars, frame.active, frame.batched).run()
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
    return Memory(array, tuple(n.start for n in where), valid, kept, tuple(n.lane for n in where))


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
        return [frame.parts[t].array for t in self.tensors] + of_slots

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


# loops


@dataclass(frozen=True)
class Loop:
    """A loop on its way to JAX: its variable, how many iterations there are at most and how many there are, and what it does."""

    name: str
    count: float
    trips: int | Int
    body: Region
    condition: Region | None
    parallel: bool


def loop(eqn: Eqn, frame: Frame) -> None:
    axis, (body, *condition) = eqn.params["axis"], eqn.regions
    assert isinstance(axis, Axis)
    name = body.params[0].name
    trips = numbers.maximum(frame.scope.integer(axis.extent), 0)
    if not isinstance(trips, int) and frame.active is not None:
        trips = Int(jnp.where(frame.active, trips.value, 0), 0, trips.high)
    changes = Changes.of([body], frame.wir)
    if trips == 0 or not (changes.tensors or changes.slots):
        return
    count = high(trips)
    if isinstance(trips, Int):
        of_body = Ranges(frame.numbers, body, frame.norm, {name: (0, INF)})
        most = batching.most_iterations(body, name, frame.parts, of_body)
        names = (axis.name, str(eqn.params["loop"]), "")  # the last one: of all loops
        given = next((frame.bounds[n] for n in names if n in frame.bounds), INF)
        count = min(count, most, given)
    if count == 0:
        return
    iterate(Loop(name, count, trips, body, condition[0] if condition else None, eqn.prim == "parallel_for"), frame)


def iterate(of: Loop, frame: Frame) -> None:
    if of.count == 1 and isinstance(of.trips, int):
        frame.numbers[of.name] = 0
        if of.condition is None:
            run(of.body, frame)
            return
    if of.parallel and of.condition is None and isinstance(of.trips, int):
        whole = merged(of.body, of.name, of.trips, frame.wir, frame.norm)
        if whole is not None:
            task(*whole, frame)
            return
    group = batching.group_of(of.body, of.name, frame.norm)
    if (
        group is not None
        and isinstance(of.trips, int)
        and of.condition is None
        and of.trips % group == 0
        and of.trips > group
    ):
        _by_groups(of, group, frame)
        return
    changes = Changes.of([of.body], frame.wir)
    blocks: dict[str, Block] = {}
    if of.count < INF:
        own = {of.name: (0, of.count - 1)}
        ranges = Ranges(frame.numbers, of.body, frame.norm, own)
        regions = [of.body] + ([of.condition] if of.condition is not None else [])
        used = [v for r in regions for v in batching.views_in(r)]
        tensors = sorted({v.tensor for v in used})
        regions_read = _regions_in(of.body, frame.wir)
        whole = {t for t in tensors if t in regions_read and t not in changes.tensors}
        blocks = batching.blocks_of(tensors, used, frame.parts, of.name, int(of.count), ranges, frame.norm, whole)
    if of.parallel and of.condition is None and not changes.slots and all(t in blocks for t in changes.tensors):
        _batched(of, blocks, changes, frame)
    else:
        _in_turn(of, blocks, changes, frame)


def _regions_in(body: Region, wir: Wir) -> set[str]:
    """The tensors that tasks take regions of."""
    tasks = [e for top in body.eqns for e in top.walk() if e.prim == "task"]
    pairs = [(p, x) for e in tasks for p, x in zip(wir.kernel(str(e.params["kernel"])).params, e.ins, strict=True)]
    return {x.tensor for p, x in pairs if isinstance(p.type, RegionType) and isinstance(x, View)}


def _by_groups(of: Loop, group: int, frame: Frame) -> None:
    """i = g * outer + inner: two loops, where floordiv(i, g) is the outer one's variable and mod(i, g) the inner one's."""
    outer, inner = f"{of.name}//{group}", f"{of.name}%{group}"
    before = frame.norm

    def norm(e: Expr) -> Expr:
        return batching.grouped(before(e), of.name, group, var(outer), var(inner))

    assert isinstance(of.trips, int)
    count = of.trips // group
    prim = "parallel_for" if of.parallel else "seq_for"
    axis = Axis("Range", inner, Expr(group))
    body = Region((Var(inner, IndexType()),), of.body.eqns)
    region = Region((), (Eqn(prim, params={"axis": axis, "loop": inner}, regions=(body,)),))
    frame.norm = norm
    iterate(replace(of, name=outer, count=count, trips=count, body=region), frame)
    frame.norm = before


def _batched(of: Loop, blocks: Mapping[str, Block], changes: Changes, frame: Frame) -> None:
    """All iterations at once, or as many as are worth it."""
    count = int(of.count)
    names = list(blocks)
    split = [blocks[t].split(frame.parts[t].array, count) for t in names]
    ranges = Ranges(frame.numbers, of.body, frame.norm, {of.name: (0, count - 1)})
    size = turns.at_once(of.body, of.name, count, frame.wir, ranges, math.prod(frame.lanes.values()))

    def one(i: Any, *arrays: Any) -> list[Any]:
        active = frame.active
        if isinstance(of.trips, Int):
            active = control.both(active, i < of.trips.value)
        inner = frame.inner(active)
        if size > 1:
            inner.batched = True
        if size == count:
            inner.lanes = {**frame.lanes, of.name: count}
        _enter(of, i, names, arrays, blocks, frame, inner)
        run(of.body, inner)
        return [inner.parts[t].array for t in changes.tensors]

    def turn(x: tuple[Any, ...]) -> list[Any]:
        return one(*x)

    dims, to = [blocks[t].dim for t in names], [blocks[t].dim for t in changes.tensors]
    if size == count:
        outs = jax.vmap(one, in_axes=(0, *dims), out_axes=to)(jnp.arange(count), *split)
    else:
        each = [jnp.moveaxis(x, k, 0) for x, k in zip(split, dims, strict=True)]
        ys = jax.lax.map(turn, (jnp.arange(count), *each), batch_size=size if size > 1 else None)
        outs = [jnp.moveaxis(y, 0, k) for y, k in zip(ys, to, strict=True)]
    for t, x in zip(changes.tensors, outs, strict=True):
        frame.parts[t] = frame.parts[t].holding(blocks[t].joined(x, frame.parts[t].array))


def _enter(
    of: Loop,
    i: Any,
    names: Sequence[str],
    arrays: Sequence[Any],
    blocks: Mapping[str, Block],
    frame: Frame,
    inner: Frame,
) -> None:
    """The variable of an iteration, and the blocks that it has."""
    inner.numbers[of.name] = numbers.integer(i, 0, of.count - 1)
    for t, x in zip(names, arrays, strict=True):
        part = frame.parts[t]
        inner.parts[t] = replace(part, array=x, base=blocks[t].base(part, of.name))


def _in_turn(of: Loop, blocks: Mapping[str, Block], changes: Changes, frame: Frame) -> None:
    """One iteration after another."""
    scanned = list(blocks)
    carried = Changes(tuple(t for t in changes.tensors if t not in blocks), changes.slots)
    given = [t for t in changes.tensors if t in blocks]

    def body(i: Any, state: Sequence[Any], xs: Sequence[Any], active: Any) -> tuple[list[Any], list[Any]]:
        inner = frame.inner(active)
        carried.put(inner, state)
        _enter(of, i, scanned, xs, blocks, frame, inner)
        run(of.body, inner)
        return _alike(carried.of_frame(inner), state), [inner.parts[t].array for t in given]

    def goes_on(i: Any, state: Sequence[Any], xs: Sequence[Any], active: Any) -> Any:
        """Whether the condition of the loop holds."""
        assert of.condition is not None
        inner = frame.inner(active)
        carried.put(inner, state)
        _enter(of, i, scanned, xs, blocks, frame, inner)
        (last,) = run(of.condition, inner)
        return jnp.asarray(raw(inner.value(last)), bool)

    init = carried.of_frame(frame)
    if of.count == INF:
        _while(of, body, goes_on, init, carried, frame)
        return
    count = int(of.count)
    always = isinstance(of.trips, int) and of.condition is None

    def turn(carry: tuple[Any, list[Any]], x: tuple[Any, list[Any]]) -> Any:
        (alive, state), (i, xs) = carry, x
        if always:
            state, ys = body(i, state, xs, frame.active)
            return (alive, state), ys
        on = alive & (i < raw(of.trips))
        if of.condition is not None:
            on = on & goes_on(i, state, xs, control.both(frame.active, on) if frame.batched else frame.active)
            alive = on
        same = [xs[scanned.index(t)] for t in given]
        if frame.batched:
            inside = control.both(frame.active, on)
            new, ys = body(i, state, xs, inside)
            return (alive, new), ys  # what does not count has stored nothing
        state, ys = jax.lax.cond(on, lambda: body(i, state, xs, frame.active), lambda: (list(state), same))
        return (alive, state), ys

    split = [jnp.moveaxis(blocks[t].split(frame.parts[t].array, count), blocks[t].dim, 0) for t in scanned]
    (_, state), ys = jax.lax.scan(turn, (jnp.ones((), bool), init), (jnp.arange(count), split))
    carried.put(frame, state)
    for t, y in zip(given, ys, strict=True):
        frame.parts[t] = frame.parts[t].holding(
            blocks[t].joined(jnp.moveaxis(y, 0, blocks[t].dim), frame.parts[t].array)
        )


def _alike(new: Sequence[Any], old: Sequence[Any]) -> list[Any]:
    return [x.astype(y.dtype) for x, y in zip(new, old, strict=True)]


def _while(of: Loop, body: Any, goes_on: Any, init: list[Any], carried: Changes, frame: Frame) -> None:
    """As often as it takes: nobody knows how often at most."""

    def on(carry: Any) -> Any:
        i, state = carry
        inside = i < raw(of.trips)
        return inside if of.condition is None else inside & goes_on(i, state, (), frame.active)

    def turn(carry: Any) -> Any:
        i, state = carry
        return i + 1, body(i, state, (), frame.active)[0]

    _, state = jax.lax.while_loop(on, turn, (jnp.asarray(0), init))
    carried.put(frame, state)
