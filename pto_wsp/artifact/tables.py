"""The tables of a manifest that follow from the wir: what a program can be given, and what it gives."""

from __future__ import annotations

from typing import Any

from pto_wsp.ir.core import Axis, Wir
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import slot_types


def tables_of(wir: Wir) -> dict[str, Any]:
    """The tables, as plain JSON data.

    axes        dense axes by name: a number, or the symbol ("$name") that is bound at run time
    data_axes   ragged and sparse axes by name: kind, outer extent, tensors, inner extent
    tensors     name, type and role of each tensor
    slots       the type of each slot that is used, by its number
    returns     the results by name, as the workload returns them
    """
    return {
        "name": wir.name,
        "symbols": list(wir.symbols),
        "axes": _axes(wir),
        "data_axes": {
            a.name: [a.kind, str(a.outer), list(a.tensors), None if a.inner is None else str(a.inner)] for a in wir.axes
        },
        "tensors": [[v.name, str(v.type), wir.tensor_type(v.name).role.value] for v in wir.tensors],
        "kernels": [[k.name, k.label] for k in wir.kernels],
        "slots": {str(i): d.short for i, d in sorted(slot_types(wir).items())},
        "returns": list(wir.returns) if isinstance(wir.returns, tuple) else wir.returns,
        "schedules": _schedules(wir),
    }


def _axes(wir: Wir) -> dict[str, str | int]:
    axes: dict[str, str | int] = {}
    ambiguous = {a.name for a in wir.axes}  # one name for two sizes: only the symbols' own names tell them apart
    for top in wir.body.eqns:
        for eqn in top.walk():
            axis = eqn.params.get("axis")
            if not isinstance(axis, Axis) or axis.kind not in ("Dense", "DenseDyn", "Tiles"):
                continue
            size = _size(axis)
            if size is not None and axes.setdefault(axis.name, size) != size:
                ambiguous.add(axis.name)
    return {name: size for name, size in axes.items() if name not in ambiguous}


def _size(axis: Axis) -> int | str | None:
    """A number or the one symbol that an axis's size is."""
    if axis.size.is_const:
        return axis.size.const
    atom, coef = axis.size.terms[0]
    single = len(axis.size.terms) == 1 and coef == 1 and axis.size.const == 0
    return atom if single and isinstance(atom, str) and atom.startswith("$") else None


def _schedules(wir: Wir) -> list[str]:
    scopes = (e for top in wir.body.eqns for e in top.walk() if e.prim in SCOPES)
    return [e.prim + ":" + ",".join(f"{k}={v}" for k, v in sorted(e.params.items())) for e in scopes]
