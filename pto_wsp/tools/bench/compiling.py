"""The row of compile times: traced to ready program, after import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp import (
    Dense,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    TaskWindow,
    Tensor,
    TensorSpec,
    Tile,
    kernel,
    pto,
    workload,
)
from pto_wsp.tools.bench import attention, llama, moe, products, rows
from pto_wsp.tools.bench.arms import medians


@kernel
def rmsnorm_tile(x: In[Tile[16, 128, DType.F32]], out: Out[Tile[16, 128, DType.F32]]) -> None:
    pto.store(out, x * pto.rsqrt(pto.rowmean(x * x)))


def quick_start(n: int) -> Any:
    spec, tiles = TensorSpec((n, 16, 128), DType.F32), Dense[n](name="tiles")

    @workload
    def norm(x: Tensor, y: Tensor) -> None:
        for t in P(tiles):
            rmsnorm_tile[t](x=x[t], out=y[t])

    scheduled = norm(spec, TensorSpec((n, 16, 128), DType.F32)).dispatch(DispatchPolicy.round_robin(4))
    return scheduled.task_graph(window=TaskWindow(8192)).compile(threads=1)


def compile_row(repeats: int) -> dict[str, Any]:
    """Milliseconds of each workload; `ms` is the largest."""

    def spec(*shape: int) -> TensorSpec:
        return TensorSpec(shape, DType.F32)

    def of(f: Any, *arguments: Any) -> Callable[[], object]:
        return lambda: f(*arguments).compile(threads=1)

    square, norm, wide = spec(1024, 1024), spec(65536, 128), spec(8192, 4096)
    calls: dict[str, Callable[[], object]] = {
        "quick start": lambda: quick_start(64),
        "with 10^9 tasks": lambda: quick_start(10**9),
        "matmul": of(products.matmul, square, square, square),
        "bmm": of(products.batched, *[spec(64, 128, 128)] * 3),
        "rmsnorm": of(rows.rmsnorm, norm, norm, 512),
        "softmax": of(rows.softmax, wide, wide, 16),
        "decode_attention": lambda: attention.compiled_decode(8, threads=1),
        "prefill_attention": lambda: attention.compiled_prefill(8, 2048, threads=1),
        "moe_two_matmul": of(
            moe.moe,
            *(spec(1024, 512), spec(512, 32), spec(32, 512, 1024), spec(32, 1024, 512)),
            *(TensorSpec((2, 1024), DType.I32), spec(1024, 2), spec(1024, 512)),
        ),
        "llama_block": lambda: llama.compiled(
            {"layers": 2, "hidden": 1024, "q_heads": 16, "kv_heads": 4, "head": 64, "ffn": 2816, "s": 512}
        ),
    }
    each = {name: seconds * 1e3 for name, seconds in medians(calls, repeats).items()}
    return {"ms": float(np.max(list(each.values()))), "each": each}
