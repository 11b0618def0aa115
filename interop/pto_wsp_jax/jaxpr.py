"""A jaxpr, walked in a kernel: each equation becomes operations on tiles, `scan`, `while` and `cond` become the kernel's control."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
import opt_einsum
from jax.core import Tracer
from jax.extend.core import Jaxpr, JaxprEqn, Literal

import pto_wsp
from pto_wsp import pto
from pto_wsp.errors import Location, UnsupportedError, at, here
from pto_wsp.ir.build import current_kernel
from pto_wsp.ir.core import DType
from pto_wsp.ops.running import RunningKernel
from pto_wsp.ops.value import Value
from pto_wsp_jax import elementwise, layouts
from pto_wsp_jax.arrays import Array, Operation, Shape, as_scalar, number, oriented, single, spread

INLINED = {
    **dict.fromkeys(("jit", "pjit", "checkpoint", "remat2"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "custom_vmap_call": "call",
}
"""Calls, which are walked where they stand, by the parameter that holds what is called."""

_FILES = (jax.__file__, jaxlib.__file__, opt_einsum.__file__, pto_wsp.__file__, __file__)
_LIBRARIES = tuple(f"{Path(str(f)).parent}/" for f in _FILES)
_STANDARD = f"{sysconfig.get_paths()['stdlib']}/"

Layout = tuple[int | None, int | None]


def _is_library(file: str) -> bool:
    """Whether it is of JAX, ours or Python's: no line that the user wrote."""
    return file.startswith(_LIBRARIES) or (file.startswith(_STANDARD) and "site-packages" not in file)


def location(eqn: JaxprEqn) -> Location | None:
    """The innermost line of the user's that made an equation."""
    traceback = eqn.source_info.traceback
    if traceback is None:
        return None
    for code, lasti in zip(*traceback.raw_frames(), strict=True):  # the innermost first
        if not _is_library(code.co_filename):
            line = next(islice(code.co_positions(), lasti // 2, None))[0]
            return Location.of_code(code, lasti, line or code.co_firstlineno)
    return None


def _is_of_library(jaxpr: Jaxpr) -> bool:
    """Whether it is of a function of JAX itself: its lines are those of the first call that was traced, not of this one."""
    _, _, place = (jaxpr.debug_info.func_src_info or "").rpartition(" at ")
    return _is_library(place)


def dtype_of(dtype: Any) -> DType | None:
    """Ours, where there is one."""
    return next((d for d in DType if d.numpy == dtype), None)


def aval_of(aval: Any) -> tuple[Shape, DType]:
    """Shape and dtype of what a variable of a jaxpr stands for. Raises UnsupportedError where tiles have no such dtype."""
    dtype = dtype_of(getattr(aval, "dtype", None))
    if dtype is None:
        raise UnsupportedError(
            *("PTO888", f"a kernel has no values of {aval.str_short()}"),
            loc=here(),
            fix=f"use one of {', '.join(map(str, DType))}",
        )
    return tuple(aval.shape), dtype


def constant(x: Any, aval: Any) -> Array | np.ndarray[Any, Any]:
    """A constant of a jaxpr: a number, everywhere, or else the array itself, which no kernel holds."""
    if isinstance(x, Tracer):
        raise UnsupportedError(
            *("PTO889", "the function uses a traced value of the JAX program around it"),
            values={"value": aval.str_short()},
            loc=here(),
            fix="make it an argument of the function, which the workload gives",
        )
    shape, dtype = aval_of(aval)
    array = np.asarray(x)
    first = array.reshape(-1)[0]
    if array.ndim and not (array == first).all() and not np.isnan(array.astype(np.float64)).all():
        return array
    return Array(number(first, dtype), shape, dtype)


@dataclass(eq=False)
class Walk:
    """One walk over the equations of a kernel.

    columns: of loops, by equation, what they carry of rank 1 and stands in a column; found in the first trace, and so in all.
    """

    columns: dict[int, frozenset[int]] = field(default_factory=dict[int, frozenset[int]])

    def run(
        self, jaxpr: Jaxpr, consts: Sequence[Array | np.ndarray[Any, Any]], args: Sequence[Array], hidden: bool = False
    ) -> list[Array]:
        """What a jaxpr gives. hidden: its lines say nothing, that of the equation around it counts."""
        env: dict[Any, Array | np.ndarray[Any, Any]] = {}
        env |= zip(jaxpr.constvars, consts, strict=True)
        env |= zip(jaxpr.invars, args, strict=True)
        for eqn in jaxpr.eqns:
            with at(None if hidden else location(eqn)):
                ins = [_read(env, x) for x in eqn.invars]
                outs = self.equation(eqn, ins, hidden)
            env |= zip(eqn.outvars, outs, strict=True)
        return [_read(env, x) for x in jaxpr.outvars]

    def closed(self, closed: Any, args: Sequence[Array], hidden: bool = False) -> list[Array]:
        """What a jaxpr with its constants gives."""
        consts = [constant(x, v.aval) for x, v in zip(closed.consts, closed.jaxpr.constvars, strict=True)]
        return self.run(closed.jaxpr, consts, args, hidden)

    def equation(self, eqn: JaxprEqn, ins: list[Array], hidden: bool) -> list[Array]:
        """What one equation gives."""
        name = eqn.primitive.name
        if name in INLINED:
            called = eqn.params[INLINED[name]]
            inner = called if isinstance(called, Jaxpr) else called.jaxpr
            hidden = hidden or _is_of_library(inner)
            return self.run(inner, [], ins, hidden) if called is inner else self.closed(called, ins, hidden)
        op = Operation(
            eqn.primitive,
            eqn.params,
            tuple(a.dtype for a in ins),
            tuple(aval_of(v.aval) for v in eqn.outvars),
            f"{name} {' '.join(v.aval.str_short() for v in eqn.invars)} -> {' '.join(v.aval.str_short() for v in eqn.outvars)}",
        )
        if name in _CONTROL:
            return _CONTROL[name](self, op, ins, hidden, id(eqn))
        if name in elementwise.TILES:
            return [elementwise.rule(op, *ins)]
        if name in layouts.RULES:
            given = layouts.RULES[name](op, *ins)
            return given if isinstance(given, list) else [given]
        raise op.refusal()


def _read(env: Mapping[Any, Array | np.ndarray[Any, Any]], x: Any) -> Array:
    a = constant(x.val, x.aval) if isinstance(x, Literal) else env[x]
    if isinstance(a, Array):
        return a
    raise UnsupportedError(
        *("PTO889", f"the function uses an array that is no argument of it: {x.aval.str_short()}"),
        loc=here(),
        fix="make it an argument, which the workload gives: a kernel holds no arrays but those whose elements are all one number",
    )


# what loops carry and branches give


def _is_scalar(shape: Shape, dtype: DType) -> bool:
    """Carried as a scalar of the kernel: indices, counts and conditions."""
    return not shape and not dtype.is_float


def _leaf(a: Array, to: Layout) -> Any:
    return as_scalar(a) if _is_scalar(a.shape, a.dtype) else spread(a, *to)


def _array(value: Any, aval: tuple[Shape, DType], to: Layout) -> Array:
    return Array(value, *aval, *to)


def _layouts(op: Operation, avals: Sequence[tuple[Shape, DType]], columns: frozenset[int]) -> list[Layout]:
    plain = [layouts.standard(op, shape) for shape, _ in avals]
    return [(0, None) if k in columns else x for k, x in enumerate(plain)]


class _OtherLayout(Exception):
    """Some of what a loop carries stands in columns."""

    def __init__(self, columns: frozenset[int]) -> None:
        super().__init__()
        self.columns = columns


@dataclass(frozen=True)
class _Loop:
    """A loop of JAX as one of the kernel.

    step: from index and carry to carry. avals: of what is carried.
    """

    walk: Walk
    op: Operation
    key: int
    avals: tuple[tuple[Shape, DType], ...]

    def run(self, low: Any, high: Any, step: Any, init: Sequence[Array]) -> list[Array]:
        """The carry at the end."""
        builder = current_kernel("fori_loop")
        if isinstance(builder, RunningKernel) or self.key in self.walk.columns:
            return self._run(low, high, step, init, self.walk.columns[self.key], final=True)
        before = builder.mark()
        columns = frozenset[int]()
        try:
            result = self._run(low, high, step, init, columns, final=False)
        except _OtherLayout as e:
            builder.back(before)
            columns = e.columns
            result = self._run(low, high, step, init, columns, final=True)
        self.walk.columns[self.key] = columns
        return result

    def _run(
        self, low: Any, high: Any, step: Any, init: Sequence[Array], columns: frozenset[int], *, final: bool
    ) -> list[Array]:
        to = _layouts(self.op, self.avals, columns)

        def body(index: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            given = step(index, [_array(*x) for x in zip(carry, self.avals, to, strict=True)])
            found = frozenset(
                k for k, a in enumerate(given) if a.is_tile and len(a.shape) == 1 and a.row == 0 and to[k] == (None, 0)
            )
            if found and not final:
                raise _OtherLayout(found)
            return tuple(map(_leaf, given, to))

        if not self.avals:
            return []
        end = pto.fori_loop(low, high, body, tuple(map(_leaf, init, to)))
        return [_array(*x) for x in zip(end, self.avals, to, strict=True)]


def _inductions(body: Jaxpr, first: int, count: int) -> dict[int, int]:
    """Which of the carried values are integers that grow by a number in each trip, and by which."""
    makers: dict[Any, JaxprEqn] = {eqn.outvars[0]: eqn for eqn in body.eqns if eqn.primitive.name == "add"}
    found: dict[int, int] = {}
    for k in range(count):
        eqn, before = makers.get(body.outvars[k]), body.invars[first + k]
        if eqn is None or eqn.invars[0] is not before or not isinstance(eqn.invars[1], Literal):
            continue
        shape, dtype = aval_of(before.aval)
        if not shape and dtype.is_integer:
            found[k] = int(eqn.invars[1].val)
    return found


class _Carry:
    """What a body carries, but for what stays as it is, and inductions, which follow from the index."""

    def __init__(self, body: Jaxpr, first: int, init: Sequence[Array]) -> None:
        self.init = init
        self.grows = {k: by for k, by in _inductions(body, first, len(init)).items() if not init[k].is_tile}
        self.grows |= {k: 0 for k in range(len(init)) if body.outvars[k] is body.invars[first + k]}
        self.carried = [k for k in range(len(init)) if k not in self.grows]

    def all(self, trips: Any, carried: Sequence[Array]) -> list[Array]:
        """Everything after so many trips."""
        values = dict(zip(self.carried, carried, strict=True))
        values |= {k: _grown(self.init[k], trips, by) for k, by in self.grows.items()}
        return [values[k] for k in range(len(self.init))]

    def of(self, given: Sequence[Any]) -> list[Any]:
        """Those that are carried."""
        return [given[k] for k in self.carried]


def _grown(a: Array, trips: Any, by: int) -> Array:
    """a + trips * by."""
    if by == 0:
        return a
    more = trips if by == 1 else trips * by
    value = more if a.is_number and a.value == 0 else a.value + more
    return Array(elementwise.in_range(value, a.dtype), a.shape, a.dtype)


def _scan(walk: Walk, op: Operation, ins: list[Array], hidden: bool, key: int) -> list[Array]:
    body, length = op.params["jaxpr"], op.params["length"]
    n_consts, n_carry = op.params["num_consts"], op.params["num_carry"]
    consts, init, xs = ins[:n_consts], ins[n_consts : n_consts + n_carry], ins[n_consts + n_carry :]
    if length == 0:
        raise op.refusal("of no iterations, which gives arrays without elements")
    carry = _Carry(body.jaxpr, n_consts, init)
    made = op.gives[n_carry:]

    def step(index: Any, before: list[Array]) -> list[Array]:
        i = length - 1 - index if op.params["reverse"] else index
        n = len(carry.carried)
        given = walk.closed(body, [*consts, *carry.all(index, before[:n]), *(_element(x, i) for x in xs)], hidden)
        ys = [_stacked(op, a, y, i) for a, y in zip(before[n:], given[n_carry:], strict=True)]
        return [*carry.of(given), *ys]

    loop = _Loop(walk, op, key, (*carry.of(op.gives[:n_carry]), *made))
    end = loop.run(0, length, step, [*carry.of(init), *(Array(number(0, d), s, d) for s, d in made)])
    n = len(carry.carried)
    return [*carry.all(length, end[:n]), *end[n:]]


def _element(x: Array, i: Any) -> Array:
    """x[i]."""
    row, col = (None if k in (None, 0) else k - 1 for k in (x.row, x.col))
    value = layouts.taken(x.value, i, 1, int(x.col == 0)) if 0 in x.axes else x.value
    return Array(value, x.shape[1:], x.dtype, row, col)


def _stacked(op: Operation, total: Array, y: Array, i: Any) -> Array:
    """total with y at [i]."""
    if 0 not in total.axes:
        return Array(spread(single(y), *layouts.standard(op, y.shape)), total.shape, total.dtype, total.row, total.col)
    row, col = (None if k in (None, 0) else k - 1 for k in (total.row, total.col))
    part = spread(y, row, col)
    value = layouts.put(total.value, part, i, int(total.col == 0))
    return Array(value, total.shape, total.dtype, total.row, total.col)


def _while(walk: Walk, op: Operation, ins: list[Array], hidden: bool, key: int) -> list[Array]:
    condition, body = op.params["cond_jaxpr"], op.params["body_jaxpr"]
    n_cond, n_body = op.params["cond_nconsts"], op.params["body_nconsts"]
    init = ins[n_cond + n_body :]
    counted = _counted(condition.jaxpr, body.jaxpr, n_cond, n_body)
    if counted is None:
        raise op.refusal(
            "whose number of trips is not known before it; lax.fori_loop has one, and may end at an integer argument"
        )
    index, end = counted
    given = [*ins[:n_cond], *init]
    closed = [constant(x, v.aval) for x, v in zip(condition.consts, condition.jaxpr.constvars, strict=True)]
    env = dict(zip((*condition.jaxpr.invars, *condition.jaxpr.constvars), (*given, *closed), strict=True))
    low, high = as_scalar(init[index]), as_scalar(_read(env, end))
    carry = _Carry(body.jaxpr, n_body, init)

    def step(i: Any, before: list[Array]) -> list[Array]:
        return carry.of(walk.closed(body, [*ins[n_cond : n_cond + n_body], *carry.all(_less(i, low), before)], hidden))

    loop = _Loop(walk, op, key, tuple(carry.of(op.gives)))
    end_of_all = loop.run(low, high, step, carry.of(init))
    span = _less(high, low)
    return carry.all(pto.maximum(span, 0) if isinstance(span, Value) else max(span, 0), end_of_all)


def _less(a: Any, b: Any) -> Any:
    """a - b, of indices."""
    return a if not isinstance(b, Value) and b == 0 else a - b


def _counted(condition: Jaxpr, body: Jaxpr, n_cond: int, n_body: int) -> tuple[int, Any] | None:
    """Of a loop `while i < end: ...; i += 1` whose end stays as it is: which of the carried values is i, and the variable of the end."""
    if len(condition.eqns) != 1 or condition.outvars[0] is not condition.eqns[0].outvars[0]:
        return None
    eqn = condition.eqns[0]
    small, large = eqn.invars if eqn.primitive.name == "lt" else reversed(eqn.invars)
    carried: list[Any] = list(condition.invars[n_cond:])
    if eqn.primitive.name not in ("lt", "gt") or small not in carried:
        return None
    index = carried.index(small)
    stays = isinstance(large, Literal) or large not in carried
    if not stays:
        k = carried.index(large)
        stays = body.outvars[k] is body.invars[n_body + k]
    return (index, large) if stays and _inductions(body, n_body, len(carried)).get(index) == 1 else None


def _cond(walk: Walk, op: Operation, ins: list[Array], hidden: bool, key: int) -> list[Array]:
    which, *operands = ins
    branches = op.params["branches"]
    index = as_scalar(which)
    if which.dtype is DType.BOOL:
        index = int(index) if isinstance(index, bool) else pto.where(index, 1, 0)
    if not isinstance(index, Value):
        return walk.closed(branches[layouts.clamped(index, len(branches) - 1)], operands, hidden)
    to = _layouts(op, op.gives, frozenset())

    def choose(k: int) -> tuple[Any, ...]:
        def this() -> tuple[Any, ...]:
            return tuple(map(_leaf, walk.closed(branches[k], operands, hidden), to))

        return this() if k == len(branches) - 1 else pto.cond(index <= k, this, lambda: choose(k + 1))

    return [_array(*x) for x in zip(choose(0), op.gives, to, strict=True)]


_CONTROL = {"scan": _scan, "while": _while, "cond": _cond}


def stored(a: Array) -> Value:
    """The tile of a result: of rank 2 as it is, of rank 1 as one row, of rank 0 as one element."""
    row, col = (0, 1) if len(a.shape) == 2 else (None, 0 if a.shape else None)
    tile = spread(a, row, col)
    return tile if a.is_tile else oriented(Array(tile, a.shape, a.dtype, row, col), row, col)
