"""Architecture models: what a machine has and what its operations cost, as data.

    arch.get("ascend_a2a3")     a machine of this package (`names()` lists them)
    arch.get("my_machine.json") a machine of the user's, checked against the same schema
    arch.get("ascend_a2a3:pipes")   a machine under another model of costs

The costs are integer cycles, built as expressions over valid rows and columns (docs/costs.md). `cost` adds up a kernel's.
"""

from __future__ import annotations

from pto_wsp.arch.load import DEFAULT, get, names, with_model
from pto_wsp.arch.model import MODELS, VECTOR_OPS, Arch, Cube, Fit, Instruction, Memory, Path, SyncDomain, Unit

__all__ = [
    "DEFAULT",
    "MODELS",
    "VECTOR_OPS",
    "Arch",
    "Cube",
    "Fit",
    "Instruction",
    "Memory",
    "Path",
    "SyncDomain",
    "Unit",
    "get",
    "names",
    "with_model",
]
