"""PTO_WSP_LOG=task: each task as a line on stderr when it is issued."""

from __future__ import annotations

import os

from pto_wsp.errors import CompileError, here
from pto_wsp.ir.core import View, Wir
from pto_wsp.runtime.places import Places

Names = tuple[str, list[str], list[str]]


def task_names(wir: Wir) -> list[Names] | None:
    """What the log of a run calls each site's kernel, coordinates and arguments; None where nobody asks for a log.

        task 17 attend[b=1, h=3] q=Q[1, 0:16] scale=0.5

    Raises CompileError where the environment asks for another log.
    """
    wanted = os.environ.get("PTO_WSP_LOG", "")
    if not wanted:
        return None
    if wanted != "task":
        raise CompileError(
            "PTO761",
            f"PTO_WSP_LOG is {wanted!r:.80}",
            values={"there is": "task"},
            loc=here(),
            fix="say PTO_WSP_LOG=task, or leave it out",
        )
    places = Places(wir)
    return [
        (
            _line(places.label(i)),
            [_line(f"{name}=") if name else "" for name in places.coordinate_names(i)],
            [
                _line(f"{param.name}={x.tensor if isinstance(x, View) else ''}")
                for param, x in zip(wir.kernel(str(p.eqn.params["kernel"])).params, p.eqn.ins, strict=False)
            ],
        )
        for i, p in enumerate(places.sites)
    ]


def _line(text: str) -> str:
    """Text that stays in its line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
