"""Whether tokens order what processes touch, for any sizes and any data: by what tokens name.

Who receives a token comes behind its send, and behind all that its sender did before. So what a process touches for a token is put in
terms of the loops of the sender,

    load:   seq_for i { task a(Y[i]);  send c (i) }          store, in terms of load:
    store:  consume c as k { task b(Y[k]) }                  seq_for i { task a(Y[i]);  send c (i), task b(Y[i]) }

where the conflicts of one process with another are those of one that stands in program order (`ir/conflict.py`): there are none where
nothing that touches a common element comes behind the send. A `consume` is a loop here, of any number of iterations, that begins with a
`recv`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product

from pto_wsp.ir.conditions import Names, Path, Step, loops_of
from pto_wsp.ir.conflict import Access, Verdict, question
from pto_wsp.ir.core import At, Axis, Eqn, Gather, IndexType, Region, Slice, Span, Var, View, ViewDim, Wir
from pto_wsp.ir.expr import Expr, const
from pto_wsp.ir.processes import ends_of
from pto_wsp.proofs.determinacy import Freedom
from pto_wsp.proofs.ends import Ends, Site
from pto_wsp.proofs.walk import EVERYTHING

_DEEPEST = 6  # channels that a token is followed through
_ANY = const(2**40)


@dataclass(frozen=True, eq=False)
class _Receive:
    """A receive that what comes later in its block is behind. `depth`: of the way to its block; `loop`: whose body that is, if any."""

    channel: str
    fields: tuple[str, ...]
    depth: int
    loop: Eqn | None


@dataclass(frozen=True, eq=False)
class _Use:
    """A view that is touched, or what a send carries, and what it is behind: receives, and ends of channels."""

    process: int
    place: int
    path: Path
    receives: tuple[_Receive, ...]
    ended: tuple[str, ...]
    eqn: Eqn
    view: View
    writes: bool = False
    loops: int = 0  # of one put in terms of a send, those around the send

    @property
    def access(self) -> Access:
        return Access(0, 0, self.eqn, self.path, self.view, self.writes)


def ordered(ends: Ends, free: Freedom, sizes: Mapping[str, int]) -> bool:
    """Of a determinate pipeline; False where that is not proved."""
    return _Order(ends, free, sizes).holds()


class _Order:
    def __init__(self, ends: Ends, free: Freedom, sizes: Mapping[str, int]) -> None:
        self.ends, self.free, self.sizes = ends, free, sizes
        found = _AsLoops(ends)
        self.taken = {ends.channel(s) for s in free.bodies.values()}
        self.names = Names.of(found.wir)
        self.outer = len(loops_of(found.path))
        self.uses, self.sends = found.uses, found.sends

    def holds(self) -> bool:
        by_tensor: dict[str, list[_Use]] = {}
        for u in self.uses:
            if u.view.tensor not in self.free.owned.tensors | self.free.scratch:
                by_tensor.setdefault(u.view.tensor, []).append(u)
        return all(self._fine(a, b) for uses in by_tensor.values() for a, b in _meeting(uses) if a.writes or b.writes)

    def _fine(self, a: _Use, b: _Use) -> bool:
        loose = self._loose(a, b)
        if a.process == b.process:
            return loose is None or self._distinct(a, b, loose, 0)
        if loose is not None and self._distinct(a, b, loose, 0):
            return True
        return self._apart(a, b) or self._before(a, b, 0) or self._before(b, a, 0)

    # one question

    def _never(self, a: _Use, b: _Use, loop: Eqn | None = None, *, a_first: bool = True, same: bool = False) -> bool:
        agreeing = None if same or loop is not None else self.outer
        asked = question(a.access, b.access, self.sizes, self.names, loop, a_first=a_first, agreeing=agreeing)
        return asked is Verdict.NEVER

    def _common(self, a: _Use, b: _Use) -> list[Eqn]:
        """The loops of the pipeline that both are in."""
        out: list[Eqn] = []
        for x, y in zip(loops_of(a.path), loops_of(b.path), strict=False):
            if x is not y:
                break
            out.append(x)
        return out[self.outer :]

    # in terms of senders

    def _images(self, u: _Use, r: _Receive) -> list[_Use] | None:
        """What `u` is in terms of each send whose token it may have got; None where it may be none of these."""
        if self.ends.of_channel(r.channel).params["initial"] != 0:
            return None
        out: list[_Use] = []
        for s in self.sends.get(r.channel, ()):
            given = dict(zip(r.fields, s.eqn.ins[1:], strict=True))
            known = {n: e for n, e in given.items() if isinstance(e, Expr)}
            path = (*s.path, *u.path[r.depth :])
            out.append(
                replace(
                    s,
                    eqn=u.eqn,
                    path=path,
                    view=_substituted(u.view, known),
                    writes=u.writes,
                    loops=len(loops_of(s.path)),
                )
            )
        return out

    def _apart(self, a: _Use, b: _Use) -> bool:
        """Whether they touch no common element, put in terms of senders or as they are."""
        ways_a, ways_b = ([[u], *(x for r in u.receives if (x := self._images(u, r)) is not None)] for u in (a, b))
        return any(all(self._never(x, y) for x, y in product(xs, ys)) for xs, ys in product(ways_a, ways_b))

    def _before(self, first: _Use, then: _Use, depth: int) -> bool:
        """Whether `first` comes before `then` wherever they touch a common element."""
        for name in then.ended:
            process = self.ends.process(first.process)
            closes = any(s.process == first.process for s in self.ends.closes[name])
            if name in ends_of(process, "produces") and not closes:
                return True
        if depth == _DEEPEST:
            return False
        for r in then.receives:
            images = None if r.channel in self.free.silent else self._images(then, r)
            if images is not None and all(
                self._not_behind(first, x, depth) if x.process == first.process else self._before(first, x, depth + 1)
                for x in images
            ):
                return True
        return False

    def _not_behind(self, first: _Use, sent: _Use, depth: int) -> bool:
        """Whether nothing that `first` touches behind a send in its process is an element of `sent`."""
        for loop in self._common(first, sent):
            if not (self._never(first, sent, loop, a_first=False) or self._of_other_tokens(first, sent, loop, depth)):
                return False
        return first.place < sent.place or self._never(first, sent, same=True)

    def _of_other_tokens(self, a: _Use, b: _Use, loop: Eqn, depth: int) -> bool:
        """Whether what two iterations of a loop touch has nothing in common, as each takes a token of its own."""
        taken = [r for r in a.receives if r.loop is loop and r in b.receives and r.channel not in self.free.silent]
        return depth < _DEEPEST and any(self._distinct(a, b, r.channel, depth + 1) for r in taken)

    # tokens in no known order

    def _loose(self, a: _Use, b: _Use) -> str | None:
        """The channel of which both take a token, each another one."""
        one, other = ([r.channel for r in u.receives if r.channel in self.taken] for u in (a, b))
        return one[0] if one and one[:1] == other[:1] and self._peers(a, b) else None

    def _peers(self, a: _Use, b: _Use) -> bool:
        one, other = (self.ends.process(u.process).params.get("replica") for u in (a, b))
        return a.process == b.process or (one is not None and one == other)

    def _distinct(self, a: _Use, b: _Use, channel: str, depth: int) -> bool:
        """Whether the elements of two tokens of a channel have nothing in common."""
        r, q = (next(r for r in u.receives if r.channel == channel) for u in (a, b))
        ones, others = self._images(a, r), self._images(b, q)
        if ones is None or others is None:
            return False
        return all(self._other_tokens(x, y, depth) for x, y in product(ones, others))

    def _other_tokens(self, x: _Use, y: _Use, depth: int) -> bool:
        if x.place != y.place or x.process != y.process:
            return self._apart(x, y)
        loops = self._common(x, y)[: x.loops - self.outer]
        if all(self._never(x, y, loop, a_first=f) for loop in loops for f in (True, False)):
            return True
        sources = [r.channel for r in x.receives]
        return depth < _DEEPEST and any(
            c not in self.free.silent and self._distinct(x, y, c, depth + 1) for c in sources
        )


def _meeting(uses: Sequence[_Use]) -> Iterator[tuple[_Use, _Use]]:
    """Pairs, each with itself too, but for those of which constants say that they have no common element: swept along the dimension of
    most starts, so that a thousand processes with an element each are a thousand pairs."""
    dims = range(len(uses[0].view.dims))
    bounds = {u: [_bounds(d) for d in u.view.dims] for u in uses}
    dim = max(dims, key=lambda d: len({b[d] for b in bounds.values()}), default=None)
    if dim is None:
        yield from combinations_with_replacement(uses, 2)
        return
    meeting: list[_Use] = []
    for b in sorted(uses, key=lambda u: bounds[u][dim][0]):
        meeting = [a for a in meeting if bounds[a][dim][1] > bounds[b][dim][0]]
        meeting.append(b)
        yield from ((a, b) for a in meeting)


def _bounds(dim: ViewDim) -> tuple[int, int]:
    """From and to, beyond all elements where these are no constants."""
    match dim:
        case At(index) if index.is_const:
            return index.const, index.const + 1
        case Slice(start, length) if start.is_const:
            return start.const, start.const + length
        case _:
            return EVERYTHING


def _substituted(view: View, known: Mapping[str, Expr]) -> View:
    def dim(d: ViewDim) -> ViewDim:
        match d:
            case At():
                return At(d.index.substitute(known))
            case Slice():
                return replace(d, start=d.start.substitute(known))
            case Span():
                return Span(d.start.substitute(known), d.length.substitute(known))
            case Gather():
                return d
            case _:
                index, limit, offset = (e.substitute(known) for e in (d.index, d.limit, d.offset))
                return replace(d, index=index, limit=limit, offset=offset)

    return View(view.tensor, tuple(dim(d) for d in view.dims))


class _AsLoops:
    """The workload with loops for `consume`; of one pipeline what is touched and sent, and the way to it."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.uses: list[_Use] = []
        self.sends: dict[str, list[_Use]] = {}
        self.path: Path = ()
        self._count = 0
        self._pipeline: Eqn | None = None
        body = self._region(ends.wir.body)
        self.wir: Wir = replace(ends.wir, body=body)
        self._find(body, ())

    def _region(self, region: Region) -> Region:
        return Region(region.params, tuple(self._eqn(e) for e in region.eqns))

    def _eqn(self, eqn: Eqn) -> Eqn:
        regions = tuple(self._region(r) for r in eqn.regions)
        if eqn.prim == "consume":
            self._count += 1
            (body,) = regions
            counted = Var(f"\0token {self._count}", IndexType())  # no variable is called so
            taken = Eqn("recv", body.params, eqn.ins, loc=eqn.loc)
            params = {"axis": Axis("Range", "tokens", _ANY), "loop": "token"}
            return Eqn("seq_for", params=params, regions=(Region((counted,), (taken, *body.eqns)),), loc=eqn.loc)
        made = replace(eqn, regions=regions)
        if eqn is self.ends.pipeline:
            self._pipeline = made
        return made

    def _find(self, region: Region, path: Path) -> None:
        for k, eqn in enumerate(region.eqns):
            here = (*path, Step(eqn, k))
            if eqn is self._pipeline:
                self.path = here
                for n, p in enumerate(e for e in eqn.regions[0].eqns if e.prim == "process"):
                    self._places = 0
                    way = (*here, Step(eqn, 0), Step(p, n), Step(p, 0))
                    self._visit(p.regions[0], way, n, (), ())
                return
            for r, inner in enumerate(eqn.regions):
                self._find(inner, (*here, Step(eqn, r)))

    def _visit(
        self, region: Region, path: Path, process: int, receives: tuple[_Receive, ...], ended: tuple[str, ...]
    ) -> None:
        for k, eqn in enumerate(region.eqns):
            self._places += 1
            here = (*path, Step(eqn, k))
            name = self._channel(eqn)
            use = _Use(process, self._places, here, receives, ended, eqn, View("", ()))
            if eqn.prim == "recv" and name is not None:
                receives = (*receives, _Receive(name, tuple(v.name for v in eqn.outs), len(path), path[-1].eqn))
            elif eqn.prim == "send" and name is not None:
                self.sends.setdefault(name, []).append(use)
            else:
                for view, writes in self.ends.views(Site(eqn, process, (), (), 0)) if eqn.prim != "pipeline" else ():
                    self.uses.append(replace(use, view=view, writes=writes))
            for r, inner in enumerate(eqn.regions):
                self._visit(inner, (*here, Step(eqn, r)), process, receives, ended)
            if eqn.prim == "seq_for" and eqn.params["loop"] == "token":
                name = self._channel(eqn.regions[0].eqns[0])
                ended = ended if name is None else (*ended, name)

    def _channel(self, eqn: Eqn) -> str | None:
        """The name of the channel of this pipeline that an equation names."""
        x = eqn.ins[0] if eqn.ins else None
        return self.ends.names.get(x.name) if isinstance(x, Var) else None
