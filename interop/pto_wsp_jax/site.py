"""One program of calls: how operands and results are its tensors, and the programs that transformations of JAX make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pto_wsp.api.workload import Workload
from pto_wsp.errors import UnsupportedError, here
from pto_wsp.ir.core import Role, Wir
from pto_wsp.ir.coverage import Uses, is_written_first
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.passes.batch import batch
from pto_wsp.passes.partition import Level, levels, share, with_sizes
from pto_wsp.runtime.program import Program
from pto_wsp.trace.tensor import Tensor, TensorSpec
from pto_wsp_jax.signature import static_shape

VERSION = 1
"""Of what the numbers of a call mean: call_table.h."""

Result = tuple[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class Call:
    """What one call carries. Operands are the site's, then its constants."""

    constants: tuple[np.ndarray[Any, Any], ...]
    results: tuple[Result, ...]
    aliases: Mapping[int, int]  # operands whose memory results take over
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Site:
    """A program with what its calls take.

    arguments: the tensors of the caller, in order. Those in `fresh` are new memory; the others are operands, behind which come the sizes of
    the symbols in `sized`. Results are those of the workload, then the arguments that it writes.
    """

    program: Program
    arguments: tuple[str, ...]
    fresh: frozenset[str]
    sized: tuple[str, ...]
    options: Mapping[str, Any]
    paired: frozenset[str] = frozenset()  # operands of integers of 64 bits that come as pairs of 32
    _made: dict[object, Site] = field(default_factory=dict[object, "Site"], repr=False)

    def __post_init__(self) -> None:
        bound = self.program.bindings
        given = (n for n, t in bound.types.items() if t.role is Role.GIVEN)
        for n in given:
            if n in self.fresh - bound.written:
                what, fix = f"does not write {n}, which is new memory", "give it an array"
            elif n in bound.written - {*self.arguments}:
                what, fix = f"writes tensor {n}, which is none of its arguments", "make it an argument"
            else:
                continue
            raise UnsupportedError(
                *("PTO881", f"workload {self} {what}"),
                loc=here(),
                fix=f"{fix}: what a function of JAX arrays writes it gives back",
            )

    def __repr__(self) -> str:
        """As it stands in a jaxpr."""
        return self.wir.name

    @property
    def wir(self) -> Wir:
        """The workload."""
        return self.program.bindings.wir

    @property
    def returned(self) -> tuple[str, ...]:
        """The tensors that the workload returns: the first results."""
        returns = self.wir.returns
        return returns if isinstance(returns, tuple) else () if returns is None else (returns,)

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The arguments that are arrays."""
        return tuple(n for n in self.arguments if n not in self.fresh)

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The arguments that it writes: the other results."""
        return tuple(n for n in self.arguments if n in self.program.bindings.written)

    @cached_property
    def constants(self) -> tuple[str, ...]:
        """The tensors whose values calls carry."""
        bound = self.program.bindings
        return tuple(n for n in bound.arrays if n in bound.types and n not in self.operands)

    @cached_property
    def call(self) -> Call:
        """What its calls carry."""
        arrays, names = self.program.bindings.arrays, (*self.returned, *self.written)
        return Call(
            tuple(_narrow(arrays[n]) for n in self.constants),
            tuple(self._result(n) for n in names),
            {self.operands.index(n): k for k, n in enumerate(names) if n in self.operands},
            {"key": self.program.hash, "artifact": self.program.to_bytes(), "numbers": self._numbers(names)},
        )

    def _result(self, name: str) -> Result:
        bound = self.program.bindings
        t = bound.types[name]
        sizes = {n: size for n, size in bound.sizes.items() if n not in self.sized}
        return static_shape(name, t, sizes, str(self)), t.dtype.numpy

    def _numbers(self, results: tuple[str, ...]) -> np.ndarray[Any, Any]:
        """As call_table.h has them."""
        bound = self.program.bindings
        n_operands = len(self.operands) + len(self.sized)
        place = {n: k for k, n in enumerate(self.operands)}
        place |= {n: n_operands + k for k, n in enumerate(self.constants)}
        place |= {n: n_operands + len(self.constants) + k for k, n in enumerate(results)}
        sizes_at = {n: len(self.operands) + k for k, n in enumerate(self.sized)}
        wir, uses = self.wir, Uses()
        zeroed = [place[n] for n in self.returned if not is_written_first(wir, uses, wir.body, n, {})]
        zeroed += [place[n] for n in self.written if n in self.fresh]
        lists = (
            [-1 if t.role is Role.TEMPORARY else place[n] for n, t in bound.types.items()],
            zeroed,
            [place[n] for n in (*self.operands, *self.constants) if n in self._wide],
            [0 if n in self.sized else bound.sizes[n] for n in wir.symbols],
            [sizes_at.get(n, -1) for n in wir.symbols],
        )
        return np.array([VERSION, self.program.threads, *(x for one in lists for x in (len(one), *one))], np.int64)

    # transformations

    def batched(self, dims: Mapping[str, int], size: int) -> Site:
        """The site that does the work for each of `size` parts of the operands in `dims`, at that dimension. What is written must be among them.
        Other results have the new dimension in front."""
        key = ("batch", tuple(sorted(dims.items())), size)
        if key not in self._made:
            bound = self.program.bindings
            tensors: dict[str, TensorSpec] = {n: Tensor(bound.arrays[n], name=n) for n in self.constants}
            wir = batch(self.wir, {**dims, **dict.fromkeys(self.fresh, 0)}, size)
            refuse_races(wir)  # of slots, which examples share
            program = Workload(wir, tensors, dict(bound.sizes)).compile(**self.options)
            self._made[key] = Site(program, self.arguments, self.fresh, self.sized, self.options)
        return self._made[key]

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """What of it can be divided between devices."""
        return () if self.sized else levels(with_sizes(self.wir, self.program.bindings.sizes))

    def share(self, parts: tuple[int, ...]) -> Site:
        """The site of one of `parts[k]` equal shares of each level k."""
        if all(n == 1 for n in parts):
            return self
        if ("share", parts) not in self._made:
            wir = with_sizes(self.wir, self.program.bindings.sizes)
            program = Workload(share(wir, self.levels, parts)).compile(**self.options)
            arguments = (*self.arguments, *self.constants)  # each device has its part of what has a value, too
            self._made["share", parts] = Site(program, arguments, self.fresh, (), self.options, self._wide)
        return self._made["share", parts]

    @property
    def _wide(self) -> frozenset[str]:
        """The operands and constants that come as pairs."""
        arrays = self.program.bindings.arrays
        return self.paired | {n for n in self.constants if arrays[n].dtype.itemsize == 8}


def _narrow(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers of 64 bits as pairs of 32: JAX may have none."""
    a = np.array(a, order="C")  # what it is now
    return a.view(np.uint32).reshape(*a.shape, 2) if a.dtype.itemsize == 8 else a
