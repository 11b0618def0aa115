"""What a deadlock that is proved says: where, since when, and the depth with which there is none."""

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Channel,
    DeadlockError,
    DenseDyn,
    DType,
    In,
    Out,
    P,
    Tensor,
    TensorSpec,
    Tile,
    Workload,
    connect,
    consume,
    empty,
    kernel,
    process,
    pto,
    send,
    workload,
)
from pto_wsp.proofs import verdict

F32 = DType.F32


@kernel
def copy(x: In[Tile[4, 8, F32]], out: Out[Tile[4, 8, F32]]):
    pto.store(out, x)


def six_sent(depth: int, receive: Callable[[Channel[Tensor], Any], None]) -> Workload:
    x, y = np.ones((6, 4, 8), np.float32), np.zeros((6, 4, 8), np.float32)

    @workload
    def w(x, y):
        a = Channel[Tensor](depth=depth)
        with P.pipe():
            for i in P.seq(6):
                send(a, copy[i](x=x[i], out=empty((4, 8), F32)))
            receive(a, y)

    return w(x, y)


def three(a: Channel[Tensor], y: Any) -> None:
    for i in P.seq(3):
        copy[i](x=a.recv(), out=y[i])


def three_at_once(a: Channel[Tensor], y: Any) -> None:
    for i in P.seq(2):
        held = a.recv(), a.recv(), a.recv()
        for k, x in enumerate(held):
            copy[i](x=x, out=y[3 * i + k])


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("receive", [three, three_at_once])
def test_a_deadlock_on_buffers_names_the_least_depth(receive: Any, depth: int) -> None:
    with pytest.raises(DeadlockError) as caught:
        six_sent(depth, receive).compile()
    assert caught.value.fix == "make channels deeper: a depth=3"
    six_sent(3, receive).compile().run()


def test_clocks_are_told_where_they_are_known_alone() -> None:
    with pytest.raises(DeadlockError) as caught:
        six_sent(2, three).compile()
    assert re.search(r"recv a.free \(0 of 2 tokens\) at clock [1-9]", str(caught.value))
    n, m = DenseDyn("n"), DenseDyn("m")

    @workload
    def w(x, y):
        a = Channel[Tensor](depth=2)
        with P.pipe():
            for i in P.seq(n):
                send(a, copy[i](x=x[i], out=empty((4, 8), F32)))
            for i in P.seq(m):
                copy[i](x=a.recv(), out=y[i])

    program = w(TensorSpec((n, 4, 8), F32), TensorSpec((m, 4, 8), F32)).compile()
    x, y = np.ones((6, 4, 8), np.float32), np.zeros((3, 4, 8), np.float32)
    with pytest.raises(DeadlockError) as caught:
        program.set_axis_sizes({"n": 6, "m": 3}).bind({"x": x, "y": y}).run()
    assert caught.value.code == "PTO864"
    assert "recv a.free (0 of 2 tokens), " in str(caught.value)
    assert "clock" not in str(caught.value)


def test_a_send_that_waits_for_ever_is_where_the_error_is() -> None:
    c = Channel[int]("c", depth=1)
    out = Tensor(np.zeros((4, 8), np.float32), name="out")

    def sends() -> None:
        for i in P.seq(3):
            send(c, i)

    def takes() -> None:
        c.recv()
        copy(x=out, out=empty((4, 8), F32))

    w = connect([process("sends").produces(c).body(sends), process("takes").consumes(c).body(takes)], [c])
    with pytest.raises(DeadlockError) as caught:
        w.compile()
    assert caught.value.loc is not None
    assert caught.value.loc.function == "sends"
    assert caught.value.fix == "make channels deeper: c depth=2"


def crossed(n: int, **options: Any) -> Workload:
    """A sender of n tokens and a last one elsewhere, whose receiver takes that one first."""

    @workload
    def w(y):
        a, b = Channel[int]("a", **options), Channel[int]("b")

        def sends() -> None:
            for i in P.seq(n):
                send(a, i)
            send(b, 0)

        def takes() -> None:
            b.recv()
            for _ in P.seq(n):
                a.recv()

        connect([process("sends").produces(a, b).body(sends), process("takes").consumes(a, b).body(takes)], [a, b])

    return w(np.zeros((4, 8), np.float32))


def refused(w: Workload) -> DeadlockError:
    with pytest.raises(DeadlockError) as caught:
        w.compile()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


def test_programs_are_told_who_waits_and_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(crossed(5, depth=2))
    assert (error.code, error.remedy, error.resource) == ("PTO864", {"a": 5}, "channel a")
    assert [{k: v for k, v in b.items() if k != "loc"} for b in error.blocked] == [
        {"process": "sends", "op": "send", "channel": "a", "occupancy": 2, "capacity": 2, "clock": 0},
        {"process": "takes", "op": "recv", "channel": "b", "occupancy": 0, "capacity": 1, "clock": 0},
    ]
    assert error.blocked[0]["loc"] == error.loc
    monkeypatch.setattr(verdict, "MOST_WALKED", 1000)
    unknown = refused(crossed(2000))
    assert (unknown.code, unknown.remedy, len(unknown.blocked)) == ("PTO864", {}, 2)
    assert "no capacity" not in unknown.fix


def test_programs_are_told_where_no_depth_helps() -> None:
    @workload
    def short(y):
        c = Channel[int]("c", depth=2)
        with P.pipe():
            for i in P.seq(1):
                send(c, i)
            for _ in P.seq(2):
                c.recv()

    error = refused(short(np.zeros((4, 8), np.float32)))
    assert (error.code, error.remedy) == ("PTO864", None)
    assert [(b["process"], b["op"], b["occupancy"]) for b in error.blocked] == [("recv_c", "recv", 0)]

    @workload
    def around(y):
        a, b = Channel[int]("a", depth=1, initial=1), Channel[int]("b")

        def hand_on(take: Any, give: Any) -> Callable[[], None]:
            def body() -> None:
                with consume(take) as t:
                    send(give, t)

            return body

        first = process("first").consumes(a).produces(b).body(hand_on(a, b))
        second = process("second").consumes(b).produces(a).body(hand_on(b, a))
        connect([first, second], [a, b])

    hopeless = refused(around(np.zeros((4, 8), np.float32)))
    assert (hopeless.code, hopeless.remedy) == ("PTO865", None)
    assert {(b["process"], b["op"], b["channel"], b["capacity"]) for b in hopeless.blocked} == {
        ("first", "recv", "a", 1),
        ("second", "recv", "b", 1),
    }
    assert {(b["occupancy"], b["clock"]) for b in hopeless.blocked} == {(None, None)}
