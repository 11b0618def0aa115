"""Which tasks join a handle, and where each handle begins anew.

A task that others name in `after` has a token. Every token that is named gets a handle; it is reset where the innermost region
around the task and all that name it begins, so that `after` waits for the instances of the iteration they share. Where tasks at
several levels name one token, those inside wait for more than they need.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pto_wsp.ir.core import Eqn, Region, TokenType

Path = tuple[int, ...]


@dataclass
class Handles:
    """`numbers`: handles by the name of their token. `resets`: by region, numbered as regions are met in the text, the handles
    that are reset where it begins."""

    numbers: dict[str, int] = field(default_factory=dict[str, int])
    resets: dict[int, list[int]] = field(default_factory=dict[int, list[int]])


def token_of(task: Eqn) -> str | None:
    """The name of a task's token, where it has one."""
    return next((v.name for v in task.outs if isinstance(v.type, TokenType)), None)


def named_in(task: Eqn) -> tuple[str, ...]:
    """The tokens that a task waits for."""
    after = task.params.get("after", ())
    assert isinstance(after, tuple)
    return tuple(str(t) for t in after)


def handles_of(body: Region) -> Handles:
    """The handles of a workload."""
    made: dict[str, Path] = {}
    named: dict[str, list[Path]] = {}
    count = 0

    def visit(region: Region, around: Path) -> None:
        nonlocal count
        here = (*around, count)
        count += 1
        for eqn in region.eqns:
            token = token_of(eqn)
            if token is not None:
                made[token] = here
            for name in named_in(eqn):
                named.setdefault(name, []).append(here)
            for r in eqn.regions:
                visit(r, here)

    visit(body, ())
    out = Handles()
    for token in (t for t in made if t in named):
        number = out.numbers[token] = len(out.numbers)
        out.resets.setdefault(_common([made[token], *named[token]]), []).append(number)
    return out


def _common(paths: list[Path]) -> int:
    """The innermost region that all paths go through."""
    level = [p for p in zip(*paths, strict=False) if len(set(p)) == 1]
    return level[-1][0]
