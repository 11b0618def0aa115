"""Calls in programs that another process compiled or exported, on several devices, and with what is damaged."""

import subprocess
import sys
from pathlib import Path

import pytest

WORKLOAD = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, jax.numpy as jnp, numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec as PS
import pto_wsp_jax
from pto_wsp import Dense, In, InOut, Out, P, Tensor, empty_like, kernel, pto, workload
from pto_wsp_jax import as_jax

@kernel
def doubled(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + x)

@kernel
def added(x: In[Tensor], to: InOut[Tensor]):
    pto.store(to, to + x)

@workload
def double(x):
    out = empty_like(x)
    for i in P(Dense[x.shape[0]](name="rows")):
        doubled[i](x=x[i], out=out[i])
    return out

@workload
def add(x, to):
    for i in P(Dense[x.shape[0]](name="rows")):
        added[i](x=x[i], to=to[i])

f, plus = as_jax(double), as_jax(add)
x = np.arange(8 * 3 * 8, dtype=np.float32).reshape(8, 3, 8)
"""


def python(script: str, *args: str | Path) -> str:
    """What a program prints in a process of its own."""
    # a folder of its own: sources of the project would hide what is installed
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *map(str, args)], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shard_map() -> None:
    out = python(
        WORKLOAD
        + """
mesh = Mesh(np.array(jax.devices()), ("i",))
def sharded(f, ins=PS("i"), outs=PS("i")):
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=ins, out_specs=outs))
np.testing.assert_array_equal(sharded(f)(x), 2 * x)
np.testing.assert_array_equal(sharded(lambda x: lax.psum(f(x), "i"), outs=PS())(x), 2 * x.reshape(4, 2, 3, 8).sum(0))
np.testing.assert_array_equal(sharded(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=3)[0])(x), 8 * x)
np.testing.assert_array_equal(sharded(lambda x: lax.cond(x.sum() > 0, f, lambda x: x, x))(x), 2 * x)
np.testing.assert_array_equal(sharded(jax.vmap(f), PS(None, "i"), PS(None, "i"))(np.stack([x, x])), 2 * np.stack([x, x]))
ones = np.ones((2, 3, 8), np.float32)
np.testing.assert_array_equal(sharded(plus, (PS("i"), PS()))(x, ones), x + 1)
np.testing.assert_array_equal(sharded(lambda x, y: plus(y, x), (PS("i"), PS()))(x, ones), x + 1)
print(len(jax.devices()))
"""
    )
    assert out.split() == ["4"]


def test_an_exported_function_runs_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "exported"
    python(
        WORKLOAD
        + """
import sys, jax.export
checks = [jax.export.DisabledSafetyCheck.custom_call(pto_wsp_jax.TARGET)]
exported = jax.export.export(jax.jit(lambda x: f(x) + 1), disabled_checks=checks)(jax.ShapeDtypeStruct(x.shape, x.dtype))
open(sys.argv[1], "wb").write(exported.serialize())
""",
        file,
    )
    out = python(
        """
import sys, jax, jax.export, numpy as np, pto_wsp_jax
pto_wsp_jax.register()
x = np.arange(8 * 3 * 8, dtype=np.float32).reshape(8, 3, 8)
g = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
print(bool((g(x) == 2 * x + 1).all()))
""",
        file,
    )
    assert out.strip() == "True"


def test_the_persistent_cache_serves_another_process(tmp_path: Path) -> None:
    script = (
        WORKLOAD
        + """
import sys, logging
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
from jax._src import monitoring
monitoring.register_event_listener(lambda name, **_: hits.append(name))
np.testing.assert_array_equal(jax.jit(lambda x: f(x) + 3)(x), 2 * x + 3)
print(sum(n.endswith("cache_hits") for n in hits) > 0)
"""
    )
    assert python(script, tmp_path).strip() == "False"
    assert python(script, tmp_path).strip() == "True"


def test_compiling_ahead_of_time() -> None:
    out = python(
        WORKLOAD
        + """
compiled = jax.jit(lambda x: f(x)).lower(jax.ShapeDtypeStruct(x.shape, x.dtype)).compile()
print(bool((compiled(x) == 2 * x).all()), "pto_call" in str(jax.make_jaxpr(f)(x)))
"""
    )
    assert out.split() == ["True", "True"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ('{"artifact": site.attributes["artifact"][:-9] + b"123456789"}', "damaged"),
        ('{"artifact": b""}', "PTO601"),
        ('{"key": "0" * 64}', "damaged"),
        ('{"version": np.int64(99)}', "another version"),
        ('{"threads": np.int64(0)}', "threads"),
        ('{"sources": np.array([0], np.int64)}', "other tensors"),
        ('{"sources": np.array([0, 7], np.int64)}', "no buffer for tensor"),
        ('{"zeroed": np.array([-3], np.int64)}', "a buffer that it has not"),
        ('{"wide": np.array([9], np.int64)}', "a buffer that it has not"),
    ],
)
def test_a_damaged_call_is_an_error(damage: str, message: str) -> None:
    out = python(
        WORKLOAD
        + f"""
from dataclasses import replace
jax.eval_shape(f, x)
(site,) = f._sites.values()
broken = replace(site, attributes={{**site.attributes, **{damage}}})
from pto_wsp_jax.call import bound
try:
    jax.jit(lambda x: bound(broken, [x])[0])(x).block_until_ready()
except (ValueError, RuntimeError) as e:
    print(e)
np.testing.assert_array_equal(f(x), 2 * x)  # the process goes on
"""
    )
    assert message in out


def test_an_old_jax_is_refused_and_lives_on() -> None:
    out = python(
        WORKLOAD
        + """
jax.__version__ = "0.4.30"
try:
    f(x)
except Exception as e:
    print(type(e).__name__, "PTO880" in str(e))
print(float(jax.jit(jnp.sum)(x)))
"""
    )
    assert out.split()[:2] == ["UnsupportedError", "True"]


def test_pto_wsp_does_not_import_jax() -> None:
    assert python("import sys, pto_wsp, pto_wsp.tools.demo; print('jax' in sys.modules)").strip() == "False"
