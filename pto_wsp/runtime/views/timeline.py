"""A trace as a picture: a bar for each task, a row for each lane and process, or thread; below, how full channels were."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pto_wsp.errors import BindError, UnsupportedError, here
from pto_wsp.runtime.views.columns import Columns, not_written
from pto_wsp.runtime.views.rows import KINDS, Filling, Rows, fillings, rows_of

_MANY = 5_000  # bars: beyond, an SVG holds them as one image
_SHADES = {
    "full": "#d62728",
    "empty": "#c7c7c7",
    "rendezvous": "#ff9896",
    "response": "#f7b6d2",
    "latency": "#dbdb8d",
    "read": "#7f7f7f",
    "pipeline": "#17becf",
}


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
    s = rows_of(c, time)
    filled = fillings(c.pipes) if time == "semantic" else []
    heights = [0.35 * max(len(s.names), 1), *([0.45 * len(filled)] if filled else [])]
    figure = _matplotlib("figure").Figure(figsize=(12, 1.2 + sum(heights)))
    axes, *below = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    kinds = sorted(np.unique(s.kinds).tolist(), key=lambda k: (k < 0, abs(k)))
    for k in kinds:
        look = {"facecolor": _colour(k), "edgecolor": "white", "linewidth": 0.3, "rasterized": len(s.at) > _MANY}
        axes.add_collection(_matplotlib("collections").PolyCollection(_bars(s, s.kinds == k), **look))
    axes.set_yticks(range(len(s.names)), [_plain(name) for name in s.names])
    axes.set_ylim(max(len(s.names), 1) - 0.5, -0.5)
    first, last = s.limits
    axes.set_xlim(float(first), float(max(last, first + 1)))
    for under in below:
        _channels(under, filled, last)
    (below or [axes])[-1].set_xlabel(f"{s.unit} of {c.arch}" if time == "semantic" else s.unit)
    patch = _matplotlib("patches").Patch
    shown = [patch(color=_colour(k), label=_plain(c.kernels[k] if k >= 0 else KINDS[-k])) for k in kinds]
    if shown:
        axes.legend(handles=shown, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _channels(axes: Any, filled: list[Filling], last: int) -> None:
    """A row for each channel: how much of its capacity is used; of one without a limit, or a rendezvous, of the most that was in it."""
    for k, f in enumerate(filled):
        most = max(f.capacity or int(f.tokens.max()), 1)
        times, tokens = np.append(f.times, last), np.append(f.tokens, f.tokens[-1])
        axes.fill_between(times, k + 0.4 - 0.8 * tokens / most, k + 0.4, step="post", color="C0", linewidth=0)
        axes.axhline(k - 0.4, color="#d62728", linewidth=0.4)
    names = [f"{f.name}: {'no limit' if f.capacity is None else f.capacity}" for f in filled]
    axes.set_yticks(range(len(filled)), [_plain(name) for name in names])
    axes.set_ylim(len(filled) - 0.5, -0.5)


def _colour(kind: int) -> str:
    return f"C{kind % 10}" if kind >= 0 else _SHADES[KINDS[-kind]]


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


def _bars(s: Rows, mine: Any) -> Any:
    """The corners of each bar."""
    x0, x1, y = s.start[mine], s.end[mine], s.at[mine]
    return np.stack([np.stack([x, y + d], axis=-1) for x, d in ((x0, -0.4), (x0, 0.4), (x1, 0.4), (x1, -0.4))], axis=1)


def _plain(label: str) -> str:
    """A label that matplotlib shows as it is: a dollar would begin a formula, an underscore hides it from the legend."""
    shown = label.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
