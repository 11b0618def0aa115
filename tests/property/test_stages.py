"""Loops and functions as pipelines of their stages: random chains of stages compute the same bits and take the cycles of the model."""

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from models import cspt
from pto_wsp import (
    DenseDyn,
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    Tensor,
    TensorSpec,
    Tile,
    Workload,
    arch,
    empty,
    item,
    kernel,
    pipeline,
    pto,
    workload,
)
from pto_wsp.arch.cost import kernel_cost
from pto_wsp.ir.core import Wir
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.proofs.verdict import verdicts

R, C = 4, 3
DTYPES = (DType.F32, DType.F16, DType.BF16, DType.I32, DType.I64)
Arrays = dict[str, np.ndarray[Any, Any]]


def kernels(t: DType) -> dict[str, Any]:
    @kernel
    def take(x: In[Tile[R, C, t]], out: Out[Tile[R, C, t]]):
        pto.store(out, x)

    @kernel
    def sub(x: In[Tile[R, C, t]], y: In[Tile[R, C, t]], out: Out[Tile[R, C, t]]):
        pto.store(out, x - y)

    @kernel
    def bump(x: InOut[Tile[R, C, t]], s: Scalar[DType.I64]):
        pto.store(x, x + pto.cast(pto.full((R, C), 0, DType.I64) + s, t))

    @kernel
    def row(x: InOut[Tile[1, C, t]]):
        pto.store(x, x + x)

    return {"take": take, "sub": sub, "bump": bump, "row": row}


class Chain:
    """A loop over tiles of x, or over blocks of x whose number is known at the run, and statements that its body has.

    w0 .. w3 are temporaries of all iterations, t0 .. t2 of one, which only whole tiles have.
    """

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.t = rng.choice(DTYPES)
        self.dynamic = rng.random() < 0.4
        self.sequential = rng.random() < 0.5
        self.count = rng.choice((0, 1, 1, 2, 4, 6, 7))
        self.tail = 0 if self.dynamic or not self.count else rng.randrange(R)
        self.depth = rng.randint(1, 8)
        numbers = np.random.default_rng(seed)
        shape = (self.count, R, C) if self.dynamic else (self.count * R - self.tail, C)
        x = numbers.integers(0, 8, shape).astype(np.float32).astype(self.t.numpy)
        n = numbers.integers(0, 3, (self.count + 1,)).astype(np.int32)
        self.arrays = {"x": x, "y": np.zeros_like(x), "acc": np.zeros((R, C), x.dtype), "n": n}
        self.statements = list(self._drawn(rng))

    def _drawn(self, rng: random.Random) -> Any:
        fresh = ["w0", "w1", "w2", "w3", *(() if self.tail else ("t0", "t1", "t2"))]
        rng.shuffle(fresh)
        have, own = ["x"], []
        scalars, kept = 0, False
        for _ in range(rng.randint(1, 5)):
            kind = rng.choice(("take", "take", "sub", "sub", "bump", "rows", "when", "acc", "item"))
            if kind in ("take", "sub") and fresh:
                to = fresh.pop()
                yield (kind, to, rng.choice(have), rng.choice(have))
                have.append(to)
                own.append(to)
            elif kind == "take" and own:
                yield ("sub", rng.choice(own), "x", "x")  # again: what it held before is gone
            elif kind in ("bump", "when") and own:
                if not scalars or rng.random() < 0.5:
                    yield ("item",)
                    scalars += 1
                yield (kind, rng.choice(own), rng.randrange(scalars))
            elif kind == "rows" and (blocks := [w for w in own if self.dynamic or w[0] == "t"]):
                yield (kind, rng.choice(blocks))
            elif kind == "acc" and self.sequential and not kept:
                kept = True
                yield (kind, "acc")
            elif kind == "item":
                yield ("item",)
                scalars += 1
        yield ("sub", "y", rng.choice(have), rng.choice(have))
        if not self.tail and rng.random() < 0.3:
            yield ("item",)
            yield ("bump", "y", scalars)

    def fresh(self) -> Arrays:
        return {n: a.copy() for n, a in self.arrays.items()}

    def workload(self, arrays: Arrays) -> Workload:
        k = kernels(self.t)
        axis = DenseDyn(self.count, name="count")

        @workload
        def chain(x: Any, y: Any, acc: Any, n: Any) -> None:
            shape = (axis, R, C) if self.dynamic else x.shape
            over = axis if self.dynamic else x.tiles(R)
            whole = {f"w{j}": empty(shape, self.t, name=f"w{j}") for j in range(4)}
            for i in P.seq(over) if self.sequential else P(over):
                parts: dict[str, Any] = {m: a[i] for m, a in {"x": x, "y": y, **whole}.items()}
                parts |= {f"t{j}": empty((R, C), self.t, name=f"t{j}") for j in range(3)} | {"acc": acc}
                self._body(k, parts, i, n)

        return chain(**{m: Tensor(a, name=m) for m, a in arrays.items()})

    def _body(self, k: dict[str, Any], parts: dict[str, Any], i: Any, n: Any) -> None:
        scalars: list[Any] = []
        for what, *rest in self.statements:
            views = [parts[r] for r in rest if isinstance(r, str)]
            match what:
                case "item":
                    scalars.append(item(n[i + 0]) * 2 - len(scalars))
                case "take":
                    k["take"][i](out=views[0], x=views[1])
                case "sub":
                    k["sub"][i](out=views[0], x=views[1], y=views[2])
                case "acc":
                    k["bump"][i](x=views[0], s=i)
                case "bump":
                    k["bump"][i](x=views[0], s=scalars[rest[1]] + i)
                case "when":
                    with P.when(scalars[rest[1]] > 1):
                        k["bump"][i](x=views[0], s=scalars[rest[1]])
                case _:
                    for r in P(R):
                        k["row"][i, r](x=views[0][r : r + 1])


def meant(wir: Wir, case: Chain) -> Arrays:
    arrays = case.fresh()
    evaluate(wir, {v.name: arrays[v.name] for v in wir.tensors if v.name in arrays}, {"count": case.count})
    return arrays


def bits(arrays: Arrays) -> dict[str, bytes]:
    return {n: a.tobytes() for n, a in arrays.items()}


@pytest.mark.parametrize("seed", range(120))
def test_stages_compute_the_bits_of_the_loop(seed: int) -> None:
    case = Chain(seed)
    arrays = case.fresh()
    plain = case.workload(arrays)
    stages = sum(what != "item" for what, *_ in case.statements)
    if stages < 2:
        return
    want = bits(meant(plain.wir, case))
    piped = plain.pipeline_loop(loop="i", depth=case.depth)
    wir = piped.wir
    verify(wir)
    assert parse(show(wir)) == wir
    assert sum(e.prim == "process" for top in wir.body.eqns for e in top.walk()) == stages
    assert bits(meant(wir, case)) == want
    p = piped.compile(threads=1 + seed % 3)
    p.run()
    assert bits(arrays) == want
    assert p.simulate() == p.stats.semantic


@pytest.mark.parametrize("seed", range(60))
def test_stages_are_proved_ordered_and_free_of_deadlocks(seed: int) -> None:
    case = Chain(seed)
    if sum(what != "item" for what, *_ in case.statements) < 2:
        return
    (found,) = verdicts(case.workload(case.fresh()).pipeline_loop(loop="i", depth=case.depth).wir)
    # where only the run knows how many tokens there are, a stage that writes what an earlier one wrote is not proved to come behind it
    twice = sum("y" in rest[:1] for _, *rest in case.statements) > 1
    assert found.kind == "safe" or (case.dynamic and twice and found.kind == "unknown"), found


# functions


def _function(k: dict[str, Any], t: DType, label: str, kind: str, takes: int, gives: int) -> Any:
    """A stage: of `takes` tensors `gives` tensors, tile by tile."""

    def emit(*xs: Any) -> Any:
        over = xs[0].shape[0] if kind == "dynamic" else xs[0].tiles(R)
        out = [empty(xs[0].shape, t) for _ in range(gives)]
        for i in P.seq(over) if kind == "seq" else P(over):
            for j, y in enumerate(out):
                a = xs[(j + 1) % takes][i]
                if kind == "dynamic":
                    half = empty((R, C), t)
                    k["take"][i](x=a, out=half)
                    a = half
                k["sub"][i](x=a, y=xs[0][i], out=y[i])
        return tuple(out) if gives > 1 else out[0]

    if takes == 1:

        @workload(name=label)
        def one(x: Any) -> Any:
            return emit(x)

        return one

    @workload(name=label)
    def two(x: Any, y: Any) -> Any:
        return emit(x, y)

    return two


@pytest.mark.parametrize("seed", range(40))
def test_functions_as_stages_give_the_bits_of_their_composition(seed: int) -> None:
    rng = random.Random(seed)
    t, dynamic = rng.choice(DTYPES), rng.random() < 0.4
    count = rng.choice((0, 1, 2, 5))
    axis = DenseDyn(count, name="count")
    widths = [1, *(rng.randint(1, 2) for _ in range(rng.randint(1, 4))), 1]
    k = kernels(t)
    kind = "dynamic" if dynamic else rng.choice(("seq", "P"))
    parts = [_function(k, t, f"f{n}", kind, a, b) for n, (a, b) in enumerate(pairwise(widths))]
    rows = count * R - (rng.randrange(R) if count and not dynamic else 0)
    x = np.random.default_rng(seed).integers(0, 9, (count, R, C) if dynamic else (rows, C)).astype(np.float32)
    x = x.astype(t.numpy)
    given = TensorSpec((axis, R, C), t, name="x") if dynamic else Tensor(x, name="x")

    @workload
    def plain(x: Any) -> Any:
        values: Any = (x,)
        for f in parts:
            made = f(*values)
            values = made if isinstance(made, tuple) else (made,)
        return values[0]

    wanted, piped = plain(given), pipeline(*parts, depth=rng.randint(1, 8))(given)
    verify(piped.wir)
    assert parse(show(piped.wir)) == piped.wir
    (want,) = evaluate(wanted.wir, {"x": x}, {"count": count}).values()
    (found,) = evaluate(piped.wir, {"x": x}, {"count": count}).values()
    assert found.tobytes() == want.tobytes()
    p = piped.compile(threads=1 + seed % 3).bind({"x": x})
    assert p.run().results.tobytes() == want.tobytes()
    assert {v.kind for v in verdicts(piped.wir)} == {"safe"}


# time


class Timed:
    """A chain of copies with different costs, some of which skip stages, and the model's network of it."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.count, self.depth = rng.randint(0, 9), rng.randint(1, 8)
        stages = rng.randint(2, 6)
        # what each stage reads: the tensor of an earlier one, or x
        self.reads = [[rng.randrange(-1, k) for _ in range(rng.randint(1, 2))] if k else [-1] for k in range(stages)]
        self.steps = [rng.choice((1, 2, 2, 9)) for _ in range(stages)]

    def workload(self) -> Workload:
        made_of = [self._kernel(c, len(r)) for c, r in zip(self.steps, self.reads, strict=True)]

        @workload
        def timed(x: Any, y: Any) -> None:
            for i in P(self.count):
                made: dict[int, Any] = {-1: x[i]}
                for k, (f, reads) in enumerate(zip(made_of, self.reads, strict=True)):
                    made[k] = y[i] if k == len(made_of) - 1 else empty((R, C), DType.F32)
                    f[i](**{f"x{j}": made[r] for j, r in enumerate(reads)}, out=made[k])

        x = np.zeros((self.count, R, C), np.float32)
        return timed(Tensor(x, name="x"), Tensor(x.copy(), name="y"))

    @staticmethod
    def _kernel(steps: int, reads: int) -> Any:
        t = DType.F32
        if reads == 1:

            @kernel
            def one(x0: In[Tile[R, C, t]], out: Out[Tile[R, C, t]]):
                for _ in range(steps):
                    x0 = pto.exp(x0)
                pto.store(out, x0)

            return one

        @kernel
        def two(x0: In[Tile[R, C, t]], x1: In[Tile[R, C, t]], out: Out[Tile[R, C, t]]):
            for _ in range(steps):
                x0 = pto.exp(x0)
            pto.store(out, x0 + x1)

        return two

    @staticmethod
    def costs(wir: Wir) -> list[int]:
        """Cycles of each stage."""
        whole = {f"{p}.{k}": n for p in ("x0", "x1", "out") for k, n in (("rows", R), ("cols", C))}
        return [kernel_cost(wir.kernel(str(t.params["kernel"])), arch.get(None), whole) for t in wir.tasks()]

    def model(self, costs: list[int]) -> int:
        """Each stage takes a token, and a buffer of each lot that begins with it; works; sends; and gives back what ends with it."""
        n = len(costs)
        last = {r: k for k, reads in enumerate(self.reads) for r in reads if r >= 0}
        lots = sorted(set(last.items()))
        processes: list[Any] = []
        for k, cost in enumerate(costs):
            ops: list[Any] = [["recv", f"free{lot}"] for lot in lots if lot[0] == k]
            ops += [["work", cost], *([["send", f"full{k}"]] if k < n - 1 else [])]
            ops += [["send", f"free{lot}"] for lot in lots if lot[1] == k]
            around = ["repeat", self.count, ops] if k == 0 else ["consume", f"full{k - 1}", ops]
            processes.append({"name": f"p{k}", "ops": [around]})
        plain = {"capacity": self.depth, "latency": 0, "response": 0}
        channels = {f"full{k}": plain | {"initial": 0} for k in range(n - 1)}
        channels |= {f"free{lot}": plain | {"initial": self.depth} for lot in lots}
        return cspt.simulate(processes, channels)["total"]


@pytest.mark.parametrize("seed", range(60))
def test_stages_take_the_cycles_of_the_model(seed: int) -> None:
    case = Timed(seed)
    plain = case.workload()
    p = plain.pipeline_loop(loop="i", depth=case.depth).compile(threads=1)
    assert p.simulate().total_cycles == case.model(case.costs(plain.wir))


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_three_stages_of_equal_costs_take_the_closed_form(depth: int, count: int) -> None:
    case = Timed(0)
    case.count, case.reads, case.steps = count, [[-1], [0], [1]], [2, 2, 2]
    plain = case.workload()
    (cost,) = set(case.costs(plain.wir))
    p = plain.pipeline_loop(loop="i", depth=depth).compile(threads=2)
    # with one buffer neighbours take turns: each pair of them needs it for two costs an iteration
    rounds = count + 2 if depth > 1 else 2 * count + 1
    assert p.run().stats.total_cycles == p.simulate().total_cycles == (rounds * cost if count else 0)
