"""From a row of cases.json to its figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from pto_wsp import DType
from pto_wsp.tools.bench import attention, jax_calls, llama, lowered, moe, pipelines, products, rows, scheduling, tasks
from pto_wsp.tools.bench.arms import Arms, time_arms
from pto_wsp.tools.bench.compiling import compile_row

Case = Mapping[str, Any]

ARMS: dict[str, Callable[[Case, int], Arms]] = {
    "matmul_f32": lambda c, n: products.matmul_row(c["shape"], DType.F32, c["flops"], n),
    "matmul_f32_odd": lambda c, n: products.matmul_row(c["shape"], DType.F32, c["flops"], n),
    "matmul_bf16": lambda c, n: products.matmul_row(c["shape"], DType.BF16, c["flops"], n),
    "matmul_f16": lambda c, n: products.matmul_row(c["shape"], DType.F16, c["flops"], n),
    "bmm_f32": lambda c, n: products.bmm_row(c["shape"], c["flops"], n),
    "rmsnorm": lambda c, n: rows.rmsnorm_row(c["shape"], c["bytes"], n, numpy_too=True),
    "rmsnorm_odd": lambda c, n: rows.rmsnorm_row(c["shape"], c["bytes"], n, numpy_too=False),
    "softmax": lambda c, n: rows.softmax_row(c["shape"], c["bytes"], n, numpy_too=True),
    "softmax_odd": lambda c, n: rows.softmax_row(c["shape"], c["bytes"], n, numpy_too=False),
    "decode_attention": lambda c, n: attention.decode_row(c["shape"], n, unrolled=True),
    "decode_attention_many": lambda c, n: attention.decode_row(c["shape"], n, unrolled=False),
    "prefill_attention": lambda c, n: attention.prefill_row(c["shape"], c["flops"], n),
    "moe_two_matmul": lambda c, n: moe.moe_row(c["shape"], c["flops"], n),
    "llama_block": lambda c, n: llama.llama_row(c["shape"], n),
}


def run_row(case: Case, threads: int, repeats: int) -> list[dict[str, Any]]:
    """The figures of a row, as one JSON object; none where it needs another number of threads."""
    name = case["name"]
    print(f"{name}, {threads} threads", file=sys.stderr, flush=True)
    if name == "tasks_1us":
        return [{"name": name, "threads": 2} | tasks.microsecond_row(repeats)] if threads == 2 else []
    if name == "compile":
        return [{"name": name, "threads": 1} | compile_row(repeats)] if threads == 1 else []
    if name == "tasks_8_threads":
        return (
            [{"name": name, "threads": 8} | scheduling.many_threads_row(case["shape"]["n"], repeats)]
            if threads == 2
            else []
        )
    if name == "simulate":
        return (
            [{"name": name, "threads": 1} | scheduling.simulate_row(case["shape"]["n"], repeats)]
            if threads == 1
            else []
        )
    if name == "simulate_processes":
        return (
            [
                {"name": name, "threads": 1}
                | scheduling.processes_row(case["shape"]["n"], case["shape"]["ring"], repeats)
            ]
            if threads == 1
            else []
        )
    if name == "tokens":
        shape = case["shape"]
        figures = pipelines.tokens_row(shape["n"], shape["depths"], threads, repeats)
        return [{"name": name, "threads": threads} | figures | {"peers": {}, "quoted": case["peers"]}]
    if name == "pipeline_20us":
        if threads != 2:
            return []
        return [
            {"name": name, "threads": 2} | pipelines.stages_row(case["shape"]["n"], case["shape"]["depth"], repeats)
        ]
    if name == "tasks_directives":
        return [{"name": name, "threads": threads} | scheduling.directives_row(case["shape"]["n"], threads, repeats)]
    if name == "execute_100":
        return [{"name": name, "threads": threads} | scheduling.short_run_row(case["shape"]["n"], threads, repeats)]
    if name in jax_calls.ROWS:
        return [{"name": name, "threads": threads} | jax_calls.jax_row(name, case, threads, repeats)]
    if name in lowered.PAIRS:
        return [{"name": name, "threads": threads} | lowered.lowered_row(name, case["shape"], repeats)]
    if name in tasks.MAKERS:
        figures = tasks.task_row(name, case["shape"]["n"], threads, repeats)
        return [{"name": name, "threads": threads} | figures | {"peers": {}, "quoted": case["peers"]}]
    arms = ARMS[name](case, threads)
    timing = time_arms(arms, threads, repeats)
    largest, unit = arms.error()
    return [
        {
            "name": name,
            "threads": threads,
            "ms": timing.ours,
            "limit_ms": timing.limit,
            "peers": dict(timing.peers),
            "missing": list(arms.missing),
            "error": {"max": largest, "unit": unit},
        }
    ]
