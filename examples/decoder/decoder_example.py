"""A whole decoder under JAX, served with continuous batching: paged caches, and nothing is padded.

Four layers as Llama has them, of random weights. Attention over the pages of a cache is a workload, and so are the experts that
`--moe` puts in the place of the feed forward; all else is JAX, and the step is one `jax.jit` that takes over the cache's memory.
Lengths, pages and routing are data: requests of all lengths run in one compiled program.

1. Requests enter and leave (decoder_serving.py). Each token is compared with float64, and with JAX alone, padded and masked.
2. A step at --lengths is compared in the same way, and timed beside the padded one, warm, in turn.

--svg also draws the time of a step against the spread of its lengths; needs matplotlib. All of it needs jax: pip install '.[jax]'
"""

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from decoder_golden import Golden
from decoder_model import (
    TOP,
    Cache,
    Outcome,
    Rows,
    Sizes,
    Weights,
    padded_step,
    paged_attention,
    paged_step,
    random_weights,
)
from decoder_serving import Limits, Request, Scheduler, serve

from pto_wsp import DispatchPolicy, DType
from pto_wsp.tools.bounds import Array, compare, worst
from pto_wsp.tools.report import Result, check_sizes, command_line

LAYERS, HIDDEN, HEADS, FFN, VOCABULARY, EXPERTS, PAGE = 4, 1024, 8, 2816, 32000, 8, 128
LENGTHS, STEPS = (512, 2048, 8192, 32768), 3
PROMPTS, NEW, SLOTS, ROWS, PAGES = (5, 200, 40, 1, 120, 17, 90, 130), 12, 4, 32, 4
STANDARD = (LAYERS, HIDDEN, HEADS, FFN, VOCABULARY, PAGE, *LENGTHS, *PROMPTS, NEW, SLOTS, ROWS, PAGES)
ROUNDS = 7
SPREADS = (0.0, 0.25, 0.5, 0.75, 1.0)
CYCLES = 21_396_640, 8_472_688  # of attention in f32, while serving and in a step


@dataclass(frozen=True)
class Model:
    sizes: Sizes
    weights: Weights
    on_device: Weights
    threads: int | None

    @staticmethod
    def random(sizes: Sizes, positions: int, threads: int | None) -> "Model":
        weights = random_weights(sizes, positions)
        return Model(sizes, weights, jax.device_put(weights), threads)

    def cache(self, value: float, keys: tuple[int, ...], values: tuple[int, ...]) -> Cache:
        """Of these shapes in each layer, and of this value."""
        dtype = self.sizes.dtype.numpy
        return tuple((jnp.full(keys, value, dtype), jnp.full(values, value, dtype)) for _ in range(self.sizes.layers))


class Paged:
    """The step over pages, and the cache that it hands on."""

    def __init__(self, model: Model, cache: Cache) -> None:
        self.cache = cache
        self._model, self._step = model, paged_step(model.threads)
        self._before = self._step._cache_size()
        self._addresses = self._where()

    def __call__(self, rows: Rows) -> Outcome:
        self.cache, given = self._step(self._model.on_device, self.cache, rows)
        return jax.block_until_ready(given)

    def _where(self) -> list[int]:
        return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(self.cache)]

    @property
    def failures(self) -> list[str]:
        """What should not be: a cache that moved, a program compiled again."""
        moved = ["the cache was copied"] if self._where() != self._addresses else []
        programs = self._step._cache_size() - self._before
        return moved + ([f"{programs} programs were compiled for one step"] if programs > 1 else [])


class Padded:
    """The padded step likewise."""

    def __init__(self, model: Model, cache: Cache) -> None:
        self.cache, self._model = cache, model

    def __call__(self, token: Array, position: Array) -> Outcome:
        self.cache, given = padded_step(self._model.on_device, self.cache, token, position)
        return jax.block_until_ready(given)


def semantic(model: Model, cache: Cache, steps: Sequence[Rows]) -> tuple[int, int]:
    """Tasks and cycles of attention in all layers, one call after another. Simulated: keys and values are not looked at."""
    keys, values = (np.zeros(x.shape, x.dtype) for x in cache[0])

    def arguments(rows: Rows) -> dict[str, Array]:
        q, new_k, new_v = np.zeros((3, len(rows.token), model.sizes.heads, model.sizes.dim), np.float32)
        given = {"q": q, "new_k": new_k, "new_v": new_v, "k": keys, "v": values}
        return given | {"table": rows.table, "slot": rows.slot, "position": rows.position}

    workload = paged_attention(**arguments(steps[0])).dispatch(DispatchPolicy.round_robin(4))
    program = workload.compile(target="cpu_sim", arch="ascend_a2a3", threads=model.threads)
    stats = [program.bind(arguments(rows)).simulate() for rows in steps]
    layers = model.sizes.layers
    return layers * sum(s.task_count for s in stats), layers * sum(s.total_cycles for s in stats)


# What the steps gave, and what they should have.


@dataclass(frozen=True)
class Answers:
    """Of one sequence by one computation: logits [n, vocabulary] of its last n tokens, and of all the experts, by layer [tokens, TOP]."""

    logits: Array
    choices: list[Array]

    @staticmethod
    def collected(logits: Sequence[Array], choices: Sequence[Sequence[Array]]) -> "Answers":
        """logits by token, choices by token and layer."""
        return Answers(np.stack(logits), [np.stack(of_layer) for of_layer in zip(*choices, strict=True)])


def golden(of: Golden, n: int) -> Array:
    """The last n logits in float64."""
    return of.logits.value[-n:].copy()


class Comparison:
    """Sequence by sequence, of both computations with float64 and with each other."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._errors = [(0.0, 0.0)]
        self._equal: list[Array] = []
        self._decided: list[Array] = []
        self.wrong: list[str] = []

    def add(self, tokens: Array, past: Sequence[tuple[Array, Array]], ours: Answers, padded: Answers) -> None:
        """The sequence's tokens behind `past`, as `Golden` takes them."""
        of_ours = self._golden(tokens, past, ours)
        same_experts = all(map(np.array_equal, ours.choices, padded.choices))
        of_padded = of_ours if same_experts else self._golden(tokens, past, padded)
        n = len(ours.logits)
        for of, answers in ((of_ours, ours), (of_padded, padded)):
            self._errors.append(compare(answers.logits, golden(of, n), of.logits.bound[-n:]))
        self._decided.append(of_ours.leads(n) & of_padded.leads(n))
        self._equal.append(ours.logits.argmax(axis=1) == padded.logits.argmax(axis=1))
        must = self._decided[-1] | (self._model.sizes.dtype is DType.F32)  # in bf16 rounding may decide
        if not self._equal[-1][must].all():
            self.wrong.append("tokens are not those of jax, padded")

    def _golden(self, tokens: Array, past: Sequence[tuple[Array, Array]], of: Answers) -> Golden:
        sizes = self._model.sizes
        made = Golden(self._model.weights, sizes.page, sizes.dtype, tokens, past, of.choices)
        if made.wrong_choices:
            self.wrong.append(f"{made.wrong_choices} tokens went to other experts than they should")
        return made

    def result(self, name: str, semantics: tuple[int, int], wall_ms: float, **more: Any) -> Result:
        largest, of_bound = worst(self._errors)
        equal, decided = (np.concatenate(x) for x in (self._equal, self._decided))
        tokens = f"{equal.sum()} of {len(equal)} tokens as jax, padded; {decided.sum()} that no rounding decides"
        notes = (*more.pop("notes"), tokens, *(f"WRONG: {what}" for what in self.wrong))
        tasks, cycles = semantics
        sizes = self._model.sizes
        name = f"decoder {'moe ' if sizes.experts else ''}{sizes.dtype} {name}"
        of_bound = math.inf if self.wrong else of_bound
        return Result(name, tasks, largest, of_bound, cycles, wall_ms=wall_ms, notes=notes, **more)


# Serving.


def requests_of(prompts: Sequence[int], new: int, vocabulary: int) -> list[Request]:
    """Requests of these prompts, one every other step."""
    random = np.random.default_rng(1)
    return [Request(tuple(random.integers(vocabulary, size=n).tolist()), new, 2 * i) for i, n in enumerate(prompts)]


def replayed(model: Model, requests: Sequence[Request]) -> list[Answers]:
    """All requests in one padded batch, one token after another, with the tokens that they have."""
    fed = [r.tokens[:-1] for r in requests]
    longest = max(map(len, fed))
    shape = (len(fed), model.sizes.heads, longest, model.sizes.dim)
    step = Padded(model, model.cache(0, shape, shape))
    logits: list[list[Array]] = [[] for _ in fed]
    choices: list[list[list[Array]]] = [[] for _ in fed]
    for t in range(longest):
        position = np.array([min(t, len(tokens) - 1) for tokens in fed], np.int32)
        given = step(np.array([tokens[p] for tokens, p in zip(fed, position, strict=True)], np.int32), position)
        for b, request in enumerate(requests):
            if t < len(fed[b]):
                choices[b].append([c[b] for c in given.choices])
            if len(request.prompt) - 1 <= t < len(fed[b]):
                logits[b].append(given.logits[b])
    return [Answers.collected(*of) for of in zip(logits, choices, strict=True)]


def served(model: Model, requests: Sequence[Request], limits: Limits, cycles: int | None) -> Result:
    s = model.sizes
    blocks = -(-max(r.length for r in requests) // s.page)
    scheduler, idle = (Scheduler(limits, s.page, blocks) for _ in range(2))
    pages = (limits.pages, s.heads, s.dim, s.page), (limits.pages, s.heads, s.page, s.dim)
    step = Paged(model, model.cache(math.nan, *pages))
    step(idle.plan())  # compiles; all of its rows are empty
    start = time.perf_counter()
    steps = serve(step, scheduler, requests)
    wall_ms = (time.perf_counter() - start) * 1e3
    of = scheduler.statistics
    comparison = Comparison(model)
    comparison.wrong += step.failures
    nothing = np.zeros((s.heads, 0, s.dim))
    for request, padded in zip(requests, replayed(model, requests), strict=True):
        ours = Answers.collected(request.logits, request.choices)
        comparison.add(np.array(request.tokens[:-1]), [(nothing, nothing)] * s.layers, ours, padded)
    note = f"{of.steps} steps, up to {of.together} requests in one; {of.waits} waits for pages, {of.restarts} restarts"
    return comparison.result(
        *(f"serves {len(requests)}", semantic(model, step.cache, steps), wall_ms),
        expected_cycles=cycles,
        outputs=tuple(x for r in requests for x in (np.array(r.tokens), np.stack(r.logits))),
        notes=(note,),
    )


# One step.


class Batch:
    """Sequences of these lengths with random keys and values, the same ones in caches of both kinds."""

    def __init__(self, model: Model, lengths: Sequence[int]) -> None:
        """The pages of a sequence lie in random order."""
        self.lengths, self._model = np.array(lengths, np.int32), model
        self._blocks = [-(-n // model.sizes.page) for n in lengths]
        random = np.random.default_rng(2)
        order = random.permutation(sum(self._blocks))
        self._table = np.zeros((len(lengths), max(self._blocks)), np.int32)
        for b, n in enumerate(self._blocks):
            self._table[b, :n], order = order[:n], order[n:]
        caches = [[self._both(random, turned) for turned in (True, False)] for _ in range(model.sizes.layers)]
        paged, padded = (tuple((k[i], v[i]) for k, v in caches) for i in range(2))
        self.paged, self.padded = Paged(model, paged), Padded(model, padded)

    def _both(self, random: np.random.Generator, turned: bool) -> tuple[Any, Any]:
        """Keys (turned) or values of a layer: in pages, and padded."""
        s = self._model.sizes
        shape = (sum(self._blocks), s.heads, s.page, s.dim)
        pages = random.standard_normal(shape, dtype=np.float32).astype(s.dtype.numpy)
        padded = np.zeros((len(self.lengths), s.heads, max(self.lengths), s.dim), s.dtype.numpy)
        for b, n in enumerate(self.lengths):
            of = pages[self._table[b, : self._blocks[b]]].swapaxes(0, 1).reshape(s.heads, -1, s.dim)
            padded[b, :, :n] = of[:, :n]
        return jnp.array(pages.swapaxes(2, 3) if turned else pages), jnp.array(padded)

    def rows(self, token: Array, back: int) -> Rows:
        """At the positions so many before the last."""
        slots = np.arange(len(self.lengths), dtype=np.int32)
        return Rows(token, np.maximum(self.lengths - 1 - back, -1), slots, self._table, slots)

    def both(self, token: Array, back: int) -> tuple[Outcome, Outcome]:
        rows = self.rows(token, back)
        return self.paged(rows), self._in_jax(rows)

    def past(self, b: int, n: int) -> list[tuple[Array, Array]]:
        """Keys and values of the first n positions of a sequence."""
        return [tuple(np.asarray(x[b])[:, :n] for x in of) for of in self.padded.cache]  # type: ignore[misc]

    def times(self, token: Array) -> tuple[float, float]:
        """Milliseconds of the last step, over pages and padded."""
        rows = self.rows(token, 0)
        return in_turn(lambda: self.paged(rows), lambda: self._in_jax(rows))

    def _in_jax(self, rows: Rows) -> Outcome:
        """Padded, rows cannot be empty: those that are take a position that is written again."""
        return self.padded(rows.token, np.maximum(rows.position, 0))


def in_turn(*runs: Callable[[], object]) -> tuple[float, ...]:
    """Medians in milliseconds of calls in turn, after a round that brings everything into memory."""
    rounds: list[list[float]] = []
    for _ in range(ROUNDS + 1):
        rounds.append([])
        for run in runs:
            start = time.perf_counter()
            run()
            rounds[-1].append((time.perf_counter() - start) * 1e3)
    return tuple(map(statistics.median, zip(*rounds[1:], strict=True)))


def stepped(model: Model, lengths: Sequence[int], cycles: int | None) -> Result:
    """The last STEPS steps of sequences that end with these lengths; the last of all is timed."""
    batch, comparison = Batch(model, lengths), Comparison(model)
    token = np.random.default_rng(4).integers(model.sizes.vocabulary, size=len(lengths)).astype(np.int32)
    tokens, given = [token], list[tuple[Outcome, Outcome]]()
    for back in reversed(range(STEPS)):
        given.append(batch.both(tokens[-1], back))
        tokens.append(np.asarray(given[-1][0].token))
    for b, n in enumerate(map(int, lengths)):
        first = max(STEPS - n, 0)  # what is shorter begins later
        if first == STEPS:
            continue
        ours, padded = (
            Answers.collected([o.logits[b] for o in of], [[c[b] for c in o.choices] for o in of])
            for of in zip(*given[first:], strict=True)
        )
        comparison.add(np.array([t[b] for t in tokens[first:STEPS]]), batch.past(b, n - STEPS + first), ours, padded)
    ours, padded = batch.times(tokens[-2])
    comparison.wrong += batch.paged.failures
    return comparison.result(
        *(f"step of {len(lengths)}", semantic(model, batch.paged.cache, [batch.rows(token, 0)]), ours),
        expected_cycles=cycles,
        outputs=tuple(np.asarray(x) for ours, _ in given for x in (ours.token, ours.logits)),
        peers={"jax, padded": padded},
        notes=(f"lengths {' '.join(map(str, lengths))}",),
    )


def spread(lengths: Sequence[int], share: float) -> list[int]:
    """As many positions in all: at 0 of equal lengths, at 1 these."""
    parts = np.array(lengths, float) ** share
    return [max(round(n), 1) for n in parts * sum(lengths) / parts.sum()]


def drawn(model: Model, lengths: Sequence[int]) -> list[str]:
    """Times of steps over lengths that are more and more apart, as lines and as decoder_spread.svg."""
    from matplotlib.figure import Figure  # only here: nothing else needs it

    points: list[tuple[float, float, float]] = []
    lines = ["longest / mean       ms  padded ms  times ours"]
    for share in SPREADS:
        of = spread(lengths, share)
        ours, padded = Batch(model, of).times(np.zeros(len(of), np.int32))
        points.append((max(of) / (sum(of) / len(of)), ours, padded))
        lines.append(f"{points[-1][0]:14.2f} {ours:8.1f} {padded:10.1f} {padded / ours:11.2f}")
    apart, *times = zip(*points, strict=True)
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for label, ms in zip(("over pages", "jax, padded to the longest"), times, strict=True):
        axes.plot(apart, ms, marker="o", label=label)
    axes.set(xlabel=f"longest length / mean of {len(lengths)}", ylabel="ms of a step", ylim=(0, None))
    axes.legend()
    figure.savefig("decoder_spread.svg")
    return lines


def run(
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    heads: int = HEADS,
    ffn: int = FFN,
    vocabulary: int = VOCABULARY,
    page: int = PAGE,
    lengths: Sequence[int] = LENGTHS,
    prompts: Sequence[int] = PROMPTS,
    new: int = NEW,
    slots: int = SLOTS,
    rows: int = ROWS,
    pages: int = PAGES,
    moe: bool = False,
    bf16: bool = False,
    svg: bool = False,
    threads: int | None = None,
) -> list[Result]:
    """moe: experts, TOP of EXPERTS, which are together as wide as the feed forward, in its place."""
    check_sizes(layers=layers, hidden=hidden, heads=heads, ffn=ffn, vocabulary=vocabulary, page=page, new=new)
    check_sizes(
        slots=slots, rows=rows, pages=pages, longest=max(lengths), **{f"prompts[{i}]": n for i, n in enumerate(prompts)}
    )
    if hidden % (2 * heads):
        raise ValueError(f"{heads} heads do not divide {hidden} into parts of an even size")
    given = (layers, hidden, heads, ffn, vocabulary, page, *lengths, *prompts, new, slots, rows, pages)
    cycles = CYCLES if given == STANDARD and not bf16 else (None, None)
    dtype = DType.BF16 if bf16 else DType.F32
    width, experts = (-(-ffn // TOP), EXPERTS) if moe else (ffn, 0)
    sizes = Sizes(layers, hidden, heads, width, vocabulary, experts, page, dtype)
    model = Model.random(sizes, max(*lengths, *(n + new for n in prompts)), threads)
    serving = served(model, requests_of(prompts, new, vocabulary), Limits(slots, rows, pages), cycles[0])
    step = stepped(model, lengths, cycles[1])
    more = drawn(model, lengths) if svg else []
    return [serving, replace(step, notes=(*step.notes, *more))]


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
