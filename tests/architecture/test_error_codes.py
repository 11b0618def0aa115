"""Every error code means one thing, is raised, is tested, and stands in the documents."""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path

from project import ROOT, files, place
from pto_wsp import errors
from pto_wsp.tools.error_page import render

PACKAGES = (ROOT / "pto_wsp", ROOT / "interop" / "pto_wsp_jax")


@cache
def codes_in(path: Path) -> set[str]:
    """The error codes that stand as strings in a file."""
    nodes = ast.walk(ast.parse(path.read_text(), str(path)))
    return {
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value in errors.CODES
    }


def test_every_code_is_raised() -> None:
    raised: set[str] = set()
    for path in files(".py"):
        if any(path.is_relative_to(p) for p in PACKAGES):
            raised |= codes_in(path)
    assert raised == set(errors.CODES)


def test_every_code_is_tested() -> None:
    of_jax = map(codes_in, (ROOT / "tests" / "interop").glob("test_*.py"))
    assert codes_in(ROOT / "tests" / "test_errors.py").union(*of_jax) == set(errors.CODES)


def test_every_raised_code_is_in_the_table() -> None:
    wrong = [
        f"{place(path, node.lineno)}: {node.value}"
        for path in files(".py")
        if any(path.is_relative_to(p) for p in PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(), str(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value[:3] == "PTO"
        if node.value[3:].isdigit() and node.value not in errors.CODES
    ]
    assert not wrong, "\n".join(wrong)


def test_the_page_of_errors_is_up_to_date(golden: Callable[[Path, str], None]) -> None:
    golden(ROOT / "docs" / "errors.md", render())
