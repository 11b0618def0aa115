"""The page docs/capabilities.md, from what targets declare."""

from __future__ import annotations

from pto_wsp.ir.declarable import DECLARABLE
from pto_wsp.targets.base import TARGETS

_HEAD = """# Capabilities

Generated from what targets declare (`python -m pytest tests/targets/test_capabilities.py --update-golden` writes it).

What each target does with each schedule directive and feature: **enforced**: it changes what happens, as a test of each shows; **recorded**: it is
kept for the scheduler of the machine that the target emits for; **unsupported**: a workload that uses it is an `UnsupportedError` when it is
compiled. Nothing is ignored. `print(pto_wsp.capabilities("cpu_sim"))` shows the same, and an artifact's manifest what its workload uses.
"""


def render() -> str:
    """The page."""
    targets = sorted(TARGETS)
    out = [_HEAD, f"| what | | {' | '.join(targets)} |", "|---|---|" + "---|" * len(targets)]
    for name, meaning in DECLARABLE.items():
        statuses = " | ".join(TARGETS[t].capabilities[name] for t in targets)
        out.append(f"| `{name}` | {meaning} | {statuses} |")
    return "\n".join(out) + "\n"
