"""The code in the documents runs, block after block, and its errors would name the document's own lines."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "docs/costs.md",
    "docs/jax.md",
    "docs/kernels.md",
    "docs/layouts.md",
    "docs/observation.md",
    "docs/pipelines.md",
    "docs/resources.md",
    "docs/schedules.md",
    "docs/semantic_time.md",
    "docs/tour.md",
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[str]:
    """Each block, preceded by as many empty lines as stand before it in the document."""
    text = path.read_text()
    return ["\n" * text.count("\n", 0, m.start(1)) + m.group(1) for m in BLOCK.finditer(text)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_code_of_a_document_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path / "cache"))
    module = types.ModuleType("document")
    found = blocks(ROOT / name)
    assert found
    for code in found:
        exec(compile(code, str(ROOT / name), "exec"), module.__dict__)


def test_every_document_with_code_is_run() -> None:
    with_code = {
        str(p.relative_to(ROOT))
        for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        if BLOCK.search(p.read_text())
    }
    assert with_code == set(DOCUMENTS)
