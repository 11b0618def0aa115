"""Under explicit dependences processes and tokens order the tasks of a pipeline; what nothing orders is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipelines import pipelines
from pto_wsp import (
    Channel,
    Deps,
    DType,
    InOut,
    P,
    RaceError,
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

N = 200


@kernel
def mix(x: InOut[Tile[1, 1, DType.I64]], t: Scalar[DType.I64]):
    pto.store(x, x * 31 + t)


def mixed(numbers: Any) -> int:
    x = 1
    for t in numbers:
        x = x * 31 + t
    return (x + 2**63) % 2**64 - 2**63


@workload
def one_after_the_other(x):
    c = Channel[int]("c")
    with P.pipe():
        for i in P.seq(N):
            send(c, i)
        with consume(c) as t:
            mix(x=x, t=t)


@workload
def in_turns(x):
    there, back = Channel[int]("there"), Channel[int]("back")
    with P.pipe():
        for i in P.seq(N):
            mix(x=x, t=i)
            send(there, i)
            back.recv()
        with consume(there) as t:
            mix(x=x, t=-t)
            send(back, t)


@workload
def at_once(x):
    c = Channel[int]("c")
    with P.pipe():
        for i in P.seq(4):
            send(c, i)
            mix(x=x, t=i)
        with consume(c) as t:
            mix(x=x, t=t)


@workload
def by_rows(y, rows):
    c = Channel[int]("c")
    with P.pipe():
        for i in P.seq(4):
            send(c, i)
            mix(x=y[rows[i]], t=i)
        with consume(c) as t:
            mix(x=y[4 + t], t=t)


def explicit(w: Workload) -> Workload:
    return w.task_graph(deps=Deps.explicit)


def one() -> Tensor:
    return Tensor(np.ones((1, 1), np.int64), name="x")


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    ("f", "numbers"),
    [(one_after_the_other, range(N)), (in_turns, [s * i for i in range(N) for s in (1, -1)])],
)
def test_processes_and_tokens_are_structure(f: Callable[..., Workload], numbers: Any, threads: int) -> None:
    x = one()
    ran = explicit(f(x)).compile(threads=threads).run()
    assert x.data[0, 0] == mixed(numbers)
    assert ran.stats.total_cycles == f(one()).compile().simulate().total_cycles


def test_what_no_token_orders_is_refused() -> None:
    with pytest.raises(RaceError, match="PTO863"):
        explicit(at_once(one())).compile()
    for rows, races in (([0, 1, 2, 3], False), ([0, 1, 6, 3], True)):
        program = explicit(by_rows(np.zeros((8, 1, 1), np.int64), np.array(rows))).compile()
        if races:
            with pytest.raises(RaceError, match="PTO863"):
                program.run()
        else:
            program.run()


def test_what_is_around_pipelines_is_ordered_by_what_is_said() -> None:
    @workload
    def behind_a_task(x, ordered):
        t = mix(x=x, t=7)
        c = Channel[int]("c")
        with P.pipe():
            for i in P.seq(4):
                send(c, i)
            with consume(c) as k:
                mix(x=x, t=k, after=[t] if ordered else [])

    @workload
    def last(x):
        mix(x=x, t=8)

    with pytest.raises(RaceError, match="PTO203") as caught:
        explicit(behind_a_task(one(), False))
    assert caught.value.fix.startswith("name the first, t = mix[...](...), and give the second after=t")
    x = one()
    explicit(behind_a_task(x, True)).compile(threads=3).run()
    assert x.data[0, 0] == mixed([7, 0, 1, 2, 3])
    for second, numbers in ((one_after_the_other, [*range(N)] * 2), (last, [*range(N), 8])):
        x = one()
        with pytest.raises(RaceError, match="PTO203") as caught:
            explicit(combine(one_after_the_other(x), second(x)))
        assert caught.value.fix.startswith("write sequential(...) of the pipeline that the first is in")
        explicit(sequential(one_after_the_other(x), second(x))).compile(threads=3).run()
        assert x.data[0, 0] == mixed(numbers)


@pytest.mark.parametrize("seed", range(40))
def test_random_pipelines_are_the_same_under_any_dependences(seed: int) -> None:
    case = pipelines(seed)
    arrays = case.arrays()
    ran = explicit(case.workload(arrays)).compile(threads=1 + seed % 4).run()
    assert (arrays["Y"] == case.expected).all()
    inferred = case.workload(case.arrays()).compile().run()
    assert ran.stats.total_cycles == inferred.stats.total_cycles
