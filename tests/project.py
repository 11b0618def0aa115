"""The files of the project, for tests about the code and the documents themselves."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (".ci", "csrc", "docs", "examples", "interop", "pto_wsp", "tests")


def files(*suffixes: str) -> Iterator[Path]:
    """Every file of the project whose name ends in one of the suffixes, in a fixed order."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return (path for path in sorted(found) if path.suffix in suffixes)


def place(path: Path, line: int) -> str:
    """`path:line` as a message shows it."""
    return f"{path.relative_to(ROOT)}:{line}"
