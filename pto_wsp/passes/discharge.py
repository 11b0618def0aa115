"""The pure form: every write gives a new tensor, and what a region changes goes in and comes out.

    before:  parallel_for b in batch: Dense(4) {
               task k[b](x=X[b], y=Y[b])
             }

    after:   Y.3: f32[4,8] = parallel_for b in batch: Dense(4) carry Y as Y.1 {
               Y.2: f32[4,8] = task k[b](x=X[b], y=Y.1[b])
               yield Y.2
             }
             yield[of=["Y"]] Y.3

The values of slots are carried likewise; `slot_get` is left for what they begin with. The last `yield` says what the tensors of
users and the results are in the end. Order is data flow, so tokens, `after` and `deps` go; nothing runs, so `trace` goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import Eqn, In, Param, Region, Role, ScalarType, TensorType, Type, Var, View, Wir
from pto_wsp.ir.processes import pipelines
from pto_wsp.ir.rename import Renaming
from pto_wsp.ir.tasks import bound_vars, slot_types, written_by

Key = str | int
"""What changes: a tensor by its name, or a slot by its number."""


def discharge(wir: Wir) -> Wir:
    """The pure form (stage "pure") of a traced workload. Evaluating either gives the same arrays, bit for bit.

    Raises UnsupportedError for a workload with a pipeline, whose processes share what they write, and for one on a mesh."""
    pipeline = next(pipelines(wir), None)
    if pipeline is not None:
        raise UnsupportedError(
            "PTO821",
            f"the pure form of a workload with a pipeline, {pipeline.params['name']}",
            loc=pipeline.loc or here(),
            fix="discharge the workloads around it; the processes of a pipeline write the tensors that they share",
        )
    if wir.mesh is not None:
        raise UnsupportedError(
            *("PTO821", f"the pure form of workload {wir.name}, which lies on {wir.mesh}"),
            loc=here(),
            fix="discharge the workloads between its collectives",
        )
    wir = _with_names_apart(wir)
    return _Discharge(wir).wir()


def _with_names_apart(wir: Wir) -> Wir:
    """No variable is called as a tensor is: in the pure form tensors are variables."""
    used = {v.name for v in (*wir.tensors, *bound_vars(wir.body.eqns))}
    names: dict[str, str] = {}
    for v in bound_vars(wir.body.eqns):
        if any(v.name == t.name for t in wir.tensors):
            names[v.name] = _fresh(v.name, used)
    return replace(wir, body=Renaming(names).region(wir.body))


def _fresh(stem: str, used: set[str]) -> str:
    k = 1
    while f"{stem}.{k}" in used:
        k += 1
    used.add(f"{stem}.{k}")
    return f"{stem}.{k}"


class _Discharge:
    def __init__(self, wir: Wir) -> None:
        self.source = wir
        self.used = {v.name for v in (*wir.tensors, *bound_vars(wir.body.eqns))}
        self.types: dict[Key, Type] = {}
        for v in wir.tensors:
            t = wir.tensor_type(v.name)
            self.types[v.name] = TensorType(t.dtype, t.shape)
        self.slots = {s: t for s, t in slot_types(wir).items() if s in self.changes(wir.body)}
        self.types |= {s: ScalarType(t) for s, t in self.slots.items()}

    def wir(self) -> Wir:
        now: dict[Key, In] = {v.name: v for v in self.source.tensors}
        first: list[Eqn] = []
        for s in sorted(self.slots):
            v = self.version(s)
            first.append(Eqn("slot_get", (v,), params={"slot": s}))
            now[s] = v
        eqns = [*first, *self.region(self.source.body, now)]
        kept = [v.name for v in self.source.tensors if self.source.tensor_type(v.name).role is not Role.TEMPORARY]
        of = [name for name in kept if name in self.changes(self.source.body)]
        if of:
            eqns.append(Eqn("yield", ins=tuple(now[name] for name in of), params={"of": tuple(of)}))
        return self.source.with_body(*eqns)

    def version(self, key: Key) -> Var:
        stem = key if isinstance(key, str) else f"slot{key}"
        return Var(_fresh(stem, self.used), self.types[key])

    def changes(self, region: Region) -> frozenset[Key]:
        out: set[Key] = set()
        for top in region.eqns:
            for eqn in top.walk():
                out |= set(self.written(eqn))
        return frozenset(out)

    def written(self, eqn: Eqn) -> tuple[Key, ...]:
        if eqn.prim == "task":
            return written_by(eqn, self.source.kernel(str(eqn.params["kernel"])))
        slot = eqn.params.get("slot")
        return (slot,) if eqn.prim == "slot_set" and isinstance(slot, int) else ()

    def region(self, region: Region, now: dict[Key, In]) -> list[Eqn]:
        """The equations of a region; `now` is what stands for each tensor and slot, before and then after them."""
        return [new for eqn in region.eqns for new in self.eqn(eqn, now)]

    def eqn(self, eqn: Eqn, now: dict[Key, In]) -> Sequence[Eqn]:
        slot = eqn.params.get("slot")
        if eqn.prim in ("deps", "trace"):
            return self.region(eqn.regions[0], now)
        if eqn.regions:
            return (self.nest(eqn, now),)
        if eqn.prim == "slot_set" and isinstance(slot, int):
            now[slot] = eqn.ins[0]
            return ()
        if eqn.prim == "slot_get" and slot in self.slots:
            assert isinstance(slot, int)
            to: dict[str, Param] = {"to": self.slots[slot]}
            return (Eqn("s.cast", eqn.outs, (now[slot],), to, loc=eqn.loc),)
        current = Renaming(tensors={k: v.name for k, v in now.items() if isinstance(k, str) and isinstance(v, Var)})
        ins = tuple(current.view(x) if isinstance(x, View) else x for x in eqn.ins)
        if eqn.prim != "task":
            return (replace(eqn, ins=ins),)
        outs = tuple(self.version(key) for key in self.written(eqn))
        now.update(zip(self.written(eqn), outs, strict=True))
        params = {k: v for k, v in eqn.params.items() if k != "after"}
        return (replace(eqn, outs=outs, ins=ins, params=params),)

    def nest(self, eqn: Eqn, now: dict[Key, In]) -> Eqn:
        """An equation with regions carries all that they change."""
        changed = frozenset[Key]().union(*(self.changes(r) for r in eqn.regions))
        keys = [k for k in self.types if k in changed]
        ins = (*eqn.ins, *(now[k] for k in keys))
        asks = eqn.prim == "seq_for"
        condition = eqn.regions[1:] if asks else ()
        regions: list[Region] = []
        for r in eqn.regions[:1] if asks else eqn.regions:
            inner = dict(now)
            params = [self.version(k) for k in keys]
            inner.update(zip(keys, params, strict=True))
            # the condition of a loop is asked of what an iteration begins with
            asked = [replace(c, eqns=tuple(self.region(c, dict(inner)))) for c in condition]
            eqns = self.region(r, inner)
            if keys:
                eqns.append(Eqn("yield", ins=tuple(inner[k] for k in keys), loc=eqn.loc))
            regions += [Region((*r.params, *params), tuple(eqns)), *asked]
        outs = tuple(self.version(k) for k in keys)
        now.update(zip(keys, outs, strict=True))
        return replace(eqn, outs=outs, ins=ins, regions=tuple(regions))
