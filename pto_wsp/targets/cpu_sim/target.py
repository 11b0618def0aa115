"""The target `cpu_sim`."""

from __future__ import annotations

from collections.abc import Mapping

from pto_wsp import arch as archs
from pto_wsp.arch import Arch
from pto_wsp.artifact.artifact import Artifact, make
from pto_wsp.errors import InternalError
from pto_wsp.ir.core import Wir
from pto_wsp.ir.declarable import declarables
from pto_wsp.ir.dependence import EXPLICIT, analyse
from pto_wsp.ir.processes import pipelines
from pto_wsp.ir.scopes import deps_mode, origins
from pto_wsp.passes.canonicalize import canonicalize, canonicalize_kernels
from pto_wsp.passes.expand import expand
from pto_wsp.passes.infer_dependences import infer_dependences
from pto_wsp.passes.plan_buffers import plan_buffers
from pto_wsp.passes.resolve_schedules import resolve_schedules
from pto_wsp.targets.base import Pass, register, run_passes
from pto_wsp.targets.cpu_sim.capabilities import CAPABILITIES
from pto_wsp.targets.cpu_sim.lower import lower
from pto_wsp.targets.cpu_sim.nodes import Body
from pto_wsp.targets.cpu_sim.schedule import Machine

# what the artifact keeps as its wir
KEPT: tuple[tuple[Pass, str], ...] = ((canonicalize, "traced"),)
# from there to what `lower` takes
LOWERING: tuple[tuple[Pass, str], ...] = (
    (expand, "traced"),
    (canonicalize_kernels, "traced"),
    (infer_dependences, "traced"),
    (resolve_schedules, "resolved"),
    (plan_buffers, "lowered"),
)


class CpuSim:
    """Runs on the processor's threads, and computes semantic time of an arch."""

    name = CAPABILITIES.target
    capabilities = CAPABILITIES
    program = None

    def compile(self, wir: Wir, arch: Arch, sizes: Mapping[str, int]) -> Artifact:
        """The artifact of a traced and scheduled workload. Nothing here depends on the sizes of axes."""
        kept = run_passes(wir, KEPT)
        lowered = run_passes(kept, LOWERING)
        if len(origins(lowered)) != len(origins(kept)):
            raise InternalError("lowering changes the equations that the plan names")
        plan = lower(lowered, Machine.of(kept, arch, wir), _found(kept))
        return make(
            kept,
            plan.data,
            plan.check_locations,
            target=self.name,
            arch=arch.name,
            arch_hash=arch.digest,
            model=arch.model,
            clock_khz=arch.clock_khz,
            lanes=plan.lanes,
            capabilities={name: self.capabilities[name] for name in declarables(kept)},
            sizes={n: int(v) for n, v in sizes.items()},
            race_checks=analyse(kept).depends_on_sizes,
            unproved=list(range(sum(1 for _ in pipelines(kept)))),
        )


def _found(wir: Wir) -> str:
    """How runs find dependences. Of explicit ones that order tasks of a pipeline are tracked, and no others: those are found as in
    hybrid."""
    mode = deps_mode(wir)
    return "hybrid" if mode == EXPLICIT and any(pipelines(wir)) else mode


def registers(wir: Wir) -> list[dict[str, int]]:
    """For each task site of an artifact's wir, which register of its plan holds which variable."""
    body = Body(run_passes(wir, LOWERING), Machine.of(wir, archs.get(None)), keep_registers=True)
    body.block(body.wir.body)
    return body.registers or []


register(CpuSim())
