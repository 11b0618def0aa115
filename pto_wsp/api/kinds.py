"""The inferred type of a workload."""

from __future__ import annotations

from pto_wsp.ir.core import Axis, Eqn, Region, Wir
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import LOOPS

_OF_DATA = ("Ragged", "Sparse", "Records")


def workload_type(wir: Wir) -> str:
    """`Workload[axes, {kernels}, kind]`.

    kind: Independent where every loop is a `P`; Selected with `P` over the rows of a sparse axis, Conditional with `P.when`;
    Sequential where all is `P.seq` or `sequential`; Channel where processes run in pipelines; Mixed where several of these meet,
    or a body has several statements.
    """
    axes: list[str] = []
    kinds: set[str] = set()

    def visit(region: Region) -> None:
        for eqn in region.eqns:
            axis = eqn.params.get("axis")
            if isinstance(axis, Axis):
                axes.append(_axis(axis))
            kinds.update(_kind(eqn, axis))
            if eqn.prim == "pipeline":
                continue  # how its processes go on is their own
            for r in (
                eqn.regions[:1] if isinstance(axis, Axis) else eqn.regions
            ):  # the second of a loop is its condition
                visit(r)
        if sum(e.prim == "task" or (bool(e.regions) and e.prim not in SCOPES) for e in region.eqns) > 1:
            kinds.add("Mixed")

    visit(wir.body)
    special = kinds - {"Independent"}
    if len(special) > 1 or (special == {"Sequential"} and special != kinds):
        special = {"Mixed"}
    names = ", ".join(dict.fromkeys(k.label for k in wir.kernels))
    return f"Workload[{' x '.join(axes) or '()'}, {{{names}}}, {''.join(special) or 'Independent'}]"


def _kind(eqn: Eqn, axis: object) -> tuple[str, ...]:
    if eqn.prim in LOOPS:
        if eqn.prim == "seq_for":
            return ("Sequential",)
        return ("Selected",) if isinstance(axis, Axis) and axis.kind == "Sparse" else ("Independent",)
    return {"sequential": ("Sequential",), "cond": ("Conditional",), "pipeline": ("Channel",)}.get(eqn.prim, ())


def _axis(axis: Axis) -> str:
    if axis.kind == "DenseDyn" or axis.kind in _OF_DATA:
        return f"{axis.kind}({axis.name})"
    if axis.kind == "Tiles":
        return f"Tiles[{axis.size}, {axis.tile}]({axis.name})"
    return f"{axis.kind}[{axis.size}]({axis.name})"
