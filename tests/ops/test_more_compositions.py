"""Operations made of others, on the machine and in the evaluator, beside numpy: every dtype, edges, tails, mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import DType, In, Out, P, Scalar, Tensor, Tile, kernel, pto, workload
from pto_wsp.errors import PtoError
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ops.rules import COMPUTED, FLOATS, NUMBERS, WITH_F64
from pto_wsp.passes.expand import expand

F32, F16, I8, U8, I32, U32, BOOL = DType.F32, DType.F16, DType.I8, DType.U8, DType.I32, DType.U32, DType.BOOL
RNG = np.random.default_rng(7)
INF, NAN = np.inf, np.nan


def on_machine(
    f: Callable[..., Any], *arrays: np.ndarray, shape: tuple[int, int], dtype: DType, rows: int = 5, exact: bool = True
) -> Any:
    """f of tiles of `rows` rows of the arrays (those of one row are whole), by the compiled program and, if exact, by the evaluator:
    the same numbers."""

    @kernel
    def one(a: In[Tensor], out: Out[Tensor]) -> None:
        pto.store(out, f(a))

    @kernel
    def two(a: In[Tensor], b: In[Tensor], out: Out[Tensor]) -> None:
        pto.store(out, f(a, b))

    @kernel
    def three(a: In[Tensor], b: In[Tensor], c: In[Tensor], out: Out[Tensor]) -> None:
        pto.store(out, f(a, b, c))

    k = (one, two, three)[len(arrays) - 1]

    @workload
    def w(a: Any, b: Any, c: Any, out: Any) -> None:
        for i in P(out.tiles(out.shape[0] if a.shape[0] != out.shape[0] else rows)):
            given = {
                n: x[i] if x.shape[0] == out.shape[0] else x for n, x in (("a", a), ("b", b), ("c", c))[: len(arrays)]
            }
            k[i](**given, out=out[i])

    given = [*arrays, *[arrays[0]] * (3 - len(arrays))]
    got, want = np.zeros(shape, dtype.numpy), np.zeros(shape, dtype.numpy)
    w(*given, got).compile(threads=1).run()
    if exact:
        evaluate(expand(w(*given, want).wir), {**dict(zip("abc", given, strict=True)), "out": want})
        same(got, want)
        there = want == want
        assert got[there].tobytes() == want[there].tobytes()
    return got


def code_of(make: Callable[[], object]) -> str:
    with pytest.raises(PtoError) as e:
        make()
    assert e.value.fix
    assert e.value.loc is not None
    assert e.value.loc.file == __file__
    return e.value.code


def some(dtype: DType, shape: tuple[int, int]) -> np.ndarray:
    """Numbers with edges and ties."""
    if dtype is BOOL:
        return RNG.random(shape) < 0.5
    if dtype.is_float:
        x = RNG.integers(-6, 7, shape) / 4
        x.flat[:6] = [0.0, -0.0, INF, -INF, NAN, 1e30]
        with np.errstate(over="ignore"):
            return x.astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    x = RNG.integers(0 if dtype.is_unsigned else -5, 6, shape).astype(dtype.numpy)
    x.flat[:4] = [info.max, info.min, info.max - 1, info.min + 1]
    return x


def same(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype
    wide = (got.astype(np.float64), want.astype(np.float64)) if got.dtype.kind not in "iub" else (got, want)
    np.testing.assert_array_equal(*wide)


# --- of elements ---


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_clamp_and_leaky_rectifiers(dtype: DType) -> None:
    x = some(dtype, (13, 8))
    low, high = (dtype.numpy.type(n) for n in (1, 3))
    with np.errstate(all="ignore"):
        got = on_machine(lambda x: pto.clamp(x, 1, 3), x, shape=x.shape, dtype=dtype)
        same(got, np.minimum(np.maximum(x, low), high))
        got = on_machine(lambda x: pto.clamp(x, 3, 1), x, shape=x.shape, dtype=dtype)
        same(got, np.where(x == x, low, x))
        got = on_machine(lambda x: pto.lrelu(x, 3), x, shape=x.shape, dtype=dtype)
        same(got, np.where(x > 0, x, x * high))
        slopes = some(dtype, (13, 8))[::-1].copy()
        same(on_machine(pto.prelu, x, slopes, shape=x.shape, dtype=dtype), np.where(x > 0, x, x * slopes))


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize(("axis", "shape"), [("row", (13, 1)), ("col", (1, 8))])
def test_a_number_for_each_row_or_column(axis: str, shape: tuple[int, int], dtype: DType) -> None:
    x, v = some(dtype, (13, 8)), some(dtype, shape)
    for name, f in (("maximum", np.maximum), ("minimum", np.minimum)):
        with np.errstate(all="ignore"):
            same(on_machine(getattr(pto, axis + name), x, v, shape=x.shape, dtype=dtype), f(x, v))
    if dtype in WITH_F64:
        with np.errstate(all="ignore"):
            difference = (x - v).astype(np.float64)
        got = on_machine(getattr(pto, f"{axis}expdif"), x, v, shape=x.shape, dtype=dtype, exact=False).astype(
            np.float64
        )
        ok = np.isfinite(got)
        eps = {F32: 2.0**-22, F16: 2.0**-10, DType.BF16: 2.0**-7, DType.F64: 2.0**-50}[dtype]
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(got[ok], np.exp(difference)[ok], rtol=eps, atol=1e-7)


def test_whether_one_or_all_are_true() -> None:
    x = RNG.random((13, 40)) < 0.05
    x[3], x[4] = True, False
    for f, of in ((np.any, "any"), (np.all, "all")):
        got = on_machine(getattr(pto, f"row{of}"), x, shape=(13, 1), dtype=BOOL)
        same(got, f(x, axis=1, keepdims=True))
        y = x.T.copy() if of == "any" else ~x.T
        got = on_machine(getattr(pto, f"col{of}"), y, shape=(1, 13), dtype=BOOL)
        same(got, f(y, axis=0, keepdims=True))


# --- triangles ---


@pytest.mark.parametrize(
    ("dtype", "diagonal"), [(d, (0, 2, -3, 99)[i % 4]) for i, d in enumerate(COMPUTED)] + [(F32, -3), (BOOL, 99)]
)
def test_triangles(dtype: DType, diagonal: int) -> None:
    x = some(dtype, (7, 9))
    zero = np.zeros_like(x)
    below = np.tri(7, 9, diagonal, dtype=bool)
    above = ~np.tri(7, 9, diagonal - 1, dtype=bool)
    same(on_machine(lambda x: pto.tril(x, diagonal), x, shape=x.shape, dtype=dtype, rows=7), np.where(below, x, zero))
    same(on_machine(lambda x: pto.triu(x, diagonal), x, shape=x.shape, dtype=dtype, rows=7), np.where(above, x, zero))
    for upper, want in ((False, below), (True, above)):
        f = lambda x, upper=upper: pto.tri(x.shape, diagonal, upper, dtype)  # noqa: E731
        same(on_machine(f, x, shape=x.shape, dtype=dtype, rows=7), want.astype(dtype.numpy))


def test_a_triangle_of_a_tail_whose_diagonal_the_task_says() -> None:
    @kernel
    def k(x: In[Tile[4, 8, F32]], n: Scalar[DType.I64], out: Out[Tile[4, 8, F32]]) -> None:
        pto.store(out, pto.tril(x, n * 4 - 2))

    @workload
    def w(x: Any, out: Any) -> None:
        for i in P(x.tiles(4)):
            k[i](x=x[i], n=i, out=out[i])

    x = RNG.normal(size=(10, 8)).astype(np.float32)
    out = np.full_like(x, 7)
    w(x, out).compile(threads=1).run()
    np.testing.assert_array_equal(out, np.tril(x, -2))


BEYOND = [10**30, -(10**30), 2**32, -(2**32), 2**31, -(2**31) - 1, np.int64(2**40)]


@pytest.mark.parametrize("diagonal", BEYOND, ids=str)
def test_a_diagonal_far_beyond_the_tile(diagonal: int) -> None:
    x = RNG.normal(size=(7, 9)).astype(np.float32)
    all_of_it, nothing = (x, 0 * x) if diagonal > 0 else (0 * x, x)
    at = {"shape": x.shape, "dtype": F32, "rows": 7}
    np.testing.assert_array_equal(on_machine(lambda x: pto.tril(x, diagonal), x, **at), all_of_it)
    np.testing.assert_array_equal(on_machine(lambda x: pto.triu(x, diagonal), x, **at), nothing)
    got = on_machine(lambda x: pto.tri(x.shape, diagonal), x, **at)
    np.testing.assert_array_equal(got, np.full_like(x, float(diagonal > 0)))


@pytest.mark.parametrize("dtype", [DType.I64, DType.U64, I32, U8], ids=str)
def test_the_diagonal_of_a_scalar_is_the_exact_integer(dtype: DType) -> None:
    numbers = {
        DType.I64: [2**32, -(2**32), 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), -8, -7, -3, 0, 8, 9],
        DType.U64: [2**32, 2**64 - 1, 2**63, 2**31, 0, 3],
        I32: [2**31 - 1, -(2**31), -3, 3],
        U8: [0, 3, 8, 255],
    }[dtype]

    @kernel
    def k(x: In[Tensor], n: In[Tensor], below: Out[Tensor], above: Out[Tensor], ones: Out[Tensor]) -> None:
        diagonal = pto.item(n, (0, 0))
        pto.store(below, pto.tril(x, diagonal))
        pto.store(above, pto.triu(x, diagonal))
        pto.store(ones, pto.tri(x.shape, diagonal, dtype=F32))

    @workload
    def w(x: Any, n: Any, below: Any, above: Any, ones: Any) -> None:
        for i in P(len(numbers)):
            k(x=x, n=n[i], below=below[i], above=above[i], ones=ones[i])

    x = RNG.normal(size=(7, 9)).astype(np.float32)
    n = np.array(numbers, dtype.numpy).reshape(-1, 1, 1)
    for run in (lambda wl, _: wl.compile(threads=1).run(), lambda wl, given: evaluate(expand(wl.wir), given)):
        results = {name: np.zeros((len(numbers), 7, 9), np.float32) for name in ("below", "above", "ones")}
        run(w(x, n, **results), {"x": x, "n": n, **results})
        for i, d in enumerate(numbers):
            near = max(min(d, 20), -20)
            np.testing.assert_array_equal(results["below"][i], np.tril(x, near))
            np.testing.assert_array_equal(results["above"][i], np.triu(x, near))
            np.testing.assert_array_equal(results["ones"][i], np.tri(7, 9, near))


# --- sorting ---


def ranked(x: np.ndarray, *, descending: bool) -> np.ndarray:
    """The columns in the order of the language: NaN first, then by value, then by column."""
    if x.dtype.kind in "iu":
        return np.argsort(~x if descending else x, axis=1, kind="stable")
    wide = x.astype(np.float64)
    return np.lexsort((np.where(np.isnan(wide), 0, -wide if descending else wide), ~np.isnan(wide)), axis=1)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("columns", [1, 130])
def test_sorting_rows_of_any_length(dtype: DType, columns: int) -> None:
    x = some(dtype, (13, max(columns, 2)))[:, :columns].copy()
    for descending in (True, False):
        order = ranked(x, descending=descending)
        got = on_machine(lambda x, d=descending: pto.argsort(x, d), x, shape=x.shape, dtype=I32)
        same(got, order.astype(np.int32))
        got = on_machine(lambda x, d=descending: pto.sort(x, d), x, shape=x.shape, dtype=dtype)
        same(got, np.take_along_axis(x, order, axis=1))


def test_sorting_rows_of_which_a_part_is_valid() -> None:
    @kernel
    def k(x: In[Tile[4, 16, F32]], out: Out[Tile[4, 16, F32]], at: Out[Tile[4, 16, I32]]) -> None:
        pto.store(out, pto.sort(x, descending=False))
        pto.store(at, pto.argsort(x, descending=False))

    @workload
    def w(x: Any, out: Any, at: Any) -> None:
        for i, j in P(x.tiles(4), x[0].tiles(16)):
            k[i, j](x=x[i, j], out=out[i, j], at=at[i, j])

    x = RNG.integers(-9, 9, (10, 27)).astype(np.float32)
    out, at = np.zeros_like(x), np.zeros(x.shape, np.int32)
    w(x, out, at).compile(threads=1).run()
    for part in (np.s_[0:16], np.s_[16:27]):
        order = np.argsort(x[:, part], axis=1, kind="stable")
        np.testing.assert_array_equal(at[:, part], order)
        np.testing.assert_array_equal(out[:, part], np.take_along_axis(x[:, part], order, axis=1))


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize(("names", "columns"), [(I32, 32), (U32, 96)])
def test_sort32(dtype: DType, names: DType, columns: int) -> None:
    x = some(dtype, (10, columns))
    index = RNG.permutation(x.size).reshape(x.shape).astype(names.numpy)
    order = ranked(x.reshape(-1, 32), descending=True)
    for k, (given, to) in enumerate(((x, dtype), (index, names))):
        got = on_machine(lambda x, i, k=k: pto.sort32(x, i)[k], x, index, shape=x.shape, dtype=to)
        same(got, np.take_along_axis(given.reshape(-1, 32), order, axis=1).reshape(x.shape))


@pytest.mark.parametrize(("dtype", "runs"), [(d, 2 + i % 2) for i, d in enumerate(NUMBERS)], ids=str)
def test_merging(dtype: DType, runs: int) -> None:
    widths = (5, 32, 9)[:runs]
    x = [some(dtype, (8, n)) for n in widths]
    x = [np.take_along_axis(t, ranked(t, descending=True), axis=1) for t in x]
    whole = np.concatenate(x, axis=1)
    order = ranked(whole, descending=True)

    def merged(k: int) -> Callable[..., Any]:
        def f(*tiles: Any) -> Any:
            ends = np.cumsum([0, *widths])
            names = [pto.iota(t.shape) + int(n) for t, n in zip(tiles, ends[:-1], strict=True)]
            return pto.merge_sort(tiles, names)[k]

        return f

    same(on_machine(merged(0), *x, shape=whole.shape, dtype=dtype), np.take_along_axis(whole, order, axis=1))
    same(on_machine(merged(1), *x, shape=whole.shape, dtype=I32), order.astype(np.int32))


# --- partly valid operands ---

PARTS: list[tuple[Any, Any, Any]] = [
    (pto.part_add, np.add, lambda d: 0),
    (pto.part_mul, np.multiply, lambda d: 1),
    (pto.part_max, np.maximum, lambda d: -INF if d.is_float else np.iinfo(d.numpy).min),
    (pto.part_min, np.minimum, lambda d: INF if d.is_float else np.iinfo(d.numpy).max),
]


@pytest.mark.parametrize("dtype", [F32, DType.BF16, DType.F64, I8, I32, DType.U16, DType.U64], ids=str)
@pytest.mark.parametrize(("f", "of", "neutral"), PARTS, ids=["add", "mul", "max", "min"])
def test_operands_of_which_parts_are_valid(f: Any, of: Any, neutral: Any, dtype: DType) -> None:
    """The valid parts are 3x8 and 4x5: in the corner beyond both the result is the number that changes nothing."""

    @kernel
    def k(a: In[Tile[4, 8, dtype]], b: In[Tile[4, 8, dtype]], out: Out[Tile[4, 8, dtype]]) -> None:
        pto.store(out, f(a, b))

    @workload
    def w(a: Any, b: Any, out: Any) -> None:
        k(a=a, b=b, out=out)

    @workload
    def cut(a: Any, b: Any, out: Any) -> None:
        for i, j in P(a.tiles(4), b[0].tiles(8)):
            k[i, j](a=a[i], b=b[:, j], out=out)

    whole_a, whole_b = some(dtype, (4, 8)), some(dtype, (4, 8))[::-1].copy()
    a, b = np.full((4, 8), neutral(dtype), dtype.numpy), np.full((4, 8), neutral(dtype), dtype.numpy)
    a[:3], b[:, :5] = whole_a[:3], whole_b[:, :5]
    out = np.zeros((4, 8), dtype.numpy)
    with np.errstate(all="ignore"):
        cut(whole_a[:3].copy(), whole_b[:, :5].copy(), out).compile(threads=1).run()
        same(out, of(a, b))
        w(whole_a, whole_b, out).compile(threads=1).run()
        same(out, of(whole_a, whole_b))


def test_what_is_copied_keeps_its_sign() -> None:
    zeros = np.array([[-0.0, 0.0, -0.0]], np.float32)
    one = np.zeros((1, 1), np.float32)
    for f in (pto.part_add, pto.part_mul, pto.part_max, pto.part_min):
        got = on_machine(lambda a, b, f=f: f(a, b), zeros, one[:, :1] + 1, shape=(1, 3), dtype=F32)
        assert np.signbit(got[0, 1:]).tolist() == [False, True]


# --- quantisation ---


@pytest.mark.parametrize("to", [I8, U8, DType.F8E4M3, DType.F8E5M2], ids=str)
@pytest.mark.parametrize("source", FLOATS, ids=str)
def test_quantize(source: DType, to: DType) -> None:
    x = (RNG.normal(size=(13, 16)) * 40).astype(source.numpy)
    x[0, :6] = [0.25, 0.75, -0.25, INF, -INF, 0.0]
    wide = x.astype(np.float32)
    low, high = (np.iinfo(to.numpy).min, np.iinfo(to.numpy).max) if to.is_integer else (0, 0)
    limit = {DType.F8E4M3: 448.0, DType.F8E5M2: 57344.0}.get(to, 0.0)

    def rounded(q: np.ndarray) -> np.ndarray:
        return (
            np.clip(np.rint(q), low, high).astype(to.numpy)
            if to.is_integer
            else np.clip(q, -limit, limit).astype(to.numpy)
        )

    rows = RNG.uniform(0.1, 2, (13, 1)).astype(np.float32)
    columns = RNG.uniform(0.1, 2, (1, 16)).astype(np.float32)
    got = on_machine(lambda x: pto.quantize(x, 0.5, to), x, shape=x.shape, dtype=to)
    same(got, rounded(wide / np.float32(0.5)))
    for scale in (rows, columns):
        got = on_machine(lambda x, s: pto.quantize(x, s, to), x, scale, shape=x.shape, dtype=to)
        same(got, rounded(wide / scale))
    if to.is_integer:
        zero = RNG.integers(low, high, (13, 1)).astype(to.numpy)
        f = lambda x, s, z: pto.quantize(x, s, to, z)  # noqa: E731
        got = on_machine(f, x, rows, zero, shape=x.shape, dtype=to)
        same(got, rounded(np.rint(wide / rows) + zero))
        # ties go to even before an odd zero point is added
        same(on_machine(lambda x: pto.quantize(x, 0.5, to, 5), x, shape=x.shape, dtype=to)[0, :3], rounded([5, 7, 5]))
        missing = np.full((5, 4), NAN, np.float32)
        assert not on_machine(lambda x: pto.quantize(x, 1.0, to, 5), missing, shape=(5, 4), dtype=to).any()


@pytest.mark.parametrize("source", [I8, U8, DType.I16, DType.U16, I32, DType.F8E4M3, DType.F8E5M2], ids=str)
@pytest.mark.parametrize("to", FLOATS, ids=str)
def test_dequantize(source: DType, to: DType) -> None:
    q = some(source, (13, 8))
    scale = RNG.uniform(0.01, 0.1, (13, 1)).astype(np.float32)
    wide = q.astype(np.float32)
    with np.errstate(all="ignore"):
        got = on_machine(lambda q, s: pto.dequantize(q, s, dtype=to), q, scale, shape=q.shape, dtype=to)
        same(got, (wide * scale).astype(to.numpy))
        if source.is_integer:
            zero = RNG.integers(0, 9, (1, 8)).astype(source.numpy)
            f = lambda q, s, z: pto.dequantize(q, s, z, to)  # noqa: E731
            got = on_machine(f, q, scale, zero, shape=q.shape, dtype=to)
            same(got, ((wide - zero.astype(np.float32)) * scale).astype(to.numpy))


def test_there_and_back_is_within_half_a_step() -> None:
    x = RNG.normal(size=(64, 32)).astype(np.float32)
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    f = lambda x, s: pto.dequantize(pto.quantize(x, s), s)  # noqa: E731
    back = on_machine(f, x, step, shape=x.shape, dtype=F32)
    assert (np.abs(back - x) <= step * 0.5001).all()


# --- random bits ---


def philox(key: int, counter: int, blocks: int) -> np.ndarray:
    out = []
    for n in range(counter, counter + blocks):
        c, k = [n >> 32 * i & 0xFFFFFFFF for i in range(4)], [key & 0xFFFFFFFF, key >> 32]
        for _ in range(10):
            p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
            c = [q >> 32 ^ c[1] ^ k[0], q & 0xFFFFFFFF, p >> 32 ^ c[3] ^ k[1], p & 0xFFFFFFFF]
            k = [(a + b) & 0xFFFFFFFF for a, b in zip(k, (0x9E3779B9, 0xBB67AE85), strict=True)]
        out += c
    return np.array(out, np.uint32)


def bits(shape: tuple[int, int], key: int, counter: int) -> np.ndarray:
    f = lambda x: pto.random_bits(shape, key, counter)  # noqa: E731
    return on_machine(f, np.zeros((999, 1), np.float32), shape=shape, dtype=U32)


def test_random_bits_of_published_vectors() -> None:
    assert [f"{w:08x}" for w in bits((1, 4), 0, 0)[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    known = bits((1, 4), 2**64 - 1, 2**128 - 1)
    assert [f"{w:08x}" for w in known[0]] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]
    pi = bits((1, 4), 0x299F31D0A4093822, 0x0370734413198A2E85A308D3243F6A88)
    assert [f"{w:08x}" for w in pi[0]] == ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"]


@pytest.mark.parametrize("shape", [(8, 32), (3, 7), (1, 1), (5, 2)])
@pytest.mark.parametrize("counter", [0, 2**64 - 3, 2**96 + 12345])
def test_random_bits_are_counted_row_by_row(shape: tuple[int, int], counter: int) -> None:
    size = shape[0] * shape[1]
    want = philox(2**63 + 99, counter, -(-size // 4))[:size].reshape(shape)
    np.testing.assert_array_equal(bits(shape, 2**63 + 99, counter), want)


def test_random_bits_of_scalars_of_the_task() -> None:
    @kernel
    def k(key: Scalar[DType.U64], n: Scalar[I32], out: Out[Tile[4, 8, U32]]) -> None:
        pto.store(out, pto.random_bits((4, 8), key, n * 8))

    @workload
    def w(key: Any, out: Any) -> None:
        for i in P(out.tiles(4)):
            k[i](key=key, n=i - 1, out=out[i])

    out = np.zeros((10, 8), np.uint32)
    w(np.uint64(2**64 - 5), out).compile(threads=1).run()
    want = np.concatenate([philox(2**64 - 5, 2**64 - 8, 8), philox(2**64 - 5, 0, 16)])[:80].reshape(10, 8)
    np.testing.assert_array_equal(out[4:], want[4:])


def test_random_bits_are_even() -> None:
    x = bits((64, 256), 12345, 0)
    ones = sum(int(b).bit_count() for b in x.ravel()) / (32 * x.size)
    assert abs(ones - 0.5) < 0.003
    assert len(np.unique(x)) > x.size - 5


# --- mistakes ---


def test_mistakes(k: Any) -> None:
    x, i, m = k.tile("x", 8, 64), k.tile("i", 8, 64, I32), k.tile("m", 8, 64, BOOL)
    column, row = k.tile("c", 8, 1), k.tile("r", 1, 64)
    assert code_of(lambda: pto.clamp(x, "a", 1)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.lrelu(1.0, 0.5)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.prelu(x, 0.5)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.rowmaximum(x, row)) == "PTO108"
    assert code_of(lambda: pto.colexpdif(x, column)) == "PTO108"
    assert code_of(lambda: pto.rowexpdif(i, k.tile("ic", 8, 1, I32))) == "PTO104"
    assert code_of(lambda: pto.rowany(x)) == "PTO104"
    assert code_of(lambda: pto.colall(True)) == "PTO105"
    assert code_of(lambda: pto.tri((4,))) == "PTO106"
    assert code_of(lambda: pto.tri((4, 4), 0.5)) == "PTO106"
    assert code_of(lambda: pto.tri((4, 4), k.scalar("f", F32))) == "PTO106"
    assert code_of(lambda: pto.tri((4, 4), 0, 1)) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.tri((4, 4), dtype=DType.F8E4M3)) == "PTO104"
    assert code_of(lambda: pto.tril(x, True)) == "PTO106"
    assert code_of(lambda: pto.triu(k.tile("f8", 4, 4, DType.F8E5M2))) == "PTO104"
    assert code_of(lambda: pto.sort(m)) == "PTO104"
    assert code_of(lambda: pto.sort(x, "up")) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.argsort(1)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.sort32(x, k.tile("j", 8, 32, I32))) == "PTO103"
    assert code_of(lambda: pto.sort32(column, k.tile("j1", 8, 1, I32))) == "PTO103"
    assert code_of(lambda: pto.sort32(x, x)) == "PTO104"
    assert code_of(lambda: pto.sort32(m, i)) == "PTO104"
    assert code_of(lambda: pto.merge_sort([x], [i])) == "PTO106"
    assert code_of(lambda: pto.merge_sort([x] * 5, [i] * 5)) == "PTO106"
    assert code_of(lambda: pto.merge_sort([x, x], [i])) == "PTO106"
    assert code_of(lambda: pto.merge_sort(x, i)) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.merge_sort([x, x], [i, k.tile("j2", 8, 4, I32)])) == "PTO103"
    assert code_of(lambda: pto.merge_sort([x, x], [x, x])) == "PTO104"
    assert code_of(lambda: pto.merge_sort([m, m], [i, i])) == "PTO104"
    assert code_of(lambda: pto.part_add(m, m)) == "PTO104"
    assert code_of(lambda: pto.part_max(x, 1.0)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.part_min(x, i)) == "PTO102"
    assert code_of(lambda: pto.quantize(i, 0.5)) == "PTO104"
    assert code_of(lambda: pto.quantize(x, 0.5, DType.I16)) == "PTO104"
    assert code_of(lambda: pto.quantize(x, 0)) == "PTO106"
    assert code_of(lambda: pto.quantize(x, NAN)) == "PTO106"
    assert code_of(lambda: pto.quantize(x, x)) == "PTO108"
    assert code_of(lambda: pto.quantize(x, k.tile("h", 8, 1, F16))) == "PTO104"
    assert code_of(lambda: pto.quantize(x, 0.5, I8, 0.5)) == "PTO106"
    assert code_of(lambda: pto.quantize(x, 0.5, DType.F8E4M3, 1)) == "PTO106"
    assert code_of(lambda: pto.quantize(x, 0.5, I8, column)) == "PTO104"
    assert code_of(lambda: pto.dequantize(x, 0.5)) == "PTO104"
    assert code_of(lambda: pto.dequantize(i, 0.5, dtype=I8)) == "PTO104"
    assert code_of(lambda: pto.dequantize(i, "s")) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.random_bits((4, 0), 1)) == "PTO106"
    for bad in (-1, 2**64, 0.5, True, x, k.scalar("s", F32)):
        assert code_of(lambda bad=bad: pto.random_bits((4, 4), bad)) == "PTO106"
    assert code_of(lambda: pto.random_bits((4, 4), 0, 2**128)) == "PTO106"
