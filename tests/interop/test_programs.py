"""Traced workloads and compiled programs as functions of JAX arrays: their tensors and sizes are the arguments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pto_wsp import (
    BindError,
    DenseDyn,
    In,
    InOut,
    Out,
    P,
    Program,
    PtoError,
    Ragged,
    Resources,
    Tensor,
    TypeCheckError,
    UnsupportedError,
    empty_like,
    kernel,
    pto,
    workload,
)
from pto_wsp.api.workload import Workload
from pto_wsp_jax import as_jax

X = np.arange(8 * 3 * 8, dtype=np.float32).reshape(8, 3, 8)
rows = DenseDyn(name="n")


@kernel
def doubled(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + x)


@kernel
def added(x: In[Tensor], to: InOut[Tensor]):
    pto.store(to, to + x)


@workload
def double(x):
    out = empty_like(x)
    for i in P(8):
        doubled[i](x=x[i], out=out[i])
    return out


@workload
def double_into(x, out):
    for i in P(8):
        doubled[i](x=x[i], out=out[i])


@workload
def some(x, out):
    for i in P(rows):
        doubled[i](x=x[i], out=out[i])


def equal(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def first(n: int) -> Any:
    return np.concatenate([2 * X[:n], 0 * X[n:]])


def compiled(w: Workload) -> Program:
    return w.compile(threads=2)


def kept(w: Workload) -> Workload:
    return w


KINDS = pytest.mark.parametrize("kind", [kept, compiled])


@KINDS
def test_tensors_are_arguments(kind: Callable[[Workload], Any]) -> None:
    g = as_jax(kind(double(X)))
    y = X + 1
    equal(jax.jit(g)(y), 2 * y)
    equal(g(x=y), 2 * y)
    equal(jax.jit(g)(), 2 * X)  # what it was traced with
    equal(jax.vmap(g, in_axes=1)(np.stack([X, y], axis=1)), 2 * np.stack([X, y]))
    equal(lax.scan(lambda c, _: (g(c), None), y, None, length=3)[0], 8 * y)
    assert "pto_call[site=double]" in str(jax.make_jaxpr(g)(X))


@KINDS
def test_what_is_only_written_may_be_left_out(kind: Callable[[Workload], Any]) -> None:
    out = np.zeros_like(X)
    g = as_jax(kind(double_into(X, out)))
    equal(jax.jit(lambda x: g(x=x))(X + 1), 2 * X + 2)
    equal(jax.vmap(lambda x: g(x=x))(np.stack([X, X + 1])), np.stack([2 * X, 2 * X + 2]))
    equal(g(x=X, out=np.ones_like(X)), 2 * X)
    assert not out.any()  # arrays of the workload are as they were


@KINDS
def test_sizes_are_numbers_or_operands(kind: Callable[[Workload], Any]) -> None:
    g = as_jax(kind(some(X, np.zeros_like(X))))
    zeros = np.zeros_like(X)
    equal(g(x=X, out=zeros, n=3), first(3))
    h = jax.jit(lambda n: g(x=X, out=zeros, n=n))
    for n in (0, 5, 8):
        equal(h(n), first(n))
    assert h._cache_size() == 1
    equal(h(np.uint8(2)), first(2))
    equal(jax.vmap(lambda n: g(x=X, out=zeros, n=n))(np.array([1, 4])), np.stack([first(1), first(4)]))
    both = jax.vmap(lambda x, n: g(x=x, out=jnp.zeros_like(x), n=n), in_axes=(0, None))
    equal(jax.jit(both)(np.stack([X, X]), 4), np.stack([first(4)] * 2))
    equal(lax.scan(lambda c, n: (g(x=X, out=c, n=n), None), zeros, np.arange(9))[0], 2 * X)
    with pytest.raises((ValueError, RuntimeError), match="the size of n is -1"):
        h(-1).block_until_ready()
    with pytest.raises((ValueError, RuntimeError), match="PTO163"):
        h(9).block_until_ready()
    equal(h(1), first(1))


@KINDS
def test_lengths_are_given_as_lists(kind: Callable[[Workload], Any]) -> None:
    seq = Ragged(2, [3, 1], name="seq")

    @workload
    def sums(x, out):
        for b in P(2):
            for k in P.seq(seq[b]):
                added[b, k](x=x[b, k : k + 1], to=out[b : b + 1])

    zeros = np.zeros((2, 8), np.float32)
    g = as_jax(kind(sums(X[:2], zeros)))
    equal(jax.jit(lambda x: g(x=x, out=zeros))(X[:2]), [X[0].sum(0), X[1, 0]])
    equal(g(x=X[:2], out=zeros, seq=[0, 2]), [zeros[0], X[1, :2].sum(0)])
    with pytest.raises(BindError, match="PTO513"):
        g(x=X[:2], out=zeros, seq=[0, -2])


def test_a_shape_that_a_traced_size_decides() -> None:
    n = DenseDyn(name="n")

    @workload
    def all_of(x):
        out = empty_like(x)
        for i in P(n):
            doubled[i](x=x[i], out=out[i])
        return out

    g = as_jax(all_of(Tensor(X, shape=(n, 3, 8), name="x")))
    equal(g(X, n=8), 2 * X)
    equal(g(X[:5], n=5), 2 * X[:5])
    with pytest.raises(UnsupportedError, match=r"PTO881.*depends on n"):
        jax.jit(lambda n: g(X, n=n))(8)
    with pytest.raises(BindError, match="PTO503"):
        g(X, n=5)


SOME = some(X, np.zeros_like(X))
TWICE = double(X)


@pytest.mark.parametrize(
    ("mistake", "cls", "code", "says"),
    [
        (lambda: as_jax(TWICE)(X[:3]), BindError, "PTO503", "f32[8,3,8]"),
        (lambda: as_jax(TWICE)(X.astype(np.int32)), BindError, "PTO503", "i32"),
        (lambda: as_jax(TWICE)(X[0]), BindError, "PTO503", "argument x"),
        (lambda: as_jax(TWICE)(z=X), TypeCheckError, "PTO155", "no argument z"),
        (lambda: as_jax(TWICE)(X, x=X), TypeCheckError, "PTO155", "no argument x"),
        (lambda: as_jax(SOME)(X, X, n=3), TypeCheckError, "PTO155", "given by name"),
        (lambda: as_jax(TWICE)(3), TypeCheckError, "PTO155", "tensor x"),
        (lambda: as_jax(SOME)(x=X, out=X), BindError, "PTO509", "size of n"),
        (lambda: as_jax(SOME)(x=X, n=3), BindError, "PTO507", "ShapeDtypeStruct"),
        (lambda: as_jax(SOME)(x=X, out=X, n=2.5), BindError, "PTO511", "2.5"),
        (lambda: as_jax(SOME)(x=X, out=X, n=jnp.float32(2)), TypeCheckError, "PTO155", "axis n"),
        (lambda: as_jax(SOME)(x=X, out=X, n=jnp.ones(2, int)), TypeCheckError, "PTO155", "axis n"),
        (lambda: as_jax(TWICE, check="all"), UnsupportedError, "PTO881", "check="),
        (lambda: as_jax(TWICE.compile(check="all")), UnsupportedError, "PTO881", "check="),
        (lambda: as_jax(TWICE.compile(resources=Resources(task_window=4))), UnsupportedError, "PTO881", "resources="),
        (lambda: as_jax(TWICE.compile(), threads=2), UnsupportedError, "PTO003", "threads"),
    ],
)
def test_a_mistake_is_a_clear_error(mistake: Callable[[], Any], cls: type[PtoError], code: str, says: str) -> None:
    with pytest.raises(cls, match=code) as e:
        mistake()
    assert says in str(e.value)
    assert "test_programs.py" in str(e.value)
    equal(as_jax(TWICE)(X), 2 * X)
