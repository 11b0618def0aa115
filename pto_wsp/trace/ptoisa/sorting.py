"""Instructions that sort. PTO-ISA keeps values and their indices in turn in one tile; here they are two, exact in every dtype."""

from __future__ import annotations

from typing import Any

from pto_wsp import ops
from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ops.value import Value
from pto_wsp.trace.ptoisa.instruction import Instruction, instruction
from pto_wsp.trace.ptoisa.machine import Register

TSORT32 = instruction(
    "TSORT32 dst_value, dst_index, src, index, tmp?",
    ops.sort32,
    "dst_value = each 32 columns of src, largest first; dst_index = index, moved with them",
)


def _merged(dst: Register, *given: Any) -> tuple[Value, ...]:
    """Runs and their indices in turn; or one row of runs, its indices, and how long each run is."""
    *tiles, length = (*given, None) if isinstance(given[-1], Value) else given
    n = tiles[0].shape[1]
    if length is not None:
        x, index = tiles
        if x.shape[0] != 1 or length < 1 or n % (4 * length):
            raise TypeCheckError(
                "PTO106",
                "TMRGSORT of runs that are not four and four",
                values={"src": x.type, "length": length},
                loc=here(),
                fix="give one row, whose columns are a multiple of 4 * length",
            )
        tiles = [
            ops.slice(ops.reshape(t, (n // (4 * length), 4 * length)), None, (k * length, (k + 1) * length))
            for k in range(4)
            for t in (x, index)
        ]
    results = ops.merge_sort(tiles[::2], tiles[1::2])
    if length is not None:
        results = tuple(ops.reshape(t, (1, n)) for t in results)
    first = dst.held[1]
    return tuple(t if t.shape[1] <= first else ops.slice(t, None, (0, first)) for t in results)


TMRGSORT = Instruction(
    "TMRGSORT",
    (
        "dst_value, dst_index, src0, index0, src1, index1, tmp?",
        "dst_value, dst_index, src0, index0, src1, index1, src2, index2, tmp?",
        "dst_value, dst_index, src0, index0, src1, index1, src2, index2, src3, index3, tmp?",
        "dst_value, dst_index, src, index, length",
    ),
    _merged,
    "dst_value = runs that are in order as one, largest first, as many as it holds; dst_index = their indices. With length: one row "
    "of runs of that many columns, four by four",
    shaped=True,
)
