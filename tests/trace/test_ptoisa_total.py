"""The list of all instructions: every name once, with operations that there are or a reason, and its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from project import ROOT
from pto_wsp import UnsupportedError, pto, ptoisa
from pto_wsp.trace.ptoisa.instruction import INSTRUCTIONS
from pto_wsp.trace.ptoisa.total import WITHOUT_MEANING, render, rows

NAMES = (ROOT / "tests/data/pto_isa_instructions.txt").read_text().split()
ROWS = list(rows())
BESIDE = {"set_flag", "wait_flag", "pipe_barrier", "TPipe", "ffts_cross_core_sync", "wait_flag_dev"} | {
    n for n in WITHOUT_MEANING if n.startswith("get_")
}


def test_every_instruction_is_in_the_list_once() -> None:
    listed = Counter([r.name for r in ROWS] + list(WITHOUT_MEANING))
    assert set(listed.values()) == {1}
    assert len(NAMES) == len(set(NAMES))
    assert set(listed) - BESIDE == set(NAMES)
    assert set(INSTRUCTIONS) <= {r.name for r in ROWS}


def test_what_is_covered_can_be_called_and_names_operations() -> None:
    for row in ROWS:
        assert callable(getattr(ptoisa, row.name))
        assert row.meaning
        assert row.operands.startswith(f"{row.name}(")
        assert set(row.operations) <= set(pto.__all__)
    assert {r.name for r in ROWS if not r.operations} == {
        *("TPREFETCH", "TASSIGN", "TSYNC", "set_flag", "wait_flag", "pipe_barrier")
    }
    of = {r.name: r.operations for r in ROWS}
    assert of["TADD"] == ("add",)
    assert set(of["TAXPY"]) == {"mul", "add"}
    assert set(of["TSTORE_FP"]) == {"store", "mul", "cast"}
    assert set(of["TROWARGMAX"]) == {"rowargmax", "rowmax"}


@pytest.mark.parametrize("name", sorted(WITHOUT_MEANING))
def test_what_has_no_meaning_says_why(name: str) -> None:
    with pytest.raises(UnsupportedError) as e:
        getattr(ptoisa, name)
    assert e.value.code == "PTO194"
    assert WITHOUT_MEANING[name] in str(e.value)


def test_the_page_is_up_to_date(golden: Callable[[Path, str], None]) -> None:
    golden(ROOT / "docs/ptoisa.md", render())
