"""Transformations as values: a list of functions, folded over a workload, and the same list over another one.

`fuse`, `vmap`, `tile`, `dispatch`, `pipeline_loop` take a workload function and give one, so a schedule is a list of functions, and applying
it is `functools.reduce`. After each step the workload runs: its results are those of the workload as it was written, bit for bit, and
lie within a bound of float64; what changes is the number of tasks and the cycles.

swiglu     silu(h w1) * (h w3), h = rmsnorm(x): 4 items, which `vmap` adds
attention  each query sees all keys of its sequence, lengths are ragged, and the result is gated: 4 heads, which `vmap` adds

In both, the body of a loop over i prepares something, and then runs three tasks for each j. That is all that the list knows of them.
`auto_schedule` goes on from where it ends. README.md derives the cycles.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import accumulate
from typing import Any

import numpy as np

from pto_wsp import (
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Program,
    PtoError,
    Ragged,
    Tensor,
    Value,
    Workload,
    auto_schedule,
    dispatch,
    empty,
    empty_like,
    fuse,
    jit,
    kernel,
    pipeline_loop,
    pto,
    tile,
    vmap,
    workload,
)
from pto_wsp.tools.bounds import EXP, Array, Estimate, U, compare
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

ITEMS, SEQ, HIDDEN, FFN = 4, 256, 512, 1408
LENGTHS, DIM = (512, 77, 300, 129), 64
ROWS, COLS = 64, 128  # rows of a tile, columns of a product
EPS = 1e-5
ARCH, LANES = "ascend_a2a3", 4
F32 = DType.F32
CYCLES: Mapping[str, Mapping[str, int]] = {
    "swiglu": {
        "given": 1_029_952,
        "fuse": 836_044,
        "vmap": 3_344_176,
        "tile": 3_344_176,
        "dispatch": 836_044,
        "auto": 836_044,
        "pipeline": 410_223,
    },
    "attention": {
        "given": 331_423,
        "fuse": 317_739,
        "vmap": 1_270_956,
        "tile": 1_270_956,
        "dispatch": 421_638,
        "auto": 318_042,
        "pipeline": 208_820,
    },
}


@kernel
def norm(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rmsnorm(x, weight, EPS))


@kernel
def project(x: In[Tensor], w: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(x, w))


@kernel
def swish(gate: In[Tensor], up: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.silu(gate) * up)


@workload
def swiglu(x: Tensor, weight: Tensor, w1: Tensor, w3: Tensor):
    """x [seq, hidden]; [seq, ffn]."""
    h, y = empty_like(x), empty((x.shape[0], w1.shape[1]), F32)
    gate, up = empty_like(y), empty_like(y)
    for i in P(x.tiles(ROWS)):
        norm[i](x=x[i], weight=weight, out=h[i])
        for j in P(y[0].tiles(COLS)):
            project[i, j](x=h[i], w=w1[:, j], out=gate[i, j])
            project[i, j](x=h[i], w=w3[:, j], out=up[i, j])
            swish[i, j](gate=gate[i, j], up=up[i, j], out=y[i, j])
    return y


@kernel
def attend(q: In[Tensor], k: In[Tensor[None, None, DType.F32]], v: In[Tensor[None, None, DType.F32]], out: Out[Tensor]):
    """q, out [ROWS, dim]; k, v [keys, dim]."""
    (rows, _), dim = pto.valid_shape(q), q.shape[1]
    query = q * (1 / math.sqrt(dim))

    def step(j: Value, carry: tuple[Value, Value, Value]) -> tuple[Value, Value, Value]:
        peak, total, acc = carry
        keys, values = (pto.load(x, (j * ROWS, 0), (ROWS, dim)) for x in (k, v))
        s = pto.matmul(query, keys, transpose_b=True)
        new_peak = pto.maximum(peak, pto.rowmax(s))
        p, shrink = pto.exp(s - new_peak), pto.exp(peak - new_peak)
        return new_peak, total * shrink + pto.rowsum(p), pto.matmul(p, values, acc=acc * shrink)

    nothing = pto.full((ROWS, 1), -math.inf), pto.full((ROWS, 1), 0.0), pto.full((ROWS, dim), 0.0)
    _, total, acc = pto.fori_loop(0, (k.shape[0] + (ROWS - 1)) // ROWS, step, nothing)
    pto.store(out, pto.restrict(acc / total, rows, dim))  # as many rows as q has, or nothing could be fused behind it


@kernel
def gated(x: In[Tensor], gate: In[Tensor], out: Out[Tensor]):
    pto.store(out, x * pto.sigmoid(gate))


@workload
def attention(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, weight: Tensor, lengths: Tensor):
    """One head. q, k, v, gate [sequences, longest, dim], of which sequence i has lengths[i] positions; so has the result."""
    queries, keys, found, y = (empty_like(q) for _ in range(4))
    positions = Ragged(q.shape[0], lengths)
    for i in P(q.shape[0]):
        n = positions[i]
        for t in P(n.tiles(ROWS)):
            norm[i, t](x=k[i, t], weight=weight, out=keys[i, t])
        for j in P(n.tiles(ROWS)):
            norm[i, j](x=q[i, j], weight=weight, out=queries[i, j])
            attend[i, j](q=queries[i, j], k=keys[i, :n], v=v[i, :n], out=found[i, j])
            gated[i, j](x=found[i, j], gate=gate[i, j], out=y[i, j])
    return y


Step = Callable[[Any], Any]
"""From a workload function to a workload function."""


def steps(mapped: Sequence[str]) -> dict[str, Step]:
    """mapped: the parameters that have an item in front."""
    return {
        "fuse": fuse(loop="j"),
        "vmap": partial(vmap, in_axes=dict.fromkeys(mapped, 0), axis_name="item"),
        "tile": tile(sizes={"item": 2, "i": 2}),
        "dispatch": dispatch(DispatchPolicy.dispatch_by(lambda t: 2 * t.item_o + t.i_o, LANES)),
    }


PIPELINE = pipeline_loop(loop="i_i", depth=2)
"""In the place of the dispatch: of each item in each block, what is prepared and the tasks of j, as two processes."""

ALONE = dispatch(DispatchPolicy.round_robin(1))
"""Where tasks have no place yet, cycles are those on one lane."""


def folded(f: Any, functions: Iterable[Step]) -> Any:
    return reduce(lambda g, step: step(g), functions, f)


@dataclass(frozen=True)
class Work:
    """A workload function, and arguments for all items at once. mapped: the parameters that have an item in front."""

    function: Any
    mapped: tuple[str, ...]
    arguments: Mapping[str, Array]

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def items(self) -> int:
        return len(self.arguments[self.mapped[0]])

    def item(self, k: int) -> dict[str, Array]:
        """The arguments of one item."""
        return {n: x[k] if n in self.mapped else x for n, x in self.arguments.items()}


def swiglu_estimate(x: Array, weight: Array, w1: Array, w3: Array) -> Estimate:
    h = Estimate.exact(x).rmsnorm(EPS) * Estimate.exact(weight)
    return (h @ Estimate.exact(w1)).silu() * (h @ Estimate.exact(w3))


def attention_estimate(q: Array, k: Array, v: Array, gate: Array, weight: Array, lengths: Array) -> Estimate:
    value, variance = np.zeros(q.shape), np.zeros(q.shape)  # 0 beyond the lengths: nothing writes there
    for i, n in enumerate(lengths):
        if n:
            found = attended(*(x[i, :n] for x in (q, k, v, gate)), weight)
            value[i, :n], variance[i, :n] = found.value, found.variance
    return Estimate(value, variance)


def attended(q: Array, k: Array, v: Array, gate: Array, weight: Array) -> Estimate:
    """One sequence, [length, dim] each."""
    queries, keys = (Estimate.exact(x).rmsnorm(EPS) * Estimate.exact(weight) for x in (q, k))
    s = (queries @ keys.transposed()).scaled(1 / math.sqrt(q.shape[1]))
    # The weight of a key is exp(s - peak at its tile), times exp(peak - new peak) for each later tile: the distances add up to
    # `below`, each is rounded once, and each tile costs an exponential and a product.
    below = s.value.max(axis=1, keepdims=True) - s.value
    tiles = -(-len(k) // ROWS)
    p = np.exp(-below)
    weights = Estimate(p, p**2 * (s.variance + U**2 * (below**2 + (1 + tiles) * (EXP**2 + 1))))
    open_ = 1 / (1 + np.exp(-gate.astype(np.float64)))
    return (weights @ Estimate.exact(v)) / weights.rowsum() * Estimate.exact(gate).through(open_, open_, EXP + 2)


ESTIMATES = {"swiglu": swiglu_estimate, "attention": attention_estimate}


def estimate(work: Work) -> Estimate:
    """Of all items, in float64, with how far f32 may lie from it."""
    found = [ESTIMATES[work.name](**work.item(k)) for k in range(work.items)]
    return Estimate(np.stack([e.value for e in found]), np.stack([e.variance for e in found]))


def golden(work: Work) -> Array:
    """In float64."""
    return estimate(work).value


def same(a: Array, b: Array) -> bool:
    """Bit for bit."""
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def cores(program: Program) -> int:
    """Lanes, or processes of pipelines, of which each has a core."""
    processes = program.copy().enable_tracing().run().trace.pipelines
    return 2 * len(processes) or program.stats.lanes


def searched(w: Workload) -> tuple[Workload, str]:
    """What `auto_schedule` makes of it, and its table."""
    found, table = auto_schedule(w, arch=ARCH)
    return found, str(table)


SHORT = (
    (r"\n  kernel .*?\n  }(?=\n)", ""),
    (r"\n  (tensor|temporary|result|return|ragged) .*", ""),
    (r"task(\[.*\])? (\w+\[[^]]*\])\(.*", r"task \2(...)"),
    (r'process\[.*name="(\w+)".*', r"process \1 {"),
    (r"channel<.*depth=(\d+).*", r"channel of depth \1"),
    (r'(, pinned=true)?, policy="(?!work_steal)\w+"', ""),
)


def loops(w: Workload) -> tuple[str, ...]:
    """The body of the wir, without kernels and what tasks take."""
    text = str(w)
    for pattern, short in SHORT:
        text = re.sub(pattern, short, text, flags=re.DOTALL if "kernel" in pattern else 0)
    return tuple(text.splitlines()[1:-1])


class Runs:
    """Runs of one work after one step and another: what is the same, and what changes."""

    def __init__(self, work: Work, expected: Mapping[str, int], threads: int | None, wir: bool) -> None:
        self._work, self._expected, self._threads, self._wir = work, expected, threads, wir
        self._bits = np.stack([jit(work.function)(**work.item(k)) for k in range(work.items)])  # as it is written
        self._exact, self._estimate = golden(work), estimate(work)
        self.results: list[Result] = []
        self.table: list[str] = []
        self._base = 0
        self._body: tuple[str, ...] = ()

    def run(self, step: str, w: Workload, *, all_items: bool = True) -> Result:
        """all_items: else the first one alone."""
        if self._wir:
            print(f"after {step}:\n{w}\n")
        program = w.compile(target="cpu_sim", arch=ARCH, threads=self._threads)
        of = slice(None) if all_items else 0
        outputs: list[Array] = []

        def check() -> tuple[float, float]:
            outputs.append(program.results)
            return compare(outputs[0], self._exact[of], self._estimate[of].bound)

        result = measured(f"transformations {self._work.name} {step}", program, [], check, self._expected.get(step))
        equal = same(outputs[0], self._bits[of])
        assert equal, f"{step} changed results of {self._work.name}"
        self._base = self._base or result.cycles
        items = self._work.items if all_items else 1
        gain = items * self._base / result.cycles
        self.table.append(
            f"{step:<9} {items:>5} {result.tasks:>6} {cores(program):>5} {result.cycles:>10,} {gain:>8.2f}  yes"
        )
        body = loops(w)
        shown, self._body = body if body != self._body else ("the same",), body
        result = replace(result, outputs=tuple(outputs), notes=shown)
        self.results.append(result)
        return result


HEAD = f"{'step':<9} {'items':>5} {'tasks':>6} {'cores':>5} {'cycles':>10} {'speed-up':>8}  equal bits"


def transformed(work: Work, expected: Mapping[str, int], threads: int | None, wir: bool) -> list[Result]:
    """After each step of the list, with processes in the place of lanes, and after a search."""
    runs = Runs(work, expected, threads, wir)
    fold = steps(work.mapped)
    given, fused, batched, tiled, placed = accumulate(fold.values(), lambda f, step: step(f), initial=work.function)
    one = runs.run("given", ALONE(given)(**work.item(0)), all_items=False)
    less = runs.run("fuse", ALONE(fused)(**work.item(0)), all_items=False)
    assert less.cycles <= one.cycles, "what is handed over as a value is neither stored nor loaded"
    many = runs.run("vmap", ALONE(batched)(**work.arguments))
    in_blocks = runs.run("tile", ALONE(tiled)(**work.arguments))
    assert in_blocks.cycles == many.cycles, "one lane takes as long in any order"
    on_lanes = runs.run("dispatch", placed(**work.arguments))
    assert on_lanes.cycles <= in_blocks.cycles, "several lanes take no longer than one"
    found, table = searched(placed(**work.arguments))
    best = runs.run("auto", found)
    assert best.cycles <= on_lanes.cycles, "what a search begins with is one of what it tries"
    beside = runs.run("pipeline", PIPELINE(tiled)(**work.arguments))
    assert beside.cycles <= in_blocks.cycles, "processes take no longer than one lane"
    notes = ("auto_schedule, behind the dispatch:", *table.splitlines(), HEAD, *runs.table)
    runs.results[-1] = replace(beside, notes=(*beside.notes, *notes))
    return runs.results


def refusals(work: Work) -> Iterator[str]:
    """Orders in which the same steps mean nothing, with the reason that the error has."""
    of = steps(work.mapped)
    for words, order, arguments in (
        ("tile before vmap", [of["tile"], of["vmap"]], work.arguments),
        ("pipeline of a body that is fused", [of["fuse"], pipeline_loop(loop="j")], work.item(0)),
        ("dispatch of processes", [of["vmap"], of["tile"], PIPELINE, of["dispatch"]], work.arguments),
    ):
        try:
            folded(work.function, order)(**arguments)
        except PtoError as e:
            yield f"{words}: [{e.code}] {e.what}"
        else:
            raise AssertionError(f"{words} must be refused")


def arrays(random: np.random.Generator, *shape: int) -> Array:
    return random.standard_normal(shape, dtype=np.float32)


def run(
    items: int = ITEMS,
    seq: int = SEQ,
    hidden: int = HIDDEN,
    ffn: int = FFN,
    lengths: Sequence[int] = LENGTHS,
    dim: int = DIM,
    wir: bool = False,
    threads: int | None = None,
) -> list[Result]:
    """wir: print the whole wir after each step."""
    check_sizes(items=items, seq=seq, hidden=hidden, ffn=ffn, dim=dim)
    random = np.random.default_rng(0)
    weights = [arrays(random, hidden, ffn) / np.float32(math.sqrt(hidden)) for _ in range(2)]
    feed_forward = Work(
        swiglu,
        ("x",),
        {
            "x": arrays(random, items, seq, hidden),
            "weight": random.uniform(0.5, 1.5, (1, hidden)).astype(np.float32),
            "w1": weights[0],
            "w3": weights[1],
        },
    )
    mapped = ("q", "k", "v", "gate")
    heads = Work(
        attention,
        mapped,
        {
            **{n: arrays(random, items, len(lengths), max(1, *lengths), dim) for n in mapped},
            "weight": random.uniform(0.5, 1.5, (1, dim)).astype(np.float32),
            "lengths": np.array(lengths, np.int64),
        },
    )
    default = (items, seq, hidden, ffn, tuple(lengths), dim) == (ITEMS, SEQ, HIDDEN, FFN, LENGTHS, DIM)
    results: list[Result] = []
    for work in (feed_forward, heads):
        results += transformed(work, CYCLES[work.name] if default else {}, threads, wir)
    notes = (*results[-1].notes, "refused:", *refusals(feed_forward))
    return [*results[:-1], replace(results[-1], notes=notes)]


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
