"""Rows of workloads inside of JAX programs: what a call costs beside an empty custom call, and vmap beside an axis written by hand."""

from __future__ import annotations

import ctypes
import functools
import importlib
import math
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pto_wsp import In, Out, P, Tensor, UnsupportedError, empty_like, kernel, pto, workload
from pto_wsp.cxx.compiler import NoCompiler, compiler
from pto_wsp.tools.bench.arms import has_jax, medians
from pto_wsp.tools.bench.rows import rmsnorm_tile
from pto_wsp.tools.bench.tasks import add_one

EMPTY, OPERATION, CALLBACK = "empty FFI handler", "jax.jit", "jax.pure_callback"
SLOWER = 20  # a callback is called so many times less often
QUERIES = 32  # rows of a task of the attention
_SOURCE = Path(__file__).with_name("empty_handler.cpp")

Case = Mapping[str, Any]


@workload
def one_task(x: Tensor) -> Any:
    out = empty_like(x)
    add_one(x=x, out=out)
    return out


@workload
def normalised(x: Tensor) -> Any:
    out = empty_like(x)
    for i in P(x.shape[0]):
        rmsnorm_tile[i](x=x[i], out=out[i])
    return out


@workload
def normalised_by_hand(x: Tensor) -> Any:
    out = empty_like(x)
    for b in P(x.shape[0]):
        for i in P(x.shape[1]):
            rmsnorm_tile[b, i](x=x[b, i], out=out[b, i])
    return out


@kernel
def attend_tile(q: In[Tensor], k: In[Tensor], v: In[Tensor], out: Out[Tensor]) -> None:
    scores = pto.matmul(q * (1 / math.sqrt(q.shape[1])), k, transpose_b=True)
    pto.store(out, pto.matmul(pto.softmax(scores), v))


@workload
def attended(q: Tensor, k: Tensor, v: Tensor) -> Any:
    out = empty_like(q)
    for i in P(q.tiles(QUERIES)):
        attend_tile[i](q=q[i], k=k, v=v, out=out[i])
    return out


@workload
def attended_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Any:
    out = empty_like(q)
    rows_of_queries: Any = q.shape[1]
    for b in P(q.shape[0]):
        for i in P(rows_of_queries // QUERIES):
            rows = slice(i * QUERIES, (i + 1) * QUERIES)
            attend_tile[b, i](q=q[b, rows], k=k[b], v=v[b], out=out[b, rows])
    return out


def jax_row(name: str, case: Case, threads: int, repeats: int) -> dict[str, Any]:
    """The figures of a row that needs jax, or who is missing."""
    if not has_jax():
        return {"peers": {}, "missing": ["jax"]}
    try:
        importlib.import_module("pto_wsp_jax").register()
    except UnsupportedError as e:
        return {"peers": {}, "missing": [f"handler of pto_wsp_jax ({e.code})"]}
    return ROWS[name](case["shape"], threads, repeats)


def _as_jax(f: Any, threads: int) -> Callable[..., Any]:
    return importlib.import_module("pto_wsp_jax").as_jax(f, threads=threads)


@functools.cache
def _empty_handler() -> Callable[[Any], Any] | None:
    """A function of one array that does nothing with it, as a custom call; None where there is no compiler."""
    jax: Any = importlib.import_module("jax")
    try:
        command = compiler().command
    except NoCompiler:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "empty.so"
        flags = ("-std=c++17", "-O2", "-w", "-fPIC", "-shared", f"-I{jax.ffi.include_dir()}")
        subprocess.run((*command, *flags, "-o", str(out), str(_SOURCE)), check=True)
        handler = ctypes.CDLL(str(out)).pto_wsp_bench_empty
    jax.ffi.register_ffi_target("pto_wsp_bench_empty", jax.ffi.pycapsule(handler), platform="cpu")
    return lambda x: jax.ffi.ffi_call("pto_wsp_bench_empty", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)


def _bodies(threads: int) -> tuple[dict[str, Callable[[Any], Any]], list[str]]:
    """What is called, by arm; the names of arms that are left out."""
    jax: Any = importlib.import_module("jax")
    bodies: dict[str, Callable[[Any], Any]] = {"ours": _as_jax(one_task, threads)}
    empty = _empty_handler()
    if empty is not None:
        bodies[EMPTY] = empty
    bodies[OPERATION] = lambda x: x + 1.0
    bodies[CALLBACK] = lambda x: jax.pure_callback(_add_one, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    return bodies, [] if empty is not None else [f"C++ compiler, for the {EMPTY}"]


def _add_one(x: Any) -> Any:
    return np.asarray(x) + np.float32(1)


def _figures(times: Mapping[str, float], missing: list[str]) -> dict[str, Any]:
    """Times in microseconds, ours apart."""
    ours, peers = times["ours"], {name: t for name, t in times.items() if name != "ours"}
    above = {"us_above_empty": ours - peers[EMPTY]} if EMPTY in peers else {}
    return {"us": ours} | above | {"peers": peers, "missing": missing}


def call_row(shape: Mapping[str, Any], threads: int, repeats: int) -> dict[str, Any]:
    """Microseconds of one call of a jitted function, until its result is there."""
    jax: Any = importlib.import_module("jax")
    bodies, missing = _bodies(threads)
    x = jax.device_put(np.ones(shape["tile"], np.float32))
    counts = {name: shape["calls"] // (SLOWER if name == CALLBACK else 1) for name in bodies}

    calls = {name: functools.partial(_in_a_row, counts[name], jax.jit(f), (x,)) for name, f in bodies.items()}
    times = medians(calls, repeats)
    return _figures({name: t / counts[name] * 1e6 for name, t in times.items()}, missing)


def loop_row(shape: Mapping[str, Any], threads: int, repeats: int) -> dict[str, Any]:
    """Microseconds of an iteration of a fori_loop inside of one jitted function."""
    jax: Any = importlib.import_module("jax")
    bodies, missing = _bodies(threads)
    del bodies[OPERATION]  # XLA compiles it into the loop
    x = jax.device_put(np.ones(shape["tile"], np.float32))
    counts = {name: shape["iterations"] // (SLOWER if name == CALLBACK else 1) for name in bodies}

    def loop(name: str) -> Callable[[], None]:
        def step(_: Any, x: Any) -> Any:
            return bodies[name](x)

        compiled = jax.jit(functools.partial(jax.lax.fori_loop, 0, counts[name], step))
        return lambda: compiled(x).block_until_ready()

    times = medians({name: loop(name) for name in bodies}, repeats)
    return _figures({name: t / counts[name] * 1e6 for name, t in times.items()}, missing)


def vmap_row(shape: Mapping[str, Any], threads: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of jax.vmap over examples, and that over the time of the workload that has their axis itself."""
    count = shape["calls"]  # in a row: the first finds in the caches what another arm has left there
    calls = {
        name: functools.partial(_in_a_row, count, f, arrays)
        for name, (f, arrays) in vmap_programs(shape, threads).items()
    }
    times = {name: t / count for name, t in medians(calls, repeats).items()}
    figures: dict[str, Any] = {}
    for name in ("rmsnorm", "attention"):
        figures[f"{name}_ms"] = times[name] * 1e3
        figures[f"{name}_over_by_hand"] = times[name] / times[f"{name} by hand"]
    return figures | {"peers": {}, "missing": []}


def _in_a_row(count: int, f: Callable[..., Any], arrays: tuple[Any, ...]) -> None:
    for _ in range(count):
        f(*arrays).block_until_ready()


def vmap_programs(shape: Mapping[str, Any], threads: int) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Jitted functions with their arguments: each by vmap, and with the axis of examples by hand. In this order neither of two that are
    compared finds its arrays in the caches."""
    jax: Any = importlib.import_module("jax")
    random, n = np.random.default_rng(0), shape["examples"]

    def arrays(*shapes: list[int]) -> tuple[Any, ...]:
        return tuple(jax.device_put(random.standard_normal((n, *s), dtype=np.float32)) for s in shapes)

    x, (queries, keys) = arrays(shape["rmsnorm"]), shape["attention"]
    qkv = arrays(queries, keys, keys)
    return {
        "rmsnorm": (jax.jit(jax.vmap(_as_jax(normalised, threads))), x),
        "attention": (jax.jit(jax.vmap(_as_jax(attended, threads))), qkv),
        "rmsnorm by hand": (jax.jit(_as_jax(normalised_by_hand, threads)), x),
        "attention by hand": (jax.jit(_as_jax(attended_by_hand, threads)), qkv),
    }


ROWS: dict[str, Callable[[Mapping[str, Any], int, int], dict[str, Any]]] = {
    "jax_call": call_row,
    "jax_loop": loop_row,
    "jax_vmap": vmap_row,
}
