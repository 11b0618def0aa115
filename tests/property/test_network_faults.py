"""Networks with seeded faults: what is proved of them is so, and of constant networks everything is decided.

Each is safe or not by running it in many orders (`property/networks.py`), which knows nothing of proofs.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache

from models import cspt
from property.networks import (
    CYCLES,
    Channel,
    Net,
    Op,
    Truth,
    as_model,
    outcome,
    program_of,
    renamed,
    shares,
    truth,
    truth_of_sizes,
    without_what_data_asks_for,
)
from pto_wsp import DeadlockError, RaceError, TypeCheckError
from pto_wsp.errors import PtoError
from pto_wsp.ir.core import Kernel
from pto_wsp.proofs.verdict import Verdict, verdicts

NETWORKS = 600


def channel(rng: random.Random, *, least: int = 0, fields: int = 1) -> Channel:
    return Channel(max(least, rng.choice((0, 1, 1, 2, 3, 8))), 0, rng.choice((0, 0, 3)), rng.choice((0, 0, 2)), fields)


def times(rng: random.Random, net: Net, how: str, most: int = 6) -> int | str:
    """A number of iterations: constant, or a symbol."""
    n = rng.randrange(1, most + 1)
    if how == "sizes":
        net.sizes["n"] = n
        return "n"
    return n


def chain(rng: random.Random, how: str) -> Net:
    """Stages one behind the other; each touches rows that the token names, or with a fault others, or too late."""
    net = Net()
    stages = rng.randrange(2, 5)
    n = times(rng, net, how)
    fault = rng.choice(("", "", "late", "next", "one row", "shared row", "few rows", "behind"))
    at = rng.randrange(stages)
    for k in range(stages - 1):
        net.channels[f"c{k}"] = channel(rng)
    for k in range(stages):
        name = f"i{k}"
        row, seen = name, name
        if fault == "one row" and k == at:
            row = "0"
        if fault == "next" and k == max(at, 1):
            seen = f"{name} + 1"
        if fault == "few rows":
            row = seen = f"mod({name}, {rng.choice((2, 3))})"
        reads = [(f"T{k - 1}", seen)] if k else []
        target = "T0" if fault == "shared row" and k == at else f"T{k}"
        task: Op = ("task", "copy" if k else "put", reads, (target, row))
        sends: list[Op] = [("send", f"c{k}", [name])] if k < stages - 1 else []
        body = [*sends, task] if fault == "late" and k == at else [task, *sends]
        if fault == "behind" and k == at and k + 1 < stages:
            body = [task, *sends, ("task", "put", [], (f"T{k}", rng.choice((name, f"{name} + 20", "0"))))]
        if how == "data" and k == at and rng.random() < 0.5:
            net.data = True
            body = [*body[:-1], ("if", body[-1:])]
        if k == 0:
            net.processes["p0"] = [("for", name, n, body)]
        elif rng.random() < 0.3 and not net.data:
            again = ("for", f"j{k}", n, [("recv", f"c{k - 1}", [name]), *body])
            net.processes[f"p{k}"] = [again]
        else:
            net.processes[f"p{k}"] = [("consume", f"c{k - 1}", [name], body)]
    return net


def buffers(rng: random.Random, how: str) -> Net:
    """A producer and a consumer of buffers whose numbers go round; with a fault they come back too early, or two at a time."""
    net = Net()
    n, depth = times(rng, net, how, 9), rng.randrange(1, 4)
    fault = rng.choice(("", "", "", "early", "lost", "other", "twice", "one more"))
    net.channels = {
        "full": Channel(rng.choice((depth, depth, 0, 1)), 0, 0, 0, 2),
        "free": Channel(depth, depth, 0, rng.choice((0, 2))),
    }
    write: Op = ("task", "fill", [], ("B", "b" if fault != "other" else "b + 1"))
    taken: list[Op] = [("recv", "free", ["b"])]
    if fault == "twice":
        taken.append(("recv", "free", ["b2"]))
    net.processes["load"] = [("for", "i", n, [*taken, write, ("send", "full", ["i", "b"])])]
    read: Op = ("task", "copy", [("B", "f")], ("Y", "k"))
    back: Op = ("send", "free", ["f"])
    after = {"early": [back, read], "lost": [read]}.get(fault, [read, back])
    if fault == "one more":
        after = [("task", "fill", [], ("B", "mod(f + 1, 3)")), *after]
    net.processes["store"] = [("consume", "full", ["k", "f"], after)]
    return net


def windows(rng: random.Random, how: str) -> Net:
    """Rows used in turn with no numbers that come back: safe as far as the channel holds few enough tokens."""
    net = Net()
    n, rows = times(rng, net, how, 9), rng.randrange(1, 5)
    net.channels["c"] = Channel(rng.randrange(4), 0, 0, 0)
    put: Op = ("task", "put", [], ("B", f"mod(i, {rows})"))
    net.processes["load"] = [("for", "i", n, [put, ("send", "c", ["i"])])]
    net.processes["store"] = [("consume", "c", ["k"], [("task", "copy", [("B", f"mod(k, {rows})")], ("Y", "k"))])]
    if rng.random() < 0.5:
        net.channels["ack"] = Channel(rng.randrange(3), 0, 0, 0, 0)
        net.processes["load"][0][3].append(("recv", "ack", []))
        net.processes["store"][0][3].append(("send", "ack", []))
    return net


def fork(rng: random.Random, how: str) -> Net:
    """Two ways from one process to another, of channels that may hold too little for the batches in which they are used."""
    net = Net()
    n = times(rng, net, how, 4)
    a, b = rng.randrange(1, 4), rng.randrange(1, 4)
    net.channels = {
        "a": Channel(rng.randrange(1, 5)),
        "b": Channel(rng.randrange(1, 5)),
        "c": Channel(rng.randrange(3)),
    }
    sends: list[Op] = [
        ("for", "x", a, [("task", "put", [], ("A", "4*i + x")), ("send", "a", ["4*i + x"])]),
        ("for", "y", b, [("task", "put", [], ("B", "4*i + y")), ("send", "b", ["4*i + y"])]),
    ]
    net.processes["split"] = [("for", "i", n, sends)]
    net.processes["way"] = [("consume", "a", ["k"], [("task", "copy", [("A", "k")], ("C", "k")), ("send", "c", ["k"])])]
    takes: list[Op] = [("for", "u", a, [("recv", "c", ["l"])]), ("for", "v", b, [("recv", "b", ["m"])])]
    if rng.random() < 0.5:
        takes.reverse()
    if rng.random() < 0.2:
        takes[0] = ("for", takes[0][1], takes[0][2] + 1, takes[0][3])
    reads: list[Op] = [("task", "fold", [("C" if rng.random() < 0.8 else "A", "l"), ("B", "m")], ("Y", "0"))]
    net.processes["join"] = [("for", "j", n, [*takes, ("task", "copy", reads[0][2][:1], ("Y", "j"))])]
    return net


def ring(rng: random.Random, how: str) -> Net:
    """Processes in a circle, with tokens in it at first or not."""
    net = Net()
    n, size = times(rng, net, how), rng.randrange(2, 5)
    first = rng.randrange(3)
    for k in range(size):
        net.channels[f"c{k}"] = Channel(rng.randrange(1, 3), 0)
    net.channels["c0"].initial = min(first, net.channels["c0"].depth or 0)
    consuming = rng.random() < 0.2
    for k in range(size):
        c, d = f"c{k}", f"c{(k + 1) % size}"
        same = rng.random() < 0.8
        row = ("T", "x" + str(k) if rng.random() < 0.3 else str(0 if same else k))
        work: list[Op] = [("task", "fold", [("T", "0")] if same else [(f"U{k}", "0")], row)]
        if consuming:
            net.processes[f"p{k}"] = [("consume", c, [f"x{k}"], [*work, ("send", d, [f"x{k}"])])]
        else:
            last = n if isinstance(n, str) or rng.random() < 0.9 else n + 1
            ops: list[Op] = [("recv", c, [f"x{k}"]), *work, ("send", d, [f"x{k}"])]
            if rng.random() < 0.1:
                ops = [ops[-1], *ops[:-1]]
                ops[0] = ("send", d, ["0"])
            net.processes[f"p{k}"] = [("for", f"i{k}", last, ops)]
    return net


def shared(rng: random.Random, how: str) -> Net:
    """A generator, workers that share its channel, and perhaps who collects what they did."""
    net = Net()
    n, copies = times(rng, net, how), rng.randrange(2, 4)
    fault = rng.choice(("", "", "", "one row", "pairs", "slot", "strangers", "sum", "uses count"))
    net.channels["c"] = Channel(rng.randrange(4))
    net.processes["give"] = [("for", "i", n, [("task", "put", [], ("X", "i")), ("send", "c", ["i"])])]
    row = {"one row": "0", "pairs": "floordiv(k, 2)"}.get(fault, "k")
    work: list[Op] = [("task", "fold" if fault else "copy", [("X", "k")], ("Y", row))]
    collects = fault == "sum" or rng.random() < 0.5
    if fault == "slot":
        kept: list[Op] = [("get", 0, "s"), ("set", 0, "k + 1")]
        if rng.random() < 0.4:
            kept.reverse()
        work = [*kept, ("task", "copy", [("X", "s")], ("Y", "k"))]
    if collects:
        net.channels["d"] = Channel(rng.randrange(4))
        work.append(("send", "d", ["k"]))
    body: list[Op] = [("consume", "c", ["k"], work)]
    if fault == "slot":
        body.insert(0, ("set", 0, "0"))
    if fault == "uses count" and not isinstance(n, str):
        net.processes["give"] = [("for", "i", n * copies, net.processes["give"][0][3])]
        body = [("for", "m", n, [("recv", "c", ["k"]), *work[:-1], ("task", "put", [], ("Z", "m")), *work[-1:]])]
    for r in range(copies):
        net.processes[f"work.{r}"] = renamed(body, f"_{r}")
        if fault != "strangers":
            net.replicas[f"work.{r}"] = "work"
    if collects:
        taken: Op = (
            ("task", "fold", [("Y", "t")], ("S", "0")) if fault == "sum" else ("task", "copy", [("Y", "t")], ("S", "t"))
        )
        net.processes["take"] = [("consume", "d", ["t"], [taken])]
    return net


def mixture(rng: random.Random, how: str) -> Net:
    """Processes that send and receive on channels between them in any order, as often as it happens."""
    net = Net()
    size = rng.randrange(2, 5)
    for k in range(rng.randrange(1, 5)):
        a, b = rng.sample(range(size), 2)
        net.channels[f"c{k}_{a}{b}"] = Channel(rng.randrange(4), 0, 0, 0)
    for c in net.channels.values():
        c.initial = rng.choice((0, 0, 1)) if c.depth else 0
    n = times(rng, net, how, 3)
    for p in range(size):
        ops: list[Op] = []
        for name in net.channels:
            a, b = int(name[-2]), int(name[-1])
            if p == a:
                ops.append(("send", name, [f"i{p}"]))
            if p == b:
                ops.append(("recv", name, [f"x{p}_{name}"]))
        if rng.random() < 0.5:
            rng.shuffle(ops)
        if rng.random() < 0.4:
            ops.insert(
                rng.randrange(len(ops) + 1), ("task", "put", [], ("T", rng.choice((f"i{p}", str(p), str(p), "0"))))
            )
        more = 1 if rng.random() < 0.1 and not isinstance(n, str) else 0
        net.processes[f"p{p}"] = [("for", f"i{p}", n if isinstance(n, str) else n + more, ops)]
    if not all(any(c in net.ends(p, (k,)) for p in net.processes) for c in net.channels for k in ("send", "recv")):
        return mixture(rng, how)
    return net


def merge(rng: random.Random, how: str) -> Net:
    """Several processes send to one channel; which comes first, time says."""
    net = Net(timed=rng.random() < 0.8)
    n, senders = rng.randrange(1, 5), rng.randrange(2, 4)
    net.channels["c"] = Channel(rng.randrange(4), 0, rng.choice((0, 3)), rng.choice((0, 2)))
    for k in range(senders):
        work: Op = ("task", rng.choice(("fill", "fill", "fold")), [], (f"T{k}", f"{10 * k} + i{k}"))
        if work[1] == "fold":
            work = ("task", "fold", [(f"U{k}", "0")], work[3])
        net.processes[f"p{k}"] = [("for", f"i{k}", n, [work, ("send", "c", [f"{10 * k} + i{k}"])])]
    total = n * senders + rng.choice((0, 0, 0, 1, -3))
    fold: Op = ("task", "fold", [(f"T{rng.randrange(senders)}", "39")], ("S", "0"))
    if rng.random() < 0.5:
        net.processes["take"] = [("consume", "c", ["t"], [fold])]
    else:
        net.processes["take"] = [("for", "j", total, [("recv", "c", ["t"]), fold])]
    return net


FAMILIES: tuple[Callable[[random.Random, str], Net], ...] = (
    *(chain, chain, buffers, windows, fork, fork),
    *(ring, shared, shared, mixture, merge),
)
KINDS = ("constant",) * 7 + ("sizes",) * 2 + ("data",)


def network(seed: int) -> tuple[str, str, Net]:
    """Family, kind and network of a seed. Only chains are decided by data."""
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    family = chain if kind == "data" else rng.choice(FAMILIES)
    return family.__name__, kind, family(rng, kind)


def cycles(kernel: Kernel, _: object) -> int:
    return CYCLES[kernel.label]


@cache
def judged() -> list[tuple[int, str, Net, Truth, Verdict]]:
    """All networks, what there is in them for some sizes, and what is proved before any size is known."""
    out: list[tuple[int, str, Net, Truth, Verdict]] = []
    for seed in range(NETWORKS):
        family, _, net = network(seed)
        (found,) = verdicts(net.wir(), cycles=cycles)
        out.append((seed, family, net, truth_of_sizes(net, seed), found))
    return out


def wrong(found: Verdict, real: Truth) -> bool:
    """Whether something unsafe is accepted, something safe refused, or a fault taken for another one."""
    there = {
        "safe": not real.unsafe,
        "unknown": True,
        "race": real.races,
        "deadlock": real.blocked,
        "indeterminate": real.differs or real.strangers or real.races,
    }
    return not there[found.kind]


def test_nothing_unsafe_is_accepted_and_nothing_safe_refused() -> None:
    assert not [(seed, family, found.kind, real) for seed, family, _, real, found in judged() if wrong(found, real)]


def test_sizes_decide_what_they_leave_open() -> None:
    some = 0
    for seed, family, net, _, found in judged():
        if found.kind == "unknown" and net.sizes:
            (now,) = verdicts(net.wir(), net.sizes, cycles)
            assert now.kind != "unknown", (seed, family)
            assert not wrong(now, truth(net, seed)), (seed, family, now.kind)
            some += 1
    assert some > 20


def test_what_data_decides_runs_without_a_fault_or_it_is_found() -> None:
    """Whatever data says."""
    kinds = Counter[str]()
    for seed, family, net, _, found in judged():
        if found.kind != "unknown" or not net.data:
            continue
        for asked, as_it_runs in enumerate((without_what_data_asks_for(net), net)):
            real = truth(as_it_runs, seed)
            error = outcome(program_of(net, net.wir(), 1 + seed % 3, asked))
            kind = "race" if real.races else "deadlock" if real.blocked else "none"
            classes = {"race": RaceError, "deadlock": DeadlockError, "none": type(None)}
            assert isinstance(error, classes[kind]), (seed, family, kind, error)
            kinds[kind] += 1
    assert min(kinds["race"], kinds["none"]) >= 3, kinds


def test_what_is_constant_is_decided_and_most_of_the_rest() -> None:
    open_ones = [(seed, family, net.constant) for seed, family, net, _, found in judged() if found.kind == "unknown"]
    assert not [x for x in open_ones if x[2]]
    assert len(open_ones) <= 0.2 * NETWORKS


def test_a_third_has_faults_and_each_kind_is_told() -> None:
    assert len([real for *_, real, _ in judged() if real.unsafe]) >= NETWORKS / 3
    kinds = Counter(found.kind for *_, found in judged())
    assert min(kinds[k] for k in ("safe", "race", "deadlock", "indeterminate")) >= 20


def test_errors_are_of_the_kind_of_the_fault() -> None:
    classes: dict[str, type[PtoError]] = {"race": RaceError, "deadlock": DeadlockError, "indeterminate": TypeCheckError}
    for seed, *_, found in judged():
        if found.error is not None:
            assert isinstance(found.error, classes[found.kind]), seed


def test_a_deadlock_says_who_waits_where_and_since_when() -> None:
    """As the model has it."""
    some = 0
    for seed, _, net, _, found in judged():
        if found.error is None or found.error.code != "PTO864" or not net.constant:
            continue
        real = cspt.simulate(*as_model(net))
        said = {k.removeprefix("process "): str(v) for k, v in found.error.values.items() if k.startswith("process ")}
        assert list(said) == [w["process"] for w in real["deadlock"]], seed
        for w in real["deadlock"]:
            kind, channel = said[w["process"]].split()[:2]
            assert ("send" if kind == "send" else "recv", channel) == (w["op"], w["channel"]), seed
            assert said[w["process"]].endswith(f"at clock {w['clock']}"), (seed, said, real)
            some += 1
    assert some > 20


def test_the_remedy_of_a_deadlock_is_the_smallest_that_the_model_goes_on_with() -> None:
    some = 0
    for seed, _, net, _, found in judged():
        if found.error is None or found.error.code != "PTO864" or not net.constant or list(shares(net)):
            continue
        depths = dict(re.findall(r"(\w+) depth=(\d+)", found.error.fix))
        assert bool(depths) != ("no capacity helps" in found.error.fix), seed
        processes, channels = as_model(net)
        for c, n in depths.items():
            channels[c]["capacity"] = int(n)
        assert ("deadlock" in cspt.simulate(processes, channels)) is not bool(depths), seed
        some += bool(depths)
    assert some > 3
