"""An installed wheel runs without compiler, source tree, or any place to write to."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from project import ROOT

QUICK_START = ROOT / "tests" / "cases" / "quick_start.py"
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"  # made by dev.py; what is built is built with it

# Runs the quick start where nothing can be written, and checks what it left in its arrays.
DRIVER = """
import os, pathlib, runpy, sys
for name in ("HOME", "TMPDIR"):
    try:
        pathlib.Path(os.environ[name], "probe").touch()
    except OSError:
        continue
    sys.exit(f"{name} can be written to")
import numpy as np, pto_wsp
assert pathlib.Path(pto_wsp.__file__).is_relative_to(sys.prefix), pto_wsp.__file__
names = runpy.run_path(sys.argv[1], run_name="__main__")
x = names["X_np"].astype(np.float64)
np.testing.assert_allclose(names["Y_np"], x / np.sqrt((x * x).mean(axis=-1, keepdims=True)), rtol=20 * 2.0**-24)  # square, 12 in the sum, quotient, 3 in rsqrt, product
"""


def output(*command: str | Path) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel of this tree; built by the gate before, or now."""
    return Path(output(sys.executable, ROOT / "dev.py", "wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel, and numpy and ml_dtypes from the one that exists."""
    environment = tmp_path_factory.mktemp("installed")
    output(VENV_PYTHON, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    install = ("install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    output(VENV_PYTHON, "-m", "pip", "--python", python, *install, wheel)
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    Path(output(python, "-c", purelib), "dependencies.pth").write_text(output(VENV_PYTHON, "-c", purelib))
    return python


def obeying_permissions() -> tuple[str, ...]:
    """A prefix that makes the superuser respect the permissions of files."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    assert setpriv, "as root, this test needs setpriv (package util-linux)"
    return (setpriv, "--bounding-set=-all", "--inh-caps=-all")


@pytest.mark.parametrize("kind", ["read-only", "missing"])
def test_the_quick_start_runs_from_an_installed_wheel(installed: Path, tmp_path: Path, kind: str) -> None:
    nowhere = Path("/proc/nowhere")
    if kind == "read-only":
        nowhere = tmp_path / "read-only"
        nowhere.mkdir(mode=0o555)
    script = shutil.copy(QUICK_START, tmp_path)
    done = subprocess.run(
        [*obeying_permissions(), installed, "-c", DRIVER, script],
        cwd="/",
        env={"PATH": "/proc/nowhere", "HOME": str(nowhere), "TMPDIR": str(nowhere)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cycles = re.fullmatch(r"total_cycles = (\d+)\n", done.stdout)
    assert cycles is not None, done.stdout
    assert int(cycles[1]) > 0


def test_the_wheel_holds_the_package_and_its_licences_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"pto_wsp", "pto_wsp_jax", next(name for name in folders if name.endswith(".dist-info"))}
    assert {"pto_wsp/py.typed", "pto_wsp_jax/py.typed", "pto_wsp_jax/_xla_cpu.so"} <= set(names)
    assert any(re.fullmatch(r"pto_wsp/_core\..*so", name) for name in names)
    assert {Path(name).name for name in names if "/licenses/" in name} == {"LICENSE", "LICENSE-3RD-PARTY.md"}
    built_from = {name for name in names if Path(name).suffix in (".cpp", ".hpp", ".a", ".pyc")}
    # what kernels written in C++ include, what the native tier is compiled with, and what the benchmark measures calls from JAX against
    own = ("cpp_kernel", "dtype", "isa", "native", "tile_ops")
    levels = ("simd_avx2", "simd_avx512", "simd_portable")
    tiles = ("elementwise", "math", "native", "reduce", "trig_reduce", "types", *levels)
    headers = (*own, *(f"tiles/{name}" for name in tiles))
    measured = {"pto_wsp/tools/bench/empty_handler.cpp"}
    assert built_from == measured | {f"pto_wsp/include/pto_wsp/{name}.hpp" for name in headers}


def test_the_source_archive_can_be_built_from(wheel: Path, tmp_path: Path) -> None:
    code = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    output(VENV_PYTHON, "-c", code, tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    needed = {
        "CMakeLists.txt",
        "csrc/CMakeLists.txt",
        "interop/csrc/xla_cpu.cpp",
        "tests/CMakeLists.txt",
        "pyproject.toml",
        "pto_wsp/__init__.py",
    }
    assert needed | {"LICENSE", "LICENSE-3RD-PARTY.md", "README.md", "pto_wsp/py.typed"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/", ".git/"))]
