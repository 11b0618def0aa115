"""Loops and branches.

What a loop carries and a branch gives is a tile, a scalar, a number, or tuples, lists and dicts of them. Threads and warps are
not part of the language: a kernel is what one core does to whole tiles, in program order; parallelism is the workload's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp.errors import Location, TraceError, TypeCheckError, here
from pto_wsp.ir.build import Control, KernelBuilder, current_kernel
from pto_wsp.ir.control import INDEX, MOST_TRIPS, trips
from pto_wsp.ir.core import Dim, DType, Eqn, In, Region, ScalarType, TileType, Type, Var
from pto_wsp.ir.facts import Facts, facts_of
from pto_wsp.ops.parts import integer
from pto_wsp.ops.region import RegionRef
from pto_wsp.ops.running import RunningKernel
from pto_wsp.ops.scalars import type_of
from pto_wsp.ops.tree import Tree, flatten
from pto_wsp.ops.value import Value, is_number, is_scalar, scalar_in, to_in

Body = Callable[[Any, Any], Any]


def fori_loop(lo: Any, hi: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """`carry = body(i, carry)` for i from lo to hi - 1, beginning with init, as `jax.lax.fori_loop`; gives the last carry, which is
    init where hi <= lo.

    lo, hi: integers or scalars; they do not depend on elements that the kernel reads, so that the cost of a task is known when it
    is issued. body: is traced, perhaps more than once; what it carries keeps structure, dtype, static and valid shape.

    Raises TypeCheckError where body gives something else than it takes, TraceError for bounds that depend on elements.

    scalars, body, carry -> carry; all; of PTO-ISA: the scalar unit's; exact
    """
    builder, loc = current_kernel("fori_loop"), here()
    if not callable(body):
        raise _mistake("fori_loop: its body is no function", {"body": repr(body)[:80]}, "give body(i, carry) -> carry")
    check_takes(
        body,
        2,
        "fori_loop: its body does not take the index and what is carried",
        "write body(i, carry), also where carry is a tuple, and where it is None",
    )
    low, high = (integer(builder, x, f"fori_loop: {word}") for x, word in ((lo, "lo"), (hi, "hi")))
    _check_trips(builder, low, high, {"lo": lo, "hi": hi}, loc)
    leaves, tree = flatten(init)
    ins = (low, high, *(_leaf(builder, x, None, "fori_loop") for x in leaves))
    loop = _Loop(builder, body, tree, ins, loc)
    return loop.run() if isinstance(builder, RunningKernel) else loop.trace()


def _check_trips(builder: KernelBuilder, low: In, high: In, given: dict[str, object], loc: Location) -> None:
    if builder.is_data((low, high)):
        raise TraceError(
            "PTO136",
            "how often fori_loop runs depends on an element that the kernel reads",
            values=given,
            loc=loc,
            fix="make it a Scalar parameter, which the workload reads: k(n=item(lens[b]), ...); then the cost of a task is known "
            "when it is issued",
        )
    least = facts_of(high, builder.facts).low - facts_of(low, builder.facts).high
    if least > MOST_TRIPS:
        raise _mistake(
            f"fori_loop of {least} trips or more", {"most": MOST_TRIPS}, "make loops over that much of the workload"
        )


class _Loop:
    """One call of fori_loop."""

    def __init__(self, builder: KernelBuilder, body: Body, tree: Tree, ins: tuple[In, ...], loc: Location) -> None:
        self.builder = builder
        self.body = body
        self.tree = tree
        self.ins = ins
        self.loc = loc
        self.place = builder.place()

    def trace(self) -> Any:
        """Trace the body until what it carries has the types that it gives: each time some extents become those of what it gives."""
        builder = self.builder
        types = [type_of(x) for x in self.ins[2:]]
        data = [builder.is_data((x,)) for x in self.ins[2:]]
        before = builder.mark()
        while True:
            index, *inside = (Var(builder.fresh(), t) for t in (INDEX, *types))
            low, high = (facts_of(x, builder.facts) for x in self.ins[:2])
            builder.facts[index.name] = Facts(low.low, max(high.high - 1, low.low))
            builder.facts |= {v.name: Facts() for v in inside}
            builder.data |= {v.name for v, d in zip(inside, data, strict=True) if d}
            written = set(builder.written)
            with builder.region((index, *inside), (*self.place, 0), repeats=True) as made:
                begin = builder.mark()
                given = self.turn(index, inside)
                builder.append(Eqn("yield", (), tuple(given), {}, (), self.loc))
                region = made()
            joined = [_joined(t, type_of(x), region, self.loc) for t, x in zip(types, given, strict=True)]
            moved = [d or builder.is_data((x,)) for d, x in zip(data, given, strict=True)]
            if joined == types and moved == data:
                break
            builder.back(before)
            types, data = joined, moved
        if not (low.high < high.low):
            builder.written = written  # it may run zero times
        outs = tuple(Var(builder.fresh(), t) for t in types)
        builder.data |= {v.name for v, d in zip(outs, data, strict=True) if d}
        eqn = Eqn("fori_loop", outs, self.ins, {}, (region,), self.loc)
        builder.append(eqn)
        builder.controls[self.place] = Control(eqn, (begin,), builder.mark())
        return self.tree.build([Value(builder, v) for v in outs])

    def turn(self, index: Var, inside: list[Var]) -> list[In]:
        """What one iteration gives."""
        builder = self.builder
        carry = self.tree.build([Value(builder, v) for v in inside])
        leaves, tree = flatten(self.body(Value(builder, index), carry))
        if tree != self.tree:
            raise _mistake(
                "fori_loop: its body gives another structure than it takes",
                {"takes": self.tree, "gives": tree},
                "return as many values as init has, in the same tuples, lists and dicts",
                code="PTO135",
            )
        return [_leaf(builder, x, v.type, "fori_loop") for x, v in zip(leaves, inside, strict=True)]

    def run(self) -> Any:
        """Run it with numbers, as it was traced."""
        builder = self.builder
        assert isinstance(builder, RunningKernel)
        control = builder.begin(self.place, "fori_loop", self.ins)
        region = control.eqn.regions[0]
        index, *inside = region.params
        low, high, *given = (builder.numbers.operand(x) for x in self.ins)
        for i in trips(control.eqn, low, high):
            with builder.region(region.params, (*self.place, 0), repeats=True):
                builder.back(control.begins[0])
                builder.numbers.bind_all(region.params, (i, *given))
                gives = self.turn(index, inside)
                builder.end(gives)
                given = [builder.numbers.operand(x) for x in gives]
        return self.tree.build(builder.leave(control, given))


def cond(pred: Any, then: Callable[..., Any], otherwise: Callable[..., Any] | None = None, *operands: Any) -> Any:
    """`then(*operands)` where the bool scalar pred holds, else `otherwise(*operands)`, as `jax.lax.cond`. One of them runs; both
    are needed, are traced, and give values of one structure, dtype and shape. A Python bool chooses while tracing.

    A task costs what the branch taken costs; the more expensive one where pred depends on elements that the kernel reads.

    Raises TypeCheckError where they give different things.

    scalar, functions, operands -> what they give; all; of PTO-ISA: the scalar unit's; exact
    """
    builder, loc = current_kernel("cond"), here()
    if not callable(then) or not callable(otherwise):
        raise _mistake(
            "cond: its branches are no functions",
            {"then": repr(then)[:80], "otherwise": repr(otherwise)[:80]},
            "write pto.cond(c, lambda: a, lambda: b): both are there; lambda: None gives nothing",
        )
    for word, way in (("then", then), ("otherwise", otherwise)):
        check_takes(
            way,
            len(operands),
            f"cond: {word} does not take {len(operands)} operands",
            "write functions of the operands behind them, of none: pto.cond(c, lambda: a, lambda: b)",
        )
    if isinstance(pred, (bool, np.bool_)):
        return then(*operands) if pred else otherwise(*operands)
    condition = scalar_in(builder, pred, None, "cond") if is_scalar(pred) else None
    if not isinstance(condition, Var) or condition.type != ScalarType(DType.BOOL):
        raise _mistake(
            "cond: the condition is no bool scalar",
            {"got": repr(pred)[:80]},
            "compare scalars: n > 0; pto.item(mask, (0, 0)) is one element of a tile of conditions; pto.where selects elements",
        )
    branch = _Branch(builder, condition, tuple(lambda f=f: f(*operands) for f in (then, otherwise)), loc)
    return branch.run() if isinstance(builder, RunningKernel) else branch.trace()


class _Branch:
    """One call of cond."""

    def __init__(
        self, builder: KernelBuilder, condition: Var, ways: tuple[Callable[[], Any], ...], loc: Location
    ) -> None:
        self.builder = builder
        self.condition = condition
        self.ways = ways
        self.loc = loc
        self.place = builder.place()

    def trace(self) -> Any:
        builder = self.builder
        before = set(builder.written)
        regions, begins = list[Region](), list[Any]()
        given, trees, written = list[list[In]](), list[Tree](), list[set[str]]()
        for k, way in enumerate(self.ways):
            builder.written = set(before)
            with builder.region((), (*self.place, k)) as made:
                begins.append(builder.mark())
                leaves, tree = flatten(way())
                given.append([_leaf(builder, x, None, "cond") for x in leaves])
                builder.append(Eqn("yield", (), tuple(given[k]), {}, (), self.loc))
                regions.append(made())
            trees.append(tree)
            written.append(builder.written)
        builder.written = written[0] & written[1]
        if trees[0] != trees[1]:
            raise _mistake(
                "cond: its branches give different structures",
                {"then": trees[0], "otherwise": trees[1]},
                "return as many values from both, in the same tuples, lists and dicts",
                code="PTO135",
            )
        inside = _names_in(regions)
        outs = tuple(
            Var(builder.fresh(), _either(type_of(x), type_of(y), inside, self.loc)) for x, y in zip(*given, strict=True)
        )
        known = not builder.is_data((self.condition,))
        builder.data |= {v.name for v, *ways in zip(outs, *given, strict=True) if not known or builder.is_data(ways)}
        eqn = Eqn("branch", outs, (self.condition,), {}, tuple(regions), self.loc)
        builder.append(eqn)
        builder.controls[self.place] = Control(eqn, tuple(begins), builder.mark())
        return trees[0].build([Value(builder, v) for v in outs])

    def run(self) -> Any:
        """Run one of them with numbers, as it was traced."""
        builder = self.builder
        assert isinstance(builder, RunningKernel)
        control = builder.begin(self.place, "branch", (self.condition,))
        k = 0 if builder.numbers.operand(self.condition) else 1
        with builder.region((), (*self.place, k)):
            builder.back(control.begins[k])
            leaves, tree = flatten(self.ways[k]())
            gives = [_leaf(builder, x, None, "cond") for x in leaves]
            builder.end(gives)
            given = [builder.numbers.operand(x) for x in gives]
        return tree.build(builder.leave(control, given))


def check_takes(f: Callable[..., Any], count: int, what: str, fix: str, code: str = "PTO137") -> None:
    """Refuse a function that cannot be called with `count` arguments."""
    try:
        inspect.signature(f).bind(*[None] * count)
    except TypeError as e:
        raise _mistake(what, {"function": repr(f)[:80], "because": e}, fix, code) from None
    except ValueError:  # a builtin that does not tell
        return


def _mistake(what: str, values: dict[str, object], fix: str, code: str = "PTO137") -> TypeCheckError:
    return TypeCheckError(code, what, values=values, loc=here(), fix=fix)


def _leaf(builder: KernelBuilder, x: Any, place: Type | None, what: str) -> In:
    """A carried value as an operand; a number has the type of its place where that is a scalar's, else its own."""
    if isinstance(x, RegionRef) or not (isinstance(x, Value) or is_number(x)):
        raise _mistake(
            f"{what}: {type(x).__name__} as a value",
            {"got": repr(x)[:80]},
            "carry tiles, scalars and numbers; a region is used inside without being carried",
        )
    if isinstance(x, Value) and not is_scalar(x):
        return to_in(x, None, builder, what)
    is_integer = isinstance(x, (int, np.integer)) and not isinstance(x, bool)
    takes = place.dtype if isinstance(place, ScalarType) and place.dtype is not DType.BOOL else None
    return scalar_in(builder, x, takes if is_integer else None, what)


def _names_in(regions: list[Region]) -> set[str]:
    """Every name that the regions bind."""
    eqns = [e for r in regions for top in r.eqns for e in top.walk()]
    return (
        {v.name for r in regions for v in r.params}
        | {v.name for e in eqns for v in e.outs}
        | {v.name for e in eqns for r in e.regions for v in r.params}
    )


def _same_tiles(a: Type, b: Type) -> bool:
    return (
        isinstance(a, TileType) and isinstance(b, TileType) and (a.dtype, a.rows, a.cols) == (b.dtype, b.rows, b.cols)
    )


def _joined(carried: Type, given: Type, region: Region, loc: Location) -> Type:
    """The type of a carried value that becomes one of type `given`: where it is whole, of a smaller valid shape that is known
    outside of the loop."""
    if carried == given:
        return carried
    if not _same_tiles(carried, given):
        raise TypeCheckError(
            "PTO135",
            "fori_loop: its body gives another type than it takes",
            values={"takes": carried, "gives": given},
            loc=loc,
            fix="keep dtype and shape: pto.cast, pto.broadcast; in init, 0 is an integer and 0.0 a float",
        )
    assert isinstance(carried, TileType) and isinstance(given, TileType)
    inside = _names_in([region])

    def dim(old: Dim, new: Dim, size: int) -> Dim:
        if new in (old, size):
            return old
        if old == size and new not in inside:
            return new
        raise TypeCheckError(
            "PTO135",
            "fori_loop: the valid shape of a carried tile may change from one iteration to the next",
            values={"takes": carried, "gives": given},
            loc=loc,
            fix="carry tiles whose valid shape is known before the loop: reduce, combine with a tile of it, or pto.restrict",
        )

    rows = dim(carried.vrows, given.vrows, carried.rows)
    return TileType(carried.dtype, *carried.shape, rows, dim(carried.vcols, given.vcols, carried.cols))


def _either(a: Type, b: Type, inside: set[str], loc: Location) -> Type:
    """The type of what is a or b: of the smaller valid shape, where one of them is whole."""
    bad = TypeCheckError(
        "PTO135",
        "cond: its branches give different types",
        values={"then": a, "otherwise": b},
        loc=loc,
        fix="give tiles of one dtype, shape and valid shape, which is known before: pto.cast, pto.broadcast, pto.restrict",
    )
    if not _same_tiles(a, b):
        if a == b:
            return a
        raise bad
    assert isinstance(a, TileType) and isinstance(b, TileType)

    def dim(x: Dim, y: Dim, size: int) -> Dim:
        out = y if x == size else x
        if out in inside or y not in (out, size):
            raise bad
        return out

    return TileType(a.dtype, *a.shape, dim(a.vrows, b.vrows, a.rows), dim(a.vcols, b.vcols, a.cols))
