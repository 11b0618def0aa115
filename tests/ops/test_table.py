"""The page of operations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pto_wsp import ops as pto
from pto_wsp.ops.table import render, rows

PAGE = Path(__file__).parents[2] / "docs/operations.md"


def test_the_page_is_up_to_date(golden: Callable[[Path, str], None]) -> None:
    golden(PAGE, render())


def test_the_page_has_every_operation() -> None:
    assert sorted(name for row in rows() for name in (row.name, *row.aliases)) == sorted(pto.__all__)
