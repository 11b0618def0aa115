"""A trace as a picture: a bar for each task, a row for each lane or thread."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pto_wsp.errors import BindError, UnsupportedError, here
from pto_wsp.runtime.views.columns import Columns, Spans, not_written, spans

_MANY = 5_000  # bars: beyond, an SVG holds them as one image


def to_timeline(c: Columns, path: str, time: str) -> None:
    """Draw the trace. Raises BindError, UnsupportedError."""
    kind = Path(path).suffix.lower()
    if kind not in (".svg", ".png"):
        values = {"path": path}
        fix = "let the name end in .svg or .png"
        raise BindError("PTO705", "a timeline is SVG or PNG", values=values, loc=here(), fix=fix)
    figure = _figure(c, time)
    try:
        figure.savefig(path, format=kind[1:], bbox_inches="tight", dpi=150)
    except OSError as e:
        raise not_written(path, "the timeline", e) from e


def _figure(c: Columns, time: str) -> Any:
    s = spans(c, time)
    rows, at = np.unique(s.rows, return_inverse=True)
    kernels = c.kernel_numbers()[s.ids]
    figure = _matplotlib("figure").Figure(figsize=(12, 1.2 + 0.35 * max(len(rows), 1)))
    axes = figure.add_subplot()
    for k in np.unique(kernels).tolist():
        bars = _bars(s, at, kernels == k)
        look = {"facecolor": f"C{k % 10}", "edgecolor": "white", "linewidth": 0.3, "rasterized": len(s.ids) > _MANY}
        axes.add_collection(_matplotlib("collections").PolyCollection(bars, **look))
    axes.set_yticks(range(len(rows)), [f"{s.row_name} {row}" for row in rows.tolist()])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.set_xlim(*_limits(s))
    axes.set_xlabel(f"{s.unit} of {c.arch}" if time == "semantic" else s.unit)
    patch = _matplotlib("patches").Patch
    shown = [patch(color=f"C{k % 10}", label=_plain(c.kernels[k])) for k in np.unique(kernels).tolist()]
    if shown:
        axes.legend(handles=shown, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _matplotlib(module: str) -> Any:
    """A module of matplotlib, which has no types; never pyplot, which knows windows. Raises UnsupportedError."""
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as e:
        raise UnsupportedError(
            *("PTO762", "a timeline needs matplotlib"),
            values={"because": e},
            loc=here(),
            fix="pip install pto_wsp[viz], or pip install matplotlib; trace.gantt() and trace.to_chrome() need nothing",
        ) from e


def _bars(s: Spans, at: Any, mine: Any) -> Any:
    """The corners of each bar."""
    x0, x1, y = s.start[mine], s.end[mine], at[mine]
    return np.stack([np.stack([x, y + d], axis=-1) for x, d in ((x0, -0.4), (x0, 0.4), (x1, 0.4), (x1, -0.4))], axis=1)


def _limits(s: Spans) -> tuple[float, float]:
    if len(s.ids) == 0:
        return 0.0, 1.0
    first, last = int(s.start.min()), int(s.end.max())
    return float(first), float(max(last, first + 1))


def _plain(label: str) -> str:
    """A label that matplotlib shows as it is: a dollar would begin a formula, an underscore hides it from the legend."""
    shown = label.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
