"""The workload as users hold it."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    PtoError,
    TensorSpec,
    Tile,
    UnsupportedError,
    kernel,
    make_wir,
    pto,
    sequential,
    workload,
)

batch = DenseDyn(4)
heads = Dense[8]()


@kernel
def attn(x: In[Tile[2, 2, DType.F32]], y: Out[Tile[2, 2, DType.F32]]):
    pto.store(y, x)


@kernel
def add(a: InOut[Tile[2, 2, DType.F32]]):
    pto.store(a, a + 1.0)


@workload
def attention(x, y):
    for b, h in P(batch, heads):
        attn[b, h](x=x[b, h], y=y[b, h])


@workload
def steps(y):
    for _ in P.seq(3):
        add(a=y)


SPEC = TensorSpec((4, 8, 2, 2), DType.F32)


def test_the_type() -> None:
    w = attention(SPEC, TensorSpec((4, 8, 2, 2), DType.F32))
    assert w.type == "Workload[DenseDyn(batch) x Dense[8](heads), {attn}, Independent]"
    assert w.dispatch(DispatchPolicy.round_robin(2)).type == w.type
    s = steps(TensorSpec((2, 2), DType.F32))
    assert s.type.endswith("{add}, Sequential]")
    assert sequential(w, s).type.endswith("{attn, add}, Mixed]")


def test_make_wir_shows_the_workload() -> None:
    specs = SPEC, TensorSpec((4, 8, 2, 2), DType.F32)
    assert make_wir(attention)(*specs) == attention(*specs).wir
    assert "parallel_for b in batch: DenseDyn($batch)" in str(make_wir(attention)(*specs))


def test_a_traced_workload_runs_no_python_again() -> None:
    count = 0

    @workload
    def w(y):
        nonlocal count
        count += 1
        for b in P(DenseDyn(name="n")):
            add(a=y[b])

    y = np.zeros((9, 2, 2), np.float32)
    p = w(y).dispatch(DispatchPolicy.round_robin(2)).compile()
    for n in (3, 9):
        p.set_axis_sizes({"n": n}).run()
    assert count == 1
    assert y[:, 0, 0].tolist() == [2] * 3 + [1] * 6


def test_missing_names_are_attribute_errors_too() -> None:
    w = steps(TensorSpec((2, 2), DType.F32))
    for owner in (w, P, pto, DType, DispatchPolicy):
        assert not hasattr(owner, "no_such_name")
        with pytest.raises(UnsupportedError, match="PTO001"):
            owner.no_such_name  # noqa: B018
    assert copy.copy(w) == w


def test_errors_can_be_sent_to_other_processes() -> None:
    with pytest.raises(PtoError) as caught:
        Dense[-1]
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert type(again) is type(caught.value)


def test_decorators_keep_names_and_documents() -> None:
    @kernel(name="shown")
    def k(y: Out[Tile[2, 2, DType.F32]]):
        """Says what it does."""
        pto.store(y, 0.0)

    @workload
    def w():
        """Calls it."""

    assert (k.__name__, k.__doc__) == ("shown", "Says what it does.")
    assert (w.__name__, w.__doc__) == ("w", "Calls it.")


def test_a_workload_without_tasks() -> None:
    @workload
    def w():
        pass

    p: Any = w().compile()
    p.run()
    assert (p.stats.task_count, p.stats.total_cycles) == (0, 0)
