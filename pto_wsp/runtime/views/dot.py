"""The task graph of a trace for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from pto_wsp.runtime.views.columns import Columns, write

_COLOURS = ("#8dd3c7", "#ffffb3", "#bebada", "#fb8072", "#80b1d3", "#fdb462", "#b3de69", "#fccde5")


def to_dot(c: Columns, path: str) -> None:
    """Write a node `t3` for task 3, `j2` for join 2, and the edges."""
    write(path, "the task graph", _text(c))


def _text(c: Columns) -> Iterator[str]:
    colours = {label: _COLOURS[k % len(_COLOURS)] for k, label in enumerate(c.kernels)}
    yield 'digraph tasks {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname="sans-serif"];\n'
    for i in range(len(c)):
        yield f'  t{i} [label={_quoted(c.name_of(i))}, fillcolor="{colours[c.site_of(i).kernel]}"];\n'
    edges = c.arrays["edges"]
    for join in sorted({n for n in edges.reshape(-1).tolist() if n < 0}, reverse=True):
        yield f"  j{-join} [shape=point];\n"
    for source, target in edges.tolist():
        yield f"  {_node(source)} -> {_node(target)};\n"
    yield "}\n"


def _node(number: int) -> str:
    return f"t{number}" if number >= 0 else f"j{-number}"


def _quoted(text: str) -> str:
    """A string of the language of Graphviz, in which a backslash begins an escape of a label."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
