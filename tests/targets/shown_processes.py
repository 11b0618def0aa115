"""Pipelines show in cycles, in orders of tasks, and in answers."""

from __future__ import annotations

from typing import Any

from pto_wsp import Channel, P, Workload, consume, send, try_send, workload
from targets.shown import N, brief, ones, ran, shows


def two_stages(depth: int, *, timed: bool = False) -> Workload:
    """Rows that one process computes and another one takes on; timed: it drops those that there is no room for."""
    c = Channel[int]("c", depth=depth)
    give: Any = try_send if timed else send

    @workload
    def w(X, Y, Z, W):
        with P.pipe(timed=timed):
            for i in P.seq(N):
                brief(x=X[i], out=Y[i])
                give(c, i)
            with consume(c) as k:
                brief(x=Y[k], out=Z[k])
                brief(x=Z[k], out=W[k])

    return w(*(ones(N, 1, 8) for _ in range(4)))


@shows("csp.processes")
def _() -> None:
    p = ran(two_stages(2))
    one = p.stats.total_cycles // (2 * N + 1)
    assert p.stats.total_cycles == (2 * N + 1) * one  # of 3 * N tasks
    assert p.stats.task_count == 3 * N


@shows("csp.channels")
def _() -> None:
    waits = [ran(two_stages(depth)).stats.semantic.channels["c"].full_cycles for depth in (1, 4, 64)]
    assert waits[0] > waits[1] > waits[2] == 0


@shows("csp.timed")
def _() -> None:
    deep, shallow = (ran(two_stages(depth, timed=True)) for depth in (64, 1))
    assert shallow.stats.task_count < deep.stats.task_count == 3 * N
