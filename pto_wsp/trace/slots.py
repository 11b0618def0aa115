"""Slots: 64 numbered scalars that a run keeps, set by the workload or from outside with `program.set_slot`.

A slot has one type and holds 0 (False) until it is set. Reads and writes happen in program order; two iterations of a `P` loop
may not touch one slot if one of them writes it.
"""

from __future__ import annotations

from typing import Any

from pto_wsp.errors import TraceError, TypeCheckError, here
from pto_wsp.ir.core import DType, Eqn
from pto_wsp.ir.tasks import N_SLOTS
from pto_wsp.trace.builder import WorkloadBuilder, current_workload
from pto_wsp.trace.index import Element, Scalar64, is_integer
from pto_wsp.trace.names import assigned_name
from pto_wsp.trace.scalar import DataScalar, as_node, item


def slot_u64(slot: int) -> Scalar64:
    """The u64 that a slot of 0 .. 63 holds here."""
    return _get(slot, DType.U64)


def slot_i64(slot: int) -> Scalar64:
    """The i64 that a slot of 0 .. 63 holds here."""
    return _get(slot, DType.I64)


def slot_f64(slot: int) -> Scalar64:
    """The f64 that a slot of 0 .. 63 holds here."""
    return _get(slot, DType.F64)


def slot_bool(slot: int) -> Scalar64:
    """The bool that a slot of 0 .. 63 holds here."""
    return _get(slot, DType.BOOL)


def slot_set_u64(slot: int, value: Any) -> None:
    """Set a slot to a u64: a scalar, or a Python integer."""
    _set(slot, value, DType.U64)


def slot_set_i64(slot: int, value: Any) -> None:
    """Set a slot to an i64: a scalar, an expression of loop variables, or a Python integer."""
    _set(slot, value, DType.I64)


def slot_set_f64(slot: int, value: Any) -> None:
    """Set a slot to an f64: a scalar, or a Python number."""
    _set(slot, value, DType.F64)


def slot_set_bool(slot: int, value: Any) -> None:
    """Set a slot to a bool: a traced or a Python bool."""
    _set(slot, value, DType.BOOL)


def slot_load_u64(slot: int, view: Any) -> None:
    """Set a slot to the element that a view of an unsigned tensor holds here: `slot_set_u64(slot, item(view))`."""
    _set(slot, item(view), DType.U64)


def slot_load_i64(slot: int, view: Any) -> None:
    """Set a slot to the element that a view of a signed tensor holds here: `slot_set_i64(slot, item(view))`."""
    _set(slot, item(view), DType.I64)


def slot_load_f64(slot: int, view: Any) -> None:
    """Set a slot to the element that a view of a tensor of floats holds here: `slot_set_f64(slot, item(view))`."""
    _set(slot, item(view), DType.F64)


def slot_load_bool(slot: int, view: Any) -> None:
    """Set a slot to the element that a view of a bool tensor holds here: `slot_set_bool(slot, item(view))`."""
    _set(slot, item(view), DType.BOOL)


def _get(slot: int, dtype: DType) -> DataScalar:
    builder, number = _slot(slot, dtype)
    var = builder.define("slot_get", (), {"slot": number}, dtype, assigned_name() or f"slot{number}", here())
    return DataScalar.of(var, dtype, builder)


def _set(slot: int, value: Any, dtype: DType) -> None:
    builder, number = _slot(slot, dtype)
    x = value.element() if isinstance(value, Element) else value
    if isinstance(x, Scalar64) and x.dtype is not dtype:
        raise TypeCheckError(
            "PTO176",
            f"slot {number} of {dtype} set to a scalar of {x.dtype}",
            values={"value": x},
            loc=here(),
            fix=f"cast(x, DType.{dtype.name}), or use slot_set_{x.dtype}",
        )
    operand = as_node(x, dtype, f"slot_set_{dtype}").operand(builder)
    builder.append(Eqn("slot_set", ins=(operand,), params={"slot": number}, loc=here()))


def _slot(slot: int, dtype: DType) -> tuple[WorkloadBuilder, int]:
    """The workload under trace and the slot's number, which has this type in it."""
    builder = current_workload("a slot")
    if not is_integer(slot) or not 0 <= int(slot) < N_SLOTS:
        raise TraceError(
            "PTO175",
            "a slot that does not exist",
            values={"slot": repr(slot)[:80]},
            loc=here(),
            fix=f"slots are Python integers of 0 .. {N_SLOTS - 1}",
        )
    number = int(slot)
    known = builder.slots.setdefault(number, dtype)
    if known is not dtype:
        raise TypeCheckError(
            "PTO176",
            f"slot {number} is used as {known} and as {dtype}",
            loc=here(),
            fix="give each type a slot of its own",
        )
    return builder, number
