"""The task that a policy's lambda is given, and the rule that the lambda makes."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np

from pto_wsp.errors import (
    CompileError,
    Location,
    ScheduleError,
    TypeCheckError,
    called_by_user,
    here,
    without_operators,
)
from pto_wsp.ir.core import DType, Literal, RuleCall
from pto_wsp.ir.expr import Expr, const, var
from pto_wsp.ir.rule import COORDINATE, RULE_OPS, Rule
from pto_wsp.trace.index import Asker, Index, Scalar64
from pto_wsp.trace.scalar import DataScalar, as_operand, cast, number, typed

MOST_OPERATIONS = 256


class _Ask(DataScalar):
    """A question to the run, by the name of an operation of rules."""

    __slots__ = ("asked", "text")

    def __init__(
        self,
        op: str,
        args: tuple[DataScalar, ...],
        dtype: DType,
        asker: Asker,
        text: str | None = None,
        asked: Location | None = None,
    ) -> None:
        """`asked`: the line of the user's function that asks."""
        super().__init__(op, args, dtype, None, here(), asker=asker)
        self.text, self.asked = text, asked

    def __repr__(self) -> str:
        return f"<{self.dtype} t.{self.op}>"


@without_operators(
    "add radd sub rsub mul rmul floordiv rfloordiv mod rmod truediv rtruediv and rand or ror xor rxor lt le gt ge "
    "neg invert abs bool int float index iter len contains getitem hash array array_ufunc",
    "t.kernel",
    'compare it, (t.kernel == "attend") | (t.kernel == "scale"); t.get("kernel") is the coordinate of that name',
)
class KernelName:
    """The kernel of a task, to be compared with a kernel or its name."""

    __slots__ = ("_asker",)

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def __eq__(self, other: object) -> Any:
        name = other if isinstance(other, str) else getattr(other, "label", None)
        if not isinstance(name, str):
            raise ScheduleError(
                "PTO417",
                "t.kernel is compared with what is no kernel",
                values={"got": repr(other)[:80]},
                loc=here(),
                fix='write t.kernel == "attend", or t.kernel == attend',
            )
        return _Ask("kernel_is", (), DType.BOOL, self._asker, name, here() if isinstance(other, str) else None)

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]  # refused as the operators are

    def __repr__(self) -> str:
        return "<t.kernel>"


@without_operators(
    "add radd sub rsub mul rmul floordiv rfloordiv mod rmod truediv rtruediv and rand or ror xor rxor lt le gt ge eq ne "
    "neg invert abs bool int float index iter len contains hash array array_ufunc",
    "a task",
    'ask it for what is meant: t.b, t.get("b", 0), t.id, t.kernel == "attend"',
)
class TaskRecord:
    """A task, as policies see it: `lambda t: t.b % 4`.

    t.get("b"), t.b, t["b"]   a coordinate, by the name of its loop variable or of its axis; get("b", 0): or 0 for tasks without it.
                              One that is called like a fact below answers to get alone
    t.kernel == "attend"      whether it is a task of that kernel
    t.id, t.position          tasks before it in program order: of the run, of the scope that the policy is for
    t.cost                    its cycles on the arch
    t.lanes                   lanes that the scope deals out (of a dispatch policy)
    t.unit                    the unit it needs: 0 cube, 1 vector
    t.clock_khz               cycles of the arch a millisecond
    t.least_loaded            the lane that the scope has assigned the fewest cycles so far, the lowest of several
    t.first_appearance(x)     0 for the first key that the scope meets, 1 for the first other one, ...
    t.splitmix64(x)           x as 64 bits, mixed: u64

    All are scalars, i64 where nothing else is said, for `+ - * // % & | ^ ~ << >>`, comparisons, `where`, `minimum`, `maximum`, `cast`.
    They belong to the policy whose function asks: another cannot use them.
    """

    __slots__ = ("__asker__", "__for_one__")  # no names of coordinates

    def __init__(self, asker: Asker, *, for_one: bool = False) -> None:
        """`for_one`: it is for one workload that the function is written, and no rule for many."""
        self.__asker__, self.__for_one__ = asker, for_one

    def get(self, name: str, default: int | None = None) -> Scalar64:
        """The coordinate called `name`; `default` for tasks that have none of that name. Where no task of the workload has it, compile()
        gives a ScheduleWarning, but for rules that are registered."""
        if not isinstance(name, str) or not name:
            raise _refused(f"a coordinate is asked for by {name!r}", here(), 'write t.get("b")')
        leaf = Index(var(COORDINATE + name), None, asker=self.__asker__)
        if default is None:
            return leaf
        otherwise = number(default, DType.I64, "t.get")
        value = DataScalar.of(const(int(otherwise.value)), DType.I64, None)
        return _Ask("coord", (value,), DType.I64, self.__asker__, name, here() if self.__for_one__ else None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "kernel":
            return KernelName(self.__asker__)
        if name in ("first_appearance", "splitmix64"):
            return partial(_asked, self.__asker__, name)
        if name in RULE_OPS:
            return _Ask(name, (), DType.I64, self.__asker__, asked=called_by_user())
        return self.get(name)

    def __getitem__(self, name: str) -> Scalar64:
        return self.get(name)

    def __repr__(self) -> str:
        return "<task>"


def _asked(asker: Asker, op: str, x: object) -> DataScalar:
    (node,), dtype = typed(f"t.{op}", (x,))
    return _Ask(op, (node,), RULE_OPS[op].type([dtype]), asker)


def rule_of(what: str, f: object, *args: Any) -> Rule:
    """The rule that `f(task, *args)` is. `what` says in errors whose it is.

    Raises ScheduleError, at the line of the function, for one that gives something else than an integer; what the expression itself
    breaks is told at its own line.
    """
    if not callable(f):
        raise _refused(f"{what} is no function", here(), "write a lambda of the task: lambda t: t.b", got=f)
    asker = Asker(what, here())
    return as_rule(what, _called(what, f, TaskRecord(asker), *args), _line_of(f), asker)


def key_of(t: TaskRecord, key: object) -> Any:
    """What a user's function gives for the task: an integer, i64. Raises ScheduleError at the line of the function for anything else."""
    if not callable(key):
        raise _refused("a policy needs a function of the task", here(), "write lambda t: t.b", got=key)
    value = _called("the function of a policy", key, TaskRecord(t.__asker__, for_one=True))
    as_rule("the function of a policy", value, _line_of(key), t.__asker__)
    return cast(value, DType.I64) if isinstance(value, Scalar64) and value.dtype is DType.U64 else value


def as_rule(what: str, value: object, where: Location, asker: Asker) -> Rule:
    """A scalar of integers, or a Python integer, as a rule of the policy `asker`."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if not -(2**63) <= int(value) < 2**63:
            raise _refused(f"{what} gives an integer beyond 64 bits", where, "give smaller numbers", got=value)
        return const(int(value))
    if not isinstance(value, Scalar64) or value.dtype not in (DType.I64, DType.U64):
        kind = f"a scalar of {value.dtype}" if isinstance(value, Scalar64) else f"{type(value).__name__}"
        raise _refused(
            f"{what} gives {kind}, not an integer",
            where,
            "give an integer of coordinates, symbols and numbers: t.b % 4; cast(x, DType.I64) makes one of a float",
            got=value,
        )
    if value.asker not in (None, asker):
        raise ScheduleError(
            "PTO417",
            f"{what} uses what another policy has asked of a task",
            values={"got": value, "it belongs to": value.asker},
            loc=where,
            fix="ask the task that the function itself is given: lambda t: t.b",
        )
    if not isinstance(value, DataScalar):
        e = value.to_expr()
        if not e.fits_64_bits:
            raise _refused(f"{what} has an integer beyond 64 bits", where, "give smaller numbers", got=e)
        _refuse_variables(what, e, where)
        return e
    left = [MOST_OPERATIONS]

    def convert(x: DataScalar) -> Rule:
        left[0] -= 1
        if left[0] < 0:
            raise CompileError(
                "PTO405", f"{what} has more than {MOST_OPERATIONS} operations", loc=where, fix="write a shorter one"
            )
        source = x.leaf()
        if source is not None:
            if not isinstance(source, (Expr, Literal)):
                raise _refused(
                    f"{what} uses a scalar of a workload",
                    where,
                    "let the scalar be a coordinate of the task, kernel[b, n](...), and ask for t.n",
                    got=x,
                )
            e = as_operand(source)
            assert isinstance(e, (Expr, Literal))
            if isinstance(e, Expr):
                _refuse_variables(what, e, where)
            return const(int(e.value)) if isinstance(e, Literal) and e.dtype is DType.I64 else e
        args = tuple(convert(a) for a in x.args)
        text, asked = (x.text, x.asked) if isinstance(x, _Ask) else (None, None)
        return RuleCall(x.op, args, x.dtype if x.op == "cast" else None, text, asked)

    return convert(value)


def _refuse_variables(what: str, e: Expr, where: Location) -> None:
    """Refuse loop variables of a workload that is being traced: a policy knows the task alone."""
    variables = sorted(n for n in e.names() if not n.startswith(("$", COORDINATE)))
    if variables:
        raise _refused(
            f"{what} uses the loop variable {variables[0]}",
            where,
            "let it be a coordinate of the task, kernel[i, j](...), and ask the task for it: t.i",
        )


def _called(what: str, f: Any, *args: Any) -> Any:
    """What a user's function gives. Raises ScheduleError where it does not take these arguments, and for numbers that are no integers."""
    try:
        inspect.signature(f).bind(*args)
    except TypeError as e:
        raise _refused(
            f"{what}: {e}", _line_of(f), "write a function of the task, and of the policy's arguments"
        ) from e
    except ValueError:  # Python does not know what it takes
        pass
    try:
        return f(*args)
    except TypeCheckError as e:  # t.cost / 2, t.cost * 0.5
        if e.code not in ("PTO170", "PTO171"):
            raise
        raise ScheduleError("PTO417", f"{what}: {e.what}", values=e.values, loc=e.loc, fix=e.fix) from e


def _line_of(f: Any) -> Location:
    code = getattr(f, "__code__", None)
    if code is None:
        return here()
    line = code.co_firstlineno
    spans = [p for p in code.co_positions() if p[0] == p[1] == line and p[2] is not None and p[3]]
    cols = (min(int(p[2] or 0) for p in spans), max(int(p[3] or 0) for p in spans)) if spans else None
    return Location(code.co_filename, line, code.co_name, cols)


def _refused(what: str, loc: Location, fix: str, got: object = None) -> ScheduleError:
    values = {} if got is None else {"got": repr(got)[:80]}
    return ScheduleError("PTO417", what, values=values, loc=loc, fix=fix)
