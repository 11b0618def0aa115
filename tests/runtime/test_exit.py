"""The process ends as it should, whatever runs still go on."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import sys, threading, time
import numpy as np
from pto_wsp import DType, InOut, P, Tile, kernel, pto, workload

@kernel
def double(x: InOut[Tile[1, 8, DType.F32]]):
    pto.store(x, x + x)

@workload
def forever(X):
    for i in P.seq(10**12):
        double(x=X)

program = forever(np.zeros((1, 8), np.float32)).compile(threads=int(sys.argv[1]))
if sys.argv[2] == "waited for by a thread":
    threading.Thread(target=program.run, daemon=True).start()
    while not program._started:
        time.sleep(0.001)
else:
    program.execute()
"""


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("how", ["waited for by a thread", "waited for by nobody"])
def test_the_interpreter_ends_during_a_run(threads: str, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(PROGRAM), threads, how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
