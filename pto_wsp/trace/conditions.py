"""`P.when` and `P.otherwise`: branches of which one runs."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

from pto_wsp.errors import Location, TraceError, here, user_frame
from pto_wsp.ir.core import Eqn, In, Region
from pto_wsp.ir.processes import ENDS
from pto_wsp.trace.builder import Block, current_workload
from pto_wsp.trace.scalar import DataScalar, truth


@dataclass(frozen=True, slots=True)
class Arm:
    """One condition of a chain, what is computed for it after those before it failed, and what it guards."""

    before: tuple[Eqn, ...]
    condition: In
    body: tuple[Eqn, ...]
    loc: Location


@dataclass(slots=True)
class Chain:
    """A `P.when` with the `P.otherwise` that followed it so far; it stands at `position` of its region."""

    position: int
    arms: list[Arm] = field(default_factory=list[Arm])

    def eqn(self, last: tuple[Eqn, ...] = ()) -> Eqn:
        """The chain as nested conditionals; `last` runs where no condition holds."""
        return fold(self.arms, last)[-1]


def fold(arms: list[Arm], last: tuple[Eqn, ...]) -> tuple[Eqn, ...]:
    """Nested conditionals: the first arm whose condition holds runs, else `last`."""
    for arm in reversed(arms):
        regions = (Region((), arm.body), Region((), last))
        last = (*arm.before, Eqn("cond", ins=(arm.condition,), regions=regions, loc=arm.loc))
    return last


class _Branch:
    """What follows `with`: a region that runs where a condition holds."""

    def __init__(self, word: str, condition: DataScalar | None) -> None:
        self._loc = here()
        self._word = word
        self._builder = current_workload(word)
        self._condition = condition
        self._block: Block | None = None
        self._operand: In | None = None

    def _open(self) -> None:
        """Compute the condition, and open the region that it guards."""
        refuse_leaving(self._word, "both branches are traced", "under P.otherwise()")
        if self._condition is not None:
            self._operand = self._condition.operand(self._builder)
        self._block = self._builder.open_block()
        if self._operand is not None:
            self._block.given.append((self._operand, True))

    def _close(self) -> tuple[Eqn, ...]:
        """The equations of the region."""
        b = self._builder
        while b.blocks[-1] is not self._block:
            loop = b.blocks[-1].loop
            b.broken = b.broken or (self._loc if loop is None else loop.loc)
            b.abandon_block()
        return b.close_block()

    def _arm(self, before: tuple[Eqn, ...], body: tuple[Eqn, ...]) -> Arm:
        assert self._operand is not None
        return Arm(before, self._operand, body, self._loc)


class When(_Branch):
    """`with P.when(c):`"""

    def __init__(self, condition: Any) -> None:
        super().__init__("P.when", truth(condition, "P.when"))

    def __enter__(self) -> None:
        self._open()

    def __exit__(self, *exc: object) -> None:
        arm = self._arm((), self._close())
        block = self._builder.blocks[-1]
        block.chain = Chain(len(block.eqns), [arm])
        self._builder.append(block.chain.eqn())


class Otherwise(_Branch):
    """`with P.otherwise():`, or `with P.otherwise(c):`"""

    def __init__(self, conditions: tuple[Any, ...]) -> None:
        super().__init__("P.otherwise", truth(conditions[0], "P.otherwise") if conditions else None)
        if len(conditions) > 1:
            raise TraceError(
                "PTO174",
                f"P.otherwise of {len(conditions)} conditions",
                loc=self._loc,
                fix="combine them: P.otherwise((a > 0) & (b > 0))",
            )

    def __enter__(self) -> None:
        b = self._builder
        block = b.blocks[-1]
        chain = block.chain
        between = [] if chain is None else block.eqns[chain.position + 1 :]
        if chain is None or any(e.regions or e.prim in ("task", "slot_set", *ENDS) for e in between):
            raise TraceError(
                "PTO173",
                "P.otherwise without a P.when before it",
                loc=self._loc,
                fix="write `with P.when(c):` directly before `with P.otherwise():`, at the same indentation",
            )
        # what its condition reads was traced before `with` began, and runs where the conditions before it failed
        del block.eqns[chain.position + 1 :]
        self._outer = block
        self._chain = chain
        b.open_block().given = [(arm.condition, False) for arm in chain.arms]
        b.adopt(block, between)
        self._open()

    def __exit__(self, *exc: object) -> None:
        b = self._builder
        body = self._close()
        before = b.close_block()
        if self._operand is not None:
            self._chain.arms.append(self._arm(before, body))
            before, body = (), ()
        else:
            self._outer.chain = None
        self._outer.eqns[self._chain.position] = self._chain.eqn((*before, *body))


def refuse_leaving(word: str, why: str, place: str) -> None:
    """Raise TraceError for a return, break or continue in the body of the `with` statement that the user's program enters."""
    found = _leaving(user_frame().f_code).get(user_frame().f_lineno)
    if found is not None:
        said, loc = found
        raise TraceError(
            "PTO187",
            f"{said} inside of `with {word}`",
            loc=loc,
            fix=f"{why}, so this would end the trace and not the run: put what follows {place}",
        )


@lru_cache(maxsize=256)
def _leaving(code: CodeType) -> dict[int, tuple[str, Location]]:
    """By the lines of `with` statements: the return, break or continue in a body that leaves it."""
    try:
        text = inspect.getsource(code)
        whole = textwrap.dedent(text)
        tree = ast.parse(whole)
    except (OSError, SyntaxError):  # no source: typed at a prompt, or a part of an expression
        return {}
    indent = len(text) - len(text.lstrip())
    found: dict[int, tuple[str, Location]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            left = next((s for s in map(_leaves, node.body) if s is not None), None)
            if left is not None:
                line, cols = left.lineno + code.co_firstlineno - 1, (left.col_offset, left.end_col_offset or 0)
                loc = Location(code.co_filename, line, code.co_name, (cols[0] + indent, cols[1] + indent))
                last = max(item.context_expr.end_lineno or node.lineno for item in node.items)
                for k in range(node.lineno, last + 1):
                    found[k + code.co_firstlineno - 1] = (type(left).__name__.lower(), loc)
    return found


def _leaves(node: ast.AST, *, in_loop: bool = False) -> ast.Return | ast.Break | ast.Continue | None:
    """The statement in it that leaves what is around it."""
    if isinstance(node, ast.Return) or (isinstance(node, (ast.Break, ast.Continue)) and not in_loop):
        return node
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
        return None
    in_loop = in_loop or isinstance(node, (ast.For, ast.While))
    return next((x for x in (_leaves(n, in_loop=in_loop) for n in ast.iter_child_nodes(node)) if x is not None), None)
