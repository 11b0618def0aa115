"""Programs in processes of their own: JAX's number of devices is that of its process."""

import subprocess
import sys
from pathlib import Path

WORKLOAD = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, jax.numpy as jnp, numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as PS
import pto_wsp_jax
from pto_wsp import Dense, In, InOut, Out, P, Ragged, Tensor, empty_like, kernel, pto, workload
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
