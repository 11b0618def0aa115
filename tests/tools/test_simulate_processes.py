"""Processes and channels in semantic time against the model: its worked cases, and random networks of every shape."""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from project import ROOT
from pto_wsp import BindError, LimitError, PtoError, ScheduleError, UnsupportedError
from pto_wsp.tools import simulate, simulate_processes

sys.path.insert(0, str(ROOT / "tests" / "models"))
import cspt

Process = dict[str, Any]
Channels = dict[str, dict[str, Any]]
Network = tuple[list[Process], Channels]
CASES = json.loads((ROOT / "tests" / "data" / "cspt.json").read_text(encoding="utf-8"))


def process(name: str, *ops: list[Any]) -> Process:
    return {"name": name, "ops": list(ops)}


def channel(capacity: int | None = 1, latency: int = 0, response: int = 0, initial: int = 0) -> dict[str, int | None]:
    return {"capacity": capacity, "latency": latency, "response": response, "initial": initial}


def test_the_worked_cases() -> None:
    assert len(CASES) == 240
    for case in CASES:
        assert simulate.processes(case["processes"], case["channels"]) == case["expect"], case


def test_the_model_holds_what_it_asserts_of_itself() -> None:
    runpy.run_path(str(ROOT / "tests" / "models" / "cspt.py"), run_name="__main__")


# random networks


def random_channels(random: Random, n: int) -> Channels:
    out: Channels = {}
    for i in range(n):
        capacity = random.choice((0, 0, 1, 1, 1, 2, 3, None))
        initial = random.randrange(3) if capacity is None else random.randrange(capacity + 1)
        out[f"c{i}"] = channel(
            capacity, random.choice((0, 0, 1, 5)), random.choice((0, 0, 2)), random.choice((0, 0, initial))
        )
    return out


def random_ops(random: Random, names: list[str], depth: int) -> list[list[Any]]:
    """A few of any operations: they mostly end in a deadlock, soon."""
    out: list[list[Any]] = []
    for _ in range(random.randrange(4)):
        kind = random.choice(("work", "send", "send", "recv", "close", "repeat", "consume"))
        if kind == "work":
            out.append(["work", random.choice((0, 1, 2, 7))])
        elif kind == "repeat" and depth:
            out.append(["repeat", random.randrange(4), random_ops(random, names, depth - 1)])
        elif kind == "consume" and depth:
            out.append(["consume", random.choice(names), random_ops(random, names, depth - 1)])
        elif kind in ("send", "recv", "close"):
            out.append([kind, random.choice(names)])
    return out


def stages(random: Random, names: list[str]) -> list[Process]:
    """Replicas of stages that hand tokens on, some of which close early or go on with something else: they mostly end."""
    out: list[Process] = []
    for stage in range(len(names) + 1):
        for replica in range(random.choice((1, 1, 2, 3))):
            work = ["work", random.choice((0, 1, 3, 8))]
            onward: list[list[Any]] = [["send", names[stage]]] * random.choice((1, 1, 2)) if stage < len(names) else []
            if stage == 0:
                ops: list[list[Any]] = [["repeat", random.randrange(5), [work, *onward]]]
            else:
                ops = [["consume", names[stage - 1], [work, *onward]]]
            if stage < len(names) and random.random() < 0.3:
                ops.append(["close", names[stage]])
            if random.random() < 0.4:
                ops.append(["work", random.choice((1, 20))])
            if stage < len(names) and random.random() < 0.2:
                ops.append(["send", names[stage]])
            out.append(process(f"p{stage}.{replica}", *ops))
    random.shuffle(out)
    return out


def ring(random: Random, names: list[str]) -> list[Process]:
    """Each receives from one and sends to the next, in either order."""
    out: list[Process] = []
    for i, name in enumerate(names):
        body = [["recv", name], ["send", names[(i + 1) % len(names)]]]
        if random.random() < 0.5:
            body.reverse()
        out.append(process(f"p{i}", ["repeat", random.randrange(1, 6), [["work", random.randrange(4)], *body]]))
    return out


def turning(random: Random, names: list[str]) -> list[Process]:
    """A ring of consumers, of which none ends before another: they go on for ever, or wait for ever."""
    out: list[Process] = []
    for i, name in enumerate(names):
        onward = [["send", names[(i + 1) % len(names)]]] * random.choice((1, 1, 1, 2))
        out.append(process(f"p{i}", ["consume", name, [["work", random.choice((0, 0, 1))], *onward]]))
    return out


def network_of(random: Random) -> Network:
    channels = random_channels(random, random.randrange(1, 5))
    names = list(channels)
    shape = random.randrange(20)
    if shape < 6:
        return [process(f"p{i}", *random_ops(random, names, 2)) for i in range(random.randrange(5))], channels
    if shape < 7:
        return turning(random, names), channels
    return (stages if shape < 14 else ring)(random, names), channels


def check(network: Network, most: int = 4000) -> str:
    """The kind of answer, which is the model's."""
    expected = cspt.simulate(*network, max_actions=most)
    if "limit" not in expected:
        assert simulate.processes(*network) == expected
        return next(iter(expected))
    # The model counts its own rounds: what has not ended after so many has not by that cycle either.
    got = simulate.processes(*network, max_actions=most, max_cycles=expected["limit"])
    assert "limit" in got or got["total"] >= expected["limit"], got
    return "limit"


@settings(max_examples=600)
@given(st.randoms(use_true_random=False))
def test_random_networks(random: Random) -> None:
    check(network_of(random))


def test_many_random_networks_of_every_outcome(request: pytest.FixtureRequest) -> None:
    random = Random(6)
    rounds = 40_000 if request.config.getoption("--full") else 2500
    seen = dict.fromkeys(("time", "deadlock", "closed", "limit"), 0)
    for _ in range(rounds):
        seen[check(network_of(random), 1500)] += 1
    assert all(n > rounds / 500 for n in seen.values()), seen
    assert seen["time"] > rounds / 5
    assert seen["deadlock"] > rounds / 5


def test_random_single_channels_follow_the_recurrence() -> None:
    random = Random(1)
    for _ in range(300):
        n, capacity = random.randrange(1, 30), random.choice((0, 1, 2, 3, 8, None))
        latency, response = random.randrange(5), random.randrange(5)
        works = [[random.randrange(9) for _ in range(n)] for _ in range(2)]
        ops = [
            [op for w in row for op in (["work", w], [kind, "c"])]
            for row, kind in zip(works, ("send", "recv"), strict=True)
        ]
        got = simulate.processes(
            [process("s", *ops[0]), process("r", *ops[1])], {"c": channel(capacity, latency, response)}
        )
        sent: list[int] = []
        received: list[int] = []
        s = r = 0
        for k in range(n):
            s, r = s + works[0][k], r + works[1][k]
            if capacity == 0:
                s = r = max(s, r) + latency
            else:
                s = s if capacity is None or k < capacity else max(s, received[k - capacity] + response)
                r = max(r, s + latency)
            sent.append(s)
            received.append(r)
        assert (got["sent"]["c"], got["received"]["c"]) == (sent, received)


# what is particular


def test_channels_and_their_fields_may_be_left_out() -> None:
    sender, receiver = process("p", ["work", np.int64(3)], ("send", "a")), process("q", ["recv", "a"])
    assert simulate.processes([sender, receiver], {"a": {}}) == {
        "time": {"p": 3, "q": 3},
        "total": 3,
        "sent": {"a": [3]},
        "received": {"a": [3]},
    }
    assert simulate.processes([], {}) == {"time": {}, "total": 0, "sent": {}, "received": {}}
    assert simulate.processes([process("p")], {"a": {}})["time"] == {"p": 0}


def test_nobody_need_receive_or_send() -> None:
    sends = [process("p", ["repeat", 3, [["send", "a"]]])]
    assert simulate.processes(sends, {"a": channel(3)})["sent"] == {"a": [0, 0, 0]}
    assert simulate.processes(sends, {"a": channel(2)})["deadlock"][0]["op"] == "send"
    assert simulate.processes([process("q", ["recv", "a"])], {"a": channel()})["deadlock"][0]["op"] == "recv"
    assert simulate.processes([process("q", ["consume", "a", []], ["work", 1])], {"a": channel()})["total"] == 1


def test_loops_of_nothing_take_no_time() -> None:
    empty: list[Any] = ["repeat", 2**61, [["repeat", 2**61, []], ["repeat", 0, [["work", 1]]]]]
    assert simulate.processes([process("p", empty, ["work", 1], empty)], {})["total"] == 1
    # a send that is never reached still keeps a channel open
    never = process("p", ["work", 5], ["repeat", 0, [["send", "a"]]])
    assert simulate.processes([never, process("q", ["consume", "a", []], ["work", 1])], {"a": {}})["time"]["q"] == 6


def test_loops_in_loops() -> None:
    deep: list[Any] = ["work", 1]
    for _ in range(900):
        deep = ["repeat", 1, [deep, ["repeat", 2, [["work", 1]]]]]
    assert simulate.processes([process("p", deep)], {})["total"] == 1 + 900 * 2
    cube = ["repeat", 7, [["repeat", 11, [["repeat", 13, [["work", 2]]], ["work", 1]]]]]
    assert simulate.processes([process("p", cube)], {})["total"] == 7 * 11 * (13 * 2 + 1)


def test_times_as_arrays_and_left_out() -> None:
    network = [process("p", ["repeat", 5, [["work", 2], ["send", "a"]]]), process("q", ["consume", "a", []])]
    channels = {"a": channel(2, 1, 0, 1), "b": channel(3, initial=2)}
    lists = simulate.processes(network, channels)
    arrays = simulate.processes(network, channels, times="arrays")
    for what in ("sent", "received"):
        assert all(a.dtype == np.int64 and a.flags.writeable for a in arrays[what].values())
        assert {name: a.tolist() for name, a in arrays[what].items()} == lists[what]
    assert simulate.processes(network, channels, times="none") == {
        "time": lists["time"],
        "total": lists["total"],
        "tokens": {"a": {"sent": 6, "received": 6}, "b": {"sent": 2, "received": 0}},
    }


LIVELOCK: Network = (
    [process("p", ["consume", "a", [["send", "b"]]]), process("q", ["consume", "b", [["send", "a"]]])],
    {"a": channel(initial=1), "b": channel()},
)


def test_limits() -> None:
    assert simulate.processes(*LIVELOCK, max_actions=1000) == {"limit": 0}
    assert cspt.simulate(*LIVELOCK, max_actions=1000) == {"limit": 0}
    worked = [process("p", ["work", 5]), process("q", ["repeat", 10, [["work", 0]]])]
    # turns at cycle 0: p's, by which a clock moves, and then ten of q's
    assert simulate.processes(worked, {}, max_actions=10)["total"] == 5
    assert simulate.processes(worked, {}, max_actions=9) == {"limit": 5}
    assert simulate.processes(worked, {}, max_cycles=5)["total"] == 5
    assert simulate.processes(worked, {}, max_cycles=4) == {"limit": 5}


def test_a_simulation_without_end_is_interrupted() -> None:
    forever = [process("p", ["repeat", 2**62 - 1, [["work", 1], ["send", "a"]]]), process("q", ["consume", "a", []])]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        for call in (simulate.processes, simulate.remedy):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                call(forever, {"a": {}}, **({"times": "none"} if call is simulate.processes else {}))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_largest_numbers() -> None:
    most = 2**62 - 1
    assert simulate.processes([process("p", ["work", most])], {})["total"] == most
    late = [process("p", ["work", most], ["send", "a"]), process("q", ["recv", "a"])]
    with pytest.raises(BindError) as caught:
        simulate.processes(late, {"a": channel(most, most, most)})
    assert caught.value.code == "PTO804"
    never_received = simulate.processes(late[:1], {"a": channel(most, most, most, most - 1)}, times="none")
    assert never_received["tokens"] == {"a": {"sent": most, "received": 0}}
    taken = simulate.processes([process("q", ["recv", "a"])], {"a": channel(None, initial=most)}, times="none")
    assert taken["tokens"]["a"]["received"] == 1


def test_full_rate_needs_latency_and_response_over_the_period() -> None:
    for latency, response, period in ((3, 2, 1), (3, 2, 2), (10, 1, 4), (0, 7, 7), (5, 5, 20)):
        enough = -(-(latency + response) // period)

        def total(capacity: int, at: tuple[int, int, int] = (latency, response, period)) -> int:
            body = ["repeat", 50, [["work", at[2]], ["send", "c"]]]
            network = [process("p", body), process("q", ["consume", "c", []])]
            return simulate.processes(network, {"c": channel(capacity, *at[:2])})["total"]

        assert total(enough) == 50 * period + latency
        assert enough == 1 or total(enough - 1) > 50 * period + latency


def test_what_throttles_is_named_with_the_capacity_for_the_full_rate() -> None:
    for latency, response, period in ((3, 2, 1), (3, 2, 2), (10, 1, 4), (0, 7, 7), (5, 5, 20), (100, 30, 9)):
        body = ["repeat", 50, [["work", period], ["send", "c"]]]
        network = [process("p", body), process("q", ["consume", "c", []])]
        enough = -(-(latency + response) // period)
        for capacity in (0, 1, 2, 4):
            found = simulate.throttle(network, {"c": channel(capacity, latency, response)})
            throttled = capacity < enough if capacity else latency > 0  # a rendezvous keeps the sender for the latency
            assert found == ({"c": max(enough, 1)} if throttled else {})


def run_with(network: Network, capacities: dict[str, int | None]) -> int:
    processes, channels = network
    changed = {n: {**c, "capacity": capacities.get(n, c["capacity"])} for n, c in channels.items()}
    got = cspt.simulate(processes, changed)
    return got.get("total", -1)


def test_one_less_than_named_is_slower_and_what_is_named_is_as_fast_as_no_limit() -> None:
    named = 0
    for seed in range(60):
        random = Random(seed)
        stages = random.randrange(2, 5)
        channels = {
            f"c{k}": channel(random.randrange(3), random.randrange(12), random.randrange(6)) for k in range(stages - 1)
        }
        work = [["work", random.randrange(1, 9)] for _ in range(stages)]
        network = [process("p0", ["repeat", 25, [work[0], ["send", "c0"]]])]
        for k in range(1, stages):
            sends = [["send", f"c{k}"]] if k < stages - 1 else []
            network.append(process(f"p{k}", ["consume", f"c{k - 1}", [work[k], *sends]]))
        found = simulate.throttle(network, channels)
        assert found is not None
        best = run_with((network, channels), dict.fromkeys(channels))
        assert run_with((network, channels), dict(found)) == best
        for name, capacity in found.items():
            assert run_with((network, channels), {**found, name: capacity - 1}) > best
            named += 1
    assert named > 20


def test_what_never_ends_is_not_throttled() -> None:
    each_waits = [process("p", ["recv", "a"], ["send", "b"]), process("q", ["recv", "b"], ["send", "a"])]
    assert simulate.throttle(each_waits, {"a": {}, "b": {}}) is None
    assert simulate.throttle([], {}) == {}
    with pytest.raises(UnsupportedError, match="times"):
        simulate.throttle([], {}, times="none")


# remedies


def blocked_on(network: Network) -> list[dict[str, Any]]:
    return cspt.simulate(*network).get("deadlock", [])


def ends(ops: list[Any], kinds: tuple[str, ...]) -> set[str]:
    """The channels on which there are such operations."""
    out = {op[1] for op in ops if op[0] in kinds}
    return out.union(*(ends(op[2], kinds) for op in ops if op[0] in ("repeat", "consume")))


def remedy_by_the_model(network: Network) -> dict[str, int] | None:
    """From the start again after each raise; for networks without `close`."""
    processes, given = network
    channels = {name: dict(c) for name, c in given.items()}
    while waiting := blocked_on((processes, channels)):
        waits = {w["process"]: (w["op"], w["channel"]) for w in waiting}

        def others(p: str, waits: dict[str, tuple[str, str]] = waits) -> list[str]:
            op, name = waits[p]
            kinds = ("recv", "consume") if op == "send" else ("send",)
            return [q["name"] for q in processes if q["name"] in waits and name in ends(q["ops"], kinds)]

        def reached(p: str) -> set[str]:
            seen: set[str] = set()
            left = others(p)
            while left:
                q = left.pop()
                if q not in seen:
                    seen.add(q)
                    left += others(q)
            return seen

        full = [name for p, (op, name) in waits.items() if op == "send" and (p in reached(p) or not others(p))]
        if not full:
            return None
        smallest = min(full, key=lambda name: (channels[name]["capacity"], list(channels).index(name)))
        channels[smallest]["capacity"] += 1
    return {name: c["capacity"] for name, c in channels.items() if c["capacity"] != given[name]["capacity"]}


def one_to_one(random: Random) -> Network:
    """Each channel from one process to one other, in any order on either side: deadlocks of which most have a remedy."""
    names = [f"c{i}" for i in range(random.randrange(1, 6))]
    tokens = {name: random.randrange(1, 5) for name in names}
    count = random.randrange(2, 5)
    todo: list[list[list[Any]]] = [[] for _ in range(count)]
    for name in names:
        sender, receiver = random.sample(range(count), 2)
        more = random.choice((0, 0, 0, 0, 1, -1))  # tokens that are left, or missing
        todo[sender] += [["send", name]] * tokens[name]
        todo[receiver] += [["recv", name]] * max(0, tokens[name] - more)
    for ops in todo:
        random.shuffle(ops)
    channels = {name: channel(random.choice((0, 1, 1, 2)), random.randrange(3)) for name in names}
    return [process(f"p{i}", *ops) for i, ops in enumerate(todo)], channels


def check_remedy(network: Network) -> str:
    processes, channels = network
    found = simulate.remedy(processes, channels)
    assert found == remedy_by_the_model(network)
    if found is None:
        return "none"
    fixed = {name: c | {"capacity": found.get(name, c["capacity"])} for name, c in channels.items()}
    assert "time" in simulate.processes(processes, fixed)
    if not found:
        return "nothing to do"
    assert any(
        "deadlock" in simulate.processes(processes, fixed | {name: fixed[name] | {"capacity": found[name] - 1}})
        for name in found
    )
    return "raised"


@settings(max_examples=200)
@given(st.randoms(use_true_random=False))
def test_remedies_of_random_networks(random: Random) -> None:
    check_remedy(one_to_one(random))


def test_many_remedies_of_every_kind(request: pytest.FixtureRequest) -> None:
    random = Random(11)
    seen = {"none": 0, "nothing to do": 0, "raised": 0}
    for _ in range(20_000 if request.config.getoption("--full") else 1500):
        seen[check_remedy(one_to_one(random))] += 1
    assert min(seen.values()) > 100, seen


CROSSED = [
    process("p", ["repeat", 4, [["send", "a"]]], ["send", "b"]),
    process("q", ["recv", "b"], ["repeat", 4, [["recv", "a"]]]),
]


@pytest.mark.parametrize("initial", [0, 1, 3])
def test_what_a_channel_must_hold(initial: int) -> None:
    channels = {"a": channel(initial), "b": channel(0)}
    assert simulate.remedy(CROSSED, channels) == {"a": 4}
    assert "time" in simulate.processes(CROSSED, channels | {"a": channel(4)})
    assert "deadlock" in simulate.processes(CROSSED, channels | {"a": channel(3)})


def test_the_smallest_is_raised_first() -> None:
    both = [
        process("p", ["send", "a"], ["send", "a"], ["send", "b"], ["send", "b"], ["send", "go"]),
        process("q", ["recv", "go"], *[["recv", "b"]] * 2, *[["recv", "a"]] * 2),
    ]
    assert simulate.remedy(both, {name: channel() for name in ("a", "b", "go")}) == {"a": 2, "b": 2}


def test_no_capacity_helps() -> None:
    each_first = [process("p", ["recv", "a"], ["send", "b"]), process("q", ["recv", "b"], ["send", "a"])]
    assert simulate.remedy(each_first, {"a": channel(), "b": channel()}) is None
    too_few = [process("p", ["send", "a"]), process("q", ["recv", "a"], ["recv", "a"])]
    assert simulate.remedy(too_few, {"a": channel()}) is None
    # b is full on what looks like a cycle, but p will not send into a again
    closed = [
        process("p", ["send", "a"], ["close", "a"], ["send", "b"], ["send", "b"]),
        process("q", ["recv", "a"], ["recv", "a"], ["recv", "b"], ["recv", "b"]),
    ]
    assert simulate.remedy(closed, {"a": channel(), "b": channel()}) is None


def test_room_for_what_nobody_receives() -> None:
    assert simulate.remedy([process("p", ["repeat", 7, [["send", "a"]]])], {"a": channel(2)}) == {"a": 7}


def test_remedies_where_time_decides_who_gets_a_token() -> None:
    random = Random(3)
    raised = 0
    for _ in range(1500):
        processes, channels = network_of(random)
        got = simulate.processes(processes, channels, max_actions=1000, max_cycles=1000)
        if "deadlock" not in got:
            continue
        try:
            found = simulate.remedy(processes, channels, max_actions=1000, max_cycles=1000)
        except LimitError:
            continue
        if found is None:
            continue
        raised += 1
        fixed = {name: c | {"capacity": found.get(name, c["capacity"])} for name, c in channels.items()}
        assert found
        assert "deadlock" not in simulate.processes(processes, fixed)
    assert raised > 50


def test_remedies_have_limits() -> None:
    more_and_more = [
        process("p", ["consume", "a", [["send", "b"]] * 2]),
        process("q", ["consume", "b", [["send", "a"]]]),
    ]
    with pytest.raises(LimitError) as caught:
        simulate.remedy(more_and_more, {"a": channel(initial=1), "b": channel()}, max_actions=1000)
    assert caught.value.code == "PTO811"
    assert simulate.remedy(LIVELOCK[0], {"a": channel(), "b": channel()}) is None


def test_a_remedy_with_which_clocks_move_for_ever_is_given_up() -> None:
    for_ever = [
        process("p", ["repeat", 2, [["send", "a"]]], ["consume", "b", [["work", 5], ["send", "a"]]]),
        process("q", ["send", "b"], ["consume", "a", [["work", 6], ["send", "b"]]]),
    ]
    channels = {"a": channel(), "b": channel(initial=1)}
    assert "deadlock" in simulate.processes(for_ever, channels)
    assert simulate.processes(for_ever, channels | {"a": channel(3)}, max_cycles=10**6)["limit"] > 10**6
    for limits in ({"max_actions": 1000}, {"max_cycles": 1000}, {"max_actions": 2**20}):
        with pytest.raises(LimitError) as caught:
            simulate.remedy(for_ever, channels, **limits)
        assert caught.value.code == "PTO811"


# many of everything


def grid(n: int, rounds: int) -> Network:
    """A ring of n processes."""
    names = [f"c{i}" for i in range(n)]
    bodies = ([["recv", names[i]], ["work", 1 + i % 3], ["send", names[(i + 1) % n]]] for i in range(n))
    return [process(f"p{i}", ["repeat", rounds, body]) for i, body in enumerate(bodies)], {
        name: channel(2, initial=i % 2) for i, name in enumerate(names)
    }


def test_thousands_of_processes_share_channels() -> None:
    n = 5000
    network = [process(f"p{i}", ["work", i % 7], ["send", "a"]) for i in range(n)]
    network += [process(f"q{i}", ["consume", "a", [["work", 1]]]) for i in range(n)]
    began = time.process_time()
    got = simulate.processes(network, {"a": channel(1)}, times="none")
    assert got["tokens"]["a"] == {"sent": n, "received": n}
    assert time.process_time() - began < 20


def test_thousands_of_processes_wait_for_ever() -> None:
    n = 20_000
    names = [f"c{i}" for i in range(n)]
    network = [process(f"p{i}", ["recv", names[i]], ["send", names[(i + 1) % n]]) for i in range(n)]
    channels: Channels = {name: {} for name in names}
    began = time.process_time()
    waiting = simulate.processes(network, channels)["deadlock"]
    assert waiting == [{"process": f"p{i}", "op": "recv", "channel": names[i], "clock": 0} for i in range(n)]
    assert simulate.remedy(network, channels) is None
    sends_first = [p | {"ops": p["ops"][::-1]} for p in network]
    assert simulate.remedy(sends_first, {name: channel(0) for name in names}) == {"c0": 1}
    assert time.process_time() - began < 20


def test_time_grows_with_the_actions() -> None:
    """Ten times the rounds, and ten times the processes with as many actions, within what even a sanitizer takes."""

    def seconds(n: int, rounds: int) -> float:
        network = grid(n, rounds)
        began = time.process_time()
        assert simulate.processes(*network, times="none")["tokens"]["c0"]["received"] == rounds
        return time.process_time() - began

    small = min(seconds(100, 100) for _ in range(3))
    assert seconds(100, 10_000) < 1000 * small
    assert seconds(10_000, 100) < 2000 * small


# mistakes


P = process("p", ["send", "a"])
DEEP: list[Any] = []
DEEP.append(["repeat", 2, DEEP])


@pytest.mark.parametrize(
    ("processes", "channels", "code"),
    [
        (None, {}, "PTO806"),
        (5, {}, "PTO806"),
        ("pq", {}, "PTO806"),
        (P, {"a": {}}, "PTO806"),
        ([5], {}, "PTO806"),
        ([{}], {}, "PTO806"),
        ([{"name": "p"}], {}, "PTO806"),
        ([{"name": 5, "ops": []}], {}, "PTO806"),
        ([{"name": "p", "ops": [], "lane": 1}], {}, "PTO806"),
        ([{"name": "p", "ops": None}], {}, "PTO806"),
        ([{"name": "p", "ops": "work"}], {}, "PTO806"),
        ([{"name": "p", "ops": {"work": 1}}], {}, "PTO806"),
        ([process("p", [])], {}, "PTO806"),
        ([process("p", None)], {}, "PTO806"),  # type: ignore[arg-type]
        ([process("p", 5)], {}, "PTO806"),  # type: ignore[arg-type]
        ([process("p", "work")], {}, "PTO806"),  # type: ignore[arg-type]
        ([process("p", ["sleep", 1])], {}, "PTO806"),
        ([process("p", [["work"], 1])], {}, "PTO806"),
        ([process("p", ["end", 0])], {}, "PTO806"),
        ([process("p", ["work"])], {}, "PTO806"),
        ([process("p", ["work", 1, 2])], {}, "PTO806"),
        ([process("p", ["work", -1])], {}, "PTO806"),
        ([process("p", ["work", 1.5])], {}, "PTO806"),
        ([process("p", ["work", True])], {}, "PTO806"),
        ([process("p", ["work", None])], {}, "PTO806"),
        ([process("p", ["work", 2**62])], {}, "PTO806"),
        ([process("p", ["repeat", 2])], {}, "PTO806"),
        ([process("p", ["repeat", -1, []])], {}, "PTO806"),
        ([process("p", ["repeat", "2", []])], {}, "PTO806"),
        ([process("p", ["repeat", 2, 5])], {}, "PTO806"),
        ([process("p", ["repeat", 2, "ab"])], {}, "PTO806"),
        ([process("p", ["repeat", 2, [["work", 1], ["repeat", 2, [["work", -1]]]]])], {}, "PTO806"),
        ([process("p", *DEEP)], {}, "PTO806"),
        ([process("p", ["send", 0])], {"a": {}}, "PTO806"),
        ([process("p", ["send", ["a"]])], {"a": {}}, "PTO806"),
        ([P, process("q"), process("p")], {"a": {}}, "PTO807"),
        ([], None, "PTO808"),
        ([], ["a"], "PTO808"),
        ([], {5: {}}, "PTO808"),
        ([], {"a": None}, "PTO808"),
        ([], {"a": 5}, "PTO808"),
        ([], {"a": {"depth": 2}}, "PTO808"),
        ([], {"a": channel(-1)}, "PTO808"),
        ([], {"a": channel(2**62)}, "PTO808"),
        ([], {"a": {"capacity": 1.0}}, "PTO808"),
        ([], {"a": {"capacity": "none"}}, "PTO808"),
        ([], {"a": {"latency": -1}}, "PTO808"),
        ([], {"a": {"latency": None}}, "PTO808"),
        ([], {"a": {"response": 2**62}}, "PTO808"),
        ([], {"a": {"initial": -1}}, "PTO808"),
        ([], {"a": channel(1, initial=2)}, "PTO808"),
        ([], {"a": channel(0, initial=1)}, "PTO808"),
        ([], {"a": channel(None, initial=2**62)}, "PTO808"),
        ([P], {}, "PTO809"),
        ([process("p", ["consume", "b", []])], {"a": {}}, "PTO809"),
        ([process("p", ["repeat", 0, [["close", "b"]]])], {"a": {}}, "PTO809"),
        ([process("p", ["work", 2**61], ["work", 2**61])], {}, "PTO804"),
        ([P], {"a": {"initial": 2**26 + 1, "capacity": None}}, "PTO810"),
    ],
)
def test_wrong_networks_are_refused(processes: Any, channels: Any, code: str) -> None:
    with pytest.raises(BindError) as caught:
        simulate.processes(processes, channels)
    assert caught.value.code == code
    assert caught.value.loc is not None and caught.value.loc.file == __file__
    if code != "PTO810":
        with pytest.raises(PtoError) as caught:
            simulate.remedy(processes, channels)
        assert caught.value.code == code


def test_an_operation_is_named_by_its_place() -> None:
    with pytest.raises(BindError) as caught:
        simulate.processes([process("p", ["work", 1], ["repeat", 2, [["work", 1], ["work", -1]]])], {})
    assert caught.value.values == {"ops[1][2][1]": "['work', -1]"}


def test_operations_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    wide: list[Any] = [["work", 1]]
    for _ in range(60):
        wide = [["repeat", 1, wide], ["repeat", 1, wide]]  # each list stands in it many times
    monkeypatch.setattr(simulate_processes, "_MOST_OPERATIONS", 1000)
    with pytest.raises(BindError) as caught:
        simulate.processes([process("p"), process("q", *wide)], {})
    assert caught.value.code == "PTO806"
    assert simulate.processes([process("p", *[["work", 1]] * 1000)], {})["total"] == 1000


@pytest.mark.parametrize(
    "options",
    [
        {"times": "some"},
        {"times": None},
        {"times": True},
        {"max_cycles": -1},
        {"max_cycles": 2**62},
        {"max_cycles": 1.0},
        {"max_actions": 0},
        {"max_actions": None},
        {"max_actions": "many"},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError) as caught:
        simulate.processes([], {}, **options)
    assert caught.value.code == "PTO805"


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="lanes"):
        simulate.processes([], {}, lanes=2)
    with pytest.raises(UnsupportedError, match="times"):
        simulate.remedy([], {}, times="none")
