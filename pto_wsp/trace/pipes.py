"""A pipeline being traced: its channels, and the processes that use them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pto_wsp.errors import ChannelClosed, CompileError, Location, ScheduleError, TraceError, TypeCheckError, here
from pto_wsp.ir.core import Axis, ChannelType, DType, Eqn, Region, Var, View
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.processes import ENDS, SENDS, channel_var, ends_inside
from pto_wsp.ir.rename import unique_name
from pto_wsp.ir.tasks import PARTS, READS
from pto_wsp.ir.token_bounds import unbounded_sends
from pto_wsp.trace.builder import NamedTensors, WorkloadBuilder, current_workload
from pto_wsp.trace.conditions import refuse_leaving
from pto_wsp.trace.functional import Buffer
from pto_wsp.trace.tokens import Form, Kinds, ScalarForm, Structure, kinds_of, leaves, show_kinds


class ChannelSpec:
    """A channel as the user declares it: what it carries, how many tokens it holds (None: as many as the plan bounds), its latency
    and response in cycles, and the tokens that are in it at first."""

    def __init__(
        self,
        carries: Any,
        name: str | None,
        depth: int | None,
        latency: int,
        response: int,
        initial: int,
        loc: Location,
    ) -> None:
        self.kinds: Kinds = kinds_of(carries)
        self.given_name = name
        self.depth = depth
        self.latency = latency
        self.response = response
        self.initial = initial
        self.loc = loc

    def __repr__(self) -> str:
        return f"Channel[{show_kinds(self.kinds)}]({self.given_name or ''})"


@dataclass(eq=False)
class OpenChannel:
    """A channel of a pipeline that is being traced. Its variable is known with the first token that is sent, or from what it carries."""

    name: str
    params: dict[str, Any]
    loc: Location
    kinds: Kinds
    var: Var | None = None
    structure: Structure | None = None
    first: Location | None = None  # where the first token is sent
    storages: list[Buffer] = field(default_factory=list[Buffer])  # the memory of its tokens, where it is not the user's
    free: OpenChannel | None = None  # through which numbers of buffers come back

    def eqn(self) -> Eqn:
        """Its equation in the wir; what nobody sends to carries nothing."""
        var = self.var or Var(self.name, ChannelType())
        return Eqn("channel", (var,), params=self.params, loc=self.loc)


@dataclass(frozen=True)
class Declared:
    """What a named process says of itself: channels, or None where its ends are those it uses."""

    name: str
    consumes: tuple[ChannelSpec, ...] | None
    produces: tuple[ChannelSpec, ...] | None
    replica: str | None
    loc: Location


@dataclass(frozen=True, eq=False)
class Home:
    """The pipeline to which a channel belongs: where it is, and what it calls the channel, which lives as long as its id is asked for."""

    channel: ChannelSpec
    name: str
    loc: Location


class OpenPipeline:
    """State of one pipeline."""

    def __init__(
        self, builder: WorkloadBuilder, *, timed: bool, only: Sequence[ChannelSpec] | None, loc: Location
    ) -> None:
        """only: the channels it has, where they were named."""
        self.builder = builder
        self.name = unique_name("pipe", builder.pipe_names)
        builder.pipe_names.add(self.name)
        self.timed = timed
        self.only = only
        self.loc = loc
        self.outer_loops = len(builder.parallel_loops)
        self.known = builder.visible
        self.block = builder.open_block()
        self.block.apart = True
        self.channels: dict[int, OpenChannel] = {}
        self.hidden: list[OpenChannel] = []
        self.by_name: dict[str, OpenChannel] = {}  # of those of the user and hidden ones
        self._by_var: dict[str, OpenChannel] = {}
        self.processes: list[Eqn] = []  # those that are traced, in the order of their numbers
        self.tensors = NamedTensors()  # that those name
        self.named: Declared | None = None  # the process being traced
        builder.pipes.append(self)
        for c in only or ():
            self.channel(c, "connect")

    # channels

    def channel(self, c: ChannelSpec, what: str) -> OpenChannel:
        """The channel of this pipeline that `c` is. Raises TraceError where it belongs to another."""
        if id(c) in self.channels:
            return self.channels[id(c)]
        home = self.builder.channel_homes.get(id(c))
        if home is not None:
            raise TraceError(
                "PTO824",
                f"{what}: channel {home.name} belongs to another pipeline",
                values={"pipeline": home.loc},
                loc=here(),
                fix="make a channel for each pipeline, inside the function that runs it; what a pipeline inside of a process gives, its process sends",
            )
        if self.only is not None and self.named is not None:
            raise TraceError(
                "PTO824",
                f"{what}: {c} is no channel of this pipeline",
                values={"process": self.named.name, "pipeline": self.loc},
                loc=here(),
                fix="name it in connect([...], [channels])",
            )
        name = self.builder.name(c, c.given_name) or f"c{len(self.channels)}"
        if c.given_name in self.by_name:
            raise TraceError(
                "PTO156", f"two channels of one pipeline are called {name}", loc=here(), fix="give each its own name"
            )
        params: dict[str, Any] = {"latency": c.latency, "response": c.response, "initial": c.initial}
        params |= {} if c.depth is None else {"depth": c.depth}
        name = unique_name(name, self.by_name)
        made = OpenChannel(name, {**params, "name": name}, c.loc, c.kinds)
        self.channels[id(c)] = self.by_name[name] = made
        self.builder.channel_homes[id(c)] = Home(c, made.name, self.loc)
        return made

    @property
    def every_channel(self) -> list[OpenChannel]:
        """Those of the user, then hidden ones."""
        return [*self.channels.values(), *self.hidden]

    def hide(self, name: str, depth: int, loc: Location) -> OpenChannel:
        """A channel of its own for the numbers of `depth` buffers, which all are in it at first."""
        name = unique_name(name, self.by_name)
        params = {"name": name, "depth": depth, "initial": depth, "latency": 0, "response": 0}
        made = OpenChannel(name, params, loc, DType.I64)
        made.structure = Structure((), (DType.I64,))
        made.var = self._variable(made)
        self.hidden.append(made)
        self.by_name[name] = made
        return made

    def _variable(self, c: OpenChannel) -> Var:
        assert c.structure is not None
        made = Var(self.builder.reserve(c.name), c.structure.type)
        self._by_var[made.name] = c
        return made

    def agree(self, c: OpenChannel, structure: Structure, loc: Location) -> Var:
        """The variable of a channel to which a token of this structure is sent. Raises TypeCheckError where others differ."""
        if c.structure is None:
            c.structure, c.first = structure, loc
            c.var = self._variable(c)
        elif c.first is None:  # a receiver came first, which takes no index for one of tiles
            structure = replace(structure, forms=tuple(map(_without_tile, structure.forms)))
        if c.structure != structure:
            raise TypeCheckError(
                "PTO813",
                f"two sends to channel {c.name} whose tokens are not of one kind",
                values={"this one": structure, "the other": c.structure, "sent": c.first},
                loc=loc,
                fix="send views of one tensor, with the same slices; other things go through channels of their own",
            )
        assert c.var is not None
        return c.var

    def received(self, c: OpenChannel, what: str, loc: Location) -> Structure:
        """What is received from a channel. Raises TypeCheckError where only a send says it, and none has been traced."""
        if c.structure is None and None in leaves(c.kinds):
            raise TypeCheckError(
                "PTO813",
                f"{what} from channel {c.name} before it is known which views are sent to it",
                loc=loc,
                fix="write the process that sends first; name processes, process(...).consumes(...), to trace them in the order they need",
            )
        if c.structure is None:
            kinds = [k for k in leaves(c.kinds) if k is not None]
            c.structure = Structure(tuple(ScalarForm(k, i) for i, k in enumerate(kinds)), tuple(kinds))
            c.var = self._variable(c)
        return c.structure

    def knows(self, e: Expr) -> bool:
        """Whether an expression is the same in all of the pipeline."""
        return all(n.startswith("$") or n in self.known for n in e.names())

    # processes

    def end(self, c: ChannelSpec, what: str, which: str) -> OpenChannel:
        """A channel that the process under trace uses, as one that it `consumes` or `produces`."""
        found = self.channel(c, what)
        declared = None if self.named is None else getattr(self.named, which)
        if declared is not None and not any(d is c for d in declared):
            assert self.named is not None
            raise TraceError(
                "PTO812",
                f"{what}: process {self.named.name} is not declared to have this end of channel {found.name}",
                values={which: ", ".join(self.channel(d, what).name for d in declared) or "nothing"},
                loc=here(),
                fix=f"declare it: process({self.named.name!r}).{which}({found.name})",
            )
        if what in ("try_send", "query") and not self.timed:
            raise TraceError(
                "PTO819",
                f"{what} in a pipeline that is not timed",
                values={"channel": found.name},
                loc=here(),
                fix="say connect(..., timed=True) or P.pipe(timed=True): what it answers is then that of semantic time",
            )
        self.builder.forget_reads()
        return found

    @property
    def in_process(self) -> bool:
        """Whether a process is being traced, and not what stands between."""
        return self.builder.blocks[-1] is not self.block

    def need_process(self, what: str) -> None:
        """Raise TraceError directly in a pipeline."""
        if not self.in_process:
            raise self._no_process(what, here())

    def _no_process(self, what: str, loc: Location) -> TraceError:
        return TraceError(
            "PTO816",
            f"{what} directly in P.pipe(), which is no process",
            loc=loc,
            fix='a process is a loop, a `with consume(c)`, a P.when, or a kernel call; or name it: process("p").body(fn) and connect',
        )

    def process(self, eqns: Sequence[Eqn], declared: Declared) -> Eqn:
        """A process of these equations."""
        name = declared.name
        ends: dict[str, tuple[str, ...]] = {}
        for which, prims in (("consumes", ("recv", "consume", "query")), ("produces", (*SENDS, "close"))):
            said = getattr(declared, which) or ()
            names = [self.channel(c, which).name for c in said]
            names += [self._name_of(e) for top in eqns for e in ends_inside(top) if e.prim in prims]
            ends[which] = tuple(dict.fromkeys(names))
        params: dict[str, Any] = {"name": name, **ends}
        params |= {} if declared.replica is None else {"replica": declared.replica}
        refuse_after_close(name, eqns)
        return Eqn("process", params=params, regions=(Region((), tuple(eqns)),), loc=declared.loc)

    def _name_of(self, end: Eqn) -> str:
        """The channel that an equation names."""
        return self._by_var[channel_var(end).name].name

    def close(self) -> None:
        """The pipeline ends: its equation, with what is the same for all processes before it."""
        b = self.builder
        before, rest = self._split()
        taken = {str(p.params["name"]) for p in self.processes}
        for e in rest:
            eqns = e.regions[0].eqns if e.prim == "process" else (e,)
            name = self._called(eqns, taken)
            taken.add(name)
            declared = Declared(name, None, None, None, e.loc or self.loc)
            self.processes.append(self.process(eqns, declared))
        b.close_block()
        b.pipes.pop()
        if not self.processes:
            raise TraceError(
                "PTO816",
                "a pipeline without processes",
                loc=self.loc,
                fix="write loops, consumes and kernel calls in it: each top-level statement is a process",
            )
        self._refuse_unused()
        for e in before:
            b.append(e)
        channels = tuple(c.eqn() for c in self.every_channel)
        params = {"name": self.name, "timed": self.timed}
        made = Eqn("pipeline", params=params, regions=(Region((), (*channels, *self.processes)),), loc=self.loc)
        for c in self.channels.values():
            _refuse_unbounded(made, c)
        b.append(made)

    def abandon(self) -> None:
        """Python left it in its middle: the trace is broken."""
        b = self.builder
        b.broken = b.broken or self.loc
        while b.blocks[-1] is not self.block:
            b.abandon_block()
        b.close_block()
        b.pipes.pop()

    def _split(self) -> tuple[list[Eqn], list[Eqn]]:
        """Scalars that stand directly in the pipeline, which are computed before it, and the statements that are processes."""
        before, rest = list[Eqn](), list[Eqn]()
        for e in self.block.eqns:
            (rest if e.regions or e.prim in ("task", "slot_set", *ENDS) else before).append(e)
        written = {
            v.tensor
            for p in (*rest, *self.processes)
            for t in p.walk()
            if t.prim == "task"
            for v in t.ins
            if isinstance(v, View) and self.builder.writes(v.tensor)
        }
        for e in before:
            if e.prim in READS and any(isinstance(x, View) and x.tensor in written for x in e.ins):
                raise self._no_process(f"{e.prim} of what a process of the pipeline writes", e.loc or self.loc)
        for e in rest:
            if e.prim == "slot_set":
                raise self._no_process("slot_set", e.loc or self.loc)
        return before, rest

    def _called(self, eqns: Sequence[Eqn], taken: Collection[str]) -> str:
        """A process without a name is called as its first kernel; without kernels, by what it does first with a channel."""
        tasks = (t for e in eqns for t in e.walk() if t.prim == "task")
        kernel = next((str(t.params["kernel"]) for t in tasks), None)
        end = next((e for top in eqns for e in ends_inside(top)), None)
        acts = "process" if end is None else f"{end.prim}_{self._name_of(end)}"
        label = next((k.label for k in self.builder.kernels.values() if k.name == kernel), acts)
        return unique_name(label, taken)

    def _refuse_unused(self) -> None:
        """Raise CompileError for a channel that nobody feeds, or nobody drains."""
        ways = [("produces", "feeds"), ("consumes", "drains")]
        used = {which: {name for p in self.processes for name in _ends(p, which)} for which, _ in ways}
        for c in self.every_channel:
            for which, word in ways:
                if c.name in used[which]:
                    continue
                if which == "produces" and c.params["initial"]:
                    continue
                if self.builder.pipes:
                    raise TraceError(
                        "PTO824",
                        f"channel {c.name} belongs to a pipeline inside of a process, where nobody {word} it",
                        values={"pipeline": self.loc},
                        loc=c.loc,
                        fix="a channel has both ends in one pipeline; what a pipeline inside of a process gives, its process sends",
                    )
                raise CompileError(
                    "PTO814",
                    f"nobody {word} channel {c.name}",
                    values={"processes": ", ".join(str(p.params["name"]) for p in self.processes)},
                    loc=c.loc,
                    fix="send to it in one process, and receive from it in another; or leave it out",
                )


def _refuse_unbounded(pipeline: Eqn, c: OpenChannel) -> None:
    """Raise ScheduleError for a channel of any depth where nothing bounds the tokens that are sent to it."""
    if "depth" in c.params or c.var is None:
        return
    send = next(unbounded_sends(pipeline, c.var.name), None)
    if send is not None:
        raise ScheduleError(
            "PTO825",
            f"channel {c.name} of depth=None, to which any number of tokens may be sent",
            values={"channel": c.loc},
            loc=send.loc or here(),
            fix="give it a depth; or send in loops whose extents are known when the pipeline begins",
        )


def _without_tile(form: Form) -> Form:
    return replace(form, tile=None) if isinstance(form, ScalarForm) else form


def _ends(p: Eqn, which: str) -> tuple[Any, ...]:
    ends = p.params[which]
    assert isinstance(ends, tuple)
    return ends


def refuse_after_close(name: str, eqns: Sequence[Eqn]) -> None:
    """Raise ChannelClosed where a process is sure to send to what it has closed."""
    closed: dict[str, Eqn] = {}
    for e in eqns:
        for end in _surely(e):
            if end.prim in SENDS and channel_var(end).name in closed:
                channel = channel_var(end).name
                raise ChannelClosed(
                    "PTO817",
                    f"process {name} sends to channel {channel}, which it has closed",
                    values={"closed": closed[channel].loc},
                    loc=end.loc or here(),
                    fix="close a channel after the last send",
                )
        if e.prim == "close":
            closed[channel_var(e).name] = e
        for r in e.regions if e.prim != "pipeline" else ():
            refuse_after_close(name, r.eqns)


def _surely(e: Eqn) -> Iterator[Eqn]:
    """An equation and those inside that run whenever it does."""
    yield e
    axis = e.params.get("axis")
    counted = isinstance(axis, Axis) and axis.extent.is_const and axis.extent.const > 0 and len(e.regions) == 1
    if counted or e.prim in PARTS:
        for inner in (x for r in e.regions for x in r.eqns):
            yield from _surely(inner)


def open_pipeline(what: str) -> OpenPipeline:
    """The innermost pipeline under trace in this thread. Raises TraceError where there is none."""
    builder = current_workload(what)
    if not builder.pipes:
        raise TraceError(
            "PTO824",
            f"{what} outside of a pipeline",
            loc=here(),
            fix="write it in `with P.pipe():`, or in the body of a process that connect(...) is given",
        )
    return builder.pipes[-1]


class Pipe:
    """`with P.pipe():` makes each statement directly inside a process of its own: a loop, a `with consume(c)`, a P.when, a kernel call.

    Scalars that stand directly inside are computed before the pipeline. timed: `try_send` and `query` may be used, and semantic time
    decides what they answer.
    """

    def __init__(self, *, timed: bool = False) -> None:
        self._loc = here()
        self._builder = current_workload("P.pipe")
        self._timed = checked_flag(timed)
        self._pipe: OpenPipeline | None = None

    def __enter__(self) -> None:
        refuse_leaving("P.pipe", "the body is traced once", "behind it")
        self._pipe = OpenPipeline(self._builder, timed=self._timed, only=None, loc=self._loc)

    def __exit__(self, kind: object, *exc: object) -> None:
        assert self._pipe is not None
        if kind is not None or self._builder.blocks[-1] is not self._pipe.block:
            self._pipe.abandon()
        else:
            self._pipe.close()


def checked_flag(timed: object) -> bool:
    """`timed=` of a pipeline."""
    if not isinstance(timed, bool):
        raise TraceError(
            "PTO823", "timed= is True or False", values={"got": repr(timed)[:80]}, loc=here(), fix="write timed=True"
        )
    return timed
