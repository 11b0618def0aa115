"""Loops and branches of kernels.

What is carried, given and returned is a tile, a scalar, or tuples, lists and dicts of them. Threads and warps are not part of
the language: a kernel is what one core does to whole tiles, in program order; parallelism is the workload's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp.errors import Location, TraceError, TypeCheckError, here
from pto_wsp.ir.build import KernelBuilder, current_kernel
from pto_wsp.ir.control import INDEX, MOST_TRIPS, fits
from pto_wsp.ir.core import Dim, DType, Eqn, Literal, ScalarType, TileType, Type, Var
from pto_wsp.ir.scalars import SCALAR_DTYPES
from pto_wsp.ops.parts import integer
from pto_wsp.ops.value import Region, Value, is_number, widened

_TRACINGS = 8  # of a body, until the valid shapes of what it carries are those it gives


def fori_loop(lo: Any, hi: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """`carry = body(i, carry)` for i from lo to hi - 1, beginning with init; as `jax.lax.fori_loop`. Gives the last carry: init
    where hi <= lo. lo, hi: integers or scalars that do not depend on elements read inside of the kernel, so that the cost of a
    task is known when it is issued. body is traced, perhaps more than once.

    Raises TypeCheckError where body gives another structure, dtype or shape than it takes, TraceError for the rest.

    scalars, body, carry -> carry; f32 f16 bf16 i32 bool; of PTO-ISA: the scalar unit's; exact
    """
    builder, loc = current_kernel("fori_loop"), here()
    if not callable(body):
        raise _mistake("fori_loop: its body is no function", {"body": repr(body)[:80]}, "give body(i, carry) -> carry")
    first, last = (integer(builder, x, f"fori_loop: {word}") for x, word in ((lo, "lo"), (hi, "hi")))
    if isinstance(first, Literal) and isinstance(last, Literal) and last.value - first.value > MOST_TRIPS:
        raise _mistake(
            f"fori_loop of {last.value - first.value} trips", {"most": MOST_TRIPS}, "make the loop one of the workload"
        )
    for x in (first, last):
        if builder.is_data((x,)):
            raise TraceError(
                "PTO136",
                "the trips of fori_loop depend on an element read inside of the kernel",
                values={"bound": x},
                loc=loc,
                fix="give it as a Scalar parameter: the workload reads it with item(view), and the cost of a task is known when "
                "it is issued",
            )
    leaves, tree = flatten(init)
    carried = [_leaf(builder, x, "fori_loop") for x in leaves]
    types = [_type(x) for x in carried]
    data = [builder.is_data((x,)) for x in carried]
    mark = builder.mark()
    for _ in range(_TRACINGS):
        index = Var(builder.fresh(), INDEX)
        inside = [Var(builder.fresh(), t) for t in types]
        builder.data |= {v.name for v, d in zip(inside, data, strict=True) if d}
        written = set(builder.written)
        with builder.region((index, *inside), again=True) as made:
            given = body(Value(builder, index), unflatten(tree, [Value(builder, v) for v in inside]))
            out_leaves, out_tree = flatten(given)
            if out_tree != tree:
                raise _mistake(
                    "fori_loop: its body gives another structure than it takes",
                    {"takes": _show(tree), "gives": _show(out_tree)},
                    "return as many values, in the same order, as init has",
                    code="PTO135",
                )
            given_vars = [_leaf(builder, x, "fori_loop", t) for x, t in zip(out_leaves, types, strict=True)]
            builder.append(Eqn("yield", (), tuple(given_vars), {}, (), loc))
            region = made()
        new = [_joined(t, _type(x), builder, region, loc) for t, x in zip(types, given_vars, strict=True)]
        new_data = [d or builder.is_data((x,)) for d, x in zip(data, given_vars, strict=True)]
        if new == types and new_data == data:
            break
        builder.back(mark)
        types, data = new, new_data
    else:
        raise _mistake(
            "fori_loop: the valid shapes it carries never become the same", {}, "restrict them: pto.restrict"
        )
    if not (isinstance(first, Literal) and isinstance(last, Literal) and last.value > first.value):
        builder.written = written  # it may run zero times
    outs = [Var(builder.fresh(), t) for t in types]
    builder.data |= {v.name for v, d in zip(outs, data, strict=True) if d}
    builder.append(Eqn("fori_loop", tuple(outs), (first, last, *carried), {}, (region,), loc))
    return unflatten(tree, [Value(builder, v) for v in outs])


def cond(pred: Any, then: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any) -> Any:
    """`then(*operands)` where the bool scalar pred holds, else `otherwise(*operands)`; as `jax.lax.cond`. Only one of them runs; both
    are traced and give values of the same structure, dtypes and shapes. A Python bool chooses while tracing.

    scalar, functions, operands -> what they give; f32 f16 bf16 i32 bool; of PTO-ISA: the scalar unit's; exact
    """
    builder, loc = current_kernel("cond"), here()
    if not callable(then) or not callable(otherwise):
        raise _mistake("cond: its branches are no functions", {}, "pto.cond(c, lambda: a, lambda: b)")
    if isinstance(pred, (bool, np.bool_)):
        return then(*operands) if pred else otherwise(*operands)
    if not isinstance(pred, Value) or not isinstance(pred.type, ScalarType):
        raise _mistake(
            "cond: the condition is no bool scalar",
            {"got": repr(pred)[:80]},
            "compare scalars; of a tile of conditions one element is pto.item(mask, (0, 0)); pto.where selects elements",
        )
    condition = widened(builder, pred, None, "cond")
    if condition.type != ScalarType(DType.BOOL):  # type: ignore[union-attr]
        raise _mistake("cond: the condition is no bool", {"got": pred}, "write a comparison, such as x != 0")
    before = set(builder.written)
    regions: list[Any] = []
    results: list[tuple[list[Any], Any]] = []
    writes: list[set[str]] = []
    for branch in (then, otherwise):
        builder.written = set(before)
        with builder.region() as made:
            leaves, tree = flatten(branch(*operands))
            given = [_leaf(builder, x, "cond") for x in leaves]
            builder.append(Eqn("yield", (), tuple(given), {}, (), loc))
            regions.append(made())
        results.append((given, tree))
        writes.append(builder.written)
    builder.written = writes[0] & writes[1]
    (a, tree), (b, other) = results
    if tree != other:
        raise _mistake(
            "cond: its branches give different structures",
            {"then": _show(tree), "else": _show(other)},
            "return as many values, in the same order, from both",
            code="PTO135",
        )
    types = [_either(_type(x), _type(y), loc) for x, y in zip(a, b, strict=True)]
    outs = [Var(builder.fresh(), t) for t in types]
    tainted = builder.is_data((condition,))
    builder.data |= {v.name for v, x, y in zip(outs, a, b, strict=True) if tainted or builder.is_data((x, y))}
    builder.append(Eqn("branch", tuple(outs), (condition,), {}, tuple(regions), loc))
    return unflatten(tree, [Value(builder, v) for v in outs])


def _mistake(what: str, values: dict[str, object], fix: str, code: str = "PTO137") -> TypeCheckError:
    return TypeCheckError(code, what, values=values, loc=here(), fix=fix)


def flatten(x: Any) -> tuple[list[Any], Any]:
    """The values in tuples, lists and dicts, in order, and the structure around them."""
    if isinstance(x, (tuple, list)):
        parts = [flatten(y) for y in x]
        return [leaf for leaves, _ in parts for leaf in leaves], (type(x), tuple(t for _, t in parts))
    if isinstance(x, dict):
        parts = [flatten(x[k]) for k in x]
        return [leaf for leaves, _ in parts for leaf in leaves], (
            dict,
            tuple(zip(x, (t for _, t in parts), strict=True)),
        )
    return ([], None) if x is None else ([x], "*")


def unflatten(tree: Any, leaves: list[Any]) -> Any:
    """The structure with these values, which are taken from the front of `leaves`."""
    if tree is None:
        return None
    if tree == "*":
        return leaves.pop(0)
    kind, parts = tree
    if kind is dict:
        return {k: unflatten(t, leaves) for k, t in parts}
    values = [unflatten(t, leaves) for t in parts]
    return kind(*values) if hasattr(kind, "_fields") else kind(values)


def _show(tree: Any) -> str:
    if tree is None or tree == "*":
        return "nothing" if tree is None else "a value"
    kind, parts = tree
    inner = [f"{k}: {_show(t)}" for k, t in parts] if kind is dict else [_show(t) for t in parts]
    return f"{kind.__name__}({', '.join(inner)})"


def _leaf(builder: KernelBuilder, x: Any, what: str, like: Type | None = None) -> Var | Literal:
    """A carried value as an operand."""
    if isinstance(x, Region) or not (isinstance(x, Value) or is_number(x)):
        raise _mistake(
            f"{what}: {type(x).__name__} is not carried", {"got": repr(x)[:80]}, "carry tiles, scalars and numbers"
        )
    if isinstance(x, Value):
        if isinstance(x.type, ScalarType):
            operand = widened(builder, x, None, what)
            assert isinstance(operand, Var)
            return operand
        return x.read()
    dtype = like.dtype if isinstance(like, ScalarType) and like.dtype in SCALAR_DTYPES else None
    if dtype is None:
        dtype = (
            DType.BOOL
            if isinstance(x, (bool, np.bool_))
            else DType.F64
            if isinstance(x, (float, np.floating))
            else DType.I64
        )
    out = widened(builder, x, dtype, what)
    assert isinstance(out, Literal)
    return out


def _type(x: Var | Literal) -> Type:
    return ScalarType(x.dtype) if isinstance(x, Literal) else x.type


def _joined(carried: Type, given: Type, builder: KernelBuilder, region: Any, loc: Location) -> Type:
    """The type of a carried value that is given as `given`: of a smaller valid shape where that is known outside."""
    if fits(given, carried):
        return carried
    if (
        not isinstance(carried, TileType)
        or not isinstance(given, TileType)
        or (carried.dtype, carried.shape) != (given.dtype, given.shape)
    ):
        raise TypeCheckError(
            "PTO135",
            "fori_loop: its body gives another type than it takes",
            values={"takes": carried, "gives": given},
            loc=loc,
            fix="keep dtype and shape: pto.cast, pto.broadcast; numbers of init decide: 0 is an integer, 0.0 a float",
        )
    inside = {v.name for v in region.params} | {v.name for e in region.eqns for inner in e.walk() for v in inner.outs}

    def dim(old: Dim, new: Dim, size: int) -> Dim:
        if new in (old, size):
            return old
        if old == size and new not in inside:
            return new
        raise TypeCheckError(
            "PTO135",
            "fori_loop: the valid shape of a carried tile changes from iteration to iteration",
            values={"takes": carried, "gives": given},
            loc=loc,
            fix="carry tiles whose valid shape is known before the loop: reduce, or pto.fill_pad what is not valid",
        )

    return TileType(
        carried.dtype,
        *carried.shape,
        dim(carried.vrows, given.vrows, carried.rows),
        dim(carried.vcols, given.vcols, carried.cols),
    )


def _either(a: Type, b: Type, loc: Location) -> Type:
    """The type of what is a or b."""
    if fits(a, b):
        return b
    if fits(b, a):
        return a
    raise TypeCheckError(
        "PTO135",
        "cond: its branches give different types",
        values={"then": a, "else": b},
        loc=loc,
        fix="give tiles of one dtype, shape and valid shape: pto.cast, pto.broadcast, pto.restrict",
    )
