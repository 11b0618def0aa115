"""Channels and events."""

from __future__ import annotations

from typing import Any

from pto_wsp.csp.ends import received
from pto_wsp.errors import Location, TraceError, check_name, here
from pto_wsp.ir.processes import MOST_CYCLES, MOST_DEPTH
from pto_wsp.trace.index import is_integer
from pto_wsp.trace.pipes import ChannelSpec
from pto_wsp.trace.tokens import leaves

_CYCLES = "give a number of cycles: Channel[Tensor](latency=10, response=2)"
_FIXES = {
    "depth": "write Channel[Tensor](depth=2); depth=0 is a rendezvous, depth=None as many tokens as the plan bounds",
    "latency": _CYCLES,
    "response": _CYCLES,
    "initial": "give a number of tokens, no more than the channel holds: Channel[int](depth=2, initial=1)",
}


def _number(what: str, x: object, most: int, loc: Location) -> int:
    if not is_integer(x) or not 0 <= int(x) <= most:  # type: ignore[call-overload]
        raise TraceError(
            "PTO823",
            f"{what} of a channel that is no number of 0 .. {most}",
            values={what: repr(x)[:80]},
            loc=loc,
            fix=_FIXES[what],
        )
    return int(x)  # type: ignore[call-overload]


_NOT_SAID = object()


class Channel(ChannelSpec):
    """A channel between processes of one pipeline: `Channel[Tensor]("c", depth=2)`. Sends fill it, and wait while it is full.

    It carries Tensor (views), int, float, bool, a DType (i64, u64, f64, bool), None (nothing), or tuples of these. name: by default
    that of the variable that holds it. depth: tokens it holds; 0: a send waits for its receive; None: as many as the plan bounds.
    latency, response: cycles from a send until the token is visible, and from a receive until its place is free. initial: tokens
    that are there at first, of which the k-th carries k. Raises TraceError.
    """

    def __class_getitem__(cls, carries: Any) -> type[Channel]:
        return type(cls.__name__, (cls,), {"carries": carries})

    carries: Any = _NOT_SAID

    def __init__(
        self,
        name: str | None = None,
        *,
        depth: int | None = 1,
        latency: int = 0,
        response: int = 0,
        initial: int = 0,
    ) -> None:
        loc = here()
        if self.carries is _NOT_SAID:
            raise TraceError(
                "PTO823",
                "a channel of nothing that is said",
                values={"name": name},
                loc=loc,
                fix='say what it carries: Channel[Tensor]("c"), Channel[int]("c"), Channel[None]("c")',
            )
        if "." in (check_name(name, "a channel", "PTO823") or ""):
            raise TraceError(
                "PTO823",
                "the name of a channel has a dot",
                values={"name": name},
                loc=loc,
                fix="leave it out: pipe.c is channel c of pipeline pipe, and c.free hands the buffers of c back",
            )
        super().__init__(
            self.carries,
            name,
            None if depth is None else _number("depth", depth, MOST_DEPTH, loc),
            _number("latency", latency, MOST_CYCLES, loc),
            _number("response", response, MOST_CYCLES, loc),
            _number("initial", initial, MOST_DEPTH, loc),
            loc,
        )
        if self.depth is not None and self.initial > self.depth:
            what = "a rendezvous holds none" if self.depth == 0 else f"it holds {self.depth}"
            raise TraceError(
                "PTO823",
                f"a channel with {self.initial} initial tokens, but {what}",
                loc=loc,
                fix=f"make it deeper: depth={self.initial}",
            )
        if self.initial and None in leaves(self.kinds):
            raise TraceError(
                "PTO823",
                "initial tokens of a channel of views, which would be views of nothing",
                loc=loc,
                fix="let a process send the first views; Channel[int](depth=n, initial=n) carries the numbers 0 .. n - 1",
            )

    def recv(self) -> Any:
        """Receive a token: what was sent, in the tuples in which the channel carries it. Waits until there is one."""
        return received(self)


class Event(Channel):
    """A channel that carries nothing and holds nothing: `record(e)` and `synchronize(e)` wait for each other."""

    carries = None

    def __init__(self, name: str | None = None, *, latency: int = 0) -> None:
        super().__init__(name, depth=0, latency=latency)
