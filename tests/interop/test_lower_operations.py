"""Every operation of kernels in operations of JAX: on tails, in every dtype, as the reference evaluator has it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.conftest import Bench
from ops.test_every_operation import CASES, call, operands, valid_extent
from pto_wsp import DType
from pto_wsp import ops as pto
from pto_wsp.ir.build import tracing_kernel
from pto_wsp.ir.core import PRIMITIVES, Dialect, Direction, Kernel, Region, TileType
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ir.rounding import round_to
from pto_wsp.ops.table import Row
from pto_wsp.passes.expand import expand_kernel
from pto_wsp_jax.lower.kernel import SPECIAL, KernelLowering, Memory
from pto_wsp_jax.lower.tiles import RULES

x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
GATE = (DType.F32, DType.I32)


def test_every_leaf_has_a_form() -> None:
    leaves = {n for n, p in PRIMITIVES.items() if p.dialect is Dialect.TILE and p.expand is None}
    assert leaves - RULES.keys() - SPECIAL.keys() == {"cpp"}


def traced(row: Row, dtype: DType) -> tuple[Kernel, dict[str, np.ndarray[Any, Any]], TileType]:
    """The operation as a kernel, with arrays for its operands."""
    bench = Bench()
    rng = np.random.default_rng(4)
    with tracing_kernel(bench.builder):
        tiles, arrays = [], {}
        for i, (own, rows, cols) in enumerate(operands(row, dtype)):
            tiles.append(bench.tile(f"p{i}", rows, cols, own))
            numbers = rng.uniform(0.5, 4.0, (valid_extent(row, rows), valid_extent(row, cols)))
            arrays[f"p{i}"] = numbers > 2 if own is DType.BOOL else round_to(own, numbers)
        result = call(row, tiles)
        assert isinstance(result.type, TileType)
        pto.store(bench.tile("out", *result.type.shape, result.dtype, Direction.OUT), result)
    body = Region((), tuple(bench.builder.eqns))
    return expand_kernel(Kernel("kernel", "kernel", tuple(bench.builder.params.values()), body)), arrays, result.type


def lowered(kernel: Kernel, arrays: dict[str, Any], out: TileType) -> jax.Array:
    """The whole output tile; operands are NaN, or the largest integer, where they are not valid."""
    memory: dict[str, Memory] = {}
    for p in kernel.params:
        assert isinstance(p.type, TileType)
        array = arrays[p.name] if p.name in arrays else jnp.zeros(out.shape, out.dtype.numpy)
        rows, cols = array.shape
        beyond = (
            np.nan
            if jnp.issubdtype(array.dtype, jnp.floating)
            else True
            if array.dtype == bool
            else jnp.iinfo(array.dtype).max
        )
        whole = jnp.full(p.type.shape, np.asarray(beyond, array.dtype)).at[:rows, :cols].set(array)
        memory[p.name] = Memory.whole(whole, (rows, cols))
    return KernelLowering(kernel, memory, {}, None, batched=False, axes=frozenset()).run()["out"].array


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", DType if metafunc.config.getoption("--full") else GATE, ids=str)


def test_every_operation_is_what_the_evaluator_says(dtype: DType) -> None:
    rows = [row for row, d in CASES if d is dtype and row.name != "random_bits"]
    made = [traced(row, dtype) for row in rows]
    with x64():
        found = jax.jit(lambda given: [lowered(k, a, t) for (k, _, t), a in zip(made, given, strict=True)])(
            [a for _, a, _ in made]
        )
    for row, (kernel, arrays, _), got in zip(rows, made, found, strict=True):
        valid = evaluated(kernel, arrays)
        got = np.asarray(got)[: valid.shape[0], : valid.shape[1]]
        assert got.dtype == valid.dtype, row.name
        if valid.dtype.kind in "biu":
            np.testing.assert_array_equal(got, valid, row.name)
        else:
            eps = max(float(jnp.finfo(valid.dtype).eps), 2.0**-23)
            want = valid.astype(np.float64)
            np.testing.assert_allclose(got.astype(np.float64), want, 0, 8 * eps * np.abs(want).max(), err_msg=row.name)


def evaluated(kernel: Kernel, arrays: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    out = next(p for p in kernel.params if p.name == "out").type
    assert isinstance(out, TileType)
    stored = next(e.ins[1] for e in kernel.body.eqns if e.prim == "store")
    t = stored.type  # type: ignore[union-attr]
    assert isinstance(t, TileType)
    sizes = {f"{n}.{side}": k for n, a in arrays.items() for side, k in zip(("rows", "cols"), a.shape, strict=True)}
    shape = [d if isinstance(d, int) else sizes.get(d, 5) for d in (t.vrows, t.vcols)]
    given = {**arrays, "out": np.zeros(shape, out.dtype.numpy)}
    run_kernel(kernel, given)
    return given["out"]
