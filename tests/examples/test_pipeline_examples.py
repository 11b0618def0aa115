"""The examples of pipelines take the cycles of their networks, which are written out here, and those that their READMEs say."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from examples.test_examples import example
from project import ROOT
from pto_wsp import DType, Tile
from pto_wsp.tools import report, simulate
from pto_wsp.tools.report import Result

Ops = list[Any]


@pytest.fixture(autouse=True)
def _runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "timed", lambda run: [run(), 1.0][1])


def readme(name: str) -> str:
    return (ROOT / "examples" / name / "README.md").read_text()


def row(name: str, form: str) -> list[str]:
    """What the table of a README says of a form."""
    line = next(line for line in readme(name).splitlines() if line.startswith(f"| {form} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def buffered(channel: str, depth: int) -> dict[str, dict[str, int | None]]:
    """A channel, and the numbers of its buffers."""
    n = max(depth, 1)
    return {channel: {"capacity": depth}, f"{channel}.free": {"capacity": n, "initial": n}}


def filled(channel: str, *work: int) -> Ops:
    return [["recv", f"{channel}.free"], *(["work", w] for w in work), ["send", channel]]


def used(channel: str, *work: int) -> Ops:
    return [["recv", channel], *(["work", w] for w in work), ["send", f"{channel}.free"]]


def total(processes: Sequence[Ops], channels: Any) -> int:
    named = [{"name": str(i), "ops": ops} for i, ops in enumerate(processes)]
    return simulate.processes(named, channels, times="none")["total"]


# csp_pipeline


def three(tiles: int, depth: int, costs: Sequence[int]) -> int:
    first, middle, last = costs
    compute = [["recv", "tiles"], *filled("results", middle), ["send", "tiles.free"]]
    processes = [filled("tiles", first), compute, used("results", last)]
    return total([[["repeat", tiles, ops]] for ops in processes], buffered("tiles", depth) | buffered("results", depth))


def test_the_closed_form_is_what_the_network_takes() -> None:
    cycles, rng = example("csp_pipeline").cycles, random.Random(0)
    for _ in range(500):
        tiles, depth = rng.randrange(1, 30), rng.choice((0, 1, 2, 3, 8))
        costs = [rng.randrange(20) for _ in range(3)]
        assert cycles(tiles, depth, costs) == three(tiles, depth, costs)


def test_three_processes_take_the_cycles_that_the_readme_says() -> None:
    module = example("csp_pipeline")
    costs = [k.cost(module.ARCH) for k in (module.load, module.compute, module.store)]
    for k, cost in zip(("load", "compute", "store"), costs, strict=True):
        assert row("csp_pipeline", f"`{k}`")[-1] == f"{cost:,}"
    alone = module.TILES * sum(costs)
    assert row("csp_pipeline", "in turn") == [f"{alone:,}", "1"]
    for depth in module.DEPTHS:
        takes = three(module.TILES, depth, costs)
        assert row("csp_pipeline", f"depth {depth}") == [f"{takes:,}", f"{alone / takes:.2f}"]


def test_three_processes_give_the_bits_of_one() -> None:
    assert len({r.outputs[0].tobytes() for r in example("csp_pipeline").run(tiles=33)}) == 1


# work_queue


def replicas(costs: Sequence[int], hands: Sequence[Sequence[int]]) -> int:
    """Of a network whose replicas take, in their order, tasks of these numbers."""
    generate: Ops = [["repeat", len(costs), [["send", "queue"]]]]
    work = [[op for i in hand for op in (["recv", "queue"], ["work", costs[i]])] for hand in hands]
    return total([generate, *work], {"queue": {"capacity": 4}})


def test_the_rule_of_a_queue_is_that_of_the_network() -> None:
    queue, rng = example("work_queue"), random.Random(0)
    for _ in range(200):
        costs = [rng.choice((0, 1, 3, 50)) for _ in range(rng.randrange(40))]
        hands = queue.taken(costs, rng.randrange(1, 9))
        assert sorted(i for hand in hands for i in hand) == list(range(len(costs)))
        assert queue.most(costs, hands) == replicas(costs, hands)


def test_a_queue_takes_the_cycles_that_the_readme_says() -> None:
    queue = example("work_queue")
    results = queue.run()
    assert len({r.outputs[0].tobytes() for r in results}) == 1
    costs = sorted(queue.costs_of(queue.skewed(queue.REQUESTS).tolist()))
    said = readme("work_queue")
    assert f"between {costs[0]} and {costs[-1]:,} cycles" in said
    assert (
        f"half of\nthem at most {costs[127]}; a tenth of them are more than a third of the {sum(costs):,} cycles"
        in said
    )
    assert sum(costs[-26:]) > sum(costs) / 3
    for n, dealt, taken in zip(queue.REPLICAS, results[::2], results[1::2], strict=True):
        cells = [x for r in (dealt, taken) for x in (f"{r.cycles:,}", f"{sum(costs) / r.cycles:.2f}")]
        assert row("work_queue", str(n)) == cells
    few = {r.name.removeprefix("work_queue 20 "): r.cycles for r in queue.run(requests=20)}
    assert f"take {few['taken by 4']:,} cycles, and the 4 lanes, by luck, {few['dealt to 4']:,}." in said


# megakernel


def tile(rows: int, cols: int) -> Any:
    return Tile[rows, cols, DType.F32]


class Step:
    """The network of a decode step, at the sizes that `run` takes."""

    def __init__(
        self, layers: int, heads: int, kv_heads: int, dim: int, ffn: int, length: int, vocabulary: int
    ) -> None:
        self.layers, self.heads, self.kv_heads, self.dim, self.ffn = layers, heads, kv_heads, dim, ffn
        self.length, self.vocabulary, self.hidden, self.side = length, vocabulary, heads * dim, kv_heads * dim
        self.kernels = example("megakernel")

    def cost(self, name: str, **tiles: tuple[int, int]) -> int:
        return getattr(self.kernels, name).cost(self.kernels.ARCH, **{p: tile(*shape) for p, shape in tiles.items()})

    def product(self, m: int, k: int, n: int) -> int:
        return self.cost("add_product", x=(m, k), w=(k, n), out=(m, n))

    def zero(self, m: int, n: int) -> Ops:
        return [["work", self.cost("zero", out=(m, n))]]

    def norm(self) -> Ops:
        wide = (1, self.hidden)
        return [["work", self.cost("norm", x=wide, weight=wide, out=wide)]]

    def rotate(self, n: int, out: tuple[int, int]) -> Ops:
        angles = (1, self.dim // 2)
        return [["work", self.cost("rotate", x=(1, n), cos=angles, sin=angles, out=out)]]

    def tiles(self, rows: int, cols: int) -> int:
        return (rows // self.side) * (cols // self.side)

    def times(self, rows: int, cols: int) -> Ops:
        """A row times a matrix."""
        return [["repeat", self.tiles(rows, cols), used("tiles", self.product(1, self.side, self.side))]]

    def attention(self) -> Ops:
        side, group, dim, each = self.side, self.heads // self.kv_heads, self.dim, range(self.kv_heads)

        def scores(n: int) -> list[int]:
            return [self.cost("score", q=(group, dim), k=(n, dim), out=(group, n)) for _ in each]

        def weighted(n: int) -> list[int]:
            return [self.product(group, n, dim) for _ in each]

        cached = self.length // side
        return [
            *(*self.zero(1, self.hidden), *self.times(self.hidden, self.hidden)),
            *self.rotate(self.hidden, (self.heads, dim)),
            *(*self.zero(1, side), *self.times(self.hidden, side)),
            *(["recv", "rows.free"], *self.rotate(side, (1, side)), *self.zero(self.heads, dim)),
            *(["repeat", cached, used("tiles", *scores(side))], *(["work", w] for w in scores(1)), ["send", "rows"]),
            *(["recv", "rows.free"], *self.zero(1, side), *self.times(self.hidden, side)),
            ["work", self.cost("softmax", x=(self.heads, self.length + 1))],
            *(
                ["repeat", cached, used("tiles", *weighted(side))],
                *(["work", w] for w in weighted(1)),
                ["send", "rows"],
            ),
            ["work", self.cost("reshape", x=(self.heads, dim), out=(1, self.hidden))],
        ]

    def layer(self) -> Ops:
        hidden, ffn, wide = self.hidden, self.ffn, (1, self.ffn)
        return [
            *(*self.norm(), *self.attention(), *self.times(hidden, hidden), *self.norm()),
            *2 * [*self.zero(1, ffn), *self.times(hidden, ffn)],
            *(["work", self.cost("swiglu", gate=wide, up=wide)], *self.times(ffn, hidden)),
        ]

    def tiles_of_layer(self) -> int:
        hidden, side = self.hidden, self.side
        squares, narrow, ffn = self.tiles(hidden, hidden), self.tiles(hidden, side), self.tiles(hidden, self.ffn)
        return 2 * squares + 2 * narrow + 3 * ffn + 2 * self.tiles(self.length, side)

    def processes(self) -> list[Ops]:
        side, hidden, columns = self.side, self.hidden, self.vocabulary // self.side
        load = self.cost("load", x=(side, side), out=(side, side))
        embed = self.cost("load", x=(1, hidden), out=(1, hidden))
        logits = [["recv", "rows.free"], *self.zero(1, side), *self.times(hidden, side), ["send", "rows"]]
        row = self.cost("store", x=(1, side), out=(1, side))
        tiles = self.layers * self.tiles_of_layer() + self.tiles(hidden, self.vocabulary)
        return [
            [["repeat", tiles, filled("tiles", load)]],
            [["work", embed], ["repeat", self.layers, self.layer()], *self.norm(), ["repeat", columns, logits]],
            [["repeat", 2 * self.layers + columns, used("rows", row)]],
        ]

    def piped(self, depth: int) -> int:
        return total(self.processes(), buffered("tiles", depth) | buffered("rows", depth))

    def in_turn(self) -> int:
        """Channels that never keep anyone waiting take no time: what is left is work."""
        return sum(total([works(ops)], {}) for ops in self.processes())


def works(ops: Ops) -> Ops:
    nested = (["repeat", op[1], works(op[2])] if op[0] == "repeat" else op for op in ops)
    return [op for op in nested if op[0] in ("work", "repeat")]


def forms(results: Sequence[Result]) -> dict[str, int]:
    return {" ".join(r.name.split()[2:]): r.cycles for r in results}


@pytest.mark.parametrize("sizes", [(2, 4, 2, 8, 48, 32, 32), (3, 2, 1, 16, 32, 64, 48), (1, 6, 3, 4, 24, 12, 36)])
def test_a_decode_step_takes_the_cycles_of_its_network(sizes: tuple[int, ...]) -> None:
    module, step = example("megakernel"), Step(*sizes)
    results = module.run(*sizes)
    assert not any(r.failures for r in results)
    assert len({r.outputs[0].tobytes() for r in results}) == 1
    found = forms(results)
    assert found["in turn"] == step.in_turn()
    for depth in module.DEPTHS:
        assert found[f"depth {depth}"] == step.piped(depth)


def test_a_decode_step_takes_the_cycles_that_the_readme_says() -> None:
    module = example("megakernel")
    step, said, side = Step(*module.SIZES), readme("megakernel"), (256, 256)
    load, product = step.cost("load", x=side, out=side), step.product(1, *side)
    store, embed = step.cost("store", x=(1, 256), out=(1, 256)), step.cost("load", x=(1, 1024), out=(1, 1024))
    tiles = 4 * step.tiles_of_layer() + step.tiles(1024, 4096)
    want = {"in turn": step.in_turn()} | {f"depth {depth}": step.piped(depth) for depth in module.DEPTHS}
    assert want["depth 8"] == tiles * load + product + store
    want["depth 8 by layer"] = want["depth 8"] + 4 * product + embed
    assert want == module.CYCLES
    assert f"{tiles} x {load:,} + {product:,} + {store} = {want['depth 8']:,} cycles" in said
    assert f"4 x {product:,} + {embed} = {4 * product + embed:,} cycles more" in said
    alone = want.pop("in turn")
    assert row("megakernel", "in turn") == [f"{alone:,}", "", "1"]
    for form, cycles in want.items():
        named = "a pipeline for each layer, depth 8" if form.endswith("layer") else f"one pipeline, {form}"
        assert row("megakernel", named) == [f"{cycles:,}", f"{alone - cycles:,}", f"{alone / cycles:.3f}"]


def test_other_bits_than_in_turn_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    module, written = example("megakernel"), list[np.ndarray]()
    given = module.written

    def differs_later(m: Any) -> np.ndarray:
        written.append(given(m))
        if len(written) > 1:
            written[-1][0] = np.nextafter(written[-1][0], np.float32(np.inf))
        return written[-1]

    monkeypatch.setattr(module, "written", differs_later)
    alone, *others = module.run(1, 1, 1, 4, 4, 4, 4)
    assert not alone.failures
    assert all("of its bound" in r.failures[0] for r in others)
