"""Processes that touch common elements, where data decides which: found when they run, and nothing is found where tokens order them."""

from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Channel,
    DenseDyn,
    DType,
    In,
    Out,
    P,
    Program,
    RaceError,
    Scalar,
    Tensor,
    Tile,
    close,
    connect,
    consume,
    empty,
    kernel,
    process,
    pto,
    query,
    replicate,
    send,
    slot_bool,
    slot_set_bool,
    try_send,
    workload,
)
from pto_wsp.api.workload import Workload

I64 = DType.I64
N = 8


@kernel
def put(k: Scalar[I64], out: Out[Tile[1, 1, I64]]):
    pto.store(out, pto.full((1, 1), 0, I64) + k)


@kernel
def copy(x: In[Tile[1, 1, I64]], out: Out[Tile[1, 1, I64]]):
    pto.store(out, x)


@kernel
def take(x: In[Tile[4, 1, I64]], out: Out[Tile[4, 1, I64]]):
    pto.store(out, x)


def rows(n: int = N) -> Any:
    return np.arange(n).reshape(n, 1, 1)


def found(w: Workload, **options: Any) -> RaceError | None:
    """The race of a run, which is the same on any number of threads."""
    errors: list[RaceError | None] = []
    for threads in (1, 2, 4):
        program = w.compile(threads=threads, **options)
        assert program._bound.unproved, "compiling decides"
        try:
            program.run()
            errors.append(None)
        except RaceError as e:
            errors.append(e)
    assert len({str(e) for e in errors}) == 1
    return errors[0]


@workload
def handed_on(x: Any, y: Any, z: Any, index: Any, depth: int, initial: int = 0):
    """y[index[i]], then token i; y[k] behind token k."""
    c = Channel[int]("c", depth=depth, initial=initial)
    with P.pipe():
        for i in P.seq(N):
            copy[i](x=x[i], out=y[index[i]])
            send(c, i)
        for j in P.seq(N):
            copy[j](x=y[c.recv()], out=z[j])


@pytest.mark.parametrize("depth", [0, 1, 2, N])
def test_gathers_that_tokens_order_are_no_races(depth: int) -> None:
    assert found(handed_on(rows(), rows(), rows(), np.arange(N), depth)) is None
    early = np.maximum(np.arange(N) - 1, 0)  # y[k - 1] is written again before token k, and read behind token k - 1
    race = found(handed_on(rows(), rows(), rows(), early, depth))
    assert race is not None
    assert "touch common elements of y" in race.what


@pytest.mark.parametrize("depth", [0, 1, 2, N])
def test_a_race_names_pipeline_tasks_processes_lines_and_an_element(depth: int) -> None:
    race = found(handed_on(rows(), rows(), rows(), np.array([0, 1, 2, 3, 4, 5, 0, 7]), depth))
    # the room behind token 0 orders what was read there before what comes N places later, and no sooner
    if depth < 6:
        assert race is None
        return
    assert race is not None
    assert race.code == "PTO863"
    assert race.what == "processes copy and copy.1 touch common elements of y, one writes, and no token orders them"
    assert str(race.values["pipeline"]).startswith("pipe, ")
    said = {str(race.values["one"]), str(race.values["the other"])}
    assert {s.split(", ")[0] for s in said} == {"copy[6] in process copy", "copy[0] in process copy.1"}
    assert {s.split()[-1] for s in said} == {"writes", "reads"}
    assert all("test_pipeline_races.py:" in s for s in said)
    assert race.values["element"] == "y[0, 0, 0]"
    assert race.loc is not None


def test_tokens_of_the_beginning_order_nothing() -> None:
    late = handed_on(rows(), rows(), rows(), np.arange(N), 2, 2)  # token k is sent behind y[k - 2]
    with pytest.raises(RaceError, match=r"element: y\[0, 0, 0\]"):
        late.compile().run()


@workload
def counted(y: Any, x: Any, counts: Any, rows_of: Any, depth: int):
    """As many tokens as data says: rows of y before each, others behind it, and all behind the last of them."""
    c, done = Channel[int]("c", depth=depth), Channel[None]("done", depth=1)

    def gather() -> None:
        for i in P.seq(4):
            for j in P.seq(counts[i]):
                put[i, j](k=j, out=y[rows_of[i]])
                send(c, i)

    def drain() -> None:
        consume(c, lambda k: copy[k](x=y[rows_of[k + 4]], out=x[k]))
        put(k=0, out=y[rows_of[0]])
        send(done)

    def last() -> None:
        done.recv()
        put(k=0, out=y[rows_of[0]])

    connect(
        [
            process("gather").produces(c).body(gather),
            process("drain").consumes(c).produces(done).body(drain),
            process("last").consumes(done).body(last),
        ],
        [c, done],
    )


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_counts_of_data_and_the_end_of_consume(depth: int) -> None:
    counts = np.array([1, 3, 0, 2])
    assert found(counted(rows(), rows(), counts, np.array([0, 1, 2, 3, 4, 5, 6, 7]), depth)) is None
    race = found(counted(rows(), rows(), counts, np.array([0, 1, 2, 3, 4, 1, 6, 7]), depth))
    assert race is not None  # the second token of i=1 comes behind another write of y[1]
    assert race.values["element"] == "y[1, 0, 0]"


@workload
def closed(x: Any, y: Any, index: Any, when: int):
    """`give` closes before its write to y[index[i]] number `when`; behind the end of its tokens y[5] is read."""
    c = Channel[int]("c", depth=2)

    def give() -> None:
        send(c, 0)
        for i in P.seq(when):
            put[i](k=i, out=y[index[i]])
        close(c)
        for i in P.seq(N - when):
            put[i](k=i, out=y[index[i + when]])

    def get() -> None:
        consume(c, lambda k: put[k](k=k, out=x[k]))
        copy(x=y[5], out=x[5])

    connect([process("give").produces(c).body(give), process("get").consumes(c).body(get)], [c])


def test_a_close_orders_what_comes_before_it_alone() -> None:
    assert found(closed(rows(), rows(), np.array([5, 5, 5, 5, 1, 2, 3, 4]), 4)) is None
    race = found(closed(rows(), rows(), np.array([5, 5, 5, 5, 1, 5, 3, 4]), 4))
    assert race is not None
    assert race.values["element"] == "y[5, 0, 0]"


@workload
def tried(y: Any, x: Any, index: Any):
    """What `give` does before a token that it may send only sometimes, behind which `get` writes."""
    c = Channel[int]("c", depth=1)
    with P.pipe(timed=True):
        for i in P.seq(N):
            put[i](k=i, out=y[index[i]])
            try_send(c, i)
        with consume(c) as k:
            put[k](k=k, out=x[k])
            put[k](k=k, out=x[k])
            put[k](k=k, out=x[k])
            put[k](k=k, out=y[index[k]])


@workload
def asked(y: Any, x: Any, index: Any):
    """That there is a token orders nothing before it is taken."""
    c = Channel[int]("c", depth=1)
    with P.pipe(timed=True):
        for i in P.seq(2):
            put[i](k=i, out=y[index[i]])
            send(c, i)
        for j in P.seq(2):
            put[j](k=j, out=x[j])
            put[j](k=j, out=x[j])
            with P.when(query(c)):
                put[j](k=j, out=y[index[j]])
            c.recv()


def test_what_is_tried_orders_where_it_succeeds() -> None:
    assert found(tried(rows(), rows(), np.arange(N))) is None
    assert found(tried(rows(), rows(), np.array([0, 0, 2, 3, 4, 5, 6, 7]))) is not None


def test_what_is_asked_orders_nothing() -> None:
    assert found(asked(rows(), rows(), np.array([0, 0]))) is not None


@workload
def nested(x: Any, y: Any, index: Any):
    """Rounds of two inner processes, of which the second tells the other outer process of the round."""
    done = Channel[int]("done", depth=1)
    with P.pipe():
        for i in P.seq(4):
            c = Channel[int]("c", depth=1)
            with P.pipe():
                for j in P.seq(2):
                    put[i, j](k=j, out=y[index[2 * i + j]])
                    send(c, j)
                with consume(c) as k:
                    copy[i, k](x=y[index[2 * i + k]], out=x[index[2 * i + k]])
            send(done, i)
        with consume(done) as r:
            copy[r](x=x[2 * r], out=y[2 * r])


def test_nested_pipelines_count_as_the_process_around_and_among_themselves() -> None:
    assert found(nested(rows(), rows(), np.arange(N))) is None
    inner = found(nested(rows(), rows(), np.array([0, 0, 2, 3, 4, 5, 6, 7])))
    assert inner is not None
    assert "processes put and copy" in inner.what
    outer = found(nested(rows(), rows(), np.array([0, 1, 0, 3, 4, 5, 6, 7])))
    assert outer is not None
    assert "processes put and copy" in outer.what
    assert outer.values["pipeline"] != inner.values["pipeline"]


@workload
def buffered(x: Any, y: Any, index: Any, depth: int):
    c = Channel[Tensor]("c", depth=depth)
    with P.pipe():
        for i in P.seq(N):
            send(c, copy[i](x=x[index[i]], out=empty((1, 1), I64)))
        for i in P.seq(N):
            copy[i](x=c.recv(), out=y[index[i]])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_buffers_come_back_with_their_numbers(depth: int) -> None:
    x, y = rows(), rows()
    program = buffered(x, y, np.arange(N)[::-1].copy(), depth).compile(check="races")
    program.run()
    assert (y == x).all()


@workload
def shared(x: Any, y: Any, index: Any, copies: int):
    c = Channel[int]("c", depth=2)

    def give() -> None:
        for i in P.seq(N):
            send(c, i)

    connect(
        [
            process("give").produces(c).body(give),
            *replicate(process("work").consumes(c).body(lambda k: copy[k](x=x[k], out=y[index[k]])), copies),
        ],
        [c],
        timed=True,
    )


def test_replicas() -> None:
    assert found(shared(rows(), rows(), np.arange(N), 3)) is None
    race = found(shared(rows(), rows(), np.array([0, 0, 1, 2, 3, 4, 5, 6]), 2))
    assert race is not None
    assert "processes work.0 and work.1" in race.what


@workload
def scalars(x: Any, y: Any, z: Any, index: Any, behind: bool):
    """A scalar that decides a row is read in one process, and written in another."""
    c = Channel[int]("c", depth=1)
    with P.pipe():
        for i in P.seq(4):
            if behind:
                put[i](k=i, out=y[index[i]])
                send(c, i)
            else:
                send(c, i)
                put[i](k=i, out=y[index[i]])
        with consume(c) as k:
            copy[k](x=x[y[k, 0, 0]], out=z[k])


def test_scalars_that_are_read_are_accesses() -> None:
    assert found(scalars(rows(), rows(), rows(), np.arange(4), True)) is None
    race = found(scalars(rows(), rows(), rows(), np.arange(4), False))
    assert race is not None
    assert any("item in process copy" in str(race.values[k]) for k in ("one", "the other"))


@workload
def gathers(x: Any, y: Any, pages: Any, index: Any, received: int):
    """The indices of a gather are read when its task comes."""
    c = Channel[int]("c", depth=N)

    def write() -> None:
        for i in P.seq(4):
            put[i](k=3 - i, out=pages[index[i]])
            send(c, i)

    def gather() -> None:
        for _ in P.seq(received):
            c.recv()
        take(x=x[pages[0:4, 0, 0]], out=y)
        for _ in P.seq(4 - received):
            c.recv()

    connect([process("write").produces(c).body(write), process("gather").consumes(c).body(gather)], [c])


def test_indices_of_gathers_are_accesses() -> None:
    def race_of(index: list[int], received: int) -> RaceError | None:
        x, y, pages = np.arange(8).reshape(8, 1), np.zeros((4, 1), np.int64), rows() % 4
        return found(gathers(x, y, pages, np.array(index), received))

    assert race_of([0, 1, 2, 5], 3) is None
    race = race_of([0, 1, 2, 3], 3)
    assert race is not None
    assert race.values["element"] == "pages[3, 0, 0]"
    assert {str(race.values[k]).split(", ")[0] for k in ("one", "the other")} == {
        "put[3] in process write",
        "take[] in process gather",
    }


def test_instances_of_pipelines_come_one_after_another() -> None:
    @workload
    def again(x: Any, y: Any, index: Any):
        for _ in P.seq(3):
            c = Channel[int]("c", depth=1)
            with P.pipe():
                for i in P.seq(4):
                    put[i](k=i, out=y[index[i]])
                    send(c, i)
                with consume(c) as k:
                    copy[k](x=y[index[k]], out=x[k])

    assert found(again(rows(), rows(), np.array([2, 0, 1, 3]))) is None


def test_what_is_proved_is_not_looked_at() -> None:
    @workload
    def proved(x: Any, y: Any):
        c = Channel[int]("c", depth=1)
        with P.pipe():
            for i in P.seq(4):
                put[i](k=i, out=y[i])
                send(c, i)
            with consume(c) as k:
                copy[k](x=y[k], out=x[k])

    program = proved(rows(), rows()).compile()
    assert program._bound.unproved == []
    assert program._looks_for_races() == []
    assert proved(rows(), rows()).compile(check="races")._looks_for_races() == [0]
    assert program.run().stats.task_count == 8


def test_other_latencies_of_timed_pipelines_are_looked_at() -> None:
    @workload
    def late(x: Any, y: Any):
        """`get` asks once, when the token is there unless it takes long."""
        c, d = Channel[int]("c", depth=1), Channel[None]("d", depth=1, latency=5)
        with P.pipe(timed=True):
            for i in P.seq(1):
                put[i](k=i, out=y[0])
                send(c, i)
                d.recv()
            for j in P.seq(1):
                put[j](k=j, out=x[0])
                put[j](k=j, out=x[0])
                put[j](k=j, out=x[0])
                with P.when(query(c)):
                    c.recv()
                    slot_set_bool(0, True)
                with P.when(slot_bool(0)):
                    put[j](k=j, out=y[1])
                with P.otherwise():
                    put[j](k=j, out=y[0])
                send(d)

    program = late(rows(), rows()).compile()
    assert program._bound.unproved == []
    assert program.run().stats.task_count == 5
    program.set_channel("c", latency=100_000)
    with pytest.raises(RaceError, match=r"element: y\[0, 0, 0\]"):
        program.run()


def test_a_saved_program_looks_for_races(tmp_path: Any) -> None:
    path = str(tmp_path / "p")
    handed_on(rows(), rows(), rows(), np.arange(N), 1).compile().save(path)
    index = np.array([0, 1, 1, 1, 4, 5, 6, 7])
    program = Program.load(path)
    name = next(n for n in program.wir.splitlines() if "i64[8]" in n).split("tensor ")[1].split(":")[0]
    program.bind({"x": rows(), "y": rows(), "z": rows(), name: np.arange(N)}).run()
    with pytest.raises(RaceError):
        program.bind({name: index}).run()


def test_sizes_that_prove_a_pipeline_safe_leave_nothing_to_the_run() -> None:
    @workload
    def sized(x: Any, y: Any):
        n = DenseDyn(name="n")
        c = Channel[int]("c", depth=2)
        with P.pipe():
            for i in P.seq(n):
                put[i](k=i, out=y[i % 3])
                send(c, i)
            with consume(c) as k:
                copy[k](x=y[k % 3], out=x[k])

    program = sized(rows(), rows()).compile()
    program.set_axis_sizes({"n": 3}).run()
    assert program._bound.unproved == []


@pytest.mark.parametrize("check", ["races", "bounds", "numerics", "all"])
def test_checks_of_programs_with_pipelines(check: str) -> None:
    plain = handed_on(rows(), rows(), rows(), np.arange(N), 2).compile().run()
    program = handed_on(rows(), rows(), rows(), np.arange(N), 2).compile(check=check, threads=2).run()
    assert program.stats.semantic == plain.stats.semantic
    assert (program.tensors["z"] == plain.tensors["z"]).all()
    with pytest.raises(RaceError):
        handed_on(rows(), rows(), rows(), np.array([0, 1, 1, 1, 4, 5, 6, 7]), 2).compile(check=check).run()
