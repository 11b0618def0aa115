"""One process of a distributed mixture of experts: start one on each machine, with the same options but for --process.

    python distributed_moe_process.py --coordinator 10.0.0.1:8476 --processes 2 --process 0 --devices 2    # on 10.0.0.1
    python distributed_moe_process.py --coordinator 10.0.0.1:8476 --processes 2 --process 1 --devices 2    # on the other

Each prints a line when it has compiled the layer, and one at its end: its time, and how far its tokens lie from float64. Without
--coordinator it is one process alone. Needs jax: pip install '.[jax]'
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import hashlib
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from distributed_moe_model import AXIS, Outcome, Sizes, mixture, of_bound, padded, placed
from jax.experimental import multihost_utils
from jax.sharding import Mesh

import pto_wsp
from pto_wsp.tools.bounds import Array


def whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 on")
    return int(text)


def count(text: str) -> int:
    if whole(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 on")
    return int(text)


def address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def add_layer(parser: argparse.ArgumentParser) -> None:
    """The options that all processes share."""
    for field in dataclasses.fields(Sizes):
        more = " (0: twice what an even routing needs)" if field.name == "capacity" else ""
        kind = whole if field.name == "capacity" else count
        parser.add_argument(
            f"--{field.name}", type=kind, default=field.default, metavar="N", help=f"default: {field.default}{more}"
        )
    parser.add_argument("--devices", type=count, default=2, metavar="N", help="of each process; default: 2")
    parser.add_argument(
        "--threads", type=count, metavar="N", help="of each device; default: as many as there are processors"
    )
    parser.add_argument("--runs", type=count, default=5, metavar="N", help="that are timed; default: 5")
    parser.add_argument("--seconds", type=count, default=900, metavar="S", help="until it is given up; default: 900")


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    return Sizes(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Sizes)})


def milliseconds(run: Callable[[], object], runs: int) -> float:
    """The median of so many calls. Devices wait for each other in each, so all processes see the same."""
    times: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def of_this_process(array: jax.Array, axis: int) -> tuple[slice, Array]:
    """The parts that its devices have, which follow each other along the axis, and where they lie."""
    parts = sorted(array.addressable_shards, key=lambda part: part.index[axis].start or 0)
    joined = np.concatenate([part.data for part in parts], axis=axis)
    begin = parts[0].index[axis].start or 0
    return slice(begin, begin + joined.shape[axis]), joined


def check_agreement(arguments: argparse.Namespace) -> None:
    """Raise RuntimeError unless all processes run the same program: each traces and compiles its own."""
    same = f"{sizes_of(arguments)} {arguments.devices} {jax.__version__} {pto_wsp.__version__}"
    digest = np.frombuffer(hashlib.sha256(same.encode()).digest(), np.int32)
    if (multihost_utils.process_allgather(digest) != digest).any():
        raise RuntimeError(f"processes were started with other options or versions than {same}")


def work(arguments: argparse.Namespace) -> bool:
    """Whether its numbers are right."""
    sizes, name = sizes_of(arguments), f"process {arguments.process} of {arguments.processes}"
    devices = np.array(jax.devices())
    sizes.check(len(devices))
    check_agreement(arguments)
    mesh = Mesh(devices, (AXIS,))
    threads = arguments.threads or len(os.sched_getaffinity(0))
    given = placed(mesh, sizes)
    layer = mixture(mesh, sizes, threads)
    outcome: Outcome = jax.block_until_ready(layer(*given))
    print(f"{name} has {jax.local_device_count()} of {len(devices)} devices and has compiled", flush=True)
    ms = milliseconds(lambda: layer(*given), arguments.runs)
    tokens, out = of_this_process(outcome.out, 0)
    _, choice = of_this_process(outcome.choice, 1)
    error = of_bound(sizes, tokens, out, choice)
    (rounds, *_) = of_this_process(outcome.rounds, 0)[1]
    print(
        f"{name}: tokens {tokens.start} to {tokens.stop}, {ms:.1f} ms, {rounds} rounds, {error:.3f} of the bound",
        flush=True,
    )
    peer_ms = peer_error = np.nan
    if arguments.padded:
        peer = padded(sizes, int(np.bincount(choice.reshape(-1)).max()))
        peer_out, peer_choice = map(np.asarray, peer(*given))
        peer_ms, peer_error = (
            milliseconds(lambda: peer(*given), arguments.runs),
            of_bound(sizes, tokens, peer_out, peer_choice),
        )
    if arguments.save:
        figures = np.array([ms, error, rounds, peer_ms, peer_error])
        np.savez(arguments.save, out=out, choice=choice, figures=figures)
    return error <= 1


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_layer(parser)
    parser.add_argument(
        "--coordinator", type=address, metavar="HOST:PORT", help="where process 0 listens; all processes reach it"
    )
    parser.add_argument(
        "--bind",
        type=address,
        metavar="HOST:PORT",
        help="of process 0, where --coordinator is not its own; default: all of its interfaces",
    )
    parser.add_argument("--processes", type=count, default=1, metavar="N")
    parser.add_argument("--process", type=whole, default=0, metavar="I", help="which one this is, from 0")
    parser.add_argument(
        "--wait", type=count, default=60, metavar="S", help="seconds for all processes to come; default: 60"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write what its devices computed, as .npz")
    parser.add_argument("--padded", action="store_true", help="time the layer in JAX alone, padded, too; of one device")
    arguments = parser.parse_args(given)
    if (arguments.coordinator is None) != (arguments.processes == 1):
        parser.error("--coordinator and --processes belong together")
    if arguments.process >= arguments.processes:
        parser.error(f"--process {arguments.process} of {arguments.processes}: they are counted from 0")
    if arguments.padded and arguments.processes * arguments.devices > 1:
        parser.error("--padded is for one device")
    # Where others wait for a device of a process that lives on, nobody else ends the wait.
    faulthandler.dump_traceback_later(arguments.seconds, exit=True)
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    if arguments.coordinator:
        jax.distributed.initialize(
            arguments.coordinator,
            num_processes=arguments.processes,
            process_id=arguments.process,
            initialization_timeout=arguments.wait,
            coordinator_bind_address=arguments.bind,
        )
    try:
        right = work(arguments)
    except Exception:  # noqa: BLE001 (said here, and then it ends at once)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an orderly end would wait for the other processes
    if arguments.coordinator:
        jax.distributed.shutdown()
    faulthandler.cancel_dump_traceback_later()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
