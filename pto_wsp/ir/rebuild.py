"""A kernel written again, equation by equation: what passes over kernels share."""

from __future__ import annotations

from pto_wsp.errors import InternalError
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.ir.control import renamed_params, renamed_type
from pto_wsp.ir.core import Eqn, In, KernelParam, Literal, Region, Var


class Rebuild:
    """Emits the equations of a kernel into `builder`; `names` has what stands for each value of the old kernel, and for each
    extent of its parameters.

    A subclass says what becomes of an equation without regions: `leaf` gives what stands for its result.
    """

    def __init__(self, builder: KernelBuilder) -> None:
        self.builder = builder
        self.names: dict[str, In] = {}

    def parameter(self, p: KernelParam) -> None:
        self.builder.params[p.name] = p
        self.names[p.name] = Var(p.name, p.type)

    def operand(self, x: In) -> In:
        return self.names[x.name] if isinstance(x, Var) else x

    def leaf(self, eqn: Eqn) -> In | None:
        """Emit it again."""
        ins = [self.operand(x) for x in eqn.ins]
        return self.builder.emit(eqn.prim, ins, renamed_params(eqn.params, self.names), eqn.loc)

    def region(self, region: Region) -> Region:
        params = tuple(Var(self.builder.fresh(), renamed_type(v.type, self.names)) for v in region.params)
        self.names |= {old.name: new for old, new in zip(region.params, params, strict=True)}
        with self.builder.region(params) as made:
            self.eqns(region)
            return made()

    def eqns(self, region: Region) -> None:
        for eqn in region.eqns:
            if eqn.prim == "yield":
                self.builder.append(Eqn("yield", (), tuple(map(self.operand, eqn.ins)), {}, (), eqn.loc))
            elif eqn.regions:
                self.control(eqn)
            else:
                new = self.leaf(eqn)
                if eqn.outs:
                    if not isinstance(new, (Var, Literal)):
                        raise InternalError(f"nothing stands for {eqn.outs[0].name}")
                    self.names[eqn.outs[0].name] = new

    def control(self, eqn: Eqn) -> None:
        """A loop or branch with its regions written again."""
        ins = tuple(map(self.operand, eqn.ins))
        regions = tuple(map(self.region, eqn.regions))
        outs = tuple(Var(self.builder.fresh(), renamed_type(v.type, self.names)) for v in eqn.outs)
        self.builder.append(Eqn(eqn.prim, outs, ins, dict(eqn.params), regions, eqn.loc))
        self.names |= {old.name: new for old, new in zip(eqn.outs, outs, strict=True)}
