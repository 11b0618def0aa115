"""What looks odd and is right."""

from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Constexpr,
    Dense,
    DenseDyn,
    DType,
    In,
    InOut,
    Out,
    P,
    Program,
    Scalar,
    Tensor,
    Tile,
    combine,
    kernel,
    make_wir,
    pto,
    workload,
)

F32 = DType.F32


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def scaled(factor: float, name: str | None = None) -> Any:
    @kernel(name=name)
    def k(x: In[Tile[4, 4, F32]], y: Out[Tile[4, 4, F32]]):
        pto.store(y, x * factor)

    return k


def test_two_kernels_of_one_name() -> None:
    two, three = scaled(2.0), scaled(3.0)

    @workload
    def w(x, y):
        two(x=x, y=y[0])
        three(x=x, y=y[1])

    x, y = np.ones((4, 4), np.float32), zeros(2, 4, 4)
    p = w(x, y).compile()
    p.run()
    assert (y[0, 0, 0], y[1, 0, 0]) == (2, 3)
    assert p.stats.kernel_counts == {"k": 2}


@pytest.mark.parametrize(
    "name",
    ["a b", "é中", '"', "'", "\\", "$(rm -rf x)", "$x", "`id`", "%s{}", "a\nb", "\x00", "tile", "f32", "..", "x" * 500],
)
def test_names_are_only_names(name: str) -> None:
    k = scaled(2.0, name)
    axis = Dense[2](name=name)

    @workload(name=name)
    def w(y):
        source = Tensor(np.ones((2, 4, 4), np.float32), name=name)
        for b in P(axis):
            k[b](x=source[b], y=y[b])

    y = zeros(2, 4, 4)
    p = w(y).compile()
    loaded = Program.from_bytes(p.to_bytes())
    loaded.bind({**p.tensors}).run()
    assert (y == 2).all()
    assert loaded.stats.kernel_counts == {name: 2}
    assert loaded.hash == p.hash


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -0.0, 1e-45, 3.4028235e38])
def test_constants_of_every_kind(value: float) -> None:
    @kernel
    def k(y: Out[Tile[2, 2, F32]]):
        pto.store(y, value)

    @workload
    def w(y):
        k(y=y)

    y = np.ones((2, 2), np.float32)
    p = w(y).compile()
    Program.from_bytes(p.to_bytes()).bind(p.tensors).run()
    assert y.tobytes() == np.full((2, 2), value, np.float32).tobytes() or (np.isnan(value) and np.isnan(y).all())


def test_odd_tiles() -> None:
    @kernel
    def k(x: In[Tile[5, 7, F32]], y: Out[Tile[5, 7, F32]]):
        pto.store(y, x - pto.rowmax(x))

    @workload
    def w(x, y):
        for i in P(x.tiles(5)):
            for j in P(x[0:1].tiles(1) if False else Dense[17]().tiles(7)):
                k(x=x[i, j], y=y[i, j])

    x = np.random.default_rng(0).integers(-9, 9, (13, 17)).astype(np.float32)
    y = zeros(13, 17)
    w(x, y).compile().run()
    want = np.concatenate([x[:, c : c + 7] - x[:, c : c + 7].max(axis=1, keepdims=True) for c in (0, 7, 14)], axis=1)
    assert (y == want).all()


@pytest.mark.parametrize("axis", [Dense[0](), DenseDyn(0), 0, Dense[0]().tiles(4)])
def test_axes_of_length_zero(axis: Any) -> None:
    k = scaled(1.0)

    @workload
    def w(x, y):
        for _ in P(axis):
            for b in P(2):
                k(x=x[b], y=y[b])

    y = zeros(2, 4, 4)
    p = w(np.ones((2, 4, 4), np.float32), y).compile()
    p.run()
    assert not y.any()
    assert (p.stats.task_count, p.stats.total_cycles) == (0, 0)


def test_empty_tensors() -> None:
    k = scaled(1.0)

    @workload
    def w(x, y):
        for i in P(x.tiles(4)):
            k(x=x[i], y=y[i])

    p = w(zeros(0, 4), zeros(0, 4)).compile()
    p.run()
    assert p.stats.task_count == 0


def test_a_plan_does_not_grow_with_the_tasks() -> None:
    @kernel
    def k(a: InOut[Tile[4, 4, F32]]):
        pto.store(a, a + 1.0)

    def size(n: int) -> int:
        axis = Dense[n](name="n")

        @workload
        def w(y):
            for _ in P.seq(axis):
                k(a=y)

        return len(w(zeros(4, 4)).compile().to_bytes())

    assert size(10**9) - size(10) < 40
    assert size(10**18) - size(10**9) < 40


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1, ::-1],
        lambda a: a.transpose(2, 1, 0),
        lambda a: a[::2, :, ::2],
        lambda a: np.broadcast_to(a[:1], a.shape),
    ],
)
def test_strides_of_every_kind(view: Any) -> None:
    base = np.arange(8**3, dtype=np.float32).reshape(8, 8, 8)
    x = view(base)
    out = np.zeros((8, 8, 8), np.float32)
    y = out if x.strides[0] == 0 else view(out)

    @kernel
    def k(x: In[Tensor], y: Out[Tensor]):
        pto.store(y, x + 1.0)

    @workload
    def w(x, y):
        for b in P(x.shape[0]):
            k(x=x[b], y=y[b])

    w(x, y).compile().run()
    assert (y == x + 1).all()


def test_arrays_that_are_not_aligned() -> None:
    raw = np.zeros(4 * 16 + 1, np.uint8)
    y = raw[1:].view(np.float32).reshape(4, 4)

    @workload
    def w(x, y):
        scaled(3.0)(x=x, y=y)

    w(np.ones((4, 4), np.float32), y).compile().run()
    assert (y == 3).all()


def test_arrays_of_other_libraries() -> None:
    class Wrapped:
        def __init__(self, array: np.ndarray[Any, Any]) -> None:
            self.__array_interface__ = array.__array_interface__
            self.array = array

    class Packed:
        def __init__(self, array: np.ndarray[Any, Any]) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    k = scaled(2.0)
    x, y = np.ones((4, 4), np.float32), zeros(4, 4)

    @workload
    def w():
        k(x=Tensor(Packed(x), name="x"), y=Tensor(Wrapped(y), name="y"))

    w().compile().run()
    assert (y == 2).all()


def test_workloads_of_arrays_combine() -> None:
    k = scaled(2.0)

    @workload
    def w(x, y):
        k(x=x, y=y)

    arrays = [np.ones((4, 4), np.float32) for _ in range(4)]
    combine(w(*arrays[:2]), w(*arrays[2:])).compile().run()
    assert [a[0, 0] for a in arrays] == [1, 2, 1, 2]


def test_a_loop_of_no_iterations_may_index_a_tensor_of_none() -> None:
    x, y = np.ones((0, 4, 4), np.float32), np.ones((0, 4, 4), np.float32)

    @workload
    def nothing(X, Y):
        for i in P(Dense[0]()):
            scaled(1.0)[i](x=X[0], y=Y[i])

    assert nothing(x, y).compile().run().stats.task_count == 0


def test_objects_with_dlpack_are_arrays() -> None:
    class Foreign:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options: object) -> object:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    x, y = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)

    @workload
    def w(X, Y):
        scaled(1.0)(x=X, y=Y)

    w(Foreign(x), Foreign(y)).compile().run()
    assert (y == 1).all()


def test_numpy_integers_are_constants_and_scalars_are_stored() -> None:
    @kernel
    def fill(n: Constexpr[int], s: Scalar[DType.F32], y: Out[Tile[4, 4, DType.F32]]):
        pto.store(y, s if n == 3 else 0.0)

    y = np.zeros((4, 4), np.float32)

    @workload
    def w(Y):
        fill(n=np.int64(3), s=np.float32(0.5), y=Y)

    w(y).compile(threads=np.int64(1)).run()
    assert (y == 0.5).all()


def test_numpy_scalars_on_the_left() -> None:
    @kernel
    def half(x: In[Tile[4, 4, DType.F32]], y: Out[Tile[4, 4, DType.F32]]):
        pto.store(y, np.float32(0.5) * x - np.float64(1))

    x, y = np.full((4, 4), 8, np.float32), np.zeros((4, 4), np.float32)

    @workload
    def w(X, Y):
        half(x=X, y=Y)

    w(x, y).compile().run()
    assert (y == 3).all()


def test_make_wir_of_a_kernel() -> None:
    @kernel
    def scale(x: In[Tensor], k: Constexpr[int], y: Out[Tensor]):
        pto.store(y, x * float(k))

    tile = Tile[5, 7, DType.F32]
    assert "b: f32<5x7 of x.rows x x.cols> = mul a 3.0:f32" in str(make_wir(scale)(tile, 3, tile))
