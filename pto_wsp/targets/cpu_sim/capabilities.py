"""What `cpu_sim` does of each directive and feature: it enforces it, or has none."""

from __future__ import annotations

from pto_wsp.targets.capabilities import Capabilities, declared

CAPABILITIES = Capabilities(
    "cpu_sim",
    {
        **declared(
            "enforced",
            "dispatch",
            "round_robin affinity hash dispatch_by least_loaded work_steal registered",
        ),
        **declared("enforced", "streams"),
        **declared("enforced", "stream_by"),
        **declared("enforced", "timing", "immediate batched interleaved rate_limit registered"),
        **declared("enforced", "window.tasks", "STALL ABORT BENCHMARK"),
        **declared("enforced", "window.bytes", "STALL ABORT BENCHMARK"),
        **declared("enforced", "ready", "fifo work_steal priority longest_processing_time registered"),
        **declared("enforced", "start", "after_orchestration threshold"),
        **declared("enforced", "pools", "single by_exec_unit custom registered"),
        **declared("enforced", "deps", "infer_tensor_map_exact infer_bytes_overlap explicit hybrid"),
        **declared("enforced", "trace", "none tasks full"),
        **declared("enforced", "axes", "Dense DenseDyn Tiles Range Ragged Sparse Records"),
        **declared("enforced", "loops", "parallel seq while cond"),
        **declared("enforced", "parts", "combine sequential"),
        **declared("enforced", "after"),
        **declared("enforced", "views", "index slice tile gather"),
        **declared(
            "enforced", "scalars", "item reduce_sum reduce_max reduce_min reduce_any reduce_all expressions slots"
        ),
        **declared("enforced", "tensors", "temporary result"),
        **declared("enforced", "kernels", "tiles regions scalars fori_loop cond cpp"),
        **declared("enforced", "native"),
        **declared("enforced", "check", "races bounds numerics"),
        **declared("enforced", "resources", "task_window dependence_map edges arena ready_queue"),
        **declared("enforced", "observe", "tracing replay log"),
        **declared("enforced", "on_error", "continue"),
        **declared("enforced", "csp", "processes channels timed"),
        **declared("enforced", "layouts"),
    },
)
