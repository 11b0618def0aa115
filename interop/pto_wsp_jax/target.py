"""The target `jax`: programs that compute with operations of JAX."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn, Self

import jax
import numpy as np
from jax import experimental

from pto_wsp.arch import Arch
from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import DType, Role, Wir
from pto_wsp.ir.tasks import slot_types
from pto_wsp.runtime.program import Program
from pto_wsp.targets import base
from pto_wsp.targets.capabilities import Capabilities, declared
from pto_wsp_jax.lower import wirs

CAPABILITIES = Capabilities(
    "jax",
    {
        **declared(
            "unsupported", "dispatch", "round_robin affinity hash dispatch_by least_loaded work_steal registered"
        ),
        **declared("unsupported", "streams"),
        **declared("unsupported", "stream_by"),
        **declared("unsupported", "timing", "immediate batched interleaved rate_limit registered"),
        **declared("unsupported", "window.tasks", "STALL ABORT BENCHMARK"),
        **declared("unsupported", "window.bytes", "STALL ABORT BENCHMARK"),
        **declared("unsupported", "ready", "fifo work_steal priority longest_processing_time registered"),
        **declared("unsupported", "start", "after_orchestration threshold"),
        **declared("unsupported", "pools", "single by_exec_unit custom registered"),
        **declared("enforced", "deps", "infer_tensor_map_exact infer_bytes_overlap explicit hybrid"),
        **declared("unsupported", "trace", "none tasks full"),
        **declared("enforced", "axes", "Dense DenseDyn Tiles Range Ragged Sparse Records"),
        **declared("enforced", "loops", "parallel seq while cond"),
        **declared("enforced", "parts", "combine sequential"),
        **declared("enforced", "after"),
        **declared("enforced", "views", "index slice tile gather"),
        **declared(
            "enforced", "scalars", "item reduce_sum reduce_max reduce_min reduce_any reduce_all expressions slots"
        ),
        **declared("enforced", "tensors", "temporary result"),
        **declared("enforced", "kernels", "tiles regions scalars fori_loop cond"),
        **declared("unsupported", "kernels", "cpp"),
        **declared("unsupported", "native"),
        **declared("unsupported", "check", "races bounds numerics"),
        **declared("unsupported", "resources", "task_window dependence_map edges arena ready_queue"),
        **declared("unsupported", "observe", "tracing replay log"),
        **declared("unsupported", "on_error", "continue"),
        **declared("enforced", "csp", "processes channels"),
        **declared("unsupported", "csp", "timed"),
        **declared("enforced", "layouts"),
    },
)


def x64() -> Any:
    """Within it JAX has numbers of 64 bits, whatever its configuration says."""
    old: Any = experimental
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else old.enable_x64()


class JaxProgram(Program):
    """A program whose runs are computed by XLA, on JAX's default device, scalars in 64 bits. It is bound as any, and runs at once: `execute` returns when the
    arrays hold the results. There are no tasks, so no stats, traces, checks and semantic time of a run; `simulate` has the time of the model.
    """

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._wir = wirs.lowered(artifact.wir)
        self._jitted: dict[object, Any] = {}

    def execute(self, on_error: str = "stop", **options: object) -> Self:
        """Compute. Raises BindError for what is not bound, and UnsupportedError for what has no form in JAX and for options."""
        if on_error != "stop" or any(x is not None for x in options.values()):
            raise _without("options of execute()")
        with self._lock:
            bound = self._bound
            bound.hand_over(self._run)
            used = {v.name for v in self._wir.tensors if self._wir.tensor_type(v.name).role is Role.GIVEN}
            given = {n: bound.arrays[n] for n in used}
            sizes = dict(bound.sizes)
            key = tuple(sorted(sizes.items()))
            if key not in self._jitted:
                self._jitted[key] = jax.jit(partial(_evaluate, self._wir, sizes))
            with x64():
                out = self._jitted[key](given, _slots(self._wir, bound.slots))
            for n, a in bound.arrays.items():
                if n in bound.written and n in used:
                    a[...] = np.asarray(out[n])
            for n, a in bound.results.items():
                a[...] = np.asarray(out[n])
            self._started = True
        return self

    def _need_feature(self, name: str) -> None:
        base.refuse_unsupported(TARGET, {name: None})

    def synchronize(self, timeout: float | None = None) -> None:
        """Nothing: `execute` has computed."""

    def is_complete(self) -> bool:
        """Whether it has run."""
        return self._started

    def copy(self) -> JaxProgram:
        """Another program with the same bindings."""
        other = JaxProgram(self._artifact)
        with self._lock:
            self._bound.copy_to(other._bound)
        return other

    @property
    def stats(self) -> NoReturn:
        raise _without("stats")

    def explain(self, **options: object) -> NoReturn:
        raise _without("explain()")

    def save(self, path: object) -> NoReturn:
        raise _without("files: jax.export saves functions, lower_to_jax gives one")


def _evaluate(wir: Wir, sizes: Mapping[str, int], arrays: dict[str, Any], slots: dict[int, Any]) -> dict[str, Any]:
    return wirs.evaluate(wir, arrays, sizes, slots)


def _without(what: str) -> UnsupportedError:
    return UnsupportedError(
        *("PTO427", f"a program of the target jax has no {what}"),
        loc=here(),
        fix='compile for another target: compile(target="cpu_sim")',
    )


def _slots(wir: Wir, bits: Mapping[int, int]) -> dict[int, Any]:
    """The values that slots begin with, as they were set."""
    out: dict[int, Any] = {}
    for s, dtype in slot_types(wir).items():
        word = struct.pack("<Q", bits.get(s, 0) & (2**64 - 1))
        code = {DType.F64: "<d", DType.U64: "<Q", DType.BOOL: "<?7x"}.get(dtype, "<q")
        out[s] = np.asarray(struct.unpack(code, word)[0], dtype.numpy)
    return out


class JaxTarget:
    """Artifacts are those of cpu_sim: what they are bound to is checked alike."""

    name = CAPABILITIES.target
    capabilities = CAPABILITIES

    @property
    def program(self) -> type[JaxProgram]:
        return JaxProgram

    def compile(self, wir: Wir, arch: Arch, sizes: Mapping[str, int]) -> Artifact:
        return base.get("cpu_sim").compile(wir, arch, sizes)


TARGET = JaxTarget()
