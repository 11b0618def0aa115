"""The reference evaluator of kernels: one equation after another, each in float64 (integers exactly), rounded once to its dtype.

A tile is an array of its valid shape. Scalars of 64 bits and bools are Python numbers; those of the dtypes of tiles are arrays
without dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pto_wsp.errors import BoundsError, InternalError, KernelError, PtoError
from pto_wsp.ir.control import shaped_by, trips
from pto_wsp.ir.core import (
    PRIMITIVES,
    Dialect,
    Dim,
    DType,
    Eqn,
    In,
    Kernel,
    KernelParam,
    Literal,
    Region,
    RegionType,
    ScalarType,
    TileType,
    Type,
    Typed,
    Var,
    operand_type,
)
from pto_wsp.ir.requirements import unfit, unfit_restrict
from pto_wsp.ir.rounding import Array, round_to
from pto_wsp.ir.scalars import SCALAR_DTYPES, compute


class Observer(Protocol):
    """Who looks on while a kernel runs."""

    def computed(self, eqn: Eqn, ins: list[Array], out: Array | None) -> None:
        """An equation ran: its operands, cut to the valid shape of the result, and the result; an effect has none."""

    def moved(self, to: Sequence[Var], given: Sequence[In]) -> None:
        """Values got other names: where a loop or branch begins an iteration, or ends."""

    def decided(self, by: Sequence[In]) -> None:
        """The bounds of a loop, or the condition of a branch, were looked at."""


def run_kernel(kernel: Kernel, args: Mapping[str, Array], observer: Observer | None = None) -> None:
    """One task: `args` are arrays of the valid shapes, and of regions (written in place for outputs), and scalars without dimensions.

    Raises BoundsError, ExecutionError or KernelError at the first equation that fails.
    """
    Numbers(kernel.label, kernel.params, args, observer).region(kernel.body)


class Numbers:
    """What the names of a kernel stand for while it runs."""

    def __init__(
        self,
        label: str,
        params: Iterable[KernelParam],
        args: Mapping[str, Array],
        observer: Observer | None = None,
    ) -> None:
        self.label = label
        self.values: dict[str, Any] = dict(args)
        self.extents: dict[str, int] = {}
        self.observer = observer
        for p in params:
            if isinstance(p.type, TileType):
                self.extents[f"{p.name}.rows"], self.extents[f"{p.name}.cols"] = args[p.name].shape
            elif isinstance(p.type, RegionType):
                self.extents |= {f"{p.name}.{k}": n for k, n in enumerate(args[p.name].shape)}

    def operand(self, x: In) -> Any:
        """The value of an operand."""
        if isinstance(x, Literal):
            return x.value
        assert isinstance(x, Var)
        return self.values[x.name]

    def dim(self, d: Dim) -> int:
        """A valid extent."""
        return self.extents[d] if isinstance(d, str) else d

    def bind(self, v: Var, value: Any) -> None:
        """Give v its value; a tile that is whole takes the place of a smaller one."""
        if isinstance(v.type, TileType):
            value = value[: self.dim(v.type.vrows), : self.dim(v.type.vcols)]
        elif v.type == ScalarType(DType.I64):
            self.extents[v.name] = int(value)
        self.values[v.name] = value

    def bind_all(self, to: Sequence[Var], values: Sequence[Any]) -> None:
        """Give each variable its value."""
        for v, value in zip(to, values, strict=True):
            self.bind(v, value)

    # control

    def region(self, region: Region) -> tuple[In, ...]:
        """Run the equations of a region, up to its `yield`; what that gives."""
        for eqn in region.eqns:
            match eqn.prim:
                case "yield":
                    return eqn.ins
                case "fori_loop":
                    self._loop(eqn)
                case "branch":
                    self.check_outs(eqn)
                    self._decide(eqn.ins)
                    self._move(eqn.outs, self.region(eqn.regions[0 if self.operand(eqn.ins[0]) else 1]))
                case _:
                    self.step(eqn)
        return ()

    def _loop(self, eqn: Eqn) -> None:
        index, *carried = eqn.regions[0].params
        self.check_outs(eqn)
        self._decide(eqn.ins[:2])
        given: Sequence[In] = eqn.ins[2:]
        for i in trips(eqn, *map(self.operand, eqn.ins[:2])):
            self._move(carried, given)
            self.bind(index, i)
            given = self.region(eqn.regions[0])
        self._move(eqn.outs, given)

    def check_outs(self, eqn: Eqn) -> None:
        """What a loop or branch gives has valid shapes that are there, whatever it will do. Raises the error of the equation inside
        that shapes it."""
        for v in eqn.outs:
            if not isinstance(v.type, TileType):
                continue
            for d, size in zip((v.type.vrows, v.type.vcols), v.type.shape, strict=True):
                if isinstance(d, str) and not 1 <= self.extents[d] <= size:
                    raise _not_there(shaped_by(eqn, d), self.extents[d], size)

    def _decide(self, by: Sequence[In]) -> None:
        if self.observer is not None:
            self.observer.decided(by)

    def _move(self, to: Sequence[Var], given: Sequence[In]) -> None:
        self.bind_all(to, [self.operand(x) for x in given])
        if self.observer is not None:
            self.observer.moved(to, given)

    # equations

    def step(self, eqn: Eqn) -> None:
        """Run an equation without regions. An error gets its line."""
        try:
            ins = self._step(eqn)
        except PtoError as e:
            e.loc = e.loc or eqn.loc
            raise
        if self.observer is not None:
            out = np.asarray(self.values[eqn.outs[0].name]) if eqn.outs else None
            self.observer.computed(eqn, ins, out)

    def _step(self, eqn: Eqn) -> list[Array]:
        prim = PRIMITIVES[eqn.prim]
        numbers = [self.operand(x) for x in eqn.ins]
        if prim.dialect is Dialect.SCALAR:
            dtypes = [t.dtype for t in map(operand_type, eqn.ins) if isinstance(t, ScalarType)]
            self.bind(eqn.outs[0], compute(eqn.prim, eqn.params, dtypes, numbers))
            return [np.asarray(x) for x in numbers]
        if prim.reference is None or prim.type is None:
            raise InternalError(f"{eqn.prim} is not a leaf: expand the kernel first")
        typed = prim.type(dict(eqn.params), *map(operand_type, eqn.ins))
        assert isinstance(typed, Typed)
        self._check(eqn, typed)
        ins = [_array(x, t) for x, t in zip(numbers, map(operand_type, eqn.ins), strict=True)]
        if eqn.prim == "debug_print" and self.observer is not None:
            return ins  # beside a run, which prints
        if not isinstance(typed.type, TileType) or eqn.prim in _MOVES:
            result = prim.reference(self._params(eqn), *ins)
            if eqn.outs:
                self.bind(eqn.outs[0], _as_scalar(typed.type, result) if isinstance(typed.type, ScalarType) else result)
            return ins
        return self._tile(eqn, typed.type, ins)

    def _params(self, eqn: Eqn) -> dict[str, Any]:
        """The parameters of an equation, with numbers for the extents that they name."""
        params: dict[str, Any] = dict(eqn.params)
        if eqn.prim == "debug_print":
            t = operand_type(eqn.ins[0])
            assert isinstance(t, (TileType, ScalarType))
            return params | {"kernel": self.label, "dtype": t.dtype}
        return params | {k: self.dim(params[k]) for k in ("vrows", "vcols", "of") if isinstance(params.get(k), str)}

    def _check(self, eqn: Eqn, typed: Typed) -> None:
        for c in typed.checks:
            a, b = self.dim(c.a), self.dim(c.b)
            if not (a == b if c.rel == "eq" else a >= b):
                values = {str(d): n for d, n in ((c.a, a), (c.b, b)) if isinstance(d, str)}
                what, fix = unfit_restrict(eqn, b, a) if eqn.prim == "restrict" else unfit(eqn, c, a, b)
                raise KernelError("PTO710", what, values=values, fix=fix)

    def _tile(self, eqn: Eqn, out: TileType, ins: list[Array]) -> list[Array]:
        """An operation of tiles: on operands cut to the valid shape of the result."""
        prim = PRIMITIVES[eqn.prim]
        assert prim.reference is not None
        shape = (self.dim(out.vrows), self.dim(out.vcols))
        types = map(operand_type, eqn.ins)
        clipped = [
            _clip_matmul(i, x, ins, eqn)
            if eqn.prim == "matmul" and i < 2
            else _clip(x, t, out, shape, prim.follows(dict(eqn.params), i))
            for i, (x, t) in enumerate(zip(ins, types, strict=True))
        ]
        wide = [x.astype(np.float64) if x.dtype.kind not in "iub" else x for x in clipped]
        with np.errstate(all="ignore"):
            result = np.asarray(prim.reference(dict(eqn.params), *wide))
        rounded = round_to(out.dtype, result)
        whole = eqn.prim in ("full", "iota", "broadcast")
        self.values[eqn.outs[0].name] = rounded if whole else np.broadcast_to(rounded, shape)
        return clipped


def _not_there(eqn: Eqn, n: int, size: int) -> PtoError:
    """A valid extent of a tile of `size` that does not exist."""
    if eqn.prim == "load_part":
        what, fix = f"load_part with {n} valid rows or columns", "begin inside of it: loop up to its length"
        return BoundsError("PTO732", what, values={"most": size}, loc=eqn.loc, fix=fix)
    what, fix = f"restrict to {n} rows or columns", "give extents of 1 up to what is valid"
    return KernelError("PTO710", what, values={"most": size}, loc=eqn.loc, fix=fix)


_MOVES = ("load_part", "restrict")  # of tiles: they compute nothing that would be rounded


def _array(x: Any, t: Type) -> Array:
    """x as an array; u64 stays u64, which numpy would not find out of a small number."""
    return np.asarray(x, np.uint64) if t == ScalarType(DType.U64) else np.asarray(x)


def _as_scalar(t: ScalarType, x: Any) -> Any:
    """A number; of a dtype of tiles, rounded to it."""
    if t.dtype not in SCALAR_DTYPES:
        return round_to(t.dtype, np.asarray(x))
    if t.dtype is DType.BOOL:
        return bool(x)
    return float(x) if t.dtype is DType.F64 else int(x)


def _clip(x: Array, t: object, out: TileType, shape: tuple[int, ...], follows: tuple[bool, bool]) -> Array:
    """A tile that is defined everywhere takes the valid shape of what it is combined with."""
    if not isinstance(t, TileType):
        return x
    rows, cols = (
        n if follow and size == full else None
        for n, size, full, follow in zip(shape, t.shape, out.shape, follows, strict=True)
    )
    return x[:rows, :cols]


def _clip_matmul(i: int, x: Array, ins: list[Array], eqn: Eqn) -> Array:
    flags = [bool(eqn.params.get("transpose_a")), bool(eqn.params.get("transpose_b"))]
    axes = [0 if flags[0] else 1, 1 if flags[1] else 0]
    k = min(ins[0].shape[axes[0]], ins[1].shape[axes[1]])
    return x[:k] if axes[i] == 0 else x[:, :k]
