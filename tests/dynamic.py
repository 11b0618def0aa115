"""Random workloads whose shape is in data, each with a second meaning: plain Python on arrays, with no tracing at all.

A case is a tree of statements. `Traced` writes it in the traced language; `Eager` does at once what it says, task after task,
with Python's loops, conditions and integers, and with numpy for the kernels. Whatever reaches an index, a condition or an
extent is an integer that stays in range, numbers are small integers, and no operation rounds: both give the same bits.

Tensors A, B, C are [8, 8, R, C] of one dtype. As in `workloads`, each has a role in each outermost P loop, so that no two
iterations provably conflict. W [8, 8] holds integers that tasks write and the workload reads back. I, T, G, lens and the
sparse axis are data of which the program knows nothing before it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pto_wsp import (
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    Ragged,
    Scalar,
    Sparse,
    TaskWindow,
    Tensor,
    Tile,
    Workload,
    item,
    kernel,
    maximum,
    minimum,
    pto,
    reduce_max,
    reduce_sum,
    slot_i64,
    slot_set_i64,
    where,
    workload,
)

N = 8  # size of every indexed dimension
Array = np.ndarray[Any, Any]


# kernels, and the same in numpy


def clamp(x: Any) -> Any:
    return pto.maximum(pto.minimum(x, 64), -64)


@cache
def kernels(r: int, c: int, dtype: DType) -> dict[str, Any]:
    tile = Tile[r, c, dtype]

    @kernel
    def fill(s: Scalar[dtype], y: Out[tile]):
        pto.store(y, pto.broadcast(pto.full((1, 1), 0, dtype) + s, (r, c)))

    @kernel
    def scale(x: In[tile], s: Scalar[dtype], y: Out[tile]):
        pto.store(y, clamp(x * 2 + s))

    @kernel
    def join(x: In[tile], z: In[tile], y: Out[tile]):
        pto.store(y, clamp(x - z + pto.rowmax(x)))

    @kernel
    def accumulate(x: In[tile], y: InOut[tile]):
        pto.store(y, clamp(y + x))

    @kernel
    def total(x: In[Tensor[None, None, c, dtype]], n: Scalar[DType.I32], y: Out[tile]):
        """The first n matrices of a region, r rows at a time."""
        matrices, rows, _ = x.shape

        def matrix(i: Any, sum_: Any) -> Any:
            def part(k: Any, sum_: Any) -> Any:
                return clamp(sum_ + pto.colsum(pto.load(x, (i, k * r, 0), (r, c))))

            return pto.fori_loop(0, (rows + r - 1) // r, part, sum_)

        found = pto.fori_loop(0, pto.minimum(n, matrices), matrix, pto.full((1, c), 0, dtype))
        pto.store(y, pto.broadcast(found, (r, c)))

    @kernel
    def spread(x: In[tile], y: InOut[Tensor[None, None, c, dtype]]):
        """The largest of each column to every row of the first half of a region's matrices."""
        matrices, rows, _ = y.shape
        largest = pto.colmax(x)

        def matrix(i: Any, nothing: Any) -> Any:
            def part(k: Any, nothing: Any) -> Any:
                at = (i, k * r, 0)
                pto.store(y, clamp(pto.load(y, at, (r, c)) + largest), at)
                return nothing

            return pto.fori_loop(0, (rows + r - 1) // r, part, nothing)

        pto.fori_loop(0, (matrices + 1) // 2, matrix, ())

    return {
        "fill": fill,
        "scale": scale,
        "join": join,
        "accumulate": accumulate,
        "total": total,
        "spread": spread,
    }


@kernel
def put(s: Scalar[DType.I32], w: Out[Tile[1, 1, DType.I32]]):
    pto.store(w, pto.full((1, 1), 0, DType.I32) + s)


@kernel
def bump(s: Scalar[DType.I32], w: InOut[Tile[1, 1, DType.I32]]):
    pto.store(w, pto.minimum(w + s, 100))


def in_numpy(name: str, a: dict[str, Any]) -> tuple[str, Any]:
    """The output of a kernel and its new value; arguments are arrays of valid shape, and integers."""
    clip = lambda x: np.clip(x, -64, 64)  # noqa: E731
    x, z, y, s, w = (a.get(n) if n == "s" or n not in a else a[n].astype(np.int64) for n in "xzysw")
    match name:
        case "fill":
            return "y", np.full(y.shape, s)
        case "scale":
            return "y", clip(x * 2 + s)
        case "join":
            return "y", clip(x - z + x.max(axis=1, keepdims=True))
        case "accumulate":
            return "y", clip(y + x)
        case "total":
            found = np.zeros(y.shape[1], np.int64)
            for matrix in x[: a["n"]]:
                for k in range(0, len(matrix), a["r"]):
                    found = clip(found + matrix[k : k + a["r"]].sum(axis=0))
            return "y", np.broadcast_to(found, y.shape)
        case "spread":
            half = (len(y) + 1) // 2
            y[:half] = clip(y[:half] + x.max(axis=0))
            return "y", y
        case "put":
            return "w", np.full((1, 1), s)
        case "bump":
            return "w", np.minimum(w + s, 100)
    raise AssertionError(name)


# statements


@dataclass
class Env:
    """Variables in scope, and how to read data."""

    backend: Backend
    vars: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.vars[name]

    def bound(self, **more: Any) -> Env:
        return Env(self.backend, {**self.vars, **more})


Of = Callable[[Env], Any]


@dataclass
class Loop:
    mode: str  # "P", "seq" or "sel"
    var: str
    axis: Of
    body: list[Any]
    go_on: Of | None = None


@dataclass
class When:
    condition: Of
    then: list[Any]
    otherwise: list[Any] | None


@dataclass
class Task:
    kernel: str
    args: dict[str, Of]


@dataclass
class SetSlot:
    slot: int
    value: Of


@dataclass
class TileIndex:
    """What `Eager` gives for a tile index."""

    k: int
    size: int
    limit: int


class Backend:
    """Operations whose form differs between the two meanings."""

    tensors: dict[str, Any]

    def item(self, name: str, *index: Any) -> Any: ...
    def reduce(self, kind: str, name: str, row: Any, n: int) -> Any: ...
    def least(self, a: Any, b: Any) -> Any: ...
    def most(self, a: Any, b: Any) -> Any: ...
    def pick(self, c: Any, a: Any, b: Any) -> Any: ...
    def slot(self, i: int) -> Any: ...
    def ragged(self, row: Any) -> Any: ...
    def tiles(self, row: Any, size: int) -> Any: ...
    def sparse(self, row: Any) -> Any: ...
    def dense(self, n: int, name: str) -> Any: ...


class Traced(Backend):
    def __init__(self, case: Drawing) -> None:
        self.case = case
        self.tensors = case.tensors

    def item(self, name: str, *index: Any) -> Any:
        return item(self.tensors[name][index])

    def reduce(self, kind: str, name: str, row: Any, n: int) -> Any:
        return {"sum": reduce_sum, "max": reduce_max}[kind](self.tensors[name][row, :n])

    def least(self, a: Any, b: Any) -> Any:
        return minimum(a, b)

    def most(self, a: Any, b: Any) -> Any:
        return maximum(a, b)

    def pick(self, c: Any, a: Any, b: Any) -> Any:
        return where(c, a, b)

    def slot(self, i: int) -> Any:
        return slot_i64(i)

    def ragged(self, row: Any) -> Any:
        return self.case.ragged[row]

    def tiles(self, row: Any, size: int) -> Any:
        return self.case.ragged[row].tiles(size)

    def sparse(self, row: Any) -> Any:
        return self.case.sparse[row]

    def dense(self, n: int, name: str) -> Any:
        return self.case.dyn(n, name)

    def emit(self, body: list[Any], env: Env) -> None:
        for s in body:
            match s:
                case Task():
                    k = put if s.kernel == "put" else bump if s.kernel == "bump" else self.case.kernels[s.kernel]
                    k(**{n: a(env) for n, a in s.args.items()})
                case SetSlot():
                    slot_set_i64(s.slot, s.value(env))
                case When():
                    with P.when(s.condition(env)):
                        self.emit(s.then, env)
                    if s.otherwise is not None:
                        with P.otherwise():
                            self.emit(s.otherwise, env)
                case Loop(mode="seq"):
                    options = {} if s.go_on is None else {"while_": lambda s=s: s.go_on(env)}
                    for v in P.seq(s.axis(env), **options):
                        self.emit(s.body, env.bound(**{s.var: v}))
                case Loop():
                    for v in P.sel(s.axis(env)) if s.mode == "sel" else P(s.axis(env)):
                        self.emit(s.body, env.bound(**{s.var: v}))


class Eager(Backend):
    """`log` gets a line for each task: its kernel and what it wrote."""

    def __init__(self, case: Drawing, arrays: dict[str, Array], data: Data) -> None:
        self.case = case
        self.tensors = arrays
        self.data = data
        self.slots = dict(data.slots)
        self.tasks = 0

    def item(self, name: str, *index: Any) -> int:
        return int(self.tensors[name][index])

    def reduce(self, kind: str, name: str, row: Any, n: int) -> int:
        part = self.tensors[name][row, :n]
        return int(part.sum() if kind == "sum" else part.max())

    def least(self, a: int, b: int) -> int:
        return min(a, b)

    def most(self, a: int, b: int) -> int:
        return max(a, b)

    def pick(self, c: Any, a: int, b: int) -> int:
        return a if c else b

    def slot(self, i: int) -> int:
        return self.slots.get(i, 0)

    def ragged(self, row: int) -> int:
        return self.data.lengths[row]

    def tiles(self, row: int, size: int) -> list[TileIndex]:
        n = self.data.lengths[row]
        return [TileIndex(k, size, n) for k in range(-(-n // size))]

    def sparse(self, row: int) -> list[int]:
        return self.data.indices[self.data.indptr[row] : self.data.indptr[row + 1]]

    def dense(self, n: int, name: str) -> int:
        return self.data.sizes[name]

    def emit(self, body: list[Any], env: Env) -> None:
        for s in body:
            match s:
                case Task():
                    self.run(s, env)
                case SetSlot():
                    self.slots[s.slot] = s.value(env)
                case When():
                    taken = s.then if s.condition(env) else s.otherwise
                    self.emit(taken or [], env)
                case Loop():
                    axis = s.axis(env)
                    for v in axis if isinstance(axis, list) else range(axis):
                        if s.go_on is not None and not s.go_on(env):
                            break
                        self.emit(s.body, env.bound(**{s.var: v}))

    def run(self, task: Task, env: Env) -> None:
        self.tasks += 1
        given = {n: a(env) for n, a in task.args.items()}
        args = {n: x if isinstance(x, int) else self.tensors[x[0]][x[1]] for n, x in given.items()}
        args["r"] = self.case.r
        out, value = in_numpy(task.kernel, args)
        name, index = given[out]
        target = self.tensors[name]
        rows = index[-2] if name != "W" and task.kernel != "spread" else None
        if isinstance(rows, np.ndarray):  # duplicates in order
            for i, row in enumerate(rows.reshape(-1)):
                target[(*index[:-2], row, index[-1].reshape(-1))] = value[i]
        else:
            target[index] = value


@dataclass
class Data:
    """Everything that a program learns when it is bound."""

    sizes: dict[str, int]
    lengths: list[int]
    indptr: list[int]
    indices: list[int]
    arrays: dict[str, Array]
    slots: dict[int, int]


class View:
    """An argument: a tensor, indices of its first dimensions, rows and columns."""

    def __init__(self, name: str, index: tuple[Of, ...], rows: Any, cols: Any) -> None:
        self.name, self.index, self.rows, self.cols = name, index, rows, cols

    def __call__(self, env: Env) -> Any:
        b = env.backend
        index = tuple(i(env) for i in self.index)
        rows, cols = self.rows(env), self.cols(env)
        if isinstance(b, Traced):
            return b.tensors[self.name][(*index, rows, cols)]
        if isinstance(rows, TileIndex):
            rows = np.arange(rows.k * rows.size, min((rows.k + 1) * rows.size, rows.limit))
        elif isinstance(rows, slice):
            rows = np.arange(rows.start, rows.stop)
        return self.name, (*index, np.asarray(rows)[:, None], np.arange(cols.start, cols.stop)[None, :])


class Box:
    """A region: of one of the first two dimensions an index and of the other any part, any rows, and columns."""

    def __init__(self, name: str, index: tuple[Of, Of], rows: Of, cols: slice) -> None:
        self.name, self.index, self.rows, self.cols = name, index, rows, cols

    def __call__(self, env: Env) -> Any:
        index, rows = tuple(i(env) for i in self.index), self.rows(env)
        if isinstance(env.backend, Traced):
            return env.backend.tensors[self.name][(*index, rows, self.cols)]
        if isinstance(rows, TileIndex):
            rows = slice(rows.k * rows.size, min((rows.k + 1) * rows.size, rows.limit))
        return self.name, (*index, rows, self.cols)


@dataclass(frozen=True)
class Scope:
    largest: dict[str, int] = field(default_factory=dict)  # of integer variables, by name
    plain: tuple[str, ...] = ()  # variables of P loops around, outermost first
    seqs: int = 0
    rows: str | None = None  # variable of a loop over tiles of a ragged row
    roles: dict[str, str] | None = None
    conditional: bool = False

    def inside(self, **changes: Any) -> Scope:
        return Scope(**{**self.__dict__, **changes})


class Drawing:
    """One case being drawn."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.dtype = draw(st.sampled_from((DType.F32, DType.BF16, DType.I32, DType.F16)))
        self.r, self.c = draw(st.integers(1, 3)), draw(st.integers(1, 5))
        self.R, self.C = N, self.c + draw(st.integers(0, 5))
        self.kernels = kernels(self.r, self.c, self.dtype)
        self.count = 0
        self.names: dict[str, int] = {}  # dynamic dense axes with the largest size they may get
        self.axes: dict[str, DenseDyn] = {}
        self.integers = draw(st.sampled_from((np.int32, np.int64)))
        self.data = [self.some_data() for _ in range(2)]
        first = self.data[0]
        self.tensors = {n: Tensor(a.copy(), name=n) for n, a in first.arrays.items()}
        outer = DenseDyn(N, name="outer")
        self.ragged = Ragged(outer, first.lengths, name="lens")
        self.sparse = Sparse(outer, first.indptr, first.indices, inner=N, name="sparse")

    def some_data(self) -> Data:
        d = self.draw
        random = np.random.default_rng(d(st.integers(0, 2**16)))
        shape = (N, N, self.R, self.C)
        arrays = {n: random.integers(-3, 4, shape).astype(self.dtype.numpy) for n in "ABC"}
        arrays |= {
            "W": random.integers(0, N, (N, N)).astype(np.int32),
            "I": random.integers(0, N, N).astype(self.integers),
            "T": random.integers(0, N, (N, N)).astype(self.integers),
            "G": random.integers(0, self.R, (N, self.R)).astype(self.integers),
        }
        lengths = [int(x) for x in random.integers(0, self.R + 1, N)]
        counts = random.integers(0, 4, N)
        indptr = [0, *(int(x) for x in np.cumsum(counts))]
        indices = [int(x) for x in random.integers(0, N, indptr[-1])]
        return Data({}, lengths, indptr, indices, arrays, {0: int(random.integers(0, N))} if d(st.booleans()) else {})

    def dyn(self, n: int, name: str) -> DenseDyn:
        return self.axes.setdefault(name, DenseDyn(n, name=name))

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    # integers in range

    def static(self, scope: Scope) -> Of:
        """0 .. 7, an expression of loop variables."""
        n = self.draw(st.integers(0, N - 1))
        usable = [(v, max(m, 0)) for v, m in scope.largest.items() if m < N]
        if not usable or self.draw(st.integers(0, 3)) == 0:
            return lambda env: n
        v, m = self.draw(st.sampled_from(usable))
        forms: list[Of] = [lambda env: env[v], lambda env: m - env[v], lambda env: (3 * env[v] + n) % N]
        return self.draw(st.sampled_from(forms))

    def data_index(self, scope: Scope) -> Of:
        """0 .. 7, read from data."""
        i, j = self.static(scope), self.static(scope)
        n = self.draw(st.integers(1, N))
        forms: list[Of] = [
            lambda env: env.backend.item("I", i(env)),
            lambda env: env.backend.item("T", i(env), j(env)),
            lambda env: env.backend.item("T", env.backend.item("I", i(env)), j(env)),
            lambda env: env.backend.item("W", i(env), j(env)) % N,
            lambda env: env.backend.reduce("max", "T", i(env), n),
            lambda env: env.backend.reduce("sum", "W", i(env), n) % N,
            lambda env: env.backend.least(env.backend.item("I", i(env)) + j(env), N - 1),
            lambda env: env.backend.most(env.backend.item("I", i(env)) - j(env), 0),
            lambda env: (env.backend.item("I", i(env)) ^ env.backend.item("W", i(env), j(env))) & (N - 1),
            lambda env: env.backend.slot(0) % N,
            lambda env: env.backend.pick(env.backend.item("I", i(env)) < 3, i(env), j(env)),
        ]
        return self.draw(st.sampled_from(forms))

    def index(self, scope: Scope) -> Of:
        return self.data_index(scope) if self.draw(st.integers(0, 2)) == 0 else self.static(scope)

    def wild(self, scope: Scope) -> Of:
        """0 .. 7, of which nothing can be proved."""
        if self.draw(st.booleans()):
            return self.data_index(scope)
        v, u = (self.draw(st.sampled_from(sorted(scope.largest))) for _ in "vu")
        n = self.draw(st.integers(0, N - 1))
        return lambda env: (env[v] * env[u] + n) % N

    def condition(self, scope: Scope) -> Of:
        a, b = self.index(scope), self.index(scope)
        n = self.draw(st.integers(0, N))
        forms: list[Of] = [
            lambda env: a(env) < n,
            lambda env: a(env) == b(env),
            lambda env: a(env) * 2 - b(env) >= n,
            lambda env: (a(env) > n) | (b(env) != n),
            lambda env: (a(env) <= n) & (b(env) % 2 == 0),
        ]
        which = self.draw(st.sampled_from(forms))
        if scope.largest or self.draw(st.booleans()):
            return which
        i = self.data_index(scope)
        return lambda env: i(env) < n

    # views and statements

    def view(self, name: str, scope: Scope) -> View:
        role = scope.roles[name] if scope.roles is not None else "in"
        if role == "in":
            index = (self.index(scope), self.index(scope))
        elif role == "own":
            own = tuple((lambda env, v=v: env[v]) for v in scope.plain[:2])
            index = (*own, *(self.index(scope) for _ in range(2 - len(own))))
        else:
            index = (self.wild(scope), self.index(scope))
        if name == "W":
            i, j = index
            return View("W", (), lambda env: one(i(env)), lambda env: one(j(env)))
        at = self.static(scope)
        gathered = self.draw(st.integers(0, 2)) == 0
        if scope.rows is not None:
            tile = scope.rows
            rows: Of = (lambda env: gather(env, at(env), env[tile])) if gathered else (lambda env: env[tile])
        else:
            start = self.draw(st.integers(0, self.R - self.r))
            part = slice(start, start + self.r)
            rows = (lambda env: gather(env, at(env), part)) if gathered else (lambda env: part)
        first = self.draw(st.integers(0, self.C - self.c))
        return View(name, index, rows, lambda env: slice(first, first + self.c))

    def box(self, name: str, scope: Scope) -> Box:
        first = self.draw(st.integers(0, self.C - self.c))
        role = scope.roles[name] if scope.roles is not None else "in"
        own: list[Of] = [lambda env, v=v: env[v] for v in scope.plain[:2]] if role == "own" else []
        at = [own[k] if k < len(own) else self.wild(scope) if role == "wild" else self.index(scope) for k in (0, 1)]
        of = self.draw(st.integers(0, 1))  # of which dimension all, or many, are taken
        at[of] = (lambda env, i=at[of]: one(i(env))) if of < len(own) else self.some(scope, N)
        tile = scope.rows
        whole = tile is None or self.draw(st.booleans())
        return Box(
            name,
            (at[0], at[1]),
            self.some(scope, self.R) if whole else lambda env: env[tile],
            slice(first, first + self.c),
        )

    def some(self, scope: Scope, size: int) -> Of:
        """Some elements of so many; often of a number that is known at the task."""
        start, n = self.index(scope), self.index(scope)
        k = self.draw(st.integers(0, size))
        forms: list[Of] = [
            lambda env: slice(0, env.backend.least(n(env), size)),
            lambda env: slice(start(env), env.backend.least(start(env) + n(env), size)),
            lambda env: slice(env.backend.most(start(env) - n(env), 0), start(env)),
            lambda env: slice(k, size),
            lambda env: slice(0, size),
        ]
        return self.draw(st.sampled_from(forms))

    def task(self, scope: Scope) -> Task | None:
        names = ["A", "B", "C", "W"]
        outputs = names if scope.roles is None else [n for n in names if scope.roles[n] != "in"]
        if not outputs:
            return None
        out = self.draw(st.sampled_from(outputs))
        y = self.view(out, scope)
        number = self.draw(st.integers(0, 3))
        more = self.index(scope) if self.draw(st.booleans()) else (lambda env: 0)

        def s(env: Env) -> Any:
            return more(env) + number

        if out == "W":
            return Task(self.draw(st.sampled_from(("put", "bump"))), {"s": s, "w": y})
        inputs = [n for n in "ABC" if n != out]
        x, z = (self.view(self.draw(st.sampled_from(inputs)), scope) for _ in "xz")
        which = self.draw(st.sampled_from(("fill", "scale", "join", "accumulate", "total", "spread")))
        if which == "total":
            return Task(which, {"x": self.box(self.draw(st.sampled_from(inputs)), scope), "n": s, "y": y})
        if which == "spread":
            return Task(which, {"x": x, "y": self.box(out, scope)})
        args = {
            "fill": {"s": s, "y": y},
            "scale": {"x": x, "s": s, "y": y},
            "join": {"x": x, "z": z, "y": y},
            "accumulate": {"x": x, "y": y},
        }
        return Task(which, args[which])

    def loop(self, scope: Scope, depth: int) -> Loop:
        modes = ["P", "sel"] * (len(scope.plain) < 2) + ["seq"] * (scope.seqs < 2) + ["tiles"] * (scope.rows is None)
        which = self.draw(st.sampled_from(modes or ["seq"]))
        var = self.name("v")
        row = self.index(scope)
        mode = which if which in ("P", "sel") else "seq"
        changes: dict[str, Any] = {"largest": {**scope.largest}}
        go_on = None
        if which == "tiles":
            mode = "P" if self.draw(st.booleans()) else "seq"
            changes["rows"] = var
            axis: Of = lambda env: env.backend.tiles(row(env), self.r)  # noqa: E731
        elif which == "sel":
            changes["largest"][var] = N - 1
            axis = lambda env: env.backend.sparse(row(env))  # noqa: E731
        else:
            axis, largest = self.extent(scope)
            changes["largest"][var] = largest
        if mode == "seq":
            changes["seqs"] = scope.seqs + 1
            if self.draw(st.integers(0, 3)) == 0:
                go_on = self.condition(scope)
        else:
            if which != "tiles":
                changes["plain"] = (*scope.plain, var)
            if scope.roles is None:
                # the tiles of a row are told apart by nothing but an index that is wild
                roles = st.sampled_from(("in", "wild") if which == "tiles" else ("own", "in", "own", "wild"))
                changes["roles"] = {n: self.draw(roles) for n in "ABCW"}
            elif which == "tiles":
                changes["roles"] = {n: "wild" if r == "own" else r for n, r in scope.roles.items()}
        if mode != "seq" and not changes["largest"]:
            changes["roles"] = dict.fromkeys("ABCW", "in")
        return Loop(mode, var, axis, self.body(scope.inside(**changes), depth + 1), go_on)

    def extent(self, scope: Scope) -> tuple[Of, int]:
        """A loop's extent, and the largest value of its variable."""
        kind = self.draw(st.sampled_from(("ragged", "data", "dense", "dynamic", "triangle")))
        row, n = self.index(scope), self.draw(st.integers(0, 4))
        outer = sorted(v for v, m in scope.largest.items() if m <= 3)
        if kind == "ragged":
            return lambda env: env.backend.ragged(row(env)), N - 1
        if kind == "data":
            return lambda env: env.backend.least(row(env), n), n - 1
        if kind == "triangle" and outer:
            v = self.draw(st.sampled_from(outer))
            return lambda env: env[v] + 1, scope.largest[v]
        if kind == "dynamic":
            name = self.name("n")
            for d in self.data:
                d.sizes[name] = self.draw(st.integers(0, 3))
            start = self.data[0].sizes[name]
            return lambda env: env.backend.dense(start, name), 2
        return lambda env: n, n - 1

    def body(self, scope: Scope, depth: int) -> list[Any]:
        out: list[Any] = []
        for _ in range(self.draw(st.integers(1, 2 if depth else 3))):
            choice = self.draw(st.integers(0, 9))
            if choice < 4 and depth < 4:
                out.append(self.loop(scope, depth))
            elif choice < 6 and depth < 4:
                then = self.body(scope, depth + 1)
                otherwise = self.body(scope, depth + 1) if self.draw(st.booleans()) else None
                out.append(When(self.condition(scope), then, otherwise))
            elif choice == 6 and scope.roles is None:
                out.append(SetSlot(0, self.index(scope)))
            else:
                task = self.task(scope)
                out += [] if task is None else [task]
        return out


def one(i: Any) -> slice:
    return slice(i, i + 1)


def gather(env: Env, i: Any, part: Any) -> Any:
    """Rows by an index view of G."""
    g = env.backend.tensors["G"]
    if isinstance(part, TileIndex):
        part = slice(part.k * part.size, min((part.k + 1) * part.size, part.limit))
    return g[i, part]


@dataclass
class Case:
    workload: Workload
    drawing: Drawing
    tree: list[Any]

    @property
    def data(self) -> list[Data]:
        return self.drawing.data

    def eager(self, data: Data) -> tuple[dict[str, Array], int]:
        """The arrays after a run, and how many tasks there were."""
        arrays = {n: a.copy() for n, a in data.arrays.items()}
        e = Eager(self.drawing, arrays, data)
        with np.errstate(all="ignore"):
            e.emit(self.tree, Env(e))
        return arrays, e.tasks

    def bindings(self, data: Data) -> dict[str, Any]:
        """What `set_axis_sizes` takes."""
        have = self.workload.wir
        axes = {n: v for n, v in data.sizes.items() if n in have.symbols}
        names = {a.name for a in have.axes}
        ragged = {"lens": data.lengths} if "lens" in names else {}
        axes |= {"outer": len(data.lengths)} if "outer" in have.symbols else {}
        return {**axes, **ragged, **({"sparse": (data.indptr, data.indices)} if "sparse" in names else {})}

    def __repr__(self) -> str:
        return f"{self.workload}\n" + "\n".join(
            f"sizes {d.sizes} lens {d.lengths} sparse {d.indptr} {d.indices} slots {d.slots}" for d in self.data
        )


@st.composite
def cases(
    draw: Callable[[Any], Any], *, windows: bool = True, whole: Callable[[Any, Workload], Workload] | None = None
) -> Case:
    """A case with two sets of data: the workload is traced with the first. whole: what it is scheduled by, if not by a round robin or a
    window."""
    d = Drawing(draw)
    tree = d.body(Scope(), 0)

    @workload(name="dynamic")
    def traced():
        t = Traced(d)
        t.emit(tree, Env(t))

    w = traced()
    if whole is not None:
        return Case(whole(draw, w), d, tree)
    for _ in range(draw(st.integers(0, 1))):
        if windows and draw(st.booleans()):
            w = w.task_graph(window=TaskWindow(draw(st.integers(1, 5))))
        else:
            w = w.dispatch(DispatchPolicy.round_robin(draw(st.integers(1, 5))))
    return Case(w, d, tree)
