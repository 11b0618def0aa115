"""Pipelines explained: the parts of the path add up to the run, its waits end where others act, and what throttles is what does."""

from typing import Any

import pytest

from ir.test_processes import workload
from pipelines import pipelines
from pto_wsp import ExecutionError, Program
from pto_wsp.ir.core import Wir
from pto_wsp.runtime.explain import Explanation
from pto_wsp.tools import simulate
from runtime.test_pipe_trace import chain
from runtime.test_pipelines import costs_of, program

WAITED_FOR = ("full", "empty", "rendezvous", "closed")


def explained(p: Program) -> Explanation:
    e, t = p.explain(), p.trace
    assert e.total_cycles == p.stats.total_cycles
    at = 0
    for k, step in enumerate(e.path):
        assert step.start == at
        at = step.end
        before = e.path[k - 1] if k else None
        if step.task >= 0 and step.activity == "run":
            assert (step.start, step.end) == (t.start[step.task], t.end[step.task])
            assert step.loc == t.sites[t.site[step.task]].loc
        if step.because in WAITED_FOR:
            assert before is not None
            assert step.channel
            assert (step.after is None) or (step.after == before.task)
        if step.because == "process":
            assert before is not None
            assert before.process == step.process
    assert at == e.total_cycles
    for shares in (e.kernels, e.lines):
        assert sum(s.path for s in shares) == e.total_cycles
        assert sum(s.busy for s in shares) == int((t.end - t.start).sum())
        assert sum(s.tasks for s in shares) == len(t)
    for use in e.processes:
        assert use.busy + sum(use.waits.values()) == use.cycles
        assert min(use.waits.values(), default=1) > 0
    assert sum(use.tasks for use in e.processes) == int((t.pipeline >= 0).sum())
    text = str(e)
    assert all(c.channel in text for c in e.channels)
    assert all(use.process in text for use in e.processes[:20])
    return e


@pytest.mark.parametrize("seed", range(60))
def test_parts_of_random_networks_add_up(seed: int) -> None:
    case = pipelines(seed)
    p = case.workload(case.arrays()).compile(threads=2).enable_tracing("full").run()
    want = explained(p)
    p.enable_tracing("none").run()
    assert p.explain() == want
    p.simulate()
    assert p.explain() == want


@pytest.mark.parametrize("seed", range(60))
def test_what_throttles_is_what_throttles_the_network(seed: int) -> None:
    wir, processes, channels = chain(seed)
    cost = costs_of(wir)

    def filled(ops: list[Any]) -> list[Any]:
        named = {k: cost(k, {"x": (1, 1), "y": (1, 1)}) for k in ("put", "copy")}
        return [
            ["work", named[o[1]]] if o[0] == "work" else [*o[:2], filled(o[2])] if o[0] == "repeat" else o for o in ops
        ]

    network = [q | {"ops": filled(q["ops"])} for q in processes]
    p = program(wir).enable_tracing("full").run()
    e = explained(p)
    assert {c.channel: c.depth for c in e.channels if c.depth is not None} == simulate.throttle(network, channels)


def views(depth: int) -> Wir:
    """A producer that is fast after a slow start, with buffers, and a consumer that is slow at the end."""
    put = "task put[](s=1:i64, y=Y[{}, 0 :+ 1, 0 :+ 1])".format
    return workload(f"""
pipeline[name="pipe", timed=true] {{
  c: channel<i64> = channel[depth={depth}, initial=0, latency=0, name="c", response=0]
  free: channel<i64> = channel[depth={depth}, initial={depth}, latency=0, name="c.free", response=0]
  process[consumes=["c.free"], name="take", produces=["c"]] {{
    seq_for i in i: Range(6) {{
      b: i64 = recv free
      {put(0)}
      send c b
    }}
  }}
  process[consumes=["c"], name="give", produces=["c.free"]] {{
    seq_for j in j: Range(6) {{
      d: i64 = recv c
      {put(1)}
      {put(2)}
      send free d
    }}
  }}
}}""")


def test_a_channel_of_views_needs_buffers() -> None:
    totals = {n: program(views(n)).simulate().total_cycles for n in (1, 2, 3)}
    assert totals[1] > totals[2] == totals[3]
    for n, want in ((1, 2), (2, None)):
        e = program(views(n)).explain()
        (c,) = e.channels
        assert (c.channel, c.capacity, c.depth, c.tokens) == ("c", n, want, 6)
        assert c.full > 0
        assert ("it throttles: depth=2 gives the full rate" in str(e)) == (n == 1)


def test_a_trace_that_lacks_operations_is_not_explained() -> None:
    p = program(views(1)).enable_tracing("full", limit=1).run()
    with pytest.raises(ExecutionError, match="PTO764"):
        p.trace.explain()
    enough = p.explain()
    with pytest.raises(ExecutionError, match="explain\\(limit="):
        p.explain(limit=1)
    assert enough.total_cycles == p.stats.total_cycles
    assert p.enable_tracing("full").run().trace.explain().path == enough.path
