"""The cache of compiled libraries: files named by the hash of what they were made of.

    $PTO_WSP_CACHE_DIR (else $XDG_CACHE_HOME/pto_wsp, else ~/.cache/pto_wsp)
      <key>.so    a library, and the SHA-256 of its bytes after them
      <xx>.lock   held by whoever makes a library whose key begins so
      make-*/     folders of compilers that run; of killed ones, removed after an hour

A library gets its name when it is complete, so that neither other processes nor being killed at any moment harm. Where the
folder cannot be written or has no room, libraries are made in a temporary one and live as long as the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

LIMIT_BYTES = 512 << 20
_DIGEST_BYTES = 32
_STALE_SECONDS = 3600.0

T = TypeVar("T")


def folder() -> Path:
    """Where libraries are kept. Raises RuntimeError where there is no home."""
    named = os.environ.get("PTO_WSP_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pto_wsp"


def fetch(key: str, make: Callable[[Path, Path], None], load: Callable[[Path], T]) -> T:
    """What `load` gives of the library of `key`. Where it is not there, `make(out, folder)` writes it to `out`, with `folder` for
    what comes and goes meanwhile. Raises what `make` raises, and OSError where nothing can be written at all."""
    try:
        home = folder()
        home.mkdir(parents=True, exist_ok=True)
        library = home / f"{key}.so"
        if not _is_whole(library):
            with locked(home / f"{key[:2]}.lock"):
                if not _is_whole(library):
                    _make(library, make)
                    _shrink(home)
        else:
            _touch(library)
        return load(library)
    except (OSError, RuntimeError):
        with tempfile.TemporaryDirectory(prefix="pto_wsp-") as work:
            out = Path(work) / f"{key}.so"
            make(out, Path(work))
            return load(out)


def _make(library: Path, make: Callable[[Path, Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="make-", dir=library.parent) as work:
        out = Path(work) / library.name
        make(out, Path(work))
        with out.open("r+b") as f:
            digest = hashlib.sha256(f.read()).digest()
            f.write(digest)
            f.flush()
            os.fsync(f.fileno())
        out.replace(library)


def _is_whole(library: Path) -> bool:
    """Whether it is there, as it was written."""
    try:
        data = library.read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(data[:-_DIGEST_BYTES]).digest() == data[-_DIGEST_BYTES:]


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the lock that the file `path` is, among threads and processes. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _touch(library: Path) -> None:
    """It was used: others go first."""
    with suppress(OSError):  # of a folder that can only be read
        os.utime(library)


def _shrink(home: Path) -> None:
    """Remove what was not used for longest until the rest is within the limit, and what killed processes have left."""
    found: list[tuple[float, int, Path]] = []
    for entry in home.iterdir():
        with suppress(OSError):  # another process may remove it too
            state = entry.stat()
            if entry.suffix == ".so":
                found.append((state.st_mtime, state.st_size, entry))
            elif entry.name.startswith("make-") and time.time() - state.st_mtime > _STALE_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= LIMIT_BYTES:
            return
        with suppress(OSError):
            path.unlink()
        total -= size
