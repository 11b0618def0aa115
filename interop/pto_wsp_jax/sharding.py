"""Calls whose operands are divided between devices: each device runs its share, or it is an error; nothing is gathered in silence."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import mlir
from jax.sharding import NamedSharding, PartitionSpec

from pto_wsp.errors import Location, UnsupportedError, here
from pto_wsp_jax.site import Site
from pto_wsp_jax.varying import axes_of_type

Call = Callable[..., list[Any]]
"""Binds the primitive: call(*operands, site=site)."""


def lower_divided(ctx: Any, *operands: Any, site: Site, call: Call) -> Any:
    """The lowering of a call in a program for several devices, whose partitioner decides what each has; None where each device is given what
    is its own already."""
    context = ctx.module_context.axis_context
    manual = getattr(context, "manual_axes", None)
    if manual is not None:
        if any(n > 1 and name not in manual for name, n in context.mesh.shape.items()):
            raise _refused(
                site, here(), "is in a shard_map over some axes of its mesh", "shard_map over all axes of the mesh"
            )
        return None
    if getattr(context, "num_devices", 1) == 1:
        return None
    if context.device_assignment is None:
        raise _refused(site, here(), "is exported for several devices", "export a shard_map around it")

    def whole(*xs: Any) -> tuple[Any, ...]:
        return tuple(call(*xs, site=site))

    divided: Any = custom_partitioning(whole)
    rule = _Rule(site, here())
    divided.def_partition(
        partition=functools.partial(rule.partition, call),
        infer_sharding_from_operands=rule.infer,
        sharding_rule=rule.text,
    )

    def results(*xs: Any) -> list[Any]:
        return list(divided(*xs))

    return mlir.lower_fun(results, multiple_results=True)(ctx, *operands)


def _refused(site: Site, loc: Location, what: str, fix: str) -> UnsupportedError:
    return UnsupportedError(*("PTO884", f"workload {site} {what}"), loc=loc, fix=fix)


Entry = tuple[str, ...]
"""The axes of a mesh over which a dimension is divided."""


@dataclass(frozen=True)
class _Array:
    """A tensor of a call: which level each of its dimensions belongs to, None for those that no loop divides."""

    name: str
    levels: tuple[int | None, ...]

    def entries(self, spec: Any) -> tuple[Entry, ...]:
        """Of each dimension."""
        parts = (*spec, *(None,) * (len(self.levels) - len(spec)))
        return tuple(() if p is None else (p,) if isinstance(p, str) else tuple(p) for p in parts)


class _Rule:
    """How the arrays of a site's calls may be divided."""

    def __init__(self, site: Site, loc: Location) -> None:
        """`loc`: where the user calls it. XLA asks in threads that do not know."""
        self.site, self._loc = site, loc
        ranks = {n: len(t.shape) for n, t in site.program.bindings.types.items()}
        self.operands = [self._array(n, ranks[n]) for n in site.operands]
        self.operands += [_Array(n, ()) for n in site.sized]
        self.operands += [self._array(n, a.ndim) for n, a in zip(site.constants, site.call.constants, strict=True)]
        self.results = [self._array(n, ranks[n]) for n in (*site.returned, *site.written)]

    def _array(self, name: str, rank: int) -> _Array:
        found = {level.dims[name]: k for k, level in enumerate(self.site.levels) if name in level.dims}
        return _Array(name, tuple(found.get(d) for d in range(rank)))

    @property
    def text(self) -> str:
        """For Shardy's propagation: dimensions of one level are divided alike."""

        def side(arrays: Sequence[_Array], prefix: str) -> str:
            return ", ".join(
                " ".join(f"{prefix}{j}_{d}" if k is None else f"level{k}" for d, k in enumerate(a.levels))
                for j, a in enumerate(arrays)
            )

        return f"{side(self.operands, 'x')} -> {side(self.results, 'y')}"

    def assign(self, mesh: Any, operands: Sequence[Any], results: Sequence[Any] = ()) -> list[Entry]:
        """The axes of the mesh that divide each level: the first that an array has there and that divide it."""
        levels = self.site.levels
        out: list[Entry] = [()] * len(levels)
        specs = (*zip(self.operands, operands, strict=True), *zip(self.results, results, strict=bool(results)))
        for array, spec in specs:
            for k, entry in zip(array.levels, array.entries(spec), strict=True):
                free = k is not None and not out[k] and not any(a in e for a in entry for e in out)
                if k is not None and free and levels[k].divides(_count(mesh, entry)):
                    out[k] = entry
        return out

    def refuse_gathering(self, mesh: Any, operands: Sequence[Any]) -> None:
        """Raise UnsupportedError for an operand that is divided where no loop is."""
        for array, spec in zip(self.operands, operands, strict=True):
            for d, (k, entry) in enumerate(zip(array.levels, array.entries(spec), strict=True)):
                n = _count(mesh, entry)
                if n > 1 and k is None:
                    raise self._gathered(array.name, d, entry)
                if k is not None and not self.site.levels[k].divides(n):
                    raise self._cut(array.name, d, n, k)

    def refuse_moving(self, operands: Sequence[Any], assigned: Sequence[Entry]) -> None:
        """Raise UnsupportedError for an operand that is divided otherwise than `assigned`: for explicit axes, whose users move arrays themselves."""
        for array, spec in zip(self.operands, operands, strict=True):
            for d, (k, entry) in enumerate(zip(array.levels, array.entries(spec), strict=True)):
                if k is not None and entry and entry != assigned[k]:
                    other = (
                        f"over {', '.join(assigned[k])}" if assigned[k] else "over none, as that divides another loop"
                    )
                    raise self._refused(
                        f"has an operand {array.name} whose dimension {d} is divided over {', '.join(entry)}, where others are divided {other}",
                        "jax.sharding.reshard one of them",
                    )

    def _gathered(self, name: str, dim: int, entry: Entry) -> UnsupportedError:
        levels, given = self.site.levels, self.site.arguments
        can = [f"dimension {d} of {n}" for level in levels for n, d in level.dims.items() if n in given]
        return self._refused(
            f"has an operand {name} whose dimension {dim} is divided over {', '.join(entry)}, where it would have to be gathered"
            + (f"; it can be divided over {', '.join(can)}" if can else ""),
            "shard_map, or jax.lax.with_sharding_constraint to have it gathered",
        )

    def _cut(self, name: str, dim: int, n: int, k: int) -> UnsupportedError:
        level = self.site.levels[k]
        return self._refused(
            f"has an operand {name} whose dimension {dim} of {level.size} in blocks of {level.block} is divided in {n} parts",
            "a size that is a multiple of blocks for each device",
        )

    def _refused(self, what: str, fix: str) -> UnsupportedError:
        return _refused(self.site, self._loc, what, fix)

    def specs(self, arrays: Sequence[_Array], assigned: Sequence[Entry]) -> list[PartitionSpec]:
        """How arrays are divided where levels are so."""
        return [PartitionSpec(*(assigned[k] or None if k is not None else None for k in a.levels)) for a in arrays]

    def _spec(self, sharding: Any) -> Any:
        if sharding is None or sharding.is_fully_replicated:
            return PartitionSpec()
        if not isinstance(sharding, NamedSharding):
            raise self._refused(
                f"has an array that is divided without a mesh: {sharding}", "a jax.sharding.NamedSharding"
            )
        return sharding.spec

    # what custom_partitioning asks

    def infer(self, mesh: Any, operands: Any, results: Any) -> tuple[NamedSharding, ...]:
        """The shardings of results, of those of operands as far as they are known."""
        assigned = self.assign(mesh, [self._spec(x.sharding) for x in operands])
        return tuple(NamedSharding(mesh, s) for s in self.specs(self.results, assigned))

    def partition(self, call: Call, mesh: Any, operands: Any, results: Any) -> Any:
        """The mesh, what each device runs, and how its results and operands are divided."""
        given = [[self._spec(x.sharding) for x in xs] for xs in (operands, results)]
        self.refuse_gathering(mesh, given[0])
        assigned = self.assign(mesh, *given)
        mine = self.site.share(tuple(_count(mesh, e) for e in assigned))

        def run(*xs: Any) -> tuple[Any, ...]:
            return tuple(call(*xs, site=mine))

        shardings = (
            tuple(NamedSharding(mesh, s) for s in self.specs(xs, assigned)) for xs in (self.results, self.operands)
        )
        return mesh, run, *shardings


def _count(mesh: Any, entry: Entry) -> int:
    return math.prod(mesh.shape[a] for a in entry)


def abstract_results(*avals: Any, site: Site) -> list[Any]:
    """The types of results. Inside of shard_map they vary over the axes of the mesh over which operands do, all the same ones; where axes are explicit they are
    divided as operands are."""
    like = max(avals, key=lambda a: len(axes_of_type(a)), default=ShapedArray((), np.float32))
    types: list[dict[str, Any]] = [
        {"shape": shape, "dtype": dtype, "weak_type": False} for shape, dtype in site.call.results
    ]
    meshes = (a.sharding.mesh for a in avals)
    mesh = next((m for m in meshes if not m.empty and m._any_axis_explicit), None)
    if mesh is not None:
        rule, specs = _Rule(site, here()), [a.sharding.spec for a in avals]
        rule.refuse_gathering(mesh, specs)
        assigned = rule.assign(mesh, specs)
        rule.refuse_moving(specs, assigned)
        for t, spec in zip(types, rule.specs(rule.results, assigned), strict=True):
            t["sharding"] = NamedSharding(mesh, spec)
    return [like.update(**t) for t in types]
