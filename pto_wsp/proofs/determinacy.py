"""Determinate networks: whatever the time, processes compute the same.

Every channel has one sender and one receiver, or its shared ends are replicas. Tokens of a channel that several send, or that is sent
to by whoever gets tokens in no known order, are in no known order either; of a channel that several receive, nobody knows who gets
which. What takes such a token (an iteration of a `consume`, or of the loop around a `recv`) must not know which were before: it keeps
nothing for the next one, in slots or tensors, and names what it writes by the token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import Direction, Eqn, Region, Role, Var, View
from pto_wsp.ir.processes import ENDS, SENDS, channel_var, channels_of
from pto_wsp.ir.tasks import READS, used_names
from pto_wsp.proofs.ends import REPEATING, Ends, Owned, Site, channel_fields, fields_of, owned


@dataclass
class Freedom:
    """What time may decide without any number changing. `mixed`: channels whose tokens are in no known order. `silent`: of which nobody
    knows who gets what. `bodies`: loops whose iterations are in no known order, by identity. `scratch`: memory of a process that
    begins anew in each of these. `doubts`: what makes time decide where there are two tokens or more, of a channel."""

    owned: Owned
    mixed: set[str] = field(default_factory=set[str])
    silent: set[str] = field(default_factory=set[str])
    bodies: dict[int, Site] = field(default_factory=dict[int, Site])
    scratch: set[str] = field(default_factory=set[str])
    doubts: list[tuple[str, TypeCheckError]] = field(default_factory=list[tuple[str, TypeCheckError]])

    @property
    def is_none(self) -> bool:
        return not (self.mixed or self.silent or self.bodies)


def freedom(ends: Ends) -> Freedom:
    """Of a pipeline in which nothing asks for the time. Raises TypeCheckError for processes that share an end and are no replicas."""
    out = Freedom(owned(ends))
    loose: list[str] = []
    for c in channels_of(ends.pipeline):
        name = str(c.params["name"])
        for sites in (ends.sends[name], ends.receives[name]):
            if len({s.process for s in sites}) > 1:
                _refuse_strangers(ends, name, sites)
                loose.append(name)
        if len({s.process for s in ends.sends[name]}) > 1:
            out.mixed.add(name)
    seen: set[str] = set()
    while loose:
        name = loose.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in out.owned.lots or not channel_fields(ends.of_channel(name)):
            out.silent.add(name)
            continue
        for site in ends.receives[name]:
            body = _body(site)
            if body is None or id(body) not in out.bodies:
                if body is not None:
                    out.bodies[id(body)] = site
                try:
                    _check(ends, out, site, body, name)
                except TypeCheckError as e:
                    out.doubts.append((name, e))
            for s in _inside(ends, site, body):
                if s.eqn.prim in SENDS and channel_var(s.eqn).name in ends.names:
                    out.mixed.add(ends.channel(s))
                    loose.append(ends.channel(s))
    return out


def _body(site: Site) -> Eqn | None:
    """The loop an iteration of which takes one token; None: the process takes one."""
    if site.eqn.prim == "consume":
        return site.eqn
    return next((e for e in reversed(site.around) if e.prim in REPEATING), None)


def _inside(ends: Ends, site: Site, body: Eqn | None) -> Iterator[Site]:
    """What is in the body of a site, in program order."""
    for s in ends.inside[site.process]:
        if body is None or any(e is body for e in s.around):
            yield s


# errors


def _of(ends: Ends, s: Site) -> str:
    place = f", {s.eqn.loc}" if s.eqn.loc else ""
    return f"{s.eqn.prim} in process {ends.name(s.process)}{place}"


def _refuse_strangers(ends: Ends, name: str, sites: list[Site]) -> None:
    first = sites[0]
    group = ends.process(first.process).params.get("replica")
    others = (s for s in sites if s.process != first.process)
    other = next((s for s in others if group is None or ends.process(s.process).params.get("replica") != group), None)
    if other is None:
        return
    end = "send to" if sites[0].eqn.prim in SENDS else "receive from"
    raise TypeCheckError(
        "PTO860",
        f"two processes {end} channel {name} that are no replicas: the order of its tokens would depend on time",
        values={"channel": _declared(ends, name), "one": _of(ends, first), "the other": _of(ends, other)},
        loc=other.eqn.loc or here(),
        fix="give each a channel of its own, make them by replicate(process, n), or write timed=True, by which the cycles "
        "of the arch decide",
    )


def _declared(ends: Ends, name: str) -> str:
    c = ends.of_channel(name)
    return f"{name}, {c.loc}" if c.loc else name


def _keeps(ends: Ends, name: str, taken: Site, by: Site, what: str, **values: object) -> TypeCheckError:
    return TypeCheckError(
        "PTO861",
        f"process {ends.name(taken.process)} takes tokens of channel {name} in an order that depends on time, and {what}",
        values={"channel": _declared(ends, name), "takes": _of(ends, taken), "there": _of(ends, by), **values},
        loc=by.eqn.loc or taken.eqn.loc or here(),
        fix="name what is written by the token and keep nothing between tokens, let one process send and one receive, or write "
        "timed=True, by which the cycles of the arch decide",
    )


# what an iteration may do


def _check(ends: Ends, known: Freedom, taken: Site, body: Eqn | None, name: str) -> None:
    inside = list(_inside(ends, taken, body))
    _check_receives(ends, known, taken, inside, name)
    if body is not None:
        _check_names(ends, taken, body, inside, name)
        _check_slots(ends, taken, body, inside, name)
    token = _derived(inside, {v.name for v in fields_of(taken)})
    for s in inside:
        if s.eqn.prim != "task":
            continue
        for view, writes in ends.views(s):
            if view.tensor in known.owned.tensors:
                continue
            if _is_scratch(ends, view.tensor, inside):
                known.scratch.add(view.tensor)
            elif writes and not view.names() & token:
                what = f"writes elements of {view.tensor} that the token does not name"
                raise _keeps(ends, name, taken, s, what)
    for tensor in known.owned.tensors:
        _check_begins(ends, known, taken, tensor, inside, name)


def _check_receives(ends: Ends, known: Freedom, taken: Site, inside: list[Site], name: str) -> None:
    for s in inside:
        if s is taken or s.eqn.prim not in ("recv", "consume") or channel_var(s.eqn).name not in ends.names:
            continue
        c = ends.channel(s)
        if c not in known.owned.lots and channel_fields(ends.of_channel(c)):
            what = f"takes a token of channel {c} for each: which go together would depend on time"
            raise _keeps(ends, name, taken, s, what)


def _check_names(ends: Ends, taken: Site, body: Eqn, inside: list[Site], name: str) -> None:
    bound = {v.name for s in inside for v in _binds(s.eqn)} | {v.name for r in body.regions for v in r.params}
    if taken.eqn.prim != "consume" and body.prim != "consume":
        bound -= {v.name for v in body.regions[0].params}  # the loop's own variable says how many were before
    fixed: set[str] = set()
    outer: set[str] = set()
    for s in ends.inside[taken.process]:
        once = not any(e.prim in REPEATING for e in s.around) and s.eqn.prim not in ENDS
        (fixed if once and s.eqn.prim not in REPEATING else outer).update(v.name for v in _binds(s.eqn))
    for s in inside:
        used = _uses(s.eqn) & outer - bound - fixed
        if used:
            raise _keeps(ends, name, taken, s, f"uses {', '.join(sorted(used))}, which is another one each time")


def _check_slots(ends: Ends, taken: Site, body: Eqn, inside: list[Site], name: str) -> None:
    kept: set[object] = {s.eqn.params["slot"] for s in inside if s.eqn.prim == "slot_set"}
    begin = min(s.place for s in inside) if inside else 0
    sites = {id(s.eqn): s for s in inside}
    for eqn in _unset_reads(body.regions[0], set(), kept):
        raise _keeps(ends, name, taken, sites[id(eqn)], f"reads slot {eqn.params['slot']}, which an earlier token set")
    members = {id(s.eqn) for s in inside}
    for s in ends.inside[taken.process]:
        later = s.place > begin and id(s.eqn) not in members
        if later and s.eqn.prim == "slot_get" and s.eqn.params["slot"] in kept:
            raise _keeps(ends, name, taken, s, f"then reads slot {s.eqn.params['slot']}, which the last token set")


def _unset_reads(region: Region, known: set[object], kept: set[object]) -> Iterator[Eqn]:
    """Reads of `kept` slots that the region may not have set before; adds to `known` what it has."""
    for eqn in region.eqns:
        slot = eqn.params.get("slot")
        if eqn.prim == "slot_get" and slot in kept and slot not in known:
            yield eqn
        elif eqn.prim == "slot_set":
            known.add(slot)
        ways: list[set[object]] = []
        for r in eqn.regions:
            way = set(known)
            yield from _unset_reads(r, way, kept)
            ways.append(way)
        if eqn.prim == "cond" and len(ways) == 2:
            known |= ways[0] & ways[1]
        elif ways and eqn.prim not in REPEATING and eqn.prim not in ("cond", "pipeline"):
            known |= ways[-1].union(*ways)


def _binds(eqn: Eqn) -> Iterable[Var]:
    return (*eqn.outs, *(v for r in eqn.regions for v in r.params))


def _uses(eqn: Eqn) -> frozenset[str]:
    """What it computes with: the coordinates of a task are its name alone."""
    return used_names(replace(eqn, params={})) if eqn.prim == "task" else used_names(eqn)


def _derived(inside: list[Site], token: set[str]) -> set[str]:
    """What is computed from the token alone, loops over it and channels of pipelines inside included."""
    found, before = set(token), -1
    while before != len(found):
        before = len(found)
        for s in inside:
            if s.eqn.prim in READS or not (_uses(s.eqn) & found):
                continue
            if s.eqn.prim in SENDS:
                found.add(channel_var(s.eqn).name)
            elif s.eqn.prim in ("recv", "consume") or s.eqn.outs:
                found.update(v.name for v in (fields_of(s) if s.eqn.prim == "consume" else s.eqn.outs))
    return found


def _is_scratch(ends: Ends, tensor: str, inside: list[Site]) -> bool:
    """Whether a tensor is memory of this process that begins anew with each token: written before it is read."""
    t = ends.wir.tensor_type(tensor)
    if t.role is not Role.TEMPORARY:
        return False
    members = {id(s.eqn) for s in inside}
    for s in ends.effects:
        if id(s.eqn) not in members and any(v.tensor == tensor for v, _ in ends.views(s)):
            return False
    return _written_first(ends, tensor, [s for s in inside if s.eqn.prim in ("task", *READS)])


def _written_first(ends: Ends, tensor: str, sites: list[Site]) -> bool:
    written: list[tuple[View, Site]] = []
    for s in sites:
        pure = _outputs(ends, s)
        for view, _ in ends.views(s):
            if view.tensor == tensor and view not in pure:
                before = any(w == view and any(r is at.region for r in s.regions) for w, at in written)
                if not before:
                    return False
        written += [(v, s) for v in pure if v.tensor == tensor]
    return True


def _outputs(ends: Ends, s: Site) -> list[View]:
    """Views that a task writes and does not read."""
    if s.eqn.prim != "task":
        return []
    params = ends.wir.kernel(str(s.eqn.params["kernel"])).params
    pairs = list(zip(params, s.eqn.ins, strict=True))
    out = [x for p, x in pairs if p.direction is Direction.OUT and isinstance(x, View)]
    return [x for x in out if not any(p.direction is not Direction.OUT and y == x for p, y in pairs)]


def _check_begins(ends: Ends, known: Freedom, taken: Site, tensor: str, inside: list[Site], name: str) -> None:
    """What is in a buffer when a process gets it for a new token is left over from another one."""
    lots = {v.name for s in inside if s.eqn.prim == "recv" and _is_lot(ends, known, s) for v in s.eqn.outs}
    touching = [
        s
        for s in inside
        if s.eqn.prim in ("task", *READS) and any(v.tensor == tensor and v.names() & lots for v, _ in ends.views(s))
    ]
    if not _written_first(ends, tensor, touching):
        raise _keeps(ends, name, taken, touching[0], f"reads of {tensor} what is left of an earlier token")


def _is_lot(ends: Ends, known: Freedom, s: Site) -> bool:
    return channel_var(s.eqn).name in ends.names and ends.channel(s) in known.owned.lots
