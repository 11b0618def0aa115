"""Whether the number of tokens that a channel ever gets is bounded before its pipeline begins."""

from __future__ import annotations

from collections.abc import Iterator

from pto_wsp.ir.core import Axis, Eqn, IndexType, Region
from pto_wsp.ir.processes import SENDS, channel_var, processes_of
from pto_wsp.ir.tasks import bound_vars


def unbounded_sends(pipeline: Eqn, channel: str) -> Iterator[Eqn]:
    """The sends to the channel of this variable of which nothing says how often they run: in loops whose extents are found by the
    process, and in consumes of channels that have such sends, or that depend on themselves."""
    for way in _sends(pipeline, channel):
        if not all(_is_bounded(pipeline, e, (channel,)) for e in way[:-1]):
            yield way[-1]


def _sends(pipeline: Eqn, channel: str) -> Iterator[tuple[Eqn, ...]]:
    """Each send to a channel, last on the way to it from its process."""

    def visit(region: Region, way: tuple[Eqn, ...]) -> Iterator[tuple[Eqn, ...]]:
        for eqn in region.eqns:
            if eqn.prim in SENDS and channel_var(eqn).name == channel:
                yield (*way, eqn)
            for r in eqn.regions if eqn.prim != "pipeline" else ():
                yield from visit(r, (*way, eqn))

    for p in processes_of(pipeline):
        yield from visit(p.regions[0], (p,))


def _is_bounded(pipeline: Eqn, eqn: Eqn, asked: tuple[str, ...]) -> bool:
    axis = eqn.params.get("axis")
    if isinstance(axis, Axis):
        found = {v.name for v in bound_vars((pipeline,)) if v.type != IndexType()}
        return not axis.size.names() & found
    if eqn.prim != "consume":
        return True
    source = channel_var(eqn).name
    if source in asked:
        return False
    return all(_is_bounded(pipeline, e, (*asked, source)) for way in _sends(pipeline, source) for e in way[:-1])
