"""Programs: an artifact bound to tensors and runtime values."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.artifact.container import damaged
from pto_wsp.errors import (
    ArtifactError,
    BindError,
    CompileError,
    ExecutionError,
    PtoError,
    here,
    no_attribute,
    no_options,
)
from pto_wsp.ir.core import written_tensors
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.runtime.core import core
from pto_wsp.runtime.failure import to_error
from pto_wsp.runtime.stats import ProgramStats, WindowStats
from pto_wsp.targets.base import TARGETS
from pto_wsp.trace.tensor import Tensor, array_of, check_array

_SLICE = 0.05  # seconds between looks at signals while waiting
_MAX_THREADS = 1024
_SHARE_WORK: Any = 100_000  # candidate solutions; exact for the strides of real arrays


def thread_count(threads: int | None) -> int:
    """`threads`, or PTO_WSP_NUM_THREADS, or the processors this process may use. Raises CompileError."""
    source: object = threads
    if threads is None:
        source = os.environ.get("PTO_WSP_NUM_THREADS") or min(len(os.sched_getaffinity(0)), _MAX_THREADS)
    if threads is None and isinstance(source, str):
        source = int(source) if source.isascii() and source.isdigit() and len(source) < 10 else source
    ok = isinstance(source, (int, np.integer)) and not isinstance(source, bool)
    if not ok or not 1 <= int(source) <= _MAX_THREADS:  # type: ignore[call-overload]
        raise CompileError(
            "PTO406",
            f"the number of threads is {source!r}",
            values={"range": f"1 .. {_MAX_THREADS}"},
            loc=here(),
            fix="give threads= (or PTO_WSP_NUM_THREADS) a positive integer",
        )
    return int(source)  # type: ignore[call-overload]


class Program:
    """A compiled workload with its arrays and sizes. Runs share nothing but the artifact, which is immutable.

    Made by `workload.compile()` or `Program.load(path)`. Any number of programs may run at once; one program runs once at a time.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None, *, plan: Any = None) -> None:
        self._artifact = artifact
        self._threads = thread_count(threads)
        self.compile_time_ms = 0.0
        self._plan = plan if plan is not None else _load_plan(artifact)
        self._run = core().Instance(self._plan, self._threads)
        self._arrays: dict[str, np.ndarray] = {}
        self._sizes: dict[str, int] = dict(artifact.manifest["sizes"])
        self._types = {v.name: artifact.wir.tensor_type(v.name) for v in artifact.wir.tensors}
        self._order = list(self._types)
        self._written = written_tensors(artifact.wir)
        self._outputs: list[tuple[np.ndarray, tuple[int, ...]]] = []
        self._ready = False  # whether the core has the bindings as they are now, checked
        self._started = False
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        public = [n for n in dir(type(self)) if not n.startswith("_")]
        raise no_attribute("a program", name, ", ".join(public))

    # bindings

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The bound arrays by name."""
        return dict(self._arrays)

    @property
    def axis_sizes(self) -> dict[str, int | None]:
        """The sizes bound at run time by symbol name; None where unbound."""
        return {n: self._sizes.get(n) for n in self._artifact.wir.symbols}

    @property
    def wir(self) -> str:
        """The workload as text, with its schedule."""
        return self._artifact.wir_text

    def bind(self, tensors: Mapping[str, Any]) -> Self:
        """Bind arrays by tensor name, by reference. Raises BindError for an unknown name, a wrong dtype, rank, shape or byte order,
        or a read-only array for an output."""
        _need(isinstance(tensors, Mapping), "bind", "a mapping from names to arrays", tensors)
        with self._lock:
            self._not_running("bind()")
            new: dict[str, np.ndarray] = {}
            for name, x in tensors.items():
                if name not in self._types:
                    raise BindError(
                        "PTO508",
                        f"there is no tensor {name!r}",
                        values={"tensors": ", ".join(self._order)},
                        loc=here(),
                        fix="use the names of the workload's tensors",
                    )
                array = array_of(x.data if isinstance(x, Tensor) else x, f"tensor {name}")
                self._check(name, array)
                new[name] = array
            self._arrays.update(new)
            self._ready = False
        return self

    def _check(self, name: str, array: np.ndarray) -> None:
        t = self._types[name]
        check_array(array, t.dtype, f"tensor {name}")
        fits = array.ndim == len(t.shape) and all(
            not d.is_const or d.const == n for d, n in zip(t.shape, array.shape, strict=True)
        )
        if not fits:
            raise BindError(
                "PTO503",
                f"tensor {name} has shape {list(array.shape)}, but is declared {t}",
                loc=here(),
                fix="give an array of the declared shape",
            )
        if name in self._written and _overlaps_itself(array):
            raise BindError(
                "PTO512",
                f"tensor {name} is written, but elements of its array share storage",
                values={"shape": list(array.shape), "strides": list(array.strides)},
                loc=here(),
                fix="give an array whose elements are distinct, such as array.copy()",
            )
        if name in self._written and not array.flags.writeable:
            raise BindError(
                "PTO505",
                f"tensor {name} is written, but its array is read-only",
                values={name: t},
                loc=here(),
                fix="give a writable array, such as array.copy()",
            )

    def set_axis_sizes(self, sizes: Mapping[str, int]) -> Self:
        """Bind the sizes of dynamic axes by axis name (or by the name of their symbol). Nothing is traced or built again. Raises BindError for an unknown or static
        axis, and for a size that is negative or not an integer."""
        _need(isinstance(sizes, Mapping), "set_axis_sizes", "a mapping from axis names to sizes", sizes)
        axes: dict[str, Any] = self._artifact.manifest["axes"]
        with self._lock:
            self._not_running("set_axis_sizes()")
            new: dict[str, int] = {}
            for name, size in sizes.items():
                symbol = axes.get(name, "$" + name if name in self._artifact.wir.symbols else None)
                if symbol is None:
                    raise BindError(
                        "PTO510",
                        f"there is no axis {name!r}",
                        values=self._axis_names(),
                        loc=here(),
                        fix="use the name of a dynamic axis",
                    )
                if isinstance(symbol, int):
                    raise BindError(
                        "PTO510",
                        f"axis {name!r} is static",
                        values={name: symbol},
                        loc=here(),
                        fix="declare it DenseDyn to change its size",
                    )
                new[symbol[1:]] = _size(name, size)
            self._sizes.update(new)
            self._ready = False
        return self

    def set_symbol_u64(self, name: str, value: int) -> Self:
        """Bind a symbol. Raises BindError for an unknown symbol, and for a value that is negative or not an integer."""
        with self._lock:
            self._not_running("set_symbol_u64()")
            if name not in self._artifact.wir.symbols:
                raise BindError(
                    "PTO510",
                    f"there is no symbol {name!r}",
                    values=self._axis_names(),
                    loc=here(),
                    fix="use the name of a symbol",
                )
            self._sizes[name] = _size(name, value)
            self._ready = False
        return self

    def _axis_names(self) -> dict[str, object]:
        axes: dict[str, Any] = self._artifact.manifest["axes"]
        dynamic = [n for n, s in axes.items() if isinstance(s, str)]
        return {
            "dynamic axes": ", ".join(dynamic) or "none",
            "static axes": ", ".join(n for n in axes if n not in dynamic) or "none",
            "symbols": ", ".join(self._artifact.wir.symbols) or "none",
        }

    def _prepare(self) -> None:
        """Check what only all bindings together show, and hand them to the core."""
        missing = [n for n in self._artifact.wir.symbols if n not in self._sizes]
        if missing:
            raise BindError(
                "PTO509",
                f"the size of {', '.join(missing)} is not bound",
                values=self._axis_names(),
                loc=here(),
                fix=f'program.set_axis_sizes({{"{missing[0]}": ...}})'
                if "$" + missing[0] in self._artifact.manifest["axes"].values()
                else f'program.set_symbol_u64("{missing[0]}", ...)',
            )
        unbound = [n for n in self._order if n not in self._arrays]
        if unbound:
            raise BindError(
                "PTO507",
                f"tensor {', '.join(unbound)} has no array",
                values={unbound[0]: self._types[unbound[0]]},
                loc=here(),
                fix=f'program.bind({{"{unbound[0]}": array}})',
            )
        for name, array in self._arrays.items():
            self._check(name, array)
        env = {"$" + n: v for n, v in self._sizes.items()}
        for name, t in self._types.items():
            want = tuple(d.value(env) for d in t.shape)
            if self._arrays[name].shape != want:
                raise BindError(
                    "PTO503",
                    f"tensor {name} has shape {list(self._arrays[name].shape)}, but with these sizes is {list(want)}",
                    values={name: t, **self._sizes},
                    loc=here(),
                    fix="bind an array of this shape, or other sizes",
                )
        for k, a in enumerate(self._order):
            for b in self._order[k + 1 :]:
                if (a in self._written or b in self._written) and _share(self._arrays[a], self._arrays[b]):
                    raise BindError(
                        "PTO506",
                        f"tensors {a} and {b} share storage, and one of them is written",
                        loc=here(),
                        fix="use one Tensor and views of it (X[...]), or copy one array",
                    )
        if self._artifact.manifest["race_checks"]:
            refuse_races(self._artifact.wir, self._sizes)
        self._run.set_symbols([self._sizes[n] for n in self._artifact.wir.symbols])
        for i, name in enumerate(self._order):
            a = self._arrays[name]
            self._run.bind(
                i, a.ctypes.data, list(a.shape), list(a.strides), self._types[name].dtype.code, bool(a.flags.writeable)
            )
        # an array can be made read-only, or get another shape, after it was bound
        self._outputs = [(self._arrays[n], self._arrays[n].shape) for n in self._order if n in self._written]
        self._ready = True

    # running

    def _not_running(self, what: str) -> None:
        if self._started and self._run.is_running():
            raise ExecutionError(
                "PTO702",
                f"{what} while the program runs",
                loc=here(),
                fix="synchronize() first, or use program.copy() beside it",
            )

    def execute(self, **options: object) -> Self:
        """Start a run and return at once. Raises BindError, BoundsError or RaceError for what can be checked before, and
        ExecutionError when the program is running already."""
        no_options("execute", options, "none")
        with self._lock:
            self._not_running("execute()")
            if not self._ready or any(a.shape != shape or not a.flags.writeable for a, shape in self._outputs):
                self._prepare()
            try:
                ran = self._run.start()
            except MemoryError as e:
                raise self._error({"kind": "memory", "values": []}) from e
            self._started = True
            failure = None if ran else self._run.error()
        if failure is not None:
            raise self._error(failure)
        return self

    def synchronize(self, timeout: float | None = None) -> None:
        """Wait until the run is over, working on it meanwhile. Raises what went wrong in it; ExecutionError (PTO704) when `timeout`
        seconds pass, and the run goes on. Ctrl-C cancels the run and waits for the kernels that are running."""
        if not self._started:
            raise ExecutionError(
                "PTO701", "synchronize() before execute()", loc=here(), fix="program.execute() first, or program.run()"
            )
        number = isinstance(timeout, (int, float, np.number)) and not isinstance(timeout, bool)
        _need(timeout is None or (number and 0 <= timeout < 1e9), "synchronize", "seconds, or None", timeout)
        end = math.inf if timeout is None else time.monotonic() + timeout
        try:
            while True:
                over, failure = self._run.wait(max(0.0, min(_SLICE, end - time.monotonic())))
                if over:
                    break
                if time.monotonic() >= end:
                    raise ExecutionError(
                        "PTO704",
                        f"the run is not over after {timeout} s",
                        loc=here(),
                        fix="synchronize() waits on, cancel() stops it",
                    )
        except KeyboardInterrupt:
            self.cancel()
            while not self._run.wait(_SLICE)[0]:
                pass
            raise
        if failure is not None:
            raise self._error(failure)

    def _error(self, failure: dict[str, Any]) -> PtoError:
        """The error for what went wrong in a run."""
        error = to_error(self._artifact, failure)
        error.loc = error.loc or here()
        return error

    def run(self) -> Self:
        """execute() and synchronize()."""
        self.execute()
        self.synchronize()
        return self

    def is_complete(self) -> bool:
        """Whether a run was started and is over."""
        return self._started and not self._run.is_running()

    def cancel(self) -> None:
        """Start no further task of the run; synchronize() then raises Cancelled."""
        if self._started:
            self._run.cancel()

    @property
    def stats(self) -> ProgramStats:
        """Figures of the last run that is over."""
        s = self._run.stats()
        if not self.is_complete() or len(s["kernel_counts"]) != len(self._artifact.wir.kernels):
            # not over, or another thread has started the next run meanwhile
            return ProgramStats(compile_time_ms=self.compile_time_ms)
        windows = tuple(WindowStats(w["stalls"], w["stall_cycles"], w["high_water"]) for w in s["windows"])
        counts: dict[str, int] = {}
        for k, n in zip(self._artifact.wir.kernels, s["kernel_counts"], strict=True):
            counts[k.label] = counts.get(k.label, 0) + n
        return ProgramStats(
            compile_time_ms=self.compile_time_ms,
            execute_time_ms=s["wall_ns"] / 1e6,
            task_count=s["task_count"],
            total_cycles=s["total_cycles"],
            stalls=s["stalls"],
            stall_cycles=s["stall_cycles"],
            high_water=s["high_water"],
            windows=windows,
            lanes=s["lanes"],
            arch=self._artifact.manifest["arch"],
            threads=s["threads"],
            max_in_flight=s["max_in_flight"],
            kernel_counts=counts,
        )

    # the artifact

    def copy(self) -> Program:
        """Another program of the same artifact, with the same bindings, that can run beside this one."""
        other = Program(self._artifact, self._threads, plan=self._plan)
        other.compile_time_ms = self.compile_time_ms
        with self._lock:
            other._arrays = dict(self._arrays)
            other._sizes = dict(self._sizes)
        return other

    def to_bytes(self) -> bytes:
        """The artifact as bytes, without arrays. The same workload gives the same bytes, source locations aside."""
        return self._artifact.to_bytes()

    @property
    def hash(self) -> str:
        """Content hash of the artifact, without source locations: SHA-256 in hex."""
        return self._artifact.hash

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artifact, whole or not at all. Raises ArtifactError."""
        _need(isinstance(path, (str, os.PathLike)), "save", "a path", path)
        self._artifact.save(path)

    @staticmethod
    def from_bytes(data: bytes, *, threads: int | None = None) -> Program:
        """The program of an artifact's bytes; bind arrays before running it. Raises ArtifactError."""
        _need(isinstance(data, (bytes, bytearray, memoryview)), "from_bytes", "bytes", data)
        return Program(Artifact.from_bytes(bytes(data)), threads)

    @staticmethod
    def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Program:
        """The program that `save` wrote; bind arrays before running it. Raises ArtifactError."""
        _need(isinstance(path, (str, os.PathLike)), "load", "a path", path)
        return Program(Artifact.load(path), threads)


def _need(ok: bool, what: str, wanted: str, got: object) -> None:
    if not ok:
        values = {"got": repr(got)[:80]}
        raise BindError("PTO705", f"{what} takes {wanted}", values=values, loc=here(), fix=f"give {wanted}")


def _load_plan(artifact: Artifact) -> Any:
    """The plan, verified by the core and equal in its tables to the wir."""
    target = artifact.manifest["target"]
    if target not in TARGETS:
        raise ArtifactError(
            "PTO602",
            f"the artifact is for target {target!r}",
            values={"this version has": ", ".join(sorted(TARGETS))},
            loc=here(),
            fix="use the version of pto_wsp that wrote it, or compile for another target",
        )
    compiled = core()
    try:
        plan = compiled.Plan(artifact.plan)
    except compiled.PlanError as e:
        raise damaged(f"its plan: {e}") from e
    wir = artifact.wir
    tensors = [(v.name, wir.tensor_type(v.name).dtype.code, len(wir.tensor_type(v.name).shape)) for v in wir.tensors]
    same = [(t[0], t[1], t[3]) for t in plan.tensors()] == tensors and list(plan.symbols()) == list(wir.symbols)
    if not same or list(plan.kernels()) != [k.label for k in wir.kernels]:
        raise damaged("its plan and its wir name different tensors, symbols or kernels")
    return plan


def _size(name: str, size: object) -> int:
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise BindError("PTO511", f"the size of {name} is {size!r}", loc=here(), fix="give an integer of 0 .. 2^63 - 1")
    return int(size)


def _overlaps_itself(a: np.ndarray) -> bool:
    """Whether two indices of `a` mean a common byte."""
    if a.size <= 1:
        return False
    reach = a.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(a.strides, a.shape, strict=True) if n > 1):
        if not stride:
            return True
        if stride < reach:
            # not nested dimensions: decide by looking at every element's address
            grids = np.indices(a.shape, dtype=np.int64).reshape(a.ndim, -1)
            offsets = np.sort(np.asarray(a.strides, dtype=np.int64) @ grids)
            return bool((np.diff(offsets) < a.itemsize).any())
        reach += stride * (n - 1)
    return False


def _share(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have a byte in common; counted as shared where that would take long to find out."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=_SHARE_WORK))
    except np.exceptions.TooHardError:
        return True
