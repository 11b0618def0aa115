"""Pipelines under random real delays: no wait of a thread moves a cycle, a number, or a token."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Channel,
    DType,
    In,
    InOut,
    Out,
    P,
    Program,
    Scalar,
    Tensor,
    Tile,
    connect,
    consume,
    empty,
    item,
    kernel,
    process,
    pto,
    query,
    replicate,
    send,
    try_send,
    workload,
)

I64 = DType.I64
Array = np.ndarray[Any, Any]

WAIT = """
static std::atomic<std::uint64_t> drawn{1};
std::uint64_t z = drawn.fetch_add(0x9e3779b97f4a7c15u);
z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
z ^= z >> 27;
if (z % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(z / 4 % 150));
"""
"""The same numbers in each process of Python; which task gets which is decided by what runs first."""

HEADERS = ["<atomic>", "<chrono>", "<thread>"]


@kernel(cpp_src=WAIT + "out(0, 0) = 7 * s + 3;", cpp_includes=HEADERS, cost=11)
def make(s: Scalar[I64], out: Out[Tile[1, 1, I64]]): ...


@kernel(cpp_src=WAIT + "x(0, 0) = 2 * x(0, 0) + 1;", cpp_includes=HEADERS, cost=37)
def change(x: InOut[Tile[1, 1, I64]]): ...


@kernel(cpp_src=WAIT + "out(0, 0) = 5 * out(0, 0) + x(0, 0);", cpp_includes=HEADERS, cost=23)
def gather(x: In[Tile[1, 1, I64]], out: InOut[Tile[1, 1, I64]]): ...


@kernel(cpp_src=WAIT + "out(0, 0) = 3 * out(0, 0) + s;", cpp_includes=HEADERS, cost=6)
def count(s: Scalar[I64], out: InOut[Tile[1, 1, I64]]): ...


@kernel
def tokens(x: In[Tile[1, 1, I64]], out: Out[Tile[1, 1, I64]]):
    pto.store(out, x + 20)


@workload
def network(x, n, y):
    """A task says how many tokens there are. Two replicas change some of them, in buffers, and give others away at a rendezvous, to who
    polls for them and tells of them where there is room."""
    tokens(x=x[0], out=n[0])
    tiles, results = Channel[Tensor]("tiles", depth=2, latency=3), Channel[Tensor]("results", depth=1)
    met, told = Channel[int]("met", depth=0), Channel[int]("told", depth=1, response=400)

    def source() -> None:
        for i in P.seq(item(n[0, 0, 0])):
            send(tiles, make[i](s=i, out=empty((1, 1), I64)))

    def work() -> None:
        with consume(tiles) as t:
            v = item(t[0, 0])
            with P.when(v % 3 == 0):
                send(met, v)
            with P.otherwise():
                change(x=t)
            send(results, t)

    def poll() -> None:
        def tell(v: Any) -> None:
            with P.when(try_send(told, v)):
                count(s=v, out=y[0])
            with P.otherwise():
                count(s=1, out=y[1])

        for _ in P.seq(25):
            with P.when(query(met)):
                tell(met.recv())
            with P.otherwise():
                count(s=2, out=y[2])
        with consume(met) as v:
            tell(v)

    def sink() -> None:
        with consume(results) as t:
            gather(x=t, out=y[3])

    def hear() -> None:
        with consume(told) as v:
            count(s=v, out=y[4])

    connect(
        [
            process("source").produces(tiles).body(source),
            *replicate(process("work").consumes(tiles).produces(results, met).body(work), 2),
            process("poll").consumes(met).produces(told).body(poll),
            process("sink").consumes(results).body(sink),
            process("hear").consumes(told).body(hear),
        ],
        [tiles, results, met, told],
        timed=True,
    )
    gather(x=y[3], out=y[0])


REAL = {"issued_ns": 0, "started_ns": 0, "ended_ns": 0, "thread": 0}


def semantic(p: Program, y: Array) -> tuple[Any, ...]:
    """All that a run says but for what is real."""
    t = p.trace
    tasks = [replace(e, **REAL) for e in t]
    operations = [tuple(getattr(o, f.name) for f in fields(o)) for o in t.operations]
    held = [[a.tolist() for a in t.occupancy(c.name)] for c in t.channels]
    return (
        y.ravel().tolist(),
        p.stats.semantic,
        p.scalars.numbers.tolist(),
        tasks,
        t.edges.tolist(),
        operations,
        held,
        t.pipelines,
    )


def test_under_random_real_delays_all_runs_are_one(request: pytest.FixtureRequest) -> None:
    runs = 1000 if request.config.getoption("--full") else 51
    x, n, y = (np.zeros((rows, 1, 1), np.int64) for rows in (1, 1, 5))
    w = network(x, n, y)
    programs = [w.compile(threads=threads).enable_tracing("full") for threads in (1, 2, 4)]
    wanted: tuple[Any, ...] | None = None
    orders: list[set[bytes]] = [set() for _ in programs]
    for k in range(runs):
        p = programs[k % len(programs)]
        y[:] = 0
        p.run()
        found = semantic(p, y)
        wanted = wanted or found
        assert found == wanted, f"run {k}, on {p.stats.threads} threads"
        orders[k % len(programs)].add(np.argsort(p.trace.started_ns, kind="stable").tobytes())
    assert wanted is not None
    assert [len(o) > 5 for o in orders] == [False, True, True], "delays change the real order on several threads"
    assert min(wanted[0]) > 0
    assert programs[0].simulate(scalars=programs[1].scalars).total_cycles == programs[0].stats.total_cycles
