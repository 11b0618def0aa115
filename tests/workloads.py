"""Random workloads for property tests, built through the public API, with arrays to run on.

All tensors of a case are [8, 8, R, C] of one dtype; tasks take tiles of r x c. Tracing must accept every case, so each
tensor has a role in each outermost P loop: it is only read there ("in"), every access puts the loop variables into fixed
places ("own": provably independent), or every access has an index that nothing can be proved about ("wild": tracked).
Numbers are small integers and stay so: every operation is exact, whatever its order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pto_wsp import (
    Constexpr,
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    TaskWindow,
    Tensor,
    Tile,
    Workload,
    combine,
    kernel,
    pto,
    sequential,
    workload,
)

INDEXED = 8  # size of the first two dimensions; at least 5, which loops have
DTYPES = (DType.F32, DType.F16, DType.BF16, DType.I32)

Env = dict[str, Any]
Index = Callable[[Env], Any]
Inner = Callable[[Any, list[str]], Callable[[Any], Any] | None]


class Case:
    """A workload, arrays by tensor name, and the sizes of its dynamic axes. plain: the same before anything transformed it."""

    def __init__(
        self,
        workload: Workload,
        arrays: dict[str, np.ndarray[Any, Any]],
        sizes: dict[str, int],
        plain: Workload | None = None,
    ) -> None:
        self.workload = workload
        self.arrays = arrays
        self.sizes = sizes
        self.plain = plain or workload

    def fresh(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of the arrays."""
        return {n: a.copy() for n, a in self.arrays.items()}

    def __repr__(self) -> str:
        return f"{self.workload}\nsizes {self.sizes}"


@dataclass(frozen=True)
class Kernels:
    """Kernels over r x c tiles of a dtype, by what they take."""

    fill: Any
    copy: Any
    scale: Any
    power: Any
    join: Any
    product: Any
    accumulate: Any
    bare: Any


def clamp(x: Any) -> Any:
    return pto.maximum(pto.minimum(x, 64), -64)


@cache
def kernels(r: int, c: int, dtype: DType) -> Kernels:
    tile = Tile[r, c, dtype]

    @kernel
    def fill(s: Scalar[dtype], y: Out[tile]):
        pto.store(y, pto.broadcast(pto.full((1, 1), 0, dtype) + s, (r, c)))

    @kernel(name="a name with spaces, 'quotes' and $(echo)")
    def copy(x: In[tile], y: Out[tile]):
        pto.store(y, x)

    @kernel(name="work")
    def scale(x: In[tile], s: Scalar[dtype], y: Out[tile]):
        pto.store(y, clamp(x * 2 + s))

    @kernel(name="work")
    def power(x: In[tile], n: Constexpr[int], y: Out[tile]):
        v = x
        for _ in range(n):
            v = clamp(v * x)
        pto.store(y, v)

    @kernel
    def join(x: In[tile], z: In[tile], y: Out[tile]):
        pto.store(y, clamp(x - z + pto.rowmax(x)))

    @kernel
    def product(x: In[tile], z: In[tile], y: InOut[tile]):
        v = pto.rowsum(pto.matmul(x, z, transpose_b=True)) if dtype is DType.F32 else pto.rowmin(z)
        pto.store(y, clamp(y + v))

    @kernel
    def accumulate(x: In[tile], a: InOut[tile]):
        pto.store(a, clamp(a + x))

    @kernel
    def bare(x: In[Tensor], y: Out[Tensor]):
        pto.store(y, pto.abs(x))

    return Kernels(fill, copy, scale, power, join, product, accumulate, bare)


@dataclass
class Loop:
    mode: str  # "P" or "seq"
    var: str
    axis: Callable[[Env], Any]
    body: list[Loop | Task]
    schedule: Callable[[Any], Any] | None = None  # of a workload that the loop is then, called in its place


@dataclass
class Task:
    kernel: Any
    coords: bool
    args: dict[str, Callable[[Env], Any]]


@dataclass
class Scope:
    """What a statement may use: variables with their largest value (-1: the loop is empty), tile loops, roles."""

    largest: dict[str, int] = field(default_factory=dict)
    plain: tuple[str, ...] = ()  # plain P loops around, outermost first
    seqs: int = 0
    rows: str | None = None
    cols: str | None = None
    roles: dict[str, str] | None = None

    def inside(self, **changes: Any) -> Scope:
        return Scope(**{**self.__dict__, **changes})


class Drawing:
    """One case being drawn."""

    def __init__(self, draw: Callable[[Any], Any], inner: Inner | None = None, indexed: int = INDEXED) -> None:
        self.draw = draw
        self.inner = inner
        self.indexed = indexed
        self.dtype = draw(st.sampled_from(DTYPES))
        self.r, self.c = draw(st.integers(1, 5)), draw(st.integers(1, 8))
        self.R, self.C = self.r + draw(st.integers(0, 7)), self.c + draw(st.integers(0, 9))
        seed = np.random.default_rng(draw(st.integers(0, 2**16)))
        shape = (self.indexed, self.indexed, self.R, self.C)
        self.arrays = {n: seed.integers(-3, 4, shape).astype(self.dtype.numpy) for n in "ABC"}
        self.tensors: dict[str, Any] = {n: Tensor(a, name=n) for n, a in self.arrays.items()}
        self.kernels = kernels(self.r, self.c, self.dtype)
        self.sizes: dict[str, int] = {}
        self.count = 0

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    # indices

    def index(self, scope: Scope) -> Index:
        """An index of the first two dimensions in terms of the variables in scope."""
        n = self.draw(st.integers(0, self.indexed - 1))
        usable = [(v, max(m, 0)) for v, m in scope.largest.items() if m < self.indexed]
        if not usable or self.draw(st.integers(0, 3)) == 0:
            return lambda env: n
        v, m = self.draw(st.sampled_from(usable))
        off = n % (self.indexed - m)
        forms: list[Index] = [
            lambda env: env[v] + off,
            lambda env: m - env[v] + off,
            lambda env: env[v] // 2 + off,
            lambda env: (3 * env[v] + n) % self.indexed,
        ]
        if 2 * m < self.indexed:
            forms.append(lambda env: 2 * env[v])
        for u, k in usable:
            if u != v and m + k < self.indexed:
                forms.append(lambda env, u=u: env[v] + env[u])
        return self.draw(st.sampled_from(forms))

    def wild(self, scope: Scope) -> Index:
        """An index of the first two dimensions that no analysis can decide."""
        v, u = (self.draw(st.sampled_from(sorted(scope.largest))) for _ in "vu")
        n = self.draw(st.integers(0, self.indexed - 1))
        return lambda env: (env[v] * env[u] + n) % self.indexed

    def part(self, scope: Scope, tile: str | None, size: int, whole: int) -> Index:
        """Rows or columns of a view: the tile of the loop around, or a slice."""
        if tile is not None:
            return lambda env: env[tile]
        start = self.draw(st.integers(0, whole - size))
        usable = sorted(v for v, m in scope.largest.items() if 0 <= m <= whole - size)
        if usable and self.draw(st.booleans()):
            v = self.draw(st.sampled_from(usable))
            return lambda env: slice(env[v], env[v] + size)
        if size == whole and self.draw(st.booleans()):
            return lambda env: slice(None)
        return lambda env: slice(start, start + size)

    def view(self, name: str, scope: Scope) -> Callable[[Env], Any]:
        role = scope.roles[name] if scope.roles is not None else "in"
        a, b = self.index(scope), self.index(scope)
        if role == "own":
            fixed = [lambda env, v=v: env[v] for v in scope.plain]
            a, b = [*fixed, *(a, b)[len(fixed) :]]
        elif role == "wild":
            a = self.wild(scope)
        i, j = self.part(scope, scope.rows, self.r, self.R), self.part(scope, scope.cols, self.c, self.C)
        if self.draw(st.booleans()):
            return lambda env: self.tensors[name][a(env)][b(env)][i(env), j(env)]
        return lambda env: self.tensors[name][a(env), b(env), i(env), j(env)]

    # statements

    def task(self, scope: Scope) -> Task | None:
        k, roles = self.kernels, scope.roles
        names = sorted(self.tensors)
        outputs = names if roles is None else [n for n in names if roles[n] != "in"]
        if not outputs:
            return None
        out = self.draw(st.sampled_from(outputs))
        inputs = [n for n in names if n != out]
        one, two = (self.view(self.draw(st.sampled_from(inputs)), scope) for _ in "xz")
        y = self.view(out, scope)
        number = self.draw(st.integers(-3, 3))
        some = [v for v in sorted(scope.largest) if self.draw(st.booleans())][:1]

        def s(env: Env) -> Any:
            return sum((env[v] for v in some), number)

        which = self.draw(st.sampled_from(("fill", "copy", "scale", "power", "join", "product", "accumulate", "bare")))
        args = {
            "fill": {"s": s, "y": y},
            "copy": {"x": one, "y": y},
            "scale": {"x": one, "s": s, "y": y},
            "power": {"x": one, "n": lambda env: abs(number), "y": y},
            "join": {"x": one, "z": two, "y": y},
            "product": {"x": one, "z": two, "y": y},
            "accumulate": {"x": one, "a": y},
            "bare": {"x": one, "y": y},
        }[which]
        return Task(getattr(k, which), self.draw(st.booleans()), args)

    def axis(self, scope: Scope) -> tuple[Callable[[Env], Any], int]:
        """A plain axis and the largest value of its variable."""
        n = self.draw(st.sampled_from((3, 2, 4, 1, 0)))
        kind = self.draw(st.sampled_from(("range", "dense", "dyn", "bound", "triangle")))
        outer = sorted(v for v, m in scope.largest.items() if m <= 3)
        if kind == "triangle" and outer:
            v, more = self.draw(st.sampled_from(outer)), self.draw(st.integers(0, 1))
            return lambda env: env[v] + more, scope.largest[v] + more - 1
        if kind == "dyn":
            name = self.name("n")
            made = DenseDyn(n, name=name)
            self.sizes[name] = n
            return lambda env: made, n - 1
        if kind == "bound":
            name = self.name("n")
            later = DenseDyn(name)
            self.sizes[name] = n
            return lambda env: later, n - 1
        static = Dense[n](name=self.name("a"))
        return (lambda env: n, n - 1) if kind == "range" else (lambda env: static, n - 1)

    def tile_axis(self, size: int, whole: int) -> Callable[[Env], Any]:
        if whole == self.R and self.draw(st.booleans()):
            of = self.draw(st.sampled_from("ABC"))
            return lambda env: self.tensors[of][0, 0].tiles(size)
        if self.draw(st.booleans()):
            name = self.name("n")
            self.sizes[name] = whole
            dynamic = DenseDyn(whole, name=name)
            return lambda env: dynamic.tiles(size)
        return lambda env: Dense[whole]().tiles(size)

    def loop(self, scope: Scope, depth: int) -> Loop:
        modes = ["P"] * (len(scope.plain) < 2) + ["seq"] * (scope.seqs < 2)
        modes += ["rows"] * (scope.rows is None) + ["cols"] * (scope.cols is None)
        which = self.draw(st.sampled_from(modes or ["seq"]))
        var = self.name("v")
        mode = "seq" if which == "seq" or (which in ("rows", "cols") and self.draw(st.integers(0, 2)) == 0) else "P"
        changes: dict[str, Any] = {}
        if which in ("rows", "cols"):
            size, whole = (self.r, self.R) if which == "rows" else (self.c, self.C)
            axis = self.tile_axis(size, whole)
            changes[which] = var
            changes["largest"] = {**scope.largest, var: -(-whole // size) - 1}
        else:
            axis, largest = self.axis(scope)
            changes["largest"] = {**scope.largest, var: largest}
            if which == "P":
                changes["plain"] = (*scope.plain, var)
        if mode == "seq":
            changes["seqs"] = scope.seqs + 1
        elif scope.roles is None:
            roles = st.sampled_from(("own", "in", "own", "wild"))
            changes["roles"] = {n: self.draw(roles) for n in sorted(self.tensors)}
        loop = Loop(mode, var, axis, self.body(scope.inside(**changes), depth + 1))
        if self.inner is not None:
            loop.schedule = self.inner(self.draw, [f"{p}{k}" for p in "an" for k in range(1, self.count + 1)])
        return loop

    def body(self, scope: Scope, depth: int) -> list[Loop | Task]:
        out: list[Loop | Task] = []
        for _ in range(self.draw(st.integers(1, 2))):
            if depth < 3 and self.draw(st.integers(0, 2)) > (1 if depth else 0):
                out.append(self.loop(scope, depth))
            else:
                task = self.task(scope)
                out += [] if task is None else [task]
        return out


def emit(body: list[Loop | Task], env: Env, plain: bool = False) -> None:
    """Write statements in the traced language; `plain`: without schedules."""
    for s in body:
        if isinstance(s, Task):
            k = s.kernel[tuple(env.values())] if s.coords else s.kernel
            k(**{n: a(env) for n, a in s.args.items()})
        elif s.schedule is not None and not plain:
            part = workload(name="part")(lambda s=s: emit([replace(s, schedule=None)], env))
            s.schedule(part)()
        elif s.mode == "P" and len(s.body) == 1 and is_grid(s, s.body[0]):
            inner = s.body[0]
            assert isinstance(inner, Loop)
            for v, u in P(s.axis(env), inner.axis(env)):
                emit(inner.body, {**env, s.var: v, inner.var: u}, plain)
        else:
            for v in P.seq(s.axis(env)) if s.mode == "seq" else P(s.axis(env)):
                emit(s.body, {**env, s.var: v}, plain)


def is_grid(outer: Loop, inner: Loop | Task) -> bool:
    """Whether two loops can be written as one: the inner extent must not need the outer variable."""
    if not isinstance(inner, Loop) or inner.mode != "P" or inner.schedule is not None:
        return False
    try:
        inner.axis({})
    except KeyError:
        return False
    return True


@st.composite
def cases(
    draw: Callable[[Any], Any],
    *,
    windows: str = "anywhere",
    inner: Inner | None = None,
    part: Callable[[Any, Workload], Workload] | None = None,
) -> Case:
    """A case; windows: "anywhere", or "root" for at most one around everything. part: what parts, and parts of these, are scheduled by;
    inner: what a loop is scheduled by, with names that its tasks may have."""
    d = Drawing(draw, inner)

    def leaf() -> tuple[Workload, Workload]:
        body = d.body(Scope(), 0)

        @workload(name="random")
        def traced(plain):
            emit(body, {}, plain)

        plain = traced(True)
        return (plain if inner is None else traced(False)), plain

    def schedule(w: Workload) -> Workload:
        if part is not None:
            return part(draw, w)
        for _ in range(draw(st.integers(0, 1))):
            if windows == "anywhere" and draw(st.booleans()):
                w = w.task_graph(window=TaskWindow(draw(st.integers(1, 5))))
            else:
                w = w.dispatch(DispatchPolicy.round_robin(draw(st.integers(1, 5))))
        return w

    def tree(depth: int) -> tuple[Workload, Workload]:
        n = draw(st.integers(1, 3 if depth else 2)) if depth < 2 else 1
        if n == 1:
            w, plain = leaf()
        else:
            join = draw(st.sampled_from((combine, sequential)))
            w, plain = (join(*parts) for parts in zip(*(tree(depth + 1) for _ in range(n)), strict=True))
        return schedule(w), plain

    w, plain = tree(0)
    if windows == "root" and part is None and draw(st.booleans()):
        w = w.task_graph(window=TaskWindow(draw(st.integers(1, 6))))
    return Case(w, d.arrays, {n: v for n, v in d.sizes.items() if n in w.wir.symbols}, plain)
