"""What targets declare: all there is, by all of them, in the docs, and shown by what changes; what is not there is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from project import ROOT
from pto_wsp import CompileError, Program, UnsupportedError, capabilities
from pto_wsp.errors import InternalError
from pto_wsp.ir.core import PRIMITIVES, Dialect
from pto_wsp.ir.declarable import DECLARABLE, OF_KERNELS, OF_TASKS, declarables
from pto_wsp.ir.scopes import SCOPES
from pto_wsp.ir.tasks import AXES, BUFFERS
from pto_wsp.targets import base
from pto_wsp.targets.capabilities import STATUSES, Capabilities
from pto_wsp.tools.capability_page import render
from targets import shown_language, shown_processes, shown_runs, shown_schedules
from targets.shown import SHOWN, even

SHOWN_BY = (shown_schedules, shown_language, shown_processes, shown_runs)  # imported to fill SHOWN


def enforced() -> list[str]:
    return [name for name, status in capabilities("cpu_sim").items() if status == "enforced"]


@pytest.mark.parametrize("name", enforced())
def test_it_changes_what_happens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path))
    SHOWN[name]()


def test_all_that_is_shown_is_declared_enforced() -> None:
    assert SHOWN.keys() == set(enforced())


@pytest.mark.parametrize("target", sorted(base.TARGETS))
def test_a_target_declares_all_there_is(target: str) -> None:
    of = capabilities(target)
    assert list(of) == list(DECLARABLE)
    assert set(of.values()) <= set(STATUSES)
    rows = str(of).splitlines()
    assert len(rows) == 1 + len(DECLARABLE)
    assert rows[0].startswith(target)
    assert [r.split()[:2] for r in rows[1:]] == [list(item) for item in of.items()]


def test_cpu_sim_enforces_or_has_none() -> None:
    assert set(capabilities().values()) <= {"enforced", "unsupported"}


@pytest.mark.parametrize("wrong", [{"more": "enforced"}, {"streams": "maybe"}])
def test_declarations_are_complete(wrong: dict[str, str]) -> None:
    with pytest.raises(InternalError):
        Capabilities("other", {**capabilities(), **wrong})
    with pytest.raises(InternalError, match="streams"):
        Capabilities("other", {k: v for k, v in capabilities().items() if k != "streams"})


def test_whatever_the_wir_has_can_be_declared() -> None:
    of_tasks = {name for name, p in PRIMITIVES.items() if p.dialect is Dialect.TASK}
    assert of_tasks == {*OF_TASKS, *SCOPES, *BUFFERS, "task", "yield"}
    assert {name for name, p in PRIMITIVES.items() if p.dialect is Dialect.CONTROL} <= {*OF_KERNELS, "yield"}
    assert {*OF_TASKS.values(), *OF_KERNELS.values()} <= DECLARABLE.keys()
    assert {f"axes.{kind}" for kind in AXES} <= DECLARABLE.keys()
    for scope in SCOPES:
        assert any(name == scope or name.startswith(f"{scope}.") for name in DECLARABLE), scope


@pytest.mark.parametrize("target", ["gpu", None, 3])
def test_unknown_targets(target: Any) -> None:
    with pytest.raises(CompileError, match="PTO401"):
        capabilities(target)


def test_the_page_is_up_to_date(golden: Callable[[Path, str], None]) -> None:
    golden(ROOT / "docs" / "capabilities.md", render())


@pytest.mark.parametrize("name", enforced())
def test_what_a_target_does_not_have_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown uses the name: run for a target that lacks it, it is refused."""
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path))
    lesser = Capabilities("cpu_sim", {**capabilities(), name: "unsupported"})
    monkeypatch.setattr(type(base.get("cpu_sim")), "capabilities", lesser)
    with pytest.raises(UnsupportedError, match="PTO427") as e:
        SHOWN[name]()
    assert f"the target cpu_sim has no {name}" in str(e.value)
    assert e.value.loc is not None
    assert e.value.loc.file.startswith(str(Path(__file__).parent))


def test_what_a_target_records_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Capabilities("cpu_sim", {**capabilities(), "streams": "recorded"})
    monkeypatch.setattr(type(base.get("cpu_sim")), "capabilities", recording)
    assert even().streams(2).compile()._artifact.manifest["capabilities"]["streams"] == "recorded"


def test_an_artifact_says_what_its_workload_uses() -> None:
    w = even().streams(2)
    program = w.compile()
    record = program._artifact.manifest["capabilities"]
    assert record == dict.fromkeys(
        ("kernels.tiles", "streams", "axes.Dense", "loops.parallel", "views.index", "views.slice"), "enforced"
    )
    assert list(declarables(w.wir)) == list(record)
    assert len(json.dumps(record)) < 256
    again = Program.from_bytes(program.to_bytes()).bind({k: np.ones((12, 1, 8), np.float32) for k in ("X", "Y")})
    assert again.run().stats.total_cycles == program.run().stats.total_cycles
