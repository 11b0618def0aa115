"""Instructions along rows and columns: reductions, and vectors spread over tiles."""

from __future__ import annotations

from collections.abc import Callable

from pto_wsp import ops
from pto_wsp.ops.value import Value
from pto_wsp.trace.ptoisa.instruction import Instruction, instruction, typed
from pto_wsp.trace.ptoisa.machine import Register

_ROW = "dst, src, tmp?"

TROWSUM = instruction(f"TROWSUM {_ROW}", ops.rowsum, "dst [m, 1] = sum of each row")
TROWMAX = instruction(f"TROWMAX {_ROW}", ops.rowmax, "dst [m, 1] = largest of each row")
TROWMIN = instruction(f"TROWMIN {_ROW}", ops.rowmin, "dst [m, 1] = smallest of each row")
TROWPROD = instruction(f"TROWPROD {_ROW}", ops.rowprod, "dst [m, 1] = product of each row")
TCOLSUM = instruction(f"TCOLSUM {_ROW}", ops.colsum, "dst [1, n] = sum of each column")
TCOLMAX = instruction(f"TCOLMAX {_ROW}", ops.colmax, "dst [1, n] = largest of each column")
TCOLMIN = instruction(f"TCOLMIN {_ROW}", ops.colmin, "dst [1, n] = smallest of each column")
TCOLPROD = instruction(f"TCOLPROD {_ROW}", ops.colprod, "dst [1, n] = product of each column")


def _index(
    index: Callable[[Value], Value], best: Callable[[Value], Value]
) -> Callable[..., Value | tuple[Value, Value]]:
    """One destination takes the index; of two, the first takes the value."""

    def lower(dst: Register, x: Value) -> Value | tuple[Value, Value]:
        found = index(x)
        return found if dst.dtype is found.dtype and dst.dtype is not x.dtype else (best(x), found)

    return lower


def _arg(name: str, index: Callable[[Value], Value], best: Callable[[Value], Value], what: str) -> Instruction:
    doc = f"dst = index of the {what}; of two destinations the first is the {what} itself"
    return Instruction(
        name,
        ("dst, src, tmp?", "dst_value, dst_index, src, tmp"),
        _index(index, best),
        doc,
        shaped=True,
    )


def _row_expand(dst: Register, x: Value) -> Value:
    return ops.broadcast(x if x.shape[1] == 1 else ops.slice(x, None, (0, 1)), dst.held)


def _col_expand(dst: Register, x: Value) -> Value:
    return ops.broadcast(x if x.shape[0] == 1 else ops.slice(x, (0, 1), None), dst.held)


TROWEXPAND = instruction(
    "TROWEXPAND dst, src", _row_expand, "dst = the first column of src in every column", shaped=True
)
TCOLEXPAND = instruction("TCOLEXPAND dst, src", _col_expand, "dst = the first row of src in every row", shaped=True)


_JOINED: dict[str, tuple[Callable[..., Value], Callable[..., Value], str]] = {
    "ADD": (ops.rowadd, ops.coladd, "src0 + src1"),
    "SUB": (ops.rowsub, ops.colsub, "src0 - src1"),
    "MUL": (ops.rowmul, ops.colmul, "src0 * src1"),
    "DIV": (ops.rowdiv, ops.coldiv, "src0 / src1"),
    "MAX": (ops.rowmaximum, ops.colmaximum, "the larger of src0 and src1"),
    "MIN": (ops.rowminimum, ops.colminimum, "the smaller of src0 and src1"),
    "EXPDIF": (ops.rowexpdif, ops.colexpdif, "exp(src0 - src1)"),
}


def _expand(axis: str, suffix: str) -> Instruction:
    of_rows, of_cols, meaning = _JOINED[suffix]
    function, vector = (of_rows, "[m, 1], each row's own") if axis == "ROW" else (of_cols, "[1, n], each column's own")
    return instruction(f"T{axis}EXPAND{suffix} dst, src0, src1, tmp?", function, f"dst = {meaning}, src1 {vector}")


TROWEXPANDADD = _expand("ROW", "ADD")
TROWEXPANDSUB = _expand("ROW", "SUB")
TROWEXPANDMUL = _expand("ROW", "MUL")
TROWEXPANDDIV = _expand("ROW", "DIV")
TROWEXPANDMAX = _expand("ROW", "MAX")
TROWEXPANDMIN = _expand("ROW", "MIN")
TROWEXPANDEXPDIF = _expand("ROW", "EXPDIF")
TCOLEXPANDADD = _expand("COL", "ADD")
TCOLEXPANDSUB = _expand("COL", "SUB")
TCOLEXPANDMUL = _expand("COL", "MUL")
TCOLEXPANDDIV = _expand("COL", "DIV")
TCOLEXPANDMAX = _expand("COL", "MAX")
TCOLEXPANDMIN = _expand("COL", "MIN")
TCOLEXPANDEXPDIF = _expand("COL", "EXPDIF")

TROWARGMAX = _arg("TROWARGMAX", ops.rowargmax, ops.rowmax, "largest of each row")
TROWARGMIN = _arg("TROWARGMIN", ops.rowargmin, ops.rowmin, "smallest of each row")
TCOLARGMAX = _arg("TCOLARGMAX", ops.colargmax, ops.colmax, "largest of each column")
TCOLARGMIN = _arg("TCOLARGMIN", ops.colargmin, ops.colmin, "smallest of each column")


def _pairs(x: Value) -> Value:
    return ops.add(ops.slice_even(x), ops.slice_odd(x))


def _bins(dst: Register, x: Value) -> Value:
    return typed(ops.bincount(x, dst.held[1]), dst.dtype)


TPAIRREDUCESUM = instruction(
    "TPAIRREDUCESUM dst, src", _pairs, "dst [m, n / 2] = sums of columns 0 and 1, 2 and 3, ..."
)
THISTOGRAM = instruction("THISTOGRAM dst, src", _bins, "dst [1, n] = how often src holds 0, 1, ..., n - 1", shaped=True)
