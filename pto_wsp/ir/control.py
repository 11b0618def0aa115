"""Loops and branches of kernels.

    a2 = fori_loop lo hi a as i, ca { ...; yield b }          i from lo to hi - 1; ca is a at first, then b of the iteration before
    y = branch c { then { ...; yield a } else { ...; yield b } }

What is carried has one type in all iterations: dtype, static shape, and a valid shape that is known outside of the loop. A value
that is whole (valid in all its static shape) may take the place of one with a smaller valid shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pto_wsp.errors import InternalError, IRConversionError, KernelError
from pto_wsp.ir.core import (
    Dialect,
    Dim,
    DType,
    Eqn,
    In,
    Kernel,
    Literal,
    Param,
    Primitive,
    Region,
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


def trips(eqn: Eqn, low: int, high: int) -> range:
    """The indices that a loop runs over. Raises KernelError where they are too many."""
    if high - low > MOST_TRIPS:
        raise KernelError(
            "PTO733",
            f"fori_loop of {high - low} trips",
            values={"lo": low, "hi": high, "most": MOST_TRIPS},
            loc=eqn.loc,
            fix="check the scalars that say how often it runs",
        )
    return range(low, high)


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


def walk(region: Region) -> Iterator[Eqn]:
    """Every equation of a region, those of regions inside it included, in program order."""
    for eqn in region.eqns:
        yield from eqn.walk()


def shaped_by(eqn: Eqn, d: str) -> Eqn:
    """The equation inside of a loop or branch that makes the first tile with the valid extent d."""
    for inner in (e for region in eqn.regions for e in walk(region)):
        t = inner.outs[0].type if inner.prim in ("load_part", "restrict") else None
        if isinstance(t, TileType) and d in (t.vrows, t.vcols):
            return inner
    raise InternalError(f"nothing in {eqn.prim} has the extent {d}")


def yields(eqn: Eqn) -> list[tuple[In, ...]]:
    """What each region of a loop or branch gives."""
    return [r.eqns[-1].ins if r.eqns and r.eqns[-1].prim == "yield" else () for r in eqn.regions]


def data_scalars(kernel: Kernel) -> frozenset[str]:
    """Names of the scalars that depend on elements of tensors."""
    data: set[str] = set()

    def mark(vs: Iterable[Var], ins: Iterable[In], always: bool = False) -> None:
        given = list(ins)
        for i, v in enumerate(vs):
            x = given[i] if i < len(given) else None
            if isinstance(v.type, ScalarType) and (always or (isinstance(x, Var) and x.name in data)):
                data.add(v.name)

    before = -1
    while before != len(data):  # what a loop carries may come from a later equation of its body
        before = len(data)
        for eqn in walk(kernel.body):
            names = {x.name for x in eqn.ins if isinstance(x, Var)}
            if eqn.prim == "fori_loop":
                carried = eqn.regions[0].params[1:]
                for given in (eqn.ins[2:], *yields(eqn)):
                    mark(carried, given)
                mark(eqn.outs, carried)
            elif eqn.prim == "branch":
                for given in yields(eqn):
                    mark(eqn.outs, given, always=bool(names & data))
            else:
                mark(eqn.outs, (), always=eqn.prim == "element" or bool(names & data))
    return frozenset(data)
