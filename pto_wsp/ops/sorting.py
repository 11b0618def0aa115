"""Sorting.

In the order of the family above: NaN first, in both directions, and of equal elements the one with the lower index.
"""

from __future__ import annotations

from collections.abc import Sequence

from pto_wsp.errors import TypeCheckError, here
from pto_wsp.ir.core import DType, TileType
from pto_wsp.ops.arithmetic import neg
from pto_wsp.ops.bits import bit_not
from pto_wsp.ops.indexing import gather
from pto_wsp.ops.layout import concat, reshape
from pto_wsp.ops.memory import need_value
from pto_wsp.ops.parts import restrict, valid_shape
from pto_wsp.ops.rules import NUMBERS, need_dtype
from pto_wsp.ops.value import Value, bind, composed

BLOCK = 32
"""Columns that TSORT32 sorts at once."""


@composed
def sort(x: Value, descending: bool = True) -> Value:
    """The elements of each row in order, largest first, or with descending=False smallest first.

    [m, n] -> [m, n]; numbers; TSORT32, TMRGSORT; exact
    """
    value = need_value("sort", x)
    return _as_valid(bind("topk_values", value, _places("sort", value, descending)), value)


@composed
def argsort(x: Value, descending: bool = True) -> Value:
    """The columns that the elements of `sort` stand in.

    [m, n] -> i32 [m, n]; numbers; TSORT32, TMRGSORT; exact
    """
    value = need_value("argsort", x)
    return _as_valid(_places("argsort", value, descending), value)


def _places(what: str, x: Value, descending: object) -> Value:
    """The columns of each row in order, and then -1 for each that is not valid."""
    need_dtype(what, x.dtype, NUMBERS, here())
    if not isinstance(descending, bool):
        raise TypeCheckError(
            "PTO106",
            f"{what} in an unknown order",
            values={"descending": repr(descending)[:80]},
            loc=here(),
            fix="give True, for the largest first, or False",
        )
    turned = x if descending else neg(x) if x.dtype.is_float else bit_not(x)
    return bind("extract_topk_indices", turned, cols=x.shape[1], valid=1)


def _as_valid(y: Value, x: Value) -> Value:
    """y, as far as x is valid."""
    assert isinstance(x.type, TileType)
    if isinstance(x.type.vcols, int):
        return y
    return restrict(y, *valid_shape(x))


@composed
def sort32(x: Value, index: Value) -> tuple[Value, Value]:
    """Each block of 32 columns in order, largest first, and in the second result the elements of index (also u32) moved with them.
    The columns, and those that are valid, are a multiple of 32: with n > 32 all of x is valid, else all columns, or it is an error of
    the task.

    [m, n], i32 [m, n] -> [m, n], i32 [m, n]; numbers; TSORT32; exact
    """
    value, names = need_value("sort32", x), need_value("sort32", index)
    m, n = value.shape
    if n % BLOCK or names.shape != (m, n):
        raise TypeCheckError(
            "PTO103",
            f"sort32 of {m}x{n} and {names.shape[0]}x{names.shape[1]}",
            values={"x": value.type, "index": names.type},
            loc=here(),
            fix=f"give tiles of one shape, and a multiple of {BLOCK} columns",
        )
    need_dtype("sort32", value.dtype, NUMBERS, here())
    _need_names("sort32", (names,))
    value, names = ((reshape(t, (m * n // BLOCK, BLOCK)) if n != BLOCK else t) for t in (value, names))
    ordered = _in_order(value, names)
    values, names = ((reshape(t, (m, n)) if n != BLOCK else t) for t in ordered)
    return values, names


@composed
def merge_sort(values: Sequence[Value], indices: Sequence[Value]) -> tuple[Value, Value]:
    """2 to 4 tiles whose rows are in order, largest first, as one, and the elements of indices (also u32) moved with them. Of equal
    elements that of the earlier tile comes first.

    [m, n], [m, k], i32 [m, n], i32 [m, k] -> [m, n + k], i32 [m, n + k]; numbers; TMRGSORT; exact
    """
    if not all(isinstance(t, Sequence) and 2 <= len(t) <= 4 for t in (values, indices)) or len(values) != len(indices):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeCheckError(
            "PTO106",
            "merge_sort takes 2 to 4 tiles, and as many of indices",
            values={"values": repr(values)[:80], "indices": repr(indices)[:80]},
            loc=here(),
            fix="write merge_sort((a, b), (index_a, index_b))",
        )
    runs, names = ([need_value("merge_sort", t) for t in given] for given in (values, indices))
    if any(a.shape != b.shape for a, b in zip(runs, names, strict=True)):
        raise TypeCheckError(
            "PTO103",
            "merge_sort: shapes of values and indices differ",
            values={f"of {k}": f"{a.type}, {b.type}" for k, (a, b) in enumerate(zip(runs, names, strict=True))},
            loc=here(),
            fix="give an index for each value",
        )
    for run in runs:
        need_dtype("merge_sort", run.dtype, NUMBERS, here())
    _need_names("merge_sort", names)
    whole, name = runs[0], names[0]
    for run, more in zip(runs[1:], names[1:], strict=True):
        whole, name = concat(whole, run), concat(name, more)
    return _in_order(whole, name)


def _need_names(what: str, indices: Sequence[Value]) -> None:
    for t in indices:
        need_dtype(f"{what}: indices", t.dtype, (DType.I32, DType.U32), here())


def _in_order(x: Value, names: Value) -> tuple[Value, Value]:
    n = x.shape[1]
    places = bind("extract_topk_indices", x, cols=n, valid=n)
    return bind("topk_values", x, places), gather(names, places)
