"""Operations that move, index and order elements: their types, their meaning, and what they say of mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pto_wsp import DispatchPolicy, In, Out, P, Tile, arch, kernel, pto, workload
from pto_wsp.errors import BoundsError, KernelError, PtoError
from pto_wsp.ir.core import PRIMITIVES, Check, Direction, DType, Kernel, Region
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.evaluate_kernel import run_kernel
from pto_wsp.ops.rules import NUMBERS
from pto_wsp.passes.expand import expand, expand_kernel
from pto_wsp.runtime.core import core

F32, F16, BF16, I32, BOOL = DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL
NAN, INF = float("nan"), float("inf")
INT_MIN = -(2**31)


def meaning(name: str, *operands: Any, **params: Any) -> np.ndarray:
    rule = PRIMITIVES[name].reference
    assert rule is not None
    return np.asarray(rule(params, *operands))


def code_of(make: Callable[[], object]) -> str:
    with pytest.raises(PtoError) as e:
        make()
    assert e.value.fix
    assert e.value.loc is not None
    assert e.value.loc.file == __file__
    return e.value.code


def checks(k: Any) -> tuple[Check, ...]:
    """What the last equation leaves to the task."""
    rule = PRIMITIVES[k.last.prim].type
    assert rule is not None
    return rule(k.last.params, *(x.type for x in k.last.ins)).checks


def shows(value: Any, text: str) -> bool:
    assert str(value.type) == text
    return True


# --- types ---


def test_a_slice_needs_what_it_takes_to_be_valid(k: Any) -> None:
    x = k.tile("x", 8, 16)
    assert shows(pto.slice(x, (2, 5), (0, 16)), "f32<3x16 of 3 x x.cols>")
    assert checks(k) == (Check("ge", "x.rows", 5),)
    assert shows(pto.slice(x, cols=(4, 8)), "f32<8x4 of x.rows x 4>")
    assert checks(k) == (Check("ge", "x.cols", 8),)
    assert shows(pto.slice_odd(x), "f32<8x8 of x.rows x 8>")
    assert checks(k) == (Check("ge", "x.cols", 16),)
    assert shows(pto.slice_even(pto.slice(x, (0, 1), (0, 15 + 1))), "f32<1x8>")
    for bad in ((-1, 2), (2, 2), (0, 9), (0,), (0.0, 1.0), (True, 2), "ab", 3):
        assert code_of(lambda bad=bad: pto.slice(x, bad)) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.slice(x, None, (0, 17))) == "PTO106"
    assert code_of(lambda: pto.slice_even(k.tile("odd", 2, 3))) == "PTO103"
    assert code_of(lambda: pto.slice(1.0, (0, 1))) == "PTO105"  # type: ignore[arg-type]


def test_concat(k: Any) -> None:
    a, b, c = k.tile("a", 8, 16, BOOL), k.tile("b", 8, 4, BOOL), k.tile("c", 2, 16, BOOL)
    assert shows(pto.concat(a, b), "bool<8x20 of a.rows x 20>")
    assert checks(k) == (Check("ge", "a.cols", 16), Check("ge", "b.cols", 4), Check("eq", "a.rows", "b.rows"))
    assert shows(pto.concat(a, c, axis=0), "bool<10x16 of 10 x a.cols>")
    assert code_of(lambda: pto.concat(a, c)) == "PTO103"
    assert code_of(lambda: pto.concat(a, b, 0)) == "PTO103"
    assert code_of(lambda: pto.concat(a, b, 2)) == "PTO106"
    assert code_of(lambda: pto.concat(a, b, True)) == "PTO106"
    assert code_of(lambda: pto.concat(a, k.tile("f", 8, 4))) == "PTO102"
    assert code_of(lambda: pto.concat(a, True)) == "PTO105"  # type: ignore[arg-type]


def test_transpose_reshape_interleave(k: Any) -> None:
    x = k.tile("x", 8, 16, I32)
    assert shows(pto.transpose(x), "i32<16x8 of x.cols x x.rows>")
    assert shows(pto.reshape(x, (4, 32)), "i32<4x32>")
    assert checks(k) == (Check("ge", "x.rows", 8), Check("ge", "x.cols", 16))
    assert code_of(lambda: pto.reshape(x, (4, 31))) == "PTO103"
    assert code_of(lambda: pto.reshape(x, 128)) == "PTO106"  # type: ignore[arg-type]
    assert shows(pto.interleave(x, k.tile("y", 8, 16, I32)), "i32<8x32 of x.rows x 32>")
    assert checks(k) == (Check("ge", "x.cols", 16), Check("ge", "y.cols", 16), Check("eq", "x.rows", "y.rows"))
    assert code_of(lambda: pto.interleave(x, k.tile("z", 8, 8, I32))) == "PTO103"
    assert code_of(lambda: pto.interleave(x, k.tile("f", 8, 16))) == "PTO102"


def test_gather_and_scatter(k: Any) -> None:
    x, i = k.tile("x", 8, 16), k.tile("i", 8, 3, I32)
    assert shows(pto.gather(x, i), "f32<8x3 of x.rows x i.cols>")
    assert checks(k) == (Check("eq", "x.rows", "i.rows"),)
    rows = k.tile("rows", 5, 1, I32)
    assert shows(pto.gather(x, rows, axis=0), "f32<5x16 of rows.rows x x.cols>")
    assert shows(pto.gather(k.tile("table", 1, 16), i), "f32<8x3 of i.rows x i.cols>")
    v = k.tile("v", 5, 16)
    assert shows(pto.scatter(x, rows, v, axis=0), "f32<8x16 of x.rows x x.cols>")
    assert checks(k) == (Check("eq", "v.rows", "rows.rows"), Check("eq", "x.cols", "v.cols"))
    assert code_of(lambda: pto.gather(x, k.tile("f", 8, 3))) == "PTO104"
    assert code_of(lambda: pto.gather(x, k.tile("j", 4, 3, I32))) == "PTO103"
    assert code_of(lambda: pto.gather(x, 1)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.scatter(x, i, v)) == "PTO103"
    assert code_of(lambda: pto.scatter(x, i, k.tile("one", 1, 3))) == "PTO103"
    assert code_of(lambda: pto.scatter(x, rows, k.tile("h", 5, 16, F16), axis=0)) == "PTO102"


def test_order(k: Any) -> None:
    x = k.tile("x", 8, 16, BF16)
    v, i = pto.topk(x, 5)
    assert k.builder.eqns[1].params == {"cols": 5, "valid": 5}
    assert shows(v, "bf16<8x5 of x.rows x 5>")
    assert shows(i, "i32<8x5 of x.rows x 5>")
    assert [e.prim for e in k.builder.eqns] == ["load", "extract_topk_indices", "topk_values"]
    assert shows(pto.rowargmin(x), "i32<8x1 of x.rows x 1>")
    assert shows(pto.colargmax(x), "i32<1x16 of 1 x x.cols>")
    assert shows(pto.cumsum(x, 0), "bf16<8x16 of x.rows x x.cols>")
    assert shows(pto.bincount(k.tile("n", 3, 4, I32), np.int64(7)), "i32<1x7>")
    for bad in (0, 17, 2.0, True):
        assert code_of(lambda bad=bad: pto.topk(x, bad)) == "PTO106"
    assert code_of(lambda: pto.topk(k.tile("m", 4, 4, BOOL), 2)) == "PTO104"
    assert code_of(lambda: pto.cumsum(x, -1)) == "PTO106"
    assert code_of(lambda: pto.bincount(x, 4)) == "PTO104"
    assert code_of(lambda: pto.bincount(k.tile("q", 3, 4, I32), 0)) == "PTO106"


def cost(k: Any, **valid: int) -> int:
    """Cycles of the last equation."""
    rule = PRIMITIVES[k.last.prim].cost
    assert rule is not None
    return rule(arch.get(), k.last.params, k.last.outs[0].type, *(x.type for x in k.last.ins)).value(valid)


def test_costs(k: Any) -> None:
    x = k.tile("x", 4, 1024, BF16)
    full = {"x.rows": 4, "x.cols": 1024}
    pto.extract_topk_indices(x, 8)
    # runs of 32, 128, 512, 2048; a repeat is 64 pairs
    assert cost(k, **full) == 2 * (6 + 2 * 64) + 3 * (20 + 78 * 64)
    assert cost(k, **{**full, "x.cols": 64}) == 2 * (6 + 2 * 4) + 3 * (20 + 78 * 4)
    pto.cumsum(x)
    assert cost(k, **full) == 10 * (10 + 2 * 32 + 14)
    pto.slice_odd(x)
    assert cost(k, **full) == 14 + 14 * 32 + 20
    pto.slice(x, cols=(0, 128))
    assert cost(k, **full) == 11 + 4 + 13
    pto.gather(x, k.tile("i", 4, 128, I32))
    assert cost(k, **{**full, "i.rows": 4, "i.cols": 100}) == 24 + 2 * 4


# --- meaning, against numpy ---

numbers = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.5, INF, -INF, NAN])
tiles = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=numbers)


@given(tiles, st.integers(1, 12))
def test_topk(x: np.ndarray, k: int) -> None:
    index = meaning("extract_topk_indices", x, cols=k)
    value = meaning("topk_values", x, index)
    for row, columns, values in zip(x.tolist(), index.tolist(), value.tolist(), strict=True):
        want = sorted(range(len(row)), key=lambda c: (row[c] == row[c], -row[c] if row[c] == row[c] else 0))[:k]
        assert columns == want + [-1] * (k - len(want))
        np.testing.assert_array_equal(values, [row[c] for c in want] + [-INF] * (k - len(want)))


def test_topk_of_integers() -> None:
    x = np.int32([[INT_MIN, 3, 2**31 - 1, 3]])
    index = meaning("extract_topk_indices", x, cols=6)
    assert index.tolist() == [[2, 1, 3, 0, -1, -1]]
    assert meaning("topk_values", x, index).tolist() == [[2**31 - 1, 3, 3, INT_MIN, INT_MIN, INT_MIN]]


@given(tiles)
def test_the_first_of_the_largest_and_smallest(x: np.ndarray) -> None:
    assert meaning("rowargmax", x).ravel().tolist() == np.argmax(x, axis=1).tolist()
    assert meaning("rowargmin", x).ravel().tolist() == np.argmin(x, axis=1).tolist()


def test_running_sums() -> None:
    x = np.float32([[-0.0, 1, 2], [4, 5, 6]])
    got = meaning("cumsum", x, axis=1)
    assert got.tolist() == [[0, 1, 3], [4, 9, 15]]
    assert not np.signbit(got).any()
    assert meaning("cumsum", x, axis=0).tolist() == [[0, 1, 2], [4, 6, 8]]
    big = np.int32([[2**31 - 1, 1]])
    assert meaning("cumsum", big, axis=1).astype(np.int32).tolist() == [[2**31 - 1, INT_MIN]]


def test_indices() -> None:
    x = np.arange(12).reshape(3, 4)
    assert meaning("gather", x, np.int32([[3, 0], [1, 1], [2, 2]]), axis=1).tolist() == [[3, 0], [5, 5], [10, 10]]
    assert meaning("gather", x, np.int32([[2], [0]]), axis=0).tolist() == [x[2].tolist(), x[0].tolist()]
    assert meaning("gather", x[:1], np.int32([[3], [1]]), axis=1).tolist() == [[3], [1]]
    twice = meaning("scatter", x, np.int32([[1], [1]]), np.array([[-1] * 4, [-2] * 4]), axis=0)
    assert twice.tolist() == [x[0].tolist(), [-2] * 4, x[2].tolist()]
    assert meaning("scatter", x[:1], np.int32([[0, 0, 3]]), np.array([[7, 8, 9]]), axis=1).tolist() == [[8, 1, 2, 9]]
    assert meaning("bincount", np.int32([[0, 2, 2]]), cols=4).tolist() == [[1, 0, 2, 0]]
    for outside in (-1, 4):
        with pytest.raises(BoundsError, match=f"index {outside} into 4") as e:
            meaning("gather", x, np.int32([[outside]] * 3), axis=1)
        assert e.value.code == "PTO730"


# --- on the machine: every operation at every level, on tails and strided tensors, bit for bit as the evaluator says ---


def parts(x: Any) -> Any:
    return pto.concat(pto.slice(x, cols=(4, 8)), pto.slice(x, cols=(0, 4)))


def rotated(x: Any) -> Any:
    return pto.interleave(pto.slice_odd(x), pto.slice_even(x))


def below(x: Any, n: int) -> Any:
    """Indices 0 .. n - 1 made of any numbers."""
    small = x if x.dtype is I32 else pto.cast(pto.cast(x, F32), I32)
    return pto.maximum(pto.minimum(pto.abs(small), n - 1), 0)


ON_ROWS: dict[str, Callable[[Any], Any]] = {
    "topk values": lambda x: pto.topk(x, 5)[0],
    "topk indices": lambda x: pto.extract_topk_indices(x, 8),
    "rowargmax": pto.rowargmax,
    "rowargmin": pto.rowargmin,
    "cumsum": pto.cumsum,
    "cumsum down": lambda x: pto.cumsum(x, 0),
    "halves": parts,
    "pairs": rotated,
    "twice transposed": lambda x: pto.transpose(pto.transpose(x)),
    "gather": lambda x: pto.gather(x, below(x, 8)),
    "scatter": lambda x: pto.scatter(x, below(x, 8), x),
    "gather of a table": lambda x: pto.gather(pto.iota((1, 8)), below(x, 8)),
}


def takes(name: str, dtype: DType) -> bool:
    return dtype in NUMBERS or (dtype is not BOOL and name in ("halves", "pairs", "twice transposed"))


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n in ON_ROWS for d in DType if takes(n, d)], ids=str)
def test_on_the_machine_as_in_the_evaluator(name: str, dtype: DType) -> None:
    probe: list[tuple[int, DType]] = []

    def body(x: Any, out: Any) -> None:
        y = ON_ROWS[name](x)
        probe.append((y.shape[1], y.dtype))
        pto.store(out, y)

    cols, result = {
        "topk values": (5, dtype),
        "topk indices": (8, I32),
        "rowargmax": (1, I32),
        "rowargmin": (1, I32),
        "gather of a table": (8, I32),
    }.get(name, (8, dtype))

    @kernel
    def k(x: In[Tile[6, 8, dtype]], out: Out[Tile[6, cols, result]]):  # type: ignore[valid-type]
        body(x, out)

    @workload
    def w(x: Any, out: Any) -> None:
        for i in P(x.tiles(6)):
            k[i](x=x[i], out=out[i])

    rng = np.random.default_rng(len(name))
    numbers = rng.integers(0 if dtype.is_unsigned else -9, 10, (20, 16)).astype(np.float64)
    if dtype.is_float and name not in ("cumsum", "cumsum down", "gather", "scatter", "gather of a table"):
        numbers[rng.random(numbers.shape) < 0.2] = NAN
        if dtype is not DType.F8E4M3:
            numbers[rng.random(numbers.shape) < 0.1] = -INF
        numbers[rng.random(numbers.shape) < 0.1] = -0.0
    x = numbers.astype(dtype.numpy)[:, ::2]
    want = np.zeros((20, cols), result.numpy)
    evaluate(w(x, want).wir, {"x": x, "out": want})
    assert probe[0] == (cols, result)
    level = core().isa()
    try:
        for isa in core().isas():
            core().set_isa(isa)
            got = np.full((20, cols), 77, result.numpy)
            w(x, got).dispatch(DispatchPolicy.round_robin(2)).compile(threads=2).run()
            np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))
            np.testing.assert_array_equal(np.signbit(got[got == got]), np.signbit(want[want == want]))
    finally:
        core().set_isa(level)


def test_topk_of_long_rows() -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.standard_normal((2, 5000)), rng.integers(0, 3, (2, 5000))]).astype(np.float32)
    x[1, ::7] = NAN

    @kernel
    def k(x: In[Tile[1, 5000, F32]], v: Out[Tile[1, 3000, F32]], i: Out[Tile[1, 3000, I32]]):
        values, index = pto.topk(x, 3000)
        pto.store(v, values)
        pto.store(i, index)

    @workload
    def w(x, v, i):
        for b in P(4):
            k[b](x=x[b : b + 1], v=v[b : b + 1], i=i[b : b + 1])

    v, i = np.zeros((4, 3000), np.float32), np.zeros((4, 3000), np.int32)
    w(x, v, i).compile().run()
    np.testing.assert_array_equal(i, meaning("extract_topk_indices", x, cols=3000))
    np.testing.assert_array_equal(v, np.take_along_axis(x, i, axis=1))


@pytest.mark.parametrize("valid", [3, 8])
def test_fewer_valid_columns_than_k(valid: int) -> None:
    """Of a tail they are refused where the task begins, of a part that the kernel makes there."""

    @kernel
    def k(x: In[Tile[1, 8, F32]], v: Out[Tile[1, 4, F32]], i: Out[Tile[1, 4, I32]]):
        values, index = pto.topk(pto.restrict(x, 1, valid) if valid < 8 else x, 4)
        pto.store(v, values)
        pto.store(i, index)

    @workload
    def w(x, v, i):
        for t in P(x[0].tiles(8)):
            k[t](x=x[0:1, t], v=v[t : t + 1], i=i[t : t + 1])

    def arrays(n: int) -> dict[str, np.ndarray]:
        return {
            "x": np.arange(n, dtype=np.float32)[None],
            "v": np.zeros(((n + 7) // 8, 4), np.float32),
            "i": np.zeros(((n + 7) // 8, 4), np.int32),
        }

    columns = "3" if valid < 8 else "2"
    given = arrays(10)
    with pytest.raises(KernelError, match=f"extract_topk_indices needs 4 valid columns, and there are {columns}"):
        evaluate(expand(w(**given).wir), given)
    what = "extract_topk_indices needs 4 valid columns, and there are 3" if valid < 8 else "x.cols are fewer than 4"
    with pytest.raises(KernelError, match=what) as e:
        w(**given).compile().run()
    assert e.value.code == "PTO710"
    if valid == 8:
        given = arrays(12)
        w(**given).compile().run()
        assert given["i"].tolist() == [[7, 6, 5, 4], [3, 2, 1, 0]]
        assert given["v"].tolist() == [[7, 6, 5, 4], [11, 10, 9, 8]]


NEEDS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "slice": ("slice needs 25 valid columns, and there are 20", lambda x, i: pto.slice(x, None, (3, 25))),
    "slice_even": ("slice needs 31 valid columns, and there are 20", lambda x, i: pto.slice_even(x)),
    "reshape": ("reshape needs 32 valid columns, and there are 20", lambda x, i: pto.reshape(x, (4, 8))),
    "concat": ("concat needs 32 valid columns, and there are 20", lambda x, i: pto.concat(x, x)),
    "topk": (
        "extract_topk_indices needs 21 valid columns, and there are 20",
        lambda x, i: pto.topk(x, 21)[0],
    ),
    "all of topk": (
        "extract_topk_indices needs 32 valid columns, and there are 20",
        lambda x, i: pto.extract_topk_indices(x, 32),
    ),
    "sort32": (
        "extract_topk_indices needs 32 valid columns, and there are 20",
        lambda x, i: pto.sort32(x, i)[0],
    ),
    "sum": ("add of tiles of different valid shapes, 20 and 19", lambda x, i: x + pto.restrict(x, 1, 19)),
}


@pytest.mark.parametrize("name", NEEDS)
def test_what_must_be_valid_and_is_not(name: str) -> None:
    what, f = NEEDS[name]

    @kernel
    def k(x: In[Tile[1, 32, F32]], i: In[Tile[1, 32, I32]], y: Out[Tile[1, 1, F32]]):
        pto.store(y, pto.cast(pto.colmax(pto.rowmax(f(pto.restrict(x, 1, 20), i))), F32))

    @workload
    def w(x, i, y):
        k(x=x, i=i, y=y)

    given = {"x": np.zeros((1, 32), np.float32), "i": np.zeros((1, 32), np.int32), "y": np.zeros((1, 1), np.float32)}
    with pytest.raises(KernelError) as evaluated:
        evaluate(expand(w(**given).wir), given)
    with pytest.raises(KernelError) as run:
        w(**given).compile().run()
    assert evaluated.value.what == what
    assert run.value.what == f"kernel k: {what}"
    assert evaluated.value.code == run.value.code == "PTO710"
    assert ("fill_pad" in run.value.fix) is ("needs" in what)
    assert run.value.fix == evaluated.value.fix


@kernel
def pick(x: In[Tile[4, 8, F32]], i: In[Tile[4, 1, I32]], y: Out[Tile[4, 1, F32]]):
    pto.store(y, pto.gather(x, i))


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_index_outside_is_the_failure_of_its_task(in_order: bool, threads: int) -> None:
    @workload
    def w(x, i, y):
        for b in (P.seq if in_order else P)(x.tiles(4)):
            pick[b](x=x[b], i=i[b], y=y[b])

    index = np.zeros((400, 1), np.int32)
    index[[207, 330], 0] = 8, -1
    y = np.full((400, 1), 5.0, np.float32)
    program = w(np.ones((400, 8), np.float32), index, y).compile(threads=threads)
    for _ in range(2):
        with pytest.raises(BoundsError, match="gather by the index 8, where there are 8") as e:
            program.run()
        assert e.value.code == "PTO730"
        assert "b=51" in str(e.value)
        assert (y[:204] == 1).all()
    index[:] = 7
    program.run()
    assert (y == 1).all()


def test_a_part_of_a_tail_is_refused() -> None:
    @kernel
    def k(x: In[Tile[4, 8, F32]], y: Out[Tile[4, 4, F32]]):
        pto.store(y, pto.slice(x, cols=(4, 8)))

    @workload
    def w(x, y):
        for t in P(x[0].tiles(8)):
            k[t](x=x[:, t], y=y)

    with pytest.raises(KernelError, match="slice gets tiles whose valid extents do not fit") as e:
        w(np.zeros((4, 6), np.float32), np.zeros((4, 4), np.float32)).compile().run()
    assert e.value.code == "PTO710"


def test_constants_take_the_shape_of_what_they_stand_beside(k: Any) -> None:
    x, out = k.tile("x", 8, 4), k.tile("out", 8, 6, direction=Direction.OUT)
    pto.store(out, pto.concat(x, pto.full((8, 2), 3.0)))
    built = Kernel("k", "k", tuple(k.builder.params.values()), Region((), tuple(k.builder.eqns)))
    arrays_ = {"x": np.ones((5, 4), np.float32), "out": np.zeros((5, 6), np.float32)}
    run_kernel(expand_kernel(built), arrays_)
    assert arrays_["out"].tolist() == [[1, 1, 1, 1, 3, 3]] * 5
