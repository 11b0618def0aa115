"""Loops, branches, scalars and parts in kernels: what is traced, and what it computes."""

from __future__ import annotations

import operator
import sys
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BoundsError,
    Constexpr,
    DType,
    ExecutionError,
    In,
    InOut,
    Out,
    PtoError,
    Scalar,
    Tensor,
    Tile,
    kernel,
    pto,
    workload,
)
from pto_wsp.ir.core import Kernel
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ir.text import parse_kernel, show_kernel
from pto_wsp.ir.verify import verify_kernel

F32, F16, I32, BOOL, I64, F64, U64 = (DType[n] for n in ("F32", "F16", "I32", "BOOL", "I64", "F64", "U64"))
Pair = namedtuple("Pair", "a b")


def traced(function: Any, *args: Any) -> Kernel:
    """The kernel, whose text and rules hold."""
    k = function.wir(*args)
    verify_kernel(k)
    assert parse_kernel(show_kernel(k)) == k
    return k


def body(k: Kernel) -> str:
    return "\n".join(row[2:] for row in str(k).splitlines()[1:-1])


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(PtoError) as caught:
        call()
    assert caught.value.loc is not None and caught.value.loc.file == __file__
    return caught.value.code


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


# ---- what is traced


def test_what_nothing_stores_to_is_loaded_before_the_loop_and_what_changes_in_it() -> None:
    @kernel
    def k(x: In[Tile[4, 8, F32]], n: Scalar[I32], y: InOut[Tile[4, 8, F32]]):
        pto.fori_loop(0, n, lambda i, c: pto.store(y, y + x), None)
        pto.store(y, y * x)

    assert (
        body(traced(k))
        == """\
a: i64 = widen n
d: f32<4x8 of x.rows x x.cols> = load x
fori_loop 0:i64 a as b {
  c: f32<4x8 of y.rows x y.cols> = load y
  e: f32<4x8 of y.rows x y.cols> = add c d
  store y e
  yield
}
h: f32<4x8 of y.rows x y.cols> = load y
i: f32<4x8 of y.rows x y.cols> = mul h d
store y i"""
    )


def test_tiles_at_multiples_of_their_size_have_no_tail_and_what_all_iterations_share_is_known_before() -> None:
    @kernel
    def k(x: In[Tensor[64, None, F32]], y: InOut[Tile[16, 8, F32]]):
        def step(i: Any, acc: Any) -> Any:
            return acc + pto.load(x, (i * 16, 0), (16, 8)) + pto.load(x, (i, 0), (16, 8))

        pto.store(y, pto.load(y) + pto.fori_loop(0, 4, step, pto.full((16, 8), 0.0)))

    # i is at most 3, and 3 + 16 rows are there; of the columns nothing is known, but that they are the same each time
    assert (
        body(traced(k))
        == """\
a: f32<16x8 of y.rows x y.cols> = load y
b: f32<16x8> = full[cols=8, rows=16] 0.0:f32
f: i64 = dim[of="x.1"]
g: i64 = s.min f 8:i64
l: f32<16x8 of 16 x g> = fori_loop 0:i64 4:i64 b as c, d: f32<16x8 of 16 x g> {
  e: i64 = s.mul c 16:i64
  h: f32<16x8 of 16 x g> = load_part[cols=8, rows=16, vcols="g", vrows=16] x e 0:i64
  i: f32<16x8 of 16 x g> = add d h
  j: f32<16x8 of 16 x g> = load_part[cols=8, rows=16, vcols="g", vrows=16] x c 0:i64
  k: f32<16x8 of 16 x g> = add i j
  yield k
}
m: f32<16x8 of y.rows x y.cols> = add a l
store y m"""
    )


def test_of_a_tile_that_begins_at_0_the_valid_shape_is_that_of_the_parameter() -> None:
    @kernel
    def k(x: In[Tile[16, 8, F32]], y: Out[Tile[16, 8, F32]]):
        pto.store(y, pto.load(x, (0, 0), (16, 8)))

    assert 'load_part[cols=8, rows=16, vcols="x.cols", vrows="x.rows"] x 0:i64 0:i64' in body(traced(k))


def test_what_is_carried_takes_the_valid_shape_of_what_the_body_gives() -> None:
    @kernel
    def k(x: In[Tile[4, 8, F32]], n: Scalar[I32], y: Out[Tile[1, 8, F32]]):
        zeros = pto.full((4, 8), 1.0)
        pto.store(y, pto.colsum(pto.fori_loop(0, n, lambda i, acc: acc + x, zeros)))

    text = body(traced(k))
    assert "as c, d: f32<4x8 of x.rows x x.cols> {" in text
    for trips, want in ((0, 3.0), (-5, 3.0), (2, 9.0)):  # three valid rows, with no trips too
        y = ones(1, 8)
        run_kernel(k.wir(), {"x": ones(3, 8), "n": np.int32(trips), "y": y})
        assert (y == want).all()
        again = ones(1, 8)
        k.evaluate(x=ones(3, 8), n=trips, y=again)
        assert (again == want).all()


def test_a_loop_carries_structures() -> None:
    @kernel
    def k(n: Scalar[I32], y: Out[Tile[1, 1, F32]]):
        def step(i: Any, carry: Any) -> Any:
            tile, count, names, nothing = carry
            assert nothing is None
            return [tile + 1.0, Pair(count.a + i, count.b), {"x": names["x"] + 0.5}, None]

        init = [pto.full((1, 1), 0.0), Pair(0, True), {"x": 0.0}, None]
        tile, count, names, _ = pto.fori_loop(2, n, step, init)
        half = pto.cast(pto.cast(count.a, F64) + names["x"], F32)
        pto.store(y, pto.where(pto.full((1, 1), count.b, BOOL), tile, 0.0) + half)

    traced(k)
    y = ones(1, 1)
    k.evaluate(n=6, y=y)
    assert y.item() == 4 + (2 + 3 + 4 + 5) + 2.0


@pytest.mark.parametrize(("n", "want"), [(3, 1.0), (0, -1.0)])
def test_a_branch_gives_what_both_sides_give(n: int, want: float) -> None:
    @kernel
    def k(n: Scalar[I32], x: In[Tile[4, 8, F32]], y: Out[Tile[4, 8, F32]]):
        tile, _ = pto.cond(n > 2, lambda t: (t, 1), lambda t: (pto.full((4, 8), -1.0), n), x)
        assert str(tile.type) == "f32<4x8 of x.rows x x.cols>"
        pto.store(y, tile)

    traced(k)
    y = ones(4, 8)
    k.evaluate(n=n, x=ones(4, 8), y=y)
    assert (y == want).all()


def test_a_python_bool_chooses_while_tracing() -> None:
    @kernel
    def k(flag: Constexpr[bool], y: Out[Tile[1, 1, F32]]):
        pto.store(y, pto.cond(flag, lambda: 1.0, lambda: 2.0))

    assert body(traced(k, False)) == "a: f32<1x1> = full[cols=1, rows=1] 2.0:f32\nstore y a"


def test_stores_are_proved_through_loops_and_branches() -> None:
    def writes(inside: Callable[[Any, Any], None]) -> Callable[[], Any]:
        @kernel
        def k(n: Scalar[I32], y: Out[Tile[1, 1, F32]]):
            inside(n, y)

        return lambda: traced(k)

    def store(y: Any) -> Callable[..., None]:
        return lambda *_: pto.store(y, 1.0)

    writes(lambda n, y: pto.fori_loop(0, 3, store(y), None))()
    writes(lambda n, y: pto.cond(n > 0, store(y), store(y)))()
    writes(lambda n, y: pto.cond(n > 0, store(y), lambda: pto.cond(n < 0, store(y), store(y))))()
    assert code_of(writes(lambda n, y: pto.fori_loop(0, n, store(y), None))) == "PTO122"
    assert code_of(writes(lambda n, y: pto.cond(n > 0, store(y), lambda: None))) == "PTO122"
    # and reads of it
    once = writes(lambda n, y: (pto.cond(n > 0, store(y), lambda: None), pto.store(y, y + 1.0)))
    assert code_of(once) == "PTO123"
    assert code_of(writes(lambda n, y: pto.cond(n > 0, store(y), lambda: pto.store(y, y + 1.0)))) == "PTO123"
    assert code_of(writes(lambda n, y: pto.store(y, pto.full((1, 1), 0.0), (0, 0)))) == "PTO124"


def test_equal_scalars_are_computed_once() -> None:
    @kernel
    def k(n: Scalar[I32], y: InOut[Tile[4, 8, F32]]):
        step = lambda: pto.store(y, pto.full((1, 1), 0.0), (n % 4, 0))  # noqa: E731
        pto.cond(n > 0, step, step)
        step()

    text = body(traced(k))
    assert text.count("widen n") == 1
    assert text.count("s.mod") == 1


# ---- parts and elements


@pytest.mark.parametrize("shape", [(9,), (5, 9), (2, 5, 9), (3, 2, 5, 9)])
def test_parts_of_regions_of_every_rank(shape: tuple[int, ...]) -> None:
    rank = len(shape)
    rows = 1 if rank == 1 else 4
    region = Tensor[(*(None,) * rank, F32)]

    @kernel
    def k(x: In[region], s: InOut[region], i: Scalar[I32], y: InOut[Tile[rows, 4, F32]]):  # type: ignore[valid-type]
        at = (*((1,) * max(rank - 2, 0)), *((i,) if rank > 1 else ()), i + 6)
        part = pto.load(x, at, (4,) if rank == 1 else (rows, 4))
        pto.store(s, part + pto.item(x, at) * 2.0, at)
        pto.store(y, part, (0, 0))

    traced(k)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    s, y = x.copy(), np.zeros((rows, 4), np.float32)
    k.evaluate(x=x, s=s, i=2, y=y)
    # rows 2 .. 4 and column 8: one less than the tile could hold
    lead = (1,) * max(rank - 2, 0)
    part = np.atleast_2d(x[lead][..., 8:] if rank == 1 else x[lead][2:, 8:])
    want, corner = np.zeros((rows, 4), np.float32), part[0, 0]
    want[: part.shape[0], : part.shape[1]] = part
    np.testing.assert_array_equal(y, want)
    changed = s != x
    assert changed.sum() == part.size
    np.testing.assert_array_equal(s[changed], (part + 2 * corner).ravel())


def test_restrict_and_valid_shape() -> None:
    @kernel
    def k(x: In[Tile[4, 8, F32]], n: Scalar[I32], y: Out[Tile[1, 8, F32]]):
        assert pto.valid_shape(pto.full((4, 8), 0.0)) == (4, 8)
        assert (pto.minimum(4, 8), pto.maximum(4, 8)) == (4, 8)
        rows, cols = pto.valid_shape(x)
        assert str(rows.type) == "i64"
        small = pto.restrict(x, pto.minimum(rows, n), cols)
        assert pto.valid_shape(small)[1].read() == cols.read()
        pto.store(y, pto.colsum(small) * pto.cast(pto.valid_shape(small)[0], F64))

    traced(k)
    y = ones(1, 8)
    k.evaluate(x=ones(4, 8), n=3, y=y)
    assert (y == 9.0).all()
    with pytest.raises(ExecutionError) as caught:
        k.evaluate(x=ones(4, 8), n=0, y=y)
    assert caught.value.code == "PTO710"


# ---- scalars

BINARY = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.and_, operator.or_]
BINARY += [operator.xor, operator.lshift, operator.rshift, operator.lt, operator.le, operator.gt, operator.ge]
BINARY += [operator.eq, operator.ne, pto.minimum, pto.maximum]
PLAIN = {pto.minimum: min, pto.maximum: max}


def result(compute: Callable[[Any], Any], n: int) -> int:
    """compute(n) of an i32 scalar parameter, as an i32."""

    @kernel
    def k(n: Scalar[I32], y: Out[Tile[1, 1, I32]]):
        pto.store(y, pto.full((1, 1), 0, I32) + pto.cast(compute(n), I64))

    y = np.zeros((1, 1), np.int32)
    run_kernel(traced(k), {"n": np.int32(n), "y": y})
    return int(y.item())


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_operators_of_scalars_are_those_of_python(op: Any) -> None:
    for n in (-7, 0, 5):
        plain = PLAIN.get(op, op)
        assert result(lambda x, op=op: op(x, 3), n) == int(plain(n, 3))
        if n > 0 or op not in (operator.floordiv, operator.mod, operator.lshift, operator.rshift):
            assert result(lambda x, op=op: op(11, x), n) == int(plain(11, n))


def test_other_operations_of_scalars() -> None:
    assert [result(lambda x: -abs(x), n) for n in (-3, 4)] == [-3, -4]
    assert [result(lambda x: ~x, n) for n in (-3, 4)] == [2, -5]
    assert result(lambda x: pto.where(x > 2, x, -1), 1) == -1
    assert result(lambda x: pto.cast(x, F64) / 4 * 10, 7) == 17
    assert result(lambda x: pto.cast(pto.cast(x, U64) >> 60, I64), -1) == 15
    assert result(lambda x: (x > 0) & ~(x > 5), 3) == 1
    assert result(lambda x: pto.cast(x, BOOL), -8) == 1
    assert result(lambda x: (pto.cast(x, I64) << 33) // 5, 1) == np.int64(2**33 // 5).astype(np.int32)


def test_types_of_scalars_do_not_mix() -> None:
    assert code_of(lambda: result(lambda x: x + 0.5, 1)) == "PTO109"
    assert code_of(lambda: result(lambda x: x + pto.cast(x, F64), 1)) == "PTO102"
    assert code_of(lambda: result(lambda x: x + pto.cast(x, U64), 1)) == "PTO102"
    assert code_of(lambda: result(lambda x: x / 2, 1)) == "PTO104"
    assert code_of(lambda: result(pto.exp, 1)) == "PTO104"
    assert code_of(lambda: result(lambda x: 1 if x else 2, 1)) == "PTO128"
    assert code_of(lambda: result(lambda x: sum(range(x)), 1)) == "PTO128"
    assert code_of(lambda: result(lambda x: x // 0, 1)) == "PTO711"
    assert code_of(lambda: result(lambda x: 1 << (x + 63), 1)) == "PTO716"
    assert code_of(lambda: result(lambda x: pto.cast(pto.cast(x, F64) * 1e300, I64), 1)) == "PTO717"


def test_scalars_are_operands_of_tiles() -> None:
    @kernel
    def k(x: In[Tile[1, 4, F32]], i: In[Tile[1, 4, I32]], n: Scalar[I32], s: Scalar[F32], y: Out[Tile[1, 4, F32]]):
        wide = pto.cast(n, I64) * 2**32 + n
        j = i + wide  # integers wrap
        pto.store(y, pto.cast(j, F32) + (s + 1.0) * x + pto.cast(n, F32))
        assert code_of(lambda: x + n) == "PTO102"
        assert code_of(lambda: x + wide) == "PTO102"
        assert code_of(lambda: i + s) == "PTO102"
        assert str(pto.full((2, 2), wide, I32).type) == "i32<2x2>"
        assert str(pto.full((2, 2), s + 1.0).type) == "f32<2x2>"
        assert str(pto.full((2, 2), n).type) == "i32<2x2>"
        assert code_of(lambda: pto.full((2, 2), wide)) == "PTO102"
        assert code_of(lambda: pto.full((2, 2), wide > 0)) == "PTO102"

    traced(k)
    y = ones(1, 4)
    k.evaluate(x=ones(1, 4), i=np.arange(4, dtype=np.int32)[None], n=3, s=0.5, y=y)
    assert y.tolist() == [[7.5, 8.5, 9.5, 10.5]]


# ---- what a loop may not be


def test_trips_that_depend_on_elements_however_hidden() -> None:
    def loop(hi: Callable[[Any, Any], Any]) -> str:
        @kernel
        def k(x: In[Tile[4, 4, I32]], n: Scalar[I32]):
            pto.fori_loop(0, hi(x, n), lambda i, c: c, 0)

        return code_of(k.wir)

    assert loop(lambda x, n: pto.item(x, (0, 0))) == "PTO136"
    assert loop(lambda x, n: pto.minimum(n, 3) + pto.item(x, (0, 0))) == "PTO136"
    assert loop(lambda x, n: pto.fori_loop(0, n, lambda i, c: pto.item(x, (0, i)), 0)) == "PTO136"
    assert loop(lambda x, n: pto.fori_loop(0, n, lambda i, c: (c[1], pto.item(x, (0, i))), (0, 0))[0]) == "PTO136"
    assert loop(lambda x, n: pto.cond(pto.item(x, (0, 0)) > 0, lambda: 1, lambda: 2)) == "PTO136"


def test_nesting_has_an_end() -> None:
    def nested(depth: int) -> Any:
        return 0 if depth == 0 else pto.fori_loop(0, 2, lambda i, c: c + nested(depth - 1), 0)

    @kernel
    def k(depth: Constexpr[int], y: Out[Tile[1, 1, I32]]):
        pto.store(y, pto.full((1, 1), 0, I32) + nested(depth))

    traced(k, 4)
    assert code_of(lambda: k.wir(40)) == "PTO405"


# ---- with numbers


@kernel
def looked_at(x: In[Tensor], n: Scalar[I32], c: Constexpr[int], y: Out[Tile[1, 4, F32]]):
    seen.append(repr(x * 2.0))

    def step(i: Any, acc: Any) -> Any:
        seen.append(repr(i))
        breakpoint()  # noqa: T100
        return acc + c

    pto.store(y, pto.softmax(x) * 0.0 + pto.fori_loop(0, n, step, pto.load(x)))


seen: list[str] = []


def test_a_debugger_sees_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[int] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(len(seen)))
    seen.clear()
    y = ones(1, 4)
    looked_at.evaluate(x=np.array([[1.0, 2.0, 3.0, 4.0]], np.float32), n=2, c=10, y=y)
    assert y.tolist() == [[21.0, 22.0, 23.0, 24.0]]
    # once while tracing, without numbers and without the debugger
    assert "[[2. 4. 6. 8.]]" not in seen[0] and "[[2. 4. 6. 8.]]" in seen[2]
    assert seen[3].endswith("=\n0>") and seen[4].endswith("=\n1>")
    assert stops == [4, 5]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"x": [1.0]}, "PTO142"),
        ({"x": np.ones(4, np.float32)}, "PTO144"),
        ({"y": np.ones((2, 4), np.float32)}, "PTO144"),
        ({"y": np.ones((1, 4), np.float64)}, "PTO143"),
        ({"n": 1.5}, "PTO142"),
        ({"n": 2**40}, "PTO713"),
        ({"z": 1}, "PTO140"),
    ],
)
def test_arguments_that_do_not_fit(change: dict[str, Any], code: str) -> None:
    given = {"x": ones(1, 4), "n": 1, "c": 1, "y": ones(1, 4)} | change
    assert code_of(lambda: looked_at.evaluate(**given)) == code


def test_errors_of_a_task_show_the_line() -> None:
    @kernel
    def k(r: In[Tensor[None, 8, F32]], n: Scalar[I32], y: InOut[Tile[4, 8, F32]]):
        pto.store(y, pto.load(r, (n, 0), (4, 8)), (0, 0))

    for n in (3, -1):
        with pytest.raises(BoundsError) as caught:
            k.evaluate(r=ones(3, 8), n=n, y=ones(4, 8))
        assert caught.value.code == "PTO732"
        assert caught.value.loc is not None and caught.value.loc.file == __file__
    y = np.zeros((4, 8), np.float32)
    k.evaluate(r=ones(3, 8), n=1, y=y)
    assert y.sum() == 16


def test_prints_come_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    @kernel
    def k(x: In[Tile[1, 2, F32]], n: Scalar[I32]):
        pto.fori_loop(0, n, lambda i, c: pto.debug_print("i", i), None)
        pto.debug_print("x", x)

    k.evaluate(x=ones(1, 2), n=2)
    assert capsys.readouterr().err == "".join(
        f"{line}\n" for line in ("i (kernel k): i64 0", "i (kernel k): i64 1", "x (kernel k): f32<1x2>", "  1 1")
    )


@pytest.mark.parametrize("dtype", [I64, U64, F64], ids=str)
def test_scalars_of_64_bits_with_tiles_of_theirs(dtype: DType) -> None:
    """They are operands as those of other dtypes, in the text and in a run."""

    @kernel
    def k(x: In[Tile[4, 8, dtype]], n: Scalar[dtype], out: Out[Tile[4, 8, dtype]]):
        first = pto.item(x, (0, 1))
        pto.store(out, pto.where(x < first, x + first * n, pto.full((4, 8), first - n, dtype)))

    @workload
    def w(x: Any, out: Any) -> None:
        k(x=x, n=3, out=out)

    traced(k)
    x = np.arange(32).reshape(4, 8)[:, ::-1].astype(dtype.numpy)
    x[0, 1] = 7
    got, again = np.zeros_like(x), np.zeros_like(x)
    w(np.ascontiguousarray(x), got).compile(threads=1).run()
    k.evaluate(x=x, n=3, out=again)
    np.testing.assert_array_equal(got, np.where(x < 7, x + 21, 4))
    np.testing.assert_array_equal(got, again)


@pytest.mark.parametrize("first", [1, 3])
def test_bools_that_a_kernel_computes_with_tiles_of_bool(first: int) -> None:
    @kernel
    def k(x: In[Tile[4, 8, BOOL]], v: In[Tile[1, 1, I64]], both: Out[Tile[4, 8, BOOL]], other: Out[Tile[4, 8, BOOL]]):
        large = pto.item(v, (0, 0)) > 2
        pto.store(both, pto.logical_and(x, large))
        pto.store(other, x ^ pto.full((4, 8), large, BOOL))

    @workload
    def w(x: Any, v: Any, both: Any, other: Any) -> None:
        k(x=x, v=v, both=both, other=other)

    traced(k)
    x = np.arange(32).reshape(4, 8) % 3 == 0
    v = np.array([[first]])
    got, again = np.zeros((2, 4, 8), bool), np.zeros((2, 4, 8), bool)
    w(x, v, got[0], got[1]).compile(threads=1).run()
    k.evaluate(x=x, v=v, both=again[0], other=again[1])
    np.testing.assert_array_equal(got, [x & (first > 2), x ^ (first > 2)])
    np.testing.assert_array_equal(got, again)


NARROWED: dict[str, tuple[Callable[..., Any], float]] = {
    "times two": (lambda n, f: pto.cast(n, F32) * 2.0, 602.0),
    "sum of two dtypes": (
        lambda n, f: pto.cast(f, F32) + pto.cast(f, F16),
        float(np.float32(1 / 3)) + float(np.float16(1 / 3)),
    ),
    "negative": (lambda n, f: -pto.cast(f, F32), -float(np.float32(1 / 3))),
    "cast again": (lambda n, f: pto.cast(pto.cast(f, DType.BF16), F64), 0.333984375),
    "wrapped": (lambda n, f: pto.cast(n, DType.I8) + 1, 46),
    "wrapped, unsigned": (lambda n, f: pto.cast(-n, DType.U8) + 0, 211),
    "selected": (lambda n, f: pto.where(n > 1, pto.cast(f, F32), 2.0), float(np.float32(1 / 3))),
    "the smaller": (lambda n, f: pto.minimum(pto.cast(n, F32), 3.0), 3.0),
    "carried": (lambda n, f: pto.fori_loop(0, 3, lambda i, c: c * 2.0, pto.cast(f, F32)), 8 * float(np.float32(1 / 3))),
    "from a branch": (
        lambda n, f: pto.cond(n > 2, lambda: pto.cast(f, F16), lambda: pto.cast(n, F16)),
        float(np.float16(1 / 3)),
    ),
    "a number of trips": (lambda n, f: pto.fori_loop(0, pto.cast(n, DType.I8), lambda i, c: c + 1.0, 0.0), 45.0),
    "of an index": (
        lambda n, f: pto.fori_loop(0, 300, lambda i, c: c + pto.cast(pto.cast(i, DType.I8), F64), 0.0),
        818.0,
    ),
}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", NARROWED)
def test_scalars_in_dtypes_of_tiles_are_scalars(name: str, native: bool) -> None:
    of, expected = NARROWED[name]

    @kernel
    def k(n: Scalar[DType.I32], f: Scalar[DType.F64], out: Out[Tile[1, 1, DType.F64]]) -> None:
        pto.store(out, pto.full((1, 1), pto.cast(of(n, f), F64), F64))

    @workload
    def w(out: Tensor) -> None:
        k(n=301, f=1 / 3, out=out)

    ran, evaluated = np.zeros((1, 1)), np.zeros((1, 1))
    w(ran).compile(native=native).run()
    k.evaluate(n=301, f=1 / 3, out=evaluated)
    assert ran[0, 0] == evaluated[0, 0] == expected
    traced(k)
    assert int(k.cost(n=301, f=1 / 3)) > 0


def test_what_loops_made_is_cast_and_filled_in_the_loops_alone() -> None:
    def of(leak: Callable[[Any], Any]) -> Callable[[], Any]:
        @kernel
        def k(x: In[Tile[2, 4, F32]], out: Out[Tile[2, 4, F32]]) -> None:
            seen: list[Any] = []
            pto.store(out, pto.fori_loop(0, 3, lambda i, c: (seen.append(i), c)[1], x) * leak(seen[0]))

        return k.wir

    for leak in (lambda i: pto.cast(i, F32), lambda i: pto.cast(i, I64), lambda i: pto.full((2, 4), i, F32)):
        assert code_of(of(leak)) == "PTO138"
