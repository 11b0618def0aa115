"""Random pipelines with a second meaning: lists of tokens, and numpy, with no processes at all.

A case is a network of processes that is determinate: what every channel carries depends on nothing but what goes in. It is built
stage by stage; each stage takes streams (channels, and the tokens that they carry in the end) and gives streams, until all of them
end in sinks, which write Y. Tokens are numbers, tiles in memory of processes, in tensors of the user, or several of these. There are
sources, maps (copying, in place, or handing on), filters, forks, joins, splits by data, replicas, inner pipelines, and cycles of
processes with initial tokens. Arithmetic wraps, so it is exact.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pto_wsp import (
    Channel,
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    Tensor,
    Tile,
    Workload,
    close,
    connect,
    consume,
    empty,
    kernel,
    process,
    pto,
    replicate,
    send,
    workload,
)
from pto_wsp.csp.process import Process

I64 = DType.I64
SHAPE = (2, 3)
ROWS = 12  # tokens of one stream, at most
Array = np.ndarray[Any, Any]


@kernel
def fill(s: Scalar[I64], out: Out[Tile[2, 3, I64]]):
    pto.store(out, pto.full((2, 3), 0, I64) + s)


@kernel
def affine(x: In[Tile[2, 3, I64]], a: Scalar[I64], b: Scalar[I64], out: Out[Tile[2, 3, I64]]):
    pto.store(out, x * a + b)


@kernel
def bump(x: InOut[Tile[2, 3, I64]], b: Scalar[I64]):
    pto.store(x, x + b)


@kernel
def join(x: In[Tile[2, 3, I64]], y: In[Tile[2, 3, I64]], out: Out[Tile[2, 3, I64]]):
    pto.store(out, x * 3 + y)


@kernel
def accumulate(x: In[Tile[2, 3, I64]], out: InOut[Tile[2, 3, I64]]):
    pto.store(out, out * 5 + x)


@dataclass
class Stream:
    """A channel, and its tokens: of "tile" an array, of "int" a number, of "both" a pair."""

    channel: Channel
    kind: str
    tokens: list[Any]


@dataclass
class Case:
    """A network: processes in their order, channels, and what is in Y when it has run. `inputs`: X and W before."""

    processes: list[Process] = field(default_factory=list[Process])
    channels: list[Channel] = field(default_factory=list[Channel])
    inputs: dict[str, Array] = field(default_factory=dict[str, Array])
    expected: Array = field(default_factory=lambda: np.zeros(0))

    def arrays(self) -> dict[str, Array]:
        """Fresh arrays of all tensors."""
        return {n: a.copy() for n, a in self.inputs.items()} | {"Y": np.zeros_like(self.expected)}

    def workload(self, arrays: dict[str, Array]) -> Workload:
        """The network as a workload on these arrays."""

        @workload
        def network(X: Any, W: Any, Y: Any) -> None:
            self.tensors |= {"X": X, "W": W, "Y": Y}
            connect(self.processes, self.channels)

        return network(**{n: Tensor(a, name=n) for n, a in arrays.items()})

    def __post_init__(self) -> None:
        self.tensors: dict[str, Any] = {}


class Maker:
    """Makes one case."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.case = Case()
        self.open: list[Stream] = []
        self.scratch = 0
        self.sinks: list[Array] = []

    # parts

    def name(self, stem: str) -> str:
        return f"{stem}{len(self.case.processes)}"

    def channel(self, kind: str, *, depth: int | None = -1, initial: int = 0) -> Channel:
        carries = {"tile": Tensor, "int": int, "both": tuple[Tensor, int]}[kind]
        if depth == -1:
            depth = self.rng.choice((0, 1, 1, 2, 3))
            if kind == "int" and self.rng.random() < 0.2:
                depth = None
        latency, response = self.rng.choice((0, 0, 3)), self.rng.choice((0, 2))
        made = Channel[carries](
            f"c{len(self.case.channels)}", depth=depth, latency=latency, response=response, initial=initial
        )
        self.case.channels.append(made)
        return made

    def stream(self, kind: str, tokens: list[Any]) -> Stream:
        made = Stream(self.channel(kind), kind, tokens)
        self.open.append(made)
        return made

    def add(
        self, stem: str, takes: list[Stream], gives: list[Stream], body: Callable[..., None], copies: int = 1
    ) -> None:
        made = process(self.name(stem)).consumes(*(s.channel for s in takes)).produces(*(s.channel for s in gives))
        made = made.body(body)
        self.case.processes += replicate(made, copies) if copies > 1 else [made]

    def take(self, *kinds: str) -> Stream | None:
        found = [s for s in self.open if s.kind in kinds]
        if not found:
            return None
        chosen = self.rng.choice(found)
        self.open.remove(chosen)
        return chosen

    def memory(self) -> Callable[[Any], Any]:
        """Where a process writes token i: memory of its own, or a tensor of the user."""
        if self.rng.random() < 0.6:
            return lambda i: empty(SHAPE, I64)
        k = self.scratch
        self.scratch += 1
        return lambda i: self.case.tensors["W"][k, i]

    # stages

    def source(self) -> None:
        n, a, b = self.rng.randrange(ROWS + 1), self.rng.randrange(-3, 4), self.rng.randrange(-5, 6)
        kind = self.rng.choice(("tile", "tile", "int", "both"))
        k, where = self.rng.randrange(4), self.memory()
        tiles = [self.case.inputs["X"][k, i] * a + b for i in range(n)]
        numbers = [i * a + b for i in range(n)]
        out = self.stream(kind, {"tile": tiles, "int": numbers, "both": list(zip(tiles, numbers, strict=True))}[kind])
        early = self.rng.random() < 0.3

        def body() -> None:
            for i in P.seq(n):
                if kind == "int":
                    send(out.channel, i * a + b)
                    continue
                made = affine(x=self.case.tensors["X"][k, i], a=a, b=b, out=where(i))
                send(out.channel, made, *([i * a + b] if kind == "both" else []))
            if early:
                close(out.channel)

        self.add("source", [], [out], body)

    def map(self) -> None:
        s = self.take("tile", "both")
        if s is None:
            return
        how, b = self.rng.choice(("copy", "in place", "on", "drop")), self.rng.randrange(-4, 5)
        first = [t[0] if s.kind == "both" else t for t in s.tokens]
        tiles = {"copy": [x * 2 + b for x in first], "in place": [x + b for x in first]}.get(how, first)
        numbers = [t[1] for t in s.tokens] if s.kind == "both" else []
        out = self.stream("int", numbers) if how == "drop" and numbers else None
        if out is None:
            pairs = list(zip(tiles, numbers, strict=True)) if numbers else tiles
            out = self.stream("both" if s.kind == "both" else "tile", pairs)
        where = self.memory()
        counted = self.rng.random() < 0.3 and s.kind == "tile"

        def one(token: Any, i: Any) -> None:
            x, rest = (token[0], [token[1]]) if s.kind == "both" else (token, [])
            if out.kind == "int":
                send(out.channel, *rest)
            elif how == "copy" and (counted or s.kind == "tile"):
                send(out.channel, affine(x=x, a=2, b=b, out=where(i) if counted else empty(SHAPE, I64)), *rest)
            elif how == "copy":
                send(out.channel, affine(x=x, a=2, b=b, out=empty(SHAPE, I64)), *rest)
            else:
                if how == "in place":
                    bump(x=x, b=b)
                send(out.channel, x, *rest)

        def body() -> None:
            if counted:
                for i in P.seq(len(s.tokens)):
                    one(s.channel.recv(), i)
            else:
                with consume(s.channel) as token:
                    one(token, None)

        self.add("map", [s], [out], body)

    def filter(self) -> None:
        s = self.take("int")
        if s is None:
            return
        m = self.rng.choice((2, 3))
        out = self.stream("int", [t for t in s.tokens if t % m == 0])

        def body(t: Any) -> None:
            with P.when(t % m == 0):
                send(out.channel, t)

        self.add("filter", [s], [out], body)

    def split(self) -> None:
        s = self.take("int")
        if s is None:
            return
        a = self.stream("int", [t + 1 for t in s.tokens if t % 2 == 0])
        b = self.stream("tile", [np.full(SHAPE, t) for t in s.tokens if t % 2 != 0])

        def body() -> None:
            with consume(s.channel) as t:
                with P.when(t % 2 == 0):
                    send(a.channel, t + 1)
                with P.otherwise():
                    send(b.channel, fill(s=t, out=empty(SHAPE, I64)))

        self.add("split", [s], [a, b], body)

    def fork_and_join(self) -> None:
        s = self.take("tile")
        if s is None:
            return
        a, b = (Stream(self.channel("tile"), "tile", []) for _ in "ab")
        out = self.stream("tile", [(x * 2) * 3 + (x + 7) for x in s.tokens])

        def fork(x: Any) -> None:
            doubled = affine(x=x, a=2, b=0, out=empty(SHAPE, I64))
            more = affine(x=x, a=1, b=7, out=empty(SHAPE, I64))
            send(a.channel, doubled)
            send(b.channel, more)

        def joined() -> None:
            with consume(a.channel) as x:
                y = b.channel.recv()
                send(out.channel, join(x=x, y=y, out=empty(SHAPE, I64)))

        self.add("fork", [s], [a, b], fork)
        self.add("join", [a, b], [out], joined)

    def replicas(self) -> None:
        s = self.take("int")
        if s is None or len(set(s.tokens)) < len(s.tokens):
            self.open += [] if s is None else [s]
            return
        k = self.sink()
        low = min(s.tokens, default=0)
        spread = max(s.tokens, default=0) - low
        if spread >= ROWS:
            self.open.append(s)
            self.sinks.pop()
            return
        for t in s.tokens:
            self.sinks[k][t - low] = np.full(SHAPE, t * 2)

        def body(t: Any) -> None:
            mine = empty(SHAPE, I64)
            fill(s=t, out=mine)
            affine(x=mine, a=2, b=0, out=self.case.tensors["Y"][k, t - low])

        self.add("work", [s], [], body, copies=self.rng.randrange(2, 4))

    def ring(self) -> None:
        n, start = self.rng.randrange(ROWS + 1), self.rng.randrange(1, 3)
        around = self.channel("int", depth=start + self.rng.randrange(2), initial=start)
        forth = self.channel("int", depth=self.rng.randrange(1, 3))
        values, tokens = list(range(start)), list[int]()
        for i in range(n):
            tokens.append(values.pop(0) + i)
            values.append(tokens[-1] * 3)
        out = self.stream("int", tokens)

        def give() -> None:
            for i in P.seq(n):
                send(forth, around.recv() + i)

        def give_back(v: Any) -> None:
            send(out.channel, v)
            send(around, v * 3)

        made = process(self.name("give")).consumes(around).produces(forth).body(give)
        self.case.processes.append(made)
        made = process(self.name("back")).consumes(forth).produces(around, out.channel).body(give_back)
        self.case.processes.append(made)

    def inner(self) -> None:
        """A process that runs a pipeline for each of its tokens."""
        s = self.take("int")
        if s is None:
            return
        k = self.sink()
        for i, t in enumerate(s.tokens):
            self.sinks[k][i] = np.full(SHAPE, t) + 1

        def body() -> None:
            for i in P.seq(len(s.tokens)):
                t = s.channel.recv()
                c = Channel[Tensor]("c", depth=1)

                def first(c: Any = c, t: Any = t) -> None:
                    send(c, fill(s=t, out=empty(SHAPE, I64)))

                def last(x: Any, i: Any = i) -> None:
                    affine(x=x, a=1, b=1, out=self.case.tensors["Y"][k, i])

                made = [process("last").consumes(c).body(last), process("first").produces(c).body(first)]
                connect(made, [c])

        self.add("inner", [s], [], body)

    # sinks

    def sink(self) -> int:
        self.sinks.append(np.zeros((ROWS, *SHAPE), np.int64))
        return len(self.sinks) - 1

    def end(self, s: Stream) -> None:
        k, folds = self.sink(), self.rng.random() < 0.3
        tiles = [np.full(SHAPE, t) if s.kind == "int" else t[0] + t[1] if s.kind == "both" else t for t in s.tokens]
        if folds:
            for x in tiles:
                self.sinks[k][0] = self.sinks[k][0] * 5 + x
        else:
            for i, x in enumerate(tiles):
                self.sinks[k][i] = x

        def one(token: Any, out: Any) -> None:
            x = token[0] if s.kind == "both" else token
            if s.kind == "int":
                x = empty(SHAPE, I64)
                fill(s=token, out=x)
            elif s.kind == "both":
                bump(x=x, b=token[1])
            accumulate(x=x, out=out) if folds else affine(x=x, a=1, b=0, out=out)

        def body() -> None:
            if folds:
                with consume(s.channel) as token:
                    one(token, self.case.tensors["Y"][k, 0])
            else:
                for i in P.seq(len(s.tokens)):
                    one(s.channel.recv(), self.case.tensors["Y"][k, i])

        self.add("sink", [s], [], body)

    def make(self) -> Case:
        rng = np.random.default_rng(self.rng.randrange(2**32))
        self.case.inputs["X"] = rng.integers(-9, 10, (4, ROWS, *SHAPE))
        stages = [self.map, self.filter, self.split, self.fork_and_join, self.replicas, self.ring, self.inner]
        for _ in range(self.rng.randrange(1, 4)):
            self.source()
        for _ in range(self.rng.randrange(6)):
            self.rng.choice(stages)()
        while self.open:
            self.end(self.open.pop())
        self.rng.shuffle(self.case.processes)
        self.case.inputs["W"] = np.zeros((max(self.scratch, 1), ROWS, *SHAPE), np.int64)
        self.case.expected = np.stack(self.sinks)
        return self.case


def pipelines(seed: int) -> Case:
    """The network of a seed."""
    return Maker(seed).make()
