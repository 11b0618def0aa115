"""The transformations as methods, of workloads and of the functions that make them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pto_wsp.transforms.dispatch import dispatch
from pto_wsp.transforms.fuse import fuse
from pto_wsp.transforms.graph_policies import DepsMode, Start, TaskGraphConfig, TaskWindow, TracePolicy
from pto_wsp.transforms.interchange import interchange
from pto_wsp.transforms.pipeline import pipeline_loop
from pto_wsp.transforms.policies import Policy
from pto_wsp.transforms.record import TaskRecord
from pto_wsp.transforms.split import split
from pto_wsp.transforms.streams import stream_by, streams
from pto_wsp.transforms.task_graph import task_graph
from pto_wsp.transforms.tile import tile
from pto_wsp.transforms.timing import timing
from pto_wsp.transforms.unroll import unroll
from pto_wsp.transforms.window import window


class Schedules:
    """`x.dispatch(policy)` is `dispatch(policy)(x)`: of a workload now, of a function whenever it is traced."""

    @abstractmethod
    def then(self, step: Callable[[Any], Any]) -> Self:
        """This with one transformation more."""

    def dispatch(self, policy: Policy) -> Self:
        """`dispatch(policy)(self)`: the tasks go to the policy's lanes."""
        return self.then(dispatch(policy))

    def streams(self, n: int) -> Self:
        """`streams(n)(self)`: the tasks go to n streams, each of which runs one after another."""
        return self.then(streams(n))

    def stream_by(self, key: Callable[[TaskRecord], Any]) -> Self:
        """`stream_by(key)(self)`: tasks of one key run one after another."""
        return self.then(stream_by(key))

    def timing(self, policy: Policy) -> Self:
        """`timing(policy)(self)`: when the tasks are issued and released."""
        return self.then(timing(policy))

    def window(self, bound: TaskWindow) -> Self:
        """`window(bound)(self)`: a bound of the tasks issued and not retired."""
        return self.then(window(bound))

    def task_graph(
        self,
        config: TaskGraphConfig | None = None,
        *,
        deps: DepsMode | None = None,
        window: TaskWindow | None = None,
        pools: Policy | None = None,
        ready: Policy | None = None,
        start: Start | None = None,
        trace: TracePolicy | None = None,
        **options: object,
    ) -> Self:
        """`task_graph(deps=..., window=..., ...)(self)`: how the tasks depend on each other, and are run."""
        return self.then(
            task_graph(config, deps=deps, window=window, pools=pools, ready=ready, start=start, trace=trace, **options)
        )

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

    def pipeline_loop(self, *, loop: str = "", depth: int = 2, **options: object) -> Self:
        """`pipeline_loop(loop=..., depth=...)(self)`: the statements of a loop's body become processes that run beside each other."""
        return self.then(pipeline_loop(loop=loop, depth=depth, **options))
