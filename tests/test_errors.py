"""Each mistake of a user: its code, its class, the user's own line, and a fix.

A mistake is a function that makes it; the comment `# <-- PTOnnn` stands on the line that the message must show.
"""

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pto_wsp
from pto_wsp import (
    ArtifactError,
    AutoScheduler,
    BindError,
    BoundsError,
    Cancelled,
    Capabilities,
    Channel,
    ChannelClosed,
    CompileError,
    Constexpr,
    DeadlockError,
    Dense,
    DenseDyn,
    Deps,
    DispatchPolicy,
    DType,
    ExecutionError,
    In,
    InOut,
    IRConversionError,
    KernelError,
    LayoutIncompatibleError,
    LimitError,
    Mesh,
    Out,
    P,
    Pools,
    Program,
    PtoError,
    RaceError,
    Ragged,
    ReadyPolicy,
    Resources,
    RunSchedule,
    Scalar,
    ScheduleConfig,
    ScheduleError,
    SearchSpace,
    Sparse,
    StartPolicy,
    Symbol,
    TaskWindow,
    Tensor,
    TensorLayout,
    TensorReplicate,
    TensorShard,
    TensorSpec,
    Tile,
    TraceError,
    TypeCheckError,
    UnsupportedError,
    WindowError,
    WindowMode,
    allgather,
    allreduce,
    arch,
    auto_schedule,
    cast,
    close,
    combine,
    connect,
    consume,
    dispatch,
    empty,
    empty_like,
    item,
    kernel,
    make_wir,
    pipeline,
    pipeline_loop,
    process,
    pto,
    ptoisa,
    ptoisa_kernel,
    reduce_scatter,
    reduce_sum,
    relayout,
    replicate,
    scan,
    send,
    sequential,
    slot_i64,
    slot_load_i64,
    slot_set_i64,
    slot_u64,
    split,
    stream_by,
    task_graph,
    tensor_layout_join,
    tile,
    try_send,
    unroll,
    vmap,
    where,
    workload,
)
from pto_wsp import arch as archs
from pto_wsp.artifact.artifact import make as make_artifact
from pto_wsp.errors import CODES, Location
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ir.network import Network, Request
from pto_wsp.ir.text import parse
from pto_wsp.ir.verify import verify
from pto_wsp.passes.discharge import discharge
from pto_wsp.runtime.check import Checker, check_modes, keep_temporaries
from pto_wsp.runtime.failure import to_error
from pto_wsp.targets.base import TARGETS
from pto_wsp.targets.cpu_sim.target import CpuSim
from pto_wsp.tools import simulate

F32, F16, I32, BOOL = DType.F32, DType.F16, DType.I32, DType.BOOL
Mistake = Callable[[], object]
MISTAKES: list[tuple[str, type[PtoError], Mistake]] = []


def mistake(code: str, cls: type[PtoError]) -> Callable[[Mistake], Mistake]:
    def add(make: Mistake) -> Mistake:
        MISTAKES.append((code, cls, make))
        return make

    return add


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.zeros(shape, dtype)


@kernel
def copy(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, x)


@kernel
def add(x: In[Tile[4, 4, F32]], z: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, x + z)


@kernel
def accumulate(x: In[Tile[4, 4, F32]], y: InOut[Tile[4, 4, F32]]):
    pto.store(y, y + x)


@kernel
def scaled(x: In[Tile[4, 4, I32]], s: Scalar[I32], y: Out[Tile[4, 4, I32]]):
    pto.store(y, x * s)


@kernel
def power(x: In[Tile[4, 4, F32]], n: Constexpr[int], y: Out[Tile[4, 4, F32]]):
    pto.store(y, x * n)


@workload
def copied(x, y, n):
    for b in P(n):
        copy(x=x[b], y=y[b])


def in_kernel(body: Callable[..., object]) -> None:
    """Trace `body(x, y)` as a kernel's: x is f32<4x8>, y is an output like it, h is f16, n is i32, m is bool."""

    @kernel
    def k(x: In[Tile[4, 8, F32]], h: In[Tile[4, 8, F16]], n: In[Tile[4, 8, I32]], y: Out[Tile[4, 8, F32]]):
        pto.store(y, x)
        body(x, y, h, n)

    arrays = (zeros(4, 8), zeros(4, 8, dtype=np.float16), zeros(4, 8, dtype=np.int32), zeros(4, 8))

    @workload
    def w(x, h, n, y):
        k(x=x, h=h, n=n, y=y)

    w(*arrays)


def in_workload(body: Callable[..., object]) -> Any:
    """Trace `body(x, y)` as a workload's: two tensors f32[8,4,4]."""

    @workload
    def w(x, y):
        body(x, y)

    return w(zeros(8, 4, 4), zeros(8, 4, 4))


def program(n: int = 8, **options: Any) -> Program:
    return copied(zeros(n, 4, 4), zeros(n, 4, 4), DenseDyn(n, name="n")).compile(**options)


def endless() -> Program:
    """A program that runs for as long as a test may take."""

    @workload
    def w(x, y):
        for _ in P.seq(10**12):
            accumulate(x=x, y=y)

    return w(zeros(4, 4), zeros(4, 4)).compile(threads=2)


def of_instructions(body: Callable[..., object]) -> None:
    """Record `body(a, out)`: a is a tile register f32<4x8> that holds an input, out is an output like it."""

    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], out: Out[Tile[4, 8, F32]]):
        a = ptoisa.tile(4, 8)
        ptoisa.TLOAD(a, x)
        ptoisa.TSTORE(out, a)
        return body(a, out)

    k.wir()


# ---- names


@mistake("PTO001", UnsupportedError)
def _() -> None:
    pto_wsp.spatial_map  # noqa: B018 # <-- PTO001


@mistake("PTO001", UnsupportedError)
def _() -> None:
    pto.shuffle  # noqa: B018 # <-- PTO001


@mistake("PTO001", UnsupportedError)
def _() -> None:
    DispatchPolicy.random(4)  # <-- PTO001


@mistake("PTO001", UnsupportedError)
def _() -> None:
    WindowMode.GIVE_UP  # noqa: B018 # <-- PTO001


@mistake("PTO001", UnsupportedError)
def _() -> None:
    DType.F8E4M3FN  # noqa: B018 # <-- PTO001


@mistake("PTO001", UnsupportedError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0])).spatial_map(2)  # <-- PTO001


@mistake("PTO001", UnsupportedError)
def _() -> None:
    program().enable_profiling(1)  # <-- PTO001


@mistake("PTO002", CompileError)
def _() -> None:
    w = in_workload(lambda x, y: copy(x[0], y[0]))
    hidden = {n: sys.modules.pop(n) for n in list(sys.modules) if n == "pto_wsp._core"}
    core = vars(pto_wsp).pop("_core", None)
    sys.modules["pto_wsp._core"] = None  # type: ignore[assignment]
    try:
        w.compile()  # <-- PTO002
    finally:
        del sys.modules["pto_wsp._core"]
        sys.modules.update(hidden)
        if core is not None:
            pto_wsp._core = core  # type: ignore[attr-defined]


# ---- operations


@mistake("PTO101", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.matmul(x, x))  # <-- PTO101


@mistake("PTO102", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: x + h)  # <-- PTO102


@mistake("PTO103", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: x + pto.full((4, 4), 1.0))  # <-- PTO103


@mistake("PTO104", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.exp(n))  # <-- PTO104


@mistake("PTO105", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: x + "one")  # <-- PTO105


@mistake("PTO105", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: x + np.ones((4, 8), np.float32))  # <-- PTO105


@mistake("PTO106", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.full((4, 0), 1.0))  # <-- PTO106


@mistake("PTO107", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.matmul(x, x, h, transpose_b=True))  # <-- PTO107


@mistake("PTO108", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.rowmul(x, x))  # <-- PTO108


@mistake("PTO109", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: n + 0.5)  # <-- PTO109


@mistake("PTO109", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: h * 1e6)  # <-- PTO109


# ---- kernels


@mistake("PTO120", TraceError)
def _() -> None:
    @kernel  # <-- PTO120
    def k(x, y: Out[Tile[4, 4, F32]]):
        pto.store(y, x)


@mistake("PTO120", TraceError)
def _() -> None:
    @kernel  # <-- PTO120
    def k(x: "In[Tile[4, missing, F32]]"):  # noqa: F821
        pass


@mistake("PTO121", TraceError)
def _() -> None:
    Tile[4, -1, F32]  # <-- PTO121


@mistake("PTO121", TraceError)
def _() -> None:
    @kernel  # <-- PTO121
    def k(x: "In[Tile[4, 0, F32]]"):
        pass


@mistake("PTO122", TraceError)
def _() -> None:
    @kernel  # <-- PTO122
    def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        pto.exp(x)

    in_workload(lambda x, y: k(x=x[0], y=y[0]))


@mistake("PTO123", TraceError)
def _() -> None:
    @kernel
    def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        pto.store(y, x + y)  # <-- PTO123

    in_workload(lambda x, y: k(x=x[0], y=y[0]))


@mistake("PTO124", TraceError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.store(x, y))  # <-- PTO124


@mistake("PTO125", TypeCheckError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.store(y, h))  # <-- PTO125


@mistake("PTO126", TraceError)
def _() -> None:
    pto.full((4, 4), 1.0)  # <-- PTO126


@mistake("PTO127", TraceError)
def _() -> None:
    @kernel  # <-- PTO127
    def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        pto.store(y, x)
        return x

    in_workload(lambda x, y: k(x=x[0], y=y[0]))


@mistake("PTO127", TraceError)
def _() -> None:
    @kernel  # <-- PTO127
    def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        yield pto.store(y, x)

    k.wir()


@mistake("PTO127", TraceError)
def _() -> None:
    @kernel  # <-- PTO127
    async def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        pto.store(y, x)

    k.wir()


def test_a_generator_is_named() -> None:
    @kernel
    def k(y: Out[Tile[4, 4, F32]]):
        yield pto.store(y, 1.0)

    with pytest.raises(TraceError, match="generator or coroutine function"):
        k.wir()


@mistake("PTO128", TraceError)
def _() -> None:
    in_loops(lambda r, n, y: [1, 2][n])  # <-- PTO128


@pytest.mark.parametrize(
    ("use", "fix"),
    [
        (lambda n: [1, 2][n], r"element of a Python list, choose with pto\.cond"),
        (range, r"range\(\), loop with pto\.fori_loop"),
        (int, r"operators and pto\.cast take it"),
        (float, r"operators and pto\.cast take it"),
    ],
)
def test_the_number_of_a_scalar_is_not_there(use: Callable[[Any], object], fix: str) -> None:
    with pytest.raises(TraceError, match=fix):
        in_loops(lambda r, n, y: use(n))


@mistake("PTO102", TypeCheckError)
def _() -> None:
    @kernel
    def k(s: Scalar[DType.I8], y: Out[Tile[4, 4, DType.I64]]):
        pto.store(y, pto.full((4, 4), s, DType.I64))  # <-- PTO102

    k.wir()


@mistake("PTO102", TypeCheckError)
def _() -> None:
    @kernel
    def k(s: Scalar[DType.I64], y: Out[Tile[4, 4, DType.I8]]):
        pto.store(y, s)  # <-- PTO102

    k.wir()


def test_full_of_a_scalar_parameter_has_its_dtype() -> None:
    @kernel
    def k(s: Scalar[DType.I8], y: Out[Tile[4, 4, DType.I8]], z: Out[Tile[4, 4, I32]]):
        pto.store(y, pto.full((4, 4), s))
        pto.store(z, pto.full((4, 4), pto.cast(s, I32), I32))

    y, z = zeros(4, 4, dtype=np.int8), zeros(4, 4, dtype=np.int32)
    k.evaluate(s=-7, y=y, z=z)
    assert (y == -7).all() and (z == -7).all()


@mistake("PTO121", TraceError)
def _() -> None:
    @kernel
    def k(n: Constexpr[Any], y: Out[Tile[4, 4, F32]]):  # <-- PTO121
        pto.store(y, n)


@mistake("PTO128", TraceError)
def _() -> None:
    in_kernel(lambda x, y, h, n: 1 if x > 0.0 else 2)  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    in_kernel(lambda x, y, h, n: max(x, x * 2))  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    in_kernel(lambda x, y, h, n: 0.0 < x < 1.0)  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):
            if b == 0:  # <-- PTO128
                copy(x=x[b], y=y[b])

    in_workload(body)


@mistake("PTO128", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):
            for _ in range(b):  # <-- PTO128
                copy(x=x[b], y=y[b])

    in_workload(body)


@mistake("PTO129", TraceError)
def _() -> None:
    copy[0](x=Tensor(zeros(4, 4)), y=Tensor(zeros(4, 4)))  # <-- PTO129


@mistake("PTO129", TraceError)
def _() -> None:
    a, b = Tensor(zeros(4, 4)), Tensor(zeros(4, 4))
    in_kernel(lambda x, y, h, n: copy(a, b))  # <-- PTO129


@mistake("PTO130", TraceError)
def _() -> None:
    kept: list[Any] = []
    in_kernel(lambda x, y, h, n: kept.append(x * 2))
    in_kernel(lambda x, y, h, n: x + kept[0])  # <-- PTO130


@mistake("PTO131", TraceError)
def _() -> None:
    @kernel  # <-- PTO131
    def k(*x: In[Tile[4, 4, F32]]):
        pass


@mistake("PTO131", TraceError)
def _() -> None:
    @workload  # <-- PTO131
    def w(*x):
        pass

    w(1)


# ---- calls of kernels


def in_loops(body: Callable[..., object]) -> Any:
    """Trace `body(r, n, y)` as a kernel's: r is a region of f32, n an i32 scalar, y an f32<4x8> output that is written."""

    @kernel
    def k(r: InOut[Tensor[None, 8, F32]], n: Scalar[I32], y: Out[Tile[4, 8, F32]]):
        pto.store(y, 0.0)
        pto.store(r, pto.full((1, 8), 0.0), (0, 0))
        body(r, n, y)

    return k.wir()


@mistake("PTO128", TraceError)
def _() -> None:
    in_loops(lambda r, n, y: [pto.store(y, float(i)) for i in range(n)])  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    in_loops(lambda r, n, y: pto.store(y, 1.0) if n > 0 else None)  # <-- PTO128


@mistake("PTO132", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: r + 1.0)  # <-- PTO132


@mistake("PTO133", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.load(r, (n,), (4, 8)))  # <-- PTO133


@mistake("PTO133", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.load(r, (n, 0)))  # <-- PTO133


@mistake("PTO134", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.load(r, (0.5, 0), (4, 8)))  # <-- PTO134


@mistake("PTO134", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, y, lambda i, c: c, 0))  # <-- PTO134


@mistake("PTO135", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, n, lambda i, c: (c, c), 0))  # <-- PTO135


@mistake("PTO135", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, n, lambda i, c: pto.cast(c, DType.F64), 0))  # <-- PTO135


@mistake("PTO135", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, n, lambda i, c: pto.cast(c, F16), pto.load(y)))  # <-- PTO135


@mistake("PTO135", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.cond(n > 0, lambda: 1.0, lambda: 1))  # <-- PTO135


@mistake("PTO135", TypeCheckError)
def _() -> None:
    in_loops(
        lambda r, n, y: pto.fori_loop(0, n, lambda i, c: pto.load(r, (i, 0), (4, 8)), pto.load(y))  # <-- PTO135
    )


@mistake("PTO136", TraceError)
def _() -> None:
    in_loops(
        lambda r, n, y: pto.fori_loop(0, pto.cast(pto.item(r, (0, 0)), DType.I64), lambda i, c: c, 0)  # <-- PTO136
    )


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, n, 3, 0))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, 10**12, lambda i, c: c, 0))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.cond(n, lambda: 0, lambda: 1))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, n, lambda i, c: "one", 0))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, n, lambda i: None, None))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.fori_loop(0, n, lambda i, a, b: (a, b), (0, 1)))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.cond(n > 0, lambda: 0))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.cond(n > 0, lambda: 0, lambda x: 1))  # <-- PTO137


@mistake("PTO137", TypeCheckError)
def _() -> None:
    in_loops(lambda r, n, y: pto.cond(True, lambda x: x, lambda: 1, n))  # <-- PTO137


@mistake("PTO190", TypeCheckError)
def _() -> None:
    @ptoisa_kernel
    def k(n: Scalar[I32], y: Out[Tile[4, 8, F32]]):
        ptoisa.fori_loop(0, n, lambda: None)  # <-- PTO190

    k.wir()


@mistake("PTO138", TraceError)
def _() -> None:
    def body(r: Any, n: Any, y: Any) -> None:
        seen: list[Any] = []
        pto.fori_loop(0, n, lambda i, c: seen.append(i), None)
        pto.store(y, pto.load(y) + seen[0])  # <-- PTO138

    in_loops(body)


@mistake("PTO163", BoundsError)
def _() -> None:
    in_loops(lambda r, n, y: pto.load(r, (0, 8), (4, 8)))  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    in_loops(lambda r, n, y: pto.restrict(y, 0, 8))  # <-- PTO163


def evaluated(body: Callable[..., object], n: int) -> None:
    run_kernel(in_loops(body), {"r": zeros(3, 8), "n": np.int32(n), "y": zeros(4, 8)})


@mistake("PTO710", KernelError)
def _() -> None:
    evaluated(lambda r, n, y: pto.debug_print("y", pto.restrict(y, pto.maximum(n, 0), 8)), 5)  # <-- PTO710


@mistake("PTO732", BoundsError)
def _() -> None:
    evaluated(lambda r, n, y: pto.load(r, (n, 0), (4, 8)), 3)  # <-- PTO732


@mistake("PTO732", BoundsError)
def _() -> None:
    evaluated(lambda r, n, y: pto.store(r, pto.load(y), (n, 0)), 0)  # <-- PTO732


@mistake("PTO732", BoundsError)
def _() -> None:
    evaluated(lambda r, n, y: pto.debug_print("x", pto.item(r, (n, 0))), -1)  # <-- PTO732


@mistake("PTO733", KernelError)
def _() -> None:
    evaluated(lambda r, n, y: pto.fori_loop(0, pto.cast(n, DType.I64) << 40, lambda i, c: c, 0), 1)  # <-- PTO733


@mistake("PTO733", KernelError)
def _() -> None:
    @kernel
    def k(n: Scalar[DType.I64], out: Out[Tile[4, 8, F32]]):
        pto.store(out, pto.fori_loop(0, n, lambda i, c: c + 1.0, pto.full((4, 8), 0.0)))  # <-- PTO733

    k.cost(n=2**31)


def slow_to_walk(*trips: int) -> Callable[..., Any]:
    """A kernel of nested loops whose trips cost differently."""

    @kernel
    def k(n: Scalar[DType.I64], out: Out[Tile[4, 8, F32]]):
        def turn(i: Any, a: Any, rest: tuple[int, ...]) -> Any:
            if rest:
                return pto.fori_loop(0, rest[0], lambda j, b: turn(j, b, rest[1:]), a)  # <-- PTO733
            return pto.cond(i > 2, lambda: a + 1.0, lambda: a * 2.0)

        pto.store(out, pto.fori_loop(0, n, lambda i, a: turn(i, a, trips), pto.full((4, 8), 0.0)))  # <-- PTO733

    return k


@mistake("PTO733", KernelError)
def _() -> None:
    slow_to_walk().cost(n=2**31 - 1)


@mistake("PTO733", KernelError)
def _() -> None:
    slow_to_walk().roofline(n=10**6)


@mistake("PTO733", KernelError)
def _() -> None:
    slow_to_walk(1000).cost(n=1000)


def evaluated_twice(body: Callable[[bool, Any, Any, Any], object]) -> None:
    """Evaluate a kernel whose body is told whether it runs for the second time, with numbers."""
    calls: list[int] = []

    @kernel
    def k(x: In[Tile[4, 8, F32]], n: Scalar[I32], y: Out[Tile[4, 8, F32]]):
        calls.append(1)
        body(len(calls) > 1, x, n, y)

    k.evaluate(x=zeros(4, 8), n=3, y=zeros(4, 8))


def sum_of_ones(x: Any, n: Any) -> Any:
    return pto.fori_loop(0, n, lambda i, a: a + 1.0, x)  # <-- PTO139


@mistake("PTO139", TraceError)
def _() -> None:
    evaluated_twice(lambda again, x, n, y: pto.store(y, x * (2.0 if again else 1.0)))  # <-- PTO139


@mistake("PTO139", TraceError)
def _() -> None:
    evaluated_twice(lambda again, x, n, y: pto.store(y, x + 1.0 if again else x))  # <-- PTO139


@mistake("PTO139", TraceError)
def _() -> None:
    evaluated_twice(lambda again, x, n, y: pto.store(y, x if again else x + 1.0))  # <-- PTO139


@mistake("PTO139", TraceError)
def _() -> None:
    def body(again: bool, x: Any, n: Any, y: Any) -> None:
        pto.store(y, x)
        if again:
            pto.store(y, 2.0)  # <-- PTO139

    evaluated_twice(body)


@mistake("PTO139", TraceError)
def _() -> None:
    @kernel
    def k(x: In[Tile[4, 8, F32]], y: Out[Tile[4, 8, F32]]):
        pto.store(y, x)
        if not seen:
            pto.store(y, 2.0)
        seen.append(1)

    seen: list[int] = []
    k.evaluate(x=zeros(4, 8), y=zeros(4, 8))  # <-- PTO139


@mistake("PTO139", TraceError)
def _() -> None:
    evaluated_twice(lambda again, x, n, y: pto.store(y, sum_of_ones(x, n) if again else x))


@mistake("PTO139", TraceError)
def _() -> None:
    def body(again: bool, x: Any, n: Any, y: Any) -> None:
        pto.store(y, x)
        if again:
            pto.cond(True if not again else n > 1, lambda: None, lambda: None)  # <-- PTO139

    evaluated_twice(body)


@mistake("PTO139", TraceError)
def _() -> None:
    def body(again: bool, x: Any, n: Any, y: Any) -> None:
        pto.store(y, 0.0)
        pto.fori_loop(0, 1 if again else 2, lambda i, a: a + 1.0, pto.load(x))  # <-- PTO139

    evaluated_twice(body)


@mistake("PTO139", TraceError)
def _() -> None:
    turns: list[int] = []

    def turn(i: Any, a: Any) -> Any:
        turns.append(1)
        return a * 2.0 if len(turns) > 2 else a + 1.0  # <-- PTO139

    evaluated_twice(lambda again, x, n, y: pto.store(y, pto.fori_loop(0, n, turn, pto.load(x))))


@mistake("PTO139", TraceError)
def _() -> None:
    def body(again: bool, x: Any, n: Any, y: Any) -> None:
        def turn(i: Any, a: Any) -> Any:
            if not again:
                pto.debug_print("a", a)
            return a

        pto.store(y, pto.fori_loop(0, n, turn, pto.load(x)))  # <-- PTO139

    evaluated_twice(body)


@mistake("PTO139", TraceError)
def _() -> None:
    def body(again: bool, x: Any, n: Any, y: Any) -> None:
        a, b = x + 1.0, x + 2.0
        pto.store(y, pto.cond(n > 1, lambda: b if again else a, lambda: a))  # <-- PTO139

    evaluated_twice(body)


@mistake("PTO139", TraceError)
def _() -> None:
    calls: list[int] = []

    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], n: Scalar[I32], y: Out[Tile[4, 8, F32]]):
        calls.append(1)
        a = ptoisa.tile(4, 8)
        ptoisa.TLOAD(a, x)
        if len(calls) > 1:
            ptoisa.fori_loop(0, n, lambda i: ptoisa.TADDS(a, a, 1.0))  # <-- PTO139
        ptoisa.TSTORE(y, a)

    k.evaluate(x=zeros(4, 8), n=3, y=zeros(4, 8))


def test_what_is_computed_of_the_result_of_a_loop_in_a_loop_is_where_it_was_in_the_trace() -> None:
    @kernel
    def k(n: Scalar[I32], y: Out[Tile[4, 8, F32]]):
        def turn(i: Any, a: Any) -> Any:
            count = pto.fori_loop(0, i, lambda j, c: c + 2, pto.cast(n, DType.I64))
            return a + pto.cast(count, F32)

        pto.store(y, pto.fori_loop(0, 3, turn, pto.full((4, 8), 0.0)))

    y = zeros(4, 8)
    k.evaluate(n=10, y=y)
    assert (y == 10 + 12 + 14).all()


def test_what_a_kernel_raises_by_itself_stays_what_it_is() -> None:
    def body(again: bool, x: Any, n: Any, y: Any) -> None:
        pto.store(y, x)
        if again:
            raise KeyError("of the kernel's")

    with pytest.raises(KeyError, match="of the kernel's"):
        evaluated_twice(body)


@mistake("PTO505", BindError)
def _() -> None:
    y = zeros(4, 4)
    y.flags.writeable = False
    copy.evaluate(x=zeros(4, 4), y=y)  # <-- PTO505


@mistake("PTO140", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: copy(x=x[0], y=y[0], z=x[1]))  # <-- PTO140


@mistake("PTO140", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0], y=y[1]))  # <-- PTO140


@mistake("PTO140", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0], y[1]))  # <-- PTO140


@mistake("PTO141", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: copy(x=x[0]))  # <-- PTO141


@mistake("PTO142", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: copy(x=zeros(4, 4), y=y[0]))  # <-- PTO142


@mistake("PTO142", TypeCheckError)
def _() -> None:
    a, b = Tensor(zeros(4, 4, dtype=np.int32)), Tensor(zeros(4, 4, dtype=np.int32))
    in_workload(lambda x, y: scaled(x=a, s=x[0], y=b))  # <-- PTO142


@mistake("PTO143", TypeCheckError)
def _() -> None:
    half = Tensor(zeros(4, 4, dtype=np.float16))
    in_workload(lambda x, y: copy(x=half, y=y[0]))  # <-- PTO143


@mistake("PTO144", TypeCheckError)
def _() -> None:
    small = Tensor(zeros(8, 8))
    in_workload(lambda x, y: copy(x=small, y=y[0]))  # <-- PTO144


@mistake("PTO144", TypeCheckError)
def _() -> None:
    @kernel
    def k(x: In[Tensor], y: Out[Tile[4, 4, F32]]):
        pto.store(y, 0.0)

    in_workload(lambda x, y: k(x=x, y=y[0]))  # <-- PTO144


@mistake("PTO145", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: copy(x=y[0], y=y[0]))  # <-- PTO145


@mistake("PTO145", TypeCheckError)
def _() -> None:
    a = Tensor(zeros(6, 4))
    in_workload(lambda x, y: copy(x=a[0:4], y=a[2:6]))  # <-- PTO145


@mistake("PTO146", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: power(x=x[0], n=2.0, y=y[0]))  # <-- PTO146


@mistake("PTO146", TypeCheckError)
def _() -> None:
    @kernel
    def k(n: Constexpr[list], y: Out[Tile[4, 4, F32]]):
        pto.store(y, 0.0)

    in_workload(lambda x, y: k(n=[1], y=y[0]))  # <-- PTO146


# ---- loops


@mistake("PTO150", TraceError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[b], y[b]) for b in P(Dense)])  # <-- PTO150


@mistake("PTO150", TraceError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[b], y[b]) for b in P()])  # <-- PTO150


@mistake("PTO150", TraceError)
def _() -> None:
    batch = Dense[4]()
    in_workload(lambda x, y: [copy(x[b], y[b]) for b in batch])  # <-- PTO150


@mistake("PTO151", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):  # <-- PTO151
            copy(x=x[b], y=y[b])
            break

    in_workload(body)


@mistake("PTO151", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):  # <-- PTO151
            copy(x=x[b], y=y[b])
            return

    in_workload(body)


@mistake("PTO151", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        try:
            for _ in P(4):  # <-- PTO151
                raise ValueError
        except ValueError:
            copy(x=x[0], y=y[0])

    in_workload(body)


@mistake("PTO151", TraceError)
def _() -> None:
    kept: list[Any] = []

    def body(x: Any, y: Any) -> None:
        kept.append(iter(P(4)))  # <-- PTO151
        b = next(kept[0])
        copy(x=x[b], y=y[b])

    in_workload(body)


@mistake("PTO152", TraceError)
def _() -> None:
    P(4)  # <-- PTO152


@mistake("PTO152", TraceError)
def _() -> None:
    in_kernel(lambda x, y, h, n: [x for _ in P(4)])  # <-- PTO152


@mistake("PTO153", TraceError)
def a_dynamic_axis_without_a_name_in_a_shape() -> None:
    spec = TensorSpec((DenseDyn(), 4, 4), DType.F32)

    @workload
    def w(X):
        for i in P(2):
            copy[i](x=X[i], y=X[i + 2])  # <-- PTO153

    w(spec)


@mistake("PTO153", TraceError)
def _() -> None:
    Dense["four"]  # <-- PTO153


@mistake("PTO153", TraceError)
def _() -> None:
    Dense[4]().tiles(0)  # <-- PTO153


@mistake("PTO154", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b, c in P(4):  # <-- PTO154
            copy(x=x[b], y=y[c])

    in_workload(body)


@mistake("PTO154", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b, c, _ in P(4, 2):  # <-- PTO154
            copy(x=x[b], y=y[c])

    in_workload(body)


@mistake("PTO155", TypeCheckError)
def _() -> None:
    copied(zeros(8, 4, 4))  # <-- PTO155


@mistake("PTO155", TraceError)
def _() -> None:
    combine(copied)  # <-- PTO155


@mistake("PTO155", TraceError)
def _() -> None:
    make_wir(abs)  # type: ignore[arg-type] # <-- PTO155


@mistake("PTO156", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(DenseDyn(4, name="n")):
            copy(x=x[b], y=y[b])
        for b in P(DenseDyn(5, name="n")):  # <-- PTO156
            copy(x=x[b], y=y[b])

    in_workload(body)


@mistake("PTO156", TraceError)
def _() -> None:
    a, b = Tensor(zeros(4, 4), name="A"), Tensor(zeros(4, 4), name="A")
    in_workload(lambda x, y: copy(x=a, y=b))  # <-- PTO156


@mistake("PTO156", TraceError)
def _() -> None:
    parts = [copied(zeros(4, 4, 4), zeros(4, 4, 4), DenseDyn(n, name="n")) for n in (3, 4)]
    sequential(*parts)  # <-- PTO156


@mistake("PTO157", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):
            copy(x=x[b], y=y[b])
        copy(x=x[b], y=y[7])  # <-- PTO157

    in_workload(body)


@mistake("PTO158", TraceError)
def _() -> None:
    kept: list[Any] = []

    def body(x: Any, y: Any) -> None:
        for b in P(4):
            kept.append(b)
            copy(x=x[kept[0]], y=y[b])  # <-- PTO158

    in_workload(body)
    in_workload(body)


@mistake("PTO158", TraceError)
def _() -> None:
    kept: list[Any] = []
    in_workload(lambda x, y: [kept.append(P(4)), copy(x[0], y[0])])
    in_workload(lambda x, y: [copy(x[0], y[b]) for b in kept[0]])  # <-- PTO158


# ---- views


@mistake("PTO160", TraceError)
def _() -> None:
    in_workload(lambda x, y: copy(x=x[0, 0, 0, 0], y=y[0]))  # <-- PTO160


@mistake("PTO161", TraceError)
def _() -> None:
    in_workload(lambda x, y: copy(x=x["first"], y=y[0]))  # <-- PTO161


@mistake("PTO161", TraceError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[b], y[0.5]) for b in P(4)])  # <-- PTO161


@mistake("PTO162", TraceError)
def _() -> None:
    in_workload(lambda x, y: copy(x=x[0, ::2], y=y[0]))  # <-- PTO162


@mistake("PTO162", TypeCheckError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[0, 0:b], y[0]) for b in P(4)])  # <-- PTO162


@mistake("PTO163", BoundsError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[b], y[b]) for b in P(9)])  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    in_workload(lambda x, y: copy(x=x[-9], y=y[0]))  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    tall = Dense[20]()
    in_workload(lambda x, y: [copy(x[0, i], y[0, i]) for i in P(tall.tiles(4))])  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    @workload
    def w(x, y):
        for b in P(DenseDyn(name="n")):
            copy(x=x[b], y=y[b])  # <-- PTO163

    w(zeros(8, 4, 4), zeros(8, 4, 4)).compile().set_axis_sizes({"n": 9}).run()


@mistake("PTO163", BoundsError)
def _() -> None:
    @workload
    def w(x, y):
        for b in P(8):
            copy(x=x[b * b % 16], y=y[b])  # <-- PTO163

    w(zeros(8, 4, 4), zeros(8, 4, 4)).compile().run()


# ---- regions


def of_regions(body: Callable[..., object], lengths: tuple[int, ...] = (4, 2, 0, 1)) -> Any:
    """Trace `body(k, x, n)` as a workload's: k writes to a region of f32 with 4 columns; x is f32[8,4,4], n an i32[4]."""

    @kernel
    def k(r: InOut[Tensor[None, 4, F32]]):
        pto.store(r, pto.full((1, 4), 1.0), (0, 0))

    @workload
    def w(x, n):
        body(k, x, n)

    return w(zeros(8, 4, 4), np.array(lengths, np.int32))


@mistake("PTO142", TypeCheckError)
def _() -> None:
    of_regions(lambda k, x, n: k(zeros(4, 4)))  # <-- PTO142


@mistake("PTO143", TypeCheckError)
def _() -> None:
    of_regions(lambda k, x, n: k(n))  # <-- PTO143


@mistake("PTO144", TypeCheckError)
def _() -> None:
    of_regions(lambda k, x, n: k(x))  # <-- PTO144


@mistake("PTO144", TypeCheckError)
def _() -> None:
    of_regions(lambda k, x, n: k(x[0, 0]))  # <-- PTO144


@mistake("PTO144", TypeCheckError)
def _() -> None:
    of_regions(lambda k, x, n: k(x[0, :, :3]))  # <-- PTO144


@mistake("PTO144", TypeCheckError)
def _() -> None:
    of_regions(lambda k, x, n: k(x[0, :, : item(n[0])]))  # <-- PTO144


@mistake("PTO144", TypeCheckError)
def _() -> None:
    of_regions(lambda k, x, n: k(x[n, 0]))  # <-- PTO144


@mistake("PTO162", TraceError)
def _() -> None:
    of_regions(lambda k, x, n: k(x[0, : item(n[0])][:1]))  # <-- PTO162


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: k(x[0, 3:2]))  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: k(x[0, 2:5]))  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: [k(x[b, : b + 1]) for b in P(8)])  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: [k(x[b, b - 1 : 2]) for b in P(3)])  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: [k(x[b, b:2]) for b in P(4)]).compile().run()  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: [k(x[b, : item(n[b])]) for b in P.seq(4)], (4, 2, 5, 1)).compile().run()  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: [k(x[b, : item(n[b])]) for b in P.seq(4)], (4, -1, 0, 1)).compile().run()  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    of_regions(lambda k, x, n: [k(x[b, item(n[b]) :]) for b in P.seq(4)], (1, 2, 5, 1)).compile().run()  # <-- PTO163


@mistake("PTO163", BoundsError)
def _() -> None:
    w = of_regions(lambda k, x, n: [k(x[0, :b]) for b in P.seq(DenseDyn(name="n"))])  # <-- PTO163
    w.compile().set_axis_sizes({"n": 6}).run()


@mistake("PTO164", TraceError)
def _() -> None:
    TensorSpec((4, -1), F32)  # <-- PTO164


@mistake("PTO164", TraceError)
def _() -> None:
    TensorSpec((4, 4), np.float32)  # type: ignore[arg-type] # <-- PTO164


@mistake("PTO180", TraceError)
def _() -> None:
    @workload
    def even(x, y):
        odd(x, y)

    @workload
    def odd(x, y):
        even(x, y)  # <-- PTO180

    even(zeros(4, 4), zeros(4, 4))


@mistake("PTO181", TraceError)
def _() -> None:
    @workload  # <-- PTO181
    def w(x):
        return x

    w(zeros(4, 4))


@mistake("PTO181", TraceError)
def _() -> None:
    @workload  # <-- PTO181
    def part(x):
        y = empty_like(x)
        copy(x=x, y=y)
        return y[0:2]

    in_workload(lambda x, y: part(x[0]))


@mistake("PTO182", TraceError)
def _() -> None:
    @workload  # <-- PTO182
    def w(y):
        copy(x=empty((4, 4), F32), y=y)

    w(zeros(4, 4))


@mistake("PTO182", TraceError)
def _() -> None:
    @workload  # <-- PTO182
    def w():
        return empty((4, 4), F32)

    w()


@mistake("PTO183", TraceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):
            for c in P(b + 1):
                t = empty((4, 4), F32)  # <-- PTO183
                copy(x=x[b], y=t)
                copy(x=t, y=y[b, c])

    in_workload(body)


@mistake("PTO184", TypeCheckError)
def _() -> None:
    vmap(copied)(zeros(3, 4, 4, 4), zeros(2, 4, 4, 4), 4)  # <-- PTO184


@mistake("PTO186", TypeCheckError)
def _() -> None:
    @workload
    def step(carry, x):
        copy(x=x, y=carry)

    scan(step)(zeros(4, 4), zeros(2, 4, 4))  # <-- PTO186


@mistake("PTO201", RaceError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[b], y[0]) for b in P(4)])  # <-- PTO201


@mistake("PTO201", RaceError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):
            copy(x=y[b], y=x[b + 1])  # <-- PTO201
            copy(x=x[b], y=y[b + 4])

    in_workload(body)


@mistake("PTO201", RaceError)
def _() -> None:
    @workload
    def w(x, y, n):
        for b in P(n):
            copy(x=x[b], y=y[0])  # <-- PTO201

    w(zeros(8, 4, 4), zeros(8, 4, 4), DenseDyn(2)).compile().run()


# ---- scalars of workloads


def of_data(body: Callable[..., object], **options: Any) -> Any:
    """Trace `body(x, y, n)` as a workload's: two tensors f32[8,4,4] and an i32[4]."""

    @workload
    def w(x, y, n):
        body(x, y, n)

    return w(zeros(8, 4, 4), zeros(8, 4, 4), zeros(4, dtype=np.int32))


@mistake("PTO128", TraceError)
def _() -> None:
    of_data(lambda x, y, n: copy(x[0], y[0]) if item(n[0]) > 2 else None)  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    of_data(lambda x, y, n: item(n[0]) > 2 and item(n[1]) > 2)  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    of_data(lambda x, y, n: [copy(x[b], y[0]) for b in P(4) if 0 < b < 2])  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    of_data(lambda x, y, n: min(item(n[0]), 4))  # <-- PTO128


@mistake("PTO128", TraceError)
def _() -> None:
    of_data(lambda x, y, n: int(item(n[0])))  # <-- PTO128


@mistake("PTO157", TraceError)
def a_value_of_one_iteration_used_outside() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        for b in P(4):
            k = item(n[b])
        copy(x[k], y[0])  # <-- PTO157

    of_data(body)


@mistake("PTO158", TraceError)
def a_value_of_another_workload() -> None:
    kept: list[Any] = []
    of_data(lambda x, y, n: kept.append(item(n[0])))
    of_data(lambda x, y, n: copy(x[kept[0]], y[0]))  # <-- PTO158


@mistake("PTO158", TraceError)
def an_expression_of_two_workloads() -> None:
    kept: list[Any] = []
    of_data(lambda x, y, n: kept.append(item(n[0])))
    of_data(lambda x, y, n: copy(x[item(n[0]) + kept[0]], y[0]))  # <-- PTO158


@mistake("PTO161", TraceError)
def an_index_of_f64() -> None:
    of_data(lambda x, y, n: copy(x[item(x[0, 0, 0])], y[0]))  # <-- PTO161


@mistake("PTO161", TraceError)
def a_gather_through_floats() -> None:
    of_data(lambda x, y, n: copy(x[0, x[0, 0]], y[0]))  # <-- PTO161


@mistake("PTO161", TraceError)
def an_index_that_no_loop_bounds() -> None:
    of_data(lambda x, y, n: copy(x[: item(n[0])][2], y[0]))  # <-- PTO161


@mistake("PTO170", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: item(n[0]) + item(x[0, 0, 0]))  # <-- PTO170


@mistake("PTO170", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: item(n[0]) * 0.5)  # <-- PTO170


@mistake("PTO170", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: cast(item(n[0]), DType.U64) < item(n[1]))  # <-- PTO170


@mistake("PTO171", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: [b / 2 for b in P(4)])  # <-- PTO171


@mistake("PTO171", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: item(x[0, 0, 0]) & 1)  # <-- PTO171


@mistake("PTO171", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: cast(item(n[0]), DType.I32))  # <-- PTO171


@mistake("PTO171", TypeCheckError)
def a_sum_of_bools() -> None:
    bools = Tensor(zeros(4, dtype=np.bool_))
    of_data(lambda x, y, n: reduce_sum(bools))  # <-- PTO171


@mistake("PTO405", CompileError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.full((70000, 70000), 1.0))  # <-- PTO405


@mistake("PTO405", CompileError)
def _() -> None:
    in_kernel(lambda x, y, h, n: pto.broadcast(pto.rowmax(x), (4, 2**31)))  # <-- PTO405


@mistake("PTO405", CompileError)
def _() -> None:
    @kernel
    def k(x: In[Tensor], y: Out[Tile[4, 4, F32]]):
        pto.store(y, 0.0)

    huge = Tensor(np.broadcast_to(np.float32(0), (70000, 70000)))
    in_workload(lambda x, y: k(x=huge, y=y[0]))  # <-- PTO405


@mistake("PTO405", CompileError)
def an_index_that_doubles_in_each_step() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        for b in P(4):
            for _ in range(24):
                b = b * b  # <-- PTO405

    of_data(body)


@mistake("PTO172", TraceError)
def _() -> None:
    of_data(lambda x, y, n: item(n))  # <-- PTO172


@mistake("PTO172", TraceError)
def _() -> None:
    of_data(lambda x, y, n: reduce_sum([1, 2]))  # <-- PTO172


@mistake("PTO172", TraceError)
def _() -> None:
    of_data(lambda x, y, n: reduce_sum(n[n]))  # <-- PTO172


@mistake("PTO174", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: where(item(n[0]), 1, 2))  # <-- PTO174


@mistake("PTO150", TraceError)
def a_ragged_axis_instead_of_its_row() -> None:
    lens = Ragged(4, [1, 2, 3, 4])
    of_data(lambda x, y, n: [copy(x[b], y[b]) for b in P(lens)])  # <-- PTO150


@mistake("PTO150", TraceError)
def a_sparse_row_without_sel() -> None:
    routing = Sparse(2, [0, 1, 2], [3, 1])
    of_data(lambda x, y, n: [copy(x[e], y[e]) for e in P(routing[0])])  # <-- PTO150


@mistake("PTO152", TraceError)
def when_outside_of_a_workload() -> None:
    with P.when(True):  # <-- PTO152
        pass


@mistake("PTO154", TraceError)
def _() -> None:
    of_data(lambda x, y, n: P.seq(2, 3, while_=lambda: True))  # <-- PTO154


@mistake("PTO157", TraceError)
def a_scalar_of_a_branch_used_after_it() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        with P.when(item(n[0]) > 0):
            k = item(n[1])
        copy(x[k], y[0])  # <-- PTO157

    of_data(body)


@mistake("PTO173", TraceError)
def _() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        with P.otherwise():  # <-- PTO173
            copy(x[0], y[0])

    of_data(body)


@mistake("PTO173", TraceError)
def a_task_between_when_and_otherwise() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        with P.when(item(n[0]) > 0):
            copy(x[0], y[0])
        copy(x[1], y[1])
        with P.otherwise():  # <-- PTO173
            copy(x[0], y[0])

    of_data(body)


@mistake("PTO173", TraceError)
def otherwise_after_the_last() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        with P.when(item(n[0]) > 0):
            copy(x[0], y[0])
        with P.otherwise():
            copy(x[1], y[0])
        with P.otherwise():  # <-- PTO173
            copy(x[2], y[0])

    of_data(body)


@mistake("PTO174", TypeCheckError)
def _() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        with P.when(item(n[0])):  # <-- PTO174
            copy(x[0], y[0])

    of_data(body)


@mistake("PTO174", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: [copy(x[0], y[0]) for _ in P.seq(3, while_=n)])  # <-- PTO174


@mistake("PTO174", TraceError)
def a_task_in_a_condition() -> None:
    def more(x: Any, y: Any, n: Any) -> bool:
        copy(x[0], y[0])
        return True

    of_data(lambda x, y, n: [copy(x[0], y[0]) for _ in P.seq(3, while_=lambda: more(x, y, n))])  # <-- PTO174


@mistake("PTO175", TraceError)
def _() -> None:
    of_data(lambda x, y, n: slot_i64(64))  # <-- PTO175


@mistake("PTO175", TraceError)
def _() -> None:
    of_data(lambda x, y, n: [slot_set_i64(b, 1) for b in P(4)])  # <-- PTO175


@mistake("PTO176", TypeCheckError)
def one_slot_with_two_types() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        slot_set_i64(0, 1)
        slot_u64(0)  # <-- PTO176

    of_data(body)


@mistake("PTO176", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: slot_load_i64(0, x[0, 0, 0]))  # <-- PTO176


@mistake("PTO170", TypeCheckError)
def _() -> None:
    of_data(lambda x, y, n: slot_set_i64(0, 0.5))  # <-- PTO170


@mistake("PTO179", TraceError)
def a_variant_of_other_parameters() -> None:
    @kernel
    def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        pto.store(y, x)

    @k.variant  # <-- PTO179
    def k(x: In[Tile[4, 4, F32]], z: Out[Tile[4, 4, F32]]):  # type: ignore[no-redef]
        pto.store(z, x)


@mistake("PTO179", TraceError)
def a_condition_of_other_parameters() -> None:
    copy.variant(lambda: None, when=lambda n: n > 2)  # <-- PTO179


@mistake("PTO179", TraceError)
def a_variant_of_nothing() -> None:
    @kernel.variant(when=lambda n: n > 2)  # <-- PTO179
    def not_there(n: Scalar[I32], y: Out[Tile[4, 4, F32]]):
        pto.store(y, 1.0)


@mistake("PTO179", TypeCheckError)
def no_variant_that_fits() -> None:
    @kernel
    def k(x: In[Tile[4, 4, F16]], y: Out[Tile[4, 4, F16]]):
        pto.store(y, x)

    @k.variant(when=lambda x: x.shape[0] == 8)
    def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):  # type: ignore[no-redef]
        pto.store(y, x)

    of_data(lambda x, y, n: k(x=x[0], y=y[0]))  # <-- PTO179


@mistake("PTO179", TypeCheckError)
def variants_that_may_all_fail() -> None:
    @kernel
    def k(x: In[Tile[4, 4, F16]], n: Scalar[I32], y: Out[Tile[4, 4, F16]]):
        pto.store(y, x)

    @k.variant(when=lambda n: n > 3)
    def k(x: In[Tile[4, 4, F32]], n: Scalar[I32], y: Out[Tile[4, 4, F32]]):  # type: ignore[no-redef]
        pto.store(y, x)

    of_data(lambda x, y, n: k(x=x[0], n=n[0], y=y[0]))  # <-- PTO179


@mistake("PTO188", TraceError)
def _() -> None:
    of_data(lambda x, y, n: copy(x[0], y[0], after=x))  # <-- PTO188


@mistake("PTO158", TraceError)
def after_a_task_of_another_workload() -> None:
    kept: list[Any] = []
    of_data(lambda x, y, n: kept.append(copy(x[0], y[0])))
    of_data(lambda x, y, n: copy(x[0], y[0], after=kept[0]))  # <-- PTO158


@mistake("PTO131", TraceError)
def _() -> None:
    @kernel  # <-- PTO131
    def k(x: In[Tile[4, 4, F32]], after: Out[Tile[4, 4, F32]]):
        pto.store(after, x)


@mistake("PTO121", TraceError)
def _() -> None:
    Tile[4, 4, np.float64]  # type: ignore[type-arg] # <-- PTO121


@mistake("PTO121", TraceError)
def _() -> None:
    Scalar["i64"]  # <-- PTO121


@mistake("PTO177", TraceError)
def a_ragged_axis_of_a_ragged_row() -> None:
    lens = Ragged(4, [1, 2, 3, 4])
    Ragged(lens, [1, 2])  # type: ignore[arg-type] # <-- PTO177


@mistake("PTO177", TraceError)
def _() -> None:
    Ragged(4, Tensor(zeros(4)))  # <-- PTO177


@mistake("PTO177", TraceError)
def _() -> None:
    Ragged(4, Tensor(zeros(4, 2, dtype=np.int32)))  # <-- PTO177


@mistake("PTO177", TraceError)
def _() -> None:
    Ragged(2, [0.5, 1.5])  # type: ignore[list-item] # <-- PTO177


@mistake("PTO177", TraceError)
def _() -> None:
    Sparse(2, [0, 1, 2], [3, 1], inner=2.5)  # type: ignore[arg-type] # <-- PTO177


@mistake("PTO178", TraceError)
def _() -> None:
    of_data(lambda x, y, n: P.sel([1, 2]))  # <-- PTO178


@mistake("PTO178", TraceError)
def _() -> None:
    lens = Ragged(4, [1, 2, 3, 4])
    of_data(lambda x, y, n: P.sel(lens[0]))  # <-- PTO178


@mistake("PTO187", TraceError)
def continue_in_a_branch() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        for b in P(4):
            with P.when(item(n[b]) > 0):
                continue  # <-- PTO187
            copy(x[b], y[b])

    of_data(body)


@mistake("PTO187", TraceError)
def return_in_a_branch() -> None:
    def body(x: Any, y: Any, n: Any) -> None:
        with P.when(item(n[0]) > 0):
            copy(x[0], y[0])
            return  # <-- PTO187
        copy(x[1], y[1])

    of_data(body)


@mistake("PTO513", BindError)
def _() -> None:
    Ragged(3, [1, -2, 3])  # <-- PTO513


@mistake("PTO513", BindError)
def _() -> None:
    Ragged(Dense[3](), [1, 2])  # <-- PTO513


@mistake("PTO513", BindError)
def _() -> None:
    Ragged(3, Tensor(zeros(2, dtype=np.int32)))  # <-- PTO513


@mistake("PTO514", BindError)
def _() -> None:
    Sparse(3, [0, 2, 1, 3], [0, 1, 2])  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    Sparse(3, [1, 1, 2, 3], [0, 1, 2])  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    Sparse(3, [0, 1, 3], [0, 1, 2])  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    Sparse(3, [0, 1, 2, 3], [0, 1, 2, 3])  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    Sparse(3, [0, 1, 2, 3], [0, 1, 4], inner=Dense[4]())  # <-- PTO514


@mistake("PTO185", TraceError)
def _() -> None:
    Tensor(zeros(4, 2, dtype=np.int32), fields=("request", "request"))  # <-- PTO185


@mistake("PTO185", TraceError)
def _() -> None:
    TensorSpec((4, 2), F32, fields=("request", "start"))  # <-- PTO185


@mistake("PTO502", BindError)
def _() -> None:
    Tensor(np.zeros(4, np.dtype([("request", np.int32), ("start", np.float32)])))  # <-- PTO502


@mistake("PTO713", BoundsError)
def _() -> None:
    of_data(lambda x, y, n: cast(item(n[0]), DType.U64) + -1)  # <-- PTO713


@mistake("PTO716", ExecutionError)
def _() -> None:
    of_data(lambda x, y, n: item(n[0]) << 64)  # <-- PTO716


# ---- wir, targets, schedules


@mistake("PTO202", RaceError)
def _() -> None:
    refuse_races(parse("workload w { parallel_for b in b: Range(4) { slot_set[slot=3] (b)\n } }"))  # <-- PTO202


@mistake("PTO203", RaceError)
def _() -> None:
    w = in_workload(lambda x, y: [copy(x=x[0], y=y[0]), copy(x=x[1], y=y[0])])  # <-- PTO203
    w.task_graph(deps=Deps.explicit)


@mistake("PTO301", IRConversionError)
def _() -> None:
    parse("workload w { loop }")  # <-- PTO301


@mistake("PTO302", IRConversionError)
def _() -> None:
    verify(parse("workload w { parallel_for b in b: Dense($n) { } }"))  # <-- PTO302


@mistake("PTO716", ExecutionError)
def _() -> None:
    evaluate(parse("workload w { a: i64 = s.shl 1:i64 64:i64 }"), {})  # <-- PTO716


@mistake("PTO717", BoundsError)
def _() -> None:
    evaluate(parse("workload w { a: i64 = s.cast[to=i64] nan:f64 }"), {})  # <-- PTO717


@mistake("PTO718", ExecutionError)
def _() -> None:
    nothing = {"x": zeros(0)}
    evaluate(parse("workload w { tensor x: f32[0] a: f64 = reduce_max x[0 :+ 0] }"), nothing)  # <-- PTO718


@mistake("PTO401", CompileError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0])).compile(target="gpu")  # <-- PTO401


@mistake("PTO427", UnsupportedError)
def _() -> None:
    class Lesser:
        name = "lesser"
        capabilities = Capabilities("lesser", {**pto_wsp.capabilities(), "streams": "unsupported"})
        compile = TARGETS["cpu_sim"].compile

    TARGETS["lesser"] = Lesser()
    try:
        w = in_workload(lambda x, y: copy(x[0], y[0])).streams(2)  # <-- PTO427
        w.compile(target="lesser")
    finally:
        del TARGETS["lesser"]


@mistake("PTO402", CompileError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0])).compile(arch="abacus")  # <-- PTO402


@mistake("PTO403", ScheduleError)
def _() -> None:
    DispatchPolicy.round_robin(0)  # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    dispatch(4)  # type: ignore[arg-type] # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    task_graph()  # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    task_graph(deps="explicit")  # type: ignore[arg-type] # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    tile(sizes={"b": 4})  # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    split(loop="b", size=0)  # <-- PTO403


@mistake("PTO404", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: copy(x=x[0], y=y[0])).task_graph(deps=Deps.hybrid)  # <-- PTO404
    combine(w, w)


@mistake("PTO411", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: [copy[b](x=x[b], y=y[b]) for b in P(4)])
    w.dispatch(DispatchPolicy.affinity(lambda t: t.head, 2))  # <-- PTO411


@mistake("PTO417", ScheduleError)
def _() -> None:
    stream_by(lambda t: cast(t.b, DType.F64))  # <-- PTO417


@mistake("PTO417", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: [copy[b](x=x[b], y=y[b]) for b in P(4)])
    w.task_graph(ready=ReadyPolicy.priority(lambda t: t.b * 2**62))  # <-- PTO417


@mistake("PTO403", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: [copy[b](x=x[b], y=y[b]) for b in P(4)])
    w.window(TaskWindow(63, "bytes"))  # <-- PTO403


@mistake("PTO417", ScheduleError)
def _() -> None:
    @workload
    def rows(x, y):
        for b in P(4):
            copy[b](x=x[b], y=y[b])

    @workload
    def w(x, y):
        for i in P(1):
            rows.dispatch(DispatchPolicy.dispatch_by(lambda t: i, 3))(x, y)  # noqa: B023 # <-- PTO417

    w(zeros(8, 4, 4), zeros(8, 4, 4))


@mistake("PTO417", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: [copy[b](x=x[b], y=y[b]) for b in P(4)])
    w.dispatch(DispatchPolicy.affinity(lambda t: 10 // t.b, 2))  # <-- PTO417


@mistake("PTO417", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: [copy[b](x=x[b], y=y[b]) for b in P(4)])
    w.task_graph(pools=Pools.custom(lambda t: t.b, {"a": 1, "b": 2}))  # <-- PTO417


@mistake("PTO403", ScheduleError)
def _() -> None:
    ReadyPolicy.fifo()  # type: ignore[operator] # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    StartPolicy.after_orchestration()  # type: ignore[operator] # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    pto_wsp.register_policy("dispatch", "class", lambda t: 0)  # <-- PTO403


@mistake("PTO418", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: copy(x=x[0], y=y[0])).streams(2)
    w.streams(3)  # <-- PTO418


@mistake("PTO418", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: copy(x=x[0], y=y[0])).dispatch(DispatchPolicy.round_robin(2))
    w.dispatch(DispatchPolicy.least_loaded(4))  # <-- PTO418


@mistake("PTO418", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: copy(x=x[0], y=y[0])).window(TaskWindow(4096, "bytes"))
    w.task_graph(window=TaskWindow(8))  # <-- PTO418


@mistake("PTO156", ScheduleError)
def _() -> None:
    w = in_workload(lambda x, y: [copy[id](x=x[id], y=y[id]) for id in P(4)])
    by_id = DispatchPolicy.dispatch_by(lambda t: t.id // 2, 2)  # <-- PTO156
    w.dispatch(by_id)


@mistake("PTO128", TraceError)
def _() -> None:
    DispatchPolicy.affinity(lambda t: hash(t.b), 4)  # <-- PTO128


@mistake("PTO003", UnsupportedError)
def _() -> None:
    DispatchPolicy.affinity(lambda t: t.kernel % 2, 4)  # <-- PTO003


@mistake("PTO408", ScheduleError)
def _() -> None:
    split(loop="t", size=2)(in_workload(lambda x, y: [copy(x=x[b], y=y[b]) for b in P(4)]))  # <-- PTO408


@mistake("PTO409", ScheduleError)
def _() -> None:
    unroll(loop="b")(in_workload(lambda x, y: [copy(x=x[b], y=y[b]) for b in P(DenseDyn(4, name="n"))]))  # <-- PTO409


@mistake("PTO409", ScheduleError)
def _() -> None:
    pipeline_loop(loop="b")(in_workload(lambda x, y: [copy(x=x[b], y=y[b]) for b in P(4)]))  # <-- PTO409


@mistake("PTO870", ScheduleError)
def _() -> None:
    @workload
    def w(x: Any, y: Any) -> None:
        for b in P.seq(3):
            copy(x=x[b], y=y[b])
            copy(x=y[b + 1], y=x[b])  # <-- PTO870

    w(zeros(4, 4, 4), zeros(4, 4, 4)).pipeline_loop(loop="b")


@workload
def copies(x: Any) -> Any:
    y = empty_like(x)
    for b in P(4):
        copy(x=x[b], y=y[b])
    return y


@mistake("PTO871", TraceError)
def _() -> None:
    pipeline(copies)  # <-- PTO871


@mistake("PTO872", ScheduleError)
def _() -> None:
    @workload
    def first(x: Any) -> Any:
        y = empty((4, 4), F32)
        copy(x=x[0], y=y)  # <-- PTO872
        return y

    pipeline(copies, first)(zeros(4, 4, 4))


@mistake("PTO403", ScheduleError)
def _() -> None:
    task_graph(window=8)  # type: ignore[arg-type] # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    TaskWindow(0)  # <-- PTO403


@mistake("PTO403", ScheduleError)
def _() -> None:
    TaskWindow(8, "tiles")  # <-- PTO403


@mistake("PTO405", CompileError)
def _() -> None:
    def nest(x: Any, y: Any, depth: int) -> None:
        if not depth:
            copy(x=x[0], y=y[0])
        for _ in P(1) if depth else ():  # <-- PTO405
            nest(x, y, depth - 1)

    in_workload(lambda x, y: nest(x, y, 500))


@mistake("PTO405", CompileError)
def _() -> None:
    w = in_workload(lambda x, y: copy(x[0], y[0]))
    for _ in range(100):
        w = combine(w).dispatch(DispatchPolicy.round_robin(2))  # <-- PTO405


@mistake("PTO405", CompileError)
def _() -> None:
    def body(x: Any, y: Any) -> None:
        for b in P(4):
            i = b
            for _ in range(100):
                i = (i * 3 + 1) // 2  # <-- PTO405
            copy(x=x[i % 8], y=y[b])

    in_workload(body)


@mistake("PTO405", CompileError)
def _() -> None:
    @kernel
    def long(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        v = x
        for _ in range(5000):
            v = v + x
        pto.store(y, v)

    in_workload(lambda x, y: long(x=x[0], y=y[0])).compile()  # <-- PTO405


@mistake("PTO406", CompileError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0])).compile(threads=0)  # <-- PTO406


@mistake("PTO425", CompileError)
def _() -> None:
    Resources(task_window=0)  # <-- PTO425


@mistake("PTO425", CompileError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0])).compile(resources=64)  # type: ignore[arg-type] # <-- PTO425


@mistake("PTO519", BindError)
def _() -> None:
    def through(x: Any, y: Any) -> None:
        t = empty((4, 4), F32)
        copy(x[0], t)
        copy(t, y[0])

    p = in_workload(through).compile(resources=Resources(arena=63))
    p.run()  # <-- PTO519


# ---- binding


@mistake("PTO501", BindError)
def _() -> None:
    Tensor(data=[[1.0, 2.0]])  # <-- PTO501


@mistake("PTO501", BindError)
def _() -> None:
    program().bind({"x": [1.0]})  # <-- PTO501


@mistake("PTO502", BindError)
def _() -> None:
    Tensor(data=zeros(4, 4, dtype=np.float64), dtype=F32)  # <-- PTO502


@mistake("PTO502", BindError)
def _() -> None:
    Tensor(data=zeros(4, 4, dtype=np.int32), dtype=F32)  # <-- PTO502


@mistake("PTO502", BindError)
def _() -> None:
    program().bind({"x": zeros(8, 4, 4, dtype=np.float16)})  # <-- PTO502


@mistake("PTO503", BindError)
def _() -> None:
    Tensor(data=zeros(8, 8), shape=(16, 16), dtype=F32)  # <-- PTO503


@mistake("PTO503", BindError)
def _() -> None:
    program().bind({"x": zeros(7, 4, 4)})  # <-- PTO503


@mistake("PTO503", BindError)
def _() -> None:
    n = Symbol("n")

    @workload
    def w(x, y):
        for b in P(n):
            copy(x=x[b], y=y[b])

    p = w(TensorSpec((n, 4, 4), F32), TensorSpec((n, 4, 4), F32)).compile()
    p.bind({"x": zeros(3, 4, 4), "y": zeros(4, 4, 4)}).set_symbol_u64("n", 3)
    p.execute()  # <-- PTO503


@mistake("PTO504", BindError)
def _() -> None:
    Tensor(data=zeros(4, 4).astype(">f4"))  # <-- PTO504


@mistake("PTO505", BindError)
def _() -> None:
    out = zeros(8, 4, 4)
    out.flags.writeable = False
    program().bind({"y": out})  # <-- PTO505


@mistake("PTO506", BindError)
def _() -> None:
    both = zeros(9, 4, 4)
    program().bind({"x": both[:8], "y": both[1:]}).execute()  # <-- PTO506


@mistake("PTO507", BindError)
def _() -> None:
    copied(TensorSpec((8, 4, 4), F32), Tensor(zeros(8, 4, 4)), 8).compile().execute()  # <-- PTO507


@mistake("PTO508", BindError)
def _() -> None:
    program().bind({"z": zeros(8, 4, 4)})  # <-- PTO508


@mistake("PTO509", BindError)
def _() -> None:
    copied(zeros(8, 4, 4), zeros(8, 4, 4), DenseDyn()).compile().execute()  # <-- PTO509


@mistake("PTO510", BindError)
def _() -> None:
    program().set_axis_sizes({"m": 4})  # <-- PTO510


@mistake("PTO510", BindError)
def _() -> None:
    program().set_symbol_u64("m", 4)  # <-- PTO510


@mistake("PTO510", BindError)
def _() -> None:
    copied(zeros(8, 4, 4), zeros(8, 4, 4), Dense[4]()).compile().set_axis_sizes({"n": 8})  # <-- PTO510


@mistake("PTO511", BoundsError)
def _() -> None:
    Dense[-1]()  # <-- PTO511


@mistake("PTO511", BindError)
def _() -> None:
    program().set_axis_sizes({"n": -1})  # <-- PTO511


@mistake("PTO511", BoundsError)
def _() -> None:
    n = Symbol("n")
    p = in_workload(lambda x, y: [copy(x[b], y[b]) for b in P(n - 2)]).compile()  # <-- PTO511
    p.set_symbol_u64("n", 1).run()


@mistake("PTO512", BindError)
def _() -> None:
    one = np.lib.stride_tricks.as_strided(zeros(4, 4), (8, 4, 4), (0, 16, 4))
    program().bind({"y": one})  # <-- PTO512


# ---- artifacts


SEQUENCES = """workload w {
  symbol $n
  ragged seq: outer=$n lengths="seq.lengths"
  sparse routing: outer=2 indptr="ptr" indices="routing.indices" inner=4
  tensor y: f32[1,1]
  tensor seq.lengths: i64[$n]
  tensor ptr: i64[3]
  tensor routing.indices: i64[4]
  kernel k "k" (s: f32, y: out f32<1x1>) {
    a: f32<1x1> = full[cols=1, rows=1] s
    store y a
  }
  s: i64 = slot_get[slot=3]
  task k[](s=s, y=y[0 :+ 1, 0 :+ 1])
}"""


def sequences() -> Program:
    """A program with a ragged axis `seq`, a sparse one `routing`, whose pointers are a symbol, and an i64 slot 3."""
    artifact = CpuSim().compile(parse(SEQUENCES), arch.get(), {"n": 2})
    good = {"seq": [1, 2], "routing": ([0, 1, 4], [0, 3, 1, 2])}
    return Program(artifact).bind({"y": zeros(1, 1)}).set_axis_sizes(good)


@mistake("PTO509", BindError)
def _() -> None:
    Program(CpuSim().compile(parse(SEQUENCES), arch.get(), {"n": 2})).run()  # <-- PTO509


@mistake("PTO513", BindError)
def _() -> None:
    sequences().set_axis_sizes({"seq": [1, -2]})  # <-- PTO513


@mistake("PTO511", BindError)
def _() -> None:
    sequences().set_axis_sizes({"seq": np.array([1, 2**63], dtype=np.uint64)})  # <-- PTO511


@mistake("PTO502", BindError)
def _() -> None:
    sequences().set_axis_sizes({"seq": [1.5, 2]})  # <-- PTO502


@mistake("PTO705", BindError)
def _() -> None:
    sequences().set_axis_sizes({"routing": [0, 1, 2]})  # <-- PTO705


@mistake("PTO513", BindError)
def _() -> None:
    sequences().set_axis_sizes({"seq": [1, 2, 3]}).run()  # <-- PTO513


@mistake("PTO514", BindError)
def _() -> None:
    sequences().set_symbol_ptr("ptr", [0, 1])  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    sequences().set_symbol_ptr("ptr", np.array([0, 2, 1], np.int32))  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    sequences().set_axis_sizes({"routing": ([0, 1, 5], [0, 3, 1, 2])})  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    sequences().set_axis_sizes({"routing": ([0, 1, 4], [0, 4, 1, 2])})  # <-- PTO514


@mistake("PTO514", BindError)
def _() -> None:
    sequences().bind({"routing.indices": [0, -1, 1, 2]})  # <-- PTO514


@mistake("PTO510", BindError)
def _() -> None:
    sequences().set_symbol_ptr("lengths", [1])  # <-- PTO510


@mistake("PTO516", BindError)
def _() -> None:
    sequences().set_symbol_ptr("n", [1])  # <-- PTO516


@mistake("PTO516", BindError)
def _() -> None:
    sequences().set_symbol_u64("ptr", 1)  # <-- PTO516


@mistake("PTO517", BindError)
def _() -> None:
    sequences().set_slot(64, 1)  # <-- PTO517


@mistake("PTO517", BindError)
def _() -> None:
    sequences().set_slot(3, 1.5)  # <-- PTO517


@mistake("PTO518", BindError)
def _() -> None:
    sequences().set_symbol_ptr("ptr", zeros(3, dtype=np.int64).ctypes.data)  # <-- PTO518


@mistake("PTO410", CompileError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0])).compile(check="speed")  # <-- PTO410


@mistake("PTO701", ExecutionError)
def _() -> None:
    sequences_returning = SEQUENCES.replace("tensor y", "result y").replace("])\n}", "])\n  return y\n}")
    _ = Program(CpuSim().compile(parse(sequences_returning), arch.get(), {"n": 2})).results  # <-- PTO701


def eight() -> Any:
    """Eight copies."""
    return in_workload(lambda x, y: [copy[b](x=x[b], y=y[b]) for b in P(8)])


@mistake("PTO740", DeadlockError)
def _() -> None:
    n = DenseDyn(8, name="n")

    @workload
    def w(x, y):
        for b in P(n):
            copy[b](x=x[b], y=y[b])

    few = w(*[TensorSpec((n, 4, 4), F32)] * 2).window(TaskWindow(4))  # <-- PTO740
    few.task_graph(start=StartPolicy.after_orchestration).compile().simulate()


@mistake("PTO419", ScheduleError)
def _() -> None:
    w = eight().task_graph(start=StartPolicy.after_orchestration, window=TaskWindow(4))  # <-- PTO419
    w.compile()


@mistake("PTO750", UnsupportedError)
def _() -> None:
    @kernel
    def put(out: Out[Tile[1, 4, DType.I32]]):
        pto.store(out, pto.iota((1, 4), axis=1))

    @workload
    def w(N, x, y):
        put(out=N[0:1, :])
        for b in P(item(N[0, 2])):  # <-- PTO750
            copy[b](x=x[b], y=y[b])

    w(Tensor(np.zeros((1, 4), np.int32)), zeros(8, 4, 4), zeros(8, 4, 4)).compile().simulate()


@mistake("PTO751", BindError)
def _() -> None:
    other = in_workload(lambda x, y: copy(x=x[0], y=y[0])).compile().run().scalars
    eight().compile().simulate(scalars=other)  # <-- PTO751


@mistake("PTO705", BindError)
def _() -> None:
    scalars = eight().compile().run().scalars
    eight().compile().simulate(scalars=type(scalars)(np.array([1.5]), scalars.of))  # type: ignore[arg-type] # <-- PTO705


@mistake("PTO765", ArtifactError)
def _() -> None:
    RunSchedule("run.json")  # type: ignore[arg-type] # <-- PTO765


@mistake("PTO603", ArtifactError)
def _() -> None:
    RunSchedule.load(4)  # type: ignore[arg-type] # <-- PTO603


@mistake("PTO411", ScheduleError)
def _() -> None:
    AutoScheduler(SearchSpace(dispatch=("affinity",), keys=("head",))).explore(eight())  # <-- PTO411


@mistake("PTO752", ExecutionError)
def _() -> None:
    _ = eight().compile().scalars  # <-- PTO752


@mistake("PTO741", WindowError)
def _() -> None:
    w = eight().window(TaskWindow(4, mode=WindowMode.ABORT))  # <-- PTO741
    w.compile().run()


@mistake("PTO742", ScheduleError)
def _() -> None:
    w = copied(zeros(8, 4, 4), zeros(8, 4, 4), DenseDyn(8, name="n"))
    w = w.task_graph(pools=Pools.custom(lambda t: t.get("n"), {"a": 1, "b": 2}))  # <-- PTO742
    w.compile().run()


@mistake("PTO719", ExecutionError)
def _() -> None:
    text = """workload w {
      ragged seq: outer=1 lengths="lens"
      tensor lens: i32[1]
      kernel k "k" (x: out i32<1x1>) { }
      task k[](x=lens[0 :+ 1])
      n: i64 = item lens[0]
      parallel_for t in seq: Ragged(n) { }
    }"""
    record = dict.fromkeys(("site", "arg", "dim", "check"))
    error = to_error(
        make_artifact(parse(text), b"", ()), {**record, "kind": "extent", "coords": [], "values": [-1], "origin": 2}
    )
    error.loc = Location.of_frame(sys._getframe())  # <-- PTO719
    raise error


def watched(body: Callable[..., object], mode: str) -> Checker:
    """What looks at the tasks of runs of `of_data(body)`, to be shown tasks of a core that is wrong."""
    w, scratch = keep_temporaries(of_data(body).wir)
    assert not scratch
    checker = Checker(CpuSim().compile(w, arch.get(), {}), check_modes(mode))
    checker.begin_run({"x": zeros(8, 4, 4), "y": np.ones((8, 4, 4), np.float32), "n": zeros(4, dtype=np.int32)})
    return checker


@mistake("PTO204", RaceError)
def _() -> None:
    w = of_data(lambda x, y, n: [copy(x[b], y[item(n[b])]) for b in P(4)])  # <-- PTO204
    w.compile(check="races").run()


@mistake("PTO720", BoundsError)
def _() -> None:
    watched(lambda x, y, n: [copy(x[b], y[b]) for b in P(4)], "bounds")(True, 0, [8])  # <-- PTO720


@mistake("PTO721", KernelError)
def _() -> None:
    checker = watched(lambda x, y, n: copy(x[0], y[0]), "numerics")  # <-- PTO721
    checker(True, 0, [])
    checker(False, 0, [])


@mistake("PTO722", KernelError)
def _() -> None:
    @kernel
    def logarithm(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        pto.store(y, pto.log(x))

    of_data(lambda x, y, n: logarithm(x[0], y[0])).compile(check="all").run()  # <-- PTO722


@mistake("PTO601", ArtifactError)
def _() -> None:
    Program.from_bytes(b"nothing")  # <-- PTO601


@mistake("PTO602", ArtifactError)
def _() -> None:
    data = bytearray(program().to_bytes())
    data[8] += 1
    Program.from_bytes(bytes(data))  # <-- PTO602


@mistake("PTO603", ArtifactError)
def _() -> None:
    program().save("/proc/no/such/place")  # <-- PTO603


@mistake("PTO603", ArtifactError)
def _() -> None:
    Program.load("/proc/no/such/place")  # <-- PTO603


# ---- running


@mistake("PTO701", ExecutionError)
def _() -> None:
    program().synchronize()  # <-- PTO701


@mistake("PTO702", ExecutionError)
def _() -> None:
    p = endless().execute()
    try:
        p.execute()  # <-- PTO702
    finally:
        stop(p)


@mistake("PTO702", ExecutionError)
def _() -> None:
    p = endless().execute()
    try:
        p.bind({"x": zeros(4, 4)})  # <-- PTO702
    finally:
        stop(p)


@mistake("PTO703", Cancelled)
def _() -> None:
    p = endless().execute()
    p.cancel()
    p.synchronize()  # <-- PTO703


@mistake("PTO760", ExecutionError)
def _() -> None:
    _ = program().run().trace  # <-- PTO760


@mistake("PTO761", CompileError)
def _() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTO_WSP_LOG", "everything")
        in_workload(lambda x, y: copy(x[0], y[0])).compile()  # <-- PTO761


@mistake("PTO762", UnsupportedError)
def _() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        program().enable_tracing().run().trace.to_timeline("timeline.svg")  # <-- PTO762


@mistake("PTO763", BindError)
def _() -> None:
    program().enable_tracing().run().trace.to_dot("/proc/no/such/place")  # <-- PTO763


@mistake("PTO764", ExecutionError)
def _() -> None:
    program().enable_tracing(limit=1).run().trace.schedule()  # <-- PTO764


@mistake("PTO764", ExecutionError)
def _() -> None:
    program().enable_tracing("tasks").run().trace.explain()  # <-- PTO764


@mistake("PTO764", ExecutionError)
def _() -> None:
    eight().compile().explain(limit=7)  # <-- PTO764


@mistake("PTO765", ArtifactError)
def _() -> None:
    schedule = program().enable_tracing().run().trace.schedule()
    RunSchedule(schedule.origin, [[1], [1]])  # <-- PTO765


@mistake("PTO766", BindError)
def _() -> None:
    schedule = program().enable_tracing().run().trace.schedule()
    copied(zeros(3, 4, 4), zeros(3, 4, 4), 3).compile().run(replay=schedule)  # <-- PTO766


@mistake("PTO767", ExecutionError)
def _() -> None:
    n = np.array([2])

    @workload
    def w(N, X, Y):
        for b in P(item(N[0])):
            copy(x=X[b], y=Y[b])

    p = w(n, zeros(4, 4, 4), zeros(4, 4, 4)).compile().enable_tracing()
    schedule = p.run().trace.schedule()
    n[0] = 3
    p.run(replay=schedule)  # <-- PTO767


@mistake("PTO705", BindError)
def _() -> None:
    program().run(replay="run.json")  # <-- PTO705


@mistake("PTO003", UnsupportedError)
def _() -> None:
    schedule = program().enable_tracing().run().trace.schedule()
    w = copied(zeros(2, 4, 4), zeros(2, 4, 4), 2)
    w.compile(check="races").run(replay=schedule)  # <-- PTO003


@mistake("PTO705", BindError)
def _() -> None:
    program().enable_tracing("everything")  # <-- PTO705


@mistake("PTO705", BindError)
def _() -> None:
    program().enable_tracing(limit=0)  # <-- PTO705


@mistake("PTO705", BindError)
def _() -> None:
    program().execute(on_error="ignore")  # <-- PTO705


@mistake("PTO705", BindError)
def _() -> None:
    program().enable_tracing().run().trace.gantt(3)  # <-- PTO705


@mistake("PTO705", BindError)
def _() -> None:
    program().enable_tracing().run().trace.to_timeline("timeline.jpg")  # <-- PTO705


@mistake("PTO704", ExecutionError)
def _() -> None:
    p = endless().execute()
    try:
        p.synchronize(timeout=0.01)  # <-- PTO704
    finally:
        stop(p)


def stop(p: Program) -> None:
    p.cancel()
    with pytest.raises(Cancelled):
        p.synchronize()


@mistake("PTO710", KernelError)
def _() -> None:
    @workload
    def w(x, z, y):
        for i in P(x.tiles(4)):
            for j in P.seq(z.tiles(4)):
                add(x=x[i], z=z[j], y=y[i])  # <-- PTO710

    w(zeros(6, 4), zeros(5, 4), zeros(6, 4)).compile().run()


@mistake("PTO711", ExecutionError)
def _() -> None:
    n = Symbol("n")
    p = in_workload(lambda x, y: [copy(x[b // n], y[b]) for b in P(4)]).compile()  # <-- PTO711
    p.set_symbol_u64("n", 0).run()


@mistake("PTO712", BoundsError)
def _() -> None:
    n = Symbol("n")
    p = in_workload(lambda x, y: [copy(x[n * n], y[b]) for b in P(4)]).compile()  # <-- PTO712
    p.set_symbol_u64("n", 2**40).run()


@mistake("PTO712", BoundsError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[0], y[0]) for _ in P(2**64)])  # <-- PTO712


@mistake("PTO713", BoundsError)
def _() -> None:
    a, b = Tensor(zeros(4, 4, dtype=np.int32)), Tensor(zeros(4, 4, dtype=np.int32))
    in_workload(lambda x, y: scaled(x=a, s=2**31, y=b))  # <-- PTO713


@mistake("PTO713", BoundsError)
def _() -> None:
    a, b, n = Tensor(zeros(4, 4, dtype=np.int32)), Tensor(zeros(4, 4, dtype=np.int32)), Symbol("n")
    p = in_workload(lambda x, y: scaled(x=a, s=n, y=b)).compile()  # <-- PTO713
    p.set_symbol_u64("n", 2**40).run()


# What has no number or no operator is told so, wherever Python would decide for itself.


@pytest.mark.parametrize("op", ["np.exp(x)", "y.__setitem__(0, x)", "divmod(x, 2)", "round(x)"])
def test_operators_that_tiles_do_not_have(op: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        in_kernel(lambda x, y, h, n: eval(op, {"np": np}, {"x": x, "y": y, "h": h, "n": n}))
    assert caught.value.code == "PTO003"


@pytest.mark.parametrize(
    "op",
    [
        "b**2",
        "divmod(b, 2)",
        "b[0]",
        "X + 1",
        "X[0] * 2",
        "-X",
        "X.__setitem__(0, X)",
        "axis + 1",
        "3 - axis",
    ],
)
def test_operators_that_indices_tensors_and_axes_do_not_have(op: str) -> None:
    names = {"X": Tensor(zeros(4, 4, 4)), "axis": DenseDyn("axis")}
    with pytest.raises(UnsupportedError) as caught:
        in_workload(lambda x, y: [eval(op, {}, {**names, "b": b}) for b in P(4)])
    assert caught.value.code == "PTO003"


@pytest.mark.parametrize(
    "op", ["bool(X)", "not X[0, 0]", "X[0] == 0", "X != 0", "X[0, 0] > 0", "bool(axis)", "axis == 3", "axis < 3"]
)
def test_python_decides_nothing_about_traced_things(op: str) -> None:
    names = {"X": Tensor(zeros(4, 4, 4)), "axis": DenseDyn("axis")}
    with pytest.raises(TraceError) as caught:
        in_workload(lambda x, y: eval(op, {}, names))
    assert caught.value.code == "PTO128"


@pytest.mark.parametrize("code", ["x.T", "x.sum()"])
def test_names_that_tiles_do_not_have(code: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        in_kernel(lambda x, y, h, n: eval(code, {}, {"x": x}))
    assert caught.value.code == "PTO001" and isinstance(caught.value, AttributeError)


@mistake("PTO003", UnsupportedError)
def _() -> None:
    in_kernel(lambda x, y, h, n: divmod(x, 2))  # <-- PTO003


@mistake("PTO003", UnsupportedError)
def _() -> None:
    in_workload(lambda x, y: [b**2 for b in P(4)])  # <-- PTO003


@mistake("PTO003", UnsupportedError)
def _() -> None:
    in_workload(lambda x, y: copy(x[0], y[0])).compile(fast=True)  # <-- PTO003


@mistake("PTO003", UnsupportedError)
def _() -> None:
    program(check="races").execute(on_error="continue")  # <-- PTO003


@mistake("PTO003", UnsupportedError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[0], y[0]) for _ in P.seq(3, until=None)])  # <-- PTO003


@mistake("PTO003", UnsupportedError)
def _() -> None:
    kernel(cpp_source="y(0, 0) = 1;")  # <-- PTO003


@mistake("PTO122", TraceError)
def _() -> None:
    @kernel  # <-- PTO122
    def k(x: In[Tile[4, 4, F32]], out: InOut[Tile[4, 4, F32]]):
        out += x

    in_workload(lambda x, y: k(x=x[0], out=y[0]))


@mistake("PTO155", TraceError)
def _() -> None:
    dispatch(DispatchPolicy.round_robin(2))(copy)  # type: ignore[type-var]  # <-- PTO155


@mistake("PTO001", UnsupportedError)
def _() -> None:
    @workload
    def w(x):
        copy(x=x[0], y=x[1])

    w.compile()  # <-- PTO001


@mistake("PTO131", TraceError)
def _() -> None:
    @kernel  # <-- PTO131
    def k(x: In[Tile[4, 4, F32]], /, y: Out[Tile[4, 4, F32]]):
        pto.store(y, x)


@mistake("PTO142", TypeCheckError)
def _() -> None:
    a, b = Tensor(zeros(4, 4, dtype=np.int32)), Tensor(zeros(4, 4, dtype=np.int32))
    in_workload(lambda x, y: scaled(x=a, s=2.0, y=b))  # <-- PTO142


@mistake("PTO150", TraceError)
def _() -> None:
    in_workload(lambda x, y: [1 for _ in x[0]])  # <-- PTO150


@mistake("PTO711", ExecutionError)
def _() -> None:
    in_workload(lambda x, y: [copy(x[b // 0], y[b]) for b in P(4)])  # <-- PTO711


@mistake("PTO407", CompileError)
def _() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTO_WSP_DUMP", __file__)
        in_workload(lambda x, y: copy(x[0], y[0])).compile()  # <-- PTO407


@mistake("PTO505", BindError)
def _() -> None:
    y = zeros(4, 4, 4)
    p = in_workload(lambda x, _: copy(x[0], Tensor(y, name="late")[0])).compile().run()
    y.flags.writeable = False
    p.run()  # <-- PTO505


@pytest.mark.parametrize(
    "call", ["bind([1])", "set_axis_sizes(None)", "synchronize('x')", "synchronize(-1)", "save(3)"]
)
def test_arguments_of_the_wrong_kind(call: str) -> None:
    with pytest.raises(BindError) as caught:
        eval(f"p.{call}", {}, {"p": program().run()})
    assert caught.value.code == "PTO705"


@mistake("PTO705", BindError)
def _() -> None:
    Program.load(b"path")  # <-- PTO705


@mistake("PTO713", BoundsError)
def _() -> None:
    @kernel
    def k(s: Scalar[F16], y: Out[Tile[4, 4, F16]]):
        pto.store(y, s)

    half = Tensor(zeros(4, 4, dtype=np.float16))
    n = Symbol("n")
    p = in_workload(lambda x, y: k(s=n, y=half)).compile()  # <-- PTO713
    p.set_symbol_u64("n", 65520).run()


@mistake("PTO713", BoundsError)
def _() -> None:
    @kernel
    def k(s: Scalar[F16], y: Out[Tile[4, 4, F16]]):
        pto.store(y, s)

    half = Tensor(zeros(4, 4, dtype=np.float16))
    in_workload(lambda x, y: k(s=65520, y=half))  # <-- PTO713


@mistake("PTO501", BindError)
def _() -> None:
    Tensor(np.ma.masked_array(zeros(4, 4), mask=True))  # <-- PTO501


@pytest.mark.parametrize("bad", ["\ud800", "", 3])
def test_names_that_are_none(bad: Any) -> None:
    for make in (
        lambda: Tensor(zeros(4, 4), name=bad),
        lambda: Dense[3](name=bad),
        lambda: kernel(name=bad)(copy.fn),
        lambda: Symbol(bad),
    ):
        with pytest.raises(TraceError):
            make()


@mistake("PTO710", KernelError)
def _() -> None:
    @kernel
    def k(x: In[Tile[4, 4, F32]], z: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        _ = x + z  # its value is not used, and must have a meaning nevertheless
        pto.store(y, pto.full((4, 4), 1.0))

    short = Tensor(zeros(3, 4))

    @workload
    def w(a, b):
        for i in P(short.tiles(4)):
            k(x=short[i], z=a, y=b)  # <-- PTO710

    w(zeros(4, 4), zeros(4, 4)).compile().run()


@mistake("PTO730", BoundsError)
def _() -> None:
    @kernel
    def pick(x: In[Tile[4, 8, F32]], i: In[Tile[4, 1, DType.I32]], y: Out[Tile[4, 1, F32]]):
        pto.store(y, pto.gather(x, i))

    @workload
    def w(x, i, y):
        for b in P(x.tiles(4)):
            pick(x=x[b], i=i[b], y=y[b])  # <-- PTO730

    index = np.zeros((8, 1), np.int32)
    index[5] = 8
    w(zeros(8, 8), index, zeros(8, 1)).compile().run()


def test_a_location_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert str(Location(str(tmp_path / "pipe"), 1, "f").show()) == f"--> {tmp_path / 'pipe'}:1 in f"


def test_a_name_that_is_not_there_is_an_error_with_a_way_out_also_when_imported() -> None:
    with pytest.raises(ImportError) as caught:
        from pto_wsp import spatial_map  # noqa: F401
    assert isinstance(caught.value, UnsupportedError)
    assert caught.value.loc is not None and caught.value.loc.file == __file__
    assert not hasattr(pto_wsp, "spatial_map")


@mistake("PTO140", TypeCheckError)
def _() -> None:
    copy.cost(z=(4, 4))  # <-- PTO140


@mistake("PTO141", TypeCheckError)
def _() -> None:
    @kernel
    def k(x: In[Tile[4, 4, F32]], n: Scalar[I32], y: Out[Tile[4, 4, F32]]):
        pto.store(y, pto.fori_loop(0, pto.cast(n, DType.I64), lambda i, a: a + 1.0, x))

    k.cost()  # <-- PTO141


@mistake("PTO142", TypeCheckError)
def _() -> None:
    copy.cost(x=(5, 4))  # <-- PTO142


@mistake("PTO402", CompileError)
def _() -> None:
    copy.roofline("ascend_a2a3:pipe")  # <-- PTO402


# ---- instructions


@mistake("PTO001", UnsupportedError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TADDD(a, a, a))  # <-- PTO001


@mistake("PTO001", UnsupportedError)
def _() -> None:
    of_instructions(lambda a, out: a.rows)  # <-- PTO001


@mistake("PTO003", UnsupportedError)
def _() -> None:
    of_instructions(lambda a, out: a + a)  # <-- PTO003


@mistake("PTO126", TraceError)
def _() -> None:
    ptoisa.tile(4, 8)  # <-- PTO126


@mistake("PTO126", TraceError)
def _() -> None:
    ptoisa.TSYNC()  # <-- PTO126


@mistake("PTO106", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TINSERT(a, a, 1, 0))  # <-- PTO106


@mistake("PTO130", TraceError)
def _() -> None:
    kept: list[Any] = []
    of_instructions(lambda a, out: kept.append(a))
    of_instructions(lambda a, out: ptoisa.TADD(a, a, kept[0]))  # <-- PTO130


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TADD(a, a))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TADD(a, a, 1.0))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TADDS(a, 1.0, a))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TMATMUL(a, a, a))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TLOAD(out, a))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TSTORE(out))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.GlobalTensor(a, (0, 0)))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TSYNC(a))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.pipe_barrier("V"))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.set_flag(ptoisa.PIPE_V, ptoisa.PIPE_S, 8))  # <-- PTO190


@mistake("PTO191", TraceError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TADD(a, a, ptoisa.tile(4, 8)))  # <-- PTO191


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.fori_loop(0, 4, ptoisa.TADD(a, a, a)))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TPRINT("a"))  # <-- PTO190


@mistake("PTO191", TraceError)
def _() -> None:
    def body(a: Any, out: Any) -> None:
        b = ptoisa.tile(4, 8)
        ptoisa.fori_loop(0, 4, lambda i: ptoisa.TMOV(b, a))
        ptoisa.TADD(a, a, b)  # <-- PTO191

    of_instructions(body)


@mistake("PTO191", TraceError)
def _() -> None:
    def body(a: Any, out: Any) -> None:
        v, tmp = ptoisa.tile(4, 1), ptoisa.tile(4, 8)
        ptoisa.TMOV(tmp, a)
        ptoisa.TROWSUM(v, a, tmp)
        ptoisa.TADD(a, a, tmp)  # <-- PTO191

    of_instructions(body)


@mistake("PTO191", TraceError)
def _() -> None:
    def body(a: Any, out: Any) -> None:
        b, c = ptoisa.tile(4, 8), ptoisa.tile(4, 8)
        ptoisa.TASSIGN(b, 0)
        ptoisa.TASSIGN(c, 32)
        ptoisa.TMOV(b, a)
        ptoisa.TMOV(c, a)
        ptoisa.TADD(a, a, b)  # <-- PTO191

    of_instructions(body)


@mistake("PTO192", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.tile(0, 8))  # <-- PTO192


@mistake("PTO192", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.tile(4, 8, valid=(5, 8)))  # <-- PTO192


@mistake("PTO192", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TASSIGN(ptoisa.tile(4, 8), 8))  # <-- PTO192


@mistake("PTO192", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TASSIGN(a, 0))  # <-- PTO192


@mistake("PTO193", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TROWSUM(a, a))  # <-- PTO193


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TFILLPAD(a, a))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.MGATHER(a, a, a))  # <-- PTO190


@mistake("PTO190", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.MSCATTER(ptoisa.GlobalTensor(out, (0, 0)), a, a))  # <-- PTO190


@mistake("PTO106", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TCVT(a, a, ptoisa.RoundMode.CAST_ODD))  # <-- PTO106


@mistake("PTO104", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TPACK(a, a))  # <-- PTO104


@mistake("PTO106", TypeCheckError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TMRGSORT(a, a, a, a, 32))  # <-- PTO106


@mistake("PTO194", UnsupportedError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.TPUSH(a, 0))  # <-- PTO194


@mistake("PTO195", TraceError)
def _() -> None:
    of_instructions(lambda a, out: ptoisa.wait_flag(ptoisa.PIPE_MTE2, ptoisa.PIPE_V, ptoisa.EVENT_ID0))  # <-- PTO195


@mistake("PTO196", TraceError)
def _() -> None:
    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], out: Out[Tile[4, 8, F32]]):
        yield "TADD"  # <-- PTO196

    k.wir()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cpp_body_path="body.cpp")  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cost=4)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src=["out(0, 0) = 1;"])  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_body_path=3)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cpp_includes="<cmath>")  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cost=-1)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cost=lambda y: y.rows)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...

    k.wir()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cost=lambda out: "much")  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...

    k.wir()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cost=2**70)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cost=lambda out: 2**70)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...

    in_workload(lambda x, y: k(y[0])).compile()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cost=lambda out: 3 + 2**63 * out.rows)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...

    k.wir()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;", cost=lambda out: -1)  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...

    k.wir()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = x(0);", cost=lambda x: x.rows)  # <-- PTO197
    def k(x: In[Tensor[None, F32]], out: Out[Tile[4, 8, F32]]): ...

    k.wir()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = x(0);")  # <-- PTO197
    def k(x: In[Tensor[None, F32]], out: Out[Tile[4, 8, F32]]): ...

    k.wir()


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;")  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]):
        pto.store(out, 1.0)


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;")  # <-- PTO197
    def k(new: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_tu_path="body.cpp", name="a kernel")  # <-- PTO197
    def k(out: Out[Tile[4, 8, F32]]): ...


@mistake("PTO197", TraceError)
def _():
    @kernel(cpp_src="out(0, 0) = 1;")
    def k(n: Constexpr[tuple], out: Out[Tile[4, 8, F32]]): ...

    k.wir(n=(1, 2))  # <-- PTO197


@mistake("PTO198", TraceError)
def _():
    @kernel(cpp_body_path="there/is/none.cpp")  # <-- PTO198
    def k(out: Out[Tile[4, 8, F32]]): ...

    k.wir()


def run_cpp(source: str) -> None:
    """Run a kernel of C++ with an output y of f32<4x4>, once."""

    @kernel(cpp_src=source)
    def k(y: Out[Tile[4, 4, F32]]): ...

    in_workload(lambda x, y: k(y=y[0])).compile().run()


@mistake("PTO412", CompileError)
def _():
    source = "y(0, 0) = 1;  // # <-- PTO412"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "/there/is/no/compiler")
        run_cpp(source)


@mistake("PTO413", CompileError)
def _():
    run_cpp("""
        for (int i = 0; i < y.rows(); ++i)
          y(i, 0) = z;  // # <-- PTO413
    """)


@mistake("PTO413", CompileError)
def _():
    @kernel(cpp_src="y(0, 0) = 1;  // # <-- PTO413", cpp_includes=["<there_is_none>"])
    def k(y: Out[Tile[4, 4, F32]]): ...

    in_workload(lambda x, y: k(y=y[0])).compile()


@mistake("PTO415", CompileError)
def _():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTO_WSP_CACHE_DIR", "/dev/null/cache")
        patch.setattr("tempfile.tempdir", "/dev/null/tmp")
        run_cpp("y(0, 0) = 2;  // # <-- PTO415")


@mistake("PTO416", CompileError)
def _():
    in_workload(lambda x, y: copy(x[0], y[0])).compile(native="fast")  # <-- PTO416


@mistake("PTO734", KernelError)
def _():
    @kernel(cpp_src='throw std::runtime_error("no");', cpp_includes=["<stdexcept>"])
    def k(y: Out[Tile[4, 4, F32]]): ...

    in_workload(lambda x, y: k(y=y[0])).compile().run()  # <-- PTO734


@mistake("PTO735", KernelError)
def _():
    @kernel(cpp_src="y(0, 0) = x(0, 0);", cost=1)
    def k(x: In[Tensor[None, 4, F32]], y: Out[Tile[4, 4, F32]]): ...

    @workload
    def w(x, y):
        k(x=x, y=y)  # <-- PTO735

    odd = np.zeros(4 * 4 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(4, 4)
    w(odd, zeros(4, 4)).compile().run()


@mistake("PTO801", BindError)
def _():
    simulate.tasks([{"cost": 1}, {"cost": 1.5}], lanes=4)  # <-- PTO801


@mistake("PTO802", BindError)
def _():
    simulate.tasks([{"cost": 1}, {"cost": 1, "deps": [2]}], lanes=4)  # <-- PTO802


@mistake("PTO803", BindError)
def _():
    simulate.tasks(simulate.TaskArrays([1], [0], []), lanes=4)  # <-- PTO803


@mistake("PTO804", BindError)
def _():
    simulate.tasks([{"cost": 2**61}] * 2, lanes=1)  # <-- PTO804


@mistake("PTO805", ScheduleError)
def _():
    simulate.tasks([], lanes=4, window=0)  # <-- PTO805


@mistake("PTO806", BindError)
def _():
    simulate.processes([{"name": "p", "ops": [["work", -1]]}], {})  # <-- PTO806


@mistake("PTO807", BindError)
def _():
    simulate.processes([{"name": "p", "ops": []}] * 2, {})  # <-- PTO807


@mistake("PTO808", BindError)
def _():
    simulate.processes([], {"c": {"capacity": 0, "initial": 1}})  # <-- PTO808


@mistake("PTO809", BindError)
def _():
    simulate.processes([{"name": "p", "ops": [["send", "c"]]}], {"d": {}})  # <-- PTO809


@mistake("PTO810", BindError)
def _():
    simulate.processes([], {"c": {"capacity": None, "initial": 2**40}})  # <-- PTO810


@mistake("PTO811", LimitError)
def _():
    grows = [["consume", "a", [["send", "b"], ["send", "b"]]]], [["consume", "b", [["send", "a"]]]]
    network = [{"name": name, "ops": ops} for name, ops in zip("pq", grows, strict=True)]
    simulate.remedy(network, {"a": {"initial": 1}, "b": {}}, max_actions=100)  # <-- PTO811


def piped(body: Callable[[Any], object]) -> Any:
    """A workload whose pipeline is what `body` says of a tensor of tiles."""

    @workload
    def w(y):
        with P.pipe():
            body(y)

    return w(zeros(4, 4, 4))


@mistake("PTO823", TraceError)
def _():
    Channel[int]("c", depth=-1)  # <-- PTO823


@mistake("PTO823", TraceError)
def _():
    Channel[int]("c", latency=-1)  # <-- PTO823


@mistake("PTO823", TraceError)
def _():
    Channel[int]("c.free")  # <-- PTO823


@mistake("PTO824", TraceError)
def _():
    c = Channel[int]("c")

    @workload
    def w(y):
        send(c, 1)  # <-- PTO824

    w(zeros(4, 4, 4))


@mistake("PTO812", TraceError)
def _():
    c = Channel[int]("c")

    @workload
    def w(y):
        give = process("give").body(lambda: send(c, 1))  # <-- PTO812
        connect([give, process("take").consumes(c).body(lambda k: None)], [c])

    w(zeros(4, 4, 4))


@mistake("PTO813", TypeCheckError)
def _():
    c = Channel[Tensor]("c")

    def body(y: Any) -> None:
        for i in P.seq(2):
            send(c, y[i])
            send(c, y[i + 2, 0:4])
            send(c, y[3])  # <-- PTO813

    piped(body)


@mistake("PTO814", CompileError)
def _():
    def body(y: Any) -> None:
        c = Channel[int]("c")  # <-- PTO814
        for i in P.seq(2):
            send(c, i)

    piped(body)


@mistake("PTO815", TraceError)
def _():
    c = Channel[Tensor]("c")

    def body(y: Any) -> None:
        for i in P.seq(2):
            send(c, y[i])
            copy(x=y[3], y=y[i])  # <-- PTO815

    piped(body)


@mistake("PTO816", TraceError)
def _():
    @workload
    def w(y):
        with P.pipe():  # <-- PTO816
            pass

    w(zeros(4, 4, 4))


@mistake("PTO817", ChannelClosed)
def _():
    c = Channel[int]("c")

    def body(y: Any) -> None:
        for i in P.seq(2):
            close(c)
            send(c, i)  # <-- PTO817
        with consume(c):
            pass

    piped(body)


@mistake("PTO818", TraceError)
def _():
    c = Channel[Tensor]("c", depth=None)

    def body(y: Any) -> None:
        for i in P.seq(2):
            mine = empty((4, 4), F32)
            copy(x=y[i], y=mine)
            send(c, mine)  # <-- PTO818

    piped(body)


@mistake("PTO819", TraceError)
def _():
    c = Channel[int]("c")

    def body(y: Any) -> None:
        for i in P.seq(2):
            try_send(c, i)  # <-- PTO819

    piped(body)


def together(body: Callable[..., list[Any]], **options: Any) -> None:
    """Compile a workload of the processes that `body` gives of two tensors of tiles and a channel of numbers."""
    c = Channel[int]("c", depth=1)

    @workload
    def w(x, y):
        connect(body(x, y, c), [c], **options)

    w(zeros(4, 4, 4), zeros(4, 4, 4)).compile()


def counts_to(n: int, c: Any) -> Callable[[], None]:
    def body() -> None:
        for i in P.seq(n):
            send(c, i)

    return body


@mistake("PTO860", TypeCheckError)
def _():
    def give(c: Any) -> None:
        send(c, 1)

    def also(c: Any) -> None:
        send(c, 2)  # <-- PTO860

    together(
        lambda x, y, c: [
            process("give").produces(c).body(lambda: give(c)),
            process("also").produces(c).body(lambda: also(c)),
            process("take").consumes(c).body(lambda k: None),
        ]
    )


@mistake("PTO861", TypeCheckError)
def _():
    def work(y: Any) -> None:
        copy(x=y[1], y=y[0])  # <-- PTO861

    together(
        lambda x, y, c: [
            process("give").produces(c).body(counts_to(2, c)),
            *replicate(process("work").consumes(c).body(lambda k: work(y)), 2),
        ]
    )


@mistake("PTO862", TypeCheckError)
def _():
    def work(x: Any, y: Any, k: Any) -> None:
        copy(x=x[k], y=y[k // 2])  # <-- PTO862

    def build(x: Any, y: Any, c: Any) -> list[Any]:
        take = process("take").consumes(c).body(lambda k: work(x, y, k))
        return [*replicate(process("give").produces(c).body(counts_to(2, c)), 2), take]

    together(build)


@mistake("PTO863", RaceError)
def _():
    def give(x: Any, y: Any, c: Any) -> None:
        for i in P.seq(2):
            send(c, i)
            copy(x=x[3], y=y[i])  # <-- PTO863

    together(
        lambda x, y, c: [
            process("give").produces(c).body(lambda: give(x, y, c)),
            process("take").consumes(c).body(lambda k: copy(x=y[k], y=x[k])),
        ]
    )


@mistake("PTO864", DeadlockError)
def _():
    def take(c: Any) -> None:
        for _ in P.seq(3):
            c.recv()  # <-- PTO864

    together(
        lambda x, y, c: [
            process("give").produces(c).body(counts_to(2, c)),
            process("take").consumes(c).body(lambda: take(c)),
        ]
    )


@mistake("PTO865", DeadlockError)
def _():
    def again(k: Any, c: Any) -> None:
        send(c, k)

    def build(x: Any, y: Any, c: Any) -> list[Any]:
        def body() -> None:
            with consume(c) as k:  # <-- PTO865
                again(k, c)

        return [process("loop").consumes(c).produces(c).body(body)]

    together(build)


@mistake("PTO156", TraceError)
def _():
    @workload
    def w(y):
        p = process("p").body(lambda: copy(x=y[0], y=y[1]))
        q = process("p").body(lambda: copy(x=y[2], y=y[3]))  # <-- PTO156
        connect([p, q], [])

    w(zeros(4, 4, 4))


@mistake("PTO825", ScheduleError)
def _():
    c = Channel[int]("c", depth=None)

    def body(y: Any) -> None:
        for i in P.seq(2):
            for k in P.seq(cast(reduce_sum(y[i]), DType.I64)):
                send(c, k)  # <-- PTO825
        with consume(c):
            pass

    piped(body)


@mistake("PTO404", ScheduleError)
def _():
    piped(lambda y: copy(x=y[0], y=y[1])).dispatch(DispatchPolicy.round_robin(2))  # <-- PTO404


def pipe(*processes: str) -> Any:
    """A workload whose processes use a channel c of one token, which carries nothing."""
    rows = ['c: channel<> = channel[depth=1, initial=1, latency=0, name="c", response=0]']
    ends = 'consumes=["c"], produces=["c"]'
    rows += [f'process[{ends}, name="p{k}"] {{\n{body}\n}}' for k, body in enumerate(processes)]
    return parse("\n".join(['workload w {\npipeline[name="pipe", timed=false] {', *rows, "}\n}"]))


@mistake("PTO817", ChannelClosed)
def _():
    evaluate(pipe("close c\nsend c"), {})  # <-- PTO817


@mistake("PTO820", DeadlockError)
def _():
    evaluate(pipe("recv c\nrecv c"), {})  # <-- PTO820


@mistake("PTO821", UnsupportedError)
def _():
    discharge(pipe("recv c"))  # <-- PTO821


@mistake("PTO822", LimitError)
def _():
    waits = {"p": (iter_of_work(), ())}
    Network({}, waits, most_actions=10).run()  # <-- PTO822


@mistake("PTO849", LimitError)
def _():
    artifact = CpuSim().compile(pipe("recv c\nsend c\nrecv c"), archs.get(None), {})
    Program(artifact).set_channel("c", latency=5).run(max_cycles=1)  # <-- PTO849


def iter_of_work() -> Any:
    while True:
        yield Request("work")


@mistake("PTO430", ScheduleError)
def _():
    SearchSpace()  # <-- PTO430


@mistake("PTO430", ScheduleError)
def _():
    SearchSpace(dispatch=("affinity",), lanes=(4, 8))  # <-- PTO430


@mistake("PTO001", UnsupportedError)
def _():
    SearchSpace(dispatch=("nearest",))  # <-- PTO001


@mistake("PTO403", ScheduleError)
def _():
    SearchSpace(split={"b": (4, 0)})  # <-- PTO403


@mistake("PTO431", ScheduleError)
def _():
    AutoScheduler(SearchSpace(window=(4, 8)), trials=0)  # <-- PTO431


@mistake("PTO431", ScheduleError)
def _():
    ScheduleConfig(constants={"block": 4}).apply(in_workload(lambda x, y: copy(x=x[0], y=y[0])))  # <-- PTO431


@mistake("PTO408", ScheduleError)
def _():
    w = in_workload(lambda x, y: copy(x=x[0], y=y[0]))
    AutoScheduler(SearchSpace(split={"b": (4,)})).explore(w)  # <-- PTO408


@mistake("PTO155", TraceError)
def _():
    @workload
    def f(x, y):
        copy(x=x[0], y=y[0])

    auto_schedule(f)  # type: ignore[arg-type]  # <-- PTO155


@mistake("PTO432", ArtifactError)
def _():
    w = in_workload(lambda x, y: copy(x=x[0], y=y[0]))
    AutoScheduler(SearchSpace(window=(4,)), cache=__file__).explore(w)  # <-- PTO432


# ---- meshes

LINE = Mesh(x=2, y=2)
ROWS = TensorLayout(LINE, TensorShard("x"), TensorReplicate())
WHOLE = TensorLayout(LINE, TensorReplicate(), TensorReplicate())
SUM = TensorLayout(LINE, TensorReplicate(), TensorReplicate(), pending={"x": "sum"})


def on_mesh(body: Callable[..., object], layout: TensorLayout = ROWS) -> Any:
    """Trace `body(x)` as a workload's: a tensor f32[8,4] of that layout."""

    @workload
    def w(x):
        body(x)

    return w(TensorSpec((8, 4), F32, layout=layout))


@kernel
def row(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + 1.0)


@kernel
def rows(x: In[Tensor], z: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + z)


@kernel
def grown(x: In[Tensor], y: InOut[Tensor]):
    pto.store(y, y + x)


@kernel
def filled(y: Out[Tensor]):
    pto.store(y, pto.full(y.shape, 1, F32))


@kernel
def twice(y: InOut[Tensor]):
    pto.store(y, y + y)


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    Mesh(x=0)  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    Mesh()  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    Mesh(**{"a-b": 2})  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    TensorShard()  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    TensorLayout(LINE, "x")  # type: ignore[arg-type] # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    TensorLayout(LINE, TensorShard("z"))  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    TensorLayout(LINE, TensorShard("x"), TensorReplicate(), pending={"x": "sum"})  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    TensorLayout(LINE, TensorReplicate(), pending={"x": "product"})  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    TensorSpec((8,), F32, layout=ROWS)  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    Tensor(zeros(7, 4), layout=ROWS)  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    TensorSpec((Symbol("n"), 4), F32, layout=ROWS)  # <-- PTO890


@mistake("PTO890", LayoutIncompatibleError)
def _() -> None:
    tensor_layout_join(ROWS, TensorLayout(LINE, TensorReplicate(), TensorShard("x")))  # <-- PTO890


@mistake("PTO164", TraceError)
def _() -> None:
    TensorSpec((8, 4), F32, layout="S(x)")  # type: ignore[arg-type] # <-- PTO164


@mistake("PTO891", LayoutIncompatibleError)
def _() -> None:
    tensor_layout_join(ROWS, TensorLayout(LINE, TensorShard("y"), TensorReplicate()))  # <-- PTO891


@mistake("PTO891", LayoutIncompatibleError)
def _() -> None:
    tensor_layout_join(ROWS, TensorLayout(LINE, TensorShard("x")))  # <-- PTO891


@mistake("PTO891", LayoutIncompatibleError)
def _() -> None:
    @workload
    def w(x, z):
        y = empty_like(x)
        for i in P(4):
            rows(x=x[i : i + 1], z=z[i : i + 1], y=y[i : i + 1])  # <-- PTO891

    w(
        TensorSpec((8, 4), F32, layout=ROWS),
        TensorSpec((8, 4), F32, layout=TensorLayout(LINE, TensorShard("y"), TensorReplicate())),
    )


@mistake("PTO891", LayoutIncompatibleError)
def _() -> None:
    @workload
    def w(x, z):
        y = empty_like(x)
        for i in P(x.tiles(2)):
            rows(x=x[i], z=z[i], y=y[i])  # <-- PTO891

    w(TensorSpec((8, 4), F32, layout=ROWS), TensorSpec((8, 4), F32))


@mistake("PTO891", LayoutIncompatibleError)
def _() -> None:
    @workload
    def w(x, z):
        row(x=x, y=z)

    other = TensorLayout(Mesh(x=2), TensorShard("x"), TensorReplicate())
    w(TensorSpec((8, 4), F32, layout=ROWS), TensorSpec((8, 4), F32, layout=other))  # <-- PTO891


@mistake("PTO892", TypeCheckError)
def _() -> None:
    late = TensorLayout(LINE, TensorReplicate(), TensorReplicate(), pending={"y": "sum"})
    tensor_layout_join(ROWS, late)  # <-- PTO892


@mistake("PTO892", TypeCheckError)
def _() -> None:
    def body(x: Any) -> None:
        y, z = empty((4, 4), F32, layout=SUM), empty((4, 4), F32)
        row(x=x, y=y)
        row(x=y, y=z)  # <-- PTO892

    on_mesh(body)


@mistake("PTO892", TypeCheckError)
def _() -> None:
    def body(x: Any) -> None:
        y = empty((4, 4), F32, layout=SUM)
        row(x=x, y=y)
        twice(y=y)  # <-- PTO892

    on_mesh(body)


@mistake("PTO892", TypeCheckError)
def _() -> None:
    def body(x: Any) -> None:
        y, z = empty((4, 4), F32, layout=SUM), empty((4, 4), F32)
        row(x=x, y=y)
        n = item(y[0, 0])  # <-- PTO892
        with P.when(n > 0.0):
            row(x=x, y=z)

    on_mesh(body)


@mistake("PTO892", TypeCheckError)
def _() -> None:
    @workload  # <-- PTO892
    def w(x):
        y = empty((4, 4), F32, layout=SUM)
        row(x=x, y=y)
        return y

    w(TensorSpec((8, 4), F32, layout=ROWS))


@mistake("PTO893", LayoutIncompatibleError)
def _() -> None:
    def body(x: Any) -> None:
        y = empty((4, 4), F32, layout=WHOLE)
        row(x=x, y=y)  # <-- PTO893

    on_mesh(body)


@mistake("PTO893", LayoutIncompatibleError)
def _() -> None:
    def body(x: Any) -> None:
        y, z = empty((4, 4), F32), empty((4, 4), F32, layout=WHOLE)
        row(x=x, y=y)  # a device's own
        row(x=y, y=z)  # <-- PTO893

    on_mesh(body)


@mistake("PTO893", LayoutIncompatibleError)
def _() -> None:
    def body(x: Any) -> None:
        y = empty((4, 4), F32, layout=WHOLE)
        with P.when(item(x[0, 0]) > 0.0):
            filled(y=y)  # <-- PTO893

    on_mesh(body)


@mistake("PTO893", LayoutIncompatibleError)
def _() -> None:
    @workload  # <-- PTO893
    def w(x):
        y = empty((4, 4), F32)
        row(x=x, y=y)
        return y

    w(TensorSpec((8, 4), F32, layout=ROWS))


@mistake("PTO893", LayoutIncompatibleError)
def _() -> None:
    @workload  # <-- PTO893
    def w(x):
        y = empty((8, 4), F32, layout=SUM)
        row(x=x, y=y)
        return allreduce(y)

    w(TensorSpec((8, 4), F32, layout=WHOLE))


@mistake("PTO893", LayoutIncompatibleError)
def _() -> None:
    def body(x: Any) -> None:
        y, bias = empty((4, 4), F32, layout=SUM), empty((4, 4), F32, layout=WHOLE)
        row(x=x, y=y)
        filled(y=bias)
        grown(x=bias, y=y)  # <-- PTO893

    on_mesh(body)


@mistake("PTO104", TypeCheckError)
def _() -> None:
    on_mesh(lambda x: allreduce(empty((4, 4), DType.BOOL, layout=SUM)))  # <-- PTO104


@mistake("PTO891", LayoutIncompatibleError)
def _() -> None:
    @workload
    def w(x, y):
        row(x=x, y=y)

    one, other = TensorSpec((8, 4), F32, layout=ROWS), TensorLayout(Mesh(x=4), TensorShard("x"), TensorReplicate())
    two = TensorSpec((8, 4), F32, layout=other)
    combine(w(one, TensorSpec((8, 4), F32, layout=ROWS)), w(two, TensorSpec((8, 4), F32, layout=other)))  # <-- PTO891


@mistake("PTO894", LayoutIncompatibleError)
def _() -> None:
    on_mesh(lambda x: allreduce(x, "x"))  # <-- PTO894


@mistake("PTO894", LayoutIncompatibleError)
def _() -> None:
    on_mesh(lambda x: allgather(x, "y"))  # <-- PTO894


@mistake("PTO894", LayoutIncompatibleError)
def _() -> None:
    on_mesh(lambda x: reduce_scatter(x, 0, "x"))  # <-- PTO894


@mistake("PTO894", LayoutIncompatibleError)
def _() -> None:
    on_mesh(lambda x: relayout(x, SUM))  # <-- PTO894


@mistake("PTO894", LayoutIncompatibleError)
def _() -> None:
    on_mesh(lambda x: relayout(x, TensorLayout(Mesh(x=4), TensorShard("x"), TensorReplicate())))  # <-- PTO894


@mistake("PTO894", LayoutIncompatibleError)
def _() -> None:
    on_mesh(lambda x: allreduce(empty((4, 4), F32)))  # <-- PTO894


@mistake("PTO894", LayoutIncompatibleError)
def _() -> None:
    on_mesh(lambda x: reduce_scatter(empty((3, 4), F32, layout=SUM), 0))  # <-- PTO894


@mistake("PTO164", TraceError)
def _() -> None:
    on_mesh(lambda x: allgather(x[0:2], "x"))  # <-- PTO164


@mistake("PTO895", TraceError)
def _() -> None:
    def body(x: Any) -> None:
        for _ in P.seq(3):
            allgather(x, "x")  # <-- PTO895

    on_mesh(body)


@mistake("PTO895", TraceError)
def _() -> None:
    def body(x: Any) -> None:
        with P.when(item(x[0, 0]) > 0.0):
            allgather(x, "x")  # <-- PTO895

    on_mesh(body)


@mistake("PTO895", TraceError)
def _() -> None:
    @workload
    def w(x):
        allgather(x, "x")  # <-- PTO895

    vmap(w)(
        TensorSpec((3, 8, 4), F32, layout=TensorLayout(LINE, TensorReplicate(), TensorShard("x"), TensorReplicate()))
    )


@mistake("PTO157", TraceError)
def _() -> None:
    def body(x: Any) -> None:
        n = item(x[0, 0])
        y = relayout(x, WHOLE)
        with P.when(n > 0.0):  # <-- PTO157
            row(x=x, y=y)

    on_mesh(body)


@mistake("PTO821", UnsupportedError)
def _() -> None:
    discharge(on_mesh(lambda x: twice(y=x)).wir)  # <-- PTO821


@mistake("PTO405", CompileError)
def _() -> None:
    @workload
    def w(x):
        relayout(x, TensorLayout(LINE, *[TensorReplicate()] * 6, TensorShard("x")))

    w(TensorSpec((1, 1, 1, 1, 1, 4, 4), F32, layout=TensorLayout(LINE, *[TensorReplicate()] * 7)))  # <-- PTO405


@pytest.mark.parametrize(
    ("kind", "site", "code", "cls"),
    [
        ("cost", 0, "PTO714", ExecutionError),
        ("trips", 0, "PTO733", KernelError),
        ("memory", None, "PTO715", ExecutionError),
        ("changed", 0, "PTO731", ExecutionError),
    ],
)
def test_what_only_the_core_can_find(kind: str, site: int | None, code: str, cls: type[PtoError]) -> None:
    """Tiles that take gigabytes, or another thread at the right moment, are needed to bring these about."""
    record = {"kind": kind, "site": site, "arg": None, "dim": None, "check": None, "coords": [0], "values": []}
    error = to_error(program()._artifact, record)
    assert type(error) is cls
    assert error.code == code
    assert error.fix


def check(code: str, cls: type[PtoError], make: Mistake) -> PtoError:
    """Make the mistake and look at its message."""
    with pytest.raises(PtoError) as caught:
        make()
    error, text = caught.value, str(caught.value)
    assert (error.code, text.splitlines()[0]) == (code, f"[{code}] {error.what}")
    assert isinstance(error, cls)
    assert type(error).__name__ in (cls.__name__, "UnsupportedNameError")
    assert error.what
    assert error.fix
    assert text.splitlines()[-1] == f"fix: {error.fix}"
    assert error.loc is not None
    assert Path(error.loc.file) == Path(__file__), text
    shown = Path(__file__).read_text().splitlines()[error.loc.line - 1]
    assert f"# <-- {code}" in shown, text
    assert f"--> {error.loc.file}:{error.loc.line} in " in text
    assert f"{error.loc.line} | {shown}" in text
    if not shown.lstrip().startswith("@"):
        assert re.search(r"^ +\| +\^+$", text, re.MULTILINE), text
    return error


@pytest.mark.parametrize(
    ("code", "cls", "make"), MISTAKES, ids=[f"{c}-{m.__code__.co_firstlineno}" for c, _, m in MISTAKES]
)
def test_a_mistake_is_a_clear_error(code: str, cls: type[PtoError], make: Mistake) -> None:
    error = check(code, cls, make)
    assert (code in ("PTO001", "PTO194")) == isinstance(error, AttributeError)


def test_every_code_has_a_test() -> None:
    tested = {code for code, _, _ in MISTAKES} | {"PTO714", "PTO715", "PTO731", "PTO414"}
    of_jax = {code for code in CODES if code.startswith("PTO88") or code == "PTO896"}  # tests/interop
    assert tested == set(CODES) - of_jax


def test_a_mistake_leaves_nothing_behind() -> None:
    for _, _, make in MISTAKES[:40]:
        with pytest.raises(PtoError):
            make()
    assert threading.active_count() >= 1
    in_workload(lambda x, y: copy(x=x[0], y=y[0])).compile().run()
