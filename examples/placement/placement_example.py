"""Work of batch x stage, placed by rows and by columns: one program of tasks, two places to put them, a person who chooses.

Each item of a batch passes all stages, y = relu(x w) with weights of the stage's own, which are stored in eight bits. A core
has room for the weights of one stage: when it turns to another stage it begins cold, and unpacks them first.

by rows     dispatch_by(lambda t: t.b): a lane takes an item through all stages, and begins cold at each of them
by columns  dispatch_by(lambda t: t.stage): a lane keeps one stage, begins cold once, and items pass from lane to lane

README.md derives the cycles of both by hand.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from pto_wsp import DispatchPolicy, DType, In, Out, P, Program, Tensor, Tile, Workload, empty, kernel, pto, workload
from pto_wsp.tools.bounds import Array, Estimate, compare
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

ROWS, WIDTH = 16, 128
BATCH, STAGES, LANES = 8, 4, 4
COLD, WARM = 1_970, 1_334  # cycles of `unpack` and of `apply`
CYCLES = {"rows": BATCH // LANES * STAGES * (COLD + WARM), "columns": COLD + (STAGES + BATCH - 1) * WARM}
PICTURE = 46  # characters


@kernel
def unpack(
    q: In[Tile[WIDTH, WIDTH, DType.I8]], scale: In[Tile[1, WIDTH, DType.F32]], w: Out[Tile[WIDTH, WIDTH, DType.F32]]
):
    pto.store(w, pto.colmul(pto.cast(q, DType.F32), scale))


@kernel
def apply(
    x: In[Tile[ROWS, WIDTH, DType.F32]], w: In[Tile[WIDTH, WIDTH, DType.F32]], y: Out[Tile[ROWS, WIDTH, DType.F32]]
):
    pto.store(y, pto.relu(pto.matmul(x, w)))


@workload
def by_rows(q: Tensor, scale: Tensor, states: Tensor):
    """states [batch, stages + 1, ROWS, WIDTH]: what each stage takes; the first is given."""
    batch, stages = states.shape[0], q.shape[0]
    room = empty((batch, WIDTH, WIDTH), DType.F32)
    for b in P(batch):
        for stage in P.seq(stages):
            unpack[b, stage](q=q[stage], scale=scale[stage], w=room[b])
            apply[b, stage](x=states[b, stage], w=room[b], y=states[b, stage + 1])


@workload
def by_columns(q: Tensor, scale: Tensor, states: Tensor):
    batch, stages = states.shape[0], q.shape[0]
    room = empty((stages, WIDTH, WIDTH), DType.F32)
    for stage in P(stages):
        unpack[stage](q=q[stage], scale=scale[stage], w=room[stage])
    for b in P(batch):
        for stage in P.seq(stages):
            apply[b, stage](x=states[b, stage], w=room[stage], y=states[b, stage + 1])


def placed(how: str, q: Array, scale: Array, states: Array) -> Workload:
    if how == "rows":
        return by_rows(q, scale, states).dispatch(DispatchPolicy.dispatch_by(lambda t: t.b, LANES))
    return by_columns(q, scale, states).dispatch(DispatchPolicy.dispatch_by(lambda t: t.stage, LANES))


def estimate(q: Array, scale: Array, x: Array) -> Estimate:
    h = Estimate.exact(x)
    for of_stage, factor in zip(q, scale, strict=True):
        h = h @ (Estimate.exact(of_stage.astype(np.float32)) * Estimate.exact(factor))
        h = Estimate(np.maximum(h.value, 0), h.variance)
    return h


def golden(q: Array, scale: Array, x: Array) -> Array:
    """In float64."""
    return estimate(q, scale, x).value


def timeline(program: Program) -> list[str]:
    """When the tasks of a run ran, as lines of text."""
    return program.copy().enable_tracing().run().trace.gantt(PICTURE).splitlines()


def draw(program: Program, path: str) -> None:
    """The same as a picture; needs matplotlib."""
    program.copy().enable_tracing().run().trace.to_timeline(path)


def side_by_side(left: list[str], right: list[str]) -> tuple[str, ...]:
    rows = zip_longest(["by rows", *left], ["by columns", *right], fillvalue="")
    return tuple(f"{a:<{PICTURE}}  {b}".rstrip() for a, b in rows)


def run(batch: int = BATCH, stages: int = STAGES, threads: int | None = None, svg: bool = False) -> list[Result]:
    check_sizes(batch=batch, stages=stages)
    random = np.random.default_rng(0)
    q = random.integers(-127, 128, (stages, WIDTH, WIDTH)).astype(np.int8)
    scale = (random.uniform(0.5, 1.5, (stages, 1, WIDTH)) * np.sqrt(2 / WIDTH) / 73).astype(np.float32)
    x = random.standard_normal((batch, ROWS, WIDTH), dtype=np.float32)
    results: list[Result] = []
    timelines: list[list[str]] = []
    for how in ("rows", "columns"):
        states = np.zeros((batch, stages + 1, ROWS, WIDTH), np.float32)
        states[:, 0] = x
        program = placed(how, q, scale, states).compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
        cycles = CYCLES[how] if (batch, stages) == (BATCH, STAGES) else None
        check = checked(q, scale, x, states)
        results.append(measured(f"placement by {how} {batch}x{stages}", program, [states], check, cycles))
        timelines.append(timeline(program))
        if svg:
            draw(program, f"placement_{how}.svg")
    rows, columns = results
    gain = f"rows {rows.cycles:,} cycles, columns {columns.cycles:,}: {rows.cycles / columns.cycles:.2f} times"
    return [rows, replace(columns, notes=(gain, *side_by_side(*timelines)))]


def checked(q: Array, scale: Array, x: Array, states: Array) -> Callable[[], tuple[float, float]]:
    return lambda: compare(states[:, -1], golden(q, scale, x), estimate(q, scale, x).bound)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
