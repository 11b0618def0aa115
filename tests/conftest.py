"""What all tests share: which package is tested, and how many examples a property test draws."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from project import ROOT

# `python -m pytest` puts the current folder first on the path; the source tree has no compiled core and would hide
# the installed package.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]

settings.register_profile("gate", max_examples=30, derandomize=True, deadline=None, database=None)
settings.register_profile("full", max_examples=1000, deadline=None, database=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="draw many more, and random, examples in property tests")
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a background job starts with it ignored, and tests interrupt
    settings.load_profile("full" if config.getoption("--full") else "gate")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """golden(path, text): the file holds exactly this text, or is written with --update-golden."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text, f"{path} is out of date: run pytest with --update-golden"

    return check
