"""Traces of pipelines: what processes and channels did, cycle for cycle as the model of their time says, and nothing changed by looking."""

import random
from typing import Any

import numpy as np
import pytest

from ir.test_processes import EVERYTHING, LOAD_STORE, PLAIN, pipeline, workload
from pipelines import pipelines
from pto_wsp import (
    BindError,
    DeadlockError,
    ExecutionTrace,
    Program,
)
from pto_wsp.ir.core import Wir
from pto_wsp.runtime.views.pipes import OPERATIONS, RECEIVES, SENDS
from runtime.test_pipelines import Network, arrays, costs_of, expected, model, program, same

MOVES = ("send", "recv", "consume", "try_send")


def traced(p: Program, **options: Any) -> ExecutionTrace:
    p.enable_tracing("full").run(**options)
    return p.trace


def is_sequential(t: ExecutionTrace) -> None:
    """Each process is at one thing at a time, and at something all the time from its beginning until its end."""
    for run, event in enumerate(t.pipelines):
        o = t.operations
        within = [(p.process, p.start, p.end) for p in t.pipelines if p.around == run]
        for k in np.unique(o.process[o.pipeline == run]).tolist():
            mine = (o.pipeline == run) & (o.process == k) & (o.operation != OPERATIONS.index("close"))
            spans = list(zip(o.came[mine].tolist(), o.went[mine].tolist(), strict=True))
            tasks = (t.pipeline == run) & (t.process == k)
            spans += zip(t.issue[tasks].tolist(), t.end[tasks].tolist(), strict=True)
            spans += [(start, end) for process, start, end in within if process == k]
            ended = o.operation[mine].tolist().index(OPERATIONS.index("end"))
            end = spans.pop(ended)[0]
            at = event.start
            for came, went in sorted(spans):
                assert came == at
                at = went
            assert at == end or (at > end and OPERATIONS[o.operation[mine][-2]] == "end of consume")


def waits_are_those_of_the_model(t: ExecutionTrace, stats: Any) -> None:
    """Until when each operation waited for another process, by definition; and the sums of all waits, which the run counts too."""
    o = t.operations
    for k, c in enumerate(t.channels):
        full = empty = 0
        for run in np.unique(o.pipeline[o.channel == k]).tolist():
            mine = [e for e in o if e.pipeline == run and e.channel == c.name and e.operation in MOVES]
            sent = {e.token: e for e in mine if "send" in e.operation}
            got = {e.token: e for e in mine if "send" not in e.operation}
            for e in mine:
                sends = "send" in e.operation
                if c.capacity == 0:
                    until = max(sent[e.token].came, got[e.token].came)
                elif sends:
                    bounded = c.capacity is not None and e.token >= c.capacity
                    until = got[e.token - c.capacity].went if bounded else e.came
                else:
                    until = e.came if e.token < c.initial else sent[e.token].went
                assert e.until == min(max(until, e.came), e.went)
                own = c.response if sends and c.capacity != 0 else c.latency
                assert e.went - e.until <= own
                why = {True: "response", False: "latency"}[sends and c.capacity != 0] if e.went > e.until else ""
                if e.until > e.came:
                    lacks = "full" if sends or c.buffers_of is not None else "empty"
                    why = "rendezvous" if c.capacity == 0 else lacks
                assert e.waited == why
                full += (e.went - e.came) * sends
                empty += (e.went - e.came) * (not sends)
            changes, tokens = t.occupancy(c.name, run)
            assert (np.diff(changes) > 0).all()
            assert tokens.min() >= 0
            assert c.capacity is None or tokens.max() <= max(c.capacity, 0)
            assert tokens[-1] == c.initial + len(sent) - len(got)
        assert (stats[c.name].full_cycles, stats[c.name].empty_cycles) == (full, empty)


def does_what_the_model_says(
    wir: Wir, processes: list[Any], channels: dict[str, Any], threads: int, blocks: bool = True
) -> bool:
    """Whether the network comes to an end. blocks: those that do not are looked at too."""
    cost = costs_of(wir)
    costs = {k: cost(k, {"x": (1, 1), "y": (1, 1)}) for k in ("put", "copy")}
    want = model(processes, channels, costs)
    if "total" not in want and not blocks:
        return False
    given = arrays()
    p = program(wir, threads, given=given).enable_tracing("full")
    if "deadlock" in want:
        with pytest.raises(DeadlockError):
            p.run(max_actions=3000)
        waiting = [e for e in p.trace.operations if e.went < 0]
        assert [(e.process, e.channel, e.came) for e in waiting] == [
            (b["process"], b["channel"], b["clock"]) for b in want["deadlock"]
        ]
        assert all(e.waited in ("full", "empty", "rendezvous") and e.until == -1 for e in waiting)
        assert [e.end for e in p.trace.pipelines] == [-1]
    if "total" not in want:
        return False
    t = traced(p)
    o = t.operations
    for name, kinds in (("sent", SENDS), ("received", RECEIVES)):
        for k, c in enumerate(t.channels):
            mine = (o.channel == k) & np.isin(o.operation, kinds)
            first = c.initial if name == "sent" else 0
            order = np.argsort(o.token[mine])
            assert o.token[mine][order].tolist() == list(range(first, len(want[name][c.name])))
            assert o.went[mine][order].tolist() == want[name][c.name][first:]
    assert {e.process: e.went for e in o if e.operation == "end"} == want["time"]
    assert (t.start == t.ready).all()
    assert (t.lane == -1).all()
    assert all(e.end - e.start == costs[e.kernel] for e in t)
    is_sequential(t)
    waits_are_those_of_the_model(t, p.stats.semantic.channels)
    assert same(given, expected(wir))
    return True


def test_random_networks_do_what_the_model_says_when_it_says() -> None:
    ends = []
    for seed in range(250):
        n = Network(seed)
        ends.append(does_what_the_model_says(n.wir(), n.processes, n.channels, 1 + seed % 3, blocks=seed % 8 == 0))
    assert ends.count(True) > 8
    assert ends.count(False) > 8


def chain(seed: int) -> tuple[Wir, list[Any], dict[str, Any]]:
    """Stages that hand tokens on; each gives back what the one before it may have in flight, or does not."""
    rng = random.Random(seed)
    n, times = rng.randrange(2, 5), rng.randrange(1, 6)
    channels: dict[str, Any] = {}
    processes, rows = [], []
    back = [rng.random() < 0.4 for _ in range(n)]
    for k in range(n - 1):
        for name, initial in ((f"c{k}", 0), *([(f"b{k}", 1 + seed % 2)] if back[k] else [])):
            channels[name] = {
                "capacity": rng.choice([0, 1, 2, 3, None]) if initial == 0 else initial + rng.randrange(2),
                "latency": rng.choice([0, 3, 40, 900]),
                "response": rng.choice([0, 2, 30, 700]),
                "initial": initial,
            }
    for k in range(n):
        ops: list[Any] = [["recv", f"c{k - 1}"]] * (k > 0) + [["recv", f"b{k}"]] * (k < n - 1 and back[k])
        ops += [["work", kind] for kind in rng.choices(["put", "copy"], k=rng.randrange(4))]
        ops += [["send", f"c{k}"]] * (k < n - 1) + [["send", f"b{k - 1}"]] * (k > 0 and back[k - 1])
        said = {"recv": "r{0}_{1}: i64 = recv {2}", "send": "send {2} (i{0})", "work": "task {2}"}
        put, copy = (
            f"put[](s=1:i64, y=Y[{k}, 0 :+ 1, 0 :+ 1])",
            f"copy[](x=Y[{k}, 0 :+ 1, 0 :+ 1], y=Z[{k}, 0 :+ 1, 0 :+ 1])",
        )
        body = [said[o].format(k, j, {"put": put, "copy": copy}.get(c, c)) for j, (o, c) in enumerate(ops)]
        rows.append("\n".join([f"seq_for i{k} in i{k}: Range({times}) {{", *body, "}"]))
        processes.append({"name": f"p{k}", "ops": [["repeat", times, ops]]})
    text = "\n".join(
        f"{c}: channel<i64> "
        + " ".join(f"{'depth' if k == 'capacity' else k}={v}" for k, v in of.items() if v is not None)
        for c, of in channels.items()
    )
    return pipeline(*rows, channels=text), processes, channels


@pytest.mark.parametrize("seed", range(60))
def test_so_do_chains_that_come_to_an_end(seed: int) -> None:
    assert does_what_the_model_says(*chain(seed), threads=1 + seed % 3)


@pytest.mark.parametrize("seed", range(40))
def test_looking_changes_nothing(seed: int) -> None:
    case = pipelines(seed)
    given = case.arrays()
    p = case.workload(given).compile(threads=1 + seed % 3)
    want = p.run().stats.semantic
    given["Y"][:] = 0
    t = traced(p)
    assert p.stats.semantic == want
    assert (given["Y"] == case.expected).all()
    assert len(t) == want.task_count
    assert (t.thread != 0).all()
    assert (t.ended_ns >= t.started_ns).all()
    assert max((e.end for e in t.pipelines), default=0) == want.total_cycles
    is_sequential(t)
    waits_are_those_of_the_model(t, want.channels)


def test_the_task_that_a_pipeline_is_stands_in_the_graph_around() -> None:
    first = "task put[](s=1:i64, y=Y[7, 0 :+ 1, 0 :+ 1])"
    last = "task copy[](x=Y[7, 0 :+ 1, 0 :+ 1], y=X[0, 0 :+ 1, 0 :+ 1])"
    p = program(workload(f"{first}\n{LOAD_STORE}\n{last}"))
    t = traced(p)
    (pipe,) = t.pipelines
    outside = np.flatnonzero(t.pipeline < 0).tolist()
    assert outside == [0, 17]
    assert sorted(map(tuple, t.edges.tolist())) == [(-(2**40), 17), (0, -(2**40))]
    assert pipe.start == pipe.ready == t.end[0]
    assert pipe.end == t.start[17]
    assert t.start[1:17].min() == pipe.start
    assert t.end[1:17].max() == pipe.end == p.stats.total_cycles - int(t.end[17] - t.start[17])
    assert [t.processes[k].name for k in np.unique(t.process[1:17])] == [q.name for q in t.processes]
    assert t.processes[0].pipeline == pipe.name == "pipe"


def test_pipelines_of_a_sequence_stand_behind_each_other() -> None:
    t = traced(program(workload(f"seq_for n in n: Range(2) {{\n{LOAD_STORE}\n}}")))
    one, two = t.pipelines
    assert one.end == two.start
    assert t.edges.tolist() == [[-(2**40), -(2**40) - 1]]


def test_a_pipeline_without_tasks_is_there() -> None:
    wir = pipeline(
        "send a 1:i64\nsend a 2:i64", "u: i64 = recv a\nv: i64 = recv a", channels=f"a: channel<i64> depth=1 {PLAIN}"
    )
    t = traced(program(wir).set_channel("a", latency=7, response=9))
    assert len(t) == 0
    assert [(e.operation, e.token, e.came, e.until, e.went, e.waited) for e in t.operations if e.channel] == [
        *(("send", 0, 0, 0, 0, ""), ("recv", 0, 0, 0, 7, "latency"), ("send", 1, 0, 7, 16, "full")),
        ("recv", 1, 7, 16, 23, "empty"),
    ]
    assert t.occupancy("a")[0].tolist() == [0, 7, 16, 23]
    assert t.occupancy("a")[1].tolist() == [1, 0, 1, 0]
    assert (t.channels[0].latency, t.channels[0].response) == (7, 9)
    for wrong in ({"channel": "b"}, {"channel": "a", "pipeline": 1}, {"channel": "a", "pipeline": "x"}):
        with pytest.raises(BindError) as caught:
            t.occupancy(**wrong)  # type: ignore[arg-type]
        assert caught.value.code == "PTO705"


@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_is_done_again_as_it_was(threads: int) -> None:
    wir, given = workload(LOAD_STORE), arrays()
    p = program(wir, threads, given=given)
    t = traced(p)
    schedule = t.schedule()
    for name in "XYZ":
        given[name][:] = 0
    p.run(replay=schedule)
    assert same(given, expected(wir))
    again = p.trace
    assert again.operations.went.tolist() == t.operations.went.tolist()
    assert sorted(s.tolist() for s in again.schedule().sequences) == sorted(s.tolist() for s in schedule.sequences)
    p.set_channel("c", latency=3)  # as it is in the workload
    p.run(replay=schedule)
    p.set_channel("c", latency=100)
    with pytest.raises(BindError, match="times of channels") as caught:
        p.run(replay=schedule)
    assert caught.value.code == "PTO766"


def test_a_schedule_may_ask_for_traces() -> None:
    p = program(workload(f'trace[level="tasks"] {{\n{LOAD_STORE}\n}}')).run()
    assert len(p.trace) == 16
    assert len(p.trace.operations) > 16
    assert len(p.trace.edges) == 0


def test_what_has_no_room_is_counted() -> None:
    p = program(workload(LOAD_STORE))
    whole = traced(p)
    assert (whole.dropped, whole.operations.dropped) == (0, 0)
    p.enable_tracing("full", limit=1).run()
    few = p.trace
    assert (len(few), few.dropped) == (1, 15)
    assert len(few.operations) == 16
    assert few.operations.dropped == len(whole.operations) - 16 > 0
    assert list(few.operations) == list(whole.operations)[:16]


def test_everything_that_a_process_may_do_is_told() -> None:
    t = traced(program(workload(EVERYTHING), 2))
    is_sequential(t)
    assert {e.operation for e in t.operations} >= {"send", "consume", "end of consume", "end"}
    e = t.operations[0]
    assert t.operations[-1] == list(t.operations)[-1]
    assert t.operations[:1] == [e]
    with pytest.raises(IndexError):
        t.operations[len(t.operations)]
    with pytest.raises(AttributeError):
        t.operations.nothing  # noqa: B018
    with pytest.raises(ValueError, match="read-only"):
        t.operations.came[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        t.start[0] = 1
