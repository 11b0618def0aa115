"""The reference of the time of processes and channels, against worked cases."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from project import ROOT
from pto_wsp import DeadlockError
from pto_wsp.errors import ChannelClosed, LimitError
from pto_wsp.ir.network import Body, Channel, Network, Request

CASES = json.loads((ROOT / "tests" / "data" / "cspt.json").read_text())


def body(ops: Sequence[Any]) -> Body:
    """A process of the cases: work, send, recv, close, repeat, consume."""
    for op, what, *rest in ops:
        match op:
            case "work":
                yield Request("work", cycles=what)
            case "repeat":
                for _ in range(what):
                    yield from body(rest[0])
            case "consume":
                while (yield Request("consume", what)) is not None:
                    yield from body(rest[0])
            case _:
                yield Request(op, what)


def sends(ops: Sequence[Any]) -> set[str]:
    found: set[str] = set()
    for op, what, *rest in ops:
        found |= {what} if op == "send" else sends(rest[0]) if rest else set()
    return found


def network(case: dict[str, Any], **options: int) -> Network:
    channels = {
        name: Channel(name, c["capacity"], c["latency"], c["response"], [()] * c["initial"])
        for name, c in case["channels"].items()
    }
    processes = {p["name"]: (body(p["ops"]), sorted(sends(p["ops"]))) for p in case["processes"]}
    return Network(channels, processes, **options)


def result(n: Network) -> dict[str, Any]:
    try:
        total = n.run()
    except DeadlockError:
        blocked = (p for p in n.processes if p.state != "done")
        return {
            "deadlock": [
                {"process": p.name, "op": p.state, "channel": p.request.channel, "clock": p.clock} for p in blocked
            ]
        }
    except ChannelClosed:
        sending = (p for p in n.processes if p.request.kind == "send" and p.state == "run")
        p = next(p for p in sending if p.name in n.channels[p.request.channel].closed_by)
        return {"closed": {"process": p.name, "channel": p.request.channel, "clock": p.clock}}
    return {
        "time": {p.name: p.clock for p in n.processes},
        "total": total,
        "sent": {c.name: c.s for c in n.channels.values()},
        "received": {c.name: c.d for c in n.channels.values()},
    }


@pytest.mark.parametrize("k", range(len(CASES)))
def test_the_worked_cases(k: int) -> None:
    assert result(network(CASES[k])) == CASES[k]["expect"]


@pytest.mark.parametrize(("ends", "said"), [(1, "a waits for ever"), (2, "a, b wait for ever")])
def test_processes_that_wait_for_ever_are_counted_in_words(ends: int, said: str) -> None:
    processes = [{"name": name, "ops": [["recv", "c"]]} for name in "ab"[:ends]]
    channel = {"capacity": 1, "latency": 0, "response": 0, "initial": 0}
    with pytest.raises(DeadlockError) as caught:
        network({"processes": processes, "channels": {"c": channel}}).run()
    assert caught.value.what == f"a deadlock of processes: {said}"


def test_cases_that_never_end_are_stopped() -> None:
    ping = {"name": "p", "ops": [["consume", "a", [["send", "b"]]]]}
    pong = {"name": "q", "ops": [["consume", "b", [["send", "a"]]]]}
    channel = {"capacity": 1, "latency": 0, "response": 0}
    case = {"processes": [ping, pong], "channels": {"a": {**channel, "initial": 1}, "b": {**channel, "initial": 0}}}
    with pytest.raises(LimitError) as caught:
        network(case, most_actions=100).run()
    assert caught.value.code == "PTO822"
