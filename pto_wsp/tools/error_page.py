"""The page docs/errors.md, from the table of error codes."""

from __future__ import annotations

from pto_wsp.errors import CODES

_HEAD = """# Errors

Generated from the table of codes in `pto_wsp/errors.py` (`python -m pytest tests/architecture --update-golden` writes it).

Every error a user can cause is a `PtoError`. Its message says what happened, with which values, on which line of your
program, and how to fix it; `error.code`, `error.what`, `error.values`, `error.loc` and `error.fix` hold the same.
"""

_FAMILIES = {
    "0": "The package",
    "1": "Tracing",
    "2": "Races",
    "3": "The wir",
    "4": "Compiling and schedules",
    "5": "Binding arrays and sizes",
    "6": "Artifacts",
    "7": "Running",
    "8": "Simulating task graphs and processes",
}


def render() -> str:
    """The page."""
    out = [_HEAD]
    family = ""
    for code, summary in sorted(CODES.items()):
        if code[3] != family:
            family = code[3]
            out += ["", f"## {_FAMILIES[family]}", "", "| code | mistake |", "|---|---|"]
        out.append(f"| {code} | {summary.replace('|', chr(92) + '|')} |")
    return "\n".join(out) + "\n"
