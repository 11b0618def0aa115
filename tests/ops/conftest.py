"""A kernel under trace, and a small evaluator of what was traced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from pto_wsp.ir.build import KernelBuilder, tracing_kernel
from pto_wsp.ir.core import PRIMITIVES, Direction, DType, Eqn, KernelParam, Literal, ScalarType, TileType, Var
from pto_wsp.ops.value import Ref, Value


class Bench:
    """Builds a kernel by hand: `tile` and `scalar` add parameters, operations append equations."""

    def __init__(self) -> None:
        self.builder = KernelBuilder("bench")

    def tile(
        self, name: str, rows: int, cols: int, dtype: DType = DType.F32, direction: Direction = Direction.IN
    ) -> Ref:
        param = KernelParam(name, direction, TileType(dtype, rows, cols, f"{name}.rows", f"{name}.cols"))
        self.builder.params[name] = param
        return Ref(self.builder, param)

    def scalar(self, name: str, dtype: DType = DType.F32) -> Value:
        self.builder.params[name] = KernelParam(name, Direction.IN, ScalarType(dtype))
        return Value(self.builder, Var(name, ScalarType(dtype)))

    @property
    def last(self) -> Eqn:
        return self.builder.eqns[-1]

    def evaluate(self, value: Value, **arrays: np.ndarray) -> np.ndarray:
        """The number of `value` for parameters of these (valid) arrays, each leaf rounded once to its dtype."""
        env: dict[str, Any] = dict(arrays)
        run(self.builder.eqns, env)
        return env[value.read().name]


def run(eqns: Sequence[Eqn], env: dict[str, Any]) -> None:
    for eqn in eqns:
        (out,) = eqn.outs
        primitive = PRIMITIVES[eqn.prim]
        if primitive.expand is not None:
            inner = KernelBuilder("expansion")
            operands = [v for v in eqn.ins if isinstance(v, Var)]
            assert len(operands) == len(eqn.ins)
            inner._used |= set(env)
            with tracing_kernel(inner):
                result = primitive.expand(*(Value(inner, v) for v in operands), **eqn.params)
            run(inner.eqns, env)
            env[out.name] = env[result.read().name]
        else:
            assert primitive.reference is not None
            assert isinstance(out.type, TileType)
            arrays = [np.array(x.value, x.dtype.numpy) if isinstance(x, Literal) else env[str(x)] for x in eqn.ins]
            with np.errstate(all="ignore"):
                env[out.name] = np.asarray(primitive.reference(eqn.params, *arrays)).astype(out.type.dtype.numpy)


@pytest.fixture
def k() -> Iterator[Bench]:
    bench = Bench()
    with tracing_kernel(bench.builder):
        yield bench
