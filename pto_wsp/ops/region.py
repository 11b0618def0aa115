"""Region parameters of kernels, from which tiles are loaded."""

from __future__ import annotations

from typing import Any

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.ir.core import KernelParam, RegionType, Var
from pto_wsp.ops.scalars import extent
from pto_wsp.ops.value import Value


class RegionRef(Value):
    """A region parameter of the kernel: memory from which `load` takes tiles. `shape`: a number or a scalar for each dimension."""

    __slots__ = ("param",)

    def __init__(self, builder: KernelBuilder, param: KernelParam) -> None:
        super().__init__(builder, Var(param.name, param.type))
        self.param = param

    @property
    def memory(self) -> Var:
        """The parameter itself, as an operand of load and store."""
        return self._var

    @property
    def shape(self) -> tuple[Any, ...]:
        """A Python number of each dimension that the annotation states, a scalar of the others."""
        assert isinstance(self.param.type, RegionType)
        return tuple(
            Value(self._builder, extent(self._builder, f"{self.param.name}.{k}")) if n is None else n
            for k, n in enumerate(self.param.type.shape)
        )

    def read(self) -> Var:
        raise TypeCheckError(
            "PTO132",
            f"the region {self.param.name} as a tile",
            values={self.param.name: f"{self.param.direction} {self.type}"},
            loc=here(),
            fix=f"take a tile of it: pto.load({self.param.name}, (row, col), (rows, cols))",
        )
