"""Small kernels and the text of a traced workload's body, for tests of what tracing gives."""

from textwrap import dedent
from typing import Any

import numpy as np

from pto_wsp import DType, In, Out, Scalar, Tile, Workload, kernel, pto
from pto_wsp.ir.text import parse

F32, I32 = DType.F32, DType.I32


@kernel
def copy(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
    pto.store(y, x)


@kernel
def fill(s: Scalar[I32], y: Out[Tile[1, 1, I32]]):
    pto.store(y, s)


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.zeros(shape, dtype)


def ints(*shape: int) -> np.ndarray[Any, Any]:
    return zeros(*shape, dtype=np.int32)


def body(w: Workload) -> str:
    """The equations of a workload as text, without its header; the text says all there is."""
    assert parse(str(w.wir)) == w.wir
    header = ("tensor", "temporary", "result", "symbol", "ragged", "sparse")
    out: list[str] = []
    in_kernel = False
    for line in str(w.wir).splitlines()[1:-1]:
        in_kernel = in_kernel or line.startswith("  kernel ")
        if not in_kernel and line.split(maxsplit=1)[0] not in header:
            out.append(line)
        in_kernel = in_kernel and line != "  }"
    return dedent("\n".join(out))


def same(w: Workload, text: str) -> None:
    """The body is exactly `text`."""
    found = body(w)
    assert found == dedent(text).strip("\n"), found
