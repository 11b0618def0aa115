"""What a target is, and the table of targets."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pto_wsp.arch import Arch
from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import CompileError, Location, UnsupportedError, here
from pto_wsp.ir.core import Wir
from pto_wsp.ir.declarable import DECLARABLE
from pto_wsp.ir.verify import verify
from pto_wsp.targets.capabilities import Capabilities

Pass = Callable[[Wir], Wir]


class Target(Protocol):
    """Turns workloads into artifacts. `capabilities` says what it does of each directive and feature there is; `program` is what makes programs
    of artifacts, None where the runtime does."""

    name: str
    capabilities: Capabilities

    @property
    def program(self) -> Callable[[Artifact], Any] | None: ...

    def compile(self, wir: Wir, arch: Arch, sizes: Mapping[str, int]) -> Artifact: ...


TARGETS: dict[str, Target] = {}


def register(target: Target) -> None:
    """Make a target known by its name."""
    TARGETS[target.name] = target


ELSEWHERE = {"jax": ("pto_wsp_jax.target", "pip install 'pto_wsp[jax]'")}
"""Targets of packages that need more than this one: the module whose TARGET it is, and how to install what that needs. They are loaded when
they are asked for."""


def get(name: object) -> Target:
    """The target called `name`. Raises CompileError for an unknown one, UnsupportedError for one whose package is not installed."""
    if isinstance(name, str) and name in ELSEWHERE:
        return _load(name)
    if not isinstance(name, str) or name not in TARGETS:
        raise CompileError(
            "PTO401",
            f"there is no target {name!r}",
            values={"there is": ", ".join(sorted((*TARGETS, *ELSEWHERE)))},
            loc=here(),
            fix="use one of these",
        )
    return TARGETS[name]


def _load(name: str) -> Target:
    module, install = ELSEWHERE[name]
    try:
        return importlib.import_module(module).TARGET
    except ImportError as e:
        raise UnsupportedError(
            *("PTO880", f"the target {name} needs a package that is not installed"),
            values={"because": e},
            loc=here(),
            fix=install,
        ) from e


def capabilities(target: str = "cpu_sim") -> Capabilities:
    """What a target does with each schedule directive and feature: `print(capabilities())` is the table, `capabilities()["window.tasks.STALL"]`
    one of "enforced" (it changes what happens), "recorded" (kept for the scheduler that the target emits for) and "unsupported" (an
    UnsupportedError when a workload that uses it is compiled). Raises CompileError for an unknown target."""
    return get(target).capabilities


def refuse_unsupported(target: Target, used: Mapping[str, Location | None]) -> None:
    """Raise UnsupportedError for the first of these names that a target neither enforces nor records."""
    for name, loc in used.items():
        if target.capabilities[name] == "unsupported":
            raise UnsupportedError(
                "PTO427",
                f"the target {target.name} has no {name}",
                values={name: DECLARABLE[name]},
                loc=loc or here(),
                fix=f'leave it out, or use another target; print(pto_wsp.capabilities("{target.name}")) shows what there is',
            )


def run_passes(wir: Wir, passes: tuple[tuple[Pass, str], ...]) -> Wir:
    """Apply passes in order to verified wir; each names the stage its result belongs to, and the verifier checks that it does.

    `PTO_WSP_DUMP=dir` writes the wir after every pass.
    """
    dump = os.environ.get("PTO_WSP_DUMP")
    for k, (step, stage) in enumerate(passes):
        before = wir
        wir = step(before)
        verify(wir, stage, after=step.__name__, known=before.kernels)
        if dump:
            _dump(wir, Path(dump), f"{k}.{step.__name__}")
    return wir


def _dump(wir: Wir, folder: Path, step: str) -> None:
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in wir.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{safe}.{step}.wir").write_text(f"{wir}\n", encoding="utf-8")
    except OSError as e:
        raise CompileError(
            "PTO407",
            f"cannot write the wir to {folder}",
            values={"because": e},
            loc=here(),
            fix="let PTO_WSP_DUMP name a folder that can be written",
        ) from e
