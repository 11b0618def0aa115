"""Kernels as functions of JAX arrays: one equation after another.

A tile parameter is an array of its static shape, a region parameter a part of its tensor. Stores give new arrays.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.control import INDEX, walk
from pto_wsp.ir.core import (
    PRIMITIVES,
    Dialect,
    Dim,
    DType,
    Eqn,
    In,
    Kernel,
    Literal,
    Region,
    RegionType,
    ScalarType,
    TileType,
    Var,
    operand_type,
)
from pto_wsp.ir.scalars import SCALAR_DTYPES
from pto_wsp.ops.printed import printed
from pto_wsp_jax.lower import control, numbers, views
from pto_wsp_jax.lower.forward import forward_alone
from pto_wsp_jax.lower.numbers import Int, Number, high, low, raw, step
from pto_wsp_jax.lower.tiles import RULES, Call, rounded
from pto_wsp_jax.varying import Axes, varying


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["array", "start", "sizes", "lanes"], meta_fields=["dims"]
)
@dataclass(frozen=True)
class Memory:
    """A parameter that is a tile or a region: dimensions `dims` of an array, of which element 0 is at `start`, where those are, and `sizes` of
    each of its own dimensions are there."""

    array: jax.Array
    start: tuple[int | Int, ...]
    sizes: tuple[int | Int, ...]
    dims: tuple[int, ...]
    lanes: tuple[views.Lanes | None, ...] = ()

    @staticmethod
    def whole(array: jax.Array, sizes: tuple[int | Int, ...]) -> Memory:
        return Memory(array, (0,) * array.ndim, sizes, tuple(range(array.ndim)))

    def own(self) -> Memory:
        """The same with an array of what iterations of batched loops have of it."""
        if not any(self.lanes):
            return self
        inside = [k in self.dims for k in range(self.array.ndim)]
        at = [
            views.Place(0, n, n, True, True) if kept else views.Place(s, 1, 1, True, True, lanes=x)
            for kept, n, s, x in zip(inside, self.array.shape, self.start, self.lanes, strict=True)
        ]
        start = tuple(s if kept else 0 for kept, s in zip(inside, self.start, strict=True))
        return Memory(views.taken(self.array, at), start, self.sizes, self.dims)


class KernelLowering:
    """What the names of a kernel stand for. active: whether the task counts, None where it always does; batched: inside of a `vmap`; axes: those of a
    mesh over which all memory varies."""

    def __init__(
        self,
        kernel: Kernel,
        memory: Mapping[str, Memory],
        scalars: Mapping[str, Any],
        active: Any,
        batched: bool,
        axes: Axes,
    ):
        self.kernel, self.active, self.batched, self.axes = kernel, active, batched, axes
        self.memory = dict(memory)
        self.values: dict[str, Any] = dict(scalars)
        self.extents: dict[str, int | Int] = {}
        for p in kernel.params:
            if isinstance(p.type, TileType):
                for name, n in zip(("rows", "cols"), memory[p.name].sizes, strict=True):
                    self.extents[f"{p.name}.{name}"] = n
            elif isinstance(p.type, RegionType):
                self.extents |= {f"{p.name}.{k}": n for k, n in enumerate(memory[p.name].sizes)}

    def run(self) -> dict[str, Memory]:
        """The parameters in the end."""
        self._pad_regions()
        self.region(self.kernel.body)
        return self.memory

    def inner(self, active: Any) -> KernelLowering:
        """The same for a region inside."""
        new = KernelLowering.__new__(KernelLowering)
        new.__dict__.update(self.__dict__)
        new.memory, new.values, new.extents, new.active = (
            dict(self.memory),
            dict(self.values),
            dict(self.extents),
            active,
        )
        return new

    def _pad_regions(self) -> None:
        """Zeros behind the end of regions that are only read, so that tiles at the end are slices."""
        written = set(stored(self.kernel.body))
        for name, m in self.memory.items():
            if name in written or not isinstance(
                next(p for p in self.kernel.params if p.name == name).type, RegionType
            ):
                continue
            self.memory[name] = replace(m, array=padded_for(self.kernel, name, m.array, m.dims))

    # values

    def number(self, x: In) -> Number:
        """A scalar of 64 bits or a bool."""
        return x.value if isinstance(x, Literal) else self.values[x.name]  # type: ignore[union-attr]

    def operand(self, x: In) -> jax.Array:
        """An operand of an operation on tiles."""
        t = operand_type(x)
        assert isinstance(t, (TileType, ScalarType))
        return jnp.asarray(raw(self.number(x)), numbers.traced_dtype(t.dtype))

    def dim(self, d: Dim) -> int | Int:
        """A valid extent as it stands in a type."""
        return self.extents[d] if isinstance(d, str) else d

    def valid(self, t: TileType) -> tuple[int | Int, int | Int]:
        """Valid rows and columns: at least one of each, also in an iteration that does not count."""
        rows, cols = (
            numbers.minimum(numbers.maximum(self.dim(d), 1), n)
            for d, n in zip((t.vrows, t.vcols), t.shape, strict=True)
        )
        return rows, cols

    def bind(self, v: Var, value: Any) -> None:
        if v.type == INDEX:
            value = value if isinstance(value, (int, Int)) else Int(value)
            self.extents[v.name] = value
        self.values[v.name] = value

    # control

    def region(self, region: Region) -> tuple[In, ...]:
        for eqn in region.eqns:
            match eqn.prim:
                case "yield":
                    return eqn.ins
                case "fori_loop":
                    self._loop(eqn)
                case "branch":
                    self._branch(eqn)
                case _:
                    self._step(eqn)
        return ()

    def _state(self, eqn: Eqn) -> list[str]:
        return sorted(set(stored(*eqn.regions)))

    def _put(self, names: Sequence[str], arrays: Sequence[Any]) -> None:
        for name, a in zip(names, arrays, strict=True):
            self.memory[name] = replace(self.memory[name], array=a)

    def _loop(self, eqn: Eqn) -> None:
        first, last = (self.number(x) for x in eqn.ins[:2])
        assert isinstance(first, (int, Int)) and isinstance(last, (int, Int))
        names = self._state(eqn)
        init = self._left(names, eqn.ins[2:])
        trips = control.trips_of(first, last, self.active)
        most = trips if isinstance(trips, int) else trips.high
        if most == numbers.INF:
            most = self._most_trips(eqn.regions[0], eqn.regions[0].params[0].name, first)
        if most <= 0:
            out = init
        elif isinstance(trips, int):
            out = control.known_times(self._turn(eqn, names), init, first, trips, self.active)
        elif most == numbers.INF:
            turn = self._turn(eqn, names)
            out = control.as_long_as(turn, init, first, trips, most, self.active, batched=self.batched)
            fix = "give the most in the kernel: pto.fori_loop(0, pto.minimum(n, 64), ...)"
            out = forward_alone(out, f"a loop of kernel {self.kernel.label}", fix, eqn.loc)
        elif names and self.batched:  # as often as it is would mean to choose between whole regions each time
            turn = self._turn(eqn, names)
            out = control.at_most(turn, init, first, trips, int(most), self.active, batched=True)
        else:
            out = self._differentiable(eqn, names, init, first, trips, int(most))
        self._give(names, eqn, out)

    def _turn(self, eqn: Eqn, names: Sequence[str]) -> control.Turn:
        index, *carried = eqn.regions[0].params

        def turn(i: int | Int, state: list[Any], active: Any) -> list[Any]:
            inner = self.inner(active)
            inner._put(names, state[: len(names)])
            inner.bind(index, i)
            inner._take(carried, state[len(names) :])
            return inner._left(names, inner.region(eqn.regions[0]))

        return turn

    def _differentiable(
        self, eqn: Eqn, names: Sequence[str], init: list[Any], first: int | Int, trips: Int, most: int
    ) -> list[Any]:
        """A loop as often as it is; its derivative is that of one of `most` trips."""
        used = names_in(eqn.regions[0])
        needed = [{n: x for n, x in d.items() if n in used} for d in (self.memory, self.values, self.extents)]
        leaves, tree = jax.tree.flatten((*needed, self.active, init, first, trips))
        known = [x if numbers.is_known(x) else None for x in leaves]

        def loop_of(traced: Sequence[Any], of: Callable[[Memory], Memory] = lambda m: m) -> tuple[Any, ...]:
            rest = iter(traced)
            memory, values, extents, active, *loop = tree.unflatten([next(rest) if k is None else k for k in known])
            inner = self.inner(active)
            inner.memory, inner.values, inner.extents = {n: of(m) for n, m in memory.items()}, values, extents
            return inner._turn(eqn, names), *loop, most, active

        @jax.custom_jvp
        def run(*traced: Any) -> list[Any]:
            given = loop_of(traced)
            return [control.settled(x, given[3]) for x in control.as_long_as(*given, batched=self.batched)]

        def bounded(*traced: Any) -> list[Any]:
            given = loop_of(traced, Memory.own)  # else each turn would add to a derivative of the whole tensor
            return [control.settled(x, given[3]) for x in control.at_most(*given, batched=self.batched)]

        @run.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            return jax.jvp(bounded, primals, tangents)

        return run(*(x for x in leaves if not numbers.is_known(x)))

    def _left(self, names: Sequence[str], given: Sequence[In]) -> list[Any]:
        arrays = [self.memory[n].array for n in names]
        for x in given:
            t = operand_type(x)
            tile = isinstance(t, TileType) or (isinstance(t, ScalarType) and t.dtype not in SCALAR_DTYPES)
            arrays.append(varying(self.operand(x) if tile else self._scalar(x), self.axes))
        return arrays

    def _scalar(self, x: In) -> Any:
        t = operand_type(x)
        assert isinstance(t, ScalarType)
        return jnp.asarray(raw(self.number(x)), numbers.traced_dtype(t.dtype))

    def _give(self, names: Sequence[str], eqn: Eqn, out: Sequence[Any]) -> None:
        self._put(names, out[: len(names)])
        self._take(eqn.outs, out[len(names) :])

    def _take(self, to: Sequence[Var], values: Sequence[Any]) -> None:
        """Give variables what a loop or branch carries."""
        for v, x in zip(to, values, strict=True):
            t = v.type
            integer = isinstance(t, ScalarType) and t.dtype in (DType.I64, DType.U64)
            self.bind(v, Int(x) if integer else x)

    def _branch(self, eqn: Eqn) -> None:
        c = self.number(eqn.ins[0])
        names = self._state(eqn)
        if isinstance(c, bool):
            given = self.region(eqn.regions[0 if c else 1])
            for v, x in zip(eqn.outs, [self.number(x) for x in given], strict=True):
                self.bind(v, x)
            return

        def side(k: int) -> Any:
            def run(active: Any) -> list[Any]:
                inner = self.inner(active)
                return inner._left(names, inner.region(eqn.regions[k]))

            return run

        self._give(names, eqn, control.branch(c, side(0), side(1), self.active, self.batched))

    def _most_trips(self, body: Region, index: str, first: int | Int) -> float:
        """How often a loop runs at most, as what it loads and stores in each iteration lies inside of its parameters."""
        lines = {index: (1, 0.0)}
        least = numbers.INF
        for eqn in body.eqns:
            if eqn.prim in ("s.add", "s.mul", "s.sub"):
                line = self._line(eqn, lines)
                if line is not None:
                    lines[eqn.outs[0].name] = line
            at = {"load_part": 1, "element": 1, "store_part": 2}.get(eqn.prim)
            source = eqn.ins[0] if eqn.ins else None
            if at is None or not isinstance(source, Var) or source.name not in self.memory:
                continue
            for k, x in enumerate(eqn.ins[at:]):
                coef, rest = lines.get(x.name, (0, 0.0)) if isinstance(x, Var) else (0, 0.0)
                size = high(self.memory[source.name].sizes[k])
                if coef > 0 and size < numbers.INF:
                    least = min(least, (size - 1 - max(rest, 0)) // coef + 1)
        return max(least - max(low(first), 0), 0)

    def _line(self, eqn: Eqn, lines: Mapping[str, tuple[int, float]]) -> tuple[int, float] | None:
        """A sum as (coefficient of the index, least value of the rest); of the rest nothing is known but that it is there at the first
        trip too, where an index is 0 or more."""
        pairs: list[tuple[int, float, Number | None]] = []
        for x in eqn.ins:
            if isinstance(x, Var) and x.name in lines:
                pairs.append((*lines[x.name], None))
            else:
                value = x.value if isinstance(x, Literal) else self.values.get(x.name) if isinstance(x, Var) else None
                if not isinstance(value, (int, Int)):
                    return None
                pairs.append((0, max(low(value), 0), value))
        (a, r, x), (b, s, y) = pairs
        if eqn.prim == "s.add":
            return (a + b, r + s) if a + b else None
        if eqn.prim == "s.mul" and isinstance(y, int) and y > 0:
            return (a * y, r * y)
        if eqn.prim == "s.mul" and isinstance(x, int) and x > 0:
            return (b * x, s * x)
        return None

    # equations

    def _step(self, eqn: Eqn) -> None:
        prim = PRIMITIVES[eqn.prim]
        if prim.dialect is Dialect.SCALAR:
            dtypes = [t.dtype for t in map(operand_type, eqn.ins) if isinstance(t, ScalarType)]
            self._bind_scalar(eqn, numbers.scalar_op(eqn.prim, eqn.params, dtypes, [self.number(x) for x in eqn.ins]))
            return
        if eqn.prim in SPECIAL:
            SPECIAL[eqn.prim](self, eqn)
            return
        t = eqn.outs[0].type if eqn.outs else None
        if eqn.prim not in RULES or not isinstance(t, (TileType, ScalarType)):
            raise UnsupportedError(
                *("PTO885", f"{eqn.prim} of kernel {self.kernel.label} has no form in JAX"),
                loc=eqn.loc or here(),
                fix="run the workload by as_jax, or write the kernel with operations of pto",
            )
        if t.dtype.itemsize == 8 and not numbers.has_64_bits():
            raise UnsupportedError(
                *("PTO886", f"{eqn.prim} of kernel {self.kernel.label} computes {t.dtype}"),
                loc=eqn.loc or here(),
                fix='jax.config.update("jax_enable_x64", True): without it JAX has numbers of 32 bits',
            )
        call = Call(eqn, tuple(map(operand_type, eqn.ins)), t, self.valid)
        out = rounded(RULES[eqn.prim](call, *map(self.operand, eqn.ins)), t.dtype)
        assert isinstance(t, TileType)
        self.bind(eqn.outs[0], jnp.broadcast_to(out, t.shape))

    def _bind_scalar(self, eqn: Eqn, value: Number) -> None:
        v = eqn.outs[0]
        assert isinstance(v.type, ScalarType)
        integer = v.type.dtype in (DType.I64, DType.U64)
        self.bind(v, Int(value) if integer and not isinstance(value, (int, Int)) else value)

    def dim_of(self, eqn: Eqn) -> None:
        self.bind(eqn.outs[0], self.dim(eqn.params["of"]))  # type: ignore[arg-type]

    def widen(self, eqn: Eqn) -> None:
        x, t, to = eqn.ins[0], operand_type(eqn.ins[0]), eqn.outs[0].type
        assert isinstance(t, ScalarType) and isinstance(to, ScalarType)
        value = self.number(x)
        if numbers.is_known(value) or isinstance(value, Int) or t.dtype is DType.BOOL:
            self.bind(eqn.outs[0], value)
        else:
            wide = jnp.asarray(value).astype(numbers.traced_dtype(to.dtype))
            self.bind(eqn.outs[0], Int(wide) if t.dtype.is_integer else wide)

    def narrow(self, eqn: Eqn) -> None:
        to = eqn.params["to"]
        assert isinstance(to, DType)
        value = self.number(eqn.ins[0])
        if isinstance(value, int) and not isinstance(value, bool):
            value = int(np.asarray(value & (2**64 - 1), np.uint64).astype(to.numpy))
        if isinstance(value, int) or (isinstance(value, Int) and to.itemsize >= 4):
            self.bind(eqn.outs[0], value)
        elif isinstance(value, Int):
            self.bind(eqn.outs[0], jnp.asarray(value.value).astype(to.numpy))
        else:
            self.bind(eqn.outs[0], rounded(jnp.asarray(value), to) if to is not DType.BOOL else value)

    def load(self, eqn: Eqn) -> None:
        array = self._memory(eqn).array
        self.bind(eqn.outs[0], control.ones_unless(self.active, array))

    def _memory(self, eqn: Eqn) -> Memory:
        v = eqn.ins[0]
        assert isinstance(v, Var)
        return self.memory[v.name]

    def store(self, eqn: Eqn) -> None:
        v = eqn.ins[0]
        assert isinstance(v, Var)
        self._put([v.name], [varying(self.operand(eqn.ins[1]), self.axes)])

    def _source(self, x: In) -> Memory:
        """A parameter, or a tile as if it were one."""
        assert isinstance(x, Var)
        if x.name in self.memory:
            return self.memory[x.name]
        assert isinstance(x.type, TileType)
        return Memory.whole(self.values[x.name], self.valid(x.type))

    def _places(
        self, m: Memory, index: Sequence[In], sizes: Sequence[int], valid: Sequence[int | Int]
    ) -> list[views.Place]:
        """Where a part of `sizes` begins in the array of a parameter."""
        lanes = m.lanes or (None,) * m.array.ndim
        out = [views.Place(s, 1, 1, True, True, lanes=x) for s, x in zip(m.start, lanes, strict=True)]
        for k, x, n, v in zip(m.dims, index, sizes, valid, strict=True):
            i = self.number(x)
            assert isinstance(i, (int, Int))
            at = numbers.add(m.start[k], i)
            size = m.array.shape[k]
            inside = n == 1 or high(at) + n <= size or (size % n == 0 and step(at) % n == 0)
            out[k] = views.Place(at, n, v, True, bool(inside and n <= size))
        return out

    def load_part(self, eqn: Eqn) -> None:
        t = eqn.outs[0].type
        assert isinstance(t, TileType)
        m, index = self._memory(eqn), eqn.ins[1:]
        sizes = [1] * (len(index) - 2) + list(t.shape)[-len(index) :]
        at = self._places(m, index, sizes, sizes)
        self.bind(eqn.outs[0], control.ones_unless(self.active, views.taken(m.array, at).reshape(t.shape)))

    def store_part(self, eqn: Eqn) -> None:
        v, x = eqn.ins[:2]
        assert isinstance(v, Var)
        t = operand_type(x)
        assert isinstance(t, TileType)
        m, index = self.memory[v.name], eqn.ins[2:]
        sizes = [1] * (len(index) - 2) + list(t.shape)[-len(index) :]
        valid = [1] * (len(index) - 2) + list(self.valid(t))[-len(index) :]
        at = self._places(m, index, sizes, valid)
        part = views.written(views.Part.whole(m.array), at, self.operand(x), None)
        self._put([v.name], [part.array])

    def element(self, eqn: Eqn) -> None:
        m, index = self._source(eqn.ins[0]), eqn.ins[1:]
        at = self._places(m, index, [1] * len(index), [1] * len(index))
        value = views.taken(m.array, at).reshape(())
        to = eqn.outs[0].type
        assert isinstance(to, ScalarType)
        value = control.ones_unless(self.active, value.astype(numbers.traced_dtype(to.dtype)))
        unsigned = to.dtype is DType.U64
        self._bind_scalar(
            eqn, Int(value, 0 if unsigned else -numbers.INF) if to.dtype in (DType.I64, DType.U64) else value
        )

    def debug_print(self, eqn: Eqn) -> None:
        t = operand_type(eqn.ins[0])
        assert isinstance(t, (TileType, ScalarType))
        rows, cols = self.valid(t) if isinstance(t, TileType) else (1, 1)
        show = functools.partial(_print, str(eqn.params["label"]), self.kernel.label, t)
        active = True if self.active is None else self.active
        x = self.operand(eqn.ins[0])
        jax.debug.callback(show, x, raw(rows), raw(cols), active)


SPECIAL: dict[str, Callable[[KernelLowering, Eqn], None]] = {
    "dim": KernelLowering.dim_of,
    "widen": KernelLowering.widen,
    "narrow": KernelLowering.narrow,
    "load": KernelLowering.load,
    "store": KernelLowering.store,
    "load_part": KernelLowering.load_part,
    "store_part": KernelLowering.store_part,
    "element": KernelLowering.element,
    "debug_print": KernelLowering.debug_print,
}
"""Operations on parameters, extents and scalars."""


def _print(label: str, kernel: str, t: TileType | ScalarType, x: Any, rows: Any, cols: Any, active: Any) -> None:
    if active:
        x = np.asarray(x)
        part = x[: int(rows), : int(cols)] if isinstance(t, TileType) else x
        print(printed(label, kernel, t.dtype, part), end="", file=sys.stderr)


def padded_for(kernel: Kernel, name: str, array: jax.Array, dims: Sequence[int]) -> jax.Array:
    """The array of a region, which is its dimensions `dims`, with zeros behind: as many as whole tiles of what a kernel loads have."""
    for eqn in walk(kernel.body):
        if eqn.prim == "load_part" and eqn.ins[0] == Var(name, operand_type(eqn.ins[0])):
            sizes = (eqn.params["rows"], eqn.params["cols"])[-len(dims) :]
            for k, n in zip(dims[-len(sizes) :], sizes, strict=True):
                assert isinstance(n, int)
                if n > 1:
                    array = views.padded(array, k, -(-array.shape[k] // n) * n)
    return array


def names_in(region: Region) -> set[str]:
    """The variables and extents that the equations of a region name."""
    out: set[str] = set()
    for eqn in walk(region):
        for v in (*eqn.ins, *eqn.outs, *(p for r in eqn.regions for p in r.params)):
            if isinstance(v, Var):
                out.add(v.name)
                if isinstance(v.type, TileType):
                    out |= {d for d in (v.type.vrows, v.type.vcols) if isinstance(d, str)}
        out |= {str(x) for x in eqn.params.values() if isinstance(x, str)}
    return out


def stored(*regions: Region) -> Iterator[str]:
    """The parameters that regions store into."""
    for region in regions:
        for eqn in walk(region):
            if eqn.prim in ("store", "store_part") and isinstance(eqn.ins[0], Var):
                yield eqn.ins[0].name
