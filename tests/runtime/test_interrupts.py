"""Ctrl-C while it is looked for what a deadlock needs: it gets through, nothing is left running, and all can be used afterwards."""

import subprocess
import sys
import textwrap

import pytest

SOON = """
import os, signal, threading, time
import numpy as np
from pto_wsp import *
from pto_wsp.tools import simulate

simulate.processes([], {})  # the core is there: what takes time from now on is what is asked for

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored


def interrupted(call):
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.05, interrupt)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        took = time.monotonic() - sent[0]
        print("interrupted", "at once" if took < 10 else f"after {took} s")
    timer.join()
"""

NETWORK = """
# Each raise of c is one of 2**20 at most, and comes behind a look at all channels.
many = [{"name": f"p{k}", "ops": [["recv", f"c{k}"], ["send", f"c{k + 1}"]]} for k in range(1000)]
first = {"name": "first", "ops": [["repeat", 10**9, [["send", "c"]]], ["send", "c0"]]}
last = {"name": "last", "ops": [["recv", "c1000"], ["repeat", 10**9, [["recv", "c"]]]]}
channels = {"c": {}} | {f"c{k}": {} for k in range(1001)}
"""

PROGRAM = """
@kernel
def fill(s: Scalar[DType.I64], out: Out[Tile[1, 1, DType.I64]]):
    pto.store(out, pto.full((1, 1), 0, DType.I64) + s)


def network(times):
    # With two places in a both go on for long: 10**12 times where times is 1.
    @workload
    def w(x, y):
        a, b, behind = Channel[int]("a"), Channel[int]("b"), Channel[int]("behind")

        def sends():
            for i in P.seq(2 * times(x)):
                send(a, i)
            send(behind, 1)
            for i in P.seq(10**12 * times(x)):
                send(a, b.recv())

        def takes():
            fill(s=behind.recv(), out=y[0])
            for i in P.seq(10**12 * times(x)):
                send(b, a.recv())

        connect([process("sends").produces(a, behind).consumes(b).body(sends), process("takes").produces(b).consumes(a, behind).body(takes)], [a, b, behind])

    return w(np.ones((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.int64))


def times(x):
    return item(x[0, 0, 0])
"""

AFTERWARDS = """
def afterwards(p):
    print(p.is_complete())
    y = np.zeros((1, 1, 1), np.int64)
    p.bind({"x": y, "y": y + 0}).run()
    print(p.stats.task_count)
"""

CASES = {
    "processes": (
        "",
        """
        turning = [{"name": "p", "ops": [["consume", "a", [["work", 1], ["send", "b"]]]]}, {"name": "q", "ops": [["consume", "b", [["send", "a"]]]]}]
        interrupted(lambda: simulate.processes(turning, {"a": {"initial": 1}, "b": {}}, times="none"))
        print(simulate.processes([], {})["total"])
        """,
        ["interrupted at once", "0"],
    ),
    "remedy": (
        NETWORK,
        """
        interrupted(lambda: simulate.remedy([first, *many, last], channels, max_actions=10**12))
        print(simulate.remedy([{"name": "p", "ops": [["send", "a"], ["send", "a"]]}], {"a": {}}))
        """,
        ["interrupted at once", "{'a': 2}"],
    ),
    "run": (
        PROGRAM + AFTERWARDS,
        """
        p = network(times).compile()
        interrupted(p.run)
        afterwards(p)
        """,
        ["interrupted at once", "True", "1"],
    ),
    "synchronize": (
        PROGRAM + AFTERWARDS,
        """
        p = network(times).compile(threads=2).execute()
        while not p.is_complete():
            pass
        interrupted(p.synchronize)
        afterwards(p)
        """,
        ["interrupted at once", "True", "1"],
    ),
    "simulate": (
        PROGRAM + AFTERWARDS,
        """
        p = network(times).compile()
        interrupted(p.simulate)
        p.bind({"x": np.zeros((1, 1, 1), np.int64)})
        print(p.simulate().task_count)
        """,
        ["interrupted at once", "1"],
    ),
    "compile": (
        PROGRAM,
        """
        w = network(lambda x: 1)
        interrupted(w.compile)
        print(network(lambda x: 0).compile().run().stats.task_count)
        """,
        ["interrupted at once", "1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_ctrl_c_ends_the_search_for_what_a_deadlock_needs(case: str) -> None:
    setup, script, said = CASES[case]
    command = [sys.executable, "-P", "-c", SOON + setup + textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines() == said, done.stderr
    assert done.returncode == 0, done.stderr
