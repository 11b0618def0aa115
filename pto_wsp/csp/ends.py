"""What processes do with channels: send, receive, consume, close, and ask."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from pto_wsp.errors import Location, TraceError, here
from pto_wsp.ir.core import DType, Eqn, Region, ScalarType, Var, View
from pto_wsp.trace import arguments
from pto_wsp.trace.buffers import hand_over, hold, pack
from pto_wsp.trace.builder import Block, Task, WorkloadBuilder
from pto_wsp.trace.conditions import refuse_leaving
from pto_wsp.trace.names import assigned_name
from pto_wsp.trace.pipes import ChannelSpec, OpenChannel, OpenPipeline, open_pipeline
from pto_wsp.trace.scalar import DataScalar
from pto_wsp.trace.tensor import TensorSpec, TensorView
from pto_wsp.trace.tokens import Packing, Structure, checked, leaves, shaped, unpacked, values_of


def send(channel: ChannelSpec, *values: Any) -> None:
    """Send a token, and wait while the channel is full.

    Of values: scalars, loop indices, views; of a kernel call, `send(c, k[i](x=..., out=...))`, the views that it writes. A view
    belongs to who receives it, and may not be used here again. Memory that the process made itself, `empty(...)`, is then one of as
    many buffers as the channel is deep, which its receiver gives back. Raises TraceError, and TypeCheckError for another token than
    the channel carries.
    """
    _send("send", channel, values)


def try_send(channel: ChannelSpec, *values: Any) -> DataScalar:
    """Send a token if the channel has room now; whether it did. In a pipeline that is timed."""
    pipe, ins = _send("try_send", channel, values)
    return _flag(pipe.builder, "try_send", ins)


def close(channel: ChannelSpec) -> None:
    """Send no more: a channel of which all producers have closed it, or ended, is closed, and who consumes it ends when it is empty."""
    pipe, c = _end(channel, "close", "produces")
    pipe.need_process("close")
    pipe.received(c, "close", here())
    pipe.builder.append(Eqn("close", ins=(_var(c),), loc=here()))


def query(channel: ChannelSpec) -> DataScalar:
    """Whether a token could be received now. In a pipeline that is timed."""
    pipe, c = _end(channel, "query", "consumes")
    pipe.need_process("query")
    pipe.received(c, "query", here())
    return _flag(pipe.builder, "query", (_var(c),))


def record(event: ChannelSpec) -> None:
    """`send` of an event: waits until somebody synchronizes with it."""
    _send("record", event, ())


def synchronize(event: ChannelSpec) -> None:
    """Receive an event: waits until somebody records it."""
    received(event, "synchronize")


def received(channel: ChannelSpec, what: str = "recv") -> Any:
    """A token of a channel."""
    loc = here()
    pipe, c = _end(channel, what, "consumes")
    pipe.need_process(what)
    structure = pipe.received(c, what, loc)
    fields = _fields(pipe.builder, c, structure, assigned_name())
    pipe.builder.append(Eqn("recv", fields, (_var(c),), loc=loc))
    return _token(pipe, c, structure, fields, loc)


def consume(channel: ChannelSpec, body: Callable[..., Any] | None = None) -> Any:
    """Receive tokens until the channel is closed and empty: `with consume(c) as token: ...`, or `consume(c, fn)`, which calls
    `fn(token)`. The body is traced once, for all tokens. Views that came with the token go back where it ends."""
    if body is None:
        return Consume(channel)
    consume_with(channel, body)
    return None


def consume_with(channel: ChannelSpec, body: Callable[..., Any]) -> None:
    """Call `body` for each token: with it, or without arguments where a token is nothing."""
    with Consume(channel, next(iter(parameters(body)), None)) as token:
        body(token) if leaves(channel.kinds) else body()


def parameters(body: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that a body needs. Raises TraceError for what does not say."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        found = inspect.signature(body).parameters.values()
    except (TypeError, ValueError) as e:
        raise TraceError(
            "PTO823",
            "a body that is no Python function",
            values={"got": repr(body)[:80]},
            loc=here(),
            fix="give a def or a lambda",
        ) from e
    return tuple(p.name for p in found if p.kind in kinds and p.default is p.empty)


class Consume:
    """`with consume(c) as token:`; `called` is what a token is called, where no `as` says it."""

    def __init__(self, channel: ChannelSpec, called: str | None = None) -> None:
        self._loc = here()
        self._called = called
        self._pipe, self._channel = _end(channel, "consume", "consumes")
        self._builder = self._pipe.builder
        self._block: Block | None = None
        self._fields: tuple[Var, ...] = ()

    def __enter__(self) -> Any:
        refuse_leaving(
            "consume", "the body is traced once, for all tokens", "behind it; close(c) in the producer ends it early"
        )
        structure = self._pipe.received(self._channel, "consume", self._loc)
        self._block = self._builder.open_block()
        self._block.iterated = True
        self._fields = _fields(self._builder, self._channel, structure, self._called or assigned_name())
        return _token(self._pipe, self._channel, structure, self._fields, self._loc)

    def __exit__(self, kind: object, *exc: object) -> None:
        b = self._builder
        if kind is not None or b.blocks[-1] is not self._block:
            b.broken = b.broken or self._loc
            while b.blocks[-1] is not self._block:
                b.abandon_block()
            b.abandon_block()
            return
        b.forget_reads()
        region = Region(self._fields, b.close_block())
        b.append(Eqn("consume", ins=(_var(self._channel),), regions=(region,), loc=self._loc))


# what they have in common


def _end(channel: object, what: str, which: str) -> tuple[OpenPipeline, OpenChannel]:
    pipe = open_pipeline(what)
    if not isinstance(channel, ChannelSpec):
        raise TraceError(
            "PTO824",
            f"{what} of something that is no channel",
            values={"got": repr(channel)[:80]},
            loc=here(),
            fix="give a Channel or an Event",
        )
    return pipe, pipe.end(channel, what, which)


def _var(c: OpenChannel) -> Var:
    assert c.var is not None
    return c.var


def _flag(builder: WorkloadBuilder, prim: str, ins: tuple[Any, ...]) -> DataScalar:
    var = builder.define(prim, ins, {}, DType.BOOL, assigned_name() or prim, here())
    return DataScalar.of(var, DType.BOOL, builder)


def _send(what: str, channel: ChannelSpec, values: Sequence[Any]) -> tuple[OpenPipeline, tuple[Any, ...]]:
    """Emit a send, or give what a try_send takes."""
    loc = here()
    pipe, c = _end(channel, what, "produces")
    tasks = [x for x in values if isinstance(x, Task)]
    direct = not pipe.in_process
    if direct and (what != "send" or not tasks):
        pipe.need_process(what)
    if direct:
        _enter_statement(pipe, tasks)
    ins = _packed(what, pipe, c, values, loc)
    if what != "try_send":
        pipe.builder.append(Eqn("send", ins=ins, loc=loc))
    if direct:
        region = Region((), pipe.builder.close_block())
        pipe.builder.append(Eqn("process", regions=(region,), loc=loc))
    return pipe, ins


def _enter_statement(pipe: OpenPipeline, tasks: Sequence[Task]) -> None:
    """`send(c, k(...))` directly in a pipeline: the call, and the send, are one process."""
    outer = pipe.block
    places = {id(loc) for t in tasks for loc in t.locs}
    own = [k for k, e in enumerate(outer.eqns) if any(id(t.loc) in places for t in e.walk())]
    eqns = [outer.eqns[k] for k in own]
    outer.eqns[:] = [e for k, e in enumerate(outer.eqns) if k not in own]
    pipe.builder.open_block()
    pipe.builder.adopt(outer, eqns)


def _packed(what: str, pipe: OpenPipeline, c: OpenChannel, values: Sequence[Any], loc: Location) -> tuple[Any, ...]:
    """The operands of a send."""
    builder = pipe.builder
    given = [] if not leaves(c.kinds) and all(isinstance(x, Task) for x in values) else values_of(values)
    checked(c.kinds, given, what, loc)
    views = [x if isinstance(x, TensorView) else TensorView(x) for x in given if _is_view(x)]
    plain = [_checked_view(builder, v, what, loc) for v in views]
    numbered = iter(hand_over(builder, c, views, loc))
    packing = Packing(builder, pipe.knows)
    for kind, x in zip(leaves(c.kinds), given, strict=True):
        if kind is None:
            pack(packing, builder, next(numbered))
        else:
            packing.scalar(x.element() if _is_view(x) else x, kind, what)
    var = pipe.agree(c, packing.structure, loc)
    # memory of the process is the channel's now, and its name free for another tensor
    builder.blocks[-1].sent_views += [(v, loc) for v in plain if v.tensor in builder.tensors]
    return (var, *packing.values)


def _is_view(x: object) -> bool:
    return isinstance(x, (TensorSpec, TensorView))


def _checked_view(builder: WorkloadBuilder, v: TensorView, what: str, loc: Location) -> View:
    """A view that is sent, in scope and not sent before."""
    dims, _ = arguments.view_dims(builder, v, what, loc)
    view = View(builder.tensor(v.root), dims)
    builder.check_sent(view, loc)
    return view


def _fields(builder: WorkloadBuilder, c: OpenChannel, structure: Structure, called: str | None) -> tuple[Var, ...]:
    """New variables for what comes with a token; `called` is what the user calls it."""
    named = called if len(structure.fields) == 1 and not structure.returns else None
    out: list[Var] = []
    for k, dtype in zip(count(), structure.fields):
        var = Var(builder.bind_name(named or f"{c.name}.{k}"), ScalarType(dtype))
        builder.scalars[var.name] = var
        out.append(var)
    return tuple(out)


def _token(pipe: OpenPipeline, c: OpenChannel, structure: Structure, fields: Sequence[Var], loc: Location) -> Any:
    """What a receiver gets, whose buffers the innermost block has from here on."""
    for free, k in structure.returns:
        hold(pipe.builder, fields[k], pipe.by_name[free], loc)
    return None if c.kinds == () else shaped(c.kinds, unpacked(pipe.builder, structure, fields))
