"""vmap and scan, against what they mean in numpy."""

from typing import Any

import numpy as np
import pytest

from functional import data, results
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
    Symbol,
    TaskWindow,
    Tensor,
    TensorSpec,
    empty,
    empty_like,
    item,
    kernel,
    pto,
    scan,
    unroll,
    vmap,
    workload,
)
from pto_wsp.ir.core import Role

F32 = DType.F32


@kernel
def double(x: In[Tensor], y: Out[Tensor]):
    pto.store(y, x + x)


@kernel
def add(x: In[Tensor], y: In[Tensor], z: Out[Tensor]):
    pto.store(z, x + y)


@kernel
def bump(x: In[Tensor], y: InOut[Tensor]):
    pto.store(y, x + y)


@workload
def doubled(x):
    y = empty_like(x)
    for i in P(x.tiles(16)):
        double[i](x=x[i], y=y[i])
    return y


@workload
def summed(a, b):
    t = doubled(a)
    z = empty_like(a)
    for i in P(a.tiles(16)):
        add[i](x=t[i], y=b[i], z=z[i])
    return z


@workload
def step(carry, x):
    new = empty_like(x)
    for i in P(x.tiles(16)):
        add[i](x=carry[i], y=x[i], z=new[i])
    return new, new


def test_vmap_is_an_independent_axis() -> None:
    x = data(3, 40, 8)
    w = vmap(doubled, axis_name="batch")(x)
    assert (results(w) == 2 * x).all()
    assert w.type == "Workload[Dense[3](batch) x Tiles[40, 16](x), {double}, Independent]"
    assert "task[mapped=[0]] double[batch, i](x=x[batch, " in str(w)
    assert w.wir.tensor_type("y").role is Role.RESULT


@pytest.mark.parametrize("axes", [(0, 1), (2, -1), {"a": 0, "b": 1}])
def test_axes_by_parameter(axes: Any) -> None:
    a, b = data(5, 40, 8), data(5, 40, 8)
    dims = list(axes.values()) if isinstance(axes, dict) else axes
    given = np.moveaxis(a, 0, dims[0]), np.moveaxis(b, 0, dims[1])
    assert (results(vmap(summed, in_axes=axes)(*given)) == 2 * a + b).all()


def test_what_is_not_mapped_is_shared() -> None:
    a, b = data(5, 40, 8), data(40, 8)
    for axes in ((0, None), {"a": 0}):
        assert (results(vmap(summed, in_axes=axes)(a, b)) == 2 * a + b).all()


def test_vmap_of_vmap() -> None:
    a, b = data(2, 3, 20, 8), data(2, 20, 8)
    w = vmap(vmap(summed, in_axes=(0, None), axis_name="inner"), axis_name="outer")(a, b)
    assert (results(w) == 2 * a + b[:, None]).all()
    assert "temporary y: f32[2,3,20,8]" in str(w)
    assert "task[mapped=[0 1]] double[outer, inner, i]" in str(w)


def test_axes_inside_of_tuples_and_python_values() -> None:
    @workload
    def total(xs, rows, n):
        y = empty_like(xs[0])
        for i in P(rows):
            add[i](x=xs[0][i : i + 1], y=xs[1]["w"][i : i + 1], z=y[i : i + 1])
        for _ in range(n):
            y = doubled(y)
        return y

    a, b = data(4, 8, 8), data(8, 8)
    w = vmap(total, in_axes=((0, {"w": None}), None, None))((a, {"w": b}), Dense[8](), 2)
    assert (results(w) == 4 * (a + b)).all()
    assert (results(vmap(total)((a, {"w": a}), Dense[8](), 0)) == 2 * a).all()


@pytest.mark.parametrize("dim", [DenseDyn(name="n"), Symbol("n")])
def test_symbolic_sizes(dim: Any) -> None:
    w = vmap(doubled)(TensorSpec((dim, 20, 8), F32))
    for n in (3, 0):
        x = data(n, 20, 8)
        assert (results(w, {"n": n}, x=x) == 2 * x).all()


def test_vmap_of_what_writes_its_arguments() -> None:
    @workload
    def into(x, y):
        for i in P(x.tiles(16)):
            bump(x=x[i], y=y[i])

    x, y = data(4, 20, 8), data(4, 20, 8)
    want = x + y
    assert results(vmap(into)(x, y)) is None
    assert (y == want).all()


def test_schedules_stay_where_they_are() -> None:
    w = vmap(doubled.dispatch(DispatchPolicy.round_robin(2))).dispatch(DispatchPolicy.round_robin(3))(data(4, 20, 8))
    assert [e.prim for top in w.wir.body.eqns for e in top.walk()] == [
        *("dispatch", "parallel_for", "dispatch", "parallel_for", "task")
    ]


def test_vmap_inside_a_workload() -> None:
    @workload
    def whole(x):
        out = empty((2, 3, 20, 8), F32)
        for h in P(2):
            y = vmap(doubled)(x[h])
            for b in P(3):
                double(x=y[b], y=out[h, b])
        return out

    x = data(2, 3, 20, 8)
    assert (results(whole(x)) == 4 * x).all()


def test_scan_gives_the_last_carry_and_all_of_y() -> None:
    c, xs = data(40, 8), data(5, 40, 8)
    last, ys = results(scan(step)(c, xs))
    want = c + np.cumsum(xs, axis=0)
    assert (ys == want).all()
    assert (last == want[-1]).all()
    assert scan(step)(c, xs).wir.tensor_type("carry.1").role is Role.TEMPORARY


def test_scan_of_no_steps_gives_the_carry() -> None:
    c = data(40, 8)
    last, ys = results(scan(step)(c, data(0, 40, 8)))
    assert (last == c).all()
    assert ys.shape == (0, 40, 8)


def test_no_steps_may_be_unrolled_as_nothing_need_write_what_has_no_elements() -> None:
    c = data(40, 8)
    last, ys = results(scan(step).then(unroll(loop="step"))(c, data(0, 40, 8)))
    assert (last == c).all()
    assert ys.shape == (0, 40, 8)


def test_scan_of_a_symbolic_length() -> None:
    w = scan(step)(TensorSpec((100, 8), F32), TensorSpec((Symbol("n"), 100, 8), F32))
    for n in (0, 1, 4):
        c, xs = data(100, 8), data(n, 100, 8)
        last, ys = results(w, {"n": n}, carry=c, xs=xs)
        assert (last == c + xs.sum(axis=0)).all()
        assert ys.shape == (n, 100, 8)


def test_scan_over_nothing_with_a_length_and_several_carries() -> None:
    @workload
    def fibonacci(carry, _):
        a, b = carry
        new = empty_like(a)
        add(x=a, y=b, z=new)
        old = empty_like(b)
        double(x=b, y=old)
        return (old, new), None

    a, b = np.ones((2, 4, 4), np.float32)
    (p, q), ys = results(scan(fibonacci, length=4)((a, b)))
    want = (a, b)
    for _ in range(4):
        want = (2 * want[1], want[0] + want[1])
    assert (p == want[0]).all()
    assert (q == want[1]).all()
    assert ys is None


def test_scan_copies_carries_of_any_rank_with_tails() -> None:
    @workload
    def same(carry, x):
        y = empty_like(carry)
        for b in P(2):
            for i in P(carry[b].tiles(64)):
                bump_all(carry[b, i], y[b, i], x)
        return y, None

    @workload
    def bump_all(a, y, x):
        double(x=a[:, 0:100], y=y[:, 0:100])
        double(x=a[:, 100:600], y=y[:, 100:600])

    c = data(2, 70, 600)
    last, _ = results(scan(same)(c, data(3, 1, 1)))
    assert (last == 8 * c).all()
    assert "tile(d1, 64, 70)" in str(scan(same)(c, data(3, 1, 1)))


def test_vmap_of_scan_and_scan_of_vmap() -> None:
    c, xs = data(3, 20, 8), data(5, 3, 20, 8)
    want = c + np.cumsum(xs, axis=0)
    last, ys = results(vmap(scan(step), in_axes=(0, 1))(c, xs))
    assert (last == want[-1]).all()
    assert (ys == np.moveaxis(want, 1, 0)).all()
    last, ys = results(scan(vmap(step))(c, xs))
    assert (last == want[-1]).all()
    assert (ys == want).all()


def test_scan_of_scan() -> None:
    @workload
    def outer(carry, x):
        return scan(step)(carry, x)

    c, xs = data(20, 8), data(2, 3, 20, 8)
    last, ys = results(scan(outer)(c, xs))
    want = c + np.cumsum(xs.reshape(6, 20, 8), axis=0)
    assert (last == want[-1]).all()
    assert (ys.reshape(6, 20, 8) == want).all()


@workload
def twice_and_add(carry, x):
    t, new = empty_like(x), empty_like(x)
    for i in P(x.tiles(16)):
        double[i](x=x[i], y=t[i])
        add[i](x=carry[i], y=t[i], z=new[i])
    return new, new


@pytest.mark.parametrize(
    "f",
    [
        twice_and_add.dispatch(DispatchPolicy.round_robin(3)),
        twice_and_add.task_graph(window=TaskWindow(2)),
        twice_and_add.fuse(loop="i"),
        twice_and_add.split(loop="i", size=2),
        twice_and_add.unroll(loop="i"),
        twice_and_add.dispatch(DispatchPolicy.round_robin(2)).fuse(loop="i"),
    ],
)
def test_vmap_and_scan_of_functions_with_schedules_and_rewrites(f: Any) -> None:
    c, xs = data(40, 8), data(3, 2, 40, 8)
    want = c + np.cumsum(2 * xs, axis=0)
    assert (results(scan(f)(c, xs[:, 0]))[1] == want[:, 0]).all()
    assert (results(vmap(scan(f), in_axes=(None, 1))(c, xs))[1] == np.moveaxis(want, 1, 0)).all()
    assert (results(scan(vmap(f))(np.stack([c, c]), xs))[1] == want).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int32])
def test_scan_of_other_dtypes(dtype: Any) -> None:
    c, xs = data(20, 8).astype(dtype), data(3, 20, 8).astype(dtype)
    last, ys = results(scan(step)(c, xs))
    assert ys.dtype == dtype
    assert (ys == c + np.cumsum(xs, axis=0)).all()
    assert (last == ys[-1]).all()


def test_scan_in_a_branch() -> None:
    @workload
    def either(x, flag, out):
        with P.when(item(flag[0]) > 0):
            last, _ = scan(step)(x[0], x)
            double(x=last, y=out)
        with P.otherwise():
            double(x=x[0], y=out)

    x = data(3, 16, 8)
    for flag, want in ((1, 2 * (x[0] + x.sum(axis=0))), (0, 2 * x[0])):
        out = np.zeros((16, 8), np.float32)
        results(either(x, np.array([flag], np.int32), out))
        assert (out == want).all()


ONE, TWO = TensorSpec((8, 8), F32), TensorSpec((4, 8, 8), F32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: vmap(summed)(TWO, TensorSpec((3, 8, 8), F32)),
        lambda: vmap(summed)(TWO, TensorSpec((Symbol("n"), 8, 8), F32)),
        lambda: vmap(summed, in_axes=(0,))(TWO, TWO),
        lambda: vmap(summed, in_axes={"c": 0})(TWO, TWO),
        lambda: vmap(summed, in_axes=(0, (0, 0)))(TWO, TWO),
        lambda: vmap(summed, in_axes=(0, True))(TWO, TWO),
        lambda: vmap(summed, in_axes=3)(TWO, TWO),
        lambda: vmap(summed, in_axes=None)(TWO, TWO),
        lambda: vmap(scan(step, length=2), in_axes=(0, 0))(TWO, None),
    ],
)
def test_what_vmap_refuses(make: Any) -> None:
    with pytest.raises(PtoError, match="PTO184"):
        make()


def pair(f: Any) -> Any:
    @workload
    def w(carry, x):
        return f(carry, x)

    return w


@pytest.mark.parametrize(
    "make",
    [
        lambda: scan(step)(ONE, TensorSpec((), F32)),
        lambda: scan(step)(ONE),
        lambda: scan(step)(3, TWO),
        lambda: scan(step, length=-1),
        lambda: scan(step, length=2.5),  # type: ignore[arg-type]
        lambda: scan(step, length="n"),  # type: ignore[arg-type]
        lambda: scan(step, length=3)(ONE, TWO),
        lambda: scan(pair(lambda c, x: doubled(c)))(ONE, TWO),
        lambda: scan(pair(lambda c, x: ((doubled(c), doubled(c)), None)))(ONE, TWO),
        lambda: scan(pair(lambda c, x: (None, None)))(ONE, TWO),
        lambda: scan(pair(lambda c, x: (doubled(TensorSpec((4, 8), F32)), None)))(ONE, TWO),
        lambda: scan(step)(TensorSpec((8,), F32), TWO),
    ],
)
def test_what_scan_refuses(make: Any) -> None:
    with pytest.raises(PtoError, match="PTO186"):
        make()


@pytest.mark.parametrize("transform", [vmap, scan])
def test_what_is_no_workload_function(transform: Any) -> None:
    for f in (abs, doubled(ONE), double):
        with pytest.raises(PtoError, match="PTO155"):
            transform(f)
