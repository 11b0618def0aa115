"""What dynamic work costs beyond its arithmetic: `python tests/bench/bench_dynamic.py`.

For each example at its full size: tracing and compiling, the plan's bytes, binding other lengths, tables or routing to the same
program, and a run on one and two threads. Binding is what a run costs more when everything was bound anew just before it.
One process, warm, medians.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bench_spine import median

from pto_wsp import DType, Program, TensorSpec, Workload

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Bind = Callable[[Program, int], None]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / name / f"{name}_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decode_attention(lengths: tuple[int, ...]) -> tuple[Callable[[int], Program], Bind]:
    d = example("decode_attention")
    out = np.zeros((len(lengths), d.HEADS, d.DIM), np.float32)
    batches = [
        d.Batch.random(tuple(np.roll(lengths, k)), d.HEADS, d.KV_HEADS, d.DIM, np.dtype(np.float32)) for k in range(2)
    ]
    plans = [b.plan() for b in batches]

    def bind(program: Program, k: int) -> None:
        b, (work, first, counts) = batches[k], plans[k]
        program.bind({"q": b.q, "k": b.k, "v": b.v, "table": b.table, "work": work, "first": first, "out": out})
        sizes = {"batch": len(lengths), "records": len(work), "pages": len(b.k), "blocks": b.table.shape[1]}
        program.set_axis_sizes({**sizes, "pieces": counts})

    return lambda threads: d.compiled(d.HEADS, d.KV_HEADS, d.DIM, DType.F32, threads), bind


def of_arrays(
    w: Callable[[], Workload], arrays: dict[str, list[np.ndarray[Any, Any]]]
) -> tuple[Callable[[int], Program], Bind]:
    """A workload whose arrays are bound by name; the k-th of each."""

    def bind(program: Program, k: int) -> None:
        program.bind({n: versions[k % len(versions)] for n, versions in arrays.items()})

    return lambda threads: w().compile(threads=threads), bind


def moe() -> tuple[Callable[[int], Program], Bind]:
    m = example("moe")
    random = np.random.default_rng(0)
    t, h, f, e, top = m.TOKENS, m.HIDDEN, m.FFN, m.EXPERTS, m.TOP
    shapes = {"x": (t, h), "w_gate": (h, e), "w1": (e, h, f), "w2": (e, f, h), "out": (t, h)}
    arrays = {n: [random.standard_normal(s, dtype=np.float32)] for n, s in shapes.items()}
    arrays["x"].append(random.standard_normal((t, h), dtype=np.float32))  # other tokens, other routing
    arrays["choice"] = [np.zeros((top, t), np.int32)]
    specs = {n: TensorSpec(a[0].shape, DType.I32 if n == "choice" else DType.F32) for n, a in arrays.items()}
    return of_arrays(lambda: m.moe(**specs, w3=None), arrays)


def lightning_indexer() -> tuple[Callable[[int], Program], Bind]:
    m = example("lightning_indexer")
    random = np.random.default_rng(0)
    scores = random.standard_normal((m.ROWS, m.TIERS[-1]), dtype=np.float32)
    lengths = [random.integers(0, m.TIERS[-1], m.ROWS).astype(np.int32) for _ in range(2)]
    arrays = {"scores": [scores], "lengths": lengths, "index": [np.zeros((m.ROWS, m.TOP), np.int32)]}
    specs = {n: TensorSpec(a[0].shape, DType.F32 if n == "scores" else DType.I32) for n, a in arrays.items()}
    return of_arrays(lambda: m.indexer(**specs, tiers=m.TIERS, top=m.TOP), arrays)


def deepseek_attention() -> tuple[Callable[[int], Program], Bind]:
    m = example("deepseek_v3")
    random = np.random.default_rng(0)
    batch, heads, d = len(m.LENGTHS), m.HEADS, m.HIDDEN // m.HEADS
    caches = [random.standard_normal((batch, heads, m.TIERS[-1], d), dtype=np.float32) for _ in range(2)]
    q, out = (np.zeros((batch, heads, d), np.float32) for _ in range(2))
    lengths = [np.array(np.roll(m.LENGTHS, k), np.int32) for k in range(2)]
    arrays = {"q": [q], "k": caches[:1], "v": caches[1:], "lengths": lengths, "out": [out]}
    specs = {n: TensorSpec(a[0].shape, DType.I32 if n == "lengths" else DType.F32) for n, a in arrays.items()}
    return of_arrays(lambda: m.attention(**specs, tiers=m.TIERS), arrays)


def measure(name: str, make: Callable[[int], Program], bind: Bind) -> None:
    begin = time.perf_counter()
    make(1)
    compile_ms = min(median(lambda: make(1), 5), time.perf_counter() - begin) * 1e3
    program = make(1)
    bind(program, 0)
    run = median(program.run, 5)
    costs: list[float] = []
    for k in range(9):
        begin = time.perf_counter()
        bind(program, k % 2)
        program._bound.hand_over(program._run)  # what execute() does first after anything was bound
        costs.append(time.perf_counter() - begin)
    two = make(2)
    bind(two, 0)
    both = median(two.run, 5)
    figures = (compile_ms, len(program._artifact.plan), sorted(costs)[4] * 1e6, run * 1e3, both * 1e3, run / both)
    print("{:24} {:10.1f} {:10} {:9.0f} {:10.2f} {:10.2f} {:8.2f} x".format(name, *figures), flush=True)


def main() -> None:
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(f"{'':24} {'compile ms':>10} {'plan bytes':>10} {'bind us':>9} {'1 thr. ms':>10} {'2 thr. ms':>10} {'':>8}")
    d = example("decode_attention")
    measure("decode_attention", *decode_attention(d.LENGTHS))
    measure("decode_attention, 64", *decode_attention(d.MANY))
    measure("moe", *moe())
    measure("lightning_indexer", *lightning_indexer())
    measure("deepseek_v3 attention", *deepseek_attention())
    print("aims: binding 100 us, plans 65536 bytes")


if __name__ == "__main__":
    main()
