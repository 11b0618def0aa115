"""A queue of requests of skewed lengths, and replicas of one process that take them: whoever is free takes the next.

A request is one query over its own keys and values, as many as its length says; lengths are drawn from Zipf's law: most are short, and
a few very long. `generate` puts the numbers of requests into the queue. For comparison the same tasks are dealt out
beforehand, request i to lane i mod n. README.md shows what the queue gains, and what it cannot.
"""

import heapq
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pto_wsp import (
    Channel,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Tensor,
    Tile,
    Workload,
    connect,
    item,
    kernel,
    process,
    pto,
    replicate,
    send,
    workload,
)
from pto_wsp.tools.bounds import Array, Estimate, compare
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

REQUESTS, LONGEST, DIM = 256, 512, 64
REPLICAS = (1, 2, 4, 8)
DEPTH = 4
ARCH = "ascend_a2a3"
F32 = DType.F32


@kernel
def attend(
    q: In[Tile[1, DIM, F32]],
    k: In[Tile[LONGEST, DIM, F32]],
    v: In[Tile[LONGEST, DIM, F32]],
    out: Out[Tile[1, DIM, F32]],
):
    s = pto.matmul(q, k, transpose_b=True) * (1 / math.sqrt(DIM))
    pto.store(out, pto.matmul(pto.softmax(s), v))


def answer(i: Any, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, out: Tensor) -> None:
    """Request i: q, out [requests, DIM]; k, v [requests, LONGEST, DIM]; lengths [requests], at least 1."""
    n = item(lengths[i])
    attend[i](q=q[i : i + 1], k=k[i].valid(rows=n), v=v[i].valid(rows=n), out=out[i : i + 1])


@workload
def queued(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, out: Tensor, replicas: int):
    """`replicas` processes take requests in the order of the queue."""
    queue = Channel[int](depth=DEPTH)

    def generate() -> None:
        for i in P.seq(q.shape[0]):
            send(queue, i)

    work = process("work").consumes(queue).body(lambda i: answer(i, q, k, v, lengths, out))
    connect([process("generate").produces(queue).body(generate), *replicate(work, replicas)], [queue])


@workload
def dealt(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, out: Tensor):
    """Nobody chooses."""
    for i in P(q.shape[0]):
        answer(i, q, k, v, lengths, out)


def taken(costs: Iterable[int], replicas: int) -> list[list[int]]:
    """The numbers of the tasks that each replica takes: the next in the queue goes to the replica that is free first, of several the
    first."""
    mine: list[list[int]] = [[] for _ in range(replicas)]
    free = [(0, r) for r in range(replicas)]
    for i, cost in enumerate(costs):
        clock, r = heapq.heappop(free)
        mine[r].append(i)
        heapq.heappush(free, (clock + cost, r))
    return mine


def in_turn(requests: int, lanes: int) -> list[range]:
    """The numbers of the tasks that are dealt to each lane."""
    return [range(r, requests, lanes) for r in range(lanes)]


def most(costs: Sequence[int], hands: Iterable[Iterable[int]]) -> int:
    """Cycles of the one with the most work."""
    return max(sum(costs[i] for i in hand) for hand in hands)


def skewed(requests: int) -> Array:
    """Lengths by Zipf's law with exponent 1.3, cut off at LONGEST."""
    return np.minimum(np.random.default_rng(0).zipf(1.3, requests), LONGEST).astype(np.int32)


def costs_of(lengths: Iterable[int]) -> list[int]:
    """Cycles of the task of each request."""
    return [attend.cost(ARCH, k=(n, DIM), v=(n, DIM)) for n in lengths]


def estimate(q: Array, k: Array, v: Array) -> Estimate:
    """Of one request, q [1, dim], k, v [length, dim]."""
    s = (Estimate.exact(q) @ Estimate.exact(k).transposed()).scaled(1 / math.sqrt(q.shape[1]))
    return s.softmax() @ Estimate.exact(v)


def golden(q: Array, k: Array, v: Array) -> Array:
    """In float64."""
    s = q.astype(np.float64) @ k.T.astype(np.float64) / math.sqrt(q.shape[1])
    p = np.exp(s - s.max())
    return p / p.sum() @ v.astype(np.float64)


def checked(q: Array, k: Array, v: Array, lengths: Array, out: Array) -> Callable[[], tuple[float, float]]:
    def check() -> tuple[float, float]:
        each = [(q[i : i + 1], k[i, :n], v[i, :n]) for i, n in enumerate(lengths)]
        want, bound = (np.concatenate([f(*one) for one in each]) for f in (golden, lambda *one: estimate(*one).bound))
        return compare(out, want, bound)

    return check


def run(requests: int = REQUESTS, threads: int | None = None) -> list[Result]:
    check_sizes(requests=requests)
    random = np.random.default_rng(1)
    q = random.standard_normal((requests, DIM), dtype=np.float32)
    k, v = (random.standard_normal((requests, LONGEST, DIM), dtype=np.float32) for _ in range(2))
    lengths = skewed(requests)
    costs = costs_of(lengths.tolist())

    def result(how: str, make: Callable[[Array], Workload], hands: Iterable[Iterable[int]]) -> Result:
        """hands: the requests of each process or lane."""
        out = np.zeros_like(q)
        program = make(out).compile(target="cpu_sim", arch=ARCH, threads=threads)
        cycles = most(costs, hands)
        r = measured(f"work_queue {requests} {how}", program, [out], checked(q, k, v, lengths, out), cycles)
        return replace(r, notes=(f"{sum(costs) / r.cycles:.2f} times as fast as one after another",))

    results: list[Result] = []
    for n in REPLICAS:
        lanes = DispatchPolicy.round_robin(n)
        results += [
            result(
                f"dealt to {n}", lambda out, to=lanes: dealt(q, k, v, lengths, out).dispatch(to), in_turn(requests, n)
            ),
            result(f"taken by {n}", lambda out, n=n: queued(q, k, v, lengths, out, n), taken(costs, n)),
        ]
    return results


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
