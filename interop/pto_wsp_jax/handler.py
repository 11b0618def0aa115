"""The handler of our custom calls: its library, and its registration with XLA."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

import jax

from pto_wsp.errors import UnsupportedError, here
from pto_wsp.runtime.calls import serve

TARGET = "pto_wsp_call"
"""What XLA knows the handler by, in every version; exporting a function with calls of ours takes
`disabled_checks=[jax.export.DisabledSafetyCheck.custom_call(TARGET)]`."""
OLDEST = (0, 6, 2)
"""The oldest jax that this works with; the newest that was tested is 0.10.2."""

_LIBRARY = Path(__file__).with_name("_xla_cpu.so")
_lock = threading.Lock()
_registered: list[Any] = []


def register() -> None:
    """Make the handler known to XLA, once. What traces calls does it; a process that only runs what another exported or compiled has to.

    Initialises JAX's CPU backend, so after `jax.distributed.initialize`. Raises UnsupportedError for a jax that is too old, and where the package was
    built without the handler.
    """
    with _lock:
        if _registered:
            return
        version = tuple(int(part) for part in jax.__version__.split(".")[:3] if part.isdigit())
        if version < OLDEST:
            raise UnsupportedError(
                *("PTO880", f"jax {jax.__version__} is too old"),
                loc=here(),
                fix=f"pip install 'jax>={'.'.join(map(str, OLDEST))}'",
            )
        if not _LIBRARY.exists():
            raise UnsupportedError(
                *("PTO880", "pto_wsp was built without the handler of XLA's custom calls"),
                loc=here(),
                fix="build it where there is a jaxlib for this Python: pip install .[jax]",
            )
        library = ctypes.CDLL(str(_LIBRARY))
        if not library.pto_wsp_xla_use_core(ctypes.c_void_p(serve())):
            raise UnsupportedError(
                *("PTO880", "the handler of XLA's custom calls and the core are of two versions"),
                loc=here(),
                fix="install pto_wsp again",
            )
        # A handler that does not fit takes the whole backend with it, unless that is there already.
        jax.devices("cpu")
        jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(library.pto_wsp_xla_call), platform="cpu")
        _registered.append(library)
