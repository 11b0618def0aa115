"""timing: when tasks are issued and released."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.policies import Policy
from pto_wsp.transforms.scope import need_policy, scoped

W = TypeVar("W", bound=Traced | TracedFunction)


def timing(policy: Policy) -> Callable[[W], W]:
    """`timing(TimingPolicy.batched(16))(w)`: when the tasks of w are issued, and when they are released to become ready.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   timing[batch=16, policy="batched"] { parallel_for b in batch: Dense(8) { ... } }

    Each scope has a batch of its own. Results stay the same; semantic time changes. Raises ScheduleError for what is no policy, and
    for interleaved timing of a part of a workload.
    """
    policy = need_policy("timing", "timing", policy, "timing(TimingPolicy.batched(16))")

    def apply(w: Traced) -> Traced:
        rule = {} if policy.rule is None else {"distance": policy.rule}
        return scoped(w, "timing", {**policy.params, "policy": policy.name, **rule})

    return transformation("timing", apply)
