"""dispatch: tasks get home lanes by a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.policies import Policy
from pto_wsp.transforms.scope import need_policy, scoped

W = TypeVar("W", bound=Traced | TracedFunction)


def dispatch(policy: Policy) -> Callable[[W], W]:
    """`dispatch(DispatchPolicy.round_robin(4))(w)`: the tasks of w go to the policy's lanes.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   dispatch[lane=mod(position(), lanes()), lanes=4, policy="round_robin"] { parallel_for b in batch: Dense(8) { ... } }

    The innermost dispatch around a task decides, and only there does the task count. Results stay the same; semantic time
    changes, and with policies that pin, the thread that really runs the task.

    Raises ScheduleError for what is no policy, for coordinates that a task inside does not have, and where a dispatch inside decides
    for all tasks.
    """
    policy = need_policy("dispatch", "dispatch", policy, "dispatch(DispatchPolicy.round_robin(4))")

    def apply(w: Traced) -> Traced:
        w = scoped(w, "dispatch", {**policy.params, "policy": policy.name, "lane": policy.rule})
        return scoped(w, "ready", {"policy": "work_steal", "steal": True}) if policy.steal else w

    return transformation("dispatch", apply)
