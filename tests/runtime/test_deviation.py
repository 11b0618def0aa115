"""The bounds of `check="numerics"`: no operation of the runtime leaves them, and they are not much wider than they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ops.test_every_operation import CASES, VALID, call, operands, valid_extent
from pto_wsp import Program, arch
from pto_wsp import ops as pto
from pto_wsp.ir.build import KernelBuilder, tracing_kernel
from pto_wsp.ir.core import (
    PRIMITIVES,
    Dialect,
    Direction,
    DType,
    Eqn,
    Kernel,
    KernelParam,
    Region,
    TensorType,
    TileAt,
    TileType,
    Var,
    View,
    Wir,
)
from pto_wsp.ir.expr import const
from pto_wsp.ir.rounding import round_to
from pto_wsp.ops.table import Row
from pto_wsp.ops.value import Ref, Value
from pto_wsp.passes.expand import expand_kernel
from pto_wsp.runtime import deviation, numerics
from pto_wsp.runtime.numerics import Reference
from pto_wsp.targets.cpu_sim.target import CpuSim

ALL = frozenset({"races", "bounds", "numerics"})
Array = np.ndarray[Any, Any]


def deviating(x: Value) -> Value:
    """Another number, about which the runtime and the evaluator disagree a little."""
    return pto.tanh(x) + pto.exp(x * 0.25) if x.dtype in (DType.F32, DType.F16, DType.BF16) else x


def one_task(row: Row, dtype: DType, *, exact: bool, seed: int) -> tuple[Wir, dict[str, Array]]:
    """A workload of one task that applies one operation, on tails."""
    rng = np.random.default_rng(seed)
    builder = KernelBuilder("k")
    arrays: dict[str, Array] = {}

    def param(name: str, rows: int, cols: int, own: DType, direction: Direction = Direction.IN) -> Ref:
        p = KernelParam(name, direction, TileType(own, rows, cols, f"{name}.rows", f"{name}.cols"))
        builder.params[name] = p
        return Ref(builder, p)

    with tracing_kernel(builder):
        tiles: list[Value] = []
        for i, (own, rows, cols) in enumerate(operands(row, dtype)):
            tile = param(f"p{i}", rows, cols, own)
            tiles.append(tile if exact else deviating(tile))
            numbers = rng.uniform(0.5, 4.0, (valid_extent(row, rows), valid_extent(row, cols)))
            arrays[f"p{i}"] = numbers > 2 if own is DType.BOOL else round_to(own, numbers)
        result = call(row, tiles)
        assert isinstance(result.type, TileType)
        pto.store(param("out", *result.type.shape, result.dtype, Direction.OUT), result)
    kernel = Kernel("k", "k", tuple(builder.params.values()), Region((), tuple(builder.eqns)))
    valid = {f"{n}.{s}": k for n, a in arrays.items() for s, k in zip(("rows", "cols"), a.shape, strict=True)}
    # an extent that the kernel computes is the larger of two that are VALID
    shape = [d if isinstance(d, int) else valid.get(d, VALID) for d in (result.type.vrows, result.type.vcols)]
    arrays["out"] = np.zeros(shape, result.dtype.numpy)

    def view(p: KernelParam) -> View:
        assert isinstance(p.type, TileType)
        rows, cols = arrays[p.name].shape
        return View(p.name, (TileAt(const(0), p.type.rows, const(rows)), TileAt(const(0), p.type.cols, const(cols))))

    tensors = tuple(
        Var(p.name, TensorType(p.type.dtype, tuple(map(const, arrays[p.name].shape)))) for p in kernel.params
    )
    task = Eqn("task", (), tuple(map(view, kernel.params)), {"kernel": "k", "coords": ()})
    return Wir("w", (), tensors, (kernel,), Region((), (task,))), arrays


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("row", "dtype"), CASES, ids=[f"{row.name}-{dtype}" for row, dtype in CASES])
def test_the_runtime_stays_inside(row: Row, dtype: DType, exact: bool, request: pytest.FixtureRequest) -> None:
    for seed in range(3 if request.config.getoption("--full") else 1):
        wir, arrays = one_task(row, dtype, exact=exact, seed=seed)
        Program(CpuSim().compile(wir, arch.get(), {}), check=ALL).bind(arrays).run()


@pytest.mark.parametrize(("row", "dtype"), CASES, ids=[f"{row.name}-{dtype}" for row, dtype in CASES])
def test_the_bound_says_something(row: Row, dtype: DType) -> None:
    """Of exact operands each result has a bound in proportion to its size, exact operations one of 0."""
    wir, arrays = one_task(row, dtype, exact=True, seed=0)
    found = Reference(expand_kernel(wir.kernels[0]), arrays)
    radius, size = found.radii["out"], np.abs(found.values["out"].astype(np.float64))
    (out,) = (p.type.dtype for p in wir.kernels[0].params if p.name == "out")
    unit = {DType.F64: 2.0**-53, DType.F32: 2.0**-24, DType.F16: 2.0**-11, DType.BF16: 2.0**-8}.get(out, 0.0)
    if row.error == "exact":
        assert not radius.any()
    else:
        assert (radius <= 200 * unit * np.maximum(size, size.max())).all()


def test_every_leaf_has_a_bound_or_is_known_to_have_none() -> None:
    leaves = {n for n, p in PRIMITIVES.items() if p.dialect is Dialect.TILE and p.opcode is not None} - set(
        numerics.OWN
    )
    assert leaves == set(deviation._RULES) | set(deviation._OWN) | set(deviation.OPEN)
