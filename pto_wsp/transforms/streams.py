"""streams, stream_by: tasks that run one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pto_wsp.ir.scopes import MOST
from pto_wsp.trace.workload import Traced, TracedFunction, transformation
from pto_wsp.transforms.policies import positive
from pto_wsp.transforms.record import TaskRecord, key_of, rule_of
from pto_wsp.transforms.scope import scoped

W = TypeVar("W", bound=Traced | TracedFunction)


def streams(n: int) -> Callable[[W], W]:
    """`streams(2)(w)`: the tasks of w go to n streams in turn, or where `stream_by` says; those of one stream run one after another, in the
    order of issue.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   streams[count=2] { parallel_for b in batch: Dense(8) { ... } }

    Task k of the scope (counted from 0) is of stream k mod n; with a `stream_by` around or inside, of stream f mod n. A dispatch
    inside without lanes deals out n. Streams are private to their scope. Raises ScheduleError for a count below 1.
    """
    count = positive("streams", "n", n, MOST)

    def apply(w: Traced) -> Traced:
        return scoped(w, "streams", {"count": count})

    return transformation("streams", apply)


def stream_by(key: Callable[[TaskRecord], Any]) -> Callable[[W], W]:
    """`stream_by(lambda t: t.b)(w)`: tasks of one key run one after another, in the order of issue.

        before:  parallel_for b in batch: Dense(8) { ... }
        after:   stream_by[key=(task.b)] { parallel_for b in batch: Dense(8) { ... } }

    The stream is the key, an integer; with a `streams(n)` around or inside, the key floored modulo n. Raises ScheduleError for a key that is
    no integer of the task's coordinates.
    """
    rule = rule_of("stream_by", key_of, key)

    def apply(w: Traced) -> Traced:
        return scoped(w, "stream_by", {"key": rule})

    return transformation("stream_by", apply)
