"""The cycles of tasks on an arch, as far as they are known before a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from pto_wsp.arch import Arch
from pto_wsp.arch.cost import kernel_cost
from pto_wsp.errors import PtoError
from pto_wsp.ir.core import Kernel, RegionType, TileType
from pto_wsp.ir.scalars import Number
from pto_wsp.passes.canonicalize_kernel import canonicalize_kernel
from pto_wsp.passes.expand import expand_kernel
from pto_wsp.proofs.walk import Cycles, Known


def cycles_on(arch: Arch) -> Cycles:
    """The cycles of a task by its kernel, the lengths of its views and the values of its scalars; None where they depend on what is
    not known, or where the task fails."""
    lowered: dict[str, Kernel] = {}

    @lru_cache(maxsize=1024)
    def of(name: str, given: tuple[tuple[str, Number], ...]) -> int | None:
        try:
            return kernel_cost(lowered[name], arch, dict(given))
        except (KeyError, PtoError):
            return None

    def cycles(kernel: Kernel, arguments: Sequence[tuple[int, ...] | Known]) -> int | None:
        if kernel.name not in lowered:
            lowered[kernel.name] = canonicalize_kernel(expand_kernel(canonicalize_kernel(kernel)))
        given: list[tuple[str, Number]] = []
        for p, x in zip(kernel.params, arguments, strict=True):
            if isinstance(x, tuple):
                assert isinstance(p.type, (TileType, RegionType))
                # a tile of one row or column may be given by a view of one dimension
                sides = ("rows", "cols") if isinstance(p.type, TileType) else tuple(map(str, range(len(p.type.shape))))
                lengths = (1,) * (len(sides) - len(x)) + x
                given += [(f"{p.name}.{side}", n) for side, n in zip(sides, lengths, strict=True)]
            elif x is not None:
                given.append((p.name, x))
        return of(kernel.name, tuple(given))

    return cycles
