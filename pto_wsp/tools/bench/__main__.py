"""Run the benchmark: `python -m pto_wsp.tools.bench [--json] [--threads 1,2] [--rows NAME,...] [--repeats N]`.

For each number of threads one process, warm, in which the arms of a row run in turn; figures are medians. One thread is bound
to one processor. A limit is what the machine needs for the row's operations, in registers, or for moving its bytes, measured
between the arms. Peers that are not installed are left out and named: jax is one (`pip install jax`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())
NAMES = [row["name"] for row in CASES["rows"]]
# The heap keeps what it has: a fresh page costs more than the arithmetic on it, for numpy and jax as for us.
_WARM = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456:glibc.malloc.arena_max=1"
# Threads of OpenBLAS wait for the next product in a loop, up to a tenth of a second: on the processors of the arm that comes next.
_SLEEP = "4"  # 2^4 cycles


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pto_wsp.tools.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--threads", type=_counts, default=[1, 2], metavar="N,...", help="default: 1,2")
    parser.add_argument("--rows", type=_names, default=NAMES, metavar="NAME,...", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="runs of each arm, at least 1; default: 7")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.repeats < 1:
        parser.error("--repeats is at least 1")
    if given.child:
        return _child(given.child, given.rows, given.repeats)
    processors = len(os.sched_getaffinity(0))
    results = [_in_a_process(n, given.rows, given.repeats) for n in given.threads if n <= processors]
    for n in given.threads:
        if n > processors:
            print(f"{n} threads are left out: there are {processors} processors", file=sys.stderr)
    whole = {
        "machine": {"processors": processors, "load": round(os.getloadavg()[0], 1)}
        | {f"{r['threads']} threads": r["machine"] for r in results},
        "rows": [row for r in results for row in r["rows"]],
    }
    if given.json:
        print(json.dumps(whole, indent=1))
    else:
        from pto_wsp.tools.bench.table import show

        show(whole)
    return 0


def _counts(text: str) -> list[int]:
    counts = [int(n) if n.isascii() and n.isdigit() else 0 for n in text.split(",")]
    if not all(counts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of positive integers")
    return counts


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no row {name!r}; there are {', '.join(NAMES)}")
    return names


def _in_a_process(threads: int, rows: Sequence[str], repeats: int) -> dict[str, Any]:
    one = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    extra = one | {
        "GLIBC_TUNABLES": _WARM,
        "OPENBLAS_THREAD_TIMEOUT": _SLEEP,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-P", "-m", "pto_wsp.tools.bench", "--child", str(threads)]
    done = subprocess.run(
        [*command, "--rows", ",".join(rows), "--repeats", str(repeats)],
        env=os.environ | extra,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return json.loads(done.stdout)


def _child(threads: int, rows: Sequence[str], repeats: int) -> int:
    processors = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, processors)  # before numpy and jax count what there is
    from pto_wsp.tools.bench.arms import machine
    from pto_wsp.tools.bench.run import run_row

    cases = [row for row in CASES["rows"] if row["name"] in rows]
    print(
        json.dumps(
            {
                "threads": threads,
                "machine": machine(threads),
                "rows": [r for c in cases for r in run_row(c, threads, repeats)],
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
