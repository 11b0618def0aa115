"""`P`: Python loops over axes become loops of the wir."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pto_wsp.errors import Location, TraceError, here, no_attribute, no_options, user_frame
from pto_wsp.trace.axes import LoopAxis, to_axis
from pto_wsp.trace.builder import WorkloadBuilder, current_workload, innermost_workload
from pto_wsp.trace.names import loop_targets


def loop_iterator(
    builder: WorkloadBuilder, axes: list[LoopAxis], mode: str, labels: tuple[str | None, ...], loc: Location
) -> Iterator[Any]:
    """One pass over nested loops: opens them, gives the loop variables once, and closes them when the body is traced."""
    if innermost_workload() is not builder:
        raise TraceError(
            "PTO158",
            "a P loop made in another workload",
            loc=here(),
            fix="write `for b in P(batch)` in the workload that runs the loop",
        )
    indices = [builder.open_loop(a, mode, n, loc) for a, n in zip(axes, labels, strict=True)]
    done = False
    try:
        yield indices[0] if len(indices) == 1 else tuple(indices)
        done = True
    finally:
        if not done:
            builder.broken = builder.broken or loc
        for _ in indices:
            builder.close_loop()


class _Loops:
    """What `P(...)` gives to a `for` statement."""

    def __init__(self, axes: tuple[Any, ...], mode: str, word: str) -> None:
        self._loc = here()
        self._builder = current_workload(word)
        self._axes = [to_axis(a) for a in axes]
        self._mode = mode
        if not axes:
            raise TraceError(
                "PTO150", f"{word}() without an axis", loc=self._loc, fix="write P(batch), P(batch, heads) or P.seq(n)"
            )

    def __iter__(self) -> Iterator[Any]:
        labels = loop_targets(user_frame(), len(self._axes))
        return loop_iterator(self._builder, self._axes, self._mode, labels, self._loc)


class _P:
    """Loops of a workload.

    `for b in P(batch)`, `for b, h in P(batch, heads)`, `for i in P(x.tiles(16))`: iterations are independent; a conflict
    between two of them is a RaceError. `P.grid(4, 8)` is the same over plain extents. `for k in P.seq(n)`: all of an
    iteration before any of the next. Axes are Dense, DenseDyn, tiles of them or of a tensor, integers, and integer expressions.
    """

    def __call__(self, *axes: Any) -> _Loops:
        return _Loops(axes, "parallel_for", "P")

    def grid(self, *extents: Any) -> _Loops:
        """`P` over several extents at once: `for b, h in P.grid(4, 8)`."""
        return _Loops(extents, "parallel_for", "P.grid")

    def seq(self, *axes: Any, **options: Any) -> _Loops:
        """A sequential loop: all tasks of one iteration complete before any of the next starts."""
        no_options("P.seq", options, "none")
        return _Loops(axes, "seq_for", "P.seq")

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("P", name, "P(...), P.grid(...), P.seq(...)")


P = _P()
