"""Loops of workloads over JAX values: all iterations at once, some at a time, or one after another.

A `P` loop whose iterations have parts of what is written to themselves is a `vmap`, every other loop a `scan`, or a `fori_loop` where nobody
knows how often it runs at most. A loop that decides what processes inside of it do is unrolled: those run while JAX traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from pto_wsp.errors import Location
from pto_wsp.ir.core import At, Axis, Eqn, IndexType, Region, RegionType, Var, View, Wir
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.processes import ENDS
from pto_wsp.ir.tasks import LOOPS, used_names
from pto_wsp_jax.lower import batching, control, numbers, turns, views
from pto_wsp_jax.lower.batching import Block, Ranges
from pto_wsp_jax.lower.forward import forward_alone
from pto_wsp_jax.lower.kernel import padded_for
from pto_wsp_jax.lower.merged import merged
from pto_wsp_jax.lower.numbers import INF, Int, high, raw
from pto_wsp_jax.lower.views import Batch, Part
from pto_wsp_jax.lower.workload import Changes, Frame, run, task
from pto_wsp_jax.varying import varying


@dataclass(frozen=True)
class Loop:
    """A loop on its way to JAX: its variable, how many iterations there are at most and how many there are, and what it does."""

    name: str
    count: float
    trips: int | Int
    body: Region
    condition: Region | None
    parallel: bool
    label: str  # by which a user knows it
    loc: Location | None


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
    label, parallel = str(eqn.params["loop"]), eqn.prim == "parallel_for"
    iterate(Loop(name, count, trips, body, condition[0] if condition else None, parallel, label, eqn.loc), frame)


MOST_UNROLLED = 1024
"""Iterations that decide how often processes inside of them send."""


def iterate(of: Loop, frame: Frame) -> None:
    if of.count == 1 and isinstance(of.trips, int):
        frame.numbers[of.name] = 0
        if of.condition is None:
            run(of.body, frame)
            return
    if of.condition is None and isinstance(of.trips, int) and of.trips <= MOST_UNROLLED and _steers(of.body, of.name):
        for i in range(of.trips):
            frame.numbers[of.name] = i
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
    left: set[str] = set()
    if of.count < INF:
        own = {of.name: (0, of.count - 1)}
        ranges = Ranges(frame.numbers, of.body, frame.norm, own)
        regions = [of.body] + ([of.condition] if of.condition is not None else [])
        used = [v for r in regions for v in batching.views_in(r)]
        tensors = sorted({v.tensor for v in used})
        regions_read = _regions_in(of.body, frame.wir)
        in_place = {t for t in tensors if t in regions_read and t not in changes.tensors}
        blocks = batching.blocks_of(tensors, used, frame.parts, of.name, int(of.count), ranges, frame.norm, in_place)
        left = {t for t in in_place if t in blocks and _side_by_side(of, blocks[t], t, used, frame)}
    if of.parallel and of.condition is None and not changes.slots and all(t in blocks for t in changes.tensors):
        _batched(of, {t: b for t, b in blocks.items() if t not in left}, left, changes, frame)
    else:
        _in_turn(of, blocks, changes, frame)


def _steers(body: Region, name: str) -> bool:
    """Whether a loop's variable decides how often processes inside of its body do something, or what numbers they hand on."""
    known, eqns = {name}, [e for top in body.eqns for e in top.walk()]
    for e in eqns:
        if not known.isdisjoint(used_names(e)):
            known |= {v.name for v in e.outs}
    inside = [x for e in eqns if e.prim == "pipeline" for x in e.walk()]
    return any(not known.isdisjoint(_deciding(e)) for e in inside)


def _deciding(eqn: Eqn) -> frozenset[str]:
    """What says how often or whether an equation of a process does something; of a token the numbers that are computed for it."""
    if eqn.prim in LOOPS:
        axis = eqn.params["axis"]
        assert isinstance(axis, Axis)
        return axis.size.names()
    if eqn.prim == "cond":
        return used_names(replace(eqn, ins=eqn.ins[:1]))
    values = eqn.ins[1:] if eqn.prim in ENDS else ()
    return frozenset(
        n for x in values if isinstance(x, Expr) and all(x != var(n) for n in x.names()) for n in x.names()
    )


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


def _side_by_side(of: Loop, block: Block, tensor: str, views_: Sequence[View], frame: Frame) -> bool:
    """Whether what iterations at once take of a tensor is one slice of it: then it may stay where it is, and no block of it is copied."""
    part, count = frame.parts[tensor], int(of.count)
    batches = {**frame.batches, of.name: Batch(None, count, 0, count)}
    scope = views.Scope(frame.numbers, frame.parts, frame.norm, batches)
    dims = [v.dims[block.dim] for v in views_ if v.tensor == tensor]
    return all(
        isinstance(d, At) and scope.lanes(d.index - part.base[block.dim], 1, part.array.shape[block.dim]) is not None
        for d in dims
    )


def _batched(of: Loop, blocks: Mapping[str, Block], left: Collection[str], changes: Changes, frame: Frame) -> None:
    """All iterations at once, or as many as are worth it. left: tensors of which they take regions where those are."""
    count = int(of.count)
    names = list(blocks)
    split = [blocks[t].split(frame.parts[t].array, count) for t in names]
    whole = {t: _padded(of.body, t, frame) for t in left}
    ranges = Ranges(frame.numbers, of.body, frame.norm, {of.name: (0, count - 1)})
    around = math.prod(b.count for b in frame.batches.values())
    size = turns.at_once(of.body, of.name, count, frame.wir, ranges, around)

    def one(first: Any, number: Any, *arrays: Any) -> list[Any]:
        i = first + number
        active = frame.active
        if isinstance(of.trips, Int):
            active = control.both(active, i < of.trips.value)
        inner = frame.inner(active)
        if size > 1:
            inner.batched = True
            inner.batches = {**frame.batches, of.name: Batch(number, size, first, count)}
        inner.parts |= whole
        _enter(of, i, names, arrays, blocks, frame, inner)
        run(of.body, inner)
        return [inner.parts[t].array for t in changes.tensors]

    dims, to = [blocks[t].dim for t in names], [blocks[t].dim for t in changes.tensors]
    if size == count:
        outs = jax.vmap(one, in_axes=(None, 0, *dims), out_axes=to)(0, jnp.arange(count), *split)
    else:
        outs = _by_turns(one, [jnp.moveaxis(x, k, 0) for x, k in zip(split, dims, strict=True)], count, size)
        outs = [jnp.moveaxis(y, 0, k) for y, k in zip(outs, to, strict=True)]
    for t, x in zip(changes.tensors, outs, strict=True):
        frame.parts[t] = frame.parts[t].holding(blocks[t].joined(x, frame.parts[t].array))


def _by_turns(one: Callable[..., list[Any]], arrays: Sequence[Any], count: int, size: int) -> list[Any]:
    """`size` iterations at a time, then what is left."""
    turns_, rest = divmod(count, size)

    def turn(x: tuple[Any, Sequence[Any]]) -> list[Any]:
        return at_once(*x)

    def at_once(first: Any, some: Sequence[Any]) -> list[Any]:
        if size == 1:
            return [x[None] for x in one(first, 0, *(x[0] for x in some))]
        return jax.vmap(one, in_axes=(None, 0, *(0 for _ in some)))(first, jnp.arange(len(some[0])), *some)

    whole = [x[: turns_ * size].reshape(turns_, size, *x.shape[1:]) for x in arrays]
    outs = jax.lax.map(turn, (jnp.arange(turns_) * size, whole))
    outs = [y.reshape(turns_ * size, *y.shape[2:]) for y in outs]
    if rest == 0:
        return outs
    last = at_once(turns_ * size, [x[turns_ * size :] for x in arrays])
    return [jnp.concatenate(pair) for pair in zip(outs, last, strict=True)]


def _padded(body: Region, tensor: str, frame: Frame) -> Part:
    """A tensor with zeros behind its end, as tasks load tiles of it: once, and not in each turn."""
    part = frame.parts[tensor]
    for eqn in (e for top in body.eqns for e in top.walk() if e.prim == "task"):
        kernel = frame.wir.kernel(str(eqn.params["kernel"]))
        for p, x in zip(kernel.params, eqn.ins, strict=True):
            if isinstance(x, View) and x.tensor == tensor and isinstance(p.type, RegionType):
                kept = [k for k, d in enumerate(x.dims) if not isinstance(d, At)]
                part = part.holding(padded_for(kernel, p.name, part.array, kept))
    return part


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
    (_, state), ys = jax.lax.scan(turn, (varying(jnp.ones((), bool), frame.axes), init), (jnp.arange(count), split))
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
    what = f"loop {of.label} of workload {frame.wir.name}"
    carried.put(
        frame, forward_alone(state, what, f'give the most: lower_to_jax(..., bound={{"{of.label}": 64}})', of.loc)
    )
