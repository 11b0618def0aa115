"""Random networks of processes as plain lists, as wir, and what can happen in them, found by running them in many orders.

An operation of a process is one of

    ("task", kernel, reads, row)      fill: T[row] = 1;  put: T[row] = 7 * row + 1;  copy: T[row] = U[r] + 1;  fold: T[row] = 5 * T[row] + U[r] + 1
    ("send", channel, expressions)    ("recv", channel, names)    ("consume", channel, names, body)    ("close", channel)
    ("for", name, times, body)        ("if", body): by data        ("set", slot, expression)    ("get", slot, name)
    ("item", name, table, expression): a number of a table, which are data of a run    ("try", channel, expressions): sends, if it can

A row is (tensor, expression); an expression is wir text over names, as Python reads it too: "2*i + 1", "mod(i, 2)".
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from pto_wsp import Program, PtoError, arch
from pto_wsp.arch.cost import kernel_cost
from pto_wsp.ir.core import Wir
from pto_wsp.ir.text import parse
from pto_wsp.targets.base import get

ARCH = arch.get(None)
ROWS = 40
CYCLES = {"put": 3, "copy": 2, "fold": 5}
MOST_STEPS = 3000
"""Of one run; networks here that end do so before."""
Op = tuple[Any, ...]

TAKES, GIVES = ("recv", "consume"), ("send", "try", "close")

KERNELS = """
  kernel put "put" (s: i64, y: out i64<1x1>) {
    a: i64<1x1> = full[cols=1, rows=1] 1:i64
    b: i64<1x1> = mul a s
    store y b
  }
  kernel copy "copy" (x: in i64<1x1>, y: out i64<1x1>) {
    a: i64<1x1 of x.rows x x.cols> = load x
    store y a
  }
  kernel fold "fold" (x: in i64<1x1>, y: inout i64<1x1>) {
    a: i64<1x1 of x.rows x x.cols> = load x
    store y a
  }
"""


@dataclass
class Channel:
    depth: int | None = 1
    initial: int = 0
    latency: int = 0
    response: int = 0
    fields: int = 1


@dataclass
class Net:
    """Processes by name, channels by name; which processes are replicas; sizes of symbols; whether data decides something."""

    processes: dict[str, list[Op]] = field(default_factory=dict[str, "list[Op]"])
    channels: dict[str, Channel] = field(default_factory=dict[str, Channel])
    replicas: dict[str, str] = field(default_factory=dict[str, str])
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    tables: dict[str, list[int]] = field(default_factory=dict[str, "list[int]"])
    data: bool = False
    timed: bool = False

    def ends(self, process: str, kinds: tuple[str, ...]) -> list[str]:
        """The channels that a process sends to or receives from."""
        return sorted({op[1] for op in walk(self.processes[process]) if op[0] in kinds})

    @property
    def constant(self) -> bool:
        return not self.sizes and not self.data and not self.tables

    def wir(self) -> Wir:
        """The network as a workload."""
        return parse(_Text(self).all())


def walk(ops: list[Op]) -> Iterator[Op]:
    """Every operation, those of bodies included."""
    for op in ops:
        yield op
        if op[0] in ("for", "consume", "if"):
            yield from walk(op[-1])


def renamed(ops: list[Op], suffix: str) -> list[Op]:
    """The same with other names: those of a workload are used once."""
    names = {n for op in walk(ops) for n in _bound(op)}

    def expr(e: Any) -> Any:
        return _sub(e, {n: n + suffix for n in names}) if isinstance(e, str) else e

    def one(op: Op) -> Op:
        match op:
            case ("task", kernel, reads, row):
                return ("task", kernel, [(t, expr(e)) for t, e in reads], (row[0], expr(row[1])))
            case ("send", c, es):
                return ("send", c, [expr(e) for e in es])
            case ("recv", c, ns):
                return ("recv", c, [n + suffix for n in ns])
            case ("consume", c, ns, body):
                return ("consume", c, [n + suffix for n in ns], renamed_all(body))
            case ("for", n, times, body):
                return ("for", n + suffix, times, renamed_all(body))
            case ("if", body):
                return ("if", renamed_all(body))
            case ("set", slot, e):
                return ("set", slot, expr(e))
            case ("get", slot, n):
                return ("get", slot, n + suffix)
            case _:
                return op

    def renamed_all(body: list[Op]) -> list[Op]:
        return [one(op) for op in body]

    return renamed_all(ops)


def _bound(op: Op) -> list[str]:
    match op:
        case ("recv", _, names) | ("consume", _, names, _):
            return list(names)
        case ("for", name, _, _):
            return [name]
        case ("get", _, name):
            return [name]
        case _:
            return []


def _sub(e: str, names: Mapping[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda m: names.get(m[0], m[0]), e)


class _Text:
    def __init__(self, net: Net) -> None:
        self.net = net
        self.count = itertools.count()

    def all(self) -> str:
        net = self.net
        tensors = sorted(
            {t for ops in net.processes.values() for op in walk(ops) if op[0] == "task" for t, _ in [*op[2], op[3]]}
        )
        rows = ["workload w {", *(f"  symbol ${n}" for n in net.sizes)]
        rows += [f"  tensor {t}: i64[{ROWS},1,1]" for t in tensors] + ["  tensor D: i64[4]"]
        rows += [*(f"  tensor {n}: i64[{len(numbers)}]" for n, numbers in net.tables.items()), KERNELS]
        rows.append(f'pipeline[name="net", timed={str(net.timed).lower()}] {{')
        for name, c in net.channels.items():
            depth = "" if c.depth is None else f"depth={c.depth}, "
            said = f'{depth}initial={c.initial}, latency={c.latency}, name="{name}", response={c.response}'
            rows.append(f"{name}: channel<{', '.join(['i64'] * c.fields)}> = channel[{said}]")
        for name in net.processes:
            ends = [" ".join(f'"{c}"' for c in net.ends(name, k)) for k in (TAKES, GIVES)]
            replica = f', replica="{net.replicas[name]}"' if name in net.replicas else ""
            rows.append(f'process[consumes=[{ends[0]}], name="{name}", produces=[{ends[1]}]{replica}] {{')
            rows += self.ops(net.processes[name])
            rows.append("}")
        return "\n".join([*rows, "}", "}"])

    def ops(self, ops: list[Op]) -> Iterator[str]:
        for op in ops:
            yield from self.op(op)

    def op(self, op: Op) -> Iterator[str]:
        match op:
            case ("task", kernel, reads, (tensor, row)):
                x = "".join(f"x={t}[{e}, 0 :+ 1, 0 :+ 1], " for t, e in reads)
                s = {"put": f"s=({row}), ", "fill": "s=(1), "}.get(kernel, "")
                yield f"task {'put' if kernel == 'fill' else kernel}[]({x}{s}y={tensor}[{row}, 0 :+ 1, 0 :+ 1])"
            case ("send", c, es):
                yield f"send {c} " + " ".join(f"({e})" for e in es)
            case ("recv", c, ns):
                outs = ", ".join(f"{n}: i64" for n in ns)
                yield f"{outs} = recv {c}" if outs else f"recv {c}"
            case ("consume", c, ns, body):
                yield f"consume {c}{' as ' + ', '.join(ns) if ns else ''} {{"
                yield from self.ops(body)
                yield "}"
            case ("close", c):
                yield f"close {c}"
            case ("item", n, table, e):
                yield f"{n}: i64 = item {table}[{e}]"
            case ("try", c, es):
                yield f"t{next(self.count)}: bool = try_send {c} " + " ".join(f"({e})" for e in es)
            case ("for", n, times, body):
                size = f"${times}" if times in self.net.sizes else times
                yield f"seq_for {n} in {n}: Range({size}) {{"
                yield from self.ops(body)
                yield "}"
            case ("if", body):
                n = next(self.count)
                yield f"d{n}: i64 = item D[0]"
                yield f"b{n}: bool = s.gt d{n} 0:i64"
                yield f"cond b{n} {{"
                yield "then {"
                yield from self.ops(body)
                yield "}"
                yield "}"
            case ("set", slot, e):
                yield f"slot_set[slot={slot}] ({e})"
            case ("get", slot, n):
                yield f"{n}: i64 = slot_get[slot={slot}]"
            case _:
                raise AssertionError(op)


def without_what_data_asks_for(net: Net) -> Net:
    """As it runs where data says no."""

    def ops(body: list[Op]) -> list[Op]:
        return [(*op[:-1], ops(op[-1])) if op[0] in ("for", "consume") else op for op in body if op[0] != "if"]

    return replace(net, processes={n: ops(body) for n, body in net.processes.items()})


# what can happen


@dataclass
class Outcome:
    """Of one order: who has not ended when nothing goes on, or after `MOST_STEPS`, whether two processes raced, and what is in the tensors."""

    blocked: list[str]
    races: bool
    values: dict[tuple[str, int], int]


Clock = tuple[int, ...]


class Run:
    """One run of a network in an order that `rng` decides, with vector clocks of whole processes."""

    def __init__(self, net: Net, rng: random.Random) -> None:
        self.net, self.rng = net, rng
        self.names = list(net.processes)
        self.clock = {n: [0] * len(self.names) for n in self.names}
        self.queue: dict[str, list[tuple[list[int], list[int]]]] = {}
        self.taken: dict[str, list[list[int]]] = {}
        self.sent: dict[str, int] = {}
        self.over: dict[str, dict[str, list[int]]] = {c: {} for c in net.channels}
        for c, x in net.channels.items():
            self.queue[c] = [([k] * x.fields, [0] * len(self.names)) for k in range(x.initial)]
            self.taken[c], self.sent[c] = [], x.initial
        self.producers = {c: [n for n in self.names if c in net.ends(n, ("send", "close"))] for c in net.channels}
        self.values: dict[tuple[str, int], int] = {}
        self.seen: dict[tuple[str, int], list[tuple[str, bool, list[int]]]] = {}
        self.races = False

    def outcome(self) -> Outcome:
        bodies = {n: self.body(n, self.net.processes[n], {}, {}) for n in self.names}
        wants: dict[str, Any] = {n: next(b, None) for n, b in bodies.items()}
        for n, w in wants.items():
            if w is None:
                self.ends(n)
        for _ in range(MOST_STEPS):
            able = [n for n, w in wants.items() if w is not None and self.can(n, w, wants)]
            if not able:
                break
            n = self.rng.choice(able)
            for m, reply in self.act(n, wants[n], wants):
                try:
                    wants[m] = bodies[m].send(reply)
                except StopIteration:
                    wants[m] = None
                    self.ends(m)
        return Outcome([n for n, w in wants.items() if w is not None], self.races, self.values)

    def ends(self, n: str) -> None:
        for c, producers in self.producers.items():
            if n in producers:
                self.over[c].setdefault(n, self.tick(n))

    def tick(self, n: str) -> list[int]:
        """What is before whoever hears of this."""
        out = list(self.clock[n])
        k = self.names.index(n)
        out[k] += 1
        self.clock[n] = list(out)
        return out

    def join(self, n: str, past: list[int]) -> None:
        self.clock[n] = list(map(max, self.clock[n], past))

    def closed(self, c: str) -> bool:
        return not self.queue[c] and all(p in self.over[c] for p in self.producers[c])

    def partners(self, n: str, want: Any, wants: Mapping[str, Any]) -> list[str]:
        kinds = ("recv", "consume") if want[0] == "send" else ("send",)
        return [m for m, w in wants.items() if w is not None and m != n and w[0] in kinds and w[1] == want[1]]

    def can(self, n: str, want: Any, wants: Mapping[str, Any]) -> bool:
        kind, c = want[0], want[1]
        if kind == "close":
            return True
        depth = self.net.channels[c].depth
        if kind == "consume" and self.closed(c):
            return True
        if depth == 0:
            return bool(self.partners(n, want, wants))
        return (
            len(self.queue[c]) < depth
            if kind == "send" and depth is not None
            else kind == "send" or bool(self.queue[c])
        )

    def act(self, n: str, want: Any, wants: Mapping[str, Any]) -> list[tuple[str, Any]]:
        kind, c = want[0], want[1]
        depth = self.net.channels[c].depth
        if kind == "close":
            self.over[c][n] = self.tick(n)
            return [(n, None)]
        if kind == "consume" and self.closed(c):
            for past in self.over[c].values():
                self.join(n, past)
            return [(n, None)]
        if depth == 0:
            m = self.rng.choice(self.partners(n, want, wants))
            s, r = (n, m) if kind == "send" else (m, n)
            a, b = self.tick(s), self.tick(r)
            self.join(s, b)
            self.join(r, a)
            return [(s, None), (r, wants[s][2])]
        if kind == "send":
            k = self.sent[c]
            self.sent[c] += 1
            if depth is not None and k >= depth:
                self.join(n, self.taken[c][k - depth])
            self.queue[c].append((want[2], self.tick(n)))
            return [(n, None)]
        token, past = self.queue[c].pop(0)
        self.join(n, past)
        self.taken[c].append(self.tick(n))
        return [(n, token)]

    def body(self, n: str, ops: list[Op], env: dict[str, int], slots: dict[int, int]) -> Iterator[Any]:
        for op in ops:
            match op:
                case ("task", kernel, reads, (tensor, row)):
                    self.task(n, kernel, [(t, value(e, env)) for t, e in reads], (tensor, value(row, env)))
                case ("send", c, es):
                    yield ("send", c, [value(e, env) for e in es])
                case ("recv", c, ns):
                    env.update(zip(ns, (yield ("recv", c)), strict=True))
                case ("consume", c, ns, body):
                    while (token := (yield ("consume", c))) is not None:
                        env.update(zip(ns, token, strict=True))
                        yield from self.body(n, body, env, slots)
                case ("close", c):
                    yield ("close", c)
                case ("item", name, table, e):
                    env[name] = self.net.tables[table][value(e, env)]
                case ("for", name, times, body):
                    for i in range(self.net.sizes[times] if times in self.net.sizes else value(times, env)):
                        env[name] = i
                        yield from self.body(n, body, env, slots)
                case ("if", body):
                    yield from self.body(n, body, env, slots)
                case ("set", slot, e):
                    slots[slot] = value(e, env)
                case ("get", slot, name):
                    env[name] = slots.get(slot, 0)
                case _:
                    raise AssertionError(op)

    def task(self, n: str, kernel: str, reads: list[tuple[str, int]], row: tuple[str, int]) -> None:
        given = [self.values.get(r, 0) for r in reads]
        old = self.values.get(row, 0)
        self.values[row] = {"fill": 1, "put": 7 * row[1] + 1, "copy": sum(given) + 1, "fold": 5 * old + sum(given) + 1}[
            kernel
        ] % 2**64
        now = self.clock[n]
        for element, writes in [*((r, False) for r in reads), (row, True)]:
            for m, wrote, then in self.seen.get(element, ()):
                k = self.names.index(m)
                if m != n and (wrote or writes) and now[k] <= then[k]:
                    self.races = True
            self.seen.setdefault(element, []).append((n, writes, list(now)))


FUNCTIONS: dict[str, Any] = {"mod": lambda a, b: a % b, "floordiv": lambda a, b: a // b}


def value(e: str | int, env: Mapping[str, int]) -> int:
    """The number that an expression is."""
    return e if isinstance(e, int) else int(eval(_compiled(e), FUNCTIONS, env))


@cache
def _compiled(e: str) -> Any:
    return compile(e, e, "eval")


@dataclass(frozen=True)
class Truth:
    """What there is in some order of a network: processes that wait for ever, races, and other values than in another order; and
    whether two processes share an end that are no replicas."""

    blocked: bool
    races: bool
    differs: bool
    strangers: bool

    @property
    def unsafe(self) -> bool:
        return self.blocked or self.races or self.differs or self.strangers


def shares(net: Net) -> Iterator[list[str]]:
    """Of channels that several processes send to or receive from, these."""
    for c in net.channels:
        for kinds in (("send",), ("recv", "consume")):
            users = [n for n in net.processes if c in net.ends(n, kinds)]
            if len(users) > 1:
                yield users


def truth(net: Net, seed: int) -> Truth:
    """By running it: in a few orders where none decides anything, in many where processes share ends."""
    shared = list(shares(net))
    strangers = not net.timed and any(len({net.replicas.get(n, n) for n in users}) > 1 for users in shared)
    runs = [Run(net, random.Random(f"{seed} {k}")).outcome() for k in range(40 if shared else 2)]
    blocked = {bool(o.blocked) for o in runs}
    assert len(blocked) == 1 or shared
    differs = not net.timed and any(o.values != runs[0].values for o in runs if not o.blocked and not runs[0].blocked)
    return Truth(any(blocked), any(o.races for o in runs), differs, strangers)


def truth_of_sizes(net: Net, seed: int, most: int = 6) -> Truth:
    """What there is for some sizes."""
    found = [
        truth(replace(net, sizes=dict.fromkeys(net.sizes, n)), seed)
        for n in (range(1, most + 1) if net.sizes else (0,))
    ]
    return Truth(*(any(x) for x in zip(*((t.blocked, t.races, t.differs, t.strangers) for t in found), strict=True)))


def as_model(net: Net) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """A constant network for `models/cspt.py`: processes and channels."""

    def ops(body: list[Op], cycles: Mapping[str, int]) -> Iterator[list[Any]]:
        for op in body:
            match op:
                case ("task", kernel, _, _):
                    yield ["work", cycles["put" if kernel == "fill" else kernel]]
                case ("for", _, n, inner):
                    yield ["repeat", n, list(ops(inner, cycles))]
                case ("consume", c, _, inner):
                    yield ["consume", c, list(ops(inner, cycles))]
                case ("send" | "recv" | "close" as kind, c, *_):
                    yield [kind, c]
                case _:
                    pass

    processes = [{"name": n, "ops": list(ops(body, CYCLES))} for n, body in net.processes.items()]
    channels = {
        n: {"capacity": c.depth, "latency": c.latency, "response": c.response, "initial": c.initial}
        for n, c in net.channels.items()
    }
    return processes, channels


# running


def cycles_of(wir: Wir) -> dict[str, int]:
    """Of tasks on the arch, by kernel."""
    valid = {f"{p}.{k}": 1 for p in "xy" for k in ("rows", "cols")}
    return {k.label: kernel_cost(wir.kernel(k.name), ARCH, valid) for k in wir.kernels}


def program_of(net: Net, wir: Wir, threads: int, asked: int = 1) -> Program:
    """Nothing of it is proved. `asked`: the data that conditions ask for."""
    program = Program(get("cpu_sim").compile(wir, ARCH, {}), threads)
    tensors = {v.name: wir.tensor_type(v.name) for v in wir.tensors}
    given = {n: np.zeros([d.const for d in t.shape], np.int64) for n, t in tensors.items()}
    given |= {n: np.array(numbers) for n, numbers in net.tables.items()} | {"D": np.full(4, asked)}
    for name, n in net.sizes.items():
        program.set_symbol_u64(name, n)
    return program.bind(given)


def outcome(program: Program) -> PtoError | None:
    """What goes wrong in a run."""
    try:
        program.run()
    except PtoError as e:
        return e
    return None
