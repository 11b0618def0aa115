"""What a kernel costs on an arch, before anything runs: `kernel.cost(arch, ...)` and `kernel.roofline(arch, ...)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pto_wsp import arch as archs
from pto_wsp.arch import Arch
from pto_wsp.arch.cost import CoreUnit, Timing, kernel_timing
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import Kernel, RegionType, ScalarType, TileType
from pto_wsp.ir.scalars import Number
from pto_wsp.ops.value import is_number, literal
from pto_wsp.passes.canonicalize_kernel import canonicalize_kernel
from pto_wsp.passes.expand import expand_kernel
from pto_wsp.trace.annotations import ConstexprParam, TileParam
from pto_wsp.trace.kernel import KernelFunction


class Costed(KernelFunction):
    """A kernel of the user's, which can say what it costs."""

    def cost(self, arch: Any = None, **given: Any) -> int:
        """Cycles of one task on `arch` (a name, as "ascend_a2a3:pipes", the path of a file, an Arch; None: the default).

        given, by parameter: (rows, cols) that are valid of a tile, by default all; the lengths of a region; the number of a scalar,
        where a loop, branch or extent depends on it; the value of a Constexpr; a `Tile[...]` for a bare tensor. Raises TypeCheckError
        for other parameters and lengths, CompileError for an arch that is not there, what the kernel's scalars raise, and KernelError
        where loops run too often to be walked here, trip by trip; `program.stats.total_cycles` of a run has what they cost.
        """
        return max(self._timing(archs.get(arch), given).free)

    def roofline(self, arch: Any = None, **given: Any) -> str:
        """What bounds one task on `arch`, as text: cycles of each unit, bytes, flops and their ratio. Arguments are those of `cost`."""
        machine = archs.get(arch)
        return _report(self.label, machine, self._timing(machine, given))

    def _timing(self, arch: Arch, given: Mapping[str, Any]) -> Timing:
        kernel, values = _specialised(self, given)
        lowered = canonicalize_kernel(expand_kernel(canonicalize_kernel(kernel)))
        try:
            return kernel_timing(lowered, arch, values)
        except KeyError:
            missing = [p.name for p in kernel.params if isinstance(p.type, ScalarType) and p.name not in values]
            raise TypeCheckError(
                "PTO141",
                f"kernel {self.label}: its cost depends on scalars that were not given",
                values={"missing": ", ".join(missing)},
                loc=here(),
                fix=f"give their numbers: {self.label}.cost(arch, {missing[0]}=...)",
            ) from None


def _specialised(k: KernelFunction, given: Mapping[str, Any]) -> tuple[Kernel, dict[str, Number]]:
    """The kernel as wir, and the extents and scalars of one task."""
    unknown = [n for n in given if n not in k.specs]
    if unknown:
        raise TypeCheckError(
            "PTO140",
            f"kernel {k.label} has no parameter {unknown[0]}",
            values={"parameters": ", ".join(k.specs)},
            loc=here(),
            fix="name its parameters: sizes of tiles and regions, numbers of scalars",
        )
    bare = [n for n, s in k.specs.items() if isinstance(s, TileParam) and s.type is None]
    constants = [n for n, s in k.specs.items() if isinstance(s, ConstexprParam)]
    kernel = k.wir(**{n: given[n] for n in (*bare, *constants) if n in given})
    values: dict[str, Number] = {}
    for p in kernel.params:
        if isinstance(p.type, ScalarType):
            if p.name in given:
                values[p.name] = literal(given[p.name], p.type.dtype, p.name).value
            continue
        assert isinstance(p.type, (TileType, RegionType))
        x = given.get(p.name, p.type.shape) if p.name not in bare else p.type.shape
        sides = ("rows", "cols") if isinstance(p.type, TileType) else tuple(map(str, range(len(p.type.shape))))
        values |= {f"{p.name}.{s}": n for s, n in zip(sides, _extents(k.label, p.name, p.type, x), strict=True)}
    return kernel, values


def _extents(label: str, name: str, t: TileType | RegionType, x: Any) -> tuple[int, ...]:
    whole = t.shape
    good = isinstance(x, tuple) and len(x) == len(whole) and all(map(_is_length, x))
    if good and isinstance(t, TileType):
        good = all(n <= most for n, most in zip(x, t.shape, strict=True))
    elif good:
        good = all(most in (None, n) for n, most in zip(x, whole, strict=True))
    if not good:
        raise TypeCheckError(
            "PTO142",
            f"kernel {label}: {name} needs the lengths of {'its valid part' if isinstance(t, TileType) else 'the region'}",
            values={name: t, "got": repr(x)[:80]},
            loc=here(),
            fix=f"write {name}=({', '.join('128' if n is None else str(n) for n in whole)})",
        )
    return tuple(map(int, x))


def _is_length(n: object) -> bool:
    return is_number(n) and isinstance(n, (int, np.integer)) and not isinstance(n, bool) and bool(n >= 0)


def _report(label: str, arch: Arch, timing: Timing) -> str:
    cost = max(timing.free)
    rows = [f"{label} on {arch.name}, model {arch.model}: {cost} cycles, {_time(cost, arch)}"]
    rows.append(f"  {'unit':8}{'cycles':>14}{'busy':>8}{'bytes':>14}{'flops':>16}")
    for unit in CoreUnit:
        busy, moved, flops = timing.busy[unit], timing.bytes[unit], timing.flops[unit]
        share = f"{100 * busy / cost:.0f} %" if cost else "-"
        rows.append(f"  {unit!s:8}{busy:>14}{share:>8}{moved or '-':>14}{flops or '-':>16}")
    moved, flops = sum(timing.bytes), sum(timing.flops)
    ratio = f"{flops / moved:.3g} flop/byte" if moved else "nothing is moved"
    rows.append(
        f"  intensity {ratio}, {flops / cost if cost else 0:.3g} flop/cycle, {moved / cost if cost else 0:.3g} byte/cycle"
    )
    bound = max(CoreUnit, key=lambda u: timing.busy[u])
    least = timing.busy[bound]
    if least:
        rows.append(
            f"  bound by {bound}: its {least} cycles are the least that any overlap gives; this is {cost / least:.3g} times that"
        )
    return "\n".join(rows)


def _time(cycles: int, arch: Arch) -> str:
    return f"{cycles * 1e3 / arch.clock_khz:.4g} us"
