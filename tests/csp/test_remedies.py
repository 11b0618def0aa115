"""The depths that a deadlock names, found while running or proved: with them the same workload runs to its end.

Random networks are held against the reference model (models/cspt.py), in which buffers are what they are: tokens that go round.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest

from models import cspt
from pto_wsp import (
    Channel,
    DeadlockError,
    DType,
    In,
    Out,
    P,
    Scalar,
    Tensor,
    Tile,
    Workload,
    connect,
    empty,
    item,
    kernel,
    process,
    pto,
    send,
    workload,
)

I64 = DType.I64


@kernel
def fill(s: Scalar[I64], out: Out[Tile[1, 1, I64]]):
    pto.store(out, pto.full((1, 1), 0, I64) + s)


@kernel
def copy(x: In[Tile[1, 1, I64]], out: Out[Tile[1, 1, I64]]):
    pto.store(out, x)


def ones(n: int = 1) -> np.ndarray[Any, Any]:
    return np.ones((n, 1, 1), np.int64)


def deadlock_of(w: Workload) -> DeadlockError:
    with pytest.raises(DeadlockError) as caught:
        w.compile().run()
    return caught.value


Depths = Mapping[str, int]
Made = Callable[[Depths, bool], tuple[Workload, np.ndarray[Any, Any]]]


def held_at_once(depths: Depths, known: bool, most: int = 3) -> tuple[Workload, np.ndarray[Any, Any]]:
    """Two rounds of receiving `most` views of channel a, and using them. Not `known`: data says how many rounds."""
    y = np.zeros((2 * most, 1, 1), np.int64)

    @workload
    def w(x, y):
        a = Channel[Tensor](depth=depths["a"])
        with P.pipe():
            for i in P.seq(2 * most):
                send(a, fill(s=i + 7, out=empty((1, 1), I64)))
            for i in P.seq(2 if known else item(x[0, 0, 0]) + 1):
                for k, v in enumerate([a.recv() for _ in range(most)]):
                    copy(x=v, out=y[i * most + k])

    return w(ones(), y), y


def mixed(depths: Depths, known: bool) -> tuple[Workload, np.ndarray[Any, Any]]:
    """Three views are held at once, and then come six numbers of c, which are sent before the third view."""
    y = np.zeros((9, 1, 1), np.int64)

    @workload
    def w(x, y):
        a, c = Channel[Tensor](depth=depths["a"]), Channel[int](depth=depths["c"])
        with P.pipe():
            for i in P.seq(3):
                for j in P.seq(2 * i if known else 2 * i * item(x[0, 0, 0])):
                    send(c, j + i)
                send(a, fill(s=i + 7, out=empty((1, 1), I64)))
            for _ in P.seq(1):
                for k, v in enumerate([a.recv() for _ in range(3)]):
                    copy(x=v, out=y[k])
                for k in P.seq(6):
                    fill(s=c.recv(), out=y[3 + k])

    return w(ones(), y), y


def nested(depths: Depths, known: bool) -> tuple[Workload, np.ndarray[Any, Any]]:
    """A pipeline inside of a process, run three times, whose receiver holds two; and the process around receives two at once."""
    y = np.zeros((6, 1, 1), np.int64)
    z = np.zeros((3, 1, 1), np.int64)

    @workload
    def w(x, y, z):
        outer, inner = Channel[Tensor]("outer", depth=depths["outer"]), Channel[Tensor]("inner", depth=depths["inner"])
        with P.pipe():
            for i in P.seq(3):
                with P.pipe():
                    for k in P.seq(2):
                        send(inner, fill(s=i + k + 7, out=empty((1, 1), I64)))
                    for _ in P.seq(1 if known else item(x[0, 0, 0])):
                        for k, v in enumerate([inner.recv() for _ in range(2)]):
                            copy(x=v, out=y[2 * i + k])
                send(outer, fill(s=i + 7, out=empty((1, 1), I64)))
            for _ in P.seq(1 if known else item(x[0, 0, 0])):
                for k, v in enumerate([outer.recv() for _ in range(3)]):
                    copy(x=v, out=z[k])

    return w(ones(), y, z), y


CASES: list[tuple[Made, Depths, Depths]] = [
    (held_at_once, {"a": 0}, {"a": 3}),
    (held_at_once, {"a": 1}, {"a": 3}),
    (held_at_once, {"a": 2}, {"a": 3}),
    (mixed, {"a": 1, "c": 0}, {"a": 3, "c": 6}),
    (mixed, {"a": 2, "c": 9}, {"a": 3}),
    (mixed, {"a": 3, "c": 1}, {"c": 6}),
    (nested, {"outer": 3, "inner": 1}, {"inner": 2}),
    (nested, {"outer": 2, "inner": 2}, {"outer": 3}),
    (nested, {"outer": 1, "inner": 0}, {"outer": 3, "inner": 2}),
]


@pytest.mark.parametrize(("made", "depths", "needed"), CASES)
@pytest.mark.parametrize("known", [True, False])
def test_with_the_depths_that_a_deadlock_names_it_runs(made: Made, depths: Depths, needed: Depths, known: bool) -> None:
    error = deadlock_of(made(depths, known)[0])
    assert error.code == ("PTO864" if known else "PTO820")
    found = dict(error.remedy or {})
    assert error.fix == "make channels deeper: " + ", ".join(f"{c} depth={n}" for c, n in found.items())
    if known and len(needed) == 2 and made is nested:  # what is inside is proved first, alone
        error = deadlock_of(made({**depths, **found}, known)[0])
        found |= dict(error.remedy or {})
    assert found == needed
    w, y = made({**depths, **found}, known)
    w.compile().run()
    assert (y.ravel() != 0).sum() >= len(y) - 1
    for c in found:
        deadlock_of(made({**depths, **found, c: found[c] - 1}, known)[0])


@pytest.mark.parametrize("depth", [0, 2])
def test_a_simulated_deadlock_on_buffers_names_them_too(depth: int) -> None:
    program = held_at_once({"a": depth}, known=False)[0].compile()
    with pytest.raises(DeadlockError) as caught:
        program.simulate()
    assert caught.value.remedy == {"a": 3}


def two_pipelines(depth: int, n: Any) -> Workload:
    @workload
    def w(x, y, z):
        for out in (y, z):
            a = Channel[Tensor]("a", depth=depth)
            with P.pipe():
                for i in P.seq(2):
                    send(a, fill(s=i, out=empty((1, 1), I64)))
                for _ in P.seq(n(x)):
                    for k, v in enumerate([a.recv(), a.recv()]):
                        copy(x=v, out=out[k])

    return w(ones(), ones(2), ones(2))


def test_channels_of_one_name_are_told_apart_in_remedies() -> None:
    error = deadlock_of(two_pipelines(1, lambda x: item(x[0, 0, 0])))
    assert error.remedy == {"pipe.a": 2, "pipe.1.a": 2}
    two_pipelines(2, lambda x: item(x[0, 0, 0])).compile().run()
    assert deadlock_of(two_pipelines(1, lambda _: 1)).remedy == {"pipe.a": 2}


@pytest.mark.parametrize("known", [True, False])
def test_where_no_depth_helps_that_is_said_of_buffers_too(known: bool) -> None:
    """The receiver holds both buffers, and waits for a number that nobody sends."""

    @workload
    def w(x, y):
        a, c = Channel[Tensor]("a", depth=2), Channel[int]("c", depth=1)

        def sends() -> None:
            for i in P.seq(4 if known else 4 * item(x[0, 0, 0])):
                send(a, fill(s=i, out=empty((1, 1), I64)))
            with P.when(item(x[0, 0, 0]) != 1) if not known else P.when(False):
                send(c, 1)

        def takes() -> None:
            for k, v in enumerate([a.recv(), a.recv()]):
                copy(x=v, out=y[k])
            fill(s=c.recv(), out=y[2])

        connect([process("sends").produces(a, c).body(sends), process("takes").consumes(a, c).body(takes)], [a, c])

    error = deadlock_of(w(ones(), ones(3)))
    assert error.code == ("PTO864" if known else "PTO820")
    assert error.remedy is None
    assert "no capacity helps" in str(error)


def test_a_remedy_behind_what_tasks_compute_is_not_known() -> None:
    """With more buffers the receiver reads how many views it is to hold, of which the run knows nothing."""

    @workload
    def w(x, y):
        a = Channel[Tensor]("a", depth=1)
        with P.pipe():
            for i in P.seq(4):
                send(a, fill(s=i + 1, out=empty((1, 1), I64)))
            for _ in P.seq(item(x[0, 0, 0])):
                held = a.recv(), a.recv()
                with P.when(item(held[1][0, 0]) == 2):
                    for k in range(2):
                        copy(x=a.recv(), out=y[k])

    error = deadlock_of(w(ones(), ones(2)))
    assert error.remedy == {}
    assert "not known: what comes after the read of a.buffer" in str(error)
    assert "if a receiver holds several views at once, make a as deep" in error.fix


# random networks


def waits(error: DeadlockError) -> list[tuple[object, ...]]:
    """What an error tells of each process that waits."""
    assert error.blocked
    names = ("process", "op", "channel", "occupancy", "capacity", "clock")
    return [(*(b[n] for n in names), str(b["loc"])) for b in error.blocked]


Op = tuple[str, str]  # "send" or "recv", and a channel


@dataclass
class Network:
    """Processes as blocks of operations; views that a block receives are given back where it ends."""

    depths: dict[str, int]
    views: frozenset[str]
    blocks: list[list[list[Op]]] = field(default_factory=list[list[list[Op]]])

    def workload(self, depths: Depths, known: bool) -> tuple[Workload, np.ndarray[Any, Any]]:
        rows = [sum(map(len, blocks)) for blocks in self.blocks]
        y = np.zeros((len(self.blocks), max([*rows, 1]), 1, 1), np.int64)

        @workload
        def w(x, y):
            channels = {c: Channel[Tensor if c in self.views else int](c, depth=n) for c, n in depths.items()}

            def body(p: int) -> None:
                row = 0
                for ops in self.blocks[p]:
                    for _ in P.seq(1 if known else item(x[0, 0, 0])):
                        for kind, c in ops:
                            if kind == "recv" and c in self.views:
                                copy(x=channels[c].recv(), out=y[p, row])
                            elif kind == "recv":
                                fill(s=channels[c].recv(), out=y[p, row])
                            elif c in self.views:
                                send(channels[c], fill(s=row + 1, out=empty((1, 1), I64)))
                            else:
                                send(channels[c], row + 1)
                            row += 1

            made = []
            for p, blocks in enumerate(self.blocks):
                ends = {kind: {c for ops in blocks for k, c in ops if k == kind} for kind in ("send", "recv")}
                takes, gives = ([channels[c] for c in sorted(ends[kind])] for kind in ("recv", "send"))
                made.append(process(f"p{p}").consumes(*takes).produces(*gives).body(lambda p=p: body(p)))
            connect(made, list(channels.values()))

        return w(ones(), y), y

    def ends(self, depths: Depths) -> bool:
        """Whether the model comes to an end with these depths."""
        channels = {c: {"capacity": n, "latency": 0, "response": 0, "initial": 0} for c, n in depths.items()}
        for c in self.views:
            n = max(depths[c], 1)
            channels[f"{c}.free"] = {"capacity": n, "latency": 0, "response": 0, "initial": n}
        processes = []
        for p, blocks in enumerate(self.blocks):
            ops: list[Any] = []
            for block in blocks:
                for kind, c in block:
                    ops += [["recv", f"{c}.free"]] if kind == "send" and c in self.views else []
                    ops.append([kind, c])
                ops += [["send", f"{c}.free"] for kind, c in block if kind == "recv" and c in self.views]
            processes.append({"name": f"p{p}", "ops": ops})
        return "deadlock" not in cspt.simulate(processes, channels)


def random_network(rng: random.Random) -> Network | None:
    n = rng.randrange(2, 4)
    names = [f"c{k}" for k in range(rng.randrange(1, 4))]
    out = Network({c: rng.choice((0, 1, 1, 2)) for c in names}, frozenset(c for c in names if rng.random() < 0.7))
    ops: list[list[Op]] = [[] for _ in range(n)]
    for c in names:
        sender, receiver = rng.sample(range(n), 2)
        if c in out.views:  # what they are views of is known from the process that sends, which is traced first
            sender, receiver = sorted((sender, receiver))
        count = rng.randrange(1, 5)
        ops[sender] += [("send", c)] * count
        ops[receiver] += [("recv", c)] * (count + rng.choice((0, 0, 0, 0, 1, -1)) if count > 1 else 1)
    for mine in ops:
        if rng.random() < 0.8:
            rng.shuffle(mine)
        blocks: list[list[Op]] = []
        while mine:
            size = rng.randrange(1, 5)
            blocks.append(mine[:size])
            mine = mine[size:]
        out.blocks.append(blocks)
    return out if all(out.blocks) else None


def test_remedies_of_random_networks_are_those_of_the_model(request: pytest.FixtureRequest) -> None:
    helped = hopeless = on_buffers = 0
    for seed in range(1500 if request.config.getoption("--full") else 100):
        rng = random.Random(seed)
        net = random_network(rng)
        if net is None:
            continue
        w, _ = net.workload(net.depths, known=False)
        if net.ends(net.depths):
            w.compile().run()
            continue
        error = deadlock_of(w)
        assert error.code == "PTO820", seed
        proved = deadlock_of(net.workload(net.depths, known=True)[0])
        assert proved.code == "PTO864", seed
        assert proved.remedy == error.remedy, seed
        assert proved.fix == error.fix, seed
        assert waits(proved) == waits(error), seed
        on_buffers += any(str(b["channel"]).endswith(".free") for b in error.blocked)
        most = 5  # more than any channel has tokens
        if error.remedy is None:
            assert "no capacity helps" in error.fix, seed
            assert not any(
                net.ends(dict(zip(net.depths, d, strict=True)))
                for d in product(range(most + 1), repeat=len(net.depths))
            ), seed
            hopeless += 1
            continue
        helped += 1
        depths = {**net.depths, **error.remedy}
        assert net.ends(depths), seed
        less = [c for c in error.remedy if not net.ends({**depths, c: depths[c] - 1})]
        assert less, seed
        net.workload(depths, known=False)[0].compile().run()
    assert min(helped, hopeless, on_buffers) >= 10
