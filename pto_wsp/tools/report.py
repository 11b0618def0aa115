"""What an example gives, how it is timed and shown, and the command line that runs one."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pto_wsp import Program
from pto_wsp.tools.bounds import Array


@dataclass(frozen=True)
class Result:
    """One workload at one size.

    tasks            tasks of a run
    max_error        largest |result - golden|
    of_bound         largest |result - golden| / bound: at most 1, or the numbers are wrong
    cycles           semantic time of a run
    expected_cycles  what they must be, or None where no figure is kept for these sizes
    wall_ms          median time of a run, arrays in memory
    outputs          the arrays that were written
    peers            median times of others on the same arrays, in ms, by name; a peer that is not installed is left out
    notes            lines to show below: timelines, say
    """

    name: str
    tasks: int
    max_error: float
    of_bound: float
    cycles: int
    expected_cycles: int | None
    wall_ms: float
    outputs: tuple[Array, ...] = field(default=(), repr=False)
    peers: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty when nothing is."""
        found: list[str] = []
        if not self.of_bound <= 1:  # NaN is wrong too
            found.append(f"{self.name}: the error is {self.of_bound:.3g} of its bound")
        if self.expected_cycles not in (None, self.cycles):
            found.append(f"{self.name}: {self.cycles} cycles, but {self.expected_cycles} are expected")
        return tuple(found)


def timed(run: Callable[[], object], runs: int = 5) -> float:
    """Milliseconds of a call of `run`: the median of `runs` after a first one that brings arrays into memory."""
    run()
    times: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def jitted(f: Callable[..., Any], *arrays: Array) -> dict[str, Callable[[], object]]:
    """{"jax": a call of `f(jnp, *arrays)` under jax.jit, without copies} where jax is installed, else nothing."""
    if importlib.util.find_spec("jax") is None:
        return {}
    jax = importlib.import_module("jax")
    on_device = [jax.device_put(a) for a in arrays]

    def of_jax(*a: Any) -> Any:
        return f(jax.numpy, *a)

    compiled = jax.jit(of_jax)
    return {"jax": lambda: jax.block_until_ready(compiled(*on_device))}


def measured(
    name: str,
    program: Program,
    outputs: Sequence[Array],
    check: Callable[[], tuple[float, float]],
    cycles: int | None,
    peers: Mapping[str, Callable[[], object]] | None = None,
) -> Result:
    """Run `program`, compare with `check`, which gives (largest error, error / bound), and put the figures together.

    peers: what does the same work, by name; timed in the same way.
    """
    wall_ms = timed(program.run)
    max_error, of_bound = check()
    stats = program.stats
    others = {peer: timed(run) for peer, run in (peers or {}).items()}
    return Result(
        name, stats.task_count, max_error, of_bound, stats.total_cycles, cycles, wall_ms, tuple(outputs), others
    )


ROW = "{:34} {:>8} {:>10} {:>9} {:>12} {:>10}"


def show(results: Iterable[Result]) -> int:
    """Print a table of results, and what is wrong with them below it. Returns 1 if anything is, else 0."""
    print(ROW.format("workload", "tasks", "max error", "of bound", "cycles", "wall ms"))
    failures: list[str] = []
    for r in results:
        figures = (f"{r.max_error:.1e}", f"{r.of_bound:.3f}", r.cycles, f"{r.wall_ms:.3f}")
        print(ROW.format(r.name, r.tasks, *figures), flush=True)
        for peer, ms in r.peers.items():
            print(f"  the same by {peer}: {ms:.3f} ms, {ms / r.wall_ms:.2f} times ours")
        for note in r.notes:
            print(f"  {note}")
        failures += r.failures
    for failure in failures:
        print(f"FAILED {failure}")
    return int(bool(failures))


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless all sizes are at least 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}, but must be at least 1")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _length(text: str) -> int:
    return 0 if text == "0" else _count(text)


def command_line(
    run: Callable[..., Result | Sequence[Result]], description: str | None, arguments: Sequence[str] | None = None
) -> int:
    """Run an example with its parameters as options and show what it gives. Returns the exit status: 0 when all is right."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for p in inspect.signature(run).parameters.values():
        option = "--" + p.name.replace("_", "-")
        if isinstance(p.default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=p.default)
        else:
            shown = "all processors" if p.default is None else p.default
            several = "+" if isinstance(p.default, tuple) else None
            parser.add_argument(
                option,
                type=_length if several else _count,
                nargs=several,
                default=p.default,
                metavar="N",
                help=f"default: {shown}",
            )
    results = run(**vars(parser.parse_args(arguments)))
    return show([results] if isinstance(results, Result) else results)
