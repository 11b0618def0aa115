"""Workloads in operations of JAX: conventions, transformations, derivatives, bounds, the target, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from examples.test_examples import example
from interop.workloads import X, added, both, double, doubled
from pto_wsp import (
    Channel,
    Constexpr,
    Dense,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    PtoError,
    Ragged,
    Scalar,
    Sparse,
    Tensor,
    Tile,
    TraceError,
    TypeCheckError,
    UnsupportedError,
    capabilities,
    empty_like,
    item,
    kernel,
    process,
    pto,
    query,
    send,
    slot_i64,
    slot_set_i64,
    vmap,
    workload,
)
from pto_wsp import connect as connected
from pto_wsp.targets import base
from pto_wsp_jax import as_jax, lower_to_jax
from pto_wsp_jax.target import x64

ROWS, COLS = 13, 6
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of XLA's compiler: most of the time of these tests is its own."""


@kernel
def normalised(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, x * pto.rsqrt(pto.rowmean(x * x) + 1e-6) * weight)


@workload
def norm(x, weight):
    out = empty_like(x)
    for i in P(x.tiles(4)):
        normalised[i](x=x[i], weight=weight, out=out[i])
    return out


@workload
def ragged_norm(x, weight, lengths, out):
    """The first lengths[b] rows of each x[b]."""
    length = Ragged(Dense[x.shape[0]](name="batch"), lengths, name="length")
    for b in P(x.shape[0]):
        for i in P(length[b].tiles(4)):
            normalised[b, i](x=x[b, i], weight=weight, out=out[b, i])


def plain_norm(x: Any, weight: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * weight


f = lower_to_jax(double)


def equal(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def close(a: Any, b: Any) -> None:
    """Alike to 1e-5 of the whole."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.linalg.norm(np.asarray(x) - np.asarray(y)) <= 1e-5 * np.linalg.norm(np.asarray(y))


def test_arguments_and_results_are_those_of_as_jax() -> None:
    for workload_, args in (
        (double, (X,)),
        (both, (X, X)),
        (both, (X, jax.ShapeDtypeStruct(X.shape, X.dtype))),
        (norm, (X.reshape(-1, 8)[:ROWS], X[0, :1])),
    ):
        want, got = as_jax(workload_)(*args), lower_to_jax(workload_)(*args)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_under_transformations() -> None:
    xs = np.stack([X, X + 1])
    equal(jax.jit(lambda x: f(x) + 1)(X), 2 * X + 1)
    equal(jax.vmap(f, in_axes=1, out_axes=1)(np.moveaxis(xs, 0, 1)), np.moveaxis(2 * xs, 0, 1))
    equal(lax.scan(lambda c, _: (f(c), None), X, None, length=3)[0], 8 * X)
    equal(jax.jit(lambda p, x: lax.cond(p, f, lambda x: x, x))(False, X), X)
    equal(jax.grad(lambda x: (f(x) ** 2).sum())(X), 8 * X)
    equal(jax.checkpoint(f)(X), 2 * X)
    equal(jax.jvp(f, (X,), (X,))[1], 2 * X)
    assert "pto_call" not in str(jax.make_jaxpr(f)(X))


def test_schedules_change_nothing() -> None:
    equal(lower_to_jax(double.dispatch(DispatchPolicy.round_robin(4)))(X), 2 * X)


def test_independent_iterations_are_computed_at_once() -> None:
    """A loop over parts of tensors is one operation on all of them."""
    text = str(jax.make_jaxpr(f)(X))
    assert not any(word in text for word in ("scan", "while", "gather", "scatter", "dynamic"))


def test_lengths_are_operands() -> None:
    x = np.random.default_rng(0).standard_normal((3, ROWS, COLS), dtype=np.float32)
    weight = np.ones((1, COLS), np.float32)
    g = jax.jit(lambda x, n: lower_to_jax(ragged_norm)(x, weight, n, jnp.zeros_like(x)))
    for lengths in ([ROWS, 0, 5], [1, 2, 3], [0, 0, 0]):
        got = g(x, np.array(lengths, np.int32))
        for b, n in enumerate(lengths):
            np.testing.assert_allclose(got[b, :n], plain_norm(x[b, :n], weight), rtol=1e-5)
            equal(got[b, n:], 0 * x[b, n:])
    assert g._cache_size() == 1
    many = jax.jit(jax.vmap(g.__wrapped__))
    for of in ([[ROWS, 0, 5], [1, 2, 3]], [[0, 0, 0], [4, ROWS, 1]]):
        xs, ns = np.stack([x, x + 1]), np.array(of, np.int32)
        np.testing.assert_allclose(many(xs, ns), [g(x, n) for x, n in zip(xs, ns, strict=True)], rtol=1e-5)
    assert many._cache_size() == 1


def test_what_does_not_count_has_no_derivative() -> None:
    """Rows behind the lengths hold zeros, at which the root has none."""
    x = np.random.default_rng(0).standard_normal((3, ROWS, COLS), dtype=np.float32)
    lengths = np.array([5, 0, 9], np.int32)
    live = (np.arange(ROWS) < lengths[:, None])[..., None]
    x = np.where(live, x, 0)
    weight = np.full((1, COLS), 1.5, np.float32)

    @kernel
    def root(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
        pto.store(out, x * pto.rsqrt(pto.rowmean(x * x)) * weight)

    @workload
    def roots(x, weight, lengths, out):
        length = Ragged(Dense[3](name="batch"), lengths, name="length")
        for b in P(3):
            for i in P(length[b].tiles(4)):
                root[b, i](x=x[b, i], weight=weight, out=out[b, i])

    def plain(x: Any, weight: Any) -> Any:
        safe = jnp.where(live, x, 1)
        return jnp.where(live, safe * lax.rsqrt((safe * safe).mean(axis=-1, keepdims=True)) * weight, 0)

    got = jax.grad(lambda x, w: (lower_to_jax(roots)(x, w, lengths, jnp.zeros_like(x)) * x).sum(), (0, 1))(x, weight)
    close(got, jax.grad(lambda x, w: (plain(x, w) * x).sum(), (0, 1))(x, weight))


@kernel
def summed(x: In[Tensor[None, 4, DType.F32]], n: Scalar[DType.I32], out: Out[Tile[1, 4, DType.F32]]):
    """The sum of squares of the first n rows."""

    def body(k, total):
        return total + pto.load(x, (k, 0), (1, 4)) ** 2

    pto.store(out, pto.fori_loop(0, n, body, pto.full((1, 4), 0.0)))


def test_loops_of_kernels_as_often_as_data_says() -> None:
    """They run as often as that, under vmap too, and have derivatives."""

    @workload
    def sums(x, counts, out):
        for b in P(x.shape[0]):
            for h in P(x.shape[1]):
                summed[b, h](x=x[b, h], n=item(counts[b]), out=out[b, h : h + 1])

    x = np.random.default_rng(1).standard_normal((2, 3, 9, 4), dtype=np.float32)
    out = jax.ShapeDtypeStruct((2, 3, 4), np.float32)

    def plain(x: Any, n: Any) -> Any:
        live = jnp.arange(9)[:, None] < n[:, None, None, None]
        return jnp.where(live, x * x, 0).sum(axis=2)

    g = jax.jit(lambda x, n: lower_to_jax(sums)(x, n, out))
    for counts in ([9, 4], [0, 1]):
        n = np.array(counts, np.int32)
        np.testing.assert_allclose(g(x, n), plain(x, n), rtol=1e-5)
        of_g, of_plain = (jax.grad(lambda x, h=h, n=n: (h(x, n) ** 2).sum()) for h in (g, plain))
        close(of_g(x), of_plain(x))
        xs = np.stack([x, 2 * x])
        close(jax.vmap(of_g)(xs), jax.vmap(of_plain)(xs))
        close(*(jax.grad(lambda x, h=h, n=n: (jax.vmap(h, (0, None))(x, n) ** 2).sum())(xs) for h in (g, plain)))
    assert g._cache_size() == 1


def test_a_bound_that_is_said() -> None:
    """Without it nobody knows how often the loop runs, and there is no reverse derivative."""

    @workload
    def again(x, times, out):
        doubled(x=x, out=out)
        for _ in P.seq(item(times[0])):
            added(x=x, scale=1.0, to=out)

    x, memory = X[0], jax.ShapeDtypeStruct(X[0].shape, X.dtype)
    for times in (0, 3):
        n = np.array([times], np.int32)
        equal(lower_to_jax(again)(x, n, memory), (2 + times) * x)
        equal(lower_to_jax(again, bound=4)(x, n, memory), (2 + times) * x)
        equal(
            jax.grad(lambda x, n=n: lower_to_jax(again, bound=4)(x, n, memory).sum())(x), (2 + times) * np.ones_like(x)
        )
    equal(lower_to_jax(again, bound=2)(x, np.array([3], np.int32), memory), 4 * x)
    assert jax.jvp(lambda x: lower_to_jax(again)(x, n, memory).sum(), (x,), (np.ones_like(x),))[1] == 5 * x.size
    with pytest.raises(UnsupportedError, match=r'PTO885\] loop _ of workload again(.|\n)*bound=\{"_": 64\}'):
        jax.grad(lambda x: lower_to_jax(again)(x, n, memory).sum())(x)


def test_the_most_that_nobody_knows() -> None:
    """Of routing in arrays, and in a kernel: reverse derivatives say which loop it is, and have what they ask for."""

    @workload
    def chosen(x, pointers, indices, out):
        routing = Sparse(2, pointers, indices, inner=Dense[x.shape[0]](name="rows"), name="routing")
        for r in P(2):
            for e in P.sel(routing[r]):
                added[r, e](x=x[e], scale=1.0, to=out[r])

    @kernel
    def doublings(x: In[Tensor], n: Scalar[DType.I64], most: Constexpr[int], out: Out[Tensor]):
        times = pto.minimum(n, most) if most else n
        pto.store(out, pto.fori_loop(0, times, lambda i, c: c + c, x))

    def times(most: int) -> Callable[[Any], Any]:
        @workload
        def powers(x, n, out):
            for i in P(2):
                doublings[i](x=x[i], n=item(n[i]), most=most, out=out[i])

        return lambda x: lower_to_jax(powers)(x, np.array([2, 3]), x[:2] * 0)

    def routed(x: Any, **how: Any) -> Any:
        pointers, indices = np.array([0, 2, 3], np.int32), np.array([1, 0, 1], np.int32)
        return lower_to_jax(chosen, **how)(x, pointers, indices, x[:2] * 0)

    def slopes(f: Callable[[Any], Any]) -> Any:
        return np.asarray(jax.grad(lambda x: f(x).sum())(X[:2]))[:, 0, 0].tolist()

    assert slopes(lambda x: routed(x, bound={"routing": 2})) == [1, 2]
    assert slopes(times(3)) == [4, 8]
    for f, says in ((routed, "loop e of workload chosen"), (times(0), "a loop of kernel doublings")):
        with pytest.raises(UnsupportedError, match=f"PTO885.*{says}"):
            slopes(f)


def test_conditions_and_slots() -> None:
    @workload
    def counted(x, flags, out):
        for i in P.seq(x.shape[0]):
            with P.when(item(flags[i]) > 0):
                slot_set_i64(0, slot_i64(0) + 1)
                added[i](x=x[i], scale=slot_i64(0), to=out[i])
            with P.otherwise():
                doubled[i](x=x[i], out=out[i])

    flags = np.array([1, 0, 1, 1, 0], np.int32)
    got = jax.jit(lambda x, n: lower_to_jax(counted)(x, n, jnp.zeros_like(x)))(X, flags)
    equal(got, X * np.array([1, 2, 2, 3, 2], np.float32)[:, None, None])


def gradient(f: Callable[..., Any], argnums: tuple[int, ...]) -> Callable[..., Any]:
    return jax.jit(jax.grad(f, argnums), compiler_options=QUICKLY)


def attention_of_jax(q: Any, k: Any, v: Any, lengths: Any, causal: bool) -> Any:
    (batch, heads, n, dim), kv = q.shape, k.shape[1]
    s = q.reshape(batch, kv, heads // kv, n, dim) @ k[:, :, None].swapaxes(-1, -2) / np.float32(math.sqrt(dim))
    seen = (np.arange(n) < lengths[:, None])[:, None, None, None, :]
    s = jnp.where(seen & np.tri(n, dtype=bool) if causal else seen, s, -jnp.inf)
    y = (jax.nn.softmax(s, axis=-1) @ v[:, :, None]).reshape(q.shape)
    return jnp.where((np.arange(n) < lengths[:, None])[:, None, :, None], y, 0)


def attention(causal: bool, heads: int = 4, n: int = 100, dim: int = 8) -> None:
    """Of two queries' heads for one of keys, over sequences of n and of fewer positions."""
    e = example("attention")

    @workload
    def attended(q, k, v, lengths, out):
        keys, queries = (Ragged(Dense[2](name=f"b{n}"), lengths, name=n) for n in ("keys", "queries"))
        e.attention(q, k, v, keys, queries, out, causal)

    rng = np.random.default_rng(0)
    q, k, v, ct = (
        rng.standard_normal((2, h, n, dim), dtype=np.float32) for h in (heads, heads // 2, heads // 2, heads)
    )
    lengths = np.array([n, n // 3 + 4], np.int32)
    run = lower_to_jax(attended)

    def loss(q: Any, k: Any, v: Any) -> Any:
        return (run(q, k, v, lengths, jax.ShapeDtypeStruct(q.shape, q.dtype)) * ct).sum()

    def plain(q: Any, k: Any, v: Any) -> Any:
        return (attention_of_jax(q, k, v, lengths, causal) * ct).sum()

    close(*(gradient(g, (0, 1, 2))(q, k, v) for g in (loss, plain)))


def mixture_of_experts(tokens: int = 97, hidden: int = 12, ffn: int = 10, experts: int = 4, top: int = 2) -> None:
    e = example("moe")
    rng = np.random.default_rng(0)
    x, w_gate, w1, w3, w2, ct = (
        rng.standard_normal(s, dtype=np.float32) / 3
        for s in (
            (tokens, hidden),
            (hidden, experts),
            *[(experts, hidden, ffn)] * 2,
            (experts, ffn, hidden),
            (tokens, hidden),
        )
    )
    memory = jax.ShapeDtypeStruct((top, tokens), np.int32), jax.ShapeDtypeStruct(x.shape, x.dtype)

    def loss(*w: Any) -> Any:
        return (lower_to_jax(e.moe)(*w, *memory)[1] * ct).sum()

    def plain(*w: Any) -> Any:
        return (e.dropless(jnp, *w, top) * ct).sum()

    w = x, w_gate, w1, w3, w2
    close(*(gradient(g, tuple(range(5)))(*w) for g in (loss, plain)))


def llama_block(
    layers: int = 1, seq: int = 70, hidden: int = 24, heads: int = 4, kv_heads: int = 2, dim: int = 8, ffn: int = 40
) -> None:
    e = example("llama_block")
    rng = np.random.default_rng(0)
    shapes = (1, hidden), (hidden, heads * dim), *[(hidden, kv_heads * dim)] * 2, (heads * dim, hidden)
    shapes += (1, hidden), *[(hidden, ffn)] * 2, (ffn, hidden)
    weights = [rng.standard_normal((layers, *s), dtype=np.float32) / np.float32(math.sqrt(s[0])) for s in shapes]
    x, ct = (rng.standard_normal((seq, hidden), dtype=np.float32) for _ in range(2))
    cos, sin = e.angles(seq, dim)

    def loss(x: Any, weights: Any) -> Any:
        return (lower_to_jax(e.blocks)(x, cos, sin, weights) * ct).sum()

    def plain(x: Any, weights: Any) -> Any:
        return (e.by_arrays(jnp, x, cos, sin, *weights) * ct).sum()

    close(*(gradient(g, (0, 1))(x, weights) for g in (loss, plain)))


GRADIENTS: dict[str, Callable[[], None]] = {
    "causal attention": lambda: attention(True),
    "mixture of experts": mixture_of_experts,
    "llama block": llama_block,
}
LARGER: dict[str, Callable[[], None]] = {
    "attention": lambda: attention(False),
    "larger causal attention": lambda: attention(True, 8, 300, 64),
    "larger attention": lambda: attention(False, 8, 300, 64),
    "larger mixture of experts": lambda: mixture_of_experts(300, 128, 96, 8, 3),
    "larger llama blocks": lambda: llama_block(2, 200, 256, 8, 4, 32, 300),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "of" in metafunc.fixturenames:  # XLA takes seconds to compile each
        metafunc.parametrize("of", GRADIENTS | LARGER if metafunc.config.getoption("--full") else GRADIENTS)


def test_gradients_are_those_of_plain_jax(of: str) -> None:
    (GRADIENTS | LARGER)[of]()


def test_the_target() -> None:
    """A program of it is bound and run as any, new lengths and all."""
    x = np.random.default_rng(0).standard_normal((3, ROWS, COLS), dtype=np.float32)
    weight, out = np.ones((1, COLS), np.float32), np.zeros_like(x)
    lengths = np.array([ROWS, 0, 5], np.int32)
    program = ragged_norm(x, weight, lengths, out).compile(target="jax")
    for n in ([ROWS, 0, 5], [2, 13, 1]):
        lengths[:] = n
        out[:] = 0
        program.run()
        assert program.is_complete()
        for b, k in enumerate(n):
            np.testing.assert_allclose(out[b, :k], plain_norm(x[b, :k], weight), rtol=1e-5)
            assert not out[b, k:].any()
    other = double(X).compile(target="jax").copy()
    equal(other.run().results, 2 * X)
    assert capabilities("jax")["dispatch.affinity"] == "unsupported"
    assert "jax" not in base.TARGETS  # nothing knows of it before it is asked for


def test_the_target_computes_in_64_bits() -> None:
    x = np.arange(5 * 3 * 8, dtype=np.float64).reshape(5, 3, 8) + 1e-12
    equal(double(x).compile(target="jax").run().results, 2 * x)


# what is refused


def cpp() -> None:
    @kernel(cpp_src="for (int i = 0; i < x.rows(); ++i) for (int j = 0; j < x.cols(); ++j) y(i, j) = x(i, j);")
    def copied(x: In[Tile[3, 8, DType.F32]], y: Out[Tile[3, 8, DType.F32]]): ...

    @workload
    def w(x, y):
        copied(x=x[0], y=y[0])

    lower_to_jax(w)(X, X)


def wide() -> None:
    @kernel
    def long(x: In[Tensor], out: Out[Tensor]):
        pto.store(out, pto.cast(pto.cast(x, DType.I64) * 3, DType.F32))

    @workload
    def w(x, y):
        long(x=x[0], out=y[0])

    with x64():
        equal(lower_to_jax(w)(X, jax.ShapeDtypeStruct(X.shape, X.dtype))[0], 3 * X[0])
    lower_to_jax(w)(X, X)


def timed() -> None:
    @workload
    def w(x, y):
        tiles = Channel[int](depth=2, name="tiles")

        def asks() -> None:
            with P.when(query(tiles)):
                doubled(x=x[tiles.recv()], out=y[0])

        def sends() -> None:
            send(tiles, 0)

        connected(
            [process("a").produces(tiles).body(sends), process("b").consumes(tiles).body(asks)], [tiles], timed=True
        )

    lower_to_jax(w)(X, X)


def inside_of_a_workload() -> None:
    @workload
    def outer(x):
        f(x)

    outer(X)


@pytest.mark.parametrize(
    ("mistake", "cls", "code", "says"),
    [
        (lambda: lower_to_jax(np.sin), TraceError, "PTO155", "workload function"),  # type: ignore[arg-type]
        (lambda: lower_to_jax(double, bound=-1), TypeCheckError, "PTO887", "bound of loops is -1"),
        (lambda: lower_to_jax(double, bound={"rows": 0.5}), TypeCheckError, "PTO887", "bound of rows"),  # type: ignore[dict-item]
        (lambda: lower_to_jax(norm, bound={"rows": 1})(X[0], X[0, :1]), TypeCheckError, "PTO887", "loops and axes: i"),
        (lambda: lower_to_jax(double(X), bound={"n": 1}), TypeCheckError, "PTO887", "loops and axes: rows, i"),
        (inside_of_a_workload, UnsupportedError, "PTO881", "called inside"),
        (cpp, UnsupportedError, "PTO885", "cpp of kernel copied"),
        (timed, UnsupportedError, "PTO885", "timed"),
        (wide, UnsupportedError, "PTO886", "computes i64"),
        (
            lambda: double.dispatch(DispatchPolicy.round_robin(2))(X).compile(target="jax"),
            UnsupportedError,
            "PTO427",
            "the target jax has no dispatch.round_robin",
        ),
        (lambda: double(X).compile(target="jax").run().stats, UnsupportedError, "PTO427", "no stats"),
        (lambda: double(X).compile(target="jax").run("continue"), UnsupportedError, "PTO427", "options"),
        (lambda: double(X).compile(target="jax").enable_tracing(), UnsupportedError, "PTO427", "observe.tracing"),
    ],
)
def test_mistakes(mistake: Callable[[], Any], cls: type[PtoError], code: str, says: str) -> None:
    with pytest.raises(cls) as e:
        mistake()
    assert e.value.code == code
    assert says in str(e.value)
    assert "fix:" in str(e.value)


def test_a_target_whose_package_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base.ELSEWHERE, "jax", ("pto_wsp_jax.no_such_module", "pip install it"))
    with pytest.raises(UnsupportedError, match="PTO880") as e:
        double(X).compile(target="jax")
    assert "fix: pip install it" in str(e.value)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_pipelines_in_blocks_of_a_loop_with_a_remainder(size: int) -> None:
    """How often processes go round depends on the block: the loop over blocks is unrolled."""

    @workload
    def twice(x):
        between, out = empty_like(x), empty_like(x)
        for i in P(x.shape[0]):
            doubled[i](x=x[i], out=between[i])
            doubled[i](x=between[i], out=out[i])
        return out

    piped = twice.split(loop="i", size=size).pipeline_loop(loop="i_i")
    np.testing.assert_array_equal(jax.jit(lower_to_jax(piped))(X), 4 * X)
    np.testing.assert_array_equal(jax.jit(lower_to_jax(vmap(piped)))(np.stack([X, -X])), np.stack([4 * X, -4 * X]))
