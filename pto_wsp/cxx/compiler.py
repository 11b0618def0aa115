"""The system's C++ compiler: where it is, what it is asked, and what it says."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

INCLUDE = Path(__file__).resolve().parent.parent / "include"
"""The headers that come with the package."""

_FLAGS = (
    *("-x", "c++", "-std=c++20", "-O2", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared"),
    *("-fvisibility=hidden", "-w", "-pipe", "-fmessage-length=0", "-fno-diagnostics-show-caret"),
)
_SECONDS = 300
_ERROR = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?:(?P<col>\d+):)? (?:fatal )?error: (?P<what>.*)$", re.MULTILINE
)
_LINKING = re.compile(r"undefined reference to .*|undefined symbol: .*")


@dataclass(frozen=True)
class Diagnostic:
    """The first error of a translation unit. file: as `#line` names it, "" where the compiler names none."""

    what: str
    file: str = ""
    line: int = 0
    col: int = 0
    text: str = ""


class DoesNotCompile(Exception):
    """A translation unit that the compiler refuses, with the first of its errors."""

    def __init__(self, first: Diagnostic) -> None:
        super().__init__(first.what)
        self.first = first


class NoCompiler(Exception):
    """There is none, or it cannot run; the message says why."""


@dataclass(frozen=True)
class Compiler:
    """`command` with the flags of every translation unit; `identity` is what a cache knows it by."""

    command: tuple[str, ...]
    identity: str

    def compile(self, source: str, out: Path, folder: Path) -> None:
        """Make the shared library `out` of a translation unit. `folder` is for what comes and goes meanwhile.

        Raises DoesNotCompile, NoCompiler where the compiler itself fails, and OSError where there is no room.
        """
        env = os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)}
        words = (*self.command, *_FLAGS, f"-I{INCLUDE}", "-o", str(out), "-")
        try:
            done = subprocess.run(
                words,
                input=source.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=env,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise DoesNotCompile(Diagnostic(f"the compiler did not end within {_SECONDS} s")) from e
        except OSError as e:
            raise NoCompiler(f"{self.command[0]} cannot be run: {e}") from e
        if done.returncode != 0:
            text = done.stdout.decode(errors="replace")
            if "No space left on device" in text or "Read-only file system" in text:
                raise OSError(text.strip().splitlines()[-1])
            raise DoesNotCompile(first_error(text, done.returncode))


def first_error(text: str, code: int) -> Diagnostic:
    """What the compiler complains about first."""
    found = _ERROR.search(text)
    if found is not None:
        return Diagnostic(found["what"], found["file"], int(found["line"]), int(found["col"] or 0), text)
    linking = _LINKING.search(text)
    rows = [row for row in text.splitlines() if row.strip()]
    what = linking[0] if linking else rows[-1] if rows else f"the compiler ended with {code} and said nothing"
    return Diagnostic(what, text=text)


def compiler() -> Compiler:
    """The one that CXX names, else c++, g++ or clang++ of PATH. Raises NoCompiler."""
    return _found(os.environ.get("CXX"), os.environ.get("PATH"))


@lru_cache(maxsize=8)
def _found(named: str | None, path: str | None) -> Compiler:
    if named:
        try:
            command = tuple(shlex.split(named))
        except ValueError as e:
            raise NoCompiler(f"CXX={named!r} is no command: {e}") from e
        if not command or shutil.which(command[0], path=path) is None:
            raise NoCompiler(f"CXX={named!r} is not there")
    else:
        names = ("c++", "g++", "clang++")
        name = next((n for n in names if shutil.which(n, path=path)), None)
        if name is None:
            raise NoCompiler(f"none of {', '.join(names)} is on PATH, and CXX is not set")
        command = (name,)
    program = shutil.which(command[0], path=path)
    assert program is not None
    command = (program, *command[1:])
    try:
        said = subprocess.run((*command, "--version"), capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise NoCompiler(f"{program} cannot be run: {e}") from e
    if said.returncode != 0:
        raise NoCompiler(f"{program} --version ended with {said.returncode}")
    digest = hashlib.sha256(said.stdout)
    for part in (*command, *_FLAGS, platform.machine(), _processor()):
        digest.update(part.encode() + b"\0")
    for header in sorted(INCLUDE.rglob("*.hpp")):
        digest.update(header.relative_to(INCLUDE).as_posix().encode() + b"\0" + header.read_bytes())
    return Compiler(command, digest.hexdigest())


def _processor() -> str:
    """What -march=native depends on: a cache may be shared between machines."""
    try:
        rows = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = ("model name", "vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
    first = {row.partition(":")[0].strip(): row for row in reversed(rows) if row.partition(":")[0].strip() in told}
    return "\n".join(first[k] for k in sorted(first))
