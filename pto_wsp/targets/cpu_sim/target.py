"""The target `cpu_sim`."""

from __future__ import annotations

from collections.abc import Mapping

from pto_wsp.arch import Arch
from pto_wsp.artifact.artifact import Artifact, make
from pto_wsp.ir.core import Wir
from pto_wsp.ir.dependence import analyse
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.expand import expand
from pto_wsp.passes.infer_dependences import infer_dependences
from pto_wsp.passes.resolve_schedules import resolve_schedules
from pto_wsp.targets.base import Pass, register, run_passes
from pto_wsp.targets.cpu_sim.lower import lanes_of, lower

# what the artifact keeps as its wir
KEPT: tuple[tuple[Pass, str], ...] = ((canonicalize, "traced"),)
# from there to what `lower` takes
LOWERING: tuple[tuple[Pass, str], ...] = (
    (expand, "traced"),
    (canonicalize, "traced"),
    (infer_dependences, "traced"),
    (resolve_schedules, "resolved"),
)


class CpuSim:
    """Runs on the processor's threads, and computes semantic time of an arch."""

    name = "cpu_sim"

    def capabilities(self) -> dict[str, str]:
        """Every directive there is, and what this target does with it."""
        return {"dispatch.round_robin": "enforced", "task_graph.window.tasks.STALL": "enforced"}

    def compile(self, wir: Wir, arch: Arch, sizes: Mapping[str, int]) -> Artifact:
        """The artifact of a traced and scheduled workload. Nothing here depends on the sizes of axes."""
        kept = run_passes(wir, KEPT)
        plan = lower(run_passes(kept, LOWERING), arch, lanes_of(wir, arch))
        return make(
            kept,
            plan.data,
            plan.task_locations,
            plan.check_locations,
            target=self.name,
            arch=arch.name,
            arch_hash=arch.digest,
            clock_khz=arch.clock_khz,
            lanes=plan.lanes,
            capabilities=self.capabilities(),
            sizes={n: int(v) for n, v in sizes.items()},
            race_checks=analyse(kept).depends_on_sizes,
        )


register(CpuSim())
