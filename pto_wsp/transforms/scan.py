"""scan: a workload function over a sequence, each step getting what the one before left."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from pto_wsp.errors import Location, TypeCheckError, here
from pto_wsp.ir import expr
from pto_wsp.trace.axes import DenseDyn
from pto_wsp.trace.builder import WorkloadBuilder, current_workload
from pto_wsp.trace.copying import axis_of, copy_tasks, dim_expr
from pto_wsp.trace.functional import Buffer, Owned, buffer_of, empty, paths, redirect, tree_map
from pto_wsp.trace.index import Index, Scalar64, is_integer
from pto_wsp.trace.tensor import ShapeDim, TensorSpec, TensorView
from pto_wsp.trace.workload import TracedFunction

F = TypeVar("F", bound=TracedFunction)


def scan(f: F, length: ShapeDim | None = None) -> F:
    """The function `(carry, xs) -> (carry, ys)` that runs `carry, y = f(carry, x)` for each `x` of `xs`; as `jax.lax.scan`.

        copy carry to c[0]
        for i in P.seq(n): f(c[i % 2], xs[i]) writing its results to c[(i + 1) % 2] and ys[i]
        copy c[n % 2] to the result

    carry: a tensor or a tuple of tensors of two or more dimensions; `f` returns its like. xs: a tensor or a tuple of tensors
    whose first dimensions are equal, or None with `length`. ys: what `f` returns second, all of it, with the sequence in front;
    None where that is None. A step starts when the one before is complete. Raises TraceError where types do not fit.
    """
    TracedFunction.need("scan", f)
    if length is not None and not isinstance(length, (Scalar64, DenseDyn)) and not (is_integer(length) and length >= 0):
        raise _bad("scan: length is no size", {"length": repr(length)[:80]}, here())

    def scanned(carry: Any, xs: Any = None) -> Any:
        builder = current_workload("scan")
        loc = here()
        count = _length(builder, paths(xs, "xs"), length, loc)
        buffers = {n: _buffer(c, n, loc) for n, c in paths(carry, "carry")}
        for n, c in paths(carry, "carry"):
            copy_tasks(builder, c, buffers[n][0], n, loc)
        i = builder.open_loop(axis_of(count, None), "seq_for", "step", loc)
        step = tree_map(lambda _, n: buffers[n][i % 2], carry, "carry"), tree_map(lambda x, _: _at(x, i), xs, "xs")
        result = f.inline(builder, step, {})
        if not isinstance(result, tuple) or len(result) != 2:
            raise _bad(f"scan: {f.label} returns no pair of carry and y", {"returned": repr(result)[:80]}, loc)
        new, y = dict(paths(result[0], "carry")), dict(paths(result[1], "ys"))
        _same_types(builder, new, buffers, loc)
        ys = {n: empty((count, *x.shape), x.dtype, name=n) for n, x in y.items() if x is not None}
        for all_of_it in ys.values():
            buffer_of(all_of_it).outlives(builder.blocks[-1])
        made: list[tuple[Owned, Owned, Scalar64]] = [(x, buffers[n], (i + 1) % 2) for n, x in new.items()]
        made += [(y[n], all_of_it, i) for n, all_of_it in ys.items()]
        placed: dict[int, TensorView] = {}
        for x, into, at in made:
            buffer = id(buffer_of(x))
            if buffer in placed:
                copy_tasks(builder, placed[buffer], into[at], f.label, loc)
            else:
                _write_into(builder, x, into, at)
                placed[buffer] = into[at]
        builder.close_loop()
        last = Index(dim_expr(builder, count) % expr.const(2), builder)
        out = {n: empty(b.shape[1:], b.dtype, name=n) for n, b in buffers.items()}
        for n, b in buffers.items():
            copy_tasks(builder, b[last], out[n], n, loc)
        return tree_map(lambda _, n: out[n], carry, "carry"), tree_map(lambda _, n: ys.get(n), result[1], "ys")

    names = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("carry", "xs")]
    signature = inspect.Signature([names[0], names[1].replace(default=None)])
    return f.derived(scanned, f"scan({f.label})", signature)


def _length(builder: WorkloadBuilder, xs: list[tuple[str, Any]], length: ShapeDim | None, loc: Location) -> ShapeDim:
    """The number of steps: the first dimension of everything scanned over."""
    dims: dict[str, ShapeDim] = {} if length is None else {"length": length}
    for n, x in xs:
        if x is None:
            continue
        if not isinstance(x, (TensorSpec, TensorView)) or not x.shape:
            raise _bad(f"scan over {n}, which is no tensor with dimensions", {"got": repr(x)[:80]}, loc)
        dims[n] = x.shape[0]
    sizes = {n: dim_expr(builder, d) for n, d in dims.items()}
    if len(set(sizes.values())) != 1:
        raise _bad(
            "scan: the sequences are not of one length" if dims else "scan of nothing without length=", sizes, loc
        )
    return next(iter(dims.values()))


def _buffer(carry: Any, name: str, loc: Location) -> Owned:
    """Room for a carry and the next one."""
    if not isinstance(carry, (TensorSpec, TensorView)):
        raise _bad(f"scan: {name} is no tensor", {"got": repr(carry)[:80]}, loc)
    return empty((2, *carry.shape), carry.dtype, name=name)


def _at(x: TensorSpec | TensorView | None, i: Index) -> TensorView | None:
    return None if x is None else x[i]


def _same_types(builder: WorkloadBuilder, new: dict[str, Any], old: dict[str, Owned], loc: Location) -> None:
    """Raise TypeCheckError unless a step gives a carry like the one that it takes."""
    if new.keys() != old.keys() or any(x is None for x in new.values()):
        raise _bad("scan: a step gives a carry of another structure", {"carry": ", ".join(old)}, loc)
    for n, x in new.items():
        types = [
            f"{v.dtype}[{','.join(str(dim_expr(builder, d)) for d in shape)}]"
            for v, shape in ((old[n], old[n].shape[1:]), (x, x.shape))
        ]
        if types[0] != types[1]:
            raise _bad(f"scan: {n} changes its type in a step", {"takes": types[0], "gives": types[1]}, loc)


def _write_into(builder: WorkloadBuilder, x: Owned, into: Owned, at: Scalar64) -> None:
    """Let the tasks of the step being traced work on `into[at]` where they work on `x`, which is theirs."""
    lead = into.lead if isinstance(into, Buffer) else sum(p.kind == "at" for p in into.parts)
    name = builder.tensor(buffer_of(x))
    redirect(builder.blocks[-1].eqns, name, builder.tensor(buffer_of(into)), lead, at.to_expr())
    del builder.tensors[name]


def _bad(what: str, values: dict[str, Any], loc: Location) -> TypeCheckError:
    return TypeCheckError(
        "PTO186",
        what,
        values=values,
        loc=loc,
        fix="as in jax.lax.scan: f(carry, x) -> (carry, y), with a carry of the same shapes and dtypes",
    )
