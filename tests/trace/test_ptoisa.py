"""Kernels of instructions: what they compute, as kernels written with `pto`, and what they are as wir."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Constexpr,
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    Tensor,
    Tile,
    TraceError,
    TypeCheckError,
    kernel,
    pto,
    ptoisa,
    ptoisa_kernel,
    workload,
)
from pto_wsp.ir.text import show_kernel
from pto_wsp.trace.ptoisa.instruction import INSTRUCTIONS

F32, F16, I32, BOOL = DType.F32, DType.F16, DType.I32, DType.BOOL
RNG = np.random.default_rng(19)


def run(of: Any, /, **arrays: Any) -> None:
    """One task of the kernel."""

    @workload
    def w():
        of(**{n: Tensor(x) if isinstance(x, np.ndarray) else x for n, x in arrays.items()})

    w().compile(threads=1).run()


def test_elementwise() -> None:
    @ptoisa_kernel
    def add(x: In[Tile[16, 128, F32]], y: In[Tile[16, 128, F32]], out: Out[Tile[16, 128, F32]]):
        a, b = ptoisa.tile(16, 128), ptoisa.tile(16, 128)
        ptoisa.TASSIGN(a, 0x0)
        ptoisa.TASSIGN(b, 0x2000)
        ptoisa.TLOAD(a, x)
        ptoisa.TLOAD(b, y)
        ptoisa.set_flag(ptoisa.PIPE_MTE2, ptoisa.PIPE_V, ptoisa.EVENT_ID0)
        ptoisa.wait_flag(ptoisa.PIPE_MTE2, ptoisa.PIPE_V, ptoisa.EVENT_ID0)
        ptoisa.TADD(a, a, b)
        ptoisa.TSTORE(out, a)

    x, y, out = (RNG.standard_normal((16, 128), dtype=np.float32) for _ in range(3))
    run(add, x=x, y=y, out=out)
    np.testing.assert_array_equal(out, x + y)


def test_it_is_the_kernel_that_pto_makes() -> None:
    @ptoisa_kernel(name="same")
    def of_instructions(x: In[Tile[8, 64, F32]], s: Scalar[F32], out: Out[Tile[8, 64, F32]]):
        a = ptoisa.tile(8, 64)
        ptoisa.TLOAD(a, x)
        ptoisa.TEXP(a, a)
        ptoisa.TMULS(a, a, s)
        ptoisa.TSTORE(out, a)

    @kernel(name="same")
    def of_operations(x: In[Tile[8, 64, F32]], s: Scalar[F32], out: Out[Tile[8, 64, F32]]):
        pto.store(out, pto.exp(x) * s)

    assert show_kernel(of_instructions.wir()) == show_kernel(of_operations.wir())


def softmax_rows(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def test_softmax() -> None:
    @ptoisa_kernel
    def softmax(x: In[Tile[16, 128, F32]], out: Out[Tile[16, 128, F32]]):
        a, tmp, v = ptoisa.tile(16, 128), ptoisa.tile(16, 128), ptoisa.tile(16, 1)
        ptoisa.TLOAD(a, x)
        ptoisa.TROWMAX(v, a, tmp)
        ptoisa.TROWEXPANDSUB(a, a, v)
        ptoisa.TEXP(a, a)
        ptoisa.TROWSUM(v, a, tmp)
        ptoisa.TROWEXPANDDIV(a, a, v)
        ptoisa.TSTORE(out, a)

    x = (RNG.standard_normal((16, 128)) * 10).astype(np.float32)
    out = np.empty_like(x)
    run(softmax, x=x, out=out)
    np.testing.assert_allclose(out, softmax_rows(x), rtol=2e-6, atol=1e-7)


@ptoisa_kernel
def gemm(a: In[Tile[64, 128, F16]], b: In[Tile[128, 32, F16]], steps: Constexpr[int], out: Out[Tile[64, 32, F32]]):
    k = 128 // steps
    whole_a, whole_b = (ptoisa.tile(*shape, F16, loc=ptoisa.TileType.Mat) for shape in ((64, 128), (128, 32)))
    ptoisa.TLOAD(whole_a, a)
    ptoisa.TLOAD(whole_b, b)
    left, right, acc = ptoisa.TileLeft(64, k), ptoisa.TileRight(k, 32), ptoisa.TileAcc(64, 32)
    for i in range(steps):
        ptoisa.TEXTRACT(left, whole_a, 0, i * k)
        ptoisa.TEXTRACT(right, whole_b, i * k, 0)
        if i == 0:
            ptoisa.TMATMUL(acc, left, right)
        else:
            ptoisa.TMATMUL_ACC(acc, acc, left, right)
    ptoisa.TSTORE(out, acc)


@pytest.mark.parametrize("steps", [1, 4])
def test_cube(steps: int) -> None:
    a, b = (RNG.integers(-4, 5, shape).astype(np.float16) for shape in ((64, 128), (128, 32)))
    out = np.empty((64, 32), np.float32)
    run(gemm, a=a, b=b, steps=steps, out=out)
    np.testing.assert_array_equal(out, a.astype(np.float32) @ b.astype(np.float32))


def test_a_product_with_bias() -> None:
    @ptoisa_kernel
    def linear(a: In[Tile[16, 32, F32]], b: In[Tile[32, 8, F32]], c: In[Tile[1, 8, F32]], out: Out[Tile[16, 8, F16]]):
        place = ptoisa.TileType
        left, right = ptoisa.TileLeft(16, 32, F32), ptoisa.TileRight(32, 8, F32)
        moved = [ptoisa.tile(*s, F32, loc=place.Mat) for s in ((16, 32), (32, 8), (1, 8))]
        bias, acc = ptoisa.tile(1, 8, F32, loc=place.Bias), ptoisa.TileAcc(16, 8)
        for tile, x in zip(moved, (a, b, c), strict=True):
            ptoisa.TLOAD(tile, x)
        for tile, x in zip((left, right, bias), moved, strict=True):
            ptoisa.TMOV(tile, x)
        ptoisa.TMATMUL_BIAS(acc, left, right, bias)
        ptoisa.TSTORE(out, acc)

    a, b, c = (RNG.integers(-4, 5, shape).astype(np.float32) for shape in ((16, 32), (32, 8), (1, 8)))
    out = np.empty((16, 8), np.float16)
    run(linear, a=a, b=b, c=c, out=out)
    np.testing.assert_array_equal(out, (a @ b + c).astype(np.float16))


def test_loops_helpers_and_generators() -> None:
    def scaled(tile: ptoisa.Register, by: float) -> Iterator[ptoisa.Event]:
        yield ptoisa.TMULS(tile, tile, by)

    def helper(tile: ptoisa.Register) -> None:
        ptoisa.TADDS(tile, tile, 1.0)

    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], times: Constexpr[int], out: Out[Tile[4, 8, F32]]):
        a = ptoisa.tile(4, 8)
        yield ptoisa.TLOAD(a, x)
        for i in range(times):
            yield from scaled(a, 2.0)
            helper(a)
            yield scaled(a, 1.0 + i), [ptoisa.TNEG(a, a), ptoisa.TABS(a, a)]
        yield ptoisa.TSTORE(out, a)

    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    out = np.empty_like(x)
    run(k, x=x, times=3, out=out)
    want = x
    for i in range(3):
        want = np.abs((want * 2 + 1) * (1 + i))
    np.testing.assert_array_equal(out, want)


def test_events_are_waited_for_by_order() -> None:
    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], out: Out[Tile[4, 8, F32]]):
        a, b = ptoisa.tile(4, 8), ptoisa.tile(4, 8)
        loaded = ptoisa.TLOAD(a, x)
        done = ptoisa.TEXP(b, a, loaded)
        ptoisa.TSYNC(done)
        ptoisa.TSYNC()
        ptoisa.pipe_barrier(ptoisa.PIPE_V)
        ptoisa.TSTORE(out, b, done)

    x = np.zeros((4, 8), np.float32)
    out = np.empty_like(x)
    run(k, x=x, out=out)
    assert (out == 1).all()


def test_registers_at_one_address_are_one() -> None:
    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], out: Out[Tile[4, 8, F32]]):
        a, b = ptoisa.tile(4, 8), ptoisa.tile(4, 8)
        ptoisa.TASSIGN(a, 64)
        ptoisa.TASSIGN(b, 64)
        ptoisa.TLOAD(a, x)
        ptoisa.TSTORE(out, b)

    x = RNG.standard_normal((4, 8), dtype=np.float32)
    out = np.empty_like(x)
    run(k, x=x, out=out)
    np.testing.assert_array_equal(out, x)


def test_tails() -> None:
    """Tiles of which only a part is valid: by the data, and by declaration."""

    @ptoisa_kernel
    def double(x: In[Tile[4, 8, F32]], out: Out[Tile[4, 8, F32]]):
        a = ptoisa.tile(4, 8)
        ptoisa.TLOAD(a, x)
        ptoisa.TADD(a, a, a)
        ptoisa.TSTORE(out, a)

    @workload
    def w(x: Any, out: Any) -> None:
        for i in P(x.tiles(4)):
            double(x=x[i], out=out[i])

    x = RNG.standard_normal((10, 8), dtype=np.float32)
    out = np.empty_like(x)
    w(x, out).compile(threads=1).run()
    np.testing.assert_array_equal(out, 2 * x)

    @ptoisa_kernel
    def part(x: In[Tile[3, 5, F32]], out: Out[Tile[3, 5, F32]]):
        a = ptoisa.tile(8, 8, valid=(3, 5))
        ptoisa.TLOAD(a, x)
        ptoisa.TADD(a, a, a)
        ptoisa.TSTORE(out, a)

    small = np.empty((3, 5), np.float32)
    run(part, x=np.ascontiguousarray(x[:3, :5]), out=small)
    np.testing.assert_array_equal(small, 2 * x[:3, :5])


Body = Callable[..., Any]
X = RNG.integers(1, 9, (8, 32)).astype(np.float32)
Y = RNG.integers(1, 9, (8, 32)).astype(np.float32)
V = RNG.integers(1, 9, (8, 1)).astype(np.float32)
H = RNG.integers(1, 9, (1, 32)).astype(np.float32)
N = RNG.integers(-9, 9, (8, 32)).astype(np.int32)
B = RNG.integers(1, 9, (8, 32)).astype(np.int32)
NARROW = RNG.integers(-128, 128, (8, 32)).astype(np.int8)
UNSIGNED = RNG.integers(0, 60000, (8, 32)).astype(np.uint16)
SCALE = RNG.uniform(0.1, 9, (8, 1)).astype(np.float32)
SHIFT = RNG.integers(-9, 9, (8, 1)).astype(np.float32)
OFFSET = (RNG.integers(0, 32, (8, 4)) * 32).astype(np.uint32)
INDEX = RNG.integers(0, 256, (8, 32)).astype(np.int32)
ROWS = np.stack([RNG.permutation(8) for _ in range(32)], axis=1).astype(np.int32)
relu = lambda x: np.maximum(x, 0)  # noqa: E731


def odd(x: np.ndarray) -> np.ndarray:
    down = np.trunc(x)
    return np.where((down == x) | (down % 2 == 1), down, down + 1).astype(np.int32)


def inside(part: np.ndarray, rest: float) -> np.ndarray:
    out = np.full((8, 32), rest, part.dtype)
    out[: part.shape[0], : part.shape[1]] = part
    return out


def philox(key: int, counter: int, blocks: int) -> np.ndarray:
    """Philox4x32-10, block by block."""
    out = []
    for n in range(counter, counter + blocks):
        c, k = [n >> 32 * i & 0xFFFFFFFF for i in range(4)], [key & 0xFFFFFFFF, key >> 32]
        for _ in range(10):
            p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
            c = [q >> 32 ^ c[1] ^ k[0], q & 0xFFFFFFFF, p >> 32 ^ c[3] ^ k[1], p & 0xFFFFFFFF]
            k = [(a + b) & 0xFFFFFFFF for a, b in zip(k, (0x9E3779B9, 0xBB67AE85), strict=True)]
        out += c
    return np.array(out, np.uint32)


# instruction, what stands between the destination and the end, numpy's answer (of the destination's old value d where it is read)
CASES: list[tuple[str, tuple[Any, ...], Callable[..., Any]]] = [
    ("TADD", (X, Y), lambda: X + Y),
    ("TSUB", (X, Y), lambda: X - Y),
    ("TMUL", (X, Y), lambda: X * Y),
    ("TDIV", (X, Y), lambda: X / Y),
    ("TMAX", (X, Y), lambda: np.maximum(X, Y)),
    ("TMIN", (X, Y), lambda: np.minimum(X, Y)),
    ("TADDC", (X, Y, X), lambda: X + Y + X),
    ("TSUBC", (X, Y, X), lambda: X - Y + X),
    ("TADDS", (X, 2.5), lambda: X + np.float32(2.5)),
    ("TSUBS", (X, 2.5), lambda: X - np.float32(2.5)),
    ("TMULS", (X, 2.5), lambda: X * np.float32(2.5)),
    ("TDIVS", (X, 2.0), lambda: X / 2),
    ("TDIVS", (2.0, X), lambda: np.float32(2) / X),
    ("TMAXS", (X, 4.0), lambda: np.maximum(X, 4)),
    ("TMINS", (X, 4.0), lambda: np.minimum(X, 4)),
    ("TADDSC", (X, 2.0, Y), lambda: X + 2 + Y),
    ("TSUBSC", (X, 2.0, Y), lambda: X - 2 + Y),
    ("TEXP", (X,), lambda: np.exp(X)),
    ("TLOG", (X,), lambda: np.log(X)),
    ("TSQRT", (X,), lambda: np.sqrt(X)),
    ("TRSQRT", (X,), lambda: 1 / np.sqrt(X)),
    ("TRECIP", (X,), lambda: 1 / X),
    ("TABS", (N,), lambda: np.abs(N)),
    ("TNEG", (N,), lambda: -N),
    ("TRELU", (X - 5,), lambda: relu(X - 5)),
    ("TAXPY", (X, 3.0), lambda d: X * 3 + d),
    ("TFUSEDMULADD", (X, Y), lambda d: d * X + Y),
    ("TFUSEDMULADDRELU", (X - 5, Y), lambda d: relu(d * (X - 5) + Y)),
    ("TMULADDDST", (X, Y), lambda d: X * Y + d),
    ("TSUBRELU", (X, Y), lambda: relu(X - Y)),
    ("TLRELU", (X - 5, 0.25), lambda: np.where(X > 5, X - 5, (X - 5) / 4)),
    ("TPRELU", (X - 5, Y), lambda: np.where(X > 5, X - 5, (X - 5) * Y)),
    ("TADDRELUCONV", (X - 9, Y), lambda: relu(X - 9 + Y).astype(np.float16)),
    ("TSUBRELUCONV", (X, Y), lambda: relu(X - Y).astype(np.float16)),
    ("TCMP", (X, Y, ptoisa.CmpMode.LT), lambda: X < Y),
    ("TCMP", (X, Y, ptoisa.CmpMode.GE), lambda: X >= Y),
    ("TCMP", (X, Y), lambda: X == Y),
    ("TCMPS", (X, 4.0, ptoisa.CmpMode.NE), lambda: X != 4),
    ("TCMPS", (X, 4.0, ptoisa.CmpMode.GT), lambda: X > 4),
    ("TCMPS", (X, 4.0, ptoisa.CmpMode.LE), lambda: X <= 4),
    ("TSEL", (X < Y, X, Y), lambda: np.minimum(X, Y)),
    ("TSELS", (X < Y, X, 0.5), lambda: np.where(X < Y, X, np.float32(0.5))),
    ("TEXPANDS", (7.0,), lambda: np.full((8, 32), 7, np.float32)),
    ("TCVT", (X,), lambda: X.astype(np.float16)),
    ("TREM", (N, B), lambda: N % B),
    ("TFMOD", (N, B), lambda: np.fmod(N, B)),
    ("TREMS", (N, -4), lambda: N % -4),
    ("TFMODS", (X - 5, 2.5), lambda: np.fmod(X - 5, np.float32(2.5))),
    ("TAND", (N, B), lambda: N & B),
    ("TAND", (X < Y, X < 4), lambda: (X < Y) & (X < 4)),
    ("TOR", (UNSIGNED, UNSIGNED[::-1]), lambda: UNSIGNED | UNSIGNED[::-1]),
    ("TOR", (X < Y, X < 4), lambda: (X < Y) | (X < 4)),
    ("TXOR", (NARROW, NARROW[::-1]), lambda: NARROW ^ NARROW[::-1]),
    ("TXOR", (X < Y, X < 4), lambda: (X < Y) ^ (X < 4)),
    ("TNOT", (UNSIGNED,), lambda: ~UNSIGNED),
    ("TNOT", (X < Y,), lambda: X >= Y),
    ("TANDS", (N, 6), lambda: N & 6),
    ("TORS", (NARROW, 6), lambda: NARROW | np.int8(6)),
    ("TXORS", (UNSIGNED, 60000), lambda: UNSIGNED ^ np.uint16(60000)),
    ("TSHL", (N, B), lambda: N << B),
    ("TSHR", (N, B), lambda: N >> B),
    ("TSHLS", (UNSIGNED, 3), lambda: UNSIGNED << np.uint16(3)),
    ("TSHRS", (NARROW, 2), lambda: NARROW >> np.int8(2)),
    ("TPOW", (X, Y / 2), lambda: np.power(X, Y / 2)),
    ("TPOWS", (X, 0.5), lambda: np.sqrt(X)),
    ("TPARTADD", (X, Y[:5, :9]), lambda: X + inside(Y[:5, :9], 0)),
    ("TPARTMUL", (X[:3, :16], Y), lambda: inside(X[:3, :16], 1) * Y),
    ("TPARTMAX", (N, B[:5, :9]), lambda: np.maximum(N, inside(B[:5, :9], -(2**31)))),
    ("TPARTMIN", (X - 5, Y[:5, :9]), lambda: np.minimum(X - 5, inside(Y[:5, :9], np.inf))),
    ("TADDDEQRELU", (N, B, 0.25), lambda: relu((N + B) * 0.25).astype(np.float16)),
    ("TPACK", (N * 1000,), lambda: (N * 1000).astype(np.int8)),
    ("TQUANT", (X - 5, SCALE), lambda: np.rint((X - 5) * SCALE).astype(np.int8)),
    (
        "TQUANT",
        (X - 5, 9 * SCALE, SHIFT),
        lambda: np.clip(np.rint((X - 5) * (9 * SCALE) + SHIFT), 0, 255).astype(np.uint8),
    ),
    ("TDEQUANT", (NARROW, SCALE, SHIFT), lambda: (NARROW - SHIFT) * SCALE),
    ("TCVT", (X / 2, ptoisa.RoundMode.CAST_ROUND), lambda: np.floor(X / 2 + 0.5).astype(np.int32)),
    ("TCVT", (X / 3, ptoisa.RoundMode.CAST_ODD), lambda: odd(X / 3)),
    ("TCVT", (X * 70 - 300, ptoisa.RoundMode.CAST_NONE), lambda: np.clip(X * 70 - 300, -128, 127).astype(np.int8)),
    (
        "TCVT",
        (X * 70 - 300, ptoisa.RoundMode.CAST_RINT, ptoisa.SaturationMode.OFF),
        lambda: (X * 70 - 300).astype(np.int32).astype(np.int8),
    ),
    (
        "TCVT",
        (N * 99, ptoisa.RoundMode.CAST_FLOOR, ptoisa.SaturationMode.ON),
        lambda: np.clip(N * 99, -128, 127).astype(np.int8),
    ),
    ("TCVT", (N, ptoisa.RoundMode.CAST_RINT), lambda: N.astype(np.float32)),
    ("TCVT", (X / 2, ptoisa.RoundMode.CAST_CEIL), lambda: np.ceil(X / 2)),
    ("TCVT", (X / 2, ptoisa.RoundMode.CAST_RINT), lambda: np.rint(X / 2).astype(np.int32)),
    ("TCVT", (X / 2, ptoisa.RoundMode.CAST_FLOOR), lambda: np.floor(X / 2).astype(np.int32)),
    ("TCVT", (X / 2, ptoisa.RoundMode.CAST_CEIL), lambda: np.ceil(X / 2).astype(np.int32)),
    ("TCVT", (-X / 2, ptoisa.RoundMode.CAST_TRUNC), lambda: np.trunc(-X / 2).astype(np.int32)),
    ("TROWSUM", (X,), lambda: X.sum(1, keepdims=True)),
    ("TROWMAX", (X,), lambda: X.max(1, keepdims=True)),
    ("TROWMIN", (X,), lambda: X.min(1, keepdims=True)),
    ("TROWPROD", (X[:, :4],), lambda: X[:, :4].prod(1, keepdims=True)),
    ("TCOLSUM", (X,), lambda: X.sum(0, keepdims=True)),
    ("TCOLMAX", (X,), lambda: X.max(0, keepdims=True)),
    ("TCOLMIN", (X,), lambda: X.min(0, keepdims=True)),
    ("TCOLPROD", (X,), lambda: X.prod(0, keepdims=True)),
    ("TROWEXPAND", (X,), lambda: np.repeat(X[:, :1], 32, 1)),
    ("TCOLEXPAND", (X,), lambda: np.repeat(X[:1], 8, 0)),
    *(
        (f"T{axis}EXPAND{suffix}", (X, v), lambda f=f, v=v: f(X, v))
        for axis, v in (("ROW", V), ("COL", H))
        for suffix, f in (
            ("ADD", np.add),
            ("SUB", np.subtract),
            ("MUL", np.multiply),
            ("DIV", np.divide),
            ("MAX", np.maximum),
            ("MIN", np.minimum),
            ("EXPDIF", lambda a, b: np.exp(a - b)),
        )
    ),
    ("TROWARGMAX", (X,), lambda: X.argmax(1, keepdims=True).astype(np.int32)),
    ("TROWARGMIN", (X,), lambda: X.argmin(1, keepdims=True).astype(np.int32)),
    ("TCOLARGMAX", (X,), lambda: X.argmax(0, keepdims=True).astype(np.int32)),
    ("TCOLARGMIN", (X,), lambda: X.argmin(0, keepdims=True).astype(np.int32)),
    ("TPAIRREDUCESUM", (X,), lambda: X[:, ::2] + X[:, 1::2]),
    ("THISTOGRAM", (INDEX % 16,), lambda: np.bincount((INDEX % 16).ravel(), minlength=16)[None].astype(np.int32)),
    ("TMOV", (X,), X.copy),
    ("TEXTRACT", (X, 2, 3), X[2:6, 3:19].copy),
    ("TSUBVIEW", (X, 2, 3), X[2:6, 3:19].copy),
    ("TINSERT", (X[:4, :16], 2, 3), lambda d: np.block([[d[:2]], [d[2:6, :3], X[:4, :16], d[2:6, 19:]], [d[6:]]])),
    ("TINSERT", (X[:4], 4, 0), lambda d: np.block([[d[:4]], [X[:4]]])),
    ("TRESHAPE", (X,), lambda: X.reshape(16, 16)),
    ("TTRANS", (X,), X.T.copy),
    ("TCONCAT", (X, Y), lambda: np.concatenate([X, Y], 1)),
    ("TCI", (3,), lambda: np.repeat(np.arange(3, 35, dtype=np.int32)[None], 1, 0)),
    ("TCI", (40, True), lambda: np.arange(40, 8, -1, dtype=np.int32)[None]),
    ("TTRI", (1,), lambda: np.tri(8, 32, 1, dtype=np.float32)),
    ("TTRI", (-1, True), lambda: np.triu(np.ones((8, 32), np.float32), -1)),
    ("TRANDOM", (1, 2**64), lambda: philox(1, 2**64, 64).reshape(8, 32)),
    ("TGATHER", (X, INDEX), lambda: X.ravel()[INDEX]),
    ("TGATHERB", (X, OFFSET), lambda: X.reshape(32, 8)[OFFSET // 32].reshape(8, 32)),
    *(
        ("TGATHER", (X, getattr(ptoisa.MaskPattern, name)), lambda first=first, step=step: X[:, first::step].copy())
        for name, first, step in (
            *(("P0101", 0, 2), ("P1010", 1, 2), ("P0001", 0, 4), ("P0010", 1, 4)),
            *(("P0100", 2, 4), ("P1000", 3, 4), ("P1111", 0, 1)),
        )
    ),
]


def scattered(d: np.ndarray) -> np.ndarray:
    out = d.copy()
    np.put_along_axis(out, ROWS, X, axis=0)
    return out


CASES.append(("TSCATTER", (X, ROWS), scattered))
READS_DESTINATION = {n for n, i in INSTRUCTIONS.items() if "inout" in i.forms[0]}
SHORT = {d.numpy: d for d in DType}
TESTED_ELSEWHERE = {
    *("TLOAD", "TSTORE", "TPREFETCH", "TMATMUL", "TMATMUL_ACC", "TMATMUL_BIAS", "TGEMV", "TGEMV_ACC", "TGEMV_BIAS"),
    *("TINTERLEAVE", "TDEINTERLEAVE", "TSTORE_FP", "TSORT32", "TMRGSORT", "MGATHER", "MSCATTER"),
    *("TFILLPAD", "TFILLPAD_INPLACE", "TFILLPAD_EXPAND"),
}


def tile_of(x: np.ndarray) -> Any:
    return Tile[x.shape[0], x.shape[1], SHORT[x.dtype]]


@pytest.mark.parametrize(("name", "operands", "answer"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)])
def test_an_instruction(name: str, operands: tuple[Any, ...], answer: Callable[..., Any]) -> None:
    reads_destination = name in READS_DESTINATION
    old = RNG.integers(1, 9, (8, 32)).astype(np.float32)
    want = answer(old) if reads_destination else answer()
    arrays = [np.ascontiguousarray(x) for x in operands if isinstance(x, np.ndarray)]
    want = np.ascontiguousarray(want)

    def body(dest: Any, **inputs: Any) -> None:
        values = iter(inputs.values())
        registers = []
        for x in operands:
            if isinstance(x, np.ndarray):
                register = ptoisa.tile(*x.shape, SHORT[x.dtype])
                ptoisa.TLOAD(register, next(values))
                registers.append(register)
            else:
                registers.append(x)
        target = ptoisa.tile(*want.shape, SHORT[want.dtype])
        if reads_destination:
            ptoisa.TLOAD(target, dest)
        getattr(ptoisa, name)(target, *registers)
        ptoisa.TSTORE(dest, target)

    parameters = ", ".join(f"x{i}: In[tiles[{i}]]" for i in range(len(arrays)))
    names = ", ".join(f"x{i}=x{i}" for i in range(len(arrays)))
    scope = {"In": In, "InOut": InOut, "tiles": [tile_of(x) for x in arrays], "to": tile_of(want), "body": body}
    exec(f"def k(dest: InOut[to]{', ' if arrays else ''}{parameters}):\n    body(dest, {names})\n", scope)
    dest = np.ascontiguousarray(old if reads_destination else np.zeros_like(want))
    run(ptoisa_kernel(scope["k"]), dest=dest, **{f"x{i}": x for i, x in enumerate(arrays)})
    np.testing.assert_allclose(dest, want, rtol=1e-6)


def test_every_instruction_is_tested() -> None:
    assert {n for n, _, _ in CASES} | TESTED_ELSEWHERE == set(INSTRUCTIONS)
    assert set(INSTRUCTIONS) <= set(ptoisa.__all__)
    assert all(getattr(ptoisa, n).__doc__ for n in INSTRUCTIONS)


def test_interleaving() -> None:
    @ptoisa_kernel
    def k(x: In[Tile[2, 4, F32]], y: In[Tile[2, 4, F32]], p: Out[Tile[2, 4, F32]], q: Out[Tile[2, 4, F32]]):
        a, b, c, d = (ptoisa.tile(2, 4) for _ in range(4))
        ptoisa.TPREFETCH(a, x)
        ptoisa.TLOAD(a, x)
        ptoisa.TLOAD(b, y)
        ptoisa.TINTERLEAVE(c, d, a, b)
        ptoisa.TSTORE(p, c)
        ptoisa.TDEINTERLEAVE(a, b, c, d)
        ptoisa.TSTORE(q, b)

    x, y = np.arange(8, dtype=np.float32).reshape(2, 4), np.arange(8, 16, dtype=np.float32).reshape(2, 4)
    p, q = np.empty_like(x), np.empty_like(x)
    run(k, x=x, y=y, p=p, q=q)
    np.testing.assert_array_equal(p, np.stack([x, y], 2).reshape(2, 8)[:, :4])
    np.testing.assert_array_equal(q, y)


@pytest.mark.parametrize("dtype", [F32, F16, I32, DType.U8, BOOL], ids=str)
@pytest.mark.parametrize("pad", ["Zero", "Max", "Min"])
def test_what_is_not_valid_is_filled(dtype: DType, pad: str) -> None:
    value = ptoisa.PadValue[pad]

    @ptoisa_kernel
    def k(x: In[Tile[4, 8, dtype]], out: InOut[Tile[4, 8, dtype]], wide: InOut[Tile[6, 16, dtype]]):
        a, b = ptoisa.tile(4, 8, dtype, valid=(None, None)), ptoisa.tile(4, 8, dtype, pad=value)
        c = ptoisa.tile(6, 16, dtype, pad=value)
        ptoisa.TLOAD(a, x)
        ptoisa.TFILLPAD(b, a)
        ptoisa.TFILLPAD_INPLACE(b, a)
        ptoisa.TFILLPAD_EXPAND(c, a)
        ptoisa.TSTORE(out, b)
        ptoisa.TSTORE(wide, c)

    if dtype is BOOL and pad != "Zero":
        with pytest.raises(TypeCheckError, match="nothing to be filled with"):
            k.wir()
        return

    @workload
    def w(x: Any, out: Any, wide: Any) -> None:
        for j in P(x[0].tiles(8)):
            k[j](x=x[:, j], out=out[:, j * 8 : j * 8 + 8], wide=wide[:, j * 16 : j * 16 + 16])

    x = RNG.integers(1, 9, (4, 13)).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy) if dtype.is_integer else None
    number = {"Zero": 0, "Max": info.max if info else np.inf, "Min": info.min if info else -np.inf}[pad]
    out, wide = np.zeros((4, 16), dtype.numpy), np.zeros((6, 32), dtype.numpy)
    w(x, out, wide).compile(threads=1).run()
    for tile, n in ((out[:, :8], 8), (out[:, 8:], 5), (wide[:, :16], 8), (wide[:, 16:], 5)):
        want = np.full(tile.shape, number, dtype.numpy)
        want[:4, :n] = x[:, :8] if n == 8 else x[:, 8:]
        np.testing.assert_array_equal(tile, want)


def test_elements_of_memory_by_their_numbers() -> None:
    @ptoisa_kernel
    def k(
        table: In[Tile[8, 32, F32]],
        index: In[Tile[4, 16, DType.U32]],
        out: Out[Tile[4, 16, F32]],
        back: InOut[Tile[8, 32, F32]],
    ):
        a, i = ptoisa.tile(4, 16), ptoisa.tile(4, 16, DType.U32)
        ptoisa.TLOAD(i, index)
        ptoisa.MGATHER(a, table, i)
        ptoisa.TSTORE(out, a)
        ptoisa.TNEG(a, a)
        ptoisa.MSCATTER(back, a, i)

    index = RNG.permutation(256)[:64].reshape(4, 16).astype(np.uint32)
    out, back = np.empty((4, 16), np.float32), Y.copy()
    run(k, table=X, index=index, out=out, back=back)
    want = Y.copy()
    want.flat[index] = -X.flat[index]
    np.testing.assert_array_equal(out, X.flat[index])
    np.testing.assert_array_equal(back, want)


def test_sorting_values_with_their_indices() -> None:
    @ptoisa_kernel
    def best(
        x: In[Tile[1, 256, F32]],
        i: In[Tile[1, 256, DType.U32]],
        v: Out[Tile[1, 64, F32]],
        at: InOut[Tile[1, 64, DType.U32]],
    ):
        a, b = ptoisa.tile(1, 256), ptoisa.tile(1, 256, DType.U32)
        ptoisa.TLOAD(a, x)
        ptoisa.TLOAD(b, i)
        ptoisa.TSORT32(a, b, a, b)
        ptoisa.TMRGSORT(a, b, a, b, 32)
        parts = [(ptoisa.tile(1, 128), ptoisa.tile(1, 128, DType.U32)) for _ in range(2)]
        for k, (values, names) in enumerate(parts):
            ptoisa.TEXTRACT(values, a, 0, 128 * k)
            ptoisa.TEXTRACT(names, b, 0, 128 * k)
        first, names = ptoisa.tile(1, 64), ptoisa.tile(1, 64, DType.U32)
        ptoisa.TMRGSORT(first, names, *parts[0], *parts[1])
        ptoisa.TSTORE(v, first)
        ptoisa.TSTORE(at, names)

    x = RNG.integers(0, 99, (1, 256)).astype(np.float32)
    names = np.arange(5000, 5256, dtype=np.uint32)[None]
    v, at = np.empty((1, 64), np.float32), np.empty((1, 64), np.uint32)
    run(best, x=x, i=names, v=v, at=at)
    order = np.argsort(-x[0], kind="stable")[:64]
    np.testing.assert_array_equal(v[0], x[0, order])
    np.testing.assert_array_equal(at[0], names[0, order])


def test_products_of_bytes_are_scaled_where_they_are_stored() -> None:
    @ptoisa_kernel
    def k(
        a: In[Tile[16, 32, DType.I8]],
        b: In[Tile[32, 8, DType.I8]],
        s: In[Tile[1, 8, F32]],
        out: Out[Tile[16, 8, DType.I8]],
        half: Out[Tile[16, 8, F16]],
        raw: Out[Tile[16, 8, I32]],
    ):
        place = ptoisa.TileType
        moved = [
            ptoisa.tile(*n, d, loc=place.Mat) for n, d in (((16, 32), DType.I8), ((32, 8), DType.I8), ((1, 8), F32))
        ]
        left, right = ptoisa.TileLeft(16, 32, DType.I8), ptoisa.TileRight(32, 8, DType.I8)
        scale, acc, vec = ptoisa.tile(1, 8, loc=place.Scaling), ptoisa.TileAcc(16, 8, I32), ptoisa.tile(16, 8, F16)
        for tile, x in zip(moved, (a, b, s), strict=True):
            ptoisa.TLOAD(tile, x)
        for tile, x in zip((left, right, scale), moved, strict=True):
            ptoisa.TMOV(tile, x)
        ptoisa.TMATMUL(acc, left, right)
        ptoisa.TSTORE_FP(out, acc, scale)
        ptoisa.TMOV(vec, acc, 0.5)
        ptoisa.TSTORE(half, vec)
        ptoisa.TSTORE(raw, acc)

    a, b = (RNG.integers(-128, 128, n).astype(np.int8) for n in ((16, 32), (32, 8)))
    s = RNG.uniform(0.001, 0.01, (1, 8)).astype(np.float32)
    out, half, raw = np.empty((16, 8), np.int8), np.empty((16, 8), np.float16), np.empty((16, 8), np.int32)
    run(k, a=a, b=b, s=s, out=out, half=half, raw=raw)
    product = a.astype(np.int32) @ b.astype(np.int32)
    np.testing.assert_array_equal(raw, product)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half, (product * np.float32(0.5)).astype(np.float16))
    scaled = product.astype(np.float32) * s
    np.testing.assert_array_equal(out, np.clip(np.rint(scaled), -128, 127).astype(np.int8))


def test_vectors_times_matrices() -> None:
    @ptoisa_kernel
    def k(a: In[Tile[1, 16, F32]], b: In[Tile[16, 8, F32]], c: In[Tile[1, 8, F32]], out: Out[Tile[1, 8, F32]]):
        place = ptoisa.TileType
        whole = [ptoisa.tile(*s, loc=place.Mat) for s in ((1, 16), (16, 8), (1, 8))]
        left, right, acc = ptoisa.TileLeft(1, 16, F32), ptoisa.TileRight(16, 8, F32), ptoisa.TileAcc(1, 8)
        bias = ptoisa.tile(1, 8, loc=place.Bias)
        for tile, x in zip(whole, (a, b, c), strict=True):
            ptoisa.TLOAD(tile, x)
        for tile, x in zip((left, right, bias), whole, strict=True):
            ptoisa.TMOV(tile, x)
        ptoisa.TGEMV(acc, left, right)
        ptoisa.TGEMV_ACC(acc, acc, left, right)
        other = ptoisa.TileAcc(1, 8)
        ptoisa.TGEMV_BIAS(other, left, right, bias)
        ptoisa.TGEMV_ACC(other, acc, left, right)
        ptoisa.TSTORE(out, other)

    a, b, c = (RNG.integers(-4, 5, shape).astype(np.float32) for shape in ((1, 16), (16, 8), (1, 8)))
    out = np.empty_like(c)
    run(k, a=a, b=b, c=c, out=out)
    np.testing.assert_array_equal(out, 3 * (a @ b))


def test_names_are_completed_and_shown() -> None:
    assert {"TADD", "tile", "RoundMode", "PIPE_V"} <= set(dir(ptoisa))
    assert repr(ptoisa.TDIVS) == "<instruction TDIVS(dst, src, s) or TDIVS(dst, s, src)>"


def test_two_destinations_take_value_and_index() -> None:
    @ptoisa_kernel
    def k(x: In[Tile[8, 32, F32]], best: Out[Tile[8, 1, F32]], at: Out[Tile[8, 1, I32]]):
        a, tmp, v, i = ptoisa.tile(8, 32), ptoisa.tile(8, 32), ptoisa.tile(8, 1), ptoisa.tile(8, 1, I32)
        ptoisa.TLOAD(a, x)
        ptoisa.TROWARGMAX(v, i, a, tmp)
        ptoisa.TSTORE(best, v)
        ptoisa.TSTORE(at, i)

    best, at = np.empty((8, 1), np.float32), np.empty((8, 1), np.int32)
    run(k, x=X, best=best, at=at)
    np.testing.assert_array_equal(best, X.max(1, keepdims=True))
    np.testing.assert_array_equal(at, X.argmax(1, keepdims=True))


def test_errors_name_the_line_of_the_helper() -> None:
    def helper(tile: Any) -> Iterator[Any]:
        yield ptoisa.TADD(tile, tile, ptoisa.tile(4, 8))  # here

    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], out: Out[Tile[4, 8, F32]]):
        a = ptoisa.tile(4, 8)
        yield ptoisa.TLOAD(a, x)
        yield from helper(a)

    with pytest.raises(Exception, match="is read before it is written") as e:
        k.wir()
    assert "# here" in str(e.value)
    assert "in helper" in str(e.value)


def test_types_that_do_not_fit_are_those_of_the_operation() -> None:
    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], y: In[Tile[4, 8, F16]], out: Out[Tile[4, 8, F32]]):
        a, b = ptoisa.tile(4, 8), ptoisa.tile(4, 8, F16)
        ptoisa.TLOAD(a, x)
        ptoisa.TLOAD(b, y)
        ptoisa.TADD(a, a, b)

    with pytest.raises(TypeCheckError, match="different dtypes") as e:
        k.wir()
    assert e.value.code == "PTO102"


@ptoisa_kernel
def attention(
    q: In[Tile[16, 32, F32]],
    k: In[Tensor[None, 32, F32]],
    v: In[Tensor[None, 32, F32]],
    out: Out[Tile[16, 32, F32]],
):
    """Online softmax over keys whose number is known at the task, 8 at a time."""
    place = ptoisa.TileType
    mat = ptoisa.tile(16, 32, loc=place.Mat)
    left = ptoisa.TileLeft(16, 32, F32)
    ptoisa.TLOAD(mat, q)
    ptoisa.TMOV(left, mat)
    best, total, acc = ptoisa.tile(16, 1), ptoisa.tile(16, 1), ptoisa.tile(16, 32)
    ptoisa.TEXPANDS(best, -1e30)
    ptoisa.TEXPANDS(total, 0.0)
    ptoisa.TEXPANDS(acc, 0.0)

    def step(i: Any) -> Iterator[Any]:
        keys, values = (ptoisa.tile(8, 32, valid=(None, 32)) for _ in range(2))
        scores, new = ptoisa.tile(16, 8, valid=(16, None)), ptoisa.tile(16, 1)
        yield ptoisa.TLOAD(keys, ptoisa.GlobalTensor(k, (i * 8, 0)))
        yield ptoisa.TLOAD(values, ptoisa.GlobalTensor(v, (i * 8, 0)))
        turned = ptoisa.tile(32, 8, valid=(32, None))
        yield ptoisa.TTRANS(turned, keys)
        right = ptoisa.tile(32, 8, valid=(32, None), loc=place.Right)
        product = ptoisa.tile(16, 8, valid=(16, None), loc=place.Acc)
        yield ptoisa.TMOV(right, turned)
        yield ptoisa.TMATMUL(product, left, right)
        yield ptoisa.TMOV(scores, product)
        yield ptoisa.TROWMAX(new, scores)
        yield ptoisa.TMAX(new, new, best)
        yield ptoisa.TROWEXPANDEXPDIF(scores, scores, new)
        yield ptoisa.TSUB(best, best, new)
        yield ptoisa.TEXP(best, best)
        yield ptoisa.TMUL(total, total, best)
        yield ptoisa.TROWEXPANDMUL(acc, acc, best)
        yield ptoisa.TMOV(best, new)
        yield ptoisa.TROWSUM(new, scores)
        yield ptoisa.TADD(total, total, new)
        a = ptoisa.tile(16, 8, valid=(16, None), loc=place.Left)
        b = ptoisa.tile(8, 32, valid=(None, 32), loc=place.Right)
        c, moved = ptoisa.TileAcc(16, 32), ptoisa.tile(16, 32)
        yield ptoisa.TMOV(a, scores), ptoisa.TMOV(b, values)
        yield ptoisa.TMATMUL(c, a, b), ptoisa.TMOV(moved, c), ptoisa.TADD(acc, acc, moved)

    ptoisa.fori_loop(0, (k.shape[0] + 7) // 8, step)
    ptoisa.TROWEXPANDDIV(acc, acc, total)
    ptoisa.TSTORE(out, acc)


@pytest.mark.parametrize("keys", [1, 8, 21])
def test_a_loop_over_a_region(keys: int) -> None:
    q, k, v = (RNG.standard_normal((n, 32), dtype=np.float32) for n in (16, keys, keys))
    s = q.astype(np.float64) @ k.T
    p = np.exp(s - s.max(axis=1, keepdims=True))
    want = p / p.sum(axis=1, keepdims=True) @ v
    out = np.empty_like(q)
    run(attention, q=q, k=k, v=v, out=out)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
    again = np.empty_like(q)
    attention.evaluate(q=q, k=k, v=v, out=again)
    np.testing.assert_allclose(again, want, rtol=1e-4, atol=1e-5)


def test_a_loop_carries_what_its_body_changes() -> None:
    def carried(k: Any) -> int:
        (loop,) = (e for e in k.wir().body.eqns if e.prim == "fori_loop")
        return len(loop.outs)

    assert carried(attention) == 3  # best, total, acc


@pytest.mark.parametrize("n", [-1, 0, 3])
def test_what_only_a_loop_writes_is_empty_after_it(n: int) -> None:
    def body_of(after: Callable[[Any, Any], None]) -> Any:
        @ptoisa_kernel
        def k(x: In[Tile[4, 8, F32]], n: Scalar[I32], out: Out[Tile[4, 8, F32]]):
            a, b = ptoisa.tile(4, 8), ptoisa.tile(4, 8)
            ptoisa.TLOAD(a, x)

            def body(i: Any) -> None:
                ptoisa.TADDS(b, a, 1.0)
                ptoisa.TMUL(a, b, b)

            ptoisa.fori_loop(0, pto.cast(n, DType.I64), body)
            after(a, b)
            ptoisa.TSTORE(out, a)

        return k

    x, want = np.full((4, 8), 0.5, np.float32), np.full((4, 8), 0.5, np.float32)
    for _ in range(n):
        want = (want + 1) ** 2
    out = np.empty_like(x)
    run(body_of(lambda a, b: None), x=x, n=n, out=out)
    np.testing.assert_array_equal(out, want)
    with pytest.raises(TraceError, match="read before it is written") as e:
        body_of(lambda a, b: ptoisa.TADD(a, a, b)).wir()
    assert "only a loop wrote it" in str(e.value)


@pytest.mark.parametrize("flag", [False, True])
def test_a_branch_gives_what_both_sides_leave(flag: bool) -> None:
    @ptoisa_kernel
    def k(x: In[Tile[4, 8, F32]], flag: Scalar[BOOL], out: Out[Tile[4, 8, F32]]):
        a, b, c = (ptoisa.tile(4, 8) for _ in range(3))
        ptoisa.TLOAD(a, x)

        def then() -> Iterator[Any]:
            yield ptoisa.TADDS(b, a, 1.0)
            yield ptoisa.TMULS(a, a, 2.0)

        def otherwise() -> None:
            ptoisa.TMULS(b, a, 3.0)
            ptoisa.TMOV(c, a)

        ptoisa.cond(flag, then, otherwise)
        ptoisa.cond(True, lambda: ptoisa.TMULS(b, b, 10.0), lambda: ptoisa.TMULS(b, b, 99.0))
        ptoisa.TADD(a, a, b)
        ptoisa.TSTORE(out, a)

    x = RNG.integers(1, 9, (4, 8)).astype(np.float32)
    out, again = np.empty_like(x), np.empty_like(x)
    run(k, x=x, flag=flag, out=out)
    np.testing.assert_array_equal(out, 2 * x + 10 * (x + 1) if flag else x + 30 * x)
    k.evaluate(x=x, flag=flag, out=again)
    np.testing.assert_array_equal(out, again)


def test_printing(capfd: pytest.CaptureFixture[str]) -> None:
    @ptoisa_kernel
    def k(x: In[Tile[1, 2, F32]], out: Out[Tile[1, 2, F32]]):
        a = ptoisa.tile(1, 2)
        ptoisa.TLOAD(a, x)
        ptoisa.TPRINT(a, "loaded")
        ptoisa.TSTORE(out, a)

    x = np.array([[1.5, -2]], np.float32)
    run(k, x=x, out=np.empty_like(x))
    captured = capfd.readouterr()
    assert "loaded" in captured.out + captured.err
    assert "1.5" in captured.out + captured.err
