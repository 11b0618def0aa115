"""`scan`, `while` and `cond` of a jaxpr as the control of a kernel."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jax.extend.core import Jaxpr, JaxprEqn, Literal

from pto_wsp import pto
from pto_wsp.ir.build import current_kernel
from pto_wsp.ir.core import DType
from pto_wsp.ops.running import RunningKernel
from pto_wsp.ops.value import Value
from pto_wsp_jax import elementwise, layouts
from pto_wsp_jax.arrays import Array, Operation, Shape, as_scalar, number, single, spread
from pto_wsp_jax.constants import aval_of, constant, read
from pto_wsp_jax.stacked import stack, unstacked
from pto_wsp_jax.stacks import DynamicIndexError, Form, Stack, Wide, form_of, in_tile

if TYPE_CHECKING:
    from pto_wsp_jax.jaxpr import Walk


# what loops carry and branches give


def _is_scalar(shape: Shape, dtype: DType) -> bool:
    """Carried as a scalar of the kernel: indices, counts and conditions."""
    return not shape and not dtype.is_float


def _leaves(op: Operation, arrays: Sequence[Wide], to: Sequence[Form]) -> tuple[Any, ...]:
    """What is carried of arrays, in these forms."""
    leaves = list[Any]()
    for a, form in zip(arrays, to, strict=True):
        leaves += [as_scalar(in_tile(op, a))] if _is_scalar(a.shape, a.dtype) else form.leaves(op, a)
    return tuple(leaves)


def _arrays(leaves: Iterator[Any], avals: Sequence[tuple[Shape, DType]], to: Sequence[Form]) -> list[Wide]:
    """The arrays of what is carried."""
    return [form.array(leaves, *aval) for form, aval in zip(to, avals, strict=True)]


class _OtherForms(Exception):
    """Some of what a loop carries stands in columns, or in more tiles than one."""

    def __init__(self, forms: Mapping[int, Form]) -> None:
        super().__init__()
        self.forms = forms


@dataclass(frozen=True)
class _Loop:
    """A loop of JAX as one of the kernel.

    step: from index and carry to carry. avals: of what is carried.
    """

    walk: Walk
    op: Operation
    key: Hashable
    avals: tuple[tuple[Shape, DType], ...]

    def run(self, low: Any, high: Any, step: Any, init: Sequence[Wide]) -> list[Wide]:
        """The carry at the end."""
        builder = current_kernel("fori_loop")
        if isinstance(builder, RunningKernel) or self.key in self.walk.forms:
            return self._run(low, high, step, init, self.walk.forms[self.key], final=True)
        before = builder.mark()
        forms: Mapping[int, Form] = {}
        try:
            result = self._run(low, high, step, init, forms, final=False)
        except _OtherForms as e:
            builder.back(before)
            forms = e.forms
            result = self._run(low, high, step, init, forms, final=True)
        self.walk.forms[self.key] = forms
        return result

    def _run(
        self, low: Any, high: Any, step: Any, init: Sequence[Wide], forms: Mapping[int, Form], *, final: bool
    ) -> list[Wide]:
        to = [
            forms.get(k) or form_of(self.op, shape, x)
            for k, ((shape, _), x) in enumerate(zip(self.avals, init, strict=True))
        ]

        open_ = [k for k, x in enumerate(init) if not final and isinstance(x, Array) and x.is_number and to[k].cut]

        def body(index: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            arrays = _arrays(iter(carry), self.avals, to)
            for k in open_:
                arrays[k] = init[k]  # the same everywhere, so that the body decides along which axes it is cut
            given = step(index, arrays)
            found = {k: other for k, a in enumerate(given) if (other := _other_form(self.op, a, to[k])) is not None}
            if (found or open_) and not final:
                raise _OtherForms(found)
            return _leaves(self.op, given, to)

        if not self.avals:
            return []
        end = pto.fori_loop(low, high, body, _leaves(self.op, init, to))
        return _arrays(iter(end), self.avals, to)


def _other_form(op: Operation, a: Wide, form: Form) -> Form | None:
    """In which a value is made, where that is not the one in which it is carried."""
    if isinstance(a, Stack):
        own = form_of(op, a.shape, a)
        return None if own.cut == form.cut else own
    in_column = a.is_tile and len(a.shape) == 1 and a.row == 0 and form.col == 0
    return Form(frozenset(), 0, None) if in_column else None


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

    def __init__(self, body: Jaxpr, first: int, init: Sequence[Wide]) -> None:
        self.init = init
        self.grows = {k: by for k, by in _inductions(body, first, len(init)).items() if _is_counter(init[k])}
        self.grows |= {k: 0 for k in range(len(init)) if body.outvars[k] is body.invars[first + k]}
        self.carried = [k for k in range(len(init)) if k not in self.grows]

    def all(self, trips: Any, carried: Sequence[Wide]) -> list[Wide]:
        """Everything after so many trips."""
        values = dict(zip(self.carried, carried, strict=True))
        values |= {k: _grown(self.init[k], trips, by) for k, by in self.grows.items()}
        return [values[k] for k in range(len(self.init))]

    def of(self, given: Sequence[Any]) -> list[Any]:
        """Those that are carried."""
        return [given[k] for k in self.carried]


def _is_counter(a: Wide) -> bool:
    return isinstance(a, Array) and not a.is_tile


def _grown(a: Wide, trips: Any, by: int) -> Wide:
    """a + trips * by."""
    if by == 0 or isinstance(a, Stack):
        return a
    more = trips if by == 1 else trips * by
    value = more if a.is_number and a.value == 0 else a.value + more
    return Array(elementwise.in_range(value, a.dtype), a.shape, a.dtype)


def scan(walk: Walk, op: Operation, ins: list[Wide], hidden: bool, key: Hashable) -> list[Wide]:
    """A loop of the kernel; its trips one by one, where it runs over an axis whose elements are in tiles of their own."""
    n_consts, n_carry = op.params["num_consts"], op.params["num_carry"]
    if op.params["length"] == 0:
        raise op.refusal("of no iterations, which gives arrays without elements")
    wide = any(isinstance(x, Stack) for x in ins[n_consts + n_carry :])
    if wide or any(len(layouts.long_axes(s)) > 2 for s, _ in op.gives[n_carry:]) or key in walk.unrolled:
        return _one_by_one(walk, op, ins, hidden)
    builder = current_kernel("scan")
    if isinstance(builder, RunningKernel):
        return _looped(walk, op, ins, hidden, key)
    before = builder.mark()
    try:
        return _looped(walk, op, ins, hidden, key)
    except DynamicIndexError:
        builder.back(before)
        walk.unrolled.add(key)
        return _one_by_one(walk, op, ins, hidden)


def _one_by_one(walk: Walk, op: Operation, ins: list[Wide], hidden: bool) -> list[Wide]:
    body, length = op.params["jaxpr"], op.params["length"]
    n_consts, n_carry = op.params["num_consts"], op.params["num_carry"]
    consts, carry, xs = ins[:n_consts], ins[n_consts : n_consts + n_carry], ins[n_consts + n_carry :]
    walk.count(op, length * len(body.jaxpr.eqns))
    elements = [unstacked(op, x) for x in xs]
    made: list[list[Wide]] = [[] for _ in op.gives[n_carry:]]
    trips = range(length)
    for i in reversed(trips) if op.params["reverse"] else trips:
        given = walk.closed(body, [*consts, *carry, *(x[i] for x in elements)], hidden)
        carry = given[:n_carry]
        for ys, y in zip(made, given[n_carry:], strict=True):
            ys.append(y)
    ordered = (ys[::-1] if op.params["reverse"] else ys for ys in made)
    return [*carry, *(stack(replace(op, gives=(a,)), ys) for a, ys in zip(op.gives[n_carry:], ordered, strict=True))]


def _looped(walk: Walk, op: Operation, ins: list[Wide], hidden: bool, key: Hashable) -> list[Wide]:
    body, length = op.params["jaxpr"], op.params["length"]
    n_consts, n_carry = op.params["num_consts"], op.params["num_carry"]
    consts, init = ins[:n_consts], ins[n_consts : n_consts + n_carry]
    xs = [x for x in ins[n_consts + n_carry :] if isinstance(x, Array)]
    carry = _Carry(body.jaxpr, n_consts, init)
    made = op.gives[n_carry:]

    def step(index: Any, before: list[Wide]) -> list[Wide]:
        i = length - 1 - index if op.params["reverse"] else index
        n = len(carry.carried)
        given = walk.closed(body, [*consts, *carry.all(index, before[:n]), *(_element(x, i) for x in xs)], hidden)
        ys = [_stacked(op, in_tile(op, a), in_tile(op, y), i) for a, y in zip(before[n:], given[n_carry:], strict=True)]
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


def while_(walk: Walk, op: Operation, ins: list[Wide], hidden: bool, key: Hashable) -> list[Wide]:
    """A loop of the kernel, where the number of trips is known before it."""
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
    low, high = (as_scalar(in_tile(op, a)) for a in (init[index], read(env, end)))
    carry = _Carry(body.jaxpr, n_body, init)

    def step(i: Any, before: list[Wide]) -> list[Wide]:
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


def cond(walk: Walk, op: Operation, ins: list[Wide], hidden: bool, key: Hashable) -> list[Wide]:
    """Branches of the kernel, or the one that is known to be taken."""
    which, *operands = ins
    branches = op.params["branches"]
    index = as_scalar(in_tile(op, which))
    if which.dtype is DType.BOOL:
        index = int(index) if isinstance(index, bool) else pto.where(index, 1, 0)
    if not isinstance(index, Value):
        return walk.closed(branches[layouts.clamped(index, len(branches) - 1)], operands, hidden)
    to = [form_of(op, shape, next((x for x in operands if x.shape == shape), None)) for shape, _ in op.gives]

    def choose(k: int) -> tuple[Any, ...]:
        def this() -> tuple[Any, ...]:
            return _leaves(op, walk.closed(branches[k], operands, hidden), to)

        return this() if k == len(branches) - 1 else pto.cond(index <= k, this, lambda: choose(k + 1))

    return _arrays(iter(choose(0)), op.gives, to)
