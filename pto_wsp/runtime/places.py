"""Where equations of a workload stand, and what their instances are called: `attend[h=1, i=3]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pto_wsp.errors import InternalError
from pto_wsp.ir.coordinates import index_of_sparse
from pto_wsp.ir.core import Eqn, Region, View, Wir
from pto_wsp.ir.expr import Expr, var
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import LOOPS


@dataclass(frozen=True, eq=False)
class Place:
    """An equation and the loops around it, outermost first."""

    eqn: Eqn
    loops: tuple[Eqn, ...]


class Places:
    """The equations of a workload by their number in plans and failures, its tasks by site, and the names of variables."""

    def __init__(self, wir: Wir) -> None:
        self.wir = wir
        self.origins: list[Place] = []
        self.labels: dict[str, str] = {}
        self.definitions: dict[str, Eqn] = {}
        self._visit(wir.body, ())
        self.sites = [p for p in self.origins if p.eqn.prim == "task"]

    def _visit(self, region: Region, loops: tuple[Eqn, ...]) -> None:
        for eqn in region.eqns:
            if eqn.prim not in SCOPES:
                self.origins.append(Place(eqn, loops))
            self.definitions |= {v.name: eqn for v in eqn.outs}
            inside = loops
            if eqn.prim in LOOPS:
                inside = (*loops, eqn)
                self._name(eqn)
            for r in eqn.regions:
                self._visit(r, inside)

    def _name(self, loop: Eqn) -> None:
        """The loop's own label belongs to its variable; of a sparse loop, to the index that it reads in each iteration."""
        label = str(loop.params["loop"])
        index = index_of_sparse(self.wir, loop)
        name = loop.regions[0].params[0].name
        self.labels[name] = label if index is None else f"position of {label}"
        if index is not None:
            self.labels[index] = label

    def task(self, site: int, coords: Sequence[int]) -> str:
        """A task by its kernel and coordinates: `b=3` where one has a name, else its number."""
        named = zip(self.coordinate_names(site), coords, strict=True)
        return f"{self.label(site)}[{', '.join(f'{name}={n}' if name else str(n) for name, n in named)}]"

    def label(self, site: int) -> str:
        """The label of the kernel that a site calls."""
        return self.wir.kernel(str(self.sites[site].eqn.params["kernel"])).label

    def coordinate_names(self, site: int) -> list[str]:
        """The names of a site's coordinates; "" of one that is no variable with a name."""
        eqn = self.sites[site].eqn
        named = eqn.params["coords"]
        assert isinstance(named, tuple)
        kept = eqn.params.get("names", ("",) * len(named))  # of coordinates that rewrites of loops changed
        assert isinstance(kept, tuple)
        return [str(name) or self._variable(c) for c, name in zip(named, kept, strict=True)]

    def _variable(self, c: object) -> str:
        return next((label for name, label in self.labels.items() if c == var(name)), "")

    def iteration(self, place: Place, numbers: Sequence[int]) -> str:
        """The iteration of the loops around an equation."""
        names = [self.labels[e.regions[0].params[0].name] for e in place.loops]
        return ", ".join(f"{name}={n}" for name, n in zip(names, numbers, strict=False))

    def axis_of(self, tensor: str) -> str | None:
        """The name of the ragged or sparse axis whose lengths, pointers or indices `tensor` holds."""
        return next((a.name for a in self.wir.axes if tensor in a.tensors), None)

    def source(self, e: Expr) -> View | None:
        """What is read where `e` is just a scalar read from a tensor."""
        if len(e.terms) != 1 or e.const or e.terms[0][1] != 1 or not isinstance(e.terms[0][0], str):
            return None
        eqn = self.definitions.get(e.terms[0][0])
        if eqn is None or eqn.prim != "item":
            return None
        view = eqn.ins[0]
        if not isinstance(view, View):
            raise InternalError("an item of no view")
        return view
