"""combine and sequential: one workload of several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from pto_wsp.errors import LayoutIncompatibleError, TraceError, here
from pto_wsp.ir.core import DataAxis, DType, Eqn, Kernel, Region, Var, Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.rename import Renaming, name_pipelines_apart, unique_name
from pto_wsp.ir.tasks import slot_types
from pto_wsp.ir.verify import verify
from pto_wsp.trace.functional import leaves, tree_map
from pto_wsp.trace.pipes import Home
from pto_wsp.trace.tensor import Tensor, TensorSpec
from pto_wsp.trace.workload import Traced

W = TypeVar("W", bound=Traced)


def combine(*workloads: W) -> W:
    """All tasks of all workloads; where two conflict, the parts' order holds.

        after:  combine { part { ... } part { ... } }

    Tensors are shared by identity, sizes, axes and slots by name; what a part returns, the whole returns: a tuple where several
    parts do. Raises TraceError for what is no workload, or one name for two tensors or sizes, and LayoutIncompatibleError for workloads on different
    meshes.
    """
    return _join("combine", workloads)


def sequential(*workloads: W) -> W:
    """All tasks of a workload complete before any of the next starts.

        after:  sequential { part { ... } part { ... } }

    Raises TraceError as `combine` does.
    """
    return _join("sequential", workloads)


def _join(prim: str, workloads: tuple[W, ...]) -> W:
    if not workloads or not all(isinstance(w, Traced) for w in workloads):
        raise TraceError(
            "PTO155",
            f"{prim} needs workloads",
            values={"got": ", ".join(type(w).__name__ for w in workloads)},
            loc=here(),
            fix=f"call the workloads first: {prim}(attention(), mlp())",
        )
    meshes = dict.fromkeys(w.wir.mesh for w in workloads if w.wir.mesh is not None)
    if len(meshes) > 1:
        raise LayoutIncompatibleError(
            *("PTO891", f"{prim} of workloads on different meshes"),
            values={"meshes": ", ".join(map(str, meshes))},
            loc=here(),
            fix="one workload runs on one mesh",
        )
    parts = _Parts(prim)
    regions = tuple(parts.add(w) for w in workloads)
    returns = _returns(parts.returns)
    names = tuple(n for n in leaves(returns) if n is not None)
    wir = Wir(
        workloads[0].wir.name,
        tuple(dict.fromkeys(s for w in workloads for s in w.wir.symbols)),
        tuple(parts.tensors.values()),
        tuple(parts.kernels.values()),
        Region((), (Eqn(prim, regions=regions, loc=here()),)),
        tuple(parts.axes.values()),
        names if isinstance(returns, tuple) else returns,
    )
    verify(wir, "traced")
    refuse_races(wir)
    return replace(
        workloads[0], wir=wir, tensors=parts.specs, sizes=parts.sizes, channels=parts.channels, returns=returns
    )


def _returns(of_parts: list[Any]) -> Any:
    """What a workload of these parts returns: what the only one that returns something does, else a tuple of all such."""
    some = [r for r in of_parts if r is not None]
    return some[0] if len(some) == 1 else tuple(some) or None


class _Parts:
    """What the workload of several has so far; `add` gives what of the next one clashes with it new names."""

    def __init__(self, prim: str) -> None:
        self.prim = prim
        self.channels: dict[int, Home] = {}
        self.specs: dict[str, TensorSpec] = {}
        self.tensors: dict[str, Var] = {}
        self.kernels: dict[str, Kernel] = {}
        self.axes: dict[str, DataAxis] = {}
        self.sizes: dict[str, int] = {}
        self.slots: dict[int, DType] = {}
        self.values: set[str] = set()
        self.pipelines: set[str] = set()
        self.returns: list[Any] = []

    def add(self, w: Traced) -> Region:
        """The body of `w` under its new names."""
        for k, home in w.channels.items():
            self._belongs(self.channels.setdefault(k, home), home)
        for name, size in w.sizes.items():
            self._same("sizes", name, self.sizes.setdefault(name, size), size)
        for slot, dtype in slot_types(w.wir).items():
            self._same("slots", slot, self.slots.setdefault(slot, dtype), dtype)
        values: dict[str, str] = {}
        for v in (v for top in w.wir.body.eqns for eqn in top.walk() for v in _bound(eqn)):
            values[v.name] = unique_name(v.name, self.values)
            self.values.add(values[v.name])
        new = Renaming(values, {v.name: self._tensor(w, v) for v in w.wir.tensors}, self._kernels(w))
        for axis in map(new.axis, w.wir.axes):
            self._same("axes", axis.name, self.axes.setdefault(axis.name, axis), axis)
        self.returns.append(tree_map(lambda n, _: new.tensors.get(n), w.returns, ""))
        return Region((), name_pipelines_apart(new.region(w.wir.body).eqns, self.pipelines))

    def _belongs(self, one: Home, other: Home) -> None:
        if one is not other:
            raise TraceError(
                "PTO824",
                f"{self.prim}: channel {one.name} belongs to another pipeline",
                values={"pipeline": one.loc, "the other": other.loc},
                loc=here(),
                fix="make a channel for each pipeline, inside the function that runs it",
            )

    def _tensor(self, w: Traced, v: Var) -> str:
        """Given tensors are the same where they are the same object; what a run owns is each part's own."""
        spec = w.tensors.get(v.name)
        of_axis = any(v.name in axis.tensors for axis in w.wir.axes)
        name = next((n for n, s in self.specs.items() if s is spec or (of_axis and _same_data(s, spec))), None)
        if name is None and spec is not None and v.name in self.tensors and spec.given_name == v.name:
            raise TraceError("PTO156", f"two tensors are called {v.name}", loc=here(), fix="give each its own name=")
        name = name or unique_name(v.name, self.tensors)
        self.tensors[name] = Var(name, v.type)
        if spec is not None:
            self.specs[name] = spec
        return name

    def _kernels(self, w: Traced) -> dict[str, str]:
        names: dict[str, str] = {}
        for k in w.wir.kernels:
            same = next((n for n, other in self.kernels.items() if replace(k, name=n) == other), None)
            names[k.name] = same or unique_name(k.name, self.kernels)
            self.kernels[names[k.name]] = replace(k, name=names[k.name])
        return names

    @staticmethod
    def _same(what: str, name: object, a: object, b: object) -> None:
        if a != b:
            raise TraceError(
                "PTO156",
                f"two {what} are called {name}",
                values={"values": f"{a} and {b}"},
                loc=here(),
                fix="give one of them another name, or another number" if what == "slots" else "give one another name",
            )


def _same_data(a: TensorSpec, b: TensorSpec | None) -> bool:
    """Whether two tensors that tracing made of an axis hold the data of one axis: the same integers, or the same symbol."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.data is b.data
    return b is not None and type(a) is type(b) and a.given_name is not None and a.given_name == b.given_name


def _bound(eqn: Eqn) -> list[Var]:
    """The variables that an equation binds."""
    return [*eqn.outs, *(v for r in eqn.regions for v in r.params)]
