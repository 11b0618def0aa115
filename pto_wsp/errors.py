"""The exceptions of pto_wsp, their one message format, and source locations.

Every error a user can cause is a `PtoError`. Its text says what happened (with a code), with which values, on
which line of the user's program (with a caret), and how to fix it:

    [PTO101] matmul needs a's columns to equal b's rows, but 64 is not 32
      a: f16<16x64>
      b: f16<32x64>
    --> examples/bgemm/bgemm_example.py:9 in bgemm_tile
    9 |     return pto.matmul(a, b)
      |            ^^^^^^^^^^^^^^^^
    fix: load b as [64, n], or say transpose_b=True

A fault of pto_wsp itself is an `InternalError`, which is not a `PtoError`.
"""

from __future__ import annotations

import dis
import linecache
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, MappingProxyType
from typing import NamedTuple, TypeVar

# Packages whose frames are not the user's: this one, the one for JAX, and what stands between them and is called by.
_OURS = frozenset({__name__.partition(".")[0], "pto_wsp_jax", "jax", "jaxlib", "functools", "contextlib"})


class Location:
    """A place in the user's source: file, 1-based line, 0-based columns, function.

    Built from a frame in constant time; the columns are looked up when they are first asked for.
    """

    __slots__ = ("_code", "_cols", "_lasti", "file", "function", "line")

    def __init__(self, file: str, line: int, function: str, cols: tuple[int, int] | None = None) -> None:
        self.file = file
        self.line = line
        self.function = function
        self._cols = cols
        self._code: CodeType | None = None
        self._lasti = 0

    @staticmethod
    def of_frame(frame: FrameType) -> Location:
        """The instruction that `frame` is executing."""
        return Location.of_code(frame.f_code, frame.f_lasti, frame.f_lineno)

    @staticmethod
    def of_code(code: CodeType, lasti: int, line: int) -> Location:
        """The instruction at offset `lasti`, which is of that line."""
        loc = Location(code.co_filename, line, code.co_name)
        loc._code, loc._lasti = code, lasti
        return loc

    @property
    def cols(self) -> tuple[int, int] | None:
        """First and one-past-last column of the expression on `line`, where Python knows them."""
        if self._code is not None:
            position = next(islice(self._code.co_positions(), self._lasti // 2, None), None)
            self._code = None
            if position is not None:
                line, end_line, col, end_col = position
                if line == self.line and col is not None and end_col is not None:
                    # of an expression over several lines, the rest of its first one
                    first = linecache.getline(self.file, self.line).rstrip().encode()
                    self._cols = (col, end_col if line == end_line else max(len(first), col + 1))
        return self._cols

    @property
    def instruction(self) -> tuple[CodeType, int] | None:
        """The code and the offset in it, where this was built from a frame and `cols` has not been asked for."""
        return None if self._code is None else (self._code, self._lasti)

    def __reduce__(self) -> tuple[object, ...]:
        return Location, (self.file, self.line, self.function, self.cols)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def show(self) -> str:
        """The `-->` block of an error message: place, source line and caret."""
        head = f"--> {self.file}:{self.line} in {self.function}"
        # of files only: a location may come from an artifact, and name anything
        readable = self.file in linecache.cache or Path(self.file).is_file()
        text = linecache.getline(self.file, self.line).rstrip("\n") if readable else ""
        if not text.strip():
            return head
        number = str(self.line)
        rows = [head, f"{number} | {text}"]
        if self.cols is not None:
            # columns count UTF-8 bytes; the caret line counts characters
            first, last = (len(text.encode()[:c].decode(errors="ignore")) for c in self.cols)
            rows.append(" " * len(number) + " | " + " " * first + "^" * max(last - first, 1))
        return "\n".join(rows)


def user_frame() -> FrameType:
    """The innermost frame that does not belong to pto_wsp."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    # by module, not by file: code that dataclasses generate has no file, and a file may have several paths
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
        frame = frame.f_back
    return frame


class _Placed(threading.local):
    loc: Location | None = None


_placed = _Placed()


def here() -> Location:
    """Where the user's program is now."""
    return _placed.loc or Location.of_frame(user_frame())


@contextmanager
def at(loc: Location | None) -> Generator[None]:
    """Inside, `here` is `loc`, a line that ran before and of which something is made now. None: as outside."""
    before = _placed.loc
    _placed.loc = loc or before
    try:
        yield
    finally:
        _placed.loc = before


def check_name(name: object, what: str, code: str) -> str | None:
    """A given name: None, or a non-empty string that UTF-8 can hold. Raises TraceError `code`."""
    if name is None:
        return None
    if isinstance(name, str) and name:
        try:
            name.encode()
        except UnicodeEncodeError:
            pass
        else:
            return name
    values = {"name": repr(name)[:80]}
    raise TraceError(
        code, f"the name of {what} is a non-empty string", values=values, loc=here(), fix='write name="batch"'
    )


def called_by_user() -> Location | None:
    """Where the user's program calls the function that asks; None where pto_wsp itself calls it."""
    caller = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    return Location.of_frame(caller) if caller is user_frame() else None


class InternalError(RuntimeError):
    """A broken invariant inside pto_wsp: our mistake, never the user's."""


class TaskName(NamedTuple):
    """A task of a run: its position in program order, from 0, and what messages call it: scale[b=3]."""

    id: int
    name: str


class PtoError(Exception):
    """Base of all errors of pto_wsp.

    `code` names the mistake ("PTO101"), `what` says what happened, `values` which values were involved, `loc` where in
    the user's program (None when no line is known), `fix` how to put it right.

    Of a run with on_error="continue", `failed` names all tasks that failed, in program order, and `skipped` those that were not run
    because they depend on one of them.
    """

    failed: tuple[TaskName, ...] = ()
    skipped: tuple[TaskName, ...] = ()

    def __init__(
        self, code: str, what: str, *, fix: str, values: Mapping[str, object] | None = None, loc: Location | None = None
    ) -> None:
        if code not in CODES:
            raise InternalError(f"error code {code} is not in the table of codes")
        self.code = code
        self.what = what
        self.values = dict(values or {})
        self.fix = fix
        self.loc = loc
        super().__init__(what)

    def __str__(self) -> str:
        rows = [f"[{self.code}] {self.what}"]
        rows += [f"  {name}: {value}" for name, value in self.values.items()]
        if self.loc is not None:
            rows.append(self.loc.show())
        rows.append(f"fix: {self.fix}")
        return "\n".join(rows)

    def __reduce__(self) -> tuple[object, ...]:
        return (
            _rebuild,
            (
                type(self),
                self.code,
                self.what,
                self.fix,
                self.values,
                self.loc and (self.loc.file, self.loc.line, self.loc.function, self.loc.cols),
            ),
            {name: x for name, x in vars(self).items() if name not in ("code", "what", "fix", "values", "loc")},
        )


def _rebuild(
    cls: type[PtoError],
    code: str,
    what: str,
    fix: str,
    values: dict[str, object],
    loc: tuple[str, int, str, tuple[int, int] | None] | None,
) -> PtoError:
    return cls(code, what, fix=fix, values=values, loc=Location(*loc) if loc else None)


class TraceError(PtoError):
    """The traced Python says something that has no meaning in the language."""


class TypeCheckError(TraceError):
    """Types, shapes or names do not fit together."""


class LayoutIncompatibleError(TypeCheckError):
    """Layouts of tensors on a mesh of devices do not fit together."""


class RaceError(PtoError):
    """Two iterations that are meant to be independent touch one element, and one of them writes it."""


class BoundsError(PtoError):
    """An index, slice, extent or integer lies outside what it indexes."""


class CompileError(PtoError):
    """The workload cannot be compiled for this target."""


class ScheduleError(CompileError):
    """A schedule directive has no meaning here."""


class ScheduleWarning(UserWarning):
    """A schedule says something that decides nothing for this workload, though it may for another one."""


class IRConversionError(CompileError):
    """Text that is not wir, or wir that breaks its rules."""


class UnsupportedError(CompileError):
    """Something that is not there (yet), asked for by name."""


class UnsupportedNameError(UnsupportedError, AttributeError):
    """A public name that is not there: an `UnsupportedError` that `getattr` and `hasattr` understand."""


class UnsupportedImportError(UnsupportedError, ImportError):
    """A public name that is not there, asked for by `from pto_wsp import name`."""


def missing_public_name(module: str, name: str) -> Exception:
    """What a module raises for a public name that is not there, whether it is asked for by attribute or by import."""
    if name.startswith("_"):
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    frame = user_frame()
    importing = dis.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM"
    cls = UnsupportedImportError if importing else UnsupportedNameError
    return cls("PTO001", f"{module} has no {name}", loc=here(), fix=f"see {module}.__all__ for what there is")


def no_options(what: str, given: Mapping[str, object], there_is: str) -> None:
    """Raise UnsupportedError for keyword arguments that `what` does not have."""
    if given:
        names = ", ".join(given)
        raise UnsupportedError(
            "PTO003", f"{what} has no option {names}", values={"there is": there_is}, loc=here(), fix="leave it out"
        )


C = TypeVar("C", bound=type)


def _refusing(names: str, error: Callable[[str, object], PtoError]) -> Callable[[C], C]:
    def decorate(cls: C) -> C:
        for name in names.split():

            def refuse(self: object, *_: object, name: str = name) -> object:
                raise error(name, self)

            setattr(cls, f"__{name}__", refuse)
        return cls

    return decorate


def without_operators(names: str, what: str, fix: str) -> Callable[[C], C]:
    """Class decorator: these operators (method names without underscores) are an UnsupportedError with a way out."""

    def error(name: str, x: object) -> PtoError:
        values = {"operand": repr(x)[:80]}
        return UnsupportedError("PTO003", f"{what} has no operator {name}", values=values, loc=here(), fix=fix)

    return _refusing(names, error)


def without_control(names: str, what: str) -> Callable[[C], C]:
    """Class decorator: Python asks for a truth or a comparison of what has no number while tracing: a TraceError."""
    fix = "keep Python's if, and, or, not and comparisons to Python values: this has no number while tracing"

    def error(name: str, x: object) -> PtoError:
        asked = "the truth" if name == "bool" else "a comparison"
        return TraceError("PTO128", f"{asked} of {what}", values={"operand": repr(x)[:80]}, loc=here(), fix=fix)

    return _refusing(names, error)


def no_attribute(owner: str, name: str, there_is: str) -> AttributeError:
    """What `owner.name` raises where there is no such name."""
    if name.startswith("_"):
        return AttributeError(name)
    return UnsupportedNameError(
        "PTO001", f"{owner} has no {name}", values={"there is": there_is}, loc=here(), fix="use one of these"
    )


class BindError(PtoError):
    """Arrays, sizes or values that do not fit the program."""


class ArtifactError(PtoError):
    """An artifact that is damaged, newer than this version, or not one."""


class ExecutionError(PtoError):
    """A run failed."""


class KernelError(ExecutionError):
    """A task got tiles whose valid shapes do not fit its kernel."""


class DeadlockError(ExecutionError):
    """Nothing of a run can go on, and there is more to do.

    task         the task that waits to be issued, with its coordinates
    resource     what it waits for: "window of 4 tasks"
    occupancy, capacity   how much of that is in use, and how much there is, in tasks or bytes
    remedy       the smallest sizes of windows with which the run goes on, of which one less does not: {"window": 8}. Where more windows
                 than the one above are too small, also {"window 2": 5} of the third window that the workload has, in program order.
                 Where processes wait for ever, depths of channels: {"c": 2}. None where no size helps, and no depth; empty where it
                 is not known which do
    blocked      where processes wait for ever, each of them: its name (`process`), `op` ("send" or "recv"), `channel`, the tokens in it
                 (`occupancy`) of its `capacity` (None: any number), the process's `clock`, and `loc`, the line it waits at. Of a deadlock
                 that is proved before anything runs `clock` is None where data decides it; where no walk is needed to prove it
                 (PTO865), `occupancy` and `clock` are None, and there are only the processes that wait for one another
    alternative  {"start": 4}: the largest start threshold with which it goes on, the windows as they are
    """

    task: str = ""
    resource: str = ""
    occupancy: int = 0
    capacity: int = 0
    blocked: tuple[Mapping[str, object], ...] = ()
    remedy: Mapping[str, int] | None = MappingProxyType({})
    alternative: Mapping[str, int] = MappingProxyType({})


class WindowError(ExecutionError):
    """A run needs more than a window of mode ABORT may hold."""


class LimitError(ExecutionError):
    """A run goes beyond a bound that it was given."""


class Cancelled(ExecutionError):
    """The run was cancelled."""


class ChannelError(ExecutionError):
    """A channel used as its state does not allow."""


class ChannelClosed(ChannelError):
    """A process sends to a channel that it has closed."""


# One mistake, one code. The page docs/errors.md is generated from this table.
CODES: dict[str, str] = {}


def _codes(text: str) -> None:
    for row in text.strip().splitlines():
        code, summary = row.split(maxsplit=1)
        if code in CODES:
            raise InternalError(f"error code {code} stands twice in the table")
        CODES[code] = summary


_codes("""
PTO001 a public name that does not exist (yet)
PTO002 the installed package lacks its compiled core
PTO003 an operator or option that does not exist (yet)
PTO101 matmul: inner dimensions differ
PTO102 operands of an operation have different dtypes
PTO103 operand shapes do not broadcast
PTO104 an operation does not exist for this dtype
PTO105 an argument of an operation is not a tile
PTO106 a parameter of an operation has a value it cannot take
PTO107 matmul: the accumulator has the wrong type
PTO108 row or column vector expected
PTO109 a Python number does not fit the tile's dtype
PTO120 a kernel parameter has no usable annotation
PTO121 a tile shape or dtype in an annotation is wrong
PTO122 a kernel does not write one of its outputs
PTO123 an output is read before it is written
PTO124 store into an input
PTO125 stored value and parameter differ in shape or dtype
PTO126 a tile operation outside of a kernel
PTO127 a kernel returns a value
PTO128 Python control flow on a traced value
PTO129 a kernel called outside of a workload
PTO130 a value of another kernel or workload
PTO131 a kernel or workload with *args, **kwargs or defaults where none can be
PTO132 a region of a tensor used as a tile
PTO133 a part of a parameter that was named wrongly
PTO134 an index or bound inside a kernel that is no integer
PTO135 a loop or branch of a kernel whose values do not keep their structure or type
PTO136 a loop of a kernel whose trips depend on what it reads
PTO137 a loop or branch of a kernel that was written wrongly
PTO138 a value used outside of its loop or branch of a kernel
PTO139 a kernel that does something else when it is evaluated than when it was traced
PTO140 an unknown or repeated kernel argument
PTO141 a missing kernel argument
PTO142 a kernel argument of the wrong kind
PTO143 a view's dtype differs from the parameter's
PTO144 a view's shape differs from the parameter's
PTO145 within one task an output overlaps another argument
PTO146 a Constexpr argument that is not a Python constant
PTO150 P(...) of something that is not an axis
PTO151 break or return inside a traced loop
PTO152 P(...) outside of a workload
PTO153 an axis that was made wrongly
PTO154 too many or too few loop variables
PTO155 a workload called with wrong arguments
PTO156 one name for two different things
PTO157 a loop variable or scalar used outside of its loop or branch
PTO158 a workload that uses something of another workload's trace
PTO160 wrong number of indices
PTO161 an index of an unknown kind
PTO162 a slice with a step, or of unknown length
PTO163 an index outside of its dimension
PTO164 a tensor declared wrongly
PTO170 scalars of different types in one expression
PTO171 an operation that scalars of this type do not have
PTO172 a scalar read from something that is not an element
PTO173 P.otherwise without a P.when before it
PTO174 a condition that is not a bool
PTO175 a slot out of range
PTO176 one slot with two types
PTO177 a ragged or sparse axis that was made wrongly
PTO178 P.sel of something that is not a row of a sparse axis
PTO179 variants of a kernel that do not fit
PTO180 a workload that calls itself
PTO181 a workload returns a tensor that it does not own
PTO182 a tensor of a workload that nothing writes
PTO183 a tensor made in a loop whose extent is not known before the run
PTO184 vmap over what is not there, or not of one size
PTO185 records that were declared wrongly
PTO186 scan with carries or sequences that do not fit
PTO187 return, break or continue inside of P.when
PTO188 after= of something that is not a task
PTO190 an instruction of PTO-ISA with wrong operands
PTO191 a tile register read before it is written
PTO192 a tile register declared or placed wrongly
PTO193 a result that its tile register does not hold
PTO194 an instruction of PTO-ISA without meaning in a kernel
PTO195 a wait for a flag that nothing set
PTO196 a kernel of instructions that yields something else
PTO197 a kernel of C++ that was written wrongly
PTO198 a file of C++ that cannot be read
PTO201 iterations of a P loop conflict
PTO202 iterations of a P loop use one slot, and one sets it
PTO203 explicit dependences leave a conflict unordered
PTO204 under check="races", tasks of different iterations of a P loop that touch a common element
PTO301 text that is not wir
PTO302 wir that breaks its rules
PTO401 an unknown target
PTO402 an unknown arch, or an arch file that breaks the schema
PTO403 a schedule directive with a wrong value
PTO404 a schedule directive where it has no meaning
PTO405 a workload beyond a limit of the runtime
PTO406 a wrong number of threads
PTO407 a folder that the wir cannot be dumped to
PTO408 a loop that is not there, or one of several of that name
PTO409 a rewrite that would change what the workload means
PTO410 an unknown check
PTO411 a policy that asks for a coordinate that a task does not have
PTO412 no C++ compiler, where one is needed
PTO413 C++ that does not compile
PTO414 C++ without the function that a kernel needs
PTO415 no room to compile C++
PTO416 an unknown tier
PTO425 a resource of a wrong size
PTO427 something that the target does not have
PTO417 a function of a policy that gives no integer
PTO418 schedule directives that contradict each other
PTO419 a schedule under which no run could end: lanes wait for more tasks than a window holds
PTO430 a search space that is empty, or has choices that are none
PTO431 a search or a configuration with a wrong option
PTO432 a file of results of searches that cannot be used
PTO501 not an array
PTO502 an array's dtype differs from its declaration
PTO503 an array's shape differs from its declaration
PTO504 an array's byte order is not the machine's
PTO505 an output array is read-only
PTO506 two tensors share storage and one is written
PTO507 a tensor without an array
PTO508 an unknown tensor name
PTO509 an axis size is not bound
PTO510 an unknown axis or symbol name
PTO511 an axis size that is negative or not an integer
PTO512 an output array whose own elements share storage
PTO513 lengths of a ragged axis that are negative, or not one for each row
PTO514 an indptr or indices that a sparse axis cannot have
PTO516 a symbol or tensor of the wrong kind for what is bound to it
PTO517 a slot that the workload does not use, or a value that it does not hold
PTO518 an address without what says what is there
PTO519 a task, or the temporaries, need more of a resource than there is
PTO601 an artifact that is damaged or not one
PTO602 an artifact of a newer version, or with unknown required parts
PTO603 an artifact that cannot be read or written
PTO701 synchronize() before execute()
PTO702 execute() or a change of bindings while the program runs
PTO703 the run was cancelled
PTO704 a time-out while waiting
PTO705 an argument of the wrong kind for a program
PTO710 a task's tiles have valid shapes its kernel cannot take
PTO711 a division by zero
PTO712 an integer of an index, extent or address overflows 64 bits
PTO713 a scalar does not fit its parameter's dtype
PTO714 a cost that is negative or overflows
PTO715 no memory for a run
PTO716 a shift outside of 0 .. 63
PTO717 a cast of a number that the integer type does not hold
PTO718 the largest or smallest of no elements
PTO719 lengths, pointers or indices computed in the run that no axis can have
PTO720 under check="bounds", a view outside of its tensor
PTO721 under check="numerics", a result that differs from the reference evaluator's
PTO722 under check="numerics", a NaN made of numbers, or an infinity of finite ones
PTO730 an index inside a kernel that leads outside of its tile
PTO732 a part or element of a kernel's parameter that lies outside
PTO733 a loop of a kernel that runs too often
PTO734 C++ of a kernel that throws an exception
PTO735 memory that C++ of a kernel cannot take
PTO740 a deadlock: no task can be issued or taken any more
PTO741 a run that needs more than a window of mode ABORT may hold
PTO742 a policy without a value for a task: too many keys, a pool that does not exist, a negative distance
PTO731 an input that changed while a run read it
PTO750 a simulation of a program that reads what its tasks compute
PTO751 scalars of another program, of other sizes, or too few or many of them
PTO752 scalars of a run that there are none of
PTO760 a trace of a run that was not traced
PTO761 a log that there is not
PTO762 a picture that needs matplotlib
PTO763 a picture that cannot be written
PTO764 a schedule or an explanation of a run whose trace is not complete
PTO765 a schedule that is damaged, or in which a task comes before what it needs
PTO766 a schedule of another program, or of other sizes
PTO767 a run with other tasks than the schedule that it replays, or fewer threads
PTO801 a task of a simulation that is not one
PTO802 a task of a simulation that waits for one that does not exist
PTO803 arrays of a simulation that do not fit together
PTO804 a simulation that goes beyond 2**62 cycles
PTO805 an option of a simulation with a wrong value
PTO806 a process of a simulation that is not one
PTO807 two processes of a simulation with one name
PTO808 a channel of a simulation that is not one
PTO809 a process of a simulation that uses a channel that there is not
PTO810 a simulation of processes that would have to keep too many times
PTO811 a remedy of a deadlock that was not found within the limits
PTO823 a channel, an event, a process or a pipeline that was made wrongly
PTO825 a channel of any depth, to which any number of tokens may be sent
PTO824 a channel or a task that is used outside of its pipeline or process
PTO812 an end of a channel that its process does not declare
PTO813 a token that is not what its channel carries
PTO814 a channel that nobody feeds or drains
PTO815 a view used after it was sent
PTO816 a pipeline without processes, or with a statement that is none
PTO818 memory that cannot be handed over
PTO819 try_send or query in a pipeline that is not timed
PTO817 a send to a channel by a process that has closed it
PTO820 a deadlock of processes
PTO821 the pure form of a workload with a pipeline, or on a mesh
PTO822 too many actions of processes in which no clock advances
PTO849 a pipeline that takes more cycles than it may
PTO860 a channel that several processes share which are no replicas, in a pipeline that is not timed
PTO861 something kept between tokens whose order depends on time
PTO862 tokens whose order depends on time and that name common elements
PTO863 a race of two processes
PTO864 processes that wait for ever in every run
PTO865 processes that wait for each other whatever happens
PTO870 a loop of which a stage must come before what an earlier stage does in a later iteration
PTO871 a pipeline of fewer than two functions
PTO872 functions of a pipeline that are not loops over the same iterations
PTO880 JAX, or the handler of its calls, that is missing, too old, or of another version
PTO881 a function of JAX arrays that cannot be one, or is called inside of a workload
PTO882 a function of JAX arrays on a device that runs no workloads
PTO883 the derivative of a workload that has no rule for it
PTO884 a function of JAX arrays whose operands are divided between devices as its loops are not
PTO885 what has no form in operations of JAX
PTO886 tiles of 64 bits in operations of JAX, without jax_enable_x64
PTO887 a bound of loops that is no number of iterations, or names no loop
PTO888 a primitive of JAX that a kernel has no operation for
PTO889 a function of jnp that cannot be a kernel: its arguments, results or constants
PTO890 a mesh or a layout that cannot be, or that does not fit its tensor
PTO891 layouts that have no join
PTO892 a tensor that is read, given or returned while a reduction is pending
PTO893 a tensor that its layout says is the same on all devices, and that is not; or a sum of what is the same
PTO894 a collective that its tensor's layout has no meaning for
PTO895 a collective inside of a loop, a branch or a pipeline
PTO896 a mesh or a sharding of JAX that is not the one of a workload
""")
