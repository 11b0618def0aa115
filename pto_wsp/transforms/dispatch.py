"""dispatch: tasks get home lanes by a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pto_wsp.errors import ScheduleError, here
from pto_wsp.ir.core import Policy
from pto_wsp.trace.workload import Traced

W = TypeVar("W", bound=Traced)


def dispatch(policy: Policy) -> Callable[[W], W]:
    """`dispatch(DispatchPolicy.round_robin(4))(w)`: the tasks of w go to the policy's lanes.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   dispatch[policy=round_robin(4)] { parallel_for b in batch: Dense(8) { ... } }

    The innermost dispatch around a task decides, and only there does the task count. Results stay the same; semantic time
    changes. Raises ScheduleError for what is no policy.
    """
    if not isinstance(policy, Policy):
        raise ScheduleError(
            "PTO403",
            "dispatch needs a policy",
            values={"got": repr(policy)[:80]},
            loc=here(),
            fix="write dispatch(DispatchPolicy.round_robin(4))",
        )

    def apply(w: W) -> W:
        Traced.need("dispatch", w)
        return w.wrapped("dispatch", policy=policy)

    return apply
