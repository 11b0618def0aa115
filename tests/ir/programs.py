"""Random wir that keeps every rule, and arrays to evaluate it on; one for each seed.

It says all that workloads can: loops with and without conditions, branches, parts, scopes, reads of what tasks write, scalars,
slots, gathers and scatters with repeated rows, temporaries, results. Evaluating it may fail: an operation on scalars, an index.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np

from pto_wsp.errors import PtoError
from pto_wsp.ir.core import (
    At,
    Axis,
    DType,
    Eqn,
    Gather,
    In,
    IndexType,
    Literal,
    Region,
    RuleCall,
    ScalarType,
    Slice,
    Span,
    TileAt,
    TokenType,
    Var,
    View,
    ViewDim,
    Wir,
)
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.expr import Expr, const, maximum, minimum, symbol, var
from pto_wsp.ir.scalars import SCALAR_DTYPES, scalar_type
from pto_wsp.ir.text import parse

ROUND_ROBIN = RuleCall("mod", (RuleCall("position"), RuleCall("lanes")))

HEADER = parse("""workload w {
  symbol $n
  tensor X: f32[6,6,4]
  tensor Y: f32[6,6,4]
  tensor C: i32[6,6,4]
  tensor pages: i64[8]
  tensor lens: i32[6]
  tensor flags: bool[6]
  tensor wide: u64[6]
  tensor reals: f64[6]
  temporary T: f32[6,6,4]
  result R: f32[6,6,4]
  ragged seq: outer=6 lengths="lens"
  sparse routing: outer=$n indptr="pages" indices="lens" inner=6
  kernel copy "copy" (x: in f32<2x4>, y: out f32<2x4>) {
    a: f32<2x4 of x.rows x x.cols> = load x
    store y a
  }
  kernel bump "bump" (x: in f32<2x4>, s: f32, y: inout f32<2x4>) {
    a: f32<2x4 of x.rows x x.cols> = load x
    b: f32<2x4 of y.rows x y.cols> = load y
    c: f32<2x4 of x.rows x x.cols> = add a b
    d: f32<2x4 of x.rows x x.cols> = add c s
    e: f32<2x4 of x.rows x x.cols> = minimum d 64.0:f32
    store y e
  }
  kernel fill "fill" (s: i32, y: out i32<2x4>) {
    a: i32<2x4> = full[cols=4, rows=2] 1:i32
    b: i32<2x4> = mul a s
    store y b
  }
  kernel zero "zero" (y: out f32<6x4>) {
    a: f32<6x4> = full[cols=4, rows=6] 0.0:f32
    store y a
  }
  parallel_for z in z: Dense(6) {
    task zero[z](y=T[z, 0 :+ 6, 0 :+ 4])
  }
  return R
}""")
READABLE = {"C": (6, 6, 4), "pages": (8,), "lens": (6,), "flags": (6,), "wide": (6,), "reals": (6,), "X": (6, 6, 4)}
EDGES = {
    DType.I64: (0, 1, 2, 3, -1, 63, 2**63 - 1, -(2**63)),
    DType.U64: (0, 1, 2, 64, 2**64 - 1, 2**63),
    DType.F64: (0.0, -0.0, 1.5, -2.0, float("inf"), float("nan"), 1e300),
    DType.BOOL: (True, False),
}


class Maker:
    """Equations of one program; `names` are the loop variables and i64 scalars in scope, `scalars` all scalars in scope."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.count = 0
        self.loops: list[str] = []
        self.scalars: list[Var] = []
        self.tokens: list[str] = []

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    @contextmanager
    def scope(self):
        loops, scalars = list(self.loops), list(self.scalars)
        yield
        self.loops, self.scalars = loops, scalars

    # values

    def index(self, size: int) -> Expr:
        """Of 0 .. size - 1, seldom outside."""
        names = self.loops + [v.name for v in self.scalars if v.type == ScalarType(DType.I64)]
        if not names or self.rng.random() < 0.3:
            return const(self.rng.randrange(size))
        e = var(self.rng.choice(names)) + self.rng.choice((0, 0, 1))
        return e if self.rng.random() < 0.02 else minimum(maximum(e, const(0)), const(size - 1))

    def value(self, dtype: DType) -> In:
        known = [v for v in self.scalars if v.type == ScalarType(dtype)]
        if known and self.rng.random() < 0.7:
            return self.rng.choice(known)
        if dtype is DType.I64 and self.rng.random() < 0.4:
            return self.index(6)
        return Literal(self.rng.choice(EDGES[dtype]), dtype)

    def define(self, prim: str, ins: tuple[In, ...], dtype: DType, **params: Any) -> Eqn:
        v = Var(self.fresh("v"), ScalarType(dtype))
        self.scalars.append(v)
        return Eqn(prim, (v,), ins, params)

    def read(self) -> Eqn:
        tensor = self.rng.choice(list(READABLE))
        dtype = HEADER.tensor_type(tensor).dtype
        prims = ["item", "reduce_any", "reduce_all"]
        prims += [] if dtype is DType.BOOL else ["reduce_sum", "reduce_max", "reduce_min"]
        prim = self.rng.choice(prims)
        dims: list[ViewDim] = []
        for size in READABLE[tensor]:
            kind = self.rng.choice(("at", "slice", "tile", "span") if prim != "item" else ("at",))
            if kind == "at":
                dims.append(At(self.index(size)))
            elif kind == "slice":
                dims.append(Slice(const(self.rng.randrange(2)), size - 1))
            elif kind == "tile":
                dims.append(TileAt(self.index(2), 2, const(size), self.rng.choice((const(0), self.index(2)))))
            else:
                dims.append(Span(const(0), self.index(size)))
        logical = prim in ("reduce_any", "reduce_all")
        out = DType.BOOL if logical else dtype.scalar
        return self.define(prim, (View(tensor, tuple(dims)),), out)

    def scalar(self) -> Eqn:
        dtype = self.rng.choice(SCALAR_DTYPES)
        by = {
            DType.I64: "add sub mul floordiv mod and or xor not shl shr eq ne lt le gt ge min max abs neg where cast",
            DType.F64: "add sub mul floordiv mod div eq ne lt le gt ge min max abs neg where cast",
            DType.BOOL: "and or xor not eq ne where cast",
        }
        prim = "s." + self.rng.choice(by[DType.I64 if dtype is DType.U64 else dtype].split())
        params: dict[str, Any] = {"checked": True} if self.rng.random() < 0.1 else {}
        if prim == "s.cast":
            params["to"] = self.rng.choice((DType.I64, DType.F64, DType.U64, DType.BOOL))
        count = 1 if prim in ("s.not", "s.abs", "s.neg", "s.cast") else 2
        ins = [self.value(dtype) for _ in range(count)]
        if prim in ("s.shl", "s.shr") and self.rng.random() < 0.9:
            ins[1] = Literal(self.rng.randrange(64), dtype)
        if prim in ("s.floordiv", "s.mod", "s.div") and self.rng.random() < 0.9:
            ins[1] = Literal(3.0 if dtype is DType.F64 else 3, dtype)
        dtypes = [dtype] * count
        if prim == "s.where":
            ins, dtypes = [self.value(DType.BOOL), *ins], [DType.BOOL, *dtypes]
        return self.define(prim, tuple(ins), scalar_type(prim, params, dtypes), **params)

    def slot(self) -> Eqn:
        slot = self.rng.randrange(8)
        dtype = SCALAR_DTYPES[slot % 4]
        if self.rng.random() < 0.5:
            return self.define("slot_get", (), dtype, slot=slot)
        return Eqn("slot_set", (), (self.value(dtype),), {"slot": slot})

    # tasks

    def rows(self) -> ViewDim:
        """Two rows of six; one may not be there at a tile's end."""
        kind = self.rng.choice(("slice", "slice", "gather", "gather"))
        if kind == "slice":
            return Slice(self.index(5), 2)
        return Gather(View("pages", (Slice(self.index(7), 2),)))

    def view(self, tensors: str) -> View:
        cols = Gather(View("pages", (Slice(const(0), 4),))) if self.rng.random() < 0.05 else Slice(const(0), 4)
        return View(self.rng.choice(tensors), (At(self.index(6)), self.rows(), cols))

    def task(self) -> Eqn:
        coords = tuple(var(n) for n in self.loops)
        kernel = self.rng.choice(("copy", "bump", "fill"))
        ins: list[In]
        if kernel == "fill":
            ins = [self.rng.choice((Literal(7, DType.I32), self.index(6))), self.view("C")]
        else:
            into = self.view("YTR")
            out = "".join(t for t in "XYTR" if t != into.tensor)
            ins = [self.view(out), into]
            if kernel == "bump":
                numbers = [v for v in self.scalars if v.type != ScalarType(DType.BOOL)]
                ins.insert(1, self.rng.choice(numbers) if numbers else self.index(3))
        params: dict[str, Any] = {"kernel": kernel, "coords": coords}
        if self.tokens and self.rng.random() < 0.5:
            params["after"] = tuple(self.rng.sample(self.tokens, 1))
        outs: tuple[Var, ...] = ()
        if self.rng.random() < 0.3:
            self.tokens.append(self.fresh("t"))
            outs = (Var(self.tokens[-1], TokenType()),)
        return Eqn("task", outs, tuple(ins), params)

    # regions

    def region(self, depth: int, params: tuple[Var, ...] = ()) -> Region:
        with self.scope():
            self.loops += [v.name for v in params]
            return Region(params, tuple(self.eqn(depth) for _ in range(self.rng.randint(0, 4))))

    def loop(self, depth: int) -> Eqn:
        prim = self.rng.choice(("parallel_for", "seq_for"))
        kind = self.rng.choice(("Dense", "Range", "Ragged", "Tiles"))
        few = minimum(self.index(4), const(5))  # negative ones too, but never what takes minutes to walk
        size = self.rng.choice((const(self.rng.randrange(4)), few, symbol("n")))
        name = self.fresh("i")
        v = Var(name, IndexType())
        regions = [self.region(depth + 1, (v,))]
        if prim == "seq_for" and self.rng.random() < 0.5:
            with self.scope():
                self.loops.append(name)
                eqns = [self.rng.choice((self.read, self.scalar))() for _ in range(2)]
                regions.append(Region((), (*eqns, Eqn("yield", (), (self.value(DType.BOOL),)))))
        axis = Axis(kind, self.rng.choice(("seq", name)), size, 2 if kind == "Tiles" else 1)
        return Eqn(prim, (), (), {"axis": axis, "loop": self.rng.choice((name, "b"))}, tuple(regions))

    def cond(self, depth: int) -> Eqn:
        condition, then = self.value(DType.BOOL), self.region(depth + 1)
        other = self.region(depth + 1) if self.rng.random() < 0.6 else Region((), ())
        return Eqn("cond", (), (condition,), {}, (then, other))

    def parts(self, depth: int) -> Eqn:
        prim = self.rng.choice(("combine", "sequential"))
        return Eqn(prim, regions=tuple(self.region(depth + 1) for _ in range(2)))

    def dispatch(self, depth: int) -> Eqn:
        return Eqn(
            "dispatch",
            params={"policy": "round_robin", "lanes": 2, "lane": ROUND_ROBIN},
            regions=(self.region(depth + 1),),
        )

    def eqn(self, depth: int) -> Eqn:
        flat: list[Callable[[], Eqn]] = [self.read, self.scalar, self.scalar, self.slot, self.task, self.task]
        deep = [self.loop, self.loop, self.cond, self.parts, self.dispatch]
        if depth < 4 and self.rng.random() < 0.45:
            return self.rng.choice(deep)(depth)
        return self.rng.choice(flat)()


def program(seed: int) -> Wir:
    """The program of a seed."""
    maker = Maker(random.Random(seed))
    # a temporary holds nothing of its own
    return HEADER.with_body(*HEADER.body.eqns, *(maker.eqn(0) for _ in range(maker.rng.randint(2, 8))))


def arrays(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Small numbers for every tensor that is given; `pages` repeats some."""
    rng = np.random.default_rng(seed)
    out = {n: rng.integers(0, 5, (6, 6, 4)).astype(d) for n, d in (("X", "f4"), ("Y", "f4"), ("C", "i4"))}
    out["pages"] = rng.integers(0, 4 if seed % 8 else 7, 8)
    out["lens"] = rng.integers(0, 4, 6).astype("i4")
    out["flags"] = rng.integers(0, 2, 6).astype(bool)
    out["wide"] = rng.integers(0, 5, 6).astype("u8") * np.uint64(2**61)
    out["reals"] = rng.integers(-3, 3, 6) / 2
    return out


SLOTS = {0: 2, 1: 2**63, 2: -0.5, 3: True}
"""What slots begin with."""


def sizes(seed: int) -> dict[str, int]:
    return {"n": seed % 4}


def bits(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, bytes]:
    """What has to be equal: bits, of which NaNs have any."""
    out: dict[str, bytes] = {}
    for name, a in arrays.items():
        out[name] = (np.where(np.isnan(a), np.float32(np.nan), a) if a.dtype == np.float32 else a).tobytes()
    return out


def meaning(wir: Wir, seed: int) -> dict[str, bytes] | str:
    """The bits of every array after the program ran, results included; of one that fails its error."""
    given = arrays(seed)
    try:
        results = evaluate(wir, given, sizes(seed), SLOTS)
    except PtoError as e:
        return f"{e.code} {e.what}"
    return bits(given | results)
