"""Memory that goes from process to process with tokens: n buffers of a channel, whose numbers go round.

    before:  task load[](x=X[i], out=buf)        after:  b: i64 = recv c.free
             (send buf)                                  task load[](x=X[i], out=c.buffer[b])
                                                         send c b

A receiver sends the number back to `c.free` where the block ends in which it received; or to another channel, with the view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pto_wsp.errors import Location, TraceError, TypeCheckError
from pto_wsp.ir.core import At, DType, Eqn, Gather, In, Region, ScalarType, Var, View, ViewDim
from pto_wsp.ir.coverage import every_view
from pto_wsp.ir.expr import Expr, var
from pto_wsp.trace.builder import Block, HeldBuffer, WorkloadBuilder
from pto_wsp.trace.functional import Buffer
from pto_wsp.trace.pipes import OpenChannel, OpenPipeline
from pto_wsp.trace.tensor import Part, TensorView
from pto_wsp.trace.tokens import Packing


class Storage(Buffer):
    """The buffers of a channel: behind the dimensions of parallel loops around the pipeline, one for their number. `free`: where
    numbers of those that nobody uses wait."""

    def __init__(
        self, outer: Sequence[Expr], count: int, like: Buffer, drop: int, name: str, free: OpenChannel
    ) -> None:
        super().__init__(tuple(outer), (count, *like.spec_shape[drop:]), like.dtype, name)
        self.free = free


Numbered = tuple[TensorView, dict[int, str]]
"""A view, and by which part of it is the number of a buffer, the variable that has it."""


def hand_over(builder: WorkloadBuilder, c: OpenChannel, views: Sequence[TensorView], loc: Location) -> list[Numbered]:
    """Views that are sent, those of memory of this process as views of the channel's buffers: the equations so far that name it
    are changed. Raises TraceError where that cannot be."""
    pipe = builder.pipes[-1]
    own: list[Buffer] = []
    for v in views:
        if (
            isinstance(v.root, Buffer)
            and not isinstance(v.root, Storage)
            and v.root.pipe is pipe
            and v.root not in _all(own)
        ):
            own.append(v.root)
    number = _acquire(builder, pipe, c, own, loc) if own else ""
    out: list[Numbered] = []
    for v in views:
        k = next((k for k, b in enumerate(own) if b is v.root), None)
        if k is not None:
            out.append(_moved(v, own[k], c.storages[k], number))
        elif isinstance(v.root, Storage):
            out.append((v, {v.root.lead: _passed_on(builder, v, loc)}))
        else:
            out.append((v, {}))
    return out


class _all:  # noqa: N801 - `x in _all(xs)` by identity: tensors have no comparison
    def __init__(self, xs: Sequence[object]) -> None:
        self._xs = xs

    def __contains__(self, x: object) -> bool:
        return any(x is y for y in self._xs)


def pack(packing: Packing, builder: WorkloadBuilder, numbered: Numbered) -> None:
    """Add a view to a token."""
    view, numbers = numbered
    held = {k: var(name) for k, name in numbers.items()}
    free = view.root.free.name if isinstance(view.root, Storage) else ""
    packing.view(view, builder.tensor(view.root), {k: packing.number(free, e) for k, e in held.items()})


def hold(builder: WorkloadBuilder, number: Var, free: OpenChannel, loc: Location) -> None:
    """The innermost block has a buffer, whose number it gives back where it ends."""
    assert free.var is not None
    back = Eqn("send", ins=(free.var, var(number.name)), loc=loc)
    builder.blocks[-1].held_buffers.append(HeldBuffer(number.name, back))


def _passed_on(builder: WorkloadBuilder, v: TensorView, loc: Location) -> str:
    """The number of a buffer that was received here, and that goes on to another process."""
    assert isinstance(v.root, Storage)
    number = str(v.parts[v.root.lead].start)
    held = next((h for h in builder.blocks[-1].held_buffers if h.number == number), None)
    if held is None:
        raise _cannot(
            f"a view of {v.root.given_name} is sent on in another block than it was received in",
            loc,
            "send it on directly in the body that received it: whoever keeps it gives it back at the end of that",
        )
    held.is_sent = True
    builder.blocks[-1].sent_names[number] = loc
    return number


def _cannot(why: str, loc: Location, fix: str) -> TraceError:
    return TraceError("PTO818", why, loc=loc, fix=fix)


def _acquire(builder: WorkloadBuilder, pipe: OpenPipeline, c: OpenChannel, own: Sequence[Buffer], loc: Location) -> str:
    """Take a free buffer before the first use in this block of what `own` is until now; the variable with its number."""
    block = builder.blocks[-1]
    depth = c.params.get("depth")
    if depth is None:
        raise _cannot(
            f"memory of a process is sent to channel {c.name}, which holds any number of tokens",
            loc,
            "give the channel a depth=, which says how many buffers there are",
        )
    names = [builder.tensor(b) for b in own]
    for name in names:
        _refuse_elsewhere(builder, pipe, block, name, loc)
    uses = [k for k, e in enumerate(block.eqns) if any(v.tensor in names for v in every_view((e,)))]
    if not uses:
        raise _cannot(
            f"{names[0]} is sent in another body than it is written in",
            loc,
            "write it and send it in one iteration, under the same P.when",
        )
    if c.free is None:
        c.free = pipe.hide(f"{c.name}.free", max(int(depth), 1), c.loc)
    number = builder.bind_name(f"{c.name}.b")
    taken = Var(number, ScalarType(DType.I64))
    builder.scalars[number] = taken
    for k, (b, name) in enumerate(zip(own, names, strict=True)):
        views = [v for v in every_view(block.eqns[uses[0] :]) if v.tensor == name]
        storage = _storage(builder, pipe, c, k, b, views, loc)
        to, drop = builder.tensor(storage), len(b.spec_shape) - (len(storage.spec_shape) - pipe.outer_loops - 1)

        def moved(v: View, name: str = name, to: str = to, drop: int = drop) -> View:
            if v.tensor != name:
                return v
            return View(to, (*v.dims[: pipe.outer_loops], At(var(number)), *v.dims[drop:]))

        block.eqns[uses[0] :] = [_with_views(e, moved) for e in block.eqns[uses[0] :]]
        builder.replace_tensor(name, to)
        b.sent = loc
    assert c.free.var is not None
    block.eqns.insert(uses[0], Eqn("recv", (taken,), (c.free.var,), loc=loc))
    block.sent_names[number] = loc
    return number


def _storage(
    builder: WorkloadBuilder,
    pipe: OpenPipeline,
    c: OpenChannel,
    k: int,
    b: Buffer,
    views: Sequence[View],
    loc: Location,
) -> Buffer:
    """The memory that all senders of a channel use for their k-th tensor. Dimensions that `b` has because of parallel loops inside
    of the pipeline go, where each iteration uses its own."""
    outer, inner = pipe.outer_loops, builder.parallel_loops[pipe.outer_loops : b.lead]
    mine = tuple(At(var(loop.var.name)) for loop in inner)
    own = len(mine) == b.lead - outer and all(v.dims[outer : b.lead] == mine for v in views)
    drop = b.lead if own else outer
    assert c.free is not None
    count = int(c.free.params["depth"])
    lead = b.dims(builder)[:outer]
    made = Storage(lead, count, b, drop, f"{c.name}.buffer", c.free)
    if k == len(c.storages):
        c.storages.append(made)
    known = c.storages[k]
    if (known.dtype, known.dims(builder)) != (made.dtype, made.dims(builder)):
        raise TypeCheckError(
            "PTO813",
            f"two sends to channel {c.name} of memory of different shapes or dtypes",
            values={"this one": made, "the other": known, "sent": c.first},
            loc=loc,
            fix="send tensors of one shape and dtype; others go through channels of their own",
        )
    return known


def _moved(v: TensorView, b: Buffer, storage: Buffer, number: str) -> Numbered:
    """A view of what a buffer was, as a view of the channel's."""
    outer = storage.lead
    drop = len(b.spec_shape) - (len(storage.spec_shape) - outer - 1)
    parts = (*v.parts[:outer], Part("at", var(number)), *v.parts[drop:])
    kept = [p for k, p in enumerate(v.parts) if k < outer or k >= drop]
    names = {n for p in kept for e in (p.start, p.length, p.index, p.limit) for n in e.names()}
    uses = tuple((owner, e) for owner, e in v.uses if e.names() <= names)
    return TensorView(storage, parts, uses), {outer: number}


def _refuse_elsewhere(builder: WorkloadBuilder, pipe: OpenPipeline, block: Block, tensor: str, loc: Location) -> None:
    """Raise TraceError for memory that is used outside of the block that sends it."""
    around = (b.named.of(b.eqns) for b in builder.blocks if b is not block)
    if tensor in pipe.tensors.of(pipe.processes) or any(tensor in names for names in around):
        raise _cannot(
            f"{tensor} is sent in one iteration, but used outside of it",
            loc,
            "make it with empty(...) in the iteration that writes and sends it; what all iterations use is another tensor",
        )


def _with_views(eqn: Eqn, change: Callable[[View], View]) -> Eqn:
    """The equation with its views changed, those inside too."""

    def dim(d: ViewDim) -> ViewDim:
        return Gather(view(d.index)) if isinstance(d, Gather) else d

    def view(v: View) -> View:
        return change(View(v.tensor, tuple(map(dim, v.dims))))

    ins: tuple[In, ...] = tuple(view(x) if isinstance(x, View) else x for x in eqn.ins)
    regions = tuple(Region(r.params, tuple(_with_views(e, change) for e in r.eqns)) for r in eqn.regions)
    return replace(eqn, ins=ins, regions=regions)
