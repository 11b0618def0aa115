"""The workload as users hold it."""

import copy
import pickle
import re
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
    discharge,
    kernel,
    make_wir,
    pto,
    sequential,
    workload,
)
from pto_wsp.api.kinds import workload_type
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse
from pto_wsp.passes.expand import expand

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


def test_kinds() -> None:
    """As text, so that they need no tracing: what loops, branches and parts make of a type."""
    task = "task one[](y=Y[0 :+ 2, 0 :+ 2])"
    for body, kind in (
        (task, "(), {one}, Independent"),
        (f"parallel_for b in batch: Dense(4) {{ {task} }}", "Dense[4](batch), {one}, Independent"),
        (f"{task}; {task}", "(), {one}, Mixed"),
        (f"seq_for i in i: Range(4) {{ {task} }}", "Range[4](i), {one}, Sequential"),
        (f"sequential {{ part {{ {task} }} }}", "(), {one}, Sequential"),
        (
            f"seq_for i in i: Range(4) {{ parallel_for b in b: Range(2) {{ {task} }} }}",
            "Range[4](i) x Range[2](b), {one}, Mixed",
        ),
        (f"cond true:bool {{ then {{ {task} }} else {{ {task} }} }}", "(), {one}, Conditional"),
        (
            f"parallel_for b in batch: Dense(4) {{ n: i64 = item lens[b]; parallel_for t in seq: Ragged(n) {{ {task} }} }}",
            "Dense[4](batch) x Ragged(seq), {one}, Independent",
        ),
        (
            f"parallel_for b in batch: Dense(4) {{ parallel_for k in r: Sparse(b) {{ {task} }} }}",
            "Dense[4](batch) x Sparse(r), {one}, Selected",
        ),
        (
            f"parallel_for b in batch: Dense(4) {{ c: bool = s.lt (b) 3:i64; cond c {{ then {{ {task} }} }} }}",
            "Dense[4](batch), {one}, Conditional",
        ),
        (
            f"parallel_for k in r: Sparse(4) {{ c: bool = s.lt (k) 3:i64; cond c {{ then {{ {task} }} }} }}",
            "Sparse(r), {one}, Mixed",
        ),
    ):
        head = 'tensor Y: f32[2,2]; tensor lens: i64[4]; kernel one "one" (y: out f32<2x2>) '
        code = "{ a: f32<2x2> = full[cols=2, rows=2] 1.0:f32; store y a }"
        wir = parse(re.sub(r"; |(?<=\{)|(?=\})", "\n", f"workload w {{ {head}{code}; {body} }}"))
        assert workload_type(wir) == f"Workload[{kind}]"


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


def test_the_pure_form() -> None:
    w = attention(SPEC, TensorSpec((4, 8, 2, 2), DType.F32)).dispatch(DispatchPolicy.round_robin(2))
    pure = w.discharge()
    assert pure == discharge(w)
    assert "carry y" in str(pure)
    x = np.random.default_rng(0).standard_normal((4, 8, 2, 2), dtype=np.float32)
    y = np.zeros_like(x)
    evaluate(expand(pure), {"x": x, "y": y}, {"batch": 3})
    assert (y[:3] == x[:3]).all()
    assert not y[3].any()
    with pytest.raises(PtoError, match="PTO155"):
        discharge(attention)  # type: ignore[arg-type]
