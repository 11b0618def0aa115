"""Pipelines in Python: what tracing gives, and what it refuses."""

import contextlib
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bodies import same
from pto_wsp import (
    Channel,
    ChannelClosed,
    CompileError,
    DeadlockError,
    Dense,
    DispatchPolicy,
    DType,
    Event,
    In,
    InOut,
    Out,
    P,
    PtoError,
    Scalar,
    ScheduleError,
    TaskWindow,
    Tensor,
    Tile,
    TraceError,
    TypeCheckError,
    UnsupportedError,
    Workload,
    cast,
    close,
    combine,
    connect,
    consume,
    empty,
    item,
    kernel,
    process,
    pto,
    query,
    record,
    replicate,
    scan,
    send,
    sequential,
    slot_i64,
    slot_set_i64,
    synchronize,
    try_send,
    vmap,
    workload,
)
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.processes import pipelines, processes_of
from pto_wsp.passes.expand import expand

I64 = DType.I64
ONE = Tile[1, 1, I64]


@kernel
def fill(s: Scalar[I64], y: Out[ONE]):
    pto.store(y, pto.full((1, 1), 0, I64) + s)


@kernel
def copy(x: In[ONE], y: Out[ONE]):
    pto.store(y, x)


@kernel
def bump(x: InOut[ONE]):
    pto.store(x, x + 1)


@kernel
def both(s: Scalar[I64], y: Out[ONE], z: Out[ONE]):
    pto.store(y, pto.full((1, 1), 0, I64) + s)
    pto.store(z, pto.full((1, 1), 0, I64) - s)


def traced(body: Callable[[Any], Any]) -> Workload:
    """A workload with a tensor y of eight tiles of one number."""

    @workload
    def w(y: Any) -> None:
        body(y)

    return w(Tensor(np.zeros((8, 1, 1), np.int64), name="y"))


def computed(w: Workload) -> list[int]:
    """What is in y when it has run."""
    y = np.zeros((8, 1, 1), np.int64)
    evaluate(expand(w.wir), {"y": y} | {n: t.data for n, t in w.tensors.items() if n != "y" and isinstance(t, Tensor)})
    return y.ravel().tolist()


def memory() -> Any:
    return empty((1, 1), I64)


# what tracing gives


def test_each_statement_of_a_pipe_is_a_process() -> None:
    def body(y: Any) -> None:
        c = Channel[int](depth=2)
        n = cast(4, I64)
        with P.pipe():
            for i in P.seq(n):
                send(c, i + 1)
            with consume(c) as k:
                fill[k](s=k, y=y[k])
            with P.when(n > 3):
                fill(s=9, y=y[6])
            fill(s=8, y=y[7])

    w = traced(body)
    same(
        w,
        """
        s: bool = s.gt 4:i64 3:i64
        pipeline[name="pipe", timed=false] {
          c: channel<i64> = channel[depth=2, initial=0, latency=0, name="c", response=0]
          process[consumes=[], name="send_c", produces=["c"]] {
            seq_for i in i: Range(4) {
              send c (i + 1)
            }
          }
          process[consumes=["c"], name="fill", produces=[]] {
            consume c as k {
              task fill[k](s=k, y=y[k, 0 :+ 1, 0 :+ 1])
            }
          }
          process[consumes=[], name="fill.1", produces=[]] {
            cond s {
              then {
                task fill[](s=9:i64, y=y[6, 0 :+ 1, 0 :+ 1])
              }
            }
          }
          process[consumes=[], name="fill.2", produces=[]] {
            task fill[](s=8:i64, y=y[7, 0 :+ 1, 0 :+ 1])
          }
        }
        """,
    )
    assert computed(w) == [0, 1, 2, 3, 4, 0, 9, 8]
    assert w.type == "Workload[(), {fill}, Channel]"


def test_a_process_without_kernels_is_called_as_what_it_does_first() -> None:
    def body(y: Any) -> None:
        c, d = Channel[int](depth=1), Channel[int](depth=1)
        with P.pipe():
            for _ in P.seq(2):
                send(c, 1)
            for _ in P.seq(2):
                send(c, 2)
            with consume(c) as k, P.when(k > 1):
                send(d, k)
            with consume(d) as k:
                fill(s=k, y=y[0])

    w = traced(body)
    (pipeline,) = pipelines(w.wir)
    assert [p.params["name"] for p in processes_of(pipeline)] == ["send_c", "send_c.1", "consume_c", "fill"]


def test_a_sent_call_is_a_process_of_its_own() -> None:
    def body(y: Any) -> None:
        c = Channel[Tensor](depth=1)
        with P.pipe():
            send(c, fill(s=3, y=memory()))
            with consume(c) as t:
                copy(x=t, y=y[0])

    w = traced(body)
    same(
        w,
        """
        pipeline[name="pipe", timed=false] {
          c: channel<i64> = channel[depth=1, initial=0, latency=0, name="c", response=0]
          c.free: channel<i64> = channel[depth=1, initial=1, latency=0, name="c.free", response=0]
          process[consumes=["c.free"], name="fill", produces=["c"]] {
            c.b: i64 = recv c.free
            task fill[](s=3:i64, y=c.buffer[c.b, 0 :+ 1, 0 :+ 1])
            send c (c.b)
          }
          process[consumes=["c"], name="copy", produces=["c.free"]] {
            consume c as c.0 {
              task copy[](x=c.buffer[c.0, 0 :+ 1, 0 :+ 1], y=y[0, 0 :+ 1, 0 :+ 1])
              send c.free (c.0)
            }
          }
        }
        """,
    )
    assert computed(w)[0] == 3


def test_views_of_given_tensors_are_the_numbers_of_their_indices() -> None:
    def body(y: Any) -> None:
        c = Channel[tuple[Tensor, int]](depth=1)

        def load() -> None:
            for i in P.seq(2):
                send(c, fill(s=i, y=y[2 * i, 0:1, :]), i)
                send(c, y[2 * i + 1, 0:1, :], 5)

        connect(
            [
                process("store")
                .consumes(c)
                .body(lambda token: (bump(x=token[0]), fill(s=token[1], y=y[token[1] + 2]))),
                process("load").produces(c).body(load),
            ],
            [c],
        )

    w = traced(body)
    same(
        w,
        """
        pipeline[name="pipe", timed=false] {
          c: channel<i64, i64> = channel[depth=1, initial=0, latency=0, name="c", response=0]
          process[consumes=["c"], name="store", produces=[]] {
            consume c as c.0, c.1 {
              task bump[](x=y[c.0, 0 :+ 1, 0 :+ 1])
              task fill[](s=c.1, y=y[c.1 + 2, 0 :+ 1, 0 :+ 1])
            }
          }
          process[consumes=[], name="load", produces=["c"]] {
            seq_for i in i: Range(2) {
              task fill[i](s=(i), y=y[2*i, 0 :+ 1, 0 :+ 1])
              send c (2*i) (i)
              send c (2*i + 1) 5:i64
            }
          }
        }
        """,
    )


def test_replicas_share_the_ends_of_channels() -> None:
    def body(y: Any) -> None:
        c = Channel[int](depth=4)

        def give() -> None:
            for i in P.seq(8):
                send(c, i)

        work = process("work").consumes(c).body(lambda k: fill(s=k * k, y=y[k]))
        connect([process("give").produces(c).body(give), replicate(work, 3)], [c])

    w = traced(body)
    (pipe,) = w.wir.body.eqns
    said = [(e.params["name"], e.params.get("replica")) for e in pipe.regions[0].eqns if e.prim == "process"]
    assert said == [("give", None), ("work.0", "work"), ("work.1", "work"), ("work.2", "work")]
    assert computed(w) == [k * k for k in range(8)]


def test_views_are_handed_on_and_given_back_by_the_last() -> None:
    def body(y: Any) -> None:
        a, b = Channel[Tensor]("a"), Channel[Tensor]("b")
        with P.pipe():
            for i in P.seq(8):
                send(a, fill(s=i, y=memory()))
            with consume(a) as t:
                bump(x=t)
                send(b, t)
            for i in P.seq(8):
                copy(x=b.recv(), y=y[i])

    w = traced(body)
    assert computed(w) == list(range(1, 9))
    middle = str(w.wir).partition('name="bump"')[2].partition("process[")[0]
    assert "a.free" not in middle.partition("{")[2]
    assert "send a.free" in str(w.wir).partition('name="copy"')[2]


def test_two_tensors_of_one_call_go_with_one_number() -> None:
    def body(y: Any) -> None:
        c = Channel[tuple[Tensor, Tensor]](depth=2)
        with P.pipe():
            for i in P.seq(4):
                send(c, both(s=i, y=memory(), z=memory()))
            for i in P.seq(4):
                p, q = c.recv()
                copy(x=p, y=y[i])
                copy(x=q, y=y[i + 4])

    w = traced(body)
    assert "c: channel<i64> = channel[depth=2" in str(w.wir)
    assert computed(w) == [0, 1, 2, 3, 0, -1, -2, -3]


def test_memory_in_parallel_loops_is_of_the_pipeline() -> None:
    def body(y: Any) -> None:
        for b in P(2):
            c = Channel[Tensor](depth=3)
            with P.pipe():
                for i in P(4):
                    send(c, fill(s=i + 4 * b, y=memory()))
                for i in P.seq(4):
                    copy(x=c.recv(), y=y[4 * b + i])

    w = traced(body)
    assert "temporary c.buffer: i64[2,3,1,1]" in str(w.wir)
    assert computed(w) == list(range(8))


def test_tiles_stay_tiles() -> None:
    def body(y: Any) -> None:
        c = Channel[int](depth=1)
        rows = Dense[8](name="rows")
        with P.pipe():
            for t in P.seq(rows.tiles(1)):
                send(c, t)
            with consume(c) as t:
                fill(s=1, y=y[t, 0])

    assert "consume c as t.1 {" in str(traced(body).wir)
    assert "tile(t.1, 1, 8)" in str(traced(body).wir)


def test_events_wait_for_each_other() -> None:
    def body(y: Any) -> None:
        e = Event("ready")

        def first() -> None:
            fill(s=1, y=y[0])
            record(e)

        def second() -> None:
            synchronize(e)
            copy(x=y[0], y=y[1])

        made = [process("b").consumes(e).body(second), process("a").produces(e).body(first)]
        connect(made, [e])

    w = traced(body)
    assert 'ready: channel<> = channel[depth=0, initial=0, latency=0, name="ready", response=0]' in str(w.wir)
    assert computed(w)[:2] == [1, 1]


def test_a_timed_pipeline_may_try_and_ask() -> None:
    def body(y: Any) -> None:
        c = Channel[int](depth=1)

        def give() -> None:
            sent = try_send(c, 4)
            again = try_send(c, 5)
            fill(s=cast(sent, I64) + 2 * cast(again, I64), y=y[0])

        def take() -> None:
            there = query(c)
            with P.when(there):
                fill(s=c.recv(), y=y[1])

        connect([process("give").produces(c).body(give), process("take").consumes(c).body(take)], [c], timed=True)

    assert computed(traced(body))[:2] == [1, 4]


def test_what_processes_read_is_read_anew() -> None:
    def body(y: Any) -> None:
        c = Channel[None](depth=1)
        before = item(y[0, 0, 0])

        def second() -> None:
            fill(s=item(y[0, 0, 0]) + before, y=y[1])
            c.recv()
            fill(s=item(y[0, 0, 0]) + before, y=y[2])

        def first() -> None:
            fill(s=7, y=y[0])
            send(c)

        connect([process("second").consumes(c).body(second), process("first").produces(c).body(first)], [c])

    assert computed(traced(body))[:3] == [7, 0, 7]


def test_a_workload_is_traced_into_a_process() -> None:
    @workload
    def squares(y: Any, n: Any) -> None:
        for i in P.seq(n):
            fill(s=i * i, y=y[i])

    def body(y: Any) -> None:
        n = Channel[int](depth=1)
        with P.pipe():
            for i in P.seq(1):
                send(n, i + 5)
            with consume(n) as k:
                squares(y, k)

    assert computed(traced(body)) == [0, 1, 4, 9, 16, 0, 0, 0]


def test_pipelines_combine_and_stand_in_loops_branches_and_windows() -> None:
    @workload
    def pipe(y: Any, base: Any) -> None:
        c = Channel[int]("c", depth=1)
        with P.pipe():
            for i in P.seq(2):
                send(c, i + base)
            with consume(c) as k:
                fill(s=k, y=y[k])

    def body(y: Any) -> None:
        pipe(y, 0)
        for b in P.seq(2):
            with P.when(b == 1):
                pipe(y, 2 * b)

    assert computed(traced(body)) == [0, 1, 2, 3, 0, 0, 0, 0]
    y = Tensor(np.zeros((8, 1, 1), np.int64), name="y")
    for made in (combine(pipe(y, 0), pipe(y, 4)), sequential(pipe(y, 0), pipe(y, 4))):
        assert computed(made) == [0, 1, 0, 0, 4, 5, 0, 0]
    windowed = combine(pipe(y, 0), pipe(y, 4)).window(TaskWindow(2))
    assert computed(windowed)[5] == 5


def test_vmap_and_scan_take_workloads_with_pipelines() -> None:
    @workload
    def doubled(x: Any) -> Any:
        out = empty((1, 1), I64)
        c = Channel[Tensor](depth=1)

        @kernel
        def double(x: In[ONE], y: Out[ONE]):
            pto.store(y, x * 2)

        with P.pipe():
            send(c, double(x=x, y=memory()))
            with consume(c) as t:
                copy(x=t, y=out)
        return out

    x = np.arange(5).reshape(5, 1, 1)
    w = vmap(doubled)(x)
    name = w.wir.returns
    found = evaluate(expand(w.wir), {"x": x})
    assert found[str(name)].ravel().tolist() == [0, 2, 4, 6, 8]

    @workload
    def step(carry: Any, x: Any) -> Any:
        return doubled(carry), None

    w = scan(step, length=3)(np.full((1, 1), 3))
    found = evaluate(expand(w.wir), {n: t.data for n, t in w.tensors.items() if isinstance(t, Tensor)})
    assert next(iter(found.values())).item() == 24


def test_slots_of_processes_are_their_own() -> None:
    def body(y: Any) -> None:
        c = Channel[None](depth=0)
        slot_set_i64(0, 5)

        def first() -> None:
            slot_set_i64(0, 6)
            send(c)
            fill(s=slot_i64(0), y=y[0])

        def second() -> None:
            c.recv()
            fill(s=slot_i64(0), y=y[1])

        connect([process("a").produces(c).body(first), process("b").consumes(c).body(second)], [c])
        fill(s=slot_i64(0), y=y[2])

    assert computed(traced(body))[:3] == [6, 5, 5]


def test_connected_processes_are_a_workload() -> None:
    y = Tensor(np.zeros((8, 1, 1), np.int64), name="y")
    c = Channel[int]("c", depth=1)

    def give() -> None:
        for i in P.seq(3):
            send(c, i)

    w = connect(
        [process("give").produces(c).body(give), process("take").consumes(c).body(lambda k: fill(s=k, y=y[k]))], [c]
    )
    assert isinstance(w, Workload)
    assert w.wir.name == "pipeline"
    assert computed(w)[:3] == [0, 1, 2]
    with pytest.raises(TraceError, match="a pipeline without processes") as caught:
        connect([], [])
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__
    with pytest.raises(UnsupportedError, match=re.escape("P.pipe has no option depth")):
        traced(lambda y: P.pipe(depth=2))


# what it refuses; the errors with their codes and lines are in test_errors


def refused(code: str, cls: type[PtoError], why: str, body: Callable[[Any], Any]) -> PtoError:
    with pytest.raises(cls, match=re.escape(why)) as caught:
        traced(body)
    error = caught.value
    assert error.code == code
    assert error.loc is not None
    assert error.loc.file == __file__
    return error


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Channel[int]("c", depth=-1), "depth of a channel"),
        (lambda: Channel[int]("c", depth=1.5), "depth of a channel"),
        (lambda: Channel[int]("c", depth=True), "depth of a channel"),
        (lambda: Channel[int]("c", latency=-1), "latency of a channel"),
        (lambda: Channel[int]("c", response="2"), "response of a channel"),
        (lambda: Channel[int]("c", depth=2, initial=3), "3 initial tokens, but it holds 2"),
        (lambda: Channel[int]("c", depth=0, initial=1), "a rendezvous holds none"),
        (lambda: Channel[Tensor]("c", depth=2, initial=1), "views of nothing"),
        (lambda: Channel[str]("c"), "something that tokens do not carry"),
        (lambda: Channel[tuple[int, list]]("c"), "something that tokens do not carry"),
        (lambda: Channel("c"), "nothing that is said"),
        (lambda: Channel[int](""), "the name of a channel"),
        (lambda: process(""), "the name of a process"),
        (lambda: process("p").consumes(3), "consumes of something that is no channel"),
        (lambda: process("p").body(3), "a body that is no function"),
        (lambda: replicate(process("p").body(lambda: None), 0), "replicate of process p"),
        (lambda: replicate(process("p"), 2), "process p without a body"),
        (lambda: Channel[DType.I32]("c"), "a channel of i32 numbers"),
        (lambda: Channel[tuple[Tensor, DType.BF16]]("c"), "a channel of bf16 numbers"),  # type: ignore[misc]
        (lambda: connect([process("p").body(lambda: None)], None), "connect needs a list of channels"),  # type: ignore[arg-type]
        (lambda: connect(process("p"), []), "connect needs a list of processes"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_made(make: Callable[[], object], why: str) -> None:
    with pytest.raises(TraceError, match=re.escape(why)) as caught:
        make()
    assert caught.value.code == "PTO823"


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ({"depth": -1}, "write Channel[Tensor](depth=2)"),
        ({"latency": -1}, "give a number of cycles"),
        ({"response": 2**50}, "give a number of cycles"),
        ({"initial": -1}, "give a number of tokens"),
    ],
)
def test_each_number_of_a_channel_says_what_it_counts(given: dict[str, int], fix: str) -> None:
    with pytest.raises(TraceError, match=f"{next(iter(given))} of a channel that is no number") as caught:
        Channel[int]("c", **given)
    assert caught.value.fix.startswith(fix)


def test_workloads_of_their_own_may_share_a_channel() -> None:
    c = Channel[int]("c", initial=1)

    def net(y: Tensor) -> Workload:
        def give() -> None:
            for i in P.seq(2):
                send(c, i + 1)

        take = process("take").consumes(c).body(lambda k: fill(s=k, y=y[k]))
        return connect([process("give").produces(c).body(give), take], [c])

    for _ in range(2):
        y = Tensor(np.full((3, 1, 1), -1, np.int64), name="y")
        w = net(y)
        w.compile().run()
        assert (y.data == np.arange(3)[:, None, None]).all()
    with pytest.raises(TraceError, match="PTO824"):
        combine(w, net(y))


def test_channels_belong_to_one_pipeline() -> None:
    def twice(y: Any) -> None:
        c = Channel[int]("c")
        for _ in range(2):
            with P.pipe():
                for i in P.seq(2):
                    send(c, i)
                with consume(c) as k:
                    fill(s=k, y=y[k])

    refused("PTO824", TraceError, "channel c belongs to another pipeline", twice)

    def nested(y: Any) -> None:
        c = Channel[int]("c")
        with P.pipe(), consume(c), P.pipe():
            for i in P.seq(2):
                send(c, i)

    refused("PTO824", TraceError, "channel c belongs to another pipeline", nested)

    def nested_first(y: Any) -> None:
        c = Channel[int]("c")
        with P.pipe():
            for _ in P.seq(3):
                with P.pipe():
                    for i in P.seq(2):
                        send(c, i)
            with consume(c):
                pass

    inside = "channel c belongs to a pipeline inside of a process, where nobody drains it"
    refused("PTO824", TraceError, inside, nested_first)
    refused("PTO824", TraceError, "send outside of a pipeline", lambda y: send(Channel[int]("c"), 1))

    def unlisted(y: Any) -> None:
        c = Channel[int]("c")
        connect([process("p").produces(c).body(lambda: send(c, 1))], [])

    refused("PTO824", TraceError, "no channel of this pipeline", unlisted)


@pytest.mark.parametrize("join", [combine, sequential])
def test_channels_belong_to_one_pipeline_of_workloads_that_are_joined(join: Callable[..., Workload]) -> None:
    c = Channel[int]("c")
    y, z = (Tensor(np.zeros((8, 1, 1), np.int64), name=n) for n in "yz")

    def made(to: Tensor) -> Workload:
        give = process("give").produces(c).body(lambda: send(c, 1))
        return connect([give, process("take").consumes(c).body(lambda k: fill(s=k, y=to[k]))], [c])

    one, other = made(y), made(z)
    with pytest.raises(
        TraceError, match=re.escape(f"{join.__name__}: channel c belongs to another pipeline")
    ) as caught:
        join(one, other)
    assert caught.value.code == "PTO824"
    with pytest.raises(TraceError, match="channel c belongs to another pipeline"):
        join(join(one, one), other)
    assert computed(join(one, one)) == [0, 1, 0, 0, 0, 0, 0, 0]  # the one pipeline twice


def test_ends_are_declared() -> None:
    def undeclared(y: Any) -> None:
        c = Channel[int]("c")
        give = process("give").body(lambda: send(c, 1))
        connect([give, process("take").consumes(c).body(lambda k: fill(s=k, y=y[0]))], [c])

    error = refused("PTO812", TraceError, "process give is not declared to have this end of channel c", undeclared)
    assert "process('give').produces(c)" in error.fix

    def unconsumed(y: Any) -> None:
        c = Channel[int]("c")
        give = process("give").produces(c).body(lambda: send(c, 1))
        connect([give, process("take").body(c.recv)], [c])

    refused("PTO812", TraceError, "recv: process take", unconsumed)


def test_names_are_of_one() -> None:
    def processes(y: Any) -> None:
        p = process("p").body(lambda: fill(s=1, y=y[0]))
        connect([p, p], [])

    refused("PTO156", TraceError, "two processes of one pipeline are called p", processes)

    def channels(y: Any) -> None:
        connect([process("p").body(lambda: None)], [Channel[int]("c"), Channel[int]("c")])

    refused("PTO156", TraceError, "two channels of one pipeline are called c", channels)


def test_tokens_are_of_one_kind() -> None:
    def pipe(c: Channel, *sends: Callable[[Any, Any], object]) -> Callable[[Any], None]:
        def body(y: Any) -> None:
            def give() -> None:
                for i in P.seq(2):
                    for s in sends:
                        s(i, y)

            connect([process("give").produces(c).body(give), process("take").consumes(c).body(lambda *_: None)], [c])

        return body

    whole, index = Channel[Tensor]("c", depth=2), Channel[int]("c", depth=2)
    other = Tensor(np.zeros((8, 1, 1), np.int64), name="other")
    for first, second in (
        (lambda i, y: send(whole, y[i]), lambda i, y: send(whole, other[i])),
        (lambda i, y: send(whole, y[i]), lambda i, y: send(whole, y[0])),
        (lambda i, y: send(whole, y[i]), lambda i, y: send(whole, y[i + 2, 0])),
        (lambda i, y: send(whole, fill(s=1, y=memory())), lambda i, y: send(whole, y[i])),
    ):
        error = refused("PTO813", TypeCheckError, "two sends to channel c", pipe(whole, first, second))
        assert error.loc != error.values["sent"]
    for wrong in (
        lambda i, y: send(index, y[i]),
        lambda i, y: send(index),
        lambda i, y: send(index, 1, 2),
        lambda i, y: send(index, fill(s=1, y=y[i])),
        lambda i, y: send(index, cast(1.5, DType.F64)),
        lambda i, y: send(whole, i),
        lambda i, y: send(whole, both(s=1, y=y[i], z=y[i + 2])),
    ):
        with pytest.raises(TypeCheckError) as caught:
            traced(pipe(index if "index" in wrong.__code__.co_freevars else whole, wrong))
        assert caught.value.code == "PTO813"
    with pytest.raises(TypeCheckError) as caught:
        traced(pipe(index, lambda i, y: send(index, 1.5)))
    assert caught.value.code == "PTO170"


def test_who_receives_views_comes_after_who_sends_them() -> None:
    def body(y: Any) -> None:
        c = Channel[Tensor]("c")
        with P.pipe():
            with consume(c) as t:
                copy(x=t, y=y[0])
            send(c, fill(s=1, y=memory()))

    refused("PTO813", TypeCheckError, "before it is known which views", body)


def test_channels_are_fed_and_drained() -> None:
    def unfed(y: Any) -> None:
        c = Channel[int]("c")
        with P.pipe(), consume(c) as k:
            fill(s=k, y=y[0])

    refused("PTO814", CompileError, "nobody feeds channel c", unfed)

    def undrained(y: Any) -> None:
        c = Channel[int]("c")
        with P.pipe():
            for i in P.seq(2):
                send(c, i)

    refused("PTO814", CompileError, "nobody drains channel c", undrained)

    def initial(y: Any) -> None:
        c = Channel[int]("c", depth=4, initial=4)
        with P.pipe(), consume(c) as k:
            fill(s=k + 1, y=y[k])

    assert computed(traced(initial)) == [1, 2, 3, 4, 0, 0, 0, 0]


def test_channels_of_any_depth_get_a_bounded_number_of_tokens() -> None:
    def body(give: Callable[[Any, Any, Any], None]) -> Callable[[Any], None]:
        def made(y: Any) -> None:
            c, d = Channel[int]("c", depth=None), Channel[int]("d", depth=2, initial=1)
            n = item(y[0, 0, 0])
            connect(
                [
                    process("give").consumes(d).produces(c).body(lambda: give(c, d, y)),
                    process("take").consumes(c).produces(d).body(lambda k: send(d, k + n)),
                ],
                [c, d],
            )

        return made

    def counted(c: Any, d: Any, y: Any) -> None:
        for i in P(4):
            for k in P.seq(i + item(y[1, 0, 0])):
                send(c, k)

    def of_known(c: Any, d: Any, y: Any) -> None:
        for i in P(4):
            send(c, i + d.recv())

    def of_itself(c: Any, d: Any, y: Any) -> None:
        with consume(d) as k:
            send(c, k)

    def of_data(c: Any, d: Any, y: Any) -> None:
        for k in P.seq(item(y[1, 0, 0])):
            send(c, k)

    traced(body(of_known))
    for unbounded in (of_itself, of_data, counted):
        refused("PTO825", ScheduleError, "any number of tokens", body(unbounded))


def test_what_is_sent_belongs_to_the_receiver() -> None:
    def use(after: Callable[[Any, Any], object], given: bool) -> Callable[[Any], None]:
        def body(y: Any) -> None:
            c = Channel[Tensor]("c")
            with P.pipe():
                for i in P.seq(2):
                    mine = y[i] if given else memory()
                    send(c, fill(s=1, y=mine))
                    after(mine, y)
                with consume(c) as t:
                    copy(x=t, y=y[4])

        return body

    for given in (True, False):
        error = refused("PTO815", TraceError, "was sent is used", use(lambda mine, y: copy(x=mine, y=y[5]), given))
        assert "sent" in error.values
    refused("PTO815", TraceError, "was sent is used", use(lambda mine, y: item(mine[0, 0]), True))

    def passed_on(y: Any) -> None:
        a, b = Channel[Tensor]("a"), Channel[Tensor]("b")
        with P.pipe():
            send(a, fill(s=1, y=memory()))
            with consume(a) as t:
                send(b, t)
                bump(x=t)
            with consume(b) as t:
                copy(x=t, y=y[0])

    refused("PTO815", TraceError, "was sent is used", passed_on)

    def released(y: Any) -> None:
        a = Channel[Tensor]("a")
        with P.pipe():
            send(a, fill(s=1, y=memory()))
            with P.when(item(y[0, 0, 0]) == 0):
                with consume(a) as t:
                    pass
                copy(x=t, y=y[1])

    refused("PTO157", TraceError, "is used outside of its loop or branch", released)


def test_what_is_made_under_the_name_of_what_was_sent_is_another() -> None:
    def made(s: int) -> Any:
        x = memory()
        fill(s=s, y=x)
        return x

    def body(y: Any) -> None:
        c = Channel[Tensor]("c")

        def give() -> None:
            send(c, made(1))
            copy(x=made(2), y=y[1])

        connect(
            [
                process("give").produces(c).body(give),
                process("take").consumes(c).body(lambda t: copy(x=t, y=y[0])),
            ],
            [c],
        )

    assert computed(traced(body))[:2] == [1, 2]


def test_memory_that_cannot_be_handed_over() -> None:
    def unbounded(y: Any) -> None:
        c = Channel[Tensor]("c", depth=None)
        with P.pipe():
            send(c, fill(s=1, y=memory()))

    refused("PTO818", TraceError, "holds any number of tokens", unbounded)

    def outside(y: Any) -> None:
        c = Channel[Tensor]("c")

        def give() -> None:
            mine = memory()
            fill(s=1, y=mine)
            for _ in P.seq(2):
                bump(x=mine)
                send(c, mine)

        connect([process("give").produces(c).body(give), process("take").consumes(c).body(lambda t: None)], [c])

    refused("PTO818", TraceError, "used outside of it", outside)

    def unwritten(y: Any) -> None:
        c = Channel[Tensor]("c")
        give = process("give").produces(c).body(lambda: send(c, memory()))
        connect([give, process("take").consumes(c).body(lambda t: None)], [c])

    refused("PTO818", TraceError, "in another body than it is written in", unwritten)

    def sometimes(y: Any) -> None:
        a, b = Channel[Tensor]("a"), Channel[Tensor]("b")
        with P.pipe():
            for i in P.seq(2):
                send(a, fill(s=i, y=memory()))
            with consume(a) as t, P.when(item(t[0, 0]) == 0):
                send(b, t)
            with consume(b) as t:
                copy(x=t, y=y[0])

    refused("PTO818", TraceError, "in another block than it was received in", sometimes)


def test_pipes_hold_processes() -> None:
    def nothing(y: Any) -> None:
        with P.pipe():
            pass

    refused("PTO816", TraceError, "a pipeline without processes", nothing)
    refused("PTO816", TraceError, "a pipeline without processes", lambda y: connect([], []))

    def received(y: Any) -> None:
        c = Channel[int]("c")
        with P.pipe():
            fill(s=c.recv(), y=y[0])

    refused("PTO816", TraceError, "recv directly in P.pipe()", received)

    def slot(y: Any) -> None:
        with P.pipe():
            slot_set_i64(0, 1)

    refused("PTO816", TraceError, "slot_set directly in P.pipe()", slot)

    def read(y: Any) -> None:
        with P.pipe():
            fill(s=1, y=y[0])
            fill(s=item(y[0, 0, 0]), y=y[1])

    refused("PTO816", TraceError, "item of what a process of the pipeline writes", read)
    refused("PTO823", TraceError, "timed= is True or False", lambda y: connect([], [], timed=1))  # type: ignore[arg-type]
    refused("PTO823", TraceError, "something that is no process", lambda y: connect([3], []))

    def too_many(y: Any) -> None:
        connect([process("p").body(lambda a, b: None)], [])

    refused("PTO823", TraceError, "takes 2 parameters", too_many)


def test_only_timed_pipelines_try_and_ask() -> None:
    for ask in (lambda c: try_send(c, 1), query):

        def body(y: Any, ask: Any = ask) -> None:
            c = Channel[int]("c")
            with P.pipe(), P.when(item(y[0, 0, 0]) == 0):
                ask(c)

        refused("PTO819", TraceError, "in a pipeline that is not timed", body)


def test_what_is_surely_closed_takes_no_more() -> None:
    def after(send_again: Callable[[Any], object]) -> Callable[[Any], None]:
        def body(y: Any) -> None:
            c = Channel[int]("c")

            def give() -> None:
                send(c, 1)
                close(c)
                send_again(c)

            connect([process("give").produces(c).body(give), process("take").consumes(c).body(lambda k: None)], [c])

        return body

    def in_a_loop(c: Any) -> None:
        for i in P.seq(2):
            send(c, i)

    refused("PTO817", ChannelClosed, "which it has closed", after(lambda c: send(c, 2)))
    refused("PTO817", ChannelClosed, "which it has closed", after(in_a_loop))

    def perhaps(c: Any) -> None:
        for i in P.seq(0):
            send(c, i)
        with P.when(slot_i64(0) == 1):
            send(c, 3)

    assert computed(traced(after(perhaps))) == [0] * 8


def test_tasks_of_processes_are_waited_for_in_them() -> None:
    def body(y: Any) -> None:
        with P.pipe():
            for i in P.seq(2):
                t = fill(s=i, y=y[0])
                fill(s=i, y=y[1], after=t)
            fill(s=1, y=y[2], after=t)

    refused("PTO824", TraceError, "after= of a task of another process", body)

    def beside(y: Any) -> None:
        with P.pipe():
            t = fill(s=1, y=y[0])
            fill(s=1, y=y[1], after=t)

    refused("PTO824", TraceError, "after= of a task of another process", beside)


def test_schedules_of_pipelines_that_have_no_meaning() -> None:
    @workload
    def pipe(y: Any) -> None:
        with P.pipe():
            for i in P.seq(2):
                fill(s=i, y=y[i])

    y = Tensor(np.zeros((8, 1, 1), np.int64), name="y")
    with pytest.raises(ScheduleError, match="dispatch around pipeline pipe") as caught:
        pipe(y).dispatch(DispatchPolicy.round_robin(2))
    assert caught.value.code == "PTO404"

    @workload
    def plain(y: Any) -> None:
        for i in P.seq(2):
            fill(s=i, y=y[i])

    for step in (lambda f: f.dispatch(DispatchPolicy.round_robin(2)), lambda f: f.window(TaskWindow(2))):

        def body(y: Any, step: Any = step) -> None:
            with P.pipe(), P.when(slot_i64(1) == 0):
                step(plain)(y)

        refused("PTO404", ScheduleError, "inside of process fill", body)


def test_bodies_that_raise_leave_nothing_behind() -> None:
    class Mine(Exception):
        pass

    c = Channel[int]("c")

    def raises(y: Any) -> None:
        def give() -> None:
            for i in P.seq(2):
                send(c, i)
                raise Mine

        connect([process("give").produces(c).body(give), process("take").consumes(c).body(lambda k: None)], [c])

    for _ in range(2):
        with pytest.raises(Mine):
            traced(raises)

    def piped(y: Any) -> None:
        with P.pipe(), consume(c):
            raise Mine

    with pytest.raises(Mine):
        traced(piped)

    def swallowed(y: Any) -> None:
        with contextlib.suppress(Mine):
            piped(y)
        fill(s=1, y=y[0])

    refused("PTO151", TraceError, "left a traced loop", swallowed)

    def good(y: Any) -> None:
        with P.pipe():
            for i in P.seq(2):
                send(c, i)
            with consume(c) as k:
                fill(s=k, y=y[k])

    assert computed(traced(good))[:2] == [0, 1]


def test_nothing_leaves_a_pipe() -> None:
    def returns(y: Any) -> None:
        with P.pipe():
            return

    refused("PTO187", TraceError, "return inside of `with P.pipe`", returns)

    def breaks(y: Any) -> None:
        c = Channel[int]("c")
        with P.pipe():
            for _ in P.seq(2):
                with consume(c):
                    break

    refused("PTO187", TraceError, "break inside of `with consume`", breaks)

    def left(y: Any) -> None:
        def give() -> None:
            for _ in P.seq(2):
                return

        connect([process("give").body(give)], [])

    refused("PTO151", TraceError, "left a traced loop of process give", left)


def test_threads_trace_pipelines_beside_each_other() -> None:
    c = Channel[int]("c", depth=2)
    found: list[str] = []

    def trace() -> None:
        def body(y: Any) -> None:
            with P.pipe():
                for i in P.seq(4):
                    send(c, i)
                with consume(c) as k:
                    fill(s=k, y=y[k])

        for _ in range(10):
            found.append(str(traced(body).wir))

    threads = [threading.Thread(target=trace) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 40
    assert len(set(found)) == 1


def test_who_waits_for_buffers_is_told_to_make_the_channel_deeper() -> None:
    @kernel
    def copy(x: In[Tensor], out: Out[Tensor]):
        pto.store(out, x)

    @workload
    def two_at_once(x, y, depth):
        rows = Channel[Tensor](depth=depth)
        with P.pipe():
            for i in P.seq(4):
                send(rows, copy(x=x[i : i + 1], out=empty((1, 4), DType.F32)))
            for i in P.seq(2):
                copy(x=rows.recv(), out=y[2 * i : 2 * i + 1])
                copy(x=rows.recv(), out=y[2 * i + 1 : 2 * i + 2])

    x, y = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    with pytest.raises(DeadlockError, match="make channels deeper: rows depth=2") as caught:
        two_at_once(x, y, 1).compile()
    assert "no capacity helps" not in str(caught.value)
    two_at_once(x, y, 2).compile().run()
    assert (y == x).all()


@pytest.mark.parametrize("known", [True, False])
def test_one_process_waits_for_ever(known: bool) -> None:
    c = Channel[int]("c")
    count = Tensor(np.array([3], np.int64), name="count")

    def give() -> None:
        for i in P.seq(3 if known else item(count[0])):
            send(c, i)

    def take() -> None:
        c.recv()

    with pytest.raises(DeadlockError, match="give waits for ever"):
        connect([process("give").produces(c).body(give), process("take").consumes(c).body(take)], [c]).compile().run()
