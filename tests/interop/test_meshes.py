"""Workloads with layouts on meshes of JAX: custom calls and operations of JAX between its collectives, and one machine, give the same."""

import random
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from interop.processes import python
from meshes import layouts
from pto_wsp import (
    BindError,
    DType,
    LayoutIncompatibleError,
    Mesh,
    P,
    PtoError,
    TensorLayout,
    TensorReplicate,
    TensorShard,
    TensorSpec,
    TraceError,
    TypeCheckError,
    UnsupportedError,
    empty,
    empty_like,
    item,
    kernel,
    pto,
    relayout,
    slot_set_i64,
    workload,
)
from pto_wsp.trace.annotations import In, InOut, Out
from pto_wsp.trace.tensor import Tensor
from pto_wsp_jax import as_jax, lower_to_jax, named_sharding, tensor_layout

TESTS = Path(__file__).parents[1]
DEVICES = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as PS
from pto_wsp import *
from pto_wsp_jax import as_jax, lower_to_jax, named_sharding
from meshes import draw, columns

def mesh_of(w):
    m = w.wir.mesh
    devices = np.array(jax.devices()[: m.size]).reshape(tuple(m.shape.values()))
    return jax.sharding.Mesh(devices, tuple(m.shape))
"""

R, S, F32 = TensorReplicate, TensorShard, DType.F32
LINE = Mesh(i=1)


@kernel
def doubled(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + x)


@workload
def double(x):
    out = empty_like(x)
    doubled(x=x, out=out)
    return relayout(out, TensorLayout(LINE, R(), S("i")))


@kernel
def more(x: In[Tensor], to: InOut[Tensor]):
    pto.store(to, to + x)


@workload
def in_two_steps(x, n):
    here, there = empty_like(x), empty(x.shape, F32, layout=TensorLayout(LINE, R(), S("i")))
    for _a in P.seq(item(n[0])):
        more(x=x, to=here)
    moved = relayout(here, TensorLayout(LINE, R(), S("i")))
    for _b in P.seq(item(n[0])):
        more(x=moved, to=there)
    return there


@workload
def made(x):
    out = empty(x.shape, F32, layout=TensorLayout(LINE, R(), R()))
    doubled(x=x, out=out)
    return out


ON_LINE = double(TensorSpec((4, 8), F32, layout=TensorLayout(LINE, S("i"), R())))


def line() -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.devices()[:1]), ("i",))


def test_bounds_of_loops_between_collectives() -> None:
    """Each loop has its own, whichever step it is in; a name that no step has is an error."""
    alone = TensorLayout(LINE, R(), R())
    w = in_two_steps(TensorSpec((4, 8), F32, layout=alone), TensorSpec((1,), DType.I32, layout=TensorLayout(LINE, R())))
    x = np.ones((4, 8), np.float32)
    for bound, total in (({}, 9), ({"_a": 2}, 6), ({"_b": 1, "_a": 2}, 2), (2, 4)):
        found = lower_to_jax(w, bound=bound, mesh=line())(x=x, n=np.array([3], np.int32))
        np.testing.assert_array_equal(found, total * x)
    with pytest.raises(TypeCheckError, match=r"PTO887(.|\n)*loops and axes: _a, _b"):
        lower_to_jax(w, bound={"c": 1}, mesh=line())


def test_random_workloads_compute_the_same_everywhere(request: pytest.FixtureRequest) -> None:
    n = 60 if request.config.getoption("--full") else 6
    out = python(
        DEVICES
        + """
for seed in range(int(sys.argv[2])):
    drawn = draw(seed)
    used = {v.name for v in drawn.workload.wir.tensors}
    given = {n: a for n, a in list(drawn.arrays.items())[: seed % 3] if n in used}  # the others are those it was traced with
    for make in (as_jax, lower_to_jax):
        got = jax.jit(make(drawn.workload, mesh=mesh_of(drawn.workload)))(**given)
        for a, want in zip(got if isinstance(got, tuple) else (got,), drawn.results, strict=True):
            np.testing.assert_array_equal(a, want)
print("ok")
""",
        TESTS,
        str(n),
    )
    assert out.split() == ["ok"]


def test_a_product_over_a_divided_dimension() -> None:
    """Floats: custom calls have the same bits as one machine, as long as one device is added to another; derivatives are those of the product."""
    out = python(
        DEVICES
        + """
mesh = Mesh(x=2, y=2)
def on(*dims, **pending): return TensorLayout(mesh, *dims, pending=pending)
R, S, F32 = TensorReplicate(), TensorShard, DType.F32

@kernel
def product(x: In[Tensor], w: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(x, w))

@workload
def split_k(x, w, b):
    y = empty((x.shape[0], w.shape[1]), F32, layout=on(S("y"), R, x="sum"))
    for i in P(x.tiles(16)):
        product[i](x=x[i], w=w, out=y[i])
    return relayout(reduce_scatter(y, 1), on(R, S("x", "y")))

rng = np.random.default_rng(0)
X, W = (rng.standard_normal(s, dtype=np.float32) for s in ((64, 96), (96, 40)))
w = split_k(Tensor(X, layout=on(S("y"), S("x"))), Tensor(W, layout=on(S("x"), R)), 3)
alone = w.compile().run().results
bound = 2 * 96 * 2.0**-24 * (abs(X).astype(float) @ abs(W)) + 1e-30
assert (abs(alone - X.astype(float) @ W) <= bound).all()
jm = mesh_of(w)
called = jax.jit(as_jax(w, mesh=jm))
got = called(x=X, w=W)
assert np.array_equal(got, alone)
assert got.sharding.spec == PS(None, ("x", "y")), got.sharding
text = called.lower(x=X, w=W).as_text()
assert text.count("pto_wsp_call") == 1 and text.count("all_to_all") >= 2 and "reduce_scatter" not in text
plain = jax.jit(lower_to_jax(w, mesh=jm))
assert (abs(np.asarray(plain(x=X, w=W)) - X.astype(float) @ W) <= bound).all()
C = rng.standard_normal((64, 40), dtype=np.float32)
dx, dw = jax.jit(jax.grad(lambda x, w: (plain(x=x, w=w) * C).sum(), (0, 1)))(X, W)
assert (abs(dx - C.astype(float) @ W.T) <= 2 * 40 * 2.0**-24 * (abs(C).astype(float) @ abs(W).T) + 1e-30).all()
assert (abs(dw - X.T.astype(float) @ C) <= 2 * 64 * 2.0**-24 * (abs(X).T.astype(float) @ abs(C)) + 1e-30).all()

def local(x, w_):
    return as_jax(w)(x=x, w=w_)

inside = jax.shard_map(local, mesh=jm, in_specs=(PS("y", "x"), PS("x")), out_specs=PS(None, ("x", "y")))
assert np.array_equal(jax.jit(inside)(X, W), alone)
xs = np.stack([X, 2 * X, -X])
many = jax.shard_map(jax.vmap(local, in_axes=(0, None)), mesh=jm, in_specs=(PS(None, "y", "x"), PS("x")), out_specs=PS(None, None, ("x", "y")))
assert np.array_equal(jax.jit(many)(xs, W), np.stack([alone, 2 * alone, -alone]))
assert as_jax(w, mesh=jm) is as_jax(w, mesh=jm)
for array, spec in ((X, PS("y", "x")), (W, PS("x"))):  # what has its layout already stays where it is
    put = jax.device_put(array, jax.sharding.NamedSharding(jm, spec))
    assert np.array_equal(called(**{"x" if array is X else "w": put}), alone)
print("ok")
""",
        TESTS,
    )
    assert out.split() == ["ok"]


def test_arguments_that_are_written_come_back() -> None:
    out = python(
        DEVICES
        + """
mesh = Mesh(x=4)
def on(*dims, **pending): return TensorLayout(mesh, *dims, pending=pending)
R, S, I32 = TensorReplicate(), TensorShard("x"), DType.I32

@kernel
def add(x: In[Tensor], to: InOut[Tensor]):
    pto.store(to, to + x)

@workload
def w(x, n, out, total):
    own = Ragged(Dense[2](name="b"), n, name="own")
    for b in P(2):
        for t in P(own[b]):
            add[b, t](x=x[b, t : t + 1], to=out[b, t : t + 1])
    part = empty((1, 8), I32, layout=on(R, R, x="sum"))
    columns(x=x[0], out=part)
    add(x=x[1, 0:1], to=part)
    add(x=allreduce(part), to=total)

rng = np.random.default_rng(0)
X, out = (rng.integers(-9, 9, (8, 5, 8), np.int32) for _ in range(2))
n, total = rng.integers(0, 6, 8).astype(np.int32), rng.integers(0, 9, (1, 8), np.int32)
want = out.copy()
for b in range(8):
    want[b, : n[b]] += X[b, : n[b]]
summed = total + X[::2].sum((0, 1)) + X[1::2, 0].sum(0)
spec = {"x": TensorSpec(X.shape, I32, layout=on(S, R, R)), "n": TensorSpec(n.shape, I32, layout=on(S)), "out": TensorSpec(out.shape, I32, layout=on(S, R, R))}
traced = w(**spec, total=TensorSpec((1, 8), I32))
for make in (as_jax, lower_to_jax):
    got = jax.jit(make(traced, mesh=mesh_of(traced)))(x=X, n=n, out=out, total=total)
    assert np.array_equal(got["out"], want) and np.array_equal(got["total"], summed), make
program = traced.compile().bind({"x": X, "n": n, "out": out, "total": total}).run()
assert np.array_equal(out, want) and np.array_equal(total, summed)
print("ok")
""",
        TESTS,
    )
    assert out.split() == ["ok"]


def test_the_largest_of_all_devices() -> None:
    """NaNs go on and +0 is larger than -0, as on one machine; devices that have the largest element share its derivative."""
    out = python(
        DEVICES
        + """
mesh = Mesh(x=2)
R, S = TensorReplicate(), TensorShard

@kernel
def copied(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x)

values = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, 1], np.float32)
a, b = np.repeat(values, 8).reshape(8, 8), np.tile(values, 8).reshape(8, 8)
for op in ("max", "min"):
    for dtype in ("float32", "float16", "bfloat16"):
        @workload
        def w(x):
            y = empty((8, 8), x.dtype, layout=TensorLayout(mesh, R, R, pending={"x": op}))
            copied(x=x, out=y)
            return allreduce(y)

        X = np.concatenate([a, b]).astype(jnp.dtype(dtype))
        traced = w(Tensor(X, layout=TensorLayout(mesh, S("x"), R)))
        alone = np.asarray(traced.compile().run().results, np.float32)
        for make in (as_jax, lower_to_jax):
            got = np.asarray(make(traced, mesh=mesh_of(traced))(), np.float32)
            assert np.array_equal(got, alone, equal_nan=True), (op, dtype)
            assert np.array_equal(np.signbit(got)[~np.isnan(got)], np.signbit(alone)[~np.isnan(got)])
    X = np.arange(128, dtype=np.float32).reshape(16, 8) % 7
    traced = w(TensorSpec(X.shape, DType.BF16, layout=TensorLayout(mesh, S("x"), R)))
    f = lower_to_jax(traced, mesh=mesh_of(traced))
    got = jax.grad(lambda x: f(x=x.astype(jnp.bfloat16)).astype(jnp.float32).sum())(X)
    reduce = jnp.max if op == "max" else jnp.min
    assert np.array_equal(got, jax.grad(lambda x: reduce(x.reshape(2, 8, 8), axis=0).sum())(X))
print("ok")
""",
        TESTS,
    )
    assert out.split() == ["ok"]


def test_sizes_and_repeated_calls() -> None:
    """Sizes are numbers that shapes depend on; a tensor may be empty; calls outside of jax.jit compile once and see what arrays hold now."""
    out = python(
        DEVICES
        + """
mesh = Mesh(x=2)
def on(*dims, **pending): return TensorLayout(mesh, *dims, pending=pending)
R, S, F32 = TensorReplicate(), TensorShard, DType.F32
calls = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *a, **k: calls.append(name) if "compile" in name else None)

@kernel
def copied(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x)

n = DenseDyn("n")

@workload
def summed(x):
    y = empty((n, 1, 8), F32, layout=on(R, R, R, x="sum"))
    for i in P(n):
        copied[i](x=x[i], out=y[i])
    return allreduce(y)

traced = summed(TensorSpec((n, 2, 8), F32, layout=on(R, S("x"), R)))
for make in (as_jax, lower_to_jax):
    f = make(traced, mesh=mesh_of(traced))
    for size in (3, np.int32(5)):
        x = np.arange(16 * size, dtype=np.float32).reshape(size, 2, 8)
        assert np.array_equal(f(x=x, n=size), x.sum(1, keepdims=True))
        assert np.array_equal(jax.jit(lambda x: f(x=x, n=size))(x), x.sum(1, keepdims=True))
    try:
        jax.jit(f)(x=x, n=5)
    except UnsupportedError as e:
        assert e.code == "PTO881" and "give n as a number" in str(e)
    else:
        raise AssertionError("a shape that depends on a traced value")

@workload
def gathered(x):
    y = empty_like(x)
    for i in P(x.tiles(2)):
        copied[i](x=x[i], out=y[i])
    return allgather(y, "x")

for rows in (0, 8):
    X = np.arange(rows * 8, dtype=np.float32).reshape(rows, 8)
    w = gathered(Tensor(X, layout=on(S("x"), R)))
    for make in (as_jax, lower_to_jax):
        f = make(w, mesh=mesh_of(w))
        assert np.array_equal(f(), X) and np.array_equal(w.compile().run().results, X)
        X += 1
        assert np.array_equal(f(), X)  # what it holds now
        calls.clear()
        f()
        assert not calls, calls
print("ok")
""",
        TESTS,
    )
    assert out.split() == ["ok"]


def test_layouts_and_shardings() -> None:
    devices = np.array(jax.devices()[:1]).reshape(1, 1)
    mesh = jax.sharding.Mesh(devices, ("a", "b"))
    ours = Mesh(a=1, b=1)
    rng = random.Random(0)
    for rank in range(1, 4):
        for _ in range(20):
            layout = layouts(ours, rank, rng)
            sharding = named_sharding(layout, mesh)
            assert tensor_layout(sharding, rank) == layout
    assert named_sharding(TensorLayout(ours, S("b", "a"), R()), mesh).spec == PartitionSpec(("b", "a"), None)
    assert tensor_layout(NamedSharding(mesh, PartitionSpec("b")), 3) == TensorLayout(ours, S("b"), R(), R())


def test_new_memory() -> None:
    """A jax.ShapeDtypeStruct in the place of an array."""
    got = as_jax(ON_LINE, mesh=line())(x=jax.ShapeDtypeStruct((4, 8), np.float32))
    np.testing.assert_array_equal(got, np.zeros((4, 8)))


def errors() -> list[tuple[str, type[PtoError], object, str]]:
    late = TensorLayout(LINE, R(), pending={"i": "sum"})
    x = np.ones((4, 8), np.float32)

    def slots() -> None:
        @workload
        def w(x):
            out = empty_like(x)
            slot_set_i64(0, item(x[0, 0]))
            doubled(x=x, out=out)
            y = relayout(out, TensorLayout(LINE, R(), S("i")))
            z = empty_like(y)
            doubled(x=y, out=z)
            slot_set_i64(1, 0)
            return z

        as_jax(w(TensorSpec((4, 8), DType.I64, layout=TensorLayout(LINE, S("i"), R()))))

    def called_inside() -> None:
        @workload
        def w(x):
            as_jax(ON_LINE, mesh=line())(x=x)

        w(TensorSpec((4, 8), F32))

    wide = double(TensorSpec((4, 8), DType.F64, layout=TensorLayout(LINE, S("i"), R())))
    return [
        ("PTO896", LayoutIncompatibleError, lambda: as_jax(ON_LINE)(x), "has no such axis"),
        ("PTO896", LayoutIncompatibleError, lambda: named_sharding(TensorLayout(Mesh(i=2), S("i")), line()), "has 1"),
        (
            "PTO896",
            LayoutIncompatibleError,
            lambda: tensor_layout(SingleDeviceSharding(jax.devices()[0]), 1),
            "no layout",
        ),  # type: ignore[arg-type]
        (
            "PTO896",
            LayoutIncompatibleError,
            lambda: tensor_layout(NamedSharding(line(), PartitionSpec("i", None)), 1),
            "no layout",
        ),
        (
            "PTO896",
            LayoutIncompatibleError,
            lambda: tensor_layout(NamedSharding(line(), PartitionSpec(PartitionSpec.UNCONSTRAINED)), 1),
            "no layout",
        ),
        ("PTO892", TypeCheckError, lambda: named_sharding(late, line()), "pending"),
        ("PTO155", TraceError, lambda: as_jax(double, mesh=line()), "mesh="),
        ("PTO155", TraceError, lambda: lower_to_jax(double, mesh=line()), "mesh="),
        ("PTO155", TypeCheckError, lambda: as_jax(ON_LINE, mesh=line())(x=x, z=x), "takes no argument z"),
        ("PTO503", BindError, lambda: as_jax(ON_LINE, mesh=line())(x=x[:3]), "all of it is f32[4, 8]"),
        ("PTO503", BindError, lambda: as_jax(ON_LINE, mesh=line())(x=x.astype(np.int32)), "int32[4, 8]"),
        ("PTO503", BindError, lambda: as_jax(wide, mesh=line())(x=x.astype(np.float64)), "jax_enable_x64"),
        ("PTO507", BindError, as_jax(ON_LINE, mesh=line()), "x"),
        ("PTO881", UnsupportedError, called_inside, "inside of a workload"),
        ("PTO881", UnsupportedError, lambda: as_jax(ON_LINE, vjp=lambda a, c: a), "vjp="),
        ("PTO881", UnsupportedError, slots, "slots"),
        ("PTO894", LayoutIncompatibleError, lambda: as_jax(double)(x), "without a layout"),
        ("PTO881", UnsupportedError, lambda: as_jax(made)(x), "layouts"),
    ]


@pytest.mark.parametrize("k", range(18))
def test_mistakes_are_errors(k: int) -> None:
    code, cls, mistake, why = errors()[k]
    with pytest.raises(cls, match=code) as e:
        mistake()  # type: ignore[operator]
    assert why in str(e.value)
    assert e.value.loc is not None
    assert e.value.loc.file == __file__
