"""combine and sequential: one workload of several."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from pto_wsp.errors import TraceError, here
from pto_wsp.ir.core import Eqn, Kernel, Region, Var, Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.rename import Renaming
from pto_wsp.ir.verify import verify
from pto_wsp.trace.builder import unique_name
from pto_wsp.trace.tensor import TensorSpec
from pto_wsp.trace.workload import Traced

W = TypeVar("W", bound=Traced)


def combine(*workloads: W) -> W:
    """All tasks of all workloads; where two conflict, the parts' order holds.

        after:  combine { part { ... } part { ... } }

    Tensors are shared by identity, sizes by name. Raises TraceError for what is no workload, or one name for two tensors or sizes.
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
    specs: dict[str, TensorSpec] = {}
    types: dict[str, Var] = {}
    kernels: dict[str, Kernel] = {}
    sizes: dict[str, int] = {}
    loops: set[str] = set()
    regions: list[Region] = []
    for w in workloads:
        for name, size in w.sizes.items():
            if sizes.setdefault(name, size) != size:
                raise TraceError(
                    "PTO156",
                    f"two sizes are called {name}",
                    values={"values": f"{sizes[name]} and {size}"},
                    loc=here(),
                    fix="give one of the axes another name",
                )
        regions.append(_renaming(w, specs, types, kernels, loops).region(w.wir.body))
    symbols = tuple(dict.fromkeys(s for w in workloads for s in w.wir.symbols))
    body = Region((), (Eqn(prim, regions=tuple(regions), loc=here()),))
    wir = Wir(workloads[0].wir.name, symbols, tuple(types.values()), tuple(kernels.values()), body)
    verify(wir, "traced")
    refuse_races(wir)
    return replace(workloads[0], wir=wir, tensors=specs, sizes=sizes)


def _renaming(
    w: Traced, specs: dict[str, TensorSpec], types: dict[str, Var], kernels: dict[str, Kernel], loops: set[str]
) -> Renaming:
    """New names for what of `w` clashes with what is there, and the tables extended by what `w` brings."""
    tensors: dict[str, str] = {}
    for v in w.wir.tensors:
        spec = w.tensors[v.name]
        known = next((n for n, s in specs.items() if s is spec), None)
        if known is None and v.name in specs and spec.given_name == v.name:
            raise TraceError("PTO156", f"two tensors are called {v.name}", loc=here(), fix="give each its own name=")
        tensors[v.name] = known or unique_name(v.name, specs)
        specs[tensors[v.name]] = spec
        types[tensors[v.name]] = Var(tensors[v.name], v.type)
    names: dict[str, str] = {}
    for k in w.wir.kernels:
        same = next((n for n, other in kernels.items() if replace(k, name=n) == other), None)
        names[k.name] = same or unique_name(k.name, kernels)
        kernels[names[k.name]] = replace(k, name=names[k.name])
    variables: dict[str, str] = {}
    for top in w.wir.body.eqns:
        for eqn in top.walk():
            for r in eqn.regions:
                for v in r.params:
                    variables[v.name] = unique_name(v.name, loops)
                    loops.add(variables[v.name])
    return Renaming(variables, tensors, names)
