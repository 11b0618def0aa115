"""vmap: a workload function over one axis more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pto_wsp.errors import Location, TraceError, TypeCheckError, here
from pto_wsp.ir.expr import Expr
from pto_wsp.trace.axes import LoopAxis
from pto_wsp.trace.builder import WorkloadBuilder, current_workload
from pto_wsp.trace.copying import axis_of, dim_expr
from pto_wsp.trace.functional import lifted, paths, tree_map
from pto_wsp.trace.tensor import ShapeDim, TensorSpec, TensorView
from pto_wsp.trace.workload import TracedFunction

F = TypeVar("F", bound=TracedFunction)
InAxes = int | None | tuple[Any, ...] | list[Any] | Mapping[str, Any]


def vmap(f: F, in_axes: InAxes = 0, axis_name: str | None = None) -> F:
    """The function that runs `f` for every index of an axis, independently; as `jax.vmap`.

        before:  for i in P(16): k[i](x=x[i], y=y[i])                          x: f32[16, 8]
        after:   for b in P(batch): for i in P(16): k[b, i](x=x[b, i], ...)    x: f32[batch, 16, 8]

    in_axes: which dimension of each tensor is mapped: an integer (negative ones count from the end) or None for all of them, or
    such by parameter, as a tuple or a dict (parameters that a dict does not name are not mapped); within a parameter that takes
    a tuple, list or dict of tensors, the same again. Axes and Python values are not mapped. Results have the axis in front.
    axis_name: what the axis and its loop variable are called. Raises TraceError for mapped dimensions that do not exist or are
    not of one size, and where nothing is mapped.
    """
    TracedFunction.need("vmap", f)

    def batched(**arguments: Any) -> Any:
        builder = current_workload("vmap")
        loc = here()
        specs = _by_parameter(f, in_axes, list(arguments), loc)
        mapped = {n: dict(_mapped(a, specs[n], n, isinstance(in_axes, int), loc)) for n, a in arguments.items()}
        axis = _axis(builder, {p: x for m in mapped.values() for p, x in m.items()}, axis_name, loc)
        index = builder.open_loop(axis, "parallel_for", axis_name or "vmap", loc)
        builder.mapped.append(index.expr)

        def part(x: Any, path: str) -> Any:
            dim = next((m[path][1] for m in mapped.values() if path in m), None)
            return x if dim is None else x[(*[slice(None)] * dim, index)]

        result = f.inline(builder, (), {n: tree_map(part, a, n) for n, a in arguments.items()})
        builder.mapped.pop()
        builder.close_loop()
        once = {id(x): lifted(builder, x) for _, x in paths(result, "") if x is not None}
        return tree_map(lambda x, _: None if x is None else once[id(x)], result, "")

    return f.derived(batched, f"vmap({f.label})", f.signature)


def _by_parameter(f: TracedFunction, in_axes: InAxes, names: list[str], loc: Location) -> dict[str, Any]:
    if isinstance(in_axes, (tuple, list)):
        if len(in_axes) != len(names):
            raise _bad(f"in_axes has {len(in_axes)} entries, but {f.label} has {len(names)} parameters", in_axes, loc)
        return dict(zip(names, in_axes, strict=True))
    if isinstance(in_axes, Mapping):
        unknown = [n for n in in_axes if n not in names]
        if unknown:
            raise _bad(f"in_axes names {unknown[0]}, which {f.label} has not", in_axes, loc)
        return {n: in_axes.get(n) for n in names}
    return dict.fromkeys(names, in_axes)


def _mapped(
    x: Any, axes: Any, path: str, lenient: bool, loc: Location
) -> Iterator[tuple[str, tuple[TensorSpec | TensorView, int]]]:
    """The mapped tensors of an argument: name, tensor, and which of its dimensions."""
    if axes is None:
        return
    if isinstance(axes, (tuple, list, dict)):
        keys = list(axes) if isinstance(axes, dict) else list(range(len(axes)))
        inside = isinstance(x, (tuple, list, dict)) and len(x) == len(axes)
        if not inside or (isinstance(axes, dict) and (not isinstance(x, dict) or set(x) != set(axes))):
            raise _bad(f"in_axes of {path} has another structure than the argument", axes, loc)
        for k in keys:
            yield from _mapped(x[k], axes[k], f"{path}_{k}", lenient, loc)
        return
    if not isinstance(axes, int) or isinstance(axes, bool):
        raise _bad(f"in_axes of {path} is not an integer or None", axes, loc)
    for name, leaf in paths(x, path):
        if isinstance(leaf, (TensorSpec, TensorView)):
            rank = len(leaf.shape)
            if not -rank <= axes < rank:
                raise _bad(f"in_axes says dimension {axes} of {name}, which has {rank} dimensions", leaf, loc)
            yield name, (leaf, axes % rank)
        elif not lenient:
            raise _bad(f"in_axes maps {name}, which is no tensor", leaf, loc)


def _axis(
    builder: WorkloadBuilder,
    mapped: Mapping[str, tuple[TensorSpec | TensorView, int]],
    axis_name: str | None,
    loc: Location,
) -> LoopAxis:
    """The axis that all mapped dimensions have."""
    sizes: dict[str, Expr] = {}
    dims: list[ShapeDim] = []
    for name, (x, dim) in mapped.items():
        dims.append(x.shape[dim])
        sizes[name] = dim_expr(builder, dims[-1])
    if not dims:
        raise _bad("vmap of nothing: in_axes maps no tensor", None, loc)
    if len(set(sizes.values())) > 1:
        raise TypeCheckError(
            "PTO184",
            "vmap: the mapped dimensions are not of one size",
            values=sizes,
            loc=loc,
            fix="map dimensions of equal size, or give in_axes=None to what all iterations share",
        )
    return axis_of(dims[0], axis_name)


def _bad(what: str, got: object, loc: Location) -> TraceError:
    return TypeCheckError(
        "PTO184",
        what,
        values={"got": repr(got)[:80]},
        loc=loc,
        fix="give in_axes an integer or None for each parameter: the dimension to map, or None to share it",
    )
