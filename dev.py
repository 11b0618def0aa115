"""Set up, run and check the project. It needs Python 3.11 with venv, Python's headers and a C++20 compiler.

    python3 dev.py demo              set up what is missing, then run the main job
    python3 dev.py check [--full]    set up what is missing, then run the whole gate (--full: more seeds, and the oldest jax too)
    python3 dev.py wheel             build the wheel, if anything changed, and print its path

Everything lands in .venv, .venv-oldest-jax (--full) and build/, and what did not change is not built again.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 (for whoever runs an older one)
    sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
VENV_OF_OLDEST_JAX = ROOT / ".venv-oldest-jax"
JOBS = str(len(os.sched_getaffinity(0)))
CMAKE_AT_LEAST = (3, 25)


class CommandError(Exception):
    """A command failed; the message is what it printed."""


def fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


def environment() -> dict[str, str]:
    """What every command runs with: the tools of .venv first, nothing of another Python environment."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    env["PATH"] = f"{VENV / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["VIRTUAL_ENV"] = str(VENV)
    if shutil.which("ccache"):
        env.setdefault("CMAKE_CXX_COMPILER_LAUNCHER", "ccache")
    return env


def run(*command: str | Path, **extra_env: str) -> str:
    """Run a command in the project's folder and return what it printed; raises CommandError."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment() | extra_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        shown = " ".join(str(word) for word in command)
        raise CommandError(f"{done.stdout.rstrip()}\n`{shown}` ended with {done.returncode}")
    return done.stdout


# ---- setting up ----------------------------------------------------------------------------------------------------


def once(stamp: Path, key: str, action: Callable[[], object]) -> None:
    """Do something unless it was already done for the same key."""
    if stamp.exists() and stamp.read_text() == key:
        return
    stamp.unlink(missing_ok=True)
    action()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)


def pyproject() -> dict[str, Any]:
    import tomllib  # here, so that an older Python gets as far as the message about its version

    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def python_of(venv: Path) -> Path:
    return venv / "bin" / "python"


def make_venv(venv: Path = VENV) -> None:
    stamp = venv / "venv.stamp"
    if not python_of(venv).exists():
        stamp.unlink(missing_ok=True)

    def make() -> None:
        if importlib.util.find_spec("ensurepip") is None:
            fail("this Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv")
        print(f"setting up {venv.name}", file=sys.stderr, flush=True)
        run(sys.executable, "-m", "venv", "--clear", venv)

    once(stamp, sys.version, make)


def pip_install(group: str, requirements: list[str], venv: Path = VENV) -> None:
    command = (python_of(venv), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    once(venv / f"{group}.stamp", "\n".join(requirements), partial(run, *command))


def cmake_is_new_enough() -> bool:
    if not shutil.which("cmake"):
        return False
    found = re.search(r"version (\d+)\.(\d+)", run("cmake", "--version"))
    return found is not None and (int(found[1]), int(found[2])) >= CMAKE_AT_LEAST


def install_build_tools() -> None:
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "c++", "g++", "clang++"))):
        fail("no C++ compiler found; on Debian and Ubuntu: apt-get install g++")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        fail("Python's headers are missing; on Debian and Ubuntu: apt-get install python3-dev")
    needed = [name for name in pyproject()["build-system"]["requires"] if not name.startswith("jaxlib")]
    if not cmake_is_new_enough():
        needed.append("cmake>=" + ".".join(map(str, CMAKE_AT_LEAST)))
    if not shutil.which("ninja"):
        needed.append("ninja")
    pip_install("build", needed)


def install_xla_headers() -> Path:
    """The headers of the jaxlib that the handler is built with, apart from the newer one that tests run with. None: a folder without any."""
    wanted = [name for name in pyproject()["build-system"]["requires"] if name.startswith("jaxlib")]
    folder = BUILD / "xla"
    command = (
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--upgrade",
        "--target",
        folder,
        *wanted,
    )
    once(BUILD / "xla.stamp", "\n".join(wanted), partial(run, *command))
    return folder / "jaxlib" / "include"


def package_digest() -> str:
    """Changes when anything changes that the wheel is made from."""
    files = [
        ROOT / name for name in ("CMakeLists.txt", "LICENSE", "LICENSE-3RD-PARTY.md", "README.md", "pyproject.toml")
    ]
    for folder in ("csrc", "interop", "pto_wsp"):
        files += (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def build_wheel() -> Path:
    """The wheel of the tree as it is."""
    make_venv()
    install_build_tools()
    headers = install_xla_headers()
    folder = BUILD / "wheel"

    def build() -> None:
        print("building the package", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        quiet_pip = (PYTHON, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
        # The C++ tests are built there too, around the same objects.
        settings = (
            f"build-dir={BUILD / 'module'}",
            "cmake.define.PTO_WSP_TESTS=ON",
            f"cmake.define.PTO_WSP_XLA_INCLUDE={headers}",
        )
        run(*quiet_pip, *(f"--config-settings={setting}" for setting in settings), "--wheel-dir", folder, ROOT)

    once(BUILD / "wheel.stamp", package_digest(), build)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_package(venv: Path = VENV) -> None:
    wheel = build_wheel()
    make_venv(venv)
    pip_install("run", list(pyproject()["project"]["dependencies"]), venv)
    replace = (
        python_of(venv),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--force-reinstall",
    )
    once(venv / "package.stamp", hashlib.sha256(wheel.read_bytes()).hexdigest(), partial(run, *replace, wheel))


def install_beside_oldest_jax() -> None:
    """The same wheel, with the oldest jax that is supported."""
    install_package(VENV_OF_OLDEST_JAX)
    extras = pyproject()["project"]["optional-dependencies"]
    (oldest,) = (requirement.replace(">=", "==") for requirement in extras["jax"])
    tools = [r for r in extras["dev"] if r.startswith(("pytest", "hypothesis", "flatbuffers"))]
    pip_install("dev", [oldest, oldest.replace("jax", "jaxlib"), *tools], VENV_OF_OLDEST_JAX)


# ---- the gate ------------------------------------------------------------------------------------------------------


def cpp(folder: str, *definitions: str, launcher: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> None:
    """Configure, build and run the C++ tests in a build folder, or `only` some of them."""
    where = BUILD / folder
    generator = () if (where / "CMakeCache.txt").exists() else ("-G", "Ninja")
    run("cmake", "-S", ROOT, "-B", where, *generator, *(f"-D{definition}" for definition in definitions))
    run("cmake", "--build", where, "--parallel", JOBS, *(word for name in only for word in ("--target", name)))
    chosen = ("-R", f"^({'|'.join(only)})$|_shares_nothing$") if only else ()
    run(*launcher, "ctest", "--test-dir", where, *chosen, "--output-on-failure", "--no-tests=error", "--parallel", JOBS)


def without_address_randomization() -> tuple[str, ...]:
    """ThreadSanitizer cannot map its memory on kernels that randomize addresses widely."""
    prefix = ("setarch", "--addr-no-randomize")
    try:
        run(*prefix, "true")
    except (CommandError, FileNotFoundError):
        return ()  # not allowed here, as in many containers; it is rarely needed
    return prefix


def counts(full: bool) -> tuple[str, ...]:
    """How many random cases the sanitized tests run."""
    fuzz, kernels, programs = (300000, 240, 100) if full else (30000, 60, 40)
    return (f"PTO_WSP_FUZZ_COUNT={fuzz}", f"PTO_WSP_KERNEL_COUNT={kernels}", f"PTO_WSP_PROGRAM_COUNT={programs}")


def cpp_plain(full: bool) -> None:
    """What the sanitized tests look at, as it is shipped: all of it, or the arithmetic, whose code is another, and what only shows there."""
    cpp(
        "module",
        only=() if full else ("test_tiles", "test_kernel", "test_kernel_native", "test_run_fork", "test_run_shared"),
    )


def cpp_address(full: bool) -> None:
    cpp("address", "PTO_WSP_SANITIZE=address", "PTO_WSP_PYTHON=OFF", *counts(full))


def cpp_thread(full: bool) -> None:
    cpp(
        "thread",
        "PTO_WSP_SANITIZE=thread",
        "PTO_WSP_PYTHON=OFF",
        *counts(full),
        launcher=without_address_randomization(),
    )


class Step(NamedTuple):
    name: str
    action: Callable[[], object]


def steps(full: bool) -> tuple[Step, ...]:
    return (
        Step("ruff check", partial(run, "ruff", "check", "--output-format=concise", ".")),
        Step("ruff format", partial(run, "ruff", "format", "--check", ".")),
        Step("basedpyright", partial(run, "basedpyright", "--pythonpath", PYTHON)),
        Step("C++", partial(cpp_plain, full)),
        Step("C++ under ASan and UBSan", partial(cpp_address, full)),
        Step("C++ under TSan", partial(cpp_thread, full)),
    )


def passes(step: Step) -> bool:
    print(f"{step.name:28}", end="", flush=True)
    start = time.monotonic()
    try:
        step.action()
    except CommandError as error:
        print(f"FAILED {time.monotonic() - start:6.1f} s\n{error}\n", flush=True)
        return False
    print(f"ok     {time.monotonic() - start:6.1f} s", flush=True)
    return True


def pytest(*options: str, venv: Path = VENV) -> tuple[int, int]:
    """Run the Python tests, showing their output; the numbers that passed and failed."""
    report = BUILD / "pytest.xml"
    report.unlink(missing_ok=True)
    # Each process runs a part of the files in a row, whose tests share what they set up.
    at_once = ("-n", JOBS, "--dist", "worksteal")
    command = (python_of(venv), "-P", "-m", "pytest", "-q", *at_once, f"--junitxml={report}", *options)
    status = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    if not report.exists():
        return 0, 1
    suite = next(ET.parse(report).iter("testsuite"))
    total, skipped, failures, errors = (int(suite.get(key, 0)) for key in ("tests", "skipped", "failures", "errors"))
    failed = failures + errors
    return total - skipped - failed, max(failed, int(status != 0))


def pytest_with_oldest_jax() -> tuple[int, int]:
    """Run once more what is about JAX programs, of the same wheel."""
    print("pytest with the oldest jax", flush=True)
    document = "tests/docs/test_documents_run.py::test_the_code_of_a_document_runs[docs/jax.md]"
    return pytest("tests/interop", document, venv=VENV_OF_OLDEST_JAX)


# ---- the commands --------------------------------------------------------------------------------------------------


def demo() -> int:
    install_package()
    command = (PYTHON, "-P", "-m", "pto_wsp.tools.demo")
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


def check(full: bool) -> int:
    install_package()
    pip_install("dev", list(pyproject()["project"]["optional-dependencies"]["dev"]))
    if full:
        install_beside_oldest_jax()
    failed_steps = [step.name for step in steps(full) if not passes(step)]
    print("pytest", flush=True)
    passed, failed = pytest(*(["--full", "-o", "faulthandler_timeout=3600"] if full else []))
    if full:
        again = pytest_with_oldest_jax()
        passed, failed = passed + again[0], failed + again[1]
    if failed_steps:
        print("failed before pytest:", ", ".join(failed_steps))
    print(f"{passed} passed, {failed} failed")
    return int(bool(failed_steps) or failed > 0 or passed == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="set up, then run the main job")
    gate = commands.add_parser("check", help="set up, then run the whole gate")
    gate.add_argument("--full", action="store_true", help="more seeds in the property tests, and the oldest jax too")
    commands.add_parser("wheel", help="build the wheel and print its path")
    arguments = parser.parse_args()
    try:
        if arguments.command == "demo":
            return demo()
        if arguments.command == "check":
            return check(arguments.full)
        print(build_wheel())
    except CommandError as error:
        fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
