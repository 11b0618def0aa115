"""Loops over tiles of many strips: what is carried in place, changed or passed on gives what numpy gives, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pto_wsp import DType, In, Out, P, Tile, kernel, pto, workload

ROWS, COLS = 48, 160  # strips of a few rows, as soon as some tiles are used at a time
I32 = DType.I32
Array = np.ndarray[Any, Any]
Statement = tuple[Any, ...]

_PICK = st.integers(0, 2)
_SIMPLE = st.tuples(
    st.sampled_from(("add", "mul", "row", "column", "both", "where", "swap", "across")), _PICK, _PICK, _PICK
)


def _statements(depth: int) -> st.SearchStrategy[list[Statement]]:
    kinds: list[Any] = [_SIMPLE]
    if depth:
        body = _statements(depth - 1)
        kinds += [st.tuples(st.just("loop"), st.integers(0, 3), body), st.tuples(st.just("cond"), _PICK, body, body)]
    return st.lists(st.one_of(*kinds), min_size=1, max_size=4)


class Traced:
    add, mul, where = staticmethod(pto.add), staticmethod(pto.mul), staticmethod(pto.where)
    rowmax, colsum, rowsum = staticmethod(pto.rowmax), staticmethod(pto.colsum), staticmethod(pto.rowsum)

    @staticmethod
    def less(a: Any, b: Any) -> Any:
        return a < b

    @staticmethod
    def across(a: Any, b: Any) -> Any:
        return a + pto.cumsum(b, axis=1)

    @staticmethod
    def loop(n: int, body: Any, state: tuple[Any, ...]) -> Any:
        return pto.fori_loop(0, n, lambda i, s: body(s), state)

    @staticmethod
    def cond(x: Any, then: Any, otherwise: Any) -> Any:
        return pto.cond(pto.item(x, (0, 0)) > 0, then, otherwise)


class Plain:
    add, mul, where = staticmethod(np.add), staticmethod(np.multiply), staticmethod(np.where)

    @staticmethod
    def rowmax(x: Array) -> Array:
        return x.max(1, keepdims=True)

    @staticmethod
    def rowsum(x: Array) -> Array:
        return x.sum(1, keepdims=True, dtype=np.int32)

    @staticmethod
    def colsum(x: Array) -> Array:
        return x.sum(0, keepdims=True, dtype=np.int32)

    @staticmethod
    def less(a: Array, b: Array) -> Array:
        return a < b

    @staticmethod
    def across(a: Array, b: Array) -> Array:
        return a + b.cumsum(1, dtype=np.int32)

    @staticmethod
    def loop(n: int, body: Any, state: tuple[Any, ...]) -> Any:
        for _ in range(n):
            state = body(state)
        return state

    @staticmethod
    def cond(x: Array, then: Any, otherwise: Any) -> Any:
        return then() if x[0, 0] > 0 else otherwise()


def run(on: Any, statements: list[Statement], state: tuple[Any, ...]) -> tuple[Any, ...]:
    for statement in statements:
        match statement:
            case ("loop", n, body):
                state = on.loop(n, lambda s, body=body: run(on, body, s), state)
            case ("cond", i, then, otherwise):
                now = state
                state = on.cond(
                    state[i],
                    lambda then=then, now=now: run(on, then, now),
                    lambda otherwise=otherwise, now=now: run(on, otherwise, now),
                )
            case (what, i, j, k):
                new = list(state)
                if what == "swap":
                    new[i], new[j] = state[j], state[i]
                else:
                    new[k] = _value(on, what, state[i], state[j])
                state = tuple(new)
            case _:
                raise AssertionError(statement)
    return state


def _value(on: Any, what: str, a: Any, b: Any) -> Any:
    match what:
        case "row":
            return on.add(a, on.rowmax(b))
        case "column":
            return on.mul(on.add(a, on.colsum(b)), b)
        case "both":
            return on.add(on.add(a, on.colsum(on.add(b, on.rowsum(a)))), b)
        case "where":
            return on.where(on.less(a, b), b, on.add(a, b))
        case "across":
            return on.across(a, b)
        case _:
            return getattr(on, what)(a, b)


@pytest.mark.parametrize("rows", [ROWS, ROWS - 5])
@given(_statements(2))
@example([("loop", 3, [("swap", 0, 1, 0), ("both", 1, 2, 2), ("cond", 2, [("add", 0, 0, 1)], [("swap", 1, 2, 0)])])])
def test_what_loops_carry_over_many_strips(rows: int, statements: list[Statement]) -> None:
    @kernel(name="strips")
    def k(
        a: In[Tile[ROWS, COLS, I32]],
        b: In[Tile[ROWS, COLS, I32]],
        out: Out[Tile[ROWS, COLS, I32]],
        rest: Out[Tile[ROWS, COLS, I32]],
    ):
        x, y = pto.load(a), pto.load(b)
        first, second, third = run(Traced, statements, (x, x + y, x + x * y))
        pto.store(out, first)
        pto.store(rest, second + third)

    @workload
    def w(a, b, out, rest):
        for i in P(a.tiles(ROWS)):
            k(a=a[i], b=b[i], out=out[i], rest=rest[i])

    rng = np.random.default_rng(rows)
    x, y = (rng.integers(-9, 9, (rows, COLS)).astype(np.int32) for _ in range(2))
    out, rest = np.zeros_like(x), np.zeros_like(x)
    w(x, y, out, rest).compile(threads=1).run()
    with np.errstate(over="ignore"):
        first, second, third = run(Plain, statements, (x, x + y, x + x * y))
        np.testing.assert_array_equal(out, first)
        np.testing.assert_array_equal(rest, second + third)
