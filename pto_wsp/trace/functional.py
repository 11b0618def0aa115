"""Tensors that workloads make: temporaries, and the results they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pto_wsp.errors import Location, TraceError, here
from pto_wsp.ir.core import At, DType, Eqn, Gather, In, Region, Role, View, ViewDim, Wir, written_tensors
from pto_wsp.ir.expr import Expr, const, var
from pto_wsp.ir.layout import TensorLayout, TensorReplicate
from pto_wsp.trace.builder import Block, OpenLoop, WorkloadBuilder, current_workload
from pto_wsp.trace.index import Index
from pto_wsp.trace.tensor import Part, ShapeDim, TensorSpec, TensorView, check_layout

if TYPE_CHECKING:
    from pto_wsp.trace.pipes import OpenPipeline


class Buffer(TensorSpec):
    """A tensor that the run or the program owns. Its first dimensions are those of the parallel loops around its `empty`."""

    def __init__(self, lead: tuple[Expr, ...], shape: Sequence[ShapeDim], dtype: DType, name: str | None) -> None:
        super().__init__(shape, dtype, name=name)
        dims = tuple(e.const if e.is_const else Index(e, None) for e in lead)
        super().__init__((*dims, *self.spec_shape), dtype, name=name)
        self.lead = len(lead)
        self._within: tuple[Block, ...] = ()
        self.returned = False
        self.held: object = self
        self.pipe: OpenPipeline | None = None  # in which it was made

    @property
    def called(self) -> str:
        """Its name; it is no object of the user's, whose type could stand for it."""
        return self.given_name or "a tensor"

    @property
    def within(self) -> tuple[Block, ...]:
        """The branches and sequential loops around its `empty`."""
        return self._within

    def keep_within(self, blocks: Iterable[Block]) -> None:
        """Where it was made."""
        self._within = tuple(blocks)

    def outlives(self, block: Block) -> None:
        """It may be used when `block` has ended: all its iterations write it."""
        self._within = tuple(b for b in self._within if b is not block)

    @property
    def role(self) -> Role:
        """RESULT once the workload at the top returned it."""
        return Role.RESULT if self.returned else Role.TEMPORARY

    @property
    def handle(self) -> object:
        """What `empty` gave."""
        return self.held


Owned = Buffer | TensorView


def empty(
    shape: Sequence[ShapeDim], dtype: DType, *, name: str | None = None, layout: TensorLayout | None = None
) -> Any:
    """A tensor that the workload owns, without contents: kernels write it before others read it.

    shape: integers, symbols, dynamic axes. Returned, it is a result of the workload; else it lives in memory that the run reuses.
    Inside a `P` loop every iteration has its own, so the extents of the loops must be known before the run; inside `P.seq` the
    iterations share it. What a branch or a `P.seq` loop makes ends with it.
    layout: where devices of a mesh run the workload, of what their parts, of this shape, are parts; without one it is a device's own. Raises TraceError outside of a workload, and where an extent is known only from data.
    """
    builder = current_workload("empty")
    loops = builder.parallel_loops
    buffer = Buffer(tuple(_extent(builder, loop) for loop in loops), shape, dtype, name)
    if check_layout(layout) is not None:
        assert layout is not None
        layout.global_shape(buffer.spec_shape[buffer.lead :])  # is one
        lead = (TensorReplicate() for _ in loops)
        buffer.layout = TensorLayout(layout.mesh, *lead, *layout.dims, pending=layout.pending)
    buffer.pipe = builder.pipes[-1] if builder.pipes else None
    buffer.keep_within(
        b
        for b in builder.blocks[1:]
        if (b is builder.process and not b.apart)
        or (b.given if b.loop is None else not any(b.loop is loop for loop in loops))
    )
    return _owned(builder, buffer, [var(loop.var.name) for loop in loops])


def empty_like(x: Any, *, name: str | None = None) -> Any:
    """`empty` of the shape, dtype and layout of a tensor or a view; what is pending in x is not in it, and of a part of a dimension that is
    divided between devices no layout is known. Raises TraceError for what is neither."""
    if not isinstance(x, (TensorSpec, TensorView)):
        raise TraceError(
            "PTO164",
            "empty_like of something that is not a tensor",
            values={"got": repr(x)[:80]},
            loc=here(),
            fix="give a tensor or a view of one, or write empty(shape, dtype)",
        )
    return empty(x.shape, x.dtype, name=name, layout=x.layout and x.layout.without(*x.layout.pending))


def _extent(builder: WorkloadBuilder, loop: OpenLoop) -> Expr:
    """The number of buffers that a loop needs: its extent, or a bound of it that is a sum of symbols."""
    for e in (loop.axis.extent, loop.axis.size):
        if e.is_affine and all(n.startswith("$") for n in e.names()):
            return e
    raise TraceError(
        "PTO183",
        f"empty inside of loop {loop.label}, whose extent is not known before the run",
        values={"extent": loop.axis.extent},
        loc=here(),
        fix="make the tensor outside of the loop with a dimension as long as the loop can get, and index it with the loop variable",
    )


def _owned(builder: WorkloadBuilder, buffer: Buffer, lead: Sequence[Expr]) -> Owned:
    """The part of `buffer` at indices `lead`, which now belongs to the innermost workload under trace."""
    held: Owned = buffer
    if lead:
        rest = tuple(Part("all") for _ in buffer.spec_shape[len(lead) :])
        held = TensorView(buffer, tuple(Part("at", e) for e in lead) + rest, tuple((builder, e) for e in lead))
    if len(lead) == buffer.lead:
        buffer.held = held
    builder.calls[-1].owned.append(held)
    return held


def buffer_of(x: Owned) -> Buffer:
    """The whole buffer of what `empty` gave."""
    root = x.root if isinstance(x, TensorView) else x
    assert isinstance(root, Buffer)
    return root


def lifted(builder: WorkloadBuilder, x: Owned) -> Owned:
    """What is one iteration's, as all iterations of the innermost parallel loop around it have it: one dimension more in front."""
    assert isinstance(x, TensorView)
    lead = [p.start for p in x.parts if p.kind == "at"]
    return _owned(builder, buffer_of(x), lead[:-1])


def paths(x: object, path: str) -> list[tuple[str, Any]]:
    """The tensors and other values in nested tuples, lists and dicts, each with a name: x, x_0, x_weight."""
    if isinstance(x, (tuple, list)):
        return [leaf for k, v in enumerate(x) for leaf in paths(v, f"{path}_{k}")]
    return [leaf for k, v in x.items() for leaf in paths(v, f"{path}_{k}")] if isinstance(x, dict) else [(path, x)]


def leaves(x: object) -> list[Any]:
    """The values in nested tuples, lists and dicts."""
    return [leaf for _, leaf in paths(x, "")]


def tree_map(f: Callable[[Any, str], Any], x: Any, path: str) -> Any:
    """`f(leaf, name)` for each leaf, named as `paths` does, in the same nested tuples, lists and dicts."""
    if isinstance(x, (tuple, list)):
        parts = [tree_map(f, v, f"{path}_{k}") for k, v in enumerate(x)]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return {k: tree_map(f, v, f"{path}_{k}") for k, v in x.items()} if isinstance(x, dict) else f(x, path)


def check_returned(builder: WorkloadBuilder, result: Any, loc: Location) -> None:
    """Raise TraceError unless a workload returns None, a tensor that `empty` gave it, or (nested) tuples of such."""
    if isinstance(result, tuple) and result and not hasattr(result, "_fields"):
        for x in result:
            check_returned(builder, x, loc)
        return
    call = builder.calls[-1]
    if result is None or call.owns(result):
        for _, e in result.uses if isinstance(result, TensorView) else ():
            builder.check_scope(e, loc)
        return
    fix = "return what empty or empty_like made in it, whole: a tensor or a tuple of tensors"
    argument = next((name for name, a in call.arguments.items() if a is result), None)
    if argument is not None:
        what = f"its argument {argument}"
        fix = f"return a tensor of its own that it writes, y = empty_like({argument}), also as a stage of pipeline(f, g), or nothing"
    elif isinstance(result, (TensorSpec, TensorView)):
        what = "a part of a tensor" if isinstance(result, TensorView) else "a tensor that it was given"
    else:
        what = type(result).__name__
    raise TraceError(
        *("PTO181", f"workload {call.label} returns {what}"),
        values={"returned": repr(result)[:80]},
        loc=loc,
        fix=fix,
    )


def returns_of(builder: WorkloadBuilder, result: Any) -> Any:
    """What the workload at the top returns, which become results, with names in the place of tensors."""

    def name(x: Owned | None, _: str) -> str | None:
        if x is None:
            return None
        buffer_of(x).returned = True
        return builder.tensor(buffer_of(x))

    return tree_map(name, result, "")


def refuse_unwritten(wir: Wir, loc: Location) -> None:
    """Raise TraceError for a tensor that the workload made and that no task writes, where it is returned or read; what has no elements
    needs no task."""
    written = written_tensors(wir)
    inside = [e for top in wir.body.eqns for e in top.walk()]
    read = {v.tensor for e in inside for x in e.ins if isinstance(x, View) for v in (x, *x.index_views())}
    for v in wir.tensors:
        t = wir.tensor_type(v.name)
        role, empty = t.role, const(0) in t.shape
        if v.name not in written and not empty and (role is Role.RESULT or (role is Role.TEMPORARY and v.name in read)):
            raise TraceError(
                "PTO182",
                f"nothing writes {v.name}, which workload {wir.name} made",
                values={v.name: v.type},
                loc=loc,
                fix="give it to an Out parameter of a kernel before it is read or returned",
            )


def redirect(eqns: list[Eqn], tensor: str, to: str, lead: int, index: Expr) -> None:
    """Replace, in place, each view of `tensor` by the same view of `to`, which has one dimension more behind the first `lead`."""

    def dim(d: ViewDim) -> ViewDim:
        return Gather(view(d.index)) if isinstance(d, Gather) else d

    def view(v: View) -> View:
        dims = tuple(dim(d) for d in v.dims)
        if v.tensor != tensor:
            return View(v.tensor, dims)
        return View(to, (*dims[:lead], At(index), *dims[lead:]))

    def changed(eqn: Eqn) -> Eqn:
        ins: tuple[In, ...] = tuple(view(x) if isinstance(x, View) else x for x in eqn.ins)
        regions = tuple(Region(r.params, tuple(changed(e) for e in r.eqns)) for r in eqn.regions)
        return replace(eqn, ins=ins, regions=regions)

    eqns[:] = [changed(e) for e in eqns]
