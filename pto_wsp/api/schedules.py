"""The transformations as methods, of workloads and of the functions that make them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pto_wsp.ir.core import Policy
from pto_wsp.transforms.dispatch import dispatch
from pto_wsp.transforms.fuse import fuse
from pto_wsp.transforms.interchange import interchange
from pto_wsp.transforms.policies import DepsMode, TaskWindow
from pto_wsp.transforms.split import split
from pto_wsp.transforms.task_graph import task_graph
from pto_wsp.transforms.tile import tile
from pto_wsp.transforms.unroll import unroll


class Schedules:
    """`x.dispatch(policy)` is `dispatch(policy)(x)`: of a workload now, of a function whenever it is traced."""

    @abstractmethod
    def then(self, step: Callable[[Any], Any]) -> Self:
        """This with one transformation more."""

    def dispatch(self, policy: Policy) -> Self:
        """`dispatch(policy)(self)`: the tasks go to the policy's lanes."""
        return self.then(dispatch(policy))

    def task_graph(self, *, deps: DepsMode | None = None, window: TaskWindow | None = None, **options: object) -> Self:
        """`task_graph(deps=..., window=...)(self)`: how tasks depend on each other, and a bound of those issued and not retired."""
        return self.then(task_graph(deps=deps, window=window, **options))

    def split(self, *, loop: str, size: int) -> Self:
        """`split(loop=..., size=...)(self)`: iterations of a loop in groups of `size`, and a loop inside of each group."""
        return self.then(split(loop=loop, size=size))

    def tile(self, *, sizes: Mapping[str, int]) -> Self:
        """`tile(sizes=...)(self)`: the iterations of nested parallel loops in blocks."""
        return self.then(tile(sizes=sizes))

    def interchange(self, *, outer: str, inner: str) -> Self:
        """`interchange(outer=..., inner=...)(self)`: swap two perfectly nested parallel loops."""
        return self.then(interchange(outer=outer, inner=inner))

    def unroll(self, *, loop: str, factor: int | None = None) -> Self:
        """`unroll(loop=..., factor=...)(self)`: write the iterations of a loop out, all of them or `factor` at a time."""
        return self.then(unroll(loop=loop, factor=factor))

    def fuse(self, *, loop: str | None = None, kernels: Sequence[str] | None = None) -> Self:
        """`fuse(loop=..., kernels=...)(self)`: the tasks of one body become one task of one kernel."""
        return self.then(fuse(loop=loop, kernels=kernels))
