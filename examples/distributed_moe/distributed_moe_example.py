"""A mixture of experts divided between processes, and the same bits as in one.

Starts processes on this machine that find each other as those on many machines would (distributed_moe_process.py is what to start
there). Each has some devices, each device some of the experts and of the tokens. Rows go to the devices that have their experts, and
the results back; what computes them is a workload on each device, which gets how many rows there are as data.

Compares each token with float64, and all bits with one process on one device. Needs jax: pip install '.[jax]'
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from distributed_moe_model import Sizes
from distributed_moe_process import add_layer, count, sizes_of

from pto_wsp.tools.bounds import Array

PROCESS = Path(__file__).with_name("distributed_moe_process.py")
SHOWN = 30  # lines of a process that failed


class ProcessError(Exception):
    """A process failed, or took too long; the message has what it printed last."""


@dataclass(frozen=True)
class Answer:
    """What all processes of a run computed, in order, and the figures of the first and the worst."""

    out: Array
    choice: Array
    ms: float
    rounds: int
    of_bound: float
    padded_ms: float
    padded_of_bound: float

    @staticmethod
    def joined(files: Sequence[Path]) -> Answer:
        parts = [np.load(file) for file in files]
        figures = np.stack([part["figures"] for part in parts])
        ms, _, rounds, padded_ms, padded_of_bound = figures[0]
        out, choice = (
            np.concatenate([part[name] for part in parts], axis=i) for i, name in enumerate(("out", "choice"))
        )
        return Answer(out, choice, ms, int(rounds), float(figures[:, 1].max()), padded_ms, padded_of_bound)


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port that nobody else is given meanwhile: bound here, but not listened on, so that the coordinator can share it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


def together(commands: Sequence[Sequence[str]], folder: Path, seconds: float) -> None:
    """Run these until all have ended well. When one fails, or after so many seconds, the others are killed: ProcessError."""
    logs = [folder / f"process_{i}.txt" for i in range(len(commands))]
    environment = os.environ | {"no_grpc_proxy": "127.0.0.1"}
    running: list[subprocess.Popen[bytes]] = []
    end = time.monotonic() + seconds
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as file:
                running.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment))
        while (status := [p.poll() for p in running]) != [0] * len(running):
            failed = [i for i, s in enumerate(status) if s]
            late = time.monotonic() > end
            if failed or late:
                what = f"ended with {status[failed[0]]}" if failed else f"did not end in {seconds} seconds"
                which = failed[0] if failed else status.index(None)
                said = logs[which].read_text(errors="replace").splitlines()[-SHOWN:]
                raise ProcessError(
                    "\n  ".join((f"process {which} of {len(commands)} {what}; the others were stopped", *said))
                )
            time.sleep(0.05)
    finally:
        for p in running:
            p.kill()
            p.wait()


def layer(arguments: argparse.Namespace, processes: int, devices: int, threads: int, *more: str) -> Answer:
    """The layer in so many processes of so many devices."""
    given = {f"--{name}": value for name, value in dataclasses.asdict(sizes_of(arguments)).items()}
    given |= {"--devices": devices, "--threads": threads, "--runs": arguments.runs, "--seconds": arguments.seconds}
    with tempfile.TemporaryDirectory() as name, reserved_port() as port:
        folder = Path(name)
        files = [folder / f"process_{i}.npz" for i in range(processes)]
        commands = [
            [sys.executable, str(PROCESS), *(str(w) for pair in given.items() for w in pair), *more] for _ in files
        ]
        for i, (command, file) in enumerate(zip(commands, files, strict=True)):
            command += ["--save", str(file)]
            if processes > 1:
                at = f"127.0.0.1:{port}"
                command += ["--coordinator", at, "--bind", at, "--processes", str(processes), "--process", str(i)]
        together(commands, folder, arguments.seconds)
        return Answer.joined(files)


def row(name: str, ms: float, rounds: object, of_bound: float) -> str:
    return f"{name:42} {ms:10.1f} {rounds:>8} {of_bound:10.3f}"


def compared(one: Answer, many: Answer) -> list[str]:
    """What is wrong, in words."""
    found: list[str] = []
    for name, answer in (("one process", one), ("many processes", many)):
        if not answer.of_bound <= 1:  # NaN is wrong too
            found.append(f"{name}: the error is {answer.of_bound:.3g} of its bound")
    if many.choice.tobytes() != one.choice.tobytes():
        found.append("tokens went to other experts than in one process")
    if many.out.tobytes() != one.out.tobytes():
        found.append(f"{(many.out != one.out).any(axis=1).sum()} tokens have other bits than in one process")
    return found


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_layer(parser)
    parser.add_argument("--processes", type=count, default=2, metavar="N", help="on this machine; default: 2")
    arguments = parser.parse_args(given)
    sizes: Sizes = sizes_of(arguments)
    devices = arguments.processes * arguments.devices
    try:
        sizes.check(devices)
    except ValueError as e:
        parser.error(str(e))
    threads = arguments.threads or len(os.sched_getaffinity(0))
    try:
        one = layer(arguments, 1, 1, threads, "--padded")
        many = layer(arguments, arguments.processes, arguments.devices, threads)
    except ProcessError as e:
        print(f"FAILED {e}", file=sys.stderr)
        return 1
    rows_of = np.bincount(one.choice.reshape(-1), minlength=sizes.experts)
    print(
        f"{sizes.tokens} tokens x {sizes.hidden}, ffn {sizes.ffn}, {sizes.top} of {sizes.experts} experts, which have"
    )
    print(*rows_of, "tokens")
    print(f"{'':42} {'ms':>10} {'rounds':>8} {'of bound':>10}")
    print(row(f"1 process, 1 device, {threads} threads", one.ms, one.rounds, one.of_bound))
    print(
        row(
            f"{arguments.processes} processes, {devices} devices, {threads} threads each",
            many.ms,
            many.rounds,
            many.of_bound,
        )
    )
    if not math.isnan(one.padded_ms):
        print(row("1 process, jax alone, padded", one.padded_ms, "", one.padded_of_bound))
    failures = compared(one, many)
    for failure in failures:
        print(f"FAILED {failure}")
    if not failures:
        print(f"{arguments.processes} processes give the same bits as one")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
