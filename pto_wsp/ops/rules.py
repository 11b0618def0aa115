"""Shape rules that the families of operations share."""

from __future__ import annotations

from collections.abc import Sequence

from pto_wsp.errors import Location, TypeCheckError
from pto_wsp.ir.core import Check, Dim, DType, ScalarType, TileType, Type

FLOATS = (DType.F32, DType.F16, DType.BF16)
WITH_F64 = (*FLOATS, DType.F64)
COMPUTED_IN = {**dict.fromkeys(FLOATS, DType.F32), DType.F64: DType.F64}
"""In which dtype floats are added up and put through compositions, before one rounding to their own."""
INTEGERS = tuple(d for d in DType if d.is_integer)
NUMBERS = (*WITH_F64, *INTEGERS)
COMPUTED = (*NUMBERS, DType.BOOL)
ALL = tuple(DType)
GROUPS = {"floats": FLOATS, "integers": INTEGERS, "numbers": NUMBERS, "computed": COMPUTED, "all": ALL}
"""What the docstrings of operations call sets of dtypes."""


def show(types: Sequence[Type]) -> dict[str, object]:
    return dict(zip("abcd", types, strict=False))


def need_tile(what: str, t: Type) -> TileType:
    if not isinstance(t, TileType):
        raise TypeCheckError(
            "PTO105",
            f"{what} of a scalar",
            values={"operand": t},
            fix="give a tile; pto.full((rows, cols), s) makes one of a scalar",
        )
    return t


def need_dtype(what: str, dtype: DType, allowed: Sequence[DType], loc: Location | None = None) -> None:
    """loc: the user's line, where no equation has it."""
    if dtype not in allowed:
        raise TypeCheckError(
            "PTO104",
            f"{what} does not exist for {dtype}",
            values={"exists for": ", ".join(map(str, allowed))},
            loc=loc,
            fix="cast the operand: pto.cast(x, DType...)",
        )


def same_dtype(what: str, types: Sequence[Type]) -> DType:
    dtypes = [t.dtype for t in types if isinstance(t, (TileType, ScalarType))]
    if len(set(dtypes)) > 1:
        raise TypeCheckError(
            "PTO102",
            f"{what} of different dtypes",
            values=show(types),
            fix="cast one operand: there is no implicit conversion",
        )
    return dtypes[0]


def join(a: Dim, b: Dim) -> tuple[Dim, tuple[Check, ...]]:
    """Two valid extents that must agree. A number stands for a tile that is defined everywhere, and takes the other's."""
    if isinstance(a, int):
        return b, ()
    if isinstance(b, int) or a == b:
        return a, ()
    return a, (Check("eq", a, b),)


def at_least(valid: Dim, size: int) -> tuple[Check, ...]:
    """What the task must look at where `size` rows or columns are needed. A number is the whole static size."""
    return () if isinstance(valid, int) else (Check("ge", valid, size),)


def broadcast(what: str, types: Sequence[Type]) -> tuple[tuple[int, int], tuple[Dim, Dim], tuple[Check, ...]]:
    """Static and valid shape of an elementwise result: in each dimension operands are equal or 1."""
    tiles = [t for t in types if isinstance(t, TileType)]
    if not tiles:
        raise TypeCheckError(
            "PTO105",
            f"{what} without a tile",
            values=show(types),
            fix="at least one operand must be a tile; pto.full((rows, cols), s) makes one of a scalar",
        )
    shape: list[int] = []
    valid: list[Dim] = []
    checks: tuple[Check, ...] = ()
    for axis in (0, 1):
        size = max(t.shape[axis] for t in tiles)
        extent: Dim = size
        for t in tiles:
            if t.shape[axis] not in (1, size):
                raise TypeCheckError(
                    "PTO103",
                    f"{what}: shapes do not broadcast",
                    values=show(types),
                    fix="operands have equal shapes, or are [rows, 1], [1, cols] or [1, 1]",
                )
            if t.shape[axis] == size:
                extent, more = join(extent, (t.vrows, t.vcols)[axis])
                checks += more
        shape.append(size)
        valid.append(extent)
    return (shape[0], shape[1]), (valid[0], valid[1]), checks
