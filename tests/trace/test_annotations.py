"""Annotations as text: this file says `from __future__ import annotations`."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from pto_wsp import Constexpr, DType, In, InOut, Out, P, Scalar, Tensor, Tile, TraceError, kernel, pto, workload

N = 4
F32 = DType.F32
Row = Tile[1, N, F32]


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.zeros(shape, dtype)


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


def run(w: Any) -> None:
    w.compile(threads=1).run()


def test_names_of_the_module() -> None:
    @kernel
    def k(x: In[Tile[N, N, F32]], y: Out[Tile[N, N, F32]]) -> nonsense:  # noqa: F821 # a return annotation changes nothing
        pto.store(y, x + 1.0)

    @workload
    def w(x, y) -> more_nonsense:  # noqa: F821
        k(x=x, y=y)

    y = zeros(4, 4)
    run(w(zeros(4, 4), y))
    assert (y == 1).all()


def test_names_of_the_function_around() -> None:
    M = 2
    local = Tile[M, N, F32]

    @kernel
    def k(x: In[local], r: In[Row], y: Out[Tile[M, N, F32]]):
        pto.store(y, x + r)

    @workload
    def w(x, r, y):
        k(x=x, r=r, y=y)

    y = zeros(2, 4)
    run(w(ones(2, 4), ones(1, 4), y))
    assert (y == 2).all()


def test_names_of_functions_further_out() -> None:
    M = 3

    def inner() -> Any:
        def innermost() -> Any:
            @kernel
            def k(y: Out[Tile[M, M, F32]]):
                pto.store(y, 1.0)

            return k

        return innermost()

    k = inner()

    @workload
    def w(y):
        k(y=y)

    assert "f32<3x3>" in str(w(zeros(3, 3)))


def make(m: int) -> Any:
    def inner() -> Any:
        @kernel
        def k(y: Out[Tile[m, m, F32]]):
            pto.store(y, 1.0)

        return k

    return inner


def test_names_of_functions_that_have_returned_are_an_error() -> None:
    m = 9  # must not be taken for the other m
    with pytest.raises(TraceError, match=r"PTO120.*\n.*\n.*'m' is not defined"):
        make(3)()
    assert m == 9


def test_names_that_the_body_uses_stay_known() -> None:
    def outer(m: int) -> Any:
        def inner() -> Any:
            @kernel
            def k(y: Out[Tile[m, m, F32]]):
                pto.store(y, pto.full((m, m), 2.0))

            return k

        return inner

    k = outer(3)()

    @workload
    def w(y):
        k(y=y)

    assert "f32<3x3>" in str(w(zeros(3, 3)))


@pytest.mark.parametrize(
    "note", ["In[Tile[4, 4, F32]", "1 / 0", "In[missing]", "In[Tile[4, F32]]", "int", "In", "F32", "''"]
)
def test_annotations_that_are_none(note: str) -> None:
    def k(x): ...

    k.__annotations__ = {"x": note}
    with pytest.raises(TraceError, match=r"PTO12[01]") as caught:
        kernel(k)
    assert caught.value.loc is not None
    assert (caught.value.loc.file, caught.value.loc.line) == (__file__, k.__code__.co_firstlineno)


def test_bare_tensors_are_specialised_for_each_view() -> None:
    @kernel
    def k(x: In[Tensor], y: Out[Tensor]):
        assert x.shape == y.shape
        pto.store(y, x + x)

    @workload
    def w(x, h, y, z):
        for b in P(2):
            k(x=x[b], y=y[b])
        k(x=x[0, 0:2], y=y[0, 0:2])
        for b in P(2):
            k(x=x[b], y=y[b])
        k(x=h, y=z)

    y, z = zeros(2, 4, 8), zeros(3, 3, dtype=np.float16)
    traced = w(ones(2, 4, 8), np.ones((3, 3), np.float16), y, z)
    assert [(k.name, k.label, str(k.params[0].type.shape)) for k in traced.wir.kernels] == [
        ("k", "k", "(4, 8)"),
        ("k.1", "k", "(2, 8)"),
        ("k.2", "k", "(3, 3)"),
    ]
    run(traced)
    assert (y == 2).all()
    assert (z == 2).all()


def test_constants_are_told_apart_exactly() -> None:
    seen: list[Any] = []

    @kernel
    def k(c: Constexpr[object], y: Out[Tile[1, 1, F32]]):
        seen.append(c)
        value = c[0] if isinstance(c, tuple) else c
        pto.store(y, 1.0 / pto.full((1, 1), float(value)))

    values = [1, True, 1.0, 0.0, -0.0, (1,), (True,), (1.0,), (0.0,), (-0.0,), "1" * 2, 1, 0.0, (1,)]

    @workload
    def w(y):
        for i, c in enumerate(values):
            k(c=c, y=y[i : i + 1])

    y = zeros(len(values), 1)
    traced = w(y)
    assert list(map(repr, seen)) == list(map(repr, values[:-3]))
    assert len(traced.wir.kernels) == len(values) - 3
    run(traced)
    assert y[3] == np.inf
    assert y[4] == -np.inf
    assert (y[8], y[9]) == (np.inf, -np.inf)


def test_scalars_are_rounded_once() -> None:
    just_above = 1 + 2.0**-8 + 2.0**-40  # by way of f32 this would become 1.0

    @kernel
    def k(s: Scalar[DType.BF16], y: Out[Tile[1, 1, DType.BF16]], z: Out[Tile[1, 1, DType.BF16]]):
        pto.store(y, pto.full((1, 1), 0.0, DType.BF16) + s)
        pto.store(z, pto.full((1, 1), 0.0, DType.BF16) + just_above)

    import ml_dtypes

    y, z = (np.zeros((1, 1), ml_dtypes.bfloat16) for _ in "yz")

    @workload
    def w(y, z):
        k(s=just_above, y=y, z=z)

    run(w(y, z))
    assert float(y[0, 0]) == float(z[0, 0]) == 1 + 2.0**-7


def test_directions() -> None:
    @kernel
    def k(x: In[Tile[1, 1, F32]], a: InOut[Tile[1, 1, F32]], y: Out[Tile[1, 1, F32]]):
        pto.store(y, x + a)
        pto.store(a, y * 2.0)
        pto.store(a, a + 1.0)

    @workload
    def w(x, a, y):
        k(x, a, y=y)

    x, a, y = ones(1, 1), ones(1, 1), zeros(1, 1)
    run(w(x, a, y))
    assert (x[0, 0], y[0, 0], a[0, 0]) == (1, 2, 5)


def test_many_threads_may_trace_at_once() -> None:
    @kernel
    def k(n: Constexpr[int], x: In[Tensor], y: Out[Tensor]):
        v = x
        for _ in range(n):
            v = v * x
        pto.store(y, v)

    @workload
    def w(x, y, n):
        for a in P(n):
            for _ in range(n):
                k(n=n, x=x[a], y=y[a])

    def traced(n: int) -> str:
        return str(w(ones(8, n, n), zeros(8, n, n), n))

    want = [traced(n) for n in range(1, 9)]
    got: list[str] = [""] * 8
    start = threading.Barrier(8)

    def trace(i: int) -> None:
        start.wait()
        for _ in range(10):
            got[i] = traced(i + 1)

    threads = [threading.Thread(target=trace, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == want


def test_a_trace_in_one_thread_is_none_in_another() -> None:
    caught: list[str] = []

    def elsewhere() -> None:
        try:
            P(4)
        except TraceError as e:
            caught.append(e.code)

    @workload
    def w():
        t = threading.Thread(target=elsewhere)
        t.start()
        t.join()

    w()
    assert caught == ["PTO152"]
