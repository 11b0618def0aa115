"""Workloads in operations of JAX inside of shard_map, whose types say what varies between devices: what loops and branches carry from new memory on, and
derivatives of what all devices share."""

from __future__ import annotations

from interop.processes import python

IN_SHARD_MAP = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as PS
from pto_wsp import Dense, DType, In, InOut, Out, P, Ragged, Tensor, empty, empty_like, item, kernel, pto, workload
from pto_wsp_jax import as_jax, lower_to_jax

F32 = DType.F32
mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))

@kernel
def weighed(x: In[Tensor], w: In[Tensor], to: InOut[Tensor]):
    pto.store(to, to + pto.colsum(x * w))

@kernel
def summed(x: In[Tensor[None, 4, F32]], w: In[Tensor], to: Out[Tensor]):
    def more(i, c):
        return c + pto.colsum(w * pto.load(x, (2 * i, 0), (2, 4)))
    pto.store(to, pto.fori_loop(0, (x.shape[0] + 1) // 2, more, pto.full((1, 4), 0.0)))

@workload
def by_lengths(x, w, n):
    out = empty((2, 4), F32)
    length = Ragged(Dense[2](name="b"), n, name="length")
    for b in P(2):
        for t in P.seq(length[b].tiles(2)):
            weighed[b, t](x=x[b, t], w=w, to=out[b : b + 1])
    return out

@workload
def by_conditions(x, w, n):
    out = empty((2, 4), F32)
    for b in P.seq(2):
        with P.when(item(n[b]) > 2):
            weighed[b](x=x[b], w=w, to=out[b : b + 1])
    return out

@workload
def as_long_as(x, w, n):
    out = empty((1, 4), F32)
    for t in P.seq(6, while_=lambda: item(out[0, 0]) < 2.0):
        weighed[t](x=x[0, t : t + 1], w=w, to=out)
    return out

@workload
def in_kernels(x, w, n):
    out = empty((2, 4), F32)
    for b in P(2):
        summed[b](x=x[b, : item(n[b])], w=w, to=out[b : b + 1])
    return out

@workload
def of_constants(x, w, n):
    out = empty((2, 4), F32)
    for b in P.seq(2):
        with P.when(item(n[b]) > 2):
            constant[b](to=out[b : b + 1])
    return out

@kernel
def constant(to: Out[Tensor]):
    pto.store(to, pto.full(to.shape, 1.0))

x = np.linspace(0.1, 2.0, 4 * 6 * 4, dtype=np.float32).reshape(4, 6, 4)
w = np.linspace(1.0, 2.0, 4, dtype=np.float32)[None]
n = np.array([3, 0, 6, 2], np.int32)
specs = (PS("d"), PS(), PS("d"))
"""


def test_loops_and_branches_and_their_derivatives() -> None:
    python(
        IN_SHARD_MAP
        + """
for f in map(lower_to_jax, (by_lengths, in_kernels, as_long_as, by_conditions)):
    divided = jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=PS("d"))

    def by_device(x, w):
        return jnp.concatenate([f(x[:2], w, n[:2]), f(x[2:], w, n[2:])])

    def loss(f):
        return jax.value_and_grad(lambda x, w: jnp.sin(f(x, w)).sum(), argnums=(0, 1))

    (value, want), (got_value, got) = (jax.jit(loss(g))(x, w) for g in (by_device, lambda x, w: divided(x, w, n)))
    np.testing.assert_allclose(got_value, value, rtol=1e-5)
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

def of_own(x, w, n):
    return jax.grad(lambda x, w: jax.lax.psum(jnp.sin(f(x, w, n)).sum(), "d"), argnums=(0, 1))(x, w)

for a, b in zip(jax.jit(jax.shard_map(of_own, mesh=mesh, in_specs=specs, out_specs=(PS("d"), PS())))(x, w, n), want):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
"""
    )


def test_types_of_jax() -> None:
    """Constants vary as operands do, nothing is added where nothing is checked, and custom calls give what varies as any operand does."""
    python(
        IN_SHARD_MAP
        + """
def divided(f, **how):
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=PS("d"), **how))

f = lower_to_jax(of_constants)
assert (np.asarray(divided(f)(x, w, n)) == [[1] * 4, [0] * 4, [1] * 4, [0] * 4]).all()
assert not any(p in str(jax.make_jaxpr(divided(f, check_vma=False))(x, w, n)) for p in ("pcast", "pvary", "pvarying"))
assert any(p in str(jax.make_jaxpr(divided(f))(x, w, n)) for p in ("pcast", "pvary"))

@kernel
def scaled(w: In[Tensor], x: In[Tensor], out: Out[Tensor]):
    pto.store(out, w * x)

@workload
def scale(w, x):
    out = empty_like(x)
    for i in P(x.shape[0]):
        scaled[i](w=w, x=x[i], out=out[i])
    return out

call = as_jax(scale, vjp=lambda given, ct: ((ct * given[1]).sum((0, 1))[None], ct * given[0]))
whole = jax.shard_map(call, mesh=mesh, in_specs=(PS(), PS("d")), out_specs=PS("d"))
np.testing.assert_allclose(jax.jit(jax.grad(lambda w: whole(w, x).sum()))(w), x.sum((0, 1))[None], rtol=1e-5)
"""
    )
