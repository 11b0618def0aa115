"""Workloads on meshes drawn at random, what they mean for whole arrays, and what each device does, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import Any

import numpy as np

from pto_wsp import (
    DType,
    In,
    InOut,
    LayoutIncompatibleError,
    Mesh,
    Out,
    P,
    Scalar,
    Tensor,
    TensorLayout,
    TensorReplicate,
    TensorShard,
    TensorSpec,
    TraceError,
    TypeCheckError,
    allgather,
    allreduce,
    empty,
    empty_like,
    item,
    kernel,
    pto,
    reduce_scatter,
    relayout,
    tensor_layout_join,
    workload,
)
from pto_wsp.api.workload import Workload
from pto_wsp.ir.collectives import operands, reduced_axes
from pto_wsp.ir.core import Eqn, Role, TensorType, Wir
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.passes.segments import segments

Array = np.ndarray[Any, Any]
Device = tuple[int, ...]
FOLD = {"sum": np.add, "max": np.maximum, "min": np.minimum}


@kernel
def tripled(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x * 3 + 1)


@kernel
def added(x: In[Tensor], y: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + y)


@kernel
def columns(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.colsum(x))


@kernel
def largest(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rowmax(x))


# what devices have


def part(whole: Array, layout: TensorLayout, device: Mapping[str, int]) -> Array:
    """What a device has of an array."""
    for d, x in enumerate(layout.dims):
        for a in x.axes:
            whole = np.split(whole, layout.mesh.shape[a], axis=d)[device[a]]
    return whole


def assembled(parts: Mapping[Device, Array], layout: TensorLayout, fixed: Mapping[str, int]) -> Array:
    """The whole array of devices' parts, of those with the `fixed` coordinates. Replicas must be equal."""
    mesh = list(layout.mesh.shape)
    first = next(iter(parts.values()))
    whole = np.zeros(layout.global_shape(first.shape), first.dtype)
    seen = np.zeros(whole.shape, bool)
    for coords, x in parts.items():
        device = dict(zip(mesh, coords, strict=True))
        if any(device[a] != n for a, n in fixed.items()):
            continue
        here, known = part(whole, layout, device), part(seen, layout, device)
        assert not known.any() or (known.all() and np.array_equal(here, x, equal_nan=x.dtype.kind == "f"))
        here[...], known[...] = x, True
    assert seen.all()
    return whole


def on_devices(wir: Wir, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """What arguments and results hold when every device has run the reference evaluator on its parts, step by step."""
    mesh = wir.mesh
    assert mesh is not None
    types = {v.name: wir.tensor_type(v.name) for v in wir.tensors}
    devices = list(product(*(range(n) for n in mesh.shape.values())))
    env: dict[str, dict[Device, Array]] = {}
    for n, t in types.items():
        for coords in devices:
            device = dict(zip(mesh.shape, coords, strict=True))
            shape = [d.const for d in t.shape]
            given = (
                part(arrays[n], t.layout, device).copy()
                if t.role is Role.GIVEN and t.layout
                else arrays[n].copy()
                if t.role is Role.GIVEN
                else np.zeros(shape, t.dtype.numpy)
            )
            env.setdefault(n, {})[coords] = given
    for step in segments(wir):
        if isinstance(step, Eqn):
            source, target = (x.name for x in operands(step))
            env[target] = exchanged(step, env[source], types[source], types[target])
            continue
        for coords in devices:
            evaluate(
                step, {v.name: env[v.name][coords] for v in step.tensors if step.tensor_type(v.name).role is Role.GIVEN}
            )
    whole = {n: t for n, t in types.items() if t.role is not Role.TEMPORARY}
    return {
        n: assembled(env[n], t.layout or TensorLayout(mesh, *(TensorReplicate() for _ in t.shape)), {})
        for n, t in whole.items()
    }


def exchanged(eqn: Eqn, parts: Mapping[Device, Array], source: TensorType, target: TensorType) -> dict[Device, Array]:
    """What devices have after a collective: whole arrays for each place along the pending axes, reduced, and cut again."""
    before, after = source.layout, target.layout
    assert before is not None and after is not None
    axes = list(before.pending)
    places = list(product(*(range(before.mesh.shape[a]) for a in axes)))
    whole = {p: assembled(parts, before, dict(zip(axes, p, strict=True))) for p in places}
    over = (
        reduced_axes(eqn) if eqn.prim == "allreduce" else (eqn.params["axis"],) if eqn.prim == "reduce_scatter" else ()
    )
    for a in over:
        k, fold = axes.index(str(a)), FOLD[before.pending[str(a)]]
        reduced: dict[Device, Array] = {}
        for p, x in whole.items():
            q = (*p[:k], *p[k + 1 :])
            reduced[q] = fold(reduced[q], x) if q in reduced else x
        whole, axes = reduced, [b for b in axes if b != a]
    out: dict[Device, Array] = {}
    for coords in parts:
        device = dict(zip(before.mesh.shape, coords, strict=True))
        out[coords] = part(whole[tuple(device[a] for a in axes)], after, device).copy()
    return out


# random workloads


@dataclass
class Drawn:
    """A workload, its whole arguments, and what its results must be."""

    workload: Workload
    arrays: dict[str, Array]
    results: list[Array] = field(default_factory=list[Array])
    steps: list[str] = field(default_factory=list[str])


def layouts(mesh: Mesh, rank: int, rng: Random, free: Sequence[str] | None = None) -> TensorLayout:
    """Any layout of these axes, without reductions."""
    dims: list[list[str]] = [[] for _ in range(rank)]
    for a in rng.sample(names := list(mesh.shape if free is None else free), len(names)):
        if rng.random() < 0.7:
            rng.choice(dims).append(a)
    return TensorLayout(mesh, *(TensorShard(*d) if d else TensorReplicate() for d in dims))


@kernel
def larger(x: In[Tensor], y: InOut[Tensor]):
    pto.store(y, pto.maximum(y, x))


@kernel
def grown(x: In[Tensor], y: InOut[Tensor]):
    pto.store(y, y + x)


@kernel
def shifted(s: Scalar[DType.I32], x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + s)


@kernel
def same(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x)


def draw_local(seed: int) -> tuple[Workload, dict[str, Array]] | None:
    """A workload of tasks on tensors of 4 x 4 elements on each device, of any layouts, in loops and branches that elements decide, and its arguments; None
    where its types are wrong."""
    rng = Random(seed)
    mesh = Mesh(**dict(zip("ab", rng.choice([(2,), (3,), (2, 2), (2, 1)]), strict=False)))

    def layout(*, pending: bool) -> TensorLayout:
        dims: list[list[str]] = [[], []]
        late: dict[str, str] = {}
        for a in mesh.shape:
            if (chance := rng.random()) < 0.35:
                rng.choice(dims).append(a)
            elif chance < 0.5 and pending:
                late[a] = rng.choice(["sum", "max", "min"])
        return TensorLayout(mesh, *(TensorShard(*d) if d else TensorReplicate() for d in dims), pending=late)

    given = {n: layout(pending=False) for n in "xyz"}
    data = {
        n: np.random.default_rng(seed + k).integers(0, 4, at.global_shape((4, 4)), np.int32)
        for k, (n, at) in enumerate(given.items())
    }

    def body(x: Any, y: Any, z: Any) -> tuple[Any, ...] | None:
        own = [
            empty((4, 4), DType.I32, layout=None if rng.random() < 0.3 else layout(pending=True))
            for _ in range(rng.randrange(2, 5))
        ]

        def source(to: Any) -> Any:
            """One of the tensors, that may mostly be read for what is written to `to`."""
            t = rng.choice([x, y, z, *own])
            for _ in range(6):
                varies = t.layout.varies if t.layout else frozenset[str]()
                late = t.layout is not None and t.layout.pending
                if rng.random() < 0.1 or (not late and (to.layout is None or varies <= to.layout.varies)):
                    break
                t = rng.choice([x, y, z, *own])
            return t

        def task(depth: int) -> None:
            to = rng.choice([x, *own, *own])
            a, b = source(to), source(to)
            if to is a or to is b:
                return
            row, col = rng.randrange(4), rng.randrange(4)
            rows = rng.choice([slice(0, 4), slice(0, 2), slice(2, 4)])
            match rng.randrange(10 if depth < 2 else 7):
                case 0:
                    same(x=a[rows, 0:4], out=to[rows, 0:4])
                case 1 | 2:
                    rng.choice([grown, grown, larger])(x=a[rows, 0:4], y=to[rows, 0:4])
                case 3 if a is not b:
                    added(x=a, y=b, out=to)
                case 4:
                    shifted(s=item(a[row, col]), x=b, out=to)
                case 5:
                    same(x=a[rng.choice([y, z])[row, 0:4]], out=to)
                case 6:
                    for i in P(4):
                        same(x=a[i : i + 1], out=to[i : i + 1])
                case 7:
                    with P.when(item(a[row, col]) > 1):
                        task(depth + 1)
                    with P.otherwise():
                        task(depth + 1)
                case 8:
                    for _ in P.seq(item(a[row, col]) % 3):
                        task(depth + 1)
                case 9:
                    for _ in P.seq(3, while_=lambda: item(a[row, col]) < 5):
                        task(depth + 1)
                        task(depth + 1)
                case _:
                    pass

        for t in own:
            if (first := source(t)) is not t:
                same(x=first, out=t)
        for _ in range(rng.randrange(3, 8)):
            late = [t for t in own if t.layout is not None and t.layout.pending]
            if late and rng.random() < 0.2:
                t = rng.choice(late)
                own.append(allreduce(t, rng.choice(list(t.layout.pending))))
            else:
                task(0)
        return tuple(t for t in own if t.layout is not None and not t.layout.pending) or None

    try:
        made = workload(name="drawn")(body)(
            **{n: TensorSpec(data[n].shape, DType.I32, layout=at) for n, at in given.items()}
        )
    except (LayoutIncompatibleError, TypeCheckError, TraceError):
        return None
    used = {v.name for v in made.wir.tensors}
    return made, {n: a for n, a in data.items() if n in used}


def draw(seed: int, sizes: Sequence[int] | None = None) -> Drawn:
    """A workload of a few steps, each of which means something for whole arrays: `results` are what numpy has."""
    rng = Random(seed)
    chosen = sizes or rng.choice([(2,), (3,), (4,), (2, 2), (2, 3), (1, 2), (2, 2, 2)])
    mesh = Mesh(**dict(zip("abc", chosen, strict=False)))
    side = 12 * mesh.size
    shape = (side, rng.choice([mesh.size, side]))
    data = {n: np.random.default_rng(seed + k).integers(-99, 99, shape, np.int32) for k, n in enumerate("xy")}
    want: list[Array] = []
    steps: list[str] = []

    def body(x: Any, y: Any) -> tuple[Any, ...]:
        have: list[tuple[Any, Array]] = [(x, data["x"]), (y, data["y"])]
        for _ in range(rng.randrange(2, 6)):
            have.append(step(*rng.choice(have[-3:])))
        done = [h for h in have[2:] if not h[0].layout.pending]
        if not done:
            t, whole = have[-1]
            done = [(allreduce(t), whole)]
        kept = done[-2:]
        want.extend(whole for _, whole in kept)
        return tuple(t for t, _ in kept)

    def step(t: Any, whole: Array) -> tuple[Any, Array]:
        if t.layout.pending:
            axis = rng.choice(list(t.layout.pending))
            dims = [d for d in range(2) if t.shape[d] % mesh.shape[axis] == 0]
            if dims and rng.random() < 0.5:
                steps.append("reduce_scatter")
                return reduce_scatter(t, rng.choice(dims), axis), whole
            steps.append("allreduce")
            return allreduce(t, axis) if rng.random() < 0.5 or len(t.layout.pending) > 1 else allreduce(t), whole
        kind = rng.choice(["tripled", "relayout", "relayout", "allgather", "columns", "largest", "added"])
        steps.append(kind)
        last = [d.axes[-1] for d in t.layout.dims if d.axes]
        if kind == "allgather" and last:
            return allgather(t, rng.choice(last)), whole
        if kind == "columns" and whole.shape[0] > 1:
            layout = TensorLayout(
                mesh, TensorReplicate(), t.layout.dims[1], pending=dict.fromkeys(t.layout.dims[0].axes, "sum")
            )
            o = empty((1, t.shape[1]), DType.I32, layout=layout)
            columns(x=t, out=o)
            return o, whole.sum(0, keepdims=True, dtype=np.int32)
        if kind == "largest" and whole.shape[1] > 1:
            layout = TensorLayout(
                mesh, t.layout.dims[0], TensorReplicate(), pending=dict.fromkeys(t.layout.dims[1].axes, "max")
            )
            o = empty((t.shape[0], 1), DType.I32, layout=layout)
            largest(x=t, out=o)
            return o, whole.max(1, keepdims=True)
        fits = [d for d in range(2) if whole.shape[d] % mesh.size == 0]
        if kind in ("relayout", "added") and fits:
            to = layouts(mesh, 2, rng)
            if any(whole.shape[d] % to.parts(d) for d in range(2)):
                to = TensorLayout(mesh, TensorReplicate(), TensorReplicate())
            other = relayout(t, to)
            if kind == "relayout":
                return other, whole
            try:
                both = tensor_layout_join(t.layout, to)
            except LayoutIncompatibleError:
                return other, whole
            o = empty_like(relayout(t, both))
            added(x=relayout(t, both), y=relayout(other, both), out=o)
            return o, whole + whole
        o = empty_like(t)
        for i in P(t.tiles(rng.choice([1, 5, 16]))):
            tripled[i](x=t[i], out=o[i])
        return o, whole * 3 + 1

    made = workload(name="drawn")(body)
    given = {
        n: Tensor(a, name=n, layout=layouts(mesh, 2, rng)) if all(s % mesh.size == 0 for s in shape) else a
        for n, a in data.items()
    }
    return Drawn(made(**given), data, want, steps)
