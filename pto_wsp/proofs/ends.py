"""Where in a pipeline the operations on channels stand, and the tasks; and the numbers of tensors' parts that go round with tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pto_wsp.ir.conditions import loop_axis
from pto_wsp.ir.core import At, ChannelType, Eqn, Region, Var, View, Wir, task_effects
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.processes import ENDS, SENDS, channel_var, channels_of, ends_of, processes_of
from pto_wsp.ir.tasks import LOOPS, READS

REPEATING = (*LOOPS, "consume")


@dataclass(frozen=True, eq=False)
class Site:
    """An equation in a process: `around` it what has regions, outermost first, and the region that each holds it in. `place`: its
    position among all equations of the process, in program order."""

    eqn: Eqn
    process: int
    around: tuple[Eqn, ...]
    regions: tuple[Region, ...]
    place: int

    @property
    def region(self) -> Region:
        return self.regions[-1]


@dataclass
class Ends:
    """The sites of a pipeline: operations on its channels, by name of the channel, and of everything else that tasks and reads
    touch; those of pipelines inside count as of the process around."""

    wir: Wir
    pipeline: Eqn
    names: dict[str, str] = field(default_factory=dict[str, str])  # of channels, by variable
    sends: dict[str, list[Site]] = field(default_factory=dict[str, list[Site]])
    receives: dict[str, list[Site]] = field(default_factory=dict[str, list[Site]])
    closes: dict[str, list[Site]] = field(default_factory=dict[str, list[Site]])
    effects: list[Site] = field(default_factory=list[Site])
    inside: list[list[Site]] = field(default_factory=list[list[Site]])  # of each process, all of its equations
    carrying: dict[str, list[tuple[Site, int]]] = field(default_factory=dict[str, "list[tuple[Site, int]]"])
    """By variable the sends that carry it, and in which field."""
    processes: tuple[Eqn, ...] = ()
    channels: dict[str, Eqn] = field(default_factory=dict[str, Eqn])  # by name
    producers: dict[str, list[int]] = field(default_factory=dict[str, list[int]])  # processes, by name of the channel
    consumers: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    @staticmethod
    def of(wir: Wir, pipeline: Eqn) -> Ends:
        out = Ends(wir, pipeline, {c.outs[0].name: str(c.params["name"]) for c in channels_of(pipeline)})
        out.processes = processes_of(pipeline)
        out.channels = {str(c.params["name"]): c for c in channels_of(pipeline)}
        for which, ends in (("produces", out.producers), ("consumes", out.consumers)):
            ends.update((name, []) for name in out.channels)
            for k, p in enumerate(out.processes):
                for name in ends_of(p, which):
                    ends[name].append(k)
        for name in out.names.values():
            out.sends[name], out.receives[name], out.closes[name] = [], [], []
        out.inside = [list(_sites(p.regions[0], k, (), (), [0])) for k, p in enumerate(out.processes)]
        for s in out.everything:
            if s.eqn.prim in ENDS and channel_var(s.eqn).name in out.names:
                kept = out.sends if s.eqn.prim in SENDS else out.closes if s.eqn.prim == "close" else out.receives
                kept[out.names[channel_var(s.eqn).name]].append(s)
            elif s.eqn.prim == "task" or s.eqn.prim in READS:
                out.effects.append(s)
        for s in (s for sites in out.sends.values() for s in sites):
            for k, e in enumerate(s.eqn.ins[1:]):
                for name in e.names() if isinstance(e, Expr) else ():
                    out.carrying.setdefault(name, []).append((s, k))
        return out

    @property
    def everything(self) -> Iterator[Site]:
        return (s for sites in self.inside for s in sites)

    def channel(self, s: Site) -> str:
        """The name of the channel that an operation is on."""
        return self.names[channel_var(s.eqn).name]

    def of_channel(self, name: str) -> Eqn:
        return self.channels[name]

    def process(self, k: int) -> Eqn:
        return self.processes[k]

    def name(self, k: int) -> str:
        return str(self.process(k).params["name"])

    def views(self, s: Site) -> Iterator[tuple[View, bool]]:
        """What a task or a read touches, and whether it writes."""
        found = (
            ((v, w) for _, v, w in task_effects(self.wir, s.eqn))
            if s.eqn.prim == "task"
            else ((x, False) for x in s.eqn.ins if isinstance(x, View))
        )
        for view, writes in found:
            yield from ((index, False) for index in view.index_views())
            yield view, writes


def _sites(
    region: Region, process: int, around: tuple[Eqn, ...], regions: tuple[Region, ...], counter: list[int]
) -> Iterator[Site]:
    for eqn in region.eqns:
        counter[0] += 1
        yield Site(eqn, process, around, (*regions, region), counter[0])
        for r in eqn.regions:
            yield from _sites(r, process, (*around, eqn), (*regions, region), counter)


def fields_of(s: Site) -> tuple[Var, ...]:
    """What a receive gives."""
    return s.eqn.regions[0].params if s.eqn.prim == "consume" else s.eqn.outs


def channel_fields(channel: Eqn) -> int:
    """How many fields its tokens have."""
    t = channel.outs[0].type
    assert isinstance(t, ChannelType)
    return len(t.fields)


Position = tuple[str, int]
"""A field of the tokens of a channel."""


@dataclass(frozen=True)
class Owned:
    """Tensors of which each process touches parts only by numbers that it holds and nobody else: each number is an initial token of
    one channel, and whoever receives it sends it on once at most, behind the last use. `lots`: channels in which such numbers alone are
    at first, with all fields of tokens that carry them."""

    tensors: frozenset[str] = frozenset()
    lots: Mapping[str, frozenset[Position]] = field(default_factory=dict[str, "frozenset[Position]"])


def owned(ends: Ends) -> Owned:
    """What can be seen to be so."""
    uses: dict[str, list[tuple[Site, View]]] = {}
    for s in ends.effects:
        for view, _ in ends.views(s):
            uses.setdefault(view.tensor, []).append((s, view))
    receivers = {v.name: (s, k) for sites in ends.receives.values() for s in sites for k, v in enumerate(fields_of(s))}
    tensors: set[str] = set()
    lots: dict[str, frozenset[Position]] = {}
    for tensor, touched in uses.items():
        found = _numbers(ends, touched, receivers)
        if found is not None:
            tensors.add(tensor)
            lots |= {
                c: frozenset(found) for c, _ in found if _begins(ends, c) and channel_fields(ends.of_channel(c)) == 1
            }
    lots = {c: to for c, to in lots.items() if all(_only_numbers(ends, tensors, s) for s in ends.receives[c])}
    return Owned(frozenset(tensors), lots)


def _begins(ends: Ends, channel: str) -> bool:
    return ends.of_channel(channel).params["initial"] != 0


def _number_of(view: View) -> str | None:
    """The variable that alone is the first index of a view."""
    d = view.dims[0] if view.dims else None
    if not isinstance(d, At) or len(d.index.terms) != 1 or d.index.const or d.index.terms[0][1] != 1:
        return None
    name = d.index.terms[0][0]
    return name if isinstance(name, str) else None


def _numbers(
    ends: Ends, touched: Sequence[tuple[Site, View]], receivers: dict[str, tuple[Site, int]]
) -> set[Position] | None:
    """The fields of tokens that carry the numbers of parts of a tensor, if each is held by one at a time."""
    positions: set[Position] = set()
    used: dict[str, list[Site]] = {}
    for s, view in touched:
        name = _number_of(view)
        if name is None or name not in receivers:
            return None
        at, k = receivers[name]
        positions.add((ends.channel(at), k))
        used.setdefault(name, []).append(s)
    todo = list(positions)
    while todo:  # channels that the numbers go on to, and come from
        c, k = todo.pop()
        for s in ends.receives[c]:
            if s.eqn.prim == "query":
                continue
            v = fields_of(s)[k]
            for send, j in ends.carrying.get(v.name, ()):
                if (p := (ends.channel(send), j)) not in positions:
                    positions.add(p)
                    todo.append(p)
        for s in ends.sends[c]:
            e = s.eqn.ins[1 + k]
            name = str(e.terms[0][0]) if isinstance(e, Expr) and len(e.terms) == 1 else ""
            if e != var(name) or name not in receivers:
                return None
            at, j = receivers[name]
            if (p := (ends.channel(at), j)) not in positions:
                positions.add(p)
                todo.append(p)
    if sum(_begins(ends, c) for c, _ in positions) > 1:
        return None
    for c, k in positions:
        for s in ends.receives[c]:
            if s.eqn.prim != "query" and not _held(ends, s, fields_of(s)[k].name, used):
                return None
    return positions


def _held(ends: Ends, received: Site, name: str, used: dict[str, list[Site]]) -> bool:
    """Whether a number is used only between its receive and the one place that sends it on, in the block of the receive."""
    block = received.eqn.regions[0] if received.eqn.prim == "consume" else received.region
    sends = ends.carrying.get(name, [])
    if len(sends) > 1 or any(s.region is not block or s.eqn.prim != "send" for s, _ in sends):
        return False
    last = sends[0][0].place if sends else None
    inside = all(any(r is block for r in s.regions) for s in used.get(name, ()))
    return inside and all(last is None or s.place < last for s in used.get(name, ()))


def _only_numbers(ends: Ends, tensors: set[str], received: Site) -> bool:
    """Whether what is received names parts of owned tensors, and nothing else, before it is sent on."""
    if received.eqn.prim == "query":
        return False
    (v,) = fields_of(received)
    for s in ends.inside[received.process]:
        if s.eqn.prim in SENDS:
            continue
        for x in s.eqn.ins:
            if isinstance(x, View) and v.name in x.names():
                if (
                    x.tensor not in tensors
                    or _number_of(x) != v.name
                    or any(v.name in e.names() for d in x.dims[1:] for e in View("", (d,)).exprs())
                ):
                    return False
            elif (isinstance(x, Expr) and v.name in x.names()) or x == v:
                return False
        if any(v.name in e.names() for e in _expressions(s.eqn)):
            return False
    return True


def _expressions(eqn: Eqn) -> Iterator[Expr]:
    """Those of a loop's axis; coordinates are names of tasks and touch nothing."""
    if eqn.prim in LOOPS:
        yield loop_axis(eqn).size
