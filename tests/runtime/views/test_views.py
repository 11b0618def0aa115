"""Pictures of traced runs: each holds every task, as the tool that shows it wants it, whatever tasks there are."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import DType, ExecutionTrace, In, InOut, Out, P, TaskWindow, Tile, kernel, pto, workload
from pto_wsp.errors import Location
from pto_wsp.runtime.views.columns import Columns, Site, Timing


@kernel
def scale(x: In[Tile[1, 8, DType.F32]], out: Out[Tile[1, 8, DType.F32]]):
    pto.store(out, x * 2.0)


@kernel
def add(x: InOut[Tile[1, 8, DType.F32]]):
    pto.store(x, x + 1.0)


def real(n: int = 12) -> ExecutionTrace:
    """Three steps of n tasks after n independent ones, in a window of 7."""
    x, y = np.ones((n, 1, 8), np.float32), np.zeros((n, 1, 8), np.float32)

    @workload
    def w(X, Y):
        for b in P(n):
            scale[b](x=X[b], out=Y[b])
        for t in P.seq(3):
            for b in P(n):
                add[t, b](x=Y[b])

    p = w(x, y).task_graph(window=TaskWindow(7)).compile(threads=2)
    return p.enable_tracing("full").run().trace


ODD = 'a "quoted" \\ kernel\nin two lines, ümläut 时间 $x$ <&> \ud800'


def made(
    n: int, cost: int = 10, lanes: int = 4, label: str = "k", streams: bool = False, **times: Any
) -> ExecutionTrace:
    """n tasks in a chain for each lane, or at other `times`, as columns that no run made."""
    i = np.arange(n)
    start = i // lanes * cost
    columns: dict[str, Any] = {
        "site": np.zeros(n, np.uint32),
        "coords": np.stack([i, -i], axis=1) if n else np.zeros((0, 2), np.int64),
        "lane": i % lanes,
        "window": np.zeros(n, np.uint32),
        "thread": 1000 + i % 2,
        "process": 0 * i - 1,
        "pipeline": 0 * i - 1,
        "stream": i % 2,
        "stream_scope": i * 0 if streams else i * 0 - 1,
        "issue": 0 * i,
        "order": i,
        "ready": start,
        "start": start,
        "end": start + cost,
        "issued_ns": i,
        "started_ns": 10 * i,
        "ended_ns": 10 * i + 5 * min(cost, 1),
        "outcome": np.ones(n, np.uint8),
        "edges": np.stack([i[:-lanes], i[lanes:]], axis=1) if n > lanes else np.zeros((0, 2), np.int64),
        **times,
    }
    site = Site(label, ("b", ""), Location("file.py", 1, "f"))
    return ExecutionTrace(Columns(columns, (site,), "default", Timing(0, 0, 0, 0, (), lanes), True, 0, 0))


TRACES = {
    "real": real,
    "none": lambda: made(0),
    "one": lambda: made(1),
    "no time": lambda: made(9, cost=0),
    "names": lambda: made(9, label=ODD),
    "many": lambda: made(100_000),
}


@pytest.fixture(scope="module", params=list(TRACES))
def trace(request: Any) -> ExecutionTrace:
    return TRACES[request.param]()


@pytest.fixture(scope="module")
def events(trace: ExecutionTrace, tmp_path_factory: Any) -> list[dict[str, Any]]:
    return chrome(trace, tmp_path_factory.mktemp("chrome"))


def chrome(trace: ExecutionTrace, folder: Path) -> list[dict[str, Any]]:
    trace.to_chrome(folder / "trace.json")
    return json.loads((folder / "trace.json").read_text())["traceEvents"]


def test_chrome_has_every_task_in_both_times(trace: ExecutionTrace, events: list[dict[str, Any]]) -> None:
    for pid, first, last, row in (
        (1, trace.start, trace.end, trace.lane),
        (2, trace.started_ns, trace.ended_ns, trace.thread),
    ):
        spans = [e for e in events if e["ph"] == "X" and e["pid"] == pid]
        assert [e["args"]["id"] for e in spans] == list(range(len(trace)))
        assert [e["tid"] for e in spans] == row.tolist()
        assert np.allclose([e["ts"] * 1e3 for e in spans], first)
        assert np.allclose([e["dur"] * 1e3 for e in spans], last - first)
        named = {e["tid"] for e in events if e["ph"] == "M" and e["pid"] == pid and e["name"] == "thread_name"}
        assert named == set(row.tolist())
    processes = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    assert set(processes) == {1, 2}


def test_chrome_says_names_and_coordinates(tmp_path: Path) -> None:
    spans = [e for e in chrome(real(), tmp_path) if e["ph"] == "X"]
    assert spans[0]["name"] == "scale[b=0]"
    assert spans[14]["name"] == "add[t=0, b=2]"
    assert (spans[14]["args"]["t"], spans[14]["args"]["b"], spans[14]["cat"]) == (0, 2, "add")
    odd = next(e for e in chrome(made(1, label=ODD), tmp_path) if e["ph"] == "X")
    assert odd["name"] == f"{ODD}[b=0, 0]"


def test_chrome_says_streams(tmp_path: Path) -> None:
    events = chrome(made(6, streams=True), tmp_path)
    assert [e["args"]["stream"] for e in events if e["ph"] == "X" and e["pid"] == 1] == [0, 1] * 3
    assert all("stream" not in e["args"] for e in chrome(made(6), tmp_path) if e["ph"] == "X")
    flows = [e for e in events if e["ph"] == "s"]
    assert [e["cat"] for e in flows] == ["dependence"] * 2 + ["stream"] * 4


def test_chrome_flows_lie_in_the_tasks_they_join(trace: ExecutionTrace, events: list[dict[str, Any]]) -> None:
    begins = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert begins.keys() == ends.keys()
    into_tasks = sum(1 for _, b in trace.edges.tolist() if b >= 0)
    assert len(ends) == into_tasks
    for key in list(ends)[:500]:
        source, target = trace.edges[key].tolist()
        assert ends[key]["bp"] == "e"
        assert ends[key]["ts"] * 1e3 == pytest.approx(trace.start[target])
        assert ends[key]["tid"] == trace.lane[target]
        if source >= 0:
            assert begins[key]["tid"] == trace.lane[source]
            at = begins[key]["ts"] * 1e3
            assert trace.start[source] - 1e-6 <= at <= trace.end[source]
        assert begins[key]["ts"] <= ends[key]["ts"]


def test_chrome_flows_of_a_join_come_from_its_last_member(tmp_path: Path) -> None:
    t = real()
    members = {j: [a for a, b in t.edges.tolist() if b == j] for j in (-1, -2)}
    begins = {e["id"]: e for e in chrome(t, tmp_path) if e["ph"] == "s"}
    for k, (source, target) in enumerate(t.edges.tolist()):
        if source in members and target >= 0:
            assert begins[k]["ts"] * 1e3 == pytest.approx(t.end[members[source]].max() - 0.5)


def test_chrome_counts_what_a_window_holds(tmp_path: Path) -> None:
    counts = [e["args"]["tasks"] for e in chrome(real(), tmp_path) if e["ph"] == "C"]
    assert max(counts) == 7
    assert min(counts[:-1]) >= 0
    assert counts[-1] == 0
    assert [e for e in chrome(made(0), tmp_path) if e["ph"] == "C"] == []


STATEMENT = re.compile(
    r'  (?:(?P<node>[tj]\d+) \[(?P<attributes>(?:\w+=(?:"(?:[^"\\]|\\.)*"|\w+)(?:, )?)+)\]|(?P<a>[tj]\d+) -> (?P<b>[tj]\d+)'
    r"|rankdir=LR|node \[[^\]]*\]);"
)


def test_dot_has_every_task_and_edge(trace: ExecutionTrace, tmp_path: Path) -> None:
    trace.to_dot(tmp_path / "tasks.dot")
    lines = (tmp_path / "tasks.dot").read_text(encoding="utf-8").split("\n")
    assert (lines[0], lines[-2:]) == ("digraph tasks {", ["}", ""])
    found = [STATEMENT.fullmatch(line) for line in lines[1:-2]]
    assert None not in found
    nodes = [m["node"] for m in found if m and m["node"]]
    edges = [(m["a"], m["b"]) for m in found if m and m["a"]]
    joins = {n for n in trace.edges.reshape(-1).tolist() if n < 0}
    assert sorted(nodes) == sorted([f"t{k}" for k in range(len(trace))] + [f"j{-j}" for j in joins])
    assert {n for e in edges for n in e} <= set(nodes)
    assert len(edges) == len(trace.edges)


def test_dot_escapes_labels(tmp_path: Path) -> None:
    made(1, label=ODD).to_dot(tmp_path / "tasks.dot")
    label = re.search(r'label=("(?:[^"\\]|\\.)*")', (tmp_path / "tasks.dot").read_text(encoding="utf-8"))
    assert label is not None
    assert label[1].startswith(r'"a \"quoted\" \\ kernel\nin two lines, ümläut 时间')


@pytest.mark.parametrize("time", ["semantic", "wall"])
@pytest.mark.parametrize("suffix", [".svg", ".PNG"])
def test_timelines_are_pictures(trace: ExecutionTrace, suffix: str, time: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    if trace.sites[0].kernel == ODD:
        trace = made(9, label='_a "quoted" \\ kernel\nin two lines, ümläut $x$ <&>')  # letters that its font has
    path = tmp_path / f"timeline{suffix}"
    trace.to_timeline(path, time=time)
    content = path.read_bytes()
    if path.suffix == ".svg":
        assert ET.fromstring(content).tag.endswith("svg")
        assert len(content) < 3_000_000
    else:
        assert content.startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules


def test_gantt_shows_what_runs_when() -> None:
    t = made(8, cost=10, lanes=2, label="k")
    rows = t.gantt(47).splitlines()
    assert rows[:2] == ["lane 0 " + "A" * 40, "lane 1 " + "A" * 40]
    assert rows[2].strip() == "0 .. 40 cycles, 1 a character"
    assert rows[3].strip() == "A k"
    rows = t.gantt(19 + 1 + 12, time="wall").splitlines()
    assert rows[0].startswith("thread 1000 ")
    assert rows[-2].strip().startswith("0 .. 75 ns")


def test_gantt_tells_kernels_and_idle_lanes_apart() -> None:
    rows = real().gantt(80).splitlines()
    lanes = [r for r in rows if r.startswith("lane ")]
    assert {len(r) for r in lanes} == {80}
    assert set("".join(r.partition(" ")[2][2:] for r in lanes)) <= {"A", "B", "."}
    assert [r.strip() for r in rows[-2:]] == ["A scale", "B add"]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=12),
    st.integers(20, 90),
    st.sampled_from([1, 7, 2**50]),
)
def test_a_letter_of_gantt_is_a_task_that_runs_there(lengths: list[tuple[int, int]], width: int, unit: int) -> None:
    ends = np.cumsum([n * unit for pair in lengths for n in pair])
    row = made(len(lengths), lanes=1, start=ends[::2], end=ends[1::2]).gantt(width).splitlines()[0][len("lane 0 ") :]
    tasks = list(zip(*(((ends[k::2].astype(object) - ends[0]) * len(row)).tolist() for k in (0, 1)), strict=True))
    cell = max(int(ends[-1] - ends[0]), 1)
    for i, shown in enumerate(row):
        low, high = i * cell, (i + 1) * cell
        busy = sum(max(min(b, high) - max(a, low), 0) for a, b in tasks)
        instant = any(a == b and low <= a <= high for a, b in tasks)
        if shown == ".":
            assert 2 * busy <= cell
        else:
            assert 2 * busy > cell or (busy == 0 and instant)


def test_gantt_of_any_trace(trace: ExecutionTrace) -> None:
    text = trace.gantt()
    assert text == "no task ran" or all(len(line) <= 100 for line in text.splitlines() if line.startswith("lane"))
    if len(trace) and trace.end.max() == 0:
        assert "A" in text.splitlines()[0]
