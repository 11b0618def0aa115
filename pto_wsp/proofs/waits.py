"""Who waits for whom, from what a pipeline looks like: what can never move, and what certainly comes to an end.

It comes to an end, whatever sizes, data and time are,

- where processes take tokens only in one `consume` each, channels lead from process to process without a cycle, and the numbers of
  buffers that go round (`Owned`) come back to who waits for them: of the processes that wait for room or for a buffer, take one
  behind which none waits so; what it waits for moves;
- where two processes at most share a channel, which with its numbers of buffers is all they share, processes and channels are trees, and
  of each channel as many tokens are received as are sent: no waits go round, and nobody waits for one that has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from pto_wsp.errors import DeadlockError, here
from pto_wsp.ir.conditions import loop_axis
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.processes import SENDS, TIMED, channel_var, channels_of, settings_of
from pto_wsp.ir.tasks import LOOPS
from pto_wsp.proofs.blocked import blocked
from pto_wsp.proofs.determinacy import Freedom
from pto_wsp.proofs.ends import Ends, Site, fields_of

T = TypeVar("T")


def refuse_hopeless(ends: Ends) -> None:
    """Raise DeadlockError for a rendezvous of a process with itself, and for a cycle of `consume` loops of which each waits for the
    next to end."""
    for c in channels_of(ends.pipeline):
        name = str(c.params["name"])
        sites = [*ends.sends[name], *ends.receives[name]]
        meets = c.params.get("depth") == 0 and len({s.process for s in sites}) == 1
        sent = next((s for s in ends.sends[name] if meets and s.eqn.prim == "send" and _happens(s)), None)
        if sent is not None:
            raise _hopeless(
                ends,
                f"process {ends.name(sent.process)} waits for itself: channel {name} holds nothing, and no other process receives "
                "from it",
                [sent],
                f"give channel {name} a depth of 1 or more",
                remedy={},
            )
    cycle = _cycle_of_consumes(ends)
    if cycle:
        raise _hopeless(
            ends,
            "each of these processes consumes until the next has ended, and none ever does",
            cycle,
            f"close({ends.channel(cycle[0])}) inside of the loop when the work is done, or receive a known number of tokens",
            remedy=None,
        )


def _happens(s: Site) -> bool:
    """Whether an operation is certainly come to, if nothing before waits for ever."""
    return all(
        e.prim in LOOPS and len(e.regions) == 1 and loop_axis(e).extent.is_const and loop_axis(e).extent.const > 0
        if e.prim in LOOPS
        else e.prim not in ("cond", "consume", "pipeline")
        for e in s.around
    )


def _hopeless(
    ends: Ends, what: str, sites: Sequence[Site], fix: str, remedy: Mapping[str, int] | None
) -> DeadlockError:
    pipeline = ends.pipeline
    values: dict[str, object] = {
        "pipeline": str(pipeline.params["name"]) + (f", {pipeline.loc}" if pipeline.loc else "")
    }
    waiting: list[Mapping[str, object]] = []
    for s in sites:
        process, channel = ends.name(s.process), ends.channel(s)
        depth = settings_of(ends.of_channel(channel)).get("depth")
        of = "" if depth is None else f" of depth {depth}"
        values[f"process {process}"] = f"{s.eqn.prim} {channel}{of}" + (f", {s.eqn.loc}" if s.eqn.loc else "")
        waiting.append(blocked(process, "send" if s.eqn.prim in SENDS else "recv", channel, depth, loc=s.eqn.loc))
    error = DeadlockError("PTO865", what, values=values, loc=sites[0].eqn.loc or pipeline.loc or here(), fix=fix)
    error.resource = f"channel {waiting[0]['channel']}"
    error.blocked, error.remedy = tuple(waiting), remedy
    return error


def _cycle_of_consumes(ends: Ends) -> list[Site]:
    """A `consume` of each process of a cycle, if there is one: all are come to, and none can end before the next."""
    edges: dict[Site, list[Site]] = {}
    consumes = [s for sites in ends.receives.values() for s in sites if s.eqn.prim == "consume" and _happens(s)]
    by_process: dict[int, list[Site]] = {}
    for s in consumes:
        by_process.setdefault(s.process, []).append(s)
    for s in consumes:
        name = ends.channel(s)
        for other in (o for k in ends.producers[name] for o in by_process.get(k, ())):
            if not any(
                c.process == other.process and (c.place < other.place or other.eqn in c.around)
                for c in ends.closes[name]
            ):
                edges.setdefault(s, []).append(other)
    return find_cycle(edges)


def find_cycle(edges: Mapping[T, Iterable[T]]) -> list[T]:
    """The nodes of a cycle, none where there is none."""
    done: set[T] = set()
    for first in edges:
        path: list[T] = [first]
        on_path = {first}
        ways = [iter(edges[first])] if first not in done else []
        while ways:
            node = next(ways[-1], None)
            if node is None:
                ways.pop()
                on_path.discard(path[-1])
                done.add(path.pop())
            elif node in on_path:
                return path[path.index(node) :]
            elif node not in done:
                path.append(node)
                on_path.add(node)
                ways.append(iter(edges.get(node, ())))
    return []


# what surely ends


def ends_surely(ends: Ends, free: Freedom) -> bool:
    """Whether all processes come to an end, if their tasks do."""
    return _flows(ends, free) or _is_tree(ends, free)


def _flows(ends: Ends, free: Freedom) -> bool:
    lots = free.owned.lots
    groups = [str(p.params.get("replica") or f"process {k}") for k, p in enumerate(ends.processes)]
    later: dict[str, set[str]] = {}
    for c in channels_of(ends.pipeline):
        name = str(c.params["name"])
        if not _closes_last(ends, name):
            return False
        if name in lots:
            continue
        if any(s.eqn.prim != "consume" or not _is_plain(s) for s in ends.receives[name]) or not ends.receives[name]:
            return False
        if any(s.eqn.prim != "send" for s in ends.sends[name]):
            return False
        producers, consumers = ends.producers[name], ends.consumers[name]
        if {s.process for s in ends.receives[name]} != set(consumers):
            return False
        for k in producers:
            later.setdefault(groups[k], set()).update(groups[j] for j in consumers)
    taken = [s.process for name, sites in ends.receives.items() if name not in lots for s in sites]
    if len(set(taken)) < len(taken):
        return False
    return _lots_return(ends, free, groups, later) and not find_cycle(later)


def _is_tree(ends: Ends, free: Freedom) -> bool:
    lots = free.owned.lots
    pairs: set[tuple[int, int]] = set()
    neighbours: dict[int, list[int]] = {}
    counts = _Counts(ends)
    for c in channels_of(ends.pipeline):
        name = str(c.params["name"])
        sites = [*ends.sends[name], *ends.receives[name]]
        users = {*ends.producers[name], *ends.consumers[name]}
        one, other = ({s.process for s in x} for x in (ends.sends[name], ends.receives[name]))
        if len(one) != 1 or len(other) != 1 or one == other or users != one | other or not _closes_last(ends, name):
            return False
        pair = (min(users), max(users))
        if name in lots:
            if any({s.process for s in ends.receives[d]} - users for d, _ in lots[name]):
                return False
            continue
        if pair in pairs or not _all_received(ends, counts, name) or any(s.eqn.prim in TIMED for s in sites):
            return False
        pairs.add(pair)
        for a, b in (pair, pair[::-1]):
            neighbours.setdefault(a, []).append(b)
    groups = [f"process {k}" for k in range(len(ends.processes))]
    return _lots_return(ends, free, groups, {}) and not _has_ring(neighbours)


def _all_received(ends: Ends, counts: _Counts, name: str) -> bool:
    sites = ends.receives[name]
    if len(sites) == 1 and sites[0].eqn.prim == "consume":
        return _is_plain(sites[0])
    sent, received = counts.sent(name), counts.of(sites)
    return sent is not None and sent == received


def _has_ring(neighbours: Mapping[int, Sequence[int]]) -> bool:
    """Whether an undirected graph, of which each edge is written at both ends, has a cycle."""
    seen: set[int] = set()
    for first in neighbours:
        todo = [(first, -1)] if first not in seen else []
        while todo:
            node, come_from = todo.pop()
            if node in seen:
                return True
            seen.add(node)
            todo += [(n, node) for n in neighbours[node] if n != come_from]
    return False


class _Counts:
    """How many tokens go through channels, in terms of sizes; None where data decides."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self._counting: set[str] = set()

    def sent(self, name: str) -> Expr | None:
        """Initial tokens included."""
        if name in self._counting:
            return None
        self._counting.add(name)
        total = self.of(self.ends.sends[name])
        self._counting.discard(name)
        return None if total is None else total + int(str(self.ends.of_channel(name).params["initial"]))

    def of(self, sites: Iterable[Site]) -> Expr | None:
        """How often sites are come to."""
        total = const(0)
        for s in sites:
            n = self._times(s)
            if n is None or s.eqn.prim not in ("send", "recv"):
                return None
            total = total + n
        return total

    def _times(self, s: Site) -> Expr | None:
        n = const(1)
        for e in s.around:
            if e.prim == "consume":
                tokens = (
                    self.sent(self.ends.names[channel_var(e).name]) if channel_var(e).name in self.ends.names else None
                )
            elif e.prim in LOOPS:
                extent = loop_axis(e).extent
                plain = len(e.regions) == 1 and all(name[0] == "$" for name in extent.names())
                tokens = extent if plain else None
            else:
                tokens = None if e.prim in ("cond", "pipeline") else const(1)
            if tokens is None:
                return None
            n = n * tokens
        return n


def _is_plain(s: Site) -> bool:
    return not any(e.prim in (*LOOPS, "consume", "cond") for e in s.around)


def _closes_last(ends: Ends, name: str) -> bool:
    return all(
        _is_plain(c) and all(s.place < c.place for s in ends.sends[name] if s.process == c.process)
        for c in ends.closes[name]
    )


def _lots_return(ends: Ends, free: Freedom, groups: Sequence[str], later: dict[str, set[str]]) -> bool:
    """Whether the numbers of buffers come back. Adds to `later` who waits for whom for them."""
    nested: dict[str, set[str]] = {}
    taken: dict[int, list[tuple[int, str]]] = {}  # by process, where it receives from which lot
    for lot in free.owned.lots:
        for s in ends.receives[lot]:
            taken.setdefault(s.process, []).append((s.place, lot))
    for lot, positions in free.owned.lots.items():
        received = [(s, k) for c, k in positions for s in ends.receives[c]]
        if any(s.eqn.prim not in ("recv", "consume") or len(_sent_on(ends, s, k)) != 1 for s, k in received):
            return False
        if any(s.eqn.prim != "recv" for s in ends.receives[lot]):
            return False
        if _holds_two(ends, received):
            return False
        holders = {groups[s.process] for s, _ in received}
        for s in ends.receives[lot]:
            (sent,) = _sent_on(ends, s, 0)
            mine = groups[s.process]
            later.setdefault(mine, set()).update(holders - {mine})
            inside = {other for place, other in taken[s.process] if s.place < place < sent.place}
            if inside:
                nested.setdefault(lot, set()).update(inside)
    return not find_cycle(nested)


def _holds_two(ends: Ends, received: Sequence[tuple[Site, int]]) -> bool:
    """Whether who has received a number of a buffer waits for another of the same lot before it sends that on: there may be none."""
    places: dict[int, list[int]] = {}
    for s, _ in received:
        places.setdefault(s.process, []).append(s.place)
    return any(s.place < p < _sent_on(ends, s, k)[0].place for s, k in received for p in places[s.process])


def _sent_on(ends: Ends, received: Site, field: int) -> list[Site]:
    """The sends that carry a number on that is received here."""
    return [s for s, _ in ends.carrying.get(fields_of(received)[field].name, ())]
