"""`P`: loops and branches of a workload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pto_wsp.errors import Location, TraceError, TypeCheckError, here, no_attribute, no_options, user_frame
from pto_wsp.ir.core import Eqn, Region
from pto_wsp.ir.processes import ENDS
from pto_wsp.trace.axes import LoopAxis, to_axis
from pto_wsp.trace.builder import WorkloadBuilder, current_workload, innermost_workload
from pto_wsp.trace.conditions import Otherwise, When
from pto_wsp.trace.data_axes import Ragged, Records, Sparse, SparseRow, selected
from pto_wsp.trace.names import loop_targets
from pto_wsp.trace.pipes import Pipe
from pto_wsp.trace.scalar import truth
from pto_wsp.trace.tensor import TensorSpec


def loop_iterator(
    builder: WorkloadBuilder,
    axes: list[LoopAxis],
    mode: str,
    labels: tuple[str | None, ...],
    loc: Location,
    condition: Callable[[], Any] | None = None,
) -> Iterator[Any]:
    """One pass over nested loops: opens them, gives the loop variables once, and closes them when the body is traced."""
    if innermost_workload() is not builder:
        raise TraceError(
            "PTO158",
            "a P loop made in another workload",
            loc=here(),
            fix="write `for b in P(batch)` in the workload that runs the loop",
        )
    while_region = None if condition is None else _while_region(builder, condition, loc)
    values: list[Any] = []
    for axis, label in zip(axes, labels, strict=True):
        index = builder.open_loop(axis, mode, label, loc)
        values.append(axis.value(builder, index, builder.loops[-1]))
    innermost = builder.blocks[-1]
    if while_region is not None:
        innermost.given.append((while_region.eqns[-1].ins[0], True))
    done = False
    try:
        yield values[0] if len(values) == 1 else tuple(values)
        done = True
    finally:
        if not done:
            builder.broken = builder.broken or loc
        if builder.blocks[-1] is innermost:
            for _ in values:
                builder.close_loop(while_region)


def _while_region(builder: WorkloadBuilder, condition: Callable[[], Any], loc: Location) -> Region:
    """What is evaluated before each iteration."""
    if not callable(condition):
        raise TypeCheckError(
            "PTO174",
            "while_ of something that is no function",
            values={"got": repr(condition)[:80]},
            loc=loc,
            fix="write P.seq(n, while_=lambda: item(done[0]) == 0)",
        )
    block = builder.open_block()
    block.iterated = True
    holds = truth(condition(), "while_").operand(builder)
    for e in block.eqns:
        if e.regions or e.prim in ("task", "slot_set", *ENDS):
            raise TraceError(
                "PTO174",
                "a condition of while_ that does more than read",
                values={"it has": e.prim},
                loc=loc,
                fix="read and compare only: tasks, slot_set and P belong into the loop",
            )
    block.reads.clear()  # read anew before each iteration, whatever the body writes
    builder.append(Eqn("yield", ins=(holds,), loc=loc))
    return Region((), builder.close_block())


def _axis(x: Any, word: str) -> LoopAxis:
    """What a user gave to P, P.seq or P.sel as an axis."""
    if word == "P.sel":
        return selected(x)
    if isinstance(x, (SparseRow, Ragged, Sparse)):
        fix = (
            "write P.sel(row) for its indices, P(row.tiles(16)) for tiles of them, or P(row.size)"
            if isinstance(x, SparseRow)
            else "loop over its rows: `for b in P(lens.outer)`, and in it P(lens[b]) or P.sel(routing[b])"
        )
        raise TraceError("PTO150", f"{word}(...) of {x}", loc=here(), fix=fix)
    return Records(x) if isinstance(x, TensorSpec) and x.fields is not None else to_axis(x)


class _Loops:
    """What `P(...)` gives to a `for` statement."""

    def __init__(self, axes: tuple[Any, ...], mode: str, word: str, condition: Callable[[], Any] | None = None) -> None:
        self._loc = here()
        self._builder = current_workload(word)
        self._axes = [_axis(a, word) for a in axes]
        self._mode = mode
        self._condition = condition
        if not axes:
            raise TraceError(
                "PTO150", f"{word}() without an axis", loc=self._loc, fix="write P(batch), P(batch, heads) or P.seq(n)"
            )

    def __iter__(self) -> Iterator[Any]:
        labels = loop_targets(user_frame(), len(self._axes))
        return loop_iterator(self._builder, self._axes, self._mode, labels, self._loc, self._condition)


class _P:
    """Loops and branches of a workload.

    `for b in P(batch)`, `for b, h in P(batch, heads)`, `for i in P(x.tiles(16))`: iterations are independent; a conflict
    between two of them is a RaceError. `P.grid(4, 8)` is the same over plain extents. `for k in P.seq(n)`: all of an
    iteration before any of the next. `for e in P.sel(routing[b])`: the indices of a row of a sparse axis. Axes are Dense,
    DenseDyn, rows of Ragged (`P(lens[b])`), tiles of them or of a tensor, tensors of records, integers, scalars, and integer
    expressions. `with P.when(c):`, `with P.otherwise():`: one branch runs. `with P.pipe():`: processes.
    """

    def __call__(self, *axes: Any, **options: Any) -> _Loops:
        no_options("P", options, "none; P.seq has while_")
        return _Loops(axes, "parallel_for", "P")

    def grid(self, *extents: Any) -> _Loops:
        """`P` over several extents at once: `for b, h in P.grid(4, 8)`."""
        return _Loops(extents, "parallel_for", "P.grid")

    def seq(self, *axes: Any, while_: Callable[[], Any] | None = None, **options: Any) -> _Loops:
        """A sequential loop: all tasks of one iteration complete before any of the next starts.

        while_: a function that is asked before each iteration; the loop ends where it gives a false bool. It may read tensors
        and slots that the iterations before wrote: `P.seq(n, while_=lambda: item(done[0]) == 0)`. Of one axis.
        """
        no_options("P.seq", options, "while_")
        if while_ is not None and len(axes) > 1:
            raise TraceError(
                "PTO154", "while_ of several axes", loc=here(), fix="nest the loops: each P.seq has its own while_"
            )
        return _Loops(axes, "seq_for", "P.seq", while_)

    def sel(self, *rows: Any) -> _Loops:
        """A loop over the indices of a row of a sparse axis, `P.sel(routing[b])`, or over its tiles; independent like `P`."""
        return _Loops(rows, "parallel_for", "P.sel")

    def when(self, condition: Any) -> When:
        """`with P.when(c):` runs its body where the bool `c` holds, else that of the `with P.otherwise():` after it."""
        return When(condition)

    def otherwise(self, *condition: Any) -> Otherwise:
        """`with P.otherwise():` after `P.when`: where no condition before held; with a condition, where that one also holds."""
        return Otherwise(condition)

    def pipe(self, *, timed: bool = False, **options: Any) -> Pipe:
        """`with P.pipe():` each statement in its body is a process: a loop, a `with consume(c)`, a `with P.when(c)`, a kernel call, a
        `send` of one. They run side by side, with channels between them. Scalars in its body are computed before.

        timed: `try_send` and `query` may be used, and semantic time decides what they answer.
        """
        no_options("P.pipe", options, "timed")
        return Pipe(timed=timed)

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("P", name, "P(...), P.grid, P.seq, P.sel, P.when, P.otherwise, P.pipe")


P = _P()
