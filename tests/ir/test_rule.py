"""Rules of schedules: what they are for a task, their types, and the wir that has them."""

from typing import Any

import pytest

from pto_wsp import BoundsError, ExecutionError, PtoError, TypeCheckError
from pto_wsp.errors import InternalError
from pto_wsp.ir.core import DType, Literal, RuleCall
from pto_wsp.ir.expr import const, var
from pto_wsp.ir.rule import Rule, TaskFacts, dtype_of, evaluate_rule, integer_of, rule_names, splitmix64, walk

I64, U64 = DType.I64, DType.U64


def call(op: str, *args: Rule, **params: Any) -> RuleCall:
    return RuleCall(op, args, **params)


def test_what_a_rule_asks_of_the_task() -> None:
    facts = TaskFacts({"b": 5}, position=1, id=2, cost=3, unit=1, lanes=4, clock_khz=6)
    asked = ("position", "id", "cost", "unit", "lanes", "clock_khz")
    assert [evaluate_rule(call(op), facts) for op in asked] == [1, 2, 3, 1, 4, 6]
    assert evaluate_rule(call("mod", var("b") * 3 - 17, call("lanes")), facts) == 2


def test_keys_are_numbered_by_their_operation_in_order_of_first_appearance() -> None:
    facts = TaskFacts()
    both = call("add", call("mul", call("first_appearance", var("a")), const(10)), call("first_appearance", var("b")))
    found = []
    for a, b in ((7, 7), (7, 8), (9, 7), (-1, 9), (7, 7)):
        facts.env = {"a": a, "b": b}
        found.append(evaluate_rule(both, facts))
    assert found == [0, 1, 10, 22, 0]


def test_the_least_loaded_lane_is_the_lowest_of_several() -> None:
    facts = TaskFacts(lanes=3)
    assert evaluate_rule(call("least_loaded"), facts) == 0
    facts.scope.loads.update({0: 5, 1: 3, 2: 3})
    assert evaluate_rule(call("least_loaded"), facts) == 1


def test_splitmix64_is_that_of_its_paper() -> None:
    # the first three outputs of the generator with seed 0 are of its states 0, g and 2 g
    g = 0x9E3779B97F4A7C15
    assert [splitmix64(k * g % 2**64) for k in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert integer_of(call("splitmix64", const(0)), TaskFacts()) == 0xE220A8397B1DCDAF - 2**64


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (call("add", const(2**63 - 1), const(1)), BoundsError),
        (call("neg", const(-(2**63))), BoundsError),
        (call("mul", var("b"), const(2**62)), BoundsError),
        (call("mod", var("b"), const(0)), ExecutionError),
        (call("shl", var("b"), const(64)), ExecutionError),
    ],
)
def test_what_has_no_value_is_an_error(rule: Rule, error: type[PtoError]) -> None:
    assert dtype_of(rule) is I64
    with pytest.raises(error):
        evaluate_rule(rule, TaskFacts({"b": 2}))


def test_types() -> None:
    assert dtype_of(call("splitmix64", var("b"))) is U64
    assert dtype_of(call("cast", call("splitmix64", var("b")), to=I64)) is I64
    assert dtype_of(call("kernel_is", text="k")) is DType.BOOL
    assert dtype_of(call("coord", const(0), text="b")) is I64
    for wrong in (
        call("position", const(1)),
        call("first_appearance", Literal(1.0, DType.F64)),
        call("add", const(1), Literal(1, U64)),
    ):
        with pytest.raises(TypeCheckError):
            dtype_of(wrong)
    with pytest.raises(LookupError):
        dtype_of(call("round_trip"))


def test_a_rule_that_is_no_integer_is_a_fault_of_the_compiler() -> None:
    with pytest.raises(InternalError):
        integer_of(call("lt", const(1), const(2)), TaskFacts())


def test_names_and_parts() -> None:
    rule = call("add", var("task.b") + var("$n"), call("cost"))
    assert rule_names(rule) == {"task.b", "$n"}
    assert list(walk(rule))[-1] is rule
    assert len(list(walk(rule))) == 3
