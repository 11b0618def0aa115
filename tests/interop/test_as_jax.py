"""Workloads inside of JAX programs: numbers under every transformation, and what is refused."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from interop.workloads import X, added, both, double, doubled, halved, rows
from pto_wsp import (
    Channel,
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Ragged,
    Tensor,
    Tile,
    consume,
    empty,
    empty_like,
    item,
    kernel,
    pto,
    send,
    vmap,
    workload,
)
from pto_wsp_jax import TARGET, as_jax


@workload
def double_into(x, y):
    for i in P(rows):
        doubled[i](x=x[i], out=y[i])


@workload
def add_to(x, total, scale):
    for i in P(rows):
        added[i](x=x[i], scale=scale, to=total[i])


f, into, accumulate = as_jax(double), as_jax(double_into), as_jax(add_to)


x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


def equal(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.int8, np.uint8, np.int16, np.uint16, np.uint32]
)
def test_dtypes(dtype: Any) -> None:
    x = (X % 50).astype(dtype)
    y = jax.jit(f)(x)
    assert y.dtype == x.dtype
    equal(y, x + x)


def test_64_bits_need_x64() -> None:
    with x64():
        for dtype in (np.float64, np.int64):
            y = jax.jit(f)(X.astype(dtype))
            assert y.dtype == dtype
            equal(y, 2 * X.astype(dtype))


def test_eager_jit_and_nested_jit() -> None:
    equal(f(X), 2 * X)
    equal(jax.jit(lambda x: jax.jit(f)(x) + f(x))(X), 4 * X)
    assert f(X).shape == jax.eval_shape(f, X).shape


def test_what_is_written_comes_back() -> None:
    memory = jax.ShapeDtypeStruct(X.shape, X.dtype)
    equal(jax.jit(lambda x: into(x, memory))(X), 2 * X)
    equal(into(X, X), 2 * X)
    y = jnp.asarray(X)
    equal(jax.jit(lambda x, y: accumulate(x, y, 0.5))(X, y), 1.5 * X)
    equal(y, X)  # as it was
    out, total = jax.jit(as_jax(both))(X, y)
    equal(out, 4 * X)
    equal(total, 2 * X)


def test_new_memory_is_zeros() -> None:
    memory = jax.ShapeDtypeStruct((7, 3, 8), X.dtype)  # two rows more than are written
    y = into(X, memory)
    equal(y[:5], 2 * X)
    equal(y[5:], 0 * y[5:])


def test_donated_arguments_are_updated_in_place() -> None:
    step = jax.jit(lambda x, y: accumulate(x, y, 1.0), donate_argnums=1)
    y = jnp.zeros_like(X)
    before = y.unsafe_buffer_pointer()
    for _ in range(4):
        y = step(X, y)
        assert y.unsafe_buffer_pointer() == before
    equal(y, 4 * X)
    assert step(X, jnp.array(y)).sum() == 5 * X.sum()


def test_results_are_xlas_own_memory() -> None:
    """Nothing is copied on the way in or out."""
    x = jnp.ones((5, 256, 256))
    compiled = jax.jit(f).lower(x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes == 0
    equal(compiled(x), 2 * x)


def test_control() -> None:
    equal(lax.scan(lambda c, _: (f(c), f(c)[0, 0, 0]), X, None, length=3)[0], 8 * X)
    equal(jax.jit(lambda p, x: lax.cond(p, f, lambda x: x, x))(True, X), 2 * X)
    equal(jax.jit(lambda p, x: lax.cond(p, f, lambda x: x, x))(False, X), X)
    equal(lax.while_loop(lambda x: x.sum() < 8 * X.sum(), f, jnp.asarray(X)), 8 * X)
    equal(lax.fori_loop(0, 4, lambda i, x: f(x), jnp.asarray(X)), 16 * X)
    equal(lax.map(f, np.stack([X, X + 1])), np.stack([2 * X, 2 * X + 2]))
    equal(jax.checkpoint(f)(X), 2 * X)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_vmap_over_any_axis(axis: int) -> None:
    xs = np.stack([X, X + 1, X * 2])
    equal(jax.vmap(f, in_axes=axis)(np.moveaxis(xs, 0, axis)), 2 * xs)
    equal(jax.jit(jax.vmap(f, in_axes=axis, out_axes=1))(np.moveaxis(xs, 0, axis)), np.moveaxis(2 * xs, 0, 1))


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, None), (None, 0), (2, 1), (None, 2)])
def test_vmap_over_some_arguments(a: int | None, b: int | None) -> None:
    xs, ys = np.stack([X, X + 1, X * 2]), np.stack([X * 3, X - 1, X])
    x = X if a is None else np.moveaxis(xs, 0, a)
    y = X if b is None else np.moveaxis(ys, 0, b)
    got = jax.vmap(lambda x, y: accumulate(x, y, 2.0), in_axes=(a, b))(x, y)
    equal(got, 2 * (X[None] if a is None else xs) + (X[None] if b is None else ys))


def test_vmap_is_one_call() -> None:
    xs = np.stack([X] * 6).reshape(2, 3, *X.shape)
    text = jax.jit(jax.vmap(jax.vmap(f))).lower(xs).as_text()
    assert text.count(TARGET) == 1
    assert "while" not in text
    equal(jax.vmap(jax.vmap(f))(xs), 2 * xs)
    memory = jax.ShapeDtypeStruct(X.shape, X.dtype)
    equal(jax.vmap(lambda x: into(x, memory))(xs[0]), 2 * xs[0])
    equal(lax.scan(lambda c, _: (jax.vmap(f)(c), None), xs[0], None, length=2)[0], 4 * xs[0])


def test_workloads_that_are_mapped_or_scheduled_already() -> None:
    xs = np.stack([X, X + 1])
    equal(as_jax(vmap(double).dispatch(DispatchPolicy.round_robin(4)))(xs), 2 * xs)
    equal(jax.vmap(as_jax(vmap(double)))(xs[None]), 2 * xs[None])


def test_axes_and_data_decide_what_runs() -> None:
    """Lengths in arrays are operands: other lengths run in the same compiled program."""

    @workload
    def summed(x, lengths, totals):
        n = x.shape[0]
        part = Ragged(Dense[3](name="batch"), lengths, name="part")
        for b in P(3):
            for k in P.seq(part[b]):
                added[b, k](x=x[b, k : k + 1], scale=1.0, to=totals[b : b + 1])
        assert n == 3

    g = jax.jit(as_jax(summed))
    x = np.arange(3 * 6 * 4, dtype=np.float32).reshape(3, 6, 4)
    for lengths in ([6, 0, 2], [0, 0, 0], [1, 5, 6]):
        got = g(x, np.array(lengths, np.int32), jnp.zeros((3, 4)))
        equal(got, np.stack([x[b, :n].sum(axis=0) for b, n in enumerate(lengths)]))
    assert g._cache_size() == 1


def test_constants_of_64_bits() -> None:
    """Lengths that a list gave are integers of 64 bits, with and without x64."""
    seq = Ragged(Dense[2](name="two"), [3, 1], name="seq")

    @workload
    def ragged(x, y):
        for b in P(2):
            for k in P(seq[b]):
                doubled[b, k](x=x[b, k : k + 1], out=y[b, k : k + 1])

    x = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)
    want = np.zeros_like(x)
    want[0, :3], want[1, :1] = 2 * x[0, :3], 2 * x[1, :1]
    equal(jax.jit(as_jax(ragged))(x, np.zeros_like(x)), want)


def test_sizes_are_static() -> None:
    @workload
    def some(x, n, y):
        for i in P(n):
            doubled[i](x=x[i], out=y[i])

    g = as_jax(some)
    for n in (0, 2, 5):
        equal(g(X, DenseDyn(n, name="n"), np.zeros_like(X))[:n], 2 * X[:n])


def test_pipelines() -> None:
    @workload
    def piped(x, y):
        tiles = Channel[Tensor](depth=2, name="tiles")
        with P.pipe():
            for i in P.seq(5):
                send(tiles, doubled[i](x=x[i], out=y[i]))
            with consume(tiles) as tile:
                halved(x=tile)

    equal(jax.jit(as_jax(piped))(X, np.zeros_like(X)), X)


def rule(arguments: Any, cotangents: Any) -> Any:
    return (f(cotangents),)


def test_gradients_with_a_rule() -> None:
    g = as_jax(double, vjp=rule)

    def loss(x: Any) -> Any:
        return (g(x) ** 2).sum()

    x = X / 100
    np.testing.assert_allclose(jax.grad(loss)(x), 8 * x, rtol=2**-21)  # three roundings
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(x), 8 * x, rtol=2**-21)
    xs = np.stack([x, x + 1])
    np.testing.assert_allclose(jax.vmap(jax.grad(loss))(xs), 8 * xs, rtol=2**-21)
    np.testing.assert_allclose(jax.grad(lambda xs: (jax.vmap(g)(xs) ** 2).sum())(xs), 8 * xs, rtol=2**-21)
    np.testing.assert_allclose(jax.grad(jax.checkpoint(loss))(x), 8 * x, rtol=2**-21)
    direction = np.ones_like(x)
    step = 2.0**-6  # the loss is quadratic: differences are exact but for roundings
    numeric = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    np.testing.assert_allclose((jax.grad(loss)(x) * direction).sum(), numeric, rtol=1e-4)


@kernel
def scaled(x: In[Tensor], by: In[Tensor], out: Out[Tensor]):
    pto.store(out, x * by)


@kernel
def doubly_scaled(x: In[Tensor], by: In[Tensor], out: Out[Tensor]):
    pto.store(out, x * by * 2.0)


@workload
def square_of_some(x, which):
    out = empty_like(x)
    for i in P(5):
        scaled[i](x=x[item(which[i])], by=x[item(which[i])], out=out[i])
    return out


@workload
def back(x, which, ct):
    out = empty_like(x)
    for i in P(5):
        doubly_scaled[i](x=x[item(which[i])], by=ct[i], out=out[i])
    return out


def test_a_workload_is_a_rule() -> None:
    g = as_jax(square_of_some, vjp=back)
    which = np.arange(5)

    def loss(x: Any) -> Any:
        return (g(x, which) ** 2).sum()

    x, xs = X / 100, np.stack([X / 100, X / 50 + 1])
    bound = 2**-20  # six roundings
    np.testing.assert_allclose(jax.grad(loss)(x), 4 * x**3, rtol=bound)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(loss)))(xs), 4 * xs**3, rtol=bound)
    np.testing.assert_allclose(jax.grad(lambda xs: jax.vmap(loss)(xs).sum())(xs), 4 * xs**3, rtol=bound)
    assert "name=square_of_some" in str(jax.make_jaxpr(g)(X, which))


def test_rules_are_differentiated_in_their_turn() -> None:
    @kernel
    def cubed(x: In[Tensor], out: Out[Tensor]):
        pto.store(out, x * x * x)

    @workload
    def cube(x):
        out = empty_like(x)
        for i in P(5):
            cubed[i](x=x[i], out=out[i])
        return out

    g = as_jax(cube, vjp=lambda arguments, ct: (3 * arguments[0] ** 2 * ct,))
    x = X / 100
    twice = jax.grad(lambda x: jax.grad(lambda x: g(x).sum())(x).sum())
    np.testing.assert_allclose(twice(x), 6 * x, rtol=2**-20)
    np.testing.assert_allclose(jax.vmap(jax.jit(twice))(np.stack([x, x])), np.stack([6 * x] * 2), rtol=2**-20)


def test_without_jit() -> None:
    with jax.disable_jit():
        equal(f(X), 2 * X)
        equal(jax.vmap(f)(np.stack([X, X])), 2 * np.stack([X, X]))
        equal(lax.scan(lambda c, _: (f(c), None), X, None, length=2)[0], 4 * X)


def test_a_function_made_again_is_not_traced_again() -> None:
    x, traced = X + 3, []

    @workload
    def noting(x):
        traced.append(1)
        out = empty_like(x)
        for i in P(rows):
            doubled[i](x=x[i], out=out[i])
        return out

    for _ in range(3):
        equal(as_jax(noting)(x), 2 * x)
    assert len(traced) == 1


def test_a_negative_length_is_an_error() -> None:
    """Also where a tile would hide it: -1 elements are 0 tiles of 8."""

    @workload
    def sums(x, lengths, out):
        n = Ragged(Dense[4](name="batch"), lengths, name="n")
        for b in P(4):
            for k in P.seq(n[b].tiles(2)):
                halved[b, k](x=x[b, k])
                added[b, k](x=x[b, 0:1], scale=1.0, to=out[b : b + 1])

    x, lengths = np.ones((4, 6, 8), np.float32), np.array([0, -1, 0, 0], np.int32)
    g = jax.jit(lambda n: as_jax(sums)(x, n, jnp.zeros((4, 8)))[1])
    equal(g(-lengths)[:, 0], [0, 0.5, 0, 0])
    with pytest.raises((ValueError, RuntimeError), match="PTO51"):
        g(lengths).block_until_ready()
    w = sums(x.copy(), -lengths, np.zeros((4, 8), np.float32))
    h = jax.jit(lambda n: as_jax(w)(x=x, lengths=n, out=jnp.zeros((4, 8)))["out"])
    equal(h(-lengths)[:, 0], [0, 0.5, 0, 0])
    with pytest.raises((ValueError, RuntimeError), match="PTO51"):
        h(lengths).block_until_ready()


def test_one_function_for_one_workload() -> None:
    """Asked for again in each step, it traces nothing anew."""
    assert as_jax(double) is f
    assert as_jax(double, threads=1) is not f
    assert as_jax(double, threads=1) is not as_jax(double, vjp=rule)
    g = jax.jit(lambda x: as_jax(double)(as_jax(double)(x)))
    equal(g(X), 4 * X)


def test_scalars_in_arrays_are_read_at_run() -> None:
    @workload
    def scaled_some(x, n, by, y):
        for i in P(n):
            added[i](x=x[i], scale=by, to=y[i])

    g = jax.jit(lambda n, by: as_jax(scaled_some)(X, n, by, jnp.zeros_like(X)))
    for n, by in ((5, 2.0), (0, 1.0), (3, -1.0)):
        equal(g(n, by)[:n], by * X[:n])
        assert not g(n, by)[n:].any()
    assert g._cache_size() == 1


def test_the_jaxpr_names_the_workload() -> None:
    assert str(jax.make_jaxpr(f)(X)) == "{ lambda ; a:f32[5,3,8]. let b:f32[5,3,8] = pto_call[site=double] a in (b,) }"


def test_errors_of_a_run() -> None:
    @workload
    def picks(x, at, y):
        doubled(x=x[item(at[0])], out=y[0])

    g = jax.jit(as_jax(picks))
    equal(g(X, np.array([3]), np.zeros_like(X))[0], 2 * X[3])
    with pytest.raises((ValueError, RuntimeError), match=r"INVALID_ARGUMENT: \[PTO163\] kernel doubled") as e:
        g(X, np.array([5]), np.zeros_like(X)).block_until_ready()
    assert "in picks" in str(e.value)
    equal(g(X, np.array([4]), np.zeros_like(X))[0], 2 * X[4])  # the process goes on


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_that_come_again(threads: int) -> None:
    """What the first call of a short program has shown is not looked at again: only memory, and what it holds, are another's."""

    @kernel
    def picked(x: In[Tensor[None, 8, DType.F32]], at: In[Tensor[None, DType.I32]], out: Out[Tile[1, 8, DType.F32]]):
        pto.store(out, pto.load(x, (pto.item(at, (0,)), 0), (1, 8)))

    @workload
    def pick(x, at):
        out, twice = (empty((2, 1, 8), DType.F32) for _ in "ab")
        for i in P(2):
            picked[i](x=x, at=at[i], out=out[i])
        for i in P(2):
            doubled[i](x=out[i], out=twice[i])
        return twice

    g = jax.jit(as_jax(pick, threads=threads))
    kept = []  # so that memory is not used again
    for k in range(6):
        x = jnp.asarray(X[0] + k)
        kept.append((x, g(x, np.array([[k % 3], [1]], np.int32))))
        equal(kept[-1][1][:, 0], 2 * x[np.array([k % 3, 1])])
    fresh = jax.jit(as_jax(pick, threads=threads + 2))
    for wrong in (3, -1):
        messages = []
        for call in (g, fresh):
            with pytest.raises((ValueError, RuntimeError), match=r"INVALID_ARGUMENT: \[PTO732\]") as e:
                call(kept[0][0], np.array([[0], [wrong]], np.int32)).block_until_ready()
            messages.append(str(e.value))
        assert messages[0] == messages[1]
        equal(g(kept[0][0], np.array([[0], [2]], np.int32))[:, 0], 2 * kept[0][0][np.array([0, 2])])
    first, after = np.array([[2], [0]], np.int32), np.array([[0], [1]], np.int32)
    many = lax.fori_loop(0, 50, lambda i, y: g(y[:, 0] * 0.5, after), g(X[1], first))
    equal(many[:, 0], 2 * X[1][np.array([2, 0])])


def test_many_threads_call_one_function() -> None:
    g = jax.jit(lambda x: f(x) + 1)
    wrong: list[str] = []

    def call(k: int) -> None:
        for n in range(50):
            x = X + k * 100 + n
            if not (np.asarray(g(x)) == 2 * x + 1).all():
                wrong.append(f"{k} {n}")

    threads = [threading.Thread(target=call, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
