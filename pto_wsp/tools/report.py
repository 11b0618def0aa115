"""What an example gives, how it is timed and shown, and the command line that runs one."""

from __future__ import annotations

import argparse
import inspect
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

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
    """

    name: str
    tasks: int
    max_error: float
    of_bound: float
    cycles: int
    expected_cycles: int | None
    wall_ms: float
    outputs: tuple[Array, ...] = field(default=(), repr=False)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty when nothing is."""
        found: list[str] = []
        if not self.of_bound <= 1:  # NaN is wrong too
            found.append(f"{self.name}: the error is {self.of_bound:.3g} of its bound")
        if self.expected_cycles not in (None, self.cycles):
            found.append(f"{self.name}: {self.cycles} cycles, but {self.expected_cycles} are expected")
        return tuple(found)


def timed(program: Program, runs: int = 5) -> float:
    """Milliseconds of a run of `program`: the median of `runs` after a first one that brings arrays into memory."""
    program.run()
    times: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        program.run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def measured(
    name: str, program: Program, outputs: Sequence[Array], check: Callable[[], tuple[float, float]], cycles: int | None
) -> Result:
    """Run `program`, compare with `check`, which gives (largest error, error / bound), and put the figures together."""
    wall_ms = timed(program)
    max_error, of_bound = check()
    stats = program.stats
    return Result(name, stats.task_count, max_error, of_bound, stats.total_cycles, cycles, wall_ms, tuple(outputs))


ROW = "{:34} {:>8} {:>10} {:>9} {:>12} {:>10}"


def show(results: Iterable[Result]) -> int:
    """Print a table of results, and what is wrong with them below it. Returns 1 if anything is, else 0."""
    print(ROW.format("workload", "tasks", "max error", "of bound", "cycles", "wall ms"))
    failures: list[str] = []
    for r in results:
        figures = (f"{r.max_error:.1e}", f"{r.of_bound:.3f}", r.cycles, f"{r.wall_ms:.3f}")
        print(ROW.format(r.name, r.tasks, *figures), flush=True)
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


def command_line(run: Callable[..., Result], description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run an example with its parameters as options and show the result. Returns the exit status: 0 when all is right."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for p in inspect.signature(run).parameters.values():
        option = "--" + p.name.replace("_", "-")
        if isinstance(p.default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=p.default)
        else:
            shown = "all processors" if p.default is None else p.default
            parser.add_argument(option, type=_count, default=p.default, metavar="N", help=f"default: {shown}")
    return show([run(**vars(parser.parse_args(arguments)))])
