"""Processes by name, and pipelines of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pto_wsp.csp.ends import consume_with, parameters
from pto_wsp.errors import Location, TraceError, check_name, here
from pto_wsp.ir.core import Eqn
from pto_wsp.trace.builder import current_workload
from pto_wsp.trace.index import is_integer
from pto_wsp.trace.pipes import ChannelSpec, Declared, OpenPipeline, checked_flag
from pto_wsp.trace.tokens import leaves


@dataclass(frozen=True, eq=False)
class Process:
    """What `process(name)` makes: a body, and the channels that it consumes and produces. Immutable."""

    name: str
    inputs: tuple[ChannelSpec, ...]
    outputs: tuple[ChannelSpec, ...]
    fn: Callable[..., Any] | None
    replica: str | None
    loc: Location

    def consumes(self, *channels: ChannelSpec) -> Process:
        """This process, which receives from these channels too."""
        return replace(self, inputs=(*self.inputs, *_channels("consumes", channels)))

    def produces(self, *channels: ChannelSpec) -> Process:
        """This process, which sends to these channels too."""
        return replace(self, outputs=(*self.outputs, *_channels("produces", channels)))

    def body(self, fn: Callable[..., Any]) -> Process:
        """This process with what it does: a function without parameters, traced when the pipeline is; or, of a process that consumes
        one channel, a function of a token, called for each."""
        if not callable(fn):
            raise _wrong(f"process {self.name}: a body that is no function", repr(fn), "give a function: .body(load)")
        return replace(self, fn=fn)

    def __repr__(self) -> str:
        return f"<process {self.name}>"

    @property
    def declared(self) -> Declared:
        """What it says of itself."""
        return Declared(self.name, self.inputs, self.outputs, self.replica, self.loc)


def process(name: str) -> Process:
    """A process of a pipeline: `process("load").produces(c).body(load)`. Every channel that it sends to is declared with `produces`,
    every one that it receives from with `consumes`. Raises TraceError."""
    checked = check_name(name, "a process", "PTO823")
    if checked is None:
        raise _wrong("a process without a name", repr(name), 'write process("load")')
    return Process(checked, (), (), None, None, here())


def replicate(of: Process, n: int) -> list[Process]:
    """n processes of one body, called name.0, name.1, ...: they share the ends of its channels. Raises TraceError."""
    _need(of)
    if not is_integer(n) or n < 1:
        raise _wrong(f"replicate of process {of.name}", repr(n), "give a number of 1 or more")
    return [replace(of, name=f"{of.name}.{k}", replica=of.name, loc=here()) for k in range(n)]


def connect(processes: Sequence[Any], channels: Sequence[ChannelSpec], *, timed: bool = False) -> None:
    """The pipeline of these processes, numbered in this order, and of all channels between them; lists of processes may stand in the
    list. timed: `try_send` and `query` may be used, and semantic time decides what they answer, and between several senders.

    Raises TraceError, and what the bodies raise.
    """
    builder = current_workload("connect")
    for given, what in ((processes, "processes"), (channels, "channels")):
        if not isinstance(given, (list, tuple)):
            raise _wrong(f"connect needs a list of {what}", repr(given), "write connect([load, store], [c])")
    every = list(_flat(processes))
    for c in channels:
        _channels("connect", (c,))
    _refuse_doubles(every)
    pipe = OpenPipeline(builder, timed=checked_flag(timed), only=tuple(channels), loc=here())
    made: dict[int, Eqn] = {}
    try:
        for k in _in_order_of_tokens(pipe, every):
            made[k] = _traced(pipe, every[k])
            pipe.processes.append(made[k])
        pipe.processes = [made[k] for k in range(len(every))]
    except BaseException:
        pipe.abandon()
        raise
    pipe.close()


def _flat(processes: Sequence[Any]) -> Iterator[Process]:
    for p in processes:
        if isinstance(p, (list, tuple)):
            yield from _flat(p)
        else:
            yield _need(p)


def _need(p: object) -> Process:
    if not isinstance(p, Process):
        raise _wrong("something that is no process", repr(p), 'give process("load").produces(c).body(load)')
    if p.fn is None:
        raise _wrong(f"process {p.name} without a body", p.name, ".body(fn) says what it does")
    return p


def _refuse_doubles(processes: Sequence[Process]) -> None:
    first: dict[str, Process] = {}
    for p in processes:
        if p.name in first:
            raise TraceError(
                "PTO156",
                f"two processes of one pipeline are called {p.name}",
                values={"the other": first[p.name].loc},
                loc=p.loc,
                fix="give each its own name; replicate(process, n) makes n of one",
            )
        first[p.name] = p


def _in_order_of_tokens(pipe: OpenPipeline, processes: Sequence[Process]) -> Iterator[int]:
    """Numbers of processes, one that sends views before those that receive them where that can be."""
    left = list(range(len(processes)))
    while left:
        k = next((k for k in left if _is_known(pipe, processes[k])), left[0])
        left.remove(k)
        yield k


def _is_known(pipe: OpenPipeline, p: Process) -> bool:
    """Whether what it receives is known."""
    return all(pipe.channel(c, "connect").structure is not None for c in p.inputs if None in leaves(c.kinds))


def _traced(pipe: OpenPipeline, p: Process) -> Eqn:
    builder = pipe.builder
    pipe.named = p.declared
    block = builder.open_block()
    assert p.fn is not None
    wanted = len(parameters(p.fn))
    if wanted == 0:
        p.fn()
    elif wanted == 1 and len(p.inputs) == 1:
        consume_with(p.inputs[0], p.fn)
    else:
        raise _wrong(
            f"the body of process {p.name} takes {wanted} parameters",
            f"it consumes {len(p.inputs)} channels",
            "give a function without parameters; or with one, a token, in a process that consumes one channel",
        )
    if builder.broken or builder.blocks[-1] is not block:
        raise TraceError(
            "PTO151",
            f"break, return or an exception left a traced loop of process {p.name}",
            loc=builder.broken or p.loc,
            fix="a traced loop runs its body once, for all iterations: make its extent shorter instead",
        )
    eqns = builder.close_block()
    made = pipe.process(eqns, p.declared)
    pipe.named = None
    return made


def _channels(what: str, channels: Sequence[object]) -> tuple[ChannelSpec, ...]:
    for c in channels:
        if not isinstance(c, ChannelSpec):
            raise _wrong(f"{what} of something that is no channel", repr(c), "give channels and events")
    return tuple(c for c in channels if isinstance(c, ChannelSpec))


def _wrong(what: str, got: str, fix: str) -> TraceError:
    return TraceError("PTO823", what, values={"got": got[:80]}, loc=here(), fix=fix)
