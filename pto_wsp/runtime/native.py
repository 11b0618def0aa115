"""The native tier of a program: each kernel's compiled pieces, put in the place of its steps when they are ready."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pto_wsp.cxx.compiler import DoesNotCompile
from pto_wsp.cxx.library import address, required
from pto_wsp.errors import CompileError, Location, here
from pto_wsp.targets.cpu_sim.native.emit import emit
from pto_wsp.targets.cpu_sim.native.pieces import pieces_of
from pto_wsp.targets.cpu_sim.native.steps import groups_of

Native = bool | str
MODES: tuple[Native, ...] = (False, True, "auto")


def native_mode(native: object) -> Native:
    """The option `native` of compile. Raises CompileError."""
    for mode in MODES:
        if native is mode or (isinstance(native, str) and native == mode):
            return mode
    raise CompileError(
        "PTO416",
        "an unknown tier",
        values={"native": repr(native)[:80]},
        loc=here(),
        fix='give native=True (compiled before compile returns), native="auto" (used when it is ready) or False',
    )


class Tier:
    """What of a plan's kernels is compiled.

    Modes: False, nothing. True: all before this is made; raises CompileError where that fails. "auto": meanwhile, one kernel after
    the other, and each run uses what is ready. "loaded": as True, but what fails is told as for "auto".
    """

    def __init__(self, plan: Any, kernels: Sequence[tuple[str, bool]], mode: Native) -> None:
        """kernels: label of each, and whether it is C++ of the user."""
        self.mode = mode
        self._plan, self._kernels = plan, kernels
        self._loc = here()
        self._native: frozenset[int] = frozenset()
        self._failed: CompileError | None = None
        self._told = threading.Lock()  # held from then on
        self._done = threading.Event()
        if mode is True or mode == "loaded":
            self._compile_now()
        elif mode == "auto":
            threading.Thread(target=self._compile_meanwhile, name="pto_wsp native", daemon=True).start()
        else:
            self._done.set()

    @property
    def tiers(self) -> dict[str, str]:
        """By label of kernel: "native" where compiled pieces run, "cpp" where it is C++ of the user, else "first"."""
        native = self._native
        out: dict[str, str] = {}
        for i, (label, is_cpp) in enumerate(self._kernels):
            if out.get(label) != "native":
                out[label] = "native" if i in native else "cpp" if is_cpp else "first"
        return out

    @property
    def note(self) -> str:
        """Why kernels run in the first tier though native code was asked for; "" where nothing hinders it."""
        if self._failed is not None:
            return f"{self._failed.code}: {self._failed.what}"
        return "" if self._done.is_set() else "kernels are being compiled"

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is being compiled any more; whether that is so."""
        return self._done.wait(seconds)

    def tell(self) -> None:
        """Warn of what has failed meanwhile, once."""
        failed = self._failed
        if failed is not None and self._told.acquire(blocking=False):
            text = f"{failed}\nThe kernels run in the first tier."
            warnings.warn_explicit(text, RuntimeWarning, self._loc.file, self._loc.line)

    def _compile_now(self) -> None:
        """All kernels, several compilers at a time."""
        at_once = max(1, min(len(os.sched_getaffinity(0)), len(self._kernels)))
        try:
            with ThreadPoolExecutor(at_once, thread_name_prefix="pto_wsp native") as pool:
                made = list(pool.map(self._compile, range(len(self._kernels))))
        except CompileError as e:
            if self.mode is True:
                raise
            self._failed = e
        else:
            self._native = frozenset(i for i, linked in enumerate(made) if linked)
        self._done.set()

    def _compile_meanwhile(self) -> None:
        try:
            for i in range(len(self._kernels)):
                if self._compile(i):
                    self._native |= {i}
        except CompileError as e:
            self._failed = e
        finally:
            self._done.set()

    def _compile(self, i: int) -> bool:
        """Compile what of a kernel can be fused, and use it from now on; whether there is any. Raises CompileError."""
        pieces = list(pieces_of(groups_of(self._plan.groups(i))))
        if not pieces:
            return False
        source, functions = emit(pieces)
        made = _library(source, self._kernels[i][0], self._loc)
        self._plan.link_native(i, [(f.first, f.count, made(f.symbol), f.sizes, f.equal) for f in functions])
        return True


def _library(source: str, label: str, loc: Location) -> Callable[[str], int]:
    """Where functions of a kernel's pieces lie, by symbol. Raises CompileError."""
    try:
        made = required(source, f"kernel {label}'s native code", loc, ", or give native=False")
    except DoesNotCompile as e:
        raise CompileError(
            "PTO413",
            f"kernel {label}: the compiler refuses its native code",
            values={"the compiler says": e.first.what},
            loc=loc,
            fix="let CXX name a compiler that knows C++20 (g++ 11, clang++ 14 or newer), or give native=False",
        ) from e
    return lambda symbol: address(made, symbol)
