"""The task graph of a trace for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pto_wsp.runtime.views.columns import FIRST_PIPELINE, Columns, is_join, write
from pto_wsp.runtime.views.rows import KINDS, bars

_COLOURS = ("#8dd3c7", "#ffffb3", "#bebada", "#fb8072", "#80b1d3", "#fdb462", "#b3de69", "#fccde5")


def to_dot(c: Columns, path: str) -> None:
    """Write a node `t3` for task 3, `j2` for join 2, a cluster with a node `p0` for pipeline 0, in which process 1 is `p0_1`, and the edges."""
    write(path, "the task graph", _text(c))


def _text(c: Columns) -> Iterator[str]:
    colours = {label: _COLOURS[k % len(_COLOURS)] for k, label in enumerate(c.kernels)}
    yield 'digraph tasks {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname="sans-serif"];\n'
    for i in np.flatnonzero(c.arrays["pipeline"] < 0).tolist():
        yield f'  t{i} [label={_quoted(c.name_of(i))}, fillcolor="{colours[c.site_of(i).kernel]}"];\n'
    edges = c.arrays["edges"]
    for join in sorted({n for n in edges.reshape(-1).tolist() if is_join(n)}, reverse=True):
        yield f"  j{-join} [shape=point];\n"
    for run in np.flatnonzero(c.pipes.runs["around"] < 0).tolist():
        yield from _pipeline(c, run)
    for source, target in edges.tolist():
        yield f"  {_node(source)} -> {_node(target)};\n"
    yield "}\n"


def _pipeline(c: Columns, run: int) -> Iterator[str]:
    """The processes of a pipeline that ran, and what its channels held, with the pipelines that its processes ran."""
    pipes, start, end = c.pipes, int(c.pipes.runs["start"][run]), int(c.pipes.runs["end"][run])
    place = pipes.places[int(pipes.runs["place"][run])]
    over = f"{end:,}" if end >= 0 else "it came to no end"
    yield f"  subgraph cluster_p{run} {{\n  label={_quoted(place.name)};\n  p{run} [shape=box3d, label={_quoted(f'{place.name}: {start:,} .. {over}')}];\n"
    b = bars(c)
    length = b.end - b.start
    for i in range(place.first_process, place.first_process + place.processes):
        mine = (b.run == run) & (b.process == i)
        tasks = mine & (b.kinds >= 0)
        waits = [(KINDS[k], int(length[mine & (b.kinds == -k)].sum())) for k in range(1, len(KINDS))]
        said = [pipes.processes[i].name, f"{int(tasks.sum()):,} tasks, {int(length[tasks].sum()):,} cycles"]
        said += [f"{what}: {n:,}" for what, n in waits if n]
        yield f"  {_process(run, i)} [shape=ellipse, label={_quoted(chr(10).join(said))}];\n"
    for k in range(place.first_channel, place.first_channel + place.channels):
        yield from _channel(c, run, k)
    for inner in np.flatnonzero(pipes.runs["around"] == run).tolist():
        yield from _pipeline(c, inner)
        yield f"  {_process(run, place.first_process + int(pipes.runs['process'][inner]))} -> p{inner} [style=dotted];\n"
    yield "  }\n"


def _channel(c: Columns, run: int, k: int) -> Iterator[str]:
    """An edge from its producer to its consumer; where there are several, a node between them. That of free buffers is dashed."""
    channel, o = c.pipes.channels[k], c.pipes.operations
    mine = (o["run"] == run) & (o["channel"] == k)
    _, tokens = c.pipes.occupancy(run, k)
    capacity = "no limit" if channel.capacity is None else f"{channel.capacity:,}"
    sent = int((mine & np.isin(o["operation"], (0, 5))).sum())
    said = [channel.name, f"capacity {capacity}, {sent:,} tokens, most {int(tokens.max()):,}"]
    waits = np.where(mine & (o["went"] >= 0), o["went"] - o["came"], 0)
    for what in ("full", "empty", "rendezvous", "response", "latency"):
        if n := int(waits[o["waited"] == KINDS.index(what)].sum()):
            said.append(f"{what}: {n:,}")
    style = ", style=dashed" if channel.buffers_of is not None else ""
    label = f"label={_quoted(chr(10).join(said))}{style}"
    ends = [[_process(run, i) for i in side] for side in (channel.producers, channel.consumers)]
    if len(ends[0]) == len(ends[1]) == 1:
        yield f"  {ends[0][0]} -> {ends[1][0]} [{label}];\n"
        return
    yield f"  p{run}c{k} [shape=plaintext, {label}];\n"
    yield from (f"  {i} -> p{run}c{k};\n" for i in ends[0])
    yield from (f"  p{run}c{k} -> {i};\n" for i in ends[1])


def _process(run: int, process: int) -> str:
    return f"p{run}_{process}"


def _node(number: int) -> str:
    if number <= FIRST_PIPELINE:
        return f"p{FIRST_PIPELINE - number}"
    return f"t{number}" if number >= 0 else f"j{-number}"


def _quoted(text: str) -> str:
    """A string of the language of Graphviz, in which a backslash begins an escape of a label."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
