"""What runs in a row of the benchmark, and how it is timed: all arms in turn, medians."""

from __future__ import annotations

import functools
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pto_wsp.runtime.core import core

Call = Callable[[], object]
Array = np.ndarray[Any, Any]
WARM_UP = 3  # rounds: a heap that is reused, as jax's, has its pages after some
FMA_BURST = 2 * 10**8  # operations: long enough to time, short enough not to matter


@dataclass(frozen=True)
class Arms:
    """The arms of a row that moves arrays.

    ours     one run of our program; its outputs are in arrays that every run writes
    error    largest difference from float64 after a run of ours, and its unit
    flops    operations that must be done
    bytes    bytes that must be moved; `reads`: they are only read
    peers    one run of each that is installed, by its name in cases.json
    missing  names of those that are not
    """

    ours: Call
    error: Callable[[], tuple[float, str]]
    flops: int = 0
    bytes: int = 0
    reads: bool = False
    peers: Mapping[str, Call] = field(default_factory=dict[str, Call])
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds. limit: what the machine needs at least, measured between the other arms."""

    ours: float
    limit: float
    peers: Mapping[str, float]


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(calls: Mapping[str, Call], repeats: int) -> dict[str, float]:
    """Seconds of each call: the median of `repeats`, all in turn, after rounds that bring arrays into memory."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP):
        for call in calls.values():
            call()
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds(call))
    return {name: statistics.median(times) for name, times in taken.items()}


def time_arms(arms: Arms, threads: int, repeats: int) -> Timing:
    """Milliseconds of a row's arms with `threads` threads, and of what the machine needs for as many operations and bytes."""
    calls: dict[str, Call] = {"ours": arms.ours}
    calls |= {f"peer {name}": call for name, call in arms.peers.items()}
    if arms.flops:
        calls["limit of operations"] = lambda: core().run_fma(FMA_BURST, threads)
    if arms.bytes:
        calls["limit of bytes"] = _mover(arms.bytes, arms.reads, threads)
    times = medians(calls, repeats)
    limits = [times["limit of operations"] * arms.flops / FMA_BURST] if arms.flops else []
    limits += [times["limit of bytes"]] if arms.bytes else []
    return Timing(times["ours"] * 1e3, max(limits) * 1e3, {name: times[f"peer {name}"] * 1e3 for name in arms.peers})


def _mover(count: int, reads: bool, threads: int) -> Call:
    """Moves `count` bytes: reads them, or reads half and writes half."""
    if reads:
        data = np.ones(count, np.uint8)
        return lambda: core().run_read(data.ctypes.data, data.nbytes, threads)
    source, target = np.ones(count // 2, np.uint8), np.ones(count // 2, np.uint8)
    return lambda: core().run_copy(target.ctypes.data, source.ctypes.data, source.nbytes, threads)


def machine(threads: int) -> dict[str, Any]:
    """What the limits are at 64 MiB, for the record."""
    data, copy = np.ones(2**25, np.uint8), np.ones(2**25, np.uint8)
    times = medians(
        {
            "fma": lambda: core().run_fma(FMA_BURST, threads),
            "read": lambda: core().run_read(data.ctypes.data, data.nbytes, threads),
            "copy": lambda: core().run_copy(copy.ctypes.data, data.ctypes.data, data.nbytes, threads),
        },
        9,
    )
    return {
        "isa": core().isa(),
        "fma_gflops": round(FMA_BURST / times["fma"] / 1e9, 1),
        "read_gb_per_s": round(data.nbytes / times["read"] / 1e9, 1),
        "copy_gb_per_s": round(2 * data.nbytes / times["copy"] / 1e9, 1),
    }


def has_jax() -> bool:
    return importlib.util.find_spec("jax") is not None


def jitted(f: Callable[..., Any], *arrays: Array) -> Call:
    """One call of `f(jax.numpy, *arrays)` under jax.jit, compiled before it is timed."""
    jax = importlib.import_module("jax")
    on_device = [jax.device_put(a) for a in arrays]
    compiled = jax.jit(functools.partial(f, jax.numpy))
    return lambda: jax.block_until_ready(compiled(*on_device))


def in_ulp(got: Array, exact: Array) -> tuple[float, str]:
    """Largest error in units in the last place of the exact result's dtype."""
    unit = np.spacing(np.abs(exact).astype(got.dtype)).astype(np.float64)
    return float(np.max(np.abs(got.astype(np.float64) - exact) / unit)), "ulp"


def in_n_eps(got: Array, exact: Array, n: int, magnitude: Array | float) -> tuple[float, str]:
    """Largest error in units of n * eps * magnitude, eps of f32; magnitude: the sum of the magnitudes added up."""
    unit = n * float(np.finfo(np.float32).eps) * np.maximum(magnitude, np.finfo(np.float32).tiny)
    return float(np.max(np.abs(got.astype(np.float64) - exact) / unit)), "n*eps"
