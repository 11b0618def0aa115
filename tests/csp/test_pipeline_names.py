"""Pipelines of one program have different names, however they came together."""

from collections.abc import Callable

import numpy as np
import pytest

from pto_wsp import (
    BindError,
    Channel,
    DType,
    Out,
    P,
    Scalar,
    Tensor,
    Tile,
    Workload,
    combine,
    consume,
    kernel,
    pto,
    send,
    sequential,
    workload,
)
from pto_wsp.ir.rename import pipeline_names

I64 = DType.I64


@kernel
def put(k: Scalar[I64], out: Out[Tile[1, 1, I64]]):
    pto.store(out, pto.full((1, 1), 0, I64) + k)


def tensor(name: str) -> Tensor:
    return Tensor(np.zeros((8, 1, 1), np.int64), name=name)


@workload
def numbers(y: Tensor, n: int) -> None:
    a = Channel[int](depth=1)
    with P.pipe():
        for i in P.seq(n):
            send(a, i)
        with consume(a) as k:
            put(k=k, out=y[k])


@workload
def twice(y: Tensor, z: Tensor) -> None:
    numbers(y, 8)
    for _ in P.seq(1):
        numbers(z, 4)


@workload
def nested(y: Tensor) -> None:
    e = Channel[None]("e")
    with P.pipe():
        for _ in P.seq(2):
            numbers(y, 8)
            send(e)
        with consume(e):
            pass


@workload
def unrolled(y: Tensor) -> None:
    for _b in P.seq(2):
        numbers(y, 8)


@workload
def calls_unrolled(y: Tensor) -> None:
    numbers(y, 8)
    unrolled.unroll(loop="_b")(y)
    numbers(y, 8)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: combine(numbers(tensor("y"), 8), numbers(tensor("z"), 4)), ["pipe", "pipe.1"]),
        (lambda: sequential(numbers(tensor("y"), 8), numbers(tensor("z"), 4)), ["pipe", "pipe.1"]),
        (lambda: twice(tensor("y"), tensor("z")), ["pipe", "pipe.1"]),
        (lambda: combine(twice(tensor("y"), tensor("z")), numbers(tensor("x"), 8)), ["pipe", "pipe.1", "pipe.2"]),
        (lambda: nested(tensor("y")), ["pipe", "pipe.1"]),
        (lambda: unrolled(tensor("y")).unroll(loop="_b"), ["pipe", "pipe.1"]),
        (lambda: calls_unrolled(tensor("y")), ["pipe", "pipe.1", "pipe.1.1", "pipe.2"]),
    ],
)
def test_pipelines_are_told_apart(make: Callable[[], Workload], names: list[str]) -> None:
    w = make()
    assert pipeline_names(w.wir.body.eqns) == names
    assert len(w.compile().run().stats.semantic.channels) == len(names)


def test_each_channel_is_set_and_reported_by_itself() -> None:
    p = sequential(numbers(tensor("y"), 8), numbers(tensor("z"), 4)).compile().run()
    before = p.stats.total_cycles
    one, two = (p.stats.semantic.channels[n] for n in ("pipe.a", "pipe.1.a"))
    assert one.full_cycles > two.full_cycles > 0  # of 8 tokens, and of 4
    p.set_channel("pipe.1.a", latency=1000).run()
    assert p.stats.total_cycles > before + 1000
    assert p.stats.semantic.channels["pipe.a"] == one
    assert p.stats.semantic.channels["pipe.1.a"].empty_cycles > two.empty_cycles
    with pytest.raises(BindError, match=r"channels: +pipe\.a, pipe\.1\.a"):
        p.set_channel("a", latency=1)
