"""debug_print writes the same text in a run and in the evaluator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import DType, In, P, Scalar, Tile, kernel, pto, workload

EDGES = [0.0, -0.0, 1.0, -1.5, 1 / 3, 1e-5, 100000.0, 123456789.0, np.nan, -np.nan, np.inf, -np.inf, 1e-40, 5e-324]


def numbers(dtype: DType) -> np.ndarray:
    """The edges of a dtype, and all patterns of its bits up to 64 of them, in two rows."""
    if dtype is DType.BOOL:
        return np.array([[False, True], [True, False]])
    size = dtype.numpy.itemsize
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 256, 32 * size, dtype=np.uint8).view(dtype.numpy)
    if dtype.is_float:
        with np.errstate(all="ignore"):
            edges = np.array(EDGES).astype(dtype.numpy)
    else:
        info = np.iinfo(dtype.numpy)
        edges = np.array([info.min, info.max, 0, 1], dtype.numpy)
    values = np.concatenate([edges, bits])
    return values[: len(values) // 2 * 2].reshape(-1, 2)


def both(capfd: pytest.CaptureFixture[str], k: Any, x: np.ndarray, **scalars: Any) -> str:
    """What a run writes, which is what the evaluator writes."""

    @workload
    def w(x: Any) -> None:
        k(x=x, **scalars)

    capfd.readouterr()
    w(x).compile(threads=1).run()
    in_run = capfd.readouterr().err
    k.evaluate(x=x, **scalars)
    assert capfd.readouterr().err == in_run
    return in_run


@pytest.mark.parametrize("dtype", DType, ids=str)
def test_of_every_dtype(capfd: pytest.CaptureFixture[str], dtype: DType) -> None:
    x = numbers(dtype)
    rows = x.shape[0]

    @kernel
    def k(x: In[Tile[rows, 2, dtype]], n: Scalar[dtype]):
        pto.debug_print("tile", x)
        pto.debug_print("element", pto.item(x, (rows - 1, 1)))
        pto.debug_print("scalar", n)

    text = both(capfd, k, x, n=True if dtype is DType.BOOL else 1).splitlines()
    shown = min(rows, 16) + (rows > 16)
    assert text[0] == f"tile (kernel k): {dtype}<{rows}x2>"
    assert text[1 + shown].startswith(f"element (kernel k): {dtype.scalar} ")
    assert text[2 + shown] == f"scalar (kernel k): {dtype} {'true' if dtype is DType.BOOL else 1}"
    assert len(text) == 3 + shown


@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.F16, DType.BF16], ids=str)
def test_floats_say_which_number_it_is(capfd: pytest.CaptureFixture[str], dtype: DType) -> None:
    x = numbers(dtype)[:8]

    @kernel
    def k(x: In[Tile[8, 2, dtype]]):
        pto.debug_print("x", x)

    lines = both(capfd, k, x).splitlines()[1:]
    words = [word for line in lines for word in line.split()]
    assert words[:4] == ["0", "-0", "1", "-1.5"]
    assert words[8:12] == ["nan", "nan", "inf", "-inf"]
    again = np.array([float(w) for w in words]).astype(dtype.numpy).reshape(x.shape)
    np.testing.assert_array_equal(again.astype(np.float64), x.astype(np.float64))
    np.testing.assert_array_equal(np.signbit(again)[:4], np.signbit(x)[:4])


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 3), (3, 17), (40, 33)])
def test_of_many_rows_and_columns_the_ends(capfd: pytest.CaptureFixture[str], shape: tuple[int, int]) -> None:
    @kernel
    def k(x: In[Tile[*shape, DType.I32]]):
        pto.debug_print("x", x)

    x = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    lines = both(capfd, k, x).splitlines()
    assert lines[0] == f"x (kernel k): i32<{shape[0]}x{shape[1]}>"
    assert lines[1].split()[0] == "0"
    assert lines[-1].split()[-1] == str(x[-1, -1])
    assert ("  ..." in lines) == (shape[0] > 16)
    assert (" ... " in lines[1]) == (shape[1] > 16)
    assert len(lines) == 1 + (shape[0] if shape[0] <= 16 else 17)


def test_loops_branches_and_tails(capfd: pytest.CaptureFixture[str]) -> None:
    @kernel
    def k(x: In[Tile[4, 2, DType.F32]], n: Scalar[DType.I32]):
        def step(i: Any, acc: Any) -> Any:
            pto.debug_print("i", i)
            return pto.cond(i > 0, lambda: shown("then", acc), lambda: shown("else", acc * 0.5))

        pto.debug_print("end %s {}", pto.fori_loop(0, pto.cast(n, DType.I64), step, pto.load(x)))

    def shown(label: str, value: Any) -> Any:
        pto.debug_print(label, value)
        return value

    @workload
    def w(x: Any) -> None:
        for i in P.seq(x.tiles(4)):
            k(x=x[i], n=2)

    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    w(x).compile(threads=1).run()
    in_run = capfd.readouterr().err
    for part in (x[:4], x[4:]):
        k.evaluate(x=part, n=2)
    assert capfd.readouterr().err == in_run
    labels = [line.split(" (")[0] for line in in_run.splitlines() if "(kernel" in line]
    assert labels == ["i", "else", "i", "then", "end %s {}"] * 2


def test_a_checked_run_prints_once(capfd: pytest.CaptureFixture[str]) -> None:
    @kernel
    def k(x: In[Tile[1, 2, DType.F32]]):
        pto.debug_print("x", x)

    @workload
    def w(x: Any) -> None:
        k(x=x)

    compiled: Callable[..., Any] = w(np.ones((1, 2), np.float32)).compile
    for check in ("numerics", "all"):
        compiled(threads=1, check=check).run()
        assert capfd.readouterr().err == "x (kernel k): f32<1x2>\n  1 1\n"
