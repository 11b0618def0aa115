"""The reference evaluator: tasks one after another in program order, each operation in float64 and rounded once to its dtype.

Processes of a pipeline are generators, of which the one of the smallest (clock, index) goes on (`ir/network.py`): a task and a read
are done when it is their process's turn. What has regions is a generator too, as a process may stop in it; outside of a process
nothing does.

Obvious and slow. It takes wir whose compositions are expanded (`pto_wsp.passes.expand`), as traced or in the pure form, and is
the oracle of the tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pto_wsp.errors import BoundsError, ExecutionError, InternalError, PtoError, here
from pto_wsp.ir.core import (
    PRIMITIVES,
    At,
    Axis,
    ChannelType,
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
    Role,
    ScalarType,
    Slice,
    Span,
    TensorType,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.network import Body, Channel, Costs, Network, Reply, Request, Token
from pto_wsp.ir.processes import ENDS, channel_var, channels_of, ends_of, processes_of, settings_of
from pto_wsp.ir.rounding import Array, round_integer, round_to
from pto_wsp.ir.scalars import Number, compute, index_value, smaller, wrap
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import BUFFERS, LOOPS, PARTS, READS, slot_types, value_type, written_by

_Steps = Generator[Request, Reply, tuple[Any, ...]]
"""What has regions, as it goes on; in the end, what it gives."""


@dataclass
class _Frame:
    """What a region's equations name: numbers (loop variables, scalars, symbols), and tensors."""

    wir: Wir
    slots: dict[int, Number]
    costs: Costs | None = None
    numbers: dict[str, Any] = field(default_factory=dict[str, Any])
    arrays: dict[str, Array] = field(default_factory=dict[str, "Array"])
    channels: Mapping[str, str] = field(default_factory=dict[str, str])  # of the process around, by variable

    def inner(self) -> _Frame:
        return _Frame(self.wir, self.slots, self.costs, dict(self.numbers), dict(self.arrays), self.channels)

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
    costs: Costs | None = None,
) -> dict[str, Array]:
    """Run every task of `wir` on `arrays` (by tensor name, written in place), and return the results by tensor name.

    Symbols are bound to `sizes`, slots begin with the values of `slots`, else 0. Temporaries and results begin as zeros. `costs`:
    cycles of tasks, on which what a pipeline does depends where it is timed; 0 without it.
    Raises BoundsError, ExecutionError or KernelError at the first equation that fails, in program order.
    """
    frame = _Frame(wir, {n: _zero(t) for n, t in slot_types(wir).items()} | dict(slots or {}), costs)
    frame.numbers = {"$" + name: int((sizes or {})[name]) for name in wir.symbols}
    for v in wir.tensors:
        t = wir.tensor_type(v.name)
        want = tuple(d.value(frame.numbers) for d in t.shape)
        array = arrays[v.name] if t.role is Role.GIVEN else np.zeros(want, t.dtype.numpy)
        if array.shape != want:
            raise InternalError(f"{v.name} has shape {array.shape}, not {want}")
        frame.arrays[v.name] = array
    results = {v.name: frame.arrays[v.name] for v in wir.tensors if wir.tensor_type(v.name).role is Role.RESULT}
    final = _at_once(_run(wir.body, frame))
    if final:
        # the pure form: what the names stood for in the end
        names = wir.body.eqns[-1].params["of"]
        assert isinstance(names, tuple)
        for name, value in zip(names, final, strict=True):
            {**arrays, **results}[str(name)][...] = value
    return results


def _zero(dtype: DType) -> Number:
    return {DType.F64: 0.0, DType.BOOL: False}.get(dtype, 0)


def _at_once(steps: _Steps) -> tuple[Any, ...]:
    """What stands outside of processes, without a stop; work of pipelines and tasks in it takes no part in anything."""
    while True:
        try:
            request = next(steps)
        except StopIteration as e:
            return e.value
        if request.kind != "work":
            raise InternalError(f"{request.kind} outside of a process")


def _run(region: Region, frame: _Frame) -> _Steps:
    """The equations of a region, up to its `yield`; what that gives."""
    for eqn in region.eqns:
        if eqn.prim == "yield":
            return frame.values(eqn.ins)
        try:
            if PRIMITIVES[eqn.prim].dialect is Dialect.SCALAR:
                _scalar(eqn, frame)
                continue
            reference = PRIMITIVES[eqn.prim].reference
            if reference is None:
                raise InternalError(f"{eqn.prim} has no reference")
            steps = reference(eqn, frame)
            if steps is not None:
                yield from steps
        except PtoError as e:
            e.loc = e.loc or eqn.loc or here()
            raise
    return ()


def _in_pipeline(eqn: Eqn, frame: _Frame) -> None:
    raise InternalError(f"{eqn.prim} outside of a pipeline")


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


def _loop(eqn: Eqn, frame: _Frame) -> _Steps:
    axis = eqn.params["axis"]
    assert isinstance(axis, Axis)
    size = index_value(axis.size, frame.numbers)
    if size < 0:
        raise BoundsError("PTO511", f"{axis.name} has {size} elements", fix="extents are 0 or more")
    carried = frame.values(eqn.ins)
    for i in range(index_value(axis.extent, frame.numbers)):
        inner = _inside(eqn.regions[0], frame, (i, *carried))
        goes_on = True
        for condition in eqn.regions[1:]:
            goes_on = (yield from _run(condition, inner.inner())) != (False,)
        if not goes_on:
            break
        carried = yield from _run(eqn.regions[0], inner)
    _bind_all(eqn, frame, carried)
    return ()


def _parts(eqn: Eqn, frame: _Frame) -> _Steps:
    carried = frame.values(eqn.ins)
    for region in eqn.regions:
        carried = yield from _run(region, _inside(region, frame, carried))
    _bind_all(eqn, frame, carried)
    return ()


def _cond(eqn: Eqn, frame: _Frame) -> _Steps:
    region = eqn.regions[0 if frame.value(eqn.ins[0]) else 1]
    given = yield from _run(region, _inside(region, frame, frame.values(eqn.ins[1:])))
    _bind_all(eqn, frame, given)
    return ()


def _pipeline(eqn: Eqn, frame: _Frame) -> _Steps:
    """All of it at once; to a process around, it is work of as many cycles as the last process ends at."""
    channels: dict[str, Channel] = {}
    names: dict[str, str] = {}  # of channels, by their variables
    for c in channels_of(eqn):
        n, t = settings_of(c), c.outs[0].type
        assert isinstance(t, ChannelType)
        name = names[c.outs[0].name] = str(c.params["name"])
        tokens = [tuple(_initial(f, k) for f in t.fields) for k in range(n["initial"])]
        channels[name] = Channel(name, n.get("depth"), n["latency"], n["response"], tokens)
    processes = {str(p.params["name"]): (_process(p, frame, names), ends_of(p, "produces")) for p in processes_of(eqn)}
    yield Request("work", cycles=Network(channels, processes).run())
    return ()


def _initial(t: ScalarType, k: int) -> Number:
    return {DType.F64: float(k), DType.BOOL: k != 0}.get(t.dtype, k)


def _process(eqn: Eqn, frame: _Frame, channels: Mapping[str, str]) -> Body:
    own = frame.inner()
    own.slots, own.channels = dict(frame.slots), channels
    yield from _run(eqn.regions[0], own)


def _end(eqn: Eqn, frame: _Frame) -> _Steps:
    """An operation on a channel."""
    values = frame.values(eqn.ins[1:])
    request = Request(eqn.prim, frame.channels[channel_var(eqn).name], token=values, loc=eqn.loc)
    if eqn.prim != "consume":
        _bind_all(eqn, frame, _given((yield request)))
        return ()
    while True:
        token = yield request
        if token is None:
            return ()
        assert isinstance(token, tuple)
        yield from _run(eqn.regions[0], _inside(eqn.regions[0], frame, token))


def _given(reply: Reply) -> Token:
    return reply if isinstance(reply, tuple) else () if reply is None else (reply,)


def _read(eqn: Eqn, frame: _Frame) -> _Steps:
    yield Request("work")
    view = eqn.ins[0]
    assert isinstance(view, View)
    out = eqn.outs[0].type
    assert isinstance(out, ScalarType)
    elements: list[Number] = [_number(x) for x in read_view(frame.arrays, view, frame.numbers).flat]
    frame.bind(eqn.outs[0], _reduce(eqn.prim, out.dtype, elements))
    return ()


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


def _task(eqn: Eqn, frame: _Frame) -> _Steps:
    kernel = frame.wir.kernel(str(eqn.params["kernel"]))
    yield Request("work", cycles=_cost(eqn, kernel, frame))
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
    return ()


def _cost(eqn: Eqn, kernel: Kernel, frame: _Frame) -> int:
    if frame.costs is None:
        return 0
    pairs = zip(kernel.params, eqn.ins, strict=True)
    shapes = {p.name: read_view(frame.arrays, x, frame.numbers).shape for p, x in pairs if isinstance(x, View)}
    return frame.costs(kernel.name, shapes)


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
for _name in ENDS:
    PRIMITIVES[_name].def_reference(_end)
for _name in ("process", "channel"):
    PRIMITIVES[_name].def_reference(_in_pipeline)
PRIMITIVES["pipeline"].def_reference(_pipeline)
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
