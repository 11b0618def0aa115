"""Loops and branches of kernels.

    a2 = fori_loop lo hi a as i, ca { ...; yield b }          i from lo to hi - 1; ca is a at first, then b of the iteration before
    y = branch c { then { ...; yield a } else { ...; yield b } }

What is carried has one type in all iterations: dtype, static shape, and a valid shape that is known outside of the loop. A value
that is whole (valid in all its static shape) may take the place of one with a smaller valid shape.
"""

from __future__ import annotations

from collections.abc import Mapping

from pto_wsp.errors import IRConversionError
from pto_wsp.ir.core import (
    Dialect,
    Dim,
    DType,
    Eqn,
    In,
    Literal,
    Param,
    Primitive,
    ScalarType,
    TileType,
    Type,
    Var,
    operand_type,
)

INDEX = ScalarType(DType.I64)
MOST_TRIPS = 2**31 - 1
DIM_PARAMS = ("vrows", "vcols")
"""Parameters of equations that are Dims."""

fori_loop_p = Primitive("fori_loop", Dialect.CONTROL, doc="a loop over a range of integers with carried values")
branch_p = Primitive("branch", Dialect.CONTROL, doc="one of two regions, by a bool scalar")


def broken(eqn: Eqn, why: str) -> IRConversionError:
    return IRConversionError("PTO302", f"{eqn.prim}: {why}", loc=eqn.loc, fix="this wir breaks a rule of the language")


def fits(value: Type, place: Type) -> bool:
    """Whether a value may stand where one of type `place` is carried or given."""
    if not isinstance(value, TileType) or not isinstance(place, TileType):
        return value == place
    if (value.dtype, value.shape) != (place.dtype, place.shape):
        return False
    pairs = ((value.vrows, place.vrows, place.rows), (value.vcols, place.vcols, place.cols))
    return all(v in (p, size) for v, p, size in pairs)


def types_of(ins: tuple[In, ...]) -> tuple[Type, ...]:
    return tuple(operand_type(x) for x in ins)


@fori_loop_p.def_type
def _(eqn: Eqn) -> None:
    if len(eqn.regions) != 1 or len(eqn.ins) < 2 or eqn.params:
        raise broken(eqn, "has two bounds, what is carried, and one region")
    lo, hi, *init = types_of(eqn.ins)
    if (lo, hi) != (INDEX, INDEX):
        raise broken(eqn, "its bounds are i64")
    index, *carried = (v.type for v in eqn.regions[0].params) if eqn.regions[0].params else (None,)
    if index != INDEX or len(carried) != len(init) or [v.type for v in eqn.outs] != carried:
        raise broken(eqn, "its region takes an index and what is carried, whose types are those of its results")
    if not all(map(fits, init, carried)) or not all(isinstance(t, (TileType, ScalarType)) for t in carried):
        raise broken(eqn, "begins with values of other types")


@branch_p.def_type
def _(eqn: Eqn) -> None:
    if len(eqn.regions) != 2 or eqn.params or types_of(eqn.ins) != (ScalarType(DType.BOOL),):
        raise broken(eqn, "has a bool and two regions")
    if any(r.params for r in eqn.regions):
        raise broken(eqn, "its regions take nothing")


def renamed_dim(d: Dim, names: Mapping[str, In]) -> Dim:
    """The extent d under new names of scalars; a scalar that became a number is one."""
    new = names.get(d) if isinstance(d, str) else None
    if isinstance(new, Var):
        return new.name
    return int(new.value) if isinstance(new, Literal) else d


def renamed_type(t: Type, names: Mapping[str, In]) -> Type:
    if not isinstance(t, TileType):
        return t
    return TileType(t.dtype, t.rows, t.cols, renamed_dim(t.vrows, names), renamed_dim(t.vcols, names))


def renamed_params(params: Mapping[str, Param], names: Mapping[str, In]) -> dict[str, Param]:
    out = dict(params)
    for key in DIM_PARAMS:
        d = out.get(key)
        if isinstance(d, (int, str)):
            out[key] = renamed_dim(d, names)
    if isinstance(out.get("of"), str):
        out["of"] = renamed_dim(str(out["of"]), names)
    return out
