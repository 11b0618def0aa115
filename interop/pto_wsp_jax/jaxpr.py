"""A jaxpr, walked in a kernel: each equation becomes operations on tiles, `scan`, `while` and `cond` become the kernel's control."""

from __future__ import annotations

import sysconfig
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jaxlib
import opt_einsum
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn

import pto_wsp
from pto_wsp.errors import Location, at
from pto_wsp.ops.value import Value
from pto_wsp_jax import control
from pto_wsp_jax.arrays import Operation, oriented, spread
from pto_wsp_jax.constants import Held, aval_of, constant, read
from pto_wsp_jax.stacked import apply
from pto_wsp_jax.stacks import Form, Stack, Wide, in_tile

MOST_IN_ALL = 2**14
"""Tiles of all arrays that are in more than one."""

INLINED = {
    **dict.fromkeys(("jit", "pjit", "checkpoint", "remat2"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "custom_vmap_call": "call",
}
"""Calls, which are walked where they stand, by the parameter that holds what is called."""

_FILES = (jax.__file__, jaxlib.__file__, opt_einsum.__file__, pto_wsp.__file__, __file__)
_LIBRARIES = tuple(f"{Path(str(f)).parent}/" for f in _FILES)
_STANDARD = f"{sysconfig.get_paths()['stdlib']}/"


def _is_library(file: str) -> bool:
    """Whether it is of JAX, ours or Python's: no line that the user wrote."""
    return file.startswith(_LIBRARIES) or (file.startswith(_STANDARD) and "site-packages" not in file)


def location(eqn: JaxprEqn) -> Location | None:
    """The innermost line of the user's that made an equation."""
    traceback = eqn.source_info.traceback
    if traceback is None:
        return None
    for code, lasti in zip(*traceback.raw_frames(), strict=True):  # the innermost first
        if not _is_library(code.co_filename):
            line = next(islice(code.co_positions(), lasti // 2, None))[0]
            return Location.of_code(code, lasti, line or code.co_firstlineno)
    return None


def _is_of_library(jaxpr: Jaxpr) -> bool:
    """Whether it is of a function of JAX itself: its lines are those of the first call that was traced, not of this one."""
    _, _, place = (jaxpr.debug_info.func_src_info or "").rpartition(" at ")
    return _is_library(place)


@dataclass(eq=False)
class Walk:
    """One walk over the equations of a kernel.

    forms: of loops, in which tiles they carry what is not row by row in one. unrolled: those whose trips are made one by one. Both are found in
    the first trace, and so in all.
    """

    forms: dict[Hashable, Mapping[int, Form]] = field(default_factory=dict[Hashable, Mapping[int, Form]])
    unrolled: set[Hashable] = field(default_factory=set[Hashable])
    _made: int = 0

    def kernel(self, closed: Any, args: Sequence[Wide]) -> list[Wide]:
        """What a jaxpr gives, which is a kernel's."""
        self._made = 0
        return self.closed(closed, args)

    def count(self, op: Operation, tiles: int) -> None:
        """Raises UnsupportedError where there have been too many."""
        self._made += tiles
        if self._made > MOST_IN_ALL:
            raise op.refusal(
                f"the kernel would have more than {MOST_IN_ALL} tiles; loop over some axes in the workload"
            )

    def run(self, jaxpr: Jaxpr, consts: Sequence[Held], args: Sequence[Wide], hidden: bool = False) -> list[Wide]:
        """What a jaxpr gives. hidden: its lines say nothing, that of the equation around it counts."""
        env: dict[Any, Held] = {}
        env |= zip(jaxpr.constvars, consts, strict=True)
        env |= zip(jaxpr.invars, args, strict=True)
        for eqn in jaxpr.eqns:
            with at(None if hidden else location(eqn)):
                ins = [read(env, x) for x in eqn.invars]
                outs = self.equation(eqn, ins, hidden)
            env |= zip(eqn.outvars, outs, strict=True)
        return [read(env, x) for x in jaxpr.outvars]

    def closed(self, closed: Any, args: Sequence[Wide], hidden: bool = False) -> list[Wide]:
        """What a jaxpr with its constants gives."""
        consts = [constant(x, v.aval) for x, v in zip(closed.consts, closed.jaxpr.constvars, strict=True)]
        return self.run(closed.jaxpr, consts, args, hidden)

    def equation(self, eqn: JaxprEqn, ins: list[Wide], hidden: bool) -> list[Wide]:
        """What one equation gives."""
        name = eqn.primitive.name
        if name in INLINED:
            called = eqn.params[INLINED[name]]
            inner = called if isinstance(called, Jaxpr) else called.jaxpr
            hidden = hidden or _is_of_library(inner)
            return self.run(inner, [], ins, hidden) if called is inner else self.closed(called, ins, hidden)
        op = Operation(
            eqn.primitive,
            eqn.params,
            tuple(a.dtype for a in ins),
            tuple(aval_of(v.aval) for v in eqn.outvars),
            f"{name} {' '.join(v.aval.str_short() for v in eqn.invars)} -> {' '.join(v.aval.str_short() for v in eqn.outvars)}",
        )
        if name in _CONTROL:
            key = (id(eqn), tuple(x.cut if isinstance(x, Stack) else x.is_number for x in ins))
            return _CONTROL[name](self, op, ins, hidden, key)
        outs = apply(op, ins)
        self.count(op, sum(x.parts.size for x in outs if isinstance(x, Stack)))
        return outs


_CONTROL = {"scan": control.scan, "while": control.while_, "cond": control.cond}


def stored(x: Wide) -> Value:
    """The tile of a result: of rank 2 as it is, of rank 1 as one row, of rank 0 as one element."""
    a = in_tile(Operation(lax.concatenate_p, {}, (), (), ""), x)
    row, col = (0, 1) if len(a.shape) == 2 else (None, 0 if a.shape else None)
    tile = spread(a, row, col)
    return tile if a.is_tile else oriented(replace(a, value=tile, row=row, col=col), row, col)
