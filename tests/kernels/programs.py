"""Random kernels with loops, branches, scalars and regions, as programs that a tracer runs through `pto` and plain numpy by itself.

All tiles hold i32, so that every way to compute them gives the same bits. A program is a tuple of statements; its state is a tile
[4, 8] with the valid rows of `y`, a row [1, 8], and two scalars, of which the second may come from elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pto_wsp import DType, In, InOut, Out, Scalar, Tensor, Tile, kernel, pto

I32 = DType.I32
ROWS, COLS, HEIGHT = 4, 8, 3
Statement = tuple[Any, ...]
Program = tuple[Statement, ...]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class State:
    tile: Any
    row: Any
    n: Any  # known when a task is issued
    m: Any  # may depend on elements

    def leaves(self) -> tuple[Any, ...]:
        return (self.tile, self.row, self.n, self.m)


_TILE_OPS = ("add", "sub", "mul", "maximum", "minimum")
_SCALAR_OPS = ("add", "sub", "mul", "maximum", "minimum", "floordiv", "rem", "shl", "where")
_SIMPLE = (
    *(("tile", op) for op in _TILE_OPS),
    *(("tile_scalar", op) for op in _TILE_OPS),
    *(("row", op) for op in _TILE_OPS),
    *((of, op) for of in ("n", "m") for op in _SCALAR_OPS),
    *(("load", "part"), ("load", "all"), ("load", "restricted"), ("load", "own")),
    *(("store", "tile"), ("store", "part"), ("store", "row")),
    *(("item", "region"), ("item", "tile"), ("item", "row")),
)


@st.composite
def programs(draw: Any, depth: int = 2) -> Program:
    """A few statements, with loops and branches in each other."""
    kinds: list[Any] = [st.sampled_from(_SIMPLE)]
    if depth:
        inner = programs(depth - 1)
        kinds.append(st.tuples(st.just("loop"), st.integers(-1, 2), st.booleans(), inner))
        kinds.append(st.tuples(st.just("cond"), st.sampled_from(("n", "m")), st.integers(-2, 6), inner, inner))
    return tuple(draw(st.lists(st.one_of(*kinds), max_size=5)))


class Traced:
    """What a program does in a kernel."""

    def __init__(self, x: Any, r: Any, s: Any, y: Any) -> None:
        self.x, self.r, self.s, self.y = x, r, s, y
        self.rows = pto.valid_shape(y)[0]

    def tile(self, op: str, a: Any, b: Any) -> Any:
        return getattr(pto, op)(a, b)

    def scalar(self, op: str, a: Any, b: int) -> Any:
        match op:
            case "floordiv":
                return a // b
            case "rem":
                return a % b
            case "shl":
                return a << (b % 64)
            case "where":
                return pto.where(a > b, a - b, b)
            case _:
                return getattr(pto, op)(a, b)

    def load(self, how: str, n: Any) -> Any:
        height = self.r.shape[0]
        match how:
            case "all":
                return pto.colsum(pto.load(self.r, (0, 0), (HEIGHT, COLS)))
            case "own":
                return pto.load(self.y, (n % self.rows, 0), (1, COLS))
            case "restricted":
                part = pto.load(self.r, (n % height, 0), (HEIGHT, COLS))
                rows, _ = pto.valid_shape(part)
                return pto.colmax(pto.restrict(part, pto.minimum(rows, n % 3 + 1), COLS))
            case _:
                return pto.colmin(pto.load(self.r, (n % height, 0), (HEIGHT, COLS)))

    def store(self, how: str, state: State) -> None:
        match how:
            case "tile":
                pto.store(self.y, state.tile)
            case "part":
                pto.store(self.y, state.row, (state.n % self.rows, 0))
            case _:
                pto.store(self.s, state.row, (state.n % self.s.shape[0], 0))

    def item(self, how: str, state: State) -> Any:
        match how:
            case "region":
                return pto.item(self.s, (state.n % self.s.shape[0], state.n % COLS))
            case "tile":
                return pto.item(state.tile, (state.n % self.rows, 1))
            case _:
                return pto.item(state.row, (0, state.n % COLS))

    def own(self) -> Any:
        return pto.load(self.y) + self.x

    def loop(self, count: Any, body: Callable[[Any, State], State], state: State) -> State:
        return State(*pto.fori_loop(0, count, lambda i, c: body(i, State(*c)).leaves(), state.leaves()))

    def cond(self, c: Any, then: Callable[[], State], otherwise: Callable[[], State]) -> State:
        return State(*pto.cond(c, lambda: then().leaves(), lambda: otherwise().leaves()))


def _i64(n: int) -> int:
    return (n + 2**63) % 2**64 - 2**63


def _i32(x: Any) -> Array:
    return np.asarray(x).astype(np.int64).astype(np.int32)


class Plain:
    """The same in numpy."""

    def __init__(self, x: Array, r: Array, s: Array, y: Array) -> None:
        self.x, self.r, self.s, self.y = x, r, s, y
        self.rows = y.shape[0]

    def tile(self, op: str, a: Any, b: Any) -> Array:
        wide = [
            x.astype(np.int64) if isinstance(x, np.ndarray) else np.int64(np.int64(x).astype(np.int32)) for x in (a, b)
        ]
        name = {"sub": "subtract", "mul": "multiply"}.get(op, op)
        return _i32(getattr(np, name)(*wide))

    def scalar(self, op: str, a: int, b: int) -> int:
        match op:
            case "floordiv":
                return a // b
            case "rem":
                return a % b
            case "shl":
                return _i64(a << (b % 64))
            case "where":
                return _i64(a - b) if a > b else b
            case "maximum":
                return max(a, b)
            case "minimum":
                return min(a, b)
            case _:
                return _i64({"add": a + b, "sub": a - b, "mul": a * b}[op])

    def load(self, how: str, n: int) -> Array:
        at = n % self.r.shape[0]
        match how:
            case "all":
                return _i32(self.r[:HEIGHT].astype(np.int64).sum(0, keepdims=True))
            case "own":
                at = n % self.rows
                return self.y[at : at + 1].copy()
            case "restricted":
                part = self.r[at : at + HEIGHT]
                return part[: min(part.shape[0], n % 3 + 1)].max(0, keepdims=True)
            case _:
                return self.r[at : at + HEIGHT].min(0, keepdims=True)

    def store(self, how: str, state: State) -> None:
        match how:
            case "tile":
                self.y[...] = state.tile
            case "part":
                self.y[state.n % self.rows] = state.row[0]
            case _:
                self.s[state.n % self.s.shape[0]] = state.row[0]

    def item(self, how: str, state: State) -> int:
        match how:
            case "region":
                return int(self.s[state.n % self.s.shape[0], state.n % COLS])
            case "tile":
                return int(state.tile[state.n % self.rows, 1])
            case _:
                return int(state.row[0, state.n % COLS])

    def own(self) -> Array:
        return self.tile("add", self.y, self.x)

    def loop(self, count: int, body: Callable[[Any, State], State], state: State) -> State:
        for i in range(count):
            state = body(i, state)
        return state

    def cond(self, c: bool, then: Callable[[], State], otherwise: Callable[[], State]) -> State:
        return then() if c else otherwise()


def run(on: Traced | Plain, program: Program, state: State) -> State:
    """The state after a program."""
    for statement in program:
        state = _step(on, statement, state)
    return state


def _step(on: Any, statement: Statement, state: State) -> State:
    match statement:
        case ("tile", op):
            return replace(state, tile=on.tile(op, on.tile(op, state.tile, state.row), on.own()))
        case ("tile_scalar", op):
            return replace(state, tile=on.tile(op, state.tile, state.m))
        case ("row", op):
            return replace(state, row=on.tile(op, state.row, state.n))
        case ("n" | "m" as which, op):
            # scalars mix; what depends on elements stays in m
            value = on.scalar(op, getattr(state, which), 5)
            if which == "m":
                value = on.scalar("add", on.scalar("rem", value, 1000), 1)
            return replace(state, **{which: value})
        case ("load", how):
            return replace(state, row=on.load(how, state.n))
        case ("store", how):
            on.store(how, state)
            return state
        case ("item", how):
            return replace(state, m=on.item(how, state))
        case ("loop", more, dynamic, body):
            count = on.scalar("add", on.scalar("rem", state.n, 3), more) if dynamic else more

            def turn(i: Any, s: State) -> State:
                return run(on, body, replace(s, n=on.scalar("add", s.n, 1) if more else i))

            return on.loop(count, turn, state)
        case ("cond", which, at, then, otherwise):
            c = getattr(state, which) > at
            end = on.cond(c, lambda: run(on, then, state), lambda: run(on, otherwise, state))
            return replace(end, n=state.n) if which == "m" else end  # which branch it was depends on elements
    raise AssertionError(statement)


def kernel_of(program: Program) -> Any:
    """The program as a kernel."""

    @kernel(name="random")
    def k(
        x: In[Tile[ROWS, COLS, I32]],
        r: In[Tensor[None, COLS, I32]],
        s: InOut[Tensor[None, COLS, I32]],
        n: Scalar[I32],
        y: InOut[Tile[ROWS, COLS, I32]],
        z: Out[Tile[1, COLS, I32]],
    ):
        start = State(pto.load(x), pto.full((1, COLS), 0, I32), pto.cast(n, DType.I64), pto.cast(n, DType.I64))
        end = run(Traced(x, r, s, y), program, start)
        pto.store(y, end.tile + pto.load(y))
        pto.store(s, end.row, (0, 0))
        pto.store(z, pto.full((1, COLS), 1, I32) * end.m + end.n)

    return k


def run_plain(program: Program, x: Array, r: Array, s: Array, n: int, y: Array, z: Array) -> None:
    """What the kernel does, in numpy."""
    on = Plain(x, r, s, y)
    end = run(on, program, State(x, np.zeros((1, COLS), np.int32), n, n))
    y[...] = on.tile("add", end.tile, y)
    s[0] = end.row[0]
    z[...] = on.tile("add", on.tile("mul", np.ones((1, COLS), np.int32), end.m), end.n)


def arguments(seed: int) -> dict[str, Any]:
    """Arrays, and a scalar, of random sizes."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, ROWS + 1))
    shapes = {"x": (rows, COLS), "r": (int(rng.integers(1, 8)), COLS), "s": (int(rng.integers(1, 4)), COLS)}
    shapes |= {"y": (rows, COLS), "z": (1, COLS)}
    arrays: dict[str, Any] = {n: rng.integers(-50, 50, shape).astype(np.int32) for n, shape in shapes.items()}
    return arrays | {"n": int(rng.integers(-4, 5))}
