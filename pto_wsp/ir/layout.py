"""Layouts of tensors on a mesh of devices.

    Mesh(x=2, y=4)                                        8 devices, named axes
    [S(x), R]              on the first dimension each device has its half, as its coordinate on x says; of the second it has all
    [S(x,y), R]            the same of eighths, those of y within those of x
    [R, R] + sum(x)        each device has a part of a sum over the devices along x: pending until it is discharged

What a device has of a dimension is its local extent: the dimension divided by the devices along the axes that divide it. The types, and their join, are
those of Dato (facts on AIE and Dato: `Shard(axis)` or `Replicate` for each dimension), over meshes whose axes have names, as JAX's have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TypeVar

from pto_wsp.errors import LayoutIncompatibleError, TypeCheckError, here

REDUCTIONS = ("sum", "max", "min")
T = TypeVar("T")


def _wrong(what: str, fix: str, **values: object) -> LayoutIncompatibleError:
    return LayoutIncompatibleError("PTO890", what, values=values, loc=here(), fix=fix)


class Mesh:
    """Devices in a grid of named axes: `Mesh(x=2, y=4)` has 8. Meshes are equal that have the same axes in the same order.

    Raises LayoutIncompatibleError for no axis, for names that are no identifiers, and for sizes that are no integers of at least 1.
    """

    def __init__(self, **axes: int) -> None:
        unnamed = [n for n in axes if not (n.isidentifier() and n.isascii())]
        if unnamed:
            raise _wrong(
                f"a mesh with an axis called {unnamed[0]!r}", "use letters, digits and _: the text of a workload has it"
            )
        bad = [n for n, k in axes.items() if type(k) is not int or k < 1]
        if not axes or bad:
            raise _wrong(
                f"a mesh whose axis {bad[0]} is {axes[bad[0]]!r}" if bad else "a mesh without axes",
                "write Mesh(x=2, y=4): how many devices there are along each axis",
            )
        self._axes = dict(axes)

    @property
    def shape(self) -> Mapping[str, int]:
        """How many devices there are along each axis."""
        return MappingProxyType(self._axes)

    @property
    def size(self) -> int:
        """How many devices there are."""
        return prod(self._axes.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and list(self._axes.items()) == list(other._axes.items())

    def __hash__(self) -> int:
        return hash(tuple(self._axes.items()))

    def __repr__(self) -> str:
        return f"Mesh({', '.join(f'{n}={k}' for n, k in self._axes.items())})"


class TensorShard:
    """A dimension that is divided over axes of a mesh: `TensorShard("x")`, or over several, of which the last changes fastest."""

    def __init__(self, *axes: str) -> None:
        if not axes or not all(isinstance(a, str) for a in axes):
            raise _wrong("a shard that names no axes of a mesh", 'write TensorShard("x")', got=axes)
        self.axes = axes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorShard) and self.axes == other.axes

    def __hash__(self) -> int:
        return hash(self.axes)

    def __repr__(self) -> str:
        return f"S({','.join(self.axes)})"


class TensorReplicate:
    """A dimension of which each device has all."""

    axes: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorReplicate)

    def __hash__(self) -> int:
        return hash(TensorReplicate)

    def __repr__(self) -> str:
        return "R"


Distribution = TensorShard | TensorReplicate


@dataclass(frozen=True, init=False, repr=False)
class TensorLayout:
    """How a tensor lies on a mesh: `TensorLayout(mesh, TensorShard("x"), TensorReplicate())`, one distribution for each dimension.

    pending: reductions that are still to be done, by axis of the mesh: {"x": "sum"}, or "max", "min". What a device has of such a tensor is its part
    alone; `allreduce` and `reduce_scatter` discharge it. Raises LayoutIncompatibleError where an axis is none of the mesh's or is used twice.
    """

    mesh: Mesh
    dims: tuple[Distribution, ...]
    pending: Mapping[str, str]

    def __init__(self, mesh: Mesh, *dims: Distribution, pending: Mapping[str, str] | None = None) -> None:
        if not isinstance(mesh, Mesh) or not all(isinstance(d, (TensorShard, TensorReplicate)) for d in dims):
            raise _wrong(
                "a layout needs a mesh, and a distribution for each dimension",
                'write TensorLayout(mesh, TensorShard("x"), TensorReplicate())',
                got=(mesh, *dims),
            )
        left = dict(sorted((pending or {}).items()))
        used = [a for d in dims for a in d.axes] + list(left)
        shown = f"[{', '.join(map(repr, dims))}]{''.join(f' + {op}({a})' for a, op in left.items())}"
        for a in used:
            if a not in mesh.shape:
                raise _wrong(f"layout {shown} names an axis {a}", "use axes of the mesh", mesh=mesh)
            if used.count(a) > 1:
                raise _wrong(
                    f"layout {shown} uses axis {a} twice", "divide one dimension over an axis, or reduce over it"
                )
        if unknown := [op for op in left.values() if op not in REDUCTIONS]:
            raise _wrong(f"a pending reduction {unknown[0]!r}", f"use one of {', '.join(REDUCTIONS)}")
        object.__setattr__(self, "mesh", mesh)
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "pending", MappingProxyType(left))

    def __hash__(self) -> int:
        return hash((self.mesh, self.dims, tuple(self.pending.items())))

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self.dims))}]{''.join(f' + {op}({a})' for a, op in self.pending.items())}"

    @property
    def varies(self) -> frozenset[str]:
        """The axes along which devices have different elements."""
        return frozenset(a for d in self.dims for a in d.axes) | frozenset(self.pending)

    def parts(self, dim: int) -> int:
        """In how many parts a dimension is divided."""
        return prod(self.mesh.shape[a] for a in self.dims[dim].axes)

    def dim_of(self, axis: str) -> int | None:
        """The dimension that an axis of the mesh divides."""
        return next((d for d, x in enumerate(self.dims) if axis in x.axes), None)

    def with_dim(self, dim: int, distribution: Distribution) -> TensorLayout:
        """This layout with another distribution of one dimension."""
        return TensorLayout(self.mesh, *self.dims[:dim], distribution, *self.dims[dim + 1 :], pending=self.pending)

    def without(self, *axes: str) -> TensorLayout:
        """This layout with nothing pending over these axes."""
        left = {a: op for a, op in self.pending.items() if a not in axes}
        return TensorLayout(self.mesh, *self.dims, pending=left)

    def local_shape(self, shape: Sequence[T]) -> tuple[T | int, ...]:
        """What a device has of a tensor of this shape. Raises LayoutIncompatibleError where a dimension cannot be divided evenly."""
        self._need_rank(shape)
        return tuple(
            n if self.parts(d) == 1 else self._number(d, n, self.parts(d)) // self.parts(d) for d, n in enumerate(shape)
        )

    def global_shape(self, local: Sequence[T]) -> tuple[T | int, ...]:
        """The shape of the tensor of which a device has this. Raises LayoutIncompatibleError for a dimension of unknown size that is divided."""
        self._need_rank(local)
        return tuple(n if self.parts(d) == 1 else self._number(d, n, 1) * self.parts(d) for d, n in enumerate(local))

    def _need_rank(self, shape: Sequence[object]) -> None:
        if len(shape) != len(self.dims):
            raise _wrong(
                f"layout {self} is of {len(self.dims)} dimensions, but the tensor has {len(shape)}",
                "give one distribution for each dimension",
                shape=list(shape),
            )

    def _number(self, dim: int, n: object, multiple: int) -> int:
        if not isinstance(n, int) or n % multiple:
            raise _wrong(
                f"dimension {dim} of {n} elements is divided in {self.parts(dim)} parts by {self}",
                "divide dimensions of fixed sizes that are multiples of the devices",
                mesh=self.mesh,
            )
        return n


def replicated(mesh: Mesh, rank: int) -> TensorLayout:
    """The layout of a tensor of which each device has all."""
    return TensorLayout(mesh, *(TensorReplicate() for _ in range(rank)))


def tensor_layout_join(a: TensorLayout, *others: TensorLayout) -> TensorLayout:
    """The layout of what is computed element by element of tensors of these layouts.

    For each dimension R with R is R, R with S(i) is S(i), S(i) with S(i) is S(i). Raises LayoutIncompatibleError for S(i) with S(j), for an axis that
    would divide two dimensions, and for layouts of different meshes or ranks; TypeCheckError where a reduction is pending.
    """
    out = a
    for b in others:
        if a.mesh != b.mesh or len(a.dims) != len(b.dims):
            raise LayoutIncompatibleError(
                *("PTO891", f"layouts {out} and {b} are of different meshes or ranks"),
                values={"meshes": f"{a.mesh}, {b.mesh}"},
                loc=here(),
                fix="join layouts of tensors of one mesh and of as many dimensions",
            )
        out = TensorLayout(
            out.mesh,
            *(_join(x, y, out, b) for x, y in zip(out.dims, b.dims, strict=True)),
            pending={**out.pending, **b.pending},
        )
    if out.pending:
        raise pending_read(f"a tensor of layout {out}", out)
    return out


def _join(x: Distribution, y: Distribution, a: TensorLayout, b: TensorLayout) -> Distribution:
    if x.axes and y.axes and x != y:
        raise LayoutIncompatibleError(
            *("PTO891", f"layouts {a} and {b} have no join: {x} with {y}"),
            loc=here(),
            fix="relayout one of the tensors",
        )
    return x if x.axes else y


def pending_read(what: str, layout: TensorLayout, done: str = "read") -> TypeCheckError:
    """The error of reading, or what else is done to, what is not reduced yet."""
    op, axis = next((op, a) for a, op in layout.pending.items())
    return TypeCheckError(
        *("PTO892", f"{what} is {done} while its {op} over {axis} is pending"),
        values={"layout": layout},
        loc=here(),
        fix="allreduce(t), or reduce_scatter(t, dim), and read what that gives",
    )


Move = tuple[str, str, int, int]
"""("slice", axis, 0, dim): each device keeps its part. ("allgather", axis, dim, 0): each gets all parts. ("alltoall", axis, dim, to)."""


def moves(a: TensorLayout, b: TensorLayout) -> list[Move]:
    """The steps from one layout to another, each over one axis of the mesh: axes go from a dimension last in first out, and what moves from one
    dimension to another is exchanged, not gathered."""
    have = [list(d.axes) for d in a.dims]
    want = [d.axes for d in b.dims]
    out: list[Move] = []

    def next_for(axis: str) -> int | None:
        """The dimension that the axis may be appended to now."""
        return next(
            (
                d
                for d, w in enumerate(want)
                if tuple(have[d]) == w[: len(have[d])] and len(have[d]) < len(w) and w[len(have[d])] == axis
            ),
            None,
        )

    def placed() -> bool:
        """Append what no dimension has: parts of what is there are smaller from then on."""
        used = {x for h in have for x in h}
        for d, w in enumerate(want):
            n = len(have[d])
            if tuple(have[d]) == w[:n] and n < len(w) and w[n] not in used:
                have[d].append(w[n])
                out.append(("slice", w[n], 0, d))
                return True
        return False

    def removed() -> bool:
        for d, w in enumerate(want):
            if tuple(have[d]) != w[: len(have[d])]:
                axis = have[d].pop()
                to = next_for(axis)
                if to is None or to == d:
                    out.append(("allgather", axis, d, 0))
                else:
                    have[to].append(axis)
                    out.append(("alltoall", axis, d, to))
                return True
        return False

    while placed() or removed():
        pass
    return out
