"""Shared libraries made of C++ source, in this process."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from pathlib import Path

from pto_wsp.cxx import cache
from pto_wsp.cxx.compiler import NoCompiler, compiler
from pto_wsp.errors import CompileError, Location

_lock = threading.Lock()
_loaded: dict[str, ctypes.CDLL] = {}
_making: dict[str, threading.Lock] = {}


def library(source: str) -> ctypes.CDLL:
    """The library of a translation unit: of this process, else of the cache, else compiled. It stays loaded.

    Raises NoCompiler, DoesNotCompile, and OSError where there is no room for it anywhere.
    """
    found = compiler()
    key = hashlib.sha256(f"{found.identity}\0{source}".encode()).hexdigest()
    with _lock:
        if key in _loaded:
            return _loaded[key]
        making = _making.setdefault(key, threading.Lock())
    with making:
        if key not in _loaded:
            made = cache.fetch(key, lambda out, folder: found.compile(source, out, folder), _open)
            with _lock:
                _loaded[key] = made
                _making.pop(key, None)
        return _loaded[key]


def required(source: str, what: str, loc: Location | None, instead: str = "") -> ctypes.CDLL:
    """`library`, for `what` ("kernel f's native code") of a user's program. instead: what else the user may do.

    Raises CompileError where there is no compiler, or no room; DoesNotCompile.
    """
    try:
        return library(source)
    except NoCompiler as e:
        raise CompileError(
            "PTO412",
            f"{what} needs a C++ compiler, and there is none",
            values={"because": e},
            loc=loc,
            fix=f"install g++ or clang++, or name a compiler with CXX{instead}",
        ) from e
    except OSError as e:
        raise CompileError(
            "PTO415",
            f"there is no room to compile {what}",
            values={"because": e},
            loc=loc,
            fix="let PTO_WSP_CACHE_DIR or TMPDIR name a folder on a disk with room",
        ) from e


def address(made: ctypes.CDLL, symbol: str) -> int:
    """Where a function of a library lies. Raises AttributeError where it has none of the name."""
    place = ctypes.cast(getattr(made, symbol), ctypes.c_void_p).value
    assert place is not None
    return place


def _open(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))
