"""Memory that stages of a loop hand on: n parts of a temporary, of which each iteration has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pto_wsp.ir.collectives import whole_tensors
from pto_wsp.ir.core import At, Eqn, Region, Role, Slice, TensorType, TileAt, Var, View, ViewDim, Wir
from pto_wsp.ir.coverage import Uses, every_view, is_written_first
from pto_wsp.ir.expr import Expr, const, minimum, var
from pto_wsp.transforms.loops import Substitution, axis, bound_names, variable


@dataclass(frozen=True)
class Handed:
    """A temporary that stage `first` writes anew in each iteration, and stage `last` is the last to use. `dim`: its dimension of which
    an iteration uses one part alone, None where each uses all of it; `part`: that part, `whole` where it is never a shorter one.
    `beside`: variables of parallel loops around, with their extents, that say the part too: their iterations stay independent, as each
    has buffers of its own."""

    tensor: str
    first: int
    last: int
    dim: int | None = None
    part: ViewDim | None = None
    whole: bool = True
    beside: tuple[tuple[str, Expr], ...] = ()

    def buffers(self, t: TensorType, count: int) -> TensorType:
        """Its type as `count` buffers, of which each holds what one iteration uses."""
        shape = list(t.shape)
        if self.dim is not None:
            shape[self.dim : self.dim + 1] = [] if isinstance(self.part, At) else [const(_length(self.part))]
        return replace(t, shape=(const(count), *(extent for _, extent in self.beside), *shape))

    def moved(self, dims: Sequence[ViewDim], number: str) -> tuple[ViewDim, ...]:
        """The dimensions of a view of it, in the buffer of that number."""
        out = list(dims)
        if self.dim is not None:
            part = out[self.dim]
            out[self.dim : self.dim + 1] = [] if isinstance(part, At) else [self._alone(part)]
        return (At(var(number)), *(At(var(name)) for name, _ in self.beside), *out)

    def _alone(self, part: ViewDim) -> ViewDim:
        """All of a part, in memory that holds nothing else."""
        if self.whole or not isinstance(part, TileAt):
            return Slice(const(0), _length(part))
        return TileAt(const(0), part.size, minimum(const(part.size), part.limit - part.start))


def _length(part: ViewDim | None) -> int:
    assert isinstance(part, (Slice, TileAt))
    return part.length if isinstance(part, Slice) else part.size


@dataclass(frozen=True)
class StageRenaming(Substitution):
    """What a stage names: `numbers` are the variables with the numbers of buffers, by tensor."""

    handed: Mapping[str, Handed] = field(default_factory=dict[str, Handed])
    numbers: Mapping[str, str] = field(default_factory=dict[str, str])

    def view(self, view: View) -> View:
        new = super().view(view)
        if view.tensor not in self.numbers:
            return new
        return View(new.tensor, self.handed[view.tensor].moved(new.dims, self.numbers[view.tensor]))


def handed_on(wir: Wir, around: Sequence[Eqn], loop: Eqn, stages: Sequence[Sequence[Eqn]]) -> dict[str, Handed]:
    """The temporaries, by name, that one stage writes and later ones use, in the same iteration and nowhere else. `around`: the loops
    around `loop`, from outside in."""
    used: dict[str, list[tuple[int, View]]] = {}
    for k, eqns in enumerate(stages):
        for v in every_view(eqns):
            used.setdefault(v.tensor, []).append((k, v))
    everywhere = [v.tensor for v in every_view(wir.body.eqns)]
    whole = frozenset[str]().union(*(whole_tensors(e) for top in wir.body.eqns for e in top.walk()))
    body = [e for eqns in stages for e in eqns]
    inner = bound_names([e for top in body for r in top.regions for e in r.eqns])
    inner |= {v.name for top in body for r in top.regions for v in r.params}
    changing = {variable(loop)} | {v.name for e in body for v in e.outs}
    out: dict[str, Handed] = {}
    uses, region = Uses(), Region((), tuple(body))
    for tensor, found in used.items():
        stages_of = [k for k, _ in found]
        owned = wir.tensor_type(tensor).role is Role.TEMPORARY and tensor not in whole
        if not owned or min(stages_of) == max(stages_of) or everywhere.count(tensor) > len(found):
            continue
        same = _same_dims([v for _, v in found], inner)
        if not is_written_first(wir, uses, region, tensor, same):
            continue
        parts = ((k, d) for k, d in same.items() if isinstance(d, (At, Slice, TileAt)) and _names(d) & changing)
        dim, part = next(parts, (None, None))
        beside = _beside(around, part)
        out[tensor] = Handed(tensor, min(stages_of), max(stages_of), dim, part, _is_whole(part, loop), beside)
    return out


def _beside(around: Sequence[Eqn], part: ViewDim | None) -> tuple[tuple[str, Expr], ...]:
    """The parallel loops that say which part it is, beside the loop of the stages, where their extents are known before the run."""
    named = frozenset[str]() if part is None else _names(part)
    loops = [(variable(e), axis(e).extent) for e in around if e.prim == "parallel_for"]
    return tuple((n, extent) for n, extent in loops if n in named and all(x.startswith("$") for x in extent.names()))


def _same_dims(views: Sequence[View], inner: set[str]) -> dict[int, ViewDim]:
    """The dimensions that all views have in common, and that name nothing of loops inside."""
    first = views[0]
    return {k: d for k, d in enumerate(first.dims) if all(v.dims[k] == d for v in views) and not _names(d) & inner}


def _names(d: ViewDim) -> frozenset[str]:
    return View("", (d,)).names()


def _is_whole(part: ViewDim | None, loop: Eqn) -> bool:
    """Whether a part has its full length in each iteration."""
    if not isinstance(part, TileAt):
        return True
    last = part.start.substitute({variable(loop): axis(loop).extent - 1})
    there = part.limit - last - part.size
    return there.is_const and there.const >= 0 and axis(loop).extent.is_const and part.index == var(variable(loop))


def with_buffers(wir: Wir, handed: Mapping[str, Handed], counts: Mapping[str, int]) -> tuple[Var, ...]:
    """The tensors of a workload, those that are handed on as so many buffers each."""
    types = {n: h.buffers(wir.tensor_type(n), counts[n]) for n, h in handed.items()}
    return tuple(Var(v.name, types.get(v.name, v.type)) for v in wir.tensors)
