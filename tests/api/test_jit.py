"""jit: functions of arrays."""

import itertools
import threading
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    BindError,
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    PtoError,
    Ragged,
    Scalar,
    Sparse,
    Symbol,
    Tensor,
    TensorSpec,
    empty,
    empty_like,
    jit,
    kernel,
    make_wir,
    pto,
    scan,
    vmap,
    workload,
)

F32 = DType.F32
WEIGHTS = Tensor(np.full((8, 8), 3, np.float32), name="weights")


@kernel
def double(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + x)


@kernel
def scaled(x: In[Tensor], s: Scalar[DType.F32], y: Out[Tensor]):
    pto.store(y, x * s)


@kernel
def add(x: In[Tensor], y: In[Tensor], z: Out[Tensor]):
    pto.store(z, x + y)


@kernel
def bump(y: InOut[Tensor]):
    pto.store(y, y + 1.0)


def data(*shape: int) -> Any:
    return np.random.default_rng(7).integers(-9, 9, shape).astype(np.float32)


def counted() -> tuple[Any, list[int]]:
    """A workload function, and a list that grows whenever it is traced."""
    traces: list[int] = []

    @workload
    def times(x, factor=2.0):
        traces.append(1)
        y = empty_like(x)
        for i in P(x.tiles(16)):
            scaled[i](x=x[i], s=factor, y=y[i])
        return y

    return times, traces


def test_arrays_in_new_arrays_out() -> None:
    f, traces = counted()
    times = jit(f)
    x = data(20, 8)
    first, second = times(x), times(2 * x)
    assert (first == 2 * x).all()
    assert (second == 4 * x).all()
    assert first is not second
    assert len(traces) == 1


def test_one_program_for_each_signature() -> None:
    f, traces = counted()
    times = jit(f, threads=2)
    for x in (data(20, 8), data(36, 8), data(20, 16), data(20, 8)[::-1]):
        assert (times(x) == 2 * x).all()
    assert len(traces) == 3
    x = data(20, 8)
    for factor in (2.0, 3.0, -0.0, 0.0, 3.0):
        assert (times(x, factor=factor) == factor * x).all()
    assert len(traces) == 6
    assert np.signbit(times(np.ones((1, 1), np.float32), -0.0)).all()


def test_sizes_of_axes_are_bound_anew() -> None:
    count = 0

    @workload
    def first(y, n, m):
        nonlocal count
        count += 1
        for b in P(n):
            for c in P(m):
                bump(y=y[b, c])

    f = jit(first)
    for n, m in ((2, 3), (4, 0), (0, 4), (4, 4)):
        y = np.zeros((4, 4, 2, 2), np.float32)
        assert f(y, DenseDyn(n), DenseDyn(m, name="m")) is None
        assert y.sum() == n * m * 4
    assert count == 1
    y = np.zeros((4, 4, 2, 2), np.float32)
    f(y, Dense[2](), Dense[2]())
    same = DenseDyn(3)
    f(y, same, same)
    f(y, DenseDyn(1), DenseDyn(2))
    assert count == 4
    assert y.sum() == (4 + 9 + 2) * 4


def test_an_axis_without_a_size() -> None:
    @workload
    def first(y, n):
        for b in P(n):
            bump(y=y[b])

    f = jit(first)
    for n in (DenseDyn(), Symbol("n")):
        with pytest.raises(BindError, match="PTO509"):
            f(np.zeros((4, 2, 2), np.float32), n)


def test_arguments_that_are_written_change_in_place() -> None:
    @workload
    def count(state, out):
        for b in P(3):
            bump(y=state[b])
            double(x=state[b], y=out[b])

    f = jit(count)
    state, out = np.zeros((3, 2, 2), np.float32), np.zeros((3, 2, 2), np.float32)
    for k in range(1, 4):
        f(out=out, state=state)
        assert (state == k).all()
        assert (out == 2 * k).all()


def test_results_come_in_the_tuples_of_the_function() -> None:
    @workload
    def several(xs, weights):
        a = empty_like(xs[0])
        double(x=xs[0], y=a)
        b = empty_like(xs[1])
        add(x=xs[1], y=weights["w"], z=b)
        c = empty((8, 8), F32)
        add(x=a, y=WEIGHTS, z=c)
        return (a, (b, None)), c, a

    x, w = data(8, 8), data(8, 8)
    (a, (b, nothing)), c, again = jit(several)((x, Tensor(w)), {"w": w + 1})
    assert (a == 2 * x).all()
    assert (b == 2 * w + 1).all()
    assert nothing is None
    assert (c == a + 3).all()
    assert again is a


def test_jit_of_transformed_functions() -> None:
    f, traces = counted()
    x = data(3, 20, 8)
    policy = DispatchPolicy.round_robin(3)
    for g in (
        jit(vmap(f).dispatch(policy)),
        vmap(jit(f)).dispatch(policy),
        jit(vmap(f)).dispatch(policy),
        jit(vmap(jit(f))),
    ):
        assert (g(x) == 2 * x).all()
    assert len(traces) == 4
    wir = make_wir(jit(f))(TensorSpec((4, 4), F32))
    assert "task scaled" in str(wir)


def test_jit_inside_a_workload_is_the_function() -> None:
    f, _ = counted()

    @workload
    def twice(x):
        return jit(f)(jit(f)(x))

    x = data(20, 8)
    assert (jit(twice)(x) == 4 * x).all()


def test_temporaries_and_scans() -> None:
    @workload
    def step(carry, x):
        t = empty_like(x)
        double(x=x, y=t)
        new = empty_like(x)
        add(x=carry, y=t, z=new)
        return new, new

    c, xs = data(3, 8, 8), data(5, 3, 8, 8)
    last, ys = jit(scan(vmap(step)))(c, xs)
    want = c + np.cumsum(2 * xs, axis=0)
    assert (ys == want).all()
    assert (last == want[-1]).all()
    last, ys = jit(vmap(scan(step), in_axes=(0, 1)))(c, xs)
    assert (ys == np.moveaxis(want, 1, 0)).all()
    last, ys = jit(scan(step))(c[0], xs[:0, 0])
    assert (last == c[0]).all()
    assert ys.shape == (0, 8, 8)


def test_many_threads_may_call_it() -> None:
    f, traces = counted()
    times = jit(vmap(f), threads=2)
    wrong: list[object] = []

    def work(k: int) -> None:
        for n in range(20):
            x = np.full((1 + (k + n) % 3, 20, 8), k * 100 + n, np.float32)
            if not (times(x) == 2 * x).all():
                wrong.append((k, n))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(traces) == 3


def test_arrays_are_not_kept() -> None:
    import weakref

    f, _ = counted()
    times = jit(f)
    x = data(20, 8)
    times(x)
    kept = weakref.ref(x)
    del x
    assert kept() is None


def test_a_failed_call_leaves_the_next_one_as_it_was() -> None:
    f, traces = counted()
    times = jit(f)
    with pytest.raises(PtoError):
        times(data(20, 8), "no number")
    x = data(20, 8)
    assert (times(x) == 2 * x).all()
    assert len(traces) == 2


@pytest.mark.parametrize("bad", [TensorSpec((4, 4), F32), {1, 2}, Dense[4]().tiles(2)])
def test_arguments_that_have_no_values(bad: Any) -> None:
    @workload
    def w(x, n):
        for _ in P(n):
            pass

    if isinstance(bad, (TensorSpec, set)):
        with pytest.raises(PtoError, match="PTO155"):
            jit(w)(data(4, 4), bad)
    else:
        jit(w)(data(4, 4), bad)


def test_options_are_those_of_compile() -> None:
    f, _ = counted()
    with pytest.raises(PtoError, match="PTO003"):
        jit(f, colour="red")(data(4, 4))
    with pytest.raises(PtoError, match="PTO155"):
        jit(abs)  # type: ignore[arg-type]


def test_lengths_and_routing_are_bound_anew() -> None:
    count = 0

    @workload
    def route(x, y, z, lens, routing):
        nonlocal count
        count += 1
        for b in P(lens.outer):
            for t in P(lens[b]):
                double(x=x[b, t], y=y[b, t])
            for e in P.sel(routing[b]):
                bump(y=z[b, e])

    f = jit(route)
    x = data(3, 4, 2, 2)
    for lengths, rows in (([1, 0, 4], [[0, 2], [], [3]]), ([4, 4, 2], [[0, 1, 2, 3], [1], [0, 3]]), ([0], [[2]])):
        n = len(lengths)
        indptr, indices = np.cumsum([0, *map(len, rows)]), [e for row in rows for e in row]
        y, z = np.zeros_like(x), np.zeros((3, 5, 2, 2), np.float32)
        batch = DenseDyn(n, name="batch")
        f(x, y, z, Ragged(batch, lengths), Sparse(batch, indptr, indices, inner=5))
        for b in range(3):
            assert (y[b] == np.where(np.arange(4) < (lengths[b] if b < n else 0), 2.0, 0.0)[:, None, None] * x[b]).all()
            assert z[b, :, 0, 0].tolist() == [float(b < n and e in rows[b]) for e in range(5)]
    assert count == 1
    with pytest.raises(PtoError, match="PTO163"):
        f(x, y, z, Ragged(batch, [1]), Sparse(batch, np.array([0, 2]), [1, 7]))
    lens = Tensor(np.array([2, 1, 0], np.int32))
    f(x, y, z, Ragged(3, lens), Sparse(3, Tensor(np.array([0, 0, 0, 0])), Tensor(np.zeros(0, np.int64))))
    lens.data[:] = 4
    f(x, y, z, Ragged(3, lens), Sparse(3, Tensor(np.array([0, 0, 0, 0])), Tensor(np.zeros(0, np.int64))))
    assert (y == 2 * x).all()
    with pytest.raises(PtoError, match="PTO155"):
        f(x, y, z, Ragged(DenseDyn(3), lens), Sparse(3, [0, 0, 0, 0], []))


def test_records_keep_their_fields() -> None:
    @workload
    def pick(x, work):
        y = empty_like(x)
        for r in P(work):
            double(x=x[r.source], y=y[r.target])
        return y

    work = np.array([(1, 0), (0, 1)], np.dtype([("source", np.int32), ("target", np.int32)]))
    x = data(2, 4, 4)
    f = jit(pick)
    assert (f(x, work) == 2 * x[::-1]).all()
    work["source"] = [0, 1]
    assert (f(x, work) == 2 * x).all()


@kernel
def accumulate(x: In[Tensor], out: InOut[Tensor]):
    pto.store(out, out + x)


@kernel
def take(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x)


def test_what_no_task_has_written_yet_is_zero_at_every_call() -> None:
    @workload
    def only_added_to(x):
        total, out = empty_like(x), empty_like(x)
        for i in P(x.tiles(16)):
            accumulate[i](x=x[i], out=total[i])
        for i in P(x.tiles(16)):
            take[i](x=total[i], out=out[i])
        return out

    @workload
    def read_too_early(x):
        early, out = empty_like(x), empty_like(x)
        take(x=early, out=out)
        take(x=x, out=early)
        return out

    @workload
    def written_in_part(x):
        layers = [x, *(empty_like(x) for _ in range(3))]
        for a, b in itertools.pairwise(layers):
            take(x=a, out=b)
        part, out = empty_like(x), empty_like(x)
        take(x=layers[-1][0:16], out=part[0:16])
        take(x=part, out=out)
        return out

    for threads in (1, 2):
        f, g, h = (jit(w, threads=threads) for w in (only_added_to, read_too_early, written_in_part))
        for k in range(1, 4):
            x = np.full((40, 3), k, np.float32)
            assert (f(x) == x).all()
            assert not g(x).any()
            assert (h(x) == np.where(np.arange(40)[:, None] < 16, x, 0)).all()
