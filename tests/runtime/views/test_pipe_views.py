"""Pictures of pipelines: processes and channels, what waits for room and what waits for tokens told apart."""

import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ir.test_processes import LOAD_STORE, PLAIN, pipeline, workload
from pipelines import pipelines
from pto_wsp import ExecutionTrace
from pto_wsp.ir.core import Wir
from pto_wsp.runtime.views.rows import KINDS, bars, fillings
from runtime.test_pipelines import another, costs_of, program

PUT = "task put[](s=1:i64, y=Y[{}, 0 :+ 1, 0 :+ 1])"
COST = costs_of(workload(LOAD_STORE))("put", {"y": (1, 1)})


def traced(wir: Wir, threads: int = 1) -> ExecutionTrace:
    return program(wir, threads).enable_tracing("full").run().trace


def waits() -> ExecutionTrace:
    """p0 puts once, sends at once twice more, p1 takes them with two puts each; then p1 waits for p0's last token."""
    first = "\n".join([PUT.format(0), "send a", "send a", "send a", *[PUT.format(0)] * 9, "send a"])
    second = "\n".join(["recv a", PUT.format(1), PUT.format(1)] * 3 + ["recv a"])
    return traced(pipeline(first, second, channels=f"a: channel<> depth=1 {PLAIN}"))


def chrome(t: ExecutionTrace, folder: Path) -> list[dict[str, Any]]:
    t.to_chrome(folder / "trace.json")
    return json.loads((folder / "trace.json").read_text())["traceEvents"]


def test_gantt_has_a_row_for_each_process_and_marks_for_what_it_waits_for() -> None:
    t = waits()
    assert t.end.max() == 12 * COST
    lines = t.gantt(3 + 48).splitlines()
    unit = 48 // 12
    assert lines[0] == "p0 " + "A" * unit + ">" * 2 * unit + "A" * 9 * unit
    assert lines[1] == "p1 " + "<" * unit + "A" * 6 * unit + "<" * 5 * unit
    assert [line.strip() for line in lines[3:]] == [
        "A put",
        "> waits: a channel is full",
        "< waits: a channel is empty",
    ]


def test_rendezvous_latencies_and_responses_have_marks_of_their_own() -> None:
    body = "send a\nsend a\nsend b\n" + PUT.format(0)
    other = f"recv a\nrecv a\n{PUT.format(1)}\nrecv b"
    channels = f"a: channel<> depth=1 latency={COST} response={COST} initial=0\nb: channel<> depth=0 {PLAIN}"
    text = traced(pipeline(body, other, channels=channels)).gantt(43)
    assert {m for m in ">-~=" if m in text.split("cycles")[0]} == set(">-~=")


def test_chrome_has_tracks_of_processes_and_counters_of_channels(tmp_path: Path) -> None:
    t = waits()
    events = chrome(t, tmp_path)
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [names[3, k] for k in range(3)] == ["pipe", "p0", "p1"]
    spans = defaultdict(list)
    for e in (e for e in events if e["ph"] == "X" and e["pid"] == 3):
        spans[names[3, e["tid"]]].append((e["cat"], round(e["ts"] * 1e3), round(e["dur"] * 1e3)))
    assert spans["pipe"] == [("pipeline", 0, 12 * COST)]
    assert [s for s in spans["p0"] if s[0] != "put"] == [("full", COST, 2 * COST)]
    assert [s for s in spans["p1"] if s[0] != "put"] == [("empty", 0, COST), ("empty", 7 * COST, 5 * COST)]
    assert sum(s[0] == "put" for s in spans["p0"] + spans["p1"]) == len(t) == 16
    counted = [(e["ts"] * 1e3, e["args"]["tokens"]) for e in events if e["ph"] == "C" and e["name"] == "a, of 1"]
    assert counted == list(zip(*(x.tolist() for x in t.occupancy("a")), strict=True))
    assert max(n for _, n in counted) == 1
    assert len({e["cname"] for e in events if "cname" in e}) == 2


def test_chrome_leads_from_tasks_to_pipelines(tmp_path: Path) -> None:
    last = "task copy[](x=Y[7, 0 :+ 1, 0 :+ 1], y=X[0, 0 :+ 1, 0 :+ 1])"
    t = traced(workload(f"task put[](s=1:i64, y=Y[7, 0 :+ 1, 0 :+ 1])\n{LOAD_STORE}\n{last}"))
    flows = [e for e in chrome(t, tmp_path) if e["ph"] in "sf"]
    ends = [(flows[k]["pid"], flows[k + 1]["pid"]) for k in range(0, len(flows), 2)]
    assert sorted(ends) == [(1, 3), (3, 1)]


def test_dot_has_processes_in_clusters_and_channels_as_edges(tmp_path: Path) -> None:
    last = "task copy[](x=Y[7, 0 :+ 1, 0 :+ 1], y=X[0, 0 :+ 1, 0 :+ 1])"
    t = traced(workload(f"task put[](s=1:i64, y=Y[7, 0 :+ 1, 0 :+ 1])\n{LOAD_STORE}\n{last}"))
    t.to_dot(tmp_path / "tasks.dot")
    text = (tmp_path / "tasks.dot").read_text()
    assert text.count("{") == text.count("}")
    assert "subgraph cluster_p0" in text
    assert re.search(r"t0 -> p0;", text)
    assert re.search(r"p0 -> t17;", text)
    (channel,) = re.findall(r'p0_0 -> p0_1 \[label="(.*?)"', text)
    assert channel.startswith("c\\ncapacity 2, 8 tokens, most ")
    assert re.findall(r'p0_0 .*label="(\w+)\\n8 tasks', text) == [t.processes[0].name]
    waits().to_dot(tmp_path / "tasks.dot")
    assert f"full: {2 * COST}\\nempty: {6 * COST}" in (tmp_path / "tasks.dot").read_text().replace(",", "")


@pytest.mark.parametrize("seed", range(25))
def test_every_picture_of_any_network(seed: int, tmp_path: Path) -> None:
    case = pipelines(seed)
    t = case.workload(case.arrays()).compile(threads=2).enable_tracing("full").run().trace
    c = t._columns
    b = bars(c)
    assert (b.kinds >= 0).sum() == (t.pipeline >= 0).sum()
    waited = sum(int((b.end - b.start)[b.kinds == -KINDS.index(k)].sum()) for k in ("full", "empty", "rendezvous"))
    o = t.operations
    assert waited == int((o.until - o.came).sum())
    events = chrome(t, tmp_path)
    assert sum(e["ph"] == "X" and e["pid"] >= 3 for e in events) == len(b.ids) + len(t.pipelines)
    tracks = defaultdict(list)
    for e in (e for e in events if e["ph"] == "X" and e["pid"] != 2):
        tracks[e["pid"], e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
    for spans in tracks.values():
        spans.sort()
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(spans))
    for f in fillings(c.pipes):
        assert (np.diff(f.times) >= 0).all()
    t.to_dot(tmp_path / "tasks.dot")
    text = (tmp_path / "tasks.dot").read_text()
    assert text.count("subgraph") == len(t.pipelines)
    nodes = set(re.findall(r"^  (\w+) \[", text, re.MULTILINE))
    assert {n for e in re.findall(r"(\w+) -> (\w+)", text) for n in e} <= nodes
    rows = [line for line in t.gantt().splitlines() if re.match(r"\S", line)]
    assert rows == ["no task ran"] or len(rows) >= len({p.name for p in t.processes})


def test_pipelines_that_overlap_have_rows_of_their_own(tmp_path: Path) -> None:
    nested = "seq_for n in n: Range(2) {\n" + LOAD_STORE + "\n}"
    one = traced(workload(nested))
    assert [line.split()[0] for line in one.gantt(60).splitlines()[:2]] == [p.name for p in one.processes]
    two = traced(workload(LOAD_STORE + another(LOAD_STORE)))
    assert {p.pipeline for p in two.processes} == {"pipe", "two"}
    assert all(line.startswith(("pipe.", "two.")) for line in two.gantt(60).splitlines()[:4])
    assert {e["pid"] for e in chrome(two, tmp_path)} >= {3, 4}


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_timelines_have_channels_below(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"timeline{suffix}"
    waits().to_timeline(path)
    content = path.read_bytes()
    if suffix == ".svg":
        assert ET.fromstring(content).tag.endswith("svg")
        assert b"a: 1" in content
        assert b"full" in content
    else:
        assert content.startswith(b"\x89PNG")
    waits().to_timeline(path, time="wall")
    assert path.read_bytes() != content
