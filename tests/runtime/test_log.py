"""PTO_WSP_LOG=task: a line on stderr for each task when it is issued, and nothing without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pto_wsp import Dense, DType, In, InOut, P, Scalar, Tensor, Tile, Workload, kernel, pto, workload

F, N = DType.F32, DType.I32


@kernel
def attend(q: In[Tile[4, 8, F]], kv: In[Tensor[None, 8, F]], s: Scalar[F], n: Scalar[N], out: InOut[Tile[4, 8, F]]):
    pto.store(out, out + q * s + pto.cast(pto.full((4, 8), 1, N) * n, F))


@kernel
def pick(x: In[Tile[4, 8, F]], y: InOut[Tile[4, 8, F]]):
    pto.store(y, y + x)


def program(lengths: list[int]) -> Workload:
    q, k, y = (np.ones((len(lengths), 6, 8), np.float32) for _ in range(3))
    batch = Dense[len(lengths)](name="batch")
    rows = Dense[6](name="rows")

    @workload
    def w(Q, K, L, Y):
        for b in P(batch):
            for r in P(rows.tiles(4)):
                attend[b, r](q=Q[b, r], kv=K[b, : L[b]], s=0.5, n=b - 1, out=Y[b, r])

    return w(q, k, np.array(lengths), y)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_line_for_each_task(threads: int, capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PTO_WSP_LOG", "task")
    p = program([3, 0]).compile(threads=threads)
    assert capfd.readouterr().err == ""
    p.run()
    assert capfd.readouterr().err.splitlines() == [
        "task 0 attend[b=0, r=0] q=Q[0, 0:4, 0:8] kv=K[0, 0:3, 0:8] s=0.5 n=-1 out=Y[0, 0:4, 0:8]",
        "task 1 attend[b=0, r=1] q=Q[0, 4:6, 0:8] kv=K[0, 0:3, 0:8] s=0.5 n=-1 out=Y[0, 4:6, 0:8]",
        "task 2 attend[b=1, r=0] q=Q[1, 0:4, 0:8] kv=K[1, 0:0, 0:8] s=0.5 n=0 out=Y[1, 0:4, 0:8]",
        "task 3 attend[b=1, r=1] q=Q[1, 4:6, 0:8] kv=K[1, 0:0, 0:8] s=0.5 n=0 out=Y[1, 4:6, 0:8]",
    ]


def test_the_indices_of_gathers(capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PTO_WSP_LOG", "task")
    x, y = np.ones((20, 8), np.float32), np.zeros((4, 8), np.float32)

    @workload
    def w(X, J, Y):
        for b in P.seq(2):
            pick[b + 7](x=X[J[b], :], y=Y)

    w(x, np.array([[3, 1, 19, 0], [2, 2, 2, 2]]), y).compile(threads=2).run()
    assert capfd.readouterr().err.splitlines() == [
        "task 0 pick[7] x=X[[3, 1, 19, 0], 0:8] y=Y[0:4, 0:8]",
        "task 1 pick[8] x=X[[2, 2, 2, 2], 0:8] y=Y[0:4, 0:8]",
    ]


def test_names_stay_in_their_line(capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PTO_WSP_LOG", "task")
    x = Tensor(np.ones((2, 4, 8), np.float32), name="fünf\nlines")

    @workload
    def w(X):
        for b in P(Dense[2](name="b")):
            pick[b](x=X[b], y=X[b]) if False else attend_self[b](y=X[b])

    w(x).compile(threads=1).run()
    assert capfd.readouterr().err.splitlines()[1] == r"task 1 attend_self[b=1] y=fünf\nlines[1, 0:4, 0:8]"


@kernel
def attend_self(y: InOut[Tile[4, 8, F]]):
    pto.store(y, y * 2.0)


def test_nothing_without_it(capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("PTO_WSP_LOG", raising=False)
    p = program([3, 0]).compile(threads=2).run()
    assert capfd.readouterr() == ("", "")
    want = p.tensors["Y"].copy(), p.stats.total_cycles
    monkeypatch.setenv("PTO_WSP_LOG", "task")
    q = program([3, 0]).compile(threads=2).run()
    assert np.array_equal(q.tensors["Y"], want[0])
    assert q.stats.total_cycles == want[1]
