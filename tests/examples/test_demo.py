"""The demo runs from anywhere, prints a small table and exits with 1 when a number is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pto_wsp.tools import demo
from pto_wsp.tools.bounds import U, compare, gamma, worst


def test_it_prints_a_table(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "pto_wsp.tools.demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    head, rmsnorm, attention, *_ = lines = done.stdout.splitlines()
    assert head.split()[:2] == ["workload", "tasks"]
    assert rmsnorm.startswith("rmsnorm")
    assert attention.startswith("attention")
    assert max(map(len, lines)) <= 100


def test_a_wrong_number_gives_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "RMSNORM_CYCLES", 1)
    assert demo.main() == 1
    assert "cycles, but 1 are expected" in capsys.readouterr().out


def test_bounds() -> None:
    one, zero = np.ones((2, 2)), np.zeros((2, 2))
    assert gamma(0) == 0
    assert U < gamma(1) < 2 * U < gamma(2)
    assert compare(one, one, zero) == (0, 0)
    assert compare(one, one + 0.5, one) == (0.5, 0.5)
    assert compare(one, zero, zero) == (1, np.inf)
    assert np.isnan(compare(one, one * np.nan, one)).all()
    assert worst([(1, 2), (3, 0)]) == (3, 2)
    assert np.isnan(worst([(1, np.nan), (3, 0)])[1])
