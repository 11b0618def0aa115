"""What an operation of tiles needs of valid shapes, in words."""

from __future__ import annotations

from collections.abc import Iterable

from pto_wsp.ir.core import PRIMITIVES, Check, Dim, Eqn, TileType, Typed, operand_type


def requirements(eqn: Eqn) -> tuple[Check, ...]:
    """The checks that the type rule of a leaf leaves to the task."""
    rule = PRIMITIVES[eqn.prim].type
    assert rule is not None
    typed = rule(dict(eqn.params), *map(operand_type, eqn.ins))
    assert isinstance(typed, Typed)
    return typed.checks


def failed(checks: Iterable[Check], a: int, b: int) -> Check | None:
    """The first of them that these numbers for its extents do not fulfil."""
    for c in checks:
        fits = all(not isinstance(d, int) or d == n for d, n in ((c.a, a), (c.b, b)))
        if fits and (a < b if c.rel == "ge" else a != b):
            return c
    return None


def unfit(eqn: Eqn, check: Check, a: int, b: int) -> tuple[str, str]:
    """What is wrong where `check` has the numbers a and b, and how to put it right."""
    if check.rel == "ge":
        return f"{eqn.prim} needs {b} valid {sides(eqn, check.a)}, and there are {a}", ENOUGH
    return f"{eqn.prim} of tiles of different valid shapes, {a} and {b}", "give tiles of equal valid shape"


def unfit_restrict(eqn: Eqn, wanted: int, valid: int) -> tuple[str, str]:
    """As `unfit`, of a restriction to more than there is. To the whole static size it says that all of it is needed."""
    t = eqn.outs[0].type
    assert isinstance(t, TileType)
    if wanted > valid and any(isinstance(d, int) and d == wanted for d in (t.vrows, t.vcols)):
        return f"all {wanted} rows or columns of a tile are needed, and {valid} are valid", ENOUGH
    return f"restrict to {wanted} rows or columns, of 1 .. {valid}", "give extents of 1 up to what is valid"


ENOUGH = "take no more than is valid, or make the rest valid: pto.fill_pad"


def sides(eqn: Eqn, extent: Dim) -> str:
    """Whether an extent is of the rows or columns of the operands."""
    tiles = [t for t in map(operand_type, eqn.ins) if isinstance(t, TileType)]
    rows, cols = any(t.vrows == extent for t in tiles), any(t.vcols == extent for t in tiles)
    return "rows or columns" if rows is cols else "rows" if rows else "columns"
