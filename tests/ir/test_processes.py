"""Pipelines in the wir: text, rules, what they compute, and what passes make of them."""

import re
from collections.abc import Callable
from textwrap import dedent, indent

import numpy as np
import pytest

from passes.check import check_pass
from pto_wsp import CompileError, DeadlockError, PtoError, ScheduleError, UnsupportedError
from pto_wsp.errors import ChannelClosed
from pto_wsp.ir.core import Wir
from pto_wsp.ir.dependence import analyse
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.issue_bounds import Counts, issue_bounds
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.passes.canonicalize import canonicalize
from pto_wsp.passes.discharge import discharge
from pto_wsp.passes.infer_dependences import infer_dependences
from pto_wsp.passes.plan_buffers import plan_buffers
from pto_wsp.passes.resolve_schedules import resolve_schedules
from pto_wsp.transforms.interchange import interchange_loops

KERNELS = """
  tensor X: i64[8,1,1]
  tensor Y: i64[8,1,1]
  tensor Z: i64[8,1,1]
  tensor N: i64[4]
  temporary T: i64[2,1,1]
  kernel put "put" (s: i64, y: out i64<1x1>) {
    a: i64<1x1> = full[cols=1, rows=1] 1:i64
    b: i64<1x1> = mul a s
    store y b
  }
  kernel copy "copy" (x: in i64<1x1>, y: out i64<1x1>) {
    a: i64<1x1 of x.rows x x.cols> = load x
    store y a
  }
"""
LOAD_STORE = """
pipeline[name="pipe", timed=false] {
  c: channel<i64> = channel[depth=2, initial=0, latency=3, name="c", response=1]
  process[consumes=[], name="load", produces=["c"]] {
    seq_for i in i: Range(8) {
      task put[i](s=(i + 1), y=Y[i, 0 :+ 1, 0 :+ 1])
      send c (i)
    }
  }
  process[consumes=["c"], name="store", produces=[], replica="store"] {
    consume c as k {
      task copy[k](x=Y[k, 0 :+ 1, 0 :+ 1], y=Z[k, 0 :+ 1, 0 :+ 1])
    }
  }
}"""
EVERYTHING = """
n: i64 = item N[0]
pipeline[name="all", timed=true] {
  a: channel<i64, u64, f64, bool> = channel[initial=0, latency=0, name="a", response=0]
  b: channel<> = channel[depth=0, initial=0, latency=0, name="a channel", response=0]
  f: channel<i64> = channel[depth=2, initial=2, latency=0, name="a.free", response=0]
  process[consumes=["a.free"], name="one", produces=["a" "a channel"]] {
    m: i64 = recv f
    send a (m + n) 1:u64 0.5:f64 true:bool
    ok: bool = try_send b
    pipeline[name="inner", timed=false] {
      d: channel<i64> = channel[depth=1, initial=0, latency=0, name="a", response=0]
      process[consumes=[], name="one", produces=["a"]] {
        send d (m)
      }
      process[consumes=["a"], name="two", produces=[]] {
        i: i64 = recv d
        task put[i](s=(i), y=Y[0, 0 :+ 1, 0 :+ 1])
      }
    }
    close a
  }
  process[consumes=["a" "a channel"], name="two", produces=["a.free"]] {
    consume a as x, y, z, w {
      send f (x)
      waits: bool = query b
      cond waits {
        then {
          recv b
        }
      }
    }
  }
}"""


def workload(body: str) -> Wir:
    return parse(f"workload w {{{KERNELS}{indent(body.strip(), '  ')}\n}}")


def pipeline(*processes: str, channels: str = "") -> Wir:
    """A pipeline of processes without names, whose ends are as they are used."""
    wanted = dict(re.findall(r"^(\w+): (.*)$", dedent(channels), re.MULTILINE))
    rows = ['pipeline[name="pipe", timed=true] {']
    for name, said in wanted.items():
        kind, _, numbers = said.rpartition("> ")
        numbers = ", ".join(sorted(["name=" + f'"{name}"', *numbers.split()]))
        rows.append(f"  {name}: {kind}> = channel[{numbers}]")
    for k, text in enumerate(processes):
        ends = [
            " ".join(f'"{n}"' for n in wanted if re.search(rf"\b({words}) {n}\b", text))
            for words in ("recv|consume|query", "send|try_send|close")
        ]
        rows.append(f'  process[consumes=[{ends[0]}], name="p{k}", produces=[{ends[1]}]] {{')
        rows += [indent(dedent(text).strip(), "    "), "  }"]
    return workload("\n".join([*rows, "}"]))


PLAIN = "latency=0 response=0 initial=0"


def run(wir: Wir, costs: Callable[[str, object], int] | None = None) -> dict[str, list[int]]:
    """What is in the tensors after a pipeline."""
    verify(wir)
    arrays = {n: np.zeros((8, 1, 1), np.int64) for n in "XYZ"} | {"N": np.arange(4), "T": np.zeros((2, 1, 1), np.int64)}
    evaluate(wir, arrays, costs=costs)
    return {n: a.ravel().tolist() for n, a in arrays.items()}


@pytest.mark.parametrize("body", [LOAD_STORE, EVERYTHING])
def test_text_round_trips(body: str) -> None:
    wir = workload(body)
    verify(wir)
    assert parse(show(wir)) == wir
    assert indent(body.strip(), "  ") in show(wir)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("consume c as k", "consume c as k, m", "as many names as a token has fields"),
        ("consume c as k", "consume c", "as many names as a token has fields"),
        ("consume c as k", "consume (2) as k", "expected a channel"),
        ("consume c as k", "consume e as k", "'e' is not defined before"),
        ("channel<i64>", "channel<i64", "expected ','"),
        ("channel<i64>", "channel<index>", "expected a dtype"),
    ],
)
def test_other_text_is_refused_with_its_place(old: str, new: str, why: str) -> None:
    with pytest.raises(CompileError, match=re.escape(why)) as caught:
        workload(LOAD_STORE.replace(old, new))
    assert caught.value.code == "PTO301"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('name="pipe", ', "", "pipeline: needs name"),
        (", timed=false", "", "pipeline: needs timed"),
        ("timed=false", "timed=1", "whether it is timed"),
        ("timed=false", "timed=false, depth=2", "pipeline: has no depth"),
        ('name="store"', 'name="load"', "two processes share a name: load, load"),
        ('name="store"', 'name=""', "process: needs a name"),
        ('name="c"', "name=2", "channel: needs a name"),
        ('replica="store"', "replica=1", "replica is a name"),
        ('consumes=["c"]', 'consumes=["d"]', "consumes channels of its pipeline"),
        ('consumes=["c"]', 'consumes=["c" "c"]', "two ends share a name"),
        ('consumes=["c"]', "consumes=[]", "channel: nothing drains it"),
        ('produces=["c"]', "produces=[]", "channel: nothing feeds it"),
        ('produces=["c"]', 'produces=["c"], lanes=2', "process: has no lanes"),
        ("depth=2", "depth=-1", "depth is -1"),
        ("depth=2", "depth=2.0", "depth is 2.0"),
        ("initial=0", "initial=3", "3 initial tokens, of 2"),
        ("depth=2, initial=0", "depth=0, initial=1", "1 initial tokens, of 0"),
        ("latency=3, ", "", "channel: needs latency"),
        ("response=1", "response=-1", "response is -1"),
        ("channel<i64> = channel", "channel<f32> = channel", "is no channel of scalars"),
        ("send c (i)", "send c", "its token is empty"),
        ("send c (i)", "send c 1.0:f64", "its token is f64"),
        ("send c (i)", "send c (q)", "q is not in scope"),
        ("send c (i)", "close c (i)", "takes a channel alone"),
        ("send c (i)", "recv c", "has no such end of c"),
        ("send c (i)", "b: bool = try_send c (i)", "its pipeline is not timed"),
        ("send c (i)", "b: bool = send c (i)", "gives nothing"),
        ("send c (i)", "send (i)", "needs a channel"),
        ("send c (i)", "item N[0]", "its type is i64"),
        ("consume c as k {", "query c\n      recv c\n      seq_for k in k: Range(8) {", "its pipeline is not timed"),
        ("    seq_for i in i: Range(8) {", "    seq_for i in i: Range(8) {\n      d: i64 = recv c", "has no such end"),
    ],
)
def test_broken_rules_are_refused(old: str, new: str, why: str) -> None:
    assert old in LOAD_STORE
    with pytest.raises(PtoError, match=re.escape(why)) as caught:
        verify(workload(LOAD_STORE.replace(old, new)))
    assert caught.value.code == "PTO302"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("send c 1:i64", "'c' is not defined before"),
        ('process[consumes=[], name="p", produces=[]] {\n}', "stands directly in a pipeline"),
        ('c: channel<> = channel[initial=0, latency=0, name="c", response=0]', "stands directly in a pipeline"),
        ('pipeline[name="p", timed=true] {\n}', "holds channels, then processes"),
        ('pipeline[name="p", timed=true] {\n  task put[](s=1:i64, y=Y[0, 0 :+ 1, 0 :+ 1])\n}', "and no more"),
    ],
)
def test_processes_and_channels_stand_in_pipelines(body: str, why: str) -> None:
    with pytest.raises(PtoError, match=re.escape(why)):
        verify(workload(body))


def test_a_pipeline_inside_of_a_process_has_channels_of_its_own() -> None:
    inner = """
        pipeline[name="inner", timed=false] {
          process[consumes=[], name="q", produces=[]] {
            send c 1:i64
          }
        }
    """
    wir = pipeline(inner, "consume c as i {\n}", channels=f"c: channel<i64> depth=1 {PLAIN}")
    with pytest.raises(PtoError, match="there is no channel c in this pipeline"):
        verify(wir)


def test_tasks_of_a_process_are_named_in_it_alone() -> None:
    wir = pipeline(
        't: task = task put[](s=1:i64, y=Y[0, 0 :+ 1, 0 :+ 1])\ntask[after=["t"]] put[](s=1:i64, y=Y[1, 0 :+ 1, 0 :+ 1])',
        'task[after=["t"]] put[](s=1:i64, y=Y[2, 0 :+ 1, 0 :+ 1])',
    )
    with pytest.raises(PtoError, match="there is no task t before it"):
        verify(wir)


@pytest.mark.parametrize(
    "scope", ['dispatch[lane=position(), lanes=2, policy="r"]', "streams[count=2]", 'ready[policy="fifo"]']
)
def test_schedules_without_a_meaning_for_pipelines_are_refused(scope: str) -> None:
    around = f"{scope} {{{indent(LOAD_STORE, '  ')}\n}}"
    inside = LOAD_STORE.replace("seq_for i in i: Range(8) {", f"{scope} {{\nseq_for i in i: Range(8) {{") + "\n}"
    inside = inside.replace('process[consumes=["c"]', '}\n  process[consumes=["c"]').replace("\n}\n}", "\n}")
    for body, where in ((around, "around pipeline pipe"), (inside, "inside of process load")):
        with pytest.raises(ScheduleError, match=where) as caught:
            verify(workload(body))
        assert caught.value.code == "PTO404"


# what they compute


def test_a_pipeline_computes() -> None:
    assert run(workload(LOAD_STORE))["Z"] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_pipeline_may_say_everything() -> None:
    assert run(workload(EVERYTHING))["Y"][0] == 0


def test_initial_tokens_carry_their_numbers() -> None:
    channels = "c: channel<i64, u64, f64, bool> depth=3 latency=0 response=0 initial=3"
    text = """
        consume c as i, u, f, b {
          g: i64 = s.cast[to=i64] f
          v: i64 = s.cast[to=i64] u
          w: i64 = s.cast[to=i64] b
          task put[](s=(i + 10*g + 100*v + 1000*w), y=Y[i, 0 :+ 1, 0 :+ 1])
        }
    """
    assert run(pipeline(text, channels=channels))["Y"][:4] == [0, 1111, 1222, 0]


def test_slots_are_private_to_processes() -> None:
    def show_slot(k: int) -> str:
        return f"s{k}: i64 = slot_get[slot=0]\ntask put[](s=(s{k}), y=Y[{k}, 0 :+ 1, 0 :+ 1])"

    wir = pipeline(
        f"slot_set[slot=0] 1:i64\nsend c\n{show_slot(0)}",
        f"recv c\n{show_slot(1)}\nslot_set[slot=0] 2:i64\n{show_slot(2)}",
        channels=f"c: channel<> depth=0 {PLAIN}",
    )
    first = workload("slot_set[slot=0] 7:i64").body.eqns
    last = parse(f"workload w {{{KERNELS}{show_slot(3)}\n}}").body.eqns
    assert run(wir.with_body(*first, *wir.body.eqns, *last))["Y"][:4] == [1, 7, 2, 7]


def test_time_decides_between_producers_and_for_those_who_ask() -> None:
    def cost(kernel: str, _: object) -> int:
        return {"put": 10, "copy": 4}[kernel]

    producer = "task put[](s=1:i64, y=X[0, 0 :+ 1, 0 :+ 1])\nsend c 1:i64"
    faster = "task copy[](x=X[5, 0 :+ 1, 0 :+ 1], y=X[1, 0 :+ 1, 0 :+ 1])\nsend c 2:i64"
    consumer = """
        a: bool = query c
        x: i64 = recv c
        b: bool = query c
        y: i64 = recv c
        n: i64 = s.cast[to=i64] a
        m: i64 = s.cast[to=i64] b
        task put[](s=(10*x + y + 100*n + 1000*m), y=Y[0, 0 :+ 1, 0 :+ 1])
    """
    wir = pipeline(producer, faster, consumer, channels=f"c: channel<i64> depth=1 {PLAIN}")
    assert run(wir, cost)["Y"][0] == 21
    assert run(wir)["Y"][0] == 1112


def test_a_full_channel_takes_no_more_from_those_who_only_try() -> None:
    trying = """
        a: bool = try_send c 1:i64
        b: bool = try_send c 2:i64
        task put[](s=1:i64, y=X[0, 0 :+ 1, 0 :+ 1])
        d: bool = try_send c 3:i64
        n: i64 = s.cast[to=i64] a
        m: i64 = s.cast[to=i64] b
        k: i64 = s.cast[to=i64] d
        task put[](s=(n + 10*m + 100*k), y=Y[0, 0 :+ 1, 0 :+ 1])
    """
    wir = pipeline(
        trying,
        "consume c as i {\n  task put[](s=1:i64, y=X[1, 0 :+ 1, 0 :+ 1])\n}",
        channels=f"c: channel<i64> depth=1 {PLAIN}",
    )
    assert run(wir, lambda *_: 5)["Y"][0] == 101


def test_processes_that_wait_for_ever_are_named() -> None:
    wir = pipeline(
        "i: i64 = recv a\nsend b (i)",
        "i2: i64 = recv b\nsend a (i2)",
        channels=f"a: channel<i64> depth=1 {PLAIN}\nb: channel<i64> depth=1 {PLAIN}",
    )
    with pytest.raises(DeadlockError, match="p0, p1 wait for ever") as caught:
        run(wir)
    assert caught.value.values["process p0"] == "recv a (0 of 1 tokens) at clock 0"


def test_what_is_closed_takes_no_more() -> None:
    wir = pipeline("close c\nsend c 1:i64", "consume c as i {\n}", channels=f"c: channel<i64> depth=1 {PLAIN}")
    with pytest.raises(ChannelClosed, match="process p0 sends to channel c"):
        run(wir)


# what passes make of them


def test_what_is_dead_goes_and_ends_stay() -> None:
    body = """
        pipeline[name="pipe", timed=false] {{
          c: channel<i64> = channel[depth=2, initial=0, latency=0, name="c", response=0]
          process[consumes=[], name="load", produces=["c"]] {{{dead}
          }}
          process[consumes=["c"], name="store", produces=[]] {{
            consume c as k {{
            }}
          }}
        }}"""
    dead = """
            x: i64 = s.mul 2:i64 3:i64
            seq_for i in i: Range(0) {
              send c (i)
            }"""
    used = """  tensor N: i64[4]\n  n: i64 = item N[0]\n"""
    check_pass(
        canonicalize,
        f"workload w {{\n{used}{indent(dedent(body.format(dead=dead)).strip(), '  ')}\n}}",
        f"workload w {{\n{used}{indent(dedent(body.format(dead='')).strip(), '  ')}\n}}",
    )


def test_tasks_that_may_meet_are_tracked() -> None:
    wir = infer_dependences(workload(LOAD_STORE))
    assert [t.params.get("tracked") for t in wir.tasks()] == [(1,), (0, 1)]


def tracked(*processes: str, channels: str = f"c: channel<i64> depth=1 {PLAIN}") -> list[tuple[int, int]]:
    wir = pipeline(*processes, channels=channels)
    verify(wir)
    return sorted(analyse(wir).tracked)


def test_what_lies_apart_in_all_processes_is_not_tracked() -> None:
    def loop(where: str, kind: str = "seq_for") -> str:
        name = where[0]
        return f"{kind} {name} in {name}: Range(4) {{\n  task put[](s=1:i64, y=Y[{where}, 0 :+ 1, 0 :+ 1])\n}}"

    assert tracked(loop("i"), loop("j + 4"), channels="") == []
    assert tracked(loop("i"), loop("j + 3"), channels="") == [(0, 1), (1, 1)]
    assert tracked(loop("i", "parallel_for"), loop("j + 4"), channels="") == []


def test_sequential_loops_of_a_process_are_tracked() -> None:
    loop = "seq_for i in i: Range(4) {\n  task put[](s=1:i64, y=Y[0, 0 :+ 1, 0 :+ 1])\n}"
    assert tracked(loop, channels="") == [(0, 1)]
    parts = """
        sequential {
          part {
            task put[](s=1:i64, y=Y[0, 0 :+ 1, 0 :+ 1])
          }
          part {
            task put[](s=1:i64, y=Y[0, 0 :+ 1, 0 :+ 1])
          }
        }
    """
    assert tracked(parts, channels="") == [(0, 1), (1, 1)]


def test_tokens_of_one_consume_may_be_equal() -> None:
    send = "send c 1:i64"
    consume = "consume c as k {\n  task put[](s=1:i64, y=Y[k, 0 :+ 1, 0 :+ 1])\n}"
    assert tracked(send, consume) == [(0, 1)]


def test_a_loop_of_a_process_that_races_is_found() -> None:
    wir = pipeline("parallel_for i in i: Range(4) {\n  task put[](s=1:i64, y=Y[0, 0 :+ 1, 0 :+ 1])\n}")
    assert len(analyse(wir).races) == 1


def test_slots_of_processes_do_not_race_with_others() -> None:
    wir = pipeline("slot_set[slot=0] 1:i64", "s: i64 = slot_get[slot=0]")
    loop = workload("parallel_for i in i: Range(4) {\n  n: i64 = item N[0]\n}").body.eqns[0]
    around = wir.with_body(
        type(loop)("parallel_for", (), (), loop.params, (type(wir.body)(loop.regions[0].params, wir.body.eqns),))
    )
    verify(around)
    assert analyse(around).races == []
    inside = pipeline("parallel_for i in i: Range(4) {\n  slot_set[slot=0] 1:i64\n}")
    assert len(analyse(inside).races) == 1


def test_memory_of_a_pipeline_lives_as_long_as_it() -> None:
    wir = pipeline(
        "task put[](s=1:i64, y=T[0, 0 :+ 1, 0 :+ 1])\nsend c",
        "recv c\ntask copy[](x=T[0, 0 :+ 1, 0 :+ 1], y=Y[0, 0 :+ 1, 0 :+ 1])",
        channels=f"c: channel<> depth=1 {PLAIN}",
    )
    planned = plan_buffers(wir)
    verify(planned, "lowered")
    assert [(e.prim, dict(e.params)) for e in planned.body.eqns if e.prim != "pipeline"] == [
        ("acquire", {"zero": True}),
        ("release", {}),
    ]


def test_a_pipeline_is_one_task_of_its_window() -> None:
    wir = workload(f'window[mode="STALL", tasks=4] {{{indent(LOAD_STORE, "  ")}\n}}')
    verify(wir)
    assert issue_bounds(wir).counts == {0: Counts(1, 1, 0)}
    resolved = resolve_schedules(wir)
    verify(resolved, "resolved")
    (pipe,) = resolved.body.eqns
    assert pipe.params["window"] == (0, 4, 0, "STALL")
    assert not any("window" in t.params for t in resolved.tasks())


def test_there_is_no_pure_form() -> None:
    with pytest.raises(UnsupportedError, match="pure form") as caught:
        discharge(workload(LOAD_STORE))
    assert caught.value.code == "PTO821"


def test_loops_that_send_keep_their_order() -> None:
    loops = """
        parallel_for i in i: Range(2) {
          parallel_for j in j: Range(2) {
            send c (i)
          }
        }
    """
    wir = pipeline(loops, "consume c as k {\n}", channels=f"c: channel<i64> depth=1 {PLAIN}")
    verify(wir)
    with pytest.raises(ScheduleError, match="tokens come in program order"):
        interchange_loops(wir, "i", "j", "interchange")
