"""Programs that others than Python call with buffers, such as XLA's custom calls: what the core asks Python for."""

from __future__ import annotations

from typing import Any

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import ArtifactError, BindError, BoundsError, here
from pto_wsp.runtime.core import core
from pto_wsp.runtime.failure import to_error
from pto_wsp.runtime.program import Program


def serve() -> int:
    """The address of the table of C functions of call_table.h, whose calls are served from now on."""
    return int(core().serve_calls(_decode, _explain))


def _decode(key: str, data: bytes) -> Any:
    """The program that a call carries; the core asks once for each content."""
    artifact = Artifact.from_bytes(data)
    if artifact.hash != key:
        raise ArtifactError(
            *("PTO601", "the program that a call carries is damaged: its content has another hash"),
            loc=here(),
            fix="compile the function again",
        )
    return Program(artifact, 1).callee()


def _explain(key: str, data: bytes, failure: dict[str, Any]) -> tuple[bool, str]:
    """Whether what a call was given is at fault, and what went wrong in words."""
    error = to_error(Artifact.from_bytes(data), failure)
    return isinstance(error, (BindError, BoundsError)), str(error)
