"""Which channels make a program with pipelines slower, found by simulating it with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pto_wsp.runtime.views.columns import Columns

_MOST = 2**22  # tasks and operations that are looked at, in all simulations together

Spec = tuple[int | None, int, int, int]


def throttling(dry: Any, c: Columns) -> dict[str, int] | None:
    """The channels that make a run take longer than it would with any depths, by name, each with the depth at which it does not:
    as `simulate.throttle` says of networks. A channel of views has as many buffers as places. None: it was not looked for, as that takes
    too long, or the program is bound to other data by now.

    dry: a dry run of the program; c: what it has done with the depths it has."""
    found = _Search(dry, c)
    given = [channel.capacity for channel in c.pipes.channels]
    depths: list[int | None] = [None] * len(given)
    best = found.total(depths)
    now = max([*c.lists["end"], *c.pipes.runs["end"].tolist()], default=0)
    if best is None or found.total(given) != now:
        return None
    out: dict[str, int] = {}
    for k, channel in enumerate(c.pipes.channels):
        low = channel.capacity
        if low is None or channel.buffers_of is not None:
            continue
        suffices = found.total([*depths[:k], low, *depths[k + 1 :]])
        high = low
        if suffices is not None and suffices > best:
            high = max(low + 1, found.tokens[k])
            while high - low > 1 and not found.over:
                middle = (low + high) // 2
                total = found.total([*depths[:k], middle, *depths[k + 1 :]])
                low, high = (low, middle) if total is not None and total <= best else (middle, high)
            out[channel.name] = high
        if found.over:
            return None
        depths[k] = high
    return out


class _Search:
    """Simulations of one program with other depths of its channels."""

    def __init__(self, dry: Any, c: Columns) -> None:
        o = c.pipes.operations
        self._dry, self._channels = dry, c.pipes.channels
        self.tokens = [int((o["token"][o["channel"] == k]).max(initial=0)) + 1 for k in range(len(self._channels))]
        self._cost, self._left = len(c) + len(o["run"]), _MOST

    @property
    def over(self) -> bool:
        """No more is looked at."""
        return self._left < self._cost

    def total(self, depths: Sequence[int | None]) -> int | None:
        """The cycles with these depths (None: any), or None where such a run comes to no end, or is not looked at."""
        if self.over:
            return None
        self._left -= self._cost
        self._dry.set_pipelines(None, None, [self._spec(k, depths) for k in range(len(depths))])
        figures, failure, _ = self._dry.run(None)
        return None if failure is not None else int(figures["total_cycles"])

    def _spec(self, k: int, depths: Sequence[int | None]) -> Spec:
        c = self._channels[k]
        if c.buffers_of is None:
            return depths[k], c.latency, c.response, c.initial
        of = self._channels[c.buffers_of]
        depth = depths[c.buffers_of]
        # As many more buffers as places; of any number, as many as there are tokens.
        more = self.tokens[k] if depth is None or of.capacity is None else max(depth, 1) - max(of.capacity, 1)
        assert c.capacity is not None
        return c.capacity + more, c.latency, c.response, c.initial + more
