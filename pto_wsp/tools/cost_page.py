"""The page docs/cost_figures.md: every figure of an arch with its source, and predictions beside published measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pto_wsp import DType, In, Out, Tensor, Tile, arch, kernel, pto
from pto_wsp.arch import Arch

F16, F32 = DType.F16, DType.F32
MACHINE = "ascend_a2a3:pipes"
CORES, VECTOR_CORES = 24, 48
BLOCK_M, BLOCK_N, BLOCK_K = 128, 256, 64


@kernel
def gemm_tile(a: In[Tensor[128, None, F16]], b: In[Tensor[None, 256, F16]], out: Out[Tile[128, 256, F32]]):
    """One tile of a product, in steps of 64 of k; the loads of a step run beside the products of earlier ones."""

    def step(i: Any, acc: Any) -> Any:
        k = i * BLOCK_K
        return pto.matmul(pto.load(a, (0, k), (BLOCK_M, BLOCK_K)), pto.load(b, (k, 0), (BLOCK_K, BLOCK_N)), acc)

    steps = (a.shape[1] + (BLOCK_K - 1)) // BLOCK_K
    pto.store(out, pto.fori_loop(0, steps, step, pto.full((BLOCK_M, BLOCK_N), 0.0)))


@kernel
def topk_rows(x: In[Tile[100, 1024, F32]], out: Out[Tile[100, 32, DType.I32]]):
    """The indices of the 32 largest of each row."""
    pto.store(out, pto.extract_topk_indices(x, 32))


@dataclass(frozen=True)
class Point:
    """A published measurement, and what predicts it: milliseconds of `tasks` tasks of a kernel, one after another on a core."""

    name: str
    published: float
    tasks: int
    cycles: Callable[[], int]

    @property
    def predicted(self) -> float:
        return self.tasks * self.cycles() / arch.get(MACHINE).clock_khz


def _gemm(n: int, published: float) -> Point:
    tiles = (n // BLOCK_M) * (n // BLOCK_N)
    return Point(
        f"GEMM {n} x {n} x {n}, f16 to f32",
        published,
        -(-tiles // CORES),
        lambda: gemm_tile.cost(MACHINE, a=(BLOCK_M, n), b=(n, BLOCK_N)),
    )


POINTS = (
    *(_gemm(1536, 0.0388), _gemm(3072, 0.2067), _gemm(6144, 1.506), _gemm(7680, 3.168)),
    Point("TopK of 4800 rows of 1024, f32", 0.324, 1, lambda: topk_rows.cost(MACHINE)),
)
"""README files of pto-isa (cannmirror/pto-isa defdb75f): A3, 24 cube cores or 48 vector cores of a die."""


def _predictions() -> Iterator[str]:
    yield "| measurement | published ms | predicted ms | predicted / published |"
    yield "|---|---|---|---|"
    for p in POINTS:
        yield f"| {p.name} | {p.published:g} | {p.predicted:.4g} | {p.predicted / p.published:.2f} |"


def _figures(a: Arch) -> Iterator[str]:
    yield "| figure | value | source |"
    yield "|---|---|---|"
    values = {
        "clock_khz": f"{a.clock_khz} kHz",
        "lanes": str(a.lanes),
        "issue_cost": f"{a.issue_cost} cycles",
        "handover": f"{a.handover} cycles",
        "read_cost": f"{a.read_cost} cycles",
        "transfer": f"blocks of {a.granularity} bytes",
        "vector": f"{len(a.instructions)} instructions, repeats of {a.repeat_bytes} bytes",
        "rows": f"{len(a.row_fits)} fits",
        "cols": f"{len(a.col_fits)} fits",
        "cube": f"{a.cube.head} + slope * blocks of {a.cube.m} x {a.cube.k_bytes} bytes x {a.cube.n}",
    }
    for name, value in values.items():
        yield f"| `{name}` | {value} | {a.sources[name]} |"
    for m in a.memories:
        yield f"| memory {m.name} | {m.bytes or 'not stated'} bytes, aligned to {m.align} | {m.source} |"
    for p in a.paths:
        yield f"| {p.src} to {p.dst} | {float(p.gib_per_s):g} GiB/s, unit {p.unit} | {p.source} |"
    for d in a.sync:
        yield f"| {d.name} | {d.count} for each {d.scope} | {d.source} |"


def _operations(a: Arch) -> Iterator[str]:
    yield "| operation | instructions | with a number | where no figure is published |"
    yield "|---|---|---|---|"
    for op in sorted(a.vector_ops):
        number = _instructions(a.scalar_ops[op]) if op in a.scalar_ops else ""
        yield f"| `{op}` | {_instructions(a.vector_ops[op])} | {number} | {a.sources.get(f'vector.{op}', '')} |"
    for table, fits in (("rows", a.row_fits), ("cols", a.col_fits)):
        for op, f in fits.items():
            numbers = [f"{float(x):g}" for x in (f.bias, f.slope, f.next_bias, f.next_slope)]
            text = f"{numbers[0]} + {numbers[1]} * rows, then {numbers[2]} + {numbers[3]} * rows a repeat"
            yield f"| `{op}` | {text} | | {a.sources.get(f'{table}.{op}', '')} |"
    for dtype, slope in a.cube.slope.items():
        yield f"| `matmul` of {dtype} | {slope} a block | | {a.sources.get(f'cube.{dtype}', '')} |"


def _instructions(times: Any) -> str:
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in times.items())


def render() -> str:
    """The page."""
    a = arch.get(MACHINE)
    rows = [
        "# Figures of the cost model",
        "",
        "Generated from the arch files (`python -m pytest tests/docs --update-golden` writes it). [costs.md](costs.md) says how they",
        "make a cost.",
        "",
        "## Predicted beside published",
        "",
        f"`{MACHINE}`. A product takes one task for each tile of {BLOCK_M} x {BLOCK_N}, in steps of {BLOCK_K} of k, on {CORES} cores: as many",
        "tasks one after another as a core has tiles. Within a task loads, products and stores overlap; from task to task nothing does.",
        "",
        *_predictions(),
        "",
        "The model leaves out the launch of the cores, which weighs most in the smallest product; the L2, which feeds repeated loads of one",
        "panel faster than memory does; cores that compete for memory; and that the next tile's loads may begin before a tile is stored. A",
        "large product is bound by the flat bandwidth of GM to L1, at 0.82 of the matrix unit's rate; measured are 0.55 to 0.87 of it.",
        "TopK is a sort of runs of 32 that are merged four at a time, at the published cost of one merge; which k was measured is not",
        "stated, and 32 is taken. There is no arch file of A5: neither its clock nor its bandwidths are published, so its measurements",
        "have no prediction here.",
        "",
        f"## Figures of {a.name}",
        "",
        *_figures(a),
        "",
        "## Operations",
        "",
        "Compositions cost what they expand to.",
        "",
        *_operations(a),
    ]
    for name in arch.names():
        other = arch.get(name)
        changed = [k for k, source in other.sources.items() if a.sources.get(k) != source]
        if changed:
            rows += ["", f"## What {name} has of its own", "", "| figure | value | source |", "|---|---|---|"]
            rows += [f"| `{k}` | {getattr(other, k)} | {other.sources[k]} |" for k in changed]
    return "\n".join(rows) + "\n"
