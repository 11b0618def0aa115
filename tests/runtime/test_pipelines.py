"""Pipelines run: numbers are the reference evaluator's, cycles the model's, on any number of threads."""

import pickle
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ir.test_processes import EVERYTHING, LOAD_STORE, PLAIN, pipeline, workload
from models import cspt
from pipelines import pipelines
from pto_wsp import (
    BindError,
    Cancelled,
    ChannelClosed,
    DeadlockError,
    LimitError,
    Program,
    UnsupportedError,
    arch,
)
from pto_wsp.arch.cost import kernel_cost
from pto_wsp.ir.core import Wir
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.targets.base import get

ARCH = arch.get(None)
Arrays = dict[str, Any]
Costs = Callable[[str, Any], int]


def arrays() -> Arrays:
    return {n: np.zeros((8, 1, 1), np.int64) for n in "XYZ"} | {"N": np.arange(4)}


def program(wir: Wir, threads: int = 1, *, given: Arrays | None = None) -> Program:
    """Random networks have races, which are not looked for: numbers are those of the order of semantic time all the same."""
    artifact = get("cpu_sim").compile(wir, ARCH, {})
    artifact = replace(artifact, manifest={**artifact.manifest, "unproved": []})
    return Program(artifact, threads).bind(given or arrays())


def costs_of(wir: Wir) -> Costs:
    """What tasks cost on the arch: tiles here are of one element."""

    def cost(kernel: str, shapes: Any) -> int:
        valid = {f"{p}.{k}": n for p, shape in shapes.items() for k, n in zip(("rows", "cols"), shape, strict=True)}
        return kernel_cost(wir.kernel(kernel), ARCH, valid)

    return cost


def expected(wir: Wir) -> Arrays:
    out = arrays() | {"T": np.zeros((2, 1, 1), np.int64)}
    evaluate(wir, out, costs=costs_of(wir))
    del out["T"]
    return out


def same(a: Arrays, b: Arrays) -> bool:
    return all((a[n] == b[n]).all() for n in a)


# Random networks: as wir, and as the model's operations


class Network:
    """Processes and channels drawn at random. Many of them deadlock, or send after a close."""

    def __init__(self, seed: int, timed: bool = False) -> None:
        self.random, self.timed, self.names = random.Random(seed), timed, 0
        self.channels: dict[str, dict[str, Any]] = {}
        for k in range(self.random.randrange(1, 4)):
            capacity = self.random.choice([0, 1, 1, 2, 3, None])
            self.channels[f"c{k}"] = {
                "capacity": capacity,
                "latency": self.random.choice([0, 0, 3, 40]),
                "response": self.random.choice([0, 0, 2, 30]),
                "initial": self.random.choice([0, 0, 1, capacity if capacity is not None else 2])
                if capacity != 0
                else 0,
            }
        self.rows: list[str] = []
        self.processes: list[dict[str, Any]] = []
        ends = self._ends()
        for k, (takes, gives) in enumerate(ends):
            text: list[str] = []
            ops = self._ops(text, takes, gives, ["1"], 0)
            self.rows.append("\n".join(text))
            self.processes.append({"name": f"p{k}", "ops": ops})

    def _ends(self) -> list[tuple[list[str], list[str]]]:
        """Of each process: the channels it takes from, and gives to. Each channel has both ends."""
        n = self.random.randrange(2, 5)
        out: list[tuple[list[str], list[str]]] = [([], []) for _ in range(n)]
        for c in self.channels:
            for side in (0, 1):
                for p in self.random.sample(range(n), self.random.choice([1, 1, 1, 2])):
                    out[p][side].append(c)
        return out

    def _name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def _ops(self, text: list[str], takes: list[str], gives: list[str], numbers: list[str], depth: int) -> list[Any]:
        """Operations of a process, which are written to `text` too; every end is used at depth 0. numbers: what it may send."""
        pad = "  " * depth
        kinds = (
            ["work"] * 3
            + ["send"] * 2 * bool(gives)
            + ["recv"] * bool(takes)
            + ["close"] * (depth == 0 and bool(gives))
        )
        kinds += (["repeat"] * 3 + ["consume"] * 3 * bool(takes)) * (depth < 2) + ["ask"] * 9 * self.timed
        todo = [self.random.choice(kinds) for _ in range(self.random.randrange(1, 5))]
        # what is asked for waits for nobody
        ends = ("query", "try_send") if self.timed else ("recv", "send")
        must = [(ends[0], c) for c in takes] + [(ends[1], c) for c in gives] if depth == 0 else []
        self.random.shuffle(must)
        ops: list[Any] = []
        numbers = list(numbers)
        for kind, c in [(k, None) for k in todo] + must:
            number = self.random.choice(numbers)
            channel = c or ""
            if not channel and kind not in ("work", "repeat", "ask"):
                channel = self.random.choice(takes if kind in ("recv", "consume") else gives)
            if kind == "work":
                slow = self.random.random() < 0.5
                element = self.random.randrange(8)
                call = f"task put[](s=({number}), y=Y[{element}, 0 :+ 1, 0 :+ 1])"
                other = f"task copy[](x=Y[{element}, 0 :+ 1, 0 :+ 1], y=Z[{self.random.randrange(8)}, 0 :+ 1, 0 :+ 1])"
                text.append(pad + (call if slow else other))
                ops.append(["work", "put" if slow else "copy"])
            elif kind == "send":
                text.append(f"{pad}send {channel} ({number})")
                ops.append(["send", channel])
            elif kind == "recv":
                name = self._name()
                text.append(f"{pad}{name}: i64 = recv {channel}")
                numbers.append(name)
                ops.append(["recv", channel])
            elif kind == "close":
                text.append(f"{pad}close {channel}")
                ops.append(["close", channel])
            elif kind in ("ask", "query", "try_send"):
                of = (
                    kind
                    if kind != "ask"
                    else "try_send"
                    if gives and (not takes or self.random.random() < 0.5)
                    else "query"
                )
                if channels := gives if of == "try_send" else takes:
                    self._ask(text, of, c or self.random.choice(channels), self.random.choice(numbers), pad)
            else:
                name, n = self._name(), self.random.randrange(4)
                text.append(
                    f"{pad}seq_for {name} in {name}: Range({n}) {{"
                    if kind == "repeat"
                    else f"{pad}consume {channel} as {name} {{"
                )
                inner = self._ops(text, takes, gives, [*numbers, name], depth + 1)
                text.append(pad + "}")
                ops.append(["repeat", n, inner] if kind == "repeat" else ["consume", channel, inner])
        return ops

    def _ask(self, text: list[str], kind: str, channel: str, number: str, pad: str) -> None:
        name = self._name()
        element = self.random.randrange(8)
        then = f"task put[](s=({number}), y=Y[{element}, 0 :+ 1, 0 :+ 1])"
        if kind == "query" and self.random.random() < 0.8:
            token = self._name()
            then = f"{token}: i64 = recv {channel}\n{pad}    task put[](s={token}, y=Y[{element}, 0 :+ 1, 0 :+ 1])"
        token = f" ({number})" if kind == "try_send" else ""
        text.append(f"{pad}{name}: bool = {kind} {channel}{token}")
        text.append(f"{pad}cond {name} {{\n{pad}  then {{\n{pad}    {then}\n{pad}  }}\n{pad}}}")

    def wir(self) -> Wir:
        said = "\n".join(
            f"{n}: channel<i64> "
            + " ".join(f"{'depth' if k == 'capacity' else k}={v}" for k, v in c.items() if v is not None)
            for n, c in self.channels.items()
        )
        return pipeline(*self.rows, channels=said)


def model(processes: list[Any], channels: dict[str, Any], costs: dict[str, int]) -> dict[str, Any]:
    """What the model says of a network whose work is named."""

    def filled(ops: list[Any]) -> list[Any]:
        return [
            ["work", costs[op[1]]]
            if op[0] == "work"
            else [*op[:-1], filled(op[-1])]
            if op[0] in ("repeat", "consume")
            else op
            for op in ops
        ]

    filled_in = [p | {"ops": filled(p["ops"])} for p in processes]
    return cspt.simulate(filled_in, {n: dict(c) for n, c in channels.items()}, max_actions=20_000)


def outcome(p: Program, simulate: bool = False) -> dict[str, Any]:
    """How a run ends, in the words of the model."""
    try:
        if simulate:
            return {"total": p.simulate(max_actions=3000, max_cycles=10**6).total_cycles}
        p.run(max_actions=3000, max_cycles=10**6)
    except DeadlockError as e:
        return {"deadlock": [{k: b[k] for k in ("process", "op", "channel", "clock")} for b in e.blocked]}
    except ChannelClosed as e:
        process, channel = re.findall(r"process (\w+) sends to channel (\w+)", str(e))[0]
        return {"closed": {"process": process, "channel": channel, "clock": e.values["clock"]}}
    except LimitError:
        return {"limit": True}
    return {"total": p.stats.total_cycles}


def test_random_networks_take_the_cycles_of_the_model() -> None:
    seen: dict[str, int] = {}
    for seed in range(250):
        network = Network(seed)
        wir = network.wir()
        cost = costs_of(wir)
        costs = {k: cost(k, {"x": (1, 1), "y": (1, 1)}) for k in ("put", "copy")}
        want = model(network.processes, network.channels, costs)
        want = (
            {"limit": True} if "limit" in want else {k: want[k] for k in ("deadlock", "closed", "total") if k in want}
        )
        seen[next(iter(want))] = seen.get(next(iter(want)), 0) + 1
        given = arrays()
        p = program(wir, 1 + seed % 4, given=given)
        assert outcome(p) == want, f"seed {seed}\n{wir}"
        assert outcome(p, simulate=True) == want, f"seed {seed}"
        if "total" in want:
            assert same(given, expected(wir)), f"seed {seed}"
    assert {"total", "deadlock", "closed"} <= set(seen), seen
    assert min(seen[k] for k in ("total", "deadlock", "closed")) > 5, seen


def test_what_timed_networks_are_told_is_that_of_semantic_time() -> None:
    done = 0
    for seed in range(200):
        wir = Network(1000 + seed, timed=True).wir()
        given = arrays()
        if "total" not in outcome(program(wir, 1 + seed % 3, given=given)):
            continue
        done += 1
        assert same(given, expected(wir)), f"seed {seed}"
    assert done > 40, done


# By hand


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("body", [LOAD_STORE, EVERYTHING])
def test_pipelines_compute_what_the_reference_does(body: str, threads: int) -> None:
    wir, given = workload(body), arrays()
    p = program(wir, threads, given=given).run()
    assert same(given, expected(wir))
    assert p.simulate() == p.stats.semantic


def test_times_of_channels_change_without_a_rebuild() -> None:
    p = program(workload(LOAD_STORE)).run()
    before, digest = p.stats.total_cycles, p.hash
    assert p.set_channel("c", latency=100).run().stats.total_cycles == before + 97
    assert p.simulate().total_cycles == p.copy().run().stats.total_cycles == before + 97
    assert p.set_channel("c", response=1000).run().stats.total_cycles > before + 97
    assert p.set_channel("c").run().stats.total_cycles == before
    assert p.hash == digest
    with pytest.raises(UnsupportedError, match="set_channel has no option depth"):
        p.set_channel("c", depth=8)
    for wrong in ({"name": "d"}, {"name": "c", "latency": -1}, {"name": "c", "response": 0.5}, {"name": 3}):
        with pytest.raises(BindError) as caught:
            p.set_channel(**wrong)  # type: ignore[arg-type]
        assert caught.value.code == "PTO705"


def test_tokens_that_nobody_receives_are_reported() -> None:
    few = LOAD_STORE.replace("depth=2", "depth=8")
    few = few.replace("consume c as k {", "seq_for j in j: Range(5) {\n      k: i64 = recv c")
    for threads in (1, 2):
        p = program(workload(few), threads).run()
        channel = p.stats.semantic.channels["c"]
        assert channel.undelivered == 3
        assert "channel c: 3 tokens sent that nobody received" in str(p.stats)
        assert p.simulate() == p.stats.semantic
    everything = program(workload(LOAD_STORE)).run().stats
    assert everything.semantic.channels["c"].undelivered == 0
    assert "nobody received" not in str(everything)


def another(body: str) -> str:
    """LOAD_STORE with other variables."""
    for old, new in (("pipe", "two"), ("c: ch", "e: ch"), ("send c", "send e"), ("consume c as k", "consume e as m")):
        body = body.replace(f'"{old}"' if old == "pipe" else old, f'"{new}"' if old == "pipe" else new)
    for old, new in (("[k", "[m"), ("seq_for i in i", "seq_for j in j"), ("(i", "(j"), ("[i", "[j")):
        body = body.replace(old, new)
    return body


def test_channels_of_one_name_are_told_apart() -> None:
    p = program(workload(LOAD_STORE + another(LOAD_STORE))).run()
    assert set(p.stats.semantic.channels) == {"pipe.c", "two.c"}
    one, two = p.stats.semantic.channels.values()
    assert one == two
    assert one.empty_cycles > 0
    before = p.stats.total_cycles
    assert p.set_channel("two.c", latency=103).run().stats.total_cycles == before + 100


RENDEZVOUS = f"a: channel<i64> depth=0 {PLAIN}"


def test_waits_of_channels_are_counted() -> None:
    put = "task put[](s=1:i64, y=Y[0, 0 :+ 1, 0 :+ 1])"
    p = program(
        pipeline(
            f"{put}\n{put}\nsend a 1:i64\nsend a 2:i64", f"u: i64 = recv a\n{put}\nv: i64 = recv a", channels=RENDEZVOUS
        )
    ).run()
    cost = costs_of(workload(LOAD_STORE))("put", {"y": (1, 1)})
    waits = p.stats.semantic.channels["a"]
    assert (waits.empty_cycles, waits.full_cycles) == (2 * cost, cost)
    assert p.stats.total_cycles == 3 * cost


def test_a_pipeline_is_one_task_of_the_schedule_around() -> None:
    one = "task put[](s=1:i64, y=X[7, 0 :+ 1, 0 :+ 1])"
    for body in (f"{LOAD_STORE}\n{one}", f'window[tasks=1, mode="STALL"] {{\n{LOAD_STORE}\n{one}\n}}'):
        given = arrays()
        p = program(workload(body), 3, given=given).run()
        assert given["X"][7, 0, 0] == 1
        put = costs_of(workload(LOAD_STORE))("put", {"y": (1, 1)})
        alone = program(workload(LOAD_STORE)).run().stats.total_cycles
        assert p.stats.total_cycles == alone + put * ("window" in body)
        assert p.stats.task_count == 17
        assert p.stats.windows[-1].high_water == (1 if "window" in body else 2)


def test_a_start_that_no_pipeline_can_wait_for_is_a_deadlock_of_its_window() -> None:
    body = f'start[tasks=9] {{\nwindow[tasks=1, mode="STALL"] {{\n{LOAD_STORE}\n{another(LOAD_STORE)}\n}}\n}}'
    with pytest.raises(DeadlockError, match="pipeline two waits for a place in a window of 1 tasks") as caught:
        program(workload(body)).run()
    assert caught.value.remedy == {"window": 2}
    assert caught.value.blocked == ()


FULL = f"a: channel<> depth=1 {PLAIN}\nb: channel<> depth=0 {PLAIN}"


@pytest.mark.parametrize("threads", [1, 3])
def test_a_deadlock_names_each_process_and_what_would_help(threads: int) -> None:
    p = program(pipeline("send a\nsend a\nsend a\nsend b", "recv b\nrecv a\nrecv a\nrecv a", channels=FULL), threads)
    for run in (p.run, p.simulate):
        with pytest.raises(DeadlockError, match=re.escape("process p0: send a (1 of 1 tokens) at clock 0")) as caught:
            run()
        assert caught.value.code == "PTO820"
        assert caught.value.remedy == {"a": 3}
        assert caught.value.fix == "make channels deeper: a depth=3"
        assert [(b["process"], b["op"], b["channel"], b["occupancy"], b["capacity"]) for b in caught.value.blocked] == [
            ("p0", "send", "a", 1, 1),
            ("p1", "recv", "b", 0, 0),
        ]
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == str(caught.value)
        assert [b["process"] for b in again.blocked] == ["p0", "p1"]
    said = "DeadlockError [PTO820]: a deadlock of pipeline pipe: p0, p1 wait for ever"
    assert p.stats.ended_with == said
    assert str(p.stats).startswith(f"the run ended with {said}\nuntil then:\n0 tasks issued\n")


def test_a_deadlock_that_no_capacity_helps_says_so() -> None:
    p = program(pipeline("recv a\nsend b", "recv b\nsend a", channels=FULL))
    with pytest.raises(DeadlockError, match="no capacity helps") as caught:
        p.run()
    assert caught.value.remedy is None
    assert pickle.loads(pickle.dumps(caught.value)).remedy is None


def test_a_deadlock_behind_which_there_is_no_end_is_told_in_time() -> None:
    """With more places two processes hand tokens to each other for ever."""
    channels = f"a: channel<> depth=1 {PLAIN}\nb: channel<> depth=1 {PLAIN}"
    p = program(
        pipeline(
            "send a\nsend a\nconsume b {\n  send a\n}",
            "recv b\nconsume a {\n  send b\n}",
            "send b\nrecv a\nrecv a",
            channels=channels,
        )
    )
    begin = time.monotonic()
    with pytest.raises((DeadlockError, LimitError)):
        p.run(max_actions=1000)
    assert time.monotonic() - begin < 30


def loops(cycles: int) -> Wir:
    """Two processes that hand a token to each other for ever."""
    channels = f"a: channel<> depth=1 latency={cycles} response=0 initial=1\nb: channel<> depth=1 {PLAIN}"
    return pipeline("consume a {\n  send b\n}", "consume b {\n  send a\n}", channels=channels)


def test_bounds_end_what_would_not_end() -> None:
    with pytest.raises(LimitError, match="1,000 actions in which no clock advances") as caught:
        program(loops(0)).run(max_actions=1000)
    assert caught.value.code == "PTO822"
    for threads in (1, 2):
        p = program(loops(5), threads)
        for run in (p.run, p.simulate):
            with pytest.raises(LimitError, match="takes more than 777 cycles") as caught:
                run(max_cycles=777)  # type: ignore[operator]
            assert caught.value.code == "PTO849"
    for wrong in (0, -1, 2**62, True, "9"):
        with pytest.raises(BindError) as refused:
            program(loops(5)).run(max_cycles=wrong)  # type: ignore[arg-type]
        assert refused.value.code == "PTO705"


def test_a_pipeline_without_an_end_can_be_cancelled() -> None:
    p = program(loops(1), 2).execute()
    threading.Timer(0.1, p.cancel).start()
    with pytest.raises(Cancelled):
        p.synchronize()


def test_a_send_after_a_close_names_its_process() -> None:
    p = program(pipeline("send a 1:i64\nclose a\nsend a 2:i64", "consume a as x {\n}", channels=RENDEZVOUS))
    with pytest.raises(ChannelClosed, match="process p0 sends to channel a, which it has closed") as caught:
        p.run()
    assert caught.value.code == "PTO817"


def test_what_is_not_there_with_pipelines_is_refused() -> None:
    p = program(workload(LOAD_STORE))
    with pytest.raises(UnsupportedError, match="a program with pipelines has no on_error") as caught:
        p.run(on_error="continue")
    assert caught.value.code == "PTO003"
    assert p.run().stats.task_count == 16


def test_a_saved_program_has_its_pipelines() -> None:
    wir, given = workload(LOAD_STORE), arrays()
    again = Program.from_bytes(program(wir).to_bytes()).bind(given).run()
    assert same(given, expected(wir))
    assert again.stats.total_cycles == program(wir).run().stats.total_cycles


def test_many_runs_give_one_number() -> None:
    wir = workload(LOAD_STORE)
    p = program(wir, 3)
    want = p.run().stats.semantic
    for _ in range(300):
        assert p.run().stats.semantic == want


def test_ten_thousand_tokens_cost_what_a_hundred_do() -> None:
    def tokens(n: int) -> Program:
        body = (
            LOAD_STORE.replace("Range(8)", f"Range({n})")
            .replace("Y[i,", "Y[mod(i, 8),")
            .replace("Y[k,", "Y[mod(k, 8),")
        )
        return program(workload(body.replace("Z[k,", "Z[mod(k, 8),")), 2)

    few, many = tokens(100).run().stats, tokens(10_000).run().stats
    assert many.task_count == 100 * few.task_count
    assert few.total_cycles < many.total_cycles


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_networks_of_the_language_compute_what_their_tokens_say(threads: int) -> None:
    for seed in range(60):
        case = pipelines(seed)
        given = case.arrays()
        p = case.workload(given).compile(threads=threads).run()
        assert (given["Y"] == case.expected).all(), f"seed {seed}"
        assert p.simulate() == p.stats.semantic, f"seed {seed}"
