"""execute(on_error="continue"): what does not depend on a failed task is run, whatever the threads."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BoundsError,
    Cancelled,
    Dense,
    DispatchPolicy,
    DType,
    In,
    InOut,
    KernelError,
    Out,
    P,
    Program,
    PtoError,
    ReadyPolicy,
    StartPolicy,
    TaskWindow,
    Tile,
    TimingPolicy,
    UnsupportedError,
    combine,
    item,
    kernel,
    pto,
    sequential,
    workload,
)

F, N = DType.F32, DType.I32
THREADS = (1, 2, 4)


@kernel
def step(flag: In[Tile[1, 1, N]], x: In[Tile[1, 8, F]], y: Out[Tile[1, 8, F]]):
    """y = x + x[flag, 0], which fails where the flag is not 0."""
    pto.store(y, x + pto.item(x, (pto.item(flag, (0, 0)), 0)))


@kernel
def add(a: In[Tile[1, 8, F]], b: In[Tile[1, 8, F]], y: Out[Tile[1, 8, F]]):
    pto.store(y, a + b)


@kernel
def both(a: In[Tile[4, 8, F]], b: In[Tile[4, 8, F]], y: Out[Tile[4, 8, F]]):
    pto.store(y, a + b)


@kernel
def swell(y: InOut[Tile[4, 8, F]]):
    pto.store(y, y + 1.0)


@kernel
def grow(y: InOut[Tile[1, 8, F]]):
    pto.store(y, y + 1.0)


@kernel
def put(flag: In[Tile[1, 1, N]], n: Out[Tile[1, 1, N]]):
    pto.store(n, pto.item(flag, (pto.item(flag, (0, 0)), 0)) + pto.full((1, 1), 2, N))


def rows(n: int, value: float = 1.0) -> Any:
    return np.full((n, 1, 8), value, np.float32)


def flags(n: int, *wrong: int) -> Any:
    f = np.zeros((n, 1, 1), np.int32)
    f[list(wrong)] = 1
    return f


def lost(p: Program) -> PtoError:
    with pytest.raises(PtoError) as caught:
        p.run("continue")
    return caught.value


def same_for_all_threads(make: Callable[[int], tuple[Program, Any]]) -> tuple[PtoError, Any]:
    """The error and the results, after several runs of each."""
    first: tuple[PtoError, Any, tuple[int, int]] | None = None
    for threads in THREADS:
        for _ in range(5):
            p, y = make(threads)
            error, figures = lost(p), (p.stats.task_count, p.stats.total_cycles)
            if first is None:
                first = error, y, figures
            assert (error.failed, error.skipped, str(error)) == (first[0].failed, first[0].skipped, str(first[0]))
            assert np.array_equal(y, first[1])
            assert figures == first[2]
    assert first is not None
    return first[:2]


def test_independent_tasks_all_run() -> None:
    def make(threads: int) -> tuple[Program, Any]:
        y = rows(40, 0.0)

        @workload
        def w(G, X, Y):
            for b in P(Dense[40](name="batch")):
                step[b](flag=G[b], x=X[b], y=Y[b])

        return w(flags(40, 7, 31), rows(40), y).compile(threads=threads), y

    error, y = same_for_all_threads(make)
    assert isinstance(error, BoundsError)
    assert error.code == "PTO732"
    assert error.failed == ((7, "step[b=7]"), (31, "step[b=31]"))
    assert error.skipped == ()
    assert error.values["task"] == "step[b=7]"
    assert error.values["failed"] == "2: step[b=7], step[b=31]"
    assert error.values["skipped"] == "none"
    assert y[:, 0, 0].tolist() == [0.0 if b in (7, 31) else 2.0 for b in range(40)]


def chains(threads: int, *wrong: int, n: int = 12) -> tuple[Program, Any]:
    """Y[b] = step(X[b]), then Z[b] = Y[b] + Y[b + 1]."""
    y = rows(n, 0.0)
    z = rows(n - 1, 0.0)

    @workload
    def w(G, X, Y, Z):
        for b in P(Dense[n](name="batch")):
            step[b](flag=G[b], x=X[b], y=Y[b])
        for b in P(Dense[n - 1](name="batch")):
            add[b](a=Y[b], b=Y[b + 1], y=Z[b])

    return w(flags(n, *wrong), rows(n), y, z).compile(threads=threads), z


def test_what_reads_from_a_failed_task_is_skipped() -> None:
    error, z = same_for_all_threads(lambda threads: chains(threads, 4, 8))
    assert [t.name for t in error.failed] == ["step[b=4]", "step[b=8]"]
    assert [t.name for t in error.skipped] == ["add[b=3]", "add[b=4]", "add[b=7]", "add[b=8]"]
    assert [t.id for t in error.skipped] == [15, 16, 19, 20]
    assert z[:, 0, 0].tolist() == [0.0 if b in (3, 4, 7, 8) else 4.0 for b in range(11)]


def test_a_dependence_goes_on_through_tasks_that_are_skipped() -> None:
    def along(threads: int) -> tuple[Program, Any]:
        y = rows(6, 1.0)

        @workload
        def w(G, Y):
            for b in P.seq(5):
                step[b](flag=G[b], x=Y[b], y=Y[b + 1])

        return w(flags(6, 2), y).compile(threads=threads), y

    error, y = same_for_all_threads(along)
    assert [t.id for t in error.failed] == [2]
    assert [t.id for t in error.skipped] == [3, 4]
    assert y[:, 0, 0].tolist() == [1, 2, 4, 1, 1, 1]


def test_who_writes_after_a_failed_reader_is_skipped() -> None:
    """The order of program is that of all conflicts: a later write must not be seen without what came before it."""

    def make(threads: int) -> tuple[Program, Any]:
        x, y = rows(8), rows(8, 0.0)

        @workload
        def w(G, X, Y):
            for b in P(8):
                step[b](flag=G[b], x=X[b], y=Y[b])
            for b in P(8):
                grow[b](y=X[b])

        return w(flags(8, 3), x, y).compile(threads=threads), x

    error, x = same_for_all_threads(make)
    assert [t.id for t in error.skipped] == [11]
    assert x[:, 0, 0].tolist() == [1.0 if b == 3 else 2.0 for b in range(8)]


def test_the_parts_of_a_sequence_after_a_failed_one_are_skipped() -> None:
    def make(threads: int) -> tuple[Program, Any]:
        y, z, u = rows(4, 0.0), rows(4, 0.0), rows(4, 0.0)

        @workload
        def first(G, X, Y):
            for b in P(4):
                step[b](flag=G[b], x=X[b], y=Y[b])

        @workload
        def second(Z):
            for b in P(4):
                grow[b](y=Z[b])

        @workload
        def beside(U):
            for b in P(4):
                grow[b](y=U[b])

        w = combine(sequential(first(flags(4, 1), rows(4), y), second(z)), beside(u))
        return w.compile(threads=threads), np.stack([y, z, u])

    for threads in THREADS:
        p, _ = make(threads)
        error = lost(p)
        assert [t.id for t in error.failed] == [1]
        assert [t.id for t in error.skipped] == [4, 5, 6, 7]
        assert [a[0, 0, 0] for a in p.tensors.values()][-1] == 1.0


def test_a_scalar_that_a_failed_task_would_have_written_ends_the_run() -> None:
    def make(threads: int) -> tuple[Program, Any]:
        n, y = np.zeros((2, 1, 1), np.int32), rows(8, 0.0)

        @workload
        def w(G, N, Y):
            for i in P(2):
                put[i](flag=G[i], n=N[i])
            for b in P(2):
                grow[b](y=Y[b])
            for b in P(item(N[1, 0, 0])):
                grow[b](y=Y[b + 4])

        return w(flags(2, 1), n, y).compile(threads=threads), y

    error, y = same_for_all_threads(make)
    assert [t.name for t in error.failed] == ["put[i=1]"]
    assert "all after the read of N" in str(error.values["not run"])
    assert f"{__file__}:" in str(error.values["not run"])
    assert "task 1 would have written it" in str(error.values["not run"])
    assert y[:, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_indices_that_a_failed_task_would_have_written_end_the_run() -> None:
    def make(threads: int) -> tuple[Program, Any]:
        n, y = np.zeros((2, 1, 1), np.int32), rows(8, 0.0)

        @workload
        def w(G, N, X, Y):
            for i in P(2):
                put[i](flag=G[i], n=N[i])
            for i in P(2):
                step[i](flag=G[0], x=X[i], y=Y[item(N[i, 0, 0])])

        return w(flags(2, 0), n, rows(2), y).compile(threads=threads), y

    error, y = same_for_all_threads(make)
    assert [t.name for t in error.failed] == ["put[i=0]"]
    assert "not run" in error.values
    assert not y.any()


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_against_the_definition(seed: int) -> None:
    """A task is lost if it fails, or an earlier task that is lost touches an element of it and one of both writes."""
    random = np.random.default_rng(seed)
    n, rows_ = 60, 10
    places = [random.choice(rows_, 2, replace=False) for _ in range(n)]  # read, written
    wrong = [int(k) for k in random.choice(n, 3, replace=False)]
    gone: list[int] = []
    for i, (r, w) in enumerate(places):
        if i in wrong or any(places[j][1] in (r, w) or places[j][0] == w for j in gone):
            gone.append(i)

    @workload
    def graph(G, Y):
        for i, (r, w) in enumerate(places):
            step[i](flag=G[i], x=Y[int(r)], y=Y[int(w)])

    def make(threads: int) -> tuple[Program, Any]:
        y = rows(rows_) * np.arange(rows_, dtype=np.float32).reshape(-1, 1, 1)
        return graph(flags(n, *wrong), y).compile(threads=threads), y

    error, y = same_for_all_threads(make)
    assert {t.id for t in (*error.failed, *error.skipped)} == set(gone)
    assert {t.id for t in error.failed} <= set(wrong)
    want = np.arange(rows_, dtype=np.float32)
    for i, (r, w) in enumerate(places):
        if i not in gone:
            want[w] = 2 * want[r]
    assert np.array_equal(y[:, 0, 0], want)


def test_a_task_whose_shapes_do_not_fit_is_one_that_failed() -> None:
    """What it would have written is known, so that others go on."""

    def make(threads: int) -> tuple[Program, Any]:
        y, z = np.zeros((6, 8), np.float32), np.zeros((12, 8), np.float32)

        @workload
        def w(X, Y, Z):
            for i in P(X.tiles(4)):
                for j in P.seq(Y.tiles(4)):
                    both[i, j](a=X[i], b=Y[j], y=Z[i])
            for i in P(Z.tiles(4)):
                swell[i](y=Z[i])

        return w(np.ones((12, 8), np.float32), y, z).compile(threads=threads), z

    error, z = same_for_all_threads(make)
    assert (error.code, type(error)) == ("PTO710", KernelError)
    assert [t.name for t in error.failed] == ["both[i=0, j=1]", "both[i=1, j=1]", "both[i=2, j=1]"]
    assert [t.name for t in error.skipped] == ["swell[i=0]", "swell[i=1]", "swell[i=2]"]
    assert (z == 1.0).all()


def test_the_same_program_runs_again() -> None:
    p, z = chains(2, 4)
    assert len(lost(p).failed) == 1
    p.tensors["G"][:] = 0
    p.run("continue")
    p.run()
    assert (z == 4.0).all()
    assert p.stats.task_count == 23


def test_a_run_that_stops_says_nothing_of_others() -> None:
    p, _ = chains(2, 4)
    with pytest.raises(PtoError) as caught:
        p.run()
    assert (caught.value.failed, caught.value.skipped) == ((), ())
    assert "skipped" not in caught.value.values


def test_long_lists_are_cut_in_print_only() -> None:
    p, _ = chains(2, *range(0, 400, 2), n=400)
    error = lost(p)
    assert len(error.failed) == 200
    assert len(error.skipped) == 399
    assert str(error.values["failed"]).endswith("step[b=14] and 192 more")
    assert str(error.values["skipped"]).endswith("add[b=7] and 391 more")
    assert len(str(error)) < 1500


def test_errors_travel_between_processes() -> None:
    error = lost(chains(2, 4)[0])
    again = pickle.loads(pickle.dumps(error))
    assert (again.failed, again.skipped, str(again)) == (error.failed, error.skipped, str(error))


def test_a_small_window_and_traces() -> None:
    n = 3000
    y, z = rows(n, 0.0), rows(n - 1, 0.0)

    @workload
    def w(G, X, Y, Z):
        for b in P(Dense[n](name="batch")):
            step[b](flag=G[b], x=X[b], y=Y[b])
        for b in P(Dense[n - 1](name="batch")):
            add[b](a=Y[b], b=Y[b + 1], y=Z[b])

    p = w(flags(n, 5, 2000), rows(n), y, z).task_graph(window=TaskWindow(16)).compile(threads=2).enable_tracing()
    error = lost(p)
    assert [t.id for t in error.failed] == [5, 2000]
    assert [t.id for t in error.skipped] == [n + 4, n + 5, n + 1999, n + 2000]
    outcomes = [e.outcome for e in p.trace]
    assert [k for k, o in enumerate(outcomes) if o == "failed"] == [5, 2000]
    assert [k for k, o in enumerate(outcomes) if o == "skipped"] == [t.id for t in error.skipped]


def test_cancelling_still_cancels() -> None:
    p, _ = chains(2, n=4000)
    p.execute("continue")
    p.cancel()
    with contextlib.suppress(Cancelled):
        p.synchronize()


def test_checks_stop() -> None:
    @workload
    def w(Y):
        for b in P(4):
            grow[b](y=Y[b])

    p = w(rows(4)).compile(check="races")
    with pytest.raises(UnsupportedError, match="on_error"):
        p.run("continue")
    with pytest.raises(PtoError, match="execute takes"):
        p.run("go on")


def stepped(n: int, *wrong: int) -> tuple[Any, Any]:
    """Independent tasks, of which some fail."""
    y = rows(n, 0.0)

    @workload
    def w(G, X, Y):
        for b in P(Dense[n](name="batch")):
            step[b](flag=G[b], x=X[b], y=Y[b])

    return w(flags(n, *wrong), rows(n), y), y


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "streams": lambda w: w.streams(2),
    "one stream": lambda w: w.stream_by(lambda t: 7),
    "pins": lambda w: w.dispatch(DispatchPolicy.affinity(lambda t: t.b % 3)),
    "priorities": lambda w: w.task_graph(ready=ReadyPolicy.priority(lambda t: t.b)),
    "start": lambda w: w.task_graph(start=StartPolicy.after_orchestration),
    "windows": lambda w: w.task_graph(window=TaskWindow(3)),
    "bytes": lambda w: w.task_graph(window=TaskWindow(64, "bytes")),
    "batches": lambda w: w.timing(TimingPolicy.batched(4)),
    "all": lambda w: (
        w.streams(3)
        .dispatch(DispatchPolicy.affinity(lambda t: t.b))
        .task_graph(window=TaskWindow(7), ready=ReadyPolicy.priority(lambda t: -t.b))
    ),
}


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_schedules_order_tasks_and_lose_none(schedule: str) -> None:
    """What a schedule puts behind a failed task uses nothing of it, so it runs."""

    def make(threads: int) -> tuple[Program, Any]:
        w, y = stepped(40, 0, 7, 31)
        return SCHEDULES[schedule](w).compile(threads=threads), y

    error, y = same_for_all_threads(make)
    assert [t.name for t in error.failed] == ["step[b=0]", "step[b=7]", "step[b=31]"]
    assert error.skipped == ()
    assert [b for b in range(40) if (y[b] != 2).any()] == [0, 7, 31]


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_what_is_lost_does_not_depend_on_the_schedule(schedule: str) -> None:
    def make(threads: int) -> tuple[Program, Any]:
        g, x, y = flags(24, 5), rows(24), rows(24, 0.0)

        @workload
        def w(G, X, Y):
            for b in P(Dense[24](name="batch")):
                step[b](flag=G[b], x=X[b], y=Y[b])
                grow[b](y=Y[b])

        return SCHEDULES[schedule](w(g, x, y)).compile(threads=threads), y

    error, y = same_for_all_threads(make)
    assert [t.name for t in error.failed] == ["step[b=5]"]
    assert [t.name for t in error.skipped] == ["grow[b=5]"]
    assert [b for b in range(24) if (y[b] != 3).any()] == [5]
