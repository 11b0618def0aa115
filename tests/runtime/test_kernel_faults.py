"""What goes wrong inside of a kernel: the same mistake in a run as in the evaluator, and all of it but the task's line said too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import Constexpr, DType, In, InOut, Out, P, PtoError, Scalar, Tensor, Tile, kernel, pto, workload

F32, I32, I64 = DType.F32, DType.I32, DType.I64


def doubled(y: Any, lo: Any, hi: Any) -> None:
    """A loop that is there for what it gives."""
    pto.store(y, pto.fori_loop(lo, hi, lambda i, c: c * 2.0, pto.load(y)))


def every(n: Any) -> tuple[Any, Any]:
    """From the least to the largest of 64 bits, if n is 63: one trip less than 2^64."""
    least = (pto.cast(n, I64) - 62) << n
    return least, ~least


FAULTS: list[tuple[str, int, Callable[[Any, Any, Any], Any]]] = [
    ("PTO732", 5, lambda r, n, y: pto.load(r, (n, 0), (4, 8))),
    ("PTO732", -1, lambda r, n, y: pto.load(r, (n, 0), (4, 8))),
    ("PTO732", 3, lambda r, n, y: pto.store(r, pto.full((3, 8), 0.0), (n, 0))),
    ("PTO732", 4, lambda r, n, y: pto.debug_print("", pto.item(y, (n, 0)))),
    ("PTO732", -1, lambda r, n, y: pto.debug_print("", pto.item(r, (n, 0)))),
    ("PTO710", 5, lambda r, n, y: pto.colsum(pto.restrict(y, n, 8))),
    ("PTO710", 0, lambda r, n, y: pto.colsum(pto.restrict(y, n, 8))),
    ("PTO710", 3, lambda r, n, y: pto.load(r, (n, 0), (4, 8)) + pto.load(r, (0, 0), (4, 8))),
    ("PTO711", 0, lambda r, n, y: pto.fori_loop(0, 8 // n, lambda i, c: c, 0)),
    ("PTO711", 0, lambda r, n, y: pto.fori_loop(0, 8 % n, lambda i, c: c, 0)),
    ("PTO716", 64, lambda r, n, y: pto.fori_loop(0, pto.cast(n, I64) << n, lambda i, c: c, 0)),
    ("PTO733", 31, lambda r, n, y: doubled(y, 0, (pto.cast(n, I64) - 30) << n)),
    ("PTO733", 63, lambda r, n, y: doubled(y, *every(n))),
    ("PTO717", 7, lambda r, n, y: pto.cast(pto.cast(n, DType.F64) * 1e300, I64)),
]


@pytest.mark.parametrize(("code", "n", "body"), FAULTS)
def test_faults(code: str, n: int, body: Callable[[Any, Any, Any], Any]) -> None:
    @kernel
    def k(r: InOut[Tensor[None, 8, F32]], n: Scalar[I32], y: InOut[Tile[4, 8, F32]]):
        pto.store(r, pto.full((1, 8), 0.0), (0, 0))
        pto.store(y, 0.0)
        pto.cond(n >= -9, lambda: (body(r, n, y), None)[1], lambda: None)

    @workload
    def w(r, y):
        for i in P.seq(3):
            k(r=r, n=i * 0 + n, y=y)

    def arrays() -> tuple[Any, Any]:
        return np.zeros((5, 8), np.float32), np.zeros((4, 8), np.float32)

    with pytest.raises(PtoError) as evaluated:
        k.evaluate(**dict(zip("ry", arrays(), strict=True)), n=n)
    with pytest.raises(PtoError) as run:
        w(*arrays()).compile().run()
    a, b = evaluated.value, run.value
    assert (a.code, type(a)) == (b.code, type(b)) == (code, type(a))
    assert a.loc is not None and a.loc.file == __file__
    assert b.loc is not None and b.loc.function == "w"
    # where the evaluator says it is, in the kernel
    assert str(b.values["at"]) == str(a.loc)


def test_fewer_than_no_trips_are_none() -> None:
    @kernel
    def k(n: Scalar[I32], y: Out[Tile[1, 1, I32]]):
        pto.store(y, pto.fori_loop(n, -3, lambda i, c: c + 1, pto.full((1, 1), 7, I32)))

    @workload
    def w(y):
        for i in P(2):
            k(n=i * 10 - 5, y=y[i])

    y = np.zeros((2, 1, 1), np.int32)
    w(y).compile().run()
    assert y.ravel().tolist() == [9, 7]


@pytest.mark.parametrize("n", [0, 5, -3])
@pytest.mark.parametrize("loop", [True, False])
def test_what_a_loop_or_branch_gives_has_a_shape_though_nothing_in_it_runs(n: int, loop: bool) -> None:
    @kernel
    def k(n: Scalar[I32], loop: Constexpr[bool], y: Out[Tile[1, 8, F32]]):
        x = pto.full((4, 8), 0.0)
        shaped = lambda *_: pto.restrict(x, n, 8)  # noqa: E731
        pto.store(y, pto.colsum(pto.fori_loop(n, 0, shaped, x) if loop else pto.cond(n == 2, shaped, lambda: x)))

    @workload
    def w(y):
        k(n=n, loop=loop, y=y)

    y = np.zeros((1, 8), np.float32)
    with pytest.raises(PtoError) as evaluated:
        k.evaluate(n=n, loop=loop, y=y)
    with pytest.raises(PtoError) as run:
        w(y).compile().run()
    assert evaluated.value.code == run.value.code == "PTO710"
    assert str(run.value.values["at"]) == str(evaluated.value.loc)


def test_what_a_loop_gives_has_extents_that_are_looked_at_inside() -> None:
    """Of a region whose number of columns is known at the task, as the tile's that is carried."""

    @kernel
    def k(r: In[Tensor[12, None, F32]], n: Scalar[I32], y: Out[Tile[4, 8, F32]]):
        step = lambda i, c: c + pto.load(r, (pto.minimum(i, 8), 0), (4, 8))  # noqa: E731
        pto.store(
            y, pto.cond(n > 0, lambda: pto.fori_loop(0, n, step, pto.full((4, 8), 1.0)), lambda: pto.full((4, 8), 1.0))
        )

    @workload
    def w(x, y, n):
        for i in P(n):
            k(r=x, n=i, y=y[i])

    x, y = np.ones((12, 8), np.float32), np.zeros((4, 4, 8), np.float32)
    w(x, y, 4).compile().run()
    assert (y == 1 + np.arange(4)[:, None, None]).all()
    again = np.zeros((4, 8), np.float32)
    k.evaluate(r=x, n=2, y=again)
    assert (again == 3).all()
    with pytest.raises(PtoError) as evaluated:
        k.evaluate(r=x[:, :0], n=2, y=again)
    with pytest.raises(PtoError) as run:
        w(x[:, :0], y, 4).compile().run()
    assert evaluated.value.code == run.value.code == "PTO732"
    assert str(run.value.values["at"]) == str(evaluated.value.loc)


def test_regions_without_elements() -> None:
    @kernel
    def k(r: In[Tensor[None, 8, F32]], y: Out[Tile[1, 8, F32]]):
        step = lambda i, c: c + pto.load(r, (i, 0), (1, 8))  # noqa: E731
        pto.store(y, pto.fori_loop(0, r.shape[0], step, pto.full((1, 8), 1.0)))

    @workload
    def w(x, y):
        k(r=x, y=y)

    for rows in (0, 3):
        y = np.zeros((1, 8), np.float32)
        w(np.ones((rows, 8), np.float32), y).compile().run()
        assert (y == 1 + rows).all()


def test_the_check_of_numerics_finds_where_a_loop_makes_a_nan() -> None:
    @kernel
    def k(r: In[Tensor[None, 8, F32]], y: Out[Tile[1, 8, F32]]):
        def step(i: Any, acc: Any) -> Any:
            return pto.cond(i < 2, lambda: acc, lambda: pto.sqrt(acc))

        pto.store(y, pto.fori_loop(0, r.shape[0], step, pto.load(r, (0, 0), (1, 8)) * -1.0))

    @workload
    def w(x, y):
        k(r=x, y=y)

    w(np.ones((2, 8), np.float32), np.ones((1, 8), np.float32)).compile(check="numerics").run()
    with pytest.raises(PtoError) as caught:
        w(np.ones((3, 8), np.float32), np.ones((1, 8), np.float32)).compile(check="numerics").run()
    assert caught.value.code == "PTO722"
    assert "sqrt" in str(caught.value)


def test_what_an_inexact_condition_decides_is_open() -> None:
    """The evaluator and a run may differ by rounding in what a branch looks at, and then in all that comes after."""

    @kernel
    def k(x: In[Tile[1, 64, F32]], y: Out[Tile[1, 1, F32]]):
        total = pto.item(pto.rowsum(pto.exp(x)), (0, 0))
        pto.store(y, pto.full((1, 1), pto.cond(total < 64.00001, lambda: 0.0, lambda: 1e6)) * 1.0)

    @workload
    def w(x, y):
        k(x=x, y=y)

    x = np.random.default_rng(0).normal(scale=1e-4, size=(1, 64)).astype(np.float32)
    w(x, np.zeros((1, 1), np.float32)).compile(check="numerics").run()


def failed(body: Callable[[Any, Any], Any], n: int) -> str:
    """What a run says of a kernel that reads a region of 4 rows at n."""

    @kernel
    def k(x: In[Tensor[None, 8, F32]], t: In[Tile[4, 8, F32]], n: Scalar[I64], y: Out[Tile[4, 8, F32]]):
        pto.store(y, 0.0)
        pto.debug_print("", body((x, t), n))

    @workload
    def w(x, y):
        k(x=x, t=x, n=n, y=y)

    with pytest.raises(PtoError) as caught:
        w(np.zeros((4, 8), np.float32), np.zeros((4, 8), np.float32)).compile().run()
    assert caught.value.code == "PTO732"
    return caught.value.what


@pytest.mark.parametrize("n", [4, 1000, 2**62])
@pytest.mark.parametrize("of", [0, 1])
def test_a_part_behind_the_end_is_told_by_its_index(n: int, of: int) -> None:
    what = failed(lambda given, n: pto.load(given[of], (n, 0), (4, 8)), n)
    assert what == f"kernel k: load_part of {'xt'[of]} from {n} on, in a dimension of 4"


def test_a_tile_that_a_kernel_computes_has_no_name() -> None:
    what = failed(lambda given, n: pto.item(given[1] * 2.0, (n, 0)), 9)
    assert what == "kernel k: element of a tile that it computes from 9 on, in a dimension of 4"
    assert failed(lambda given, n: pto.item(given[0], (n, 0)), 9).startswith("kernel k: element of x from 9 on")


def test_a_part_that_shapes_what_a_loop_gives_is_told_by_its_index() -> None:
    @kernel
    def k(r: In[Tensor[12, None, F32]], y: Out[Tile[4, 8, F32]]):
        step = lambda i, c: c + pto.load(r, (pto.minimum(i, 8), 3), (4, 8))  # noqa: E731
        pto.store(y, 0.0)
        pto.debug_print("", pto.fori_loop(0, 2, step, pto.full((4, 8), 1.0)))

    @workload
    def w(r, y):
        k(r=r, y=y)

    with pytest.raises(PtoError, match="load_part of r from 3 on, in a dimension of 1"):
        w(np.zeros((12, 1), np.float32), np.zeros((4, 8), np.float32)).compile().run()
