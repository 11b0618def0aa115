"""The cache of compiled libraries: made once, whole or not at all, whoever else is there and whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pto_wsp.cxx import cache

KEY = "ab12"
# Makes the library of KEY slowly, notes that it does, and prints what it got.
MAKER = """
import os, sys, time
from pathlib import Path
from pto_wsp.cxx import cache

def make(out, folder):
    with open(sys.argv[1], "a") as log:
        log.write("made\\n")
    out.write_bytes(b"half")
    time.sleep(float(sys.argv[2]))
    out.write_bytes(b"whole")

print(cache.fetch("ab12", make, lambda path: path.read_bytes()[:5].decode()))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fetched(key: str, text: bytes = b"whole", made: list[str] | None = None) -> bytes:
    def make(out: Path, folder: Path) -> None:
        assert folder.is_dir()
        if made is not None:
            made.append(key)
        out.write_bytes(text)

    return cache.fetch(key, make, lambda path: path.read_bytes()[: len(text)])


def start(log: Path, seconds: float) -> subprocess.Popen[str]:
    path = os.pathsep.join(p for p in sys.path if p)
    words = (sys.executable, "-P", "-c", MAKER, str(log), str(seconds))
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})


def test_processes_at_the_same_time_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    those = [start(log, 0.3) for _ in range(3)]
    assert [p.communicate(timeout=60)[0] for p in those] == ["whole\n"] * 3
    assert log.read_text() == "made\n"


def test_a_killed_process_leaves_nothing_that_harms(tmp_path: Path, home: Path) -> None:
    log = tmp_path / "log"
    victim = start(log, 600)
    while not log.exists():
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=60)
    made: list[str] = []
    assert fetched(KEY, made=made) == b"whole"
    assert made == [KEY]
    (left,) = home.glob("make-*")
    os.utime(left, (0, 0))
    fetched("cd34")
    assert not left.exists()


def test_a_damaged_library_is_made_again(home: Path) -> None:
    for text in (b"", b"wholf" + b"0" * 32):
        fetched(KEY)
        (home / f"{KEY}.so").write_bytes(text)
        made: list[str] = []
        assert fetched(KEY, made=made) == b"whole"
        assert made == [KEY]


def test_what_was_not_used_for_longest_goes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3 * 1032)
    for i, key in enumerate(("aa", "bb", "cc")):
        fetched(key, b"x" * 1000)
        os.utime(home / f"{key}.so", (i, i))
    fetched("aa", b"x" * 1000)
    fetched("dd", b"x" * 1000)
    assert sorted(p.stem for p in home.glob("*.so")) == ["aa", "cc", "dd"]


def test_where_nothing_can_be_kept_it_is_made_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", "/dev/null/cache")
    assert fetched(KEY) == b"whole"


def test_a_failure_leaves_no_library(home: Path) -> None:
    def make(out: Path, folder: Path) -> None:
        out.write_bytes(b"half")
        raise KeyError(folder.name)

    with pytest.raises(KeyError):
        cache.fetch(KEY, make, lambda path: path)
    assert not list(home.glob("*.so"))
    assert not list(home.glob("make-*"))
