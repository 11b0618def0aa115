"""compile(native=): when kernels are compiled, what is kept, and what happens where that is not possible."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pto_wsp import BoundsError, CompileError, DType, In, Out, P, Program, Tile, empty_like, jit, kernel, pto, workload
from pto_wsp.cxx import library
from pto_wsp.cxx.compiler import Compiler

F32, I32 = DType.F32, DType.I32
ROWS, COLS = 8, 48


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and nothing loaded from another."""
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "_loaded", {})


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that the compiler is given."""
    sources: list[str] = []
    real = Compiler.compile

    def counted(self: Compiler, source: str, out: Path, folder: Path) -> None:
        sources.append(source)
        real(self, source, out, folder)

    monkeypatch.setattr(Compiler, "compile", counted)
    return sources


@kernel
def softmax(x: In[Tile[ROWS, COLS, F32]], y: Out[Tile[ROWS, COLS, F32]]):
    v = pto.load(x)
    e = pto.exp(v - pto.rowmax(v))
    pto.store(y, e / pto.rowsum(e))


@kernel
def double(x: In[Tile[ROWS, COLS, F32]], y: Out[Tile[ROWS, COLS, F32]]):
    pto.store(y, pto.load(x) * 2)


def scaled_by(factor: float) -> Any:
    @kernel
    def silu(x: In[Tile[ROWS, COLS, F32]], y: Out[Tile[ROWS, COLS, F32]]):
        v = pto.load(x) * factor
        pto.store(y, v / (1 + pto.exp(-v)))

    return silu


@workload
def over_tiles(k, x, y):
    for i in P(x.tiles(ROWS)):
        k[i](x=x[i], y=y[i])


@workload
def two(first, second, x, y, z):
    for i in P(x.tiles(ROWS)):
        first[i](x=x[i], y=y[i])
        second[i](x=y[i], y=z[i])


def arrays(n: int = 2) -> list[Any]:
    x = np.random.default_rng(1).standard_normal((20, COLS)).astype(np.float32)
    return [x, *(np.zeros_like(x) for _ in range(n - 1))]


def without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/there/is/no/compiler")


def test_stats_say_which_kernels_run_compiled_code(compiles: list[str]) -> None:
    x, y, z = arrays(3)
    first = two(softmax, double, x, y, z).compile().run()
    assert first.stats.tiers == {"softmax": "first", "double": "first"}
    assert not compiles
    want = z.copy()
    program = two(softmax, double, x, y, z).compile(native=True)
    assert program.stats.tiers == {"softmax": "native", "double": "first"}  # one operation is no chain to fuse
    assert program.stats.tier_note == ""
    z[:] = 0
    program.run()
    np.testing.assert_array_equal(z, want)
    assert program.stats.tiers["softmax"] == "native"
    assert program.stats.total_cycles == first.stats.total_cycles
    assert len(compiles) == 1


def test_a_changed_kernel_is_compiled_alone(compiles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, z = arrays(3)
    two(softmax, scaled_by(1.5), x, y, z).compile(native=True)
    assert len(compiles) == 2
    two(softmax, scaled_by(1.5), x, y, z).compile(native=True)
    assert len(compiles) == 2  # in this process
    monkeypatch.setattr(library, "_loaded", {})
    two(softmax, scaled_by(1.5), x, y, z).compile(native=True)
    assert len(compiles) == 2  # in the folder

    @kernel
    def softmax2(x: In[Tile[ROWS, COLS, F32]], y: Out[Tile[ROWS, COLS, F32]]):
        v = pto.load(x)
        e = pto.exp(v - pto.rowmax(v))
        pto.store(y, e / pto.rowmin(e))

    two(softmax2, scaled_by(1.5), x, y, z).compile(native=True)
    assert len(compiles) == 3


def test_auto_runs_before_and_after_it_is_ready() -> None:
    x, y = arrays()
    over_tiles(softmax, x, y).compile().run()
    want = y.copy()
    program = over_tiles(softmax, x, y).compile(native="auto", threads=2)
    tiers = set[str]()
    end = time.monotonic() + 120
    while program.stats.tiers != {"softmax": "native"} and time.monotonic() < end:
        y[:] = 0
        program.run()
        np.testing.assert_array_equal(y, want)
        tiers.add(program.stats.tiers["softmax"])
        assert program.stats.tier_note in ("", "kernels are being compiled")
    assert "first" in tiers
    y[:] = 0
    program.copy().run()
    np.testing.assert_array_equal(y, want)
    while program.stats.tier_note:
        time.sleep(0.01)


def test_a_process_ends_while_its_kernels_are_compiled(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, time\n"
        "from pto_wsp import *\n"
        "@kernel\n"
        "def k(x: In[Tile[4, 32, DType.F32]], y: Out[Tile[4, 32, DType.F32]]):\n"
        "    pto.store(y, pto.exp(pto.load(x) * 2) + 1)\n"
        "@workload\n"
        "def w(x, y):\n"
        "    k(x=x, y=y)\n"
        "program = w(*np.ones((2, 4, 32), np.float32)).compile(native='auto').run()\n"
        "time.sleep(0.15)\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        (sys.executable, str(script)),
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_functions_of_arrays_take_it() -> None:
    @jit
    @workload
    def first(x):
        y = empty_like(x)
        over_tiles(softmax, x, y)
        return y

    (x,) = arrays(1)
    np.testing.assert_array_equal(jit(first, native=True)(x), first(x))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = arrays()
    saved = over_tiles(softmax, x, y).compile(native=True).to_bytes()
    monkeypatch.setattr(library, "_loaded", {})
    without_a_compiler(monkeypatch)
    with pytest.raises(CompileError, match="PTO412"):
        over_tiles(softmax, x, y).compile(native=True)
    auto = over_tiles(softmax, x, y).compile(native="auto")
    for program in (auto, Program.from_bytes(saved).bind({"x": x, "y": y})):
        while program.stats.tier_note == "kernels are being compiled":
            time.sleep(0.01)
        assert program.stats.tiers == {"softmax": "first"}
        assert program.stats.tier_note.startswith("PTO412: ")
        y[:] = 0
        with pytest.warns(RuntimeWarning, match=r"(?s)PTO412.*first tier") as told:
            program.run()
        assert Path(told[0].filename) == Path(__file__)
        np.testing.assert_allclose(y.sum(1), 1, rtol=1e-5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            program.run()  # told once
            program.copy().run()


def test_a_compiler_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old"
    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\ncat > /dev/null\necho "x.hpp:3:1: error: unknown standard"; exit 1\n'
    )
    old.chmod(0o755)
    monkeypatch.setenv("CXX", str(old))
    x, y = arrays()
    with pytest.raises(CompileError, match=r"(?s)PTO413.*softmax.*unknown standard"):
        over_tiles(softmax, x, y).compile(native=True)


@pytest.mark.parametrize("native", [True, "auto"])
def test_artifacts_remember(native: bool | str, tmp_path: Path, compiles: list[str]) -> None:
    x, y = arrays()
    plain = over_tiles(softmax, x, y).compile()
    program = over_tiles(softmax, x, y).compile(native=native)
    while program.stats.tier_note:
        time.sleep(0.01)
    program.save(tmp_path / "p")
    assert program.hash != plain.hash
    loaded = Program.load(tmp_path / "p").bind({"x": x, "y": y})
    assert loaded.to_bytes() == program.to_bytes()
    plain.run()
    want = y.copy()
    y[:] = 0
    loaded.run()
    np.testing.assert_array_equal(y, want)
    while loaded.stats.tier_note:
        time.sleep(0.01)
    assert loaded.stats.tiers == {"softmax": "native"}
    assert len(compiles) == 1
    assert Program.from_bytes(plain.to_bytes()).stats.tiers == {"softmax": "first"}


def test_faults_stand_at_the_users_line() -> None:
    @kernel
    def look_up(x: In[Tile[ROWS, COLS, F32]], at: In[Tile[ROWS, COLS, I32]], y: Out[Tile[ROWS, COLS, F32]]):
        v = pto.exp(pto.load(x) * 2 + 1)
        pto.store(y, pto.gather(v, pto.load(at) + pto.load(at) * 0, axis=1) / (1 + v))

    @workload
    def w(x, at, y):
        for i in P(x.tiles(ROWS)):
            look_up[i](x=x[i], at=at[i], y=y[i])

    x, y = arrays()
    at = np.zeros(x.shape, np.int32)
    messages: list[str] = []
    for native in (False, True):
        at[11, 5] = 0
        program = w(x, at, y).compile(native=native).run()
        at[11, 5] = COLS
        with pytest.raises(BoundsError, match="PTO730") as caught:
            program.run()
        messages.append(re.sub(r"0x\w+", "", str(caught.value)))
    assert messages[0] == messages[1]
    assert program.stats.tiers == {"look_up": "native"}


def test_checks_and_kernels_of_cpp_beside_it() -> None:
    @kernel(cpp_src="for (int i = 0; i < x.rows(); ++i) for (int j = 0; j < x.cols(); ++j) y(i, j) = x(i, j) + 1;")
    def one_more(x: In[Tile[ROWS, COLS, F32]], y: Out[Tile[ROWS, COLS, F32]]): ...

    x, y, z = arrays(3)
    program = two(softmax, one_more, x, y, z).compile(native=True, check="all").run()
    assert program.stats.tiers == {"softmax": "native", "one_more": "cpp"}
    np.testing.assert_array_equal(z, y + np.float32(1))
