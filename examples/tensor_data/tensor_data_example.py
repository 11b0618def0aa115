"""Ways to take tiles from arrays: by index, by tile index, by slice, and from arrays of any strides.

Arrays are bound as they are: a transposed or reversed array is neither copied nor made contiguous.
"""

import sys

import numpy as np

from pto_wsp import Dense, DispatchPolicy, In, Out, P, Tensor, combine, kernel, pto, workload
from pto_wsp.tools.bounds import Array, compare, gamma, worst
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

BATCH, ROWS, COLS = 4, 1000, 300
TILE_ROWS, TILE_COLS = 16, 64
CYCLES = 150_170  # the cost of the fullest lane's tasks: no task waits for another


def golden(x: Array) -> Array:
    return 0.5 * x.astype(np.float64) + 1


@kernel
def halve_and_add_one(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, 0.5 * x + 1)


@workload
def by_index(x: Tensor, y: Tensor, batch: int):
    """x[b] drops the first dimension; the tile is everything that is left."""
    for b in P(batch):
        halve_and_add_one[b](x=x[b], out=y[b])


@workload
def by_tile_index(x: Tensor, y: Tensor, batch: int, rows: int, cols: int):
    """x[b, i, j] with tile indices; the last tile of each row and column is smaller where the sizes ask for it."""
    row_tiles, col_tiles = Dense[rows]().tiles(TILE_ROWS), Dense[cols]().tiles(TILE_COLS)
    for b, i, j in P(batch, row_tiles, col_tiles):
        halve_and_add_one[b, i, j](x=x[b, i, j], out=y[b, i, j])


@workload
def by_slice(x: Tensor, y: Tensor, cols: int):
    """Slices have a length known while tracing; what is left over is a slice of its own, which Python decides."""
    whole = cols // TILE_COLS
    for j in P(whole):
        part = slice(j * TILE_COLS, (j + 1) * TILE_COLS)
        halve_and_add_one[j](x=x[:, part], out=y[:, part])
    if whole * TILE_COLS < cols:
        halve_and_add_one[whole](x=x[:, whole * TILE_COLS :], out=y[:, whole * TILE_COLS :])


@workload
def by_rows(x: Tensor, y: Tensor):
    """Whole tiles of rows, whatever the strides of x and y."""
    for i in P(x.tiles(TILE_ROWS)):
        halve_and_add_one[i](x=x[i], out=y[i])


def bound(want: Array) -> Array:
    return gamma(1) * np.abs(want)  # halving is exact


def run(batch: int = BATCH, rows: int = ROWS, cols: int = COLS, threads: int | None = None) -> Result:
    check_sizes(batch=batch, rows=rows, cols=cols)
    data = np.random.default_rng(0).standard_normal((batch, rows, cols), dtype=np.float32)
    first = data[0]
    x, matrix = Tensor(data), Tensor(first.copy())
    indexed, tiled = np.zeros_like(data), np.zeros_like(data)
    sliced = np.zeros_like(first)
    transposed = np.zeros((cols, rows), dtype=np.float32)
    backwards = np.zeros_like(first)
    between = np.zeros((2 * rows, cols), dtype=np.float32)  # every second row is written
    program = (
        combine(
            by_index(x, Tensor(indexed), batch),
            by_tile_index(x, Tensor(tiled), batch, rows, cols),
            by_slice(matrix, Tensor(sliced), cols),
            by_rows(Tensor(first.T), Tensor(transposed)),
            by_rows(Tensor(first[::-1, ::-1]), Tensor(backwards)),
            by_rows(matrix, Tensor(between[::2])),
        )
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )

    def check() -> tuple[float, float]:
        pairs = [(indexed, data), (tiled, data), (sliced, first), (transposed, first.T)]
        pairs += [(backwards, first[::-1, ::-1]), (between[::2], first)]
        checked = [compare(got, golden(source), bound(golden(source))) for got, source in pairs]
        untouched = between[1::2]
        return worst([*checked, compare(untouched, np.zeros_like(untouched), np.zeros_like(untouched))])

    cycles = CYCLES if (batch, rows, cols) == (BATCH, ROWS, COLS) else None
    outputs = [indexed, tiled, sliced, transposed, backwards, between]
    return measured(f"tensor_data {batch}x{rows}x{cols}", program, outputs, check, cycles)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
