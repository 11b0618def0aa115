"""Every operation on elements, and every reduction, on the machine in every dtype, beside the references: edges, tails, strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pto_wsp import DType, In, Out, P, Scalar, Tensor, kernel, pto, workload
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ops.conversion import ROUNDINGS
from pto_wsp.ops.rules import COMPUTED, GROUPS
from pto_wsp.ops.table import Row, rows
from pto_wsp.runtime.core import core

FAMILIES = ("arithmetic", "bits", "comparison", "functions")
LEAVES = [r for r in rows() if r.kind.startswith("leaf") and r.name in pto.__all__]
ELEMENTS = [
    r for r in LEAVES if any(getattr(pto, r.name).__module__.endswith(f) for f in FAMILIES) and r.name != "where"
]
REDUCTIONS = [r for r in LEAVES if r.name[:3] in ("row", "col") and r.name[3:] in ("sum", "prod", "max", "min")]
NEW = [d for d in COMPUTED if d not in (DType.F32, DType.F16, DType.BF16)]
BUSY = np.random.default_rng(0)


def edges(dtype: DType) -> list[float | int | bool]:
    if dtype is DType.BOOL:
        return [False, True]
    if dtype.is_float:
        return [0.0, -0.0, 1.0, -1.5, 2.5, float("inf"), -float("inf"), float("nan"), 1e-310, -3.7, 1e30, 7.0]
    info = np.iinfo(dtype.numpy)
    return [
        0,
        1,
        2,
        3,
        7,
        int(info.max),
        int(info.min),
        int(info.max) - 1,
        int(info.bits) - 1,
        int(info.bits),
        int(info.min) // 3,
    ]


def operands(dtype: DType, count: int, shape: tuple[int, int]) -> list[np.ndarray]:
    """Every pair of edges somewhere, in arrays whose columns do not lie side by side."""
    values = np.array(edges(dtype), dtype.numpy)
    size = shape[0] * shape[1]
    first = np.resize(np.repeat(values, len(values)), size)
    second = np.resize(np.tile(values, len(values)), size)
    return [np.repeat(a.reshape(shape), 2, axis=1)[:, ::2] for a in (first, second, np.roll(second, 5))[:count]]


def both(
    f: Any, arrays: list[np.ndarray], shape: tuple[int, int], dtype: DType, tile: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the machine and the evaluator make of tiles of `tile` rows, the last one a tail."""

    @kernel
    def k(a: In[Tensor], b: In[Tensor], c: In[Tensor], out: Out[Tensor]) -> None:
        pto.store(out, f(*[a, b, c][: len(arrays)]))

    given = [*arrays, *[arrays[0]] * (3 - len(arrays))]

    @workload
    def w(a: Any, b: Any, c: Any, out: Any) -> None:
        for i in P(a.tiles(tile)):
            k[i](a=a[i], b=b[i], c=c[i], out=out[i])

    got, want = np.zeros(shape, dtype.numpy), np.zeros(shape, dtype.numpy)
    evaluate(w(*given, want).wir, {"a": given[0], "b": given[1], "c": given[2], "out": want})
    w(*given, got).compile(threads=2).run()
    return got, want


def same(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_array_equal(got, want)
    if want.dtype.kind == "f":
        there = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[there]), np.signbit(want[there]))


@pytest.mark.parametrize(
    ("row", "dtype"), [(r, d) for r in ELEMENTS for d in r.dtypes if d in NEW], ids=lambda x: str(getattr(x, "name", x))
)
def test_elements(row: Row, dtype: DType) -> None:
    count = row.shapes.split(" -> ")[0].count("[")
    arrays = operands(dtype, count, (13, 12))
    result = DType.BOOL if row.name in ("eq", "ne", "lt", "le", "gt", "ge") else dtype
    got, want = both(getattr(pto, row.name), arrays, (13, 12), result, 5)
    if row.name == "fma":  # the reference rounds the product too
        with np.errstate(all="ignore"):
            a, b, c = (np.abs(x) for x in arrays)
            bound = 2**-52 * (a * b + c)
        close = np.isfinite(want) & np.isfinite(bound)
        np.testing.assert_array_less(np.abs(got[close] - want[close]), bound[close] + 2**-1073)
        np.testing.assert_array_equal(got[~close], want[~close])
    elif dtype is DType.F64 and "ulp" in row.error:  # 2 of the C library, 4 of numpy
        np.testing.assert_allclose(got, want, rtol=6 * 2**-52, atol=2**-1072)
    else:
        same(got, want)


@pytest.mark.parametrize("dtype", list(GROUPS["floats"]), ids=str)
@pytest.mark.parametrize("name", ["fmod", "rem", "round", "expm1", "log1p", "pow"])
def test_functions_rounded_once(name: str, dtype: DType) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.normal(0, 30, (9, 17)).astype(dtype.numpy) for _ in range(1 + (name in ("fmod", "rem", "pow")))]
    if name in ("log1p", "pow"):
        arrays[0] = np.abs(arrays[0])
    if name in ("expm1", "pow"):
        arrays[-1] = (arrays[-1] / 64).astype(dtype.numpy)
    got, want = both(getattr(pto, name), arrays, (9, 17), dtype, 4)
    assert np.isfinite(want.astype(np.float64)).all()
    same(got.astype(np.float64), want.astype(np.float64))


OF_F64 = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


@pytest.mark.parametrize("name", OF_F64)
def test_functions_of_f64(name: str) -> None:
    """Within the 2 ulp that the page states, beside the 64-bit significands of long double."""
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (9, 17)) * 10.0 ** rng.integers(-8, 2, (9, 17))
    arrays = [x] if name != "pow" else [np.abs(x), rng.normal(0, 5, x.shape)]
    if name.startswith("log") or name == "rsqrt":
        arrays = [np.abs(x)]
    got, _ = both(getattr(pto, name), arrays, x.shape, DType.F64, 4)
    exact = OF_F64[name](*(a.astype(np.longdouble) for a in arrays))
    assert (np.abs(got - exact) <= 2 * np.spacing(np.abs(exact).astype(np.float64))).all()


@pytest.mark.parametrize(
    ("row", "dtype"),
    [(r, d) for r in REDUCTIONS for d in r.dtypes if d in NEW],
    ids=lambda x: str(getattr(x, "name", x)),
)
def test_reductions(row: Row, dtype: DType) -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(0 if dtype.is_unsigned else -3, 4, (10, 37)).astype(dtype.numpy)
    if dtype.is_integer:
        x[0, :11], x[7, 3] = edges(dtype), edges(dtype)[6]
    of_rows = row.name.startswith("row")
    shape = (10, 1) if of_rows else (2, 37)
    if of_rows:
        got, want = both(getattr(pto, row.name), [x], shape, dtype, 4)
        return same(got, want)

    @kernel
    def k(a: In[Tensor], out: Out[Tensor]) -> None:
        pto.store(out, getattr(pto, row.name)(a))

    @workload
    def w(a: Any, out: Any) -> None:
        for i in P(a.shape[0] // 5):
            k[i](a=a[i * 5 : i * 5 + 5], out=out[i : i + 1])

    got, want = np.zeros(shape, dtype.numpy), np.zeros(shape, dtype.numpy)
    evaluate(w(x, want).wir, {"a": x, "out": want})
    w(x, got).compile(threads=1).run()
    return same(got, want)


def numbers(dtype: DType) -> np.ndarray:
    """Numbers that say something in any dtype they are cast to, 5 x 16."""
    if dtype is DType.BOOL:
        return BUSY.random((5, 16)) < 0.5
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        some = BUSY.integers(info.min, info.max, (5, 16), dtype.numpy, endpoint=True)
        some[0, :4] = [info.min, info.max, 0, 1]
        some[1] >>= dtype.numpy.type(info.bits // 2)
        return some
    x = BUSY.normal(0, 1, (5, 16)) * 10.0 ** BUSY.integers(-6, 12, (5, 16))
    x[0, :14] = [0, -0.0, 0.5, 1.5, -0.5, -2.5, 1e9, -1e9, np.inf, -np.inf, np.nan, 448, 464, 300.5]
    with np.errstate(over="ignore"):
        return x.astype(dtype.numpy)


@pytest.mark.parametrize("to", list(DType), ids=str)
@pytest.mark.parametrize("source", list(DType), ids=str)
def test_casts(source: DType, to: DType) -> None:
    x = numbers(source)
    level = core().isa()
    try:
        for isa in core().isas():
            core().set_isa(isa)
            got, want = both(lambda a: pto.cast(a, to), [x], x.shape, to, 2)
            same(got.astype(np.float64) if to.is_float else got, want.astype(np.float64) if to.is_float else want)
    finally:
        core().set_isa(level)


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(
    "to",
    [*GROUPS["integers"], DType.F16, DType.BF16, DType.F8E4M3, DType.F8E5M2, DType.F32],
    ids=str,
)
def test_casts_as_told(to: DType, rounding: str, saturate: bool) -> None:
    for source in (DType.F64, DType.F32):
        x = numbers(source)
        got, want = both(lambda a: pto.cast(a, to, rounding, saturate), [x], x.shape, to, 2)
        same(got.astype(np.float64) if to.is_float else got, want.astype(np.float64) if to.is_float else want)


def test_casts_of_known_numbers() -> None:
    x = np.array([[2.5, -2.5, 3.5, 300.0, -300.0, np.nan, 448.0, 1000.0]])

    def cast(to: DType, *how: Any) -> list[Any]:
        return both(lambda a: pto.cast(a, to, *how), [x], x.shape, to, 1)[0].astype(np.float64)[0].tolist()

    assert cast(DType.I8) == [2, -2, 3, 127, -128, 0, 127, 127]
    assert cast(DType.I8, "rint") == [2, -2, 4, 127, -128, 0, 127, 127]
    assert cast(DType.I8, "round", False) == [3, -3, 4, 44, -44, 0, -64, -24]
    assert cast(DType.U8, "ceil") == [3, 0, 4, 255, 0, 0, 255, 255]
    assert cast(DType.U8, "rint", False) == [2, 254, 4, 44, 212, 0, 192, 232]
    assert cast(DType.I16, "odd") == [3, -3, 3, 300, -300, 0, 448, 1000]
    assert cast(DType.F8E4M3, None, True)[6:] == [448, 448]
    assert np.isnan(cast(DType.F8E4M3)[7])
    assert cast(DType.F8E5M2)[6:] == [448, 1024]


@pytest.mark.parametrize("to", [d for d in GROUPS["integers"] if d.is_unsigned], ids=str)
@pytest.mark.parametrize("native", [False, True])
def test_floats_wrap_to_unsigned_integers(to: DType, native: bool) -> None:
    """As the exact integers do, after they were cut to 64 bits."""
    near = [0, 1, 255, 256, 300, 65535, 65536, 2**31, 2**32 - 256, 2**32, 2**53, 2**63, 2**64 - 2**40]
    x = np.array([[*near, *(-n for n in near), 2.0**64, 1e30, np.inf, -1e30, -np.inf, np.nan]], np.float32)
    exact = [0 if np.isnan(v) else int(np.clip(np.float64(v), -(2.0**63), 2.0**64)) for v in x[0]]
    want = [min(n, 2**64 - 1) % 2 ** (8 * to.itemsize) for n in exact]

    @kernel
    def k(a: In[Tensor], out: Out[Tensor]) -> None:
        pto.store(out, pto.cast(a * 2.0 * 0.5, to, saturate=False))  # a chain to fuse before

    @workload
    def w(a: Any, out: Any) -> None:
        k(a=a, out=out)

    evaluated = np.zeros(x.shape, to.numpy)
    evaluate(w(x, evaluated).wir, {"a": x, "out": evaluated})
    assert evaluated[0].tolist() == want
    level = core().isa()
    try:
        for isa in core().isas():
            core().set_isa(isa)
            got = np.zeros(x.shape, to.numpy)
            w(x, got).compile(threads=1, native=native).run()
            assert got[0].tolist() == want
    finally:
        core().set_isa(level)


@pytest.mark.parametrize("shape", [(7, 19, 5), (33, 700, 70)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "result"), [(DType.I8, DType.I32), (DType.U8, DType.I32), (DType.F64, DType.F64)], ids=str
)
@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, False), (True, True)])
def test_products(dtype: DType, result: DType, flags: tuple[bool, bool], shape: tuple[int, int, int]) -> None:
    """Of integers the largest there are, and sums that wrap; at every level."""
    rng = np.random.default_rng(3)
    (ta, tb), (m, k, n) = flags, shape
    low, high = (-9, 9) if dtype is DType.F64 else (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max + 1)
    a, b = rng.integers(low, high, (m, k)), rng.integers(low, high, (k, n))
    a[0], b[:, 0] = (high - 1, high - 1) if dtype is DType.U8 else (low, low)
    a, b = (np.ascontiguousarray(x.T if t else x).astype(dtype.numpy) for x, t in ((a, ta), (b, tb)))
    c = rng.integers(-9, 9, (m, n)).astype(result.numpy)
    if result is DType.I32:
        c[0] = 2**31 - 5

    @kernel
    def product(a: In[Tensor], b: In[Tensor], c: In[Tensor], out: Out[Tensor]) -> None:
        pto.store(out, pto.matmul(a, b, c, transpose_a=ta, transpose_b=tb))

    @workload
    def w(a: Any, b: Any, c: Any, out: Any) -> None:
        product(a=a, b=b, c=c, out=out)

    wide = [x.astype(np.int64) for x in (a.T if ta else a, b.T if tb else b)]
    want = (wide[0] @ wide[1] + c.astype(np.int64)).astype(result.numpy)
    level = core().isa()
    try:
        for isa in core().isas():
            core().set_isa(isa)
            got = np.zeros((m, n), result.numpy)
            w(a, b, c, got).compile(threads=1).run()
            np.testing.assert_array_equal(got, want)
    finally:
        core().set_isa(level)


@pytest.mark.parametrize("dtype", list(DType), ids=str)
def test_fill_pad_of_tails(dtype: DType) -> None:
    """Tiles of 8 x 16 over 13 x 37 elements: what is beyond is the fill, also where nothing of the last tile is."""
    x = numbers(dtype)[:1].repeat(13, axis=0).repeat(3, axis=1)[:, :37].copy()
    fill = {DType.BOOL: True}.get(dtype, 3)
    got = np.zeros((16, 48), dtype.numpy)
    want = np.full((16, 48), fill, dtype.numpy)
    want[:13, :37] = x

    @kernel
    def k(a: In[Tensor[None, None, dtype]], i: Scalar[DType.I32], j: Scalar[DType.I32], out: Out[Tensor]) -> None:
        pto.store(out, pto.fill_pad(pto.load(a, (i * 8, j * 16), (8, 16)), fill))

    @workload
    def w(a: Any, out: Any) -> None:
        for i, j in P(2, 3):
            k[i, j](a=a, i=i, j=j, out=out[i * 8 : i * 8 + 8, j * 16 : j * 16 + 16])

    w(x, got).compile(threads=2).run()
    assert got.tobytes() == want.tobytes()


def test_fill_pad_into_a_larger_tile() -> None:
    x = np.arange(15, dtype=np.int32).reshape(3, 5)

    @kernel
    def k(a: In[Tensor], n: Scalar[DType.I32], out: Out[Tensor]) -> None:
        pto.store(out, pto.fill_pad(a, n, (4, 7)))

    @workload
    def w(a: Any, out: Any) -> None:
        k(a=a, n=-7, out=out)

    got = np.zeros((4, 7), np.int32)
    w(x, got).compile(threads=1).run()
    np.testing.assert_array_equal(got, np.pad(x, ((0, 1), (0, 2)), constant_values=-7))


@pytest.mark.parametrize("dtype", list(DType), ids=str)
def test_take_and_put(dtype: DType) -> None:
    x = numbers(dtype)
    index = BUSY.permutation(x.size)[:21].reshape(3, 7).astype(np.int32)

    @kernel
    def k(a: In[Tensor], at: In[Tensor], taken: Out[Tensor], out: Out[Tensor]) -> None:
        found = pto.take(a, at)
        pto.store(taken, found)
        pto.store(out, pto.put(a, at, pto.slice(found, (0, 3), (0, 7))))

    @workload
    def w(a: Any, at: Any, taken: Any, out: Any) -> None:
        k(a=a, at=at, taken=taken, out=out)

    taken, out = np.zeros((3, 7), dtype.numpy), np.zeros(x.shape, dtype.numpy)
    w(x, index, taken, out).compile(threads=1).run()
    assert taken.tobytes() == x.reshape(-1)[index].tobytes()
    assert out.tobytes() == x.tobytes()
