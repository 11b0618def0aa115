"""What functions of JAX arrays refuse, each with a clear error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop.workloads import X, double, doubled, rows
from pto_wsp import (
    DType,
    In,
    InOut,
    Out,
    P,
    PtoError,
    RaceError,
    Resources,
    Scalar,
    Tensor,
    TraceError,
    TypeCheckError,
    UnsupportedError,
    empty_like,
    kernel,
    pto,
    slot_f64,
    slot_set_f64,
    workload,
)
from pto_wsp_jax import as_jax, handler


@kernel
def changed(x: InOut[Tensor]):
    pto.store(x, x + x)


@kernel
def times(x: In[Tensor], s: Scalar[DType.F32], out: Out[Tensor]):
    pto.store(out, x * s)


@workload
def numbered(x):
    out = empty_like(x)
    for i in P.seq(5):
        slot_set_f64(0, slot_f64(0) + 1.0)
        times[i](x=x[i], s=slot_f64(0), out=out[i])
    return out


@workload
def two(x, ct):
    return double(x), double(ct)


@workload
def read(x, y):
    out = empty_like(x)
    for i in P(rows):
        doubled[i](x=y[i], out=out[i])
    return out


@workload
def closing(x):
    out = empty_like(x)
    for i in P(rows):
        doubled[i](x=X[i : i + 1], out=out[i])
    return out


def bare(arguments: Any, ct: Any) -> Any:
    return 2 * ct


def nothing(arguments: Any, ct: Any) -> Any:
    return None


def too_many(arguments: Any, ct: Any) -> Any:
    return 2 * ct, None


def of_halves(arguments: Any, ct: Any) -> Any:
    return (ct.astype(jnp.bfloat16),)


def of_rows(arguments: Any, ct: Any) -> Any:
    return (ct[0],)


TRACED = double(X)
f = as_jax(double)


def writes_elsewhere() -> None:
    elsewhere = Tensor(np.zeros_like(X), name="elsewhere")

    @workload
    def writes(x):
        for i in P(rows):
            doubled[i](x=x[i], out=elsewhere[i])

    as_jax(writes)(X)


def inside_of_a_workload() -> None:
    @workload
    def outer(x):
        f(x)

    outer(X)


@pytest.mark.parametrize(
    ("mistake", "cls", "code", "says"),
    [
        (lambda: as_jax(np.sin), TraceError, "PTO155", "workload function"),
        (lambda: f(X, X), TypeCheckError, "PTO155", "too many"),
        (lambda: f({"a": {1, 2}}), TypeCheckError, "PTO155", "hashed"),
        (lambda: f(X.astype(np.complex64)), TypeCheckError, "PTO502", "complex64"),
        (lambda: as_jax(double, vjp=TRACED), TraceError, "PTO155", "vjp="),
        (
            lambda: jax.grad(lambda x: as_jax(double, vjp=two)(x).sum())(X),
            TypeCheckError,
            "PTO883",
            "2 cotangents for 1",
        ),
        (lambda: as_jax(read)(X, jax.ShapeDtypeStruct(X.shape, X.dtype)), UnsupportedError, "PTO881", "new memory"),
        (lambda: jax.vmap(as_jax(numbered))(np.stack([X, X])), RaceError, "PTO2", "slot"),
        (lambda: jax.grad(lambda x: as_jax(double, vjp=bare)(x).sum())(X), TypeCheckError, "PTO883", "Array"),
        (lambda: jax.grad(lambda x: as_jax(double, vjp=nothing)(x).sum())(X), TypeCheckError, "PTO883", "NoneType"),
        (
            lambda: jax.grad(lambda x: as_jax(double, vjp=too_many)(x).sum())(X),
            TypeCheckError,
            "PTO883",
            "float32[5, 3, 8], None",
        ),
        (lambda: jax.grad(lambda x: as_jax(double, vjp=of_halves)(x).sum())(X), TypeCheckError, "PTO883", "bfloat16"),
        (lambda: jax.grad(lambda x: as_jax(double, vjp=of_rows)(x).sum())(X), TypeCheckError, "PTO883", "[3, 8]"),
        (lambda: as_jax(closing)(X), TraceError, "PTO128", "Tensor(array)"),
        (lambda: as_jax(double, check="all"), UnsupportedError, "PTO881", "check="),
        (lambda: as_jax(double, resources=Resources(task_window=1)), UnsupportedError, "PTO881", "resources="),
        (writes_elsewhere, UnsupportedError, "PTO881", "none of its arguments"),
        (inside_of_a_workload, UnsupportedError, "PTO881", "double itself"),
        (lambda: jax.grad(lambda x: f(x).sum())(X), TypeCheckError, "PTO883", "lower_to_jax"),
        (lambda: jax.jacfwd(f)(X), TypeCheckError, "PTO883", "workload double"),
        (lambda: jax.hessian(lambda x: f(x).sum())(X), TypeCheckError, "PTO883", "workload double"),
        (lambda: jax.jit(f).trace(X).lower(lowering_platforms=("cuda",)), UnsupportedError, "PTO882", "CPUs"),
    ],
)
def test_a_mistake_is_a_clear_error(mistake: Callable[[], Any], cls: type[PtoError], code: str, says: str) -> None:
    with pytest.raises(cls, match=code) as e:
        mistake()
    assert says in str(e.value)
    assert "test_refusals.py" in str(e.value)
    np.testing.assert_array_equal(f(X), 2 * X)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(PtoError):
        f(X[:3])  # five rows are read


def test_a_package_without_the_handler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "_registered", [])
    monkeypatch.setattr(handler, "_LIBRARY", Path("nowhere"))
    with pytest.raises(UnsupportedError, match=r"PTO880.*without the handler"):
        as_jax(double)(jnp.ones((5, 1, 8)))


def test_a_jax_that_is_too_old_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "_registered", [])
    monkeypatch.setattr(jax, "__version__", "0.4.30")
    with pytest.raises(UnsupportedError, match=r"PTO880.*too old"):
        as_jax(double)(jnp.ones((5, 1, 8)))


def test_a_donated_array_is_gone() -> None:
    @workload
    def again(x):
        for i in P(rows):
            changed[i](x=x[i])

    step, x = jax.jit(as_jax(again), donate_argnums=0), jnp.array(X)
    y = step(x)
    with pytest.raises((RuntimeError, ValueError), match=r"deleted|donated"):
        step(x)
    np.testing.assert_array_equal(step(y), 4 * X)
