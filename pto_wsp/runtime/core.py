"""The compiled core."""

from __future__ import annotations

from typing import Any

from pto_wsp.errors import CompileError, here


def core() -> Any:
    """The module `pto_wsp._core`. Raises CompileError where the package was installed without it."""
    try:
        from pto_wsp import _core  # loaded when a program is first made, so that tracing alone needs no core
    except ImportError as e:
        raise CompileError(
            "PTO002",
            "pto_wsp has no compiled core",
            values={"because": e},
            loc=here(),
            fix="install it: pip install . (needs a C++20 compiler and cmake), or a wheel. In the source tree its folder "
            "pto_wsp hides an installed one: run python -P, or elsewhere",
        ) from e
    return _core
