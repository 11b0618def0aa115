"""The models of costs: sums and recurrences over units, by hand and by their laws."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import arch, ops
from pto_wsp.arch.cost import CoreUnit, Costs, kernel_cost, kernel_timing
from pto_wsp.errors import CompileError
from pto_wsp.ir.control import data_scalars
from pto_wsp.ir.core import (
    PRIMITIVES,
    Direction,
    DType,
    Eqn,
    Kernel,
    KernelParam,
    Literal,
    Region,
    ScalarType,
    TileType,
    Var,
)

SERIAL = arch.get()
PIPES = arch.get("ascend_a2a3:pipes")
I64, BOOL = ScalarType(DType.I64), ScalarType(DType.BOOL)
X = Var("x", TileType(DType.F32, 16, 128, "x.rows", "x.cols"))
Y = Var("y", TileType(DType.F32, 16, 128, "y.rows", "y.cols"))
FULL = {"x.rows": 16, "x.cols": 128, "y.rows": 16, "y.cols": 128}


def value(name: str) -> Var:
    return Var(name, X.type)


def kernel(*eqns: Eqn, scalars: Mapping[str, DType] | None = None) -> Kernel:
    params = [KernelParam("x", Direction.IN, X.type), KernelParam("y", Direction.INOUT, Y.type)]
    params += [KernelParam(n, Direction.IN, ScalarType(d)) for n, d in (scalars or {}).items()]
    return Kernel("k", "k", tuple(params), Region((), eqns))


def load(out: str, x: Var = X) -> Eqn:
    return Eqn("load", (value(out),), (x,))


def store(x: str) -> Eqn:
    return Eqn("store", (), (Y, value(x)))


def op(out: str, *ins: str, prim: str = "add") -> Eqn:
    return Eqn(prim, (value(out),), tuple(map(value, ins)))


LOAD, ADD, STORE = 140, 10 + 2 * 32 + 14, 75


def test_serial_adds_up() -> None:
    k = kernel(load("a"), load("b"), op("c", "a", "b"), store("c"))
    assert kernel_cost(k, SERIAL, FULL) == 2 * LOAD + ADD + STORE


def test_pipes_run_units_beside_each_other() -> None:
    chain = kernel(load("a"), op("c", "a", "a"), store("c"))
    assert kernel_cost(chain, PIPES, FULL) == LOAD + ADD + STORE
    # the second load runs while the vector unit works on the first
    beside = kernel(load("a"), op("c", "a", "a"), load("b"), op("d", "b", "b"), store("d"))
    assert kernel_cost(beside, PIPES, FULL) == 2 * LOAD + ADD + STORE
    timing = kernel_timing(beside, PIPES, FULL)
    assert timing.free == [2 * LOAD, 2 * LOAD + ADD, 0, 2 * LOAD + ADD + STORE]
    assert timing.busy == [2 * LOAD, 2 * ADD, 0, STORE]


def test_a_parameter_is_in_order_with_itself() -> None:
    k = kernel(load("a", Y), store("a"), load("b", Y), op("c", "b", "b"))
    assert kernel_cost(k, PIPES, FULL) == LOAD + STORE + LOAD + ADD


def loop(trips: int | Var, *body: Eqn, carried: tuple[tuple[str, str], ...] = (), out: str = "z") -> Eqn:
    """carried: (name inside, initial value); the body's last value is given on."""
    high = trips if isinstance(trips, Var) else Literal(trips, DType.I64)
    inside = tuple(value(n) for n, _ in carried)
    inits = tuple(value(n) for _, n in carried)
    given = (body[-1].outs[0],) if carried else ()
    region = Region((Var("i", I64), *inside), (*body, Eqn("yield", (), given)))
    outs = (value(out),) if carried else ()
    return Eqn("fori_loop", outs, (Literal(0, DType.I64), high, *inits), {}, (region,))


def test_a_loop_runs_its_body_once_a_trip() -> None:
    body = loop(5, load("b"), op("d", "c", "b"), carried=(("c", "a"),))
    k = kernel(load("a"), body, store("z"))
    assert kernel_cost(k, SERIAL, FULL) == 6 * LOAD + 5 * ADD + STORE
    assert kernel_cost(k, PIPES, FULL) == 6 * LOAD + ADD + STORE


@pytest.mark.parametrize("trips", [0, -3])
def test_a_loop_without_trips_gives_what_it_began_with(trips: int) -> None:
    k = kernel(load("a"), loop(trips, load("b"), op("d", "c", "b"), carried=(("c", "a"),)), store("z"))
    assert kernel_cost(k, SERIAL, FULL) == kernel_cost(k, PIPES, FULL) == LOAD + STORE


def test_trips_and_tails_come_from_scalars() -> None:
    n = Var("n", I64)
    tail = TileType(DType.F32, 16, 128, 16, "m")
    part = Eqn("s.mul", (Var("m", I64),), (Var("i", I64), Literal(32, DType.I64)))
    k = kernel(load("a"), loop(n, part, Eqn("neg", (Var("b", tail),), (value("a"),))), scalars={"n": DType.I64})
    fixed = 11 + 15
    for trips in (0, 1, 5):
        repeats = sum(16 * -(-32 * i * 4 // 256) for i in range(trips))
        assert kernel_cost(k, SERIAL, {**FULL, "n": trips}) == LOAD + trips * fixed + repeats


def branch(condition: Var, then: tuple[Eqn, ...], other: tuple[Eqn, ...], out: str = "z") -> Eqn:
    sides = tuple(Region((), (*side, Eqn("yield", (), (side[-1].outs[0],)))) for side in (then, other))
    return Eqn("branch", (value(out),), (condition,), {}, sides)


def test_a_branch_costs_the_side_taken() -> None:
    c = Var("c", BOOL)
    k = kernel(load("a"), branch(c, (op("p", "a", "a"),), (op("q", "a", prim="exp"),)), scalars={"c": DType.BOOL})
    assert kernel_cost(k, SERIAL, {**FULL, "c": True}) == LOAD + ADD
    assert kernel_cost(k, SERIAL, {**FULL, "c": False}) == LOAD + 13 + 64 + 18


class TestData:
    """Where elements of tensors decide, nothing is known before the run: the larger cost counts."""

    S, C = Var("s", ScalarType(DType.F64)), Var("c", BOOL)
    READ = (
        Eqn("element", (S,), (value("a"), Literal(0, DType.I64), Literal(0, DType.I64))),
        Eqn("s.gt", (C,), (S, Literal(0.0, DType.F64))),
    )

    def test_what_depends_on_elements(self) -> None:
        k = kernel(load("a"), *self.READ)
        assert data_scalars(k) == {"s", "c"}

    def test_the_dearer_side_counts(self) -> None:
        sides = (op("p", "a", "a"),), (op("q", "a", prim="exp"),)
        k = kernel(load("a"), *self.READ, branch(self.C, *sides), store("z"))
        known = kernel(load("a"), *self.READ, *sides[1], store("q"))
        for a in (SERIAL, PIPES):
            assert kernel_cost(k, a, FULL) == kernel_cost(known, a, FULL)


def test_transfers_of_products_take_the_matrix_units_paths() -> None:
    t = TileType(DType.F32, 16, 128)
    a, b, c = (Var(n, t) for n in "abc")
    k = kernel(
        Eqn("load", (a,), (X,)),
        Eqn("load", (b,), (X,)),
        Eqn("matmul", (c,), (a, b), {"transpose_a": False, "transpose_b": True}),
        Eqn("store", (), (Y, c)),
        op("d", "b", "b"),
    )
    costs = Costs(k, SERIAL)
    works = [costs.work(e) for e in k.body.eqns]
    assert [w.unit for w in works if w] == [
        CoreUnit.LOAD,
        CoreUnit.LOAD,
        CoreUnit.CUBE,
        CoreUnit.STORE,
        CoreUnit.VECTOR,
    ]
    cycles = [w.cycles.value(FULL) for w in works if w]
    assert cycles[0] == -(-8192 * 1_850_000_000 // (135 * 2**30))  # GM to L1: only the product takes it
    assert cycles[1] == LOAD  # a vector operation takes it too
    assert cycles[3] == -(-8192 * 1_850_000_000 // (70 * 2**30))  # L0C to GM


@given(
    st.lists(st.tuples(st.sampled_from(["load", "add", "exp", "store", "loop"]), st.integers(0, 99)), max_size=12),
    st.data(),
)
def test_costs_grow_with_sizes_and_pipes_never_exceed_the_sum(
    picks: list[tuple[str, int]], data: st.DataObject
) -> None:
    eqns, names = [load("v")], ["v"]
    for k, (what, pick) in enumerate(picks):
        name, x = f"v{k}", names[pick % len(names)]
        match what:
            case "load":
                eqns.append(load(name, Y if pick % 2 else X))
            case "store":
                eqns.append(store(x))
                continue
            case "loop":
                eqns.append(
                    loop(
                        pick % 4,
                        load(name + "l"),
                        op(name + "r", name + "l", name + "c"),
                        carried=((name + "c", x),),
                        out=name,
                    )
                )
            case _:
                eqns.append(op(name, x, *([names[pick % 3 % len(names)]] if what == "add" else []), prim=what))
        names.append(name)
    k = kernel(*eqns)
    rows, cols = data.draw(st.integers(1, 16)), data.draw(st.integers(1, 128))
    small = {"x.rows": rows, "x.cols": cols, "y.rows": 16, "y.cols": cols}
    for a in (SERIAL, PIPES):
        assert 0 < kernel_cost(k, a, small) <= kernel_cost(k, a, FULL)
    assert max(kernel_timing(k, PIPES, FULL).busy) <= kernel_cost(k, PIPES, FULL) <= kernel_cost(k, SERIAL, FULL)
    assert sum(kernel_timing(k, SERIAL, FULL).busy) == kernel_cost(k, SERIAL, FULL)


def test_a_model_is_asked_for_by_name() -> None:
    assert (SERIAL.model, PIPES.model) == ("serial", "pipes")
    assert arch.get("ascend_a2a3:serial") == SERIAL != PIPES
    assert arch.with_model(SERIAL, "pipes") == PIPES
    assert arch.with_model(PIPES, "serial") == SERIAL
    assert PIPES.digest != SERIAL.digest
    for wrong in ("ascend_a2a3:pipe", "ascend_a2a3:"):
        with pytest.raises(CompileError, match="no model of costs") as e:
            arch.get(wrong)
        assert e.value.code == "PTO402"
        assert "serial, pipes" in str(e.value)


def test_every_leaf_names_a_unit() -> None:
    assert ops.__all__
    assert {p.unit for p in PRIMITIVES.values()} <= {*map(str, CoreUnit), "none"}
