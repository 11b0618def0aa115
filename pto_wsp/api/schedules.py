"""The transformations as methods, of workloads and of the functions that make them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

from pto_wsp.ir.core import Policy
from pto_wsp.transforms.dispatch import dispatch
from pto_wsp.transforms.policies import DepsMode, TaskWindow
from pto_wsp.transforms.task_graph import task_graph


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
